"""The plan of a run: what is done, shared, changed and still to be asked, from the records, the stages and the store.

Pure and free of charge: no network, no key, nothing written. Arrays throughout, so that a million pending records cost
megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import ChangedError, InputError, StageError
from ..formatting import Sentence, joined, many
from ..messages import Tier
from ..pricing.prices import Price
from ..stages.stage import Stage
from ..store.index import Index, damaged_error, unseen_in
from ..store.rows import meta, own_replies, read_payload
from ..table.arrow import is_true
from ..table.cells import column_texts
from . import identity
from .questions import OnChange, StageQuestions
from .records import Records, run_columns


@dataclass(kw_only=True)
class RunPlan(Records):
    """Everything that a run needs to know: the records with something to do, and what each stage has to do.

    ``order`` holds only these records.
    """

    model: str
    tier: Tier
    stages: list[StageQuestions]
    shards: npt.NDArray[np.int32]
    """The shard of each record, -1 where it is not sealed."""
    later: int
    """How many records with something to do are left for a later call."""
    changed: str
    """Which stored answers belong to another question, in words, if a run is refused for that."""
    filled: str
    """Which answers in the table's cells come from an earlier run and would be asked for again, in words."""
    contradicted: str
    """Which rows of one record differ in what a question is about, in words; a run refuses such a table."""
    warnings: list[str]
    """What a run says before it begins, although it is not refused for that."""
    notes: list[str]

    @property
    def to_ask(self) -> int:
        """Different questions without a final reply."""
        return sum(questions.to_ask for questions in self.stages)

    def check(self) -> None:
        """Raise an error if a run would be refused although its plan can be shown."""
        Records.check(self)
        if self.contradicted:
            raise InputError("{contradicted}", contradicted=self.contradicted)
        if self.changed:
            raise ChangedError("{changed} {plan} shows the price.", changed=self.changed)
        if self.filled:
            raise InputError("{filled}", filled=self.filled)


def given_columns(plan: RunPlan, index: Index) -> list[str]:
    """Return the columns that are the user's, now or when the store was filled."""
    return list(dict.fromkeys([*index.given, *plan.table.column_names]))


def check_store_fits(index: Index, *, stages: Sequence[Stage], key: tuple[str, ...], simulated: bool | None) -> None:
    """Refuse a store with another key, with simulated answers among real ones, or with another stage's columns.

    ``simulated`` says whether the simulator answers, as far as that is known beforehand.
    """
    store, footers = index.folder, index.footers.values()
    for other_key in {tuple(footer.get("key", key)) for footer in footers} - {key}:
        by = f"{', '.join(other_key)}, this call by {', '.join(key)}"
        raise InputError(
            "The store {store} identifies records by {by}. For another table choose another {out}; for the "
            "same one, give the same key.",
            store=store,
            by=by,
        )
    if simulated is not None and {footer.get("simulated") for footer in footers} - {None, simulated}:
        kinds = "real answers; simulated ones" if simulated else "simulated answers; real ones"
        raise InputError(
            "The store {store} holds {kinds} never mix with them. Choose another {out}.", store=store, kinds=kinds
        )
    for stage in stages:
        for name, columns in index.answers.items():
            if name != stage.name and (both := sorted(stage.answers.keys() & set(columns))):
                answers = f"the answers of stage {name!r} in {store}"
                raise StageError(
                    "Stage {name!r} writes the column {both!r}, which holds {answers}. "
                    "Give it another 'columns', or choose another {out}.",
                    name=stage.name,
                    both=both[0],
                    answers=answers,
                )


def make_run_plan(
    records: Records,
    index: Index,
    *,
    stages: Sequence[Stage],
    model: str,
    tier: Tier,
    on_change: OnChange,
    retry_failed: bool | Literal["only"],
    limit: int | None,
) -> RunPlan:
    """Return what is to be done, judging by what is stored."""
    if retry_failed == "only" and index.empty:
        raise InputError(
            "There is nothing to retry: no store at {store}. Give the {out} of the run.", store=index.folder
        )
    places = index.rows_of(records.ids)
    first = records.first
    settings: dict[str, Any] = {"model": model, "on_change": on_change, "retry_failed": retry_failed}
    settings |= {
        "key": records.key,
        "filled": set().union(*(stage.answers for stage in stages), *index.answers.values()),
    }
    questions: list[StageQuestions] = []
    for stage in stages:
        questions.append(StageQuestions(stage, first, index, places, before=questions, **settings))
    todo = np.logical_or.reduce([places < 0, *(stage.needs for stage in questions)])
    order = records.order[todo[records.order]]
    failed = np.logical_or.reduce([stage.has_failed for stage in questions])
    wanted = order[failed[order]] if retry_failed == "only" else order
    asks = np.logical_or.reduce([stage.code >= 0 for stage in questions])
    chosen = wanted[np.argsort(~asks[wanted], kind="stable")][:limit]
    left_out = np.setdiff1d(order, chosen, assume_unique=True)  # else both are hashed, slowly where they are long
    for asked in questions:
        asked.leave_out(left_out)
    changed = _changed(questions, index.folder) if on_change == "refuse" else ""
    filled = "" if changed else joined(filter(None, (_filled_before(first, stage) for stage in questions)))
    left = {
        Sentence("{retry_failed_only}"): len(order) - len(wanted),
        Sentence("{limit}={most}", most=limit): len(wanted) - len(chosen),
    }
    differing = [(stage, identity.differing(records, stage)) for stage in questions]
    apart = [(stage, cells[cells["asked"]]) for stage, cells in differing]
    contradicted = joined(identity.contradiction(records, stage, cells) for stage, cells in apart if len(cells))
    unread = pd.concat([cells[~cells["asked"]] for _, cells in differing], ignore_index=True)
    warnings = [identity.overlooked(records, unread)] if len(unread) else []
    warnings += [identity.edits_told(records, stage, redo=on_change == "redo") for stage in questions if stage.edits]
    notes = [
        f"{records.keyless} Until then run refuses this table; the plan is for its other rows." * bool(records.keyless),
        contradicted,
        changed,
        *warnings,
        _to_read_again(stages, index),
        *(damaged_error(path).sentence for path in index.damaged),
        *map(joined, index.flaws()),
        unseen_in(index),
        filled,
        *(_left_for_later(count, setting) for setting, count in left.items()),
    ]
    shards = index.shards[np.maximum(places, 0)] if len(index.shards) else np.full(len(places), -1, np.int32)
    return RunPlan(
        **{name: getattr(records, name) for name in ("frame", "names", "key", "record", "row", "ids", "keyless")},
        table=records.table.drop_columns(list(run_columns(index.stages) & set(records.table.column_names))),
        order=chosen,
        model=model,
        tier=tier,
        stages=questions,
        shards=np.where(places >= 0, shards, -1).astype(np.int32),
        later=len(order) - len(chosen),
        changed=changed,
        filled=filled,
        contradicted=contradicted,
        warnings=warnings,
        notes=[note for note in notes if note],
    )


def read_otherwise(footer: Mapping[str, Any], stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages that read an answer differently now than when a shard with this footer was sealed."""
    held = footer.get("stages", {})
    return [stage for stage in stages if held.get(stage.name, {}).get("reading", stage.reading) != stage.reading]


def _to_read_again(stages: Sequence[Stage], index: Index) -> str:
    """Return how many stored answers will be read again, in words; empty if none will be."""
    answers = 0
    for stage in stages:
        asked = is_true(pc.is_valid(index.column(meta(stage.name, "question"))))
        answers += int((asked & _is_outdated(index, stage)).sum())
    again = "will be read again, at no cost: types, checks or columns changed."
    return f"{many(answers, 'stored answer')} {again}" if answers else ""


def _is_outdated(index: Index, stage: Stage) -> npt.NDArray[np.bool_]:
    """Return which rows of a store hold an answer that the stage reads differently now."""
    return np.isin(index.shards, [shard for shard, facts in index.footers.items() if read_otherwise(facts, [stage])])


def read_failed(index: Index, stages: Sequence[Stage], *, retry: bool, prices: Mapping[str, Price]) -> int:
    """Let the failed answers that can be read now count as done in an index; return how many they are.

    These are the ones that are read differently now, with ``retry`` all; and what no row holds yet.
    """

    def can_be_read(stage: Stage, replies: Sequence[bytes]) -> bool:
        return any(read_payload(stage, reply, prices).answer is not None for reply in replies)

    readable = 0
    for stage in stages:
        names = [meta(stage.name, fact) for fact in ("question", "replies")]
        status = index.column(meta(stage.name, "status"))
        failed = is_true(pc.equal(status, "failed")) & (retry | _is_outdated(index, stage))
        read = np.zeros(len(failed), bool)
        for place, cells in index.cells(np.flatnonzero(failed), names):
            question, held = (cells[name] for name in names)
            read[place] = can_be_read(stage, own_replies(held, question))
        index.columns[meta(stage.name, "status")] = pc.if_else(pa.array(read), "done", status)
        readable += int(read.sum())
        for entries in index.pending.values():
            lost = entries[-1].stage == stage.name and all(entry.status != "done" for entry in entries)
            if lost and can_be_read(stage, [entry.payload for entry in entries]):
                entries[-1] = replace(entries[-1], status="done")
                readable += 1
    return readable


def _left_for_later(count: int, setting: Sentence) -> str:
    """Return how many records a setting leaves for a later call, in words; empty if there are none."""
    records = many(count, "record is", "records are")
    left = Sentence("{records} left for a later call ({setting}).", records=records, setting=setting)
    return left if count else ""


def _changed(stages: Sequence[StageQuestions], folder: Path) -> str:
    """Return which stored answers belong to another question, and what to do; empty if none do."""
    outdated = [(stage.stage.name, stage.outdated) for stage in stages if stage.outdated]
    changed = "; ".join(f"{name}: {many(count, 'stored answer')}" for name, count in outdated)
    sentence = Sentence(
        "The question has changed ({changed}) since {store} was filled: its prompt, fields, model, search, settings or "
        "what it is about. {redo} asks them again and pays for it, {keep} keeps the old answers and asks the rest the "
        "new way, another {out} starts afresh.",
        changed=changed,
        store=folder,
    )
    return sentence if changed else ""


def _filled_before(first: pd.DataFrame, questions: StageQuestions) -> str:
    """Return what to say of a table that holds earlier answers of a stage which would be asked for them again.

    Filled cells count as the user's own: the new answers would be paid for and never seen.
    """
    name = meta(questions.stage.name, "status")
    asked = (questions.code >= 0) & ~questions.known[questions.code]
    done = is_true(pc.equal(column_texts(first[name]), "done")) if name in first.columns else False
    count = int((asked & done).sum())
    sentence = Sentence(
        "The table has answers of an earlier run in its cells ({column!r} is 'done'), and {count:,} of them would be "
        "asked, and paid, again, without being replaced. Give the {out} of that run, or the table as it was before it; "
        "or drop the columns '_status' and {column!r}, if these values are to stay and only what is empty is to be "
        "filled in.",
        column=name,
        count=count,
    )
    return sentence if count else ""
