"""Refusals: what an HTTP answer that is no reply means, from its status, ids, metadata and words to a cause.

One table, the topmost rule that fits; an error that a library raises for such an answer means the same. The service's
own sentence always travels with the cause; what a run does about it is not decided here.

Facts: Google's API reference, and refusals as users reported them in public, as of November 2026.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
import urllib.error
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from ..formatting import whole_number
from ..messages import Cause, Failure


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a refusal says: its status, and the texts and numbers in its body by name."""

    status: int
    facts: Mapping[str, Sequence[str]]

    def says(self, pattern: str) -> bool:
        """Whether a sentence of it has such words, or an id that is made of words."""
        texts = [text for name in SPEAKING for text in self.facts.get(name, ())]
        return any(re.search(pattern, text.replace("_", " "), re.IGNORECASE) for text in texts)

    def names(self, pattern: str, *names: str) -> bool:
        """Whether one of these facts is so; one of many is enough."""
        return any(re.fullmatch(pattern, text, re.IGNORECASE) for name in names for text in self.facts.get(name, ()))

    @property
    def of_account(self) -> bool:
        """Whether it may be about the account: a 400 that is called an invalid argument is about the request."""
        return self.status != 400 or not self.names("INVALID_ARGUMENT", "status")


DEEPEST = 8
NEVER_SENT = frozenset(
    "ConnectError ConnectTimeout LocalProtocolError "
    "ConnectionRefusedError gaierror ClientConnectorError NewConnectionError".split()
)
"""Errors of HTTP libraries before anything has left."""
UNSENDABLE = re.compile("UnsupportedProtocol|Invalid(URL|Url|Schema)|(Illegal|Invalid) header|unknown url type")
"""What is called so, or says so, is about an address or a header that is none: no other try mends it."""
SILENT = re.compile("Timeout|DeadlineExceeded")
BROKEN = re.compile("Connect|Network|Transport|Protocol|Incomplete|BadStatusLine|URLError|SSLError")
"""What errors are called that say that no answer came, and that a connection broke."""
STATUS = ("status_code", "status", "code", "http_status")
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
SPEAKING = ("message", "reason", "code", "type")
IDS = ("quotaId", "quota_limit", "quota_unit", "quotaMetric", "quota_metric")
"""The facts by which details name a quota."""
ZERO = r"\blimit:? (?:is |of )?0(?!\.?\d)"
GONE = (
    r"(?:used up|deplet\w+|exhausted|run out|ran out|insufficient|empty|no\b.{0,20}\bleft|too low|not enough|negative)"
)
OFF = r"(?:disabled|off|not (?:active|enabled)|inactive|closed|suspended|past due|delinquent)"
CREDITS = (
    rf"\b(?:credits?|prepa\w+|balance|user quota)\b.{{0,60}}\b{GONE}|\bbilling\b.{{0,40}}\b{OFF}\b|"
    r"\b(?:insufficient|not enough|no|out of) (?:\w+ )?(?:credits?|funds|balance)\b|\binsufficient (?:\w+ )?quota\b|"
    r"\brequires billing\b|\bno (?:\w+ )?billing\b|(?:额度|余额)(?:不足|失败)"
)
SPENDING = (
    r"\bspend(?:ing)?[ -](?:\w+[ -])?(?:limit|cap|quota)\b|\bspend[ -]based\b|"
    r"\b(?:exceeded|over|crossed) ?budget|\bbudget\b.{0,40}\bexceeded\b"
)
DAILY = r"\bper[ -]day\b|\bdaily\b|\ba day\b|\bRPD\b|\bper 24 hours\b|\b(?:for today|today['’]s)\b|今[日天]|每[日天]"
PLACES = r"\b(?:location|countr\w+|region|territor\w+)\b(?! (?:field|code|parameter|value|key)\b)"
SERVED = r"(?:supported|available|offered|served|allowed|permitted|eligible)"
PLACE = (
    rf"{PLACES}.{{0,60}}\b(?:not |un){SERVED}\b|\b(?:banned|blocked|un{SERVED}) (?:the |your |in )*{PLACES}|"
    rf"\bnot (?:yet )?{SERVED} (?:in|at|from|for) (?:your|this) (?:\w+ )?{PLACES}"
)
BAD_KEY = r"\bAPI[ _]key (?:is )?(?:not (?:valid|found)|invalid|expired)|\b(?:invalid|expired|bad) API[ _]key\b"
RULES: tuple[tuple[Cause, Collection[int], Callable[[Refusal], bool]], ...] = (
    ("no_quota", (429,), lambda seen: seen.names(r"0+(?:\.0+)?", "quotaValue", "quota_limit_value") or seen.says(ZERO)),
    ("credits", (402,), lambda seen: True),
    ("credits", (400, 403, 429), lambda seen: seen.of_account and seen.says(CREDITS)),
    ("spend_limit", (400, 403, 429), lambda seen: seen.of_account and seen.says(SPENDING)),
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
    ("server", range(499, 1000), lambda seen: True),
    ("bad_request", range(1000), lambda seen: True),
)
"""Each cause with its status and what else must have been seen; the topmost that fits counts."""


def classify(status: int, raw: str, headers: Mapping[str, str] = NO_HEADERS) -> Failure:
    """Return why an HTTP answer with a status of 300 or more is no reply; the names of ``headers`` are lowercase.

    >>> classify(503, '[{"error": {"message": "The model is overloaded."}}]').cause
    'overloaded'
    """
    error = _error(raw)
    facts: dict[str, list[str]] = {}
    for name, text in _facts(error or {"message": [words_of_page(raw), _without_tags(raw)]}):
        facts.setdefault(name, []).append(text)
    said = error.get("message")
    message = " ".join((said if isinstance(said, str) and said else words_of_page(raw)).split())
    seen = Refusal(status, facts)
    quotas = seen.facts.get("quotaId", ())
    delays = [re.fullmatch(r"(\d+(?:\.\d+)?)s", text) for text in seen.facts.get("retryDelay", ())]
    seconds = next(filter(None, delays), None) or re.search(r"retry in (\d+(?:\.\d+)?)s", message)
    return Failure(
        cause=next(cause for cause, statuses, fits in RULES if status in statuses and fits(seen)),
        message=message,
        status=status,
        retry_after_seconds=float(seconds.group(1)) if seconds else seconds_until(headers.get("retry-after", "")),
        # A daily quota among others is the one that counts: no delay helps against it.
        quota=next((quota for quota in quotas if "PerDay" in quota), quotas[0] if quotas else None),
    )


def failure_of(error: BaseException, *, answered: bool = True) -> Failure | None:
    """Return what an error means, by the status in it, else by what it is called; None if it is no service's.

    Until somebody has ``answered``, a host that has no address is one that is spelled wrong.

    >>> failure_of(TimeoutError("late")).cause, failure_of(ZeroDivisionError("odd"))
    ('timeout', None)
    """
    errors = list(_behind(error))
    for each in errors:
        if (status := _status(each)) is not None:
            return classify(status, _said(each), _headers(each))
    names = {kind.__name__ for each in errors for kind in type(each).__mro__}
    message, inner = f"{type(error).__name__}: {error}", str(errors[-1])
    if inner not in message:
        message = f"{message} ({type(errors[-1]).__name__}: {inner})"
    unknown = any(isinstance(each, socket.gaierror) and each.errno == socket.EAI_NONAME for each in errors)
    if (unknown and not answered) or UNSENDABLE.search(" ".join([*names, message])):
        return Failure(cause="not_sent", message=message)
    sent = names.isdisjoint(NEVER_SENT)  # a connection that was never made carried nothing
    silent = sent and any(map(SILENT.search, names))
    if not (silent or any(map(BROKEN.search, names)) or any(map(_of_network, errors))):
        return None
    return Failure(cause="timeout" if silent else "network", message=message, may_be_charged=sent)


def _behind(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and those that it was raised from or holds."""
    for _ in range(DEEPEST):
        yield error
        held = (
            error.__cause__ or error.__context__,
            getattr(error, "reason", None),
            *getattr(error, "exceptions", ()),
            *error.args[:1],
        )
        inner = next((each for each in held if isinstance(each, BaseException)), None)
        if inner is None:
            return
        error = inner


def _status(error: BaseException) -> int | None:
    """Return the HTTP status in an error or its response, which botocore has as a mapping."""
    response = getattr(error, "response", None)
    seen = [getattr(thing, name, None) for thing in (error, response) for name in STATUS]
    if isinstance(response, Mapping):
        seen.append(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    return next((int(code) for code in map(str, seen) if re.fullmatch("[345][0-9][0-9]", code)), None)


def _said(error: BaseException) -> str:
    """Return the body of an error's response, where one can be read, else the error's own words."""
    with contextlib.suppress(Exception):  # whatever a library raises for a stream that is closed, or not read
        if isinstance(error, urllib.error.HTTPError):
            return error.read().decode("utf-8", "replace") or str(error)
        body = getattr(error, "response", None).text  # type: ignore[union-attr]
        if isinstance(body, str) and body.strip():
            return body
    return str(error)


def _headers(error: BaseException) -> Mapping[str, str]:
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None)
    return {str(name).lower(): str(said) for name, said in headers.items()} if hasattr(headers, "items") else NO_HEADERS


def _of_network(error: BaseException) -> bool:
    """Whether an error of the system is about no file; what requests calls so and is a wrong value is a mistake."""
    return isinstance(error, OSError) and not isinstance(error, ValueError) and error.filename is None


def seconds_until(said: str) -> float | None:
    """Return what a header ``retry-after`` says, in seconds or as a date; None if it says neither.

    >>> seconds_until(" 2 "), seconds_until("Sat, 01 Jan 2000 00:00:00 GMT"), seconds_until("soon")
    (2.0, 0.0, None)
    """
    if re.fullmatch(r"\s*\d{1,9}(\.\d+)?\s*", said):
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def words_of_page(text: str) -> str:
    """Return what a page of HTML says, such as a proxy's: its title, or its words; any other text as it is."""
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    if title and title.group(1).strip():
        return f"a page titled {' '.join(title.group(1).split())!r}"
    return _without_tags(text)


def _without_tags(text: str) -> str:
    return re.sub(r"<[^>]*>", " ", text)


def read_json(text: str) -> Any:
    """Return what a body holds; None if it is not JSON, or nested too deeply."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    except ValueError:  # it is JSON, with a number of more digits than Python reads
        return json.loads(text, parse_int=whole_number)


def _error(text: str, depth: int = 0) -> Mapping[str, Any]:
    """Return the error in a body, in a list or not; of one that a gateway quotes in its own, that one."""
    try:
        body, _ = json.JSONDecoder(parse_int=whole_number).raw_decode(text, text.index("{"))
    except (ValueError, RecursionError):
        return {}
    error = body.get("error")
    if isinstance(error, str):
        return {"message": error}
    if not isinstance(error, dict):
        return {}
    quoted = error.get("message")
    return (isinstance(quoted, str) and depth < DEEPEST and _error(quoted, depth + 1)) or error


def _facts(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the texts and numbers in an error with their names."""
    if isinstance(value, str | int | float):
        yield name, str(value)
    elif isinstance(value, list | dict) and depth < DEEPEST:
        for key, part in value.items() if isinstance(value, dict) else ((name, part) for part in value):
            yield from _facts(part, str(key), depth + 1)
