"""Deciding: a person's verdicts on answers, as durable as a reply. Nothing is asked, and no run is waited for."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import pyarrow as pa

from ..errors import InputError, StoreError
from ..formatting import perhaps, plain, rows_told
from ..gemini.wire import read_stored
from ..reading.json_text import locate
from ..store.decisions import (
    Decision,
    Decisions,
    Judgement,
    Verdict,
    about_of,
    as_parsed,
    shown,
    write_decisions,
)
from ..store.files import folder_of, is_store, trial_sides
from ..store.index import RECORD_ID
from ..store.reader import StoreReader
from ..store.rows import meta
from ..table.arrow import alike, as_column, as_frame, as_text, parsed
from ..table.cells import cell_text, is_missing
from .doubts import FAILED, Doubt, doubts_of, fields

SEEN = {"value": ("answer", "new"), "cell": ("cell", "old")}
"""In which columns of `evidence`, `corrections` and the like stand the answer that was seen, and the cell."""
CHOICES = ("1", "2", "b", "n", "?")
"""The first of two values, the second, both, neither; or nobody can tell."""
LONGEST_FACT = 60
"""A longer text is prose, which may be right in many wordings."""


def decide(
    out: str | Path,
    cells: pd.DataFrame,
    verdict: Literal["right", "wrong", "unsure"] | None = None,
    *,
    value: Any = None,
) -> int:
    """Store what a person decided about some answers, for ever: `run`, `read` and `export` return it from now on.

    A decision holds for every record that shares the question. It fills an empty cell and replaces the very cell that
    was seen; one that you have edited since stands, and `run` tells that. It outlives another prompt or model, and a
    later answer that says otherwise is a ``conflict``. Of two decisions about the same answer the newer one counts.
    One may decide while a run is under way.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    cells : DataFrame
        Rows of `evidence` or `corrections`, also out of a file: with ``_record_id`` and ``column``. Without a
        ``verdict`` here, they have one each in a column ``verdict``, or another value in a column ``value``; rows with
        neither are left undecided. Or the pairs of `review`, with ``1``, ``2``, ``b``, ``n`` or ``?`` in ``verdict``.
    verdict : {"right", "wrong", "unsure"}, optional
        ``right``: the answer stands, in place of the cell it differs from, too, and where a check emptied it. This
        accepts a correction. ``wrong``: the answer goes, and a filled cell stands. ``unsure``: nothing changes.
    value : object, optional
        The right value for all these cells, in place of the answer and of the cell.

    Returns
    -------
    int
        How many decisions were stored: one for each row with a verdict.

    Raises
    ------
    InputError
        If a row names no answer of the store, a verdict is none of these words, or a value does not fit its column;
        then nothing is stored.
    StoreError
        If there is no store, or it cannot be written.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> from enrichkit import trust
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"], "fund.linkedin": ["no page"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> trust.decide(out, trust.corrections(out).head(8), "right"), len(trust.corrections(out))
    (1, 0)
    """
    frame = as_frame(cells)
    are_pairs = "first" in frame.columns
    _check_columns(frame, ("stage", "second", "verdict") if are_pairs else ())
    if verdict is not None or not is_missing(value):
        if are_pairs:
            raise InputError("Of pairs the column verdict says which one is right, not {verdict!r}.", verdict=verdict)
        frame = frame.assign(verdict=verdict, value=pd.Series([value] * len(frame), frame.index, dtype=object))
    chosen = frame[[not is_missing(word) for word in frame["verdict"]]] if are_pairs else frame
    return answers_of(out, chosen).decide(frame)


def answers_of(out: str | Path, cells: pd.DataFrame) -> Answers:
    """Return the answers that rows of `evidence`, or pairs of `review`, are about."""
    folder = folder_of(out)
    reader = store_behind(folder, cells) if "first" in cells.columns else StoreReader(folder)
    return Answers(folder, reader, cells[RECORD_ID])


def _check_columns(frame: pd.DataFrame, of_pairs: Sequence[str]) -> None:
    """Refuse a frame of cells without what names them, or with a column twice."""
    if len(twice := frame.columns[frame.columns.duplicated()]):
        raise InputError("The cells to decide have more than one column {name!r}. Drop one.", name=twice[0])
    for name in (name for name in (RECORD_ID, "column", *of_pairs) if name not in frame.columns):
        raise InputError(
            "The cells to decide lack the column {name!r}. Give rows of {listed}.",
            name=name,
            listed="review" if of_pairs else "evidence or corrections",
        )


class Answers:
    """The answers of some of a store's records, read once, to decide about one after another."""

    def __init__(self, out: Path, reader: StoreReader, records: Iterable[Any]) -> None:
        self._out, self._read, self._stages, self._answers = out, reader.folder, reader.stages, reader.answers
        self._stage_of = {column: stage for stage, columns in self._answers.items() for column in columns}
        table = reader.rows_of({str(record) for record in records})
        self._kinds = dict(zip(table.column_names, table.schema.types, strict=True))
        self._rows = {row[RECORD_ID]: row for row in table.to_pylist()}

    def decide(self, cells: pd.DataFrame) -> int:
        """Store what is decided about some of them, as `enrichkit.trust.decide` says; return in how many rows."""
        decisions: list[tuple[int, Decision]] = []
        agreed: dict[tuple[Any, ...], tuple[int, Decision]] = {}
        for place, line in enumerate(cells.to_dict("records")):
            try:
                made = self._chosen(line) if "first" in cells.columns else self._decided(line)
            except ValueError as refusal:
                where = rows_told([place], cells.index).capitalize()
                raise InputError("{where}{refusal}", where=where, refusal=refusal) from None
            decisions += ((place, decision) for decision in made)
            for decision in made:
                first, other = agreed.setdefault((decision.column, decision.about, decision.value), (place, decision))
                if (decision.verdict, decision.instead) != (other.verdict, other.instead):
                    raise InputError(
                        "{where} do not agree about the same answer, to {column!r}.",
                        where=rows_told([first, place], cells.index).capitalize(),
                        column=decision.column,
                    )
        self._store([decision for _, decision in decisions])
        return len({place for place, _ in decisions})

    def _store(self, decisions: Sequence[Decision]) -> None:
        try:
            self._read.stat()  # a store that is gone by now gets none
            if decisions:
                write_decisions(self._out, decisions)
        except OSError as error:
            out, reason = self._out, error.strerror or error
            raise StoreError("No decision was stored beside {store}: {reason}.", store=out, reason=reason) from error

    def _decided(self, line: Mapping[Any, Any]) -> list[Decision]:
        """Return what a line decides, if anything; raise a ValueError that says why it cannot be."""
        right = line.get("value")
        word = cell_text(line.get("verdict")).casefold() or ("" if is_missing(right) else "value")
        if not word:
            return []
        if word not in get_args(Verdict):
            listed, hint = ", ".join(get_args(Verdict)), perhaps(word, get_args(Verdict))
            raise ValueError(f", 'verdict': {word!r:.60} is not one of {listed}.{hint}")
        if word == "value" and is_missing(right):
            raise ValueError(", 'value': it is empty, where the verdict is 'value'.")
        if word in ("right", "unsure") and not is_missing(right):
            raise ValueError(f" has the verdict {word!r}, and a value too. Remove one.")
        record, column = self._named(line)
        instead = None if is_missing(right) else self._fitting(right, column)
        word = "value" if instead is not None else word
        seen = self._held(record, column, emptied=word == "right")
        for name, columns in SEEN.items():  # as the store has it, but where the line has something else
            given = next((unguarded(as_text(line[each])) for each in columns if not is_missing(line.get(each))), "")
            if given and not alike(given, shown(seen[name] or "")):
                seen[name] = given
        return [self._decision(record, column, word, instead=instead, **seen)]

    def _chosen(self, line: Mapping[Any, Any]) -> list[Decision]:
        """Return what the choice between a line's two values decides; raise a ValueError that says why it cannot be."""
        word = cell_text(line["verdict"]).casefold()
        if not word:
            return []
        if word not in CHOICES:
            raise ValueError(f", 'verdict': {word!r:.60} is not one of {', '.join(CHOICES)}.")
        record, column = self._named(line)
        cell = self._cell(record, column)
        first, second = (
            None if is_missing(line[name]) else unguarded(as_text(line[name])) for name in ("first", "second")
        )
        return [
            self._decision(record, column, verdict, value=value, cell=cell)
            for value, verdict in judged(word, first, second)
        ]

    def _named(self, line: Mapping[Any, Any]) -> tuple[str, str]:
        """Return the record and the column of a line."""
        record, column = str(line[RECORD_ID]), str(line["column"])
        if column not in self._stage_of:
            hint = perhaps(column, self._stage_of)
            raise ValueError(f", 'column': no stage of {self._read} answers {column!r}.{hint}")
        if record not in self._rows:
            raise ValueError(f", {RECORD_ID!r}: {self._read} has no sealed record {record!r}.")
        return record, column

    def _decision(self, record: str, column: str, verdict: Any, **seen: Any) -> Decision:
        """Return the decision about a record's answer, or another value of its field, that was seen."""
        row, stage = self._rows[record], self._stage_of[column]
        about, stored = about_of(row, self._stages[stage]), as_parsed(row.get(column))
        return Decision(stage, column, about, record, verdict=verdict, stored=stored, **seen)

    def _cell(self, record: str, column: str) -> str | None:
        """Return the table's own cell, as text."""
        row = self._rows[record]
        filled = row.get(meta(self._stage_of[column], "filled")) or ()
        return None if column in filled else as_parsed(row.get(column))

    def _held(self, record: str, column: str, *, emptied: bool) -> dict[str, str | None]:
        """Return the answer that a row holds, also one that a check ``emptied``, and the table's own cell, as text."""
        row, stage = self._rows[record], self._stage_of[column]
        field = self._answers[stage][column]
        proposed = {entry["column"]: entry["answer"] for entry in row.get(meta(stage, "corrections")) or ()}
        answered = field in (row.get(meta(stage, "fields_found")) or ())
        answer = proposed.get(column) or (as_parsed(row.get(column)) if answered else None)
        states = {state["field"]: state["state"] for state in row.get(meta(stage, "states")) or ()}
        gone = emptied and answer is None and states.get(field) == "invalid"
        if gone or (column in proposed and pa.types.is_nested(self._kinds[column])):  # only the reply has it whole
            replies = (read_stored(payload)[0] for payload in reversed(row.get(meta(stage, "replies")) or ()))
            values = ((locate(reply.text or "").values or {}).get(field) for reply in replies)
            value = next((value for value in values if not is_missing(value)), None)
            answer = as_parsed(value) if gone or as_text(value) == answer else answer
        return {"value": answer, "cell": self._cell(record, column)}

    def _fitting(self, value: Any, column: str) -> str | None:
        """Return the right value as text; raise a ValueError if its column cannot hold it."""
        kind = self._kinds.get(column, pa.string())
        value = value.value if isinstance(value, enum.Enum) else value
        fits = parsed(unguarded(as_parsed(value) or ""), kind)
        if as_column([fits], kind)[1] or is_missing(fits):
            text = plain(as_text(value))
            raise ValueError(f", 'value': {text!r:.60} does not fit {column!r}, which holds {kind}.")
        return as_parsed(fits)


def unguarded(text: str) -> str:
    """Return a text without the sign that keeps a sheet from taking it for a formula."""
    return text[1:] if text[:1] == "'" and text[1:2] in tuple("=+-@\t\r") else text


def store_behind(out: Path, cells: pd.DataFrame) -> StoreReader:
    """Return a store that has the records of changed cells: this one, or a side of its trials."""
    for folder in filter(is_store, (out, *trial_sides(out))):
        reader = StoreReader(folder, warn=False)
        ids = reader.rows([RECORD_ID])
        known = set(ids.column(RECORD_ID).to_pylist()) if ids.num_rows else set()
        if {*cells["stage"]} <= reader.answers.keys() and {*cells[RECORD_ID]} <= known:
            return reader
    raise InputError("Neither {store} nor a trial of it has all these records and stages.", store=out)


def judged(choice: str, first: str | None, second: str | None) -> list[tuple[str | None, Verdict]]:
    """Return what a choice between two values decides: ``1``, ``2``, ``b`` both, ``n`` neither, ``?`` cannot tell.

    >>> judged("1", "Oslo", "Bergen"), judged("2", "Oslo", None)
    ([('Bergen', 'wrong'), ('Oslo', 'right')], [('Oslo', 'wrong'), (None, 'right')])
    """
    pairs: list[tuple[str | None, Verdict]] = [
        (value, "unsure" if choice == "?" else "right" if choice in (key, "b") else "wrong")
        for key, value in (("1", first), ("2", second))
    ]
    return sorted(pairs, key=lambda pair: pair[1] == "right")  # the newest one stands


def decided_fields(
    decisions: Decisions, row: Mapping[str, Any], stage: str, columns: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield what is known of each field, as `fields` does, and what a person decided about it.

    A value that was decided is the table's from then on: another answer differs from it, and is wrong; only a list or a
    longer text may be right in other words.
    """
    judged = decisions.judgements(row, stage)
    for field in fields(row, stage, columns):
        judgement = judged.get(field["column"])
        yield field | ({"decision": None} if judgement is None else _as_decided(field, judgement))


def _as_decided(field: Mapping[str, Any], judgement: Judgement) -> dict[str, Any]:
    answer, state, value = field["answer"], field["state"], judgement.value
    decision: str | None = judgement.of(answer)
    if answer is None and state == "invalid" and value is not None:
        return {"decision": judgement.verdicts.get(value, decision), "cell": shown(value)}  # right all the same
    if decision == "right" and field["_differs"] and judgement.may_replace(field["cell"]):
        state = state if state != "conflict" else "supported" if field["sources"] else "unsupported"
        return {"decision": decision, "state": state, "cell": None, "_differs": False}
    if value is None or answer is None or judgement.same(answer, value):
        return {"decision": decision}
    if decision is None and len(value) <= LONGEST_FACT and value[:1] not in "[{":
        decision = "wrong"
    state = "conflict" if state in ("supported", "unsupported") else state
    return {"decision": decision, "state": state, "cell": shown(value), "_differs": True}


def open_doubts(decisions: Decisions, row: Mapping[str, Any], stage: str, columns: Mapping[str, str]) -> list[Doubt]:
    """Return the doubts about a stage's answer that no decision has settled.

    Where everything in an answer is decided, what speaks against the whole reply is settled, too.
    """
    doubts = doubts_of(row, stage)
    if not doubts or not row.get(meta(stage, "decisions")):
        return doubts
    undecided = [field for field in decided_fields(decisions, row, stage, columns) if _is_open(field)]
    fields_left: set[str | None] = {columns[field["column"]] for field in undecided}
    whole = {None} if any(field["answer"] is not None for field in undecided) else set()
    return [doubt for doubt in doubts if doubt.rank == FAILED or doubt.field in fields_left | whole]


def _is_open(field: Mapping[str, Any]) -> bool:
    """Whether an answer is not decided, or found right while this record's cell, which nobody saw, still differs."""
    return field["decision"] in (None, "unsure") or (field["decision"] == "right" and field["_differs"])
