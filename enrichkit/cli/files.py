"""The files of an unattended run: what it writes for people and monitors, and never reads back as truth.

In the work area: how far the run is, its report and its failures. The output, the whole table as it stands, is kept up
to date with them. All but the failures' log are replaced in one step, every few seconds and at the end. Text from
records and answers is escaped: a terminal shows it, and does not obey it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
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
from ..runner import Run
from ..store.files import PROGRESS, Files, work_area
from ..store.index import is_store
from ..store.reader import ORIGIN, StoreReader
from ..store.rows import RECORD_ID, STATUS, meta
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


class RunFiles:
    """The files of one unattended run on the store ``out``.

    ``named`` is a progress file of the user's choice, beside which report and errors lie, too; ``ids`` are the rows'
    record ids; ``facts`` stand in the progress file as they are; ``write`` brings the output up to date. All is
    refreshed every few seconds, and after ``every_records``.
    """

    def __init__(
        self,
        out: Path,
        *,
        named: Path | None,
        ids: Sequence[str],
        facts: dict[str, Any],
        write: Callable[[pd.DataFrame], None],
        every_records: int,
    ) -> None:
        self._out = out
        self._progress = [work_area(out) / PROGRESS, *([named] if named else [])]
        self._ids = ids
        self._facts = facts
        self._write = write
        self._every_records = every_records
        self._started = datetime.now(UTC)
        self.failures: list[dict[str, Any]] = []
        """The failed stages of this table as the store has them, those that this run has noticed last."""
        self._noticed: dict[tuple[str, str], str] = {}
        known = _failures(out) if is_store(out) else []
        self._known = {(failure["record"], failure["stage"]): failure["attempts"] for failure in known}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="enrichkit-files", daemon=True)

    def follow(self, run: Run) -> None:
        """Keep the files up to date until `close`, from a thread of its own."""
        self._run = run
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
            self._write(table)
        finally:
            self._put_progress(table, state)
        for path in self._progress:
            _put(path.with_name(REPORT), json.loads(report(self._out).to_json()))

    def _follow(self) -> None:
        counted, due, earliest = 0, time.monotonic() + EVERY_SECONDS, 0.0
        while not self._over.wait(LOOK_SECONDS):
            status, now = self._run.status, time.monotonic()
            complete = status.done + status.failed
            if now < due and (now < earliest or complete < counted + self._every_records):
                continue
            try:
                table = self._run.table
                self._note_failures(table)
                if complete > counted:
                    self._write(table)
                self._put_progress(table, RUNNING)  # after the output: it promises no more than that has
            except (OSError, EnrichError, pa.ArrowException, ValueError) as error:
                LOG.warning("The files could not be brought up to date: %s: %s", type(error).__name__, error)
            counted, earliest = complete, time.monotonic() + SHARE * (time.monotonic() - now)
            due = max(time.monotonic() + EVERY_SECONDS, earliest)

    def _note_failures(self, table: pd.DataFrame) -> None:
        """Take the failures that stand in the store, and log those that were sealed since the last look."""
        here, new, now = set(self._ids), [], datetime.now(UTC).isoformat(timespec="seconds")
        self.failures = []
        for failure in _failures(self._out, table.attrs[ORIGIN]["key"]):
            name = failure["record"], failure["stage"]
            if self._known.get(name) != failure["attempts"]:
                self._known[name], self._noticed[name] = failure["attempts"], now
                new.append(as_json({"when": now} | failure) + "\n")
            if failure["record"] in here and meta(failure["stage"], "status") in table.columns:
                self.failures.append({"when": self._noticed.get(name)} | failure)
        self.failures.sort(key=lambda failure: failure["when"] or "")
        for path in self._progress if new else ():
            with path.with_name(ERRORS).open("a", encoding="utf-8") as log:
                log.writelines(new)

    def _put_progress(self, table: pd.DataFrame, state: str) -> None:
        """Write how far the run is."""
        status, sealed, running = self._run.status, StoreReader(self._out).status(), state == RUNNING
        records = dict(zip(self._ids, table[STATUS], strict=True))
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
            "simulated": status.money.simulated,
            "run_tokens": status.traffic.tokens,
            "run_cost_usd": round(status.money.cost_usd, 6),
            "rate_per_second": round(status.rate_per_second, 3),
            "left_seconds": None if left is None else round(left, 1),
            "eta": None if left is None else (now + timedelta(seconds=left)).isoformat(timespec="seconds"),
            "waiting": status.waiting if running else "",
            "pid": os.getpid(),
        }
        for path in self._progress:
            _put(path, progress | self._facts)


def as_json(value: Any, indent: int | None = None) -> str:
    r"""Return JSON with letters as they are, and escapes for what a terminal would obey.

    >>> print(as_json(["Zoë\x1b[2J\x7f"]))
    ["Zoë\u001b[2J\u007f"]
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text)


def _put(path: Path, value: Any) -> None:
    Files(path.parent, mode=0o666).put(path, (as_json(value, indent=2) + "\n").encode())


def _failures(out: Path, key: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the failed stages of the sealed records."""
    table = StoreReader(out).facts(("status", "error", "attempts"), [RECORD_ID, *key])
    failures = []
    for stage in [name.removesuffix("._status") for name in table.column_names if name.endswith("._status")]:
        for row in table.filter(pc.equal(table.column(meta(stage, "status")), "failed")).to_pylist():
            error = str(row[meta(stage, "error")] or "")
            failures.append(
                {
                    "record": row[RECORD_ID],
                    "key": {name: cell_text(row[name]) for name in key},
                    "stage": stage,
                    "cause": error,
                    "attempts": row[meta(stage, "attempts")],
                    "what_to_do": spelled(advice(error.partition(":")[0]), shell()),
                }
            )
    return failures


def set_aside(out: Path) -> Path | None:
    """Rename a store and its work area; return its new folder, None if there was nothing. Nothing is deleted.

    Raises
    ------
    LockedError
        If a run works on it.
    StoreError
        If it cannot be renamed.
    """
    area, place = work_area(out), out.resolve() if out.is_symlink() else out
    if not place.exists() and not area.exists():
        return None
    name, number = f"{place.name}.{time.strftime('%Y%m%d-%H%M%S')}", 1
    aside = place.with_name(name)
    while aside.exists() or work_area(aside).exists():
        number += 1
        aside = place.with_name(f"{name}-{number}")
    try:
        if not area.is_dir():
            _rename(place, aside)
        else:
            with filelock.FileLock(str(area / "lock"), timeout=0, mode=0o600):
                # The shards first: what a crash in between leaves is taken up by the next call, or set aside by it.
                _rename(place, aside)
                _rename(area, work_area(aside))
    except filelock.Timeout:
        raise LockedError("Another run works on {store}. Wait for it or stop it.", store=out) from None
    except OSError as error:
        reason = error.strerror or error
        raise StoreError("{store} cannot be moved aside: {reason}.", store=out, reason=reason) from error
    if out.is_symlink():
        place.mkdir()
    return aside


def _rename(path: Path, target: Path) -> None:
    if path.exists():
        path.rename(target)
