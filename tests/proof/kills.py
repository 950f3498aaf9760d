"""The kill loop: a run is killed at random moments, again and again, and two ledgers outside its store keep the truth.

The simulator counts what was paid for. The victim writes down, in a file of its own, what it is about to ask and what
its store has said to be durable. After each kill the store is read as it lies there: every paid reply must be in it
but for those that were in flight, and nothing counted is ever asked again.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd

import enrichkit
from enrichkit.gemini.simulator import Simulator
from proof import crashes
from proof.money import disagreements
from support.paths import ROOT
from support.programs import Program

WORKERS = 8
ROWS = 60
LATENCY_SECONDS = (0.002, 0.03)
SET_UP_SECONDS, ASKING_SECONDS = 0.3, 0.25
SEAL_SECONDS = (0.02, 60.0)
"""One run's shards grow with every few records, the next one's are sealed once they are full."""
TABLE = pd.DataFrame(
    {"name": [f"Firm {number}" for number in range(ROWS)], "country": [f"Land {number % 12}" for number in range(ROWS)]}
)
VICTIM = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
from proof.kills import victim
phase, out, url, stored_replies, seal_seconds = json.loads(sys.argv[2])
victim(phase, pathlib.Path(out), url, pathlib.Path(stored_replies), seal_seconds)
"""


def call(phase: str, out: Path) -> pd.DataFrame:
    """Make one of the calls, over HTTP."""
    return enrichkit.run(
        TABLE, out=out, key="name", workers=WORKERS, shard_rows=7, progress=False, **crashes.PHASES[phase]
    )


def victim(phase: str, out: Path, url: str, stored_replies: Path, seal_seconds: float) -> None:
    """Run until the end or a kill; write down each question before it is sent, and when it counts."""
    from enrichkit.engine import driver
    from enrichkit.gemini.client import Gemini
    from enrichkit.store.store import Store

    warnings.simplefilter("ignore")
    os.environ |= {"GOOGLE_GEMINI_BASE_URL": url, "GOOGLE_API_KEY": "a-key-for-nothing"}
    recorder = os.open(stored_replies, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    ask, append = Gemini.__call__, Store.append

    def asking(self: Gemini, request: enrichkit.messages.Request) -> enrichkit.messages.Reply:
        os.write(recorder, f"asked {request.question}\n".encode())
        return ask(self, request)

    def counting(self: Store, entries: Any) -> None:
        append(self, entries)
        done = [f"counted {entry.question}\n" for entry in entries if entry.status == "done"]
        os.write(recorder, "".join(done).encode())

    Gemini.__call__, Store.append = asking, counting  # type: ignore[method-assign]
    driver.SEAL_SECONDS, driver.SEAL_SHARE = seal_seconds, 0
    call(phase, out)


@dataclass
class Toll:
    """What the kills have cost."""

    kills: int = 0
    runs: int = 0
    stores: int = 0
    paid: int = 0
    paid_again: int = 0
    most_by_one_kill: int = 0
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills:,} kills in {self.stores:,} stores: {self.paid:,} replies paid, {self.paid_again:,} of them "
            f"again (at most {self.most_by_one_kill} by one kill), {len(self.broken):,} violations"
        )


def torment(kills: int, *, seed: int = 0, told: Callable[[Toll], None] = lambda _: None) -> Toll:
    """Kill runs until there were so many kills; every store is brought to its end and looked at.

    ``told`` is called after each store.
    """
    toll = Toll()
    chance = random.Random(seed)
    expected = undisturbed(seed)
    while toll.kills < kills and not toll.broken:
        with (
            tempfile.TemporaryDirectory() as scratch,
            Simulator(latency_seconds=LATENCY_SECONDS, seed=seed) as server,
        ):
            Ordeal(toll, kills, Path(scratch), server, chance, expected).endure()
        told(toll)
    return toll


def undisturbed(seed: int) -> pd.DataFrame:
    """Return what is stored at the end if nobody is killed."""
    with tempfile.TemporaryDirectory() as scratch, Simulator(seed=seed) as server:
        reached = {"GOOGLE_GEMINI_BASE_URL": server.url, "GOOGLE_API_KEY": "a-key-for-nothing"}
        with mock.patch.dict(os.environ, reached):
            for phase in crashes.PHASES:
                call(phase, Path(scratch) / "out")
        return enrichkit.read(Path(scratch) / "out").set_index("name").sort_index()


@dataclass
class Ordeal:
    """One store's life: filled, widened, retried, read anew, redone, and killed all the while."""

    toll: Toll
    kills: int
    scratch: Path
    server: Simulator
    chance: random.Random
    expected: pd.DataFrame
    lost: int = 0

    @property
    def out(self) -> Path:
        """The store."""
        return self.scratch / "out"

    def endure(self) -> None:
        """Bring the store to its end, and count what that took."""
        stored_replies = self.scratch / "ledger"
        for phase in crashes.PHASES:
            self.server.faults = {"safety": 0.1, "prose": 0.05} if phase == "stage added" else {}
            while not self._one_run(phase, stored_replies):
                if self.toll.broken:
                    return
        self.toll.stores += 1
        self.toll.paid += self.server.counts()["answers"]
        self.toll.paid_again += self.lost
        self.toll.broken += asked_again(stored_replies)
        self.toll.broken += wrong_ending(self.out, self.expected)

    def _one_run(self, phase: str, stored_replies: Path) -> bool:
        """Start a run, perhaps kill it, and look at the store; return whether it came to its end."""
        toll = self.toll
        threads = set(threading.enumerate())
        given = [phase, str(self.out), self.server.url, str(stored_replies), self.chance.choice(SEAL_SECONDS)]
        process = Program([sys.executable, "-c", VICTIM, str(ROOT / "tests"), json.dumps(given)])
        toll.runs += 1
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self._seconds_to_live(process) if toll.kills < self.kills else 300)
        process.kill()  # one that has just ended by itself is past it
        killed = process.wait() == -signal.SIGKILL
        self._await_answers(threads)
        toll.kills += killed
        self._look(f"{phase}, kill {toll.kills}")
        if not killed and process.returncode != 0:
            toll.broken.append(f"{phase}: the run ended with {process.returncode}")
        return not killed

    def _seconds_to_live(self, process: Program) -> float:
        """Return how long a run has from now on: to a random moment in the set-up, or, once it asks, after that."""
        if self.chance.random() < 0.2:
            return self.chance.uniform(0, SET_UP_SECONDS)
        before = self.server.counts()["requests"]
        while process.poll() is None and self.server.counts()["requests"] == before:
            time.sleep(0.001)
        return self.chance.uniform(0, ASKING_SECONDS)

    def _await_answers(self, before: set[threading.Thread]) -> None:
        """Wait until the server has answered all that a run had sent, and knows that nobody is there any more."""
        with urllib.request.urlopen(f"{self.server.url}/counts", timeout=60):  # the others were let in before
            pass
        while any("process_request" in one.name for one in set(threading.enumerate()) - before):
            time.sleep(0.001)

    def _look(self, when: str) -> None:
        """Compare the store, as it lies there, with what was paid."""
        saved = 0
        if self.out.is_dir():
            found = enrichkit.verify(self.out)
            saved = found.replies + found.pending
            self.toll.broken += [f"{when}: {problem}" for problem in found.problems]
        lost = self.server.counts()["answers"] - saved
        by_this = lost - self.lost
        self.toll.most_by_one_kill = max(self.toll.most_by_one_kill, by_this)
        if not 0 <= by_this <= WORKERS + 2:
            self.toll.broken.append(f"{when}: {by_this} paid replies were lost")
        self.lost = lost


def asked_again(stored_replies: Path) -> list[str]:
    """Return the questions that were asked after they had counted."""
    counted: set[str] = set()
    broken = []
    for line in stored_replies.read_text().splitlines():
        what, question = line.split()
        if what == "counted":
            counted.add(question)
        elif question in counted:
            broken.append(f"question {question} was asked again after it had counted")
    return broken


def wrong_ending(out: Path, expected: pd.DataFrame) -> list[str]:
    """Return what is wrong with a store at its end."""
    found = enrichkit.read(out).set_index("name").sort_index()
    if not found.index.equals(expected.index):
        return [f"the store has {len(found)} records"]
    broken = list(disagreements(out, {}))
    for column in ("land.industry", "land.size", "company.industry", "company.size", "_status"):
        mine, other = found[column].map(str), expected[column].map(str)
        broken += [
            f"{name}: {column} is {mine[name]!r}, undisturbed {other[name]!r}" for name in mine.index[mine != other]
        ]
    return broken
