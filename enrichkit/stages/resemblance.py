"""The resemblance: whether a name of a firm or person may stand behind a host, a profile's slug or another name.

It refuses to be certain: what does not resemble a name may be its own, under another brand. So it only casts a doubt.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Sequence

from .places import PLAIN_LETTERS

ALIKE = 0.75
"""As `difflib` measures it; below that, names of different firms are as common as spellings of one."""
SHORTEST = 3
"""Letters of a word that says whose a longer word is which begins with it."""
LONGEST = 100
"""Characters that are compared; a longer text is no name, and would cost time."""
LEGAL = frozenset(
    "inc incorporated llc ltd limited lp llp plc gmbh mbh ag kg kgaa sa sas sarl srl spa bv nv ab as asa oy oyj aps se "
    "co corp corporation company pte pty pvt kk sicav sca scs ug ou zrt kft doo sro the and und et of de la le".split()
)
TRADE = frozenset(
    "capital cap venture ventures vc partner partners fund funds invest investor investors investment investments "
    "investing equity private pe asset assets management manager managers group holding holdings advisor advisors "
    "advisory adviser advisers growth wealth family office finance financial global international innovation "
    "innovations bank trust associates".split()
)
"""Words of the trade, which tell nobody apart; in initials they count."""
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_TRADE = re.compile(rf"(?<=\w)(?:{'|'.join(TRADE)})+$")
_WORD = re.compile(r"[^\W_]+")
_HOST = re.compile(r"(?:www\d?\.)?(.+?)(?:\.(?:com?|org|net|ac|gov|gv|ne|or))?\.[^\W\d_]{2,}")


def resembles(name: str, other: str) -> bool | None:
    """Whether a host, slug or title may be that of a name; None where their scripts differ, or too little is said.

    Case, accents and umlauts do not count, nor do legal forms and the trade's words. A word of the name begins a word
    of the other; or the other is made of the beginnings of the name's words; or the two are much alike.

    >>> [resembles("Norrgård Capital AB", host) for host in ("norrgaard.example", "nocap.vc", "www.lofoten.example")]
    [True, True, False]
    >>> resembles("Ana Berg", "aberg-1204"), resembles("王明", "ming-wang"), resembles("Sun Fund", "tsunami.example")
    (True, None, False)
    """
    return _resembles(name[:LONGEST], other[:LONGEST])


@functools.lru_cache(maxsize=4096)
def _resembles(name: str, other: str) -> bool | None:
    host = _HOST.fullmatch(other.strip().casefold())
    verdicts = {_same(words, labels) for words in spellings(name) for labels in spellings(host[1] if host else other)}
    return True if True in verdicts else False if False in verdicts else None


def spellings(text: str) -> list[list[str]]:
    """Return a text's words in small letters without accents, umlauts once dropped and once written out."""
    text = unicodedata.normalize("NFC", re.sub(r"['’`.](?=\w\b|$)|(?<=\b\w)['’`.]", "", text.casefold()))
    if "xn--" in text:
        text = ".".join(map(_decoded, text.split(".")))
    ways = {text.translate(_UMLAUTS), text}
    folded = (unicodedata.normalize("NFKD", way.translate(PLAIN_LETTERS)) for way in sorted(ways))
    return [_WORD.findall("".join(sign for sign in way if not unicodedata.combining(sign))) for way in folded]


def _decoded(label: str) -> str:
    try:
        return label.encode("ascii").decode("idna")
    except UnicodeError:
        return label


def _same(words: Sequence[str], labels: Sequence[str]) -> bool | None:
    """Whether words of a name and of a host or slug, all in one spelling, may belong together."""
    if not labels:
        return None
    script = {label.isascii() for label in labels if not label.isdecimal()} or {True}
    own = [word for word in words if word not in LEGAL | TRADE] or [word for word in words if word not in LEGAL]
    words, telling = ([word for word in text if word.isascii() in script] for text in (words, own))
    if not telling or all(len(word) == 1 and word.isascii() for word in telling):
        return None
    # What a network hangs on to tell namesakes apart is no part of a name.
    bare = "".join(label for label in labels if label in words or not label[-1].isdecimal())
    texts = {*labels, "".join(labels), bare, re.sub(r"\d+$", "", bare)} - {""}
    core = "".join(telling)
    return (
        any(label == word or (len(word) >= SHORTEST and label.startswith(word)) for word in telling for label in labels)
        or any(_abbreviates(text, words, frozenset(telling)) for text in texts)
        or any(difflib.SequenceMatcher(None, text, core).ratio() >= ALIKE for text in {*texts, _TRADE.sub("", bare)})
    )


def _abbreviates(text: str, words: Sequence[str], telling: frozenset[str]) -> bool:
    """Whether a text is made of beginnings of the words in order, and perhaps a word of the trade at its end.

    Only those that tell nothing may be left out.
    """
    rests = {text} if len(text) > 1 else set()
    for word in words:
        after = set() if word in telling else set(rests)
        for rest in rests:
            for length in range(1, min(len(word), len(rest)) + 1):
                if not rest.startswith(word[:length]):
                    break
                after.add(rest[length:])
        rests = after
    return bool(rests & (TRADE | {""})) and text not in TRADE
