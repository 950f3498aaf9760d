"""The review: which answers are drawn, and that the box and a file of verdicts come to the same."""

from __future__ import annotations

from decimal import Decimal

import nbformat
import pandas as pd
import pytest

import enrichkit
from enrichkit import trust
from enrichkit.errors import InputError
from enrichkit.messages import Failure, Reply
from enrichkit.store.decisions import read_decisions
from enrichkit.trust.review_box import Box, page_of
from support.calls import enrich

TREES = "Ash Birch Cedar Elm Fir Hazel Larch Maple Oak Pine Rowan Yew".split()
HOSTILE = "<img src=x onerror=alert(1)>"
KEYS = ["y", "y", "n", "?", "= Bergen", "y", "<", "n", *"yyyynyyyyyyyyyyyyyyyyyyn"]
"""Thirty cells, one of them twice."""


@pytest.fixture
def out(tmp_path):
    frame = pd.DataFrame({"fund.title": [f"Borealis {tree}" for tree in TREES]})
    enrichkit.run(frame, model="simulator", stages=["fund"], out=tmp_path / "out", progress=False)
    return tmp_path / "out"


def boxed(out, cells, keys):
    """Judge cells in the box, as a browser sends what is typed; return it."""
    box = Box(out, cells)
    for key in keys:
        box._text.value = key
    return box


def test_the_box_reads_the_store_once_and_not_for_each_key(out):
    """A store may have many shards; but one that is gone by then gets no decision beside it."""
    cells = trust.review(out, 3)
    box = boxed(out, cells, "")
    aside = out.with_name("aside")
    out.rename(aside)
    box._text.value = "y"
    assert "Nothing was stored. No decision was stored beside" in box._said.value
    out.mkdir()  # without a shard
    box._text.value = "y"
    assert "Stored: right." in box._said.value
    out.rmdir()
    aside.rename(out)
    assert identities(trust.review(out, 3))[:2] == identities(cells)[1:]


def identities(cells):
    return list(zip(cells["_record_id"], cells["column"], strict=True))


def test_columns_come_in_turn_and_the_same_call_goes_on(out):
    """What is decided comes no more; the rest keeps its order, whoever asks and however many they want."""
    every = trust.review(out, 1000)
    columns = every["column"].nunique()
    assert every["column"].head(2 * columns).tolist() == 2 * every["column"].head(columns).tolist()
    assert identities(trust.review(out, 7)) == identities(every)[:7]
    boxed(out, every, "yn?")
    assert identities(trust.review(out, 1000)) == identities(every)[3:]
    of_one = trust.review(out, 5, columns=["fund.city"])
    assert identities(of_one) == [cell for cell in identities(every)[3:] if cell[1] == "fund.city"][:5]
    assert sorted(identities(trust.review(out, cells=every.tail(4)))) == sorted(identities(every.tail(4)))


def test_a_shared_answer_is_judged_once(tmp_path):
    """Thirty contacts of a firm have one website; whichever of them is looked at, it is decided for all."""
    frame = pd.DataFrame({"fund.title": ["Tern Fund"] * 3, "poc.firstName": ["Ana", "Bo", "Cy"], "poc.lastName": "Ek"})
    enrichkit.run(frame, model="simulator", stages=["fund"], out=tmp_path / "out", progress=False)
    cells = trust.review(tmp_path / "out")
    assert cells["column"].is_unique
    last = trust.evidence(tmp_path / "out").query("column == 'fund.website'").tail(1)
    (shown,) = trust.review(tmp_path / "out", cells=last)["_record_id"]
    assert shown == last["_record_id"].item()
    boxed(tmp_path / "out", trust.review(tmp_path / "out", cells=last), "y")
    assert "fund.website" not in set(trust.review(tmp_path / "out")["column"])


def test_what_is_none_of_the_five_is_refused(out):
    """Nothing is guessed, and nothing stored; the box is empty again, for the next."""
    cells = trust.review(out, 3)
    box = boxed(out, cells, ["Y", "yes", "=", "= ", "<", "right", " "])
    assert read_decisions(out) == []
    assert "Nothing was stored for" in box._said.value
    assert (box._at, box._text.value) == (0, "")
    for key in ("y", "n", "?", "y"):
        box._text.value = key
    assert "All 3 are judged: 1 right, 1 wrong, 1 unsure" in box._page.value
    box._text.value = "<"
    box._text.value = "= Bergen"
    assert "1 right, 1 wrong, 1 another value" in box._page.value


def test_a_cell_is_shown_escaped(out):
    """Whatever a model, a page or a person wrote."""
    (_, cell), *_ = trust.review(out, 1).iterrows()
    text = dict.fromkeys(("answer", "cell", "state", "notes", "fund.title"), HOSTILE)
    for other in ({}, {"answer": f"https://page.example/{HOSTILE}"}):
        page = page_of(pd.Series(dict(cell) | text | other), ["fund.title"], "1 of 1")
        assert "<img" not in page
        assert "&lt;img" in page


def test_it_says_beforehand_what_a_target_takes(out, capsys):
    """In labels without a mistake; once all are decided there is nothing to judge."""
    cells = trust.review(out, columns="fund.city")
    said = capsys.readouterr().out
    assert f"{len(cells)} answers to judge, of {len(cells)} in 1 column." in said
    assert "90 % of a column are right takes 10 labels without a mistake, 95 % takes 12." in said
    boxed(out, cells, "y" * len(cells))
    assert trust.review(out, columns="fund.city").empty
    assert "Nothing to judge" in capsys.readouterr().out
    measured = trust.precision(out, target=0.95, by="column").set_index("column").loc["fund.city"]
    assert measured[["decided", "share_right", "low", "next"]].tolist() == [len(cells), 1, 1, "use"]


def test_mistakes_are_named(out):
    """Which column or cells, and what might be meant."""
    with pytest.raises(InputError, match=r"'fund\.town' has no answers to review"):
        trust.review(out, columns=["fund.town"])
    with pytest.raises(InputError, match="lack _record_id or column"):
        trust.review(out, cells=pd.DataFrame({"column": ["fund.city"]}))
    with pytest.raises(InputError, match=r"target must be a share between 0 and 1.* not 95"):
        trust.precision(out, target=95)
    with pytest.raises(InputError, match=r"by must name columns of the evidence, not 'columns'.*'column'"):
        trust.precision(out, by="columns")
    for odd in ("pages", None, 3):
        with pytest.raises(InputError, match="by must name columns of the evidence"):
            trust.precision(out, by=odd)
    for target in ("0.9", Decimal("0.9"), 1.0):
        with pytest.raises(InputError, match="target must be a share"):
            trust.precision(out, target=target)
    for rows in (0, -1, 2.5, "3"):
        with pytest.raises(InputError, match="rows must be a whole number above 0"):
            trust.review(out, rows)
    assert trust.review(out, cells=trust.evidence(out).head(0)).empty


@pytest.mark.parametrize("limit", [None, 0])
def test_a_store_without_answers_has_nothing_to_judge(limit, tmp_path):
    """One of failures alone, and one without any record."""
    settings = {"client": lambda request: Reply(failure=Failure(cause="blocked", message="SAFETY")), "model": "m"}
    frame = pd.DataFrame({"fund.title": ["Tern Fund"]})
    enrichkit.run(frame, stages=["fund"], out=tmp_path / "out", progress=False, limit=limit, **settings)
    assert trust.review(tmp_path / "out").empty
    assert trust.precision(tmp_path / "out", target=0.9).empty
    assert trust.weak(tmp_path / "out", target=0.9).empty


def judged(cells, keys):
    """Return the cells with the verdicts that these keys come to."""
    verdicts = []
    for key in keys:
        verdicts = verdicts[:-1] if key == "<" else [*verdicts, key]
    words = {"y": "right", "n": "wrong", "?": "unsure"}
    return cells.assign(
        verdict=[words.get(key, "") for key in verdicts],
        value=["" if key in words else key[1:].strip() for key in verdicts],
    )


NOTEBOOK = """
from enrichkit import trust
cells = trust.review({out!r}, 30)
import pandas as pd
trust.decide({out!r}, pd.read_csv({file!r}, dtype=str, keep_default_na=False))
trust.precision({out!r}, target=0.9).to_csv({table!r})
"""


def test_the_box_a_file_and_papermill_come_to_the_same_table(out, tmp_path, monkeypatch):
    """Thirty cells judged in the box; the same as plain calls in a notebook that nobody sees; the same by commands."""
    frame = pd.DataFrame({"fund.title": [f"Borealis {tree}" for tree in TREES]})
    places = [out]
    for number in (1, 2):
        places.append(tmp_path / f"out{number}")
        enrichkit.run(frame, model="simulator", stages=["fund"], out=places[-1], progress=False)
    boxed(out, trust.review(out, 30), KEYS)
    table = trust.precision(out, target=0.9)
    assert table["decided"].sum() > 0
    assert table["cells"].tolist() == trust.precision(places[1])["cells"].tolist()  # no decision moves an answer

    file, result = tmp_path / "judged.csv", tmp_path / "table.csv"
    judged(trust.review(places[1], 30), KEYS).to_csv(file, index=False)
    code = NOTEBOOK.format(out=str(places[1]), file=str(file), table=str(result))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "plain.ipynb")
    from papermill import execute_notebook

    done = execute_notebook(str(tmp_path / "plain.ipynb"), str(tmp_path / "done.ipynb"), progress_bar=False)
    assert [output["name"] for output in done.cells[0].outputs] == ["stdout"]  # no box
    table.to_csv(tmp_path / "expected.csv")
    assert result.read_text() == (tmp_path / "expected.csv").read_text()

    enrich("review", places[2], tmp_path / "cells.csv", "--rows", 30)
    cells = pd.read_csv(tmp_path / "cells.csv", dtype=str, keep_default_na=False)
    trust.decide(places[2], judged(cells, KEYS))
    pd.testing.assert_frame_equal(trust.precision(places[2], target=0.9), table)


def test_what_is_not_shown_to_be_right_goes_on(out):
    """Records with a value beyond the bands that reach the target, and not decided to be right, to be asked again."""
    assert len(trust.weak(out, target=0.9)) == len(TREES)
    cities = trust.review(out, columns="fund.city")
    boxed(out, cities, ["y"] * (len(cities) - 1) + ["n"])
    rest = trust.weak(out, target=0.9)
    assert "_record_id" not in rest.columns
    assert rest["_why"].str.contains("not shown to be right: .*fund.linkedin").any()
    everything = trust.review(out, 1000)
    boxed(out, everything, "y" * len(everything))
    (only,) = trust.weak(out, target=0.95).to_dict("records")
    assert only["_why"].endswith("not shown to be right: fund.city")
    assert only["fund.title"] == cities["fund.title"].iloc[-1]
    assert trust.weak(out, target=0.9)["fund.title"].tolist() == []
    with pytest.raises(InputError, match="target must be a share"):
        trust.weak(out, target=95)
