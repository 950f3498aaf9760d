"""The comparison: what differs between two readings of the same records, and which of two sides is better.

A reading is a store, or a frame kept from `evidence`. What means the same, by the kinds of the fields, does not differ.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.compute as pc

from ..errors import InputError
from ..gemini.wire import read_stored
from ..reading.answer import Check
from ..stages.checks import kinds_of_facts, means_the_same
from ..stages.choice import checks_as_stored, stage_as_stored
from ..stages.funds import STAGES
from ..stages.kinds import BETWEEN
from ..store.decisions import shown
from ..store.index import RECORD_ID
from ..store.reader import ORIGIN, StoreReader
from ..store.rows import Outcome, meta, read_payload, stage_values
from ..table.arrow import as_text
from ..table.cells import is_missing
from .decisions import store_behind, unguarded
from .doubts import fields, read_answers, with_pages
from .frames import evidence_of

CELL = [RECORD_ID, "column"]
COMPARED = ("stage", "column", "old", "new", "why", "old_state", "new_state", "old_pages", "new_pages")


class Reading(NamedTuple):
    """Answers, a row each as `evidence` has them: of a store, or in a frame that was kept from one.

    ``came`` are the answers before anybody decided.
    """

    cells: pd.DataFrame
    came: pd.Series[Any]
    reader: StoreReader | None = None


def changes(old: str | Path | pd.DataFrame, new: str | Path | pd.DataFrame | None = None) -> pd.DataFrame:
    """Return what differs between two readings of the same records, a row per value.

    Parameters
    ----------
    old : str, Path or DataFrame
        A store's folder, or a frame kept from `evidence`.
    new : str, Path or DataFrame, optional
        The other reading: another store, the same one later, a side of a trial. Without it, ``old`` is a store, whose
        newest answers are compared with those before.

    Returns
    -------
    DataFrame
        ``_record_id``, the key columns, ``stage``, ``column``, ``old`` and ``new`` (as text; missing where there is
        no value), ``why`` ("asked again", "read anew" or "decided"), and the state and pages of both: ``old_state``,
        ``new_state`` (also ``failed``), ``old_pages``, ``new_pages``. Records and columns that only one of them has
        are left out, and so is what means the same.

    Raises
    ------
    InputError
        If a frame is none that `evidence` returned, or there is but one.
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> kept = enrichkit.trust.evidence(out)
    >>> kept.loc[kept["column"] == "fund.city", "answer"] = "Bergen"
    >>> enrichkit.trust.changes(kept, out)[["column", "old", "why"]].values.tolist()
    [['fund.city', 'Bergen', 'read anew']]
    """
    after = read_cells(old if new is None else new)
    before = _before(after) if new is None else read_cells(old)
    pairs = paired(before, after)
    cells = pairs[~pairs["_same"]].reset_index(drop=True)
    cells["why"] = pd.Series(_why(cells, before, after), dtype=object)
    origin = after.cells.attrs.get(ORIGIN) or before.cells.attrs.get(ORIGIN, {})  # a frame from a file has none
    key = [name for name in origin.get("key", []) if name in cells.columns]
    listed = cells[[RECORD_ID, *key, *COMPARED]]
    listed.attrs[ORIGIN] = {"key": list(key), "written": ["old", "new", "old_pages", "new_pages"]}
    return listed


def paired(before: Reading, after: Reading) -> pd.DataFrame:
    """Return the answers that two readings both have, as ``old`` and ``new``, and whether they mean the same."""
    names = {"answer": "new", "state": "new_state", "pages": "new_pages", "decision": "new_decision"}
    then = {name: new.replace("new", "old") for name, new in names.items()}
    old = before.cells.reindex(columns=[*CELL, *names]).rename(columns=then)
    cells = after.cells.assign(_came=after.came).rename(columns=names).merge(old, on=CELL)
    same = sameness([reading.reader for reading in (before, after) if reading.reader])
    values = zip(cells["column"], cells["old"], cells["new"], strict=True)
    return cells.assign(_same=pd.Series([same(*each) for each in values], cells.index, dtype=bool))


def read_cells(source: str | Path | pd.DataFrame, *, decided: bool = True) -> Reading:
    """Return a store's answers, or a frame's, as they were ``decided`` or came; of a stage that failed, none."""
    if isinstance(source, pd.DataFrame):
        reader, cells = None, _kept(source)
    else:
        reader = StoreReader(source, warn=False)
        cells = _with_failed(reader)
    decision, came = cells["decision"], cells["answer"].astype(object)
    of_a_person = decision.isin(["wrong", "value"]) | (decision.eq("right") & came.isna())
    return Reading(cells.assign(answer=came.mask(of_a_person & decided, cells["cell"])), came, reader)


def _kept(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame that was kept from `evidence`, perhaps in a file, which may have made numbers of texts."""
    if lacking := {*CELL, "stage", "answer", "state", "pages"} - {*frame.columns}:
        raise InputError(
            "This frame has no {lacking}: give a store's folder, or a frame that trust.evidence has returned.",
            lacking=", ".join(sorted(lacking)),
        )
    once = frame.loc[:, ~frame.columns.duplicated()].drop_duplicates(CELL)
    cells = once.reindex(columns=once.columns.union(["cell", "decision"], sort=False))
    for name in ("answer", "cell"):
        texts = [None if is_missing(cell) else unguarded(as_text(cell)) for cell in cells[name]]
        cells[name] = pd.Series(texts, cells.index, dtype=object)
    return cells.assign(**{RECORD_ID: cells[RECORD_ID].astype(str)})


def _with_failed(reader: StoreReader) -> pd.DataFrame:
    """Return a store's evidence, and each field of the stages that failed and left none."""
    cells = evidence_of(reader)
    key = dict(zip(cells.attrs[ORIGIN]["key"], reader.key, strict=True))
    known = set(zip(cells[RECORD_ID], cells["stage"], strict=True))
    failed = [
        {name: row[own] for name, own in {RECORD_ID: RECORD_ID, **key}.items()}
        | {"stage": stage, "column": column, "state": "failed", "answer": None, "pages": []}
        | ({"decision": judged[column].of(None), "cell": shown(judged[column].value or "")} if column in judged else {})
        for row in reader.facts(["status", "decisions"], [RECORD_ID, *reader.key], decided=False).to_pylist()
        for stage, columns in reader.answers.items()
        if row[meta(stage, "status")] == "failed" and (row[RECORD_ID], stage) not in known
        for judged in [reader.decisions.judgements(row, stage)]
        for column in columns
    ]
    both = pd.concat([cells, pd.DataFrame(failed)], ignore_index=True) if failed else cells
    both.attrs = cells.attrs
    return both


def _before(after: Reading) -> Reading:
    """Return the answers that were in a store before its newest ones, and before anybody decided."""
    if (reader := after.reader) is None:
        raise InputError("One frame alone has no earlier answers. Give a store's folder, or two readings.")
    came = after.cells.assign(answer=after.came)
    earlier = pd.DataFrame(_earlier(reader), columns=came.columns)
    cells = pd.concat([earlier, came], ignore_index=True) if len(earlier) else came
    cells = cells.drop_duplicates(CELL, ignore_index=True)
    return Reading(cells, cells["answer"], reader)


def _earlier(reader: StoreReader) -> Iterator[dict[str, Any]]:
    """Yield what the reply before the newest says otherwise, as the fields of `evidence`: both are read alike."""
    table, names = read_answers(reader, ["filled"])
    places = {
        record: place for place, record in enumerate(table.column(RECORD_ID).to_pylist() if table.num_rows else ())
    }
    for _, table in reader.each_shard():
        for name, columns in reader.answers.items():
            if (replies := meta(name, "replies")) not in table.column_names:
                continue
            stage = stage_as_stored(name, columns, table.schema, kinds_of_facts(reader.stages[name]))
            several = pc.fill_null(pc.greater(pc.list_value_length(table.column(replies)), 1), False)
            for row in table.filter(several).to_pylist():
                own = row | dict.fromkeys(row[meta(name, "filled")] or ())
                read = [
                    reply for reply in (read_payload(stage, payload, {}) for payload in row[replies]) if reply.answer
                ]
                both = [fields(stage_values(stage, Outcome("", reply, (), None), own), name, columns) for reply in read]
                for then, now in zip(*both[-2:], strict=True) if len(both) > 1 else ():
                    if then["answer"] != now["answer"]:
                        yield {RECORD_ID: row[RECORD_ID]} | with_pages(then, names, places[row[RECORD_ID]])


def sameness(readers: Iterable[StoreReader]) -> Callable[[str, Any, Any], bool]:
    """Return what tells whether two answers mean the same, by the kinds that stores tell of, or those built in."""
    built_in = {column: (field, each.checks) for each in STAGES.values() for column, field in each.answers.items()}
    known: Mapping[str, tuple[str, Sequence[Check]]] = built_in | {
        column: (field, checks_as_stored(stage, columns, kinds_of_facts(reader.stages[stage])))
        for reader in readers
        for stage, columns in reader.answers.items()
        for column, field in columns.items()
    }

    def same(column: str, own: Any, other: Any) -> bool:
        if is_missing(own) or is_missing(other):
            return is_missing(own) and is_missing(other)
        if own == other:
            return True
        field, checks = known.get(column, (column, ()))
        ways = (means_the_same(checks, field, *pair) for pair in ((own, other), (other, own)))
        # A kind takes one of several for the same; here that is a loss.
        counts = {len(list(filter(str.strip, BETWEEN.split(text)))) for text in (own, other)}
        return any(ways) if len(counts) == 1 else all(ways)

    return same


def _why(cells: pd.DataFrame, before: Reading, after: Reading) -> list[str]:
    """Return why each of these cells has another answer now."""
    kept = before.cells.attrs.get(ORIGIN, {}).get("at", "")
    old, new = (
        {row[RECORD_ID]: row for row in reading.reader.rows_of(cells[RECORD_ID]).to_pylist()}
        if reading.reader and len(cells)
        else {}
        for reading in (before, after)
    )

    def why(record: str, stage: str, value: Any, came: Any) -> str:
        newest = (new.get(record, {}).get(meta(stage, "replies")) or [b""])[-1]
        if value != came and not (is_missing(value) and is_missing(came)):
            return "decided"
        if not newest or not (before.reader or kept):
            return "asked again or read anew"
        if before.reader is None:
            known = read_stored(newest)[1].get("at", "") < kept
        else:
            replies = old.get(record, {}).get(meta(stage, "replies")) or ()
            known = before.reader is not after.reader and newest in replies
        return "read anew" if known else "asked again"

    return list(map(why, cells[RECORD_ID], cells["stage"], cells["new"], cells["_came"]))


def in_turn(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `changes` in the order in which they are to be judged: one of a record before a second.

    Beyond that it is as good as chance, and always the same.
    """
    turns, order = Counter[str](), []
    digests = [(_digest(*cell), cell[0]) for cell in cells[CELL].itertuples(index=False, name=None)]
    for place in sorted(range(len(cells)), key=digests.__getitem__):
        record = digests[place][1]
        order.append((turns[record], _digest(record), place))
        turns[record] += 1
    return cells.iloc[[place for *_, place in sorted(order)]].reset_index(drop=True)


def _digest(*texts: str) -> str:
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()


def to_choose(out: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `changes` that nobody has judged, in turn, with their values unnamed and in random order."""
    reader = store_behind(out, cells)
    judged = {
        (row[RECORD_ID], column): judgement
        for row in reader.facts(["decisions"], [RECORD_ID], decided=False).to_pylist()
        for stage in reader.answers
        for column, judgement in reader.decisions.judgements(row, stage).items()
    }

    def is_open(record: str, column: str, *values: Any) -> bool:
        judgement = judged.get((record, column))
        known = judgement and (judgement.value or all(judgement.of(None if is_missing(x) else x) for x in values))
        return not known

    left = in_turn(cells[[is_open(*cell) for cell in cells[[*CELL, "old", "new"]].itertuples(index=False, name=None)]])
    listed = left.drop(columns=[*COMPARED[2:]], errors="ignore")
    swapped = pd.Series([int(_digest("unnamed", *cell), 16) % 2 == 0 for cell in left[CELL].itertuples(index=False)])
    for name, own, other in (("", "old", "new"), ("_pages", "old_pages", "new_pages")):
        listed[f"first{name}"] = left[own].where(~swapped.astype(bool), left[other])
        listed[f"second{name}"] = left[other].where(~swapped.astype(bool), left[own])
    return listed.assign(verdict="")
