"""The engine: one run from its first question to its last seal; no answer that was paid for is lost.

The workers' replies go to one writer, the thread that calls `Engine.drive`. It commits them in groups, as many as have
arrived since its last commit, and only then gives their permits back: so at most ``workers + 2`` are ever unsaved.
Their records are completed when nothing else waits to be committed. Whatever ends a run early ends it here.

It knows its watchers only as callables, and leaves asking to the workers, counting to the tally, waiting to the pace.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from ..errors import LockedError, StoreError
from ..formatting import many, plain
from ..pricing.budget import DurableBudget
from ..status import BY_A_PERSON, WARN_AT, Status, Traffic
from .pace import RateLimiter
from .queue import QuestionQueue
from .recorder import Recorder
from .tally import NO_SEARCH_AFTER, FailureStreak, PauseSwitch, Stopwatch, Tally
from .workers import Asking, News, ReplyArrived, Skipped, WorkerEnded, Workers

SAVE_AGAIN_SECONDS = 0.5
LOOK_AT_DISK_SECONDS = 0.2
SEAL_SECONDS = 5.0
"""So often all complete records are sealed, full shard or not, for those who read the store meanwhile."""
SEAL_SHARE = 20
"""Sealing them takes at most one second in so many."""
DISK, SEALS, PAUSE = "disk", "seals", "pause"
"""Why no new request starts for now; all must be over."""
LONGEST_PROBLEM = 160
END = ("end", "")
"""The reason of a run that has asked everything."""


class Engine:
    """One run's asking; ``on_scarce`` is called once, in the writer's thread, when most of the budget is spent."""

    def __init__(
        self,
        recorder: Recorder,
        asking: Asking,
        *,
        budget: DurableBudget,
        delay_seconds: float,
        on_scarce: Callable[[], None],
    ) -> None:
        self._plan = recorder.plan
        self._recorder = recorder
        self._store = recorder.store
        self._budget = budget
        self._on_scarce = on_scarce
        self._scarce = False
        self._limiter = RateLimiter(rpm=asking.rpm, patience_seconds=asking.patience_seconds)
        self._queue = QuestionQueue(self._plan, delay_seconds=delay_seconds, most=asking.workers)
        self._inbox: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._pause_switch = PauseSwitch()
        self._workers = Workers(
            recorder,
            self._queue,
            asking,
            limiter=self._limiter,
            budget=budget,
            opened=self._pause_switch.opened,
            stopped=self._stop,
            pass_on=self._inbox.put,
            end_run=self.stop,
        )
        self.reason: tuple[str, str] | None = None
        """Why the run ends early, and in the words of what ended it; None if it does not."""
        self._leaving = False
        self._defect: BaseException | None = None
        self._held_back: list[ReplyArrived] = []
        self._committed: deque[ReplyArrived | Skipped] = deque()
        """The outcomes that are durable, while their records are not complete yet."""
        self._streak = FailureStreak()
        self._stored = 0
        self._tally = Tally(self._plan, budget, asking.prices)
        self._stopwatch = Stopwatch()
        self._pausing = threading.Lock()  # buttons are answered in threads of their own
        self._trouble, self._look_again_at = "", 0.0
        self._seal_at = time.monotonic() + SEAL_SECONDS

    def stop(self, reason: str = "stop", message: str = "") -> None:
        """Send nothing more; what is in flight is kept. The first reason stands, and none that comes after the end."""
        if self._stopwatch.ended:
            return
        if self.reason in (None, END):
            self.reason = (reason, message)
        self._leaving |= reason in BY_A_PERSON
        self._stop.set()
        self._queue.close()
        self._workers.wake()

    def pause(self) -> None:
        """Start nothing new until `resume`; what is in flight finishes and is stored."""
        with self._pausing:
            if not self._stop.is_set():
                self._stopwatch.pause()
                self._pause_switch.shut(PAUSE)

    def resume(self) -> None:
        """Go on after a pause."""
        with self._pausing:
            self._stopwatch.resume()
            self._pause_switch.lift(PAUSE)

    @property
    def status(self) -> Status:
        """The run at this moment."""
        tally, pace, workers = self._tally, self._limiter.view, self._workers
        sent = {"workers": workers.count, "requests": workers.requests, "in_flight": workers.in_flight}
        left, busy = tally.records - tally.complete, self._stopwatch.busy_seconds
        rate = tally.complete / busy if busy > 0 else 0.0
        return Status(
            records=tally.records,
            done=tally.complete - tally.failed,
            failed=tally.failed,
            left=left,
            later=self._plan.later,
            shared=tally.shared,
            searching=sum(tally.searching.values()),
            unsearched=sum(tally.unsearched.values()),
            checks_failed=tally.checks_failed,
            seconds=self._stopwatch.seconds,
            rate_per_second=rate,
            left_seconds=left / rate if rate else None,
            waiting=self._trouble or (str(pace) if pace.waiting_seconds else ""),
            paused=self._stopwatch.paused and not self._stop.is_set(),
            stopping=self.reason[0] if self.reason else None,
            problem=plain(": ".join(map(str, workers.problem or ())), LONGEST_PROBLEM),
            stored=len(self._plan.ids) - tally.records - self._plan.later,
            latest=tally.latest,
            money=tally.money(simulated=workers.simulated is True),
            traffic=Traffic(**sent, tokens=tally.tokens, unsaved=self.unsaved),
            levels=tally.levels,
            pace=pace,
        )

    @property
    def unsaved(self) -> int:
        """Paid replies in memory that are not on the disk yet."""
        return self._workers.arrived - self._stored

    def drive(self) -> None:
        """Ask everything, commit every reply, seal every complete record. The thread that calls this is the writer."""
        try:
            self._ask_all()
        except BaseException as error:
            self.reason = ("store" if isinstance(error, StoreError) else "defect", f"{type(error).__name__}: {error}")
            raise
        finally:
            self._stop.set()  # whatever came in between: nothing is left to pause
            self._stopwatch.end()

    def _ask_all(self) -> None:
        for record in self._recorder.complete_already():
            self._complete(record)
            self._save(self._recorder.shard_writer.seal)
            if self._stop.is_set():
                break
        for stage in self._plan.stages:
            if stage.stage.prepare and not stage.known.all():
                stage.stage.prepare()
        self._save(self._budget.note)
        ended = self._workers.start()
        try:
            self._write_all()
        finally:
            refused = self._workers.doubt.refused
            self.stop(*(END if refused is None else ("search_quota", refused)))
            self.resume()  # a pause while the last requests were in flight
            for _ in ended:
                pass
            self._rescue()
        self._commit(self._verdicts())
        self._finish(everything=True)
        self._pause_switch.lift(SEALS)
        self._save(lambda: self._recorder.shard_writer.seal(everything=True))
        if self._tally.complete:
            self._save(self._recorder.shard_writer.widen)
        self._save(self._recorder.shard_writer.copy_decisions)
        if self._defect is not None:
            raise self._defect
        with contextlib.suppress(OSError, LockedError):  # all is stored; a note that stands counts too much at worst
            self._budget.end()
        if self.reason == END:
            self.reason = None

    def _write_all(self) -> None:
        while self._workers.at_work or self._committed or not self._inbox.empty():
            self._watch_space()
            try:
                news = [self._inbox.get(timeout=LOOK_AT_DISK_SECONDS)]
            except queue.Empty:
                news = []
            # Bounded by the size seen: draining until empty could go on for seconds at full speed.
            news += [self._inbox.get() for _ in range(self._inbox.qsize())]
            self._commit(self._hold_back_unpaid(news))
            self._save(self._budget.note)
            self._finish()
            self._seal()

    def _seal(self) -> None:
        """Seal full shards, and every few seconds all that is complete; what fails is tried again a little later."""
        began = time.monotonic()
        due = began >= self._seal_at and DISK not in self._pause_switch
        if SEALS in self._pause_switch and not due:
            return
        self._save(lambda: self._recorder.shard_writer.seal(everything=due), pause=SEALS)
        if SEALS in self._pause_switch:
            self._seal_at = began + SAVE_AGAIN_SECONDS
        elif due:
            ended = time.monotonic()
            self._seal_at = ended + max(SEAL_SECONDS, SEAL_SHARE * (ended - began))

    def _rescue(self) -> None:
        """Store what arrived after the writer failed, if it did: it is paid for. And miss no worker's last word."""
        news = [self._inbox.get() for _ in range(self._inbox.qsize())]
        for event in news:
            if isinstance(event, WorkerEnded):
                self._note_defect(event)
        entries = [event.entry for event in news if isinstance(event, ReplyArrived) and not event.unpaid]
        with contextlib.suppress(OSError, LockedError):  # most likely what ended the writer, and reported already
            self._store.append(entries)

    def _watch_space(self) -> None:
        """Let no new request start while the disk is nearly full: those in flight still have to be written."""
        if not self._trouble and time.monotonic() < self._look_again_at:
            return
        self._look_again_at = time.monotonic() + LOOK_AT_DISK_SECONDS
        if self._store.enough_space():
            self._trouble = self._trouble if SEALS in self._pause_switch else ""
            self._pause_switch.lift(DISK)
        else:
            self._pause_switch.shut(DISK)
            self._trouble = "the disk is nearly full; free some space and it goes on"

    def _hold_back_unpaid(self, news: Sequence[News]) -> list[ReplyArrived | Skipped]:
        """Return what is to be committed now; unpaid failures wait until something is answered, or end the run."""
        due: list[ReplyArrived | Skipped] = []
        for event in news:
            if isinstance(event, WorkerEnded):
                self._note_defect(event)
            elif isinstance(event, Skipped):
                due.append(event)
            elif event.unpaid:
                # It may be no verdict on its question, and there is nothing to lose.
                self._workers.release()
                self._held_back.append(event)
                self._queue.finish(event.question)
                self._watch_failures(event)
            else:
                due += [*self._held_back, event]
                self._held_back = []
                self._watch_failures(event)
        return due

    def _note_defect(self, ended: WorkerEnded) -> None:
        if ended.error is not None:
            self._defect = ended.error
            self.stop("defect", f"{type(ended.error).__name__}: {ended.error}")

    def _watch_failures(self, arrived: ReplyArrived) -> None:
        """End the run where one cause fails again and again, or nothing is answered at all."""
        if arrived.outcome is None or (arrived.retried and not arrived.unpaid):
            return  # to be asked again; or a question that failed before, and says nothing of the others
        if self._streak.ends_run(arrived.failure):
            self._held_back = []
            self.stop("failures", str(arrived.failure))

    def _verdicts(self) -> list[ReplyArrived]:
        """Return the unpaid failures that are final at the end; the others' questions are still to be asked."""
        held_back, self._held_back = self._held_back, []
        if self.reason == END and self._workers.arrived:
            return held_back  # the service answers, but not these
        final = [arrived for arrived in held_back if arrived.failure is not None and not arrived.failure.transient]
        if self.reason == END and len(final) < len(held_back):
            self.stop("failures", str(held_back[-1].failure))
        return final

    def _commit(self, events: Sequence[ReplyArrived | Skipped]) -> None:
        """Make replies durable, give their permits back, and count them; their records can wait."""
        arrived = [event for event in events if isinstance(event, ReplyArrived)]
        self._save(lambda: self._store.append([reply.entry for reply in arrived]))
        paid = [reply.read for reply in arrived if not reply.unpaid]
        self._stored += len(paid)
        self._workers.release(len(paid))  # the others' were given back when they were held back
        for read in paid:
            self._tally.add_reply(read)
        for event in events:
            if isinstance(event, Skipped) or event.outcome is not None:
                # Before its records are complete: whoever sees them done finds what they cost in the forecast.
                self._tally.add_outcome(event.question, event.outcome)
                self._committed.append(event)
        if stage := self._tally.never_searches:
            self.stop("no_search", f"the first {NO_SEARCH_AFTER} answers of stage {stage!r}")
        if not self._scarce and (self._budget.share or 0) >= WARN_AT:
            self._scarce = True
            self._on_scarce()

    def _finish(self, *, everything: bool = False) -> None:
        """Complete the records of what is committed, as long as nothing else has arrived, or they fall behind."""
        while self._committed and (everything or self._inbox.empty() or len(self._committed) > self._workers.count):
            event = self._committed.popleft()
            for record in self._recorder.learn(event.question, event.outcome):
                self._complete(record)
            if not event.unpaid:
                self._queue.finish(event.question)

    def _complete(self, record: int) -> None:
        self._tally.add_record(self._recorder.complete(record))

    def _save(self, write: Callable[[], None], *, pause: str = DISK) -> None:
        """Write, again and again while the disk refuses; meanwhile no new request starts, and nothing is dropped."""
        while True:
            # Looked at before the last try: a person asked to stop, nothing is in flight, and still no disk.
            last = self._leaving and not self._workers.at_work
            try:
                write()
                break
            except LockedError as error:
                self.stop("store", str(error))
                raise
            except OSError as error:
                self._pause_switch.shut(pause)
                why = error.strerror or str(error)
                self._trouble = f"the store cannot be written ({why}); trying again"
                if pause == SEALS:
                    return  # the caller tries again: what arrives meanwhile must be stored
                if last:
                    raise StoreError(
                        "The store {store} cannot be written: {why}. {count} not saved and "
                        "will be asked, and paid, again. Fix the disk, then run again.",
                        store=self._store.out,
                        why=why,
                        count=many(self.unsaved, "reply is", "replies are"),
                    ) from error
                time.sleep(SAVE_AGAIN_SECONDS)
        if pause == SEALS:
            self._pause_switch.lift(SEALS)
        if self._trouble:
            self._watch_space()
