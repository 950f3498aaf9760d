"""The sums: one status of a run, from what the engines of its parts have said of theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..planning.plan import RunPlan
from ..status import Levels, Money, PaceView, Status, Traffic


def summed(
    ever: Sequence[Status],
    now: Sequence[Status],
    *,
    plan: RunPlan,
    left: int,
    seconds: float,
    spent_before: float,
    budget_usd: float | None,
    rpm: float | None,
    paused: bool,
    stopping: str | None,
) -> Status:
    """Return the status of a run from the last word of all engines there ever were, and of each part's last one."""
    records = len(plan.order)
    failed = min(records - left, _total(ever, "failed"))
    rate = (records - left) / seconds if seconds else 0.0
    traffic, present = [each.traffic for each in ever], [each.traffic for each in now]
    levels: list[Counter[str]] = [
        sum((Counter(getattr(each.levels, name)) for each in ever), Counter())
        for name in ("confidence", "search_quality")
    ]
    return Status(
        records=records,
        done=records - left - failed,
        failed=failed,
        left=left,
        later=plan.later,
        stored=len(plan.ids) - records - plan.later,
        **{name: _total(ever, name) for name in ("shared", "searching", "unsearched", "checks_failed")},
        seconds=seconds,
        rate_per_second=rate,
        left_seconds=left / rate if rate else None,
        waiting=next((each.waiting for each in now if each.waiting), "") if left else "",
        paused=paused,
        stopping=stopping,
        problem=next((each.problem for each in reversed(ever) if each.problem), ""),
        latest=ever[-1].latest if ever else (),
        money=_money(ever, now, left=left, complete=records - left, spent_before=spent_before, budget_usd=budget_usd),
        traffic=Traffic(
            **{name: _total(traffic, name) for name in ("requests", "tokens")},
            **{name: _total(present, name) for name in ("in_flight", "unsaved")},
        ),
        levels=Levels(*levels),
        pace=PaceView((rpm or 0) / 60, 0.0, "as asked"),
    )


def _money(
    ever: Sequence[Status],
    now: Sequence[Status],
    *,
    left: int,
    complete: int,
    spent_before: float,
    budget_usd: float | None,
) -> Money:
    paid, held = [each.money for each in ever], [each.money for each in now]
    cost, possibly = _total(paid, "cost_usd"), _total(held, "possibly_usd")
    spent, each = spent_before + cost, cost / complete if complete else None
    return Money(
        cost_usd=cost,
        reserved_usd=_total(held, "reserved_usd"),
        possibly_usd=possibly,
        excess=next((part.excess for part in held if part.excess), ""),
        spent_usd=spent,
        budget_usd=None if budget_usd is None else float(budget_usd),
        budget_share=None if budget_usd is None else (spent + possibly) / float(budget_usd),
        rest_usd=None if each is None else each * left,
        projected_usd=None if each is None else spent + each * left,
        per_record_usd=each,
        unpriced=_total(paid, "unpriced"),
        prices=next((part.prices for part in paid), ""),
        simulated=any(part.simulated for part in paid),
    )


def _total(parts: Sequence[Any], name: str) -> Any:
    return sum(getattr(part, name) for part in parts)
