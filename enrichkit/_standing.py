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

from ._files import Files, work_area
from ._frame import stored_facts
from ._parts import read_parts
from ._row import STATUS

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
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
