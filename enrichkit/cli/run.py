"""The unattended run: a table's file in, its enriched copy out, for a terminal, cron and CI; over the same engine.

It decides nothing that the library does not: it reads, plans, asks whether to go on, runs, and keeps the files.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from ..api import plan_of
from ..errors import EnrichError, InputError, Interrupted, MissingKeyError, Stopped, StoreError
from ..formatting import many
from ..planning.plan import RunPlan
from ..planning.records import record_ids
from ..planning.summary import lines_of
from ..progress.screens import way_to_show
from ..reporting.tablefiles import check_target, read_sheet, write_sheet
from ..runs.lifecycle import check_access, check_setup, look_ahead
from ..runs.options import Options
from ..runs.runner import Run
from ..store.files import PROGRESS, check_place, read_progress, work_area
from ..store.rows import STATUS
from .commands import store_of
from .files import ERRORS, RunFiles, set_aside
from .flags import flags_of_settings, put, shell
from .stages import asked

DONE, FAILED, STOPPED = 0, 1, 3
"""The exit codes; the others belong to what is raised."""


def run_file(args: argparse.Namespace) -> int:
    """Enrich the table in a file.

    Gemini is asked for what is missing in the table, and the enriched table is written into another file. The same
    command goes on where an earlier one ended.
    """
    for name in ("SIGTERM", "SIGHUP"):  # a scheduler's end is an interrupt, from the first moment to the last
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:
            signal.signal(getattr(signal, name), signal.default_int_handler)
    frame = read_sheet(args.input)
    output = args.output or args.input.with_name(f"{args.input.stem}_enriched{args.input.suffix}")
    out, named = store_of(args.checkpoint or output.with_suffix(""))
    check_target(output, out=out, source=args.input)
    if named is not None and named.is_dir():
        raise InputError("{out} {named} is a folder, and would be the progress file. Choose another name.", named=named)
    if args.fresh and (args.resume or args.retry_failed):
        raise InputError(
            "--fresh begins a new store, in which there is nothing to resume or to retry. Leave it out, or leave out "
            "--resume and --retry-failed."
        )
    if args.fresh:
        check_place(out, alone=True)
    given = {name: value for name in flags_of_settings() if (value := getattr(args, name)) is not None}
    options = Options(**given | asked(args) | {"out": out})
    ahead = dataclasses.replace(options, out=out.with_name(f"{out.name}.{id(out)}")) if args.fresh else options
    run_plan, index = look_ahead(frame, ahead)
    if args.resume and index.empty:
        raise InputError("There is nothing to resume: no store at {store}. Give the {out} of the run.", store=out)
    plan = dataclasses.replace(plan_of(run_plan, index, ahead), out=str(out))
    with contextlib.suppress(*[MissingKeyError] * args.dry_run):  # a plan needs no key
        check_access(ahead, run_plan)
    put(*lines_of(plan))
    run_plan.check()
    way_to_show(options.progress)
    check_setup(ahead, [questions.stage for questions in run_plan.stages])
    if args.dry_run:
        put(plan.next_line)
        return DONE
    if plan.to_ask and not agreed(args):
        put("Nothing was asked.")
        return STOPPED
    rows = _rows(args, options, run_plan, output)
    if args.fresh and (aside := set_aside(out)):
        put(f"The old store is now {aside}.")
    whole = str(output.absolute()) if rows is None else read_progress(out).get("output")
    files = RunFiles(
        out,
        progress=[work_area(out) / PROGRESS, *([named] if named else [])],
        ids=_ids(run_plan),
        facts={"input": str(args.input.absolute()), "output": whole},
        write=functools.partial(_write, output=output, original=frame, rows=rows),
        every_records=args.checkpoint_interval,
    )
    run = Run(frame, options, says_why=False, spelling=shell())  # `_follow` says it
    return _follow(run, files, output, rows=rows)


def at_a_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agreed(args: argparse.Namespace) -> bool:
    """Ask a person at a terminal whether to go on; without one, go on."""
    if args.yes or not at_a_terminal():
        return True
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)  # stdout may go to `tee`
    try:
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise


def _rows(args: argparse.Namespace, options: Options, run_plan: RunPlan, output: Path) -> list[bool] | None:
    """Return which rows a retry's own output gets: those it asks again, and those in it already; None for all."""
    whole = read_progress(options.folder).get("output")
    of_all = Path(whole) == output.absolute() if isinstance(whole, str) else output.exists()
    if not args.retry_failed or args.output is None or of_all:
        return None
    retried = {run_plan.id(record) for record in run_plan.order}
    with contextlib.suppress(EnrichError):  # there is none yet, or it is another table
        names = {own: name for name, own in options.names.items()}
        retried.update(record_ids(read_sheet(output).rename(columns=names), run_plan.key))
    return [record in retried for record in _ids(run_plan)]


def _ids(run_plan: RunPlan) -> list[str]:
    """Return each row's record id."""
    return list(run_plan.ids.take(run_plan.record).to_pylist())


def _write(table: pd.DataFrame, *, output: Path, original: pd.DataFrame, rows: Sequence[bool] | None) -> None:
    """Write the output: the whole table, or some rows of it."""
    if rows is not None:
        table, original = table[list(rows)], original[list(rows)]
    if len(table):
        write_sheet(table, output, formulas="safe", original=original)


def _follow(run: Run, files: RunFiles, output: Path, *, rows: Sequence[bool] | None) -> int:
    """Wait for the end, write everything a last time, and say what came of it."""
    error: BaseException | None = None
    left = False
    try:
        files.follow(run)
        table = run.result()
    except (KeyboardInterrupt, Exception) as raised:  # noqa: BLE001 - raised again, once the files are written
        error = raised
        left = isinstance(raised, Interrupted) and not run.done  # at once, without what is in flight
        table = run.stop() if isinstance(raised, Stopped | KeyboardInterrupt) and not left else run.table
    try:
        files.close(table, _state(error))
    except OSError as failed:
        raise StoreError(
            "{output} cannot be written: {reason}. The answers are safe in {store}: fix the "
            "disk, then run the same command, or: enrichkit export {store} FILE.",
            output=output,
            reason=failed.strerror or failed,
            store=files.out,
        ) from failed
    if left and sys.stderr.isatty():  # the cursor stands behind a bar that was never closed
        print(file=sys.stderr)
    put(*_summary(run, files, table, output, rows))
    if error is not None:
        raise error
    return FAILED if (table[STATUS] == "failed").any() else DONE


def _state(error: BaseException | None) -> str:
    """Return how a run ended, in a word for the progress file."""
    if isinstance(error, Stopped):
        return error.reason
    if isinstance(error, KeyboardInterrupt):
        return "interrupt"
    return "done" if error is None else "store" if isinstance(error, StoreError) else "error"


def _summary(
    run: Run, files: RunFiles, table: pd.DataFrame, output: Path, rows: Sequence[bool] | None
) -> Iterator[str]:
    """Yield what came of a run, a sentence each."""
    counts, money = Counter(table[STATUS]), run.status.money
    parts = ", ".join(f"{counts[word]:,} {word}" for word in ("done", "failed", "pending") if counts[word])
    cost = f"{'at least ' * bool(money.unpriced)}{money.cost_usd:.4f} USD{' (simulated)' * money.simulated}"
    asked = f"; this run: {many(run.status.traffic.tokens, 'token')}, {cost}" if run.status.traffic.requests else ""
    yield f"{many(len(table), 'row')}: {parts}{asked}"
    if rows is None or any(rows):
        selected = f" ({many(sum(rows), 'row')})" if rows else ""
        yield f"Written: {output}{selected}; the store is {files.out}"
    else:
        yield f"Nothing in this table had failed, so {output} was not written; the store is {files.out}"
    if causes := Counter(str(failure["cause"]).partition(":")[0] for failure in files.failures):
        parts = ", ".join(f"{count:,} {cause}" for cause, count in causes.most_common())
        yield f"Failed stages: {parts}; see {work_area(files.out) / ERRORS}. To ask them again, add --retry-failed."
