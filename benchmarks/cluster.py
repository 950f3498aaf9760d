"""What a cluster costs: a table in one part, asked by one worker process, beside a run by itself in the same round.

``python benchmarks/cluster.py`` prints a table as Markdown; a number after it says of how many questions. The service
is that of `workers`, an event loop in a process of its own that gives every question the same reply after so long.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from typing import Any

import distributed
import workers
from speed import COMPANY, KEY, table

import enrichkit

LOCAL: Any = distributed.LocalCluster
CLIENT: Any = distributed.Client
SECONDS, AT_ONCE, ROUNDS = 0.05, 20, 3


def took(records: int, client: Any) -> tuple[float, float]:
    """Return the seconds that a run takes, and the CPU of whoever asks, in ms a question."""
    used = (lambda: sum(client.run(time.process_time).values())) if client else time.process_time
    settings: dict[str, Any] = {"cluster": client, "parts": 1} if client else {}
    with tempfile.TemporaryDirectory() as scratch:
        began, cpu = time.perf_counter(), used()
        settings |= {"stages": [COMPANY], "key": "name", "workers": AT_ONCE, "rpm": 600_000, "progress": False}
        enriched = enrichkit.run(table(records), out=f"{scratch}/out", **settings)
        assert (enriched["_status"] == "done").all()
        return time.perf_counter() - began, (used() - cpu) / records * 1000


def main() -> None:
    """Print the table."""
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with workers.served(SECONDS) as url:
        os.environ |= {"GOOGLE_GEMINI_BASE_URL": url, "GOOGLE_API_KEY": KEY}
        with LOCAL(1, threads_per_worker=1, dashboard_address=":0") as cluster, CLIENT(cluster) as client:
            for side in (None, client):
                took(100, side)  # the first imports everything
            rounds = [(took(records, None), took(records, client)) for _ in range(ROUNDS)]
    plain, ours = ([statistics.median(value) for value in zip(*side)] for side in zip(*rounds))  # noqa: B905
    print("| what | a run by itself | one part, one worker process | speed of it |")
    print("|---|---|---|---|")
    share = statistics.median(alone[0] / of_part[0] for alone, of_part in rounds)
    print(
        f"| {records:,} questions of {SECONDS} s, {AT_ONCE} workers, {ROUNDS} rounds "
        f"| {plain[0]:.1f} s, {plain[1]:.2f} ms of CPU | {ours[0]:.1f} s, {ours[1]:.2f} ms | {share:.0%} |"
    )


if __name__ == "__main__":
    main()
