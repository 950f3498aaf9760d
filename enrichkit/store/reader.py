"""The frame: the user's rows with their cells filled in, and everything a store holds, as pandas."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ..stages.stage import Stage
from ..table.arrow import cells_at
from ..table.cells import is_missing
from .files import files_of, folder_of
from .index import FOOTER, answers_of, check_store, find, footer, read_shards
from .parquet import join
from .rows import RECORD_ID, STATUS, answers_and_facts, meta, record_status

ORIGIN = "enrichkit"
"""The entry of a frame's ``attrs`` that says which columns are its key, and which a model wrote into."""


def stored(out: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the sealed rows, with a warning for each damaged shard; it needs no lock and sees a run under way.

    The table's footer has the names of the key, the user's columns, the answers and the stages, over all shards.
    """
    check_store(out)
    tables, damaged = read_shards(files_of(out), out, columns)
    for path in damaged:
        warnings.warn(told_damaged(path), stacklevel=3)
    footers = [footer(table.schema) for table in tables.values()]
    answers = answers_of(footers)
    facts = {
        "key": footers[0].get("key", []) if footers else [],
        "columns": sorted({name for one in footers for name in one.get("columns", ())}),
        "answers": sorted({name for columns in answers.values() for name in columns}),
        "stages": list(answers),
        "simulated": any(one.get("simulated") for one in footers),
    }
    return join(list(tables.values())).replace_schema_metadata({FOOTER: json.dumps(facts).encode()})


def stored_facts(out: Path, facts: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Return some facts about every stage, and some other columns, of the sealed rows."""
    stages = footer(stored(out, []).schema)["stages"]
    return stored(out, [*columns, *(meta(stage, fact) for stage in stages for fact in facts)])


def told_damaged(path: Path) -> str:
    """Return the sentence about a shard that cannot be read."""
    return (
        f"The shard {path} is damaged; its records are left out. Restore it from a copy, or give run "
        "redo_damaged=True to ask, and pay, for them again."
    )


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as pandas: lists stay lists, whole numbers stay whole beside missing ones."""
    frame = pd.DataFrame({name: _series(table.column(name)) for name in table.column_names})
    facts = footer(table.schema)
    if "answers" in facts:
        given = set(facts["columns"]) - set(facts["answers"])
        frame.attrs[ORIGIN] = {"key": facts["key"], "written": [name for name in frame.columns if name not in given]}
    return frame


def _series(column: pa.ChunkedArray) -> pd.Series[Any]:
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
        return pd.Series(values, dtype=object)
    if pa.types.is_integer(column.type) and column.null_count:
        kind = "UInt64" if column.type == pa.uint64() else "Int64"
        return pd.Series(column.to_pandas(integer_object_nulls=True), dtype=kind)
    return pd.Series(column.to_pandas())


def enriched(
    out: Path,
    frame: pd.DataFrame,
    *,
    key: Sequence[str],
    stages: Sequence[Stage],
    ids: pa.StringArray,
    record: npt.NDArray[np.int32],
    rows: Iterable[tuple[int, Mapping[str, Any]]],
) -> pd.DataFrame:
    """Return the user's rows, in their order and with their index, with what is known of them filled in.

    ``ids`` are the records' ids, ``record`` says which of them each row is, and ``rows`` are records' rows that are
    not in a shard yet.
    """
    answers, facts = answers_and_facts(stages)
    table = stored(out, [RECORD_ID, *answers, *facts])
    place = np.full(len(ids), -1)
    if table.num_rows:
        place = find(ids, table.column(RECORD_ID).combine_chunks())
    known = dict(rows)
    result = frame.copy()
    for column in (*answers, *facts):
        values = _values(table, column, place, known)
        if column in facts or column not in result.columns:
            result[column] = values.iloc[record].set_axis(result.index)
        else:
            result[column] = _filled(result[column], values.iloc[record])
    statuses = [meta(stage.name, "status") for stage in stages]
    result[statuses] = result[statuses].fillna("pending")
    # Of the stages of this call: another one, asked of some records only, leaves the others pending in the store.
    combined = pd.Series(map(record_status, zip(*(result[name] for name in statuses), strict=True)), dtype=object)
    result[STATUS] = combined.set_axis(result.index)
    result.attrs[ORIGIN] = {"key": list(key), "written": [*answers, *facts]}
    return result


def _values(
    table: pa.Table, column: str, place: npt.NDArray[np.int64], rows: Mapping[int, Mapping[str, Any]]
) -> pd.Series[Any]:
    """Return a column's value for each record."""
    if column in table.column_names:
        values = _series(pa.chunked_array([cells_at(table.column(column).combine_chunks(), place)]))
    else:
        values = pd.Series([None] * len(place), dtype=object)
    known = {record: row[column] for record, row in rows.items() if row.get(column) is not None}
    if known:
        values = values.astype(object)
        for record, value in known.items():
            values.iat[record] = value
        values = values if any(isinstance(value, list | dict) for value in known.values()) else values.infer_objects()
    return values


def _filled(own: pd.Series[Any], values: pd.Series[Any]) -> pd.Series[Any]:
    """Return the user's column with its empty cells filled; the other cells stay the very objects they were."""
    empty = [is_missing(value) for value in own]
    fill = [(row, value) for row, value in enumerate(values) if empty[row] and not is_missing(value)]
    if not fill:
        return own
    result = own.astype(object) if not all(empty) else pd.Series([None] * len(own), own.index, dtype=object)
    for row, value in fill:
        result.iat[row] = value
    if isinstance(own.dtype, pd.StringDtype):
        texts = all(isinstance(value, str) or is_missing(value) for value in result)
        return result.astype(own.dtype) if texts else result
    with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate in the user's own cell fits no text type
        return result.infer_objects()
    return result


def read(out: str | Path = "enriched") -> pd.DataFrame:
    """Return every record completed so far, one row each, with all columns but the raw replies.

    It needs no lock and also works while a run is under way, of which it sees what was complete some five seconds ago.
    ``_status`` is over all stages that any call asked for. While no record is complete, there are no rows, and
    of the columns only ``_record_id`` and ``_status``.

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
    >>> enrichkit.read(out)["fund._model"].tolist()
    ['simulator']
    """
    table = stored(folder_of(out))
    if not table.num_columns:
        table = pa.table(dict.fromkeys((RECORD_ID, STATUS), pa.array([], pa.string())), metadata=table.schema.metadata)
    raw = {meta(stage, "replies") for stage in footer(table.schema)["stages"]}
    return to_frame(table.select([name for name in table.column_names if name not in raw]))
