"""One request's tries: again after what is transient, within a deadline, and never when the run stops.

A refusal for the pace is nobody's try, and waiting for the pace counts against no deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import tenacity

from ._exchange import Cause, Failure, Reply, Request
from ._pace import Gate

TRIES = 6
"""At one answer in ten an error, one question in a million fails so often."""
SILENT_TRIES = 3
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
SHORTEST_TIMEOUT_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Asked:
    """The last reply, how many tries it took, and how long the last one took in seconds."""

    reply: Reply
    attempts: int
    seconds: float


def ask(
    request: Request,
    client: Callable[[Request], Reply | None],
    *,
    gate: Gate,
    stop: threading.Event,
    deadline_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] | None = None,
) -> Asked | None:
    """Send a request until it is answered or there is no point; None if the run stopped first.

    A ``client`` that returns None has seen that stop itself, before it sent anything.
    """
    left = deadline_seconds
    tries = 0
    jitter = tenacity.wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)

    def once() -> Asked | None:
        nonlocal left, tries
        tries += 1
        # Half of what is left: a silent server must leave time for another try.
        timeout = left if tries >= SILENT_TRIES else left / 2
        sent = _passed(
            replace(request, timeout_seconds=max(SHORTEST_TIMEOUT_SECONDS, timeout)), client, gate, stop, clock
        )
        if sent is None:
            return None
        reply, seconds = sent
        left -= seconds
        return Asked(reply, tries, seconds)

    def wait(state: tenacity.RetryCallState) -> float:
        nonlocal left
        seconds = min(left, jitter(state))
        left -= seconds
        return seconds

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(_transient),
        stop=lambda state: tries >= TRIES or left <= 0 or stop.is_set(),
        wait=wait,
        sleep=sleep or tenacity.sleep_using_event(stop),
        # A failure that a stop cut short is no verdict: the question is simply still to be asked.
        retry_error_callback=lambda state: None if stop.is_set() or state.outcome is None else state.outcome.result(),
    )
    return retrying(once)


def _cause(error: Exception) -> Cause:
    return "timeout" if isinstance(error, TimeoutError) else "network" if isinstance(error, OSError) else "client"


def _transient(asked: Asked | None) -> bool:
    return asked is not None and asked.reply.failure is not None and asked.reply.failure.transient


def _passed(
    request: Request,
    client: Callable[[Request], Reply | None],
    gate: Gate,
    stop: threading.Event,
    clock: Callable[[], float],
) -> tuple[Reply, float] | None:
    """Send a request as often as the pace refuses it; return the reply and its seconds, None if the run stopped."""
    while (ticket := gate.enter(stop)) is not None:
        started = clock()
        try:
            reply = client(request)
            if reply is None:
                gate.accepted(ticket)  # nothing was sent, so nothing was refused
                return None
        except Exception as error:  # noqa: BLE001 - a client of one's own may raise anything
            cause = _cause(error)
            reply = Reply(failure=Failure(cause=cause, message=f"{type(error).__name__}: {error}"[:300]))
        seconds = clock() - started
        if reply.failure is None or reply.failure.cause != "rate":
            gate.accepted(ticket)
            return reply, seconds
        gate.refused(ticket, reply.failure.retry_after_seconds)
    return None
