"""The notification: one short message at a run's end, to Slack, Discord, email, a webhook, ... by `apprise`.

It holds the facts of the view, the store's path and what to do next: no record's text, no message of the service or of
an error (either may quote a record), no key. An address is a secret, and is handed to a process of its own (`sender`);
of what comes back, only whether it arrived is ever logged. A notification that fails is logged, and ends no run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, SetupError
from ..formatting import PYTHON, Sentence, joined, plain, spelled
from ..messages import KEY_NAMES
from ..status import Status, next_step, stop_reason_text
from .view import again, is_early, one_line

LONGEST_SECONDS = 10.0
"""How long the end of a run waits for its notifications."""
SENDER = Path(__file__).with_name("sender.py")
LOG = logging.getLogger("enrichkit")
NOTIFY = "ENRICHKIT_NOTIFY"
"""The environment variable with the addresses, separated by blanks, for calls that name none."""


def check_addresses(addresses: Sequence[str]) -> None:
    """Raise if any of the notifications could not be sent; nothing is sent."""
    if not addresses:
        return
    installed = importlib.util.find_spec("apprise") is not None
    services = _ask_sender(addresses, None) if installed else {}
    if len(services) < len(addresses):
        raise SetupError(
            "{notify} (or {variable}) needs the package apprise{trouble}: "
            "pip install 'enrichkit[notify]' --upgrade, or give an empty list.",
            variable=NOTIFY,
            trouble=f", which does not start with {sys.executable or 'no Python at all'}" if installed else "",
        )
    unknown = [place for place, service in services.items() if service is None]
    if unknown:
        raise InputError(
            "{notify} (or {variable}): {address} is not an address that apprise supports: "
            "unknown, incomplete, or in need of another package. "
            "https://github.com/caronc/apprise lists them, such as json://host/path. It is not "
            "repeated here, since it may hold a secret.",
            variable=NOTIFY,
            address=_which(addresses, unknown[0]),
        )


def notify(
    addresses: Sequence[str],
    folder: Path,
    status: Callable[[], Status],
    error: BaseException | None,
    *,
    spelling: Mapping[str, str] = PYTHON,
) -> None:
    """Send a run's notification, if there is one to send; return after `LONGEST_SECONDS` at the latest, never raise.

    ``spelling`` names what is to be done as the caller knows it, in Python or in the shell.

    A failure is logged rather than warned of: this is the run's own thread, where a warning that is an error would end
    it before it is done.
    """
    try:
        notification = notification_of(status(), folder, error, spelling) if addresses else None
        if notification is None:
            return
        arrived = _ask_sender(addresses, notification)
        for place in range(len(addresses)):
            if not arrived.get(place):
                cause = "it was refused or not answered" if place in arrived else f"no answer in {LONGEST_SECONDS:g} s"
                LOG.warning("The notification of the run's end did not reach %s: %s.", _which(addresses, place), cause)
    except Exception as mistake:  # noqa: BLE001 - a run that has succeeded does not fail for its notification
        with contextlib.suppress(Exception):  # nor for a handler of the caller's
            LOG.warning("The notification of the run's end failed (%s).", type(mistake).__name__)


def notification_of(
    status: Status, folder: Path, error: BaseException | None, spelling: Mapping[str, str]
) -> dict[str, str] | None:
    """Return what to say of a run that has ended, as `apprise` takes it; None if all was done before it began."""
    if error is not None:
        ending, kind = "failed", "failure"
    elif is_early(status):
        ending, kind = f"stopped ({status.stopping})", "warning"
    elif status.failed:
        ending, kind = f"done, {status.failed:,} failed", "warning"
    elif status.records:
        ending, kind = "done", "success"
    else:
        return None
    store = repr(str(folder)) if spelling is PYTHON else shlex.quote(str(folder))
    lines = [
        one_line(status, ended=True),
        f"Store: {plain(str(folder), most=0)} on {plain(platform.node())}",
        spelled(_what_next(status, plain(store, most=0), error), spelling),
    ]
    return {"title": f"enrichkit: {plain(folder.name)}: {ending}", "body": "\n".join(lines), "notify_type": kind}


def _what_next(status: Status, store: str, error: BaseException | None) -> Sentence:
    """Return what to do now. What the service or an error said is left out: it may quote a record."""
    if error is not None:
        return Sentence("{kind} ended it. The same {call} goes on.", kind=type(error).__name__)
    if status.stopping is not None and is_early(status):
        return joined([stop_reason_text(status.stopping, ""), next_step(status.stopping), "."], "")
    why = " says why some failed" if status.failed else ""
    report = Sentence("Next: {report_of}{store}{end_of_call}{why}", store=store, why=why)
    return joined(filter(None, [report, again(status)]), ". ")


def _which(addresses: Sequence[str], place: int) -> str:
    """Name an address by its place in the list and its scheme, since the rest is secret."""
    scheme = re.match(r"([a-z]{2,16})://", addresses[place], flags=re.IGNORECASE)
    return f"address {place + 1} of {len(addresses)}" + (f" ({scheme[0].lower()})" if scheme else "")


def _ask_sender(addresses: Sequence[str], message: dict[str, Any] | None) -> dict[int, Any]:
    """Return what the sender says of each address, in time: the kind of service, or whether the message went out."""
    kept = {name: value for name, value in os.environ.items() if name not in KEY_NAMES}
    try:
        answers = subprocess.run(
            [sys.executable or "", "-P", "-W", "ignore", str(SENDER)],
            input=json.dumps({"addresses": list(addresses), "message": message}).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=LONGEST_SECONDS,
            start_new_session=True,  # else an interrupt of the run would end it too
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as late:
        answers = late.stdout or b""
    except OSError:
        return {}
    return dict(json.loads(line) for line in answers.splitlines() if line.endswith(b"]"))
