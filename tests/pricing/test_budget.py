"""The budget: never passed whatever the timing, told while it is spent, and raised to go on."""

from __future__ import annotations

import dataclasses
import logging
import random
import re
import threading
import time
from decimal import Decimal

import pytest

import enrichkit
from enrichkit import Price, Stage, errors
from enrichkit.messages import Failure, Reply, Usage
from enrichkit.progress.view import one_line
from support.tables import Company, numbered
from support.waiting import wait_for

# A question is taken to cost 0.615 USD by its usual size, and 1 USD at most.
PRICES = {"m": Price(input_usd=0, output_usd=1000)}
WORST = 1000


COMPANY = Stage("company", prompt="Research {name}.", answer=Company, search=False, max_output_tokens=WORST)


class Dear:
    """A client that takes its time, asks for more than was estimated, and keeps the bill."""

    def __init__(self, *, seed=0, least=700, most=WORST, slowest_seconds=0.002):
        self.dice = random.Random(seed)
        self.least, self.most, self.slowest_seconds = least, most, slowest_seconds
        self.lock = threading.Lock()
        self.tokens = {}

    def __call__(self, request):
        with self.lock:
            tokens, seconds = self.dice.randint(self.least, self.most), self.dice.uniform(0, self.slowest_seconds)
        time.sleep(seconds)
        with self.lock:
            self.tokens[request.text] = tokens
        return Reply(text="{}", usage=Usage(prompt_tokens=10, output_tokens=tokens), model_version="m")

    @property
    def bill_usd(self):
        return Decimal(sum(self.tokens.values())) / 1000


def settings(out, **more):
    return {"out": out, "stages": [COMPANY], "key": "name", "model": "m", "prices": PRICES, "workers": 20} | more


def run(frame, out, client, **more):
    return enrichkit.run(frame, client=client, progress=False, **settings(out, **more))


@pytest.mark.parametrize("timings", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_no_timing_passes_the_budget(timings, tmp_path):
    """A tenth of the estimate, twenty workers, replies dearer than estimated: the run ends before it is passed."""
    budget = enrichkit.plan(numbered(60), **settings(tmp_path / "none")).cost_usd[1] / 10
    for seed in range(timings):
        client = Dear(seed=seed)
        with pytest.raises(errors.Stopped, match="budget") as caught:
            run(numbered(60), tmp_path / f"out{seed}", client, budget_usd=budget)
        assert caught.value.reason == "budget"
        assert Decimal(budget) - 1 < client.bill_usd <= Decimal(budget)  # nor is more left than one worst case
        assert caught.value.done == len(client.tokens)


def test_a_raised_budget_goes_on(tmp_path):
    """What was spent before counts, nothing is paid twice, and the end costs what it costs."""
    client = Dear()
    for budget in (5, 20):
        with pytest.raises(errors.Stopped):
            run(numbered(60), tmp_path / "out", client, budget_usd=budget)
        assert budget - 1 < client.bill_usd <= budget
    found = run(numbered(60), tmp_path / "out", client, budget_usd=100)
    assert found["_status"].tolist() == ["done"] * 60
    stored = enrichkit.read(tmp_path / "out")["company._cost_usd"]
    assert sum(Decimal(str(one)) for one in stored) == client.bill_usd
    assert len(client.tokens) == 60


def test_the_stop_says_what_is_left_and_about_what_it_costs(tmp_path):
    """By what this run's own questions have cost."""
    with pytest.raises(errors.Stopped) as caught:
        run(numbered(60), tmp_path / "out", Dear(least=800, most=800), budget_usd=8)
    assert re.search(r"the next request may cost up to 1\.0000 USD, 0\.\d000 are left", str(caught.value))
    assert "9 of 60 records are done and saved, 51 are left. They will cost about 40.80 USD more." in str(caught.value)
    prices = enrichkit.report(tmp_path / "out", prices=PRICES).cost.prices
    assert str(caught.value).endswith(f"Prices: {prices}. The same call with a higher budget_usd goes on from here.")
    with pytest.raises(errors.Stopped, match=r"USD, the budget is overspent by 4\.2000 USD\)\. 0 of 51 records"):
        run(numbered(60), tmp_path / "out", Dear(), budget_usd=3)


def test_the_plan_says_about_where_a_budget_will_stop_the_run(tmp_path):
    """By this store's own replies after a pilot, and by what is spent already; and the run stops there."""
    out, client = tmp_path / "out", Dear(least=800, most=800)
    run(numbered(10), out, client)

    def told(budget, **more):
        return enrichkit.plan(numbered(60), **settings(out, budget_usd=budget, **more)).budget

    assert told(20) == "Budget 20.00 USD, 8.00 of it spent: the run will stop after about 14 of 50 questions."
    with pytest.raises(errors.Stopped) as caught:
        run(numbered(60), out, client, budget_usd=20, workers=1)
    assert caught.value.done == 14
    assert told(19.9).startswith("Budget 19.90 USD, 19.20 of it spent: too little for another request, which may cost")
    assert told(49) == "Budget 49.00 USD, 19.20 of it spent: holds the estimate, but not its high end."
    assert told(200) == "Budget 200.00 USD, 19.20 of it spent: holds the estimate."
    assert told(None) == ""


def test_the_plan_says_that_a_budget_is_refused_where_a_price_is_unknown(tmp_path):
    """Whether one is given or not: the next call may have one."""
    for budget in (None, 5):
        found = enrichkit.plan(numbered(60), **settings(tmp_path / "out", prices={}, budget_usd=budget))
        assert found.budget.startswith(
            "The price of 'm' is unknown: give prices={'m': enrichkit.Price(...)}. Until then"
        )
        assert found.budget in str(found)


def test_a_budget_too_small_for_anything_names_the_price(tmp_path):
    """Before anything has been asked, as the plan would."""
    client = Dear()
    with pytest.raises(errors.Stopped) as caught:
        run(numbered(60), tmp_path / "out", client, budget_usd=0.5)
    price = enrichkit.plan(numbered(60), **settings(tmp_path / "none")).cost_usd[1]
    assert f"0 of 60 records are done and saved, 60 are left. They will cost about {price:.2f} USD more." in str(
        caught.value
    )
    assert client.tokens == {}


def test_a_reply_beyond_its_worst_case_is_named_and_ends_nothing(tmp_path):
    """It is counted, and raises what is set aside for the others: the run ends when that fits no more."""
    client = Dear(least=100, most=100)

    def liar(request):
        reply = client(request)
        if "N7" not in request.text:
            return reply
        client.tokens[request.text] = 5000
        return Reply(text="{}", usage=Usage(prompt_tokens=10, output_tokens=5000), model_version="m")

    with pytest.raises(errors.Stopped) as caught:
        run(numbered(60), tmp_path / "out", liar, workers=1, budget_usd=11)
    assert "the reply about name 'N7' (stage company) cost 5.0000 USD, 4.0000 more than the worst case" in str(
        caught.value
    )
    assert (caught.value.reason, caught.value.done) == ("budget", 12)
    assert run(numbered(60), tmp_path / "out", liar, budget_usd=60)["_status"].eq("done").all()
    stored = enrichkit.read(tmp_path / "out")["company._cost_usd"]
    assert sum(Decimal(str(one)) for one in stored) == client.bill_usd == Decimal("10.9")


def test_the_status_tells_the_bill_while_it_grows(tmp_path):
    """Spent, projected, a record's cost; unknown until the first reply; exact at the end."""
    go = threading.Semaphore(0)
    client = Dear(least=500, most=500, slowest_seconds=0)

    def waiting(request):
        go.acquire()
        return client(request)

    run(numbered(4), tmp_path / "out", client)
    more = settings(tmp_path / "out", workers=2, budget_usd=30)
    job = enrichkit.start(numbered(44), client=waiting, progress=False, **more)
    first = job.status.money
    assert (first.spent_usd, first.budget_usd) == (2.0, 30.0)
    assert first.prices.endswith(", and your own for m")
    assert (first.rest_usd, first.projected_usd, first.per_record_usd) == (None, None, None)
    go.release(10)
    wait_for(lambda: job.status.done == 10)
    status = job.status
    assert (status.money.cost_usd, status.money.spent_usd, status.money.rest_usd) == pytest.approx((5.0, 7.0, 15.0))
    assert (status.money.projected_usd, status.money.per_record_usd) == pytest.approx((22.0, 0.5))
    assert "5.00 USD of about 20.00, 0.5000 a record" in one_line(status)
    go.release(30)
    job.result()
    last = job.status
    money = last.money
    assert (money.spent_usd, money.projected_usd, money.rest_usd, money.per_record_usd) == (22.0, 22.0, 0.0, 0.5)
    assert "of the budget" not in one_line(last)


class Rude(logging.Handler):
    """A handler of the caller's that keeps what it is told, and raises."""

    def __init__(self):
        super().__init__()
        self.told = []

    def emit(self, record):
        self.told.append(record.getMessage())
        raise RuntimeError("rude")


@pytest.fixture
def log():
    handler = Rude()
    logging.getLogger("enrichkit").addHandler(handler)
    yield handler.told
    logging.getLogger("enrichkit").removeHandler(handler)


def test_most_of_the_budget_spent_is_logged_once_a_run(tmp_path, log):
    """For whoever follows no progress; not before 80 %, and whatever the log does the run goes on."""
    client = Dear(least=500, most=500)
    run(numbered(15), tmp_path / "out", client, budget_usd=10)
    assert log == []
    run(numbered(16), tmp_path / "out", client, budget_usd=10)
    (told,) = log
    assert told.startswith("80 % of the budget is spent: 8.0000 of 10.0000 USD (genai-prices ")
    assert "and your own for m). " in told
    run(numbered(19), tmp_path / "out", client, budget_usd=10, workers=1)
    assert len(log) == 2


def test_what_may_have_been_spent_counts_for_the_warning(tmp_path, log):
    """Nobody knows whether a request that broke off was charged."""

    def silent(request):
        return Reply(failure=Failure(cause="bad_request", may_be_charged=True))

    job = enrichkit.start(
        numbered(4), client=silent, progress=False, **settings(tmp_path / "out", budget_usd=5, workers=1)
    )
    job.result()
    assert job.status.money.budget_share == pytest.approx(0.8, abs=0.01)
    assert log[0].startswith("80 % of the budget is spent or may be: ")


def test_an_unknown_price_has_no_projection(tmp_path):
    """And a budget is refused together with it, before anything is asked."""
    frame = numbered(3)
    job = enrichkit.start(frame, client=Dear(), progress=False, **settings(tmp_path / "out", prices={}))
    job.result()
    money = job.status.money
    assert (money.unpriced, money.projected_usd, money.per_record_usd) == (
        3,
        None,
        None,
    )
    client = Dear()
    with pytest.raises(errors.BudgetError, match="price of 'm' is unknown"):
        run(frame, tmp_path / "other", client, prices={}, budget_usd=1)
    grounded = dataclasses.replace(COMPANY, search=True)
    with pytest.raises(errors.BudgetError, match=r"price of a search by 'm' is unknown: give .* a search_usd"):
        run(frame, tmp_path / "other", client, stages=[grounded], budget_usd=1)
    assert client.tokens == {}


def test_the_plan_counts_what_the_store_has_cost(tmp_path):
    """As the bill has it, at the price list's prices."""
    more = {"out": tmp_path / "out", "stages": [dataclasses.replace(COMPANY, search=True)], "key": "name"}
    enrichkit.run(numbered(5), model="simulator", progress=False, **more)
    spent = enrichkit.report(tmp_path / "out").cost.total.cost_usd
    found = enrichkit.plan(numbered(60), model="simulator", budget_usd=50, **more)
    assert found.budget.startswith(f"Budget 50.00 USD, {spent:.4f} of it spent: holds the estimate")
