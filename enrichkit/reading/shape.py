"""The shape of an answer: its fields and their types, in our own terms.

One walk over a model's annotations gives a `Shape`, and from that come the JSON Schema that is sent, the Arrow type
that is stored and the words of the fingerprints: no library's own description, which may change with its version,
reaches a fingerprint. How a value is read, `values` knows.
"""

from __future__ import annotations

import collections
import collections.abc
import datetime
import math
import numbers
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from annotated_types import GroupedMetadata
from pydantic import (
    AliasPath,
    BaseModel,
    BeforeValidator,
    Json,
    PlainValidator,
    PydanticUserError,
    RootModel,
    TypeAdapter,
    WrapValidator,
)
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo

from ..errors import StageError
from ..table.arrow import DEEPEST

SIMPLE: dict[Any, str] = {str: "text", int: "int", float: "float", bool: "bool"}
SIMPLE |= {Decimal: "decimal", datetime.date: "date", datetime.datetime: "datetime"}
KINDS: dict[tuple[Any, Any], str] = {
    **{("integer", None): "int", ("number", None): "float", ("boolean", None): "bool"},
    **{("string", "date"): "date", ("string", "date-time"): "datetime"},
}
"""The kinds of other types, by the type and format that pydantic gives them; what else is a string, is a text."""
READS = (BeforeValidator, PlainValidator, WrapValidator)
"""Validators that see what was written, before it has its type."""
NO_TEXT = frozenset({"binary", "password"})
ARROW = {
    **{"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()},
    **{"decimal": pa.decimal128(38, 9), "date": pa.date32(), "datetime": pa.timestamp("us")},
}
JSON = {
    **{"int": "integer", "float": "number", "decimal": "number", "bool": "boolean"},
    **{"list": "array", "object": "object", "map": "object"},
}
FORMATS = {"date": "date", "datetime": "date-time"}
LISTS = (list, tuple, set, frozenset, collections.deque, collections.abc.Sequence, collections.abc.Set)
MAPS = (dict, collections.abc.Mapping)
LIMITS = {
    **{"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"},
    **{"multiple_of": "a multiple of {}", "pattern": "of the pattern {}"},
    **{"min_length": "at least {} {of}", "max_length": "at most {} {of}"},
    **{"max_digits": "at most {} digits", "decimal_places": "at most {} decimals"},
}
"""Constraints by the name that pydantic has for them, in words."""
KEYWORDS = {
    **{("number", "ge"): "minimum", ("number", "le"): "maximum", ("integer", "ge"): "minimum"},
    **{("integer", "le"): "maximum", ("array", "min_length"): "minItems", ("array", "max_length"): "maxItems"},
}
"""Those that every dialect of the service's schemas has."""
CURE = (
    "Use str, int, float, bool, Decimal, date, datetime, HttpUrl, an Enum, Literal[...], list[...], dict[str, ...] or "
    "a pydantic model, each with '| None'"
)


class Mark:
    """What an annotation, or a stage, adds to a type for the reading of its values; ``field`` is the path of these."""

    field: str = ""

    def recovered(self, value: Any, shape: Shape) -> Any:
        """Return what a value of this shape may be read from, in place of what was written."""
        return value


@dataclass(frozen=True, slots=True)
class Shape:
    """A field's type in our own words.

    ``kind`` is text, int, float, bool, decimal, date, datetime, list, map or object.
    """

    kind: str
    choices: tuple[str, ...] = ()
    meant: tuple[Any, ...] = ()
    """The values that the choices stand for, if those are not texts."""
    of: Shape | None = None
    fields: tuple[tuple[str, Shape, str], ...] = ()
    """Of an object: each field's name, shape and description."""
    names: frozenset[str] = frozenset()
    """Of an object: all names that its fields may have in a reply."""
    optional: bool = False
    nullable: bool = False
    """Whether the model's own code knows that there may be no value."""
    limits: tuple[tuple[str, Any], ...] = ()
    format: str = ""
    aliases: tuple[tuple[str | int, ...], ...] = ()
    """Other places in an object where a field may stand."""
    own: bool = False
    """Whether the model's own code reads what we cannot."""
    marks: tuple[Mark, ...] = field(default=(), compare=False)

    @property
    def words(self) -> str:
        """The canonical spelling, for fingerprints."""
        inner = "|".join(self.choices) or ",".join(f"{name}:{shape.words}" for name, shape, _ in self.fields)
        aliases = f"={self.aliases}" if self.aliases else ""
        signs = ("?" if self.optional else "") + ("!" if self.own else "")
        return f"{self.kind}({self.of.words if self.of else inner}){signs}{aliases}"

    def marked(self, path: str, mark: Mark) -> Shape:
        """Return the shape with one more mark at a path of its fields; a list's is its items'."""
        if self.of:
            return replace(self, of=self.of.marked(path, mark))
        if not path:
            return replace(self, marks=(*self.marks, mark))
        top, _, rest = path.partition(".")
        fields = {name: (name, part, about) for name, part, about in self.fields}
        if top not in fields:
            raise StageError("{mark!r} names no field of the answer, which has: {listed}.", mark=mark, listed=[*fields])
        _, part, about = fields[top]
        return replace(self, fields=tuple((fields | {top: (top, part.marked(rest, mark), about)}).values()))

    @property
    def arrow(self) -> pa.DataType:
        """The type of the stored column."""
        if self.of:
            return pa.list_(self.of.arrow) if self.kind == "list" else pa.map_(pa.string(), self.of.arrow)
        if self.kind == "object":
            return pa.struct([(name, shape.arrow) for name, shape, _ in self.fields])
        return ARROW[self.kind]

    def schema(self, description: str = "") -> dict[str, Any]:
        """Return the JSON Schema that is sent; of a field that may be missing, ``anyOf`` the type and null.

        Constraints are told in words, too: not every dialect of schemas has them.
        """
        kind = "string" if self.choices else JSON.get(self.kind, "string")
        words: dict[str, Any] = {"type": kind, "enum": list(self.choices) or None, "format": FORMATS.get(self.kind)}
        words["items" if self.kind == "list" else "additionalProperties"] = self.of.schema() if self.of else None
        words |= {KEYWORDS[kind, name]: value for name, value in self.limits if (kind, name) in KEYWORDS}
        if self.kind == "object":
            words["properties"] = {name: shape.schema(about) for name, shape, about in self.fields}
            words["required"] = [name for name, shape, _ in self.fields if not shape.optional]
        words = {word: value for word, value in words.items() if value is not None}
        if limits := ", ".join(self._limits()):
            description = f"{description} ({limits})" if description else limits
        about = {"description": description} if description else {}
        return ({"anyOf": [words, {"type": "null"}]} if self.optional else words) | about

    def _limits(self) -> Iterator[str]:
        if self.format or self.kind in FORMATS:
            yield f"format: {self.format or FORMATS[self.kind]}"
        for name, value in self.limits:
            yield LIMITS[name].format(value, of="items" if self.of else "characters")


def shape_of(annotation: Any, *, where: str) -> Shape:  # noqa: PLR0911 - one line for each kind of type
    """Return the shape of a type annotation; `StageError` names the field whose type cannot be asked for."""
    if where.count(".") > DEEPEST:
        raise StageError(
            "The answer field {place!r} is nested too deeply. A model cannot hold itself.", place=where[:80] + "…"
        )
    for name in ("__supertype__", "__value__"):  # of NewType, and of a type statement
        annotation = getattr(annotation, name, annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _limited(shape_of(args[0], where=where), args[1:])
    if origin in (Union, types.UnionType):
        shape = _union([shape_of(part, where=where) for part in args if part is not type(None)])
        if shape is None:
            raise _refusal(annotation, where, "Use one type; of several models, one that has the fields of all")
        return replace(shape, optional=True, nullable=True) if type(None) in args else shape
    if origin is Literal:
        return _choice(list(args), where)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        own = any("_missing_" in vars(kind) for kind in annotation.__mro__ if kind.__module__ != "enum")
        return replace(_choice(list(annotation), where), own=own)
    if origin in LISTS and args:
        return _list(args, where)
    if origin in MAPS and args[0] is str:
        return Shape("map", of=shape_of(args[1], where=f"{where}[...]"))
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        root = annotation.model_fields["root"]
        return _limited(shape_of(root.annotation, where=f"{where}.root"), root.metadata)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = tuple(_fields(annotation, where))
        names = {str(path[0]) for name, part, _ in fields for path in ((name,), *part.aliases)}
        return Shape("object", fields=fields, names=frozenset(names))
    if shape := _simple(annotation):
        return shape
    raise _refusal(annotation, where)


def _union(parts: list[Shape]) -> Shape | None:
    """Return the shape of a value that is of one of these; None for several that differ in more than a format."""
    if len(parts) == 1:
        return parts[0]
    kinds = {part.kind for part in parts}
    is_plain = all(part == Shape(part.kind, format=part.format) and not part.marks for part in parts)
    kind = "float" if kinds == {"int", "float"} else parts[0].kind
    return Shape(kind) if is_plain and kinds in ({kind}, {"int", "float"}) else None


def _refusal(annotation: Any, where: str, cure: str = CURE) -> StageError:
    return StageError(
        "The answer field {where!r} has the type {annotation!r}, which cannot be asked for and stored. {cure}.",
        where=where,
        annotation=annotation,
        cure=cure,
    )


def _fields(model: type[BaseModel], where: str) -> Iterator[tuple[str, Shape, str]]:
    rules = model.__pydantic_decorators__
    early = [rule.info for rule in rules.field_validators.values() if rule.info.mode != "after"]
    whole = any(rule.info.mode != "after" for rule in rules.model_validators.values())
    own_readers = {name for info in early for name in info.fields} | ({"*"} if whole else set())
    for name, info in model.model_fields.items():
        if Json in map(type, info.metadata):
            raise _refusal(Json, f"{where}.{name}")
        shape = _limited(shape_of(info.annotation, where=f"{where}.{name}"), info.metadata)
        shape = _by_value(shape) if model.model_config.get("use_enum_values") else shape
        paths = [
            path for given in (info.alias, info.validation_alias, info.serialization_alias) for path in _paths(given)
        ]
        aliases = tuple(path for path in dict.fromkeys(paths) if path[0] not in model.model_fields)
        optional = shape.optional or not info.is_required()
        own = shape.own or not own_readers.isdisjoint({name, "*"})
        yield name, replace(shape, optional=optional, aliases=aliases, own=own), info.description or ""


def _by_value(shape: Shape) -> Shape:
    """Return a shape whose choices are stored as what they stand for."""
    kinds = {SIMPLE[type(value)] for value in shape.meant}
    kind = kinds.pop() if len(kinds) == 1 else shape.kind
    return replace(shape, kind=kind, of=_by_value(shape.of) if shape.of else None)


def _paths(alias: Any) -> list[tuple[str | int, ...]]:
    if alias is None or isinstance(alias, str):
        return [(alias,)] if alias else []
    ways = [alias] if isinstance(alias, AliasPath) else alias.choices
    return [tuple(way.path) if isinstance(way, AliasPath) else (way,) for way in ways]


def _choice(values: list[Any], where: str) -> Shape:
    """Return the shape of a choice; members of an Enum that are no texts are asked for by their names."""
    members = [value for value in values if isinstance(value, Enum)]
    plain = [value.value if isinstance(value, Enum) else value for value in values if value is not None]
    if not all(isinstance(value, str | int | float) for value in plain) or (members and len({*map(type, values)}) > 1):
        raise _refusal(values, where, "Let the choices be texts or numbers, or members of one Enum")
    if all(isinstance(value, str) for value in plain):
        return Shape("text", choices=tuple(plain), optional=None in values, nullable=None in values)
    names = [value.name for value in members] or [spoken(value) for value in plain]
    kinds = {SIMPLE[type(value)] for value in plain} if not members else {"text"}
    kind = kinds.pop() if len(kinds) == 1 else "text"
    return Shape(kind, choices=tuple(names), meant=tuple(plain), optional=None in values, nullable=None in values)


def spoken(value: Any) -> str:
    """Return a choice as a model would write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(args: tuple[Any, ...], where: str) -> Shape:
    parts = [part for part in args if part is not Ellipsis]
    if any(part != parts[0] for part in parts):
        raise _refusal(args, where, "Use a pydantic model with a field for each part")
    fixed = (("min_length", len(parts)), ("max_length", len(parts))) if len(parts) > 1 else ()
    return Shape("list", of=shape_of(parts[0], where=where), limits=fixed)


def _limited(shape: Shape, metadata: Iterable[Any]) -> Shape:
    """Return a shape with the constraints that stand beside its type."""
    for rule in metadata:
        if isinstance(rule, Mark):
            shape = shape.marked("", rule)
        elif isinstance(rule, FieldInfo | GroupedMetadata):
            shape = _limited(shape, rule.metadata if isinstance(rule, FieldInfo) else rule)
        else:
            given = [(name, value) for name in LIMITS if (value := getattr(rule, name, None)) is not None]
            new = tuple((name, limit) for name, value in given if (limit := _limit(value)) is not None)
            shape = replace(shape, limits=shape.limits + new, own=shape.own or isinstance(rule, READS))
    return shape


def _limit(value: Any) -> Any:
    """Return a constraint's value as JSON has it; None for one that limits nothing."""
    if isinstance(value, numbers.Number):
        number = float(value)  # type: ignore[arg-type]
        return (int(number) if number.is_integer() else number) if math.isfinite(number) else None
    return getattr(value, "pattern", value)


def _simple(annotation: Any) -> Shape | None:
    """Return the shape of a type without parts, such as HttpUrl, by what pydantic says of it."""
    if annotation in SIMPLE:
        return Shape(SIMPLE[annotation])
    try:
        schema = TypeAdapter(annotation).json_schema()
    except (PydanticUserError, PydanticInvalidForJsonSchema):
        return None
    kind, form = schema.get("type"), schema.get("format")
    if (kind, form) in KINDS:
        return Shape(KINDS[kind, form])
    is_text = kind == "string" and form not in NO_TEXT and "contentMediaType" not in schema
    return Shape("text", format=form or "") if is_text else None


def marked(shape: Shape, things: Iterable[Any]) -> Shape:
    """Return a shape with those things that are marks."""
    for mark in things:
        shape = shape.marked(mark.field, mark) if isinstance(mark, Mark) else shape
    return shape
