"""The progress: how a run shows itself, and the one thread that does it.

Which way is decided once, from what the caller wants and from where he is: a widget or HTML in a notebook, a bar in a
terminal, a line every few seconds in a log. The thread only reads the run's status; workers never show anything.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError
from ..status import Status
from .screens import Bar, Lines, Notebook, Screen
from .view import scarce
from .widget import Controls, Widget, available

Way = Literal["widget", "html", "bar", "text"]
VARIABLE = "ENRICHKIT_PROGRESS"
LOG = logging.getLogger("enrichkit")
WORDS = ("auto", "widget", "html", "text", "off")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the caller is: in a notebook's kernel, perhaps with ipywidgets; or where stderr is a terminal."""

    kernel: bool = False
    attended: bool = False
    """The kernel's front end could ask a person something: papermill, nbclient and nbconvert say that theirs cannot."""
    widgets: bool = False
    terminal: bool = False


def wanted(progress: Literal["auto", "widget", "html", "text"] | bool) -> str:
    """Return what the call wants; where it leaves the choice open, what the environment variable says.

    Raises
    ------
    InputError
        If the variable says nothing that is known.
    """
    if progress is False:
        return "off"
    if progress not in ("auto", True):
        return str(progress)
    said = os.environ.get(VARIABLE, "").strip().lower() or "auto"
    if said not in WORDS:
        raise InputError(f"The environment variable {VARIABLE} must be one of {', '.join(WORDS)}, not {said!r}.")
    return said


def choose(want: str, place: Place) -> Way | None:
    """Return the way to show a run; what is wanted and cannot be had falls back to the next best.

    >>> choose("auto", Place(kernel=True, attended=True, widgets=True)), choose("auto", Place(kernel=True))
    ('widget', 'text')
    >>> choose("widget", Place(kernel=True)), choose("widget", Place(terminal=True)), choose("off", Place())
    ('html', 'bar', None)
    """
    if want == "off":
        return None
    if want == "text" or (place.kernel and want == "auto" and not place.attended):
        return "text"
    if place.kernel:
        return "widget" if place.widgets and want != "html" else "html"
    return "bar" if place.terminal else "text"


def look_around() -> Place:
    """Return where the caller is."""
    kernel = _kernel()
    if kernel is None:
        return Place(terminal=_is_terminal())
    asked: dict[str, Any] = kernel.get_parent().get("content") or {}
    return Place(kernel=True, attended=bool(asked.get("allow_stdin")), widgets=available())


def _is_terminal() -> bool:
    """Whether stderr is a terminal, and one that has a size: some say 0, and a bar would be nowhere."""
    try:
        return sys.stderr.isatty() and min(os.get_terminal_size(sys.stderr.fileno())) > 0
    except (AttributeError, OSError, ValueError):  # none, closed, or something that only looks like a file
        return False


def _kernel() -> Any:
    """Return the kernel that runs this, or None."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None)


def warn(status: Status) -> None:
    """Log that most of the budget is spent, for those who follow no progress.

    A log rather than a warning: this comes from the run's own thread, where a warning that is an error would end it.
    """
    from tqdm.std import tqdm

    money = status.money
    with contextlib.suppress(Exception), tqdm.external_write_mode():  # nor may a handler of the caller's
        LOG.warning(
            "%s: %.4f of %.4f USD (%s). The run ends when the next request's worst case fits no more.",
            *(scarce(status), money.spent_usd + money.possibly_usd, money.budget_usd, money.prices),
        )


class Live:
    """What a person sees of a run, wherever he looks, until it ends and after."""

    def __init__(
        self,
        status: Callable[[], Status],
        done: threading.Event,
        *,
        notes: Callable[[], Sequence[str]],
        controls: Controls,
    ) -> None:
        self._status = status
        self._done = done
        self._notes = notes
        self._controls = controls
        self._lock = threading.Lock()
        self._screen: Screen | None = None
        self._thread: threading.Thread | None = None
        self._over = False

    def begin(self, way: Way | None) -> None:
        """Show the run for the first time. A display that fails is logged: the run goes on without it."""
        try:
            self.show(way)
        except Exception as error:  # noqa: BLE001 - whatever a front end may raise
            _failed(error)

    def show(self, way: Way | None) -> None:
        """Show the run where the caller is; the first time, in the way that is given."""
        with self._lock:
            if self._screen is not None:
                self._screen.show(self._status())
                if self._over:
                    self._screen.end(self._status(), self._notes())
            elif way is not None:
                screen = _screen(way, self._controls)
                screen.show(self._status())
                self._screen = screen
                self._thread = threading.Thread(
                    target=self._follow, args=(screen,), name="enrichkit-progress", daemon=True
                )
                self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for the last word, so that it stands above what comes next."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _follow(self, screen: Screen) -> None:
        told = False
        while not self._over:
            over = self._done.wait(screen.every_seconds)
            with self._lock:
                self._over = over
                try:
                    if over:
                        screen.end(self._status(), self._notes())
                    else:
                        screen.tell(self._status())
                except Exception as error:  # noqa: BLE001 - a log that is closed, say; the next refresh may work
                    if not told:
                        _failed(error)
                    told = True


def _failed(error: Exception) -> None:
    with contextlib.suppress(Exception):  # stderr may be what is closed
        LOG.warning("The run goes on, but its progress cannot be shown: %s: %s", type(error).__name__, error)


def _screen(way: Way, controls: Controls) -> Screen:
    if way == "text":
        return Lines(kernel=_kernel() is not None)
    return Bar() if way == "bar" else Notebook(Widget(controls) if way == "widget" else None)
