"""The simulator: a server on loopback that speaks Gemini's wire format, for trying everything without key or cost.

It answers ``generateContent``, ``countTokens`` and model look-up on ``/v1`` and ``/v1beta``, for either SDK, from the
schema and the record in each request. It can be slow, keep quotas and fail in every way the service is known to. It
imports no client and nothing else of this package, and what it answers says so: ``modelVersion`` begins with
``simulator``.

Run ``python -m enrichkit simulate --port 8899`` to have one beside other programs. Facts about the wire: Google's API
reference and recorded replies, as of November 2026.
"""

from __future__ import annotations

import hashlib
import html
import json
import random
import re
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode, urlsplit

from .fiction import ABOUT_ITSELF, invent, written

__all__ = ["FAULTS", "Quota", "Simulator"]

Body = dict[str, Any]

FINISH = ["FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER"]
BLOCK = ["BLOCK_REASON_UNSPECIFIED", "SAFETY", "OTHER"]
"""Enums by their number, for ``enum-encoding=int``; a name that is not here has a number no SDK knows."""
UNKNOWN_ENUM = 97
UNSUPPORTED = 0.08
"""How often no page backs a value."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on requests.

    Parameters
    ----------
    requests : int
        So many in each window; for a bucket, so many refilled in that time.
    seconds : float
        Length of the window.
    kind : {"window", "bucket"}
        A window opens at once when its time has come; a bucket refills all the time.
    burst : int
        What a bucket holds.
    says_seconds : float or "exact" or None
        The delay that refusals carry: when the window opens, a fixed (perhaps false) number, or none.
    bare : bool
        Refusals carry no detail at all, not even which quota it is.
    """

    requests: int
    seconds: float = 60.0
    kind: Literal["window", "bucket"] = "window"
    burst: int = 5
    says_seconds: float | Literal["exact"] | None = "exact"
    bare: bool = False


class Simulator:
    """A threaded HTTP server on 127.0.0.1 that answers like Gemini.

    Parameters
    ----------
    port : int
        0 takes a free one; see ``url``.
    seed : int
        The same seed gives the same answers and the same faults to the same prompts.
    latency_seconds : float or pair of float
        How long a reply takes: always so long, or evenly spread between the two.
    quota : Quota, optional
        Requests over it get 429.
    requests_per_day : int, optional
        Requests over it get 429 with a ``PerDay`` quota and a short delay that does not help.
    most_at_once : int, optional
        A request that comes while so many are being answered gets 429 without any detail.
    faults : mapping of str to float
        How often each fault of `FAULTS` happens, as a probability.
    script : iterable of (str or None)
        Faults for the first requests, in order of arrival; None is a good reply.

    Attributes
    ----------
    url : str
        Where it answers.
    planted : dict of str to dict
        The truth about each answer, by ``responseId``: what is wrong on purpose, as each such field with the fault's
        name (``unsupported``, ``differs`` from the record, ``city_elsewhere``, …).

    Examples
    --------
    >>> with Simulator() as simulator:
    ...     simulator.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        *,
        port: int = 0,
        seed: int = 0,
        latency_seconds: float | tuple[float, float] = 0.0,
        quota: Quota | None = None,
        requests_per_day: int | None = None,
        most_at_once: int | None = None,
        faults: Mapping[str, float] | None = None,
        script: Iterable[str | None] = (),
    ) -> None:
        self.seed = seed
        self.latency_seconds = latency_seconds
        self.quota = quota
        self.requests_per_day = requests_per_day
        self.most_at_once = most_at_once
        self.faults = dict(faults or {})
        self.script = list(script)
        if unknown := {*self.faults, *filter(None, self.script)} - FAULTS.keys():
            raise ValueError(f"There is no fault {sorted(unknown)[0]!r}; the simulator knows: {', '.join(FAULTS)}.")
        self.planted: dict[str, dict[str, str]] = {}
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._count: Counter[str] = Counter()
        self._prompts: dict[str, dict[str, int]] = {}
        self._taken = _Taken(time.monotonic())
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.simulator = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="simulator", daemon=True).start()

    def counts(self) -> dict[str, Any]:
        """Return how many requests and answers there were, in all and per different prompt.

        An answer is what the service would charge for; ``GET /counts`` serves the same.
        """
        with self._lock:
            prompts = {key: dict(count) for key, count in self._prompts.items()}
            names = ("requests", "answers", "refused", "at_once", "most_at_once")
            return {name: self._count[name] for name in names} | {
                "different_prompts": len(prompts),
                "faults": {name: self._count[f"fault {name}"] for name in FAULTS if self._count[f"fault {name}"]},
                "prompts": prompts,
            }

    def close(self) -> None:
        """Stop serving; replies under way are dropped."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the server asks for each request

    def begin(self, text: str) -> tuple[str, int, str | None]:
        """Count a request; return its prompt's id, how often that was asked before, and the fault it gets."""
        prompt = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        with self._lock:
            count = self._prompts.setdefault(prompt, {"requests": 0, "answers": 0})
            earlier = count["requests"]
            count["requests"] += 1
            self._count["requests"] += 1
            self._count["at_once"] += 1
            self._count["most_at_once"] = max(self._count["most_at_once"], self._count["at_once"])
            fault = self.script.pop(0) if self.script else self._chance(prompt, earlier)
            if fault:
                self._count[f"fault {fault}"] += 1
        return prompt, earlier, fault

    def end(self) -> None:
        """Count a request as over."""
        with self._lock:
            self._count["at_once"] -= 1

    def answered(self, prompt: str) -> None:
        """Count an answer that the service would charge for."""
        with self._lock:
            self._count["answers"] += 1
            self._prompts[prompt]["answers"] += 1

    def refusal(self) -> Body | None:
        """Take a place under the quotas; return the refusal's body if there is none."""
        with self._lock:
            if self.requests_per_day is not None and self._taken.total >= self.requests_per_day:
                self._count["refused"] += 1
                return too_many("GenerateRequestsPerDayPerProjectPerModel-FreeTier", 38.0)
            if self.most_at_once is not None and self._count["at_once"] > self.most_at_once:
                self._count["refused"] += 1
                return TOO_MANY
            wait = self._taken.take(self.quota, time.monotonic())
            if wait is None or self.quota is None:
                return None
            self._count["refused"] += 1
            if self.quota.bare:
                return TOO_MANY
            said = wait if self.quota.says_seconds == "exact" else self.quota.says_seconds
            return too_many("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", said)

    def latency(self, prompt: str, earlier: int) -> float:
        """Return how long this reply takes, in seconds."""
        if isinstance(self.latency_seconds, tuple):
            return random.Random(f"{self.seed} latency {prompt} {earlier}").uniform(*self.latency_seconds)
        return self.latency_seconds

    def _chance(self, prompt: str, earlier: int) -> str | None:
        at = random.Random(f"{self.seed} fault {prompt} {earlier}").random() if self.faults else 1.0
        for name, probability in self.faults.items():
            at -= probability
            if at < 0:
                return name
        return None


class _Taken:
    """How much of a quota is taken."""

    def __init__(self, now: float) -> None:
        self.total = 0
        self._start = now
        self._window = 0
        self._used = 0
        self._tokens: float | None = None
        self._at = now

    def take(self, quota: Quota | None, now: float) -> float | None:
        """Take one place; if there is none, return the seconds until there is."""
        wait = (
            None if quota is None else self._bucket(quota, now) if quota.kind == "bucket" else self._fixed(quota, now)
        )
        self.total += wait is None
        return wait

    def _bucket(self, quota: Quota, now: float) -> float | None:
        per_second = quota.requests / quota.seconds
        held = quota.burst if self._tokens is None else self._tokens + (now - self._at) * per_second
        self._tokens, self._at = min(float(quota.burst), held), now
        if self._tokens < 1:
            return (1 - self._tokens) / per_second
        self._tokens -= 1
        return None

    def _fixed(self, quota: Quota, now: float) -> float | None:
        window = int((now - self._start) / quota.seconds)
        if window != self._window:
            self._window, self._used = window, 0
        if self._used >= quota.requests:
            return self._start + (window + 1) * quota.seconds - now
        self._used += 1
        return None


# Bodies


def get(values: Mapping[str, Any], name: str) -> Any:
    """Return a field in camelCase or snake_case: the SDKs send both."""
    return values.get(name, values.get(re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)))


def failed(code: int, status: str, message: str, *details: Body) -> Body:
    """Return an error's body."""
    return {"error": {"code": code, "message": message, "status": status} | ({"details": details} if details else {})}


def too_many(quota: str, wait_seconds: float | None) -> Body:
    """Return the body of a 429 that names its quota."""
    violation = {"quotaMetric": "generativelanguage.googleapis.com/generate_requests", "quotaId": quota}
    details: list[Body] = [
        {"@type": "type.googleapis.com/google.rpc.Help", "links": [{"description": "Learn more about quotas"}]},
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation | {"quotaValue": "20"}]},
    ]
    message = "You exceeded your current quota, please check your plan and billing details."
    if wait_seconds is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait_seconds:.3f}s"})
        message += f" Please retry in {wait_seconds:.6f}s."
    return failed(429, "RESOURCE_EXHAUSTED", message, *details)


TOO_MANY = failed(429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later.")
"""The body of a 429 that says nothing."""


def bad_key() -> Body:
    """Return the body of the 400 that a wrong key gets."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    return failed(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", info)


def no_model(model: str) -> Body:
    """Return the body of the 404 that an unknown model gets."""
    told = f"models/{model} is not found for API version v1beta, or is not supported for generateContent."
    return failed(404, "NOT_FOUND", told)


def refused_request(model: str, body: Body, key: str | None) -> Body | None:
    """Return the error that this request gets from the service whatever its prompt, or None."""
    if not key:
        return failed(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers.")
    if key == "bad-key":
        return bad_key()
    if not re.fullmatch(r"simulator|gemini-[\w.-]+", model):
        return no_model(model)
    for number, tool in enumerate(get(body, "tools") or []):
        if not tool:
            told = f"* GenerateContentRequest.tools[{number}].tool_type: required one_of 'tool_type' must have one "
            return failed(400, "INVALID_ARGUMENT", told + "initialized field")
        if get(tool, "googleSearchRetrieval") is not None:
            told = "google_search_retrieval is not supported. Please use google_search tool instead."
            return failed(400, "INVALID_ARGUMENT", told)
    config = get(body, "generationConfig") or {}
    if model.startswith("gemini-2") and get(body, "tools") and get(config, "responseMimeType"):
        told = "Tool use with a response mime type: 'application/json' is unsupported"
        return failed(400, "INVALID_ARGUMENT", told)
    return None


def schema_of(body: Body) -> Body:
    """Return the answer's schema: as configured, else as written in the system instruction."""
    config = get(body, "generationConfig") or {}
    schema = get(config, "responseJsonSchema") or get(config, "responseSchema")
    if schema:
        return dict(schema)
    for found in re.finditer(r'\{"type"', text_of(get(body, "systemInstruction") or {})):
        try:
            return dict(json.JSONDecoder().raw_decode(found.string, found.start())[0])
        except ValueError:
            continue
    return {}


def text_of(content: Body) -> str:
    """Return the text of a content's parts."""
    return "".join(part.get("text", "") for part in content.get("parts") or [])


def reply_to(model: str, body: Body, seed: int) -> Body:
    """Return a good reply: an invented answer, with usage and grounding.

    ``planted`` names the faults that are in it, by field; it is not part of what is sent.
    """
    text = "".join(map(text_of, get(body, "contents") or []))
    dice = random.Random(f"{seed} answer {text}")
    invented = invent(schema_of(body), text, seed)
    answer, spans = written(invented.answer, dice)
    candidate: Body = {"content": {"parts": [{"text": answer}], "role": "model"}, "finishReason": "STOP", "index": 0}
    prompt = (len(text) + len(text_of(get(body, "systemInstruction") or {}))) // 4
    told = {name: spans[name] for name, value in invented.answer.items() if value is not None}
    told = {name: span for name, span in told.items() if name not in ABOUT_ITSELF}
    backed: set[str] = set()
    if get(body, "tools"):
        candidate["groundingMetadata"], backed = _grounding(text, answer, told, dice)
        prompt += dice.randint(1200, 2600)
    thinking = dice.randint(80, 900) if dice.random() < 0.8 else 0
    output = max(1, len(answer.encode()) // 4)
    usage: Body = {"promptTokenCount": prompt, "candidatesTokenCount": output}
    if thinking:
        usage["thoughtsTokenCount"] = thinking
    if dice.random() < 0.15:
        usage["cachedContentTokenCount"] = prompt // 3
    usage |= {"totalTokenCount": prompt + output + thinking, "serviceTier": "standard"}
    most = get(get(body, "generationConfig") or {}, "maxOutputTokens")
    if most and output + thinking > most:
        room = max(0, most - thinking)
        candidate["content"] = {"parts": [{"text": answer[: room * 4]}] if room else [], "role": "model"}
        candidate["finishReason"] = "MAX_TOKENS"
        usage |= {"candidatesTokenCount": room, "totalTokenCount": prompt + room + thinking}
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": "simulator" if model == "simulator" else f"simulator-{model}",
        "responseId": hashlib.sha256(f"{seed} {text}".encode("utf-8", "surrogatepass")).hexdigest()[:22],
        "planted": dict.fromkeys(told.keys() - backed, "unsupported") | invented.planted,
    }


def _grounding(
    text: str, answer: str, told: Mapping[str, tuple[int, int]], dice: random.Random
) -> tuple[Body, set[str]]:
    """Return what a search brought, and the fields that it backs."""
    words = [word for word in re.findall("⟦([^⟧]*)⟧", text) if word != "(unknown)"] or ["nothing"]
    queries = [" ".join(dice.sample(words, min(2, len(words))))[:80] for _ in range(dice.randint(1, 3))]
    if dice.random() < 0.1:
        queries += ["", queries[0]]  # the service gives empty and repeated ones too
    places = [f"source-{dice.randrange(1000)}.example" for _ in range(dice.randint(1, 4))]
    backed = {name for name in told if dice.random() > UNSUPPORTED}
    first = next(iter(told), None)
    # The service marks whole sentences: the first one begins where the text does.
    spans = {name: (0 if name == first else start, end) for name, (start, end) in told.items()}
    result: Body = {
        "webSearchQueries": queries,
        "groundingChunks": [
            {"web": {"uri": f"https://redirect.example/{dice.getrandbits(64):x}", "title": place}} for place in places
        ],
        "groundingSupports": [
            {
                "segment": _segment(answer, *spans[name]),
                "groundingChunkIndices": sorted(dice.sample(range(len(places)), dice.randint(1, len(places)))),
            }
            for name in told
            if name in backed
        ],
        "searchEntryPoint": {
            "renderedContent": f"<style>a {{ color: teal }}</style><div>{_suggestions(queries)}</div>"
        },
    }
    if dice.random() < 0.07:
        del result["groundingChunks"], result["groundingSupports"]
        backed = set()
    return result, backed


def _segment(answer: str, start: int, end: int) -> Body:
    """Return a stretch of the answer as the service marks it: in bytes, a start of 0 left out."""
    begin = {"startIndex": len(answer[:start].encode())} if start else {}
    return begin | {"endIndex": len(answer[:end].encode()), "text": answer[start:end]}


def _suggestions(queries: Sequence[str]) -> str:
    """Return links to further searches, as the service wants them shown beside its answer."""
    return " ".join(
        f'<a href="https://search.example/?{urlencode({"q": query})}">{html.escape(query)}</a>'
        for query in dict.fromkeys(queries)
        if query
    )


# Faults. Those of an answer change a good reply's body, which the service charges for; others come instead of one.


def _text(change: Callable[[str], str], finish: str = "STOP") -> Callable[[Body], None]:
    def apply(body: Body) -> None:
        candidate = body["candidates"][0]
        candidate["content"]["parts"][0]["text"] = change(candidate["content"]["parts"][0]["text"])
        candidate["finishReason"] = finish

    return apply


def _no_text(finish: str) -> Callable[[Body], None]:
    def apply(body: Body) -> None:
        body["candidates"][0].update({"content": {"role": "model"}, "finishReason": finish})
        usage = body["usageMetadata"]
        usage["totalTokenCount"] -= usage.pop("candidatesTokenCount")

    return apply


def _blocked(body: Body) -> None:
    body["promptFeedback"] = {"blockReason": "SAFETY"}
    usage = body["usageMetadata"]
    usage["totalTokenCount"] = usage["promptTokenCount"]
    del body["candidates"], usage["candidatesTokenCount"]
    usage.pop("thoughtsTokenCount", None)


def _wrong_types(text: str) -> str:
    answer = json.loads(re.sub(r"^```json\n|\n```$", "", text))
    odd = [{"unexpected": ["nest"]}, 2**70, True, ["a", {"b": None}]]
    return json.dumps({name: odd[at % 4] for at, name in enumerate(answer)})


def _thoughts(body: Body) -> None:
    body["candidates"][0]["content"]["parts"].insert(0, {"text": "Let me think. {", "thought": True})


def _no_usage(body: Body) -> None:
    body["usageMetadata"] = {"promptTokenCount": body["usageMetadata"]["promptTokenCount"]}


SHAPES: dict[str, Callable[[Body], None]] = {
    "truncated": _text(lambda text: text[: len(text) // 2], "MAX_TOKENS"),
    "cut_json": _text(lambda text: text[: len(text) // 2]),
    "prose": _text(lambda text: "I could not find reliable information about this record."),
    "fenced": _text(lambda text: text if text.startswith("```") else f"```json\n{text}\n```"),
    "around": _text(lambda text: f"Here is what I found:\n\n{text}\n\nLet me know if you need more {{details}}."),
    "wrong_types": _text(_wrong_types),
    "surrogates": _text(lambda text: re.sub(r"(Simulated answer)", "\ud83d \\1", text)),
    "empty": _no_text("STOP"),
    "max_tokens_empty": _no_text("MAX_TOKENS"),
    "safety": _no_text("SAFETY"),
    "recitation": _no_text("RECITATION"),
    "unknown_finish": _text(lambda text: text, "A_REASON_FROM_THE_FUTURE"),
    "unknown_finish_empty": _no_text("A_REASON_FROM_THE_FUTURE"),
    "blocked": _blocked,
    "no_candidates": lambda body: body.pop("candidates"),
    "thoughts": _thoughts,
    "no_usage": _no_usage,
}
ERRORS: dict[str, tuple[int, Any]] = {
    "rate": (429, too_many("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", 0.05)),
    "rate_bare": (429, TOO_MANY),
    "daily_quota": (429, too_many("GenerateRequestsPerDayPerProjectPerModel-FreeTier", 19.0)),
    "spend_limit": (429, failed(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its spend limit.")),
    "server": (500, failed(500, "INTERNAL", "An internal error has occurred. Please retry.")),
    "html": (502, "<html><title>502 Bad Gateway</title><body>Bad Gateway</body></html>"),
    "overloaded": (503, failed(503, "UNAVAILABLE", "This model is currently experiencing high demand.")),
    "overloaded_list": (503, [failed(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")]),
    "gateway_timeout": (504, failed(504, "DEADLINE_EXCEEDED", "The request timed out. Please try again.")),
    "bad_key": (400, bad_key()),
    "bad_request": (400, failed(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")),
    "unauthorized": (401, failed(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")),
    "forbidden": (403, failed(403, "PERMISSION_DENIED", "Your project has been denied access.")),
    "no_model": (404, no_model("gone")),
}
WIRE = ("reset", "hang", "drip", "cut_body", "no_json")
FAULTS: dict[str, str] = (
    dict.fromkeys(ERRORS, "an HTTP error instead of a reply")
    | dict.fromkeys(SHAPES, "a reply of an awkward shape, charged for")
    | dict.fromkeys(WIRE, "a broken connection or body")
)
"""The faults by name, and what kind each is."""


# The wire


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256
    simulator: Simulator

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every reply waits 40 ms for an acknowledgement
    server: _Server

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        model = re.fullmatch(r"/v1(?:beta)?/models/([^/:]+)", path)
        if path == "/counts":
            self._send(200, self.server.simulator.counts())
        elif model and re.fullmatch(r"simulator|gemini-[\w.-]+", model[1]):
            methods = ["generateContent", "countTokens"]
            described = {"name": f"models/{model[1]}", "displayName": f"{model[1]} (simulated)", "version": "simulator"}
            self._send(200, described | {"supportedGenerationMethods": methods, "outputTokenLimit": 65536})
        else:
            self._send(404, no_model(model[1] if model else path))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        call = re.fullmatch(r"/v1(?:beta)?/models/([^/:]+):(generateContent|countTokens)", address.path)
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if call is None or not isinstance(body, dict):
            self._send(404 if call is None else 400, failed(400, "INVALID_ARGUMENT", "Invalid JSON payload received."))
        elif call[2] == "countTokens":
            inner = get(body, "generateContentRequest") or body
            tokens = sum(len(text_of(content)) for content in get(inner, "contents") or []) // 4
            self._send(200, {"totalTokens": max(1, tokens)})
        else:
            numbered = parse_qs(address.query).get("enum-encoding") == ["int"]
            self._generate(call[1], body, numbered=numbered)

    def _generate(self, model: str, body: Body, *, numbered: bool) -> None:
        simulator = self.server.simulator
        text = "".join(map(text_of, get(body, "contents") or []))
        prompt, earlier, fault = simulator.begin(text)
        try:
            error = refused_request(model, body, self.headers.get("x-goog-api-key")) or simulator.refusal()
            if error is None:
                simulator.closing.wait(simulator.latency(prompt, earlier))
        finally:
            simulator.end()  # before the reply is out, so that counts read after the last reply are complete
        if error is not None:
            self._send(error["error"]["code"], error)
        elif fault in ERRORS:
            self._send(*ERRORS[fault])
        else:
            reply = reply_to(model, body, simulator.seed)
            simulator.planted[str(reply.get("responseId"))] = reply.pop("planted", {})
            if fault in SHAPES:
                SHAPES[fault](reply)
            if numbered:
                _number_enums(reply)
            if fault not in ("reset", "hang", "cut_body"):
                simulator.answered(prompt)
            self._deliver(json.dumps(reply).encode(), fault)

    def _deliver(self, data: bytes, fault: str | None) -> None:
        if fault == "reset":
            # Lingering for zero seconds makes the close a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for end in (self.rfile, self.wfile, self.connection):
                end.close()
            self.close_connection = True
        elif fault == "hang":
            self.server.simulator.closing.wait(3600)
            self.close_connection = True
        elif fault == "drip":
            self._head(200, len(data))
            for byte in data[:-1]:
                self.wfile.write(bytes([byte]))
                if self.server.simulator.closing.wait(0.01):
                    break
            self.wfile.write(data[-1:])
        elif fault == "cut_body":
            self._head(200, len(data))
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        else:
            self._send(200, data[: len(data) // 2] if fault == "no_json" else data)

    def _send(self, code: int, body: Any) -> None:
        if isinstance(body, str):
            data, kind = body.encode(), "text/html"
        else:
            data, kind = body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json"
        self._head(code, len(data), kind)
        self.wfile.write(data)

    def _head(self, code: int, length: int, kind: str = "application/json") -> None:
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=UTF-8")
        self.send_header("Content-Length", str(length))
        self.send_header("x-gemini-service-tier", "standard")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _number_enums(reply: Body) -> None:
    """Replace enums by their numbers, as the service does where a client asks for it."""
    for candidate in reply.get("candidates") or []:
        candidate["finishReason"] = _number(FINISH, candidate["finishReason"])
    if feedback := reply.get("promptFeedback"):
        feedback["blockReason"] = _number(BLOCK, feedback["blockReason"])


def _number(names: list[str], name: str) -> int:
    return names.index(name) if name in names else UNKNOWN_ENUM
