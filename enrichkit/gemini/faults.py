"""What the simulator does instead of answering well: quotas that refuse, errors, awkward replies, broken connections.

It refuses to know the server: a fault is a value that says what becomes of a request. Facts about the wire: Google's
API reference and recorded replies, as of November 2026.
"""

from __future__ import annotations

import json
import random
import re
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Body = dict[str, Any]
FINISH = {"STOP": 1, "MAX_TOKENS": 2, "SAFETY": 3, "RECITATION": 4, "OTHER": 5}
BLOCK = {"SAFETY": 1, "OTHER": 2}
"""Enums by their number, for ``enum-encoding=int``; a name that is not here has a number no SDK knows."""
UNKNOWN_ENUM = 97


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on the requests that a `Simulator` answers.

    Attributes
    ----------
    requests : int
        How many in each window; for a bucket, how many are refilled in that time.
    seconds : float
        Length of the window, in seconds.
    kind : {"window", "bucket"}
        A window opens at once when its time has come; a bucket refills all the time.
    burst : int
        What a bucket holds.
    says_seconds : float or "exact" or None
        The delay that refusals carry, in seconds: when the window opens, a fixed (perhaps false) number, or none.
    bare : bool
        Refusals carry no detail at all, not even which quota it is.

    Examples
    --------
    >>> Quota(requests=15).seconds
    60.0
    """

    requests: int
    seconds: float = 60.0
    kind: Literal["window", "bucket"] = "window"
    burst: int = 5
    says_seconds: float | Literal["exact"] | None = "exact"
    bare: bool = False


class Taken:
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


def get(values: Mapping[str, Any], name: str) -> Any:
    """Return a field in camelCase or snake_case: the SDKs send both."""
    return values.get(name, values.get(re.sub(r"([A-Z])", lambda letter: "_" + letter[1].lower(), name)))


def schema_of(body: Body) -> Body:
    """Return the answer's schema: as configured, else as written in the system instruction."""
    config = get(body, "generationConfig") or {}
    schema = get(config, "responseJsonSchema") or get(config, "responseSchema")
    if schema:
        return dict(present(schema))
    for match in re.finditer(r'\{"type"', text_of(get(body, "systemInstruction") or {})):
        try:
            return dict(present(json.JSONDecoder().raw_decode(match.string, match.start())[0]))
        except ValueError:
            continue
    return {}


KINDS: dict[Any, str] = {1: "string", 2: "number", 3: "integer", 4: "boolean", 5: "array", 6: "object"}
"""Schema types as the older SDK numbers them."""


def present(schema: Any) -> Any:
    """Return a schema in which what may also be null is what it is otherwise, and types are words."""
    if isinstance(schema, list):
        return [present(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kinds = [kind for kind in get(schema, "anyOf") or () if kind.get("type") != "null"]
    rest = {name: part for name, part in schema.items() if name not in ("anyOf", "any_of")}
    whole = {name: present(part) for name, part in ((kinds[0] | rest) if kinds else rest).items()}
    if isinstance(kind := whole.get("type"), str | int):  # else there is none, or it is a field of that name
        whole["type"] = KINDS.get(kind) or str(kind).lower()
    return whole


def text_of(content: Body) -> str:
    """Return the text of a content's parts."""
    return "".join(part.get("text", "") for part in content.get("parts") or [])


def number_enums(reply: Body) -> None:
    """Replace enums by their numbers, as the service does where a client asks for it."""
    for candidate in reply.get("candidates") or []:
        candidate["finishReason"] = FINISH.get(candidate["finishReason"], UNKNOWN_ENUM)
    if feedback := reply.get("promptFeedback"):
        feedback["blockReason"] = BLOCK.get(feedback["blockReason"], UNKNOWN_ENUM)


def failed(code: int, status: str, message: str, *details: Body) -> Body:
    """Return an error's body."""
    return {"error": {"code": code, "message": message, "status": status} | ({"details": details} if details else {})}


ADVICE = "You exceeded your current quota, please check your plan and billing details."
HELP = {"@type": "type.googleapis.com/google.rpc.Help", "links": [{"description": "Learn more about quotas"}]}


def too_many(quota: str, wait_seconds: float | None, *, value: str = "20") -> Body:
    """Return the body of a 429 that names its quota."""
    violation = {"quotaMetric": "generativelanguage.googleapis.com/generate_requests", "quotaId": quota}
    details: list[Body] = [
        HELP,
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation | {"quotaValue": value}]},
    ]
    message = ADVICE
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
    message = f"models/{model} is not found for API version v1beta, or is not supported for generateContent."
    return failed(404, "NOT_FOUND", message)


def refused_request(model: str, body: Body, key: str | None) -> Body | None:
    """Return the error that this request gets from the service for any prompt, or None."""
    if not key:
        return failed(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers.")
    if key == "bad-key":
        return bad_key()
    if not re.fullmatch(r"simulator|gemini-[\w.-]+", model):
        return no_model(model)
    for number, tool in enumerate(get(body, "tools") or []):
        if not tool:
            message = f"* GenerateContentRequest.tools[{number}].tool_type: required one_of 'tool_type' must have one "
            return failed(400, "INVALID_ARGUMENT", message + "initialized field")
        if get(tool, "googleSearchRetrieval") is not None:
            message = "google_search_retrieval is not supported. Please use google_search tool instead."
            return failed(400, "INVALID_ARGUMENT", message)
    config = get(body, "generationConfig") or {}
    if model.startswith("gemini-2") and get(body, "tools") and get(config, "responseMimeType"):
        message = "Tool use with a response mime type: 'application/json' is unsupported"
        return failed(400, "INVALID_ARGUMENT", message)
    return None


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of a request: an error, a reply of another shape, or another way to send its bytes."""

    error: tuple[int, Any] | None = None
    """Status and body instead of a reply."""
    shape: Callable[[Body], object] = lambda body: None
    """Changes a good reply's body, which is charged for."""
    delivery: Callable[[Any, bytes], object] = lambda handler, data: handler.send(200, data)
    """Sends a reply's bytes by the handler of the request."""
    charged: bool = True
    """Whether a reply counts as an answer."""
    to: Callable[[Body], bool] = lambda request: True
    """The requests that it happens to; any other one is answered well."""


def with_text(change: Callable[[str], str], finish: str = "STOP") -> Fault:
    """Return the fault that changes an answer's text."""

    def apply(body: Body) -> None:
        candidate = body["candidates"][0]
        candidate["content"]["parts"][0]["text"] = change(candidate["content"]["parts"][0]["text"])
        candidate["finishReason"] = finish

    return Fault(shape=apply)


def without_text(finish: str) -> Fault:
    """Return the fault that leaves an answer without text."""

    def apply(body: Body) -> None:
        body["candidates"][0].update({"content": {"role": "model"}, "finishReason": finish})
        usage = body["usageMetadata"]
        usage["totalTokenCount"] -= usage.pop("candidatesTokenCount")

    return Fault(shape=apply)


def _searches(request: Body) -> bool:
    return bool(get(request, "tools"))


def _both(request: Body) -> bool:
    config = get(request, "generationConfig") or {}
    return _searches(request) and bool(get(config, "responseJsonSchema") or get(config, "responseSchema"))


def _ungrounded(body: Body) -> None:
    body["candidates"][0].pop("groundingMetadata", None)


def _billed_tools(body: Body) -> None:
    _ungrounded(body)
    billed = {"GOOGLE_SEARCH_RETRIEVAL": 3, "URL_CONTEXT": 1}
    body["usageMetadata"]["billedToolCalls"] = [
        {"tool": tool, "successfulToolCallCount": count} for tool, count in billed.items()
    ]


def bill_of(body: Body) -> Body:
    """Return what the service charges for a reply: tokens by kind, and searches, at which tier."""
    usage, candidate = body.get("usageMetadata") or {}, (body.get("candidates") or [{}])[0]
    grounding = candidate.get("groundingMetadata") or {}
    queries = {query for query in grounding.get("webSearchQueries") or [] if query.strip()}
    searches = len(queries) or int(any("web" in chunk for chunk in grounding.get("groundingChunks") or []))
    for call in usage.get("billedToolCalls") or []:
        if call["tool"] == "GOOGLE_SEARCH_RETRIEVAL":
            searches = call["successfulToolCallCount"]
    kinds = {"prompt": "prompt", "cached": "cachedContent", "thinking": "thoughts", "output": "candidates"}
    return {"model": body.get("modelVersion"), "tier": usage.get("serviceTier"), "searches": searches} | {
        kind: usage.get(f"{name}TokenCount", 0) for kind, name in kinds.items()
    }


def _reset(handler: Any, data: bytes) -> None:
    # Lingering for zero seconds makes the close a reset.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for end in (handler.rfile, handler.wfile, handler.connection):
        end.close()
    handler.close_connection = True


def _slow_head(handler: Any, data: bytes) -> None:
    for letter in f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n":
        handler.wfile.write(letter.encode())
        if handler.server.simulator.closing.wait(0.5):
            break
    handler.wfile.write(data)


def _redirect(handler: Any, data: bytes) -> None:
    handler.send_response(308)
    handler.send_header("Location", f"http://localhost:{handler.server.server_address[1]}/elsewhere")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _hang(handler: Any, data: bytes) -> None:
    handler.server.simulator.closing.wait(3600)
    handler.close_connection = True


def chance(faults: Mapping[str, float], seed: str) -> str | None:
    """Return the fault that a request gets, by their probabilities; the same for the same seed."""
    at = random.Random(seed).random() if faults else 1.0
    for name, probability in faults.items():
        at -= probability
        if at < 0:
            return name
    return None


NO_FAULT = Fault()
FAULTS = {
    "rate": Fault((429, too_many("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", 0.05))),
    "daily_quota": Fault((429, too_many("GenerateRequestsPerDayPerProjectPerModel-FreeTier", 19.0))),
    "spend_limit": Fault((429, failed(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its spend limit."))),
    "server": Fault((500, failed(500, "INTERNAL", "An internal error has occurred. Please retry."))),
    "overloaded": Fault((503, failed(503, "UNAVAILABLE", "This model is currently experiencing high demand."))),
    "bad_key": Fault((400, bad_key())),
    "truncated": with_text(lambda text: text[: len(text) // 2], "MAX_TOKENS"),
    "prose": with_text(lambda text: "I could not find reliable information about this record."),
    "empty": without_text("STOP"),
    "safety": without_text("SAFETY"),
    "ungrounded": Fault(shape=_ungrounded),
    "billed_tools": Fault(shape=_billed_tools),
    "location": Fault((400, failed(400, "FAILED_PRECONDITION", "User location is not supported for the API use."))),
    "credits": Fault((429, failed(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."))),
    "quota_zero": Fault((429, too_many("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", 36.0, value="0"))),
    "search_quota": Fault((429, failed(429, "RESOURCE_EXHAUSTED", ADVICE, HELP)), to=_searches),
    "refuses_both": Fault(
        (400, failed(400, "INVALID_ARGUMENT", "Grounding and structured output exclude each other.")), to=_both
    ),
    "both_empty": Fault(shape=lambda body: body.pop("candidates"), to=_both),
    "html_200": Fault((200, "<html><head><title>Guest network</title></head><body>Log in</body></html>")),
    "error_200": Fault((200, failed(500, "INTERNAL", "The backend is away."))),
    "slow_head": Fault(delivery=_slow_head),
    "redirect": Fault(delivery=_redirect, charged=False),
    "reset": Fault(delivery=_reset, charged=False),
    "hang": Fault(delivery=_hang, charged=False),
}
"""The faults by name. More may be added: `Simulator` takes every name that stands here."""
