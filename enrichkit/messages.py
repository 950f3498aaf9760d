"""The frozen values that travel between the rooms: a request, a reply, what it used, why it failed.

Nothing here knows an SDK, a file or a price, and nothing here holds a key.
"""

from __future__ import annotations

import dataclasses
import json
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

KEY_NAMES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")


CLIENTS = ("google-genai", "google-generativeai")


Cause = Literal[
    "rate",  # 429: the pace waits, nobody's attempt
    "daily_quota",  # 429 with a PerDay quota: nothing helps before it opens again
    "spend_limit",  # 429: the account's rolling spend limit
    "auth",  # no, bad or forbidden key
    "model_not_found",
    "bad_request",  # any other 4xx
    "overloaded",  # 503
    "server",  # 500, 502, 504, 499
    "timeout",
    "network",  # reset, refused, cut off, DNS
    "blocked",  # safety, recitation, prohibited content, …
    "truncated",  # ended at max_output_tokens
    "empty",  # no text at all
    "unreadable",  # a body that is no JSON, text without a usable JSON object, or one that breaks the answer model
    "client",  # a client of one's own raised
]

DEFAULT_MODEL = "gemini-3.5-flash-lite"
SIMULATOR = "simulator"
"""The model name that starts the built-in simulator, and what its replies call themselves."""

MOST_COUNTED = 2**53
"""A count of tokens or searches beyond this is none."""
TRANSIENT = frozenset({"overloaded", "server", "timeout", "network"})
"""Tried again after a wait."""
ENDS_RUN = frozenset({"daily_quota", "spend_limit", "auth", "model_not_found"})
"""The next request would fail alike."""
PAID = frozenset({"blocked", "truncated", "empty", "unreadable"})
"""The service answered, and charges for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question, ready to be sent.

    Parameters
    ----------
    question : str
        The question's id: 32 hexadecimal digits, the same for the same question in every run.
    stage : str
        The stage's name.
    model : str
        The model's name, without ``models/``.
    system, text : str
        The fixed instruction, and the rendered prompt with the record's values in ``⟦ ⟧``.
    schema : Mapping
        JSON Schema of the answer, with ``type``, ``properties``, ``required``, ``enum``, ``items``, ``nullable``
        and ``description`` only, so that both SDKs can send it.
    search : bool
        Ground the answer with Google Search.
    thinking : str or int or None
        A level (``"minimal"``, ``"low"``, ``"medium"``, ``"high"``), a budget in tokens, or the
        model's default.
    max_output_tokens : int
        Upper bound of the tokens the service may write, thinking included.
    timeout_seconds : float
        After that long without a reply the request is given up.
    """

    question: str
    stage: str
    model: str
    system: str
    text: str
    schema: Mapping[str, Any] = field(hash=False)
    search: bool = True
    thinking: str | int | None = None
    max_output_tokens: int = 8192
    timeout_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a reply used, in tokens and executed searches; ``None`` where the reply does not say.

    ``prompt_tokens`` includes ``cached_tokens``; ``output_tokens`` excludes ``thinking_tokens``. ``combined``
    says that ``thinking_tokens`` holds thinking and tool use together: the reply gave only their sum.
    """

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    tool_tokens: int | None = None
    thinking_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    searches: int | None = None
    combined: bool = False

    def __post_init__(self) -> None:
        # A client of one's own may bring numpy's numbers or worse; what is no count is unknown, and costs no reply.
        for name in self.__slots__:
            value = getattr(self, name)
            if name != "combined" and value is not None and not (type(value) is int and 0 <= value < MOST_COUNTED):
                number = isinstance(value, numbers.Real) and not isinstance(value, bool)
                whole = number and 0 <= value < MOST_COUNTED and value % 1 == 0
                object.__setattr__(self, name, int(value) if whole else None)


@dataclass(frozen=True, slots=True)
class Source:
    """A page that the search brought: the address (often a redirect of Google's) and its title."""

    url: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Support:
    """A stretch of a reply's text that pages back: from ``start`` to before ``end``, in bytes of its UTF-8.

    ``sources`` are places in the reply's ``sources``.
    """

    start: int
    end: int
    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a request brought no usable answer.

    ``may_be_charged`` says that nobody knows whether the service answered, as when a connection breaks after the
    request was sent.
    """

    cause: Cause
    message: str = ""
    status: int | None = None
    retry_after_seconds: float | None = None
    quota: str | None = None
    may_be_charged: bool = False

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.cause in TRANSIENT

    @property
    def ends_run(self) -> bool:
        """Whether every other request would fail alike."""
        return self.cause in ENDS_RUN

    def __str__(self) -> str:
        return f"{self.cause}: {self.message}" if self.message else self.cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back for a `Request`; ``failure`` says why there is no usable text.

    A client of one's own needs only ``text`` (a JSON object):

    >>> Reply(text='{"industry": "Software"}').paid
    True

    ``raw`` is the body as it came, kept so that a later parser can read it again for nothing.
    """

    text: str | None = None
    usage: Usage = Usage()
    model_version: str | None = None
    finish_reason: str | None = None
    block_reason: str | None = None
    sources: tuple[Source, ...] = ()
    supports: tuple[Support, ...] = ()
    queries: tuple[str, ...] = ()
    suggestions_html: str | None = None
    response_id: str | None = None
    raw: str | None = None
    failure: Failure | None = None

    def __post_init__(self) -> None:
        wrong = [name for name in ("text", "raw") if not isinstance(getattr(self, name), str | None)]
        wrong += [] if isinstance(self.usage, Usage) else ["usage"]
        wrong += [] if isinstance(self.failure, Failure | None) else ["failure"]
        if wrong:
            found = type(getattr(self, wrong[0])).__name__
            raise TypeError(f"Reply.{wrong[0]} must not be a {found}; help(enrichkit.Reply) says what it is.")
        for name in ("model_version", "finish_reason", "block_reason", "suggestions_html", "response_id"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, str(value))
        for name in ("sources", "supports", "queries"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))

    @property
    def paid(self) -> bool:
        """Whether the service charges for this reply."""
        return self.failure is None or self.failure.cause in PAID


Client = Callable[[Request], Reply]
"""Whatever answers a request. It returns failures as values; what it raises counts as cause ``client``."""


def encode(reply: Reply, *, raw_alone: bool = False, **facts: Any) -> bytes:
    """Return the stored form of a reply: JSON with all its fields, and ``facts`` (question, seconds, time, …) beside.

    With ``raw_alone``, for bodies that the reader of `decode` can parse, only the body is kept: what it means is never
    stored beside it, since a better parser must be free to read it differently.
    """
    kept = {"raw": reply.raw} if raw_alone and reply.raw is not None else {"reply": dataclasses.asdict(reply)}
    # ASCII only: a lone surrogate in an answer must not make its own payment unstorable; nor must an odd object.
    return json.dumps(facts | kept, ensure_ascii=True, separators=(",", ":"), default=str).encode("ascii")


def question_of(payload: bytes) -> str | None:
    """Return the question that a stored reply answers, as far as it says so."""
    found = json.loads(payload).get("question")
    return None if found is None else str(found)


def decode(payload: bytes, parse: Callable[[str], Reply]) -> tuple[Reply, dict[str, Any]]:
    """Return the reply and its facts from the stored form; ``parse`` reads a raw body.

    >>> reply, facts = decode(encode(Reply(text="{}"), seconds=1.5), parse=lambda raw: Reply(raw=raw))
    >>> reply.text, facts
    ('{}', {'seconds': 1.5})
    """
    facts: dict[str, Any] = json.loads(payload)
    if (raw := facts.pop("raw", None)) is not None:
        return parse(raw), facts
    fields = facts.pop("reply")
    fields["usage"] = Usage(**fields["usage"])
    fields["sources"] = tuple(Source(**source) for source in fields["sources"] if isinstance(source, dict))
    fields["supports"] = tuple(
        Support(one["start"], one["end"], tuple(one["sources"])) for one in fields.get("supports", ())
    )
    fields["queries"] = tuple(fields["queries"])
    fields["failure"] = Failure(**fields["failure"]) if fields["failure"] else None
    return Reply(**fields), facts
