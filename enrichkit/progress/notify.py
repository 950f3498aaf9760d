"""The notice: one short word at a run's end, to Slack, Discord, email, a webhook, ... by `apprise`.

It holds counts, money, the store's path and what to do next: no record's text, no message of the service or of an error
(either may quote a record), no key. An address is a secret, and is handed to a process of its own (`_messenger`); of
what comes back, only the kind of service is ever told. A notice that fails is logged, and ends no run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError, LockedError, SetupError, StoreError
from ..formatting import amount, duration, many, plain
from ..messages import KEY_NAMES
from ..status import Status, next_step, stop_reason_text
from .view import again, is_early, left_for_later

LONGEST_SECONDS = 10.0
"""A run's end waits no longer than that for its notices."""
MESSENGER = Path(__file__).with_name("sender.py")
LOG = logging.getLogger("enrichkit")
NOTIFY = "ENRICHKIT_NOTIFY"
"""The environment variable with the addresses of notices, blanks between them, for calls that name none."""
BY_PERSON = {"interrupt": "Interrupted. ", "stop": "Stopped by stop(). "}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a person is told of a run that has ended."""

    title: str
    body: str
    notify_type: Literal["success", "warning", "failure"]
    body_format: Literal["text"] = "text"


def check_addresses(addresses: Sequence[str]) -> None:
    """Raise if notices are wanted and one could not be sent; nothing is sent."""
    if not addresses:
        return
    if importlib.util.find_spec("apprise") is None:
        raise SetupError(f"notify (or {NOTIFY}) needs the package apprise: pip install 'enrichkit[notify]'")
    services = dict(_messenger(addresses, None))
    if len(services) < len(addresses):
        raise SetupError(
            f"notify (or {NOTIFY}) needs the package apprise, which does not start with "
            f"{sys.executable or 'no Python at all'}: pip install --upgrade 'enrichkit[notify]', or notify=[]."
        )
    unknown = [place for place, service in services.items() if service is None]
    if unknown:
        raise InputError(
            f"notify (or {NOTIFY}): {_which(addresses, unknown[0])} is none that apprise understands: unknown, "
            "incomplete, or in need of another package. https://github.com/caronc/apprise lists them, such as "
            "json://host/path. It is not repeated here, since it may hold a secret."
        )


def tell(
    addresses: Sequence[str],
    folder: Path,
    status: Callable[[], Status],
    error: BaseException | None,
    *,
    reword: Callable[[str], str] = str,
) -> None:
    """Send a run's notice, if there is one to send; return after `LONGEST_SECONDS` at the latest, and never raise.

    ``reword`` puts what is to be done into the words of who called.

    A failure is logged rather than warned of: this is the run's own thread, where a warning that is an error would end
    it before it is done.
    """
    try:
        notice = notice_of(status(), folder, error) if addresses else None
        if notice is None:
            return
        sent = dict(_messenger(addresses, asdict(replace(notice, body=reword(notice.body)))))
        for place in range(len(addresses)):
            if not sent.get(place):
                cause = "it was refused, or nobody was there" if place in sent else f"no word for {LONGEST_SECONDS:g} s"
                LOG.warning("The notice of the run's end did not reach %s: %s.", _which(addresses, place), cause)
    except Exception as mistake:  # noqa: BLE001 - a run that has succeeded does not fail for its notice
        with contextlib.suppress(Exception):  # nor for a handler of the caller's
            LOG.warning("The notice of the run's end failed (%s).", type(mistake).__name__)


def notice_of(status: Status, folder: Path, error: BaseException | None) -> Notice | None:
    """Return what to say of a run that has ended; None if all was done before it began."""
    early = is_early(status)
    if not status.records and not early and error is None:
        return None
    done, failed, left = status.done, status.failed, status.left
    kind: Literal["success", "warning", "failure"] = "success"
    if error is not None:
        ending, kind = "failed", "failure"
    elif early:
        ending, kind = f"stopped ({status.stopping})", "warning"
    elif failed:
        ending, kind = f"done, {failed:,} failed", "warning"
    else:
        ending = "done"
    later = f" {left_for_later(status)}." if status.later else ""
    lines = [
        f"{done:,} done, {failed:,} failed, {left:,} left, of {many(status.records, 'record')}, in "
        f"{duration(status.seconds)}.{later}",
        _money(status),
        f"Store: {plain(str(folder), most=0)} on {plain(platform.node())}",
        _next(status, str(folder), error),
    ]
    if status.traffic.unsaved:
        lost = many(status.traffic.unsaved, "reply", "replies")
        lines.insert(1, f"{lost} could not be saved, and will be asked, and paid, again.")
    title = f"enrichkit: {plain(folder.name)}: {ending}"
    return Notice(title=title, body="\n".join(lines), notify_type=kind)


def _money(status: Status) -> str:
    parts = [f"Cost: {amount(status.money.cost_usd)} USD ({status.money.prices})"]
    if status.money.simulated:
        parts.append("simulated, nothing was charged")
    if status.money.unpriced:
        parts.append(f"and {many(status.money.unpriced, 'reply', 'replies')} of unknown price")
    if status.money.possibly_usd:
        parts.append(f"and possibly {amount(status.money.possibly_usd)} for requests without a reply")
    if status.left and status.money.rest_usd:
        parts.append(f"about {amount(status.money.rest_usd)} more for what is left")
    if status.money.budget_usd is not None:
        parts.append(f"{amount(status.money.spent_usd)} of the budget of {amount(status.money.budget_usd)} is spent")
    return ", ".join(parts) + "."


def _next(status: Status, out: str, error: BaseException | None) -> str:
    """Return what to do now. What the service or an error said is left out: it may quote a record."""
    if isinstance(error, LockedError):
        return "Another run has taken the store over. When that has ended, the same call goes on."
    if isinstance(error, StoreError):
        return "The store could not be written. Mend the disk; then the same call goes on from what is saved."
    if error is not None:
        return f"A defect ended it: {type(error).__name__}. See where it was called; then the same call goes on."
    if status.stopping is not None and is_early(status):
        return f"{BY_PERSON.get(status.stopping) or stop_reason_text(status.stopping, '')}{next_step(status.stopping)}."
    report = plain(f"enrichkit.report({out!r})", most=0)
    return ". ".join([f"Next: {report}{' says why some failed' if status.failed else ''}", *again(status)])


def _which(addresses: Sequence[str], place: int) -> str:
    """Return which address it is, by its place and scheme only."""
    found = re.match(r"([a-z]{2,16})://", addresses[place], flags=re.IGNORECASE)
    return f"address {place + 1} of {len(addresses)}" + (f" ({found[1].lower()}://)" if found else "")


def _messenger(addresses: Sequence[str], message: dict[str, Any] | None) -> list[tuple[int, Any]]:
    """Return what the messenger says of each address, in time: the kind of service, or whether the message went out."""
    kept = {name: value for name, value in os.environ.items() if name not in KEY_NAMES}
    try:
        answers = subprocess.run(
            [sys.executable or "", "-P", "-W", "ignore", str(MESSENGER)],
            input=json.dumps({"addresses": list(addresses), "message": message}).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=LONGEST_SECONDS,
            start_new_session=True,  # an interrupt of the run is none of its business
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as late:
        answers = late.stdout or b""
    except OSError:
        return []
    return [tuple(json.loads(line)) for line in answers.splitlines() if line.endswith(b"]")]
