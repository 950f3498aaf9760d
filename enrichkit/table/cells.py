"""The cells: the canonical text of a cell, and the identities made from it.

One rule decides whether two cells are equal, in this run and in every later one, whatever the column's dtype was:
equal as text after trimming and NFC, whole numbers without a decimal point, missing however it is spelled. The rule
is written out here rather than taken from a library, whose output may change with its version.
"""

from __future__ import annotations

import binascii
import contextlib
import datetime
import decimal
import hashlib
import io
import json
import math
import numbers
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

SEPARATOR = "\x1f"  # ASCII "unit separator": `cell_text` never leaves one in a cell
PLAIN = r"\A[!-~]([ -~]*[!-~])?\z"
"""ASCII text that begins and ends with a visible letter: `cell_text` leaves it as it is."""
CHUNK_ROWS = 65_536


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, NaT, pandas' NA, or text of blanks only. A list, too, is something."""
    if isinstance(value, str):
        return not value or value.isspace()
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, numbers.Number) and value != value  # noqa: PLR0124 - NaN alone differs from itself


def cell_text(value: Any) -> str:  # noqa: PLR0911, PLR0912 - one line for each kind of cell
    """Return the canonical text of a cell; missing is the empty text.

    >>> [cell_text(value) for value in (1, 1.0, "1", " Ana ", None, float("nan"), True)]
    ['1', '1', '1', 'Ana', '', '', 'True']
    """
    if isinstance(value, str):
        text = value.strip()
        if text.isascii():
            return text.replace(SEPARATOR, " ")
        text = text.encode("utf-8", "replace").decode()  # no lone surrogate
        return unicodedata.normalize("NFC", text).replace(SEPARATOR, " ")
    if is_missing(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, decimal.Decimal):
        return _number_text(value)
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return _number_text(float(value))
    if isinstance(value, datetime.datetime):
        midnight = value.tzinfo is None and value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(sep=" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        parts = sorted(map(cell_text, value)) if isinstance(value, set | frozenset) else map(cell_text, value)
        return ", ".join(parts)
    if isinstance(value, dict):
        return cell_text(json.dumps(value, ensure_ascii=False, sort_keys=True, default=cell_text))
    return cell_text(str(value))


def _number_text(value: float | decimal.Decimal) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value):
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value.normalize())


def column_texts(column: pd.Series[Any], *, ignore_case: bool = False) -> pa.Array:
    """Return the canonical text of each cell of a column, as Arrow's large strings."""
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "string":
        with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate: cell by cell then
            return _texts(pa.array(column, pa.large_string(), from_pandas=True), ignore_case=ignore_case)
    # True == 1 and 1 == 1.0 in Python: factorize would merge cells of mixed type whose texts differ.
    distinct = kind in ("integer", "floating", "datetime64", "empty")
    codes, values = pd.factorize(column) if distinct else (np.arange(len(column)), column)
    texts = [cell_text(value) for value in values]
    folded = [text.casefold() for text in texts] if ignore_case else texts
    return pa.array([*folded, ""], pa.large_string()).take(pa.array(np.where(codes < 0, len(folded), codes)))


def _texts(array: pa.Array | pa.ChunkedArray, *, ignore_case: bool) -> pa.Array:
    """Return the canonical texts of text cells; plain ones, which are most, are their own."""
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    plain = pc.ascii_lower(array) if ignore_case else array
    odd = pc.fill_null(pc.invert(pc.match_substring_regex(array, PLAIN)), True)
    if not pc.any(odd).as_py():
        return plain
    cells = array.filter(odd).dictionary_encode()
    texts = [cell_text(value) for value in cells.dictionary.to_pylist()]
    folded = pa.array([text.casefold() for text in texts] if ignore_case else texts, pa.large_string())
    return pc.replace_with_mask(plain, odd, pc.fill_null(folded.take(cells.indices), ""))


Digests = npt.NDArray[np.uint8]
"""Rows of 16 bytes: as much as an id says, in half the memory of its 32 digits."""


def digests(columns: Sequence[tuple[str, pa.Array]], *, salt: str = "") -> Digests:
    """Return a BLAKE2b-128 per row, over the columns' names and canonical texts."""
    names, texts = zip(*columns, strict=True)
    base = hashlib.blake2b(SEPARATOR.join([salt, *names]).encode(), digest_size=16)
    buffer = io.BytesIO()
    for start in range(0, len(texts[0]), CHUNK_ROWS):
        some = [column.slice(start, CHUNK_ROWS) for column in texts]
        for text in pc.binary_join_element_wise(*some, pa.scalar(SEPARATOR, some[0].type)).to_pylist():
            digest = base.copy()
            digest.update(text.encode())
            buffer.write(digest.digest())
    return np.frombuffer(buffer.getbuffer(), np.uint8).reshape(-1, 16)


def ids(rows: Digests, some: npt.NDArray[np.int32] | None = None) -> pa.StringArray:
    """Return digests, all or some of them, as they are stored: text of 32 hexadecimal digits.

    >>> ids(digests([("name", pa.array(["Acme"]))]))[0].as_py()
    'f5978aa8773deee73f92a04c19fd66e3'
    """
    chosen = rows if some is None or len(some) == len(rows) else rows[some]
    places = np.arange(len(chosen) + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(len(chosen), pa.py_buffer(places), pa.py_buffer(binascii.hexlify(chosen.data)))


def group(rows: Digests) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return each row's group number, in order of first appearance, and each group's first row.

    >>> [numbers.tolist() for numbers in group(digests([("name", pa.array(["b", "a", "b"]))]))]
    [[0, 1, 0], [0, 1]]
    """
    # Sorting takes a third of the memory of a hash table.
    halves = rows.view(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    ordered = halves[order]
    begins = np.ones(len(rows), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = order[begins]  # the sort is stable
    number = np.empty(len(first), np.int32)
    number[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    codes = np.empty(len(rows), np.int32)
    codes[order] = number[np.cumsum(begins) - 1]
    return codes, np.sort(first).astype(np.int32)
