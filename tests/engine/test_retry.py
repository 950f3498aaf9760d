"""Tries, waits and the deadline of one request, with a scripted client and a clock that only the client moves."""

from __future__ import annotations

import socket
from dataclasses import replace

import pandas as pd
import pytest

import enrichkit
from enrichkit.engine.retry import Reach, Sent, Tries
from enrichkit.messages import Failure, Reply, Request

REQUEST = Request(question="q", stage="s", model="m", system="", text="", schema={})
GOOD = Reply(text="{}")


class World:
    """A clock, and a service that answers with the next of its script."""

    def __init__(self, *script, seconds=1.0):
        self.script, self.seconds = list(script), seconds
        self.now, self.slept, self.timeouts = 0.0, [], []

    def send(self, timeout_seconds):
        self.timeouts.append(timeout_seconds)
        self.now += self.seconds
        came = self.script.pop(0)
        reply = came if isinstance(came, Reply) else Reply(failure=Failure(cause=came))
        return Sent(reply, self.seconds)

    def ask(self, deadline_seconds=100.0):
        tries = Tries(replace(REQUEST, timeout_seconds=deadline_seconds))
        while (seconds := tries.wait_after(sent := self.send(tries.begin()))) is not None:
            self.slept.append(seconds)
            self.now += seconds
        return replace(sent, tries=tries.count)


@pytest.mark.parametrize("cause", ["overloaded", "server", "timeout", "network"])
def test_what_is_transient_is_tried_again(cause):
    """With a wait between the tries."""
    world = World(cause, cause, GOOD)
    asked = world.ask()
    assert (asked.reply, asked.tries, len(world.slept)) == (GOOD, 3, 2)


def test_seven_tries_are_enough():
    """The last failure is the verdict."""
    asked = World(*["overloaded", "server", "network"] * 2, "server", GOOD).ask()
    assert (asked.reply.failure.cause, asked.tries) == ("server", 7)


@pytest.mark.parametrize("cause", ["auth", "blocked", "empty", "bad_request", "daily_quota", "model_not_found"])
def test_nothing_else_is_tried_again(cause):
    """Another try would fail alike, or cost again."""
    world = World(cause, GOOD)
    assert world.ask().tries == 1
    assert world.slept == []


def test_a_silent_server_leaves_time_for_another_try():
    """Each try may take half of what is left, the fourth one all."""
    world = World("timeout", "timeout", "timeout", "timeout", GOOD, seconds=0.0)
    world.ask(100.0)
    assert world.timeouts[0] == 50.0
    assert world.timeouts[1] == pytest.approx((100 - world.slept[0]) / 2)
    assert world.timeouts[2] == pytest.approx((100 - sum(world.slept[:2])) / 2)
    assert world.timeouts[3] == pytest.approx(100 - sum(world.slept[:3]))


def test_no_try_begins_after_the_deadline():
    """Tries and waits together stay within it."""
    world = World("server", "server", "server", seconds=6.0)
    assert world.ask(10.0).tries == 2
    assert sum(world.slept) <= 4.0


def test_no_try_begins_that_has_hardly_any_time():
    """However long the waits: what it asks would be paid for, and not waited for."""
    for _ in range(20):
        world = World(*["server"] * 7, seconds=0.1)
        world.ask(2.0)
        assert min(world.timeouts) >= 0.02
        assert world.now <= 2.1


def test_waits_are_jittered_and_bounded():
    """Twenty workers that failed together must not come back together."""
    waits = set()
    for _ in range(20):
        world = World("server", "server", GOOD, seconds=0.0)
        world.ask()
        waits |= set(world.slept)
        assert all(0 <= wait <= most for wait, most in zip(world.slept, (0.25, 0.5), strict=True))
    assert len(waits) > 20


NOBODY = Failure(cause="network", message="ConnectError: Connection refused")


@pytest.mark.parametrize(
    ("came", "lost"),
    [
        ([NOBODY, NOBODY], True),
        ([None, NOBODY, NOBODY], False),
        ([Failure(cause="auth"), NOBODY, NOBODY], False),
        ([NOBODY, replace(NOBODY, may_be_charged=True), NOBODY], False),
        ([Failure(cause="timeout")] * 2, False),
    ],
)
def test_where_nobody_is_reached_the_run_need_not_wait_for_every_try(came, lost, monkeypatch):
    """From the first request on: whoever was there once, or took a connection, will be again."""
    reach = Reach()
    monkeypatch.setattr("enrichkit.engine.retry.UNREACHED_SECONDS", -1.0)
    assert [reach.is_lost(failure) for failure in came][-1] == lost


def test_a_port_at_which_nobody_listens_ends_the_run(tmp_path, monkeypatch):
    """After one look here, since no time is given; nothing is stored as failed, and the same call asks it all."""
    monkeypatch.setattr("enrichkit.engine.retry.UNREACHED_SECONDS", -1.0)
    monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
    with socket.socket() as taken:  # bound, and never listening
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        frame = pd.DataFrame({"fund.title": ["Acme", "Osk"]})
        job = enrichkit.start(frame, out=tmp_path / "out", stages=["fund"], workers=1, progress=False)
        with pytest.raises(enrichkit.Stopped, match=r"Connection refused.* 2 are left"):
            job.result()
    assert (job.status.traffic.requests, job.table["_status"].tolist()) == (1, ["pending"] * 2)
