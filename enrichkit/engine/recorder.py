"""The recorder: what a run knows of each question and record, from reply to complete row.

Only the writer changes it. It keeps each question's outcome for as long as a record needs it, and makes a record's row
when its last question is answered. Everything it knows can be made again from the store.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..planning.plan import RunPlan
from ..planning.questions import CHANGED, issue_of
from ..pricing.prices import Price
from ..store.decisions import undecided
from ..store.index import RECORD_ID
from ..store.rows import STATUS, Outcome, meta, own_replies, read_outcome, record_status, stage_values
from ..store.store import Store
from ..table.cells import is_missing
from .queue import Question, steps_left
from .shard_writer import Row, ShardWriter, schema_of


class Share(NamedTuple):
    """What a store that is one of several parts has in common with the others: the requests a minute, the schema."""

    rpm: Callable[[], float]
    parts: int
    schema: pa.Schema


class Recorder:
    """The records of one run on one store, which is open for writing."""

    def __init__(
        self, plan: RunPlan, store: Store, *, prices: Mapping[str, Price], shard_rows: int, share: Share | None = None
    ) -> None:
        self.plan = plan
        self.store = store
        self._prices = prices
        self._shard_rows = shard_rows
        parts, schema = (share.parts, share.schema) if share else (0, schema_of(plan, store.index))
        self.shard_writer = ShardWriter(plan, store, shard_rows=shard_rows, parts=parts, schema=schema)
        self._names = frozenset(self.shard_writer.schema.names)
        self._outcomes: dict[Question, Outcome] = {}
        self._needed = [np.diff(stage.start) for stage in plan.stages]
        self._left = steps_left(plan)
        self.completed = array("i")
        """The records that this run has completed, in their order."""
        self._stored_shard = functools.lru_cache(maxsize=16)(self._read_shard)

    def complete_already(self) -> Iterator[int]:
        """Yield the records that need no question of their own: shared, skipped, or replied to before a kill."""
        records = self.plan.order[self._left[self.plan.order] == 0]
        for start in range(0, len(records), self._shard_rows):
            some = records[start : start + self._shard_rows]
            # The outcomes that they need, a shard at a time rather than one by one.
            for place, stage in enumerate(self.plan.stages):
                numbers = [int(number) for number in np.unique(stage.code[some]) if number >= 0]
                unread = [number for number in numbers if Question(place, number) not in self._outcomes]
                for question, payloads, recorded in self._stored_replies(place, unread):
                    self._keep(question, self._read(question, payloads, recorded))
            yield from map(int, some)

    def earlier(self, question: Question) -> tuple[list[bytes], int]:
        """Return the stored replies to a question, oldest first, and how many of them a sealed row has recorded."""
        [(_, payloads, recorded)] = self._stored_replies(question.stage, [question.number])
        return payloads, recorded

    def _stored_replies(self, place: int, numbers: Sequence[int]) -> Iterator[tuple[Question, list[bytes], int]]:
        """Yield questions of a stage with their stored replies, and how many of them a sealed row has recorded."""
        stage = self.plan.stages[place]
        question_ids = [stage.id(number) for number in numbers]
        is_sealed = any(stage.place[number] >= 0 for number in numbers)
        sealed = self.store.sealed_replies(stage.stage.name, question_ids, stage.place[numbers]) if is_sealed else {}
        for number, question_id in zip(numbers, question_ids, strict=True):
            replies: list[bytes] = []
            if question_id in sealed:
                payer, in_row = sealed[question_id]
                self.shard_writer.payer.setdefault(question_id, payer)
                replies = own_replies(in_row, question_id)
            pending = [entry.payload for entry in list(self.store.index.pending.get(question_id, ()))]
            unsealed = [payload for payload in pending if payload not in replies]
            yield Question(place, number), [*replies, *unsealed], len(replies)

    def _read(self, question: Question, payloads: Sequence[bytes], recorded: int) -> Outcome | None:
        """Read a question's outcome from its stored replies; None if there are none."""
        stage = self.plan.stages[question.stage]
        question_id = stage.id(question.number)
        return read_outcome(stage.stage, question_id, payloads, self._prices, recorded=recorded) if payloads else None

    def _keep(self, question: Question, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._outcomes[question] = outcome
            if outcome.spent is not None:
                self.shard_writer.spent[outcome.question] = outcome.spent

    def learn(self, question: Question, outcome: Outcome | None) -> list[int]:
        """Take note of a question's final outcome (None: skipped); return the records that are complete by it."""
        self._keep(question, outcome)
        stage = self.plan.stages[question.stage]
        complete = []
        # One by one: for a few records numpy takes longer, and lets go of the interpreter, which has to be waited for.
        for record in stage.records(question.number).tolist():
            self._left[record] -= 1
            if not self._left[record]:
                complete.append(record)
            if outcome is None:
                stage.skipped[record] = True
                stage.code[record] = -1
        return complete

    def hints(self, question: Question, names: Sequence[str]) -> dict[str, Any]:
        """Return what fills a prompt's braces: cells of the first record that has them, or earlier answers."""
        stage = self.plan.stages[question.stage]
        return stage.hints(question.number, names, functools.partial(self._cells, asking=question.stage))

    def _outcome(self, question: Question) -> Outcome | None:
        """Return the final outcome of a question, from memory or from the store; None if it has none yet."""
        if question not in self._outcomes and self.plan.stages[question.stage].known[question.number]:
            self._keep(question, self._read(question, *self.earlier(question)))
        return self._outcomes.get(question)

    def _cells(self, record: int, names: Sequence[str], *, asking: int) -> Row:
        """Return a record's cells: the table's own, else what earlier stages have found, else what the store has.

        What a later stage may have found already does not count: a prompt must not depend on who was quicker.
        """
        cells = self.plan.values(record, names)
        lacking = {name for name in names if is_missing(cells.get(name))}
        if not lacking:
            return cells
        stored = self._stored_row(record) if self.plan.shards[record] >= 0 else {}
        asked = [(place, stage) for place, stage in enumerate(self.plan.stages) if stage.code[record] >= 0]
        # What a stage filled in is no hint for the same stage asked again: it would only confirm itself.
        for _, stage in asked:
            stored |= dict.fromkeys(stored.get(meta(stage.stage.name, "filled")) or ())
        own = stored or self.plan.values(record, self._visible)
        answered: Row = {}
        for place, stage in asked:
            wanted = lacking & stage.stage.answers.keys() if place < asking else ()
            question = Question(place, int(stage.code[record]))
            outcome = self._outcomes.get(question) if wanted else None
            if wanted and outcome is None and stage.known[question.number]:
                outcome = self._read(question, *self.earlier(question))  # not kept: workers come here, too
            if outcome is not None and outcome.answer is not None:
                values = stage_values(stage.stage, outcome, {name: own.get(name) for name in self._visible})
                answered |= {name: values[name] for name in wanted}
        return cells | {name: answered.get(name, stored.get(name)) for name in lacking}

    def _row(self, record: int) -> Row:
        """Return a record's row as far as it is known, but for what was spent, which is recorded at the seal."""
        stored = self._stored_row(record) if self.plan.shards[record] >= 0 else {}
        for stage in self.plan.stages:
            stored |= undecided(stored, stage.stage.name, self.shard_writer.kinds)
        base = dict(stored) or self.plan.values(record, self.plan.table.column_names)
        row = {name: value for name, value in base.items() if name in self._names}
        row |= self.plan.values(record, self._new_columns) if stored else {}
        row[RECORD_ID] = self.plan.id(record)
        outcomes = {
            place: outcome
            for place, stage in enumerate(self.plan.stages)
            if stage.code[record] >= 0
            and (outcome := self._outcome(Question(place, int(stage.code[record])))) is not None
        }
        for place, outcome in outcomes.items():
            stage = self.plan.stages[place]
            if outcome.answer is not None:
                row |= dict.fromkeys(row.get(meta(stage.stage.name, "filled")) or ())
                row |= self.plan.values(record, [name for name, *_ in stage.edits.get(record, ())])
        for place, stage in enumerate(self.plan.stages):
            name = stage.stage.name
            cells = {column: row.get(column) for column in self._visible}
            if stage.skipped[record] and row.get(meta(name, "question")) is None:
                row |= stage_values(stage.stage, None, cells)
            elif place in outcomes:
                held = row.get(meta(name, "replies")) or []
                row |= stage_values(
                    stage.stage, outcomes[place], cells, answered=row.get(meta(name, "filled")) is not None
                )
                new = [payload for payload in outcomes[place].payloads if payload not in held]
                row[meta(name, "replies")] = [*held, *new]
            elif record in stage.edits:
                others = [issue for issue in row.get(meta(name, "issues")) or () if not issue.startswith(CHANGED)]
                row[meta(name, "issues")] = [*others, *map(issue_of, stage.edits[record])]
        row[STATUS] = self._status(row)
        return row

    @functools.cached_property
    def _visible(self) -> set[str]:
        """The columns that checks may look at: the table's, and all answers'."""
        return {*self.shard_writer.given, *(name for stage in self.plan.stages for name in stage.stage.answers)}

    @functools.cached_property
    def _new_columns(self) -> list[str]:
        """Columns of the table that the store does not have yet."""
        return [name for name in self.plan.table.column_names if name not in self.store.index.schema.names]

    def complete(self, record: int) -> Row:
        """Make a complete record's row and put it up for sealing."""
        row = self._row(record)
        self.shard_writer.add(record, row)
        for place, stage in enumerate(self.plan.stages):
            code = int(stage.code[record])
            if code >= 0:
                self._needed[place][code] -= 1
                if not self._needed[place][code]:
                    self._outcomes.pop(Question(place, code), None)
        self.completed.append(record)
        return row

    def unsealed(self) -> tuple[list[Row], pa.Schema]:
        """Return the complete rows that are in no shard yet, and the schema of the next one."""
        return [row for _, row in self.shard_writer.unsealed_rows()], self.shard_writer.schema

    def completed_rows(self, records: Sequence[int], own_names: Mapping[str, str]) -> list[Row]:
        """Return the rows of completed records without the raw replies, from the shards where they are sealed.

        Columns that the user's table calls otherwise have these names.
        """
        rows = dict(self.shard_writer.unsealed_rows())
        stages = {*self.store.index.stages, *(questions.stage.name for questions in self.plan.stages)}
        raw = {meta(stage, "replies") for stage in stages}
        names = [name for name in self.shard_writer.schema.names if name not in raw]
        by_shard: dict[int, dict[str, int]] = {}
        for record in records:
            if record not in rows:
                by_shard.setdefault(int(self.plan.shards[record]), {})[self.plan.id(record)] = record
        for shard, wanted in by_shard.items():
            table = self.store.shard(shard, names)
            sealed = table.filter(pc.is_in(table.column(RECORD_ID), value_set=pa.array(wanted, pa.string())))
            rows |= {wanted[row[RECORD_ID]]: row for row in sealed.to_pylist()}
        # The status in a shard is over all its stages, here as elsewhere over those of this call.
        status = {record: self._status(rows[record]) for record in records}
        shown = {name: own_names.get(name, name) for name in names}
        cells = [{own: rows[record].get(name) for name, own in shown.items()} for record in records]
        return [row | {STATUS: status[record]} for record, row in zip(records, cells, strict=True)]

    def _status(self, row: Row) -> str:
        return record_status([row.get(meta(stage.stage.name, "status")) for stage in self.plan.stages])

    def _stored_row(self, record: int) -> Row:
        return dict(self._stored_shard(int(self.plan.shards[record]))[self.plan.id(record)])

    def _read_shard(self, number: int) -> dict[str, Row]:
        return {row[RECORD_ID]: row for row in self.store.shard(number).to_pylist()}
