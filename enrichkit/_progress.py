"""The progress: one line of text about a run, refreshed by one thread that only reads.

In a notebook it is one line that changes in place and is right in the saved copy; elsewhere a new line every few
seconds, as logs want it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

from ._engine import WARN_AT, Status
from ._estimate import duration

TEXT_SECONDS = 5.0
NOTEBOOK_SECONDS = 0.5
LOG = logging.getLogger("enrichkit")


def line(status: Status, *, prices: bool = True) -> str:
    """Return a run's state as one line, with whose prices the money goes by."""
    parts = [f"{status.done + status.failed:,} of {status.records:,} records"]
    if status.failed:
        parts.append(f"{status.failed:,} failed")
    parts += [f"{status.requests:,} requests", f"{status.tokens:,} tokens", _money(status)]
    parts[-1] += f" ({status.prices})" if prices else ""
    if (status.budget_share or 0) >= WARN_AT:
        parts.append(scarce(status))
    if status.unpriced:
        parts.append(f"{status.unpriced:,} of unknown price")
    if status.unsaved and status.waiting:
        parts.append(f"{status.unsaved:,} replies not saved yet")
    if status.left:
        parts.append(f"{status.rate_per_second:.1f} records/s")
        if status.left_seconds is not None:
            parts.append(f"{duration(status.left_seconds)} left")
    else:
        parts.append(duration(status.seconds))
    if waiting := status.waiting or (str(status.pace) if status.left else ""):
        parts.append(waiting)
    if status.stopping:
        parts.append("finishing what is in flight")
    return " · ".join(parts)


def scarce(status: Status) -> str:
    """Return how much of the budget is spent; never a per cent too much."""
    unsure = " or may be" if status.possibly_usd else ""
    return f"{math.floor(100 * (status.budget_share or 0))} % of the budget is spent{unsure}"


def warn(status: Status) -> None:
    """Log that most of the budget is spent, for those who follow no progress.

    A log rather than a warning: this comes from the run's own thread, where a warning that is an error would end it.
    """
    with contextlib.suppress(Exception):  # nor may a handler of the caller's
        LOG.warning(
            "%s: %.4f of %.4f USD (%s). The run ends when the next request's worst case fits no more.",
            *(scarce(status), status.spent_usd + status.possibly_usd, status.budget_usd, status.prices),
        )


def _money(status: Status) -> str:
    """Return what is spent, about what this call will cost in all, and what a budget has set aside."""
    told = f"{status.cost_usd:.4f} USD"
    if status.left and status.rest_usd is not None and status.cost_per_record_usd is not None:
        told += f" of about {status.cost_usd + status.rest_usd:.4f}, {status.cost_per_record_usd:.4f} a record"
    if status.budget_usd is not None and status.reserved_usd:
        told += f", {status.reserved_usd:.4f} set aside"
    return told


def show(
    status: Callable[[], Status], done: threading.Event, *, how: Literal["auto", "text"] | bool
) -> threading.Thread | None:
    """Follow a run until it is done, from a thread of its own; return that, for the last word to be waited for."""
    if how is False:
        return None
    handle = _notebook_handle() if how in ("auto", True) else None
    follower = threading.Thread(target=_follow, args=(status, done, handle), name="enrichkit-progress", daemon=True)
    follower.start()
    return follower


def _follow(status: Callable[[], Status], done: threading.Event, handle: Any) -> None:
    """Tell of the run until it is done; a log's first line says whose prices they are, and need not say it again."""
    prices, over = True, False
    while not over:
        over = done.wait(NOTEBOOK_SECONDS if handle else TEXT_SECONDS)
        _tell(line(status(), prices=prices), handle)
        prices = handle is not None


def _tell(text: str, handle: Any) -> None:
    if handle is None:
        print(text, file=sys.stderr, flush=True)
    else:
        handle.update({"text/plain": text}, raw=True)


def _notebook_handle() -> Any:
    """Return a display that can change in place, or None outside a kernel."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        return None
    return display({"text/plain": "starting"}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
