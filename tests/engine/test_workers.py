"""The workers: who waits lets another ask, what fails again and again ends the run, and nobody is lost."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time

import pytest

import enrichkit
from enrichkit import Stage, errors
from enrichkit.engine.pace import Pace
from enrichkit.engine.queue import QuestionQueue
from enrichkit.gemini.simulator import Quota
from enrichkit.messages import Failure, Reply
from enrichkit.store.files import Files
from enrichkit.store.store import Store
from support.tables import Company, numbered
from support.waiting import wait_for

COMPANY = Stage("company", prompt="Research {name}.", answer=Company, search=False)
GOOD = Reply(text='{"industry": "Tea"}')


DAILY = (
    r"The daily quota is used up \(GenerateRequestsPerDay\S+\); it opens again at midnight Pacific time, \w+day "
    r"\d\d:\d\d \S+ here\. 100 of 544 records are done and saved, 444 are left\."
)


def run(records, out, client, **settings):
    given = {"stages": [COMPANY], "model": "gemini-3.5-flash-lite", "key": "name", "progress": False, "workers": 4}
    return enrichkit.run(numbered(records, "Firm "), out=out, client=client, **given | settings)


def test_who_has_waited_comes_before_what_is_new(tmp_path, monkeypatch):
    """With one worker, which is busy all the time: its first question is not left for the end of the table."""
    monkeypatch.setattr("tenacity.wait_random_exponential", lambda **_: lambda state: 0.02)
    asked = []

    def client(request):
        asked.append(request.text)
        time.sleep(0.002)
        first = len(asked) == 1
        return Reply(failure=Failure(cause="overloaded")) if first else GOOD

    run(300, tmp_path / "out", client, workers=1)
    assert len(asked) == 301
    assert asked.index(asked[0], 1) < 150


def test_who_waits_before_another_try_lets_another_ask(tmp_path, monkeypatch):
    """Both of two workers wait for another try; all other records are asked meanwhile, never more than two at once."""
    asked, at_once = [], []
    lock, last, put_back = threading.Lock(), threading.Event(), QuestionQueue.put_back

    def after_all(ready, question, seconds):  # when every record is asked, however long that takes
        threading.Thread(target=lambda: last.wait(60) and put_back(ready, question, seconds)).start()

    monkeypatch.setattr(QuestionQueue, "put_back", after_all)

    def client(request):
        with lock:
            asked.append(request.text)
            if len(set(asked)) == 40:
                last.set()
            at_once.append(1 + (at_once[-1] if at_once else 0))
        time.sleep(0.002)
        with lock:
            at_once.append(at_once[-1] - 1)
        stubborn = "⟦Firm 0⟧" in request.text or "⟦Firm 1⟧" in request.text
        return Reply(failure=Failure(cause="overloaded")) if stubborn and asked.count(request.text) < 4 else GOOD

    enriched = run(40, tmp_path / "out", client, workers=2)
    assert enriched["_status"].tolist() == ["done"] * 40
    assert len(set(asked[:40])) == 40  # before any second try
    assert sorted(asked[40:]) == ["Research ⟦Firm 0⟧."] * 3 + ["Research ⟦Firm 1⟧."] * 3
    assert max(at_once) == 2


def test_after_many_second_tries_all_is_still_asked(tmp_path, monkeypatch):
    """Each question fails at first: as many as there are, none is left, and none is asked a third time."""
    monkeypatch.setattr("tenacity.wait_random_exponential", lambda **_: lambda state: 0.001)
    asked = []

    def client(request):
        asked.append(request.text)
        return Reply(failure=Failure(cause="overloaded")) if asked.count(request.text) < 2 else GOOD

    assert set(run(40, tmp_path / "out", client, workers=2)["_status"]) == {"done"}
    assert len(asked) == 80


def test_an_outage_is_not_met_by_each_question_in_turn(tmp_path, monkeypatch):
    """Of many only a few are begun, however often these are tried: the others are spared, and so is the budget."""
    monkeypatch.setattr("enrichkit.engine.retry.FIRST_WAIT_SECONDS", 0.02)
    asked = []

    def client(request):
        asked.append(request.text)
        return Reply(failure=Failure(cause="overloaded"))

    with pytest.raises(errors.Stopped, match="Question after question failed"):
        run(300, tmp_path / "out", client, workers=4)
    assert len(set(asked)) <= 10 + 4 * 4


@pytest.mark.parametrize(
    "reply",
    [
        Reply(failure=Failure(cause="bad_request", message="contains an invalid argument")),
        Reply(failure=Failure(cause="blocked", message="SAFETY")),
        Reply(text="I would rather not."),
    ],
    ids=["every request refused", "every answer blocked", "every answer unreadable"],
)
def test_one_cause_again_and_again_ends_the_run(reply, tmp_path):
    """After a few questions, not after all of them; the message names the cause and the call to go on."""
    asked = []

    def client(request):
        asked.append(request.question)
        return reply

    with pytest.raises(
        errors.Stopped, match=r"Question after question failed \((bad_request|blocked|unreadable)"
    ) as told:
        run(544, tmp_path / "out", client, workers=20)
    assert told.value.reason == "failures"
    assert len(asked) <= 3 * (10 + 20 + 2)


def test_a_failure_now_and_then_ends_nothing(tmp_path):
    """Nine in a row are bad luck."""
    count = 0

    def client(request):
        nonlocal count
        count += 1
        return GOOD if count % 10 == 0 else Reply(failure=Failure(cause="blocked"))

    enriched = run(100, tmp_path / "out", client, workers=1)
    assert enriched["_status"].value_counts().to_dict() == {"failed": 90, "done": 10}


def test_a_network_that_is_gone_ends_the_run(tmp_path, monkeypatch):
    """Nobody answers at the address: the run ends after a few questions, and none of them counts as failed."""
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
    monkeypatch.setattr("enrichkit.engine.retry.FIRST_WAIT_SECONDS", 0.001)
    with pytest.raises(errors.Stopped, match=r"Question after question failed \(network: .*0 of 544 records"):
        run(544, tmp_path / "out", "google-genai", workers=20)
    assert enrichkit.plan(numbered(544, "Firm "), stages=[COMPANY], key="name", out=tmp_path / "out").to_ask == 544


def test_silent_requests_cost_no_worker(tmp_path, simulator):
    """One in twenty is never answered: all 544 records are done, and twenty workers are there to the end."""
    simulator.faults = {"hang": 0.05}
    simulator.latency_seconds = 0.02
    before, late = threading.active_count(), 0
    job = enrichkit.start(
        numbered(544, "Firm "),
        stages=[COMPANY],
        key="name",
        out=tmp_path / "out",
        progress=False,
        workers=20,
        deadline_seconds=6,
    )
    while not job.done:
        late = max(late, job.status.traffic.in_flight if job.status.left < 272 else 0)
        time.sleep(0.005)
    assert set(job.result()["_status"]) == {"done"}
    assert late == 20
    simulator.close()
    wait_for(lambda: threading.active_count() <= before + 1)


def test_a_stopped_run_ends_when_its_requests_do(tmp_path, simulator):
    """At their deadline at the latest; half of it, for a first try."""
    simulator.faults = {"hang": 1.0}
    job = enrichkit.start(
        numbered(20, "Firm "),
        stages=[COMPANY],
        key="name",
        out=tmp_path / "out",
        progress=False,
        workers=5,
        deadline_seconds=3,
    )
    wait_for(lambda: simulator.counts()["requests"] >= 5)
    before, stopped = simulator.counts()["requests"], time.monotonic()
    job.stop()
    assert time.monotonic() - stopped < 40  # they would hang for an hour
    assert simulator.counts()["requests"] <= before + 5  # none but what was about to be sent


def test_after_a_stop_nothing_starts_and_all_waits_end(tmp_path, simulator, monkeypatch):
    """Waits for the pace, for another try and for the budget: over at once, though each would take a minute."""
    monkeypatch.setattr("tenacity.wait_random_exponential", lambda **_: lambda state: 60.0)
    simulator.script = ["overloaded"]
    job = enrichkit.start(
        numbered(544, "Firm "), stages=[COMPANY], key="name", out=tmp_path / "out", progress=False, workers=4, rpm=1
    )
    wait_for(lambda: job.status.problem and not job.status.traffic.in_flight)
    stopped = time.monotonic()
    job.stop()
    assert time.monotonic() - stopped < 30
    requests = simulator.counts()["requests"]
    time.sleep(0.3)
    assert simulator.counts()["requests"] == requests


def test_a_daily_quota_ends_the_run_at_once_and_the_next_call_goes_on(tmp_path, simulator):
    """A hundred are answered, hardly one is refused, and the rest is asked another day."""
    simulator.requests_per_day = 100
    met = time.monotonic()
    with pytest.raises(errors.Stopped, match=DAILY) as told:
        run(544, tmp_path / "out", "google-genai", workers=20)
    assert told.value.reason == "daily_quota"
    assert simulator.counts()["refused"] <= 20
    assert time.monotonic() - met < 30  # the refusals name a delay of 38 s
    simulator.requests_per_day = None
    assert set(run(544, tmp_path / "out", "google-genai", workers=20)["_status"]) == {"done"}
    assert simulator.counts()["answers"] == 544


def test_a_service_that_never_answered_makes_nobody_fail(tmp_path):
    """Five records and a network that is gone: they are still to be asked, and the run says what it met."""

    def client(request):
        raise ConnectionResetError("gone")

    with pytest.raises(errors.Stopped, match=r"\(network: ConnectionResetError: gone\)\. 0 of 5 records"):
        run(5, tmp_path / "out", client, deadline_seconds=0.2)
    assert enrichkit.plan(numbered(5, "Firm "), stages=[COMPANY], key="name", out=tmp_path / "out").to_ask == 5


def test_retried_failures_do_not_stop_the_others(tmp_path):
    """Thirty obstinate ones, retried: each is asked once more, and then what is new."""
    blocked = Reply(failure=Failure(cause="blocked"))
    for records in (9, 18, 27):
        assert set(run(records, tmp_path / "out", lambda request: blocked)["_status"]) == {"failed"}
    asked = []

    def client(request):
        asked.append(request.text)
        return blocked if len(asked) <= 27 else GOOD

    enriched = run(30, tmp_path / "out", client, workers=1, retry_failed=True)
    assert enriched["_status"].value_counts().to_dict() == {"failed": 27, "done": 3}
    assert len(asked) == 30


@pytest.mark.parametrize("error", [asyncio.CancelledError("odd"), SystemExit(3), ZeroDivisionError("odd")])
def test_whatever_a_client_raises_is_a_failure(error, tmp_path):
    """No worker is lost by it, and nobody else's record."""

    def client(request):
        if "⟦Firm 3⟧" in request.text:
            raise error
        return GOOD

    enriched = run(10, tmp_path / "out", client)
    assert enriched["_status"].value_counts().to_dict() == {"done": 9, "failed": 1}
    told = enrichkit.read(tmp_path / "out").set_index("name").loc["Firm 3", "company._error"]
    assert told.startswith(f"client: {type(error).__name__}")


def test_no_more_replies_are_unsaved_than_promised(tmp_path, monkeypatch):
    """Workers and two, also where each answer has to be asked for three times: a reply is stored before the next."""
    paid, stored, most = 0, 0, 0
    append, lock = Store.append, threading.Lock()

    def slow(self, entries):
        nonlocal stored
        if not stored:
            wait_for(lambda: most >= 4)
        time.sleep(0.02)
        append(self, entries)
        stored += len(entries)

    def client(request):
        nonlocal paid, most
        with lock:
            paid += 1
            most = max(most, paid - stored)
            return GOOD if paid % 3 == 0 else Reply(text="I would rather not.")

    monkeypatch.setattr(Store, "append", slow)
    run(40, tmp_path / "out", client, workers=4)
    assert 4 <= most <= 6


def test_a_defect_is_raised_as_what_it_is(tmp_path, monkeypatch):
    """With its own class and traceback, after everything that was answered is stored."""

    def broken(prompt, values):
        if values["name"] == "Firm 5":
            raise ZeroDivisionError("a defect")
        return "Research ⟦it⟧."

    monkeypatch.setattr("enrichkit.stages.stage.render", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        run(10, tmp_path / "out", lambda request: GOOD, workers=1)
    assert len(enrichkit.read(tmp_path / "out")) == 5


def test_a_full_disk_saves_up_no_burst(tmp_path, monkeypatch):
    """What waited for the disk passes the gate only then: the limit given holds."""
    free, sent, lock = Files.free_bytes, Pace.sent, threading.Lock()
    passed, asked = [], []

    def passing(pace, now):
        passed.append(now)
        return sent(pace, now)

    def client(request):
        with lock:
            asked.append(request)
            if len(asked) == 2:
                monkeypatch.setattr(Files, "free_bytes", lambda self, folder: 0)
        time.sleep(0.2)  # long enough for the writer to look at the disk
        return GOOD

    monkeypatch.setattr(Pace, "sent", passing)
    monkeypatch.setattr("enrichkit.engine.driver.LOOK_AT_DISK_SECONDS", 0.05)

    job = enrichkit.start(
        numbered(12, "Firm "),
        stages=[COMPANY],
        key="name",
        out=tmp_path / "out",
        model="gemini-3.5-flash-lite",
        client=client,
        progress=False,
        workers=8,
        rpm=600,
    )
    wait_for(lambda: "nearly full" in job.status.waiting)
    time.sleep(0.5)
    wait_for(lambda: len(asked) == len(passed))  # none waits behind the gate
    monkeypatch.setattr(Files, "free_bytes", free)
    assert set(job.result()["_status"]) == {"done"}
    assert len(passed) == 12
    assert all(later - one > 0.099 for one, later in itertools.pairwise(passed))


def test_the_pace_is_seen(tmp_path, simulator):
    """How fast, for how long none is sent, and why: in the status and in the line that people watch."""
    simulator.quota = Quota(requests=20, seconds=3600, says_seconds=1.0)
    job = enrichkit.start(
        numbered(40, "Firm "), stages=[COMPANY], key="name", out=tmp_path / "out", progress=False, workers=20
    )
    seen = set()
    while not job.done:
        status = job.status
        if "the service is closed for now" in seen:
            simulator.quota = None
        if status.pace.waiting_seconds:
            seen.add(status.waiting.split(",")[0])
            assert status.waiting in repr(job) or job.status.waiting != status.waiting
        time.sleep(0.01)
    assert job.result()["_status"].eq("done").all()
    assert "the service is closed for now" in seen


def test_a_client_of_ones_own_needs_a_model_and_is_no_class(tmp_path):
    """Its replies would be charged at the price of another model; and a class would make an object of each request."""
    ask = {"stages": [COMPANY], "key": "name", "out": tmp_path / "out"}
    with pytest.raises(errors.InputError, match=r"A client of your own needs model, the model that it asks"):
        enrichkit.plan(numbered(3), client=lambda request: GOOD, **ask)
    with pytest.raises(errors.InputError, match=r"or a callable that is no class, not <class '.*Reply'>"):
        enrichkit.plan(numbered(3), client=Reply, model="m", **ask)
    assert not (tmp_path / "out").exists()
