"""Web addresses: one spelling for each, whose site it is at, what kind of page, and whose name it resembles.

Text in, text out; it refuses to look at the web, and to be certain of a resemblance: what does not resemble a name may
be its own, under another brand.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Collection, Sequence
from urllib.parse import unquote, urlsplit, urlunsplit

from ..reading.wording import undressed
from .places import PLAIN_LETTERS, pattern_of, word_list

PROFILES = frozenset({"linkedin.com", "crunchbase.com"})
SOCIAL = PROFILES | frozenset(word_list("social"))
"""Social networks, profile sites, and where searches and short links lead: nobody's own site."""
FREE_MAIL = frozenset(word_list("free_mail"))
_FREE_MAIL = re.compile(r"(?:gmail|googlemail|outlook|hotmail|yahoo|ymail|gmx|icloud|protonmail|yandex)\.[a-z.]{2,6}")
"""Those with a host in every country."""
REGISTERS = frozenset(word_list("registers"))
"""Regulators and registers of companies whose host does not say that it is a government's."""
_GOVERNMENT = re.compile(r"(?:.+\.)?(?:gov|(?:gov|gob|gouv|gub|govt|gv|go)\.[a-z]{2})")
_RESERVED = re.compile(r"(?:.+\.)?(?:example(?:\.(?:com|net|org))?|test|invalid|localhost)")
"""RFC 2606 and 6761."""
_FORM = re.compile(rf"(?:{pattern_of('form').pattern})*")
_TELLS = pattern_of("tells")
_SCHEME = re.compile(r"(?:h+(?:t+p+|xxp)s?(?:[:;]/*|//))*/*", re.IGNORECASE)
_AT = re.compile(r"\s*[\[({]\s*(?:at|@)\s*[\])}]\s*|(?<=\w)\s+at\s+(?=[\w-]+\.\w)", re.IGNORECASE)
_DOT = re.compile(r"\s*[\[({]\s*(?:dot|\.)\s*[\])}]\s*|(?<=\w)\s+dot\s+(?=\w)", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.+'-]{1,64}@(?:[\w-]{1,63}\.){1,8}\w{2,24}")
_TRACKING = re.compile(r"utm_.*|trk.*|[gdfy]b?clid|msclkid|[gw]braid|igshid|mc_[ce]id|_g[al]|_hs(?:enc|mi)")
_HOST = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,59})")
ALIKE = 0.75
"""As `difflib` measures it; below that, names of different firms are as common as spellings of one."""
SHORTEST = 3
"""Letters of a word that says whose a longer word is which begins with it."""
LONGEST_NAME = 100
"""Characters that are compared; a longer text is no name, and would cost time."""
LEGAL = frozenset(word_list("legal"))
TRADE = frozenset(word_list("trade"))
"""Words of the trade, which tell nobody apart; in initials they count."""
_SILENT, _LAST = LEGAL | TRADE, TRADE | {""}
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_TRADE = re.compile(rf"(?<=[\w-])(?:{'|'.join(TRADE)})+$")
_WORD = re.compile(r"[^\W_]+")
_NAMED = re.compile(r"(?:www\d?\.)?(.+?)(?:\.(?:com?|org|net|ac|gov|gv|ne|or))?\.[^\W\d_]{2,}")


@functools.lru_cache(maxsize=4096)
def clean(text: str) -> str | None:
    """Return a web address in its one spelling; None if the text is not an address.

    >>> clean(" http://WWW.Example.com/fund/?utm_source=x&id=3#top ")
    'https://www.example.com/fund?id=3'
    >>> clean("<www.firm.example>"), clean("**[Firm](https://firm.example/a?x=1&amp;y=2)** [1]")
    ('https://www.firm.example', 'https://firm.example/a?x=1&y=2')
    >>> clean("javascript:alert(1)"), clean("Norway"), clean("https://firm.example@other.example")
    (None, None, None)
    """
    text = re.sub(r"(?<=/)\s+", "", undressed(text.strip(), address=True))
    if len(text) > 2000 or not text.isprintable() or re.search(r"[\s<>\"\\^`{|}]", text):
        return None
    try:
        parts = urlsplit("https://" + text[_SCHEME.match(text).end() :])  # type: ignore[union-attr]
        host = (parts.hostname or "").rstrip(".").encode("idna").decode()
        port = parts.port
    except ValueError:
        return None
    # The codec writes ß and ς as other letters: that is another host.
    if set("@ßς") & set(parts.netloc.lower()) or port not in (None, 80, 443) or not _HOST.fullmatch(host):
        return None
    kept = [] if is_at(host, PROFILES) else parts.query.split("&")
    query = "&".join(part for part in kept if part and not _TRACKING.fullmatch(part.partition("=")[0].lower()))
    return urlunsplit(("https", host, parts.path.rstrip("/"), query, ""))


def address_in(text: str) -> str | None:
    """Return the one address that a text is, or has among other words, in its one spelling; None if it has none or two.

    >>> address_in("see http:/norrgard.example/ (main page)"), address_in("norrgard.example or lofoten.example")
    ('https://norrgard.example', None)
    """
    if (whole := clean(text)) or not text.isprintable() or len(text) > 500:
        return whole
    words = (word.strip(".,;:!?()[]{}<>'\"`") for word in text.split())
    known = {address for word in words if "." in word and (address := clean(word))}
    return known.pop() if len(known) == 1 else None


def email_in(text: str) -> str | None:
    """Return the one email address in a text; None if there is none, or there are two.

    >>> email_in("Ida (at) norrgard.example"), email_in("ida@norrgard.example, ole@norrgard.example")
    ('ida@norrgard.example', None)
    """
    known = {each.lower() for each in _EMAIL.findall(_AT.sub("@", _DOT.sub(".", text[:500])))}
    return known.pop() if len(known) == 1 else None


@functools.lru_cache(maxsize=4096)
def host_in(cell: str) -> str:
    """Return the host of a cell's email or web address; empty if it is neither."""
    email = email_in(cell) if "@" in cell else None
    return host_of(email.partition("@")[2] if email else cell) if "." in cell else ""


def is_free_mail(host: str) -> bool:
    """Whether anybody can have an address at this host."""
    return is_at(host, FREE_MAIL) or _FREE_MAIL.fullmatch(host) is not None


@functools.lru_cache(maxsize=4096)
def is_register(host: str) -> bool:
    """Whether a host is a government's, a regulator's or a register's of companies.

    >>> [is_register(host) for host in ("www.sec.gov", "adv.fma.gv.at", "brreg.no", "gov.capital", "registers.example")]
    [True, True, True, False, False]
    """
    return _GOVERNMENT.fullmatch(host) is not None or is_at(host, REGISTERS)


def is_reserved(host: str) -> bool:
    """Whether nobody can own this host: it is kept for examples and tests."""
    return _RESERVED.fullmatch(host) is not None


def names_only_the_form(text: str) -> bool:
    """Whether a slug or host's label is no name but says where one would stand.

    >>> [names_only_the_form(text) for text in ("your-firm-here", "firstname-lastname", "…", "first-capital")]
    [True, True, True, False]
    """
    text = text.casefold()
    return _FORM.fullmatch(text) is not None and _TELLS.search(text) is not None


def host_of(text: str | None) -> str:
    """Return the host of an address without ``www.``; empty if it is not an address."""
    return (urlsplit(clean(text or "") or "").hostname or "").removeprefix("www.")


def is_made_of(name: str, host: str) -> bool:
    """Whether a host is nothing but words of a name, or of another host, in order, and words of the trade.

    >>> is_made_of("Norrgård & Daughters", "norrgard-daughters.example"), is_made_of("Norrgård", "norrgard-bakery.vc")
    (True, False)
    >>> is_made_of("norrgardcapital.example", "norr-gard.example")
    True
    """
    other, site = _NAMED.fullmatch(name), _NAMED.fullmatch(host)
    text = "".join(_WORD.findall(site[1])) if site else ""
    for words in spellings(other[1] if other else name):
        rest = text
        for word in (_TRADE.sub("", "".join(words)), *words):
            rest = rest.removeprefix(word)
        if rest != text and not _TRADE.sub("", f"-{rest}").strip("-"):
            return True
    return False


def is_at(host: str, sites: Collection[str]) -> bool:
    """Whether a host is one of these sites, or below one."""
    return host in sites or ("." in host and is_at(host.partition(".")[2], sites))


def page_of(text: str | None, site: str) -> tuple[str, str]:
    """Return kind and slug of a page such as ``site/kind/slug``; two empty texts if it is not such a page."""
    parts = urlsplit(clean(text or "") or "")
    segments = [unquote(part) for part in parts.path.split("/") if part]
    return (segments[0].lower(), segments[1]) if len(segments) > 1 and is_at(parts.netloc, (site,)) else ("", "")


@functools.lru_cache(maxsize=4096)
def resembles(name: str, other: str) -> bool | None:
    """Whether a host, slug or title may be that of a name; None where their scripts differ, or too little is said.

    Case, accents and umlauts do not count, nor do legal forms and the trade's words. A word of the name begins a word
    of the other; or the other is made of the beginnings of the name's words; or the two are much alike.

    >>> [resembles("Norrgård Capital AB", host) for host in ("norrgaard.example", "nocap.vc", "www.lofoten.example")]
    [True, True, False]
    >>> resembles("Ana Berg", "aberg-1204"), resembles("王明", "ming-wang"), resembles("Sun Fund", "tsunami.example")
    (True, None, False)
    """
    name, other = name[:LONGEST_NAME], other[:LONGEST_NAME]
    host = _NAMED.fullmatch(other.strip().casefold())
    verdicts = {_same(words, labels) for words in spellings(name) for labels in spellings(host[1] if host else other)}
    return True if True in verdicts else False if False in verdicts else None


@functools.lru_cache(maxsize=4096)
def spellings(text: str) -> tuple[list[str], ...]:
    """Return a text's words in small letters without accents, umlauts once dropped and once written out."""
    text = unicodedata.normalize("NFC", re.sub(r"['’`.](?=\w\b|$)|(?<=\b\w)['’`.]", "", text.casefold()))
    if "xn--" in text:
        text = ".".join(map(_decoded, text.split(".")))
    if text.isascii():
        return (_WORD.findall(text),)
    ways = {text.translate(_UMLAUTS), text}
    folded = (unicodedata.normalize("NFKD", way.translate(PLAIN_LETTERS)) for way in sorted(ways))
    bare = ("".join(sign for sign in way if not unicodedata.combining(sign)) for way in folded)
    return tuple(map(_WORD.findall, dict.fromkeys(bare)))


def _decoded(label: str) -> str:
    try:
        return label.encode("ascii").decode("idna")
    except UnicodeError:
        return label


def _same(words: Sequence[str], labels: Sequence[str]) -> bool | None:
    """Whether words of a name and of a host or slug, all in one spelling, may belong together."""
    if not labels or (all(map(str.isdecimal, labels)) and not any(map(str.isdecimal, words))):
        return None
    script = {label.isascii() for label in labels if not label.isdecimal()}
    own = [word for word in words if word not in _SILENT] or [word for word in words if word not in LEGAL]
    words, telling = ([word for word in text if word.isascii() in script] for text in (words, own))
    if not telling or all(len(word) == 1 and word.isascii() for word in telling):
        return None
    if any(label == word or (len(word) >= SHORTEST and label.startswith(word)) for word in telling for label in labels):
        return True
    # What a network hangs on to tell namesakes apart is no part of a name.
    bare = "".join(label for label in labels if label in words or not label[-1].isdecimal())
    texts = {*labels, "".join(labels), bare, re.sub(r"\d+$", "", bare)} - {""}
    core = "".join(telling)
    return (
        any(_abbreviates(text, words, frozenset(telling)) for text in texts)
        or any(_alike(text, core) for text in {*texts, _TRADE.sub("", bare)})
        or (False if len(telling) == len(own) else None)
    )


def _alike(text: str, core: str) -> bool:
    needed = ALIKE * (len(text) + len(core)) / 2
    if needed > min(len(text), len(core)) or needed > sum(
        min(text.count(sign), core.count(sign)) for sign in set(text)
    ):
        return False  # no order of their letters would do: many times as fast
    return difflib.SequenceMatcher(None, text, core).ratio() >= ALIKE


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
    return bool(rests & _LAST) and text not in TRADE
