"""The decisions of a person: what was judged right or wrong, and which value stands instead. Nothing removes one.

A file for each call, ``OUT.work/decisions/<time>-<random>.json``, written durably and without a lock: it takes no part
in the run that may be under way, and no run changes it. A decision names what it is about by the cells that its
question was asked of; it holds for every record that shares these, whatever the prompt or the model was. In a row it
changes the cell, and both it and what it replaced stand beside; the facts about the answer stay as they are.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..stages.checks import kinds_of_facts, means_the_same
from ..stages.choice import checks_as_stored
from ..table.arrow import as_column, as_object, as_text, json_in, parsed
from ..table.cells import SEPARATOR, cell_text, column_texts, is_missing
from .files import DECISIONS, Files, names_in, whole, with_trials, work_area
from .index import Index
from .journal import read_checked, with_checksum
from .rows import META, meta

Verdict = Literal["right", "wrong", "unsure", "value"]
About = tuple[tuple[str, str], ...]
"""The columns that identify what a question is about, each with the text of its cell."""
Row = Mapping[str, Any]
ADDED = ("decisions", "replaced")
FACTS = (*ADDED, "filled")
"""The facts about a stage that say what was decided about a row, and what its cells were."""
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


def about_of(row: Row, stage: Row) -> About:
    """Return what a stage's question is about, by what the store tells of the stage.

    >>> about_of({"fund.title": "Tern Fund ", "country": None}, {"per": ["fund.title"], "ignore_case": True})
    (('fund.title', 'tern fund'),)
    """
    texts = {name: cell_text(row.get(name)) for name in sorted(stage.get("per", ()))}
    return tuple((name, text.casefold() if stage.get("ignore_case") else text) for name, text in texts.items())


def write_decisions(out: Path, decisions: Sequence[Decision]) -> None:
    """Store decisions durably, as one file. Once this returns, they are never lost, and newer than all before them."""
    folder = work_area(whole(out)) / DECISIONS
    now = datetime.now(UTC)
    if before := _files(folder):  # a clock may have been set back
        latest = datetime.strptime(before[-1].split("-")[0], _TIME).replace(tzinfo=UTC)
        now = max(now, latest + timedelta(microseconds=1))
    dated = [asdict(replace(decision, at=now.isoformat(timespec="microseconds"))) for decision in decisions]
    # A scratch folder of its own: a run that begins clears its own.
    Files(folder).put(folder / f"{now:{_TIME}}-{uuid.uuid4().hex[:8]}.json", with_checksum({"decisions": dated}))


def decision_files(out: Path) -> Iterator[tuple[Path, list[Decision] | None]]:
    """Yield the files of a store's decisions, oldest first, each with what is in it; None if it is damaged."""
    folder = work_area(whole(out)) / DECISIONS
    for name in _files(folder):
        held = read_checked(folder / name)
        yield folder / name, None if held is None else list(map(_decision, held["decisions"]))


def read_decisions(out: Path, *, warn: bool = True) -> list[Decision]:
    """Return the decisions of a store, which its trials share, oldest first; those in a damaged file do not count."""
    read: list[Decision] = []
    for path, held in itertools.chain.from_iterable(map(decision_files, with_trials(out))):
        read += held or ()
        if held is None and warn:
            warnings.warn(damaged_file(path), stacklevel=4)
    return _in_order(read)


def damaged_file(path: Path) -> str:
    """Return what to say of it."""
    return f"{path} is damaged: the decisions in it do not count. Restore it from a copy."


def _files(folder: Path) -> list[str]:
    return list(filter(_FILE.fullmatch, names_in(folder)))


def _decision(facts: Row) -> Decision:
    return Decision(**{**facts, "about": tuple(map(tuple, facts["about"]))})


def _in_row(row: Row, stage: str) -> list[Decision]:
    return [_decision(json.loads(text)) for text in row.get(meta(stage, "decisions")) or ()]


def decisions_in(index: Index) -> list[Decision]:
    """Return all decisions about a store's records: from their files, and from the rows, where a store came alone."""
    columns = (index.column(meta(stage, "decisions")) for stage in index.stages)
    held = (pc.list_flatten(column).to_pylist() for column in columns if pa.types.is_list(column.type))
    inside = [_decision(json.loads(text)) for texts in held for text in dict.fromkeys(texts)]
    return _in_order([*inside, *read_decisions(index.folder)])


def _in_order(decisions: Iterable[Decision]) -> list[Decision]:
    """Return decisions once each, oldest first."""
    return sorted(dict.fromkeys(decisions), key=lambda decision: decision.at)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the decisions about an answer come to: the value that stands, and the verdict on each that was seen.

    ``verdicts`` are newest first; ``seen`` is what stood in the cell, or was the answer.
    """

    value: str | None
    verdicts: Mapping[str, Verdict]
    seen: Collection[str]
    same: Callable[[str, str], bool]

    def of(self, answer: str | None) -> Verdict | None:
        """Return what a person decided about this very answer; None if nobody has."""
        if answer is None:
            return self.verdicts.get("", None if self.value is None else "value")
        if self.value is not None and self.same(answer, self.value):
            return "right"
        return next((verdict for seen, verdict in self.verdicts.items() if seen and self.same(answer, seen)), None)

    def may_replace(self, cell: Any) -> bool:
        """Whether a cell is empty, or one that a person has seen, rather than edited since."""
        return is_missing(cell) or as_text(cell) in self.seen

    def changes(self, cell: Any, *, filled: bool) -> bool:
        """Whether ``value`` takes the place of a cell, one ``filled`` by an answer or the user's own."""
        return self.may_replace(cell) if self.value is not None else filled and self.of(as_text(cell)) == "wrong"


def _judgement(decisions: Sequence[Decision], same: Callable[[str, str], bool]) -> Judgement:
    """Return what decisions about one answer come to, oldest first: of two about the same value, the newer one."""
    verdicts: dict[str, Verdict] = {}
    value, about = None, ""
    for decision in decisions:
        answer, verdict = decision.value or "", decision.verdict
        verdicts = {answer: verdict} | {text: held for text, held in verdicts.items() if text != answer}
        chosen = decision.instead if verdict == "value" else answer if verdict == "right" else None
        if chosen or answer in (value, about):
            value, about = chosen or None, answer
    texts = {text for each in decisions for text in (each.cell, each.stored, each.value, each.instead)} - {None}
    return Judgement(value, verdicts, {shown(text) for text in texts if text}, same)


class Decisions:
    """Decisions, and what they change in the rows of a store, by what it tells of its stages and their answers."""

    def __init__(
        self, decisions: Sequence[Decision], stages: Mapping[str, Row], answers: Mapping[str, Mapping[str, str]]
    ) -> None:
        self.all = decisions
        self._stages, self._answers = stages, answers
        self._about: dict[str, dict[tuple[str, ...], dict[str, list[Decision]]]] = {}
        stage_of = {column: stage for stage, columns in answers.items() for column in columns}
        for decision in decisions:
            if stage := stage_of.get(decision.column):  # the sides of a trial may call it otherwise
                held = self._about.setdefault(stage, {}).setdefault(tuple(dict(decision.about)), {})
                held.setdefault(self._key(stage, decision.about), []).append(decision)

    def _key(self, stage: str, about: About) -> str:
        text = SEPARATOR.join(["", *(text for _, text in about)])
        return text.casefold() if self._stages.get(stage, {}).get("ignore_case") else text

    def needs(self, *, apply: bool = True) -> set[str]:
        """Return the columns of a store that have to be read to lay decisions over its rows."""
        needed: set[str] = set()
        for stage, columns in self._answers.items():
            if not apply or stage in self._about:
                needed |= {*columns, *self._stages[stage].get("per", ()), *(meta(stage, fact) for fact in FACTS)}
                needed.update(*self._about.get(stage, ()))
        return needed

    def about(self, table: pa.Table, stage: str) -> dict[int, list[Decision]]:
        """Return the decisions about a table's rows, by their places."""
        by_place: dict[int, list[Decision]] = {}
        blank = pa.array([""] * table.num_rows if stage in self._about else [], pa.large_string())
        fold = bool(self._stages[stage].get("ignore_case"))
        for names, about in self._about.get(stage, {}).items():
            columns = [table.column(name).to_pandas() if name in table.column_names else None for name in names]
            texts = [blank if cells is None else column_texts(cells, ignore_case=fold) for cells in columns]
            keys = pc.binary_join_element_wise(blank, *texts, pa.scalar(SEPARATOR, blank.type))
            known = list(about.values())
            which = pc.index_in(keys, value_set=pa.array(about, blank.type))
            for place in pc.indices_nonzero(pc.is_valid(which)).to_pylist():
                by_place.setdefault(place, []).extend(known[which[place].as_py()])
        return by_place

    def over(self, table: pa.Table, *, apply: bool = True) -> pa.Table:
        """Return a table of rows with the decisions laid over; it is the same one if they change nothing.

        Unless they apply, they only stand beside the cells, and these are as they were without any decision.
        """
        for stage in self._answers:
            by_place, fact = self.about(table, stage), meta(stage, "decisions")
            if fact in table.column_names:
                held = pc.indices_nonzero(pc.fill_null(pc.list_value_length(table.column(fact)), 0))
                by_place |= {place: by_place.get(place, []) for place in held.to_pylist()}
            for name in (meta(stage, fact) for fact in ADDED if by_place or stage in self._about):
                if name not in table.column_names:  # sealed before there were any
                    table = table.append_column(name, pa.nulls(table.num_rows, META[name.rpartition("._")[2]]))
            if by_place:
                table = self._over(table, stage, by_place, apply=apply)
        return table

    def _over(self, table: pa.Table, stage: str, by_place: Mapping[int, list[Decision]], *, apply: bool) -> pa.Table:
        kinds = dict(zip(table.column_names, table.schema.types, strict=True))
        places = pa.array(by_place, pa.int64())
        rows = table.select(sorted(self.needs(apply=False) & kinds.keys())).take(places).to_pylist()
        new = [
            row | self._decided(row, stage, about, kinds, apply=apply)
            for row, about in zip(rows, by_place.values(), strict=True)
        ]
        take = np.arange(table.num_rows)
        take[places] = table.num_rows + np.arange(len(places))
        for name in (meta(stage, "decisions"), meta(stage, "replaced"), *self._answers[stage]):
            before, after = ([row.get(name) for row in listed] for listed in (rows, new))
            if before != after:
                both = pa.concat_arrays([table.column(name).combine_chunks(), as_column(after, kinds[name])[0]])
                place, field = table.column_names.index(name), table.schema.field(name)
                table = table.set_column(place, field, both.take(pa.array(take)))
        return table

    def _decided(
        self, row: Row, stage: str, decisions: Sequence[Decision], kinds: Mapping[str, pa.DataType], *, apply: bool
    ) -> dict[str, Any]:
        """Return what changes in a row by the decisions that it holds and these.

        A decision fills what is empty, and replaces an answer and the very cell that was seen. Any other cell stands.
        """
        key = self._key(stage, about_of(row, self._stages[stage]))  # a row may have been asked about other cells
        held = [each for each in _in_row(row, stage) if self._key(stage, each.about) == key]
        known = _in_order([*held, *decisions])
        texts = [json.dumps(asdict(decision), ensure_ascii=False) for decision in known]
        cells = undecided(row, stage, kinds) | {meta(stage, "decisions"): texts or None}
        filled, replaced = row.get(meta(stage, "filled")) or (), []
        for column, judgement in self.judgements(cells, stage).items() if apply else ():
            cell, own = cells.get(column, row.get(column)), column not in filled
            if judgement.changes(cell, filled=not own) or not (own or judgement.value is None):
                replaced.append({"column": column, "cell": as_parsed(cell)})
                cells[column] = parsed(judgement.value, kinds[column])
        return cells | {meta(stage, "replaced"): replaced or None}

    def judgements(self, row: Row, stage: str) -> dict[str, Judgement]:
        """Return what the decisions in a row about a stage's answers come to, by their columns."""
        columns = self._answers.get(stage, {})
        if not (held := [decision for decision in _in_row(row, stage) if decision.column in columns]):
            return {}
        checks = checks_as_stored(stage, columns, kinds_of_facts(self._stages[stage]))
        return {
            column: _judgement(
                [decision for decision in held if decision.column == column],
                functools.partial(means_the_same, checks, columns[column]),
            )
            for column in dict.fromkeys(decision.column for decision in held)
        }


def undecided(row: Row, stage: str, kinds: Mapping[str, pa.DataType]) -> dict[str, Any]:
    """Return what changes in a row where its decisions are no longer applied."""
    replaced = {each["column"]: each["cell"] for each in row.get(meta(stage, "replaced")) or ()}
    cells = {name: parsed(text, kinds[name]) for name, text in replaced.items()}
    return cells and cells | {meta(stage, "replaced"): None}


def as_parsed(value: Any) -> str | None:
    """Return the text that `parsed` makes the same value of: a list or an object as JSON."""
    value = as_object(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=cell_text)
    return None if is_missing(value) else as_text(value)


def shown(text: str) -> str:
    """Return the text that `as_parsed` made of a value as it is shown: lists joined by commas.

    >>> shown('["a", "b"]'), shown("[sic]")
    ('a, b', '[sic]')
    """
    return as_text(text if (value := json_in(text)) is None else value)
