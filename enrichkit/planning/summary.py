"""The plan as a person sees it: the dry run, with the price of the open questions and what looks odd about the table.

It decides nothing: what a run has to do is in its `RunPlan`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path

import pandas as pd

from ..formatting import Sentence, amount, duration, html_page, joined, many, plain, text_page
from ..messages import SIMULATOR
from ..pricing.budget import Budget, beside_replies
from ..pricing.prices import Price, lacking, prices_told
from ..stages.stage import Stage, render
from ..store.index import Index
from .estimate import Estimate, Range, estimate, worst_request
from .lint import checkup
from .plan import RunPlan
from .questions import StagePlan

FIX_KEY = Sentence("fill in the key where it is missing, or drop such rows; until then {run} refuses the table")
FIX_ROWS = Sentence("give such rows keys of their own, or drop some; until then {run} refuses the table")
FIX_CHANGE = Sentence("give {redo} or {keep}, or another {out}; until then {run} refuses the call")
FIX_FILLED = Sentence("give the table as it was before the earlier run; until then {run} refuses it")
FIX_PRICE = Sentence("give that price, or leave {budget_usd} out; until then {run} refuses the call")
FIX_BUDGET = Sentence("raise {budget_usd}; until then {run} asks little or nothing")
SAMPLE = 10
"""How many records are enough to measure what the rest will cost."""
LONGEST_PROMPT, BEFORE_THE_VALUES = 300, 60
"""So many characters of a prompt are shown, of a long one from so many before the first value on."""
COUNTS = ("done", "failed", "skipped", "changed", "shared")
"""What is said about a stage besides its open questions, where the count is not 0."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The dry run: what a call of `enrichkit.run` would ask, and about what it would cost.

    Attributes
    ----------
    rows, records : int
        Rows of the table, and different records among them.
    stages : tuple of StagePlan
        What each stage has to do.
    model, out, workers : str, str, int
        The model that is asked, the store, and the number of requests at a time, of a cluster in all its processes.
    cost_usd : tuple of float or None
        Low, middle and high estimate for the open questions, in USD; None where a price is unknown.
    tokens : tuple of float
        About how many tokens they take, of all kinds, prompts included: low, middle, high.
    seconds : tuple of float
        About how long they take with these workers, in seconds, if no quota slows them: low, middle, high.
    basis : str
        What the estimate is based on: replies of this store, or the usual sizes.
    prices : str
        The price list and its version.
    searches : str
        What of the middle estimate is for searches, and what is left if those are free that Google lists as such.
    bound : str
        What binds the time, such as the workers or ``rpm``, and how to have less of it; empty if it is under a minute.
    budget : str
        Whether ``budget_usd`` covers the estimate; or which price is unknown, so that `run` refuses any budget.
    later : int
        Records that ``limit`` or ``retry_failed="only"`` leaves out, for a later call.
    fix_first : str
        What to do first, because `run` would refuse this call or ask nothing; empty if nothing is in the way.
    notes : tuple of str
        What looks odd about the table, and what else there is to know, a sentence each.
    prompts : mapping of str to str
        By stage, the prompt of its first open question, as far as the table tells it.

    Notes
    -----
    After a pilot, such as ``enrichkit.run(df, limit=10)``, the estimate is based on what the pilot used, and 19 times
    out of 20 the true figure should be within its range.

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
    searches: str = ""
    bound: str = ""
    budget: str = ""
    later: int = 0
    fix_first: str = ""
    notes: tuple[str, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)

    @property
    def to_ask(self) -> int:
        """The number of different questions without an answer."""
        return sum(stage.to_ask for stage in self.stages)

    @property
    def shared(self) -> int:
        """The number of answers that records get from another record's question."""
        return sum(stage.shared for stage in self.stages)

    @property
    def changed(self) -> int:
        """The number of stored answers to a question that is asked differently now."""
        return sum(stage.changed for stage in self.stages)

    @property
    def done(self) -> int:
        """The number of stored answers."""
        return sum(stage.done for stage in self.stages)

    def __str__(self) -> str:
        return text_page([*lines_of(self), self.next_line])

    def __repr__(self) -> str:
        summary = f"<enrichkit.Plan, {many(self.records, 'record')}: {self.price_line}> print() shows all of it."
        return text_page([summary, self.next_line])

    def _repr_html_(self) -> str:
        names = ["name", "to_ask", *(name for name in COUNTS if any(getattr(stage, name) for stage in self.stages))]
        stages = pd.DataFrame([asdict(stage) for stage in self.stages])[names].rename(columns={"name": "stage"})
        return html_page([*lines_of(self, stages=()), self.next_line], {"questions": stages})

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
        about = f"about {middle} USD ({low} to {high}, {self.basis}; {self.prices})"
        simulated = "; simulated, nothing is charged" * (self.model == SIMULATOR)
        return f"{many(self.to_ask, 'request')}, {about}{simulated}"

    @property
    def time_line(self) -> str:
        """One line: about how many tokens and how long, if no quota slows it."""
        low, middle, high = (f"{float(f'{tokens:.2e}'):,.0f}" for tokens in self.tokens)  # no digits that mean nothing
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
            again = Sentence("; with {retry_failed_on} it asks the failed ones again") if failed else ""
            return Sentence("Next: {go} returns the table and asks nothing{again}.", again=again)
        if self.done or self.later or self.rows <= SAMPLE:
            return Sentence("Next: {go}{or_start}.")
        return Sentence("Next: {go_with_a_sample}{or_start}.")


def lines_of(plan: Plan, *, stages: Sequence[StagePlan] | None = None) -> list[str]:
    """Return everything that a plan says, of all stages or some, except what to call next."""
    lines = [f"{many(plan.records, 'record')} in {many(plan.rows, 'row')}, store {plan.out}, model {plan.model}"]
    for stage in plan.stages if stages is None else stages:
        counts = "".join(f", {count:,} {name}" for name in COUNTS if (count := getattr(stage, name)))
        lines.append(f"  {stage.name}: {stage.to_ask:,} to ask{counts}")
    time = joined([plan.time_line, plan.bound]) if plan.to_ask else ""
    prompts = [f"The first question of {stage}: {_shortened(prompt)}" for stage, prompt in plan.prompts.items()]
    return [*lines, *filter(None, [plan.price_line, plan.searches, plan.budget, time]), *prompts, *plan.notes]


def _shortened(prompt: str) -> str:
    """Return a prompt in a line, of a long one from the line on in which the first value stands."""
    first = prompt.find("⟦") if len(prompt) > LONGEST_PROMPT else 0
    start = max(0, prompt.rfind("\n", 0, first) + 1, first - BEFORE_THE_VALUES)
    text = " ".join(prompt[start:].split())
    return f"{'… ' * bool(start)}{plain(text, LONGEST_PROMPT)}"


def make_plan(
    run_plan: RunPlan,
    index: Index,
    *,
    out: str | Path,
    workers: int,
    processes: int,
    rpm: float | None,
    prices: Mapping[str, Price],
    budget: Budget,
) -> Plan:
    """Return a run's plan as a person sees it."""
    about = estimate(run_plan, index, workers=workers, processes=processes, rpm=rpm, prices=prices)
    unpriced = unknown_prices([questions.stage for questions in run_plan.stages], run_plan.model, prices)
    worst_usd = worst_request(run_plan, prices)
    holds = budget_holds(budget, about, to_ask=run_plan.to_ask, worst_usd=worst_usd)
    in_the_way = {
        FIX_KEY: run_plan.keyless,
        FIX_ROWS: run_plan.contradicted,
        FIX_CHANGE: run_plan.changed,
        FIX_FILLED: run_plan.filled,
        FIX_PRICE: unpriced and budget.limit_usd is not None,
        FIX_BUDGET: run_plan.to_ask and budget.never(worst_usd),
    }
    return Plan(
        rows=len(run_plan.frame),
        records=len(run_plan.ids),
        stages=tuple(stage.counts for stage in run_plan.stages),
        model=run_plan.model,
        out=str(out),
        workers=workers * processes,
        prices=f"prices: {prices_told(prices)}{', tokens at tier flex' * (run_plan.tier == 'flex')}",
        later=run_plan.later,
        fix_first=next((fix for fix, needed in in_the_way.items() if needed), ""),
        budget=joined([*unpriced, Sentence("Until then run refuses a {budget_usd}.")], ". ") if unpriced else holds,
        notes=(*run_plan.notes, *beside_replies(budget), *checkup(run_plan)),
        prompts=dict(_first_prompts(run_plan)),
        **asdict(about),
    )


def _first_prompts(run_plan: RunPlan) -> Iterator[tuple[str, str]]:
    """Yield each stage with open questions and the prompt of the first one."""
    answered: dict[str, str] = {}
    for questions in run_plan.stages:
        stage = questions.stage
        codes = questions.code[run_plan.order]
        if len(still_open := codes[(codes >= 0) & ~questions.known[codes]]):
            values = questions.hints(int(still_open[0]), stage.reads, run_plan.values)
            yield stage.name, render(stage.prompt, answered | values)
        answered |= dict.fromkeys(stage.answers, f"(answer of {stage.name})")


def unknown_prices(stages: Sequence[Stage], model: str, prices: Mapping[str, Price]) -> list[str]:
    """Return which prices of the stages' models are unknown, in words, each once."""
    said = (lacking(stage.model or model, search=bool(stage.search), prices=prices) for stage in stages)
    return list(dict.fromkeys(filter(None, said)))


def budget_holds(budget: Budget, about: Estimate, *, to_ask: int, worst_usd: Decimal) -> str:
    """Say whether a budget covers the open questions: they are asked as long as the worst case of one more fits.

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
