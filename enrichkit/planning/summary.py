"""The plan: the dry run that a person sees, with the price of what is to ask and what looks odd about the table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

import pandas as pd

from ..errors import BudgetError
from ..formatting import Sentence, amount, duration, html_page, joined, many, text_page
from ..gemini.client import access, check_capabilities
from ..messages import SIMULATOR, Client
from ..pricing.budget import Budget
from ..pricing.prices import Price, lacking, prices_told
from ..stages.stage import Stage
from ..store.index import Index
from .estimate import Estimate, Range, estimate, worst_request
from .lint import checkup
from .plan import RunPlan
from .questions import StagePlan

COUNTS = ("done", "failed", "skipped", "changed", "shared")
"""What is said of a stage besides what it is to ask, where there is any."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The dry run: what a call of `enrichkit.run` would ask, and about what it would cost.

    Attributes
    ----------
    rows, records : int
        Rows of the table, and different records among them.
    stages : tuple of StagePlan
        What each stage has before it.
    model, out, workers : str, str, int
        The model that is asked, the store, and how many requests at a time.
    cost_usd : tuple of float or None
        Low, middle and high estimate for what is to ask, in USD; None where a price is unknown.
    tokens : tuple of float
        About how many tokens it takes, of all kinds, prompts included: low, middle, high.
    seconds : tuple of float
        About how long it takes with these workers, if no quota slows it: low, middle, high.
    basis : str
        What the estimate goes by: replies of this store, or the usual sizes.
    prices : str
        The price list and its version.
    budget : str
        Whether ``budget_usd`` will hold the estimate; or which price is unknown, so that `run` refuses any budget.
    later : int
        Records that ``limit`` or ``retry_failed="only"`` leaves out, for a later call.
    fix_first : str
        What to do first, since `run` would refuse the call as it is, or ask nothing; empty if nothing is in the way.
    notes : tuple of str
        What looks odd about the table, and what else is to be known, a sentence each.

    Notes
    -----
    After a pilot, such as ``enrichkit.run(df.sample(10))``, the estimate goes by what that used, and its range is one
    that the true figure should be in 19 times out of 20.

    Examples
    --------
    >>> import pandas as pd, enrichkit
    >>> ahead = enrichkit.plan(pd.DataFrame({"fund.title": ["Borealis Ventures"]}), stages=["fund"], model="simulator")
    >>> ahead.records, ahead.to_ask, ahead.model
    (1, 1, 'simulator')
    """

    rows: int
    records: int
    stages: tuple[StagePlan, ...]
    model: str
    out: str
    cost_usd: Range | None
    tokens: Range
    seconds: Range
    basis: str
    workers: int
    prices: str
    budget: str = ""
    later: int = 0
    fix_first: str = ""
    notes: tuple[str, ...] = ()

    @property
    def to_ask(self) -> int:
        """Different questions without an answer yet."""
        return sum(stage.to_ask for stage in self.stages)

    @property
    def shared(self) -> int:
        """Answers that records get from another record's question."""
        return sum(stage.shared for stage in self.stages)

    @property
    def changed(self) -> int:
        """Stored answers to a question that is now asked differently."""
        return sum(stage.changed for stage in self.stages)

    @property
    def done(self) -> int:
        """Answers that are stored."""
        return sum(stage.done for stage in self.stages)

    def __str__(self) -> str:
        return text_page([*lines_of(self), self.next_line])

    def __repr__(self) -> str:
        summary = f"<enrichkit.Plan, {many(self.records, 'record')}: {self.price_line}> print() shows all of it."
        return text_page([summary, self.next_line])

    def _repr_html_(self) -> str:
        names = ["name", "to_ask", *(name for name in COUNTS if any(getattr(stage, name) for stage in self.stages))]
        stages = pd.DataFrame([asdict(stage) for stage in self.stages])[names].rename(columns={"name": "stage"})
        lines = [self._table_line, *self._money_lines, *self.notes, self.next_line]
        return html_page(lines, {"questions": stages})

    @property
    def _table_line(self) -> str:
        rows = many(self.rows, "row")
        return f"{many(self.records, 'record')} in {rows}, store {self.out}, model {self.model}"

    @property
    def _money_lines(self) -> list[str]:
        return list(filter(None, [self.price_line, self.budget, self.time_line if self.to_ask else ""]))

    @property
    def price_line(self) -> str:
        """One line: how many requests, about what they cost, and by which prices."""
        if not self.to_ask:
            whole = self.done and not self.later and not any(stage.failed for stage in self.stages)
            return "Nothing to ask: everything is stored." if whole else "Nothing to ask in this call."
        if self.cost_usd is None:
            cost = f"{many(self.to_ask, 'request')} of unknown cost ({self.prices})."
            why = Sentence("The price of a version that answered is unknown: {give_prices}= for it.")
            return cost if self.budget else joined([cost, why])
        low, middle, high = map(amount, self.cost_usd)
        whose = "simulated, nothing is charged; at the default model's prices " if self.model == SIMULATOR else ""
        about = f"about {middle} USD ({low} to {high}, {self.basis}; {self.prices})"
        return f"{many(self.to_ask, 'request')}, {whose}{about}"

    @property
    def time_line(self) -> str:
        """One line: about how many tokens and how long, if no quota slows it."""
        low, middle, high = (f"{float(f'{tokens:.2e}'):,.0f}" for tokens in self.tokens)  # no digits that nobody knows
        least, about, most = self.seconds
        time = f"{duration(about)} ({duration(least)} to {duration(most)})"
        if about < 1:
            time = f"under a second{f' (up to {duration(most)})' if most >= 1 else ''}"
        workers = many(self.workers, "worker")
        return f"About {middle} tokens ({low} to {high}) and {time} with {workers}, if no quota slows it."

    @property
    def next_line(self) -> str:
        """One line: what to call next."""
        if self.fix_first:
            return Sentence("Next: {fix}.", fix=self.fix_first)
        if not self.to_ask:
            failed = any(stage.failed for stage in self.stages)
            again = "; with retry_failed=True it asks the failed ones again" if failed else ""
            return f"Next: enrichkit.run with the same arguments returns the table and asks nothing{again}."
        sample = "" if self.done or self.rows <= 10 else " with df.sample(10) first, to measure what it costs; then"
        return f"Next: enrichkit.run{sample} with the same arguments; or enrichkit.start, in the background."


def lines_of(plan: Plan) -> list[str]:
    """Return all that a plan says, but what to call next."""
    stages = []
    for stage in plan.stages:
        counts = "".join(f", {count:,} {name}" for name in COUNTS if (count := getattr(stage, name)))
        stages.append(f"  {stage.name}: {stage.to_ask:,} to ask{counts}")
    return [plan._table_line, *stages, *plan._money_lines, *plan.notes]


def make_plan(
    run_plan: RunPlan,
    index: Index,
    *,
    out: str | Path,
    folder: Path,
    workers: int,
    rpm: float | None,
    prices: Mapping[str, Price],
    budget: Budget,
) -> Plan:
    """Return what a person sees of a run's plan."""
    about = estimate(run_plan, index, folder, workers=workers, rpm=rpm, prices=prices)
    unpriced = dict.fromkeys(_unpriced([stage.stage for stage in run_plan.stages], run_plan.model, prices))
    worst_usd = worst_request(run_plan, prices)
    holds = budget_holds(budget, about, to_ask=run_plan.to_ask, worst_usd=worst_usd)
    fix_first = run_plan.fix_first
    if not fix_first and unpriced and budget.limit_usd is not None:
        fix_first = Sentence("give that price, or leave {budget_usd} out; until then {run} refuses the call")
    elif not fix_first and run_plan.to_ask and budget.never(worst_usd):
        fix_first = Sentence("raise {budget_usd}; until then {run} asks little or nothing")
    return Plan(
        rows=len(run_plan.frame),
        records=len(run_plan.ids),
        stages=tuple(stage.counts for stage in run_plan.stages),
        model=run_plan.model,
        out=str(out),
        workers=workers,
        prices=f"prices: {prices_told(prices)}",
        later=run_plan.later,
        fix_first=fix_first,
        budget=joined([*unpriced, Sentence("Until then run refuses a {budget_usd}.")], ". ") if unpriced else holds,
        notes=(*run_plan.notes, *checkup(run_plan)),
        **asdict(about),
    )


def _unpriced(stages: Sequence[Stage], model: str, prices: Mapping[str, Price]) -> Iterator[Sentence]:
    """Yield which price of a stage's model is not known, in words."""
    for stage in stages:
        if price := lacking(stage.model or model, search=stage.search, prices=prices):
            yield price


def budget_holds(budget: Budget, about: Estimate, *, to_ask: int, worst_usd: Decimal) -> str:
    """Say whether a budget will hold what is to be asked: a question is asked for as long as its worst case fits.

    >>> about = Estimate(tokens=(0, 0, 0), cost_usd=(8, 10, 20), seconds=(0, 0, 0), basis="")
    >>> budget_holds(Budget(5, spent_usd=1), about, to_ask=100, worst_usd=Decimal(1))
    'Budget 5.00 USD, 1.00 of it spent: the run will stop after about 31 of 100 questions.'
    """
    if budget.limit_usd is None or about.cost_usd is None or not to_ask:
        return ""
    spent = f", {amount(float(budget.spent_usd))} of it spent" if budget.spent_usd else ""
    limit = f"Budget {amount(float(budget.limit_usd))} USD{spent}"
    room = float(budget.left_usd - worst_usd)
    if room < 0:
        return f"{limit}: too little for another request, which may cost up to {amount(float(worst_usd))} USD."
    middle, high = (cost * (1 - 1 / to_ask) for cost in about.cost_usd[1:])  # all but the last question
    if middle > room:
        asked = math.floor(room * to_ask / about.cost_usd[1]) + 1
        return f"{limit}: the run will stop after about {asked:,} of {many(to_ask, 'question')}."
    return f"{limit}: holds the estimate{', but not its high end' if high > room else ''}."


def check_call(
    stages: Sequence[Stage],
    *,
    model: str,
    client: str | Client,
    prices: Mapping[str, Price],
    budget_usd: float | None,
) -> None:
    """Raise for whatever a request would fail for: no key, a client that lacks something, a price nobody knows."""
    for stage in stages:
        if isinstance(client, str):
            check_capabilities(client, thinking=stage.thinking)
    for price in _unpriced(stages, model, prices) if budget_usd is not None else ():
        raise BudgetError("{price}. Or leave {budget_usd} out: without that price it cannot be held.", price=price)
    if isinstance(client, str) and model != SIMULATOR:
        access()
