"""The frozen values that travel: a request, a reply, what it used, which pages back it, why it failed.

A client of your own takes a `Request` and returns a `Reply`, or what stands for one (docs/clients.md). Nothing here
knows an SDK, a file, a price or a key.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from .formatting import plain

__all__ = ["Failure", "Reply", "Request", "Source", "Support", "Usage"]

KEY_NAMES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
CLIENTS = ("google-genai", "google-generativeai")

Account = Literal["no_quota", "credits", "spend_limit", "daily_quota", "location", "auth"]
"""What keeps the account from asking at all."""
Refused = Literal[Account, "rate", "model_not_found", "redirected", "bad_request", "not_sent"]
"""After ``rate`` the pace waits; ``not_sent`` is what a proxy, a certificate or an SDK did not let out."""
Transient = Literal["overloaded", "server", "timeout", "network"]
"""Tried again after a wait. In order: 503, any other 5xx and 499, silence, a connection that broke."""
Paid = Literal["blocked", "truncated", "empty", "unreadable", "search_quota", "own_code", "no_answer"]
"""Charged for: safety, max_output_tokens, no text, no JSON, a short reply without a search, a validator that raised, a
client of your own that returned something else than an answer."""
Tier = Literal["standard", "flex"]
Cause = Literal[Refused, Transient, Paid, "client"]
"""Why a request failed; ``client``: a client of your own raised."""

DEFAULT_MODEL = "gemini-3.5-flash-lite"
SIMULATOR = "simulator"
"""The model name that starts the built-in simulator, and what its replies call themselves."""

LONGEST_MESSAGE = 300
MOST_COUNTED = 2**53
"""Larger counts of tokens or searches are treated as unknown."""
TRANSIENT = frozenset(get_args(Transient))
PAID = frozenset(get_args(Paid))
ENDS_RUN = frozenset({*get_args(Account), "model_not_found", "redirected", "no_answer"})
"""The next request would fail alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question, ready to be sent.

    Attributes
    ----------
    question : str
        The question's id: 32 hexadecimal digits, the same for the same question in every run.
    stage : str
        The stage's name.
    model : str
        The model's name, without ``models/``.
    system : str
        The fixed instruction.
    text : str
        The rendered prompt, with the record's values in ``⟦ ⟧``.
    schema : Mapping
        JSON Schema of the answer, with ``type``, ``properties``, ``required``, ``enum``, ``items``, ``anyOf`` (a type
        or null) and ``description`` only.
    json : {"words", "schema"}
        How the answer's JSON is asked for: by the schema in words, or by the schema beside the prompt.
    search : bool
        Ground the answer with Google Search.
    thinking : str or int or None
        A level (``"minimal"``, ``"low"``, ``"medium"``, ``"high"``), a budget in tokens, or the model's default.
    max_output_tokens : int
        Upper bound of the tokens the service may write, thinking included.
    tier : {"standard", "flex"}
        How soon the service is to answer, and at what price.
    timeout_seconds : float
        Seconds without a reply after which the request is given up.

    Examples
    --------
    >>> request = Request(question="0" * 32, stage="company", model="m", system="Be brief.", text="?", schema={})
    >>> request.search, request.timeout_seconds
    (True, 120.0)
    """

    question: str
    stage: str
    model: str
    system: str
    text: str
    schema: Mapping[str, Any] = field(hash=False)
    json: Literal["words", "schema"] = "schema"
    search: bool = True
    thinking: str | int | None = None
    max_output_tokens: int = 8192
    tier: Tier = "standard"
    timeout_seconds: float = 120.0


def whole_count(value: Any) -> int | None:
    """Return a count of tokens or searches; None for what cannot be one."""
    if value is None or (type(value) is int and 0 <= value < MOST_COUNTED):
        return value  # nearly always
    value = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 16 else value  # protobuf's JSON
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return int(value) if number and 0 <= value < MOST_COUNTED and value % 1 == 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a reply used; ``None`` where the reply does not say.

    Attributes
    ----------
    prompt_tokens : int or None
        Tokens of the prompt, the cached ones included.
    cached_tokens : int or None
        Tokens of the prompt that were read from the service's cache.
    tool_tokens : int or None
        Tokens that the search brought into the prompt.
    thinking_tokens : int or None
        Tokens of thinking; with ``combined``, of thinking and tool use together.
    output_tokens : int or None
        Tokens of the answer, without those of thinking.
    total_tokens : int or None
        All tokens, as the service counts them.
    searches : int or None
        Searches that are charged for. None is unknown, and so is the cost, unless none was asked for.
    combined : bool
        The reply gave only the sum of thinking and tool use.
    tier : str or None
        The tier at which the service answered; without one it counts as standard.

    Examples
    --------
    >>> Usage(prompt_tokens=1200, output_tokens=-1).output_tokens is None
    True
    """

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    tool_tokens: int | None = None
    thinking_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    searches: int | None = None
    combined: bool = False
    tier: str | None = None

    def __post_init__(self) -> None:
        # A client of your own may return numpy's numbers or worse: a wrong count is unknown, and costs no reply.
        for name in self.__slots__:
            if name not in ("combined", "tier"):
                object.__setattr__(self, name, whole_count(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Source:
    """A page that the search brought.

    Attributes
    ----------
    url, title : str
        The page's address, often a redirect of Google's, and its title, often its domain only.

    Examples
    --------
    >>> Source("https://www.acme.example/team").title
    ''
    """

    url: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Support:
    """A stretch of a reply's text that pages back.

    Attributes
    ----------
    start, end : int
        Where it begins and ends, in bytes of the text's UTF-8; the byte at the end is not included.
    sources : tuple of int
        The pages behind it, as places in the reply's ``sources``, the first one 0.

    Examples
    --------
    >>> Support(start=0, end=24, sources=(0, 2)).sources
    (0, 2)
    """

    start: int
    end: int
    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a request brought no usable answer.

    Attributes
    ----------
    cause : str
        One of the causes of `Cause`, such as ``"rate"``, ``"timeout"`` or ``"truncated"``.
    message : str
        What the service or the connection said, without any key.
    status : int or None
        The HTTP status.
    retry_after_seconds : float or None
        Seconds after which the service would like to be asked again.
    quota : str or None
        The name of the quota that was exceeded.
    may_be_charged : bool
        The service may have answered, as when a connection breaks after the request was sent, or on any timeout.
    usage : Usage or None
        What was used, where the service charges for it all the same.

    Raises
    ------
    ValueError
        If there is no such cause.

    Examples
    --------
    >>> print(Failure(cause="timeout", message="no reply within 120 s"))
    timeout: no reply within 120 s
    """

    cause: Cause
    message: str = ""
    status: int | None = None
    retry_after_seconds: float | None = None
    quota: str | None = None
    may_be_charged: bool = False
    usage: Usage | None = None

    def __post_init__(self) -> None:
        if self.cause not in get_args(Cause):
            raise ValueError(f"There is no cause {self.cause!r}; it is one of {', '.join(get_args(Cause))}.")
        object.__setattr__(self, "may_be_charged", self.may_be_charged or self.cause == "timeout")
        # A service's words may hold what moves a terminal's cursor or rings its bell.
        object.__setattr__(self, "message", plain(" ".join(self.message.split()), LONGEST_MESSAGE))

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
    """What came back for a `Request`; a client of your own needs only ``text``, a JSON object.

    Attributes
    ----------
    text : str or None
        The answer's text.
    usage : Usage
        What it used, in tokens and searches.
    model_version : str or None
        The model that answered; its price counts.
    finish_reason, block_reason : str or None
        Why the model stopped writing, and why the prompt was refused, as the service says.
    sources : tuple of Source
        The pages that the search brought.
    supports : tuple of Support
        Which stretches of the text which pages back.
    queries : tuple of str
        What was searched for, each query once.
    suggestions_html : str or None
        Links to further searches, which Google wants shown with the answer.
    response_id : str or None
        The service's id of this reply.
    raw : str or None
        The body as it came, kept so that a later parser can read it again for nothing.
    failure : Failure or None
        Why there is no usable text.

    Raises
    ------
    TypeError
        If ``text``, ``raw``, ``usage`` or ``failure`` is of another type.

    Examples
    --------
    >>> Reply(text='{"industry": "Software"}').paid
    True
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
        if isinstance(self.failure, Failure) and self.failure.usage is not None and self.usage == Usage():
            object.__setattr__(self, "usage", self.failure.usage)
        kinds = {"text": str | None, "raw": str | None, "usage": Usage, "failure": Failure | None}
        for name, kind in kinds.items():
            if not isinstance(value := getattr(self, name), kind):
                given = type(value).__name__
                raise TypeError(f"Reply.{name} must not be a {given}; help(enrichkit.messages.Reply) says what it is.")
        for name in ("model_version", "finish_reason", "block_reason", "suggestions_html", "response_id"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, str(value))
        for name in ("sources", "supports", "queries"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))

    @property
    def paid(self) -> bool:
        """Whether the service charges for this reply."""
        return self.failure is None or self.failure.cause in PAID or self.failure.usage is not None


Client = Callable[[Request], Reply]
"""Answers a request. It returns failures as values; what it raises counts as cause ``client``."""
