"""What a command asks: stages by name, built in or from the user's own Python, or a prompt and its fields."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError, StageError
from ..formatting import perhaps
from ..reading.shape import SIMPLE
from ..stages.stage import Stage

TYPES: dict[str, Any] = {kind.__name__: kind for kind in SIMPLE}
SIMPLE_NAMES = [*TYPES]
TYPES |= {f"list[{name}]": list.__class_getitem__(kind) for name, kind in TYPES.items()}
"""The types that a field may have, as they are spelled."""
PACKAGE = Path(__file__).parent.parent


def asked(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that say what is asked, and of which columns.

    Raises
    ------
    StageError, InputError
        If a stage cannot be had, or a field or a name is not spelled as it must be.
    """
    given: dict[str, Any] = {}
    if args.stages is not None:
        given["stages"] = [stage for name in args.stages.split(",") for stage in _stages(name.strip())]
    if args.fields is not None:
        given["fields"] = dict(map(_field, args.fields))
    if args.names is not None:
        given["names"] = dict(map(_renamed, args.names))
    return given


def _field(text: str) -> tuple[str, Any]:
    """Return a field's name, and its type or that and what it is about, from NAME:TYPE or NAME:TYPE:DESCRIPTION."""
    name, _, rest = text.partition(":")
    kind, _, about = rest.partition(":")
    if kind.strip() not in TYPES:
        raise StageError(
            "{fields} {text!r}: a field is NAME:TYPE, or NAME:TYPE:DESCRIPTION, with one of the types {listed}, or "
            "list[...] of one.{hint} Choices, limits and classes want a stage in a file: {stages} FILE.py:STAGE.",
            text=text,
            listed=", ".join(SIMPLE_NAMES),
            hint=perhaps(kind, SIMPLE_NAMES),
        )
    return name.strip(), (TYPES[kind.strip()], about.strip() or None)


def _renamed(text: str) -> tuple[str, str]:
    name, _, own = text.partition("=")
    if not (name and own):
        raise InputError("{names} {text!r}: give NAME=COLUMN, the stages' name and the table's.", text=text)
    return name, own


def _stages(name: str) -> Sequence[str | Stage]:
    """Return the stages that a name stands for; one without a colon is for the library to judge."""
    place, colon, wanted = name.rpartition(":")
    if not colon:
        return [name]
    module = _module(place)
    if not (stages := _stages_in(getattr(module, wanted, None))):
        names = [name for name, value in vars(module).items() if _stages_in(value)]
        which, hint = f"{wanted!r}. It has: {', '.join(names) or 'none'}", perhaps(wanted, names)
        raise StageError("{place} has no stage {which}.{hint}", place=place, which=which, hint=hint)
    return stages


def _stages_in(value: object) -> Sequence[Stage]:
    """Return the stages that a value is, or is a list or tuple of; none if it is anything else."""
    stages: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    return stages if all(isinstance(stage, Stage) for stage in stages) else []


def _module(place: str) -> ModuleType:
    """Return a module by its name or its file, imported as Python would if it were started with it."""
    file = Path(place).expanduser() if place.endswith(".py") else None
    folder = (file.parent if file else Path()).resolve()
    sys.path.insert(0, str(folder))
    try:
        return _module_in(file) if file else importlib.import_module(place)
    except (Exception, SystemExit) as error:
        lacking = isinstance(error, ModuleNotFoundError) and f"{place}.".startswith(f"{error.name}.")
        if lacking or not (file.is_file() if file else all(map(str.isidentifier, place.split(".")))):
            modules = [path for path in folder.glob("*") if path.suffix == ".py" or path.is_dir()]
            hint = perhaps(Path(place).name, [path.name if file else path.stem for path in modules])
            where = f"{place!r}, neither installed nor in {folder}"
            raise StageError("There is no module {where}.{hint}", where=where, hint=hint) from None
        at, reason = _place_of(error), " ".join(str(getattr(error, "msg", error)).split())
        reason = f"{type(error).__name__}: {reason}"
        raise StageError("{place} cannot be imported: {at}: {reason}", place=place, at=at, reason=reason) from error


def _module_in(file: Path) -> ModuleType:
    """Return the module in a file, under the file's own path: a name of its own might be that of another module."""
    spec = importlib.util.spec_from_file_location(str(file), file)
    module = sys.modules[str(file)] = importlib.util.module_from_spec(spec)  # type: ignore[arg-type] # it is a .py
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def _place_of(error: BaseException) -> str:
    """Return the file and line of an error, in the user's own code as far as that can be told."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((str(error.filename), error.lineno))
    foreign = ("<", *map(str, (PACKAGE, sys.prefix, sys.base_prefix)))
    own = [place for place in places if not place[0].startswith(foreign)]
    file, line = (own or places)[-1]
    return f"{file}, line {line}"
