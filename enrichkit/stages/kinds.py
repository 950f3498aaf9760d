"""The kinds of field: what each recovers, what it doubts, and what it takes for the same; addresses and numbers first.

Resemblance only casts doubts; what is emptied is certain. It refuses to look anything up elsewhere.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import BaseModel

from ..reading.answer import KEEP, Issue, Record
from ..reading.shape import Mark, Shape
from ..reading.values import original
from ..table.arrow import alike
from . import addresses, places
from .addresses import PROFILES, host_in, host_of, is_at, is_made_of, names_only_the_form, page_of, resembles

BETWEEN = re.compile(r"[;/|•+&,；、，،\n]|\b(?:and|or)\b", re.IGNORECASE)
"""What stands between the values of one cell."""
_BESIDE_CITY = places.pattern_of("parts_of_city")
"""What may stand in one text with a city: a label, brackets, a postcode, a region's code."""
_SEVERAL = re.compile(r"[;|•+&；、\n]|\b(?:and|or)\b", re.IGNORECASE)
_NO_CITY = places.pattern_of("no_city", re.IGNORECASE)
_EXAMPLES = re.compile(r"(?:https?://|www\.)[^\s\"'<>()⟦⟧,;]+|[\w.+-]+@[\w.-]+\.\w+|\+\d[\d ()-]{6,}\d")
_EXTENSION = re.compile(r"(?:ext(?:ension|n)?|x)[\s.:]*\d{1,6}\)?$", re.IGNORECASE)
_NUMBER = re.compile(r"[+＋(]?\d[\d ()./\u00a0–-]{5,30}\d")
_OTHER_NUMBER = re.compile(r"\b(?:org|reg|hrb|vat|iban|tax|nr|no|fax)\b[\W_]*$", re.IGNORECASE)
"""What may stand before a number that is no phone's."""
_DEEP = re.compile(r"/(?:about|contact|team|people|news|blog|portfolio|careers|press|investors)[\w-]*|/[^/]+/[^/]+.*")


@dataclass(frozen=True)
class Kind(Mark):
    """What a field holds. As a check it looks at each text at its ``field``, a path such as ``portfolio.website``.

    ``examples`` are the addresses and numbers that stand in the stage's own question; None where placeholders may be
    values, in simulated answers.
    """

    longest: ClassVar[int] = 100_000
    """Characters of a text that is looked at."""
    field: str = ""
    examples: frozenset[str] | None = None

    def look(self, value: Any, answer: Any, record: Record) -> Iterator[Issue]:
        """Yield what is wrong with one value; ``instead`` is what it becomes."""
        return iter(())

    def same(self, text: str, cell: str) -> bool:
        """Whether an answer means what a cell says, or one of the things that it says."""
        return alike(text, cell)

    def is_placeholder(self, text: str) -> bool:
        """Whether a text stands where a value would."""
        return False

    def __call__(self, answer: Any, record: Record) -> Iterator[Issue]:
        top, *path = self.field.split(".")
        seen: dict[tuple[str, bool], list[str]] = {}

        def look(value: Any) -> Any:
            if isinstance(value, str) and len(value) > self.longest:
                return value
            issues = self._placeholders(value, record) or self.look(value, answer, record)
            for issue in issues:
                seen.setdefault((issue.check, issue.flags), []).append(issue.detail)
                value = value if issue.flags else issue.instead
            return value

        new = _changed(getattr(answer, top, None), path, look)
        for (check, flags), details in seen.items():
            yield Issue(top, check, f"{', '.join(details):.2000}", instead=KEEP if flags else new)

    def _placeholders(self, value: Any, record: Record) -> list[Issue]:
        """Return the issue of a placeholder; an invented table may have invented answers."""
        if self.examples is None or not isinstance(value, str) or not self.is_placeholder(value):
            return []
        if any(addresses.is_reserved(host_in(cell)) for cell in record.values()):
            return []
        return [Issue("", "placeholder", original(value), instead=None)]


def _changed(value: Any, path: Sequence[str], change: Callable[[Any], Any]) -> Any:
    """Return a value with each part at a path changed; lists lose what is emptied, and what they have twice."""
    if isinstance(value, list):
        changed = [_changed(part, path, change) for part in value]
        parts = [part for new in changed for part in (new if isinstance(new, list) else [new])]
        return [part for place, part in enumerate(parts) if part is not None and part not in parts[:place]] or None
    if path and isinstance(value, BaseModel | dict):
        inner = dict(value)
        inner |= {path[0]: _changed(inner.get(path[0]), path[1:], change)}
        return None if all(part is None for part in inner.values()) else inner
    return value if value is None or path else change(value)


@dataclass(frozen=True)
class Url(Kind):
    like: tuple[str, ...] = ()
    at: tuple[str, ...] = ()
    own: bool = False

    def look(self, value: Any, answer: Any, record: Record) -> Iterator[Issue]:
        if (page := self._page(value)) is None:
            yield Issue("", "not_a_url", original(value), instead=None)
            return
        if page != value:
            yield Issue("", "url_cleaned", original(value), instead=page)
        name = " ".join(filter(None, (record.get(column) for column in self.like)))
        host, path = host_of(page), page.partition("//")[2].partition("/")[2]
        if self.at:
            site = self.at[0].partition("/")[0]
            kind, slug = page_of(page, site)
            network = site.partition(".")[0]
            if f"{site}/{kind}" not in self.at or slug == "dir":
                yield Issue("", f"{network}_kind", original(page), instead=None)
            elif name and self._is_others(name, slug, record):
                yield Issue("", f"{network}_name", f"{original(page)} is not like {original(name)}")
        elif self.own or self.like:
            elsewhere = is_at(host, addresses.SOCIAL) or addresses.is_free_mail(host)
            if elsewhere and (path or host.count(".") > 1 or not resembles(name, host)):
                yield Issue("", "not_own_website", original(page), instead=None)
                return
            if name and (doubt := self._doubt(name, host, path, answer, record)):
                yield Issue("", *doubt)
            elif _DEEP.fullmatch(f"/{path}"):
                yield Issue("", "deep_page", f"{original(page)} is not the root")

    def same(self, text: str, cell: str) -> bool:
        if self.at:
            pages = [page_of(address, self.at[0].partition("/")[0]) for address in (text, cell)]
            return pages[0] == pages[1] != ("", "") or alike(text, cell)
        return alike(text, cell) or (bool(self.like) and host_of(text) == host_in(cell) != "" and "@" not in cell)

    def is_placeholder(self, text: str) -> bool:
        page = self._page(text) or ""
        host, path = host_of(page), [part for part in page.split("/")[3:] if part]
        names = [page_of(page, self.at[0].partition("/")[0])[1]] if self.at else [host.rpartition(".")[0]]
        form = bool(host) and (len(path) > 1 or not self.at) and any(map(names_only_the_form, names))
        return form or addresses.is_reserved(host) or page in (self.examples or ()) or (not host and "[" in text)

    def _page(self, value: Any) -> str | None:
        """Return an address in its one spelling; a profile's without the pages below it."""
        text = value if isinstance(value, str) else ""
        if self.at and any(text.strip("/").startswith(f"{form.partition('/')[2]}/") for form in self.at):
            text = f"{self.at[0].partition('/')[0]}/{text.strip('/')}"
        page = addresses.address_in(text)
        if page and self.at:
            site = self.at[0].partition("/")[0]
            parts = page.split("/")
            parts[2] = f"www.{site}" if parts[2] == site else parts[2]
            page = "/".join(
                parts[:5] if is_at(host_of(page), {site}) and f"{site}/{[*parts, ''][3]}" in self.at else parts
            )
        return page

    def _is_others(self, name: str, slug: str, record: Record) -> bool:
        """Whether a profile seems to be somebody else's: of a person, the family name decides where both are there."""
        if any(resembles(slug, host) for host in _hosts(record).values()):
            return False
        family = record.get(self.like[-1], "") if len(self.like) > 1 else ""
        rest = [word for word in slug.split("-") if len(word) > 3 and word.isalpha() and not resembles(name, word)]
        return resembles(name, slug) is False or bool(family and rest and resembles(family, slug) is False)

    def _doubt(self, name: str, host: str, path: str, answer: Any, record: Record) -> tuple[str, str] | None:
        """Return the check and detail of a website that seems to be another's, where no other tie holds."""
        own = resembles(name, host)
        if own is False and any(resembles(name, part) for part in path.split("/") if len(part) > 3):
            return "unlike_name", f"{original(f'{host}/{path}')} is a page about {original(name)}"
        hosts = _hosts(record)
        if any(is_at(host, {other}) or is_at(other, {host}) or is_made_of(other, host) for other in hosts.values()):
            return None
        written = {column: host for column, host in hosts.items() if "@" in record[column]}
        mails = {column: other for column, other in written.items() if resembles(name, other) is not False}
        if mails and not is_made_of(name, host):
            column, other = next(iter(mails.items()))
            return "email_domain", f"{column} is at {other}, the website at {host}"
        profiles = [page_of(text, site)[1] for _, text in answer if isinstance(text, str) for site in PROFILES]
        if own is False and not any(slug and resembles(name, slug) and resembles(slug, host) for slug in profiles):
            return "unlike_name", f"{host} is not like {original(name)}"
        return None


def _hosts(record: Record) -> dict[str, str]:
    """Return the hosts of a record's own emails and sites, by column, but for those where anybody may be."""
    hosts = {column: host_in(cell) for column, cell in record.items()}
    return {
        column: host
        for column, host in hosts.items()
        if host and not is_at(host, addresses.SOCIAL) and not addresses.is_free_mail(host)
    }


@dataclass(frozen=True)
class Email(Kind):
    like: str = ""

    def look(self, value: Any, answer: Any, record: Record) -> Iterator[Issue]:
        address = addresses.email_in(str(value))
        if address is None:
            yield Issue("", "not_an_email", original(value), instead=None)
            return
        if address != value.lower():
            yield Issue("", "email_cleaned", original(value), instead=address)
        host, name = address.partition("@")[2], record.get(self.like, "")
        if self.like and addresses.is_free_mail(host):
            yield Issue("", "free_mail", f"anybody may write from {host}")
        elif name and resembles(name, host) is False and host not in _hosts(record).values():
            yield Issue("", "unlike_name", f"{host} is not like {original(name)}")

    def same(self, text: str, cell: str) -> bool:
        return text.strip().casefold() in {part.strip().casefold() for part in re.split(r"[\s,;|<>]+", cell)}

    def is_placeholder(self, text: str) -> bool:
        address = addresses.email_in(text) or ""
        name, _, host = address.partition("@")
        form = bool(host) and names_only_the_form(host.partition(".")[0])
        form = form or ("name" in name and names_only_the_form(name))
        return form or addresses.is_reserved(host) or address in (self.examples or ())


@dataclass(frozen=True)
class Phone(Kind):
    country: str = ""

    def look(self, value: Any, answer: Any, record: Record) -> Iterator[Issue]:
        code = places.country(record.get(self.country, ""))
        number = _EXTENSION.sub("", str(value))
        if any(map(str.isalpha, number)) or re.match(r"\s*(?:00|\+[\d ]+\(0\))", number):
            alone = _phone_in(number, code)
            yield Issue("", "phone_cleaned" if alone else "phone_number", original(value), instead=alone)
            if alone is None:
                return
            number = alone
        if not 7 <= (digits := sum(map(str.isdecimal, number))) <= 15:
            yield Issue("", "phone_number", f"{digits} digits in {original(value)}")
        elif not places.dialled(number, code):
            yield Issue("", "phone_number", f"no number of its country: {original(value)}")

    def same(self, text: str, cell: str) -> bool:
        own, other = (re.sub(r"^00", "", re.sub(r"\D", "", part.replace("(0)", ""))) for part in (text, cell))
        short = other.removeprefix("0")
        return own == other or (len(short) > 6 and own.endswith(short) and len(own) - len(short) <= 3)

    def is_placeholder(self, text: str) -> bool:
        return places.is_fiction(text) or re.sub(r"\D", "", text) in {re.sub(r"\D", "", x) for x in self.examples or ()}


def _phone_in(text: str, code: str) -> str | None:
    """Return the one number among other words that can be dialled; None if there is none, or it may be another's."""
    numbers = [match for match in _NUMBER.finditer(text) if not _OTHER_NUMBER.search(text[: match.start()])]
    if len(numbers) != 1:
        return None
    number = re.sub(r"\(0\) ?", "", re.sub(r"^00\s?", "+", numbers[0][0].strip()))
    return number if 7 <= sum(map(str.isdecimal, number)) <= 15 and places.dialled(number, code) else None


@dataclass(frozen=True)
class City(Kind):
    """A city; ``country`` is the column that says where it should be."""

    longest: ClassVar[int] = 500
    country: str = ""

    def look(self, value: Any, answer: Any, record: Record) -> Iterator[Issue]:
        given = record.get(self.country, "")
        code = places.country(given)
        split = re.split(rf"\s[-–]\s|{BETWEEN.pattern}", value, flags=re.IGNORECASE)
        parts = list(dict.fromkeys(filter(None, map(str.strip, split))))
        known = _known_in(parts, code)
        if not places.is_city(value, code) and list(known) == [0] and not _SEVERAL.search(value):
            yield Issue("", "city_cleaned", original(value), instead=known[0])
            value = known[0]
        elif not places.is_city(value, code) and (len(known) > 1 or _is_several(value, given)):
            yield Issue("", "several_places", original(value))
        elif not places.is_city(value, code) and _is_no_city(value, parts, code):
            yield Issue("", "no_city", original(value))
        if lies := places.elsewhere([value, *parts], code):
            yield Issue("", "city_country", f"{original(value)} is in {', '.join(lies):.300}, not in {original(given)}")

    def same(self, text: str, cell: str) -> bool:
        parts = [cell, *BETWEEN.split(cell)] if len(cell) <= self.longest else []
        parts += [_BESIDE_CITY.sub("", part) for part in parts]
        return any(alike(text, part) or places.same_city(text, part) for part in parts if part.strip())


def _known_in(parts: Sequence[str], code: str) -> dict[int, str]:
    """Return those parts of a text that are cities, by their places, without what stands beside them."""
    known: dict[int, str] = {}
    for place, part in enumerate(parts[:20]):
        bare = [part.strip(), _BESIDE_CITY.sub("", _BESIDE_CITY.sub("", part)).strip(" .:")]
        city = next(
            (name for name in bare if places.is_city(name, code) or (place and places.is_well_known(name))), None
        )
        region = places.is_region(part, code) and not places.is_city(part, code)
        named = (len(parts) > 1 and places.country(part)) or (place and region)  # "Singapore, Singapore" is one part
        if city and not named and not any(places.same_city(city, other) for other in known.values()):
            known[place] = city
    return known


def _is_several(text: str, country: str) -> bool:
    """Whether a text seems to name several places; a country, and codes such as NY or D.C., do not count."""
    parts = {part.strip() for part in BETWEEN.split(text)} - {""}
    others = {part for part in parts if part.casefold() != country.strip().casefold()}
    return len({part for part in others if not (part.isupper() and len(part) <= 4)}) > 1


def _is_no_city(text: str, parts: Sequence[str], code: str) -> bool:
    """Whether a text that is no known city is something else: a country, a region, a street or none of these."""
    if not places.is_city("London"):  # without the library nothing can be said
        return False
    country = places.country(parts[0]) if parts else ""
    return (
        bool(_NO_CITY.search(text)) or places.is_region(text, code) or bool(country and not places.is_well_known(text))
    )


def kinds_in(shape: Shape, path: str = "") -> Iterator[Kind]:
    """Yield the kinds that a field and its parts are marked with, each with its path."""
    for mark in shape.marks:
        if isinstance(mark, Kind):
            yield replace(mark, field=path)
    if shape.of:
        yield from kinds_in(shape.of, path)
    for name, part, _ in shape.fields:
        yield from kinds_in(part, f"{path}.{name}".lstrip("."))


@functools.lru_cache(maxsize=64)
def _examples(text: str) -> frozenset[str]:
    return frozenset(addresses.clean(each) or each for each in (each.rstrip(".…:") for each in _EXAMPLES.findall(text)))


def examples_in(prompt: str, schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the addresses and numbers that stand as examples in a question and the descriptions of its fields."""
    return _examples(f"{prompt} {json.dumps(schema, ensure_ascii=False)}")
