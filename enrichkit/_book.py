"""The book: what a run knows of each question and record, from reply to sealed row.

One writer turns its pages. It keeps each question's outcome for as long as a record needs it, makes a record's row
when its last question is answered, and seals rows as shards. Everything it knows can be made again from the store.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._exchange import SIMULATOR
from ._price import Price
from ._queue import Task, steps_left
from ._record import ids
from ._row import RECORD_ID, STATUS, Outcome, build_table, meta, read_outcome, record_status, stage_types, stage_values
from ._store import FOOTER, VERSION, Store, footer
from ._table import as_type, is_missing_cell, wider
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
    prices : mapping
        The user's own prices.
    shard_rows : int
        Rows of a new shard.
    run_id : str
        Goes into the shards' footers.
    """

    def __init__(self, work: Work, store: Store, *, prices: Mapping[str, Price], shard_rows: int, run_id: str) -> None:
        self.work = work
        self.store = store
        self._prices = prices
        self._shard_rows = shard_rows
        self.schema = target_schema(work, store, run_id)
        self._layout = layout(self.schema)
        self._outcomes: dict[Task, Outcome] = {}
        self._payer: dict[Task, str] = {}
        self._needed = [np.diff(stage.start) for stage in work.stages]
        self._left = steps_left(work)
        self._unsealed: list[tuple[int, Row]] = []
        self._changed: dict[int, list[tuple[int, Row]]] = {}
        shards = work.shards[work.order]
        self._expected = dict(zip(*np.unique(shards[shards >= 0], return_counts=True), strict=True))
        self._stored_shard = functools.lru_cache(maxsize=16)(self._read_shard)

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
            tasks = {stage.questions[code]: (place, int(code)) for code in codes[codes >= 0]}
            wanted = [question for question, task in tasks.items() if task not in self._outcomes]
            for question, (payer, replies) in self.store.sealed_replies(stage.stage.name, wanted).items():
                if question not in self.store.index.pending:
                    self._payer[tasks[question]] = payer
                    self._outcomes[tasks[question]] = read_outcome(stage.stage, question, replies, self._prices)

    def earlier(self, task: Task) -> list[bytes]:
        """Return the stored replies of a question, oldest first."""
        stage = self.work.stages[task[0]]
        question = stage.questions[task[1]]
        sealed = self.store.sealed_replies(stage.stage.name, [question]).get(question)
        if sealed is not None:
            self._payer[task] = sealed[0]
        pending = [entry.payload for entry in list(self.store.index.pending.get(question, ()))]
        replies = sealed[1] if sealed is not None else []
        return [*replies, *(payload for payload in pending if payload not in replies)]

    def outcome(self, task: Task) -> Outcome | None:
        """Return what is known of a question, from memory or from the store; None if it has no final reply."""
        if task not in self._outcomes:
            stage = self.work.stages[task[0]]
            payloads = self.earlier(task)
            if not payloads:
                return None
            self._outcomes[task] = read_outcome(stage.stage, stage.questions[task[1]], payloads, self._prices)
        return self._outcomes[task]

    def learn(self, task: Task, outcome: Outcome | None) -> list[int]:
        """Take note of a question's final outcome (None: skipped); return the records that are complete by it."""
        if outcome is not None:
            self._outcomes[task] = outcome
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
            cells = self._cells(int(record), missing)
            for name in missing:
                if not is_missing_cell(cells.get(name)):
                    values[name] = cells[name]
        return values

    def _cells(self, record: int, names: Sequence[str]) -> Row:
        """Return a record's cells: the table's own, else what the store has, else what this run has found."""
        cells = self.work.values(record, names)
        lacking = [name for name in names if is_missing_cell(cells.get(name))]
        if lacking and self.work.shards[record] >= 0:
            stored = self._stored_row(record)
            # What a stage filled in is no hint for the same stage asked anew: it would only confirm itself.
            redone = [stage.stage.name for stage in self.work.stages if stage.code[record] >= 0]
            own = {column for name in redone for column in stored.get(meta(name, "filled")) or ()}
            cells |= {name: stored.get(name) for name in lacking if name not in own}
        for place, stage in enumerate(self.work.stages):
            code = int(stage.code[record])
            for name in set(lacking) & stage.stage.answers.keys() if code >= 0 else ():
                outcome = self._outcomes.get((place, code)) or (
                    self.outcome((place, code)) if stage.known[code] else None
                )
                if outcome is not None and outcome.answer is not None:
                    cells[name] = stage.stage.check(outcome.answer, {})[0][stage.stage.answers[name]]
        return cells

    def row(self, record: int) -> Row:
        """Return a record's row as far as it is known."""
        stored = self._stored_row(record) if self.work.shards[record] >= 0 else {}
        base = dict(stored) or self.work.values(record, self.work.table.column_names)
        for stage in self.work.stages:
            for column in base.get(meta(stage.stage.name, "filled")) or () if stage.code[record] >= 0 else ():
                base[column] = None
        row = {name: value for name, value in base.items() if name in self.schema.names}
        row |= self.work.values(record, self.new_columns) if stored else {}
        row[RECORD_ID] = self.work.ids[record]
        statuses: list[str | None] = []
        for place, stage in enumerate(self.work.stages):
            task = (place, int(stage.code[record]))
            if stage.skipped[record]:
                row |= stage_values(stage.stage, None, row, record_id=row[RECORD_ID], payer=None)
            elif task[1] >= 0 and (outcome := self.outcome(task)) is not None:
                payer = self._payer.setdefault(task, row[RECORD_ID])
                cells = {name: row.get(name) for name in self._visible}
                row |= stage_values(stage.stage, outcome, cells, record_id=row[RECORD_ID], payer=payer)
            statuses.append(row.get(meta(stage.stage.name, "status")))
        row[STATUS] = record_status(statuses)
        return row

    @functools.cached_property
    def _visible(self) -> set[str]:
        """The columns that checks may look at: the table's, and all answers'."""
        return {*self.work.table.column_names, *(name for stage in self.work.stages for name in stage.stage.answers)}

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
        return row

    def seal(self, *, everything: bool = False) -> None:
        """Seal what makes full shards, or everything that is complete."""
        while len(self._unsealed) >= self._shard_rows or (everything and self._unsealed):
            rows = self._unsealed[: self._shard_rows]
            self.store.seal(self._table([row for _, row in rows]), self._questions(rows))
            del self._unsealed[: self._shard_rows]
        for shard, rows in list(self._changed.items()):
            if everything or len(rows) == self._expected[shard]:
                self._reseal(shard, rows)
                del self._changed[shard]

    def widen(self) -> None:
        """Bring the shards that have fewer columns, or narrower ones, to the present schema."""
        for shard, facts in list(self.store.index.footers.items()):
            if facts.get("layout") != self._layout:
                self._reseal(shard, [])

    def unsealed_rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the rows of records that this run knows something about and that are not sealed."""
        yield from self._unsealed
        for rows in self._changed.values():
            yield from rows

    def partial_rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the rows of records some of whose questions are answered."""
        found = {int(record) for task in self._outcomes for record in self.work.stages[task[0]].records(task[1])} & {
            int(record) for record in self.work.order if self._left[record]
        }
        for record in sorted(found):
            yield record, self.row(record)

    def _reseal(self, shard: int, rows: Sequence[tuple[int, Row]]) -> None:
        old = self.store.shard(shard)
        replaced = {row[RECORD_ID]: row for _, row in rows}
        self.store.seal(self._merged(old, replaced), self._questions(rows), shard=shard)

    def _merged(self, old: pa.Table, replaced: Mapping[str, Row]) -> pa.Table:
        """Return a shard's table in the present schema, with some of its rows replaced, in the old order."""
        stored = old.column(RECORD_ID).to_pylist()
        places = {name: place for place, name in enumerate(stored)}
        new = self._table(list(replaced.values()))
        take = pa.array(
            [old.num_rows + list(replaced).index(name) if name in replaced else places[name] for name in stored]
        )
        columns = []
        for field in self.schema:
            if field.name in old.column_names:
                kept = as_type(old.column(field.name).combine_chunks(), field.type)
            else:
                kept = self._new_cells(stored, field)
            kept = kept.combine_chunks() if isinstance(kept, pa.ChunkedArray) else kept
            columns.append(pa.concat_arrays([kept, new.column(field.name).combine_chunks()]).take(take))
        return pa.table(columns, schema=self.schema)

    def _new_cells(self, stored: Sequence[str], field: pa.Field) -> pa.Array:
        """Return the cells of a column that is new in the table, for records sealed before."""
        if field.name not in self.work.table.column_names:
            return pa.nulls(len(stored), field.type)
        rows = [self._place.get(name) for name in stored]
        at = pa.array([None if row is None else int(self.work.row[row]) for row in rows], pa.int64())
        return as_type(self.work.table.column(field.name).combine_chunks().take(at), field.type)

    @functools.cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.work.ids)}

    def _table(self, rows: Sequence[Row]) -> pa.Table:
        return build_table(rows, self.schema, [stage.stage for stage in self.work.stages])

    def _questions(self, rows: Sequence[tuple[int, Row]]) -> set[str]:
        names = [meta(stage.stage.name, "question") for stage in self.work.stages]
        return {row[name] for _, row in rows for name in names if row.get(name)}

    def _stored_row(self, record: int) -> Row:
        return self._stored_shard(int(self.work.shards[record]))[self.work.ids[record]]

    def _read_shard(self, number: int) -> dict[str, Row]:
        return {row[RECORD_ID]: row for row in self.store.shard(number).to_pylist()}


def target_schema(work: Work, store: Store, run_id: str) -> pa.Schema:
    """Return the one schema of the whole store: what it has, the table's columns, the stages' columns, the footer."""
    types: dict[str, pa.DataType] = {field.name: field.type for field in store.index.schema}
    fresh: dict[str, pa.DataType] = {RECORD_ID: pa.string(), STATUS: pa.string()}
    stage_columns: dict[str, pa.DataType] = {}
    for stage in work.stages:
        stage_columns |= stage_types(stage.stage, work.table.schema)
    for field in work.table.schema:
        fresh[field.name] = field.type
    fresh |= stage_columns
    for name, kind in fresh.items():
        types[name] = wider(types[name], kind) if name in types else kind
    facts = footer(store.index.schema)
    stages = facts.get("stages", {}) | {
        stage.stage.name: {"question": stage.fingerprint, "reading": stage.stage.reading} for stage in work.stages
    }
    schema = pa.schema(list(types.items()))
    facts |= {
        "version": VERSION,
        "key": list(work.key),
        "stages": stages,
        "simulated": work.model == SIMULATOR,
        "run": run_id,
        "layout": layout(schema),
    }
    return schema.with_metadata({FOOTER: json.dumps(facts).encode()})


def layout(schema: pa.Schema) -> str:
    """Return a short name for a schema's columns and types, to tell shards that lack some."""
    return ids([("layout", ["\n".join(f"{field.name} {field.type}" for field in schema)])])[0]
