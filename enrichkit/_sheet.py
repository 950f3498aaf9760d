"""The sheet: a table in a file, read and written by its suffix; a file appears whole or not at all.

Text stays text: no cell of a CSV is taken for a number, a date or a missing value, so that what no run touches comes
back as it was.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ._files import work_area
from ._frame import to_frame
from ._record import cell_text, is_missing
from ._table import as_table, as_text, rows_told
from .errors import EnrichError, InputError, SetupError

LEFTOVER_SECONDS = 3600
LONGEST_EXCEL_CELL = 32_767
LARGEST_EXCEL_INTEGER = 10**15
"""Beyond, Excel drops digits: such numbers are written as text."""
LARGEST_EXCEL_SHEET = 1_048_576, 16_384
"""Rows, the header's included, and columns."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")

Reader = Callable[[Path], pd.DataFrame]
Writer = Callable[[pd.DataFrame, IO[bytes]], None]


def read_sheet(path: str | Path) -> pd.DataFrame:
    """Return the table in a file: CSV, TSV, Parquet, JSON lines or Excel, by its suffix.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read as what its suffix says.
    """
    path = Path(path)
    reader = format_of(path)[0]
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        frame = reader(path)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8: {_other_encoding(path)}") from None
    except EnrichError:
        raise
    except Exception as error:  # a file of others may break its reader in any way
        raise InputError(f"{path} cannot be read as {path.suffix.lower()}: {str(error).strip()}") from error
    if not len(frame):
        raise InputError(f"{path} has no rows.")
    return frame


def write_sheet(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table into a file by its suffix, in place of the one of that name; the index is not written."""
    path = Path(path)
    writer = format_of(path)[1]
    check_size(path, *frame.shape)
    with replacing(path) as file:
        writer(frame, file)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a new file that takes the place of ``path`` in one step, once everything is in it and on the disk."""
    path = Path(os.path.realpath(path))  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f".{zlib.crc32(path.name.encode()):08x}"  # a name may be as long as a name can be
    for left in path.parent.glob(f"{mark}.*.tmp"):  # a kill's
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFTOVER_SECONDS:
                left.unlink()
    temporary = path.with_name(f"{mark}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_outside(path: Path, out: Path) -> None:
    """Refuse a file within a store, where it would be read as one of its shards."""
    for ours in (out, work_area(out)):
        if ours.resolve() in path.resolve().parents:
            raise InputError(f"{path} lies in the store's own folder {ours}. Write it elsewhere.")


def check_size(path: Path, rows: int, columns: int) -> None:
    """Refuse a table that no Excel file holds."""
    most_rows, most_columns = LARGEST_EXCEL_SHEET
    if path.suffix.lower() == ".xlsx" and (rows >= most_rows or columns > most_columns):
        raise InputError(
            f"{path} cannot hold {rows:,} rows and {columns:,} columns: Excel takes {most_rows:,} rows, a header "
            f"included, and {most_columns:,} columns. Write CSV or Parquet instead."
        )


def is_text(path: Path) -> bool:
    """Whether a sheet's cells are text or numbers, and a program may take text for a formula."""
    return path.suffix.lower() in (".csv", ".tsv", ".xlsx")


def format_of(path: Path) -> tuple[Reader, Writer]:
    """Return what reads and what writes files of that suffix."""
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise InputError(
            f"{path}: the suffix {path.suffix!r} says nothing. Name a file that ends in {', '.join(_FORMATS)}."
        ) from None


def _read_separated(separator: str) -> Reader:
    def read(path: Path) -> pd.DataFrame:
        # The header is read as a row: pandas would rename what is empty or repeated in it.
        cells = _cells(path, separator)
        if len(cells.columns) == 1:  # a blank line is an empty cell, but for those at both ends
            with path.open(encoding="utf-8-sig") as lines:
                blank = sum(1 for _ in itertools.takewhile(str.isspace, lines))
            cells = _cells(path, separator, skip_blank_lines=False, skiprows=blank)
            filled = np.flatnonzero(cells[0].str.strip() != "")
            if not len(filled):
                raise InputError(f"{path} is empty.")
            cells = cells[: filled[-1] + 1]
        frame = cells.iloc[1:].reset_index(drop=True).set_axis(cells.iloc[0].tolist(), axis="columns")
        only = str(frame.columns[0])
        if len(frame.columns) == 1 and (other := [one for one in ";\t,|" if one != separator and one in only]):
            raise InputError(
                f"{path} has one column, {only!r}, as if its cells were separated by {other[0]!r}. Separate them by "
                f"{separator!r}."
            )
        return frame

    return read


def _cells(path: Path, separator: str, *, skip_blank_lines: bool = True, skiprows: int = 0) -> pd.DataFrame:
    try:
        return pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skip_blank_lines=skip_blank_lines,
            skiprows=skiprows,
        )
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty.") from None


def _write_separated(separator: str) -> Writer:
    def write(frame: pd.DataFrame, file: IO[bytes]) -> None:
        # A lone carriage return is quoted only where it is part of the line's end, and would else end one.
        texts = (cell for _, column in frame.items() for cell in (column.name, *_objects(column)))
        returns = any(isinstance(cell, str) and "\r" in cell for cell in texts)
        end = "\r\n" if returns else "\n"
        frame.to_csv(file, sep=separator, index=False, lineterminator=end, encoding="utf-8", errors="replace")

    return write


def _objects(column: pd.Series[Any]) -> Iterator[Any]:
    """Yield the cells of a column that may hold text."""
    if not pd.api.types.is_numeric_dtype(column):
        yield from column


def _read_parquet(path: Path) -> pd.DataFrame:
    return to_frame(pq.read_table(path))


def _write_parquet(frame: pd.DataFrame, file: IO[bytes]) -> None:
    pq.write_table(as_table(frame), file, compression="zstd")


def _read_lines(path: Path) -> pd.DataFrame:
    rows = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise InputError(f"Line {number:,} of {path} is no JSON: {error}.") from None
                if not isinstance(row, dict):
                    raise InputError(f"Line {number:,} of {path} is no JSON object with a column per name.")
                rows.append(row)
    # As objects: a number that some rows lack would become another one.
    return pd.DataFrame(rows, dtype=object)


def _write_lines(frame: pd.DataFrame, file: IO[bytes]) -> None:
    names = [str(name) for name in frame.columns]
    for cells in frame.astype(object).itertuples(index=False, name=None):
        known = (None if is_missing(cell) and not isinstance(cell, str) else cell for cell in cells)
        row = dict(zip(names, known, strict=True))
        file.write((json.dumps(row, ensure_ascii=False, default=json_cell) + "\n").encode("utf-8", "replace"))


def json_cell(value: Any) -> Any:
    """Return a value that JSON does not have as one that it has."""
    found = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return as_text(found) if found is value or isinstance(found, np.generic) else found


def _read_excel(path: Path) -> pd.DataFrame:
    rows, sheets = _excel_cells(path, values=True)
    formulas, _ = _excel_cells(path, values=False)
    both = zip(itertools.chain(*rows), itertools.chain(*formulas), strict=True)
    # A formula that comes to nothing is known to be text.
    unknown = [
        one.coordinate for one, told in both if told.data_type == "f" and (one.value, one.data_type) == (None, "n")
    ]
    if unknown:
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        raise InputError(
            f"{path} has formulas whose values were not saved with it: {unknown[0]}{more}. Open it in a spreadsheet "
            "program and save it there, or put values in their place."
        )
    if len(sheets) > 1:
        warnings.warn(f"{path} has {len(sheets)} sheets. Only the first, {sheets[0]!r}, is read.", stacklevel=3)
    texts = [[cell.value if isinstance(cell.value, str) else cell_text(cell.value) for cell in row] for row in rows]
    filled = [(row, column) for row, cells in enumerate(texts) for column, text in enumerate(cells) if text]
    if not filled:
        raise InputError(f"{path} is empty.")
    top, bottom, width = filled[0][0], filled[-1][0] + 1, max(column for _, column in filled) + 1
    names, *cells = ([*row, *[""] * width][:width] for row in texts[top:bottom])
    return pd.DataFrame(cells, columns=names, dtype=str)


def _excel_cells(path: Path, *, values: bool) -> tuple[list[Sequence[Any]], list[str]]:
    """Return the cells of the first sheet, with a formula or its value in them, and the names of all sheets."""
    with _openpyxl():
        from openpyxl import load_workbook

        with contextlib.closing(load_workbook(path, read_only=True, data_only=values)) as book:
            first = book.worksheets[0]
            first.reset_dimensions()  # some programs write wrong ones
            return list(first.iter_rows()), [sheet.title for sheet in book.worksheets]


def _write_excel(frame: pd.DataFrame, file: IO[bytes]) -> None:
    with _openpyxl():
        from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE as UNFIT

        def fit(cell: Any) -> Any:
            whole = isinstance(cell, int) and abs(cell) < LARGEST_EXCEL_INTEGER
            if is_missing(cell) or isinstance(cell, bool | float) or whole:
                return cell
            text = cell if isinstance(cell, str) else as_text(cell)
            return UNFIT.sub("\ufffd", text.encode("utf-8", "replace").decode())

        columns = {}
        for place, (name, column) in enumerate(frame.items()):
            cells = [fit(cell) for cell in column.astype(object)]
            if long := [row for row, cell in enumerate(cells) if len(str(cell)) > LONGEST_EXCEL_CELL]:
                told = f"{name} is cut to {LONGEST_EXCEL_CELL:,} characters in {rows_told(long)}"
                warnings.warn(f"{told}: a cell of Excel takes no more.", stacklevel=4)
            columns[place] = [cell[:LONGEST_EXCEL_CELL] if isinstance(cell, str) else cell for cell in cells]
        fitted = pd.DataFrame(columns, dtype=object).set_axis(
            [fit(str(name)) for name in frame.columns], axis="columns"
        )
        with pd.ExcelWriter(cast("BinaryIO", file), engine="openpyxl") as writer:
            fitted.to_excel(writer, index=False)
            for row in writer.book.active.iter_rows():
                for cell in row:
                    if cell.data_type == "f":  # text is text, whatever it begins with
                        cell.data_type = "s"


@contextlib.contextmanager
def _openpyxl() -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise SetupError(
            "Excel files need openpyxl: pip install 'enrichkit[excel]'. Or save the table as CSV."
        ) from None


_FORMATS: dict[str, tuple[Reader, Writer]] = {
    ".csv": (_read_separated(","), _write_separated(",")),
    ".tsv": (_read_separated("\t"), _write_separated("\t")),
    ".parquet": (_read_parquet, _write_parquet),
    ".jsonl": (_read_lines, _write_lines),
    ".ndjson": (_read_lines, _write_lines),
    ".xlsx": (_read_excel, _write_excel),
}


def _other_encoding(path: Path) -> str:
    """Return which encoding a file may be in, where that shows, and how to convert it."""
    data = path.read_bytes()
    line, guess = 1, "UTF-16"
    if data[:2] not in UTF_16:
        line, guess = _first_other_line(data), "WINDOWS-1252"
        try:
            data.decode("cp1252")
        except UnicodeDecodeError:
            guess = "ISO-8859-1"
    return (
        f"see line {line:,}. It may be {guess}. Convert it: iconv -f {guess} -t UTF-8 {path.name} > new{path.suffix}; "
        "or save it in Excel as 'CSV UTF-8'."
    )


def _first_other_line(data: bytes) -> int:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return data.count(b"\n", 0, error.start) + 1
    return 1
