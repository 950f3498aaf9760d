"""The table: the user's DataFrame as Arrow, and the types of the stored columns.

Every column gets a type that all readers of Parquet know, decided before the first request: text where a column
mixes kinds or holds nothing yet, never Arrow's null type. Nothing is coerced silently: a value that does not fit
its column is left out and named.
"""

from __future__ import annotations

import contextlib
import decimal
import json
import re
import unicodedata
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from ..formatting import perhaps, rows_told
from .cells import cell_text, is_missing

DEEPEST = 30
"""No sensible answer model nests deeper; a thousand levels exceed Python's recursion limit."""


NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d+)?")
LISTED = re.compile(r"[,;|\n]")
NESTED = (list, tuple, dict, np.ndarray)
SCALARS = (str, bool, int, float, np.generic, bytes, pd.Period, pd.Interval, pd.Timedelta, uuid.UUID)
CONTAINERS = (list, tuple, dict, set, np.ndarray)
MISFIT = object()
"""What no type of a column takes; Arrow would make a list of a text's letters."""
NO_KINDS: Mapping[str, pa.DataType] = {}
NO_NAMES: Mapping[str, str] = {}


def as_frame(table: Any) -> pd.DataFrame:
    """Return a table as pandas, also one of another kind that has ``to_pandas()``, such as a polars frame.

    Raises
    ------
    InputError
        If it is no table, or has no columns.
    """
    frame = table.to_pandas() if hasattr(table, "to_pandas") else table
    if not isinstance(frame, pd.DataFrame):
        own_ways = (f"its {way}()" for way in ("collect", "to_frame") if hasattr(frame, way))
        raise InputError(
            "Give a pandas DataFrame, not {kind}: {way} makes one.",
            kind=type(frame).__name__,
            way=next(own_ways, "pd.DataFrame(...) or pd.read_csv(...)"),
        )
    if not frame.shape[1]:
        hints = "".join(perhaps(name, (), frame.index.names) for name in frame.index.names if name is not None)
        raise InputError("The table has no columns.{hints}", hints=hints)
    return frame


def check_rows(rows: Any) -> None:
    """Refuse a number of rows that is none."""
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        raise InputError("rows must be a whole number above 0, not {rows!r}.", rows=rows)


def as_table(
    frame: pd.DataFrame,
    *,
    without: frozenset[str] = frozenset(),
    kinds: Mapping[str, pa.DataType] = NO_KINDS,
    names: Mapping[str, str] = NO_NAMES,
) -> pa.Table:
    """Return the frame's columns, but those of the names in ``without``, as Arrow.

    A column that holds nothing has the type that ``kinds`` says, else it is text. Errors call columns by ``names``.

    Raises
    ------
    InputError
        If the frame has no rows, two columns have one name, or a cell cannot be stored; the message names the column
        and the row.
    """
    columns = [str(name) for name in frame.columns]
    twice = sorted({name for name in columns if columns.count(name) > 1}) if len(set(columns)) < len(columns) else []
    if twice:
        raise InputError(
            "The table has more than one column named {twice!r}. Rename or drop one of them.", twice=twice[0]
        )
    if odd := [name for name in columns if name.encode("utf-8", "replace").decode() != name]:
        raise InputError("The column name {odd!r} is no Unicode text. Rename it.", odd=odd[0])
    if not len(frame):
        raise InputError("The table has no rows.")
    arrays = {
        name: _as_array(frame.iloc[:, place], names.get(name, name), kinds.get(name, pa.string()))
        for place, name in enumerate(columns)
        if name not in without
    }
    return pa.table(arrays) if arrays else pa.table({"": pa.nulls(len(frame))}).select([])


def _as_array(column: pd.Series[Any], name: str, empty: pa.DataType) -> pa.Array | pa.ChunkedArray:
    kind = pd.api.types.infer_dtype(column, skipna=True) if column.dtype == object else ""
    zones = {getattr(value, "tzinfo", None) for value in column if not is_missing(value)} if kind == "datetime" else ()
    if len(zones) > 1 or (kind.startswith("mixed") and any(map(_is_too_deep, column))):
        return _as_text(column, name)
    try:
        array = pa.Array.from_pandas(column)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return _as_text(column, name)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_list(array.type) and pa.types.is_null(array.type.value_type):
        return array.cast(pa.list_(pa.string()))  # lists that are all empty
    if pa.types.is_null(array.type) or (array.null_count == len(array) and not pa.types.is_nested(array.type)):
        return pa.nulls(len(array), empty)
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        return array.cast(pa.string())
    return array if _is_plain(array.type) else _as_text(column, name)


def _is_too_deep(value: Any, depth: int = 0) -> bool:
    """Whether a cell is nested so deeply, without end perhaps, that no reader of Parquet opens it, or Arrow crashes."""
    if not isinstance(value, CONTAINERS) or (isinstance(value, np.ndarray) and not value.dtype.hasobject):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == DEEPEST or any(_is_too_deep(value, depth + 1) for value in inner)


def _as_text(column: pd.Series[Any], name: str) -> pa.Array:
    """Store a column of mixed kinds as text; refuse values that have no text."""
    texts = [None if is_missing(value) else _cell_as_text(value) for value in column]
    for row, (text, value) in enumerate(zip(texts, column, strict=True)):
        if text is None and not is_missing(value):
            raise InputError(
                "Column {name!r} holds a value of type {kind} in {rows}, which cannot be stored in a column with its "
                "other cells. Turn the column into text, numbers, dates or lists of one kind.",
                name=name,
                kind=type(value).__name__,
                rows=rows_told([row], column.index),
            )
    return pa.array(texts, pa.string())


def _cell_as_text(value: Any) -> str | None:
    """Return a cell as text, lists and objects as JSON; None for a value that has no text."""
    with contextlib.suppress(TypeError, ValueError, OverflowError, RecursionError):  # odd keys, a list within itself, …
        if isinstance(value, NESTED):
            plain = value.tolist() if isinstance(value, np.ndarray) else value
            return json.dumps(plain, ensure_ascii=False, default=cell_text).encode("utf-8", "replace").decode()
        if isinstance(value, SCALARS) or hasattr(value, "isoformat") or hasattr(value, "__float__"):
            return cell_text(value)
    return None


def is_true(mask: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Return Arrow's truth values as numpy's; a missing one is false."""
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), dtype=bool)


def has_value(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Return which cells of a column hold anything but blanks."""
    if pa.types.is_string(column.type):
        return is_true(pc.not_equal(pc.utf8_trim_whitespace(column), ""))
    return is_true(pc.is_valid(column))


def cells_at(column: pa.Array, places: npt.NDArray[np.integer]) -> pa.Array:
    """Return a column's cells at some places, a missing one for the place -1."""
    return column.take(pa.array(np.maximum(places, 0), mask=places < 0))


def _is_plain(kind: pa.DataType, depth: int = 0) -> bool:
    """Whether every reader of Parquet knows the type."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return depth < DEEPEST and _is_plain(kind.value_type, depth + 1)
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and depth < DEEPEST and all(_is_plain(field.type, depth + 1) for field in kind)
    plain = "boolean integer floating decimal string large_string binary date time timestamp".split()
    return any(getattr(pa.types, f"is_{name}")(kind) for name in plain)


def wider(stored: pa.DataType, new: pa.DataType) -> pa.DataType:
    """Return the type that holds what both hold: the same, the larger number, else text."""
    if stored.equals(new):
        return stored
    if pa.types.is_decimal(stored) and pa.types.is_decimal(new):
        return pa.decimal128(38, max(stored.scale, new.scale))
    if pa.uint64() in (stored, new):
        return pa.string()  # no type of number holds both
    if pa.types.is_integer(stored) and pa.types.is_integer(new):
        return pa.int64()
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (stored, new)]
    return pa.float64() if all(numbers) else pa.string()


def as_type(array: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """Return stored values in another type; what does not fit it is missing."""
    if array.type.equals(kind):
        return array
    if array.null_count == len(array):
        return pa.nulls(len(array), kind)
    if pa.types.is_integer(array.type) and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return pc.cast(array, kind, safe=not pa.types.is_floating(kind))  # as pandas: whole numbers beside halves
    return as_column([None if is_missing(value) else value for value in array.to_pylist()], kind)[0]


def as_text(value: Any) -> str:
    """Return an answer as the text of one cell: lists joined by commas, objects as JSON.

    >>> as_text(["fintech", "saas"]), as_text({"value": 3})
    ('fintech, saas', '{"value": 3}')
    """
    if isinstance(value, str):
        return cell_text(value)
    value = as_object(value.tolist() if isinstance(value, np.ndarray) else value)  # as pandas reads lists from Parquet
    if isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value)):
        return json.dumps(value, ensure_ascii=False, default=cell_text)
    return cell_text(value)


def as_object(value: Any) -> Any:
    """Return pairs as an object, as Arrow has them; any other value as it is.

    >>> as_object([("head", "Ida")]), as_object(["Ida"])
    ({'head': 'Ida'}, ['Ida'])
    """
    pairs = isinstance(value, list) and value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value)
    return dict(value) if pairs else value


def typed(text: str | None, kind: pa.DataType) -> Any:
    """Return a value of some type from its text; of a type that has none, such as a list, the text.

    >>> typed("3", pa.float64()), typed("12.55", pa.decimal128(2, 1)), typed("a, b", pa.list_(pa.string()))
    (3.0, Decimal('12.55'), 'a, b')
    """
    with contextlib.suppress(pa.ArrowException, decimal.InvalidOperation):
        if text is not None and pa.types.is_decimal(kind):
            return decimal.Decimal(text)
        return pa.array([text], pa.string()).cast(kind)[0].as_py()
    return text


def parsed(text: str | None, kind: pa.DataType) -> Any:
    """Return a value of some type from its text; a list, too, from JSON or from parts between commas.

    Where it has another shape, it is `MISFIT`.

    >>> [parsed(text, pa.list_(pa.string())) for text in ("fintech, saas", '["a, b"]')]
    [['fintech', 'saas'], ['a, b']]
    """
    if text is None or not pa.types.is_nested(kind):
        return typed(re.sub(r"\.0+$", "", text) if text and pa.types.is_integer(kind) else text, kind)
    value = json_in(text)
    return _shaped([part.strip() for part in LISTED.split(text)] if value is None else value, kind)


def _shaped(value: Any, kind: pa.DataType) -> Any:
    """Return a value from JSON with its parts in the types of some type."""
    if isinstance(value, list) and isinstance(kind, pa.ListType | pa.LargeListType):
        return [_shaped(part, kind.value_type) for part in value]
    if isinstance(value, dict) and pa.types.is_map(kind):
        return [(key, _shaped(part, kind.item_type)) for key, part in value.items()]
    if isinstance(value, dict) and pa.types.is_struct(kind) and value.keys() <= set(kind.names):
        return {name: _shaped(part, kind.field(name).type) for name, part in value.items()}
    return None if value is None else MISFIT if pa.types.is_nested(kind) else parsed(as_text(value), kind)


def json_in(text: str) -> Any:
    """Return the list or object that a text is as JSON; None if it is none."""
    with contextlib.suppress(ValueError):
        return json.loads(text) if text.lstrip()[:1] in tuple("[{") else None
    return None


def alike(text: str, other: str) -> bool:
    """Whether two cells say the same, however they are written: case, blanks, signs, a list's order, an address's form.

    >>> alike("http://www.Firm.example/", "https://firm.example"), alike("Oslo", "Bergen")
    (True, False)
    >>> alike("SaaS; Series A", "series-a, saas"), alike("1.5", "15"), alike("+44 20 7946 0000", "+442079460000")
    (True, False, True)
    """
    if NUMBER.fullmatch(text.strip()) and NUMBER.fullmatch(other.strip()):
        return float(text) == float(other)
    return {_plain(part) for part in LISTED.split(text)} == {_plain(part) for part in LISTED.split(other)}


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).strip().casefold()
    bare = re.sub(r"^(https?://)?(www\.)?|[?&]utm_[^#]*$", "", text)
    return re.sub(r"[\W_]+", "", bare) or text


def as_column(values: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """Return values as an Arrow column, and the places of those that did not fit and were left out.

    The whole column is tried first: going value by value costs nine times as much.
    """
    if pa.types.is_string(kind):
        values = [value if value is None or type(value) is str else as_text(value) for value in values]
    if (column := _array(values, kind)) is not None:
        return column, []
    misfits = [place for place, value in enumerate(values) if _array([value], kind) is None]
    kept = [None if place in misfits else value for place, value in enumerate(values)]
    return pa.array(kept, kind), misfits


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    """Return values as Arrow; None if one of them does not fit."""
    # Arrow turns 1.5 into the integer 1 without a word.
    if not pa.types.is_integer(kind) or not any(isinstance(value, float) and value % 1 for value in values):
        with contextlib.suppress(pa.ArrowException, ValueError, TypeError, OverflowError):
            return pa.array(values, kind)
    return None
