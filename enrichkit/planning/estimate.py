"""The estimate: about how many tokens, how much money and time what is to ask will take, as low, middle and high.

Where the store has replies of a stage, their mean is carried over to what is left, with a range that is wider the
fewer they are and the more they differ. Else the prompt's length and the stage's usual sizes have to do. Both are
closed formulas: the same store and table give the same estimate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..formatting import many
from ..messages import SIMULATOR, Usage
from ..pricing.prices import Price, cost, per_prompt, rates, worst_case
from ..stages import funds
from ..stages.stage import LONGEST_VALUE, SYSTEM, Stage
from ..store.files import files_of
from ..store.index import Index, read_shards
from ..store.parquet import join
from ..store.replies import booked_usd, read_replies
from ..store.rows import meta
from .past import Numbers, UsageHistory
from .plan import RunPlan
from .questions import StageQuestions

LONGEST_PROMPT_BYTES = 10_000


Range = tuple[float, float, float]
"""Low, middle, high."""

# The usual sizes of one question, seen on investor records: low, middle, high.
BYTES_PER_TOKEN: Range = (5.0, 4.0, 3.0)
SEARCH_TOKENS: Range = (600, 1500, 3000)
"""What the search's results add to the prompt."""
SEARCHES = (1, 2, 3)
OUTPUT: dict[str, Range] = {"poc": (300, 700, 1500), "fund": (300, 700, 1500), "deep": (600, 1600, 3600)}
"""Thinking included."""
OUTPUT_OF_ANY: Range = (100, 300, 900)
OUTPUT_OF_A_FIELD: Range = (15, 45, 90)
SECONDS: Range = (4.0, 10.0, 30.0)
SIMULATED_SECONDS: Range = (0.005, 0.02, 0.1)

OWN_SECONDS: Range = (0.001, 0.002, 0.006)
"""What a request takes of this computer, whatever the service does."""
SURE = 0.985
"""Of 100 true values so many lie below the range's end, were the values of normal shape; 97 lie within."""
PRIOR_QUESTIONS = 3
PRIOR_SPREAD = 0.6
"""A few replies happen to look alike: so they are joined by as many thought ones, spread by so much of the mean."""
LEAST_SPREAD = 0.03


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is to ask will take about so much; ``cost_usd`` is None where a price is unknown."""

    tokens: Range
    cost_usd: Range | None
    seconds: Range
    basis: str
    """What the sizes were taken from, in words."""


def estimate(
    work: RunPlan, past: Mapping[str, UsageHistory], *, workers: int, rpm: float | None, prices: Mapping[str, Price]
) -> Estimate:
    """Return about what the open questions of a table will take."""
    asking = [(stage, int((~stage.known).sum())) for stage in work.stages if not stage.known.all()]
    requests = sum(count for _, count in asking)
    seen = {stage.stage.name: past[stage.stage.name] for stage, _ in asking if _is_known(past, stage)}
    usual = {stage.stage.name: list(_usual(work, stage.stage)) for stage, _ in asking if stage.stage.name not in seen}
    measured = [(seen[name], count) for stage, count in asking if (name := stage.stage.name) in seen]
    guessed = [(usual[name], count) for stage, count in asking if (name := stage.stage.name) in usual]

    tokens = _sum(
        carry_over([(one.tokens, count) for one, count in measured]),
        *([float(size.total_tokens or 0) * count for size in sizes] for sizes, count in guessed),
    )
    patience = SIMULATED_SECONDS if work.model == SIMULATOR else SECONDS
    seconds = _sum(
        carry_over([(one.facts["seconds"], count) for one, count in measured]),
        *([one * count for one in patience] for _, count in guessed),
    )
    at_once = max(1, min(workers, requests))
    allowed = 0.0 if rpm is None else (requests - 1) * 60 / rpm
    return Estimate(
        tokens=tokens,
        cost_usd=_cost(work, asking, seen, usual, prices),
        seconds=_longest(*([one / at_once for one in seconds], [one * requests for one in OWN_SECONDS], [allowed] * 3)),
        basis=_basis(seen, usual),
    )


def carry_over(samples: Sequence[tuple[Numbers, int]]) -> Range:
    """Return the range of a total: each sample's mean for as many more of its kind, all kinds together.

    The ends are as far from the middle as a new sample's sum may be, by Student's t; as factors rather than
    differences, since what replies use is skewed: a few take much more than most.

    >>> low, middle, high = carry_over([(np.array([1.0, 2.0, 3.0]), 100)])
    >>> round(low), round(middle), round(high)
    (75, 200, 537)
    """
    total, variance = 0.0, 0.0
    for values, count in samples:
        known = values[~np.isnan(values)]
        if not len(known):
            continue
        mean, free = float(known.mean()), len(known) - 1
        squares = float(((known - mean) ** 2).sum()) + PRIOR_QUESTIONS * (PRIOR_SPREAD * mean) ** 2
        spread = math.sqrt(squares / (free + PRIOR_QUESTIONS))
        half = student(free + PRIOR_QUESTIONS) * spread * count * math.sqrt(1 / len(known) + 1 / count)
        total += mean * count
        variance += half**2
    factor = math.exp(max(LEAST_SPREAD, math.sqrt(variance) / total)) if total else 1.0
    return total / factor, total, total * factor


def student(free: int) -> float:
    """Return Student's t at `SURE`, by its expansion around the normal one: 1 % off at three degrees, less beyond.

    >>> [round(student(free), 2) for free in (3, 12, 1000)]
    [3.85, 2.46, 2.17]
    """
    z = NormalDist().inv_cdf(SURE)
    return (
        z
        + (z**3 + z) / (4 * free)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    )


def past_costs(past: UsageHistory, model: str, prices: Mapping[str, Price]) -> Numbers | None:
    """Return what past questions would cost today; None if a price is unknown.

    By the version that answered where the same was asked as now, else by the model that is to be asked.
    """
    fact = {name: np.nan_to_num(values) for name, values in past.facts.items()}
    unknown = np.isnan(past.facts["input_tokens"]) | np.isnan(past.facts["output_tokens"])
    found = np.full(len(past), np.nan)
    answering = np.array([one or model for one in past.models], dtype=object)
    for version in sorted(set(answering)):
        some = answering == version
        length = fact["input_tokens"][some] / np.maximum(1, fact["attempts"][some])
        rate = rates(version, prices=prices, prompt_tokens=int(length.mean()))
        searches = np.minimum(fact["searches"], fact["attempts"]) if per_prompt(version) else fact["searches"]
        if rate is None or (rate.search is None and searches[some].any()):
            return None
        cached = np.minimum(fact["cached_tokens"], fact["input_tokens"])
        read = fact["input_tokens"] - cached + fact["tool_tokens"]
        written = fact["output_tokens"] + fact["thinking_tokens"]
        tokens_usd = float(rate.input) * read + float(rate.cached) * cached + float(rate.output) * written
        found[some] = (tokens_usd / 1e6 + float(rate.search or 0) * searches / 1000)[some]
    return np.where(unknown, past.facts["cost_usd"], found)


def _is_known(past: Mapping[str, UsageHistory], stage: StageQuestions) -> bool:
    one = past.get(stage.stage.name)
    if one is None:
        return False
    priced = ~np.isnan(one.facts["output_tokens"]) | ~np.isnan(one.facts["cost_usd"])
    return bool((~np.isnan(one.tokens) & priced).any())


def _cost(
    work: RunPlan,
    asking: Sequence[tuple[StageQuestions, int]],
    seen: Mapping[str, UsageHistory],
    usual: Mapping[str, Sequence[Usage]],
    prices: Mapping[str, Price],
) -> Range | None:
    samples, guesses = [], []
    for stage, count in asking:
        name, model = stage.stage.name, stage.stage.model or work.model
        if name in seen:
            if (costs := past_costs(seen[name], model, prices)) is None:
                return None
            samples.append((costs, count))
        else:
            found = [cost(size, model, prices=prices) for size in usual[name]]
            guesses.append([float(one.total_usd) * count for one in found if one is not None])
    return None if any(len(one) < 3 for one in guesses) else _sum(carry_over(samples), *guesses)


def _usual(work: RunPlan, stage: Stage) -> Iterator[Usage]:
    """Yield what one question of a stage usually uses: low, middle, high."""
    length = len(SYSTEM) + len(stage.prompt) + len(json.dumps(stage.schema))
    length += sum(_mean_length(work.table.column(name)) for name in stage.reads if name in work.table.column_names)
    built_in = stage.name in OUTPUT and stage.answer is funds.STAGES[stage.name].answer
    for place in range(3):
        output = OUTPUT_OF_ANY[place] + OUTPUT_OF_A_FIELD[place] * len(stage.schema["properties"])
        output = min(OUTPUT[stage.name][place] if built_in else output, stage.max_output_tokens)
        prompt = length / BYTES_PER_TOKEN[place] + (SEARCH_TOKENS[place] if stage.search else 0)
        yield Usage(
            prompt_tokens=round(prompt),
            output_tokens=round(output),
            total_tokens=round(prompt) + round(output),
            searches=SEARCHES[place] if stage.search else 0,
        )


def _mean_length(column: pa.ChunkedArray) -> int:
    """Return the mean length of a column's cells in bytes: letters beyond ASCII take more tokens, too."""
    if not pa.types.is_string(column.type):
        return 10
    return min(LONGEST_VALUE, round((pc.sum(pc.binary_length(column)).as_py() or 0) / len(column)))


def _sum(*ranges: Sequence[float]) -> Range:
    low, middle, high = (sum(one[place] for one in ranges) for place in range(3))
    return low, middle, high


def _longest(*ranges: Sequence[float]) -> Range:
    low, middle, high = (max(one[place] for one in ranges) for place in range(3))
    return low, middle, high


def _basis(seen: Mapping[str, UsageHistory], usual: Mapping[str, object]) -> str:
    if not seen:
        return "from the usual sizes"
    told = f"measured on {many(sum(map(len, seen.values())), 'reply', 'replies')} of this store"
    return f"{told}, but {' and '.join(usual)} from the usual sizes" if usual else told


def spent_before(
    out: Path,
    index: Index,
    work: RunPlan,
    *,
    budget_usd: float | None,
    prices: Mapping[str, Price],
    booked: Callable[[], Decimal | None],
) -> Decimal:
    """Return what a budget counts of earlier runs; what is of unknown price counts as the worst that it may be.

    The rows hold prices of the day they were booked, and nothing where one was unknown. Where prices of one's own are
    given, or one was unknown, the replies are gone through one by one.
    """
    if budget_usd is None or index.empty:
        return Decimal()
    known = None if prices else booked()
    if known is not None:
        return known
    worst = worst_request(work, prices)
    paid = read_replies(out, prices).paid
    return sum((worst if one.cost is None else one.cost.total_usd for one in paid), Decimal())


def booked_before(out: Path, index: Index) -> Decimal | None:
    """Return what the rows of a store say they cost; None if replies are pending, or a price was unknown."""
    columns = {meta(stage, fact) for stage in index.stages for fact in ("cost_usd", "paid_by")}
    tables, _ = read_shards(files_of(out), out, columns)
    return None if index.pending else booked_usd(join(list(tables.values())))


def worst_request(work: RunPlan, prices: Mapping[str, Price]) -> Decimal:
    """Return about the worst case of the dearest request; what is of unknown price counts as nothing."""
    found = (
        worst_case(
            one.stage.model or work.model,
            prompt_bytes=LONGEST_PROMPT_BYTES,
            max_output_tokens=one.stage.max_output_tokens,
            search=one.stage.search,
            prices=prices,
        )
        for one in work.stages
    )
    return max((one or Decimal() for one in found), default=Decimal())
