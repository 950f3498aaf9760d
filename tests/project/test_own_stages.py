"""What a command asks that is not built in: stages from the user's own Python, or a prompt and its fields."""

from __future__ import annotations

import os
import sys
from datetime import date
from pathlib import Path

import pytest

import enrichkit
from enrichkit.reporting.tablefiles import read_sheet
from support import programs
from support.calls import enrich

PORTS = "name,country\nBrekkvik,Norway\nSanta Rial,Portugal\nOstbucht,=Germany\n"
HARBOUR = """
from enrichkit import Answer, Stage

class Port(Answer):
    crew: int | None = None
    towns: list[str] | None = None

port = Stage("port", prompt="Research the port {name} in {country}.", answer=Port)
quay = Stage("quay", prompt="Research the quay of {name}.", answer=Port)
both = port, quay
"""
RUN = ("run", "--input", "ports.csv", "--output", "shell.csv", "--checkpoint", "shell", "--key", "name")
PROMPT = "Research {name} in {country}."


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with three ports, and a module beside them, which is forgotten after the test."""
    (tmp_path / "ports.csv").write_text(PORTS, "utf-8")
    (tmp_path / "harbour.py").write_text(HARBOUR, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)) or name.endswith(".py"):
            del sys.modules[name]


def by_python(**settings):
    """Do what the command does, in Python; return the bytes of its output."""
    frame = read_sheet("ports.csv")
    enriched = enrichkit.run(frame, out="python", progress=False, **settings)
    enrichkit.export(enriched, "python.csv", original=frame)
    return Path("python.csv").read_bytes()


def test_own_stages_are_asked_as_python_asks_them(folder, simulator):
    """By module and by file, alone and several: output as by Python to the byte; no question is another."""
    enrich(*RUN, "--stages", "harbour:port, harbour:quay")
    stages = enrichkit_stages()
    assert Path("shell.csv").read_bytes() == by_python(stages=stages, key="name")
    asked = simulator.counts()["requests"]
    for spelling in ("harbour:both", "harbour.py:both", f"{folder}/harbour.py:both", "./harbour.py:port,harbour:quay"):
        enrich(*RUN, "--stages", spelling)
    assert Path("shell.csv").read_bytes() == by_python(stages=stages, key="name")
    assert simulator.counts()["requests"] == asked == 12
    for command in (["status"], ["report"], ["verify"], ["weak", "weak.csv"], ["export", "all.csv"]):
        assert enrich(command[0], "shell", *command[1:])


def enrichkit_stages():
    """Return the two stages, as a program beside the module has them."""
    import harbour  # the folder is on the path since the first command

    return list(harbour.both)


def test_an_installed_command_looks_in_its_own_folder(folder, simulator):
    """As `python -m` does, whose folder stands first on the path."""
    command = Path(sys.executable).with_name("enrichkit")
    done = programs.run([command, *RUN, "--stages", "harbour:port"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(read_sheet("shell.csv"))) == (0, 3), done.stderr


def test_a_misspelt_stage_is_one_sentence_with_a_hint(folder, simulator):
    """2, before anything is asked or written."""
    before = sorted(os.listdir())
    for spelling, said in {
        "habour:port": f"There is no module 'habour', neither installed nor in {folder}. Did you mean 'harbour'?",
        "harbour:prot": "harbour has no stage 'prot'. It has: port, quay, both. Did you mean 'port'?",
        "harbor.py:port": f"There is no module 'harbor.py', neither installed nor in {folder}. "
        "Did you mean 'harbour.py'?",
        "pco": "There is no stage 'pco'. Built in: poc, fund, deep; or give MODULE:STAGE or FILE.py:STAGE. "
        "Did you mean 'poc'?",
        "harbour:Port": "harbour has no stage 'Port'. It has: port, quay, both. Did you mean 'port'?",
        "./harbour:port": f"There is no module './harbour', neither installed nor in {folder}. Did you mean 'harbour'?",
        ":port": f"There is no module '', neither installed nor in {folder}.",
        "harbour": "There is no stage 'harbour'. Built in: poc, fund, deep; or give MODULE:STAGE or FILE.py:STAGE.",
    }.items():
        assert enrich(*RUN, "--stages", spelling, code=2) == f"enrichkit: {said}\n"
    assert [name for name in sorted(os.listdir()) if name != "__pycache__"] == before
    assert simulator.counts()["requests"] == 0


def test_what_cannot_be_imported_is_one_sentence_with_its_file_and_line(folder, simulator):
    """Whatever it is that fails, in that file or in one that it imports; 2, and no traceback."""
    for code, line, said in [
        ("import os\nx = 1 +* 2\n", 2, "SyntaxError: invalid syntax"),
        ("from enrichkit import Stage\n\nport = Stage('port', answer=Anser)\n", 3, "NameError: name 'Anser' is not"),
        (
            "from enrichkit import Stage\nport = Stage('Port', prompt='{name}', answer=int)\n",
            2,
            "StageError: Stage 'Port': a stage's name",
        ),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
        ("import nothing_of_that_name\n", 1, "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError: Expecting"),
        ("from pydantic import BaseModel\nclass A(BaseModel):\n    a: int\nA(a='x')\n", 4, "ValidationError: 1 "),
        ("def port():\n    return port()\nport()\n", 2, "RecursionError: maximum"),
    ]:
        name = f"broken_at_{line}_{said[:4].lower()}"
        Path(f"{name}.py").write_text(code, "utf-8")
        Path(f"outer_{name}.py").write_text(f"import {name}\n", "utf-8")
        for place in (name, f"{name}.py", f"outer_{name}.py"):
            told = enrich(*RUN, "--stages", f"{place}:port", code=2)
            assert told.startswith(f"enrichkit: {place} cannot be imported: {folder}/{name}.py, line {line}: {said}")
            assert told.count("\n") == 1
    assert simulator.counts()["requests"] == 0


def test_a_prompt_and_its_fields(folder, simulator):
    """The same stage as in Python, types, descriptions and own names included; the output is equal by the byte."""
    enrich(
        *RUN[:-2],
        "--prompt",
        PROMPT,
        "--field",
        "crew:int",
        "--field",
        "since:date",
        "--field",
        "towns: list[str] :As in: Oslo",
    )
    fields = {"crew": int, "since": date, "towns": (list[str], "As in: Oslo")}
    assert Path("shell.csv").read_bytes() == by_python(prompt=PROMPT, fields=fields)
    assert read_sheet("shell.csv").columns[:4].tolist() == ["name", "country", "crew", "since"]
    for arguments, said in [
        (("--prompt", PROMPT, "--field", "crew:integer"), "with one of the types str, int, float, bool, "),
        (("--prompt", PROMPT, "--field", "crew:integer"), "Did you mean 'int'?"),
        (("--prompt", PROMPT, "--field", "crew"), "--field 'crew': a field is NAME:TYPE, or NAME:TYPE:DESCRIPTION"),
        (("--prompt", PROMPT, "--field", "model_fields:int"), "No field can be named 'model_fields'"),
        (("--prompt", PROMPT), "--prompt and --field go together"),
        (("--field", "crew:int"), "--prompt"),
        (("--prompt", PROMPT, "--field", "crew:int", "--stages", "poc"), "not both"),
        (("--prompt", "Research {nam}.", "--field", "crew:int"), "Did you mean 'name'?"),
        (("--map", "fund.title", "--stages", "fund"), "--map 'fund.title': give NAME=COLUMN"),
        (("--map", "fund.title=nam", "--stages", "fund"), "Did you mean 'name'?"),
        (
            ("--map", "name=fund.title", "--stages", "fund"),
            "no stage of this call reads or fills 'name'. The stages' name comes first.",
        ),
    ]:
        assert said in enrich(*RUN, *arguments, code=2)


def test_columns_under_names_of_ones_own(folder, simulator):
    """`--map` is Python's ``names``; failures, and a retry's own output, have the table's own names, too."""
    simulator.script = ["safety"]
    arguments = (*RUN, "--map", "fund.title=name", "--map", "fund.country=country", "--stages", "fund")
    enrich(*arguments, "--max-workers", 1, code=1)
    assert read_sheet("shell.csv")["_status"].tolist() == ["failed", "done", "done"]
    retry = ["retried.csv" if argument == "shell.csv" else argument for argument in (*arguments, "--retry-failed")]
    for _ in range(2):  # the second finds nothing to do, and keeps the row
        enrich(*retry)
        assert read_sheet("retried.csv")[["name", "_status"]].to_numpy().tolist() == [["Brekkvik", "done"]]
    enrich(*arguments)
    names = {"fund.title": "name", "fund.country": "country"}
    assert Path("shell.csv").read_bytes() == by_python(stages=["fund"], names=names, key="name")
