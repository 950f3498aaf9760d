"""The journal: replies that are stored and not yet sealed, as lines in files of the work area.

It knows replies as bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .files import names_in, work_area


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One stored reply: ``status`` is ``done``, ``failed``, or ``again`` where another attempt was to follow."""

    question: str
    stage: str
    attempt: int
    status: str
    payload: bytes


def encode_journal(entries: Sequence[JournalEntry]) -> bytes:
    """Return replies as the bytes of a journal file: the CRC-32 of what follows, then a line each, with tabs.

    The file lives for minutes, and only this package reads it: Parquet would take ten times as long. No field can hold
    a tab or the end of a line: a payload is JSON in ASCII.
    """
    lines = [
        (entry.question, entry.stage, str(entry.attempt), entry.status, entry.payload.decode("ascii"))
        for entry in entries
    ]
    body = "".join("\t".join(line) + "\n" for line in lines).encode("ascii")
    return b"%08x\n" % zlib.crc32(body) + body


def decode_journal(data: bytes) -> list[JournalEntry] | None:
    """Return the replies in a journal file, or None if it is damaged.

    >>> decode_journal(encode_journal([JournalEntry("q", "poc", 1, "done", b"{}")]))
    [JournalEntry(question='q', stage='poc', attempt=1, status='done', payload=b'{}')]
    """
    checksum, _, body = data.partition(b"\n")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    lines = (line.split("\t") for line in body.decode("ascii").split("\n")[:-1])
    return [
        JournalEntry(question, stage, int(attempt), status, payload.encode("ascii"))
        for question, stage, attempt, status, payload in lines
    ]


def read_journal(out: Path) -> Iterator[tuple[Path, list[JournalEntry] | None]]:
    """Yield each journal file with its replies, None for a damaged one; one that is merged meanwhile may come twice."""
    folder = work_area(out) / "pending"
    read: set[str] = set()
    whole = False
    while not whole:
        whole = True
        for name in sorted(set(names_in(folder)) - read):
            try:
                data = (folder / name).read_bytes()
            except FileNotFoundError:  # sealed and removed meanwhile, or merged into one that was not listed yet
                whole = False
                continue
            read.add(name)
            yield folder / name, decode_journal(data)


def by_question(entries: Iterable[JournalEntry]) -> dict[str, list[JournalEntry]]:
    """Return the pending replies of each question, oldest attempt first, each once."""
    questions: dict[str, dict[tuple[int, bytes], JournalEntry]] = {}
    for entry in entries:
        questions.setdefault(entry.question, {})[entry.attempt, entry.payload] = entry
    return {question: [same[key] for key in sorted(same)] for question, same in questions.items()}
