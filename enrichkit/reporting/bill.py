"""The bill: what a store's replies add up to, by stage, model and kind, per record and cell, and what sharing saved.

Sums are of exact decimals. What is unknown is counted, and never taken for 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pandas as pd

from ..pricing.prices import Price, Total, prices_told, total
from ..store.replies import StoredReplies
from .costs import COUNTED, KINDS, by_kind, reply_table

ALL_KINDS = (*KINDS, "wasted")
"""What the money went for. The first five are of the replies that brought an answer; all of the others is wasted."""

RATIO_DIGITS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """What some replies have cost.

    Attributes
    ----------
    cost_usd : Decimal or None
        The cost in USD of all kinds, as far as prices are known; None if none is, or if there is no reply and a damaged
        shard may have held some.
    usd : mapping of str to Decimal or None
        The cost in USD by kind: ``input``, ``cached`` (input that was cached), ``thinking``, ``output`` and ``search``
        of the replies that brought an answer; ``wasted``, all kinds together, of paid replies that brought none:
        failed, or asked again. None where ``cost_usd`` is.
    replies, wasted, unpriced : int
        Paid replies; those of them that brought no answer; those whose price is unknown, which are in no sum.
    attempts : int
        Requests that it took, refusals (429) apart.
    counts : mapping of str to int
        Tokens by kind, and searches, of all paid replies; ``input_tokens`` includes ``cached_tokens``.
    """

    cost_usd: Decimal | None
    usd: Mapping[str, Decimal | None]
    replies: int
    wasted: int
    unpriced: int
    attempts: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost(CostLine):
    """What a stage, or all of them, have cost and brought; the attributes of `CostLine`, and these.

    Attributes
    ----------
    cost_usd, usd, replies, wasted, unpriced, attempts, counts : see CostLine
        As in `CostLine`.
    filled : mapping of str to int
        The cells that answers filled, by column.
    per_filled_cell_usd : Decimal or None
        The cost in USD, divided by these cells, to ten decimals; None if any price is unknown or no cell is filled.
    shared : int
        Answers that records got from another record's question.
    saved_usd : Decimal or None
        What sharing saved in USD: for each question, the records that share it less one, times what it cost. None if a
        damaged shard held all the replies.
    shared_unpriced : int
        Shared answers whose cost is unknown, and so is what they saved.
    """

    filled: Mapping[str, int]
    per_filled_cell_usd: Decimal | None
    shared: int
    saved_usd: Decimal | None
    shared_unpriced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a store has cost.

    Attributes
    ----------
    prices : str
        Whose prices, with the version of the data.
    total : StageCost
        All replies.
    by_stage : mapping of str to StageCost
        The same by stage.
    by_model : mapping of str to CostLine
        The same by the model version that answered (of paid replies).
    records : int
        Records in the sealed shards.
    per_record_usd : Decimal or None
        The cost in USD, divided by the records, to ten decimals; None if any price is unknown or there are no records.
    kept_usd : Decimal or None
        What the replies that brought an answer cost in USD: a later call that finds all of them here saves as much.
        None if no cost is known.
    not_sealed : int
        Paid replies in the work area, in no shard yet; they are counted, but for the records and the cells.
    may_be_charged : int
        Stored failures that may have been charged, or not; they are in no sum.
    """

    prices: str
    total: StageCost
    by_stage: Mapping[str, StageCost]
    by_model: Mapping[str, CostLine]
    records: int
    per_record_usd: Decimal | None
    kept_usd: Decimal | None
    not_sealed: int
    may_be_charged: int

    def by_field(self) -> pd.DataFrame:
        """Return for each column that answers filled how often, and what a cell of it cost.

        Returns
        -------
        DataFrame
            ``stage``, ``column``, ``records``, ``filled_cells`` and ``usd_per_cell``: the stage's whole cost in USD,
            divided by the cells of this column, as if nothing else in the answer had been of use.
            ``attrs["prices"]`` says whose prices these are.
        """
        rows = [
            (stage, column, self.records, cells, _float(ratio(line, cells)))
            for stage, line in self.by_stage.items()
            for column, cells in sorted(line.filled.items(), key=lambda item: -item[1])
        ]
        return self._priced(rows, ["stage", "column", "records", "filled_cells", "usd_per_cell"])

    def for_records(self, sizes: Sequence[int]) -> pd.DataFrame:
        """Return what larger tables would cost, if their records cost what these do.

        Parameters
        ----------
        sizes : sequence of int
            The numbers of records.

        Returns
        -------
        DataFrame
            ``records``; ``usd_shared_alike``, the cost in USD if they share as much as these do; and
            ``usd_nothing_shared``, if each pays for all its questions. ``attrs["prices"]`` says whose prices these are.
        """
        saved = None if self.total.shared_unpriced else self.total.saved_usd
        alike, extra = _float(self.per_record_usd), _float(saved) / (self.records or 1)
        rows = [(size, size * alike, size * (alike + extra)) for size in sizes]
        return self._priced(rows, ["records", "usd_shared_alike", "usd_nothing_shared"])

    def _priced(self, rows: Sequence[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
        frame = pd.DataFrame(rows, columns=columns)
        frame.attrs["prices"] = self.prices
        return frame


def make_bill(stored: StoredReplies, *, own: Mapping[str, Price]) -> Bill:
    """Return what the replies of a store add up to."""
    replies = reply_table(stored.replies)
    facts, paid = _facts(replies), replies["paid"].astype(bool)
    by_stage = facts.groupby(replies["stage"], sort=False).sum().reindex(stored.stages, fill_value=0)
    by_model = facts[paid].groupby(replies["model"][paid], sort=False).sum()
    spent: dict[tuple[str, str], Total] = defaultdict(Total)
    for reply in stored.paid:
        spent[reply.stage, reply.question] += total([None if reply.cost is None else reply.cost.total_usd])
    stages = {stage: _stage_cost(by_stage.T[stage], stored, spent, [stage]) for stage in stored.stages}
    whole = _stage_cost(facts.sum(), stored, spent, stored.stages)
    kept = total(reply.cost.total_usd for reply in stored.paid if reply.cost and not reply.wasted)
    return Bill(
        prices=prices_told(own),
        total=whole,
        by_stage=stages,
        by_model={str(model): CostLine(**_line(sums)) for model, sums in by_model.iterrows()},
        records=stored.records,
        per_record_usd=ratio(whole, stored.records),
        kept_usd=None if whole.cost_usd is None else kept.usd,
        not_sealed=stored.not_sealed,
        may_be_charged=sum(reply.may_be_charged for reply in stored.replies),
    )


def _facts(replies: pd.DataFrame) -> pd.DataFrame:
    """Return what can be added up: dollars by kind, tokens and searches, and replies by what came of them."""
    paid = replies["paid"].astype(bool)
    nothing: Any = Decimal()
    dollars = by_kind(replies, nothing)
    used = replies[list(COUNTED)].astype("Int64").where(paid, 0).fillna(0)
    return (
        dollars.where(dollars.notna(), nothing)
        .join(used)
        .assign(
            replies=paid.astype(int),
            wasted_replies=(paid & replies["wasted"].astype(bool)).astype(int),
            unpriced=(paid & replies["cost_usd"].isna()).astype(int),
            attempts=replies["tries"].astype(int),
        )
    )


def _line(sums: pd.Series[Any], *, unread: bool = False) -> dict[str, Any]:
    """Return the fields of a `CostLine`; ``unread`` says whether there may be replies that cannot be read."""
    replies, unpriced = int(sums["replies"]), int(sums["unpriced"])
    unknown = unpriced == replies and (unread or replies > 0)
    usd = {kind: Decimal(sums[kind]) for kind in ALL_KINDS}
    return {
        "cost_usd": None if unknown else sum(usd.values(), Decimal()),
        "usd": dict.fromkeys(usd) if unknown else usd,
        "replies": replies,
        "wasted": int(sums["wasted_replies"]),
        "unpriced": unpriced,
        "attempts": int(sums["attempts"]),
        "counts": {name: int(sums[name]) for name in COUNTED},
    }


def _stage_cost(
    sums: pd.Series[Any], stored: StoredReplies, spent: Mapping[tuple[str, str], Total], stages: Sequence[str]
) -> StageCost:
    """Return what stages cost and brought; ``spent`` is what each question cost."""
    line = _line(sums, unread=bool(stored.damaged))
    # A question that failed has its answer in no record at all.
    shared = [(max(0, records - 1), spent[asked]) for asked, records in stored.asked_by.items() if asked[0] in stages]
    filled = {column: cells for stage in stages for column, cells in stored.filled.get(stage, {}).items()}
    saved = sum((count * cost.usd for count, cost in shared if not cost.unpriced), Decimal())
    return StageCost(
        **line,
        filled=filled,
        per_filled_cell_usd=ratio(CostLine(**line), sum(filled.values())),
        shared=sum(count for count, _ in shared),
        saved_usd=None if line["cost_usd"] is None and not line["replies"] else saved,
        shared_unpriced=sum(count for count, cost in shared if cost.unpriced),
    )


def ratio(line: CostLine, count: int) -> Decimal | None:
    """Return the cost, divided by a count; None if that is 0 or any price is unknown."""
    return None if not count or line.unpriced or line.cost_usd is None else round(line.cost_usd / count, RATIO_DIGITS)


def _float(value: Decimal | None) -> float:
    return float("nan") if value is None else float(value)
