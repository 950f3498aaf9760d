"""The doctor: what it says, and how much it asks, before each of the simulator's faults, over real HTTP."""

from __future__ import annotations

import re
import time

import pytest

from enrichkit.gemini.faults import FAULTS, Fault, Quota
from enrichkit.messages import CLIENTS, KEY_NAMES
from support.calls import enrich, instead, told
from support.paths import ROOT

KEY = "a-key-for-nothing"


def doctor(*arguments, code=0):
    """What the doctor says; refusals are waited for a thirtieth as long as usual."""
    said = enrich("doctor", "--yes", *instead(("--patience", 2), *arguments), code=code)
    assert KEY not in said
    return said


def seen(said):
    """The rows of its table."""
    return dict(re.findall(r"(?m)^  (\S.*?)  +(\S.*)$", said))


@pytest.mark.parametrize("client", CLIENTS)
def test_all_is_well(simulator, client):
    """Nine requests, three of each kind, and the settings to use."""
    said = doctor("--client", client)
    assert simulator.counts()["requests"] == 9
    rows = seen(said)
    assert rows["key"] == "accepted"
    assert rows["model"] == "simulator-gemini-3.5-flash-lite answered"
    assert rows["no search, JSON by schema"] == "3 asked, 3 answered, 0 searched, 3 readable"
    assert rows["search, JSON in words"] == "3 asked, 3 answered, 3 searched, 3 readable"
    assert rows["search, schema and flag"] == "3 asked, 3 answered, 3 searched, 3 readable"
    assert rows["limits"] == "none seen"
    assert "Stage(..., json='words', search=True)" in said
    other = f" --client {client}" * (client != "google-genai")
    assert f"run --input FILE --limit 10 --model gemini-3.5-flash-lite{other} --budget 5\n" in said


BROKEN = {
    "bad_key": ("The service refused the key (API key not valid.", 1),
    "unauthorized": ("The service refused the key", 1),
    "forbidden": ("The service refused the key", 1),
    "location": ("does not serve the account's place (User location is not supported", 1),
    "credits": ("no credits left, or no billing (Your prepayment credits are depleted.). Top up", 1),
    "spend_limit": ("spend limit is reached", 1),
    "daily_quota": ("The daily quota is used up", 1),
    "no_model": ("does not know the model (models/gone is not found", 1),
    "rate": ("refuses every request for its rate", 3),
    "rate_bare": ("refuses every request for its rate (Resource exhausted.", 3),
    "redirect": ("answers elsewhere, and no key is sent there (the address redirects to http://localhost:", 1),
    "server": ("does not answer (An internal error has occurred.", 3),
    "overloaded": ("no room for the model now (This model is currently experiencing high demand.)", 3),
    "gateway_timeout": ("does not answer (The request timed out.", 3),
    "html": ("does not answer (a page titled '502 Bad Gateway')", 3),
    "html_200": ("this is not Gemini: a page titled 'Guest network'", 3),
    "error_200": ("does not answer (The backend is away.)", 3),
    "no_json": ("this is not Gemini", 3),
    "bad_request": ("takes no such request (Request contains an invalid argument.)", 3),
    "reset": ("does not answer (", 2),
    "cut_body": ("does not answer (", 2),
    "truncated": ("No answer could be read (the answer ended unfinished", 9),
    "prose": ("No answer could be read (no JSON object", 9),
    "empty": ("No answer could be read (no text", 9),
    "no_candidates": ("No answer could be read (no text", 9),
    "safety": ("No answer could be read (SAFETY)", 9),
    "blocked": ("No answer could be read (SAFETY)", 9),
}
"""What ends it, with what it says, and after how many requests."""


@pytest.mark.parametrize("fault", BROKEN)
def test_what_cannot_work_is_named_and_not_asked_again(simulator, fault):
    """One request where every other would fare alike, three where nobody answers; no settings, code 2."""
    reason, requests = BROKEN[fault]
    simulator.faults = {fault: 1.0}
    said = doctor(code=2)
    assert reason in said
    assert "Next:" not in said
    assert simulator.counts()["requests"] == requests


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_no_fault_makes_it_ask_much_or_say_nothing(simulator, fault):
    """Of all that the simulator knows: a dozen requests at most, and a reason where it cannot work."""
    simulator.faults = {fault: 1.0}
    said, code = told("doctor", "--yes", "--patience", 0.3)
    assert KEY not in said
    assert simulator.counts()["requests"] <= 12
    assert ("Stage(" in said) == (code < 2)
    assert code < 2 or re.search(r" \(.+\)", said.splitlines()[-1])


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("fault", ["bad_key", "redirect", "html_200", "reset"])
def test_either_client_tells_the_same(simulator, client, fault):
    """Of what cannot work."""
    reason, requests = BROKEN[fault]
    simulator.faults = {fault: 1.0}
    assert reason in doctor("--client", client, code=2)
    assert simulator.counts()["requests"] == requests


@pytest.mark.parametrize("client", CLIENTS)
def test_a_proxy_that_refuses_is_named(simulator, monkeypatch, client):
    """One request: the next would fare alike."""
    page = "<title>Log in to the proxy</title>"
    monkeypatch.setitem(FAULTS, "proxy", Fault((407, page)))
    monkeypatch.setenv("HTTP_PROXY", simulator.url)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://gemini.invalid")
    simulator.faults = {"proxy": 1.0}
    said = doctor("--client", client, code=2)
    assert "Nothing reached Gemini (a page titled 'Log in to the proxy'). Look at HTTPS_PROXY" in said
    assert simulator.counts()["requests"] == 1


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("fault", ["hang", "drip", "slow_head"])
def test_silence_costs_no_more_than_the_patience(simulator, client, fault):
    """All requests without an answer together; what they may have cost is counted."""
    simulator.faults = {fault: 1.0}
    begun = time.monotonic()
    said = doctor("--client", client, "--patience", 0.3, code=2)
    assert time.monotonic() - begun < 2
    assert "Gemini does not answer (" in said
    assert simulator.counts()["requests"] <= 2
    assert seen(said)["price"].startswith("at most 0.")


def test_answers_without_a_search_are_heeded(simulator):
    """Built-in stages need searches, so no run is advised."""
    simulator.faults = {"ungrounded": 1.0}
    said = doctor(code=1)
    assert "0 of 3 answers in words came from a search." in said
    assert "search='optional'" in said
    assert "Next:" not in said


def test_schemas_that_cost_the_answer_are_no_harm(simulator):
    """A run asks in words by default."""
    simulator.script = [None, None, "no_candidates"] * 3
    said = doctor()
    assert seen(said)["search, schema and flag"] == "3 asked, 3 answered, 0 searched, 3 empty"
    assert "json='words', search=True" in said


def test_a_model_that_searches_only_beside_a_schema_is_asked_by_schema(simulator):
    """That is for stages of one's own; the built-in ones ask in words, so no run is advised."""
    simulator.script = [None, "ungrounded", None] * 3
    said = doctor(code=1)
    assert "0 of 3 answers in words came from a search." in said
    assert "json='schema', search=True" in said
    assert "Next:" not in said


def test_what_fails_now_and_then_is_heeded(simulator):
    """It works, and the last failure is shown."""
    simulator.script = [None, "prose", None, "overloaded"]
    said = doctor(code=1)
    assert simulator.counts()["requests"] == 10
    assert "2 of 7 requests brought nothing (" in said
    assert "json='words', search=True" in said
    assert "Next: enrichkit run" in said


def test_refusals_of_searches_alone_are_told_from_others(simulator):
    """Requests without a search pass in between; each way is given up after two refusals."""
    simulator.script = [None, "rate_bare", "rate_bare"] * 2
    said = doctor(code=1)
    assert simulator.counts()["requests"] == 7
    assert seen(said)["search, JSON in words"] == "2 asked, 2 rate"
    assert "Requests that search are not answered, others are (rate: Resource exhausted." in said
    assert "midnight Pacific" in said
    assert "search=False" in said
    assert "Next:" not in said


def test_a_model_that_does_not_take_search_and_schema_is_asked_in_words(simulator):
    """As older ones: that is the default, so there is nothing to heed, and it is asked once only."""
    said = doctor("--model", "gemini-2.5-flash")
    assert simulator.counts()["requests"] == 7
    assert seen(said)["search, schema and flag"] == "1 asked, 1 bad_request"
    assert "json='words', search=True" in said


def test_a_rate_is_waited_for_and_named(simulator):
    """As long as the refusal says; fewer workers are advised."""
    simulator.script = [None, None, "rate"]
    said = doctor()
    assert simulator.counts()["requests"] == 10
    assert seen(said)["search, schema and flag"] == "4 asked, 1 rate, 3 answered, 3 searched, 3 readable"
    assert seen(said)["limits"] == "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
    assert "--max-workers 2" in said


def test_a_delay_beyond_the_patience_is_not_waited_for(simulator):
    """Nor is a limit on all requests taken for one on searches."""
    simulator.quota = Quota(requests=1, seconds=3600)
    said = doctor(code=1)
    assert simulator.counts()["requests"] == 2
    assert "1 of 2 requests brought nothing (rate: You exceeded your current quota" in said
    assert "others are" not in said
    assert "Next:" not in said


def test_a_quota_that_ends_in_between_is_named(simulator):
    """What was seen until then is shown."""
    simulator.requests_per_day = 4
    said = doctor(code=2)
    assert "The daily quota is used up" in said
    assert simulator.counts()["requests"] == 5
    assert seen(said)["key"] == "accepted"
    assert seen(said)["search, JSON in words"] == "2 asked, 1 answered, 1 searched, 1 readable, 1 daily_quota"


def test_it_ends_before_it_costs_more_than_it_said(simulator):
    """A reply of unknown price counts as the worst case."""
    simulator.faults = {"no_usage": 1.0}
    said = doctor(code=1)
    assert simulator.counts()["requests"] == 2
    assert "The rest was not asked" in said
    most, spent = re.findall(r"(0\.\d+) USD", said)
    assert float(spent) <= float(most)


def test_a_model_without_a_price_is_tried_and_said_to_be_so(simulator):
    """No budget is advised."""
    said = doctor("--model", "gemini-99-unheard-of", code=1)
    assert "of unknown price" in said
    assert seen(said)["price"] == "unknown"
    assert "no budget can be held" in said
    assert "--budget" not in said


def test_nobody_is_asked_and_nothing_spent_without_a_terminal(simulator):
    """Unless --yes says so."""
    assert "add --yes" in enrich("doctor", code=2)
    assert simulator.counts()["requests"] == 0


def test_the_simulator_needs_no_key_and_no_consent(monkeypatch):
    """It costs nothing."""
    for name in KEY_NAMES:
        monkeypatch.delenv(name, raising=False)
    said = enrich("doctor", "--model", "simulator")
    assert seen(said)["model"] == "simulator answered"
    assert "No API key is set" in enrich("doctor", "--yes", code=2)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:1", "Gemini does not answer ("),
        ("HTTP_PROXY", "ftp://user:secret@proxy.example", "HTTP_PROXY=ftp://proxy.example"),
        ("GOOGLE_GEMINI_BASE_URL", "gemini.example", "GOOGLE_GEMINI_BASE_URL is not an address"),
        ("GOOGLE_API_KEY", "key\u2019", "holds a letter that no key has"),
    ],
)
def test_what_the_environment_says_is_named(simulator, monkeypatch, name, value, said):
    """Before anything is sent."""
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://gemini.invalid")
    monkeypatch.setenv(name, value)
    told = doctor(code=2)
    assert said in told
    assert "secret" not in told
    assert simulator.counts()["requests"] == 0


def test_the_docs_show_what_it_says(simulator):
    """Letter for letter, but for the version of the prices."""
    page = (ROOT / "docs" / "real-run.md").read_text("utf-8")
    shown = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    said = doctor().partition("\n\n")[2]
    assert re.sub(r"prices [\d.]+", "", shown[1]) == re.sub(r"prices [\d.]+", "", said)


@pytest.mark.live
@pytest.mark.parametrize("client", CLIENTS)
def test_the_real_service(client):
    """Needs a key in the environment, and spends a few cents: what the doctor says is what is to be known."""
    said, code = told("doctor", "--yes", "--client", client)
    print(said)
    assert code < 2, said
    assert seen(said)["key"] == "accepted"
