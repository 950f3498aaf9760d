"""One request's tries: again after what is transient, within a deadline, and never when the run stops.

It decides when another try makes sense and waits for it. How a request is sent, and what it must wait for before that,
is no concern of its own: such waiting counts against no deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import tenacity

from ..messages import Reply, Request

TRIES = 7
"""At one answer in ten an error, one question in ten million fails so often."""
SILENT_TRIES = 4
"""At one request in twenty without an answer, one question in a hundred thousand fails so often."""
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 30.0
SHORTEST_TIMEOUT_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Sent:
    """The last reply, the seconds that its request took, and the number of tries so far."""

    reply: Reply
    seconds: float
    tries: int = 1


def ask(
    request: Request,
    send: Callable[[Request], Sent | None],
    *,
    stop: threading.Event,
    deadline_seconds: float,
    sleep: Callable[[float], None] | None = None,
) -> Sent | None:
    """Send a request until it is answered or there is no point; None if the run stopped first.

    A ``send`` that returns None has seen that stop itself, before it sent anything.
    """
    left = deadline_seconds
    tries = 0
    jitter = tenacity.wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)

    def once() -> Sent | None:
        nonlocal left, tries
        tries += 1
        # Half of what is left: a silent server must leave time for another try. At flex, silence may last to the end.
        timeout = left if tries >= SILENT_TRIES or request.tier == "flex" else left / 2
        sent = send(replace(request, timeout_seconds=max(SHORTEST_TIMEOUT_SECONDS, timeout)))
        if sent is None:
            return None
        left -= sent.seconds
        return Sent(sent.reply, sent.seconds, tries)

    def wait(state: tenacity.RetryCallState) -> float:
        nonlocal left
        seconds = min(left, jitter(state))
        left -= seconds
        return seconds

    first = once()
    if not _transient(first):
        return first  # nearly all: tenacity's machinery takes as long as parsing the reply
    done = [first]
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(_transient),
        stop=lambda state: tries >= TRIES or left <= 0 or stop.is_set(),
        wait=wait,
        sleep=sleep or tenacity.sleep_using_event(stop),
        # A failure that a stop cut short is no verdict: the question is simply still to be asked.
        retry_error_callback=lambda state: None if stop.is_set() or state.outcome is None else state.outcome.result(),
    )
    return retrying(lambda: done.pop() if done else once())


def _transient(sent: Sent | None) -> bool:
    return sent is not None and sent.reply.failure is not None and sent.reply.failure.transient
