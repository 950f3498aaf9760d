"""The status: a run at one moment, as everything that shows it sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

WARN_AT = 0.8
"""So much of the budget spent is told once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A run at one moment.

    Attributes
    ----------
    records, done, failed, left : int
        Records of this call: all that have something to do, complete, complete with a failed stage, still to do.
    later : int
        Records that ``limit`` or ``retry_failed="only"`` left out: a later call does what they still need.
    shared : int
        Answers that records got from another record's question of this call, each of which it would have paid for.
    requests, in_flight : int
        Requests sent, tries and refusals included, and those under way.
    tokens : int
        Tokens of all kinds, of this call's replies.
    cost_usd, reserved_usd, possibly_usd : float
        Spent by this call (as far as prices are known), set aside for requests in flight, and possibly spent on
        requests that were given up without a reply.
    spent_usd, budget_usd : float, float or None
        Spent against the budget: what earlier runs on this store spent is counted where there is one.
    budget_share : float or None
        The part of the budget that is spent, or possibly spent.
    prices : str
        Whose prices these amounts go by, with the version of the data.
    rest_usd, projected_usd : float or None
        About what the questions that are left will cost, by what this call's own have cost so far, and what will be
        spent with them; None before anything is known.
    cost_per_record_usd : float or None
        What a record of this call costs, by that projection.
    unpriced : int
        Replies whose price is unknown.
    confidence, search_quality : mapping of str to int
        Answers of this call by level, as the model says of its own answer; ``not said`` where it does not.
    unsaved : int
        Replies in memory that could not be written yet.
    rate_per_second : float
        Records completed a second, so far.
    left_seconds : float or None
        About how long the rest takes at that rate.
    seconds : float
        Since the run began.
    waiting : str
        What the pace waits for, or the trouble with the disk.
    paused : bool
        Whether a person has paused it.
    problem : str
        The last request that brought no answer, and why: one line, cut to length. It may be anybody's text.
    simulated : bool
        Whether the simulator answers, so that nothing is charged.
    stopping : str or None
        Why the run ends early.
    pace : PaceView
        How fast it may go, as learned so far, and what is waited for.
    """

    records: int
    done: int
    failed: int
    left: int
    requests: int
    in_flight: int
    tokens: int
    cost_usd: float
    reserved_usd: float
    possibly_usd: float
    spent_usd: float
    budget_usd: float | None
    budget_share: float | None
    prices: str
    rest_usd: float | None
    projected_usd: float | None
    cost_per_record_usd: float | None
    unpriced: int
    unsaved: int
    seconds: float
    rate_per_second: float
    left_seconds: float | None
    waiting: str
    stopping: str | None
    pace: PaceView
    later: int = 0
    shared: int = 0
    paused: bool = False
    problem: str = ""
    simulated: bool = False
    confidence: Mapping[str, int] = field(default_factory=dict)
    search_quality: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PaceView:
    """The pace at one moment, for people.

    Attributes
    ----------
    rate_per_second : float or None
        Requests a second at most, as learned or given; None before anything is known of a limit.
    waiting_seconds : float
        How long no request is sent; 0 if one may go now.
    reason : str
        Why it waits, or why it is slow; empty if nothing holds it back.
    most_at_once : int or None
        How many requests the service takes at a time, as learned; speed does not matter then.
    """

    rate_per_second: float | None
    waiting_seconds: float
    reason: str
    most_at_once: int | None = None

    def __str__(self) -> str:
        if self.waiting_seconds:
            return f"{self.reason}, next try in {max(1, round(self.waiting_seconds))} s"
        if self.most_at_once is not None:
            return f"at most {self.most_at_once} request{'s' * (self.most_at_once != 1)} at a time"
        return "" if self.rate_per_second is None else f"at most {self.rate_per_second:.3g} requests/s"


def stop_reason_text(reason: str, told: str) -> str:
    """Return a sentence or two about a run's end, for the reason it had and what was said then."""
    said = f" ({told})" if told else ""
    words = {
        "interrupt": "Interrupted. ",
        "budget": f"Stopped to keep within the budget{said}. ",
        "daily_quota": f"The daily quota is used up{said}; it opens again at {_quota_opens()}. ",
        "spend_limit": f"The account's spend limit is reached{said}. Wait ten minutes or raise it. ",
        "auth": f"The service refused the key{said}. Check it and its rights. ",
        "model_not_found": f"The service does not know the model{said}. Check its name. ",
        "failures": f"Question after question failed{said}. ",
        "mixed": f"Simulated and real answers never mix in one store{said}. Look at GOOGLE_GEMINI_BASE_URL, or choose "
        "another 'out'. ",
        "store": f"The store could not be written{said}. ",
    }
    return words.get(reason, f"Stopped{said}. ")


def next_step(reason: str | None) -> str:
    """Return how a run that ended for that reason goes on."""
    call = "The same call with a higher budget_usd" if reason == "budget" else "The same call"
    return f"{call} goes on from here"


def _quota_opens() -> str:
    """Return when daily quotas open again, which is midnight Pacific time, in the user's time zone."""
    try:
        pacific = datetime.now(ZoneInfo("America/Los_Angeles"))
    except ZoneInfoNotFoundError:  # a slim system has no time zones
        return "midnight Pacific time"
    midnight = (pacific + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return f"midnight Pacific time, {midnight.astimezone():%A %H:%M %Z} here"
