"""A run in a real kernel: what its cells show and keep, and what an interrupt, a click and a signal do."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import time

import nbformat
import pandas as pd
import pytest
from jupyter_client.manager import start_new_kernel

import enrichkit
from enrichkit import errors
from enrichkit.gemini.simulator import Simulator
from enrichkit.messages import Reply
from support.calls import call
from support.paths import ROOT
from support.waiting import wait_for

VIEW = "application/vnd.jupyter.widget-view+json"


class Kernel:
    """A kernel and everything it publishes."""

    def __init__(self, manager, client):
        self.manager, self.client = manager, client
        self.shown, self.published, self.models, self.idle = {}, [], {}, set()
        self._seen = 0

    def send(self, code, **options):
        """Run a cell, and do not wait for it."""
        return self.client.execute(code, **options)

    def run(self, code, **options):
        """Run a cell, and return its reply."""
        return self.reply(self.send(code, **options))

    def reply(self, cell):
        """Return the reply to a cell, once all that it has published is here."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            self.listen()
            try:
                message = self.client.get_shell_msg(timeout=0.05)
            except queue.Empty:
                continue
            if message["parent_header"]["msg_id"] == cell:
                self.until(lambda: cell in self.idle)
                return message["content"]
        raise AssertionError("the cell did not end")

    def listen(self, seconds=0.0):
        """Take what was published, as a page would."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(0.02, deadline - time.monotonic()))
            except queue.Empty:
                return
            content, kind = message["content"], message["msg_type"]
            self.published.append((kind, content))
            name = content.get("transient", {}).get("display_id")
            if kind == "display_data" and name:
                self.shown.setdefault(name, []).append(content["data"])
            elif kind == "update_display_data":
                self.shown[name] = [content["data"]] * len(self.shown[name])
            elif kind == "status" and content["execution_state"] == "idle":
                self.idle.add(message["parent_header"].get("msg_id"))
            elif kind == "comm_open":
                self.models[content["comm_id"]] = content["data"]["state"]
            elif kind == "comm_msg" and content["data"].get("method") == "update":
                self.models[content["comm_id"]].update(content["data"]["state"])

    def until(self, condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it never came"
            self.listen(0.05)

    def text(self):
        """What was printed."""
        return "".join(content["text"] for kind, content in self.published if kind == "stream")

    def live(self, text):
        """Wait until the widget shows a text after what was waited for before, for however short a time."""
        self.until(lambda: any(text in html for html in self._htmls()))

    def _htmls(self):
        while self._seen < len(self.published):
            kind, content = self.published[self._seen]
            self._seen += 1
            if kind in ("comm_open", "comm_msg"):
                yield content["data"].get("state", {}).get("value") or ""

    def click(self, description):
        """Press a button as a page does."""
        self.until(lambda: description in [state.get("description") for state in self.models.values()])
        name = next(one for one, state in self.models.items() if state.get("description") == description)
        content = {"comm_id": name, "data": {"method": "custom", "content": {"event": "click"}}}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))


@contextlib.contextmanager
def started():
    """A kernel of the installed version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.delenv("ENRICHKIT_PROGRESS", raising=False)
        manager, client = start_new_kernel(kernel_name="python3")
    client.stop_channels()
    try:
        yield manager
    finally:
        manager.shutdown_kernel(now=True)


@contextlib.contextmanager
def heard(manager, folder):
    """A kernel with empty hands, at work in a folder, and what it publishes from now on."""
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        kernel = Kernel(manager, client)
        assert kernel.run(f"%reset -f\nimport os; os.chdir({str(folder)!r})")["status"] == "ok"
        yield kernel
    finally:
        client.stop_channels()


@pytest.fixture(scope="module")
def shared_manager():
    """One kernel for all tests: it takes longer to start than most of them."""
    with started() as manager:
        yield manager


@pytest.fixture
def kernel(shared_manager, tmp_path):
    with heard(shared_manager, tmp_path) as kernel:
        yield kernel


@pytest.fixture
def own_kernel(tmp_path):
    """A kernel that a test may change for good."""
    with started() as manager, heard(manager, tmp_path) as kernel:
        yield kernel


def test_the_widget_moves_and_ends_as_a_summary_wherever_it_was_shown(kernel):
    """One thread refreshes it, five times a second at most; in the end each place holds tables and text."""
    assert kernel.run(call("out", rows=80) + "job = enrichkit.start(frame, **settings)")["status"] == "ok"
    kernel.live("Running")
    kernel.run("job.show()")
    assert kernel.run("job.result(); job.show(); print('seconds', job.status.seconds)")["status"] == "ok"
    kernel.live("<b>Done</b>")
    kernel.until(lambda: not [place for (places,) in [kernel.shown.values()] for place in places if VIEW in place])
    kernel.listen(0.5)
    (places,) = kernel.shown.values()
    assert len(places) == 3
    for place in places:
        assert VIEW not in place
        assert "<b>Done</b>" in place["text/html"]
        assert "80 of 80 records" in place["text/html"]
        assert place["text/plain"].startswith("Done: 80 of 80 records · ")
    updates = [content for kind, content in kernel.published if kind == "comm_msg"]
    assert 3 <= len(updates) <= 5 * float(kernel.text().split("seconds ")[1]) + 10


def test_its_buttons_stop_and_pause_while_no_cell_runs(kernel):
    """Pause, Resume and Stop do what they say; afterwards nothing can be pressed."""
    kernel.run(call("out", rows=400, seconds=0.5) + "job = enrichkit.start(frame, **settings)")
    kernel.live("Running")
    kernel.click("Pause")
    kernel.live("<b>Paused</b>")
    kernel.click("Resume")
    kernel.live("<b>Running</b>")
    kernel.click("Stop")
    kernel.live("Stopped")
    kernel.until(lambda: "none" in [state.get("display") for state in kernel.models.values()])
    kernel.run("table = job.result(); print('rows', len(table), job.status.left > 0)")
    assert "rows 400 True" in kernel.text()


def test_an_interrupt_ends_a_blocking_run_with_one_sentence_and_no_later_cell_runs(kernel):
    """What is in flight is kept, and the cells that "Run all" has queued are not run."""
    cell = kernel.send(call("out", rows=400, seconds=0.5) + "enriched = enrichkit.run(frame, **settings)")
    later = kernel.send("print('it ran on')")
    kernel.live("Running")
    kernel.manager.interrupt_kernel()
    reply = kernel.reply(cell)
    assert reply["status"] == "error"
    (told,) = reply["traceback"]
    assert re.fullmatch(r"Interrupted: Interrupted\. \d+ of 400 records are done and saved, .*", told)
    assert kernel.reply(later)["status"] == "aborted"
    assert "it ran on" not in kernel.text()
    kernel.run("again = enrichkit.start(frame, **settings); print(again.status.records, 'left'); again.stop();")
    done = int(re.search(r"(\d+) of 400", told)[1])
    assert f"{400 - done} left" in kernel.text()


def test_an_interrupt_of_a_cell_that_awaits_keeps_what_is_in_flight(kernel):
    """It reaches such a cell as a cancellation; one sentence, too."""
    kernel.run(call("out", rows=400, seconds=0.5) + "job = enrichkit.start(frame, **settings)")
    cell = kernel.send("print('awaiting'); table = await job")
    kernel.until(lambda: "awaiting" in kernel.text())
    kernel.listen(0.3)
    kernel.manager.interrupt_kernel()
    reply = kernel.reply(cell)
    assert reply["status"] == "error"
    assert len(reply["traceback"]) == 1
    assert re.search(r"Interrupted\. \d+ of 400 records are done and saved", reply["traceback"][0])
    kernel.run("print(job.done, job.status.stopping, job.status.traffic.in_flight, job.status.traffic.unsaved)")
    assert "True interrupt 0 0" in kernel.text()


def test_without_a_person_before_it_a_kernel_prints_lines(kernel):
    """papermill and nbclient say that nobody can be asked; a log wants lines, and no red box."""
    kernel.run(call("out") + "enriched = enrichkit.run(frame, **settings)", allow_stdin=False)
    assert re.fullmatch(r"(\d+ of 40 records · .*\n)*40 of 40 records · .* in 40 requests.*\n", kernel.text())
    assert {content["name"] for kind, content in kernel.published if kind == "stream"} == {"stdout"}
    assert not kernel.shown


def test_without_ipywidgets_it_is_html_under_one_id(own_kernel):
    """The same view, without buttons, and the same summary at the end."""
    hidden = "import sys; sys.modules['ipywidgets'] = None\nimport importlib.util\nfind = importlib.util.find_spec\n"
    hidden += "importlib.util.find_spec = lambda name, *rest: None if name == 'ipywidgets' else find(name, *rest)\n"
    own_kernel.run(hidden + call("out") + "job = enrichkit.start(frame, **settings)")
    shown = [content["data"]["text/html"] for kind, content in own_kernel.published if kind == "display_data"]
    assert ["<progress" in one for one in shown] == [True]
    own_kernel.run("job.result(); None")
    own_kernel.until(lambda: "<progress" not in next(iter(own_kernel.shown.values()))[0]["text/html"])
    (places,) = own_kernel.shown.values()
    assert places[0]["text/plain"].startswith("Done: 40 of 40")
    assert not own_kernel.models


@pytest.mark.parametrize("progress", ["widget", "html"])
def test_a_saved_notebook_holds_the_final_figures(progress, tmp_path, monkeypatch):
    """As nbclient saves it, without a kernel: tables and text, and no widget."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ENRICHKIT_PROGRESS", progress)
    # The last word is waited for, however late it comes: nobody would hear it after the last cell.
    first = "import enrichkit.runs.runner\nenrichkit.runs.runner.LAST_WORD_SECONDS = 60.0\n" + call("out")
    cells = [first + "job = enrichkit.start(frame, **settings)", "job.show()", "enriched = job.result()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    from nbclient import NotebookClient

    NotebookClient(
        notebook, kernel_name="python3", store_widget_state=False, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    nbformat.validate(notebook)
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    *shown, line = outputs
    assert [output.output_type for output in shown] == ["display_data"] * 2
    assert re.fullmatch(r"Done: 40 of 40 records · .* in 40 requests · .*\n", line.text)  # a page may lose the view
    for output in shown:
        assert set(output.data) == {"text/html", "text/plain"}
        assert "40 of 40 records" in output.data["text/html"]
    assert max(map(len, nbformat.writes(notebook).splitlines())) <= 400
    assert "widgets" not in notebook.metadata


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_to_papermill_loses_nothing_that_was_counted(sign, tmp_path, monkeypatch):
    """What a line of progress has counted is in the store, however suddenly the kernel dies."""
    with Simulator(latency_seconds=0.5) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
        cells = [
            "import pandas as pd, enrichkit",
            f"df = pd.read_csv({str(ROOT / 'data' / 'funds.csv')!r}, dtype=str).head(300)",
            "job = enrichkit.start(df, out='out', workers=8, shard_rows=5, progress=False)",
            "for row in job: print('counted', row['poc._question'], row['fund._question'], flush=True)",
            "job.result(); print('it ran on')",
        ]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
        nbformat.write(notebook, tmp_path / "in.ipynb")
        command = [sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", "-k", "python3", "--log-output"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with open(tmp_path / "log", "wb") as log:
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=log, stdout=log)
            wait_for(lambda: (tmp_path / "log").read_text().count("counted") >= 20)
            process.send_signal(sign)
            assert process.wait(60) != 0
    told = (tmp_path / "log").read_text()
    counted = {question for pair in re.findall(r"counted (\w+) (\w+)", told) for question in pair}
    assert len(counted) > 20
    assert "it ran on" not in told
    asked = set()

    def client(request):
        asked.add(request.question)
        return Reply(text="{}")

    table = pd.read_csv(ROOT / "data" / "funds.csv", dtype=str).head(300)
    deadline = time.monotonic() + 60
    while True:
        try:  # the kernel may outlive papermill by a moment, and holds the lock
            enrichkit.run(
                table, out=tmp_path / "out", model="gemini-3.5-flash-lite", client=client, workers=8, progress=False
            )
            break
        except errors.LockedError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert asked  # it was stopped before the end
    assert not counted & asked
    assert len(enrichkit.read(tmp_path / "out")) == 299


FAST = """
import pandas as pd, time, enrichkit
from enrichkit import Answer, Stage
from enrichkit.messages import Reply

class Company(Answer):
    industry: str | None = None

def client(request):
    return Reply(text='{"confidence": "high", "industry": "Software"}')

stage = Stage("company", prompt="Research {name}.", answer=Company, search=False)
frame = pd.DataFrame({"name": [f"Company {number}" for number in range(ROWS)]})
job = enrichkit.start(frame, stages=[stage], key="name", model="m", client=client, workers=4,
                      out="out", shard_rows=1000)
"""
WATCH = """
import threading
# The one that shows, and ipykernel's own that sends what is shown.
views = [one for one in threading.enumerate() if one.name in ("enrichkit-progress", "IOPub")]
clocks = [time.pthread_getcpuclockid(one.ident) for one in views]
assert len(clocks) == 2
busy = lambda: sum(map(time.clock_gettime, clocks))
begun, before, since, spent = job.status.traffic.requests, busy(), time.monotonic(), time.process_time()
while (time.monotonic() - since < SECONDS or job.status.traffic.requests - begun < 100 * SECONDS) and not job.done:
    time.sleep(0.1)
replies, seconds = job.status.traffic.requests - begun, time.monotonic() - since
print("refresh", (busy() - before) / (4 * seconds), "reply", (time.process_time() - spent) / replies, "in all", replies)
job.stop();
"""


@pytest.mark.timeout(240)
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [4, 20])
def test_a_thousand_replies_a_second_neither_flood_the_page_nor_cost_anything(kernel, seconds):
    """A refresh takes no more than some replies do, and a page gets a few messages a second, whatever the speed."""
    started = time.monotonic()
    kernel.run(FAST.replace("ROWS", str(4000 * seconds)))
    reply = kernel.run(WATCH.replace("SECONDS", str(seconds)))
    assert reply["status"] == "ok", reply
    passed = time.monotonic() - started
    found = re.search(r"refresh (\S+) reply (\S+) in all (\d+)", kernel.text()).groups()
    refresh, reply, replies = map(float, found)
    print(json.dumps({"share": 4 * refresh, "speed": replies / passed}))
    assert replies > 100 * seconds
    assert refresh < 5 * reply  # at a thousand replies and four refreshes a second, under 2 % of the time
    messages = [kind for kind, _ in kernel.published if kind in ("comm_msg", "update_display_data", "stream")]
    assert len(messages) <= 6 * passed + 10
    assert "rate exceeded" not in kernel.text()
