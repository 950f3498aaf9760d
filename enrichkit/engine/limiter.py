"""The gate: lets requests through as fast as the pace allows, and so many at a time. The only one here that waits.

Before it is a door, which anybody may shut for a reason of his own: it is open when all reasons are over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..status import PaceView
from .pace import Pace, Ticket

LOOKS_EVERY_SECONDS = 0.1


class PauseSwitch:
    """Shut for as long as there is a reason.

    >>> switch = PauseSwitch()
    >>> switch.shut("pause")
    >>> switch.shut("disk")
    >>> switch.lift("pause")
    >>> switch.opened.is_set(), "disk" in switch
    (False, True)
    """

    def __init__(self) -> None:
        self._reasons: set[str] = set()
        self._lock = threading.Lock()
        self.opened = threading.Event()
        self.opened.set()

    def __contains__(self, reason: str) -> bool:
        return reason in self._reasons

    def shut(self, reason: str) -> None:
        """Let nobody through before this reason is lifted."""
        with self._lock:
            self._reasons.add(reason)
            self.opened.clear()

    def lift(self, reason: str) -> None:
        """Say that a reason is over."""
        with self._lock:
            self._reasons.discard(reason)
            if not self._reasons:
                self.opened.set()


class RateLimiter:
    """Lets requests through one by one, as fast as the `Pace` allows, and so many at a time."""

    def __init__(self, *, workers: int, rpm: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = Pace(rpm=rpm)
        self._clock = clock
        self._lock = threading.Lock()
        self._places = threading.Semaphore(workers)
        self._turn = threading.Lock()
        self._news = threading.Event()

    def enter(self, stop: threading.Event, *, opened: threading.Event | None = None) -> Ticket | None:
        """Wait for the next free place and take it; None if the run stopped meanwhile.

        Nobody passes while ``opened`` is not set, however long the pace has let him wait before.
        """
        while not self._places.acquire(timeout=LOOKS_EVERY_SECONDS):
            if stop.is_set():
                return None
        ticket = self._pass(stop, opened)
        if ticket is None:
            self._places.release()
        return ticket

    def _pass(self, stop: threading.Event, opened: threading.Event | None) -> Ticket | None:
        # One worker waits for the pace, the others for their turn: no herd wakes up for one place.
        while not self._turn.acquire(timeout=LOOKS_EVERY_SECONDS):
            if stop.is_set():
                return None
        try:
            while not stop.is_set():
                if opened is not None and not opened.wait(LOOKS_EVERY_SECONDS):
                    continue
                with self._lock:
                    now = self._clock()
                    wait = self._pace.wait(now)
                    if wait <= 0:
                        return self._pace.sent(now)
                    self._news.clear()
                if wait < 0.002:
                    time.sleep(wait)
                else:
                    self._news.wait(min(wait, LOOKS_EVERY_SECONDS))
            return None
        finally:
            self._turn.release()

    def accepted(self, ticket: Ticket) -> None:
        """Learn that a request was not refused, and give its place back."""
        with self._lock:
            self._pace.accepted(ticket)
        self._places.release()
        self._news.set()

    def refused(self, ticket: Ticket, retry_after_seconds: float | None) -> None:
        """Learn from a refusal, and give the request's place back."""
        with self._lock:
            self._pace.refused(ticket, self._clock(), retry_after_seconds)
        self._places.release()
        self._news.set()

    @property
    def view(self) -> PaceView:
        """The pace at this moment."""
        with self._lock:
            return self._pace.view(self._clock())
