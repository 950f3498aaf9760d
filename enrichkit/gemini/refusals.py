"""Refusals: what an HTTP answer that is no reply means, from its status, ids, metadata and words to a cause.

One table, the topmost rule that fits. The service's own sentence always travels with the cause; what a run does about
it is not decided here.

Facts: Google's API reference, and refusals as users reported them in public, as of November 2026.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..formatting import whole_number
from ..messages import Cause, Failure


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a refusal says: its status, the service's sentence, and the facts of its details by name."""

    status: int
    message: str
    facts: Mapping[str, tuple[str, ...]]

    def says(self, pattern: str) -> bool:
        """Whether the sentence has such words."""
        return re.search(pattern, self.message, re.IGNORECASE) is not None

    def names(self, pattern: str, *names: str) -> bool:
        """Whether one of these facts is so; one of many is enough."""
        return any(re.fullmatch(pattern, text, re.IGNORECASE) for name in names for text in self.facts.get(name, ()))


DEEPEST = 8
IDS = ("quotaId", "quota_limit", "quota_unit", "quotaMetric", "quota_metric")
"""The facts by which details name a quota."""
ZERO = r"\blimit:? (?:is |of )?0(?![.\d])"
GONE = r"(?:used up|deplet\w+|exhausted|run out|ran out|insufficient|empty|no\b.{0,20}\bleft|too low)"
OFF = r"(?:disabled|off|not (?:active|enabled)|inactive|closed|suspended|past due|delinquent)"
CREDITS = (
    rf"\b(?:credits?|prepa\w+|balance)\b.{{0,60}}\b{GONE}|\bbilling\b.{{0,40}}\b{OFF}\b|\brequires billing\b|"
    r"\b(?:insufficient|not enough|no|out of) (?:\w+ )?(?:credits?|funds|balance)\b"
)
SPENDING = r"\bspend(?:ing)?[ -](?:\w+[ -])?(?:limit|cap|quota)\b|\bspend[ -]based\b"
DAILY = r"\bper[ -]day\b|\bdaily\b|\ba day\b|\bRPD\b|\bper 24 hours\b|\btoday\b"
SERVED = r"(?:supported|available|offered|served|allowed|permitted|eligible)"
PLACE = (
    rf"\b(?:location|countr\w+|region|territor\w+)\b.{{0,60}}\b(?:not |un){SERVED}\b|"
    rf"\bnot (?:yet )?{SERVED} (?:in|at|from|for) (?:your|this) (?:\w+ )?(?:location|country|region|territory)\b"
)
BAD_KEY = r"\bAPI[ _]key (?:is )?(?:not (?:valid|found)|invalid|expired)|\b(?:invalid|expired|bad) API[ _]key\b"
RULES: tuple[tuple[Cause, Collection[int], Callable[[Refusal], bool]], ...] = (
    ("no_quota", (429,), lambda seen: seen.names(r"0+(?:\.0+)?", "quotaValue", "quota_limit_value") or seen.says(ZERO)),
    ("credits", (402,), lambda seen: True),
    ("credits", (429,), lambda seen: seen.says(CREDITS)),
    ("credits", (403,), lambda seen: seen.names("BILLING_DISABLED", "reason")),
    ("spend_limit", (429,), lambda seen: seen.says(SPENDING)),
    ("daily_quota", (429,), lambda seen: seen.names(r".*(?:per_?day|1/d\b).*", *IDS) or seen.says(DAILY)),
    ("rate", (429,), lambda seen: True),
    ("location", (400, 403), lambda seen: seen.says(PLACE)),
    ("auth", (401, 403), lambda seen: True),
    ("auth", (400,), lambda seen: seen.names("API_KEY_.*", "reason") or seen.says(BAD_KEY)),
    ("model_not_found", (404,), lambda seen: True),
    ("redirected", range(300, 400), lambda seen: True),
    ("not_sent", (407,), lambda seen: True),
    ("timeout", (408,), lambda seen: True),
    ("overloaded", (503,), lambda seen: True),
    ("server", range(499, 600), lambda seen: True),
    ("bad_request", range(1000), lambda seen: True),
)
"""Each cause with its status and what else must have been seen; the topmost that fits counts."""


def classify(status: int, raw: str) -> Failure:
    """Return why an HTTP answer with another status than 200 is no reply.

    >>> classify(503, '[{"error": {"message": "The model is overloaded."}}]').cause
    'overloaded'
    """
    error = _error(raw)
    said = error.get("message")
    message = " ".join((said if isinstance(said, str) and said else words_of_page(raw)).split())
    facts: dict[str, list[str]] = {}
    for name, text in _facts(error.get("details")):
        facts.setdefault(name, []).append(text)
    seen = Refusal(status, message, {name: tuple(texts) for name, texts in facts.items()})
    quotas = seen.facts.get("quotaId", ())
    delays = [re.fullmatch(r"(\d+(?:\.\d+)?)s", text) for text in seen.facts.get("retryDelay", ())]
    seconds = next(filter(None, delays), None) or re.search(r"retry in (\d+(?:\.\d+)?)s", message)
    return Failure(
        cause=next(cause for cause, statuses, fits in RULES if status in statuses and fits(seen)),
        message=message,
        status=status,
        retry_after_seconds=float(seconds.group(1)) if seconds else None,
        # A daily quota among others is the one that counts: no delay helps against it.
        quota=next((quota for quota in quotas if "PerDay" in quota), quotas[0] if quotas else None),
    )


def words_of_page(text: str) -> str:
    """Return what a page of HTML says, such as a proxy's: its title, or its words; any other text as it is."""
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    if title and title.group(1).strip():
        return f"a page titled {' '.join(title.group(1).split())!r}"
    return re.sub(r"<[^>]*>", " ", text)


def read_json(text: str) -> Any:
    """Return what a body holds; None if it is not JSON, or nested too deeply."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    except ValueError:  # it is JSON, with a number of more digits than Python reads
        return json.loads(text, parse_int=whole_number)


def _error(raw: str) -> Mapping[str, Any]:
    """Return the error in a body, which may be in a list; an empty one if it has none."""
    body = read_json(raw)
    body = body[0] if isinstance(body, list) and body else body
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {"message": error} if isinstance(error, str) else {}


def _facts(details: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the texts and numbers in an error's details with their names."""
    if isinstance(details, list) and depth < DEEPEST:
        for detail in details:
            yield from _facts(detail, depth + 1)
    elif isinstance(details, dict) and depth < DEEPEST:
        for name, value in details.items():
            if isinstance(value, str | int | float):
                yield str(name), str(value)
            else:
                yield from _facts(value, depth + 1)
