"""Gemini: the only room that knows an SDK. Two clients behind one callable, one parser over the raw JSON.

Either SDK only writes a request, and its body comes back untouched; what the body means is read here, the same for
both. SDK retries are off, every request has a timeout, and a key never leaves its client: not in a message, not in a
pickle. It decides nothing about trying again, waiting or money.

Facts about the wire and the SDKs: Google's API reference, recorded replies, google-genai 3.4.0, google-generativeai
0.8.6, as of November 2026.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from ._exchange import Cause, Failure, Reply, Request, Source, Support, Usage
from .errors import SetupError

CLIENTS = ("google-genai", "google-generativeai")
BLOCKED = frozenset(
    "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY MODEL_ARMOR ESCALATION".split()
)
FINISH: tuple[str | None, ...] = (
    None,
    *("STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
    *("MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY"),
)
BLOCK: tuple[str | None, ...] = (None, "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY")
"""Enums by number: google-generativeai asks for numbers, so the service answers it with numbers."""
_GROUNDED = frozenset({"groundingChunks", "groundingSupports", "searchEntryPoint"})
LONGEST_MESSAGE = 300
SHORTEST_KEY = 8
"""Anything shorter is a stand-in for a simulator, and may be a word of an innocent message."""
REFUSES_BOTH = re.compile(r"tool use with a response mime type", re.IGNORECASE)
"""What models before Gemini 3 say to search and a JSON schema in one request."""


def parse(raw: str) -> Reply:
    """Return the reply in a raw JSON body; what cannot be read becomes a named failure.

    >>> parse('{"candidates": [{"content": {"parts": [{"text": "{}"}]}}]}').text
    '{}'
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return Reply(raw=raw, failure=Failure(cause="unreadable", message="the body is no JSON object"))
    candidate = _first(body.get("candidates"))
    texts = {
        place: part["text"]
        for place, part in enumerate(map(_dict, _list(_dict(candidate.get("content")).get("parts"))))
        if isinstance(part.get("text"), str) and not part.get("thought")
    }
    text = "".join(texts.values())
    finish = _enum(FINISH, candidate.get("finishReason"))
    block = _enum(BLOCK, _dict(body.get("promptFeedback")).get("blockReason"))
    grounding = _dict(candidate.get("groundingMetadata"))
    queries = [query for query in map(_str, _list(grounding.get("webSearchQueries"))) if query and query.strip()]
    chunks = [_dict(_dict(chunk).get("web")) for chunk in _list(grounding.get("groundingChunks"))]
    pages = {uri: Source(uri, _str(chunk.get("title")) or "") for chunk in chunks if (uri := _str(chunk.get("uri")))}
    return Reply(
        text=text or None,
        # What a search brought may be there without its queries: it was one at least, and is charged for.
        usage=_usage(_dict(body.get("usageMetadata")), len(queries) or int(bool(_GROUNDED & grounding.keys()))),
        model_version=_str(body.get("modelVersion")),
        finish_reason=finish,
        block_reason=block,
        sources=tuple(pages.values()),
        supports=tuple(_supports(_list(grounding.get("groundingSupports")), chunks, list(pages), texts)),
        queries=tuple(dict.fromkeys(queries)),
        suggestions_html=_str(_dict(grounding.get("searchEntryPoint")).get("renderedContent")),
        response_id=_str(body.get("responseId")),
        raw=raw,
        failure=_failure(text, finish, block),
    )


def _supports(
    found: Sequence[Any], chunks: Sequence[Mapping[str, Any]], pages: Sequence[str], texts: Mapping[int, str]
) -> Iterator[Support]:
    """Yield which stretches of the text are backed by which pages.

    Offsets are in bytes, within a part where there are several; one that does not lead to the very words that the
    support repeats is left out.
    """
    whole = "".join(texts.values()).encode("utf-8", "surrogatepass") if found else b""
    places_of = {uri: place for place, uri in enumerate(pages)}
    for one in map(_dict, found):
        segment = _dict(one.get("segment"))
        part, start, end = (segment.get(name, 0) for name in ("partIndex", "startIndex", "endIndex"))
        places = {place for place in _list(one.get("groundingChunkIndices")) if type(place) is int}
        named = [chunks[place].get("uri") for place in sorted(places) if 0 <= place < len(chunks)]
        sources = tuple(dict.fromkeys(places_of[uri] for uri in named if uri in places_of))
        if not sources or any(type(number) is not int for number in (part, start, end)):
            continue
        before = "".join(text for place, text in texts.items() if place < part).encode("utf-8", "surrogatepass")
        start, end = start + len(before), end + len(before)
        words = segment.get("text")
        same = words is None or whole[start:end] == str(words).encode("utf-8", "surrogatepass")
        if same and 0 <= start < end <= len(whole):
            yield Support(start, end, sources)


def _failure(text: str, finish: str | None, block: str | None) -> Failure | None:
    if block or (not text and finish in BLOCKED):
        return Failure(cause="blocked", message=block or finish or "")
    if finish in ("MAX_TOKENS", "CONTINUATION"):
        return Failure(cause="truncated", message=f"the answer ended unfinished ({finish}); raise max_output_tokens")
    return None if text else Failure(cause="empty", message=f"no text, finish reason {finish}")


def _usage(found: Mapping[str, Any], searches: int) -> Usage:
    def count(name: str) -> int | None:
        value = found.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None

    prompt, output, total = count("promptTokenCount"), count("candidatesTokenCount"), count("totalTokenCount")
    thinking, tool = count("thoughtsTokenCount"), count("toolUsePromptTokenCount")
    combined = False
    # Some replies leave parts out, but total = prompt + output + thinking + tool use held in all 542 recorded bodies.
    rest = (total or 0) - sum(part or 0 for part in (prompt, output, thinking, tool))
    if prompt is not None and output is None and total is not None:
        output = max(0, rest)
    elif prompt is None and output is not None and rest > 0:
        prompt = rest
    elif None not in (prompt, output) and thinking is None and rest > 0:
        thinking, combined = rest, tool is None
    elif None not in (prompt, output) and tool is None and rest > 0:
        tool = rest
    return Usage(
        prompt_tokens=prompt,
        cached_tokens=count("cachedContentTokenCount"),
        tool_tokens=tool,
        thinking_tokens=thinking,
        output_tokens=output,
        total_tokens=total,
        searches=searches,
        combined=combined,
    )


def _first(values: Any) -> dict[str, Any]:
    return _dict(values[0]) if isinstance(values, list) and values else {}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _enum(names: tuple[str | None, ...], value: Any) -> str | None:
    """Return an enum's name; the set is open, so an unknown name or number stands for itself."""
    if isinstance(value, int) and not isinstance(value, bool):
        return names[value] if 0 <= value < len(names) else str(value)
    return _str(value)


def classify(status: int, raw: str) -> Failure:
    """Return the cause of an HTTP error from its status and body.

    >>> classify(503, '[{"error": {"message": "The model is overloaded."}}]').cause
    'overloaded'
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    error = _dict((_first(body) if isinstance(body, list) else _dict(body)).get("error"))
    message = re.sub(r"<[^>]*>", " ", _str(error.get("message")) or raw)  # proxies answer with a page of HTML
    details = [_dict(one) for one in _list(error.get("details"))]
    violations = [_dict(one) for detail in details for one in _list(detail.get("violations"))]
    quotas = [quota for one in violations if (quota := _str(one.get("quotaId")))]
    # A daily quota among others is the one that counts: no delay helps against it.
    quota = next((quota for quota in quotas if "PerDay" in quota), quotas[0] if quotas else None)
    delay = next((text for detail in details if (text := _str(detail.get("retryDelay")))), "")
    seconds = re.fullmatch(r"(\d+(?:\.\d+)?)s", delay) or re.search(r"retry in (\d+(?:\.\d+)?)s", message)
    reasons = {detail.get("reason") for detail in details}
    return Failure(
        cause=_cause(status, message, quota, bad_key="API_KEY_INVALID" in reasons),
        message=" ".join(message.split())[:LONGEST_MESSAGE],
        status=status,
        retry_after_seconds=float(seconds.group(1)) if seconds else None,
        quota=quota,
    )


def _cause(status: int, message: str, quota: str | None, *, bad_key: bool) -> Cause:
    if status == 429:
        if "PerDay" in (quota or ""):
            return "daily_quota"
        return "spend_limit" if re.search(r"spend(ing)?[ -](limit|cap)", message, re.IGNORECASE) else "rate"
    if bad_key or "API key not valid" in message or status in (401, 403):
        return "auth"
    named: dict[int, Cause] = {404: "model_not_found", 408: "timeout", 503: "overloaded"}
    return named.get(status, "server" if status >= 499 else "bad_request")


def check_capabilities(name: str, *, thinking: str | int | None) -> None:
    """Raise `SetupError` if a client cannot send what is asked for."""
    if name == "google-generativeai" and thinking is not None:
        raise SetupError(
            "client='google-generativeai' cannot set 'thinking'. Use client='google-genai', or leave it out."
        )


class _Carrier(Protocol):
    """What an SDK is to us: it sends a request, and brings status and body back as they came."""

    def send(self, request: Request) -> tuple[int, str]:
        """Return HTTP status and body; a broken connection raises."""

    def close(self) -> None:
        """Close the connections."""


class Gemini:
    """A client, safe to call from many threads: `Request` to `Reply`, failures as values."""

    def __init__(self, name: str, carrier: _Carrier, *, key: str) -> None:
        self._name = name
        self._carrier = carrier
        self._key = key
        self._refusing: set[str] = set()

    def __call__(self, request: Request) -> Reply:
        """Send one request; a model that refuses search and schema together is asked once more, for JSON in words."""
        reply = self._once(request)
        if reply.failure is not None and request.search and REFUSES_BOTH.search(reply.failure.message):
            self._refusing.add(request.model)
            reply = self._once(request)
        return reply

    def close(self) -> None:
        """Close the connections."""
        self._carrier.close()

    def __repr__(self) -> str:
        return f"<client {self._name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"The client {self._name} holds a key and open connections; make a new one where it is needed.")

    def _once(self, request: Request) -> Reply:
        if request.search and request.model in self._refusing:
            told = json.dumps(dict(request.schema), ensure_ascii=False, separators=(",", ":"))
            system = f"{request.system}\nThe JSON Schema of the object: {told}"
            request = dataclasses.replace(request, system=system, schema={})
        try:
            status, body = self._carrier.send(request)
        except Exception as error:  # noqa: BLE001 - either transport's own errors; named by their class, they travel on
            name = type(error).__name__
            told = " ".join(self._scrubbed(f"{name}: {error}").split())[:LONGEST_MESSAGE]
            # A connection that was never made carried nothing; any other may have brought the request to an answer.
            sent = name not in ("ConnectError", "ConnectTimeout") and "NewConnectionError" not in told
            cause: Cause = "timeout" if sent and "Timeout" in name else "network"
            return Reply(failure=Failure(cause=cause, message=told, may_be_charged=sent))
        if status == 200:
            return parse(body)
        return Reply(failure=classify(status, self._scrubbed(body)))

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._key, "(key)") if len(self._key) >= SHORTEST_KEY else text


def connect(name: str, *, key: str, base_url: str | None = None) -> Gemini:
    """Return a client that is safe to call from many threads.

    Raises
    ------
    SetupError
        If there is no client of that name, or its package is not installed.
    """
    if name not in CLIENTS:
        raise SetupError(f"There is no client {name!r}; choose one of {', '.join(CLIENTS)}.")
    carrier = _Genai(key, base_url) if name == "google-genai" else _Generativeai(key, base_url)
    return Gemini(name, carrier, key=key)


class _Genai:
    """Carries requests with google-genai.

    Writing a request is most of what a call of that SDK costs, and requests of one kind differ in their text alone. So
    it writes one of each kind, and all go out over the HTTP library below it.
    """

    def __init__(self, key: str, base_url: str | None) -> None:
        try:
            from google import genai
        except ImportError:
            raise SetupError("google-genai is not installed: pip install google-genai") from None
        import httpx2 as httpx

        self._types = genai.types

        def back(request: Any) -> Any:
            """Send a request back as its own reply."""
            return httpx.Response(200, headers={**request.headers, "url": str(request.url)}, content=request.content)

        self._writer = genai.Client(
            api_key=key,
            http_options=genai.types.HttpOptions(
                api_version="v1beta",  # not every model takes search and schemas on v1
                base_url=base_url,
                retry_options=None,
                httpx_client=httpx.Client(transport=httpx.MockTransport(back)),
            ),
        )
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx.Client(follow_redirects=True, limits=limits)
        self._written = functools.lru_cache(maxsize=64)(self._write)

    def close(self) -> None:
        self._writer.close()
        self._http.close()

    def send(self, request: Request) -> tuple[int, str]:
        url, headers, body = self._written(dataclasses.replace(request, question="", text="?"))
        contents = [{"role": "user", "parts": [{"text": request.text}]}]
        latest = time.monotonic() + request.timeout_seconds
        content = json.dumps(body | {"contents": contents}).encode()
        with self._http.stream("POST", url, headers=headers, content=content, timeout=request.timeout_seconds) as reply:
            came = b""
            for chunk in reply.iter_bytes():
                came += chunk
                if time.monotonic() > latest:  # the timeout by itself is for each read
                    raise TimeoutError("the reply came in drips, beyond its deadline")
            return reply.status_code, came.decode("utf-8", "replace")

    def _write(self, request: Request) -> tuple[str, dict[str, str], dict[str, Any]]:
        """Return a request's address, headers and body as the SDK writes them."""
        types = self._types
        level = request.thinking
        thinking = None
        if isinstance(level, int):
            thinking = types.ThinkingConfig(thinking_budget=level)
        elif level is not None:
            thinking = types.ThinkingConfig(thinking_level=level.upper())
        config = types.GenerateContentConfig(
            system_instruction=request.system,
            tools=[types.Tool(google_search=types.GoogleSearch())] if request.search else None,
            response_mime_type="application/json" if request.schema else None,
            response_json_schema=dict(request.schema) or None,
            max_output_tokens=request.max_output_tokens,
            thinking_config=thinking,
            should_return_http_response=True,
            automatic_continuation=False,  # one call, one request, one bill
            http_options=types.HttpOptions(timeout=max(1, int(request.timeout_seconds * 1000))),
        )
        written = self._writer.models.generate_content(model=request.model, contents=request.text, config=config)
        headers = dict(written.sdk_http_response.headers)
        url = headers.pop("url")
        for name in ("host", "content-length", "accept-encoding", "connection"):
            headers.pop(name, None)  # the HTTP library's own business
        return url, headers, json.loads(written.sdk_http_response.body)


class _Generativeai:
    """Carries requests with google-generativeai, by its low-level REST client.

    The package's own interface drops the search tool, and its classes know neither thinking nor tool-use tokens; so
    the body is taken from the HTTP session below it, as it came.
    """

    def __init__(self, key: str, base_url: str | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two notices that support has ended, in red, in every notebook
            try:
                from google.ai import generativelanguage_v1beta as glm
                from google.api_core import client_options
                from google.auth.credentials import AnonymousCredentials
            except ImportError:
                raise SetupError(
                    "google-generativeai is not installed: pip install 'enrichkit[google-generativeai]'"
                ) from None
        self._glm = glm
        self._key = key
        self._client = glm.GenerativeServiceClient(
            credentials=AnonymousCredentials(),
            transport="rest",
            client_options=client_options.ClientOptions(api_endpoint=base_url) if base_url else None,
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
        glm = self._glm
        config: dict[str, Any] = {"max_output_tokens": request.max_output_tokens}
        if request.schema:
            config |= {"response_mime_type": "application/json", "response_schema": _proto_schema(request.schema)}
        return glm.GenerateContentRequest(
            model=f"models/{request.model}",
            system_instruction=glm.Content(parts=[glm.Part(text=request.system)]),
            contents=[glm.Content(role="user", parts=[glm.Part(text=request.text)])],
            tools=[glm.Tool(google_search=glm.Tool.GoogleSearch())] if request.search else [],
            generation_config=glm.GenerationConfig(**config),
        )


def _proto_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: value for key, value in schema.items() if key in ("enum", "required", "nullable", "description")}
    result["type_"] = schema["type"].upper()
    if "items" in schema:
        result["items"] = _proto_schema(schema["items"])
    if "properties" in schema:
        result["properties"] = {name: _proto_schema(part) for name, part in schema["properties"].items()}
    return result
