"""The answer: what a stage asks for, as a pydantic model, and how it is read out of a reply's text.

`Answer` is the base of every stage's model. One walk over its annotations gives a `Shape` in our own terms, and
from that come the JSON Schema that is sent, the Arrow type that is stored and the words of the fingerprints: no
library's own description, which may change with its version, reaches a fingerprint. It refuses to know where an
answer is stored or what it cost.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from ..errors import StageError
from ..table.arrow import DEEPEST

CONFIDENCE = ("high", "medium", "low")
SEARCH_QUALITY = ("excellent", "good", "limited", "poor")
NOT_SAID = "not said"
"""The level of an answer that does not say it."""
KEEP: Any = type("Keep", (), {"__repr__": lambda self: "KEEP"})()
NOTHING = frozenset({"", "n/a", "none", "null", "unknown", "(unknown)", "not found", "not available", "-"})

DECODER = json.JSONDecoder()
BRACES = re.compile(r"[{}]"), re.compile(r'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)
"""The braces of a text: all of them, and those that stand in no quotes."""


class Answer(BaseModel):
    """The fields asked of a record; subclass it and add your own, each with a default.

    What it brings is the model's view of its own answer, all of it optional:

    Attributes
    ----------
    confidence : {"high", "medium", "low"} or None
        How sure the model says it is.
    search_quality : {"excellent", "good", "limited", "poor"} or None
        How much the search brought, as the model says.
    fields_found : list of str or None
        What the model says it found; `enrichkit` counts for itself.
    notes : str or None
        One sentence.

    Examples
    --------
    >>> class Company(Answer):
    ...     industry: str | None = None
    >>> Company(industry=" Software ", confidence="High").model_dump(exclude_none=True)
    {'confidence': 'high', 'industry': 'Software'}
    """

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True, coerce_numbers_to_str=True)
    about_itself: ClassVar[tuple[str, ...]] = ("confidence", "search_quality", "fields_found", "notes")

    confidence: Literal["high", "medium", "low"] | None = None
    search_quality: Literal["excellent", "good", "limited", "poor"] | None = None
    fields_found: list[str] | None = None
    notes: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _words_for_nothing(cls, values: Any) -> Any:
        """Read "N/A", "unknown" and the like as no answer, unless the field must have one or offers that very word."""
        if not isinstance(values, Mapping):
            return values

        def says_nothing(name: str, value: Any) -> bool:
            if not isinstance(value, str) or value.strip().lower() not in NOTHING or name not in cls.model_fields:
                return False
            field = cls.model_fields[name]
            return not field.is_required() and value.strip() not in _literals(field.annotation)

        return {name: None if says_nothing(name, value) else value for name, value in values.items()}

    @field_validator("confidence", "search_quality", mode="before")
    @classmethod
    def _lower_case(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value


def _literals(annotation: Any) -> set[Any]:
    """Return every choice that an annotation offers."""
    args = get_args(annotation)
    return set(args) if get_origin(annotation) is Literal else set().union(*map(_literals, args))


@dataclass(frozen=True, slots=True)
class Issue:
    """What a check found wrong with one field.

    Parameters
    ----------
    field : str
        The answer's field.
    check : str
        The check's name, in snake case.
    detail : str
        What was seen, for a person.
    instead : object
        ``None`` empties the field, another value replaces it; left out, the value stays as it is.
    """

    field: str
    check: str
    detail: str = ""
    instead: Any = KEEP

    @property
    def flags(self) -> bool:
        """Whether the value stays, and is doubtful."""
        return self.instead is KEEP

    def __str__(self) -> str:
        return f"{self.field}: {self.check}: {self.detail}" if self.detail else f"{self.field}: {self.check}"


@dataclass(frozen=True, slots=True)
class Shape:
    """A field's type in our own words: ``kind`` is text, int, float, bool, list or object."""

    kind: str
    choices: tuple[str, ...] = ()
    of: Shape | None = None
    fields: tuple[tuple[str, Shape, str], ...] = ()
    optional: bool = False

    @property
    def words(self) -> str:
        """The canonical spelling, for fingerprints."""
        inner = {
            "list": lambda: self.of.words if self.of else "",
            "object": lambda: ",".join(f"{name}:{shape.words}" for name, shape, _ in self.fields),
        }.get(self.kind, lambda: "|".join(self.choices))()
        return f"{self.kind}({inner}){'?' if self.optional else ''}"

    @property
    def arrow(self) -> pa.DataType:
        """The type of the stored column."""
        if self.kind == "list" and self.of:
            return pa.list_(self.of.arrow)
        if self.kind == "object":
            return pa.struct([(name, shape.arrow) for name, shape, _ in self.fields])
        return {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}[self.kind]

    def schema(self, description: str = "") -> dict[str, Any]:
        """Return the JSON Schema that is sent, made of words that both SDKs can send."""
        json_type = {"text": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array"}
        result: dict[str, Any] = {"type": json_type.get(self.kind, "object")}
        if self.choices:
            result["enum"] = list(self.choices)
        if self.of:
            result["items"] = self.of.schema()
        if self.kind == "object":
            result["properties"] = {name: shape.schema(about) for name, shape, about in self.fields}
            result["required"] = [name for name, shape, _ in self.fields if not shape.optional]
        if self.optional:
            result["nullable"] = True
        if description:
            result["description"] = description
        return result


def shape_of(annotation: Any, *, where: str) -> Shape:
    """Return the shape of a type annotation; `StageError` names the field whose type cannot be asked for."""
    if where.count(".") > DEEPEST:
        raise StageError(f"The answer field {where[:80] + '…'!r} is nested too deeply. A model cannot hold itself.")
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        given = [arg for arg in args if arg is not type(None)]
        if len(given) == 1:
            return replace(shape_of(given[0], where=where), optional=True)
    elif origin is Literal and all(isinstance(arg, str) for arg in args):
        return Shape("text", choices=args)
    elif origin in (list, tuple, set, frozenset) and args:
        return Shape("list", of=shape_of(args[0], where=where))
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = tuple(
            (name, _field_shape(info, where=f"{where}.{name}"), info.description or "")
            for name, info in annotation.model_fields.items()
        )
        return Shape("object", fields=fields)
    simple = {str: "text", int: "int", float: "float", bool: "bool"}.get(annotation)
    if simple:
        return Shape(simple)
    raise StageError(
        f"The answer field {where!r} has the type {annotation!r}, which cannot be asked for and stored. "
        "Use str, int, float, bool, Literal of strings, list[...] or a pydantic model, each with '| None'."
    )


def _field_shape(info: Any, *, where: str) -> Shape:
    shape = shape_of(info.annotation, where=where)
    return replace(shape, optional=shape.optional or not info.is_required())


def find_object(text: str, names: frozenset[str] | None = None) -> dict[str, Any] | None:
    """Return the JSON object in a reply's text, or None; tolerates a Markdown fence and prose around it.

    It has one of the names, if there are any to go by; or it is empty, which says that nothing was found.

    >>> find_object('Sure! ```json\\n{"role": "Partner"}\\n```', frozenset({"role"}))
    {'role': 'Partner'}
    """
    return locate_object(text, names)[1]


def locate_object(text: str, names: frozenset[str] | None) -> tuple[int, dict[str, Any] | None]:
    """Return the same with the place where it begins.

    What stands within a broken object is none: a company of the portfolio would pass for the firm.
    """
    empty: tuple[int, dict[str, Any] | None] = (-1, None)
    start = text.find("{")
    # A bound: hostile text of a million braces must not cost a million scans.
    for _ in range(50):
        if start < 0:
            break
        try:
            found, end = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            # Quotes may be what is broken: so the braces are counted with and without those in quotes.
            end = max(_closes(text, start, braces) for braces in BRACES)
        else:
            if names is None or names & found.keys():
                return start, found
            empty = empty if found else (start, found)
        start = text.find("{", end)
    return empty


def _closes(text: str, start: int, braces: re.Pattern[str]) -> int:
    """Return where the brace at ``start`` is closed; the text's end if nowhere."""
    depth = 0
    for match in braces.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if not depth:
            return match.end()
    return len(text)


def read_answer(model: type[Answer], text: str) -> tuple[Answer | None, list[Issue]]:
    """Return the typed answer in a reply's text, and the fields that had to be left out.

    ``None`` means that the text holds no object of this model: none at all, one that lacks a required field, or
    one of which no field is usable. A single field of the wrong type is left empty and named.
    """
    names = frozenset(model.model_fields)
    found = find_object(text, names)
    if found is None:
        return None, []
    values = {name: value for name, value in found.items() if name in names}
    issues: list[Issue] = []
    for name, value in list(values.items()):
        if not _storable(value):
            issues.append(Issue(name, "wrong_type", f"cannot be stored: {_short(value)}"))
            del values[name]
    while True:
        try:
            return (model.model_validate(values) if values or not issues else None), issues
        except ValidationError as error:
            wrong = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]} & values.keys()
            if not wrong:
                return None, issues
            issues += [Issue(name, "wrong_type", _short(values.pop(name))) for name in sorted(wrong)]


def _storable(value: Any, depth: int = 0) -> bool:
    """Whether text is valid Unicode, numbers fit 64 bits and nesting ends: all else breaks a column at the seal."""
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth < DEEPEST and all(_storable(inner, depth + 1) for inner in inside)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} nested too deeply"
    return (text if len(text) <= 80 else text[:79] + "…").encode("ascii", "backslashreplace").decode()
