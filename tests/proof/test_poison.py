"""Poison replies: whatever an answer holds, the shard it is in is sealed, and its row says what was wrong."""

from __future__ import annotations

import json

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest

import enrichkit
from enrichkit import Answer, Stage
from enrichkit.messages import Reply


class Company(Answer):
    industry: str | None = None
    employees: int | None = None
    revenue: float | None = None
    cities: list[str] | None = None
    public: bool | None = None


COMPANY = Stage("company", prompt="Research {name}.", answer=Company, search=False)
NESTED = '{"industry": ' + "[" * 5000 + "]" * 5000 + "}"
POISON = {
    "lone surrogate": ('{"industry": "Tea \\ud83d", "employees": 3}', ["industry: wrong_type"]),
    "surrogate in a list": ('{"cities": ["Lima", "\\udc00"], "employees": 3}', ["cities[1]: wrong_type"]),
    "NaN": ('{"revenue": NaN, "employees": 3}', ["revenue: wrong_type"]),
    "infinity": ('{"revenue": -Infinity, "employees": 3}', ["revenue: wrong_type"]),
    "too large": (f'{{"employees": {2**70}, "revenue": 3}}', ["employees: wrong_type"]),
    "far too large": (f'{{"employees": 1{"0" * 4000}, "revenue": 3}}', ["employees: wrong_type"]),
    "a half": ('{"employees": 1.5, "revenue": 3}', ["employees: wrong_type"]),
    "words for a number": ('{"employees": "1990s", "revenue": 3}', ["employees: wrong_type"]),
    "an object for text": ('{"industry": {"name": "Tea"}, "employees": 3}', ["industry: wrong_type"]),
    "a number for a list": ('{"cities": 7, "employees": 3}', []),
    "wrong all over": (
        '{"industry": [1], "employees": "x", "revenue": [], "cities": {"a": 1}, "public": "maybe", "notes": {}}',
        ["employees: wrong_type", "cities: wrong_type", "public: wrong_type"],
    ),
    "NUL": ('{"industry": "Te\\u0000a", "employees": 3}', ["industry: undressed"]),
    "five megabytes": (json.dumps({"industry": "Tea " * 1_250_000, "employees": 3}), []),
    "nested too deeply": (NESTED, None),
    "no JSON": ("I found nothing.", None),
    "cut off": ('{"industry": "Te', None),
    "keys of old": ('{"__class__": "x", "employees": 3, "_status": "done"}', []),
}
"""What a reply says, and the issues that its row must have; None for an answer that is none."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store of one shard: each poison in a record of its own, and a sound one first and last."""
    names = ["sound", *POISON, "sound too"]
    out = tmp_path_factory.mktemp("poisoned") / "out"

    def client(request):
        name = request.text.split("⟦")[1].split("⟧")[0]
        return Reply(text=POISON.get(name, ('{"industry": "Tea", "employees": 3}',))[0])

    frame = pd.DataFrame({"name": names})
    settings = {
        "stages": [COMPANY],
        "model": "gemini-3.5-flash-lite",
        "key": "name",
        "out": out,
        "client": client,
        "progress": False,
    }
    enriched = enrichkit.run(frame, shard_rows=100, **settings)
    assert enrichkit.plan(frame, **settings).to_ask == 0
    assert enriched["_status"].iloc[[0, -1]].tolist() == ["done", "done"]
    return out


@pytest.mark.parametrize("name", POISON)
def test_the_row_says_what_was_wrong(name, stored):
    """Sound fields stay, unusable ones are empty and named; what is no answer at all is a named failure."""
    row = enrichkit.read(stored).set_index("name").loc[name]
    said, issues = POISON[name]
    if issues is None:
        assert row["company._status"] == row["_status"] == "failed"
        assert row["company._error"].startswith("unreadable: ")
    else:
        assert row["company._status"] == "done"
        assert [":".join(issue.split(":")[:2]) for issue in row["company._issues"]] == issues
        assert name == "wrong all over" or 3 in row[["company.employees", "company.revenue"]].dropna().tolist()
    table = ds.dataset(stored).to_table(filter=ds.field("name") == name)
    payloads = table["company._replies"][0].as_py()
    assert json.loads(payloads[-1])["reply"]["text"] == said  # the raw reply is there for a better reader


def test_every_reader_reads_it(stored):
    """No poison makes the shard unreadable for anybody."""
    records = len(POISON) + 2
    assert enrichkit.verify(stored).ok
    assert len(pd.read_parquet(stored)) == records
    assert ds.dataset(stored).to_table().num_rows == records
    assert len(duckdb.sql(f"select * from '{stored}/**/*.parquet'").fetchall()) == records
    assert pl.read_parquet(stored).height == records
