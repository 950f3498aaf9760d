"""The decisions of a person: what was judged right or wrong, and which value stands instead. Nothing removes one.

A file for each call, ``OUT.work/decisions/<time>-<random>.json``, written durably and without a lock: it takes no part
in the run that may be under way, and no run changes it. A decision names what it is about by the cells that its
question was asked of; it holds for every record that shares these, whatever the prompt or the model was. In a row it
changes the cell, and stands beside it with what it replaced; the facts about the answer stay as they are.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..stages.checks import means_the_same
from ..stages.funds import KEY, STAGES
from ..table.arrow import LISTED, as_column, as_text, typed
from ..table.cells import cell_text, column_texts, is_missing
from .files import DECISIONS, Files, names_in, work_area
from .index import Index
from .journal import read_checked, with_checksum
from .rows import DECISION, meta

Verdict = Literal["right", "wrong", "unsure", "value"]
About = tuple[tuple[str, str], ...]
"""The columns that identify what a question is about, each with the text of its cell."""
Row = Mapping[str, Any]
Answers = Mapping[str, Mapping[str, str]]
"""The columns of each stage's answers, each with the field that it holds."""
CHECKS = {name: stage.checks for name, stage in STAGES.items()}
_FILE = re.compile(r"\d{8}T\d{12}Z-\w+\.json")
_TIME = "%Y%m%dT%H%M%S%fZ"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about an answer: a field of a question.

    Attributes
    ----------
    stage, column, about : str, str, tuple
        The answer: what was asked, the column it belongs in, the cells that it was asked of.
    record_id : str
        The record that was looked at.
    value, cell : str or None
        The answer that was seen, and what the table had in its place.
    verdict : str
        ``right``, ``wrong``, ``unsure``, or ``value``: the value ``instead`` is right.
    instead : str or None
        The right value.
    stored : str or None
        What the store's row held without any decision: a table's cell as it came first, or the answer.
    at : str
        When, in UTC; `write_decisions` sets it.
    """

    stage: str
    column: str
    about: About
    record_id: str
    value: str | None
    cell: str | None
    verdict: Verdict
    instead: str | None = None
    stored: str | None = None
    at: str = ""


def about_of(row: Row, per: Sequence[str]) -> About:
    """Return what a question is about that is asked ``per`` these columns; the built-in keys ignore case.

    >>> about_of({"fund.title": "Tern Fund ", "country": None}, ["fund.title"])
    (('fund.title', 'tern fund'),)
    """
    texts = {name: cell_text(row.get(name)) for name in sorted(per)}
    return tuple((name, text.casefold() if set(per) <= set(KEY) else text) for name, text in texts.items())


def write_decisions(out: Path, decisions: Sequence[Decision]) -> None:
    """Store decisions durably, as one file. Once this returns, they are never lost, and newer than all before them."""
    folder = work_area(out) / DECISIONS
    now = datetime.now(UTC)
    if before := _files(folder):  # a clock may have been set back
        latest = datetime.strptime(before[-1].split("-")[0], _TIME).replace(tzinfo=UTC)
        now = max(now, latest + timedelta(microseconds=1))
    dated = [asdict(replace(decision, at=now.isoformat(timespec="microseconds"))) for decision in decisions]
    # A scratch folder of its own: a run that begins clears its own.
    Files(folder).put(folder / f"{now:{_TIME}}-{uuid.uuid4().hex[:8]}.json", with_checksum({"decisions": dated}))


def read_decisions(out: Path, *, warn: bool = True) -> list[Decision]:
    """Return the decisions of a store, oldest first; those in a damaged file do not count."""
    read: list[Decision] = []
    for name in _files(folder := work_area(out) / DECISIONS):
        held = read_checked(folder / name)
        read += map(_decision, (held or {}).get("decisions", ()))
        if held is None and warn:
            warnings.warn(damaged_file(folder / name), stacklevel=4)
    return read


def damaged_files(out: Path) -> list[Path]:
    """Return the files of decisions that are damaged."""
    paths = [work_area(out) / DECISIONS / name for name in _files(work_area(out) / DECISIONS)]
    return [path for path in paths if read_checked(path) is None]


def damaged_file(path: Path) -> str:
    """Return what to say of a damaged file."""
    return f"{path} is damaged: the decisions in it do not count. Restore it from a copy."


def _files(folder: Path) -> list[str]:
    return list(filter(_FILE.fullmatch, names_in(folder)))


def _decision(facts: Row) -> Decision:
    known: dict[str, Any] = {field.name: facts.get(field.name) for field in fields(Decision)}
    return Decision(**known | {"about": tuple((str(column), str(text)) for column, text in facts["about"])})


def standing(decisions: Iterable[Decision]) -> dict[tuple[str, About], Decision]:
    """Return the newest decision about each answer, by its column and what it is about."""
    return {(decision.column, decision.about): decision for decision in decisions}


class Decisions:
    """Decisions, found by what they are about."""

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self.all = decisions
        self._by_names: dict[tuple[str, ...], dict[About, list[Decision]]] = {}
        self._columns: set[str] = set()
        for decision in decisions:
            names = tuple(name for name, _ in decision.about)
            self._by_names.setdefault(names, {}).setdefault(decision.about, []).append(decision)
            self._columns.add(decision.column)

    def needs(self, answers: Answers, *, apply: bool = True) -> set[str]:
        """Return the columns that have to be read to lay the decisions over rows with these answers."""
        stages = [name for name, columns in answers.items() if not apply or self._columns & columns.keys()]
        cells = {column for stage in stages for column in (*answers[stage], meta(stage, "filled"))}
        return {*cells, *self.names(stages)} if cells else cells

    def lacking(self, table: pa.Table, answers: Answers) -> bool:
        """Whether a decision about some row of a table does not stand in it; `names` have to be read for that."""
        held = [name for name in (meta(stage, "decisions") for stage in answers) if name in table.column_names]
        places = self._places(table) if held else {}
        rows = table.select(held).take(pa.array(places, pa.int64())).to_pylist()
        answered = {column for columns in answers.values() for column in columns}
        return any(
            _identity(asdict(decision)) not in {_identity(entry) for cell in row.values() for entry in cell or ()}
            for row, decisions in zip(rows, places.values(), strict=True)
            for decision in decisions
            if decision.column in answered
        )

    def names(self, stages: Iterable[str]) -> set[str]:
        """Return the columns that tell what decisions a row has, and what it is about."""
        facts = {meta(stage, "decisions") for stage in stages}
        return {*facts, *(name for names in self._by_names for name in names)}

    def about(self, row: Row) -> list[Decision]:
        """Return the decisions about a row."""
        return [each for names, about in self._by_names.items() for each in about.get(about_of(row, names), ())]

    def _places(self, table: pa.Table) -> dict[int, list[Decision]]:
        """Return the decisions about the rows of a table, by the places of those that there may be any about."""
        places: dict[int, list[Decision]] = {}
        for names, about in self._by_names.items():
            if not (present := [name for name in names if name in table.column_names]):
                continue
            texts = column_texts(table.column(present[0]).to_pandas(), ignore_case=set(names) <= set(KEY))
            wanted = pa.array({dict(cells)[present[0]] for cells in about}, texts.type)
            at = pc.indices_nonzero(pc.is_in(texts, value_set=wanted))
            for place, row in zip(at.to_pylist(), table.select(present).take(at).to_pylist(), strict=True):
                places.setdefault(place, []).extend(about.get(about_of(row, names), ()))
        return places

    def over(self, table: pa.Table, answers: Answers, *, apply: bool = True) -> pa.Table:
        """Return a table of rows with the decisions laid over; it is the same one if they change nothing.

        Unless they apply, they only stand beside the cells, and these are as they were without any decision.
        """
        kinds = dict(zip(table.column_names, table.schema.types, strict=True))
        stages = {stage: columns for stage, columns in answers.items() if meta(stage, "decisions") in kinds}
        places = self._places(table)
        for stage in stages:
            held = pc.indices_nonzero(pc.fill_null(pc.list_value_length(table.column(meta(stage, "decisions"))), 0))
            places |= {place: places.get(place, []) for place in held.to_pylist()}
        rows = table.select(sorted(self.needs(stages, apply=False) & kinds.keys())).take(pa.array(places, pa.int64()))
        changed: dict[str, dict[int, Any]] = {}
        for (place, decisions), row in zip(places.items(), rows.to_pylist(), strict=True):
            for stage, columns in stages.items():
                cells = decided(row, stage, columns, decisions, kinds, apply=apply)
                for name in (name for name, cell in cells.items() if cell != row[name]):
                    changed.setdefault(name, {})[place] = cells[name]
        for name, by_place in changed.items():
            new = as_column(list(by_place.values()), kinds[name])[0]
            take = np.arange(table.num_rows)
            take[list(by_place)] = table.num_rows + np.arange(len(by_place))
            merged = pa.concat_arrays([table.column(name).combine_chunks(), new]).take(pa.array(take))
            table = table.set_column(table.column_names.index(name), table.schema.field(name), merged)
        return table


def decisions_in(index: Index) -> Decisions:
    """Return all decisions about a store's records: from their files, and from the rows, where a store came alone."""
    known = {_identity(asdict(decision)): decision for decision in read_decisions(index.folder)}
    for stage in index.stages:
        column = index.column(meta(stage, "decisions"))
        for entry in pc.list_flatten(column).to_pylist() if pa.types.is_list(column.type) else ():
            decision = _decision(entry | {"stage": stage, "about": json.loads(entry["about"]).items()})
            known.setdefault(_identity(entry), decision)
    return Decisions(sorted(known.values(), key=lambda decision: decision.at))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the decisions about an answer come to: the value that stands, and the verdict on each that was seen."""

    stage: str
    field: str
    value: str | None
    verdicts: Mapping[str, Verdict]

    def of(self, answer: str | None) -> Verdict | None:
        """Return what a person decided about this very answer; None if nobody has."""
        if answer is None:
            return self.verdicts.get("")
        if self.value is not None and self.same(answer, self.value):
            return "right"
        return next((verdict for seen, verdict in self.verdicts.items() if seen and self.same(answer, seen)), None)

    def same(self, answer: str, value: str) -> bool:
        """Whether an answer means the same as another value of its field."""
        return means_the_same(CHECKS.get(self.stage, ()), self.field, answer, value)


def judgements(row: Row, stage: str, columns: Mapping[str, str]) -> dict[str, Judgement]:
    """Return what the decisions in a row about a stage's answers come to, by their columns."""
    entries = row.get(meta(stage, "decisions")) or ()
    decided_columns = dict.fromkeys(entry["column"] for entry in entries if entry["column"] in columns)
    return {
        column: _judgement([entry for entry in entries if entry["column"] == column], stage, columns[column])
        for column in decided_columns
    }


def _judgement(entries: Iterable[Row], stage: str, field: str) -> Judgement:
    """Return what decisions about one answer come to, oldest first: of two about the same value, the newer one."""
    verdicts: dict[str, Verdict] = {}
    value, about = None, ""
    for entry in entries:
        seen, verdict = entry["value"] or "", entry["verdict"]
        verdicts = {seen: verdict} | {text: held for text, held in verdicts.items() if text != seen}  # newest first
        chosen = entry["instead"] if verdict == "value" else seen if verdict == "right" else None
        if chosen or seen in (value, about):
            value, about = chosen or None, seen
    return Judgement(stage, field, value, verdicts)


def undecided(row: Row, stage: str, kinds: Mapping[str, pa.DataType]) -> dict[str, Any]:
    """Return what changes in a row where its decisions are no longer applied."""
    if not (entries := row.get(meta(stage, "decisions"))):
        return {}
    cells = {entry["column"]: parsed(entry["stored"], kinds[entry["column"]]) for entry in entries if entry["applied"]}
    return cells | {meta(stage, "decisions"): [entry | {"applied": False} for entry in entries]}


def decided(
    row: Row,
    stage: str,
    columns: Mapping[str, str],
    decisions: Iterable[Decision],
    kinds: Mapping[str, pa.DataType],
    *,
    apply: bool = True,
) -> dict[str, Any]:
    """Return what changes in a row by its own decisions and these.

    A decision fills what is empty, and replaces an answer and the very cell that was seen. Any other cell stands.
    """
    cells = undecided(row, stage, kinds)
    held = {_identity(entry): entry for entry in cells.get(meta(stage, "decisions"), ())}
    for decision in decisions:
        facts = asdict(decision) | {"about": json.dumps(dict(decision.about), ensure_ascii=False), "applied": False}
        if decision.column in columns:
            held.setdefault(_identity(facts), {name: facts[name] for name in DECISION})
    if not held:
        return {}
    cells[meta(stage, "decisions")] = entries = sorted(held.values(), key=lambda entry: entry["at"])
    filled = row.get(meta(stage, "filled")) or ()
    for column, judgement in judgements(cells, stage, columns).items() if apply else ():
        cell = cells.get(column, row.get(column))
        mine = [entry for entry in entries if entry["column"] == column]
        if judgement.value is not None and (column in filled or may_replace(cell, mine)):
            cells[column] = parsed(judgement.value, kinds[column])
        elif column in filled and judgement.of(as_text(cell)) == "wrong":
            cells[column] = None
        else:
            continue
        for entry in mine:
            entry |= {"stored": as_parsed(cell), "applied": True}
    return cells


def _identity(entry: Row) -> tuple[str, ...]:
    return entry["at"], entry["column"], entry["record_id"]


def may_replace(cell: Any, entries: Collection[Row]) -> bool:
    """Whether a cell is empty, or one that a person has seen, rather than edited since."""
    seen = {entry[name] for entry in entries for name in ("cell", "stored", "value", "instead")}
    return is_missing(cell) or not seen.isdisjoint({as_text(cell), as_parsed(cell)})


def as_parsed(value: Any) -> str | None:
    """Return the text that `parsed` makes the same value of: a list as JSON."""
    if is_missing(value):
        return None
    return json.dumps(value, ensure_ascii=False, default=cell_text) if isinstance(value, list) else as_text(value)


def parsed(text: str | None, kind: pa.DataType) -> Any:
    """Return a value of some type from its text; a list, too, from JSON or from parts between commas.

    >>> [parsed(text, pa.list_(pa.string())) for text in ("fintech, saas", '["a, b"]')]
    [['fintech', 'saas'], ['a, b']]
    """
    if text is None or not pa.types.is_nested(kind):
        return typed(re.sub(r"\.0+$", "", text) if text and pa.types.is_integer(kind) else text, kind)
    with contextlib.suppress(ValueError):
        return json.loads(text if text.lstrip()[:1] in ("[", "{") else "")
    return [typed(part.strip(), kind.value_type) for part in LISTED.split(text)] if pa.types.is_list(kind) else text
