"""A service that is not as it should be: it refuses, answers without searching, or is not Gemini at all."""

from __future__ import annotations

import time

import pytest

import enrichkit
from enrichkit import Price, Stage, errors
from enrichkit.gemini.faults import FAULTS, Fault
from enrichkit.gemini.simulator import Quota
from enrichkit.messages import CLIENTS, Failure, Reply, Usage
from support.tables import Company, numbered
from support.waiting import wait_for

SEARCHING = Stage("company", prompt="Research {name}.", answer=Company)
ENDS = {
    "quota_zero": "no_quota",
    "credits": "credits",
    "spend_limit": "spend_limit",
    "daily_quota": "daily_quota",
    "location": "location",
    "bad_key": "auth",
    "unauthorized": "auth",
    "forbidden": "auth",
    "no_model": "model_not_found",
    "redirect": "redirected",
}
"""Each refusal that no waiting helps, and the reason of the run's end."""


def run(records, out, simulator, **settings):
    given = {"stages": [SEARCHING], "key": "name", "progress": False, "workers": 4}
    return enrichkit.run(numbered(records, "Firm "), out=out, **given | settings)


@pytest.fixture
def asked(simulator, monkeypatch):
    """The bodies of all requests that the simulator gets."""
    bodies = []
    monkeypatch.setitem(FAULTS, "none", Fault(to=lambda body: bodies.append(body) or False))
    simulator.faults = {"none": 1.0}
    return bodies


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("fault", ENDS)
def test_a_refusal_that_no_waiting_helps_ends_the_run(fault, client, simulator, tmp_path):
    """After a request a worker and two more at most; no row fails, and the service's own sentence is told."""
    simulator.faults = {fault: 1.0}
    with pytest.raises(errors.Stopped) as stopped:
        run(30, tmp_path / "out", simulator, client=client)
    if fault != "redirect":
        said = FAULTS[fault].error[1]["error"]["message"]
        assert said[:60] in str(stopped.value) or "FreeTier" in str(stopped.value)
    assert stopped.value.reason == ENDS[fault]
    assert simulator.counts()["requests"] <= 4 + 2
    assert (stopped.value.done, stopped.value.left) == (0, 30)
    assert len(enrichkit.read(tmp_path / "out")) == 0


@pytest.mark.parametrize("client", CLIENTS)
def test_a_bad_request_fails_no_row_while_nothing_is_answered(client, simulator, tmp_path):
    """Question after question fails, which ends the run; once anything is answered, each is its row's own failure."""
    simulator.faults = {"bad_request": 1.0}
    with pytest.raises(errors.Stopped, match="Request contains an invalid argument") as stopped:
        run(30, tmp_path / "out", simulator, client=client)
    assert (stopped.value.reason, stopped.value.done, stopped.value.left) == ("failures", 0, 30)
    simulator.faults, simulator.script = {}, [None, "bad_request", None]
    assert sorted(run(30, tmp_path / "out", simulator, client=client)["_status"])[-1] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_patience_is_held(client, simulator, tmp_path, capsys):
    """Not for less than the five seconds, and not for ever; the last line says what the service said."""
    simulator.faults = {"rate_bare": 1.0}
    began = time.monotonic()
    with pytest.raises(errors.Stopped, match="Resource exhausted"):
        run(12, tmp_path / "out", simulator, client=client, patience_seconds=5.0, progress="text")
    assert time.monotonic() - began >= 5
    assert "Resource exhausted" in "".join(capsys.readouterr()).splitlines()[-1]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_stage_that_searches_is_asked_in_words_and_any_other_by_schema(client, simulator, asked, tmp_path):
    """Search and a schema go together only where that is asked for, and then with the flag."""
    forms = {"search": {}, "plain": {"search": False}, "both": {"json": "schema"}}
    for name, settings in forms.items():
        stage = Stage(name, prompt="Research {name}.", answer=Company, **settings)
        assert set(run(60, tmp_path / name, simulator, client=client, stages=[stage])["_status"]) == {"done"}
        bodies, asked[:] = list(asked), []
        schemas = [{"responseSchema", "responseJsonSchema"} & body["generationConfig"].keys() for body in bodies]
        flags = [body.get("toolConfig") == {"includeServerSideToolInvocations": True} for body in bodies]
        assert (len(bodies), sum(map(bool, schemas))) == (60, 0 if name == "search" else 60)
        assert sum(flags) == (60 if name == "both" else 0)


@pytest.mark.parametrize("client", CLIENTS)
def test_search_and_schema_that_get_no_candidate_waste_nothing(client, simulator, tmp_path):
    """Three hundred records, one in three such requests without a candidate: none is sent."""
    simulator.faults = {"both_empty": 1 / 3}
    assert set(run(300, tmp_path / "out", simulator, client=client, workers=10)["_status"]) == {"done"}
    assert simulator.counts()["answers"] == 300


@pytest.mark.parametrize("client", CLIENTS)
def test_a_model_that_refuses_search_and_schema_is_asked_in_words_from_then_on(client, simulator, tmp_path):
    """Whatever words it refuses with; a 400 that stays keeps its own message."""
    simulator.faults = {"refuses_both": 1.0}
    both = Stage("company", prompt="Research {name}.", answer=Company, json="schema")
    done = run(12, tmp_path / "a", simulator, client=client, stages=[both], workers=1)
    assert set(done["_status"]) == {"done"}
    assert simulator.counts()["requests"] == 13
    simulator.faults = {"bad_request": 1.0}
    with pytest.raises(errors.Stopped, match="Request contains an invalid argument"):
        run(12, tmp_path / "b", simulator, client=client, stages=[both], workers=1)


def test_refusals_are_waited_for_no_longer_than_allowed(simulator, tmp_path):
    """Ten minutes by default without one acceptance; the end says what the service said, and a pause does not count."""
    simulator.quota = Quota(1, seconds=3600.0, says_seconds=None)
    settings = {"stages": [SEARCHING], "key": "name", "progress": False, "patience_seconds": 2.0}
    job = enrichkit.start(numbered(12), out=tmp_path / "out", **settings)
    wait_for(lambda: "exceeded your current quota" in job.status.problem)
    job.pause()
    time.sleep(2.5)
    assert not job.done
    job.resume()
    with pytest.raises(
        errors.Stopped, match=r"refused request after request \(You exceeded your current quota"
    ) as told:
        job.result()
    assert (told.value.reason, told.value.done) == ("refused", 1)


@pytest.mark.parametrize("client", CLIENTS)
def test_answers_that_never_searched_end_the_run(client, simulator, tmp_path):
    """Twenty of a stage are enough to know; all are stored, and all are worth another look."""
    simulator.faults = {"ungrounded": 1.0}
    with pytest.raises(errors.Stopped, match=r"without searching \(the first 20 answers of stage 'company'\)") as told:
        run(100, tmp_path / "out", simulator, client=client, workers=10)
    assert told.value.reason == "no_search"
    assert 20 <= simulator.counts()["requests"] <= 32
    stored = enrichkit.read(tmp_path / "out")
    assert len(stored) == simulator.counts()["answers"]
    weak = enrichkit.trust.weak(tmp_path / "out")
    assert len(weak) == len(stored)
    assert weak["_why"].str.startswith("company no_search: the answer came without a").all()


def test_a_search_may_be_optional(simulator, tmp_path):
    """Then it is counted and told, and nothing ends; nor does it where one of the first twenty has searched."""
    simulator.faults = {"ungrounded": 1.0}
    optional = Stage("company", prompt="Research {name}.", answer=Company, search="optional")
    job = enrichkit.start(numbered(30), out=tmp_path / "a", stages=[optional], key="name", progress=False)
    assert set(job.result()["_status"]) == {"done"}
    assert (job.status.unsearched, job.status.searching) == (30, 30)
    assert "30 of 30 answers of stages that search came without a search" in repr(job)
    said = str(enrichkit.report(tmp_path / "a"))
    assert "30 of 30 answers of company came without a search" in said
    assert len(enrichkit.trust.weak(tmp_path / "a")) == 30
    simulator.script = [None]
    assert set(run(30, tmp_path / "b", simulator, workers=1)["_status"]) == {"done"}


@pytest.mark.parametrize("fault", ["html_200", "error_200"])
def test_a_page_that_is_not_geminis_costs_nothing(fault, simulator, tmp_path):
    """Nothing is spent, nothing may have been spent, no row fails; the page is named."""
    simulator.faults = {fault: 1.0}
    job = enrichkit.start(
        numbered(5),
        out=tmp_path / "out",
        stages=[SEARCHING],
        key="name",
        progress=False,
        budget_usd=3,
        deadline_seconds=4,
    )
    with pytest.raises(errors.Stopped, match="Guest network" if fault == "html_200" else "backend is away"):
        job.result()
    money = job.status.money
    assert (money.spent_usd, money.possibly_usd, job.status.failed) == (0, 0, 0)


@pytest.mark.parametrize("client", CLIENTS)
def test_models_before_a_name_says_nothing(client, simulator, tmp_path):
    """``models/x`` and ``x`` are one model: of a run, of a stage, of a price; no question is asked twice."""
    for number, prefix in enumerate(("models/", "")):
        stages = [SEARCHING, Stage("own", prompt="Name {name}.", answer=Company, model=f"{prefix}gemini-3.8-flash")]
        prices = {f"{prefix}gemini-3.5-flash-lite": Price(input_usd=1, output_usd=1, search_usd=0)}
        given = {"client": client, "stages": stages, "model": f"{prefix}gemini-3.5-flash-lite", "budget_usd": 100}
        done = run(2, tmp_path / "out", simulator, prices=prices, **given)
        assert set(done["_status"]) == {"done"}
        assert simulator.counts()["requests"] == 4, number


@pytest.mark.parametrize("client", CLIENTS)
def test_a_search_allowance_that_is_used_up_ends_the_stages_that_search(client, simulator, tmp_path, monkeypatch):
    """One short request without a search tells; the others are done, and the next call asks what was left."""
    monkeypatch.setattr("enrichkit.engine.retry.DOUBT_AFTER_SECONDS", 0.5)
    simulator.faults = {"search_quota": 1.0}
    plain = Stage("plain", prompt="Name {name}.", answer=Company, search=False)
    given = {"stages": [SEARCHING, plain], "key": "name", "client": client, "budget_usd": 5}
    job = enrichkit.start(numbered(12), out=tmp_path / "out", progress=False, workers=4, **given)
    with pytest.raises(
        errors.Stopped, match=r"Searches are refused, and nothing else \(You exceeded .* midnight"
    ) as told:
        job.result()
    assert (told.value.reason, told.value.done, told.value.left) == ("search_quota", 0, 12)
    assert "You exceeded your current quota" in job.status.problem
    counts = simulator.counts()
    assert counts["answers"] == 12 + 1
    assert sum(bill["searches"] for bill in simulator.ledger) == 0
    assert all(bill["output"] + bill["thinking"] <= 900 for bill in simulator.ledger)
    simulator.faults = {}
    again = enrichkit.start(numbered(12), out=tmp_path / "out", progress=False, workers=4, **given)
    assert set(again.result()["_status"]) == {"done"}
    assert simulator.counts()["answers"] == 12 + 1 + 12


def test_a_short_reply_never_stands_as_an_answer(tmp_path, monkeypatch):
    """Whole or not, its words are nobody's answer; it is stored, charged for, and its question asked again."""
    monkeypatch.setattr("enrichkit.engine.retry.DOUBT_AFTER_SECONDS", 0.1)
    taken = [False]

    def client(request):
        if request.search and not taken[0]:
            return Reply(failure=Failure(cause="rate", message="No capacity for this request."))
        said = "short" if request.max_output_tokens == 16 else "whole"
        return Reply(
            text=f'{{"industry": "{said}"}}', usage=Usage(prompt_tokens=1000, output_tokens=0), model_version="m"
        )

    free = Price(input_usd=1000, output_usd=0, search_usd=0)
    given = {
        "stages": [SEARCHING],
        "key": "name",
        "model": "m",
        "prices": {"m": free},
        "client": client,
        "progress": False,
    }
    with pytest.raises(errors.Stopped, match=r"nothing else \(No capacity for this request\.\)") as told:
        enrichkit.run(numbered(2), out=tmp_path / "out", **given)
    assert (told.value.reason, told.value.done, told.value.left) == ("search_quota", 0, 2)
    taken[0] = True
    job = enrichkit.start(numbered(2), out=tmp_path / "out", budget_usd=100, **given)
    done = job.result()
    assert "whole" in done.to_string()
    assert "short" not in done.to_string()
    assert (job.status.money.spent_usd, job.status.money.cost_usd) == (3.0, 2.0)


def test_a_limit_on_all_requests_is_not_taken_for_one_on_searches(simulator, tmp_path, monkeypatch):
    """The short request is refused as well, so patience decides."""
    monkeypatch.setattr("enrichkit.engine.retry.DOUBT_AFTER_SECONDS", 0.2)
    simulator.quota = Quota(1, seconds=3600.0, bare=True)
    with pytest.raises(errors.Stopped, match="refused request after request") as told:
        run(12, tmp_path / "out", simulator, patience_seconds=2.0)
    assert (told.value.reason, simulator.counts()["answers"]) == ("refused", 1)
