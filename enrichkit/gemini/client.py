"""The clients: Gemini by either SDK, or one of the user's own, each a callable from `Request` to `Reply`.

A key never leaves its client: not in a message, not in a pickle. Whatever a client of one's own returns or raises
becomes a reply. This room does not decide about trying again, waiting or money.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import json
import logging
import os
import re
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, NoReturn
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from ..errors import MissingKeyError, SetupError, StoreError
from ..messages import KEY_NAMES, SIMULATOR, Cause, Client, Failure, Reply, Request
from .refusals import classify, failure_of
from .sdks import ENDPOINT_NAME, Sdk
from .wire import parse, readable, with_searches

LEAVING = re.compile(
    "(https?|all)_proxy|ssl_cert_(file|dir)|(requests|curl)_ca_bundle|google_api_use_.*", re.IGNORECASE
)
"""The variables that say by which proxy and with which certificates requests leave."""
PASSWORD = re.compile(r"//[^/\s@]*@")
"""Who an address is for, and their password."""
SHORTEST_KEY = 8
"""Anything shorter is a stand-in for a simulator, and may be a word of an innocent message."""
ENVELOPE = frozenset(
    "choices candidates content output_text usage usage_metadata usageMetadata response_metadata eval_count".split()
)
"""What a service's own reply or message has, and an answer has only if it was asked for."""
LONGEST_KEPT = 1_000_000
LOG = logging.getLogger("enrichkit")
NOT_LET_OUT = re.compile(r"ProxyError|ConnectError: \[SSL: (?!UNEXPECTED_EOF)")
"""How the errors of a proxy that refuses, and of a certificate that is not trusted, begin: nothing reached Gemini."""


@contextlib.contextmanager
def client_of(client: str | Client, *, model: str, needed: bool) -> Iterator[Client]:
    """Yield what answers requests; with the simulator, a server on loopback for as long as the run lasts."""
    with contextlib.ExitStack() as opened:
        if callable(client):
            yield OwnClient(client)
        elif not needed:
            yield _unplanned
        elif model != SIMULATOR:
            yield opened.enter_context(contextlib.closing(connect(client, **access())))
        else:
            from .simulator import Simulator

            url = opened.enter_context(Simulator()).url
            yield opened.enter_context(contextlib.closing(connect(client, key=SIMULATOR, base_url=url)))


def _unplanned(_: Request) -> Reply:
    raise StoreError("A request was sent although none was planned. This is a bug; please report it.")


def reply_of(client: Client, request: Request) -> Reply:
    """Return a client's reply, which says how often it searched where it did not."""
    return with_searches(client(request), unknown=None if request.search else 0)


def connect(name: str, *, key: str, base_url: str | None = None) -> Gemini:
    """Return a client that is safe to call from many threads.

    Raises
    ------
    SetupError
        If its package is not installed, or no request can leave this machine.
    """
    try:
        sdk = Sdk(name, key, base_url)
    except SetupError:
        raise
    except Exception as error:  # a proxy of an unknown kind, a certificate that is not there, whatever an SDK refuses
        said = [f"{name}={value}" for name, value in os.environ.items() if LEAVING.fullmatch(name)]
        raise SetupError(
            "No request can leave this machine: {error}. The environment has {said}: fix or unset what is wrong.",
            error=error,
            said=PASSWORD.sub("//", ", ".join(said) or "no proxy and no certificate"),
        ) from error
    return Gemini(name, sdk, key=key)


def access() -> dict[str, Any]:
    """Return the key, and the address that a client is moved to, as the environment says.

    Raises
    ------
    MissingKeyError, SetupError
        If there is no key, or what the environment says of it or of the address is none.
    """
    address = os.environ.get(ENDPOINT_NAME, "").strip()
    key_name = next((name for name in KEY_NAMES if os.environ.get(name, "").strip()), None)
    if key_name is None:
        raise MissingKeyError(
            "No API key is set. Set {listed} in the environment, or use {model}={simulator!r}, which needs none.",
            listed=" or ".join(KEY_NAMES),
            simulator=SIMULATOR,
        )
    key = os.environ[key_name].strip()
    if not (key.isascii() and key.isprintable()):
        raise SetupError("{key_name} holds a letter that no key has. Copy the key again.", key_name=key_name)
    with contextlib.suppress(ValueError):
        parts = urlsplit(address)
        if not address or (parts.scheme in ("http", "https") and parts.hostname and parts.port != 0):
            return {"key": key, "base_url": address or None}
    raise SetupError(
        "{endpoint_name} is not an address such as https://host/path. Fix it, or unset it.", endpoint_name=ENDPOINT_NAME
    )


def in_words(request: Request) -> Request:
    """Return a request that asks for its JSON in words, without a schema beside."""
    schema = json.dumps(dict(request.schema), ensure_ascii=False, separators=(",", ":"))
    return dataclasses.replace(request, system=f"{request.system}\nThe JSON Schema of the object: {schema}", schema={})


def is_simulated(model: str, client: str | Client) -> bool | None:
    """Whether the simulator answers; unknown where another address or a user's client may lead anywhere."""
    if model == SIMULATOR:
        return True
    return None if callable(client) or os.environ.get(ENDPOINT_NAME) else False


def check_capabilities(name: str, *, thinking: str | int | None) -> None:
    """Raise `SetupError` if a client cannot send what is asked for."""
    if name == "google-generativeai" and thinking is not None:
        raise SetupError(
            "{client}='google-generativeai' cannot set 'thinking'. Use {client}='google-genai', or leave it out.",
        )


class Gemini:
    """A client, safe to call from many threads: `Request` to `Reply`, failures as values.

    Its ``sdk`` sends a request and returns the HTTP status, headers and body as they came; a broken connection raises.
    """

    def __init__(self, name: str, sdk: Sdk, *, key: str) -> None:
        self._name = name
        self._sdk = sdk
        self._key = key
        self._refusing: set[str] = set()
        self._answered = False

    def __call__(self, request: Request) -> Reply:
        """Send one request; a model that refuses search and schema together is asked once more, for JSON in words."""
        if request.json == "words" or (request.search and request.model in self._refusing):
            return self.send(in_words(request))
        reply = self.send(request)
        if not request.search or reply.failure is None or reply.failure.cause != "bad_request":
            return reply
        # Whatever words it was refused with: if it passes without the schema, that was the reason.
        again = self.send(in_words(request))
        if again.failure is not None and again.failure.cause == "bad_request":
            return reply
        self._refusing.add(request.model)
        return again

    def close(self) -> None:
        """Close the connections."""
        self._sdk.close()

    def __repr__(self) -> str:
        return f"<client {self._name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"The client {self._name} holds a key and open connections; make a new one where it is needed.")

    def send(self, request: Request) -> Reply:
        """Send one request as it is, and return what came of it."""
        try:
            status, headers, body = self._sdk.send(request)
        except SetupError as error:
            return Reply(failure=Failure(cause="not_sent", message=PASSWORD.sub("//", str(error))))
        except Exception as error:  # noqa: BLE001 - the transport's own errors; named by their class, they travel on
            message = PASSWORD.sub("//", self._scrubbed(f"{type(error).__name__}: {error}"))
            if NOT_LET_OUT.match(message):
                return Reply(failure=Failure(cause="not_sent", message=message))
            failure = failure_of(error, answered=self._answered) or Failure(cause="network", may_be_charged=True)
            return Reply(failure=dataclasses.replace(failure, message=message))
        self._answered = True
        if status < 300 and (reply := parse(body)).paid:
            return reply  # as it came; what else there is may repeat the key
        body = self._scrubbed(body)
        if status < 300:
            return parse(body)
        return Reply(failure=classify(status, PASSWORD.sub("//", readable(body)), headers))

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._key, "(key)") if len(self._key) >= SHORTEST_KEY else text


class OwnClient:
    """A client of one's own: whatever it returns or raises, as a reply; what it returns awaitable is awaited."""

    def __init__(self, client: Callable[[Request], Any]) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._answered = False
        self._raised: set[type] = set()

    def __call__(self, request: Request) -> Reply:
        try:
            came = self._client(request)
            if inspect.isawaitable(came):
                came = self._awaited(came, request.timeout_seconds)
            reply = came if isinstance(came, Reply) else self._read(came, request.schema.get("properties", {}))
        except BaseException as error:  # noqa: BLE001 - it may raise anything
            with contextlib.suppress(Exception):
                return Reply(failure=self._failure(error))
            words = f"{type(error).__name__}, which raises when it is read"
            return Reply(failure=Failure(cause="client", message=words, may_be_charged=True))
        if reply.failure is None and not reply.text:
            reply = dataclasses.replace(reply, failure=Failure(cause="empty", message="no text"))
        self._answered |= reply.failure is None
        return reply

    def _awaited(self, came: Awaitable[Any], seconds: float) -> Any:
        """Return what comes of it in time."""
        with LOOP_STARTS:
            loop = _event_loop(os.getpid())  # a forked process has the loop, without its thread
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(came, seconds), loop).result()

    def _read(self, came: Any, asked: Collection[str]) -> Reply:
        """Return a reply with the text of what was returned; what is plainly no answer is kept as it came."""
        try:
            return Reply(text=text_of(came, asked))
        except TypeError as error:
            # Once the client has answered it can: only this question has failed.
            cause: Cause = "empty" if self._answered else "no_answer"
            return Reply(raw=repr(came)[:LONGEST_KEPT], failure=Failure(cause=cause, message=str(error)))

    def _failure(self, error: BaseException) -> Failure:
        """Return what an error means; one that no service is to blame for is logged, each kind once."""
        if (failure := failure_of(error, answered=self._answered)) is not None:
            return dataclasses.replace(failure, message=PASSWORD.sub("//", failure.message))
        with self._lock:
            new = type(error) not in self._raised
            self._raised.add(type(error))
        if new:
            LOG.error("Your client failed, and with it the question; the service may have charged:", exc_info=error)
        message = PASSWORD.sub("//", f"{type(error).__name__}: {error}")
        return Failure(cause="client", message=message, may_be_charged=True)


@functools.cache
def _event_loop(_process: int) -> asyncio.AbstractEventLoop:
    """Return the loop in which all is awaited that clients of one's own return, in a thread of its own.

    It outlives a run: an SDK's open connections belong to the loop in which they were made.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="enrichkit-loop", daemon=True).start()
    return loop


LOOP_STARTS = threading.Lock()


def text_of(came: Any, asked: Collection[str]) -> str:
    """Return the text of an answer that a client returned; raise `TypeError` for what is plainly none.

    >>> text_of({"crew": 14}, ["crew"])
    '{"crew": 14}'
    """
    if isinstance(came, str | bytes):
        return came if isinstance(came, str) else came.decode("utf-8", "replace")
    fields = _fields(came)
    wrapped = sorted(ENVELOPE.intersection(fields or ()).difference(asked))
    if fields is None or wrapped:
        inside = f" with {wrapped[0]!r}" if wrapped else ""
        kind = "None" if came is None else f"an object of type {type(came).__name__}{inside}"
        raise TypeError(f"the client returned {kind}, no answer; return its text, the fields asked for, or a Reply")
    return json.dumps(_plain(fields))


def _fields(came: Any) -> dict[str, Any] | None:
    """Return the fields of a mapping or of an object that has some; what was left at its default is not found."""
    if hasattr(came, "model_dump"):
        came = came.model_dump(mode="json", exclude_unset=True)
    elif dataclasses.is_dataclass(came) and not isinstance(came, type):
        came = {field.name: getattr(came, field.name) for field in dataclasses.fields(came)}
    return {str(name): part for name, part in came.items()} if isinstance(came, Mapping) else None


def _plain(part: Any) -> Any:
    """Return a part of an answer as JSON has it, whatever library it is from; None for what says that it is missing."""
    part = part.value if isinstance(part, Enum) else part
    if (fields := _fields(part)) is not None:
        return {name: _plain(inner) for name, inner in fields.items()}
    if isinstance(part, Iterable) and not isinstance(part, str | bytes):
        return [_plain(inner) for inner in part]
    if pd.isna(part):
        return None
    part = part.item() if isinstance(part, np.number | np.bool_) else part
    return part if isinstance(part, str | int | float) else str(part)
