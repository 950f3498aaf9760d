"""The standing: how far a store is, from its shards and parts alone, and whether a run works on it; needs no lock."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ._estimate import duration
from ._files import Files, work_area
from ._frame import stored_facts
from ._listing import many, plain
from ._parts import read_parts
from ._row import STATUS

PROGRESS = "enrichment_progress.json"
TOKENS = ("input_tokens", "tool_tokens", "thinking_tokens", "output_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a store is.

    Attributes
    ----------
    done, failed, pending : int
        Sealed records by their status; pending ones wait for a stage that was asked of others.
    unsealed : int
        Questions with a reply in the work area, not sealed yet.
    tokens, cost_usd : int, float
        What the sealed records have used, as far as prices are known.
    """

    done: int = 0
    failed: int = 0
    pending: int = 0
    unsealed: int = 0
    tokens: int = 0
    cost_usd: float = 0.0


def standing(out: Path) -> Standing:
    """Return how far a store is; see `enrichkit.report` for a bill that counts everything."""
    # The parts first: a reply that is sealed meanwhile is met twice, never missed.
    parts = read_parts(Files(work_area(out) / "tmp"), out)
    unsealed = {entry.question for _, entries in parts for entry in entries or ()}
    table = stored_facts(out, (*TOKENS, "cost_usd"), [STATUS])
    counts = Counter(table.column(STATUS).to_pylist() if table.num_rows else ())
    return Standing(
        done=counts["done"],
        failed=counts["failed"],
        pending=counts["pending"],
        unsealed=len(unsealed),
        tokens=int(_sum(table, TOKENS)),
        cost_usd=float(_sum(table, ("cost_usd",))),
    )


def _sum(table: pa.Table, facts: tuple[str, ...]) -> float:
    names = [name for name in table.column_names if name.rpartition("._")[2] in facts]
    return sum((pc.sum(table.column(name)).as_py() or 0 for name in names), 0)


def worker(out: Path) -> str:
    """Say which process works on a store, or that none does."""
    try:
        owner: dict[str, Any] = json.loads((work_area(out) / "owner.json").read_text(encoding="utf-8"))
        told = f"process {owner['pid']} on {owner['host']}, since {owner['started']}"
        here = owner["host"] == socket.gethostname()
    except (OSError, ValueError, KeyError, TypeError):
        return "No run works on it."
    if not here:
        return f"A run works on it, or was killed: {told}."
    return f"A run works on it: {told}." if _lives(owner["pid"]) else f"Its last run was killed: {told}."


def _lives(pid: int) -> bool:
    """Whether there is such a process, as far as can be told."""
    if os.name == "nt":  # there the question would interrupt it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def told(out: Path) -> str:
    """Say how far a store is, in a few lines."""
    found = standing(out)
    more = "".join(
        f", {count:,} {what}"
        for count, what in (
            (found.pending, "waiting for a stage"),
            (found.unsealed, "questions answered, not sealed yet"),
        )
        if count
    )
    lines = [
        f"{out}: {many(found.done, 'record')} done, {found.failed:,} failed{more}",
        f"{many(found.tokens, 'token')}, {found.cost_usd:.4f} USD (sealed records, known prices)",
        worker(out),
    ]
    if said := read_progress(out):
        left = said.get("left_seconds")
        lines.append(
            f"Its last run, as of {said.get('last_updated')}: {said.get('state')}, {said.get('completed_count')} of "
            f"{said.get('total_records')} records complete, {said.get('failed_count')} failed, "
            f"{said.get('rate_per_second')} records/s" + (f", {duration(left)} left" if left else "")
        )
    return "\n".join(plain(one, most=0) for one in lines)


def read_progress(out: Path) -> dict[str, Any]:
    """Return what the last run wrote about itself; nothing if it did not, or cannot be read."""
    try:
        found = json.loads((work_area(out) / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
