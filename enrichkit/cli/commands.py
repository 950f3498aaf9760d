"""The short commands, each a function of its arguments that returns the exit code; `enrichkit run` is in `run`.

They print what the library's functions return, and decide nothing themselves. A function's text is its command's help.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from .. import trust
from ..errors import InputError
from ..formatting import duration, many
from ..gemini.simulator import FAULTS, Quota, Simulator
from ..pricing.budget import Budget, beside_replies
from ..reporting.report import report
from ..reporting.tablefiles import check_target, export, read_sheet
from ..reporting.verify import verify
from ..store.files import folder_of, read_progress
from ..store.reader import StoreReader
from .flags import number, put, shell


def status_of_store(args: argparse.Namespace) -> int:
    """Say how far a store is, also while a run is under way."""
    out, _ = store_of(args.dir)
    reader, last_run = StoreReader(out), read_progress(out)
    held = reader.status()
    waiting = f", {held.pending:,} waiting for a stage" if held.pending else ""
    unsealed = f", {many(held.unsealed, 'question')} answered, not sealed yet" if held.unsealed else ""
    label, least = "simulated; " * held.simulated, "at least " * bool(held.unpriced)
    put(
        f"{out}: {many(held.done, 'record')} done, {held.failed:,} failed{waiting}{unsealed}",
        f"{many(held.tokens, 'token')}, {least}{held.cost_usd:.4f} USD ({label}sealed records)",
        *beside_replies(Budget(None, held.cost_usd, note=reader.outstanding)),
        *([_last_run(last_run)] if last_run else []),
    )
    return 0


def _last_run(progress: dict[str, Any]) -> str:
    """Say what the last run wrote about itself, and how long ago."""
    ago = duration((datetime.now(UTC) - datetime.fromisoformat(progress["last_updated"])).total_seconds())
    pace = f", {progress['rate_per_second']} records/s" * (progress["state"] == "running")
    left = f", {duration(seconds)} left" if (seconds := progress["left_seconds"]) else ""
    return (
        f"The last run: {progress['state']}, updated {ago} ago: {progress['completed_count']} of "
        f"{progress['total_records']} records complete, {progress['failed_count']} failed{pace}{left}"
    )


def report_of_store(args: argparse.Namespace) -> int:
    """Say how good a store's answers are, and what they cost."""
    whole = report(store_of(args.dir)[0])
    put(*(whole.to_json() if args.json else whole.text(shell())).splitlines(), whole=args.json)
    return 0


def verify_store(args: argparse.Namespace) -> int:
    """Check every checksum, key and question of a store; 1 if something is wrong."""
    verified = verify(store_of(args.dir)[0])
    put(*str(verified).splitlines())
    return 0 if verified.ok else 1


def export_store(args: argparse.Namespace) -> int:
    """Write a store's records into a file, one row each, in the order they were completed in."""
    out, _ = store_of(args.dir)
    export(out, args.file, only_new=args.only_new, lists=args.lists, formulas=args.formulas)
    put(f"Written: {args.file}")
    return 0


def evidence_of_store(args: argparse.Namespace) -> int:
    """List each answered field of a store in a file: how far it is backed, and by which pages."""
    return _write_list(args, trust.evidence)


def corrections_of_store(args: argparse.Namespace) -> int:
    """List in a file what a model would put where the table has another value, and which pages say so."""
    return _write_list(args, trust.corrections)


def weak_of_store(args: argparse.Namespace) -> int:
    """List in a file the records that are worth another look, and why; it can be an --input."""
    return _write_list(args, trust.weak)


def review_of_store(args: argparse.Namespace) -> int:
    """List in a file answers to judge: fill its column verdict with right, wrong or unsure, or value."""
    return _write_list(args, lambda out: trust.review(out, args.rows, columns=args.columns))


def _write_list(args: argparse.Namespace, listed: Callable[[Path], pd.DataFrame]) -> int:
    out, _ = store_of(args.dir)
    frame = listed(out)
    check_target(args.file, out=out)
    export(frame, args.file)
    put(f"Written: {args.file} ({many(len(frame), 'row')})")
    return 0


def decide_cells(args: argparse.Namespace) -> int:
    """Store what a person decided: cells of evidence or corrections, with a column verdict, or value."""
    out, _ = store_of(args.dir)
    decided = trust.decide(out, read_sheet(args.cells))
    put(f"{out}: {many(decided, 'decision')} stored; the next run returns them.")
    return 0


def simulate(args: argparse.Namespace) -> int:
    """Serve a simulated Gemini on 127.0.0.1 until interrupted. Everything it answers is invented."""
    try:
        simulator = Simulator(
            port=args.port,
            seed=args.seed,
            latency_seconds=args.latency,
            quota=Quota(args.per_minute) if args.per_minute else None,
            requests_per_day=args.per_day,
            faults=dict(args.fault),
        )
    except OSError as error:
        raise InputError(
            "Port {port} cannot be used: {reason}. Choose another with --port.", port=args.port, reason=error.strerror
        ) from error
    with simulator:
        with contextlib.suppress(KeyboardInterrupt):
            put(f"A simulated Gemini answers at {simulator.url} until you press Ctrl-C. Its answers are invented.")
            put(f"To use it: GOOGLE_GEMINI_BASE_URL={simulator.url} GOOGLE_API_KEY=simulated")
            threading.Event().wait()
        put("", json.dumps({name: value for name, value in simulator.counts().items() if name != "prompts"}))
    return 0


def fault(text: str) -> tuple[str, float]:
    """Return a simulated fault and its probability, from NAME or NAME=P."""
    name, _, probability = text.partition("=")
    if name not in FAULTS:
        raise argparse.ArgumentTypeError(f"there is no fault {name!r}")
    return name, number(float, 0, 1)(probability or "1")


def store_of(path: Path) -> tuple[Path, Path | None]:
    """Return the store that a path means, and the progress file if it names one.

    >>> store_of(Path("/data/enrichment_progress.json"))[0].as_posix()
    '/data/enrichment_progress'
    """
    named = Path(path).expanduser() if path.suffix == ".json" else None
    return folder_of(path if named is None else named.with_suffix("")), named
