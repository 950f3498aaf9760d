"""The outcome of a run on parts: its complete records and their rows, and one status from those of all engines."""

from __future__ import annotations

import threading
from array import array
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ..engine.shard_writer import Row, schema_of
from ..planning.plan import RunPlan
from ..runs.lifecycle import index_of
from ..runs.options import Options
from ..status import Levels, Money, PaceView, Status, Traffic
from ..store.index import Index, find
from ..store.reader import StoreReader
from ..store.rows import meta

NOTHING = Status(
    records=0,
    done=0,
    failed=0,
    left=0,
    seconds=0.0,
    rate_per_second=0.0,
    left_seconds=None,
    money=Money(),
    traffic=Traffic(),
    levels=Levels(),
    pace=PaceView(None, 0.0, ""),
)


class PartsOutcome:
    """What has come of a run on parts, as their stores say."""

    def __init__(self, plan: RunPlan, options: Options) -> None:
        self.plan = plan
        self.options = options
        self.sealed: deque[pa.Array] = deque()
        """The ids of records that are sealed, as the parts say so; whoever asks for the `completed` looks them up."""
        self._completed = array("i")
        self._is_complete = np.zeros(len(plan.ids), bool)
        self._lock = threading.Lock()

    @property
    def index(self) -> Index:
        """What is sealed."""
        return index_of(self.options, [questions.stage for questions in self.plan.stages])

    @property
    def completed(self) -> Sequence[int]:
        """The records that are complete, in the order in which their shards were sealed."""
        with self._lock:
            while self.sealed:
                records = find(self.sealed.popleft(), self.plan.ids)
                new = records[~self._is_complete[records]]
                self._is_complete[new] = True
                self._completed.extend(new.tolist())
        return self._completed

    def unsealed(self) -> tuple[list[Row], pa.Schema]:
        """Return no rows, since all that are complete will be sealed in seconds; and the schema of all parts."""
        return [], schema_of(self.plan, self.index)

    def completed_rows(self, records: Sequence[int], own_names: Mapping[str, str]) -> list[Row]:
        """Return the rows of completed records without the raw replies, with the user's own names of columns."""
        reader = StoreReader(self.options.folder, warn=False)
        ids = [self.plan.id(record) for record in records]
        table, raw = reader.rows_of(ids), {meta(stage, "replies") for stage in reader.stages}
        rows = {row["_record_id"]: row for row in table.select(set(table.column_names) - raw).to_pylist()}
        return [{own_names.get(name, name): cell for name, cell in rows[each].items()} for each in ids]


def summed(
    ever: Sequence[Status], now: Sequence[Status], *, plan: RunPlan, left: int, seconds: float, money: Money
) -> Status:
    """Return the status of a run from the last word of all engines there ever were, and of each part's last one.

    ``money`` is what is known without them: what was spent before, the budget, and the prices.
    """
    whole, last, records = _added([NOTHING, *ever]), _added([NOTHING, *now]), len(plan.order)
    complete, cost = records - left, whole.money.cost_usd
    rate, each = complete / seconds if seconds else 0.0, cost / complete if complete else None
    failed = min(complete, whole.failed)
    spent = money.spent_usd + cost
    possibly = last.money.possibly_usd
    money = replace(
        money,
        cost_usd=cost,
        reserved_usd=last.money.reserved_usd,
        possibly_usd=possibly,
        excess=last.money.excess,
        unpriced=whole.money.unpriced,
        spent_usd=spent,
        budget_share=(spent + possibly) / money.budget_usd if money.budget_usd else None,
        rest_usd=None if each is None else each * left,
        projected_usd=None if each is None else spent + each * left,
        per_record_usd=each,
        simulated=money.simulated or last.money.simulated,
    )
    status: Status = replace(
        whole,
        records=records,
        done=complete - failed,
        failed=failed,
        left=left,
        later=plan.later,
        stored=len(plan.ids) - records - plan.later,
        seconds=seconds,
        rate_per_second=rate,
        left_seconds=left / rate if rate else None,
        waiting=last.waiting * bool(left),
        money=money,
    )
    return status


def _added(values: Sequence[Any]) -> Any:
    """Return the sum of values, field by field: numbers are added, of all else stands what was said last.

    >>> _added([Traffic(requests=2), Traffic(requests=3)]).requests, _added(["a", "b", ""]), _added([None, 1.5])
    (5, 'b', 1.5)
    """
    said = [value for value in values if value]
    last = said[-1] if said else values[0]
    if is_dataclass(last):
        parts = {field.name: _added([getattr(value, field.name) for value in said]) for field in fields(last)}
        return type(last)(**parts)  # type: ignore[misc]
    if isinstance(last, Mapping):
        return sum(map(Counter, said), Counter())
    return sum(said) if isinstance(last, int | float) and last is not True else last
