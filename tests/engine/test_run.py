"""The public verbs end to end: real HTTP to a simulator, real shards on disk."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import unicodedata

import numpy as np
import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Stage, errors
from enrichkit.gemini.simulator import Simulator
from enrichkit.messages import Reply
from support.paths import TABLE
from support.programs import Program
from support.waiting import hold_after, wait_for


@pytest.fixture
def no_key(monkeypatch):
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def frame():
    """Four contacts at two funds and one fund without a contact."""
    return pd.DataFrame(
        {
            "fund.title": ["Borealis", "borealis ", "Żubr & Co", "Żubr & Co", "Miravel, Llc"],
            "poc.first_name": ["Ana", "José", "明", "Zoë", None],
            "poc.last_name": ["Aas", "Núñez", "王", "O'Dell", None],
            "poc.role": ["Partner", None, None, None, None],
            "fund.country": ["Norway", "NO", "Poland", None, "usa"],
            "rank": [3, 1, 2, 5, 4],
        },
        index=["e", "d", "c", "b", "a"],
    )


@pytest.fixture
def table():
    return pd.read_csv(TABLE, dtype=str)


class Company(Answer):
    industry: str | None = None
    employees: int | None = None


COMPANY = Stage("company", prompt="Research {name} in {country}.", answer=Company)


def run(frame, out, **settings):
    return enrichkit.run(frame, **({"out": out, "progress": False, "workers": 4} | settings))


def questions(frame):
    """The number of different questions of poc and fund, counted without the package."""

    def text(cell):
        return unicodedata.normalize("NFC", str(cell).strip()).casefold() if isinstance(cell, str) else ""

    columns = ("fund.title", "poc.first_name", "poc.last_name")
    people = {tuple(map(text, row)) for row in frame[list(columns)].itertuples(index=False)}
    return sum(bool(person[2]) for person in people) + len({person[0] for person in people})


def test_a_table_comes_back_enriched(frame, tmp_path, simulator):
    """Rows, index and columns as they were, gaps filled, statuses beside them."""
    enriched = run(frame, tmp_path / "out")
    assert enriched.index.tolist() == list("edcba")
    assert enriched[["fund.title", "rank"]].equals(frame[["fund.title", "rank"]])
    assert enriched["_status"].tolist() == ["done"] * 5
    assert enriched["poc._status"].tolist() == ["done"] * 4 + ["skipped"]
    assert enriched.loc["e", "poc.role"] == "Partner"
    assert {"fund.website", "fund.sectors", "fund._confidence"} <= set(enriched.columns)


def test_each_question_is_asked_once(frame, tmp_path, simulator):
    """Four people and three funds are seven requests, not ten; a second run asks nothing and writes nothing."""
    run(frame, tmp_path / "out")
    assert simulator.counts()["requests"] == questions(frame) == 7
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    again = run(frame, tmp_path / "out")
    assert simulator.counts()["requests"] == 7
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")} == before
    assert again["_status"].tolist() == ["done"] * 5


def test_only_one_record_pays_for_a_shared_answer(frame, tmp_path, simulator):
    """The cost stands once in the store, however many share the answer."""
    run(frame, tmp_path / "out")
    stored = enrichkit.read(tmp_path / "out")
    assert len(stored) == 5
    assert (stored["fund._cost_usd"] > 0).sum() == 3
    assert stored["fund._paid_by"].nunique() == 3
    tokens = stored[[f"{stage}._{kind}_tokens" for stage in ("poc", "fund") for kind in ("input", "output")]]
    assert tokens.sum().sum() > 7 * 1000


@pytest.mark.parametrize(
    ("client", "rows", "records", "requests"),
    [("google-genai", 544, 542, 788), ("google-generativeai", 100, 100, 170)],
)
def test_the_whole_table_asks_each_different_question_once(
    client, rows, records, requests, *, table, tmp_path, simulator
):
    """544 rows, about 800 different questions, not 1,088; with the other client a part of it."""
    enriched = run(table.head(rows), tmp_path / "out", workers=20, model="gemini-3.5-flash-lite", client=client)
    counts = simulator.counts()
    assert len(enriched) == rows
    assert counts["requests"] == counts["answers"] == questions(table.head(rows)) == requests
    assert counts["most_at_once"] <= 20
    assert len(enrichkit.read(tmp_path / "out")) == records


def test_both_clients_give_the_same_columns_and_totals(table, tmp_path, simulator):
    """Which SDK carried the request shows in no value."""
    rows = table.head(40)
    first = run(rows, tmp_path / "a", client="google-genai")
    second = run(rows, tmp_path / "b", client="google-generativeai")
    pd.testing.assert_frame_equal(first, second)
    stores = [enrichkit.read(tmp_path / name).set_index("_record_id").sort_index() for name in "ab"]
    for stage in ("poc", "fund"):
        for fact in ("input_tokens", "thinking_tokens", "tool_tokens", "output_tokens", "searches", "cost_usd"):
            column = f"{stage}._{fact}"
            assert stores[0][column].sum() == pytest.approx(stores[1][column].sum()), column


KILLED = """
import sys, pandas as pd, enrichkit
enrichkit.run(pd.read_csv(sys.argv[1], dtype=str).head(250), out=sys.argv[2], workers=20, progress=False)
"""


def test_after_a_kill_nothing_answered_is_asked_again(table, tmp_path, monkeypatch):
    """Killed half way and run again: each record once, and at most what was in flight is paid twice."""
    table = table.head(250)
    out, total = tmp_path / "out", questions(table)
    with Simulator(latency_seconds=0.05) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
        go = hold_after(server, total * 3 // 4)  # so that it is not at its end when it is killed
        process = Program([sys.executable, "-c", KILLED, str(TABLE), str(out)])
        wait_for(lambda: server.counts()["answers"] >= total / 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert server.counts()["answers"] < total
        go.set()
        enriched = run(table, out, workers=20)
        counts = server.counts()
    assert counts["answers"] - total <= 22  # 20 workers, and two replies on their way to the disk
    assert set(enriched["_status"]) <= {"done", "failed"}
    assert enrichkit.read(out)["_record_id"].is_unique
    assert len(enrichkit.read(out)) == 250


def test_a_stage_of_ones_own(tmp_path):
    """The README's example: a table that has nothing to do with funds."""
    companies = pd.DataFrame({"name": ["Acme", "Umbra"], "country": ["Peru", "Fiji"]})
    enriched = run(companies, tmp_path / "out", stages=[COMPANY], key="name", model="simulator")
    assert enriched["company._status"].tolist() == ["done", "done"]
    assert {"company.industry", "company.employees", "company._confidence"} <= set(enriched.columns)


def test_a_client_of_ones_own(tmp_path, no_key):
    """Any callable from request to reply will do; no key is asked for."""
    asked = []

    def client(request):
        asked.append(request)
        return Reply(text=json.dumps({"industry": "Tea", "confidence": "high"}))

    frame = pd.DataFrame({"name": ["Acme"], "country": ["Peru"]})
    enriched = run(
        frame, tmp_path / "out", stages=[COMPANY], key=["name"], model="gemini-3.5-flash-lite", client=client
    )
    assert enriched["company.industry"].tolist() == ["Tea"]
    assert asked[0].text == "Research ⟦Acme⟧ in ⟦Peru⟧."


def test_a_client_that_raises_costs_nobody_else(tmp_path):
    """What a callable raises is that record's failure, named; the others are done."""

    def client(request):
        if "Umbra" in request.text:
            raise RuntimeError("no luck")
        return Reply(text='{"industry": "Tea"}')

    frame = pd.DataFrame({"name": ["Acme", "Umbra", "Tern"], "country": ["Peru"] * 3})
    enriched = run(frame, tmp_path / "out", stages=[COMPANY], key="name", model="gemini-3.5-flash-lite", client=client)
    assert enriched["_status"].tolist() == ["done", "failed", "done"]
    assert "no luck" in enrichkit.read(tmp_path / "out").set_index("name").loc["Umbra", "company._error"]


@pytest.mark.parametrize("verb", [enrichkit.run, enrichkit.start, enrichkit.plan])
def test_a_misspelt_argument_is_one_sentence(verb):
    """With the name that was meant."""
    with pytest.raises(
        errors.InputError, match=rf"^{verb.__name__} has no argument 'wrokers'\. Did you mean 'workers'\?$"
    ):
        verb(pd.DataFrame({"name": ["Acme"]}), wrokers=3)
    with pytest.raises(errors.InputError, match=r"has no argument 'xyz'\.$"):
        verb(pd.DataFrame({"name": ["Acme"]}), xyz=3)


def test_failed_records_stay_failed_until_asked_for(tmp_path, simulator):
    """Only retry_failed asks them again, and only their failed stages."""
    frame = pd.DataFrame({"fund.title": ["Borealis"], "poc.last_name": ["Aas"]})
    simulator.faults = {"safety": 1.0}
    assert run(frame, tmp_path / "out")["_status"].tolist() == ["failed"]
    simulator.faults = {}
    before = simulator.counts()["requests"]
    assert run(frame, tmp_path / "out")["_status"].tolist() == ["failed"]
    assert simulator.counts()["requests"] == before
    assert run(frame, tmp_path / "out", retry_failed=True)["_status"].tolist() == ["done"]
    assert simulator.counts()["requests"] == before + 2


def test_a_mixed_day_loses_nothing(table, tmp_path, simulator, monkeypatch):
    """Errors, refusals and odd replies by the dozen: every record ends with an answer or a named failure."""
    monkeypatch.setattr("enrichkit.engine.retry.FIRST_WAIT_SECONDS", 0.05)
    simulator.faults = dict.fromkeys(
        ["overloaded", "server", "rate", "reset", "prose", "cut_json", "fenced", "surrogates", "wrong_types", "empty"],
        0.02,
    )
    enriched = run(table.head(80), tmp_path / "out", workers=10)
    stored = enrichkit.read(tmp_path / "out")
    assert set(enriched["_status"]) <= {"done", "failed"}
    assert (enriched["_status"] == "done").mean() > 0.9
    failed = stored[stored["_status"] == "failed"]
    assert (failed["poc._error"].notna() | failed["fund._error"].notna()).all()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("bad_key", "auth"),
        ("no_model", "model_not_found"),
        ("daily_quota", "daily_quota"),
        ("spend_limit", "spend_limit"),
    ],
)
def test_what_ends_a_run_says_so(frame, tmp_path, simulator, fault, reason):
    """The reason, what is done, what is left and the next call; and the same call goes on later."""
    simulator.faults = {fault: 1.0}
    with pytest.raises(errors.Stopped, match="The same call goes on") as caught:
        run(frame, tmp_path / "out")
    assert (caught.value.reason, caught.value.done, caught.value.left) == (reason, 0, 5)
    simulator.faults = {}
    assert run(frame, tmp_path / "out")["_status"].tolist() == ["done"] * 5


def test_a_budget_stops_before_it_is_passed(table, tmp_path, simulator):
    """The store never holds more cost than allowed."""
    with pytest.raises(errors.Stopped, match="budget") as caught:
        run(table, tmp_path / "out", budget_usd=1.0, workers=4)
    stored = enrichkit.read(tmp_path / "out")
    assert caught.value.reason == "budget"
    assert 0 < stored[["poc._cost_usd", "fund._cost_usd"]].sum().sum() <= 1.0


def test_the_plan_counts_without_key_network_or_file(table, tmp_path, no_key):
    """Done, shared, to ask: before and without anything happening."""
    plan = enrichkit.plan(table, out=tmp_path / "out")
    assert plan.to_ask == questions(table)
    assert list(tmp_path.iterdir()) == []


def test_start_runs_in_the_background(frame, tmp_path, simulator):
    """Status, rows as they complete, the result; also by await."""
    simulator.latency_seconds = 0.05
    job = enrichkit.start(frame, out=tmp_path / "out", workers=2, progress=False)
    rows = list(job)
    assert len(rows) == job.status.done == 5
    assert not any(name.endswith("_replies") for row in rows for name in row)
    assert job.result()["_status"].tolist() == ["done"] * 5

    async def wait():
        return await enrichkit.start(frame, out=tmp_path / "out", progress=False)

    assert len(asyncio.run(wait())) == 5


def test_a_start_that_fails_leaves_neither_lock_nor_simulator_behind(tmp_path, monkeypatch):
    """Whether what it points out cannot be said, or the machine has no thread left; the next call just runs."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("nobody listens")

    frame = pd.DataFrame({"fund.title": ["Acme", "Acme"], "fund.country": ["Norway", "Peru"]})
    settings = {"out": tmp_path / "out", "model": "simulator", "stages": ["fund"], "progress": False}
    before, begin, broken = set(threading.enumerate()), threading.Thread.start, Broken()

    def none_left(thread):
        if thread.name == "enrichkit-run":
            raise RuntimeError("can't start new thread")
        begin(thread)

    logging.getLogger("enrichkit").addHandler(broken)
    with pytest.raises(RuntimeError, match="nobody listens"):
        enrichkit.run(frame, **settings)
    logging.getLogger("enrichkit").removeHandler(broken)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            enrichkit.run(frame, **settings)
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()
    assert enrichkit.run(frame, **settings)["_status"].tolist() == ["done"] * 2


def test_before_a_record_is_complete_a_store_reads_as_an_empty_frame(tmp_path):
    """With the columns of every store, so that whoever looks at the status finds it; a file is not made of it."""
    out, found = tmp_path / "out", []

    def client(_):
        found.append(enrichkit.read(out))
        with pytest.raises(errors.InputError, match="no record is complete yet"):
            enrichkit.export(out, tmp_path / "out.csv")
        return Reply(text='{"industry": "Tea"}')

    frame = pd.DataFrame({"name": ["Acme"], "country": ["Peru"]})
    enriched = run(frame, out, stages=[COMPANY], key="name", model="gemini-3.5-flash-lite", client=client)
    assert enriched["_status"].tolist() == ["done"]
    assert found[0]["_status"].value_counts().to_dict() == {}
    assert list(found[0]) == ["_record_id", "_status"]
    assert list(enrichkit.read(out, columns=["country", "name"])) == ["country", "name"]
    with pytest.raises(errors.InputError, match=r"no column 'nam' in .*'name'"):
        enrichkit.read(out, columns=["nam"])
    assert found[0].dtypes.to_dict().items() <= enrichkit.read(out).dtypes.to_dict().items()


def test_stop_keeps_what_is_there(table, tmp_path, simulator):
    """The table as it stands, and the rest still to do."""
    simulator.latency_seconds = 0.05
    job = enrichkit.start(table, out=tmp_path / "out", workers=4, progress=False)
    next(iter(job))
    stopped = job.stop()
    done = (stopped["_status"] == "done").sum()
    assert len(stopped) == 544
    assert 0 < done < 544
    before = simulator.counts()["answers"]
    plan = enrichkit.plan(table, out=tmp_path / "out")
    assert plan.to_ask == questions(table) - before


def test_batches_share_one_store(table, tmp_path, simulator):
    """What one batch asked about a fund, the next does not ask again."""
    rows = table.head(100)
    for batch in enrichkit.batches(rows, 30):
        run(batch, tmp_path / "out")
    assert simulator.counts()["requests"] == questions(rows)
    assert run(rows, tmp_path / "out")["_status"].notna().all()


ODD = {
    "number": [1, 2.5],
    "when": [datetime.date(2026, 1, 2), None],
    "stamp": [pd.Timestamp("2026-01-02T03:04", tz="UTC"), pd.NaT],
    "yes": [True, False],
    "maybe": [pd.NA, None],
    "many": [["a", "b"], []],
    "words": ["x", float("nan")],
    "kind": pd.Categorical(["a", None]),
    "array": [np.array([1, 2]), np.array([3])],
}


@pytest.mark.parametrize("column", ODD)
def test_cells_of_every_type_just_work(column, tmp_path):
    """Numbers, dates, booleans, missing values and lists in other columns are stored and come back."""
    frame = pd.DataFrame({"name": ["Acme", "Umbra"], "country": ["Peru", "Fiji"], column: ODD[column]})
    enriched = run(frame, tmp_path / "out", stages=[COMPANY], key="name", model="simulator")
    pd.testing.assert_frame_equal(enriched[frame.columns.tolist()], frame)
    assert column in enrichkit.read(tmp_path / "out")


FUND = {"fund.title": ["Borealis"]}
BAD = {
    "no table": ([1, 2], {}, "DataFrame"),
    "empty": (pd.DataFrame({"fund.title": []}), {}, "no rows"),
    "no such columns": (pd.DataFrame({"firm": ["x"]}), {}, "fund.title"),
    "no key": (pd.DataFrame({"name": ["x"], "country": ["y"]}), {"stages": [COMPANY]}, "Which columns identify"),
    "missing key column": (pd.DataFrame(FUND), {"key": "firm"}, "firm"),
    "missing key value": (pd.DataFrame({"fund.title": ["Borealis", None]}), {}, "fund.title"),
    "duplicate columns": (pd.DataFrame([["a", "b"]], columns=["fund.title", "fund.title"]), {}, "fund.title"),
    "unknown stage": (pd.DataFrame(FUND), {"stages": ["founders"]}, "founders"),
    "unknown placeholder": (
        pd.DataFrame(FUND),
        {"stages": [Stage("x", prompt="About {firm}", answer=Company)], "key": "fund.title"},
        "firm",
    ),
    "cells that cannot be stored": (pd.DataFrame(FUND | {"odd": [object()]}), {}, "odd"),
    "half numbers": (pd.DataFrame({"fund.title": ["a", "b"], "odd": [1, "x"]}), {}, None),
    "no stage": (pd.DataFrame(FUND), {"stages": [None]}, "no stage None"),
    "an answer for a stage": (pd.DataFrame(FUND), {"stages": [Company]}, "or give a Stage"),
    "no key at all": (pd.DataFrame(FUND), {"key": 0}, "not 0"),
    "no folder": (pd.DataFrame(FUND), {"out": ".."}, "a store's folder"),
    "workers": (pd.DataFrame(FUND), {"workers": 50}, "rpm"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_before_any_request(case, tmp_path, simulator):
    """The message names the column or argument; nothing is sent, nothing is written."""
    frame, settings, told = BAD[case]
    if told is None:
        assert run(frame, tmp_path / "out", **settings)["_status"].tolist() == ["done"] * 2
        return
    with pytest.raises(errors.EnrichError, match=told) as caught:
        enrichkit.run(frame, **({"out": tmp_path / "out", "progress": False} | settings))
    assert "\n" not in str(caught.value)
    assert simulator.counts()["requests"] == 0
    assert list(tmp_path.iterdir()) == []


def test_without_a_key_the_message_says_what_to_set(frame, tmp_path, no_key):
    """Before anything else happens."""
    with pytest.raises(errors.MissingKeyError, match=r"GOOGLE_API_KEY.*simulator"):
        run(frame, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["clé-secrète", "one-key\nanother-key"])
def test_a_key_that_no_request_can_carry_is_told_without_being_repeated(key, frame, tmp_path, simulator, monkeypatch):
    """Else each try would fail before it is sent, and be counted as possibly spent."""
    monkeypatch.setenv("GOOGLE_API_KEY", key)
    with pytest.raises(errors.SetupError, match="GOOGLE_API_KEY holds a letter that no key has") as caught:
        run(frame, tmp_path / "out")
    assert key not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address", ["nonsense", "http://[::1", "ftp://host", "http://", "http://host:x", "http://host:0"]
)
def test_an_address_that_is_none_is_told_beforehand(address, tmp_path, monkeypatch):
    """Else each record would fail for it, and stay failed."""
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", address)
    monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
    with pytest.raises(errors.SetupError, match="GOOGLE_GEMINI_BASE_URL is not an address such as"):
        run(pd.DataFrame(FUND), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_simulated_answers_never_mix_with_real_ones(frame, tmp_path, simulator, monkeypatch):
    """A store holds one kind, whichever way the simulator was reached."""
    run(frame, tmp_path / "simulated")  # by its address, under a real model's name
    run(
        frame,
        tmp_path / "real",
        model="gemini-3.5-flash-lite",
        client=lambda request: Reply(text='{"city": "Lima"}', model_version="gemini-3.5"),
    )
    with pytest.raises(errors.Stopped, match="never mix") as caught:
        run(frame.assign(**{"fund.title": "Another"}), tmp_path / "real")
    assert caught.value.reason == "mixed"
    monkeypatch.delenv("GOOGLE_GEMINI_BASE_URL")
    with pytest.raises(errors.InputError, match="never mix"):
        run(frame, tmp_path / "simulated")


def test_a_changed_question_is_never_asked_again_silently(tmp_path, simulator):
    """Refused with what changed, until the caller chooses."""
    frame = pd.DataFrame({"name": ["Acme"], "country": ["Peru"]})
    other = Stage("company", prompt="Study {name} in {country}.", answer=Company)
    run(frame, tmp_path / "out", stages=[COMPANY], key="name")
    with pytest.raises(errors.ChangedError, match="company"):
        run(frame, tmp_path / "out", stages=[other], key="name")
    assert simulator.counts()["requests"] == 1
    run(frame, tmp_path / "out", stages=[other], key="name", on_change="keep")
    assert simulator.counts()["requests"] == 1
    run(frame, tmp_path / "out", stages=[other], key="name", on_change="redo")
    assert simulator.counts()["requests"] == 2


def test_an_earlier_answer_is_no_hint_for_the_same_question(tmp_path):
    """Asked anew, the model must not be shown what it said before as if it were the user's."""
    asked = []

    def client(request):
        asked.append(request.text)
        return Reply(text='{"industry": "Tea"}')

    frame = pd.DataFrame({"name": ["Acme"], "company.industry": [None]})
    for prompt in ("{name}: {company.industry}?", "{name}, again: {company.industry}?"):
        stage = Stage("company", prompt=prompt, answer=Company, per=("name",))
        enriched = run(
            frame,
            tmp_path / "out",
            stages=[stage],
            key="name",
            model="gemini-3.5-flash-lite",
            client=client,
            on_change="redo",
        )
    assert asked == ["⟦Acme⟧: ⟦(unknown)⟧?", "⟦Acme⟧, again: ⟦(unknown)⟧?"]
    assert enriched["company.industry"].tolist() == ["Tea"]


def test_the_import_is_light():
    """No SDK, widget or plot library, and nothing written or warned."""
    code = textwrap.dedent("""
        import sys, enrichkit
        heavy = ["google.genai", "google.generativeai", "google.ai", "ipywidgets", "matplotlib", "pandas", "pyarrow"]
        print([name for name in heavy if name in sys.modules])
    """)
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=os.fspath(TABLE.parent))
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
