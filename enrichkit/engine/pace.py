"""The pace: when the next request may start, shared by all workers, learned from the service's refusals.

A refusal may name a delay that is exact (a window that opens then), false (a bucket that refills all the time), or
none at all. So nothing is believed before a probe has shown it; once a closure has ended just when it was said to, the
next opening passes at full speed what the one before it passed. Everything is counted by when a request was sent, and
a request counts as accepted until it is refused: how long answers take does not matter. Only where refusals all come
at the same number under way, and hardly an answer does, that many are kept under way, whatever the speed; one more is
tried now and then, since what looks like such a limit at first may be a bucket's burst.

`Pace` decides, purely, in whatever time it is given. `RateLimiter` keeps the workers waiting.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..status import PaceView

START_PER_SECOND = 100.0
DOUBLES_IN_SECONDS = 0.05
LEAST_PER_SECOND, MOST_PER_SECOND = 1 / 60, 10_000.0
FADES = 0.8
SHORTEST_PAUSE_SECONDS = 0.1
LONGEST_CLOSED_SECONDS = 30.0
LONGEST_ECHO_SECONDS = 3.0
MARGIN_SECONDS, SHORTEST_SECONDS = 0.01, 1e-6
FIRST_CLIMB, LONGEST_CLIMB = 20, 200
ENOUGH = 10
"""So many accepted requests between two refusals make a measured speed."""
OF_LATE, RECENT = 20, 200
FULL_AFTER, FULL_OF_LATE, DOUBTFUL = 2, 5, 0.2
"""So many refusals, of the last so many, show a limit on how many are under way, if few answers came at as many."""
TRIED_AFTER_SECONDS = 0.5
LOOKS_EVERY_SECONDS = 0.1
OPENING = 50
"""An opening that passed so many has shown its speed; a smaller one only its share of the whole cycle."""


@dataclass(slots=True)
class Ticket:
    """One passage: its number, when, and how many others were under way; fewer once some of them turn out refused."""

    number: int
    at: float
    others: int = 0


class Pace:
    """Decides when the next request may be sent. Pure: it reads no clock and never waits."""

    def __init__(self) -> None:
        self.limit(None)
        self._state: Literal["open", "probing", "closed"] = "open"
        self._number = 0
        self._last = -math.inf
        self._recent: deque[Ticket] = deque(maxlen=RECENT)
        self._base: float | None = None  # none before the first refusal
        self._climb = FIRST_CLIMB / 2
        self._start: float | None = None
        self._since = 0.0  # when the present episode began: at the last refusal that was news
        self._opened = 0.0  # when the service last opened after a closure that was believed
        self._sent = 0  # since the present episode began, not refused
        self._passed = 0  # since the last opening, not refused
        self._low = 0.0
        self._probe: Ticket | None = None
        self._probe_at = 0.0
        self._refused_probes = 0
        self._pause = 0.0
        self._until: float | None = None
        self._echo = 0.0  # how long a refusal takes to come back
        self._known_in = SHORTEST_PAUSE_SECONDS  # by then it would have come; an answer may take a minute
        self._closures = 0
        self._named = self._exact = False  # whether the last closure had a delay, and ended just then
        self._allowance: int | None = None  # what an opening passed, where closures are exact
        self._under_way = 0
        self._full: deque[int] = deque(maxlen=FULL_OF_LATE)  # how many were under way at the last refusals
        self._most_at_once: int | None = None  # none unless the service limits that
        self._trial: Ticket | None = None  # of one more
        self._trial_at = self._trial_pause = 0.0

    def limit(self, rpm: float | None) -> None:
        """Send so many requests a minute at most from now on, evenly spaced, whatever the service takes; 0 for none."""
        self._gap = 0.0 if rpm is None else 60 / rpm if rpm else math.inf

    def rate(self, now: float) -> float:
        """Return the present speed, in requests a second."""
        if self._base is None:
            since = 0.0 if self._start is None else now - self._start
            return float(min(MOST_PER_SECOND, START_PER_SECOND * 2 ** min(60.0, since / DOUBLES_IN_SECONDS)))
        return min(MOST_PER_SECOND, self._base * (1 + (self._sent / self._climb) ** 2))

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may be sent; 0 for at once."""
        wait = math.inf if self._gap == math.inf else self._last + self._gap - now
        if self._most_at_once is not None:
            # An answer wakes who waits; else one more is tried, and after that yet another, as it was not refused.
            return max(0.0, wait, self._trial_at - now if self._under_way >= self._most_at_once else 0.0)
        spaced = self._last + 1 / self.rate(now) - now
        if self._state == "open":
            return max(0.0, wait, spaced)
        if self._probe is not None:
            return max(0.0, wait, spaced, self._probe.at + self._known_in - now)
        return max(0.0, wait, self._probe_at - now)

    def sent(self, now: float) -> Ticket:
        """Count a request as sent, and so far as accepted."""
        self._number += 1
        ticket = Ticket(self._number, now, self._under_way)
        self._under_way += 1
        if self._most_at_once is not None and ticket.others >= self._most_at_once:
            if self._trial is None:
                self._trial, self._trial_at = ticket, now + self._known_in
            else:  # it was not refused, so that there is no limit, or another one
                self._most_at_once = None
                self._full.popleft()
        elif self._number % RECENT == 0:
            self._trial_at = now
        if self._start is None:
            self._start = self._since = self._opened = now
        if self._state != "open":
            if self._probe is None:
                self._probe = ticket  # it goes alone
            else:
                self._open(self._probe.at)
        self._last = now
        self._sent += 1
        self._passed += 1
        self._recent.append(ticket)
        if self._state == "open" and self._allowance is not None and self._passed >= self._allowance:
            self._try_alone(now)  # it is likely to close now
        return ticket

    def accepted(self, ticket: Ticket) -> None:
        """Learn that a request was not refused."""
        self._under_way -= 1
        if ticket is self._probe:
            self._open(ticket.at)

    def refused(self, ticket: Ticket, now: float, retry_after_seconds: float | None) -> None:
        """Learn from a refusal."""
        self._under_way -= 1
        for other in self._recent:
            other.others -= other.number > ticket.number
        if ticket in self._recent:
            self._recent.remove(ticket)
        self._echo = max(self._echo / 2, min(LONGEST_ECHO_SECONDS, now - ticket.at))
        self._known_in = 3 * self._echo + SHORTEST_PAUSE_SECONDS
        self._sent -= ticket.at >= self._since
        self._passed -= ticket.at >= self._opened
        if self._most_at_once is not None and self._is_limited(ticket, now):
            return
        if ticket is self._probe:
            self._still_closed(now, retry_after_seconds)
            if retry_after_seconds is None:
                self._is_limited(ticket, now)
        elif self._state == "open" and ticket.at >= self._since:  # an episode begins: slow down, and probe
            self._base = self._speed(ticket, now)
            self._climb = min(LONGEST_CLIMB, self._climb * 2)
            self._allowance = None
            self._try_alone(now)
            self._is_limited(ticket, now)

    def _is_limited(self, ticket: Ticket, now: float) -> bool:
        """Judge whether a limit on how many are under way refuses; if so, keep to it, and try one more later."""
        self._full.append(ticket.others)
        most = statistics.median_low(self._full) if len(self._full) >= FULL_AFTER else 0
        decided = [earlier.others for earlier in self._recent if earlier.number < ticket.number]
        if not most or sum(others >= most for others in decided) > len(decided) * DOUBTFUL:
            self._most_at_once = None
            return False
        if self._most_at_once is None:
            self._state, self._since, self._sent = "open", now, 0
            self._trial_pause = TRIED_AFTER_SECONDS
        elif ticket is self._trial:
            self._trial_pause = min(LONGEST_CLOSED_SECONDS, self._trial_pause * 2)
        self._most_at_once = most
        self._trial = None
        self._trial_at = now + self._trial_pause
        return True

    def _try_alone(self, now: float) -> None:
        """Pause, and let a probe go alone."""
        self._state = "probing"
        self._since = now
        self._sent = 0
        self._refused_probes = 0
        self._pause = max(SHORTEST_PAUSE_SECONDS, 1 / self.rate(now))
        self._probe_at = now + self._pause
        self._until = None

    def _speed(self, ticket: Ticket, now: float) -> float:
        """Return the new base speed, half way between what a bucket refills and what was accepted of late.

        Between two refusals a bucket passes exactly its refill; of late, some of its burst as well. Requests sent after
        the refused one are of unknown fate, and do not count.
        """
        decided = [earlier for earlier in self._recent if earlier.at < ticket.at]
        sent = max(0, self._sent - (len(self._recent) - len(decided)))
        elapsed = max(SHORTEST_SECONDS, ticket.at - self._since)
        late, high = decided[-OF_LATE:], self.rate(now)
        if len(late) > 1:
            high = min(high, (len(late) - 1) / max(SHORTEST_SECONDS, late[-1].at - late[0].at))
        if sent >= ENOUGH:
            self._low = (sent - 1) / elapsed
            return max(LEAST_PER_SECOND, math.sqrt(self._low * max(self._low, high)))
        self._low *= FADES  # the limit may have been lowered since it was measured
        return max(LEAST_PER_SECOND, self._low, min(high, (sent + 1) / elapsed))

    def _still_closed(self, now: float, retry_after_seconds: float | None) -> None:
        """Learn that a probe was refused: wait longer, and after the second believe that the service is closed."""
        self._probe = None
        self._refused_probes += 1
        if self._refused_probes == 1 and not (self._exact and retry_after_seconds is not None):
            self._probe_at = now + 2 * self._pause
            return
        if self._until is not None and now < self._until - MARGIN_SECONDS:
            self._probe_at = self._until  # the probe half way was refused, as expected
            return
        delay = retry_after_seconds
        self._named = delay is not None and self._state != "closed"
        if delay is None or self._state == "closed":  # none given, or it did not open when it said
            delay = max(delay or 0.0, min(LONGEST_CLOSED_SECONDS, 1.5**self._closures))
            self._closures += 1
            self._exact = False
        self._state = "closed"
        self._until = now + delay + MARGIN_SECONDS
        self._probe_at = self._until if self._exact else now + delay / 2

    def _open(self, at: float) -> None:
        """Go on: the probe that was sent at ``at`` passed."""
        if self._state == "closed" and self._base is not None:
            self._exact = self._named and self._until is not None and at >= self._until - MARGIN_SECONDS
            until = self._since if self._exact or self._passed > OPENING else at
            cycle = max(SHORTEST_SECONDS, until - self._opened)
            if before := max(0, self._passed - 1):  # else nothing had passed since it last opened: no speed is known
                self._base = max(LEAST_PER_SECOND, before / cycle)
            self._allowance = before if before and self._exact else None
            self._low = 0.0
            self._opened, self._passed = at, 1
            self._since, self._sent = at, 1
        elif self._allowance is not None:
            self._allowance = 2 * self._passed  # it did not close
        self._closures = max(0, self._closures - 2)  # the next closure is likely as long
        self._state = "open"
        self._probe = self._until = None

    def view(self, now: float) -> PaceView:
        """Return the pace for people."""
        if self._most_at_once is not None:
            return PaceView(None, 0.0, "as learned", self._most_at_once)
        rate = self.rate(now) if self._base is not None else None
        if self._gap:
            rate = min(1 / self._gap, rate or math.inf)
        if self._state == "open":
            return PaceView(rate, 0.0, "" if rate is None else "as asked" if self._base is None else "as learned")
        reason = "the service is closed for now" if self._state == "closed" else "the service asked to slow down"
        return PaceView(rate, max(0.0, self._probe_at - now), reason)


class RateLimiter:
    """Lets requests through one by one, as fast as the `Pace` allows; none once patience has run out.

    ``rpm`` is the most that it lets through a minute, or says what that is at the moment.
    """

    def __init__(
        self,
        *,
        rpm: float | Callable[[], float] | None = None,
        patience_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        most = None if callable(rpm) else rpm
        self._rpm: Callable[[], float | None] = rpm if callable(rpm) else lambda: most
        self._pace = Pace()
        self._patience_seconds = patience_seconds
        self._refused = False
        self._waited_seconds = 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._news = threading.Event()

    def enter(self, stop: threading.Event, *, opened: threading.Event | None = None) -> Ticket | None:
        """Wait until the next request may be sent; None if the run stopped meanwhile.

        Nobody passes while ``opened`` is not set, however long it has waited for the pace before.
        """
        # One worker waits for the pace, the others for their turn: no herd wakes up for one ticket. A stop is passed on
        # from one to the next, since a thousand who look now and then cost more than the requests.
        with self._turn:
            while not stop.is_set():
                if opened is not None and not opened.wait(LOOKS_EVERY_SECONDS):
                    continue
                with self._lock:
                    now = self._clock()
                    self._pace.limit(self._rpm())
                    wait = self._pace.wait(now)
                    if wait <= 0:
                        return self._pace.sent(now)
                    self._news.clear()
                if self.out_of_patience:
                    return None
                if wait < 0.002:
                    time.sleep(wait)
                else:
                    self._news.wait(min(wait, LOOKS_EVERY_SECONDS))
                if self._refused:  # a pause is no waiting
                    self._waited_seconds += self._clock() - now
            return None

    def accepted(self, ticket: Ticket) -> None:
        """Learn that a request was not refused."""
        with self._lock:
            self._pace.accepted(ticket)
            self._refused, self._waited_seconds = False, 0.0
        self._news.set()

    def refused(self, ticket: Ticket, retry_after_seconds: float | None) -> None:
        """Learn from a refusal."""
        with self._lock:
            self._refused = True
            self._pace.refused(ticket, self._clock(), retry_after_seconds)
        self._news.set()

    def forget(self) -> None:
        """Start afresh: what was learned came of requests that are sent no more."""
        with self._lock:
            self._pace = Pace()
        self._news.set()

    @property
    def out_of_patience(self) -> bool:
        """Whether refusals have been waited for too long, and nothing was accepted meanwhile."""
        return self._patience_seconds is not None and self._waited_seconds >= self._patience_seconds

    @property
    def view(self) -> PaceView:
        """The pace at this moment."""
        with self._lock:
            self._pace.limit(self._rpm())
            return self._pace.view(self._clock())
