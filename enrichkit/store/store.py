"""The store: sealed shards that are checkpoint and output in one, and the journal beside them.

``OUT/shard=s0007/part-0.parquet`` holds one row per record, and only such files lie under ``OUT``: anything else
doubles rows or breaks a foreign reader. ``OUT.work`` holds the lock, the journal of replies since the last seal, a note
of money that no reply may ever show, and what was quarantined. A reply counts once `Store.append` returns. A journal
file goes only after the shard that contains its replies is durable, so a crash at any instant leaves a reply in one of
them or in both, never in none.

It knows replies as bytes and rows as Arrow tables, and does not interpret them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import socket
import time
import uuid
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import LockedError, StoreError
from ..table.parquet import encode_parquet, read_parquet
from .files import MANIFEST, OUTSTANDING, OWNER, Files, names_in, read_json, stray_work_area, work_area
from .index import FOOTER, RECORD_ID, Index, Snapshot, copies_of, damaged_error, footer
from .journal import JournalEntry, encode_journal, flawed_error, manifest_of, with_checksum

LOG = logging.getLogger("enrichkit")
MOST_JOURNAL_FILES = 1000
LEAST_FREE_BYTES = 64 * 2**20


class Store:
    """A store opened for writing, by one run at a time.

    Opening takes the lock and recovers: leftovers of a killed run are cleared, damaged journal files quarantined, those
    removed whose replies are sealed. The index then holds these ``columns``. A shard that is damaged in one of them, or
    of the columns ``checked``, is refused, or with ``redo_damaged`` quarantined.
    """

    def __init__(
        self, out: Path, *, columns: Collection[str], checked: Collection[str] = (), redo_damaged: bool = False
    ) -> None:
        self.out = out
        self.work = work_area(out)
        self.files = Files(self.work / "tmp")
        self.quarantined: list[Path] = []
        self._journal: dict[Path, set[str]] = {}
        self._serial = 0
        self._lock = take_lock(out, self.files)
        self._inode = os.stat(self.work / "lock").st_ino
        try:
            for name in names_in(self.work / "tmp"):
                self.files.remove(self.work / "tmp" / name)
            self.files.check_moves(out)
            self._scan = functools.partial(Index, out, columns, checked=checked)
            if redo_damaged:
                self._quarantine_damaged()
            self.index = self._scan()
            if self.index.damaged:
                raise damaged_error(self.index.damaged[0])
            if not redo_damaged and (flaws := list(self.index.flaws())):
                raise flawed_error(flaws)
            self._put_manifest(self.index, self.index.footers)
            self._next = max(self.index.footers, default=-1) + 1
            self._recover_journal()
        except BaseException:
            self.close()
            raise

    def append(self, entries: Sequence[JournalEntry]) -> None:
        """Store replies durably, as one journal file. Once this returns, they are never lost."""
        if not entries:
            return
        self._check_lock()
        self._put_journal(entries)
        for entry in entries:
            self.index.pending.setdefault(entry.question, []).append(entry)
        if len(self._journal) > MOST_JOURNAL_FILES:
            with contextlib.suppress(OSError):  # the replies are stored; merging can wait
                self._merge_journal()

    def seal(self, table: pa.Table, questions: Collection[str], *, shard: int | None = None) -> int:
        """Store finished rows durably as a shard, a new one or in place of ``shard``; return its number.

        Then, and only then, the journal files go whose replies are among ``questions`` or sealed before.
        """
        self._check_lock()
        number = self._next if shard is None else shard
        table = self._signed(table, number)
        self.files.put(self._path(number), encode_parquet(table))
        self._put_manifest(self.index, self.index.footers | {number: footer(table)})
        self._next = max(self._next, number + 1)
        self.index.footers[number] = footer(table)
        self._forget(questions)
        return number

    def _signed(self, table: pa.Table, number: int) -> pa.Table:
        """Return a shard's table with what its footer says of this seal, and of the shards there are."""
        numbers = {*self.index.footers, number}
        facts = footer(table) | {
            "number": number,
            "highest": max(numbers),
            "gone": sorted({*range(max(numbers))} - numbers),
            "seal": [self.index.manifests[self.out].get("seals", 0) + 1, uuid.uuid4().hex[:8]],
        }
        return table.replace_schema_metadata({FOOTER: json.dumps(facts).encode()})

    def _put_manifest(self, store: Snapshot, footers: Mapping[int, Mapping[str, Any]]) -> None:
        """Store durably which shards there are, unless the manifest says so already.

        It follows the shards, and is behind them for a moment: what it does not know is newer by its seal.
        """
        last = store.manifests[self.out]
        seals = [last.get("seals", 0), *(facts["seal"][0] for facts in footers.values())]
        manifest = manifest_of(footers, max(seals))
        if manifest != (last or manifest_of({}, 0)):
            self.files.put(self.work / MANIFEST, with_checksum(manifest))
            store.manifests[self.out] = manifest

    def shard(self, number: int, columns: Collection[str] | None = None) -> pa.Table:
        """Return a sealed shard's table, all of it or some columns."""
        table = read_parquet(self._path(number), columns)
        if table is None:
            raise damaged_error(self._path(number))
        return table

    def _path(self, number: int) -> Path:
        return self.out / f"shard=s{number:04d}" / "part-0.parquet"

    def reload(self) -> None:
        """Read the index again, after shards that it knows were sealed again."""
        self.index = self._scan()
        self._forget_sealed()

    def sealed_replies(
        self, stage: str, questions: Sequence[str], places: npt.NDArray[np.integer[Any]]
    ) -> dict[str, tuple[str, list[bytes]]]:
        """Return, for questions of a stage in these places of the index, who paid and its row's replies, oldest first.

        The row may have been sealed again since, with another question: its earlier replies are there all the same.
        """
        columns = {RECORD_ID, paid_by := f"{stage}._paid_by", replies := f"{stage}._replies"}
        known = np.flatnonzero(places >= 0)
        records = self.index.ids.take(pa.array(places[known]))
        rows: dict[str, tuple[str, list[bytes]]] = {}
        for number in np.unique(self.index.shards[places[known]]):
            table = self.shard(number, columns)
            for row in table.filter(pc.is_in(table.column(RECORD_ID), value_set=records)).to_pylist():
                rows[row[RECORD_ID]] = row[paid_by], row[replies] or []
        asked = zip(known.tolist(), records.to_pylist(), strict=True)
        return {questions[place]: rows[record] for place, record in asked}

    def enough_space(self) -> bool:
        """Whether the disk has room for the replies under way; False if that cannot be found out."""
        try:
            return self.files.free_bytes(self.work.parent) > LEAST_FREE_BYTES
        except OSError:
            return False

    def close(self) -> None:
        """Release the lock."""
        with contextlib.suppress(OSError):  # the file says who holds the lock; only the lock counts
            self.files.remove(self.work / OWNER)
        self._lock.release()

    def _check_lock(self) -> None:
        """Raise if the lock file was deleted or replaced: another process may be writing."""
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.work / "lock").st_ino == self._inode:
                return
        raise LockedError(
            "The lock of {store} was removed while this run held it; nothing more is written.", store=self.out
        )

    def _quarantine_damaged(self) -> None:
        """Quarantine every shard that fails a checksum, in any column, and those that are copies of others."""
        store = Snapshot(self.out)
        store.check_everything()
        copies = copies_of(store)
        # First the manifest: after a crash in between they are still there, and still refused.
        self._put_manifest(store, {number: store.footers[number] for number in store.footers.keys() - copies.keys()})
        for path in [*store.damaged, *(store.paths[number] for number in copies)]:
            self._quarantine(path, f"{path.parent.name.removeprefix('shard=')}-{path.name}")

    def _quarantine(self, path: Path, name: str) -> None:
        """Move a damaged file to the quarantine, beside any earlier one of its name."""
        aside = self.work / "quarantine" / f"{uuid.uuid4().hex[:8]}-{name}"
        self.files.move(path, aside)
        self.quarantined.append(aside)

    def _recover_journal(self) -> None:
        for path, entries in self.index.journal.items():
            if entries is None:
                self._quarantine(path, path.name)
            else:
                self._journal[path] = {entry.question for entry in entries}
                serial = re.match(r"\d+", path.name)
                self._serial = max(self._serial, 1 + int(serial[0]) if serial else 0)
        self._forget_sealed()

    def _forget_sealed(self) -> None:
        """Forget the pending questions whose replies are all in sealed rows, which may hold another question now."""
        pending = self.index.pending
        held = self.index.sealed_payloads(self.index.entries)
        if self.index.damaged:
            raise damaged_error(self.index.damaged[0])
        self._forget([name for name, entries in pending.items() if all(entry.payload in held for entry in entries)])
        self.index.journal.clear()  # what is pending is known by question, and all payloads would stay in memory

    def _forget(self, questions: Collection[str]) -> None:
        """Remove the journal files that hold nothing but sealed replies."""
        for question in questions:
            self.index.pending.pop(question, None)
        self._remove([path for path, held in self._journal.items() if not self.index.pending.keys() & held])

    def _remove(self, paths: Sequence[Path]) -> None:
        """Remove journal files that are no longer needed; one that cannot go now does no harm, and goes later."""
        for path in paths:
            with contextlib.suppress(OSError):
                self.files.remove(path)
                del self._journal[path]

    def _put_journal(self, entries: Sequence[JournalEntry]) -> None:
        path = self.work / "pending" / f"{self._serial:010d}-{os.getpid()}.tsv"
        self._serial += 1
        self.files.put(path, encode_journal(entries))
        self._journal[path] = {entry.question for entry in entries}

    def _merge_journal(self) -> None:
        """Merge all pending replies into one file: reading twenty thousand files takes seconds."""
        old = list(self._journal)
        self._put_journal([entry for entries in self.index.pending.values() for entry in entries])
        self._remove(old)


def take_lock(out: Path, files: Files) -> filelock.BaseFileLock:
    """Return the lock of a store, which nobody else can take until it is released; raise if somebody has it."""
    work = work_area(out)
    for folder in (out, work):
        files.make_folder(folder)
        if not folder.is_dir():
            raise StoreError("{folder} is no folder, or a link to nowhere. Choose another {out}.", folder=folder)
    if stray := stray_work_area(out):
        raise StoreError(
            "{stray} holds replies or decisions of {store}. Move it to {work}, then run again.",
            stray=stray,
            store=out,
            work=work,
        )
    path = work / "lock"
    lock = filelock.FileLock(str(path), timeout=0, thread_local=False, mode=0o600)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            lock.acquire()
    except filelock.Timeout:
        raise LockedError("{owner} or choose another {out}.", owner=_owner(out)) from None
    for warning in said:  # a file system without locks: two runs are kept apart by a file instead
        LOG.warning("%s: %s", path, warning.message)
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.strftime("%Y-%m-%d %H:%M:%S")}
    (work / OWNER).write_text(json.dumps(owner))
    return lock


def write_note(store: Store, outstanding: Mapping[str, Any]) -> None:
    """Store durably what is known of money that no reply shows; a note that says nothing goes."""
    store._check_lock()
    if outstanding:
        store.files.put(store.work / OUTSTANDING, with_checksum(outstanding))
    else:
        store.files.remove(store.work / OUTSTANDING)


def _owner(out: Path) -> str:
    """Say who has the lock."""
    owner = read_json(work_area(out) / OWNER)
    if (owner.get("pid"), owner.get("host")) == (os.getpid(), socket.gethostname()):
        return f"A run of this process works on {out}: .show() it, wait until it has ended, .stop() it,"
    known = owner.keys() >= {"pid", "host", "started"}
    details = f" (process {owner['pid']} on {owner['host']}, since {owner['started']})" if known else ""
    return f"Another run works on {out}{details}. Wait for it or stop it,"
