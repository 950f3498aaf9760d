"""The sample tables: invented throughout, one made again by its script, and as untidy as real ones."""

import csv
import os
import re
import runpy
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.paths import DATA

Row = dict[str, str]

COLUMNS = (
    "poc.first_name poc.last_name poc.role poc.email poc.linkedin poc.phone fund.title fund.type fund.email "
    "fund.website fund.country fund.city fund.sectors fund.linkedin fund.crunchbase fund.phone fund.preferred_stage"
)
KEY = ("fund.title", "poc.first_name", "poc.last_name")
PHONES = (  # ranges kept for fiction in North America, London, Berlin, France and Sweden
    r"\+1 212 555 01\d\d|\+1 \(416\) 555-01\d\d|\+44 20 7946 0\d{3}|\+49 30 23125 \d{3}|\+33 1 99 00 \d\d \d\d"
    r"|\+46 70 174 06 5\d"
)
SAME = {  # every spelling of a country in the table
    spelling: country
    for country, spellings in {
        "US": "usa|US|United States|U.S.A.|United States of America",
        "GB": "UK|United Kingdom|U.K.|Great Britain|uk",
        "DE": "Germany|Deutschland|DE|germany",
        "FR": "France|FR|france",
        "CH": "Switzerland|Schweiz|Suisse|CH",
        "SE": "Sweden|Sverige|SE",
        "ES": "Spain|España|ES",
        "PL": "Poland|Polska|PL",
        "BR": "Brazil|Brasil|BR",
        "TR": "Turkey|Türkiye|TR",
        "CA": "Canada|CA|canada",
        "GR": "Greece|Ελλάδα|GR",
        "UA": "Ukraine|Україна|UA",
        "CN": "China|中国|PRC",
        "AE": "UAE|United Arab Emirates|U.A.E.",
        "IL": "Israel|ישראל|IL",
        "KR": "South Korea|Korea|대한민국",
        "JP": "Japan|日本|JP",
        "IN": "India|भारत|IN",
    }.items()
    for spelling in spellings.split("|")
}


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ROWS = read(DATA / "funds.csv")


def same(text: str) -> str:
    """What counts of a cell in a key."""
    return unicodedata.normalize("NFC", text.strip()).casefold()


def key(row: Row) -> tuple[str, ...]:
    return tuple(same(row[column]) for column in KEY)


def misplaced(row: Row) -> str:
    """What stands in a wrong column, if anything."""
    if "linkedin.com" in row["poc.email"] + row["fund.email"]:
        return "LinkedIn as email"
    if row["fund.website"] in SAME:
        return "country as website"
    return "title as website" if row["fund.website"] == row["fund.title"] else ""


def told(column: str, *, spread: bool) -> dict[str, set[str]]:
    """The values of a column for each title, the rows aside where a value is misplaced."""
    values = defaultdict(set)
    for row in ROWS:
        cell = row[column]
        if not misplaced(row) and (cell or spread):
            values[same(row["fund.title"])].add(SAME[cell] if column == "fund.country" and cell else cell)
    return values


def scripts(column: str) -> set[str]:
    """The scripts of a column's letters."""
    return {unicodedata.name(sign).split()[0] for row in ROWS for sign in row[column] if sign.isalpha()}


TWINS = {title for title, countries in told("fund.country", spread=False).items() if len(countries) > 1}


def test_the_script_makes_the_same_file_again(tmp_path: Path) -> None:
    """The words in the script and its seed decide every byte: no other package, no order of sets."""
    made = tmp_path / "made.csv"
    command = [sys.executable, "-S", str(DATA / "make_funds.py"), str(made)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "544"})
    assert made.read_bytes() == (DATA / "funds.csv").read_bytes()


def test_rows_can_be_had_without_a_file() -> None:
    """The rows of the script are those of the file."""
    assert runpy.run_path(str(DATA / "make_funds.py"))["rows"]() == ROWS


def test_the_file_is_plain_csv() -> None:
    """544 rows of 17 columns in UTF-8 and NFC, lines ended by a line feed alone, no byte order mark."""
    text = (DATA / "funds.csv").read_bytes().decode("utf-8")
    assert text.startswith("poc.first_name,")
    assert text.endswith("\n")
    assert "\r" not in text
    assert unicodedata.is_normalized("NFC", text)
    assert list(ROWS[0]) == COLUMNS.split()
    assert len(ROWS) == 544
    assert len(text.splitlines()) == 545


def test_no_cell_reads_as_missing() -> None:
    """An empty cell is the one way to say nothing: pandas and people see the same gaps."""
    cells = {cell.strip().casefold() for row in ROWS for cell in row.values()}
    assert not cells & {"na", "n/a", "nan", "null", "none", "-", "?", "unknown", "<na>", "#n/a"}


def test_addresses_lead_to_nobody() -> None:
    """Hosts are under domains kept for examples, and what is on LinkedIn or Crunchbase says it is an example."""
    emails = [cell for row in ROWS for cell in (row["poc.email"], row["fund.email"]) if "@" in cell]
    sites = [row["fund.website"] for row in ROWS if row["fund.website"] and "as website" not in misplaced(row)]
    hosts = {email.split("@")[1] for email in emails} | {
        urlsplit(site if "//" in site else f"//{site}").hostname or site for site in sites
    }
    kept = r"([a-z-]+\.)*(example\.com|[a-z-]+\.(example|test))"
    assert [host for host in hosts if not re.fullmatch(kept, host)] == []
    pages = {cell for row in ROWS for cell in row.values() if "linkedin.com" in cell or "crunchbase.com" in cell}
    profile = r"https://www\.(linkedin\.com/(in|company)|crunchbase\.com/organization)/[a-z-]+-example"
    assert [page for page in pages if not re.fullmatch(profile, page)] == []
    rest = {cell for row in ROWS for cell in row.values()} - {*emails, *sites, *pages}
    assert [cell for cell in rest if re.search(r"@|//|www\.|\w\.\w+/", cell)] == []


def test_phones_ring_nowhere() -> None:
    """Every number is in a range that is kept for fiction."""
    phones = [cell for row in ROWS for cell in (row["poc.phone"], row["fund.phone"]) if cell]
    assert len(phones) > 100
    assert [phone for phone in phones if not re.fullmatch(PHONES, phone)] == []


def test_names_carry_no_numbers() -> None:
    """People and funds are told apart by names that could be real, not by numbers."""
    assert not [row for row in ROWS if re.search(r"\d", "".join(row[column] for column in KEY))]


def test_contacts_share_funds_unequally() -> None:
    """About 300 titles: most have one row, some two to six, one thirty."""
    sizes = Counter(Counter(same(row["fund.title"]) for row in ROWS).values())
    assert 295 <= sum(sizes.values()) <= 305
    assert set(sizes) == {1, 2, 3, 4, 5, 6, 30}
    assert sizes[30] == 1
    assert sizes[1] > sum(sizes.values()) / 2


def test_a_tenth_of_the_rows_has_no_person() -> None:
    """Such a row says nothing in any column of a person, and each fund has one at most."""
    assert {bool(row["poc.first_name"]) == bool(row["poc.last_name"]) for row in ROWS} == {True}
    alone = [row for row in ROWS if not row["poc.last_name"]]
    assert 50 <= len(alone) <= 58
    assert not [row for row in alone if any(row[column] for column in row if column.startswith("poc."))]
    assert len({same(row["fund.title"]) for row in alone}) == len(alone)


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        ("poc.role", 45, 55),
        ("poc.email", 45, 55),
        ("poc.linkedin", 12, 18),
        ("poc.phone", 7, 15),
        ("fund.type", 75, 95),
        ("fund.email", 25, 40),
        ("fund.website", 36, 44),
        ("fund.country", 75, 95),
        ("fund.city", 52, 68),
        ("fund.sectors", 16, 24),
        ("fund.linkedin", 12, 18),
        ("fund.crunchbase", 7, 13),
        ("fund.phone", 10, 25),
        ("fund.preferred_stage", 5, 15),
    ],
)
def test_cells_are_filled_in_part(column: str, low: int, high: int) -> None:
    """Columns have gaps to fill, and cells to respect; those of a person are counted where there is one."""
    asked = [row for row in ROWS if row["poc.last_name"] or column.startswith("fund.")]
    assert low <= 100 * sum(bool(row[column]) for row in asked) / len(asked) <= high


@pytest.mark.parametrize("column", [column for column in COLUMNS.split() if column.startswith("fund.")][1:])
def test_rows_of_a_fund_agree_where_they_speak(column: str) -> None:
    """One fund has one value in each column, but for the spelling of its country; only the twins differ."""
    assert {title for title, values in told(column, spread=False).items() if len(values) > 1} <= TWINS


def test_some_rows_of_a_fund_lack_what_others_have() -> None:
    """What is known of a fund may stand in some of its rows only."""
    gaps = {
        column: sum("" in values and len(values) > 1 for values in told(column, spread=True).values())
        for column in ("fund.website", "fund.city", "fund.type")
    }
    assert min(gaps.values()) > 5, gaps


def test_countries_are_spelled_in_mixed_ways() -> None:
    """Spellings differ between funds and within one."""
    spelled = defaultdict(set)
    for row in ROWS:
        if row["fund.country"]:
            spelled[same(row["fund.title"])].add(row["fund.country"])
    used = {row["fund.country"] for row in ROWS} - {""}
    assert used <= set(SAME)
    assert {"usa", "US", "United States", "U.S.A.", "UK", "United Kingdom", "Deutschland", "Germany"} <= used
    assert sum(len(spellings) > 1 for spellings in spelled.values()) > 30


@pytest.mark.parametrize("sign", ["accent", ",", '"', "&"], ids=["accent", "comma", "quote", "ampersand"])
@pytest.mark.parametrize("who", ["person", "fund"])
def test_names_are_awkward(who: str, sign: str) -> None:
    """Accents, commas, quotes and ampersands occur in names of people and of funds."""
    columns = ("fund.title",) if who == "fund" else KEY[1:]
    names = {" ".join(row[column] for column in columns) for row in ROWS}
    awkward = [name for name in names if (re.search("[À-ž]", name) if sign == "accent" else sign in name)]
    assert len(awkward) >= (50 if sign == "accent" else 4)


def test_some_funds_are_llc() -> None:
    """A legal form may be part of a title."""
    assert sum("Llc" in title for title in {row["fund.title"] for row in ROWS}) > 10


def test_names_come_in_many_scripts() -> None:
    """People and funds are written in Greek, Cyrillic, Chinese, Arabic, Hebrew, Korean and more, not in Latin alone."""
    several = {"GREEK", "CYRILLIC", "CJK", "ARABIC", "HEBREW", "HANGUL", "DEVANAGARI", "LATIN"}
    assert several <= scripts("fund.title")
    assert several <= scripts("poc.last_name")


def test_cities_may_hold_several_places() -> None:
    """Places are joined by a semicolon, a comma, a slash or an ampersand."""
    cities = Counter(row["fund.city"] for row in ROWS)
    assert {"London; New York", "Paris, Lyon", "Berlin / Hamburg", "Zürich & Genève"} <= set(cities)
    assert sum(count for city, count in cities.items() if re.search("[;,/&]", city)) > 50


def test_an_eighth_of_the_rows_has_a_value_in_the_wrong_column() -> None:
    """About 13 %: a LinkedIn address as email, a country or a title as website."""
    kinds = Counter(misplaced(row) for row in ROWS)
    del kinds[""]
    assert 0.12 <= sum(kinds.values()) / len(ROWS) <= 0.14
    assert set(kinds) == {"LinkedIn as email", "country as website", "title as website"}
    assert min(kinds.values()) >= 20


def test_two_pairs_of_rows_have_equal_keys() -> None:
    """One pair differs in case and outer blanks, the other in nothing of the key; both in their other cells."""
    keyed = defaultdict(list)
    for row in ROWS:
        keyed[key(row)].append(row)
    assert len(keyed) == 542
    pairs = [rows for rows in keyed.values() if len(rows) > 1]
    assert sorted(len({tuple(row[column] for column in KEY) for row in rows}) for rows in pairs) == [1, 2]
    for one, other in pairs:
        assert {column for column in one if one[column] and not other[column]}
        assert {column for column in one if other[column] and not one[column]}
    blanks = [row for row in ROWS if any(cell != cell.strip() for cell in row.values())]
    assert len(blanks) == 1


def test_one_title_belongs_to_two_funds() -> None:
    """Same title, other country, website and city: no other title has two of any of them."""
    assert len(TWINS) == 1
    twins = [row for row in ROWS if same(row["fund.title"]) in TWINS]
    for column in ("fund.country", "fund.website", "fund.city"):
        assert all(row[column] for row in twins)
        assert len({row[column] for row in twins}) == 2


def test_two_stages_ask_about_790_questions() -> None:
    """One question for each different person, one for each title."""
    persons = {key(row) for row in ROWS if row["poc.last_name"]}
    titles = {same(row["fund.title"]) for row in ROWS}
    assert 780 <= len(persons) + len(titles) <= 800


def test_the_other_table_has_nothing_to_do_with_funds() -> None:
    """64 makers in 14 scripts: gaps, cells to respect, a key twice, a name twice, addresses that lead nowhere."""
    text = (DATA / "makers.csv").read_bytes().decode("utf-8")
    assert text == unicodedata.normalize("NFC", text).replace("\r", "")
    makers = read(DATA / "makers.csv")
    assert list(makers[0]) == "name town country industry employees website founded notes".split()
    assert len(makers) == 64
    assert all(row["name"] and row["country"] for row in makers)
    assert len({(row["name"].strip(), row["country"]) for row in makers}) == 63
    assert sorted(Counter(row["name"] for row in makers).values())[-2:] == [1, 2]
    assert len({unicodedata.name(sign).split()[0] for row in makers for sign in row["name"] if sign.isalpha()}) == 14
    for column in ("town", "industry", "employees", "website", "founded"):
        assert 0.5 < sum(bool(row[column].strip("-")) for row in makers) / len(makers) < 0.9, column
    sites = {row["website"] for row in makers} - {"", "-", "n/a"}
    hosts = [urlsplit(site if "//" in site else f"//{site}").hostname for site in sites]
    assert all(re.fullmatch(r"([a-z-]+\.)+example", host or "") for host in hosts)
    assert not re.search(r"fund|invest|capital|venture|@", text, re.IGNORECASE)
