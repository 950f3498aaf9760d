"""The work: a table, stages and a store become what is done, shared, changed and still to ask.

Pure and free: no network, no key, nothing written. Arrays throughout, so that a million pending records cost
megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import ChangedError, InputError, StageError
from ..formatting import many, plain, rows_told
from ..stages import funds
from ..stages.stage import Stage, arrange
from ..store.index import Index
from ..store.rows import WHY, facts_of, meta
from ..table.arrow import as_table, is_true
from ..table.cells import Digests, column_texts, digests, group, ids
from .questions import OnChange, QuestionSorter, StagePlan, StageQuestions

SHARD = "shard"
MEND_KEY = "fill in the key where it is missing, or drop such rows; until then enrichkit.run refuses the table"
MEND_FILLED = "give the table as it was before the earlier run; until then enrichkit.run refuses it"
MEND_CHANGE = "give on_change='redo' or on_change='keep', or another 'out'; until then enrichkit.run refuses the call"
Priority = str | Callable[[pd.DataFrame], Sequence[float]] | None


@dataclass(slots=True)
class RunPlan:
    """Everything a run needs to know: the table as Arrow, its records, and what each stage has to do."""

    frame: pd.DataFrame
    table: pa.Table
    key: tuple[str, ...]
    model: str
    record: npt.NDArray[np.int32]
    """Each row's record; -1 in a plan, where a row lacks its key."""
    row: npt.NDArray[np.int32]
    """Each record's first row."""
    ids: pa.StringArray
    stages: list[StageQuestions]
    order: npt.NDArray[np.int32]
    """The records with something to do, most urgent first."""
    shards: npt.NDArray[np.int32]
    """The shard of each record, -1 where it is not sealed."""
    later: int = 0
    """How many records have something to do, and are left out by the limit."""
    notes: list[str] = field(default_factory=list)
    mend: str = ""
    """What to do first, in a plan of a call that a run would refuse."""
    _columns: dict[str, pa.Array | pa.ChunkedArray] = field(init=False, repr=False)
    """The table's columns, each as one array where it is: a cell is read five times as fast."""

    def __post_init__(self) -> None:
        columns = zip(self.table.column_names, self.table.columns, strict=True)
        self._columns = {name: found.chunk(0) if found.num_chunks == 1 else found for name, found in columns}

    def id(self, record: int) -> str:
        """Return a record's id."""
        return str(self.ids[record])

    def values(self, record: int, names: Collection[str]) -> dict[str, Any]:
        """Return some of a record's cells."""
        row = int(self.row[record])
        return {name: self._columns[name][row].as_py() for name in names if name in self._columns}

    @property
    def to_ask(self) -> int:
        """Different questions without a final reply."""
        return sum(int((~work.known).sum()) for work in self.stages)


def choose_stages(stages: Sequence[str | Stage], frame: pd.DataFrame) -> list[Stage]:
    """Return stages given by name or as such, in an order that works for the table's columns."""
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"Give a pandas DataFrame, not {type(frame).__name__}.")
    if isinstance(stages, str | Stage) or not isinstance(stages, Sequence):
        raise StageError(f"stages must be a sequence: stages=({stages!r},).")
    chosen = []
    for stage in stages:
        if not isinstance(stage, Stage) and not (isinstance(stage, str) and stage in funds.STAGES):
            raise StageError(f"There is no stage {stage!r}. Built in: {', '.join(funds.STAGES)}; or give a Stage.")
        chosen.append(stage if isinstance(stage, Stage) else funds.STAGES[stage])
    return arrange(chosen, [str(name) for name in frame.columns])


def choose_key(key: str | Sequence[str] | None, columns: Collection[str]) -> tuple[str, ...]:
    """Return the columns that identify a record."""
    if key is None:
        if funds.KEY[0] not in columns:
            raise InputError(
                f"Which columns identify a record? Give key=..., one or more of: {', '.join(map(str, columns))}."
            )
        return tuple(name for name in funds.KEY if name in columns)
    if not isinstance(key, str | Sequence):
        raise InputError(f"key must be a column's name or several, not {key!r}.")
    names = (key,) if isinstance(key, str) else tuple(key)
    for name in names:
        if name not in columns:
            raise InputError(
                f"The key column {name!r} is not in the table. Its columns: {', '.join(map(str, columns))}."
            )
    if not names:
        raise InputError("key must name at least one column.")
    return names


def record_digests(frame: pd.DataFrame, key: tuple[str, ...]) -> tuple[Digests, npt.NDArray[np.bool_], str]:
    """Return each row's record, its id's digest; which rows lack a key value; and what to say of these."""
    ignore_case = set(key) <= set(funds.KEY)
    texts = {name: column_texts(frame[name], ignore_case=ignore_case) for name in key}
    may_lack = set(funds.KEY[1:]) if ignore_case and funds.KEY[0] in key else set()
    lacking, told = np.zeros(len(frame), bool), ""
    for name in key:
        empty = is_true(pc.equal(texts[name], ""))
        if name not in may_lack and empty.any():
            lacking |= empty
            told += f"The key column {name!r} is empty in {rows_told(np.flatnonzero(empty), frame.index)}. "
    told += "Fill it in, drop such rows, or choose another key." if told else ""
    return digests(list(texts.items())), lacking, told


def record_ids(frame: pd.DataFrame, key: str | Sequence[str] | None) -> list[str]:
    """Return each row's record id."""
    named = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    return list(ids(record_digests(named, choose_key(key, list(named.columns)))[0]).to_pylist())


def make_run_plan(
    frame: pd.DataFrame,
    index: Index,
    *,
    out: Path,
    stages: Sequence[Stage],
    key: str | Sequence[str] | None,
    model: str,
    simulated: bool | None,
    on_change: OnChange,
    retry_failed: bool | Literal["only"],
    limit: int | None,
    priority: Priority,
    refuse: bool,
) -> tuple[RunPlan, list[StagePlan]]:
    """Return what is to do, and the counts that a person sees.

    ``simulated`` says whether the simulator answers, as far as that is known beforehand.

    Raises
    ------
    InputError, StageError
        If the table, the key or a stage cannot be used.
    ChangedError
        If stored answers belong to another question and ``on_change`` is "refuse" (unless ``refuse`` is off, which also
        leaves out the rows that lack their key, with a note, for a plan).
    """
    table, named = _without_reserved(frame, {*index.stages, *(stage.name for stage in stages)})
    names = choose_key(key, list(named.columns))
    _same_store(index, out, names, simulated)
    _one_writer(index, out, stages)
    record, row, unique, keyless = _records(named, names, refuse=refuse)
    places = index.rows_of(unique)
    first = named if len(row) == len(named) else named.iloc[row]
    sorters: list[QuestionSorter] = []
    for stage in stages:
        sorters.append(
            QuestionSorter(
                stage,
                first,
                index,
                places,
                before=sorters,
                key=names,
                model=model,
                on_change=on_change,
                retry_failed=retry_failed,
            )
        )
    todo = np.logical_or.reduce([places < 0, *(sorter.needs for sorter in sorters)])
    order = _order(first, todo, priority, row=row, index=named.index)
    chosen, left = _choose(order, sorters, only_failed=retry_failed == "only", limit=limit)
    left_out = np.setdiff1d(order, chosen)
    for sorter in sorters:
        sorter.leave_out(left_out)
    plans = [sorter.counts() for sorter in sorters]
    changed = _changed(plans, out) if on_change == "refuse" else ""
    if changed and refuse:
        raise ChangedError(f"{changed} enrichkit.plan(...) shows the price.")
    filled = "" if changed else "".join(_filled_before(first, sorter) for sorter in sorters).rstrip()
    if filled and refuse:
        raise InputError(filled)
    shards = index.shards[np.maximum(places, 0)] if len(index.shards) else np.full(len(row), -1, np.int32)
    work = RunPlan(
        frame=frame,
        table=table,
        key=names,
        model=model,
        record=record,
        row=row,
        ids=unique,
        stages=[sorter.work() for sorter in sorters],
        order=chosen,
        shards=np.where(places >= 0, shards, -1).astype(np.int32),
        later=len(left_out),
        notes=[*_notes(index, stages, keyless, changed), *[filled] * bool(filled), *left],
        mend=MEND_KEY if keyless else MEND_CHANGE if changed else MEND_FILLED if filled else "",
    )
    return work, plans


def _choose(
    order: npt.NDArray[np.int32], sorters: Sequence[QuestionSorter], *, only_failed: bool, limit: int | None
) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Return the records of this call, and what to say of those that are left for a later one."""
    chosen = order
    if only_failed:
        chosen = order[np.logical_or.reduce([sorter.has_failed for sorter in sorters])[order]]
    limited = chosen if limit is None else chosen[:limit]
    why = {"retry_failed='only'": len(order) - len(chosen), f"limit={limit}": len(chosen) - len(limited)}
    return limited, [
        f"{many(count, 'record is', 'records are')} left for a later call ({setting})."
        for setting, count in why.items()
        if count
    ]


def _notes(index: Index, stages: Sequence[Stage], keyless: str, changed: str) -> Iterator[str]:
    """Yield what else is to be known of what is to do, a sentence each."""
    if keyless:
        yield f"{keyless} Until then run refuses this table; the plan is for its other rows."
    if changed:
        yield changed
    if anew := sum(_read_otherwise(stage, index) for stage in stages):
        told = many(anew, "stored answer")
        yield f"{told} will be read anew, for nothing: types, checks or columns changed."
    for path in index.damaged:
        yield f"The shard {path} is damaged: its records count as not asked. Restore it, or give redo_damaged=True."


def _without_reserved(frame: pd.DataFrame, stages: Collection[str]) -> tuple[pa.Table, pd.DataFrame]:
    """Return the table as Arrow, without the columns that these stages' facts go into, and with text for names."""
    table = as_table(frame, without=frozenset({WHY, *facts_of(stages)}))
    named = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    if SHARD in named.columns:
        raise InputError(f"A column cannot be named {SHARD!r}: that is what the store's folders are. Rename it.")
    return table, named


def _records(
    named: pd.DataFrame, key: tuple[str, ...], *, refuse: bool
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], pa.StringArray, str]:
    """Return each row's record, each record's first row and id, and what to say of rows that lack their key.

    Such rows are an error, or, without ``refuse``, no record's, unless they are all.
    """
    rows, lacking, keyless = record_digests(named, key)
    if keyless and (refuse or lacking.all()):
        raise InputError(keyless)
    rows = rows[~lacking] if keyless else rows
    record, row = group(rows)
    unique = ids(rows, row)
    if keyless:
        places = np.cumsum(~lacking) - 1
        record = np.where(lacking, -1, record[places]).astype(np.int32)
        row = np.flatnonzero(~lacking)[row].astype(np.int32)
    return record, row, unique, keyless


def _same_store(index: Index, out: Path, key: tuple[str, ...], simulated: bool | None) -> None:
    """Refuse a store that was filled under another key, or by the simulator where this run is real."""
    for facts in index.footers.values():
        if tuple(facts.get("key", key)) != key:
            raise InputError(
                f"The store {out} identifies records by {', '.join(facts['key'])}, this call by {', '.join(key)}. "
                "Choose another 'out', or give the same key."
            )
        if simulated is not None and facts.get("simulated") not in (None, simulated):
            kinds = ("real", "simulated") if simulated else ("simulated", "real")
            raise InputError(
                f"The store {out} holds {kinds[0]} answers; {kinds[1]} ones never mix with them. Choose another 'out'."
            )


def _one_writer(index: Index, out: Path, stages: Sequence[Stage]) -> None:
    """Refuse a stage that writes a column which holds the answers of another one."""
    for stage in stages:
        for name, facts in index.stages.items():
            both = sorted(stage.answers.keys() & set(facts.get("answers", ()))) if name != stage.name else ()
            if both:
                raise StageError(
                    f"Stage {stage.name!r} writes the column {both[0]!r}, which holds the answers of stage {name!r} in "
                    f"{out}. Give it another 'columns', or choose another 'out'."
                )


def _read_otherwise(stage: Stage, index: Index) -> int:
    """Return how many stored answers of a stage were read in another way than it reads them now."""
    held = {shard: facts.get("stages", {}).get(stage.name, {}) for shard, facts in index.footers.items()}
    shards = [shard for shard, facts in held.items() if facts.get("reading", stage.reading) != stage.reading]
    asked = is_true(pc.is_valid(index.column(meta(stage.name, "question"))))
    return int((asked & np.isin(index.shards, shards)).sum())


def _changed(plans: Sequence[StagePlan], out: Path) -> str:
    """Return which stored answers belong to another question, and what to do; nothing if none do."""
    told = "; ".join(f"{plan.name}: {many(plan.changed, 'stored answer')}" for plan in plans if plan.changed)
    return told and (
        f"The question has changed ({told}) since {out} was filled: its prompt, fields, model, search, settings or "
        "what it is about. on_change='redo' asks them again and pays for it, on_change='keep' keeps the old "
        "answers and asks the rest the new way, another 'out' starts afresh."
    )


def _filled_before(first: pd.DataFrame, sorter: QuestionSorter) -> str:
    """Return what to say of a table with a stage's earlier answers in its cells, if that stage is asked about them.

    Cells that are filled count as the user's: the new answers would be paid for, and not be seen.
    """
    name = meta(sorter.stage.name, "status")
    if name not in first.columns:
        return ""
    asked = (sorter.code >= 0) & ~sorter.known[sorter.code]
    count = int((asked & is_true(pc.equal(column_texts(first[name]), "done"))).sum())
    if not count:
        return ""
    return (
        f"The table has answers of an earlier run in its cells ({name!r} is 'done'), and {count:,} of them would be "
        "asked, and paid, again, without being replaced. Give the table as it was before that run; or drop the column "
        f"{name!r}, if these values are to stay and only what is empty is to be filled in. "
    )


def _order(
    frame: pd.DataFrame,
    todo: npt.NDArray[np.bool_],
    priority: Priority,
    *,
    row: npt.NDArray[np.int32],
    index: pd.Index[Any],
) -> npt.NDArray[np.int32]:
    """Return the records with something to do, high priority first, else as the table has them.

    What is missing comes last; what is no number is refused, by its ``row`` in the table with this ``index``.
    """
    order = np.flatnonzero(todo).astype(np.int32)
    if priority is None:
        return order
    if not isinstance(priority, str) and not callable(priority):
        raise InputError(f"priority must be a column's name or a function of the table, not {priority!r}.")
    if isinstance(priority, str) and priority not in frame.columns:
        raise InputError(f"The priority column {priority!r} is not in the table.")
    given = frame[priority] if isinstance(priority, str) else pd.Series(priority(frame))
    numbers = pd.to_numeric(given, errors="coerce").to_numpy(dtype=float)
    if len(numbers) != len(frame):
        raise InputError(f"priority must give one number per record, {len(frame):,} of them, not {len(numbers):,}.")
    lacking = np.flatnonzero(np.isnan(numbers))
    odd = lacking[is_true(pc.not_equal(column_texts(given.iloc[lacking]), ""))]
    if len(odd):
        whose = f"The priority column {priority!r}" if isinstance(priority, str) else "priority"
        what, where = plain(str(given.iloc[odd[0]])), rows_told(row[odd], index)
        raise InputError(f"{whose} must hold numbers, the highest asked first: not {what!r}, in {where}.")
    return order[np.argsort(-np.nan_to_num(numbers[order], nan=-np.inf), kind="stable")]
