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
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from ..table.arrow import DEEPEST
from ..table.cells import cell_text
from .json_text import DECODER, Twice, plain_key, spelled
from .shape import Shape, spoken
from .wording import excuses, is_plain, says_nothing, undressed

LONGEST_ORIGINAL = 2000
PAIR = {"key", "value"}
YES = frozenset("1 yes true y ja oui sí si sim tak da".split())
NO = frozenset("0 no false n nein non não nao nee nie nej nei".split())
SCALES = {
    name: Decimal(10) ** power
    for power, names in {
        3: "k thousand tsd tausend mille mil tys",
        6: "m mn mm mio mln million millions millionen millioner miljoner millones milioni milhões miljoen mkr",
        9: "b bn bln mrd mld milliard milliards milliarden milliarder miljarder miliardi billion billions mia",
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


class Unusable(ValueError):
    """A value of which nothing can be used as the type that was asked for."""


def original(value: Any) -> str:
    """Return what stood there, for a person."""
    return _SHORT.repr(value)[:LONGEST_ORIGINAL].encode("utf-8", "backslashreplace").decode()


class Reader:
    """Reads the values of one answer; ``notes`` says what was done to them: where, what, and what stood there."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str, str]] = []

    def note(self, path: str, check: str, value: Any) -> None:
        """Note what was done to a value, and what stood there."""
        self.notes.append((path, check, original(value)))

    def fields(self, shape: Shape, values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
        """Return those of an object's fields that have a value, each as its shape has it."""
        read = {}
        values = spelled(values, shape.names)
        for name, inner, about in shape.fields:
            value = values.get(name)
            if value is None and inner.aliases:
                value = next((other for path in inner.aliases if (other := _at(values, path)) is not None), None)
            if value is None:
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
        if type(value) is str and shape.kind == "text" and not (shape.choices or shape.format) and is_plain(value):
            return value  # nearly always
        if value is None or value in ([], {}):
            return None
        for mark in shape.marks:
            if (recovered := mark.recovered(value, shape)) is not value:
                self.note(path, "read_as", value)
                value = recovered
        try:
            return self._read(shape, value, path, about, needed=needed)
        except Unusable:
            if shape.own and "\\ud" not in repr(value):  # half a letter, which JSON cannot hold
                return value
            self.note(path, "wrong_type", value)
            return None

    def _read(self, shape: Shape, value: Any, path: str, about: str, *, needed: bool) -> Any:
        if isinstance(value, list) and len(value) == 1 and shape.kind not in ("list", "map"):
            return self._read(shape, value[0], path, about, needed=needed)
        if isinstance(value, str):
            if value in shape.choices:
                return _meant(shape, value)
            if value.lstrip()[:1] in ("{", "[") and shape.kind in ("list", "map", "object"):  # JSON in a JSON text
                with contextlib.suppress(ValueError, RecursionError):
                    return self._read(shape, DECODER.decode(value), path, about, needed=needed)
            value = self._undressed(value, path, f"{about} {shape.format}")
            if not needed and not shape.choices and self._says_nothing(value, path):
                return None
        readers: dict[str, Callable[[Shape, Any, str, str], Any]] = {
            **{"list": self._list, "map": self._map, "object": self._object, "bool": self._truth},
            **{"text": self._text, "date": self._moment, "datetime": self._moment},
            **dict.fromkeys(("int", "float", "decimal"), self._number),
        }
        return readers["text" if shape.choices else shape.kind](shape, value, path, about)

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

    def _address(self, text: str, path: str) -> str:
        if not re.fullmatch(r"[\w-]+(?:\.[\w-]+)+(?:[/?#]\S*)?", text):
            return text
        self.note(path, "read_as", text)
        return f"https://{text}"

    def _moment(self, shape: Shape, value: Any, path: str, about: str) -> str:
        """Return a day or a time in its one spelling; of a time that is asked for as a day, the day."""
        moment = moment_in(value) if isinstance(value, str) else None
        if moment is None:
            raise Unusable
        text = moment.date().isoformat() if shape.kind == "date" else moment.isoformat()
        if not value.startswith(text[:10]) or (len(value) > 10) != (shape.kind == "datetime"):
            self.note(path, "read_as", value)
        return text

    def _text(self, shape: Shape, value: Any, path: str, about: str) -> Any:
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            self.note(path, "read_as", value)
            value = ", ".join(value)
        if isinstance(value, bool) and shape.choices:
            value = spoken(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            value = cell_text(value) if shape.choices else str(value)
        if not isinstance(value, str):
            raise Unusable
        if not shape.choices:
            return self._address(value, path) if shape.format == "uri" else value
        for spelling in (str, str.casefold, plain_key):
            same = [choice for choice in shape.choices if spelling(choice) == spelling(value) != ""]
            if len(same) == 1:
                return _meant(shape, same[0])
        if value in (values := [spoken(meant) for meant in shape.meant]):
            return shape.meant[values.index(value)]
        if self._says_nothing(value, path):
            return None
        raise Unusable

    def _number(self, shape: Shape, value: Any, path: str, about: str) -> int | float | Decimal:
        number = number_in(value, f"{path.rpartition('.')[2]} {about}") if isinstance(value, str) else value
        if not isinstance(number, int | float | Decimal) or isinstance(number, bool) or not math.isfinite(number):
            raise Unusable
        whole = shape.kind == "int"
        if whole and (number != int(number) or not -(2**63) <= number < 2**63):
            raise Unusable
        if isinstance(value, str) and not _SILENT.fullmatch(value):
            self.note(path, "read_as", value)
        if shape.kind == "decimal":
            return Decimal(str(number))
        return int(number) if whole else float(number)

    def _truth(self, shape: Shape, value: Any, path: str, about: str) -> bool:
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

    def _map(self, shape: Shape, value: Any, path: str, about: str) -> dict[str, Any] | None:
        of = shape.of or shape
        if isinstance(value, list) and all(isinstance(part, dict) for part in value):  # some dialects have no maps
            pairs = [[(part["key"], part["value"])] if part.keys() == PAIR else part.items() for part in value]
            value = {str(name): part for some in pairs for name, part in some}
        if not isinstance(value, dict):
            raise Unusable
        names = {name: self._undressed(name, path, "") for name in value}
        read = {name: self.read(of, value[key], f"{path}[{name!r}]", about) for key, name in names.items()}
        return {name: part for name, part in read.items() if part is not None} or None

    def _object(self, shape: Shape, value: Any, path: str, about: str) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            raise Unusable
        read = self.fields(shape, value, f"{path}.")
        if value and not read and shape.names.isdisjoint(spelled(value, shape.names)):
            raise Unusable
        return read or None


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    """Return what stands at a path in a value; None if nothing does."""
    for step in path:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return None
    return value


def _meant(shape: Shape, choice: str) -> Any:
    return shape.meant[shape.choices.index(choice)] if shape.meant else choice


DAYS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d %B %Y", "%d %b %Y", "%d. %B %Y", "%d-%b-%Y"),
    *("%B %d, %Y", "%b %d, %Y", "%B %d %Y", "%d/%m/%Y", "%m/%d/%Y"),
)


def moment_in(text: str) -> datetime | None:
    """Return the day or time that a text means; None if it is less than a day, or may be two.

    >>> [str(moment_in(text)) for text in ("3 May 2021", "2021-05-03T10:00", "05/03/2021", "13/05/2021", "May 2021")]
    ['2021-05-03 00:00:00', '2021-05-03 10:00:00', 'None', '2021-05-13 00:00:00', 'None']
    """
    if re.match(r"\d{4}-\d\d-\d\d", text):
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(text)
    text = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b|\bof\b", "", text, flags=re.IGNORECASE)
    days = set()
    for way in DAYS:
        with contextlib.suppress(ValueError):
            days.add(datetime.strptime(" ".join(text.split()), way))
    return days.pop() if len(days) == 1 else None


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
