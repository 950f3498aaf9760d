"""Replies beyond what was thought possible: said, learned from, and no reason to stop while there is money left."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

import enrichkit
from enrichkit import Price, Stage, errors
from enrichkit.gemini.faults import FAULTS, Fault
from enrichkit.messages import CLIENTS, Reply, Request, Usage
from enrichkit.pricing.budget import WorstCases
from support.tables import Company, numbered

SEARCHING = Stage("company", prompt="Research {name}.", answer=Company)
LITE, PRO = "simulator-gemini-3.5-flash-lite", "simulator-pro"
PER_MILLION = {LITE: (Decimal("0.3"), Decimal("0.03"), Decimal("2.5")), PRO: (20, 20, 120)}
PRICES = {"pro": Price(input_usd=20, output_usd=120, search_usd=14)}


class Ledger:
    """What each reply costs, worked out from what is sent; the replies after the first ``usual`` ones are dear."""

    def __init__(self, usual=0, searches=3, version=LITE):
        self.usual, self.searches, self.version = usual, searches, version
        self.bills = []

    def __call__(self, body):
        dear = len(self.bills) >= self.usual
        queries = [f"query {number}" for number in range(self.searches if dear else 3)]
        body["candidates"][0]["groundingMetadata"]["webSearchQueries"] = queries
        body["modelVersion"] = self.version if dear else LITE
        read, cached, written = PER_MILLION[body["modelVersion"]]
        used = {name.removesuffix("TokenCount"): count for name, count in body["usageMetadata"].items()}
        held = used.get("cachedContent", 0)
        tokens = (used["prompt"] - held) * read + held * cached
        tokens += (used["candidates"] + used.get("thoughts", 0)) * written
        self.bills.append(tokens / Decimal(1_000_000) + 14 * Decimal(len(queries)) / 1000)


def spend(ledger, simulator, monkeypatch, out, **settings):
    """Run until the budget ends it; return the end and the run."""
    monkeypatch.setitem(FAULTS, "on the bill", Fault(shape=ledger))
    simulator.faults = {"on the bill": 1.0}
    given = {"stages": [SEARCHING], "key": "name", "progress": False, "model": "gemini-3.5-flash-lite", "workers": 1}
    job = enrichkit.start(numbered(60), out=out, **given | settings)
    with pytest.raises(errors.Stopped, match="keep within the budget") as stopped:
        job.result()
    assert Decimal(str(job.status.money.spent_usd)) == pytest.approx(sum(ledger.bills))
    return stopped.value, job


def excess(money):
    """Return what all replies are said to have cost beyond their worst cases."""
    return Decimal(re.search(r"\((\S+) in all\)", money.excess)[1]) if money.excess else Decimal()


@pytest.mark.parametrize("client", CLIENTS)
def test_replies_that_search_more_than_thought_possible_end_nothing(client, simulator, monkeypatch, tmp_path):
    """Twelve searches where ten were set aside: the budget is used as far as it goes, and not passed."""
    ledger = Ledger(searches=12)
    stopped, job = spend(ledger, simulator, monkeypatch, tmp_path / "out", client=client, budget_usd=3)
    money = job.status.money
    assert (stopped.reason, stopped.done, len(ledger.bills)) == ("budget", 17, 17)
    assert Decimal("2.8") < sum(ledger.bills) < 3
    assert "the reply about name 'N0' (stage company) cost 0.1" in str(stopped)
    assert 0 < excess(money) < Decimal("0.03")  # of the first one only: for the others enough was set aside
    assert "more than the worst case that was reserved" in repr(job)


@pytest.mark.parametrize("dear", [{"searches": 14}, {"version": PRO}, {"searches": 14, "version": PRO}], ids=str)
@pytest.mark.parametrize("usual", [0, 9, 12, 13])
def test_a_budget_is_passed_by_one_replys_excess_at_most(usual, dear, simulator, monkeypatch, tmp_path):
    """Whenever the service begins to search more, or another model answers that is dearer; the end says so."""
    ledger = Ledger(usual, **dear)
    stopped, job = spend(ledger, simulator, monkeypatch, tmp_path / "out", budget_usd=0.8, prices=PRICES)
    money = job.status.money
    assert sum(ledger.bills) <= Decimal("0.8") + excess(money)
    assert ("than the worst case that was reserved" in str(stopped)) == (excess(money) > 0)


def test_worst_cases_rise_to_what_was_seen():
    """Searches, the version that answered, and what neither explains; never for a request without a search."""
    request = Request(question="", stage="s", model="gemini-2.5-flash", system="", text="", schema={})
    worst = WorstCases({})
    per_prompt = worst.of(request)
    worst.learn(request, Reply(model_version="gemini-3.5-flash-lite", usage=Usage(searches=2)), Decimal("0.03"))
    per_search = worst.of(request)
    assert per_search - per_prompt > Decimal("0.09")  # ten searches for 0.014 each, not one prompt for 0.035
    worst.learn(request, Reply(model_version="gemini-2.5-flash", usage=Usage(searches=20)), Decimal("0.04"))
    assert worst.of(request) - per_search == Decimal("0.14")
    worst.learn(request, Reply(model_version="unheard-of", usage=Usage(searches=3)), None)
    assert worst.of(request) - per_search == Decimal("0.14")
    twice = 2 * worst.of(request)
    worst.learn(request, Reply(usage=Usage(searches=3)), twice)
    assert worst.of(request) == twice
