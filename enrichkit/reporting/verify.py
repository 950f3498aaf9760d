"""The verification: reads a whole store, checks everything that can be checked, and changes nothing."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pyarrow as pa

from ..formatting import many
from ..gemini.wire import parse
from ..messages import decode, question_of
from ..planning.records import record_digests
from ..store.files import files_of, work_area
from ..store.index import VERSION, footer, stray_work_area
from ..store.reader import StoreReader
from ..store.rows import RECORD_ID, STATUS, Status, meta, record_status
from ..table.cells import ids

MOST_TOLD = 20
STATUSES = frozenset(get_args(Status))


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

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        told = (
            f"{self.out}: {many(self.records, 'record')} in {many(self.shards, 'shard')}, "
            f"{many(self.replies, 'reply', 'replies')}, {self.pending:,} more not sealed yet"
        )
        more = len(self.problems) - MOST_TOLD
        lines = [f"  {problem}" for problem in self.problems[:MOST_TOLD]] + [f"  and {more:,} more"] * (more > 0)
        return "\n".join([f"{told}: {many(len(self.problems), 'problem') if lines else 'all is well'}.", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f'<pre class="mathjax_ignore tex2jax_ignore">{html.escape(str(self))}</pre>'


def verify(out: str | Path = "enriched") -> Verification:
    """Check every checksum, key, question and journal file of a store, and change nothing.

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
    folder = reader.folder
    area = work_area(folder)
    problems = [f"The shard {path} is damaged: its checksum fails." for path in reader.damaged]
    problems += _strangers(reader)
    if stray := stray_work_area(folder):
        problems.append(f"{stray} holds pending replies, and {folder} is a link to another place: move it to {area}.")
    problems += _disagreeing(reader.footers)
    stages = list(reader.stages)
    seen: dict[str, int] = {}
    payers: set[str] = set()
    payloads: set[bytes] = set()
    for number, table in reader.each_shard():
        rows = table.to_pylist()
        problems += _wrong_rows(f"Shard s{number:04d}", table, rows)
        for row in rows:
            name = str(row.get(RECORD_ID))
            if name in seen:
                problems.append(f"Record {name} stands twice: in shards s{seen[name]:04d} and s{number:04d}.")
            seen[name] = number
            for stage in stages:
                payers |= {payer} if (payer := row.get(meta(stage, "paid_by"))) else set()
                payloads.update(row.get(meta(stage, "replies")) or ())
    if not reader.damaged:
        problems += [
            f"Record {name} is said to have paid for another, and is in no shard." for name in payers - seen.keys()
        ]
    pending, more = _pending(reader)
    problems += more
    if aside := files_of(folder).names(area / "quarantine"):
        problems.append(
            f"{many(len(aside), 'damaged file was', 'damaged files were')} quarantined in {area / 'quarantine'}: "
            f"{', '.join(aside[:3])}."
        )
    return Verification(
        out=str(out),
        shards=len(reader.paths),
        records=len(seen),
        replies=len(payloads),
        pending=len(pending - payloads),
        problems=tuple(problems),
    )


def _strangers(reader: StoreReader) -> Iterator[str]:
    """Yield what lies among the shards and is none: a foreign reader may take it for rows."""
    ours = {*reader.paths.values(), *reader.damaged}
    for path in sorted(reader.folder.rglob("*")):
        if path.is_file() and path not in ours:
            yield f"{path} is no shard. Move it away: other programs that read the folder may stumble over it."


def _disagreeing(footers: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    for number, facts in footers.items():
        if facts.get("version") != VERSION:
            yield f"Shard s{number:04d} has the format {facts.get('version')!r}, this enrichkit writes {VERSION}."
    for fact, told in (("key", "identifies records by"), ("simulated", "says of being simulated:")):
        said = {number: facts.get(fact) for number, facts in footers.items() if facts.get(fact) is not None}
        first = next(iter(said), 0)
        for number, value in said.items():
            if value != said[first]:
                yield f"Shard s{number:04d} {told} {value}, shard s{first:04d} {said[first]}."


def _wrong_rows(shard: str, table: pa.Table, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with the keys, the statuses and the replies of a shard's rows."""
    facts = footer(table.schema)
    yield from _wrong_ids(shard, table, rows, facts.get("key", ()))
    stages = list(facts.get("stages", {}))
    for row in rows:
        statuses = [row.get(meta(stage, "status")) for stage in stages]
        told = f"{shard}, record {row.get(RECORD_ID)}"
        if not {*statuses, row.get(STATUS)} <= STATUSES:
            yield f"{told}: a status is none of {', '.join(sorted(STATUSES))}."
        elif row[STATUS] != record_status(statuses) and row[STATUS] != "pending":
            yield f"{told}: its status is {row[STATUS]}, that of its stages {', '.join(map(str, statuses))}."
        for stage, status in zip(stages, statuses, strict=True):
            if status in ("done", "failed"):
                yield from (f"{told}, {stage}: {problem}" for problem in _wrong_replies(row, stage))


def _wrong_ids(shard: str, table: pa.Table, rows: Sequence[Mapping[str, Any]], key: Sequence[str]) -> Iterator[str]:
    """Yield the records whose key is not the one that their id was made from."""
    if not key or not set(key) <= set(table.column_names):
        yield f"{shard} lacks the key columns {', '.join(key) or '(none named)'}."
        return
    keys = pd.DataFrame({name: pd.Series(table.column(name).to_pylist(), dtype=object) for name in key})
    found, _, keyless = record_digests(keys, tuple(key))
    if keyless:
        yield f"{shard}: {keyless}"
        return
    for row, name in zip(rows, ids(found).to_pylist(), strict=True):
        if row.get(RECORD_ID) != name:
            yield f"{shard}, record {row.get(RECORD_ID)}: its id does not belong to its key."


def _wrong_replies(row: Mapping[str, Any], stage: str) -> Iterator[str]:
    question, replies = row.get(meta(stage, "question")), row.get(meta(stage, "replies")) or []
    if not question or not row.get(meta(stage, "paid_by")):
        yield "it was asked, and says not what or who paid."
    try:
        own = [payload for payload in replies if question_of(payload) in (None, question)]
        for payload in replies:
            decode(payload, parse)
    except (ValueError, KeyError, TypeError) as error:
        yield f"a stored reply cannot be read ({type(error).__name__}: {error})."
    else:
        if not own:
            yield "none of its replies is to its question."


def _pending(reader: StoreReader) -> tuple[set[bytes], list[str]]:
    """Return the replies in the journal, and what is wrong with those."""
    payloads: set[bytes] = set()
    problems = []
    for path, entries in reader.journal.items():
        if entries is None:
            problems.append(f"The journal file {path} is damaged; the next run quarantines it and asks again.")
        for entry in entries or ():
            payloads.add(entry.payload)
            facts = {"question": entry.question, "replies": [entry.payload], "paid_by": "nobody yet"}
            row = {meta(entry.stage, name): value for name, value in facts.items()}
            problems += [f"The journal file {path}, {entry.stage}: {told}" for told in _wrong_replies(row, entry.stage)]
    return payloads, problems
