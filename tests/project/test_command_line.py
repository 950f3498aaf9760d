"""The command line, as a person, cron and CI meet it, asking a simulator over HTTP.

Where a signal, a terminal, an encoding or an exit code is proven, the command runs in a process of its own; each of the
five codes is. `COMMAND` and `subprocess` start the installed one, `Program` one that is forked, which is there at once.
All else calls its entry here: a process takes longer than what is tested.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import logging
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

import enrichkit
from enrichkit.cli.flags import LibraryWarnings
from enrichkit.gemini.simulator import Quota
from support import programs
from support.calls import enrich, instead
from support.paths import TABLE
from support.terminal import at_a_terminal
from support.waiting import hold_after, wait_for

COMMAND = Path(sys.executable).with_name("enrichkit")
RUN = ("run", "--input", "data.csv", "--output", "data_enriched.csv", "--checkpoint", "enrichment_progress.json")


@pytest.fixture
def folder(tmp_path, monkeypatch, quick_sender):
    """A folder with ten records in data.csv; commands run in it."""
    (tmp_path / "data.csv").write_text("".join(TABLE.read_text("utf-8").splitlines(keepends=True)[:11]), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def enrich_apart(*arguments, code=0, run=programs.run):
    """Run the command to its end in a process of its own; return what it said."""
    done = run([COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def begin(*arguments):
    """Start a command and return the process."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return programs.Program([COMMAND, *map(str, arguments)], **pipes)


def hears(process):
    """Wait until a run says that it has heard of an interrupt: one that follows too soon is none of its own."""
    while "finishing " not in (line := process.stderr.readline()):
        assert line, "it has ended"


def table(name="data_enriched.csv"):
    return pd.read_csv(name, dtype=str, keep_default_na=False)


def progress():
    return json.loads(Path("enrichment_progress.json").read_text("utf-8"))


def answers_per_prompt(simulator):
    return [prompt["answers"] for prompt in simulator.counts()["prompts"].values()]


# The test plan, and the three examples


def test_ten_records_with_five_workers(folder, simulator):
    """All done, in the input's order, with every file where it is looked for."""
    told = enrich_apart(*RUN, "--max-workers", 5, run=subprocess.run)
    assert simulator.counts()["most_at_once"] <= 5
    assert "10 rows: 10 done" in told
    assert table()["fund.title"].tolist() == table("data.csv")["fund.title"].tolist()
    found = progress()
    assert (found["total_records"], found["completed_count"], found["failed_ids"], found["errors"]) == (10, 10, [], [])
    assert set(found["completed_ids"]) == set(enrichkit.read("enrichment_progress")["_record_id"])
    assert found["total_tokens"] > 0
    assert json.loads(Path("enrichment_report.json").read_text())["cost"]["records"] == 10
    work = {path.name for path in Path("enrichment_progress.work").iterdir()}
    assert {"enrichment_progress.json", "enrichment_report.json"} <= work
    assert "all is well" in enrich("verify", "enrichment_progress")


def test_interrupted_after_five_and_resumed(folder, simulator):
    """What is in flight is kept; the same command goes on, and nothing is asked twice."""
    go = hold_after(simulator, 10)
    process = begin(*RUN, "--max-workers", 1)
    wait_for(lambda: simulator.counts()["requests"] == 11)
    simulator.latency_seconds = 1  # so that hardly one more could be begun
    process.send_signal(signal.SIGINT)
    go.set()
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "The same command goes on from here" in err
    assert 4 <= (table()["_status"] == "done").sum() < 10
    assert progress()["state"] == "interrupt"
    simulator.latency_seconds = 0
    enrich(*RUN, "--resume")
    assert set(table()["_status"]) == {"done"}
    assert set(answers_per_prompt(simulator)) == {1}


def test_invalid_records(folder, simulator):
    """The row is named before anything is asked or written; the plan shows what else looks odd."""
    frame = table("data.csv")
    frame.loc[2, "fund.title"] = " "
    frame.to_csv("data.csv", index=False)
    told = enrich(*RUN, code=2)
    assert re.search(r"key column 'fund.title' is empty in row 3", told)
    assert [path.name for path in folder.iterdir()] == ["data.csv"]
    assert simulator.counts()["requests"] == 0


def test_rate_limits_at_twenty_workers(folder, simulator):
    """Refusals cost no record."""
    shutil.copy(TABLE, "data.csv")
    simulator.quota = Quota(15, seconds=1.0)  # of some 40 requests, so that even a slow machine passes it
    enrich(*RUN, "--max-workers", 20, "--limit", 20)
    assert simulator.counts()["refused"]
    found = table()["_status"].value_counts()
    assert found["done"] >= 20
    assert set(found.index) == {"done", "pending"}


def test_fresh_start_resume_and_retry_failed(folder, simulator):
    """The three examples, one after the other, on one store; the retry's own output has just what had failed."""
    simulator.script = ["safety", "safety"]
    told = enrich(*RUN, "--stages", "poc,fund", "--max-workers", 10, code=1)
    assert "Failed stages: 2 blocked" in told
    failed = table()[table()["_status"] == "failed"]["fund.title"].tolist()
    assert (progress()["state"], progress()["failed_count"]) == ("done", len(failed))
    (error, _) = [json.loads(one) for one in Path("enrichment_errors.log").read_text("utf-8").splitlines()]
    assert set(error) == {"when", "record", "key", "stage", "cause", "attempts", "what_to_do"}
    assert error["what_to_do"] == "its text or answer is refused; look at the record"
    assert "add --retry-failed" in told

    told = enrich(*RUN, "--resume", code=1)  # a failed record stays failed, and is told of again
    assert re.search(r"Failed stages: 2 blocked; see .*add --retry-failed", told)
    assert {one["record"] for one in progress()["errors"]} == set(progress()["failed_ids"])
    assert len(Path("enrichment_errors.log").read_text("utf-8").splitlines()) == 2
    retry = list(RUN)
    retry[retry.index("data_enriched.csv")] = "retried.csv"
    for _ in range(2):  # the second finds nothing to do, and keeps the rows
        told = enrich(*retry, "--retry-failed", "--resume")
        assert re.search(rf"Written: retried.csv \({len(failed)} rows?\)", told)
        assert table("retried.csv")["fund.title"].tolist() == failed
        assert set(table("retried.csv")["_status"]) == {"done"}
    assert (table()["_status"] == "failed").sum() == len(failed)  # its own output only
    enrich(*RUN)
    assert set(table()["_status"]) == {"done"}
    assert progress()["errors"] == []

    Path("retried.csv").unlink()
    told = enrich(*retry, "--retry-failed")
    assert "Nothing in this table had failed, so retried.csv was not written; the store is" in told
    assert not Path("retried.csv").exists()

    told = enrich(*RUN, "--fresh")
    aside = re.search(r"The old store is now (\S+)\.\n", told)[1]
    assert len(enrichkit.read(aside)) == len(enrichkit.read("enrichment_progress")) == 10
    assert sorted(answers_per_prompt(simulator))[-1] >= 2


def test_a_retry_asks_only_what_failed(folder, simulator):
    """Pending records wait for another call; what failed is asked, wherever it stands, and the plan says so."""
    simulator.script = ["safety"]
    enrich(*RUN, "--limit", 3, "--max-workers", 1, code=1)
    before = simulator.counts()["requests"]
    odd = enrich(*RUN, "--retry-failed", "--priority", "fund.title", code=2)
    assert "--priority must be numbers, the highest asked first" in odd
    told = enrich(*RUN, "--retry-failed")
    assert "7 records are left for a later call (--retry-failed)." in told
    assert simulator.counts()["requests"] == before + 1
    assert table()["_status"].value_counts().to_dict() == {"pending": 7, "done": 3}


# Exit codes and stops


@pytest.mark.parametrize(
    ("fault", "arguments", "told"),
    [
        ("daily_quota", (), "The daily quota is used up"),
        ("spend_limit", (), "spend limit is reached"),
        ("bad_key", (), "refused the key"),
        ("no_model", (), "does not know the model"),
        ("bad_request", (), "Question after question failed"),
        (None, ("--budget", "0.2"), r"keep within the budget.*The same command with a higher --budget goes on"),
    ],
)
def test_a_run_that_has_to_stop_says_why_and_goes_on_later(fault, arguments, told, folder, simulator):
    """Once, with 3; and the same command goes on, once the cause is gone."""
    simulator.faults = {fault: 1.0} if fault else {}
    assert len(re.findall(told, enrich(*RUN, *arguments, code=3))) == 1
    simulator.faults = {}
    assert Path("data_enriched.csv").exists()
    enrich(*RUN)
    assert set(table()["_status"]) == {"done"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--input", "none.csv"), "There is no file none.csv"),
        (("--output", "data.csv"), "data.csv is the input of the run. Write it elsewhere"),
        (("--output", "out.pdf"), "the suffix '.pdf' is not known"),
        (("--output", ""), "the suffix '' is not known"),
        (("--stages", "poc,found"), "There is no stage 'found'"),
        (("--key", "nothing"), "The key column 'nothing' is not in the table"),
        (("--max-workers", "21"), "--max-workers must be a whole number from 1 to 20"),
        (("--budget", "-1"), "--budget must be"),
        (("--resume",), "There is nothing to resume"),
        (("--retry-failed",), "There is nothing to retry: no store at"),
        (("--fresh", "--resume"), "--fresh begins a new store"),
        (("--fresh", "--retry-failed"), "--fresh begins a new store"),
        (("--priority", "size"), "The priority column 'size' is not in the table"),
        (("--checkpoint-interval", "0"), "a whole number from 1 on is needed, not '0'"),
        (("--checkpoint", "data_enriched.csv"), "data_enriched.csv is, or lies in, the store's folder"),
        (("--checkpoint", "data.csv"), "is a file. The store is a folder"),
        (("--input", "."), "the suffix '' is not known"),
        (("--checkpoint", "."), "data_enriched.csv is, or lies in, the store's folder"),
        (("--checkpoint", ".", "--output", "../data_enriched.csv"), "other things in it, such as data.csv"),
        (("--checkpoint", "/"), "cannot be a store's folder: it has no name of its own"),
        (("--checkpoint", "x" * 300), "cannot be a store's folder: File name too long"),
        (("--progress", "html"), "invalid choice: 'html'"),
        (("--rpm", "0"), "--rpm must be"),
        (("--limit", "-1"), "--limit must be"),
        (("--delay", "-1"), "--delay must be"),
    ],
)
def test_wrong_use_is_one_sentence(arguments, told, folder, simulator):
    """2, before anything is asked or written."""
    assert told in enrich(*instead(RUN, *arguments), code=2)
    assert [path.name for path in folder.iterdir()] == ["data.csv"]
    assert simulator.counts()["requests"] == 0


def test_a_progress_file_that_is_a_folder_is_told_beforehand(folder, simulator):
    """2, and nothing is asked."""
    Path("p.json").mkdir()
    assert "p.json is a folder, and would be the progress file" in enrich(*RUN[:3], "--checkpoint", "p.json", code=2)
    assert simulator.counts()["requests"] == 0


def test_a_fresh_start_carries_off_nothing_but_a_store(folder, simulator):
    """A folder of that name with anything else in it stays where it is, and no shard is laid among it."""
    (folder / "data_enriched").mkdir()
    (folder / "data_enriched" / "thesis.txt").write_text("mine")
    for more in ((), ("--fresh",)):
        told = enrich("run", "--input", "data.csv", "--limit", 1, *more, code=2)
        assert "other things in it, such as thesis.txt" in told
    assert [path.name for path in (folder / "data_enriched").iterdir()] == ["thesis.txt"]
    enrich("run", "--input", "data.csv", "--limit", 1, "--checkpoint", "store")
    (folder / "store" / "note.txt").write_text("mine")
    enrich("run", "--input", "data.csv", "--limit", 2, "--checkpoint", "store")  # a store with a note in it goes on
    enrich("run", "--input", "data.csv", "--limit", 2, "--checkpoint", "store", "--fresh", code=2)


def test_an_export_that_cannot_be_written_is_one_sentence(folder, simulator):
    """2, and no traceback."""
    enrich(*RUN, "--limit", 1)
    Path("all.csv").mkdir()
    told = enrich_apart("export", "enrichment_progress", "all.csv", code=2)
    assert told == "enrichkit: all.csv cannot be written: it is a folder. Name another file.\n"


def test_an_export_never_replaces_the_input(folder, simulator):
    """Whatever name it goes by; any other file gives way, and an input that has gone protects nothing."""
    before = Path("data.csv").read_bytes()
    enrich(*RUN, "--limit", 1)
    Path("link.csv").symlink_to("data.csv")
    Path("same.csv").hardlink_to("data.csv")
    for name in ("data.csv", folder / "data.csv", "link.csv", "same.csv"):
        told = enrich("export", "enrichment_progress", name, code=2)
        assert told == f"enrichkit: {name} is the input of the run. Write it elsewhere.\n"
    assert Path("data.csv").read_bytes() == before
    for name in ("same.csv", "link.csv"):
        Path(name).unlink()
    Path("other.csv").write_text("old")
    Path("data.csv").unlink()
    for name in ("other.csv", "data.csv"):
        assert enrich("export", "enrichment_progress", name) == f"Written: {name}\n"
    assert len(table("other.csv")) == 1


def test_messages_speak_the_command_lines_language(folder, simulator):
    """No call of the library where a flag is meant; blanks after a comma are no part of a stage's name."""
    told = enrich(*RUN, "--dry-run", "--stages", "poc, fund")
    assert told.endswith("Next: the same command without --dry-run.\n")
    told += enrich(*RUN, "--limit", 1) + enrich("status", "nothing", code=2)
    assert "9 records are left for a later call (--limit=1)." in told
    assert "enrichkit run makes one" in told
    told += enrich(*RUN, "--stages", "found", code=2) + enrich(*RUN, "--client", "mine", code=2)
    assert "give MODULE:STAGE or FILE.py:STAGE" in told
    assert "a callable (in Python)" in told
    told += enrich(*instead(RUN, "--model", "mine", "--checkpoint", "mine", "--dry-run"))
    assert "in Python, give prices={" in told
    told = told.replace("in Python, give prices={'mine': enrichkit.Price(...)}", "")
    assert not re.search(r"enrichkit\.\w|df\.", told.replace("enrichkit.git", ""))


def test_an_ascii_terminal_ends_no_run(folder, simulator, monkeypatch):
    """What its letters cannot say is escaped."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    table("data.csv").assign(Größe="…\x1b").to_csv("data.csv", index=False)
    told = enrich_apart(*RUN, "--limit", 1, "--priority", "Größe", code=2)
    told += enrich_apart(*RUN, "--dry-run", run=subprocess.run)
    assert r"Gr\xf6\xdfe" in told
    enrich_apart(*RUN, "--limit", 1, "--progress", "text")


def test_no_key_is_wrong_use(folder, simulator, monkeypatch):
    """The sentence says what to set."""
    monkeypatch.delenv("GOOGLE_API_KEY")
    assert "Set GOOGLE_API_KEY" in enrich(*RUN, code=2)


def test_a_changed_question_or_another_key_is_refused(folder, simulator):
    """As in the library, with the command line's way out."""
    enrich(*RUN)
    assert "--on-change redo" in enrich(*RUN, "--model", "gemini-3.5-flash", code=2)
    assert "identifies records by" in enrich(*RUN, "--key", "poc.email", "--limit", 1, code=2)
    assert Path("enrichment_progress.work/owner.json").exists() is False


def test_sigterm_drains(folder, simulator):
    """As Ctrl-C: what is in flight is kept."""
    go = hold_after(simulator, 3)
    process = begin(*RUN, "--max-workers", 3)
    wait_for(lambda: simulator.counts()["requests"] == 6)
    simulator.latency_seconds = 1
    process.send_signal(signal.SIGTERM)
    go.set()
    process.communicate(timeout=60)
    assert process.returncode == 130
    asked = simulator.counts()["requests"]
    assert simulator.counts()["answers"] == asked
    enrich(*RUN)
    assert set(answers_per_prompt(simulator)) == {1}


def test_a_second_interrupt_leaves_at_once(folder, simulator):
    """Without waiting for what is in flight; the files are right all the same."""
    hold_after(simulator, 4)
    process = begin(*RUN, "--max-workers", 2)
    wait_for(lambda: simulator.counts()["requests"] == 6)
    process.send_signal(signal.SIGINT)
    hears(process)
    process.send_signal(signal.SIGINT)
    told = process.stderr.read()
    assert (process.wait(60), "Left at once" in told) == (130, True)
    assert simulator.counts()["answers"] == 4  # the others are held still
    process.stdout.close()
    process.stderr.close()
    assert len(table()) == 10
    told = enrich("status", "enrichment_progress")
    assert re.search(r"The last run: interrupt, updated .* ago: \d+ of 10 records complete, 0 failed$", told)


def test_a_lost_lock_stops_the_run(folder, simulator):
    """Somebody removed the work area's lock: nothing more is written, 3."""
    go = hold_after(simulator, 2)
    process = begin(*RUN, "--max-workers", 1)
    wait_for(lambda: simulator.counts()["requests"] == 3)
    Path("enrichment_progress.work/lock").unlink()
    go.set()
    err = process.communicate(timeout=60)[1]
    assert (process.returncode, "lock" in err) == (3, True)


def test_an_output_that_cannot_be_written_costs_no_answer(folder, simulator):
    """3; the sentence says where the answers are, and the same command goes on."""
    go = hold_after(simulator, 1)  # no record is complete by that, so nothing is written
    process = begin(*RUN, "--max-workers", 1)
    wait_for(lambda: simulator.counts()["requests"] == 2)
    Path("data_enriched.csv").mkdir()
    go.set()
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 3
    assert re.search(r"data_enriched.csv cannot be written: .* The answers are safe in .*enrichkit export", err)
    Path("data_enriched.csv").rmdir()
    enrich(*RUN)
    assert set(table()["_status"]) == {"done"}
    assert set(answers_per_prompt(simulator)) == {1}


@pytest.mark.parametrize("command", ["status", "report", "verify", "export"])
@pytest.mark.parametrize("place", ["nothing", ".", "data.csv"])
def test_no_store_is_wrong_use(place, command, folder):
    """2, and the sentence says that there is none; a folder of other things, or a file, is none either."""
    more = ["all.csv"] if command == "export" else []
    assert "There is no store at" in enrich(command, place, *more, code=2)


def test_a_folder_that_is_there_and_empty_becomes_a_store(folder, simulator):
    """It counts as none until a run has begun there."""
    Path("enrichment_progress").mkdir()
    assert "There is nothing to resume" in enrich(*RUN, "--resume", code=2)
    assert "1 done, 9 pending" in enrich(*RUN, "--limit", 1)
    assert "1 record done" in enrich("status", "enrichment_progress")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full disk at hand")
def test_a_full_disk_below_stdout_is_one_sentence(folder, simulator, monkeypatch):
    """3, before anything is asked."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with Path("/dev/full").open("w") as full:
        command = [COMMAND, *RUN]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=100)
    assert done.stderr == "enrichkit: The output cannot be used: No space left on device.\n"
    assert (done.returncode, simulator.counts()["requests"]) == (3, 0)


@pytest.mark.parametrize("pair", [os.pipe, pty.openpty])
def test_nobody_who_stops_listening_ends_a_run(pair, folder, simulator, monkeypatch):
    """Neither a pipe's reader nor a terminal that is closed: the table is enriched, and the exit code says so."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    unread, pipe = pair()
    os.close(unread)
    done = programs.run([COMMAND, *RUN, "--progress", "text"], stdout=pipe, stderr=pipe, check=False, timeout=100)
    os.close(pipe)
    assert (done.returncode, set(table()["_status"])) == (0, {"done"})


def test_the_version(folder):
    """As pip knows it."""
    assert enrich("--version") == f"enrichkit {importlib.metadata.version('enrichkit')}\n"


def test_what_no_disk_takes_is_one_sentence(folder, simulator):
    """Here a name that is too long; no traceback."""
    name = folder / ("a" * 300)
    assert "cannot be a store's folder: File name too long" in enrich("status", name, code=2)


def test_simulated_and_real_answers_are_told_apart_beforehand(folder, simulator, monkeypatch):
    """2: no rerun of the same command would help."""
    enrich(*RUN, "--limit", 1)
    monkeypatch.delenv("GOOGLE_GEMINI_BASE_URL")
    told = enrich(*RUN, code=2)
    assert "real ones never mix with them. Choose another --checkpoint." in told


def test_simulate_serves_and_says_how_to_use_it(folder):
    """The lines that it prints are enough to ask it."""
    process = begin("simulate", "--port", "0")
    first, second = process.stdout.readline(), process.stdout.readline()
    assert "until you press Ctrl-C" in first
    given = dict(one.split("=", 1) for one in second.removeprefix("To use it: ").split())
    done = programs.run([COMMAND, *RUN], env=os.environ | given, capture_output=True, text=True, check=False)
    process.send_signal(signal.SIGINT)
    counts = process.communicate(timeout=60)[0]
    assert (done.returncode, json.loads(counts)["answers"]) == (0, 19)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--port", "99999"), "a whole number from 0 to 65535 is needed, not '99999'"),
        (("--latency", "abc"), "a number from 0 on is needed, not 'abc'"),
        (("--fault", "overloaded=2"), "a number from 0 to 1 is needed, not '2'"),
        (("--fault", "nothing"), "there is no fault 'nothing'"),
        (("--per-minute", "0"), "a whole number from 1 on is needed"),
        (("--per-day", "-1"), "a whole number from 1 on is needed"),
        (("--lat", "1"), "has no argument '--lat'. Did you mean '--latency'?"),
    ],
)
def test_a_simulator_that_cannot_be_is_one_sentence(arguments, told, folder):
    """2, before it serves."""
    assert told in enrich("simulate", *arguments, code=2)


# Beside a run, and after a kill


def test_a_damaged_shard_is_told_in_the_shells_words(folder):
    """Whoever warns of it."""
    enrich("run", "--input", "data.csv", "--model", "simulator", "--yes", "--limit", 1)
    shard = next(Path("data_enriched").rglob("*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert "or --redo-damaged quarantines it and asks, and pays, for them again" in enrich("status", "data_enriched")


def test_an_empty_list_of_stages_is_no_stage(folder):
    """The sentence names what was given."""
    assert "There is no stage ''" in enrich("run", "--input", "data.csv", "--stages", "", "--dry-run", code=2)


def test_status_from_a_second_process_and_a_kill(folder, simulator):
    """It says what is on the disk; files are kept up to date; after kill -9 the same command goes on."""
    pd.read_csv(TABLE, dtype=str).head(150).to_csv("data.csv", index=False)
    go = hold_after(simulator, 80)
    process = begin(*RUN, "--max-workers", 5, "--shard-rows", 10, "--checkpoint-interval", 5)
    wait_for(lambda: Path("enrichment_progress.json").exists() and progress()["completed_count"] >= 20)
    assert len(table()) == 150
    assert (table()["_status"] == "done").sum() >= 20
    told = enrich("status", "enrichment_progress")
    done = int(re.search(r"([\d,]+) records done", told)[1])
    assert done >= 10
    assert re.search(r"The last run: running, updated \d+ s ago: \d+ of 150 records complete.* left", told)
    assert "Another run works on" in enrich_apart(*RUN, code=3)
    assert "Another run works on" in enrich(*RUN, "--fresh", code=3)
    process.kill()
    process.communicate()
    told = enrich("status", "enrichment_progress.json")
    assert re.search(r"The last run: running, updated \d+ s ago: \d+ of 150 records complete", told)
    assert int(re.search(r"([\d,]+) records done", told)[1]) >= done
    go.set()
    enrich(*RUN, "--max-workers", 20, "--shard-rows", 10)
    assert set(table()["_status"]) == {"done"}
    again = [count for count in answers_per_prompt(simulator) if count > 1]
    assert len(again) <= 5 + 2
    sealed, found = enrichkit.read("enrichment_progress"), progress()
    kinds = [name for name in sealed if re.fullmatch(r".*\._(input|tool|thinking|output)_tokens", name)]
    assert found["total_tokens"] == sealed[kinds].sum().sum()  # what was killed had paid, too
    assert (found["state"], found["left_seconds"], found["eta"]) == ("done", None, None)
    told = enrich("status", "enrichment_progress")
    assert re.search(r"The last run: done, updated \d+ s ago: 150 of 150 records complete, 0 failed$", told)
    assert not list(folder.glob(".*.tmp")) or process.returncode == -9


def test_the_librarys_warnings_reach_stderr(folder, simulator, monkeypatch):
    """Once, and never where notifications go."""
    monkeypatch.setenv("ENRICHKIT_NOTIFY", "json://127.0.0.1:9/canary")
    shown = enrich_apart(*RUN, "--budget", "0.2", "--max-workers", 3, code=3)
    assert shown.count("did not reach address 1 of 1 (json://)") == 1
    assert "with a higher --budget" in shown
    assert "canary" not in shown


def test_a_warning_of_the_library_is_escaped(capsys):
    """It may hold what a record or a service says, and a terminal would obey that."""
    LibraryWarnings().handle(logging.makeLogRecord({"msg": "odd: %s", "args": ("\x1b[2J",)}))
    assert capsys.readouterr().err == "enrichkit: odd: ?[2J\n"


# Asking whether to go on


def test_the_doctor_asks_before_it_spends(simulator):
    """It says how much at most; without a yes nothing is sent."""
    code, shown = at_a_terminal([COMMAND, "doctor"], answer="n")
    assert code == 3
    assert "a few cents, never over 0.41 USD" in " ".join(shown.split())
    assert simulator.counts()["requests"] == 0
    assert at_a_terminal([COMMAND, "doctor"], answer="y")[0] == 0
    assert simulator.counts()["requests"] == 9


def test_leaving_at_once_ends_the_bars_line_first(folder, simulator):
    """At a terminal; the summary stands below the bar."""
    hold_after(simulator, 0)
    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    process = programs.Program([COMMAND, *RUN, "--yes"], stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""

    def until(told):
        nonlocal shown
        while told not in shown:
            shown += os.read(main, 4096)

    until(b" 0/10")
    wait_for(lambda: simulator.counts()["requests"] >= 2)
    process.send_signal(signal.SIGINT)
    until(b"finishing")
    process.send_signal(signal.SIGINT)
    with suppress(OSError):  # how Linux says that the other end is closed
        until(b"no more")
    os.close(main)
    assert process.wait(timeout=60) == 130
    assert re.search(rb"%\|[^\n]*\r\n10 rows: 10 pending", shown), shown


def test_a_dry_run_advises_a_sample_of_a_large_table_only(folder, simulator):
    """Of more than ten records, unless --limit has said how many."""
    advice = "without --dry-run, with --limit 10 first, to measure what it costs."
    assert advice not in enrich(*RUN, "--dry-run")
    pd.read_csv(TABLE, dtype=str).head(11).to_csv("data.csv", index=False)
    assert advice in enrich(*RUN, "--dry-run")
    assert advice not in enrich(*RUN, "--dry-run", "--limit", 5)


def test_a_person_is_asked_before_money_is_spent(folder, simulator):
    """The plan and its price, then the question; no means nothing is asked; --yes asks nobody."""
    code, shown = at_a_terminal([COMMAND, *RUN], answer="n")
    assert code == 3
    assert re.search(r"19 requests, about [\d.]+ USD(.|\n)*Go on\? \[y/N\]", shown)
    assert (simulator.counts()["requests"], Path("enrichment_progress").exists()) == (0, False)
    assert at_a_terminal([COMMAND, *RUN], answer="y")[0] == 0
    code, shown = at_a_terminal([COMMAND, *RUN, "--fresh", "--yes"])
    assert (code, "Go on?" in shown) == (0, False)


def test_a_dry_run_asks_and_writes_nothing(folder, simulator):
    """It shows the plan, also of a fresh start."""
    assert "19 requests" in enrich(*RUN, "--dry-run")
    assert [path.name for path in folder.iterdir()] == ["data.csv"]
    enrich(*RUN)
    assert "19 requests" in enrich(*RUN, "--dry-run", "--fresh")
    assert "Nothing to ask" in enrich(*RUN, "--dry-run")


def test_a_dry_run_refuses_what_a_run_would(folder, simulator, monkeypatch):
    """With the same sentence and 2, after the plan; a key it needs not."""
    enrich(*RUN, "--limit", 1)
    monkeypatch.delenv("GOOGLE_API_KEY")
    assert "Next: the same command without --dry-run" in enrich(*RUN, "--dry-run")
    told = enrich(*RUN, "--dry-run", "--model", "gemini-3.5-flash", code=2)
    assert re.search(r"requests, about(.|\n)*The question has changed", told)
    table("data.csv").assign(**{"fund.title": ""}).head(3).to_csv("data.csv", index=False)
    assert "'fund.title' is empty in rows 1, 2 and 3" in enrich(*RUN, "--dry-run", code=2)


@pytest.mark.parametrize("more", ["--dry-run", "--fresh"])
def test_where_notices_and_progress_go_is_checked_before_a_store_is_set_aside(more, folder, simulator, monkeypatch):
    """Else the next call, without --fresh, would ask and pay for everything anew."""
    enrich(*RUN, "--limit", 1)
    before = sorted(folder.iterdir())
    assert "not an address that apprise supports" in enrich(*RUN, more, "--notify", "nonsense://x", code=2)
    monkeypatch.setenv("ENRICHKIT_PROGRESS", "loud")
    assert "ENRICHKIT_PROGRESS must be one of" in enrich(*RUN, more, code=2)
    assert sorted(folder.iterdir()) == before


# Selection, pauses, formats


def test_priority_and_limit(folder, simulator):
    """High first; the rest stays pending, and a later call takes it up."""
    frame = table("data.csv").assign(size=[str(number) for number in range(10)])
    frame.to_csv("data.csv", index=False)
    enrich(*RUN, "--priority", "size", "--limit", 4)
    assert table()["_status"].tolist() == ["pending"] * 6 + ["done"] * 4
    enrich(*RUN)
    assert set(table()["_status"]) == {"done"}


def test_a_delay_between_a_records_stages(folder, simulator):
    """The second stage of a record starts so long after the first."""
    enrich(*RUN, "--limit", 2, "--delay", 1)
    paid = enrichkit.costs("enrichment_progress").pivot_table(index="record", columns="stage", values="at")
    assert ((paid["fund"] - paid["poc"]).dt.total_seconds() >= 1).tolist() == [True, True]


def test_untouched_cells_come_back_as_they_were(folder, simulator):
    """CSV in, CSV out: equal columns, in order, whatever stands in them."""
    nasty = ["Zoë", "007", "12345678901234567890123", "", " ", "NA", "=1+1", "+49", "a\r\nb", 'q"q', "\x1b[2J"]
    rows = [["fund.title", "note", "=odd", "fund.phone"]] + [
        [f"Fund {cell!r}", cell, f"-{cell}", cell] for cell in nasty
    ]
    with Path("data.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    enrich(*RUN, "--stages", "fund")
    before, after = table("data.csv"), table()
    assert list(after.columns)[:4] == list(before.columns)
    assert after[list(before.columns)].equals(before)
    assert set(after["_status"]) == {"done"}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".xlsx"])
def test_other_formats(suffix, folder, simulator):
    """By suffix, in and out."""
    from enrichkit.reporting.tablefiles import read_sheet, write_sheet

    write_sheet(table("data.csv"), f"data{suffix}")
    enrich("run", "--input", f"data{suffix}")
    assert read_sheet(f"data_enriched{suffix}")["_status"].tolist() == ["done"] * 10
    enrich("export", "data_enriched", "all.parquet")
    assert len(pd.read_parquet("all.parquet")) == 10
    report = enrich("report", "data_enriched")
    assert "10 records" in report
    assert "Next: enrichkit corrections " in report
    assert json.loads(enrich("report", "data_enriched", "--json"))["cost"]["records"] == 10


def test_a_file_that_is_not_utf_8(folder, simulator):
    """One sentence: which file, and what to do."""
    Path("data.csv").write_bytes("fund.title\nZoë\n".encode("cp1252"))
    told = enrich(*RUN, code=2)
    assert told.count("\n") == 1
    assert "not UTF-8" in told
    assert "iconv" in told


def test_help_and_module(folder):
    """Every option of the issue is there; python -m is the same command."""
    told = enrich("run", "--help")
    assert "The same command goes on" in told
    assert "enrichkit run --input data.csv --model simulator" in " ".join(told.split())
    for option in (
        "--input --output --stages --max-workers --checkpoint --resume --fresh --retry-failed --delay "
        "--checkpoint-interval --shard-rows --rpm --budget --limit --priority --model --client --key --dry-run --yes "
        "--progress"
    ).split():
        assert option in told
    module = [sys.executable, "-m", "enrichkit", "run", "--help"]
    assert subprocess.run(module, capture_output=True, text=True, check=True).stdout == told


# What must not get out


def test_hostile_text_reaches_no_terminal(folder, simulator):
    """Control characters of a record are escaped in logs and messages."""
    Path("data.csv").write_text("fund.title\nEvil\x1b]0;title\x07\x1b[2J\n", "utf-8")
    simulator.faults = {"safety": 1.0}
    told = enrich_apart(*RUN, "--stages", "fund", code=1)
    logs = [path.read_text("utf-8") for path in folder.rglob("*") if path.suffix in (".log", ".json")]
    assert len(logs) >= 6
    for text in [told, *logs]:
        assert not set(text) & {"\x1b", "\x07"}
    error = json.loads(Path("enrichment_errors.log").read_text("utf-8"))
    assert error["key"] == {"fund.title": "Evil\x1b]0;title\x07\x1b[2J"}


@pytest.mark.parametrize(
    ("fault", "client", "enrich_first"),
    [
        (None, "google-genai", enrich),
        (None, "google-generativeai", enrich_apart),
        ("bad_key", "google-genai", enrich_apart),
        ("bad_key", "google-generativeai", enrich),
        ("unauthorized", "google-genai", enrich),
        ("reset", "google-generativeai", enrich),
    ],
)
def test_the_key_is_found_nowhere(fault, client, enrich_first, *, folder, simulator, monkeypatch, capfd):
    """Not in a file, a log, a message or an exported table, however the run ends."""
    canary, hook = "AIzaCANARY0123456789-canary", "hookCANARY0123456789"
    monkeypatch.setattr("enrichkit.engine.retry.FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setenv("GOOGLE_API_KEY", canary)
    monkeypatch.setenv("GEMINI_API_KEY", canary)
    monkeypatch.setenv("ENRICHKIT_NOTIFY", f"json://user:{hook}@127.0.0.1:9/{hook}")
    simulator.faults = {fault: 1.0} if fault else {}
    table("data.csv").head(2).to_csv("data.csv", index=False)
    said = enrich_first(*RUN, "--client", client, code=3 if fault else 0)
    said += enrich("status", "enrichment_progress") + enrich("report", "enrichment_progress")
    said += enrich("export", "enrichment_progress", "all.csv", code=2 if fault else 0)
    said += "".join(capfd.readouterr())  # what a library wrote past sys.stderr
    assert canary not in said
    assert hook not in said
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if re.search(f"{canary}|{hook}".encode(), path.read_bytes())]
    assert canary not in enrichkit.read("enrichment_progress").to_csv()  # what is compressed in the shards


def test_what_cannot_be_read_is_one_sentence(folder, simulator):
    """Without a screenful of usage: what is wrong, and where the flags are explained; 2, and nothing is asked."""
    for arguments, words in [
        ((), "the following arguments are required: command. See enrichkit --help."),
        (("run", "--input", "."), ".: the suffix '' is not known. Name a file that ends in .csv"),
        (("rum",), "invalid choice: 'rum' (choose from 'run', 'status'"),
        (("run",), "the following arguments are required: --input. See enrichkit run --help."),
        ((*RUN, "--budget", "much"), "argument --budget: invalid float value: 'much'. See enrichkit run --help."),
        ((*RUN, "--limit"), "argument --limit: expected one argument."),
        ((*RUN, "--on-change", "ask"), "argument --on-change: invalid choice: 'ask'"),
        ((*RUN, "--yes=1"), "argument --yes: ignored explicit argument '1'."),
        ((*RUN, "--key", "fund.title", "--key", "fund.title"), "--key must name at least one column, and each once."),
        ((*RUN, "--stages", "fund,fund"), "Give at least one stage, and each name once: fund, fund."),
        (("weak", "store"), "the following arguments are required: FILE. See enrichkit weak --help."),
        (("doctor", "--patience", "-1"), "argument --patience: a number from 0 on is needed, not '-1'."),
    ]:
        said = enrich(*arguments, code=2)
        assert said.startswith("enrichkit: ")
        assert (said.count("\n"), words in said) == (1, True), said
    assert simulator.counts()["requests"] == 0


def test_what_is_said_of_a_table_is_said_once(folder, simulator):
    """By the plan, which the command prints before it runs; Python, where they are two calls, says it in both."""
    Path("data.csv").write_text("fund.title,fund.country\nAcme,Norway\nAcme,Peru\n", "utf-8")
    said = enrich(*RUN, "--stages", "fund")
    assert said.count("only the first of them is read") == 1
