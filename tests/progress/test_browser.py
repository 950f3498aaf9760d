"""What a person sees and does: a real JupyterLab in a real Chromium."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import time
from collections import Counter

import nbformat
import pytest

from enrichkit.store.decisions import read_decisions
from support.calls import call
from support.lab import CHROMIUM, Notebook, chromium, lab_server, write_notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed; CHROMIUM=... names one elsewhere"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
]
IPYKERNEL = tuple(map(int, importlib.metadata.version("ipykernel").split(".")[:2]))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def address(root):
    with lab_server(root) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(root, address, browser, request):
    """Open a notebook with some cells, in a page of its own; no error in that page is forgiven."""
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def open_notebook(*cells):
        name = re.sub(r"\W+", "_", request.node.name) + ".ipynb"
        write_notebook(root / name, cells)
        return Notebook(page, address, name)

    yield open_notebook
    page.close()
    assert errors == []


def done(notebook, index=0):
    """How many records a view says are complete."""
    found = re.search(r"(\d+) of \d+ records", notebook.shows(index))
    return int(found[1]) if found else 0


def start_of(name, rows=600, seconds=0.5):
    return call(f"out-{name}", rows, seconds) + "job = enrichkit.start(frame, **settings)"


def moves(notebook, index=0, beyond=0):
    """Wait until the numbers below a cell have moved twice, and beyond some number."""
    for _ in range(2):
        before, deadline = done(notebook, index), time.monotonic() + 60
        while done(notebook, index) <= max(before, beyond):
            assert time.monotonic() < deadline, notebook.shows(index)
            notebook.page.wait_for_timeout(100)


def test_numbers_move_stop_ends_it_and_the_same_cell_goes_on(opened):
    """The view that was live becomes a summary; run again, it asks only for what is left."""
    notebook = opened(start_of("stop"), "len(enrichkit.read('out-stop'))", "table = job.result(); len(table)")
    notebook.run(0)
    moves(notebook, beyond=12)  # the first shard is sealed
    notebook.run(1)  # another cell reads the store meanwhile
    notebook.ended(1)
    assert int(notebook.outputs(1)[0]["data"]["text/plain"]) > 0
    notebook.click("Pause")
    notebook.has(0, "Paused")
    notebook.click("Resume")
    notebook.has(0, "Running")
    notebook.click("Stop")
    notebook.has(0, "Stopped")
    before = done(notebook)
    assert 0 < before < 600
    (output,) = notebook.outputs(0)
    assert set(output["data"]) == {"text/html", "text/plain"}
    notebook.run(2)
    notebook.ended(2)
    figures, length = notebook.outputs(2)  # the cell that waits has a line of figures of its own
    assert f"{before} of 600" in figures["text"]
    assert length["data"]["text/plain"] == "600"
    notebook.run(0)
    notebook.has(0, f"of {600 - before} records")
    notebook.click("Stop")
    notebook.has(0, "Stopped")


def test_a_reload_midway_loses_nothing_and_show_brings_it_back(opened):
    """The run goes on in the kernel; the page finds it again, in any cell."""
    notebook = opened(start_of("reload"), "job.show()", "job.stop(); len(enrichkit.read('out-reload'))")
    notebook.run(0)
    moves(notebook)
    notebook.save()
    before = done(notebook)
    notebook.open()
    notebook.run(1)
    moves(notebook, 1)
    assert done(notebook, 1) > before
    notebook.run(2)
    notebook.ended(2)
    notebook.has(1, "Stopped")
    assert set(notebook.outputs(1)[0]["data"]) == {"text/html", "text/plain"}
    assert "Stopped" in notebook.shows(0) or "Loading widget" in notebook.shows(0)


CLUSTER = """
import logging
from distributed import Client, LocalCluster
cluster = LocalCluster(2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL)
settings |= {"cluster": Client(cluster), "parts": 2, "rpm": 6000}
"""


def test_a_cluster_has_the_same_view_and_an_interrupt_leaves_it_its_workers(opened):
    """They are of the kernel's group of processes, all of which Jupyter interrupts."""
    notebook = opened(
        call("out-cluster", 600, 0.5) + CLUSTER,
        "job = enrichkit.start(frame, **settings)",
        "enriched = enrichkit.run(frame, **settings)",
        "len(settings['cluster'].nthreads())",
        "settings['cluster'].close(); cluster.close()",
    )
    notebook.run(0)
    notebook.ended(0)
    notebook.run(1)
    moves(notebook, 1)
    notebook.click("Pause", 1)
    notebook.has(1, "Paused")
    notebook.click("Resume", 1)
    notebook.has(1, "Running")
    notebook.click("Stop", 1)
    notebook.has(1, "Stopped")
    left = 600 - done(notebook, 1)
    notebook.run(2)
    moves(notebook, 2)
    notebook.command("notebook:interrupt-kernel")
    notebook.ended(2)
    (summary, error) = notebook.outputs(2)
    assert "Stopped" in summary["data"]["text/html"]
    assert re.search(rf"\d+ of {left} records are done and saved", error["traceback"][0])
    notebook.run(3)
    notebook.ended(3)
    assert notebook.outputs(3)[0]["data"]["text/plain"] == "2"
    notebook.run(4)
    notebook.ended(4)


def test_an_interrupt_of_a_blocking_run_is_one_sentence_and_ends_run_all(opened):
    """What is counted is kept; the cells below do not run."""
    blocking = call("out-interrupt", 600, 0.5) + "enriched = enrichkit.run(frame, **settings)"
    notebook = opened(blocking, "print('it ran on')")
    notebook.run_all()
    moves(notebook)
    notebook.command("notebook:interrupt-kernel")
    notebook.ended(0)
    (summary, error) = notebook.outputs(0)
    assert "Stopped" in summary["data"]["text/html"]
    assert len(error["traceback"]) == 1
    assert re.search(r"\d+ of 600 records are done and saved, \d+ are left", error["traceback"][0])
    notebook.page.wait_for_timeout(500)
    assert notebook.outputs(1) == []


def test_a_saved_notebook_shows_the_final_figures_untrusted_and_without_a_kernel(opened, root, address, browser):
    """Somebody else's copy: no widget, no script, and the numbers as they were."""
    notebook = opened(start_of("saved", 60, 0.05), "job.result(); job")
    notebook.run_all()
    notebook.ended(1)
    notebook.has(0, "60 of 60 records")
    notebook.save()
    saved = nbformat.read(next(root.glob("*saved*.ipynb")), as_version=4)
    saved.metadata["copied"] = True  # the same content would be trusted
    nbformat.write(saved, root / "copied.ipynb")
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    copy = Notebook(page, address, "copied.ipynb")
    trusted = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets[0].model.trusted")
    assert not trusted
    for index in (0, 1):
        told = copy.shows(index)
        for word in ("Done", "60 of 60 records", "66,000 tokens in 60 requests", "confidence", "high"):
            assert word in told
    page.close()


def test_hostile_text_is_shown_and_not_run(opened):
    """In the live view, in its summary and in what a run says of itself."""
    client = (
        "def hostile(request):\n    time.sleep(0.3)\n    return Reply(failure=Failure(cause='blocked', "
        "message='<img src=x onerror=window.harmed=1> $1 and $2'))\n"
    )
    start = call("out-hostile", 8) + client + "job = enrichkit.start(frame, **settings | {'client': hostile})"
    notebook = opened(start, "job.result(); job")
    notebook.run(0)
    notebook.has(0, "<img src=x")
    notebook.run(1)
    notebook.ended(1)
    for index in (0, 1):
        notebook.has(index, "Done")
        assert "<img src=x onerror=window.harmed=1> $1 and $2" in notebook.shows(index)
    assert notebook.page.evaluate("() => window.harmed") is None


def test_a_long_word_of_anybody_pushes_nothing_out_of_half_a_screen(opened):
    """The summary wraps it: the levels beside it stay in sight."""
    client = (
        "def hostile(request):\n    bad = Reply(failure=Failure(cause='blocked', message='x' * 400))\n"
        "    return bad if 'Company 7⟧' in request.text else client(request)\n"
    )
    start = call("out-long", 8) + client + "job = enrichkit.start(frame, **settings | {'client': hostile})"
    notebook = opened(start, "job.result(); job")
    notebook.page.set_viewport_size({"width": 680, "height": 900})
    notebook.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    notebook.run_all()
    notebook.ended(1)
    for index in (0, 1):
        notebook.has(index, "confidence")
        cell = notebook.page.locator(".jp-Notebook-cell").nth(index)
        widths = cell.locator(".jp-RenderedHTMLCommon").last.evaluate("node => [node.scrollWidth, node.clientWidth]")
        assert widths[0] <= widths[1]


@pytest.mark.parametrize(
    ("how", "answers"),
    [
        ("None", True),
        ("table = job.result()", (7, 0) <= IPYKERNEL < (7, 4)),
        ("table = await job", IPYKERNEL >= (7, 0)),
    ],
    ids=["the cell returned", "the cell blocks", "the cell awaits"],
)
def test_when_the_stop_button_answers(how, answers, opened):
    """By ipykernel's version: always while no cell runs; while one does, as measured. An interrupt always works."""
    name = f"button-{len(how)}"
    notebook = opened(start_of(name), how)
    notebook.run(0)
    moves(notebook)
    notebook.run(1)
    notebook.page.wait_for_timeout(500)
    assert ("use ■" in notebook.shows(0)) == ("result" in how)
    notebook.click("Stop")
    if answers:
        notebook.has(0, "Stopped")
    else:
        notebook.page.wait_for_timeout(2000)
        assert "Running" in notebook.shows(0)
        notebook.command("notebook:interrupt-kernel")
        notebook.has(0, "Stopped")
    notebook.ended(1)


@pytest.mark.skipif(IPYKERNEL < (7, 0), reason="older kernels answer no button while a cell runs")
def test_under_run_all_its_buttons_answer_while_a_cell_awaits(opened):
    """Pause, Resume, Stop; which ends within two seconds of the last reply in flight, and the cells below run."""
    timed = "replied = []\nasked = client\ndef client(request):\n"
    timed += "    reply = asked(request)\n    replied.append(time.time())\n    return reply\n"
    start = call("out-all", 600, 0.5) + timed + "job = enrichkit.start(frame, **settings | {'client': client})"
    after = "print('after', time.time() - replied[-1]); enriched['_status'].value_counts()"
    notebook = opened(start, "enriched = await job\nprint('ended', time.time() - replied[-1])", after)
    notebook.run_all()
    moves(notebook)
    notebook.click("Pause")
    notebook.has(0, "Paused")
    assert "left" not in notebook.shows(0)
    notebook.click("Resume")
    notebook.has(0, "Running")
    moves(notebook)
    notebook.click("Stop")
    notebook.ended(2)
    (told,) = notebook.outputs(1)
    line, ended = told["text"].strip().split("\n")
    assert re.match(r"Stopped: \d+ of 600 records · .*\. The same call goes on from here; enrichkit\.read", line)
    assert float(ended.split()[1]) < 2
    assert "pending" in notebook.shows(2)


def test_a_page_that_lost_the_view_saves_the_figures_all_the_same(opened, root):
    """The cell that waits ends with a line of its own; the view that is left says how to keep it."""
    notebook = opened(start_of("lost", 60, 0.3), "enriched = await job")
    notebook.run(0)
    moves(notebook)
    notebook.save()
    notebook.open()
    notebook.run(1)
    notebook.ended(1)
    notebook.has(1, "Done: 60 of 60 records")
    notebook.save()
    saved = nbformat.read(next(root.glob("*lost*.ipynb")), as_version=4)
    assert "60 of 60 records" in str(saved.cells[1].outputs)


def test_a_run_that_a_button_of_ones_own_starts_is_shown_once(opened):
    """Below the button, in the Output that its callback writes to, with buttons that answer."""
    button = (
        "import ipywidgets\nbutton, output = ipywidgets.Button(description='Go'), ipywidgets.Output()\n"
        "def go(_):\n    global job\n    with output:\n        job = enrichkit.start(frame, **settings)\n"
        "button.on_click(go)\nipywidgets.VBox([button, output])"
    )
    notebook = opened(call("out-go", 600, 0.5) + button)
    notebook.run(0)
    notebook.ended(0)
    notebook.click("Go")
    moves(notebook)
    assert notebook.shows(0).count("Running as of") == 1
    notebook.click("Stop")
    notebook.has(0, "Stopped")
    assert notebook.shows(0).count("Stopped") == 1


def test_a_run_that_a_button_without_an_output_starts_is_shown_below_the_next_cell(opened):
    """JupyterLab drops what such a callback displays: nobody would see that it spends."""
    button = (
        "import ipywidgets\nbutton = ipywidgets.Button(description='Go')\n"
        "button.on_click(lambda _: enrichkit.start(frame, **settings))\nbutton"
    )
    notebook = opened(call("out-lone", 600, 0.5) + button, "1 + 1", "2 + 2")
    notebook.run(0)
    notebook.ended(0)
    notebook.click("Go")
    for index in (1, 2):
        notebook.run(index)
        notebook.ended(index)
    moves(notebook, 1)
    notebook.click("Stop", 1)
    notebook.has(1, "Stopped")
    assert [notebook.shows(index).count("Stopped") for index in (0, 1, 2)] == [0, 1, 0]


def test_the_start_cell_run_twice_has_one_run_and_two_views(opened):
    """With all that it defines; with other settings it is refused, and told how to find the run."""
    other = "enrichkit.start(frame, **settings | {'workers': 2})"
    notebook = opened(start_of("twice"), "first = job\n" + start_of("twice"), "print(job is first)", other)
    notebook.run(0)
    moves(notebook)
    for index in (1, 2, 3):
        notebook.run(index)
        notebook.ended(index)
    assert notebook.outputs(2)[0]["text"] == "True\n"
    assert ".show() it, wait until it has ended" in notebook.outputs(3)[0]["evalue"]
    moves(notebook, 1)
    notebook.click("Stop", 1)
    for index in (0, 1):
        notebook.has(index, "Stopped")


def test_the_view_of_a_kernel_that_died_says_of_when_it_is(opened):
    """Its figures stay, and are dated."""
    notebook = opened(start_of("killed"), "import os; os.kill(os.getpid(), 9)")
    notebook.run(0)
    moves(notebook)
    notebook.run(1)
    notebook.page.wait_for_timeout(2500)
    before = notebook.shows(0)
    assert re.search(r"as of \d\d:\d\d:\d\d", before)
    notebook.page.wait_for_timeout(2500)
    assert notebook.shows(0) == before


REVIEW = """
import pandas as pd
import enrichkit
from enrichkit import trust
names = [f"Borealis {word}" for word in "Ash Birch Cedar Elm Fir Hazel Larch Maple Oak Pine Rowan Yew".split()]
df = pd.DataFrame({"fund.title": names})
_ = enrichkit.run(df, model="simulator", stages=["fund"], out="out-review", progress=False)
"""


def test_thirty_cells_are_judged_by_the_keyboard_alone(opened, root):
    """A correction, a step back and a mistyped key included; no cell of the notebook is changed."""
    notebook = opened(REVIEW, "cells = trust.review('out-review', 30)", "trust.evidence('out-review')", "")
    before = notebook.sources()
    notebook.run(0)
    notebook.ended(0)
    notebook.select(1)
    notebook.page.keyboard.press("Escape")
    notebook.page.keyboard.press("Control+Enter")
    notebook.has(1, "1 of 30")
    notebook.page.wait_for_function("() => document.activeElement.matches('.widget-text input')")
    for _ in range(10):
        send(notebook, "y")
    notebook.has(1, "11 of 30")
    send(notebook, "dd")
    notebook.has(1, "Nothing was stored for 'dd'")
    send(notebook, "n")
    send(notebook, "<")
    send(notebook, "= Bergen")
    notebook.has(1, "12 of 30")
    notebook.page.keyboard.press("Shift+Tab")
    assert notebook.page.evaluate("() => document.activeElement.matches('.widget-html a[href]')")
    notebook.page.keyboard.press("Tab")
    for number in range(18):
        send(notebook, "?" if number % 2 else "n")
    send(notebook, "y")
    notebook.has(1, "All 30 are judged: 11 right, 1 another value, 9 wrong, 9 unsure")
    assert notebook.sources() == before
    newest = {(decision.column, decision.about): decision.verdict for decision in read_decisions(root / "out-review")}
    kinds = Counter(newest.values())
    assert kinds == {"right": 11, "value": 1, "wrong": 9, "unsure": 9}


def send(notebook, text):
    """Type into the box as somebody quick does."""
    notebook.page.keyboard.type(text)
    notebook.page.keyboard.press("Enter")
    notebook.page.wait_for_timeout(150)


TRIAL = """
import json
import pandas as pd
import enrichkit
from enrichkit import Answer, Stage, trust
from enrichkit.messages import Reply
class Facts(Answer):
    city: str | None = None
def client(request):
    return Reply(text=json.dumps({"city": "Oslo" if request.stage == "long" else "Moss"}))
stages = [
    Stage(name, prompt=f"{name}: where is {{name}}?", answer=Facts, search=False, columns="firm")
    for name in ("long", "short")
]
df = pd.DataFrame({"name": [f"Firm {number}" for number in range(6)]})
settings = {"out": "out-pairs", "key": "name", "model": "m", "client": client, "progress": False}
sides = enrichkit.trial(df, stages, **settings)
"""


def test_pairs_of_values_are_chosen_from_by_the_keyboard_alone(opened, root):
    """Unnamed; what would judge a single value is refused; once all are judged the trial says what that shows."""
    review = "pairs = trust.review('out-pairs', cells=trust.changes(*sides['out']))"
    notebook = opened(TRIAL, review, "print(enrichkit.trial(df, stages, **settings)['winner'].tolist())")
    before = notebook.sources()
    notebook.run(0)
    notebook.ended(0)
    notebook.run(1)
    notebook.has(1, "1 of 6")
    notebook.page.wait_for_function("() => document.activeElement.matches('.widget-text input')")
    assert {"1: Oslo", "1: Moss"} & {*notebook.shows(1).splitlines()}
    assert "long" not in notebook.shows(1)
    for key in ("y", "= Oslo", "dd"):
        send(notebook, key)
        notebook.has(1, f"Nothing was stored for '{key}'")
    for key in ("1", "2", "<", "n", "b", "?", "1", "2"):
        send(notebook, key)
    notebook.has(1, "All 6 are judged")
    assert notebook.sources() == before
    pairs = [decision.verdict for decision in read_decisions(root / "out-pairs")]
    assert Counter(pairs) == {"right": 6, "wrong": 6, "unsure": 2}
    notebook.run(2)
    notebook.ended(2)
    assert "no winner; a gap of" in notebook.outputs(2)[0]["text"]
