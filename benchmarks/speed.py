"""How fast it asks: beside the bare SDK, beside joblib with a bare HTTP client, and under limits that nobody named.

``python benchmarks/speed.py`` prints a table as Markdown, ``python benchmarks/speed.py latency`` one case of it. Each
case is a process of its own, the simulator another; floor and product take turns in every round. Ratios are of medians;
those in brackets are the median of the rounds' own ratios, which a machine that is busy now and then disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import heapq
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import joblib
import pandas as pd

import enrichkit
from enrichkit.gemini.simulator import Quota, Simulator
from enrichkit.stages.stage import request_for

WORKERS = 20
KEY = "a-key-for-nothing"
MODEL = "gemini-3.5-flash-lite"
MINE = (sys.executable, __file__)


class Company(enrichkit.Answer):
    industry: str | None = None
    employees: int | None = None


COMPANY = enrichkit.Stage("company", prompt="Research {name} in {country}.", answer=Company)


def table(records: int) -> pd.DataFrame:
    """Return an invented table."""
    return pd.DataFrame({"name": [f"Firm number {number}" for number in range(records)], "country": "Peru"})


# The server, in a process of its own -------------------------------------------------------------------------------


class Limited(Simulator):
    """A simulator whose windows open with the first request; the quota is ``then`` after half of ``questions``.

    With a ``spread``, latencies are lognormal: it is the deviation of their logarithm, ``latency_seconds`` their mean.
    """

    def __init__(self, *, then: Quota | None = None, questions: int = 0, spread: float = 0.0, **settings: Any) -> None:
        self._then, self._half, self._spread = then, questions // 2, spread
        self._latencies: list[float] = []
        super().__init__(**settings)

    def counts(self) -> dict[str, Any]:
        """Add how long each answer took, in order of arrival."""
        return super().counts() | {"latencies": self._latencies}

    def _latency(self, prompt: str, earlier: int) -> float:
        seconds = super()._latency(prompt, earlier)
        if self._spread:  # by the question alone, whatever was refused before
            seconds *= random.Random(prompt).lognormvariate(-(self._spread**2) / 2, self._spread)
        with self._lock:
            self._latencies.append(seconds)
        return seconds

    def _refusal(self) -> dict[str, Any] | None:
        with self._lock:
            if not self._taken.total:
                self._taken._start = time.monotonic()
            if self._then is not None and self._count["answers"] >= self._half:
                self.quota = self._then
        return super()._refusal()


def serve(settings: dict[str, Any]) -> None:
    """Serve until the other end of stdin closes; print the address."""
    quotas = {name: Quota(**settings[name]) for name in ("quota", "then") if settings.get(name)}
    with Limited(**settings | quotas) as server:
        print(server.url, flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def served(**settings: Any) -> Iterator[str]:
    """Run a server, and send whoever asks Gemini there; yield its address."""
    with address_of([*MINE, "serve", json.dumps(settings)]) as url:
        yield url


@contextlib.contextmanager
def address_of(command: Sequence[str]) -> Iterator[str]:
    """Run a command that prints a server's address, and send whoever asks Gemini there; yield the address."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with mock.patch.dict(os.environ, {"GOOGLE_GEMINI_BASE_URL": url, "GOOGLE_API_KEY": KEY}):
            yield url
        process.communicate()


def counts(url: str) -> dict[str, Any]:
    """Return what the server counted."""
    with urllib.request.urlopen(f"{url}/counts") as reply:
        return dict(json.load(reply))


# Whoever asks ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Took:
    """What asking took: seconds, and CPU seconds of the whole process."""

    seconds: float
    cpu: float


Asker = Callable[[int, str], Took]
"""Asks about so many records at an address."""


@contextlib.contextmanager
def timed(found: list[Took]) -> Iterator[None]:
    """Add what the block takes to the list."""
    started, started_cpu = time.perf_counter(), time.process_time()
    yield
    found.append(Took(time.perf_counter() - started, time.process_time() - started_cpu))


def product(records: int, url: str) -> Took:
    """Ask with enrichkit, every reply durable."""
    frame, took = table(records), list[Took]()
    with tempfile.TemporaryDirectory() as scratch, timed(took):
        enriched = run(frame, Path(scratch) / "out")
    assert (enriched["_status"] == "done").all()
    return took[0]


def run(frame: pd.DataFrame, out: Path, **more: Any) -> pd.DataFrame:
    """Enrich a table."""
    return enrichkit.run(frame, out=out, stages=[COMPANY], key="name", workers=WORKERS, progress=False, **more)


def requests_for(records: int) -> list[enrichkit.messages.Request]:
    """Return the requests that the product sends."""
    rows: list[dict[str, Any]] = table(records).to_dict("records")  # type: ignore[assignment]
    return [request_for(COMPANY, "", row, model=MODEL, timeout_seconds=90.0) for row in rows]


def bare_sdk(records: int, url: str) -> Took:
    """Ask with google-genai in twenty threads: the replies' bodies, kept nowhere."""
    from google import genai

    asked, took = requests_for(records), list[Took]()
    types, first = genai.types, asked[0]
    config = types.GenerateContentConfig(
        system_instruction=first.system,
        tools=[types.Tool(google_search=types.GoogleSearch())],
        response_mime_type="application/json",
        response_json_schema=dict(first.schema),
        max_output_tokens=first.max_output_tokens,
        should_return_http_response=True,
        automatic_continuation=False,
        http_options=types.HttpOptions(timeout=90_000),
    )
    with timed(took):
        client = genai.Client(api_key=KEY, http_options=types.HttpOptions(api_version="v1beta", base_url=url))

        def ask(request: enrichkit.messages.Request) -> str:
            reply = client.models.generate_content(model=MODEL, contents=request.text, config=config)
            return str(reply.sdk_http_response.body)

        with ThreadPoolExecutor(WORKERS) as pool:
            bodies = list(pool.map(ask, asked))
        client.close()
    assert all('"candidates"' in body for body in bodies)
    return took[0]


def body_of(request: enrichkit.messages.Request) -> bytes:
    """Return a request's body, as an SDK would write it."""
    body = {
        "contents": [{"role": "user", "parts": [{"text": request.text}]}],
        "systemInstruction": {"role": "user", "parts": [{"text": request.system}]},
        "tools": [{"googleSearch": {}}],
        "generationConfig": {
            "responseMimeType": "application/json",
            "responseJsonSchema": request.schema,
            "maxOutputTokens": request.max_output_tokens,
        },
    }
    return json.dumps(body).encode()


def bare_http(records: int, url: str, *, workers: int = WORKERS) -> Took:
    """Ask with joblib's threads and the standard library's HTTP client, a connection each."""
    host, path = url.removeprefix("http://"), f"/v1beta/models/{MODEL}:generateContent"
    headers = {"x-goog-api-key": KEY, "Content-Type": "application/json"}
    asked, took, own = requests_for(records), list[Took](), threading.local()

    def ask(request: enrichkit.messages.Request) -> dict[str, Any]:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection(host)
        own.connection.request("POST", path, body_of(request), headers)
        return dict(json.load(own.connection.getresponse()))

    with timed(took):
        replies = joblib.Parallel(workers, backend="threading", batch_size=1)(joblib.delayed(ask)(one) for one in asked)
    assert all(reply["candidates"] for reply in replies)
    return took[0]


def in_turn(askers: Sequence[Asker], *, records: int, rounds: int, latency: float) -> list[list[Took]]:
    """Let each ask about so many records in every round, the first one another each time; return what they took."""
    found: dict[Asker, list[Took]] = {asker: [] for asker in askers}
    with served() as url:
        for asker in askers:  # imports and first uses are left out on every side
            asker(100, url)
    for number in range(rounds):
        for place in range(len(askers)):
            asker = askers[(number + place) % len(askers)]
            with served(latency_seconds=latency) as url:
                found[asker].append(asker(records, url))
                assert counts(url)["answers"] == records
    return list(found.values())


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return how much more ours is: of medians, and the median of the rounds' own."""
    pairs = [one / other for one, other in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ours) / statistics.median(theirs):.3f} × ({statistics.median(pairs):.3f})"


def walls(found: Sequence[Took]) -> list[float]:
    """Return the seconds alone."""
    return [one.seconds for one in found]


# The cases ---------------------------------------------------------------------------------------------------------

Row = tuple[str, str, str, str]
"""What, figure, floor, goal."""


def latency() -> Iterator[Row]:
    """2,000 records of 50 ms: the time, and the CPU that each costs beyond the SDK's own."""
    records, rounds = 2000, 5
    ours, sdk, plain = in_turn([product, bare_sdk, bare_http], records=records, rounds=rounds, latency=0.05)
    what = f"{records:,} records, 50 ms a reply, {WORKERS} workers, {rounds} rounds"
    took = statistics.median(walls(ours))
    for name, floor, goal in (
        ("bare SDK in threads", sdk, "≤ 1.05 × the bare SDK"),
        ("joblib with http.client", plain, ""),
    ):
        yield (
            what,
            f"{took:.2f} s = {ratio(walls(ours), walls(floor))}",
            f"{name} {statistics.median(walls(floor)):.2f} s",
            goal,
        )
    each = [[one.cpu / records * 1000 for one in found] for found in (ours, sdk)]
    beyond = [one - other for one, other in zip(*each, strict=True)]
    yield (
        f"{what}: CPU a record beyond the SDK's",
        f"{statistics.median(each[0]) - statistics.median(each[1]):.2f} ms ({statistics.median(beyond):.2f})",
        f"bare SDK {statistics.median(each[1]):.2f} ms",
        "≤ 0.6 ms",
    )


def flatout() -> Iterator[Row]:
    """Records a second where a reply takes no time."""
    records, rounds = 2000, 7
    ours, sdk = in_turn([product, bare_sdk], records=records, rounds=rounds, latency=0.0)
    speeds = [[records / seconds for seconds in walls(found)] for found in (ours, sdk)]
    yield (
        f"records a second at 0 ms, {records:,} records, {rounds} rounds",
        f"{statistics.median(speeds[0]):.0f} = {ratio(*speeds)}",
        f"bare SDK in threads {statistics.median(speeds[1]):.0f}",
        "≥ 0.7 × the bare SDK",
    )


def main_job() -> Iterator[Row]:
    """544 records of a second: 28 s is ideal."""
    ours, sdk = in_turn([product, bare_sdk], records=544, rounds=2, latency=1.0)
    yield (
        "544 records, 1 s a reply, 2 rounds",
        f"{statistics.median(walls(ours)):.2f} s = {ratio(walls(ours), walls(sdk))}",
        f"ideal 28 s, bare SDK in threads {statistics.median(walls(sdk)):.2f} s",
        "≤ 28.8 s",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A service with a limit that nobody named, and what asking there should take.

    ``ideal`` is in seconds, and worked out from how long each answer took where none is given; ``goal`` is in seconds,
    too: a goodput of 85 % where none is given, or of 90 % where latencies are spread.
    """

    what: str
    questions: int = 600
    latency: float = 0.2
    server: dict[str, Any]
    ideal: float | None = None
    goal: float | None = None
    most_refused: float | None = None


def bucket(per_second: float, burst: int, says: float | None) -> dict[str, Any]:
    """Return a quota that refills all the time."""
    return {"requests": per_second, "seconds": 1.0, "kind": "bucket", "burst": burst, "says_seconds": says}


def windows(requests: int, says: float | str | None = "exact") -> dict[str, Any]:
    """Return a quota of ten-second windows."""
    return {"requests": requests, "seconds": 10.0, "says_seconds": says}


def at_once_ideal(latencies: Sequence[float], most: int) -> float:
    """Return the seconds that answers take in their order, so many at a time."""
    free = [0.0] * most
    for seconds in latencies:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def bucket_ideal(questions: int, per_second: float, burst: int) -> float:
    return (questions - burst) / per_second


def at_once(most: int, latency: float, spread: float) -> Limit:
    """Return a limit on requests at a time where latencies are spread."""
    return Limit(
        what=f"{most} at once at most, latencies spread (σ of their logarithm {spread})",
        questions=max(120, round(13.5 * most / latency)),
        latency=latency,
        server={"most_at_once": most, "spread": spread},
    )


LIMITS = {
    "bucket": Limit(
        what="bucket 20/s, burst 5, says 3 s",
        server={"quota": bucket(20, 5, 3.0)},
        ideal=bucket_ideal(600, 20, 5) + 0.2,
        goal=31.0,
        most_refused=0.05,
    ),
    "windows": Limit(
        what="windows of 200 per 10 s, exact delay",
        server={"quota": windows(200)},
        ideal=22.0,  # two windows, and the third's 200 questions in ten turns
        goal=22.8,
        most_refused=0.05,
    ),
    "halves": Limit(
        what="bucket 20/s, half of that after 300 answers",
        server={"quota": bucket(20, 5, 3.0), "then": bucket(10, 5, 3.0)},
        ideal=bucket_ideal(300, 20, 5) + 300 / 10 + 0.2,
        goal=47.0,
    ),
    "doubles": Limit(
        what="bucket 20/s, twice that after 300 answers",
        server={"quota": bucket(20, 5, 3.0), "then": bucket(40, 5, 3.0)},
        ideal=bucket_ideal(300, 20, 5) + 300 / 40 + 0.2,
    ),
    "bucket_silent": Limit(
        what="bucket 20/s, burst 5, no delay given",
        server={"quota": bucket(20, 5, None)},
        ideal=bucket_ideal(600, 20, 5) + 0.2,
        goal=32.0,
    ),
    "windows_silent": Limit(
        what="windows of 200 per 10 s, no delay given",
        server={"quota": windows(200, None)},
        ideal=22.0,
        goal=25.0,
    ),
    "none": Limit(
        what="no quota",
        questions=2000,
        latency=0.05,
        server={},
        ideal=5.0,
        goal=5.4,
    ),
    "bucket_small": Limit(
        what="bucket 2/s, burst 5, says 3 s",
        questions=60,
        server={"quota": bucket(2, 5, 3.0)},
        ideal=bucket_ideal(60, 2, 5) + 0.2,
    ),
    "windows_small": Limit(
        what="windows of 20 per 10 s, exact delay",
        questions=60,
        server={"quota": windows(20)},
        ideal=20.2,
    ),
    "bucket_large": Limit(
        what="bucket 200/s, burst 50, says 3 s",
        questions=6000,
        latency=0.05,
        server={"quota": bucket(200, 50, 3.0)},
        ideal=bucket_ideal(6000, 200, 50) + 0.05,
    ),
    "windows_large": Limit(
        what="windows of 2,000 per 10 s, exact delay",
        questions=6000,
        latency=0.05,
        server={"quota": windows(2000)},
        ideal=25.0,
    ),
    "ceiling": Limit(
        what="8 at once at most",
        server={"most_at_once": 8},
        ideal=600 * 0.2 / 8,
    ),
    "spread": at_once(9, 0.2, 0.5),
    "spread_3": at_once(3, 0.2, 0.5),
    "spread_16": at_once(16, 0.2, 0.5),
    "spread_slow": at_once(9, 1.0, 0.5),
    "spread_slower": at_once(9, 3.0, 0.5),
    "spread_wide": at_once(9, 1.0, 1.0),
    "overloaded": Limit(
        what="one in ten is answered 503",
        server={"faults": {"overloaded": 0.1}},
        ideal=686 * 0.2 / WORKERS,  # the simulator's dice fall alike each time: 86 of 686 requests are refused
    ),
    "bucket_bare": Limit(
        what="bucket 20/s, burst 5, refusals without detail",
        server={"quota": bucket(20, 5, None) | {"bare": True}},
        ideal=bucket_ideal(600, 20, 5) + 0.2,
    ),
    "windows_bare": Limit(
        what="windows of 200 per 10 s, refusals without detail",
        server={"quota": windows(200) | {"bare": True}},
        ideal=22.0,
    ),
}


def limited(name: str) -> Iterator[Row]:
    """Ask where there is a limit."""
    limit = LIMITS[name]
    with served() as url:
        product(100, url)
    with (
        tempfile.TemporaryDirectory() as scratch,
        served(latency_seconds=limit.latency, questions=limit.questions, **limit.server) as url,
    ):
        took: list[Took] = []
        with timed(took):
            enriched = run(table(limit.questions), Path(scratch) / "out")
        done, counted = int((enriched["_status"] == "done").sum()), counts(url)
    seconds, refused, ideal = took[0].seconds, counted["refused"], limit.ideal
    floor = ""
    if ideal is None:
        most = limit.server["most_at_once"]
        ideal = at_once_ideal(counted["latencies"], most)
        with served(latency_seconds=limit.latency, **limit.server) as url:
            floor = f", as many threads with http.client {bare_http(limit.questions, url, workers=most).seconds:.2f} s"
    least = 90 if limit.ideal is None else 85
    goal = "0 lost, " + (f"goodput ≥ {least} %" if limit.goal is None else f"≤ {limit.goal} s")
    goal += "" if limit.most_refused is None else f", ≤ {limit.most_refused} refused a success"
    yield (
        f"{limit.what}: {limit.questions:,} questions of {limit.latency * 1000:.0f} ms",
        f"{seconds:.2f} s, goodput {ideal / seconds * done / limit.questions:.0%}, "
        f"{refused / done:.3f} refused a success, {limit.questions - done} lost",
        f"ideal {ideal:.2f} s{floor}",
        goal,
    )


def hang() -> Iterator[Row]:
    """A server that never answers one request in twenty."""
    records, deadline = 544, 4.0
    with served() as url:
        product(100, url)
    with tempfile.TemporaryDirectory() as scratch, served(latency_seconds=0.2, faults={"hang": 0.05}) as url:
        before, took, at_once = threading.active_count(), list[Took](), 0
        with timed(took):
            job = enrichkit.start(
                table(records),
                out=Path(scratch) / "out", stages=[COMPANY], key="name", workers=WORKERS, progress=False,
                deadline_seconds=deadline,
            )  # fmt: skip
            while not job.done:
                if job.status.left < records / 2:
                    at_once = max(at_once, job.status.traffic.in_flight)
                time.sleep(0.01)
            statuses = job.result()["_status"].value_counts()
        hung, left_over = counts(url)["faults"]["hang"], threading.active_count() - before
    turns = (records * 0.2 + hung * deadline / 2) / WORKERS
    yield (
        f"{records} records of 200 ms, {hung} requests never answered, a deadline of {deadline:.0f} s",
        f"{took[0].seconds:.1f} s, {statuses.get('done', 0)} done, {statuses.get('failed', 0)} failed, "
        f"{at_once} at once in the second half, {left_over} threads left over",
        f"{WORKERS} workers waiting half a deadline for each {turns:.1f} s",
        f"all finish, {WORKERS} at once to the end",
    )


def daily() -> Iterator[Row]:
    """A daily quota of a hundred, met: the end, and the next call."""
    records = 544
    frame = table(records)
    with served() as url:
        product(100, url)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        with served(latency_seconds=0.2, requests_per_day=100) as url:
            job = enrichkit.start(frame, out=out, stages=[COMPANY], key="name", workers=WORKERS, progress=False)
            while counts(url)["answers"] < 100:
                time.sleep(0.01)
            met = time.perf_counter()
            try:
                job.result()
                told = "not stopped"
            except enrichkit.errors.Stopped as stopped:
                told = f"{stopped.reason}, {stopped.done} done, {stopped.left} left"
            ended, refused = time.perf_counter() - met, counts(url)["refused"]
        with served(latency_seconds=0.2) as url:
            done = int((run(frame, out)["_status"] == "done").sum())
            again = counts(url)["requests"]
    yield (
        f"a daily quota of 100 met, {records} records",
        f"{told}: {ended:.2f} s after the last answer, {refused} refused; the next call asks {again}, {done} done",
        "",
        f"≤ 2 s, ≤ {WORKERS} refused, {records - 100} asked then, {records} done",
    )


CASES: dict[str, Callable[[], Iterator[Row]]] = {"latency": latency, "flatout": flatout, "main": main_job}
CASES |= {f"quota_{name}": functools.partial(limited, name) for name in LIMITS}
CASES |= {"hang": hang, "daily": daily}


def main() -> None:
    """Print the figures of all cases, or of those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of: {', '.join(CASES)}")
    given = parser.parse_args().cases
    if given[0] == "serve":
        serve(json.loads(given[1]))
    elif len(given) == 1:
        for row in CASES[given[0]]():
            print("| " + " | ".join(row) + " |", flush=True)
    else:
        print("| what | figure | floor | goal |\n|---|---|---|---|", flush=True)
        for name in given:
            subprocess.run([*MINE, name], check=True)


if __name__ == "__main__":
    main()
