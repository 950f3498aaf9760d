"""The types of a result's columns: those of the answers, whatever is missing; the user's own where they hold it."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal

import pandas as pd
import pytest

import enrichkit
from enrichkit import Answer, Stage
from enrichkit.reporting.tablefiles import read_sheet
from support.clients import Teller
from support.tables import numbered

DTYPES = {"crew": "Int64", "depth": "Float64", "open": "boolean", "town": "string", "berths": "object"}
CELLS = {"crew": 14, "depth": 2.5, "open": True, "town": "Holm", "berths": ["a", "b"]}


class Port(Answer):
    crew: int | None = None
    depth: float | None = None
    open: bool | None = None
    town: str | None = None
    berths: list[str] | None = None


PORT = Stage("port", prompt="Research {name}.", answer=Port, search=False)


def start(frame, tmp_path, answer=CELLS, **settings):
    client = Teller({"N0": json.dumps(answer), "M": "{}"}, otherwise=json.dumps(answer))
    settings = {"stages": [PORT], "key": "name", "model": "m", "client": client, "progress": False} | settings
    return enrichkit.start(frame, out=tmp_path / "out", **settings)


@pytest.mark.parametrize("frame", [numbered(3), pd.concat([numbered(2), numbered(2, "M")]), numbered(2, "M")])
def test_a_columns_type_does_not_depend_on_its_gaps(frame, tmp_path):
    """No, some and only gaps; by `run`, `read` and `Run.table`."""
    job = start(frame, tmp_path)
    ways = [job.result(), job.table, enrichkit.read(tmp_path / "out")]
    facts = dict.fromkeys(("_status", "port._status", "port._confidence"), "string")
    expected = {f"port.{name}": dtype for name, dtype in DTYPES.items()} | facts
    assert [{name: str(way[name].dtype) for name in expected} for way in ways] == [expected] * 3
    gaps = [name.startswith("M") for name in frame["name"]]
    assert ways[0]["port.crew"].tolist() == [pd.NA if gap else 14 for gap in gaps]
    assert ways[0]["port.berths"].tolist() == [None if gap else ["a", "b"] for gap in gaps]


def test_before_anything_is_answered_the_types_are_the_same(tmp_path):
    """A look at a running table is followed by code that expects them."""
    job = start(numbered(2), tmp_path, limit=0)
    assert {name: str(job.result()[f"port.{name}"].dtype) for name in DTYPES} == DTYPES


@pytest.mark.parametrize(
    ("own", "answer", "dtype", "cell"),
    [
        (pd.Series([None, 3.0]), 14, "float64", 14.0),
        (pd.Series([None, 3], dtype="Int64"), 14, "Int64", 14),
        (pd.Series([None, 3], dtype=object), 14, "object", 14),
        (pd.Series([None, "3"], dtype=object), 14, "object", "14"),
        (pd.Series(["", "3"], dtype="str"), 14, "str", "14"),
        (pd.Series([None, "3"], dtype="category"), 3, "category", "3"),
        (pd.Series([None, "3"], dtype="category"), 14, "object", "14"),
        (pd.Series([pd.NaT, pd.Timestamp("2020-01-01")]), 14, "object", "14"),
        (pd.Series([None, Decimal("2.5")]), 14, "object", "14"),
        (pd.Series([None, None]), 14, "Int64", 14),
        (pd.Series([float("nan")] * 2), 14, "Int64", 14),
        (pd.Series(["", " "]), 14, "string", "14"),
        (pd.Series([1, 3]), 14, "int64", 1),
    ],
)
def test_a_filled_column_keeps_its_type_where_that_holds_the_values(own, answer, dtype, cell, tmp_path):
    """A column without any value has the type of the answers."""
    frame = numbered(2).assign(**{"port.crew": own})
    result = start(frame, tmp_path, {"crew": answer}).result()["port.crew"]
    assert (str(result.dtype), result[0]) == (dtype, cell)
    assert own.isna().all() or dtype == "string" or (type(result[1]), result[1]) == (type(own[1]), own[1])


def test_numbers_and_dates_as_text_stay_the_text_they_are(tmp_path):
    """An answer of text in a column of numbers or dates becomes one only if it says the same."""
    days = pd.Series([pd.NaT, pd.Timestamp("2020-02-03")])
    for number, (own, answer, dtype) in enumerate(
        [
            (pd.Series([None, 3.0]), "0042", "object"),
            (pd.Series([None, 3.0]), "42", "float64"),
            (pd.Series([None, 3.0]), "about 42", "object"),
            (days, "2021-02-03", str(days.dtype)),
            (days, "spring 2021", "object"),
        ]
    ):
        frame = numbered(2).assign(**{"port.town": own})
        result = start(frame, tmp_path / str(number), {"town": answer}).result()["port.town"]
        assert (str(result.dtype), result[1]) == (dtype, own[1])


def test_files_have_no_trace_of_what_pandas_calls_missing(tmp_path):
    """Gaps are empty in CSV and Excel, null in Parquet and JSON lines; whole numbers and truth stay what they are."""
    frame = pd.concat([numbered(1), numbered(1, "M")], ignore_index=True)
    enriched = start(frame, tmp_path).result()
    for suffix in ("csv", "xlsx", "parquet", "jsonl"):
        path = tmp_path / f"ports.{suffix}"
        enrichkit.export(enriched, path)
        back = read_sheet(path)
        crews, opens = back["port.crew"].tolist(), back["port.open"].tolist()
        texts = suffix in ("csv", "xlsx")
        assert (crews[0], opens[0]) == (("14", "True") if texts else (14, True))
        assert {"": None}.get(crews[1], crews[1]) in (None, pd.NA)
        assert "NA" not in back["port.town"].map(str).tolist() or not texts


def test_dates_are_what_they_are_elsewhere(tmp_path):
    """Types without a missing value of their own are as pandas reads them: dates are objects, times datetimes."""
    day, at = datetime.date(2020, 1, 2), pd.Timestamp("2020-01-02 03:04")
    frame = numbered(2).assign(day=[day, None], at=[at, pd.NaT], price=[Decimal("1.5"), None])
    start(frame, tmp_path).result()
    stored = enrichkit.read(tmp_path / "out")
    assert stored["day"].tolist() == [day, None]
    assert [str(price) for price in stored["price"]] == ["1.5", "None"]
    assert (stored["at"].dtype.kind, stored["at"][0]) == ("M", at)


DAYS = pd.to_datetime(["2001-02-03", None]).as_unit("us")


class Fees(Answer):
    opened: datetime.date | None = None
    fee: Decimal | None = None
    rates: dict[str, int] | None = None


@pytest.mark.parametrize(
    ("own", "dtypes", "new"),
    [
        ({}, ["object", "object"], []),
        (
            {"opened": pd.to_datetime(["2001-02-03", None]).as_unit("us")},
            ["datetime64[us]", "object"],
            [pd.Timestamp("2020-02-03")],
        ),
        ({"opened": [datetime.date(2001, 2, 3), None]}, ["object", "object"], [datetime.date(2020, 2, 3)]),
        ({"fee": [Decimal("1.5"), None]}, ["object", "object"], [Decimal("12.55")]),
        ({"fee": [1.5, None]}, ["object", "float64"], [12.55]),
        ({"fee": ["1.5", ""], "opened": ["?", ""]}, ["str", "str"], ["2020-02-03", "12.55"]),
    ],
)
def test_dates_and_decimals_fill_columns_of_their_kind(own, dtypes, new, tmp_path):
    """In their own type where the table has no other; a correction has the type of the table's column."""
    stage = Stage("port", prompt=PORT.prompt, answer=Fees, columns="", search=False)
    frame = numbered(2).assign(**own)
    answer = {"opened": "2020-02-03", "fee": "12.55", "rates": {"a": 1}}
    result = start(frame, tmp_path, answer, stages=[stage]).result()
    assert [str(result[name].dtype) for name in ("opened", "fee")] == dtypes
    assert str(result["opened"][1])[:10] == "2020-02-03"
    assert (str(result["fee"][1]), result["rates"].tolist()) == ("12.55", [{"a": 1}] * 2)
    found = enrichkit.trust.corrections(tmp_path / "out", frame)
    assert found["new"].tolist() == new
