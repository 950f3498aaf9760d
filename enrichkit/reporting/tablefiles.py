"""Table files: CSV, Parquet, JSON lines and Excel, read and written by their suffix.

A file appears whole or not at all. Text stays text: no cell of a CSV is taken for a number, a date or a missing value,
so that a cell that no model wrote comes back as it was. What a model wrote is untrusted: in CSV and Excel it is kept
from being taken for a formula.
"""

from __future__ import annotations

import decimal
import functools
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import EnrichError, InputError
from ..store.files import Files, read_progress, trial_area, work_area
from ..store.reader import ORIGIN, ROWS_AT_ONCE, StoreReader, origin_of, shown, to_frame
from ..table.arrow import CONTAINERS, as_table, as_text
from ..table.cells import is_missing
from ..table.workbook import read_workbook, write_workbook

Lists = Literal["readable", "json"]
Formulas = Literal["safe", "raw"]
UNSEEN = r"[\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*"
FORMULA = re.compile(rf"[\t\r\n]|{UNSEEN}[=+\-@＝＋－＠]")
"""How text begins that a spreadsheet may take for a formula; invisible characters may be dropped on the way there."""
INNER = re.compile(rf"(\r\n|[;\t\r\n])(?={UNSEEN}(?:[=+@＝＋＠]|[-－]\S))")
"""Some countries' spreadsheets split cells here: what follows may be a formula, too, unless it is a bullet."""


def export(
    out: str | Path | pd.DataFrame,
    path: str | Path,
    *,
    only_new: bool = False,
    lists: Lists = "readable",
    formulas: Formulas = "safe",
    original: pd.DataFrame | None = None,
) -> None:
    """Write a store, or an enriched table, into a CSV, Parquet, JSON lines or Excel file.

    The file appears whole, in place of the one of that name; the input of the command line's last run on the store is
    never replaced. Parquet and JSON lines hold the values as they are; ``lists`` and ``formulas`` are about the others,
    whose cells are text.

    Parameters
    ----------
    out : str or Path or DataFrame
        A store's folder, whose records are written as `read` returns them; or what `run` returned.
    path : str or Path
        The file; its suffix says which kind.
    only_new : bool
        Only the key and the columns that a model wrote into.
    lists : {"readable", "json"}
        Lists joined by commas, or as JSON.
    formulas : {"safe", "raw"}
        "safe" puts ``'`` before text that a spreadsheet would take for a formula, also within a cell that it may split
        (at a semicolon, say), in the cells and headers of columns that a model wrote into; in all columns, if those
        are not known.
    original : DataFrame, optional
        The table before, row for row: its own cells stay as they are, in columns with filled gaps, too.

    Raises
    ------
    InputError
        If the suffix is none of these, the file would lie within the store or is its run's input, there is nothing to
        write, or it is not known what is new.
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"], "seen": ["=1"]})
    >>> enriched = enrichkit.run(df, model="simulator", stages=["fund"], out=f"{folder}/enriched", progress=False)
    >>> enrichkit.export(enriched, f"{folder}/enriched.csv")
    >>> pd.read_csv(f"{folder}/enriched.csv")[["seen", "_status"]].values.tolist()
    [['=1', 'done']]
    """
    if lists not in ("readable", "json"):
        raise InputError("lists must be 'readable' or 'json', not {lists!r}.", lists=lists)
    if formulas not in ("safe", "raw"):
        raise InputError("formulas must be 'safe' or 'raw', not {formulas!r}.", formulas=formulas)
    path = Path(path)
    if isinstance(out, pd.DataFrame):
        store, names, origin = None, list(out.columns), out.attrs.get(ORIGIN)
    else:
        reader = StoreReader(out)
        store, names = reader.folder, shown(reader)
        origin = origin_of(reader, names)
    check_target(path, out=store)
    if not names:
        raise InputError("There is nothing to write into {path}: no record is complete yet.", path=path)
    if only_new:
        if origin is None:
            raise InputError("It is not known which columns are new: give a store, or a table as run returned it.")
        names = [name for name in names if name in {*origin["key"], *origin["written"]}]
    rows = reader.pieces(names) if not isinstance(out, pd.DataFrame) else out[names] if only_new else out
    try:
        write_sheet(rows, path, origin=origin, lists=lists, formulas=formulas, original=original)
    except OSError as error:
        reason = error.strerror or error
        raise InputError("{path} cannot be written: {reason}.", path=path, reason=reason) from error


def read_sheet(path: str | Path) -> pd.DataFrame:
    """Return the table in a file: CSV, Parquet, JSON lines or Excel, by its suffix.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read as what its suffix says.
    """
    path = Path(path)
    reader, _ = format_of(path)
    if not path.is_file():
        raise InputError("There is no file {path}.", path=path)
    try:
        frame = reader(path)
    except pd.errors.EmptyDataError:
        raise InputError("{path} is empty.", path=path) from None
    except UnicodeError:
        raise InputError("{path} is not UTF-8. Save it as 'CSV UTF-8', or convert it with iconv.", path=path) from None
    except EnrichError:
        raise
    except Exception as error:  # a broken file may raise anything in its reader
        reason = str(error).strip()
        raise InputError(
            "{path} cannot be read as {kind}: {reason}", path=path, kind=path.suffix, reason=reason
        ) from error
    return frame


def write_sheet(
    table: pd.DataFrame | Iterable[pa.Table],
    path: str | Path,
    *,
    origin: Mapping[str, Collection[str]] | None = None,
    lists: Lists = "readable",
    formulas: Formulas = "raw",
    original: pd.DataFrame | None = None,
) -> None:
    """Write a table into a file by its suffix, in place of the one of that name; the index is not written.

    Text and JSON are made of some rows at a time, and a table in pieces of one schema is never in memory as a whole,
    unless it becomes an Excel file; ``origin`` says which of its columns a model wrote into. See `export` for the rest.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    _, writer = format_of(path)
    origin = table.attrs.get(ORIGIN) if isinstance(table, pd.DataFrame) else origin
    pieces = _pieces(table, suffix := path.suffix.lower())
    if suffix in (".csv", ".xlsx"):
        pieces = _without_lists(pieces, origin=origin, lists=lists, formulas=formulas, original=original)
    path.parent.mkdir(parents=True, exist_ok=True)
    Files(path.parent, mode=0o666).put(path, functools.partial(writer, pieces))


def _pieces(table: pd.DataFrame | Iterable[pa.Table], suffix: str) -> Iterator[Any]:
    """Return the pieces in which a table is written: as Arrow for Parquet, else as pandas."""
    if not isinstance(table, pd.DataFrame):
        tables = [pa.concat_tables(table)] if suffix == ".xlsx" else table
        return iter(tables) if suffix == ".parquet" else map(to_frame, tables)
    if suffix == ".parquet":
        return iter([as_table(table) if len(table) else pa.Table.from_pandas(table, preserve_index=False)])
    rows = len(table) if suffix == ".xlsx" else ROWS_AT_ONCE
    return (table.iloc[start : start + rows] for start in range(0, len(table) or 1, rows or 1))


def check_target(path: Path, *, out: Path | None = None, source: object = None) -> None:
    """Refuse a file that cannot be written, that is in a store, or that is the source of its run."""
    format_of(path)
    for ours in () if out is None else (out, work_area(out), trial_area(out)):
        if ours.resolve() in (path.resolve(), *path.resolve().parents):
            raise InputError(
                "{path} is, or lies in, the store's folder {ours}. Write it elsewhere.", path=path, ours=ours
            )
    source = read_progress(out).get("input") if out is not None and source is None else source
    if isinstance(source, str | Path) and path.exists() and Path(source).exists() and path.samefile(source):
        raise InputError("{path} is the input of the run. Write it elsewhere.", path=path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        what = "it is a folder" if path.is_dir() else f"{folder} is not yours to write in"
        raise InputError("{path} cannot be written: {what}. Name another file.", path=path, what=what)


def format_of(path: Path) -> tuple[Callable[[Path], pd.DataFrame], Callable[[Iterator[Any], BinaryIO], None]]:
    """Return what reads and what writes files of that suffix."""
    if (suffix := path.suffix.lower()) not in _FORMATS:
        raise InputError(
            "{path}: the suffix {suffix!r} is not known. Name a file that ends in {listed}.",
            path=path,
            suffix=path.suffix,
            listed=", ".join(_FORMATS),
        )
    return _FORMATS[suffix]


def _without_lists(
    pieces: Iterable[pd.DataFrame],
    *,
    origin: Mapping[str, Collection[str]] | None,
    lists: Lists,
    formulas: Formulas,
    original: pd.DataFrame | None,
) -> Iterator[pd.DataFrame]:
    """Yield pieces of a table as a file whose cells are text has them: without lists, and maybe without formulas."""
    start, before = 0, pd.DataFrame() if original is None else original
    for frame in pieces:
        suspect = {name for name in frame.columns if formulas == "safe" and (not origin or name in origin["written"])}
        columns = []
        for name, column in frame.items():
            if pd.api.types.is_numeric_dtype(column):
                columns.append(column)
                continue
            cells = [_flat(cell, lists) for cell in column]
            if name in suspect:
                own = before[name].iloc[start : start + len(frame)] if name in before else [None] * len(frame)
                both = zip(cells, own, strict=True)
                cells = [cell if isinstance(mine, str) and str(cell) == mine else harmless(cell) for cell, mine in both]
            columns.append(pd.Series(cells, frame.index, dtype=object))
        names = [harmless(name) if name in suspect else name for name in frame.columns]
        yield pd.concat(columns, axis="columns", sort=False).set_axis(names, axis="columns")
        start += len(frame)


def _flat(cell: Any, lists: Lists) -> Any:
    """Return a cell without lists or objects in it."""
    if not isinstance(cell, (*CONTAINERS, bytes)):
        return cell
    return json.dumps(cell, ensure_ascii=False, default=_json_value) if lists == "json" else as_text(cell)


def harmless(cell: Any) -> Any:
    """Return text so that no spreadsheet takes it for a formula.

    >>> [harmless(cell) for cell in ("=1+1", " +49 30", "a=b", "a;=1", "a; - b", -1)]
    ["'=1+1", "' +49 30", 'a=b', "a;'=1", 'a; - b', -1]
    """
    if not isinstance(cell, str):
        return cell
    return ("'" if FORMULA.match(cell) else "") + INNER.sub(r"\1'", cell)


def _read_csv(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    sep = next((sign for sign in ",;\t" if sign in header), ",")  # semicolons are Excel's in much of Europe
    # The header is read as a row: pandas would rename what is empty or repeated in it.
    cells: pd.DataFrame = pd.read_csv(
        path, sep=sep, encoding="utf-8-sig", header=None, dtype=str, keep_default_na=False
    )
    return cells.iloc[1:].reset_index(drop=True).set_axis(cells.iloc[0].tolist(), axis="columns")


class _Lines(io.TextIOWrapper):
    """Ends lines in LF that come with CR and LF: only so a lone CR in a cell is quoted, and ends no line."""

    def write(self, line: str) -> int:
        return super().write(line.removesuffix("\r\n") + "\n")


def _write_csv(pieces: Iterator[pd.DataFrame], file: BinaryIO) -> None:
    lines = _Lines(file, "utf-8", "replace", newline="")
    for number, frame in enumerate(pieces):
        frame.to_csv(lines, header=not number, index=False, lineterminator="\r\n")
    lines.detach()


def _read_parquet(path: Path) -> pd.DataFrame:
    return to_frame(pq.read_table(path))


def _write_parquet(pieces: Iterator[pa.Table], file: BinaryIO) -> None:
    table = next(pieces)
    with pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        for piece in itertools.chain([table], pieces):
            writer.write_table(piece)


def _read_lines(path: Path) -> pd.DataFrame:
    rows = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    rows.append({**json.loads(line)})
                except (ValueError, TypeError) as error:
                    place = f"Line {number:,} of {path}"
                    raise InputError("{place} is not a JSON object: {reason}.", place=place, reason=error) from None
    return pd.DataFrame(rows, dtype=object)  # else a number that some rows lack would become another one


def _write_lines(pieces: Iterator[pd.DataFrame], file: BinaryIO) -> None:
    for frame in pieces:
        names = [str(name) for name in frame.columns]
        for cells in frame.astype(object).itertuples(index=False, name=None):
            known = (None if is_missing(cell) and not isinstance(cell, str) else cell for cell in cells)
            line = json.dumps(dict(zip(names, known, strict=True)), ensure_ascii=False, default=_json_value)
            file.write((line + "\n").encode("utf-8", "replace"))


def _json_value(value: Any) -> Any:
    """Return a value that JSON does not have as one that it has; a decimal keeps its digits, as in CSV."""
    if isinstance(value, decimal.Decimal):
        return str(value)
    python = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return as_text(python) if python is value or isinstance(python, np.generic) else python


_FORMATS: dict[str, tuple[Callable[[Path], pd.DataFrame], Callable[[Iterator[Any], BinaryIO], None]]] = {
    ".csv": (_read_csv, _write_csv),
    ".parquet": (_read_parquet, _write_parquet),
    ".jsonl": (_read_lines, _write_lines),
    ".xlsx": (read_workbook, write_workbook),
}
