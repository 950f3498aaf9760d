"""The ways a run shows itself: which one is taken where, and what stands there in the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass

import pandas as pd
import pytest

import enrichkit
from enrichkit import errors
from enrichkit.progress import screens
from enrichkit.progress.screens import Lines, way_to_show
from support import programs
from support.calls import call
from support.terminal import at_a_terminal

BESIDE = """
from enrichkit.progress.screens import Bar
tell, told = Bar.tell, []

def telling(bar, status, notes=None):
    tell(bar, status, notes)
    told.append(status)

def shown(condition):
    while not any(map(condition, list(told))):
        time.sleep(0.01)

Bar.tell = telling
"""
"""Code that lets a run wait until its bar has shown something."""


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """The last word is waited for, however late it comes."""
    monkeypatch.setattr("enrichkit.runs.runner.LAST_WORD_SECONDS", 60.0)


@dataclass
class Kernel:
    """A kernel whose front end can ask a person something, or cannot."""

    attended: bool

    def get_parent(self):
        return {"content": {"allow_stdin": self.attended}}


@pytest.fixture
def place(monkeypatch):
    """Return a function that says where the call is made."""

    def be(attended=None, *, widgets=False, terminal=False):
        monkeypatch.setattr(screens, "_kernel", lambda: None if attended is None else Kernel(attended))
        monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: widgets)
        monkeypatch.delenv("ENRICHKIT_PROGRESS", raising=False)

    return be


LAB = {"attended": True, "widgets": True}


@pytest.mark.parametrize(
    ("progress", "where", "way"),
    [
        ("auto", LAB, "widget"),
        ("auto", {"attended": True}, "html"),
        ("auto", {"attended": False, "widgets": True}, "text"),
        ("auto", {"terminal": True}, "bar"),
        (True, {}, "text"),
        ("widget", {"attended": False, "widgets": True}, "widget"),
        ("widget", {"attended": True}, "html"),
        ("widget", {}, "text"),
        ("html", LAB, "html"),
        ("html", {"attended": False}, "html"),
        ("html", {"terminal": True}, "bar"),
        ("text", LAB, "text"),
        ("text", {"terminal": True}, "text"),
        (False, LAB, None),
    ],
)
def test_the_way_is_taken_that_works_there(progress, where, way, place):
    """What is wanted, if it can be had; else the next best."""
    place(**where)
    assert way_to_show(progress) == way


def test_the_variable_decides_where_the_call_does_not(place, monkeypatch):
    """A scheduler sets it; a call that says what it wants gets that. A word nobody knows is named."""
    place(**LAB)
    monkeypatch.setenv("ENRICHKIT_PROGRESS", " TEXT ")
    assert [way_to_show(wish) for wish in ("auto", True, "html", "widget")] == ["text", "text", "html", "widget"]
    monkeypatch.setenv("ENRICHKIT_PROGRESS", "off")
    assert [way_to_show(wish) for wish in ("auto", False, "html")] == [None, None, "html"]
    monkeypatch.setenv("ENRICHKIT_PROGRESS", "")
    assert way_to_show("auto") == "widget"
    monkeypatch.setenv("ENRICHKIT_PROGRESS", "loud")
    with pytest.raises(errors.InputError, match=r"ENRICHKIT_PROGRESS must be one of auto, .*, not 'loud'"):
        way_to_show("auto")


def test_a_progress_that_does_not_exist_is_refused_before_anything(tmp_path):
    """In one sentence, with no file made."""
    with pytest.raises(
        errors.InputError, match="progress must be 'auto', 'widget', 'html', 'text', 'off', True or False"
    ):
        enrichkit.run(pd.DataFrame({"fund.title": ["a"]}), out=tmp_path / "out", progress="loud")
    assert not list(tmp_path.iterdir())


def test_importing_it_loads_no_widget():
    """Nor tqdm, nor IPython."""
    heavy = ("ipywidgets", "IPython", "tqdm", "matplotlib", "google.genai")
    code = f"import sys, enrichkit; print([m for m in {heavy} if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"


def test_a_log_gets_lines_on_stderr_and_nothing_on_stdout(tmp_path):
    """One at the end at least; nothing that moves a cursor."""
    code = call(tmp_path / "out") + "enrichkit.run(frame, **settings)"
    done = programs.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert re.search(r"^40 of 40 records · \d+ s · .* · 44,000 tokens in 40 requests.*\n\Z", done.stderr, re.MULTILINE)
    assert not re.search(r"[^\n\x20-\x7e·]", done.stderr)


def test_lines_come_every_few_seconds_and_whenever_one_asks(tmp_path, capfd, monkeypatch):
    """`show()` says it once more, also after the end, and shows a run that was to be silent."""
    monkeypatch.setattr("enrichkit.progress.screens.Lines.every_seconds", 0.1)
    tell, twice, told = Lines.tell, threading.Event(), []

    def telling(lines, status, notes=None):
        tell(lines, status, notes)
        told.append(status)
        if len(told) == 2:
            twice.set()

    monkeypatch.setattr(Lines, "tell", telling)
    space = {}
    exec(call(tmp_path / "out"), space)
    client = space["settings"]["client"]
    space["settings"]["client"] = lambda request: twice.wait(60) and client(request)
    job = enrichkit.start(space["frame"], **space["settings"], progress="text")
    job.result()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert "records/s" in lines[0]
    job.show()
    assert re.fullmatch(r"40 of 40 records.*\n", capfd.readouterr().err)
    monkeypatch.setenv("ENRICHKIT_PROGRESS", "off")
    silent = enrichkit.start(space["frame"], **space["settings"])
    silent.result()
    assert capfd.readouterr().err == ""
    silent.show()
    assert capfd.readouterr().err == "40 of 40 are stored; nothing to ask\n"


def test_lines_say_why_a_run_has_ended_early(tmp_path, capfd):
    """In one line of its own, whoever's words are in it; nothing of the kind where all went well."""
    space = {}
    exec(call(tmp_path / "out"), space)
    refused = enrichkit.messages.Failure(cause="auth", message="no\n\x1b[2J")
    with pytest.raises(enrichkit.Stopped):
        enrichkit.run(
            space["frame"],
            **space["settings"]
            | {"model": "gemini-3.5-flash-lite", "client": lambda _: enrichkit.messages.Reply(failure=refused)},
            progress="text",
        )
    why = capfd.readouterr().err.splitlines()[-1]
    assert why.startswith(
        "The service refused the key (no ?[2J). Check it, its project and its rights. The same call goes on"
    )
    enrichkit.run(space["frame"], **space["settings"], progress="text")
    assert capfd.readouterr().err.splitlines()[-1].startswith("40 of 40 records")


@pytest.mark.parametrize("name", ["show", "tell"])
def test_a_display_that_fails_is_logged_once_and_the_run_goes_on(name, tmp_path, monkeypatch, caplog):
    """A pipe that nobody reads any more, a front end that is gone: no reason to lose hold of a run, nor the end."""

    def broken(screen, status, notes=None):
        raise BrokenPipeError("nobody listens")

    monkeypatch.setattr("enrichkit.progress.screens.Lines.every_seconds", 0.05)
    space = {}
    exec(call(tmp_path / "out"), space)
    with monkeypatch.context() as context:
        context.setattr(f"enrichkit.progress.screens.Lines.{name}", broken)
        job = enrichkit.start(space["frame"], **space["settings"], progress="text")
        assert job.result()["_status"].tolist() == ["done"] * 40
    (record,) = caplog.records
    assert record.getMessage().endswith("its progress cannot be shown: BrokenPipeError: nobody listens")


def test_a_terminal_gets_a_bar_with_tokens_failures_speed_and_time(tmp_path):
    """It changes in place and stays, full, when the run has ended."""
    code = (
        call(tmp_path / "out")
        + BESIDE
        + (
            "from enrichkit.messages import Failure\n"
            "def failing(request):\n"
            "    if '⟦Company 30⟧' in request.text:\n"
            "        shown(lambda status: status.left_seconds)\n"
            "    blocked = Reply(failure=Failure(cause='blocked'))\n"
            "    return blocked if '⟦Company 7⟧' in request.text else client(request)\n"
            "job = enrichkit.start(frame, **settings | {'client': failing})\n"
            "job.result()\n"
            "job.show()\n"
        )
    )
    told = in_terminal(code)
    assert told.count("\r") > 3
    last = [part for part in told.split("\r") if "40/40" in part][-1]
    assert re.search(r"100%\|█+\| 40/40 \[\S+, +[\d.]+/s\], 1 failed · at least [\d.]+ USD · [\d,]+ tokens", last)
    assert re.search(r"\d+%\|.*\| \d+/40 \[\S+<\d+:\d+, +[\d.]+/s\], ", told)
    assert "\nThe same call with retry_failed=True asks the failed ones again." in told


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_bar_is_never_wider_than_its_window(columns, tmp_path):
    """While it runs and when it has ended; what holds it back stands first."""
    code = (
        call(tmp_path / "out", 400, seconds=0.2)
        + BESIDE
        + (
            "settings |= {'model': 'gemini-3.5-flash-lite', 'workers': 8}\n"
            "job = enrichkit.start(frame, **settings)\n"
            "shown(lambda status: status.left_seconds)\njob.pause()\n"
            "shown(lambda status: status.paused and status.left_seconds)\njob.stop()\n"
        )
    )
    *told, _ = [part.strip() for part in in_terminal(code, columns).split("\r") if "/400" in part]
    assert max(map(len, told)) <= columns
    assert any(re.match(r"paused: +\d+%\|", part) for part in told)


def test_a_bar_that_was_stopped_says_how_it_goes_on(tmp_path):
    """Below the bar, which stays as it stood."""
    code = (
        call(tmp_path / "out", 400, seconds=0.2)
        + BESIDE
        + ("job = enrichkit.start(frame, **settings)\nshown(lambda status: status.done)\njob.stop()\n")
    )
    last = in_terminal(code).rstrip().split("\r")[-2:]
    assert re.search(r"^ *\d+%\|.*\| \d+/400 .*, [\d.]+ USD · [\d,]+ tokens *$", last[0])
    assert last[1] == "\nThe same call goes on from here; enrichkit.read(out) has what is stored."


def test_a_program_without_stderr_keeps_stdout_clean(tmp_path):
    """As under a scheduler that closes it: what a program prints may be read by another."""
    code = call(tmp_path / "out") + "import sys\nsys.stderr = None\nenrichkit.run(frame, **settings)\nprint('mine')"
    done = programs.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "mine\n"


def in_terminal(code, columns=140):
    """Run code with a terminal on stderr, and return what came there."""
    environment = os.environ | {"ENRICHKIT_PROGRESS": "auto"}
    code, shown = at_a_terminal([sys.executable, "-c", code], columns, streams=["stderr"], env=environment)
    assert code == 0
    return shown
