"""The checkup: what looks odd about a table is told with its rows, and nothing that is fine is."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

import enrichkit
from enrichkit import Stage, errors
from enrichkit.formatting import rows_told
from enrichkit.planning.lint import odd_cells
from support.paths import TABLE
from support.tables import Company

COMPANY = Stage("company", prompt="Research {name} in {country}.", answer=Company)
ONLY_KEY = "Of what is sent, only the key is filled"


def notes(tmp_path, *, key="name", **columns):
    frame = pd.DataFrame(columns)
    return enrichkit.plan(frame, out=tmp_path / "out", stages=[COMPANY], key=key).notes


def test_the_sample_table_is_seen_through(tmp_path):
    """As data/README.md counts them: 24 LinkedIn addresses as email, 24 + 23 words as website, two equal pairs."""
    told = enrichkit.plan(pd.read_csv(TABLE, dtype=str), out=tmp_path / "out").notes
    holds = [note for note in told if " holds " in note]
    assert [note.split(" holds ")[0] for note in holds] == ["poc.email", "fund.email", "fund.website"]
    assert "and 16 more" in holds[0]  # 21
    assert "rows 28, 268 and 395:" in holds[1]  # 3
    assert "and 42 more" in holds[2]  # 47
    assert "but another fund.country, fund.city, poc.linkedin, poc.phone; only the first of them is read" in told[0]
    assert "rows 286 and 529" in told[1]
    assert any("'Nevrimere Capital' may be two" in note for note in told)
    assert len(told) == 8


@pytest.mark.parametrize(
    ("column", "cell", "due"),
    [
        ("poc.email", "https://www.linkedin.com/in/ana", "an email address is"),
        ("Email", "borealis.example", "an email address is"),
        ("e-mail", "Norway", "an email address is"),
        ("fund.website", "ana@borealis.example", "a website is"),
        ("website", "Νορβηγία", "a website is"),
        ("website", "www.linkedin.com/company/x", "a website is"),
        ("site.url", "Borealis Ventures, Inc.", "a page's address is"),
        ("fund.linkedin", "Borealis Ventures", "a page's address is"),
        ("fund.crunchbase", "+44 20 7946 0000", "a page's address is"),
        ("poc.phone", "ana@borealis.example", "a phone number is"),
        ("poc_phone", "Oslo", "a phone number is"),
        ("country", "https://borealis.example", "words are"),
        ("first name", "ana@borealis.example", "words are"),
        ("fund.title", "www.borealis.example", "words are"),
        ("CITY", "borealis.example/team", "words are"),
    ],
)
def test_a_cell_in_the_wrong_column_is_told(column, cell, due):
    """Whatever the table, by the ending of the column's name."""
    (note,) = odd_cells(column, pa.array([None, cell, "n/a"]), asked=False)
    assert note.startswith(f"{column} holds {cell!r} where {due} due, in row 2: ")


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("email", ["ana@borealis.example", "a@b.example; c@d.example", "mailto:ana@b.example", "José@b.example", "-"]),
        (
            "website",
            ["borealis.example", "http://www.borealis.example/", "żubr.example/team?x=1", "münchen.example:80"],
        ),
        ("linkedin", ["https://www.linkedin.com/in/ana", "linkedin.com/company/x", "/in/ana", "ana-aas"]),
        ("crunchbase", ["https://www.crunchbase.com/organization/x", "organization/x"]),
        ("phone", ["+44 20 7946 0000", "(212) 555-0100 ext. 7", "Tel: 020 7946", "ext. 12"]),
        ("title", ["Acme.vc", "3i Group", "1776", "Booking.com", "A/B Capital", "穹岚梓资本", "M&A, Inc."]),
        ("city", ["London; New York", "Saint-Denis", "Berlin / Hamburg"]),
        ("remarks", ["https://borealis.example", "ana@borealis.example", "Norway"]),
        ("first_name", ["Ana", "O'Dell", "明", "J.R."]),
    ],
)
def test_what_is_fine_is_not_told(column, cells):
    """Notes that cry wolf are not read."""
    assert list(odd_cells(column, pa.array(cells), asked=False)) == []


def test_rows_with_nothing_but_their_key_are_told(tmp_path):
    """Blanks are nothing, and so is what no prompt reads; nothing is told where a prompt reads the key alone."""
    told = notes(
        tmp_path, name=["Acme", "Bolt", "Cask", "Dune"], country=["Peru", " ", "Fiji", None], rank=[None, None, 3, None]
    )
    assert told == (f"{ONLY_KEY} in rows 2 and 4: answers to so little are often wrong or empty.",)
    assert notes(tmp_path, key=["name", "country"], name=["Acme"], country=["Peru"], rank=[None]) == ()


def test_odd_values_are_told(tmp_path):
    """Control characters anywhere; what a stage reads or fills also for words that say nothing, and for length."""
    told = notes(
        tmp_path,
        name=["Acme", "Bo\x00lt", "Cask"],
        country=["N/A", "Peru\nLima\t", "x" * 4001],
        remarks=["unknown", "y" * 5000, "a\x85b"],
        **{"company.industry": ["-", "Unknown", "Tea"]},
    )
    assert told == (
        "name holds control characters in row 2, such as 'Bo\\x00lt'.",
        "country is cut to its first 4,000 characters in the prompt, in row 3.",
        "country says 'N/A' in row 1, which counts as a value: empty such cells to have them filled in.",
        "remarks holds control characters in row 3, such as 'a\\x85b'.",
        "company.industry says '-' in rows 1 and 2, which counts as a value: empty such cells to have them filled in.",
    )


def test_a_long_list_is_cut_and_says_so(tmp_path):
    """A plan of a bad table must still be read in one look."""
    assert rows_told(range(1000, 3000)) == "rows 1,001, 1,002, 1,003, 1,004, 1,005 and 1,995 more".replace(
        "1,00", "100"
    )
    wide = {f"c{number}.website": ["words of no site"] for number in range(25)}
    told = notes(tmp_path, name=["Acme"], country=["Peru"], **wide)
    assert (len(told), told[-1]) == (11, "There are 15 more notes of this kind.")


def test_a_table_of_any_kind_is_checked(tmp_path):
    """Lists, numbers, dates, nothing at all."""
    told = notes(
        tmp_path,
        name=["Acme", "Bolt"],
        country=[{"code": 1}, None],
        tags=[["a"], None],
        phone=[442079460000, None],
        website=[pd.Timestamp("2026-11-24"), None],
    )
    assert told == (f"{ONLY_KEY} in row 2: answers to so little are often wrong or empty.",)


def test_rows_are_told_by_their_label_where_there_is_one(tmp_path):
    """In every note alike, as in every error."""
    frame = pd.DataFrame({"name": ["Acme", "Bolt", "Acme"], "country": ["n/a", None, "n/a"]}, index=["x", "y", "z"])
    assert enrichkit.plan(frame, out=tmp_path / "out", stages=[COMPANY], key="name").notes == (
        "1 row repeats the key of an earlier row, and shares its answers: row 3 (index 'z').",
        f"{ONLY_KEY} in row 2 (index 'y'): answers to so little are often wrong or empty.",
        "country says 'n/a' in rows 1 (index 'x') and 3 (index 'z'), which counts as a value: empty such cells to have "
        "them filled in.",
    )


def test_a_row_without_its_key_is_a_finding_of_the_plan_and_an_error_of_the_run(tmp_path):
    """The plan is for the other rows, whose numbers stay what they are."""
    frame = pd.DataFrame({"name": ["Acme", None, " ", "Bolt"], "firm": ["a", "b", None, "d"], "country": "Peru"})
    settings = {"out": tmp_path / "out", "stages": [COMPANY], "key": ["name", "firm"]}
    told = (
        "The key column 'name' is empty in rows 2 and 3. The key column 'firm' is empty in row 3. Fill it in, drop "
        "such rows, or choose another key."
    )
    found = enrichkit.plan(frame.assign(country=["Peru", "-", "-", "tbd"]), **settings)
    assert (found.rows, found.records, found.to_ask) == (4, 2, 2)
    assert found.notes[0] == f"{told} Until then run refuses this table; the plan is for its other rows."
    assert found.notes[1].startswith("country says '-' in rows 2, 3 and 4,")
    with pytest.raises(errors.InputError) as caught:
        enrichkit.run(frame, model="simulator", progress=False, **settings)
    assert str(caught.value) == told
    with pytest.raises(errors.InputError, match=r"'name' is empty in rows 1 \(index 1\) and 2 \(index 2\)"):
        enrichkit.plan(frame.iloc[1:3], **settings)  # nothing is left to plan


def test_a_table_that_is_done_is_not_checked(tmp_path):
    """There is nothing left to go wrong, and a million rows are read in seconds."""
    frame = pd.DataFrame({"name": ["Acme"], "country": ["N/A"]})
    settings = {"out": tmp_path / "out", "stages": [COMPANY], "key": "name", "model": "simulator"}
    assert len(enrichkit.plan(frame, **settings).notes) == 1
    enrichkit.run(frame, progress=False, **settings)
    assert enrichkit.plan(frame, **settings).notes == ()
