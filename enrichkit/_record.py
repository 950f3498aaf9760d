"""The record: the canonical text of a cell, and the identities made from it.

One rule decides whether two cells are equal, in this run and in every later one, whatever the column's dtype was:
equal as text after trimming and NFC, whole numbers without a decimal point, missing however it is spelled. The rule
is written out here rather than taken from a library, whose output may change with its version.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import math
import numbers
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

SEPARATOR = "\x1f"  # ASCII "unit separator": `cell_text` never leaves one in a cell


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, NaT, pandas' NA, or text of blanks only."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, str):
        return not value or value.isspace()
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
        text = text.encode("utf-8", "replace").decode() if _has_surrogate(text) else text
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
    return (
        str(int(value)) if value == int(value) else repr(value) if isinstance(value, float) else str(value.normalize())
    )


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def column_texts(column: pd.Series[Any], *, ignore_case: bool = False) -> list[str]:
    """Return the canonical text of each cell of a column, each different value worked out once."""
    codes, values = pd.factorize(column, use_na_sentinel=True) if _hashable(column) else (None, column)
    texts = [cell_text(value) for value in values]
    if ignore_case:
        texts = [text.casefold() for text in texts]
    if codes is None:
        return texts
    texts.append("")  # code -1: missing
    return [texts[code] for code in codes]


def _hashable(column: pd.Series[Any]) -> bool:
    # True == 1 and 1 == 1.0 in Python: factorize would merge cells of mixed type whose texts differ.
    return pd.api.types.infer_dtype(column, skipna=True) in (
        "string",
        "integer",
        "floating",
        "datetime64",
        "empty",
    )


def ids(columns: Sequence[tuple[str, Iterable[str]]], *, salt: str = "") -> list[str]:
    """Return one id per row, 32 hexadecimal digits: BLAKE2b-128 over column names and canonical texts."""
    names = SEPARATOR.join([salt, *(name for name, _ in columns)])
    base = hashlib.blake2b(names.encode(), digest_size=16)
    result = []
    for row in zip(*(texts for _, texts in columns), strict=True):
        digest = base.copy()
        digest.update(SEPARATOR.join(row).encode())
        result.append(digest.hexdigest())
    return result


def group(values: Sequence[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return each row's group number, in order of first appearance, and each group's first row.

    >>> [numbers.tolist() for numbers in group(["b", "a", "b"])]
    [[0, 1, 0], [0, 1]]
    """
    codes = pd.factorize(np.asarray(values, dtype=object))[0].astype(np.int32)
    first = np.unique(codes, return_index=True)[1].astype(np.int32)
    return codes, first
