"""The workers: who waits lets another ask, what fails again and again ends the run, and nobody is lost."""

from __future__ import annotations

import threading
import time

import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Failure, Reply, Stage, errors
from enrichkit.simulator import Simulator


class Company(Answer):
    industry: str | None = None


COMPANY = Stage("company", prompt="Research {name}.", answer=Company, search=False)
GOOD = Reply(text='{"industry": "Tea"}')


DAILY = (
    r"The daily quota is used up \(GenerateRequestsPerDay\S+\); it opens again at midnight Pacific time, \w+day "
    r"\d\d:\d\d \S+ here\. 100 of 544 records are done and saved, 444 are left\."
)


def table(records):
    return pd.DataFrame({"name": [f"Firm {number}" for number in range(records)]})


def run(records, out, client, **settings):
    given = {"stages": [COMPANY], "key": "name", "progress": False, "workers": 4}
    return enrichkit.run(table(records), out=out, client=client, **given | settings)


@pytest.fixture
def simulator(monkeypatch):
    with Simulator() as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
        yield server


def test_who_waits_before_another_try_lets_another_ask(tmp_path):
    """Both of two workers wait for another try; all other records are asked meanwhile, never more than two at once."""
    asked, at_once = [], []
    lock = threading.Lock()

    def client(request):
        with lock:
            asked.append(request.text)
            at_once.append(1 + (at_once[-1] if at_once else 0))
        time.sleep(0.002)
        with lock:
            at_once.append(at_once[-1] - 1)
        stubborn = "⟦Firm 0⟧" in request.text or "⟦Firm 1⟧" in request.text
        return Reply(failure=Failure(cause="overloaded")) if stubborn and asked.count(request.text) < 4 else GOOD

    enriched = run(100, tmp_path / "out", client, workers=2)
    assert enriched["_status"].tolist() == ["done"] * 100
    assert asked.index("Research ⟦Firm 99⟧.") < len(asked) - 2  # before the last tries of the two
    assert max(at_once) == 2


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
        errors.Stopped, match=r"One cause failed again and again \((bad_request|blocked|unreadable)"
    ) as told:
        run(544, tmp_path / "out", client, workers=20)
    assert told.value.reason == "failures"
    assert len(set(asked)) <= 10 + 2 * 20 + 2


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
    monkeypatch.setattr("enrichkit._retry.FIRST_WAIT_SECONDS", 0.001)
    with pytest.raises(errors.Stopped, match=r"again and again \(network: .*0 of 544 records"):
        run(544, tmp_path / "out", "google-genai", workers=20)
    assert enrichkit.plan(table(544), stages=[COMPANY], key="name", out=tmp_path / "out").to_ask == 544


def test_silent_requests_cost_no_worker(tmp_path, simulator):
    """One in twenty is never answered: all records are done, and the workers are all there to the end."""
    simulator.faults = {"hang": 0.05}
    enriched = run(100, tmp_path / "out", "google-genai", workers=10, deadline_seconds=4.0)
    assert set(enriched["_status"]) == {"done"}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("enrichkit-run")]


def test_after_a_stop_nothing_starts_and_all_waits_end(tmp_path, simulator):
    """Waits for the pace, for another try and for the budget: over within a second."""
    simulator.script = ["overloaded"] * 6 + ["rate"] * 3
    job = enrichkit.start(
        table(544), stages=[COMPANY], key="name", out=tmp_path / "out", progress=False, workers=4, rpm=300
    )
    time.sleep(0.5)
    stopped = time.monotonic()
    job.stop()
    assert time.monotonic() - stopped < 1
    requests = simulator.counts()["requests"]
    time.sleep(0.3)
    assert simulator.counts()["requests"] == requests


def test_a_daily_quota_ends_the_run_at_once_and_the_next_call_goes_on(tmp_path, simulator):
    """A hundred are answered, hardly one is refused, and the rest is asked another day."""
    simulator.requests_per_day = 100
    with pytest.raises(errors.Stopped, match=DAILY) as told:
        run(544, tmp_path / "out", "google-genai", workers=20)
    assert told.value.reason == "daily_quota"
    assert simulator.counts()["refused"] <= 20
    simulator.requests_per_day = None
    assert set(run(544, tmp_path / "out", "google-genai", workers=20)["_status"]) == {"done"}
    assert simulator.counts()["answers"] == 544
