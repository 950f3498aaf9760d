"""A store written before the package had wings: it opens, verifies, reports and resumes as it did then."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

import enrichkit
from enrichkit import funds
from support.paths import ROOT

OLD = ROOT / "tests" / "proof" / "old_store"
EXPECTED = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
TABLE = pd.read_csv(ROOT / "data" / "funds.csv", dtype=str).head(40)
MODEL = "gemini-3.5-flash-lite"
PINNED = {
    "poc": ("b564da7335db9c4b", "7cfba10a72a9b926"),
    "fund": ("2a46b36564de56bf", "ac781d9859ddf1a7"),
    "deep": ("5948f272de74e965", "c039dfdefbb08585"),
}


@pytest.fixture
def out(tmp_path):
    """A copy of the old store: 24 sealed records, and 12 replies of a run that was killed."""
    shutil.copytree(OLD / "store", tmp_path / "store")
    shutil.copytree(OLD / "store.work", tmp_path / "store.work")
    return tmp_path / "store"


@pytest.mark.parametrize("name", PINNED)
def test_the_built_in_stages_ask_and_read_as_they_did(name):
    """If one letter of a prompt changes, every stored answer belongs to another question."""
    stage = funds.STAGES[name]
    about = stage.about(list(TABLE.columns))
    assert (stage.question(MODEL, about), stage.reading) == PINNED[name]


def test_it_is_sound(out):
    """Every checksum holds, and every reply is where it belongs."""
    found = enrichkit.verify(out)
    assert found.ok
    assert (found.records, found.replies, found.pending) == (24, 45, 12)


def test_its_rows_read_the_same(out):
    """Every value of every column."""
    rows = json.loads(enrichkit.read(out).to_json(orient="records", date_format="iso"))
    assert rows == EXPECTED["rows"]


def test_its_report_counts_the_same(out):
    """Quality and cost, stage by stage."""
    report = json.loads(enrichkit.report(out).to_json())
    assert report["quality"] == EXPECTED["quality"]
    lines = enrichkit.costs(out)
    assert len(lines) == 57
    assert lines[["input_tokens", "output_tokens", "searches"]].sum().astype(int).to_dict() == EXPECTED["usage"]


def test_it_resumes(out):
    """The ids of questions have changed once since: its answers are kept on demand, and only the rest is asked."""
    plan = enrichkit.plan(TABLE, out=out, model="simulator")
    assert {stage.name: stage.changed for stage in plan.stages} == {"poc": 21, "fund": 24}
    settings = {"out": out, "model": "simulator", "on_change": "keep"}
    to_ask = {stage.name: stage.to_ask for stage in enrichkit.plan(TABLE, **settings).stages}
    assert to_ask == {"poc": 13, "fund": 15}
    before = set(enrichkit.costs(out)["question"])
    enriched = enrichkit.run(TABLE, shard_rows=10, progress=False, **settings)
    asked = set(enrichkit.costs(out)["question"]) - before
    assert len(asked) == sum(to_ask.values())
    assert list(enriched["_status"]) == ["done"] * len(TABLE)
