"""Large tables: what a run of a client that answers at once takes a row, in time and memory, and what reading takes.

``python benchmarks/large.py`` prints a row for 100,000 and one for 1,000,000 records (half an hour or more);
``python benchmarks/large.py 100000`` one of them, in a process of its own.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

import enrichkit
import store

SIZES = (100_000, 1_000_000)


def table(records: int) -> pd.DataFrame:
    """Return an invented table with six columns."""
    numbers = range(records)
    return pd.DataFrame(
        {
            "name": [f"Firm number {number}" for number in numbers],
            "country": ["Peru", "Fiji"] * (records // 2),
            "email": [f"info@firm{number}.example" for number in numbers],
            "note": [f"met in {1990 + number % 30}, call again" for number in numbers],
            "size": [number % 5000 for number in numbers],
            "score": [number / 7 for number in numbers],
        }
    )


def memory_mb() -> float:
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measured(work: Callable[[], Any]) -> tuple[str, Any]:
    """Return how long some work took, and the most memory held beyond that before, in words; and what it returned."""
    pa.default_memory_pool().release_unused()
    before, most, over = memory_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            most[0] = max(most[0], memory_mb() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    started, cpu = time.perf_counter(), time.process_time()
    try:
        came = work()
    finally:
        over.set()
        thread.join()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return f"{seconds:.1f} s, CPU {cpu:.1f} s, {most[0]:,.0f} MB", came


def measure(records: int) -> str:
    """Return a row of the table."""
    frame = table(records)
    held = frame.memory_usage(deep=True).sum() / 2**20
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        call = store.settings(out, stages=[store.COMPANY], workers=20)
        figures = []
        for name, work in (
            ("plan", lambda: enrichkit.plan(frame, **call)),
            ("run", lambda: enrichkit.run(frame, **call)),
            ("plan again", lambda: enrichkit.plan(frame, **call)),
            ("run again", lambda: enrichkit.run(frame, **call)),
            ("read two columns", lambda: enrichkit.read(out, columns=["name", "company.industry"])),
            ("report", lambda: enrichkit.report(out)),
            ("costs", lambda: enrichkit.costs(out)),
            ("export as CSV", lambda: enrichkit.export(out, Path(scratch) / "table.csv")),
            ("export as Parquet", lambda: enrichkit.export(out, Path(scratch) / "table.parquet")),
        ):
            took, came = measured(work)
            assert name != "run" or (came["_status"] == "done").all()
            del came
            figures.append(f"{name} {took}")
            print(figures[-1], f"(load {os.getloadavg()[0]:.0f})", file=sys.stderr, flush=True)
        files = sum(path.is_file() for path in out.rglob("*"))
    return f"| {records:,} records, the table {held:,.0f} MB | {files} files | {' | '.join(figures)} |"


if __name__ == "__main__":
    if given := sys.argv[1:]:
        print(measure(int(given[0])))
    else:
        for size in SIZES:
            subprocess.run([sys.executable, __file__, str(size)], check=True)
