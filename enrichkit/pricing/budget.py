"""The budget: what may still be spent, held by reservation of worst cases, and what the rest of a run will cost."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from ..formatting import usd
from ..messages import Reply, Request
from .prices import MOST_SEARCHES, Price, billed_as, worst_case

Prices = Mapping[str, Price]
Note = Mapping[str, Any]
"""What is kept beside the replies, as JSON has it: see `DurableBudget`."""
NONE: Mapping[str, Any] = MappingProxyType({})


class WorstCases:
    """The most that requests are taken to cost; it rises to what replies have shown.

    A reply may have searched more than is thought possible, or another model may have answered, which is dearer. What
    neither explains, such as an answer beyond the limit of its tokens, raises all worst cases in proportion.

    Examples
    --------
    >>> worst = WorstCases({"m": Price(input_usd=0, output_usd=1000)})
    >>> text = {"system": "Be brief.", "text": "?", "schema": {}}
    >>> request = Request(question="", stage="s", model="m", **text, search=False, max_output_tokens=500)
    >>> worst.of(request)
    Decimal('0.5')
    >>> worst.learn(request, Reply(model_version="m"), Decimal("0.75"))
    >>> worst.of(request)
    Decimal('0.75')
    """

    def __init__(self, prices: Prices, seen: Note = NONE) -> None:
        self._lock = threading.Lock()
        self.seen: dict[str, Any] = {"searches": {}, "versions": {}, "factor": "1"} | dict(seen)
        """What replies have shown, as JSON has it: most searches by stage, versions by the model that was asked."""
        self._schema_bytes: dict[str, int] = {}
        self._dearest = functools.lru_cache(maxsize=1000)(functools.partial(_dearest, prices=prices))

    def of(self, request: Request) -> Decimal:
        """Return the most that a request is taken to cost; what has no price counts as nothing."""
        if request.stage not in self._schema_bytes:
            self._schema_bytes[request.stage] = len(json.dumps(request.schema))
        size = len(request.system) + len(request.text.encode()) + self._schema_bytes[request.stage]
        rounded = 100 * -(-size // 100)  # up, so that the cache is hit
        versions = (request.model, *self.seen["versions"].get(request.model, ()))
        searches = max([MOST_SEARCHES, *self.seen["searches"].values()]) if request.search else 0
        return Decimal(self.seen["factor"]) * self._dearest(versions, rounded, request.max_output_tokens, searches)

    def learn(self, request: Request, reply: Reply, paid_usd: Decimal | None) -> None:
        """Take note of what a reply searched, which version wrote it, and what it cost."""
        searches, version = reply.usage.searches or 0, billed_as(reply.model_version, request.model)
        with self._lock:
            self.seen["searches"] |= {request.stage: max(searches, self.seen["searches"].get(request.stage, 0))}
            if version not in (known := self.seen["versions"].get(request.model, [])):
                self.seen["versions"] |= {request.model: [*known, version]}
            if paid_usd is not None and paid_usd > (worst := self.of(request)) > 0:
                self.seen["factor"] = str(Decimal(self.seen["factor"]) * paid_usd / worst)


def _dearest(versions: Sequence[str], prompt_bytes: int, most_tokens: int, searches: int, *, prices: Prices) -> Decimal:
    """Return the most that a request costs that may be answered by any of these versions."""
    worst_of = functools.partial(worst_case, prompt_bytes=prompt_bytes, max_output_tokens=most_tokens)
    return max(worst_of(version, searches=searches, prices=prices) or Decimal() for version in versions)


class Budget:
    """What may still be spent. The worst case is reserved before a request, and settled by what it cost.

    ``note`` is what earlier runs on the store have left of theirs, see `DurableBudget`.
    """

    def __init__(self, limit_usd: Any, spent_usd: Any = 0, *, prices: Prices = NONE, note: Note = NONE) -> None:
        self.limit_usd = None if limit_usd is None else Decimal(str(limit_usd))
        self.worst_cases = WorstCases(prices, note.get("seen", NONE))
        self._lock = threading.RLock()
        self.spent_usd = Decimal(str(spent_usd))
        self.reserved_usd = Decimal()
        self.excess_usd = Decimal(note.get("excess_usd", 0))
        """What replies have cost beyond what was reserved for them."""
        self.possibly_usd = Decimal(note.get("possibly_usd", 0))
        if limit := note.get("limit_usd"):  # a run that was killed, and had kept to it
            kept_usd = Decimal(limit) + self.excess_usd - self.spent_usd
            self.possibly_usd = max(Decimal(), min(self.possibly_usd, kept_usd))
        if self.limit_usd is None:  # what earlier runs have spent counts for a budget alone
            self.spent_usd = Decimal()
        self.excess = ""
        """The last of these replies, and what all of them did, in words."""

    @property
    def left_usd(self) -> Decimal:
        """What is neither spent nor reserved; without a limit, infinity."""
        if self.limit_usd is None:
            return Decimal("Infinity")
        return self.limit_usd - self.spent_usd - self.reserved_usd - self.possibly_usd

    @property
    def share(self) -> float | None:
        """The part that is spent, or may have been; without a limit, None."""
        return None if self.limit_usd is None else float((self.spent_usd + self.possibly_usd) / self.limit_usd)

    @property
    def left_text(self) -> str:
        """What is left, and why it is less than it might be; what is reserved for requests in flight is among it."""
        possibly = f", {self.possibly_usd:.4f} may have been spent on requests that got no reply"
        left = self.left_usd + self.reserved_usd
        left_text = f"{left:.4f} are left" if left >= 0 else f"the budget is overspent by {-left:.4f} USD"
        return left_text + (possibly if self.possibly_usd else "") + (f"; {self.excess}" if self.excess else "")

    def never(self, worst_usd: Decimal) -> bool:
        """Whether a worst case fits no more, even if all that is in flight should turn out to cost nothing."""
        with self._lock:
            return worst_usd > self.left_usd + self.reserved_usd

    def reserve(self, worst_usd: Decimal) -> bool:
        """Reserve the worst case, if there is enough left."""
        with self._lock:
            if worst_usd > self.left_usd:
                return False
            self.reserved_usd += worst_usd
            return True

    def settle(self, reserved_usd: Decimal, actual_usd: Decimal | None, *, about: Callable[[], str] = str) -> None:
        """Give a reservation back and count what was spent; an unknown price counts as the worst case.

        ``about`` names the question, should the reply have cost more.
        """
        with self._lock:
            self.reserved_usd -= reserved_usd
            actual = reserved_usd if actual_usd is None else actual_usd
            self.spent_usd += actual
            if actual > reserved_usd and self.limit_usd is not None:
                self.excess_usd += actual - reserved_usd
                above = f"{actual - reserved_usd:.4f} more than the worst case that was reserved"
                self.excess = f"the reply about {about()} cost {actual:.4f} USD, {above} ({self.excess_usd:.4f} in all)"

    def keep(self, reserved_usd: Decimal) -> None:
        """Keep a reservation as possibly spent: it is unknown whether the request was answered."""
        with self._lock:
            self.reserved_usd -= reserved_usd
            self.possibly_usd += reserved_usd


def beside_replies(budget: Budget) -> Iterator[str]:
    """Yield what earlier runs' notes say that no stored reply does, a sentence each."""
    if budget.possibly_usd:
        yield f"{usd(budget.possibly_usd)} USD may have been spent on requests that got no reply; a budget counts them."
    if budget.excess_usd:
        yield f"Replies have cost {usd(budget.excess_usd)} USD more than the worst cases that a budget had reserved."


class DurableBudget(Budget):
    """The budget of a run, of which no kill makes the next run forget what may have been spent.

    Before more is sent than the last one covers, a note is written of all that ``most`` replies may cost that are under
    way or not stored yet: after a kill, so much may have been spent. The end of a run takes back what was not.

    Parameters
    ----------
    most : int
        How many replies may be under way, or not stored yet, at a time.
    dearest_usd : Decimal
        About what the dearest of them costs.
    write : callable
        Stores a note durably in place of the last one; an empty one takes that away.
    """

    def __init__(
        self, *given: Any, most: int, dearest_usd: Decimal, write: Callable[[Note], None], **more: Any
    ) -> None:
        super().__init__(*given, **more)
        self._most, self._dearest_usd, self._write = most, dearest_usd, write
        self._noted = self.possibly_usd, self.excess_usd

    def reserve(self, worst_usd: Decimal) -> bool:
        """Reserve the worst case, if there is enough left, and if the note covers it; else one is written soon."""
        with self._lock:
            self._dearest_usd = max(self._dearest_usd, worst_usd)
            return self._outstanding_usd <= self._noted[0] and super().reserve(worst_usd)

    def note(self) -> None:
        """Write a note, if the last one says less than what may be outstanding now, or has an older excess."""
        if (noted := (self._outstanding_usd, self.excess_usd)) != self._noted:
            note = {"possibly_usd": noted[0], "excess_usd": noted[1], "seen": self.worst_cases.seen}
            note["limit_usd"] = self.limit_usd if self._most else None
            self._write(note if any(noted) else {})
            self._noted = noted

    def end(self) -> None:
        """Lower the note to what may truly have been spent, now that all replies are stored."""
        self._most = 0
        self.note()

    @property
    def _outstanding_usd(self) -> Decimal:
        return self.possibly_usd + self._most * self._dearest_usd


class Forecast:
    """What the rest of a run will cost, by what its own questions have cost so far; one thread tells it of them.

    Parameters
    ----------
    left : sequence of int
        Each stage's questions that are still to be asked.

    Examples
    --------
    >>> forecast = Forecast([3, 2])
    >>> forecast.finish(0, Decimal("0.02"))
    >>> forecast.rest_usd
    Decimal('0.08')
    """

    def __init__(self, left: Sequence[int]) -> None:
        self._left = list(left)
        self._finished = [0] * len(left)
        self._cost = [Decimal()] * len(left)

    def finish(self, stage: int, cost_usd: Decimal | float | None) -> None:
        """Note what one of a stage's questions cost in the end; None if that is unknown, or it was not asked at all."""
        self._left[stage] -= 1
        if cost_usd is not None:
            self._finished[stage] += 1
            self._cost[stage] += Decimal(str(cost_usd))

    @property
    def rest_usd(self) -> Decimal | None:
        """About what is still to be paid; None before anything is known. A stage not asked yet counts as the others."""
        if not any(self._left):
            return Decimal()
        if not (finished := sum(self._finished)):
            return None
        usual = sum(self._cost, Decimal()) / finished
        means = [cost / many if many else usual for cost, many in zip(self._cost, self._finished, strict=True)]
        return sum((mean * left for mean, left in zip(means, self._left, strict=True)), Decimal())
