"""The files of an unattended run: what it writes for people and monitors, and never reads back as truth.

In the work area: how far the run is, its report and its failures. The output, the whole table as it stands, is kept up
to date with them. All but the failures' log are replaced in one step, every few seconds and at the end. Text from
records and answers is escaped: a terminal shows it, and does not obey it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import EnrichError, LockedError, StoreError
from ..formatting import spelled
from ..reporting.quality import advice
from ..reporting.report import FILE as REPORT
from ..reporting.report import report
from ..runs.runner import Run
from ..store.files import Files, is_store, trial_area, work_area
from ..store.index import RECORD_ID
from ..store.reader import StoreReader
from ..store.rows import STATUS, meta
from ..table.cells import cell_text
from .flags import shell

ERRORS = "enrichment_errors.log"
RUNNING = "running"
"""The state in a progress file until the run has ended."""
MOST_LISTED = 1000
EVERY_SECONDS = 3.0
LOOK_SECONDS = 0.2
SHARE = 20
"""A refresh that takes a second comes every twenty at most: asking has the processor."""
LOG = logging.getLogger("enrichkit")


@dataclass
class RunFiles:
    """The files of one unattended run on the store ``out``.

    Report and errors lie beside each of the ``progress`` files; ``ids`` are the rows' record ids; ``facts`` stand in
    the progress files as they are; ``write`` brings the output up to date. All is refreshed every few seconds, and
    after ``every_records``.
    """

    out: Path
    progress: Sequence[Path]
    ids: Sequence[str]
    facts: Mapping[str, Any]
    write: Callable[[pd.DataFrame], None]
    every_records: int
    failures: list[dict[str, Any]] = field(default_factory=list)
    """The failed stages of this table as the store has them."""

    def __post_init__(self) -> None:
        self._started = datetime.now(UTC)
        known = failed_stages(self.out) if is_store(self.out) else []  # before the run begins, and adds to them
        self._noticed = {_attempt_of(failure) for failure in known}

    def follow(self, run: Run) -> None:
        """Keep the files up to date until `close`, from a thread of its own."""
        self._run = run
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="enrichkit-files", daemon=True)
        self._thread.start()

    def close(self, table: pd.DataFrame, state: str) -> None:
        """Write everything a last time, the report too.

        Raises
        ------
        OSError
            If the output or a file cannot be written.
        """
        self._over.set()
        self._thread.join()
        self._note_failures(table)
        try:
            self.write(table)
        finally:
            self._put_progress(table, state)
        whole = json.loads(report(self.out).to_json())
        for path in self.progress:
            _put(path.with_name(REPORT), whole)

    def _keep(self) -> None:
        counted, due, earliest = 0, time.monotonic() + EVERY_SECONDS, 0.0
        while not self._over.wait(LOOK_SECONDS):
            status, now = self._run.status, time.monotonic()
            complete = status.done + status.failed
            if now < (earliest if complete >= counted + self.every_records else due):
                continue
            try:
                table = self._run.table
                self._note_failures(table)
                if complete > counted:
                    self.write(table)
                self._put_progress(table, RUNNING)  # after the output: it promises no more than that has
            except (OSError, EnrichError, pa.ArrowException, ValueError) as error:
                LOG.warning("The files could not be brought up to date: %s: %s", type(error).__name__, error)
            counted, earliest = complete, time.monotonic() + SHARE * (time.monotonic() - now)
            due = max(time.monotonic() + EVERY_SECONDS, earliest)

    def _note_failures(self, table: pd.DataFrame) -> None:
        """Take the failures that stand in the store, and log those that were sealed since the last look."""
        here, when = set(self.ids), datetime.now(UTC).isoformat(timespec="seconds")
        failures = failed_stages(self.out)
        asked = [failure for failure in failures if meta(failure["stage"], "status") in table.columns]
        self.failures = [failure for failure in asked if failure["record"] in here]
        new = [failure for failure in failures if _attempt_of(failure) not in self._noticed]
        self._noticed.update(map(_attempt_of, new))
        for path in self.progress if new else ():
            with path.with_name(ERRORS).open("a", encoding="utf-8") as log:
                log.writelines(as_json({"when": when} | failure) + "\n" for failure in new)

    def _put_progress(self, table: pd.DataFrame, state: str) -> None:
        """Write how far the run is."""
        status, sealed, running = self._run.status, StoreReader(self.out).status(), state == RUNNING
        records = dict(zip(self.ids, table[STATUS], strict=True))
        ids = {word: [record for record, held in records.items() if held == word] for word in ("done", "failed")}
        left = status.left_seconds if running else None
        now = datetime.now(UTC)
        progress = {
            "state": state,
            "started_at": self._started.isoformat(timespec="seconds"),
            "last_updated": now.isoformat(timespec="seconds"),
            "total_records": len(records),
            "completed_count": len(ids["done"]),
            "failed_count": len(ids["failed"]),
            "completed_ids": ids["done"][-MOST_LISTED:],
            "failed_ids": ids["failed"][-MOST_LISTED:],
            "errors": self.failures[-MOST_LISTED:],
            "lists_hold_at_most": MOST_LISTED,
            "total_tokens": sealed.tokens,
            "cost_usd": round(sealed.cost_usd, 6),
            "unpriced": sealed.unpriced,
            "simulated": status.money.simulated,
            "rate_per_second": round(status.rate_per_second, 3),
            "left_seconds": None if left is None else round(left, 1),
            "eta": None if left is None else (now + timedelta(seconds=left)).isoformat(timespec="seconds"),
            "pid": os.getpid(),
        }
        for path in self.progress:
            _put(path, {**progress, **self.facts})


def as_json(value: Any, indent: int | None = None) -> str:
    r"""Return JSON with letters as they are, and escapes for what a terminal would obey.

    >>> print(as_json(["Zoë\x1b[2J\x7f"]))
    ["Zoë\u001b[2J\u007f"]
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text)


def _put(path: Path, value: Any) -> None:
    Files(path.parent, mode=0o666).put(path, (as_json(value, indent=2) + "\n").encode())


def _attempt_of(failure: Mapping[str, Any]) -> tuple[str, str, int]:
    """Return which stage of which record has failed, and after how many attempts."""
    return failure["record"], failure["stage"], failure["attempts"]


def failed_stages(out: Path) -> list[dict[str, Any]]:
    """Return the failed stages of the sealed records."""
    reader = StoreReader(out)
    table = reader.facts(("status", "error", "attempts"), [RECORD_ID, *reader.key])
    failures = []
    for stage in [name.removesuffix("._status") for name in table.column_names if name.endswith("._status")]:
        for row in table.filter(pc.equal(table.column(meta(stage, "status")), "failed")).to_pylist():
            error = str(row[meta(stage, "error")] or "")
            failures.append(
                {
                    "record": row[RECORD_ID],
                    "key": {name: cell_text(row[name]) for name in reader.key},
                    "stage": stage,
                    "cause": error,
                    "attempts": row[meta(stage, "attempts")],
                    "what_to_do": spelled(advice(error.partition(":")[0]), shell()),
                }
            )
    return failures


def set_aside(out: Path) -> Path | None:
    """Rename a store, its work area and its trials; return its new folder, None without one. Nothing is deleted.

    Raises
    ------
    LockedError
        If a run works on it.
    StoreError
        If it cannot be renamed.
    """
    area = work_area(out)
    if not out.exists() and not area.exists():
        return None
    aside = out.with_name(f"{out.name}.{datetime.now():%Y%m%d-%H%M%S-%f}")
    lock = filelock.FileLock(area / "lock", timeout=0, mode=0o600) if area.is_dir() else contextlib.nullcontext()
    try:
        with lock:  # the shards first: what a crash in between leaves is taken up by the next call, or set aside by it
            for path, target in ((out, aside), (area, work_area(aside)), (trial_area(out), trial_area(aside))):
                if path.exists():
                    path.rename(target)
    except filelock.Timeout:
        raise LockedError("Another run works on {store}. Wait for it or stop it.", store=out) from None
    except OSError as error:
        reason = error.strerror or error
        raise StoreError("{store} cannot be moved aside: {reason}.", store=out, reason=reason) from error
    return aside
