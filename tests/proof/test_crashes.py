"""A crash at any instant, and a disk that fails at any operation: nothing counted is lost, nothing is paid twice."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

import enrichkit
from enrichkit import errors
from enrichkit.engine.pace import Pace
from enrichkit.engine.tally import PauseSwitch
from enrichkit.store.files import Files
from proof import crashes

LONGER = [pytest.mark.slow, pytest.mark.mutants]
"""The marks of what looks at more: at shards that grow, and at more states."""


@pytest.fixture(
    params=[pytest.param(seconds, id=way, marks=() if seconds else LONGER) for way, seconds in crashes.WAYS.items()]
)
def sealing_pace(request, monkeypatch):
    """Shards that are sealed once, and such that are sealed again and again as they grow."""
    monkeypatch.setattr(crashes, "SEAL_SECONDS", request.param)


@pytest.mark.usefixtures("sealing_pace")
@pytest.mark.parametrize("most", [5, pytest.param(20, marks=LONGER)])
@pytest.mark.parametrize("phase", crashes.PHASES)
def test_after_a_crash_the_same_call_goes_on(phase, most):
    """A sample of the states that a disk may hold, those of a crash inside one recovery included."""
    verdict = crashes.prove(phase, most=most, deeper=1)
    assert verdict.broken == []
    assert verdict.states >= 5


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("sealing_pace")
def test_after_many_a_crash_the_same_call_goes_on():
    """A larger sample, and many second crashes, without a violation; `make torture` tries every state."""
    verdicts = {phase: crashes.prove(phase, seed=1, most=40, deeper=1) for phase in crashes.PHASES}
    print(crashes.summary(verdicts))
    assert [problem for verdict in verdicts.values() for problem in verdict.broken] == []
    assert sum(verdict.states for verdict in verdicts.values()) >= 200


class Breaking:
    """Lets the N-th file operation fail, once or for as long as the disk is ``down``."""

    def __init__(self, number: int, code: int, *, ever: bool) -> None:
        self.number = number
        self.code = code
        self.ever = ever
        self.count = 0
        self.down = False
        self.since = float("inf")
        self._lock = threading.Lock()

    def files(self) -> type[Files]:
        """Return the file operations that fail."""

        def wrapped(name):
            real = getattr(Files, name)

            def operation(files, *args):
                with self._lock:
                    self.count += 1
                    fails = self.down or self.count == self.number
                    if fails and not self.down:
                        self.down = self.ever
                        self.since = time.monotonic()
                if fails:
                    raise OSError(self.code, os.strerror(self.code))
                return real(files, *args)

            return operation

        steps = ("_write", "_rename", "_unlink", "_mkdir", "_sync_folder")
        return type("Breaking", (Files,), {name: wrapped(name) for name in steps})

    def repair(self) -> None:
        """Let the disk work again."""
        self.down = False


def with_calls_before(phase: str, root: Path) -> Path:
    """Make the calls that come before one; return the folder."""
    root.mkdir()
    for earlier in itertools.takewhile(lambda name: name != phase, crashes.PHASES):
        crashes.call(earlier, root / "out", crashes.client_of(earlier))
    return root


def broken_run(phase: str, number: int, code: int, root: Path, monkeypatch, *, ever: bool) -> bool:
    """Make a call whose N-th operation fails; return whether there was one, and check that nothing was lost by it."""
    disk = Breaking(number, code, ever=ever)
    teller = crashes.client_of(phase)
    shut, sent, opened, late = PauseSwitch.shut, Pace.sent, [], []

    def shutting(door, reason):
        if door.opened.is_set():
            late.append(0)
        opened[:] = [door.opened]
        shut(door, reason)

    def passing(pace, now):
        if opened and not opened[0].is_set():
            late[-1] += 1
        return sent(pace, now)

    def repair_later():
        while not over.wait(0.001):
            if disk.down and time.monotonic() > disk.since + 0.1:
                disk.repair()

    over = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr("enrichkit.store.store.Files", disk.files())
        patch.setattr("enrichkit.engine.driver.SAVE_AGAIN_SECONDS", 0.005)
        patch.setattr(PauseSwitch, "shut", shutting)
        patch.setattr(Pace, "sent", passing)
        repairer = threading.Thread(target=repair_later)
        repairer.start()
        try:
            try:
                crashes.call(phase, root / "out", teller)
            except errors.StoreError:  # while the store was opened: nothing was asked yet
                assert teller.asked == []
                disk.repair()
                crashes.call(phase, root / "out", teller)
        finally:
            over.set()
            repairer.join()
    assert max(late, default=0) <= 1  # who had seen the door open
    assert list(crashes.check(phase, root, frozenset(teller.asked))) == []
    assert len(teller.asked) == len(set(teller.asked))
    return disk.count >= number


@pytest.mark.usefixtures("sealing_pace")
@pytest.mark.parametrize("ever", [False, True], ids=["once", "for a while"])
@pytest.mark.parametrize("phase", ["first", "question changed"])
def test_a_disk_that_fails_at_any_operation_costs_nothing(phase, ever, tmp_path, monkeypatch):
    """Some operations, each error in turn: no request starts meanwhile; the run goes on when it works again."""
    codes = itertools.cycle([errno.ENOSPC, errno.EIO, errno.EROFS])
    before = with_calls_before(phase, tmp_path / "before")
    for number in itertools.count(1, 5 if crashes.SEAL_SECONDS else 3):
        root = shutil.copytree(before, tmp_path / str(number))
        if not broken_run(phase, number, next(codes), root, monkeypatch, ever=ever):
            break
    assert number > 12  # on a busy machine the writer takes several replies at once, and needs fewer operations


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=["ENOSPC", "EIO", "EROFS"])
def test_a_disk_that_fails_at_every_operation_costs_nothing(code, tmp_path, monkeypatch):
    """All operations of all calls, once and for a while."""
    for phase, ever in itertools.product(crashes.PHASES, (False, True)):
        before = with_calls_before(phase, tmp_path / f"{phase} {ever}")
        for number in itertools.count(1):
            root = shutil.copytree(before, tmp_path / f"{phase} {ever} {number}")
            if not broken_run(phase, number, code, root, monkeypatch, ever=ever):
                break


def test_a_shard_that_could_not_be_cleared_away_is_sealed_once(tmp_path, monkeypatch):
    """The journal file that a seal replaces cannot be removed: the shard is not written again under another number."""
    real = Files._unlink

    def refusing(files, path):
        if path.parent.name == "pending":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        real(files, path)

    with monkeypatch.context() as patch:
        patch.setattr(Files, "_unlink", refusing)
        crashes.call("first", tmp_path / "out", crashes.client_of("first"))
    assert len(list((tmp_path / "out.work" / "pending").iterdir())) > 0
    assert len(enrichkit.read(tmp_path / "out")) == 5
    assert list(crashes.check("first", tmp_path, frozenset())) == []
    assert list((tmp_path / "out.work" / "pending").iterdir()) == []
