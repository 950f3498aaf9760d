"""A machine that is not as it should be: paused, odd, full, or with variables that speak to libraries."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

import enrichkit
from enrichkit import Stage, errors
from enrichkit.messages import CLIENTS
from support.programs import Program
from support.tables import Company, numbered
from support.waiting import wait_for

SEARCHING = Stage("company", prompt="Research {name}.", answer=Company)
CALL = """
import enrichkit, pandas as pd
class Company(enrichkit.Answer):
    industry: str | None = None
stage = enrichkit.Stage("company", prompt="Research {{name}}.", answer=Company)
table = pd.DataFrame({{"name": [f"Firm {{number}}" for number in range({rows})]}})
result = enrichkit.run(table, out={out!r}, stages=[stage], key="name", progress=False, **{settings!r})
print((result["_status"] == "done").sum(), "done")
"""


def run(records, out, **settings):
    given = {"stages": [SEARCHING], "key": "name", "progress": False, "workers": 4}
    return enrichkit.run(numbered(records, "Firm "), out=out, **given | settings)


def program(rows, out, **settings):
    """Return the call as a program of its own."""
    code = CALL.format(rows=rows, out=str(out), settings=settings)
    return Program([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_process_that_was_stopped_keeps_what_came_meanwhile(client, simulator, tmp_path):
    """As when a laptop sleeps: the deadline is over, and twenty whole replies are there."""
    simulator.latency_seconds = 0.4
    process = program(20, tmp_path / "out", client=client, workers=20, deadline_seconds=1.6)
    wait_for(lambda: simulator.counts()["requests"] == 20)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.2)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=30)
    assert said == "20 done\n"
    assert simulator.counts()["requests"] == 20


@pytest.mark.parametrize("client", CLIENTS)
def test_no_library_logs_a_request(client, simulator, tmp_path, monkeypatch, caplog):
    """At any level; and the password of an address stands in no message, cell or file."""
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", simulator.url.replace("//", "//user:pass-word@"))
    with caplog.at_level(logging.INFO):
        result = run(50, tmp_path / "a", client=client)
    assert len([record for record in caplog.records if record.name != "enrichkit"]) <= 2
    with caplog.at_level(logging.DEBUG):
        run(5, tmp_path / "b", client=client)
    simulator.faults = {"redirect": 1.0}
    with pytest.raises(errors.Stopped) as stopped:
        run(5, tmp_path / "c", client=client)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    said = [caplog.text, str(stopped.value), result.to_csv(), *map(repr, files)]
    assert [text for text in said if "pass-word" in text] == []


@pytest.mark.parametrize("client", CLIENTS)
def test_a_redirect_ends_the_run_and_takes_no_key_along(client, simulator, tmp_path):
    """No request reaches the other address, no row is stored, and the target is named."""
    simulator.faults = {"redirect": 1.0}
    with pytest.raises(errors.Stopped, match=r"localhost:\d+/elsewhere") as stopped:
        run(10, tmp_path / "out", client=client)
    assert (stopped.value.reason, stopped.value.done) == ("redirected", 0)
    assert simulator.counts()["requests"] <= 4 + 2


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("fault", ["beyond_a_double", "long_number", "long_number_in_answer"])
def test_a_number_that_is_too_long_is_an_unknown_one(client, fault, simulator, tmp_path):
    """In the usage or in the answer: it is paid once, and not asked again."""
    simulator.script = [fault]
    result = run(1, tmp_path / "out", client=client)
    assert list(result["_status"]) == ["done"]
    assert simulator.counts()["answers"] == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_a_body_that_is_no_utf_8_is_stored_as_it_came(client, simulator, tmp_path):
    """In cells a U+FFFD stands for each such byte, and an issue says so."""
    simulator.script = ["no_utf8"]
    result = run(1, tmp_path / "out", client=client)
    assert list(result["_status"]) == ["done"]
    [shard] = (tmp_path / "out").glob("*/*.parquet")
    row = pq.read_table(shard, partitioning=None).to_pylist()[0]
    assert "Simul\ufffdated answer" in row["company._notes"]
    assert any("notes: no_utf8" in issue for issue in row["company._issues"])
    assert json.loads(row["company._replies"][0])["raw"].encode("utf-8", "surrogateescape") == simulator.sent
