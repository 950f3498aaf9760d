"""The view: what stands in it, that it is escaped, and that the summary needs nothing to be read."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from enrichkit.progress.view import (
    LINE_RANK,
    again,
    beside_bar,
    describe,
    headline,
    html_view,
    next_call,
    one_line,
    summary_text,
)
from enrichkit.status import Levels, Money, PaceView, Status, Traffic

HOSTILE = "<img src=x onerror=alert(1)>\"'&</div><script>1</script>\x1b[2J $1 and $2"
STATUS = Status(
    records=544,
    done=100,
    failed=2,
    left=442,
    shared=57,
    seconds=60.0,
    rate_per_second=1.7,
    left_seconds=260.0,
    problem="fund: overloaded: busy",
    money=Money(
        cost_usd=1.5,
        reserved_usd=3.0,
        spent_usd=1.5,
        prices="genai-prices 0.2.3",
        rest_usd=6.5,
        projected_usd=8.0,
        per_record_usd=0.0147,
    ),
    traffic=Traffic(requests=150, in_flight=20, tokens=300_000),
    levels=Levels(
        confidence={"high": 70, "medium": 25, "low": 5, "not said": 0},
        search_quality={"excellent": 40, "good": 40, "limited": 15, "poor": 5, "not said": 0},
    ),
    pace=PaceView(None, 0.0, ""),
)
PARTS = {
    field.name: part for part in ("money", "traffic", "levels") for field in dataclasses.fields(getattr(STATUS, part))
}


def changed(status=STATUS, **values):
    """Return a status with other values, of its own fields or of its parts'."""
    for name, value in values.items():
        part = PARTS.get(name)
        new = {part: dataclasses.replace(getattr(status, part), **{name: value})} if part else {name: value}
        status = dataclasses.replace(status, **new)
    return status


def live_html(status):
    """Return the live view of a run."""
    return html_view(status, ended=False, live=True)


VOID = {"br", "img", "rect"}


class Page(HTMLParser):
    """The tags, styles and text of some HTML; checks that they are balanced."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.styles, self.words, self._open = [], [], [], []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.styles += [value for name, value in attributes if name == "style"]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)


def test_the_live_view_shows_what_a_person_wants_to_know():
    """Counts, time left, speed, tokens, cost against budget, the pace, bars by level, the last problem."""
    html = live_html(changed(budget_usd=40.0))
    for told in ("Running", "102 of 544 records", "4 min 20 s left", "2 failed", "57 answers shared", "1.7 records/s"):
        assert told in html
    for told in (
        "300,000 tokens in 150 requests",
        "1.50 of a budget of 40.00 USD",
        "fund: overloaded: busy",
        "confidence",
        "</progress> 70 high",
    ):
        assert told in html
    assert "Resume" not in html
    assert "Paused" in live_html(changed(paused=True))
    assert "Finishing" in live_html(changed(stopping="stop"))


@pytest.mark.parametrize("field", ["problem", "waiting", "stopping", "pace", "confidence"])
def test_hostile_text_shows_as_text(field):
    """In every field that may hold anybody's words; and no dollar sign becomes a formula."""
    value = {"pace": PaceView(1.0, 3.0, HOSTILE), "confidence": {HOSTILE: 3}}.get(field, HOSTILE)
    status = changed(**{field: value})
    both = [live_html(status), *(html_view(status, ended=ended, notes=[HOSTILE]) for ended in (True, False))]
    for html in both:
        page = Page(html)
        assert {"img", "script"}.isdisjoint(page.tags)
        assert "\x1b" not in html
        assert html.startswith('<div class="mathjax_ignore tex2jax_ignore"')
    assert "\x1b" not in summary_text(status, ended=True, notes=[HOSTILE])


def test_the_latest_answers_stand_in_the_live_view_alone():
    """A line each, escaped: a bad prompt is seen there, not on the bill."""
    status = changed(latest=[("Norrgard & Søn", HOSTILE, "done"), ("Kelm", "nothing filled in", "failed: blocked")])
    page = Page(live_html(status))
    assert {"img", "script"}.isdisjoint(page.tags)
    for told in ("Norrgard & Søn", "<img src=x", "nothing filled in", "failed: blocked"):
        assert told in " ".join(page.words)
    assert "Norrgard" not in html_view(status, ended=True)
    assert re.search(r"<b>Running</b> <span[^>]*>as of \d\d:\d\d:\d\d</span>", live_html(STATUS))


def test_a_saved_notebook_has_no_long_line():
    """A row each: what changed between two runs can be read in a diff."""
    full = changed(
        budget_usd=40.0, unpriced=4, possibly_usd=0.5, unsaved=3, later=3, problem="x" * 200, checks_failed=2
    )
    for status in (full, STATUS):
        for ended in (True, False):
            assert max(map(len, html_view(status, ended=ended, notes=["x" * 500] * 3).splitlines())) < 400


def test_amounts_keep_their_digits_as_they_grow():
    """By what they may come to; of a small run, four."""
    told = [one_line(changed(cost_usd=cost, spent_usd=cost, rest_usd=8 - cost)) for cost in (0.25, 0.9987, 7.5)]
    assert [re.search(r"([\d.]+) USD", line)[1] for line in told] == ["0.25", "1.00", "7.50"]
    small = changed(cost_usd=0.25, rest_usd=0.5, budget_usd=0.9)
    assert "0.2500 USD of about 0.7500" in one_line(small)


def test_nothing_is_told_that_says_nothing():
    """No row of zeros of a call that asks nothing; no time left nor money set aside of a pause; no old trouble."""
    nothing = changed(records=0, done=0, failed=0, left=0, stored=60, budget_usd=9.0)
    assert summary_text(nothing, ended=True) == "60 of 60 are stored; nothing to ask"
    assert describe(nothing, ended=True) == []
    paused = one_line(changed(paused=True, budget_usd=9.0))
    assert "left" not in paused
    assert "reserved" not in paused
    fine = changed(failed=0, left=0)
    assert "last problem" not in {fact.name for fact in describe(fine, ended=True)}
    assert "last problem" in {fact.name for fact in describe(changed(left=0), ended=True)}


def test_the_summary_needs_no_style_sheet_no_svg_and_no_variable():
    """What an untrusted notebook and GitHub keep: tables and literal styles."""
    page = Page(html_view(changed(budget_usd=40.0), ended=True, notes=["Stopped."]))
    assert {"svg", "style", "script"}.isdisjoint(page.tags)
    assert not [style for style in page.styles if "var(" in style or "currentColor" in style]
    told = " ".join(page.words)
    for word in (
        "Ended early",
        "102 of 544",
        "300,000",
        "1.50 of a budget of 40.00 USD",
        "70 high",
        "Stopped.",
        "last problem",
    ):
        assert word in told
    text = summary_text(STATUS, ended=True, notes=["Stopped."])
    assert text.startswith("Ended early: 102 of 544 records")
    assert text.endswith("\nStopped.")


def test_the_live_view_takes_its_colours_from_the_page():
    """Text is never black on black."""
    assert not re.search(r"(?<!-)\bcolor:\s*#", live_html(STATUS))


@pytest.mark.parametrize("counts", [{"high": 0, "low": 1}, {"high": 10**9, "low": 1}])
def test_each_level_has_a_bar_of_its_share(counts):
    """What is there at all is seen; a level that nobody gave is left out."""
    drawn = re.findall(r'value="(\d+)" max="(\d+)" style="width:60px"', live_html(changed(confidence=counts)))
    levels = [(str(count), str(sum(counts.values()))) for count in counts.values() if count]
    assert drawn[: len(levels)] == levels


def test_its_words_for_every_state():
    """Running, paused, ending, done, nothing to ask, ended early or by a defect; and what to call then."""
    done = changed(left=0)
    nothing = changed(done, records=0, done=0, failed=0, stored=60)
    states = {
        "Running": (STATUS, False, ".pause()"),
        "Paused": (changed(paused=True), False, ".resume()"),
        "Finishing what is in flight": (changed(stopping="stop"), False, ".result()"),
        "Done": (done, True, "retry_failed=True"),
        "60 of 60 are stored; nothing to ask": (nothing, True, "read"),
        "60 of 63 are stored; nothing to ask in this call": (changed(nothing, later=3), True, "read"),
        "Stopped": (changed(stopping="stop"), True, "goes on from here"),
        "Ended early": (STATUS, True, "goes on from here"),
    }
    for told, (status, ended, call) in states.items():
        assert headline(status, ended=ended) == told
        assert call in next_call(status, ended=ended)
    endings = {"stop": "Done", "interrupt": "Done", "defect": "Ended by a defect", "budget": "Ended early"}
    for reason, told in endings.items():
        nothing_left = changed(done, stopping=reason)
        assert headline(nothing_left, ended=True) == told
        assert ("goes on from here" in next_call(nothing_left, ended=True)) == (told != "Done")


def test_what_a_limit_left_out_is_told_wherever_a_run_is_shown():
    """While it runs and after, with the call that goes on; where nothing was left out, nobody speaks of it."""
    limited = changed(left=0, failed=0, later=28)
    for told in (
        one_line(limited),
        live_html(limited),
        *(show(limited, ended=True) for show in (html_view, summary_text)),
    ):
        assert "28 more are left for a later call" in told
    assert again(limited) == "The same call goes on with those that are left."
    assert again(limited) in next_call(limited, ended=True)
    assert not again(changed(limited, records=0, done=0))
    assert "later" not in one_line(STATUS) + live_html(STATUS)


def test_the_same_call_is_named_where_it_would_do_something():
    """On with the rest, with a higher budget where the budget was in the way; failed ones again; else nothing."""
    assert not again(changed(left=0, failed=0))
    assert again(changed(left=0)) == "The same call with retry_failed=True asks the failed ones again."
    assert again(changed(stopping="budget")).startswith("The same call with a higher budget_usd goes on from here;")


def test_what_holds_it_back_and_what_is_uncertain_is_told():
    """The pace, a pause, replies without a price, money that may be gone, replies not saved."""
    status = changed(paused=True, waiting="the disk", unsaved=3, unpriced=4, possibly_usd=0.5)
    told = {fact.name: fact.text for fact in describe(status)}
    assert told["waiting for"] == "paused, the disk"
    assert told["not saved"] == "3 replies not saved yet"
    assert told["cost"] == "at least 1.50 USD of about 8.00, 0.0147 a record"
    assert told["unknown price"] == "4 replies of unknown price"
    assert told["unclear"].startswith("0.5000 USD")
    ended = {fact.name: fact for fact in describe(status, ended=True)}["not saved"]
    assert (ended.text, ended.rank) == ("3 replies could not be saved, and will be asked, and paid for, again", 0)
    assert "waiting for" not in {fact.name for fact in describe(status, ended=True)}
    after = "2 failed · at least 1.50 USD · 300,000 tokens"
    assert beside_bar(status, 999) == ("paused, the disk · fund: overloaded: busy", after)


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ({"paused": True}, "paused"),
        (
            {"waiting": "the service is closed for now, next try in 9 s"},
            "the service is closed for now, next try in 9 s",
        ),
        ({"stopping": "budget", "in_flight": 1}, "finishing 1 request"),
        ({"stopping": "interrupt", "in_flight": 20}, "finishing 20 requests; interrupt again to leave at once"),
    ],
)
def test_what_holds_it_back_comes_first_beside_the_bar(held, told):
    """Before it, where no window is too narrow: whoever pressed Ctrl-C and sees nothing of it presses again."""
    assert beside_bar(changed(**held), 9)[0].startswith(told)


def test_it_says_how_far_how_much_and_how_long():
    """Records, requests, tokens, money, speed, what is left."""
    told = one_line(STATUS)
    assert one_line(STATUS, LINE_RANK) == told.removesuffix(" · priced by genai-prices 0.2.3")
    simulated = changed(simulated=True)
    assert "0.0147 a record (simulated, nothing is charged) · " in one_line(simulated, LINE_RANK)
    assert "1.50 USD, simulated" in beside_bar(simulated, 80)[1]
    assert told == (
        "102 of 544 records · 1.7 records/s · 4 min 20 s left · 2 failed · 1.50 USD of about 8.00, 0.0147 a record · "
        "300,000 tokens in 150 requests · priced by genai-prices 0.2.3"
    )


@pytest.mark.parametrize(
    ("pace", "waiting", "told"),
    [
        (PaceView(19.8, 0.0, "as learned"), "", "at most 19.8 requests/s"),
        (PaceView(20.0, 7.6, "the service is closed for now"), "", "the service is closed for now, next try in 8 s"),
        (PaceView(None, 0.0, "", 8), "", "at most 8 requests at a time"),
        (PaceView(None, 0.0, ""), "the disk is nearly full; free some space and it goes on", "the disk is nearly full"),
    ],
)
def test_it_says_what_the_pace_does_and_what_is_waited_for(pace, waiting, told):
    """The speed that was learned, why nothing is sent, and until when; trouble with the disk comes first."""
    assert told in one_line(changed(pace=pace, waiting=waiting))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"workers": 20}, "20 workers, 150 requests a minute"),
        ({"workers": 20, "pace": PaceView(2.6, 0.0, "as asked")}, "the pace, 150 requests a minute"),
        ({"workers": 20, "pace": PaceView(40.0, 0.0, "as asked")}, "20 workers, 150 requests a minute"),
        ({"workers": 20, "pace": PaceView(None, 0.0, "as learned", 8)}, None),  # which is said as the pace
        ({"workers": 150}, None),
        ({"workers": 20, "seconds": 5.0}, None),
    ],
)
def test_it_says_what_binds(changes, told):
    for ended in (False, True):
        facts = {fact.name: fact.text for fact in describe(changed(**changes), ended=ended)}
        assert facts.get("bound by") == told


def test_it_says_what_is_not_saved_or_priced_and_that_it_ends():
    """Whoever looks must not learn it from the bill."""
    told = one_line(changed(unsaved=3, waiting="the disk", unpriced=4, stopping="stop"))
    assert "4 replies of unknown price" in told
    assert "3 replies not saved yet" in told
    assert told.startswith("finishing 20 requests · ")


@pytest.mark.parametrize(
    ("share", "possibly", "told"),
    [
        (None, 0.0, None),
        (0.799, 0.0, None),
        (0.8, 0.0, "80 % of the budget is spent"),
        (0.829, 0.1, "82 % of the budget is spent or may be"),
        (1.0, 0.0, "100 % of the budget is spent"),
    ],
)
def test_it_warns_when_most_of_the_budget_is_spent(share, possibly, told):
    """From 80 % on; never a per cent too much."""
    line = one_line(changed(budget_usd=9.0, budget_share=share, possibly_usd=possibly))
    assert ("of the budget" in line) == bool(told)
    assert not told or f"; {told} ·" in line


def test_what_is_reserved_is_told_where_there_is_a_budget():
    """Without one it matters to nobody."""
    assert "1.50 of a budget of 9.00 USD spent, 3.00 reserved" in one_line(changed(budget_usd=9.0))
    assert "reserved" not in one_line(STATUS)


def test_one_is_no_plural():
    """Of records, requests, tokens and replies."""
    one = changed(records=1, requests=1, tokens=1, in_flight=1, unsaved=1, waiting="the disk")
    told = one_line(one) + " ".join(beside_bar(one, 99)) + str(describe(one)) + live_html(one)
    assert "1 token in 1 request " in told
    assert not [word for word in ("1 records", "1 requests", "1 tokens", "1 replies") if f" {word}" in f" {told}"]


def test_no_total_is_told_before_one_is_known_or_when_all_is_done():
    """A guess is none."""
    unknown = changed(rest_usd=None, projected_usd=None, per_record_usd=None)
    assert " 1.50 USD · " in one_line(unknown)
    assert " 1.50 USD · " in one_line(changed(left=0, rest_usd=0.0))


def test_what_has_ended_neither_goes_on_nor_holds():
    """However it ended: no rest of the time, no wait, nothing that it is still about to finish."""
    stopped = changed(stopping="stop", paused=True, waiting="the disk is nearly full")
    for told in (
        one_line(stopped, ended=True),
        summary_text(stopped, ended=True),
    ):
        assert "1 min" in told
        for word in ("records/s", "4 min", "finishing", "paused", "disk"):
            assert word not in told
    assert "4 min 20 s left" in one_line(changed(stopped, paused=False))
    assert "finishing 20 requests" in beside_bar(stopped, 9)[0]
