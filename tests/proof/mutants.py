"""Seeded mutants: the package with one promise broken at a time. Each has to make a test fail; `make mutants` shows it.

Run as a program it prints each mutant with the test that caught it, and ends with 1 if one was not caught.
"""

# ruff: noqa: E501 - a line of the package reads best as it stands there
from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from support.paths import ROOT

TESTS = (
    "store/test_store.py",
    "store/test_decisions.py",
    "reporting/test_deciding.py",
    "reading/test_answer.py",
    "proof/test_damage.py",
    "proof/test_odd_stores.py",
    "proof/test_whole_stores.py",
    "proof/test_crashes.py",
    "engine/test_resume.py",
    "reporting/test_verify.py",
    "engine/test_workers.py",
    "pricing/test_outstanding.py",
)


@dataclass(frozen=True)
class Mutant:
    """A change to one line of the package that breaks a promise of the store."""

    name: str
    module: str
    line: str
    instead: str
    named: bool = False
    """Whether it is one of the four that every change must be checked against, `make test-slow` included."""


MUTANTS = (
    Mutant("no fsync of files", "store/files", "            os.fsync(descriptor)\n\n", "            pass\n\n", named=True),
    Mutant("no fsync of folders after a rename", "store/files", "        self._sync_folder(path.parent)\n\n    def remove", "\n    def remove", named=True),
    Mutant("no fsync of any folder", "store/files", '        if os.name == "nt":', "        if True:"),
    Mutant("no fsync of the folder above a new one", "store/files", "        self._sync_folder(folder.parent)\n", ""),
    Mutant(
        "journal file removed before the seal",
        "store/store",
        "        self.files.put(self._path(number), encode_parquet(table))\n",
        "        self._forget(questions)\n        self.files.put(self._path(number), encode_parquet(table))\n",
        named=True,
    ),
    Mutant("sealed ids ignored", "planning/plan", "    places = index.rows_of(records.ids)\n", "    places = np.full(len(records.ids), -1)\n", named=True),
    Mutant("pending replies ignored", "store/index", "for entry in entries or ()]", "for entry in ()]"),
    Mutant("replies not written", "store/store", "        self._put_journal(entries)\n        for entry", "        for entry"),
    Mutant(
        "journal files removed before they are merged",
        "store/store",
        "        self._put_journal([entry for entries in self.index.pending.values() for entry in entries])\n        self._remove(old)\n",
        "        self._remove(old)\n        self._put_journal([entry for entries in self.index.pending.values() for entry in entries])\n",
    ),
    Mutant("a journal file that cannot go stops the seal", "store/store", "            with contextlib.suppress(OSError):\n                self.files.remove(path)\n                del", "            if True:\n                self.files.remove(path)\n                del"),
    Mutant("damaged journal files dropped", "store/store", "                self._quarantine(path, path.name)\n", "                self.files.remove(path)\n"),
    Mutant("the manifest is not written", "store/store", "            self.files.put(self.work / MANIFEST, with_checksum(manifest))\n", ""),
    Mutant("a shard newer than the manifest is an alarm", "store/journal", ' and footers[number]["seal"][0] <= seals', ""),
    Mutant("no page checksums", "table/parquet", "write_page_checksum=True", "write_page_checksum=False"),
    Mutant("footers not checked", "table/parquet", "    if not _footer_is_sound(source):", "    if False:"),
    Mutant("lock not looked at again", "store/store", "            if os.stat(self.work / \"lock\").st_ino == self._inode:\n", "            if True:\n"),
    Mutant("links not followed to the lock", "store/files", "    real = out.resolve() if out.is_symlink() else out\n", "    real = out\n"),
    Mutant("asking goes on while the disk fails", "engine/pace", "                if opened is not None and not opened.wait", "                if False and not opened.wait"),
    Mutant("journal files that are sealed are not known again", "store/store", "        self._forget([name for name, entries in pending.items()", "        ([name for name, entries in pending.items()"),
    Mutant("more is sent than the note covers", "pricing/budget", "self._outstanding_usd <= self._noted[0] and super()", "super()"),
    Mutant("the permit is not waited for", "engine/workers", "        self._permits.get()\n        sent", "        sent"),
    Mutant("a question to be tried again is lost", "engine/queue", "            heapq.heappush(self._later, (time.monotonic() + seconds, question))\n            self._changed", "            self._changed"),
    Mutant("the end waits for no further try", "engine/queue", "if not self._open and not self._later:", "if not self._open:"),
    Mutant("once many were tried again, nothing new is begun", "engine/queue", "            self._put_back.discard(question)\n", ""),
    Mutant("each question is asked in an outage", "engine/queue", "if not self._unlocked and len(self._put_back) <= self._most:", "if not self._unlocked:"),
    Mutant("a permit is lost with each try", "engine/workers", "        if seconds is not None:\n            self.release()\n", "        if seconds is not None:\n            pass\n"),
    Mutant("replies in flight are dropped when the writer fails", "engine/driver", "            self._rescue()\n        self._commit", "        self._commit"),
    Mutant("what was spent is recorded twice", "engine/shard_writer", "            self.spent.pop(question, None)\n", ""),
    Mutant("a growing shard loses its earlier rows", "engine/shard_writer", "        grown = [*held, *more]\n", "        grown = list(more)\n"),
    Mutant("a text like the checksum is taken for it", "table/parquet", "data.rindex(CHECKSUM, start)", "data.index(CHECKSUM, start)"),
    Mutant("what stands in a broken object is an answer", "reading/json_text", "            place = max(_closes(text, start, braces) for braces in BRACES)\n", "            place = start + 1\n"),
    Mutant("a failed redo wipes the old answer", "store/rows", "    if answered and outcome is not None and outcome.answer is None:", "    if False:"),
    Mutant("the first row of a question decides", "store/index", "        return np.where(answered >= 0, answered, find(questions, sealed))", "        return find(questions, sealed)"),
    Mutant("an own client's raw body is all that is kept", "gemini/wire", "if raw_alone and reply.raw is not None", "if reply.raw is not None"),
    Mutant("a decision is not durable", "store/decisions", "    Files(folder).put(folder / f", "    folder.mkdir(parents=True, exist_ok=True)\n    Path.write_bytes(folder / f", named=True),
    Mutant("a decision may be older than one before", "store/decisions", "        now = max(now, latest + timedelta(microseconds=1))\n", ""),
    Mutant("a decision replaces what nobody has seen", "store/decisions", "        return is_missing(cell) or as_text(cell) in self.seen\n", "        return True\n"),
    Mutant("a run forgets what its rows alone have of decisions", "store/decisions", "    return _in_order([*inside, *read_decisions(index.folder)])", "    return _in_order(read_decisions(index.folder))"),
    Mutant("an answer is held against what was decided, not the cell", "engine/recorder", "            stored |= undecided(stored, stage.stage.name, self.shard_writer.kinds)\n", "            pass\n"),
)  # fmt: skip


def place(mutant: Mutant, root: Path = ROOT) -> str:
    """Return the text of the module that a mutant changes."""
    return (root / "enrichkit" / f"{mutant.module}.py").read_text(encoding="utf-8")


def caught_by(mutant: Mutant | None) -> str | None:
    """Return the first test that fails with a mutant, or None if all pass; without one, with the package as it is.

    Raises
    ------
    ValueError
        If the mutant's line does not stand in the package just once, or its tests could not be run.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("enrichkit", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutant is not None:
            module = copy / "enrichkit" / f"{mutant.module}.py"
            text = place(mutant, copy)
            if text.count(mutant.line) != 1:
                raise ValueError(f"The mutant {mutant.name!r} has no place in {module.name}.")
            module.write_text(text.replace(mutant.line, mutant.instead), encoding="utf-8")
        tests = [f"tests/{name}" for name in TESTS]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-m",
            "not slow or mutants",
            "-p",
            "no:cacheprovider",
            *tests,
        ]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
        if done.returncode == 1 and failed:
            return failed.group(1).removeprefix("tests/")
        if done.returncode != 0:
            raise ValueError(f"The tests could not be run: {done.stdout[-500:]}{done.stderr[-500:]}")
        return None


def main() -> int:
    """Test every mutant, print what caught it, and return 1 if one was not caught."""
    if found := caught_by(None):
        print(f"Without any mutant {found} fails; fix that first.")
        return 1
    alive = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for mutant, test in zip(MUTANTS, pool.map(caught_by, MUTANTS), strict=True):
            print(f"{mutant.name}: {f'caught by {test}' if test else 'NOT CAUGHT'}", flush=True)
            alive += test is None
    print(f"{len(MUTANTS) - alive} of {len(MUTANTS)} mutants caught")
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main())
