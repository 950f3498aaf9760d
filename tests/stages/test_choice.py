"""What a call asks, and under which names: a prompt and its fields, columns of one's own, names that are mapped."""

from __future__ import annotations

import inspect

import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Stage
from enrichkit.errors import EnrichError
from support.clients import Teller
from support.tables import Company

DF = pd.DataFrame({"Fund Name": ["Tern", "Osk"], "Country": ["Peru", None], "Website": ["tern.example", None]})
ASK = {"prompt": "Research {Fund Name}.", "fields": {"industry": str}}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fields": {"a": str}}, "prompt and fields go together"),
        ({"prompt": "Where is {Fund Name}?"}, "prompt and fields go together"),
        (ASK | {"stages": ["fund"]}, "not both"),
        (ASK | {"fields": ["industry"]}, "fields must map names to types"),
        (ASK | {"fields": {"industry": "str"}}, "'industry' needs a type, such as str, int"),
        (ASK | {"fields": {"industry": (str, 1)}}, "'industry' needs a type"),
        (ASK | {"fields": {"industry": pd.DataFrame}}, "field 'industry' has the type <class 'pandas.DataFrame'>"),
        (ASK | {"fields": {"home town": str}}, "No field can be named 'home town'"),
        (ASK | {"fields": {"_x": str}}, "No field can be named '_x'"),
        (ASK | {"fields": {"model_dump": str}}, "No field can be named 'model_dump'"),
        (ASK | {"fields": {}}, "asks for no field"),
        (ASK | {"prompt": "Where is the firm?"}, "names no column"),
        (
            ASK | {"prompt": "Where is {Fund name}?"},
            "Did you mean 'Fund Name'? Correct the name, or map it by names",
        ),
        ({"prompt": "Is {Country} right?", "fields": {"Country": str}}, "prompt reads 'Country', which is also one of"),
        (ASK | {"fields": {"Website": str}, "key": "Website"}, "fill the column 'Website', which is in the key"),
        (ASK | {"fields": {"shard": str}}, "fill the column 'shard', which is a run's own"),
        ({"stages": ["fund"]}, "Its columns: Fund Name, Country, Website. Did you mean 'Fund Name'?"),
        ({"stages": ["fund"], "names": {"fund.titel": "Fund Name"}}, "'fund.titel'. Did you mean 'fund.title'?"),
        ({"stages": ["fund"], "names": {"fund.title": "fund name"}}, "no column 'fund name'. Did you mean 'Fund Name'"),
        ({"stages": ["fund"], "names": {"fund.title": "Country", "fund.country": "Country"}}, "one column two names"),
        (
            ASK | {"fields": {"Country": str}, "names": {"Country": "Website"}},
            "and both would be 'Country'. Drop or rename one.",
        ),
        ({"stages": ["fund"], "names": ["fund.title"]}, "names must be a mapping"),
    ],
)
def test_what_cannot_work_is_one_clear_sentence(settings, words, tmp_path):
    """Before anything is asked or written, by `plan` as by `run`."""
    for verb in (enrichkit.plan, enrichkit.run):
        with pytest.raises(EnrichError) as raised:
            verb(DF, out=tmp_path / "out", model="simulator", **settings)
        assert words in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_column_that_runs_write_is_no_key(tmp_path):
    with pytest.raises(EnrichError, match="key column '_why' is one that runs write"):
        enrichkit.run(DF.assign(_why="x"), out=tmp_path / "out", model="simulator", **ASK | {"key": "_why"})


def test_a_model_class_may_stand_for_the_fields(tmp_path):
    """Where one wants descriptions, checks or nesting."""
    client = Teller()
    settings = {"client": client, "model": "m", "out": tmp_path / "out", "progress": False}
    filled = enrichkit.run(DF, prompt="Research {Fund Name}.", fields=Company, **settings)
    assert filled["industry"].tolist() == ["Tea", "Tea"]
    assert filled.columns.tolist()[:4] == [*DF.columns, "industry"]
    again = enrichkit.run(DF, **ASK, **settings)  # the same question, however it is given
    assert len(client.asked) == 2
    pd.testing.assert_frame_equal(again, filled)


def test_a_description_is_told_to_the_model(tmp_path):
    """The second part of a field's pair."""
    asked = []
    settings = {"model": "m", "out": tmp_path / "out", "progress": False, "limit": 1}
    client = Teller()
    fields = {"staff": (int, "At the head office."), "town": str}
    prompt = "Research {Fund Name}."
    enrichkit.run(DF, prompt=prompt, fields=fields, client=lambda r: (asked.append(r.schema), client(r))[1], **settings)
    assert asked[0]["properties"]["staff"]["description"] == "At the head office."


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"town": "Town"}, "columns must map fields of its answer to columns, not 'town' to 'Town'."),
        ({"industri": "X"}, "Did you mean 'industry'?"),
        ({"industry": " "}, "not 'industry' to ' '"),
        ({"industry": 3}, "not 'industry' to 3"),
        (["industry"], "columns must be a prefix, or map fields to columns"),
    ],
)
def test_columns_that_mean_nothing_are_refused(columns, words):
    """When the stage is made."""
    with pytest.raises(EnrichError) as raised:
        Stage("company", prompt="Research {name}.", answer=Company, columns=columns)
    assert words in str(raised.value)


def test_where_an_answer_goes_is_part_of_the_reading_alone():
    """By another column the stored replies are read again; the question stays."""
    stages = [
        Stage("company", prompt="Research {name}.", answer=Company, columns=columns)
        for columns in (None, "", "x", {"industry": "Industry"})
    ]
    assert [list(stage.answers) for stage in stages] == [
        ["company.industry"],
        ["industry"],
        ["x.industry"],
        ["Industry"],
    ]
    assert len({stage.reading for stage in stages}) == len(set(stages)) == 4
    assert len({stage.question("m", ("name",)) for stage in stages}) == 1


def test_every_verb_over_a_table_takes_them():
    """`plan`, `run` and `start`."""
    for verb in (enrichkit.plan, enrichkit.run, enrichkit.start):
        assert {"prompt", "fields", "names"} <= inspect.signature(verb).parameters.keys()


def test_what_the_stages_call_otherwise_is_mapped_both_ways(tmp_path):
    """A user's table keeps its names: gaps filled, nothing renamed, no column but the documented ones."""
    names = {"fund.title": "Fund Name", "fund.country": "Country", "fund.website": "Website"}
    own = {"out": tmp_path / "own", "model": "simulator", "stages": ["fund"], "progress": False, "names": names}
    job = enrichkit.start(DF, key="Fund Name", priority=lambda table: [1, len(table["Fund Name"])], workers=1, **own)
    rows, filled = list(job), job.result()
    assert rows[0]["Fund Name"] == "Osk"  # of the highest priority
    by_hand = DF.rename(columns={own: name for name, own in names.items()})
    same = enrichkit.run(by_hand, out=tmp_path / "same", model="simulator", stages=["fund"], progress=False)
    pd.testing.assert_frame_equal(filled.rename(columns={own: name for name, own in names.items()}), same)
    assert filled.columns.tolist() == [
        *DF.columns,
        *(f"fund.{field}" for field in ("linkedin", "crunchbase", "city", "sectors", "preferred_stage")),
        *("_status", "fund._status", "fund._confidence"),
    ]
    assert filled["Website"].tolist() == ["tern.example", "https://osk.example"]
    assert {"fund.title", "fund.website"} <= set(enrichkit.read(tmp_path / "own").columns)
    assert enrichkit.plan(DF, **own).to_ask == 0


def test_a_new_column_may_have_any_name(tmp_path):
    """Mapped to a field, where it is not a column of the table misspelt."""
    call = ASK | {"out": tmp_path / "out", "client": Teller(), "model": "m", "progress": False}
    made = enrichkit.run(DF, names={"industry": "What they do"}, **call)
    assert made["What they do"].tolist() == ["Tea", "Tea"]
    assert enrichkit.run(made, names={"industry": "What they do"}, **call).equals(made)
    with pytest.raises(EnrichError, match="Did you mean 'Website'"):
        enrichkit.run(DF, names={"industry": "Web site"}, **call)


def test_the_answer_may_fill_what_is_there(tmp_path):
    """A filled cell stays, with a correction; a gap gets the answer; nothing else is added."""

    class Town(Answer):
        town: str | None = None

    stage = Stage("port", prompt="Where is the port {name}?", answer=Town, columns={"town": "Town"})
    df = pd.DataFrame({"name": ["Holm", "Marl", "Osk"], "Town": ["North", None, ""]})
    settings = {
        "client": Teller(otherwise='{"town": "South"}'),
        "model": "m",
        "out": tmp_path / "out",
        "progress": False,
    }
    filled = enrichkit.run(df, stages=[stage], key="name", **settings)
    assert filled["Town"].tolist() == ["North", "South", "South"]
    assert filled.columns.tolist() == ["name", "Town", "_status", "port._status", "port._confidence"]
    assert enrichkit.trust.corrections(tmp_path / "out")[["column", "old", "new"]].values.tolist() == [
        ["Town", "North", "South"]
    ]
