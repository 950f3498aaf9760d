"""The checkup: what looks odd about a table before anything is asked, one sentence each, with row numbers.

Pure and free, like the plan that shows it. It never changes or forbids anything: a table that looks odd may be right,
so these are notes, not errors.
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

from ..formatting import Sentence, joined, many, rows_told
from ..reading.wording import NOTHING
from ..stages.stage import LONGEST_VALUE
from ..table.arrow import has_value, is_true
from .identity import codes
from .plan import RunPlan
from .questions import StageQuestions

MOST_NOTES = 10
"""The most sentences of one kind; the others are counted."""
LONGEST_EXAMPLE = 40
TO_PART_THEM = Sentence("To part them, name them differently, or give the stage more columns in 'per'{in_python}.")

PLACEHOLDERS = sorted({*NOTHING, "n.a.", "?", "-", "--", "---", "–", "—", "#n/a"} - {""})
CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{80}-\x{9f}]"
"""Line breaks and tabs are fine: tables have them, and prompts get a blank instead."""

EMAIL = r"^[^\s/@]+@[^\s/@]+\.[^\s/@]+"
ADDRESS = r"^(https?://|www\.)\S|^([a-z0-9-]+\.)+[a-z]{2,}/\S"
HOST = r"^([\pL\pN_-]+\.)+\pL{2,}([:/?#]\S*)?$"
"""A web address without a scheme. It does not count where names are due: a firm may be called Acme.vc."""
PROFILE = r"\b(linkedin|crunchbase)\.com/"
SLUG = r"^\S*[/\d_-]\S*$"
"""The last part of a page's address."""
KINDS = (
    ("email mail", "an email address is", EMAIL, "://"),
    ("website homepage", "a website is", f"{ADDRESS}|{HOST}", PROFILE),
    ("linkedin crunchbase url link web", "a page's address is", f"{ADDRESS}|{HOST}|{SLUG}", EMAIL),
    ("phone telephone tel mobile fax", "a phone number is", r"\d", f"{ADDRESS}|{HOST}|{EMAIL}"),
    ("country city region name title", "words are", ".", f"{ADDRESS}|{EMAIL}"),
)
"""Kinds of columns: how their names end, what is due there, what it matches, and what it does not."""
ENDINGS = {ending: kind for endings, *kind in KINDS for ending in endings.split()}
COUNTS_AS_VALUE = "{name} says {example} in {rows}, which counts as a value: empty such cells to have them filled in."
REPEATS = "row repeats the key of an earlier row, and shares its answers"
REPEAT = "rows repeat the key of an earlier row, and share its answers"

Mask = npt.NDArray[np.bool_]
Texts: TypeAlias = pa.Array | pa.ChunkedArray


def _matches(texts: Texts, pattern: str) -> Mask:
    return is_true(pc.match_substring_regex(texts, pattern, ignore_case=True))


def checkup(run_plan: RunPlan) -> list[str]:
    """Return a sentence for each thing that looks odd about a table, as long as it has open questions."""
    notes = list(repeated_rows(run_plan))
    if not len(run_plan.order):
        return notes
    notes += empty_rows(run_plan)
    asked = {name for stage in run_plan.stages for name in (*stage.stage.reads, *stage.stage.answers)}
    texts = [field.name for field in run_plan.table.schema if pa.types.is_string(field.type)]
    cells = {name: pc.utf8_trim_whitespace(run_plan.table.column(name)) for name in texts}
    notes += _few(
        odd
        for name in texts
        for odd in odd_cells(name, cells[name], run_plan.frame.index, own=run_plan.names.get(name), asked=name in asked)
    )
    return notes + [note for stage in run_plan.stages for note in _few(two_in_one(run_plan, stage), "group")]


def repeated_rows(run_plan: RunPlan) -> Iterator[str]:
    """Yield a sentence where rows have the key of an earlier row."""
    repeats = run_plan.record >= 0
    repeats[run_plan.row] = False
    if len(again := np.flatnonzero(repeats)):
        rows = rows_told(again, run_plan.frame.index)
        yield f"{many(len(again), REPEATS, REPEAT)}: {rows}."


def empty_rows(run_plan: RunPlan) -> Iterator[str]:
    """Yield a sentence where rows hold nothing but their key of what the stages read."""
    read = {name for stage in run_plan.stages for name in stage.stage.reads} - {*run_plan.key}
    others = [name for name in run_plan.table.column_names if name in read]
    filled = np.logical_or.reduce([run_plan.record < 0, *(has_value(run_plan.table.column(name)) for name in others)])
    if others and not filled.all():
        rows = rows_told(np.flatnonzero(~filled), run_plan.frame.index)
        yield f"Of what is sent, only the key is filled in {rows}: answers to so little are often wrong or empty."


def odd_cells(
    name: str, texts: Texts, index: pd.Index[Any] | None = None, *, own: str | None = None, asked: bool = True
) -> Iterator[str]:
    """Yield a sentence for each kind of odd cells in a column, with their rows, and the first as an example.

    Its ``own`` name in the user's table stands there; some kinds matter only where a stage has ``asked`` for it.

    >>> list(odd_cells("fund.website", pa.array(["acme.example", "Norway", "N/A"]), asked=False))
    ["fund.website holds 'Norway' where a website is due, in row 2: columns may be shifted."]
    """
    nothing = is_true(pc.is_in(pc.utf8_lower(texts), value_set=pa.array(PLACEHOLDERS)))
    odd = {"{name} holds control characters in {rows}, such as {example}.": _matches(texts, CONTROL)}
    if kind := ENDINGS.get(re.split(r"[\W_]+", name.lower())[-1]):
        due, fitting, unfitting = kind
        fits = _matches(texts, fitting) & ~_matches(texts, unfitting)
        shifted = f"{{name}} holds {{example}} where {due} due, in {{rows}}: columns may be shifted."
        odd = {shifted: has_value(texts) & ~nothing & ~fits} | odd
    if asked:
        cut = f"{{name}} is cut to its first {LONGEST_VALUE:,} characters in the prompt, in {{rows}}."
        odd |= {cut: is_true(pc.greater(pc.utf8_length(texts), LONGEST_VALUE)), COUNTS_AS_VALUE: nothing}
    for sentence, rows in ((sentence, np.flatnonzero(mask)) for sentence, mask in odd.items() if mask.any()):
        cell = str(texts[int(rows[0])].as_py())
        example = repr(cell if len(cell) <= LONGEST_EXAMPLE else cell[:LONGEST_EXAMPLE] + "…")
        yield sentence.format(name=own or name, rows=rows_told(rows, index), example=example)


def two_in_one(run_plan: RunPlan, questions: StageQuestions) -> Iterator[str]:
    """Yield a sentence where records that share a question differ in what the prompt says about them.

    Two spellings of a country do not make two firms: at least two columns must differ from the group's first values,
    and more columns must differ than agree.
    """
    frame = run_plan.frame
    hints = [name for name in questions.stage.reads if name in frame.columns and name not in questions.per]
    records = np.flatnonzero(questions.code >= 0)
    if not hints or len(questions.questions) >= len(records):
        return
    rows = run_plan.row[records]
    values = pd.DataFrame({name: codes(frame[name].iloc[rows], ignore_case=True) for name in hints})
    first = values.groupby(questions.code[records]).transform("first")
    differs = values.notna() & values.ne(first)
    differing, agreeing = differs.sum(axis="columns"), values.eq(first).sum(axis="columns")
    for place in np.flatnonzero((differing > 1) & (differing > agreeing)):
        about = ", ".join(repr(str(frame[name].iloc[rows[place]])) for name in questions.per)
        another = ", ".join(run_plan.names.get(name, name) for name in hints if differs[name].iloc[place])
        where = rows_told(rows[[place]], frame.index)
        doubt = f"{questions.stage.name}: {about} may be two that share a name, asked about as one"
        yield joined([f"{doubt}: {where} has another {another}.", TO_PART_THEM])


def _few(notes: Iterable[str], kind: str = "note") -> Iterator[str]:
    """Yield the first notes, and how many more there are."""
    notes = list(notes)
    yield from notes[:MOST_NOTES]
    if more := len(notes[MOST_NOTES:]):
        yield f"There {'is' if more == 1 else 'are'} {many(more, f'more {kind}')} of this kind."
