"""Prices: what a reply costs, what is unknown, and a budget that is never passed."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

import enrichkit
from enrichkit import Price, Stage, errors
from enrichkit.messages import Reply, Usage
from enrichkit.pricing.budget import Budget, Forecast
from enrichkit.pricing.prices import cost, total_usd, worst_case
from support.tables import Company, numbered

LITE = "gemini-3.5-flash-lite"
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def usd(usage, model=LITE, **settings):
    return total_usd(cost(replace(usage, searches=usage.searches or 0), model, at=NOW, **settings))


def test_each_kind_of_token_has_its_price():
    """Input 0.30, output and thinking 2.50, cached 0.03 USD per million, 14 USD per thousand searches."""
    million = 1_000_000
    assert usd(Usage(prompt_tokens=million, output_tokens=0)) == Decimal("0.3")
    assert usd(Usage(prompt_tokens=0, output_tokens=million)) == Decimal("2.5")
    assert usd(Usage(prompt_tokens=0, output_tokens=0, thinking_tokens=million)) == Decimal("2.5")
    assert usd(Usage(prompt_tokens=million, cached_tokens=million, output_tokens=0)) == Decimal("0.03")
    assert usd(Usage(prompt_tokens=0, output_tokens=0, tool_tokens=million)) == Decimal("0.3")
    assert usd(Usage(prompt_tokens=0, output_tokens=0, searches=1000)) == Decimal("14")


@pytest.mark.parametrize("model", ["gemini-3.1-pro-preview", "gemini-2.5-pro", "gemini-3.5-flash-lite"])
@pytest.mark.parametrize("tokens", [1, 999, 1000, 1001, 199_001, 200_000, 200_001, 900_000])
def test_a_long_prompt_has_its_own_price(model, tokens):
    """As the price list says for just so many tokens, though prices are looked up by the thousand."""
    used = genai_prices.Usage(input_tokens=tokens, output_tokens=500)
    listed = genai_prices.calc_price(used, model_ref=model, provider_id="google").total_price
    assert total_usd(cost(Usage(prompt_tokens=tokens, output_tokens=500, searches=0), model)) == listed


def test_older_models_are_charged_per_grounded_prompt():
    """Up to 2.5 the fee is for the prompt, however many queries it took."""
    one, three = (usd(Usage(prompt_tokens=0, output_tokens=0, searches=n), "gemini-2.5-flash") for n in (1, 3))
    assert one == three == Decimal("0.035")


def test_the_simulator_is_priced_as_the_default_model():
    """So that the cost pages have something to show."""
    usage = Usage(prompt_tokens=1000, output_tokens=500, searches=2)
    assert usd(usage, "simulator") == usd(usage)


@pytest.mark.parametrize(
    ("usage", "model"),
    [
        (Usage(prompt_tokens=10, output_tokens=10), "gemini-99-unheard-of"),
        (Usage(output_tokens=10), LITE),
        (Usage(prompt_tokens=10), LITE),
    ],
)
def test_what_is_unknown_is_never_zero(usage, model):
    """An unknown model or count makes the cost unknown."""
    assert usd(usage, model) is None


@pytest.mark.parametrize(
    ("model", "prices"),
    [
        ("m", {"m": Price(input_usd=1, output_usd=2)}),
        ("gemini-1.5-flash", {}),  # the list has no search fee of it
    ],
)
def test_an_unknown_search_fee_makes_only_searches_unknown(model, prices):
    """A reply that did not search is priced; whoever says 0 says that searches are free."""
    plain, searched = (Usage(prompt_tokens=10, output_tokens=10, searches=searches) for searches in (0, 1))
    assert usd(plain, model, prices=prices) > 0
    assert usd(searched, model, prices=prices) is None
    bounds = {"prompt_bytes": 10, "max_output_tokens": 10, "prices": prices}
    assert worst_case(model, searches=0, **bounds) > 0
    assert worst_case(model, searches=1, **bounds) is None
    free = {model: Price(input_usd=1, output_usd=2, search_usd=0)}
    assert usd(searched, model, prices=free) == Decimal("0.00003")


def test_a_missing_output_count_is_the_rest_of_the_total():
    """Replies may lack any count."""
    assert usd(Usage(prompt_tokens=100, thinking_tokens=50, total_tokens=200)) == usd(
        Usage(prompt_tokens=100, thinking_tokens=50, output_tokens=50)
    )


def test_a_price_of_ones_own_comes_first():
    """For a model that the list lacks, or knows wrongly."""
    own = {LITE: Price(input_usd=1, output_usd=2, search_usd=3)}
    usage = Usage(prompt_tokens=1_000_000, output_tokens=1_000_000, searches=1000)
    assert usd(usage, prices=own) == Decimal(6)


@given(
    st.integers(1, 200_000), st.integers(1, 65_536), st.integers(0, 10), st.integers(0, 65_536), st.integers(0, 200_000)
)
def test_no_reply_within_its_bounds_is_dearer_than_the_worst_case(prompt, most, searches, output, cached):
    """What is reserved before a request is enough for it."""
    output = min(output, most)
    worst = worst_case(LITE, prompt_bytes=prompt, max_output_tokens=most, searches=10)
    usage = Usage(
        prompt_tokens=prompt,
        cached_tokens=min(cached, prompt),
        output_tokens=output,
        thinking_tokens=most - output,
        searches=searches,
    )
    assert total_usd(cost(usage, LITE)) <= worst


def test_a_budget_is_never_passed_by_many_threads():
    """Whatever is reserved at once stays within it."""
    budget = Budget(1, spent_usd="0.25")
    passed = []

    def spend():
        for _ in range(200):
            if budget.reserve(Decimal("0.01")):
                passed.append(1)
                budget.settle(Decimal("0.01"), Decimal("0.005"))

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.spent_usd <= 1
    assert budget.spent_usd == Decimal("0.25") + len(passed) * Decimal("0.005")
    assert budget.reserved_usd == 0
    assert not budget.reserve(Decimal("0.01"))


def test_what_may_have_been_spent_stays_set_aside():
    """A request whose fate nobody knows keeps its reservation; an unknown price counts as the worst case."""
    budget = Budget(1)
    assert budget.reserve(Decimal("0.6"))
    budget.keep(Decimal("0.6"))
    assert not budget.reserve(Decimal("0.5"))
    assert budget.reserve(Decimal("0.4"))
    budget.settle(Decimal("0.4"), None)
    assert (budget.spent_usd, budget.possibly_usd, budget.left_usd) == (Decimal("0.4"), Decimal("0.6"), 0)


def test_an_excess_is_told():
    """A reply dearer than its worst case, where there is a budget."""
    for budget, excess in ((Budget(1), Decimal("0.2")), (Budget(None), 0)):
        budget.reserve(Decimal("0.1"))
        budget.settle(Decimal("0.1"), Decimal("0.3"))
        budget.settle(Decimal("0.1"), Decimal("0.1"))
        assert budget.excess_usd == excess
        assert bool(budget.excess) == bool(excess)


def test_what_is_in_flight_may_still_leave_room():
    """Only what fits no more, whatever is given back, ends a run."""
    budget = Budget(1)
    budget.reserve(Decimal("0.8"))
    assert not budget.reserve(Decimal("0.5"))
    assert not budget.never(Decimal("0.5"))
    budget.settle(Decimal("0.8"), Decimal("0.6"))
    assert budget.never(Decimal("0.5"))
    assert budget.left_text == "0.4000 are left"


def test_a_forecast_goes_by_each_stage():
    """A stage that has answered nothing yet counts as the others do; what was not asked costs nothing."""
    forecast = Forecast([4, 2, 1])
    assert forecast.rest_usd is None
    forecast.finish(0, Decimal("0.02"))
    forecast.finish(0, Decimal("0.04"))
    assert forecast.rest_usd == Decimal("0.03") * (2 + 2 + 1)
    forecast.finish(1, Decimal("0.09"))
    forecast.finish(2, None)
    assert forecast.rest_usd == 2 * Decimal("0.03") + Decimal("0.09")
    assert Forecast([0, 0]).rest_usd == 0


def test_every_provider_is_looked_up_and_the_bill_names_it(tmp_path):
    """The one before the colon, else the maker; two that sell it and did not make it must be told apart."""
    usage = Usage(prompt_tokens=1000, output_tokens=100, searches=0)
    for model, usd in [
        ("gpt-5-mini", "0.00045"),
        ("openai:gpt-5-mini", "0.00045"),
        ("gemini-3.5-flash-lite", "0.00055"),
    ]:
        assert total_usd(cost(usage, model)) == Decimal(usd)
    assert cost(usage, "Qwen/Qwen3-8B") is None
    assert total_usd(cost(usage, "openrouter:Qwen/Qwen3-8B")) > 0
    own = {"gpt-5-mini": Price(input_usd=1, output_usd=0)}
    assert total_usd(cost(usage, "openai:gpt-5-mini", prices=own)) == Decimal("0.001")
    asked = []

    def client(request):
        asked.append(request.model)
        return Reply(text='{"industry": "Tea"}', usage=usage, model_version="gpt-5-mini-2025-08-07")

    stage = Stage("company", prompt="Research {name}.", answer=Company, search=False)
    call = {"stages": [stage], "key": "name", "out": tmp_path / "out", "client": client, "progress": False}
    enrichkit.run(numbered(2), model="openai:gpt-5-mini", budget_usd=1, **call)
    assert asked == ["gpt-5-mini"] * 2  # what the service knows it by
    bill = enrichkit.report(tmp_path / "out").cost
    assert {name: float(line.cost_usd) for name, line in bill.by_model.items()} == {
        "openai:gpt-5-mini-2025-08-07": pytest.approx(0.0009)
    }
    says = {
        "llama3.2:3b": "is unknown: give prices",
        "Qwen/Qwen3-8B": "model='huggingface_nscale:Qwen/Qwen3-8B' says so",
    }
    for model, said in says.items():
        with pytest.raises(errors.BudgetError, match=said):
            enrichkit.run(numbered(2), model=model, budget_usd=1, **call | {"out": tmp_path / "other"})
    assert len(asked) == 2
