"""The lists of a store as commands: corrections, weak records and evidence, in a file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import enrichkit
from enrichkit.reporting.tablefiles import read_sheet
from support.calls import enrich

LISTS = {name: getattr(enrichkit.trust, name) for name in ("corrections", "weak", "evidence")}
ROWS = """fund.title,fund.city,fund.linkedin
=Acme,Oslo,none
=Borealis,Oslo,none
穹岚梓资本株式会社投資事業有限責任組合,上海; 北京,none
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, simulator):
    """A folder with a store whose answers differ from its cells, one of them failed; commands run in it."""
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text(ROWS, "utf-8")
    simulator.script = ["safety"]
    enrich("run", "--input", "data.csv", "--stages", "fund", "--checkpoint", "store", "--max-workers", 1, code=1)
    return tmp_path


def test_each_list_is_written_as_csv_parquet_and_excel(folder):
    """As Python's lists are exported; what a model wrote is safe against formulas, and the user's cells stay."""
    for name, listed in LISTS.items():
        frame = listed("store")
        for suffix in ("csv", "parquet", "xlsx"):
            told = enrich(name, "store", f"{name}.{suffix}")
            assert told == f"Written: {name}.{suffix} ({len(frame)} row{'s' * (len(frame) != 1)})\n"
            enrichkit.export(frame, f"python.{suffix}")
            written = read_sheet(f"{name}.{suffix}")
            assert written.columns.tolist() == frame.columns.tolist()
            assert written.equals(read_sheet(f"python.{suffix}"))
    assert read_sheet("corrections.csv")["fund.title"].tolist()[0] == "=Borealis"
    frame = pd.DataFrame({"fund.title": ["Acme"], "new": ["=1+1"]})
    frame.attrs = LISTS["corrections"]("store").attrs
    enrichkit.export(frame, "safe.csv")
    assert read_sheet("safe.csv")["new"].tolist() == ["'=1+1"]


def test_a_list_without_rows_is_a_file_without_rows(folder):
    """Yesterday's file does not stay."""
    enrich("run", "--input", "data.csv", "--stages", "deep", "--checkpoint", "other")
    for suffix in ("csv", "parquet", "xlsx", "jsonl"):
        file = f"corrections.{suffix}"
        assert enrich("corrections", "other", file) == f"Written: {file} (0 rows)\n"
        assert read_sheet(file).empty


def test_what_is_weak_can_be_run_again(folder):
    """The written list is a table of the user's own columns: another model may look at it in a store of its own."""
    enrich("weak", "store", "weak.csv")
    enrich("run", "--input", "weak.csv", "--stages", "deep")
    enriched = read_sheet("weak_enriched.csv")
    assert enriched[["fund.title", "_why", "_status"]].to_numpy().tolist()[0] == [
        "=Acme",
        "fund failed: blocked: SAFETY",
        "done",
    ]


def test_a_list_that_cannot_be_written_is_refused(folder):
    """2, and the sentence says what to do."""
    Path("folder.csv").mkdir()
    for arguments, said in {
        ("store", "data.csv"): "data.csv is the input of the run. Write it elsewhere.",
        ("store", "folder.csv"): "folder.csv cannot be written: it is a folder. Name another file.",
        ("store", "store/x.csv"): "is, or lies in, the store's folder",
        ("store", "x.pdf"): "the suffix '.pdf' is not known",
        ("nothing", "x.csv"): "There is no store at",
        ("store", "x.csv", "--oput", "x.csv"): "has no argument '--oput'.",
    }.items():
        for name in LISTS:
            assert said in enrich(name, *arguments, code=2)
    assert "enrichkit run has no argument '--workers'. Did you mean '--max-workers'?" in enrich(
        "run", "--input", "data.csv", "--workers", 5, code=2
    )
