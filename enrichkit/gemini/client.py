"""Gemini: the only room that knows an SDK. Two clients behind one callable.

Either SDK only writes a request, and the reply's body comes back untouched. SDK retries are off, every request has a
timeout, and a key never leaves its client: not in a message, not in a pickle. It refuses to decide about trying again,
waiting or money.

Facts about the SDKs: google-genai 2.30.1 to 3.6.1 and google-generativeai 0.8.6, as of November 2026.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ..errors import MissingKeyError, SetupError, StoreError
from ..messages import CLIENTS, KEY_NAMES, SIMULATOR, Cause, Client, Failure, Reply, Request
from .wire import LONGEST_MESSAGE, classify, parse

ENDPOINT_NAME = "GOOGLE_GEMINI_BASE_URL"
SHORTEST_KEY = 8
"""Anything shorter is a stand-in for a simulator, and may be a word of an innocent message."""
NEVER_SENT = frozenset("ConnectError ConnectTimeout InvalidURL LocalProtocolError UnsupportedProtocol".split())
"""Errors of the HTTP library before anything has left."""
OF_THE_TRANSPORT = frozenset({"host", "content-length", "accept-encoding", "connection"})
"""Headers that are the HTTP library's own business."""
REFUSES_BOTH = re.compile(r"tool use with a response mime type", re.IGNORECASE)
"""What models before Gemini 3 say to search and a JSON schema in one request."""


@contextlib.contextmanager
def client_of(client: str | Client, *, model: str, needed: bool) -> Iterator[Client]:
    """Yield what answers requests; with the simulator, a server on loopback for as long as the run lasts."""
    with contextlib.ExitStack() as opened:
        if callable(client):
            yield client
        elif model != SIMULATOR:
            yield opened.enter_context(contextlib.closing(connect(client, **access())))
        elif needed:
            from .simulator import Simulator

            url = opened.enter_context(Simulator()).url
            yield opened.enter_context(contextlib.closing(connect(client, key=SIMULATOR, base_url=url)))
        else:
            yield _unplanned


def _unplanned(_: Request) -> Reply:
    raise StoreError("A request was sent although none was planned. This is a bug; please report it.")


def connect(name: str, *, key: str, base_url: str | None = None) -> Gemini:
    """Return a client that is safe to call from many threads.

    Raises
    ------
    SetupError
        If there is no client of that name, or its package is not installed.
    """
    if name not in CLIENTS:
        raise SetupError("There is no client {name!r}; choose one of {names}.", name=name, names=", ".join(CLIENTS))
    sdk = _Genai(key, base_url) if name == "google-genai" else _Generativeai(key, base_url)
    return Gemini(name, sdk, key=key)


def access() -> dict[str, Any]:
    """Return the key, and the address that the clients are moved to, as the environment says."""
    address = os.environ.get(ENDPOINT_NAME, "").strip()
    key_name = next((name for name in KEY_NAMES if os.environ.get(name, "").strip()), None)
    if key_name is None:
        raise MissingKeyError(
            "No API key is set. Set {names} in the environment, or use {model}={simulator!r}, which needs none.",
            names=" or ".join(KEY_NAMES),
            simulator=SIMULATOR,
        )
    key = os.environ[key_name].strip()
    if not (key.isascii() and key.isprintable()):
        raise SetupError("{key_name} holds a letter that no key has. Copy the key again.", key_name=key_name)
    with contextlib.suppress(ValueError):
        parts = urlsplit(address)
        if not address or (parts.scheme in ("http", "https") and parts.hostname and parts.port != 0):
            return {"key": key, "base_url": address or None}
    raise SetupError(
        "{endpoint_name} is not an address such as https://host/path. Fix it, or unset it.", endpoint_name=ENDPOINT_NAME
    )


def is_simulated(model: str, client: str | Client) -> bool | None:
    """Whether the simulator answers; unknown where another address or a user's client may lead anywhere."""
    if model == SIMULATOR:
        return True
    return None if callable(client) or os.environ.get(ENDPOINT_NAME) else False


def check_capabilities(name: str, *, thinking: str | int | None) -> None:
    """Raise `SetupError` if a client cannot send what is asked for."""
    if name == "google-generativeai" and thinking is not None:
        raise SetupError(
            "{client}='google-generativeai' cannot set 'thinking'. Use {client}='google-genai', or leave it out.",
        )


class Gemini:
    """A client, safe to call from many threads: `Request` to `Reply`, failures as values.

    Its ``sdk`` sends a request and returns the HTTP status and the body as they came; a broken connection raises.
    """

    def __init__(self, name: str, sdk: _Genai | _Generativeai, *, key: str) -> None:
        self._name = name
        self._sdk = sdk
        self._key = key
        self._refusing: set[str] = set()

    def __call__(self, request: Request) -> Reply:
        """Send one request; a model that refuses search and schema together is asked once more, for JSON in words."""
        reply = self._send(request)
        if reply.failure is not None and request.search and REFUSES_BOTH.search(reply.failure.message):
            self._refusing.add(request.model)
            reply = self._send(request)
        return reply

    def close(self) -> None:
        """Close the connections."""
        self._sdk.close()

    def __repr__(self) -> str:
        return f"<client {self._name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"The client {self._name} holds a key and open connections; make a new one where it is needed.")

    def _send(self, request: Request) -> Reply:
        if request.search and request.model in self._refusing:
            schema = json.dumps(dict(request.schema), ensure_ascii=False, separators=(",", ":"))
            system = f"{request.system}\nThe JSON Schema of the object: {schema}"
            request = dataclasses.replace(request, system=system, schema={})
        try:
            status, body = self._sdk.send(request)
        except Exception as error:  # noqa: BLE001 - either transport's own errors; named by their class, they travel on
            name = type(error).__name__
            message = " ".join(self._scrubbed(f"{name}: {error}").split())[:LONGEST_MESSAGE]
            # A connection that was never made carried nothing; any other may have brought the request to an answer.
            sent = name not in NEVER_SENT and "NewConnectionError" not in message
            cause: Cause = "timeout" if sent and "Timeout" in name else "network"
            return Reply(failure=Failure(cause=cause, message=message, may_be_charged=sent))
        return parse(body) if status == 200 else Reply(failure=classify(status, self._scrubbed(body)))

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._key, "(key)") if len(self._key) >= SHORTEST_KEY else text


class _Genai:
    """Sends requests with google-genai.

    Writing a request is most of what a call of that SDK costs, and requests of one kind differ in their text alone. So
    it writes one of each kind, and all go out over the HTTP library below it.
    """

    def __init__(self, key: str, base_url: str | None) -> None:
        try:
            from google import genai
        except ImportError:
            raise SetupError("google-genai is not installed: pip install google-genai") from None
        import httpx2 as httpx

        def back(request: Any) -> Any:
            """Send a request back as its own reply."""
            return httpx.Response(200, headers={**request.headers, "url": str(request.url)}, content=request.content)

        self._writer = genai.Client(
            api_key=key,
            http_options={
                "api_version": "v1beta",  # not every model takes search and schemas on v1
                "base_url": base_url,
                "httpx_client": httpx.Client(transport=httpx.MockTransport(back)),
            },
        )
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx.Client(follow_redirects=True, limits=limits)
        self._written = functools.lru_cache(maxsize=64)(self._write)

    def close(self) -> None:
        self._writer.close()
        self._http.close()

    def send(self, request: Request) -> tuple[int, str]:
        try:
            url, headers, body = self._written(dataclasses.replace(request, question="", text="?"))
        except Exception as error:  # noqa: BLE001 - what the SDK refuses to write is never sent
            return 400, json.dumps({"error": {"message": f"google-genai cannot write this request: {error}"}})
        contents = [{"role": "user", "parts": [{"text": request.text}]}]
        latest = time.monotonic() + request.timeout_seconds
        content = json.dumps(body | {"contents": contents}).encode()
        with self._http.stream("POST", url, headers=headers, content=content, timeout=request.timeout_seconds) as reply:
            came = b""
            for chunk in reply.iter_raw():  # before it is decoded: of a few bytes nothing may come out yet
                came += chunk
                if time.monotonic() > latest:  # the timeout by itself is for each read
                    raise TimeoutError("the reply came in drips, beyond its deadline")
            whole = type(reply)(reply.status_code, headers=reply.headers, content=came)
            return reply.status_code, whole.content.decode("utf-8", "replace")

    def _write(self, request: Request) -> tuple[str, dict[str, str], dict[str, Any]]:
        """Return a request's address, headers and body as the SDK writes them."""
        level = request.thinking
        thinking = {"thinking_budget": level} if isinstance(level, int) else {"thinking_level": str(level).upper()}
        config: dict[str, Any] = {
            "system_instruction": request.system,
            "tools": [{"google_search": {}}] if request.search else None,
            "response_mime_type": "application/json" if request.schema else None,
            "response_json_schema": dict(request.schema) or None,
            "max_output_tokens": request.max_output_tokens,
            "thinking_config": None if level is None else thinking,
            "should_return_http_response": True,
            "automatic_continuation": False,  # one call, one request, one bill
            "http_options": {"timeout": max(1, int(request.timeout_seconds * 1000))},
        }
        written = self._writer.models.generate_content(model=request.model, contents=request.text, config=config)
        headers = dict(written.sdk_http_response.headers)
        kept = {name: value for name, value in headers.items() if name not in OF_THE_TRANSPORT | {"url"}}
        return headers["url"], kept, json.loads(written.sdk_http_response.body)


class _Generativeai:
    """Sends requests with google-generativeai, by its low-level REST client.

    The package's own interface drops the search tool, and its classes know neither thinking nor tool-use tokens; so
    the body is taken from the HTTP session below it, as it came.
    """

    def __init__(self, key: str, base_url: str | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two warnings that support has ended, in red, in every notebook
            try:
                from google.ai import generativelanguage_v1beta as glm
                from google.auth.credentials import AnonymousCredentials
            except ImportError:
                needed = "pip install 'enrichkit[google-generativeai]'"
                raise SetupError("google-generativeai is not installed: {needed}", needed=needed) from None
        self._glm = glm
        self._key = key
        self._client = glm.GenerativeServiceClient(
            credentials=AnonymousCredentials(),
            transport="rest",
            client_options={"api_endpoint": base_url} if base_url else None,
        )
        self._seen = threading.local()
        self._client.transport._session.hooks["response"].append(self._see)

    def close(self) -> None:
        self._client.transport.close()

    def send(self, request: Request) -> tuple[int, str]:
        self._seen.reply = None
        try:
            self._client.generate_content(
                self._message(request),
                retry=None,  # its own retry would hold a thread for ten minutes
                timeout=request.timeout_seconds,
                metadata=[("x-goog-api-key", self._key)],
            )
        except Exception:
            if self._seen.reply is None:
                raise
        return self._seen.reply  # type: ignore[no-any-return]

    def _see(self, response: Any, *_: Any, **__: Any) -> None:
        self._seen.reply = response.status_code, response.content.decode("utf-8", "replace")

    def _message(self, request: Request) -> Any:
        config: dict[str, Any] = {"max_output_tokens": request.max_output_tokens}
        if request.schema:
            config |= {"response_mime_type": "application/json", "response_schema": _proto_schema(request.schema)}
        return self._glm.GenerateContentRequest(
            model=f"models/{request.model}",
            system_instruction={"parts": [{"text": request.system}]},
            contents=[{"role": "user", "parts": [{"text": request.text}]}],
            tools=[{"google_search": {}}] if request.search else [],
            generation_config=config,
        )


def _proto_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: value for key, value in schema.items() if key in ("enum", "required", "nullable", "description")}
    result["type_"] = schema["type"].upper()
    if "items" in schema:
        result["items"] = _proto_schema(schema["items"])
    if "properties" in schema:
        result["properties"] = {name: _proto_schema(part) for name, part in schema["properties"].items()}
    return result
