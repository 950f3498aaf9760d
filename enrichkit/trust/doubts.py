"""What speaks against an answer, gravest first: worked out from a sealed row alone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..store.index import RECORD_ID
from ..store.reader import StoreReader
from ..store.rows import NO_SEARCH, STATUS, meta
from ..table.arrow import as_text
from ..table.cells import is_missing

FACTS = (
    *("status", "error", "confidence", "search_quality", "fields_found", "states", "issues", "corrections"),
    *("sources", "filled"),
)
"""The facts about a stage that fields and doubts are worked out from."""
FAILED, REPLY, CHECK, OTHERS, DIFFERS, NO_PAGE, OWN_WORD = range(1, 8)
"""The ranks of doubts: the stage failed; the reply did not search or contradicts itself; a check emptied or flagged the
value; other records speak against it; it differs from the cell; no page is behind it, though the reply has pages; the
model's own low word."""
AGAINST_THE_VALUE = range(FAILED, NO_PAGE)
"""The ranks that put a record on the list of the weak."""
LOW = {"confidence": "low", "search_quality": "poor"}
"""What the model says of its own answer where it does not trust it."""
_ISSUE = re.compile(r"(?s)(.*?): (\w+)(?:: (.*))?")
_CLEANED = re.compile(r".*_(?:cleaned|spelling)|undressed|read_as|says_nothing")
"""The checks that only put a value into its usual spelling."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something that speaks against an answer, or against one of its fields; the lowest rank is the gravest."""

    rank: int
    field: str | None
    text: str


def read_answers(reader: StoreReader, facts: Collection[str], more: Iterable[str] = ()) -> pa.Table:
    """Return the sealed rows' columns of these facts, of all answers, and some more."""
    return reader.facts(facts, {RECORD_ID, STATUS, *more, *itertools.chain(*reader.answers.values())})


def fields(row: Mapping[str, Any], stage: str, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield what is known of each field that a stage answered in a row, by the columns of its answers."""
    pages = [source["url"] for source in row.get(meta(stage, "sources")) or ()]
    proposed = {entry["column"]: entry["answer"] for entry in row.get(meta(stage, "corrections")) or ()}
    states = {state["field"]: state for state in row.get(meta(stage, "states")) or ()}
    answered = set(row.get(meta(stage, "fields_found")) or ())
    doubts = [doubt for doubt in doubts_of(row, stage) if doubt.rank in AGAINST_THE_VALUE]
    for column, field in columns.items():
        if (state := states.get(field)) is None:
            continue
        cell = row.get(column)
        text = None if is_missing(cell) else as_text(cell)
        about = {field, None} if field in answered else {field}
        yield {
            "stage": stage,
            "column": column,
            "state": state["state"],
            "answer": proposed.get(column, text if field in answered else None),
            "cell": text if column in proposed else None,
            "doubts": [doubt.text for doubt in doubts if doubt.field in about],
            "sources": [pages[place] for place in state["sources"] if place < len(pages)],
            "confidence": row.get(meta(stage, "confidence")),
        }


def doubts_of(row: Mapping[str, Any], stage: str) -> list[Doubt]:
    """Return what is doubtful about a stage's answer in a row, gravest first."""
    return sorted(_doubts(row, stage), key=lambda doubt: doubt.rank)


def _doubts(row: Mapping[str, Any], stage: str) -> Iterator[Doubt]:
    issues = row.get(meta(stage, "issues")) or ()
    if row.get(meta(stage, "status")) == "failed":
        yield Doubt(FAILED, None, f"failed: {row.get(meta(stage, 'error'))}")
    if str(NO_SEARCH) in issues:
        yield Doubt(REPLY, None, NO_SEARCH.detail)
    states = row.get(meta(stage, "states")) or ()
    marked = any(state["sources"] for state in states)  # else the service marked no field at all
    for state in states:
        field = state["field"]
        if state["state"] == "invalid":
            yield from (Doubt(CHECK, field, text) for text in _findings(issues, field))
        elif state["state"] == "conflict":
            yield Doubt(DIFFERS, field, "differs from the cell")
        elif state["state"] == "unsupported" and marked:
            yield Doubt(NO_PAGE, field, "no page behind it")
    for fact, level in LOW.items():
        if row.get(meta(stage, fact)) == level:
            yield Doubt(OWN_WORD, None, f"{level} {fact.replace('_', ' ')}")


def _findings(issues: Iterable[str], field: str) -> list[str]:
    """Return what checks said of a field that was emptied or flagged, each with the check's name."""
    parts = [match.groups() for issue in issues if (match := _ISSUE.fullmatch(issue))]
    about = [(check, detail) for place, check, detail in parts if re.split(r"[.\[]", place)[0] == field]
    grave = [part for part in about if not _CLEANED.fullmatch(part[0])] or about
    return [f"{check}: {detail}" if detail else check for check, detail in grave]
