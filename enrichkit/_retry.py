"""One request's tries: again after what is transient, within a deadline, and never when the run stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import tenacity

from ._exchange import Client, Failure, Reply, Request
from ._pace import Gate

TRIES = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """The last reply, how many tries it took, and how long the last one took in seconds."""

    reply: Reply
    attempts: int
    seconds: float


def ask(
    request: Request,
    client: Client,
    *,
    gate: Gate,
    stop: threading.Event,
    deadline_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Asked | None:
    """Send a request until it is answered or there is no point; None if the run stopped first."""
    left = deadline_seconds
    tries = 0
    for backoff in range(TRIES):
        while True:
            ticket = gate.enter(stop)
            if ticket is None:
                return None
            timeout = left if backoff == TRIES - 1 else left / 2
            started = clock()
            try:
                reply = client(replace(request, timeout_seconds=max(0.001, timeout)))
            except Exception as error:  # noqa: BLE001 - a client of one's own may raise anything
                reply = Reply(failure=Failure(cause="client", message=f"{type(error).__name__}: {error}"[:300]))
            seconds = clock() - started
            if reply.failure is None or reply.failure.cause != "rate":
                break
            gate.refused(ticket, reply.failure.retry_after_seconds)
        gate.accepted(ticket)
        tries += 1
        left -= seconds
        if reply.failure is None or not reply.failure.transient or tries == TRIES or left <= 0:
            return Asked(reply, tries, seconds)
        wait = min(left, tenacity.wait_random_exponential(multiplier=1, max=30)(_state(tries)))
        left -= wait
        if stop.wait(wait):
            return None
    return Asked(reply, tries, seconds)


def _state(attempt: int) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(retry_object=tenacity.Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = attempt
    return state
