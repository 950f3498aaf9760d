"""The shard writer: complete rows become shards of one schema, full ones and one that grows.

What a question has cost is recorded in the first row that is sealed with it: so it stands in the store once, wherever a
crash falls. What a row means is no concern of this room.
"""

from __future__ import annotations

import functools
import json
import uuid
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..messages import SIMULATOR
from ..planning.plan import RunPlan, given_columns, read_otherwise
from ..planning.questions import StageQuestions
from ..pricing.prices import Price
from ..stages.checks import kinds_as_facts
from ..stages.stage import Stage
from ..store.decisions import Decisions, decisions_in, undecided
from ..store.index import FOOTER, RECORD_ID, VERSION, Index, find, layout_of
from ..store.rows import (
    STATUS,
    Spent,
    build_table,
    meta,
    own_replies,
    read_outcome,
    stage_types,
    stage_values,
    usage_columns,
)
from ..store.store import Store
from ..table.arrow import as_type, cells_at, is_true, wider

Row = dict[str, Any]


class ShardWriter:
    """The rows of one run on their way into the shards of a store, which is open for writing."""

    def __init__(self, plan: RunPlan, store: Store, *, shard_rows: int, parts: int, schema: pa.Schema) -> None:
        self._plan = plan
        self._store = store
        self._parts = parts
        self._shard_rows = shard_rows
        self._stages = [questions.stage for questions in plan.stages]
        self.given = given_columns(plan, store.index)
        self.schema = schema
        self._run_id = uuid.uuid4().hex[:12]
        self._layout = layout_of(self.schema)
        self.spent: dict[str, Spent] = {}
        """What was spent on a question since that was last recorded in a sealed row."""
        self.payer: dict[str, str] = {}
        """The record that paid for a question."""
        self.sealed = array("i")
        """The records whose rows this run has sealed, in that order."""
        self._unsealed: list[tuple[int, Row]] = []
        self._growing: tuple[int | None, list[Row]] = None, []
        """The newest shard while it is not full, and its rows: it is sealed again as it grows."""
        self._changed: dict[int, list[tuple[int, Row]]] = {}
        self.kinds = dict(zip(self.schema.names, self.schema.types, strict=True))
        self._stage_facts = {questions.stage.name: _stage_facts(questions) for questions in plan.stages}
        self._decisions = self._all_decisions()
        shards = plan.shards[plan.order]
        self._expected = dict(zip(*np.unique(shards[shards >= 0], return_counts=True), strict=True))

    def add(self, record: int, row: Row) -> None:
        """Put a complete record's row up for sealing, as a person decided about it."""
        if self._decisions.all:
            [row] = self._decisions.over(self._table([row])).to_pylist()
        shard = int(self._plan.shards[record])
        (self._unsealed if shard < 0 else self._changed.setdefault(shard, [])).append((record, row))

    def unsealed_rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the complete rows that are not sealed; whoever takes them before reading the shards misses none."""
        for rows in [self._unsealed, *self._changed.values()]:
            yield from list(rows)

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
        for shard, facts in list(self._store.index.footers.items()):
            if facts.get("layout") != self._layout:
                self._renew(shard, [])

    def copy_decisions(self) -> None:
        """Put what a person decided into the rows that lack it, for those who read the shards alone."""
        self._decisions = self._all_decisions()
        needed = self._decisions.needs()
        for shard, table in self._store.index.each_shard(needed) if self._decisions.all else ():
            if self._decisions.over(table) is not table:
                self._renew(shard, [])

    def _all_decisions(self) -> Decisions:
        index, answers = self._store.index, {stage.name: stage.answers for stage in self._stages}
        return Decisions(decisions_in(index), index.stages | self._stage_facts, index.answers | answers)

    def _grow(self, rows: Sequence[tuple[int, Row]]) -> None:
        """Seal rows as a new shard, or with those of the shard that is growing."""
        number, held = self._growing
        more, paid = self._with_usage(rows)
        grown = [*held, *more]
        number = self._seal(self._described(self._table(grown), {}), rows, paid, number)
        self._growing = (number, grown) if len(grown) < self._shard_rows else (None, [])

    def _renew(self, shard: int, rows: Sequence[tuple[int, Row]]) -> None:
        """Seal rows into the shard that holds their records."""
        new, paid = self._with_usage(rows)
        merged = self._merged(shard, self._store.shard(shard), {row[RECORD_ID]: row for row in new})
        self._seal(self._decisions.over(merged), rows, paid, shard)

    def _asked_in(self, record: int, row: Row) -> Iterator[tuple[str, str]]:
        """Yield the stages that this run asks about a record, each with the question that its row answers."""
        for stage in self._plan.stages:
            question = row.get(meta(stage.stage.name, "question")) if stage.code[record] >= 0 else None
            if question is not None:
                yield stage.stage.name, question

    def _with_usage(self, rows: Sequence[tuple[int, Row]]) -> tuple[list[Row], dict[str, str]]:
        """Return rows with what was spent on their questions and not recorded yet; and by question who pays."""
        paid: dict[str, str] = {}
        finished = []
        for record, unfinished in rows:
            row = dict(unfinished)
            for stage, question in self._asked_in(record, row):
                spent = None if question in paid else self.spent.get(question)
                if spent is not None or question not in {*paid, *self.payer}:
                    paid[question] = row[RECORD_ID]
                row |= usage_columns(stage, row, spent, paid.get(question) or self.payer[question])
            finished.append(row)
        return finished, paid

    def _seal(
        self, table: pa.Table, rows: Sequence[tuple[int, Row]], paid: Mapping[str, str], shard: int | None
    ) -> int:
        """Seal a shard's table with these rows new in it, and take note of who has paid; return its number."""
        number = self._store.seal(table, self._settled(rows), shard=shard)
        self._plan.shards[[record for record, _ in rows]] = number
        self.sealed.extend(record for record, _ in rows)
        for question, payer in paid.items():
            self.payer[question] = payer
            self.spent.pop(question, None)
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
        return self._described(pa.table(columns, schema=self.schema), self._store.index.footers[shard])

    def _new_cells(self, stored: Sequence[str], field: pa.Field) -> pa.Array:
        """Return the cells of a column that is new in the table, for records sealed before."""
        if field.name not in self._plan.table.column_names:
            return pa.nulls(len(stored), field.type)
        records = find(stored, self._plan.ids)
        rows = np.where(records < 0, -1, self._plan.row[records])
        return as_type(cells_at(self._plan.table.column(field.name).combine_chunks(), rows), field.type)

    def _described(self, table: pa.Table, before: Mapping[str, Any]) -> pa.Table:
        """Return a shard's table with each record's status over all stages of the store, and the footer's facts."""
        stages = dict.fromkeys([*self._store.index.stages, *(stage.name for stage in self._stages)])
        table = _with_status(table, stages)
        facts = {
            "version": VERSION,
            "key": list(self._plan.key),
            "columns": self.given,
            "stages": before.get("stages", {}) | self._stage_facts,
            "simulated": True if self._plan.model == SIMULATOR else _is_simulated(table, stages),
            "run": self._run_id,
            "layout": self._layout,
            "parts": self._parts,
        }
        return table.replace_schema_metadata({FOOTER: json.dumps(facts).encode()})

    def _table(self, rows: Sequence[Row]) -> pa.Table:
        return build_table(rows, self.schema, self._stages)

    def _settled(self, rows: Sequence[tuple[int, Row]]) -> set[str]:
        """Return the questions all of whose replies stand in the rows."""
        questions = set()
        for record, row in rows:
            for stage, question in self._asked_in(record, row):
                replies = row.get(meta(stage, "replies")) or []
                if all(entry.payload in replies for entry in self._store.index.pending.get(question, ())):
                    questions.add(question)
        return questions


def reread(store: Store, stages: Sequence[Stage], *, failed: bool, prices: Mapping[str, Price]) -> int:
    """Read the stored replies again in the shards whose answers were read in another way than the stages now read them.

    Those that ``failed``, before they are asked again, in any case: a user's code may read them now. Nothing is asked:
    which questions the rows hold, and what they cost, stays as it is.

    Returns how many cells have a value now that had none.
    """
    index = store.index
    stages = [stage for stage in stages if stage.name in index.stages]
    outdated = {shard: read_otherwise(facts, stages) for shard, facts in index.footers.items()}
    for stage in stages if failed else ():
        lost = is_true(pc.equal(index.column(meta(stage.name, "status")), "failed"))
        for shard in set(index.shards[lost].tolist()):
            outdated[shard] = [*dict.fromkeys([*outdated[shard], stage])]
    if not any(outdated.values()):
        return 0
    gained = 0
    given = index.given
    known = pa.schema([field for field in index.schema if field.name in given])
    schema = _target_schema(stages, index, known, given=given)
    visible = {*given, *(name for stage in stages for name in stage.answers)}
    kinds = dict(zip(index.schema.names, index.schema.types, strict=True))
    decisions = Decisions(decisions_in(index), index.stages, index.answers)
    for shard, others in outdated.items():
        if others:
            rows = store.shard(shard).to_pylist()
            for stage in others:
                for row in rows:
                    row.update(undecided(row, stage.name, kinds))
                    before = sum(row.get(column) is not None for column in stage.answers)
                    row.update(_reread_row(stage, row, visible, prices))
                    gained += max(0, sum(row.get(column) is not None for column in stage.answers) - before)
            facts = index.footers[shard]
            held = facts["stages"] | {
                stage.name: facts["stages"][stage.name] | _reading_facts(stage) for stage in others
            }
            facts = facts | {"version": VERSION, "stages": held, "layout": layout_of(schema)}
            table = decisions.over(_with_status(build_table(rows, schema, stages), index.stages))
            store.seal(table.replace_schema_metadata({FOOTER: json.dumps(facts).encode()}), (), shard=shard)
    store.reload()
    return gained


def _stage_facts(questions: StageQuestions) -> dict[str, Any]:
    """Return what a shard's footer says of a stage: what it asks, and about what; how its answers are read."""
    stage = questions.stage
    asked = {"question": questions.fingerprint, "per": list(questions.per), "ignore_case": stage.ignore_case}
    return asked | {"models": questions.models} | _reading_facts(stage)


def _reading_facts(stage: Stage) -> dict[str, Any]:
    """Return what a shard's footer says of how a stage's answers were read."""
    return {"reading": stage.reading, "answers": stage.answers, "kinds": kinds_as_facts(stage.checks)}


def _reread_row(stage: Stage, row: Row, visible: Collection[str], prices: Mapping[str, Price]) -> Row:
    """Return what a stage's stored replies now become in their row; an earlier answer stands if they fail."""
    question, filled = row.get(meta(stage.name, "question")), row.get(meta(stage.name, "filled"))
    own = own_replies(row.get(meta(stage.name, "replies")) or [], question)
    if not own:
        return {}
    outcome = read_outcome(stage, question or "", own, prices, recorded=len(own))
    emptied = dict.fromkeys(filled or () if outcome.answer is not None else ())
    cells = {name: (row | emptied).get(name) for name in visible}
    return emptied | stage_values(stage, outcome, cells, answered=filled is not None)


def schema_of(plan: RunPlan, index: Index) -> pa.Schema:
    """Return the schema of the shards that a run will seal."""
    written, given = _written_schema(plan, index.schema), given_columns(plan, index)
    return _target_schema([questions.stage for questions in plan.stages], index, written, given=given, key=plan.key)


def _written_schema(plan: RunPlan, stored: pa.Schema) -> pa.Schema:
    """Return the table's schema, but with the store's type where a run writes no cell of the table into a column.

    Else one cell of another type, which is only named as changed, would have every shard sealed again.
    """
    if (plan.shards[plan.order] < 0).any():
        return plan.table.schema
    asked = [edits for stage in plan.stages for record, edits in stage.edits.items() if stage.code[record] >= 0]
    written = {name for edits in asked for name, *_ in edits} | set(plan.table.column_names) - set(stored.names)
    return pa.schema([field if field.name in written else stored.field(field.name) for field in plan.table.schema])


def _target_schema(
    stages: Sequence[Stage], index: Index, table: pa.Schema, *, given: Collection[str], key: Sequence[str] = ()
) -> pa.Schema:
    """Return the one schema of the whole store: what it has, the table's columns, the stages' columns.

    A stage's column has the type of its answers now, whatever an earlier reading of them was; one that is the user's
    too holds both.
    """
    types: dict[str, pa.DataType] = {field.name: field.type for field in index.schema}
    fresh: dict[str, pa.DataType] = {RECORD_ID: pa.string(), STATUS: pa.string()}
    fresh |= {field.name: field.type for field in table}
    for stage in stages:
        fresh |= stage_types(stage, table)
    for name, kind in fresh.items():
        stored = types.get(name, kind)
        types[name] = wider(stored, kind) if name in given else kind
        if name in key and stored != kind:
            types[name] = pa.string()  # as a float, a large whole number would be another key
    return pa.schema(list(types.items()))


def _with_status(table: pa.Table, stages: Collection[str]) -> pa.Table:
    """Return a table with each record's status over all these stages."""
    statuses = {meta(name, "status"): pc.fill_null(table.column(meta(name, "status")), "pending") for name in stages}
    pending, failed = (
        functools.reduce(pc.or_, [pc.equal(status, word) for status in statuses.values()])
        for word in ("pending", "failed")
    )
    overall = pc.if_else(pending, "pending", pc.if_else(failed, "failed", "done"))
    for name, status in (statuses | {STATUS: overall}).items():
        table = table.set_column(table.schema.get_field_index(name), name, status)
    return table


def _is_simulated(table: pa.Table, stages: Collection[str]) -> bool | None:
    """Return whether a shard's answers are simulated; None if it has none, or only failures."""
    models = [table.column(meta(name, "model")) for name in stages]
    if any(pc.any(pc.starts_with(model, SIMULATOR)).as_py() for model in models):
        return True
    answered = any(pc.any(pc.equal(table.column(meta(name, "status")), "done")).as_py() for name in stages)
    return False if answered else None
