"""The README's pictures, from the real thing: `make screenshots`. JupyterLab, half a screen wide, light and dark."""

from __future__ import annotations

import tempfile
from pathlib import Path

from enrichkit.gemini.simulator import Simulator
from support.lab import Notebook, chromium, lab_server, write_notebook
from support.paths import ROOT

PICTURES = ROOT / "docs" / "pictures"
CELL = """
import pandas as pd
import enrichkit

df = pd.read_csv("funds.csv", dtype=str)
job = enrichkit.start(df, out="enriched", workers=20, budget_usd=40)
""".strip()
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


def main() -> None:
    """Run a notebook against a simulator as slow as the service, and take pictures midway and at the end."""
    PICTURES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        Simulator(latency_seconds=(0.3, 1.2), faults={"safety": 0.01, "overloaded": 0.02}) as server,
    ):
        root = Path(name)
        rows = (ROOT / "data" / "funds.csv").read_text("utf-8").splitlines(keepends=True)
        # A machine that makes pictures need not have the world's letters.
        (root / "funds.csv").write_text("".join(row for row in rows if max(row) < "\u02ff"), "utf-8")
        write_notebook(root / "enrich.ipynb", [CELL])
        key = {"GOOGLE_GEMINI_BASE_URL": server.url, "GOOGLE_API_KEY": "a-key-for-nothing"}
        with lab_server(root, **key) as address, chromium() as browser:
            page = browser.new_page(viewport={"width": 800, "height": 900}, device_scale_factor=1.5)
            notebook = Notebook(page, address, "enrich.ipynb")
            page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
            page.add_style_tag(content=".jp-cell-toolbar { display: none }")
            notebook.run(0)
            notebook.has(0, "last problem", seconds=60)
            page.wait_for_timeout(7000)
            take(page, "running")
            notebook.has(0, "Done", seconds=120)
            take(page, "ended")


def take(page, name: str) -> None:
    """Take the picture in both themes."""
    for short, theme in THEMES.items():
        page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
        page.wait_for_timeout(1500)
        page.mouse.move(0, 0)
        path = PICTURES / f"{name}-{short}.png"
        page.locator(".jp-Notebook-cell").first.screenshot(path=path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
