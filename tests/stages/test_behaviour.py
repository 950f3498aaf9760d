"""The reading's fingerprint: it covers what the user's code does, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest import mock

import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Issue, Stage, funds
from enrichkit.stages.behaviour import behaviour
from support.clients import Teller

SOURCE = '''
import functools, re
from typing import Annotated, Literal
from pydantic import AfterValidator, BaseModel, Field, field_validator
import enrichkit

LEAST = 5
TOWNS = {"Marl": {"a", "b", "c"}, "Osk": frozenset("xyz")}
SHAPE = re.compile("[a-z]+")

def enough(crew):
    return crew > LEAST

def capital(text):
    if text[0].islower():
        raise ValueError("begin with a capital")
    return text

class Yard(BaseModel):
    berths: Annotated[int, Field(ge=0)] | None = None

class Port(enrichkit.Answer):
    town: Annotated[str, AfterValidator(capital)] | None = None
    crew: int | None = Field(None, le=99)
    yards: list[Yard] | None = None
    size: str | None = None

    @field_validator("size")
    @classmethod
    def known(cls, size):
        return size.strip()

    def small(self):
        return (self.crew or 0) < 10

def maker(most):
    return lambda answer, record: [enrichkit.Issue("crew", "many")] if (answer.crew or 0) > most else []

def sized(answer, record, most=50):
    """Find what is too small."""
    if answer.crew and not enough(answer.crew) and answer.town in TOWNS and answer.small():
        yield enrichkit.Issue("crew", "few", instead=None)  # too small
    yield from [enrichkit.Issue("town", "odd") for part in {"x", "y", "z"} if SHAPE.fullmatch(part) and part == "?"]

CHECKS = [sized, maker(80), functools.partial(sized, most=60), lambda answer, record: ()]
STAGE = enrichkit.Stage("port", prompt="Research {name}.", answer=Port, search=False, checks=CHECKS)
'''
EDITS = {
    "constant": ("LEAST = 5", "LEAST = 10"),
    "table": ('"c"}', '"d"}'),
    "pattern": ('"[a-z]+"', '"[a-y]+"'),
    "called function": ("crew > LEAST", "crew >= LEAST"),
    "check": ('"few", instead=None', '"few"'),
    "default": ("most=50", "most=51"),
    "closure": ("maker(80)", "maker(81)"),
    "partial": ("most=60", "most=61"),
    "lambda": ("record: ()", "record: []"),
    "method": ("< 10", "< 11"),
    "validator": ("size.strip()", "size.lower()"),
    "its mode": ('field_validator("size")', 'field_validator("size", mode="before")'),
    "validator of a type": ("islower()", "isdigit()"),
    "le": ("le=99", "le=98"),
    "nested ge": ("ge=0", "ge=1"),
}
SAME = {
    "comment": ("# too small", "# far too small\n"),
    "docstring": ("Find what is too small", "Find it"),
    "formatting": ("crew > LEAST", "(\n        crew\n        > LEAST)"),
    "unused": ("LEAST = 5", "LEAST = 5\nMOST = 9\n"),
}


FRAME = pd.DataFrame({"name": ["A"]})


class Port(Answer):
    """A number."""

    n: int | None = None


def load(path: Path, source: str) -> ModuleType:
    """Return a module of this name and source, as in another start of Python."""
    module = ModuleType(path.stem)
    with mock.patch.dict(sys.modules, {path.stem: module}):
        exec(compile(source, path, "exec"), vars(module))
    return module


def test_what_code_does_is_in_the_fingerprint_and_how_it_looks_is_not(tmp_path: Path) -> None:
    """15 edits of behaviour, each anew; 4 of looks: none. The question is the same throughout."""
    stage = load(tmp_path / "harbour.py", SOURCE).STAGE
    for kind, (old, new) in (EDITS | SAME).items():
        assert old in SOURCE, kind
        edited = load(tmp_path / "harbour.py", SOURCE.replace(old, new)).STAGE
        assert (edited.reading == stage.reading) == (kind in SAME), kind
        assert edited.question("m", ()) == stage.question("m", ())


@pytest.mark.slow
def test_it_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Whatever the order of sets, and where objects lie."""
    (tmp_path / "harbour.py").write_text(SOURCE, encoding="utf-8")
    command = [sys.executable, "-c", "import harbour; print(harbour.STAGE.reading)"]
    seen = set()
    for seed in "12":
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{tmp_path}:{Path(enrichkit.__file__).parents[1]}"}
        seen.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip())
    assert seen == {load(tmp_path / "harbour.py", SOURCE).STAGE.reading}


def test_what_is_not_the_users_own_counts_by_its_name() -> None:
    """Another version of this package, or of Python's library, reads nothing anew."""
    assert behaviour([funds.FUND.answer, *funds.FUND.checks, textwrap.dedent, pd.DataFrame]) == ""


def run(out: Path, stage: Stage, client: Callable[..., object], **settings: object) -> list[object]:
    """Return what a run finds of one row."""
    given = {"stages": [stage], "key": "name", "client": client, "model": "m", "progress": False}
    return list(enrichkit.run(FRAME, out=out, **(given | settings))["port.n"])  # type: ignore[arg-type]


def test_an_edited_check_reads_anew_for_nothing(tmp_path: Path) -> None:
    """Even where a constant changes under a stage that is made already, as in a notebook; or on demand."""
    source = """
import enrichkit
class Port(enrichkit.Answer):
    n: int | None = None
LEAST = 10
def enough(answer, record):
    if answer.n is not None and answer.n <= LEAST:
        yield enrichkit.Issue("n", "few", instead=None)
STAGE = enrichkit.Stage("port", prompt="Research {name}.", answer=Port, search=False, checks=[enough])
"""
    client = Teller(otherwise='{"n": 8}')
    module = load(tmp_path / "harbour.py", source)
    assert run(tmp_path / "out", module.STAGE, client) == [pd.NA]
    module.LEAST = 5
    assert run(tmp_path / "out", module.STAGE, client) == [8]
    assert len(client.asked) == 1


def test_all_can_be_read_anew_on_demand(tmp_path: Path) -> None:
    """What no fingerprint sees, such as a file that a check reads, is read anew with ``reread``; the plan says so."""
    (tmp_path / "least").write_text("10")

    def enough(answer: Port, record: object) -> list[Issue]:
        least = int((tmp_path / "least").read_text())
        return [] if (answer.n or 0) > least else [Issue("n", "few", instead=None)]

    stage = Stage("port", prompt="Research {name}.", answer=Port, search=False, checks=(enough,))
    client = Teller(otherwise='{"n": 8}')
    assert run(tmp_path / "out", stage, client) == [pd.NA]
    (tmp_path / "least").write_text("5")
    assert run(tmp_path / "out", stage, client) == [pd.NA]
    settings = {"stages": [stage], "key": "name", "client": client, "model": "m", "out": tmp_path / "out"}
    assert "1 stored answer will be read again" in str(enrichkit.plan(FRAME, reread=True, **settings))
    assert "read again" not in str(enrichkit.plan(FRAME, **settings))
    assert run(tmp_path / "out", stage, client, reread=True) == [8]
    assert len(client.asked) == 1
