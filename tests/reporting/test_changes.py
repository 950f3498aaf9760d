"""What differs between two readings: the planted changes and no others, and why."""

from __future__ import annotations

import json
from typing import Annotated

import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Stage, checks, errors, trust
from enrichkit.messages import Failure, Reply, Source, Support
from enrichkit.trust.comparison import in_turn
from enrichkit.trust.decisions import judged
from support.tables import numbered


class Firm(Answer):
    website: Annotated[str | None, checks.url()] = None
    phone: Annotated[str | None, checks.phone()] = None
    country: Annotated[str | None, checks.country()] = None
    assets: Annotated[str | None, checks.money()] = None
    sectors: list[str] | None = None
    staff: int | None = None


BASE = {
    "website": "https://norrgard.se",
    "phone": "+46 40 123 45 67",
    "country": "Norway",
    "assets": "3400000",
    "sectors": ["tea", "wood"],
    "staff": 12,
}
SPELLINGS = [
    {"website": "http://www.norrgard.se/"},
    {"phone": "+46 (0)40-123 45 67"},
    {"country": "Norge"},
    {"assets": "3,400,000"},
    {"sectors": ["Wood", "tea"]},
    {"staff": "12 "},
    {"note": "an unknown key"},
]
PLANTED = [
    {"website": "https://lofoten.no"},
    {"phone": "+46 40 123 45 68"},
    {"country": "Sweden"},
    {"country": None},
    {"assets": "3.5e6"},
    {"sectors": ["tea"]},
    {"sectors": ["tea", "wood", "ore"]},
    {"staff": 13},
]
PAGES = [Source(url="https://norrgard.se/about", title="norrgard.se")]


def stage(prompt="Research {name}.", *more):
    return Stage("firm", prompt=prompt, answer=Firm, search=False, checks=more)


def author(*answers):
    """A client that gives the n-th record the n-th answer."""

    def client(request):
        number = int(request.text.split("⟦N")[1].split("⟧")[0])
        answer = answers[number]
        if answer is None:
            return Reply(failure=Failure(cause="blocked", message="SAFETY"), raw="{}")
        text = json.dumps(BASE | answer, ensure_ascii=False)
        return Reply(
            text=text, sources=tuple(PAGES), supports=(Support(start=0, end=len(text.encode()), sources=(0,)),)
        )

    return client


def run(out, *answers, rows=None, **more):
    settings = {"stages": [stage()], "key": "name", "model": "m", "progress": False} | more
    return enrichkit.run(numbered(len(rows or answers)), out=out, client=author(*answers), **settings)


def planted(answers):
    return {(f"N{number}", f"firm.{name}") for number, answer in enumerate(answers) for name in answer}


def listed(changed):
    return set(zip(changed["name"], changed["column"], strict=True))


def test_the_planted_changes_are_listed_and_no_other_spellings(tmp_path):
    """Of one stage in two stores; of the same store before and after it was asked again; of a frame that was kept."""
    answers = [*SPELLINGS, *PLANTED]
    run(tmp_path / "A", *[{} for _ in answers])
    run(tmp_path / "B", *answers)
    expected = {place for place in planted(answers) if int(place[0][1:]) >= len(SPELLINGS)}
    changed = trust.changes(tmp_path / "A", tmp_path / "B")
    assert listed(changed) == expected
    assert set(changed["why"]) == {"asked again"}
    kept = trust.evidence(tmp_path / "A")
    again = {"stages": [stage("Research {name} again.")], "on_change": "redo"}
    run(tmp_path / "A", *answers, **again)
    assert listed(trust.changes(tmp_path / "A")) == expected
    by_frame = trust.changes(kept, tmp_path / "A")
    assert listed(by_frame) == expected
    assert set(by_frame["why"]) == {"asked again"}


def test_two_frames_that_were_kept_are_compared_by_the_kinds_of_the_built_in_stages(tmp_path):
    """Without any store, other spellings are left out too."""
    df = pd.DataFrame({"fund.title": ["Borealis Ventures", "Tern Fund"]})
    enrichkit.run(df, model="simulator", stages=["fund"], out=tmp_path / "out", progress=False)
    kept = trust.evidence(tmp_path / "out")
    other = kept.copy()
    cities = other["column"] == "fund.city"
    other.loc[cities, "answer"] = ["München", "Bergen"]
    kept.loc[cities, "answer"] = ["Munich", "Oslo"]
    assert trust.changes(kept, other)[["old", "new"]].values.tolist() == [["Oslo", "Bergen"]]


def test_a_change_tells_both_values_with_their_states_and_pages(tmp_path):
    """Of a store alone too, which has them from the raw replies."""
    run(tmp_path / "A", {}, {"staff": 40})
    run(tmp_path / "A", {"country": None}, {"staff": 41}, stages=[stage("Find {name}.")], on_change="redo")
    changed = trust.changes(tmp_path / "A").set_index("column")
    country = changed.loc["firm.country", ["old", "why", "old_state", "new_state"]].tolist()
    assert country == ["Norway", "asked again", "supported", "not_found"]
    assert pd.isna(changed.loc["firm.country", "new"])
    assert changed.loc["firm.staff", ["old", "new"]].tolist() == ["40", "41"]
    assert len(changed.loc["firm.staff", "old_pages"]) == len(changed.loc["firm.staff", "new_pages"])


def no_tea(answer, record):
    if answer.sectors and "tea" in answer.sectors:
        yield enrichkit.Issue("sectors", "no_tea", instead=None)


def test_what_is_read_anew_was_not_asked_again(tmp_path):
    """The reply is the same one."""
    run(tmp_path / "A", {}, {})
    kept = trust.evidence(tmp_path / "A")
    run(tmp_path / "A", {}, {}, stages=[stage("Research {name}.", no_tea)])
    changed = trust.changes(kept, tmp_path / "A")
    assert (
        changed[["column", "old", "why", "new_state"]].values.tolist()
        == [["firm.sectors", "tea, wood", "read anew", "invalid"]] * 2
    )
    assert changed["new"].isna().all()
    assert trust.changes(tmp_path / "A").empty


def test_a_failure_is_a_change_where_nothing_stands(tmp_path):
    """Records that only one of them has are none."""
    run(tmp_path / "A", {}, {}, {})
    run(tmp_path / "B", {}, None)
    changed = trust.changes(tmp_path / "A", tmp_path / "B")
    assert set(changed["name"]) == {"N1"}
    assert set(changed["new_state"]) == {"failed"}
    assert len(changed) == len(BASE)


def test_a_store_against_itself_has_no_changes(tmp_path):
    """Nor has a frame; in the columns of a change."""
    run(tmp_path / "A", {}, {})
    kept = trust.evidence(tmp_path / "A")
    for same in (trust.changes(tmp_path / "A", tmp_path / "A"), trust.changes(kept, kept)):
        assert same.empty
        assert {"name", "column", "old", "new", "why"} <= {*same.columns}


@pytest.mark.parametrize("written", ["plainly", "by export"])
def test_a_frame_may_come_back_from_a_file(tmp_path, written):
    """There texts become numbers, a phone gets the sign that keeps it from being a formula, and keys are forgotten."""
    run(tmp_path / "A", {"phone": "+46 (0)40-123 45 67"}, {"staff": 13})
    kept = trust.evidence(tmp_path / "A")
    kept.to_csv(tmp_path / "kept.csv") if written == "plainly" else enrichkit.export(kept, tmp_path / "kept.csv")
    run(tmp_path / "B", {}, {})
    back = pd.read_csv(tmp_path / "kept.csv")
    for changed in (trust.changes(back, tmp_path / "B"), trust.changes(tmp_path / "B", pd.concat([back, back]))):
        assert listed(changed) == {("N1", "firm.staff")}
        assert {*changed["old"], *changed["new"]} == {"12", "13"}
    numbers = back[back["column"] == "firm.staff"].assign(answer=12)
    assert trust.changes(numbers, tmp_path / "B").empty


def test_a_frame_of_anything_else_is_refused(tmp_path):
    """By what it lacks."""
    run(tmp_path / "A", {})
    with pytest.raises(errors.InputError, match="answer, state"):
        trust.changes(pd.DataFrame({"_record_id": [], "column": [], "stage": [], "pages": []}), tmp_path / "A")
    with pytest.raises(errors.InputError, match="alone"):
        trust.changes(trust.evidence(tmp_path / "A"))


def test_one_value_of_a_record_comes_before_a_second():
    """In an order that does not depend on the table's."""
    cells = pd.DataFrame([{"_record_id": record, "column": column} for record in "abcde" for column in "xyz"])
    turned = in_turn(cells)
    assert sorted(turned["_record_id"].head(5)) == sorted(turned["_record_id"].tail(5)) == list("abcde")
    pd.testing.assert_frame_equal(in_turn(cells[::-1]), turned)
    assert turned["column"].head(5).nunique() > 1


def test_a_choice_between_two_values_is_a_decision_on_each():
    """The one that is to stand comes last; a missing value may be right, too."""
    assert judged("b", "Oslo", "Bergen") == [("Oslo", "right"), ("Bergen", "right")]
    assert judged("n", "Oslo", "Bergen") == [("Oslo", "wrong"), ("Bergen", "wrong")]
    assert judged("2", "Oslo", "Bergen") == [("Oslo", "wrong"), ("Bergen", "right")]
    assert judged("1", None, "Bergen") == [("Bergen", "wrong"), (None, "right")]
    assert judged("?", "Oslo", "Bergen") == [("Oslo", "unsure"), ("Bergen", "unsure")]


def test_what_was_decided_is_a_change_of_its_own(tmp_path):
    """Of the store alone, and of a frame that was kept before."""
    out = tmp_path / "A"
    run(out, {}, {}, {})
    kept = trust.evidence(out)
    cells = kept.set_index(["name", "column"]).reset_index()
    for name, column, more in (("N0", "firm.staff", {"value": 13}), ("N1", "firm.country", {"verdict": "wrong"})):
        trust.decide(out, cells[(cells["name"] == name) & (cells["column"] == column)], **more)
    trust.decide(out, cells[(cells["name"] == "N2") & (cells["column"] == "firm.staff")], "right")
    for changed in (trust.changes(out), trust.changes(kept, out)):
        assert listed(changed) == {("N0", "firm.staff"), ("N1", "firm.country")}
        assert changed["why"].tolist() == ["decided"] * 2
        values = changed.set_index("column")
        assert values.loc["firm.staff", ["old", "new"]].tolist() == ["12", "13"]
        assert values.loc["firm.country", "old"] == "Norway"
        assert pd.isna(values.loc["firm.country", "new"])
    assert trust.changes(trust.evidence(out), out).empty


@pytest.mark.parametrize("name", ["state", "why", "verdict", "first", "place", "label", "_differs"])
def test_a_key_column_may_be_called_like_one_of_the_lists(tmp_path, name):
    out, frame = tmp_path / "out", pd.DataFrame({"name": ["N0", "N1"], name: ["a", "b"]})
    settings = {"stages": [stage()], "key": ["name", name], "model": "m", "progress": False}
    enrichkit.run(frame, out=out, client=author({}, None), **settings)
    cells = trust.review(out, 2)
    assert trust.decide(out, cells.assign(verdict="wrong")) == 2
    assert trust.changes(out)[f"key.{name}"].tolist() == ["a", "a"]
    kept = trust.evidence(out)
    enrichkit.run(frame, out=out, client=author({}, {}), retry_failed=True, **settings)
    assert set(trust.changes(out, kept)[f"key.{name}"]) <= {"a", "b"}


def test_a_store_without_a_sealed_record_has_no_changes(tmp_path):
    def broken(request):
        raise ValueError("not today")

    out, frame = tmp_path / "out", numbered(9)
    with pytest.raises(errors.Stopped):
        enrichkit.run(frame, out=out, client=broken, stages=[stage()], key="name", model="m", progress=False)
    assert trust.changes(out).empty
    assert trust.corrections(out, frame).empty
