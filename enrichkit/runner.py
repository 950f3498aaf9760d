"""The run: a table enriched, in the foreground by `run` or in the background by `start`, which gives a `Run`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Generator, Iterator
from datetime import datetime
from typing import Any

import pandas as pd

from .api import index_of, named, spent_before, store_of, work_of
from .endings import going_on, why
from .engine.driver import Engine
from .engine.recorder import Book
from .engine.shard_writer import Row
from .errors import Interrupted, SetupError, Stopped, StoreError
from .formatting import many
from .gemini.service import check_call, client_of
from .options import Options, takes
from .planning.estimate import estimate
from .planning.past import read_past
from .planning.plan import choose_stages
from .pricing.prices import amount
from .progress.notify import check_addresses, tell
from .progress.progress import Live, choose, look_around, wanted, warn
from .progress.view import again, headline, is_early, line, next_call, summary_html
from .progress.widget import Controls
from .status import Status
from .store.reader import enriched
from .store.store import Store

WAIT_SECONDS = 0.1
ROWS_AT_ONCE = 500
LEFT_AT_ONCE = "Left at once; requests in flight may be paid again. "
RUNS: weakref.WeakSet[Run] = weakref.WeakSet()
"""The runs of this process; one that was left at once goes on for as long as its last requests take."""
RUNS_CHANGE = threading.Lock()
LAST_WORD_SECONDS = 1.0
"""How long the last line of progress is waited for, so that it stands above what comes next."""


class Run:
    """A run in the background; `enrichkit.start` makes it.

    The store may be read meanwhile, with `enrichkit.read`, here and elsewhere.

    ``await run`` is `result` without blocking.

    Iterating yields the row, a dict of columns, of every record that this run completes: first of those that are
    complete, then of each as it completes, until the run ends. What a record has cost stands in its row once that is
    sealed. An interrupt while the loop waits for the next row ends the run, as one of `result` does. One in the loop's
    own body ends the loop only: the run goes on in the background, and `stop` stops it.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        options: Options,
        *,
        says_why: bool = True,
        reword: Callable[[str], str] = str,
    ) -> None:
        self._options = options
        self._reword = reword
        """Puts the notice into the words of who called, such as the command line's."""
        self._over = threading.Event()
        self._done = threading.Event()
        """Set once the notice of the end is out, too."""
        self._error: BaseException | None = None
        self._process = os.getpid()
        self._closing = contextlib.ExitStack()
        way = choose(wanted(options.progress), look_around())
        stages = choose_stages(options.stages, frame)
        check_call(options, stages)
        check_addresses(options)
        self._let_earlier_ones_end()
        # Every mistake is told before a file is made.
        first = None if options.folder.is_dir() else work_of(frame, index_of(options, stages), options)[0]
        with contextlib.ExitStack() as opening:
            store = store_of(options, stages)
            opening.callback(store.close)
            if store.quarantined:
                warnings.warn(_put_aside(store), stacklevel=4)
            work = first if first and store.index.empty else work_of(frame, store.index, options)[0]
            self._book = Book(work, store, options)
            if self._book.to_read_anew:
                with named(options.folder):
                    self._book.read_anew()
                    store.reload()
                self._book = Book(work_of(frame, store.index, options)[0], store, options)
            if not store.enough_space():
                raise StoreError(
                    f"The disk that holds {options.folder} is nearly full. Free some space, then run again."
                )
            work = self._book.work
            client = opening.enter_context(client_of(options, needed=work.to_ask > 0))
            self._engine = Engine(
                self._book,
                options,
                client=client,
                spent_usd=spent_before(options, store.index, work, self._book.spent_usd),
                on_scarce=lambda: warn(self.status),
            )
            self._closing = opening.pop_all()
        with RUNS_CHANGE:
            RUNS.add(self)
        controls = Controls(lambda: self._engine.stop("stop"), self._engine.pause, self._engine.resume)
        self._live = Live(
            lambda: self.status, self._over, notes=self._last_words if says_why else list, controls=controls
        )
        # From here on it spends: whatever happens to its display, somebody has to have hold of it.
        with self._interruptible():
            threading.Thread(target=self._drive, name="enrichkit-run", daemon=True).start()
            self._live.begin(way)

    def stop(self) -> pd.DataFrame:
        """Ask nothing more, keep what is in flight, and return the table as it stands. An interrupt leaves at once."""
        self._engine.stop("stop")
        self._drain()
        self._raise_defect()
        return self._frame()

    def pause(self) -> None:
        """Send nothing new until `resume`; what is in flight finishes and is stored. `stop` works meanwhile."""
        self._engine.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._engine.resume()

    def show(self) -> None:
        """Show the run here, in the cell or terminal that calls this, as often as you like.

        After the browser has lost its page, this brings the live view back. A run started with ``progress=False`` is
        shown from now on.
        """
        want = wanted("auto")
        self._live.show(choose("auto" if want == "off" else want, look_around()))
        if self._over.is_set():
            self._live.wait(LAST_WORD_SECONDS)

    def result(self) -> pd.DataFrame:
        """Wait for the end and return the enriched table.

        In the main thread, SIGTERM (how a scheduler ends a program) counts as an interrupt.

        Raises
        ------
        Stopped
            If the run ended before everything was asked.
        Interrupted
            If the person interrupted it: once lets requests in flight finish, twice leaves at once.
        """
        with _terminated_as_interrupted(), self._interruptible():
            self._wait()
        return self._finished()

    @property
    def status(self) -> Status:
        """The run at this moment."""
        return self._engine.status

    @property
    def table(self) -> pd.DataFrame:
        """The table as it stands, also while the run is under way: answers count once their record is complete."""
        unsealed = list(self._book.sealing.unsealed_rows())  # before the shards: what is sealed meanwhile is met there
        return enriched(self._book.work, self._options.folder, unsealed)

    @property
    def done(self) -> bool:
        """Whether the run has ended, and the notice of that, if there is one, is out."""
        return self._done.is_set()

    def __await__(self) -> Generator[Any, None, pd.DataFrame]:
        return self._awaited().__await__()

    def __iter__(self) -> Iterator[Row]:
        completed, place = self._book.completed, 0
        with self._interruptible():
            while True:
                running = self._running()  # before the look: so that it misses nothing
                while records := completed[place : place + ROWS_AT_ONCE]:
                    yield from self._book.completed_rows(records)
                    place += len(records)
                if not running:
                    return
                self._done.wait(WAIT_SECONDS)

    def __repr__(self) -> str:
        status, ended = self.status, self._over.is_set()
        told = " ".join([headline(status, ended=ended).lower(), *_as_of(ended=ended)])
        told = f"<enrichkit.Run, {told}: {line(status, ended=ended)}>"
        return f"{told}\n{next_call(status, ended=ended)}"

    def _repr_html_(self) -> str:
        status, ended = self.status, self._over.is_set()
        notes = [*_as_of(ended=ended), *self._notes(), next_call(status, ended=ended)]
        return summary_html(status, ended=ended, notes=notes)

    def _notes(self) -> list[str]:
        """Say why it ended early."""
        if self._error is not None:
            return [f"{type(self._error).__name__}: {self._error}"]
        reason = self._engine.reason
        early = self._over.is_set() and is_early(self.status)
        return [why(*reason).strip()] if early and reason is not None else []

    def _last_words(self) -> list[str]:
        """Say what stays below the cell: why it ended early, and what the same call would do now."""
        return [*self._notes(), *again(self.status)]

    async def _awaited(self) -> pd.DataFrame:
        try:
            await self._ended()
        except asyncio.CancelledError as error:  # how an interrupt reaches a cell that awaits
            self._engine.stop("interrupt")
            told = "Interrupted. "
            try:
                await self._ended()
            except asyncio.CancelledError:
                told = LEFT_AT_ONCE
            # It has to stay a cancellation, whoever asked for it; only what a notebook shows of it is ours.
            setattr(error, "_render_traceback_", self._stopped(Interrupted, told)._render_traceback_)  # noqa: B010
            raise
        return self._finished()

    async def _ended(self) -> None:
        while self._running():
            await asyncio.sleep(WAIT_SECONDS)

    def _running(self) -> bool:
        """Whether the end is still to come; to a forked process, which has a copy without threads, it never would."""
        if self._process != os.getpid() and not self.done:
            raise SetupError(
                f"This run belongs to process {self._process}, and this is a copy of it that was forked off, in which "
                "it never ends. Wait for it there; enrichkit.read(out) has here what is stored."
            )
        return not self.done

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let an interrupt end the run: once lets requests in flight finish, twice leaves at once."""
        try:
            yield
        except KeyboardInterrupt:
            self._engine.stop("interrupt")
            self._drain()
            self._raise_defect()
            raise self._stopped(Interrupted, "Interrupted. ") from None

    def _drain(self) -> None:
        """Wait for what is in flight; an interrupt leaves at once."""
        try:
            self._wait()
        except KeyboardInterrupt:
            raise self._stopped(Interrupted, LEFT_AT_ONCE) from None

    def _let_earlier_ones_end(self) -> None:
        """Wait for runs of this process that are about to let the store go, such as one that was left at once."""
        with RUNS_CHANGE:
            ours = [one for one in RUNS if one._options.folder == self._options.folder and not one.done]
        for one in ours:
            if one._engine.reason is not None:
                warnings.warn(
                    f"The run before on {one._options.folder} is stopped, but not over: it waits for "
                    f"{many(one.status.in_flight, 'request')} in flight. This one begins when they are stored.",
                    stacklevel=5,
                )
                one._drain()

    def _wait(self) -> None:
        # Event.wait in a loop, never Thread.join: on Python 3.11 an interrupted join forgets that the thread lives.
        while self._running():
            self._done.wait(WAIT_SECONDS)
        self._live.wait(LAST_WORD_SECONDS)

    def _drive(self) -> None:
        try:
            self._engine.drive()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error
        finally:
            try:
                self._closing.close()
            finally:
                self._over.set()
                tell(self._options, lambda: self.status, self._error, reword=self._reword)
                self._done.set()

    def _finished(self) -> pd.DataFrame:
        self._raise_defect()
        reason = self._engine.reason
        if reason is not None and reason[0] != "stop":
            raise self._stopped(Stopped, why(*reason))
        return self._frame()

    def _raise_defect(self) -> None:
        if self._error is not None:
            raise self._error

    def _frame(self) -> pd.DataFrame:
        unsealed = [*self._book.sealing.unsealed_rows(), *self._book.partial_rows()]
        return enriched(self._book.work, self._options.folder, unsealed)

    def _stopped(self, kind: type[Stopped], told: str) -> Stopped:
        status = self.status
        reason = self._engine.reason[0] if self._engine.reason else "interrupt"
        rest = f"{self._rest()}Prices: {status.prices}. " if reason == "budget" else ""
        failed = f"{status.failed:,} failed, " if status.failed else ""
        return kind(
            f"{told}{status.done:,} of {many(status.records, 'record is', 'records are')} done and saved, "
            f"{failed}{many(status.left, 'is', 'are')} left. "
            f"{rest}{going_on(reason) if status.left else 'The same call returns the table'}.",
            reason=reason,
            done=status.done + status.failed,
            left=status.left,
        )

    def _rest(self) -> str:
        """Say what the rest will cost, by what this run's questions have cost; before any has, as a plan would."""
        status = self.status
        rest = status.rest_usd
        if rest is None and not status.unpriced:
            with contextlib.suppress(OSError):  # the store may be what ended the run
                past = read_past(self._options.folder, self._book.work.stages, self._options.prices)
                about = estimate(self._book.work, past, self._options)
                rest = None if about.cost_usd is None else about.cost_usd[1]
        return f"They will cost about {amount(rest)} USD more. " if rest and status.left else ""


@takes(Options)
def run(df: pd.DataFrame, options: Options) -> pd.DataFrame:
    """Enrich a table: plan, ask, store; return the rows with their cells filled in.

    Call it again, with the same arguments, to go on after any end: only what is missing is asked.

    Parameters
    ----------
    df : DataFrame
        One row per record. Index, order and other columns come back untouched.
    out : str or Path
        The folder of the shards, checkpoint and output in one; ``<out>.work`` lies beside it.
    stages : sequence of str or Stage
        What is asked of each record: ``"poc"``, ``"fund"``, ``"deep"``, or stages of your own.
    key : str or sequence of str, optional
        The columns that identify a record; default: fund title, first and last name.
    model : str
        The model, or ``"simulator"``: no key, no cost, same wire.
    client : str or callable
        ``"google-genai"``, ``"google-generativeai"``, or any callable `Request` → `Reply`.
    workers : int
        Requests at a time, 1 to 20; more need an explicit ``rpm``.
    rpm : float, optional
        Requests a minute at most; default: learned from the service's refusals.
    budget_usd : float, optional
        Never spend more on this store, what earlier runs spent included. Replies are counted at list price, and a
        request that may have been charged without one (silence, a broken connection) at its worst case, for as long as
        the run lasts. Once 80 % of it is spent, the logger ``enrichkit`` says so, once a run.
    prices : mapping of str to Price, optional
        Prices of your own, by model.
    retry_failed : bool or "only"
        Ask the failed stages of failed records again; ``"only"``: and leave all other records for a later call.
    on_change : {"refuse", "redo", "keep"}
        What to do where a stage now asks another question than the one that was answered.
    redo_damaged : bool
        Put a shard that fails its checksum aside, and ask for its records again.
    limit : int, optional
        At most so many records in this call; the rest stays pending.
    priority : str or callable, optional
        A column, or a function of the table, with a number per record; the highest are asked first.
    shard_rows : int
        Rows per shard.
    deadline_seconds : float
        For one request, tries and waits after errors included, waiting for the pace not; the first try has half of it.
        An answer that cannot be read is asked for anew, with a deadline of its own.
    notify : str or list of str, optional
        Where a short notice goes when the run ends, however it ends: addresses of `apprise`, for Slack, Discord, email,
        a webhook, ... (needs ``pip install 'enrichkit[notify]'``). One each, with counts, cost, the store's path and
        what to do next; no record's text. None is sent by a call that found everything done, and by one that is refused
        before it begins. A notice that fails is a warning of the logger ``enrichkit``, and holds the end up for 10 s at
        most. The address is a secret: keep it in the environment variable ``ENRICHKIT_NOTIFY`` (several with blanks
        between them), which counts where ``notify`` is None; an empty list means no notice at all.
    progress : {"auto", "widget", "html", "text", False}
        How the run shows itself. ``"widget"``: a live view with buttons, in a notebook; ``"html"``: the same without
        buttons or ipywidgets; ``"text"``: a line every five seconds; ``False``: not at all. ``"auto"`` takes what the
        environment variable ``ENRICHKIT_PROGRESS`` says (one of these words, or ``off``), else the widget in a
        notebook, text where nobody sits before it (papermill, nbclient, a log), and a bar in a terminal. What cannot be
        had falls back to the next best. In a notebook a static summary is left at the end.
    delay_seconds : float
        Ask a record's stages one after the other, with so long a wait between them. The pace does what that is often
        meant for.

    Returns
    -------
    DataFrame
        The rows of ``df`` with empty cells filled in, the columns that were asked for, ``_status``, and each stage's
        ``_status`` and ``_confidence``. Everything else that is known is in the store: see `read`.

    Raises
    ------
    InputError, StageError, SetupError, MissingKeyError
        Before any request, if something about the call cannot work.
    ChangedError
        If a stage's question changed and ``on_change`` is "refuse".
    StoreError, LockedError, DamagedError
        If the store cannot be used.
    Stopped
        If the run ended early; the same call goes on later.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"], "fund.country": ["Norway"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)["_status"].tolist()
    ['done']
    """
    with _terminated_as_interrupted():  # from before the first request: a display may take its time to come up
        return Run(df, options).result()


@takes(Options)
def start(df: pd.DataFrame, options: Options) -> Run:
    """Start `run` in the background and return at once, with a `Run`: pause, resume, stop, show or await it.

    Parameters
    ----------
    df : DataFrame
        One row per record.
    progress : {"auto", "widget", "html", "text", False}
        As in `run`. In a notebook it is a live view with buttons, below the cell that started it and wherever
        `Run.show` is called, until a static summary takes its place.
    notify : str or list of str, optional
        As in `run`, as are all other arguments: the notice goes out when the run ends, also when nobody waits for it.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"]})
    >>> job = enrichkit.start(df, model="simulator", out=tempfile.mkdtemp() + "/enriched", progress=False)
    >>> job.result()["fund._status"].tolist()
    ['done']
    """
    # A copy: what the caller does to it meanwhile must not move the answers to other rows.
    return Run(df.copy() if isinstance(df, pd.DataFrame) else df, options)


def _as_of(*, ended: bool) -> list[str]:
    """Return when it was so, while it runs: a notebook keeps what it shows."""
    return [] if ended else [f"as of {datetime.now():%Y-%m-%d %H:%M:%S}"]


def _put_aside(store: Store) -> str:
    count = len(store.quarantined)
    return (
        f"{many(count, 'damaged file was', 'damaged files were')} put aside in {store.quarantined[0].parent}; what was "
        "in there is asked, and paid, again."
    )


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
