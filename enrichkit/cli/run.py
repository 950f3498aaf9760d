"""The unattended run: a table's file in, its enriched copy out, for a terminal, cron and CI; over the same engine.

It decides nothing that the library does not: it reads, plans, asks whether to go on, runs, and keeps the files.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..api import check, plan_of
from ..errors import EnrichError, InputError, Interrupted, MissingKeyError, Stopped, StoreError
from ..formatting import many, plain, spelled
from ..options import Options
from ..planning.records import record_ids
from ..planning.summary import Plan, lines_of
from ..reporting.tablefiles import as_written, check_outside, check_size, format_of, read_sheet, write_sheet
from ..runner import Run
from ..stages import funds
from ..store.files import folder_of, read_progress, work_area
from ..store.index import is_store
from ..store.reader import StoreReader, StoreStatus
from ..store.rows import RECORD_ID, STATUS, facts_of
from .files import ERRORS, RunFiles, set_aside
from .flags import flags_of_settings, put, shell

DONE, FAILED, STOPPED = 0, 1, 3
"""The exit codes; the others belong to what is raised."""
SAMPLE = 10
"""So many records measure what the rest will cost."""
SHARD_FOLDER = re.compile(r"shard=s\d+")


def run_file(args: argparse.Namespace) -> int:
    """Enrich the table in a file, as the command line says; return the exit code."""
    if args.fresh and (args.resume or args.retry_failed):
        raise InputError(
            "--fresh begins a new store, in which there is nothing to resume or to retry. Leave it out, or leave out "
            "--resume and --retry-failed."
        )
    for name in ("SIGTERM", "SIGHUP"):  # a scheduler's end is an interrupt, from the first moment to the last
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:
            signal.signal(getattr(signal, name), signal.default_int_handler)
    if args.input.is_dir():
        raise InputError("--input {input} is a folder. Give the table's file.", input=args.input)
    output = args.output or args.input.with_name(f"{args.input.stem}_enriched{args.input.suffix}")
    out, named = store_of(args.checkpoint or output.with_suffix(""))
    _check_names(args.input, output, out)
    frame = read_sheet(args.input)
    _check_columns(args.input, frame)
    _check_output(output, frame, out)
    _check_store(args, output, out, named)
    options, rows = _options(args, frame, output, out)
    ahead = _look_ahead(args, frame, options)
    if args.dry_run:
        return DONE
    if ahead.to_ask and not _agreed(args):
        put("Nothing was asked.")
        return STOPPED
    if args.fresh and (aside := set_aside(out)):
        put(f"The old store is now {plain(str(aside), most=0)}.")
    whole = str(output.absolute()) if rows is None else read_progress(out).get("output")
    files = RunFiles(
        out,
        named=named,
        ids=record_ids(frame, options.key),
        facts={"input": str(args.input.absolute()), "output": whole},
        write=functools.partial(_write, output=output, original=frame, rows=rows),
        every_records=args.checkpoint_interval,
    )
    run = Run(frame, options, says_why=False, spelling=shell())  # `_follow` says it
    return _follow(run, files, output, out, rows=rows)


def _options(
    args: argparse.Namespace, frame: pd.DataFrame, output: Path, out: Path
) -> tuple[Options, Sequence[bool] | None]:
    """Return the run's options; and which rows the output of a retry gets, if it is one of its own."""
    given = {name: getattr(args, name, None) for name in flags_of_settings()}
    settings = {name: value for name, value in given.items() if value is not None}
    settings |= {"out": out} | ({"key": key} if (key := _key(args.key, frame)) else {})
    rows = None
    if args.retry_failed:
        settings["retry_failed"] = "only"
        if _of_its_own(args, output, out):
            rows = _rows(frame, settings, _failed(out, settings) | _records_in(output, settings))
    return Options(**settings), rows


def _look_ahead(args: argparse.Namespace, frame: pd.DataFrame, options: Options) -> Plan:
    """Return the plan, having told it, and refused what the run would be refused for."""
    seen = dataclasses.replace(options, out=_no_store(options.folder)) if args.fresh else options
    ahead = dataclasses.replace(plan_of(frame, seen), out=str(options.folder))
    put("\n".join(plain(spelled(line, shell()), most=0) for line in lines_of(ahead)))
    with contextlib.suppress(*[MissingKeyError] * args.dry_run):  # a plan needs no key
        check(frame, seen)
    if args.dry_run:
        sample = ahead.to_ask and not ahead.done and ahead.records > SAMPLE and args.limit is None
        more = f", with --limit {SAMPLE} first, to measure what it costs" if sample else ""
        put(
            f"Next: {spelled(ahead.fix_first, shell())}."
            if ahead.fix_first
            else f"Next: the same command without --dry-run{more}."
        )
    return ahead


def _follow(run: Run, files: RunFiles, output: Path, out: Path, *, rows: Sequence[bool] | None) -> int:
    """Wait for the end, write everything a last time, and say what came of it."""
    error: BaseException | None = None
    left = False
    try:
        files.follow(run)
        table = run.result()
    except (KeyboardInterrupt, Exception) as raised:  # noqa: BLE001 - told below, once the files are written
        error = raised
        left = isinstance(raised, Interrupted) and not run.done  # at once, without what is in flight
        table = run.stop() if isinstance(raised, Stopped | KeyboardInterrupt) and not left else run.table
    if isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted):
        error = Interrupted("Interrupted. The same command goes on.", reason="interrupt", done=0, left=run.status.left)
    ended, code = _ending(error, table)
    try:
        files.close(table, ended)
    except OSError as failed:
        raise StoreError(
            "{output} cannot be written: {reason}. The answers are safe in {store}: mend the "
            "disk, then run the same command, or: enrichkit export {store} FILE.",
            output=output,
            reason=failed.strerror or failed,
            store=out,
        ) from failed
    if left and sys.stderr.isatty():  # the cursor stands behind a bar that nobody has closed
        print(file=sys.stderr)
    counts, status = Counter(table[STATUS]), run.status
    parts = ", ".join(f"{counts[word]:,} {word}" for word in ("done", "failed", "pending") if counts[word])
    cost = f"{status.money.cost_usd:.4f} USD{' (simulated)' * status.money.simulated}"
    put(f"{many(len(table), 'row')}: {parts}; this run: {many(status.traffic.tokens, 'token')}, {cost}")
    name, store = (plain(str(path), most=0) for path in (output, out))
    if rows is None or any(rows):
        selected = f" ({many(sum(rows), 'row')})" if rows else ""
        put(f"Written: {name}{selected}; the store is {store}")
    else:
        put(f"Nothing in this table had failed, so {name} was not written; the store is {store}")
    if causes := Counter(str(failure["cause"]).partition(":")[0] for failure in files.failures):
        parts = ", ".join(f"{count:,} {plain(cause)}" for cause, count in causes.most_common())
        where = plain(str(work_area(out) / ERRORS), most=0)
        put(f"Failed stages: {parts}; see {where}. To ask them again, add --retry-failed.")
    if error is not None:
        raise error
    return code


def _ending(error: BaseException | None, table: pd.DataFrame) -> tuple[str, int]:
    """Return how a run ended, in a word for the progress file, and its exit code if it ended well."""
    if isinstance(error, Stopped):
        return error.reason, STOPPED
    if error is not None:
        return "store" if isinstance(error, StoreError) else "error", STOPPED
    return "done", FAILED if (table[STATUS] == "failed").any() else DONE


def store_of(path: Path) -> tuple[Path, Path | None]:
    """Return the store that a path means, and the progress file if it names one.

    >>> from pathlib import Path
    >>> store_of(Path("/data/enrichment_progress.json"))[0].as_posix()
    '/data/enrichment_progress'
    """
    folder = folder_of(path)
    if folder.name in ("", ".."):
        raise InputError("{path} is no folder for a store. Give another one.", path=path)
    if folder.suffix == ".json":
        return folder.with_suffix(""), folder
    return (folder.with_suffix("") if folder.suffix == ".work" else folder), None


def _check_names(*paths: Path) -> None:
    """Refuse paths that are none: too long, or links that lead to themselves."""
    for path in paths:
        try:
            path.resolve().exists()
        except (OSError, RuntimeError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(
                "{path} is no path that can be used: {why}.", path=plain(str(path), most=100), why=why
            ) from error


def _check_output(output: Path, frame: pd.DataFrame, out: Path) -> None:
    """Refuse an output that could not be written at the end, before anything is asked."""
    format_of(output)
    check_size(output, len(frame), len(frame.columns))
    if output.is_dir():
        raise InputError("{output} is a folder. Give --output a file's name.", output=output)
    if out == output.absolute():
        raise InputError(
            "--checkpoint and --output are both {output}. The store is a folder: give it another name.", output=output
        )
    check_outside(output, out)
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            "{output} cannot be written: {folder} is not yours to write in. Give --output another name.",
            output=output,
            folder=folder,
        )


def _check_store(args: argparse.Namespace, output: Path, out: Path, named: Path | None) -> None:
    """Refuse a store that is none, or is not there though it has to be; and what would be written over."""
    if named is not None and named.is_dir():
        raise InputError(
            "--checkpoint {named} is a folder, and would be the progress file. Give it another name.", named=named
        )
    if out.exists() and not out.is_dir():
        raise InputError("--checkpoint {store} is a file. The store is a folder: give it another name.", store=out)
    shards, others = _within(out)
    if others and (args.fresh or not shards):
        raise InputError(
            "{store}, where the store would be, is a folder with other things in it, such as "
            "{others}. Give --checkpoint another name, or move them away.",
            store=out,
            others=others[0],
        )
    if output.exists() and output.samefile(args.input):
        raise InputError("--output {output} is the input itself. Give it another name.", output=output)
    if args.retry_failed or args.resume:
        held = StoreReader(out).status() if is_store(out) else StoreStatus()
        if held == StoreStatus():
            verb = "resume" if args.resume else "retry"
            raise InputError(
                "There is nothing to {verb}: no store at {store}. Name it with --checkpoint; "
                "without that, it is looked for beside --output.",
                verb=verb,
                store=out,
            )


def _check_columns(path: Path, frame: pd.DataFrame) -> None:
    """Refuse what a run would write over, such as an output given as input, which would be asked and paid anew."""
    ours = facts_of(funds.STAGES)
    if written := [name for name in frame.columns if name in ours]:
        more = f" and {len(written) - 1:,} more" if len(written) > 1 else ""
        raise InputError(
            "{path} has the column {name!r}{more}, which a run writes. If it is an earlier run's output, give the "
            "--input of that run, and the same --checkpoint; if not, rename or drop them.",
            path=path,
            name=written[0],
            more=more,
        )


def _within(out: Path) -> tuple[list[str], list[str]]:
    """Return a folder's shards, and what else is in it: a fresh start would carry it off."""
    names = sorted(path.name for path in out.glob("[!._]*"))
    shards = [name for name in names if SHARD_FOLDER.fullmatch(name)]
    return shards, [name for name in names if name not in shards]


def _key(named: Sequence[str] | None, frame: pd.DataFrame) -> list[str]:
    """Return the key's columns: each name is one, or several with commas between."""
    columns = {str(name) for name in frame.columns}
    return [column for name in named or () for column in ([name] if name in columns else name.split(","))]


def _agreed(args: argparse.Namespace) -> bool:
    """Ask a person at a terminal whether to go on; nobody else is asked."""
    if args.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)  # stdout may go to `tee`
    try:
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise


def _no_store(out: Path) -> Path:
    """Return a path beside a store where there is none."""
    return out.with_name(f"{out.name}.fresh-{id(out)}")


def _failed(out: Path, settings: dict[str, Any]) -> set[str]:
    """Return the records with a failed stage among those that are asked."""
    table = StoreReader(out).facts(("status",), [RECORD_ID])
    asked = {f"{stage}._status" for stage in settings.get("stages", Options().stages)}
    columns = [table.column(name).to_pylist() for name in table.column_names if name in asked]
    records = table.column(RECORD_ID).to_pylist() if table.num_rows else []
    return {record for record, *statuses in zip(records, *columns, strict=True) if "failed" in statuses}


def _of_its_own(args: argparse.Namespace, output: Path, out: Path) -> bool:
    """Whether the output of a retry is another file than the whole table's."""
    if args.output is None:
        return False
    whole = read_progress(out).get("output")
    return Path(whole) != output.absolute() if isinstance(whole, str) else not output.exists()


def _rows(frame: pd.DataFrame, settings: dict[str, Any], records: set[str]) -> list[bool]:
    return [record in records for record in record_ids(frame, settings.get("key"))]


def _records_in(output: Path, settings: dict[str, Any]) -> set[str]:
    """Return the records in the output of an earlier retry, which keeps them."""
    try:
        return set(record_ids(read_sheet(output), settings.get("key")))
    except EnrichError:
        return set()


def _write(
    table: pd.DataFrame,
    *,
    output: Path,
    original: pd.DataFrame,
    rows: Sequence[bool] | None,
) -> None:
    """Write the output: the whole table, or some rows of it."""
    if rows is not None:
        table, original = table[list(rows)], original[list(rows)]
    if len(table):
        write_sheet(as_written(table, output, original=original), output)
