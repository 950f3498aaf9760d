"""The engine: one run from its first question to its last seal; nothing that was paid for gets lost.

The workers' replies go to one writer, the thread that called `Engine.drive`: it commits them in groups, as many as have
come since its last commit, and only then lets a question count, unlocks what waits for it, and gives its permit back.
So at most ``workers + 2`` replies are ever unsaved. Whatever ends a run early ends it here.

It knows its watchers only as callables, and leaves asking to the workers, money to the price room, waiting to the pace.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from ..errors import LockedError, StoreError
from ..formatting import many, plain
from ..messages import PAID, Client
from ..pricing.budget import Budget, Forecast
from ..pricing.prices import Price, prices_told
from ..stages.answer import CONFIDENCE, NOT_SAID, SEARCH_QUALITY
from ..status import WARN_AT, Levels, Money, Status, Traffic
from ..store.rows import Outcome
from ..store.store import Store
from .limiter import PauseSwitch, RateLimiter
from .queue import Question, QuestionQueue
from .recorder import Recorder
from .workers import News, ReplyArrived, Skipped, WorkerEnded, Workers

IN_A_ROW = 10
"""So many questions failing one after the other end the run: for one cause, or unpaid for whatever cause."""
SAVE_AGAIN_SECONDS = 0.5
LOOK_AT_DISK_SECONDS = 0.2
SEAL_SECONDS = 5.0
"""So often what is complete is sealed, full shard or not, for those who read the store meanwhile."""
SEAL_SHARE = 20
"""A seal of that kind that takes a second comes every twenty at most."""
DISK, PAUSE = "disk", "pause"
"""Why no new request starts for now; both must be over."""
LONGEST_PROBLEM = 160
LEVELS = {"confidence": (*CONFIDENCE, NOT_SAID), "search_quality": (*SEARCH_QUALITY, NOT_SAID)}
END = ("end", "")
"""The reason of a run that has asked everything."""


class Engine:
    """One run's asking, from the first question to the last seal.

    ``spent_usd`` is what the budget counts of earlier runs; ``on_scarce`` is called in the writer once most of it is
    spent.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        client: Client,
        client_name: str,
        workers: int,
        rpm: float | None,
        prices: Mapping[str, Price],
        budget_usd: float | None,
        delay_seconds: float,
        deadline_seconds: float,
        spent_usd: Decimal,
        on_scarce: Callable[[], None],
    ) -> None:
        self._work = recorder.work
        self._recorder = recorder
        self._store: Store = recorder.store
        self._limiter = RateLimiter(workers=workers, rpm=rpm)
        self._on_scarce = on_scarce
        self._scarce = False
        self._prices = prices_told(prices)
        self._queue = QuestionQueue(recorder.work, delay_seconds=delay_seconds)
        self._inbox: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._budget = Budget(budget_usd, spent_usd)
        self._stop = threading.Event()
        self._pause_switch = PauseSwitch()
        self._workers = Workers(
            recorder,
            self._queue,
            client=client,
            client_name=client_name,
            workers=workers,
            deadline_seconds=deadline_seconds,
            prices=prices,
            limiter=self._limiter,
            budget=self._budget,
            opened=self._pause_switch.opened,
            stopped=self._stop,
            pass_on=self._inbox.put,
            end_run=self.stop,
        )
        self.reason: tuple[str, str] | None = None
        """Why the run ends early, and what was said; None if it does not."""
        self._leaving = False
        self._defect: BaseException | None = None
        self._unpaid_failures: list[ReplyArrived] = []
        self._causes: list[str] = []
        self._started = time.monotonic()
        self._ended: float | None = None
        self._pausing = threading.Lock()  # buttons are answered in threads of their own
        self._paused_at: float | None = None
        self._paused_seconds = 0.0
        self._complete_count = self._failed = self._shared = self._tokens = self._unpriced = self._stored = 0
        self._levels = {name: dict.fromkeys(levels, 0) for name, levels in LEVELS.items()}
        self._cost = Decimal()
        self._spent_before = spent_usd
        self._forecast = Forecast([int((~stage.known).sum()) for stage in recorder.work.stages])
        self._trouble = ""
        self._look_again = 0.0
        self._seal_at = time.monotonic() + SEAL_SECONDS

    def stop(self, reason: str = "stop", told: str = "") -> None:
        """Send nothing more; what is in flight is kept. The first reason stands, and none that comes after the end."""
        if self._ended is not None:
            return
        if self.reason in (None, END):
            self.reason = (reason, told)
        self._leaving |= reason in ("stop", "interrupt")
        self._stop.set()
        self._queue.close()

    def pause(self) -> None:
        """Start nothing new until `resume`; what is in flight finishes and is stored."""
        with self._pausing:
            if self._paused_at is None and not self._stop.is_set():
                self._paused_at = time.monotonic()
                self._pause_switch.shut(PAUSE)

    def resume(self) -> None:
        """Go on after a pause."""
        with self._pausing:
            if (since := self._paused_at) is not None:
                self._paused_seconds += time.monotonic() - since
                self._paused_at = None
                self._pause_switch.lift(PAUSE)

    @property
    def status(self) -> Status:
        """The run at this moment."""
        now, paused_at = self._ended or time.monotonic(), self._paused_at
        seconds = now - self._started
        records, complete = len(self._work.order), self._complete_count
        busy = seconds - self._paused_seconds - (0.0 if paused_at is None else now - paused_at)
        rate = complete / busy if busy > 0 else 0.0
        left = records - complete
        pace = self._limiter.view
        return Status(
            records=records,
            done=complete - self._failed,
            failed=self._failed,
            left=left,
            later=self._work.later,
            shared=self._shared,
            seconds=seconds,
            rate_per_second=rate,
            left_seconds=left / rate if rate else None,
            waiting=self._trouble or (str(pace) if pace.waiting_seconds else ""),
            paused=paused_at is not None and not self._stop.is_set(),
            stopping=self.reason[0] if self.reason else None,
            problem=self._problem,
            money=self._money(records),
            traffic=Traffic(
                requests=self._workers.requests,
                in_flight=self._workers.in_flight,
                tokens=self._tokens,
                unsaved=self.unsaved,
            ),
            levels=Levels(**{name: dict(counts) for name, counts in self._levels.items()}),
            pace=pace,
        )

    def _money(self, records: int) -> Money:
        budget, cost = self._budget, self._cost
        rest = None if self._unpriced and not cost else self._forecast.rest_usd
        return Money(
            cost_usd=float(cost),
            reserved_usd=float(budget.reserved_usd),
            possibly_usd=float(budget.possibly_usd),
            spent_usd=float(budget.spent_usd),
            budget_usd=None if budget.limit_usd is None else float(budget.limit_usd),
            budget_share=budget.share,
            rest_usd=None if rest is None else float(rest),
            projected_usd=None if rest is None else float(self._spent_before + cost + rest),
            per_record_usd=None if rest is None or not records else float((cost + rest) / records),
            unpriced=self._unpriced,
            prices=self._prices,
            simulated=self._workers.simulated is True,
        )

    @property
    def _problem(self) -> str:
        if self._workers.problem is None:
            return ""
        stage, failure = self._workers.problem
        return plain(" ".join(f"{stage}: {failure}"[: 4 * LONGEST_PROBLEM].split()), LONGEST_PROBLEM)

    def drive(self) -> None:
        """Ask everything, commit every reply, seal every complete record; return when all that is done.

        The thread that calls this is the writer.
        """
        try:
            self._ask_all()
        except BaseException as error:
            self.reason = ("store" if isinstance(error, StoreError) else "defect", f"{type(error).__name__}: {error}")
            raise
        finally:
            self._stop.set()  # whatever came in between: nothing is left to pause
            self._ended = time.monotonic()

    def _ask_all(self) -> None:
        for record in self._recorder.complete_already():
            self._complete(record)
            self._save(self._recorder.shard_writer.seal)
            if self._stop.is_set():
                break
        for stage in self._work.stages:
            if stage.stage.prepare and not stage.known.all():
                stage.stage.prepare()
        ended = self._workers.start()
        try:
            self._write_all()
        finally:
            self.stop(*END)
            self.resume()  # a pause while the last requests were in flight
            for _ in ended:
                pass
            self._rescue()
        self._commit(self._judged())
        self._save(lambda: self._recorder.shard_writer.seal(everything=True))
        if self._complete_count:
            self._save(self._recorder.shard_writer.widen)
        if self._defect is not None:
            raise self._defect
        if self.reason == END:
            self.reason = None

    def _write_all(self) -> None:
        while self._workers.at_work or not self._inbox.empty():
            self._watch_space()
            try:
                news = [self._inbox.get(timeout=SAVE_AGAIN_SECONDS if DISK in self._pause_switch else SEAL_SECONDS)]
            except queue.Empty:
                news = []
            # Bounded by the size seen: draining until empty could go on for seconds at full speed.
            news += [self._inbox.get() for _ in range(self._inbox.qsize())]
            self._commit(self._hold_back_unpaid(news))
            self._seal()

    def _seal(self) -> None:
        """Seal full shards, and every few seconds all that is complete."""
        began = time.monotonic()
        due = began >= self._seal_at and DISK not in self._pause_switch
        self._save(lambda: self._recorder.shard_writer.seal(everything=due))
        if due:
            ended = time.monotonic()
            self._seal_at = ended + max(SEAL_SECONDS, SEAL_SHARE * (ended - began))

    def _rescue(self) -> None:
        """Store what came after the writer failed, if it did: it is paid for. And miss no worker's last word."""
        left = [self._inbox.get() for _ in range(self._inbox.qsize())]
        for one in left:
            if isinstance(one, WorkerEnded):
                self._note_defect(one)
        entries = [one.entry for one in left if isinstance(one, ReplyArrived) and not one.unpaid]
        with contextlib.suppress(OSError, LockedError):  # what ended the writer, most likely, and is told already
            self._store.append(entries)

    def _watch_space(self) -> None:
        """Let no new request start while the disk is nearly full: those in flight still have to be written."""
        if DISK not in self._pause_switch and time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + LOOK_AT_DISK_SECONDS
        if self._store.enough_space():
            self._trouble = ""
            self._pause_switch.lift(DISK)
        else:
            self._pause_switch.shut(DISK)
            self._trouble = "the disk is nearly full; free some space and it goes on"

    def _hold_back_unpaid(self, news: list[News]) -> list[ReplyArrived | Skipped]:
        """Return what is to commit now; unpaid failures wait until something is answered, or end the run."""
        kept: list[ReplyArrived | Skipped] = []
        for one in news:
            if isinstance(one, WorkerEnded):
                self._note_defect(one)
            elif isinstance(one, ReplyArrived) and one.unpaid:
                # It may be no verdict on its question, and there is nothing to lose.
                self._workers.release()
                self._unpaid_failures.append(one)
                self._queue.finish(one.question)
                self._watch_failures(one)
            else:
                if isinstance(one, ReplyArrived):
                    kept += self._unpaid_failures
                    self._unpaid_failures = []
                    self._watch_failures(one)
                kept.append(one)
        return kept

    def _note_defect(self, one: WorkerEnded) -> None:
        if one.error is not None:
            self._defect = one.error
            self.stop("defect", f"{type(one.error).__name__}: {one.error}")

    def _watch_failures(self, one: ReplyArrived) -> None:
        """End the run where one cause fails again and again, or nothing is answered at all."""
        if one.outcome is None or (one.retried and not one.unpaid):
            return  # to be asked again; or a question that failed before, and says nothing of the others
        failure = one.failure
        self._causes = [] if failure is None else [*self._causes[1 - IN_A_ROW :], failure.cause]
        alike = len(set(self._causes)) == 1 or PAID.isdisjoint(self._causes)
        if failure is not None and alike and len(self._causes) == IN_A_ROW:
            self._unpaid_failures = []
            self.stop("failures", str(failure))

    def _judged(self) -> list[ReplyArrived]:
        """Return the unpaid failures that are a verdict at the end; the others' questions are still to be asked."""
        unpaid_failures, self._unpaid_failures = self._unpaid_failures, []
        verdicts = [one for one in unpaid_failures if one.failure is not None and not one.failure.transient]
        if self.reason == END and len(verdicts) < len(unpaid_failures):
            if self._workers.arrived:
                return unpaid_failures  # the service answers, but not these
            self.stop("failures", str(unpaid_failures[-1].failure))
        return verdicts

    def _commit(self, arrived: Sequence[ReplyArrived | Skipped]) -> None:
        """Make replies durable, then let them count."""
        replies = [news for news in arrived if isinstance(news, ReplyArrived)]
        self._save(lambda: self._store.append([reply.entry for reply in replies]))
        for reply in replies:
            if not reply.unpaid:  # else it was given back when the failure was held back
                self._stored += 1
                self._workers.release()
        for news in arrived:
            if isinstance(news, Skipped):
                self._finish(news.question, None)
                continue
            self._account(news)
            if news.outcome is not None:
                self._finish(news.question, news.outcome, told=news.unpaid)
        if not self._scarce and (self._budget.share or 0) >= WARN_AT:
            self._scarce = True
            self._on_scarce()

    def _account(self, one: ReplyArrived) -> None:
        """Add a stored reply to what a person sees."""
        usage = one.read.reply.usage
        if one.unpaid:
            return
        self._tokens += usage.total_tokens or (usage.prompt_tokens or 0) + (usage.output_tokens or 0)
        if one.read.cost_usd is None:
            self._unpriced += 1
        else:
            self._cost += one.read.cost_usd

    def _finish(self, question: Question, outcome: Outcome | None, *, told: bool = False) -> None:
        """Let a question's outcome count, and those be asked that wait for it, unless they were told before."""
        self._count(question, outcome)
        # Before its records are complete: whoever sees them done finds what they cost in the forecast.
        spent = None if outcome is None else outcome.spent
        self._forecast.finish(question.stage, None if spent is None else spent["cost_usd"])
        for record in self._recorder.learn(question, outcome):
            self._complete(record)
        if not told:
            self._queue.finish(question)

    def _count(self, question: Question, outcome: Outcome | None) -> None:
        """Add an answer to the running counts; nothing is ever gone through again for a display."""
        if outcome is None or outcome.answer is None:
            return
        stage, number = self._work.stages[question.stage], question.number
        self._shared += int(stage.start[number + 1] - stage.start[number]) - 1
        for name, counts in self._levels.items():
            level = str(getattr(outcome.answer, name))  # a stage of one's own may have made it something else
            counts[level if level in counts else NOT_SAID] += 1

    def _complete(self, record: int) -> None:
        row = self._recorder.complete(record)
        self._complete_count += 1
        self._failed += row["_status"] == "failed"

    def _save(self, write: Callable[[], None]) -> None:
        """Write, again and again while the disk refuses; meanwhile no new request starts, and nothing is dropped."""
        while True:
            # Looked at before the last try: a person asked to stop, nothing is in flight, and still no disk.
            last = self._leaving and not self._workers.at_work
            try:
                write()
            except LockedError as error:
                self.stop("store", str(error))
                raise
            except OSError as error:
                self._pause_switch.shut(DISK)
                why = error.strerror or str(error)
                self._trouble = f"the store cannot be written ({why}); trying again"
                if last:
                    raise StoreError(
                        "The store {store} cannot be written: {why}. {count} not saved and "
                        "will be asked, and paid, again. Mend the disk, then run again.",
                        store=self._store.out,
                        why=why,
                        count=many(self.unsaved, "reply is", "replies are"),
                    ) from error
                time.sleep(SAVE_AGAIN_SECONDS)
            else:
                if DISK in self._pause_switch:
                    self._watch_space()
                return

    @property
    def unsaved(self) -> int:
        """Paid replies in memory that are not on the disk yet."""
        return self._workers.arrived - self._stored
