"""What becomes of replies that are hard to read: paid once, or asked again once and told why, or read later."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, computed_field, field_serializer, field_validator, model_validator

import enrichkit
from enrichkit import Answer, Price, Stage, funds
from enrichkit.errors import Stopped
from enrichkit.gemini.faults import FAULTS, Fault
from enrichkit.gemini.wire import BLOCKED, read_stored
from enrichkit.messages import CLIENTS, Failure, Reply
from enrichkit.reading.answer import read_answer
from enrichkit.reading.json_text import locate
from enrichkit.stages.stage import request_for
from enrichkit.store.files import work_area
from enrichkit.store.journal import decode_journal, encode_journal
from support.clients import USAGE, Teller
from support.tables import Company, numbered
from support.waiting import wait_for

COMPANY = Stage("company", prompt="Research {name}.", answer=Company, search=False)
GOOD = '{"industry": "Tea", "employees": 12}'


def run(out, client, rows=3, **settings):
    given = {
        "stages": [COMPANY],
        "model": "gemini-3.5-flash-lite",
        "key": "name",
        "progress": False,
        "client": client,
        "workers": 2,
    }
    return enrichkit.run(numbered(rows), out=out, **given | settings)


def test_prose_is_asked_again_once_and_told_why(tmp_path):
    """One line at the end; two payments, and then the row fails."""
    client = Teller(otherwise="Sorry, here is what I know: nothing.")
    run(tmp_path / "out", client, rows=1)
    first, second = client.asked
    assert second == (
        first + "\n\nYour last reply could not be used: no JSON object. Reply with the JSON object alone."
    )
    stored = enrichkit.read(tmp_path / "out").iloc[0]
    assert (stored["company._status"], stored["company._attempts"]) == ("failed", 2)


@pytest.mark.parametrize("nothing", [Failure(cause="empty"), ""])
def test_after_an_empty_reply_the_plain_question_is_asked_once_more(nothing, tmp_path):
    """There was nothing to complain of, whatever client says so."""
    client = Teller(otherwise=nothing)
    run(tmp_path / "out", client, rows=1)
    assert enrichkit.read(tmp_path / "out")["company._error"].iloc[0].startswith("empty")
    assert len(client.asked) == 2
    assert len(set(client.asked)) == 1


LINE = "\n\nYour last reply could not be used: no JSON object{}. Reply with the JSON object alone."
WITHIN = LINE.format(" with the fields asked for")
ADDED = {"prose": LINE.format(""), "cut_json": WITHIN, "other_fields": WITHIN, "empty": "", "no_candidates": ""}
PAID_ONCE = ("truncated", "loops", "max_tokens_empty", "safety", "blocked", "recitation", "wrong_types", None)


@pytest.mark.parametrize("client", CLIENTS)
def test_whatever_a_reply_lacks_it_is_paid_twice_at_most(client, simulator, tmp_path):
    """As the service charges: once more only where that may help, and told why where there is a why."""
    simulator.script = [*(fault for fault in ADDED for _ in range(2)), *PAID_ONCE]
    paid = len(simulator.script)
    frame = pd.DataFrame({"fund.title": [*ADDED, *map(str, PAID_ONCE)]})
    enrichkit.run(
        frame,
        stages=["fund"],
        model="gemini-3.5-flash-lite",
        client=client,
        out=tmp_path / "out",
        progress=False,
        workers=1,
    )
    texts = [
        request_for(funds.FUND, "", {"fund.title": title}, model="m", timeout_seconds=1).text + added
        for title in frame["fund.title"]
        for added in ("", ADDED.get(title, ""))
    ]
    hashed = {hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts}
    counts = simulator.counts()
    assert (counts["answers"], counts["prompts"].keys()) == (paid, hashed)
    assert enrichkit.read(tmp_path / "out")["fund._attempts"].tolist() == [2] * len(ADDED) + [1] * len(PAID_ONCE)


@pytest.mark.parametrize("stored", ["Sorry.", GOOD])
def test_a_kill_between_the_two_attempts_gives_no_more_of_them(stored, tmp_path):
    """One attempt is left, and is told why; what a better reader has read by then is not asked again at all."""
    out, killed, asked = tmp_path / "out", tmp_path / "killed", []

    def client(request):
        asked.append(request.text)
        pending = work_area(out) / "pending"
        if len(asked) == 2:  # the first reply is stored: what lies there now is what a kill leaves
            wait_for(lambda: any(pending.iterdir()))
            shutil.copytree(work_area(out), work_area(killed))
        return Reply(text="Sorry.", usage=USAGE)

    run(out, client, rows=1)
    [journal] = (work_area(killed) / "pending").iterdir()
    [entry] = decode_journal(journal.read_bytes())
    assert entry.status == "again"
    better = entry.payload.replace(b"Sorry.", json.dumps(stored)[1:-1].encode())
    journal.write_bytes(encode_journal([dataclasses.replace(entry, payload=better)]))
    ahead = enrichkit.plan(
        numbered(1), stages=[COMPANY], key="name", out=killed, model="gemini-3.5-flash-lite", client=client
    )
    run(killed, client, rows=1)
    assert asked[2:] == ([] if stored == GOOD else asked[1:2])
    assert ahead.to_ask == len(asked[2:])
    assert enrichkit.read(killed)["_status"].tolist() == ["done" if stored == GOOD else "failed"]


def test_an_object_that_can_be_read_is_paid_once(tmp_path):
    """Even if one value, or each, cannot be used."""
    client = Teller({"0": '{"industry": {"a": 1}}', "1": GOOD + ",,"}, otherwise="{'industry': 'Tea',}")
    table = run(tmp_path / "out", client)
    assert len(client.asked) == 3
    assert table["_status"].tolist() == ["done"] * 3


@pytest.mark.parametrize("finish", ["SAFETY", "RECITATION", "MAX_TOKENS", "BLOCK_REASON_UNSPECIFIED"])
def test_a_text_is_read_whatever_ended_it(finish, tmp_path):
    """A whole object stands, with an issue; half a one is the failure that was told, paid once."""
    cause = "truncated" if finish == "MAX_TOKENS" else "blocked"
    texts = {"0": GOOD, "1": '{"industry": "Te', "2": GOOD[:-1]}
    asked = []

    def client(request):
        asked.append(request.text)
        text = texts[re.search(r"\d", request.text)[0]]
        return Reply(text=text, usage=USAGE, finish_reason=finish, failure=Failure(cause=cause, message=finish))

    table = run(tmp_path / "out", client)
    assert len(asked) == 3
    assert table["_status"].tolist() == ["done", "failed", "failed"]
    stored = enrichkit.read(tmp_path / "out").sort_values("name")
    assert list(stored["company._issues"].iloc[0]) == [f": finish_{finish.lower()}"]
    assert stored["company._error"].iloc[1] == f"{cause}: {finish}"


def fails(error):
    """Return models named alike whose own code raises an error: in a validator, one of the whole, ..."""

    def raises(first, second=None, /):
        raise type(error)(*error.args)

    class Town(BaseModel):
        name: str | None = None
        check = field_validator("name", mode="before")(raises)

    namespaces = {
        "validator": {"check": field_validator("industry")(raises)},
        "before": {"check": field_validator("industry", mode="before")(raises)},
        "whole": {"check": model_validator(mode="after")(raises)},
        "whole before": {"check": model_validator(mode="before")(raises)},
        "init": {"__init__": lambda self, **values: raises(self)},
        "post init": {"model_post_init": raises},
        "computed": {"check": computed_field(return_type=str)(property(raises))},
        "serializer": {"check": field_serializer("industry")(raises)},
        "part": {"__annotations__": {"town": Town | None}, "town": None},
    }
    return {kind: type("Company", (Company,), {"__module__": __name__} | parts) for kind, parts in namespaces.items()}


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), KeyError("Oslo"), RecursionError(), SystemExit(2)])
def test_whatever_the_users_own_code_raises_is_paid_once(error, tmp_path, caplog):
    """Wherever it stands in the model; class and line in the row, one traceback by the logger."""
    client = Teller(otherwise='{"industry": "Tea", "town": {"name": "Marl"}}')
    settings = {"prompt": "Research {name}.", "search": False}
    stages = [Stage(kind.replace(" ", "_"), answer=model, **settings) for kind, model in fails(error).items()]
    run(tmp_path / "out", client, stages=stages, rows=1)
    stored = enrichkit.read(tmp_path / "out")
    for stage in stages:
        told = stored[f"{stage.name}._error"].fillna("").iloc[0]
        if stage.name in ("computed", "serializer"):  # no part of a row
            assert told == ""
            continue
        assert told.startswith(f"own_code: Company: {type(error).__name__}"), stage.name
        assert re.search(r"\(test_hard_to_read.py, line \d+\)$", told), stage.name
    assert len(client.asked) == len(stages)
    assert caplog.text.count("Your own code failed") == len(stages) - 2


def test_an_interrupt_within_the_users_own_code_is_one():
    """A person who wants out is never taken for a fault of the code that runs just then."""
    with pytest.raises(KeyboardInterrupt):
        read_answer(fails(KeyboardInterrupt())["validator"], GOOD)


def ended(finish="STOP", block=None, text=GOOD):
    """Return what makes of a reply's body one that ended so."""

    def apply(body):
        body["candidates"][0]["content"]["parts"][0]["text"] = text
        body["candidates"][0]["finishReason"] = finish
        if block is not None:
            body["promptFeedback"] = {"blockReason": block}

    return apply


@pytest.mark.parametrize("client", CLIENTS)
def test_each_reason_for_a_block_is_paid_once_and_named(client, simulator, tmp_path, monkeypatch):
    """A whole object stands, half a one is blocked; an unspecified reason is none; what repeats itself says so."""
    expected = [(ended(finish), f": finish_{finish.lower()}") for finish in sorted(BLOCKED)]
    expected += [(ended(finish, text=GOOD[:18]), f"blocked: {finish}") for finish in sorted(BLOCKED)]
    expected += [(ended(block="BLOCK_REASON_UNSPECIFIED"), None), (ended(block=0), None)]
    expected += [(ended(block="BLOCK_REASON_UNSPECIFIED", text=GOOD[:-1]), ": json_repaired")]
    expected += [(ended("MAX_TOKENS", text=GOOD[:-1]), "truncated: the answer ended unfinished (MAX_TOKENS); raise ")]
    expected += [(ended("MAX_TOKENS", text='{"industry": "' + "quay, " * 900), "it repeats itself")]
    shapes = iter([shape for shape, _ in expected])
    monkeypatch.setitem(FAULTS, "server", Fault(shape=lambda body: next(shapes)(body)))
    simulator.faults = {"server": 1.0}
    run(tmp_path / "out", client, rows=len(expected), workers=1)
    assert simulator.counts()["answers"] == len(expected)
    stored = enrichkit.read(tmp_path / "out")
    for (_, named), issues, error in zip(expected, stored["company._issues"], stored["company._error"], strict=True):
        seen = f"{error if isinstance(error, str) else ''}{''.join(issues) if issues is not None else ''}"
        assert named in seen if named else not seen


class Picky(Answer):
    """An answer whose validator fails by a mistake of its own."""

    industry: str | None = None
    goods: str | None = None

    @field_validator("industry")
    @classmethod
    def broken(cls, value):
        """Raise something that is no `ValueError`."""
        return value / DIVISOR


DIVISOR = None


class Mended(Picky):
    """The same, mended, with another type."""

    goods: list[str] | None = None

    @field_validator("industry")
    @classmethod
    def broken(cls, value):
        """Take everything."""
        return value


Mended.__name__ = "Picky"
BROKEN, MENDED = (Stage("company", prompt="Research {name}.", answer=kind, search=False) for kind in (Picky, Mended))


@pytest.mark.parametrize("retry", [True, False])
def test_failed_rows_that_can_be_read_now_are_never_asked(retry, tmp_path, caplog):
    """The plan counts them; only what still fails is asked again, on demand."""
    client, out = Teller({"3": "Sorry."}, otherwise='{"industry": "Tea", "goods": "salt; fish"}'), tmp_path / "out"
    run(out, client, rows=4, stages=[BROKEN])
    assert len(client.asked) == 5
    call = {
        "stages": [MENDED],
        "model": "gemini-3.5-flash-lite",
        "key": "name",
        "out": out,
        "client": client,
        "retry_failed": retry,
    }
    ahead = enrichkit.plan(numbered(4), **call)
    assert (ahead.stages[0].done, ahead.stages[0].failed, ahead.to_ask) == (3, 1, int(retry))
    assert "3 failed answers can be read now, at no cost." in str(ahead)
    assert "3 failed answers can be read now, at no cost." in ahead._repr_html_()
    table = run(out, client, rows=4, stages=[MENDED], retry_failed=retry)
    assert table["_status"].tolist() == ["done"] * 3 + ["failed"]
    assert table["company.industry"].tolist()[:3] == ["Tea"] * 3
    assert len(client.asked) == (7 if retry else 5)
    assert "6 more values are found" in caplog.text
    assert "can be read now" not in str(enrichkit.plan(numbered(4), **call))


def test_a_budget_covers_the_second_attempt_before_it_is_sent(tmp_path):
    """What fits one attempt alone leaves the other for a larger budget, which then is the only one."""
    client, price = Teller(otherwise="Sorry."), {"m": Price(input_usd=1000, output_usd=0)}
    settings = {"model": "m", "prices": price, "workers": 1}
    with pytest.raises(Stopped, match="budget"):
        run(tmp_path / "out", client, rows=1, budget_usd=1.9, **settings)
    assert len(client.asked) == 1
    run(tmp_path / "out", client, rows=1, budget_usd=9, **settings)
    assert (len(client.asked), client.asked[1]) == (2, client.asked[0] + LINE.format(""))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("records", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_one_damaged_answer_in_five_costs_nothing(client, records, simulator, tmp_path):
    """Nothing is paid again, nothing fails, and the values are those that were written; sound ones stay as they are."""
    if records == 2000 and client != CLIENTS[0]:
        pytest.skip("many are asked with one client alone")
    frame = pd.DataFrame({"fund.title": [f"Kelp Fund {number}" for number in range(records)]})
    settings = {"stages": ["fund"], "client": client, "progress": False, "workers": 20}
    enrichkit.run(frame, out=tmp_path / "sound", **settings)
    asked = simulator.counts()["answers"]
    simulator.faults = {"damaged": 0.2}
    enrichkit.run(frame, out=tmp_path / "damaged", **settings)
    counts = simulator.counts()
    sound, read = (
        enrichkit.read(tmp_path / name).set_index("fund.title").loc[frame["fund.title"]]
        for name in ("sound", "damaged")
    )
    differs = sound[list(funds.FUND.answers)].map(str).ne(read[list(funds.FUND.answers)].map(str))
    other = [place for place, is_other in differs.stack().items() if is_other]
    texts = list(texts_in(tmp_path / "sound"))
    figures = {
        "damaged": counts["faults"]["damaged"],
        "paid again": counts["answers"] - asked - records,
        "failed": int((read["_status"] != "done").sum()),
        "values": differs.size,
        "other values": len(other),
        "silent differences": sum(not is_named(column, read.at[title, "fund._issues"]) for title, column in other),
        "sound replies": len(texts),
        "sound replies read otherwise": [text for text in texts if is_read_otherwise(text)],
    }
    print(client, figures)
    assert figures["damaged"] > records / 10
    assert figures["paid again"] <= 0.01 * records
    assert figures["other values"] <= 0.01 * figures["values"]
    assert [figures[name] for name in ("failed", "silent differences", "sound replies read otherwise")] == [0, 0, []]


def texts_in(out):
    """Yield the texts of a store's replies."""
    for shard in out.rglob("*.parquet"):
        for replies in pq.read_table(shard, columns=["fund._replies"], partitioning=None).column(0).to_pylist():
            for payload in replies:
                yield read_stored(payload)[0].text


def is_named(column, issues):
    """Whether an issue is about a column, or about the whole answer."""
    return any(issue.startswith((":", column.removeprefix("fund."))) for issue in issues)


def is_read_otherwise(text):
    """Whether a sound reply is read as something else than its JSON says, or with an issue."""
    said = json.loads(text.strip("`").removeprefix("json"))
    answer, issues = read_answer(funds.FUND.answer, text)
    said = {name: part for name, part in said.items() if part not in (None, [])}
    return bool(issues) or answer.model_dump(exclude_none=True) != said


def test_a_cut_text_is_never_repaired():
    """Where it was cut off within, nobody knows what else was to come."""
    assert locate('{"industry": "Tea"', frozenset({"industry"}), repair=False).values is None


def test_a_broken_check_is_said_once_a_run_and_counted_everywhere(tmp_path, caplog):
    """The answers stay: 12 done; a second run says it again."""

    def county(answer, record):
        return [enrichkit.Issue("town" if "county" in record else "industry", "odd", record["county"])]

    def nowhere(answer, record):
        yield enrichkit.Issue("industry", "tea")
        yield enrichkit.Issue("town", "odd")

    for check, reason in ((county, "county: KeyError: 'county'"), (nowhere, "nowhere: LookupError: an issue about")):
        caplog.clear()
        stages = [dataclasses.replace(COMPANY, checks=(check, lambda answer, record: None))]
        out = tmp_path / check.__name__
        frame = numbered(12).assign(county=None)
        job = enrichkit.start(
            frame, out=out, stages=stages, key="name", model="m", client=Teller(otherwise=GOOD), progress=False
        )
        assert job.result()["company.industry"].tolist() == ["Tea"] * 12
        assert (job.status.done, job.status.checks_failed) == (12, 12)
        assert "check_failed 12" in repr(job)
        assert "check_failed 12" in job._repr_html_()
        assert caplog.text.count("Traceback (most recent call last)") == 1
        report = enrichkit.report(out)
        assert "check_failed 12" in str(report)
        assert reason in report.quality.issues[0].example + report.quality.issues[-1].example
