"""The page to hand on: one file, no script, whatever stands in the answers."""

from __future__ import annotations

import importlib.util
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from pydantic import BaseModel

import enrichkit
from enrichkit import Issue, Stage
from enrichkit.messages import Reply
from support.lab import CHROMIUM, chromium

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`\x1b[2J"


class Firm(BaseModel):
    city: str | None = None


def flagged(answer, record):
    yield Issue("city", "not_here", answer.city)


@pytest.fixture
def store(tmp_path):
    """A store whose key, cell, answer and finding are hostile."""
    stage = Stage("firm", prompt="Research {name}.", answer=Firm, checks=[flagged], search=False, columns="")
    df = pd.DataFrame({"name": [HOSTILE, "Osk"], "city": [f"{HOSTILE}!", None]})
    out = tmp_path / "<b>out"

    def ask(request):
        return Reply(text=pd.Series({"city": HOSTILE}).to_json())

    enrichkit.run(df, stages=[stage], key="name", client=ask, model="mine", out=out, progress=False)
    return out


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_the_page_has_quality_cost_and_doubts_and_runs_nothing(store, tmp_path):
    """Everything hostile is text, nothing is loaded from elsewhere, and scripts are forbidden besides."""
    page = enrichkit.report(store).to_html(tmp_path / "sub" / "report.html").read_text("utf-8")
    found = Tags()
    found.feed(page)
    assert found.tags.isdisjoint({"script", "img", "iframe", "link", "object", "a", "form"})
    assert not {name for name in found.attributes if name.startswith("on") or name in ("src", "href")}
    assert "default-src 'none'" in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    for heading in ("values by column", "cost by stage", "Doubtful values: 2"):
        assert heading in page
    assert len(re.findall("not_here", page)) >= 2


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed; CHROMIUM=... names one elsewhere")
@pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed")
def test_on_paper_it_is_dark_on_white_and_nothing_is_cut(tmp_path):
    """Whatever the reader's screen is set to, and however long a word is."""
    long = "x" * 130
    frame = pd.DataFrame({"name": [f"{number} {long}" for number in range(30)], long: ["q" * 200] * 30})
    settings = {"prompt": "What of {name}?", "fields": {long: str, "website": str}, "model": "simulator"}
    enrichkit.run(frame, **settings, out=tmp_path / "out", progress=False)
    page = enrichkit.report(tmp_path / "out").to_html(tmp_path / "report.html")
    with chromium() as browser:
        sheet = browser.new_page(viewport={"width": 718, "height": 1000}, color_scheme="dark")  # A4 within its margins
        sheet.goto(page.as_uri())
        assert sheet.evaluate("getComputedStyle(document.body).color") == "rgb(255, 255, 255)"
        sheet.emulate_media(media="print")
        assert sheet.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert "Doubtful values" in sheet.inner_text("body")
        widths = "[document.documentElement, ...document.querySelectorAll('table')].map(part => part.scrollWidth)"
        assert max(sheet.evaluate(widths)) <= 718
