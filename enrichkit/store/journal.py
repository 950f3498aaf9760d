"""What stands beside the shards: the journal of replies that are not sealed yet, and the manifest of what was sealed.

It knows replies as bytes, and shards by what their footers say.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DamagedError
from ..formatting import Sentence, joined, many
from .files import names_in, work_area

_QUARANTINED = re.compile(r"\w{8}-s(\d+)-")
Footers = Mapping[int, Mapping[str, Any]]
"""What shards say of themselves, by number."""


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
    """Yield each journal file with its replies, None for a damaged one; replies that are merged may come twice."""
    folder, listed = work_area(out) / "pending", set[str]()
    while new := sorted(set(names_in(folder)) - listed):  # some may be merged into a file that was not listed yet
        listed.update(new)
        for name in new:
            with contextlib.suppress(FileNotFoundError):  # sealed or merged meanwhile
                yield folder / name, decode_journal((folder / name).read_bytes())


def by_question(entries: Iterable[JournalEntry]) -> dict[str, list[JournalEntry]]:
    """Return the pending replies of each question, oldest attempt first, each once."""
    questions: dict[str, dict[tuple[int, bytes], JournalEntry]] = {}
    for entry in entries:
        questions.setdefault(entry.question, {})[entry.attempt, entry.payload] = entry
    return {question: [same[key] for key in sorted(same)] for question, same in questions.items()}


class Flaw(NamedTuple):
    """In what a store is not as it was sealed, and what to do about it."""

    fact: str
    cure: Sentence


def manifest_of(footers: Footers, seals: int) -> dict[str, Any]:
    """Return what the manifest says: how many seals there were, and the number, rows and seal of each shard."""
    shards = [
        {"number": number, "rows": footers[number]["rows"], "seal": footers[number]["seal"]} for number in footers
    ]
    return {"seals": seals, "shards": sorted(shards, key=lambda shard: shard["number"])}


def with_checksum(content: Mapping[str, Any]) -> bytes:
    """Return a manifest, or a note, as the bytes of its file, with a checksum of its own."""
    content = json.loads(json.dumps(content, default=str))
    return json.dumps({**content, "crc32": zlib.crc32(json.dumps(content).encode())}).encode()


def read_checked(path: Path) -> dict[str, Any] | None:
    """Return what a file with a checksum of its own holds: nothing if it is not there, None if it is damaged."""
    try:
        held = dict(json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError):
        return None
    checksum = held.pop("crc32", None)
    return held if checksum == zlib.crc32(json.dumps(held).encode()) else None


def flaws_of(out: Path, manifest: Mapping[str, Any], footers: Footers, numbers: set[int]) -> Iterator[Flaw]:
    """Yield in what shards are not those that were sealed: some of the ``numbers`` are gone, older ones, or copies.

    The manifest may be behind, after a crash or where a store was copied while it was written: a shard that it does not
    know, or knows otherwise, is all right if its seal is newer.
    """
    known = {shard["number"]: shard for shard in manifest.get("shards", ())}
    seals, misplaced = manifest.get("seals", -1), copies_in(footers)
    for number, facts in footers.items():
        if facts.get("number", number) != number and known.get(number, {}).get("seal") != facts["seal"]:
            misplaced.setdefault(number, facts["number"])
    older = [
        number
        for number in known.keys() & footers.keys()
        if footers[number]["seal"] != known[number]["seal"] and footers[number]["seal"][0] <= seals
    ]
    gone = _expected(out, footers, set(known), seals) - numbers - {*misplaced.values()}
    for wrong, is_wrong, are_wrong in (
        (sorted(gone), "is gone from", "are gone from"),
        (sorted(older), "was replaced by an older one in", "were replaced by older ones in"),
    ):
        if wrong:
            only = len(wrong) == 1
            fact = f"{_named(wrong, known)} {is_wrong if only else are_wrong} {out}."
            cure = Sentence(
                "Put {it} back, or give {redo_damaged_on} to ask, and pay, for {its} records again.",
                it="it" if only else "them",
                its="its" if only else "their",
            )
            yield Flaw(fact, cure)
    for number, original in misplaced.items():
        yield Flaw(
            f"Shard s{number:04d} in {out} is a copy of s{original:04d}.",
            Sentence("Rename it, if that is gone, or move it away; or give {redo_damaged_on} to keep one of them."),
        )


def copies_in(footers: Footers) -> dict[int, int]:
    """Return the shards that are copies of another one that is there, and of which."""
    names = {number: facts.get("number", str(facts["seal"])) for number, facts in footers.items()}
    originals: dict[Any, int] = {}
    for number in sorted(names, key=lambda number: (names[number] != number, number)):
        originals.setdefault(names[number], number)
    return {number: originals[name] for number, name in names.items() if originals[name] != number}


def _expected(out: Path, footers: Footers, known: set[int], seals: int) -> set[int]:
    """Return the numbers of the shards that there must be, by the manifest and by what was sealed after it."""
    seal, newest = max(((facts["seal"][0], number) for number, facts in footers.items()), default=(-1, 0))
    if seal <= seals:
        return known
    aside = map(_QUARANTINED.match, names_in(work_area(out) / "quarantine"))
    gone = footers[newest].get("gone", [int(match[1]) for match in aside if match])
    return (known | set(range(footers[newest].get("highest", newest)))) - {*gone}


def _named(numbers: Sequence[int], known: Footers) -> str:
    """Return shards in words, and how many records they had, where that is known.

    >>> _named([1], {1: {"rows": 10}}), _named([0, 1, 2, 3], {})
    ('Shard s0001 (10 records)', 'Shards s0000, s0001, s0002 and 1 more')
    """
    more = f" and {len(numbers) - 3:,} more" if len(numbers) > 3 else ""
    rows = sum(known[number]["rows"] for number in numbers if number in known)
    records = f" ({many(rows, 'record')})" if rows else ""
    return f"Shard{'s' * (len(numbers) > 1)} {', '.join(f's{number:04d}' for number in numbers[:3])}{more}{records}"


def flawed_error(flaws: Sequence[Flaw]) -> DamagedError:
    """Return the error of a store that is not as it was sealed."""
    sentences = joined([joined(flaw) for flaw in flaws[:3]])
    return DamagedError("{sentences} Nothing was changed.", sentences=sentences)
