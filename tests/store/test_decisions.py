"""Decisions: durable once made, whoever else writes; the newest wins."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from enrichkit.store.decisions import Decision, about_of, read_decisions, standing, write_decisions
from enrichkit.store.files import is_store, work_area

CITY = Decision(
    stage="fund",
    column="fund.city",
    about=about_of({"fund.title": "Borealis"}, ["fund.title"]),
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
    assert standing([first, second, third]) == {("fund.city", CITY.about): third, ("fund.country", CITY.about): second}


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


def test_only_the_built_in_keys_ignore_case():
    """As the records do: a lab may be called US beside one called us."""
    assert about_of({"fund.title": "BOREALIS "}, ["fund.title"]) == about_of({"fund.title": "Borealis"}, ["fund.title"])
    assert about_of({"name": "US"}, ["name"]) != about_of({"name": "us"}, ["name"])
    assert about_of({"b": 1.0, "a": None}, ["b", "a"]) == about_of({"a": "", "b": "1"}, ["a", "b"])
