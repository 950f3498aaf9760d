"""The book: what a run knows of each question and record, from reply to complete row.

One writer turns its pages. It keeps each question's outcome for as long as a record needs it, and makes a record's row
when its last question is answered. Everything it knows can be made again from the store.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..messages import SIMULATOR, question_of
from ..planning.plan import RunPlan
from ..pricing.prices import Price
from ..store.rows import RECORD_ID, STATUS, Outcome, meta, read_outcome, record_status, stage_values
from ..store.store import Store
from ..table.cells import is_missing
from .queue import Task, steps_left
from .shard_writer import Row, ShardWriter


class Recorder:
    """The records of one run on one store, which is open for writing."""

    def __init__(self, work: RunPlan, store: Store, *, prices: Mapping[str, Price], shard_rows: int) -> None:
        self.work = work
        self.store = store
        self._prices = prices
        self._shard_rows = shard_rows
        self.shard_writer = ShardWriter(work, store, shard_rows=shard_rows)
        self._names = frozenset(self.shard_writer.schema.names)
        self._outcomes: dict[Task, Outcome] = {}
        self._needed = [np.diff(stage.start) for stage in work.stages]
        self._left = steps_left(work)
        self.completed = array("i")
        """The records that this run has completed, in their order."""
        self._stored_shard = functools.lru_cache(maxsize=16)(self._read_shard)

    @property
    def simulated(self) -> bool | None:
        """Whether the store holds simulated answers or real ones; None if it has none yet."""
        kinds = [kind for facts in self.store.index.footers.values() if (kind := facts.get("simulated")) is not None]
        return True if self.work.model == SIMULATOR else kinds[0] if kinds else None

    def complete_already(self) -> Iterator[int]:
        """Yield the records that need no question of their own: shared, skipped, or replied to before a kill."""
        records = self.work.order[self._left[self.work.order] == 0]
        for start in range(0, len(records), self._shard_rows):
            some = records[start : start + self._shard_rows]
            self._fetch(some)
            yield from map(int, some)

    def _fetch(self, records: npt.NDArray[np.int32]) -> None:
        """Read the outcomes that records need from the store, a shard at a time rather than one by one."""
        for place, stage in enumerate(self.work.stages):
            codes = np.unique(stage.code[records])
            tasks = {stage.id(code): (place, int(code)) for code in codes[codes >= 0]}
            wanted = [question for question, task in tasks.items() if task not in self._outcomes]
            places = stage.place[[tasks[question][1] for question in wanted]]
            sealed = self.store.sealed_replies(stage.stage.name, wanted, places)
            for question in wanted:
                self._recall(tasks[question], sealed.get(question))

    def earlier(self, task: Task) -> tuple[list[bytes], int]:
        """Return the stored replies to a question, oldest first, and how many of them are booked."""
        return self._replies(self.work.stages[task[0]].id(task[1]), self._sealed(task))

    def _sealed(self, task: Task) -> tuple[str, list[bytes]] | None:
        """Return who paid for a question, and its replies, if it is sealed."""
        stage, question = self.work.stages[task[0]], self.work.stages[task[0]].id(task[1])
        place = stage.place[[task[1]]]
        return None if place < 0 else self.store.sealed_replies(stage.stage.name, [question], place).get(question)

    def _replies(self, question: str, sealed: tuple[str, list[bytes]] | None) -> tuple[list[bytes], int]:
        pending = [entry.payload for entry in list(self.store.index.pending.get(question, ()))]
        if sealed is None:
            return pending, 0
        self.shard_writer.payer.setdefault(question, sealed[0])
        replies = [payload for payload in sealed[1] if question_of(payload) in (None, question)]
        return [*replies, *(payload for payload in pending if payload not in replies)], len(replies)

    def _read(self, task: Task, sealed: tuple[str, list[bytes]] | None) -> Outcome | None:
        """Read a question's outcome from its stored replies."""
        stage = self.work.stages[task[0]]
        question = stage.id(task[1])
        payloads, known = self._replies(question, sealed)
        return read_outcome(stage.stage, question, payloads, self._prices, booked=known) if payloads else None

    def _recall(self, task: Task, sealed: tuple[str, list[bytes]] | None) -> None:
        if (outcome := self._read(task, sealed)) is not None:
            self._keep(task, outcome)

    def _keep(self, task: Task, outcome: Outcome) -> None:
        self._outcomes[task] = outcome
        if outcome.spent is not None:
            self.shard_writer.spent[outcome.question] = outcome.spent

    def outcome(self, task: Task) -> Outcome | None:
        """Return the final outcome of a question, from memory or from the store; None if it has none yet."""
        stage = self.work.stages[task[0]]
        if task not in self._outcomes and stage.known[task[1]]:
            self._recall(task, self._sealed(task))
        return self._outcomes.get(task)

    def learn(self, task: Task, outcome: Outcome | None) -> list[int]:
        """Take note of a question's final outcome (None: skipped); return the records that are complete by it."""
        if outcome is not None:
            self._keep(task, outcome)
        records = self.work.stages[task[0]].records(task[1])
        self._left[records] -= 1
        if outcome is None:
            self.work.stages[task[0]].skipped[records] = True
            self.work.stages[task[0]].code[records] = -1
        return [int(record) for record in records[self._left[records] == 0]]

    def hints(self, task: Task, names: Sequence[str]) -> dict[str, Any]:
        """Return what fills a prompt's braces: cells of the first record that has them, or earlier answers."""
        stage = self.work.stages[task[0]]
        values: dict[str, Any] = {}
        for record in stage.records(task[1])[:50]:
            missing = [name for name in names if name not in values]
            if not missing:
                break
            cells = self._cells(int(record), missing, task[0])
            for name in missing:
                if not is_missing(cells.get(name)):
                    values[name] = cells[name]
        return values

    def _cells(self, record: int, names: Sequence[str], asking: int) -> Row:
        """Return a record's cells: the table's own, else what earlier stages have found, else what the store has.

        What a later stage may have found already does not count: a prompt must not depend on who was quicker.
        """
        cells = self.work.values(record, names)
        lacking = {name for name in names if is_missing(cells.get(name))}
        if not lacking:
            return cells
        stored = self._stored_row(record) if self.work.shards[record] >= 0 else {}
        asked = [(place, stage) for place, stage in enumerate(self.work.stages) if stage.code[record] >= 0]
        # What a stage filled in is no hint for the same stage asked anew: it would only confirm itself.
        for _, stage in asked:
            stored |= dict.fromkeys(stored.get(meta(stage.stage.name, "filled")) or ())
        own = stored or self.work.values(record, self._visible)
        found: Row = {}
        for place, stage in asked:
            wanted = lacking & stage.stage.answers.keys() if place < asking else ()
            task = place, int(stage.code[record])
            outcome = self._outcomes.get(task) if wanted else None
            if wanted and outcome is None and stage.known[task[1]]:
                outcome = self._read(task, self._sealed(task))  # not kept: workers come here, too
            if outcome is not None and outcome.answer is not None:
                values = stage_values(stage.stage, outcome, {name: own.get(name) for name in self._visible})
                found |= {name: values[name] for name in wanted}
        return cells | {name: found.get(name, stored.get(name)) for name in lacking}

    def row(self, record: int) -> Row:
        """Return a record's row as far as it is known, but for what was spent, which is booked at the seal."""
        stored = self._stored_row(record) if self.work.shards[record] >= 0 else {}
        base = dict(stored) or self.work.values(record, self.work.table.column_names)
        row = {name: value for name, value in base.items() if name in self._names}
        row |= self.work.values(record, self.new_columns) if stored else {}
        row[RECORD_ID] = self.work.id(record)
        outcomes = {
            place: outcome
            for place, stage in enumerate(self.work.stages)
            if stage.code[record] >= 0 and (outcome := self.outcome((place, int(stage.code[record])))) is not None
        }
        for place, outcome in outcomes.items():
            name = self.work.stages[place].stage.name
            row |= dict.fromkeys(row.get(meta(name, "filled")) or () if outcome.answer else ())
        for place, stage in enumerate(self.work.stages):
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
        row[STATUS] = self._status(row)
        return row

    @functools.cached_property
    def _visible(self) -> set[str]:
        """The columns that checks may look at: the table's, and all answers'."""
        return {*self.shard_writer.given, *(name for stage in self.work.stages for name in stage.stage.answers)}

    @functools.cached_property
    def new_columns(self) -> list[str]:
        """Columns of the table that the store does not have yet."""
        return [name for name in self.work.table.column_names if name not in self.store.index.schema.names]

    def complete(self, record: int) -> Row:
        """Make a complete record's row and put it up for sealing."""
        row = self.row(record)
        self.shard_writer.add(record, row)
        for place, stage in enumerate(self.work.stages):
            code = int(stage.code[record])
            if code >= 0:
                self._needed[place][code] -= 1
                if not self._needed[place][code]:
                    self._outcomes.pop((place, code), None)
        self.completed.append(record)
        return row

    def completed_rows(self, records: Sequence[int]) -> list[Row]:
        """Return the rows of completed records without the raw replies, from the shards where they are sealed."""
        found = dict(self.shard_writer.unsealed_rows())
        stages = {*self.store.index.stages, *(work.stage.name for work in self.work.stages)}
        raw = {meta(stage, "replies") for stage in stages}
        names = [name for name in self.shard_writer.schema.names if name not in raw]
        by_shard: dict[int, dict[str, int]] = {}
        for record in records:
            if record not in found:
                by_shard.setdefault(int(self.work.shards[record]), {})[self.work.id(record)] = record
        for shard, wanted in by_shard.items():
            table = self.store.shard(shard, names)
            sealed = table.filter(pc.is_in(table.column(RECORD_ID), value_set=pa.array(wanted, pa.string())))
            found |= {wanted[row[RECORD_ID]]: row for row in sealed.to_pylist()}
        # The status in a shard is over all its stages, here as elsewhere over those of this call.
        status = {record: self._status(found[record]) for record in records}
        return [{name: found[record].get(name) for name in names} | {STATUS: status[record]} for record in records]

    def _status(self, row: Row) -> str:
        return record_status([row.get(meta(stage.stage.name, "status")) for stage in self.work.stages])

    def partial_rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the rows of records some of whose questions are answered."""
        found = {int(record) for task in self._outcomes for record in self.work.stages[task[0]].records(task[1])} & {
            int(record) for record in self.work.order if self._left[record]
        }
        for record in sorted(found):
            yield record, self.row(record)

    def _stored_row(self, record: int) -> Row:
        return dict(self._stored_shard(int(self.work.shards[record]))[self.work.id(record)])

    def _read_shard(self, number: int) -> dict[str, Row]:
        return {row[RECORD_ID]: row for row in self.store.shard(number).to_pylist()}
