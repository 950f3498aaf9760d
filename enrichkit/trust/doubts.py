"""What speaks against an answer, and for it: worked out from a sealed row alone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from ..store.index import RECORD_ID
from ..store.reader import StoreReader
from ..store.rows import NO_SEARCH, STATUS, meta
from ..table.arrow import as_text
from ..table.cells import is_missing

DOUBTFUL = {"unsupported": 1, "conflict": 1, "invalid": 2}
"""Points of doubt for each field in such a state."""
LOW = {("confidence", "low"): 4, ("search_quality", "poor"): 4, ("search_quality", "limited"): 1}
"""Points of doubt for what the model says of its own answer."""
FAILED = 10
WEAK_POINTS = 4
"""As many as a low confidence alone, or two fields that failed a check."""


def read_answers(reader: StoreReader, facts: Collection[str], more: Iterable[str] = ()) -> pa.Table:
    """Return the sealed rows' columns of these facts, of all answers, and some more."""
    return reader.facts(facts, {RECORD_ID, STATUS, *more, *itertools.chain(*reader.answers.values())})


def fields(row: Mapping[str, Any], stage: str, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield what is known of each field that a stage answered in a row, by the columns of its answers."""
    pages = [source["url"] for source in row.get(meta(stage, "sources")) or ()]
    proposed = {entry["column"]: entry["answer"] for entry in row.get(meta(stage, "corrections")) or ()}
    states = {state["field"]: state for state in row.get(meta(stage, "states")) or ()}
    answered = set(row.get(meta(stage, "fields_found")) or ())
    for column, field in columns.items():
        if (state := states.get(field)) is None:
            continue
        cell = row.get(column)
        text = None if is_missing(cell) else as_text(cell)
        yield {
            "stage": stage,
            "column": column,
            "state": state["state"],
            "answer": proposed.get(column, text if field in answered else None),
            "cell": text if column in proposed else None,
            "issues": [issue for issue in row.get(meta(stage, "issues")) or () if re.match(rf"{field}[:.\[]", issue)],
            "sources": [pages[place] for place in state["sources"] if place < len(pages)],
            "confidence": row.get(meta(stage, "confidence")),
        }


def doubts_of(row: Mapping[str, Any], stage: str) -> Iterator[tuple[int, str]]:
    """Yield what is doubtful about a stage's answer in a row, each with its points."""
    if row.get(meta(stage, "status")) == "failed":
        yield FAILED, f"{stage} failed: {row.get(meta(stage, 'error'))}"
    if str(NO_SEARCH) in (row.get(meta(stage, "issues")) or ()):
        yield WEAK_POINTS, f"{stage}: {NO_SEARCH.detail}"
    for (fact, level), weight in LOW.items():
        if row.get(meta(stage, fact)) == level:
            yield weight, f"{stage}: {level} {fact.replace('_', ' ')}"
    states = row.get(meta(stage, "states")) or ()
    marked = any(state["sources"] for state in states)  # else the service marked no field at all
    for name, weight in DOUBTFUL.items():
        doubtful = [state["field"] for state in states if state["state"] == name and (marked or name != "unsupported")]
        if doubtful:
            yield weight * len(doubtful), f"{stage}: {name} {', '.join(doubtful)}"
