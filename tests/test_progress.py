"""The line of progress: what a person sees of a run, in one line."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from enrichkit._engine import Status
from enrichkit._pace import PaceView
from enrichkit._view import line

STATUS = Status(
    records=544,
    done=100,
    failed=2,
    left=442,
    requests=150,
    in_flight=20,
    tokens=300_000,
    cost_usd=1.5,
    reserved_usd=3.0,
    possibly_usd=0.0,
    spent_usd=1.5,
    budget_usd=None,
    budget_share=None,
    prices="genai-prices 0.2.3",
    rest_usd=6.5,
    projected_usd=8.0,
    cost_per_record_usd=0.0147,
    unpriced=0,
    unsaved=0,
    seconds=60.0,
    rate_per_second=1.7,
    left_seconds=260.0,
    waiting="",
    stopping=None,
    pace=PaceView(None, 0.0, ""),
)


def test_it_says_how_far_how_much_and_how_long():
    """Records, requests, tokens, money, speed, what is left."""
    told = line(STATUS)
    assert line(STATUS, prices=False) == told.replace(" (genai-prices 0.2.3)", "")
    assert told == (
        "102 of 544 records · 2 failed · 150 requests · 300,000 tokens · 1.5000 USD of about 8.0000, 0.0147 a record "
        "(genai-prices 0.2.3) · 1.7 records/s · 4 min 20 s left"
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
    assert told in line(dataclasses.replace(STATUS, pace=pace, waiting=waiting))


def test_it_says_what_is_not_saved_or_priced_and_that_it_ends():
    """Whoever looks must not learn it from the bill."""
    told = line(dataclasses.replace(STATUS, unsaved=3, waiting="the disk", unpriced=4, stopping="stop"))
    assert "4 of unknown price" in told
    assert "3 replies not saved yet" in told
    assert told.endswith("finishing what is in flight")


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
    found = line(dataclasses.replace(STATUS, budget_share=share, possibly_usd=possibly))
    assert ("of the budget" in found) == bool(told)
    assert not told or f"· {told} ·" in found


def test_what_is_set_aside_is_told_where_there_is_a_budget():
    """Without one it matters to nobody."""
    assert "8.0000, 0.0147 a record, 3.0000 set aside (genai" in line(dataclasses.replace(STATUS, budget_usd=9.0))
    assert "set aside" not in line(STATUS)


def test_a_log_names_the_prices_once(capsys):
    """In its first line."""
    done = threading.Event()
    done.set()
    show(lambda: STATUS, done, how="text").join()
    assert capsys.readouterr().err.count("genai-prices") == 1


def test_no_total_is_told_before_one_is_known_or_when_all_is_done():
    """A guess is none."""
    unknown = dataclasses.replace(STATUS, rest_usd=None, projected_usd=None, cost_per_record_usd=None)
    assert " 1.5000 USD (genai" in line(unknown)
    assert " 1.5000 USD (genai" in line(dataclasses.replace(STATUS, left=0, rest_usd=0.0))
