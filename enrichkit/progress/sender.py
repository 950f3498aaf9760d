"""The sender: a process of its own that knows `apprise`, checks addresses and delivers one message.

`apprise` and the libraries below it log addresses, warn, and keep threads that outlive a timeout and hold up the end of
a program. This process keeps all that away from the run: addresses come in by stdin, only places and yes or no go out
by stdout, and the run can end it. It imports nothing of the package, and the package never imports `apprise`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TextIO

LONGEST_SECONDS = 10.0
"""The process ends itself after that, in case its parent is gone."""


def main(read: TextIO, write: TextIO) -> None:
    """Read what to do and do it; a line of JSON is written for each address as soon as it is known."""
    import apprise

    wanted = json.load(read)
    asset = apprise.AppriseAsset(app_id="enrichkit", app_desc="enrichkit", async_mode=False)
    services = [apprise.Apprise.instantiate(address, asset=asset) for address in wanted["addresses"]]

    def answer(place: int, service: Any) -> None:
        reply: str | bool | None = None if service is None else str(service.service_name)
        if wanted["message"] is not None:
            notifier = apprise.Apprise(asset=asset)
            known = service is not None and notifier.add(service)
            reply = known and bool(notifier.notify(**wanted["message"], body_format="text"))
        write.write(json.dumps([place, reply]) + "\n")
        write.flush()

    with ThreadPoolExecutor(len(services)) as pool:  # side by side, so that an address that hangs holds up no other
        pool.map(answer, range(len(services)), services)


if __name__ == "__main__":
    ender = threading.Timer(LONGEST_SECONDS, os._exit, args=(1,))
    ender.daemon = True
    ender.start()
    answers, sys.stdout = sys.stdout, sys.stderr  # what a service prints is not an answer
    try:
        main(sys.stdin, answers)
    finally:
        os._exit(0)  # waits for no thread that a service has left behind
