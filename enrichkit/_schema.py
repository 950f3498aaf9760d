"""The schema: the one set of columns and types of a whole store, now and after it is widened."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from ._exchange import SIMULATOR
from ._index import Index
from ._row import RECORD_ID, STATUS, meta, stage_types
from ._table import wider
from ._work import Work


def given_columns(work: Work, index: Index) -> list[str]:
    """Return the columns that are the user's: those of the table, and those of any table that the store has seen."""
    seen = [name for facts in index.footers.values() for name in facts.get("columns", ())]
    return list(dict.fromkeys([*seen, *work.table.column_names]))


def target_schema(work: Work, index: Index) -> pa.Schema:
    """Return the one schema of the whole store: what it has, the table's columns, the stages' columns.

    A stage's column has the type of its answers now, whatever an earlier reading of them was; one that is the user's
    too holds both.
    """
    types: dict[str, pa.DataType] = {field.name: field.type for field in index.schema}
    given = set(given_columns(work, index))
    fresh: dict[str, pa.DataType] = {RECORD_ID: pa.string(), STATUS: pa.string()}
    fresh |= {field.name: field.type for field in work.table.schema}
    for stage in work.stages:
        fresh |= stage_types(stage.stage, work.table.schema)
    for name, kind in fresh.items():
        stored = types.get(name, kind)
        types[name] = wider(stored, kind) if name in given else kind
        if name in work.key and stored != kind:
            types[name] = pa.string()  # as a float, a large whole number would be another key
    return pa.schema(list(types.items()))


def layout(schema: pa.Schema) -> str:
    """Return a short name for a schema's columns and types, to tell shards that lack some."""
    text = "\n".join(f"{field.name} {field.type}" for field in schema)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def is_simulated(table: pa.Table, stages: Collection[str]) -> bool | None:
    """Return whether a shard's answers are simulated; None if it has none, or only failures."""
    models = [table.column(meta(name, "model")) for name in stages]
    if any(pc.any(pc.starts_with(model, SIMULATOR)).as_py() for model in models):
        return True
    answered = any(pc.any(pc.equal(table.column(meta(name, "status")), "done")).as_py() for name in stages)
    return False if answered else None
