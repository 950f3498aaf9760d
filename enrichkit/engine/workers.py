"""The workers: they take question after question, ask it within pace, budget and deadline, and pass its reply on.

As many long-lived joblib tasks as requests may be under way, and as many spare ones: while a worker backs off
before another try, a spare one asks instead, so that a service that answers one request in ten with an error
costs a tenth of the speed, and no more. Failures are values all the way; a worker never raises, since joblib would
drop the replies of the others.
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
from ..store.rows import Outcome, ReadReply, outcome_of, read_decoded, read_payload, reply_cost
from .limiter import RateLimiter
from .queue import Question, QuestionQueue
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

    question: Question
    entry: JournalEntry
    read: ReadReply
    outcome: Outcome | None
    retried: bool
    """Whether the question had failed in an earlier run."""

    @property
    def failure(self) -> Failure | None:
        """Why the question failed with this reply; None if it is answered, or asked again."""
        return self.read.reply.failure if self.outcome is not None else None

    @property
    def unpaid(self) -> bool:
        """Whether there is nothing to store for its own sake: the service was asked in vain."""
        return not self.read.reply.paid


@dataclass(frozen=True, slots=True)
class Skipped:
    """A question that needs no asking: what it requires was not found."""

    question: Question


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
        self._changed = threading.Condition()
        self._backing_off = self._active_spares = 0
        self._finished = False
        self.at_work = 0
        """Workers that have not ended."""
        self.requests = self.in_flight = self.arrived = 0
        """Requests sent, refused ones included, and those under way; paid replies passed on."""
        self.problem: tuple[str, Failure] | None = None
        """The last request that brought no answer: its stage, and why."""

    def start(self) -> Iterator[None]:
        """Let them begin; the iterator ends when all of them have."""
        count = self._count
        self.at_work = 2 * count
        parallel = joblib.Parallel(n_jobs=2 * count, backend="threading", return_as="generator_unordered", batch_size=1)
        loops = [self._run_regular] * count + [self._run_spare] * count
        return iter(parallel(joblib.delayed(self._live)(loop) for loop in loops))

    def release(self) -> None:
        """Give a permit back: a reply is stored, or will never come."""
        self._permits.put(None)

    def _live(self, loop: Callable[[], None]) -> None:
        """Work until nothing is left; a defect ends the run, named."""
        defect = None
        try:
            loop()
        except BaseException as error:  # noqa: BLE001 - passed on; joblib would drop the replies of the others
            defect = error
        with self._changed:
            self._finished = True  # nothing is left for anybody
            self.at_work -= 1
            self._changed.notify_all()
        self._pass_on(WorkerEnded(defect))

    def _run_regular(self) -> None:
        """Take question after question until none is left."""
        while (question := self._queue.take()) is not None:
            self._ask(question)

    def _run_spare(self) -> None:
        """Take over questions while a regular worker is backing off."""
        while self._wait_for_backoff():
            if (question := self._queue.take()) is not None:
                self._ask(question)
            with self._changed:
                self._active_spares -= 1

    def _wait_for_backoff(self) -> bool:
        """Wait until more workers are backing off than spares are active; False once the run is finished."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished or self._active_spares < self._backing_off)
            if not self._finished:
                self._active_spares += 1
            return not self._finished

    def _back_off(self, seconds: float) -> None:
        """Wait before another try. The permit is given back meanwhile: there is no reply of this one to store."""
        with self._changed:
            self._backing_off += 1
            self._changed.notify()
        self.release()
        self._stopped.wait(seconds)
        self._take_permit()
        with self._changed:
            self._backing_off -= 1

    def _take_permit(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Empty):
                return self._permits.get(timeout=0.1)

    def _ask(self, question: Question) -> None:
        """Ask one question, again if its answer cannot be read, and pass on every reply."""
        questions = self._work.stages[question.stage]
        stage, question_id = questions.stage, questions.id(question.number)
        values = self._recorder.hints(question, [*stage.reads, *stage.requires])
        if any(name not in values for name in stage.requires):
            self._pass_on(Skipped(question))
            return
        deadline_seconds, prices = self._deadline_seconds, self._prices
        request = request_for(stage, question_id, values, model=self._work.model, timeout_seconds=deadline_seconds)
        payloads, recorded = self._recorder.earlier(question)
        replies = [read_payload(stage, payload, prices) for payload in payloads]
        last = len(replies) + ATTEMPTS
        for attempt in range(len(replies) + 1, last + 1):
            self._take_permit()
            sent = ask(request, self._send, stop=self._stopped, deadline_seconds=deadline_seconds, sleep=self._back_off)
            if sent is None or self._ends(sent.reply.failure) or self._mixes(sent.reply):
                self.release()
                return
            facts = {
                "question": question_id,
                "attempt": attempt,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "client": self._client_name,
                "model": request.model,
                "seconds": round(sent.seconds, 4),
                "tries": sent.tries,
            }
            # Stored as it came: what it means is read after, and may be read otherwise later. An SDK's client has
            # parsed the body just as `decode` would; a reply of one's own client changes on its way into JSON.
            raw_alone = self._client_name in CLIENTS and sent.reply.raw is not None
            payload = encode(sent.reply, raw_alone=raw_alone, **facts)
            read = (
                read_decoded(stage, payload, sent.reply, facts, prices)
                if raw_alone
                else read_payload(stage, payload, prices)
            )
            replies.append(read)
            if read.reply.failure is not None:
                self.problem = stage.name, read.reply.failure
            cause = None if read.reply.failure is None else read.reply.failure.cause
            again = cause in ASK_AGAIN and attempt < last and not self._stopped.is_set()
            entry = JournalEntry(question_id, stage.name, attempt, "again" if again else read.status, payload)
            outcome = None if again else outcome_of(question_id, replies, recorded=recorded)
            with self._changed:
                self.arrived += read.reply.paid
            self._pass_on(ReplyArrived(question, entry, read, outcome, retried=last > ATTEMPTS))
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

        Its worst case is reserved before and settled after. Whatever may be waited for comes before the limiter: a
        request that has passed it is sent at once.
        """
        while (worst := self._reserve(request)) is not None:
            ticket = self._limiter.enter(self._stopped, opened=self._opened)
            if ticket is None:
                self._budget.settle(worst, Decimal())
                return None
            with self._changed:
                self.in_flight += 1
                self.requests += 1
            started = time.monotonic()
            reply = self._call(request)
            seconds = time.monotonic() - started
            with self._changed:
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
                raise TypeError(f"the client returned a {type(reply).__name__}, not an enrichkit.messages.Reply")
        except BaseException as error:  # noqa: BLE001 - a client of one's own may raise anything
            cause: Cause = "network" if isinstance(error, OSError) else "client"
            cause = "timeout" if isinstance(error, TimeoutError) else cause
            unsent = isinstance(error, ConnectionRefusedError | socket.gaierror)
            told = f"{type(error).__name__}: {error}"[:300]
            return Reply(failure=Failure(cause=cause, message=told, may_be_charged=not unsent))
        return reply

    def _reserve(self, request: Request) -> Decimal | None:
        """Reserve the worst case; wait while requests in flight may give some back; end the run if none can."""
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
                "worst case that was reserved",
            )

    def _about(self, request: Request) -> str:
        """Return what a request is about, in words: its stage, and the first record that needs it."""
        stage = next(one for one in self._work.stages if one.stage.name == request.stage)
        question = pc.index(stage.questions, request.question).as_py()
        record = int(stage.records(question)[0])
        key = ", ".join(f"{name} {value!r}" for name, value in self._work.values(record, self._work.key).items())
        return f"{key} (stage {request.stage})"
