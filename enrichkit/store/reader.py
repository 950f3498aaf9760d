"""Reading a store without its lock: what it holds, how far it is, and the user's rows with their cells filled in.

It changes nothing, and waits for no lock.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError, StoreError
from ..formatting import perhaps, rows_told
from ..stages.stage import Stage
from ..table.arrow import as_column, as_text, cells_at, parsed
from ..table.cells import cell_text, is_missing
from ..table.parquet import at_least, in_schema, join
from .decisions import Decisions, Judgement, read_decisions
from .files import folder_of, is_store
from .index import RECORD_ID, Snapshot, copies_of, find, types_in
from .replies import COST, cost_in_rows
from .rows import STATUS, answers_and_facts, meta

TOKENS = ("input_tokens", "tool_tokens", "thinking_tokens", "output_tokens")
DTYPES: dict[pa.DataType, Any] = {
    **{pa.bool_(): pd.BooleanDtype(), pa.uint64(): pd.UInt64Dtype()},
    **dict.fromkeys((pa.string(), pa.large_string()), pd.StringDtype()),
    **dict.fromkeys((pa.float16(), pa.float32(), pa.float64()), pd.Float64Dtype()),
    **dict.fromkeys(map(pa.type_for_alias, "int8 int16 int32 int64 uint8 uint16 uint32".split()), pd.Int64Dtype()),
}
"""What pandas makes of types of values: its own, in which a value may be missing; of any other it has but one."""
ANSWERED = pa.decimal128(38, 9)
"""The type of answers that are decimal: most of them have fewer digits than their column."""
ROWS_AT_ONCE = 5000
ORIGIN = "enrichkit"
"""The entry of a frame's ``attrs`` that says which columns are its key, and which a model wrote into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """How far a store is.

    Attributes
    ----------
    done, failed, pending : int
        Sealed records by their status; pending ones wait for a stage that was asked of others.
    unsealed : int
        Questions with a reply in the journal that is not sealed yet.
    tokens, cost_usd : int, float
        What the sealed records have used, as far as prices are known.
    unpriced : int
        Sealed answers whose cost is unknown, and in no sum.
    simulated : bool
        Whether a simulator answered.
    """

    done: int = 0
    failed: int = 0
    pending: int = 0
    unsealed: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    simulated: bool = False


class StoreReader(Snapshot):
    """A snapshot of a store and what it means: rows, money, status; it warns once of each damaged shard.

    What the shards say of themselves takes a look at each, which may read some ``columns`` as well: they are `ahead`.
    """

    def __init__(self, out: str | Path, *, warn: bool = True, columns: Collection[str] = ()) -> None:
        folder = folder_of(out)
        if not is_store(folder):
            raise StoreError("There is no store at {store}. {run} makes one.", store=folder)
        super().__init__(folder, warn=warn)
        self.ahead = self.tables(columns)
        self.found_flaws = list(self.flaws())
        for flaw in self.found_flaws if warn else ():
            warnings.warn(f"{flaw.fact} What is there is read, each record once.", stacklevel=3)
        for number in copies_of(self):
            del self.paths[number], self.footers[number], self.ahead[number]
        self.decisions = Decisions(read_decisions(folder, warn=warn), self.stages, self.answers)

    @property
    def schema(self) -> pa.Schema:
        """All columns of the rows, with their types, and those in which decisions stand."""
        return self.decisions.over(pa.schema(list(types_in(self).items())).empty_table()).schema

    def pieces(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the sealed rows with some columns, as a person decided, each record once: a few shards at a time."""
        needed = {RECORD_ID, *columns, *self.decisions.needs()}
        schema = pa.schema([field for field in self.schema if field.name in needed])
        repeated = _repeated(self.tables([RECORD_ID]))

        def shards() -> Iterator[pa.Table]:
            for number, table in self.each_shard(needed):
                known = number in repeated and pc.is_in(table.column(RECORD_ID), value_set=repeated[number])
                yield in_schema(table.filter(pc.invert(known)) if known else table, schema)

        for table in at_least(ROWS_AT_ONCE, shards()):
            yield self.decisions.over(table).select(columns)

    def rows(self, columns: Collection[str], *, decided: bool = True) -> pa.Table:
        """Return the sealed rows with those of some columns that any shard has.

        They are as a person ``decided``; else as the answers left them, with the decisions beside.
        """
        needed = self.decisions.needs(apply=decided)
        table = join(list(self.tables({*columns, *needed}).values()))
        table = self.decisions.over(table, apply=decided) if needed else table
        return table.select([name for name in table.column_names if name in columns])

    def facts(self, names: Collection[str], columns: Collection[str] = (), **how: Any) -> pa.Table:
        """Return some facts about every stage, such as ``status``, and some other columns, as `rows` does."""
        return self.rows([*columns, *(meta(stage, name) for stage in self.stages for name in names)], **how)

    def rows_of(self, records: Collection[str]) -> pa.Table:
        """Return the rows of some records as the answers left them, with the decisions beside and the raw replies."""
        wanted, tables = pa.array(map(str, records), pa.string()), []
        for number, ids in self.each_shard([RECORD_ID]):
            here = pc.is_in(ids.column(RECORD_ID), value_set=wanted)
            if pc.any(here).as_py() and (table := self._table(number)) is not None:
                tables.append(table.filter(here))
        return self.decisions.over(join(tables), apply=False)

    def row(self, record: str) -> dict[str, Any] | None:
        """Return a record's row, as `rows_of` does; None if no sound shard has it."""
        return next(iter(self.rows_of([record]).to_pylist()), None)

    def status(self) -> StoreStatus:
        """Return how far the store is; see `enrichkit.report` for a bill that counts everything."""
        table = self.facts((*TOKENS, *COST), [STATUS])
        counts, cost = Counter(table.column(STATUS).to_pylist() if table.num_rows else ()), cost_in_rows(table)
        return StoreStatus(
            done=counts["done"],
            failed=counts["failed"],
            pending=counts["pending"],
            unsealed=len({entry.question for entry in self.entries}),
            tokens=sum(pc.sum(table.column(name)).as_py() or 0 for name in table.column_names if name.endswith(TOKENS)),
            cost_usd=float(cost.usd),
            unpriced=cost.unpriced,
            simulated=bool(self.simulated),
        )


def _repeated(tables: Mapping[int, pa.Table]) -> dict[int, pa.Array]:
    """Return the ids in each shard whose records stand in an earlier one, as where one came back after they did."""
    ids = join(list(tables.values())).column(RECORD_ID).combine_chunks() if tables else pa.array([], pa.string())
    again = np.flatnonzero(find(ids, ids) != np.arange(len(ids)))
    shards = np.repeat(list(tables), [table.num_rows for table in tables.values()])[again]
    return {int(number): ids.take(pa.array(again[shards == number])) for number in np.unique(shards)}


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as pandas, in types that do not depend on what is missing; lists stay lists."""
    return pd.DataFrame({name: _series(table.column(name)) for name in table.column_names})


def _series(column: pa.Array | pa.ChunkedArray) -> pd.Series[Any]:
    if column.type == ANSWERED:
        values = [None if cell is None else Decimal(cell_text(cell)) for cell in column.to_pylist()]
        return pd.Series(values, dtype=object)
    if pa.types.is_nested(column.type):
        return pd.Series(column.to_pylist(maps_as_pydicts="strict"), dtype=object)
    return pd.Series(column.to_pandas(types_mapper=DTYPES.get))


def enriched(
    out: Path,
    frame: pd.DataFrame,
    *,
    key: Sequence[str],
    stages: Sequence[Stage],
    ids: pa.StringArray,
    record: npt.NDArray[np.int32],
    rows: Sequence[Mapping[str, Any]],
    schema: pa.Schema,
    names: Mapping[str, str],
) -> pd.DataFrame:
    """Return the user's rows, in their order and with their index, with what is known of them filled in.

    ``ids`` are the records' ids, ``record`` says which of them each row is, and ``rows`` are records' rows that are
    not in a shard yet, with the ``schema`` of the next one. Columns that the stages know by other ``names`` get the
    user's own back.
    """
    answers, facts = answers_and_facts(stages)
    answers_of = {stage.name: stage.answers for stage in stages}
    columns = dict.fromkeys([RECORD_ID, *answers, *facts, *(meta(name, "decisions") for name in answers_of)])
    reader = StoreReader(out, columns=columns)
    columns |= dict.fromkeys(needed := reader.decisions.needs())
    kinds = {name: schema.field(name).type for name in columns if name in schema.names}
    unsealed = {name: as_column([row.get(name) for row in rows], kind)[0] for name, kind in kinds.items()}
    table = join([pa.table(unsealed), *([reader.rows(kinds)] if needed else reader.ahead.values())])
    table = reader.decisions.over(table) if reader.decisions.all else table
    place = find(ids, table.column(RECORD_ID).combine_chunks())
    result = frame.copy()
    decided: dict[str, dict[int, Any]] = {column: {} for column in answers}
    for number, column, judgement in _judged(reader, table, place, answers_of):
        stored, kind = table.column(column)[place[number]].as_py(), table.schema.field(column).type
        value = stored if judgement.value is None else parsed(judgement.value, kind)
        for row in np.flatnonzero(record == number).tolist() if column in frame.columns else ():
            cell = frame[column].iat[row]
            if judgement.changes(cell, filled=as_text(cell) != as_text(stored)):
                decided[column][row] = value
            elif judgement.value is not None and as_text(cell) != as_text(value):
                where = f"{rows_told([row], frame.index)}, column {names.get(column, column)!r}"
                warnings.warn(f"The cell in {where} is not the one that was decided, and stands.", stacklevel=2)
    for column in (*answers, *facts):
        cells = cells_at(table.column(column).combine_chunks(), place)
        values = _series(cells).iloc[record].set_axis(result.index)
        own = result[column] if column in answers and column in result.columns else None
        result[column] = values if own is None else _filled(own, values, decided[column])
    statuses = [meta(stage.name, "status") for stage in stages]
    result[statuses] = result[statuses].fillna("pending")
    # Of the stages of this call: another one, asked of some records only, leaves the others pending in the store.
    some = [(result[statuses] == word).any(axis=1).to_numpy(bool) for word in ("pending", "failed")]
    result[STATUS] = pd.Series(np.select(some, ["pending", "failed"], "done"), result.index, "string")
    renamed = result.rename(columns=names)
    origin = {"key": key, "written": [*answers, *facts]}
    renamed.attrs[ORIGIN] = {what: [names.get(name, name) for name in listed] for what, listed in origin.items()}
    return renamed


def _judged(
    reader: StoreReader, table: pa.Table, place: npt.NDArray[np.int64], stages: Collection[str]
) -> Iterator[tuple[int, str, Judgement]]:
    """Yield the number of each record that decisions are about, with the column, and what they come to."""
    for stage in stages:
        held = table.column(fact := meta(stage, "decisions")).combine_chunks()
        for number in np.flatnonzero((place >= 0) & np.isin(place, pc.indices_nonzero(pc.is_valid(held)))).tolist():
            row = {fact: held[place[number]].as_py()}
            yield from ((number, *judged) for judged in reader.decisions.judgements(row, stage).items())


def _filled(own: pd.Series[Any], values: pd.Series[Any], decided: Mapping[int, Any]) -> pd.Series[Any]:
    """Return the user's column with its empty cells filled, and those that a person decided; the others are untouched.

    It keeps its dtype where that holds the values, and has theirs where it was empty.
    """
    for row, value in decided.items():
        values.iat[row] = value
    empty = [is_missing(value) for value in own]
    if all(empty):
        return values
    fill = {row: value for row, value in enumerate(values) if empty[row] and not is_missing(value)}
    fill |= {row: values.iat[row] for row in decided}
    if not fill:
        return own
    result: pd.Series[Any] = own.astype(object)
    for row, value in fill.items():
        result.iat[row] = value
    with contextlib.suppress(ValueError, TypeError, OverflowError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is not among the categories of a column is found out below
        kept = result.astype(own.dtype)
        if all(cell_text(kept.iat[row]) == cell_text(value) for row, value in fill.items()):
            return kept
    return result


def read(out: str | Path = "enriched", *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return every record completed so far, one row each, with all columns but the raw replies, or some.

    It needs no lock and also works while a run is under way, of which it sees what was complete some five seconds ago.
    ``_status`` is over all stages that any call asked for. While no record is complete, there are no rows, and
    of the columns only ``_record_id`` and ``_status``.

    Parameters
    ----------
    out : str or Path
        The folder of the shards.
    columns : sequence of str, optional
        The columns to read, in this order; default: all. A few are read many times as fast, in as much less memory.

    Returns
    -------
    DataFrame
        A row per record: the user's columns, the answers, and what is known of them.

    Raises
    ------
    InputError
        If there is no such column.
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> enrichkit.read(out)["fund._model"].tolist()
    ['simulator']
    """
    reader = StoreReader(out)
    known = reader.schema.names
    for name in columns or () if known else ():
        if name not in known:
            raise InputError(
                "There is no column {name!r} in {store}.{hint}",
                name=name,
                store=reader.folder,
                hint=perhaps(name, known),
            )
    chosen = columns or (shown(reader) if known else (RECORD_ID, STATUS))
    tables = list(reader.pieces(chosen)) if known else [pa.table(dict.fromkeys(chosen, pa.array([], pa.string())))]
    frame = to_frame(pa.concat_tables(tables))
    frame.attrs[ORIGIN] = origin_of(reader, chosen)
    return frame


def shown(reader: StoreReader) -> list[str]:
    """Return all columns of a store's rows but the raw replies."""
    raw = {meta(stage, "replies") for stage in reader.stages}
    return [name for name in reader.schema.names if name not in raw]


def origin_of(reader: StoreReader, columns: Sequence[str]) -> dict[str, list[str]]:
    """Return which columns are a store's key, and which of some a model wrote into."""
    given = set(reader.given).difference(*reader.answers.values())
    return {"key": reader.key, "written": [name for name in columns if name not in given]}
