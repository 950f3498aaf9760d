"""The docs: every command in them runs, against a simulator, in a folder with nothing but the project's samples."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import enrichkit
from support import programs
from support.calls import enrich
from support.paths import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<kind>sh|python)\n(?P<text>.*?)```", re.DOTALL)
RUN_ELSEWHERE = {"clients.md"}
"""Pages whose code needs other services: tests/engine/test_clients_page.py has stand-ins."""
NOT_RUN = {
    ("first-run.md", "make setup && . .venv/bin/activate\n"),
    ("simulator.md", "enrichkit simulate --port 8899 --latency 2 --fault overloaded=0.05\n"),
}
"""The blocks that cannot be run here; each says why."""
ONLY_OURS = re.compile(r"(enrichkit [\w ./,=-]+\n)+")
"""A block without anything that needs a shell; it runs here, which saves its processes."""


def blocks(page):
    return [match.groupdict() for match in BLOCK.finditer(page.read_text("utf-8"))]


def needs_a_shell(block):
    return bool(block["note"]) or not ONLY_OURS.fullmatch(block["text"])


def marked(page):
    """A page as a parameter; one that starts processes is slow."""
    runs = [block for block in blocks(page) if not (block["note"] or "").startswith("not run here: ")]
    return pytest.param(page, id=page.name, marks=pytest.mark.slow if any(map(needs_a_shell, runs)) else ())


@pytest.mark.parametrize("page", [marked(page) for page in PAGES if page.name not in RUN_ELSEWHERE])
def test_every_command_runs(page, simulator, tmp_path, monkeypatch):
    """In the page's order, in one folder; a block that ends with another code than 0 says so."""
    for name in ("data", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    table = tmp_path / "data" / "funds.csv"
    pd.read_csv(table, dtype=str).head(100).to_csv(table, index=False)  # no command needs all 544
    monkeypatch.chdir(tmp_path)
    simulator.latency_seconds = 0.02
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "MPLBACKEND": "agg"}
    for block in blocks(page):
        note = block["note"] or ""
        if note.startswith("not run here: "):
            continue
        if not needs_a_shell(block):
            for line in block["text"].splitlines():
                enrich(*line.split()[1:])
            continue
        expected = {int(code) for code in re.findall(r"ends? with (\d+)", note)} or {0}
        expected |= {0} if note.startswith("may") else set()
        in_bash = block["kind"] == "sh"
        command = ["bash", "-euo", "pipefail", "-c"] if in_bash else [sys.executable, "-c"]
        done = (subprocess.run if in_bash else programs.run)(
            [*command, block["text"]],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in expected, block["text"] + done.stderr


def test_what_is_not_run_is_listed():
    """A new block that cannot be run needs a reason, here and there."""
    found = {
        (page.name, block["text"])
        for page in PAGES
        for block in blocks(page)
        if (block["note"] or "").startswith("not run here: ")
    }
    assert found == NOT_RUN


def test_every_page_is_linked():
    """From the list of pages; and no link leads nowhere."""
    listed = (ROOT / "docs" / "README.md").read_text("utf-8")
    assert [page.name for page in PAGES if f"]({page.name})" not in listed] == ["README.md"]
    for page in [*PAGES, ROOT / "README.md", ROOT / "AGENTS.md"]:
        for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text("utf-8")):
            linked = page.parent / target if target else page
            assert linked.exists(), (page.name, target)
            assert not anchor or anchor in anchors(linked), (page.name, target, anchor)


def anchors(page):
    """Return what a link to a heading of the page may end in, as GitHub spells it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_option_of_the_command_line_is_documented():
    """In some page, by its name."""
    told = subprocess.run(
        [sys.executable, "-m", "enrichkit", "run", "--help"], capture_output=True, text=True, check=True
    ).stdout
    docs = "".join(page.read_text("utf-8") for page in PAGES)
    missing = set(re.findall(r"--[a-z][a-z-]+", told)) - set(re.findall(r"--[a-z][a-z-]+", docs))
    assert missing <= {"--help"}


def test_the_page_for_assistants_is_a_notebook_that_runs(tmp_path, monkeypatch):
    """Cell by cell in one namespace, to the end; and a second time, asking nothing."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENRICHKIT_PROGRESS", "off")
    cells = re.findall(r"```python\n(.*?)```", (ROOT / "AGENTS.md").read_text("utf-8"), re.DOTALL)
    for _ in range(2):
        space: dict[str, object] = {}
        for cell in cells:
            exec(cell, space)
    assert len(cells) == 7
    assert enrichkit.report(space["out"]).cost.total.replies == 63
    assert len(pd.read_csv(space["result"])) == 64


SHOWN = [
    pytest.param(code, printed, id=f"{page.stem}{number}")
    for page in PAGES
    for number, (code, printed) in enumerate(
        re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    )
]


@pytest.mark.parametrize(("code", "printed"), SHOWN)
def test_what_an_example_prints_stands_below_it(code, printed, tmp_path, monkeypatch, capsys):
    """To the letter."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENRICHKIT_PROGRESS", "off")
    exec(compile(code, "<example>", "exec", dont_inherit=True), {"__name__": "__main__"})
    assert capsys.readouterr().out == printed


def test_the_map_names_what_there_is():
    """Every room, definition, test and target in ARCHITECTURE.md exists."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    package = ROOT / "enrichkit"
    for name in re.findall(r"`([^`\s]+)`", text):
        if "/" in name:
            places = (ROOT / name, package / name, package / f"{name}.py")
            assert any(place.exists() for place in places), name
        elif "." in name:
            room, _, thing = name.rpartition(".")
            assert hasattr(importlib.import_module(f"enrichkit.{room}"), thing), name
