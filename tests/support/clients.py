"""Clients that answer as a test says, without a service."""

from __future__ import annotations

import time
from collections.abc import Mapping

from enrichkit.messages import Failure, Reply, Request, Usage

USAGE = Usage(prompt_tokens=1000, output_tokens=0, searches=0)
"""What each reply of a `Teller` used: one dollar's worth by `support.tables.PRICES`."""
BLOCKED = Failure(cause="blocked", message="SAFETY")


class Teller:
    """A client that remembers what it was asked; ``says`` maps a word of the prompt to an answer or a failure."""

    def __init__(
        self,
        says: Mapping[str, str | Failure] | None = None,
        otherwise: str | Failure = '{"industry": "Tea", "employees": "12", "address": "tea.example"}',
        seconds: float = 0.0,
    ) -> None:
        self.says = dict(says or {})
        self.otherwise = otherwise
        self.seconds = seconds
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Reply:
        self.asked.append(request.text)
        time.sleep(self.seconds)
        answer = next((answer for word, answer in self.says.items() if word in request.text), self.otherwise)
        if isinstance(answer, str):
            return Reply(text=answer, usage=USAGE)
        return Reply(usage=USAGE, failure=answer)
