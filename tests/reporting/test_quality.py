"""The quality: states, evidence, corrections, weak records, and the checks against planted faults."""

from __future__ import annotations

import dataclasses
import functools
import html
import json
import re
import time
from collections import Counter

import pandas as pd
import pyarrow.dataset
import pytest

import enrichkit
from enrichkit import Answer, Issue, Stage, trust
from enrichkit.errors import InputError
from enrichkit.gemini.wire import parse
from enrichkit.messages import CLIENTS, Reply, Source, Support, Usage
from enrichkit.reading.grounding import evidence
from enrichkit.reporting.quality import COUNTED
from enrichkit.store.decisions import Decisions
from enrichkit.store.rows import outcome_of, read_decoded, stage_values
from enrichkit.table.arrow import alike
from enrichkit.trust.decisions import open_doubts
from enrichkit.trust.doubts import fields, weakest_first
from enrichkit.trust.record_page import IN_A_TAB
from support.paths import ROOT

CLEANED = ("url_cleaned", "sector_spelling", "undressed", "read_as", "says_nothing")
CHECKS = {
    "linkedin_of_other_kind": "linkedin_kind",
    "somebody_else": "linkedin_name",
    "crunchbase_of_a_person": "crunchbase_kind",
    "website_is_a_profile": "not_own_website",
    "phone_in_words": "phone_number",
    "sector_outside": "sector_outside",
    "city_elsewhere": "city_country",
    "min_above_max": "ticket_range",
    "in_millions": "aum_range",
    "impossible_year": "year_range",
    "no_currency": "currency_code",
}
"""The check that is to find a planted fault; the others show in the field's state."""
HOSTILE = "<img src=x onerror=alert(1)>"


class Company(Answer):
    industry: str | None = None
    city: str | None = None
    employees: int | None = None
    tags: list[str] | None = None


def too_many(answer, record):
    """Flag a size that no company has, empty one that is none at all."""
    if answer.employees is not None and answer.employees > 1_000_000:
        yield Issue("employees", "too_many", str(answer.employees))
    if answer.employees is not None and answer.employees < 0:
        yield Issue("employees", "too_few", str(answer.employees), instead=None)


COMPANY = Stage("company", prompt="Research {name}.", per=("name",), answer=Company, checks=(too_many,))


def replied(text, *marks, sources=2):
    """A reply whose words ``marks`` are backed by the sources named with them."""
    supports = [
        Support(len(text[: text.index(words)].encode()), len(text[: text.index(words) + len(words)].encode()), places)
        for words, places in marks
    ]
    pages = tuple(Source(f"https://page.example/{number}", f"page {number}") for number in range(sources))
    return Reply(text=text, sources=pages, supports=tuple(supports), model_version="mine")


def asked(frame, reply, out, **more):
    """Run one stage over a frame with a client that always replies so."""
    settings = {
        "out": out,
        "stages": [COMPANY],
        "model": "gemini-3.5-flash-lite",
        "key": "name",
        "progress": False,
        "client": lambda request: reply,
    }
    return enrichkit.run(frame, **settings | more)


def states(out):
    found = trust.evidence(out)
    return dict(zip(found["column"].str.removeprefix("company."), found["state"], strict=True))


# Evidence ---------------------------------------------------------------------------------------------------------


def backed(text, supports, names):
    """The sources that back each field."""
    return {name: backing.sources for name, backing in evidence(text, supports, frozenset(names)).items()}


@pytest.mark.parametrize("before", ["", "```json\n", "Bitte schön 😀: "])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_mark_backs_the_value_it_lies_on_and_no_other(before, indent):
    """Whatever stands around the JSON, and however many bytes a letter has."""
    answer = {"city": "Łódź", "industry": "Spin 紡績紡績", "tags": ["a", "b"], "employees": 120}
    text = before + json.dumps(answer, ensure_ascii=False, indent=indent)
    for name, words in {"city": "Łódź", "industry": "紡績紡績", "tags": '"b"', "employees": "120"}.items():
        assert backed(text, replied(text, (words, (1,))).supports, answer) == (
            {} if name == "industry" else {name: (1,)}
        )


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("Spin", {"industry"}),
        ("pin 紡", {"industry"}),
        ("in 紡", {"industry"}),
        ("Spi", set()),
        ('slo", "industry": "Spi', {"city"}),
        ('o", "industry": "Spin 紡', {"industry"}),
        ('": "Spi', set()),
        ('4000000, "currency"', {"aum"}),
        ("4000", set()),
        ('EUR", "year": 2024}', {"aum"}),
        ('"year": 2024}', set()),
    ],
)
def test_a_mark_backs_what_it_covers_half_of(words, fields):
    """In letters, not in bytes; of an object the letters of its values. One that only reaches into a value does not."""
    answer = {"city": "Oslo", "industry": "Spin 紡績", "aum": {"value": 4000000, "currency": "EUR", "year": 2024}}
    text = json.dumps(answer, ensure_ascii=False)
    assert backed(text, replied(text, (words, (0,))).supports, answer).keys() == fields


def test_a_mark_that_ends_at_a_values_quote_does_not_back_it():
    """The key's words are no evidence for the value."""
    text = '{"city": "Oslo", "industry": "Food"}'
    reply = replied(text, ('"Oslo", "industry": "', (0,)))
    assert backed(text, reply.supports, {"city", "industry"}) == {"city": (0,)}


def test_several_marks_add_up():
    """A text of some sentences has its pages from all of them, each once, also where a mark begins at the key."""
    text = '{"city": "Oslo", "industry": "Fish. Salt. Oil.", "tags": null}'
    marks = ('"industry": "Fish.', (1,)), ("Salt.", (0, 1)), ('"city": "Oslo", "industry": "Fi', (2,))
    assert backed(text, replied(text, *marks[:2]).supports, {"industry"}) == {"industry": (0, 1)}
    assert backed(text, replied(text, *marks[1:]).supports, {"city", "industry"}) == {"city": (2,)}


def test_a_mark_around_the_whole_answer_is_told_apart():
    """It says that these pages were read, and nothing of any value; beside a mark of its own it is that one."""
    text = '{"city": "Oslo", "industry": "Food", "tags": ["a", "b"], "employees": null}'
    for words in (text, text[1:-1], text[text.index("Oslo") : text.index("], ")]):
        reply = replied(text, (words, (0, 1)), ("Food", (1,)))
        found = evidence(text, reply.supports, frozenset({"city", "industry", "tags", "employees"}))
        assert {name: (each.sources, each.whole) for name, each in found.items()} == {
            "city": ((0, 1), (0, 1)),
            "industry": ((0, 1), (0,)),
            "tags": ((0, 1), (0, 1)),
        }
    alone = '{"city": "Oslo"}'
    assert evidence(alone, [Support(0, len(alone), (0,))], frozenset({"city"}))["city"].whole == ()


@pytest.mark.parametrize(
    ("words", "count"),
    [('"a"', 1), ('"a", "b"', 2), ('{"x": "Holm", "y": "fish"}', 1), ("Holm", 1), ('["a", "b", {"x": "H', 2)],
)
def test_a_list_says_how_many_of_its_items_are_backed(words, count):
    """Each item has its own letters; the list holds where half of them are backed."""
    text = json.dumps({"tags": ["a", "b", {"x": "Holm", "y": "fish"}, None, "d"], "city": "Oslo"})
    found = evidence(text, replied(text, (words, (0,))).supports, frozenset({"tags", "city"}))["tags"]
    assert (found.parts, found.backed, found.holds) == (4, count, count == 2)


@pytest.mark.parametrize("text", ["", "no JSON", "{", '{"a": "x', "[]", "null", '{"other": 1}'])
def test_no_object_no_evidence(text):
    """Nothing is found in what is no answer, and nothing fails."""
    assert evidence(text, [Support(0, 100, (0,))], frozenset({"a"})).get("a") is None


def body(text, *supports, parts=None, chunks=("https://a.example", "https://b.example")):
    """A raw body with these grounding supports."""
    return json.dumps(
        {
            "candidates": [
                {
                    "content": {"parts": parts or [{"text": text}]},
                    "groundingMetadata": {
                        "groundingChunks": [{"web": {"uri": uri, "title": "t"}} for uri in chunks],
                        "groundingSupports": list(supports),
                    },
                }
            ]
        }
    )


def mark(start, end, text=None, places=(0,), **more):
    segment = {"startIndex": start, "endIndex": end} | ({} if text is None else {"text": text}) | more
    return {"segment": segment, "groundingChunkIndices": list(places)}


def test_offsets_are_bytes_and_a_start_of_0_may_be_missing():
    """As the service sends them."""
    text = '{"city": "Łódź"}'
    start = {"segment": {"endIndex": 9, "text": '{"city": '}, "groundingChunkIndices": [1]}
    found = parse(body(text, start, mark(10, 17, "Łódź"))).supports
    assert found == (Support(0, 9, (1,)), Support(10, 17, (0,)))


def test_parts_are_counted_by_themselves_and_thoughts_are_none_of_the_text():
    """An offset within the second part is one in the whole text; a part that thinks shifts nothing."""
    parts = [{"text": "hm {", "thought": True}, {"text": '{"city": '}, {"text": '"Oslo"}'}]
    found = parse(body("", mark(1, 5, "Oslo", partIndex=2), parts=parts)).supports
    assert found == (Support(10, 14, (0,)),)


@pytest.mark.parametrize(
    "support",
    [
        mark(0, 4, "other words"),
        mark(5, 5),
        mark(-3, 4),
        mark(0, 10**9),
        mark("0", 4),
        mark(0, 4, places=(7,)),
        mark(0, 4, places=("0", None, True)),
        {"segment": None, "groundingChunkIndices": [0]},
        {},
        "nothing",
        None,
    ],
)
def test_a_mark_that_leads_nowhere_is_left_out(support):
    """Never guessed at, and never a reason to lose the reply."""
    reply = parse(body('{"city": "Oslo"}', support))
    assert reply.supports == ()
    assert reply.text == '{"city": "Oslo"}'


def test_chunks_of_one_page_are_one_source():
    """Two chunks with the same address are one source."""
    reply = parse(body("abcdef", mark(0, 3, "abc", places=(0, 1)), chunks=("https://a.example", "https://a.example")))
    assert (len(reply.sources), reply.supports) == (1, (Support(0, 3, (0,)),))


def test_what_a_reply_repeats_a_thousand_times_is_read_at_once():
    """Neither a JSON object of many fields nor many marks over many pages cost a look at everything for each."""
    text = json.dumps({"city": "Łódź"} | {f"field{number}": "ł" for number in range(20_000)}, ensure_ascii=False)
    began = time.thread_time()
    assert backed(text, [Support(0, len(text), (0,))], {"city"}) == {"city": (0,)}
    chunks = [f"https://page.example/{number}" for number in range(2_000)]
    marks = [mark(0, 5, places=range(len(chunks))) for _ in range(20)]
    assert len(parse(body(text, *marks, chunks=chunks)).supports[0].sources) == len(chunks)
    assert time.thread_time() - began < 1


# States -----------------------------------------------------------------------------------------------------------


def test_each_state_from_one_reply(tmp_path):
    """Backed, not backed, differing, missing."""
    text = '{"industry": "Food", "city": "Oslo", "tags": ["a"], "employees": null}'
    frame = pd.DataFrame({"name": ["Acme"], "company.city": ["Bergen"]})
    asked(frame, replied(text, ("Food", (1,)), ("Oslo", (0,))), tmp_path / "out")
    assert states(tmp_path / "out") == {
        "industry": "supported",
        "city": "conflict",
        "tags": "unsupported",
        "employees": "not_found",
    }
    found = trust.evidence(tmp_path / "out").set_index("column")
    assert found.loc["company.industry", ["pages", "links"]].tolist() == [
        ["page.example (other)"],
        ["https://page.example/1"],
    ]
    assert found.loc["company.city", ["answer", "cell"]].tolist() == ["Oslo", "Bergen"]


@pytest.mark.parametrize(
    ("value", "state"),
    [("2000000", "doubtful"), ("-5", "invalid"), ('"many"', "invalid"), ("12", "supported"), ("null", "not_found")],
)
def test_a_failed_check_makes_a_value_doubtful_or_invalid(value, state, tmp_path):
    """Doubtful if it was flagged; invalid if it was emptied, or of a type that could not be kept; whatever backs it."""
    text = f'{{"industry": "Food", "employees": {value}}}'
    asked(pd.DataFrame({"name": ["Acme"]}), replied(text, (value, (0,))), tmp_path / "out")
    assert states(tmp_path / "out")["employees"] == state


def test_without_marks_all_is_unsupported(tmp_path):
    """Sources alone back nothing in particular."""
    asked(pd.DataFrame({"name": ["Acme"]}), replied('{"industry": "Food"}'), tmp_path / "out")
    assert states(tmp_path / "out")["industry"] == "unsupported"


def test_a_cell_that_says_the_same_is_no_conflict(tmp_path):
    """Case, blanks and the way an address is written do not count."""
    frame = pd.DataFrame(
        {"name": ["Acme"], "company.city": [" OSLO "], "company.industry": ["http://www.food.example/"]}
    )
    asked(frame, replied('{"city": "Oslo", "industry": "https://food.example"}'), tmp_path / "out")
    assert set(states(tmp_path / "out").values()) == {"unsupported", "not_found"}
    assert trust.corrections(tmp_path / "out").empty


def test_a_cell_of_signs_alone_is_no_address():
    """What is left of it without scheme and slash is nothing, and nothing is like nothing."""
    assert not alike("https://", "/")
    assert alike("/", "/")


def test_blank_text_is_no_answer(tmp_path):
    """A field whose default is empty text fills no cell."""

    class Remark(Answer):
        remark: str = ""
        industry: str | None = None

    stage = Stage("company", prompt="Research {name}.", per=("name",), answer=Remark)
    asked(pd.DataFrame({"name": ["Acme"]}), replied('{"industry": "Food"}'), tmp_path / "out", stages=[stage])
    assert states(tmp_path / "out") == {"remark": "not_found", "industry": "unsupported"}
    quality = enrichkit.report(tmp_path / "out").quality
    assert (quality.filled_before["company.remark"], quality.filled_after["company.remark"]) == (0, 0)


def test_an_emptied_value_beside_a_cell_is_not_the_cells(tmp_path):
    """The table's own value is never shown as the model's."""
    frame = pd.DataFrame({"name": ["Acme"], "company.employees": ["120"]})
    asked(frame, replied('{"industry": "Food", "employees": -5}'), tmp_path / "out")
    found = trust.evidence(tmp_path / "out").set_index("column").loc["company.employees"]
    assert (found["state"], found["doubts"]) == ("invalid", ["too_few: -5"])
    assert pd.isna(found["answer"])


def test_a_reply_of_ones_own_client_keeps_its_marks_in_the_store(tmp_path):
    """Read from the store, not from memory."""
    frame = pd.DataFrame({"name": ["Acme"]})
    asked(frame, replied('{"industry": "Food"}', ("Food", (1,))), tmp_path / "out")
    other = Stage("company", prompt="Research {name}.", per=("name",), answer=Company, columns="firm")
    asked(frame, None, tmp_path / "out", stages=[other])
    found = trust.evidence(tmp_path / "out")
    assert found[found["column"] == "firm.industry"]["state"].tolist() == ["supported"]


@pytest.mark.parametrize(
    ("value", "state", "doubts"),
    [
        ('{"value": 5e8, "currency": "EUR", "year": 2087}', "doubtful", ["year_range: 2087"]),
        ('{"value": 5e8, "currency": "EUR", "year": "the second"}', "doubtful", ["wrong_type: 'the second'"]),
        ('{"value": 5e8, "currency": "€", "year": null}', "unsupported", []),
        (
            '{"value": -5e8, "currency": "EUR"}',
            "invalid",
            ["aum_range: Aum(value=-500000000.0, currency='EUR', year=None)"],
        ),
        ('{"value": 5e8, "value": 6e8, "currency": "EUR"}', "doubtful", ["said_twice: [500000000.0, 600000000.0]"]),
    ],
)
def test_an_object_that_lost_a_part_is_doubtful(value, state, doubts, tmp_path):
    """And says what it lost; one that was only spelled anew keeps its state."""
    reply = Reply(text=f'{{"aum": {value}}}', model_version="mine")
    asked(pd.DataFrame({"fund.title": ["Acme"]}), reply, tmp_path / "out", stages=[enrichkit.funds.DEEP], key=None)
    found = trust.evidence(tmp_path / "out").set_index("column").loc["fund.aum"]
    assert (found["state"], found["doubts"]) == (state, doubts)


@pytest.mark.parametrize(
    ("says", "change", "doubts"),
    [
        ({"fields_found": ["industry", "city"]}, {}, {"city": ["found_null: said to be found, and left empty"]}),
        ({"search_quality": "good"}, {"queries": ()}, {"industry": ["no_query: 'good', without a query"]}),
        ({"search_quality": "limited"}, {"queries": ()}, {}),
        ({"search_quality": "good"}, {"sources": ()}, {"industry": ["no_page: the search brought no page"]}),
        ({"industry": None, "fields_found": []}, {"sources": ()}, {}),
        ({}, {"usage": Usage(searches=0)}, {"industry": ["no_search: the answer came without a search"]}),
    ],
)
def test_a_reply_that_contradicts_itself_is_a_doubt_about_its_values(says, change, doubts, tmp_path):
    """Also about one that it calls found and leaves empty; and such a record is weak."""
    text = json.dumps({"industry": "Food", "fields_found": ["industry"]} | says)
    whole = Reply(text=text, sources=(Source("https://a.example", "a"),), queries=("Acme",), usage=Usage(searches=1))
    read = read_decoded(COMPANY, b"", dataclasses.replace(whole, **change), {"client": CLIENTS[0]}, {})
    values = stage_values(COMPANY, outcome_of("q", [read], recorded=0), {})
    listed = {
        row["column"]: row["doubts"] for row in fields(values, "company", {name: name for name in COMPANY.fields})
    }
    assert {name: each for name, each in listed.items() if each} == doubts
    doubts_in = functools.partial(open_doubts, Decisions([], {}, {}))
    assert bool(weakest_first([values], {"company": {}}, doubts_in)) == bool(doubts)


def test_what_is_odd_about_a_cell_of_ones_own_is_a_note_and_no_doubt(tmp_path):
    """It is shown and counted apart, and makes no record weak."""

    def two_towns(answer, record):
        if ";" in record.get("town", ""):
            yield Issue("town", "several_places", record["town"])

    stage = Stage(
        "company", prompt="Research {name}.", per=("name",), answer=Company, checks=(two_towns,), search=False
    )
    frame = pd.DataFrame({"name": ["Acme"], "town": ["Holm; Marl"]})
    asked(frame, Reply(text='{"city": "Holm"}', model_version="mine"), tmp_path / "out", stages=[stage])
    quality = enrichkit.report(tmp_path / "out").quality
    assert (quality.issues, [note.name for note in quality.notes]) == ((), ["several_places"])
    assert [*trust.evidence(tmp_path / "out")["doubts"].explode().dropna()] == []
    assert trust.weak(tmp_path / "out").empty
    page = trust.dossier(tmp_path / "out")
    assert page.findings == ({"about": "town", "done": "note", "finding": "several_places: Holm; Marl"},)
    assert "odd about your own cells" in str(page)


def test_a_dossier_opens_the_weakest_record(tmp_path):
    """Or the first, where none is weak."""
    texts = {"Sound": '{"industry": "Food"}', "Bad": '{"industry": "Food", "employees": -1}'}
    client = lambda request: Reply(text=next(t for name, t in texts.items() if f"⟦{name}⟧" in request.text))  # noqa: E731
    asked(pd.DataFrame({"name": ["Sound"]}), None, tmp_path / "out", client=client)
    assert trust.dossier(tmp_path / "out").key == {"name": "Sound"}
    asked(pd.DataFrame({"name": list(texts)}), None, tmp_path / "out", client=client)
    page = trust.dossier(tmp_path / "out")
    assert page.key == {"name": "Bad"}
    assert "too_few: -1" in str(page)


# The views --------------------------------------------------------------------------------------------------------


def test_corrections_have_old_new_and_evidence(tmp_path):
    """Those that a page backs come first; nothing was overwritten."""
    frame = pd.DataFrame({"name": ["Acme"], "company.industry": ["Steel"], "company.city": ["Bergen"]})
    text = '{"industry": "Food", "city": "Oslo"}'
    enriched = asked(frame, replied(text, ("Oslo", (1,))), tmp_path / "out")
    assert enriched["company.city"].tolist() == ["Bergen"]
    found = trust.corrections(tmp_path / "out")
    assert found[["name", "column", "old", "new"]].to_numpy().tolist() == [
        ["Acme", "company.city", "Bergen", "Oslo"],
        ["Acme", "company.industry", "Steel", "Food"],
    ]
    assert found[["pages", "links"]].to_numpy().tolist() == [
        [["page.example (other)"], ["https://page.example/1"]],
        [[], []],
    ]


def test_corrections_of_a_table_have_its_labels_and_the_columns_types(tmp_path):
    """Each row of the table that has one, also where rows share a record: what is listed can be put in its cell."""

    class Harbour(Answer):
        crew: int | None = None
        open: bool | None = None
        town: str | None = None

    stage = Stage("harbour", prompt="Research {name}.", answer=Harbour, columns="", search=False)
    cells = {"crew": [5.0, 14.0, None, 5.0], "open": [True, True, None, False], "town": list("abcd")}
    frame = pd.DataFrame({"name": ["Holm", "Marl", "Osk", " Holm"]} | cells, index=["x", "y", "z", "x2"])
    client = lambda _: Reply(text='{"crew": 14, "open": false, "town": "a"}')  # noqa: E731
    settings = {"out": tmp_path / "out", "key": "name", "model": "m", "progress": False}
    enriched = enrichkit.run(frame, stages=[stage], client=client, **settings)
    found = trust.corrections(tmp_path / "out", frame)
    listed = found[["name", "column", "old", "new"]].itertuples(name=None)
    assert sorted(listed, key=lambda cell: (cell[0], cell[2])) == [
        ("x", "Holm", "crew", 5.0, 14.0),
        ("x", "Holm", "open", True, False),
        ("x2", "Holm", "crew", 5.0, 14.0),
        ("y", "Marl", "open", True, False),
        ("y", "Marl", "town", "b", "a"),
        ("z", "Osk", "town", "c", "a"),
    ]
    for label, column, new in found[["column", "new"]].itertuples(name=None):
        enriched.at[label, column] = new
    assert enriched["crew"].tolist() == [14.0] * 4
    assert enriched.dtypes[["crew", "open"]].equals(frame.dtypes[["crew", "open"]])
    for other in (enriched, frame.assign(name="Nobody")):
        assert trust.corrections(tmp_path / "out", other).empty
    of_store = trust.corrections(tmp_path / "out")
    assert of_store.index.tolist() == list(range(5))
    assert set(of_store.loc[of_store["column"] == "crew", "new"]) == {14.0}
    with pytest.raises(InputError, match="The key column 'name' is not in the table"):
        trust.corrections(tmp_path / "out", frame.rename(columns={"name": "Port"}))


def test_the_weakest_come_first_and_can_be_run_again(tmp_path):
    """Facts before the model's word; without what the answers had filled in, so that none is asked to confirm it."""
    texts = {
        "Unsure": '{"industry": "Food", "search_quality": "poor"}',
        "Sound": '{"industry": "Food", "confidence": "high"}',
        "Doubtful": '{"industry": "Food", "confidence": "low"}',
        "Bad": '{"industry": "Food", "confidence": "low", "search_quality": "poor", "employees": -1}',
    }

    def client(request):
        return replied(next(text for name, text in texts.items() if f"⟦{name}⟧" in request.text))

    frame = pd.DataFrame({"name": list(texts), "extra": ["0", "1", "2", "3"]})
    asked(frame, None, tmp_path / "out", client=client)
    weak = trust.weak(tmp_path / "out")
    assert weak["name"].tolist() == ["Bad", "Unsure", "Doubtful"]
    assert weak["_why"].tolist() == [
        "company.employees too_few: -1; company.industry no page behind it; company low confidence; "
        "company poor search quality",
        "company.industry no page behind it; company poor search quality",
        "company.industry no page behind it; company low confidence",
    ]
    assert weak["extra"].tolist() == ["3", "0", "2"]
    seen = []
    again = asked(weak, None, tmp_path / "again", client=lambda request: seen.append(request.text) or client(request))
    assert len(seen) == 3
    assert not [text for text in seen if "Food" in text]
    assert "_why" not in enrichkit.read(tmp_path / "again").columns
    assert again["name"].tolist() == ["Bad", "Unsure", "Doubtful"]


def test_a_failed_stage_is_weak(tmp_path):
    """With its cause and the service's words."""
    failed = Reply(failure=enrichkit.messages.Failure(cause="blocked", message="SAFETY"))
    asked(pd.DataFrame({"name": ["Acme"]}), failed, tmp_path / "out")
    assert trust.weak(tmp_path / "out")["_why"].tolist() == ["company failed: blocked: SAFETY"]


def test_the_report_counts_what_is_there(tmp_path):
    """Fill rate, levels, fields, states, checks, shared addresses and failures, also in its JSON."""
    texts = {
        "A": '{"industry": "https://one.example", "city": "Oslo", "confidence": "low", "search_quality": "good"}',
        "B": '{"industry": "https://one.example", "employees": 2000000, "confidence": "high"}',
    }

    def client(request):
        for name, text in texts.items():
            if f"⟦{name}⟧" in request.text:
                return replied(text, ("one.example", (0,)))
        return Reply(failure=enrichkit.messages.Failure(cause="truncated", message=HOSTILE))

    frame = pd.DataFrame({"name": ["A", "B", "C"], "company.city": ["Bergen", None, None]})
    asked(frame, None, tmp_path / "out", client=client)
    found = enrichkit.report(tmp_path / "out")
    quality = found.quality
    assert (quality.records, dict(quality.status)) == (3, {"done": 2, "failed": 1})
    assert (quality.filled_before["company.city"], quality.filled_after["company.city"]) == (1, 1)
    assert (quality.filled_before["company.industry"], quality.filled_after["company.industry"]) == (0, 2)
    assert quality.confidence["company"] == {"high": 1, "medium": 0, "low": 1, "not said": 0}
    assert quality.search_quality["company"]["not said"] == 1
    assert quality.fields_found["company"] == {0: 0, 1: 0, 2: 2, 3: 0, 4: 0}
    assert quality.states["company.industry"]["doubtful"] == 2
    assert quality.states["company.employees"]["doubtful"] == 1
    assert quality.states_by_confidence["high"] == dict.fromkeys(COUNTED, 0) | {
        "doubtful": 2,
        "not_found": 2,
    }
    assert quality.corrections == 1
    assert [(one.name, one.count, one.done) for one in quality.issues] == [
        ("several_firms", 2, "flagged"),
        ("too_many", 1, "flagged"),
    ]
    assert [(one.name, one.count) for one in quality.failures] == [("truncated", 1)]
    told = json.loads(found.to_json())
    assert told["version"] == 4
    assert told["quality"]["failures"][0]["what_to_do"].startswith("raise the stage's max_output_tokens")
    assert "max_output_tokens" in str(found)
    assert json.loads(found.write().read_text()) == told
    assert found.write(tmp_path / "mine.json").read_text() == found.to_json()


def test_what_a_person_decided_counts_as_decided(tmp_path):
    """Whatever its state; a value that went is filled no more, one that came is, an accepted correction is none."""
    texts = {"A": '{"industry": "tea", "city": "Oslo"}', "B": '{"industry": "salt", "city": "Moss"}', "C": "{}"}
    client = lambda request: replied(next(texts[name] for name in texts if f"⟦{name}⟧" in request.text))  # noqa: E731
    frame = pd.DataFrame({"name": ["A", "B", "C"], "company.city": ["Bergen", "Bodø", None]})
    out = tmp_path / "out"
    asked(frame, None, out, client=client)
    fields = trust.evidence(out).set_index(["name", "column"], drop=False)
    trust.decide(out, fields.loc[[("A", "company.city")]], "right")
    trust.decide(out, fields.loc[[("A", "company.industry"), ("B", "company.city")]], "wrong")
    trust.decide(out, fields.loc[[("B", "company.industry")]], "unsure")
    trust.decide(out, fields.loc[[("C", "company.industry")]], value="rope")
    quality = enrichkit.report(out).quality
    counted = {
        column: {name: count for name, count in states.items() if count} for column, states in quality.states.items()
    }
    assert counted["company.city"] == {"decided": 2, "not_found": 1}
    assert counted["company.industry"] == {"decided": 2, "unsupported": 1}
    assert quality.states_by_confidence["not said"]["decided"] == 4
    assert quality.corrections == len(trust.corrections(out)) == 0
    assert (quality.filled_before["company.industry"], quality.filled_after["company.industry"]) == (0, 2)
    assert (quality.filled_before["company.city"], quality.filled_after["company.city"]) == (2, 2)


def test_levels_in_words_of_ones_own_count_as_not_said(tmp_path):
    """In the report and while the run goes on, so that the counts add up to the answers."""

    class Sure(Answer):
        confidence: float | None = None
        industry: str | None = None

    stage = Stage("company", prompt="Research {name}.", per=("name",), answer=Sure)
    reply = replied('{"industry": "Food", "confidence": 0.5, "search_quality": "good"}')
    settings = {
        "key": "name",
        "model": "gemini-3.5-flash-lite",
        "out": tmp_path / "out",
        "stages": [stage],
        "progress": False,
    }
    started = enrichkit.start(pd.DataFrame({"name": ["Acme"]}), client=lambda request: reply, **settings)
    started.result()
    none = {"high": 0, "medium": 0, "low": 0, "not said": 1}
    good = {"excellent": 0, "good": 1, "limited": 0, "poor": 0, "not said": 0}
    assert (started.status.levels.confidence, started.status.levels.search_quality) == (none, good)
    quality = enrichkit.report(tmp_path / "out").quality
    assert (quality.confidence["company"], quality.search_quality["company"]) == (none, good)


def test_a_run_counts_levels_as_replies_come(tmp_path):
    """Each answer once, however many records share it; failures not at all."""
    texts = {"A": '{"industry": "a", "confidence": "low"}', "B": '{"industry": "b", "confidence": "high"}'}

    def client(request):
        for name, text in texts.items():
            if f"⟦{name}⟧" in request.text:
                return replied(text)
        return Reply(failure=enrichkit.messages.Failure(cause="blocked", message="SAFETY"))

    frame = pd.DataFrame({"name": ["A", "A", "B", "C"], "id": [1, 2, 3, 4]})
    settings = {
        "key": "id",
        "model": "gemini-3.5-flash-lite",
        "out": tmp_path / "out",
        "stages": [COMPANY],
        "progress": False,
    }
    started = enrichkit.start(frame, client=client, **settings)
    started.result()
    assert started.status.levels.confidence == {"high": 1, "medium": 0, "low": 1, "not said": 0}


def test_a_dossier_shows_whole_values_what_checks_found_and_the_suggestions_of_the_answer_that_stands(tmp_path):
    """A later question that failed takes nothing of it away."""
    long = "word " * 60
    reply = Reply(
        text=json.dumps({"industry": long, "employees": 2_000_000}),
        suggestions_html="<a>fish</a>",
        model_version="mine",
    )
    frame = pd.DataFrame({"name": ["Acme"]})
    asked(frame, reply, tmp_path / "out")
    changed = Stage("company", prompt="Look up {name}.", per=("name",), answer=Company, checks=(too_many,))
    failed = Reply(failure=enrichkit.messages.Failure(cause="blocked", message="SAFETY"))
    asked(frame, failed, tmp_path / "out", stages=[changed], on_change="redo")
    page = trust.dossier(tmp_path / "out", enrichkit.read(tmp_path / "out")["_record_id"].iloc[0])
    assert page.suggestions == ("<a>fish</a>",)
    assert page.findings == ({"about": "company.employees", "done": "flagged", "finding": "too_many: 2000000"},)
    assert page.answers[2]["doubts"] == ["failed: blocked: SAFETY; the earlier answer stands", "too_many: 2000000"]
    assert repr(page) == "<enrichkit.Dossier, name: Acme: 4 answers> print() shows all of it."
    for shown in (str(page), page._repr_html_()):
        assert long.strip() in " ".join(shown.split())
        assert "too_many" in shown


@pytest.mark.parametrize("record_id", [5, "5", ""])
def test_a_record_that_is_not_there_is_named(record_id, tmp_path):
    """With a word on where to find them."""
    asked(pd.DataFrame({"name": ["Acme"]}), replied('{"industry": "Food"}'), tmp_path / "out")
    with pytest.raises(InputError, match=r"_record_id.*"):
        trust.dossier(tmp_path / "out", record_id)


def test_a_store_without_states_is_reported_and_read_anew(tmp_path, monkeypatch):
    """As an earlier version has left it: no state is known, and the next run finds them for nothing."""
    frame = pd.DataFrame({"name": ["Acme"]})
    reply = replied('{"industry": "Food"}', ("Food", (0,)))
    monkeypatch.setattr("enrichkit.stages.stage.READER", 1)
    monkeypatch.delitem(enrichkit.store.rows.META, "states")
    old = Stage("company", prompt="Research {name}.", per=("name",), answer=Company, checks=(too_many,))
    asked(frame, reply, tmp_path / "out", stages=[old])
    monkeypatch.undo()
    path = tmp_path / "out"
    table = pyarrow.dataset.dataset(path).to_table()
    if "company._states" in table.column_names:
        pytest.fail("this test must write a store without states")
    assert trust.evidence(path).empty
    assert enrichkit.report(path).quality.states == {}
    asked(frame, None, path)
    assert states(path)["industry"] == "supported"


# Hostile text -----------------------------------------------------------------------------------------------------


def test_hostile_text_shows_as_text_on_every_page(tmp_path):
    """In keys, answers, notes, addresses, errors and issues."""
    text = json.dumps(
        {"industry": HOSTILE, "city": HOSTILE, "notes": HOSTILE, "tags": [HOSTILE], "employees": 2_000_000}
    )
    pages = (Source(f"javascript:alert('{HOSTILE}')", HOSTILE), Source(f'https://x.example/"{HOSTILE}', HOSTILE))
    reply = Reply(
        text=text,
        sources=pages,
        supports=(Support(0, len(text), (0, 1)),),
        suggestions_html=f"<script>parent.x=1</script>{HOSTILE}",
        model_version=HOSTILE,
    )
    frame = pd.DataFrame({"name": [HOSTILE], "company.city": [f"Oslo{HOSTILE}"]})
    asked(frame, reply, tmp_path / "out")
    found = trust.evidence(tmp_path / "out")
    page = trust.dossier(tmp_path / "out", found["_record_id"].iloc[0])
    shown = page._repr_html_() + enrichkit.report(tmp_path / "out")._repr_html_()
    frames = [f'srcdoc="{html.escape(IN_A_TAB + one)}"' for one in page.suggestions]
    assert frames
    for one in frames:
        assert one in shown
        shown = shown.replace(one, "")
    assert "<img" not in shown
    assert "<script" not in shown
    assert 'href="javascript' not in shown
    assert 'sandbox="' in shown
    assert "allow-scripts" not in shown
    assert "allow-same-origin" not in shown


def test_no_part_of_a_dossier_is_read_as_mathematics(tmp_path):
    """A formula may hold a link that runs a script."""
    page = Source(r"https://$\href{javascript:alert(1)}{x}$", "t")
    reply = Reply(text='{"industry": "Food"}', sources=(page,), supports=(Support(0, 19, (0,)),), model_version="mine")
    asked(pd.DataFrame({"name": ["Acme"]}), reply, tmp_path / "out")
    shown = trust.dossier(tmp_path / "out", enrichkit.read(tmp_path / "out")["_record_id"].iloc[0])._repr_html_()
    assert r"\href" in shown
    assert shown.startswith('<div class="mathjax_ignore tex2jax_ignore">')
    assert shown.endswith("</div>")
    assert shown.count("<div") == 1


# Against the truth ------------------------------------------------------------------------------------------------


def test_planted_faults_are_flagged_and_sound_values_are_not(simulator, tmp_path):
    """Each kind of planted fault, all of it; at most one in fifty of the sound values.

    No correction proposes a city that its cell names already.
    """
    frame = pd.read_csv(ROOT / "data" / "funds.csv", dtype=str).head(300)
    out = tmp_path / "out"
    enrichkit.run(frame, stages=["poc", "fund", "deep"], out=out, workers=20, progress=False)
    cities = trust.corrections(out).query("column == 'fund.city'")
    assert len(cities) > 10
    assert not [new for old, new in zip(cities["old"], cities["new"], strict=True) if new.casefold() in old.casefold()]
    planted, flagged = Counter(), Counter()
    sound = wrongly = 0
    for row in pyarrow.dataset.dataset(out).to_table().to_pylist():
        answered = {name for stage in ("poc", "fund", "deep") for name in row[f"{stage}._filled"] or ()}
        for stage, prefix in {"poc": "poc", "fund": "fund", "deep": "fund"}.items():
            replies = row[f"{stage}._replies"]
            truth = simulator.planted[json.loads(json.loads(replies[-1])["raw"])["responseId"]] if replies else {}
            for one in row[f"{stage}._states"] or ():
                field, column = one["field"], f"{prefix}.{one['field']}"
                fault = truth.get(field)
                issues = [issue for issue in row[f"{stage}._issues"] if issue.startswith(f"{field}: ")]
                doubtful = [issue for issue in issues if not any(f": {check}" in issue for check in CLEANED)]
                doubted = one["state"] in ("doubtful", "invalid", "unsupported", "conflict") or bool(doubtful)
                check = CHECKS.get(fault)
                caught = any(f": {check}" in issue for issue in issues) if check else doubted
                filled = row[column] is not None and column not in answered
                if fault == "differs" and filled and re.search("[,;]", row[column]):
                    continue  # one of the places that the cell names
                if (fault == "differs" and not filled) or (fault == "city_elsewhere" and not row["fund.country"]):
                    continue  # wrong beside the row that asked; this one shares the answer and lacks that cell
                if fault:
                    planted[fault] += 1
                    flagged[fault] += caught
                elif one["state"] != "not_found" and not filled:
                    sound += 1
                    wrongly += doubted
    print(dict(planted), f"sound {sound:,}, wrongly flagged {wrongly} = {wrongly / sound:.2%}")
    assert flagged == planted
    assert len(planted) >= 12
    assert sound > 2000
    assert wrongly / sound <= 0.02
