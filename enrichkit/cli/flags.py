"""The flags: what the command line says, and what the library's messages say to do, in the command line's names."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import logging
import sys

from ..errors import StoreError
from ..formatting import plain, spelled

PHRASES = {
    "out": "--checkpoint",
    "max_output_tokens": "the stage's max_output_tokens (in Python)",
    "redo": "--on-change redo",
    "keep": "--on-change keep",
    "redo_damaged_on": "--redo-damaged",
    "retry_failed_on": "--retry-failed",
    "retry_failed_only": "--retry-failed",
    "give_key": "--key ...",
    "give_prices": "in Python, give prices",
    "run": "enrichkit run",
    "plan": "--dry-run",
    "read": "in Python, enrichkit.read(out)",
    "corrections": "in Python, enrichkit.trust.corrections",
    "weak": "in Python, enrichkit.trust.weak",
    "report_of": "enrichkit report ",
    "end_of_call": "",
    "call": "command",
    "look": "See what it printed",
    "in_python": " (in Python)",
}
"""How the shell spells the rest of what a sentence names in braces."""


@functools.cache
def shell() -> dict[str, str]:
    """Return how the shell spells what a sentence names in braces; a setting without a flag is one for Python."""
    from ..options import Options

    in_python = {field.name: f"{field.name} (in Python)" for field in dataclasses.fields(Options)}
    return in_python | flags_of_settings() | PHRASES


def flags_of_settings() -> dict[str, str]:
    """Return the flag of each setting that has one."""
    from ..options import Options

    return {field.name: flag for field in dataclasses.fields(Options) if (flag := field.metadata.get("flag"))}


def put(text: object) -> None:
    """Print on stdout; a pipe that nobody reads any more, as after `| head`, or a closed terminal ends no run.

    Raises
    ------
    StoreError
        If the disk is full, or something else is in the way.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise StoreError(
                "stdout cannot be written: {reason}. Fix that, then run again.", reason=error.strerror
            ) from error


def say(text: str) -> None:
    """Print a sentence on stderr, with flags for settings, without what a terminal would obey."""
    with contextlib.suppress(OSError):  # nowhere is left to say it
        print(plain(f"enrichkit: {spelled(text, shell())}", most=0), file=sys.stderr)


class LibraryWarnings(logging.Handler):
    """The library's warnings on stderr: Python alone would print there what a terminal obeys."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a warning as a sentence."""
        say(record.getMessage())
