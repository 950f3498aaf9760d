"""The export: a store or an enriched table as a file for people and other programs.

Nothing is asked, and no cell that no model wrote is changed. What a model wrote is untrusted: in CSV and Excel it is
kept from being taken for a formula.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ..errors import InputError
from ..store.files import folder_of, read_progress
from ..store.reader import ORIGIN, read
from ..table.arrow import CONTAINERS, as_text
from ..table.cells import is_missing
from .sheet import check_outside, format_of, is_text, json_cell, write_sheet

Lists = Literal["readable", "json"]
Formulas = Literal["safe", "raw"]
UNSEEN = r"[\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*"
FORMULA = re.compile(rf"[\t\r\n]|{UNSEEN}[=+\-@＝＋－＠]")
"""Text that a spreadsheet may take for a formula begins so; what nobody sees may be dropped on the way there."""
INNER = re.compile(rf"(\r\n|[;\t\r\n])(?={UNSEEN}(?:[=+@＝＋＠]|[-－]\S))")
"""Where a spreadsheet splits cells here, as in some countries, what follows may be one too, unless it is a bullet."""


def export(
    out: str | Path | pd.DataFrame,
    path: str | Path,
    *,
    only_new: bool = False,
    lists: Lists = "readable",
    formulas: Formulas = "safe",
    original: pd.DataFrame | None = None,
) -> None:
    """Write a store, or an enriched table, into a CSV, TSV, Parquet, JSON lines or Excel file.

    The file appears whole, in place of the one of that name; the input of the command line's last run on the store is
    never replaced. Parquet and JSON lines hold the values as they are;
    ``lists`` and ``formulas`` are about the others, whose cells are text.

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
        (at a semicolon, say), in the cells and headers of columns that a model wrote into; in all columns, if it cannot
        be told which those are.
    original : DataFrame, optional
        The table before, row for row: its own cells stay as they are, in columns with filled gaps, too.

    Raises
    ------
    InputError
        If the suffix is none of these, the file would lie within the store or is its run's input, nothing is there to
        be written, or what is new cannot be told.
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
    format_of(path)
    frame = out if isinstance(out, pd.DataFrame) else read(out)
    if not isinstance(out, pd.DataFrame):
        check_outside(path, folder_of(out))
        given = read_progress(folder_of(out)).get("input")
        if isinstance(given, str) and path.exists() and Path(given).exists() and path.samefile(given):
            raise InputError("{path} is the input of the store's last run. Write it elsewhere.", path=path)
    if not len(frame.columns if isinstance(out, pd.DataFrame) else frame):
        raise InputError("There is nothing to write into {path}: no record is complete yet.", path=path)
    origin = frame.attrs.get(ORIGIN)
    if only_new:
        if origin is None:
            raise InputError(
                "Which columns are new cannot be told: give a store, or a table as run returned it.",
            )
        wanted = {*origin["key"], *origin["written"]}
        frame = frame[[name for name in frame.columns if name in wanted]]
    write_sheet(as_written(frame, path, lists=lists, formulas=formulas, original=original), path)


def as_written(
    frame: pd.DataFrame,
    path: Path,
    *,
    lists: Lists = "readable",
    formulas: Formulas = "safe",
    original: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the frame as a file of that suffix has it: where cells are text, without lists and formulas."""
    if not is_text(path):
        return frame
    origin, safe = frame.attrs.get(ORIGIN), formulas == "safe"
    written = {name for name in frame.columns if origin is None or name in origin["written"]}
    columns = []
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        if not pd.api.types.is_numeric_dtype(column):
            own = None if original is None or name not in original.columns else original[name].tolist()
            guarded = safe and name in written
            cells = [_cell(cell, lists, safe=guarded) for cell in column]
            if own is not None:
                cells = [mine if _same(cell, mine) else new for cell, mine, new in zip(column, own, cells, strict=True)]
            column = pd.Series(cells, frame.index, dtype=object)
        columns.append(column)
    names = [harmless(name) if safe and name in written else name for name in frame.columns]
    return pd.concat(columns, axis="columns").set_axis(names, axis="columns")


def _cell(cell: Any, lists: Lists, *, safe: bool) -> Any:
    if isinstance(cell, (*CONTAINERS, bytes)):
        cell = json.dumps(cell, ensure_ascii=False, default=json_cell) if lists == "json" else as_text(cell)
    return harmless(cell) if safe else cell


def _same(cell: Any, mine: Any) -> bool:
    return isinstance(cell, str) and cell == mine and not is_missing(mine)


def harmless(cell: Any) -> Any:
    """Return text so that no spreadsheet takes it for a formula.

    >>> [harmless(cell) for cell in ("=1+1", " +49 30", "a=b", "a;=1", "a; - b", -1)]
    ["'=1+1", "' +49 30", 'a=b', "a;'=1", 'a; - b', -1]
    """
    if not isinstance(cell, str):
        return cell
    return ("'" if FORMULA.match(cell) else "") + INNER.sub(r"\1'", cell)
