"""What the store costs: a kill half way, going on where all is done, its bill, memory, how busy its one writer is.

``python benchmarks/store.py`` prints a table as Markdown, ``python benchmarks/store.py again`` one case of it. Each
case is a process of its own; each floor is measured in the same round.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

import enrichkit
from enrichkit.gemini.simulator import Simulator

ROUNDS = 5
WORKERS = 20


class Company(enrichkit.Answer):
    industry: str | None = None
    employees: int | None = None


COMPANY = enrichkit.Stage("company", prompt="Research {name} in {country}.", answer=Company)
HISTORY = enrichkit.Stage("history", prompt="Tell how {name} began.", answer=Company)
SOURCES = tuple(
    enrichkit.messages.Source(url=f"https://example.com/{number}/a-page-about-a-firm", title=f"Page {number}")
    for number in range(8)
)


def answer(request: enrichkit.messages.Request) -> enrichkit.messages.Reply:
    """Answer at once, in the size that is usual."""
    return enrichkit.messages.Reply(
        text='{"industry": "Tea", "employees": 3, "confidence": "high", "notes": "Found on its own pages."}',
        usage=enrichkit.messages.Usage(prompt_tokens=1500, output_tokens=300, searches=1),
        sources=SOURCES,
        model_version="gemini-3.5-flash-lite",
    )


def table(records: int) -> pd.DataFrame:
    """Return an invented table."""
    return pd.DataFrame({"name": [f"Firm number {number}" for number in range(records)], "country": "Peru"})


def settings(out: Path, **more: Any) -> dict[str, Any]:
    """Return the arguments of a call."""
    call = {"out": out, "stages": [COMPANY, HISTORY], "key": "name", "client": answer, "model": "gemini-3.5-flash-lite"}
    return call | {"progress": False} | more


def filled(out: Path, frame: pd.DataFrame, shard_rows: int, *, own_replies: bool = False) -> dict[str, Any]:
    """Make a store in which all of a table is done; return the call's arguments.

    The first shard is asked for. The others are copies of it with names and ids of their own, and with replies of their
    own if need be: asking a million times takes half an hour.
    """
    from enrichkit.runs.lifecycle import look_ahead
    from enrichkit.runs.options import Options
    from enrichkit.store.files import Files
    from enrichkit.store.index import FOOTER, RECORD_ID, footer
    from enrichkit.table.parquet import encode_parquet, read_parquet

    call = settings(out, shard_rows=shard_rows, workers=WORKERS)
    enrichkit.run(frame.head(shard_rows), **call)
    files = Files(out.with_name(out.name + ".scratch"))
    first = read_parquet(out / "shard=s0000" / "part-0.parquet")
    assert first is not None
    first = first.sort_by([("name", "ascending")])
    run_plan, _ = look_ahead(frame, Options(**call))
    for number in range(1, len(frame) // shard_rows):
        rows = slice(number * shard_rows, (number + 1) * shard_rows)
        own = {"name": frame["name"].iloc[rows].tolist(), RECORD_ID: run_plan.ids[rows]}
        for stage in run_plan.stages:
            own[f"{stage.stage.name}._question"] = [stage.questions[code] for code in stage.code[rows]]
            own[f"{stage.stage.name}._paid_by"] = run_plan.ids[rows]
        copy = first
        for stage in run_plan.stages if own_replies else ():
            name = f"{stage.stage.name}._replies"
            own[name] = [
                [reply.replace(before.encode(), str(now).encode()) for reply in replies]
                for replies, before, now in zip(
                    first.column(name).to_pylist(),
                    first.column(f"{stage.stage.name}._question").to_pylist(),
                    own[f"{stage.stage.name}._question"],
                    strict=True,
                )
            ]
        for name, values in own.items():
            field = copy.schema.field(name)
            copy = copy.set_column(copy.schema.get_field_index(name), field, pa.array(values, field.type))
        facts = footer(first) | {"number": number, "highest": number, "seal": [number + 1, f"{number:08x}"]}
        copy = copy.replace_schema_metadata({FOOTER: json.dumps(facts).encode()})
        files.put(out / f"shard=s{number:04d}" / "part-0.parquet", encode_parquet(copy))
    return call


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes, the median of some rounds."""
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


# The cases ---------------------------------------------------------------------------------------------------------

Row = tuple[str, str, str, str]
"""What, figure, floor, goal."""


def kill() -> Iterator[Row]:
    """kill -9 half way through 2,000 questions, and again to the end."""
    frame = table(2000)
    again, lost, doubled = [], 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(ROUNDS):
            out = Path(scratch) / str(number)
            with Simulator(latency_seconds=0.05, seed=number) as server:
                where = {"GOOGLE_GEMINI_BASE_URL": server.url, "GOOGLE_API_KEY": "a-key-for-nothing"}
                victim = subprocess.Popen([sys.executable, __file__, "victim", str(out)], env=os.environ | where)
                while server.counts()["answers"] < len(frame) / 2 and victim.poll() is None:
                    time.sleep(0.01)
                victim.kill()
                victim.wait()
                while server.counts()["at_once"]:
                    time.sleep(0.01)
                with mock.patch.dict(os.environ, where):
                    ask_all(out)
                # A request that the simulator's answer could not satisfy is asked again; here every one does.
                again.append(server.counts()["answers"] - len(frame))
            stored = enrichkit.read(out)
            lost += len(frame) - stored["name"].nunique()
            doubled += int(stored["name"].duplicated().sum())
    yield (
        f"kill -9 half way, {WORKERS} in flight, {ROUNDS} rounds",
        f"{max(again)} paid again at most ({', '.join(map(str, sorted(again)))}), {lost} lost, {doubled} doubled",
        f"{WORKERS} in flight",
        "≤ 22 paid again, 0 lost, 0 doubled",
    )


def ask_all(out: Path) -> None:
    """Ask one question about each of 2,000 records."""
    plain = enrichkit.Stage("company", prompt="Research {name} in {country}.", answer=Company, search=False)
    enrichkit.run(table(2000), out=out, stages=[plain], key="name", workers=WORKERS, progress=False)


def again() -> Iterator[Row]:
    """20,000 records done, two stages, in 400 shards: the plan, and a run with nothing to do."""
    frame = table(20_000)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        call = filled(out, frame, 50)
        assert enrichkit.plan(frame, **call).to_ask == 0
        floor = seconds(lambda: ds.dataset(out).to_table(columns=["_record_id", "company._status"]))
        planned = seconds(lambda: enrichkit.plan(frame, **call))
        run = seconds(lambda: enrichkit.run(frame, **call))
    what = "20,000 done, 400 shards, 2 stages"
    yield f"{what}: `plan`", f"{planned:.2f} s", f"two columns read by PyArrow {floor:.2f} s", "≤ 0.5 s"
    yield f"{what}: `run`", f"{run:.2f} s", "", "≤ 1 s"


def bill() -> Iterator[Row]:
    """20,000 records done, two stages, in 400 shards: what they cost, from 40,000 raw replies."""
    frame = table(20_000)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        filled(out, frame, 50, own_replies=True)
        assert enrichkit.report(out).cost.total.replies == 40_000
        floor = seconds(lambda: ds.dataset(out).to_table(columns=["company._replies", "history._replies"]))
        reported = seconds(lambda: enrichkit.report(out))
        paid = seconds(lambda: enrichkit.costs(out))
    what = "20,000 done, 400 shards, 2 stages, 40,000 replies"
    yield f"{what}: `report`", f"{reported:.2f} s", f"the replies read by PyArrow {floor:.2f} s", "≤ 3 s"
    yield f"{what}: `costs`", f"{paid:.2f} s", "", "≤ 3 s"


def million() -> Iterator[Row]:
    """A million records done, one stage, in 1,000 shards: the plan."""
    frame = table(1_000_000)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        call = filled(out, frame, 1000) | {"stages": [COMPANY]}
        assert enrichkit.plan(frame, **call).to_ask == 0
        columns = ["_record_id", "company._question", "company._status"]
        read = seconds(lambda: ds.dataset(out).to_table(columns=columns))
        hashed = seconds(lambda: [hashlib.blake2b(name.encode()).hexdigest() for name in frame["name"]])
        planned = seconds(lambda: enrichkit.plan(frame, **call))
    yield (
        "1,000,000 done, 1,000 shards, 1 stage: `plan`",
        f"{planned:.2f} s",
        f"three columns read by PyArrow {read:.2f} s, a million hashes {hashed:.2f} s",
        "≤ 4 s",
    )


def memory() -> Iterator[Row]:
    """A million pending records: the most memory above the table's while the asking is under way."""
    most = {stages: _most_memory([COMPANY, HISTORY][:stages]) for stages in (1, 2)}
    yield (
        "1,000,000 pending: memory above the table",
        f"1 stage {most[1]:.0f} MB, 2 stages {most[2]:.0f} MB",
        "ids alone 83 MB",
        "≤ 150 MB a stage",
    )


def _most_memory(stages: list[enrichkit.Stage]) -> float:
    told = subprocess.run(
        [sys.executable, __file__, "pending", *(stage.name for stage in stages)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(told.stdout)


def pending(names: list[str]) -> None:
    """Print how many MB a run over a million pending records takes at the most, above the table."""
    stages = [stage for stage in (COMPANY, HISTORY) if stage.name in names]
    with tempfile.TemporaryDirectory() as scratch:
        call = settings(Path(scratch) / "warm", stages=stages)
        enrichkit.run(table(100), **call)  # so that what is imported does not count
        frame = table(1_000_000)
        asked = threading.Event()

        def slow(request: enrichkit.messages.Request) -> enrichkit.messages.Reply:
            asked.set()
            time.sleep(0.05)
            return answer(request)

        Path("/proc/self/clear_refs").write_text("5")  # from here on the peak counts anew
        before = _memory("VmRSS")
        job = enrichkit.start(frame, **call | {"out": Path(scratch) / "out", "client": slow, "workers": WORKERS})
        asked.wait()
        time.sleep(5)
        most = _memory("VmHWM")
        job._engine.stop()  # not job.stop(): its frame, the whole table once more, is another matter
        job._waiting.wait()
    print(most - before)


def _memory(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


def writer() -> Iterator[Row]:
    """How long the one writer is at work, replies taking a second each and twenty being under way."""
    from enrichkit.engine.driver import Engine
    from enrichkit.engine.shard_writer import ShardWriter

    busy = cpu = 0.0

    def timed(kind: type, name: str) -> Any:
        real = getattr(kind, name)

        def measured(*args: Any, **settings: Any) -> Any:
            nonlocal busy, cpu
            started, started_cpu = time.perf_counter(), time.thread_time()
            try:
                return real(*args, **settings)
            finally:
                busy += time.perf_counter() - started
                cpu += time.thread_time() - started_cpu

        return mock.patch.object(kind, name, measured)

    def slow(request: enrichkit.messages.Request) -> enrichkit.messages.Reply:
        time.sleep(1)
        return answer(request)

    with tempfile.TemporaryDirectory() as scratch:
        enrichkit.run(table(100), **settings(Path(scratch) / "warm"))
        with timed(Engine, "_commit"), timed(ShardWriter, "seal"), timed(ShardWriter, "widen"):
            started = time.perf_counter()
            enrichkit.run(table(400), **settings(Path(scratch) / "out", client=slow, workers=WORKERS))
            wall = time.perf_counter() - started
        alone = [disk_seconds(Path(scratch), name=f"bare-{number}") for number in range(100)]
    yield (
        "the writer, 20 workers, 1 s a reply, 800 questions",
        f"busy {busy / wall:.1%} of {wall:.1f} s (CPU {cpu / wall:.1%})",
        f"20 bare durable writes of 2 kB a second {20 * statistics.fmean(alone):.1%}",
        "≤ 2 %",
    )


def disk_seconds(folder: Path, name: str) -> float:
    """Return how long the disk takes for one durable file, a twentieth of a second after the one before."""
    time.sleep(0.05)
    started = time.perf_counter()
    file = os.open(folder / f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(file, bytes(2000))
    os.fsync(file)
    os.close(file)
    os.replace(folder / f"{name}.tmp", folder / name)
    above = os.open(folder, os.O_RDONLY)
    os.fsync(above)
    os.close(above)
    return time.perf_counter() - started


CASES = {case.__name__: case for case in (kill, again, bill, million, memory, writer)}


def main() -> None:
    """Print the figures of all cases, or of those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of: {', '.join(CASES)}")
    given = parser.parse_args().cases
    if given[0] == "victim":
        ask_all(Path(given[1]))
    elif given[0] == "pending":
        pending(given[1:])
    elif len(given) == 1:
        for row in CASES[given[0]]():
            print("| " + " | ".join(row) + " |", flush=True)
    else:
        print("| what | figure | floor | goal |\n|---|---|---|---|", flush=True)
        for name in given:
            subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    main()
