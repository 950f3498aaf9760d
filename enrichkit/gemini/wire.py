"""The wire: what Gemini's raw JSON means, of a reply or of an error, the same for every client.

Facts about the wire: Google's API reference and recorded replies, as of November 2026.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ..messages import Cause, Failure, Reply, Source, Support, Usage, whole_count

BLOCKED = frozenset(
    "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY MODEL_ARMOR ESCALATION".split()
)
FINISH = (
    "STOP MAX_TOKENS SAFETY RECITATION OTHER LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII MALFORMED_FUNCTION_CALL "
    "IMAGE_SAFETY"
).split()
BLOCK = "SAFETY OTHER BLOCKLIST PROHIBITED_CONTENT IMAGE_SAFETY".split()
"""Enums by number, from 1: google-generativeai asks for numbers, so the service answers it with numbers."""
PARTS = {
    "output_tokens": "candidates",
    "prompt_tokens": "prompt",
    "thinking_tokens": "thoughts",
    "tool_tokens": "toolUsePrompt",
}
"""The fields of `Usage` that add up to the total, and what the service calls them."""
_GROUNDED = frozenset({"groundingChunks", "groundingSupports", "searchEntryPoint"})
LONGEST_MESSAGE = 300
T = TypeVar("T", dict[str, Any], list[Any], str)


def parse(raw: str) -> Reply:
    """Return the reply in a raw JSON body; a body that cannot be read becomes a named failure.

    >>> parse('{"candidates": [{"content": {"parts": [{"text": "{}"}]}}]}').text
    '{}'
    """
    body = _json(raw)
    if not isinstance(body, dict):
        return Reply(raw=raw, failure=Failure(cause="unreadable", message="the body is not a JSON object"))
    candidate = _at(next(iter(_at(body, list, "candidates")), None), dict)
    parts = [_at(part, dict) for part in _at(candidate, list, "content", "parts")]
    texts = {
        place: text for place, part in enumerate(parts) if (text := _at(part, str, "text")) and not part.get("thought")
    }
    text = "".join(texts.values())
    finish = _enum(FINISH, candidate.get("finishReason"))
    block = _enum(BLOCK, _at(body, dict, "promptFeedback").get("blockReason"))
    grounding = _at(candidate, dict, "groundingMetadata")
    queries = [query for query in _at(grounding, list, "webSearchQueries") if isinstance(query, str) and query.strip()]
    chunks = [_at(chunk, dict, "web") for chunk in _at(grounding, list, "groundingChunks")]
    pages = {uri: Source(uri, _at(chunk, str, "title")) for chunk in chunks if (uri := _at(chunk, str, "uri"))}
    return Reply(
        text=text or None,
        # What a search brought may be there without its queries: it was one at least, and is charged for.
        usage=_usage(_at(body, dict, "usageMetadata"), len(queries) or int(bool(_GROUNDED & grounding.keys()))),
        model_version=_at(body, str, "modelVersion") or None,
        finish_reason=finish,
        block_reason=block,
        sources=tuple(pages.values()),
        supports=tuple(_supports(_at(grounding, list, "groundingSupports"), chunks, list(pages), texts)),
        queries=tuple(dict.fromkeys(queries)),
        suggestions_html=_at(grounding, str, "searchEntryPoint", "renderedContent") or None,
        response_id=_at(body, str, "responseId") or None,
        raw=raw,
        failure=_failure(text, finish, block),
    )


def _supports(
    supports: Sequence[Any], chunks: Sequence[Mapping[str, Any]], pages: Sequence[str], texts: Mapping[int, str]
) -> Iterator[Support]:
    """Yield which stretches of the text are backed by which pages.

    Offsets are in bytes, within a part where there are several; a support whose
    offsets do not lead to the words that it repeats is left out.
    """
    whole = "".join(texts.values()).encode("utf-8", "surrogatepass") if supports else b""
    places_of = {uri: place for place, uri in enumerate(pages)}
    for support in supports:
        segment = _at(support, dict, "segment")
        part, start, end = (segment.get(name, 0) for name in ("partIndex", "startIndex", "endIndex"))
        places = {place for place in _at(support, list, "groundingChunkIndices") if type(place) is int}
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


def _usage(counts: Mapping[str, Any], searches: int) -> Usage:
    """Return what a reply used; of the parts of the total that it leaves out, the first one is the rest."""
    used = {name: whole_count(counts.get(f"{key}TokenCount")) for name, key in PARTS.items()}
    total = whole_count(counts.get("totalTokenCount"))
    # Some replies leave parts out, but total = prompt + output + thinking + tool use held in all 542 recorded bodies.
    rest = (total or 0) - sum(part or 0 for part in used.values())
    missing = [name for name, part in used.items() if part is None]
    known = not {"prompt_tokens", "output_tokens"} <= set(missing) and total is not None
    if missing and known and (rest > 0 or missing[0] == "output_tokens"):
        used[missing[0]] = max(0, rest)
    return Usage(
        **used,
        cached_tokens=whole_count(counts.get("cachedContentTokenCount")),
        total_tokens=total,
        searches=searches,
        combined=missing == ["thinking_tokens", "tool_tokens"] and rest > 0,
    )


def _json(raw: str) -> Any:
    """Return what a body holds; None if it is not JSON, or nested too deeply."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _at(value: Any, kind: type[T], *path: str) -> T:
    """Return what stands at a path in a body; an empty one of this kind if there is nothing such."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, kind) else kind()


def _enum(names: Sequence[str], value: Any) -> str | None:
    """Return an enum's name; 0 says nothing. The set is open, so an unknown name or number stands for itself."""
    if type(value) is not int:
        return value if isinstance(value, str) else None
    return [None, *names][value] if 0 <= value <= len(names) else str(value)


def classify(status: int, raw: str) -> Failure:
    """Return the cause of an HTTP error from its status and body.

    >>> classify(503, '[{"error": {"message": "The model is overloaded."}}]').cause
    'overloaded'
    """
    body = _json(raw)
    error = _at(next(iter(body), None) if isinstance(body, list) else body, dict, "error")
    message = re.sub(r"<[^>]*>", " ", _at(error, str, "message") or raw)  # proxies answer with a page of HTML
    details = _at(error, list, "details")
    violations = [violation for detail in details for violation in _at(detail, list, "violations")]
    quotas = [name for violation in violations if (name := _at(violation, str, "quotaId"))]
    # A daily quota takes precedence: no delay helps against it.
    quota = next((quota for quota in quotas if "PerDay" in quota), quotas[0] if quotas else None)
    delay = next((text for detail in details if (text := _at(detail, str, "retryDelay"))), "")
    seconds = re.fullmatch(r"(\d+(?:\.\d+)?)s", delay) or re.search(r"retry in (\d+(?:\.\d+)?)s", message)
    reasons = [_at(detail, str, "reason") for detail in details]
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
