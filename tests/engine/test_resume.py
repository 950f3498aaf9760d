"""Going on: the same call again, with other rows, other stages, another question or another way to read the answers."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import threading
import time

import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Stage, errors
from enrichkit.messages import Failure, Reply
from enrichkit.store.files import Files
from support.clients import BLOCKED, USAGE, Teller
from support.tables import PRICES, in_peru
from support.waiting import wait_for


class Company(Answer):
    industry: str | None = None
    employees: str | None = None


class Website(Answer):
    address: str | None = None


COMPANY = Stage("company", prompt="Research {name} in {country}.", answer=Company, search=False, max_output_tokens=1)
SITE = Stage("site", prompt="Where is {name}?", answer=Website, search=False, max_output_tokens=1)


def run(frame, out, client, stages=(COMPANY,), **settings):
    given = {"key": "name", "model": "m", "prices": PRICES, "progress": False, "workers": 3}
    return enrichkit.run(frame, out=out, client=client, stages=stages, **(given | settings))


def stored(out):
    return enrichkit.read(out).set_index("name")


def test_rows_may_come_go_and_change_places(tmp_path):
    """Only new questions are asked, and every answer stays with its own row."""
    client = Teller({word: json.dumps({"industry": word}) for word in ("Acme", "Umbra", "Tern", "Nox")})
    run(in_peru("Acme", "Umbra", "Tern"), tmp_path / "out", client)
    shuffled = in_peru("Nox", "Tern", "Acme", "Tern", extra=[1, 2, 3, 4])
    enriched = run(shuffled, tmp_path / "out", client)
    assert enriched["company.industry"].tolist() == ["Nox", "Tern", "Acme", "Tern"]
    assert len(client.asked) == 4
    found = stored(tmp_path / "out")
    assert found["company.industry"].to_dict() == {name: name for name in found.index}
    assert len(found) == 4


def test_a_failed_answer_that_one_record_got_later_is_not_asked_again(tmp_path):
    """Two records share a question; retried for one, it is answered for both, and each reply is paid once."""
    frame = in_peru("Acme", "Umbra", country=["Peru", "Peru"])
    stage = Stage("company", prompt="About {country}", answer=Company, search=False)
    client = Teller({}, otherwise=BLOCKED)
    run(frame, tmp_path / "out", client, [stage])
    client.otherwise = '{"industry": "Tea"}'
    run(frame.tail(1), tmp_path / "out", client, [stage], retry_failed=True)
    enriched = run(frame, tmp_path / "out", client, [stage], retry_failed=True)
    assert enriched["company.industry"].tolist() == ["Tea", "Tea"]
    assert len(client.asked) == 2
    found = stored(tmp_path / "out")
    assert found["company._cost_usd"].sum() == 2.0
    assert found["company._attempts"].sum() == 2


def test_only_what_failed_is_asked_again(tmp_path):
    """In the order of a priority and up to a limit; all else waits for another call, and the plan says so."""
    frame = in_peru("Acme", "Umbra", "Tern", "Nox", rank=[1, 2, 3, 4])
    client = Teller({"Tern": '{"industry": "Tea"}'}, otherwise=BLOCKED)
    run(frame.head(3), tmp_path / "out", client)
    client.otherwise = '{"industry": "Oil"}'
    only = {"retry_failed": "only", "priority": "rank", "limit": 1}
    planned = enrichkit.plan(frame, out=tmp_path / "out", stages=[COMPANY], key="name", model="m", **only)
    assert (planned.to_ask, planned.later) == (1, 2)
    assert [note for note in planned.notes if "left" in note] == [
        "1 record is left for a later call (retry_failed='only').",
        "1 record is left for a later call (limit=1).",
    ]
    for asked in ("Umbra", "Acme", "Acme"):  # the third time nothing has failed, and nothing is asked
        enriched = run(frame, tmp_path / "out", client, **only)
        assert asked in client.asked[-1]
    assert enriched["_status"].tolist() == ["done", "done", "done", "pending"]
    assert len(client.asked) == 5


def test_a_table_that_is_enriched_already_is_not_paid_for_twice(tmp_path):
    """Its cells count as the user's, so new answers would never be seen; what is empty in it may still be asked."""
    client = Teller({"Umbra": BLOCKED})
    enriched = run(in_peru("Acme", "Umbra"), tmp_path / "out", client)
    assert enriched["_status"].tolist() == ["done", "failed"]
    other = Stage("company", prompt="Study {name}.", answer=Company, search=False)
    for place, stage, more in (("out", other, {"on_change": "redo"}), ("elsewhere", COMPANY, {})):
        call = {"out": tmp_path / place, "stages": [stage], "key": "name", "model": "m", "prices": PRICES} | more
        planned = enrichkit.plan(enriched, **call)
        assert "before the earlier run; until then enrichkit.run refuses it" in planned.fix_first
        with pytest.raises(errors.InputError, match=r"'company\._status' is 'done'.*, and 1 of them would be asked"):
            run(enriched, tmp_path / place, client, [stage], **more)
    assert len(client.asked) == 2
    client.says = {}
    enriched = run(enriched, tmp_path / "out", client, [COMPANY, SITE], retry_failed=True)
    assert enriched["_status"].tolist() == ["done", "done"]
    again = run(enriched.drop(columns="company._status"), tmp_path / "elsewhere", client)
    assert again["company.industry"].tolist() == enriched["company.industry"].tolist()


def test_what_was_spent_only_grows(tmp_path):
    """A retry and a changed question add to what their record has cost; the budget counts it all."""
    client = Teller({}, otherwise=BLOCKED)
    run(in_peru("Acme"), tmp_path / "out", client)
    client.otherwise = '{"industry": "Tea"}'
    run(in_peru("Acme"), tmp_path / "out", client, retry_failed=True)
    other = Stage("company", prompt="Study {name}.", answer=Company, search=False)
    run(in_peru("Acme"), tmp_path / "out", client, [other], on_change="redo")
    assert stored(tmp_path / "out")["company._cost_usd"].tolist() == [3.0]
    with pytest.raises(errors.Stopped, match=r"0\.5.* are left") as caught:
        run(in_peru("Acme", "Umbra"), tmp_path / "out", client, [other], budget_usd=3.5)
    assert (caught.value.reason, len(client.asked)) == ("budget", 3)


def test_replies_that_are_not_sealed_count_for_the_budget(tmp_path):
    """A record half answered when a run ended: its reply lies in the work area, and was paid."""
    auth = Failure(cause="auth", message="expired")
    client = Teller({"Where": auth})
    with pytest.raises(errors.Stopped):
        run(in_peru("Acme"), tmp_path / "out", client, [COMPANY, SITE], workers=1)
    asked = len(client.asked)
    with pytest.raises(errors.Stopped) as caught:
        run(in_peru("Acme", "Umbra"), tmp_path / "out", client, [COMPANY], budget_usd=1.2)
    assert (caught.value.reason, len(client.asked)) == ("budget", asked)


def test_a_request_given_up_may_have_been_charged(tmp_path):
    """A timeout keeps its worst case set aside, also where a second try is answered."""
    replies = iter([Reply(failure=Failure(cause="timeout")), Reply(text='{"industry": "Tea"}', usage=USAGE)])
    job = enrichkit.start(
        in_peru("Acme"),
        out=tmp_path / "out",
        client=lambda request: next(replies),
        stages=[COMPANY],
        key="name",
        model="m",
        prices=PRICES,
        budget_usd=100,
        progress=False,
    )
    assert job.result()["_status"].tolist() == ["done"]
    assert 0 < job.status.money.possibly_usd < 2
    assert job.status.money.reserved_usd == 0


def test_a_redo_that_fails_leaves_the_old_answer(tmp_path):
    """The answer and all that is known of it stand, the failure is named, and a retry asks the new question."""
    run(in_peru("Acme"), tmp_path / "out", Teller({}, '{"industry": "Tea", "confidence": "high"}'))
    other = Stage("company", prompt="Study {name}.", answer=Company, search=False)
    enriched = run(in_peru("Acme"), tmp_path / "out", Teller({}, BLOCKED), [other], on_change="redo")
    found = stored(tmp_path / "out").loc["Acme"]
    assert (found["company.industry"], found["company._confidence"], found["company._filled"]) == (
        "Tea",
        "high",
        ["company.industry"],
    )
    assert enriched["company._status"].tolist() == ["failed"]
    assert "the earlier answer stands" in found["company._error"]
    enriched = run(in_peru("Acme"), tmp_path / "out", Teller({}, '{"industry": "Rice"}'), [other], retry_failed=True)
    assert enriched["company.industry"].tolist() == ["Rice"]
    assert pd.isna(stored(tmp_path / "out").loc["Acme", "company._confidence"])


def test_a_reply_that_breaks_the_users_model_is_kept(tmp_path):
    """A validator that raises makes a failed row, not a lost payment; corrected, it reads the reply for nothing."""
    broken = True

    class Strict(Answer):
        industry: str | None = None

        def model_post_init(self, context):
            if broken:
                raise KeyError("boom")

    stage = Stage("company", prompt="Research {name} in {country}.", answer=Strict, search=False)
    client = Teller({})
    enriched = run(in_peru("Acme"), tmp_path / "out", client, [stage])
    assert enriched["_status"].tolist() == ["failed"]
    assert "boom" in stored(tmp_path / "out").loc["Acme", "company._error"]
    broken = False
    asked = len(client.asked)
    corrected = Stage("company", prompt=stage.prompt, answer=Strict, search=False, checks=(lambda answer, record: [],))
    enriched = run(in_peru("Acme"), tmp_path / "out", client, [corrected])
    assert enriched["company.industry"].tolist() == ["Tea"]
    assert len(client.asked) == asked


@pytest.mark.parametrize("text", ['{"industry": ' + "[" * 100_000, '{"industry": ' + "[" * 500 + "]" * 500 + "}"])
def test_a_reply_nested_too_deeply_is_a_failed_answer(text, tmp_path):
    """Hostile nesting ends no run and loses no payment."""
    enriched = run(in_peru("Acme", "Umbra"), tmp_path / "out", Teller({"Acme": text}))
    assert enriched["_status"].tolist()[1] == "done"
    assert stored(tmp_path / "out").loc["Acme", "company._cost_usd"] >= 1


def test_another_reading_asks_nothing(tmp_path):
    """Other types, checks or columns read the stored replies anew, in all rows, also those not in the table."""
    client = Teller({"Umbra": '{"employees": "many"}'})
    run(in_peru("Acme", "Umbra", "Tern"), tmp_path / "out", client)

    class Counted(Answer):
        industry: str | None = None
        employees: int | None = None

    again = Stage("company", prompt=COMPANY.prompt, answer=Counted, search=False, max_output_tokens=1)
    assert "read again" in str(
        enrichkit.plan(in_peru("Acme"), out=tmp_path / "out", stages=[again], key="name", model="m")
    )
    enriched = run(in_peru("Acme", "Umbra"), tmp_path / "out", client, [again])
    assert enriched["company.employees"].tolist()[0] == 12
    found = stored(tmp_path / "out")
    assert found["company.employees"].dtype == "Int64"
    assert found["company.employees"].isna().to_dict() == {"Acme": False, "Umbra": True, "Tern": False}
    assert found["company._cost_usd"].tolist() == [1.0] * 3
    assert len(client.asked) == 3


def test_a_stage_added_for_some_leaves_the_others_pending(tmp_path):
    """The store says what was not asked yet; the call that was not about it says done."""
    client = Teller({})
    run(in_peru("Acme", "Umbra"), tmp_path / "out", client)
    limited = run(in_peru("Acme", "Umbra"), tmp_path / "out", client, [COMPANY, SITE], limit=1)
    assert limited["_status"].tolist() == ["done", "pending"]
    assert limited["site._status"].tolist() == ["done", "pending"]
    found = stored(tmp_path / "out")
    assert found["_status"].to_dict() == {"Acme": "done", "Umbra": "pending"}
    assert found["site._status"].to_dict() == {"Acme": "done", "Umbra": "pending"}
    assert run(in_peru("Acme", "Umbra"), tmp_path / "out", client)["_status"].tolist() == ["done", "done"]
    assert len(client.asked) == 3


def test_a_stage_that_requires_an_answer_comes_after_it(tmp_path):
    """Also where the table has the column: what is skipped is decided when the answer is there."""
    needy = Stage("needy", prompt="Look at {name}", answer=Company, requires=("site.address",), search=False)
    client = Teller({"Umbra": '{"address": null, "confidence": "low"}'})
    frame = in_peru("Acme", "Umbra", **{"site.address": [None, None]})
    enriched = run(frame, tmp_path / "out", client, [needy, SITE])
    assert enriched["needy._status"].tolist() == ["done", "skipped"]
    assert sorted(text.split()[0] for text in client.asked) == ["Look", "Where", "Where"]
    assert client.asked.index("Where is ⟦Acme⟧?") < client.asked.index("Look at ⟦Acme⟧")
    client.says = {}
    other = Stage("site", prompt="Where, please, is {name}?", answer=Website, search=False)
    enriched = run(frame, tmp_path / "out", client, [needy, other], on_change="redo")
    assert enriched["needy._status"].tolist() == ["done", "done"]


def test_a_client_of_ones_own_may_keep_its_raw_body(tmp_path):
    """The fields count, whatever the raw text means."""

    def client(request):
        return Reply(text='{"industry": "Tea"}', raw="<xml/>")

    stage = Stage("company", prompt="About {country}", answer=Company)
    run(in_peru("Acme"), tmp_path / "out", client, [stage])
    enriched = run(in_peru("Acme", "Umbra"), tmp_path / "out", Teller({}, BLOCKED), [stage])
    assert enriched["company.industry"].tolist() == ["Tea", "Tea"]


@pytest.mark.parametrize("then", [["a", "b", "c"], [1.5, None, 2.0], [2**53 + 1, 1, 2], [True, False, None]])
def test_a_column_may_change_its_type(then, tmp_path):
    """Shards of an earlier type stay readable, at every moment, and are brought to the wider one."""
    client = Teller({})
    run(in_peru("Acme", rank=[1]), tmp_path / "out", client)
    run(in_peru("Acme", "Umbra", "Tern", rank=then), tmp_path / "out", client, shard_rows=1)
    assert len(stored(tmp_path / "out")) == 3
    assert stored(tmp_path / "out").loc["Acme", "rank"] in (1, "1")


def test_a_link_leads_to_the_same_store(tmp_path):
    """A second run by another path to the same folder is refused, too."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    told, go = Teller({}), threading.Event()

    def client(request):
        go.wait(60)
        return told(request)

    settings = {"client": client, "stages": [COMPANY], "key": "name", "model": "m", "progress": False}
    job = enrichkit.start(in_peru("Acme", "Umbra"), out=tmp_path / "real", **settings)
    with pytest.raises(errors.LockedError):
        run(in_peru("Acme"), tmp_path / "link", client)
    go.set()
    job.result()


@pytest.mark.parametrize("column", ["odd", "country", "company.industry"])
@pytest.mark.parametrize("cell", ["\ud800x", ["a", "\ud800"], {"a": "\ud800"}])
def test_text_that_is_no_unicode_is_stored_as_far_as_it_is(cell, column, tmp_path):
    """A lone surrogate in the user's own cell is replaced in the store, and comes back untouched."""
    frame = in_peru("Acme", "Umbra").assign(**{column: pd.Series([cell, None], dtype=object)})
    enriched = run(frame, tmp_path / "out", Teller({}))
    assert enriched[column].tolist()[0] == cell
    assert "?" in str(stored(tmp_path / "out").loc["Acme", column])


def full(self, path, data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_pauses_the_asking_and_goes_on(tmp_path, monkeypatch):
    """No new request starts, what came is counted as unsaved, and once there is space everything is there."""
    client, lock = Teller({}), threading.Lock()

    def filling(request):
        with lock:
            if len(client.asked) == 5:
                monkeypatch.setattr(Files, "_write", full)
            return client(request)

    write = Files._write
    names = [f"n{number}" for number in range(40)]
    settings = {"stages": [COMPANY], "key": "name", "model": "m", "prices": PRICES, "progress": False, "workers": 4}
    job = enrichkit.start(in_peru(*names), out=tmp_path / "out", client=filling, **settings)
    wait_for(lambda: "cannot be written" in job.status.waiting)
    time.sleep(0.6)
    asked = len(client.asked)
    assert asked <= 5 + 4 + 2 + 1
    assert job.status.traffic.unsaved
    assert "cannot be written" in job.status.waiting
    monkeypatch.setattr(Files, "_write", write)
    assert job.result()["_status"].tolist() == ["done"] * 40
    assert len(client.asked) == 40


def test_a_stop_on_a_full_disk_says_what_is_not_saved(tmp_path, monkeypatch):
    """It does not wait for ever: one sentence, and the rest is asked again."""
    monkeypatch.setattr("enrichkit.engine.driver.SAVE_AGAIN_SECONDS", 0.01)
    client = Teller({})

    def filling(request):
        monkeypatch.setattr(Files, "_write", full)
        return client(request)

    settings = {"stages": [COMPANY], "key": "name", "model": "m", "prices": PRICES, "progress": False, "workers": 2}
    job = enrichkit.start(in_peru("a", "b", "c", "d", "e"), out=tmp_path / "out", client=filling, **settings)
    wait_for(lambda: job.status.traffic.unsaved)
    with pytest.raises(errors.StoreError, match=r"cannot be written: No space.*repl(y is|ies are) not saved"):
        job.stop()


def test_a_disk_that_is_nearly_full_pauses_the_asking(tmp_path, monkeypatch):
    """Before the last byte is gone."""
    client, lock = Teller({}), threading.Lock()
    free = Files.free_bytes

    def filling(request):
        time.sleep(0.05)
        with lock:
            if len(client.asked) == 3:
                monkeypatch.setattr(Files, "free_bytes", lambda self, folder: 1000)
            return client(request)

    monkeypatch.setattr("enrichkit.engine.driver.LOOK_AT_DISK_SECONDS", 0.05)
    settings = {"stages": [COMPANY], "key": "name", "model": "m", "prices": PRICES, "progress": False, "workers": 2}
    job = enrichkit.start(
        in_peru(*[f"n{number}" for number in range(30)]), out=tmp_path / "out", client=filling, **settings
    )
    wait_for(lambda: "nearly full" in job.status.waiting)
    asked = len(client.asked)
    time.sleep(0.3)
    assert len(client.asked) <= asked + 2  # those that were in flight
    monkeypatch.setattr(Files, "free_bytes", free)
    assert job.result()["_status"].tolist() == ["done"] * 30


def test_a_damaged_part_is_told(tmp_path):
    """Its replies may be asked again; whoever pays should know."""
    with pytest.raises(errors.Stopped):
        run(in_peru("Acme"), tmp_path / "out", Teller({"Where": Failure(cause="auth")}), [COMPANY, SITE], workers=1)
    (part,) = (tmp_path / "out.work" / "pending").iterdir()
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="quarantined"):
        run(in_peru("Acme"), tmp_path / "out", Teller({}), [COMPANY, SITE])


def test_a_disk_that_is_nearly_full_is_told_before_anything_is_asked(tmp_path, monkeypatch):
    """Not after the first replies are paid for."""
    client = Teller({})
    monkeypatch.setattr(Files, "free_bytes", lambda self, folder: 1000)
    with pytest.raises(errors.StoreError, match=r"nearly full\. Free some space, then run again"):
        run(in_peru("Acme"), tmp_path / "out", client)
    assert client.asked == []


def test_a_run_whose_lock_is_removed_stops_paying(tmp_path):
    """Somebody else may have taken the store over: no more than what is in flight is asked, and nothing is written."""
    out = tmp_path / "out"
    told, lock = Teller({}), threading.Lock()

    def client(request):
        with lock:
            if len(told.asked) == 10:
                (tmp_path / "out.work" / "lock").unlink(missing_ok=True)
            return told(request)

    with pytest.raises(errors.LockedError, match="was removed while this run held it"):
        run(in_peru(*[f"n{number}" for number in range(200)]), out, client)
    assert len(told.asked) <= 10 + 2 * (3 + 2)


def test_a_stage_added_later_seals_each_shard_once_more(tmp_path, monkeypatch):
    """It asks its own questions only, and no shard is written twice for them."""
    monkeypatch.setattr("enrichkit.engine.driver.SEAL_SECONDS", 600.0)  # no shard is sealed before it is full
    names = [f"n{number}" for number in range(45)]
    out = tmp_path / "out"
    run(in_peru(*names), out, Teller({}), shard_rows=10)
    sealed = []
    rename = Files._rename

    def noting(self, path, target):
        sealed.append(target.parent.name)
        rename(self, path, target)

    monkeypatch.setattr(Files, "_rename", noting)
    client = Teller({})
    run(in_peru(*names), out, client, [COMPANY, SITE], shard_rows=10)
    assert sorted(text.split()[0] for text in client.asked) == ["Where"] * 45
    assert sorted(name for name in sealed if name.startswith("shard")) == [
        f"shard=s{number:04d}" for number in range(5)
    ]


def test_a_second_run_in_the_same_process_is_refused(tmp_path):
    """In one sentence that names the owner; the first goes on undisturbed."""
    client = Teller({})
    settings = {"stages": [COMPANY], "key": "name", "model": "m", "prices": PRICES, "progress": False, "workers": 1}
    second = []

    def trying(request):
        if not second:
            second.append("")
            with pytest.raises(
                errors.LockedError, match=r"A run of this process works on .*: \.show\(\) it, wait until"
            ) as told:
                enrichkit.start(in_peru("Acme"), out=tmp_path / "out", client=client, **settings)
            second.append(str(told.value))
        return client(request)

    enriched = enrichkit.run(in_peru("Acme", "Bolt"), out=tmp_path / "out", client=trying, **settings)
    assert enriched["_status"].tolist() == ["done", "done"]
    assert len(second) == 2


def test_what_was_asked_again_of_another_model_is_done_for_later_calls(tmp_path):
    """Once the weak ones were asked of a stronger model, the call that filled the store is not refused, and goes on."""
    client, stronger = Teller({}), {"model": "stronger", "prices": PRICES | {"stronger": PRICES["m"]}}
    run(in_peru("Acme", "Umbra"), tmp_path / "out", client)
    run(in_peru("Umbra"), tmp_path / "out", client, on_change="redo", **stronger)
    for _ in range(2):
        enriched = run(in_peru("Acme", "Umbra", "Norrgard"), tmp_path / "out", client)
        assert enriched["_status"].tolist() == ["done"] * 3
        assert len(client.asked) == 4
    with pytest.raises(errors.ChangedError, match=r"company: 2 stored answers"):
        run(in_peru("Acme", "Umbra", "Norrgard"), tmp_path / "out", client, **stronger)
    run(in_peru("Acme", "Umbra"), tmp_path / "out", client, on_change="redo")
    assert len(client.asked) == 5  # to be redone is what is not of this very model
    with pytest.raises(errors.ChangedError):
        run(in_peru("Acme", "Umbra"), tmp_path / "out", client, [dataclasses.replace(COMPANY, prompt="Study {name}.")])
