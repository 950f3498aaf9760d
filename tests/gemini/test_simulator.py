"""The simulator's own wire, without any client of ours."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from enrichkit.gemini.faults import present
from enrichkit.gemini.fiction import invent
from enrichkit.gemini.simulator import FAULTS, Quota, Simulator

SCHEMA = {
    "type": "object",
    "required": ["industry"],
    "properties": {
        "industry": {"type": "string"},
        "employees": {"type": "integer"},
        "public": {"type": "boolean"},
        "offices": {"type": "array", "items": {"type": "object", "properties": {"city": {"type": "string"}}}},
        "size": {"type": "string", "enum": ["small", "large"]},
        "confidence": {"type": "string", "enum": ["high", "medium", "low"]},
    },
}


def body(text="Research ⟦Acme⟧.", **config):
    config = {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA} | config
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config, "tools": [SEARCH]}


SEARCH = {"googleSearch": {}}


def post(simulator, payload, *, path="/v1beta/models/simulator:generateContent", key="k"):
    headers = {"Content-Type": "application/json"} | ({"x-goog-api-key": key} if key else {})
    request = urllib.request.Request(simulator.url + path, json.dumps(payload).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            raw = error.read()
        return error.code, json.loads(raw) if raw[:1] in b"{[" else raw.decode()


def fetch(simulator, path):
    with urllib.request.urlopen(simulator.url + path, timeout=60) as reply:
        return json.loads(reply.read())


def answer(reply):
    text = reply["candidates"][0]["content"]["parts"][0]["text"]
    return json.loads(text.removeprefix("```json\n").removesuffix("\n```"))


def test_what_it_answers_keeps_to_formats_and_limits():
    """Dates, addresses, bounds, maps and parts, of a field that may be missing, too; a field may be called type."""
    number, text = {"type": "integer"}, {"type": "string"}
    fields = {
        "born": {"anyOf": [text | {"format": "date"}, {"type": "null"}], "description": "format: date"},
        "seen": text | {"description": "When. (format: date-time)"},
        "page": text | {"description": "format: uri"},
        "share": number | {"minimum": 600, "maximum": 700},
        "ratio": {"type": "number", "minimum": 0, "maximum": 0.5},
        "parts": {"type": "object", "additionalProperties": number},
        "names": {"type": "array", "items": text, "minItems": 4, "maxItems": 5},
        "type": text | {"enum": ["a", "b"]},
        "motto": text | {"description": "at most 12 characters"},
        "quays": {
            "type": "array",
            "items": {"type": "object", "properties": {"town": text, "open": {"type": "boolean"}}},
        },
    }
    schema = present({"type": "object", "properties": fields, "required": list(fields)})
    for number in range(20):
        answer, _ = invent(schema, f"Research ⟦Quay {number}⟧.", seed=0)
        assert datetime.date.fromisoformat(answer["born"]) <= datetime.datetime.fromisoformat(answer["seen"]).date()
        assert answer["page"] == f"https://quay-{number}.example"
        assert 600 <= answer["share"] <= 700
        assert 0 <= answer["ratio"] <= 0.5
        assert all(isinstance(value, int) for value in answer["parts"].values())
        assert 4 <= len(answer["names"]) <= 5
        assert answer["type"] in ("a", "b")
        assert len(answer["motto"]) <= 12
        assert all({type(quay["town"]), type(quay["open"])} == {str, bool} for quay in answer["quays"])


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_it_answers_any_schema(version):
    """A stage of one's own gets answers of its own fields and types."""
    with Simulator() as simulator:
        status, reply = post(simulator, body(), path=f"/{version}/models/simulator:generateContent")
    found = answer(reply)
    assert status == 200
    assert found.keys() == SCHEMA["properties"].keys()
    assert isinstance(found["industry"], str)
    assert found["employees"] is None or isinstance(found["employees"], int)
    assert found["size"] in (None, "small", "large")
    assert "simulator" in reply["modelVersion"]


def test_snake_case_is_understood():
    """The SDKs mix camelCase and snake_case."""
    config = {"response_mime_type": "application/json", "response_schema": SCHEMA}
    snake = {"contents": [{"parts": [{"text": "Research ⟦Acme⟧."}]}], "generation_config": config}
    with Simulator() as simulator:
        assert answer(post(simulator, snake)[1]).keys() == SCHEMA["properties"].keys()


def test_same_seed_same_answers_and_faults():
    """A run on the simulator can be repeated to the byte."""

    def replies(seed):
        with Simulator(seed=seed, faults={"overloaded": 0.3, "prose": 0.2}) as simulator:
            return [post(simulator, body(f"Research ⟦{n}⟧.")) for n in range(30)]

    assert replies(1) == replies(1) != replies(2)


def test_answers_are_spread():
    """Missing fields, unequal confidence and search quality, fences: a histogram has something to show."""
    with Simulator() as simulator:
        replies = [post(simulator, body(f"Research ⟦{n}⟧."))[1] for n in range(200)]
    texts = [reply["candidates"][0]["content"]["parts"][0]["text"] for reply in replies]
    found = [answer(reply) for reply in replies]
    assert {one["confidence"] for one in found} == {"high", "medium", "low"}
    assert 0.05 < sum(one["employees"] is None for one in found) / 200 < 0.5
    assert 0.02 < sum(text.startswith("```") for text in texts) / 200 < 0.2
    assert all(reply["usageMetadata"]["totalTokenCount"] > 1200 for reply in replies)


def test_grounding_is_as_on_the_wire():
    """Offsets are bytes, a start of 0 is left out, queries and sources are there."""
    with Simulator() as simulator:
        candidate = post(simulator, body("Research ⟦Łódź⟧."))[1]["candidates"][0]
    grounding = candidate["groundingMetadata"]
    segment = grounding["groundingSupports"][0]["segment"]
    text = candidate["content"]["parts"][0]["text"]
    assert "startIndex" not in segment
    assert text.encode()[: segment["endIndex"]].decode() == segment["text"]
    assert grounding["webSearchQueries"]
    assert grounding["groundingChunks"][0]["web"]["uri"].startswith("https://redirect.example/")


def test_without_search_there_is_no_grounding():
    """No tool, no queries, fewer tokens."""
    payload = body()
    del payload["tools"]
    with Simulator() as simulator:
        reply = post(simulator, payload)[1]
    assert "groundingMetadata" not in reply["candidates"][0]


def test_enums_are_numbers_where_asked_for():
    """The older SDK asks for numbers."""
    path = "/v1beta/models/simulator:generateContent?$alt=json;enum-encoding=int"
    path = path.replace(";", "&")
    with Simulator(script=[None, "blocked", "unknown_finish"]) as simulator:
        good, blocked, unknown = (post(simulator, body(), path=path)[1] for _ in range(3))
    assert good["candidates"][0]["finishReason"] == 1
    assert blocked["promptFeedback"]["blockReason"] == 1
    assert isinstance(unknown["candidates"][0]["finishReason"], int)


def test_a_small_token_limit_cuts_the_answer():
    """Thinking counts against the limit."""
    with Simulator() as simulator:
        reply = post(simulator, body(maxOutputTokens=5))[1]
    assert reply["candidates"][0]["finishReason"] == "MAX_TOKENS"


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"tools": [{}]}, 400, "required one_of"),
        ({"tools": [{"googleSearchRetrieval": {}}]}, 400, "use google_search"),
        ({"model": "gemini-2.5-flash"}, 400, "Tool use with a response mime type"),
        ({"model": "gpt-9"}, 404, "is not found"),
        ({"key": "bad-key"}, 400, "API key not valid"),
        ({"key": None}, 403, "unregistered callers"),
    ],
)
def test_requests_that_the_service_refuses_are_refused(change, status, told):
    """A client that sends them must not pass here and fail for real."""
    payload = body() | {name: value for name, value in change.items() if name == "tools"}
    path = f"/v1beta/models/{change.get('model', 'simulator')}:generateContent"
    with Simulator() as simulator:
        code, reply = post(simulator, payload, path=path, key=change.get("key", "k"))
    assert (code, told in reply["error"]["message"]) == (status, True)


def test_counts_are_served():
    """Requests and answers, in all and per different prompt."""
    with Simulator(script=["overloaded"]) as simulator:
        for _ in range(3):
            post(simulator, body())
        post(simulator, body("Research ⟦Other⟧."))
        found = fetch(simulator, "/counts")
        assert found == simulator.counts()
    assert (found["requests"], found["answers"], found["different_prompts"]) == (4, 3, 2)
    assert sorted(one["requests"] for one in found["prompts"].values()) == [1, 3]
    assert found["faults"] == {"overloaded": 1}


def test_models_and_tokens_are_looked_up():
    """countTokens and model look-up, as the SDKs call them."""
    with Simulator() as simulator:
        assert fetch(simulator, "/v1beta/models/gemini-3.5-flash-lite")["name"] == "models/gemini-3.5-flash-lite"
        path = "/v1/models/simulator:countTokens"
        assert post(simulator, {"contents": [{"parts": [{"text": "a" * 40}]}]}, path=path)[1] == {"totalTokens": 10}
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            fetch(simulator, "/v1/models/gpt-9")
        caught.value.close()


def test_a_window_lets_so_many_through():
    """A quota per minute refuses the rest, with the delay until it opens."""
    with Simulator(quota=Quota(3, seconds=30)) as simulator:
        codes = [post(simulator, body(f"⟦{n}⟧")) for n in range(5)]
    assert [code for code, _ in codes] == [200, 200, 200, 429, 429]
    details = codes[-1][1]["error"]["details"]
    delay = next(detail["retryDelay"] for detail in details if "retryDelay" in detail)
    assert 0 < float(delay.removesuffix("s")) <= 30


def test_a_bucket_may_lie_about_its_delay():
    """A bucket refills all the time, whatever delay it names."""
    with Simulator(quota=Quota(60, seconds=60_000, kind="bucket", burst=2, says_seconds=3.0)) as simulator:
        codes = [post(simulator, body(f"⟦{n}⟧")) for n in range(4)]
    assert [code for code, _ in codes] == [200, 200, 429, 429]
    assert "3.000s" in json.dumps(codes[-1][1])


def test_a_day_has_its_own_quota():
    """The refusal names the day, with a short delay that does not help."""
    with Simulator(requests_per_day=2) as simulator:
        codes = [post(simulator, body(f"⟦{n}⟧")) for n in range(3)]
    assert codes[-1][0] == 429
    assert "PerDay" in json.dumps(codes[-1][1])


def test_latency_counts_at_once():
    """Requests are answered side by side, and the most at once is counted."""
    with Simulator(latency_seconds=(0.1, 0.2)) as simulator, ThreadPoolExecutor(8) as pool:
        together, latency, seconds = threading.Barrier(8), simulator._latency, []

        def meeting(prompt, earlier):
            together.wait(60)
            seconds.append(latency(prompt, earlier))
            return seconds[-1]

        simulator._latency = meeting
        list(pool.map(lambda n: post(simulator, body(f"⟦{n}⟧")), range(8)))
        assert simulator.counts()["most_at_once"] == 8
    assert 0.1 <= min(seconds) < max(seconds) <= 0.2


def test_an_unknown_fault_is_refused():
    """A typing error must not make a test pass that tests nothing."""
    with pytest.raises(ValueError, match="no fault 'overlaoded'"):
        Simulator(faults={"overlaoded": 0.1})
    assert {"rate", "hang", "reset", "safety", "prose"} <= FAULTS.keys()


def test_it_imports_nothing_of_the_rest():
    """It stands alone, so that it cannot share a mistake with what it tests."""
    code = "import enrichkit.gemini.simulator, sys; print([m for m in sys.modules if m.startswith('enrichkit.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    rooms = [f"enrichkit.gemini{room}" for room in ("", ".faults", ".fiction", ".simulator")]
    assert sorted(found.split("'")[1::2]) == rooms
