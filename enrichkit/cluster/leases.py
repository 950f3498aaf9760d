"""The leases: how the requests a minute of a run are shared by its processes, never more than all may send together.

A process says four times a second that it is there (a beat), and is granted its share in return. A grant stands for as
long after its beat was sent as `LAPSES_SECONDS` says, by the process's own clock: one that is cut off stops by itself
before the others may take its share. Both sides decide in whatever time they are given; nothing here waits or sends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

LAPSES_SECONDS = 1.5
BEATS_EVERY_SECONDS = 0.25


class Grant(NamedTuple):
    """So many requests a minute, in return for a beat of that number; grants are numbered, too."""

    rpm: float
    beat: int
    number: int


@dataclass
class _Holder:
    """A process, as whoever grants sees it."""

    beat: int = -1
    heard_at: float = -math.inf
    rpm: float = 0.0
    standing: dict[int, tuple[float, float]] = field(default_factory=dict)
    """The grants that it may go by, by number: each with its requests a minute, and until when."""

    @property
    def most(self) -> float:
        """The most that it may send a minute, whichever grant has reached it."""
        return max((rpm for rpm, _ in self.standing.values()), default=0.0)


class Leases:
    """Shares ``rpm`` evenly among the processes that are heard of.

    Shares shrink at once, and grow by what is surely free: what another may still go by is not.
    """

    def __init__(self, rpm: float) -> None:
        self._rpm = rpm
        self._holders: dict[str, _Holder] = {}
        self._number = 0

    def hear(self, name: str, beat: int, number: int, now: float) -> None:
        """Take note of a process's beat, and of the newest grant that has reached it."""
        holder = self._holders.setdefault(name, _Holder())
        if beat > holder.beat:
            holder.beat, holder.heard_at = beat, now
            holder.standing = {known: grant for known, grant in holder.standing.items() if known >= number}

    def end(self, name: str) -> None:
        """Forget a process that has ended, and sends no more."""
        self._holders.pop(name, None)

    def grants(self, now: float) -> dict[str, Grant]:
        """Return what each process is granted from now on."""
        for name, holder in list(self._holders.items()):
            holder.standing = {number: grant for number, grant in holder.standing.items() if grant[1] > now}
            if not holder.standing and holder.heard_at + LAPSES_SECONDS <= now:
                del self._holders[name]
        alive = {name: holder for name, holder in self._holders.items() if holder.heard_at + LAPSES_SECONDS > now}
        free = self._rpm - sum(holder.most for holder in self._holders.values())
        granted = {}
        for name, holder in alive.items():
            rpm = min(self._rpm / len(alive), holder.most + max(0.0, free))
            free -= max(0.0, rpm - holder.most)
            self._number += 1
            holder.standing[self._number] = rpm, holder.heard_at + LAPSES_SECONDS
            granted[name] = Grant(rpm, holder.beat, self._number)
        return granted


class Lease:
    """What a process may send, as it knows itself."""

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}
        self._beat = -1
        self._grant = Grant(0.0, -1, 0)
        self._since, self._until = 0.0, -math.inf

    def beat(self, now: float) -> tuple[int, int]:
        """Return the number of a beat that is sent now, and of the newest grant that has come."""
        self._beat += 1
        self._sent = {beat: at for beat, at in self._sent.items() if at + LAPSES_SECONDS > now} | {self._beat: now}
        return self._beat, self._grant.number

    def take(self, grant: Grant, now: float) -> None:
        """Go by a grant from now on; one that is late, or older than the last, says nothing."""
        if grant.number > self._grant.number and grant.beat in self._sent:
            self._since = self._since if now < self._until else now
            self._grant, self._until = grant, self._sent[grant.beat] + LAPSES_SECONDS

    def rpm(self, now: float) -> float:
        """Return how many requests a minute may be sent now: none before there has been time for one of them."""
        rpm = self._grant.rpm
        return rpm if now < self._until and rpm * (now - self._since) >= 60 else 0.0
