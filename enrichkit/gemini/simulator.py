"""The simulator: a server on loopback that speaks Gemini's wire format, for trying everything without key or cost.

It answers ``generateContent``, ``countTokens`` and model look-up on ``/v1`` and ``/v1beta``, for either SDK, from the
schema and the record in each request. It can be slow, keep quotas and fail as the service does. It refuses to import
anything else of this package, and what it answers says so: ``modelVersion`` begins with ``simulator``.

Run ``python -m enrichkit simulate --port 8899`` to have one beside other programs.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .faults import (
    FAULTS,
    NO_FAULT,
    TOO_MANY,
    Body,
    Quota,
    Taken,
    bill_of,
    chance,
    failed,
    get,
    no_model,
    number_enums,
    refused_request,
    schema_of,
    text_of,
    too_many,
)
from .fiction import ABOUT_ITSELF, grounding, invent, written

__all__ = ["FAULTS", "Quota", "Simulator"]


class Simulator:
    """A threaded HTTP server on 127.0.0.1 that answers like Gemini.

    Parameters
    ----------
    port : int
        0 takes a free one; see ``url``.
    seed : int
        The same seed gives the same answers and the same faults to the same prompts.
    latency_seconds : float or pair of float
        How long a reply takes, in seconds: always the same, or evenly spread between the two.
    quota : Quota, optional
        Requests over it get 429.
    requests_per_day : int, optional
        Requests over it get 429 with a ``PerDay`` quota and a short delay that does not help.
    most_at_once : int, optional
        A request that comes while this many are being answered gets 429 without any detail.
    faults : mapping of str to float
        How often each fault of `FAULTS` happens, as a probability.
    script : iterable of (str or None)
        Faults for the first requests, in order of arrival; None is a good reply.

    Raises
    ------
    ValueError
        If a fault has an unknown name.

    Attributes
    ----------
    url : str
        Where it answers.
    planted : dict of str to dict
        The truth about each answer, by ``responseId``: what is wrong on purpose, as each such field with the fault's
        name (``unsupported``, ``differs`` from the record, ``city_elsewhere``, …).
    ledger : list of dict
        What the service would charge for: of each answer ``model``, ``tier``, ``searches``, and tokens: ``prompt``
        (with those that were ``cached``), ``thinking`` and ``output``.

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
        self.ledger: list[Body] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._count: Counter[str] = Counter()
        self._prompts: dict[str, dict[str, int]] = {}
        self._taken = Taken(time.monotonic())
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.simulator = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="simulator", daemon=True).start()

    def counts(self) -> dict[str, Any]:
        """Return how many requests and answers there were, in all and per different prompt.

        An answer is what the service would charge for; ``GET /counts`` serves the same.

        Returns
        -------
        dict of str to object
            ``requests``, ``answers``, ``refused``, ``at_once``, ``most_at_once``, ``different_prompts``, ``faults`` by
            name, and ``prompts``: requests and answers of each.

        Examples
        --------
        >>> with Simulator() as simulator:
        ...     simulator.counts()["requests"]
        0
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
        """Stop serving; replies under way are dropped.

        Examples
        --------
        >>> Simulator().close()
        """
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, text: str) -> tuple[str, int, str | None]:
        """Count a request; return its prompt's id, how often that was asked before, and the fault it gets."""
        prompt = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        with self._lock:
            count = self._prompts.setdefault(prompt, {"requests": 0, "answers": 0})
            earlier = count["requests"]
            count["requests"] += 1
            self._count["requests"] += 1
            fault = self.script.pop(0) if self.script else chance(self.faults, f"{self.seed} fault {prompt} {earlier}")
            if fault:
                self._count[f"fault {fault}"] += 1
        return prompt, earlier, fault

    def _end(self) -> None:
        """Give the place back."""
        with self._lock:
            self._count["at_once"] -= 1

    def _answered(self, prompt: str, reply: Body) -> None:
        """Count an answer that the service would charge for."""
        with self._lock:
            self.ledger.append(bill_of(reply))
            self._count["answers"] += 1
            self._prompts[prompt]["answers"] += 1

    def _refusal(self) -> Body | None:
        """Take a place under the quotas; return the refusal's body if there is none."""
        with self._lock:
            if self.requests_per_day is not None and self._taken.total >= self.requests_per_day:
                self._count["refused"] += 1
                return too_many("GenerateRequestsPerDayPerProjectPerModel-FreeTier", 38.0)
            if self.most_at_once is not None and self._count["at_once"] >= self.most_at_once:
                self._count["refused"] += 1
                return TOO_MANY
            wait = self._taken.take(self.quota, time.monotonic())
            if wait is None or self.quota is None:
                self._count["at_once"] += 1
                self._count["most_at_once"] = max(self._count["most_at_once"], self._count["at_once"])
                return None
            self._count["refused"] += 1
            if self.quota.bare:
                return TOO_MANY
            said = wait if self.quota.says_seconds == "exact" else self.quota.says_seconds
            return too_many("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", said)

    def _latency(self, prompt: str, earlier: int) -> float:
        """Return how long this reply takes, in seconds."""
        if isinstance(self.latency_seconds, tuple):
            return random.Random(f"{self.seed} latency {prompt} {earlier}").uniform(*self.latency_seconds)
        return self.latency_seconds


def reply_to(model: str, body: Body, seed: int) -> Body:
    """Return a good reply: an invented answer, with usage and grounding.

    ``planted`` names the faults that are in it, by field; it is not part of what is sent.
    """
    text = "".join(map(text_of, get(body, "contents") or []))
    dice = random.Random(f"{seed} answer {text}")
    values, planted = invent(schema_of(body), text, seed)
    answer, spans = written(values, dice)
    candidate: Body = {"content": {"parts": [{"text": answer}], "role": "model"}, "finishReason": "STOP", "index": 0}
    prompt = (len(text) + len(text_of(get(body, "systemInstruction") or {}))) // 4
    filled = [name for name, value in values.items() if value is not None and name not in ABOUT_ITSELF]
    backed: set[str] = set()
    if get(body, "tools"):
        candidate["groundingMetadata"], backed = grounding(text, answer, {name: spans[name] for name in filled}, dice)
        prompt += dice.randint(1200, 2600)
    thinking = dice.randint(80, 900) if dice.random() < 0.8 else 0
    output = max(1, len(answer.encode()) // 4)
    usage: Body = {"promptTokenCount": prompt, "candidatesTokenCount": output}
    if thinking:
        usage["thoughtsTokenCount"] = thinking
    if dice.random() < 0.15:
        usage["cachedContentTokenCount"] = prompt // 3
    usage |= {"totalTokenCount": prompt + output + thinking, "serviceTier": get(body, "serviceTier") or "standard"}
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
        "planted": dict.fromkeys(set(filled) - backed, "unsupported") | planted,
    }


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
    tier = "standard"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        model = re.fullmatch(r"/v1(?:beta)?/models/([^/:]+)", path)
        if path == "/counts":
            self.send(200, self.server.simulator.counts())
        elif model and re.fullmatch(r"simulator|gemini-[\w.-]+", model[1]):
            methods = ["generateContent", "countTokens"]
            described = {"name": f"models/{model[1]}", "displayName": f"{model[1]} (simulated)", "version": "simulator"}
            self.send(200, described | {"supportedGenerationMethods": methods, "outputTokenLimit": 65536})
        else:
            self.send(404, no_model(model[1] if model else path))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        call = re.fullmatch(r"/v1(?:beta)?/models/([^/:]+):(generateContent|countTokens)", address.path)
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if call is None or not isinstance(body, dict):
            self.send(404 if call is None else 400, failed(400, "INVALID_ARGUMENT", "Invalid JSON payload received."))
        elif call[2] == "countTokens":
            inner = get(body, "generateContentRequest") or body
            tokens = sum(len(text_of(content)) for content in get(inner, "contents") or []) // 4
            self.send(200, {"totalTokens": max(1, tokens)})
        else:
            numbered = parse_qs(address.query).get("enum-encoding") == ["int"]
            self._generate(call[1], body, numbered=numbered)

    def _generate(self, model: str, body: Body, *, numbered: bool) -> None:
        simulator, self.tier = self.server.simulator, get(body, "serviceTier") or "standard"
        text = "".join(map(text_of, get(body, "contents") or []))
        prompt, earlier, name = simulator._begin(text)
        fault = FAULTS[name] if name and FAULTS[name].to(body) else NO_FAULT
        error = refused_request(model, body, self.headers.get("x-goog-api-key")) or simulator._refusal()
        if error is None:
            simulator.closing.wait(simulator._latency(prompt, earlier))
            simulator._end()  # before the reply is out, so that counts read after the last reply are complete
        if error is not None:
            self.send(error["error"]["code"], error)
        elif fault.error:
            self.send(*fault.error)
        else:
            reply = reply_to(model, body, simulator.seed)
            simulator.planted[str(reply.get("responseId"))] = reply.pop("planted", {})
            fault.shape(reply)
            if fault.charged:
                simulator._answered(prompt, reply)
            if numbered:
                number_enums(reply)
            fault.delivery(self, json.dumps(reply).encode())

    def send(self, code: int, body: Any) -> None:
        """Send a body: bytes as they are, text as HTML, anything else as JSON."""
        if isinstance(body, str):
            data, kind = body.encode(), "text/html"
        else:
            data, kind = body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json"
        self.head(code, len(data), kind)
        self.wfile.write(data)

    def head(self, code: int, length: int, kind: str = "application/json") -> None:
        """Send status and headers of a body of this length."""
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=UTF-8")
        self.send_header("Content-Length", str(length))
        self.send_header("x-gemini-service-tier", self.tier)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
