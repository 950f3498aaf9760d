"""The flags: how the command line spells the library's settings, in its arguments and in what it prints.

Every flag of a setting comes from the metadata of `Options`, and its help from the text there. Nothing here edits a
finished message: a sentence that names settings is spelled with their flags.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import functools
import logging
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from ..formatting import SPELLINGS, fitted, joined, plain, spelled, window
from ..runs.options import Options, described

Argument = tuple[str, dict[str, Any]]
HELP = {
    "stages": "what is asked, with commas between (default: poc,fund); also deep, and stages of your own: MODULE:STAGE "
    "or FILE.py:STAGE",
    "prompt": "a question in place of --stages, with columns in braces: 'Research {name}.'",
    "fields": "what --prompt asks for, as NAME:TYPE:TEXT; TYPE is str, int, float, bool, date or list[str]",
    "client": "google-genai (default) or google-generativeai",
    "retry_failed": "ask only what failed; an --output of its own gets just those rows",
    "notify": "an address of apprise to notify at the end; others can see it here, but not in ENRICHKIT_NOTIFY",
}
"""Where the command line says something else than the setting's own text."""


@functools.cache
def shell() -> dict[str, str]:
    """Return how the shell spells what a sentence names in braces; a setting without a flag is one for Python."""
    in_python = {field.name: f"{field.name} (in Python)" for field in dataclasses.fields(Options)}
    return in_python | flags_of_settings() | {name: words for name, (_, words) in SPELLINGS.items()}


def flags_of_settings() -> dict[str, str]:
    """Return the flag of each setting that has one."""
    return {field.name: flag for field in dataclasses.fields(Options) if (flag := field.metadata.get("flag"))}


def argument(flag: str, text: str, **facts: Any) -> Argument:
    """Return an argument of a command with its help, and what else `argparse` has to know of it."""
    return flag, {"help": text, **facts}


def settings_arguments() -> list[Argument]:
    """Return an argument for each setting with a flag; the first sentence of its text is the help."""
    texts, arguments = described(), []
    for field in dataclasses.fields(Options):
        facts = dict(field.metadata)
        if not (flag := facts.pop("flag", None)):
            continue
        text = re.split(r"[.;] ", texts[field.name].rstrip("."))[0].replace("``", "")
        if isinstance(field.default, str | int | float) and not isinstance(field.default, bool):
            text += f" (default: {field.default})"
        if "metavar" in facts and "action" not in facts:
            facts["type"] = next((kind for kind in (int, float) if str(field.type).startswith(kind.__name__)), str)
        text = HELP.get(field.name, text[0].lower() + text[1:])
        text += "; may be given again" * (facts.get("action") == "append")
        arguments.append(argument(flag, text, dest=field.name, **facts))
    return arguments


def number(kind: type[int] | type[float], least: int, most: int = sys.maxsize) -> Callable[[str], Any]:
    """Return an argument's type: a number from the least to the most."""

    def read(text: str) -> int | float:
        with contextlib.suppress(ValueError):
            if least <= (value := kind(text)) <= most:
                return value
        name = "a whole number" if kind is int else "a number"
        limits = f"from {least} to {most}" if most < sys.maxsize else f"from {least} on"
        raise argparse.ArgumentTypeError(f"{name} {limits} is needed, not {text!r}")

    return read


def put(*lines: str, whole: bool = False) -> None:
    """Print sentences on stdout, a line each, with flags for settings, without what a terminal would obey.

    They are made to fit a terminal, unless ``whole``. A pipe whose reader has gone, as after `| head`, or a closed
    terminal ends no run.
    """
    try:
        print(_fitted(lines, 0 if whole else window(sys.stdout)), flush=True)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise


def say(text: str) -> None:
    """Print a sentence on stderr, with flags for settings, without what a terminal would obey."""
    with contextlib.suppress(OSError):  # nowhere is left to say it
        print(_fitted([joined(["enrichkit:", text])], window(sys.stderr)), file=sys.stderr)


def _fitted(lines: Iterable[str], width: int) -> str:
    return "\n".join(part for line in lines for part in fitted(plain(spelled(line, shell()), most=0), width))


class LibraryWarnings(logging.Handler):
    """The library's warnings on stderr: Python alone would print there what a terminal obeys."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a warning as a sentence."""
        say(record.getMessage() if record.args else record.msg)
