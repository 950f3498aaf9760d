"""Calls that tests of several shelves make: a command in this process, a run in a cell."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stderr, redirect_stdout

from enrichkit.__main__ import main


def told(*arguments):
    """Do what a command does, in this process; return what it said, and its exit code."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err, warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            ended = main(list(map(str, arguments)))
        except SystemExit as leaving:  # of argparse
            ended = leaving.code
    return out.getvalue() + err.getvalue(), ended


def enrich(*arguments, code=0):
    """Do what a command does, in this process; return what it said."""
    said, ended = told(*arguments)
    assert ended == code, said
    return said


def instead(command, *arguments):
    """A command with other values of some of its flags, each of which has one; a flag is given once."""
    replaced = {place for place, part in enumerate(command) if str(part).startswith("--") and part in arguments}
    return [part for place, part in enumerate(command) if not replaced & {place, place - 1}] + [*arguments]


CALL = """
import time
import pandas as pd
import enrichkit
from enrichkit import Answer, Stage
from enrichkit.messages import Failure, Reply, Usage

class Company(Answer):
    industry: str | None = None

def client(request):
    time.sleep(SECONDS)
    return Reply(text='{"confidence": "high"}', usage=Usage(prompt_tokens=1000, output_tokens=100, total_tokens=1100))

stage = Stage("company", prompt="Research {name}.", answer=Company, search=False)
frame = pd.DataFrame({"name": [f"Company {number}" for number in range(ROWS)]})
settings = {"stages": [stage], "key": "name", "model": "gemini-3.5-flash-lite",
            "client": client, "workers": 4, "out": OUT, "shard_rows": 10}
"""


def call(out, rows=40, seconds=0.05):
    """The set-up of a small run, as code; an answer takes so long."""
    return CALL.replace("ROWS", str(rows)).replace("OUT", repr(str(out))).replace("SECONDS", str(seconds))
