"""The plan of a run: records, stages and a store become what is done, shared, changed and still to ask.

Pure and free: no network, no key, nothing written. Arrays throughout, so that a million pending records cost
megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from ..errors import ChangedError, InputError, StageError
from ..formatting import Sentence, joined, many
from ..stages import funds
from ..stages.stage import Stage, arrange
from ..store.index import Index
from ..store.rows import meta
from ..table.arrow import is_true
from ..table.cells import column_texts
from .questions import OnChange, StageQuestions
from .records import Records, run_columns

FIX_KEY = Sentence("fill in the key where it is missing, or drop such rows; until then {run} refuses the table")
FIX_FILLED = Sentence("give the table as it was before the earlier run; until then {run} refuses it")
RESTORE = Sentence("Restore it, or give {redo_damaged_on}.")
FIX_CHANGE = Sentence("give {redo} or {keep}, or another {out}; until then {run} refuses the call")


@dataclass(kw_only=True)
class RunPlan(Records):
    """Everything a run needs to know: the records with something to do, and what each stage has to do.

    ``order`` has these records only.
    """

    model: str
    stages: list[StageQuestions]
    shards: npt.NDArray[np.int32]
    """The shard of each record, -1 where it is not sealed."""
    later: int
    """How many records have something to do, and are left for a later call."""
    changed: str
    """Which stored answers belong to another question, in words, if that is to be refused."""
    filled: str
    """Which answers of an earlier run the table has in its cells and would be asked for again, in words."""
    notes: list[str]

    @property
    def to_ask(self) -> int:
        """Different questions without a final reply."""
        return sum(questions.to_ask for questions in self.stages)

    @property
    def fix_first(self) -> str:
        """What to do first, if a run would refuse the call."""
        return FIX_KEY if self.keyless else FIX_CHANGE if self.changed else FIX_FILLED if self.filled else ""

    def check(self) -> None:
        """Raise for what a run is refused for, although a plan can be shown."""
        Records.check(self)
        if self.changed:
            raise ChangedError("{changed} {plan} shows the price.", changed=self.changed)
        if self.filled:
            raise InputError("{filled}", filled=self.filled)


def choose_stages(stages: Sequence[str | Stage], frame: pd.DataFrame) -> list[Stage]:
    """Return stages given by name or as such, in an order that works for the table's columns."""
    if not isinstance(frame, pd.DataFrame):
        raise InputError("Give a pandas DataFrame, not {kind}.", kind=type(frame).__name__)
    if isinstance(stages, str | Stage) or not isinstance(stages, Sequence):
        raise StageError("{stages} must be a sequence: stages=({names!r},).", names=stages)
    chosen = []
    for stage in stages:
        if not isinstance(stage, Stage) and not (isinstance(stage, str) and stage in funds.STAGES):
            raise StageError(
                "There is no stage {stage!r}. Built in: {names}; or give a Stage{in_python}.",
                stage=stage,
                names=", ".join(funds.STAGES),
            )
        chosen.append(stage if isinstance(stage, Stage) else funds.STAGES[stage])
    return arrange(chosen, [str(name) for name in frame.columns])


def check_store_fits(
    index: Index, out: Path, *, stages: Sequence[Stage], key: tuple[str, ...], simulated: bool | None
) -> None:
    """Refuse a store that was filled under another key, by the simulator or not, or with other stages' answers.

    ``simulated`` says whether the simulator answers, as far as that is known beforehand.
    """
    for facts in index.footers.values():
        if tuple(facts.get("key", key)) != key:
            raise InputError(
                "The store {store} identifies records by {names}, this call by {other_key}. "
                "Choose another {out}, or give the same key.",
                store=out,
                names=", ".join(facts["key"]),
                other_key=", ".join(key),
            )
        if simulated is not None and facts.get("simulated") not in (None, simulated):
            kinds = ("real", "simulated") if simulated else ("simulated", "real")
            raise InputError(
                "The store {store} holds {held} answers; {new} ones never mix with them. Choose another {out}.",
                store=out,
                held=kinds[0],
                new=kinds[1],
            )
    for stage in stages:
        for name, columns in index.answers.items():
            both = sorted(stage.answers.keys() & set(columns)) if name != stage.name else ()
            if both:
                raise StageError(
                    "Stage {name!r} writes the column {both!r}, which holds the answers of "
                    "stage {other!r} in {store}. Give it another 'columns', or choose another "
                    "{out}.",
                    name=stage.name,
                    both=both[0],
                    other=name,
                    store=out,
                )


def make_run_plan(
    records: Records,
    index: Index,
    *,
    out: Path,
    stages: Sequence[Stage],
    model: str,
    on_change: OnChange,
    retry_failed: bool | Literal["only"],
    limit: int | None,
) -> RunPlan:
    """Return what is to do, by what is stored."""
    places = index.rows_of(records.ids)
    first = records.first
    questions: list[StageQuestions] = []
    for stage in stages:
        questions.append(
            StageQuestions(
                stage,
                first,
                index,
                places,
                before=questions,
                key=records.key,
                model=model,
                on_change=on_change,
                retry_failed=retry_failed,
            )
        )
    todo = np.logical_or.reduce([places < 0, *(stage.needs for stage in questions)])
    order = records.order[todo[records.order]]
    failed = np.logical_or.reduce([stage.has_failed for stage in questions])
    wanted = order[failed[order]] if retry_failed == "only" else order
    chosen = wanted[:limit]
    left_out = np.setdiff1d(order, chosen)
    for asked in questions:
        asked.leave_out(left_out)
    left = [
        *_left(len(order) - len(wanted), Sentence("{retry_failed_only}")),
        *_left(len(wanted) - len(chosen), Sentence("{limit}={most}", most=limit)),
    ]
    changed = _changed(questions, out) if on_change == "refuse" else ""
    filled = "" if changed else "".join(_filled_before(first, stage) for stage in questions).rstrip()
    shards = index.shards[np.maximum(places, 0)] if len(index.shards) else np.full(len(places), -1, np.int32)
    return RunPlan(
        **{name: getattr(records, name) for name in ("frame", "key", "record", "row", "ids", "keyless")},
        table=records.table.drop_columns(list(run_columns(index.stages) & set(records.table.column_names))),
        order=chosen,
        model=model,
        stages=questions,
        shards=np.where(places >= 0, shards, -1).astype(np.int32),
        later=len(order) - len(chosen),
        changed=changed,
        filled=filled,
        notes=[*_notes(records.keyless, changed, stages, index), *[filled] * bool(filled), *left],
    )


def _left(count: int, setting: Sentence) -> Iterator[str]:
    """Yield how many records a setting leaves for a later call, if any."""
    if count:
        records = many(count, "record is", "records are")
        yield Sentence("{records} left for a later call ({setting}).", records=records, setting=setting)


def _notes(keyless: str, changed: str, stages: Sequence[Stage], index: Index) -> Iterator[str]:
    """Yield what else is to be known of what is to do, a sentence each."""
    if keyless:
        yield f"{keyless} Until then run refuses this table; the plan is for its other rows."
    if changed:
        yield changed
    if again := sum(_read_otherwise(stage, index) for stage in stages):
        answers = many(again, "stored answer")
        yield f"{answers} will be read again, at no cost: types, checks or columns changed."
    for path in index.damaged:
        yield joined([f"The shard {path} is damaged: its records count as not asked.", RESTORE])


def _read_otherwise(stage: Stage, index: Index) -> int:
    """Return how many stored answers of a stage were read in another way than it reads them now."""
    held = {shard: facts.get("stages", {}).get(stage.name, {}) for shard, facts in index.footers.items()}
    shards = [shard for shard, facts in held.items() if facts.get("reading", stage.reading) != stage.reading]
    asked = is_true(pc.is_valid(index.column(meta(stage.name, "question"))))
    return int((asked & np.isin(index.shards, shards)).sum())


def _changed(stages: Sequence[StageQuestions], out: Path) -> str:
    """Return which stored answers belong to another question, and what to do; empty if none do."""
    counts = [stage.counts for stage in stages]
    changed = "; ".join(f"{count.name}: {many(count.changed, 'stored answer')}" for count in counts if count.changed)
    if not changed:
        return ""
    return Sentence(
        "The question has changed ({changed}) since {store} was filled: its prompt, fields, model, search, settings or "
        "what it is about. {redo} asks them again and pays for it, {keep} keeps the old answers and asks the rest the "
        "new way, another {out} starts afresh.",
        changed=changed,
        store=out,
    )


def _filled_before(first: pd.DataFrame, questions: StageQuestions) -> str:
    """Return what to say of a table with a stage's earlier answers in its cells, if that stage is asked about them.

    Cells that are filled count as the user's: the new answers would be paid for, and not be seen.
    """
    name = meta(questions.stage.name, "status")
    if name not in first.columns:
        return ""
    asked = (questions.code >= 0) & ~questions.known[questions.code]
    count = int((asked & is_true(pc.equal(column_texts(first[name]), "done"))).sum())
    if not count:
        return ""
    return (
        f"The table has answers of an earlier run in its cells ({name!r} is 'done'), and {count:,} of them would be "
        "asked, and paid, again, without being replaced. Give the table as it was before that run; or drop the column "
        f"{name!r}, if these values are to stay and only what is empty is to be filled in. "
    )
