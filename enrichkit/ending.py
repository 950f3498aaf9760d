"""The ending: what a run says that ended before everything was asked, and how the outside world ends one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from .engine.recorder import Recorder
from .errors import Stopped
from .formatting import Sentence, amount, many
from .options import Options
from .planning.estimate import estimate
from .status import Status, next_step


def stopped(
    kind: type[Stopped], how: str, *, reason: str, status: Status, recorder: Recorder, options: Options
) -> Stopped:
    """Return the error of a run that ended early: how it ended, what is done, what the same call would do."""
    cost = f"{_rest(status, recorder, options)}Prices: {status.money.prices}. " if reason == "budget" else ""
    failed = f"{status.failed:,} failed, " if status.failed else ""
    return kind(
        "{how}{complete:,} of {records} done and saved, {failed}{are_left} left. {cost}{following}.",
        how=how,
        complete=status.done,
        records=many(status.records, "record is", "records are"),
        failed=failed,
        are_left=many(status.left, "is", "are"),
        cost=cost,
        following=next_step(reason) if status.left else Sentence("The same {call} returns the table"),
        reason=reason,
        done=status.done + status.failed,
        left=status.left,
    )


def _rest(status: Status, recorder: Recorder, options: Options) -> str:
    """Say what the rest will cost, by what this run's questions have cost; before any has, as a plan would."""
    rest = status.money.rest_usd
    if rest is None and not status.money.unpriced:
        with contextlib.suppress(OSError):  # the store may be what ended the run
            plan, index = recorder.plan, recorder.store.index
            about = estimate(plan, index, workers=options.workers, rpm=options.rpm, prices=options.prices)
            rest = None if about.cost_usd is None else about.cost_usd[1]
    return f"They will cost about {amount(rest)} USD more. " if rest and status.left else ""


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM, how a scheduler ends a program, count as an interrupt; in the main thread only."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
