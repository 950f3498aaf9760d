"""The book: what a run knows of each question and record, from reply to sealed row.

One writer turns its pages. It keeps each question's outcome for as long as a record needs it, makes a record's row
when its last question is answered, and seals rows as shards. What a question cost is booked in the first row that is
sealed with it: so it stands in the store once, wherever a crash falls. Everything it knows can be made again from the
store.
"""

from __future__ import annotations

import functools
import json
import uuid
from array import array
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._body import parse
from ._exchange import SIMULATOR, decode, question_of
from ._index import FOOTER, VERSION, find
from ._options import Options
from ._queue import Task, steps_left
from ._row import (
    RECORD_ID,
    STATUS,
    Outcome,
    Spent,
    booked,
    build_table,
    meta,
    read_outcome,
    record_status,
    reply_cost,
    stage_values,
)
from ._schema import given_columns, is_simulated, layout, target_schema
from ._stage import Stage
from ._store import Store
from ._table import as_type, is_missing_cell
from ._work import Work

Row = dict[str, Any]


class Book:
    """The records of one run on one store.

    Parameters
    ----------
    work : Work
        What is to do.
    store : Store
        Open for writing.
    options : Options
        Of them the user's own prices, and the rows of a new shard.
    """

    def __init__(self, work: Work, store: Store, options: Options) -> None:
        self.work = work
        self.store = store
        self._prices = options.prices
        self._shard_rows = options.shard_rows
        self.schema = target_schema(work, store.index)
        self._names = frozenset(self.schema.names)
        self._run_id = uuid.uuid4().hex[:12]
        self._layout = layout(self.schema)
        self._outcomes: dict[Task, Outcome] = {}
        self._spent: dict[str, Spent] = {}
        """What was spent on a question since it was last booked, that is, written into a sealed row."""
        self._payer: dict[str, str] = {}
        self._needed = [np.diff(stage.start) for stage in work.stages]
        self._left = steps_left(work)
        self.completed = array("i")
        """The records that this run has completed, in their order."""
        self._unsealed: list[tuple[int, Row]] = []
        self._growing: tuple[int | None, list[Row]] = None, []
        """The newest shard while it is not full, and its rows: it is sealed again as it grows."""
        self._changed: dict[int, list[tuple[int, Row]]] = {}
        shards = work.shards[work.order]
        self._expected = dict(zip(*np.unique(shards[shards >= 0], return_counts=True), strict=True))
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
        self._payer.setdefault(question, sealed[0])
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
            self._spent[outcome.question] = outcome.spent

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
                if not is_missing_cell(cells.get(name)):
                    values[name] = cells[name]
        return values

    def _cells(self, record: int, names: Sequence[str], asking: int) -> Row:
        """Return a record's cells: the table's own, else what earlier stages have found, else what the store has.

        What a later stage may have found already does not count: a prompt must not depend on who was quicker.
        """
        cells = self.work.values(record, names)
        lacking = {name for name in names if is_missing_cell(cells.get(name))}
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
        return {*self._given, *(name for stage in self.work.stages for name in stage.stage.answers)}

    @functools.cached_property
    def _given(self) -> list[str]:
        """The columns that are the user's, now or when the store was filled."""
        return given_columns(self.work, self.store.index)

    @functools.cached_property
    def new_columns(self) -> list[str]:
        """Columns of the table that the store does not have yet."""
        return [name for name in self.work.table.column_names if name not in self.store.index.schema.names]

    def complete(self, record: int) -> Row:
        """Make a complete record's row and put it up for sealing."""
        row = self.row(record)
        shard = int(self.work.shards[record])
        (self._unsealed if shard < 0 else self._changed.setdefault(shard, [])).append((record, row))
        for place, stage in enumerate(self.work.stages):
            code = int(stage.code[record])
            if code >= 0:
                self._needed[place][code] -= 1
                if not self._needed[place][code]:
                    self._outcomes.pop((place, code), None)
        self.completed.append(record)
        return row

    def seal(self, *, everything: bool = False) -> None:
        """Seal what makes full shards, or everything that is complete."""
        while self._unsealed and (everything or len(self._unsealed) >= self._room):
            some = self._unsealed[: self._room]
            self._grow(some)
            del self._unsealed[: len(some)]
        for shard, rows in list(self._changed.items()):
            if everything or len(rows) == self._expected[shard]:
                self._renew(shard, rows)
                self._expected[shard] -= len(rows)
                del self._changed[shard]

    @property
    def _room(self) -> int:
        """How many rows the growing shard still takes."""
        return self._shard_rows - len(self._growing[1])

    def widen(self) -> None:
        """Bring the shards that have fewer columns, or narrower ones, to the present schema."""
        for shard, facts in list(self.store.index.footers.items()):
            if facts.get("layout") != self._layout:
                self._renew(shard, [])

    @property
    def to_read_anew(self) -> list[int]:
        """The shards whose answers were read in another way than the stages now read theirs."""
        return [shard for shard in self.store.index.footers if self._outdated(shard)]

    def _outdated(self, shard: int) -> list[Stage]:
        held = self.store.index.footers[shard].get("stages", {})
        stages = [work.stage for work in self.work.stages]
        return [stage for stage in stages if held.get(stage.name, {}).get("reading", stage.reading) != stage.reading]

    def read_anew(self) -> None:
        """Read the stored replies of all records again, in the shards where stages are now read in another way."""
        for shard in self.to_read_anew:
            old = self.store.shard(shard)
            rows = {row[RECORD_ID]: row for row in old.to_pylist()}
            for stage in self._outdated(shard):
                for row in rows.values():
                    row.update(self._read_again(stage, row))
            self.store.seal(self._merged(shard, old, rows), (), shard=shard)

    def _read_again(self, stage: Stage, row: Row) -> Row:
        question, status = row.get(meta(stage.name, "question")), row.get(meta(stage.name, "status"))
        held = row.get(meta(stage.name, "replies")) or []
        own = [payload for payload in held if question_of(payload) in (None, question)]
        filled = row.get(meta(stage.name, "filled"))
        if not own or (status == "failed" and filled is not None):
            return {}
        outcome = read_outcome(stage, question or "", own, self._prices, booked=len(own))
        emptied = row | dict.fromkeys(filled or ())
        return dict.fromkeys(filled or ()) | stage_values(
            stage, outcome, {name: emptied.get(name) for name in self._visible}
        )

    def spent_usd(self) -> Decimal | None:
        """Return what all runs on this store have spent, booked or still pending; None if a price was unknown."""
        columns = {meta(stage, fact) for stage in self.store.index.stages for fact in ("cost_usd", "paid_by")}
        total = booked_usd(self.store.sealed(columns))
        if total is None:
            return None
        pending = self.store.index.pending
        for stage in {entries[0].stage for entries in pending.values()}:
            entries = [entry for same in pending.values() for entry in same if entry.stage == stage]
            known = self.store.sealed_replies(stage, list({entry.question for entry in entries}))
            for entry in entries:
                reply, facts = decode(entry.payload, parse)
                if reply.paid and entry.payload not in known.get(entry.question, ("", []))[1]:
                    cost_usd = reply_cost(reply, facts, self._prices)
                    if cost_usd is None:
                        return None
                    total += cost_usd
        return total

    def unsealed_rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the complete rows that are not sealed; whoever takes them before reading the shards misses none."""
        yield from list(self._unsealed)
        for rows in list(self._changed.values()):
            yield from list(rows)

    def completed_rows(self, records: Sequence[int]) -> list[Row]:
        """Return the rows of completed records without the raw replies, from the shards where they are sealed."""
        found = dict(self.unsealed_rows())
        stages = {*self.store.index.stages, *(work.stage.name for work in self.work.stages)}
        raw = {meta(stage, "replies") for stage in stages}
        names = [name for name in self.schema.names if name not in raw]
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

    def _grow(self, rows: Sequence[tuple[int, Row]]) -> None:
        """Seal rows as a new shard, or with those of the shard that is growing."""
        number, held = self._growing
        more, paid = self._booked(rows)
        grown = [*held, *more]
        number = self._seal(self._described(self._table(grown), {}), rows, paid, number)
        self._growing = (number, grown) if len(grown) < self._shard_rows else (None, [])

    def _renew(self, shard: int, rows: Sequence[tuple[int, Row]]) -> None:
        """Seal rows into the shard that holds their records."""
        new, paid = self._booked(rows)
        merged = self._merged(shard, self.store.shard(shard), {row[RECORD_ID]: row for row in new})
        self._seal(merged, rows, paid, shard)

    def _booked(self, rows: Sequence[tuple[int, Row]]) -> tuple[list[Row], dict[str, str]]:
        """Return rows with what their questions have cost since they were last booked; and by question who pays."""
        paid: dict[str, str] = {}
        finished = []
        for record, made in rows:
            row = dict(made)
            for stage in self.work.stages:
                question = row.get(meta(stage.stage.name, "question")) if stage.code[record] >= 0 else None
                if question is None:
                    continue
                spent = None if question in paid else self._spent.get(question)
                if spent is not None or question not in {*paid, *self._payer}:
                    paid[question] = row[RECORD_ID]
                row |= booked(stage.stage.name, row, spent, paid.get(question) or self._payer[question])
            finished.append(row)
        return finished, paid

    def _seal(
        self, table: pa.Table, rows: Sequence[tuple[int, Row]], paid: Mapping[str, str], shard: int | None
    ) -> int:
        """Seal a shard's table with these rows new in it, and take note of who has paid; return its number."""
        number = self.store.seal(table, self._questions(rows), shard=shard)
        self.work.shards[[record for record, _ in rows]] = number
        for question, payer in paid.items():
            self._payer[question] = payer
            self._spent.pop(question, None)
        return number

    def _merged(self, shard: int, old: pa.Table, replaced: Mapping[str, Row]) -> pa.Table:
        """Return a shard's table in the present schema, with some of its rows replaced, in the old order."""
        stored = old.column(RECORD_ID).to_pylist()
        places = {name: place for place, name in enumerate(stored)} | {
            name: old.num_rows + place for place, name in enumerate(replaced)
        }
        new = self._table(list(replaced.values()))
        take = pa.array([places[name] for name in stored])
        columns = []
        for field in self.schema:
            if field.name in old.column_names:
                kept = as_type(old.column(field.name).combine_chunks(), field.type)
            else:
                kept = self._new_cells(stored, field)
            kept = kept.combine_chunks() if isinstance(kept, pa.ChunkedArray) else kept
            columns.append(pa.concat_arrays([kept, new.column(field.name).combine_chunks()]).take(take))
        return self._described(pa.table(columns, schema=self.schema), self.store.index.footers[shard])

    def _new_cells(self, stored: Sequence[str], field: pa.Field) -> pa.Array:
        """Return the cells of a column that is new in the table, for records sealed before."""
        if field.name not in self.work.table.column_names:
            return pa.nulls(len(stored), field.type)
        records = find(stored, self.work.ids)
        at = pa.array(self.work.row[np.maximum(records, 0)], mask=records < 0)
        return as_type(self.work.table.column(field.name).combine_chunks().take(at), field.type)

    def _described(self, table: pa.Table, before: Mapping[str, Any]) -> pa.Table:
        """Return a shard's table with each record's status over all stages of the store, and the footer's facts."""
        names = [work.stage.name for work in self.work.stages]
        stages = dict.fromkeys([*self.store.index.stages, *names])
        statuses = [pc.fill_null(table.column(meta(name, "status")), "pending") for name in stages]
        for name, status in zip(stages, statuses, strict=True):
            table = table.set_column(table.schema.get_field_index(meta(name, "status")), meta(name, "status"), status)
        pending, failed = (
            functools.reduce(pc.or_, [pc.equal(status, word) for status in statuses]) for word in ("pending", "failed")
        )
        status = pc.if_else(pending, "pending", pc.if_else(failed, "failed", "done"))
        table = table.set_column(table.schema.get_field_index(STATUS), STATUS, status)
        facts = {
            "version": VERSION,
            "key": list(self.work.key),
            "columns": self._given,
            "stages": before.get("stages", {})
            | {
                work.stage.name: {
                    "question": work.fingerprint,
                    "reading": work.stage.reading,
                    "answers": list(work.stage.answers),
                    "per": list(work.per),
                }
                for work in self.work.stages
            },
            "simulated": True if self.work.model == SIMULATOR else is_simulated(table, stages),
            "run": self._run_id,
            "layout": self._layout,
        }
        return table.replace_schema_metadata({FOOTER: json.dumps(facts).encode()})

    def _table(self, rows: Sequence[Row]) -> pa.Table:
        return build_table(rows, self.schema, [stage.stage for stage in self.work.stages])

    def _questions(self, rows: Sequence[tuple[int, Row]]) -> set[str]:
        """Return the questions all of whose replies stand in the rows."""
        found = set()
        for record, row in rows:
            for stage in self.work.stages:
                question = row.get(meta(stage.stage.name, "question")) if stage.code[record] >= 0 else None
                replies = row.get(meta(stage.stage.name, "replies")) or []
                if question and all(entry.payload in replies for entry in self.store.index.pending.get(question, ())):
                    found.add(question)
        return found

    def _stored_row(self, record: int) -> Row:
        return dict(self._stored_shard(int(self.work.shards[record]))[self.work.id(record)])

    def _read_shard(self, number: int) -> dict[str, Row]:
        return {row[RECORD_ID]: row for row in self.store.shard(number).to_pylist()}


def booked_usd(rows: pa.Table) -> Decimal | None:
    """Return what the columns of cost of sealed rows add up to; None if a price was unknown."""
    total = Decimal()
    for name in rows.column_names:
        if name.endswith("._cost_usd"):
            cost, payer = rows.column(name), rows.column(name.removesuffix("cost_usd") + "paid_by")
            if pc.any(pc.and_(pc.is_null(cost), pc.is_valid(payer))).as_py():
                return None
            total += sum((Decimal(str(value)) for value in cost.to_pylist() if value), Decimal())
    return total
