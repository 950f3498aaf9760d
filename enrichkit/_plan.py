"""The plan: the dry run that a person sees, with the price of what is to ask and what looks odd about the table."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ._checkup import checkup
from ._exchange import SIMULATOR, Usage
from ._price import Price, cost, price_data_version
from ._questions import StagePlan, StageWork
from ._work import Work

# A grounded question's usual size, seen on investor records (tokens, searches): low, middle, high.
TYPICAL = {"input": (1500, 2600, 4200), "output": (300, 700, 1500), "searches": (1, 2, 3)}


@dataclass(frozen=True, slots=True)
class Plan:
    """The dry run: what a call of `enrichkit.run` would ask, and about what it would cost.

    Attributes
    ----------
    rows, records : int
        Rows of the table, and different records among them.
    stages : tuple of StagePlan
        What each stage has before it.
    cost_usd : tuple of float or None
        Low, middle and high estimate for what is to ask; None where the price is unknown.
    seconds : float
        About how long it takes with these workers, if no quota slows it.
    """

    rows: int
    records: int
    stages: tuple[StagePlan, ...]
    model: str
    out: str
    cost_usd: tuple[float, float, float] | None
    seconds: float
    prices: str
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
        lines = [f"{self.records:,} records in {self.rows:,} rows, store {self.out}, model {self.model}"]
        for stage in self.stages:
            counts = {name: getattr(stage, name) for name in ("done", "failed", "skipped", "changed", "shared")}
            told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
            lines.append(f"  {stage.name}: {stage.to_ask:,} to ask" + (f", {told}" if told else ""))
        return "\n".join([*lines, self.price_line, *self.notes])

    @property
    def price_line(self) -> str:
        """One line: how many requests, about what they cost, and by which prices."""
        if not self.to_ask:
            return "Nothing to ask: everything is stored."
        if self.cost_usd is None:
            return f"{self.to_ask:,} requests; the price of {self.model} is unknown."
        low, middle, high = self.cost_usd
        told = "simulated, nothing is charged; at the default model's prices " if self.model == SIMULATOR else ""
        return (
            f"{self.to_ask:,} requests, {told}about {middle:.2f} USD ({low:.2f} to {high:.2f}, from the sizes usual "
            f"for such questions; {self.prices})"
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f'<pre class="mathjax_ignore tex2jax_ignore">{html.escape(str(self))}</pre>'


def estimate(works: Sequence[StageWork], model: str, prices: Mapping[str, Price]) -> tuple[float, float, float] | None:
    """Return low, middle and high cost in USD of what is to ask; None if a price is unknown."""
    totals = []
    for place in range(3):
        total = 0.0
        for work in works:
            searches = TYPICAL["searches"][place] if work.stage.search else 0
            usage = Usage(
                prompt_tokens=TYPICAL["input"][place] if work.stage.search else len(work.stage.prompt) // 3 + 400,
                output_tokens=TYPICAL["output"][place],
                searches=searches,
            )
            found = cost(usage, work.stage.model or model, prices=prices)
            if found is None:
                return None
            total += float(found.total_usd) * int((~work.known).sum())
        totals.append(total)
    return totals[0], totals[1], totals[2]


def make_plan(
    work: Work, plans: Sequence[StagePlan], *, out: str | Path, prices: Mapping[str, Price], workers: int
) -> Plan:
    """Return what a person sees of the work."""
    return Plan(
        rows=len(work.frame),
        records=len(work.ids),
        stages=tuple(plans),
        model=work.model,
        out=str(out),
        cost_usd=estimate(work.stages, work.model, prices),
        seconds=work.to_ask * 10.0 / workers,
        prices=f"prices: genai-prices {price_data_version()}",
        notes=(*work.notes, *checkup(work)),
    )


def pieces(frame: pd.DataFrame, rows: int) -> Iterator[pd.DataFrame]:
    """Yield the table piece by piece."""
    for start in range(0, len(frame), rows):
        yield frame.iloc[start : start + rows]
