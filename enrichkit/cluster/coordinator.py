"""The coordinator: gives the parts to the workers of a cluster, shares pace and budget out, and sums up.

It asks nothing and writes no reply. What it says to a part's engine is a state (its grant, stop, pause), said again
four times a second: whoever comes late, or missed a word, has it with the next.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import threading
import time
import uuid
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ..engine.shard_writer import Row, schema_of
from ..errors import InputError, SetupError, StoreError
from ..formatting import many
from ..planning.estimate import spent_before, worst_request
from ..planning.plan import RunPlan
from ..pricing.budget import Budget
from ..runs.lifecycle import check_setup, index_of, look_ahead
from ..runs.options import Options
from ..status import Status
from ..store.files import Files, part_of, parts_of, read_json, work_area
from ..store.index import Index, find
from ..store.reader import StoreReader
from ..store.rows import meta
from ..store.store import take_lock
from .leases import BEATS_EVERY_SECONDS, Leases
from .parts import open_parts, parts_of_records, share_key, write_rows
from .sums import summed
from .worker import Ended, ask_part

USUAL_PARTS = 64
PARTS = "parts.json"
"""What says, in the work area of the whole store, of how many parts it is: the shards do so only once there are any."""
DEATHS = 20
"""So often may the workers of one part die before the run gives up."""
ONE_AT_A_TIME = 4
"""With less left than so many worst cases a part, the parts are asked one after the other, each with all of it."""
NOT_SENT = ("out", "cluster", "parts", "names", "key", "notify", "progress", "budget_usd", "priority")
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
    shared, parts = _division(plan, index, options)
    files = Files(work_area(options.folder) / "tmp")
    opening.callback(take_lock(options.folder, files).release)
    files.put(work_area(options.folder) / PARTS, json.dumps({"parts": parts}).encode())
    outcome = PartsOutcome(plan, options)
    return Coordinator(outcome, index, parts_of_records(plan, shared, parts), parts), outcome


def processes_of(plan: RunPlan, index: Index, options: Options) -> int:
    """Return how many processes a call asks from: of a cluster, each thread of a worker asks a part at a time."""
    if options.cluster is None:
        return 1
    _, parts = _division(plan, index, options)
    threads: Mapping[str, int] = options.cluster.nthreads()
    return max(1, min(parts, sum(threads.values())))


def _division(plan: RunPlan, index: Index, options: Options) -> tuple[list[str], int]:
    """Return by which columns a table is divided, and into how many parts; raise if it, or the store, cannot be."""
    if "part" in plan.table.column_names:
        raise InputError("With a {cluster}, no column can be named {part!r}, like its folders. Rename it.", part="part")
    in_parts = bool(parts_of(options.folder))
    if not index.empty and not in_parts:
        raise StoreError(
            "{kept} is not kept in parts, as a {cluster} needs. Choose another {out}.", kept=options.folder
        )
    kept = index.parts_in_all or read_json(work_area(options.folder) / PARTS).get("parts", 0) * in_parts
    if kept and options.parts not in (None, kept):
        raise StoreError(
            "{store} is kept in {number}, not {given:,}. Give that number, or choose another {out}.",
            store=options.folder,
            number=many(kept, "part"),
            given=options.parts,
        )
    return share_key(plan), kept or options.parts or USUAL_PARTS


class PartsOutcome:
    """What has come of a run on parts, as their stores say."""

    def __init__(self, plan: RunPlan, options: Options) -> None:
        self.plan = plan
        self.options = options
        self.completed = array("i")
        """The records that are complete, as the parts end that they are in."""

    @property
    def index(self) -> Index:
        """What is sealed."""
        return index_of(self.options, [questions.stage for questions in self.plan.stages])

    def complete(self, records: npt.NDArray[np.integer]) -> None:
        """Take note of records that are complete; those that were so before change nothing."""
        self.completed.extend(records[~np.isin(records, self.completed)].tolist())

    def unsealed(self) -> tuple[list[Row], pa.Schema]:
        """Return no rows, since all that are complete will be sealed in seconds; and the schema of all parts."""
        return [], schema_of(self.plan, self.index)

    def completed_rows(self, records: Sequence[int], own_names: Mapping[str, str]) -> list[Row]:
        """Return the rows of completed records without the raw replies, with the user's own names of columns."""
        reader = StoreReader(self.options.folder, warn=False)
        ids = [self.plan.id(record) for record in records]
        table, raw = reader.rows_of(ids), {meta(stage, "replies") for stage in reader.stages}
        rows = {row["_record_id"]: row for row in table.select(set(table.column_names) - raw).to_pylist()}
        return [{own_names.get(name, name): cell for name, cell in rows[each].items()} for each in ids]


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
        self._statuses: dict[str, tuple[str, Status]] = {}
        """By lease, the part that has or had it, and what it said last."""
        self._topics: dict[str, str] = {}
        """By lease, where its part hears of it."""
        self._begun: set[str] = set()
        """The tasks that a worker has begun."""
        self._deaths = Counter[int]()
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._paused = False
        self._error: Exception | None = None
        self._began, self._ended = time.monotonic(), 0.0
        self._spent_before = spent_before(
            index, self._plan, budget_usd=self._options.budget_usd, prices=self._options.prices
        )
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
            raise SetupError("The cluster is gone. Its workers end by themselves; the same {call} goes on.") from error
        finally:
            self._ended = time.monotonic()
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
                    if self._has_died(part, future):
                        running[part] = self._submit(part, budgets[part])
                    elif future.status == "finished":
                        ended[part] = self._take(part, future.result())
                elif self.reason is not None and future.key not in self._begun:
                    future.cancel()  # one that begins all the same has no lease, and ends by itself
                    del running[part]
            if running:
                self._news.wait(BEATS_EVERY_SECONDS)
                self._news.clear()
        return ended

    def _submit(self, part: int, budget_usd: float | None) -> Any:
        """Give a part to the cluster. No key and no address of a notification goes along."""
        folder = write_rows(self._plan, self._options.folder, part, self._placed)
        names = [name for name in Options.__dataclass_fields__ if name not in NOT_SENT]
        settings = {name: getattr(self._options, name) for name in names}
        by_prompt = self._options.prompt is not None and self._options.key is None
        settings |= {"key": None if by_prompt else [*self._plan.key], "budget_usd": budget_usd}
        settings |= {} if self._to_do[part] else {"limit": 0}
        task = f"{self._run}-{folder.name}-{uuid.uuid4().hex[:4]}"
        about = {"parts": self._parts, "schema": self._schema, "run": self._run, "task": task}
        future = self._client.submit(ask_part, folder, settings, **about, key=task, pure=False)
        future.add_done_callback(lambda _: self._news.set())
        return future

    def _has_died(self, part: int, future: Any) -> bool:
        """Whether a part is to be given away again, since its workers died. What else has failed ends the run."""
        from distributed import KilledWorker

        error = future.exception() if future.status == "error" else None
        if future.status == "cancelled":
            error = SetupError("The cluster has lost {name}: its scheduler is gone, or was restarted.", name=future.key)
        again = isinstance(error, KilledWorker) and self._deaths[part] < DEATHS and self.reason is None
        self._deaths[part] += again
        if error is not None and not again:
            self._error = self._error or error
            self.stop("defect", f"{type(error).__name__}: {error}")
        return again

    def _take(self, part: int, ended: Ended) -> tuple[str, str] | None:
        """Take note of a part's end, and return why that was early, if it was."""
        if ended.reason is None:
            self._outcome.complete(self._plan.order[self._placed[self._plan.order] == part])
        else:
            self._outcome.complete(find(ended.completed, self._plan.ids))
            if ended.reason[0] != "budget":
                self.stop(*ended.reason)
        return ended.reason

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        said = event[1]
        reason, status = pickle.loads(said["about"])
        with self._lock:
            self._begun.add(said["task"])
            self._statuses[said["lease"]] = said["part"], status
            self._topics[said["lease"]] = said["topic"]
            if said["over"]:
                self._leases.end(said["lease"])
            else:
                self._leases.hear(said["lease"], said["beat"], said["number"], time.monotonic())
        if reason is not None and reason[0] not in ("budget", "end"):
            self.stop(*reason)
        if said["beat"] == 0 or said["over"]:
            self._news.set()

    def _grant(self) -> None:
        with self._lock:
            grants = self._leases.grants(time.monotonic())
            topics = [self._topics[lease] for lease in grants]
        state = {"stop": self.reason is not None, "paused": self._paused}
        self._client.log_event(topics, {"grants": {lease: list(grant) for lease, grant in grants.items()}, **state})

    @property
    def status(self) -> Status:
        """The run at this moment, as its parts said last."""
        with self._lock:
            said = list(self._statuses.values())
        last = dict(said)
        names = {part: part_of(self._options.folder, part).name for part in self._to_do}
        left = sum(last[name].left if (name := names[part]) in last else self._to_do[part] for part in self._to_do)
        return summed(
            [status for _, status in said],
            list(last.values()),
            plan=self._plan,
            left=left,
            seconds=(self._ended or time.monotonic()) - self._began,
            spent_before=float(self._spent_before),
            budget_usd=self._options.budget_usd,
            rpm=self._options.rpm,
            paused=self._paused and self.reason is None,
            stopping=self.reason[0] if self.reason else None,
        )
