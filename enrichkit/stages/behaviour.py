"""The behaviour: what users' functions and models do, as a text that is the same in every process.

Of a function it is the compiled code, with its defaults, what it closes over, and the constants, functions and classes
of the user's own modules that it names; comments, docstrings and formatting are no part of it. The code object is what
runs: a file may have changed since it was imported, and the source of a lambda is a whole line. What is not the user's
own (Python's, a package's, ours) counts by its name. It runs nothing.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import dis
import enum
import functools
import importlib.util
import inspect
import logging
import pathlib
import re
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

import joblib
import numpy as np
import pandas as pd
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PLAIN = (str, bytes, int, float, complex, type(None), type(...))
PLACE = re.compile(" at 0x[0-9a-fA-F]+")
WRAPPED = ("fget", "func", "wrapped", "pyfunc", "__func__", "__wrapped__")
"""Where properties, class methods, caches and pydantic's decorators keep their function."""


def behaviour(things: Iterable[Any]) -> str:
    """Return what functions and classes do, in words of our own; empty where none of it is the user's own.

    >>> behaviour([re.compile, len])
    ''
    """
    walk = _Walk({})
    text = walk.text(things)
    return text if walk.met_own else ""


class _Walk:
    """One walk over what functions name; what it has met before counts by its place."""

    def __init__(self, met: dict[Any, tuple[int, Any]]) -> None:
        self._met = met
        self._functions = collections.deque[types.FunctionType]()
        self.met_own = False

    def text(self, things: Iterable[Any]) -> str:
        """Return what things do, and then what the functions do that they lead to: a chain of those may be long."""
        parts = [self.of(thing) for thing in things]
        while self._functions:
            parts.append(self._function(self._functions.popleft()))
        return repr(parts)

    def of(self, thing: Any, names: Collection[str] = ()) -> Any:
        """Return what a thing does or is, of lists and texts; ``names`` are those that the code around it knows."""
        if isinstance(thing, enum.Enum):
            return [type(thing).__qualname__, thing.name, self.of(thing.value)]
        if isinstance(thing, PLAIN):
            return repr(thing)
        if isinstance(thing, tuple):
            return [self.of(part) for part in thing]
        place = (id(thing), *names) if isinstance(thing, types.ModuleType) else id(thing)
        if place in self._met:
            return self._met[place][0]
        self._met[place] = len(self._met), thing  # kept, so that its id is no other's
        if isinstance(thing, types.FunctionType):
            self._functions.append(thing)
            return self._met[place][0]
        return self._new(thing, names)

    def _new(self, thing: Any, names: Collection[str]) -> Any:  # noqa: PLR0911, PLR0912 - one line for each kind
        match thing:
            case type():
                return self._class(thing)
            case types.CodeType():
                consts = thing.co_consts[_has_doc(thing) :]
                return [thing.co_code.hex(), thing.co_names, [self.of(const) for const in consts]]
            case types.ModuleType():
                inside = vars(thing) if _is_own(thing) else {}
                return [self.of(inside[name], names) for name in names if name in inside]
            case types.MethodType():
                return [self.of(thing.__func__), self.of(thing.__self__)]
            case functools.partial():
                return [self.of(thing.func), self.of(thing.args), self.of(thing.keywords)]
            case FieldInfo():
                return [self.of(thing.annotation), self.of(thing.metadata)]
            case re.Pattern():
                return [thing.pattern, thing.flags]
            case set() | frozenset():  # in no order: each is walked alike
                return sorted(_Walk(dict(self._met)).text([part]) for part in thing)
            case list() | collections.deque():
                return [self.of(part) for part in thing]
            case Mapping():
                return [[self.of(key), self.of(value)] for key, value in thing.items()]
            case np.ndarray() | pd.DataFrame() | pd.Series() | pd.Index():  # whose text leaves out the middle
                with contextlib.suppress(Exception):  # what cannot be pickled
                    return joblib.hash(thing)
            case pathlib.PurePath():  # whatever folder it is in
                return thing.name if thing.suffix or not thing.is_absolute() else ""
            case logging.Logger():
                return ""
        return self._object(thing)

    def _object(self, thing: Any) -> Any:
        if get_origin(thing) is not None:
            self.met_own |= hasattr(thing, "__metadata__")
            return [str(get_origin(thing)), *map(self.of, get_args(thing))]
        if wrapped := next((name for name in WRAPPED if inspect.getattr_static(thing, name, None)), None):
            return [type(thing).__name__, self.of(getattr(thing, wrapped))]
        if _is_own(type(thing)) or dataclasses.is_dataclass(thing) or isinstance(thing, types.SimpleNamespace):
            return [self.of(type(thing)), self.of(object.__getstate__(thing))]
        return PLACE.sub("", repr(thing))

    def _function(self, function: types.FunctionType) -> Any:
        if not _is_own(function):
            return _name(function)
        self.met_own = True
        named, known = dict.fromkeys(_named(function.__code__)), function.__globals__
        loaded = [name for step, name in named if step in ("LOAD_GLOBAL", "LOAD_NAME") and name[:2] != "__"]
        return [
            self.of(function.__code__),
            self.of(function.__defaults__),
            self.of(function.__kwdefaults__),
            self.of(vars(function)),
            [self.of(cell.cell_contents) for cell in function.__closure__ or () if _is_filled(cell)],
            [self.of(known[name], [name for _, name in named]) for name in loaded if name in known],
        ]

    def _class(self, kind: type) -> Any:
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
            self.met_own |= kind.model_config != getattr(kind.__base__, "model_config", {})
            rules = [
                [name, PLACE.sub("", repr(rule.info))]
                for rules in ("validators", "field_validators", "root_validators", "model_validators")
                for name, rule in getattr(kind.__pydantic_decorators__, rules).items()
            ]
            parts |= {"fields": kind.model_fields, "rules": rules}
        return [[self.of(base) for base in kind.__bases__], self.of(parts)]


def _has_doc(code: types.CodeType) -> bool:
    """Whether a function's code begins its constants with a docstring."""
    is_function = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<")
    says_so = sys.version_info < (3, 13) or code.co_flags & 0x4000000
    return bool(is_function and says_so and isinstance(next(iter(code.co_consts), None), str))


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


def _named(code: types.CodeType) -> Iterator[tuple[str, str]]:
    """Yield the names in code and in the functions in it, each with what is done with it."""
    for step in dis.get_instructions(code):
        if step.opcode in dis.hasname:
            yield step.opname, step.argval
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _named(const)


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"


@functools.lru_cache(maxsize=1000)
def _is_users(module: str) -> bool:
    """Whether a module is the user's own: none of Python's, of an installed package's, or ours."""
    root, file = module.partition(".")[0], getattr(sys.modules.get(module), "__file__", None)
    if module == root and module not in sys.modules:
        file = getattr(importlib.util.find_spec(root), "origin", None)
    ours = __package__.partition(".")[0]
    installed = root in {*sys.stdlib_module_names, ours} or re.search(r"[\\/](site|dist)-packages[\\/]", str(file))
    return root == "__main__" or not installed


def _is_own(thing: Any) -> bool:
    module = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    return _is_users(str(module))
