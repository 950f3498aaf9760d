"""Gemini: the only room that knows an SDK. Two clients behind one callable, one parser over the raw JSON."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from ._exchange import Failure, Reply, Request, Source, Usage
from .errors import SetupError

CLIENTS = ("google-genai", "google-generativeai")
BLOCKED = frozenset(
    [
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "MODEL_ARMOR",
        "ESCALATION",
    ]
)


def parse(raw: str) -> Reply:
    """Return the reply in a raw JSON body; what cannot be read becomes a named failure.

    >>> parse('{"candidates": [{"content": {"parts": [{"text": "{}"}]}}]}').text
    '{}'
    """
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return Reply(raw=raw, failure=Failure(cause="unreadable", message="the body is no JSON object"))
    candidate = _first(body.get("candidates"))
    parts = _dict(candidate.get("content")).get("parts") or []
    texts = [
        p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str) and not p.get("thought")
    ]
    text = "".join(texts) or None
    finish = candidate.get("finishReason")
    block = _dict(body.get("promptFeedback")).get("blockReason")
    grounding = _dict(candidate.get("groundingMetadata"))
    queries = [query for query in grounding.get("webSearchQueries") or [] if isinstance(query, str) and query.strip()]
    chunks = [_dict(_dict(chunk).get("web")) for chunk in grounding.get("groundingChunks") or []]
    sources = {
        chunk["uri"]: Source(chunk["uri"], str(chunk.get("title") or "")) for chunk in chunks if chunk.get("uri")
    }
    return Reply(
        text=text,
        usage=_usage(_dict(body.get("usageMetadata")), len(queries)),
        model_version=body.get("modelVersion"),
        finish_reason=finish,
        block_reason=block,
        sources=tuple(sources.values()),
        queries=tuple(dict.fromkeys(queries)),
        suggestions_html=_dict(grounding.get("searchEntryPoint")).get("renderedContent"),
        response_id=body.get("responseId"),
        raw=raw,
        failure=_failure(text, finish, block),
    )


def _failure(text: str | None, finish: Any, block: Any) -> Failure | None:
    if block or (not text and finish in BLOCKED):
        return Failure(cause="blocked", message=str(block or finish))
    if finish == "MAX_TOKENS":
        return Failure(cause="truncated", message="the answer reached max_output_tokens")
    return None if text else Failure(cause="empty", message=f"no text, finish reason {finish}")


def _usage(found: Mapping[str, Any], searches: int) -> Usage:
    def count(name: str) -> int | None:
        value = found.get(name)
        return value if isinstance(value, int) else None

    prompt, output, total = count("promptTokenCount"), count("candidatesTokenCount"), count("totalTokenCount")
    thinking, tool = count("thoughtsTokenCount"), count("toolUsePromptTokenCount")
    combined = False
    if thinking is None and tool is None and None not in (prompt, output, total):
        rest = (total or 0) - (prompt or 0) - (output or 0)
        if rest > 0:
            thinking, combined = rest, True
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


def check_capabilities(name: str, *, thinking: str | int | None) -> None:
    """Raise `SetupError` if a client cannot send what is asked for."""
    if name == "google-generativeai" and thinking is not None:
        raise SetupError(
            "client='google-generativeai' cannot set 'thinking'. Use client='google-genai', or leave it out."
        )


def connect(name: str, *, key: str, base_url: str | None = None) -> _Genai | _Generativeai:
    """Return a client that is safe to call from many threads."""
    if name == "google-genai":
        return _Genai(key, base_url)
    if name == "google-generativeai":
        return _Generativeai(key, base_url)
    raise SetupError(f"There is no client {name!r}; choose one of {', '.join(CLIENTS)}.")


class _Genai:
    def __init__(self, key: str, base_url: str | None) -> None:
        from google import genai

        self._types = genai.types
        options = genai.types.HttpOptions(api_version="v1beta", base_url=base_url)
        self._client = genai.Client(api_key=key, http_options=options)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __call__(self, request: Request) -> Reply:
        from google.genai import errors

        types = self._types
        level = request.thinking
        thinking = (
            None
            if level is None
            else types.ThinkingConfig(thinking_budget=level)
            if isinstance(level, int)
            else types.ThinkingConfig(thinking_level=level.upper())
        )
        config = types.GenerateContentConfig(
            system_instruction=request.system,
            tools=[types.Tool(google_search=types.GoogleSearch())] if request.search else None,
            response_mime_type="application/json",
            response_json_schema=dict(request.schema),
            max_output_tokens=request.max_output_tokens,
            thinking_config=thinking,
            should_return_http_response=True,
            http_options=types.HttpOptions(timeout=max(1, int(request.timeout_seconds * 1000))),
        )
        try:
            reply = self._client.models.generate_content(model=request.model, contents=request.text, config=config)
            return parse(reply.sdk_http_response.body)
        except errors.APIError as error:
            return Reply(failure=classify(error.code, error.details, error.message or ""))
        except Exception as error:  # noqa: BLE001 - the transport's own errors, named by their class
            return Reply(failure=_transport(error))


class _Generativeai:
    def __init__(self, key: str, base_url: str | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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

    def close(self) -> None:
        """Close the connections."""
        self._client.transport.close()

    def __call__(self, request: Request) -> Reply:
        from google.api_core import exceptions

        glm = self._glm
        message = glm.GenerateContentRequest(
            model=f"models/{request.model}",
            system_instruction=glm.Content(parts=[glm.Part(text=request.system)]),
            contents=[glm.Content(role="user", parts=[glm.Part(text=request.text)])],
            tools=[glm.Tool(google_search=glm.Tool.GoogleSearch())] if request.search else [],
            generation_config=glm.GenerationConfig(
                response_mime_type="application/json",
                response_schema=_proto_schema(request.schema),
                max_output_tokens=request.max_output_tokens,
            ),
        )
        try:
            reply = self._client.generate_content(
                message, retry=None, timeout=request.timeout_seconds, metadata=[("x-goog-api-key", self._key)]
            )
            return parse(type(reply).to_json(reply, use_integers_for_enums=False, including_default_value_fields=False))
        except exceptions.GoogleAPICallError as error:
            details = {"error": {"details": list(error.details or [])}}
            return Reply(failure=classify(error.code, details, error.message or ""))
        except Exception as error:  # noqa: BLE001 - the transport's own errors, named by their class
            return Reply(failure=_transport(error))


def _proto_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: value for key, value in schema.items() if key in ("enum", "required", "nullable", "description")}
    result["type_"] = schema["type"].upper()
    if "items" in schema:
        result["items"] = _proto_schema(schema["items"])
    if "properties" in schema:
        result["properties"] = {name: _proto_schema(part) for name, part in schema["properties"].items()}
    return result


def _transport(error: Exception) -> Failure:
    name = type(error).__name__
    return Failure(cause="timeout" if "Timeout" in name else "network", message=f"{name}: {error}"[:300])


def classify(code: int | None, body: Any, message: str) -> Failure:
    """Return the cause of an HTTP error."""
    body = _first(body) if isinstance(body, list) else _dict(body)
    details = [_dict(one) for one in _dict(body.get("error")).get("details") or []]
    quota = next((v.get("quotaId") for d in details for v in d.get("violations") or [] if v.get("quotaId")), None)
    delay = next((str(d["retryDelay"]) for d in details if d.get("retryDelay")), "")
    found = re.fullmatch(r"([\d.]+)s", delay) or re.search(r"retry in ([\d.]+)s", message)
    causes = {401: "auth", 403: "auth", 404: "model_not_found", 503: "overloaded"}
    cause: Any = causes.get(code or 0, "server" if (code or 0) >= 499 else "bad_request")
    if code == 429:
        cause = "daily_quota" if "PerDay" in (quota or "") else "spend_limit" if "spend" in message.lower() else "rate"
    if code == 400 and ("API_KEY_INVALID" in str(details) or "API key not valid" in message):
        cause = "auth"
    return Failure(
        cause=cause,
        message=" ".join(message.split())[:300],
        status=code,
        retry_after_seconds=float(found.group(1)) if found else None,
        quota=quota,
    )
