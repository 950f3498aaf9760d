"""The canonical text of a cell and the identities made from it."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichkit.table.cells import cell_text, column_texts, digests, group, ids


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1, 1.0, "1", np.int64(1), decimal.Decimal("1.0"), " 1 "], "1"),
        ([None, float("nan"), pd.NA, pd.NaT, "", "  \t", np.float64("nan")], ""),
        (["e\u0301", "é"], "é"),
        ([datetime.date(2024, 1, 2), pd.Timestamp("2024-01-02"), "2024-01-02"], "2024-01-02"),
        ([True, np.bool_(True), "True"], "True"),
        ([["a", 1], ("a", "1"), np.array(["a", "1"])], "a, 1"),
        ([0.5, "0.5", decimal.Decimal("0.50")], "0.5"),
    ],
)
def test_equal_cells_have_one_text(values: list[object], text: str) -> None:
    """Cells are equal as text after trimming and NFC, whatever their type; missing is missing, however spelled."""
    assert {cell_text(value) for value in values} == {text}


@pytest.mark.parametrize("pair", [("1", "1.0"), (True, 1), ("a", "A"), ("0123", 123)])
def test_different_cells_stay_different(pair: tuple[object, object]) -> None:
    """Text is not read as a number, and case counts unless a stage says otherwise."""
    assert cell_text(pair[0]) != cell_text(pair[1])


@pytest.mark.parametrize(
    "column", [[1, 2, None], ["a", "A ", None], [1, True, "1"], [["x"], None, ["x"]], [None, None]]
)
def test_a_column_gives_the_text_of_each_cell(column: list[object]) -> None:
    """The shortcut over different values gives what each cell by itself gives."""
    series = pd.Series(column)
    assert column_texts(series).to_pylist() == [cell_text(value) for value in series]
    assert column_texts(series, ignore_case=True).to_pylist() == [cell_text(value).casefold() for value in series]


ODD = ("Acme", " Acme", "Acme ", "É", "x\x1fy", "a\n", "ẞ")


@given(st.lists(st.one_of(st.none(), st.text(), st.sampled_from(ODD)), max_size=8))
def test_texts_of_a_column_are_those_of_its_cells(cells: list[str | None]) -> None:
    """What Arrow does for plain cells is what is done for each cell by itself, in every script."""
    column = pd.Series(cells, dtype=object)
    assert column_texts(column).to_pylist() == [cell_text(cell) for cell in cells]
    assert column_texts(column, ignore_case=True).to_pylist() == [cell_text(cell).casefold() for cell in cells]


@given(st.lists(st.tuples(st.text(), st.text()), max_size=8))
def test_ids_differ_exactly_where_the_texts_differ(rows: list[tuple[str, str]]) -> None:
    """No separator in a cell makes two different rows alike."""
    texts = [[cell_text(row[0]) for row in rows], [cell_text(row[1]) for row in rows]]
    found = ids(digests([("a", pa.array(texts[0], pa.string())), ("b", pa.array(texts[1], pa.string()))]))
    assert len(set(found.to_pylist())) == len(set(zip(*texts, strict=True)))


def test_ids_never_change() -> None:
    """Stored ids must be found again by every later version: this value is part of the format."""
    assert ids(digests([("name", pa.array(["Acme"]))], salt="x")).to_pylist() == ["5d46bb77d4c0415030f9419f7f1ca75f"]


def test_groups_are_numbered_in_order_of_appearance() -> None:
    """The first row of each group stands for it."""
    codes, first = group(digests([("name", pa.array(["b", "a", "b", "c"]))]))
    assert codes.tolist() == [0, 1, 0, 2]
    assert first.tolist() == [0, 1, 3]
