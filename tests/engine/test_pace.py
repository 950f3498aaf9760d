"""The pace in virtual time against services of every kind; the gate with real threads."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from enrichkit.engine.pace import LOOKS_EVERY_SECONDS, Pace, RateLimiter
from enrichkit.status import PaceView


@dataclass
class Bucket:
    """Refills all the time, and may name a false delay; its rate may halve at some time."""

    per_second: float
    burst: float
    says: float | None
    halves_at: float = math.inf
    held: float = field(init=False)
    at: float = 0.0

    def __post_init__(self):
        self.held = self.burst

    def refuses(self, now):
        rate = self.per_second / 2 if now >= self.halves_at else self.per_second
        self.held, self.at = min(self.burst, self.held + (now - self.at) * rate), now
        if self.held < 1:
            return True
        self.held -= 1
        return False

    def delay(self, now):
        return self.says


@dataclass
class Window:
    """Opens at fixed times, and names the delay until then, or none."""

    requests: int
    seconds: float
    exact: bool = True
    says: float | None = None
    window: int = -1
    used: int = 0

    def refuses(self, now):
        if int(now / self.seconds) != self.window:
            self.window, self.used = int(now / self.seconds), 0
        self.used += 1
        return self.used > self.requests

    def delay(self, now):
        return (int(now / self.seconds) + 1) * self.seconds - now if self.exact else self.says


@dataclass(frozen=True)
class Ran:
    """How a simulated run went."""

    seconds: float
    answered: int
    refused: int
    sends: list[float]
    accepted: list[float]


def simulate(service, questions, latency, *, workers=20, echo=0.01, rpm=None):
    """Ask so many questions in virtual time; ``echo`` is how long a refusal takes."""
    pace, now, order = Pace(), 0.0, itertools.count()
    pace.limit(rpm)
    events, idle, waiting, refused, sends, accepted = [], workers, questions, 0, [], []
    while len(accepted) < questions:
        while idle and waiting and pace.wait(now) <= 1e-9:
            ticket = pace.sent(now)
            no = service is not None and service.refuses(now)
            delay = service.delay(now) if no else None
            idle, waiting = idle - 1, waiting - 1
            sends.append(now)
            heapq.heappush(events, (now + (echo if no else latency()), next(order), ticket, no, delay))
        soon = now + max(pace.wait(now), 1e-6) if idle and waiting else math.inf
        now = min(soon, events[0][0] if events else math.inf)
        while events and events[0][0] <= now:
            _, _, ticket, no, delay = heapq.heappop(events)
            idle += 1
            if no:
                pace.refused(ticket, now, delay)
                refused, waiting = refused + 1, waiting + 1
            else:
                pace.accepted(ticket)
                accepted.append(ticket.at)
    return Ran(now, len(accepted), refused, sends, accepted)


SERVICES = {
    "a bucket with a false delay": (lambda: Bucket(20, 5, 3.0), 31.0, 0.05),
    "windows with an exact delay": (lambda: Window(200, 10), 22.8, 0.05),
    "a limit that halves midway": (lambda: Bucket(20, 5, 3.0, halves_at=15), 47.0, 0.05),
    "a bucket without a delay": (lambda: Bucket(20, 5, None), 32.0, 0.05),
    "windows without a delay": (lambda: Window(200, 10, exact=False), 25.0, 0.05),
}


@pytest.mark.parametrize("name", SERVICES)
def test_an_unknown_limit_is_learned(name):
    """600 questions of 200 ms with 20 workers: near the ideal time, few refusals, nothing lost."""
    make, most_seconds, most_refused = SERVICES[name]
    ran = simulate(make(), 600, lambda: 0.2)
    assert ran.answered == 600
    assert ran.seconds <= most_seconds
    assert ran.refused / 600 <= most_refused


@pytest.mark.parametrize("name", SERVICES)
def test_slow_refusals_are_borne(name):
    """Where a refusal takes as long as an answer, more is in flight before it is known; the time hardly grows."""
    make, most_seconds, most_refused = SERVICES[name]
    ran = simulate(make(), 600, lambda: 0.2, echo=0.2)
    assert ran.seconds <= most_seconds * 1.06
    assert ran.refused / 600 <= most_refused * 2.1


LONG = {
    "a bucket": (lambda: Bucket(20, 5, 3.0), 300, 0.02),
    "windows with an exact delay": (lambda: Window(200, 10), 290, 0.03),
    "windows without a delay": (lambda: Window(200, 10, exact=False), 290, 0.05),
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_run_stays_at_the_limit(name):
    """6,000 questions: what is learned from one closure never makes the later ones longer than they are."""
    make, ideal_seconds, most_refused = LONG[name]
    ran = simulate(make(), 6000, lambda: 0.2)
    assert ran.seconds <= ideal_seconds * 1.03
    assert ran.refused / 6000 <= most_refused


@pytest.mark.parametrize(("requests", "seconds"), [(20, 10), (10, 60), (5, 60), (2000, 10)])
def test_windows_of_any_size_are_filled(requests, seconds):
    """Where delays have proven exact, an opening passes at full speed what the one before it passed."""
    ran = simulate(Window(requests, seconds), 5 * requests, lambda: 0.05)
    assert ran.seconds <= 4 * seconds * 1.03 + requests / 200
    assert ran.refused <= 2 * 5 + 0.01 * 5 * requests + 5


@pytest.mark.parametrize("factor", [0.5, 2])
def test_windows_that_shrink_or_grow_are_learned_anew(factor):
    """What was learned of one opening holds until another shows that it has changed."""

    class Changing(Window):
        def refuses(self, now):
            self.requests = 20 if now < 50 else int(20 * factor)
            return super().refuses(now)

    ran = simulate(Changing(20, 10), 200, lambda: 0.2)
    assert ran.seconds <= (50 + 100 / 20 / factor * 10) * 1.05
    assert ran.refused <= 40


def limited(most_at_once, questions, latency, *, workers=20, echo=0.01):
    """Ask so many of a service that limits how many are under way, in virtual time; return seconds and refusals."""
    pace, now, order = Pace(), 0.0, itertools.count()
    events, idle, waiting, refused, answered, serving = [], workers, questions, 0, 0, 0
    while answered < questions:
        while idle and waiting and pace.wait(now) <= 1e-9:
            ticket, no = pace.sent(now), serving >= most_at_once(now)
            serving, idle, waiting = serving + (not no), idle - 1, waiting - 1
            heapq.heappush(events, (now + (echo if no else latency()), next(order), ticket, no))
        soon = now + max(pace.wait(now), 1e-6) if idle and waiting else math.inf
        now = min(soon, events[0][0] if events else math.inf)
        while events and events[0][0] <= now:
            _, _, ticket, no = heapq.heappop(events)
            idle += 1
            if no:
                pace.refused(ticket, now, None)
                refused, waiting = refused + 1, waiting + 1
            else:
                pace.accepted(ticket)
                answered, serving = answered + 1, serving - 1
    return now, refused


@pytest.mark.parametrize("spread", [0.0, 0.15])
def test_a_limit_on_how_many_are_under_way_is_learned(spread):
    """Eight at once, whatever the speed; and twelve when it has risen."""
    dice = random.Random(1)

    def latency():
        return 0.2 + dice.uniform(-spread, spread)

    seconds, refused = limited(lambda now: 8, 600, latency)
    assert seconds <= 600 * 0.2 / 8 / 0.9
    assert refused <= 30
    seconds, refused = limited(lambda now: 8 if now < 10 else 12, 1000, latency)
    assert seconds <= (10 + 600 * 0.2 / 12) / 0.8
    assert refused <= 30


@pytest.mark.parametrize("most", [1, 3, 9, 16, 60])
@pytest.mark.parametrize("mean", [0.2, 1.0, 8.0])
@pytest.mark.parametrize("spread", [0.2, 0.5, 1.0])
def test_such_a_limit_is_learned_however_long_answers_take(most, mean, spread):
    """Latencies are lognormal; the ideal is one after the other, so many at a time."""
    dice, took = random.Random(most), []

    def latency():
        took.append(mean * dice.lognormvariate(-(spread**2) / 2, spread))
        return took[-1]

    questions = max(100, round(20 * most / min(1.0, mean)))
    seconds, refused = limited(lambda now: most, questions, latency, workers=64, echo=0.03)
    free = [0.0] * most
    for each in took:
        heapq.heapreplace(free, free[0] + each)
    assert seconds <= max(free) / 0.9
    assert refused <= 20 + questions * 0.03 + seconds / 30


@pytest.mark.parametrize("says", [None, 3.0])
@pytest.mark.parametrize(
    ("per_second", "burst", "mean"), [(2, 5, 10), (2, 50, 10), (20, 5, 10), (20, 50, 2), (2, 5, 2)]
)
def test_a_burst_is_not_taken_for_such_a_limit(per_second, burst, mean, says):
    """Slow answers leave a bucket's whole burst under way when it refuses first; more pass all the same."""
    ran = simulate(Bucket(per_second, burst, says), per_second * 60, lambda: mean, workers=400)
    assert ran.seconds <= (per_second * 60 - burst) / per_second * 1.15 + mean


@pytest.mark.parametrize("latency", [0.2, 2.0, 10.0])
@pytest.mark.parametrize("says", [None, 3.0])
def test_a_bucket_without_a_burst_is_kept_up_with(latency, says):
    """Two a second, and never two at once: what follows a probe is spaced like all the rest."""
    ran = simulate(Bucket(2, 1, says), 120, lambda: latency)
    assert ran.seconds <= 150
    assert ran.refused <= 30


@pytest.mark.parametrize("says", [0.0, 0.001, 0.5])
def test_a_delay_that_is_too_short_does_not_hammer(says):
    """Where the service does not open when it said, the waits grow by themselves."""
    ran = simulate(Window(200, 10, exact=False, says=says), 600, lambda: 0.2)
    assert ran.seconds <= 25
    assert ran.refused / 600 <= 0.05


def test_without_a_limit_nothing_is_held_back():
    """2,000 questions of 50 ms: 5.0 s is ideal."""
    ran = simulate(None, 2000, lambda: 0.05)
    assert ran.refused == 0
    assert ran.seconds <= 5.4


def test_slow_answers_do_not_slow_the_pace():
    """Reckoned by when requests are sent: a probe is not waited for as long as an answer takes."""
    dice = random.Random(1)
    ran = simulate(Bucket(2, 5, 3.0), 200, lambda: dice.uniform(5, 15), workers=40)
    assert ran.seconds <= 200 / 2 * 1.15 + 15


@pytest.mark.parametrize("rpm", [30, 600])
def test_a_cap_is_never_passed(rpm):
    """In no minute more than rpm requests, whatever the service takes; and no slower than that."""
    ran = simulate(None, 150, lambda: 0.2, rpm=rpm)
    for first in ran.sends:
        assert sum(first <= at < first + 60 - 1e-6 for at in ran.sends) <= rpm
    assert ran.seconds == pytest.approx(149 * 60 / rpm + 0.2, rel=0.01)


def test_a_refusal_of_an_older_request_is_no_news():
    """What was sent before the last reaction says nothing about it."""
    pace = Pace()
    tickets = [pace.sent(at / 100) for at in range(30)]
    pace.refused(tickets[20], 0.4, 3.0)
    waits, rate = pace.wait(0.4), pace.rate(0.4)
    for ticket in tickets[21:]:
        pace.refused(ticket, 0.4, 3.0)
    assert (pace.wait(0.4), pace.rate(0.4)) == (waits, rate)


def test_a_probe_goes_alone():
    """After a refusal one request finds out; nothing follows before it is known, or would be."""
    pace = Pace()
    tickets = [pace.sent(at / 100) for at in range(30)]
    pace.refused(tickets[-1], 0.35, 60.0)
    at = 0.35 + pace.wait(0.35)
    probe = pace.sent(at)
    assert pace.wait(at) > 0.1
    pace.accepted(probe)
    assert pace.wait(at + 0.2) == 0


def test_a_delay_is_believed_after_two_probes():
    """Not before, and then until its end with one probe half way."""
    pace = Pace()
    tickets = [pace.sent(at / 100) for at in range(30)]
    pace.refused(tickets[-1], 0.3, 10.0)
    now, probes = 0.3, []
    while now < 10.0:
        now += pace.wait(now)
        probes.append(now)
        pace.refused(pace.sent(now), now + 0.01, 10.3 - now)
        now += 0.01
    assert len(probes) == 4
    assert probes[1] < 1.0
    assert probes[2] == pytest.approx(5.4, abs=0.5)
    assert probes[3] == pytest.approx(10.3, abs=0.05)


def test_an_unknown_closure_is_waited_for_longer_and_longer():
    """No delay given: longer each time, half a minute at most."""
    pace = Pace()
    pace.refused(pace.sent(0.0), 0.1, None)
    pace.refused(pace.sent(0.2), 0.3, None)
    now, waits = 0.3, []
    for _ in range(30):
        wait = pace.wait(now)
        waits.append(wait)
        now += wait
        pace.refused(pace.sent(now), now + 0.01, None)
        now += 0.01
    assert max(waits) <= 30.1
    assert waits[-1] > 5 > waits[1]


@pytest.mark.parametrize("seed", range(5))
def test_no_order_of_events_breaks_it(seed):
    """Whatever is accepted and refused in whatever order, waits stay finite and speeds above zero."""
    dice, pace, now, open_ = random.Random(seed), Pace(), 0.0, []
    for _ in range(2000):
        wait = pace.wait(now)
        assert 0 <= wait < 3700
        now += wait * dice.choice([1, 1, 0.5]) + dice.random() / 100
        if pace.wait(now) <= 0:
            open_.append(pace.sent(now))
        if open_ and dice.random() < 0.7:
            ticket = open_.pop(dice.randrange(len(open_)))
            if dice.random() < 0.5:
                pace.accepted(ticket)
            else:
                pace.refused(ticket, now, dice.choice([None, 0.0, 1.0, 30.0]))
        assert pace.rate(now) > 0


# The rate limiter


def test_workers_pass_one_by_one():
    """Each gets a ticket of its own."""
    limiter, stop = RateLimiter(), threading.Event()
    with ThreadPoolExecutor(20) as pool:
        tickets = list(pool.map(lambda _: limiter.enter(stop), range(200)))
    assert len({ticket.number for ticket in tickets}) == 200


def test_a_stop_ends_the_waiting():
    """Of the one who waits for the pace, and of those who wait for their turn."""
    limiter, stop = RateLimiter(rpm=1), threading.Event()
    assert limiter.enter(stop) is not None
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(limiter.enter, stop) for _ in range(5)]
        time.sleep(0.05)
        assert not any(one.done() for one in waiting)
        stop.set()
        stopped = time.monotonic()
        assert [one.result(timeout=60) for one in waiting] == [None] * 5
        assert time.monotonic() - stopped < 40  # the next one would pass after a minute
    assert LOOKS_EVERY_SECONDS <= 0.1


def test_waiting_takes_no_cpu():
    """Twenty waiting workers neither spin nor wake one another."""
    limiter, stop = RateLimiter(rpm=1), threading.Event()
    limiter.enter(stop)
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(limiter.enter, stop) for _ in range(20)]
        spent, since = time.process_time(), time.monotonic()
        time.sleep(0.2)
        assert time.process_time() - spent < 0.3 * (time.monotonic() - since)
        stop.set()
    assert [one.result() for one in waiting] == [None] * 20


def test_a_probe_that_passes_wakes_who_waits():
    """The worker that waits for the probe's fate goes as soon as it is known, not when a refusal would be overdue."""
    now = [0.0]
    limiter, stop = RateLimiter(clock=lambda: now[0]), threading.Event()
    first = limiter.enter(stop)
    now[0] = 1.0
    limiter.refused(first, None)
    now[0] = 2.0
    probe = limiter.enter(stop)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(limiter.enter, stop)
        time.sleep(0.05)
        assert not following.done()
        now[0] = 3.0  # a refusal would be overdue at 5.1
        limiter.accepted(probe)
        assert following.result(timeout=60).at == 3.0


def test_a_passage_is_cheap():
    """Some microseconds without a quota."""
    limiter, stop, now = RateLimiter(clock=lambda: next(now)), threading.Event(), itertools.count()
    spent = []
    for _ in range(5):  # the best of them: what else the machine does is no part of it
        started = time.thread_time()
        for _ in range(500):
            limiter.accepted(limiter.enter(stop))
        spent.append(time.thread_time() - started)
    assert min(spent) / 500 < 100e-6


def test_the_view_says_what_is_waited_for():
    """For people: how fast, for how long, why."""
    now = [0.0]
    limiter, stop = RateLimiter(clock=lambda: now[0]), threading.Event()
    assert limiter.view == PaceView(None, 0.0, "")
    assert str(limiter.view) == ""
    ticket = limiter.enter(stop)
    now[0] = 0.5
    limiter.refused(ticket, 30.0)
    assert limiter.view.waiting_seconds > 0
    assert str(limiter.view) == "the service asked to slow down, next try in 1 s"
    now[0] = 3.0
    limiter.accepted(limiter.enter(stop))
    assert limiter.view.reason == "as learned"
    assert str(RateLimiter(rpm=30).view) == "at most 0.5 requests/s"


@pytest.mark.parametrize("says_seconds", [None, 2.0, 40.0])
def test_what_is_refused_before_anything_passed_says_nothing_of_the_speed(says_seconds):
    """Three refusals at the very start: once it is open, a dozen more pass in a second, and not in ten minutes."""
    pace, now, passed = Pace(), 0.0, []
    for number in range(15):
        now += pace.wait(now)
        ticket = pace.sent(now)
        now += 0.01
        if number < 3:
            pace.refused(ticket, now, says_seconds)
        else:
            pace.accepted(ticket)
            passed.append(now)
    assert passed[-1] - passed[0] < 1
