"""The workbook: the first sheet of an Excel file, read as text; written so that no text becomes a formula.

Written again, what is still the text that a cell was read as is the cell's own number, date or truth value, in its
format; of a formula, that is the value that was saved with it.
"""

from __future__ import annotations

import contextlib
import decimal
import functools
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, BinaryIO, cast

import pandas as pd

from ..errors import InputError, SetupError
from ..formatting import rows_told
from ..table.arrow import as_text
from ..table.cells import cell_text, is_missing

LONGEST_CELL = 32_767
LARGEST_INTEGER = 10**15
"""Beyond, Excel drops digits: such numbers are written as text."""


def read_workbook(path: Path) -> tuple[pd.DataFrame, Callable[[pd.DataFrame, IO[bytes]], None]]:
    """Return the first sheet as text, and what writes rows of it, enriched."""
    rows, sheets = _cells(path, values=True)
    formulas, _ = _cells(path, values=False)
    both = zip(itertools.chain(*rows), itertools.chain(*formulas), strict=True)
    # A formula that comes to nothing is known to be text.
    unknown = [
        one.coordinate for one, told in both if told.data_type == "f" and (one.value, one.data_type) == (None, "n")
    ]
    if unknown:
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        raise InputError(
            "{path} has formulas whose values were not saved with it: {unknown}{more}. Open it "
            "in a spreadsheet program and save it there, or put values in their place.",
            path=path,
            unknown=unknown[0],
            more=more,
        )
    if len(sheets) > 1:
        warnings.warn(f"{path} has {len(sheets)} sheets. Only the first, {sheets[0]!r}, is read.", stacklevel=3)
    texts = [[_text(cell.value) for cell in row] for row in rows]
    filled = [(row, column) for row, cells in enumerate(texts) for column, text in enumerate(cells) if text]
    if not filled:
        raise InputError("{path} is empty.", path=path)
    top, bottom, width = filled[0][0], filled[-1][0] + 1, max(column for _, column in filled) + 1
    names, *cells = ([*row, *[""] * width][:width] for row in texts[top:bottom])
    kept = {
        (row, column): (cell.value, cell.number_format)
        for row, cells_of_row in enumerate(rows[top:bottom], -1)
        for column, cell in enumerate(cells_of_row[:width])
        if not isinstance(cell.value, str | None) or cell.number_format not in (None, "General")
    }
    return pd.DataFrame(cells, columns=names, dtype=str), functools.partial(write_workbook, kept=kept)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else cell_text(value)


def _cells(path: Path, *, values: bool) -> tuple[list[Sequence[Any]], list[str]]:
    """Return the cells of the first sheet, with a formula or its value in them, and the names of all sheets."""
    with _openpyxl():
        from openpyxl import load_workbook

        with contextlib.closing(load_workbook(path, read_only=True, data_only=values)) as recorder:
            first = recorder.worksheets[0]
            first.reset_dimensions()  # some programs write wrong ones
            return list(first.iter_rows()), [sheet.title for sheet in recorder.worksheets]


def write_workbook(
    frame: pd.DataFrame, file: IO[bytes], kept: Mapping[tuple[Any, int], tuple[Any, str]] = MappingProxyType({})
) -> None:
    """Write a frame as the only sheet of a workbook.

    ``kept`` has cells' values and formats by index, -1 for the header, and column: they replace the same in text.
    """
    with _openpyxl():
        from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE as UNFIT

        def fit(cell: Any) -> Any:
            whole = isinstance(cell, int) and abs(cell) < LARGEST_INTEGER
            if is_missing(cell) or isinstance(cell, bool | float) or whole:
                return cell
            text = str(cell) if isinstance(cell, str | decimal.Decimal) else as_text(cell)
            return UNFIT.sub("\ufffd", text.encode("utf-8", "replace").decode())

        columns = {}
        for place, (name, column) in enumerate(frame.items()):
            cells = [fit(cell) for cell in column.astype(object)]
            if long := [row for row, cell in enumerate(cells) if len(str(cell)) > LONGEST_CELL]:
                told = f"{name} is cut to {LONGEST_CELL:,} characters in {rows_told(long)}"
                warnings.warn(f"{told}: a cell of Excel takes no more.", stacklevel=4)
            columns[place] = [cell[:LONGEST_CELL] if isinstance(cell, str) else cell for cell in cells]
        fitted = pd.DataFrame(columns, dtype=object).set_axis(
            [fit(str(name)) for name in frame.columns], axis="columns"
        )
        with pd.ExcelWriter(cast("BinaryIO", file), engine="openpyxl") as writer:
            fitted.to_excel(writer, index=False)
            for label, row in zip([-1, *frame.index], writer.book.active.iter_rows(), strict=True):
                for number, cell in enumerate(row):
                    value, form = kept.get((label, number), (None, "General"))  # nothing, rather than empty text
                    if cell.value == _text(value):
                        cell.value, cell.number_format = value, form
                    if cell.data_type == "f":  # text is text, whatever it begins with
                        cell.data_type = "s"


@contextlib.contextmanager
def _openpyxl() -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise SetupError(
            "Excel files need openpyxl: pip install 'enrichkit[excel]'. Or save the table as CSV.",
        ) from None
