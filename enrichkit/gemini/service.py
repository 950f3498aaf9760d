"""The service of a call: which key, address and client; and what is known to fail before anything is sent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..errors import BudgetError, MissingKeyError, SetupError, StoreError
from ..messages import SIMULATOR, Client
from ..options import Options
from ..pricing.prices import lacking
from ..stages.stage import Stage
from .client import check_capabilities, connect

KEY_NAMES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
ENDPOINT_NAME = "GOOGLE_GEMINI_BASE_URL"


def is_simulated(options: Options) -> bool | None:
    """Whether the simulator answers; unknown where another address or a client of one's own may lead anywhere."""
    if options.model == SIMULATOR:
        return True
    return None if callable(options.client) or os.environ.get(ENDPOINT_NAME) else False


def check_call(options: Options, stages: Sequence[Stage]) -> None:
    """Raise for whatever a request would fail for: no key, a client that lacks something, a price nobody knows."""
    for stage in stages:
        if isinstance(options.client, str):
            check_capabilities(options.client, thinking=stage.thinking)
        told = lacking(stage.model or options.model, search=stage.search, prices=options.prices)
        if options.budget_usd is not None and told:
            raise BudgetError(f"{told}. Or leave budget_usd out: without that price it cannot be held.")
    if isinstance(options.client, str) and options.model != SIMULATOR:
        _api_key()
        _endpoint()


def _api_key() -> str:
    for name in KEY_NAMES:
        if key := os.environ.get(name, "").strip():
            if not (key.isascii() and key.isprintable()):
                raise SetupError(f"{name} holds a letter that no key has. Copy the key again.")
            return key
    raise MissingKeyError(
        f"No API key is set. Set {KEY_NAMES[0]} (or {KEY_NAMES[1]}) in the environment, or use model={SIMULATOR!r}, "
        "which needs none."
    )


def _endpoint() -> str | None:
    """Return the address that the environment moves the clients to."""
    address = os.environ.get(ENDPOINT_NAME, "").strip()
    with contextlib.suppress(ValueError):
        parts = urlsplit(address)
        if not address or (parts.scheme in ("http", "https") and parts.hostname and parts.port != 0):
            return address or None
    raise SetupError(f"{ENDPOINT_NAME} is no address such as https://host/path. Mend it, or unset it.")


@contextlib.contextmanager
def client_of(options: Options, *, needed: bool) -> Iterator[Client]:
    """Yield what answers requests; with the simulator, a server on loopback for as long as the run lasts."""
    if callable(options.client):
        yield options.client
    elif options.model != SIMULATOR:
        with contextlib.closing(connect(options.client, key=_api_key(), base_url=_endpoint())) as client:
            yield client
    elif needed:
        from .simulator import Simulator

        with (
            Simulator() as simulator,
            contextlib.closing(connect(options.client, key=SIMULATOR, base_url=simulator.url)) as client,
        ):
            yield client
    else:
        yield _nobody


def _nobody(_: Any) -> Any:
    raise StoreError("Nothing was to be asked, and yet something was. Please report this.")
