"""The standing: how far a store is, from its shards and parts alone, and whether a run works on it; needs no lock."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from ..formatting import duration, many, plain
from ..store.files import OWNER, _read, read_progress, work_area
from ..store.reader import StoreReader

RUNNING = "running"
"""The state in a progress file until the run has ended."""


def worker(out: Path, said: dict[str, Any]) -> str:
    """Say which process works on a store, or that none does; ``said`` is what the last run wrote about itself."""
    owner = _read(work_area(out) / OWNER)
    if not {"pid", "host", "started"} <= owner.keys():
        return "No run works on it."
    told = f"process {owner['pid']} on {owner['host']}, since {owner['started']}"
    if not _is_here(owner):
        return f"A run works on it, or was killed: {told}."
    if _lives(owner):
        return f"A run works on it: {told}."
    if said.get("pid") == owner["pid"] and said.get("state") != RUNNING:
        return "No run works on it; the last one left at once, and what was in flight may be paid again."
    return f"Its last run was killed: {told}."


def _runs(out: Path, said: dict[str, Any]) -> bool:
    """Whether the run that says of itself that it is running still is, as far as can be told."""
    owner = _read(work_area(out) / OWNER) or said  # a run lets the store go before it has written its last word
    return owner.get("pid") == said.get("pid") and _lives(owner)


def _is_here(owner: dict[str, Any]) -> bool:
    return owner.get("host") in (None, socket.gethostname())


def _lives(owner: dict[str, Any]) -> bool:
    """Whether there is such a process, as far as can be told."""
    if os.name == "nt" or not _is_here(owner):  # on Windows the question would interrupt it
        return True
    try:
        os.kill(owner["pid"], 0)
    except (ProcessLookupError, KeyError, TypeError):
        return False
    except OSError:
        return True
    return True


def describe_store(out: Path) -> str:
    """Say how far a store is, in a few lines."""
    found = StoreReader(out).status()
    more = f", {found.pending:,} waiting for a stage" if found.pending else ""
    more += f", {many(found.unsealed, 'question')} answered, not sealed yet" if found.unsealed else ""
    said = read_progress(out)
    label = "simulated; " if found.simulated else ""
    lines = [
        f"{out}: {many(found.done, 'record')} done, {found.failed:,} failed{more}",
        f"{many(found.tokens, 'token')}, {found.cost_usd:.4f} USD ({label}sealed records, known prices)",
        worker(out, said),
    ]
    if said:
        state, runs = said.get("state"), False
        if state == RUNNING:
            runs = _runs(out, said)
            state = RUNNING if runs else "killed"
        pace = f", {said.get('rate_per_second')} records/s" if runs else ""
        pace += f", {duration(said['left_seconds'])} left" if runs and said.get("left_seconds") else ""
        lines.append(
            f"{'This' if runs else 'Its last'} run, as of {said.get('last_updated')}: {state}, "
            f"{said.get('completed_count')} of {said.get('total_records')} records complete, "
            f"{said.get('failed_count')} failed{pace}"
        )
    return "\n".join(plain(one, most=0) for one in lines)
