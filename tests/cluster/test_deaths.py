"""What no death may cost on a cluster: a reply that is stored, or a question that is paid by two."""

from __future__ import annotations

import collections
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

import enrichkit
from enrichkit.cluster.worker import ALONE_SECONDS
from enrichkit.errors import SetupError, Stopped
from enrichkit.gemini.simulator import Simulator
from support.fleet import KEY, deadly_client, distinct, fleet, messy, pids
from support.paths import ROOT
from support.waiting import hold_after, wait_for

WORKERS = 4
SETTINGS = {"model": "gemini-3.5-flash-lite", "workers": WORKERS, "rpm": 60_000, "progress": False, "shard_rows": 20}


def paid_by(out):
    """Return how many questions there are with so many payers each."""
    table, payers = enrichkit.read(out), collections.defaultdict(set)
    for stage in ("poc", "fund"):
        for question, payer in zip(table[f"{stage}._question"], table[f"{stage}._paid_by"], strict=True):
            payers[question].add(payer)
    return collections.Counter(map(len, payers.values()))


def survive(tmp_path, *, rows, funds, parts, processes, kills, latency_seconds):
    """Ask while worker processes are killed; return what was lost, and what was paid again by each kill."""
    frame, out, dice = messy(rows, funds), tmp_path / "out", random.Random(1)
    with Simulator(latency_seconds=latency_seconds) as simulator, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_GEMINI_BASE_URL", simulator.url)
        with fleet(processes, GOOGLE_API_KEY=KEY, GOOGLE_GEMINI_BASE_URL=simulator.url) as client:
            job = enrichkit.start(frame, out=out, cluster=client, parts=parts, **SETTINGS)
            done, share = 0, distinct(frame) / (kills + 1)
            for number in range(1, kills + 1):
                wait_for(lambda: len(simulator.ledger) > number * share or job.done)  # noqa: B023
                running = pids(client)
                if job.done or not running:
                    break
                os.kill(dice.choice(list(running.values())), signal.SIGKILL)
                done += 1
            enriched = job.result()
            again = len(simulator.ledger) - distinct(frame)
    assert enrichkit.verify(out).problems == ()
    return enriched, done, again, paid_by(out)


def test_a_killed_worker_costs_what_was_in_flight(tmp_path):
    """Its part goes on elsewhere, with every reply that was stored."""
    enriched, kills, again, payers = survive(
        tmp_path, rows=40, funds=10, parts=3, processes=2, kills=1, latency_seconds=0.1
    )
    assert set(enriched["_status"]) == {"done"}
    assert again <= kills * (WORKERS + 2)
    assert payers.keys() == {1}


@pytest.mark.slow
def test_twenty_killed_workers_cost_what_was_in_flight(tmp_path, capsys):
    """Nothing is lost, and each question has one payer."""
    enriched, kills, again, payers = survive(
        tmp_path, rows=1500, funds=300, parts=8, processes=3, kills=20, latency_seconds=0.15
    )
    with capsys.disabled():
        print(f"\n{kills} kills, {again} paid again, {again / max(1, kills):.1f} each, payers {dict(payers)}")
    assert set(enriched["_status"]) == {"done"}
    assert again <= kills * (WORKERS + 2)
    assert payers.keys() == {1}


def test_without_a_worker_a_run_says_so_and_waits_ends_or_is_stopped(tmp_path):
    """A cluster that has none yet, or none any more: it goes on as soon as one comes."""
    frame, out = messy(30, 6), tmp_path / "out"
    with Simulator() as simulator, fleet(0, GOOGLE_API_KEY=KEY, GOOGLE_GEMINI_BASE_URL=simulator.url) as client:
        call = SETTINGS | {"out": out, "cluster": client, "parts": 2}
        with pytest.raises(
            Stopped, match=r"No worker of the cluster asked anything \(for [3-9] s\)\. Start some\."
        ) as ended:
            enrichkit.run(frame, patience_seconds=3, **call)
        assert (ended.value.reason, ended.value.left) == ("no_workers", 30)

        job = enrichkit.start(frame, **call)
        wait_for(lambda: "no worker is in the cluster; start some" in job.status.waiting)
        assert "no worker is in the cluster" in repr(job)
        go = hold_after(simulator, 10)
        client.cluster.scale(1)
        wait_for(lambda: len(simulator.ledger) >= 10)
        assert job.status.waiting == ""
        [worker] = pids(client).values()
        client.cluster.scale(0)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: "no worker" in job.status.waiting)
        assert job.status.traffic.in_flight == 0 or job.status.traffic.workers
        assert "pending" in set(job.stop()["_status"])
        go.set()
        client.cluster.scale(1)
        assert set(enrichkit.run(frame, **call)["_status"]) == {"done"}
    assert enrichkit.verify(out).problems == ()
    assert len(simulator.ledger) <= distinct(frame) + WORKERS + 2


@pytest.mark.slow
def test_a_worker_that_stood_still_goes_on_with_its_part(tmp_path):
    """It finds itself alone, as after a sleep or a cut net, and ends; the run has its part asked on."""
    frame, out = messy(120, 24), tmp_path / "out"
    with Simulator(latency_seconds=0.2) as simulator, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_GEMINI_BASE_URL", simulator.url)
        with fleet(2, GOOGLE_API_KEY=KEY, GOOGLE_GEMINI_BASE_URL=simulator.url) as client:
            job = enrichkit.start(frame, out=out, cluster=client, parts=2, **SETTINGS)
            wait_for(lambda: len(simulator.ledger) > 20)
            [still, _] = pids(client).values()
            os.kill(still, signal.SIGSTOP)
            time.sleep(ALONE_SECONDS + 2)
            os.kill(still, signal.SIGCONT)
            assert set(job.result()["_status"]) == {"done"}
        assert len(simulator.ledger) == distinct(frame)
    assert enrichkit.verify(out).problems == ()


@pytest.mark.slow
def test_a_part_of_which_every_worker_dies_ends_the_run(tmp_path):
    """After a few in a row: each may have paid for what it had in flight."""
    with fleet(2, GOOGLE_API_KEY=KEY) as client, pytest.raises(SetupError, match="again and again"):
        enrichkit.run(messy(5, 2), out=tmp_path / "out", cluster=client, parts=1, client=deadly_client, **SETTINGS)


COORDINATE = """
import sys
import enrichkit
from distributed import Client
from support.fleet import messy
if __name__ == "__main__":
    client = Client(sys.argv[1], set_as_default=False)
    settings = {"model": "gemini-3.5-flash-lite", "workers": 4, "rpm": 60_000, "progress": False, "shard_rows": 20}
    enrichkit.run(messy(80, 16), out=sys.argv[2], cluster=client, parts=3, **settings)
"""


def test_without_its_coordinator_a_run_ends_and_the_same_call_goes_on(tmp_path):
    """The workers send nothing more after a second and a half, and let their parts go; nothing is lost."""
    frame, out = messy(80, 16), tmp_path / "out"
    with Simulator(latency_seconds=0.2) as simulator, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_GEMINI_BASE_URL", simulator.url)
        with fleet(2, GOOGLE_API_KEY=KEY, GOOGLE_GEMINI_BASE_URL=simulator.url) as client:
            script = tmp_path / "coordinate.py"
            script.write_text(COORDINATE)
            process = subprocess.Popen([sys.executable, script, client.scheduler.address, out])
            wait_for(lambda: len(simulator.ledger) > 20 or process.poll() is not None)
            process.kill()
            process.wait()
            time.sleep(3)
            sent = len(simulator.ledger)
            time.sleep(1)
            assert len(simulator.ledger) == sent < distinct(frame)
            enriched = enrichkit.run(frame, out=out, cluster=client, **SETTINGS)
            assert set(enriched["_status"]) == {"done"}
            assert len(simulator.ledger) == distinct(frame)


INTERRUPTED = """
import os
import sys
import enrichkit
from support.fleet import fleet, messy, pids
if __name__ == "__main__":
    settings = {"model": "gemini-3.5-flash-lite", "workers": 4, "rpm": 60_000, "progress": False}
    with fleet(2, **{name: os.environ[name] for name in ("GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL")}) as client:
        try:
            enrichkit.run(messy(60, 12), out=sys.argv[1], cluster=client, parts=3, **settings)
        except KeyboardInterrupt as interrupted:
            print(interrupted)
        print(len(pids(client)))
"""


def test_an_interrupt_leaves_the_workers_what_is_in_flight(tmp_path):
    """A terminal and Jupyter send it to all processes of a group, those of a LocalCluster among them."""
    frame, out, script = messy(60, 12), tmp_path / "out", tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    with Simulator(latency_seconds=0.5) as simulator, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_GEMINI_BASE_URL", simulator.url)
        patch.setenv("GOOGLE_API_KEY", KEY)
        patch.setenv("PYTHONPATH", str(ROOT / "tests"), prepend=os.pathsep)
        process = subprocess.Popen([sys.executable, script, out], stdout=subprocess.PIPE, start_new_session=True)
        wait_for(lambda: len(simulator.ledger) > 20 or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate()[0].decode()
        verified = enrichkit.verify(out)
    assert re.search(r"Interrupted\. \d+ of 60 records are done and saved", said)
    assert said.endswith("\n2\n")
    assert (verified.problems, verified.replies) == ((), len(simulator.ledger))
    assert len(simulator.ledger) < distinct(frame)
