"""Frames of every kind: which are taken, and how what is wrong with one is said, with its cure."""

from __future__ import annotations

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import enrichkit
from enrichkit import Stage, errors
from support.tables import Company

PORT = Stage("port", prompt="Research {name} in {county}.", answer=Company, search=False)
CELLS = {"name": ["Holm", "Marl"], "county": ["North", "South"]}
FRAME = pd.DataFrame(CELLS)
IS_THE_INDEX = " is the index: df.reset_index() makes it a column."


def plan(frame, **settings):
    return enrichkit.plan(frame, **{"stages": [PORT], "key": "name", "out": "no-such-folder"} | settings)


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


def test_a_misspelt_answer_of_another_stage_is_known_by_its_likeness():
    """The hint knows the answers that are still to come, too."""
    later = Stage("later", prompt="Research {name}, {port.industri}.", answer=Company)
    with pytest.raises(errors.InputError, match=r"Did you mean 'port\.industry'\?"):
        plan(FRAME, stages=[PORT, later])
