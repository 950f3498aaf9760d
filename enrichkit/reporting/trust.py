"""The review: what a person looks at after a run — each value's evidence, proposed corrections, the weak records."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from ..errors import InputError
from ..stages.grounding import STATES
from ..store.reader import StoreReader, to_frame
from ..store.rows import RECORD_ID, WHY, meta
from ..table.arrow import as_text
from ..table.cells import is_missing
from .quality import read_answers

COLUMNS = ("stage", "column", "state", "answer", "cell", "issues", "sources", "confidence")
DOUBTFUL = {"invalid": 2, "conflict": 1, "unsupported": 1}
"""Points of doubt for each field in such a state."""
LOW = {("confidence", "low"): 4, ("search_quality", "poor"): 4, ("search_quality", "limited"): 1}
"""Points of doubt for what the model says of its own answer."""
FAILED = 10
WEAK_POINTS = 4
"""As many as a low confidence alone, or two fields that failed a check."""


def evidence(out: str | Path = "enriched") -> pd.DataFrame:
    """Return the answered fields of a store, one row each: how far each is backed, and by which pages.

    The state comes from the reply itself, the checks and the table; no page is looked up. It is experimental:
    ``supported`` means that the service ties this value, or a part of it, to a page that its search brought. It does
    not prove that the page says so, nor that the page is right.

    Parameters
    ----------
    out : str or Path
        The store's folder.

    Returns
    -------
    DataFrame
        ``_record_id``, the key columns, ``stage``, ``column``, ``state`` (``supported``; ``unsupported``: the model
        says so, no source does; ``conflict``: differs from the filled cell; ``invalid``: a check failed;
        ``not_found``), ``answer`` (as text; missing where a check emptied it), ``cell`` (what the table has there, if
        that is another value), ``issues``, ``sources`` (addresses), ``confidence`` (of the whole answer).

    Raises
    ------
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"], "fund.city": ["Oslo"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> found = enrichkit.evidence(out)
    >>> found["column"].tolist()[:2], len(found)
    (['fund.linkedin', 'fund.crunchbase'], 6)
    """
    reader = StoreReader(out)
    key = reader.key
    facts = ("status", "confidence", "fields_found", "states", "issues", "corrections", "sources")
    table, stages = read_answers(reader, facts, key)
    rows = [
        {name: row.get(name) for name in (RECORD_ID, *key)} | one
        for row in table.to_pylist()
        for stage, columns in stages.items()
        for one in fields(row, stage, columns)
    ]
    return pd.DataFrame(rows, columns=[RECORD_ID, *key, *COLUMNS])


def fields(row: Mapping[str, Any], stage: str, columns: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield what is known of each field that a stage answered in a row."""
    pages = [source["url"] for source in row.get(meta(stage, "sources")) or ()]
    proposed = {one["column"]: one["answer"] for one in row.get(meta(stage, "corrections")) or ()}
    by_field = {one["field"]: one for one in row.get(meta(stage, "states")) or ()}
    answered = set(row.get(meta(stage, "fields_found")) or ())
    for column in columns:
        field = column.rpartition(".")[2]
        if (one := by_field.get(field)) is None:
            continue
        cell = row.get(column)
        told = None if is_missing(cell) else as_text(cell)
        yield {
            "stage": stage,
            "column": column,
            "state": one["state"],
            "answer": proposed.get(column, told if field in answered else None),
            "cell": told if column in proposed else None,
            "issues": [issue for issue in row.get(meta(stage, "issues")) or () if issue.startswith(f"{field}: ")],
            "sources": [pages[place] for place in one["sources"] if place < len(pages)],
            "confidence": row.get(meta(stage, "confidence")),
        }


def corrections(out: str | Path = "enriched") -> pd.DataFrame:
    """Return what the model would put where the table has another value; nothing of it was written.

    Parameters
    ----------
    out : str or Path
        The store's folder.

    Returns
    -------
    DataFrame
        The key columns, ``column``, ``old``, ``new``, ``sources`` (addresses that back the new value), ``issues``,
        ``confidence`` and ``_record_id``; those with sources first.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"], "fund.linkedin": ["no page"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> enrichkit.corrections(out)[["column", "old"]].values.tolist()
    [['fund.linkedin', 'no page']]
    """
    found = evidence(out)
    key = list(found.columns[1 : -len(COLUMNS)])
    differing = found[found["cell"].notna()].rename(columns={"cell": "old", "answer": "new"})
    backed = differing["sources"].map(len) > 0
    ordered = differing.assign(backed=backed).sort_values("backed", ascending=False, kind="stable", ignore_index=True)
    return ordered[[*key, "column", "old", "new", "sources", "issues", "confidence", RECORD_ID]]


def weak(
    out: str | Path = "enriched", *, stages: Collection[str] | None = None, points: int = WEAK_POINTS
) -> pd.DataFrame:
    """Return the records worth another look, weakest first, ready to be passed to `enrichkit.run`.

    Each failed stage counts 10 points of doubt, a low confidence or a poor search 4, a limited search 1, each field
    that failed a check 2, each that differs from the table 1, each without a source 1, where others have one.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    stages : collection of str, optional
        Look at these stages only.
    points : int
        The fewest points that make a record weak.

    Returns
    -------
    DataFrame
        The table's own columns, without what answers filled in, and ``_why``, which `run` leaves aside.

    Examples
    --------
    Ask about the strategy of the weak ones only, or ask them all again with another model in a store of its own:

    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures", "Tern Fund"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> again = enrichkit.weak(out, points=0)
    >>> len(enrichkit.run(again, model="simulator", stages=["deep"], out=out, progress=False))
    2
    """
    reader = StoreReader(out)
    given = reader.given
    facts = ("status", "error", "confidence", "search_quality", "filled", "states")
    table, found = read_answers(reader, facts, given)
    unknown = sorted(set(stages or ()) - found.keys())
    if isinstance(stages, str) or unknown:
        raise InputError(
            "{stages} must name stages of this store: {names}; not {given!r}.", names=", ".join(found), given=stages
        )
    chosen = [stage for stage in found if stages is None or stage in stages]
    rows = []
    for row in table.to_pylist():
        doubts = [doubt for stage in chosen for doubt in _doubts(row, stage)]
        total = sum(weight for weight, _ in doubts)
        if total >= points:
            filled = {name for stage in found for name in row.get(meta(stage, "filled")) or ()}
            why = "; ".join(told for _, told in sorted(doubts, key=lambda one: -one[0]))
            rows.append((total, row | dict.fromkeys(filled) | {WHY: why}))
    rows.sort(key=lambda one: -one[0])
    own = [table.schema.field(name) for name in given if name in table.column_names]
    schema = pa.schema([*own, pa.field(WHY, pa.string())])
    return to_frame(pa.Table.from_pylist([row for _, row in rows], schema=schema))


def _doubts(row: Mapping[str, Any], stage: str) -> Iterator[tuple[int, str]]:
    """Yield what is doubtful about a stage's answer in a row, each with its points."""
    if row.get(meta(stage, "status")) == "failed":
        yield FAILED, f"{stage} failed: {row.get(meta(stage, 'error'))}"
    for (fact, level), weight in LOW.items():
        if row.get(meta(stage, fact)) == level:
            yield weight, f"{stage}: {level} {fact.replace('_', ' ')}"
    by_state: dict[str, list[str]] = {}
    states = row.get(meta(stage, "states")) or ()
    for one in states:
        by_state.setdefault(one["state"], []).append(one["field"])
    if not any(one["sources"] for one in states):
        by_state.pop("unsupported", None)  # the reply marks nothing, which says nothing of any field
    for state in STATES:
        if state in DOUBTFUL and state in by_state:
            yield DOUBTFUL[state] * len(by_state[state]), f"{stage}: {state} {', '.join(by_state[state])}"
