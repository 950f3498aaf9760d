"""A run at one moment, as everything that shows it sees it, and the reasons why a run ends.

Plain values: nothing here measures, adds up or decides how a number looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .formatting import Sentence, joined, text_page

__all__ = ["Levels", "Money", "PaceView", "Status", "Traffic"]

WARN_AT = 0.8
"""The share of the budget from which on every display says how much of it is spent."""


BY_A_PERSON = ("stop", "interrupt")
"""The reasons of a run that a person has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What a run has cost and will cost. Amounts are lower bounds where `unpriced` is not 0.

    Attributes
    ----------
    cost_usd : float
        Spent by this call.
    reserved_usd : float
        Reserved for requests in flight: their worst case.
    possibly_usd : float
        Possibly spent on requests that got no reply, in this run or, as after a kill, in an earlier one.
    excess : str
        The last reply that cost more than a budget's worst case, and what all such replies cost beyond it, in words.
    spent_usd : float
        Spent against the budget; where there is one, this includes what earlier runs on this store spent.
    budget_usd, budget_share : float or None
        The budget, and the share of it that is spent or possibly spent; None without a budget.
    rest_usd : float or None
        About what the remaining questions will cost, judging by this call's questions so far; None while unknown.
    projected_usd, per_record_usd : float or None
        By that estimate, what will be spent in the end, and what a record of this call costs; None while unknown.
    unpriced : int
        Replies whose price is unknown.
    prices : str
        The source of the prices, with the version of its data.
    simulated : bool
        Whether the simulator answers, so that nothing is charged.
    """

    cost_usd: float = 0.0
    reserved_usd: float = 0.0
    possibly_usd: float = 0.0
    excess: str = ""
    spent_usd: float = 0.0
    budget_usd: float | None = None
    budget_share: float | None = None
    rest_usd: float | None = None
    projected_usd: float | None = None
    per_record_usd: float | None = None
    unpriced: int = 0
    prices: str = ""
    simulated: bool = False

    @property
    def percent_spent(self) -> int:
        """How much of the budget is spent or possibly spent, in per cent; never rounded up."""
        return math.floor(100 * (self.budget_share or 0))

    @property
    def nearly_spent(self) -> bool:
        """Whether most of the budget is spent."""
        return (self.budget_share or 0) >= WARN_AT


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What has been sent and received.

    Attributes
    ----------
    requests, in_flight : int
        Requests sent, retries and refusals included, and those under way.
    tokens : int
        Tokens of all kinds in the replies to this call.
    unsaved : int
        Replies in memory that could not be written yet.
    workers : int
        How many requests may be under way at a time.
    """

    workers: int = 0
    requests: int = 0
    in_flight: int = 0
    tokens: int = 0
    unsaved: int = 0


@dataclass(frozen=True, slots=True)
class Levels:
    """Answers of this call by level, as the model rates its own answer; ``not said`` where it does not.

    Attributes
    ----------
    confidence, search_quality : mapping of str to int
        A count of answers for each level; empty if no stage asks for it.
    """

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A run at one moment.

    Attributes
    ----------
    records, done, failed, left : int
        Records of this call: all that have something to do, complete, complete with a failed stage, still to do.
    later : int
        Records that ``limit`` or ``retry_failed="only"`` left out: a later call does what they still need.
    searching, unsearched : int
        Answers of this call by stages that search, and how many of them came without a search.
    checks_failed : int
        How often a check of one's own failed in the rows of this call; the log has its traceback, once.
    shared : int
        Answers that records got from another record's question of this call, each of which it would have paid for.
    seconds : float
        Since the run began.
    rate_per_second : float
        Records completed a second, so far.
    left_seconds : float or None
        About how long the rest takes at that rate.
    waiting : str
        What the pace waits for, or the trouble with the disk; empty if nothing is waited for.
    paused : bool
        Whether a person has paused it.
    stopping : str or None
        The reason for which the run ends early.
    problem : str
        The last request without an answer, and why: one line, cut to length, that may quote a service or a record.
    stored : int
        Records of the table whose outcome was stored before this call.
    latest : sequence of (str, str, str)
        The last few records to be completed, newest last: key, some of the values that were filled in, what came of it.
    money : Money
        What it has cost and will cost.
    traffic : Traffic
        Requests, tokens, replies not yet saved.
    levels : Levels
        Answers by confidence and by search quality.
    pace : PaceView
        How fast it may go, as learned so far, and what is waited for.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
    >>> job = enrichkit.start(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> _ = job.result()
    >>> job.status.done, job.status.left, job.status.money.simulated
    (1, 0, True)
    """

    records: int
    done: int
    failed: int
    left: int
    seconds: float
    rate_per_second: float
    left_seconds: float | None
    later: int = 0
    shared: int = 0
    searching: int = 0
    unsearched: int = 0
    checks_failed: int = 0
    waiting: str = ""
    paused: bool = False
    stopping: str | None = None
    problem: str = ""
    stored: int = 0
    latest: Sequence[tuple[str, str, str]] = ()
    money: Money
    traffic: Traffic
    levels: Levels
    pace: PaceView

    def __str__(self) -> str:
        return text_page(_facts("", self))


def _facts(before: str, value: Any) -> Iterator[str]:
    """Yield what is not empty among the fields of a value, then of those in it, a line each."""
    facts = {field.name: getattr(value, field.name) for field in fields(value)}
    said = {name: round(fact, 4) if isinstance(fact, float) else fact for name, fact in facts.items() if fact}
    inner = {name: fact for name, fact in said.items() if is_dataclass(fact)}
    if own := ", ".join(f"{name}={fact!r}" for name, fact in said.items() if name not in inner):
        yield before + own
    for name, fact in inner.items():
        yield from _facts(f"{name}: ", fact)


def stop_reason_text(reason: str, detail: str) -> Sentence:
    """Return a sentence or two about a run's end, from its reason and what was said then."""
    said = f" ({detail})" if detail else ""
    words = {
        "interrupt": "Interrupted. ",
        "budget": f"Stopped to keep within the budget{said}. ",
        "daily_quota": f"The daily quota is used up{said}; it opens again at {_quota_opens()}. ",
        "search_quota": f"Searches are refused, and nothing else{said}. "
        f"They may open at {_quota_opens()}; a paid tier has more of them. ",
        "spend_limit": f"The account's spend limit is reached{said}. Wait ten minutes or raise it. ",
        "no_quota": f"This key has no quota for the model{said}; waiting opens none. ",
        "credits": f"The account has no credits left, or no billing{said}. Top up, or link a billing account. ",
        "location": f"The service does not serve the account's place{said}. ",
        "auth": f"The service refused the key{said}. Check it, its project and its rights. ",
        "model_not_found": f"The service does not know the model{said}. Check its name. ",
        "redirected": f"The service answers elsewhere, and no key is sent there{said}. ",
        "no_search": f"The service answers without searching{said}. "
        "Another model may search; Stage(search='optional') takes such answers. ",
        "no_answer": f"Your client returns no answer{said}. What came is kept; mend the client (docs/clients.md). ",
        "refused": f"The service refused request after request{said}. ",
        "failures": f"Question after question failed{said}. ",
        "mixed": f"Simulated and real answers never mix in one store{said}. Look at GOOGLE_GEMINI_BASE_URL, or choose ",
        "store": f"The store could not be written{said}. ",
        "no_workers": f"No worker of the cluster asked anything{said}. Start some. ",
    }
    text = words.get(reason, f"Stopped{said}. ")
    return joined([text, Sentence("another {out}. ") if reason == "mixed" else ""], "")


def next_step(reason: str | None) -> Sentence:
    """Return how a run that ended for that reason goes on."""
    higher = Sentence(" with a higher {budget_usd}") if reason == "budget" else ""
    return Sentence("The same {call}{higher} goes on from here", higher=higher)


def _quota_opens() -> str:
    """Return when daily quotas open again, which is midnight Pacific time, in the user's time zone."""
    try:
        pacific = datetime.now(ZoneInfo("America/Los_Angeles"))
    except ZoneInfoNotFoundError:  # a slim system has no time zones
        return "midnight Pacific time"
    midnight = (pacific + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return f"midnight Pacific time, {midnight.astimezone():%A %H:%M %Z} here"
