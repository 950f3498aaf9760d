"""The index: which records are sealed where, and which questions have a reply. Made by reading only, without a lock.

``OUT/shard=s0007/part-0.parquet`` holds one row per record; ``OUT.work`` beside it what is not sealed yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import DamagedError, StoreError
from .files import Files, files_of, work_area
from .journal import JournalEntry, by_question, read_journal
from .parquet import join, read_parquet, widest

VERSION = 1
FOOTER = b"enrichkit"
_SHARD = re.compile(r"shard=s(\d+)")


class Described:
    """What the footers of a store's shards say of the whole store."""

    footers: dict[int, dict[str, Any]]

    @property
    def key(self) -> list[str]:
        """The columns that identify a record."""
        return next((list(map(str, facts["key"])) for facts in self.footers.values() if "key" in facts), [])

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The stages that any shard has columns of, in the order in which they came, with what is said of them."""
        return {name: facts for shard in self.footers.values() for name, facts in shard.get("stages", {}).items()}

    @property
    def answers(self) -> dict[str, list[str]]:
        """The columns of each stage's answers."""
        return {name: list(map(str, facts.get("answers", ()))) for name, facts in self.stages.items()}

    @property
    def given(self) -> list[str]:
        """The columns that were the user's in any table that the store has seen."""
        return list(dict.fromkeys(str(name) for facts in self.footers.values() for name in facts.get("columns", ())))

    @property
    def simulated(self) -> bool | None:
        """Whether a simulator answered; None if no shard says so."""
        known = [facts["simulated"] for facts in self.footers.values() if facts.get("simulated") is not None]
        return any(known) if known else None


@dataclass(slots=True)
class Index(Described):
    """What is stored, without the answers: which records are sealed where, which questions have a reply.

    ``shards`` numbers the shard of each sealed row; ``columns`` holds the columns asked for, one value per row.
    """

    ids: pa.Array
    shards: npt.NDArray[np.int32]
    columns: dict[str, pa.Array]
    footers: dict[int, dict[str, Any]]
    schema: pa.Schema
    pending: dict[str, list[JournalEntry]] = field(default_factory=dict)
    damaged: tuple[Path, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is stored."""
        return not len(self.ids) and not self.pending and not self.damaged

    def rows_of(self, ids: Sequence[str] | pa.Array) -> npt.NDArray[np.int64]:
        """Return the row of each record, -1 where it is not sealed."""
        return find(ids, self.ids)

    def column(self, name: str) -> pa.Array:
        """Return a column, all missing if no shard has it."""
        return self.columns.get(name, pa.nulls(len(self.ids), pa.string()))

    def places_of(self, stage: str, questions: Sequence[str] | pa.Array) -> npt.NDArray[np.int64]:
        """Return for each question a row of it, an answered one if there is any; -1 where it is in none."""
        if not len(questions):
            return np.empty(0, np.int64)
        sealed, status = self.column(f"{stage}._question"), self.column(f"{stage}._status")
        answered = find(questions, pc.if_else(pc.equal(status, "done"), sealed, pa.scalar(None, pa.string())))
        return np.where(answered >= 0, answered, find(questions, sealed))


def find(values: Sequence[str] | pa.Array, among: pa.Array) -> npt.NDArray[np.int64]:
    """Return the first place of each value in ``among``, -1 where it is not there."""
    values = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    places = pc.index_in(values, value_set=among.cast(pa.string()))
    return np.asarray(places.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def is_store(out: Path) -> bool:
    """Whether a run has stored something there, or has begun to."""
    return (out.is_dir() or not out.exists()) and (work_area(out).is_dir() or any(out.glob("shard=s*")))


def stray_work_area(out: Path) -> Path | None:
    """Return a work area with pending replies that was left beside a link, as when the store behind it was moved."""
    beside = out.with_name(out.name + ".work")
    pending = beside / "pending"
    left = out.is_symlink() and pending.is_dir() and any(pending.iterdir())
    return beside if left and not (work_area(out).exists() and beside.samefile(work_area(out))) else None


def shard_paths(files: Files, out: Path) -> dict[int, Path]:
    """Return the file of each sealed shard, by number; a folder that a crash left empty has none."""
    matches = filter(None, map(_SHARD.fullmatch, files.names(out)))
    paths = {int(match[1]): out / match[0] / "part-0.parquet" for match in matches}
    return {number: path for number, path in sorted(paths.items()) if path.name in files.names(path.parent)}


def read_shards(
    files: Files,
    paths: Mapping[int, Path],
    columns: Collection[str] | None = None,
    *,
    keep: Collection[str] | None = None,
) -> dict[int, pa.Table]:
    """Return each shard's table, of all columns or some; a damaged shard is left out.

    Only the columns that are read are checked; in memory stay all of them, or those to ``keep``.
    """

    def read(path: Path) -> pa.Table | None:
        table = read_parquet(files, path, columns)
        if table is None or keep is None:
            return table
        return table.select([name for name in table.column_names if name in keep])

    with ThreadPoolExecutor(max_workers=4) as pool:
        tables = zip(paths, pool.map(read, paths.values()), strict=True)
        return {number: table for number, table in tables if table is not None}


def newest_shards(out: Path, columns: Collection[str]) -> Iterator[pa.Table]:
    """Yield some columns of each sealed shard, the newest first; a damaged shard is left out."""
    files = files_of(out)
    for path in reversed(shard_paths(files, out).values()):
        if (table := read_parquet(files, path, columns)) is not None:
            yield table


def footer(schema: pa.Schema) -> dict[str, Any]:
    """Return what a shard says of itself: version, key, stages, whether it is simulated."""
    return dict(json.loads((schema.metadata or {}).get(FOOTER, b"{}")))


def damaged_error(path: Path) -> DamagedError:
    """Return the error of a shard that is damaged."""
    return DamagedError(
        "The shard {path} is damaged: its checksum fails. Restore it from a copy, or let {redo_damaged_on} put it "
        "aside and ask, and pay, for its records again.",
        path=path,
    )


def sealed_among(entries: Sequence[JournalEntry], read: Callable[[set[str]], Iterable[pa.Table]]) -> set[bytes]:
    """Return which replies of the journal stand in some row; ``read`` returns some columns of each shard."""
    wanted, sealed = pa.array([entry.payload for entry in entries], pa.binary()), set[bytes]()
    for table in read({f"{entry.stage}._replies" for entry in entries}) if entries else ():
        for column in table.columns:
            replies = pc.list_flatten(column)
            sealed.update(replies.filter(pc.is_in(replies, value_set=wanted)).to_pylist())
    return sealed


def scan(
    out: Path, columns: Collection[str], *, id_column: str, checked: Collection[str] = (), files: Files | None = None
) -> Index:
    """Return the index of a store, reading only; it needs no lock and changes nothing.

    A shard counts as damaged, too, where one of the columns ``checked`` is, of which the index knows nothing else.
    """
    files = files or files_of(out)
    paths = shard_paths(files, out)
    kept = {id_column, *columns}
    tables = read_shards(files, paths, {*kept, *checked}, keep=kept)
    footers = {number: footer(table.schema) for number, table in tables.items()}
    newer = [number for number, facts in footers.items() if facts.get("version", VERSION) > VERSION]
    if newer:
        raise StoreError(
            "Shard s{newer:04d} in {store} was written by a newer enrichkit. Upgrade enrichkit.",
            newer=newer[0],
            store=out,
        )
    merged = join(list(tables.values()))
    flat = {name: _flat(merged.column(name)) for name in merged.column_names}
    ids = flat.pop(id_column, pa.array([], pa.string()))
    # One shard of each layout knows all columns: reading them all would double the time.
    layouts = {str(facts.get("layout")): paths[number] for number, facts in footers.items()}
    types = widest([pq.read_schema(files.source(path)) for path in layouts.values()])
    return Index(
        ids=ids,
        shards=np.repeat(np.array(list(tables), np.int32), [table.num_rows for table in tables.values()]),
        columns=flat,
        footers=footers,
        schema=pa.schema(list(types.items())),
        pending=by_question(entry for _, entries in read_journal(files, out) for entry in entries or ()),
        damaged=tuple(path for number, path in paths.items() if number not in tables),
    )


def indexed(stages: Collection[str], columns: Collection[str] = ()) -> set[str]:
    """Return the columns of an index that knows what is answered in these stages."""
    return {*columns, *(f"{stage}._{fact}" for stage in stages for fact in ("question", "status"))}


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
