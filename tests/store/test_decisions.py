"""Decisions: durable once made, whoever else writes; the newest wins."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from enrichkit.store.decisions import Decision, about_of, read_decisions, write_decisions
from enrichkit.store.files import Files, is_store, stray_work_area, work_area

FUND = {"per": ["fund.title"], "ignore_case": True}
CITY = Decision(
    stage="fund",
    column="fund.city",
    about=about_of({"fund.title": "Borealis"}, FUND),
    record_id="1f",
    value="Oslo",
    cell=None,
    verdict="right",
)


def test_decisions_come_back_as_they_were_made_oldest_first(tmp_path):
    """A file for each call, none replaced; each says when it was made."""
    write_decisions(tmp_path / "out", [CITY, replace(CITY, column="fund.country", value="Norge\n«é»")])
    write_decisions(tmp_path / "out", [replace(CITY, verdict="value", instead="Bergen", cell="Oslo ", stored="OSLO")])
    first, second, third = read_decisions(tmp_path / "out")
    assert [replace(each, at="") for each in (first, second)] == [
        CITY,
        replace(CITY, column="fund.country", value="Norge\n«é»"),
    ]
    assert (third.verdict, third.instead, third.cell, third.stored) == ("value", "Bergen", "Oslo ", "OSLO")
    assert first.at == second.at < third.at


def test_a_decision_is_durable_once_it_is_made(tmp_path, monkeypatch):
    """Synced under a name that nobody reads, renamed, its folder synced; as the folders are that are new."""
    steps = []
    for name in ("_write", "_rename", "_sync_folder"):
        do = getattr(Files, name)
        step = lambda self, *given, name=name, do=do: (do(self, *given), steps.append((name, *given)))  # noqa: E731
        monkeypatch.setattr(Files, name, step)
    write_decisions(tmp_path / "out", [CITY])
    folder = work_area(tmp_path / "out") / "decisions"
    assert steps[:2] == [("_sync_folder", tmp_path), ("_sync_folder", folder.parent)]
    (_, temporary, _), renamed, synced = steps[2:]
    assert temporary.suffix == ".tmp"
    assert (renamed, synced) == (("_rename", temporary, next(folder.iterdir())), ("_sync_folder", folder))


def test_what_a_kill_left_half_written_is_no_decision(tmp_path):
    """It has a name of its own, and is passed over in silence."""
    write_decisions(tmp_path / "out", [CITY])
    (work_area(tmp_path / "out") / "decisions" / "1f.tmp").write_bytes(b"{")
    assert len(read_decisions(tmp_path / "out")) == 1


def test_decisions_beside_a_link_are_stray(tmp_path):
    """As replies are: the store that the link leads to would not have them."""
    (tmp_path / "big").mkdir()
    write_decisions(tmp_path / "out", [CITY])
    (tmp_path / "out").symlink_to(tmp_path / "big")
    assert stray_work_area(tmp_path / "out") == tmp_path / "out.work"


def test_a_newer_decision_is_newer_though_the_clock_was_set_back(tmp_path):
    """The order of the files is the order in which they were written."""
    write_decisions(tmp_path / "out", [CITY])
    [path] = (work_area(tmp_path / "out") / "decisions").iterdir()
    path.rename(path.with_name(path.name.replace(path.name[:4], "2999", 1)))
    write_decisions(tmp_path / "out", [replace(CITY, verdict="wrong")])
    assert [decision.verdict for decision in read_decisions(tmp_path / "out")] == ["right", "wrong"]


def test_many_may_decide_at_a_time(tmp_path):
    """There is no lock, and nobody takes away what another has written."""

    def decide(number):
        for _ in range(10):
            write_decisions(tmp_path / "out", [replace(CITY, record_id=str(number))])

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_decisions(tmp_path / "out")) == 40


def test_a_damaged_file_is_told_and_the_others_count(tmp_path):
    """A flipped bit must not make another decision of it."""
    write_decisions(tmp_path / "out", [CITY])
    [path] = (work_area(tmp_path / "out") / "decisions").iterdir()
    path.write_bytes(path.read_bytes().replace(b"right", b"wrong"))
    write_decisions(tmp_path / "out", [replace(CITY, verdict="unsure")])
    with pytest.warns(UserWarning, match="is damaged: the decisions in it do not count"):
        assert [decision.verdict for decision in read_decisions(tmp_path / "out")] == ["unsure"]


def test_a_work_area_with_decisions_alone_is_a_stores(tmp_path):
    """What a person decided is never taken for litter."""
    assert not is_store(tmp_path / "out")
    write_decisions(tmp_path / "out", [CITY])
    assert is_store(tmp_path / "out")


def test_a_question_is_about_its_cells_as_its_stage_takes_them():
    """Ignoring case where it does; a lab may be called US beside one called us."""
    assert about_of({"fund.title": "BOREALIS "}, FUND) == about_of({"fund.title": "Borealis"}, FUND)
    assert about_of({"name": "US"}, {"per": ["name"]}) != about_of({"name": "us"}, {"per": ["name"]})
    assert about_of({"b": 1.0, "a": None}, {"per": ["b", "a"]}) == about_of({"a": "", "b": "1"}, {"per": ["a", "b"]})
