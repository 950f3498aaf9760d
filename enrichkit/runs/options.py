"""The options of a call: every setting of `enrichkit.run`, its default and its limits, in one place.

Only the rooms that make a call know it; everything below takes the settings that it uses, one by one.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, get_args

import pandas as pd

from ..errors import InputError
from ..formatting import Sentence, perhaps, setting
from ..messages import CLIENTS, DEFAULT_MODEL, SIMULATOR, Client, Tier
from ..planning.questions import OnChange
from ..planning.records import Priority
from ..pricing.prices import PREFIX, Price
from ..progress.notify import NOTIFY
from ..stages.choice import Fields
from ..stages.stage import Stage
from ..store.files import check_place, folder_of
from ..table.arrow import as_frame

DEADLINES: dict[str, float] = {"standard": 180.0, "flex": 900.0}
"""By tier, the time that one request may take, in seconds, if nothing else is given."""

P = ParamSpec("P")
T = TypeVar("T")
Rule = tuple[Callable[[Any], bool], str]
"""Whether a value of a setting is allowed, and what it must be, in words."""


class Addresses(tuple[str, ...]):
    """Where notifications go. They are secrets: they are never shown, and a pickle or a copy has none of them.

    >>> Addresses(["json://example.org/secret"])
    <1 secret addresses>
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} secret addresses>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Addresses, ()


def _whole(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _positive(value: Any) -> bool:
    number = isinstance(value, numbers.Real | Decimal) and not isinstance(value, bool)
    return number and bool(value > 0)


def _choice(*values: object) -> Rule:
    *others, last = map(repr, values)
    return lambda value: value in values, f"{', '.join(others)} or {last}"


MOST_PARTS = 9999
RULES: dict[str, Rule] = {
    "rpm": (lambda value: value is None or _positive(value), "a number above 0"),
    "budget_usd": (lambda value: value is None or _positive(value), "a number above 0"),
    "deadline_seconds": (lambda value: value is None or _positive(value), "a number above 0"),
    "patience_seconds": (lambda value: value is None or _positive(value), "a number above 0"),
    "delay_seconds": (lambda value: isinstance(value, int | float) and 0 <= value < math.inf, "a number of seconds"),
    "shard_rows": (lambda value: value is None or _whole(value), "a whole number above 0"),
    "cluster": (
        lambda value: (
            value is None or (hasattr(value, "subscribe_topic") and not getattr(value, "asynchronous", False))
        ),
        "a client of dask.distributed, not an asynchronous one",
    ),
    "parts": (lambda value: value is None or (_whole(value) and value <= MOST_PARTS), f"1 to {MOST_PARTS:,}"),
    "limit": (lambda value: value is None or _whole(value, 0), "a number of records"),
    "retry_failed": _choice(True, "only", False),
    "on_change": _choice(*get_args(OnChange)),
    "progress": _choice("auto", "widget", "html", "text", "off", True, False),
    "tier": _choice(*DEADLINES),
    "model": (_is_text, f"a model's name, such as {DEFAULT_MODEL!r} or {SIMULATOR!r}"),
    "client": (
        lambda value: value in CLIENTS or (callable(value) and not isinstance(value, type)),
        Sentence("{listed}, or a callable{in_python} that is no class", listed=" or ".join(map(repr, CLIENTS))),
    ),
    "key": (lambda value: value is None or isinstance(value, str | Sequence), "a column's name or several"),
    "priority": (
        lambda value: value is None or isinstance(value, str) or callable(value),
        "a column's name or a function of the table",
    ),
    "names": (lambda value: isinstance(value, Mapping), "a mapping of the stages' names to the table's columns"),
    "prices": (
        lambda value: isinstance(value, Mapping) and all(isinstance(price, Price) for price in value.values()),
        "a mapping of models' names to enrichkit.Price(...)",
    ),
}
"""What each setting must be, as far as that does not depend on other settings."""
WORKERS = Sentence("a whole number from 1 to 20, or to 1000 with an explicit {rpm}")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of a call, checked when it is made.

    This text is also that of `enrichkit.run`, `enrichkit.start` and `enrichkit.plan`, and its first sentences are the
    command line's help. The ``flag`` in a field's metadata is its name there, and the rest is what `argparse` has to
    know; a field without a flag is for Python only.

    Parameters
    ----------
    out : str or Path
        The folder of the shards, checkpoint and output in one; ``<out>.work`` lies beside it.
    stages : sequence of str or Stage, optional
        What is asked of each record: ``"poc"``, ``"fund"``, ``"deep"``, or stages of your own; default: ``"poc"`` and
        ``"fund"``.
    prompt : str, optional
        A question in place of ``stages``: it makes a stage ``answer``, as ``Stage("answer", prompt=prompt, ...)``.
        Columns stand in braces: ``"Research {name} in {country}."``
    fields : mapping of str to type, or type; optional
        What ``prompt`` asks for, and fills in columns of these names: each field's type, such as ``str`` or ``int``, or
        ``(type, "description")``; or a pydantic model.
    key : str or sequence of str, optional
        The columns that identify a record; default: what ``prompt`` reads, else fund title, first and last name.
    names : mapping of str to str, optional
        Columns that the stages know by other names, such as ``{"fund.title": "Firm"}``. What is returned has the
        table's own names, the store those of the stages.
    model : str, optional
        The model, or ``"simulator"``: no key, no cost, same wire. ``models/`` before its name says nothing. Default:
        ``"gemini-3.5-flash-lite"``; a client of your own needs a name here, whose price counts. Where several providers
        sell it, the name of one goes before: ``"openai:gpt-5-mini"``.
    client : str or callable
        ``"google-genai"``, ``"google-generativeai"``, or any callable `Request` → `Reply`.
    tier : {"standard", "flex"}
        How soon the service is to answer, and at which price of a token. With ``"flex"`` it takes minutes, up to 15,
        and half the price, where the service offers it; what it has no room for (503) is waited for like a rate. A
        search costs the same, and each reply is charged by the tier that it names.
    workers : int
        Requests at a time, 1 to 20; more need an explicit ``rpm``.
    rpm : float, optional
        Requests a minute at most; default: learned from the service's refusals.
    budget_usd : float, optional
        Never spend more than this, in USD, on this store. What earlier runs spent counts too. Replies are counted at
        list price, and a request that may have been charged without one (silence, a broken connection) at its worst
        case, for as long as the run lasts. Once 80 % is spent, the logger ``enrichkit`` warns, once a run.
    prices : mapping of str to Price, optional
        Prices of your own, by model.
    retry_failed : bool or "only"
        Ask the failed stages of failed records again; ``"only"``: and leave all other records for a later call.
    reread : bool
        Read all stored answers again, at no cost. Whatever changes in your models and checks is noticed, but not what
        they read from files, or import while they run.
    on_change : {"refuse", "redo", "keep"}
        What to do where a stage now asks another question than the one that was answered.
    redo_damaged : bool
        Quarantine shards that fail a checksum, and ask for their records again; also go on where shards were removed,
        copied or replaced by older ones.
    limit : int, optional
        Work on this many records at most; the rest stays pending.
    priority : str or callable, optional
        A column, or a function of the table, with a number per record; the highest are asked first.
    shard_rows : int, optional
        Rows per shard; default: 50, of a table of more than 20,000 records as many as make 400 shards.
    cluster : distributed.Client, optional
        Ask from all processes of a dask cluster, which share a file system; needs ``rpm``, which is shared out, and
        ``pip install 'enrichkit[dask]'``. Each worker has the key in its own environment. It pays from some thousand
        questions a process.
    parts : int, optional
        With a cluster, in how many parts the table is divided, each asked by one process at a time; default: as the
        store has, else 64.
    deadline_seconds : float, optional
        The time that one request may take, in seconds; default: 180, with ``tier="flex"`` 900. Tries and waits after
        errors count, waiting for the pace does not; the first try has half of it, with ``tier="flex"`` all. An answer
        that cannot be read is asked for again, with its own deadline.
    patience_seconds : float or None
        How long refusals are waited for, in seconds, while nothing is accepted, before the run ends; pauses do not
        count. None waits for ever. With a cluster, its workers are waited for as long.
    notify : str or list of str, optional
        Where to send a short notification when the run ends, however it ends. Addresses of `apprise`, for Slack,
        Discord, email, a webhook, ... (needs ``pip install 'enrichkit[notify]'``). Each gets one, with counts, cost,
        the store's path and what to do next, but no record's text. A call that finds everything done sends none, nor
        does one that is refused before it begins. A notification that fails is a warning of the logger ``enrichkit``
        and delays the end by 10 s at most. The address is a secret: keep it in the environment variable
        ``ENRICHKIT_NOTIFY`` (several with blanks between them), which counts where ``notify`` is None; an empty list
        means no notification at all.
    progress : {"auto", "widget", "html", "text", "off", False}
        How the run shows itself. ``"widget"``: a live view with buttons, in a notebook; ``"html"``: the same without
        buttons or ipywidgets; ``"text"``: a line every five seconds; ``"off"`` or ``False``: not at all. ``"auto"``
        takes what the environment variable ``ENRICHKIT_PROGRESS`` says (one of these words), else the widget in a
        notebook, text in papermill, nbclient and logs, and a bar in a terminal. What is not available falls back to
        the next best. In a notebook a static summary is left at the end. After `start` the live view is below the cell
        that started the run, and wherever `Run.show` is called.
    delay_seconds : float
        Ask a record's stages one after the other, and wait this many seconds between them. Usually not needed: the
        pace keeps to the service's limits.
    """

    out: str | Path = "enriched"
    stages: Sequence[str | Stage] | None = field(default=None, metadata={"flag": "--stages", "metavar": "NAMES"})
    prompt: str | None = field(default=None, metadata={"flag": "--prompt", "metavar": "TEXT"})
    fields: Fields | None = field(
        default=None, metadata={"flag": "--field", "metavar": "NAME:TYPE", "action": "append"}
    )
    key: str | Sequence[str] | None = field(
        default=None, metadata={"flag": "--key", "metavar": "COLUMN", "action": "append"}
    )
    names: Mapping[str, str] = field(
        default_factory=dict, metadata={"flag": "--map", "metavar": "NAME=COLUMN", "action": "append"}
    )
    model: str = field(default=None, metadata={"flag": "--model", "metavar": "NAME"})  # type: ignore[assignment]
    client: str | Client = field(default="google-genai", metadata={"flag": "--client", "metavar": "NAME"})
    tier: Tier = field(default="standard", metadata={"flag": "--tier", "choices": tuple(DEADLINES)})
    workers: int = field(default=10, metadata={"flag": "--max-workers", "metavar": "N"})
    rpm: float | None = field(default=None, metadata={"flag": "--rpm", "metavar": "N"})
    budget_usd: float | None = field(default=None, metadata={"flag": "--budget", "metavar": "USD"})
    prices: Mapping[str, Price] = field(default_factory=dict)
    retry_failed: bool | Literal["only"] = field(
        default=False, metadata={"flag": "--retry-failed", "action": "store_const", "const": "only"}
    )
    reread: bool = field(default=False, metadata={"flag": "--reread", "action": "store_true"})
    on_change: OnChange = field(default="refuse", metadata={"flag": "--on-change", "choices": get_args(OnChange)})
    redo_damaged: bool = field(default=False, metadata={"flag": "--redo-damaged", "action": "store_true"})
    limit: int | None = field(default=None, metadata={"flag": "--limit", "metavar": "N"})
    priority: Priority = field(default=None, metadata={"flag": "--priority", "metavar": "COLUMN"})
    shard_rows: int | None = field(default=None, metadata={"flag": "--shard-rows", "metavar": "N"})
    cluster: Any = None
    parts: int | None = None
    deadline_seconds: float | None = None
    patience_seconds: float | None = field(default=600.0, metadata={"flag": "--patience", "metavar": "SECONDS"})
    notify: str | Sequence[str] | None = field(
        default=None, metadata={"flag": "--notify", "metavar": "URL", "action": "append"}
    )
    progress: Literal["auto", "widget", "html", "text", "off"] | bool = field(
        default="auto", metadata={"flag": "--progress", "choices": ("auto", "text", "off")}
    )
    delay_seconds: float = field(default=0.0, metadata={"flag": "--delay", "metavar": "SECONDS"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "notify", _addresses(self.notify))
        if self.model is None and callable(self.client):
            raise InputError("A {client} of your own needs {model}, the model that it asks: its price counts.")
        if self.model is None:
            object.__setattr__(self, "model", DEFAULT_MODEL)
        elif isinstance(self.model, str):
            object.__setattr__(self, "model", self.model.removeprefix(PREFIX))
        check_place(self.folder)
        most = 20 if self.rpm is None else 1000
        workers: Rule = (lambda value: _whole(value) and value <= most, WORKERS)
        for name, (holds, what) in (RULES | {"workers": workers}).items():
            if not holds(value := getattr(self, name)):
                raise InputError(
                    "{name} must be {what}, not {value!r:.200}.", name=setting(name), what=what, value=value
                )
        if self.cluster is None and self.parts is not None:
            raise InputError("{parts} are for a {cluster}. Give both, or neither.")
        if self.cluster is not None and self.rpm is None:
            raise InputError("A {cluster} needs {rpm}: the requests a minute that its processes share.")
        object.__setattr__(self, "prices", {name.removeprefix(PREFIX): price for name, price in self.prices.items()})

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the shards."""
        return folder_of(self.out)

    @property
    def addresses(self) -> Addresses:
        """Where notifications go."""
        return self.notify if isinstance(self.notify, Addresses) else Addresses()

    @property
    def client_name(self) -> str:
        """The client's name, for the store."""
        return self.client if isinstance(self.client, str) else getattr(self.client, "__name__", "callable")


def _addresses(value: object) -> Addresses:
    """Return the addresses for notifications; an error does not repeat them."""
    if value is None:
        return Addresses(os.environ.get(NOTIFY, "").split())
    given = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else None
    if given is None or not all(map(_is_text, given)):
        raise InputError("{notify} must be an address such as json://host/path, or a list of such.")
    return Addresses(address.strip() for address in given)


def check_names(verb: str, settings: Mapping[str, object], known: Collection[str]) -> None:
    """Raise for a setting that a function does not have."""
    for name in sorted(settings.keys() - known):
        hint = perhaps(name, known)
        raise InputError("{verb} has no argument {name!r}.{hint}", verb=verb, name=name, hint=hint)


def takes(
    options: Callable[P, Options],
) -> Callable[[Callable[[pd.DataFrame, Options], T]], Callable[Concatenate[pd.DataFrame, P], T]]:
    """Give a function that works on a table the options as keyword arguments, with their names, types and defaults.

    Their text replaces ``{settings}`` in its docstring.
    """

    def decorate(verb: Callable[[pd.DataFrame, Options], T]) -> Callable[Concatenate[pd.DataFrame, P], T]:
        known = inspect.signature(options).parameters

        @functools.wraps(verb)
        def call(df: pd.DataFrame, /, *args: P.args, **settings: P.kwargs) -> T:
            check_names(verb.__name__, settings, known)
            return verb(as_frame(df), options(*args, **settings))

        frame, *_ = inspect.signature(verb).parameters.values()
        returns = inspect.signature(verb).return_annotation
        call.__doc__ = inspect.cleandoc(verb.__doc__ or "").replace("{settings}", _settings_text())
        call.__signature__ = inspect.Signature([frame, *known.values()], return_annotation=returns)  # type: ignore[attr-defined]
        return call

    return decorate


def _settings_text() -> str:
    """Return what the docstring of `Options` says of each setting."""
    return inspect.cleandoc(Options.__doc__ or "").partition("----------\n")[2]


def described() -> dict[str, str]:
    """Return the text of each setting in a line, by name.

    >>> described()["workers"]
    'Requests at a time, 1 to 20; more need an explicit ``rpm``.'
    """
    _, *parts = re.split(r"(?m)^(\w+) : .*\n", _settings_text())
    return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}
