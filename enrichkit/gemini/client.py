"""Gemini: two clients behind one callable, and what the environment says of key and address.

A key never leaves its client: not in a message, not in a pickle. This room does not decide about trying again, waiting
or money.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import socket
from collections.abc import Iterator
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ..errors import MissingKeyError, SetupError, StoreError
from ..messages import CLIENTS, KEY_NAMES, SIMULATOR, Cause, Client, Failure, Reply, Request
from .refusals import classify
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
NEVER_SENT = frozenset("ConnectError ConnectTimeout InvalidURL LocalProtocolError UnsupportedProtocol".split())
"""Errors of the HTTP library before anything has left."""
NOT_LET_OUT = re.compile(r"ProxyError|ConnectError: \[SSL: (?!UNEXPECTED_EOF)")
"""How the errors of a proxy that refuses, and of a certificate that is not trusted, begin: nothing reached Gemini."""


@contextlib.contextmanager
def client_of(client: str | Client, *, model: str, needed: bool) -> Iterator[Client]:
    """Yield what answers requests; with the simulator, a server on loopback for as long as the run lasts."""
    with contextlib.ExitStack() as opened:
        if callable(client):
            yield client
        elif model != SIMULATOR:
            yield opened.enter_context(contextlib.closing(connect(client, **access())))
        elif needed:
            from .simulator import Simulator

            url = opened.enter_context(Simulator()).url
            yield opened.enter_context(contextlib.closing(connect(client, key=SIMULATOR, base_url=url)))
        else:
            yield _unplanned


def _unplanned(_: Request) -> Reply:
    raise StoreError("A request was sent although none was planned. This is a bug; please report it.")


def reply_of(client: Client, request: Request) -> Reply:
    """Return a client's reply; what it raises is a failure, too."""
    try:
        reply = client(request)
        if not isinstance(reply, Reply):
            raise TypeError(f"the client returned a {type(reply).__name__}, not an enrichkit.messages.Reply")
    except BaseException as error:  # noqa: BLE001 - a client of one's own may raise anything
        silent, broken = isinstance(error, TimeoutError), isinstance(error, OSError)
        cause: Cause = "timeout" if silent else "network" if broken else "client"
        unsent = isinstance(error, ConnectionRefusedError | socket.gaierror)
        message = f"{type(error).__name__}: {error}"[:300]
        return Reply(failure=Failure(cause=cause, message=message, may_be_charged=not unsent))
    return with_searches(reply, unknown=None if request.search else 0)


def connect(name: str, *, key: str, base_url: str | None = None) -> Gemini:
    """Return a client that is safe to call from many threads.

    Raises
    ------
    SetupError
        If there is no client of that name, or its package is not installed.
    """
    if name not in CLIENTS:
        raise SetupError("There is no client {name!r}; choose one of {listed}.", name=name, listed=", ".join(CLIENTS))
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

    Its ``sdk`` sends a request and returns the HTTP status and the body as they came; a broken connection raises.
    """

    def __init__(self, name: str, sdk: Sdk, *, key: str) -> None:
        self._name = name
        self._sdk = sdk
        self._key = key
        self._refusing: set[str] = set()

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
            status, body = self._sdk.send(request)
        except SetupError as error:
            return Reply(failure=Failure(cause="not_sent", message=PASSWORD.sub("//", str(error))))
        except Exception as error:  # noqa: BLE001 - the transport's own errors; named by their class, they travel on
            name, message = type(error).__name__, PASSWORD.sub("//", self._scrubbed(f"{type(error).__name__}: {error}"))
            if NOT_LET_OUT.match(message):
                return Reply(failure=Failure(cause="not_sent", message=message))
            # A connection that was never made carried nothing; any other may have brought the request to an answer.
            sent = name not in NEVER_SENT
            cause: Cause = "timeout" if sent and "Timeout" in name else "network"
            return Reply(failure=Failure(cause=cause, message=message, may_be_charged=sent))
        if status < 300 and (reply := parse(body)).paid:
            return reply  # as it came; what else there is may repeat the key
        body = self._scrubbed(body)
        return parse(body) if status < 300 else Reply(failure=classify(status, PASSWORD.sub("//", readable(body))))

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._key, "(key)") if len(self._key) >= SHORTEST_KEY else text
