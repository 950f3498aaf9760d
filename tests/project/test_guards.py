"""The guards: what is refused before anything is asked or written, by Python and by the command line in one sentence.

The sentence is the same, with the settings spelled in each face's own way.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import enrichkit
from enrichkit.cli.flags import shell
from enrichkit.errors import EnrichError
from enrichkit.formatting import spelled
from enrichkit.reporting.tablefiles import read_sheet
from support.calls import enrich

ROWS = "fund.title,fund.country\nBorealis,Norway\nTern,Peru\n"
TABLES = {
    "hot": ("_status", "\nhot"),
    "notes": ("fund._notes", "\nmine"),
    "words": ("_status", "\ndone"),
    "level": ("fund._confidence", "\nsure"),
    "ids": ("_record_id", "\n7"),
}
"""Tables with a column of the user's own that a run writes, and what stands there."""


@pytest.fixture
def folder(tmp_path, monkeypatch, simulator):
    """A folder with tables, and a store of one answered record; commands run in it."""
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text(ROWS, "utf-8")
    for name, (column, cells) in TABLES.items():
        frame = read_sheet("data.csv")
        frame[column] = [*cells.splitlines(), ""][:2]
        frame.to_csv(f"{name}.csv", index=False)
    Path("none.csv").write_text("fund.title\n", "utf-8")
    Path("keyless.csv").write_text("fund.title,fund.country\nBorealis,Norway\n,Peru\n", "utf-8")
    Path("letters").mkdir()
    Path("letters/letter.txt").write_text("Dear Sir", "utf-8")
    enrich("run", "--input", "data.csv", "--stages", "fund", "--limit", 1, "--checkpoint", "store", "--output", "o.csv")
    return tmp_path


RUN_GUARDS = [
    ({"out": "letters"}, "other things in it, such as letter.txt. Choose another 'out', or move them away"),
    ({"out": "data.csv"}, "is a file. The store is a folder: choose another 'out'"),
    ({"out": "store.work/x"}, "is or lies in a work area"),
    ({"out": "store/x"}, "lies in the store"),
    ({"out": "."}, "holds 1 store: store. Name one."),
    ({"out": "x" * 300}, "cannot be a store's folder: File name too long"),
    ({"out": "new", "retry_failed": "only"}, "There is nothing to retry: no store at"),
    ({"out": "store", "key": "fund.country"}, "identifies records by fund.title, this call by fund.country"),
    ({"out": "new", "shard_rows": 0}, "shard_rows must be a whole number above 0, not 0"),
    ({"out": "store", "model": "gemini-3.5-flash"}, "The question has changed"),
    ({"out": "new", "key": "fund.tilte"}, "Did you mean 'fund.title'?"),
    ({"out": "new", "stages": ["fnud"]}, "Did you mean 'fund'?"),
    ({"out": "new", "priority": "size"}, "The priority column 'size' is not in the table"),
    ({"out": "new", "names": {"fund.title": "Firm"}}, "the table has no column 'Firm'"),
    ({"out": "new", "workers": 21}, "must be a whole number from 1 to 20"),
    ({"out": "new", "model": "mine", "budget_usd": 5.0}, "without that price it cannot be held"),
    ({"out": "new", "table": "none.csv"}, "The table has no rows."),
    ({"out": "new", "table": "keyless.csv"}, "The key column 'fund.title' is empty in row 2"),
    ({"out": "new", "table": "o.csv"}, "The table has answers of an earlier run in its cells ('fund._status' is"),
    ({"out": "new", "table": "hot.csv"}, "of its own: 'hot' in row 2. Rename that column, or drop it."),
    ({"out": "new", "table": "words.csv"}, "A run writes into '_status', where the table has something of its own: 'd"),
    ({"out": "new", "table": "notes.csv"}, "A run writes into 'fund._notes', where the table has something of its"),
    ({"out": "new", "table": "level.csv"}, "'sure' in row 2"),
    ({"out": "new", "table": "ids.csv"}, "A run writes into '_record_id', where"),
]
FLAGS = shell() | {"out": "--checkpoint", "table": "--input"}


def arguments(settings):
    """Spell settings for the command line."""
    for name, value in settings.items():
        text = "=".join(*value.items()) if name == "names" else ",".join(value) if name == "stages" else value
        yield from [FLAGS[name]] if value == "only" else [FLAGS[name], text]


def test_a_run_is_refused_alike_in_python_and_on_the_command_line(folder, simulator):
    """24 guards, two faces: 48 refusals, each with its cure; no request, nothing written."""
    asked, before = simulator.counts()["requests"], sorted(folder.rglob("*"))
    for settings, said in RUN_GUARDS:
        given = {"table": "data.csv", "stages": ["fund"], **settings}
        frame = read_sheet(given["table"])
        with pytest.raises(EnrichError) as raised:
            enrichkit.run(frame, **{name: value for name, value in given.items() if name != "table"}, progress=False)
        assert said in str(raised.value)
        told = enrich("run", *arguments(given), "--output", "new.csv", code=2)
        assert told.endswith(f"enrichkit: {spelled(raised.value.sentence, shell())}\n"), told
    assert (simulator.counts()["requests"], sorted(folder.rglob("*"))) == (asked, before)


def test_a_file_is_refused_alike(folder, simulator):
    """An export never takes the place of the input, of a store or of a folder."""
    for path, said in {
        "data.csv": "data.csv is the input of the run. Write it elsewhere.",
        "store/all.csv": "is, or lies in, the store's folder",
        "store.work/all.csv": "is, or lies in, the store's folder",
        "letters.csv": "letters.csv cannot be written: it is a folder. Name another file.",
        "all.pdf": "the suffix '.pdf' is not known",
        "o.csv/all.csv": "cannot be written",
    }.items():
        Path("letters.csv").mkdir(exist_ok=True)
        with pytest.raises(EnrichError, match=said) as raised:
            enrichkit.export("store", path)
        assert enrich("export", "store", path, code=2) == f"enrichkit: {raised.value}\n"
    told = enrich("run", "--input", "data.csv", "--stages", "fund", "--output", "letters.csv", code=2)
    assert told == "enrichkit: letters.csv cannot be written: it is a folder. Name another file.\n"


def test_what_a_run_wrote_is_no_column_of_ones_own(folder, simulator):
    """Its output may be given again, whole or read back, and so may what is worth another look."""
    asked = simulator.counts()["requests"]
    once = enrichkit.run(read_sheet("data.csv"), stages=["fund"], out="store", progress=False)
    for frame in (once, read_sheet("o.csv"), enrichkit.read("store"), enrichkit.trust.weak("store")):
        again = enrichkit.run(frame, stages=["fund"], out="store", progress=False)
        assert set(again["_status"]) == {"done"}
    kept = once.drop(columns=["_status", "fund._status"])
    kept["_status"] = pd.Series(["", None], dtype=object)  # an empty column is nobody's
    assert enrichkit.plan(kept, stages=["fund"], out="other").to_ask == 2
    assert simulator.counts()["requests"] == asked + 1
