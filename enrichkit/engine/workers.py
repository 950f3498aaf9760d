"""The workers: they take question after question, ask it within pace, budget and deadline, and pass its reply on.

As many long-lived joblib tasks as requests may be under way, and as many again to relieve them: a worker that waits
before another try lets one of those ask meanwhile, so that a service that answers one request in ten with an error
costs a tenth of the speed, and no more. Failures are values all the way; a worker never raises, since joblib would
drop what the others have brought.
"""

from __future__ import annotations

import contextlib
import functools
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import joblib
import pyarrow.compute as pc

from ..messages import CLIENTS, SIMULATOR, Cause, Client, Failure, Reply, Request, encode
from ..pricing.budget import Budget
from ..pricing.prices import Price, worst_case
from ..stages.stage import request_for
from ..store.journal import JournalEntry
from ..store.rows import Outcome, outcome_of, read_decoded, read_payload, reply_cost
from .limiter import RateLimiter
from .queue import QuestionQueue, Task
from .recorder import Recorder
from .retry import Sent, ask

ATTEMPTS = 3
"""An answer that cannot be read is asked again up to twice."""
ASK_AGAIN = frozenset({"unreadable", "empty"})
SPARE_PERMITS = 2
"""Replies on their way to the disk while all workers ask: without them each would wait for its commit."""


@dataclass(frozen=True, slots=True)
class ReplyArrived:
    """A reply on its way to the writer; the last of its question has the outcome with it."""

    task: Task
    entry: JournalEntry
    reply: Reply
    cost_usd: Decimal | None
    outcome: Outcome | None
    retried: bool
    """Whether the question had failed in an earlier run."""

    @property
    def failure(self) -> Failure | None:
        """Why the question failed with this reply; None if it is answered, or asked again."""
        return self.reply.failure if self.outcome is not None else None

    @property
    def unpaid(self) -> bool:
        """Whether there is nothing to store for its own sake: the service was asked in vain."""
        return not self.reply.paid


@dataclass(frozen=True, slots=True)
class Skipped:
    """A question that needs no asking: what it requires was not found."""

    task: Task


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """A worker has ended, by a defect perhaps."""

    error: BaseException | None = None


News = ReplyArrived | Skipped | WorkerEnded


class Workers:
    """All workers of a run.

    No request starts while ``opened`` is not set (the disk is full, or the run is paused), and none once ``stopped``
    is. ``pass_on`` takes the news; ``end_run`` ends the run, with a reason and what was said.
    """

    def __init__(
        self,
        recorder: Recorder,
        ready: QuestionQueue,
        *,
        client: Client,
        client_name: str,
        workers: int,
        deadline_seconds: float,
        prices: Mapping[str, Price],
        limiter: RateLimiter,
        budget: Budget,
        opened: threading.Event,
        stopped: threading.Event,
        pass_on: Callable[[News], None],
        end_run: Callable[[str, str], None],
    ) -> None:
        self._work = recorder.work
        self._recorder = recorder
        self._queue = ready
        self._client = client
        self._limiter = limiter
        self._budget = budget
        self._client_name = client_name
        self._count = workers
        self._deadline_seconds = deadline_seconds
        self._prices = prices
        self._opened = opened
        self._stopped = stopped
        self._pass_on = pass_on
        self._end_run = end_run
        # A queue made of C where a semaphore is made of Python: a third of its time with twenty workers.
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(workers + SPARE_PERMITS):
            self._permits.put(None)
        self.simulated = recorder.simulated
        """Whether the simulator answers; None before that is known."""
        self._schema_bytes = {one.stage.name: len(json.dumps(one.stage.schema)) for one in recorder.work.stages}
        self._worst_case = functools.lru_cache(maxsize=1000)(self._price_worst_case)
        self._change = threading.Condition()
        self._resting = self._relieving = 0
        self._over = False
        self.at_work = 0
        """Workers that have not ended."""
        self.requests = self.in_flight = self.brought = 0
        """Requests sent, refused ones included, and those under way; paid replies passed on."""
        self.problem: tuple[str, Failure] | None = None
        """The last request that brought no answer: its stage, and why."""

    def start(self) -> Iterator[None]:
        """Let them begin; the iterator ends when all of them have."""
        count = self._count
        self.at_work = 2 * count
        parallel = joblib.Parallel(n_jobs=2 * count, backend="threading", return_as="generator_unordered", batch_size=1)
        loops = [self._loop] * count + [self._relief] * count
        return iter(parallel(joblib.delayed(self._live)(loop) for loop in loops))

    def release(self) -> None:
        """Give a permit back: a reply is stored, or will never come."""
        self._permits.put(None)

    def _live(self, loop: Callable[[], None]) -> None:
        """Work until nothing is left; a defect ends the run, named."""
        defect = None
        try:
            loop()
        except BaseException as error:  # noqa: BLE001 - passed on; joblib would drop what the others have brought
            defect = error
        with self._change:
            self._over = True  # nothing is left for anybody
            self.at_work -= 1
            self._change.notify_all()
        self._pass_on(WorkerEnded(defect))

    def _loop(self) -> None:
        """Take question after question until none is left."""
        while (task := self._queue.take()) is not None:
            self._ask(task)

    def _relief(self) -> None:
        """Ask while another rests."""
        while self._needed():
            if (task := self._queue.take()) is not None:
                self._ask(task)
            with self._change:
                self._relieving -= 1

    def _needed(self) -> bool:
        """Wait until a worker rests that nobody relieves yet; False when nothing is left."""
        with self._change:
            self._change.wait_for(lambda: self._over or self._relieving < self._resting)
            self._relieving += not self._over
            return not self._over

    def _rest(self, seconds: float) -> None:
        """Wait before another try. The permit is given back meanwhile: there is no reply of this one to store."""
        with self._change:
            self._resting += 1
            self._change.notify()
        self.release()
        self._stopped.wait(seconds)
        self._take_permit()
        with self._change:
            self._resting -= 1

    def _take_permit(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Empty):
                return self._permits.get(timeout=0.1)

    def _ask(self, task: Task) -> None:
        """Ask one question, again if its answer cannot be read, and pass on every reply."""
        work = self._work.stages[task[0]]
        stage, question = work.stage, work.id(task[1])
        values = self._recorder.hints(task, [*stage.reads, *stage.requires])
        if any(name not in values for name in stage.requires):
            self._pass_on(Skipped(task))
            return
        deadline_seconds, prices = self._deadline_seconds, self._prices
        request = request_for(stage, question, values, model=self._work.model, timeout_seconds=deadline_seconds)
        payloads, booked = self._recorder.earlier(task)
        read = [read_payload(stage, payload, prices) for payload in payloads]
        last = len(read) + ATTEMPTS
        for attempt in range(len(read) + 1, last + 1):
            self._take_permit()
            asked = ask(request, self._send, stop=self._stopped, deadline_seconds=deadline_seconds, sleep=self._rest)
            if asked is None or self._ends(asked.reply.failure) or self._mixes(asked.reply):
                self.release()
                return
            facts = {
                "question": question,
                "attempt": attempt,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "client": self._client_name,
                "model": request.model,
                "seconds": round(asked.seconds, 4),
                "tries": asked.tries,
            }
            # Stored as it came: what it means is read after, and may be read otherwise later. An SDK's client has
            # parsed the body just as `decode` would; a reply of one's own client changes on its way into JSON.
            raw_alone = self._client_name in CLIENTS and asked.reply.raw is not None
            payload = encode(asked.reply, raw_alone=raw_alone, **facts)
            one = (
                read_decoded(stage, payload, asked.reply, facts, prices)
                if raw_alone
                else read_payload(stage, payload, prices)
            )
            read.append(one)
            if one.reply.failure is not None:
                self.problem = stage.name, one.reply.failure
            cause = None if one.reply.failure is None else one.reply.failure.cause
            again = cause in ASK_AGAIN and attempt < last and not self._stopped.is_set()
            entry = JournalEntry(question, stage.name, attempt, "again" if again else one.status, payload)
            outcome = None if again else outcome_of(question, read, booked=booked)
            with self._change:
                self.brought += one.reply.paid
            self._pass_on(ReplyArrived(task, entry, one.reply, one.cost_usd, outcome, retried=last > ATTEMPTS))
            if not again:
                return

    def _ends(self, failure: Failure | None) -> bool:
        """End the run if every other request would fail alike."""
        if failure is None or not failure.ends_run:
            return False
        self._end_run(failure.cause, failure.quota or failure.message)
        return True

    def _mixes(self, reply: Reply) -> bool:
        """End the run if a simulated answer came to a store of real ones, or the other way round."""
        if reply.model_version is None:
            return False
        simulated = reply.model_version.startswith(SIMULATOR)
        if self.simulated is None:
            self.simulated = simulated
        if simulated != self.simulated:
            told = f"{reply.model_version} answered, which is {'' if simulated else 'not '}the simulator"
            self._end_run("mixed", told)
        return simulated != self.simulated

    def _send(self, request: Request) -> Sent | None:
        """Send a request as often as the pace refuses it; None if the run stops first.

        Its worst case is set aside before and settled after. Whatever may be waited for comes before the gate: who has
        passed that sends at once.
        """
        while (worst := self._reserve(request)) is not None:
            ticket = self._limiter.enter(self._stopped, opened=self._opened)
            if ticket is None:
                self._budget.settle(worst, Decimal())
                return None
            with self._change:
                self.in_flight += 1
                self.requests += 1
            started = time.monotonic()
            reply = self._call(request)
            seconds = time.monotonic() - started
            with self._change:
                self.in_flight -= 1
            self._settle(request, reply, worst)
            if reply.failure is None or reply.failure.cause != "rate":
                self._limiter.accepted(ticket)
                if reply.failure is not None:
                    self.problem = request.stage, reply.failure
                return Sent(reply, seconds)
            self._limiter.refused(ticket, reply.failure.retry_after_seconds)
        return None

    def _call(self, request: Request) -> Reply:
        """Return the client's reply; what it raises is a failure, too."""
        try:
            reply = self._client(request)
            if not isinstance(reply, Reply):
                raise TypeError(f"the client returned a {type(reply).__name__}, not an enrichkit.Reply")
        except BaseException as error:  # noqa: BLE001 - a client of one's own may raise anything
            cause: Cause = "network" if isinstance(error, OSError) else "client"
            cause = "timeout" if isinstance(error, TimeoutError) else cause
            unsent = isinstance(error, ConnectionRefusedError | socket.gaierror)
            told = f"{type(error).__name__}: {error}"[:300]
            return Reply(failure=Failure(cause=cause, message=told, may_be_charged=not unsent))
        return reply

    def _reserve(self, request: Request) -> Decimal | None:
        """Set the worst case aside; wait while requests in flight may give some back; end the run if none can."""
        size = len(request.system) + len(request.text.encode()) + self._schema_bytes[request.stage]
        worst = self._worst_case(request.model, -(-size // 100), request.max_output_tokens, request.search)
        while not self._stopped.is_set():
            if self._budget.reserve(worst):
                return worst
            # Not "nothing is in flight": another worker may have settled in between, and there is room again.
            if self._budget.never(worst):
                self._end_run("budget", f"the next request may cost up to {worst:.4f} USD, {self._budget.left_text}")
            self._stopped.wait(0.05)
        return None

    def _price_worst_case(self, model: str, prompt_hundreds: int, max_output_tokens: int, search: bool) -> Decimal:
        found = worst_case(
            model,
            prompt_bytes=100 * prompt_hundreds,
            max_output_tokens=max_output_tokens,
            search=search,
            prices=self._prices,
        )
        return found or Decimal()

    def _settle(self, request: Request, reply: Reply, worst: Decimal) -> None:
        if reply.failure is not None and (reply.failure.may_be_charged or reply.failure.cause == "timeout"):
            self._budget.keep(worst)
            return
        paid = reply_cost(reply, {"model": request.model}, self._prices) if reply.paid else Decimal()
        if excess := self._budget.settle(worst, paid):
            self._end_run(
                "budget",
                f"the reply about {self._about(request)} cost {worst + excess:.4f} USD, {excess:.4f} more than the "
                "worst case that was set aside",
            )

    def _about(self, request: Request) -> str:
        """Return what a request is about, in words: its stage, and the first record that needs it."""
        stage = next(one for one in self._work.stages if one.stage.name == request.stage)
        question = pc.index(stage.questions, request.question).as_py()
        record = int(stage.records(question)[0])
        key = ", ".join(f"{name} {value!r}" for name, value in self._work.values(record, self._work.key).items())
        return f"{key} (stage {request.stage})"
