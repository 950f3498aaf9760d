"""The budget: what may still be spent, held by reservation, and what the rest of a run will cost."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from decimal import Decimal
from typing import Any


class Budget:
    """What may still be spent. The worst case is reserved before a request, and settled by what it cost."""

    def __init__(self, limit_usd: Any, spent_usd: Any = 0) -> None:
        self.limit_usd = None if limit_usd is None else Decimal(str(limit_usd))
        self._lock = threading.Lock()
        self.spent_usd = Decimal(str(spent_usd))
        self.reserved_usd = Decimal()
        self.possibly_usd = Decimal()

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
        """What is left, in words; what is reserved for requests in flight may be among it."""
        possibly = f", {self.possibly_usd:.4f} may have been spent on requests that got no reply"
        left = self.left_usd + self.reserved_usd
        left_text = f"{left:.4f} are left" if left >= 0 else f"the budget is overspent by {-left:.4f} USD"
        return left_text + (possibly if self.possibly_usd else "")

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

    def settle(self, reserved_usd: Decimal, actual_usd: Decimal | None) -> Decimal:
        """Give a reservation back and count what was spent; an unknown price counts as the worst case.

        Returns by how much a budget's worst case was exceeded.
        """
        with self._lock:
            self.reserved_usd -= reserved_usd
            actual = reserved_usd if actual_usd is None else actual_usd
            self.spent_usd += actual
            return max(Decimal(), actual - reserved_usd) if self.limit_usd is not None else Decimal()

    def keep(self, reserved_usd: Decimal) -> None:
        """Keep a reservation as possibly spent: it is unknown whether the request was answered."""
        with self._lock:
            self.reserved_usd -= reserved_usd
            self.possibly_usd += reserved_usd


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
