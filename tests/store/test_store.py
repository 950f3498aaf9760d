"""The shards: what is appended is durable, what is sealed is there once, and a crash in between loses nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import enrichkit.store.journal
from enrichkit.errors import DamagedError, LockedError, StoreError
from enrichkit.store.files import work_area
from enrichkit.store.index import FOOTER, Index, indexed
from enrichkit.store.journal import JournalEntry
from enrichkit.store.store import Store

ID = "_record_id"
SCHEMA = pa.schema(
    [
        (ID, pa.string()),
        ("s._question", pa.string()),
        ("s._status", pa.string()),
        ("s._paid_by", pa.string()),
        ("s._replies", pa.list_(pa.binary())),
    ]
).with_metadata({FOOTER: json.dumps({"version": 1}).encode()})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the shards go."""
    return tmp_path / "enriched"


def opened(out: Path) -> Store:
    return Store(out, columns=indexed(["s"]))


def entry(name: str, attempt: int = 1, status: str = "done") -> JournalEntry:
    return JournalEntry(name, "s", attempt, status, f"{name}{attempt}".encode())


def rows(*names: str) -> pa.Table:
    values = [
        {
            ID: f"r{name}",
            "s._question": name,
            "s._status": "done",
            "s._paid_by": "x",
            "s._replies": [f"{name}1".encode()],
        }
        for name in names
    ]
    return pa.Table.from_pylist(values, schema=SCHEMA)


def journal_files(out: Path) -> list[str]:
    folder = work_area(out) / "pending"
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_an_appended_reply_is_found_again(out: Path) -> None:
    """What was appended before the process went away is pending at the next start."""
    store = opened(out)
    store.append([entry("a"), entry("b", status="again"), entry("b", 2)])
    store.close()
    again = opened(out)
    assert {name: [one.attempt for one in same] for name, same in again.index.pending.items()} == {
        "a": [1],
        "b": [1, 2],
    }
    again.close()


def test_a_seal_takes_the_parts_place(out: Path) -> None:
    """Parts go when all their replies are sealed, and not before."""
    store = opened(out)
    store.append([entry("a"), entry("b")])
    store.append([entry("c")])
    store.seal(rows("a"), {"a"})
    assert len(journal_files(out)) == 2
    store.seal(rows("b", "c"), {"b", "c"})
    assert journal_files(out) == []
    store.close()
    index = Index(out, {"s._question", "s._status"})
    assert index.ids.to_pylist() == ["ra", "rb", "rc"]
    assert index.shards.tolist() == [0, 1, 1]


def test_a_part_left_behind_by_a_crash_is_recognised(out: Path) -> None:
    """Killed between seal and removal: the replies are in both places and count once."""
    store = opened(out)
    store.append([entry("a")])
    kept = {name: (work_area(out) / "pending" / name).read_bytes() for name in journal_files(out)}
    store.seal(rows("a"), {"a"})
    store.close()
    for name, data in kept.items():
        (work_area(out) / "pending" / name).write_bytes(data)
    again = opened(out)
    assert again.index.pending == {}
    assert journal_files(out) == []
    again.close()


def test_a_newer_reply_to_a_sealed_question_stays_pending(out: Path) -> None:
    """A retry's reply is not taken for the sealed one."""
    store = opened(out)
    store.seal(rows("a"), {"a"})
    store.append([entry("a", 2)])
    store.close()
    again = opened(out)
    assert [one.attempt for one in again.index.pending["a"]] == [2]
    again.close()


def test_sealed_replies_come_back_with_their_payer(out: Path) -> None:
    """Another record that asks the same question can be given the reply for nothing."""
    store = opened(out)
    store.seal(rows("a", "b"), {"a", "b"})
    store.close()
    again = opened(out)
    assert again.sealed_replies("s", ["b", "zz"], again.index.places_of("s", ["b", "zz"])) == {"b": ("x", [b"b1"])}
    again.close()


def test_many_parts_are_merged_into_one(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading back stays quick however many commits there were, and nothing is lost in the merge."""
    monkeypatch.setattr("enrichkit.store.store.MOST_JOURNAL_FILES", 10)
    store = opened(out)
    for number in range(25):
        store.append([entry(str(number))])
    assert len(journal_files(out)) <= 11
    store.close()
    again = opened(out)
    assert len(again.index.pending) == 25
    again.close()


def test_only_shards_lie_in_the_folder_and_every_reader_reads_them(out: Path) -> None:
    """pandas, pyarrow, duckdb and polars see each record once, also while replies are pending."""
    store = opened(out)
    store.seal(rows("a", "b"), {"a", "b"})
    store.seal(rows("c"), {"c"})
    store.append([entry("d")])
    found = [str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()]
    assert sorted(found) == ["shard=s0000/part-0.parquet", "shard=s0001/part-0.parquet"]
    expected = ["ra", "rb", "rc"]
    assert sorted(pd.read_parquet(out)[ID]) == expected
    assert sorted(pq.read_table(out)[ID].to_pylist()) == expected
    assert sorted(polars.scan_parquet(out).collect()[ID]) == expected
    assert sorted(duckdb.sql(f"select {ID} from '{out}/**/*.parquet'").fetchall()) == [(one,) for one in expected]
    store.close()


def test_a_damaged_shard_is_named_and_left_alone(out: Path) -> None:
    """Nothing is overwritten, nothing asked again in silence."""
    store = opened(out)
    number = store.seal(rows("a"), {"a"})
    store.close()
    path = out / f"shard=s{number:04d}" / "part-0.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 4
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="s0000"):
        opened(out).shard(0)  # the index reads some columns only: at the latest, whoever needs the others is told
    assert path.read_bytes() == bytes(data)


def test_a_damaged_part_is_quarantined(out: Path) -> None:
    """A journal file that cannot be read does not stop the run, and is kept for whoever wants to look."""
    store = opened(out)
    store.append([entry("a")])
    store.append([entry("b")])
    store.close()
    path = work_area(out) / "pending" / journal_files(out)[0]
    path.write_bytes(path.read_bytes()[:-20])
    again = opened(out)
    assert list(again.index.pending) == ["b"]
    assert [one.name[9:] for one in again.quarantined] == [path.name]
    assert again.quarantined[0].exists()
    again.close()


def test_an_empty_shard_folder_is_no_shard(out: Path) -> None:
    """A crash between making a folder and filling it leaves one behind."""
    (out / "shard=s0007").mkdir(parents=True)
    store = opened(out)
    assert store.seal(rows("a"), {"a"}) == 0
    store.close()


def test_leftovers_of_a_killed_write_are_cleared(out: Path) -> None:
    """Half-written files never become shards, and do not pile up."""
    opened(out).close()
    scratch = work_area(out) / "tmp"
    scratch.mkdir(exist_ok=True)
    (scratch / "x.tmp").write_bytes(b"half")
    opened(out).close()
    assert list(scratch.iterdir()) == []


def test_a_second_run_is_refused_and_told_who_works(out: Path) -> None:
    """Two runs on one store would pay twice."""
    store = opened(out)
    with pytest.raises(
        LockedError,
        match=r"^A run of this process works on .*: \.show\(\) it, wait until it has ended, \.stop\(\) it, or",
    ):
        opened(out)
    owner = store.work / "owner.json"
    owner.write_text(owner.read_text().replace(f'"pid": {os.getpid()}', '"pid": 4711'))
    with pytest.raises(LockedError, match=r"^Another run works on .* \(process 4711 on .*, since .*\)\. Wait for it"):
        opened(out)
    store.close()
    opened(out).close()


def test_the_lock_of_a_killed_run_is_free(out: Path) -> None:
    """After kill -9 the next run simply starts."""
    code = (
        f"import os, pathlib; from enrichkit.store.store import Store; "
        f"Store(pathlib.Path({str(out)!r}), columns=[]); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    opened(out).close()


def test_a_deleted_lock_file_stops_the_writing(out: Path) -> None:
    """Somebody else may hold a new lock: nothing more is written."""
    store = opened(out)
    (work_area(out) / "lock").unlink()
    with pytest.raises(LockedError, match="removed"):
        store.append([entry("a")])
    store.close()


def test_a_newer_stores_format_is_not_touched(out: Path) -> None:
    """An old version does not guess at what a new one wrote."""
    store = opened(out)
    store.seal(rows("a").replace_schema_metadata({FOOTER: b'{"version": 99}'}), {"a"})
    store.close()
    with pytest.raises(StoreError, match="newer enrichkit"):
        opened(out)


def test_a_reader_misses_no_reply_of_a_journal_that_is_merged_meanwhile(tmp_path, monkeypatch):
    """The files that it has listed are gone, and the one that holds their replies came after."""
    store = Store(tmp_path / "out", columns=indexed(["s"]))
    for number in range(20):
        store.append([entry(f"q{number}")])
    listed = enrichkit.store.journal.names_in

    def listed_too_early(folder):
        names = listed(folder)
        monkeypatch.setattr("enrichkit.store.journal.names_in", listed)
        monkeypatch.setattr("enrichkit.store.store.MOST_JOURNAL_FILES", 10)
        store.append([entry("last")])  # merges
        return names

    monkeypatch.setattr("enrichkit.store.journal.names_in", listed_too_early)
    assert len({reply.question for reply in Index(tmp_path / "out", columns=()).entries}) == 21
