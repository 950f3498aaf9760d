"""One request's tries: again after what is transient, within a deadline.

It decides when another try makes sense, and when to doubt that searches are taken at all. How a request is sent, and
who waits for another try, is no concern of its own.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace

import tenacity

from ..messages import TRANSIENT, Failure, Reply, Request
from ..stages.stage import Stage
from ..store.rows import ReadReply

ATTEMPTS = 2
"""A question whose reply has no text, or none that can be read, is asked again once."""
UNUSABLE = "\n\nYour last reply could not be used: no JSON object{which}. Reply with the JSON object alone."
TRIES = 7
"""At one answer in ten an error, one question in ten million fails so often."""
SILENT_TRIES = 4
"""At one request in twenty without an answer, one question in a hundred thousand fails so often."""
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 30.0
SHORTEST_TIMEOUT_SECONDS = 0.001
LEAST_SHARE = 0.05
"""A try with less of the deadline left would be paid for, and hardly answered in time."""
DOUBT_AFTER_SECONDS = 60.0
"""Of refusals without any detail, of searching requests alone."""
SHORT_TOKENS = 16
UNREACHED_SECONDS = 3.0
"""A service that is started again is there by then; the tries of ten questions would take four times as long."""


def added_after(reply: Reply) -> str | None:
    """Return what is added to a question that is asked again after a reply; None if it is not asked again."""
    cause = reply.failure and reply.failure.cause
    if reply.failure is not None and reply.failure.usage is not None and cause in {*TRANSIENT, "rate"}:
        return ""  # it was charged for, so it counts as a reply
    which = " with the fields asked for" if "{" in (reply.text or "") else ""
    return {"empty": "", "unreadable": UNUSABLE.format(which=which)}.get(cause or "")


@dataclass(frozen=True, slots=True)
class Sent:
    """The last reply, the seconds that its request took, and the number of tries so far."""

    reply: Reply
    seconds: float
    tries: int = 1
    short: bool = False
    """Whether it answers the short request of a `SearchDoubt`."""

    @property
    def in_vain(self) -> bool:
        """Whether it ends the run and is charged for: it is kept, and its question still to be asked."""
        return self.reply.failure is not None and self.reply.failure.ends_run and self.reply.paid


class SearchDoubt:
    """Whether searches are refused, and nothing else is: after a while, a short request that does not search tells."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._said = ""
        self._lock = threading.Lock()
        self.refused: str | None = None
        """What the service says to searches, once it is known that it takes everything else."""
        self.over = threading.Event()
        """Set when no search is asked for any more, for that reason or because the run is stopped."""

    def probe(self, request: Request) -> Request:
        """Return what to send for a request: itself, or, once it is time, the short one that tells."""
        with self._lock:
            if not request.search or self._since is None or time.monotonic() - self._since < DOUBT_AFTER_SECONDS:
                return request
            self._since = None
        return replace(request, search=False, max_output_tokens=SHORT_TOKENS)

    def learn(self, sent: Request, failure: Failure | None) -> None:
        """Learn what became of a request; what passes without a search says nothing."""
        rate = failure if failure is not None and failure.cause == "rate" else None
        with self._lock:
            if sent.search and rate is not None and rate.quota is None and rate.retry_after_seconds is None:
                self._since, self._said = self._since or time.monotonic(), rate.message
            elif sent.search or rate is not None:
                self._since = None

    def confirm(self, reply: Reply) -> Reply:
        """Ask for no search any more: a short request has passed. Return its reply as a try that answers nothing."""
        self.refused = self._said
        self.over.set()
        return replace(reply, failure=Failure(cause="search_quota", message=self._said))


class Reach:
    """Whether anybody is there: until a first connection is made, the address, a proxy or the network may be wrong."""

    def __init__(self) -> None:
        self._since: float | None = None
        """When the first request met nobody; infinite once somebody was reached."""

    def is_lost(self, failure: Failure | None) -> bool:
        """Learn what became of a request; return whether nobody was reached for too long, from the first one on."""
        now = time.monotonic()
        if failure is None or failure.cause != "network" or failure.may_be_charged:
            self._since = math.inf
        elif self._since is None:
            self._since = now
        return self._since is not None and now - self._since > UNREACHED_SECONDS


class Tries:
    """The tries of a request within its deadline: how long each may take, and when another makes sense.

    What a request must wait for before it is sent counts against no deadline.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._left = request.timeout_seconds
        self.count = 0

    def begin(self) -> float:
        """Begin a try and return how long it may take, in seconds."""
        self.count += 1
        # Half of what is left: a silent server must leave time for another try. At flex, silence may last to the end.
        timeout = self._left if self.count >= SILENT_TRIES or self._request.tier == "flex" else self._left / 2
        return max(SHORTEST_TIMEOUT_SECONDS, timeout)

    def wait_after(self, sent: Sent) -> float | None:
        """Return the seconds until another try, None if there is no point in any."""
        self._left -= sent.seconds
        failure = sent.reply.failure
        transient = failure is not None and failure.transient and failure.usage is None
        if not transient or self.count >= TRIES or self._left < self._request.timeout_seconds * LEAST_SHARE:
            return None
        state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
        state.attempt_number = self.count
        jitter = tenacity.wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)
        seconds = min(self._left / 2, jitter(state))
        self._left -= seconds
        return seconds


@dataclass
class Attempts:
    """A question that is being asked: what came so far, and the tries of the present attempt.

    ``last`` is the number of the last attempt; ``added`` is what its request says besides.
    """

    stage: Stage
    request: Request
    replies: list[ReadReply]
    recorded: int
    last: int
    added: str | None

    def __post_init__(self) -> None:
        self.tries = Tries(self.request)

    def asked(self) -> Request:
        """Return the request of the next try."""
        text = self.request.text + (self.added or "")
        return replace(self.request, text=text, timeout_seconds=self.tries.begin())
