"""The seven kinds of field, for stages of one's own as for the built-in ones.

A kind stands as an annotation of a field, or in a stage's ``checks=`` with the field's name. It is part of how a reply
is read: adding one reads the stored replies anew, at no cost.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel

from ..reading.answer import KEEP, Check, Issue, Record
from ..reading.shape import Shape
from ..reading.values import number_in, original
from ..table.arrow import alike
from . import places
from .kinds import BETWEEN, City, Email, Kind, Phone, Url

__all__ = ["city", "country", "email", "money", "phone", "url", "year"]

_YEAR = re.compile(r"(?<!\d)[12]\d{3}(?!\d)")
_BOUND = re.compile(r"^\W*(up to|from|at least|max(?:imum)?|min(?:imum)?)\b\W*", re.IGNORECASE)
_RANGE = re.compile(r"(?<=\d)\s*([a-z]*)\s*(?:[-–—]|\bto\b)\s*(?=\D{0,4}\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Year(Kind):
    since: int = 1000

    def recovered(self, value: Any, shape: Shape) -> Any:
        years = set(_YEAR.findall(value)) if isinstance(value, str) and len(value) <= 100 else ()
        return int(years.pop()) if len(years) == 1 else value

    def look(self, value: Any, answer: Any, record: Record) -> Iterator[Issue]:
        number = int(value) if isinstance(value, int | float) or str(value).isdecimal() else 0
        if not self.since <= number <= datetime.date.today().year:
            yield Issue("", "year_range", original(value), instead=None)


@dataclass(frozen=True)
class Money(Kind):
    least: float = 0
    within: str = ""

    def recovered(self, value: Any, shape: Shape) -> Any:
        names = {name for name, _, _ in shape.fields}
        if isinstance(value, str) and names:
            return _amounts_in(value, names) or value
        texts = {name: part for name, part in value.items() if isinstance(part, str)} if isinstance(value, dict) else {}
        codes = [code for part in texts.values() if (code := _code_in(part))] if "currency" in names else []
        bare = {name: text for name, part in texts.items() if (text := _BOUND.sub("", part)) != part}
        coded = {"currency": codes[0]} if codes and not value.get("currency") else {}
        return value | coded | bare if coded or bare else value

    def same(self, text: str, cell: str) -> bool:
        number = number_in(text, "")
        return alike(text, cell) or (number is not None and number == number_in(cell, ""))

    def look(self, value: Any, answer: Any, record: Record) -> Iterator[Issue]:
        amount = dict(value) if isinstance(value, BaseModel | dict) else {"value": value}
        given = str(amount.get("currency") or "")
        code = places.currency(re.sub(r"(?<=^[A-Z]{3}) \(.*", "", given))
        if given and code != given:
            instead = KEEP if code == "" else (amount := amount | {"currency": code})
            yield Issue("", "currency_code", original(given), instead=instead)
        names = [name for name in ("value", "min", "max") if not isinstance(amount.get(name), str | None)]
        check = f"{self.field.rpartition('.')[2]}_range"
        if wrong := {
            name: None for name in names if not (0 <= amount[name] < math.inf and (amount[name] or name == "min"))
        }:
            amount |= wrong
            new = amount if len(amount) > 1 and "value" not in wrong else None
            yield Issue("", check, original(value), instead=new)
        elif amount.get("min") and amount["min"] > (amount.get("max") or math.inf):
            yield Issue("", check, f"min above max: {original(amount)}")
        elif 0 < max((amount[name] for name in names), default=0) < self.least:
            yield Issue("", check, f"in millions? {original(amount)}")
        whole = dict(getattr(answer, self.within, None) or ()) if self.within else {}
        most = max((amount[name] or 0 for name in names), default=0)
        if whole.get("value") and whole.get("currency") == amount.get("currency") and most > whole["value"]:
            yield Issue("", check, f"above {self.within}: {original(amount)}")


def _code_in(text: str) -> str | None:
    """Return the one currency that stands in a text."""
    codes = {places.currency(word) for word in re.findall(r"[A-Z]{0,3}[$€£¥₹₩]|\b[A-Z]{3}\b", text)} - {None, ""}
    return codes.pop() if len(codes) == 1 else None


def _amounts_in(text: str, names: set[str]) -> dict[str, Any]:
    """Return the amount, or the ends of a range, that a text states, with currency and year; empty if it is unclear."""
    years = _YEAR.findall(text) if "year" in names else []
    bare = re.sub(rf"\W*(?:\b(?:as of|in|at|of|end|fy)\b\W*)*{years[-1]}\W*$", "", text, flags=re.I) if years else text
    bound, bare = _BOUND.match(bare), _BOUND.sub("", bare)
    ends = _RANGE.split(bare)
    if len(ends) == 3 and {"min", "max"} <= names:
        scale = re.search(r"[a-z]+\.?$", ends[2], re.IGNORECASE)
        ends = [ends[0] + (ends[1] or (scale[0] if scale else "")), ends[2]]
        amounts = dict(zip(("min", "max"), ends, strict=True))
    elif len(ends) == 1 and "value" in names:
        amounts = {"value": bare}
    elif len(ends) == 1 and bound and {"min", "max"} <= names:
        amounts = {"max" if bound[1].lower()[:2] in ("up", "ma") else "min": bare}
    else:
        return {}
    code = _code_in(text)
    numbers = {
        name: number_in(f"{code or ''} {re.sub('[A-Z]{0,3}[$€£¥₹₩]|' + (code or '$'), '', part).strip()}", "")
        for name, part in amounts.items()
    }
    if not all(numbers.values()):
        return {}
    return numbers | {"currency": code} | ({"year": int(years[-1])} if years else {})


@dataclass(frozen=True)
class Country(Kind):
    """A country or a larger region, in English."""

    def look(self, value: Any, answer: Any, record: Record) -> Iterator[Issue]:
        name = places.english(value)
        if name != value:
            yield Issue("", "country_cleaned", original(value), instead=name)
        elif re.search(r"\d|@|://|\[", value) or (not places.country(value) and places.is_well_known(value)):
            yield Issue("", "no_country", original(value))

    def same(self, text: str, cell: str) -> bool:
        own, others = (
            {places.country(part) or part.strip().casefold() for part in BETWEEN.split(x)} for x in (text, cell)
        )
        return own <= others or alike(text, cell)


KINDS: dict[str, type[Kind]] = {kind.__name__: kind for kind in (City, Country, Email, Money, Phone, Url, Year)}


def kinds_as_facts(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """Return the kinds among checks as JSON has them, for a shard's footer."""
    kinds = [check for check in checks if isinstance(check, Kind) and type(check) in KINDS.values()]
    return [asdict(kind) | {"kind": type(kind).__name__, "examples": None} for kind in kinds]


def kinds_of_facts(facts: Mapping[str, Any]) -> tuple[Kind, ...]:
    """Return the kinds that a footer tells of, among its facts about a stage."""
    kinds: list[Kind] = []
    for kind in facts.get("kinds", ()):
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in kind.items()}
        kinds.append(KINDS[settings.pop("kind")](**settings))
    return tuple(kinds)


def means_the_same(checks: Iterable[Check], field: str, text: str, cell: str) -> bool:
    """Whether an answer and a cell mean the same, by the kinds of the field: of several in a cell, one will do."""
    kinds = (check for check in checks if isinstance(check, Kind) and check.field == field)
    return alike(text, cell) or any(kind.same(text, cell) for kind in kinds)


def url(field: str = "", *, like: str | Sequence[str] = (), at: str | Sequence[str] = (), own: bool = False) -> Kind:
    """Return the kind of a web address.

    It gets its one spelling, also out of a sentence. What is no address is emptied, and so is a placeholder.

    Parameters
    ----------
    field : str
        The answer's field, where the kind stands in ``checks=``.
    like : str or sequence of str
        The columns of the name that the address should belong to. A host or a profile that does not resemble it, and
        that nothing else ties to the record, is flagged; so is a page deep below the root of a site.
    at : str or sequence of str
        The site and kinds of page that are meant, such as ``"linkedin.com/in"``. Any other page is emptied.
    own : bool
        A site of one's own, also without a name to hold it against: a page on a social network is emptied.

    Returns
    -------
    Kind
        To annotate a field with, or for ``checks=``.

    Examples
    --------
    >>> from enrichkit import Answer, Stage, checks
    >>> class Lab(Answer):
    ...     homepage: str | None = None
    >>> lab = Stage("lab", prompt="Research {name}.", answer=Lab, checks=[checks.url("homepage", like="name")])
    """
    return Url(field, like=_several(like), at=_several(at), own=own)


def _several(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def email(field: str = "", *, like: str = "") -> Kind:
    """Return the kind of an email address: read out of a sentence; what is none is emptied.

    Parameters
    ----------
    field : str
        The answer's field, where the kind stands in ``checks=``.
    like : str
        The column of the firm's name: an address where anybody may have one, and a host that does not resemble the
        name, are flagged.

    Returns
    -------
    Kind
        To annotate a field with, or for ``checks=``.

    Examples
    --------
    >>> from typing import Annotated
    >>> from enrichkit import Answer, checks
    >>> class Office(Answer):
    ...     contact: Annotated[str | None, checks.email(like="name")] = None
    """
    return Email(field, like=like)


def phone(field: str = "", *, country: str = "") -> Kind:
    """Return the kind of a phone number: read out of a sentence; letters empty it, one that cannot be is flagged.

    Parameters
    ----------
    field : str
        The answer's field, where the kind stands in ``checks=``.
    country : str
        The column of the country whose plan a number without + follows.

    Returns
    -------
    Kind
        To annotate a field with, or for ``checks=``.

    Examples
    --------
    >>> from enrichkit import checks
    >>> checks.phone("switchboard", country="country").same("+46 8 517 334 28", "08-517 334 28")
    True
    """
    return Phone(field, country=country)


def year(field: str = "", *, since: int = 1000) -> Kind:
    """Return the kind of a year: read out of words such as "founded in spring 2007"; one to come is emptied.

    Parameters
    ----------
    field : str
        The answer's field, where the kind stands in ``checks=``.
    since : int
        The earliest year that can be.

    Returns
    -------
    Kind
        To annotate a field with, or for ``checks=``.

    Examples
    --------
    >>> from enrichkit import checks
    >>> founded = checks.year("founded", since=1800)
    """
    return Year(field, since=since)


def money(field: str = "", *, least: float = 0, within: str = "") -> Kind:
    """Return the kind of an amount: a number, or an object of ``value`` or ``min`` and ``max``, and ``currency``.

    "GBP 3.4 m" is read with its currency. What cannot be an amount or a currency is emptied.

    Parameters
    ----------
    field : str
        The answer's field, where the kind stands in ``checks=``.
    least : float
        A smaller amount is flagged: it may be in millions.
    within : str
        The field of an amount that this one cannot exceed.

    Returns
    -------
    Kind
        To annotate a field with, or for ``checks=``.

    Examples
    --------
    >>> from enrichkit import checks
    >>> checks.money("ticket", least=1000, within="aum").same("3.4e6", "3,400,000")
    True
    """
    return Money(field, least=least, within=within)


def country(field: str = "") -> Kind:
    """Return the kind of a country: a code, or a name in another language, becomes its English name.

    Parameters
    ----------
    field : str
        The answer's field, where the kind stands in ``checks=``.

    Returns
    -------
    Kind
        To annotate a field with, or for ``checks=``.

    Examples
    --------
    >>> from enrichkit import checks
    >>> checks.country().same("Norway", "Norge; Sverige")
    True
    """
    return Country(field)


def city(field: str = "", *, country: str = "") -> Kind:
    """Return the kind of a city: read without region and country; a region, a street or a city elsewhere is flagged.

    Parameters
    ----------
    field : str
        The answer's field, where the kind stands in ``checks=``.
    country : str
        The column of the country where it should be.

    Returns
    -------
    Kind
        To annotate a field with, or for ``checks=``.

    Examples
    --------
    >>> from enrichkit import checks
    >>> checks.city(country="country").same("Munich", "München; Berlin")
    True
    """
    return City(field, country=country)
