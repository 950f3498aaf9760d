"""The quality: how far a store's answers can be trusted, as counts that a report and figures show.

Worked out from the columns of the sealed rows alone, without the raw replies: a store of 20,000 records takes part of a
second. Records that share an answer each count, since each of them has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..formatting import Listing
from ..stages.answer import CONFIDENCE, NOT_SAID, SEARCH_QUALITY
from ..stages.grounding import STATES
from ..store.reader import StoreReader
from ..store.rows import RECORD_ID, STATUS, meta
from ..table.arrow import as_text as cell_text
from ..table.arrow import has_value
from ..table.cells import is_missing

ADVICE = {
    "blocked": "its text or answer is refused; look at the record",
    "truncated": "raise the stage's max_output_tokens, then retry_failed=True",
    "empty": "retry_failed=True; often it answers later",
    "unreadable": "retry_failed=True; if it stays, simplify the stage's answer model",
    "bad_request": "the request itself is refused; look at the message and the stage's settings",
    "timeout": "raise deadline_seconds, then retry_failed=True",
    "client": "your client raised; mend it, then retry_failed=True",
}
"""What to do about a failure, by its cause."""
MOST_SHOWN = 10
"""Addresses that are shown of those found more than once."""
LONGEST_EXAMPLE = 300
RETRY = "retry_failed=True; the service or the network was in trouble"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found more than once: where, what, how often, and an example of it."""

    stage: str
    name: str
    count: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How complete and how trustworthy a store's answers are.

    Attributes
    ----------
    records : int
        Sealed records.
    status : mapping of str to int
        Records by status.
    pending : mapping of str to int
        By stage, records that it has not been asked of: another call left them out, or has not come to them yet.
    filled_before, filled_after : mapping of str to int
        Records with a value, by column that a stage writes: in the table as it was given, and now.
    confidence, search_quality : mapping of str to mapping
        By stage, records by level, as the model says of its own answer.
    fields_found : mapping of str to mapping
        By stage, records by how many of its fields have a value.
    states : mapping of str to mapping
        By column, records by the state of the answer: see `enrichkit.trust.evidence`.
    corrections : int
        Answers that differ from a filled cell.
    issues : tuple of Finding
        What checks found, by check.
    failures : tuple of Finding
        Failed questions, by cause.
    same_address : tuple of Finding
        Addresses that stand for more than one question: wrong for some of them, or these ask about the same.
    """

    records: int
    status: Mapping[str, int]
    pending: Mapping[str, int]
    filled_before: Mapping[str, int]
    filled_after: Mapping[str, int]
    confidence: Mapping[str, Mapping[str, int]]
    search_quality: Mapping[str, Mapping[str, int]]
    fields_found: Mapping[str, Mapping[int, int]]
    states: Mapping[str, Mapping[str, int]]
    corrections: int
    issues: tuple[Finding, ...]
    failures: tuple[Finding, ...]
    same_address: tuple[Finding, ...]


def read_answers(
    reader: StoreReader, facts: Iterable[str], more: Iterable[str] = ()
) -> tuple[pa.Table, dict[str, list[str]]]:
    """Return the sealed rows' columns of these facts and of all answers, and each stage's answer columns."""
    stages = reader.stages
    columns = {RECORD_ID, STATUS, *more, *(column for columns in stages.values() for column in columns)}
    return reader.facts(list(facts), columns), stages


def read_quality(reader: StoreReader) -> Quality:
    """Return the quality of a store's answers."""
    facts = ("status", "question", "error", "confidence", "search_quality", "fields_found", "filled", "corrections")
    table, stages = read_answers(reader, (*facts, "issues", "states"))
    present = {stage: columns for stage, columns in stages.items() if meta(stage, "status") in table.column_names}
    found = {stage: _Stage(table, stage, columns) for stage, columns in present.items()}
    after = {column: int(has_value(table.column(column)).sum()) for one in found.values() for column in one.columns}
    filled = Counter(column for one in found.values() for column in one.flat("filled").to_pylist())
    return Quality(
        records=table.num_rows,
        status=_counts(table.column(STATUS)) if table.num_rows else {},
        pending={stage: one.pending() for stage, one in found.items()},
        filled_before={column: count - filled[column] for column, count in after.items()},
        filled_after=after,
        confidence={stage: one.levels("confidence", CONFIDENCE) for stage, one in found.items()},
        search_quality={stage: one.levels("search_quality", SEARCH_QUALITY) for stage, one in found.items()},
        fields_found={stage: one.fields_found() for stage, one in found.items()},
        states={column: counts for one in found.values() for column, counts in one.states()},
        corrections=sum(len(one.flat("corrections")) for one in found.values()),
        issues=_ranked(finding for one in found.values() for finding in one.issues()),
        failures=_ranked(finding for one in found.values() for finding in one.failures()),
        same_address=_ranked(finding for one in found.values() for finding in one.same_addresses()),
    )


class _Stage:
    """One stage's columns of a store."""

    def __init__(self, table: pa.Table, name: str, columns: Sequence[str]) -> None:
        self.table, self.name = table, name
        self.columns = [column for column in columns if column in table.column_names]
        self.done = pc.fill_null(pc.equal(self.fact("status"), "done"), False)

    def fact(self, name: str) -> pa.ChunkedArray:
        """Return one of its facts; all missing in a store that is older than the fact."""
        column = meta(self.name, name)
        known = column in self.table.column_names
        return self.table.column(column) if known else pa.chunked_array([pa.nulls(self.table.num_rows)])

    def flat(self, name: str) -> pa.ChunkedArray:
        """Return all elements of a list column."""
        column = self.fact(name)
        return pc.list_flatten(column) if pa.types.is_list(column.type) else pa.chunked_array([pa.nulls(0)])

    def pending(self) -> int:
        return pc.sum(pc.equal(pc.fill_null(self.fact("status"), "pending"), "pending")).as_py() or 0

    def levels(self, name: str, words: Sequence[str]) -> dict[str, int]:
        counts = _counts(pc.fill_null(self.fact(name).filter(self.done).cast(pa.string()), NOT_SAID))
        known = {word: counts.pop(word, 0) for word in words}
        return known | {NOT_SAID: sum(counts.values())}  # as is what a model of one's own says in other words

    def fields_found(self) -> dict[int, int]:
        column = self.fact("fields_found")
        counts = _counts(pc.list_value_length(column.filter(self.done))) if pa.types.is_list(column.type) else {}
        return {many: counts.get(many, 0) for many in range(len(self.columns) + 1)}

    def states(self) -> Iterator[tuple[str, dict[str, int]]]:
        flat = self.flat("states")
        if not len(flat):
            return
        both = pc.binary_join_element_wise(pc.struct_field(flat, "field"), pc.struct_field(flat, "state"), "\n")
        counts = _counts(both)
        for column in self.columns:
            field = column.rpartition(".")[2]
            yield column, {state: counts.get(f"{field}\n{state}", 0) for state in STATES}

    def issues(self) -> Iterator[Finding]:
        told = (str(issue).partition(": ") for issue in self.flat("issues").to_pylist())
        checks = ((field, rest.partition(": ")) for field, _, rest in told)
        return self._counted((check, f"{field}: {detail}") for field, (check, _, detail) in checks)

    def failures(self) -> Iterator[Finding]:
        failed = pc.fill_null(pc.equal(self.fact("status"), "failed"), False)
        told = (str(error).partition(": ") for error in self.fact("error").filter(failed).to_pylist())
        return self._counted((cause, message) for cause, _, message in told)

    def _counted(self, found: Iterable[tuple[str, str]]) -> Iterator[Finding]:
        """Yield each name once, with how often it was found and the first example of it."""
        examples: dict[str, str] = {}
        counts: Counter[str] = Counter()
        for name, example in found:
            counts[name] += 1
            examples.setdefault(name, example)
        yield from (Finding(self.name, name, count, examples[name]) for name, count in counts.items())

    def same_addresses(self) -> Iterator[Finding]:
        for column in self.columns:
            values = self.table.column(column)
            if not pa.types.is_string(values.type):
                continue
            addresses = pc.fill_null(pc.and_(self.done, pc.starts_with(values, "http")), False)
            pairs = pa.table({"value": values.filter(addresses), "by": self.fact("question").filter(addresses)})
            counted = pairs.group_by("value").aggregate([("by", "count_distinct")])
            for row in counted.filter(pc.greater(counted.column("by_count_distinct"), 1)).to_pylist():
                yield Finding(self.name, column, row["by_count_distinct"], row["value"])


def _counts(column: pa.ChunkedArray) -> dict[Any, int]:
    return {one["values"]: one["counts"] for one in pc.value_counts(column).to_pylist() if one["values"] is not None}


def _ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda one: (-one.count, one.stage, one.name, one.example)))


def listings(found: Quality) -> list[Listing]:
    """Return the tables of a store's quality; those that would be empty are left out."""
    tables = [
        Listing(
            "values by column, before and now; states of the answers",
            ("column", "before", "now", *(state.replace("_", " ") for state in STATES)),
            tuple(_column_row(found, column) for column in found.filled_after),
        ),
        Listing(
            "answers by what the model says of its confidence",
            ("stage", *CONFIDENCE, NOT_SAID),
            tuple((stage, *_told(counts.values())) for stage, counts in found.confidence.items()),
        ),
        Listing(
            "answers by what the model says of its search",
            ("stage", *SEARCH_QUALITY, NOT_SAID),
            tuple((stage, *_told(counts.values())) for stage, counts in found.search_quality.items()),
        ),
        Listing(
            "fields found per answer",
            ("stage", "mean", "of", "answers without any"),
            tuple(_found_row(stage, counts) for stage, counts in found.fields_found.items()),
        ),
        Listing(
            "what checks found",
            ("stage", "check", "count", "for example"),
            tuple((one.stage, one.name, f"{one.count:,}", one.example) for one in found.issues),
            words=(0, 1, 3),
        ),
        Listing(
            "failures",
            ("stage", "cause", "count", "for example", "what to do"),
            tuple((one.stage, one.name, f"{one.count:,}", one.example, advice(one.name)) for one in found.failures),
            words=(0, 1, 3, 4),
        ),
        Listing(
            "one address for several questions: wrong for some, or they ask about the same",
            ("column", "address", "questions"),
            tuple((one.name, one.example, f"{one.count:,}") for one in found.same_address[:MOST_SHOWN]),
            words=(0, 1),
        ),
    ]
    return [table for table in tables if table.rows]


def as_json(found: Quality) -> dict[str, Any]:
    """Return a store's quality for the report's JSON."""
    return {
        "records": found.records,
        "status": dict(found.status),
        "columns": {
            column: {
                "filled_before": found.filled_before[column],
                "filled_now": now,
                "states": dict(found.states.get(column, {})),
            }
            for column, now in found.filled_after.items()
        },
        "stages": {
            stage: {
                "pending": found.pending[stage],
                "confidence": dict(confidence),
                "search_quality": dict(found.search_quality[stage]),
                "fields_found": {str(many): count for many, count in found.fields_found[stage].items()},
            }
            for stage, confidence in found.confidence.items()
        },
        "corrections": found.corrections,
        "issues": [_finding_json(one, "check") for one in found.issues],
        "failures": [_finding_json(one, "cause") | {"what_to_do": advice(one.name)} for one in found.failures],
        "same_address": [_finding_json(one, "column") for one in found.same_address[:MOST_SHOWN]],
    }


def _finding_json(one: Finding, name: str) -> dict[str, Any]:
    return {"stage": one.stage, name: one.name, "count": one.count, "example": one.example[:LONGEST_EXAMPLE]}


def _told(counts: Iterable[int]) -> Iterator[str]:
    return (f"{count:,}" for count in counts)


def _column_row(found: Quality, column: str) -> tuple[str, ...]:
    states = found.states.get(column, {})
    counts = (found.filled_before[column], found.filled_after[column], *(states.get(state, 0) for state in STATES))
    return column, *_told(counts)


def _found_row(stage: str, counts: Mapping[int, int]) -> tuple[str, ...]:
    answers = sum(counts.values())
    mean = sum(many * count for many, count in counts.items()) / answers if answers else 0.0
    return stage, f"{mean:.1f}", str(max(counts, default=0)), f"{counts.get(0, 0):,}"


def advice(cause: str) -> str:
    """Return what to do about failures of a cause.

    >>> advice("truncated")
    "raise the stage's max_output_tokens, then retry_failed=True"
    """
    return ADVICE.get(cause, RETRY)


def fields(row: Mapping[str, Any], stage: str, columns: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield what is known of each field that a stage answered in a row."""
    pages = [source["url"] for source in row.get(meta(stage, "sources")) or ()]
    proposed = {entry["column"]: entry["answer"] for entry in row.get(meta(stage, "corrections")) or ()}
    states = {state["field"]: state for state in row.get(meta(stage, "states")) or ()}
    answered = set(row.get(meta(stage, "fields_found")) or ())
    for column in columns:
        field = column.rpartition(".")[2]
        if (state := states.get(field)) is None:
            continue
        cell = row.get(column)
        text = None if is_missing(cell) else cell_text(cell)
        yield {
            "stage": stage,
            "column": column,
            "state": state["state"],
            "answer": proposed.get(column, text if field in answered else None),
            "cell": text if column in proposed else None,
            "issues": [issue for issue in row.get(meta(stage, "issues")) or () if issue.startswith(f"{field}: ")],
            "sources": [pages[place] for place in state["sources"] if place < len(pages)],
            "confidence": row.get(meta(stage, "confidence")),
        }
