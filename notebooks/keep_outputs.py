"""Run every notebook afresh and keep its outputs in the tracked file: what `make notebooks` does.

They run in a copy of the folders they know, so that no earlier result changes what a reader sees; one after the other,
so that a later one finds the store that the first has filled.
"""

import os
import shutil
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a run in ``folder``, without widget state or timings."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main() -> None:
    """Keep the outputs of all notebooks, in their order."""
    os.environ["ENRICHKIT_PROGRESS"] = "html"  # as a person would see them; a log would get lines
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        shutil.copytree(HERE, root / "notebooks")
        shutil.copytree(HERE.parent / "data", root / "data")
        for path in sorted(HERE.glob("*.ipynb")):
            nbformat.write(execute(path, root / "notebooks"), path)
            print(f"kept the outputs of {path.name}")


if __name__ == "__main__":
    main()
