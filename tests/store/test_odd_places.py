"""Places and names for `out`: where a store cannot be, every verb says so in one sentence, and asks nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest

import enrichkit
from enrichkit import Stage, errors
from enrichkit.__main__ import main
from enrichkit.store.files import area_beside, check_place, is_store, work_area
from support.clients import Teller
from support.tables import Company

COMPANY = Stage("company", prompt="What does {name} make?", answer=Company, search=False)


def frame(count=6):
    return pd.DataFrame({"name": [f"Firm {number}" for number in range(count)]})


def run(out, client):
    return enrichkit.run(frame(), out=out, client=client, stages=[COMPANY], key="name", model="m", progress=False)


@pytest.fixture
def stores(tmp_path):
    """A folder of two stores, as partitions."""
    for name in ("part=a", "part=b"):
        run(tmp_path / "OUT" / name, Teller())
    return tmp_path / "OUT"


def within_a_store(stores):
    return stores / "part=a" / "in", "in lies in the store"


def within_a_shard(stores):
    return stores / "part=a" / "shard=s0000", "lies in the store"


def within_a_work_area(stores):
    return stores / "_part=a.work" / "in", "in is or lies in a work area"


def folder_of_stores(stores):
    return stores, f"{stores} holds 2 stores: part=a, part=b. Name one."


def behind_a_link(stores):
    (stores.parent / "link").symlink_to(stores / "part=a")
    return stores.parent / "link" / "in", "lies in the store"


def too_long(stores):
    return stores.parent / ("x" * 252), "cannot be a store's folder: with .work"


def too_long_in_bytes(stores):
    return stores.parent / ("ü" * 126), "cannot be a store's folder: with .work"


def too_long_above(stores):
    return stores.parent / ("x" * 300) / "out", "cannot be a store's folder: File name too long"


def loop(stores):
    (stores.parent / "loop").symlink_to("loop")
    return stores.parent / "loop", "cannot be a store's folder: "


def loop_above(stores):
    (stores.parent / "loop").symlink_to("loop")
    return stores.parent / "loop" / "out", "cannot be a store's folder: Too many levels"


def nul(stores):
    return f"{stores}\0", "cannot be a store's folder: embedded null byte"


def root(stores):
    return "/", "cannot be a store's folder: it has no name of its own"


def above(stores):
    return "..", "cannot be a store's folder: it has no name of its own"


def empty(stores):
    return " ", "cannot be a store's folder: it has no name"


def nobody(stores):
    return "~nosuchuser/out", "cannot be a store's folder: Could not determine home directory"


ODD = [
    *(within_a_store, within_a_shard, within_a_work_area, folder_of_stores, behind_a_link, too_long, too_long_in_bytes),
    *(too_long_above, loop, loop_above, nul, root, above, empty, nobody),
]
VERBS = {
    "run": lambda out, client: run(out, client),
    "start": lambda out, client: enrichkit.start(frame(), out=out, client=client, stages=[COMPANY], model="m"),
    "plan": lambda out, client: enrichkit.plan(frame(), out=out, client=client, stages=[COMPANY], model="m"),
    "read": lambda out, client: enrichkit.read(out),
    "report": lambda out, client: enrichkit.report(out),
    "verify": lambda out, client: enrichkit.verify(out),
    "costs": lambda out, client: enrichkit.costs(out),
    "corrections": lambda out, client: enrichkit.trust.corrections(out),
    "evidence": lambda out, client: enrichkit.trust.evidence(out),
    "weak": lambda out, client: enrichkit.trust.weak(out),
    "export": lambda out, client: enrichkit.export(out, "x.csv"),
}


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.__name__)
def test_every_verb_says_in_one_sentence_why_no_store_can_be_there(odd, stores):
    """The same one, and nothing is asked or made."""
    out, sentence = odd(stores)
    before, client, told = sorted(stores.parent.rglob("*")), Teller(), set()
    for verb in VERBS.values():
        with pytest.raises(errors.InputError) as refused:
            verb(out, client)
        told.add(str(refused.value))
    assert len(told) == 1
    assert sentence in told.pop()
    assert client.asked == []
    assert sorted(stores.parent.rglob("*")) == before


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd is not nul], ids=lambda odd: odd.__name__)
def test_the_command_line_says_the_same(odd, stores, capsys, tmp_path):
    """Code 2, with its own spelling of `out`."""
    out, sentence = odd(stores)
    frame().to_csv(tmp_path / "data.csv", index=False)
    for command in (
        ["run", "--input", str(tmp_path / "data.csv"), "--model", "simulator", "--checkpoint"],
        *([name] for name in ("status", "report", "verify")),
    ):
        assert main([*command, str(out)]) == 2
        told = capsys.readouterr().err
        assert sentence in told
        assert told.count("\n") == 1


def folder_of_letters(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("Dear Sir")
    return tmp_path / "letters", "a folder with other things in it, such as letter.txt"


def a_file(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file", "file is a file"


def work_area_that_is_a_store(tmp_path):
    run(tmp_path / "a.work", Teller())
    return tmp_path / "a", "a.work, the work area of .*a, is a store"


@pytest.mark.parametrize("odd", [folder_of_letters, a_file, work_area_that_is_a_store], ids=lambda odd: odd.__name__)
def test_a_run_and_its_plan_are_refused_where_something_else_is(odd, tmp_path):
    """Before anything is asked or written; whoever reads there hears that there is no store."""
    out, sentence = odd(tmp_path)
    client, before = Teller(), sorted(tmp_path.rglob("*"))
    for verb in ("run", "start", "plan"):
        with pytest.raises(errors.InputError, match=sentence):
            VERBS[verb](out, client)
    for verb in ("read", "report", "verify"):
        with pytest.raises(errors.StoreError, match="There is no store at"):
            VERBS[verb](out, client)
    assert client.asked == []
    assert sorted(tmp_path.rglob("*")) == before


MOUNTED = """
import sys
from pathlib import Path
from enrichkit import errors
from enrichkit.store.files import check_place
try:
    check_place(Path(sys.argv[1]))
except errors.InputError as error:
    print(error)
"""


def test_a_mount_point_is_refused(tmp_path):
    """Of a folder of the same disk, too, whose name has a blank: it would have two locks."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "my out").mkdir()
    script = f'mount --bind "{tmp_path}/disk" "{tmp_path}/my out" && "{sys.executable}" -c "$0" "{tmp_path}/my out"'
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, MOUNTED], capture_output=True, text=True, check=False)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("nobody may mount here")
    assert "my out is a mount point" in done.stdout, done.stderr
    check_place(tmp_path / "my out")


def test_another_disk_that_is_mounted_is_refused():
    """As a volume of a container is."""
    with pytest.raises(errors.InputError, match=r"/dev/shm is a mount point|other things in it"):
        check_place(Path("/dev/shm"))


def test_other_programs_read_a_folder_of_stores_as_one_table(stores):
    """Their work areas begin with _, which pandas and PyArrow pass over."""
    assert sorted(path.name for path in stores.iterdir()) == ["_part=a.work", "_part=b.work", "part=a", "part=b"]
    table = pd.read_parquet(stores)
    assert len(table) == 12
    assert table["part"].value_counts().to_dict() == {"a": 6, "b": 6}
    assert ds.dataset(stores, format="parquet").count_rows() == 12
    assert len(enrichkit.read(stores / "part=a")) == 6


def test_an_old_work_area_of_a_partition_stays_in_use(tmp_path):
    """Its replies are not left behind."""
    (tmp_path / "part=a.work").mkdir()
    run(tmp_path / "part=a", Teller())
    assert work_area(tmp_path / "part=a").name == "part=a.work"
    assert area_beside(tmp_path / "part=b").name == "_part=b.work"


def test_a_stray_work_area_makes_no_store(tmp_path):
    """An empty one, or one with anything else in it; a lock, a manifest or a reply does."""
    area = tmp_path / "out.work"
    (area / "pending").mkdir(parents=True)
    (area / "run.log").write_text("")
    with pytest.raises(errors.StoreError, match="There is no store at"):
        enrichkit.read(tmp_path / "out")
    for name in ("lock", "manifest.json", "pending/1.tsv"):
        (area / name).write_text("")
        assert is_store(tmp_path / "out")
        (area / name).unlink()


def test_a_name_with_room_for_its_work_area_is_a_name(tmp_path):
    """250 bytes."""
    assert len(run(tmp_path / ("x" * 250), Teller())) == 6


def test_a_note_beside_the_shards_and_a_hidden_file_stop_nobody(tmp_path):
    """What is a store already goes on, and an empty folder may have what a file manager leaves there."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").write_text("")
    run(tmp_path / "out", Teller())
    (tmp_path / "out" / "note.txt").write_text("mine")
    client = Teller()
    run(tmp_path / "out", client)
    assert client.asked == []
