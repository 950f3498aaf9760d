"""Frames of every kind: which are taken, and how what is wrong with one is said, with its cure."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import enrichkit
from enrichkit import Stage, errors
from enrichkit.reporting.tablefiles import read_sheet
from enrichkit.table.arrow import as_table
from support.clients import Teller
from support.tables import Company

PORT = Stage("port", prompt="Research {name} in {county}.", answer=Company, search=False)
CELLS = {"name": ["Holm", "Marl"], "county": ["North", "South"]}
FRAME = pd.DataFrame(CELLS)
IS_THE_INDEX = " is the index: df.reset_index() makes it a column."


def plan(frame, **settings):
    return enrichkit.plan(frame, **{"stages": [PORT], "key": "name", "out": "no-such-folder"} | settings)


def run(frame, tmp_path, **settings):
    settings = {
        "stages": [PORT],
        "out": tmp_path / "out",
        "client": Teller(),
        "model": "m",
        "progress": False,
    } | settings
    return enrichkit.run(frame, **settings)


@pytest.mark.parametrize("frame", [pl.DataFrame(CELLS), pa.table(CELLS)], ids=["polars", "arrow"])
def test_a_frame_of_another_kind_is_taken(frame, tmp_path, simulator):
    """What has `to_pandas` is; pandas is returned."""
    settings = {"stages": [PORT], "key": "name", "out": tmp_path / "out", "model": "simulator", "progress": False}
    enriched = enrichkit.run(frame, **settings)
    assert isinstance(enriched, pd.DataFrame)
    assert enriched["_status"].tolist() == ["done", "done"]
    assert enriched["county"].tolist() == CELLS["county"]
    assert enrichkit.start(frame, **settings).result().equals(enriched)
    assert [type(piece) for piece in enrichkit.batches(frame, 1)] == [pd.DataFrame] * 2
    assert plan(frame, out=tmp_path / "out", model="simulator").to_ask == 0


def test_frames_of_odd_shape_are_taken():
    """Columns that are no text are named by their text; an index of several levels is no more than labels."""
    numbers = FRAME.set_axis([0, 1], axis="columns")
    levels = FRAME.set_axis(pd.MultiIndex.from_product([["a"], FRAME.columns]), axis="columns")
    for frame, first, second in [(numbers, "0", "1"), (levels, "('a', 'name')", "('a', 'county')")]:
        stage = Stage("port", prompt=f"Research {{{first}}} in {{{second}}}.", answer=Company)
        assert plan(frame, stages=[stage], key=first).to_ask == 2
    assert plan(FRAME.set_index(pd.MultiIndex.from_tuples([("x", 1), ("x", 2)]))).to_ask == 2


@pytest.mark.parametrize(
    ("frame", "settings", "words"),
    [
        (pd.DataFrame(), {}, "The table has no columns."),
        (FRAME[:0], {}, "The table has no rows."),
        (FRAME[["name"]].set_index("name"), {}, f"The table has no columns. 'name'{IS_THE_INDEX}"),
        (FRAME.set_index("county"), {}, f"Its columns: name. 'county'{IS_THE_INDEX}"),
        (FRAME.set_index("name", drop=False).drop(columns="name"), {}, f"'name'{IS_THE_INDEX}"),
        (FRAME.assign(rank=1).set_index(["rank"]), {"priority": "rank"}, f"not in the table. 'rank'{IS_THE_INDEX}"),
        (FRAME.rename_axis("fund.title"), {"key": None}, f"'fund.title'{IS_THE_INDEX}"),
        (FRAME, {"key": "nmae"}, "The key column 'nmae' is not in the table. Its columns: name, county. Did you mean"),
        (FRAME, {"key": ["name", "COUNTY"]}, "Did you mean 'county'?"),
        (FRAME, {"key": "crew"}, "The key column 'crew' is not in the table. Its columns: name, county."),
        (FRAME, {"priority": "contry"}, "The priority column 'contry' is not in the table. Did you mean 'county'?"),
        (FRAME, {"stages": ["found"]}, "Built in: poc, fund, deep; or give a Stage. Did you mean 'fund'?"),
        (FRAME.rename(columns={"county": "County "}), {}, "Its columns: name, County . Did you mean 'County '?"),
        (pd.concat([FRAME, FRAME["name"]], axis="columns"), {}, "The table has more than one column named 'name'."),
        (FRAME["name"], {}, "Give a pandas DataFrame, not Series: its to_frame() makes one."),
        (pl.Series(CELLS["name"]), {}, "Give a pandas DataFrame, not Series: its to_frame() makes one."),
        (pl.LazyFrame(CELLS), {}, "Give a pandas DataFrame, not LazyFrame: its collect() makes one."),
        ([{"name": "Holm"}], {}, "Give a pandas DataFrame, not list: pd.DataFrame(...) or pd.read_csv(...) makes one."),
        (CELLS, {}, "Give a pandas DataFrame, not dict: pd.DataFrame(...)"),
        ("ports.csv", {}, "Give a pandas DataFrame, not str: pd.DataFrame(...)"),
        (None, {}, "Give a pandas DataFrame, not NoneType: pd.DataFrame(...)"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_cure(frame, settings, words):
    """In a sentence, before anything is asked."""
    with pytest.raises((errors.InputError, errors.StageError)) as caught:
        plan(frame, **settings)
    assert words in str(caught.value)
    assert "Rename" not in str(caught.value) or "reset_index" not in str(caught.value)


NAMES = {"name": "Port Name", "county": "Lies in"}
OWN = FRAME.rename(columns=NAMES)


@pytest.mark.parametrize(
    ("frame", "settings", "words"),
    [
        (OWN.assign(**{"Port Name": ["Holm", None]}), {}, "The key column 'Port Name' is empty in row 2."),
        (OWN, {"key": "Crew"}, "'Crew' is not in the table. Its columns: Port Name, Lies in."),
        (OWN, {"key": "Prot name"}, "Did you mean 'Port Name'?"),
        (OWN, {"key": ["Port Name", "name"]}, "key must name at least one column, and each once."),
        (OWN, {"priority": "Port Name"}, "priority must be numbers, the highest asked first"),
        (OWN, {"priority": "Lies on"}, "Did you mean 'Lies in'?"),
        (OWN.assign(**{"Lies in": [1j, 2j]}), {}, "Column 'Lies in' holds a value of type complex in row 1"),
        (
            OWN[["Port Name"]],
            {"names": {"name": "Port Name"}},
            "Its columns: Port Name. Correct the name, or map it",
        ),
        (OWN.set_index("Lies in"), {}, f"the table has no column 'Lies in'. 'Lies in'{IS_THE_INDEX}"),
        (OWN.assign(name="Osk"), {}, "the table has the columns 'name' and 'Port Name', and both would be 'name'."),
        (
            OWN.assign(**{"Port Name": "Holm"}),
            {"key": "Port Name"},
            "the key 'Holm', but another Lies in, which stage 'port' asks about. Give key=['Port Name', 'Lies in']",
        ),
    ],
)
def test_what_is_said_of_a_table_under_names_of_its_own_has_these(frame, settings, words, tmp_path):
    """Not those that the stages know its columns by; the cure can be typed as it stands."""
    with pytest.raises(errors.InputError, match=re.escape(words)):
        run(frame, tmp_path, **{"names": NAMES, "key": "Port Name"} | settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("own", [(0, 1), (("a", "name"), ("a", "county")), ("{x}", "a:b\nc")], ids=str)
def test_columns_of_any_name_are_mapped(own, tmp_path):
    """Numbers, levels, and what no prompt can have in braces; what is missing is said in their names, too."""
    frame, names = FRAME.set_axis(pd.Index(own), axis="columns"), dict(zip(CELLS, own, strict=True))
    assert run(frame, tmp_path, names=names, key="name")[[*own]].to_numpy().tolist() == FRAME.to_numpy().tolist()
    with pytest.raises(errors.InputError, match=re.escape(f"Its columns: {own[0]}, {own[1]}.")):
        plan(frame, names=names, key="crew")


def test_what_looks_odd_about_a_table_has_its_own_names(tmp_path):
    """The notes of a plan, and what has changed since an answer was stored."""
    settings = {"names": NAMES, "key": "Port Name", "out": tmp_path / "out"}
    [note] = plan(OWN.assign(**{"Lies in": ["n/a", "South"]}), **settings).notes
    assert note.startswith("Lies in says 'n/a' in row 1")
    run(OWN, tmp_path, **settings)
    [note] = plan(OWN.assign(**{"Lies in": ["North", "East"]}), model="m", **settings).notes
    assert "(row 2: Lies in 'South' → 'East')" in note


@pytest.mark.parametrize(
    "cells",
    [
        [
            pd.Timestamp("2026-01-01", tz="Europe/Oslo"),
            pd.Timestamp("2026-01-01", tz="UTC"),
            pd.Timestamp("2026-01-01"),
        ],
        [np.array([1, 2]), np.array(["a"]), ["b", 1]],
        [{"b": 1, "a": 2}, {"a": 1}, {}],
        [{"b": 1}, {"b": 2}, "b"],
    ],
    ids=["zones", "lists", "objects", "mixed"],
)
def test_a_key_of_any_kind_of_cell_is_known_again(cells, tmp_path):
    """What is stored of it says the same: nothing is asked twice, and the store is sound."""
    frame, client = pd.DataFrame({"name": pd.Series(cells, dtype=object)}), Teller()
    stage = Stage("port", prompt="Research {name}.", answer=Company, search=False)
    for _ in range(2):
        made = run(frame, tmp_path, stages=[stage], key="name", client=client)
        assert made["_status"].tolist() == ["done"] * 3
    assert (len(client.asked), enrichkit.verify(tmp_path / "out").ok) == (3, True)


def test_times_of_several_zones_keep_theirs():
    """One type of column has one zone: as text each keeps its own."""
    cells = [pd.Timestamp("2026-01-01 12:00", tz="Europe/Oslo"), pd.Timestamp("2026-01-01 12:00", tz="UTC")]
    table = as_table(pd.DataFrame({"at": pd.Series(cells, dtype=object)}))
    assert table.column("at").to_pylist() == ["2026-01-01 12:00:00+01:00", "2026-01-01 12:00:00+00:00"]


def test_lists_of_a_table_with_any_column_names(tmp_path):
    """A key column that is called like one of a list's own stands there as `key.…`; a label of any kind is fine."""
    frame = pd.DataFrame({"answer": ["Holm"], "new": ["x"], "industry": ["Tea room"]}, index=pd.DatetimeIndex(["2026"]))
    made = run(frame, tmp_path, stages=None, prompt="Research {answer} of {new}.", fields={"industry": str})
    for listed in (enrichkit.trust.corrections(tmp_path / "out"), enrichkit.trust.corrections(tmp_path / "out", frame)):
        assert listed[["key.answer", "key.new", "old", "new"]].values.tolist() == [["Holm", "x", "Tea room", "Tea"]]
    assert enrichkit.trust.evidence(tmp_path / "out")["answer"].tolist() == ["Tea"]
    for suffix in ("csv", "xlsx"):
        enrichkit.export(made, tmp_path / f"made.{suffix}")
        assert read_sheet(tmp_path / f"made.{suffix}")["answer"].tolist() == ["Holm"]


def test_a_misspelt_answer_of_another_stage_is_known_by_its_likeness():
    """The hint knows the answers that are still to come, too."""
    later = Stage("later", prompt="Research {name}, {port.industri}.", answer=Company)
    with pytest.raises(errors.InputError, match=r"Did you mean 'port\.industry'\?"):
        plan(FRAME, stages=[PORT, later])
