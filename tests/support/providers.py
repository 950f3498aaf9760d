"""Stand-ins of other services: one server on loopback that answers as two of them do, and their SDKs in small.

The SDKs are as their users meet them: the same calls, the same fields, errors of the same names with the same facts.
"""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
import types
import urllib.error
import urllib.request

CREW = json.dumps({"crew": 14, "town": "Marl"})


class Provider(http.server.ThreadingHTTPServer):
    """Answers everything, but for what its script says first: a status with headers, or seconds of silence."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked, self.lock = [], [], threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True, kwargs={"poll_interval": 0.01}).start()

    def handle_error(self, request, client_address):
        """A client that no longer listens is what a timeout looks like from here."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((time.monotonic(), body))
            fault = self.server.script.pop(0) if self.server.script else (200, {})
        if isinstance(fault, float):
            time.sleep(fault)
            fault = (200, {})
        status, headers = fault
        said = {"error": {"message": f"said {status}", "type": "x", "code": None}}
        answer = messages if self.path.endswith("/messages") else completions
        data = json.dumps(answer(body) if status == 200 else said).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Say nothing."""


def completions(body):
    assert body["response_format"]["json_schema"]["schema"]["properties"].keys() >= {"crew", "town"}
    message = {"role": "assistant", "content": CREW}
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": choices,
        "usage": usage,
    }


def messages(body):
    assert '"crew"' in body["system"]
    usage = {"input_tokens": 900, "cache_read_input_tokens": 100, "output_tokens": 100}
    content = [{"type": "text", "text": CREW}]
    more = {"stop_reason": "end_turn", "stop_sequence": None, "model": body["model"], "usage": usage}
    return {"id": "m", "type": "message", "role": "assistant", "content": content, **more}


class APIStatusError(Exception):
    """A status of 400 or more."""

    def __init__(self, response, body):
        super().__init__(f"Error code: {response.status_code} - {body}")
        self.response, self.status_code, self.body = response, response.status_code, body


class APIConnectionError(Exception):
    """No answer."""


class APITimeoutError(APIConnectionError):
    """None in time."""


def _as_object(value):
    if isinstance(value, dict):
        return types.SimpleNamespace(**{name: _as_object(part) for name, part in value.items()})
    return [_as_object(part) for part in value] if isinstance(value, list) else value


def _posting(path, base):
    def create(*, timeout, **body):
        address = os.environ[base] + path
        sent = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(sent, timeout=timeout) as reply:
                return _as_object(json.load(reply))
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            response = types.SimpleNamespace(status_code=error.code, headers=error.headers, text=text)
            raise APIStatusError(response, json.loads(text)) from None
        except TimeoutError as error:
            raise APITimeoutError("Request timed out.") from error
        except OSError as error:
            raise APIConnectionError("Connection error.") from error

    return types.SimpleNamespace(create=create)


def openai():
    """The SDK, in small."""
    chat = types.SimpleNamespace(completions=_posting("/chat/completions", "OPENAI_BASE_URL"))
    return types.SimpleNamespace(OpenAI=lambda max_retries: types.SimpleNamespace(chat=chat))


def anthropic():
    """The SDK, in small."""
    made = types.SimpleNamespace(messages=_posting("/v1/messages", "ANTHROPIC_BASE_URL"))
    return types.SimpleNamespace(Anthropic=lambda max_retries: made)
