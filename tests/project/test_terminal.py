"""A person's terminal: whatever a command or an object says fits the window, whoever chose the names in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from enrichkit.__main__ import COMMANDS
from support.paths import TABLE
from support.terminal import at_a_terminal, too_wide

COMMAND = Path(sys.executable).with_name("enrichkit")
LONG, FULL = "x" * 130, "資産運用" * 15
STORE = f"store_{FULL}"
RUN = ("run", "--input", "data.csv", "--output", f"{STORE}.csv", "--map", f"fund.title={FULL}")
FIELDS = ("--prompt", f"Where is {{{FULL}}}?", "--field", f"{LONG}:str", "--field", f"{FULL[::-1]}:list[str]")
SHOWN = f"""
import enrichkit, pandas as pd
from enrichkit import trust
df = pd.read_csv("data.csv", dtype=str)
settings = {{"model": "simulator", "names": {{"fund.title": {FULL!r}}}, "out": "other"}}
ahead = enrichkit.plan(df, **settings)
job = enrichkit.start(df, **settings)
job.result()
report, record = enrichkit.report("other"), trust.dossier("other")
for thing in (ahead, repr(ahead), job, job.status, report, repr(report), record, repr(record)):
    print(thing)
trust.review("other")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a table: known rows, and some whose cells nobody expects."""
    frame = pd.read_csv(TABLE, dtype=str).head(12)
    frame.loc[2:4, "fund.title"] = [f"{LONG} one", f"{FULL}{FULL}", f"e\u0301{LONG}"]
    frame.loc[3:5, "poc.last_name"] = ["\x1b[2J" + LONG, FULL, f"{FULL} {LONG}"]
    frame.loc[5:7, "fund.website"] = [FULL, LONG, f"http://{LONG}.test"]
    frame.rename(columns={"fund.title": FULL}).to_csv(tmp_path / "data.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_whatever_is_said_at_a_terminal_fits_its_window(folder, simulator):
    """Every command, its help and a refusal, and whatever Python prints; full-width letters count two."""
    simulator.faults = {"safety": 0.2, "out_of_range": 0.2}
    lists = [(name, STORE, f"{name}.csv") for name in ("corrections", "weak", "evidence", "review")]
    reads = [(name, STORE) for name in ("status", "report", "verify")]
    runs = [(*RUN, "--dry-run"), RUN, ("run", "--input", "data.csv", "--yes", *FIELDS)]
    others = [("decide", STORE, "review.csv"), ("export", STORE, f"{FULL}.csv"), ("doctor", "--yes")]
    served = ("simulate", "--port", "0")
    refused, helped = [("status", f"{LONG}{FULL}")], [(name, "--help") for name in COMMANDS]
    assert {name for name, *_ in (*lists, *reads, *runs, *others, served)} == set(COMMANDS)
    said = {}
    for arguments in (*runs, *reads, ("report", "data_enriched"), *lists, *others, served, *helped, *refused):
        words = {"answer": "y", "interrupt": "To use it" if arguments == served else ""}
        code, said[arguments] = at_a_terminal([COMMAND, *arguments], **words)
        assert code in (0, 1) or arguments in refused, said[arguments]
        assert len(said[arguments]) > 20
    said["python"] = at_a_terminal([sys.executable, "-c", SHOWN])[1]
    assert "Traceback" not in said["python"]
    assert {name: too_wide(shown, 80) for name, shown in said.items() if too_wide(shown, 80)} == {}
    report = said["report", "data_enriched"]
    assert min(report.count("x") / 59, report.count("資") / 14) >= 1  # broken, not cut
    for columns in (40, 61):
        assert too_wide(at_a_terminal([COMMAND, "report", "data_enriched"], columns)[1], columns) == []
