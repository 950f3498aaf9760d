"""The workers: they take question after question, ask it within pace, budget and deadline, and pass its reply on.

A question that is to be tried once more waits in the queue, and its worker asks another one meanwhile: a service that
answers one request in ten with an error costs a tenth of the speed, and no more. Failures are values all the way; a
worker never raises, since joblib would drop the replies of the others.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

import joblib

from ..gemini.client import reply_of
from ..gemini.wire import encode, with_searches
from ..messages import CLIENTS, SIMULATOR, Client, Failure, Reply, Request
from ..pricing.budget import Budget
from ..pricing.prices import Price, name_at_provider, total_usd
from ..stages.stage import Stage, request_for
from ..store.journal import JournalEntry
from ..store.rows import Outcome, ReadReply, outcome_of, read_decoded, read_payload, reply_cost
from .pace import RateLimiter
from .queue import Question, QuestionQueue, name_question
from .recorder import Recorder
from .retry import ATTEMPTS, Attempts, Reach, SearchDoubt, Sent, Tries, added_after

WAITED_FOR = {"standard": {"rate"}, "flex": {"rate", "overloaded"}}
"""The causes that say, at a tier, that there is no room now: the pace waits, and it is nobody's try."""
SPARE_PERMITS = 2
"""Replies on their way to the disk while all workers ask: without them each would wait for its commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a run asks: through which client, how many at a time and a minute, how patiently, at which prices."""

    client: Client
    client_name: str
    workers: int
    rpm: float | Callable[[], float] | None
    deadline_seconds: float
    patience_seconds: float | None
    prices: Mapping[str, Price]


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
    outcome: None = None
    unpaid: bool = False


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
        asking: Asking,
        *,
        limiter: RateLimiter,
        budget: Budget,
        opened: threading.Event,
        stopped: threading.Event,
        pass_on: Callable[[News], None],
        end_run: Callable[[str, str], None],
    ) -> None:
        self._plan = recorder.plan
        self._recorder = recorder
        self._queue = ready
        self._asking = asking
        self._limiter = limiter
        self._budget = budget
        self._opened = opened
        self._stopped = stopped
        self._pass_on = pass_on
        self._end_run = end_run
        self._turn = threading.Lock()
        self._reserving = threading.Lock()
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()  # a semaphore does in Python what this does in C
        self.release(asking.workers + SPARE_PERMITS)
        self._waiting: dict[Question, Attempts] = {}
        """What is to be tried once more, or for which another attempt is to follow."""
        self.count = asking.workers
        self.simulated = True if self._plan.model == SIMULATOR else recorder.store.index.simulated
        """Whether the simulator answers; None before that is known."""
        self._lock = threading.Lock()
        self.at_work = 0
        """Workers that have not ended."""
        self.requests = self.in_flight = self.arrived = 0
        """Requests sent, refused ones included, and those under way; paid replies passed on."""
        self.problem: tuple[str, Failure] | None = None
        """The last request that brought no answer: its stage, and why."""
        self.doubt, self._reach = SearchDoubt(), Reach()

    def start(self) -> Iterator[None]:
        """Let them begin; the iterator ends when all of them have."""
        self.at_work = count = self.count
        at_once = max(2, count)  # joblib runs a single one in the thread of the writer, which would wait for ever
        with joblib.parallel_config("threading"):
            granted = joblib.effective_n_jobs(at_once)
        if granted < at_once:  # as with JOBLIB_MULTIPROCESSING=0: one would wait for the others for ever
            threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
            for thread in threads:
                thread.start()
            return map(threading.Thread.join, threads)
        parallel = joblib.Parallel(n_jobs=at_once, backend="threading", return_as="generator_unordered", batch_size=1)
        return iter(parallel(joblib.delayed(self._work)() for _ in range(count)))

    def release(self, count: int = 1) -> None:
        """Give permits back: so many replies are stored, or will never come."""
        for _ in range(count):
            self._permits.put(None)

    def wake(self) -> None:
        """Let those who wait see that the run is stopped: whoever gets a permit passes it on."""
        self.doubt.over.set()
        self.release()

    def _work(self) -> None:
        """Ask question after question until none is left; a defect ends the run, named."""
        defect = None
        try:
            while (question := self._next()) is not None:
                self._ask(question)
        except BaseException as error:  # noqa: BLE001 - passed on; joblib would drop the replies of the others
            defect = error
        with self._lock:
            self.at_work -= 1
        self._pass_on(WorkerEnded(defect))

    def _next(self) -> Question | None:
        with self._turn:  # else a question that becomes ready would wake all who wait
            return self._queue.take()

    def _begin(self, question: Question) -> Attempts | None:
        """Return how a question is asked; None if what it requires was not found."""
        questions, asking = self._plan.stages[question.stage], self._asking
        stage, question_id = questions.stage, questions.id(question.number)
        values = self._recorder.hints(question, [*stage.reads, *stage.requires])
        if any(name not in values for name in stage.requires):
            return None
        request = request_for(
            stage, question_id, values, model=self._plan.model, timeout_seconds=asking.deadline_seconds
        )
        payloads, recorded = self._recorder.earlier(question)
        replies = [read_payload(stage, payload, asking.prices) for payload in payloads]
        pending = self._recorder.store.index.pending.get(question_id)  # "again": a kill came between two attempts
        added = added_after(replies[-1].reply) if pending and pending[-1].status == "again" else None
        last = len(replies) + ATTEMPTS - (added is not None)
        return Attempts(stage, replace(request, tier=self._plan.tier), replies, recorded, last, added)

    def _ask(self, question: Question) -> None:
        """Try a question once, and pass on its reply.

        Before another try, or attempt, it is put back, and the worker asks something else meanwhile.
        """
        attempts = self._waiting.pop(question, None) or self._begin(question)
        if attempts is None:
            self._pass_on(Skipped(question))
            return
        self._permits.get()
        sent = self._send(attempts.asked())
        seconds = None if sent is None else attempts.tries.wait_after(sent)
        ended = sent is not None and self._ends_run(sent.reply)
        if sent is None or (ended and not sent.in_vain):
            self.release()
            self._queue.leave(question)
            return
        if seconds is not None:
            self.release()
        elif self._take_in(question, attempts, replace(sent, tries=attempts.tries.count), ended=ended):
            seconds = 0.0
        if seconds is not None:
            self._waiting[question] = attempts
            self._queue.put_back(question, seconds)

    def _take_in(self, question: Question, attempts: Attempts, sent: Sent, *, ended: bool) -> bool:
        """Pass on what came of an attempt; return whether another one is to follow."""
        stage, replies = attempts.stage, attempts.replies
        attempt = len(replies) + 1
        read = self._read(stage, attempts.request, sent, attempt)
        replies.append(read)
        if read.reply.failure is not None:
            self.problem = stage.name, read.reply.failure
        attempts.added, attempts.tries = added_after(read.reply), Tries(attempts.request)
        left = sent.short or ended  # for another call
        again = attempts.added is not None and attempt < attempts.last and not left
        status = "again" if again or left else read.status
        question_id = attempts.request.question
        entry = JournalEntry(question_id, stage.name, attempt, status, read.payload)
        outcome = None if status == "again" else outcome_of(question_id, replies, recorded=attempts.recorded)
        with self._lock:
            self.arrived += read.reply.paid
        self._pass_on(ReplyArrived(question, entry, read, outcome, retried=attempts.last > ATTEMPTS))
        if left:
            self._queue.leave(question)
        return again

    def _read(self, stage: Stage, request: Request, sent: Sent, attempt: int) -> ReadReply:
        """Return a reply as it is stored, and what it means to its stage."""
        client_name, prices = self._asking.client_name, self._asking.prices
        facts = {
            "question": request.question,
            "attempt": attempt,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": client_name,
            "model": request.model,
            "seconds": round(sent.seconds, 4),
            "tries": sent.tries,
            "search": request.search and not sent.short,
        }
        # Stored as it came: what it means is read after, and may be read otherwise later. An SDK's client has
        # parsed the body just as `read_stored` would; a reply of one's own client changes on its way into JSON.
        # A short reply must never be read as an answer, whatever it holds: its failure is kept beside it.
        raw_alone = client_name in CLIENTS and sent.reply.raw is not None and not sent.short
        payload = encode(sent.reply, raw_alone=raw_alone, **facts)
        if raw_alone:
            return read_decoded(stage, payload, sent.reply, facts, prices)
        return read_payload(stage, payload, prices)

    def _ends_run(self, reply: Reply) -> bool:
        """End the run if every other request would fail alike, or if simulated answers and real ones would mix."""
        failure, version = reply.failure, reply.model_version
        if failure is not None and failure.ends_run:
            self._end_run(failure.cause, failure.quota or failure.message)
            return True
        if version is None:
            return False
        simulated = version.startswith(SIMULATOR)
        if self.simulated is None:
            self.simulated = simulated
        if simulated != self.simulated:
            self._end_run("mixed", f"{version} answered, which is {'' if simulated else 'not '}the simulator")
        return simulated != self.simulated

    def _send(self, request: Request) -> Sent | None:
        """Send a request as often as the pace refuses it; None if the run stops first.

        Its worst case is reserved before and settled after. Whatever may be waited for comes before the limiter: a
        request that has passed it is sent at once.
        """
        while (worst := self._reserve(request)) is not None:
            ticket = self._limiter.enter(self.doubt.over if request.search else self._stopped, opened=self._opened)
            if ticket is None:
                self._budget.settle(worst, Decimal())
                if self._limiter.out_of_patience:
                    self._end_run("refused", "" if self.problem is None else self.problem[1].message)
                return None
            with self._lock:
                self.in_flight += 1
                self.requests += 1
            started = time.monotonic()
            sending = self.doubt.probe(request)
            reply = reply_of(self._asking.client, replace(sending, model=name_at_provider(sending.model)))
            seconds = time.monotonic() - started
            with self._lock:
                self.in_flight -= 1
            self._settle(sending, reply, worst)
            self.doubt.learn(sending, reply.failure)
            if reply.failure is not None:
                self.problem = request.stage, reply.failure
            if self._reach.is_lost(reply.failure):
                self._end_run("failures", str(reply.failure))
            if reply.failure is not None and reply.failure.cause in WAITED_FOR[request.tier]:
                self._limiter.refused(ticket, reply.failure.retry_after_seconds)
                if reply.paid:
                    return Sent(reply, seconds)
                continue
            self._limiter.accepted(ticket)
            if sending is request or (reply.failure is not None and reply.failure.ends_run):
                return Sent(reply, seconds)
            if reply.paid:
                self._queue.drop([place for place, stage in enumerate(self._plan.stages) if stage.stage.search])
                self._limiter.forget()
                return Sent(self.doubt.confirm(reply), seconds, short=True)
        return None

    def _reserve(self, request: Request) -> Decimal | None:
        """Reserve the worst case; wait while requests in flight may give some back; end the run if none can."""
        with self._reserving:  # one waits for room, the others for their turn
            while not self._stopped.is_set():
                worst = self._budget.worst_cases.of(request)  # meanwhile it may have risen
                if self._budget.reserve(worst):
                    return worst
                # Not "nothing is in flight": another worker may have settled in between, and there is room again.
                if self._budget.never(worst):
                    about = f"the next request may cost up to {worst:.4f} USD, {self._budget.left_text}"
                    self._end_run("budget", about)
                self._stopped.wait(0.05)
        return None

    def _settle(self, request: Request, reply: Reply, worst: Decimal) -> None:
        """Count what a reply cost; an excess is said, and the next worst cases are higher."""
        if reply.failure is not None and reply.failure.may_be_charged and not reply.paid:
            self._budget.keep(worst)
            return
        most = self._budget.worst_cases.seen["searches"].get(request.stage) or 1
        counted = with_searches(reply, unknown=most)
        paid = total_usd(reply_cost(counted, {"model": request.model}, self._asking.prices))
        self._budget.worst_cases.learn(request, reply, paid)
        self._budget.settle(worst, paid, about=lambda: name_question(self._plan, request.stage, request.question))
