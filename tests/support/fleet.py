"""Worker processes of dask on this machine, which stand for machines, and a table in messy spelling."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from enrichkit.messages import Reply, Request, Usage

if TYPE_CHECKING:
    from distributed import Client

KEY = "a-planted-key-5f1c"
"""What the workers have in their environment, and nothing else may hold."""


@contextlib.contextmanager
def fleet(workers: int = 3, **environment: str) -> Iterator[Client]:
    """Yield a client of so many worker processes, each with these variables in its environment alone."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=None,
            silence_logs=logging.CRITICAL,
            env=environment,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def distinct(frame: pd.DataFrame) -> int:
    """Return how many questions there are about a table: one a person, one a fund however it is spelled."""
    return len(frame) + int(frame["fund.title"].str.strip().str.lower().nunique())


def set_variables(**variables: str | None) -> None:
    """Set variables of the environment of a process; None takes one away."""
    for name, value in variables.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def paid_client(request: Request) -> Reply:
    """Answer for a dollar or half of one, by `support.tables.PRICES`."""
    time.sleep(0.01)
    used = Usage(prompt_tokens=500 + 500 * (zlib.crc32(request.text.encode()) % 2), output_tokens=0, searches=0)
    return Reply(text='{"industry": "Tea"}', usage=used)


def deadly_client(request: Request) -> Reply:
    """End the process that asks."""
    os._exit(9)


def pids(client: Client) -> dict[str, int]:
    """Return the process of each worker that is there."""
    return {
        worker: number for worker, number in client.run(os.getpid, on_error="return").items() if isinstance(number, int)
    }


def messy(rows: int, funds: int, seed: int = 5) -> pd.DataFrame:
    """Return people of so many funds, whose titles are spelled in several ways; with columns of several types."""
    dice = random.Random(seed)
    ways = (str, str.upper, str.lower, lambda text: f" {text}", lambda text: f"{text}  ")
    made = [
        {
            "fund.title": dice.choice(ways)(f"Fond {dice.randrange(funds)} Ängholm"),
            "poc.first_name": f"A{row}",
            "poc.last_name": f"B{row % 97}",
            "fund.country": dice.choice(["Norway", None]),
            "n": dice.choice([1, 2.5, None]),
            "when": pd.Timestamp("2026-01-01") + pd.Timedelta(days=row),
            "mixed": dice.choice([1, "a", None]),
            "tags": dice.choice([["a"], [], None, ["b", "c"]]),
        }
        for row in range(rows)
    ]
    return pd.DataFrame(made, index=[f"x{row}" for row in range(rows)])
