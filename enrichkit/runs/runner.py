"""The run: a table enriched, in the foreground by `run` or in the background by `start`, which gives a `Run`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from typing import Any

import pandas as pd

from ..engine.shard_writer import Row
from ..errors import Stopped
from ..formatting import PYTHON, many
from ..progress.notify import notify
from ..progress.screens import Controls, Live, point_out, way_to_show
from ..progress.view import again, as_of, html_view, is_early, next_call, snapshot
from ..status import BY_A_PERSON, Status, stop_reason_text
from ..store.reader import enriched
from .lifecycle import open_engine, same_call, stopped, terminated_as_interrupted
from .options import Options
from .seam import Opener
from .waiting import WAIT_SECONDS, Waiting

ROWS_AT_ONCE = 500
RUNS: weakref.WeakSet[Run] = weakref.WeakSet()
"""The runs of this process; one that was left at once goes on for as long as its last requests take."""
RUNS_CHANGE = threading.Lock()
LAST_WORD_SECONDS = 1.0
"""How long the last line of progress is waited for, so that it stands above what comes next."""


class Run:
    """A run in the background; `enrichkit.start` makes it.

    The store may be read meanwhile, with `enrichkit.read`, here and elsewhere.

    ``await run`` is `result` without blocking, and ``async for row in run`` is ``for row in run``: the buttons of the
    live view answer meanwhile.

    Iterating yields the row, a dict of columns, of every record that this run completes: first of those that are
    complete, then of each as it completes, until the run ends. What a record has cost stands in its row once that is
    sealed. An interrupt while the loop waits for the next row ends the run, as one of `result` does. One in the loop's
    own body ends the loop only: the run goes on in the background, and `stop` stops it.

    Its eight public names are the buttons of the live view and what a notebook asks of a run, each in a word.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
    >>> job = enrichkit.start(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> [row["_status"] for row in job], job.done
    (['done'], True)
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        options: Options,
        *,
        opened: Opener = open_engine,
        says_why: bool = True,
        spelling: Mapping[str, str] = PYTHON,
    ) -> None:
        self._given, self._options, self._spelling = frame, options, spelling
        self._over = threading.Event()
        self._done = threading.Event()
        """Set once the notification of the end is out, too."""
        self._error: BaseException | None = None
        way = way_to_show(options.progress)
        with contextlib.ExitStack() as opening:
            self._engine, self._recorder = opened(frame, options, opening)
            for said in self._recorder.plan.warnings if says_why else ():
                point_out(said)
            self._closing = opening.pop_all()
        self._waiting = Waiting(
            self._done,
            stop=self._engine.stop,
            last_word=lambda: self._live.wait(LAST_WORD_SECONDS),
            check=self._raise_defect,
            stopped=self._stopped,
        )
        controls = Controls(
            stop=self._engine.stop,
            pause=self._engine.pause,
            resume=self._engine.resume,
            blocked=lambda: self._waiting.blocks,
        )
        # What stays below the cell: why it ended early, and what the same call would do now.
        notes = (lambda: [*self._why(), *filter(None, [again(self.status)])]) if says_why else list
        self._live = Live(lambda: self.status, self._over, notes=notes, controls=controls)
        # From here on it spends: whatever happens to its display, somebody has to have hold of it.
        with self._waiting.interruptible():
            try:
                threading.Thread(target=self._drive, name="enrichkit-run", daemon=True).start()
            except RuntimeError:  # this machine has no thread left
                self._closing.close()
                raise
            with RUNS_CHANGE:
                RUNS.add(self)
            self._live.begin(way)
            if not self._recorder.plan.to_ask:  # it ends at once: shown below this cell, rather than between two
                self._over.wait(LAST_WORD_SECONDS)
                self._live.wait(LAST_WORD_SECONDS)

    def stop(self) -> pd.DataFrame:
        """Ask nothing more, keep what is in flight, and return the table as it stands. An interrupt leaves at once.

        Returns
        -------
        DataFrame
            As `table`.

        Raises
        ------
        StoreError
            If the store could not be written.
        Interrupted
            If it was interrupted while requests were in flight.

        Examples
        --------
        >>> import pandas as pd, enrichkit, tempfile
        >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
        >>> job = enrichkit.start(df, model="simulator", stages=["fund"], out=out, progress=False)
        >>> job.stop()["_status"].tolist() in (["done"], ["pending"])
        True
        """
        self._waiting.end("stop")
        return self._at_the_end()

    def pause(self) -> None:
        """Send nothing new until `resume`; what is in flight finishes and is stored. `stop` works meanwhile.

        Examples
        --------
        >>> import pandas as pd, enrichkit, tempfile
        >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
        >>> job = enrichkit.start(df, model="simulator", stages=["fund"], out=out, progress=False)
        >>> job.pause()
        >>> job.resume()
        >>> job.result()["_status"].tolist()
        ['done']
        """
        self._engine.pause()

    def resume(self) -> None:
        """Go on after `pause`; without one, nothing happens.

        Examples
        --------
        >>> import pandas as pd, enrichkit, tempfile
        >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
        >>> job = enrichkit.start(df, model="simulator", stages=["fund"], out=out, progress=False)
        >>> job.resume()
        >>> job.result()["_status"].tolist()
        ['done']
        """
        self._engine.resume()

    def show(self) -> None:
        """Show the run here, in the cell or terminal that calls this, as often as you like.

        After the browser has lost its page, this brings the live view back. A run started with ``progress=False`` is
        shown from now on.

        Examples
        --------
        >>> import pandas as pd, enrichkit, tempfile
        >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
        >>> job = enrichkit.start(df, model="simulator", stages=["fund"], out=out, progress=False)
        >>> _ = job.result()
        >>> job.show()
        """
        self._live.show(way_to_show("auto") or way_to_show("widget"))  # the environment may say that nothing is shown
        if self._over.is_set():
            self._live.wait(LAST_WORD_SECONDS)

    def result(self) -> pd.DataFrame:
        """Wait for the end and return the enriched table.

        In the main thread, SIGTERM (how a scheduler ends a program) counts as an interrupt.

        Returns
        -------
        DataFrame
            As of `enrichkit.run`.

        Raises
        ------
        Stopped
            If the run ended before everything was asked.
        Interrupted
            If the person interrupted it: once lets requests in flight finish, twice leaves at once.

        Examples
        --------
        >>> import pandas as pd, enrichkit, tempfile
        >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
        >>> job = enrichkit.start(df, model="simulator", stages=["fund"], out=out, progress=False)
        >>> job.result()["_status"].tolist()
        ['done']
        """
        with terminated_as_interrupted(), self._waiting.interruptible():
            self._waiting.wait()
        return self._finished()

    @property
    def status(self) -> Status:
        """The run at this moment."""
        return self._engine.status

    @property
    def table(self) -> pd.DataFrame:
        """The table as it stands, also while the run is under way: answers count once their record is complete."""
        plan, options = self._recorder.plan, self._options
        rows, schema = self._recorder.unsealed()  # before the shards are read: what is sealed meanwhile is met there
        stages = [questions.stage for questions in plan.stages]
        known = {"key": plan.key, "ids": plan.ids, "record": plan.record, "rows": rows, "schema": schema}
        return enriched(options.folder, plan.frame, stages=stages, names=options.names, **known)

    @property
    def done(self) -> bool:
        """Whether the run has ended, and the notification of that, if there is one, is out."""
        return self._done.is_set()

    def __await__(self) -> Generator[Any, None, pd.DataFrame]:
        return self._awaited().__await__()

    def __iter__(self) -> Iterator[Row]:
        with self._waiting.interruptible():
            for row in self._rows():
                if row is None:
                    self._done.wait(WAIT_SECONDS)
                else:
                    yield row

    async def __aiter__(self) -> AsyncIterator[Row]:
        for row in self._rows():
            async with self._waiting.cancellable():
                await asyncio.sleep(WAIT_SECONDS if row is None else 0)
            if row is not None:
                yield row

    def _rows(self) -> Iterator[Row | None]:
        """Yield the row of every record that is completed, and None whenever the next is not yet, until the end."""
        place = 0
        while True:
            done = self.done  # before the look: so that it misses nothing
            completed = self._recorder.completed
            while records := completed[place : place + ROWS_AT_ONCE]:
                yield from self._recorder.completed_rows(records, self._options.names)
                place += len(records)
            if done:
                return
            yield None

    def __repr__(self) -> str:
        return snapshot(self.status, ended=self._over.is_set())

    def _repr_html_(self) -> str:
        status, ended = self.status, self._over.is_set()
        notes = [*as_of(ended=ended), *self._why(), *self._recorder.plan.warnings, next_call(status, ended=ended)]
        return html_view(status, ended=ended, notes=notes)

    def _why(self) -> list[str]:
        """Say why it ended early."""
        if self._error is not None:
            return [f"{type(self._error).__name__}: {self._error}"]
        reason, early = self._engine.reason, self._over.is_set() and is_early(self.status)
        return [] if not early or reason is None or reason[0] in BY_A_PERSON else [stop_reason_text(*reason).strip()]

    async def _awaited(self) -> pd.DataFrame:
        async with self._waiting.cancellable():
            await self._waiting.ended()
        return self._finished()

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
                options = self._options
                notify(options.addresses, options.folder, lambda: self.status, self._error, spelling=self._spelling)
                self._done.set()

    def _finished(self) -> pd.DataFrame:
        self._raise_defect()
        reason = self._engine.reason
        if reason is not None and reason[0] != "stop":
            raise self._stopped(Stopped, stop_reason_text(*reason))
        return self._at_the_end()

    def _raise_defect(self) -> None:
        if self._error is not None:
            raise self._error

    def _at_the_end(self) -> pd.DataFrame:
        self._live.sign_off()
        return self.table

    def _stopped(self, kind: type[Stopped], how: str) -> Stopped:
        reason, recorder = self._engine.reason[0] if self._engine.reason else "interrupt", self._recorder
        return stopped(kind, how, reason=reason, status=self.status, plan=recorder.plan, options=self._options)


def begin(frame: pd.DataFrame, options: Options, *, opened: Opener = open_engine) -> Run:
    """Return a call's run: a new one, or the one of the same call in this process, shown here, which is under way.

    Those that are about to let the store go, such as one that was left at once, are waited for.
    """
    with RUNS_CHANGE:
        earlier = [run for run in RUNS if run._options.folder == options.folder and not run._over.is_set()]
    for run in earlier:
        if run._engine.reason is not None:
            warnings.warn(
                f"The run before on {options.folder} is stopped, but not over: it waits for "
                f"{many(run.status.traffic.in_flight, 'request')} in flight. This one begins when they are stored.",
                stacklevel=4,
            )
            run._waiting.drain()
        elif same_call(options, run._options) and frame.equals(run._given):
            run._live.begin(way_to_show(options.progress))
            return run
    return Run(frame, options, opened=opened)
