"""The estimate: about how many tokens, how much money and time what is to ask will take, as low, middle and high.

Where the store has replies of a stage, their mean is carried over to what is left, with a range that is wider the
fewer they are and the more they differ; two thousand questions tell as much as a million, so only the newest shards
are read. Else the prompt's length and the stage's usual sizes have to do. Both are closed formulas: the same store and
table give the same estimate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..formatting import many
from ..messages import SIMULATOR, Usage
from ..pricing.prices import Price, cost, worst_case
from ..stages import funds
from ..stages.stage import LONGEST_VALUE, SYSTEM, Stage
from ..store.index import Index, damaged_error, find, footer, is_store, stages_of
from ..store.journal import JournalEntry, by_question
from ..store.reader import StoreReader
from ..store.rows import META, RECORD_ID, SPENT, meta, read_outcome
from .plan import RunPlan
from .questions import StageQuestions

LONGEST_PROMPT_BYTES = 10_000
ENOUGH_ROWS = 2000
USAGE = pa.schema([(name, META[name]) for name in (*SPENT, "model")])

Range = tuple[float, float, float]
"""Low, middle, high."""
Numbers = npt.NDArray[np.float64]
Sizes = list[tuple[str, pd.DataFrame, int]]
"""A stage's name, what its questions take, a row each, and how many of them are to ask."""

# The usual sizes of one question, seen on investor records: low, middle, high.
BYTES_PER_TOKEN = np.array([5, 4, 3])
SEARCH_TOKENS = np.array([600, 1500, 3000])
"""What the search's results add to the prompt."""
SEARCHES = np.array([1, 2, 3])
OUTPUT = {"poc": (300, 700, 1500), "fund": (300, 700, 1500), "deep": (600, 1600, 3600)}
"""Thinking included."""
OUTPUT_OF_ANY = np.array([100, 300, 900])
OUTPUT_OF_A_FIELD = np.array([15, 45, 90])
SECONDS: Range = (4.0, 10.0, 30.0)
SIMULATED_SECONDS: Range = (0.005, 0.02, 0.1)

OWN_SECONDS: Range = (0.001, 0.002, 0.006)
"""What a request takes of this computer, whatever the service does."""
STUDENT = ((12, 2.461), (5, 3.003), (0, 3.896))
"""Student's t from so many degrees of freedom on: 97 of 100 true values lie within, were they of normal shape."""
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


def estimate(run_plan: RunPlan, out: Path, *, workers: int, rpm: float | None, prices: Mapping[str, Price]) -> Estimate:
    """Return about what the open questions of a table will take; ``out`` is the store whose replies it goes by."""
    usage = read_usage(out, run_plan.stages, prices)
    measured: Sizes = []
    guessed: Sizes = []
    for questions in run_plan.stages:
        if count := questions.to_ask:
            stage = questions.stage
            sizes = usage[stage.name] if stage.name in usage else _usual_sizes(run_plan, stage)
            sizes = _priced(sizes, stage.model or run_plan.model, prices)
            (measured if stage.name in usage else guessed).append((stage.name, sizes, count))
    requests, at_once = run_plan.to_ask, max(1, min(workers, run_plan.to_ask))
    allowed = 0.0 if rpm is None else (requests - 1) * 60 / rpm
    low, middle, high = (
        max(seconds / at_once, own * requests, allowed)
        for seconds, own in zip(_total("seconds", measured, guessed), OWN_SECONDS, strict=True)
    )
    unpriced = any(sizes["cost_usd"].hasnans for _, sizes, _ in [*measured, *guessed])
    return Estimate(
        tokens=_total("tokens", measured, guessed),
        cost_usd=None if unpriced else _total("cost_usd", measured, guessed),
        seconds=(low, middle, high),
        basis=_basis(measured, guessed),
    )


def _total(quantity: str, measured: Sizes, guessed: Sizes) -> Range:
    """Return the range of a quantity over all that is to ask."""
    low, middle, high = carry_over([(sizes[quantity].to_numpy(float), count) for _, sizes, count in measured])
    for _, sizes, count in guessed:
        least, usual, most = sizes[quantity].to_numpy(float) * count
        low, middle, high = low + least, middle + usual, high + most
    return low, middle, high


def _basis(measured: Sizes, guessed: Sizes) -> str:
    if not measured:
        return "from the usual sizes"
    replies = many(sum(len(sizes) for _, sizes, _ in measured), "reply", "replies")
    usual = " and ".join(name for name, _, _ in guessed)
    return f"measured on {replies} of this store" + (f", but {usual} from the usual sizes" if usual else "")


def carry_over(samples: Sequence[tuple[Numbers, int]]) -> Range:
    """Return the range of a total: each sample's mean for as many more of its kind, all kinds together.

    The ends are as far from the middle as a new sample's sum may be, by Student's t; as factors rather than
    differences, since what replies use is skewed: a few take much more than most.

    >>> low, middle, high = carry_over([(np.array([1.0, 2.0, 3.0]), 100)])
    >>> round(low), round(middle), round(high)
    (74, 200, 538)
    """
    total, variance = 0.0, 0.0
    for values, count in samples:
        mean, free = float(values.mean()), len(values) - 1 + PRIOR_QUESTIONS
        squares = float(((values - mean) ** 2).sum()) + PRIOR_QUESTIONS * (PRIOR_SPREAD * mean) ** 2
        student = next(value for least, value in STUDENT if free >= least)
        half = student * math.sqrt(squares / free) * count * math.sqrt(1 / len(values) + 1 / count)
        total += mean * count
        variance += half**2
    factor = math.exp(max(LEAST_SPREAD, math.sqrt(variance) / total)) if total else 1.0
    return total / factor, total, total * factor


def _priced(sizes: pd.DataFrame, model: str, prices: Mapping[str, Price]) -> pd.DataFrame:
    """Return questions with their tokens of all kinds, and what they would cost today.

    By the version that answered where it is given, else by the model that is to be asked. Where the tokens are not
    known, the cost of then stands.
    """
    costs = []
    for question in sizes.to_dict("records"):
        usage = Usage(
            prompt_tokens=question["input_tokens"],
            cached_tokens=question["cached_tokens"],
            tool_tokens=question["tool_tokens"],
            thinking_tokens=question["thinking_tokens"],
            output_tokens=question["output_tokens"],
            searches=question["searches"],
        )
        version = model if pd.isna(question["model"]) else question["model"]
        price = cost(usage, version, prices=prices)
        known = usage.prompt_tokens is not None and usage.output_tokens is not None
        costs.append(question["cost_usd"] if not known else None if price is None else float(price.total_usd))
    kinds = ["input_tokens", "tool_tokens", "thinking_tokens", "output_tokens"]
    return sizes.assign(tokens=sizes[kinds].sum(axis="columns"), cost_usd=np.array(costs, dtype=float))


def _usual_sizes(run_plan: RunPlan, stage: Stage) -> pd.DataFrame:
    """Return what one question of a stage usually takes: low, middle, high."""
    table = run_plan.table
    length = len(SYSTEM) + len(stage.prompt) + len(json.dumps(stage.schema))
    length += sum(_mean_length(table.column(name)) for name in stage.reads if name in table.column_names)
    built_in = stage.name in OUTPUT and stage.answer is funds.STAGES[stage.name].answer
    output = (
        np.array(OUTPUT[stage.name])
        if built_in
        else OUTPUT_OF_ANY + OUTPUT_OF_A_FIELD * len(stage.schema["properties"])
    )
    sizes = pd.DataFrame(
        {
            "input_tokens": np.round(length / BYTES_PER_TOKEN) + SEARCH_TOKENS * stage.search,
            "output_tokens": np.minimum(output, stage.max_output_tokens),
            "searches": SEARCHES * stage.search,
            "seconds": SIMULATED_SECONDS if run_plan.model == SIMULATOR else SECONDS,
        }
    )
    return sizes.assign(model=None, cost_usd=None, cached_tokens=0, tool_tokens=0, thinking_tokens=0)


def _mean_length(column: pa.ChunkedArray) -> int:
    """Return the mean length of a column's cells in bytes: letters beyond ASCII take more tokens, too."""
    if not pa.types.is_string(column.type):
        return 10
    return min(LONGEST_VALUE, round((pc.sum(pc.binary_length(column)).as_py() or 0) / len(column)))


def read_usage(out: Path, stages: Sequence[StageQuestions], prices: Mapping[str, Price]) -> dict[str, pd.DataFrame]:
    """Return what a store's newest paid questions used, a row each, by stage; a stage without any is left out.

    Repetitions are included. ``model`` is the version that answered, or None where another model or another question
    was asked than now.
    """
    asking = [questions for questions in stages if questions.to_ask]
    if not asking or not is_store(out):
        return {}
    reader = StoreReader(out, warn=False)
    names = {meta(questions.stage.name, fact) for questions in asking for fact in (*USAGE.names, "paid_by")}
    tables: list[pa.Table] = []
    for _, table in reader.shards({RECORD_ID, *names}, newest_first=True):
        tables.append(table)
        if sum(table.num_rows for table in tables) >= ENOUGH_ROWS:
            break
    pending = by_question(entry for entries in reader.journal.values() for entry in entries or ())
    usage = {questions.stage.name: _usage(questions, tables, pending, prices) for questions in asking}
    return {name: sizes for name, sizes in usage.items() if len(sizes)}


def _usage(
    questions: StageQuestions,
    tables: Sequence[pa.Table],
    pending: Mapping[str, Sequence[JournalEntry]],
    prices: Mapping[str, Price],
) -> pd.DataFrame:
    """Return what one stage's questions used: those asked just as now, if there are any."""
    name = questions.stage.name
    having = [table for table in tables if meta(name, "paid_by") in table.column_names]
    asked = [stages_of([footer(table.schema)]).get(name, {}).get("question") for table in having]
    same = [table for table, question in zip(having, asked, strict=True) if question == questions.fingerprint]
    unsealed = pa.Table.from_pylist(list(_unsealed(questions, pending, prices)), USAGE)
    usage = _known([unsealed, *(_paid(table, name) for table in same)])
    if len(usage) or not having:
        return usage
    return _known([_paid(table, name) for table in having]).assign(model=None)


def _known(usage: Sequence[pa.Table]) -> pd.DataFrame:
    """Return the questions of which the tokens, or at least the cost, are known."""
    frame: pd.DataFrame = pa.concat_tables(usage).to_pandas()
    return frame[frame["input_tokens"].notna() & (frame["output_tokens"].notna() | frame["cost_usd"].notna())]


def _paid(table: pa.Table, stage: str) -> pa.Table:
    """Return what a stage's questions used by a shard, each in the row of the record that paid."""
    rows = table.filter(pc.equal(table.column(meta(stage, "paid_by")), table.column(RECORD_ID)))
    return pa.table([rows.column(meta(stage, fact)) for fact in USAGE.names], schema=USAGE)


def _unsealed(
    questions: StageQuestions, pending: Mapping[str, Sequence[JournalEntry]], prices: Mapping[str, Price]
) -> Iterator[dict[str, Any]]:
    """Yield what those used that have their final reply in no shard yet, and whose records wait for other stages."""
    places = find(list(pending), questions.questions) if pending else ()
    for place, (question, entries) in zip(places, pending.items(), strict=True):
        needed = place >= 0 and questions.place[place] < 0 and len(questions.records(place))
        if needed and entries[-1].status != "again":
            payloads = [entry.payload for entry in entries]
            outcome = read_outcome(questions.stage, question, payloads, prices, recorded=0)
            if outcome.spent is not None:
                yield outcome.spent | {"model": outcome.best.reply.model_version}


def spent_before(
    out: Path, index: Index, run_plan: RunPlan, *, budget_usd: float | None, prices: Mapping[str, Price]
) -> Decimal:
    """Return what a budget counts of earlier runs; what is of unknown price counts as the worst that it may be.

    The rows hold the prices of the day they were sealed, and nothing where one was unknown. Where prices of one's own
    are given, one was unknown or rows were lost, the replies are gone through one by one.

    Raises
    ------
    DamagedError
        If a shard is damaged, so that nobody knows what it cost.
    """
    if budget_usd is None or index.empty:
        return Decimal()
    reader = StoreReader(out, warn=False)
    cost = None if prices else reader.recorded_cost(prices)
    if cost is None or cost.unpriced:
        cost = reader.replies(prices).cost
    if reader.damaged:
        raise damaged_error(reader.damaged[0])
    return cost.usd + cost.unpriced * worst_request(run_plan, prices)


def worst_request(run_plan: RunPlan, prices: Mapping[str, Price]) -> Decimal:
    """Return about the worst case of the dearest request; what is of unknown price counts as nothing."""
    worst = (
        worst_case(
            questions.stage.model or run_plan.model,
            prompt_bytes=LONGEST_PROMPT_BYTES,
            max_output_tokens=questions.stage.max_output_tokens,
            search=questions.stage.search,
            prices=prices,
        )
        for questions in run_plan.stages
    )
    return max((usd or Decimal() for usd in worst), default=Decimal())
