"""The simulator: a server on loopback that speaks Gemini's wire format."""

from __future__ import annotations

import hashlib
import json
import random
import re
import socketserver
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any


class Simulator:
    """A threaded HTTP server on 127.0.0.1 that answers like Gemini."""

    def __init__(self, *, port: int = 0, seed: int = 0, latency_seconds: float = 0.0) -> None:
        self.seed = seed
        self.latency_seconds = latency_seconds
        self._lock = threading.Lock()
        self._count: Counter[str] = Counter()
        self._prompts: dict[str, dict[str, int]] = {}
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.simulator = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def counts(self) -> dict[str, Any]:
        """Return how many requests and answers there were."""
        with self._lock:
            return {**self._count, "different_prompts": len(self._prompts), "prompts": dict(self._prompts)}

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, model: str, body: dict[str, Any]) -> bytes:
        text = body["contents"][0]["parts"][0]["text"]
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        with self._lock:
            self._count["requests"] += 1
            self._prompts.setdefault(key, {"requests": 0, "answers": 0})["requests"] += 1
        time.sleep(self.latency_seconds)
        config = body.get("generationConfig", {})
        schema = config.get("responseJsonSchema") or config.get("responseSchema") or {}
        dice = random.Random(f"{self.seed}{text}")
        words = re.findall("⟦([^⟧]*)⟧", text)
        answer = {name: _invent(name, part, words, dice) for name, part in schema.get("properties", {}).items()}
        written = json.dumps(answer, ensure_ascii=False)
        prompt, output, thoughts = len(text) // 4 + dice.randint(2000, 3500), len(written) // 4, dice.randint(0, 600)
        with self._lock:
            self._count["answers"] += 1
            self._prompts[key]["answers"] += 1
        return json.dumps(
            {
                "candidates": [
                    {
                        "content": {"parts": [{"text": written}], "role": "model"},
                        "finishReason": "STOP",
                        "groundingMetadata": {"webSearchQueries": words[: dice.randint(1, 3)]},
                    }
                ],
                "usageMetadata": {
                    "promptTokenCount": prompt,
                    "candidatesTokenCount": output,
                    "thoughtsTokenCount": thoughts,
                    "totalTokenCount": prompt + output + thoughts,
                },
                "modelVersion": "simulator" if model == "simulator" else f"simulator-{model}",
                "responseId": key,
            }
        ).encode()


def _invent(name: str, schema: dict[str, Any], words: list[str], dice: random.Random) -> Any:
    kind = str(schema.get("type", "string")).lower()
    if name == "notes":
        return "Simulated answer."
    if schema.get("enum"):
        return dice.choice(schema["enum"])
    if kind == "array":
        return [_invent(name, schema.get("items", {}), words, dice)]
    if kind == "object":
        return {key: _invent(key, part, words, dice) for key, part in schema.get("properties", {}).items()}
    if kind in ("integer", "number"):
        return dice.randint(1, 100)
    if kind == "boolean":
        return dice.random() < 0.5
    return f"{name} of {words[0] if words else 'nobody'}"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    simulator: Simulator


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = self.path.split("/models/")[1].split(":")[0]
        assert isinstance(self.server, _Server)
        data = self.server.simulator.answer(model, body)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
