"""The plan: what is counted, what it says, what it points out."""

from __future__ import annotations

import dataclasses
import html
import re
import socket

import pandas as pd
import pytest

import enrichkit
from enrichkit import Price, Stage, errors
from enrichkit.messages import Failure, Reply
from support.paths import TABLE
from support.tables import Company


def plan(frame, tmp_path, **settings):
    return enrichkit.plan(frame, **({"out": tmp_path / "out"} | settings))


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "fund.title": ["Borealis", " BOREALIS", "Tarn", "Tarn"],
            "poc.first_name": ["Ana", "José", "Zoë", None],
            "poc.last_name": ["Aas", "Núñez", "Berg", None],
            "fund.website": ["borealis.test", "borealis.example", None, "tarn.test"],
            "fund.country": ["Norway", "Kenya", "UK", "United Kingdom"],
            "fund.city": ["Oslo", "Nairobi", "London", "London"],
        }
    )


def test_it_counts_what_is_shared_skipped_and_to_ask(frame, tmp_path):
    """Questions, not rows."""
    found = plan(frame, tmp_path)
    poc, fund = found.stages
    assert (found.rows, found.records, found.to_ask, found.shared) == (4, 4, 5, 2)
    assert (poc.to_ask, poc.skipped, fund.to_ask, fund.shared) == (3, 1, 2, 2)


def test_it_points_out_two_funds_with_one_title(frame, tmp_path):
    """Other website, country and city: likely another firm. Another spelling of a country is not."""
    told = [note for note in plan(frame, tmp_path).notes if "share a name" in note]
    assert len(told) == 1
    assert "'Borealis'" in told[0] or "' BOREALIS'" in told[0]
    assert "fund.website, fund.country, fund.city" in told[0]


def test_two_funds_can_be_parted_by_more_columns(frame, tmp_path):
    """What the note advises works."""
    stage = Stage("firm", prompt="{fund.title} {fund.country}", answer=Company, per=("fund.title", "fund.country"))
    assert plan(frame, tmp_path, stages=[stage]).to_ask == 4


def test_rows_that_repeat_a_key_are_told(frame, tmp_path):
    """One record, and the reader knows."""
    found = plan(pd.concat([frame, frame.head(1)]), tmp_path)
    assert (found.rows, found.records) == (5, 4)
    assert any("1 row repeats" in note for note in found.notes)


def test_the_estimate_has_a_range_and_names_its_prices(frame, tmp_path):
    """Low, middle, high, and the version of the price list."""
    found = plan(frame, tmp_path)
    low, middle, high = found.cost_usd
    assert 0 < low < middle < high
    assert "genai-prices" in str(found)


def test_an_unknown_price_is_unknown(frame, tmp_path):
    """Never 0; a price of one's own makes it known."""
    assert plan(frame, tmp_path, model="gemini-99").cost_usd is None
    assert "unknown" in str(plan(frame, tmp_path, model="gemini-99"))
    own = {"gemini-99": Price(input_usd=1, output_usd=2)}
    found = plan(frame, tmp_path, model="gemini-99", prices=own)
    assert found.cost_usd is None
    assert "The price of a search by 'gemini-99' is unknown: give its enrichkit.Price a search_usd" in str(found)
    own = {"gemini-99": Price(input_usd=1, output_usd=2, search_usd=0)}
    assert plan(frame, tmp_path, model="gemini-99", prices=own).cost_usd[0] > 0


def test_a_limit_leaves_the_rest_for_later(frame, tmp_path):
    """The most urgent records first."""
    found = plan(frame.assign(rank=[1, 2, 3, 4]), tmp_path, limit=2, priority="rank")
    assert found.to_ask == 2
    assert any("2 records are left" in note for note in found.notes)
    assert found.later == 2


def test_a_limit_that_leaves_everything_out_does_not_make_it_stored(frame, tmp_path):
    """Nothing to ask is said of this call only."""
    settings = {"out": tmp_path / "out", "stages": ["fund"]}
    enrichkit.run(
        frame, **settings, limit=1, model="gemini-3.5-flash-lite", client=lambda _: Reply(text="{}"), progress=False
    )
    assert plan(frame, tmp_path, **settings, limit=0).price_line == "Nothing to ask in this call."
    enrichkit.run(frame, **settings, model="gemini-3.5-flash-lite", client=lambda _: Reply(text="{}"), progress=False)
    assert plan(frame, tmp_path, **settings).price_line == "Nothing to ask: everything is stored."


@pytest.mark.parametrize(
    ("priority", "told"),
    [
        ("no such column", "The priority column 'no such column' is not in the table."),
        ("fund.city", "priority must be numbers, .*: not 'Oslo', in rows 1, 2, 4 and 5."),
        ("rank", "priority must be numbers, the highest asked first: not 'high', in row 4."),
        (5, "priority must be a column's name or a function of the table, not 5."),
        (lambda first: [1, 2], "priority must give one number per record, 4 of them, not 2."),
        (lambda first: first["fund.country"], "priority must be numbers, .*: not 'Norway', in rows 1, 2, 4 and 5."),
    ],
)
def test_a_priority_is_a_number_per_record(priority, told, frame, tmp_path):
    """What is none is named, with its rows in the table: asked last in silence, nobody would find it."""
    frame = pd.concat([frame[:2], frame[1:]], ignore_index=True).assign(rank=[2, 1, 1, "high", None])
    with pytest.raises(errors.InputError, match=told):
        plan(frame, tmp_path, priority=priority)


@pytest.mark.parametrize("missing", [None, float("nan"), "", " ", pd.NA])
def test_who_has_no_priority_comes_last(missing, frame, tmp_path):
    """However that is spelled, even if nobody has one."""
    frame = frame.assign(rank=[missing, missing, 0, -1], **{"poc.last_name": list("abcd")})
    asked = enrichkit.start(frame, out=tmp_path / "out", model="simulator", stages=["poc"], priority="rank", limit=2)
    asked.result()
    assert {row["poc.last_name"] for row in asked} == {"c", "d"}
    assert plan(frame.head(2), tmp_path, out=tmp_path / "none", priority="rank").records == 2


def test_hostile_text_is_escaped(frame, tmp_path):
    """The plan is HTML in a notebook, text in a terminal."""
    found = plan(frame.assign(**{"fund.title": "<img src=x onerror=alert(1)>"}), tmp_path / "<i>\x1b[2J")
    assert any("<img" in note for note in found.notes)
    markup = found._repr_html_()
    assert "<img" not in markup
    assert "<i>" not in markup
    assert "&lt;img src=x onerror=alert(1)&gt;" in markup
    assert "\x1b" not in markup + str(found) + repr(found)


def test_it_shows_itself_in_two_lines_a_table_or_in_whole(frame, tmp_path):
    """Two lines where it is the last expression in a terminal, the last of them the next call; all of it printed."""
    found = plan(frame, tmp_path)
    first, last = repr(found).splitlines()
    assert first.startswith("<enrichkit.Plan, 4 records: 5 requests, about ")
    assert last == found.next_line == str(found).splitlines()[-1]
    assert "  poc: 3 to ask, 1 skipped\n  fund: 2 to ask, 2 shared\n" in str(found)
    table = re.findall(r"<t[hd]>([^<]+)", found._repr_html_())
    assert table == ["stage", "to ask", "skipped", "shared", "poc", "3", "1", "0", "fund", "2", "0", "2"]
    for told in (found.price_line, *found.notes, found.next_line):
        assert html.escape(told) in " ".join(found._repr_html_().split())


def test_one_is_no_plural(frame, tmp_path):
    """Of rows, records, requests and workers."""
    told = str(plan(frame.head(1), tmp_path, stages=["fund"], workers=1))
    assert told.startswith("1 record in 1 row, ")
    assert "\n1 request, about" in told
    assert "with 1 worker, if" in told


def test_a_plan_of_a_changed_question_says_what_the_run_will_say(frame, tmp_path):
    """In the same words, and its next line is about that; a way on that is chosen is no obstacle any more."""
    settings = {"out": tmp_path / "out", "stages": ["fund"]}
    enrichkit.run(frame, **settings, model="gemini-3.5-flash-lite", client=lambda _: Reply(text="{}"), progress=False)
    found = plan(frame, tmp_path, **settings, model="gemini-3.5-flash")
    with pytest.raises(errors.ChangedError) as caught:
        enrichkit.run(frame, **settings, client=lambda _: Reply(text="{}"), model="gemini-3.5-flash")
    assert f"{found.notes[0]} enrichkit.plan(...) shows the price." == str(caught.value)
    assert found.next_line.startswith("Next: give on_change='redo' or on_change='keep', or another 'out';")
    for way in ("redo", "keep"):
        assert plan(frame, tmp_path, **settings, model="gemini-3.5-flash", on_change=way).fix_first == ""


def test_the_next_line_is_about_what_is_in_the_way(frame, tmp_path):
    """A missing key, a budget that is too small, or that cannot be held: what to fix, not what to call."""
    calls = [
        ({"frame": frame.assign(**{"fund.title": [None, *"abc"]})}, "Next: fill in the key where it is missing"),
        ({"budget_usd": 0.01}, "Next: raise budget_usd; until then enrichkit.run asks little or nothing."),
        ({"budget_usd": 1, "model": "gemini-99"}, "Next: give that price, or leave budget_usd out;"),
        ({"budget_usd": 10}, "Next: enrichkit.run with the same arguments;"),
        ({"model": "gemini-99"}, "Next: enrichkit.run with the same arguments;"),
    ]
    for settings, told in calls:
        found = plan(**{"frame": frame, "tmp_path": tmp_path} | settings)
        assert found.next_line.startswith(told)
        assert str(found).endswith(found.next_line)


def test_nothing_to_ask_but_what_failed_is_told_with_the_way_to_ask_it(frame, tmp_path):
    """Where all went well there is nothing to ask again."""
    frame = frame.drop_duplicates("fund.city")
    settings = {"out": tmp_path / "out", "stages": ["fund"], "progress": False}
    blocked = Reply(failure=Failure(cause="blocked"))
    replies = iter([blocked, Reply(text="{}")])
    enrichkit.run(frame, **settings, workers=1, model="gemini-3.5-flash-lite", client=lambda _: next(replies))
    found = plan(frame, tmp_path, **settings)
    assert (found.to_ask, found.price_line) == (0, "Nothing to ask in this call.")
    assert found.next_line.endswith("asks nothing; with retry_failed=True it asks the failed ones again.")
    enrichkit.run(
        frame, **settings, retry_failed=True, model="gemini-3.5-flash-lite", client=lambda _: Reply(text="{}")
    )
    assert plan(frame, tmp_path, **settings).next_line.endswith("asks nothing.")


def test_a_time_too_short_to_count_is_told_so(frame, tmp_path):
    """Not as zero seconds."""
    found = plan(frame, tmp_path, model="simulator")
    for seconds, told in {
        (0.1, 0.2, 0.4): "under a second with",
        (0.1, 0.2, 2): "under a second (up to 2 s) with",
    }.items():
        assert f" and {told} 10 workers" in dataclasses.replace(found, seconds=seconds).time_line


def test_nothing_changes_the_callers_table(frame, tmp_path):
    """Not a cell, not a column."""
    before = frame.copy(deep=True)
    plan(frame, tmp_path)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("rows", [544, 20_000])
def test_a_dry_run_needs_nobody(rows, tmp_path, monkeypatch):
    """No key, no network, and nothing written."""
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "socket", None)
    sample = pd.read_csv(TABLE, dtype=str)
    copies = [sample.assign(**{"fund.title": sample["fund.title"] + f" {n}"}) for n in range(-(-rows // len(sample)))]
    frame = pd.concat(copies, ignore_index=True).head(rows)
    found = plan(frame, tmp_path)
    assert found.rows == rows
    assert list(tmp_path.iterdir()) == []


def test_many_funds_that_share_a_title_are_counted(frame, tmp_path):
    """Ten are told, the rest is a number."""
    many = pd.concat([frame.assign(**{"fund.title": f"Borealis {number}"}).head(2) for number in range(14)])
    told = [note for note in plan(many, tmp_path).notes if "share a name" in note or "more groups" in note]
    assert (len(told), told[-1]) == (11, "There are 4 more groups of this kind.")


def test_it_shows_the_first_prompt_as_it_will_be_sent(frame, tmp_path):
    """Of each stage with open questions; what an earlier stage has to find first is named."""
    odd = frame.assign(**{"fund.city": ["<b>\x1b[2J\n$x$", None, None, None]})
    town = Stage(
        "town", prompt="Where is {fund.title}, {fund.city}? " + "Really. " * 60, answer=Company, columns="town"
    )
    more = Stage("more", prompt="What of {town.industry} in {fund.country}?", answer=Company)
    sent = []

    def client(request):
        sent.append(request.text)
        return Reply(text='{"industry": "Tea"}')

    settings = {
        "stages": [town, more],
        "key": ["fund.title", "poc.last_name"],
        "client": client,
        "model": "m",
        "workers": 1,
    }
    found = plan(odd, tmp_path, **settings)
    assert found.prompts["more"] == "What of ⟦(answer of town)⟧ in ⟦Norway⟧?"
    lines = str(found).splitlines()
    (line,) = [line for line in lines if line.startswith("The first question of town: ")]
    assert "Where is ⟦Borealis⟧, ⟦<b> [2J $x$⟧?" in line
    assert line.endswith("…")
    assert len(line) < 350
    assert "&lt;b&gt; [2J" in found._repr_html_()
    enrichkit.run(odd, out=tmp_path / "out", progress=False, limit=1, **settings)
    assert sent == [found.prompts["town"], "What of ⟦Tea⟧ in ⟦Norway⟧?"]
    assert plan(odd.head(1), tmp_path, **settings).prompts == {}
