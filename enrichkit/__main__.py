"""The command line: ``enrichkit``, or ``python -m enrichkit``."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import math
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cli.flags import in_flags, put
from .errors import EnrichError, InputError, Stopped, StoreError
from .formatting import plain
from .gemini.simulator import FAULTS, Quota, Simulator

CODES = (
    "Exit codes: 0 all done; 1 done, but some records failed; 2 wrong use or input; 3 stopped early; 130 interrupted. "
    "After 130 the same command goes on; after 3 too, once the cause is gone (budget, quota, key, disk)."
)
MOST_PORT = 65_535


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    for stream in streams:  # cron's may be ASCII: no letter that it lacks may end a run
        stream.reconfigure(errors="backslashreplace")
    try:
        return _done(_parser().parse_args(arguments))
    finally:
        for stream in streams:
            _let_go(stream)


def _done(found: argparse.Namespace) -> int:
    """Do what was said; return the exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: _say(str(message))
        try:
            return int(found.command(found))
        except EnrichError as error:
            _say(error)
            return exit_code(error) if found.command is _run else 2
        except KeyboardInterrupt as error:
            _say("Interrupted. The same command goes on.")
            return exit_code(error)
        except Exception as error:  # noqa: BLE001 - a defect, too, has to say by its exit code that a rerun goes on
            if isinstance(error, OSError) and error.filename:
                _say(f"{error.filename} cannot be used: {error.strerror}.")
                return exit_code(error)
            for told in traceback.format_exc().splitlines():
                _say(told)
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


def _say(text: object) -> None:
    """Print a sentence on stderr, without what a terminal would obey."""
    with contextlib.suppress(OSError):  # nowhere is left to say it
        print(plain(f"enrichkit: {in_flags(text)}", most=0), file=sys.stderr)


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
    for name, command, told in (
        ("status", _status, "say how far a store is, also while a run is under way"),
        ("report", _report, "say how good a store's answers are, and what they cost"),
        ("verify", _verify, "check every checksum, key and question of a store; 1 if something is wrong"),
        ("export", _export, "write a store's records into a file, one row each, in the order they were completed in"),
    ):
        one = commands.add_parser(name, help=told, description=told, allow_abbrev=False)
        one.add_argument("dir", type=_path, metavar="DIR", help="the store, its progress file (.json), or an --output")
        one.set_defaults(command=command)
        if name == "report":
            one.add_argument("--json", action="store_true", help="as JSON")
        if name == "export":
            one.add_argument(
                "file",
                type=_path,
                metavar="FILE",
                help="its suffix says which kind: .csv, .parquet, ...; replaces a file of that name, but not the input "
                "of the store's last run",
            )
            one.add_argument("--only-new", action="store_true", help="only the key and the new columns")
            one.add_argument("--lists", choices=("readable", "json"), default="readable", help="lists in CSV and Excel")
            one.add_argument("--formulas", choices=("safe", "raw"), default="safe", help="text like =1+1 in those")
    _add_simulate(commands)
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    files = run.add_argument_group("files")
    files.add_argument(
        "--input", type=_path, required=True, metavar="FILE", help="CSV, TSV, Parquet, JSON lines, Excel"
    )
    files.add_argument("--output", type=_path, metavar="FILE", help="default: the input's name with _enriched")
    files.add_argument(
        "--checkpoint",
        type=_path,
        metavar="DIR",
        help="the store, default: beside the output; a name that ends in .json is the progress file's, and the store "
        "lies beside it",
    )
    files.add_argument(
        "--checkpoint-interval",
        type=_count,
        default=10,
        metavar="N",
        help="bring progress file and output up to date every N records, too (default: 10); each reply is on the disk "
        "at once anyway",
    )
    files.add_argument("--shard-rows", type=_count, metavar="N", help="rows per shard (default: 50)")
    what = run.add_argument_group("what is asked")
    what.add_argument(
        "--stages",
        type=lambda text: [one.strip() for one in text.split(",")],
        metavar="NAMES",
        help="default: poc,fund; also deep",
    )
    what.add_argument("--key", action="append", metavar="COLUMN", help="what identifies a record; may be given again")
    what.add_argument("--limit", type=int, metavar="N", help="so many records at most; the rest stays pending")
    what.add_argument("--priority", metavar="COLUMN", help="highest number first")
    what.add_argument(
        "--resume", action="store_true", help="insist that there is something to go on with; a rerun goes on anyway"
    )
    what.add_argument("--fresh", action="store_true", help="a new store; the old one is moved aside, never deleted")
    what.add_argument(
        "--retry-failed", action="store_true", help="ask only what failed; an --output of its own gets just those rows"
    )
    what.add_argument(
        "--on-change",
        choices=("refuse", "redo", "keep"),
        help="where a stage asks another question than the one that was answered (default: refuse)",
    )
    what.add_argument("--redo-damaged", action="store_true", default=None, help="put damaged shards aside, ask again")
    how = run.add_argument_group("how it is asked")
    how.add_argument("--model", help="a model's name, or simulator: no key, no cost")
    how.add_argument("--client", metavar="NAME", help="google-genai (default) or google-generativeai")
    how.add_argument(
        "--max-workers", type=int, dest="workers", metavar="N", help="requests at a time, 1 to 20 (default: 10)"
    )
    how.add_argument("--rpm", type=float, metavar="N", help="requests a minute at most; default: learned from refusals")
    how.add_argument(
        "--delay",
        type=float,
        dest="delay_seconds",
        metavar="SECONDS",
        help="wait between a record's stages (default: 0; the pace does that work)",
    )
    how.add_argument("--budget", type=float, dest="budget_usd", metavar="USD", help="never spend more on this store")
    show = run.add_argument_group("what is shown")
    show.add_argument("--dry-run", action="store_true", help="show the plan and its price; ask and write nothing")
    show.add_argument("--yes", action="store_true", help="do not ask whether to go on")
    show.add_argument("--progress", type=_progress, metavar="HOW", help="auto (default), text or off")
    show.add_argument(
        "--notify",
        action="append",
        metavar="URL",
        help="send a notice when the run ends: an address of apprise; may be given again. Others can see a command's "
        "arguments: the environment variable ENRICHKIT_NOTIFY takes addresses, too, with blanks between them",
    )
    show.add_argument("-v", "--verbose", action="store_true", help="show what goes into run.log")
    run.set_defaults(command=_run)


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


def _run(found: argparse.Namespace) -> int:
    from .cli.unattended import run_file

    return run_file(found)


def _store(found: argparse.Namespace) -> Path:
    """Return the store that a command is about."""
    from .cli.unattended import store_of
    from .store.index import is_store

    out, _ = store_of(found.dir)
    if out.is_file():  # an output, whose store lies beside it unless --checkpoint said otherwise, or an input
        beside = [out.with_suffix(""), out.with_name(f"{out.stem}_enriched")]
        if not (stores := [one for one in beside if is_store(one)]):
            raise InputError(
                "{dir} is a file, and no store lies beside it, neither {name} nor {other}. "
                "Give the folder that was --checkpoint, or its progress file.",
                dir=found.dir,
                name=beside[0].name,
                other=beside[1].name,
            )
        return stores[0]
    return out


def _status(found: argparse.Namespace) -> int:
    from .cli.standing import describe_store

    put(describe_store(_store(found)))
    return 0


def _report(found: argparse.Namespace) -> int:
    from .reporting.report import report

    told = report(_store(found))
    put(told.to_json() if found.json else in_flags(str(told)))
    return 0


def _verify(found: argparse.Namespace) -> int:
    from .reporting.verify import verify

    verified = verify(_store(found))
    put("\n".join(plain(line, most=0) for line in str(verified).splitlines()))
    return 0 if verified.ok else 1


def _export(found: argparse.Namespace) -> int:
    from .reporting.tablefiles import export

    out = _store(found)
    try:
        export(out, found.file, only_new=found.only_new, lists=found.lists, formulas=found.formulas)
    except OSError as error:
        raise InputError(
            "{file} cannot be written: {reason}.", file=found.file, reason=error.strerror or error
        ) from error
    put(f"Written: {plain(str(found.file), most=0)}")
    return 0


def _simulate(found: argparse.Namespace) -> int:
    try:
        simulator = Simulator(
            port=found.port,
            seed=found.seed,
            latency_seconds=found.latency,
            quota=Quota(found.per_minute) if found.per_minute else None,
            requests_per_day=found.per_day,
            faults=dict(found.fault),
        )
    except OSError as error:
        _say(f"Port {found.port} cannot be used: {error.strerror}. Choose another with --port.")
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
