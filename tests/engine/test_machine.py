"""A machine that is not as it should be: paused, odd, full, or with variables that speak to libraries."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pyarrow.parquet as pq
import pytest

import enrichkit
from enrichkit import Stage, errors
from enrichkit.messages import CLIENTS
from enrichkit.store.files import Files
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

LIMITED = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 6, 4096))
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
    assert list(tmp_path.rglob("*.parquet")) == list(tmp_path.rglob("*.tsv")) == []


@pytest.mark.parametrize("client", CLIENTS)
def test_control_characters_reach_no_message_cell_or_file(client, simulator, tmp_path, caplog):
    """A service's words may move a terminal's cursor, or ring its bell."""
    simulator.script = [None, "rude_row", "rude"]
    with pytest.raises(errors.Stopped, match=re.escape("closed ?[2J ?")) as stopped:
        run(5, tmp_path / "out", client=client, workers=1)
    run(5, tmp_path / "out", client=client)
    result, report = enrichkit.read(tmp_path / "out"), enrichkit.report(tmp_path / "out")
    assert "bad_request: odd ?[2J ?" in set(result["company._error"])
    files = [path.read_bytes() for path in tmp_path.rglob("*.json")]
    said = [
        str(stopped.value),
        result.to_csv(),
        caplog.text,
        repr(report),
        *map(repr, files),
    ]
    assert [text for text in said if "\x1b" in text or "\x07" in text or "\\x1b" in text] == []


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


@pytest.mark.parametrize("refused", [errno.EXDEV, errno.EROFS])
def test_where_no_file_can_be_moved_nothing_is_asked(refused, simulator, tmp_path, monkeypatch):
    """As where OUT is a bind mount: a disk to look at, and two to a move."""

    def rename(self, path, target):
        if target.parent == tmp_path / "out":
            raise OSError(refused, os.strerror(refused))
        os.replace(path, target)

    monkeypatch.setattr(Files, "_rename", rename)
    with pytest.raises(errors.StoreError, match="another disk or mount" if refused == errno.EXDEV else "Read-only"):
        run(5, tmp_path / "out")
    assert simulator.counts()["requests"] == 0


@pytest.mark.slow
def test_a_bind_mount_is_refused(simulator, tmp_path):
    """The real thing, where a user may make mounts of their own."""
    real, out = tmp_path / "real", tmp_path / "out"
    real.mkdir()
    out.mkdir()
    mounted = ["unshare", "-rm", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', str(real), str(out)]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mounts for users here")
    code = CALL.format(rows=3, out=str(out), settings={})
    done = subprocess.run(
        [*mounted, sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=50
    )
    assert "is a mount point: its replies and lock would lie elsewhere" in done.stderr
    assert (simulator.counts()["requests"], list(real.iterdir())) == (0, [])


def test_replies_are_stored_while_sealing_fails(simulator, tmp_path, monkeypatch):
    """What was in flight is appended, nothing new is asked, and it goes on as soon as shards can be written."""
    broken = threading.Event()
    put = Files.put

    def failing(self, path, data):
        if broken.is_set() and path.suffix == ".parquet":
            raise OSError(errno.EIO, "Input/output error")
        put(self, path, data)

    monkeypatch.setattr(Files, "put", failing)
    broken.set()
    simulator.latency_seconds = (0.05, 0.4)
    given = {"stages": [SEARCHING], "key": "name", "progress": False, "workers": 10, "shard_rows": 2}
    job = enrichkit.start(numbered(30, "Firm "), out=tmp_path / "out", **given)
    wait_for(lambda: job.status.waiting)
    wait_for(lambda: job.status.traffic.in_flight == 0)
    wait_for(lambda: job.status.traffic.unsaved == 0)
    time.sleep(0.7)
    asked = simulator.counts()["answers"]
    assert "cannot be written (Input/output error); trying again" in job.status.waiting
    assert job.status.done == asked < 30
    broken.clear()
    assert set(job.result()["_status"]) == {"done"}
    assert (simulator.counts()["answers"], job.status.waiting) == (30, "")


def test_a_file_system_without_locks_is_told_by_the_logger(simulator, tmp_path, monkeypatch, caplog):
    """No warning ends a run where warnings are errors; two runs are still kept apart."""

    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    assert set(run(3, tmp_path / "out")["_status"]) == {"done"}
    assert "flock not supported" in caplog.text


@pytest.mark.slow
def test_where_joblib_grants_one_thread_all_workers_ask(simulator, tmp_path):
    """Without semaphores joblib works in series, and a worker would wait for the others for ever."""
    simulator.latency_seconds = 0.2
    code = CALL.format(rows=20, out=str(tmp_path / "out"), settings={"workers": 10})
    environment = os.environ | {"JOBLIB_MULTIPROCESSING": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, env=environment, capture_output=True, text=True, timeout=50
    )
    assert done.stdout == "20 done\n", done.stderr
    assert simulator.counts()["most_at_once"] == 10


@pytest.mark.slow
@pytest.mark.parametrize("within", [True, False], ids=["simulator in the process", "elsewhere"])
def test_fewer_ask_where_few_files_may_be_open(within, simulator, tmp_path):
    """At twenty-four files nothing is tried again for ever, and nothing is lost."""
    settings = {"workers": 20, "shard_rows": 5} | ({"model": "simulator"} if within else {})
    code = CALL.format(rows=60, out=str(tmp_path / "out"), settings=settings)
    limited = ["sh", "-c", 'ulimit -n 24; exec "$@"', "sh", sys.executable, "-c", code]
    done = subprocess.run(limited, check=False, capture_output=True, text=True, timeout=50)
    assert done.stdout == "60 done\n", done.stderr
    assert re.fullmatch(
        r"\d+ ask at a time: this process may open 24 files\. Raise ulimit -n for more\.\n", done.stderr
    )


@pytest.mark.slow
def test_where_no_file_is_to_spare_nothing_is_asked(simulator, tmp_path):
    """A sentence says so."""
    code = CALL.format(rows=6, out=str(tmp_path / "out"), settings={}).replace("result =", LIMITED + "result =")
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=50)
    assert "SetupError: This process may open" in done.stderr
    assert simulator.counts()["requests"] == 0


@pytest.mark.parametrize("client", CLIENTS)
def test_what_the_environment_says_to_libraries_moves_no_request(client, tmp_path, monkeypatch):
    """With the simulator there is neither proxy nor certificate, another product or another version."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://ana:word@127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "GOOGLE_APPLICATION_CREDENTIALS"):
            monkeypatch.setenv(name, "/no/such/file")
        for name in ("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE"):
            monkeypatch.setenv(name, "true")
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "one")
        monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "europe-west4")
        monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "other.example")
        monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", "always")
        process = program(2, tmp_path / "out", client=client, model="simulator")
        said, complaints = process.communicate(timeout=50)
        assert (said, complaints) == ("2 done\n", "")
        with pytest.raises(BlockingIOError):
            proxy.accept()
