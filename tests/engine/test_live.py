"""A run one can live with: pause and resume, what it counts, and what another cell or kernel reads meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import signal
import sys
import threading
import time

import pandas as pd
import pytest

import enrichkit
from enrichkit import Stage, errors
from enrichkit.engine.driver import Engine
from enrichkit.engine.tally import PauseSwitch
from enrichkit.gemini.simulator import Simulator
from enrichkit.messages import Failure, Reply
from support import programs
from support.tables import Company
from support.waiting import hold_after, wait_for

COMPANY = Stage("company", prompt="Research {name}.", answer=Company, search=False)
FRAME = pd.DataFrame({"name": [f"Company {number}" for number in range(60)]})


@pytest.fixture
def server(monkeypatch):
    """A simulator that takes 0.1 s for a reply."""
    with Simulator(latency_seconds=0.1) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
        yield server


@pytest.fixture
def settings(tmp_path):
    return {
        "stages": [COMPANY],
        "model": "gemini-3.5-flash-lite",
        "key": "name",
        "out": tmp_path / "out",
        "workers": 4,
        "progress": False,
    }


def start_and_pause(server, settings, answered):
    """Start a run, and pause it while so many requests are answered and four in flight, which finish then."""
    go = hold_after(server, answered)
    job = enrichkit.start(FRAME, **settings)
    wait_for(lambda: server.counts()["requests"] == answered + 4)
    wait_for(lambda: job.status.done == answered)
    job.pause()
    go.set()
    wait_for(lambda: job.status.done == answered + 4)
    return job


def test_nothing_new_starts_while_paused_and_all_goes_on_after(server, settings):
    """What is in flight finishes and is stored; the pause takes no record, and no part of the speed."""
    job = start_and_pause(server, settings, 8)
    job.pause()
    time.sleep(0.4)
    paused = job.status
    assert server.counts()["requests"] == 12
    assert (paused.paused, paused.done, paused.left) == (True, 12, 48)
    assert "paused" in repr(job)
    assert ".resume()" in repr(job)
    time.sleep(0.2)
    assert job.status.seconds > paused.seconds
    assert job.status.rate_per_second == pytest.approx(paused.rate_per_second)
    job.resume()
    assert job.result()["_status"].tolist() == ["done"] * 60
    assert server.counts()["requests"] == 60
    assert not job.status.paused


def test_whoever_reads_meanwhile_sees_what_is_complete(server, settings, monkeypatch):
    """Long before a shard is full; no more shards come of it, and each dollar stands in them once."""
    monkeypatch.setattr("enrichkit.engine.driver.SEAL_SECONDS", 0.05)
    job = start_and_pause(server, settings | {"shard_rows": 25}, 8)
    wait_for(lambda: len(enrichkit.read(settings["out"])) == 12)
    assert enrichkit.report(settings["out"]).quality.records == 12
    job.resume()
    job.result()
    found = enrichkit.read(settings["out"])
    assert found["_status"].tolist() == ["done"] * 60
    assert len(list(settings["out"].iterdir())) == 3
    assert found["company._cost_usd"].sum() == pytest.approx(job.status.money.cost_usd)
    assert enrichkit.verify(settings["out"]).ok
    again = settings | {"stages": [COMPANY, dataclasses.replace(COMPANY, name="again")]}
    go = hold_after(server, 8)
    job = enrichkit.start(FRAME, **again)
    wait_for(lambda: (enrichkit.read(settings["out"]).get("again._status", FRAME["name"]) == "done").sum() == 8)
    assert job.status.left
    go.set()
    assert job.result()["again._status"].tolist() == ["done"] * 60
    assert len(list(settings["out"].iterdir())) == 3
    found = enrichkit.read(settings["out"])
    assert found["again._cost_usd"].sum() == pytest.approx(job.status.money.cost_usd)
    assert enrichkit.verify(settings["out"]).ok


def test_a_long_pause_ends_no_question(settings):
    """A deadline counts the service's time, not a person's."""
    job = enrichkit.start(FRAME.head(8), client=lambda _: Reply(text="{}"), **settings | {"deadline_seconds": 0.2})
    job.pause()
    time.sleep(0.6)
    job.resume()
    assert job.result()["_status"].tolist() == ["done"] * 8


def test_stop_works_while_paused(server, settings):
    """The table as it stands comes back, and the same call goes on."""
    job = start_and_pause(server, settings, 4)
    stopped = job.stop()
    assert int((stopped["_status"] == "done").sum()) == server.counts()["answers"] == 8
    assert not job.status.paused
    job.pause()  # too late, and harmless
    assert not job.status.paused
    assert enrichkit.run(FRAME, **settings)["_status"].tolist() == ["done"] * 60
    assert server.counts()["requests"] == 60


def test_a_pause_when_nothing_is_left_to_start_is_over_with_the_run(settings):
    """Neither then nor after the end is a run paused for good."""
    go, asked = threading.Event(), threading.Event()

    def client(_):
        asked.set()
        go.wait(60)
        return Reply(text="{}")

    job = enrichkit.start(FRAME.head(1), client=client, **settings)
    assert asked.wait(60)
    job.pause()
    go.set()
    assert job.result()["_status"].tolist() == ["done"]
    assert not job.status.paused
    job.pause()
    assert not job.status.paused
    assert "paused" not in repr(job).lower()


def test_a_full_disk_and_a_pause_must_both_be_over(settings, monkeypatch):
    """Whichever ends first, nothing starts before the other has ended, too."""
    full = threading.Event()
    monkeypatch.setattr("enrichkit.store.store.Store.enough_space", lambda self: not full.is_set())
    # The writer looks at the disk whatever the time, and every now and then without any news.
    monkeypatch.setattr("enrichkit.engine.driver.LOOK_AT_DISK_SECONDS", 0.0)
    monkeypatch.setattr("enrichkit.engine.driver.SEAL_SECONDS", 0.1)
    asked, go = [], threading.Event()

    def client(request):
        asked.append(request)
        if len(asked) >= 8:
            go.wait(60)
        return Reply(text="{}")

    job = enrichkit.start(FRAME, client=client, **settings)
    wait_for(lambda: len(asked) >= 8)
    full.set()
    go.set()
    wait_for(lambda: job.status.waiting and job.status.done == len(asked))
    job.pause()
    full.clear()
    wait_for(lambda: not job.status.waiting)
    before = len(asked)
    time.sleep(0.3)
    assert len(asked) == before
    full.set()
    wait_for(lambda: job.status.waiting)
    job.resume()
    time.sleep(0.3)
    assert len(asked) == before
    full.clear()
    assert job.result()["_status"].tolist() == ["done"] * 60
    assert before < len(asked) == 60


def test_the_status_counts_answers_by_level_what_is_shared_and_the_last_problem(settings):
    """Running counts of this call's answers; a level that is none, or that a stage made its own, is not given."""
    stage = Stage("company", prompt="Research {name}.", answer=Company, search=False, per=("name",))
    frame = pd.DataFrame({"name": ["a", "a", "a", "b", "c", "d"], "id": list("123456")})
    levels = {"a": {"confidence": "high", "search_quality": "poor"}, "b": {"confidence": "low"}, "c": {}}

    def client(request):
        name = request.text.split("⟦")[1].split("⟧")[0]
        if name == "d":
            return Reply(failure=Failure(cause="blocked", message="<b>no\n\x1b[2J" + "!" * 1000))
        return Reply(text=json.dumps(levels[name]))

    job = enrichkit.start(frame, client=client, **settings | {"stages": [stage], "key": "id", "workers": 1})
    job.result()
    status = job.status
    assert status.levels.confidence == {"high": 1, "medium": 0, "low": 1, "not said": 1}
    assert status.levels.search_quality == {"excellent": 0, "good": 0, "limited": 0, "poor": 1, "not said": 2}
    assert (status.shared, status.done, status.failed) == (2, 5, 1)
    assert status.problem.startswith("company: blocked: <b>no ?[2J!!!")
    assert len(status.problem) <= 160
    assert status.problem.isprintable()
    again = enrichkit.start(frame, client=client, **settings | {"stages": [stage], "key": "id"})
    again.result()
    assert sum(again.status.levels.confidence.values()) == again.status.shared == 0


def test_a_failure_that_is_tried_again_is_named_as_well(settings):
    """A person sees why nothing moves."""
    replies = iter([Reply(failure=Failure(cause="overloaded", message="busy")), Reply(text="{}")])
    job = enrichkit.start(FRAME.head(1), client=lambda _: next(replies), **settings)
    assert job.result()["_status"].tolist() == ["done"]
    assert job.status.problem == "company: overloaded: busy"


def test_the_next_cell_and_another_kernel_read_it_while_it_runs(server, settings, monkeypatch):
    """Without a lock, and only whole records; another process finds the same."""
    monkeypatch.setattr("enrichkit.engine.driver.SEAL_SECONDS", 600.0)  # only full shards are sealed
    job = start_and_pause(server, settings | {"shard_rows": 5}, 14)
    wait_for(lambda: len(enrichkit.read(settings["out"])) == 15)
    seen = enrichkit.read(settings["out"])
    code = f"import enrichkit; print(len(enrichkit.read({str(settings['out'])!r})))"
    elsewhere = programs.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(elsewhere.stdout) == len(seen) < 60
    assert set(seen["_status"]) == {"done"}
    job.resume()
    job.result()
    assert len(enrichkit.read(settings["out"])) == 60


def test_a_run_says_what_to_call_next(settings):
    """While it runs, when it is done, and when it ended early."""
    go = threading.Event()

    def client(request):
        go.wait(60)
        return Reply(text="{}")

    job = enrichkit.start(FRAME.head(3), client=client, **settings)
    assert "running" in repr(job)
    assert ".stop()" in job._repr_html_()
    go.set()
    job.result()
    assert repr(job).startswith("<enrichkit.Run, done: 3 of 3 records")
    assert ".result() is the table" in job._repr_html_()

    failing = enrichkit.start(
        FRAME, client=lambda _: Reply(failure=Failure(cause="auth", message="<i>no</i>")), **settings
    )
    with pytest.raises(enrichkit.Stopped):
        failing.result()
    assert "The same call goes on from here" in repr(failing)
    assert "finishing" not in repr(failing)
    html = failing._repr_html_()
    assert "The service refused the key" in html
    assert "<i>" not in html
    assert "&lt;i&gt;no" in html


def test_what_has_failed_is_not_called_done(settings):
    """In the sentence of an early end; and the counts add up."""
    asked = []

    def client(request):
        asked.append(request)
        if len(asked) > 19:
            return Reply(failure=Failure(cause="auth"))
        return Reply(failure=Failure(cause="blocked")) if len(asked) in (4, 6) else Reply(text="{}")

    with pytest.raises(enrichkit.Stopped) as caught:
        enrichkit.run(FRAME, client=client, **settings | {"workers": 1})
    assert "17 of 60 records are done and saved, 2 failed, 41 are left." in str(caught.value)
    assert (caught.value.done, caught.value.left) == (19, 41)


def test_a_limit_leaves_records_that_are_counted(settings):
    """They are no part of this call, and the next ones take them up."""
    settings |= {"client": lambda _: Reply(text="{}"), "limit": 25}
    seen = []
    for _ in range(4):
        job = enrichkit.start(FRAME, **settings)
        job.result()
        seen.append((job.status.done, job.status.left, job.status.later))
    assert seen == [(25, 0, 35), (25, 0, 10), (10, 0, 0), (0, 0, 0)]
    assert repr(job).startswith("<enrichkit.Run, 60 of 60 are stored; nothing to ask>")


def test_what_a_notebook_keeps_of_a_running_run_says_of_when_it_is(settings):
    """It will be read when the run is long over; of one that has ended there is nothing to date."""
    go = threading.Event()
    job = enrichkit.start(FRAME.head(3), client=lambda _: go.wait(60) and Reply(text="{}"), **settings)
    moment = r"as of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.search(rf"<br>\n{moment}<br>", job._repr_html_())
    assert re.match(rf"<enrichkit.Run, running {moment}: 0 of 3 records", repr(job))
    go.set()
    job.result()
    assert "as of" not in job._repr_html_() + repr(job)


def test_who_iterates_in_an_event_loop_leaves_it_free(settings):
    """The same rows as of a plain loop, and others get their turn between any two."""
    job = enrichkit.start(FRAME, client=lambda _: Reply(text="{}"), **settings)
    turns, waits = [], []

    async def others():
        while True:
            turns.append(None)
            await asyncio.sleep(0)

    async def loop():
        beside = asyncio.ensure_future(others())
        rows = []
        async for row in job:
            rows.append(row["name"])
            waits.append(len(turns))
        beside.cancel()
        return rows

    assert sorted(asyncio.run(loop())) == sorted(FRAME["name"])
    assert len(set(waits)) == len(waits)


def test_an_interrupt_of_a_loop_in_an_event_loop_keeps_what_is_in_flight(settings):
    """It comes as a cancellation, and stays one."""
    go = threading.Event()
    job = enrichkit.start(FRAME, client=lambda _: go.wait(60) and Reply(text="{}"), **settings)

    async def loop():
        async for _ in job:
            pass

    async def interrupted():
        task = asyncio.ensure_future(loop())
        await asyncio.sleep(0.2)
        task.cancel()
        asyncio.get_running_loop().call_later(0.2, go.set)
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    assert (job.done, job.status.stopping, job.status.done) == (True, "interrupt", 4)


def test_the_same_call_again_gets_the_run_that_is_under_way(settings):
    """Also where a cell has defined its function anew; another table or setting is refused; after the end it is new."""
    go, asked = threading.Event(), []

    def a_call(frame=FRAME, **others):
        def client(request):
            asked.append(request.question)
            go.wait(60)
            return Reply(text="{}")

        return enrichkit.start(frame, **{"client": client} | settings | others)

    job = a_call()
    assert a_call() is job
    assert a_call(FRAME.copy(), progress="text") is job
    for other in ({"workers": 3}, {"frame": FRAME.head(3)}, {"client": lambda _: Reply(text="[]")}, {"limit": 5}):
        with pytest.raises(errors.LockedError, match=r"\.show\(\) it"):
            a_call(**other)
    go.set()
    job.result()
    assert len(asked) == 60
    assert a_call() is not job


def test_the_latest_answers_are_told(settings):
    """Five at most, the newest last: key, some of the values that were filled in, and what came of each."""

    def client(request):
        text = '{"industry": "Glass <b>and</b> ' + "x" * 40 + '", "city": null}'
        blocked = Reply(failure=Failure(cause="blocked", message="no"))
        return blocked if "Company 3⟧" in request.text else Reply(text=text)

    job = enrichkit.start(FRAME.head(4), client=client, **settings | {"workers": 1})
    job.result()
    assert [(key, values[:24]) for key, values, _ in job.status.latest] == [
        *[(f"Company {number}", "industry Glass <b>and</b") for number in range(3)],
        ("Company 3", "nothing filled in"),
    ]
    assert all(len(values) < 40 for _, values, _ in job.status.latest)
    assert [came[:15] for _, _, came in job.status.latest] == ["done"] * 3 + ["failed: blocked"]


def test_a_run_that_a_defect_ends_is_headed_by_it(settings):
    """With what was raised, wherever the run is shown."""

    def broken():
        raise ZeroDivisionError("<b>no</b>")

    stage = Stage("company", prompt="Research {name}.", answer=Company, search=False, prepare=broken)
    job = enrichkit.start(FRAME, client=lambda _: Reply(text="{}"), **settings | {"stages": [stage]})
    with pytest.raises(ZeroDivisionError):
        job.result()
    assert repr(job).startswith("<enrichkit.Run, ended by a defect: 0 of 60 records")
    assert "<b>Ended by a defect</b><br>\nZeroDivisionError: &lt;b&gt;no" in job._repr_html_()


def test_an_interrupt_while_the_display_is_made_leaves_no_run_behind(settings, monkeypatch):
    """Nobody would have hold of it, and it would go on spending. What is in flight is kept, as ever."""

    handlers = []

    def interrupted(live, way):
        handlers.append(signal.getsignal(signal.SIGTERM))
        raise KeyboardInterrupt

    asked, stopped, stop = [], threading.Event(), Engine.stop

    def stopping(engine, *why):
        stop(engine, *why)
        stopped.set()

    def client(request):
        asked.append(request)
        stopped.wait(60)
        return Reply(text="{}")

    monkeypatch.setattr("enrichkit.progress.screens.Live.show", interrupted)
    monkeypatch.setattr(Engine, "stop", stopping)
    with pytest.raises(errors.Interrupted, match=r"Interrupted\. \d+ of 60 records are done and saved"):
        enrichkit.run(FRAME, client=client, **settings)
    assert len(asked) <= 4
    assert handlers != [signal.SIG_DFL]  # a scheduler's end then is an interrupt, too
    monkeypatch.undo()
    rest = enrichkit.start(FRAME, client=client, **settings)
    assert rest.result()["_status"].tolist() == ["done"] * 60
    assert len(asked) == 60


def once_it_waits(act, job, monkeypatch, condition=lambda: True):
    """Do something once the main thread waits for a run."""
    wait, done = job._done.wait, []

    def waiting(seconds):
        if not done and condition():
            done.append(True)
            act()
        return wait(seconds)

    monkeypatch.setattr(job._done, "wait", waiting)


def press_ctrl_c():
    """Interrupt this process; it would end the tests if nobody waited for it."""
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_of_a_stop_that_waits_is_one_sentence(settings, monkeypatch):
    """It leaves at once, and says so."""
    go, asked = threading.Event(), threading.Event()

    def client(request):
        asked.set()
        go.wait(60)
        return Reply(text="{}")

    job = enrichkit.start(FRAME, client=client, **settings)
    assert asked.wait(60)
    once_it_waits(press_ctrl_c, job, monkeypatch)
    with pytest.raises(errors.Interrupted, match=r"^Left at once; .* 0 of 60 records"):
        job.stop()
    go.set()
    job.stop()


def test_a_run_that_was_left_at_once_is_waited_for_by_the_next(settings, monkeypatch):
    """The same call goes on, as was said: it has the store once the last requests are in, and pays for none of them."""
    go, asked = threading.Event(), []

    def client(request):
        asked.append(request)
        go.wait(60)
        return Reply(text="{}")

    job = enrichkit.start(FRAME, client=client, **settings)
    wait_for(lambda: len(asked) == 4)
    once_it_waits(press_ctrl_c, job, monkeypatch)
    with pytest.raises(errors.Interrupted, match=r"^Left at once; "):
        job.stop()
    once_it_waits(press_ctrl_c, job, monkeypatch)
    told = r"is stopped, but not over: it waits for 4 requests in flight\. This one begins"
    with pytest.warns(UserWarning, match=told), pytest.raises(errors.Interrupted, match=r"^Left at once; "):
        enrichkit.run(FRAME, client=client, **settings)  # nor need one wait for that
    once_it_waits(go.set, job, monkeypatch)
    with pytest.warns(UserWarning, match="is stopped, but not over"):
        enriched = enrichkit.run(FRAME, client=client, **settings)
    assert enriched["_status"].tolist() == ["done"] * 60
    assert len(asked) == 60


def test_who_iterates_gets_every_record_of_this_run_once(server, settings):
    """Whether it completed before the loop or since, is sealed or not; each loop begins anew, in the same order."""
    enrichkit.run(FRAME.head(5), **settings)
    job = enrichkit.start(FRAME, **settings | {"shard_rows": 10})
    wait_for(lambda: job.status.done >= 25)
    early = iter(job)
    rows = list(job)
    assert [row["_status"] for row in rows] == ["done"] * 55
    assert {row["name"] for row in rows} == set(FRAME["name"][5:])
    assert not [name for row in rows for name in row if name.endswith("._replies")]
    job.result()
    assert [row["name"] for row in early] == [row["name"] for row in rows] == [row["name"] for row in job]
    assert {frozenset(row) for row in rows} == {frozenset(row) for row in job}


def test_who_iterates_gets_records_whose_rows_go_back_into_old_shards(settings):
    """With the status of this call's stages, as in the table, whatever other stages the store has."""
    other = Stage("other", prompt="Where is {name}?", answer=Company, search=False, columns="there")
    settings |= {"client": lambda _: Reply(text='{"industry": "Tea"}'), "shard_rows": 7}
    enrichkit.run(FRAME.head(40), **settings)
    job = enrichkit.start(FRAME, **settings | {"stages": [other], "limit": 50})
    job.result()
    rows = list(job)
    assert {row["name"] for row in rows} == set(FRAME["name"][:50])
    assert {(row["_status"], row["there.industry"]) for row in rows} == {("done", "Tea")}


def test_an_interrupt_of_a_loop_that_waits_ends_the_run(server, settings, monkeypatch):
    """As one of `result` does: what is in flight is kept, and one sentence says so."""
    server.latency_seconds = 0.5
    job = enrichkit.start(FRAME, **settings)
    once_it_waits(press_ctrl_c, job, monkeypatch, lambda: server.counts()["answers"] >= 4)
    with pytest.raises(errors.Interrupted, match=r"^Interrupted\. (\d+) of 60 records are done and saved") as raised:
        for _ in job:
            pass
    assert job.done
    assert raised.value.done == server.counts()["answers"] == server.counts()["requests"]


def test_an_interrupt_in_the_body_of_a_loop_ends_the_loop_only(server, settings):
    """The run goes on in the background, for whoever wants its result."""
    job = enrichkit.start(FRAME.head(20), **settings)
    with contextlib.suppress(KeyboardInterrupt):
        for _ in job:
            raise KeyboardInterrupt
    assert job.result()["_status"].tolist() == ["done"] * 20


def test_a_resume_while_somebody_else_pauses_leaves_nothing_shut(settings, monkeypatch):
    """Buttons are answered in threads of their own; a run that says it is not paused goes on."""
    go = threading.Event()
    job = enrichkit.start(FRAME, client=lambda _: go.wait(60) and Reply(text="{}"), **settings)
    shut, resuming = PauseSwitch.shut, threading.Thread(target=job.resume)

    def slowly(door, reason):
        resuming.start()
        resuming.join(0.2)
        shut(door, reason)

    with monkeypatch.context() as context:
        context.setattr(PauseSwitch, "shut", slowly)
        job.pause()
    resuming.join()
    assert not job.status.paused
    go.set()
    wait_for(lambda: job.done)
    assert job.status.done == 60
