"""One contract over both clients, over real HTTP against the simulator; and the parser over bodies of every shape."""

from __future__ import annotations

import contextlib
import copy
import gzip
import http.server
import itertools
import json
import pickle
import re
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import enrichkit
from enrichkit import Stage
from enrichkit.errors import SetupError
from enrichkit.gemini.client import Gemini, check_capabilities, connect, in_words
from enrichkit.gemini.refusals import classify
from enrichkit.gemini.simulator import Simulator
from enrichkit.gemini.transport import ConnectError, ProxyError
from enrichkit.gemini.wire import parse, with_searches
from enrichkit.messages import CLIENTS, Reply, Request
from enrichkit.pricing.prices import cost, total_usd
from enrichkit.reading.answer import read_answer
from enrichkit.stages.funds import DEEP, FUND, POC
from enrichkit.stages.stage import render, request_for
from support.providers import Provider
from support.tables import Company
from support.waiting import wait_for

KEY = "secret-key-0123456789"
VALUES = {"poc.first_name": "Ana", "poc.last_name": "Núñez", "fund.title": "Borealis & Co", "fund.country": "Norway"}


@pytest.fixture(params=CLIENTS)
def name(request):
    return request.param


@pytest.fixture
def simulator():
    with Simulator() as server:
        yield server


@pytest.fixture
def client(name, simulator):
    found = connect(name, key=KEY, base_url=simulator.url)
    yield found
    found.close()


def question(stage=POC, **changed) -> Request:
    return replace(request_for(stage, "q", VALUES, model="simulator", timeout_seconds=30.0), **changed)


IN_SCHEMA = replace(POC, json="schema")
"""Searches, and asks for its JSON by a schema all the same."""


def test_a_reply_has_text_usage_sources_and_model(client):
    """Everything that the report needs comes out of the raw body, with either client."""
    reply = client(question())
    usage = reply.usage
    assert reply.failure is None
    assert json.loads(reply.text.removeprefix("```json\n").removesuffix("\n```"))["notes"].startswith("Simulated")
    assert usage.total_tokens == usage.prompt_tokens + usage.output_tokens + (usage.thinking_tokens or 0)
    assert usage.searches >= 1
    assert reply.model_version == "simulator"
    assert reply.finish_reason == "STOP"
    assert reply.response_id
    assert json.loads(reply.raw)["usageMetadata"]["totalTokenCount"] == usage.total_tokens


@pytest.mark.parametrize("stage", [POC, FUND, DEEP], ids=lambda stage: stage.name)
def test_both_clients_bring_the_same_reply(simulator, stage):
    """What is asked, answered and counted does not depend on the client."""
    replies = []
    for name in CLIENTS:
        client = connect(name, key=KEY, base_url=simulator.url)
        replies.append(client(request_for(stage, "q", VALUES, model="simulator", timeout_seconds=30.0)))
        client.close()
    assert replace(replies[0], raw="") == replace(replies[1], raw="")


CAUSES = {
    "rate": "rate",
    "rate_bare": "rate",
    "daily_quota": "daily_quota",
    "spend_limit": "spend_limit",
    "server": "server",
    "html": "server",
    "overloaded": "overloaded",
    "overloaded_list": "overloaded",
    "gateway_timeout": "server",
    "bad_key": "auth",
    "bad_request": "bad_request",
    "unauthorized": "auth",
    "forbidden": "auth",
    "no_model": "model_not_found",
    "reset": "network",
    "cut_body": "network",
    "no_json": "server",
    "truncated": "truncated",
    "max_tokens_empty": "truncated",
    "empty": "empty",
    "no_candidates": "empty",
    "unknown_finish_empty": "empty",
    "safety": "blocked",
    "recitation": "blocked",
    "blocked": "blocked",
}


@pytest.mark.parametrize(("fault", "cause"), CAUSES.items())
def test_each_fault_is_named(client, simulator, fault, cause):
    """A fault is a value with its cause, the same with either client, after exactly one request."""
    simulator.script = [fault]
    reply = client(question())
    assert reply.failure.cause == cause
    assert reply.failure.message
    assert "<" not in reply.failure.message
    assert simulator.counts()["requests"] == 1


@pytest.mark.parametrize("fault", ["drip", "slow_head", "endless"])
def test_the_deadline_holds_for_all_of_a_reply(client, simulator, fault):
    """From its head's first byte on, however it comes; the next one is read as ever."""
    simulator.script = [fault]
    started = time.monotonic()
    reply = client(question(timeout_seconds=0.5))
    assert time.monotonic() - started < 10  # all of it would take longer still
    assert (reply.failure.cause, reply.failure.may_be_charged) == ("timeout", True)
    assert "no whole reply within 0.5 s" in reply.failure.message
    assert client(question()).failure is None


def test_a_compressed_reply_that_drips_is_cut_and_any_other_is_read():
    """A decoder may say nothing for long, and the deadline counts all the same."""
    body = gzip.compress('{"candidates": [{"content": {"parts": [{"text": "Zoë"}]}}]}'.encode())
    pauses = iter([0.5, 0.0])

    class Compressed(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            pause = next(pauses)
            with contextlib.suppress(OSError):
                for place in range(len(body)):
                    self.wfile.write(body[place : place + 1])
                    time.sleep(pause)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Compressed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = connect("google-genai", key=KEY, base_url=f"http://127.0.0.1:{server.server_port}")
        started = time.monotonic()
        assert client(question(timeout_seconds=1.0)).failure.cause == "timeout"
        assert time.monotonic() - started < 0.5 * len(body) - 5
        assert client(question()).text == "Zoë"
        client.close()
        server.shutdown()


@pytest.mark.parametrize("fault", ["thoughts", "unknown_finish", "surrogates", "no_usage", "fenced", "around"])
def test_an_odd_reply_is_still_a_reply(client, simulator, fault):
    """What has a text is read, whatever else is odd about it."""
    simulator.script = [fault]
    reply = client(question())
    assert reply.failure is None
    assert "Let me think" not in reply.text
    assert read_answer(POC.answer, reply.text)[0] is not None


def test_silence_ends_at_the_timeout(client, simulator):
    """A server that says nothing holds a worker no longer than asked."""
    simulator.script = ["hang"]
    started = time.monotonic()
    assert client(question(timeout_seconds=0.3)).failure.cause == "timeout"
    assert time.monotonic() - started < 30  # it would hang for an hour


def test_a_delay_is_read(client, simulator):
    """The server's delay travels with the refusal; a quota of the day is told from one of the minute."""
    simulator.script = ["rate", "daily_quota"]
    minute, day = client(question()).failure, client(question()).failure
    assert minute.retry_after_seconds == pytest.approx(0.05)
    assert "PerMinute" in minute.quota
    assert "PerDay" in day.quota


def test_a_model_that_refuses_search_with_schema_is_asked_in_words_once(client, simulator):
    """The refusal costs one free request per model, not one per question."""
    first, second = (client(question(IN_SCHEMA, model="gemini-2.5-flash")) for _ in range(2))
    assert first.failure is None
    assert read_answer(POC.answer, first.text)[0].notes.startswith("Simulated")
    assert second == first
    assert simulator.counts()["requests"] == 3


def test_no_key_is_ever_told(client, simulator, name):
    """A key is in no message, no repr and no pickle."""
    simulator.close()
    reply = client(question(timeout_seconds=0.5))
    assert reply.failure.transient
    assert KEY not in str(reply)
    assert KEY not in repr(client)
    assert name in repr(client)
    with pytest.raises(TypeError, match="holds a key"):
        pickle.dumps(client)


@pytest.mark.parametrize("status", [200, 400])
def test_a_key_in_an_error_is_struck_out(status):
    """A proxy that repeats the key in its error must not get it into the store."""

    class Telltale:
        def send(self, request):
            return status, {}, json.dumps({"error": {"code": 400, "message": f"key {KEY} is odd"}})

        def close(self):
            pass

    reply = Gemini("x", Telltale(), key=KEY)(question())
    assert reply.failure.message == "key (key) is odd"
    assert KEY not in repr(reply)


def test_a_header_may_ask_to_wait(name):
    """As gateways do, which know nothing of Google's details."""
    server = Provider()
    server.script = [(429, {"Retry-After": "2"})]
    try:
        with contextlib.closing(connect(name, key=KEY, base_url=server.url)) as client:
            failure = client(question()).failure
    finally:
        server.shutdown()
        server.server_close()
    assert (failure.cause, failure.retry_after_seconds) == ("rate", 2.0)


def test_twenty_threads_share_a_client(client, simulator):
    """Replies never cross between threads."""
    requests = [question(text=f"{render(POC.prompt, VALUES)} Number: ⟦{n}⟧") for n in range(60)]
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(client, requests))
    assert together == [client(request) for request in requests]
    assert simulator.counts()["different_prompts"] == 60


def test_two_keys_in_one_process_do_not_mix(name, simulator):
    """A client's key is its own, not the process's."""
    good, bad = (connect(name, key=key, base_url=simulator.url) for key in (KEY, "bad-key"))
    assert [good(question()).failure, bad(question()).failure.cause, good(question()).failure] == [None, "auth", None]
    good.close()
    bad.close()


def test_a_client_that_cannot_think_says_so():
    """A capability that is lacking is refused before the first request."""
    with pytest.raises(SetupError, match="google-genai"):
        check_capabilities("google-generativeai", thinking="low")
    check_capabilities("google-genai", thinking="low")


def test_thinking_reaches_the_wire(simulator, monkeypatch):
    """A level or a budget is sent as such."""
    seen = []
    monkeypatch.setattr(
        sys.modules["enrichkit.gemini.simulator"], "refused_request", lambda model, body, key: seen.append(body)
    )
    client = connect("google-genai", key=KEY, base_url=simulator.url)
    client(question(thinking="low"))
    client(question(thinking=512))
    client.close()
    found = [body["generationConfig"]["thinkingConfig"] for body in seen]
    assert [next(iter(one.values())) for one in found] == ["LOW", 512]


def test_what_is_sent_is_what_the_sdk_itself_would_send():
    """Only the first request of a kind is written by google-genai; no other may differ in more than its question."""
    from google import genai

    came = []

    class Keeping(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            came.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args):
            pass

    requests = [
        question(POC if search else replace(POC, search=False), text=f"Who is ⟦{name}⟧?", thinking=thinking)
        for name in ("Ana", 'Bo \\ "?"')
        for thinking in (None, "low", 128)
        for search in (True, False)
    ]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keeping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        client = connect("google-genai", key=KEY, base_url=url)
        for request in requests:
            client(request)
        client.close()
        types = genai.types
        with genai.Client(api_key=KEY, http_options=types.HttpOptions(api_version="v1beta", base_url=url)) as sdk:
            for asked in requests:
                request = in_words(asked) if asked.json == "words" else asked
                level = request.thinking
                spec = {"thinking_level": level.upper()} if isinstance(level, str) else {"thinking_budget": level}
                config = types.GenerateContentConfig(
                    system_instruction=request.system,
                    tools=[types.Tool(google_search=types.GoogleSearch())] if request.search else None,
                    response_mime_type="application/json" if request.schema else None,
                    response_json_schema=dict(request.schema) or None,
                    max_output_tokens=request.max_output_tokens,
                    thinking_config=types.ThinkingConfig(**spec) if level is not None else None,
                    http_options=types.HttpOptions(timeout=30_000),
                )
                sdk.models.generate_content(model=request.model, contents=request.text, config=config)
        server.shutdown()
    ours, theirs = came[: len(requests)], came[len(requests) :]
    assert [(path, body) for path, _, body in ours] == [(path, body) for path, _, body in theirs]
    for (_, headers, _), (_, other, _) in zip(ours, theirs, strict=True):
        transport = dict.fromkeys(["content-length", "accept-encoding", "connection"])
        assert headers | transport == other | transport


def test_what_cannot_be_sent_is_not_charged(simulator):
    """A request that an SDK refuses to write has carried nothing; with an address that is none, there is none."""
    with pytest.raises(SetupError, match=r"gopher:.* is not an address"):
        connect("google-genai", key=KEY, base_url="gopher://127.0.0.1:1")
    client = connect("google-genai", key=KEY, base_url=simulator.url)
    failure = client(question(model="no?model")).failure
    client.close()
    assert (failure.cause, failure.may_be_charged) == ("not_sent", False)
    assert simulator.counts()["answers"] == 0


@pytest.mark.parametrize(
    ("error", "cause", "charged"),
    [
        (ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), "not_sent", False),
        (ProxyError("403 Forbidden"), "not_sent", False),
        (ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred"), "network", False),
        (ssl.SSLError("[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] bad record mac"), "network", True),
        (ssl.SSLError("[SSL: BAD_LENGTH] bad length"), "network", True),
    ],
)
def test_an_encrypted_connection_that_breaks_is_tried_again(error, cause, charged):
    """Only before anything was sent is it a certificate or a proxy; later on the request may have been answered."""

    class Broken:
        def send(self, request):
            raise error

    failure = Gemini("google-genai", Broken(), key=KEY)(question()).failure
    assert (failure.cause, failure.may_be_charged) == (cause, charged)


def test_a_missing_package_is_told(monkeypatch):
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "google.ai", None)
    with pytest.raises(SetupError, match=r"pip install 'enrichkit\[google-generativeai\]'"):
        connect("google-generativeai", key=KEY)


@contextlib.contextmanager
def answering(answer):
    """Serve POST requests on loopback by ``answer(handler, body)``; yield the address and what came."""
    came = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, headers, body = answer(came[-1])
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", came
        server.shutdown()


def reply_at(name, answer, request):
    """Return what a client makes of an answer, and the bodies that came."""
    with answering(answer) as (url, came):
        client = connect(name, key=KEY, base_url=url)
        reply = client(request)
        client.close()
        return reply, came


GOOD = json.dumps(
    {"candidates": [{"content": {"parts": [{"text": "{}"}]}, "finishReason": "STOP"}], "usageMetadata": {}}
).encode()


def fields(schema, *names):
    """Count names of a schema's dialect at whatever depth."""
    inner = list(schema.values()) if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    own = sum(key in names for key in schema) if isinstance(schema, dict) else 0
    return own + sum(fields(part, *names) for part in inner)


@pytest.mark.parametrize("search", [True, False])
@pytest.mark.parametrize("form", ["auto", "words", "schema"])
def test_a_search_and_a_schema_go_together_only_where_that_is_asked_for(name, form, search):
    """A stage that searches asks for its JSON in words, whatever the model; and with both goes the flag for both."""
    stage = replace(FUND, json=form, search=search)
    _, [body] = reply_at(name, lambda _: (200, {}, GOOD), question(stage))
    config = body["generationConfig"]
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    in_words = form == "words" or (form == "auto" and search)
    assert (schema is None, "responseMimeType" not in config) == (in_words, in_words)
    assert ("The JSON Schema of the object" in body["systemInstruction"]["parts"][0]["text"]) == in_words
    flag = {"includeServerSideToolInvocations": True}
    assert body.get("toolConfig") == (flag if search and form == "schema" else None)
    assert bool(body.get("tools")) == search


def test_each_client_gets_the_schema_dialect_that_its_field_understands(name):
    """``anyOf`` with null in ``responseJsonSchema``, ``nullable`` in ``responseSchema``; the facts come first."""
    _, [body] = reply_at(name, lambda _: (200, {}, GOOD), question(replace(FUND, search=False)))
    config = body["generationConfig"]
    order = [*FUND.fields, "notes", "confidence", "search_quality", "fields_found"]
    if name == "google-genai":
        assert fields(config["responseJsonSchema"], "nullable") == 0
        assert list(config["responseJsonSchema"]["properties"]) == order
    else:
        assert fields(config["responseSchema"], "anyOf", "any_of") == 0
        assert fields(config["responseSchema"], "nullable") > 5
        assert config["responseSchema"]["propertyOrdering"] == order


@pytest.mark.parametrize("stays", [True, False])
def test_a_400_to_search_and_schema_is_asked_once_more_in_words(name, stays):
    """Whatever its wording; if that helps, the model is remembered, and if not, the first refusal stands."""

    def answer(body):
        both = "tools" in body and "responseMimeType" in body["generationConfig"]
        told = "Grounding and structured output exclude each other." if both else "Too many words."
        refused = json.dumps({"error": {"code": 400, "message": told, "status": "INVALID_ARGUMENT"}}).encode()
        return (400, {}, refused) if both or stays else (200, {}, GOOD)

    with answering(answer) as (url, came):
        client = connect(name, key=KEY, base_url=url)
        replies = [client(question(IN_SCHEMA)) for _ in range(12)]
        client.close()
    assert len(came) == (24 if stays else 13)
    failures = {str(reply.failure) for reply in replies}
    assert failures == ({"bad_request: Grounding and structured output exclude each other."} if stays else {"None"})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(name, status):
    """Key and prompt would go along; the refusal names the target."""
    with answering(lambda _: (200, {}, GOOD)) as (other, reached):
        target = other.replace("127.0.0.1", "localhost") + "/elsewhere"
        reply, came = reply_at(name, lambda _: (status, {"Location": target}, b""), question())
    assert reply.failure.cause == "redirected"
    assert reply.failure.ends_run
    assert target in reply.failure.message
    assert (len(came), reached) == (1, [])


@pytest.mark.parametrize(
    ("status", "body", "cause", "told"),
    [
        (200, b"<html><title>Harbour guest net</title></html>", "server", "a page titled 'Harbour guest net'"),
        (200, b"", "server", "an empty body"),
        (200, b"[]", "server", "this is not Gemini"),
        (200, b'{"ok": true}', "server", "this is not Gemini"),
        (200, b'{"error": {"code": 500, "message": "backend is away"}}', "server", "backend is away"),
        (200, b'{"error": {"code": 429, "message": "Daily limit reached."}}', "daily_quota", "Daily limit"),
        (202, b"<title>Wait</title>", "server", "a page titled 'Wait'"),
        (600, b"<title>Odd</title>", "server", "a page titled 'Odd'"),
        (407, b"<title>Proxy Authentication Required</title>", "not_sent", "Proxy Authentication Required"),
    ],
)  # fmt: skip
def test_what_is_not_from_gemini_is_never_charged(name, status, body, cause, told):
    """A page of a guest network, an empty body, an error with status 200: named, and not paid."""
    reply, _ = reply_at(name, lambda _: (status, {}, body), question())
    assert (reply.failure.cause, reply.paid, reply.failure.may_be_charged) == (cause, False, False)
    assert told in reply.failure.message


@pytest.mark.parametrize(
    ("status", "coding", "body"),
    [
        (200, "GZIP", gzip.compress(GOOD)),
        (200, "gzip", gzip.compress(GOOD[:9]) + gzip.compress(GOOD[9:])),
        (200, "gzip, gzip", gzip.compress(gzip.compress(GOOD))),
        (200, "gzip", GOOD),
        (200, "identity", b"\xef\xbb\xbf" + GOOD),
        (201, "identity", GOOD),
    ],
)
def test_a_reply_is_read_however_it_is_wrapped(name, status, coding, body):
    """What a gateway packs otherwise, marks with a byte order mark or calls created, was paid for all the same."""
    reply, _ = reply_at(name, lambda _: (status, {"Content-Encoding": coding}, body), question())
    assert (reply.text, reply.failure, reply.paid) == ("{}", None, True)


def test_what_a_service_says_moves_no_terminal(name):
    """Control characters stay out of the message, and so out of cells, files and logs."""
    body = json.dumps({"error": {"code": 403, "message": "closed \x1b[2J \x07"}}).encode()
    reply, _ = reply_at(name, lambda _: (403, {}, body), question())
    assert reply.failure.message == "closed ?[2J ?"


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        ("SSL_CERT_FILE", "/no/such/file.pem", "SSL_CERT_FILE=/no/such/file.pem"),
        ("SSL_CERT_FILE", "/etc/hostname", "SSL_CERT_FILE=/etc/hostname"),
        ("SSL_CERT_DIR", "/no/such/folder", "SSL_CERT_DIR=/no/such/folder"),
        ("REQUESTS_CA_BUNDLE", "/no/such/file.pem", "REQUESTS_CA_BUNDLE=/no/such/file.pem"),
        ("HTTPS_PROXY", "10.0.0.1:port", "HTTPS_PROXY=10.0.0.1:port"),
        ("HTTPS_PROXY", "gopher://ana:word@10.0.0.1:1", "HTTPS_PROXY=gopher://10.0.0.1:1"),
        ("all_proxy", "socks5://ana:word@10.0.0.1:1", "all_proxy=socks5://10.0.0.1:1"),
    ],
)
def test_what_lets_no_request_out_is_named_before_any(name, variable, value, shown, monkeypatch):
    """With the variable and its value, less its password; nothing of it matters on loopback."""
    for other in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SetupError, match=f"No request can leave this machine: .*{re.escape(shown)}") as refused:
        connect(name, key=KEY)
    assert "word" not in str(refused.value)
    connect(name, key=KEY, base_url="http://127.0.0.1:9").close()


def test_the_environment_moves_no_request_elsewhere(name, simulator, monkeypatch):
    """Neither to another product of Google's, nor from loopback to a proxy."""
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    client = connect(name, key=KEY, base_url=simulator.url)
    assert client(question()).failure is None
    client.close()


# The parser alone


def test_missing_counts_are_recovered_as_a_sum():
    """What a reply leaves out is the rest of its total, thinking and tool use together."""
    usage = {"promptTokenCount": 100, "candidatesTokenCount": 20, "totalTokenCount": 190}
    found = parse(json.dumps({"usageMetadata": usage})).usage
    assert (found.thinking_tokens, found.tool_tokens, found.combined) == (70, None, True)


def test_queries_are_cleaned_and_counted_as_billed():
    """Empty queries are none, and a repeated one is billed once."""
    grounding = {"webSearchQueries": ["a", "", "a", " ", "b"]}
    reply = parse(json.dumps({"candidates": [{"groundingMetadata": grounding, "finishReason": "STOP"}]}))
    assert (reply.queries, reply.usage.searches, reply.finish_reason) == (("a", "b"), 2, "STOP")


@pytest.mark.parametrize(("count", "searches"), [(3, 3), ("3", 3), (0, 0), (10**9, 1), (-1, 1), ("x", 1), (None, 1)])
def test_a_count_of_searches_that_cannot_be_one_is_none(count, searches):
    """Numbers of 64 bits come as text; a billion searches would set a worst case beyond every budget."""
    tool = {"tool": "GOOGLE_SEARCH_RETRIEVAL", "successfulToolCallCount": count}
    candidate = {"groundingMetadata": {"webSearchQueries": ["a"]}}
    body = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": "12", "billedToolCalls": [tool]}}
    usage = parse(json.dumps(body)).usage
    assert (usage.searches, usage.prompt_tokens) == (searches, 12)


def by_hand(usage, queries, model):
    """Return what a reply costs in USD, worked out from Google's page of prices; None where nobody can know.

    Prices per million tokens: input 0.30, cached 0.03, output and thinking 2.50, for both models; a search 0.014 per
    query (3.x), 0.035 per grounded prompt (2.5).
    """
    prompt, output, total = (usage.get(f"{name}TokenCount") for name in ("prompt", "candidates", "total"))
    thinking, tool = usage.get("thoughtsTokenCount"), usage.get("toolUsePromptTokenCount")
    if total is None:
        if prompt is None or output is None:
            return None
        written = output + (thinking or 0)
    elif prompt is None and output is None:
        return None
    elif prompt is None:
        prompt, written = total - output - (thinking or 0) - (tool or 0), output + (thinking or 0)
    elif output is not None and thinking is not None and tool is None:
        tool, written = total - prompt - output - thinking, output + thinking
    else:  # what the total holds beyond its parts was written; that is never the cheaper reading
        written = total - prompt - (tool or 0)
    cached = usage.get("cachedContentTokenCount") or 0
    fee = Decimal("0.014") * queries if model.startswith("gemini-3") else Decimal("0.035") * min(queries, 1)
    per_token = Decimal("0.00000001")
    return per_token * (30 * (prompt - cached + (tool or 0)) + 3 * cached + 250 * written) + fee


FULL = {
    "promptTokenCount": 1_847,
    "candidatesTokenCount": 311,
    "thoughtsTokenCount": 523,
    "cachedContentTokenCount": 601,
    "toolUsePromptTokenCount": 97,
    "totalTokenCount": 2_778,
}
USAGES = [
    {name: FULL[name] for name in kept} for many in range(len(FULL) + 1) for kept in itertools.combinations(FULL, many)
]
MODELS = ("gemini-3.5-flash-lite", "gemini-2.5-flash")


def billed(usage, queries, model):
    candidate = {"content": {"parts": [{"text": '{"industry": "Tea"}'}], "role": "model"}, "finishReason": "STOP"}
    if queries:
        candidate["groundingMetadata"] = {"webSearchQueries": ["", *(f"query {number}" for number in range(queries))]}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("queries", range(4))
def test_whatever_a_reply_says_it_used_is_priced_to_the_last_digit(queries, model):
    """All 64 ways in which the six counts may be present or missing."""
    for usage in USAGES:
        reply = with_searches(parse(json.dumps(billed(usage, queries, model))), unknown=0)
        found = cost(reply.usage, reply.model_version, at=datetime(2026, 11, 24, tzinfo=UTC))
        assert total_usd(found) == by_hand(usage, queries, model), usage


def test_a_search_that_left_sources_but_no_queries_is_charged_once():
    """Any list may be absent although the search ran."""
    body = billed(FULL, 0, MODELS[0])
    body["candidates"][0]["groundingMetadata"] = {"groundingChunks": [{"web": {"uri": "https://a.example"}}]}
    assert parse(json.dumps(body)).usage.searches == 1
    body["candidates"][0]["groundingMetadata"] = {}
    assert parse(json.dumps(body)).usage.searches is None


@pytest.mark.parametrize("model", MODELS)
def test_a_store_holds_the_bill_to_the_last_digit(name, model, simulator, monkeypatch, tmp_path):
    """Over HTTP, with either client: each reply's cost, and their sum."""
    known = [usage for usage in USAGES if by_hand(usage, 1, model) is not None][::3]
    bodies = [billed(usage, 1 + number % 3, model) for number, usage in enumerate(known)]
    monkeypatch.setattr(
        sys.modules["enrichkit.gemini.simulator"],
        "reply_to",
        lambda _, body, seed: copy.deepcopy(
            bodies[int(re.search(r"⟦N(\d+)⟧", json.dumps(body, ensure_ascii=False))[1])]
        ),
    )
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", simulator.url)
    frame = pd.DataFrame({"name": [f"N{number}" for number in range(len(known))]})
    stage = Stage("company", prompt="Research {name}.", answer=Company)
    settings = {"out": tmp_path / "out", "stages": [stage], "key": "name", "workers": 4, "progress": False}
    enrichkit.run(frame, client=name, model=model, **settings)
    stored = enrichkit.read(tmp_path / "out").set_index("name").loc[frame["name"], "company._cost_usd"]
    owed = [by_hand(usage, 1 + number % 3, model) for number, usage in enumerate(known)]
    assert [Decimal(str(one)) for one in stored] == owed
    assert sum(Decimal(str(one)) for one in stored) == sum(owed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    "candidates content parts text finishReason groundingMetadata webSearchQueries groundingChunks web uri "
    "usageMetadata promptTokenCount totalTokenCount promptFeedback blockReason modelVersion error details violations "
    "retryDelay message"
)
BODIES = st.recursive(
    JSON,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES.split()), inner, min_size=1, max_size=4)
    ),
    max_leaves=12,
)


@given(BODIES)
def test_no_body_is_too_odd(body):
    """Whatever comes, there is a reply or a failure, never an exception: it may have been paid for."""
    raw = json.dumps(body)
    assert isinstance(parse(raw), Reply)
    assert classify(429, raw).cause in ("rate", "daily_quota", "spend_limit")


def test_no_thread_is_left_behind(name, simulator):
    """A closed client leaves nothing running."""
    before = threading.active_count()
    client = connect(name, key=KEY, base_url=simulator.url)
    client(question())
    client.close()
    wait_for(lambda: threading.active_count() <= before + 1)
