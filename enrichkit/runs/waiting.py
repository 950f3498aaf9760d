"""Waiting for a run's end: blocking or in an event loop, and what an interrupt does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from ..errors import Interrupted, Stopped

WAIT_SECONDS = 0.1
LEFT_AT_ONCE = "Left at once; requests in flight may be paid again. "


@dataclass
class Waiting:
    """How callers wait for one run.

    ``stop`` ends the run, ``last_word`` waits until its end is shown, ``check`` raises a defect that ended it, and
    ``stopped`` makes the error that says how it ended.
    """

    done: threading.Event
    stop: Callable[[str], None]
    last_word: Callable[[], None]
    check: Callable[[], None]
    stopped: Callable[[type[Stopped], str], Stopped]
    blocks: bool = False
    """Whether somebody waits in the main thread, which answers the buttons of most kernels."""

    def wait(self) -> None:
        """Wait until the run has ended and its end is shown."""
        # Event.wait in a loop, never Thread.join: on Python 3.11 an interrupted join forgets that the thread lives.
        while not self.done.is_set():
            self.done.wait(WAIT_SECONDS)
        self.last_word()

    def end(self, reason: str) -> None:
        """Ask nothing more, and wait for what is in flight."""
        self.stop(reason)
        self.drain()
        self.check()

    def drain(self) -> None:
        """Wait for what is in flight; an interrupt leaves at once."""
        try:
            self.wait()
        except KeyboardInterrupt:
            raise self.stopped(Interrupted, LEFT_AT_ONCE) from None

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let an interrupt end the run: once lets requests in flight finish, twice leaves at once."""
        self.blocks = threading.current_thread() is threading.main_thread()
        try:
            yield
        except KeyboardInterrupt:
            self.end("interrupt")
            raise self.stopped(Interrupted, "Interrupted. ") from None
        finally:
            self.blocks = False

    @contextlib.asynccontextmanager
    async def cancellable(self) -> AsyncIterator[None]:
        """Let a cancellation, which is how an interrupt reaches a cell that awaits, end the run in the same way."""
        try:
            yield
        except asyncio.CancelledError as error:
            self.stop("interrupt")
            how = "Interrupted. "
            try:
                await self.ended()
            except asyncio.CancelledError:
                how = LEFT_AT_ONCE
            # It has to stay a cancellation, whoever asked for it; only what a notebook shows of it is ours.
            setattr(error, "_render_traceback_", self.stopped(Interrupted, how)._render_traceback_)  # noqa: B010
            raise

    async def ended(self) -> None:
        """Wait until the run has ended and its end is shown, without blocking."""
        while not self.done.is_set():
            await asyncio.sleep(WAIT_SECONDS)
        self.last_word()
