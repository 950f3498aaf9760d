"""Trials: rows asked in several ways, side by side; what they cost counts once, and who is better is named once."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Stage, Stopped, errors, trust
from enrichkit.cli.files import set_aside
from enrichkit.messages import Failure, Reply, Usage
from enrichkit.runs.contest import LEVEL, contest, sign_flip
from enrichkit.trust.comparison import in_turn, to_choose
from enrichkit.trust.review_box import Box
from support.tables import PRICES, numbered


class Facts(Answer):
    industry: str | None = None
    city: str | None = None


LONG = Stage("long", prompt="Research {name} with care.", answer=Facts, search=False, columns="firm")
SHORT = Stage("short", prompt="Research {name}.", answer=Facts, search=False, columns="firm")


class Author:
    """A client whose long answers are right; what it is asked is counted."""

    def __init__(self, failing=()):
        self.asked = []
        self.failing = failing

    def __call__(self, request):
        self.asked.append((request.stage, request.model))
        if any(name in request.text for name in self.failing):
            return Reply(usage=Usage(prompt_tokens=1000, output_tokens=0), failure=Failure(cause="blocked", message=""))
        answer = {"industry": "tea" if request.stage == "long" else f"coffee {len(self.asked)}", "city": "Oslo"}
        return Reply(text=json.dumps(answer), usage=Usage(prompt_tokens=1000, output_tokens=0, searches=0))


@pytest.fixture
def author():
    return Author()


@pytest.fixture
def settings(tmp_path, author):
    prices = PRICES | {"n": PRICES["m"]}
    return {
        "out": tmp_path / "OUT", "key": "name", "model": "m", "client": author, "prices": prices, "progress": False
    }  # fmt: skip


def bill(settings):
    return enrichkit.report(settings["out"], prices=settings["prices"]).cost


def test_a_trial_costs_what_it_asked_and_the_winner_is_not_paid_again(settings, author):
    """By hand: a dollar a request; a run that asks the same asks for the other rows only, and its bill has all."""
    df = numbered(20)
    sides = enrichkit.trial(df, [LONG, SHORT], rows=8, **settings)
    assert author.asked.count(("long", "m")) == author.asked.count(("short", "m")) == 8
    counted = sides[["stage", "records", "requests", "tokens", "searches", "usd", "usd_per_record", "filled"]]
    assert counted.values.tolist() == [[name, 8, 8, 8000, 0, 8.0, 1.0, 1.0] for name in ("long", "short")]
    assert not settings["out"].exists()
    ahead = enrichkit.plan(df, stages=[LONG], **settings)
    assert ahead.to_ask == 12
    assert "8 replies of trials will be taken over" in str(ahead)
    enriched = enrichkit.run(df, stages=[LONG], **settings)
    assert enriched["firm.industry"].tolist() == ["tea"] * 20
    assert author.asked.count(("long", "m")) == 20
    assert bill(settings).total.cost_usd == 28
    assert {name: line.cost_usd for name, line in bill(settings).by_stage.items()} == {"long": 20, "short (trial)": 8}
    assert bill(settings).per_record_usd == 1
    assert len(enrichkit.costs(settings["out"])) == 28
    assert bill(settings).total.wasted == 0
    assert enrichkit.verify(settings["out"]).ok


def test_the_rows_of_a_trial_are_not_asked_for_by_the_winner(settings, author):
    """Not one request for them."""
    df = numbered(20)
    side = enrichkit.trial(df, [LONG, SHORT], rows=8, **settings)["out"][0]
    tried = df[df["name"].isin(enrichkit.read(side)["name"])]
    before = len(author.asked)
    assert enrichkit.run(tried, stages=[LONG], **settings)["_status"].tolist() == ["done"] * 8
    assert len(author.asked) == before


def test_what_a_trial_has_spent_counts_for_the_budget_of_its_store(settings, author):
    """Once: what was taken over is in both places."""
    df = numbered(20)
    enrichkit.trial(df, [LONG, SHORT], rows=8, **settings)
    with pytest.raises(Stopped):
        enrichkit.run(df, stages=[LONG], budget_usd=20, workers=1, **settings)
    assert 16 <= bill(settings).total.cost_usd <= 20
    with pytest.raises(Stopped):
        enrichkit.run(df, stages=[LONG], budget_usd=25, workers=1, **settings)
    assert 20 < bill(settings).total.cost_usd <= 25


def test_a_budget_bounds_all_sides_together_and_the_same_call_goes_on(settings, author):
    """And counts what earlier calls have spent on them."""
    with pytest.raises(Stopped):
        enrichkit.trial(numbered(20), [LONG, SHORT], rows=8, budget_usd=12, workers=1, **settings)
    assert 9 <= len(author.asked) <= 12
    with pytest.raises(Stopped):
        enrichkit.trial(numbered(20), [LONG, SHORT], rows=8, budget_usd=12, workers=1, **settings)
    assert len(author.asked) <= 12
    enrichkit.trial(numbered(20), [LONG, SHORT], rows=8, budget_usd=18, workers=1, **settings)
    assert len(author.asked) == 16


def test_one_stage_twice_is_asked_twice_and_once_more_not_at_all(settings, author):
    """It shows how far a model contradicts itself; the same call finds both answers."""
    for _ in range(2):
        sides = enrichkit.trial(numbered(20), [SHORT, SHORT], rows=8, **settings)
        assert len(author.asked) == 16
    assert len(trust.changes(*sides["out"])) == 8
    enrichkit.run(numbered(20), stages=[SHORT], **settings)
    assert len(author.asked) == 28
    assert bill(settings).total.cost_usd == 28
    assert bill(settings).total.wasted == 0


def test_models_are_sides_of_one_stage(settings, author):
    """Each asked with the same question."""
    sides = enrichkit.trial(numbered(20), [LONG], models=["m", "n"], rows=3, **settings)
    assert sides[["stage", "model"]].values.tolist() == [["long", "m"], ["long", "n"]]
    assert sorted(author.asked) == [("long", "m")] * 3 + [("long", "n")] * 3


def test_a_stage_with_a_model_of_its_own_is_asked_of_the_models_of_the_trial(settings, author):
    """They make the sides; without them it asks its own."""
    own = dataclasses.replace(LONG, model="n")
    assert enrichkit.trial(numbered(4), [own, SHORT], rows=2, **settings)["model"].tolist() == ["n", "m"]
    sides = enrichkit.trial(numbered(4), [own], models=["m", "n"], rows=2, **settings)
    assert sides["model"].tolist() == ["m", "n"]
    assert author.asked.count(("long", "m")) == author.asked.count(("long", "n")) == 2


def test_more_rows_keep_the_earlier_ones(settings, author):
    """And the same rows are drawn in whatever order the table has them."""
    enrichkit.trial(numbered(50), [LONG, SHORT], rows=5, **settings)
    enrichkit.trial(numbered(50)[::-1], [LONG, SHORT], rows=5, **settings)
    assert len(author.asked) == 10
    enrichkit.trial(numbered(50), [LONG, SHORT], rows=12, **settings)
    assert len(author.asked) == 24


def test_each_row_of_a_trial_has_a_question_of_its_own(settings, author):
    """Thirty contacts of one firm would be one answer, thirty times."""
    df = pd.DataFrame({"name": [f"N{row % 4}" for row in range(40)], "contact": range(40)})
    sides = enrichkit.trial(df, [LONG, SHORT], rows=10, **settings | {"key": ["name", "contact"]})
    assert sides["records"].tolist() == [4, 4]
    assert len(author.asked) == 8


def test_failures_of_a_trial_are_taken_over_too(tmp_path, settings):
    """They were paid for; another call may ask again."""
    settings["client"] = author = Author(failing=["N3"])
    df = numbered(6)
    sides = enrichkit.trial(df, [LONG, SHORT], rows=6, **settings)
    assert sides["filled"].tolist() == [5 / 6, 5 / 6]
    assert enrichkit.run(df, stages=[LONG], **settings)["_status"].tolist().count("failed") == 1
    asked = len(author.asked)
    author.failing = ()
    enrichkit.run(df, stages=[LONG], retry_failed=True, **settings)
    assert len(author.asked) == asked + 1


def test_a_simulated_trial_is_in_no_real_bill(settings):
    """Nothing was paid for it."""
    df = numbered(4)
    simulated = {"out": settings["out"], "key": "name", "model": "simulator", "progress": False}
    enrichkit.trial(df, [LONG, SHORT], rows=4, **simulated)
    enrichkit.run(df, stages=[LONG], **settings)
    assert bill(settings).total.cost_usd == 4


@pytest.mark.parametrize(
    ("stages", "more", "words"),
    [
        ([LONG], {}, "two sides or more"),
        ([LONG, Stage("other", prompt="Find {name}.", answer=Facts)], {}, "fill the same columns"),
        ([LONG, SHORT], {"rows": 0}, "rows must be"),
        ([LONG, SHORT], {"rows": True}, "rows must be"),
        ([LONG], {"models": "mn"}, "models must be"),
        ([LONG, SHORT], {"worker": 3}, "workers"),
        ([LONG, SHORT], {"prompt": "Find {name}."}, "prompt"),
        ("fund", {}, "sequence"),
    ],
)
def test_a_trial_that_compares_nothing_is_refused(settings, author, stages, more, words):
    """Before any request."""
    with pytest.raises(errors.EnrichError, match=words):
        enrichkit.trial(numbered(3), stages, **settings | more)
    assert author.asked == []


def test_a_trial_lies_beside_its_store_and_goes_with_it(settings, tmp_path):
    """No table is written into it; a store that is set aside takes it along; a partition's begins with _."""
    enrichkit.trial(numbered(3), [LONG, SHORT], **settings)
    enrichkit.run(numbered(3), stages=[LONG], **settings)
    area = tmp_path / "OUT.trial"
    assert area.is_dir()
    with pytest.raises(errors.InputError, match="store's folder"):
        enrichkit.export(settings["out"], area / "table.csv")
    aside = set_aside(settings["out"])
    assert not area.exists()
    assert bill(settings | {"out": aside}).total.cost_usd == 6
    shard = next((tmp_path / f"{aside.name}.trial").rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-9] + bytes(9))
    assert [problem.partition(":")[0] for problem in enrichkit.verify(aside).problems] == [f"Trial {shard.parents[1]}"]
    enrichkit.trial(numbered(3), [LONG, SHORT], **settings | {"out": tmp_path / "part=a"})
    assert (tmp_path / "_part=a.trial").is_dir()


def decide(out, cells):
    """Decide cells in which two sides differ as a person would who sees them without their sides: tea is right."""
    shown = to_choose(out, cells)
    return trust.decide(out, shown.assign(verdict=["1" if value == "tea" else "2" for value in shown["first"]]))


def test_a_winner_is_named_once_when_all_is_decided(settings, author):
    """Until then the counts; and then also which gap would have been found."""
    call = ([LONG, SHORT], {"rows": 12, **settings})
    sides = enrichkit.trial(numbered(30), call[0], **call[1])
    assert sides["winner"].tolist() == ["0 of 12 decided"] * 2
    cells = in_turn(trust.changes(*sides["out"]))
    decide(settings["out"], cells.head(11))
    sides = enrichkit.trial(numbered(30), call[0], **call[1])
    assert sides["winner"].tolist() == ["11 of 12 decided"] * 2
    assert sides["right"].tolist() == [1.0, 0.0]
    decide(settings["out"], cells.tail(1))
    sides = enrichkit.trial(numbered(30), call[0], **call[1])
    assert sides["winner"][0].startswith("winner by 50 points; a gap of ")
    assert sides["winner"][1] == ""
    assert len(author.asked) == 24


def test_values_are_shown_unnamed_in_either_order(settings):
    """So that nobody knows which side a value is from; what is judged is not shown again."""
    sides = enrichkit.trial(numbered(60), [LONG, SHORT], rows=60, **settings)
    cells = trust.changes(*sides["out"])
    shown = to_choose(settings["out"], cells)
    assert {"old", "new", "why", "old_state", "new_state"}.isdisjoint(shown.columns)
    assert 15 <= (shown["first"] == "tea").sum() <= 45
    assert shown["_record_id"].tolist() == in_turn(cells)["_record_id"].tolist()
    assert (
        trust.decide(settings["out"], shown.head(10).assign(verdict=["1", "2", "b", "n", "?", "", None, "1", "1", "1"]))
        == 8
    )
    assert len(to_choose(settings["out"], cells)) == 52
    assert trust.decide(settings["out"], shown.head(3).assign(verdict=[1.0, None, 2.0])) == 2  # as pandas reads a file
    with pytest.raises(errors.InputError, match=r"Row 1, 'verdict': 'right' is not one of 1, 2, b, n, \?"):
        trust.decide(settings["out"], shown.assign(verdict="right"))
    with pytest.raises(errors.InputError, match=r"Of pairs the column verdict says which one is right"):
        trust.decide(settings["out"], shown.assign(verdict="1"), "right")
    with pytest.raises(errors.InputError, match=r"Rows 1 .* and 2 .* do not agree"):
        trust.decide(settings["out"], shown.iloc[[0, 0]].assign(verdict=["1", "2"]))
    with pytest.raises(errors.InputError, match=r"Row 1, 'column': no stage .* answers 'town'"):
        trust.decide(settings["out"], shown.head(1).assign(verdict="1", column="town"))
    for column in ("_record_id", "column", "stage", "second", "verdict"):
        with pytest.raises(errors.InputError, match=f"lack the column '{column}'"):
            trust.decide(settings["out"], shown.assign(verdict="1").drop(columns=column))


def test_pairs_are_judged_in_the_box_or_in_a_table(settings, capsys):
    """Both come to the same; whatever is none of the answers is refused, and a step back judges anew."""
    sides = enrichkit.trial(numbered(12), [LONG, SHORT], rows=12, **settings)
    cells = trust.changes(*sides["out"])
    shown = trust.review(settings["out"], 12, cells=cells)
    assert "12 pairs of values" in capsys.readouterr().out
    assert shown["verdict"].tolist() == [""] * 12
    box = Box(settings["out"], shown.head(4))
    pages = []
    tea = ["1" if first == "tea" else "2" for first in shown["first"].head(2)]
    for key in ("x", "y", "= tea", *tea, "<", "n", "?", "b"):
        pages.append(box._page.value)
        box._text.value = key
    assert "judged" in box._page.value
    assert all("1: " in page and "2: " in page and "short" not in page for page in pages[1:])
    left = trust.review(settings["out"], cells=cells)
    assert len(left) == 8
    verdicts = ["1" if first == "tea" else "2" for first in left["first"]]
    assert trust.decide(settings["out"], left.assign(verdict=verdicts)) == 8
    sides = enrichkit.trial(numbered(12), [LONG, SHORT], rows=12, **settings)
    assert sides["winner"][0].startswith("winner by 38 points")


def test_an_empty_value_may_be_the_right_one(tmp_path, settings):
    """Against an invented one; both are decided then."""

    def client(request):
        answer = {"industry": "coffee" if request.stage == "short" else None, "city": "Oslo"}
        return Reply(text=json.dumps(answer), usage=Usage(prompt_tokens=1000, output_tokens=0, searches=0))

    settings["client"] = client
    sides = enrichkit.trial(numbered(8), [LONG, SHORT], rows=8, **settings)
    shown = to_choose(settings["out"], trust.changes(*sides["out"]))
    verdicts = ["2" if value == "coffee" else "1" for value in shown["first"]]
    assert trust.decide(settings["out"], shown.assign(verdict=verdicts)) == 8
    sides = enrichkit.trial(numbered(8), [LONG, SHORT], rows=8, **settings)
    assert sides["winner"][0].startswith("winner by 50 points")


def test_what_was_chosen_holds_in_the_store_that_takes_a_side_over(settings):
    """Before that store is there, and after."""
    df = numbered(20)
    sides = enrichkit.trial(df, [LONG, SHORT], rows=8, **settings)
    decide(settings["out"], trust.changes(*sides["out"]))
    enriched = enrichkit.run(df, stages=[SHORT], **settings)
    assert enriched["firm.industry"].tolist().count("tea") == 8
    found = trust.evidence(settings["out"])
    assert found["decision"].value_counts().to_dict() == {"wrong": 8}


@pytest.mark.parametrize("stage", [LONG, SHORT], ids=lambda stage: stage.name)
def test_what_was_decided_of_a_side_alone_holds_in_the_store_too(settings, stage):
    """In the trial's own figures, and whichever side is taken over."""
    df = numbered(20)
    sides = enrichkit.trial(df, [LONG, SHORT], rows=8, **settings)
    coffee = trust.evidence(sides["out"][1]).query("column == 'firm.industry'")
    trust.decide(sides["out"][1], coffee.head(3), "wrong")
    trust.decide(sides["out"][1], coffee.tail(1), value="salt")
    again = enrichkit.trial(df, [LONG, SHORT], rows=8, **settings)
    assert again["decided"].tolist() == [1 / 16, 4 / 16]
    assert len(trust.review(settings["out"], cells=trust.changes(*sides["out"]))) == 7
    enriched = enrichkit.run(df, stages=[stage], **settings)
    assert (enriched["firm.industry"] == "salt").sum() == 1
    decided = trust.evidence(settings["out"])["decision"].value_counts().to_dict()
    assert decided == ({"wrong": 3, "value": 1} if stage is SHORT else {"wrong": 1})
    assert [trust.evidence(side)["decision"].count() for side in sides["out"]] == [1, 4]
    assert enrichkit.verify(settings["out"]).ok


INDEPENDENT, TOGETHER = {}, {"hard_record": 0.6}
HARD = [INDEPENDENT, {"hard_record": 0.3}, TOGETHER, {"hard_record": 0.9}]
LUCK = [{"hard_record": 0.4, "own_luck": 0.2}, {"own_luck": 0.3}, {"own_luck": 0.6}, {"own_luck": 0.9}]
"""How the fields of a record fail together: where it is hard for both sides, as a firm of which little is known; or by
luck that a side has with all of them, as where it takes another firm for the one that is meant."""


def drawn(rng, shares, *, own_luck=0.0, hard_record=0.0, rows=60, columns=6):
    """Return the values of two sides that are right so often, a row each."""
    weights = (own_luck**0.5, hard_record**0.5, (1 - own_luck - hard_record) ** 0.5)
    chance = map(rng.standard_normal, ((rows, 1, 2), (rows, 1, 1), (rows, columns, 2)))
    marks = list(map(NormalDist().inv_cdf, shares))
    right = (sum(weight * part for weight, part in zip(weights, chance, strict=True)) < marks).reshape(-1, 2)
    values = np.where(right, 0, rng.integers(1, 4, right.shape))
    labels = pd.DataFrame(np.where(right, "right", "wrong").astype(object), columns=["old_decision", "new_decision"])
    return labels.assign(
        _record_id=np.repeat(rng.integers(2**60, size=rows), columns).astype(str).astype(object),
        column=[*map(str, range(columns))] * rows,
        _same=values[:, 0] == values[:, 1],
    )


def wins(trials, shares, how, labels=60):
    """Return in how many trials the better side is named the winner; any side, where both are alike."""
    rng = np.random.default_rng(11)
    results = [contest(drawn(rng, shares, rows=labels, **how), labels) for _ in range(trials)]
    return sum(each.p <= LEVEL and (each.points > 0 or shares[0] == shares[1]) for each in results)


@pytest.mark.parametrize("how", [INDEPENDENT, LUCK[-1]], ids=str)
def test_a_side_against_itself_wins_at_most_five_times_of_a_hundred(how):
    """Of 150 trials; with 12 or less, no more than 5 % is what the draws show: a true 5 % has more in 4 of 100."""
    assert wins(150, (0.8, 0.8), how) <= 12


@pytest.mark.parametrize("how", HARD[:3], ids=str)
def test_a_gap_of_ten_points_is_found_in_eighty_of_a_hundred(how):
    """80 against 90 % right in six fields, sixty rows and labels; also where a record is hard for both sides."""
    assert wins(100, (0.8, 0.9), how) >= 80


def test_luck_of_a_side_with_whole_records_takes_twice_the_rows_and_that_is_said():
    """Then a record tells little more than one field of it; the gap that would have been found says so."""
    luck = {"own_luck": 0.3}
    assert 50 <= wins(100, (0.8, 0.9), luck) < 80 <= 2 * wins(50, (0.8, 0.9), luck, labels=120)
    rng = np.random.default_rng(7)
    gaps = [
        np.mean([contest(drawn(rng, (0.8, 0.9), **how), 60).gap for _ in range(20)]) for how in (INDEPENDENT, *LUCK)
    ]
    assert gaps == sorted(gaps)
    assert 8 <= gaps[0] <= 10.5
    assert gaps[-1] >= 13


def test_whole_records_alone_cannot_show_ten_points():
    """As the module says: 18 of 100 records speak for the better side, 8 against it, and signs tell no more."""

    def power(records):
        found = 0.0
        for better, worse in itertools.product(range(records + 1), repeat=2):
            if better > worse and better + worse <= records and sign_flip([1] * better + [-1] * worse) <= LEVEL:
                ways = math.comb(records, better) * math.comb(records - better, worse)
                found += ways * 0.18**better * 0.08**worse * 0.74 ** (records - better - worse)
        return found

    assert round(100 * power(60)) == 25


def test_swapping_records_is_exact():
    """Six of six alike: one of 32 ways."""
    assert sign_flip([1] * 6) == 1 / 32
    assert sign_flip([3, 0, 0]) == 1
    assert sign_flip([]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", [*HARD, *LUCK], ids=str)
def test_how_often_winners_are_named(how):
    """Print a line of the table of docs/compare.md: of 2,000 trials where both are alike, of 400 at ten points."""
    alike = wins(2000, (0.8, 0.8), how) / 20
    print(how, alike, *(wins(400, (0.8, 0.9), how, labels) / 4 for labels in (60, 120)))
    assert alike <= 5.8  # a true 5 % has more in 5 of 100
