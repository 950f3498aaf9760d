"""The engine: asks what is open, twenty at a time, and lets nothing that was paid for get lost.

As many long-lived joblib tasks as workers each take question after question from the ready queue. Their replies go
to one writer, the thread that called `Engine.drive`: it commits them in groups, as many as have come since its last
commit, and only then lets a question count, unlocks what waits for it, and gives its permit back. So at most
``workers + 2`` replies are ever unsaved. Failures are values all the way; workers never raise.

It knows its watchers only as callables, and leaves money to the price room and waiting to the pace.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import joblib

from ._book import Book, Row
from ._exchange import SIMULATOR, Client, Failure, Reply, Request, encode
from ._gemini import CLIENTS
from ._pace import Gate, PaceView
from ._price import Budget, Price, worst_case
from ._queue import Ready, Task
from ._retry import Asked, ask
from ._row import Outcome, read_outcome, read_reply, reply_cost
from ._store import Entry, Store
from ._work import Work
from .errors import LockedError, StoreError

ATTEMPTS = 3
"""An answer that cannot be read is asked again up to twice."""
ASK_AGAIN = frozenset({"unreadable", "empty"})
SAME_CAUSE = 10
"""So many questions failing in a row, unpaid and for one cause, end the run."""
SAVE_AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run asks."""

    workers: int
    client_name: str
    budget_usd: float | None
    deadline_seconds: float
    prices: Mapping[str, Price] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A run at one moment.

    Attributes
    ----------
    records, done, failed, left : int
        Records of this call: all that have something to do, complete, complete with a failed stage, still to do.
    requests, in_flight : int
        Requests sent, tries and refusals included, and those under way.
    tokens : int
        Tokens of all kinds, of this call's replies.
    cost_usd, reserved_usd, possibly_usd : float
        Spent by this call (as far as prices are known), set aside for requests in flight, and possibly spent on
        requests that were given up without a reply.
    unpriced : int
        Replies whose price is unknown.
    unsaved : int
        Replies in memory that could not be written yet.
    rate_per_second : float
        Records completed a second, so far.
    left_seconds : float or None
        About how long the rest takes at that rate.
    waiting : str
        What the pace waits for, or the trouble with the disk.
    stopping : str or None
        Why the run ends early.
    """

    records: int
    done: int
    failed: int
    left: int
    requests: int
    in_flight: int
    tokens: int
    cost_usd: float
    reserved_usd: float
    possibly_usd: float
    unpriced: int
    unsaved: int
    seconds: float
    rate_per_second: float
    left_seconds: float | None
    waiting: str
    stopping: str | None
    pace: PaceView


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A reply on its way to the writer; the last of its question has the outcome with it."""

    task: Task
    entry: Entry | None = None
    outcome: Outcome | None = None
    reply: Reply | None = None
    cost_usd: Decimal | None = None
    last: bool = True
    dropped: bool = False


class Engine:
    """One run's asking, from the first question to the last seal.

    Parameters
    ----------
    work : Work
        What is to do.
    book : Book
        The records' outcomes and rows, on an open store.
    client : callable
        ``Request`` to ``Reply``.
    gate : Gate
        The pace that all workers share.
    settings : Settings
        How to ask.
    on_record : callable
        Called in the writer with each completed record's number and row.
    """

    def __init__(
        self,
        work: Work,
        book: Book,
        *,
        client: Client,
        gate: Gate,
        settings: Settings,
        spent_usd: Decimal = Decimal(),
        on_record: Callable[[int, Row], None] = lambda record, row: None,
    ) -> None:
        self._work = work
        self._book = book
        self._store: Store = book.store
        self._client = client
        self._gate = gate
        self._settings = settings
        self._on_record = on_record
        self._ready = Ready(work)
        self._inbox: queue.SimpleQueue[_Arrived] = queue.SimpleQueue()
        self._permits = threading.Semaphore(settings.workers + 2)
        self._simulated = book.simulated
        self._budget = Budget(settings.budget_usd, spent_usd)
        self._stop = threading.Event()
        self._writable = threading.Event()
        self._writable.set()
        self._reason: tuple[str, str] | None = None
        self._loops = settings.workers
        self._suspects: list[_Arrived] = []
        self._in_flight = 0
        self._counting = threading.Lock()
        self._started = time.monotonic()
        self._count: Counter[str] = Counter()
        self._cost = Decimal()
        self._trouble = ""

    def stop(self, reason: str = "stop", told: str = "") -> None:
        """Send nothing more; what is in flight is kept. The first reason stands."""
        if self._reason is None:
            self._reason = (reason, told)
        self._stop.set()
        self._ready.close()

    @property
    def reason(self) -> tuple[str, str] | None:
        """Why the run ends early, and what was said; None if it does not."""
        return self._reason

    @property
    def status(self) -> Status:
        """The run at this moment."""
        seconds = time.monotonic() - self._started
        count, records = self._count, len(self._work.order)
        left = records - count["complete"]
        rate = count["complete"] / seconds if seconds else 0.0
        pace = self._gate.view
        return Status(
            records=records,
            done=count["complete"] - count["failed"],
            failed=count["failed"],
            left=left,
            requests=count["requests"],
            in_flight=self._in_flight,
            tokens=count["tokens"],
            cost_usd=float(self._cost),
            reserved_usd=float(self._budget.reserved_usd),
            possibly_usd=float(self._budget.possibly_usd),
            unpriced=count["unpriced"],
            unsaved=self.unsaved,
            seconds=seconds,
            rate_per_second=rate,
            left_seconds=left / rate if rate else None,
            waiting=self._trouble or (pace.reason if pace.waiting_until is not None else ""),
            stopping=self._reason[0] if self._reason else None,
            pace=pace,
        )

    def drive(self) -> None:
        """Ask everything, commit every reply, seal every complete record; return when all that is done.

        The thread that calls this is the writer.
        """
        for record in self._book.complete_already():
            self._complete(record)
            self._save(self._book.seal)
        # With n_jobs=1 joblib would run the loop in this thread, and the writer would never get its turn.
        parallel = joblib.Parallel(
            n_jobs=max(2, self._settings.workers), backend="threading", return_as="generator_unordered", batch_size=1
        )
        loops = parallel(joblib.delayed(self._loop)() for _ in range(self._settings.workers))
        try:
            self._write_all()
        finally:
            self.stop("end")
            for _ in loops:
                pass
        if self._suspects:
            self._commit(self._suspects)
        self._save(lambda: self._book.seal(everything=True))
        if self._count["complete"]:
            self._save(self._book.widen)
        if self._reason == ("end", ""):
            self._reason = None

    # The workers -------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        """Take question after question until none is left. It never raises: joblib would drop other loops' replies."""
        try:
            while (task := self._ready.take()) is not None:
                try:
                    self._take_permit()
                    self._ask(task)
                except Exception as error:  # noqa: BLE001 - a defect of ours, or of a check: it ends the run, named
                    self._inbox.put(_Arrived(task, dropped=True))
                    self.stop("failures", f"{type(error).__name__}: {error}")
        finally:
            with self._counting:
                self._loops -= 1
            self._inbox.put(_Arrived((-1, -1)))  # wakes the writer

    def _take_permit(self) -> None:
        while not self._permits.acquire(timeout=0.1):
            if self._stop.is_set():
                return

    def _ask(self, task: Task) -> None:
        """Ask one question, again if its answer cannot be read, and hand every paid reply to the writer."""
        work = self._work.stages[task[0]]
        stage, question = work.stage, work.id(task[1])
        values = self._book.hints(task, [*stage.reads, *stage.requires])
        if any(name not in values for name in stage.requires):
            self._inbox.put(_Arrived(task))
            return
        request = stage.request(
            question, values, model=self._work.model, timeout_seconds=self._settings.deadline_seconds
        )
        payloads, booked = self._book.earlier(task)
        earlier = len(payloads)
        for attempt in range(earlier + 1, earlier + 1 + ATTEMPTS):
            asked = self._send(request)
            if asked is None:
                self._inbox.put(_Arrived(task, dropped=True))
                return
            facts = {
                "question": question,
                "attempt": attempt,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "client": self._settings.client_name,
                "model": request.model,
                "seconds": round(asked.seconds, 4),
                "tries": asked.attempts,
            }
            if self._mixes(asked.reply):
                self._inbox.put(_Arrived(task, dropped=True))
                return
            # Stored as it came: what it means is read after, and may be read otherwise later.
            payloads.append(encode(asked.reply, raw_alone=self._settings.client_name in CLIENTS, **facts))
            reply, answer, _ = read_reply(stage, asked.reply)
            again = (
                reply.failure is not None
                and reply.failure.cause in ASK_AGAIN
                and attempt < earlier + ATTEMPTS
                and not self._stop.is_set()
            )
            status = "again" if again else "failed" if answer is None else "done"
            entry = Entry(question, stage.name, attempt, status, payloads[-1])
            outcome = None if again else read_outcome(stage, question, payloads, self._settings.prices, booked=booked)
            cost = reply_cost(reply, facts, self._settings.prices) if reply.paid else Decimal()
            self._inbox.put(_Arrived(task, entry, outcome, reply, cost, last=not again))
            if not again:
                return

    def _mixes(self, reply: Reply) -> bool:
        """End the run if a simulated answer came to a store of real ones, or the other way round."""
        if reply.model_version is None:
            return False
        simulated = reply.model_version.startswith(SIMULATOR)
        if self._simulated is None:
            self._simulated = simulated
        if simulated != self._simulated:
            self.stop("mixed", f"{reply.model_version} answered, which is {'' if simulated else 'not '}the simulator")
        return simulated != self._simulated

    def _send(self, request: Request) -> Asked | None:
        """Ask within the pace and the deadline; None if the run stops before there is a reply."""
        return ask(
            request,
            self._charged,
            gate=self._gate,
            stop=self._stop,
            deadline_seconds=self._settings.deadline_seconds,
        )

    def _charged(self, request: Request) -> Reply | None:
        """Send one request, its worst case set aside before and settled after; None if the run stops first."""
        worst = self._reserve(request)
        if worst is None:
            return None
        if not self._wait_writable():
            self._budget.settle(worst, Decimal())
            return None
        with self._counting:
            self._in_flight += 1
            self._count["requests"] += 1
        reply = None
        try:
            reply = self._client(request)
            if not isinstance(reply, Reply):
                raise TypeError(f"the client returned a {type(reply).__name__}, not an enrichkit.Reply")
        finally:
            with self._counting:
                self._in_flight -= 1
            self._settle(request, reply, worst)
        return reply

    def _reserve(self, request: Request) -> Decimal | None:
        """Set the worst case aside; wait while requests in flight may give some back; end the run if none can."""
        worst = (
            worst_case(
                request.model,
                prompt_bytes=len((request.system + request.text).encode()) + len(str(request.schema)),
                max_output_tokens=request.max_output_tokens,
                search=request.search,
                prices=self._settings.prices,
            )
            or Decimal()
        )
        while not self._stop.is_set():
            if self._budget.reserve(worst):
                return worst
            if not self._in_flight and not self._budget.reserved_usd:
                self.stop("budget", f"the next request may cost up to {worst:.4f} USD, {self._budget.told}")
            self._stop.wait(0.05)
        return None

    def _settle(self, request: Request, reply: object, worst: Decimal) -> None:
        if not isinstance(reply, Reply) or (reply.failure is not None and not reply.paid):
            silent = isinstance(reply, Reply) and reply.failure is not None and reply.failure.cause == "timeout"
            if silent:  # it may have been answered, and charged, after we gave up
                self._budget.keep(worst)
            else:
                self._budget.settle(worst, Decimal())
            return
        self._budget.settle(worst, reply_cost(reply, {"model": request.model}, self._settings.prices))
        if self._budget.excess_usd:
            self.stop(
                "budget",
                f"a reply to stage {request.stage} cost more than its worst case of {worst:.4f} USD, "
                f"which makes {self._budget.excess_usd:.4f} USD more than was set aside",
            )

    def _wait_writable(self) -> bool:
        """Wait while the store cannot be written; False if the run stops meanwhile."""
        while not self._writable.wait(0.1):
            if self._stop.is_set():
                return False
        return True

    # The writer --------------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        while self._loops or not self._inbox.empty():
            self._watch_space()
            try:
                arrived = [self._inbox.get(timeout=None if self._writable.is_set() else SAVE_AGAIN_SECONDS)]
            except queue.Empty:
                continue
            # Bounded by the size seen: draining until empty could go on for seconds at full speed.
            arrived += [self._inbox.get() for _ in range(self._inbox.qsize())]
            self._commit(self._sift(arrived))
            self._save(self._book.seal)

    def _watch_space(self) -> None:
        """Let no new request start while the disk is nearly full: those in flight still have to be written."""
        if self._store.enough_space():
            self._trouble = ""
            self._writable.set()
        else:
            self._writable.clear()
            self._trouble = "the disk is nearly full; free some space and it goes on"

    def _sift(self, arrived: list[_Arrived]) -> list[_Arrived]:
        """Return what is to commit now; unpaid failures wait until something succeeds, or end the run."""
        kept: list[_Arrived] = []
        for one in arrived:
            if one.task[0] < 0:
                continue
            if one.dropped:
                self._permits.release()
            elif one.reply is not None and not one.reply.paid and one.reply.failure is not None:
                self._suspect(one, one.reply.failure)
            else:
                if one.reply is not None and self._suspects:
                    kept += self._suspects
                    self._suspects = []
                kept.append(one)
        return kept

    def _suspect(self, one: _Arrived, failure: Failure) -> None:
        """Hold an unpaid failure back: one cause failing again and again is no verdict on ten records."""
        if failure.ends_run:
            self._permits.release()
            self.stop(failure.cause, failure.message)
            return
        self._suspects.append(one)
        self._permits.release()
        self._ready.finish(one.task)
        causes = {str(other.reply.failure.cause) for other in self._suspects if other.reply and other.reply.failure}
        if len(causes) == 1 and len(self._suspects) >= SAME_CAUSE:
            self._suspects = []
            self.stop("failures", str(failure))

    def _commit(self, arrived: list[_Arrived]) -> None:
        """Make replies durable, then let them count."""
        entries = [one.entry for one in arrived if one.entry is not None]
        self._count["unsaved"] = len(entries)
        self._save(lambda: self._store.append(entries))
        self._count["unsaved"] = 0
        for one in arrived:
            if one.reply is not None and one.entry is not None:
                self._account(one)
            if one.last:
                self._finish(one)

    def _account(self, one: _Arrived) -> None:
        """Add a stored reply to what a person sees."""
        if one.reply is None or not one.reply.paid:
            return
        usage = one.reply.usage
        self._count["tokens"] += usage.total_tokens or (usage.prompt_tokens or 0) + (usage.output_tokens or 0)
        if one.cost_usd is None:
            self._count["unpriced"] += 1
        else:
            self._cost += one.cost_usd

    def _finish(self, one: _Arrived) -> None:
        for record in self._book.learn(one.task, one.outcome):
            self._complete(record)
        unpaid = one.reply is not None and not one.reply.paid
        if not unpaid:  # an unpaid failure was let go when it was held back
            self._ready.finish(one.task)
            self._permits.release()

    def _complete(self, record: int) -> None:
        row = self._book.complete(record)
        self._count["complete"] += 1
        self._count["failed"] += row["_status"] == "failed"
        self._on_record(record, row)

    def _save(self, write: Callable[[], None]) -> None:
        """Write, again and again while the disk refuses; meanwhile no new request starts, and nothing is dropped."""
        while True:
            # Looked at before the last try: a person asked to stop, nothing is in flight, and still no disk.
            last = self._reason is not None and self._reason[0] in ("stop", "interrupt") and not self._loops
            try:
                write()
            except LockedError as error:
                self.stop("store", str(error))
                raise
            except OSError as error:
                self._writable.clear()
                why = error.strerror or str(error)
                self._trouble = f"the store cannot be written ({why}); trying again"
                if last:
                    raise StoreError(
                        f"The store {self._store.out} cannot be written: {why}. {self.unsaved:,} replies are not saved "
                        "and will be asked, and paid, again. Mend the disk, then run again."
                    ) from error
                time.sleep(SAVE_AGAIN_SECONDS)
            else:
                if not self._writable.is_set():
                    self._watch_space()
                return

    @property
    def unsaved(self) -> int:
        """Replies in memory that are not on the disk yet."""
        return self._count["unsaved"] + self._inbox.qsize()
