"""The command line: ``enrichkit``, or ``python -m enrichkit``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.metadata
import io
import json
import logging
import math
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .cli.flags import LibraryWarnings, flags_of_settings, put, say, shell
from .errors import EnrichError, InputError, Stopped, StoreError
from .formatting import duration, many, plain
from .gemini.simulator import FAULTS, Quota, Simulator
from .options import Options, described

CODES = (
    "Exit codes: 0 all done; 1 done, but some records failed; 2 wrong use or input; 3 stopped early; 130 interrupted. "
    "After 130 the same command goes on; after 3 too, once the cause is gone (budget, quota, key, disk)."
)
MOST_PORT = 65_535
KINDS = "CSV, TSV, Parquet, JSON lines or Excel"
CHECKPOINT = (
    "the store, default: beside the output; a name that ends in .json is the progress file's, and the store lies "
    "beside it"
)
INTERVAL = "bring progress file and output up to date every N records, too (default: 10); each reply is on disk anyway"
SHELL_HELP = {
    "stages": "what is asked, with commas between (default: poc,fund); also deep",
    "key": "a column that identifies a record; may be given again",
    "client": "google-genai (default) or google-generativeai",
    "priority": "a column with a number per record; the highest are asked first",
    "retry_failed": "ask only what failed; an --output of its own gets just those rows",
    "notify": "send a notification when the run ends: an address of apprise; may be given again. Others can see a "
    "command's arguments: ENRICHKIT_NOTIFY in the environment takes addresses, too, with blanks between them",
    "progress": "auto (default), text or off",
}
"""Where the command line says something else than the setting's own text."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    for stream in streams:  # cron's may be ASCII: no letter that it lacks may end a run
        stream.reconfigure(errors="backslashreplace")
    library, handler = logging.getLogger("enrichkit"), LibraryWarnings(logging.WARNING)
    library.addHandler(handler)
    try:
        return _done(_parser().parse_args(arguments))
    finally:
        library.removeHandler(handler)
        for stream in streams:
            _let_go(stream)


def _done(args: argparse.Namespace) -> int:
    """Do what was said; return the exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: say(message.args[0] if isinstance(message, Warning) else message)
        try:
            return int(args.command(args))
        except EnrichError as error:
            say(error.sentence)
            return exit_code(error) if args.command is _run else 2
        except KeyboardInterrupt as error:
            say("Interrupted. The same command goes on.")
            return exit_code(error)
        except Exception as error:  # noqa: BLE001 - a defect, too, has to say by its exit code that a rerun goes on
            if isinstance(error, OSError) and error.filename:
                say(f"{error.filename} cannot be used: {error.strerror}.")
                return exit_code(error)
            for line in traceback.format_exc().splitlines():
                say(line)
            return exit_code(error)


def exit_code(error: BaseException) -> int:
    """Return the exit code of what a command raised."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, EnrichError) and not isinstance(error, Stopped | StoreError) else 3


def _let_go(stream: io.TextIOWrapper) -> None:
    """Drop what cannot be written: it would be tried once more at the very end, and change the exit code."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="enrichkit",
        description="Fill in the missing columns of a table by asking Gemini: no paid answer lost, none paid twice.",
        epilog=CODES,
        allow_abbrev=False,
    )
    version = importlib.metadata.version("enrichkit")
    parser.add_argument("--version", action="version", version=f"enrichkit {version}", help="say which this is")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_run(
        commands.add_parser(
            "run",
            help="enrich the table in a file",
            description="Ask Gemini for what is missing in the table in a file, and write the enriched table into "
            "another. The same command goes on where an earlier one ended.",
            epilog=f"Example, without key or cost: enrichkit run --input data.csv --model simulator. {CODES}",
            allow_abbrev=False,
        )
    )
    for name, command, text in (
        ("status", _status, "say how far a store is, also while a run is under way"),
        ("report", _report, "say how good a store's answers are, and what they cost"),
        ("verify", _verify, "check every checksum, key and question of a store; 1 if something is wrong"),
        ("export", _export, "write a store's records into a file, one row each, in the order they were completed in"),
    ):
        short = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        short.add_argument(
            "dir", type=_path, metavar="DIR", help="the store, its progress file (.json), or an --output"
        )
        short.set_defaults(command=command)
        if name == "report":
            short.add_argument("--json", action="store_true", help="as JSON")
        if name == "export":
            short.add_argument(
                "file",
                type=_path,
                metavar="FILE",
                help="its suffix says which kind: .csv, .parquet, ...; replaces a file of that name, but not the input "
                "of the store's last run",
            )
            short.add_argument("--only-new", action="store_true", help="only the key and the new columns")
            short.add_argument(
                "--lists", choices=("readable", "json"), default="readable", help="lists in CSV and Excel"
            )
            short.add_argument("--formulas", choices=("safe", "raw"), default="safe", help="text like =1+1 in those")
    _add_simulate(commands)
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    files = run.add_argument_group("files")
    files.add_argument("--input", type=_path, required=True, metavar="FILE", help=f"the table: {KINDS}")
    files.add_argument("--output", type=_path, metavar="FILE", help="default: the input's name with _enriched")
    files.add_argument("--checkpoint", type=_path, metavar="DIR", help=CHECKPOINT)
    files.add_argument("--checkpoint-interval", type=_count, default=10, metavar="N", help=INTERVAL)
    call = run.add_argument_group("this call")
    call.add_argument("--dry-run", action="store_true", help="show the plan and its price; ask and write nothing")
    call.add_argument("--yes", action="store_true", help="do not ask whether to go on")
    call.add_argument("--resume", action="store_true", help="fail if there is no run to resume; any rerun resumes")
    call.add_argument("--fresh", action="store_true", help="a new store; the old one is moved aside, never deleted")
    _add_settings(run.add_argument_group("settings"))
    run.set_defaults(command=_run)


def _add_settings(settings: Any) -> None:
    """Add a flag for each setting that has one; the first sentence of its text is the help."""
    texts, fields = described(), {field.name: field for field in dataclasses.fields(Options)}
    special: dict[str, dict[str, Any]] = {
        "stages": {"type": lambda text: [name.strip() for name in text.split(",")]},
        "key": {"action": "append"},
        "notify": {"action": "append"},
        "progress": {"type": _progress},
        "on_change": {"choices": ("refuse", "redo", "keep")},
        "retry_failed": {"action": "store_true"},
        "redo_damaged": {"action": "store_true", "default": None},
    }
    for name, flag in flags_of_settings().items():
        field, text = fields[name], re.split(r"[.;] ", texts[name].rstrip("."))[0].replace("``", "")
        if isinstance(field.default, str | int | float) and not isinstance(field.default, bool):
            text += f" (default: {field.default})"
        number = next((kind for kind in (int, float) if str(field.type).startswith(kind.__name__)), str)
        facts = {"help": SHELL_HELP.get(name, text[0].lower() + text[1:])} | special.get(name, {"type": number})
        metavar = {"metavar": field.metadata["metavar"]} if "metavar" in field.metadata else {}
        settings.add_argument(flag, dest=name, **facts, **metavar)


def _add_simulate(commands: Any) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="serve a simulated Gemini on 127.0.0.1",
        description="Serve a simulated Gemini on 127.0.0.1 until interrupted. Everything it answers is invented.",
        epilog=f"Faults: {', '.join(FAULTS)}.",
        allow_abbrev=False,
    )
    simulate.add_argument(
        "--port", type=_port, default=8899, help="port to listen on; 0 takes a free one (default: 8899)"
    )
    simulate.add_argument("--seed", type=int, default=0, help="same seed, same answers (default: 0)")
    simulate.add_argument(
        "--latency", type=_latency, default=0.0, metavar="SECONDS", help="a reply takes so long; 0.5-3 is a spread"
    )
    simulate.add_argument("--per-minute", type=_count, metavar="N", help="refuse more than N requests a minute")
    simulate.add_argument("--per-day", type=_count, metavar="N", help="refuse more than N requests a day")
    simulate.add_argument(
        "--fault", type=_fault, action="append", default=[], metavar="NAME=P", help="a fault and its probability"
    )
    simulate.set_defaults(command=_simulate)


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()  # a shell leaves the ~ in --output=~/x
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a whole number above 0 is needed, not {text!r}")
    return int(text)


def _progress(text: str) -> str | bool:
    if text not in ("auto", "text", "off"):
        raise argparse.ArgumentTypeError(f"auto, text or off is needed, not {text!r}")
    return False if text == "off" else text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_PORT:
        raise argparse.ArgumentTypeError(f"a port's number, 0 to {MOST_PORT}, is needed, not {text!r}")
    return int(text)


def _latency(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    with contextlib.suppress(ValueError):
        if 0 <= float(low) <= float(high or low) < math.inf:
            return float(low), float(high or low)
    raise argparse.ArgumentTypeError(f"seconds are needed, such as 2, or 0.5-3, the least first, not {text!r}")


def _fault(text: str) -> tuple[str, float]:
    name, _, probability = text.partition("=")
    if name not in FAULTS:
        raise argparse.ArgumentTypeError(f"there is no fault {name!r}")
    with contextlib.suppress(ValueError):
        if 0 <= float(probability or 1) <= 1:
            return name, float(probability or 1)
    raise argparse.ArgumentTypeError(f"a probability from 0 to 1 is needed for {name}, not {probability!r}")


def _run(args: argparse.Namespace) -> int:
    from .cli.run import run_file

    return run_file(args)


def _store(args: argparse.Namespace) -> Path:
    """Return the store that a command is about."""
    from .cli.run import store_of
    from .store.index import is_store

    out, _ = store_of(args.dir)
    if out.is_file():  # an output, whose store lies beside it unless --checkpoint said otherwise, or an input
        beside = [out.with_suffix(""), out.with_name(f"{out.stem}_enriched")]
        if not (stores := [path for path in beside if is_store(path)]):
            raise InputError(
                "{dir} is a file, and no store lies beside it, neither {name} nor {other}. "
                "Give the folder that was --checkpoint, or its progress file.",
                dir=args.dir,
                name=beside[0].name,
                other=beside[1].name,
            )
        return stores[0]
    return out


def _status(args: argparse.Namespace) -> int:
    from .store.files import read_progress
    from .store.reader import StoreReader

    out = _store(args)
    held, run = StoreReader(out).status(), read_progress(out)
    more = f", {held.pending:,} waiting for a stage" if held.pending else ""
    more += f", {many(held.unsealed, 'question')} answered, not sealed yet" if held.unsealed else ""
    label = "simulated; " if held.simulated else ""
    lines = [
        f"{out}: {many(held.done, 'record')} done, {held.failed:,} failed{more}",
        f"{many(held.tokens, 'token')}, {held.cost_usd:.4f} USD ({label}sealed records, known prices)",
    ]
    if run:
        lines.append(_last_run(run))
    put("\n".join(plain(line, most=0) for line in lines))
    return 0


def _last_run(run: dict[str, Any]) -> str:
    """Say what the last run wrote about itself, and how long ago."""
    ago = ""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        ago = f" {duration((datetime.now(UTC) - datetime.fromisoformat(run['last_updated'])).total_seconds())} ago"
    pace = f", {run.get('rate_per_second')} records/s" if run.get("state") == "running" else ""
    pace += f", {duration(run['left_seconds'])} left" if pace and run.get("left_seconds") else ""
    return (
        f"The last run: {run.get('state')}, updated{ago}: {run.get('completed_count')} of {run.get('total_records')} "
        f"records complete, {run.get('failed_count')} failed{pace}"
    )


def _report(args: argparse.Namespace) -> int:
    from .reporting.report import report

    whole = report(_store(args))
    put(whole.to_json() if args.json else whole.text(shell()))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from .reporting.verify import verify

    verified = verify(_store(args))
    put("\n".join(plain(line, most=0) for line in str(verified).splitlines()))
    return 0 if verified.ok else 1


def _export(args: argparse.Namespace) -> int:
    from .reporting.tablefiles import export

    out = _store(args)
    try:
        export(out, args.file, only_new=args.only_new, lists=args.lists, formulas=args.formulas)
    except OSError as error:
        raise InputError(
            "{file} cannot be written: {reason}.", file=args.file, reason=error.strerror or error
        ) from error
    put(f"Written: {plain(str(args.file), most=0)}")
    return 0


def _simulate(args: argparse.Namespace) -> int:
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
        say(f"Port {args.port} cannot be used: {error.strerror}. Choose another with --port.")
        return 2
    with simulator:
        put(f"A simulated Gemini answers at {simulator.url} until you press Ctrl-C. Its answers are invented.")
        put(f"To use it: GOOGLE_GEMINI_BASE_URL={simulator.url} GOOGLE_API_KEY=simulated")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            counts = {name: value for name, value in simulator.counts().items() if name != "prompts"}
            put("\n" + json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
