"""The bill where something is odd: unknown prices, odd counts, bad prices, and what is said of them."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import enrichkit
from enrichkit import Price, Stage, errors
from enrichkit.gemini.simulator import Simulator
from enrichkit.messages import Reply, Usage
from support.tables import Company, numbered

COMPANY = Stage("company", prompt="Research {name}.", answer=Company, search=False, max_output_tokens=1000)
PRICES = {"m": Price(input_usd=1000, output_usd=1000)}


def run(records, out, usage, **settings):
    def client(request):
        return Reply(text='{"industry": "Tea"}', usage=usage, model_version="m")

    given = {"stages": [COMPANY], "key": "name", "model": "m", "prices": PRICES, "progress": False, "workers": 1}
    return enrichkit.run(numbered(records, "Firm "), out=out, client=client, **given | settings)


def test_a_budget_counts_what_earlier_runs_spent_without_saying_how_much(tmp_path):
    """A reply whose usage is unknown counts as its worst case, in this run and in every later one."""
    done = []
    for _ in range(3):
        with pytest.raises(errors.Stopped, match="keep within the budget") as stopped:
            run(20, tmp_path / "out", Usage(), budget_usd=20)
        done.append(stopped.value.done)
    assert done[0] >= 2
    assert len(enrichkit.read(tmp_path / "out")) <= done[0] + 1


def test_a_budget_counts_by_the_prices_that_are_given_now(tmp_path):
    """What was of unknown price then has one by now."""
    run(6, tmp_path / "out", Usage(prompt_tokens=500, output_tokens=0), model="foo", prices={})
    prices = {"foo": Price(input_usd=1000, output_usd=1000), "m": Price(input_usd=1000, output_usd=1000)}
    assert enrichkit.report(tmp_path / "out", prices=prices).cost.total.cost_usd == 3
    with pytest.raises(errors.Stopped, match=r"3\.0000 more than that|are left") as stopped:
        run(7, tmp_path / "out", Usage(prompt_tokens=500), model="foo", prices=prices, budget_usd=3)
    assert stopped.value.reason == "budget"


@pytest.mark.parametrize("count", [-5, 10**20, float("nan"), float("inf"), True, "12"])
def test_what_is_no_count_is_unknown(count, tmp_path):
    """It makes no cost negative, and no table impossible."""
    run(2, tmp_path / "out", Usage(prompt_tokens=100, output_tokens=count))
    found = enrichkit.report(tmp_path / "out", prices=PRICES)
    assert "-" not in str(found.cost.total.cost_usd)
    assert len(enrichkit.costs(tmp_path / "out", prices=PRICES)) == 2


def test_a_plan_takes_no_unknown_cost_for_nothing(tmp_path):
    """Where this store's own replies have none, it goes by the usual sizes."""
    out = tmp_path / "out"
    run(3, out, Usage(prompt_tokens=1000))
    settings = {"stages": [COMPANY], "key": "name", "model": "m", "out": out}
    plan = enrichkit.plan(numbered(10, "Firm "), prices=PRICES, **settings)
    assert plan.cost_usd[0] > 0
    assert "usual sizes" in str(plan)
    assert "and your own for m" in str(plan)
    assert "requests of unknown cost (prices: genai-prices" in str(enrichkit.plan(numbered(10, "Firm "), **settings))


def test_a_plan_says_everything_is_stored_only_if_it_is(tmp_path):
    """A limit leaves the rest, and a failed record is not done."""
    settings = {"stages": [COMPANY], "key": "name", "model": "simulator", "out": tmp_path / "out"}
    assert "Nothing to ask in this call." in str(enrichkit.plan(numbered(2, "Firm "), limit=0, **settings))
    enrichkit.run(numbered(2, "Firm "), progress=False, **settings)
    assert "everything is stored" in str(enrichkit.plan(numbered(2, "Firm "), **settings))


@pytest.mark.parametrize("wrong", [float("nan"), "a", -1, True, None, float("inf")])
def test_a_price_is_a_number_of_dollars(wrong):
    """One sentence, before anything is asked."""
    with pytest.raises(errors.InputError, match=r"Price\.input_usd must be a number of USD from 0 on"):
        Price(input_usd=wrong, output_usd=1)


@pytest.mark.parametrize("prices", [{"m": 0.5}, [1]])
def test_prices_map_models_to_prices(prices, tmp_path):
    """Not to numbers."""
    with pytest.raises(errors.InputError, match="prices must be a mapping"):
        run(1, tmp_path / "out", Usage(), prices=prices)


@pytest.mark.parametrize("budget", [np.int64(50), 50.0, Decimal(50)])
def test_a_budget_may_be_any_number(budget, tmp_path):
    """Also a decimal one, or numpy's."""
    enriched = run(1, tmp_path / "out", Usage(prompt_tokens=1, output_tokens=1), budget_usd=budget)
    assert enriched["_status"].tolist() == ["done"]


def test_failed_questions_save_nothing_by_being_shared(tmp_path):
    """An answer that nobody got was not shared."""

    def client(request):
        return Reply(text="no", usage=Usage(prompt_tokens=10, output_tokens=1), model_version="m")

    shared = Stage("company", prompt="Research {country}.", answer=Company, search=False)
    frame = pd.DataFrame({"name": ["a", "b", "c"], "country": ["Peru"] * 3})
    enrichkit.run(frame, stages=[shared], key="name", out=tmp_path / "out", client=client, progress=False, model="m")
    assert enrichkit.report(tmp_path / "out", prices=PRICES).cost.by_stage["company"].shared == 0


def test_paid_failures_make_no_saving_negative(tmp_path, monkeypatch):
    """Sharing saved nothing where nobody got the answer: a table in which nothing is shared is never the cheaper."""
    with Simulator(faults={"truncated": 1}) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
        enrichkit.run(numbered(3, "Firm "), stages=[COMPANY], key="name", out=tmp_path / "out", progress=False)
    found = enrichkit.report(tmp_path / "out")
    assert found.cost.total.wasted == found.cost.total.replies > 0
    assert found.cost.total.cost_usd > 0
    larger = found.cost.for_records([1000])
    assert (larger["usd_nothing_shared"] >= larger["usd_shared_alike"]).all()
    cost = json.loads(found.to_json())["cost"]
    assert (cost["total"]["saved_usd"], cost["by_stage"]["company"]["saved_usd"]) == ("0", "0")


def test_no_escape_sequence_reaches_a_terminal(tmp_path):
    """Also where it stands in a column's name."""
    frame = pd.DataFrame({"name": ["a"], "\x1b[2Jcity": ["http://x.example"]})
    stage = Stage("company", prompt="Research {name} in {\x1b[2Jcity}.", answer=Company)
    told = str(enrichkit.plan(frame, stages=[stage], key="name", out=tmp_path / "out", model="simulator"))
    assert "\x1b" not in told
