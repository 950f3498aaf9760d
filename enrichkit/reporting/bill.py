"""The bill: what a ledger adds up to, by stage, model and kind, per record and cell, and what sharing saved.

Pure sums of exact decimals. What is unknown is counted, and never taken for 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pandas as pd

from ..formatting import usd
from ..pricing.prices import Price, prices_told
from ..store.replies import StoredReplies, StoredReply
from .costs import KINDS

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
    lost : bool
        Whether there is no reply, and a damaged shard may have held some: then what they cost is unknown.
    """

    usd: Mapping[str, Decimal]
    replies: int
    wasted: int
    unpriced: int
    attempts: int
    counts: Mapping[str, int]
    lost: bool = False

    @property
    def cost_usd(self) -> Decimal | None:
        """The sum, as far as prices are known; None if none is."""
        unknown = self.lost or (self.replies and self.unpriced == self.replies)
        return None if unknown else sum(self.usd.values(), Decimal())

    @property
    def by_kind(self) -> dict[str, Decimal | None]:
        """The cost by kind; None if none is known."""
        return dict(self.usd) if self.cost_usd is not None else dict.fromkeys(self.usd)

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
    kept_usd : Decimal or None
        What the replies cost that brought an answer: what a later call saves that finds all of them here. None if no
        cost is known.
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
    kept_usd: Decimal | None
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

    def saved_usd(self, stage: str | None = None) -> Decimal | None:
        """Return what sharing saved, in one stage or in all; None if a damaged shard held whatever there was."""
        lost = (self.total if stage is None else self.by_stage[stage]).lost
        saved = self.shared_usd.values() if stage is None else [self.shared_usd[stage]]
        return None if lost else sum(saved, Decimal())

    def by_field(self) -> pd.DataFrame:
        """Return for each column that answers filled how often, and what a cell of it cost.

        ``usd_per_cell`` is the stage's whole cost, divided by the cells of this column: what each would have cost if
        nothing else in the answer had been of use. ``attrs["prices"]`` of the frame says whose prices these are.
        """
        rows = [
            (stage, column, self.records, cells, _float(ratio(self.by_stage[stage], cells)))
            for stage, columns in self.filled.items()
            for column, cells in sorted(columns.items(), key=lambda one: -one[1])
        ]
        return self._priced(rows, ["stage", "column", "records", "filled_cells", "usd_per_cell"])

    def for_records(self, sizes: Sequence[int]) -> pd.DataFrame:
        """Return what tables of so many records would cost, if their records cost what these do.

        ``usd_shared_alike``: they share as much as these do. ``usd_nothing_shared``: each pays for all its questions.
        """
        alone = None if self.shared_unpriced else self.saved_usd()
        alike, extra = _float(self.per_record_usd), _float(alone) / (self.records or 1)
        rows = [(size, size * alike, size * (alike + extra)) for size in sizes]
        return self._priced(rows, ["records", "usd_shared_alike", "usd_nothing_shared"])

    def _priced(self, rows: Sequence[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
        frame = pd.DataFrame(rows, columns=columns)
        frame.attrs["prices"] = self.prices
        return frame


def ratio(line: CostLine, count: int) -> Decimal | None:
    """Return the cost of one of so many; None if there is none, or any price is unknown."""
    return None if not count or line.unpriced or line.cost_usd is None else line.cost_usd / count


def make_bill(stored: StoredReplies, *, own: Mapping[str, Price]) -> Bill:
    """Return the bill of a ledger."""
    paid = stored.paid
    replies = grouped(stored.replies, lambda one: one.stage)
    unread = bool(stored.damaged)
    total = add_up(stored.replies, unread=unread)
    by_stage = {name: add_up(replies.get(name, ()), unread=unread) for name in stored.stages}
    shared, shared_usd, unpriced = sharing(stored)
    kept = sum((one.cost.total_usd for one in paid if one.cost and not one.wasted), Decimal())
    return Bill(
        total=total,
        by_stage=by_stage,
        by_model={name: add_up(same) for name, same in grouped(paid, lambda one: one.model).items()},
        records=stored.records,
        filled={stage: dict(columns) for stage, columns in stored.filled.items()},
        shared=shared,
        shared_usd=shared_usd,
        shared_unpriced=unpriced,
        kept_usd=None if total.cost_usd is None else kept,
        not_sealed=stored.not_sealed,
        may_be_charged=sum(one.may_be_charged for one in stored.replies),
        prices=prices_told(own),
    )


def grouped(replies: Iterable[StoredReply], name: Callable[[StoredReply], str]) -> dict[str, list[StoredReply]]:
    """Return replies by what they have in common."""
    found: dict[str, list[StoredReply]] = {}
    for one in replies:
        found.setdefault(name(one), []).append(one)
    return found


def add_up(replies: Sequence[StoredReply], *, unread: bool = False) -> CostLine:
    """Return what replies have cost, all together; ``unread`` says whether there may be some that cannot be read."""
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
        lost=unread and not paid,
    )


def sharing(stored: StoredReplies) -> tuple[dict[str, int], dict[str, Decimal], int]:
    """Return by stage the answers that records got from another's question, and what that saved; and those unpriced."""
    spent: dict[tuple[str, str], Decimal | None] = {}
    for one in stored.paid:
        question = one.stage, one.question
        known = spent.get(question, Decimal())
        spent[question] = None if known is None or one.cost is None else known + one.cost.total_usd
    shared = dict.fromkeys(stored.stages, 0)
    saved = dict.fromkeys(stored.stages, Decimal())
    unpriced = 0
    for question, records in stored.asked_by.items():
        stage, cost = question[0], spent.get(question, Decimal())
        others = max(0, records - 1)  # no record at all has the answer of a question that failed
        shared[stage] += others
        if cost is None:
            unpriced += others
        else:
            saved[stage] += others * cost
    return shared, saved, unpriced


def _float(value: Decimal | None) -> float:
    return float("nan") if value is None else float(value)
