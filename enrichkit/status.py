"""The status: a run at one moment, as everything that shows it sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .engine.pace import PaceView


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
