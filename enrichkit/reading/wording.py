"""The wording: how a model says that it found nothing, and what a text is dressed in that is no part of it.

Text in, text out, the same for every stage. It refuses to guess: what could be a value stays as it is.
"""

from __future__ import annotations

import functools
import html
import re
from importlib.resources import files


def _lines(name: str) -> str:
    """Return a file of words or patterns without its headings."""
    return re.sub(r"(?m)^#.*\n", "\n", files(__package__).joinpath(name).read_text("utf-8"))


NOTHING = frozenset(" ".join(word.split()) for word in re.split(r",|\n\n+", _lines("nothing.txt")))
"""Words for nothing in the languages of the world's directories."""
OUTER = " \t\r\n\xa0.,;:!?'\"()[]{}<>-–—_/\\|…~`#⟦⟧"
LONGEST_EXCUSE = 200
LONGEST_DRESSED = 50_000
"""Characters; a longer text stays as it is, so that a hostile one costs nothing."""
_SORRY = re.compile(
    r"(?:(?:unfortunately|sorry|apologies|i(?:'m| am) (?:sorry|afraid)|based on [^,]{1,80}|leider|désolée?|"
    r"malheureusement|lo siento|lamentablemente|mi dispiace|purtroppo|desculpe|infelizmente|helaas|niestety|beklager|"
    r"tyvärr),? (?:but |ma )?)*"
)
_CLAUSES = re.compile(r"[.!?;:]\s+|\s[-–—/(]+\s*")
_BLANKS = dict.fromkeys(map(ord, "(),."), " ")
_DENIALS = frozenset(
    "no not nothing none cannot unable n/a unknown undisclosed unavailable insufficient ai knowledge please refer "
    "contact visit see tbd tbc pending awaiting requires needs kein keine keinen keiner nicht nichts ki aucun aucune "
    "pas non n'ai nessun nessuna não nenhum nenhuma sin sem geen niet nie brak niedostępna niedostępne niedostępny "
    "inte ej ikke ingen inga saknas ei en ekki".split()
)
"""Of which each has one, if not an English "n't"; most texts have none."""
_VALUE = re.compile(
    r"\d|https?:|www\.|@|[\"“”«»„]|\b(?:but|however|although|though|likely|probably|possibly|instead|except|appears?|"
    r"seems?|estimated|aber|jedoch|wahrscheinlich|mais|pero|però|mas|maar|ale|men|mutta)\b",
    re.IGNORECASE,
)
"""What in a sentence of not finding may be a value after all."""

_INVISIBLE = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
_LATER = (
    r"\x80-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014\u2018-\u201e\u2020-\u2022\u2026"
    r"\u2030\u2039\u203a\u20ac\u2122"
)
_MOJIBAKE = rf"[\xc2-\xf4\u0102\u0139][{_LATER}]"
"""Bytes of UTF-8 taken for letters: the first of several, and one that only comes after it."""
_WORN = rf"{_INVISIBLE}&\\*`\[\]#<~【\ue200\uff01-\uff5e"
_DRESSED = re.compile(rf"[{_WORN}]|{_MOJIBAKE}")
"""What is in every text that wears anything; most have none of it."""
_ODD = re.compile(rf"{_DRESSED.pattern}|[\ud800-\udfff\ufffd]")
_MAYBE_ODD = re.compile(rf"[{_WORN}\xc2-\xf4\u0102\u0139\ud800-\udfff\ufffd]")
"""A single class of letters, three times as fast."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,31}\d{0,2});")
_ESCAPED = re.compile(
    r"\\u([0-9a-fA-F]{4})|\\(?!(?:nabla|nu|neq?|rho|right|tau|theta|times|text\w*)\b)([nrt\"/])"  # TeX is no escape
)
_JOINER = re.compile(r"(?<=[\x00-\u024f])[\u200c\u200d](?=[\x00-\u024f])")
_RIGHT_TO_LEFT = re.compile(r"[\u0590-\u08ff]")
_MARKS = re.compile(rf"[{_INVISIBLE}]")
_CJK = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_CITED = re.compile(
    r"(?<![\s\]】\ue201])(?<!\)\))"  # one try at each run of marks
    r"(?:\s*(?:\[(?:[1-9]\d{0,2}(?:\s*[,–-]\s*\d{1,3})*|cite:[\d\s,.-]*|cite_?(?:start|end)|source(?::? \d+)?)\]|"
    r"【[^】]{1,40}】|\[\^\d{1,3}\]|\ue200[^\ue201]{1,200}\ue201|\(\[[^\[\]]{1,200}\]\(https?://[^\s()]{1,500}\)\)))+"
    r"(?=[.\s]*$)|^(?:\[cite_?(?:start|end)\]\s*)+",
    re.IGNORECASE,
)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\(\s*<?([^\s()<>]+(?:\([^\s()]*\))?)>?(?:\s+\"[^\"]*\")?\s*\)")
_WRAPPED = re.compile(
    r"(\*{1,3}|`{1,3}|~~|__)(?!\s)((?:(?!\1).)+?)(?<!\s)\1|<([^\s<>]+\.[^\s<>]{2,})>|#{1,6} +(\S.*)", re.DOTALL
)
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


@functools.lru_cache(maxsize=10_000)
def _is_plain(text: str) -> bool:
    odd = text != text.strip() or (_MAYBE_ODD.search(text) and _ODD.search(text))
    return not (odd or says_nothing(text) or excuses(text))


def is_plain(text: str) -> bool:
    """Whether a text says something, and wears nothing; nearly all are so, and many come again and again."""
    return _is_plain(text) if len(text) < 100 else _is_plain.__wrapped__(text)


def says_nothing(text: str) -> bool:
    """Whether a text is one of the words for nothing.

    >>> [says_nothing(text) for text in ("N/A", " (keine Angabe) ", "-", "NA", "None Such Ltd")]
    [True, True, True, False, False]
    """
    return len(text) < 40 and " ".join(text.casefold().strip(OUTER).split()) in NOTHING


def excuses(text: str) -> bool:
    """Whether sentences tell that something was not found, and hold no value.

    >>> [excuses(text) for text in ("I could not find the town of this port.", "N/A - see website", "Not in Marl")]
    [True, True, False]
    """
    words = text.casefold().replace("’", "'") if " " in text and len(text) <= LONGEST_EXCUSE else ""
    if _DENIALS.isdisjoint(words.translate(_BLANKS).split()) and "n't" not in words:
        return False
    words = _SORRY.sub("", " ".join(words.split()), count=1)
    clauses = [clause for part in _CLAUSES.split(words) if (clause := part.strip(OUTER))]
    return not _VALUE.search(words) and all(says_nothing(clause) or _excuse().fullmatch(clause) for clause in clauses)


@functools.cache
def _excuse() -> re.Pattern[str]:
    """Return the pattern of a sentence of not finding or telling; to make it takes a while."""
    return re.compile("|".join(line for line in _lines("excuses.txt").splitlines() if line))


def undressed(text: str, *, address: bool = False) -> str:
    r"""Return a text without entities, escapes, invisible signs, citation marks and the Markdown around all of it.

    A link becomes its words, or where an ``address`` is wanted, that.

    >>> undressed("Marl &amp; Osk"), undressed("**Oslo** [cite: 2]"), undressed("Ã–rby"), undressed("R&D [beta]")
    ('Marl & Osk', 'Oslo', 'Örby', 'R&D [beta]')
    """
    before = ""
    while (
        before != text and len(text) <= LONGEST_DRESSED and _DRESSED.search(text)
    ):  # what is under one dress may wear another
        before, text = text, _without_dress(text, address=address)
    return text


def _without_dress(text: str, *, address: bool) -> str:
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    if "\\" in text and not re.search(r"\b[A-Za-z]:\\|\\\\", text):  # a path is no escape
        text = _ESCAPED.sub(_unescaped, text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if re.search(_MOJIBAKE, text):
        import ftfy

        text = ftfy.fix_encoding(text)
    kept = "\u200c\u200d" + "\u200e\u200f\u202a\u202b\u202c\u2066\u2067\u2068\u2069" * bool(_RIGHT_TO_LEFT.search(text))
    text = _MARKS.sub(lambda mark: mark[0] if mark[0] in kept else "", _JOINER.sub("", text))
    text = _CITED.sub("", text if _CJK.search(text) else text.translate(_FULL_WIDTH)).strip()
    if link := _LINK.fullmatch(text):
        return link[2] if address or not link[1].strip() else link[1].strip()
    wrapped = _WRAPPED.fullmatch(text)
    return next(filter(None, wrapped.group(2, 3, 4))) if wrapped else text


def _unescaped(escape: re.Match[str]) -> str:
    code, letter = escape.groups()
    return chr(int(code, 16)) if code else {"n": "\n", "r": "\r", "t": "\t"}.get(letter, letter)
