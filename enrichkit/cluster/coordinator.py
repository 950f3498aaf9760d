"""The coordinator: gives the parts to the workers of a cluster, shares pace and budget out, and sums up.

It asks nothing and writes no reply. What it says to a part's engine is a state (its grant, stop, pause), said again
four times a second: whoever comes late, or missed a word, has it with the next.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import pickle
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ..engine.shard_writer import schema_of
from ..errors import SetupError
from ..formatting import duration
from ..messages import SIMULATOR
from ..planning.estimate import spent_before, worst_request
from ..pricing.budget import Budget
from ..pricing.prices import prices_told
from ..progress.screens import warn
from ..runs.lifecycle import check_setup, index_of, look_ahead
from ..runs.options import Options
from ..status import Money, PaceView, Status
from ..store.files import Files, part_of, work_area
from ..store.index import Index
from ..store.store import take_lock
from .leases import BEATS_EVERY_SECONDS, Leases
from .outcome import PartsOutcome, summed
from .parts import PARTS, division, open_parts, parts_of_records, write_rows
from .worker import ALONE, ALONE_SECONDS, ask_part

LOG = logging.getLogger("enrichkit")
LOSSES = 3
"""So often in a row may a part be lost, none of its records done: its workers died, four for dask, or were cut off."""
SILENT_SECONDS = 3.0
"""So long after the last word of any worker it is asked whether there are some."""
NOBODY = "no worker is in the cluster; start some and it goes on"
SILENT = "the cluster's workers say nothing; they may be starting, or busy with other tasks"
ONE_AT_A_TIME = 4
"""With less left than so many worst cases a part, the parts are asked one after the other, each with all of it."""
NOT_SENT = ("out", "cluster", "parts", "names", "key", "notify", "progress", "budget_usd", "priority", "limit")
"""Settings that a part has no use for, or its own."""


def open_cluster(
    frame: pd.DataFrame, options: Options, opening: contextlib.ExitStack
) -> tuple[Coordinator, PartsOutcome]:
    """Plan a call whose questions a cluster asks, and lock its store. What a run is refused for is raised."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise SetupError("A {cluster} needs dask: pip install 'enrichkit[dask]'") from None
    plan, index = look_ahead(frame, options)
    check_setup(options, [questions.stage for questions in plan.stages])
    plan.check()
    shared, parts = division(plan, index, options)
    files = Files(work_area(options.folder) / "tmp")
    opening.callback(take_lock(options.folder, files).release)
    files.put(work_area(options.folder) / PARTS, json.dumps({"parts": parts}).encode())
    outcome = PartsOutcome(plan, options)
    return Coordinator(outcome, index, parts_of_records(plan, shared, parts), parts), outcome


class Said(NamedTuple):
    """What an engine said last: of which part, where it hears of the run, its status; and when, if it goes on."""

    part: str
    topic: str
    status: Status
    heard_at: float


class Coordinator:
    """One run's parts, on the workers of a cluster."""

    def __init__(self, outcome: PartsOutcome, index: Index, placed: npt.NDArray[np.int64], parts: int) -> None:
        self._outcome = outcome
        self._plan, self._options, self._placed, self._parts = outcome.plan, outcome.options, placed, parts
        self._client = self._options.cluster
        self._schema = schema_of(self._plan, index)
        self._run = f"enrichkit-{uuid.uuid4().hex[:12]}"
        assert self._options.rpm is not None
        self._leases = Leases(self._options.rpm)
        self._said: dict[str, Said] = {}
        """By lease, what its engine said last."""
        self._heard_at: dict[str, float] = {}
        """When each task was heard of last that a worker has begun."""
        self._trouble = ""
        """Why nothing is heard of, if nothing is."""
        self._workers = 0
        """How many requests there may have been at a time, at most."""
        self._warns = self._options.budget_usd is not None
        self._losses: dict[int, tuple[int, int]] = {}
        """How often each part was lost in a row, and how many of its records were left then."""
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._paused = False
        self._error: Exception | None = None
        self._began, self._ended = time.monotonic(), 0.0
        budget_usd, prices = self._options.budget_usd, self._options.prices
        self._money = Money(
            spent_usd=float(spent_before(index, self._plan, budget_usd=budget_usd, prices=prices)),
            budget_usd=None if budget_usd is None else float(budget_usd),
            prices=prices_told(prices),
            simulated=self._options.model == SIMULATOR,
        )
        """What is known of it before any part says something."""
        self._to_do = Counter(placed[self._plan.order].tolist())
        """How many records of each part have something to do."""
        self.reason: tuple[str, str] | None = None
        """Why the run ends early; None if it does not."""

    def stop(self, reason: str = "stop", message: str = "") -> None:
        """Send nothing more, anywhere; what is in flight is kept."""
        self.reason = self.reason or (reason, message)

    def pause(self) -> None:
        """Start nothing new until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Go on after a pause."""
        self._paused = False

    def drive(self) -> None:
        """Ask every part, as often as there is money left for it."""
        self._client.subscribe_topic(self._run, self._hear)
        todo = open_parts(self._plan, self._outcome.index, self._placed, self._schema)
        try:
            while todo and self.reason is None:
                budgets = self._budgets(todo)
                ended = self._round(budgets)
                short = [part for part in todo if part not in ended or ended[part] is not None]
                if self.reason is None and len(budgets) == 1 and short[:1] == list(budgets):
                    self.stop(*(ended[short[0]] or ()))  # it had all that was left
                todo = short
        except Exception as error:
            if self._client.status == "running":
                raise
            raise SetupError(
                "The {cluster} is gone, closed perhaps. Its workers keep what is in flight, and end."
            ) from error
        finally:
            self._ended, self._trouble = time.monotonic(), ""
            if self._client.status == "running":
                self._client.unsubscribe_topic(self._run)
        if self._error is not None:
            raise self._error

    def _budgets(self, todo: Sequence[int]) -> dict[int, float | None]:
        """Return the parts to ask in the next round, each with its budget: what it has spent, and its share."""
        total, plan, prices = self._options.budget_usd, self._plan, self._options.prices
        if total is None:
            return dict.fromkeys(todo)

        def held(folder: Path) -> Budget:
            index = index_of(replace(self._options, out=folder), [questions.stage for questions in plan.stages])
            return Budget(total, spent_before(index, plan, budget_usd=total, prices=prices), note=index.outstanding)

        left, worst = held(self._options.folder).left_usd, worst_request(plan, prices)
        chosen = todo if left > ONE_AT_A_TIME * worst * len(todo) else todo[:1]
        budgets: dict[int, float | None] = {}
        for part in chosen:
            own = held(part_of(self._options.folder, part))
            budgets[part] = float(own.spent_usd + own.possibly_usd + max(Decimal(), left) / len(chosen))
        return budgets

    def _round(self, budgets: Mapping[int, float | None]) -> dict[int, tuple[str, str] | None]:
        """Ask some parts, and return why each has ended early, if it has; those that never began are left out."""
        running = {part: self._submit(part, budget) for part, budget in budgets.items()}
        ended: dict[int, tuple[str, str] | None] = {}
        while running:
            self._grant()
            for part, future in list(running.items()):
                if future.done():
                    del running[part]
                    if future.status == "finished":
                        ended[part] = self._take(part, future.result())
                    if self._is_lost(part, future, ended.get(part)):
                        running[part] = self._submit(part, budgets[part])
                elif self.reason is not None and self._is_silent(future.key):
                    future.cancel()  # one that goes on all the same has no lease, and ends by itself
                    del running[part]
            if self._warns and (status := self.status).money.nearly_spent:
                self._warns = False
                warn(status)
            if running:
                self._look_for_workers()
                self._news.wait(BEATS_EVERY_SECONDS)
                self._news.clear()
        return ended

    def _is_silent(self, task: str) -> bool:
        """Whether a task's end is not waited for, since no worker has it, or none that is heard of."""
        silent = time.monotonic() - self._heard_at.get(task, -math.inf)
        return silent > ALONE_SECONDS or (silent > SILENT_SECONDS and self._trouble == NOBODY)

    def _look_for_workers(self) -> None:
        """Say so while no worker is heard of, and end the run once that has lasted too long."""
        silent = time.monotonic() - max(self._heard_at.values(), default=self._began)
        trouble = "" if silent < SILENT_SECONDS else SILENT if self._client.nthreads() else NOBODY
        if trouble == NOBODY != self._trouble:
            LOG.warning("Waiting: %s.", trouble)
        self._trouble, patience = trouble, self._options.patience_seconds
        if trouble and patience is not None and silent > patience and not self._paused:
            self.stop("no_workers", f"for {duration(silent)}")

    def _submit(self, part: int, budget_usd: float | None) -> Any:
        """Give a part to the cluster. No key and no address of a notification goes along."""
        from distributed.protocol.pickle import dumps

        folder = write_rows(self._plan, self._options, part, self._placed)
        names = [name for name in Options.__dataclass_fields__ if name not in NOT_SENT]
        settings = {name: getattr(self._options, name) for name in names}
        by_prompt = self._options.prompt is not None and self._options.key is None
        settings |= {"key": None if by_prompt else [*self._plan.key], "budget_usd": budget_usd}
        settings |= {} if self._to_do[part] else {"limit": 0}
        task = f"{self._run}-{folder.name}-{uuid.uuid4().hex[:4]}"
        about = {"parts": self._parts, "schema": self._schema, "run": self._run, "task": task}
        future = self._client.submit(ask_part, folder, cast(Any, dumps)(settings), **about, key=task, pure=False)
        future.add_done_callback(lambda _: self._news.set())
        return future

    def _is_lost(self, part: int, future: Any, ended: tuple[str, str] | None) -> bool:
        """Whether a part is to be given away again: its workers died, or heard nothing. What else failed ends all."""
        from distributed import KilledWorker

        error = future.exception() if future.status == "error" else None
        if future.status == "cancelled":
            error = SetupError("The {cluster} was restarted, or its scheduler is gone. The same {call} goes on.")
        lost, name = isinstance(error, KilledWorker) or ended == ALONE, part_of(self._options.folder, part).name
        left = [self._to_do[part], *(said.status.left for said in list(self._said.values()) if said.part == name)][-1]
        times, left_before = self._losses.get(part, (0, left))
        times = times * (left == left_before) + lost
        self._losses[part] = times, left
        again = lost and times <= LOSSES and self.reason is None
        if again:
            LOG.warning("The worker that asked %s died, or was cut off; it is asked on by another.", name)
        elif lost and self.reason is None:
            error = SetupError(
                "The workers that asked {part} died, or were cut off, again and again. Their logs may say why, such as "
                "for want of memory. The same {call} goes on.",
                part=name,
            )
        if error is not None and not again:
            self._error = self._error or error
            self.stop("defect", f"{type(error).__name__}: {error}")
        return again

    def _take(self, part: int, reason: tuple[str, str] | None) -> tuple[str, str] | None:
        """Take note of a part's end, and return why that was early, if it was."""
        if reason is None:  # with what workers that have died since had sealed
            records = self._plan.order[self._placed[self._plan.order] == part]
            self._outcome.sealed.append(self._plan.ids.take(pa.array(records)))
        elif reason[0] != "budget" and reason != ALONE:
            self.stop(*reason)
        return reason

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        said, now = event[1], time.monotonic()
        reason, status, sealed = pickle.loads(said["about"])
        with self._lock:
            self._heard_at[said["task"]] = now
            heard_at = -math.inf if said["over"] else now
            self._said[said["lease"]] = Said(said["part"], said["topic"], status, heard_at)
            if said["over"]:
                self._leases.end(said["lease"])
            else:
                self._leases.hear(said["lease"], said["beat"], said["number"], now)
        if sealed:
            self._outcome.sealed.append(pa.array(sealed))
        if reason not in (None, ALONE) and reason[0] not in ("budget", "end"):
            self.stop(*reason)
        if said["beat"] == 0 or said["over"]:
            self._news.set()

    def _grant(self) -> None:
        with self._lock:
            grants = self._leases.grants(time.monotonic())
            topics = [self._said[lease].topic for lease in grants]
        state = {"stop": self.reason is not None, "paused": self._paused}
        self._client.log_event(topics, {"grants": {lease: list(grant) for lease, grant in grants.items()}, **state})

    @property
    def status(self) -> Status:
        """The run at this moment, as its parts said last."""
        with self._lock:
            ever = list(self._said.values())
        last, now = {said.part: said.status for said in ever}, time.monotonic()
        names = {part: part_of(self._options.folder, part).name for part in self._to_do}
        left = sum(last[name].left if (name := names[part]) in last else self._to_do[part] for part in self._to_do)
        status = summed(
            [said.status for said in ever],
            list(last.values()),
            plan=self._plan,
            left=left,
            seconds=(self._ended or now) - self._began,
            money=self._money,
        )
        alive = [said.status.traffic for said in ever if now - said.heard_at < ALONE_SECONDS]
        self._workers = max(self._workers, sum(traffic.workers for traffic in alive))
        return replace(
            status,
            waiting=self._trouble or status.waiting,
            paused=self._paused and self.reason is None,
            stopping=self.reason[0] if self.reason else None,
            traffic=replace(
                status.traffic, workers=self._workers, in_flight=sum(traffic.in_flight for traffic in alive)
            ),
            pace=PaceView((self._options.rpm or 0) / 60, 0.0, "as asked"),
        )
