"""Stores that met with something odd: no paid answer is lost or recorded twice, and each trouble is one sentence."""

from __future__ import annotations

import shutil
import threading
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Stage, errors
from enrichkit.messages import Failure, Reply, Usage
from enrichkit.store.files import Files
from enrichkit.store.reader import StoreReader
from enrichkit.store.replies import collect_replies, recorded_cost
from enrichkit.store.store import Store
from proof import crashes
from proof.money import disagreements
from support.clients import BLOCKED, USAGE, Teller
from support.tables import PRICES, Company, in_peru
from support.waiting import wait_for


class Website(Answer):
    address: str | None = None


COMPANY = Stage("company", prompt="Research {country}.", answer=Company, search=False, max_output_tokens=1)
SITE = Stage("site", prompt="Where is {name}?", answer=Website, search=False, max_output_tokens=1)


def run(frame, out, client, stages=(COMPANY,), **settings):
    given = {"key": "name", "model": "m", "prices": PRICES, "progress": False, "workers": 1}
    return enrichkit.run(frame, out=out, client=client, stages=stages, **(given | settings))


def recorded(out):
    """What the store says was spent, in dollars."""
    stored = enrichkit.read(out)
    return stored[[name for name in stored if name.endswith("._cost_usd")]].sum().sum()


@pytest.fixture
def out(tmp_path):
    yield tmp_path / "out"
    assert not list(disagreements(tmp_path / "out", PRICES))


@pytest.mark.parametrize("column", ["company._replies", "country"])
def test_damage_found_on_the_way_loses_no_reply_in_flight(column, out):
    """The run ends and names the shard; what was paid meanwhile is stored all the same."""
    names = [f"n{number}" for number in range(40)]
    run(in_peru(*names), out, Teller(), shard_rows=10)
    crashes.damage(out, column)
    client = Teller(seconds=0.01)
    with pytest.raises(errors.DamagedError, match=r"The shard .* is damaged"):
        run(in_peru(*names), out, client, [COMPANY, SITE], shard_rows=10, workers=5)
    again = Teller()
    with pytest.warns(UserWarning, match="quarantined"):
        run(in_peru(*names), out, again, [COMPANY, SITE], shard_rows=10, redo_damaged=True)
    assert len(client.asked) + sum("Where" in text for text in again.asked) == 40


def test_damage_in_a_shared_answer_names_the_shard(out):
    """Also where only a new record that shares it looks for it."""
    run(in_peru("Acme"), out, Teller())
    crashes.damage(out, "company._replies")
    with pytest.raises(errors.DamagedError, match=r"The shard .* is damaged"):
        run(in_peru("Acme", "Bolt"), out, Teller())


@pytest.fixture
def journal_stays(monkeypatch):
    """As if each run was killed between a seal and the removal of its journal files."""
    monkeypatch.setattr(Store, "_remove", lambda store, paths: None)


def test_a_journal_file_left_behind_is_not_recorded_again(out, journal_stays):
    """Where a failed question of two records is retried for one of them, then for both."""
    failing = Teller({"Research": BLOCKED})
    run(in_peru("Acme", "Bolt"), out, failing)
    client = Teller()
    run(in_peru("Bolt"), out, client, retry_failed=True)
    run(in_peru("Acme", "Bolt"), out, client, retry_failed=True)
    assert recorded(out) == len(failing.asked) + len(client.asked) == 2


def test_a_journal_file_of_another_calls_stage_is_not_counted_again(out, journal_stays):
    """A budget counts what is sealed once, though its journal file is still there."""
    run(in_peru("Acme", "Bolt", country=["Peru", "Fiji"]), out, Teller())
    run(in_peru("Acme", "Bolt"), out, Teller(), [SITE], budget_usd=30)
    assert recorded(out) == 4


def test_an_answer_to_an_older_question_is_not_recorded_again(out, journal_stays):
    """Also where its row has another one by now, and the old question is asked once more."""
    other = Stage("company", prompt="Tell of {country}.", answer=Company, search=False, max_output_tokens=1)
    client = Teller()
    run(in_peru("Acme"), out, client)
    run(in_peru("Acme"), out, client, [other], on_change="redo")
    run(in_peru("Bolt"), out, client)
    assert recorded(out) == len(client.asked)


def test_a_shared_answer_is_recorded_in_one_shard_only(out):
    """Three records in three shards share it."""
    client = Teller()
    run(in_peru("Acme", "Bolt", "Cask"), out, client, shard_rows=1)
    assert len(list(out.rglob("*.parquet"))) == 3
    assert recorded(out) == len(client.asked) == 1


def test_the_cost_of_a_shared_answer_outlives_the_row_that_paid(out):
    """The row's damaged shard is quarantined; a budget counts the reply, which other rows hold, before and after."""
    asked = {"key": "name", "model": "gemini-3.5-flash-lite", "prices": {}, "shard_rows": 1, "progress": False}
    run(in_peru("Acme", "Bolt", "Cask"), out, Teller(), **asked)
    reader = StoreReader(out)
    cost = recorded_cost(reader, {}, simulated=None)
    assert cost == collect_replies(reader, {}).cost
    assert cost.usd > 0
    shard = out / "shard=s0000" / "part-0.parquet"
    aside = out.with_name("aside.parquet")
    shard.rename(aside)
    assert recorded_cost(StoreReader(out, warn=False), {}, simulated=None) is None
    shutil.copy(aside, shard)
    crashes.damage(out, "country")
    client = Teller()
    with pytest.warns(UserWarning, match="quarantined"):
        run(in_peru("Acme", "Bolt", "Cask"), out, client, redo_damaged=True, **asked)
    assert (client.asked, enrichkit.read(out)["company._cost_usd"].sum()) == ([], 0)
    again = enrichkit.start(in_peru("Acme"), out=out, client=client, stages=[COMPANY], budget_usd=1, **asked)
    again.result()
    assert again.status.money.spent_usd == float(cost.usd)


def test_two_stages_that_ask_alike_are_two(out):
    """Each has its own questions, replies and costs."""
    one, two = (Stage(name, prompt="Where is {name}?", answer=Website, search=False) for name in ("one", "two"))
    client = Teller()
    run(in_peru("Acme", "Bolt"), out, client, [one, two])
    assert recorded(out) == len(client.asked) == 4
    assert enrichkit.read(out)["two._attempts"].tolist() == [1, 1]


def test_an_answer_stands_though_what_it_required_has_gone(out):
    """It is not overwritten as skipped, and not asked again."""
    needy = Stage(
        "needy", prompt="Look at {name}", answer=Company, requires=("site.address",), per=("name",), search=False
    )
    silent = Stage("site", prompt="Where, please, is {name}?", answer=Website, search=False)
    client = Teller({"please": '{"address": null, "confidence": "low"}'})
    run(in_peru("Acme"), out, client, [SITE, needy])
    run(in_peru("Acme"), out, client, [silent], on_change="redo")
    run(in_peru("Acme"), out, client, [COMPANY, silent, needy])
    stored = enrichkit.read(out)
    assert stored["needy._status"].tolist() == ["done"]
    assert stored["needy.industry"].tolist() == ["Tea"]
    assert sum("Look" in text for text in client.asked) == 1


def test_the_process_may_move_to_another_folder(tmp_path, monkeypatch):
    """A relative `out` stays where it was when the run began."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    def client(request):
        monkeypatch.chdir(tmp_path / "elsewhere")
        return Reply(text='{"industry": "Tea"}')

    enriched = run(in_peru("Acme", "Bolt", country=["Peru", "Fiji"]), "out", client)
    assert enriched["_status"].tolist() == ["done", "done"]
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text='{"industry": "Tea"}', usage=Usage(prompt_tokens=np.int64(1000), output_tokens=0.0, searches=0)),
        Reply(text='{"industry": "Tea"}', usage=Usage(prompt_tokens="many", output_tokens=True)),
        Reply(text='{"industry": "Tea"}', queries=None, sources=None),
        Reply(text='{"industry": "Tea"}', model_version=5, finish_reason=1),
    ],
    ids=["numpy's numbers", "text for a number", "no lists", "numbers for text"],
)
def test_a_client_of_ones_own_may_be_careless(reply, out):
    """What is no count is unknown; the answer is there."""
    assert run(in_peru("Acme"), out, lambda request: reply)["company.industry"].tolist() == ["Tea"]
    assert enrichkit.verify(out).ok
    cost = enrichkit.read(out)["company._cost_usd"].iloc[0]
    assert cost == 1.0 if isinstance(reply.usage.prompt_tokens, int) else pd.isna(cost)


def test_a_store_that_was_moved_and_linked_back_keeps_its_replies(tmp_path, out):
    """Its work area is missed, and named."""
    with pytest.raises(errors.Stopped):
        run(in_peru("Acme"), out, Teller({"Where": Failure(cause="auth")}), [COMPANY, SITE], workers=1)
    (tmp_path / "big").mkdir()
    shutil.move(out, tmp_path / "big" / "out")
    out.symlink_to(tmp_path / "big" / "out")
    with pytest.raises(
        errors.StoreError, match=r"out\.work holds replies or decisions of .*out\. Move it to .*big/out\.work"
    ):
        run(in_peru("Acme"), out, Teller(), [COMPANY, SITE])
    assert "holds replies or decisions" in "".join(enrichkit.verify(out).problems)
    shutil.rmtree(tmp_path / "big" / "out.work")
    shutil.move(tmp_path / "out.work", tmp_path / "big" / "out.work")
    client = Teller()
    run(in_peru("Acme"), out, client, [COMPANY, SITE])
    assert [text.split()[0] for text in client.asked] == ["Where"]


def test_a_store_in_which_nothing_was_asked_is_neither_real_nor_simulated(out):
    """Records without a person are skipped; the same call again is welcome."""
    frame = pd.DataFrame({"fund.title": ["X", "Y"], "poc.first_name": ["a", "b"], "poc.last_name": [None, None]})
    for _ in range(2):
        enriched = enrichkit.run(frame, out=out, stages=["poc"], model="simulator", progress=False)
    assert enriched["poc._status"].tolist() == ["skipped", "skipped"]
    assert enrichkit.verify(out).ok


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (np.array([2**63 + 5], "uint64"), np.array([5], "int64")),
        (np.array([5], "int64"), np.array([2**63 + 5], "uint64")),
        (np.array([2**53 + 1], "int64"), np.array([0.5])),
    ],
)
@pytest.mark.parametrize("key", ["name", "n"])
def test_large_numbers_stay_what_they_are(then, now, key, out):
    """In an ordinary column and in the key, whatever type the next table gives it."""
    run(in_peru("Acme", n=then), out, Teller(), key=key)
    run(in_peru("Bolt", n=now), out, Teller(), key=key)
    assert enrichkit.verify(out).ok
    if key == "n" or then.dtype.kind == "u":
        assert set(enrichkit.read(out)["n"].map(str)) == {str(then[0]), str(now[0])}


def test_another_reading_may_be_of_another_kind(out):
    """A number becomes a list: what does not fit is read anew, for nothing."""

    class Number(Answer):
        size: int | None = None

    class Numbers(Answer):
        size: list[int] | None = None

    client = Teller({"": '{"size": 7}'})
    for answer in (Number, Numbers, Number):
        stage = Stage("company", prompt="Research {name}.", answer=answer, search=False)
        enriched = run(in_peru("Acme"), out, client, [stage])
    assert enriched["company.size"].tolist() == [7]
    assert len(client.asked) == 1


def test_a_stop_ends_the_last_seal_of_a_broken_disk(out, monkeypatch):
    """It does not wait for ever; what could not be sealed lies in the journal."""
    rename = Files._rename

    def failing(self, path, target):
        if "shard=" in str(target):
            raise OSError(5, "Input/output error")
        rename(self, path, target)

    monkeypatch.setattr(Files, "_rename", failing)
    monkeypatch.setattr("enrichkit.engine.driver.SAVE_AGAIN_SECONDS", 0.01)
    settings = {"stages": [COMPANY], "key": "name", "model": "m", "prices": PRICES, "progress": False}
    job = enrichkit.start(in_peru("Acme"), out=out, client=Teller(), **settings)
    wait_for(lambda: "cannot be written" in job.status.waiting)
    with pytest.raises(errors.StoreError, match="cannot be written: Input/output error"):
        job.stop()
    monkeypatch.setattr(Files, "_rename", rename)
    client = Teller()
    run(in_peru("Acme"), out, client)
    assert client.asked == []


@pytest.mark.parametrize("ends", ["auth", "budget"])
def test_a_stop_is_heeded_though_the_run_had_ended_for_another_reason(ends, out, monkeypatch):
    """And the disk is broken besides."""
    client = Teller({"n5": Failure(cause="auth")} if ends == "auth" else {})
    came, both = [], threading.Event()  # what ends the run comes of the second request, while no reply is stored

    def full(self, path, data):
        raise OSError(28, "No space left on device")

    def filling(request):
        came.append(request)
        if len(came) > 1:
            both.set()
        both.wait(60)
        monkeypatch.setattr(Files, "_write", full)
        return client(request)

    settings = {"key": "name", "model": "m", "prices": PRICES, "progress": False, "workers": 2}
    settings |= {"budget_usd": 2.5} if ends == "budget" else {}
    stage = Stage("company", prompt="Research {name}.", answer=Company, search=False, max_output_tokens=1)
    monkeypatch.setattr("enrichkit.engine.driver.SAVE_AGAIN_SECONDS", 0.01)
    names = [f"n{number}" for number in range(4, 9)]
    job = enrichkit.start(in_peru(*names), out=out, client=filling, stages=[stage], **settings)
    wait_for(lambda: job.status.stopping == ends and "cannot be written" in job.status.waiting)
    with pytest.raises(errors.StoreError, match=r"cannot be written: No space.*[1-4] repl(y is|ies are) not saved"):
        job.stop()


def test_a_stop_is_heeded_before_anything_is_asked(out, monkeypatch):
    """While what an earlier run has left is sealed, and the disk is broken."""
    with pytest.raises(errors.Stopped):
        run(in_peru("Acme"), out, Teller({"Where": Failure(cause="auth")}), [COMPANY, SITE], workers=1)
    rename = Files._rename

    def failing(self, path, target):
        if target.name != ".probe":  # the disk breaks after the store was opened
            raise OSError(5, "Input/output error")
        rename(self, path, target)

    monkeypatch.setattr("enrichkit.engine.driver.SAVE_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(Files, "_rename", failing)
    settings = {"key": "name", "model": "m", "prices": PRICES, "progress": False, "shard_rows": 1}
    job = enrichkit.start(in_peru("Acme"), out=out, client=Teller(), stages=[COMPANY], **settings)
    wait_for(lambda: "cannot be written" in job.status.waiting)
    with pytest.raises(errors.StoreError, match="Input/output error"):
        job.stop()
    monkeypatch.setattr(Files, "_rename", rename)
    client = Teller()
    run(in_peru("Acme"), out, client, [COMPANY])
    assert client.asked == []


def test_an_answer_serves_another_record_though_its_own_has_moved_on(out):
    """Its row is sealed again with another question before the other one is complete; nothing is paid twice."""
    client = Teller()
    run(in_peru("Acme", country="Peru"), out, client, [COMPANY, SITE], shard_rows=1)
    moved = in_peru("Acme", "Bolt", country=["Fiji", "Peru"])
    enriched = run(moved, out, client, [COMPANY, SITE], shard_rows=1, on_change="redo")
    assert enriched["company._status"].tolist() == ["done", "done"]
    assert sum("Peru" in text for text in client.asked) == 1
    assert recorded(out) == len(client.asked) == 4


def test_a_stage_added_changes_no_other_question(out):
    """Not even where it answers a column that another stage's prompt reads, and that the table has."""
    look = Stage("look", prompt="Look at {name} at {site.address}", answer=Company, search=False)
    frame = in_peru("Acme", "Acme too", **{"site.address": ["a.example", "b.example"]})
    client = Teller()
    run(frame, out, client, [look])
    run(frame, out, client, [look, SITE])
    assert sum("Look" in text for text in client.asked) == 2


def test_a_damaged_cost_is_not_taken_for_nothing(out):
    """A budget needs all that was spent."""
    run(in_peru("Acme", "Bolt"), out, Teller())
    crashes.damage(out, "company._cost_usd")
    with pytest.raises(errors.DamagedError):
        run(in_peru("Acme", "Bolt", "Cask"), out, Teller(), [COMPANY, SITE], budget_usd=5.5)


def test_a_broken_connection_may_have_been_charged(out):
    """A reset after the request was sent keeps its worst case set aside; a connection that was refused does not."""
    errors_raised = iter([ConnectionResetError("reset"), ConnectionRefusedError("refused")])

    def client(request):
        if (error := next(errors_raised, None)) is not None:
            raise error
        return Reply(text='{"industry": "Tea"}', usage=USAGE)

    settings = {"stages": [COMPANY], "key": "name", "model": "m", "prices": PRICES, "progress": False}
    job = enrichkit.start(in_peru("Acme"), out=out, client=client, budget_usd=50, **settings)
    assert job.result()["_status"].tolist() == ["done"]
    assert 1 < job.status.money.possibly_usd < 2.5


def test_a_column_named_shard_is_refused(out):
    """Foreign readers take the folders' names for a column of that name."""
    with pytest.raises(errors.InputError, match="cannot be named 'shard'"):
        run(in_peru("Acme", shard=[1]), out, Teller())


def test_what_is_quarantined_is_kept(out):
    """However often the same shard is damaged."""
    for _ in range(3):
        run(in_peru("Acme"), out, Teller())
        path = next(out.rglob("*.parquet"))
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.warns(UserWarning, match="quarantined"):
            run(in_peru("Acme"), out, Teller(), redo_damaged=True)
    assert len(list((out.parent / "out.work" / "quarantine").iterdir())) == 3


def test_two_stages_never_write_one_column(out):
    """Not in two calls either."""
    one, two = (Stage(name, prompt="Where is {name}?", answer=Website, columns="x") for name in ("one", "two"))
    run(in_peru("Acme"), out, Teller(), [one])
    with pytest.raises(
        errors.StageError, match=r"writes the column 'x\.address', which holds the answers of stage 'one'"
    ):
        run(in_peru("Acme"), out, Teller(), [two])


def test_an_enriched_table_may_be_enriched_again(out):
    """What a stage answers is no part of what another one is asked about, though the table has it by now."""
    look = Stage("look", prompt="Look at {site.address} of {name}", answer=Company, search=False)
    client = Teller()
    frame = in_peru("Acme", "Bolt")
    for _ in range(3):
        frame = run(frame, out, client, [SITE, look])
    assert len(client.asked) == 4
    assert frame["look._status"].tolist() == ["done", "done"]


def test_files_where_folders_should_be_are_told(tmp_path, out):
    """Whatever is called: one sentence."""
    out.write_text("a file")
    for verb in (
        lambda: run(in_peru("Acme"), out, Teller()),
        lambda: enrichkit.read(out),
        lambda: enrichkit.verify(out),
    ):
        with pytest.raises((errors.InputError, errors.StoreError), match=r"file|no store"):
            verb()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(errors.StoreError, match="link to nowhere"):
        run(in_peru("Acme"), link, Teller())


def test_strange_files_stop_nobody(out):
    """`verify` names them, the run goes on beside them."""
    with pytest.raises(errors.Stopped):
        run(in_peru("Acme"), out, Teller({"Where": Failure(cause="auth")}), [COMPANY, SITE])
    pending = Path(f"{out}.work") / "pending"
    (part,) = pending.iterdir()
    shutil.copy(part, pending / f"copy of {part.name}")
    (out / "shard=s0007").write_text("no folder")
    (out / ".probe").touch()  # of a run that was killed as it began: it is in nobody's way
    named = [problem.partition(" ")[0] for problem in enrichkit.verify(out).problems if "is not a shard" in problem]
    assert named == [str(out / "shard=s0007")]
    client = Teller()
    run(in_peru("Acme"), out, client, [COMPANY, SITE])
    assert len(client.asked) == 1
    assert recorded(out) == float(Decimal(2))


@pytest.mark.parametrize("text", ["enrichkit.crc32=zz12345678", "enrichkit.crc32=zz00000000"])
@pytest.mark.parametrize("where", ["column", "cell", "answer"])
def test_a_text_that_looks_like_the_checksum_is_a_text(where, text, out):
    """Whoever writes it, the shard is sound, and nothing is asked twice."""
    frame = in_peru("Acme", "Bolt", **{"column": {text: "x"}, "cell": {"note": text}}.get(where, {}))
    client = Teller({"Peru": f'{{"industry": "Tea", "notes": "! {text}"}}'} if where == "answer" else ())
    for _ in range(2):
        assert run(frame, out, client)["_status"].tolist() == ["done", "done"]
    assert len(client.asked) == 1
    assert enrichkit.verify(out).ok


def test_a_shard_that_nobody_could_read_is_not_written(out, monkeypatch):
    """The replies stay where they are, and count."""
    client = Teller()
    with monkeypatch.context() as patch:
        patch.setattr("enrichkit.table.parquet._footer_is_sound", lambda source: False)
        with pytest.raises(errors.StoreError, match="cannot be read again"):
            run(in_peru("Acme"), out, client)
    assert list(out.rglob("*.parquet")) == []
    assert run(in_peru("Acme"), out, client)["_status"].tolist() == ["done"]
    assert len(client.asked) == 1


def test_columns_of_the_users_that_are_named_like_ours_stay_theirs(out):
    """Only a stage's own facts are the store's."""
    frame = in_peru("Acme", **{"x._issues": "hello", "y._replies": "p", "z._status": "s"})
    run(frame, out, Teller())
    assert enrichkit.read(out).loc[0, ["x._issues", "y._replies", "z._status"]].tolist() == ["hello", "p", "s"]


def test_a_table_that_is_changed_meanwhile_keeps_its_answers_in_their_rows(out):
    """The run has a copy."""
    frame = in_peru("d", "b", "c", "a")
    says = {name: f'{{"address": "{name}.example"}}' for name in "dbca"}
    client = Teller({f"⟦{name}⟧": told for name, told in says.items()}, seconds=0.05)
    job = enrichkit.start(
        frame, out=out, model="gemini-3.5-flash-lite", client=client, stages=[SITE], key="name", progress=False
    )
    frame.loc[:, "name"] = list("abcd")
    frame["site.address"] = "mine"
    found = job.result()
    assert found["site.address"].tolist() == [f"{name}.example" for name in found["name"]]
    assert found["name"].tolist() == ["d", "b", "c", "a"]
