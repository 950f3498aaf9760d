"""What runs on a worker of the cluster: one part's engine, which goes by a lease and says how far it is."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa

from ..engine.driver import Engine
from ..engine.recorder import Recorder, Share
from ..errors import EnrichError, LockedError, SetupError, StoreError
from ..runs.lifecycle import open_engine
from ..runs.options import Options
from ..store.files import work_area
from ..table.parquet import read_parquet
from .leases import BEATS_EVERY_SECONDS, Grant, Lease
from .parts import ROWS

ALONE_SECONDS = 10.0
"""So long without a word of the run it goes on, sending nothing; then it ends."""
ALONE = ("stop", "nothing is heard of the run")
"""Why it ends then; the run, if it is still there, has the part asked on."""
LOCKED_SECONDS = 60.0
"""So long a part is waited for that another worker holds: it may be one that is cut off, and ends soon."""


def ask_part(
    folder: Path, settings: bytes, *, parts: int, schema: pa.Schema, run: str, task: str
) -> tuple[str, str] | None:
    """Ask what a part has to ask, in this process, which has the key in its environment.

    It returns why it has ended early, if so. What is refused before a request is raised, with the worker's address.
    """
    from distributed import get_worker

    _prepare(get_worker())
    lease = Lease()
    try:
        options = Options(out=folder, progress=False, notify=[], **_unpacked(settings))
        rows = read_parquet(work_area(folder) / ROWS)
        if rows is None:
            raise StoreError("The rows in {area} cannot be read.", area=work_area(folder))
        frame = rows.to_pandas(types_mapper=pd.ArrowDtype)  # else each part would find types of its own
        share = Share(lambda: lease.rpm(time.monotonic()), parts, schema)
        with contextlib.ExitStack() as opening:
            until = time.monotonic() + LOCKED_SECONDS
            while True:
                try:
                    engine, recorder = open_engine(frame, options, opening, share=share)
                    break
                except LockedError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(BEATS_EVERY_SECONDS)
            with _in_touch(engine, recorder, lease, run=run, facts={"part": folder.name, "task": task}):
                engine.drive()
                if engine.reason is None:  # also where nothing was asked: all parts have one schema
                    recorder.shard_writer.widen()
    except EnrichError as error:
        said = getattr(error, "sentence", error)
        raise type(error)("{said} (On the worker {worker}.)", said=said, worker=get_worker().address) from None
    return engine.reason


def _unpacked(settings: bytes) -> dict[str, Any]:
    """Return a call's settings. Dask would not survive what it cannot load: it loses worker after worker by it."""
    try:
        unpacked: dict[str, Any] = pickle.loads(settings)
    except Exception as error:  # noqa: BLE001 - whatever a module of the user's does
        raise SetupError(
            "The call's client, stages or checks cannot be loaded: {reason}. They have to be importable there, too.",
            reason=error,
        ) from None
    return unpacked


def _prepare(worker: Any) -> None:
    """Let neither dask's sampling of stacks stop a process for ever, nor an interrupt that is for another end it.

    The first happens on Python 3.11 (CPython's #106883). Terminals and Jupyter send an interrupt to the processes of a
    LocalCluster, too, and what they have in flight would be lost.
    """
    profiler = worker.periodic_callbacks.get("profile")
    if sys.version_info < (3, 12) and profiler is not None:
        worker.loop.add_callback(profiler.stop)
    if multiprocessing.parent_process() and worker.thread_id == threading.main_thread().ident:  # its nanny ends it
        worker.loop.add_callback(signal.signal, signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _in_touch(
    engine: Engine, recorder: Recorder, lease: Lease, *, run: str, facts: Mapping[str, str]
) -> Iterator[None]:
    """Say four times a second how far the engine is, and do what the run says in return."""
    from distributed import get_client, get_worker

    worker, client = get_worker(), cast(Any, get_client())
    name, over = uuid.uuid4().hex, threading.Event()
    topic = f"enrichkit-{worker.address}-{threading.get_ident()}"  # few of them: the scheduler forgets none
    heard_at, lock = [time.monotonic()], threading.Lock()

    def hear(event: tuple[float, Mapping[str, Any]]) -> None:
        said = event[1]
        if (grant := said["grants"].get(name)) is None:
            return
        with lock:
            heard_at[0] = now = time.monotonic()
            lease.take(Grant(*grant), now)
        if said["stop"]:
            engine.stop()
        elif said["paused"] != engine.status.paused:
            (engine.pause if said["paused"] else engine.resume)()

    def say() -> None:
        ended, sent = False, 0
        while not ended:
            ended = over.is_set()
            with lock:
                beat, number = lease.beat(time.monotonic())
                alone = time.monotonic() - heard_at[0] > ALONE_SECONDS
            if alone:
                engine.stop(*ALONE)
            sealed = [recorder.plan.id(record) for record in recorder.shard_writer.sealed[sent:]]
            sent += len(sealed)
            about = pickle.dumps((engine.reason, engine.status, sealed))
            said = {"lease": name, "topic": topic, "beat": beat, "number": number, "over": ended, "about": about}
            worker.log_event(run, {**facts, **said})
            over.wait(BEATS_EVERY_SECONDS)

    client.subscribe_topic(topic, hear)
    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        client.unsubscribe_topic(topic)
