"""Whose pages are behind a value, and what other records say against it."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Stage, trust
from enrichkit.messages import Reply, Source, Support
from enrichkit.stages.addresses import is_register
from enrichkit.trust.pages import BANDS, Names

REDIRECT = "https://vertexaisearch.cloud.google.com/grounding-api-redirect/AUZIYQ12"


class Office(Answer):
    site: str | None = None
    profile: str | None = None
    phone: str | None = None
    mail: str | None = None
    town: str | None = None
    tags: list[str] | None = None


PER_FIRM = Stage("office", prompt="Research {Firm}.", per=("Firm",), answer=Office)
PER_PERSON = Stage("office", prompt="Find {First name} {Last name} of {Firm}.", answer=Office)
KEY = ("Firm", "First name", "Last name")


def answered(tmp_path, rows, stage=PER_FIRM, key=KEY):
    """Run a stage over a table; each row has its answer under "answer", and the pages of fields under "pages"."""
    frame = pd.DataFrame([{name: row.get(name) for name in (*key, "Homepage", "Mail")} for row in rows])
    by_prompt = [(tuple(f"⟦{row[name]}⟧" for name in stage.about(frame.columns)), row) for row in rows]

    def client(request):
        row = next(row for marks, row in by_prompt if all(mark in request.text for mark in marks))
        text, titles = json.dumps(row.get("answer", {}), ensure_ascii=False), row.get("pages", {})
        listed = [title for each in titles.values() for title in each]
        supports, number = [], 0
        for name, pages in titles.items():
            written = json.dumps(row["answer"][name], ensure_ascii=False)
            start = len(text[: text.index(written, text.index(f'"{name}"'))].encode())
            places = tuple(range(number, number + len(pages)))
            supports.append(Support(start, start + len(written.encode()), places))
            number += len(pages)
        sources = tuple(Source(f"{REDIRECT}{place}", title) for place, title in enumerate(listed))
        return Reply(text=text, sources=sources, supports=tuple(supports), model_version="mine")

    settings = {"stages": [stage], "key": key, "client": client, "model": "m", "progress": False}
    enrichkit.run(frame, out=tmp_path / "out", **settings)
    return tmp_path / "out"


def seen(out, column="office.site"):
    """Return the doubts of a column, by who its records are about."""
    found = trust.evidence(out)
    found = found[(found["column"] == column) & (found["state"] != "not_found")]
    names = found[[name for name in KEY if name in found]].agg(lambda row: " ".join(row.dropna()), axis=1)
    return dict(zip(names, found["doubts"], strict=True))


def firms(sites, **cells):
    """Return rows of firms with the sites that are answered for them."""
    return [{"Firm": firm, "answer": {"site": site}} | cells.get(firm, {}) for firm, site in sites.items()]


# Whose page -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "link", "page", "own"),
    [
        ("kelm.no", REDIRECT, "kelm.no (own site)", True),
        (" www.Kelm.no", REDIRECT, "kelm.no (own site)", True),
        ("invest.kelm.no", REDIRECT, "invest.kelm.no (own site)", True),
        ("Our team", "https://www.kelm.no/team", "kelm.no (own site)", True),
        ("norrgard-capital.vc", REDIRECT, "norrgard-capital.vc (own site)", True),
        ("lofoten.no", REDIRECT, "lofoten.no (the site of Lofoten Partners)", False),
        ("news.lofoten.no", REDIRECT, "news.lofoten.no (the site of Lofoten Partners)", False),
        ("dealweekly.press", REDIRECT, "dealweekly.press (other)", False),
        ("linkedin.com", REDIRECT, "linkedin.com (LinkedIn)", False),
        ("x", "https://no.linkedin.com/company/norrgard", "linkedin.com/company/norrgard (own LinkedIn)", True),
        ("x", "https://www.linkedin.com/in/ida-berg-12", "linkedin.com/in/ida-berg-12 (own LinkedIn)", True),
        ("x", "https://www.linkedin.com/in/ole-lund", "linkedin.com/in/ole-lund (LinkedIn)", False),
        ("brreg.no", REDIRECT, "brreg.no (register)", True),
        ("crunchbase.com", REDIRECT, "crunchbase.com (other)", False),
        ("Norrgård Capital\n | Home", REDIRECT, "Norrgård Capital | Home (headline, host not given)", False),
        (None, REDIRECT, "no title (headline, host not given)", False),
        ("Team", None, "Team (headline, host not given)", False),
        ("Team", "javascript:alert(1)", "Team (headline, host not given)", False),
    ],
)
def test_a_page_is_told_by_its_title_and_its_owner(title, link, page, own):
    """The host of a cell, or one that resembles the title; a redirect says nothing."""
    sites = {"kelm.no": ("Norrgård Capital",), "lofoten.no": ("Lofoten Partners",)}
    names = Names(["Norrgård Capital"], ["Ida Berg"], sites, {})
    told = names.page(names.firms[0], names.people[0], title, link, whole=False)
    assert (str(told), told.own) == (page, own)


@pytest.mark.parametrize(
    "host", "sec.gov service.gov.uk fma.gv.at amf.gouv.fr fsa.go.jp admin.ch handelsregister.de ec.europa.eu".split()
)
def test_registers_are_known_by_a_rule(host):
    """Governments by their ends, and a short list beside."""
    assert is_register(host)


@pytest.mark.parametrize(
    "host", "gov.capital cargo.de go.com companyregisterhub.com register.example notbrreg.no".split()
)
def test_what_only_sounds_like_a_register_is_none(host):
    """Anybody may call a site so."""
    assert not is_register(host)


def test_evidence_tells_pages_links_and_bands(tmp_path):
    """Columns are known by their cells, whatever they are called; a link is only behind its page."""
    answer = {"site": "https://www.kelm.no", "town": "Oslo", "phone": "+47 22 41 33 10", "mail": "post@kelm.no"}
    pages = {"site": ["kelm.no", "dealweekly.press"], "town": ["dealweekly.press"], "phone": ["lofoten.no"]}
    rows = [
        {"Firm": "Norrgård", "Mail": "ida@kelm.no", "answer": answer, "pages": pages},
        {"Firm": "Lofoten", "Homepage": "lofoten.no"},
    ]
    out = answered(tmp_path, rows, key=("Firm",))
    found = trust.evidence(out)
    found = found[found["Firm"] == "Norrgård"].set_index("column")
    assert found["pages"].map(list).to_dict() == {
        "office.site": ["kelm.no (own site)", "dealweekly.press (other)"],
        "office.profile": [],
        "office.phone": ["lofoten.no (the site of Lofoten)"],
        "office.mail": [],
        "office.town": ["dealweekly.press (other)"],
        "office.tags": [],
    }
    assert found.loc["office.site", "links"] == [f"{REDIRECT}0", f"{REDIRECT}1"]
    bands = {"site": BANDS[0], "phone": BANDS[3], "mail": BANDS[2], "town": BANDS[1]}
    assert found["band"].dropna().to_dict() == {f"office.{name}": band for name, band in bands.items()}
    shown = trust.dossier(out, found["_record_id"].iloc[0])
    assert "kelm.no (own site)" in str(shown)
    assert "vertexaisearch" not in str(shown)
    assert f'href="{REDIRECT}0"' in shown._repr_html_()
    assert not re.search(r">[^<]*vertexaisearch", shown._repr_html_())


@pytest.mark.parametrize(
    ("marked", "state", "doubts"),
    [
        ('"tea", "salt"', "supported", ["no page behind 1 of 3 items"]),
        ('"tea"', "unsupported", ["no page behind 2 of 3 items"]),
        ('["tea", "salt", "fish"]', "supported", []),
    ],
)
def test_a_list_backed_in_part_says_so(tmp_path, marked, state, doubts):
    """It is no reason to look at the record again."""
    text = '{"tags": ["tea", "salt", "fish"], "town": "Oslo"}'
    support = Support(text.index(marked), text.index(marked) + len(marked), (0,))
    reply = Reply(text=text, sources=(Source(REDIRECT, "kelm.no"),), supports=(support,), model_version="m")
    settings = {"stages": [PER_FIRM], "key": "Firm", "client": lambda _: reply, "model": "m", "progress": False}
    enrichkit.run(pd.DataFrame({"Firm": ["Norrgård"]}), out=tmp_path / "out", **settings)
    found = trust.evidence(tmp_path / "out").set_index("column").loc["office.tags"]
    assert (found["state"], found["doubts"], found["pages"]) == (state, doubts, ["kelm.no (other)"])
    assert trust.weak(tmp_path / "out").empty


def test_a_page_behind_the_whole_answer_says_so(tmp_path):
    """Its mark is about no value of its own."""
    text = '{"site": "https://www.kelm.no", "town": "Oslo"}'
    reply = Reply(
        text=text, sources=(Source(REDIRECT, "kelm.no"),), supports=(Support(0, len(text), (0,)),), model_version="m"
    )
    settings = {"stages": [PER_FIRM], "key": "Firm", "client": lambda _: reply, "model": "m", "progress": False}
    enrichkit.run(pd.DataFrame({"Firm": ["Kelm"]}), out=tmp_path / "out", **settings)
    found = trust.evidence(tmp_path / "out").set_index("column")["pages"]
    assert found["office.town"] == ["kelm.no (own site; whole answer)"]


def test_corrections_with_the_best_pages_come_first(tmp_path):
    """A page of the firm's own before another's, and that before none."""
    pages = {"A": [], "B": ["dealweekly.press"], "C": ["kelm.no"], "D": ["sec.gov"]}
    rows = [
        {"Firm": firm, "Homepage": f"{firm.lower()}-one.no", "Mail": "ole@kelm.no" if firm == "C" else None}
        | {"answer": {"town": "Oslo"}, "pages": {"town": listed} if listed else {}}
        for firm, listed in pages.items()
    ]
    stage = Stage("office", prompt="Research {Firm}.", per=("Firm",), answer=Office, columns={"town": "Mail"})
    for row in rows:
        row["Mail"] = row["Mail"] or "nobody@nowhere.no"
    out = answered(tmp_path, rows, stage, key=("Firm",))
    ordered = trust.corrections(out)["Firm"].tolist()
    assert (set(ordered[:2]), ordered[2:]) == ({"C", "D"}, ["B", "A"])


# One address for several ------------------------------------------------------------------------------------------


def test_one_site_for_several_firms_is_doubtful(tmp_path):
    """But not for the firm whose name it has, nor where their titles resemble each other."""
    sites = {
        "Kelm Capital": "https://www.lofoten.no",
        "Lofoten Partners": "https://lofoten.no/",
        "Osk Invest": "https://LOFOTEN.no",
        "Marl Fund I": "https://www.vant.no",
        "Marl Fund II": "https://vant.no",
        "Sund AS": "https://sund.no",
    }
    out = answered(tmp_path, firms(sites), key=("Firm",))
    assert seen(out) == {
        "Kelm Capital": ["also given for Lofoten Partners and 1 more"],
        "Lofoten Partners": [],
        "Osk Invest": ["also given for Lofoten Partners and 1 more"],
        "Marl Fund I": [],
        "Marl Fund II": [],
        "Sund AS": [],
    }
    found = trust.evidence(out).query("column == 'office.site'").set_index("Firm")
    assert found.loc["Kelm Capital", ["state", "band"]].tolist() == ["doubtful", "doubted"]
    assert set(trust.weak(out)["Firm"]) == {"Kelm Capital", "Osk Invest"}
    assert set(trust.weak(out)["_why"]) == {"office.site also given for Lofoten Partners and 1 more"}
    quality = enrichkit.report(out).quality
    assert (quality.states["office.site"]["doubtful"], quality.states["office.site"]["unsupported"]) == (2, 4)
    assert [(issue.name, issue.count) for issue in quality.issues] == [("several_firms", 2)]


def test_the_firm_in_whose_cells_an_address_stands_keeps_it(tmp_path):
    """Whatever it is called; and a cell of the table is never doubted."""
    rows = firms({"Kelm": "https://vant.no", "Osk": "https://vant.no", "Marl": "https://vant.no"})
    rows[0]["Mail"] = "ida@vant.no"
    out = answered(tmp_path, rows, key=("Firm",))
    assert {firm: len(doubts) for firm, doubts in seen(out).items()} == {"Kelm": 0, "Osk": 1, "Marl": 1}
    stage = Stage("office", prompt="Research {Firm}.", per=("Firm",), answer=Office, columns={"site": "Homepage"})
    rows = firms({"Kelm": "https://vant.no", "Osk": "https://vant.no"})
    rows[0]["Homepage"] = "https://vant.no"
    out = answered(tmp_path / "own", rows, stage, key=("Firm",))
    assert {firm: len(doubts) for firm, doubts in seen(out, "Homepage").items()} == {"Kelm": 0, "Osk": 1}


@pytest.mark.parametrize(
    ("column", "one", "other", "doubted"),
    [
        ("profile", "https://www.linkedin.com/company/vant", "https://www.linkedin.com/company/vant", True),
        ("profile", "https://www.linkedin.com/company/vant", "https://www.linkedin.com/company/vanta", False),
        ("phone", "+47 22 41 33 10", "+47 (22) 41-33-10", True),
        ("phone", "+47 22 41 33 10", "+47 22 41 33 11", False),
        ("mail", "post@vant.no", "Post@vant.no", True),
        ("town", "Oslo", "Oslo", False),
    ],
)
def test_profiles_numbers_and_mails_are_addresses_too(tmp_path, column, one, other, doubted):
    """In any spelling; a town is none."""
    rows = [{"Firm": firm, "answer": {column: value}} for firm, value in {"Kelm": one, "Osk": other}.items()]
    out = answered(tmp_path, rows, key=("Firm",))
    assert [bool(doubts) for doubts in seen(out, f"office.{column}").values()] == [doubted] * 2


@pytest.mark.parametrize(
    ("people", "column", "value", "doubted"),
    [
        (["Kelm Ida Berg", "Osk Ole Lund"], "profile", "https://www.linkedin.com/in/x7731a", 2),
        (["Kelm Ida Berg", "Kelm Ole Lund"], "profile", "https://www.linkedin.com/in/x7731a", 2),
        (["Kelm Ida Berg", "Kelm Ole Lund"], "profile", "https://www.linkedin.com/in/ole-lund", 1),
        (["Kelm Ida Berg", "Osk Ida Berg"], "profile", "https://www.linkedin.com/in/x7731a", 0),
        (["Kelm Ida Berg", "Kelm Ole Lund"], "phone", "+47 22 41 33 10", 0),
        (["Kelm Ida Berg", "Osk Ole Lund"], "phone", "+47 22 41 33 10", 2),
        (["Kelm Ida Berg", "Kelm Ole Lund"], "site", "https://vant.no", 0),
    ],
)
def test_people_share_a_switchboard_and_no_profile(tmp_path, people, column, value, doubted):
    """A profile is one person's, of whatever firm; a number or a site is their firm's."""
    rows = [dict(zip(KEY, person.split(), strict=True)) | {"answer": {column: value}} for person in people]
    out = answered(tmp_path, rows, PER_PERSON)
    assert sum(map(len, seen(out, f"office.{column}").values())) == doubted


# Contacts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mails", "doubt"),
    [
        (["a@osk.no", "b@osk.no", "c@osk.no"], "3 of 3 contacts write from osk.no"),
        (["a@osk.no", "b@osk.no", "c@vant.no"], "2 of 3 contacts write from osk.no"),
        (["a@osk.no", "b@vant.no", "c@mail.vant.no"], None),
        (["a@osk.no", "b@vant.no"], None),
        (["a@osk.no"], None),
        (["a@gmail.com", "b@gmail.com", "c@outlook.com"], None),
        (["a@gmail.com", "b@osk.no", "c@osk.no"], "2 of 2 contacts write from osk.no"),
        (["a@vantcapital.no", "b@vantcapital.no"], None),
        (["a@vant.com", "b@vant.com"], None),
        ([None, None], None),
    ],
)
def test_a_site_that_most_contacts_do_not_write_from_is_doubtful(tmp_path, mails, doubt):
    """One odd address is no reason, nor one where anybody may be; nor is another end of the same name."""
    people = [f"{name} Berg" for name in ("Ida", "Ole", "Eva")]
    rows = [
        dict(zip(KEY, ["Kelm Capital", *person.split()], strict=True))
        | {"Mail": mail, "answer": {"site": "https://www.vant.no"}}
        for person, mail in zip(people, mails, strict=False)
    ]
    out = answered(tmp_path, rows)
    assert list(seen(out).values()) == [[doubt] if doubt else []] * len(mails)


# Another firm's page ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pages", "doubt"),
    [
        (["lofoten.no"], "only page: lofoten.no, the site of Lofoten Partners"),
        (["www.Lofoten.no"], "only page: lofoten.no, the site of Lofoten Partners"),
        (["news.lofoten.no"], "only page: news.lofoten.no, the site of Lofoten Partners"),
        (["lofoten.no", "lofoten.no"], "only page: lofoten.no, the site of Lofoten Partners"),
        (["lofoten.no", "dealweekly.press"], None),
        (["kelm.no"], None),
        (["dealweekly.press"], None),
        (["atlas.io"], None),
        (["lofoten.com"], None),
    ],
)
def test_a_value_whose_only_page_is_another_firms_is_doubtful(tmp_path, pages, doubt):
    """A page besides helps, and a directory in many rows is nobody's site."""
    rows = [
        {"Firm": "Kelm Capital", "answer": {"town": "Oslo", "tags": None}, "pages": {"town": pages}},
        {"Firm": "Lofoten Partners", "Homepage": "https://www.lofoten.no/"},
        *({"Firm": firm, "Homepage": "https://atlas.io/x"} for firm in ("Osk", "Marl", "Sund")),
    ]
    out = answered(tmp_path, rows, key=("Firm",))
    assert seen(out, "office.town") == {"Kelm Capital": [doubt] if doubt else []}


def test_a_table_without_names_or_addresses_has_no_such_doubts(tmp_path):
    """Numbers as a key, and a table of one column."""
    stage = Stage("office", prompt="Where is {id}?", answer=Office)
    frame = pd.DataFrame({"id": [1, 2, 3]})
    reply = Reply(text='{"site": "https://vant.no", "phone": "+47 22 41 33 10"}', model_version="m")
    settings = {"stages": [stage], "key": "id", "client": lambda _: reply, "model": "m", "progress": False}
    enrichkit.run(frame, out=tmp_path / "out", **settings)
    found = trust.evidence(tmp_path / "out")
    assert found["doubts"].map(len).sum() == 0
    assert set(found["band"].dropna()) == {"no page"}
