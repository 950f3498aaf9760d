"""The SDKs: the only room that knows one. Each sends a request and returns the HTTP status and the body as they came.

Their retries are off, every request has a timeout, no redirect is followed, and a broken connection raises. What a
reply means is read elsewhere.

Facts about the SDKs: google-genai 2.30.1 to 3.6.1 and google-generativeai 0.8.6, as of November 2026.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import ssl
import threading
import time
import warnings
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..errors import SetupError
from ..messages import Request

ENDPOINT_NAME = "GOOGLE_GEMINI_BASE_URL"
OF_THE_TRANSPORT = frozenset({"host", "content-length", "accept-encoding", "connection"})
"""Headers that are the HTTP library's own business."""


def _http_client(base_url: str | None) -> Any:
    """Return an HTTP client that goes the way the environment says, but on loopback the direct one."""
    import httpx2 as httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.Client(follow_redirects=False, limits=limits, trust_env=not is_loopback(base_url))


def redirection(status: int, location: str) -> tuple[int, str]:
    """Return a redirect as an error that names its target; it is never followed, since the key would go along."""
    message = f"the address redirects to {location}; set {ENDPOINT_NAME} to that if it is meant"
    return status, json.dumps({"error": {"message": message}})


def added(request: Request) -> dict[str, Any]:
    """Return what no SDK writes: a tier, and the flag that recorded successes of both a search and a schema carry."""
    tier = {"serviceTier": request.tier} if request.tier != "standard" else {}
    both = bool(request.search and request.schema)
    return tier | ({"toolConfig": {"includeServerSideToolInvocations": True}} if both else {})


def is_loopback(url: str | None) -> bool:
    """Whether an address is on this machine: no proxy and no certificate is between."""
    host = urlsplit(url or "").hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


class Genai:
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

        unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it sends nothing, and reads no certificates for that
        self._writer = genai.Client(
            api_key=key,
            vertexai=False,  # whatever GOOGLE_GENAI_USE_VERTEXAI says: the key and the prices are Gemini's
            http_options={
                "api_version": "v1beta",  # not every model takes search and schemas on v1
                "base_url": base_url,
                "httpx_client": httpx.Client(transport=httpx.MockTransport(back), trust_env=False),
                "httpx_async_client": httpx.AsyncClient(transport=httpx.MockTransport(back), trust_env=False),
                "client_args": {"verify": unused},
                "async_client_args": {"verify": unused, "ssl": unused},
            },
        )
        self._http = _http_client(base_url)
        self._written = functools.lru_cache(maxsize=64)(self._write)

    def close(self) -> None:
        self._writer.close()
        self._http.close()

    def send(self, request: Request) -> tuple[int, str]:
        try:
            url, headers, body = self._written(dataclasses.replace(request, question="", text="?"))
        except Exception as error:
            raise SetupError("google-genai cannot write this request: {error}", error=error) from error
        contents = [{"role": "user", "parts": [{"text": request.text}]}]
        latest = time.monotonic() + request.timeout_seconds
        content = json.dumps(body | {"contents": contents} | added(request)).encode()
        with self._http.stream("POST", url, headers=headers, content=content, timeout=request.timeout_seconds) as reply:
            came = b""
            for chunk in reply.iter_raw():  # before it is decoded: of a few bytes nothing may come out yet
                came += chunk
                if time.monotonic() > latest:  # the timeout by itself is for each read
                    raise TimeoutError("the reply came in drips, beyond its deadline")
            if reply.is_redirect:
                return redirection(reply.status_code, reply.headers.get("location", "nowhere"))
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


class Generativeai:
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
        _http_client(base_url).close()  # the session itself would say only at the first request what is wrong
        session = self._client.transport._session
        session.hooks["response"].append(self._see)
        session.max_redirects = 0
        session.auth = self._complete
        session.trust_env = not is_loopback(base_url)

    def close(self) -> None:
        self._client.transport.close()

    def send(self, request: Request) -> tuple[int, str]:
        self._seen.reply = None
        self._seen.more = added(request)
        self._seen.schema = _old_schema(request.schema) if request.schema else {}
        try:
            message = self._message(request)
        except Exception as error:
            raise SetupError("google-generativeai cannot write this request: {error}", error=error) from error
        try:
            self._client.generate_content(
                message,
                retry=None,  # its own retry would hold a thread for ten minutes
                timeout=request.timeout_seconds,
                metadata=[("x-goog-api-key", self._key)],
            )
        except Exception:
            if self._seen.reply is None:
                raise
        return self._seen.reply  # type: ignore[no-any-return]

    def _complete(self, http: Any) -> Any:
        """Add to a request's body what this package's classes have no field for."""
        body = json.loads(http.body) | self._seen.more
        if self._seen.schema:
            config = {"responseMimeType": "application/json", "responseSchema": self._seen.schema}
            body["generationConfig"] = body.get("generationConfig", {}) | config
        http.body = json.dumps(body).encode()
        http.url = http.url.partition("?")[0]  # where it asks for numbers: as words, enums are the same for all
        return http

    def _see(self, response: Any, *_: Any, **__: Any) -> None:
        self._seen.reply = (
            redirection(response.status_code, response.headers.get("location", "nowhere"))
            if response.is_redirect
            else (response.status_code, response.content.decode("utf-8", "replace"))
        )

    def _message(self, request: Request) -> Any:
        return self._glm.GenerateContentRequest(
            model=f"models/{request.model}",
            system_instruction={"parts": [{"text": request.system}]},
            contents=[{"role": "user", "parts": [{"text": request.text}]}],
            tools=[{"google_search": {}}] if request.search else [],
            generation_config={"max_output_tokens": request.max_output_tokens},
        )


def _old_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON Schema in the dialect of ``responseSchema``: types in capitals, ``nullable``, fields in order."""
    kinds = schema.get("anyOf") or [schema]
    kind = next(kind for kind in kinds if kind["type"] != "null")
    result = {name: kind[name] for name in ("enum", "required") if name in kind} | {"type": kind["type"].upper()}
    if about := schema.get("description"):
        result["description"] = about
    if len(kinds) > 1:
        result["nullable"] = True
    if "items" in kind:
        result["items"] = _old_schema(kind["items"])
    if "properties" in kind:
        result["properties"] = {name: _old_schema(part) for name, part in kind["properties"].items()}
        result["propertyOrdering"] = list(kind["properties"])
    return result
