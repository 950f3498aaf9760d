"""The notebooks: their form, their kept outputs, and that they run for a person and for papermill alike."""

from __future__ import annotations

import ast
import json
import os
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


def papermill(folder, notebook="01_enrich", **parameters):
    """Run a notebook as `make enrich` does the first one, in a copy of the project's folders."""
    for name in ("notebooks", "data"):
        if not (folder / name).exists():
            shutil.copytree(ROOT / name, folder / name)
    given = [text for name, value in parameters.items() for text in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", "--cwd", "notebooks", "--no-progress-bar"]
    command += [f"notebooks/{notebook}.ipynb", "executed.ipynb", *given]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
    environment.pop("MPLBACKEND", None)  # a kernel has its own, which shows figures
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_papermill_runs_it_and_a_second_run_asks_nothing(tmp_path):
    """Each record once, all rows back, readable by everyone; again: no request, no shard touched, file untouched."""
    tracked = (ROOT / "notebooks" / "01_enrich.ipynb").read_bytes()
    done = papermill(tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "results" / "enriched-simulated"
    shards = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    frames = {
        "pandas": len(pd.read_parquet(out)),
        "pyarrow": pyarrow.dataset.dataset(out, partitioning="hive").count_rows(),
        "duckdb": duckdb.sql(f"select count(*) from '{out}/**/*.parquet'").fetchall()[0][0],
        "polars": pl.scan_parquet(out).select(pl.len()).collect().item(),
        "enrichkit": len(enrichkit.read(out)),
    }
    assert set(frames.values()) == {542}
    executed = nbformat.read(tmp_path / "executed.ipynb", as_version=4)
    assert "done    544" in json.dumps(executed, ensure_ascii=False)
    ahead = next(cell.outputs[0].data["text/html"] for cell in code(executed) if "enrichkit.plan" in cell.source)
    assert "with 20 workers" in ahead  # the plan is that of the run
    assert "Budget 40.00 USD" in ahead

    started = time.time_ns()
    done = papermill(tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == shards
    assert max(shards.values()) < started
    said = "".join(
        output["text"]
        for cell in code(nbformat.read(tmp_path / "executed.ipynb", as_version=4))
        for output in cell.outputs
        if output.output_type == "stream"
    )
    assert "Nothing to ask: every outcome is stored" in said
    assert not re.search(r"[1-9]\d* requests", said)
    assert (tmp_path / "notebooks" / "01_enrich.ipynb").read_bytes() == tracked

    # The store is as the other notebooks want it: they read it, and change nothing.
    files = {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}
    for name, figures in {"02_quality": 6, "03_cost": 4}.items():
        done = papermill(tmp_path, name)
        assert done.returncode == 0, done.stderr
        assert {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()} == files
        executed = nbformat.read(tmp_path / "executed.ipynb", as_version=4)
        outputs = [output for cell in code(executed) for output in cell.outputs]
        assert sum("image/png" in output.get("data", {}) for output in outputs) == figures
        assert not [output for output in outputs if output.get("name") == "stderr"]
    bill = enrichkit.report(out).cost
    assert f"{usd(bill.total.cost_usd)} USD" in json.dumps(outputs)
    assert (bill.records, bill.total.replies) == (542, 788)


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
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    first, *others = [cell.source for cell in code(nbformat.read(ROOT / "notebooks" / "01_enrich.ipynb", as_version=4))]
    space = {"__name__": "__main__"}
    exec(first, space)
    space |= {"table": str(ROOT / "data" / "funds.csv")} | parameters
    with pytest.raises((errors.InputError, FileNotFoundError), match=told):
        exec("\n".join(others), space)
    assert not (tmp_path / "results").exists()


def test_a_parameter_that_there_is_not_is_an_error(tmp_path):
    """papermill alone would warn, and go on with the default."""
    done = papermill(tmp_path, worker=10)
    assert done.returncode == 1
    assert "no parameter 'worker'. Did you mean 'workers'?" in done.stderr
    assert not (tmp_path / "results").exists()


def test_progress_is_text_where_nobody_watches(tmp_path):
    """Lines, as a log wants them, and no red box; nothing that a front end would have to draw.

    And a table may have fewer rows than the pilot wants.
    """
    small = pd.read_csv(ROOT / "data" / "funds.csv", dtype=str).head(6)
    small.to_csv(tmp_path / "small.csv", index=False)
    done = papermill(tmp_path, progress="text", table="../small.csv")
    assert done.returncode == 0, done.stderr
    outputs = [
        output for cell in code(nbformat.read(tmp_path / "executed.ipynb", as_version=4)) for output in cell.outputs
    ]
    said = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    assert "6 of 6 records" in said
    assert not [output for output in outputs if output.output_type == "display_data"]
