"""The SDKs: the only room that knows one. Each writes requests, which go out by the transport, and nothing else.

Writing a request is most of what a call of an SDK costs, and requests of one kind differ in their text alone: so an SDK
writes one of each kind. What a reply means is read elsewhere.

Facts about the SDKs: google-genai 2.30.1 to 3.6.1 and google-generativeai 0.8.6, as of November 2026.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import ssl
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import SetupError
from ..messages import Request
from .transport import Transport

ENDPOINT_NAME = "GOOGLE_GEMINI_BASE_URL"
ADDRESS = "https://generativelanguage.googleapis.com"
OLD_WORDS = ("enum", "required", "minimum", "maximum", "minItems", "maxItems")
"""What the dialect of ``responseSchema`` has in common with JSON Schema."""
OF_THE_TRANSPORT = frozenset({"host", "content-length", "accept-encoding", "connection"})
"""Headers that are the HTTP library's own business."""

Written = tuple[str, Mapping[str, str], dict[str, Any]]
"""A request's address, headers and body."""


class Sdk:
    """Sends requests as an SDK writes them: returns the HTTP status, headers and body as they came, or raises."""

    def __init__(self, name: str, key: str, base_url: str | None) -> None:
        self._name = name
        address = base_url or ADDRESS
        self._write = _genai(key, address) if name == "google-genai" else _generativeai(key, address)
        self._kind = functools.lru_cache(maxsize=64)(self._kind_of)
        self._transport = Transport(address)
        self.close = self._transport.close

    def send(self, request: Request) -> tuple[int, dict[str, str], str]:
        try:
            url, headers, rest = self._kind(dataclasses.replace(request, question="", text="?"))
        except Exception as error:
            raise SetupError("{name} cannot write this request: {error}", name=self._name, error=error) from error
        contents = json.dumps([{"parts": [{"text": request.text}], "role": "user"}])
        content = f'{{"contents": {contents}, {rest}'.encode()
        status, said, came = self._transport.post(url, headers, content, seconds=request.timeout_seconds)
        if 300 <= status < 400:  # never followed: the key would go along
            target = said.get("location", "nowhere")
            message = f"the address redirects to {target}; set {ENDPOINT_NAME} to that if it is meant"
            return status, said, json.dumps({"error": {"message": message}})
        return status, said, came.decode("utf-8", "surrogateescape")

    def _kind_of(self, request: Request) -> tuple[str, dict[str, str], str]:
        """Return the address and headers of a kind of request, and what follows the text in its body."""
        url, headers, body = self._write(request)
        rest = json.dumps({name: part for name, part in body.items() if name != "contents"} | added(request))
        return url, {name: headers[name] for name in headers if name.lower() not in OF_THE_TRANSPORT}, rest[1:]


def added(request: Request) -> dict[str, Any]:
    """Return what no SDK writes: a tier, and the flag that recorded successes of both a search and a schema carry."""
    tier = {"serviceTier": request.tier} if request.tier != "standard" else {}
    both = bool(request.search and request.schema)
    return tier | ({"toolConfig": {"includeServerSideToolInvocations": True}} if both else {})


def _genai(key: str, address: str) -> Callable[[Request], Written]:
    """Return what writes requests with google-genai."""
    try:
        from google import genai
    except ImportError:
        raise SetupError("google-genai is not installed: pip install google-genai") from None
    import httpx2 as httpx

    def back(request: Any) -> Any:
        raise _Back(request)

    unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it sends nothing, and reads no certificates for that
    client = genai.Client(
        api_key=key,
        vertexai=False,  # whatever GOOGLE_GENAI_USE_VERTEXAI says: the key and the prices are Gemini's
        http_options={
            "api_version": "v1beta",  # not every model takes search and schemas on v1
            "base_url": address,
            "httpx_client": httpx.Client(transport=httpx.MockTransport(back), trust_env=False),
            "httpx_async_client": httpx.AsyncClient(transport=httpx.MockTransport(back), trust_env=False),
            "client_args": {"verify": unused},
            "async_client_args": {"verify": unused, "ssl": unused},
        },
    )

    def write(request: Request) -> Written:
        level = request.thinking
        thinking = {"thinking_budget": level} if isinstance(level, int) else {"thinking_level": str(level).upper()}
        config: dict[str, Any] = {
            "system_instruction": request.system,
            "tools": [{"google_search": {}}] if request.search else None,
            "response_mime_type": "application/json" if request.schema else None,
            "response_json_schema": dict(request.schema) or None,
            "max_output_tokens": request.max_output_tokens,
            "thinking_config": None if level is None else thinking,
            "automatic_function_calling": {"disable": True},  # there is none, and a line in the log would say so
            "automatic_continuation": False,  # one call, one request, one bill
            "http_options": {"timeout": max(1, int(request.timeout_seconds * 1000))},
        }
        try:
            client.models.generate_content(model=request.model, contents=request.text, config=config)
        except _Back as back:
            http = back.args[0]
        return str(http.url), http.headers, json.loads(http.content)

    return write


def _generativeai(key: str, address: str) -> Callable[[Request], Written]:
    """Return what writes requests with google-generativeai, by its low-level REST client.

    The package's own interface drops the search tool, and its classes know neither thinking nor tool-use tokens.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two warnings that support has ended, in red, in every notebook
        try:
            from google.ai import generativelanguage_v1beta as glm
            from google.auth.credentials import AnonymousCredentials
        except ImportError:
            needed = "pip install 'enrichkit[google-generativeai]'"
            raise SetupError("google-generativeai is not installed: {needed}", needed=needed) from None
    client = glm.GenerativeServiceClient(
        credentials=AnonymousCredentials(), transport="rest", client_options={"api_endpoint": address}
    )

    def back(http: Any, **_: Any) -> None:
        raise _Back(http)

    client.transport._session.send = back
    client.transport._session.trust_env = False

    def write(request: Request) -> Written:
        message = glm.GenerateContentRequest(
            model=f"models/{request.model}",
            system_instruction={"parts": [{"text": request.system}]},
            contents=[{"role": "user", "parts": [{"text": request.text}]}],
            tools=[{"google_search": {}}] if request.search else [],
            generation_config={"max_output_tokens": request.max_output_tokens},
        )
        try:
            client.generate_content(message, retry=None, metadata=[("x-goog-api-key", key)])
        except _Back as back:
            http = back.args[0]
        body = json.loads(http.body)
        if request.schema:  # its classes have no field for all of it
            config = {"responseMimeType": "application/json", "responseSchema": _old_schema(request.schema)}
            body["generationConfig"] = body.get("generationConfig", {}) | config
        return http.url.partition("?")[0], http.headers, body  # what is left out asks for enums as numbers

    return write


class _Back(Exception):
    """Brings back a request that was to be sent."""


def _old_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON Schema in the dialect of ``responseSchema``: types in capitals, ``nullable``, fields in order.

    It has no maps, which are asked for as lists of pairs, and of formats only that of a time.
    """
    kinds = schema.get("anyOf") or [schema]
    kind = next(kind for kind in kinds if kind["type"] != "null")
    if "additionalProperties" in kind:
        pair = {"key": {"type": "string"}, "value": kind["additionalProperties"]}
        kind = {"type": "array", "items": {"type": "object", "properties": pair, "required": [*pair]}}
    result = {name: kind[name] for name in OLD_WORDS if name in kind} | {"type": kind["type"].upper()}
    if kind.get("format") == "date-time":
        result["format"] = "date-time"
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
