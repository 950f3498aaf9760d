"""The report: what a store has cost, as a value that a terminal, a notebook and a program can read.

Amounts are exact sums of decimals over the raw replies. What is unknown is counted and named, and never taken for 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd

from ._costs import KINDS, Ledger, StoredReply, read_ledger, warn_of_damage
from ._listing import Listing, as_html, as_text, usd
from ._price import Price, price_data_version

SCHEMA_VERSION = 1
RATIO_DIGITS = 10
SIMULATED = "simulated, nothing was charged; at the default model's prices"
COUNTED = ("input_tokens", "cached_tokens", "tool_tokens", "thinking_tokens", "output_tokens", "searches")
ALL_KINDS = (*KINDS, "wasted")
"""What the money went for. The first five are of the replies that brought an answer; all of the others is wasted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """What some replies have cost.

    Attributes
    ----------
    usd : mapping of str to Decimal
        The cost by kind: ``input``, ``cached`` (input that was cached), ``thinking``, ``output`` and ``search`` of the
        replies that brought an answer; ``wasted``, all kinds together, of paid replies that brought none: failed, or
        asked again.
    replies, wasted, unpriced : int
        Paid replies; those of them that brought no answer; those whose price is unknown, which are in no sum.
    attempts : int
        Requests that it took, refusals (429) apart.
    counts : mapping of str to int
        Tokens by kind, and searches, of all paid replies; ``input_tokens`` includes ``cached_tokens``.
    """

    usd: Mapping[str, Decimal]
    replies: int
    wasted: int
    unpriced: int
    attempts: int
    counts: Mapping[str, int]

    @property
    def cost_usd(self) -> Decimal | None:
        """The sum, as far as prices are known; None if none is."""
        return None if self.replies and self.unpriced == self.replies else sum(self.usd.values(), Decimal())

    @property
    def told(self) -> str:
        """The sum in words."""
        missing = f" + {self.unpriced:,} unknown" if self.unpriced and self.cost_usd is not None else ""
        return usd(self.cost_usd) + missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a store has cost.

    Attributes
    ----------
    total : CostLine
        All replies.
    by_stage, by_model : mapping of str to CostLine
        The same by stage, and by the model version that answered (of paid replies).
    records : int
        Records in the sealed shards.
    filled : mapping of str to mapping of str to int
        By stage and column, the cells that answers filled.
    shared : mapping of str to int
        By stage: answers that records got from another record's question.
    shared_usd : mapping of str to Decimal
        By stage, what sharing saved: for each question, the records that share it less one, times what it cost.
    shared_unpriced : int
        Shared answers whose cost is unknown, and so is what they saved.
    kept_usd : Decimal
        What the replies cost that brought an answer: what a later call saves that finds all of them here.
    not_sealed : int
        Paid replies in the work area, in no shard yet; they are counted, but for the records and the cells.
    may_be_charged : int
        Stored failures of which nobody knows whether they were charged; they are in no sum.
    prices : str
        Whose prices, with the version of the data.
    """

    total: CostLine
    by_stage: Mapping[str, CostLine]
    by_model: Mapping[str, CostLine]
    records: int
    filled: Mapping[str, Mapping[str, int]]
    shared: Mapping[str, int]
    shared_usd: Mapping[str, Decimal]
    shared_unpriced: int
    kept_usd: Decimal
    not_sealed: int
    may_be_charged: int
    prices: str

    @property
    def per_record_usd(self) -> Decimal | None:
        """The cost of a record, on average; None if it is unknown or there are none."""
        return ratio(self.total, self.records)

    def per_filled_cell_usd(self, stage: str | None = None) -> Decimal | None:
        """Return the cost of a filled cell, on average, of one stage or of all; None if unknown or none is filled."""
        if stage is None:
            return ratio(self.total, sum(self.filled_cells(name) for name in self.by_stage))
        return ratio(self.by_stage[stage], self.filled_cells(stage))

    def filled_cells(self, stage: str) -> int:
        """Return how many cells a stage's answers filled."""
        return sum(self.filled.get(stage, {}).values())

    def by_field(self) -> pd.DataFrame:
        """Return for each column that answers filled how often, and what a cell of it cost.

        ``usd_per_cell`` is the stage's whole cost, divided by the cells of this column: what each would have cost if
        nothing else in the answer had been of use.
        """
        rows = [
            (stage, column, self.records, cells, _float(ratio(self.by_stage[stage], cells)))
            for stage, columns in self.filled.items()
            for column, cells in sorted(columns.items(), key=lambda one: -one[1])
        ]
        return pd.DataFrame(rows, columns=["stage", "column", "records", "filled_cells", "usd_per_cell"])

    def for_records(self, sizes: Sequence[int]) -> pd.DataFrame:
        """Return what tables of so many records would cost, if their records cost what these do.

        ``usd_shared_alike``: they share as much as these do. ``usd_nothing_shared``: each pays for all its questions.
        """
        alone = None if self.shared_unpriced else sum(self.shared_usd.values(), Decimal())
        alike, extra = (
            _float(self.per_record_usd),
            float("nan") if alone is None else float(alone) / (self.records or 1),
        )
        rows = [(size, size * alike, size * (alike + extra)) for size in sizes]
        return pd.DataFrame(rows, columns=["records", "usd_shared_alike", "usd_nothing_shared"])


def ratio(line: CostLine, count: int) -> Decimal | None:
    """Return the cost of one of so many; None if there is none, or any price is unknown."""
    return None if not count or line.unpriced or line.cost_usd is None else line.cost_usd / count


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `enrichkit.report` found; shows itself as a table in a notebook and in a terminal.

    Attributes
    ----------
    out : str
        The store.
    simulated : bool or None
        Whether the simulator answered, so that nothing was charged; None if that is not known.
    cost : Bill
        What it cost, by stage, model and kind.
    notes : tuple of str
        What limits these figures, a sentence each.
    """

    out: str
    simulated: bool | None
    cost: Bill
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return as_text(self._lines(), _listings(self.cost))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return as_html(self._lines(), _listings(self.cost))

    def to_json(self) -> str:
        """Return the report as JSON; ``docs/report.md`` describes it.

        Amounts are texts with exact decimals, in USD; null is unknown. ``version`` changes when a name does.
        """
        bill = self.cost
        found = {
            "version": SCHEMA_VERSION,
            "out": self.out,
            "simulated": self.simulated,
            "notes": list(self.notes),
            "cost": {
                "prices": bill.prices,
                "total": _line_json(bill.total),
                "by_stage": {
                    name: _line_json(line)
                    | {
                        "filled_cells": bill.filled_cells(name),
                        "filled_by_column": dict(bill.filled.get(name, {})),
                        "per_filled_cell_usd": exact(bill.per_filled_cell_usd(name), RATIO_DIGITS),
                        "shared_answers": bill.shared.get(name, 0),
                        "sharing_saved_usd": exact(bill.shared_usd.get(name, Decimal())),
                    }
                    for name, line in bill.by_stage.items()
                },
                "by_model": {name: _line_json(line) for name, line in bill.by_model.items()},
                "records": bill.records,
                "per_record_usd": exact(bill.per_record_usd, RATIO_DIGITS),
                "per_filled_cell_usd": exact(bill.per_filled_cell_usd(), RATIO_DIGITS),
                "sharing_saved_usd": exact(sum(bill.shared_usd.values(), Decimal())),
                "shared_unpriced": bill.shared_unpriced,
                "resuming_saved_usd": None,
                "stored_answers_usd": exact(bill.kept_usd),
                "not_sealed": bill.not_sealed,
                "may_be_charged": bill.may_be_charged,
            },
        }
        return json.dumps(found, indent=2)

    def _lines(self) -> list[str]:
        bill = self.cost
        label = f"{SIMULATED}, " if self.simulated else ""
        return [
            f"{self.out}: {bill.total.told} USD ({label}prices: {bill.prices})",
            f"{bill.records:,} records, {bill.total.replies:,} paid replies, {bill.total.attempts:,} attempts; "
            f"{usd(bill.per_record_usd)} USD a record, {usd(bill.per_filled_cell_usd())} USD a filled cell",
            *_savings(bill),
            *self.notes,
        ]


def report(out: str | Path = "enriched", *, prices: Mapping[str, Price] | None = None) -> Report:
    """Say what a store has cost: by stage, by model version, by kind, per record and per filled cell.

    Worked out anew from the raw replies, each once, by the model version that answered and at the prices of the
    reply's day as the installed `genai-prices` knows them. It needs no lock and also works while a run is under way.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    prices : mapping of str to Price, optional
        Prices of your own, by model: those that `run` was given.

    Raises
    ------
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"] * 2, "poc.last_name": ["Aas", "Berg"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> found = enrichkit.report(out)
    >>> found.simulated, found.cost.total.replies, found.cost.shared
    (True, 1, {'fund': 1})
    """
    ledger = read_ledger(out, prices or {})
    warn_of_damage(ledger)
    return Report(
        out=str(out), simulated=ledger.simulated, cost=make_bill(ledger, own=prices or {}), notes=tuple(_notes(ledger))
    )


def make_bill(ledger: Ledger, *, own: Mapping[str, Price]) -> Bill:
    """Return the bill of a ledger."""
    paid = ledger.paid
    replies = grouped(ledger.replies, lambda one: one.stage)
    by_stage = {name: add_up(replies.get(name, ())) for name in ledger.stages}
    shared, shared_usd, unpriced = sharing(ledger)
    told_own = f", and your own for {', '.join(sorted(own))}" if own else ""
    return Bill(
        total=merge(list(by_stage.values())),
        by_stage=by_stage,
        by_model={name: add_up(same) for name, same in grouped(paid, lambda one: one.model).items()},
        records=ledger.records,
        filled={stage: dict(columns) for stage, columns in ledger.filled.items()},
        shared=shared,
        shared_usd=shared_usd,
        shared_unpriced=unpriced,
        kept_usd=sum((one.cost.total_usd for one in paid if one.cost and not one.wasted), Decimal()),
        not_sealed=ledger.not_sealed,
        may_be_charged=sum(one.may_be_charged for one in ledger.replies),
        prices=f"genai-prices {price_data_version()}{told_own}",
    )


def grouped(replies: Iterable[StoredReply], name: Callable[[StoredReply], str]) -> dict[str, list[StoredReply]]:
    """Return replies by what they have in common."""
    found: dict[str, list[StoredReply]] = {}
    for one in replies:
        found.setdefault(name(one), []).append(one)
    return found


def add_up(replies: Sequence[StoredReply]) -> CostLine:
    """Return what replies have cost, all together."""
    sums = dict.fromkeys(ALL_KINDS, Decimal())
    counts = dict.fromkeys(COUNTED, 0)
    paid = [one for one in replies if one.paid]
    for one in paid:
        for name in COUNTED:
            counts[name] += getattr(one.usage, name.replace("input", "prompt")) or 0
        if one.cost is None:
            continue
        if one.wasted:
            sums["wasted"] += one.cost.total_usd
        else:
            for kind in KINDS:
                sums[kind] += getattr(one.cost, f"{kind}_usd")
    return CostLine(
        usd=sums,
        replies=len(paid),
        wasted=sum(one.wasted for one in paid),
        unpriced=sum(one.cost is None for one in paid),
        attempts=sum(one.tries for one in replies),
        counts=counts,
    )


def merge(lines: Sequence[CostLine]) -> CostLine:
    """Return several lines as one."""
    return CostLine(
        usd={kind: sum((line.usd[kind] for line in lines), Decimal()) for kind in ALL_KINDS},
        replies=sum(line.replies for line in lines),
        wasted=sum(line.wasted for line in lines),
        unpriced=sum(line.unpriced for line in lines),
        attempts=sum(line.attempts for line in lines),
        counts={name: sum(line.counts[name] for line in lines) for name in COUNTED},
    )


def sharing(ledger: Ledger) -> tuple[dict[str, int], dict[str, Decimal], int]:
    """Return by stage the answers that records got from another's question, and what that saved; and those unpriced."""
    spent: dict[tuple[str, str], Decimal | None] = {}
    for one in ledger.paid:
        question = one.stage, one.question
        known = spent.get(question, Decimal())
        spent[question] = None if known is None or one.cost is None else known + one.cost.total_usd
    shared = dict.fromkeys(ledger.stages, 0)
    saved = dict.fromkeys(ledger.stages, Decimal())
    unpriced = 0
    for question, records in ledger.asked_by.items():
        stage, cost = question[0], spent.get(question, Decimal())
        shared[stage] += records - 1
        if cost is None:
            unpriced += records - 1
        else:
            saved[stage] += (records - 1) * cost
    return shared, saved, unpriced


def _float(value: Decimal | None) -> float:
    return float("nan") if value is None else float(value)


def exact(value: Decimal | None, digits: int | None = None) -> str | None:
    """Return an amount as text, every digit of it or so many decimals, without an exponent.

    >>> exact(Decimal("1.50")), exact(Decimal("0E-7")), exact(Decimal(2) / 3, digits=4), exact(None)
    ('1.5', '0', '0.6667', None)
    """
    if value is None:
        return None
    return f"{(value if digits is None else round(value, digits)).normalize():f}"


def _line_json(line: CostLine) -> dict[str, Any]:
    return {
        "cost_usd": exact(line.cost_usd),
        "by_kind_usd": {kind: exact(value) for kind, value in line.usd.items()},
        "replies": line.replies,
        "wasted_replies": line.wasted,
        "unpriced_replies": line.unpriced,
        "attempts": line.attempts,
        **line.counts,
    }


def _listings(bill: Bill) -> list[Listing]:
    """Return the tables of a bill."""
    stages = [*bill.by_stage.items(), ("total", bill.total)]
    return [
        Listing("cost by stage, USD", ("stage", *ALL_KINDS, "total"), tuple(_cost_row(*line) for line in stages)),
        Listing(
            "cost by model that answered, USD",
            ("model", *ALL_KINDS, "total"),
            tuple(_cost_row(*line) for line in bill.by_model.items()),
        ),
        Listing(
            "what was used",
            ("stage", "attempts", "replies", "wasted", *(name.removesuffix("_tokens") for name in COUNTED)),
            tuple(_use_row(*line) for line in stages),
        ),
        Listing(
            "what it brought",
            ("stage", "filled cells", "USD a cell", "shared answers", "saved by sharing, USD"),
            tuple(_gain_row(bill, name) for name in bill.by_stage),
        ),
    ]


def _cost_row(name: str, line: CostLine) -> tuple[str, ...]:
    known = line.cost_usd is not None
    return name, *(usd(value if known else None) for value in line.usd.values()), line.told


def _use_row(name: str, line: CostLine) -> tuple[str, ...]:
    return name, *(f"{count:,}" for count in (line.attempts, line.replies, line.wasted, *line.counts.values()))


def _gain_row(bill: Bill, name: str) -> tuple[str, ...]:
    cells, shared = bill.filled_cells(name), bill.shared.get(name, 0)
    saved = usd(bill.shared_usd.get(name, Decimal()))
    return name, f"{cells:,}", usd(bill.per_filled_cell_usd(name)) if cells else "-", f"{shared:,}", saved


def _savings(bill: Bill) -> list[str]:
    """Return what sharing and resuming saved, in words."""
    unknown = f", and what {bill.shared_unpriced:,} of unknown price would have cost" if bill.shared_unpriced else ""
    return [
        f"Sharing saved {usd(sum(bill.shared_usd.values(), Decimal()))} USD{unknown}: "
        f"{sum(bill.shared.values()):,} answers came from another record's question.",
        f"Resuming saves {usd(bill.kept_usd)} USD in each later call that finds all these answers here. What it has "
        "saved so far cannot be told: a store does not record calls.",
    ]


def _notes(ledger: Ledger) -> list[str]:
    """Return what limits the figures, in words."""
    unpriced = sum(one.cost is None for one in ledger.paid)
    possibly = sum(one.may_be_charged for one in ledger.replies)
    notes = []
    if unpriced:
        models = ", ".join(sorted({one.model for one in ledger.paid if one.cost is None}))
        notes.append(
            f"Replies of unknown price, which are in no sum: {unpriced:,} (of the model {models}; or they do not say "
            "what they used). prices= takes prices of your own."
        )
    if possibly:
        notes.append(f"Failures that may have been charged, nobody knows, and are in no sum: {possibly:,}.")
    if ledger.not_sealed:
        notes.append(
            f"Paid replies that are not sealed yet, so that their records do not count: {ledger.not_sealed:,}."
        )
    if ledger.damaged:
        notes.append(
            f"Damaged shards, which could not be read, so that their cost is missing: {len(ledger.damaged):,}."
        )
    return notes
