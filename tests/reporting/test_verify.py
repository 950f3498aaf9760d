"""The verification: whatever is wrong with a store is said, and nothing is changed."""

from __future__ import annotations

import re
import shutil

import pandas as pd
import pyarrow as pa
import pytest

import enrichkit
from enrichkit import Stage, errors
from enrichkit.messages import Failure, Reply
from enrichkit.table.parquet import encode_parquet, read_parquet
from support.tables import Company

COMPANY = Stage("company", prompt="Research {name}.", answer=Company)
SITE = Stage("site", prompt="Where is {name}?", answer=Company)


def client(request):
    if "n7" in request.text and request.stage == "site":
        return Reply(failure=Failure(cause="auth"))
    return Reply(text='{"industry": "Tea"}')


@pytest.fixture
def out(tmp_path):
    """A store of eight records in two shards, and one reply that is not sealed."""
    frame = pd.DataFrame({"name": [f"n{number}" for number in range(8)], "rank": range(8)})
    settings = {
        "key": "name",
        "model": "gemini-3.5-flash-lite",
        "client": client,
        "progress": False,
        "shard_rows": 4,
        "workers": 1,
    }
    with pytest.raises(errors.Stopped):
        enrichkit.run(frame, out=tmp_path / "out", stages=[COMPANY, SITE], **settings)
    return tmp_path / "out"


def state(out):
    return {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()}


def change(out, edit, number=0):
    """Rewrite a shard with its rows edited, checksums and footer as they should be."""
    path = out / f"shard=s{number:04d}" / "part-0.parquet"
    table = read_parquet(path)
    metadata = table.schema.metadata
    rows = table.to_pylist()
    edit(rows)
    path.write_bytes(encode_parquet(pa.Table.from_pylist(rows, schema=table.schema).replace_schema_metadata(metadata)))


def test_a_sound_store_is_said_to_be_one(out):
    """With its figures; and verifying writes nothing."""
    before = state(out)
    found = enrichkit.verify(out)
    assert (found.ok, found.records, found.shards, found.replies, found.pending) == (True, 7, 2, 14, 1)
    assert "all is well" in str(found)
    assert state(out) == before


def twice(rows):
    rows[1] |= rows[0]


def other_key(rows):
    rows[0]["name"] = "somebody else"


def other_question(rows):
    rows[0]["company._question"] = "0" * 32


def no_reply(rows):
    rows[0]["site._replies"] = []


def nonsense(rows):
    rows[0]["site._replies"] = [b"not JSON"]


def unknown_payer(rows):
    rows[0]["site._paid_by"] = "f" * 32


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (twice, "stored twice"),
        (other_key, "does not belong to its key"),
        (other_question, "none of its replies answers its question"),
        (no_reply, "none of its replies"),
        (nonsense, "cannot be read"),
        (unknown_payer, "is in no shard"),
    ],
)
def test_a_row_that_was_tampered_with_is_named(edit, told, out):
    """Each of the checks sees its own fault, and says where."""
    change(out, edit)
    found = enrichkit.verify(out)
    assert told in " ".join(found.problems)
    assert not found.ok


def test_damage_and_strangers_are_named(out):
    """A shard, a journal file, a file that does not belong there, and what was quarantined."""
    shard = out / "shard=s0001" / "part-0.parquet"
    shard.write_bytes(shard.read_bytes()[:-5])
    (part,) = (out.parent / "out.work" / "pending").iterdir()
    part.write_bytes(b"PAR1")
    (out / "_SUCCESS").touch()
    quarantine = out.parent / "out.work" / "quarantine"
    quarantine.mkdir()
    shutil.copy(shard, quarantine)
    before = state(out)
    told = str(enrichkit.verify(out))
    for word in ("shard=s0001", part.name, "_SUCCESS", "1 file was quarantined in"):
        assert word in told
    assert state(out) == before


def test_one_of_a_thing_is_said_without_an_s(out):
    """In what a verification says, too."""
    (out / "_SUCCESS").touch()
    assert re.search(
        r"7 records in 2 shards, 14 replies, 1 more not sealed yet: 1 problem\.", str(enrichkit.verify(out))
    )


def test_there_must_be_a_store(tmp_path):
    """A wrong path is no healthy store."""
    with pytest.raises(errors.StoreError, match="no store"):
        enrichkit.verify(tmp_path / "nothing")


def test_a_damaged_shard_is_redone_only_when_told(out):
    """Refused and untouched; the others are served; one argument quarantines it and asks for its records alone."""
    path = out / "shard=s0000" / "part-0.parquet"
    data = bytearray(path.read_bytes())
    data[-20] ^= 8
    path.write_bytes(data)
    frame = pd.DataFrame({"name": [f"n{number}" for number in range(7)], "rank": range(7)})
    asked = []

    def counting(request):
        asked.append(request.text)
        return client(request)

    settings = {
        "out": out,
        "key": "name",
        "model": "gemini-3.5-flash-lite",
        "client": counting,
        "stages": [COMPANY, SITE],
        "progress": False,
    }
    with pytest.warns(UserWarning, match="s0000"):
        assert sorted(enrichkit.read(out)["name"]) == ["n4", "n5", "n6"]
    with pytest.raises(errors.DamagedError, match="redo_damaged"):
        enrichkit.run(frame, **settings)
    assert path.read_bytes() == bytes(data)
    assert asked == []
    with pytest.warns(UserWarning, match="quarantined"):
        enriched = enrichkit.run(frame, redo_damaged=True, **settings)
    assert enriched["_status"].tolist() == ["done"] * 7
    assert len(asked) == 8
    assert [one.read_bytes() for one in (out.parent / "out.work" / "quarantine").iterdir()] == [bytes(data)]
    assert len(enrichkit.read(out)) == 7
