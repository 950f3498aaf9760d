"""Waiting for what is to happen, on a machine however slow; and requests that are held until a test lets them go."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

from enrichkit.gemini.simulator import Simulator

PATIENCE_SECONDS = 60.0
"""So long is waited for what is sure to come; nothing ever takes so long but a defect."""


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    since = time.monotonic()
    while not condition():
        now = time.monotonic()
        assert now < deadline, "it never came"
        time.sleep(min(0.1, max(0.005, 2 * (now - since))))  # to look often would slow down what is waited for
        since = time.monotonic()


def hold_after(simulator: Simulator, requests: int) -> threading.Event:
    """Let so many requests be answered; those after them have no reply before the event that is returned is set."""
    go, number, latency = threading.Event(), itertools.count(), simulator._latency

    def held(prompt: str, earlier: int) -> float:
        if next(number) >= requests:
            while not (go.is_set() or simulator.closing.wait(0.005)):
                pass
        return latency(prompt, earlier)

    simulator._latency = held  # type: ignore[method-assign]
    return go
