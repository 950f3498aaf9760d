"""The verification: reads a whole store, checks everything that can be checked, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from ..formatting import many, text_page
from ..gemini.wire import read_stored
from ..planning.records import record_ids
from ..store.decisions import Decision, damaged_file, decision_files
from ..store.files import (
    MANIFEST,
    is_store,
    names_in,
    shard_name,
    shard_paths,
    stray_work_area,
    trial_sides,
    with_trials,
    work_area,
)
from ..store.index import RECORD_ID, footer, unseen_in
from ..store.reader import StoreReader
from ..store.replies import digest
from ..store.rows import meta

MOST_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What `enrichkit.verify` found.

    Attributes
    ----------
    out : str
        The store.
    shards, records : int
        Shards that could be read, and records in them.
    replies : int
        Replies in them, each different one counted once.
    pending : int
        Replies in the work area, not sealed yet. The next run takes them up.
    problems : tuple of str
        What is wrong, a sentence each.
    unseen : str
        What could not be checked; empty if everything could.

    Examples
    --------
    >>> from enrichkit.reporting import Verification
    >>> Verification(out="enriched", shards=1, records=2, replies=2, pending=0, problems=())
    enriched: 2 records in 1 shard, 2 replies, 0 more not sealed yet: all is well.
    """

    out: str
    shards: int
    records: int
    replies: int
    pending: int
    problems: tuple[str, ...]
    unseen: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        return text_page(self._lines())

    __repr__ = __str__

    def _lines(self) -> list[str]:
        counts = (
            f"{many(self.records, 'record')} in {many(self.shards, 'shard')}, {many(self.replies, 'reply', 'replies')}"
        )
        end = many(len(self.problems), "problem") if self.problems else "all is well"
        more = len(self.problems) - MOST_SHOWN
        shown = [f"  {problem}" for problem in self.problems[:MOST_SHOWN]] + [f"  and {more:,} more"] * (more > 0)
        return [
            f"{self.out}: {counts}, {self.pending:,} more not sealed yet: {end}.",
            *shown,
            *filter(None, [self.unseen]),
        ]


def verify(out: str | Path = "enriched") -> Verification:
    """Check every checksum, key, question and journal file of a store and its trials, and change nothing.

    It needs no lock; beside a run under way, what that run is just doing may look wrong for a moment.

    Parameters
    ----------
    out : str or Path
        The store's folder.

    Returns
    -------
    Verification
        What was counted, and what is wrong.

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
    >>> enrichkit.verify(out).ok
    True
    """
    reader = StoreReader(out, warn=False)
    reader.check_everything()
    stages, problems = list(reader.stages), list(_wrong_files(reader))
    shard_of: dict[str, int] = {}
    payers: set[str | None] = set()
    decided: set[Decision] = set()
    sealed: set[bytes] = set()
    for number, table in reader.each_shard():
        rows = table.to_pylist()
        decided.update(*(held for stage in stages for held in reader.decisions.about(table, stage).values()))
        problems += [
            f"Shard {shard_name(number)}{problem}" for problem in (*_wrong_ids(table, rows), *_wrong_rows(table, rows))
        ]
        for row in rows:
            record = str(row.get(RECORD_ID))
            if record in shard_of:
                shards = f"{shard_name(shard_of[record])} and {shard_name(number)}"
                problems.append(f"Record {record} is stored twice: shards {shards}.")
            shard_of[record] = number
            for stage in stages:
                payers.add(row.get(meta(stage, "paid_by")))
                sealed.update(map(digest, row.get(meta(stage, "replies")) or ()))
    lost = set() if reader.damaged or reader.found_flaws else payers - shard_of.keys() - {None}
    problems += [f"Record {record} is said to have paid for another, and is in no shard." for record in lost]
    problems += [f"Trial {side}: {problem}" for side in trial_sides(reader.folder) for problem in verify(side).problems]
    there = {*shard_of}
    for other in filter(is_store, with_trials(reader.folder)):
        ids = StoreReader(other, warn=False).rows([RECORD_ID])
        there.update(ids.column(RECORD_ID).to_pylist() if ids.num_rows else ())
    for decision in reader.decisions.all:
        if decision not in decided and decision.record_id not in there:
            about = ", ".join(filter(None, dict(decision.about).values()))
            verdict = decision.instead or decision.verdict
            problems.append(f"{decision.column} of {about} ({verdict}) was decided, and its record is gone.")
    return Verification(
        out=str(out),
        shards=len(reader.paths),
        records=len(shard_of),
        replies=len(sealed),
        pending=len({digest(entry.payload) for entry in reader.entries} - sealed),
        problems=(*problems, *_wrong_journal(reader)),
        unseen=unseen_in(reader),
    )


def _wrong_files(reader: StoreReader) -> Iterator[str]:
    """Yield which shards are damaged, and what lies about that does not belong there, or was quarantined."""
    folder = reader.folder
    for path in reader.damaged:
        yield f"The shard {path} is damaged: its checksum fails."
    yield from (flaw.fact for flaw in reader.found_flaws)
    areas = [work_area(part) for part in reader.parts]
    for path in (work_area(part) / MANIFEST for part, manifest in reader.manifests.items() if not manifest):
        if path.exists():
            yield f"The manifest {path} is damaged; the next run writes it anew."
    shards = shard_paths(reader.parts).values()
    # Of a hidden one no reader takes notice: a kill may leave the probe behind that a run makes at its start.
    for path in sorted(path for path in folder.rglob("[!.]*") if path.is_file() and path not in shards):
        yield f"{path} is not a shard. Move it away: other programs that read the folder may stumble over it."
    if stray := stray_work_area(folder):
        area = work_area(folder)
        yield f"{stray} holds replies or decisions, and {folder} is a link to another place: move it to {area}."
    yield from (damaged_file(path) for path, held in decision_files(folder) if held is None)
    for aside in (area / "quarantine" for area in areas):
        if names := names_in(aside):
            count = many(len(names), "file was", "files were")
            yield f"{count} quarantined in {aside}: {', '.join(names[:3])}."


def _wrong_ids(table: pa.Table, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the records whose key is not the one that their id was made from."""
    key = footer(table).get("key", ())
    if not key or not set(key) <= set(table.column_names):
        yield f" lacks the key columns {', '.join(key) or '(none named)'}."
        return
    keys = pd.DataFrame({name: pd.Series(table.column(name).to_pylist(), dtype=object) for name in key})
    for row, record in zip(rows, record_ids(keys, key), strict=True):
        if row.get(RECORD_ID) != record:
            yield f", record {row.get(RECORD_ID)}: its id does not belong to its key."


def _wrong_rows(table: pa.Table, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with the replies of a shard's rows."""
    for row in rows:
        for stage in footer(table).get("stages", {}):
            if row.get(meta(stage, "status")) in ("done", "failed"):
                question, replies, payer = (row.get(meta(stage, fact)) for fact in ("question", "replies", "paid_by"))
                for problem in _wrong_replies(question, replies or (), payer):
                    yield f", record {row.get(RECORD_ID)}, {stage}: {problem}"


def _wrong_replies(question: str | None, replies: Sequence[bytes], payer: str | None) -> Iterator[str]:
    if not question or not payer:
        yield "the question id or the paying record is missing."
    try:
        answered = [read_stored(payload)[1].get("question") for payload in replies]
    except (ValueError, KeyError, TypeError) as error:
        yield f"a stored reply cannot be read ({type(error).__name__}: {error})."
    else:
        if {question, None}.isdisjoint(answered):
            yield "none of its replies answers its question."


def _wrong_journal(reader: StoreReader) -> Iterator[str]:
    for path, entries in reader.journal.items():
        if entries is None:
            yield f"The journal file {path} is damaged; the next run quarantines it and asks again."
        for entry in entries or ():
            for problem in _wrong_replies(entry.question, [entry.payload], "not known yet"):
                yield f"The journal file {path}, {entry.stage}: {problem}"
