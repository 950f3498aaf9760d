"""Identity against evidence: rows of one key that contradict each other, and cells that have changed since."""

from __future__ import annotations

import re

import pandas as pd
import pytest

import enrichkit
from enrichkit import Stage, errors
from enrichkit.cli.flags import shell
from enrichkit.formatting import spelled
from support.clients import Teller
from support.tables import Company

PORT = Stage("port", prompt="Research {name} in {county}.", answer=Company, search=False)
HINTED = Stage("port", prompt="Research {name} in {county}.", answer=Company, search=False, per=("name",))


def run(frame, tmp_path, client, **settings):
    settings = {"stages": [PORT], "key": "name", "client": client, "model": "m", "progress": False} | settings
    return enrichkit.run(frame, out=tmp_path / "out", **settings)


def plan(frame, tmp_path, **settings):
    return enrichkit.plan(frame, **{"out": tmp_path / "out", "stages": [PORT], "key": "name", "model": "m"} | settings)


def ports(*pairs, index=None, **more):
    names, counties = zip(*pairs, strict=True)
    return pd.DataFrame({"name": names, "county": counties} | more, index=index)


HOLM = ports(("Holm", "North"), ("Holm", "South"))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (HOLM, "Rows 1 and 2 have the key 'Holm', but another county, which stage 'port' asks about. Give key="),
        (
            ports(*zip(["Marl", "Holm", "Holm", "Holm", "Osk", "Osk"], "NNNSNS", strict=True), index=list("abcdef")),
            "Rows 2 (index 'b') and 4 (index 'd') have the key 'Holm', but another county, which stage 'port' asks "
            "about (and so with 1 more key).",
        ),
        (ports(("Holm", None), ("Holm", "N"), ("Holm", "S")), "Rows 2 and 3 have the key 'Holm'"),
        (ports(("Holm", 1), ("Holm", 2.5), (" Holm ", 1)), "Rows 1 and 2 have the key 'Holm'"),
        (ports(("Holm", "n"), ("Holm", "N")), "Rows 1 and 2 have the key 'Holm'"),
    ],
)
def test_rows_of_one_key_with_two_questions_are_refused(frame, words, tmp_path):
    """Before anything is asked or written, with both cures; the plan says so, too."""
    client = Teller()
    with pytest.raises(errors.InputError, match=re.escape(words)):
        run(frame, tmp_path, client)
    found = plan(frame, tmp_path)
    assert words in found.notes[0]
    assert found.next_line.startswith("Next: give such rows keys of their own, or drop some;")
    assert (client.asked, list(tmp_path.iterdir())) == ([], [])


def test_both_cures_work(tmp_path):
    """The key that the message names makes two records; one of the rows is one."""
    client = Teller()
    with pytest.raises(errors.InputError) as caught:
        run(HOLM, tmp_path, client)
    assert str(caught.value).endswith("Give key=['name', 'county'], or drop one.")
    assert spelled(caught.value.sentence, shell()).endswith("Give --key 'name' --key 'county', or drop one.")
    assert run(HOLM, tmp_path, client, key=["name", "county"])["_status"].tolist() == ["done"] * 2
    assert len(client.asked) == 2
    assert run(HOLM[1:], tmp_path / "other", client)["_status"].tolist() == ["done"]


@pytest.mark.parametrize(
    "frame",
    [
        ports(("Holm", "North"), ("Marl", "South")),
        ports(("Holm", "North"), (" Holm", "North "), ("Holm", None)),
        ports(("Holm", 1), ("Holm", 1.0), ("Holm", "1")),
        ports(("Holm", None), ("Holm", "")),
    ],
)
def test_rows_that_say_the_same_are_one_record(frame, tmp_path, caplog):
    """However it is spelled; a gap beside a value contradicts nothing."""
    found = plan(frame, tmp_path)
    assert (found.fix_first, found.records) == ("", frame["name"].str.strip().nunique())
    assert not [note for note in found.notes if "another" in note]
    run(frame, tmp_path, Teller())
    assert caplog.messages == []


def test_what_is_compared_without_case_may_differ_in_it(tmp_path):
    """As the stage itself says."""
    stage = Stage("port", prompt=PORT.prompt, answer=Company, ignore_case=True)
    assert plan(ports(("Holm", "north"), ("Holm", "NORTH")), tmp_path, stages=[stage]).fix_first == ""


@pytest.mark.parametrize(
    ("frame", "stage"), [(HOLM, HINTED), (ports(("Holm", None), ("Holm", "South")), PORT)], ids=["hint", "below a gap"]
)
def test_what_only_the_first_row_is_read_for_is_said_once(frame, stage, tmp_path, caplog):
    """Another hint makes no other question; a value below a gap is missed: the plan and one warning say so."""
    words = "Rows 1 and 2 have the key 'Holm', but another county; only the first of them is read."
    assert words in plan(frame, tmp_path, stages=[stage]).notes
    client = Teller()
    assert run(frame, tmp_path, client, stages=[stage])["_status"].tolist() == ["done"] * 2
    assert (len(client.asked), caplog.messages) == (1, [words])


def test_persons_at_one_fund_are_no_repeated_fund(tmp_path):
    """The built-in stages share a fund's question by `per`; under a key of funds alone, persons contradict."""
    funds = pd.DataFrame(
        {"fund.title": ["Borealis"] * 2, "poc.first_name": ["Ana", "Eva"], "poc.last_name": ["Aas"] * 2}
    )
    assert plan(funds, tmp_path, stages=["poc", "fund"], key=None).fix_first == ""
    found = plan(funds, tmp_path, stages=["poc", "fund"], key="fund.title")
    assert "have the key 'Borealis', but another poc.first_name, which stage 'poc' asks about." in found.notes[0]


COUNTIES = [(f"N{number}", "North") for number in range(300)]


def test_a_changed_cell_is_named_and_the_other_rows_go_on(tmp_path, caplog):
    """300 rows answered, one cell mended, one row new: one request; asked again only where that is said: two."""
    client = Teller()
    index = [f"r{number}" for number in range(300)]
    run(ports(*COUNTIES[:299], ("Holm", "Nroth"), index=index), tmp_path, client)
    frame = ports(*COUNTIES[:299], ("Holm", "North"), ("Marl", "South"), index=[*index, "new"])
    row = "port: cells have changed since they were asked about (row 300 (index 'r299'): county 'Nroth' → 'North')."
    ahead = plan(frame, tmp_path)
    assert (ahead.to_ask, ahead.changed, ahead.done, ahead.fix_first) == (1, 1, 300, "")
    assert any(note.startswith(row) and "on_change='redo' asks about these rows again" in note for note in ahead.notes)
    del client.asked[:]
    job = enrichkit.start(frame, out=tmp_path / "out", stages=[PORT], key="name", client=client, model="m")
    assert job.result()["_status"].tolist() == ["done"] * 301
    assert client.asked == ["Research ⟦Marl⟧ in ⟦South⟧."]
    assert row.rstrip(".") in job._repr_html_().replace("&#x27;", "'")
    assert sum(message.startswith(row) for message in caplog.messages) == 1
    stored = enrichkit.read(tmp_path / "out").set_index("name")
    assert stored["port._issues"]["Holm"] == [": changed_cell: county: 'Nroth' when this was asked, 'North' now"]
    assert (stored["county"]["Holm"], stored["port.industry"]["Holm"]) == ("Nroth", "Tea")
    assert len(stored[stored["port._issues"].map(len) > 0]) == 1
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.parquet")}
    run(frame, tmp_path, client)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.parquet")} == before
    run(frame.assign(county=frame["county"].where(frame["name"] != "Holm", "Nord")), tmp_path, client)
    stored = enrichkit.read(tmp_path / "out").set_index("name")
    assert stored["port._issues"]["Holm"] == [": changed_cell: county: 'Nroth' when this was asked, 'Nord' now"]
    del client.asked[:]
    run(frame, tmp_path, client, on_change="redo")
    assert client.asked == ["Research ⟦Holm⟧ in ⟦North⟧."]
    stored = enrichkit.read(tmp_path / "out").set_index("name")
    assert (stored["county"]["Holm"], stored["port._issues"]["Holm"]) == ("North", [])
    assert (plan(frame, tmp_path).changed, len(client.asked)) == (0, 1)


def test_a_changed_cell_of_another_type_rewrites_its_own_shard_alone(tmp_path):
    """A word among numbers: the column of the store becomes text where that cell is stored, once it is asked about."""
    client = Teller()
    before = [(f"N{number}", number) for number in range(12)]
    run(ports(*before), tmp_path, client, shard_rows=3)
    held = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.parquet")}
    frame = ports(*before[:7], ("N7", "North"), *before[8:])
    assert run(frame, tmp_path, client)["_status"].tolist() == ["done"] * 12
    assert sum(path.read_bytes() != shard for path, shard in held.items()) == 1
    assert (len(client.asked), sorted(enrichkit.read(tmp_path / "out")["county"])) == (12, list(range(12)))
    run(frame, tmp_path, client, on_change="redo")
    stored = enrichkit.read(tmp_path / "out").set_index("name")["county"]
    assert (client.asked[12:], stored["N7"], stored["N8"]) == (["Research ⟦N7⟧ in ⟦North⟧."], "North", "8")


def test_a_changed_cell_and_a_new_row_are_two_requests_where_it_is_to_be_asked_again(tmp_path):
    """In one call."""
    client = Teller()
    run(ports(*COUNTIES[:3]), tmp_path, client)
    frame = ports(("N0", "South"), *COUNTIES[1:4])
    ahead = plan(frame, tmp_path, on_change="redo")
    assert (ahead.to_ask, ahead.changed) == (2, 1)
    assert any("They are asked about again." in note for note in ahead.notes)
    del client.asked[:]
    run(frame, tmp_path, client, on_change="redo")
    assert sorted(client.asked) == ["Research ⟦N0⟧ in ⟦South⟧.", "Research ⟦N3⟧ in ⟦North⟧."]


@pytest.mark.parametrize(
    ("then", "now", "stage"),
    [
        ("North", " North ", PORT),
        ("North", "NORTH", PORT),
        (1, 1.0, PORT),
        (1, "1", PORT),
        (None, "", PORT),
        ("North", "South", HINTED),
    ],
)
@pytest.mark.parametrize("on_change", ["refuse", "redo"])
def test_what_says_the_same_and_a_hint_are_no_change(then, now, stage, on_change, tmp_path):
    """Blanks, case, another type, a gap spelled otherwise: nothing is asked or said."""
    client = Teller()
    run(ports(("Holm", then)), tmp_path, client, stages=[stage])
    found = plan(ports(("Holm", now)), tmp_path, stages=[stage], on_change=on_change)
    assert (found.to_ask, found.changed, [note for note in found.notes if "changed" in note]) == (0, 0, [])
    run(ports(("Holm", now)), tmp_path, client, stages=[stage], on_change=on_change)
    assert len(client.asked) == 1


def test_many_changes_are_counted_and_each_row_has_its_own(tmp_path):
    """Five are told; a gap that was filled and a value that went are changes, too."""
    client = Teller()
    run(ports(*COUNTIES[:6], ("Holm", None), ("Marl", "South")), tmp_path, client, shard_rows=3)
    frame = ports(*[(name, "West") for name, _ in COUNTIES[:6]], ("Holm", "East"), ("Marl", None))[::-1].reset_index(
        drop=True
    )
    [note] = [note for note in plan(frame, tmp_path).notes if "changed since" in note]
    assert "(row 1: county 'South' → empty; row 2: county empty → 'East'; row 3: county 'North' → 'West'; " in note
    assert "; 3 more rows)." in note
    more = pd.concat([frame, ports(("Osk", "North"))], ignore_index=True)
    assert plan(more, tmp_path, limit=1).to_ask == 1  # before those about which nothing is asked
    run(frame, tmp_path, client, shard_rows=3)
    assert len(client.asked) == 8
    issues = enrichkit.read(tmp_path / "out").set_index("name")["port._issues"]
    assert issues["N2"] == [": changed_cell: county: 'North' when this was asked, 'West' now"]
    assert issues.map(len).tolist() == [1] * 8
    assert enrichkit.report(tmp_path / "out").quality.notes[0].count == 8


def test_a_changed_key_is_a_new_record_and_a_changed_question_is_refused(tmp_path):
    """The question itself has changed for every record, whatever its cells."""
    client = Teller()
    run(ports(("Holm", "North")), tmp_path, client)
    assert plan(ports(("Holmen", "North")), tmp_path).to_ask == 1
    other = Stage("port", prompt="Research the port {name} in {county}.", answer=Company, search=False)
    with pytest.raises(errors.ChangedError, match=r"\(port: 1 stored answer\)"):
        run(ports(("Holm", "South")), tmp_path, client, stages=[other])
    kept = run(ports(("Holm", "South"), ("Marl", "North")), tmp_path, client, stages=[other], on_change="keep")
    assert kept["_status"].tolist() == ["done"] * 2
    assert len(client.asked) == 2
    with pytest.raises(errors.InputError, match="'county', which is neither"):
        plan(ports(("Holm", "North")).rename(columns={"county": "County"}), tmp_path)


def test_a_failed_question_about_other_cells_is_asked_when_failed_ones_are(tmp_path):
    """About the cells that are there now."""
    client = Teller({"Nroth": "no answer"})
    run(ports(("Holm", "Nroth")), tmp_path, client)
    del client.asked[:]
    frame = ports(("Holm", "North"))
    assert run(frame, tmp_path, client)["_status"].tolist() == ["failed"]
    assert run(frame, tmp_path, client, retry_failed=True)["_status"].tolist() == ["done"]
    assert client.asked == ["Research ⟦Holm⟧ in ⟦North⟧."]
    assert enrichkit.read(tmp_path / "out")["county"].tolist() == ["North"]
