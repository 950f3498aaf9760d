"""Damage: whatever single bit a disk turns, and wherever a file ends too early, nothing is silently wrong."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

import enrichkit
from enrichkit import Stage, errors
from enrichkit.messages import Failure, Reply
from enrichkit.store.journal import decode_journal
from enrichkit.table.parquet import read_parquet
from proof import crashes
from proof.money import disagreements
from support.tables import Company

NAMES = ("Acme", "Bolt", "Cask", "Dory", "Eyot", "Fell")


COMPANY = Stage("company", prompt="Research {name}.", answer=Company, search=False)
SITE = Stage("site", prompt="Where is {name}?", answer=Company, search=False)
TABLE = pd.DataFrame({"name": NAMES})


class Teller:
    """Answers with the name that it is asked about, but for the last one's site at first."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked: list[str] = []
        self.fails = fails

    def __call__(self, request):
        if self.fails and request.stage == "site" and NAMES[-1] in request.text:
            return Reply(failure=Failure(cause="auth"))
        self.asked.append(request.question)
        word = request.text.rsplit("⟦", 1)[1].split("⟧", 1)[0]
        return Reply(text=f'{{"industry": "{word}"}}')


def run(out: Path, client, **settings) -> pd.DataFrame:
    given = {
        "stages": [COMPANY, SITE],
        "model": "gemini-3.5-flash-lite",
        "key": "name",
        "progress": False,
        "shard_rows": 3,
        "workers": 1,
    }
    return enrichkit.run(TABLE, out=out, client=client, **given | settings)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A store of two shards and one journal file: its files by name."""
    root = tmp_path_factory.mktemp("sound")
    with pytest.raises(errors.Stopped):
        run(root / "out", Teller(fails=True))
    files = {
        path.relative_to(root): path.read_bytes()
        for path in [*(root / "out").rglob("*.parquet"), *(root / "out.work").rglob("*.tsv")]
    }
    assert sorted(path.parts[0] for path in files) == ["out", "out", "out.work"]
    return files


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Return a file with one bit turned."""
    place = chance.randrange(len(data) * 8)
    return data[: place // 8] + bytes([data[place // 8] ^ 1 << place % 8]) + data[place // 8 + 1 :]


def truncated(data: bytes, chance: random.Random) -> bytes:
    """Return a file that ends too early."""
    return data[: chance.randrange(len(data))]


@pytest.mark.parametrize("damaged", [flipped, truncated])
def test_a_damaged_part_is_always_noticed(damaged, image):
    """300 times each."""
    name = sorted(image)[2]
    chance = random.Random(str(name))
    assert decode_journal(image[name])
    assert not any(decode_journal(damaged(image[name], chance)) for _ in range(300))


@pytest.mark.parametrize("damaged", [flipped, truncated])
def test_a_damaged_shard_is_noticed_or_says_what_it_said(damaged, image, tmp_path):
    """300 times each."""
    name = sorted(image)[0]
    path, chance = tmp_path / "x.parquet", random.Random(str(name))
    path.write_bytes(image[name])
    expected = read_parquet(path)
    noticed = 0
    for _ in range(300):
        path.write_bytes(damaged(image[name], chance))
        table = read_parquet(path)
        assert table is None or table.equals(expected)
        noticed += table is None
    assert noticed > 200  # the others turned a bit of some page's header that no reader looks at


def recovered(image: dict[Path, bytes], name: Path, data: bytes, root: Path) -> str:
    """Run again on a store with one damaged file, repair it, and say how the first run ended."""
    crashes.materialize(image | {name: data}, root)
    client = Teller()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            enriched = run(root / "out", client)
            ending = "told" if told else "not needed"
        except errors.DamagedError as error:
            enriched, ending = None, "refused"
            told_of = str(error)
        if ending == "refused":
            assert str(name) in told_of
            assert not client.asked
            assert (root / name).read_bytes() == data
        if ending == "not needed":  # whatever was damaged, the run had no need of it
            assert enriched["company.industry"].tolist() == list(NAMES)
        enriched = run(root / "out", client, redo_damaged=True)
    assert enriched["company.industry"].tolist() == enriched["site.industry"].tolist() == list(NAMES)
    assert len(client.asked) == len(set(client.asked)) <= 1 + 6  # the one that was missing, and one shard's
    assert sorted(enrichkit.read(root / "out")["name"]) == list(NAMES)
    assert not list(disagreements(root / "out", {}))
    assert {problem for problem in enrichkit.verify(root / "out").problems if "quarantined" not in problem} == set()
    return ending


def every_recovery(image: dict[Path, bytes], rounds: int, root: Path) -> dict[str, int]:
    """Damage each file in turn, by turns in both ways, and return how often a run ended how."""
    chance = random.Random(rounds)
    endings = {"refused": 0, "told": 0, "not needed": 0}
    for number in range(rounds):
        name = sorted(image)[number % 3]
        damaged = (flipped, truncated)[number % 2]
        endings[recovered(image, name, damaged(image[name], chance), root / str(number))] += 1
    return endings


@pytest.mark.parametrize("column", ["company.industry", "site._status", "site._confidence", "_status"])
def test_no_damage_leaves_an_answer_out_of_the_table(column, tmp_path):
    """Whatever column of the user's table it hits, the call is refused before it could return less than it had."""
    client = Teller()
    before = run(tmp_path / "out", client)
    (path, _) = sorted((tmp_path / "out").rglob("*.parquet"))
    group = pq.ParquetFile(path).metadata.row_group(0)
    (hit,) = [one for one in map(group.column, range(group.num_columns)) if one.path_in_schema == column]
    data = bytearray(path.read_bytes())
    data[hit.data_page_offset + hit.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(errors.DamagedError, match="is damaged: its checksum fails"):
        run(tmp_path / "out", client)
    planned = enrichkit.plan(TABLE, out=tmp_path / "out", stages=[COMPANY, SITE], key="name")
    assert [note for note in planned.notes if "is damaged" in note]
    with pytest.warns(UserWarning, match="1 file was quarantined"):
        pd.testing.assert_frame_equal(run(tmp_path / "out", client, redo_damaged=True), before)


def test_no_damage_stops_the_recovery(image, tmp_path):
    """The next run refuses, tells, or has no need of what is lost; told to, it makes the table whole, for no more."""
    endings = every_recovery(image, 18, tmp_path)
    assert endings["refused"]
    assert endings["told"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_six_hundred_damages_do_not_stop_the_recovery(image, tmp_path):
    """The same, 300 bit flips and 300 truncations."""
    assert sum(every_recovery(image, 600, tmp_path).values()) == 600
