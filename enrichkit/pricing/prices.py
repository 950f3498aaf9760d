"""The prices: tokens and searches to USD.

The prices are those of the `genai-prices` package, which comes with them and asks no network: of every provider that it
knows. What is unknown stays unknown: no price is ever taken for 0.
"""

from __future__ import annotations

import functools
import importlib.metadata
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from ..errors import InputError
from ..formatting import Sentence
from ..messages import DEFAULT_MODEL, SIMULATOR, Usage

MOST_SEARCHES = 10
"""Searches that one grounded request is taken to make at most, before one has made more."""
SEARCH_TOKENS = 20_000
"""Tokens that search results may add to a prompt at most."""
TIERS = {"flex": Decimal("0.5"), "priority": Decimal("1.8")}
"""What a token costs at other tiers, by Google's page of prices of November 2026; a search costs the same."""
KINDS = ("input", "cached", "thinking", "output", "search")
"""What is paid for in a reply."""
DOLLARS = (*(f"{kind}_usd" for kind in KINDS), "cost_usd")
"""The columns of tables with costs: by kind, and the sum."""
FREE = {"gemini-2": ("grounded prompt", 1500, "day"), "gemini-": ("search", 5000, "month")}
"""How many searches are free, by how a model's name begins; from Gemini 3 on each counts, before only the prompt."""
FREE_AS_OF = "September 2026"
"""When Google's page of prices said so."""
MODELS = (
    *("gemini-3.5-flash-lite", "gemini-3.8-flash", "gemini-3.7-flash", "gemini-3.6-flash", "gemini-3.5-flash"),
    *("gemini-3.1-flash-lite", "gemini-4-argon", "gemini-3.1-pro-preview"),
    *("gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-pro"),
)
"""Models whose prices are worth comparing."""
PREFIX = "models/"
"""What may stand before a model's name, and says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price of your own, for a model that the bundled list lacks or knows wrongly; the same at every tier.

    Parameters
    ----------
    input_usd, output_usd : float
        USD per million tokens; thinking counts as output.
    cached_usd : float, optional
        USD per million cached input tokens; default: as other input.
    search_usd : float, optional
        USD per thousand searches; 0 if they are free. Left out it is unknown, and so is the cost of a reply that
        searched, and whether a budget would hold a stage that does.

    Examples
    --------
    >>> {"my-model": Price(input_usd=0.5, output_usd=2, search_usd=14)}["my-model"].output_usd
    2
    """

    input_usd: float | Decimal
    output_usd: float | Decimal
    cached_usd: float | Decimal | None = None
    search_usd: float | Decimal | None = None

    def __post_init__(self) -> None:
        for name in ("input_usd", "output_usd", "cached_usd", "search_usd"):
            value = getattr(self, name)
            number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
            left_out = value is None and name in ("cached_usd", "search_usd")
            if not left_out and not (number and math.isfinite(value) and value >= 0):
                raise InputError(
                    "Price.{name} must be a number of USD from 0 on, not {value!r}.", name=name, value=value
                )


def free_searches(model_version: str) -> tuple[str, int, str]:
    """Return what a model's searches are counted in, how many are free, and in which time.

    >>> free_searches("gemini-2.5-flash"), free_searches("my-model")
    (('grounded prompt', 1500, 'day'), ('search', 0, ''))
    """
    model = priced_as(model_version)
    return next((free for prefix, free in FREE.items() if model.startswith(prefix)), ("search", 0, ""))


Cost = Mapping[str, Decimal]
"""What a reply cost in USD, by kind; ``input`` without what was cached."""


def total_usd(cost: Cost | None) -> Decimal | None:
    """Return a cost of all kinds together; None if it is unknown."""
    return None if cost is None else sum(cost.values(), Decimal())


@dataclass(frozen=True, slots=True)
class Total:
    """What several things cost together: the sum of the known costs, and how many are of unknown price."""

    usd: Decimal = Decimal()
    unpriced: int = 0

    def __add__(self, other: Total) -> Total:
        return Total(self.usd + other.usd, self.unpriced + other.unpriced)


def total(costs: Iterable[Decimal | None]) -> Total:
    """Return the sum of costs; an unknown one is counted, and never taken for 0.

    >>> total([Decimal("0.5"), None, Decimal("0.25")])
    Total(usd=Decimal('0.75'), unpriced=1)
    """
    costs = list(costs)
    known = [cost_usd for cost_usd in costs if cost_usd is not None]
    return Total(sum(known, Decimal()), len(costs) - len(known))


def priced_as(model_version: str) -> str:
    """Return the model by whose price a reply is charged; the simulator counts as the default model."""
    name = model_version.removeprefix(PREFIX)
    if name == SIMULATOR:
        return DEFAULT_MODEL
    return name.removeprefix(f"{SIMULATOR}-")


@functools.lru_cache(maxsize=4096)
def providers_of(model: str) -> tuple[str, ...]:
    """Return who sells a model: the one that its name begins with, else its maker, else all that list it.

    >>> providers_of("openai:gpt-5-mini"), providers_of("gpt-5-mini"), providers_of("mistral:7b")
    (('openai',), ('openai',), ())
    """
    from genai_prices.data_snapshot import get_snapshot

    listed, (named, _, name) = get_snapshot(), model.partition(":")
    if any(provider.id == named and provider.find_model(name) for provider in listed.providers if name):
        return (named,)
    try:
        return (listed.find_provider_model(model, None, None, None)[0].id,)
    except LookupError:
        return tuple(provider.id for provider in listed.providers if provider.find_model(model))


def name_at_provider(model: str) -> str:
    """Return a model's name as its provider knows it, without the one before the colon.

    >>> name_at_provider("openai:gpt-5-mini"), name_at_provider("llama3.2:3b")
    ('gpt-5-mini', 'llama3.2:3b')
    """
    provider, _, name = model.partition(":")
    return name if name and providers_of(model) == (provider,) else model


def billed_as(version: str | None, asked: str) -> str:
    """Return the name by which a reply is charged: the version that answered, with who sells the model, but for Google.

    >>> billed_as("gpt-5-mini-2025-08-07", "gpt-5-mini"), billed_as(None, "gemini-3.5-flash-lite")
    ('openai:gpt-5-mini-2025-08-07', 'gemini-3.5-flash-lite')
    """
    name = version or asked
    providers = providers_of(asked) or providers_of(name)
    if len(providers) != 1 or name.startswith((SIMULATOR, f"{providers[0]}:")):
        return name
    googles = providers == ("google",) and providers_of(name) in ((), providers)
    return name if googles else f"{providers[0]}:{name}"


def cost(
    usage: Usage, model_version: str, *, prices: Mapping[str, Price] | None = None, at: datetime | None = None
) -> Cost | None:
    """Return what a reply cost; None if its model's price, or what it used, is unknown.

    >>> usage = Usage(prompt_tokens=1000, output_tokens=500, searches=1)
    >>> total_usd(cost(usage, "gemini-3.5-flash-lite"))
    Decimal('0.01555')
    """
    if usage.prompt_tokens is None or (usage.output_tokens is None and usage.total_tokens is None):
        return None
    output = usage.output_tokens
    thinking = usage.thinking_tokens or 0
    tool = usage.tool_tokens or 0
    if output is None:
        output = max(0, (usage.total_tokens or 0) - usage.prompt_tokens - thinking - tool)
    searches = usage.searches
    cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
    price = price_of(usage, model_version, prices=prices, at=at)
    if price is None or (None in (price.search_usd, searches) and 0 not in (price.search_usd, searches)):
        return None
    if searches and free_searches(model_version)[0] == "grounded prompt":
        searches = 1
    million, cached_usd = Decimal(1_000_000), price.input_usd if price.cached_usd is None else price.cached_usd
    return {
        "input": Decimal(str(price.input_usd)) * (usage.prompt_tokens - cached + tool) / million,
        "cached": Decimal(str(cached_usd)) * cached / million,
        "output": Decimal(str(price.output_usd)) * output / million,
        "thinking": Decimal(str(price.output_usd)) * thinking / million,
        "search": Decimal(str(price.search_usd or 0)) * (searches or 0) / 1000,
    }


def price_of(
    usage: Usage, model_version: str, *, prices: Mapping[str, Price] | None = None, at: datetime | None = None
) -> Price | None:
    """Return the price of a reply, at its tier and length; None if that is unknown."""
    model = priced_as(model_version)
    given, names = prices or {}, (model, model_version, name_at_provider(model))
    own = next((given[name] for name in names if name in given), None)
    # Long prompts have other prices, from whole thousands of tokens on: within a thousand all cost alike.
    thousands, tier = -(-(usage.prompt_tokens or 0) // 1000) * 1000, str(usage.tier)
    day = None if at is None else at.date().isoformat()
    return own or _bundled(model, day, thousands, tier if tier in TIERS else "standard")


def lacking(model: str, *, search: bool, prices: Mapping[str, Price]) -> Sentence | None:
    """Return which price of a model is unknown, and how to give it, in words; None if all are known.

    >>> lacking("my-model", search=True, prices={"my-model": Price(input_usd=1, output_usd=2, search_usd=0)})
    """
    price = price_of(Usage(prompt_tokens=1), model, prices=prices)
    if price is None and (providers := providers_of(model)):
        return Sentence(
            "The price of {name!r} depends on who sells it, {providers}: {model}={named!r} says so",
            name=model,
            providers=", ".join(providers),
            named=f"{providers[0]}:{model}",
        )
    if price is None:
        return Sentence(
            "The price of {name!r} is unknown: {give_prices}={{{name!r}: enrichkit.Price(...)}}", name=model
        )
    if search and price.search_usd is None:
        return Sentence(
            "The price of a search by {name!r} is unknown: give its enrichkit.Price a search_usd, 0 if free",
            name=model,
        )
    return None


@functools.lru_cache(maxsize=4096)
def _bundled(model: str, day: str | None, prompt_tokens: int, tier: str) -> Price | None:
    """Return the price in the bundled data on a day, for a prompt of that length; None if the model is unknown."""
    import genai_prices

    providers = providers_of(model)
    if len(providers) != 1:
        return None
    when = None if day is None else datetime.fromisoformat(f"{day}T12:00:00+00:00")
    length = max(prompt_tokens, 1)

    def usd_of(**used: int) -> Decimal:
        return genai_prices.calc_price(
            genai_prices.Usage(**used),
            model_ref=name_at_provider(model),
            provider_id=providers[0],
            genai_request_timestamp=when,
            price_context={"service_tier": tier},
        ).total_price

    try:
        plain = usd_of(input_tokens=length)
        output = usd_of(input_tokens=length, output_tokens=1_000_000) - plain
        cached = usd_of(input_tokens=length, cache_read_tokens=length)
        search = usd_of(input_tokens=length, web_searches=1000) - plain
    except LookupError:
        return None
    standard = _bundled(model, day, prompt_tokens, "standard") if tier in TIERS and providers == ("google",) else None
    is_unlisted = standard is not None and standard.output_usd == output  # the list does not know this tier
    share = TIERS[tier] if is_unlisted else Decimal(1)
    input_usd, cached_usd = (share * usd * 1_000_000 / length for usd in (plain, cached))
    # A fee that the list lacks comes out as 0: it is unknown.
    return Price(input_usd=input_usd, output_usd=share * output, cached_usd=cached_usd, search_usd=search or None)


def worst_case(
    model: str, *, prompt_bytes: int, max_output_tokens: int, searches: int, prices: Mapping[str, Price] | None = None
) -> Decimal | None:
    """Return the most that a request is taken to cost, at one token a byte; None if the price is unknown."""
    usage = Usage(
        prompt_tokens=prompt_bytes + (SEARCH_TOKENS if searches else 0),
        output_tokens=max_output_tokens,
        searches=searches,
    )
    return total_usd(cost(usage, model, prices=prices))


def prices_told(own: Mapping[str, Price]) -> str:
    """Return whose prices are used, in words."""
    more = f", and your own for {', '.join(sorted(own))}" if own else ""
    return f"genai-prices {importlib.metadata.version('genai-prices')}{more}"
