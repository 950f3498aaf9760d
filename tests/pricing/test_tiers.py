"""The service's tiers: the same call at half the price of a token, later; a search costs what it costs."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from decimal import Decimal

import pandas as pd
import pytest

import enrichkit
from enrichkit import Price, Stage, errors
from enrichkit.gemini.faults import FAULTS, Fault
from enrichkit.messages import CLIENTS, Reply, Usage
from enrichkit.pricing.prices import cost, price_of, total_usd
from enrichkit.reporting import what_if
from enrichkit.runs.options import Options
from support.tables import Company, numbered

LITE = "gemini-3.5-flash-lite"
SEARCHING = Stage("company", prompt="Research {name}.", answer=Company)
QUERIES = {"unique": ["kelp", "quay"], "repeated": ["kelp", "quay", "kelp", "quay"], "empty": ["", "kelp", " ", "quay"]}
CASES = list(itertools.product(["standard", "flex"], QUERIES, [True, False]))
NOW = datetime(2026, 11, 29, tzinfo=UTC)


def settings(tmp_path, **more):
    given = {"stages": [SEARCHING], "key": "name", "model": LITE, "progress": False, "workers": 2}
    return given | {"out": tmp_path / "out"} | more


def answering(queries, billed):
    """A fault that answers always with the same counts, after these queries."""

    def shape(body):
        web = [{"web": {"uri": "https://a.example", "title": "a.example"}}]
        body["candidates"][0]["groundingMetadata"] = {"webSearchQueries": queries, "groundingChunks": web}
        counts = {"promptTokenCount": 1847, "cachedContentTokenCount": 601, "thoughtsTokenCount": 523}
        calls = [{"tool": "GOOGLE_SEARCH_RETRIEVAL", "successfulToolCallCount": 5}]
        tier = body["usageMetadata"]["serviceTier"]
        body["usageMetadata"] = counts | {"candidatesTokenCount": 311, "totalTokenCount": 2681, "serviceTier": tier}
        body["usageMetadata"] |= {"billedToolCalls": calls} if billed else {}

    return Fault(shape=shape)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_bill_is_as_worked_out_by_hand(case, client, simulator, monkeypatch, tmp_path):
    """Half the price of each token at flex, the whole of each search: bill, status, costs, columns and budget."""
    tier, queries, billed = case
    monkeypatch.setitem(FAULTS, "the answer", answering(QUERIES[queries], billed))
    simulator.faults = {"the answer": 1.0}
    job = enrichkit.start(numbered(3), **settings(tmp_path, tier=tier, client=client, budget_usd=9))
    job.result()
    share = Decimal(1) if tier == "standard" else Decimal("0.5")
    tokens = share * (30 * (1847 - 601) + 3 * 601 + 250 * (523 + 311)) / 10**8
    owed = 3 * (tokens + Decimal("0.014") * (5 if billed else 2))
    assert [(bill["tier"], bill["searches"]) for bill in simulator.ledger] == [(tier, 5 if billed else 2)] * 3
    paid = enrichkit.costs(tmp_path / "out")
    assert paid["tier"].tolist() == [tier] * 3
    assert enrichkit.report(tmp_path / "out").cost.total.cost_usd == owed
    assert job.status.money.cost_usd == job.status.money.spent_usd == float(owed)
    assert sum(Decimal(str(usd)) for usd in paid["cost_usd"]) == owed
    assert sum(Decimal(str(usd)) for usd in enrichkit.read(tmp_path / "out")["company._cost_usd"]) == owed
    assert what_if(paid, [LITE])["cost_usd"].round(12).tolist() == [float(owed)]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_reply_is_charged_by_the_tier_that_it_names(client, simulator, monkeypatch, tmp_path):
    """The service may answer at another one than was asked for; one that names none counts as standard."""
    for tier in ("FLEX", "standard", None, "priority"):
        monkeypatch.setitem(FAULTS, str(tier), Fault(shape=lambda body, tier=tier: body["usageMetadata"].update(
            {"serviceTier": tier, "thoughtsTokenCount": 0, "promptTokenCount": 1000, "candidatesTokenCount": 100,
             "cachedContentTokenCount": 0}
        )))  # fmt: skip
    simulator.script = ["FLEX", "standard", "None", "priority"]
    stage = Stage("company", prompt="Research {name}.", answer=Company, search=False)
    call = settings(tmp_path, tier="flex", client=client, workers=1, stages=[stage])
    enrichkit.run(numbered(4), **call)
    assert enrichkit.costs(tmp_path / "out")["cost_usd"].tolist() == [0.000275, 0.00055, 0.00055, 0.00099]


@pytest.mark.parametrize("client", CLIENTS)
def test_what_was_shed_is_waited_for(client, simulator, tmp_path):
    """A 503 says that there is no room at this tier: the pace waits, no try is spent, and nothing fails."""
    simulator.script = ["overloaded", None, "overloaded"]
    enriched = enrichkit.run(numbered(4), **settings(tmp_path, tier="flex", client=client))
    assert enriched["_status"].tolist() == ["done"] * 4
    assert enrichkit.read(tmp_path / "out")["company._attempts"].tolist() == [1] * 4
    assert enrichkit.report(tmp_path / "out").cost.total.replies == 4


def test_it_is_not_shed_for_ever(simulator, tmp_path):
    """As with any refusal, patience ends the run, with the service's own sentence."""
    simulator.faults = {"overloaded": 1.0}
    with pytest.raises(errors.Stopped, match="currently experiencing high demand") as stopped:
        enrichkit.run(numbered(4), **settings(tmp_path, tier="flex", patience_seconds=1))
    assert stopped.value.reason == "refused"


def test_an_answer_may_take_as_long_as_the_deadline(tmp_path):
    """Fifteen minutes at flex, and none of it is kept back for another try; a deadline that is given stands."""
    asked = []

    def client(request):
        asked.append((request.tier, request.timeout_seconds))
        return Reply(text='{"industry": "Tea"}')

    for number, given in enumerate([{}, {"tier": "flex"}, {"tier": "flex", "deadline_seconds": 60}]):
        enrichkit.run(numbered(1), **settings(tmp_path / str(number), client=client, **given))
    assert asked == [("standard", 90.0), ("flex", 900.0), ("flex", 60.0)]
    with pytest.raises(errors.InputError, match="tier must be 'standard' or 'flex', not 'batch'"):
        Options(tier="batch")


def test_another_tier_asks_nothing_again(simulator, tmp_path):
    """It changes no question: what is answered at one is answered."""
    enrichkit.run(numbered(2), **settings(tmp_path))
    enrichkit.run(numbered(3), **settings(tmp_path, tier="flex"))
    assert [bill["tier"] for bill in simulator.ledger] == ["standard", "standard", "flex"]


def test_a_plan_knows_the_tier(tmp_path):
    """Its tokens cost half, its searches the same."""
    ahead = [enrichkit.plan(numbered(9), **settings(tmp_path, tier=tier)) for tier in ("standard", "flex")]
    standard, flex = (plan.cost_usd[1] for plan in ahead)
    searches = 9 * 2 * 0.014
    assert flex == pytest.approx(searches + (standard - searches) / 2)
    assert ["tier flex" in str(plan) for plan in ahead] == [False, True]


def test_a_price_of_ones_own_is_the_same_at_every_tier():
    """Nobody knows better than who gave it; a listed one is halved, and an unknown one stays unknown."""
    usage = Usage(prompt_tokens=1000, output_tokens=0, searches=0, tier="flex")
    assert total_usd(cost(usage, "m", prices={"m": Price(input_usd=1, output_usd=1)})) == Decimal("0.001")
    assert price_of(usage, "nobody-knows", at=NOW) is None
    assert total_usd(cost(usage, LITE, at=NOW)) == Decimal("0.00015")
    assert what_if(pd.DataFrame({"input_tokens": [1000], "output_tokens": [0]}), [LITE])["cost_usd"].tolist() == [
        0.0003
    ]
