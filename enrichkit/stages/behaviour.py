"""The behaviour: what users' functions and models do, as a text that is the same in every process.

Of a function it is the compiled code, with its defaults, what it closes over, and the constants, functions and classes
of the user's own modules that it names; comments, docstrings and formatting are no part of it. The code object is what
runs: a file may have changed since it was imported, and the source of a lambda is a whole line. What is not the user's
own (Python's, a package's, ours) counts by its name. It runs nothing.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import inspect
import re
import sys
import types
from collections.abc import Collection, Iterable, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

PLAIN = (str, bytes, int, float, complex, type(None), type(...))
PLACE = re.compile(" at 0x[0-9a-fA-F]+")
WRAPPED = ("fget", "func", "wrapped", "__func__", "__wrapped__")
"""Where properties, class methods, caches and pydantic's decorators keep their function."""


def behaviour(things: Iterable[Any]) -> str:
    """Return what functions and classes do, in words of our own; empty where none of it is the user's own.

    >>> behaviour([re.compile, len])
    ''
    """
    walk = _Walk({})
    text = repr([walk.of(thing) for thing in things])
    return text if walk.met_own else ""


class _Walk:
    """One walk over what functions name; what it has met before counts by its place."""

    def __init__(self, met: dict[int, tuple[int, Any]]) -> None:
        self._met = met
        self.met_own = False

    def of(self, thing: Any, names: Collection[str] = ()) -> Any:
        """Return what a thing does or is, of lists and texts; ``names`` are those that the code around it knows."""
        if isinstance(thing, enum.Enum):
            return [type(thing).__qualname__, thing.name, self.of(thing.value)]
        if isinstance(thing, PLAIN):
            return repr(thing)
        if isinstance(thing, tuple):
            return [self.of(part) for part in thing]
        if isinstance(thing, re.Pattern):
            return [thing.pattern, thing.flags]
        if isinstance(thing, types.CodeType):
            return self._code(thing, None)
        if id(thing) in self._met:
            return self._met[id(thing)][0]
        self._met[id(thing)] = len(self._met), thing  # kept, so that its id is no other's
        return self._new(thing, names)

    @functools.singledispatchmethod
    def _new(self, thing: Any, names: Collection[str]) -> Any:
        if get_origin(thing) is not None:
            self.met_own |= hasattr(thing, "__metadata__")
            return [str(get_origin(thing)), *map(self.of, get_args(thing))]
        if wrapped := next((name for name in WRAPPED if inspect.getattr_static(thing, name, None)), None):
            return [type(thing).__name__, self.of(getattr(thing, wrapped))]
        if dataclasses.is_dataclass(thing):
            return [self.of(type(thing)), *(self.of(getattr(thing, field.name)) for field in dataclasses.fields(thing))]
        if _is_own(type(thing)):
            return [self.of(type(thing)), self.of(getattr(thing, "__dict__", None))]
        return PLACE.sub("", repr(thing))

    @_new.register(set | frozenset)
    def _set(self, parts: Collection[Any], names: Collection[str]) -> Any:
        return sorted(repr(_Walk(dict(self._met)).of(part)) for part in parts)  # in no order: each is walked alike

    @_new.register(list)
    def _list(self, parts: list[Any], names: Collection[str]) -> Any:
        return [self.of(part) for part in parts]

    @_new.register(Mapping)
    def _mapping(self, parts: Mapping[Any, Any], names: Collection[str]) -> Any:
        return [[self.of(key), self.of(value)] for key, value in parts.items()]

    @_new.register
    def _module(self, module: types.ModuleType, names: Collection[str]) -> Any:
        return [self.of(vars(module)[name]) for name in names if name in vars(module)] if _is_own(module) else ""

    @_new.register
    def _method(self, method: types.MethodType, names: Collection[str]) -> Any:
        return [self.of(method.__func__), self.of(method.__self__)]

    @_new.register(functools.partial)
    def _partial(self, partial: functools.partial[Any], names: Collection[str]) -> Any:
        return [self.of(partial.func), self.of(partial.args), self.of(partial.keywords)]

    @_new.register
    def _field(self, info: FieldInfo, names: Collection[str]) -> Any:
        return [self.of(info.annotation), self.of(info.metadata)]

    def _code(self, code: types.CodeType, doc: str | None) -> list[Any]:
        consts = code.co_consts[code.co_consts[:1] == (doc,) :]
        return [code.co_code.hex(), code.co_names, [self.of(const) for const in consts]]

    @_new.register
    def _function(self, function: types.FunctionType, names: Collection[str]) -> Any:
        if not _is_own(function):
            return _name(function)
        self.met_own = True
        loaded, attributes = _names(function.__code__)
        return [
            self._code(function.__code__, function.__doc__),
            self.of(function.__defaults__),
            self.of(function.__kwdefaults__),
            [self.of(cell.cell_contents) for cell in function.__closure__ or () if _is_filled(cell)],
            [self.of(function.__globals__[name], attributes) for name in loaded if name in function.__globals__],
        ]

    @_new.register
    def _class(self, kind: type, names: Collection[str]) -> Any:
        if not _is_own(kind):
            return _name(kind)
        parts: dict[str, Any] = {
            name: value for name, value in vars(kind).items() if not re.match("_.*_$|_abc_", name) or _is_code(value)
        }
        self.met_own |= any(map(_is_code, parts.values()))
        if issubclass(kind, enum.Enum):
            parts |= {"members": list(kind.__members__.values())}
        if issubclass(kind, BaseModel):
            self.met_own |= any(info.metadata for info in kind.model_fields.values())
            rules = [
                [name, PLACE.sub("", repr(rule.info))]
                for rules in ("validators", "field_validators", "root_validators", "model_validators")
                for name, rule in getattr(kind.__pydantic_decorators__, rules).items()
            ]
            parts |= {"fields": kind.model_fields, "rules": rules}
        return [[self.of(base) for base in kind.__bases__], self.of(parts)]


def _is_code(value: Any) -> bool:
    return isinstance(value, types.FunctionType | classmethod | staticmethod | property) and _is_own(
        getattr(value, "__func__", getattr(value, "fget", value))
    )


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # a name that is not bound yet
        return False
    return True


def _names(code: types.CodeType) -> tuple[list[str], list[str]]:
    """Return the global names that code and the functions in it load, and all their names, attributes included."""
    loaded = [step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    names = list(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            inner, more = _names(const)
            loaded, names = loaded + inner, names + more
    return list(dict.fromkeys(loaded)), list(dict.fromkeys(names))


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"


@functools.lru_cache(maxsize=1000)
def _is_users(module: str) -> bool:
    """Whether a module is the user's own: none of Python's, of an installed package's, or ours."""
    root, file = module.partition(".")[0], str(getattr(sys.modules.get(module), "__file__", None) or "")
    ours = __package__.partition(".")[0]
    installed = root in {*sys.stdlib_module_names, ours} or re.search(r"[\\/](site|dist)-packages[\\/]", file)
    return root == "__main__" or not installed


def _is_own(thing: Any) -> bool:
    module = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    return _is_users(str(module))
