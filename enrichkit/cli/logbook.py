"""The logbook: what an unattended run writes for people and monitors, and never reads back as truth.

In the work area: how far the run is, its report, its failures and its log. The output, the whole table as it stands,
is kept up to date with them. All but the logs are replaced in one step, every few seconds and at the end. Text from
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
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import EnrichError
from ..formatting import plain
from ..progress.view import one_line
from ..reporting.quality import advice
from ..reporting.report import FILE as REPORT_FILE
from ..reporting.report import report
from ..runner import Run
from ..store.files import PROGRESS, Files, work_area
from ..store.index import is_store
from ..store.reader import ORIGIN, StoreReader
from ..store.rows import RECORD_ID, STATUS, meta
from ..table.cells import cell_text
from .flags import in_flags
from .standing import RUNNING

ERRORS, LOG = "enrichment_errors.log", "run.log"
MOST_LISTED = 1000
EVERY_SECONDS = 3.0
LOOK_SECONDS = 0.2
SHARE = 20
"""A refresh that takes a second comes every twenty at most: asking has the processor."""
LOG_BYTES = 10_000_000
LIBRARY = logging.getLogger("enrichkit")


class Logbook:
    """The files of one unattended run on the store ``out``.

    ``named`` is a progress file of the user's choice, beside which report and errors lie, too; ``ids`` are the rows'
    record ids; ``begins`` is what the log says first; ``given`` is the input's file, ``output`` that of the whole
    table, and ``write`` brings it up to date. All is refreshed every few seconds, and after ``every_records``;
    ``verbose`` tells on stderr what goes into the log.
    """

    def __init__(
        self,
        out: Path,
        *,
        named: Path | None,
        ids: Sequence[str],
        begins: Sequence[str],
        given: str,
        output: str | None,
        write: Callable[[pd.DataFrame], None],
        every_records: int,
        verbose: bool,
    ) -> None:
        self._out = out
        area = work_area(out)
        self._progress = [area / PROGRESS, *([named] if named else [])]
        self._folders = [area, *([named.parent] if named else [])]
        self._ids = ids
        self._begins = begins
        self._given = given
        self._output = output
        self._write = write
        self._every_records = every_records
        self._started = datetime.now(UTC)
        # Loggers of its own: an SDK's messages, which may hold anything, do not get in.
        self._log = _logger([area / LOG], "%(asctime)s %(levelname)s %(message)s")
        self._errors = _logger([folder / ERRORS for folder in self._folders], "%(message)s")
        shown = logging.StreamHandler()
        shown.setFormatter(_Escaped("%(message)s"))
        # The library's own warnings do get in. A handler of ours ends the one that Python shows them by.
        self._overhears = [*self._log.handlers, *([] if LIBRARY.hasHandlers() else [shown])]
        if verbose:
            self._log.addHandler(shown)
        self.say = self._log.info
        self.warn = self._log.warning
        self.failures: list[dict[str, Any]] = []
        """The failed stages of this table as the store has them, those that this run has noticed last."""
        self._when: dict[tuple[str, str], str] = {}
        known = _failures(out) if is_store(out) else []
        self._known = {(one["record"], one["stage"]): one["attempts"] for one in known}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="enrichkit-logbook", daemon=True)

    def follow(self, run: Run) -> None:
        """Keep the files up to date until `close`, from a thread of its own."""
        self._run = run
        for handler in self._overhears:
            LIBRARY.addHandler(handler)
        for told in self._begins:
            self.say(told)
        self._thread.start()

    def close(self, table: pd.DataFrame, ended: str, why: str) -> None:
        """Write everything a last time, the report too; ``why`` is the sentence about an early end.

        Raises
        ------
        OSError
            If the output or a file cannot be written.
        """
        self._over.set()
        self._thread.join()
        for handler in self._overhears:
            LIBRARY.removeHandler(handler)
        self._note_failures(table)
        try:
            self._write(table)
        finally:
            self._put_progress(table, ended)
        found = report(self._out)
        for folder in self._folders:
            _put(folder / REPORT_FILE, json.loads(found.to_json()))
        for told in filter(None, (f"{ended}: {one_line(self._run.status, ended=True)}", why)):
            self.say(told)
        for logger in (self._log, self._errors):
            for handler in logger.handlers:
                handler.close()

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
                self.warn(f"The files could not be brought up to date: {type(error).__name__}: {error}")
            took = time.monotonic() - now
            counted, earliest = complete, time.monotonic() + SHARE * took
            due = max(time.monotonic() + EVERY_SECONDS, earliest)

    def _note_failures(self, table: pd.DataFrame) -> None:
        """Look what stands as failed in the store, and log what was sealed since the last look."""
        found, here = [], set(self._ids)
        for one in _failures(self._out, table.attrs[ORIGIN]["key"]):
            name = one["record"], one["stage"]
            if self._known.get(name) != one["attempts"]:
                self._known[name], self._when[name] = one["attempts"], _now()
                self._errors.info(as_json({"when": self._when[name]} | one))
                self.warn(f"Record {one['record']}, stage {one['stage']}, failed: {one['cause']}")
            if one["record"] in here and meta(one["stage"], "status") in table.columns:
                found.append({"when": self._when.get(name)} | one)
        self.failures = sorted(found, key=lambda one: one["when"] or "")

    def _put_progress(self, table: pd.DataFrame, state: str) -> None:
        """Write how far the run is."""
        status, sealed, running = self._run.status, StoreReader(self._out).status(), state == RUNNING
        found = dict(zip(self._ids, table[STATUS], strict=True))
        by = {word: [name for name, state in found.items() if state == word] for word in ("done", "failed")}
        left = status.left_seconds if running else None
        now = datetime.now(UTC)
        progress = {
            "state": state,
            "started_at": self._started.isoformat(timespec="seconds"),
            "last_updated": now.isoformat(timespec="seconds"),
            "total_records": len(found),
            "completed_count": len(by["done"]),
            "failed_count": len(by["failed"]),
            "completed_ids": by["done"][-MOST_LISTED:],
            "failed_ids": by["failed"][-MOST_LISTED:],
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
            "input": self._given,
            "output": self._output,
            "pid": os.getpid(),
        }
        for path in self._progress:
            _put(path, progress)


def as_json(value: Any, indent: int | None = None) -> str:
    r"""Return JSON with letters as they are, and escapes for what a terminal would obey.

    >>> print(as_json(["Zoë\x1b[2J\x7f"]))
    ["Zoë\u001b[2J\u007f"]
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


def _failures(out: Path, key: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the failed stages of the sealed records."""
    table = StoreReader(out).facts(("status", "error", "attempts"), [RECORD_ID, *key])
    found = []
    for stage in [name.removesuffix("._status") for name in table.column_names if name.endswith("._status")]:
        for row in table.filter(pc.equal(table.column(meta(stage, "status")), "failed")).to_pylist():
            error = str(row[meta(stage, "error")] or "")
            cause = error.partition(":")[0]
            found.append(
                {
                    "record": row[RECORD_ID],
                    "key": {name: cell_text(row[name]) for name in key},
                    "stage": stage,
                    "cause": error,
                    "attempts": row[meta(stage, "attempts")],
                    "what_to_do": in_flags(advice(cause)),
                }
            )
    return found


def _put(path: Path, value: Any) -> None:
    Files(path.parent).put(path, (as_json(value, indent=2) + "\n").encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _logger(paths: Sequence[Path], form: str) -> logging.Logger:
    """Return a logger that nothing else is told of, into some files."""
    logger = logging.Logger("enrichkit")
    for path in paths:
        handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True)
        handler.setFormatter(_Escaped(form))
        logger.addHandler(handler)
    return logger


class _Escaped(logging.Formatter):
    """One line for each message, without what a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record), most=0)
