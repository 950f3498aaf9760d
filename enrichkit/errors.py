"""Everything `enrichkit` raises: one tree under `EnrichError`.

A request that fails is not here: it is a value (`enrichkit.messages.Failure`) that ends up in the record's row.
Exceptions are for a caller's mistake, and for runs that end early.
"""

from __future__ import annotations

import functools
from typing import Any

from .formatting import Sentence

__all__ = [
    "BudgetError",
    "ChangedError",
    "DamagedError",
    "EnrichError",
    "InputError",
    "Interrupted",
    "LockedError",
    "MissingKeyError",
    "SetupError",
    "StageError",
    "Stopped",
    "StoreError",
]


class EnrichError(Exception):
    """Root of all errors of this package.

    Parameters
    ----------
    template : str
        The message, with settings and facts in braces; a literal, since a cell may contain braces.
    **facts : object
        What the message says besides the settings.

    Attributes
    ----------
    sentence : Sentence
        The message, for a face that spells settings in another way than Python.
    """

    def __init__(self, template: str, **facts: object) -> None:
        self.sentence = Sentence(template, **facts)
        super().__init__(str(self.sentence))

    def __reduce__(self) -> tuple[Any, ...]:  # unpickling must not take the finished text for a template
        return functools.partial(type(self), **self.sentence.facts), (self.sentence.template,)

    def _render_traceback_(self) -> list[str]:
        """Show one sentence in a notebook: these errors speak of the table or the set-up, not of code."""
        return [f"{type(self).__name__}: {self}"]


class InputError(EnrichError, ValueError):
    """The table or an argument cannot be used as it is; the message names the row, column or argument."""


class StageError(EnrichError, ValueError):
    """A stage is defined wrongly, or unknown."""


class SetupError(EnrichError):
    """Something outside the table is missing: a package, a setting, a capability of the chosen client."""


class MissingKeyError(SetupError):
    """No API key is set."""


class BudgetError(EnrichError, ValueError):
    """A budget cannot be held, since the price of what would be asked is unknown."""


class ChangedError(EnrichError):
    """A stage now asks another question than the one whose answers are stored."""


class StoreError(EnrichError):
    """The folder of shards cannot be used or written."""


class LockedError(StoreError):
    """Another run works on the same store."""


class DamagedError(StoreError):
    """A sealed shard fails its checksum, or is not where it was sealed, or not as it was."""


class Stopped(EnrichError):
    """A run ended before everything was asked.

    Attributes
    ----------
    reason : str
        ``stop``, ``interrupt``, ``budget``, ``mixed``, ``store``, ``failures``, ``refused``, ``no_search``,
        ``search_quota``, ``no_workers``, or the cause of a refusal that ends a run, such as ``daily_quota``.
    done, left : int
        Records complete, and records still to ask.
    """

    def __init__(self, template: str, *, reason: str, done: int, left: int, **facts: object) -> None:
        super().__init__(template, reason=reason, done=done, left=left, **facts)
        self.reason = reason
        self.done = done
        self.left = left


class Interrupted(Stopped, KeyboardInterrupt):
    """A person interrupted the run. A `KeyboardInterrupt` too, so that "Run all" does not run on."""
