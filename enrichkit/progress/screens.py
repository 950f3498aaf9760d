"""The screens: how a run shows itself, and the one thread that does it.

A widget or HTML in a notebook, a bar in a terminal, a line every few seconds in a log: which one is decided once, from
what the caller wants and where the call was made. The thread only reads the run's status; workers never show anything,
and only `show` runs in the person's own cell, since a cell's output belongs to its caller. The view decides what there
is to say.
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
from typing import Any, Literal, TextIO

from ..errors import InputError
from ..formatting import fitted, plain, wide, window
from ..status import Status
from . import view

Way = Literal["widget", "html", "bar", "text"]
Notes = Sequence[str] | None
VARIABLE = "ENRICHKIT_PROGRESS"
HALF_A_SCREEN = 72
CLICK = "comm_msg"
"""The kind of request by which a widget's callback is called, for a person."""
LOG = logging.getLogger("enrichkit")
BAR = "{desc}{percentage:3.0f}%|{bar:6}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]{postfix}"
KEEP = "Its .show() in another cell keeps these figures in the notebook."
"""What a page that was reloaded says at the end: it has lost track of the display that is saved."""
BLOCKED = "The buttons wait for the running cell; use ■."
AT_FIRST = "The live view of a run. Its .show() brings it back; enrichkit.read(out) has what is stored."
"""What a saved copy says where no widget can be shown: it keeps the text of the first moment, so no figures."""


def way_to_show(progress: Literal["auto", "widget", "html", "text", "off"] | bool) -> Way | None:
    """Return how a run is shown here: as the call wants it, or else the environment; or the next best that there is.

    A front end that could not ask a person anything (papermill, nbclient and nbconvert say so) has lines of text unless
    the call or the environment wants something else.

    Raises
    ------
    InputError
        If the environment variable has an unknown value.

    >>> way_to_show(False), way_to_show("text")
    (None, 'text')
    """
    if progress is False:
        return None
    named = os.environ.get(VARIABLE, "").strip().lower() or "auto"
    wanted = progress if isinstance(progress, str) and progress != "auto" else named
    if wanted not in ("auto", "widget", "html", "text", "off"):
        raise InputError(
            "The environment variable {variable} must be one of auto, widget, html, text or off, not {named!r}.",
            variable=VARIABLE,
            named=named,
        )
    kernel = _kernel()
    if wanted in ("off", "text"):
        return "text" if wanted == "text" else None
    if kernel is None:
        return "bar" if sys.stderr is not None and sys.stderr.isatty() else "text"
    attended = _header().get("msg_type") == CLICK or (kernel.get_parent().get("content") or {}).get("allow_stdin")
    if wanted == "auto" and not attended:
        return "text"
    return "widget" if wanted != "html" and importlib.util.find_spec("ipywidgets") else "html"


def _kernel() -> Any:
    """Return the kernel that runs this, or None."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None)


def _header() -> dict[str, Any]:
    """Return what is known of the request that the kernel works on: to run a cell, which it names, or a click."""
    kernel = _kernel()
    return (kernel and kernel.get_parent().get("header")) or {}


def _is_dropped() -> bool:
    """Whether a front end drops what is displayed now: of a widget's callback that writes to no `Output`."""
    if _header().get("msg_type") != CLICK:
        return False
    from ipywidgets import Widget

    models = Widget.get_manager_state()["state"].values()
    return _header()["msg_id"] not in [model["state"].get("msg_id") for model in models]


def warn(status: Status) -> None:
    """Log that most of the budget is spent, for a run whose progress is not shown.

    A log rather than a warning: this comes from the run's own thread, where a warning that is an error would end it.
    """
    from tqdm.std import tqdm

    money = status.money
    with contextlib.suppress(Exception), tqdm.external_write_mode():  # nor may a handler of the caller's
        LOG.warning(
            "%s: %.4f of %.4f USD (%s). The run ends when the next request's worst case fits no more.",
            *(view.budget_warning(money), money.spent_usd + money.possibly_usd, money.budget_usd, money.prices),
        )


def point_out(sentence: str) -> None:
    """Say what is doubtful about a call before it begins: by the log, in a kernel on stdout, as stderr is a red box."""
    if _kernel() is None:
        LOG.warning(sentence)
    else:
        for line in fitted(plain(sentence, 0), HALF_A_SCREEN):  # JupyterLab breaks words
            _put(line, log=sys.stdout)


@dataclass(frozen=True, slots=True)
class Controls:
    """What the buttons call, each of which returns at once; and whether a cell keeps them from being answered."""

    stop: Callable[[], None]
    pause: Callable[[], None]
    resume: Callable[[], None]
    blocked: Callable[[], bool]


class Lines:
    """A line every few seconds, for logs; on stdout in a kernel, where stderr would be a red box."""

    every_seconds = 5.0

    def __init__(self, controls: Controls) -> None:
        self._kernel = _kernel() is not None
        self._begun = False
        self._rank = view.FIRST_RANK

    def show(self, status: Status, notes: Notes = None) -> None:
        if self._begun:
            self.tell(status, notes)
        self._begun = True

    def tell(self, status: Status, notes: Notes = None) -> None:
        ended = notes is not None
        idle = ended and not status.records
        line = view.headline(status, ended=True) if idle else view.one_line(status, self._rank, ended=ended)
        self._rank = view.LINE_RANK  # the first line says whose prices they are; the others need not say it again
        log = sys.stdout if self._kernel else sys.stderr
        _put(line, log=log)
        _put(*(notes or ()), log=log)


class Bar:
    """A bar in a terminal; where there is nothing to ask, a line."""

    every_seconds = 0.2

    def __init__(self, controls: Controls) -> None:
        self._bar: Any = None

    def show(self, status: Status, notes: Notes = None) -> None:
        if self._bar is None and status.records:
            from tqdm.std import tqdm

            self._bar = tqdm(total=status.records, unit="", bar_format=BAR, dynamic_ncols=True, file=sys.stderr)
        elif self._bar is not None and self._bar.disable:  # closed
            _put(view.one_line(status, ended=True), log=sys.stderr)
        self.tell(status, notes)

    def tell(self, status: Status, notes: Notes = None) -> None:
        if self._bar is None:
            _put(*([] if notes is None else [view.headline(status, ended=True), *notes]), log=sys.stderr)
            return
        self._bar.n = status.done + status.failed
        alone = self._bar.format_meter(**self._bar.format_dict | {"prefix": "", "postfix": "", "ncols": None})
        room = window(sys.stderr) - wide(alone) - len(", ") - 1  # the last column stays free for the cursor
        before, after = view.beside_bar(status, room, ended=notes is not None)
        self._bar.set_description(before, refresh=False)
        self._bar.set_postfix_str(after)
        if notes is not None:
            self._bar.close()
            _put(*notes, log=sys.stderr)


def _put(*sentences: str, log: TextIO | None) -> None:
    """Print sentences, which may quote anybody, as a line of a log or terminal; without one, nothing."""
    if sentences and log is not None:  # None would be stdout
        text = plain(" ".join(" ".join(sentences).split()), most=0)
        print(*fitted(text, window(log)), sep="\n", file=log, flush=True)


class Html:
    """The live view as HTML in a notebook, and the summary that stays."""

    every_seconds = 0.5  # a refresh goes through the notebook's document

    def __init__(self, controls: Controls) -> None:
        self._handle: Any = None

    def show(self, status: Status, notes: Notes = None) -> None:
        from IPython.display import DisplayHandle

        if self._handle is None:  # every display is under one id: what changes one changes all of them
            self._handle = DisplayHandle()  # type: ignore[no-untyped-call]
        self._handle.display(self._content(status, notes), raw=True)

    def tell(self, status: Status, notes: Notes = None) -> None:
        self._handle.update(self._content(status, notes), raw=True)

    def _content(self, status: Status, notes: Notes) -> dict[str, Any]:
        text = view.one_line(status) if notes is None else view.summary_text(status, ended=True, notes=notes)
        return {"text/html": _page(status, notes), "text/plain": text}


def _page(status: Status, notes: Notes) -> str:
    return view.html_view(status, ended=notes is not None, notes=notes or (), live=notes is None)


class Widget(Html):
    """The live view with a button that stops and one that pauses; the only class that knows ipywidgets.

    The buttons may be answered in any thread, so all they do is call what sets an event.
    """

    every_seconds = 0.25  # a refresh goes past the notebook's document

    def __init__(self, controls: Controls) -> None:
        import ipywidgets

        super().__init__(controls)
        self._paused = False
        self._html = ipywidgets.HTML()
        self._stop = ipywidgets.Button(description="Stop", icon="stop", tooltip="Keep what is in flight, then end")
        self._pause = ipywidgets.Button(description="Pause", icon="pause", tooltip="Send nothing new for now")
        self._stop.on_click(lambda _: controls.stop())
        # By what the button says, not by how the run stands: a second click within a tick means the same as the first.
        self._pause.on_click(lambda _: controls.resume() if self._paused else controls.pause())
        self._hint, self._blocked = ipywidgets.Label(), controls.blocked
        self._buttons = ipywidgets.HBox([self._stop, self._pause, self._hint])
        self._box = ipywidgets.VBox([self._html, self._buttons])

    def tell(self, status: Status, notes: Notes = None) -> None:
        if notes is not None:
            super().tell(status, notes)
            self._buttons.layout.display = "none"
        self._html.value = _page(status, None if notes is None else [*notes, KEEP])
        self._hint.value = BLOCKED if self._blocked() and not status.stopping else ""
        if status.paused != self._paused:
            self._paused = status.paused
            self._pause.description, self._pause.icon = ("Resume", "play") if self._paused else ("Pause", "pause")
        self._stop.disabled = self._pause.disabled = status.stopping is not None

    def _content(self, status: Status, notes: Notes) -> dict[str, Any]:
        if notes is not None:
            return super()._content(status, notes)
        self.tell(status)
        return {**self._box._repr_mimebundle_(), "text/plain": AT_FIRST}


SCREENS: dict[Way, type[Lines | Bar | Html]] = {"text": Lines, "bar": Bar, "html": Html, "widget": Widget}
"""The ways to show a run: `show` where the caller is, and `tell` everywhere; with notes, once it has ended."""


class Live:
    """What a person sees of a run, in every cell that shows it, until it ends and after."""

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
        self._screen: Lines | Bar | Html | None = None
        self._thread: threading.Thread | None = None
        self._over = False
        self._cells: set[Any] = set()
        """The cells that have shown it."""

    def begin(self, way: Way | None) -> None:
        """Show the run for the first time. A display that fails is logged: the run goes on without it."""
        try:
            self.show(way)
            if way is not None and _is_dropped():
                _kernel().shell.events.register("post_run_cell", self._show_below)
        except Exception as error:  # noqa: BLE001 - a front end may raise anything
            _log_failure(error)

    def show(self, way: Way | None) -> None:
        """Show the run where the caller is; the first time, in the way that is given."""
        with self._lock:
            self._cells.add(_header().get("msg_id"))
            if self._screen is not None:
                self._screen.show(self._status(), self._notes() if self._over else None)
            elif way is not None:
                screen = SCREENS[way](self._controls)
                screen.show(self._status())
                self._screen = screen
                self._thread = threading.Thread(target=self._follow, name="enrichkit-progress", daemon=True)
                self._thread.start()

    def _show_below(self, _: object) -> None:
        """Show the run below the first cell that has run since."""
        _kernel().shell.events.unregister("post_run_cell", self._show_below)
        if _header().get("msg_id") not in self._cells:
            self.show(None)

    def sign_off(self) -> None:
        """End a cell that waited with a line of figures, where the view is in another, which may have been lost."""
        if isinstance(self._screen, Html) and (cell := _header().get("msg_id")) not in self._cells:
            self._cells.add(cell)
            _put(view.last_line(self._status()), log=sys.stdout)

    def wait(self, seconds: float) -> None:
        """Wait until the end is shown, so that it stands above what comes next."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _follow(self) -> None:
        screen, logged = self._screen, False
        while screen is not None and not self._over:
            over = self._done.wait(screen.every_seconds)
            with self._lock:
                self._over = over
                try:
                    screen.tell(self._status(), self._notes() if over else None)
                except Exception as error:  # noqa: BLE001 - a log that is closed, say; the next refresh may work
                    if not logged:
                        _log_failure(error)
                    logged = True


def _log_failure(error: Exception) -> None:
    with contextlib.suppress(Exception):  # stderr may be what is closed
        LOG.warning("The run goes on, but its progress cannot be shown: %s: %s", type(error).__name__, error)
