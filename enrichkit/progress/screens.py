"""The screens: a run shown as lines in a log, as a bar in a terminal, as HTML or a widget in a notebook.

One thread tells and ends them; only `show` is called where the person is, since a cell's output belongs to its caller.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

from ..formatting import plain
from ..status import Status
from .view import headline, line, live_html, summary_html, summary_text, tail
from .widget import Widget

BAR_LETTERS = 6
"""So narrow that 80 columns hold all that is wanted beside the bar."""


class Screen(Protocol):
    """One way to show a run."""

    every_seconds: float

    def show(self, status: Status) -> None:
        """Show the run where the caller is."""

    def tell(self, status: Status) -> None:
        """Refresh what is shown, everywhere."""

    def end(self, status: Status, notes: Sequence[str]) -> None:
        """Leave what stays, everywhere."""


class Lines:
    """A line every few seconds, for logs; on stdout in a kernel, where stderr would be a red box."""

    every_seconds = 5.0

    def __init__(self, *, kernel: bool) -> None:
        self._kernel = kernel
        self._begun = self._told = self._over = False

    def show(self, status: Status) -> None:
        if self._begun and not self._over:  # after the end, `end` says it
            self.tell(status)
        self._begun = True

    def tell(self, status: Status) -> None:
        # The first line says whose prices they are; the others need not say it again.
        idle = self._over and not status.records
        self._print(headline(status, ended=True) if idle else line(status, ended=self._over, prices=not self._told))
        self._told = True

    def end(self, status: Status, notes: Sequence[str]) -> None:
        self._over = True
        self.tell(status)
        self._print(*notes)

    def _print(self, *texts: str) -> None:
        if texts and (log := sys.stdout if self._kernel else sys.stderr) is not None:  # None would be stdout
            print(_in_one_line(texts), file=log, flush=True)


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
            print(line(status, ended=True), file=sys.stderr)
        self.tell(status)

    def tell(self, status: Status, *, ended: bool = False) -> None:
        self._bar.n = status.done + status.failed
        width = (self._bar.format_dict["ncols"] or 80) - len("100%|| ") - BAR_LETTERS
        self._bar.set_description_str(tail(status, ended=ended, width=width), refresh=False)
        self._bar.refresh()

    def end(self, status: Status, notes: Sequence[str]) -> None:
        self.tell(status, ended=True)
        self._bar.close()
        if notes:
            print(_in_one_line(notes), file=sys.stderr)


def _in_one_line(texts: Sequence[str]) -> str:
    """Return sentences as a line for a log or a terminal, whoever's words are in them."""
    return plain(" ".join(" ".join(texts).split()), most=0)


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
        if self._widget is not None:
            self._widget.refresh(status)
        self._handle.display(self._live(status), raw=True)

    def tell(self, status: Status) -> None:
        if self._widget is not None:
            self._widget.refresh(status)
        else:
            self._handle.update(self._live(status), raw=True)

    def end(self, status: Status, notes: Sequence[str]) -> None:
        html, text = (make(status, ended=True, notes=notes) for make in (summary_html, summary_text))
        self._handle.update({"text/html": html, "text/plain": text}, raw=True)
        if self._widget is not None:
            self._widget.end(html)

    def _live(self, status: Status) -> dict[str, Any]:
        if self._widget is not None:
            return self._widget.bundle
        return {"text/html": live_html(status), "text/plain": line(status)}
