"""The report: what a store has cost, to the last digit, whatever came back."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import threading
import time
from decimal import Decimal

import pandas as pd
import pytest

import enrichkit
from enrichkit import Price, Stage, errors
from enrichkit.cli.flags import shell
from enrichkit.formatting import spelled
from enrichkit.gemini.simulator import Simulator
from enrichkit.messages import Failure, Reply, Usage
from enrichkit.pricing.prices import DOLLARS
from enrichkit.reporting import Finding, what_if
from enrichkit.reporting.report import exact
from enrichkit.store.replies import StoredReply, mark_wasted
from proof import crashes
from support.paths import ROOT
from support.tables import Company

LITE = "gemini-3.5-flash-lite"
GOOD = '{"industry": "Tea"}'
HOSTILE = '<img src=x onerror="alert(1)">\x1b[2J$\\frac\ud800'


COMPANY = Stage("company", prompt="Research {name}.", answer=Company)
SITE = Stage("site", prompt="Where is {firm}?", answer=Company)


def reply(text=GOOD, *, model=LITE, prompt=1000, output=100, **more):
    used = {"prompt_tokens": prompt, "output_tokens": output, "searches": 0} | more
    return Reply(text=text, model_version=model, usage=Usage(**used))


def store(out, client, *, stages=(COMPANY,), names=("a", "b", "c"), **settings):
    """Fill a store by a client; return the call's arguments."""
    frame = pd.DataFrame({"name": list(names), "firm": ["one"] * len(names)})
    call = {
        "out": out,
        "stages": list(stages),
        "model": "gemini-3.5-flash-lite",
        "key": "name",
        "client": client,
        "progress": False,
        "workers": 1,
    }
    enrichkit.run(frame, **(call | settings))
    return frame, call


def columns_total(out):
    """The sum of the columns of what each record's stages cost."""
    frame = enrichkit.read(out)
    costs = [value for name in frame.columns if name.endswith("._cost_usd") for value in frame[name].dropna()]
    return sum((Decimal(str(value)) for value in costs), Decimal())


# Every usage field present or missing, with the cost in millionths of a USD by input, cached, thinking, output, search:
# 0.30, 0.03, 2.50, 2.50 USD a million tokens and 0.014 USD a search.
USAGES = [
    (Usage(prompt_tokens=1000, output_tokens=100), ("300", "0", "0", "250", "0")),
    (Usage(prompt_tokens=1000, cached_tokens=400, output_tokens=100), ("180", "12", "0", "250", "0")),
    (Usage(prompt_tokens=1000, tool_tokens=60, output_tokens=100), ("318", "0", "0", "250", "0")),
    (Usage(prompt_tokens=1000, thinking_tokens=333, output_tokens=100), ("300", "0", "832.5", "250", "0")),
    (Usage(prompt_tokens=1000, output_tokens=100, searches=3), ("300", "0", "0", "250", "42000")),
    (Usage(prompt_tokens=1000, thinking_tokens=50, total_tokens=1150), ("300", "0", "125", "250", "0")),
    (
        Usage(prompt_tokens=7, cached_tokens=1, tool_tokens=2, thinking_tokens=3, output_tokens=4, searches=1),
        ("2.4", "0.03", "7.5", "10", "14000"),
    ),
]


@pytest.mark.parametrize(("usage", "by_hand"), USAGES)
def test_each_kind_is_as_worked_out_by_hand(tmp_path, usage, by_hand):
    """To the last digit, in the report, the frame and the columns."""
    stage = dataclasses.replace(COMPANY, search=usage.searches is not None)
    store(tmp_path / "out", lambda _: Reply(text=GOOD, model_version=LITE, usage=usage), names=["a"], stages=[stage])
    line = enrichkit.report(tmp_path / "out").cost.total
    expected = [Decimal(value) / 1_000_000 for value in by_hand]
    assert [line.usd[kind] for kind in ("input", "cached", "thinking", "output", "search")] == expected
    assert line.cost_usd == sum(expected) == columns_total(tmp_path / "out")
    (row,) = enrichkit.costs(tmp_path / "out").to_dict("records")
    assert row["cost_usd"] == float(line.cost_usd)


@pytest.mark.parametrize("client", ["google-genai", "google-generativeai"])
def test_it_equals_the_columns_with_both_clients(tmp_path, client, monkeypatch):
    """Of many replies of the wire's own shape, some asked again, some shared, some failed."""
    frame = pd.read_csv(ROOT / "data" / "funds.csv", dtype=str).head(60)
    with Simulator(seed=3, faults={"prose": 0.2, "truncated": 0.1, "empty": 0.2}) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
        enrichkit.run(
            frame, out=tmp_path / "out", model="gemini-3.5-flash-lite", client=client, workers=8, progress=False
        )
        answers = server.counts()["answers"]
    found = enrichkit.report(tmp_path / "out")
    assert found.cost.total.cost_usd == columns_total(tmp_path / "out")
    assert found.cost.total.replies == answers == len(enrichkit.costs(tmp_path / "out"))
    assert found.cost.total.wasted > 0
    assert found.cost.total.usd["wasted"] > 0
    assert found.simulated


def test_what_brought_no_answer_is_wasted(tmp_path):
    """Asked again, or failed in the end; by kind it is nothing else."""
    texts = {"a": [GOOD], "b": ["no", GOOD], "c": ["no"] * 2}

    def client(request):
        return reply(texts[re.search("⟦(.)⟧", request.text)[1]].pop(0))

    store(tmp_path / "out", client)
    line = enrichkit.report(tmp_path / "out").cost.total
    one = Decimal("0.00055")
    assert (line.replies, line.wasted, line.attempts) == (5, 3, 5)
    assert (line.usd["wasted"], line.cost_usd) == (3 * one, 5 * one)
    assert line.usd["input"] == 2 * Decimal("0.0003")
    paid = enrichkit.costs(tmp_path / "out")
    assert paid["wasted"].tolist() == [False, True, False, True, True]
    assert paid["attempt"].tolist() == [1, 1, 2, 1, 2]


def test_a_retried_question_has_one_answer(tmp_path):
    """Earlier failures stay wasted, and what they cost is counted once, though the row is sealed again."""
    failing = [True]
    client = lambda _: reply("no" if failing[0] else GOOD)  # noqa: E731
    frame, call = store(tmp_path / "out", client, names=["a"])
    failing[0] = False
    enrichkit.run(frame, **call, retry_failed=True)
    line = enrichkit.report(tmp_path / "out").cost.total
    assert (line.replies, line.wasted) == (3, 2)
    assert float(line.cost_usd) == pytest.approx(float(columns_total(tmp_path / "out")), abs=1e-15)


def test_an_answer_that_was_replaced_was_not_wasted(tmp_path):
    """The first question was answered, and so was the one that took its place."""
    frame, call = store(tmp_path / "out", lambda _: reply(), names=["a"])
    again = Stage("company", prompt="Find out about {name}.", answer=Company)
    enrichkit.run(frame, **(call | {"stages": [again]}), on_change="redo")
    line = enrichkit.report(tmp_path / "out").cost.total
    assert (line.replies, line.wasted) == (2, 0)


@pytest.mark.parametrize(
    ("readable", "answered", "place"),
    [
        ([True], True, 0),
        ([False, True], True, 1),
        ([True, False], True, 0),
        ([False, False], True, 1),
        ([True], False, None),
        ([True, True], None, 1),
        ([False], None, None),
    ],
)
def test_the_reply_that_brought_the_answer(readable, answered, place):
    """The last readable one, if there is an answer at all."""
    same = {"record": None, "stage": "s", "question": "q", "at": None, "model": "m", "tries": 1, "paid": True}
    same |= {"may_be_charged": False, "usage": Usage(), "cost": None}
    replies = [StoredReply(attempt=attempt, readable=answers, **same) for attempt, answers in enumerate(readable)]
    mark_wasted(replies, {} if answered is None else {"q": answered})
    assert [attempt for attempt, reply in enumerate(replies) if not reply.wasted] == [place] * (place is not None)


def test_what_sharing_saved(tmp_path):
    """The records that share a question, less the one that paid, times what it cost; by stage."""
    store(tmp_path / "out", lambda _: reply(), stages=[COMPANY, SITE])
    bill = enrichkit.report(tmp_path / "out").cost
    company, site = bill.by_stage["company"], bill.by_stage["site"]
    assert (company.shared, site.shared, bill.total.shared, bill.records) == (0, 2, 2, 3)
    assert (company.saved_usd, site.saved_usd) == (0, 2 * Decimal("0.00055"))
    assert bill.per_record_usd == round(4 * Decimal("0.00055") / 3, 10)
    assert (company.filled, site.filled) == ({"company.industry": 3}, {"site.industry": 3})
    assert site.per_filled_cell_usd == round(Decimal("0.00055") / 3, 10)
    assert bill.total.per_filled_cell_usd == round(4 * Decimal("0.00055") / 6, 10)
    assert bill.kept_usd == bill.total.cost_usd


def test_what_a_field_and_a_larger_table_cost(tmp_path):
    """A field as if it alone had been wanted; a table with as much shared, and with nothing shared."""
    store(tmp_path / "out", lambda _: reply(), stages=[COMPANY, SITE])
    bill = enrichkit.report(tmp_path / "out").cost
    assert bill.by_field().values.tolist() == [
        ["company", "company.industry", 3, 3, 0.00055],
        ["site", "site.industry", 3, 3, pytest.approx(0.00055 / 3)],
    ]
    larger = bill.for_records([3, 3000])
    assert larger["usd_shared_alike"].tolist() == pytest.approx([4 * 0.00055, 4000 * 0.00055])
    assert larger["usd_nothing_shared"].tolist() == pytest.approx([6 * 0.00055, 6000 * 0.00055])


def test_an_unknown_price_is_counted_and_never_zero(tmp_path):
    """In words, in JSON, in the frame; a price of one's own makes it known."""
    store(tmp_path / "out", lambda request: reply(model="nobody-knows" if "⟦a⟧" in request.text else LITE))
    found = enrichkit.report(tmp_path / "out")
    assert (found.cost.total.unpriced, found.cost.total.cost_usd) == (1, 2 * Decimal("0.00055"))
    assert found.cost.by_model["nobody-knows"].cost_usd is None
    assert found.cost.per_record_usd is None
    assert found.cost.by_field()["usd_per_cell"].isna().all()
    assert found.cost.for_records([10]).iloc[:, 1:].isna().all(axis=None)
    assert "at least 0.0011 USD" in str(found)
    assert re.search(r"nobody-knows +(unknown +){6}unknown", str(found))
    assert json.loads(found.to_json())["cost"]["by_model"]["nobody-knows"]["cost_usd"] is None
    paid = enrichkit.costs(tmp_path / "out")
    assert paid["cost_usd"].isna().tolist() == [True, False, False]
    own = {"nobody-knows": Price(input_usd=1, output_usd=1)}
    found = enrichkit.report(tmp_path / "out", prices=own)
    assert found.cost.total.cost_usd == 2 * Decimal("0.00055") + Decimal("0.0011")
    assert "and your own for nobody-knows" in found.cost.prices
    paid = enrichkit.costs(tmp_path / "out", prices=own)
    assert paid["cost_usd"].notna().all()
    frames = [paid, what_if(paid, prices=own), found.cost.by_field(), found.cost.for_records([10])]
    assert {frame.attrs["prices"] for frame in frames} == {found.cost.prices}


def test_what_is_not_sealed_yet_is_paid_for(tmp_path):
    """A run that was cut short leaves replies in the work area; they count, and that is said."""

    def client(request):
        return Reply(failure=Failure(cause="auth")) if "⟦c⟧" in request.text else reply()

    with pytest.raises(errors.Stopped):
        store(tmp_path / "out", client, stages=[COMPANY, Stage("more", prompt="And {name}?", answer=Company)])
    found = enrichkit.report(tmp_path / "out")
    sealed = len(enrichkit.read(tmp_path / "out"))
    assert found.cost.records == sealed
    assert found.cost.total.replies == 4
    pending = 4 - 2 * sealed
    assert found.cost.not_sealed == pending
    assert enrichkit.costs(tmp_path / "out")["record"].isna().sum() == pending


def test_it_can_be_read_while_a_run_is_under_way(tmp_path):
    """Each reply is met in the work area, then in a shard: it is never missed, and never counted twice."""
    frame = pd.DataFrame({"name": [f"n{number}" for number in range(60)], "firm": "one"})
    go = threading.Semaphore(0)

    def client(_):
        go.acquire()
        time.sleep(0.005)
        return reply()

    out = tmp_path / "out"
    settings = {
        "key": "name",
        "model": "gemini-3.5-flash-lite",
        "client": client,
        "progress": False,
        "workers": 2,
        "shard_rows": 3,
    }
    job = enrichkit.start(frame, out=out, stages=[COMPANY], **settings)
    seen = [0]
    while not job.done:
        if seen[-1] % 10 == 0 and seen[-1] not in seen[:-1]:  # goes on only when it was seen so far
            go.release(10)
        seen.append(enrichkit.report(out).cost.total.replies)
    job.result()
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert enrichkit.report(out).cost.total.replies == 60


def test_a_damaged_shard_is_named(tmp_path):
    """The rest is reported, with a warning and a note."""
    store(tmp_path / "out", lambda _: reply(), shard_rows=1)
    path = tmp_path / "out" / "shard=s0001" / "part-0.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="damaged"):
        found = enrichkit.report(tmp_path / "out")
    assert (found.cost.records, found.cost.total.replies) == (2, 2)
    assert "Damaged shards, which could not be read, so that their answers and costs are missing: 1." in str(found)


@pytest.mark.parametrize("column", ["_record_id", "firm", "company._confidence", "company._replies"])
def test_a_damaged_shard_is_out_of_all_of_a_report(tmp_path, column):
    """Whichever of its columns is damaged: its answers and its costs are left out, as the warning says."""
    out = tmp_path / "out"
    store(out, lambda _: reply(), shard_rows=2)
    crashes.damage(out, column)
    with pytest.warns(UserWarning, match="its records are left out"):
        found = enrichkit.report(out)
    assert (found.quality.records, found.cost.records, found.cost.total.replies) == (1, 1, 1)
    assert found.quality.filled_after == {"company.industry": 1}
    with pytest.warns(UserWarning, match="its records are left out"):
        assert len(enrichkit.costs(out)) == 1


def test_what_a_damaged_shard_alone_held_is_unknown(tmp_path):
    """In words and in JSON no amount is 0, and the next step is the one that a run asks for."""
    store(tmp_path / "out", lambda request: reply("no" if "⟦a⟧" in request.text else GOOD), stages=[COMPANY, SITE])
    crashes.damage(tmp_path / "out", "company._model")
    with pytest.warns(UserWarning, match="its records are left out"):
        found = enrichkit.report(tmp_path / "out")
    told, bill = str(found), json.loads(found.to_json())["cost"]
    assert "0.0000" not in told
    assert "out: unknown USD (prices: " in told
    assert not re.search("Sharing|Resuming|values by column|confidence|cost by stage", told)
    assert {value for name, value in bill.items() if name.endswith("_usd")} == {None}
    assert {*bill["total"]["usd"].values(), bill["total"]["cost_usd"]} == {None}
    assert found.cost.for_records([10]).iloc[:, 1:].isna().all(axis=None)
    assert found.next_line.startswith(
        "Next: restore the damaged shards from a copy, or enrichkit.run with redo_damaged"
    )
    assert "enrichkit run with --redo-damaged asks" in spelled(found.next_line, shell())
    assert not re.search("retry|weak", found.next_line)


def test_what_is_not_in_the_damaged_shard_is_known(tmp_path):
    """But of a stage that only that shard may have asked, nothing is."""
    frame, call = store(tmp_path / "out", lambda _: reply(), shard_rows=2)
    enrichkit.run(frame.head(2), **(call | {"stages": [SITE]}))
    crashes.damage(tmp_path / "out", "company._model")
    with pytest.warns(UserWarning, match="its records are left out"):
        found = enrichkit.report(tmp_path / "out")
    assert (found.damaged, found.cost.total.cost_usd) == (1, Decimal("0.00055"))
    assert found.cost.by_stage["company"].cost_usd == Decimal("0.00055")
    assert found.cost.by_stage["site"].cost_usd is found.cost.by_stage["site"].saved_usd is None
    assert json.loads(found.to_json())["cost"]["by_stage"]["site"]["saved_usd"] is None


def test_a_failure_that_may_have_been_charged_is_counted_apart(tmp_path):
    """Nobody knows what it cost, so it is in no sum."""

    def client(request):
        return Reply(failure=Failure(cause="bad_request", may_be_charged=True)) if "⟦a⟧" in request.text else reply()

    store(tmp_path / "out", client)
    bill = enrichkit.report(tmp_path / "out").cost
    assert (bill.may_be_charged, bill.total.replies, bill.total.attempts) == (1, 2, 3)


def test_there_must_be_a_store(tmp_path):
    """And a report makes none."""
    with pytest.raises(errors.StoreError, match="no store"):
        enrichkit.report(tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_simulated_costs_say_so_everywhere(tmp_path):
    """In text, HTML and JSON."""
    frame = pd.DataFrame({"fund.title": ["Borealis Ventures"]})
    enrichkit.run(frame, out=tmp_path / "out", model="simulator", stages=["fund"], progress=False)
    found = enrichkit.report(tmp_path / "out")
    for told in (str(found), found._repr_html_()):
        assert "simulated, nothing was charged" in told
        assert "genai-prices " in told
    assert json.loads(found.to_json())["simulated"] is True


def test_hostile_text_is_shown_and_does_nothing(tmp_path):
    """A model version comes from a reply: escaped in HTML, without what a terminal obeys."""
    out = tmp_path / "<script>alert(1)<"
    store(out, lambda _: reply(model=HOSTILE))
    found = enrichkit.report(out)
    markup = found._repr_html_()
    assert "<img" not in markup
    assert "<script" not in markup
    assert "&lt;img src=x" in markup
    assert "mathjax_ignore" in markup
    assert "\x1b" not in str(found) + repr(found) + markup
    shown = HOSTILE.replace("\ud800", "?")
    assert json.loads(found.to_json())["cost"]["by_model"].keys() == {shown}
    assert set(enrichkit.costs(out)["model"]) == {shown}
    assert "<img" not in what_if(enrichkit.costs(out), [shown])._repr_html_()


def test_the_json_is_as_documented(tmp_path):
    """Every name stands in docs/report.md, and the version is 4."""
    store(tmp_path / "out", lambda _: reply(), stages=[COMPANY, SITE])
    found = json.loads(enrichkit.report(tmp_path / "out").to_json())
    assert found["version"] == 4
    assert found["cost"]["total"]["cost_usd"] == "0.0022"
    assert found["cost"]["by_stage"]["site"]["saved_usd"] == "0.0011"
    documented = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")

    def names(value):
        for name, inner in value.items():
            yield name
            if isinstance(inner, dict) and name not in (
                *("by_stage", "by_model", "filled", "filled_before", "filled_after", "status", "pending"),
                *("states", "states_by_confidence", "fields_found", "confidence", "search_quality"),
            ):
                yield from names(inner)

    every = {*names(found), *names(found["cost"]["by_stage"]["site"]), *names(found["cost"]["by_model"][LITE])}
    every |= {field.name for field in dataclasses.fields(Finding)}
    assert {name for name in every if f"`{name}`" not in documented} == set()


def test_exact_amounts_have_no_exponent():
    """So that every reader of JSON takes them."""
    assert [exact(Decimal(text)) for text in ("0.00000000012", "1E+3", "0.10")] == ["0.00000000012", "1000", "0.1"]


def test_what_other_models_would_have_cost(tmp_path):
    """The same model costs what it cost; an older one is charged per grounded prompt; an unknown one is unknown."""
    store(tmp_path / "out", lambda _: reply(searches=3, thinking_tokens=50, cached_tokens=200))
    paid = enrichkit.costs(tmp_path / "out")
    found = what_if(paid, [LITE, "gemini-2.5-flash", "nobody-knows"])
    assert found.loc[LITE, list(DOLLARS)].astype(float).tolist() == pytest.approx(paid[list(DOLLARS)].sum().tolist())
    assert found.loc["gemini-2.5-flash", "search_usd"] == pytest.approx(3 * 0.035)
    assert found.loc["nobody-knows", list(DOLLARS)].isna().all()
    assert found["unpriced"].to_dict() == {LITE: 0, "gemini-2.5-flash": 0, "nobody-knows": 3}
    assert what_if(paid)["cost_usd"].notna().all()
    with pytest.raises(errors.InputError, match="costs"):
        what_if(enrichkit.read(tmp_path / "out"))


def test_importing_the_package_brings_no_plot_library():
    """Nor does a report."""
    code = "import enrichkit, sys; enrichkit.report, enrichkit.plots; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_stage_of_some_records_only_is_told_by_name(tmp_path):
    """The others are pending, and neither call that was made would ask them."""
    frame, call = store(tmp_path / "out", lambda _: reply())
    enrichkit.run(frame.head(1), **(call | {"stages": [SITE]}))
    found = enrichkit.report(tmp_path / "out")
    assert str(found).startswith("3 records: 1 done, 2 pending (site not asked of 2); ")
    expected = "Next: enrichkit.run with the same arguments goes on; "
    assert found.next_line.startswith(f"{expected}enrichkit.trust.weak(")
    assert json.loads(found.to_json())["quality"]["pending"] == {"company": 0, "site": 2}
    enrichkit.run(frame, **(call | {"stages": [COMPANY, SITE]}))
    assert str(enrichkit.report(tmp_path / "out")).startswith("3 records: 3 done; ")


def test_where_no_record_is_sealed_yet_a_run_goes_on(tmp_path):
    """There is nothing to look at: a record with an answer to one of two stages is not complete."""

    def client(request):
        return Reply(failure=Failure(cause="auth")) if request.stage == "site" else reply()

    with pytest.raises(errors.Stopped):
        store(tmp_path / "out", client, stages=[COMPANY, SITE], names=["a"])
    found = enrichkit.report(tmp_path / "out")
    assert (found.quality.records, found.cost.not_sealed) == (0, 1)
    assert found.next_line == "Next: enrichkit.run with the same arguments goes on."


def test_it_says_what_to_call_next(tmp_path):
    """By what the store holds: the failed and the weak, the pending, answers that differ from cells."""
    texts = {"a": GOOD, "b": "no", "c": GOOD}
    store(tmp_path / "out", lambda request: reply(texts[re.search("⟦(.)⟧", request.text)[1]]))
    for told in (str(enrichkit.report(tmp_path / "out")), enrichkit.report(tmp_path / "out")._repr_html_()):
        assert "Next: enrichkit.run with retry_failed=True asks the failed ones again; enrichkit.trust.weak(" in told
    store(tmp_path / "whole", lambda _: reply(GOOD))
    whole = enrichkit.report(tmp_path / "whole")
    first, last = repr(whole).splitlines()
    assert first.startswith("<enrichkit.Report, 3 records: 3 done; 0 answers differ from the table; ")
    assert last == whole.next_line
    assert last.startswith("Next: enrichkit.trust.weak(")
