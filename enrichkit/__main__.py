"""The command line: ``enrichkit``, or ``python -m enrichkit``; its parser, and what exit code an end has."""

from __future__ import annotations

import argparse
import importlib.metadata
import inspect
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from .cli import commands
from .cli.doctor import doctor
from .cli.flags import Argument, LibraryWarnings, argument, number, say, settings_arguments
from .cli.run import run_file
from .errors import EnrichError, InputError, Stopped, StoreError
from .formatting import perhaps
from .gemini.simulator import FAULTS

CODES = (
    "Exit codes: 0 all done; 1 done, but some records failed; 2 wrong use or input; 3 stopped early; 130 interrupted. "
    "After 130 the same command goes on; after 3 too, once the cause is gone (budget, quota, key, disk)."
)


class Parser(argparse.ArgumentParser):
    """A parser that says in one sentence what it cannot read."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command."""
        raise InputError("{message}. See {prog} --help.", message=message, prog=self.prog)


class Command(NamedTuple):
    """A command: its function, whose text is its help, and its arguments by group."""

    function: Callable[[argparse.Namespace], int]
    groups: Mapping[str, Sequence[Argument]]
    epilog: str | None = None


FILE: dict[str, Any] = {"type": Path, "metavar": "FILE"}
DIR: dict[str, Any] = {"type": Path, "metavar": "DIR"}
COUNT: dict[str, Any] = {"type": number(int, 1), "metavar": "N"}
EVERY: dict[str, Any] = {**COUNT, "default": 10}
SECONDS: dict[str, Any] = {"type": number(float, 0), "metavar": "SECONDS"}
ON: dict[str, Any] = {"action": "store_true"}
STORE = argument("dir", "the store, or its progress file (.json)", **DIR)
RUN = {
    "files": [
        argument("--input", "the table: CSV, Parquet, JSON lines or Excel", **FILE, required=True),
        argument("--output", "default: the input's name with _enriched", **FILE),
        argument("--checkpoint", "the store, or its progress file (.json); default: beside the output", **DIR),
        argument("--checkpoint-interval", "bring these files up to date every N records (default: 10)", **EVERY),
    ],
    "this call": [
        argument("--dry-run", "show the plan and its price; ask and write nothing", **ON),
        argument("--yes", "do not ask whether to go on", **ON),
        argument("--resume", "fail if there is no run to resume; any rerun resumes", **ON),
        argument("--fresh", "a new store; the old one is moved aside, never deleted", **ON),
    ],
    "settings": settings_arguments(),
}
EXPORT = [
    argument("file", "the file; its suffix says which kind; never the input of the store's last run", **FILE),
    argument("--only-new", "only the key and the new columns", **ON),
    argument("--lists", "lists in CSV and Excel", choices=("readable", "json"), default="readable"),
    argument("--formulas", "text like =1+1 in those", choices=("safe", "raw"), default="safe"),
]
LISTED = [STORE, argument("file", "the file: CSV, Parquet, JSON lines or Excel", **FILE)]
REVIEW = [
    argument("--rows", "how many at most (default: 30)", **COUNT | {"default": 30}),
    argument("--columns", "only these columns", nargs="+", metavar="COLUMN"),
]
SIMULATE = [
    argument("--port", "the port; 0 takes a free one (default: 8899)", type=number(int, 0, 65_535), default=8899),
    argument("--seed", "same seed, same answers (default: 0)", type=int, default=0),
    argument("--latency", "a reply takes so long (default: 0)", **SECONDS, default=0.0),
    argument("--per-minute", "refuse more than N requests a minute", **COUNT),
    argument("--per-day", "refuse more than N requests a day", **COUNT),
    argument(
        "--fault", "a fault and its probability", type=commands.fault, action="append", default=[], metavar="NAME=P"
    ),
]
DOCTOR = [
    *(flag for flag in settings_arguments() if flag[0] in ("--model", "--client")),
    argument("--yes", "do not ask whether to spend a few cents", **ON),
    argument("--patience", "seconds for what gets no answer, in all (default: 60)", **SECONDS, default=60.0),
]
COMMANDS = {
    "run": Command(
        run_file, RUN, f"Example, without key or cost: enrichkit run --input data.csv --model simulator. {CODES}"
    ),
    "status": Command(commands.status_of_store, {"": [STORE]}),
    "report": Command(commands.report_of_store, {"": [STORE, argument("--json", "as JSON", **ON)]}),
    "verify": Command(commands.verify_store, {"": [STORE]}),
    "corrections": Command(commands.corrections_of_store, {"": LISTED}),
    "weak": Command(commands.weak_of_store, {"": LISTED}),
    "evidence": Command(commands.evidence_of_store, {"": LISTED}),
    "review": Command(commands.review_of_store, {"": [*LISTED, *REVIEW]}),
    "decide": Command(commands.decide_cells, {"": [STORE, argument("cells", "the file with the cells", **FILE)]}),
    "export": Command(commands.export_store, {"": [STORE, *EXPORT]}),
    "doctor": Command(doctor, {"": DOCTOR}, "Example, without key or cost: enrichkit doctor --model simulator."),
    "simulate": Command(commands.simulate, {"": SIMULATE}, f"Faults: {', '.join(FAULTS)}."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    for stream in streams:  # cron's may be ASCII: no letter that it lacks may end a run
        stream.reconfigure(errors="backslashreplace")
    library, handler = logging.getLogger("enrichkit"), LibraryWarnings(logging.WARNING)
    library.addHandler(handler)
    running = False
    try:
        args, unknown = _parser().parse_known_args(arguments)
        for name in unknown:
            raise InputError(
                "{prog} has no argument {name!r}.{hint}", prog=args.prog, name=name, hint=perhaps(name, args.flags)
            )
        running = args.function is run_file
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(message.args[0] if isinstance(message, Warning) else message)
            return int(args.function(args))
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - after a defect, too, a rerun goes on
        _say_why(error)
        return exit_code(error, running=running)
    finally:
        library.removeHandler(handler)
        for stream in streams:
            _let_go(stream)


def _parser() -> argparse.ArgumentParser:
    text = "Fill in the missing columns of a table by asking Gemini: no paid answer lost, none paid twice."
    parser = Parser(prog="enrichkit", description=text, epilog=CODES, allow_abbrev=False)
    version = importlib.metadata.version("enrichkit")
    parser.add_argument("--version", action="version", version=f"enrichkit {version}", help="say which this is")
    subparsers = parser.add_subparsers(required=True, metavar="command")
    for name, command in COMMANDS.items():
        text = inspect.getdoc(command.function) or ""
        help_line = text.splitlines()[0]
        short = subparsers.add_parser(name, help=help_line, description=text, epilog=command.epilog, allow_abbrev=False)
        flags = [flag for arguments in command.groups.values() for flag, _ in arguments]
        short.set_defaults(function=command.function, prog=short.prog, flags=flags)
        for title, arguments in command.groups.items():
            group = short.add_argument_group(title) if title else short
            for flag, facts in arguments:
                group.add_argument(flag, **facts)
    return parser


def _say_why(error: BaseException) -> None:
    """Say on stderr why a command has ended."""
    if isinstance(error, EnrichError):
        say(error.sentence)
    elif isinstance(error, KeyboardInterrupt):
        say("Interrupted. The same command goes on.")
    elif isinstance(error, OSError):
        say(f"{error.filename or 'The output'} cannot be used: {error.strerror or error}.")
    else:
        for line in "".join(traceback.format_exception(error)).splitlines():
            say(line)


def exit_code(error: BaseException, *, running: bool) -> int:
    """Return the exit code of what a command raised, while ``running`` a table or not."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    early = isinstance(error, Stopped | StoreError) and running
    return 2 if isinstance(error, EnrichError) and not early else 3


def _let_go(stream: io.TextIOWrapper) -> None:
    """Drop what cannot be written: it would be tried once more at the very end, and change the exit code."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
