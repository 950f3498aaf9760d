"""Hundreds of requests at a time in one process: the time over the ideal, CPU a request, threads, memory.

``python benchmarks/workers.py`` prints a table as Markdown; ``python benchmarks/workers.py 256 0.2`` one row of it, and
``--profile`` where the CPU of a request goes. The service is an event loop of its own that gives every question the
same reply after so long; the floor is `http.client` in as many threads, in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import functools
import http.client
import json
import math
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import speed
from speed import COMPANY, MODEL, Took, requests_for, table, timed

import enrichkit

CASES = {(20, 0.0): 4000, (20, 0.05): 2000, (128, 0.2): 2560, (256, 0.2): 5120, (400, 3.0): 1200, (1000, 3.0): 3000}
"""Workers and seconds of a reply, and how many questions."""
ROUNDS = 3


# The service, in a process of its own -------------------------------------------------------------------------------


class Answering(asyncio.Protocol):
    """A connection on which every request gets the same reply, after so long."""

    def __init__(self, reply: bytes, seconds: float) -> None:
        self._reply, self._seconds, self._buffer = reply, seconds, b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) >= length:
            self._buffer = body[length:]
            asyncio.get_running_loop().call_later(self._seconds, self._transport.write, self._reply)


async def serve(reply: str, seconds: float) -> None:
    """Serve until the other end of stdin closes; print the address."""
    body = reply.encode()
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(whole, seconds), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def served(seconds: float) -> Iterator[str]:
    """Run the service; yield its address."""
    command = [sys.executable, __file__, "serve", reply_of_simulator(), str(seconds)]
    with speed.address_of(command) as url:
        yield url


@functools.cache
def reply_of_simulator() -> str:
    """Return the body of a grounded reply."""
    request = requests_for(1)[0]
    with speed.served() as url:
        return json.dumps(post(http.client.HTTPConnection(url.removeprefix("http://")), speed.body_of(request)))


# Whoever asks ------------------------------------------------------------------------------------------------------


def post(connection: http.client.HTTPConnection, body: bytes) -> Any:
    """Send a request as bytes, and return its reply's object."""
    headers = {"x-goog-api-key": speed.KEY, "Content-Type": "application/json"}
    connection.request("POST", f"/v1beta/models/{MODEL}:generateContent", body, headers)
    return json.load(connection.getresponse())


def floor(records: int, workers: int, url: str) -> Took:
    """Ask with `http.client` in threads, a connection each."""
    bodies, took, own = [speed.body_of(request) for request in requests_for(records)], list[Took](), threading.local()

    def ask(body: bytes) -> Any:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection(url.removeprefix("http://"))
        return post(own.connection, body)

    with timed(took), ThreadPoolExecutor(workers) as pool:
        assert all(reply["candidates"] for reply in pool.map(ask, bodies))
    return took[0]


def product(records: int, workers: int, seconds: float, most: list[int]) -> Took:
    """Ask with enrichkit, every reply durable; note the most threads seen."""
    frame, took = table(records), list[Took]()
    with tempfile.TemporaryDirectory() as scratch, timed(took):
        out, rpm = Path(scratch) / "out", 600_000
        job = enrichkit.start(frame, out=out, stages=[COMPANY], key="name", workers=workers, rpm=rpm, progress=False)
        counting = threading.Timer(seconds + 0.5, lambda: most.append(threading.active_count()))
        counting.start()
        assert (job.result()["_status"] == "done").all()
        counting.cancel()
    return took[0]


def measure(workers: int, seconds: float, *, rounds: int, profile: bool) -> str:
    """Return a row of the table."""
    records, ours, theirs, most = CASES[workers, seconds], list[Took](), list[Took](), list[int]()
    with served(seconds) as url:
        product(100, 20, seconds, most)
        for _ in range(rounds):
            theirs.append(floor(records, workers, url))
            if profile:
                with profiled():
                    ours.append(product(records, workers, seconds, most))
            else:
                ours.append(product(records, workers, seconds, most))
    ideal = math.ceil(records / workers) * seconds
    walls = [statistics.median(took.seconds for took in side) for side in (ours, theirs)]
    cpu = [statistics.median(took.cpu for took in side) / records * 1000 for side in (ours, theirs)]
    over = [f" = {wall / ideal:.2f} × ideal" if ideal else "" for wall in walls]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {records:,} questions of {seconds} s, {workers} workers "
        f"| {walls[0]:.2f} s, {records / walls[0]:.0f}/s{over[0]} | {walls[1]:.2f} s{over[1]} "
        f"| {cpu[0]:.2f} ms | {cpu[1]:.2f} ms | {max(most)} | {memory:.0f} MB |"
    )


@contextlib.contextmanager
def profiled() -> Iterator[None]:
    """Print where the workers' threads and the writer spend their CPU."""
    profiles: list[cProfile.Profile] = []

    def begin(*_: object) -> None:
        sys.setprofile(None)
        profile = cProfile.Profile(time.thread_time)
        profiles.append(profile)
        profile.enable()

    threading.setprofile(begin)
    try:
        yield
    finally:
        threading.setprofile(None)
        stats = pstats.Stats(profiles[0])
        for profile in profiles[1:]:
            stats.add(profile)
        stats.sort_stats("tottime").print_stats(40)


def main() -> None:
    """Print the table, or one row of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="*", help="workers and seconds of a reply")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    if given.case[:1] == ["serve"]:
        asyncio.run(serve(given.case[1], float(given.case[2])))
    elif given.case:
        print(measure(int(given.case[0]), float(given.case[1]), rounds=given.rounds, profile=given.profile))
    else:
        print("| what | enrichkit | http.client in threads | CPU a request | of it the floor's | threads | memory |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for workers, seconds in CASES:
            subprocess.run([sys.executable, __file__, str(workers), str(seconds)], check=True)


if __name__ == "__main__":
    main()
