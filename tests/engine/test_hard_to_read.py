"""What becomes of replies that are hard to read: paid once, or asked again once and told why, or read later."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from pydantic import field_validator

import enrichkit
from enrichkit import Answer, Stage
from enrichkit.messages import CLIENTS, Failure, Reply
from enrichkit.reading.json_text import locate
from support.clients import USAGE, Teller
from support.tables import Company, numbered

COMPANY = Stage("company", prompt="Research {name}.", answer=Company, search=False)
GOOD = '{"industry": "Tea", "employees": 12}'


def run(out, client, rows=3, **settings):
    given = {"stages": [COMPANY], "key": "name", "progress": False, "client": client, "workers": 2}
    return enrichkit.run(numbered(rows), out=out, **given | settings)


def test_prose_is_asked_again_once_and_told_why(tmp_path):
    """One line at the end; two payments, and then the row fails."""
    client = Teller(otherwise="Sorry, here is what I know: nothing.")
    run(tmp_path / "out", client, rows=1)
    first, second = client.asked
    assert second == (
        first + "\n\nYour last reply could not be used: no JSON object. Reply with the JSON object alone."
    )
    stored = enrichkit.read(tmp_path / "out").iloc[0]
    assert (stored["company._status"], stored["company._attempts"]) == ("failed", 2)


def test_after_an_empty_reply_the_plain_question_is_asked_once_more(tmp_path):
    """There was nothing to complain of."""
    client = Teller(otherwise=Failure(cause="empty"))
    run(tmp_path / "out", client, rows=1)
    assert len(client.asked) == 2
    assert len(set(client.asked)) == 1


def test_an_object_that_can_be_read_is_paid_once(tmp_path):
    """Even if one value, or each, cannot be used."""
    client = Teller({"0": '{"industry": {"a": 1}}', "1": GOOD + ",,"}, otherwise="{'industry': 'Tea',}")
    table = run(tmp_path / "out", client)
    assert len(client.asked) == 3
    assert table["_status"].tolist() == ["done"] * 3


@pytest.mark.parametrize("finish", ["SAFETY", "RECITATION", "MAX_TOKENS", "BLOCK_REASON_UNSPECIFIED"])
def test_a_text_is_read_whatever_ended_it(finish, tmp_path):
    """A whole object stands, with an issue; half a one is the failure that was told, paid once."""
    cause = "truncated" if finish == "MAX_TOKENS" else "blocked"
    texts = {"0": GOOD, "1": '{"industry": "Te', "2": GOOD[:-1]}
    asked = []

    def client(request):
        asked.append(request.text)
        text = texts[re.search(r"\d", request.text)[0]]
        return Reply(text=text, usage=USAGE, finish_reason=finish, failure=Failure(cause=cause, message=finish))

    table = run(tmp_path / "out", client)
    assert len(asked) == 3
    assert table["_status"].tolist() == ["done", "failed", "failed"]
    stored = enrichkit.read(tmp_path / "out").set_index("name")
    assert list(stored["company._issues"].iloc[0]) == [f": finish_{finish.lower()}"]
    assert stored["company._error"].iloc[1] == f"{cause}: {finish}"


class Picky(Answer):
    """An answer whose validator fails by a mistake of its own."""

    industry: str | None = None

    @field_validator("industry")
    @classmethod
    def broken(cls, value):
        """Raise something that is no `ValueError`."""
        return value / DIVISOR


DIVISOR = None


class Mended(Picky):
    """The same, mended."""

    @field_validator("industry")
    @classmethod
    def broken(cls, value):
        """Take everything."""
        return value


Mended.__name__ = "Picky"


def test_a_fault_of_the_users_own_code_is_paid_once_and_read_again_for_nothing(tmp_path, caplog):
    """The traceback once by the logger; mended, the failed rows are read before anything is asked."""
    client = Teller(otherwise='{"industry": "Tea"}')
    stage = Stage("company", prompt="Research {name}.", answer=Picky, search=False)
    table = run(tmp_path / "out", client, stages=[stage])
    assert table["_status"].tolist() == ["failed"] * 3
    assert len(client.asked) == 3
    assert caplog.text.count("TypeError: unsupported operand") == 1
    error = enrichkit.read(tmp_path / "out")["company._error"].iloc[0]
    assert error.startswith("own_code: Picky: TypeError")
    mended = Stage("company", prompt="Research {name}.", answer=Mended, search=False)
    table = run(tmp_path / "out", client, stages=[mended], retry_failed=True)
    assert (table["_status"].tolist(), table["company.industry"].tolist()) == (["done"] * 3, ["Tea"] * 3)
    assert len(client.asked) == 3
    assert "3 more values are found" in caplog.text


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("records", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_one_damaged_answer_in_five_costs_nothing(client, records, simulator, tmp_path):
    """Nothing is paid again, nothing fails, and the values are those that were written; each repair is named."""
    if records == 2000 and client != CLIENTS[0]:
        pytest.skip("many are asked with one client alone")
    frame = pd.DataFrame({"fund.title": [f"Kelp Fund {number}" for number in range(records)]})
    settings = {"stages": ["fund"], "client": client, "progress": False, "workers": 20}
    sound = enrichkit.run(frame, out=tmp_path / "sound", **settings)
    asked = simulator.counts()["answers"]
    simulator.faults = {"damaged": 0.2}
    read = enrichkit.run(frame, out=tmp_path / "damaged", **settings)
    damaged = simulator.counts()["faults"]["damaged"]
    assert damaged > records / 10
    assert simulator.counts()["answers"] - asked <= 1.01 * records
    assert (read["_status"] == "done").all()
    columns = [column for column in sound.columns if column.startswith("fund.")]
    assert read[columns].astype(str).equals(sound[columns].astype(str))


def test_a_cut_text_is_never_repaired():
    """Where it was cut off within, nobody knows what else was to come."""
    assert locate('{"industry": "Tea"', frozenset({"industry"}), repair=False).values is None
