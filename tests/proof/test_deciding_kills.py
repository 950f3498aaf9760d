"""kill -9 while a person decides and a run is under way: no decision that was counted is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Stage, trust
from enrichkit.messages import Reply, Usage
from enrichkit.store.decisions import read_decisions
from support.paths import ROOT
from support.programs import Program

TABLE = pd.DataFrame({"name": [f"Firm {number}" for number in range(24)], "firm.city": ["Moss", None] * 12})
VICTIM = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
from proof import test_deciding_kills
act, out, turn = json.loads(sys.argv[2])
getattr(test_deciding_kills, act)(pathlib.Path(out), turn)
"""


class Firm(Answer):
    city: str | None = None
    industry: str | None = None


def client(request):
    """Answer soon; another question otherwise."""
    time.sleep(0.004)
    turn = request.text.split()[-1]
    return Reply(text=json.dumps({"city": f"City {turn}", "industry": "tea"}), usage=Usage(prompt_tokens=1))


def call(out, turn):
    """Ask about all firms, on each turn another question."""
    stage = Stage("firm", prompt=f"Where is {{name}}, on turn {turn}", answer=Firm, search=False)
    settings = {"key": "name", "model": "m", "workers": 4, "shard_rows": 5, "on_change": "redo", "progress": False}
    return enrichkit.run(TABLE, stages=[stage], out=out, client=client, **settings)


def asking(out, turn):
    """Run again and again, sealing all the while."""
    from enrichkit.engine import driver

    driver.SEAL_SECONDS, driver.SEAL_SHARE = 0.02, 0
    for again in range(1000):
        call(out, turn * 1000 + again)


def deciding(out, turn):
    """Decide again and again; write down what counts."""
    ledger = os.open(out.with_name("ledger"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    chance = random.Random(turn)
    for number in range(1000):
        cells = trust.evidence(out).sample(3, random_state=chance.randrange(2**32))
        value = f"Decided {turn}.{number}"
        assert trust.decide(out, cells, value=value) == 3
        decided = [
            f"{record} {column} {value}\n" for record, column in zip(cells["_record_id"], cells["column"], strict=True)
        ]
        os.write(ledger, "".join(decided).encode())


def torment(folder: Path, kills: int) -> int:
    """Kill one who decides, the run, or both; return how many decisions had counted. Each must be there, and stand."""
    out, chance = folder / "out", random.Random(3)
    call(out, 0)
    victims: dict[str, Program] = {}
    counted: list[list[str]] = []
    for turn in range(1, kills + 1):
        for act in ("asking", "deciding"):
            if act not in victims:
                given = json.dumps([act, str(out), turn])
                victims[act] = Program([sys.executable, "-c", VICTIM, str(ROOT / "tests"), given])
        before = len(counted)
        while len(counted) == before and victims["deciding"].poll() is None:  # it has to have decided something
            time.sleep(0.005)
            counted = _ledger(out)
        time.sleep(chance.uniform(0, 0.15))
        for act in chance.choice((["deciding"], ["deciding"], ["deciding", "asking"])):
            victim = victims.pop(act)
            victim.kill()
            assert victim.wait() == -signal.SIGKILL, f"{act} ended by itself"
        counted = _ledger(out)
        stored = read_decisions(out)
        held = {(decision.record_id, decision.column, decision.instead) for decision in stored}
        assert {tuple(line) for line in counted} <= held
        _stands(enrichkit.read(out), stored)
    for victim in victims.values():
        victim.kill()
        victim.wait()
    _stands(
        call(out, 0).assign(_record_id=enrichkit.read(out).set_index("name").loc[TABLE["name"], "_record_id"].array),
        stored,
    )
    _stands(pd.read_parquet(out), stored)
    assert enrichkit.verify(out).ok
    return len(counted)


def _ledger(out: Path) -> list[list[str]]:
    path = out.with_name("ledger")
    return [line.split(" ", 2) for line in path.read_text().splitlines()] if path.exists() else []


def _stands(table, decisions):
    cells = table.set_index("_record_id")
    newest = {(decision.record_id, decision.column): decision.instead for decision in decisions}
    assert {where: cells.at[where] for where in newest} == newest


def test_a_few_kills_lose_no_decision(tmp_path):
    """Neither of one who decides nor of the run that is under way."""
    assert torment(tmp_path, 3) >= 9


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills_lose_no_decision(tmp_path):
    """The same, longer."""
    counted = torment(tmp_path, 50)
    print(f"50 kills, {counted} decisions counted, none lost")
    assert counted >= 150
