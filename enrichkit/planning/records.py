"""The records: what a table's rows are about, identified by the key columns.

Pure: it knows the table alone, not what a store has of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from ..formatting import perhaps, plain, rows_told
from ..stages import funds
from ..stages.stage import Stage
from ..store.rows import WHY, WORDS, facts_of, meta
from ..table.arrow import NO_NAMES, as_table, is_true
from ..table.cells import Digests, column_texts, digests, group, ids

SHARD = "shard"

Names = Mapping[str, str]
Priority = str | Callable[[pd.DataFrame], Sequence[float]] | None


@dataclass(kw_only=True)
class Records:
    """A table's records, whether a store has them or not."""

    frame: pd.DataFrame
    table: pa.Table
    """The frame as Arrow, without the columns that a run writes."""
    names: Names
    """The user's own names of columns that the stages know by others."""
    key: tuple[str, ...]
    record: npt.NDArray[np.int32]
    """The record of each row; -1 where the row has no key."""
    row: npt.NDArray[np.int32]
    """The first row of each record."""
    ids: pa.StringArray
    order: npt.NDArray[np.int32]
    """The records, most urgent first."""
    keyless: str
    """Which rows have no key, in words; a run refuses such a table."""

    @property
    def first(self) -> pd.DataFrame:
        """The first row of each record, with the columns' names as text."""
        named = with_text_names(self.frame)
        return named if len(self.row) == len(named) else named.iloc[self.row]

    def check(self) -> None:
        """Raise an error if a run would be refused although its plan can be shown."""
        if self.keyless:
            raise InputError("{keyless}", keyless=self.keyless)

    def id(self, record: int) -> str:
        """Return a record's id."""
        return str(self.ids[record])

    def values(self, record: int, names: Collection[str]) -> dict[str, Any]:
        """Return some of a record's cells."""
        row = int(self.row[record])
        return {name: self._columns[name][row].as_py() for name in names if name in self._columns}

    @functools.cached_property
    def _columns(self) -> dict[str, pa.Array | pa.ChunkedArray]:
        """The table's columns, as plain arrays where possible: a cell is then read five times as fast."""
        columns = zip(self.table.column_names, self.table.columns, strict=True)
        return {name: column.chunk(0) if column.num_chunks == 1 else column for name, column in columns}


def choose_key(key: str | Sequence[str] | None, frame: pd.DataFrame, names: Names = NO_NAMES) -> tuple[str, ...]:
    """Return the columns that identify a record; of some of them ``names`` has the user's own name."""
    columns, shown = list(frame.columns), own_names(frame.columns, names)
    index, listed = frame.index.names, ", ".join(shown)
    if key is None:
        if funds.KEY[0] not in columns:
            raise InputError(
                "Which columns identify a record? Give {give_key}, one or more of: {listed}.{hint}",
                listed=listed,
                hint=perhaps(funds.KEY[0], (), index),
            )
        return tuple(name for name in funds.KEY if name in columns)
    chosen = (key,) if isinstance(key, str) else tuple(key)
    for name in [name for name in chosen if name not in columns]:
        raise InputError(
            "The key column {name!r} is not in the table. Its columns: {listed}.{hint}",
            name=name,
            listed=listed,
            hint=perhaps(name, shown, index),
        )
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError("{key} must name at least one column, and each once.")
    return chosen


def record_digests(
    frame: pd.DataFrame, key: tuple[str, ...], *, gaps: bool = False, names: Names = NO_NAMES
) -> tuple[Digests, npt.NDArray[np.bool_], str]:
    """Return the digest of each row's record id, which rows have no key, and what to say of these.

    With ``gaps`` these are the rows with nothing in any column of the key.
    """
    ignore_case = set(key) <= set(funds.KEY)
    texts = {name: column_texts(frame[name], ignore_case=ignore_case) for name in key}
    may_lack = set(funds.KEY[1:]) if ignore_case and funds.KEY[0] in key else set()
    empties = {name: is_true(pc.equal(texts[name], "")) for name in key}
    lacking, keyless = np.zeros(len(frame), bool), ""
    for name in key:
        empty = np.logical_and.reduce(list(empties.values())) if gaps else empties[name]
        if name not in may_lack and empty.any():
            lacking |= empty
            rows = rows_told(np.flatnonzero(empty), frame.index)
            keyless += f"The key column {names.get(name, name)!r} is empty in {rows}. "
    keyless += "Fill it in, drop such rows, or choose another key." if keyless else ""
    return digests(list(texts.items())), lacking, keyless


def own_names(columns: Iterable[str], names: Names) -> list[str]:
    """Return the user's own names of columns."""
    return [str(names.get(name, name)) for name in columns]


def with_text_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its columns' names as text."""
    return frame.set_axis([str(name) for name in frame.columns], axis="columns")


def record_ids(frame: pd.DataFrame, key: str | Sequence[str] | None) -> list[str]:
    """Return the record id of each row."""
    named = with_text_names(frame)
    return list(ids(record_digests(named, choose_key(key, named))[0]).to_pylist())


def read_records(
    frame: pd.DataFrame,
    stages: Sequence[Stage],
    *,
    key: str | Sequence[str] | None,
    gaps: bool = False,
    priority: Priority,
    names: Names = NO_NAMES,
) -> Records:
    """Return a table's records; rows without a key are only mentioned in `keyless`.

    With ``gaps`` a part of a key of several columns may be empty. Of some columns ``names`` has the user's own name.

    Raises
    ------
    InputError
        If the table, its key or its priority cannot be used.
    """
    kinds = {column: stage.fields[field].arrow for stage in stages for column, field in stage.answers.items()}
    table = as_table(frame, without=run_columns(stage.name for stage in stages), kinds=kinds, names=names)
    named = with_text_names(frame)
    if SHARD in named.columns:
        raise InputError("A column cannot be named {shard!r}, like the store's folders. Rename it.", shard=SHARD)
    chosen = choose_key(key, named, names)
    _check_filled(stages, chosen, names)
    _check_run_columns(named, stages)
    rows, lacking, keyless = record_digests(named, chosen, gaps=gaps, names=names)
    if lacking.all():
        raise InputError("{keyless}", keyless=keyless)
    with_key = np.flatnonzero(~lacking).astype(np.int32)
    numbers, first = group(rows[with_key] if keyless else rows)
    record = np.full(len(frame), -1, np.int32)
    record[with_key] = numbers
    records = Records(
        frame=frame,
        table=_with_key_texts(table, named, chosen),
        names=names,
        key=chosen,
        record=record,
        row=with_key[first],
        ids=ids(rows, with_key[first]),
        order=np.arange(len(first), dtype=np.int32),
        keyless=keyless,
    )
    if priority is not None:
        records.order = _order(records, priority)
    return records


def _with_key_texts(table: pa.Table, named: pd.DataFrame, key: Sequence[str]) -> pa.Table:
    """Return a table whose stored key says what the user's says, also where that is an object or a mixed list."""
    for name in key:
        odd = named[name].dtype == object or pa.types.is_nested(table.field(name).type)
        texts = column_texts(named[name]) if odd else None
        if odd and not column_texts(pd.Series(table.column(name).to_pylist(), dtype=object)).equals(texts):
            cells = pc.if_else(pc.equal(texts, ""), None, texts).cast(pa.string())
            table = table.set_column(table.schema.get_field_index(name), name, cells)
    return table


def _check_filled(stages: Sequence[Stage], key: tuple[str, ...], names: Names) -> None:
    """Refuse a stage that would write into the key, or into what a run writes itself."""
    taken = dict.fromkeys({SHARD, *run_columns(stage.name for stage in stages)}, "is a run's own")
    for column in filter(taken.__contains__, key):
        raise InputError(
            "The key column {column!r} is one that runs write. Rename it, or choose another.", column=column
        )
    taken |= dict.fromkeys(key, "is in the key")
    for stage in stages:
        for column in sorted(stage.answers.keys() & taken.keys()):
            raise InputError(
                "Stage {name!r} would fill the column {column!r}, which {why}. Give it other 'columns'{in_python}, or "
                "its field another name.",
                name=stage.name,
                column=names.get(column, column),
                why=taken[column],
            )


def _check_run_columns(named: pd.DataFrame, stages: Sequence[Stage]) -> None:
    """Refuse what a run would write over, unless a run wrote it: its own words, or facts beside a stage's status."""
    mine = facts_of(stage.name for stage in stages)
    statuses = {name for name in named.columns if name.endswith("._status")}
    for column in [name for name in named.columns if name in mine]:
        stage, _, fact = column.rpartition("._")
        words = WORDS.get(fact.lstrip("_")) if stage or statuses else ()
        if words is None and (meta(stage, "status") in statuses if stage else statuses):
            continue
        texts = column_texts(named[column])
        odd = np.flatnonzero(~is_true(pc.is_in(texts, pa.array(["", *(words or ())]))))
        if len(odd):
            own = f"{column!r}, where the table has something of its own: {plain(texts[odd[0]].as_py())!r}"
            rows = rows_told(odd, named.index)
            raise InputError("A run writes into {own} in {rows}. Rename that column, or drop it.", own=own, rows=rows)


def run_columns(stages: Iterable[str]) -> frozenset[str]:
    """Return the columns that a run writes in addition to the answers of these stages."""
    return frozenset({WHY, *facts_of(stages)})


def _order(records: Records, priority: str | Callable[[pd.DataFrame], Sequence[float]]) -> npt.NDArray[np.int32]:
    """Return the records, those of high priority first, otherwise in the table's order.

    Records without a priority come last; a value that is not a number is refused, with its row in the table.
    """
    first = records.first
    if isinstance(priority, str) and priority not in first.columns:
        raise InputError(
            "The priority column {column!r} is not in the table.{hint}",
            column=priority,
            hint=perhaps(priority, own_names(first.columns, records.names), records.frame.index.names),
        )
    given = first[priority] if isinstance(priority, str) else pd.Series(priority(first))
    numbers = pd.to_numeric(given, errors="coerce").to_numpy(dtype=float)
    if len(numbers) != len(first):
        counts = f"{len(first):,} of them, not {len(numbers):,}"
        raise InputError("{priority} must give one number per record, {counts}.", counts=counts)
    lacking = np.flatnonzero(np.isnan(numbers))
    odd = lacking[is_true(pc.not_equal(column_texts(given.iloc[lacking]), ""))]
    if len(odd):
        value = f"{plain(str(given.iloc[odd[0]]))!r}, in {rows_told(records.row[odd], records.frame.index)}"
        raise InputError("{priority} must be numbers, the highest asked first: not {value}.", value=value)
    return np.argsort(-np.nan_to_num(numbers, nan=-np.inf), kind="stable").astype(np.int32)
