"""The quality: how far a store's answers can be trusted, as counts that a report and figures show.

Worked out from the columns of the sealed rows alone, without the raw replies: a store of 20,000 records takes part of a
second. Records that share an answer each count, since each of them has it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..formatting import Sentence, many, spelled
from ..reading.answer import CHECK_FAILED, CONFIDENCE, NOT_SAID, SEARCH_QUALITY
from ..reading.grounding import NO_SEARCH, STATES
from ..store.decisions import Decisions
from ..store.reader import StoreReader
from ..store.rows import META, STATUS, meta
from ..table.arrow import has_value
from ..trust import doubts
from ..trust.decisions import decided_fields
from ..trust.doubts import each_row, findings, read_answers, states_of

ADVICE = {
    "blocked": "its text or answer is refused; look at the record",
    "truncated": Sentence("raise {max_output_tokens}, then {retry_failed_on}"),
    "empty": Sentence("{retry_failed_on}; often it answers later"),
    "unreadable": Sentence("{retry_failed_on}; if it stays, simplify the stage's answer model"),
    "bad_request": "the request itself is refused; look at the message and the stage's settings",
    "timeout": Sentence("raise {deadline_seconds}, then {retry_failed_on}"),
    "client": Sentence("your client raised; fix it, then {retry_failed_on}"),
    "own_code": Sentence("your validator raised; fix it, then {retry_failed_on}: the paid reply is read first"),
}
"""What to do about a failure, by its cause."""
FACTS = (
    *("status", "error", "confidence", "search_quality", "fields_found", "filled", "corrections"),
    *("issues", "states", "decisions", "replaced"),
)
"""The facts about a stage that the quality is counted from."""
DECIDED = "decided"
COUNTED = (DECIDED, *STATES)
"""What an answer counts as: decided by a person, whatever its state; else by its state."""
LONGEST_EXAMPLE = 300
RETRY = Sentence("{retry_failed_on}; the service or the network was in trouble")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was found, once or more often.

    Attributes
    ----------
    stage : str
        The stage.
    name : str
        The check, or the cause of a failure.
    count : int
        How often.
    example : str
        The first of them.
    done : str or None
        What a check did with these values: ``emptied``, ``flagged`` or ``cleaned``; ``broken`` is a check that raised.
    what_to_do : str or None
        What to do about a failure.
    """

    stage: str
    name: str
    count: int
    example: str
    done: str | None = None
    what_to_do: str | None = None


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
        By column, records by the state of the answer, see `enrichkit.trust.evidence`; or ``decided`` by a person.
    states_by_confidence : mapping of str to mapping
        By the level that the model gave its answer, values by their state, or decided.
    corrections : int
        Answers that differ from a filled cell, as far as nobody has decided about them.
    issues : tuple of Finding
        What checks found and other records say, by check and by what it did.
    notes : tuple of Finding
        What checks found odd about the table's own cells.
    failures : tuple of Finding
        Failed questions, by cause.
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
    states_by_confidence: Mapping[str, Mapping[str, int]]
    corrections: int
    issues: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    failures: tuple[Finding, ...]

    @property
    def flaws(self) -> str:
        """How many answers came without a search, and how often checks of one's own failed, in words; empty if none."""
        counts = {issue.stage: issue.count for issue in self.issues if issue.name == NO_SEARCH.check}
        of = many(sum(sum(self.confidence[stage].values()) for stage in counts), "answer")
        unsearched = f"; {sum(counts.values()):,} of {of} of {', '.join(counts)} came without a search"
        failed = sum(issue.count for issue in self.issues if issue.name == CHECK_FAILED)
        return unsearched * bool(counts) + f"; {CHECK_FAILED} {failed:,}" * bool(failed)


def read_quality(reader: StoreReader) -> Quality:
    """Return the quality of a store's answers."""
    table, _ = read_answers(reader, FACTS)
    stages = [
        _Stage(name, {column: field for column, field in columns.items() if column in table.column_names}, table)
        for name, columns in reader.answers.items()
        if meta(name, "status") in table.column_names
    ]
    filled = sum((Counter(_counts(stage.elements("filled"))) for stage in stages), Counter[str]())
    columns = [column for stage in stages for column in stage.columns]
    before, after = (
        {column: int(has_value(rows.column(column)).sum()) for column in columns}
        for rows in (table, reader.decisions.over(table))
    )
    failures = _findings(failure for stage in stages for failure in _failures(stage))
    checked: list[tuple[str, doubts.Finding]] = []
    states = {stage.name: _states(stage, checked) for stage in stages}
    settled = 0
    for stage in stages:
        for field, word, state, corrected in _decided(stage, reader.decisions):
            states[stage.name].update({(word, field, state): -1, (word, field, DECIDED): 1})
            settled += corrected
    return Quality(
        records=table.num_rows,
        status=_counts(table.column(STATUS)) if table.num_rows else {},
        pending={stage.name: _pending(stage) for stage in stages},
        filled_before={column: count - filled[column] for column, count in before.items()},
        filled_after=after,
        confidence={stage.name: _levels(stage, "confidence", CONFIDENCE) for stage in stages},
        search_quality={stage.name: _levels(stage, "search_quality", SEARCH_QUALITY) for stage in stages},
        fields_found={stage.name: _fields_found(stage) for stage in stages},
        states={column: counts for stage in stages for column, counts in _by_column(stage, states[stage.name])},
        states_by_confidence=_by_confidence(states.values()),
        corrections=sum(len(stage.elements("corrections")) for stage in stages) - settled,
        issues=_findings(_told(*each) for each in checked if each[1].done != "note"),
        notes=_findings(_told(*each) for each in checked if each[1].done == "note"),
        failures=tuple(replace(failure, what_to_do=advice(failure.name)) for failure in failures),
    )


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage with the columns of its answers and their fields, and the sealed rows."""

    name: str
    columns: Mapping[str, str]
    table: pa.Table

    def fact(self, name: str) -> pa.ChunkedArray | pa.Array:
        """Return one of its facts; all missing in a store that is older than the fact."""
        column = meta(self.name, name)
        known = column in self.table.column_names
        return self.table.column(column) if known else pa.nulls(self.table.num_rows, META[name])

    def elements(self, name: str) -> pa.ChunkedArray | pa.Array:
        """Return all elements of a list column."""
        return pc.list_flatten(self.fact(name))

    def where(self, status: str) -> pa.ChunkedArray:
        """Return which rows have this status."""
        return pc.fill_null(pc.equal(self.fact("status"), status), False)


def _pending(stage: _Stage) -> int:
    return _counts(pc.fill_null(stage.fact("status"), "pending")).get("pending", 0)


def _levels(stage: _Stage, name: str, words: Sequence[str]) -> dict[str, int]:
    counts = _counts(pc.fill_null(stage.fact(name).filter(stage.where("done")), NOT_SAID))
    known = {word: counts.pop(word, 0) for word in words}
    return known | {NOT_SAID: sum(counts.values())}  # levels that a user's own answer model names otherwise


def _fields_found(stage: _Stage) -> dict[int, int]:
    counts = _counts(pc.list_value_length(stage.fact("fields_found").filter(stage.where("done"))))
    return {number: counts.get(number, 0) for number in range(len(stage.columns) + 1)}


def _has_issues(stage: _Stage) -> pa.ChunkedArray:
    """Return which rows have issues of a stage."""
    return pc.fill_null(pc.greater(pc.list_value_length(stage.fact("issues")), 0), False)


def _states(stage: _Stage, checked: list[tuple[str, doubts.Finding]]) -> Counter[tuple[str, str, str]]:
    """Count the fields of a stage's answers by the model's confidence and their state; add what checks found."""
    sound = pc.invert(_has_issues(stage))
    states = pa.chunked_array(stage.fact("states").filter(sound).chunks, META["states"]).combine_chunks()
    words = pc.fill_null(stage.fact("confidence").filter(sound), NOT_SAID).take(pc.list_parent_indices(states))
    flat = pc.list_flatten(states)
    both = [pc.struct_field(flat, "field"), pc.struct_field(flat, "state")]
    counts = Counter(
        {
            tuple(text.split("\n")): count
            for text, count in _counts(pc.binary_join_element_wise(words, *both, "\n")).items()
        }
    )
    names = [meta(stage.name, name) for name in ("confidence", "fields_found", "issues", "states")]
    known = [name for name in names if name in stage.table.column_names]
    for row in each_row(stage.table.select(known).filter(_has_issues(stage))):
        checked += ((stage.name, finding) for finding in findings(row, stage.name))
        word = row.get(meta(stage.name, "confidence")) or NOT_SAID
        counts.update((word, field, state) for field, (state, _) in states_of(row, stage.name).items())
    return counts


def _decided(stage: _Stage, decisions: Decisions) -> Iterator[tuple[str, str, str, bool]]:
    """Yield what is decided: the field, the model's confidence, the answer's state, whether it was a correction."""
    held = pc.fill_null(pc.greater(pc.list_value_length(stage.fact("decisions")), 0), False)
    for row in stage.table.filter(held).to_pylist():
        states = states_of(row, stage.name)
        proposed = {entry["column"] for entry in row.get(meta(stage.name, "corrections")) or ()}
        for field in decided_fields(decisions, row, stage.name, stage.columns):
            if field["decision"] not in (None, "unsure"):
                name, column = stage.columns[field["column"]], field["column"]
                settled = column in proposed and (field["decision"] != "right" or not field["_differs"])
                yield name, field["confidence"] or NOT_SAID, states[name][0], settled


def _by_column(stage: _Stage, counts: Counter[tuple[str, str, str]]) -> Iterator[tuple[str, dict[str, int]]]:
    by_field: Counter[tuple[str, str]] = Counter()
    for (_, field, state), count in counts.items():
        by_field[field, state] += count
    for column, field in stage.columns.items() if counts else ():
        yield column, {state: by_field[field, state] for state in COUNTED}


def _by_confidence(counts: Iterable[Counter[tuple[str, str, str]]]) -> dict[str, dict[str, int]]:
    by_word = {word: dict.fromkeys(COUNTED, 0) for word in (*CONFIDENCE, NOT_SAID)}
    for (word, _, state), count in itertools.chain(*(each.items() for each in counts)):
        by_word[word if word in CONFIDENCE else NOT_SAID][state] += count
    return {word: states for word, states in by_word.items() if any(states.values())}


def _told(stage: str, finding: doubts.Finding) -> tuple[str, str, str, str]:
    """Return a check's finding as its stage, the check, the field with what is wrong about it, and what was done."""
    return stage, finding.check, f"{finding.about}: {finding.detail}", finding.done


def _failures(stage: _Stage) -> Iterator[tuple[str, str, str, None]]:
    """Yield each failure: the stage, the cause, and the message."""
    for error in stage.fact("error").filter(stage.where("failed")).to_pylist():
        cause, _, message = str(error).partition(": ")
        yield stage.name, cause, message, None


def _counts(column: pa.ChunkedArray) -> dict[Any, int]:
    counts = pc.value_counts(column).to_pylist()
    return {row["values"]: row["counts"] for row in counts if row["values"] is not None}


def _findings(texts: Iterable[tuple[str, str, str, str | None]]) -> tuple[Finding, ...]:
    """Return each name of a stage once for all that was done, with its count and its first example."""
    examples: dict[tuple[str, str, str | None], list[str]] = {}
    for stage, name, example, done in texts:
        examples.setdefault((stage, name, done), []).append(example)
    counted = (
        Finding(stage, name, len(same), same[0][:LONGEST_EXAMPLE], done)
        for (stage, name, done), same in examples.items()
    )
    return tuple(sorted(counted, key=lambda finding: (-finding.count, finding.stage, finding.name, finding.example)))


def quality_tables(quality: Quality, spelling: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Return a store's quality as tables, by their titles."""
    failures = [replace(failure, what_to_do=spelled(advice(failure.name), spelling)) for failure in quality.failures]
    unknown = dict.fromkeys(COUNTED, 0)
    values = [
        {"column": column, "before": quality.filled_before[column], "now": now, **quality.states.get(column, unknown)}
        for column, now in quality.filled_after.items()
    ]
    return {
        "values by column, before and now; states of the answers": pd.DataFrame(values),
        "answers by what the model says of its confidence": _by_stage(quality.confidence),
        "answers by what the model says of its search": _by_stage(quality.search_quality),
        "fields found per answer": _by_stage({stage: _mean(counts) for stage, counts in quality.fields_found.items()}),
        "values by the model's confidence and their state": _by_stage(quality.states_by_confidence, "confidence"),
        "what checks found": _finding_table(quality.issues, "check"),
        "what checks found odd about your own cells": _finding_table(quality.notes, "check"),
        "failures": _finding_table(failures, "cause"),
    }


def _by_stage(figures: Mapping[str, Mapping[str, float]], of: str = "stage") -> pd.DataFrame:
    return pd.DataFrame([{of: name, **by_name} for name, by_name in figures.items()])


def _mean(counts: Mapping[int, int]) -> dict[str, float]:
    """Return how many fields answers have on average, of how many, and how many answers have none."""
    mean = sum(number * count for number, count in counts.items()) / max(1, sum(counts.values()))
    return {"mean": mean, "of": max(counts, default=0), "answers without any": counts.get(0, 0)}


def _finding_table(findings: Sequence[Finding], name: str) -> pd.DataFrame:
    table = pd.DataFrame([asdict(finding) for finding in findings]).rename(columns={"name": name})
    return table.dropna(axis="columns", how="all")  # only checks do something, only failures say what to do


def advice(cause: str) -> str:
    """Return what to do about failures of a cause.

    >>> advice("truncated")
    "raise the stage's max_output_tokens, then retry_failed=True"
    """
    return ADVICE.get(cause, RETRY)
