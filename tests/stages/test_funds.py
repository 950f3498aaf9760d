"""The built-in stages: what their prompts say, what their checks clean, empty and flag."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrichkit import Issue, Stage, funds
from enrichkit.reading.answer import KEEP, check_answer, read_answer
from enrichkit.reading.shape import shape_of
from enrichkit.stages.choice import arrange
from enrichkit.stages.funds import DEEP, FUND, KEY, POC, SECTORS, STAGES
from support.paths import PACKAGE

GONE = None
ANA = {"poc.first_name": "Ana", "poc.last_name": "Berg"}
EACH_STAGE = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)


def checked(stage: Stage, record: dict[str, str] | None = None, **values: Any) -> tuple[dict[str, Any], list[Issue]]:
    """Return a stage's values and issues for an answer with these values."""
    answer, _ = read_answer(stage.answer, json.dumps(values), checks=stage.checks)
    assert answer is not None
    return check_answer(answer, stage.checks, record or {})


def names(issues: list[Issue]) -> list[str]:
    """Return the checks that spoke."""
    return [issue.check for issue in issues]


# Prompts and models


def test_the_sectors_are_the_agreed_list() -> None:
    """Forty sectors, each in one spelling that no other shares."""
    assert len(SECTORS) == len(set(SECTORS)) == len({sector.replace("-", "") for sector in SECTORS}) == 40
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", sector) for sector in SECTORS)


def test_the_stages_fill_what_they_are_for() -> None:
    """The three stages write different columns, and strategy joins the fund's."""
    assert list(POC.answers) == ["poc.linkedin", "poc.role", "poc.description", "poc.phone"]
    assert list(FUND.fields) == ["linkedin", "crunchbase", "website", "city", "sectors", "preferred_stage"]
    assert list(DEEP.answers) == [
        f"fund.{name}" for name in ("description", "thesis", "portfolio_companies", "aum", "geographies", "ticket")
    ]


def test_a_table_of_titles_and_names_is_enough() -> None:
    """All other columns are hints that a table may lack; strategy comes after the fund."""
    assert [stage.name for stage in arrange([DEEP, POC, FUND], KEY)] == ["poc", "fund", "deep"]


@EACH_STAGE
def test_every_prompt_is_concrete(stage: Stage) -> None:
    """A prompt names each field it asks for and the rules that hold for all, and ends with the record."""
    assert {field for field in stage.fields if f"\n- {field}: " not in stage.prompt} == set()
    for told in ("Evidence", "null is better than a guess", "wrong column", "share a title", "{fund.country}"):
        assert told in stage.prompt
    instructions, record = stage.prompt.split("The record:\n")
    assert 10 <= instructions.count("\n") <= 25
    assert "{" not in instructions
    assert all(re.fullmatch(r"[A-Z][\w' ]*: \{[\w.]+\}", line) for line in record.splitlines())


@EACH_STAGE
def test_a_schema_uses_only_words_that_both_sdks_send(stage: Stage) -> None:
    """Type, properties, required, enum, items, anyOf with null and description, nothing else."""

    def words(schema: dict[str, Any]) -> set[str]:
        items = [schema["items"]] if "items" in schema else []
        inner = [*schema.get("properties", {}).values(), *items, *schema.get("anyOf", ())]
        return set(schema).union(*map(words, inner))

    schema = shape_of(stage.answer, where="x").schema()
    assert words(schema) <= {"type", "properties", "required", "enum", "items", "anyOf", "description"}
    assert schema["required"] == []


def test_the_table_of_checks_is_complete() -> None:
    """The module's docstring lists each check once that the stages have."""
    listed = [
        name for row in re.findall(r"(?m)^\| (`.*?) \|", funds.__doc__ or "") for name in re.findall(r"`(\w+)`", row)
    ]
    source = "".join((PACKAGE / "stages" / f"{room}.py").read_text("utf-8") for room in ("kinds", "checks", "funds"))
    names = set(re.findall(r'Issue\(\s*"[\w.]*", "(\w+)"', source)) | set(
        re.findall(r'(?:return|else) "(\w+_\w+)"', source)
    )
    assert len(listed) == len(set(listed))
    assert names - {"not_an_email", "email_cleaned", "free_mail"} <= set(listed)


# Addresses

HOSTILE = [
    "Norway",
    "Acme Capital",
    "see our site",
    "ana@acme.example",
    "https://acme.example and https://other.example",
    "javascript:alert(1)",
    "javascript://acme.example/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "ftp://acme.example",
    "mailto:ana@acme.example",
    "https://",
    "http://localhost",
    "https://192.0.2.1/fund",
    "https://[::1]/",
    "https://[",
    "https://acme.example:99999",
    "https://acme.example:8443",
    "https://acme.example@other.example",
    "https://user:secret@acme.example",
    "https://acme..example",
    "https://-acme.example",
    "https://acme_fund.example",
    "https://acme.example\\@other.example",
    'https://acme.example/"><script>',
    "https://acme.example/a\nb",
    "https://℀.example",
    "https://straße.example",
    "https://" + "a" * 64 + ".example",
    "https://acme.example/" + "a" * 10_000,
    "a." * 5_000,
    "[a" * 5_000,
    "a /  " * 2_000 + "a",
    "é" * 10_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:40]))
@pytest.mark.parametrize("field", ["website", "linkedin", "crunchbase"])
def test_what_is_no_address_is_emptied(field: str, text: str) -> None:
    """Only http and https hosts with a dot pass; the original can still be read, whatever its size."""
    values, issues = checked(FUND, **{field: text})
    assert values[field] is GONE
    assert names(issues) == ["not_a_url"]
    assert issues[0].detail.startswith(repr(text)[:100])
    assert len(issues[0].detail) <= 2000
    assert issues[0].detail.isprintable()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("acme.example", "https://acme.example"),
        ("www.acme.example/", "https://www.acme.example"),
        ("//acme.example", "https://acme.example"),
        ("http://acme.example", "https://acme.example"),
        ("HTTP://Acme.Example/Fund/", "https://acme.example/Fund"),
        ("http:acme.example", "https://acme.example"),
        ("https:// acme.example/ fund", "https://acme.example/fund"),
        ("https://acme.example:443", "https://acme.example"),
        ("https://acme.example./#team", "https://acme.example"),
        ("https://acme.example/?utm_source=x&UTM_Medium=y&gclid=1&fbclid=2&trk=z", "https://acme.example"),
        ("https://acme.example/fund?id=3&utm_campaign=x", "https://acme.example/fund?id=3"),
        ("https://München-capital.example", "https://xn--mnchen-capital-gsb.example"),
        ("https://аcme.example", "https://xn--cme-5cd.example"),
    ],
)
def test_an_address_gets_its_one_spelling(text: str, clean: str) -> None:
    """Scheme, blanks, last slash and tracking are put right; a host in other letters shows as what it is."""
    values, issues = checked(FUND, website=text)
    assert values["website"] == clean
    assert [(issue.check, issue.detail, issue.instead) for issue in issues] == [("url_cleaned", repr(text), clean)]


@pytest.mark.parametrize(
    "url", ["https://acme.example", "https://www.acme.example/fund?id=3", "https://acme.co.uk/fonds"]
)
def test_a_clean_address_is_left_alone(url: str) -> None:
    """What is right already is no issue."""
    assert checked(FUND, website=url) == ({**dict.fromkeys(FUND.fields), "website": url}, [])


@pytest.mark.parametrize(
    "url",
    [
        "https://www.linkedin.com/company/acme",
        "https://uk.linkedin.com/company/acme",
        "https://www.crunchbase.com/organization/acme",
        "https://x.com/acme",
        "https://www.facebook.com/acme",
        "https://pitchbook.com/profiles/acme",
        "https://en.wikipedia.org/wiki/Acme",
        "https://vertexaisearch.cloud.google.com/grounding-api-redirect/abc",
    ],
)
def test_somebody_elses_page_is_no_website(url: str) -> None:
    """A profile, a directory's entry or a search's redirect is about the firm, not its website."""
    values, issues = checked(FUND, website=url)
    assert (values["website"], names(issues)) == (GONE, ["not_own_website"])
    assert url in issues[0].detail


def test_a_host_that_only_ends_alike_is_its_own() -> None:
    """``netflix.com`` is not ``x.com``."""
    assert checked(FUND, website="https://netflix.com")[1] == []


def test_addresses_inside_a_portfolio_are_checked_too() -> None:
    """A company keeps what is right about it; one of which nothing is left goes, and equal ones become one."""
    companies = [
        {"name": "Kestrel", "website": "http://kestrel.example/", "sector": "N/A"},
        {"name": "Heron", "website": "https://www.linkedin.com/company/heron"},
        {"name": "Unknown", "website": "soon"},
        {"name": "Kestrel", "website": "kestrel.example"},
    ]
    values, issues = checked(DEEP, portfolio_companies=companies)
    empty = {"sector": None, "description": None}
    assert values["portfolio_companies"] == [
        {"name": "Kestrel", "website": "https://kestrel.example", **empty},
        {"name": "Heron", "website": None, **empty},
    ]
    assert names(issues) == ["url_cleaned", "not_own_website", "not_a_url"]
    assert "'http://kestrel.example/'" in issues[0].detail


# Profiles


@pytest.mark.parametrize(
    ("stage", "url"),
    [
        (POC, "https://www.linkedin.com/company/acme"),
        (POC, "https://www.linkedin.com/in"),
        (POC, "https://www.linkedin.com/posts/ana-berg_1"),
        (POC, "https://www.linkedin.com/search/results/people"),
        (POC, "https://notlinkedin.com/in/ana-berg"),
        (FUND, "https://www.linkedin.com/in/ana-berg"),
        (FUND, "https://www.linkedin.com"),
        (FUND, "https://acme.example/company/acme"),
    ],
)
def test_a_linkedin_page_of_the_wrong_kind_is_emptied(stage: Stage, url: str) -> None:
    """A person has a profile, a firm has a page, and both are on LinkedIn."""
    values, issues = checked(stage, ANA, linkedin=url)
    assert (values["linkedin"], names(issues), issues[0].detail) == (GONE, ["linkedin_kind"], repr(url))


def test_a_linkedin_page_of_the_right_kind_stays() -> None:
    """Whatever the country's subdomain; what LinkedIn hangs on behind the question mark goes."""
    values, issues = checked(FUND, linkedin="https://uk.linkedin.com/company/acme/?originalSubdomain=uk")
    assert (values["linkedin"], names(issues)) == ("https://uk.linkedin.com/company/acme", ["url_cleaned"])


@pytest.mark.parametrize(
    ("first", "last", "slug"),
    [
        ("Ana", "Berg", "ana-berg-12345"),
        ("Ana", "Berg", "aberg"),
        ("José", "Núñez", "jos%C3%A9-n%C3%BA%C3%B1ez"),
        ("José", "Núñez", "jose-x"),
        ("Jörg", "Müller", "mueller1"),
        ("Jorg", "Mueller", "müller1"),
        ("Søren", "Łoś", "soren"),
        ("Anne", "O'Dell", "odell"),
        ("", "Berg, CFA", "berg"),
        ("Li", "Wu", "wu-li"),
        ("明", "王", "ming-wang"),
        ("Мария", "Иванова", "maria-ivanova"),
        ("Мария", "Иванова", "мария-и"),
        ("Maria", "Ivanova", "%D0%BC%D0%B0%D1%80%D0%B8%D1%8F"),
        ("", "", "john-smith"),
        ("J.", "", "kim-smith"),
    ],
)
def test_a_profile_that_may_be_the_persons_is_not_flagged(first: str, last: str, slug: str) -> None:
    """One of the names is in the slug in some spelling, or the scripts differ and cannot be compared."""
    record = {"poc.first_name": first, "poc.last_name": last}
    assert checked(POC, record, linkedin=f"https://www.linkedin.com/in/{slug}")[1] == []


@pytest.mark.parametrize(
    ("first", "last", "slug"),
    [
        ("Ana", "Berg", "john-smith"),
        ("Мария", "Иванова", "пётр-сидоров"),
        ("明", "Berg", "john-smith"),
        ("J.", "Berg", "john-smith"),
    ],
)
def test_somebody_elses_profile_is_flagged_and_kept(first: str, last: str, slug: str) -> None:
    """Neither name is in the slug: perhaps a namesake's, perhaps a nickname, so a person decides."""
    url = f"https://www.linkedin.com/in/{slug}"
    values, issues = checked(POC, {"poc.first_name": first, "poc.last_name": last}, linkedin=url)
    assert (values["linkedin"], names(issues), issues[0].instead) == (url, ["linkedin_name"], KEEP)


@pytest.mark.parametrize(
    ("url", "left", "told"),
    [
        ("https://www.crunchbase.com/organization/acme", True, []),
        ("https://www.crunchbase.com/company/acme", True, []),
        ("https://www.crunchbase.com/hub/acme-investors", False, ["crunchbase_kind"]),
        ("https://www.crunchbase.com/person/ana-berg", False, ["crunchbase_kind"]),
        ("https://www.crunchbase.com/organization", False, ["crunchbase_kind"]),
        ("https://acme.example/organization/acme", False, ["crunchbase_kind"]),
    ],
)
def test_only_a_firms_crunchbase_page_passes(url: str, left: bool, told: list[str]) -> None:
    """A person's page is of no use, nor is any other kind of page."""
    values, issues = checked(FUND, crunchbase=url)
    assert (values["crunchbase"], names(issues)) == (url if left else GONE, told)


# Fields of one stage


@pytest.mark.parametrize(
    ("given", "left", "told"),
    [
        (["fintech", "ai-ml"], ["fintech", "ai-ml"], []),
        (
            ["FinTech", "Real Estate", "AI/ML", "private_equity"],
            ["fintech", "real-estate", "ai-ml", "private-equity"],
            1,
        ),
        (["E-Commerce", "ecommerce", "Crypto & Blockchain "], ["ecommerce", "crypto-blockchain"], 1),
        (["fintech", "wine"], ["fintech"], ["sector_outside"]),
        (["wine", "ПО"], None, ["sector_outside"]),
        (["Fintech", "wine", "n/a"], ["fintech"], ["sector_spelling", "sector_outside"]),
    ],
)
def test_sectors_come_from_the_list(given: list[str], left: list[str] | None, told: Any) -> None:
    """Other spellings are mapped, words outside the list go, and both are told."""
    values, issues = checked(FUND, sectors=given)
    assert (values["sectors"], names(issues)) == (left, ["sector_spelling"] if told == 1 else told)


@pytest.mark.parametrize(
    ("city", "several"),
    [
        ("London", False),
        ("Upper Osk, NY", False),
        ("Nether Osk, France", False),
        ("Frankfurt am Main", False),
        ("San Pedro Garza", False),
        ("London; New York", True),
        ("London / Paris", True),
        ("London and Paris", True),
        ("London, New York, Paris", True),
        ("上海、北京", True),
    ],
)
def test_a_city_of_several_places_is_flagged(city: str, several: bool) -> None:
    """Both the city found and the city in the record: one place is meant."""
    told = ["several_places"] if several else []
    record = {"fund.country": "france"} if "France" in city else {}
    values, issues = checked(FUND, record, city=city)
    assert (values["city"], names(issues)) == (city, told)
    assert names(checked(FUND, record | {"fund.city": city})[1]) == told


@pytest.mark.parametrize(
    ("phone", "left", "told"),
    [
        ("+44 20 7946 0000", True, []),
        ("+1 (212) 555-0100 ext. 12", True, []),
        ("+1 212 555 0100 x12", True, []),
        ("+1 212 555 0100 extension 7", True, []),
        ("call the office", False, ["phone_number"]),
        ("+1 800 FLOWERS", False, ["phone_number"]),
        ("x12", True, ["phone_number"]),
        ("555-01", True, ["phone_number"]),
        ("+44 20 7946 0000 / +44 20 7946 0001", True, ["phone_number"]),
    ],
)
def test_a_phone_can_be_dialled(phone: str, left: bool, told: list[str]) -> None:
    """Letters make it useless, but for an extension's; too few or too many digits make it doubtful."""
    values, issues = checked(POC, phone=phone)
    assert (values["phone"], names(issues)) == (phone if left else GONE, told)


@pytest.mark.parametrize(
    ("email", "website", "told"),
    [
        ("ana@acme.example", "https://www.acme.example", False),
        ("ana@mail.acme.example", "acme.example/", False),
        ("ana@acme.example", "https://fund.acme.example", False),
        ("ana@xn--mnchen-3ya.example", "https://münchen.example", False),
        ("ana@other.example", "https://acme.example", True),
        ("ana@notacme.example", "https://acme.example", True),
        ("ana@other.example", "Norway", False),
        ("ana@other.example", "https://www.linkedin.com/company/acme", False),
        ("https://www.linkedin.com/in/ana", "https://acme.example", False),
        ("", "https://acme.example", False),
    ],
)
def test_an_email_elsewhere_than_the_website_is_flagged(email: str, website: str, told: bool) -> None:
    """Both are cells of the table, so it is a note on the contact's; whatever else has slipped into the cells."""
    issues = checked(POC, {"poc.email": email, "fund.website": website})[1]
    assert [(issue.field, issue.check, issue.instead) for issue in issues] == [
        ("poc.email", "email_domain", KEEP)
    ] * told


NORRGARD = {"fund.title": "Norrgard Capital"}


@pytest.mark.parametrize(
    ("website", "cells", "told"),
    [
        ("https://norrgard.com", {}, []),
        ("https://nocap.se", {}, []),
        ("https://lofoten.com", {}, ["unlike_name"]),
        ("https://lofoten.com", {"fund.title": "穹岚梓资本"}, []),
        ("https://lofoten.com", {"poc.email": "ida@lofoten.com"}, []),
        ("https://lofoten.com", {"fund.website": "http://www.lofoten.com/en"}, []),
        ("https://lofoten.com", {"poc.email": "ida@norrgard.com"}, ["email_domain"]),
        ("https://norrgard-bakery.com", {"fund.email": "office@norrgard.com"}, ["email_domain"]),
        ("https://norr-gard.com", {"poc.email": "ida@norrgardcapital.se"}, []),
        ("https://norrgard-capital.com", {"poc.email": "ida@nocap.se"}, []),
        ("https://norrgardmusic.com", {"poc.email": "ida@nocap.se"}, ["email_domain"]),
        ("https://norr-gard.com", {"fund.title": "穹岚梓资本", "poc.email": "ida@norrgard.com"}, []),
        ("https://norrgard.com", {"poc.email": "ida@gmail.com"}, []),
        ("https://norrgard.com", {"poc.email": "ida@lofoten.com"}, []),
        ("https://lofoten.com/firms/norrgard-capital", {"poc.email": "ida@lofoten.com"}, ["unlike_name"]),
        ("https://norrgard.com/en/team/ida", {}, ["deep_page"]),
        ("https://norrgard.com/ventures", {}, []),
        ("https://medium.com", {"fund.title": "Medium Capital"}, []),
    ],
)
def test_a_website_is_held_against_title_and_cells(website: str, cells: dict[str, str], told: list[str]) -> None:
    """A lack of resemblance is a doubt only where no cell ties the site; a page about the firm is one at once."""
    values, issues = checked(FUND, NORRGARD | cells, website=website)
    assert (values["website"], [issue.check for issue in issues if issue.field == "website"]) == (website, told)
    assert all(issue.flags for issue in issues)


def test_a_profile_that_resembles_title_and_host_ties_them() -> None:
    """A firm of another brand than its title shows both on its page."""
    page = "https://www.linkedin.com/company/norrgard-quillon"
    assert checked(FUND, NORRGARD, website="https://quillon.com", linkedin=page)[1] == []


@pytest.mark.parametrize(
    ("aum", "left", "told"),
    [
        ({"value": 1.2e9, "currency": "USD", "year": 2024}, {}, 0),
        ({"value": -5.0, "currency": "USD"}, None, 1),
        ({"value": 0.0, "year": 1066}, None, 1),
        ({"value": float("nan")}, None, 0),
        ({"value": 2.5e8, "year": 2999}, {"year": None}, 1),
        ({"value": 250.0, "currency": "EUR"}, {}, 1),
        ({"value": 250.0, "year": 12}, {"year": None}, 2),
    ],
)
def test_assets_are_an_amount_of_a_year(aum: dict[str, Any], left: dict[str, Any] | None, told: int) -> None:
    """What cannot be is emptied, what looks like millions is flagged."""
    values, issues = checked(DEEP, aum=aum)
    whole = {"value": None, "currency": None, "year": None} | aum
    assert values["aum"] == (None if left is None else whole | left)
    assert len([name for name in names(issues) if name in ("aum_range", "year_range")]) == told


@pytest.mark.parametrize(
    ("ticket", "left", "told"),
    [
        ({"min": 1e6, "max": 5e6, "currency": "USD"}, {}, False),
        ({"min": 0.0, "max": 5e6}, {}, False),
        ({"min": 5e6}, {}, False),
        ({"min": 5e6, "max": 1e6}, {}, True),
        ({"min": 1.0, "max": 5.0}, {}, True),
        ({"min": -1.0, "max": 5e6}, {"min": None}, True),
    ],
)
def test_a_ticket_is_a_range(ticket: dict[str, Any], left: dict[str, Any], told: bool) -> None:
    """An end below zero goes; ends in the wrong order, or that look like millions, are flagged."""
    values, issues = checked(DEEP, ticket=ticket)
    assert values["ticket"] == {"min": None, "max": None, "currency": None} | ticket | left
    assert names(issues) == ["ticket_range"] * told


@pytest.mark.parametrize("word", ["Unknown.", "N/A.", "(not found)", "Not disclosed", "'none'", "NIL"])
def test_words_for_nothing_are_emptied(word: str) -> None:
    """A way of saying that there is no value is not one, in whatever field, list or object."""
    texts = {"thesis": word, "geographies": ["Norway", word], "ticket": {"min": 1e6, "currency": word}}
    values, issues = checked(DEEP, **texts)
    assert (values["thesis"], values["geographies"], values["ticket"]["currency"]) == (None, ["Norway"], None)
    assert issues == []


def test_issues_come_in_the_fields_order() -> None:
    """The same answer gives the same issues in every process."""
    found = [issue.field for issue in checked(FUND, linkedin="x", crunchbase="x", website="x")[1]]
    assert found == ["linkedin", "crunchbase", "website"]


# Whatever a model writes

PIECES = [
    *"http:// https: // www. . / ? & = # @ : , ; - _ % [ ] ( ) < \\ 。 linkedin.com /in/ /company/ utm_x=1".split(),
    *"crunchbase.com /person/ /organization/ acme.example xn-- é ß 王 и ½ ² İ ana Berg x12 +44 2079460000".split(),
    *("N/A", "unknown", "AI/ML", "Fin Tech", " ", " and ", "ext 3", "\x00", "\u202e", "\u0301"),
]
COLUMNS = sorted({*POC.reads, *FUND.reads, *DEEP.reads})
TEXTS = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
# Half characters too, which no answer may hold.
BROKEN = TEXTS | st.text(st.characters(exclude_categories=()), max_size=9)


def cases(texts: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[Stage, dict[str, Any], dict[str, str]]]:
    """Return stages, each with an answer's values and a record, wherever possible of these texts."""
    number = st.none() | st.floats() | st.integers(-(2**63), 2**63 - 1).map(float)
    year = st.none() | st.integers(-(2**63), 2**63 - 1)
    company = st.fixed_dictionaries({}, optional=dict.fromkeys(["name", "website", "sector"], texts))
    fields = {
        "sectors": st.lists(texts, max_size=4),
        "geographies": st.lists(texts, max_size=4),
        "portfolio_companies": st.lists(company, max_size=3),
        "aum": st.fixed_dictionaries({"value": number, "currency": texts, "year": year}),
        "ticket": st.fixed_dictionaries({"min": number, "max": number, "currency": texts}),
    }
    record = st.fixed_dictionaries({}, optional=dict.fromkeys(COLUMNS, texts))
    return st.sampled_from(list(STAGES.values())).flatmap(
        lambda stage: st.tuples(
            st.just(stage),
            st.fixed_dictionaries({name: st.none() | fields.get(name, texts) for name in stage.fields}),
            record,
        )
    )


@settings(max_examples=400, deadline=None)
@given(cases(BROKEN))
def test_no_check_ever_raises(case: tuple[Stage, dict[str, Any], dict[str, str]]) -> None:
    """Whatever text stands in an answer or a record, each check speaks only of a field, under its own name."""
    stage, values, record = case
    answer = stage.answer.model_construct(**values)  # unvalidated: dictionaries, half characters and all
    for check in stage.checks:
        for issue in check(answer, record):
            assert issue.field in {*stage.fields, "poc.email", "fund.city"}
            assert len(issue.detail) < 2500
            issue.detail.encode()


@settings(max_examples=400, deadline=None)
@given(cases(TEXTS))
def test_cleaning_twice_is_cleaning_once(case: tuple[Stage, dict[str, Any], dict[str, str]]) -> None:
    """What the checks have left passes them unchanged: no issue cleans or empties again."""
    stage, values, record = case
    first, _ = checked(stage, record, **values)
    again, issues = checked(stage, record, **first)
    assert [issue for issue in issues if issue.instead is not KEEP] == []
    assert repr(again) == repr(first)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_whatever_passes_as_an_address_is_a_plain_one(text: str) -> None:
    """https, a host of ASCII labels with a dot, no user-info, no blank, nothing that could end an attribute."""
    for stage, field in ((POC, "linkedin"), (FUND, "website"), (FUND, "crunchbase"), (FUND, "linkedin")):
        answer = stage.answer.model_construct(**{field: text} if text else {})
        url = check_answer(answer, stage.checks, {})[0][field]
        assert url is None or re.fullmatch(r"https://([a-z0-9-]+\.)+[a-z0-9-]{2,}(?=[/?]|$)[^\s<>\"\\]*", url), url
        assert url is None or url.isprintable()


@EACH_STAGE
@pytest.mark.parametrize("piece", ["a", " ", "/", "x", "[", "é", "https://", "a.", " and ", "1", "(", "\x00", "王;"])
def test_a_huge_text_costs_little_time(stage: Stage, piece: str) -> None:
    """Ten thousand characters in every field and cell are checked at once."""
    text = piece * (10_000 // len(piece))
    values = {name: [text] * 3 if name in ("sectors", "geographies") else text for name in stage.fields}
    values |= dict.fromkeys({"aum", "ticket", "portfolio_companies"} & values.keys())
    began = time.thread_time()
    check_answer(stage.answer.model_construct(**values), stage.checks, dict.fromkeys(COLUMNS, text))
    assert time.thread_time() - began < 2
