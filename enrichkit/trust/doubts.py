"""What speaks against an answer, gravest first: worked out from its sealed row, and from those of other records."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from ..formatting import LONGEST_CELL, plain
from ..reading.answer import CHECK_FAILED, only_cleans
from ..reading.grounding import OF_THE_REPLY
from ..store.index import RECORD_ID
from ..store.reader import StoreReader
from ..store.rows import STATUS, meta
from ..table.arrow import as_text
from ..table.cells import is_missing
from .pages import ACROSS, BANDS, OTHERS_SAY, Names, band, names_in, with_others

FACTS = (
    *("status", "error", "confidence", "search_quality", "fields_found", "states", "issues", "corrections"),
    *("sources", "marks", "filled", "decisions"),
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
OF_ALL = {CHECK_FAILED: "broken", "changed_cell": "note", "not_valid": "flagged"}
"""What checks do that are about no single field; the others only tell how an answer was found."""
DONE = ("emptied", "flagged", "cleaned")
"""What a check does with a value, worst first."""
_ISSUE = re.compile(r"(?s)(.*?): (\w+)(?:: (.*))?")


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something that speaks against an answer, or against one of its fields; the lowest rank is the gravest."""

    rank: int
    field: str | None
    text: str


class Finding(NamedTuple):
    """What a check found: ``about`` a field or, in a note, a cell; what was ``done`` is one of `DONE`.

    A ``note`` is about the user's own cell, and a ``broken`` check is one of the user's code.
    """

    about: str
    check: str
    done: str
    detail: str

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}" if self.detail else self.check


def read_answers(reader: StoreReader, facts: Collection[str]) -> tuple[pa.Table, Names]:
    """Return the sealed rows' columns of these facts, the table's, all answers as they came; and who they are about.

    What other records say against an answer is among its issues, and its state is doubtful.
    """
    columns = {RECORD_ID, STATUS, *reader.given, *itertools.chain(*reader.answers.values())}
    table = reader.facts({*facts, *ACROSS}, columns, decided=False)
    names = names_in(table, reader)
    return with_others(table, reader, names), names


def each_row(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield a table's rows, of which few are in memory at a time: the fewer objects there are, the faster is Python."""
    for batch in table.to_batches(max_chunksize=1000):
        yield from batch.to_pylist()


def states_of(row: Mapping[str, Any], stage: str) -> dict[str, tuple[str, list[int]]]:
    """Return the state of each field that a stage answered, and the places of the sources behind it."""
    return {state["field"]: (state["state"], state["sources"]) for state in row.get(meta(stage, "states")) or ()}


def findings(row: Mapping[str, Any], stage: str) -> Iterator[Finding]:
    """Yield what checks found in a stage's answer in a row."""
    issues = row.get(meta(stage, "issues"))
    states = states_of(row, stage) if issues else {}
    for match in filter(None, map(_ISSUE.fullmatch, issues or ())):
        place, check, detail = match[1], match[2], match[3] or ""
        field = re.split(r"[.\[]", place)[0]
        if check in OF_THE_REPLY:
            done = "flagged"
        elif field in states and not only_cleans(check):
            done = {"invalid": "emptied", "doubtful": "flagged"}.get(states[field][0], "cleaned")
        elif place and field not in states:
            done = "note"
        else:
            done = OF_ALL.get(check, "cleaned")
        yield Finding(field if field in states else place, check, done, detail)


def fields(row: Mapping[str, Any], stage: str, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield what is known of each field that a stage answered in a row, by the columns of its answers.

    ``sources`` are those behind it: title, address, whether its mark is around the whole answer. ``ranks`` are its
    doubts'. ``_differs`` says whether the answer does from the user's own ``cell``.
    """
    listed = [(source["title"], source["url"]) for source in row.get(meta(stage, "sources")) or ()]
    whole = {mark["field"]: mark["whole"] for mark in row.get(meta(stage, "marks")) or ()}
    proposed = {entry["column"]: entry["answer"] for entry in row.get(meta(stage, "corrections")) or ()}
    states = states_of(row, stage)
    answered = set(row.get(meta(stage, "fields_found")) or ())
    filled = set(row.get(meta(stage, "filled")) or ())
    doubts = doubts_of(row, stage)
    for column, field in columns.items():
        if field not in states:
            continue
        state, places = states[field]
        cell = row.get(column)
        text = None if is_missing(cell) else as_text(cell)
        general = AGAINST_THE_VALUE if field in answered else ()
        about = [
            doubt
            for doubt in doubts
            if (doubt.field is None and doubt.rank in general)
            or (doubt.field == field and (doubt.rank != NO_PAGE or places))  # else the state says it
        ]
        yield {
            "stage": stage,
            "column": column,
            "state": state,
            "answer": proposed.get(column, text if field in answered else None),
            "cell": None if column in filled else text,
            "_differs": column in proposed,
            "doubts": [doubt.text for doubt in about],
            "ranks": [doubt.rank for doubt in about],
            "sources": [(*listed[place], place in whole.get(field, ())) for place in places if place < len(listed)],
            "confidence": row.get(meta(stage, "confidence")),
        }


def with_pages(field: Mapping[str, Any], names: Names, row: int) -> dict[str, Any]:
    """Return what is known of a field with its pages, by their owners, and its band; ``row`` is its record's.

    ``_best`` is the place of its pages among others: first by their owners, then by how grave its doubts are.
    """
    about = names.firms[row], names.people[row]
    pages = [names.page(*about, title, link, whole=whole) for title, link, whole in field["sources"]]
    doubted, backing = any(FAILED < rank < NO_PAGE for rank in field["ranks"]), band(pages)
    return {
        **field,
        "pages": [str(page) for page in pages],
        "links": [page.link for page in pages],
        "band": None if field["state"] == "not_found" else BANDS[-1] if doubted else backing,
        "_best": (BANDS.index(backing), sum(rank < DIFFERS for rank in field["ranks"])),
    }


def doubts_of(row: Mapping[str, Any], stage: str) -> list[Doubt]:
    """Return what is doubtful about a stage's answer in a row, gravest first."""
    return sorted(_doubts(row, stage), key=lambda doubt: doubt.rank)


def _doubts(row: Mapping[str, Any], stage: str) -> Iterator[Doubt]:
    if row.get(meta(stage, "status")) == "failed":
        yield Doubt(FAILED, None, f"failed: {row.get(meta(stage, 'error'))}")
    states = states_of(row, stage)
    for finding in findings(row, stage):
        if finding.done in ("emptied", "flagged"):
            others = finding.check in OTHERS_SAY
            rank = REPLY if finding.check in OF_THE_REPLY else OTHERS if others else CHECK
            text = finding.detail if others else str(finding)
            yield Doubt(rank, finding.about if finding.about in states else None, text)
    items = {
        mark["field"]: (mark["parts"] - mark["backed"], mark["parts"]) for mark in row.get(meta(stage, "marks")) or ()
    }
    for field, (state, _) in states.items():
        bare, parts = items.get(field, (0, 0))
        if state == "conflict":
            yield Doubt(DIFFERS, field, "differs from the cell")
        elif bare and state in ("supported", "unsupported"):
            yield Doubt(NO_PAGE, field, f"no page behind {bare} of {parts} items")
        elif state == "unsupported" and row.get(meta(stage, "sources")):
            yield Doubt(NO_PAGE, field, "no page behind it")
    for fact, level in LOW.items():
        if row.get(meta(stage, fact)) == level:
            yield Doubt(OWN_WORD, None, f"{level} {fact.replace('_', ' ')}")


def weakest_first(
    rows: Iterable[Mapping[str, Any]],
    stages: Mapping[str, Mapping[str, str]],
    doubts_in: Callable[[Mapping[str, Any], str, Mapping[str, str]], list[Doubt]],
) -> dict[int, list[str]]:
    """Return the places of rows worth another look, by the gravest doubt, then by how many, and what speaks against."""
    weak = []
    for place, row in enumerate(rows):
        listed = [(doubt, stage) for stage, columns in stages.items() for doubt in doubts_in(row, stage, columns)]
        doubts = sorted(listed, key=lambda doubt: doubt[0].rank)
        if any(doubt.rank != NO_PAGE for doubt, _ in doubts):
            weak.append((doubts[0][0].rank, -len(doubts), [_in_words(*doubt) for doubt in doubts], place))
    return {place: why for *_, why, place in sorted(weak, key=lambda row: row[:2])}


def _in_words(doubt: Doubt, stage: str) -> str:
    """Return a doubt with what it is about, in at most 60 letters."""
    return plain(f"{stage if doubt.field is None else f'{stage}.{doubt.field}'} {doubt.text}", LONGEST_CELL)
