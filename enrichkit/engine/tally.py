"""What a run has come to so far: running counts, the time it took, why it pauses, and failures in a row.

Plain bookkeeping for the writer's thread: it asks nobody, writes nothing and stops nothing. Nothing is ever counted a
second time for a display; and nothing passes the `PauseSwitch` while there is a reason to pause, such as a full disk or
a person's wish.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping

from ..formatting import plain
from ..messages import PAID, Failure
from ..planning.plan import RunPlan
from ..pricing.budget import Budget, Forecast
from ..pricing.prices import Price, Total, prices_told, total
from ..reading.answer import CHECK_FAILED, CONFIDENCE, NOT_SAID, SEARCH_QUALITY, of_itself
from ..reading.grounding import NO_SEARCH
from ..stages.stage import Stage
from ..status import Levels, Money
from ..store.rows import STATUS, Outcome, ReadReply, may_tell, meta
from .queue import Question
from .shard_writer import Row

IN_A_ROW = 10
"""So many questions failing one after the other end the run: for one cause, or unpaid for whatever cause."""
HOPELESS = 3
"""So many, where nothing was answered before, and the client itself is at fault, or what it sends."""
LATEST, VALUES, LONGEST_VALUE = 5, 3, 28
"""So many of the records that were completed last are shown, with so many values each, and these cut to so long."""
NO_SEARCH_AFTER = 20
"""So many answers of a stage that searches, all without a search, end the run."""


class Tally:
    """The running counts of a run."""

    def __init__(self, plan: RunPlan, budget: Budget, prices: Mapping[str, Price]) -> None:
        self._stages = plan.stages
        self._key = plan.key
        self._latest: deque[Row] = deque(maxlen=LATEST)
        self._budget = budget
        self._spent_before = budget.spent_usd
        self._prices = prices_told(prices)
        self._forecast = Forecast([stage.to_ask for stage in plan.stages])
        self._cost = Total()
        self._levels = {
            name: dict.fromkeys((*levels, NOT_SAID), 0)
            for name, levels in (("confidence", CONFIDENCE), ("search_quality", SEARCH_QUALITY))
        }
        self.records = len(plan.order)
        self.searching, self.unsearched = Counter[str](), Counter[str]()
        self.never_searches: str | None = None
        """The stage whose first answers all came without a search, although it must."""
        self.complete = self.failed = self.shared = self.tokens = self.checks_failed = 0

    def add_reply(self, read: ReadReply) -> None:
        """Count a stored reply."""
        usage = read.reply.usage
        self.tokens += usage.total_tokens or (usage.prompt_tokens or 0) + (usage.output_tokens or 0)
        self._cost += total([read.cost_usd])

    def add_outcome(self, question: Question, outcome: Outcome | None) -> None:
        """Count a question's final outcome; None if it was skipped."""
        spent = None if outcome is None else outcome.spent
        self._forecast.finish(question.stage, None if spent is None else spent["cost_usd"])
        if outcome is None or outcome.answer is None:
            return
        self.shared += len(self._stages[question.stage].records(question.number)) - 1
        self._note_search(self._stages[question.stage].stage, outcome.best)
        for name, counts in self._levels.items():
            level = str(of_itself(outcome.answer, name))  # a stage of one's own may have made it something else
            counts[level if level in counts else NOT_SAID] += 1

    def _note_search(self, stage: Stage, read: ReadReply) -> None:
        if not may_tell(stage, read.facts):
            return
        self.searching[stage.name] += 1
        self.unsearched[stage.name] += NO_SEARCH in read.issues
        if stage.search is True and self.unsearched[stage.name] == self.searching[stage.name] == NO_SEARCH_AFTER:
            self.never_searches = stage.name

    def add_record(self, row: Row) -> None:
        """Count a complete record."""
        self.complete += 1
        self._latest.append(row)
        self.failed += row[STATUS] == "failed"
        for stage in self._stages:
            issues = row.get(meta(stage.stage.name, "issues")) or ()
            self.checks_failed += sum(issue.startswith(f": {CHECK_FAILED}") for issue in issues)

    @property
    def latest(self) -> list[tuple[str, str, str]]:
        """The records completed last: key, values that were filled in, and what came of it."""
        latest = []
        for row in list(self._latest):
            key = ", ".join(str(row[name]) for name in self._key if row.get(name) is not None)
            stages = [stage.stage.name for stage in self._stages]
            filled = [name for stage in stages for name in row.get(meta(stage, "filled")) or ()]
            values = [f"{name.rpartition('.')[2]} {_short(row[name])}" for name in filled[:VALUES]]
            errors = [error for stage in stages if (error := row.get(meta(stage, "error")))]
            latest.append((key, " · ".join(values) or "nothing filled in", ": ".join([row[STATUS], *errors[:1]])))
        return latest

    @property
    def levels(self) -> Levels:
        """Answers by the level that the model gives them."""
        return Levels(**{name: dict(counts) for name, counts in self._levels.items()})

    def money(self, *, simulated: bool) -> Money:
        """Return what the run has cost and will cost."""
        budget, cost = self._budget, self._cost.usd
        rest = None if self._cost.unpriced and not cost else self._forecast.rest_usd
        return Money(
            cost_usd=float(cost),
            reserved_usd=float(budget.reserved_usd),
            possibly_usd=float(budget.possibly_usd),
            excess=budget.excess,
            spent_usd=float(budget.spent_usd),
            budget_usd=None if budget.limit_usd is None else float(budget.limit_usd),
            budget_share=budget.share,
            rest_usd=None if rest is None else float(rest),
            projected_usd=None if rest is None else float(self._spent_before + cost + rest),
            per_record_usd=None if rest is None or not self.records else float((cost + rest) / self.records),
            unpriced=self._cost.unpriced,
            prices=self._prices,
            simulated=simulated,
        )


def _short(value: object) -> str:
    return plain(", ".join(map(str, value)) if isinstance(value, list) else str(value), LONGEST_VALUE)


class PauseSwitch:
    """Shut for as long as anybody has a reason.

    >>> switch = PauseSwitch()
    >>> switch.shut("pause")
    >>> switch.shut("disk")
    >>> switch.lift("pause")
    >>> switch.opened.is_set(), "disk" in switch
    (False, True)
    """

    def __init__(self) -> None:
        self._reasons: set[str] = set()
        self._lock = threading.Lock()
        self.opened = threading.Event()
        self.opened.set()

    def __contains__(self, reason: str) -> bool:
        return reason in self._reasons

    def shut(self, reason: str) -> None:
        """Let nobody through before this reason is lifted."""
        with self._lock:
            self._reasons.add(reason)
            self.opened.clear()

    def lift(self, reason: str) -> None:
        """Say that a reason is over."""
        with self._lock:
            self._reasons.discard(reason)
            if not self._reasons:
                self.opened.set()


class Stopwatch:
    """How long a run has been under way, and how much of that time it was not paused."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._resumed: float | None = self._started
        self._ended: float | None = None
        self._busy_before = 0.0

    @property
    def seconds(self) -> float:
        """The time since the start, up to the end."""
        return (self._ended or time.monotonic()) - self._started

    @property
    def busy_seconds(self) -> float:
        """The part of it without pauses."""
        since = self._resumed
        return self._busy_before + (0.0 if since is None else (self._ended or time.monotonic()) - since)

    @property
    def paused(self) -> bool:
        """Whether it is paused now."""
        return self._resumed is None

    @property
    def ended(self) -> bool:
        """Whether it has been stopped for good."""
        return self._ended is not None

    def pause(self) -> None:
        """Let no busy time pass."""
        self._busy_before, self._resumed = self.busy_seconds, None

    def resume(self) -> None:
        """Let busy time pass again."""
        if self._resumed is None:
            self._resumed = time.monotonic()

    def end(self) -> None:
        """Stop for good."""
        self._ended = time.monotonic()


class FailureStreak:
    """The questions that failed one after the other, by cause.

    >>> streak = FailureStreak()
    >>> [streak.ends_run(Failure(cause="server", message="overloaded")) for _ in range(10)][-2:]
    [False, True]
    >>> streak = FailureStreak()
    >>> [streak.ends_run(Failure(cause="client")) for _ in range(3)]
    [False, False, True]
    """

    def __init__(self) -> None:
        self._causes: deque[str] = deque(maxlen=IN_A_ROW)
        self._enough = HOPELESS

    def ends_run(self, failure: Failure | None) -> bool:
        """Note how a question ended, None for an answer; return whether asking more has no point."""
        if failure is None:
            self._causes.clear()
            self._enough = IN_A_ROW
            return False
        self._causes.append(failure.cause)
        alike = len(set(self._causes)) == 1 or PAID.isdisjoint(self._causes)
        ours = set(self._causes) <= {"client", "not_sent"}
        return alike and len(self._causes) >= (self._enough if ours else IN_A_ROW)
