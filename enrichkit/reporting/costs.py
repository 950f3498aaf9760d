"""The costs: every paid reply as a table, the bill that they add up to, and what other models would have cost.

The bill's sums are exact. What is unknown is counted, and never taken for 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError
from ..messages import SIMULATOR, Usage
from ..pricing.prices import KINDS, MODELS, Price, cost, prices_told, total, total_usd
from ..store.reader import ROWS_AT_ONCE, StoreReader
from ..store.replies import TRIAL, StoredReplies, StoredReply, Sums, collect_replies
from ..store.rows import COUNTS

FACTS = ("record", "stage", "question", "model", "at", "attempt")
"""The first columns of `costs`."""
USED = COUNTS | {"total_tokens": "total_tokens"}
"""What was used: the columns of `costs`, and the fields of `Usage` that they hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """What some replies have cost.

    Attributes
    ----------
    cost_usd : Decimal or None
        The cost in USD of all kinds, as far as it is known; None if none is, or if a damaged shard may have held all.
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
    per_search_usd : Decimal or None
        What a search cost in USD, to ten decimals; None if there was none.
    """

    cost_usd: Decimal | None
    usd: Mapping[str, Decimal | None]
    replies: int
    wasted: int
    unpriced: int
    attempts: int
    counts: Mapping[str, int]
    per_search_usd: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost(CostLine):
    """What a stage, or all of them, have cost and brought; the attributes of `CostLine`, and these.

    Attributes
    ----------
    filled : mapping of str to int
        The cells that answers filled, by column.
    per_filled_cell_usd : Decimal or None
        The cost in USD, divided by these cells, to ten decimals; None if any price is unknown or no cell is filled.
    shared : int
        Answers that records got from another record's question.
    saved_usd : Decimal or None
        What sharing saved in USD: each question's cost times its further records; None if damage hides all replies.
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
    total, by_stage, by_model : StageCost, mapping of str to StageCost, mapping of str to CostLine
        All replies; the same by stage, those of trials apart; and the paid ones by the model version that answered.
    records : int
        Records in the sealed shards.
    per_record_usd : Decimal or None
        The cost in USD without trials, divided by the records, to ten decimals; None if any price is unknown or there
        are no records.
    kept_usd : Decimal or None
        What the replies that brought an answer cost in USD: a later call that finds them all saves it. None if unknown.
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
            ``stage``, ``column``, ``records``, ``filled_cells`` and ``usd_per_cell``: the stage's cost in USD, divided
            by the cells of this column, as if no other were of use. ``attrs["prices"]`` says whose prices these are.
        """
        rows = [
            (stage, column, self.records, cells, ratio(line, cells))
            for stage, line in self.by_stage.items()
            for column, cells in sorted(line.filled.items(), key=lambda item: -item[1])
        ]
        return self._priced(rows, ["stage", "column", "records", "filled_cells"], ["usd_per_cell"])

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
        alike, extra = (float("nan") if usd is None else float(usd) for usd in (self.per_record_usd, saved))
        rows = [(size, size * alike, size * (alike + extra / (self.records or 1))) for size in sizes]
        return self._priced(rows, ["records"], ["usd_shared_alike", "usd_nothing_shared"])

    def _priced(self, rows: Sequence[Sequence[Any]], names: Sequence[str], dollars: Sequence[str]) -> pd.DataFrame:
        frame = pd.DataFrame(rows, columns=[*names, *dollars]).astype(dict.fromkeys(dollars, "float64"))
        frame.attrs["prices"] = self.prices
        return frame


def costs(out: str | Path = "enriched", *, prices: Mapping[str, Price] | None = None) -> pd.DataFrame:
    """Return every paid reply of a store, one row each, oldest first: what it used, and what it cost in USD.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    prices : mapping of str to Price, optional
        Prices of your own, by model: those that `run` was given.

    Returns
    -------
    DataFrame
        ``record`` (the id of the record that paid; missing for a reply that is not sealed yet), ``stage``,
        ``question``, ``model`` (the version that answered), ``at``, ``attempt``, the tokens (``input_tokens`` includes
        ``cached_tokens``), ``searches``, ``tier`` (missing: standard), ``input_usd``, ``cached_usd``, ``thinking_usd``,
        ``output_usd``, ``search_usd`` and their sum ``cost_usd``, missing where that is unknown, and ``wasted``:
        whether the reply brought no answer. ``attrs["prices"]`` says whose prices these are, with the data's version.

    Raises
    ------
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> enrichkit.costs(out)[["stage", "model", "wasted"]].values.tolist()
    [['fund', 'simulator', False]]
    """
    rows: list[StoredReply] = []
    tables: list[pd.DataFrame] = []

    def add(reply: StoredReply | None) -> None:
        if reply is not None and reply.paid:
            rows.append(reply)
        if reply is None or len(rows) == ROWS_AT_ONCE:  # as objects, all of them would take much more memory
            tables.append(_as_table(rows))
            rows.clear()

    collect_replies(StoreReader(out), prices or {}, check=True, each=add)
    add(None)
    table = pd.concat(tables).sort_values("at", kind="stable", ignore_index=True)
    table.attrs["prices"] = prices_told(prices or {})
    return table


def _as_table(replies: Sequence[StoredReply]) -> pd.DataFrame:
    """Return replies as a table, one row each."""
    table = pd.DataFrame({name: [getattr(reply, name) for reply in replies] for name in FACTS}, dtype=object)
    table["at"] = pd.to_datetime(table["at"], utc=True)
    for name, field in USED.items():
        table[name] = pd.Series([getattr(reply.usage, field) for reply in replies], dtype="Int64")
    table["tier"] = pd.Series([reply.usage.tier for reply in replies], dtype=object)
    for kind in KINDS:
        table[f"{kind}_usd"] = pd.Series([reply.cost and reply.cost[kind] for reply in replies], dtype="float64")
    table["cost_usd"] = pd.Series([total_usd(reply.cost) for reply in replies], dtype="float64")
    table["wasted"] = pd.Series([reply.wasted for reply in replies], dtype="bool")
    return table.astype({"attempt": "int64"})


def make_bill(stored: StoredReplies, *, own: Mapping[str, Price]) -> Bill:
    """Return what the replies of a store add up to."""
    whole = _stage_cost(stored, stored.stages)
    own_stages = [stage for stage in stored.stages if not stage.endswith(TRIAL)]
    own_cost = whole if own_stages == stored.stages else _stage_cost(stored, own_stages)
    return Bill(
        prices=prices_told(own),
        total=whole,
        by_stage={stage: _stage_cost(stored, [stage]) for stage in stored.stages},
        by_model={model: _cost_line(stored.summed(model=model)) for model in stored.models},
        records=stored.records,
        per_record_usd=ratio(own_cost, stored.records),
        kept_usd=None if whole.cost_usd is None else whole.cost_usd - (whole.usd["wasted"] or 0),
        not_sealed=stored.not_sealed,
        may_be_charged=stored.summed()["may_be_charged"],
    )


def _cost_line(sums: Sums, *, unread: bool = False) -> CostLine:
    """Return what replies cost; ``unread`` says whether there may be more of them, which cannot be read."""
    usd = {kind: Decimal(sums[kind]) for kind in (*KINDS, "wasted")}
    searches = sums["priced_searches"]
    unknown = sums["replies"] == sums["unpriced"] and (unread or bool(sums["replies"]))
    return CostLine(
        cost_usd=None if unknown else total(usd.values()).usd,
        usd=dict.fromkeys(usd) if unknown else usd,
        replies=sums["replies"],
        wasted=sums["brought_nothing"],
        unpriced=sums["unpriced"],
        attempts=sums["attempts"],
        counts={name: sums[name] for name in COUNTS},
        per_search_usd=round(sums["searches_usd"] / searches, 10) if searches else None,
    )


def _stage_cost(stored: StoredReplies, stages: Sequence[str]) -> StageCost:
    """Return what stages cost and brought."""
    line = _cost_line(stored.summed(stages=stages), unread=bool(stored.damaged))
    # A question that failed has its answer in no record at all.
    shared = [
        (records - 1, stored.shared[asked])
        for asked, records in stored.asked_by.items()
        if asked[0] in stages and records > 1
    ]
    filled = {column: cells for stage in stages for column, cells in stored.filled.get(stage, {}).items()}
    lost = line.cost_usd is None and not line.replies
    return StageCost(
        **asdict(line),
        filled=filled,
        per_filled_cell_usd=ratio(line, sum(filled.values())),
        shared=sum(count for count, _ in shared),
        saved_usd=None if lost else total(count * cost.usd for count, cost in shared if not cost.unpriced).usd,
        shared_unpriced=sum(count for count, cost in shared if cost.unpriced),
    )


def ratio(line: CostLine, count: int) -> Decimal | None:
    """Return the cost, divided by a count, to ten decimals; None if that is 0 or any price is unknown."""
    return None if not count or line.unpriced or line.cost_usd is None else round(line.cost_usd / count, 10)


def what_if(
    paid: pd.DataFrame, models: Sequence[str] = MODELS, *, prices: Mapping[str, Price] | None = None
) -> pd.DataFrame:
    """Return what other models would have cost for the same tokens and searches, cheapest first.

    Each reply is priced for its own day and tier. Another model would think, write and search more or less than the one
    that answered, so this compares prices, not models.

    Parameters
    ----------
    paid : DataFrame
        The paid replies, as `costs` returns them.
    models : sequence of str
        The models to compare.
    prices : mapping of str to Price, optional
        Prices of your own, by model.

    Returns
    -------
    DataFrame
        By model: the cost in USD by kind, its sum ``cost_usd``, and ``unpriced``, the replies whose cost is unknown
        and in none of the sums. A model without a known price has missing sums, never 0. ``attrs["prices"]`` says
        whose prices these are, ``attrs["simulated"]`` whether the simulator made up the tokens.

    Raises
    ------
    InputError
        If the table lacks the tokens, or holds something that is not a count.

    Examples
    --------
    >>> import pandas as pd
    >>> from enrichkit.reporting import what_if
    >>> tokens = {"input_tokens": [2600], "output_tokens": [700], "searches": [2]}
    >>> what_if(pd.DataFrame(tokens), ["gemini-3.5-flash", "gemini-3.5-flash-lite"])["cost_usd"].round(5).to_dict()
    {'gemini-3.5-flash-lite': 0.03053, 'gemini-3.5-flash': 0.0382}
    """
    if "input_tokens" not in paid.columns:
        raise InputError("what_if takes paid replies, as enrichkit.costs(out) returns them; this has no input_tokens.")
    usages, rows = list(_usages(paid)), {}
    for model in models:
        priced = [cost(usage, model, prices=prices, at=at) for usage, at in usages]
        known = [{**usd, "cost": total_usd(usd)} for usd in priced if usd is not None]
        sums = {f"{kind}_usd": total(usd[kind] for usd in known).usd for kind in (*KINDS, "cost")}
        unknown = bool(priced) and not known
        shown = {name: float("nan") if unknown else float(usd) for name, usd in sums.items()}
        rows[model] = shown | {"unpriced": len(priced) - len(known)}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    table = table.astype({"unpriced": "int64"}).sort_values("cost_usd")
    table.attrs |= {"simulated": is_simulated(paid), "prices": prices_told(prices or {})}
    return table


def is_simulated(paid: pd.DataFrame) -> bool:
    """Whether the simulator answered, so that nothing was charged."""
    return "model" in paid.columns and bool(paid["model"].astype(str).str.startswith(SIMULATOR).any())


def _usages(paid: pd.DataFrame) -> Iterator[tuple[Usage, datetime | None]]:
    """Yield what each reply used, and when."""
    names = [name for name in USED if name in paid.columns]
    numbers = paid[names].apply(pd.to_numeric, errors="coerce").astype("float64")
    days, tiers = (paid.get(name, [None] * len(paid)) for name in ("at", "tier"))
    for at, tier, used in zip(days, tiers, numbers.rename(columns=USED).to_dict("records"), strict=True):
        yield Usage(**{"searches": 0, "tier": tier} | used), None if pd.isna(at) else at
