"""Decisions of a person: what they change, for whom they hold, and what they outlive."""

from __future__ import annotations

import datetime
import enum
import json
import shutil
from typing import Annotated

import pandas as pd
import pytest
from pydantic import BaseModel

import enrichkit
from enrichkit import Answer, Issue, Stage, checks, errors, trust
from enrichkit.messages import Reply, Usage
from enrichkit.store.files import work_area
from support.calls import enrich


class Lab(Answer):
    city: str | None = None
    founded: int | None = None
    topics: list[str] | None = None


class Grade(enum.Enum):
    GOOD, FAIR = "good", "fair"


class Head(BaseModel):
    name: str | None = None


class House(Answer):
    opened: list[datetime.date] | None = None
    rooms: list[int] | None = None
    head: Head | None = None
    grade: Grade | None = None


def no_future(answer, record):
    """Empty a year to come."""
    if (answer.founded or 0) > 2100:
        yield Issue("founded", "to_come", str(answer.founded), instead=None)


LAB = Stage("lab", prompt="Research {name}.", answer=Lab, checks=(no_future,), search=False)
TABLE = pd.DataFrame(
    {"name": ["Norrgard", "Lofoten", "Tern"], "lab.city": ["Bergen", None, "Turku"], "person": ["Ida", "Bo", "Li"]},
    index=["x", "y", "z"],
)
ANSWERS = {
    "Norrgard": {"city": "Oslo", "founded": 1999, "topics": ["tea, green", "salt"]},
    "Lofoten": {"city": "Svolvær", "founded": 2999, "topics": ["fish"]},
    "Tern": {"city": "Turku", "founded": 2001, "topics": ["birds"]},
}


def asking(answers):
    """Return a client that answers so, and counts."""

    def client(request):
        client.asked += 1
        name = next(name for name in answers if f"⟦{name}⟧" in request.text)
        return Reply(text=json.dumps(answers[name]), usage=Usage(prompt_tokens=9, output_tokens=9))

    client.asked = 0
    return client


def run(out, df=TABLE, stages=(LAB,), answers=ANSWERS, **more):
    """Enrich a table, one record after the other; what is asked is answered so."""
    more = {"key": "name", "out": out, "client": asking(answers), "progress": False, "shard_rows": 2} | more
    more = {"model": "m", "workers": 1} | more
    return enrichkit.run(df, stages=list(stages), **more)


@pytest.fixture
def out(tmp_path):
    """A store that is done."""
    run(tmp_path / "out")
    return tmp_path / "out"


def of(out, name, column, stage="lab"):
    """Return the evidence of one answer."""
    fields = trust.evidence(out)
    return fields[(fields["name"] == name) & (fields["column"] == f"{stage}.{column}")]


def decided(out, name, column):
    """Return what the evidence says was decided about an answer."""
    value = of(out, name, column)["decision"].iloc[0]
    return None if pd.isna(value) else value


def told(df, column="lab.city"):
    """Return a column of a table as plain text, empty where it is missing."""
    return ["" if value is None or value is pd.NA or value != value else value for value in df[column]]  # noqa: PLR0124


def test_a_right_answer_takes_the_place_of_the_cell_it_was_held_against(out):
    """So a correction is accepted: run asks nothing, read and export have it, too, and it is listed no more."""
    assert trust.decide(out, trust.corrections(out).head(8), "right") == 1
    assert told(run(out, client=asking({}))) == ["Oslo", "Svolvær", "Turku"]
    assert sorted(told(enrichkit.read(out))) == ["Oslo", "Svolvær", "Turku"]
    enrichkit.export(out, out.with_name("t.csv"))
    assert sorted(told(pd.read_csv(out.with_name("t.csv")))) == ["Oslo", "Svolvær", "Turku"]
    assert trust.corrections(out).empty
    assert trust.corrections(out, TABLE).empty
    assert (decided(out, "Norrgard", "city"), of(out, "Norrgard", "city")["state"].iloc[0]) == ("right", "unsupported")


def test_a_cell_of_ones_own_is_told_also_where_the_answer_is_the_same(out):
    """That is no correction; decided to be wrong, it stands, and a frame kept from before shows no change."""
    assert of(out, "Tern", "city")[["answer", "cell"]].to_numpy().tolist() == [["Turku", "Turku"]]
    assert of(out, "Lofoten", "city")["cell"].isna().all()
    assert trust.corrections(out)["name"].tolist() == ["Norrgard"]
    trust.decide(out, of(out, "Tern", "city"), "wrong")
    assert told(run(out))[2] == "Turku"
    assert trust.changes(trust.evidence(out), out).empty


def test_a_correction_that_a_check_flagged_is_accepted_too(tmp_path):
    """It is listed no more, though what the check said of it stays."""

    def odd(answer, record):
        yield Issue("city", "odd", "an odd place")

    stage = Stage("lab", prompt="Research {name}.", answer=Lab, checks=(odd,), search=False)
    run(tmp_path / "out", stages=[stage])
    trust.decide(tmp_path / "out", trust.corrections(tmp_path / "out"), "right")
    assert trust.corrections(tmp_path / "out").empty
    assert of(tmp_path / "out", "Norrgard", "city")[["state", "decision"]].to_numpy().tolist() == [
        ["doubtful", "right"]
    ]
    assert told(run(tmp_path / "out", stages=[stage]))[0] == "Oslo"


def test_a_wrong_answer_goes_and_a_filled_cell_stands(out):
    """What the answer filled is empty again; nothing else changes."""
    assert trust.decide(out, pd.concat([of(out, "Lofoten", "city"), of(out, "Norrgard", "city")]), "wrong") == 2
    assert told(run(out)) == ["Bergen", "", "Turku"]
    assert sorted(told(enrichkit.read(out))) == ["", "Bergen", "Turku"]
    assert trust.corrections(out).empty
    assert decided(out, "Lofoten", "city") == "wrong"
    assert of(out, "Lofoten", "city")["answer"].iloc[0] == "Svolvær"


def test_a_value_stands_whatever_the_answer_and_the_cell_are(out):
    """It comes in the column's type."""
    assert trust.decide(out, of(out, "Norrgard", "city"), value="Ålesund") == 1
    assert trust.decide(out, of(out, "Norrgard", "founded"), value="1987.0") == 1
    assert trust.decide(out, of(out, "Tern", "topics"), value=["owls, snowy", "gulls"]) == 1
    after = run(out)
    assert told(after) == ["Ålesund", "Svolvær", "Turku"]
    assert after["lab.founded"].tolist()[0] == 1987
    assert list(after["lab.topics"]) == [["tea, green", "salt"], ["fish"], ["owls, snowy", "gulls"]]
    assert of(out, "Norrgard", "city")[["state", "answer", "cell", "decision"]].to_numpy().tolist() == [
        ["conflict", "Oslo", "Ålesund", "value"]
    ]
    assert trust.corrections(out).empty


def test_an_emptied_answer_may_be_right(out):
    """A person may know better than a check."""
    assert pd.isna(run(out)["lab.founded"].tolist()[1])
    trust.decide(out, of(out, "Lofoten", "founded"), "right")
    assert run(out)["lab.founded"].tolist() == [1999, 2999, 2001]
    assert decided(out, "Lofoten", "founded") == "right"


def test_unsure_changes_nothing_and_takes_back(out):
    """Of two decisions about an answer, the newer one counts."""
    before = run(out)
    trust.decide(out, of(out, "Norrgard", "city"), "unsure")
    pd.testing.assert_frame_equal(run(out), before)
    for verdict, city in (("right", "Oslo"), ("wrong", "Bergen"), ("right", "Oslo"), ("unsure", "Bergen")):
        trust.decide(out, of(out, "Norrgard", "city"), verdict)
        assert told(run(out))[0] == city
        assert decided(out, "Norrgard", "city") == verdict
    trust.decide(out, of(out, "Norrgard", "city"), value="Ålesund")
    trust.decide(out, of(out, "Norrgard", "city"), "wrong")
    assert told(run(out))[0] == "Bergen"


def test_verdicts_and_values_may_stand_in_the_rows(out, tmp_path):
    """As a sheet brings them back; rows with neither are left undecided. A guarded number is no formula."""
    cells = trust.evidence(out).assign(verdict=None, value=None)
    cells.loc[cells["column"] == "lab.city", "verdict"] = ["Right ", "wrong", ""]
    cells.loc[cells["column"] == "lab.founded", "value"] = ["1987", None, None]
    enrichkit.export(cells, tmp_path / "cells.csv")
    assert "3 decisions" in enrich("decide", out, tmp_path / "cells.csv")
    after = run(out)
    assert (told(after), after["lab.founded"].tolist()[0]) == (["Oslo", "", "Turku"], 1987)


WRONG = {
    "no such word": ({"verdict": "rihgt"}, r"Row 1, 'verdict': 'rihgt' is not one of .*Did you mean 'right'\?"),
    "no such record": ({"_record_id": "1f", "verdict": "right"}, r"Row 1, '_record_id': .* has no sealed record '1f'"),
    "no such column": ({"column": "lab.town", "verdict": "right"}, r"Row 1, 'column': no stage .* 'lab\.town'"),
    "does not fit": ({"column": "lab.founded", "value": "old"}, r"Row 1, 'value': 'old' does not fit 'lab\.founded'"),
    "no number": ({"column": "lab.founded", "value": 1987.5}, r"'1987\.5' does not fit"),
    "no value": ({"verdict": "value"}, r"Row 1, 'value': it is empty"),
    "right and a value": ({"verdict": "right", "value": "Bodø"}, r"Row 1 has the verdict 'right', and a value too"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_decided_is_told_by_row_and_column(case, out):
    """Then nothing is stored."""
    change, message = WRONG[case]
    sound = of(out, "Tern", "city").assign(verdict="right", value=None)
    bad = of(out, "Norrgard", "city").assign(verdict=None, value=None).assign(**change)
    with pytest.raises(errors.InputError, match=message):
        trust.decide(out, pd.concat([bad, sound], ignore_index=True))
    assert not (work_area(out) / "decisions").exists()


def test_rows_that_contradict_each_other_are_refused(out):
    """Two contacts of a firm share its answers."""
    cell = of(out, "Norrgard", "city")
    with pytest.raises(errors.InputError, match=r"Rows 1 and 2 do not agree about the same answer, to 'lab\.city'"):
        trust.decide(out, pd.concat([cell, cell], ignore_index=True).assign(verdict=["right", "wrong"]))
    with pytest.raises(errors.InputError, match="lack the column '_record_id'"):
        trust.decide(out, cell.drop(columns="_record_id"), "right")
    with pytest.raises(errors.InputError, match="more than one column 'verdict'"):
        trust.decide(
            out, pd.concat([cell.assign(verdict="right"), pd.Series(["wrong"], cell.index, name="verdict")], axis=1)
        )
    with pytest.raises(errors.InputError, match="has the verdict 'right', and a value too"):
        trust.decide(out, cell, "right", value="Bodø")


def test_a_decision_holds_for_every_record_that_shares_the_question(tmp_path):
    """Also one that comes later; but a cell that nobody looked at stands, and is still a correction."""
    table = pd.DataFrame({"name": ["Norrgard"] * 3, "person": ["Ida", "Bo", "Li"], "lab.city": [None, "Moss", None]})
    kw = {"key": ["name", "person"], "stages": [Stage("lab", prompt="{name}", per=("name",), answer=Lab, search=False)]}
    out = tmp_path / "out"
    run(out, table.head(2), **kw)
    trust.decide(out, of(out, "Norrgard", "city").head(1), value="Bodø")
    with pytest.warns(UserWarning, match=r"row 2, column 'lab\.city' is not the one .* and stands"):
        assert told(run(out, table, client=asking({}), **kw)) == ["Bodø", "Moss", "Bodø"]
    trust.decide(out, of(out, "Norrgard", "city").head(1), "right")
    assert trust.corrections(out)["old"].tolist() == ["Moss"]
    trust.decide(out, trust.corrections(out), "right")
    assert told(run(out, table, client=asking({}), **kw)) == ["Oslo"] * 3


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("column", ["name", "fund.title"])
def test_case_is_ignored_where_the_stage_ignores_it(column, fold, tmp_path):
    """Whatever the columns are called, in run's table, in what is read and in the shards."""
    table = pd.DataFrame({column: ["Norrgard", "NORRGARD"], "person": ["Ida", "Li"]})
    stage = Stage("lab", prompt=f"{{{column}}}", per=(column,), answer=Lab, search=False, ignore_case=fold)
    kw = {"key": [column, "person"], "stages": [stage], "answers": {key: {"city": "Oslo"} for key in table[column]}}
    run(tmp_path / "out", table, **kw)
    fields = trust.evidence(tmp_path / "out")
    trust.decide(tmp_path / "out", fields[(fields[column] == "Norrgard") & (fields["column"] == "lab.city")], "wrong")
    cities = ["", "" if fold else "Oslo"]
    assert told(run(tmp_path / "out", table, **kw)) == cities
    for stored in (enrichkit.read(tmp_path / "out"), pd.read_parquet(tmp_path / "out")):
        assert told(stored.set_index(column).loc[table[column]]) == cities


def test_a_decision_does_not_hold_for_another_question_about_the_record(tmp_path):
    """A firm that has moved is asked about anew."""
    table = pd.DataFrame({"name": ["Norrgard"], "land": ["NO"]})
    kw = {"stages": [Stage("lab", prompt="{name}, {land}", per=("name", "land"), answer=Lab, search=False)]}
    run(tmp_path / "out", table, **kw)
    trust.decide(tmp_path / "out", of(tmp_path / "out", "Norrgard", "city"), value="Bodø")
    assert told(run(tmp_path / "out", table, **kw)) == ["Bodø"]
    assert told(run(tmp_path / "out", table.assign(land="SE"), on_change="redo", **kw)) == ["Oslo"]
    assert told(enrichkit.read(tmp_path / "out")) == ["Oslo"]


class Firm(Answer):
    land: Annotated[str | None, checks.country()] = None
    tags: list[str] | None = None
    staff: dict[str, str] | None = None


FIRM = {
    "stages": [Stage("firm", prompt="{name}", answer=Firm, search=False)],
    "answers": {"Norrgard": {"land": "Norway", "tags": ["tea, green", "salt"], "staff": {"head": "Ida"}}},
}


def test_lists_and_objects_are_decided_as_they_are(tmp_path):
    """Also in place of the table's own, of which a correction shows a text alone."""
    table = pd.DataFrame({"name": ["Norrgard"], "firm.tags": [["gulls"]]})
    run(tmp_path / "out", table, **FIRM)
    trust.decide(tmp_path / "out", trust.corrections(tmp_path / "out"), "right")
    trust.decide(tmp_path / "out", of(tmp_path / "out", "Norrgard", "staff", "firm"), value={"head": "Bo"})
    for after in (run(tmp_path / "out", table, **FIRM), enrichkit.read(tmp_path / "out")):
        assert list(after["firm.tags"][0]) == ["tea, green", "salt"]
        assert dict(after["firm.staff"][0]) == {"head": "Bo"}
    trust.decide(tmp_path / "out", of(tmp_path / "out", "Norrgard", "staff", "firm"), "wrong")
    assert told(run(tmp_path / "out", table, **FIRM), "firm.staff") == [""]
    trust.decide(tmp_path / "out", of(tmp_path / "out", "Norrgard", "staff", "firm"), "right")
    after = run(tmp_path / "out", table, **FIRM)
    assert dict(after["firm.staff"][0]) == {"head": "Ida"}
    trust.decide(tmp_path / "out", of(tmp_path / "out", "Norrgard", "staff", "firm"), "wrong")
    assert told(run(tmp_path / "out", after[["name", "firm.staff"]], **FIRM), "firm.staff") == [""]


def test_parts_of_a_decided_value_have_their_types_or_are_refused(tmp_path):
    """Arrow would leave out a date that is text, a field of another name, and half of a number."""
    lab = Stage("lab", prompt="Research {name}.", answer=House)
    answer = {"opened": ["1999-01-02"], "rooms": [1, 2], "head": {"name": "Ida"}, "grade": "fair"}
    table, answers = pd.DataFrame({"name": ["Norrgard"]}), {"Norrgard": answer}
    run(tmp_path / "out", table, [lab], answers)
    sound = {"opened": "2001-02-03, 2004-05-06", "rooms": "[3, 4]", "head": {"name": "Bo"}, "grade": Grade.GOOD}
    for column, value in sound.items():
        assert trust.decide(tmp_path / "out", of(tmp_path / "out", "Norrgard", column), value=value) == 1
    after = run(tmp_path / "out", table, [lab], answers).iloc[0]
    assert list(after["lab.opened"]) == [datetime.date(2001, 2, 3), datetime.date(2004, 5, 6)]
    assert (list(after["lab.rooms"]), dict(after["lab.head"]), after["lab.grade"]) == ([3, 4], {"name": "Bo"}, "good")
    for column, value in (("opened", "soon"), ("rooms", [1.5]), ("rooms", {"a": 1}), ("head", {"nome": "Bo"})):
        with pytest.raises(errors.InputError, match="does not fit"):
            trust.decide(tmp_path / "out", of(tmp_path / "out", "Norrgard", column), value=value)


def test_a_value_that_means_the_same_as_the_answer_is_no_conflict(tmp_path):
    """By the kinds of the stage's own fields, as its store tells of them."""
    run(tmp_path / "out", pd.DataFrame({"name": ["Norrgard"]}), **FIRM)
    trust.decide(tmp_path / "out", of(tmp_path / "out", "Norrgard", "land", "firm"), value="Norge")
    assert of(tmp_path / "out", "Norrgard", "land", "firm")["state"].tolist() != ["conflict"]
    assert of(tmp_path / "out", "Norrgard", "land", "firm")["decision"].tolist() == ["right"]


def test_a_rejected_answer_goes_from_a_table_that_has_it(out):
    """As where what run returned is passed in again: what stood there before comes back."""
    trust.decide(out, of(out, "Norrgard", "city"), "right")
    after = run(out)[TABLE.columns]
    trust.decide(out, pd.concat([of(out, "Norrgard", "city"), of(out, "Lofoten", "city")]), "wrong")
    assert told(run(out, after)) == ["Bergen", "", "Turku"]


def test_a_text_may_look_like_a_list(out):
    """It is text all the same."""
    trust.decide(out, of(out, "Norrgard", "city"), value="[1")
    assert told(run(out))[0] == "[1"
    assert of(out, "Norrgard", "city")["cell"].tolist() == ["[1"]


def test_a_cell_edited_since_is_named_as_the_table_names_it(tmp_path):
    """Not as the stage does."""
    table = pd.DataFrame({"Firm": ["Norrgard"], "Town": ["Bergen"]})
    kw = {"names": {"name": "Firm", "lab.city": "Town"}, "key": "Firm"}
    run(tmp_path / "out", table, **kw)
    trust.decide(tmp_path / "out", trust.corrections(tmp_path / "out"), "right")
    assert told(run(tmp_path / "out", table, **kw), "Town") == ["Oslo"]
    with pytest.warns(UserWarning, match="column 'Town' is not the one"):
        run(tmp_path / "out", table.assign(Town="Voss"), **kw)


def test_a_store_that_came_alone_has_its_decisions_for_new_records_too(tmp_path):
    """They stand in the rows of those that share the question."""
    table = pd.DataFrame({"name": ["Norrgard"] * 2, "person": ["Ida", "Li"]})
    stage = Stage("lab", prompt="Research {name}.", per=("name",), answer=Lab, search=False)
    settings = {"key": ["name", "person"], "stages": [stage]}
    run(tmp_path / "out", table.head(1), **settings)
    trust.decide(tmp_path / "out", of(tmp_path / "out", "Norrgard", "city"), value="Bodø")
    run(tmp_path / "out", table.head(1), **settings)
    shutil.rmtree(work_area(tmp_path / "out"))
    assert told(run(tmp_path / "out", table, client=asking({}), **settings)) == ["Bodø", "Bodø"]


def test_a_cell_edited_since_stands_and_that_is_told(out):
    """A decision replaces what was seen, also where it was passed in again, or emptied."""
    trust.decide(out, of(out, "Norrgard", "city"), "right")
    trust.decide(out, of(out, "Lofoten", "city"), "wrong")
    edited = TABLE.assign(**{"lab.city": ["Voss", "Bodø", "Turku"]})
    with pytest.warns(UserWarning, match=r"row 1 \(index 'x'\), column 'lab\.city' is not the one .* and stands"):
        assert told(run(out, edited)) == ["Voss", "Bodø", "Turku"]
    for seen in (["Bergen", None, "Turku"], ["Oslo", "Svolvær", None], [None, "", "Turku"]):
        assert told(run(out, TABLE.assign(**{"lab.city": seen}))) == ["Oslo", "", "Turku"]


def test_a_cell_that_was_edited_before_it_was_decided_is_replaced(out):
    """`corrections` shows the table's own cells; the store has them as they came first."""
    edited = TABLE.assign(**{"lab.city": ["Voss", None, "Turku"]})
    trust.decide(out, trust.corrections(out, edited), "right")
    assert told(run(out, edited))[0] == "Oslo"
    assert "Bergen" not in told(enrichkit.read(out))
    assert trust.corrections(out, edited).empty


def later(out, **more):
    """Ask again, and be answered otherwise."""
    answers = {name: {"city": "Moss", "founded": 1111, "topics": ["moss"]} for name in ANSWERS}
    stage = Stage("lab", prompt="Tell me of {name}.", answer=Lab, checks=(no_future,), search=False)
    return run(out, stages=[stage], answers=answers, on_change="redo", **more)


def reread(out):
    return run(out, reread=True)


def more_read(out):
    def other(answer, record):
        """Find nothing."""
        return ()

    return run(
        out, stages=[Stage("lab", prompt="Research {name}.", answer=Lab, checks=(no_future, other), search=False)]
    )


def a_new_stage(out):
    class Size(Answer):
        people: int | None = None

    size = Stage("size", prompt="How many work at {name}?", answer=Size, search=False)
    return run(out, stages=[LAB, size], answers={name: {"people": 3} for name in ANSWERS})


def damaged(out):
    [path, *_] = sorted(out.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="quarantined"):
        return run(out, redo_damaged=True)


def put_aside(out):
    shutil.rmtree(sorted(out.glob("shard=*"))[0])
    return run(out, redo_damaged=True)


def copied_alone(out):
    shutil.rmtree(work_area(out))
    return run(out)


def copied_alone_and_redone(out):
    shutil.rmtree(work_area(out))
    return later(out)


@pytest.mark.parametrize(
    "event",
    [run, later, more_read, reread, a_new_stage, damaged, put_aside, copied_alone, copied_alone_and_redone],
)
def test_decisions_outlive(event, out):
    """Each stands in run's table, in what is read, and in the shards for whoever reads these alone."""
    trust.decide(out, of(out, "Norrgard", "city"), "right")
    trust.decide(out, of(out, "Lofoten", "city"), value="Kabelvåg")
    trust.decide(out, of(out, "Lofoten", "founded"), "right")
    trust.decide(out, of(out, "Tern", "topics"), "right")
    run(out)
    for _ in range(2):
        after = event(out)
        assert told(after) == ["Oslo", "Kabelvåg", "Turku"]
        assert after["lab.founded"].tolist()[1] == 2999
        assert after["lab.topics"].tolist()[2] == ["birds"]
    for stored in (enrichkit.read(out), pd.read_parquet(out)):
        rows = stored.set_index("name").loc[["Norrgard", "Lofoten", "Tern"]]
        assert told(rows) == ["Oslo", "Kabelvåg", "Turku"]
        assert list(rows["lab.topics"].iloc[2]) == ["birds"]
    assert enrichkit.verify(out).ok or event in (damaged, put_aside)


def test_what_a_later_answer_says_otherwise_is_a_conflict(out):
    """And wrong without a new label; the same is right. A list, or prose, may be right in other words."""
    for name, column in (("Norrgard", "city"), ("Lofoten", "city"), ("Norrgard", "topics")):
        trust.decide(out, of(out, name, column), "right" if name == "Norrgard" else "wrong")
    answers = ANSWERS | {"Norrgard": {"city": "Moss", "topics": ["sea"]}, "Lofoten": {"city": "Moss"}}
    stage = Stage("lab", prompt="Tell me of {name}.", answer=Lab, search=False)
    after = run(out, stages=[stage], answers=answers, on_change="redo")
    assert told(after) == ["Oslo", "Moss", "Turku"]
    assert after["lab.topics"].tolist()[0] == ["tea, green", "salt"]
    for _ in range(2):
        columns = ["state", "answer", "cell", "decision"]
        assert of(out, "Norrgard", "city")[columns].to_numpy().tolist() == [["conflict", "Moss", "Oslo", "wrong"]]
        assert decided(out, "Lofoten", "city") is None
        assert (of(out, "Norrgard", "topics")["state"].iloc[0], decided(out, "Norrgard", "topics")) == (
            "conflict",
            None,
        )
        run(out, stages=[stage], on_change="keep")
    again = run(out, answers={"Norrgard": {"city": "OSLO"}} | ANSWERS, on_change="redo")
    assert told(again) == ["Oslo", "", "Turku"]
    assert (decided(out, "Norrgard", "city"), decided(out, "Lofoten", "city")) == ("right", "wrong")


def test_a_decided_doubt_is_no_doubt(out):
    """A record leaves the list of the weak with its last open doubt."""
    assert len(trust.weak(out)) == 2
    trust.decide(out, of(out, "Norrgard", "city"), "right")
    assert trust.weak(out)["name"].tolist() == ["Lofoten"]
    trust.decide(out, of(out, "Lofoten", "founded"), "unsure")
    assert trust.weak(out)["name"].tolist() == ["Lofoten"]
    trust.decide(out, of(out, "Lofoten", "founded"), "wrong")
    assert trust.weak(out).empty


def test_stored_decisions_need_no_key(tmp_path, monkeypatch, simulator):
    """Neither does any table that is done; what is to be asked does, as before."""
    df, kw = pd.DataFrame({"fund.title": ["Borealis", "Tern"]}), {"stages": ["fund"], "progress": False}
    enrichkit.run(df.head(1), out=tmp_path / "out", **kw)
    trust.decide(tmp_path / "out", trust.evidence(tmp_path / "out").head(1), value="https://www.linkedin.com/company/b")
    monkeypatch.delenv("GOOGLE_API_KEY")
    after = enrichkit.run(df.head(1), out=tmp_path / "out", **kw)
    assert after["fund.linkedin"].tolist() == ["https://www.linkedin.com/company/b"]
    with pytest.raises(errors.MissingKeyError):
        enrichkit.run(df, out=tmp_path / "out", **kw)


def test_a_decision_may_be_made_while_a_run_is_under_way(out):
    """It waits for no lock, and the run's own table has it."""
    table = pd.concat([TABLE, pd.DataFrame({"name": ["Whale"], "lab.city": [None], "person": ["Mo"]})])

    def client(request):
        trust.decide(out, of(out, "Norrgard", "city"), "right")
        return asking({"Whale": {"city": "Vardø"}})(request)

    assert told(run(out, table, client=client)) == ["Oslo", "Svolvær", "Turku", "Vardø"]
    assert set(pd.read_parquet(out)["lab.city"]) == {"Oslo", "Svolvær", "Turku", "Vardø"}


def test_verify_names_decisions_whose_record_is_gone(out):
    """And those in a damaged file."""
    trust.decide(out, of(out, "Norrgard", "city"), "right")
    assert enrichkit.verify(out).ok
    shutil.rmtree(sorted(out.glob("shard=*"))[0])
    problems = "\n".join(enrichkit.verify(out).problems)
    assert "lab.city of Norrgard (right) was decided, and its record is gone" in problems
    [path] = (work_area(out) / "decisions").iterdir()
    path.write_bytes(path.read_bytes().replace(b"Oslo", b"Bodo"))
    assert any("the decisions in it do not count" in problem for problem in enrichkit.verify(out).problems)
