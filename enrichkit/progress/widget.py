"""The widget: the live view in a notebook, with a button that stops and one that pauses.

The only place that knows ipywidgets, and loads it when a widget is made. The buttons may be answered in any thread, so
all they do is call what sets an event; what the widget shows is changed by whoever calls `Widget.refresh`, one thread.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..status import Status
from .view import live_html

AT_FIRST = "The live view of a run. enrichkit.read(out) has what is stored."
"""What a saved copy says where no widget can be shown: it keeps the text of the first moment, so no figures."""


def available() -> bool:
    """Whether ipywidgets is installed."""
    return importlib.util.find_spec("ipywidgets") is not None


@dataclass(frozen=True, slots=True)
class Controls:
    """What the buttons call. Each returns at once."""

    stop: Callable[[], None]
    pause: Callable[[], None]
    resume: Callable[[], None]


class Widget:
    """The live view of one run; it may be shown in any number of places."""

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

    @property
    def bundle(self) -> dict[str, Any]:
        """What a notebook displays."""
        return {**self._box._repr_mimebundle_(), "text/plain": AT_FIRST}

    def refresh(self, status: Status) -> None:
        """Show the run as it is."""
        self._html.value = live_html(status)
        if status.paused != self._paused:
            self._paused = status.paused
            self._pause.description, self._pause.icon = ("Resume", "play") if self._paused else ("Pause", "pause")
        if status.stopping:
            self._stop.disabled = self._pause.disabled = True

    def end(self, html: str) -> None:
        """Show what stays. Where a reloaded page has lost track of the display, this is how it gets there."""
        self._html.value = html
        self._buttons.layout.display = "none"
