"""The estimate: about how many tokens, how much money and time the open questions will take, as low, middle and high.

Where the store has replies of a stage, their mean is carried over to the open questions. The range is wider the fewer
the replies are and the more they differ. Two thousand questions tell as much as a million, so only the newest shards
are read. A stage without replies is estimated from the length of its prompt and the usual sizes. Both are closed
formulas: the same store and table give the same estimate.
"""

from __future__ import annotations

import functools
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..formatting import Sentence, amount, duration, many
from ..messages import SIMULATOR, Tier, Usage
from ..pricing.prices import FREE_AS_OF, MOST_SEARCHES, Price, cost, free_searches, price_of, total_usd, worst_case
from ..stages import funds
from ..stages.stage import LONGEST_VALUE, SYSTEM
from ..store.index import RECORD_ID, Index, Snapshot, damaged_error, footer
from ..store.replies import collect_replies, recorded_cost
from ..store.rows import COUNTS, META, SPENT, meta
from .plan import RunPlan
from .questions import StageQuestions

LONGEST_PROMPT_BYTES = 10_000
ENOUGH_ROWS = 2000
USAGE = pa.schema([(name, META[name]) for name in (*SPENT, "model", "question")])
TOKENS = ["input_tokens", "tool_tokens", "thinking_tokens", "output_tokens"]

Range = tuple[float, float, float]
"""Low, middle, high."""
Numbers = npt.NDArray[np.float64]

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
"""What a request takes on this computer, however fast the service is."""
WORTH_A_WORD_SECONDS, MANY_WORKERS = 60, 100
STUDENT = ((12, 2.461), (5, 3.003), (0, 3.896))
"""Student's t from these degrees of freedom on; with normally distributed values, 97 of 100 ranges hold the truth."""
PRIOR_QUESTIONS = 3
PRIOR_SPREAD = 0.6
"""A few replies may look alike by chance, so imagined ones join them, with a spread of this share of the mean."""
LEAST_SPREAD = 0.03


@dataclass(frozen=True, slots=True)
class Estimate:
    """About what the open questions will take; ``cost_usd`` is None where a price is unknown."""

    tokens: Range
    cost_usd: Range | None
    seconds: Range
    basis: str
    """Where the sizes come from, in words."""
    searches: str = ""
    """What of the middle estimate is for searches, and how many are free, in words."""
    bound: str = ""
    """What the time is bound by, and how to have less of it, in words; empty where it is short."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What questions of a stage take, a row each, and how many more of its questions are to be asked."""

    stage: str
    model: str
    to_ask: int
    sizes: pd.DataFrame
    measured: bool
    """Whether the rows are replies of this store; otherwise they are the usual sizes: low, middle, high."""


def estimate(
    run_plan: RunPlan,
    index: Index,
    *,
    workers: int,
    processes: int = 1,
    rpm: float | None,
    prices: Mapping[str, Price],
) -> Estimate:
    """Return about what a plan's open questions will take, judging by the replies in the store with this index.

    Each of the ``processes`` has as many ``workers``.
    """
    samples = list(_samples(run_plan, index, prices))
    tokens, cost_usd, seconds = (_total(quantity, samples) for quantity in ("tokens", "cost_usd", "seconds"))
    requests, at_once = run_plan.to_ask, max(1, min(workers * processes, run_plan.to_ask))
    allowed = 0.0 if rpm is None else (requests - 1) * 60 / rpm
    low, middle, high = (
        max(time / at_once, own * requests / processes, allowed) for time, own in zip(seconds, OWN_SECONDS, strict=True)
    )
    each = seconds[1] / max(1, requests)
    seconds = low, middle, high
    bound = _bound(workers, processes, each, requests, rpm=rpm) if middle > WORTH_A_WORD_SECONDS else ""
    if any(sample.sizes["cost_usd"].hasnans for sample in samples):
        return Estimate(tokens, None, seconds, _basis(samples), bound=bound)
    return Estimate(tokens, cost_usd, seconds, _basis(samples), _search_costs(samples, cost_usd[1], prices), bound)


def _bound(workers: int, processes: int, each: float, requests: int, *, rpm: float | None) -> Sentence:
    """Return what binds so many requests of so many seconds each: the workers, the processes, or ``rpm``.

    >>> print(_bound(20, 1, 5.0, 4800, rpm=None))
    20 workers at about 5 s a reply are 240 requests a minute; with workers=100 and rpm=1200 it takes 4 min 0 s.
    >>> print(_bound(200, 3, 5.0, 4800, rpm=9000))
    200 workers in each of 3 processes at about 5 s a reply are 7,200 requests a minute.
    """
    a_minute, most = 60 * workers * processes / each, 60 * processes / OWN_SECONDS[1]
    if rpm is not None and min(a_minute, most) >= rpm:
        return Sentence("{rpm}={most} binds, not the workers, which could send more.", most=f"{rpm:g}")
    if a_minute > most:
        count = many(round(most), "request")
        return Sentence(
            "{of} can send about {count} a minute.", of=many(processes, "process", "processes"), count=count
        )
    where = f" in each of {processes:,} processes" if processes > 1 else ""
    pace = f"{many(workers, 'worker')}{where} at about {duration(each)} a reply are {a_minute:,.0f} requests a minute"
    if workers >= MANY_WORKERS or requests < 5 * MANY_WORKERS * processes:
        return Sentence("{pace}.", pace=pace)
    return Sentence(
        "{pace}; with {workers}={many} and {rpm}={most} it takes {time}.",
        pace=pace,
        many=MANY_WORKERS,
        most=round(60 * MANY_WORKERS * processes / each),
        time=duration(each * requests / MANY_WORKERS / processes),
    )


def _samples(run_plan: RunPlan, index: Index, prices: Mapping[str, Price]) -> Iterator[Sample]:
    """Yield the sample for each stage with open questions, with tokens, and cost at today's prices."""
    asking = [questions for questions in run_plan.stages if questions.to_ask]
    shards = _newest(index, [questions.stage.name for questions in asking]) if asking else []
    for questions in asking:
        used = _used(questions, shards)
        sizes = used if len(used) else _usual_sizes(run_plan, questions)
        model = questions.stage.model or run_plan.model
        priced = _priced(sizes, model, run_plan.tier, prices)
        yield Sample(questions.stage.name, model, questions.to_ask, priced, measured=len(used) > 0)


def _total(quantity: str, samples: Sequence[Sample]) -> Range:
    """Return the range of a quantity over all open questions."""
    values = [(sample.sizes[quantity].to_numpy(float), sample) for sample in samples]
    measured = carry_over([(used, sample.to_ask) for used, sample in values if sample.measured])
    usual = (sizes * sample.to_ask for sizes, sample in values if not sample.measured)
    low, middle, high = sum(usual, np.array(measured)).tolist()
    return low, middle, high


def _basis(samples: Sequence[Sample]) -> str:
    replies = sum(len(sample.sizes) for sample in samples if sample.measured)
    if not replies:
        return "from the usual sizes"
    usual = " and ".join(sample.stage for sample in samples if not sample.measured)
    but = f", but {usual} from the usual sizes" if usual else ""
    return f"measured on {many(replies, 'reply', 'replies')} of this store{but}"


def _search_costs(samples: Sequence[Sample], whole_usd: float, prices: Mapping[str, Price]) -> str:
    """Say what of an estimate is for searches, and what is left of it if those are free that Google lists as such."""
    alike, text = defaultdict[tuple[str, int, str, float], list[Sample]](list), ""
    for sample in samples:
        price = price_of(Usage(), sample.model, prices=prices)
        if price and price.search_usd and sample.sizes["search_usd"].any():
            free = free_searches("" if sample.model in prices else sample.model)
            alike[*free, float(price.search_usd) / 1000].append(sample)
    for (name, most, time, fee), same in alike.items():
        usd = _total("search_usd", same)[1]
        count = usd / fee
        searches = many(round(count), name, "searches" * (name == "search"))
        text += f"Of it {amount(usd)} for about {searches} at {fee:.3g}"
        if most:
            rest = amount(whole_usd - min(count, most) * fee)
            text += f"; without the {most:,} a {time} that Google lists as free ({FREE_AS_OF}), about {rest} in all"
        text += ". "
    return text.rstrip()


def carry_over(samples: Sequence[tuple[Numbers, int]]) -> Range:
    """Return the range of a total: each sample's mean for as many more of its kind, all kinds together.

    The ends are as far from the middle as a new sample's sum may be, by Student's t. They are factors rather than
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


def _priced(sizes: pd.DataFrame, model: str, tier: Tier, prices: Mapping[str, Price]) -> pd.DataFrame:
    """Return questions with their tokens of all kinds, and what they would cost today.

    The price is that of the version that answered, or else of the model that is to be asked. Where the tokens are not
    known, the recorded cost stands.
    """
    costs, fees = [], []
    for question in sizes.to_dict("records"):
        usage = Usage(**{count: question[name] for name, count in COUNTS.items()}, tier=tier)
        version = model if pd.isna(question["model"]) else question["model"]
        known = usage.prompt_tokens is not None and usage.output_tokens is not None
        price = cost(usage, version, prices=prices)
        costs.append(total_usd(price) if known else question["cost_usd"])
        fees.append(price["search"] if price else 0)
    usd = {"cost_usd": np.array(costs, dtype=float), "search_usd": np.array(fees, dtype=float)}
    return sizes.assign(tokens=sizes[TOKENS].sum(axis="columns"), **usd)


def _usual_sizes(run_plan: RunPlan, questions: StageQuestions) -> pd.DataFrame:
    """Return what one question of a stage usually takes: low, middle, high."""
    stage, table = questions.stage, run_plan.table
    length = len(SYSTEM) + len(stage.prompt) + len(json.dumps(stage.schema))
    length += sum(_mean_length(table.column(name)) for name in stage.reads if name in table.column_names)
    output = OUTPUT_OF_ANY + OUTPUT_OF_A_FIELD * len(stage.schema["properties"])
    if stage.name in OUTPUT and stage.answer is funds.STAGES[stage.name].answer:
        output = np.array(OUTPUT[stage.name])
    usual = {
        "input_tokens": np.round(length / BYTES_PER_TOKEN) + SEARCH_TOKENS * bool(stage.search),
        "output_tokens": np.minimum(output, stage.max_output_tokens),
        "searches": SEARCHES * bool(stage.search),
        "seconds": SIMULATED_SECONDS if run_plan.model == SIMULATOR else SECONDS,
    }
    return pd.DataFrame(usual).reindex(columns=USAGE.names)


def _mean_length(column: pa.ChunkedArray) -> int:
    """Return the mean length of a column's cells in bytes: letters beyond ASCII take more tokens, too."""
    if not pa.types.is_string(column.type):
        return 10
    return min(LONGEST_VALUE, round((pc.sum(pc.binary_length(column)).as_py() or 0) / len(column)))


def _newest(index: Index, stages: Sequence[str]) -> list[pa.Table]:
    """Return enough of the newest shards, with what the questions of some stages used."""
    columns = {RECORD_ID, *(meta(stage, fact) for stage in stages for fact in (*SPENT, "model", "paid_by"))}
    tables: list[pa.Table] = []
    for _, table in index.each_shard(columns, newest_first=True):
        tables.append(table)
        if sum(table.num_rows for table in tables) >= ENOUGH_ROWS:
            break
    return tables


def _used(questions: StageQuestions, shards: Sequence[pa.Table]) -> pd.DataFrame:
    """Return what a stage's paid questions used, repetitions included, a row each, as far as that is known.

    These are the questions that were asked just as they would be now. If there are none, they are those of another
    model or another question, without the version that answered.
    """
    sealed = [_sealed(table, questions.stage.name) for table in shards]
    used: pd.DataFrame = pa.concat_tables([USAGE.empty_table(), *sealed]).to_pandas()
    used = used[used["input_tokens"].notna() & (used["output_tokens"].notna() | used["cost_usd"].notna())]
    most = max(1, used["searches"].max()) if questions.stage.search else 0
    used = used.fillna({"searches": most})  # as many as its dearest reply had, as in the budget
    same = used[used["question"] == questions.fingerprint]
    return same if len(same) else used.assign(model=None)


def _sealed(table: pa.Table, stage: str) -> pa.Table:
    """Return what a stage's questions in a shard used, each in the row of the record that paid."""
    if meta(stage, "paid_by") not in table.column_names:
        return USAGE.empty_table()
    rows = table.filter(pc.equal(table.column(meta(stage, "paid_by")), table.column(RECORD_ID)))
    question = footer(table).get("stages", {}).get(stage, {}).get("question")
    facts = [rows.column(meta(stage, fact)) for fact in (*SPENT, "model")]
    return pa.table([*facts, pa.array([question] * rows.num_rows)], schema=USAGE)


def spent_before(index: Index, run_plan: RunPlan, *, budget_usd: float | None, prices: Mapping[str, Price]) -> Decimal:
    """Return what a budget counts of earlier runs; replies of unknown price count as the worst case of a request.

    The rows hold what the replies cost at the prices of their day, or nothing where a price was unknown. If the call
    has its own prices, if a price was unknown or rows were lost, all replies are read one by one.

    Raises
    ------
    DamagedError
        If a shard is damaged, so that its cost is unknown.
    """
    # Of what a killed run has noted, what is spent by now is no longer possibly so: with a budget or without.
    if budget_usd is None and not index.outstanding.get("limit_usd"):
        return Decimal()
    store = Snapshot(index.folder)
    store.tables(())
    cost = None if prices else recorded_cost(store, prices, simulated=run_plan.model == SIMULATOR)
    if cost is None or cost.unpriced:
        cost = collect_replies(store, prices).counted(prices)
    if store.damaged and budget_usd is not None:
        raise damaged_error(store.damaged[0])
    return cost.usd + cost.unpriced * worst_request(run_plan, prices)


def worst_request(run_plan: RunPlan, prices: Mapping[str, Price]) -> Decimal:
    """Return about the worst case of the most expensive request; a request of unknown price counts as nothing."""
    worst_of = functools.partial(worst_case, prompt_bytes=LONGEST_PROMPT_BYTES, prices=prices)
    worst = []
    for stage in (questions.stage for questions in run_plan.stages):
        model, searches = stage.model or run_plan.model, MOST_SEARCHES if stage.search else 0
        worst.append(worst_of(model, max_output_tokens=stage.max_output_tokens, searches=searches))
    return max((usd or Decimal() for usd in worst), default=Decimal())
