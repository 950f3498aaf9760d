"""The searches of a reply, as the service bills them: counted, or unknown, and then never taken for none."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal

import pandas as pd
import pytest

import enrichkit
from enrichkit import Price, Stage
from enrichkit.gemini.faults import FAULTS, Fault
from enrichkit.gemini.wire import encode, parse, read_stored
from enrichkit.messages import CLIENTS, Reply, Usage
from support.calls import enrich
from support.paths import ROOT
from support.tables import Company, numbered

LITE = "gemini-3.5-flash-lite"
SEARCHING = Stage("company", prompt="Research {name}.", answer=Company, search="optional")
WEB = {"groundingChunks": [{"web": {"uri": "https://a.example", "title": "a.example"}}]}
FILES = {"groundingChunks": [{"retrievedContext": {"uri": "files/x", "title": "Handbook"}}]}
NOTHING = {"groundingChunks": None, "webSearchQueries": None, "searchEntryPoint": None}
REPEATED = {"webSearchQueries": ["kelp quay", "kelp quay", ""]}
LINK = "https://vertexaisearch.cloud.google.com/grounding-api-redirect/AbC"


def billed(*calls):
    return {"billedToolCalls": [{"tool": tool, "successfulToolCallCount": count} for tool, count in calls]}


def shaped(grounding=None, usage=None):
    """A fault that gives a good reply this grounding and these counts beside its own."""

    def shape(body):
        body["candidates"][0]["groundingMetadata"] = grounding
        body["usageMetadata"] |= usage or {}

    return Fault(shape=shape)


def read(grounding=None, usage=None, text="{}"):
    candidate = {"content": {"parts": [{"text": text}]}, "groundingMetadata": grounding}
    return parse(json.dumps({"candidates": [candidate], "usageMetadata": usage or {}})).usage.searches


def by_hand(ledger, unknown=0):
    """What the service charges for replies, by Google's page of prices; ``unknown`` searches of each are assumed."""
    return sum(
        Decimal(30 * (bill["prompt"] - bill["cached"]) + 3 * bill["cached"] + 250 * (bill["thinking"] + bill["output"]))
        / 10**8
        + Decimal("0.014") * (bill["searches"] or unknown)
        for bill in ledger
    )


@pytest.mark.parametrize(
    ("grounding", "usage", "text", "searches"),
    [
        (REPEATED, billed(("GOOGLE_SEARCH_RETRIEVAL", 3)), "{}", 3),
        (REPEATED, billed(("google_search", 0)), "{}", 0),
        (None, billed(("googleSearch", 2), ("GOOGLE_SEARCH", 1), ("FILE_SEARCH", 5), ("URL_CONTEXT", 4)), "{}", 3),
        (REPEATED, billed(("FILE_SEARCH", 5)), "{}", 1),
        (REPEATED, billed(("GOOGLE_SEARCH_RETRIEVAL", None)), "{}", 1),
        (REPEATED, {"billedToolCalls": None}, "{}", 1),
        ({"webSearchQueries": ["a", "b", "a ", " "]}, None, "{}", 3),
        ({"webSearchQueries": [""]} | WEB, None, "{}", 1),
        ({"searchEntryPoint": {"renderedContent": "<a></a>"}}, None, "{}", 1),
        (None, None, f'{{"site": "{LINK}"}}', 1),
        ({"webSearchQueries": [""]}, None, "{}", None),
        (FILES, billed(("URL_CONTEXT", 2)), "{}", None),
        (NOTHING, {"billedToolCalls": [None, 7, "x", {}]}, "{}", None),
        ({"groundingSupports": [{"segment": {}}]}, None, "{}", None),
    ],
)
def test_searches_are_counted_as_the_invoice_counts_them(grounding, usage, text, searches):
    """What is billed first, then each query once, then one where a search is shown; else nobody knows."""
    assert read(grounding, usage, text) == searches


@pytest.mark.parametrize("client", CLIENTS)
def test_an_unknown_number_of_searches_is_never_none(client, simulator, monkeypatch, tmp_path):
    """The cost is unknown, and every sum is said to be a lower bound; the budget counts as many as the dearest had."""
    examples = [shaped(None, billed(("GOOGLE_SEARCH_RETRIEVAL", 3))), *map(shaped, (REPEATED, FILES, NOTHING))]
    simulator.script = [f"example {number}" for number in range(len(examples))]
    for name, fault in zip(simulator.script, examples, strict=True):
        monkeypatch.setitem(FAULTS, name, fault)
    settings = {"out": tmp_path / "out", "stages": [SEARCHING], "key": "name", "client": client, "model": LITE}
    settings |= {"progress": False, "workers": 1, "budget_usd": 5}
    job = enrichkit.start(numbered(4), **settings)
    job.result()
    assert enrichkit.read(tmp_path / "out")["company._searches"].tolist()[:2] == [3, 1]
    assert enrichkit.read(tmp_path / "out")["company._cost_usd"].isna().tolist() == [False, False, True, True]
    ledger = simulator.ledger
    report, money = enrichkit.report(tmp_path / "out"), job.status.money
    assert [bill["searches"] for bill in ledger] == [3, 1, 0, 0]
    assert (report.cost.total.cost_usd, report.cost.total.unpriced) == (by_hand(ledger[:2]), 2)
    assert f"at least {report.cost.total.cost_usd:.4f} USD" in str(report)
    assert (money.unpriced, money.cost_usd) == (2, float(by_hand(ledger[:2])))
    assert "at least" in repr(job)
    assert f"at least {money.cost_usd:.4f} USD" in enrich("status", tmp_path / "out")
    assert money.spent_usd == float(by_hand(ledger, unknown=3))
    later = enrichkit.start(numbered(4), **settings)
    later.result()
    assert later.status.money.spent_usd == money.spent_usd
    ahead = enrichkit.plan(numbered(8), **settings)
    assert ahead.cost_usd is not None


LISTS = [
    *([word] for word in ("", "a", "kelp quay")),
    *([word] * count for word in ("a", "kelp quay") for count in (2, 3, 5)),
    *(["a", ""] * count for count in (1, 2, 3)),
    *([f"query {number}" for number in range(count)] for count in (2, 3, 4, 7, 12)),
    *([" ", "a", "A"], ["ä", "a", "ä"], ["a b", "a  b"]),
]


@pytest.mark.parametrize("client", CLIENTS)
def test_every_sum_equals_what_the_service_charges(client, simulator, monkeypatch, tmp_path):
    """Over twenty lists of queries, to the last digit: the bill, the status, the costs, the columns, the budget."""
    assert len(LISTS) == 20
    simulator.script = [f"queries {number}" for number in range(20)]
    for name, queries in zip(simulator.script, LISTS, strict=True):
        monkeypatch.setitem(FAULTS, name, shaped(WEB | {"webSearchQueries": queries}))
    settings = {"stages": [SEARCHING], "key": "name", "client": client, "model": LITE, "progress": False}
    job = enrichkit.start(numbered(20), out=tmp_path / "out", budget_usd=20, **settings)
    job.result()
    owed = by_hand(simulator.ledger)
    assert sum(bill["searches"] for bill in simulator.ledger) == 46
    assert enrichkit.report(tmp_path / "out").cost.total.cost_usd == owed
    assert job.status.money.cost_usd == job.status.money.spent_usd == float(owed)
    assert sum(Decimal(str(cost)) for cost in enrichkit.costs(tmp_path / "out")["cost_usd"]) == owed
    assert sum(Decimal(str(cost)) for cost in enrichkit.read(tmp_path / "out")["company._cost_usd"]) == owed


def test_a_stage_that_does_not_search_has_none(simulator, tmp_path):
    """Nobody asked for one, so nothing is unknown; a reply stored before that was noted counts as before."""
    stage = dataclasses.replace(SEARCHING, search=False)
    enrichkit.run(numbered(2), out=tmp_path / "out", stages=[stage], key="name", model=LITE, progress=False)
    assert enrichkit.costs(tmp_path / "out")["searches"].tolist() == [0, 0]
    assert enrichkit.report(tmp_path / "out").cost.total.cost_usd == by_hand(simulator.ledger)
    asked = [read_stored(encode(Reply(text="{}"), **facts))[0] for facts in ({"search": True}, {"search": False}, {})]
    assert [reply.usage.searches for reply in asked] == [None, 0, 0]


@pytest.mark.parametrize(
    ("said", "price", "unpriced"),
    [
        ({}, {"search_usd": 14}, 1),
        ({}, {}, 1),
        ({}, {"search_usd": 0}, 0),
        ({"usage": Usage(prompt_tokens=10, output_tokens=1, searches=0)}, {}, 0),
        ({"queries": ["a", "a", ""]}, {"search_usd": 14}, 0),
        ({"sources": [enrichkit.messages.Source("https://a.example")]}, {"search_usd": 14}, 0),
    ],
)
def test_a_client_of_ones_own_says_how_often_it_searched(said, price, unpriced, tmp_path):
    """Or shows it, or a search is free; else, where it was asked to search, its cost is unknown, too."""

    def client(request):
        more = {"usage": Usage(prompt_tokens=10, output_tokens=1)} | said
        return Reply(text='{"industry": "Tea"}', model_version="m", **more)

    prices = {"m": Price(input_usd=1, output_usd=1, **price)}
    settings = {"stages": [SEARCHING], "key": "name", "model": "m", "client": client, "prices": prices}
    enrichkit.run(numbered(1), out=tmp_path / "out", progress=False, **settings)
    total = enrichkit.report(tmp_path / "out", prices=prices).cost.total
    assert (total.unpriced, total.counts["searches"]) == (unpriced, len(said.keys() & {"queries", "sources"}))


STAGE_MODELS = {"a": LITE, "b": "gemini-3.8-flash", "c": "gemini-2.5-flash", "d": "mine", "e": "free"}
FUNDS = pd.read_csv(ROOT / "data" / "funds.csv", dtype=str)


def test_a_plan_says_what_the_searches_cost_and_how_many_are_free(tmp_path):
    """The sum stays what it is: who has used the allowance pays it all."""
    ahead = enrichkit.plan(FUNDS, out=tmp_path / "out")
    assert "about 24.02 USD" in str(ahead)
    assert ahead.searches == (
        "Of it 22.06 for about 1,576 searches at 0.014; without the 5,000 a month that Google lists as free "
        "(September 2026), about 1.96 in all."
    )
    many = pd.concat([FUNDS.assign(**{"fund.title": FUNDS["fund.title"] + f" {number}"}) for number in range(5)])
    ahead = enrichkit.plan(many, out=tmp_path / "out")
    assert ahead.searches == (
        "Of it 110.60 for about 7,900 searches at 0.014; without the 5,000 a month that Google lists as free "
        f"(September 2026), about {ahead.cost_usd[1] - 70:.2f} in all."
    )


def test_until_gemini_3_it_is_prompts_that_cost(tmp_path):
    """Each once, however often it searched, and so many a day are free."""
    ahead = enrichkit.plan(FUNDS, out=tmp_path / "out", model="gemini-2.5-flash")
    assert ahead.searches.startswith(
        "Of it 27.58 for about 788 grounded prompts at 0.035; without the 1,500 a day that Google lists "
    )


def test_models_that_share_an_allowance_are_counted_together(tmp_path):
    """And those that do not have a sentence each; a price of one's own is nobody's to give away."""
    stages = [Stage(name, prompt="{name}?", answer=Company, model=model) for name, model in STAGE_MODELS.items()]
    prices = {name: Price(input_usd=1, output_usd=1, search_usd=usd) for name, usd in (("mine", 5), ("free", 0))}
    ahead = enrichkit.plan(numbered(10), out=tmp_path / "out", stages=stages, key="name", prices=prices)
    assert [part.split("; ")[0].strip() for part in ahead.searches.split("Of it ")[1:]] == [
        "0.5600 for about 40 searches at 0.014",
        "0.3500 for about 10 grounded prompts at 0.035",
        "0.1000 for about 20 searches at 0.005.",
    ]


def test_where_nothing_is_searched_nothing_is_said_of_it(tmp_path):
    """Nor where everything is done, or a price is unknown."""
    stage = dataclasses.replace(SEARCHING, search=False)
    settings = {"out": tmp_path / "out", "stages": [stage], "key": "name"}
    assert enrichkit.plan(numbered(9), **settings).searches == ""
    settings["stages"] = [SEARCHING]
    assert enrichkit.plan(numbered(9), **settings, model="gemini-99").searches == ""
    assert enrichkit.plan(numbered(9), **settings).searches != ""


def test_the_report_has_what_a_search_cost(simulator, tmp_path):
    """In its table, and for a program."""
    stage = dataclasses.replace(SEARCHING, name="plain", search=False)
    stages = [SEARCHING, stage]
    enrichkit.run(numbered(2), out=tmp_path / "out", stages=stages, key="name", model=LITE, progress=False)
    bill = enrichkit.report(tmp_path / "out").cost
    assert [bill.by_stage[name].per_search_usd for name in ("company", "plain")] == [Decimal("0.014"), None]
    assert "USD a search" in str(enrichkit.report(tmp_path / "out"))
