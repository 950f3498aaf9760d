"""The snapshot of a store, and its index: which records are sealed where, and which questions have a reply.

Both are made by reading only, without a lock. ``OUT/shard=s0007/part-0.parquet`` holds one row per record, and
``OUT.work`` beside it what is not sealed yet; ``OUT/part=p0003`` may each be such a store.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import DamagedError, StoreError
from ..formatting import Sentence
from ..table.parquet import CHECKSUM, join, read_parquet, widest
from .files import MANIFEST, OUTSTANDING, is_of, parts_in, shard_name, shard_paths, work_area
from .journal import Flaw, JournalEntry, by_question, copies_in, flaws_of, read_checked, read_journal

VERSION = 1
FOOTER = b"enrichkit"
RECORD_ID = "_record_id"
Columns = Collection[str] | None
"""Some columns, or all."""


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
    def answers(self) -> dict[str, dict[str, str]]:
        """The columns of each stage's answers, each with the field that it holds."""
        listed = {name: facts.get("answers", {}) for name, facts in self.stages.items()}
        return {
            # A list is from before there were columns of other names.
            name: columns if isinstance(columns, dict) else {column: column.rpartition(".")[2] for column in columns}
            for name, columns in listed.items()
        }

    @property
    def given(self) -> list[str]:
        """The columns that were the user's in any table that the store has seen."""
        return list(dict.fromkeys(str(name) for facts in self.footers.values() for name in facts.get("columns", ())))

    @property
    def parts_in_all(self) -> int:
        """Of how many parts these are some; 0 for a store that is kept in one."""
        return max((facts.get("parts", 0) for facts in self.footers.values()), default=0)

    @property
    def simulated(self) -> bool | None:
        """Whether a simulator answered; None if no shard says so."""
        known = [facts["simulated"] for facts in self.footers.values() if facts.get("simulated") is not None]
        return any(known) if known else None


class Snapshot(Described):
    """The shards and the journal of a store at one moment; it needs no lock and changes nothing.

    It reads the journal before it lists the shards, so that a reply that is sealed in between is seen twice and counted
    once, never missed. A shard that turns out to be damaged in a column that is read is left out from then on.

    Attributes
    ----------
    folder : Path
        The store's folder.
    parts : dict of Path to int
        The folders of its parts, each with its first shard's number; the store's own where it is kept in one.
    journal : dict of Path to list of JournalEntry
        The entries of each journal file; None for a damaged file.
    paths : dict of int to Path
        The file of each shard that is not known to be damaged.
    footers : dict of int to dict
        What each of these says of itself, once `tables` has read them.
    damaged : list of Path
        The shards that were left out so far; `check_everything` finds all of them.
    manifests : dict of Path to dict
        Which shards the last seal of each part left behind; empty if there is no sound manifest.
    """

    def __init__(self, folder: Path, *, warn: bool = False) -> None:
        self.folder = folder
        self._warn = warn
        self.parts = parts_in(folder)
        self.journal = {path: entries for part in self.parts for path, entries in read_journal(part)}
        # Before the shards: those may only be newer.
        self.manifests = {part: read_checked(work_area(part) / MANIFEST) or {} for part in self.parts}
        self.paths = shard_paths(self.parts)
        self._numbers = set(self.paths)
        self.footers = {}
        self.damaged: list[Path] = []

    @property
    def entries(self) -> list[JournalEntry]:
        """The replies in the sound files of the journal."""
        return [entry for entries in self.journal.values() for entry in entries or ()]

    @property
    def outstanding(self) -> dict[str, Any]:
        """What the last run noted of money that no reply shows; nothing if there is no note. Of parts, the sums."""
        notes = []
        for path in (work_area(part) / OUTSTANDING for part in self.parts):
            note = read_checked(path)
            if note is None:
                raise StoreError(
                    "{path} is damaged: what may have been spent beside the stored replies is unknown. Restore it from "
                    "a copy, or remove it to count nothing.",
                    path=path,
                )
            notes.append(note)
        if len(notes) == 1:
            return notes[0]
        return {name: str(sum(Decimal(note.get(name, 0)) for note in notes)) for name in ("possibly_usd", "excess_usd")}

    def tables(self, columns: Columns = None, *, keep: Columns = None) -> dict[int, pa.Table]:
        """Return each shard's table, of all columns or some; only what is read is checked for damage.

        In memory stay all columns that were read, or those to ``keep``.
        """

        def read(path: Path) -> pa.Table | None:
            table = read_parquet(path, columns)
            if table is None or keep is None:
                return table
            return table.select([name for name in table.column_names if name in keep])

        with ThreadPoolExecutor(max_workers=4) as pool:
            read_tables = zip(self.paths, pool.map(read, self.paths.values()), strict=True)
            tables = {number: table for number, table in read_tables if table is not None}
        self._leave_out(sorted(self.paths.keys() - tables.keys()))
        self.footers = {number: footer(table) for number, table in tables.items()}
        return tables

    def each_shard(self, columns: Columns = None, *, newest_first: bool = False) -> Iterator[tuple[int, pa.Table]]:
        """Yield the number and the table of each shard, one after the other; together they may not fit into memory."""
        for number in sorted(self.paths, reverse=newest_first):
            if (table := self._table(number, columns)) is not None:
                yield number, table

    def sealed_payloads(self, entries: Sequence[JournalEntry]) -> set[bytes]:
        """Return which of some replies stand in some row."""
        wanted, sealed = pa.array([entry.payload for entry in entries], pa.binary()), set[bytes]()
        for _, table in self.each_shard({f"{entry.stage}._replies" for entry in entries}) if len(wanted) else ():
            for column in table.columns:
                replies = pc.list_flatten(column)
                sealed.update(replies.filter(pc.is_in(replies, value_set=wanted)).to_pylist())
        return sealed

    def flaws(self) -> Iterator[Flaw]:
        """Yield in what the shards are not those that were sealed."""
        for part, manifest in self.manifests.items():
            first = self.parts[part]
            numbers = {number - first for number in self._numbers if is_of(number, first)}
            yield from flaws_of(part, manifest, self._footers_of(first), numbers)

    def _footers_of(self, first: int) -> dict[int, dict[str, Any]]:
        """Return what the shards of a part say of themselves, by the part's own numbers."""
        return {number - first: facts for number, facts in self.footers.items() if is_of(number, first)}

    def check_everything(self) -> None:
        """Find the shards that are damaged in any column, not only in those that are read."""
        self.tables(keep=())

    def _table(self, number: int, columns: Columns = None) -> pa.Table | None:
        table = read_parquet(self.paths[number], columns)
        if table is None:
            self._leave_out([number])
        return table

    def _leave_out(self, numbers: Collection[int]) -> None:
        """Leave damaged shards out of everything that is read from now on."""
        for number in numbers:
            path = self.paths.pop(number)
            self.footers.pop(number, None)
            self.damaged.append(path)
            if self._warn:
                warnings.warn(damaged_error(path).sentence, stacklevel=4)


class Index(Snapshot):
    """What is stored, without the answers: which records are sealed where, which questions have a reply.

    A shard counts as damaged, too, where one of the columns ``checked`` is, of which the index knows nothing else.

    Attributes
    ----------
    ids : Array
        The id of each sealed row.
    shards : array
        The number of its shard.
    columns : dict of str to Array
        The columns asked for, one value per row.
    schema : Schema
        All columns of the store.
    pending : dict of str to list of JournalEntry
        The replies in the journal, by question.
    """

    def __init__(self, folder: Path, columns: Collection[str], *, checked: Collection[str] = ()) -> None:
        super().__init__(folder)
        kept = {RECORD_ID, *columns}
        tables = self.tables({*kept, *checked}, keep=kept)
        for number, facts in self.footers.items():
            if facts.get("version", VERSION) > VERSION:
                name = shard_name(number)
                raise StoreError(
                    "Shard {name} in {store} is of a newer enrichkit. Upgrade yours.", name=name, store=folder
                )
        merged = join(list(tables.values())).combine_chunks()
        self.columns = {name: merged.column(name).chunk(0) for name in merged.column_names}
        self.ids = self.columns.pop(RECORD_ID, pa.array([], pa.string()))
        self.shards = np.repeat(np.array(list(tables), np.int32), [table.num_rows for table in tables.values()])
        self.schema = pa.schema(list(types_in(self).items()))
        self.pending = by_question(self.entries)

    @property
    def empty(self) -> bool:
        """Whether nothing is stored."""
        return not len(self.ids) and not self.pending and not self.damaged

    def flaws(self) -> Iterator[Flaw]:
        """Yield the same, and two shards that hold the same records, as when one was put back too late."""
        yield from super().flaws()
        places = find(self.ids, self.ids)
        twice = np.flatnonzero(places != np.arange(len(places)))
        if len(twice) and not copies_of(self):
            first, second = map(shard_name, self.shards[[places[twice[0]], twice[0]]])
            fact = f"The shards {first} and {second} in {self.folder} hold some records twice."
            yield Flaw(fact, Sentence("Move one of them away."))

    def forget_readings(self) -> None:
        """Let all stored answers count as read in another way than they are now."""
        for held in (held for footer in self.footers.values() for held in footer.get("stages", {}).values()):
            held["reading"] = ""

    def rows_of(self, ids: Sequence[str] | pa.Array) -> npt.NDArray[np.int64]:
        """Return the row of each record, -1 where it is not sealed."""
        return find(ids, self.ids)

    def column(self, name: str) -> pa.Array:
        """Return a column, all missing if no shard has it."""
        return self.columns.get(name, pa.nulls(len(self.ids), pa.string()))

    def cells(self, places: npt.NDArray[np.integer], names: Columns) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield some sealed rows by their places, each with these cells, which are read from the shards."""
        for shard in np.unique(self.shards[places]):
            at = np.flatnonzero(self.shards == shard)
            wanted = np.isin(at, places)
            table = read_parquet(self.paths[int(shard)], names)
            if table is not None:  # it was damaged meanwhile
                yield from zip(at[wanted].tolist(), table.filter(pa.array(wanted)).to_pylist(), strict=True)

    def places_of(self, stage: str, questions: Sequence[str] | pa.Array) -> npt.NDArray[np.int64]:
        """Return for each question a row of it, an answered one if there is any; -1 where it is in none."""
        sealed, status = self.column(f"{stage}._question"), self.column(f"{stage}._status")
        answered = find(questions, pc.if_else(pc.equal(status, "done"), sealed, pa.scalar(None, pa.string())))
        return np.where(answered >= 0, answered, find(questions, sealed))


def types_in(store: Snapshot) -> dict[str, pa.DataType]:
    """Return all columns of a store whose footers are read, with their types."""
    # One shard of each layout knows all columns: reading them all would double the time of an index.
    layouts = {str(facts.get("layout")): store.paths[number] for number, facts in store.footers.items()}
    return widest([pq.read_schema(path) for path in layouts.values()])


def copies_of(store: Snapshot) -> dict[int, int]:
    """Return the shards of a store that are copies of another one that is there, and of which."""
    return {
        first + number: first + original
        for first in store.parts.values()
        for number, original in copies_in(store._footers_of(first)).items()
    }


def unseen_in(store: Snapshot) -> str:
    """Return what cannot be known of a store without a manifest, in words; empty if it has one, or no shard."""
    for part, manifest in store.manifests.items():
        if not manifest and any(is_of(number, store.parts[part]) for number in store.paths):
            return f"Without {work_area(part) / MANIFEST} a missing newest shard cannot be seen."
    return ""


def find(values: Sequence[str] | pa.Array, among: pa.Array) -> npt.NDArray[np.int64]:
    """Return the first place of each value in ``among``, -1 where it is not there."""
    values = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    places = pc.index_in(values, value_set=among.cast(pa.string()))
    return np.asarray(places.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def footer(table: pa.Table) -> dict[str, Any]:
    """Return what a shard says of itself: version, key, stages, whether it is simulated, its seal; and its rows."""
    metadata = table.schema.metadata or {}
    unsigned = {"seal": [0, metadata.get(CHECKSUM, b"").decode()]}  # before there were seals
    return {**unsigned, **json.loads(metadata.get(FOOTER, b"{}")), "rows": table.num_rows}


def layout_of(schema: pa.Schema) -> str:
    """Return a short name for a schema's columns and types, to tell shards that lack some."""
    text = "\n".join(f"{field.name} {field.type}" for field in schema)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def damaged_error(path: Path) -> DamagedError:
    """Return the error of a shard that is damaged."""
    return DamagedError(
        "The shard {path} is damaged: its checksum fails. Until it is restored from a copy its records are left out; "
        "or {redo_damaged_on} quarantines it and asks, and pays, for them again.",
        path=path,
    )


def indexed(stages: Collection[str], columns: Collection[str] = ()) -> set[str]:
    """Return the columns of an index that knows what is answered in these stages."""
    return {*columns, *(f"{stage}._{fact}" for stage in stages for fact in ("question", "status"))}
