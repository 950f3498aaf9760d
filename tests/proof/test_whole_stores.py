"""Stores that are not whole: what was removed, copied or put back is named, and refused before anything is paid."""

from __future__ import annotations

import json
import shutil
import signal
import sys

import pandas as pd
import pytest

import enrichkit
from enrichkit import errors
from enrichkit.store.files import Files
from enrichkit.store.store import Store
from proof import crashes
from support import programs
from support.clients import Teller
from support.tables import PRICES, Company

COMPANY = enrichkit.Stage("company", prompt="What does {name} make?", answer=Company, search=False)
NAMES = [f"Firm {number}" for number in range(30)]


def run(out, client, *, names=NAMES, **settings):
    given = {"key": "name", "model": "m", "prices": PRICES, "progress": False, "workers": 1, "shard_rows": 10}
    return enrichkit.run(pd.DataFrame({"name": names}), out=out, client=client, stages=[COMPANY], **given | settings)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A store of three full shards; beside it what it was two shards earlier."""
    root = tmp_path_factory.mktemp("sound")
    run(root / "out", Teller(), names=NAMES[:5])
    shutil.copytree(root / "out", root / "yesterday")
    shutil.copytree(root / "out.work", root / "yesterday.work")
    enrichkit.run(
        pd.DataFrame({"name": NAMES, "country": "Peru"}),
        **{"out": root / "out", "client": Teller(), "stages": [COMPANY], "key": "name", "model": "m"},
        **{"prices": PRICES, "progress": False, "workers": 1, "shard_rows": 10},
    )
    return root


@pytest.fixture
def out(sound, tmp_path):
    """A copy of that store."""
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out"


def shard(out, number):
    return out / f"shard=s{number:04d}"


def without_manifest(out):
    (out.parent / "out.work" / "manifest.json").unlink()


def removed(out):
    shutil.rmtree(shard(out, 1))


def newest_removed(out):
    shutil.rmtree(max(out.iterdir()))


def copied(out):
    shutil.copytree(shard(out, 1), shard(out, 7))


def renamed(out):
    shard(out, 1).rename(shard(out, 7))


def restored(out):
    shutil.rmtree(out)
    shutil.copytree(out.parent / "yesterday", out)


def one_restored(out):
    shutil.copytree(out.parent / "yesterday" / "shard=s0000", shard(out, 0), dirs_exist_ok=True)


def emptied(out):
    shutil.rmtree(out)
    out.mkdir()


def file_removed(out):
    (shard(out, 1) / "part-0.parquet").unlink()


def removed_without_manifest(out):
    without_manifest(out)
    removed(out)


def copied_twice_without_manifest(out):
    without_manifest(out)
    copied(out)
    shutil.copytree(shard(out, 1), shard(out, 8))


def removed_beyond_an_old_manifest(out):
    shutil.copy(out.parent / "yesterday.work" / "manifest.json", out.parent / "out.work" / "manifest.json")
    removed(out)


WRONG = {
    removed: "Shard s0001 (10 records) is gone from {out}.",
    newest_removed: "Shard s0003 (5 records) is gone from {out}.",
    copied: "Shard s0007 in {out} is a copy of s0001.",
    renamed: "Shard s0007 in {out} is a copy of s0001.",
    restored: "Shards s0001, s0002, s0003 (25 records) are gone from {out}.",
    one_restored: "Shard s0000 (5 records) was replaced by an older one in {out}.",
    emptied: "Shards s0000, s0001, s0002 and 1 more (30 records) are gone from {out}.",
    file_removed: "Shard s0001 (10 records) is gone from {out}.",
    removed_without_manifest: "Shard s0001 is gone from {out}.",
    copied_twice_without_manifest: "Shard s0008 in {out} is a copy of s0001.",
    removed_beyond_an_old_manifest: "Shard s0001 is gone from {out}.",
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_what_is_not_as_it_was_sealed_is_named_and_refused_before_it_is_paid(wrong, out):
    """By `verify` and by `run`, with what to do; the plan says it, `read` warns, and gives no record twice."""
    wrong(out)
    sentence, client = WRONG[wrong].format(out=out), Teller()
    assert sentence in enrichkit.verify(out).problems
    with pytest.raises(errors.DamagedError) as refused:
        run(out, client)
    assert sentence in str(refused.value)
    assert "redo_damaged=True" in str(refused.value)
    plan = enrichkit.plan(pd.DataFrame({"name": NAMES}), out=out, stages=[COMPANY], key="name", model="m")
    assert any(sentence in note for note in plan.notes)
    with pytest.warns(UserWarning, match="What is there is read") as warned:
        stored = enrichkit.read(out)
    assert any(sentence in str(warning.message) for warning in warned)
    assert stored["_record_id"].is_unique
    assert client.asked == []


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
@pytest.mark.filterwarnings("ignore:1 file was quarantined", "ignore:2 files were quarantined")
def test_told_to_it_goes_on_with_what_is_there(wrong, out):
    """Each record that is missing is asked once, no other one, and after that all is well."""
    wrong(out)
    there = {
        name
        for path in out.rglob("*.parquet")
        for name in pd.read_parquet(path, columns=["name"], partitioning=None)["name"]
    }
    client = Teller()
    assert run(out, client, redo_damaged=True)["_status"].eq("done").all()
    assert sum("What does" in text for text in client.asked) == len(NAMES) - len(there)
    assert not [problem for problem in enrichkit.verify(out).problems if "quarantined" not in problem]
    again = Teller()
    run(out, again)
    assert again.asked == []
    assert sorted(enrichkit.read(out)["name"]) == sorted(NAMES)


def test_a_shard_that_is_put_back_after_its_records_were_asked_again_is_named(out):
    """Then two shards hold the same records: neither is dropped, and nothing is asked."""
    aside = shard(out, 1).rename(out.parent / "aside")
    run(out, Teller(), redo_damaged=True)
    aside.rename(shard(out, 1))
    with pytest.raises(errors.DamagedError, match=r"s0001 and s0004 in .* hold some records twice\. Move one"):
        run(out, Teller())
    assert enrichkit.read(out)["name"].is_unique
    assert any("is stored twice" in problem for problem in enrichkit.verify(out).problems)


def copied_while_running(out):
    """The work area first, then the shards: the manifest is older than they are."""
    shutil.rmtree(out.parent / "out.work")
    shutil.copytree(out.parent / "yesterday.work", out.parent / "out.work")


def copied_alone(out):
    shutil.rmtree(out.parent / "out.work")


def manifest_damaged(out):
    path = out.parent / "out.work" / "manifest.json"
    path.write_text(path.read_text().replace('"rows": 10', '"rows": 11', 1))


def put_back(out):
    shard(out, 1).rename(out.parent / "aside")
    (out.parent / "aside").rename(shard(out, 1))


def of_yesterday_altogether(out):
    restored(out)
    copied_while_running(out)


HARMLESS = [copied_while_running, copied_alone, manifest_damaged, put_back, without_manifest, of_yesterday_altogether]


@pytest.mark.parametrize("harmless", HARMLESS, ids=lambda harmless: harmless.__name__)
def test_what_is_whole_by_all_that_can_be_known_is_no_false_alarm(harmless, out):
    """`read` says nothing, the run asks what is missing, if anything, and writes the manifest anew."""
    harmless(out)
    missing = len(NAMES) - len(enrichkit.read(out))
    problems = enrichkit.verify(out).problems
    assert problems == () or (harmless is manifest_damaged and "is damaged" in problems[0])
    client = Teller()
    assert run(out, client)["_status"].eq("done").all()
    assert len(client.asked) == missing
    found = enrichkit.verify(out)
    assert found.ok
    assert found.unseen == ""


def test_what_cannot_be_seen_without_a_manifest_is_said(out):
    """A newest shard that is missing: by `verify` and by the plan."""
    copied_alone(out)
    newest_removed(out)
    assert "a missing newest shard cannot be seen" in str(enrichkit.verify(out))
    plan = enrichkit.plan(pd.DataFrame({"name": NAMES}), out=out, stages=[COMPANY], key="name", model="m")
    assert any("a missing newest shard cannot be seen" in note for note in plan.notes)


def test_a_quarantined_shard_is_not_missed(out):
    """Not with a manifest, and not by the footers alone once something was sealed after it; nor after a crash."""
    crashes.damage(out, "company.industry")

    def killed(store, path, name):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_quarantine", killed)
        with pytest.raises(KeyboardInterrupt):
            run(out, Teller(), redo_damaged=True)
    with pytest.raises(errors.DamagedError, match="checksum fails"):
        run(out, Teller())
    with pytest.warns(UserWarning, match="quarantined"):
        run(out, Teller(), redo_damaged=True)
    run(out, Teller())
    copied_alone(out)
    run(out, Teller())
    assert enrichkit.verify(out).ok


def test_a_manifest_that_cannot_be_written_fails_the_seal_and_costs_nothing(out, monkeypatch):
    """The run ends or waits as for any fault of the disk; the same call then asks nothing again."""
    put, failed = Files.put, []

    def failing(files, path, data):
        if path.name == "manifest.json" and not failed:
            failed.append(path)
            raise OSError(28, "No space left on device")
        put(files, path, data)

    monkeypatch.setattr(Files, "put", failing)
    monkeypatch.setattr("enrichkit.engine.driver.SAVE_AGAIN_SECONDS", 0.01)
    more, client = [*NAMES, "Late & Co"], Teller()
    run(out, client, names=more)
    assert failed
    run(out, client, names=more)
    assert len(client.asked) == 1
    assert enrichkit.verify(out).ok


KILLED = """
import os, signal, sys
import pandas as pd, enrichkit
from enrichkit.messages import Reply
from enrichkit.store.files import Files

put, left, seals = Files.put, int(sys.argv[2]), []

def killing(files, path, data):
    if path.name == "manifest.json":
        seals.append(path)
        if len(seals) > left:
            os.kill(os.getpid(), signal.SIGKILL)
    put(files, path, data)

Files.put = killing
class Company(enrichkit.Answer):
    industry: str | None = None
stage = enrichkit.Stage("company", prompt="What does {name} make?", answer=Company, search=False)
names = [f"Firm {number}" for number in range(int(sys.argv[3]))]
enrichkit.run(pd.DataFrame({"name": names}), out=sys.argv[1], stages=[stage], key="name", model="m", shard_rows=2,
              client=lambda request: Reply(text='{"industry": "Tea"}'), progress=False, workers=1)
"""


def kills_between_shard_and_manifest(out, kills):
    """Kill a run each time between a shard and its manifest, go on, and return how often that gave an alarm."""
    alarms = 0
    for number in range(kills):
        arguments = [sys.executable, "-c", KILLED, str(out), str(number % 3), str(8 * (number + 1))]
        ended = programs.run(arguments, capture_output=True, text=True)
        assert ended.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), ended.stderr
        alarms += bool(enrichkit.verify(out).problems)
        reader = enrichkit.store.reader.StoreReader(out, warn=False)
        alarms += bool(reader.found_flaws)
    return alarms


def test_a_kill_between_shard_and_manifest_gives_no_false_alarm(tmp_path):
    """The shard's own footer says that it is newer than the manifest."""
    assert kills_between_shard_and_manifest(tmp_path / "out", 3) == 0


@pytest.mark.slow
def test_fifty_kills_between_shard_and_manifest_give_no_false_alarm(tmp_path):
    """The same, at the first seal, the second and the third."""
    assert kills_between_shard_and_manifest(tmp_path / "out", 50) == 0


def test_the_manifest_says_number_rows_and_seal_of_each_shard(out):
    """And each shard's footer says the same, and the highest number."""
    manifest = json.loads((out.parent / "out.work" / "manifest.json").read_text())
    assert [(entry["number"], entry["rows"]) for entry in manifest["shards"]] == [(0, 5), (1, 10), (2, 10), (3, 5)]
    facts = enrichkit.store.reader.StoreReader(out).footers
    assert [shard["seal"] for shard in facts.values()] == [entry["seal"] for entry in manifest["shards"]]
    assert max(shard["highest"] for shard in facts.values()) == 3
