"""The budget over kills: what may have been spent on requests that were killed counts in every later run."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from decimal import Decimal

import pytest

import enrichkit
from enrichkit import Stage, errors
from enrichkit.formatting import usd
from enrichkit.gemini.faults import FAULTS, Fault
from enrichkit.messages import Failure, Reply, Usage
from enrichkit.pricing.budget import Budget, DurableBudget
from enrichkit.progress.view import one_line
from enrichkit.store.files import Files
from enrichkit.store.journal import with_checksum
from support.calls import enrich
from support.programs import Program
from support.tables import PRICES, Company, numbered
from support.waiting import wait_for

WORKERS = 10
VICTIM = f"""
import sys
import enrichkit
from enrichkit import Answer, Stage
import pandas as pd

class Company(Answer):
    industry: str | None = None

stage = Stage("company", prompt="Research {{name}}.", answer=Company, search=False, max_output_tokens=1000)
frame = pd.DataFrame({{"name": [f"Firm {{number}}" for number in range(1000)]}})
call = {{"key": "name", "model": "gemini-3.5-flash-lite", "workers": {WORKERS}, "progress": False}}
try:
    enrichkit.run(frame, out=sys.argv[1], stages=[stage], budget_usd=float(sys.argv[2]), **call)
except enrichkit.errors.Stopped as stopped:
    print(stopped.reason)
"""
COST_USD = Decimal("0.0028")
"""What each reply costs: a thousand tokens in, as many out."""


class Ledger:
    """Whatever is charged, kept outside of the store and of the process that is killed."""

    def __init__(self, simulator, monkeypatch):
        self.simulator, self.usd = simulator, Decimal()
        monkeypatch.setitem(FAULTS, "charged", Fault(shape=self.charge))
        simulator.faults, simulator.latency_seconds = {"charged": 1.0}, (0.02, 0.06)

    def charge(self, body):
        body["usageMetadata"] = {"promptTokenCount": 1000, "candidatesTokenCount": 1000, "totalTokenCount": 2000}
        self.usd += COST_USD

    def one_run(self, out, budget_usd, seconds):
        """Run until all workers ask, and for so long, then kill; return why it ended, ``killed`` if it was."""
        arguments = [sys.executable, "-c", VICTIM, str(out), str(budget_usd)]
        with Program(arguments, stdout=subprocess.PIPE, text=True) as victim:
            wait_for(lambda: self.simulator.counts()["at_once"] == WORKERS or victim.poll() is not None)
            with contextlib.suppress(subprocess.TimeoutExpired):
                victim.wait(seconds)
            victim.kill()
            said = victim.stdout.read().strip()
        wait_for(lambda: self.simulator.counts()["at_once"] == 0)
        return said or "killed"


@pytest.fixture
def ledger(simulator, monkeypatch):
    return Ledger(simulator, monkeypatch)


@pytest.mark.parametrize("kills", [2, pytest.param(16, marks=pytest.mark.slow)])
def test_kills_pass_no_budget(kills, ledger, tmp_path):
    """Ten requests in flight each time: plan and report name what may have been spent, and the last run ends for it."""
    out, budget = tmp_path / "out", kills / 8
    chance = random.Random(kills)
    ends = [ledger.one_run(out, budget, chance.uniform(0, 0.05)) for _ in range(kills)]
    assert ends[0] == "killed"
    assert {*ends} <= {"killed", "budget"}  # a slow machine kills late
    stage = Stage("company", prompt="Research {name}.", answer=Company, search=False, max_output_tokens=1000)
    call = {"out": out, "stages": [stage], "key": "name", "model": "gemini-3.5-flash-lite"}
    (said,) = (note for note in enrichkit.plan(numbered(9), **call).notes if "may have been spent" in note)
    assert said in enrichkit.report(out).notes
    lost = ledger.usd - Decimal(str(enrichkit.report(out).cost.total.cost_usd))
    assert 0 < lost <= Decimal(said.split()[0])
    assert ledger.one_run(out, budget, 60) == "budget"
    assert Decimal("0.9") * Decimal(budget) - Decimal(said.split()[0]) < ledger.usd <= budget


@pytest.mark.slow
def test_a_hundred_kills_pass_no_budget_of_twenty_replies(ledger, tmp_path):
    """The same call again and again until it ends by itself; then with another store."""
    chance, kills, ends, most = random.Random(19), 0, 0, Decimal()
    while kills < 100:
        ledger.usd, end = Decimal(), "killed"
        while end == "killed":
            end = ledger.one_run(tmp_path / f"out{ends}", 20 * COST_USD, chance.uniform(0, 0.1))
            kills += end == "killed"
        most, ends = max(most, ledger.usd), ends + 1
        assert end == "budget"
        assert ledger.usd <= 20 * COST_USD
    print(f"{kills} kills, {ends} stores, at most {most} of {20 * COST_USD} USD paid for one of them")


BRIEF = Stage("company", prompt="Research {name}.", answer=Company, search=False)
UNCLEAR = Reply(failure=Failure(cause="bad_request", may_be_charged=True))


def answer(request):
    """Take 200 tokens: twenty cents."""
    return Reply(text="{}", usage=Usage(prompt_tokens=200, output_tokens=0), model_version="m")


def start(rows, out, client, **settings):
    given = {"stages": [BRIEF], "key": "name", "model": "m", "prices": PRICES, "progress": False, "workers": 2}
    return enrichkit.start(numbered(rows), out=out, client=client, **given | settings)


@pytest.fixture
def writes(monkeypatch):
    """The names of the files that are written, each with two calls of fsync."""
    names, rename = [], Files._rename

    def noting(self, path, target):
        names.append(target.name)
        rename(self, path, target)

    monkeypatch.setattr(Files, "_rename", noting)
    return names


def test_a_hundred_requests_cost_one_write_more(writes, tmp_path):
    """Before the first of them; the note goes when nothing is outstanding any more, and asking nothing writes none."""
    start(100, tmp_path / "out", answer, workers=10, budget_usd=1000).result()
    assert writes.count("outstanding.json") == 1
    assert not (tmp_path / "out.work" / "outstanding.json").exists()
    start(100, tmp_path / "out", answer, workers=10, budget_usd=1000).result()
    assert writes.count("outstanding.json") == 1


def test_what_may_have_been_spent_counts_in_later_runs(tmp_path):
    """With a budget and without one; it adds up, and ends a run in time."""
    out, client = tmp_path / "out", (lambda request: UNCLEAR if "N0" in request.text else answer(request))
    possibly = []
    for budget in (None, 1000, None):
        job = start(2, out, client, budget_usd=budget, retry_failed=True)
        job.result()
        possibly.append(job.status.money.possibly_usd)
    first = possibly[0]
    assert first > 0
    assert possibly == pytest.approx([first, 2 * first, 3 * first])
    assert "USD may have been charged without a reply" in one_line(job.status)
    said = f"{3 * first:.4f} USD may have been spent on requests that got no reply; a budget counts them."
    assert said in enrichkit.report(out).notes
    assert said in enrich("status", out)
    with pytest.raises(errors.Stopped, match=r"may have been spent on requests that got no reply\)") as stopped:
        start(9, out, answer, budget_usd=3 * first + 0.5).result()
    assert (stopped.value.reason, stopped.value.done) == ("budget", 0)


def test_a_kill_counts_what_was_under_way_and_no_more_than_the_budget(tmp_path):
    """A store as a kill leaves it while two requests wait for their replies."""
    go, asked = threading.Event(), []

    def held(request):
        asked.append(request)
        if len(asked) > 6:
            go.wait(60)
        return answer(request)

    job = start(20, tmp_path / "out", held, budget_usd=5)
    wait_for(lambda: len(asked) == 8 and job.status.traffic.unsaved == 0)
    for name in ("out", "out.work"):
        if (tmp_path / name).exists():
            shutil.copytree(tmp_path / name, tmp_path / name.replace("out", "killed"))
    go.set()
    with contextlib.suppress(errors.Stopped):
        job.result()
    later = start(20, tmp_path / "killed", answer, budget_usd=5)
    with pytest.raises(errors.Stopped, match=r"0\.0000 are left, 3\.8000 may have been spent on requests that got no"):
        later.result()
    assert (later.status.money.spent_usd, later.status.money.possibly_usd) == pytest.approx((1.2, 3.8))
    more = start(20, tmp_path / "killed", answer, budget_usd=10)
    more.result()
    assert (more.status.money.spent_usd, more.status.money.possibly_usd) == pytest.approx((4.0, 3.8))


def test_nothing_is_sent_before_the_note_is_on_the_disk(monkeypatch, tmp_path):
    """While it cannot be written the run waits, and says so."""
    disk_is_full, asked, write = [True], [], Files._write

    def writing(self, path, data):
        if disk_is_full[0] and b"possibly_usd" in data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, path, data)

    monkeypatch.setattr(Files, "_write", writing)
    job = start(3, tmp_path / "out", lambda request: asked.append(request) or answer(request))
    wait_for(lambda: "No space left on device" in job.status.waiting)
    assert asked == []
    disk_is_full[0] = False
    assert job.result()["_status"].tolist() == ["done"] * 3


def test_no_more_is_sent_than_the_note_covers(monkeypatch, tmp_path):
    """After a request that may have been charged a higher note is written first, however slow the disk is."""
    go, asked, slow, write = threading.Event(), [], [], Files._write

    def writing(self, path, data):
        if asked and b"possibly_usd" in data:
            slow.append(path)
            go.wait(60)
        write(self, path, data)

    def client(request):
        asked.append(request)
        return UNCLEAR if len(asked) == 1 else answer(request)

    monkeypatch.setattr(Files, "_write", writing)
    job = start(3, tmp_path / "out", client, workers=1)
    wait_for(lambda: slow)
    time.sleep(0.2)
    assert len(asked) == 1
    go.set()
    assert sorted(job.result()["_status"]) == ["done", "done", "failed"]


def test_a_defect_takes_nothing_back(monkeypatch, tmp_path):
    """Replies may be lost with it that were paid for."""

    def read(self, *_):
        raise ZeroDivisionError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr("enrichkit.engine.workers.Workers._read", read)
        with pytest.raises(ZeroDivisionError):
            start(3, tmp_path / "out", answer, workers=1).result()
    assert "may have been spent" in enrich("status", tmp_path / "out")


@pytest.mark.parametrize("text", ["", "{", "{}", "NOTE ]", '{"possibly_usd": "many"}', '{"seen": 5}'])
def test_a_damaged_note_is_not_taken_for_nothing(text, tmp_path):
    """It is named, with what to do, before anything is asked."""
    out, client = tmp_path / "out", (lambda request: UNCLEAR if "N0" in request.text else answer(request))
    start(2, out, client).result()
    note = tmp_path / "out.work" / "outstanding.json"
    note.write_text(text.replace("NOTE", note.read_text()))
    for call in (lambda: start(3, out, answer), lambda: enrichkit.report(out)):
        with pytest.raises(errors.StoreError, match=r"outstanding.json is damaged: .* or remove it to count nothing"):
            call()
    assert len(enrichkit.read(out)) == 2


def test_plan_and_report_say_the_same_of_a_killed_run(tmp_path):
    """What its replies have cost by now is no longer among what may have been spent, with a budget or without."""
    out = tmp_path / "out"
    start(2, out, answer).result()
    spent = Decimal(str(enrichkit.report(out, prices=PRICES).cost.total.cost_usd))
    note = {"possibly_usd": spent * 9, "excess_usd": 0, "limit_usd": spent * 3}
    (tmp_path / "out.work" / "outstanding.json").write_bytes(with_checksum(note))
    said = [note for note in enrichkit.report(out, prices=PRICES).notes if "may have been spent" in note]
    assert said[0].startswith(f"{usd(spent * 2)} USD")
    for budget in (None, 100):
        settings = {"stages": [BRIEF], "key": "name", "model": "m", "prices": PRICES, "budget_usd": budget}
        ahead = enrichkit.plan(numbered(2), out=out, **settings)
        assert said[0] in ahead.notes


def test_worst_cases_are_remembered():
    """What one run has seen of searches and versions, the next one reserves for its first request."""
    seen = {"searches": {"company": 14}, "versions": {"m": ["n"]}, "factor": "2"}
    note = {"possibly_usd": "1.5", "excess_usd": "0.25", "seen": seen}
    budget = Budget(10, 1, note=note)
    assert (budget.left_usd, budget.excess_usd, budget.worst_cases.seen) == (Decimal("7.5"), Decimal("0.25"), seen)
    assert Budget(10, 9, note=note | {"limit_usd": "9.75"}).possibly_usd == 1


def test_an_excess_alone_is_noted_too():
    """Else a kill right after it would leave the next run to count too little as possibly spent."""
    notes = []
    budget = DurableBudget(3, "2.0", most=2, dearest_usd=Decimal("0.5"), write=notes.append)
    budget.note()
    assert budget.reserve(Decimal("0.5"))
    budget.settle(Decimal("0.5"), Decimal("0.6"), about=lambda: "Kelp Oy")
    budget.note()
    assert [note["excess_usd"] for note in notes] == [0, Decimal("0.1")]


def test_without_a_budget_nothing_of_earlier_runs_counts():
    """What they may have spent is named; what they have is in their rows."""
    note = {"possibly_usd": "0.5", "limit_usd": "3"}
    budget = Budget(None, "2.7", note=note)
    assert (budget.spent_usd, budget.possibly_usd) == (0, Decimal("0.3"))
