"""The screens: how a run shows itself, and the one thread that does it.

A widget or HTML in a notebook, a bar in a terminal, a line every few seconds in a log: which one is decided once, from
what the caller wants and from where he is. The thread only reads the run's status; workers never show anything, and
only `show` is called where the person is, since a cell's output belongs to its caller. What there is to say is for the
view to decide.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError
from ..formatting import plain
from ..status import Status
from . import view

Way = Literal["widget", "html", "bar", "text"]
VARIABLE = "ENRICHKIT_PROGRESS"
LOG = logging.getLogger("enrichkit")
WORDS = ("auto", "widget", "html", "text", "off")
BAR_LETTERS = 6
"""So narrow that 80 columns hold all that is wanted beside the bar."""
AT_FIRST = "The live view of a run. enrichkit.read(out) has what is stored."
"""What a saved copy says where no widget can be shown: it keeps the text of the first moment, so no figures."""


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
        raise InputError(
            "The environment variable {variable} must be one of {names}, not {said!r}.",
            variable=VARIABLE,
            names=", ".join(WORDS),
            said=said,
        )
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
    widgets = importlib.util.find_spec("ipywidgets") is not None
    return Place(kernel=True, attended=bool(asked.get("allow_stdin")), widgets=widgets)


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
            *(view.budget_warning(money), money.spent_usd + money.possibly_usd, money.budget_usd, money.prices),
        )


class Lines:
    """A line every few seconds, for logs; on stdout in a kernel, where stderr would be a red box."""

    every_seconds = 5.0

    def __init__(self) -> None:
        self._kernel = _kernel() is not None
        self._begun = self._told = self._over = False

    def show(self, status: Status) -> None:
        if self._begun and not self._over:  # after the end, `end` says it
            self.tell(status)
        self._begun = True

    def tell(self, status: Status) -> None:
        # The first line says whose prices they are; the others need not say it again.
        idle, rank = self._over and not status.records, view.LINE_RANK if self._told else view.FIRST_RANK
        self._print(view.headline(status, ended=True) if idle else view.one_line(status, rank, ended=self._over))
        self._told = True

    def end(self, status: Status, notes: Sequence[str]) -> None:
        self._over = True
        self.tell(status)
        self._print(*notes)

    def _print(self, *texts: str) -> None:
        if texts and (log := sys.stdout if self._kernel else sys.stderr) is not None:  # None would be stdout
            print(_on_one_line(texts), file=log, flush=True)


class Bar:
    """A bar in a terminal."""

    every_seconds = 0.2

    def __init__(self) -> None:
        self._bar: Any = None

    def show(self, status: Status) -> None:
        if self._bar is None:
            from tqdm.std import tqdm

            form = f"{{percentage:3.0f}}%|{{bar:{BAR_LETTERS}}}| {{desc}}"
            self._bar = tqdm(total=status.records, bar_format=form, dynamic_ncols=True, file=sys.stderr)
        elif self._bar.disable:  # closed
            print(view.one_line(status, ended=True), file=sys.stderr)
        self.tell(status)

    def tell(self, status: Status, *, ended: bool = False) -> None:
        self._bar.n = status.done + status.failed
        width = (self._bar.format_dict["ncols"] or 80) - len("100%|| ") - BAR_LETTERS
        self._bar.set_description_str(view.brief_line(status, ended=ended, width=width), refresh=False)
        self._bar.refresh()

    def end(self, status: Status, notes: Sequence[str]) -> None:
        self.tell(status, ended=True)
        self._bar.close()
        if notes:
            print(_on_one_line(notes), file=sys.stderr)


def _on_one_line(texts: Sequence[str]) -> str:
    """Return sentences as a line for a log or a terminal, whoever's words are in them."""
    return plain(" ".join(" ".join(texts).split()), most=0)


@dataclass(frozen=True, slots=True)
class Controls:
    """What the buttons call. Each returns at once."""

    stop: Callable[[], None]
    pause: Callable[[], None]
    resume: Callable[[], None]


class Widget:
    """The live view with a button that stops and one that pauses; the only class that knows ipywidgets.

    The buttons may be answered in any thread, so all they do is call what sets an event.
    """

    def __init__(self, controls: Controls) -> None:
        import ipywidgets

        self._paused = False
        self._html = ipywidgets.HTML()
        self._stop = ipywidgets.Button(description="Stop", icon="stop", tooltip="Keep what is in flight, then end")
        self._pause = ipywidgets.Button(description="Pause", icon="pause", tooltip="Send nothing new for now")
        self._stop.on_click(lambda _: controls.stop())
        # By what the button says, not by how the run stands: a second click within a tick means the same as the first.
        self._pause.on_click(lambda _: controls.resume() if self._paused else controls.pause())
        self._buttons = ipywidgets.HBox([self._stop, self._pause])
        self._box = ipywidgets.VBox([self._html, self._buttons])
        self._bundle = {**self._box._repr_mimebundle_(), "text/plain": AT_FIRST}

    def refresh(self, status: Status) -> dict[str, Any]:
        """Show the run as it is; return what a notebook displays."""
        self._html.value = view.live_html(status)
        if status.paused != self._paused:
            self._paused = status.paused
            self._pause.description, self._pause.icon = ("Resume", "play") if self._paused else ("Pause", "pause")
        if status.stopping:
            self._stop.disabled = self._pause.disabled = True
        return self._bundle

    def end(self, html: str) -> None:
        """Show what stays. Where a reloaded page has lost track of the display, this is how it gets there."""
        self._html.value = html
        self._buttons.layout.display = "none"


class Notebook:
    """Displays in a notebook, all under one id: what changes one changes all of them."""

    def __init__(self, widget: Widget | None) -> None:
        self._widget = widget
        self._handle: Any = None
        # A refresh of HTML goes through the notebook's document, one of a widget past it.
        self.every_seconds = 0.5 if widget is None else 0.25

    def show(self, status: Status) -> None:
        from IPython.display import DisplayHandle

        if self._handle is None:
            self._handle = DisplayHandle()  # type: ignore[no-untyped-call]
        self._handle.display(self._live(status), raw=True)

    def tell(self, status: Status) -> None:
        if self._widget is None:
            self._handle.update(self._live(status), raw=True)
        else:
            self._widget.refresh(status)

    def end(self, status: Status, notes: Sequence[str]) -> None:
        html, text = (make(status, ended=True, notes=notes) for make in (view.summary_html, view.summary_text))
        self._handle.update({"text/html": html, "text/plain": text}, raw=True)
        if self._widget is not None:
            self._widget.end(html)

    def _live(self, status: Status) -> dict[str, Any]:
        if self._widget is None:
            return {"text/html": view.live_html(status), "text/plain": view.one_line(status)}
        return self._widget.refresh(status)


Screen = Lines | Bar | Notebook
"""One way to show a run: `show` where the caller is, `tell` everywhere, and `end` with what stays."""


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
        self._status, self._done, self._notes, self._controls = status, done, notes, controls
        self._lock = threading.Lock()
        self._screen: Screen | None = None
        self._thread: threading.Thread | None = None
        self._over = False

    def begin(self, way: Way | None) -> None:
        """Show the run for the first time. A display that fails is logged: the run goes on without it."""
        try:
            self.show(way)
        except Exception as error:  # noqa: BLE001 - whatever a front end may raise
            _log_failure(error)

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
        logged = False
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
                    if not logged:
                        _log_failure(error)
                    logged = True


def _log_failure(error: Exception) -> None:
    with contextlib.suppress(Exception):  # stderr may be what is closed
        LOG.warning("The run goes on, but its progress cannot be shown: %s: %s", type(error).__name__, error)


def _screen(way: Way, controls: Controls) -> Screen:
    if way == "text":
        return Lines()
    return Bar() if way == "bar" else Notebook(Widget(controls) if way == "widget" else None)
