"""The store: sealed shards that are checkpoint and output in one, and the pending parts beside them.

``OUT/shard=s0007/part-0.parquet`` holds one row per record, and only such files lie under ``OUT``: anything else
doubles rows or breaks a foreign reader. ``OUT.work`` holds the lock, the replies since the last seal, and what was put
aside. A reply counts once `Store.append` returns. A part goes only after the shard that contains its replies is
durable, so a crash at any instant leaves a reply in one of them or in both, never in none.

It knows replies as bytes and rows as Arrow tables, and asks nobody what they mean.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import socket
import time
import uuid
import zlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ._files import Files
from ._table import as_type, wider
from .errors import DamagedError, LockedError, StoreError

VERSION = 1
MOST_PARTS = 1000
LEAST_FREE_BYTES = 64 * 2**20
FOOTER = b"enrichkit"
CHECKSUM = b"enrichkit.crc32="
NO_CHECKSUM = b"00000000"
_SHARD = re.compile(r"shard=s(\d+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored reply: ``status`` is ``done``, ``failed``, or ``again`` where another attempt was to follow."""

    question: str
    stage: str
    attempt: int
    status: str
    payload: bytes


@dataclass(slots=True)
class Index:
    """What is stored, without the answers: which records are sealed where, which questions have a reply.

    ``shards`` numbers the shard of each sealed row; ``columns`` holds the columns asked for, one value per row.
    """

    ids: pa.Array
    shards: npt.NDArray[np.int32]
    columns: dict[str, pa.Array]
    footers: dict[int, dict[str, Any]]
    schema: pa.Schema
    pending: dict[str, list[Entry]] = field(default_factory=dict)
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

    @property
    def stages(self) -> dict[str, Any]:
        """The stages that any shard has columns of, in the order in which they came."""
        return {name: facts for one in self.footers.values() for name, facts in one.get("stages", {}).items()}


def find(values: Sequence[str] | pa.Array, among: pa.Array) -> npt.NDArray[np.int64]:
    """Return the first place of each value in ``among``, -1 where it is not there."""
    values = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    places = pc.index_in(values, value_set=among.cast(pa.string()))
    return np.asarray(places.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def work_area(out: Path) -> Path:
    """Return the folder beside the shards; a link leads to the same one as its target, and so to the same lock."""
    real = out.resolve() if out.is_symlink() else out
    return real.with_name(real.name + ".work")


def check_store(out: Path) -> None:
    """Raise `StoreError` if there is no store to read."""
    if not out.is_dir() and (out.exists() or not work_area(out).is_dir()):
        raise StoreError(f"There is no store at {out}. enrichkit.run(df, out={str(out)!r}) makes one.")


def stray_work_area(out: Path) -> Path | None:
    """Return a work area with pending replies that was left beside a link, as when the store behind it was moved."""
    beside = out.with_name(out.name + ".work")
    pending = beside / "pending"
    left = out.is_symlink() and pending.is_dir() and any(pending.iterdir())
    return beside if left and not (work_area(out).exists() and beside.samefile(work_area(out))) else None


def encode_parquet(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file, checksums included.

    Parquet's own checksums cover the pages but not the footer, where one flipped bit can rename a column or point it
    at another's pages. So the footer carries a CRC-32 of itself, worked out with its own eight digits as zeros.
    """
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), CHECKSUM: NO_CHECKSUM})
    pq.write_table(
        table,
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    data = bytearray(sink.getvalue())
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    place = data.index(NO_CHECKSUM, data.index(CHECKSUM, start))
    data[place : place + 8] = b"%08x" % zlib.crc32(data[start:])
    return bytes(data)


def _footer_is_sound(source: pa.NativeFile) -> bool:
    size = source.size()
    length = int.from_bytes(source.read_at(4, max(0, size - 8)), "little")
    if length + 12 > size:
        return False
    end = source.read_at(length + 8, size - 8 - length)
    found = re.search(CHECKSUM + rb".{2}([0-9a-f]{8})", end, re.DOTALL)
    if found is None:
        return False
    zeroed = end[: found.start(1)] + NO_CHECKSUM + end[found.end(1) :]
    return found.group(1) == b"%08x" % zlib.crc32(zeroed)


def read_parquet(files: Files, path: Path, columns: Collection[str] | None = None) -> pa.Table:
    """Return a file's table, footer and pages verified; of ``columns``, those that it has."""
    with files.source(path) as source:
        if not _footer_is_sound(source):
            raise pa.ArrowInvalid(f"{path}: the footer's checksum fails")
        file = pq.ParquetFile(source, page_checksum_verification=True)
        names = file.schema_arrow.names
        return file.read(columns=None if columns is None else [name for name in names if name in columns])


def shard_paths(files: Files, out: Path) -> Iterator[tuple[int, Path]]:
    """Yield the number and file of each sealed shard; a folder that a crash left empty has none."""
    for name in files.names(out):
        match = _SHARD.fullmatch(name)
        if match and "part-0.parquet" in files.names(out / name):
            yield int(match.group(1)), out / name / "part-0.parquet"


def _read_or_none(files: Files, path: Path, columns: Collection[str] | None) -> pa.Table | None:
    """Return a file's table, or None if it is damaged."""
    try:
        return read_parquet(files, path, columns)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the file
        return None


def read_shards(files: Files, out: Path, columns: Collection[str] | None) -> tuple[dict[int, pa.Table], list[Path]]:
    """Return the tables of all sealed shards by number, and the files that fail their checksum."""
    found = sorted(shard_paths(files, out))
    with ThreadPoolExecutor(max_workers=4) as pool:
        tables = list(pool.map(lambda shard: _read_or_none(files, shard[1], columns), found))
    good = {number: table for (number, _), table in zip(found, tables, strict=True) if table is not None}
    return good, [path for (_, path), table in zip(found, tables, strict=True) if table is None]


def footer(schema: pa.Schema) -> dict[str, Any]:
    """Return what a shard says of itself: version, key, stages, whether it is simulated."""
    return dict(json.loads((schema.metadata or {}).get(FOOTER, b"{}")))


def scan(out: Path, columns: Collection[str], *, id_column: str, files: Files | None = None) -> Index:
    """Return the index of a store, reading only; it needs no lock and changes nothing."""
    files = files or Files(work_area(out) / "tmp")
    tables, damaged = read_shards(files, out, {id_column, *columns})
    footers = {number: footer(table.schema) for number, table in tables.items()}
    newer = [number for number, facts in footers.items() if facts.get("version", VERSION) > VERSION]
    if newer:
        raise StoreError(f"Shard s{newer[0]:04d} in {out} was written by a newer enrichkit. Upgrade enrichkit.")
    merged = join(list(tables.values())).combine_chunks()
    names = [name for name in merged.column_names if name != id_column]
    flat = {name: _flat(merged.column(name)) for name in merged.column_names}
    paths = dict(shard_paths(files, out))
    # One shard of each layout knows all columns: reading them all would double the time.
    layouts = {str(facts.get("layout")): paths[number] for number, facts in footers.items() if number in paths}
    types = _widest([pq.read_schema(files.source(path)) for path in layouts.values()])
    return Index(
        ids=flat.get(id_column, pa.array([], pa.string())),
        shards=np.repeat(
            np.fromiter(tables, np.int32, len(tables)), [table.num_rows for table in tables.values()]
        ).astype(np.int32),
        columns={name: flat[name] for name in names},
        footers=footers,
        schema=pa.schema(list(types.items())),
        pending=_by_question(entry for _, entries in read_parts(files, out) for entry in entries or ()),
        damaged=tuple(damaged),
    )


def indexed(stages: Collection[str], columns: Collection[str] = ()) -> set[str]:
    """Return the columns of an index that knows what is answered in these stages."""
    return {*columns, *(f"{stage}._{fact}" for stage in stages for fact in ("question", "status"))}


def join(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables under one another; a column that some lack is missing there, one of two types is the wider."""
    if not tables:
        return pa.table({})
    types = _widest([table.schema for table in tables])

    def widened(table: pa.Table) -> pa.Table:
        columns = [(name, as_type(table.column(name), types[name])) for name in table.column_names]
        return pa.table(dict(columns)) if columns else table.replace_schema_metadata(None)

    return pa.concat_tables([widened(table) for table in tables], promote_options="default")


def _widest(schemas: Sequence[pa.Schema]) -> dict[str, pa.DataType]:
    """Return all columns, each with the type that holds what any of the schemas has."""
    types: dict[str, pa.DataType] = {}
    seen: pa.Schema | None = None
    for schema in schemas:
        if seen is None or not schema.equals(seen):
            types |= {field.name: wider(types.get(field.name, field.type), field.type) for field in schema}
        seen = schema
    return types


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _by_question(entries: Iterator[Entry]) -> dict[str, list[Entry]]:
    """Return the pending replies of each question, oldest attempt first, each once."""
    found: dict[str, dict[tuple[int, bytes], Entry]] = {}
    for entry in entries:
        found.setdefault(entry.question, {})[entry.attempt, entry.payload] = entry
    return {question: [same[key] for key in sorted(same)] for question, same in found.items()}


def encode_part(entries: Sequence[Entry]) -> bytes:
    """Return replies as the bytes of a part: a line with the others' CRC-32, then a line each, tabs between its fields.

    A part lives for minutes and has no readers but us: Parquet would take ten times as long. No field can hold a tab or
    a line's end: a payload is JSON in ASCII.
    """
    lines = [(one.question, one.stage, str(one.attempt), one.status, one.payload.decode("ascii")) for one in entries]
    body = "".join("\t".join(line) + "\n" for line in lines).encode("ascii")
    return b"%08x\n" % zlib.crc32(body) + body


def decode_part(data: bytes) -> list[Entry] | None:
    """Return the replies in a part, or None if it is damaged.

    >>> decode_part(encode_part([Entry("q", "poc", 1, "done", b"{}")]))
    [Entry(question='q', stage='poc', attempt=1, status='done', payload=b'{}')]
    """
    checksum, _, body = data.partition(b"\n")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    found = (line.split("\t") for line in body.decode("ascii").split("\n")[:-1])
    return [
        Entry(question, stage, int(attempt), status, payload.encode("ascii"))
        for question, stage, attempt, status, payload in found
    ]


def read_parts(files: Files, out: Path) -> Iterator[tuple[Path, list[Entry] | None]]:
    """Yield each pending part with its replies, None for a damaged one."""
    folder = work_area(out) / "pending"
    for name in files.names(folder):
        with contextlib.suppress(FileNotFoundError):  # sealed and removed between listing and reading
            yield folder / name, decode_part(files.read(folder / name))


class Store:
    """A store opened for writing, by one run at a time.

    Opening takes the lock and recovers: leftovers of a killed run are cleared, damaged parts put aside, parts removed
    whose replies are sealed.

    Parameters
    ----------
    out : Path
        The folder of the shards.
    stages : collection of str
        The stages whose columns the index holds.
    id_column : str
        The column with the record's id.
    columns : collection of str
        Further columns for the index.
    redo_damaged : bool
        Put damaged shards aside rather than refuse.
    """

    def __init__(
        self,
        out: Path,
        *,
        stages: Collection[str],
        id_column: str,
        columns: Collection[str] = (),
        redo_damaged: bool = False,
        files: Files | None = None,
    ) -> None:
        self.out = out
        self.work = work_area(out)
        self.files = files or Files(self.work / "tmp")
        self._id_column = id_column
        self.quarantined: list[Path] = []
        self._parts: dict[Path, set[str]] = {}
        self._serial = 0
        self._lock, self._inode = self._take_lock()
        try:
            for name in self.files.names(self.work / "tmp"):
                self.files.remove(self.work / "tmp" / name)
            self._scan = functools.partial(scan, out, indexed(stages, columns), id_column=id_column, files=self.files)
            if redo_damaged:
                self._put_damaged_aside()
            self.index = self._scan()
            if self.index.damaged:
                raise DamagedError(f"{_damaged(self.index.damaged[0])} Nothing was changed.")
            self._next = max(self.index.footers, default=-1) + 1
            self._recover_parts()
        except BaseException:
            self.close()
            raise

    def append(self, entries: Sequence[Entry]) -> None:
        """Store replies durably, as one part. Once this returns, they are never lost."""
        if not entries:
            return
        self._check_lock()
        self._put_part(entries)
        for entry in entries:
            self.index.pending.setdefault(entry.question, []).append(entry)
        if len(self._parts) > MOST_PARTS:
            with contextlib.suppress(OSError):  # what is to be stored is; a merge can wait
                self._merge_parts()

    def seal(self, table: pa.Table, questions: Collection[str], *, shard: int | None = None) -> int:
        """Store finished rows durably as a shard, a new one or in place of ``shard``; return its number.

        Then, and only then, the parts go whose replies are among ``questions`` or sealed before.
        """
        self._check_lock()
        number = self._next if shard is None else shard
        self.files.put(self._path(number), encode_parquet(table))
        self._next = max(self._next, number + 1)
        self.index.footers[number] = footer(table.schema)
        self._forget(questions)
        return number

    def shard(self, number: int) -> pa.Table:
        """Return a sealed shard's table."""
        return self._sound(self._path(number), None)

    def _path(self, number: int) -> Path:
        return self.out / f"shard=s{number:04d}" / "part-0.parquet"

    def _sound(self, path: Path, columns: Collection[str] | None) -> pa.Table:
        table = _read_or_none(self.files, path, columns)
        if table is None:
            raise DamagedError(_damaged(path))
        return table

    def sealed(self, columns: Collection[str]) -> pa.Table:
        """Return some columns of all sealed rows."""
        return join([self._sound(path, columns) for _, path in shard_paths(self.files, self.out)])

    def reload(self) -> None:
        """Read the index anew, after shards were sealed that it knows as they were before."""
        self.index = self._scan()
        self._forget_sealed()

    def sealed_replies(
        self, stage: str, questions: Sequence[str], places: npt.NDArray[np.integer[Any]] | None = None
    ) -> dict[str, tuple[str, list[bytes]]]:
        """Return, for sealed questions of a stage, who paid and its row's replies, oldest first.

        The row may have been sealed again since, with another question: its earlier replies are there all the same.
        ``places`` in the index, where they are known, save looking for the questions in all of it.
        """
        places = self.index.places_of(stage, questions) if places is None else places
        columns = {self._id_column, f"{stage}._paid_by", f"{stage}._replies"}
        found: dict[str, tuple[str, list[bytes]]] = {}
        for number in np.unique(self.index.shards[places[places >= 0]]):
            table = self._sound(self._path(number), columns)
            here = np.flatnonzero((places >= 0) & (self.index.shards[np.maximum(places, 0)] == number))
            rows = find(self.index.ids.take(pa.array(places[here])), table.column(self._id_column).combine_chunks())
            for place, row in zip(here.tolist(), rows.tolist(), strict=True):
                payer, replies = (table.column(f"{stage}._{fact}")[row].as_py() for fact in ("paid_by", "replies"))
                found[questions[place]] = payer, replies or []
        return found

    def enough_space(self) -> bool:
        """Whether the disk has room for what is under way; one that cannot be looked at has none."""
        try:
            return self.files.free_bytes(self.work) > LEAST_FREE_BYTES
        except OSError:
            return False

    def close(self) -> None:
        """Give the lock back."""
        with contextlib.suppress(OSError):  # it only says who works here, and the lock says whether
            self.files.remove(self.work / "owner.json")
        self._lock.release()

    def _take_lock(self) -> tuple[filelock.BaseFileLock, int]:
        for folder in (self.out, self.work):
            try:
                self.files.make_folder(folder)
            except OSError as error:
                raise StoreError(
                    f"The folder {folder} cannot be made: {error.strerror}. Choose another 'out'."
                ) from error
            if not folder.is_dir():
                raise StoreError(f"{folder} is no folder, or a link to nowhere. Choose another 'out'.")
        if os.stat(self.out).st_dev != os.stat(self.work).st_dev:
            raise StoreError(
                f"{self.out} and {self.work} lie on different disks, so that no shard can be moved into its place. "
                "Choose an 'out' inside a folder of one disk."
            )
        if stray := stray_work_area(self.out):
            raise StoreError(f"{stray} holds replies of {self.out}. Move it to {self.work}, then run again.")
        path = self.work / "lock"
        lock = filelock.FileLock(str(path), timeout=0, thread_local=False, mode=0o600)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise LockedError(
                f"Another run works on {self.out}{_owner(self.work)}. Wait for it or stop it, or choose another 'out'."
            ) from None
        except OSError as error:
            raise StoreError(f"The folder {self.work} cannot be written: {error.strerror}.") from error
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.strftime("%Y-%m-%d %H:%M:%S")}
        (self.work / "owner.json").write_text(json.dumps(owner))
        return lock, os.stat(path).st_ino

    def _check_lock(self) -> None:
        """Raise if the lock file was deleted or replaced: somebody else may be writing."""
        try:
            held = os.stat(self.work / "lock").st_ino == self._inode
        except FileNotFoundError:
            held = False
        if not held:
            raise LockedError(f"The lock of {self.out} was removed while this run held it; nothing more is written.")

    def _put_damaged_aside(self) -> None:
        """Move every shard that fails a checksum, in whatever column, out of the way."""
        for number, path in list(shard_paths(self.files, self.out)):
            if _read_or_none(self.files, path, None) is None:
                self._put_aside(path, f"s{number:04d}-{path.name}")

    def _put_aside(self, path: Path, name: str) -> None:
        """Move a damaged file to where it stays, whatever else was put aside under its name."""
        aside = self.work / "quarantine" / f"{uuid.uuid4().hex[:8]}-{name}"
        self.files.move(path, aside)
        self.quarantined.append(aside)

    def _recover_parts(self) -> None:
        for path, entries in list(read_parts(self.files, self.out)):
            if entries is None:
                self._put_aside(path, path.name)
            else:
                self._parts[path] = {entry.question for entry in entries}
                serial = re.match(r"\d+", path.name)
                self._serial = max(self._serial, 1 + int(serial[0]) if serial else 0)
        self._forget_sealed()

    def _forget_sealed(self) -> None:
        """Forget the pending questions all of whose replies stand in some sealed row, whatever that row asks now."""
        pending = self.index.pending
        if not pending:
            return
        columns = {f"{entries[0].stage}._replies" for entries in pending.values()}
        wanted = pa.array({entry.payload for entries in pending.values() for entry in entries}, pa.binary())
        held: set[bytes] = set()
        for _, path in shard_paths(self.files, self.out):
            for column in self._sound(path, columns).columns:
                replies = pc.list_flatten(column)
                held.update(replies.filter(pc.is_in(replies, value_set=wanted)).to_pylist())
        self._forget([name for name, entries in pending.items() if all(entry.payload in held for entry in entries)])

    def _forget(self, questions: Collection[str]) -> None:
        """Remove the parts that hold nothing but sealed replies."""
        for question in questions:
            self.index.pending.pop(question, None)
        for held in self._parts.values():
            held.difference_update(questions)
        self._remove([path for path, held in self._parts.items() if not held])

    def _remove(self, parts: Sequence[Path]) -> None:
        """Remove parts that are needed no more; one that cannot go now does no harm, and goes another time."""
        for path in parts:
            with contextlib.suppress(OSError):
                self.files.remove(path)
                del self._parts[path]

    def _put_part(self, entries: Sequence[Entry]) -> None:
        path = self.work / "pending" / f"{self._serial:010d}-{os.getpid()}.tsv"
        self._serial += 1
        self.files.put(path, encode_part(entries))
        self._parts[path] = {entry.question for entry in entries}

    def _merge_parts(self) -> None:
        """Put all pending replies into one part, then remove the many: reading twenty thousand takes seconds."""
        old = list(self._parts)
        self._put_part([entry for entries in self.index.pending.values() for entry in entries])
        self._remove(old)


def _damaged(path: Path) -> str:
    return (
        f"The shard {path} is damaged: its checksum fails. Restore it from a copy, or let redo_damaged=True put it "
        "aside and ask, and pay, for its records again."
    )


def _owner(work: Path) -> str:
    try:
        owner = json.loads((work / "owner.json").read_text())
        return f" (process {owner['pid']} on {owner['host']}, since {owner['started']})"
    except (OSError, ValueError, KeyError):
        return ""
