"""The checkup: what looks odd about a table before anything is asked, one sentence each, with row numbers.

Pure and free, like the plan that shows it. It refuses to change or to forbid anything: a table that looks odd may be
right, so these are notes, never errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..formatting import many, rows_told
from ..stages.answer import NOTHING
from ..stages.stage import LONGEST_VALUE
from ..table.arrow import has_value, is_true
from ..table.cells import column_texts
from .plan import RunPlan
from .questions import StageQuestions

NOTES_TOLD = 10
"""So many sentences of one sort; the rest is counted."""
LONGEST_EXAMPLE = 40

PLACEHOLDERS = sorted(
    {*NOTHING, "nil", "nan", "n.a.", "not applicable", "tbd", "tba", "?", "--", "---", "–", "—", "#n/a"} - {""}
)
CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{80}-\x{9f}]"
"""Line breaks and tabs are no fault: tables have them, and prompts get a blank instead."""

EMAIL = r"^[^\s/@]+@[^\s/@]+\.[^\s/@]+"
ADDRESS = r"(?i)^(https?://|www\.)\S|^([a-z0-9-]+\.)+[a-z]{2,}/\S"
HOST = r"(?i)^([\pL\pN_-]+\.)+\pL{2,}([:/?#]\S*)?$"
"""A web address without a scheme. It is none where names are due: a firm may be called Acme.vc."""
PHONE = r"^[+(]?\d[\d\s().+/-]{6,}"
HANDLE = r"^\S*[/@\d_-]\S*$"
"""A page named by its last part only."""

WEB, MAIL, NUMBER, WORDS = "a web address", "an email address", "a phone number", "words"
KINDS = {
    "email": "email mail",
    "site": "website homepage",
    "page": "linkedin crunchbase",
    "address": "url link web",
    "phone": "phone telephone tel mobile fax",
    "name": "country city region name title",
}
ENDINGS = {ending: kind for kind, endings in KINDS.items() for ending in endings.split()}
MISPLACED = {
    "email": {WEB, NUMBER, WORDS},
    "site": {MAIL, NUMBER, WORDS},
    "page": {MAIL, NUMBER, WORDS},
    "address": {MAIL, NUMBER, WORDS},
    "phone": {WEB, MAIL, WORDS},
    "name": {WEB, MAIL},
}
DUE = {"email": MAIL, "site": "a website", "page": "a page's address", "address": WEB, "phone": NUMBER, "name": WORDS}

Mask = npt.NDArray[np.bool_]
Texts: TypeAlias = pa.Array | pa.ChunkedArray


def checkup(work: RunPlan) -> list[str]:
    """Return a sentence for each thing that looks odd about a table, as long as anything of it is to be asked."""
    notes = list(repeated_rows(work))
    if not len(work.order):
        return notes
    notes += empty_rows(work)
    asked = {name for stage in work.stages for name in (*stage.stage.reads, *stage.stage.answers)}
    moved: list[str] = []
    odd: list[str] = []
    for field in work.table.schema:
        if pa.types.is_string(field.type):
            texts = pc.utf8_trim_whitespace(work.table.column(field.name))
            moved += shifted(field.name, texts, work.frame.index)
            odd += odd_values(field.name, texts, work.frame.index, asked=field.name in asked)
    notes += [*_few(moved), *_few(odd)]
    return notes + [note for stage in work.stages for note in _few(two_in_one(work, stage), "group")]


def repeated_rows(work: RunPlan) -> Iterator[str]:
    """Yield a sentence where rows are one record with an earlier row."""
    repeats = work.record >= 0
    repeats[work.row] = False
    if len(again := np.flatnonzero(repeats)):
        rows = many(len(again), "row repeats", "rows repeat")
        yield f"{rows} the key of an earlier row, one record each: {rows_told(again, work.frame.index)}."


def empty_rows(work: RunPlan) -> Iterator[str]:
    """Yield a sentence where rows hold nothing but their key."""
    others = [name for name in work.table.column_names if name not in work.key]
    filled = work.record < 0
    for name in others:
        filled |= has_value(work.table.column(name))
    empty = np.flatnonzero(~filled) if others else ()
    if len(empty):
        told = rows_told(empty, work.frame.index)
        yield f"Nothing but the key is filled in {told}: answers to so little are often wrong or empty."


def shifted(name: str, texts: Texts, index: pd.Index[Any] | None = None) -> Iterator[str]:
    """Yield a sentence for each sort of value that belongs into another column, going by the column's name.

    >>> list(shifted("fund.website", pa.array(["acme.example", "Norway", None])))
    ["fund.website holds words where a website is due in row 2, such as 'Norway': columns may be shifted."]
    """
    ending = re.split(r"[\W_]+", name.lower())[-1]
    kind = ENDINGS.get(ending)
    if kind is None:
        return
    left = has_value(texts) & ~_placeholder(texts)
    found: dict[str, Mask] = {}
    for what, pattern in ((MAIL, EMAIL), (WEB, ADDRESS), (WEB, HOST), (NUMBER, PHONE)):
        if pattern == HOST and kind == "name":
            continue
        matches = left & _matches(texts, pattern)
        found[what] = found.get(what, False) | matches
        left &= ~matches
    found[WORDS] = left & ~_matches(texts, r"\d" if kind == "phone" else HANDLE if kind == "page" else r"^$")
    wrong = {what: mask for what, mask in found.items() if what in MISPLACED[kind]}
    if kind == "site":
        wrong["a LinkedIn or Crunchbase page"] = found[WEB] & _matches(texts, r"(?i)\b(linkedin|crunchbase)\.com/")
    if kind == "page":
        wrong["another site's address"] = found[WEB] & ~_matches(texts, rf"(?i)\b{ending}\.")
    for what, mask in wrong.items():
        if mask.any():
            rows = np.flatnonzero(mask)
            due = "an address on its site" if what == "another site's address" else DUE[kind]
            due = f"{due} {'are' if due == WORDS else 'is'} due"
            yield (
                f"{name} holds {what} where {due} in {rows_told(rows, index)}, such as {_example(texts, rows)}: "
                "columns may be shifted."
            )


def odd_values(name: str, texts: Texts, index: pd.Index[Any] | None = None, *, asked: bool) -> Iterator[str]:
    """Yield a sentence for each sort of odd value; some matter only in columns that a stage reads or fills.

    >>> list(odd_values("city", pa.array(["Oslo", "N/A"]), asked=True))
    ["city says 'N/A' in row 2, which counts as a value: empty such cells to have them filled in."]
    """
    control = np.flatnonzero(_matches(texts, CONTROL))
    if len(control):
        yield f"{name} holds control characters in {rows_told(control, index)}, such as {_example(texts, control)}."
    if not asked:
        return
    long = np.flatnonzero(is_true(pc.greater(pc.utf8_length(texts), LONGEST_VALUE)))
    if len(long):
        yield f"{name} is cut to its first {LONGEST_VALUE:,} characters in the prompt, in {rows_told(long, index)}."
    nothing = np.flatnonzero(_placeholder(texts))
    if len(nothing):
        yield (
            f"{name} says {_example(texts, nothing)} in {rows_told(nothing, index)}, which counts as a value: empty "
            "such cells to have them filled in."
        )


def two_in_one(work: RunPlan, stage: StageQuestions) -> Iterator[str]:
    """Yield a sentence where records that are to share a question differ in what the prompt says of them.

    Two spellings of a country are no second firm; so at least two columns must differ from the group's first
    values, and more than agree.
    """
    hints = [name for name in stage.stage.reads if name in work.frame.columns and name not in stage.per]
    records = np.flatnonzero(stage.code >= 0)
    groups = stage.code[records]
    rows = work.row[records]
    agree, differ = np.zeros(len(rows), np.int16), np.zeros(len(rows), np.int16)
    told: dict[str, Mask] = {}
    for name in hints if len(stage.questions) < len(records) else ():
        texts = column_texts(work.frame[name].iloc[rows], ignore_case=True)
        values = np.where(pc.equal(texts, ""), -1, texts.dictionary_encode().indices)
        filled = np.flatnonzero(values >= 0)
        first = np.full(len(stage.questions), -1)
        first[groups[filled][::-1]] = values[filled][::-1]
        other = filled[values[filled] != first[groups[filled]]]
        agree[filled] += 1
        agree[other] -= 1
        differ[other] += 1
        told[name] = np.zeros(len(rows), bool)
        told[name][other] = True
    for place in np.flatnonzero((differ > 1) & (differ > agree)):
        about = ", ".join(repr(str(work.frame[name].iloc[rows[place]])) for name in stage.per)
        another = ", ".join(name for name, mask in told.items() if mask[place])
        row = rows_told(rows[[place]], work.frame.index)
        yield (
            f"{stage.stage.name}: {about} may be two that share a name, asked about as one: {row} has another "
            f"{another}. To part them, name them differently, or give the stage more columns in 'per'."
        )


def _few(notes: Iterable[str], kind: str = "note") -> Iterator[str]:
    """Yield the first notes, and how many more there are."""
    more = 0
    for place, note in enumerate(notes):
        if place < NOTES_TOLD:
            yield note
        else:
            more += 1
    if more:
        yield f"There {'is' if more == 1 else 'are'} {many(more, f'more {kind}')} of this kind."


def _example(texts: Texts, rows: npt.NDArray[np.integer]) -> str:
    text = str(texts[int(rows[0])].as_py())
    return repr(text if len(text) <= LONGEST_EXAMPLE else text[:LONGEST_EXAMPLE] + "…")


def _matches(texts: Texts, pattern: str) -> Mask:
    return is_true(pc.match_substring_regex(texts, pattern))


def _placeholder(texts: Texts) -> Mask:
    return is_true(pc.is_in(pc.utf8_lower(texts), value_set=pa.array(PLACEHOLDERS)))
