"""The sheet: a table in a file, read and written by its suffix; a file appears whole or not at all.

Text stays text: no cell of a CSV is taken for a number, a date or a missing value, so that what no run touches comes
back as it was. What a file knows beyond that, such as types, is kept for an output of its own kind.
"""

from __future__ import annotations

import contextlib
import decimal
import functools
import itertools
import json
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import EnrichError, InputError
from ..store.files import work_area
from ..store.reader import ORIGIN, to_frame
from ..table.arrow import as_table, as_text
from ..table.cells import is_missing
from .workbook import read_workbook, write_workbook

LEFTOVER_SECONDS = 3600
LARGEST_EXCEL_SHEET = 1_048_576, 16_384
"""Rows, the header's included, and columns."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")

Writer = Callable[[pd.DataFrame, IO[bytes]], None]
Reader = Callable[[Path], tuple[pd.DataFrame, Writer | None]]
"""It also returns what writes a table like the one that it read, if the file knows more than the frame."""


def read_sheet(path: str | Path) -> pd.DataFrame:
    """Return the table in a file: CSV, TSV, Parquet, JSON lines or Excel, by its suffix.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read as what its suffix says.
    """
    return open_sheet(Path(path))[0]


def open_sheet(path: Path) -> tuple[pd.DataFrame, Writer | None]:
    """Return the table in a file, and what writes its rows, enriched, into another of that kind; see `read_sheet`."""
    reader = format_of(path)[0]
    if not path.is_file():
        raise InputError("There is no file {path}.", path=path)
    try:
        frame, writer = reader(path)
    except UnicodeDecodeError:
        raise InputError("{path} is not UTF-8: {encoding}", path=path, encoding=_other_encoding(path)) from None
    except EnrichError:
        raise
    except Exception as error:  # a file of others may break its reader in any way
        raise InputError(
            "{path} cannot be read as {suffix}: {reason}",
            path=path,
            suffix=path.suffix.lower(),
            reason=str(error).strip(),
        ) from error
    if not len(frame):
        raise InputError("{path} has no rows.", path=path)
    return frame, writer


def write_sheet(frame: pd.DataFrame, path: str | Path, writer: Writer | None = None) -> None:
    """Write a table into a file by its suffix, in place of the one of that name; the index is not written.

    A ``writer`` of `open_sheet` looks rows up by that index, in the table that was read.
    """
    path = Path(path)
    writer = writer or format_of(path)[1]
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
            raise InputError("{path} lies in the store's own folder {ours}. Write it elsewhere.", path=path, ours=ours)


def check_size(path: Path, rows: int, columns: int) -> None:
    """Refuse a table that no Excel file holds."""
    most_rows, most_columns = LARGEST_EXCEL_SHEET
    if path.suffix.lower() == ".xlsx" and (rows >= most_rows or columns > most_columns):
        raise InputError(
            "{path} cannot hold {rows:,} rows and {columns:,} columns: Excel takes "
            "{most_rows:,} rows, a header included, and {most_columns:,} columns. Write CSV or "
            "Parquet instead.",
            path=path,
            rows=rows,
            columns=columns,
            most_rows=most_rows,
            most_columns=most_columns,
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
            "{path}: the suffix {suffix!r} says nothing. Name a file that ends in {names}.",
            path=path,
            suffix=path.suffix,
            names=", ".join(_FORMATS),
        ) from None


def _read_separated(separator: str) -> Reader:
    def read(path: Path) -> tuple[pd.DataFrame, None]:
        # The header is read as a row: pandas would rename what is empty or repeated in it.
        cells = _cells(path, separator)
        if len(cells.columns) == 1:  # a blank line is an empty cell, but for those at both ends
            with path.open(encoding="utf-8-sig") as lines:
                blank = sum(1 for _ in itertools.takewhile(str.isspace, lines))
            cells = _cells(path, separator, skip_blank_lines=False, skiprows=blank)
            filled = np.flatnonzero(cells[0].str.strip() != "")
            if not len(filled):
                raise InputError("{path} is empty.", path=path)
            cells = cells[: filled[-1] + 1]
        frame = cells.iloc[1:].reset_index(drop=True).set_axis(cells.iloc[0].tolist(), axis="columns")
        only = str(frame.columns[0])
        if len(frame.columns) == 1 and (other := [one for one in ";\t,|" if one != separator and one in only]):
            raise InputError(
                "{path} has one column, {only!r}, as if its cells were separated by {other!r}. "
                "Separate them by {separator!r}.",
                path=path,
                only=only,
                other=other[0],
                separator=separator,
            )
        return frame, None

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
        raise InputError("{path} is empty.", path=path) from None


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


def _read_parquet(path: Path) -> tuple[pd.DataFrame, Writer]:
    table = pq.read_table(path)
    frame = to_frame(table)
    return frame, functools.partial(_write_parquet, read=table, before=frame)


def _write_parquet(
    frame: pd.DataFrame, file: IO[bytes], *, read: pa.Table | None = None, before: pd.DataFrame | None = None
) -> None:
    table = as_table(frame) if read is None or before is None else _grown(read, before, frame)
    pq.write_table(table, file, compression="zstd")


def _grown(read: pa.Table, before: pd.DataFrame, frame: pd.DataFrame) -> pa.Table:
    """Return the rows of the table ``read`` that the frame has, as they are but for filled gaps, and what is new."""
    if len(frame) < len(before):
        before = before.loc[frame.index]
        read = pa.concat_tables(read.slice(row, 1) for row in frame.index)  # not every type can be filtered
    grown = read
    for name in before.columns.intersection(frame.attrs[ORIGIN]["written"]):
        cells = zip(before[name], frame[name], strict=True)
        filled = np.array([is_missing(mine) and not is_missing(cell) for mine, cell in cells])
        if filled.any():
            column = _filled(read.column(name), frame[[name]], filled)
            field = read.schema.field(name).with_type(column.type).with_nullable(True)
            grown = grown.set_column(read.column_names.index(name), field, column)
    new = as_table(frame, without=frozenset(read.column_names))
    for field in new.schema:
        grown = grown.append_column(field, new.column(field.name))
    return grown.replace_schema_metadata(_pandas_facts(read.schema, grown.schema))


def _filled(own: pa.ChunkedArray, frame: pd.DataFrame, filled: npt.NDArray[np.bool_]) -> pa.ChunkedArray:
    """Return a column with its gaps filled: of its own type if that holds what fills them, else as any frame's."""
    try:
        return pc.if_else(pa.array(filled), as_table(frame.where(filled[:, None], None)).column(0).cast(own.type), own)
    except pa.ArrowException:
        return as_table(frame).column(0)


def _pandas_facts(before: pa.Schema, after: pa.Schema) -> dict[bytes, bytes] | None:
    """Return what pandas wrote about its index and types, without the columns that have another type now."""
    facts = before.pandas_metadata
    if facts is None:
        return None
    other = [field.name for field in before if field.type != after.field(field.name).type]
    facts["columns"] = [one for one in facts["columns"] if one.get("field_name") not in other]
    facts["index_columns"] = [one for one in facts["index_columns"] if one not in other]
    if [one["pandas_type"] for one in facts["column_indexes"]] != ["unicode"]:
        facts["column_indexes"] = []  # the names of new columns are no numbers, dates or tuples
    return {b"pandas": json.dumps(facts).encode()}


def _read_lines(path: Path) -> tuple[pd.DataFrame, None]:
    rows = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise InputError(
                        "Line {number:,} of {path} is no JSON: {reason}.", number=number, path=path, reason=error
                    ) from None
                if not isinstance(row, dict):
                    raise InputError(
                        "Line {number:,} of {path} is no JSON object with a column per name.", number=number, path=path
                    )
                rows.append(row)
    # As objects: a number that some rows lack would become another one.
    return pd.DataFrame(rows, dtype=object), None


def _write_lines(frame: pd.DataFrame, file: IO[bytes]) -> None:
    names = [str(name) for name in frame.columns]
    for cells in frame.astype(object).itertuples(index=False, name=None):
        known = (None if is_missing(cell) and not isinstance(cell, str) else cell for cell in cells)
        row = dict(zip(names, known, strict=True))
        file.write((json.dumps(row, ensure_ascii=False, default=json_cell) + "\n").encode("utf-8", "replace"))


def json_cell(value: Any) -> Any:
    """Return a value that JSON does not have as one that it has; a decimal keeps its digits, as in CSV."""
    if isinstance(value, decimal.Decimal):
        return str(value)
    found = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return as_text(found) if found is value or isinstance(found, np.generic) else found


_FORMATS: dict[str, tuple[Reader, Writer]] = {
    ".csv": (_read_separated(","), _write_separated(",")),
    ".tsv": (_read_separated("\t"), _write_separated("\t")),
    ".parquet": (_read_parquet, _write_parquet),
    ".jsonl": (_read_lines, _write_lines),
    ".ndjson": (_read_lines, _write_lines),
    ".xlsx": (read_workbook, write_workbook),
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
