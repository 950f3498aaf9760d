"""Ctrl-C, SIGTERM and a notebook's Stop button: what is in flight is drained and kept, and one sentence says so."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pandas as pd
import pytest
from jupyter_client.manager import start_new_kernel

import enrichkit
from enrichkit.gemini.simulator import Simulator
from support.paths import TABLE
from support.programs import Program
from support.waiting import hold_after, wait_for

CALL = """
import pandas as pd, enrichkit, enrichkit.progress.screens
enrichkit.progress.screens.Lines.every_seconds = 0.1
enrichkit.run(pd.read_csv({table!r}, dtype=str), out={out!r}, workers=20, progress={progress!r})
"""
TOLD = r"\d+ of 542 records are done and saved, \d+ are left\. The same call goes on from here\."


@pytest.fixture
def server(monkeypatch):
    """A simulator that takes 0.3 s for a reply."""
    with Simulator(latency_seconds=0.3) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
        yield server


def wait_until_under_way(server):
    """Wait for thirty answers; twenty more requests are in flight then."""
    wait_for(lambda: server.counts()["answers"] >= 30)


def different_questions(out):
    return enrichkit.plan(pd.read_csv(TABLE, dtype=str), out=out).to_ask


def call(out, progress=False):
    return CALL.format(table=str(TABLE), out=str(out), progress=progress)


def started(out, progress=False):
    """Run the call in a process of its own."""
    return Program([sys.executable, "-c", call(out, progress)], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_one_signal_keeps_what_is_in_flight(sign, server, tmp_path):
    """Requests in flight finish and are stored: not one that was answered is asked again."""
    total = different_questions(tmp_path / "nothing")
    process = started(tmp_path / "out")
    wait_until_under_way(server)
    process.send_signal(sign)
    told = process.communicate(timeout=60)[1]
    assert re.search(rf"Interrupted: Interrupted\. {TOLD}", told)
    assert different_questions(tmp_path / "out") == total - server.counts()["answers"]


def test_a_second_signal_leaves_at_once(server, tmp_path):
    """What is in flight may be paid again, and the message says that; what had come before is there."""
    total = different_questions(tmp_path / "nothing")
    hold_after(server, 30)
    process = started(tmp_path / "out", progress="text")
    wait_for(lambda: server.counts()["requests"] == 30 + 20)
    wait_for(lambda: different_questions(tmp_path / "out") == total - 30)
    process.send_signal(signal.SIGINT)
    while "finishing " not in (line := process.stderr.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    told = process.stderr.read()
    process.wait(60)
    process.stderr.close()
    assert server.counts()["answers"] == 30  # the others are held still
    assert re.search(rf"Interrupted: Left at once; requests in flight may be paid again\. {TOLD}", told)
    assert different_questions(tmp_path / "out") == total - 30


def test_a_kernels_interrupt_keeps_what_is_in_flight(server, tmp_path):
    """The cell ends with one sentence and no traceback, the kernel lives, and a cell run after it goes on."""
    total = different_questions(tmp_path / "nothing")
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        cell = client.execute(call(tmp_path / "out"))
        wait_until_under_way(server)
        manager.interrupt_kernel()
        reply = reply_to(client, cell)
        assert reply["status"] == "error"
        (told,) = reply["traceback"]
        assert re.fullmatch(rf"Interrupted: Interrupted\. {TOLD}", told)
        assert different_questions(tmp_path / "out") == total - server.counts()["answers"]
        assert reply_to(client, client.execute("1 + 1"))["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def reply_to(client, cell):
    """Return a kernel's reply to a cell."""
    while True:
        message = client.get_shell_msg(timeout=60)
        if message["parent_header"]["msg_id"] == cell:
            return message["content"]
