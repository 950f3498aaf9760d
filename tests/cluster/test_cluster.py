"""A table in parts, asked by the workers of a dask cluster: the same values at the same price as by one process."""

from __future__ import annotations

import importlib
import subprocess
import threading
import types

import duckdb
import pandas as pd
import polars
import pyarrow.dataset
import pyarrow.parquet
import pytest

import enrichkit
from enrichkit import Stage, trust
from enrichkit.errors import InputError, LockedError, SetupError, StageError, Stopped, StoreError
from enrichkit.gemini.simulator import Simulator
from enrichkit.store.files import Files, work_area
from enrichkit.store.store import take_lock
from support.fleet import KEY, distinct, fleet, messy, set_variables
from support.tables import Company
from support.waiting import hold_after, wait_for

SETTINGS = {"model": "gemini-3.5-flash-lite", "workers": 8, "rpm": 60_000, "progress": False}
NOBODY = types.SimpleNamespace(subscribe_topic=None)
"""Stands for a client where none is asked."""


def readers(out):
    """Return how other programs read the records that are there."""
    import dask.dataframe

    files, name = f"{out}/**/*.parquet", "_record_id"
    return {
        "pandas": lambda: pd.read_parquet(out, columns=[name])[name],
        "pyarrow": lambda: pyarrow.dataset.dataset(out, partitioning="hive").to_table([name])[name].to_pylist(),
        "duckdb": lambda: [row[0] for row in duckdb.sql(f"select {name} from read_parquet('{files}')").fetchall()],
        "polars": lambda: polars.scan_parquet(files, hive_partitioning=True).select(name).collect()[name].to_list(),
        "dask": lambda: dask.dataframe.read_parquet(out, columns=[name])[name].compute(),
    }


def rows_read(out):
    """Return how many rows other programs see."""
    return {name: len(list(read())) for name, read in readers(out).items()}


@pytest.fixture
def plain(tmp_path, monkeypatch):
    """Return a function that asks about a table in this process alone: what comes of it, and how many replies."""

    def ask(frame, **settings):
        with Simulator() as simulator, monkeypatch.context() as patch:
            patch.setenv("GOOGLE_GEMINI_BASE_URL", simulator.url)
            patch.setenv("GOOGLE_API_KEY", "another")
            return enrichkit.run(frame, out=tmp_path / "plain", **SETTINGS | settings), len(simulator.ledger)

    return ask


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of dask.dataframe
def test_values_and_payments_are_those_of_one_process(workers, served, plain, tmp_path):
    """Whatever the spelling; the store reads as any other, in one schema, and the key is nowhere in it."""
    frame, out, simulator = messy(60, 12), tmp_path / "out", served()
    enriched = enrichkit.run(frame, out=out, cluster=workers, parts=5, **SETTINGS)
    expected, paid = plain(frame)
    pd.testing.assert_frame_equal(enriched, expected)
    assert len(simulator.ledger) == paid == distinct(frame)

    verified = enrichkit.verify(out)
    assert (verified.problems, verified.replies) == ((), paid)
    assert set(rows_read(out).values()) == {60}
    shards = list(out.rglob("*.parquet"))
    assert len({str(pyarrow.parquet.read_schema(path).remove_metadata()) for path in shards}) == 1
    assert len({path.parts[-3] for path in shards}) > 2

    whole, of_plain = enrichkit.read(out), enrichkit.read(tmp_path / "plain")
    assert whole.dtypes.to_dict() == of_plain.dtypes.to_dict()
    for look in (trust.evidence, trust.weak, trust.corrections):
        assert len(look(out)) == len(look(tmp_path / "plain")), look
    bill, of_one = enrichkit.report(out), enrichkit.report(tmp_path / "plain")
    assert bill.cost.total == of_one.cost.total

    more = enrichkit.run(
        frame.head(3).assign(**{"poc.last_name": "New", "seen": 1.5}), out=out, cluster=workers, **SETTINGS
    )
    assert set(more["_status"]) == {"done"}
    shards = list(out.rglob("*.parquet"))
    assert len({str(pyarrow.parquet.read_schema(path).remove_metadata()) for path in shards}) == 1
    assert set(rows_read(out).values()) == {63}
    paid += 3

    for holder in (out, tmp_path / "out.work"):
        assert subprocess.run(["grep", "-rl", KEY, holder], capture_output=True, check=False).stdout == b""
    assert KEY not in repr(workers.get_events())

    assert "Nothing to ask" in str(enrichkit.plan(frame, out=out, cluster=workers, **SETTINGS))
    pd.testing.assert_frame_equal(enrichkit.run(frame, out=out, cluster=workers, **SETTINGS), expected)
    assert len(simulator.ledger) == paid
    with pytest.raises(StoreError, match="is kept in 5 parts, not 7"):
        enrichkit.run(frame, out=out, cluster=workers, parts=7, **SETTINGS)
    with pytest.raises(InputError, match="kept in parts, which take a cluster"):
        enrichkit.run(frame, out=out, **SETTINGS)
    with pytest.raises(StoreError, match="is not kept in parts"):
        enrichkit.run(frame, out=tmp_path / "plain", cluster=workers, **SETTINGS)


def test_a_plan_counts_the_workers_of_all_processes(workers, tmp_path):
    """As many as there are, or parts; and it is refused for what a run is."""
    frame, call = messy(1500, 300), SETTINGS | {"out": tmp_path / "out", "model": "gemini-3.5-flash-lite"}
    alone = enrichkit.plan(frame, **call)
    one, two = (enrichkit.plan(frame, cluster=workers, parts=parts, **call) for parts in (1, 9))
    assert one.seconds == pytest.approx(alone.seconds)
    assert two.seconds == pytest.approx([part / 2 for part in alone.seconds])
    assert (alone.workers, one.workers, two.workers) == (8, 8, 16)
    assert two.bound.startswith("8 workers in each of 2 processes at about 10 s a reply are 96 requests a minute; with")
    limited = enrichkit.plan(frame, cluster=workers, **call | {"rpm": 60})
    assert limited.bound == "rpm=60 binds, not the workers, which could send more."
    with pytest.raises(InputError, match="no column can be named 'part'"):
        enrichkit.plan(frame.assign(part=1), cluster=workers, **call)
    assert not list(tmp_path.iterdir())


def test_a_pilot_asks_as_few_as_its_limit_says(workers, served, tmp_path):
    """Whatever parts they are in; the same call without it goes on."""
    frame, out, simulator = messy(30, 10), tmp_path / "out", served()
    call = SETTINGS | {"out": out, "cluster": workers, "parts": 4}
    pilot = enrichkit.start(frame, limit=7, **call)
    assert pilot.result()["_status"].tolist() == ["done"] * 7 + ["pending"] * 23
    assert (pilot.status.records, pilot.status.later) == (7, 23)
    assert set(enrichkit.run(frame, **call)["_status"]) == {"done"}
    assert len(simulator.ledger) == distinct(frame)


def test_nothing_is_written_for_a_call_that_is_refused(tmp_path):
    """Questions with nothing in common cannot be divided; the pace has to be given."""
    out, frame = tmp_path / "out", pd.DataFrame({"name": ["A"], "town": ["B"], "part": ["C"]})
    stages = [
        Stage(name, prompt=prompt, answer=Company) for name, prompt in (("firm", "{name}?"), ("place", "{town}?"))
    ]
    call = {"out": out, "model": "simulator", "rpm": 100, "cluster": NOBODY, "key": "name"}
    with pytest.raises(StageError, match=r"stage 'firm' asks about name, stage 'place' about town. Give both"):
        enrichkit.run(frame[["name", "town"]], stages=stages, **call)
    with pytest.raises(InputError, match="no column can be named 'part'"):
        enrichkit.run(frame, stages=stages[:1], **call)
    for wrong, said in (
        ({"rpm": None}, "A cluster needs rpm: "),
        ({"parts": 0}, "parts must be 1 to 9,999"),
        ({"cluster": "tcp://127.0.0.1:1"}, "cluster must be a client of dask.distributed"),
        ({"cluster": None, "parts": 3}, "parts are for a cluster"),
    ):
        with pytest.raises(InputError, match=said):
            enrichkit.run(frame, stages=stages[:1], **call | wrong)
    assert not list(tmp_path.iterdir())


def test_a_worker_without_a_key_is_named(workers, served, tmp_path):
    """The key comes from the worker's own environment; with it there, the same call goes on."""
    simulator, frame = served(), messy(8, 3)
    workers.run(set_variables, GOOGLE_API_KEY=None)
    with pytest.raises(SetupError, match=r"GOOGLE_API_KEY.*\(On the worker tcp://127\.0\.0\.1:\d+\.\)"):
        enrichkit.run(frame, out=tmp_path / "out", cluster=workers, parts=2, **SETTINGS)
    assert not simulator.ledger
    served()
    assert set(enrichkit.run(frame, out=tmp_path / "out", cluster=workers, **SETTINGS)["_status"]) == {"done"}


def test_what_a_worker_cannot_import_is_named(workers, tmp_path, monkeypatch):
    """The workers stay."""
    (tmp_path / "only_here.py").write_text("def client(request): ...")
    monkeypatch.syspath_prepend(tmp_path)
    client = importlib.import_module("only_here").client
    with pytest.raises(SetupError, match=r"No module named 'only_here'\..*On the worker tcp://"):
        enrichkit.run(messy(8, 3), out=tmp_path / "out", cluster=workers, parts=2, client=client, **SETTINGS)
    assert len(workers.nthreads()) == 2


def test_a_run_is_paused_stopped_and_goes_on(workers, served, tmp_path):
    """As any other: rows come as they are sealed, a second run of the store is refused, nothing is asked twice."""
    frame, out, simulator = messy(40, 9), tmp_path / "out", served()
    go = hold_after(simulator, 20)
    job = enrichkit.start(frame, out=out, cluster=workers, parts=3, **SETTINGS)
    wait_for(lambda: len(simulator.ledger) >= 20)
    assert next(iter(job))["poc._status"] == "done"  # of a shard that is sealed, whatever its part still asks
    assert enrichkit.start(frame, out=out, cluster=workers, parts=3, **SETTINGS) is job
    with pytest.raises(LockedError, match="works on"):
        enrichkit.run(frame, out=out, cluster=workers, **SETTINGS | {"workers": 3})
    job.pause()
    wait_for(lambda: job.status.paused and job.status.traffic.in_flight)
    assert "paused" in repr(job)
    threading.Timer(0.5, go.set).start()
    wait_for(lambda: not job.status.traffic.in_flight)
    asked = len(simulator.ledger)
    assert "pending" in set(job.stop()["_status"])
    assert job.status.stopping == "stop"
    assert len(simulator.ledger) == asked < 49
    stopped = [row["poc.first_name"] for row in job]

    again = enrichkit.start(frame, out=out, cluster=workers, **SETTINGS)
    names = [row["poc.first_name"] for row in again]
    assert sorted(stopped + names) == sorted(frame["poc.first_name"])
    assert again.status.done == len(names)
    assert len(simulator.ledger) == distinct(frame)


def test_a_quota_of_the_day_ends_every_part(workers, served, tmp_path):
    """A cause that ends a run ends all of it, and the same call goes on the next day."""
    frame, out, simulator = messy(60, 20), tmp_path / "out", served(requests_per_day=30)
    with pytest.raises(Stopped, match="day") as ended:
        enrichkit.run(frame, out=out, cluster=workers, parts=6, **SETTINGS)
    assert ended.value.reason == "daily_quota"
    simulator = served()
    assert set(enrichkit.run(frame, out=out, cluster=workers, **SETTINGS)["_status"]) == {"done"}
    assert 30 + len(simulator.ledger) == distinct(frame)


def test_a_part_that_another_holds_is_waited_for(workers, served, tmp_path):
    """A worker that is cut off, and still writes, keeps its lock; the one that follows it waits until it has gone."""
    frame, out, simulator = messy(12, 12), tmp_path / "out", served()
    part = out / "part=p0001"
    lock = take_lock(part, Files(work_area(part) / "tmp"))
    job = enrichkit.start(frame, out=out, cluster=workers, parts=1, **SETTINGS)
    wait_for(lambda: "part=p0001" in str(workers.processing()) or job.done)
    assert not job.done
    assert not simulator.ledger
    lock.release()
    assert set(job.result()["_status"]) == {"done"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of dask.dataframe
def test_a_large_table_and_its_readers(served, plain, tmp_path, monkeypatch, capsys):
    """3,000 messy rows in 16 parts on three processes; other programs read them meanwhile, no row twice."""
    frame, out, simulator = messy(3000, 600), tmp_path / "out", served()
    settings = SETTINGS | {"workers": 20, "shard_rows": 40}
    reads, failed = 0, []
    with fleet(3, GOOGLE_API_KEY=KEY, GOOGLE_GEMINI_BASE_URL=simulator.url) as client:
        job = enrichkit.start(frame, out=out, cluster=client, parts=16, **settings)
        wait_for(lambda: next(out.rglob("*.parquet"), None))
        while not job.done:
            for name, read in readers(out).items():
                try:
                    ids = list(read())
                except Exception as error:  # noqa: BLE001 - of whatever kind: it is counted
                    failed.append(f"{name}: {type(error).__name__}: {error}"[:200])
                else:
                    assert len(set(ids)) == len(ids), name
                reads += 1
        enriched = job.result()
    asked = len(simulator.ledger)
    expected, paid = plain(frame, workers=20)
    with capsys.disabled():
        print(f"\n{asked} paid, by one process {paid}; {reads} reads meanwhile, {len(failed)} failed: {set(failed)}")
    assert asked == paid == distinct(frame)
    pd.testing.assert_frame_equal(enriched, expected)
    assert len(failed) <= reads / 50  # a shard that is sealed anew between a look and the next
