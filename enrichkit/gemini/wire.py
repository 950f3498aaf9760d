"""The wire: what Gemini's raw JSON means, of a reply or of an error, the same for every client; and how it is stored.

Facts about the wire: Google's API reference and recorded replies, as of November 2026.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ..messages import Failure, Reply, Source, Support, Usage, whole_count
from .refusals import classify, read_json, words_of_page

PAID_FOR = frozenset({"candidates", "promptFeedback", "usageMetadata"})
"""The parts of a body of which one at least is in every reply that is charged for."""
BLOCKED = frozenset(
    "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY MODEL_ARMOR ESCALATION".split()
)
MOST_BELIEVED = 1000
"""Searches of one reply: a larger count is no count, and would set a budget's worst case beyond every budget."""
PARTS = {
    "output_tokens": "candidates",
    "prompt_tokens": "prompt",
    "thinking_tokens": "thoughts",
    "tool_tokens": "toolUsePrompt",
}
"""The fields of `Usage` that add up to the total, and what the service calls them."""
SEARCH_TOOL = re.compile(r"(google|web)[\W_]*search", re.IGNORECASE)
GROUNDING_LINK = "vertexaisearch.cloud.google.com/grounding-api-redirect/"
"""What is in the addresses that a model writes into its text after a search."""
T = TypeVar("T", dict[str, Any], list[Any], str)


def parse(raw: str, *, backed: bool = True) -> Reply:
    """Return the reply in a raw JSON body, if wanted with what ``backed`` its text; one that cannot be read has failed.

    >>> parse('{"candidates": [{"content": {"parts": [{"text": "{}"}]}}]}').text
    '{}'
    """
    shown = readable(raw)
    body = read_json(shown.removeprefix("\ufeff"))
    if not isinstance(body, dict) or PAID_FOR.isdisjoint(body):
        error = body.get("error") if isinstance(body, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, int) and 300 <= code < 600:
            return Reply(raw=raw, failure=classify(code, shown))
        message = f"this is not Gemini: {words_of_page(shown) or 'an empty body'}"
        return Reply(raw=raw, failure=Failure(cause="server", message=message, status=200))
    candidate = _at(next(iter(_at(body, list, "candidates")), None), dict)
    parts = [_at(part, dict) for part in _at(candidate, list, "content", "parts")]
    texts = {
        place: text for place, part in enumerate(parts) if (text := _at(part, str, "text")) and not part.get("thought")
    }
    text = "".join(texts.values())
    finish = _at(candidate, str, "finishReason") or None
    block = _at(body, str, "promptFeedback", "blockReason") or None
    if block == "BLOCK_REASON_UNSPECIFIED":  # which is none: the prompt was answered
        block = None
    counts, grounding = _at(body, dict, "usageMetadata"), _at(candidate, dict, "groundingMetadata")
    asked = _at(grounding, list, "webSearchQueries")
    queries = tuple(dict.fromkeys(query for query in asked if isinstance(query, str) and query.strip()))
    chunks = [_at(chunk, dict, "web") for chunk in _at(grounding, list, "groundingChunks")]
    pages = {uri: Source(uri, _at(chunk, str, "title")) for chunk in chunks if (uri := _at(chunk, str, "uri"))}
    return Reply(
        text=text or None,
        usage=_usage(
            counts, 0 if block else _searches(counts, grounding, queries, any(chunks) or GROUNDING_LINK in text)
        ),
        model_version=_at(body, str, "modelVersion") or None,
        finish_reason=finish,
        block_reason=block,
        sources=tuple(pages.values()),
        supports=tuple(_supports(_at(grounding, list, "groundingSupports") if backed else (), chunks, [*pages], texts)),
        queries=queries,
        suggestions_html=_at(grounding, str, "searchEntryPoint", "renderedContent") or None,
        response_id=_at(body, str, "responseId") or None,
        raw=raw,
        failure=_failure(text, finish, block),
    )


def encode(reply: Reply, *, raw_alone: bool = False, **facts: Any) -> bytes:
    """Return the stored form of a reply: JSON with all its fields, and ``facts`` (question, seconds, time, …) beside.

    With ``raw_alone``, for bodies that `parse` can read, only the body is kept: what it means is never
    stored beside it, since a better parser must be free to read it differently.
    """
    kept = {"raw": reply.raw} if raw_alone and reply.raw is not None else {"reply": dataclasses.asdict(reply)}
    # ASCII only: a lone surrogate in an answer must not make its own payment unstorable; nor must an odd object.
    return json.dumps(facts | kept, ensure_ascii=True, separators=(",", ":"), default=str).encode("ascii")


def read_stored(payload: bytes, *, backed: bool = True) -> tuple[Reply, dict[str, Any]]:
    """Return the reply and its facts from the stored form; it takes longer with what ``backed`` its text.

    >>> reply, facts = read_stored(encode(Reply(text="{}"), seconds=1.5))
    >>> reply.text, facts
    ('{}', {'seconds': 1.5})
    """
    facts: dict[str, Any] = json.loads(payload)
    raw = facts.pop("raw", None)
    reply = _as_stored(facts.pop("reply")) if raw is None else parse(raw, backed=backed)
    return with_searches(reply, unknown=None if facts.get("search") else 0), facts


def _as_stored(fields: dict[str, Any]) -> Reply:
    """Return the reply that all these fields were stored of."""
    fields["usage"] = Usage(**fields["usage"])
    fields["sources"] = [Source(**source) for source in fields["sources"] if isinstance(source, dict)]
    fields["supports"] = [Support(**each | {"sources": tuple(each["sources"])}) for each in fields["supports"]]
    if failure := fields["failure"]:
        usage = {"usage": fields["usage"]} if failure.get("usage") else {}
        fields["failure"] = Failure(**failure | usage)
    return Reply(**fields)


def with_searches(reply: Reply, *, unknown: int | None) -> Reply:
    """Return a reply that says how often it searched, as far as that is known, else so often as is given here.

    A client of one's own that does not count them may still tell its queries, or pages.

    >>> with_searches(Reply(text="{}", queries=("Oslo", "", "Oslo")), unknown=0).usage.searches
    1
    """
    if reply.usage.searches is not None:
        return reply
    searches = len({str(query).strip() for query in reply.queries} - {""}) or int(bool(reply.sources)) or unknown
    return dataclasses.replace(reply, usage=dataclasses.replace(reply.usage, searches=searches))


def readable(raw: str) -> str:
    """Return a body with U+FFFD for each of its bytes that is no UTF-8; they are kept as they came, as surrogates."""
    return raw if raw.isascii() else raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


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
    if block or finish in BLOCKED:
        return Failure(cause="blocked", message=block or finish or "")
    if finish in ("MAX_TOKENS", "CONTINUATION"):
        cure = "it repeats itself; ask otherwise, or another model" if _repeats(text) else "raise max_output_tokens"
        return Failure(cause="truncated", message=f"the answer ended unfinished ({finish}); {cure}")
    return None if text else Failure(cause="empty", message=f"no text, finish reason {finish}")


def _repeats(text: str) -> bool:
    """Whether a text ends in one and the same stretch again and again."""
    end = text[-400:]
    return any(end == (end[:length] * 400)[: len(end)] for length in range(1, 101)) if len(end) == 400 else False


def _searches(
    counts: Mapping[str, Any], grounding: Mapping[str, Any], queries: Sequence[str], shown: bool
) -> int | None:
    """Return the searches that are charged for: as billed, else each query once, else one where a search is shown.

    None is unknown: both go missing where the model searched while it was thinking.
    """
    tools = [_at(tool, dict) for tool in _at(counts, list, "billedToolCalls")]
    ours = [tool for tool in tools if SEARCH_TOOL.search(_at(tool, str, "tool"))]
    billed = [whole_count(tool.get("successfulToolCallCount")) for tool in ours]
    if billed and None not in billed and sum(filter(None, billed)) <= MOST_BELIEVED:
        return sum(filter(None, billed))
    return len(queries) or (1 if shown or grounding.get("searchEntryPoint") is not None else None)


def _usage(counts: Mapping[str, Any], searches: int | None) -> Usage:
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
        tier=_at(counts, str, "serviceTier").lower() or None,
        combined=missing == ["thinking_tokens", "tool_tokens"] and rest > 0,
    )


def _at(value: Any, kind: type[T], *path: str) -> T:
    """Return what stands at a path in a body; an empty one of this kind if there is nothing such."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, kind) else kind()
