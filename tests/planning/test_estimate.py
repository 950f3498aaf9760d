"""The estimate: from the usual sizes first, from this store's own replies after a pilot, with a range that holds."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter

import numpy as np
import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Price, Stage
from enrichkit.formatting import spelled
from enrichkit.messages import Failure, Reply, Usage
from enrichkit.planning.estimate import STUDENT, carry_over
from support.paths import TABLE
from support.tables import Company

LITE = "gemini-3.5-flash-lite"


class Site(Answer):
    address: str | None = None


COMPANY = Stage("company", prompt="Research {name} in {country}.", answer=Company)
SITE = Stage("site", prompt="Where is {name}?", answer=Site, search=False)


def table(rows=100):
    return pd.DataFrame({"name": [f"N{number}" for number in range(rows)], "country": ["Peru", "Fiji"] * (rows // 2)})


def skewed(seed):
    """A client whose replies differ as real ones do: a few take much more than most, some have to be asked again."""
    asked = Counter()

    def client(request):
        text = request.text.partition("\n\n")[0]  # without what is added where it is asked again
        asked[text] += 1
        dice = random.Random(f"{seed} {text} {asked[text]}")
        usage = Usage(
            prompt_tokens=round(dice.lognormvariate(7.5, 0.5)),
            output_tokens=round(dice.lognormvariate(5.5, 0.6)),
            thinking_tokens=round(dice.lognormvariate(6, 0.8)) if dice.random() < 0.8 else None,
            searches=dice.choice([1, 1, 2, 3]) if request.search else 0,
        )
        text = "I found nothing." if dice.random() < 0.05 else json.dumps({"industry": "Tea", "address": "a.example"})
        return Reply(text=text, usage=usage, model_version=LITE)

    return client


def spent(out):
    stored = enrichkit.read(out)
    return sum(stored[name].sum() for name in stored.columns if name.endswith("._cost_usd"))


def piloted(frame, out, seed, **settings):
    """Return what is left to pay after a pilot of ten, as estimated and as it came."""
    settings |= {"out": out, "workers": 20}
    enrichkit.run(frame.sample(10, random_state=seed), progress=False, **settings)
    pilot, found = spent(out), enrichkit.plan(frame, **settings)
    enrichkit.run(frame, progress=False, **settings)
    return found, spent(out) - pilot


@pytest.mark.parametrize("tables", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_after_a_pilot_of_ten_the_range_holds_the_true_cost(tables, tmp_path):
    """In nine of ten tables at least; and it is a range that one can do something with."""
    held, widths = [], []
    for seed in range(tables):
        settings = {"stages": [COMPANY, SITE], "model": "gemini-3.5-flash-lite", "key": "name", "client": skewed(seed)}
        found, true = piloted(table(), tmp_path / f"out{seed}", seed, **settings)
        low, middle, high = found.cost_usd
        held.append(low <= true <= high)
        widths.append(high / middle)
        assert "measured on 20 replies of this store" in str(found)
    assert sum(held) >= 0.9 * tables
    assert max(widths) < 1.7


def test_the_range_holds_over_many_skewed_samples():
    """The formula alone, over two thousand pilots of ten: 95 of 100 totals of what is left lie within."""
    dice = np.random.default_rng(7)
    held = []
    for _ in range(2000):
        one, two = dice.lognormal(0, 0.5, 110), 1 + dice.integers(0, 3, 110)
        low, _, high = carry_over([(one[:10], 100), (two[:10], 100)])
        held.append(low <= one[10:].sum() + two[10:].sum() <= high)
    assert np.mean(held) > 0.95


@pytest.mark.slow
def test_after_a_pilot_the_range_holds_over_the_simulator(tmp_path):
    """The same over HTTP, with the built-in stages and what the funds' contacts share."""
    frame = pd.read_csv(TABLE, dtype=str)
    held = []
    for seed in range(20):
        some = frame.sample(120, random_state=1000 + seed)
        found, true = piloted(some, tmp_path / f"out{seed}", seed, model="simulator")
        held.append(found.cost_usd[0] <= true <= found.cost_usd[2])
    assert sum(held) >= 18


def test_more_replies_make_a_narrower_range():
    """Down to a floor: what is measured today is not certain tomorrow."""
    dice = np.random.default_rng(1)
    highs = [
        high / middle for n in (1, 3, 10, 100, 5000) for _, middle, high in [carry_over([(dice.gamma(4, 1, n), 500)])]
    ]
    assert highs == sorted(highs, reverse=True)
    assert highs[0] < 20
    assert highs[-1] == pytest.approx(np.exp(0.03), rel=0.03)


def test_a_range_is_worked_out_by_hand():
    """Two kinds of questions: means carried over, spreads joined at right angles."""
    one, two = np.array([1.0, 2.0, 3.0]), np.array([10.0])
    low, middle, high = carry_over([(one, 10), (two, 5)])
    half_one = 3.003 * np.sqrt((2 + 3 * 1.2**2) / 5) * 10 * np.sqrt(1 / 3 + 1 / 10)
    half_two = 3.896 * np.sqrt(3 * 6.0**2 / 3) * 5 * np.sqrt(1 / 1 + 1 / 5)
    factor = np.exp(np.hypot(half_one, half_two) / 70)
    assert (low, middle, high) == pytest.approx((70 / factor, 70, 70 * factor))
    assert carry_over([]) == (0, 0, 0)


def test_the_three_constants_are_students_t():
    """Those of the printed table, at 98.5 %, each up to where the next one begins: never too narrow."""
    assert dict(STUDENT) == {12: 2.461, 5: 3.003, 0: 3.896}  # a pilot of one has three degrees: none has fewer


def test_a_new_store_is_estimated_from_the_usual_sizes(tmp_path):
    """The prompt's length, the stage, search or not; and it says so."""
    settings = {"out": tmp_path / "out", "key": "name"}
    short, long = (
        enrichkit.plan(frame, stages=[COMPANY], **settings) for frame in (table(), table().assign(country="x" * 3000))
    )
    assert long.tokens[1] - short.tokens[1] == pytest.approx(100 * 3000 / 4, rel=0.01)
    assert "from the usual sizes" in str(short)
    assert [len(one) for one in (short.tokens, short.cost_usd, short.seconds)] == [3, 3, 3]
    assert all(list(one) == sorted(one) for one in (short.tokens, short.cost_usd, short.seconds))
    bare = enrichkit.plan(table(), stages=[SITE], **settings)
    assert bare.cost_usd[1] < short.cost_usd[1] - 100 * 0.014


def test_time_goes_by_the_workers_and_by_the_rpm(tmp_path):
    """Whichever takes longer."""
    settings = {"out": tmp_path / "out", "key": "name", "stages": [SITE]}
    one, ten = (enrichkit.plan(table(), workers=workers, **settings).seconds for workers in (1, 10))
    assert one == pytest.approx([10 * part for part in ten])
    assert enrichkit.plan(table(), rpm=10, **settings).seconds == pytest.approx((594, 594, 594))


def test_the_plan_says_what_binds_the_time(tmp_path):
    """Not where it is short."""
    settings = {"out": tmp_path / "out", "key": "name", "stages": [SITE]}
    calls = (
        (2, {}),
        (1000, {"workers": 20}),
        (1000, {"workers": 200, "rpm": 100}),
        (40000, {"workers": 1000, "rpm": 60_000, "model": "simulator"}),
    )
    few, many, limited, full = (enrichkit.plan(table(rows), **settings | more) for rows, more in calls)
    assert few.bound == ""
    assert many.bound == (
        "20 workers at about 10 s a reply are 120 requests a minute; with workers=100 and rpm=600 it takes 1 min 40 s."
    )
    assert many.bound in str(many)
    assert limited.bound == "rpm=100 binds, not the workers, which could send more."
    assert full.bound == "1 process can send about 30,000 requests a minute."
    assert spelled(many.bound, {"workers": "--max-workers", "rpm": "--rpm"}).count("--") == 2


def counted(request):
    return Reply(text="{}", usage=Usage(prompt_tokens=1000, output_tokens=200, searches=2), model_version=LITE)


def test_past_questions_are_priced_as_today(tmp_path):
    """By the version that answered where the same is asked, else by the model that is to be asked."""
    settings = {"out": tmp_path / "out", "key": "name", "stages": [COMPANY]}
    enrichkit.run(table(10), model="gemini-3.5-flash-lite", client=counted, progress=False, **settings)
    each = 1000 * 0.3e-6 + 200 * 2.5e-6 + 2 * 0.014
    assert enrichkit.plan(table(), **settings).cost_usd[1] == pytest.approx(90 * each)
    own = {"mine": Price(input_usd=1000, output_usd=0, search_usd=0)}
    other = enrichkit.plan(table(), model="mine", prices=own, on_change="redo", **settings)
    assert other.cost_usd[1] == pytest.approx(100 * 1.0)
    unknown = enrichkit.plan(table(), model="unheard-of", on_change="redo", **settings)
    assert (unknown.cost_usd, "price of 'unheard-of' is unknown" in str(unknown)) == (None, True)
    silent = enrichkit.plan(
        table(), model="mine", prices={"mine": Price(input_usd=1, output_usd=0)}, on_change="redo", **settings
    )
    assert (silent.cost_usd, "price of a search by 'mine' is unknown" in str(silent)) == (None, True)
    per_prompt = enrichkit.plan(table(), model="gemini-2.5-flash", on_change="redo", **settings)
    assert per_prompt.cost_usd[1] == pytest.approx(100 * (each - 2 * 0.014 + 0.035))


def test_a_shared_answer_counts_once(tmp_path):
    """Only the record that paid tells what a question takes; a question asked twice is one dear one."""
    frame = pd.DataFrame({"name": list("abcdef"), "country": ["Peru"] * 3 + ["Fiji", "Oman", "Chad"]})
    stage = Stage("company", prompt="Research {country}.", answer=Company)
    tries = itertools.count()

    def client(request):
        reply = counted(request)
        return Reply(text="no", usage=reply.usage) if "Peru" in request.text and next(tries) < 1 else reply

    settings = {"out": tmp_path / "out", "key": "name", "stages": [stage]}
    enrichkit.run(frame, model="gemini-3.5-flash-lite", client=client, progress=False, workers=1, **settings)
    more = pd.concat([frame, pd.DataFrame({"name": ["g"], "country": ["Iran"]})])
    found = enrichkit.plan(more, **settings)
    assert "measured on 4 replies" in found.basis
    assert found.tokens[1] == pytest.approx((2 + 1 + 1 + 1) * 1200 / 4)


def test_a_stage_that_is_new_to_the_store_is_guessed_and_named(tmp_path):
    """One measured, one not."""
    settings = {"out": tmp_path / "out", "key": "name"}
    enrichkit.run(
        table(10), stages=[COMPANY], model="gemini-3.5-flash-lite", client=counted, progress=False, **settings
    )
    found = enrichkit.plan(table(), stages=[COMPANY, SITE], **settings)
    assert found.basis == "measured on 10 replies of this store, but site from the usual sizes"


def test_replies_that_say_nothing_of_their_use_are_no_measure(tmp_path):
    """Nor are questions that were never answered."""
    settings = {"out": tmp_path / "out", "key": "name", "stages": [COMPANY]}
    silent = {"N0": Reply(text="{}"), "N1": Reply(failure=Failure(cause="bad_request", message="odd"))}

    def client(request):
        return silent["N0" if "N0" in request.text else "N1"]

    enrichkit.run(table(2), model="gemini-3.5-flash-lite", client=client, progress=False, **settings)
    assert enrichkit.plan(table(), **settings).basis == "from the usual sizes"


def test_a_plan_writes_nothing_and_says_the_same_twice(tmp_path):
    """Also beside a store."""
    settings = {"out": tmp_path / "out", "key": "name", "stages": [COMPANY]}
    enrichkit.run(table(10), model="gemini-3.5-flash-lite", client=counted, progress=False, **settings)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert str(enrichkit.plan(table(), **settings)) == str(enrichkit.plan(table(), **settings))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
