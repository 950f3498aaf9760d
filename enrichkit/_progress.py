"""The progress: one line of text about a run, refreshed by one thread that only reads.

In a notebook it is one line that changes in place and is right in the saved copy; elsewhere a new line every few
seconds, as logs want it.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

from ._engine import Status
from ._estimate import duration

TEXT_SECONDS = 5.0
WARN_AT = 0.8
NOTEBOOK_SECONDS = 0.5


def line(status: Status) -> str:
    """Return a run's state as one line."""
    parts = [f"{status.done + status.failed:,} of {status.records:,} records"]
    if status.failed:
        parts.append(f"{status.failed:,} failed")
    parts += [f"{status.requests:,} requests", f"{status.tokens:,} tokens", _money(status)]
    if status.budget_usd is not None and status.spent_usd >= WARN_AT * status.budget_usd:
        share = math.floor(100 * status.spent_usd / status.budget_usd)
        parts.append(f"{share} % of the budget is spent, {status.reserved_usd:.4f} USD more are set aside")
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


def _money(status: Status) -> str:
    """Return what is spent, and about what this call will cost in all."""
    told = f"{status.cost_usd:.4f} USD"
    if status.left and status.rest_usd is not None and status.cost_per_record_usd is not None:
        told += f" of about {status.cost_usd + status.rest_usd:.4f}, {status.cost_per_record_usd:.4f} a record"
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
    while not done.wait(NOTEBOOK_SECONDS if handle else TEXT_SECONDS):
        _tell(line(status()), handle)
    _tell(line(status()), handle)


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
