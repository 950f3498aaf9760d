"""The reading's fingerprint: it covers what the user's code does, and nothing else."""

from __future__ import annotations

import importlib
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
import collections, functools, logging, re, types
from pathlib import Path
from typing import Annotated, Literal
import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
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

class Slotted:
    __slots__ = ("most",)

    def __init__(self, most):
        self.most = most

    def __call__(self, answer, record):
        """Find nothing."""
        def over(n):
            """Say whether it is too much."""
            return n > self.most
        return [] if over(0) or HERE.is_dir() or LOG.isEnabledFor(10) else ()

class Plain(BaseModel):
    model_config = ConfigDict(str_to_lower=False)
    town: str | None = None

@functools.singledispatch
def weighed(thing):
    return 0

@weighed.register
def _(thing: int):
    return thing * 3

def attributed(answer, record):
    return [NAMES, TABLE, FRAME, STATE, attributed.most, above(1), weighed(2)] and ()

attributed.most = 7
HERE = Path(__file__).parent
LOG = logging.getLogger(__name__)
NAMES = collections.deque([{"p", "q", "r"}])
TABLE = np.where(np.arange(3000) == 1500, 4, 0)
FRAME = pd.DataFrame({"a": ["x"] * 500 + ["mid"] + ["x"] * 500})
STATE = types.SimpleNamespace(least=3, names={"u", "v", "w"})
above = np.vectorize(lambda n: n > 17)

CHECKS = [Slotted(19), attributed, sized, maker(80), functools.partial(sized, most=60), lambda answer, record: ()]
STAGE = enrichkit.Stage("port", prompt="Research {name}.", answer=Port, search=False, checks=CHECKS)
PLAIN = enrichkit.Stage("plain", prompt="Research {name}.", answer=Plain, search=False)
READINGS = STAGE.reading, PLAIN.reading
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
    "slot": ("Slotted(19)", "Slotted(20)"),
    "settings alone": ("str_to_lower=False", "str_to_lower=True"),
    "kind of argument": ("thing * 3", "thing * 4"),
    "function's attribute": ("most = 7", "most = 8"),
    "deque": ('"r"}]', '"s"}]'),
    "middle of an array": ("1500, 4", "1500, 5"),
    "middle of a frame": ('"mid"', '"mad"'),
    "namespace": ("least=3", "least=4"),
    "vectorized": ("n > 17", "n >= 17"),
}
SAME = {
    "comment": ("# too small", "# far too small\n"),
    "docstring": ("Find what is too small", "Find it"),
    "docstring within": ("Say whether it is too much", "Say it"),
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
    module.__file__ = str(path)
    with mock.patch.dict(sys.modules, {path.stem: module}):
        exec(compile(source, path, "exec"), vars(module))
    return module


def test_what_code_does_is_in_the_fingerprint_and_how_it_looks_is_not(tmp_path: Path) -> None:
    """Each edit of behaviour is one, none of looks is. The question is the same throughout."""
    as_it_was = load(tmp_path / "harbour.py", SOURCE)
    for kind, (old, new) in (EDITS | SAME).items():
        assert old in SOURCE, kind
        edited = load(tmp_path / "harbour.py", SOURCE.replace(old, new))
        assert (edited.READINGS == as_it_was.READINGS) == (kind in SAME), kind
        assert edited.STAGE.question("m", ()) == as_it_was.STAGE.question("m", ())
    assert load(tmp_path / "elsewhere" / "harbour.py", SOURCE).READINGS == as_it_was.READINGS


RULES = {"LEAST = 1": "LEAST = 2", "MOST = 3": "MOST = 4", "DEEP = 5": "DEEP = 6"}
USES = """
import enrichkit
import ports.rules
from ports import rules
class Port(enrichkit.Answer):
    n: int | None = None
def first(answer, record):
    return [] if (answer.n or 0) > rules.LEAST else ()
def second(answer, record):
    return [] if rules.MOST + ports.rules.deeper.DEEP > (answer.n or 0) else ()
STAGE = enrichkit.Stage("port", prompt="{name}", answer=Port, search=False, checks=[first, second])
"""


def test_what_other_modules_hold_counts_wherever_it_is_named(tmp_path: Path) -> None:
    """By two checks from one module, or in a module's module."""
    readings = set()
    least, most, deep = RULES
    for old, new in {"": "", **RULES}.items():
        folder = tmp_path / f"p{len(readings)}" / "ports"
        folder.mkdir(parents=True)
        for name, text in {
            "__init__": "",
            "rules": f"from . import deeper\n{least}\n{most}\n",
            "deeper": deep,
        }.items():
            (folder / f"{name}.py").write_text(text.replace(old, new), encoding="utf-8")
        with mock.patch.dict(sys.modules), mock.patch.object(sys, "path", [str(folder.parent), *sys.path]):
            importlib.invalidate_caches()
            readings.add(load(tmp_path / "uses.py", USES).STAGE.reading)
    assert len(readings) == 1 + len(RULES)


@pytest.mark.slow
def test_it_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Whatever the order of sets, and where objects lie."""
    (tmp_path / "harbour.py").write_text(SOURCE, encoding="utf-8")
    command = [sys.executable, "-c", "import harbour; print(*harbour.READINGS)"]
    seen = set()
    for seed in "12":
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{tmp_path}:{Path(enrichkit.__file__).parents[1]}"}
        seen.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip())
    assert seen == {" ".join(load(tmp_path / "harbour.py", SOURCE).READINGS)}


def test_a_long_chain_of_functions_is_followed_to_its_end(tmp_path: Path) -> None:
    """As in a large package of one's own."""
    chain = "".join(f"def f{number}(n):\n    return f{number + 1}(n)\n" for number in range(1000))
    ends = [load(tmp_path / "chain.py", f"{chain}def f1000(n):\n    return {end}\n").f0 for end in "nm"]
    assert behaviour([ends[0]]) != behaviour([ends[1]])


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
