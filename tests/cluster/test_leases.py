"""The leases: however processes come, die, fall silent or hear late, in sum they never may send more than is given."""

from __future__ import annotations

import heapq
import itertools
import random

import pytest

from enrichkit.cluster.leases import BEATS_EVERY_SECONDS, LAPSES_SECONDS, Lease, Leases

RPM = 9000.0


class Net:
    """Processes and who grants, each with a clock of its own, and messages that come late, twice, or never."""

    def __init__(self, seed: int) -> None:
        self.dice, self.leases, self.now = random.Random(seed), Leases(RPM), 0.0
        self.holders: dict[str, Lease] = {}
        self.offsets: dict[str, float] = {}
        self.cut: set[str] = set()
        self.slow = True
        self._events: list = []
        self._names, self._order = itertools.count(), itertools.count()
        self.at(0.0, self.tick)

    def at(self, seconds, do, *given):
        """Do something after so many seconds."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), do, given))

    def send(self, name, do, *given):
        """Deliver a message, unless a process is cut off or, while the net is slow, it is lost."""
        for _ in range(1 + (self.slow and self.dice.random() < 0.1)):
            if name not in self.cut and not (self.slow and self.dice.random() < 0.1):
                self.at(self.dice.expovariate(2.0) if self.slow else 0.02, do, *given)

    def join(self):
        name = f"p{next(self._names)}"
        self.holders[name], self.offsets[name] = Lease(), self.dice.uniform(-1e6, 1e6)
        self.beat(name)

    def beat(self, name):
        if name in self.holders:
            beat, number = self.holders[name].beat(self.now + self.offsets[name])
            self.send(name, self.hear, name, beat, number)
            self.at(BEATS_EVERY_SECONDS, self.beat, name)

    def hear(self, name, beat, number):
        self.leases.hear(name, beat, number, self.now)

    def tick(self):
        for name, grant in self.leases.grants(self.now).items():
            self.send(name, self.take, name, grant)
        self.at(BEATS_EVERY_SECONDS, self.tick)

    def take(self, name, grant):
        if name in self.holders:
            self.holders[name].take(grant, self.now + self.offsets[name])

    def end(self, name):
        """A process ends; its last word may be lost, as when it is killed."""
        if self.holders.pop(name, None):
            self.send(name, self.leases.end, name)

    def run(self, seconds):
        """Let time pass; return the most and the least that all together might send a minute at any moment of it."""
        until, most, least = self.now + seconds, 0.0, float("inf")
        while self._events and self._events[0][0] <= until:
            self.now, _, do, given = heapq.heappop(self._events)
            do(*given)
            may = sum(lease.rpm(self.now + self.offsets[name]) for name, lease in self.holders.items())
            most, least = max(most, may), min(least, may)
        self.now = until
        return most, least


@pytest.mark.parametrize("seed", range(4))
def test_together_they_never_may_send_more_than_is_given(seed):
    """Through 250 joins, deaths, cuts and lost or late words each; and soon after all is calm, nearly all of it."""
    net = Net(seed)
    for _ in range(250):
        names = list(net.holders)
        what = net.dice.choice(["join", "join", "end", "cut", "mend", "calm"])
        if what == "join" and len(names) < 12:
            net.join()
        elif what == "end" and names:
            net.end(net.dice.choice(names))
        elif what == "cut" and names:
            net.cut.add(net.dice.choice(names))
        elif what == "mend":
            net.cut.clear()
        net.slow = what != "calm"
        most, _ = net.run(net.dice.uniform(0, 2 * LAPSES_SECONDS))
        assert most <= RPM * (1 + 1e-9)
    net.slow = False
    net.cut.clear()
    net.join()
    net.run(4 * LAPSES_SECONDS)
    most, least = net.run(10)
    assert 0.9 * RPM <= least <= most <= RPM * (1 + 1e-9)


def test_who_comes_gets_a_share_as_soon_as_the_others_have_given_it_up():
    """Shares shrink first, and grow with the next words; a lease that nobody renews is worth nothing."""
    net = Net(0)
    net.slow = False
    net.join()
    net.run(1)
    assert [lease.rpm(net.now + net.offsets[name]) for name, lease in net.holders.items()] == [RPM]
    net.join()
    net.run(1.5)
    shares = [lease.rpm(net.now + net.offsets[name]) for name, lease in net.holders.items()]
    assert shares == pytest.approx([RPM / 2, RPM / 2])
    net.cut.add("p1")
    net.run(LAPSES_SECONDS + 3 * BEATS_EVERY_SECONDS)
    shares = [lease.rpm(net.now + net.offsets[name]) for name, lease in net.holders.items()]
    assert shares == pytest.approx([RPM, 0])


def test_the_first_request_takes_its_time_too():
    """Else each part that begins would send another beside what the minute has."""
    lease, leases = Lease(), Leases(6)
    rates = []
    for now in range(12):
        leases.hear("p", *lease.beat(now), now)
        lease.take(leases.grants(now)["p"], now)
        rates.append(lease.rpm(now))
    assert rates == [0.0] * 10 + [6.0] * 2
