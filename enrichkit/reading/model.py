"""The model: a user's pydantic class as it is asked for and read.

Nothing found is no error: whatever a class requires, a field without a value is None, and so is one that has a default.
Fields are known by their own names; which other names a reply may use, the shape knows. It refuses to judge values.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal, InvalidOperation
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, create_model, model_validator
from pydantic_core import to_jsonable_python

from ..errors import StageError
from .shape import LISTS, MAPS, Shape, shape_of

NINE_DECIMALS = Decimal("1e-9")
PLAIN = (str, int, float, Decimal, date, type(None))


class Readable(NamedTuple):
    """A class as it is read.

    The first of the ``kinds`` has all of the user's validators, the other none of those that judge the answer as a
    whole.
    """

    shape: Shape
    kinds: tuple[type[BaseModel], ...]


@functools.lru_cache(maxsize=256)
def readable(model: type[BaseModel]) -> Readable:
    """Return how a class is read.

    Raises
    ------
    StageError
        If a field has a type that cannot be asked for.
    """
    shape = shape_of(model, where=model.__name__)
    return Readable(shape, (_lenient(model, judged=True), _lenient(model, judged=False)))


@functools.lru_cache(maxsize=1000)
def _lenient(model: type[BaseModel], *, judged: bool) -> type[BaseModel]:
    """Return a class whose fields may all be missing, and have no other name or default; or not ``judged``."""
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        field = copy.copy(info)
        field.default, field.default_factory = None, None
        field.alias = field.validation_alias = field.serialization_alias = name
        field.alias_priority = 2  # else an alias generator makes another
        field.validate_default = False
        fields[name] = (Optional[_lenient_type(info.annotation, judged=judged)], field)  # noqa: UP045
    own, without = model.__pydantic_decorators__, dict[str, Any]()
    if not judged:
        without = dict.fromkeys(own.model_validators, model_validator(mode="after")(_as_it_is))
        without |= {"__init__": BaseModel.__init__, "model_post_init": BaseModel.model_post_init}
    return extended(model, without, fields)


def extended(model: type[BaseModel], rules: Mapping[str, Any], fields: Mapping[str, Any]) -> type[BaseModel]:
    """Return a subclass of a user's class, with other validators and fields.

    Raises
    ------
    StageError
        If the class cannot have one.
    """
    own: dict[str, Any] = {"__base__": model, "__module__": model.__module__, "__validators__": dict(rules)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names, which the user's class has warned of
            return create_model(model.__name__, **own, **fields)
    except Exception as error:
        raise StageError(
            "The answer model {name} cannot have a subclass, which reads what is missing: {error}. Take out what "
            "prevents that, or give the fields in a class of their own.",
            name=model.__name__,
            error=error,
        ) from error


def _as_it_is(answer: Any) -> Any:
    return answer


def _lenient_type(annotation: Any, *, judged: bool) -> Any:
    """Return a type annotation with lenient classes in place of the user's."""
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not issubclass(annotation, RootModel):
        return _lenient(annotation, judged=judged)
    if origin is Literal:  # of an Enum's members: JSON has only their values
        return type(args[0]) if isinstance(args[0], Enum) else annotation
    if origin is Annotated:
        return Annotated[(_lenient_type(args[0], judged=judged), *args[1:])]
    parts = tuple(_lenient_type(part, judged=judged) for part in args)
    if parts == args:
        return annotation
    return origin[parts] if origin in (*LISTS, *MAPS) else Union[parts]  # noqa: UP007


def lacks(shape: Shape, value: Any) -> bool:
    """Whether a value is missing where the user's code may rely on it."""
    if isinstance(value, list) and shape.of:
        return any(lacks(shape.of, part) for part in value)
    return isinstance(value, dict) and any(
        not part.nullable if value.get(name) is None else lacks(part, value[name]) for name, part, _ in shape.fields
    )


def plain(value: Any) -> Any:
    """Return a value as it is stored: of Python's own types, a time with a zone in UTC."""
    if value is None or type(value) in (str, int, float):
        return value  # nearly always
    if isinstance(value, RootModel):
        value = value.root
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str) else value.name
    if isinstance(value, datetime) and value.tzinfo:
        value = value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, Decimal):
        with contextlib.suppress(InvalidOperation):  # too large, or no number: it is named where it is stored
            value = value.quantize(NINE_DECIMALS, context=Context(prec=38)).normalize()
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(part) for name, part in value.items()}
    if isinstance(value, LISTS):
        parts = [plain(part) for part in value]
        return sorted(parts, key=str) if isinstance(value, set | frozenset) else parts
    return to_jsonable_python(value)
