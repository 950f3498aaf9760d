"""The choice of a call: which stages it asks, in which order, and under which names they read its table.

It refuses what cannot work with a table's columns, before any request.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import GenericAlias
from typing import Any, Optional, get_origin

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, Field, create_model

from ..errors import InputError, StageError
from ..formatting import Sentence, perhaps
from ..reading.answer import Answer, Check
from ..reading.shape import ARROW, SIMPLE, shape_of
from ..table.arrow import NO_NAMES
from . import funds
from .kinds import Kind
from .stage import Stage

Fields = Mapping[str, Any] | type[BaseModel]
DEFAULT = ("poc", "fund")


def choose_stages(
    stages: Sequence[str | Stage] | None, *, prompt: str | None = None, fields: Fields | None = None
) -> list[Stage]:
    """Return stages given by name or as such, or the one that a prompt and its fields make.

    Raises
    ------
    StageError
        If they are not what they must be, or both are given.
    """
    if prompt is not None or fields is not None:
        if stages is not None:
            raise StageError("{prompt} and {fields} make a stage of their own. Give these or {stages}, not both.")
        if prompt is None or fields is None:
            raise StageError(
                "{prompt} and {fields} go together: what is asked, with the columns that it reads in braces, and the "
                "columns that its answer fills, each with its type."
            )
        return [stage_of(prompt, fields)]
    stages = DEFAULT if stages is None else stages
    if isinstance(stages, str | Stage) or not isinstance(stages, Sequence):
        raise StageError("{stages} must be a sequence: stages=({stage!r},).", stage=stages)
    for stage in stages:
        if not isinstance(stage, Stage) and not (isinstance(stage, str) and stage in funds.STAGES):
            raise StageError(
                "There is no stage {name!r}. Built in: {listed}; or give {own_stage}.{hint}",
                name=stage,
                listed=", ".join(funds.STAGES),
                hint=perhaps(stage, funds.STAGES),
            )
    # Anew: a constant that a check names may be another one since this stage was last read with.
    return [replace(stage if isinstance(stage, Stage) else funds.STAGES[stage]) for stage in stages]


def checks_as_stored(name: str, answers: Mapping[str, str], kinds: Sequence[Kind]) -> Sequence[Check]:
    """Return the checks of a stage as far as its store tells of it: all of a built-in one, else its kinds."""
    built_in = funds.STAGES.get(name)
    return built_in.checks if built_in is not None and built_in.answers == answers else kinds


def stage_as_stored(name: str, answers: Mapping[str, str], schema: pa.Schema, kinds: Sequence[Kind]) -> Stage:
    """Return a stage as far as its store tells of it: its columns, each with its field and type, and its kinds."""
    built_in = funds.STAGES.get(name)
    if built_in is not None and built_in.answers == answers:
        return built_in
    types = {field: _type_of(schema.field(column).type) for column, field in answers.items()}
    fields: dict[str, Any] = {field: (kind | None, None) for field, kind in types.items()}
    answer = create_model(name, __base__=Answer, **fields)
    columns = {field: column for column, field in answers.items()}
    return Stage(name, prompt="{key}", answer=answer, search=False, checks=tuple(kinds), columns=columns)


def _type_of(kind: pa.DataType) -> Any:
    """Return the type of the values in a column."""
    if pa.types.is_list(kind):
        return GenericAlias(list, (_type_of(kind.value_type),))
    if pa.types.is_map(kind):
        return GenericAlias(dict, (str, _type_of(kind.item_type)))
    if pa.types.is_struct(kind):
        parts: dict[str, Any] = {part.name: (_type_of(part.type) | None, None) for part in kind}
        return create_model("Part", **parts)
    words = {arrow: word for word, arrow in ARROW.items()}
    return next((simple for simple, word in SIMPLE.items() if word == words.get(kind)), str)


def stage_of(prompt: str, fields: Fields) -> Stage:
    """Return the stage ``answer``, which asks a prompt and fills columns named like the fields.

    >>> stage = stage_of("Research {name} in {country}.", {"industry": str, "employees": (int, "At the head office.")})
    >>> stage.reads, list(stage.answers)
    (('name', 'country'), ['industry', 'employees'])
    """
    if not isinstance(fields, Mapping | type):
        raise StageError("{fields} must map names to types, or be a pydantic model, not {kind!r}.", kind=fields)
    answer = _model_of(fields) if isinstance(fields, Mapping) else fields
    stage = Stage("answer", prompt=prompt, answer=answer, columns="")
    if both := [name for name in stage.reads if name in stage.answers]:
        raise StageError(
            "{prompt} reads {both!r}, which is also one of {fields}, to be filled. Leave it out of one of them.",
            both=both[0],
        )
    return stage


def _model_of(fields: Mapping[str, Any]) -> type[BaseModel]:
    """Return an answer model of these fields, each of which may be missing."""
    parts: dict[str, Any] = {}
    for name, given in fields.items():
        if not isinstance(name, str) or not re.fullmatch(r"[^\W\d_]\w*", name) or hasattr(BaseModel, name):
            raise StageError(
                "No field can be named {name!r}: letters, digits and underscores, a letter first, and no method of "
                "pydantic's. {names} fills a column of any name.",
                name=name,
            )
        kind, about = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        if (not isinstance(kind, type) and get_origin(kind) is None) or not isinstance(about, str | None):
            raise StageError(
                "The field {name!r} needs a type, such as str, int, float, bool, list[str] or Literal['a', 'b'], or "
                "(type, 'description'), not {given!r}.",
                name=name,
                given=given,
            )
        shape_of(kind, where=name)
        parts[name] = (Optional[kind], Field(None, description=about))  # noqa: UP045 - made from a value
    return create_model("Fields", **parts)


def with_stage_names(frame: pd.DataFrame, names: Mapping[str, str], stages: Sequence[Stage]) -> pd.DataFrame:
    """Return a table with some of its columns under the names that the stages know them by.

    Raises
    ------
    InputError
        If a name means nothing to the stages, or a column has two names, or is not in the table, where it is read or
        like one that is there.
    """
    filled = {name for stage in stages for name in stage.answers}
    read = {name for stage in stages for name in (*stage.reads, *(stage.per or ()), *stage.requires)}
    known = {*funds.KEY, *read, *filled}
    for name, own in names.items():
        if name not in known:
            raise InputError(
                "{names}: no stage of this call reads or fills {name!r}.{hint} The stages' name comes first.",
                name=name,
                hint=perhaps(name, known),
            )
        hint = perhaps(own, frame.columns, frame.index.names)
        if own not in frame.columns and (hint or name not in filled):
            raise InputError("{names}: the table has no column {own!r}.{hint}", own=own, hint=hint)
        if own != name and name in frame.columns and own in frame.columns and name not in names.values():
            raise InputError(
                "{names}: the table has the columns {both}, and both would be {name!r}. Drop or rename one.",
                both=f"{name!r} and {own!r}",
                name=name,
            )
    if len(set(names.values())) < len(names):
        raise InputError("{names} gives one column two names. Give each one.")
    stage_names = {own: name for name, own in names.items()}
    return frame.set_axis([stage_names.get(own, own) for own in frame.columns], axis="columns") if names else frame


def arrange(
    stages: Sequence[Stage],
    columns: Collection[str],
    *,
    index: Sequence[Any] = (),
    names: Mapping[str, str] = NO_NAMES,
) -> list[Stage]:
    """Return the stages in an order in which each comes after those whose answers it needs.

    What is said of the table has its index, and the user's own ``names`` of columns that the stages know by others.

    Raises
    ------
    StageError, InputError
        If a name occurs twice, two stages write one column, stages wait for each other, or a name in a prompt is
        neither a column of the table nor an answer of another stage.
    """
    given_names = [stage.name for stage in stages]
    if not stages or len(set(given_names)) < len(given_names):
        raise StageError(
            "Give at least one stage, and each name once: {reason}.", reason=", ".join(given_names) or "none given"
        )
    writer = _writers(stages)
    shown = [str(names.get(column, column)) for column in columns]
    needed: dict[str, set[str]] = {}
    wished: dict[str, set[str]] = {}
    for stage in stages:
        answered = {column for column, other in writer.items() if other is not stage}
        given = {*columns, *stage.optional}
        _check_reads(stage, given, answered, shown, index)
        reads = {*stage.requires, *(name for name in stage.reads if name not in given)} & answered
        needed[stage.name] = {writer[column].name for column in reads} | (
            set(stage.after) & set(given_names) - {stage.name}
        )
        # In a column of the table, too, there may be gaps that the other stage fills.
        gaps = {*stage.reads} & answered - stage.optional
        wished[stage.name] = {writer[column].name for column in gaps} | needed[stage.name]
    ordered: dict[str, Stage] = {}
    while waiting := [stage for stage in stages if stage.name not in ordered]:
        ready = (stage for after in (wished, needed) for stage in waiting if after[stage.name] <= ordered.keys())
        if (chosen := next(ready, None)) is None:
            listed = ", ".join(stage.name for stage in waiting)
            raise StageError("These stages wait for each other's answers: {listed}.", listed=listed)
        ordered[chosen.name] = chosen
    return list(ordered.values())


def _writers(stages: Sequence[Stage]) -> dict[str, Stage]:
    """Return which stage writes each column; raise if two write one."""
    writer: dict[str, Stage] = {}
    for stage in stages:
        for column in stage.answers:
            if (other := writer.setdefault(column, stage)) is not stage:
                pair = f"{other.name!r} and {stage.name!r}"
                raise StageError("{pair} both write {column!r}. Give one other 'columns'.", pair=pair, column=column)
    return writer


def _check_reads(
    stage: Stage, given: Collection[str], answered: Collection[str], shown: Sequence[str], index: Sequence[Any]
) -> None:
    """Raise if a stage reads what is neither given nor answered by another; what it is about has to be given."""
    per = stage.per or ()
    for name in (*stage.reads, *per, *stage.requires):
        if name not in given and (name in per or name not in answered):
            cure = Sentence(" Correct the name, or map it by {names}; of other tables ask by {prompt} and {fields}.")
            raise InputError(
                "Stage {name!r} reads {column!r}, which is {not_what} a column of the table. Its columns: {listed}."
                "{hint}{cure}",
                name=stage.name,
                column=name,
                not_what="not" if name in per else "neither an answer of another stage nor",
                listed=", ".join(shown),
                hint=perhaps(name, [*shown, *(answered if name not in per else ())], index),
                cure="" if name in index else cure,
            )
