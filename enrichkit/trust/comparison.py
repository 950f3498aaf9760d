"""The comparison: what differs between two readings of the same records, and which of two sides is better.

A reading is a store, or a frame kept from `evidence`. What means the same, by the kinds of the fields, does not differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from ..gemini.wire import read_stored
from ..stages.checks import kinds_of_facts, means_the_same
from ..stages.choice import checks_as_stored, stage_as_stored
from ..stages.kinds import BETWEEN
from ..stages.stage import Stage
from ..store.decisions import Decisions, judgements, read_decisions
from ..store.index import RECORD_ID
from ..store.reader import ORIGIN, StoreReader
from ..store.rows import Outcome, meta, read_payload, stage_values
from ..table.arrow import as_text
from ..table.cells import is_missing
from .decisions import store_behind
from .doubts import FACTS, fields, with_pages
from .frames import evidence
from .pages import Names, names_in

Same = Callable[[str, Any, Any], bool]
"""Whether two answers for a column mean the same."""
CELL = [RECORD_ID, "column"]
DECIDED = ("right", "wrong", "value")
"""The decisions that may replace an answer."""
COMPARED = ("stage", "column", "old", "new", "why", "old_state", "new_state", "old_pages", "new_pages")


class Reading(NamedTuple):
    """Answers, a row each as `evidence` has them: of a store, or in a frame that was kept from one."""

    cells: pd.DataFrame
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
    return changes_between(_before(after) if new is None else read_cells(old), after)


def changes_between(before: Reading, after: Reading) -> pd.DataFrame:
    """Return what differs between two readings, as `changes` does."""
    same = sameness([reader for reader in (before.reader, after.reader) if reader is not None])
    then = before.cells[[*CELL, "answer", "state", "pages"]]
    then = then.set_axis([*CELL, "old", "old_state", "old_pages"], axis="columns")
    now = after.cells.rename(columns={"answer": "new", "state": "new_state", "pages": "new_pages"})
    cells = now.merge(then, on=CELL)
    values = zip(cells["column"], cells["old"], cells["new"], strict=True)
    differs = pd.Series([not same(*each) for each in values], index=cells.index, dtype=bool)
    cells = cells[differs].reset_index(drop=True)
    cells["why"] = pd.Series(_why(cells, before, after), dtype=object)
    key = after.reader.key if after.reader else after.cells.attrs.get(ORIGIN, {}).get("key", [])
    listed = cells[[RECORD_ID, *key, *COMPARED]]
    listed.attrs[ORIGIN] = {"key": list(key), "written": ["old", "new", "old_pages", "new_pages"]}
    return listed


def read_cells(source: str | Path | pd.DataFrame) -> Reading:
    """Return a store's answers, or a frame's; of a stage that failed, all are missing."""
    if isinstance(source, pd.DataFrame):
        if lacking := {*CELL, "stage", "answer", "state", "pages"} - {*source.columns}:
            raise InputError(
                "This frame has no {lacking}: give a store's folder, or a frame that trust.evidence has returned.",
                lacking=", ".join(sorted(lacking)),
            )
        return Reading(_as_decided(source, source.get("cell")))
    reader = StoreReader(source, warn=False)
    cells = evidence(source)
    known = set(zip(cells[RECORD_ID], cells["stage"], strict=True))
    failed = [
        {name: row[name] for name in (RECORD_ID, *reader.key)}
        | {"stage": stage, "column": column, "state": "failed", "answer": None, "pages": []}
        for row in reader.facts(["status"], [RECORD_ID, *reader.key]).to_pylist()
        for stage, columns in reader.answers.items()
        if row[meta(stage, "status")] == "failed" and (row[RECORD_ID], stage) not in known
        for column in columns
    ]
    cells = pd.concat([cells, pd.DataFrame(failed)], ignore_index=True) if failed else cells
    if cells["decision"].isin(DECIDED).any():
        rows = {row[RECORD_ID]: row for row in reader.rows([RECORD_ID, *{*cells["column"]}]).to_pylist()}
        held = [rows[record][column] for record, column in zip(cells[RECORD_ID], cells["column"], strict=True)]
        stands = [None if is_missing(cell) else as_text(cell) for cell in held]
        return Reading(_as_decided(cells, pd.Series(stands, cells.index, dtype=object), *DECIDED), reader)
    return Reading(cells, reader)


def _as_decided(cells: pd.DataFrame, stands: pd.Series[Any] | None, *verdicts: str) -> pd.DataFrame:
    """Return answers with what ``stands`` in place of those that a person decided, and what they ``said`` before."""
    if stands is None or "decision" not in cells:
        return cells
    replaced = cells["decision"].isin(verdicts or ("wrong", "value"))
    return cells.assign(said=cells["answer"], answer=cells["answer"].mask(replaced, stands), replaced=replaced)


def _before(after: Reading) -> Reading:
    """Return the answers that were in a store before its newest ones, as far as these are different replies."""
    if (reader := after.reader) is None:
        raise InputError("One frame alone has no earlier answers. Give a store's folder, or two readings.")
    given = {*reader.given, *(column for columns in reader.answers.values() for column in columns)}
    rows: list[dict[str, Any]] = []
    asked: dict[str, Stage] = {}
    facts = [meta(stage, fact) for stage in reader.answers for fact in (*FACTS, "replies")]
    known = reader.facts(["filled"], [RECORD_ID, *reader.given])
    names = names_in(known, reader)
    places = {record: place for place, record in enumerate(known.column(RECORD_ID).to_pylist())}
    for _, table in reader.each_shard([RECORD_ID, *given, *facts]):
        for stage in [stage for stage in reader.answers if meta(stage, "replies") in table.column_names]:
            several = pc.greater(pc.list_value_length(table.column(meta(stage, "replies"))), 1)
            for row in table.filter(pc.fill_null(several, False)).to_pylist():
                if stage not in asked:
                    kinds = kinds_of_facts(reader.stages[stage])
                    asked[stage] = stage_as_stored(stage, reader.answers[stage], table.schema, kinds)
                rows += _earlier(row, asked[stage], given, names, places[row[RECORD_ID]])
    columns = [*CELL, "answer", "state", "pages"]
    cells = pd.DataFrame(rows, columns=columns)
    if "replaced" in after.cells:
        said = after.cells[after.cells["replaced"]].assign(answer=lambda decided: decided["said"])
        cells = pd.concat([cells, said[columns]], ignore_index=True).drop_duplicates(CELL)
    return Reading(cells, reader)


def _earlier(
    row: Mapping[str, Any], stage: Stage, given: Collection[str], names: Names, place: int
) -> Iterator[dict[str, Any]]:
    """Yield what a row's answer before the newest says otherwise, as the fields of `evidence`."""
    read = [read_payload(stage, payload, {}) for payload in row[meta(stage.name, "replies")]]
    answered = [reply for reply in read if reply.answer is not None]
    own = {name: row.get(name) for name in given} | dict.fromkeys(row.get(meta(stage.name, "filled")) or ())
    both = []
    for reply in answered[-2:]:
        values = stage_values(stage, Outcome("", reply, (), None), own)
        both.append([with_pages(field, names, place) for field in fields({**row, **values}, stage.name, stage.answers)])
    for then, now in zip(*both, strict=True) if len(both) == 2 else ():
        if then["answer"] != now["answer"]:
            yield {RECORD_ID: row[RECORD_ID]} | then


def sameness(readers: Iterable[StoreReader]) -> Same:
    """Return what tells whether two answers mean the same, by the kinds that these stores tell of."""
    known = {
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
    old, new = (_replies(reading.reader, cells) for reading in (before, after))
    kept = before.cells.attrs.get(ORIGIN, {}).get("at", "")
    why = []
    decided = cells.get("replaced", [False] * len(cells))
    for record, stage, is_decided in zip(cells[RECORD_ID], cells["stage"], decided, strict=True):
        newest = (new.get((record, stage)) or [b""])[-1]
        if is_decided:
            why.append("decided")
        elif not newest or not (before.reader or kept):
            why.append("asked again or read anew")
        elif before.reader is None:
            why.append("read anew" if read_stored(newest)[1].get("at", "") < kept else "asked again")
        else:
            known = before.reader is not after.reader and newest in old.get((record, stage), ())
            why.append("read anew" if known else "asked again")
    return why


def _replies(reader: StoreReader | None, cells: pd.DataFrame) -> dict[tuple[str, str], list[bytes]]:
    """Return the stored replies behind some cells, by record and stage."""
    if reader is None or cells.empty:
        return {}
    wanted, stages = pa.array(cells[RECORD_ID].unique(), pa.string()), list(reader.answers)
    return {
        (row[RECORD_ID], stage): row.get(meta(stage, "replies")) or []
        for _, table in reader.each_shard([RECORD_ID, *(meta(stage, "replies") for stage in stages)])
        for row in table.filter(pc.is_in(table.column(RECORD_ID), value_set=wanted)).to_pylist()
        for stage in stages
    }


def in_turn(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `changes` in the order in which they are to be judged: one of a record before a second.

    Beyond that it is as good as chance, and always the same.
    """
    places = pd.Series([_digest(*each) for each in zip(*(cells[name] for name in CELL), strict=True)], cells.index)
    turn = places.groupby(cells[RECORD_ID]).rank(method="first")
    records = cells[RECORD_ID].map(_digest)
    order = pd.DataFrame({"turn": turn, "record": records}).sort_values(["turn", "record"], kind="stable").index
    return cells.loc[order].reset_index(drop=True)


def _digest(*texts: str) -> str:
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()


def to_choose(out: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `changes` that nobody has judged, in turn, with their values unnamed and in random order."""
    both = in_turn(with_both_labels(cells, store_behind(out, cells), Decisions(read_decisions(out))))
    left = both[both[["old_label", "new_label"]].isna().any(axis="columns")].reset_index(drop=True)
    listed = left.drop(columns=[*COMPARED[2:], "old_label", "new_label"], errors="ignore")
    swapped = [int(_digest("unnamed", *cell), 16) % 2 == 0 for cell in zip(*(left[name] for name in CELL), strict=True)]
    for names, values in ((("first", "second"), ("old", "new")), (("first_pages", "second_pages"), COMPARED[7:])):
        for name, own, other in zip(names, values, values[::-1], strict=True):
            listed[name] = left[own].where(~pd.Series(swapped, left.index, dtype=bool), left[other])
    return listed.assign(verdict="")


def with_labels(cells: pd.DataFrame, reader: StoreReader, decisions: Decisions) -> pd.DataFrame:
    """Return answers with the ``label`` that decisions give to each: right, wrong, unsure, or missing.

    An answer that nobody has judged is wrong where another one is known to be right.
    """
    table = reader.rows({RECORD_ID, *decisions.needs(reader.answers, apply=False)}, decided=False)
    judgement_of = {
        (row[RECORD_ID], column): judgement
        for row in decisions.over(table, reader.answers, apply=False).to_pylist()
        for stage, columns in reader.answers.items()
        for column, judgement in judgements(row, stage, columns).items()
    }
    labels = []
    for record, column, answer in zip(cells[RECORD_ID], cells["column"], cells["answer"], strict=True):
        judgement = judgement_of.get((record, column))
        verdict = None if judgement is None else judgement.of(None if is_missing(answer) else answer)
        labels.append(verdict or ("wrong" if judgement and judgement.value is not None else None))
    return cells.assign(label=pd.Series(labels, index=cells.index, dtype=object))


def with_both_labels(cells: pd.DataFrame, reader: StoreReader, decisions: Decisions) -> pd.DataFrame:
    """Return the rows of `changes` with the labels of both values."""
    old, new = (with_labels(cells.assign(answer=cells[name]), reader, decisions)["label"] for name in ("old", "new"))
    return cells.assign(old_label=old, new_label=new)
