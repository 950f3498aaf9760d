"""Three lines to the first result: the README's first code, and columns of the user's own that are filled."""

from __future__ import annotations

import datetime
import decimal
import enum
import re
import shlex
import signal
import sys
from typing import Annotated

import pandas as pd
import pytest
from pydantic import BaseModel, Field, HttpUrl

import enrichkit
from enrichkit import Answer, Stage, trust
from enrichkit.gemini.simulator import Simulator
from support.calls import enrich
from support.clients import Teller
from support.paths import DATA, ROOT
from support.programs import Program
from support.waiting import hold_after, wait_for

README = (ROOT / "README.md").read_text("utf-8")
BEFORE, CODE, OUTPUT = re.search(
    r":\n\n```\n(.*?)```\n\n[^`]*```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL
).groups()
"""A table in the README, the code that follows, and what it prints."""
OUT = "results/makers"
ROWS, QUESTIONS = 64, 63


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENRICHKIT_PROGRESS", "off")


def test_the_first_code_fills_a_table_that_has_nothing_to_do_with_funds(here, capsys):
    """As it stands in the README, with its output; the same again asks nothing."""
    exec(CODE, space := {})
    df, made = space["df"], space["made"]
    assert capsys.readouterr().out.split() == OUTPUT.split()
    assert df[["name", "country", "industry", "employees"]].head().to_string().split() == BEFORE.split()
    assert made.columns.tolist() == [*df.columns, "_status", "answer._status", "answer._confidence"]
    assert made["_status"].tolist() == ["done"] * ROWS
    untouched = [name for name in df.columns if name not in ("industry", "employees")]
    pd.testing.assert_frame_equal(made[untouched], df[untouched])
    for column in ("industry", "employees"):
        given = df[column].notna()
        assert made[column][given].tolist() == df[column][given].tolist()
        assert made[column][~given].notna().sum() > 10
    call = {"prompt": space["prompt"], "fields": space["fields"], "out": OUT}
    assert enrichkit.plan(df, model="simulator", **call).to_ask == 0
    job = enrichkit.start(df, model="simulator", **call)
    pd.testing.assert_frame_equal(job.result(), made)
    assert job.status.traffic.requests == 0
    assert enrichkit.report(OUT).cost.total.replies == QUESTIONS


def test_the_rest_of_the_readmes_code_runs(here):
    """In one namespace, in its order; what is asked in the terminal is the same question."""
    space = {}
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(code, space)
    assert len(pd.read_csv("makers.csv")) == ROWS
    assert [len(space[name]) > 0 for name in ("weak", "corrections")] == [True, True]
    assert len(space["evidence"]) == 2 * QUESTIONS
    for command in re.findall(r"^enrichkit run (.*?[^\\])$", README, re.DOTALL | re.MULTILINE):
        enrich("run", *shlex.split(command.replace("\\\n", " ")))
    assert pd.read_csv("makers.csv")["_status"].tolist() == ["done"] * ROWS


@pytest.mark.slow
def test_after_a_kill_the_same_call_pays_nothing_counted_again(here, monkeypatch):
    """kill -9 in the middle: what was stored by then is not asked again; what was in flight may be."""
    code = CODE.replace(', model="simulator"', "")
    with Simulator() as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
        go = hold_after(server, 40)
        process = Program([sys.executable, "-c", code])
        wait_for(lambda: server.counts()["answers"] >= 40)
        process.send_signal(signal.SIGKILL)
        process.wait()
        stored, sent = len(enrichkit.costs(OUT)), server.counts()["requests"]
        assert stored >= 40 - 12  # 10 workers, and two replies on their way to the disk
        go.set()
        exec(code, space := {})
        assert server.counts()["requests"] == sent + QUESTIONS - stored
    assert space["made"]["_status"].tolist() == ["done"] * ROWS


def test_what_the_prompt_reads_may_have_gaps(tmp_path):
    """It is the key; a row of which nothing is known at all has none."""
    client = Teller()
    df = pd.DataFrame({"name": ["Kelp", "Kelp", None], "country": ["Peru", None, "Fiji"]})
    call = {"prompt": "Research {name} in {country}.", "fields": {"industry": str}, "client": client, "model": "m"}
    made = enrichkit.run(df, out=tmp_path / "out", progress=False, **call)
    assert made["industry"].tolist() == ["Tea"] * 3
    assert sorted(client.asked)[0] == "Research ⟦(unknown)⟧ in ⟦Fiji⟧."
    assert enrichkit.run(df, out=tmp_path / "out", progress=False, **call).equals(made)
    assert len(client.asked) == 3
    df.loc[3] = [" ", None]
    with pytest.raises(enrichkit.errors.InputError, match="key column 'name' is empty in row 4"):
        enrichkit.run(df, out=tmp_path / "out", progress=False, **call)
    with pytest.raises(enrichkit.errors.InputError, match="key column 'country' is empty in rows 2 and 4"):
        enrichkit.run(df, out=tmp_path / "new", progress=False, key=["name", "country"], **call)


class Kind(enum.Enum):
    MILL, KILN = "mill", "kiln"


class Yard(BaseModel):
    name: str
    berths: int | None = None


def test_fields_may_be_of_any_type_and_name(tmp_path):
    """Whatever a pydantic model may have, on the simulator; a field may be called as what an answer says of itself."""
    fields = {
        "kind": Kind,
        "founded": datetime.date,
        "revenue": decimal.Decimal,
        "site": (HttpUrl, "The official website."),
        "yards": list[Yard],
        "sales": dict[str, int],
        "share": Annotated[float, Field(ge=0, le=1)],
        "open": bool,
        "notes": str,
        "confidence": int,
    }
    call = {"prompt": "Research {name}.", "fields": fields, "model": "simulator", "out": tmp_path / "out"}
    df = pd.DataFrame({"name": [f"Maker {number}" for number in range(30)]})
    made = enrichkit.run(df, progress=False, **call)
    assert made["_status"].tolist() == ["done"] * 30
    assert made.columns.tolist()[1:11] == list(fields)
    assert (made[list(fields)].notna().sum() > 10).all()
    assert set(made["kind"].dropna()) == {"mill", "kiln"}
    assert made["share"].dropna().between(0, 1).all()
    issues = enrichkit.read(tmp_path / "out")["answer._issues"].explode().dropna()
    assert not [issue for issue in issues if "not_valid" in issue or "wrong_type" in issue]


class Port(Answer):
    town: str | None = None
    crew: int | None = None
    open: bool | None = None
    goods: list[str] | None = None


class Region(Answer):
    region: str | None = None


PORT = Stage("port", prompt="Research the port {name}.", answer=Port, columns="", search=False)
REGION = Stage("area", prompt="Where is the town {town}?", answer=Region, columns={"region": "Region"}, search=False)
SAYS = {
    "Holm": '{"town": "Holmby", "crew": 14, "open": true, "goods": ["kelp", "rope"]}',
    "Marl": '{"town": "Marlby", "crew": 3, "open": false, "goods": []}',
    "Osk": '{"town": null, "crew": null}',
    "⟦Holmby⟧": '{"region": "North"}',
    "⟦Marlby⟧": '{"region": "South"}',
    "⟦Old Osk⟧": '{"region": "East"}',
}
SAYS = dict(reversed(SAYS.items()))


def ports():
    return pd.DataFrame(
        {
            "name": ["Holm", "Marl", "Osk"],
            "town": [None, " ", "Old Osk"],
            "crew": [None, 5.0, None],
            "Region": [None] * 3,
        }
    )


def run(df, tmp_path, client, stages=(PORT, REGION), **settings):
    given = {"key": "name", "client": client, "model": "m", "out": tmp_path / "out", "progress": False, "workers": 1}
    return enrichkit.run(df, stages=stages, **(given | settings))


def test_a_value_that_the_columns_type_cannot_hold_is_kept(tmp_path):
    """It is paid for: the column becomes one of objects rather than the run an error."""
    df = pd.DataFrame({"name": ["a", "b"], "crew": pd.Series([1, None], dtype="Int8")})
    call = {"prompt": "How many work at {name}?", "fields": {"crew": int}, "client": Teller(otherwise='{"crew": 300}')}
    assert enrichkit.run(df, out=tmp_path / "out", model="m", progress=False, **call)["crew"].tolist() == [1, 300]


@pytest.mark.parametrize("stages", [(PORT, REGION), (REGION, PORT)])
def test_one_stage_reads_what_another_fills(stages, tmp_path):
    """A gap is no identity: each record asks about the town that was found for it, not about that of the first gap."""
    client = Teller(SAYS)
    filled = run(ports(), tmp_path, client, stages)
    assert filled["town"].tolist() == ["Holmby", "Marlby", "Old Osk"]
    assert filled["Region"].tolist() == ["North", "South", "East"]
    assert filled["crew"].tolist()[:2] == [14, 5]
    assert filled["crew"].dtype == "float64"  # as the user's column was
    assert filled["open"].tolist()[:2] == [True, False]
    assert len(client.asked) == 6
    assert trust.corrections(tmp_path / "out")[["column", "old", "new"]].values.tolist() == [["crew", 5.0, 3.0]]
    again = run(ports(), tmp_path, client, stages)
    pd.testing.assert_frame_equal(again, filled)
    run(filled[ports().columns], tmp_path, client, stages)  # the filled table: nothing new to ask
    assert len(client.asked) == 6


def test_two_calls_may_do_what_one_does(tmp_path):
    """The second stage asked later, over the table with its gaps, knows what the first has filled."""
    client = Teller(SAYS)
    run(ports(), tmp_path, client, [PORT])
    filled = run(ports(), tmp_path, client, [REGION])
    assert filled["Region"].tolist() == ["North", "South", "East"]
    assert len(client.asked) == 6


def test_every_view_of_a_store_knows_whose_columns_were_filled(tmp_path):
    """Evidence, quality, report, weak, dossier, export: by the columns, and the fields that they hold."""
    out = tmp_path / "out"
    filled = run(ports(), tmp_path, Teller(SAYS))
    fields = trust.evidence(out)
    assert len(fields) == 3 * 4 + 3
    assert fields[fields["column"] == "Region"]["answer"].tolist() == ["North", "South", "East"]
    quality = enrichkit.report(out).quality
    assert (quality.filled_before["town"], quality.filled_after["town"]) == (1, 3)
    assert (quality.filled_before["Region"], quality.filled_after["Region"]) == (0, 3)
    assert quality.states["town"]["not_found"] == 1
    cells = enrichkit.report(out).cost.by_field().set_index("column")["filled_cells"]
    assert cells[["town", "Region"]].tolist() == [2, 3]
    weak = trust.weak(out)
    assert weak[["name", "crew", "_why"]].to_numpy().tolist() == [["Marl", 5.0, "port.crew differs from the cell"]]
    assert weak["town"].isna().tolist() == [True]
    assert "Region" in str(trust.dossier(out, fields["_record_id"].iloc[0]))
    enrichkit.export(filled, tmp_path / "new.csv", only_new=True)
    assert {"name", "town", "crew", "Region"} <= set(pd.read_csv(tmp_path / "new.csv").columns)
    assert enrichkit.verify(out).problems == ()


def test_other_columns_are_read_anew_and_a_changed_question_is_named(tmp_path):
    """The same answers in other columns cost nothing; `on_change` works as for any stage."""
    client = Teller(SAYS)
    run(ports(), tmp_path, client, [PORT])
    moved = Stage("port", prompt=PORT.prompt, answer=Port, columns={"town": "Town"}, search=False)
    again = run(ports(), tmp_path, client, [moved])
    assert again["Town"].tolist()[:2] == ["Holmby", "Marlby"]
    assert again["town"].tolist() == ports()["town"].tolist()
    assert len(client.asked) == 3
    other = Stage("port", prompt="Which port is {name}?", answer=Port, columns="", search=False)
    with pytest.raises(enrichkit.errors.ChangedError):
        run(ports(), tmp_path, client, [other])
    assert run(ports(), tmp_path, client, [other], on_change="keep")["town"].tolist() == ["Holmby", "Marlby", "Old Osk"]
    client.says["Holm"] = '{"town": "New Holm"}'
    redone = run(ports(), tmp_path, client, [other], on_change="redo")
    assert redone["town"].tolist() == ["New Holm", "Marlby", "Old Osk"]
    assert len(client.asked) == 6
