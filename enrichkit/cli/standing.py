"""The standing: how far a store is, from its shards and parts alone, and whether a run works on it; needs no lock."""

from __future__ import annotations

import os
import socket
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..formatting import duration, many, plain
from ..store.files import OWNER, _read, files_of, read_progress, work_area
from ..store.index import footer
from ..store.journal import read_journal
from ..store.reader import stored_facts
from ..store.rows import STATUS

RUNNING = "running"
"""The state in a progress file until the run has ended."""
TOKENS = ("input_tokens", "tool_tokens", "thinking_tokens", "output_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """How far a store is.

    Attributes
    ----------
    done, failed, pending : int
        Sealed records by their status; pending ones wait for a stage that was asked of others.
    unsealed : int
        Questions with a reply in the work area, not sealed yet.
    tokens, cost_usd : int, float
        What the sealed records have used, as far as prices are known.
    simulated : bool
        Whether a simulator answered.
    """

    done: int = 0
    failed: int = 0
    pending: int = 0
    unsealed: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    simulated: bool = False


def store_status(out: Path) -> StoreStatus:
    """Return how far a store is; see `enrichkit.report` for a bill that counts everything."""
    # The parts first: a reply that is sealed meanwhile is met twice, never missed.
    parts = read_journal(files_of(out), out)
    unsealed = {entry.question for _, entries in parts for entry in entries or ()}
    table = stored_facts(out, (*TOKENS, "cost_usd"), [STATUS])
    counts = Counter(table.column(STATUS).to_pylist() if table.num_rows else ())
    return StoreStatus(
        done=counts["done"],
        failed=counts["failed"],
        pending=counts["pending"],
        unsealed=len(unsealed),
        tokens=int(_sum(table, TOKENS)),
        cost_usd=float(_sum(table, ("cost_usd",))),
        simulated=bool(footer(table.schema)["simulated"]),
    )


def _sum(table: pa.Table, facts: tuple[str, ...]) -> float:
    names = [name for name in table.column_names if name.rpartition("._")[2] in facts]
    return sum((pc.sum(table.column(name)).as_py() or 0 for name in names), 0)


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
    found = store_status(out)
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
