"""Foreign readers beside a run: pandas, PyArrow, DuckDB and Polars see each record at most once, and whole."""

from __future__ import annotations

import threading
import time

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest

import enrichkit
from enrichkit import Stage
from enrichkit.messages import Reply
from support.tables import Company

COMPANY = Stage("company", prompt="Research {name}.", answer=Company, search=False)
SITE = Stage("site", prompt="Where is {name}?", answer=Company, search=False)
TABLE = pd.DataFrame({"name": [f"Firm {number}" for number in range(60)]})
COLUMNS = ["name", "company.industry"]


def answer(request):
    """Answer with the name that is asked about."""
    return Reply(text=f'{{"industry": "{request.text.split("⟦")[1].split("⟧")[0]}"}}')


READERS = {
    "pandas": lambda out: pd.read_parquet(out, columns=COLUMNS).to_numpy().tolist(),
    "pyarrow": lambda out: list(map(list, zip(*ds.dataset(out).to_table(COLUMNS).to_pydict().values(), strict=True))),
    "duckdb": lambda out: duckdb.sql(f"""select name, "company.industry" from '{out}/**/*.parquet'""").fetchall(),
    "polars": lambda out: pl.scan_parquet(out).select(COLUMNS).collect().rows(),
    "enrichkit": lambda out: enrichkit.read(out)[COLUMNS].to_numpy().tolist(),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_beside_a_run_sees_each_record_once(reader, tmp_path, monkeypatch):
    """While shards come, and while each is sealed again for a second stage: no row twice, none half of it."""
    monkeypatch.setattr("enrichkit.engine.driver.SEAL_SECONDS", 600.0)  # a shard is sealed once for each stage
    out, go = tmp_path / "out", threading.Semaphore(0)

    def client(request):
        time.sleep(0.01)
        go.acquire()
        return answer(request)

    settings = {
        "key": "name",
        "model": "gemini-3.5-flash-lite",
        "client": client,
        "progress": False,
        "shard_rows": 10,
        "workers": 8,
    }
    sizes, failed = set(), []
    for stages in ([COMPANY], [COMPANY, SITE]):
        job = enrichkit.start(TABLE, stages=stages, out=out, **settings)
        failed.append(0)
        given = 0
        while not job.done:
            if job.status.done >= given:  # however slow the reader is, it has looked in between
                given += 20
                go.release(20)
            if not any(out.rglob("*.parquet")):
                continue
            try:
                rows = READERS[reader](out)
            except Exception:  # noqa: BLE001 - whatever a reader raises: it is counted, and may not happen often
                failed[-1] += 1
                continue
            names = [name for name, _ in rows]
            sizes.add(len(names))
            assert len(names) == len(set(names))
            assert all(name == industry for name, industry in rows)
        job.result()
    assert len(sizes) > 3
    assert failed[0] == 0
    assert failed[1] <= 20  # a shard was replaced between a look at its size and a look into it: loud, and once each
    assert len(READERS[reader](out)) == len(TABLE)


def test_reading_needs_no_lock(tmp_path):
    """Also where a reader comes while the writer holds it."""
    go = threading.Event()

    def waits(request):
        go.wait(60)
        return answer(request)

    enrichkit.run(
        TABLE.head(20),
        stages=[COMPANY],
        key="name",
        out=tmp_path / "out",
        model="gemini-3.5-flash-lite",
        client=answer,
        progress=False,
    )
    job = enrichkit.start(
        TABLE,
        stages=[COMPANY],
        key="name",
        out=tmp_path / "out",
        model="gemini-3.5-flash-lite",
        client=waits,
        progress=False,
    )
    try:
        assert len(enrichkit.read(tmp_path / "out")) == 20
        assert enrichkit.verify(tmp_path / "out").ok
        assert enrichkit.plan(TABLE, stages=[COMPANY], key="name", out=tmp_path / "out").to_ask == 40
    finally:
        go.set()
        job.result()
