"""The workbook: the first sheet of an Excel file, read as text; written so that no text becomes a formula."""

from __future__ import annotations

import contextlib
import decimal
import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from ..errors import InputError, SetupError
from ..formatting import rows_told
from .arrow import as_text
from .cells import cell_text, is_missing

LONGEST_CELL = 32_767
MOST_ROWS = 2**20 - 1
LARGEST_INTEGER = 10**15
"""Beyond, Excel drops digits: such numbers are written as text."""


def read_workbook(path: Path) -> pd.DataFrame:
    """Return the first sheet as text, without empty rows at both ends."""
    rows = _excel_cells(path, values=True)
    both = zip(itertools.chain(*rows), itertools.chain(*_excel_cells(path, values=False)), strict=True)
    # A formula that comes to nothing is known to be text.
    unknown = [
        cell.coordinate
        for cell, formula in both
        if formula.data_type == "f" and (cell.value, cell.data_type) == (None, "n")
    ]
    if unknown:
        raise InputError(
            "{path} has formulas whose values were not saved with it: {cell}{more}. Open it in a spreadsheet program "
            "and save it there, or put values in their place.",
            path=path,
            cell=unknown[0],
            more=f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else "",
        )
    texts = [[cell.value if isinstance(cell.value, str) else cell_text(cell.value) for cell in row] for row in rows]
    filled = [(row, column) for row, cells in enumerate(texts) for column, text in enumerate(cells) if text]
    if not filled:
        raise InputError("{path} is empty.", path=path)
    top, bottom, width = filled[0][0], filled[-1][0] + 1, max(column for _, column in filled) + 1
    names, *cells = ([*row, *[""] * width][:width] for row in texts[top:bottom])
    return pd.DataFrame(cells, columns=names, dtype=str)


def _excel_cells(path: Path, *, values: bool) -> list[Sequence[Any]]:
    """Return the cells of the first sheet, with a formula or its value in them."""
    with contextlib.closing(_openpyxl().load_workbook(path, read_only=True, data_only=values)) as book:
        first = book.worksheets[0]
        first.reset_dimensions()  # some programs write wrong ones
        return list(first.iter_rows())


def write_workbook(frames: Iterator[pd.DataFrame], file: BinaryIO) -> None:
    """Write a workbook whose only sheet is the only frame."""
    openpyxl, columns, frame = _openpyxl(), [], next(frames)
    if len(frame) > MOST_ROWS:
        raise InputError("An Excel file holds {most:,} rows, not {rows:,}. Write CSV.", most=MOST_ROWS, rows=len(frame))

    def fitted(cell: Any) -> Any:
        """Return what a cell of Excel holds: a number, or text."""
        if is_missing(cell) and not isinstance(cell, str):
            return None
        if isinstance(cell, bool | float) or (isinstance(cell, int) and abs(cell) < LARGEST_INTEGER):
            return cell
        text = str(cell) if isinstance(cell, str | decimal.Decimal) else as_text(cell)
        text = text.encode("utf-8", "replace").decode()
        return openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.sub("\ufffd", text) or None  # nothing, rather than empty text

    for name, column in frame.items():
        cells = [fitted(cell) for cell in column.astype(object)]
        if long := [row for row, cell in enumerate(cells) if len(str(cell)) > LONGEST_CELL]:
            cut = f"{name} is cut to {LONGEST_CELL:,} characters in {rows_told(long)}"
            warnings.warn(f"{cut}: a cell of Excel takes no more.", stacklevel=4)
        columns.append([cell[:LONGEST_CELL] if isinstance(cell, str) else cell for cell in cells])
    names = [fitted(str(name)) for name in frame.columns]
    with pd.ExcelWriter(file, engine="openpyxl") as writer:
        table = pd.DataFrame(dict(enumerate(columns)), dtype=object).set_axis(names, axis="columns")
        table.to_excel(writer, index=False)
        for cell in itertools.chain(*writer.book.active.iter_rows()):
            if cell.data_type == "f":  # text stays text, even if it begins like a formula
                cell.data_type = "s"


def _openpyxl() -> Any:
    try:
        import openpyxl
    except ImportError:
        raise SetupError(
            "Excel files need openpyxl: pip install 'enrichkit[excel]'. Or save the table as CSV."
        ) from None
    return openpyxl
