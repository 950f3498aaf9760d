"""The pace: when the next request may start, shared by all workers, learned from the service's refusals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

START_PER_SECOND = 100.0
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class PaceView:
    """The pace at one moment, for people."""

    rate_per_second: float
    waiting_until: float | None
    reason: str


class Gate:
    """Lets requests through one by one, as fast as the service takes them."""

    def __init__(self, *, rpm: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = rpm / 60 if rpm else float("inf")
        self._rate = min(START_PER_SECOND, self._most)
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0
        self._pauses = 0
        self._reacted = 0.0
        self._reason = "learning"

    def enter(self, stop: threading.Event) -> float | None:
        """Wait for the next free place and return when it was taken; None if stopped meanwhile."""
        with self._lock:
            now = self._clock()
            mine = max(now, self._next)
            self._next = mine + 1 / self._rate
        while (wait := mine - self._clock()) > 0:
            if stop.wait(min(wait, 0.1)):
                return None
            with self._lock:
                mine = max(mine, self._reacted)
        return None if stop.is_set() else self._clock()

    def accepted(self, ticket: float) -> None:
        """Learn that a request was not refused."""
        with self._lock:
            self._pauses = 0
            self._rate = min(self._most, self._rate * 1.01)

    def refused(self, ticket: float, retry_after_seconds: float | None) -> None:
        """Learn from a refusal; one sent before the last reaction is no news."""
        with self._lock:
            now = self._clock()
            if ticket < self._reacted:
                return
            self._pauses += 1
            pause = min(LONGEST_PAUSE_SECONDS, retry_after_seconds or 1.5**self._pauses)
            self._rate = max(0.1, self._rate / 2)
            self._reacted = self._next = now + pause
            self._reason = "the service asked to wait"

    @property
    def view(self) -> PaceView:
        """The pace at this moment."""
        waiting = self._next if self._next > self._clock() + 0.5 else None
        return PaceView(self._rate, waiting, self._reason)
