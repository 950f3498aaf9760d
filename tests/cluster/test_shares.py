"""What the processes of a run share: the requests a minute, and the money."""

from __future__ import annotations

import random
import re
import time

import pytest

import enrichkit
from enrichkit import Stage
from enrichkit.errors import Stopped
from enrichkit.gemini.simulator import Quota, Simulator
from support.fleet import KEY, fleet, messy, paid_client
from support.tables import PRICES, Company, numbered

WORST_USD = 1.2
"""What a request may cost at most that `paid_client` answers for 1 or 0.5."""


def spend(workers, out, *, budget_usd, rows, parts):
    """Ask about a table with a budget; return what its replies cost, and why it ended, if early."""
    stage = Stage("company", prompt="Research {name}.", answer=Company, search=False)
    call = {"stages": [stage], "key": "name", "model": "m", "client": paid_client, "prices": PRICES, "workers": 4}
    call |= {"out": out, "cluster": workers, "parts": parts, "rpm": 60_000, "progress": False, "budget_usd": budget_usd}
    ended = None
    try:
        enrichkit.run(numbered(rows), **call)
    except Stopped as stopped:
        ended = stopped.reason
    assert enrichkit.verify(out).problems == ()
    return enrichkit.read(out)["company._cost_usd"].sum(), ended


@pytest.mark.parametrize("budget_usd", [4.4, 17.0])
def test_a_budget_is_held_by_all_together(workers, tmp_path, caplog, budget_usd):
    """It is never passed, and no more than two worst cases of it stay unspent while questions are left."""
    spent, ended = spend(workers, tmp_path / "out", budget_usd=budget_usd, rows=30, parts=4)
    warned = re.findall(rf"\d % of the budget is spent: .* of {budget_usd}", caplog.text)
    assert len(warned) == (spent >= 0.8 * budget_usd)  # of all together, once
    assert ended == "budget"
    assert budget_usd - 2 * WORST_USD <= spent <= budget_usd


def test_a_budget_that_is_enough_is_given_to_whoever_needs_it(workers, tmp_path):
    """All of it may be spent, although the parts differ in size."""
    spent, ended = spend(workers, tmp_path / "out", budget_usd=30.5, rows=30, parts=4)
    assert ended is None
    assert 20 < spent <= 30


@pytest.mark.slow
def test_fifty_budgets(workers, tmp_path, capsys):
    """The same of many."""
    dice, unspent = random.Random(3), []
    for number in range(50):
        rows = dice.randrange(15, 40)
        budget_usd = round(dice.uniform(1.2, 0.6 * rows), 2)
        spent, ended = spend(
            workers, tmp_path / str(number), budget_usd=budget_usd, rows=rows, parts=dice.randrange(1, 6)
        )
        assert spent <= budget_usd, number
        unspent += [budget_usd - spent] * (ended == "budget")
    with capsys.disabled():
        print(f"\n{len(unspent)} budgets met; unspent at most {max(unspent):.2f}, worst case {WORST_USD}")
    assert max(unspent) <= 2 * WORST_USD


@pytest.mark.slow
def test_a_quota_is_used_and_hardly_passed(tmp_path, monkeypatch, capsys):
    """Three processes share it out: nine requests of ten that the service takes are sent, hardly one is refused."""
    frame, per_second = messy(1200, 240), 30
    quota = Quota(requests=per_second, seconds=1, kind="bucket", burst=10)
    with Simulator(quota=quota, latency_seconds=0.3) as simulator:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", simulator.url)
        with fleet(3, GOOGLE_API_KEY=KEY, GOOGLE_GEMINI_BASE_URL=simulator.url) as client:
            settings = {"model": "gemini-3.5-flash-lite", "workers": 20, "progress": False}
            job = enrichkit.start(frame, out=tmp_path / "out", cluster=client, parts=3, rpm=60 * per_second, **settings)
            each_second = []
            while not job.done:
                before = simulator.counts()["answers"]
                time.sleep(1)
                each_second.append(simulator.counts()["answers"] - before)
            refused, answers = simulator.counts()["refused"], simulator.counts()["answers"]
    busy = [count for count in each_second if count]
    used = sum(busy[3:-5]) / len(busy[3:-5]) / per_second
    with capsys.disabled():
        print(f"\n{refused} refused of {answers}; {used:.0%} of the quota used between start and end")
    assert refused <= 0.01 * answers
    assert used >= 0.9
