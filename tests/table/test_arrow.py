"""The user's table as Arrow: what just works, and what is refused in one sentence."""

import datetime
import decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from enrichkit import Answer, Stage
from enrichkit.errors import InputError
from enrichkit.formatting import rows_told
from enrichkit.store.rows import build_table, stage_types
from enrichkit.table.arrow import as_column, as_table, as_text, as_type, wider


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, 2, 3], pa.int64()),
        ([1, 2.5, None], pa.float64()),
        (["é", None, ""], pa.string()),
        ([True, False, None], pa.bool_()),
        ([datetime.date(2024, 1, 1), None, None], pa.date32()),
        (pd.to_datetime(["2024-01-01", None, "2024-02-01"]), pa.timestamp("us")),
        ([[1], [2, 3], None], pa.list_(pa.int64())),
        ([decimal.Decimal("1.5"), None, None], pa.decimal128(2, 1)),
        (pd.Categorical(["a", "b", "a"]), pa.string()),
        ([None, None, None], pa.string()),
        ([np.nan, np.nan, np.nan], pa.string()),
        ([1, "a", None], pa.string()),
        (pd.period_range("2024", "2026", freq="Y"), pa.string()),
    ],
)
def test_ordinary_cells_just_work(cells: Any, kind: pa.DataType) -> None:
    """Every column gets a type that all readers know; an empty or mixed one is text, never Arrow's null type."""
    assert as_table(pd.DataFrame({"a": cells})).schema.field("a").type == kind


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (pd.DataFrame({"a": []}), "no rows"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column named 'a'"),
        (
            pd.DataFrame({"a": [object(), 1]}, index=["x", "y"]),
            r"'a' holds a value of type object in row 1 \(index 'x'\)",
        ),
        (pd.DataFrame({"a": ["t", {1}]}), "'a' holds a value of type set in row 2, which"),
        (pd.DataFrame({"a": ["t", {(1, 2): 3}]}), "'a' holds a value of type dict in row 2, which"),
        (pd.DataFrame({"a": [10**5000, "t"]}), "'a' holds a value of type int in row 1, which"),
        (
            pd.DataFrame({"a": pd.Series([np.datetime64("2020"), np.timedelta64(1, "s")], dtype=object)}),
            "'a' holds a value of type timedelta64 in row 2, which",
        ),
        (
            pd.DataFrame([[1]], columns=pd.Index(["a\ud800"], dtype=object)),
            r"The column name 'a\\ud800' is no Unicode text",
        ),
    ],
)
def test_what_cannot_be_stored_is_named(frame: Any, told: str) -> None:
    """The message names the column and the row."""
    with pytest.raises(InputError, match=told):
        as_table(frame)


@pytest.mark.parametrize(
    ("index", "told"),
    [
        (pd.RangeIndex(9), "rows 2 and 9"),
        (pd.Index(range(9)), "rows 2 and 9"),
        (pd.RangeIndex(5, 14), "rows 2 (index 6) and 9 (index 13)"),
        (pd.Index([f"x{place}" for place in range(9)]), "rows 2 (index 'x1') and 9 (index 'x8')"),
        (
            pd.date_range("2026-11-24", periods=9),
            "rows 2 (index 2026-11-25 00:00:00) and 9 (index 2026-12-02 00:00:00)",
        ),
        (pd.MultiIndex.from_product([["a", "b", "c"], [1, 2, 3]]), "rows 2 (index ('a', 2)) and 9 (index ('c', 3))"),
    ],
)
def test_a_row_is_told_as_a_person_counts_it(index: Any, told: str) -> None:
    """From 1 on, and by its label where that is another thing than its number."""
    assert rows_told([1, 8], index) == told


def test_lists_and_objects_of_different_kinds_are_stored_as_json() -> None:
    """What no column of Parquet holds is no reason to refuse a table."""
    cells = [{"é": 1}, {"é": ["x"]}, [("k", datetime.date(2024, 1, 2))], "text", None]
    told = ['{"é": 1}', '{"é": ["x"]}', '[["k", "2024-01-02"]]', "text", None]
    assert as_table(pd.DataFrame({"a": cells})).column("a").to_pylist() == told


def nested(levels: int) -> list[Any]:
    """A list in a list in a list."""
    cell: list[Any] = ["x"]
    for _ in range(levels):
        cell = [cell]
    return cell


def test_what_is_nested_too_deeply_for_other_readers_is_stored_as_json() -> None:
    """A Parquet file with a hundred levels can be written, and never be read again."""
    kinds = {levels: as_table(pd.DataFrame({"a": [nested(levels)]})).schema.field("a").type for levels in (9, 99)}
    assert pa.types.is_list(kinds[9])
    assert kinds[99] == pa.string()
    typed = pd.Series(pa.array([nested(99)]), dtype=pd.ArrowDtype(pa.array([nested(99)]).type))
    assert as_table(pd.DataFrame({"a": typed})).schema.field("a").type == pa.string()


def test_a_cell_that_holds_itself_is_refused() -> None:
    """Arrow would end the interpreter over it."""
    array = np.empty(1, object)
    itself: tuple[Any, ...] = ([], {}, array)
    itself[0].append(itself[0])
    itself[1]["a"] = itself[1]
    array[0] = array
    for cell in (*itself, nested(100_000)):
        with pytest.raises(InputError, match=r"'a' holds a value of type .* in row 2, which cannot be stored"):
            as_table(pd.DataFrame({"a": pd.Series([None, cell], dtype=object)}))


def test_text_that_is_not_unicode_is_kept_as_far_as_it_goes() -> None:
    """A lone surrogate, which no file can hold, becomes a question mark."""
    frame = pd.DataFrame({"a": pd.Series(["a\ud800", "b"], dtype=object)})
    assert as_table(frame).column("a").to_pylist() == ["a?", "b"]
    frame = pd.DataFrame({"a": [["a\ud800"], "b"]})
    assert as_table(frame).column("a").to_pylist() == ['["a?"]', "b"]


def test_a_value_that_does_not_fit_is_left_out_and_told() -> None:
    """One bad value never fails the whole group, and nothing is rounded in silence."""
    column, misfits = as_column([1, "1990s", 1.5, 2**70, None], pa.int64())
    assert (column.to_pylist(), misfits) == ([1, None, None, None, None], [1, 2, 3])


class Size(Answer):
    size: int | None = None


SUPPORTED = {"field": "size", "state": "supported", "sources": [0]}


def test_an_answer_that_does_not_fit_is_named_among_its_rows_issues() -> None:
    """Beside what the checks have seen, and its state says so; the other rows keep theirs."""
    firm = Stage("firm", prompt="{name}", answer=Size)
    schema = pa.schema(list(stage_types(firm, pa.schema([])).items()))
    rows: list[dict[str, Any]] = [
        {"firm.size": 3, "firm._issues": ["seen"]},
        {"firm.size": 2**70, "firm._issues": ["seen"], "firm._states": [dict(SUPPORTED)]},
        {"firm.size": 1.5, "firm._issues": None},
        {"firm.size": None, "firm._issues": None},
    ]
    table = build_table(rows, schema, [firm])
    assert table["firm.size"].to_pylist() == [3, None, None, None]
    odd = "size: does_not_fit"
    assert table["firm._issues"].to_pylist() == [["seen"], ["seen", odd], [odd], None]
    assert table["firm._states"].to_pylist() == [None, [SUPPORTED | {"state": "invalid"}], [], None]
    assert (rows[1]["firm._issues"], rows[1]["firm._states"]) == (["seen"], [SUPPORTED])


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (pa.int64(), pa.int64(), pa.int64()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.int64(), pa.string(), pa.string()),
        (pa.list_(pa.string()), pa.string(), pa.string()),
    ],
)
def test_the_wider_type_holds_both(one: pa.DataType, other: pa.DataType, both: pa.DataType) -> None:
    """A column that changes its kind between runs loses nothing."""
    assert wider(one, other) == wider(other, one) == both
    values = {pa.int64(): 1, pa.int32(): 1, pa.string(): "1", pa.float64(): 0.5}.get(one, ["a", "b"])
    assert as_type(pa.array([values, None], one), both).type == both


def test_an_answer_in_a_users_text_column_is_text() -> None:
    """Lists and objects join a text column readably; alone they stay what they are."""
    tags = pa.list_(pa.string())
    assert wider(pa.string(), tags) == pa.string()
    assert as_column([["a", "b"], "c", None], pa.string())[0].to_pylist() == ["a, b", "c", None]
    assert as_text([{"name": "é"}]) == '[{"name": "é"}]'
