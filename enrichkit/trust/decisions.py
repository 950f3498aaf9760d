"""Deciding: a person's verdicts on answers, as durable as a reply. Nothing is asked, and no run is waited for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import pyarrow as pa

from ..errors import InputError, StoreError
from ..formatting import perhaps, plain, rows_told
from ..gemini.wire import decode, parse
from ..reading.json_text import locate
from ..store.decisions import (
    Decision,
    Judgement,
    Verdict,
    about_of,
    as_parsed,
    judgements,
    may_replace,
    parsed,
    write_decisions,
)
from ..store.files import folder_of, is_store, trial_sides
from ..store.index import RECORD_ID
from ..store.reader import StoreReader
from ..store.rows import meta
from ..table.arrow import alike, as_column, as_frame, as_text
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
    if "first" in frame.columns:
        return choose(folder_of(out), frame)
    reader = StoreReader(out)
    for name in (name for name in (RECORD_ID, "column") if name not in frame.columns):
        raise InputError(
            "The cells to decide lack the column {name!r}. Give rows of {listed}.",
            name=name,
            listed="evidence or corrections",
        )
    columns = {column: stage for stage, answers in reader.answers.items() for column in answers}
    per = {stage: facts.get("per", reader.key) for stage, facts in reader.stages.items()}
    table = reader.rows_of({str(record) for record in frame[RECORD_ID]})
    kinds = dict(zip(table.column_names, table.schema.types, strict=True))
    rows = {row[RECORD_ID]: row for row in table.to_pylist()}
    decisions: dict[int, Decision] = {}
    agreed: dict[tuple[Any, ...], int] = {}
    for place, word, right in _verdicts(frame, verdict, value):
        record, column = str(frame[RECORD_ID].iloc[place]), str(frame["column"].iloc[place])
        where = rows_told([place], frame.index)
        if column not in columns:
            raise InputError(
                "{where}, 'column': no stage of {store} answers {column!r}.{hint}",
                where=where.capitalize(),
                store=reader.folder,
                column=column,
                hint=perhaps(column, columns),
            )
        if record not in rows:
            raise InputError(
                "{where}, {name!r}: {store} has no sealed record {record!r}.",
                where=where.capitalize(),
                name=RECORD_ID,
                store=reader.folder,
                record=record,
            )
        row, stage = rows[record], columns[column]
        decision = Decision(
            stage=stage,
            column=column,
            about=about_of(row, per[stage]),
            record_id=record,
            verdict=word,
            instead=_fitting(right, kinds.get(column, pa.string()), where, column),
            stored=as_parsed(row.get(column)),
            **_seen(frame.iloc[place], _held(row, stage, column, reader.answers[stage][column], word)),
        )
        decisions[place] = decision
        first = agreed.setdefault((column, decision.about, decision.value), place)
        if (decision.verdict, decision.instead) != (decisions[first].verdict, decisions[first].instead):
            raise InputError(
                "{where} do not agree about the same answer, to {column!r}.",
                where=rows_told([first, place], frame.index).capitalize(),
                column=column,
            )
    if decisions:
        try:
            write_decisions(reader.folder, list(decisions.values()))
        except OSError as error:
            raise StoreError(
                "No decision was stored beside {store}: {reason}.", store=reader.folder, reason=error.strerror or error
            ) from error
    return len(decisions)


def _verdicts(frame: pd.DataFrame, verdict: str | None, value: Any) -> Iterator[tuple[int, Verdict, Any]]:
    """Yield the places of the rows that are decided, each with its verdict, and the value that is right instead."""
    if not is_missing(value) and verdict not in (None, "wrong"):
        raise InputError("Give either a verdict or a value, not {verdict!r} and a value.", verdict=verdict)
    for place in range(len(frame)):
        words, right = verdict, value
        if verdict is None and is_missing(value):
            words, right = (frame[name].iloc[place] if name in frame.columns else None for name in ("verdict", "value"))
        word = cell_text(words).casefold() or ("" if is_missing(right) else "value")
        where = rows_told([place], frame.index).capitalize()
        if word and word not in get_args(Verdict):
            raise InputError(
                "{where}, 'verdict': {word!r:.60} is not one of {listed}.{hint}",
                where=where,
                word=word,
                listed=", ".join(get_args(Verdict)),
                hint=perhaps(word, get_args(Verdict)),
            )
        if word == "value" and is_missing(right):
            raise InputError("{where}, 'value': it is empty, where the verdict is 'value'.", where=where)
        if word in ("right", "unsure") and not is_missing(right):
            raise InputError("{where} has the verdict {word!r}, and a value too. Remove one.", where=where, word=word)
        if word:
            yield place, word if is_missing(right) else "value", right  # type: ignore[misc]


def _fitting(value: Any, kind: pa.DataType, where: str, column: str) -> str | None:
    """Return the right value as text; raise if its column cannot hold it."""
    if is_missing(value):
        return None
    fits = parsed(_unguarded(as_parsed(value) or ""), kind)
    if as_column([fits], kind)[1]:
        raise InputError(
            "{where}, 'value': {value!r:.60} does not fit {column!r}, which holds {kind}.",
            where=where.capitalize(),
            value=plain(as_text(value)),
            column=column,
            kind=kind,
        )
    return as_parsed(fits)


def _unguarded(text: str) -> str:
    """Return a text without the sign that keeps a sheet from taking it for a formula."""
    return text[1:] if text[:1] == "'" and text[1:2] in tuple("=+-@\t\r") else text


def _held(row: Mapping[str, Any], stage: str, column: str, field: str, verdict: Verdict) -> dict[str, str | None]:
    """Return the answer that a row holds, and the table's own cell, as text."""
    proposed = {entry["column"]: entry["answer"] for entry in row.get(meta(stage, "corrections")) or ()}
    cell = as_parsed(row.get(column))
    answer = proposed.get(column) or (cell if field in (row.get(meta(stage, "fields_found")) or ()) else None)
    if answer is None and verdict == "right":
        answer = _emptied(row, stage, field)
    return {"value": answer, "cell": None if column in (row.get(meta(stage, "filled")) or ()) else cell}


def _emptied(row: Mapping[str, Any], stage: str, field: str) -> str | None:
    """Return the value of a field that a check emptied, out of the reply itself."""
    states = {state["field"]: state["state"] for state in row.get(meta(stage, "states")) or ()}
    if states.get(field) != "invalid":
        return None
    for payload in reversed(row.get(meta(stage, "replies")) or ()):
        values = locate(decode(payload, parse)[0].text or "").values or {}
        if not is_missing(values.get(field)):
            return as_parsed(values[field])
    return None


def _seen(line: pd.Series[Any], held: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the answer and the cell that were seen: as the store has them, but where the line has something else."""
    seen = dict(held)
    for name, columns in SEEN.items():
        given = next((_unguarded(as_text(line[column])) for column in columns if not is_missing(line.get(column))), "")
        if given and not alike(given, as_text(_plain(held[name]))):
            seen[name] = given
    return seen


def _plain(text: str | None) -> Any:
    return json.loads(text) if text and text[0] == "[" else text or ""


def choose(out: Path, cells: pd.DataFrame) -> int:
    """Store what was chosen in the ``verdict`` of rows of `to_choose`; return in how many of them."""
    chosen = cells[pd.Series([not is_missing(verdict) for verdict in cells["verdict"]], cells.index, dtype=bool)]
    for word in {str(verdict).strip() for verdict in chosen["verdict"]} - {*CHOICES}:
        raise InputError("verdict must be one of {listed}, not {word!r}.", listed=", ".join(CHOICES), word=word)
    reader = store_behind(out, chosen)
    per = {stage: facts.get("per", reader.key) for stage, facts in reader.stages.items()}
    facts = [meta(stage, "filled") for stage in per]
    rows = reader.rows({RECORD_ID, *chosen["column"], *facts, *itertools.chain(*per.values())}, decided=False)
    by_record = {row[RECORD_ID]: row for row in rows.to_pylist()}
    rounds: list[list[Decision]] = [[], []]  # of two decisions about a cell, each is in a file of its own
    for cell in chosen.to_dict("records"):
        row, stage, column = by_record[cell[RECORD_ID]], cell["stage"], cell["column"]
        own = None if column in (row.get(meta(stage, "filled")) or ()) else row[column]
        seen = None if is_missing(own) else as_text(own)
        values = [None if is_missing(cell[name]) else str(cell[name]) for name in ("first", "second")]
        for number, (value, verdict) in enumerate(judged(str(cell["verdict"]).strip(), *values)):
            what = (stage, column, about_of(row, per[stage]), cell[RECORD_ID], value, seen, verdict)
            rounds[number].append(Decision(*what, stored=as_parsed(row[column])))
    for decisions in filter(None, rounds):
        write_decisions(out, decisions)
    return len(chosen)


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


def decided_fields(row: Mapping[str, Any], stage: str, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield what is known of each field, as `fields` does, and what a person decided about it.

    A value that was decided is the table's from then on: another answer differs from it, and is wrong; only a list or a
    longer text may be right in other words.
    """
    judged = judgements(row, stage, columns)
    for field in fields(row, stage, columns):
        judgement = judged.get(field["column"])
        yield field | ({"decision": None} if judgement is None else _as_decided(field, judgement, row))


def _as_decided(field: Mapping[str, Any], judgement: Judgement, row: Mapping[str, Any]) -> dict[str, Any]:
    answer, state, value = field["answer"], field["state"], judgement.value
    entries = [entry for entry in row[meta(judgement.stage, "decisions")] if entry["column"] == field["column"]]
    decision: str | None = judgement.of(answer)
    if answer is None and decision is None and value is not None:
        decision = judgement.verdicts.get(value, "value")  # emptied, and right all the same
    differs = value is not None and answer is not None and not judgement.same(answer, value)
    if decision == "right" and state == "conflict" and may_replace(field["cell"], entries):
        return {"decision": decision, "state": "supported" if field["sources"] else "unsupported", "cell": None}
    if not differs:
        return {"decision": decision}
    if decision is None and len(value or "") <= LONGEST_FACT and (value or "")[:1] not in "[{":
        decision = "wrong"
    state = "conflict" if state in ("supported", "unsupported") else state
    return {"decision": decision, "state": state, "cell": as_text(_plain(value))}


def open_doubts(row: Mapping[str, Any], stage: str, columns: Mapping[str, str]) -> list[Doubt]:
    """Return the doubts about a stage's answer that no decision has settled.

    Where everything in an answer is decided, what speaks against the whole reply is settled, too.
    """
    doubts = doubts_of(row, stage)
    if not doubts or not row.get(meta(stage, "decisions")):
        return doubts
    undecided = [field for field in decided_fields(row, stage, columns) if _is_open(field)]
    fields_left: set[str | None] = {columns[field["column"]] for field in undecided}
    whole = {None} if any(field["answer"] is not None for field in undecided) else set()
    return [doubt for doubt in doubts if doubt.rank == FAILED or doubt.field in fields_left | whole]


def _is_open(field: Mapping[str, Any]) -> bool:
    """Whether an answer is not decided, or found right while this record's cell, which nobody saw, still differs."""
    return field["decision"] in (None, "unsure") or (field["decision"] == "right" and field["cell"] is not None)
