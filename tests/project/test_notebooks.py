"""The notebooks: their form, their kept outputs, and that they run for a person and for papermill alike."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shutil
import subprocess
import sys
import time

import duckdb
import nbformat
import pandas as pd
import polars as pl
import pyarrow.dataset
import pytest

import enrichkit
from enrichkit import errors
from enrichkit.formatting import usd
from enrichkit.messages import Failure, Reply
from support.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FORBIDDEN = re.compile(r"^\s*(def|class|try|with|import os|import sys)\b|!pip|%|api_key|sys\.path", re.MULTILINE)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_names_are_numbered():
    """A reader knows where to begin, and what comes after: each number once."""
    assert [path.name[:3] for path in NOTEBOOKS] == ["01_", "02_", "03_"]


def test_it_is_valid_and_opens_with_a_title(notebook):
    """A title, what the reader will have at the end, minutes and money."""
    nbformat.validate(notebook)
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert "widgets" not in notebook.metadata


def test_cells_are_thin_and_introduced(notebook):
    """Ten lines at most, three in the middle, no machinery, and a sentence before each."""
    cells = code(notebook)
    lengths = sorted(len(cell.source.splitlines()) for cell in cells)
    assert lengths[-1] <= 10
    assert lengths[len(lengths) // 2] <= 3
    assert not [cell.source for cell in cells if FORBIDDEN.search(cell.source)]
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        assert cell.cell_type == "markdown" or before.cell_type == "markdown" or "import" not in cell.source


def test_parameters_are_plain_literals_with_a_comment(notebook):
    """Exactly one cell, so that papermill and a reader find the same."""
    (cell,) = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", ())]
    for line in cell.source.splitlines():
        assert re.search(r"  # \S", line), line
    for statement in ast.parse(cell.source).body:
        ast.literal_eval(statement.value)
    tags = {tag for cell in notebook.cells for tag in cell.metadata.get("tags", ())}
    assert tags <= {"parameters", "raises-exception", "skip-execution"}


def test_kept_outputs_are_those_of_a_fresh_run(notebook):
    """Counts from one on, nothing on stderr, no timings, no path of a machine."""
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any(output.output_type == "execute_result" for output in outputs)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not [cell for cell in cells if "execution" in cell.metadata]
    assert not re.search(r"/(home|root|tmp|work)/|C:\\\\", json.dumps(outputs))


def unreadable(path):
    """Return what makes a saved notebook's diff unreadable: widgets' state, and long lines that are no picture."""
    lines = path.read_text("utf-8").splitlines()
    return [line for line in lines if (len(line) > 400 and '"image/png": ' not in line) or '"widgets": ' in line]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_kept_notebook_can_be_read_in_a_diff(path):
    """No line above 400 letters but pictures, and no widget state."""
    assert unreadable(path) == []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the project's folders that notebooks know; they run in it."""
    for name in ("notebooks", "data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # a kernel has its own, which shows figures
    return tmp_path


def papermill(notebook="01_enrich", **parameters):
    """Run a notebook by papermill, in this process; return what it has become."""
    from papermill import execute_notebook

    return execute_notebook(
        f"notebooks/{notebook}.ipynb", "executed.ipynb", parameters, cwd="notebooks", progress_bar=False
    )


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def printed(notebook):
    return "".join(output["text"] for output in outputs(notebook) if output.get("name") == "stdout")


@pytest.mark.parametrize(
    ("rows", "records", "replies"), [(60, 60, 106), pytest.param(544, 542, 788, marks=pytest.mark.slow)]
)
def test_papermill_runs_it_and_a_second_run_asks_nothing(rows, records, replies, folder):
    """Each record once, all rows back, readable by everyone; again: no request, no shard touched, file untouched.

    The first time by papermill's command, as `make enrich` does it; nobody watches, so its progress is lines, as a log
    wants them, no red box and nothing that a front end would have to draw.
    """
    pd.read_csv("data/funds.csv", dtype=str).head(rows).to_csv("data/funds.csv", index=False)
    tracked = (ROOT / "notebooks" / "01_enrich.ipynb").read_bytes()
    command = [sys.executable, "-m", "papermill", "--cwd", "notebooks", "--no-progress-bar"]
    command += ["notebooks/01_enrich.ipynb", "executed.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    out = folder / "results" / "enriched-simulated"
    shards = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    frames = {
        "pandas": len(pd.read_parquet(out)),
        "pyarrow": pyarrow.dataset.dataset(out, partitioning="hive").count_rows(),
        "duckdb": duckdb.sql(f"select count(*) from '{out}/**/*.parquet'").fetchall()[0][0],
        "polars": pl.scan_parquet(out).select(pl.len()).collect().item(),
        "enrichkit": len(enrichkit.read(out)),
    }
    assert set(frames.values()) == {records}
    assert unreadable(folder / "executed.ipynb") == []
    executed = nbformat.read("executed.ipynb", as_version=4)
    assert f"done    {rows}" in json.dumps(executed, ensure_ascii=False)
    ahead = next(cell.outputs[0].data["text/html"] for cell in code(executed) if "enrichkit.plan" in cell.source)
    assert "with 20 workers" in ahead  # the plan is that of the run
    assert "10 of 10 records" in printed(executed)
    assert {output.output_type for output in outputs(executed)} == {"stream", "execute_result"}
    assert {output.name for output in outputs(executed) if output.output_type == "stream"} == {"stdout"}

    started = time.time_ns()
    said = printed(papermill())
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == shards
    assert max(shards.values()) < started
    assert f"{records} of {records} are stored; nothing to ask" in said
    assert not re.search(r"[1-9]\d* requests", said)
    assert (folder / "notebooks" / "01_enrich.ipynb").read_bytes() == tracked

    # The store is as the other notebooks want it: they read it, and change nothing.
    files = {path: path.read_bytes() for path in (folder / "results").rglob("*") if path.is_file()}
    for name, figures in {"02_quality": 4, "03_cost": 4}.items():
        executed = papermill(name)
        assert {path: path.read_bytes() for path in (folder / "results").rglob("*") if path.is_file()} == files
        assert sum("image/png" in output.get("data", {}) for output in outputs(executed)) == figures
        assert not [output for output in outputs(executed) if output.get("name") == "stderr"]
        assert unreadable(folder / "executed.ipynb") == []
    bill = enrichkit.report(out).cost
    assert f"{usd(bill.total.cost_usd)} USD" in json.dumps(outputs(executed))
    assert (bill.records, bill.total.replies) == (records, replies)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"workers": "ten"}, "parameter workers must be int, not 'ten'"),
        ({"stages": "poc"}, "parameter stages must be list, not 'poc'"),
        ({"workers": 0}, "workers must be a whole number from 1 to 20, or to 1000 with an explicit rpm, not 0"),
        ({"table": "../data/none.csv"}, "No such file"),
    ],
)
def test_a_wrong_value_is_an_error(parameters, told, tmp_path, monkeypatch):
    """Whichever cell says so, nothing has been written by then."""
    with pytest.raises((errors.InputError, FileNotFoundError), match=told):
        run_here({"table": str(ROOT / "data" / "funds.csv")} | parameters, tmp_path, monkeypatch)
    assert not (tmp_path / "results").exists()


def run_here(parameters, folder, monkeypatch):
    """Run the first notebook's cells in this process, without a kernel."""
    (folder / "notebooks").mkdir()
    monkeypatch.chdir(folder / "notebooks")
    first, *others = [cell.source for cell in code(nbformat.read(ROOT / "notebooks" / "01_enrich.ipynb", as_version=4))]
    space = {"__name__": "__main__"}
    exec(first, space)
    space |= parameters
    compiled = compile("\n".join(others), "cells", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    asyncio.run(eval(compiled, space))


def test_a_parameter_that_there_is_not_is_an_error(folder):
    """papermill alone would warn, and go on with the default."""
    from papermill import PapermillExecutionError

    with pytest.raises(PapermillExecutionError, match=r"no parameter 'worker'\. Did you mean 'workers'\?"):
        papermill(worker=10)
    assert not (folder / "results").exists()


def test_a_table_may_have_fewer_rows_than_the_pilot_wants(tmp_path, monkeypatch, capsys):
    """And progress may be text, whoever watches."""
    small = pd.read_csv(ROOT / "data" / "funds.csv", dtype=str).head(6)
    small.to_csv(tmp_path / "small.csv", index=False)
    run_here({"progress": "text", "table": "../small.csv"}, tmp_path, monkeypatch)
    assert "6 of 6 records" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["02_quality", "03_cost"])
def test_they_take_key_and_stages_from_any_store(name, tmp_path, monkeypatch):
    """One of the other table, one of failures alone, and one without any record."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    df = pd.read_csv(ROOT / "data" / "makers.csv").head(8)
    refuses = {"client": lambda request: Reply(failure=Failure(cause="blocked", message="SAFETY")), "model": "m"}
    cells = [cell.source for cell in code(nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4))]
    shown = []
    for number, settings in enumerate([{"model": "simulator"}, refuses, {"model": "simulator", "limit": 0}]):
        out = str(tmp_path / f"{number}")
        settings |= {"prompt": "Research {name} in {country}.", "fields": {"industry": str, "employees": int}}
        enrichkit.run(df, out=out, progress=False, **settings)
        space = {"__name__": "__main__", "display": shown.append}
        exec(cells[0], space)
        exec("\n".join(cells[1:]), space | {"out": out})
        from matplotlib import pyplot

        pyplot.close("all")
    assert [list(page.key) for page in shown] == [["name", "country"]] * (name == "02_quality")
