"""The shape of an answer: its fields and their types, in our own terms.

One walk over a model's annotations gives a `Shape`, and from that come the JSON Schema that is sent, the Arrow type
that is stored and the words of the fingerprints: no library's own description, which may change with its version,
reaches a fingerprint. How a value is read, `values` knows.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

from ..errors import StageError
from ..table.arrow import DEEPEST

SIMPLE: dict[Any, str] = {str: "text", int: "int", float: "float", bool: "bool"}
ARROW = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
JSON = {"text": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array", "object": "object"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A field's type in our own words: ``kind`` is text, int, float, bool, list or object."""

    kind: str
    choices: tuple[str, ...] = ()
    of: Shape | None = None
    fields: tuple[tuple[str, Shape, str], ...] = ()
    """Of an object: each field's name, shape and description."""
    optional: bool = False

    @property
    def words(self) -> str:
        """The canonical spelling, for fingerprints."""
        inner = "|".join(self.choices) or ",".join(f"{name}:{shape.words}" for name, shape, _ in self.fields)
        return f"{self.kind}({self.of.words if self.of else inner}){'?' if self.optional else ''}"

    @property
    def arrow(self) -> pa.DataType:
        """The type of the stored column."""
        if self.of:
            return pa.list_(self.of.arrow)
        if self.kind == "object":
            return pa.struct([(name, shape.arrow) for name, shape, _ in self.fields])
        return ARROW[self.kind]

    def schema(self, description: str = "") -> dict[str, Any]:
        """Return the JSON Schema that is sent; of a field that may be missing, ``anyOf`` the type and null."""
        words: dict[str, Any] = {"type": JSON[self.kind]}
        words |= {"enum": list(self.choices) or None, "items": self.of.schema() if self.of else None}
        if self.kind == "object":
            words["properties"] = {name: shape.schema(about) for name, shape, about in self.fields}
            words["required"] = [name for name, shape, _ in self.fields if not shape.optional]
        words = {word: value for word, value in words.items() if value is not None}
        about = {"description": description} if description else {}
        return ({"anyOf": [words, {"type": "null"}]} if self.optional else words) | about


def shape_of(annotation: Any, *, where: str) -> Shape:
    """Return the shape of a type annotation; `StageError` names the field whose type cannot be asked for."""
    if where.count(".") > DEEPEST:
        raise StageError(
            "The answer field {place!r} is nested too deeply. A model cannot hold itself.", place=where[:80] + "…"
        )
    origin, args = get_origin(annotation), get_args(annotation)
    members = [member for member in args if member is not type(None)]
    if annotation in SIMPLE:
        return Shape(SIMPLE[annotation])
    if origin is Annotated:
        return shape_of(args[0], where=where)
    if origin in (Union, types.UnionType) and len(members) == 1:
        return replace(shape_of(members[0], where=where), optional=True)
    if origin is Literal and all(isinstance(choice, str) for choice in args):
        return Shape("text", choices=args)
    if origin in (list, tuple, set, frozenset) and args:
        return Shape("list", of=shape_of(args[0], where=where))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = []
        for name, info in annotation.model_fields.items():
            shape = shape_of(info.annotation, where=f"{where}.{name}")
            shape = replace(shape, optional=shape.optional or not info.is_required())
            fields.append((name, shape, info.description or ""))
        return Shape("object", fields=tuple(fields))
    raise StageError(
        "The answer field {where!r} has the type {annotation!r}, which cannot be asked for and stored. Use str, int, "
        "float, bool, Literal of strings, list[...] or a pydantic model, each with '| None'.",
        where=where,
        annotation=annotation,
    )
