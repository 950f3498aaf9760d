"""A real JupyterLab in a real Chromium: what the browser tests and the screenshots drive."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = """
--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync
""".split()
FOLDERS = """
JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR JUPYTERLAB_SETTINGS_DIR JUPYTERLAB_WORKSPACES_DIR IPYTHONDIR
""".split()
QUIET = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}
IDLE = """() => {
    const widget = window.jupyterapp?.shell.currentWidget, kernel = widget?.sessionContext?.session?.kernel;
    return !!kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
CELL = "window.jupyterapp.shell.currentWidget.content.widgets[index]"


@contextlib.contextmanager
def lab_server(root, **environment):
    """Serve a folder with everything that Jupyter writes inside it; yields the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    private = root / ".jupyter"
    own = {name: str(private / name.lower()) for name in FOLDERS}
    for name, setting in QUIET.items():
        path = Path(own["JUPYTERLAB_SETTINGS_DIR"], name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=t", f"--ServerApp.root_dir={root}"]
    command += ["--expose-app-in-browser"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ENRICHKIT_")}
    private.mkdir(exist_ok=True)
    with open(private / "log", "wb") as log:
        server = subprocess.Popen(
            command, cwd=root, env=inherited | own | environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 120
        while not _answers(f"http://127.0.0.1:{port}/api?token=t"):
            assert time.monotonic() < deadline, (private / "log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def _answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@contextlib.contextmanager
def chromium():
    """Yield the browser that is installed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def write_notebook(path, cells):
    """Write a notebook with these code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


class Notebook:
    """A notebook that is open in a page."""

    def __init__(self, page, address, name):
        self.page, self._address = page, f"{address}/doc/tree/{name}?token=t"
        page.set_default_timeout(120_000)
        self.open()

    def open(self):
        """Load the page, afresh the second time."""
        self.page.goto(self._address)
        self.page.wait_for_function(IDLE)

    def command(self, name):
        """Do what a menu or a key does."""
        self.page.evaluate("name => { window.jupyterapp.commands.execute(name); return 0 }", name)

    def run_all(self):
        self.command("notebook:run-all-cells")

    def select(self, index):
        """Make a cell the active one."""
        self.page.evaluate(f"index => {{ window.jupyterapp.shell.currentWidget.content.activeCellIndex = {index} }}")

    def run(self, index):
        """Run one cell."""
        self.select(index)
        self.command("notebook:run-cell")

    def ended(self, index):
        """Wait until a cell has ended. By its prompt: with comms on subshells the kernel is called idle meanwhile."""
        self.page.wait_for_function(
            f"index => {CELL}.prompt !== '*' && {CELL}.model.executionCount !== null", arg=index
        )

    def outputs(self, index):
        """Return what a saved copy would hold of a cell."""
        return self.page.evaluate(f"index => {CELL}.model.outputs.toJSON()", index)

    def sources(self):
        """Return what stands in all cells."""
        return self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model.sharedModel.source)"
        )

    def has(self, index, text, seconds=60):
        """Wait until a cell shows a text."""
        self.page.wait_for_function(
            f"([index, text]) => {CELL}.outputArea.node.innerText.includes(text)",
            arg=[index, text],
            timeout=1000 * seconds,
        )

    def shows(self, index):
        """Return the text that a person sees below a cell."""
        return self.page.evaluate(f"index => {CELL}.outputArea.node.innerText", index)

    def click(self, label, index=0):
        """Press a button of the widget below a cell."""
        cell = self.page.locator(".jp-Notebook-cell").nth(index)
        cell.locator("button.jupyter-button", has_text=label).first.click()

    def save(self):
        """Save, and wait until it is."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
