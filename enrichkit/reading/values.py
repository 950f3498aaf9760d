"""The values: what a model wrote for a field, as the type that was asked for.

A value is recovered where only one can be meant, and named where it is not what stood there. The smallest part that
cannot be used is emptied, or left out of a list, and named with its path; the rest stays. It refuses to guess.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import reprlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from ..table.arrow import DEEPEST
from .json_text import DECODER, Twice, plain_key, spelled
from .shape import Shape
from .wording import excuses, is_plain, says_nothing, undressed

LONGEST_ORIGINAL = 2000
YES = frozenset("1 yes true y ja oui sí si sim tak da".split())
NO = frozenset("0 no false n nein non não nao nee nie nej nei".split())
SCALES = {
    name: Decimal(10) ** power
    for power, names in {
        3: "k thousand tsd tausend mille mil tys",
        6: "m mn mm mio mln million millions millionen millones milioni milhões miljoen mkr",
        9: "b bn bln mrd mld milliard milliards milliarden miliardi billion billions mia",
        12: "t tn trn trillion trillions",
        5: "lakh lakhs",
        7: "crore crores cr",
    }.items()
    for name in names.split()
}
LONE = frozenset("m mm b t cr".split())
"""Scales that may as well be a metre, a millimetre, a byte or a tonne, unless money stands beside."""
_MONEY = (
    r"(?:(?:US|C|CA|A|AU|NZ|HK|S|R)?\$|[€£¥₹₩₽₺₪฿]|\b(?:USD|EUR|GBP|CHF|JPY|CNY|RMB|INR|SEK|NOK|DKK|ISK|PLN|CZK|HUF|RON|"
    r"AUD|NZD|CAD|SGD|HKD|KRW|TWD|BRL|MXN|CLP|COP|ZAR|AED|SAR|QAR|ILS|TRY|RUB|UAH|THB|IDR|MYR|PHP|VND|EGP|NGN|KES|kr|"
    r"dollars?|euros?|pounds?|francs?|yen)\b)"
)
_ABOUT = (
    r"(?:~|≈|\b(?:about|approx(?:imately)?|around|circa|ca|c|roughly|some|est(?:imated)?|etwa|rund|ungefähr|environ|"
    r"aproximadamente|unos|cerca de|ongeveer|około|cirka|noin)\b\.?)"
)
_NUMBER = r"[+-]?\d+(?:\.\d+)?[eE][+-]?\d{1,2}|[+−-]?\d(?:[\d.,'’_\u00a0\u2009\u202f ]*\d)?"
_AMOUNT = re.compile(
    rf"(?:(?!{_ABOUT}|{_MONEY})(?P<before>[^\W\d_]+)\s+)?{_ABOUT}?\s*(?P<money>{_MONEY})?\s*{_ABOUT}?\s*(?P<number>{_NUMBER})\s*"
    rf"(?P<scale>(?:{'|'.join(sorted(SCALES, key=len, reverse=True))})\b\.?)?\s*(?P<of>{_MONEY})?\s*"
    rf"(?P<unit>%|[^\W\d_][^\d]{{0,40}})?\s*(?:\(?{_ABOUT}\)?)?",
    re.IGNORECASE,
)
_SILENT = re.compile(r"\s*[+-]?(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?\s*", re.ASCII)
"""Text whose number is beyond doubt."""
_READINGS = (
    (r"(?!0)\d{1,3}(?:,\d{3})+|[1-9]\d?(?:,\d{2})+,\d{3}", r"\.\d+"),
    (r"\d{1,3}(?:\.\d{3}){2,}", r",\d+"),
    (r"\d{1,3}\.\d{3}(?=,)", r",\d+"),
    (r"\d{1,3}(?P<gap>['’_\u00a0\u2009\u202f ])\d{3}(?:(?P=gap)\d{3})*", r"[.,]\d+"),
    (r"0|[1-9]\d{3,}", r"[.,]\d+"),
    (r"\d+", r"[.,](?:\d{1,2}|\d{4,})"),
)
"""How digits are grouped, and what may follow as decimals. A single dot or comma before three digits may mean either;
a comma is taken for one of thousands, as most who write so do."""
_ARABIC = str.maketrans("٬٫", ",.")
_ITEMS = re.compile(r"[;\n•‣]|·(?=\s)")
_COMMAS = re.compile(r"、|,(?!\d{3}\b|\s*(?:Inc|Ltd|LLC|Jr|Sr)\b|[^()]{0,100}\))")
"""Those between the items of a list: none within a number, a name or brackets."""
_BULLET = re.compile(r"^(?:[-*–•‣·]|\d{1,2}[.)])\s+")
_ADDRESS = re.compile(r"\b(?:url|uri|website|web|link|site|homepage|https?|linkedin|crunchbase)\b", re.IGNORECASE)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = LONGEST_ORIGINAL
_SHORT.maxlist = _SHORT.maxdict = 30


class Note(NamedTuple):
    """What was done to a value: where, what, and what stood there."""

    path: str
    check: str
    original: str


class Unusable(ValueError):
    """A value of which nothing can be used as the type that was asked for."""


def original(value: Any) -> str:
    """Return what stood there, for a person."""
    return _SHORT.repr(value)[:LONGEST_ORIGINAL].encode("utf-8", "backslashreplace").decode()


class Reader:
    """Reads the values of one answer; ``notes`` says what was done to them."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def note(self, path: str, check: str, value: Any) -> None:
        """Note what was done to a value, and what stood there."""
        self.notes.append(Note(path, check, original(value)))

    def fields(self, shape: Shape, values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
        """Return those of an object's fields that have a value, each as its shape has it."""
        read = {}
        values = spelled(values, {name for name, _, _ in shape.fields})
        for name, inner, about in shape.fields:
            if (value := values.get(name)) is None:
                continue
            if isinstance(values, Twice) and name in values.said:
                self.note(f"{path}{name}", "said_twice", values.said[name])
            needed = inner.kind == "text" and not inner.optional
            value = self.read(inner, value, f"{path}{name}", about, needed=needed)
            if value is not None:
                read[name] = value
        return read

    def read(self, shape: Shape, value: Any, path: str, about: str = "", *, needed: bool = False) -> Any:
        """Return a value as a shape has it; None where there is none, or none that can be used.

        ``about`` is the field's description: a unit that it names may stand beside a number. A text that is ``needed``
        stays, whatever it says.
        """
        if type(value) is str and shape.kind == "text" and not shape.choices and is_plain(value):
            return value  # nearly always
        if value is None or value in ([], {}):
            return None
        try:
            return self._read(shape, value, path, about, needed=needed)
        except Unusable:
            self.note(path, "wrong_type", value)
            return None

    def _read(self, shape: Shape, value: Any, path: str, about: str, *, needed: bool) -> Any:
        if isinstance(value, list) and len(value) == 1 and shape.kind != "list":
            return self._read(shape, value[0], path, about, needed=needed)
        if isinstance(value, str):
            if value in shape.choices:
                return value
            if value.lstrip()[:1] in ("{", "[") and shape.kind in ("list", "object"):  # JSON in a JSON text
                with contextlib.suppress(ValueError, RecursionError):
                    return self._read(shape, DECODER.decode(value), path, about, needed=needed)
            value = self._undressed(value, path, about)
            if not needed and not shape.choices and self._says_nothing(value, path):
                return None
        if shape.kind == "list":
            return self._list(shape, value, path, about)
        if shape.kind == "object":
            return self._object(shape, value, path)
        if shape.kind == "text":
            return self._text(shape, value, path)
        return self._truth(value, path) if shape.kind == "bool" else self._number(shape, value, path, about)

    def _undressed(self, text: str, path: str, about: str) -> str:
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise Unusable  # no file of text can hold it
        if "\ufffd" in text:  # a letter that came broken
            self.note(path, "no_utf8", text)
        # Nobody writes these two signs: they are \\beta and \\frac, of which JSON's escapes ate the backslash.
        text = text.replace("\b", "\\b").replace("\f", "\\f")
        plain = undressed(text, address=_wants_address(f"{path.rpartition('.')[2]} {about}"))
        if plain != text and plain != text.strip():
            self.note(path, "undressed", text)
        return plain.strip()

    def _says_nothing(self, text: str, path: str) -> bool:
        if says_nothing(text):
            return True
        if excused := excuses(text):
            self.note(path, "says_nothing", text)
        return excused

    def _text(self, shape: Shape, value: Any, path: str) -> str | None:
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            self.note(path, "read_as", value)
            value = ", ".join(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            value = str(value)
        if not isinstance(value, str):
            raise Unusable
        if not shape.choices:
            return value
        same = [choice for choice in shape.choices if plain_key(choice) == plain_key(value)]
        if len(same) == 1:
            return same[0]
        if self._says_nothing(value, path):
            return None
        raise Unusable

    def _number(self, shape: Shape, value: Any, path: str, about: str) -> int | float:
        number = number_in(value, f"{path.rpartition('.')[2]} {about}") if isinstance(value, str) else value
        if not isinstance(number, int | float | Decimal) or isinstance(number, bool) or not math.isfinite(number):
            raise Unusable
        whole = shape.kind == "int"
        if whole and (number != int(number) or not -(2**63) <= number < 2**63):
            raise Unusable
        if isinstance(value, str) and not _SILENT.fullmatch(value):
            self.note(path, "read_as", value)
        return int(number) if whole else float(number)

    def _truth(self, value: Any, path: str) -> bool:
        word = str(value).casefold().strip(" .!")
        if isinstance(value, bool):
            return value
        if word not in YES | NO:
            raise Unusable
        if word not in ("true", "false", "yes", "no"):
            self.note(path, "read_as", value)
        return word in YES

    def _list(self, shape: Shape, value: Any, path: str, about: str) -> list[Any] | None:
        of = shape.of or shape
        parts = value
        if isinstance(value, str) and of.kind != "object":
            bare = value[1:-1] if value[:1] + value[-1:] == "[]" else value
            parts = [_BULLET.sub("", part.strip()) for part in _ITEMS.split(bare) if part.strip()]
            if len(parts) == 1 and of.kind == "text" and (bare != value or _COMMAS.search(value)):
                self.note(path, "read_as", value)
                parts = [part.strip(" '\"") for part in _COMMAS.split(bare)]
        elif not isinstance(value, list):
            parts = [value]
            if isinstance(value, dict) != (of.kind == "object"):
                raise Unusable
        if path.count("[") > DEEPEST:
            raise Unusable
        read = [self.read(of, part, f"{path}[{place}]", about) for place, part in enumerate(parts)]
        return [part for part in read if part is not None] or None

    def _object(self, shape: Shape, value: Any, path: str) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            raise Unusable
        read = self.fields(shape, value, f"{path}.")
        if read and any(not inner.optional and name not in read for name, inner, _ in shape.fields):
            raise Unusable
        return read or None


@functools.lru_cache(maxsize=1000)
def _wants_address(about: str) -> bool:
    return _ADDRESS.search(about.replace("_", " ")) is not None


def number_in(text: str, about: str) -> Decimal | None:
    """Return the number that a text means; None if it is not just one, or may be another.

    >>> [number_in(text, "crew") for text in ("EUR 2.5 bn", "about 1 200", "14 crew", "4.750", "10-20", "5 m")]
    [Decimal('2500000000.0'), Decimal('1200'), Decimal('14'), None, None, None]
    """
    match = _AMOUNT.fullmatch(text.strip().translate(_ARABIC)) if len(text) <= 100 else None
    if match is None:
        return None
    known = {word.rstrip("s") for word in re.split(r"[\W_]+", about.casefold().replace("%", " percent "))} - {""}
    beside = f"{match['before'] or ''} {match['unit'] or ''}".casefold().replace("%", "percent")
    if any(word.rstrip("s") not in known for word in re.findall(r"\w+", beside)):
        return None
    number, scale = _decimal(match["number"]), (match["scale"] or "").rstrip(".")
    if number is None or (scale.lower() in LONE and scale.islower() and not (match["money"] or match["of"])):
        return None
    return number * SCALES[scale.casefold()] if scale else number


def _decimal(digits: str) -> Decimal | None:
    """Return the number in digits with separators; None where they may mean two."""
    sign, digits = ("-", digits[1:]) if digits[0] in "-−" else ("", digits.lstrip("+"))
    if re.fullmatch(r"\d+(?:\.\d+)?[eE][+-]?\d+", digits):
        return Decimal(sign + digits)
    for whole, part in _READINGS:
        if match := re.fullmatch(rf"(?P<whole>{whole})(?P<part>{part})?", digits):
            return Decimal(sign + re.sub(r"\D", "", match["whole"]) + re.sub(r"\D", ".", match["part"] or ""))
    return None
