"""The comparison: what differs between two readings of the same records, and which of two sides is better.

A reading is a store, or a frame kept from `evidence`. What means the same, by the kinds of the fields, is no difference.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import create_model

from ..gemini.wire import read_stored
from ..reading.answer import Answer, Check
from ..reading.shape import ARROW, SIMPLE
from ..stages import funds
from ..stages.checks import kinds_of_facts, means_the_same
from ..stages.kinds import BETWEEN
from ..stages.stage import Stage
from ..store.index import RECORD_ID
from ..store.reader import ORIGIN, StoreReader
from ..store.rows import Outcome, ReadReply, meta, read_payload, stage_values
from .doubts import FACTS, fields, read_answers
from .frames import evidence

Same = Callable[[str, Any, Any], bool]
"""Whether two answers for a column mean the same."""
ON = [RECORD_ID, "column"]


@dataclass(frozen=True, slots=True)
class Reading:
    """The answers of a store, or those of a frame that was kept from one."""

    cells: pd.DataFrame
    checks: Mapping[str, tuple[str, Sequence[Check]]] = field(default_factory=dict)
    """By column, its field and the kinds that say what means the same."""
    replies: Mapping[tuple[str, str], Sequence[bytes]] | None = None


def changes(old: str | Path | pd.DataFrame, new: str | Path | pd.DataFrame | None = None) -> pd.DataFrame:
    """Return what differs between two readings of the same records, a row per value.

    Parameters
    ----------
    old : str, Path or DataFrame
        A store's folder, or a frame kept from `evidence`.
    new : str, Path or DataFrame, optional
        The other reading: another store, the same one later, a side of a trial. Without it, ``old`` is a store, whose
        newest answers are compared with those before.

    Returns
    -------
    DataFrame
        ``_record_id``, the key columns, ``stage``, ``column``, ``old`` and ``new`` (as text; missing where there is
        no value), ``why`` ("asked again", "read anew" or "decided"), and the state and pages of both: ``old_state``,
        ``new_state`` (also ``failed``), ``old_pages``, ``new_pages``. Records and columns that only one of them has
        are left out, and so is what means the same.

    Raises
    ------
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> kept = enrichkit.trust.evidence(out)
    >>> kept.loc[kept["column"] == "fund.city", "answer"] = "Bergen"
    >>> enrichkit.trust.changes(kept, out)[["column", "old", "why"]].values.tolist()
    [['fund.city', 'Bergen', 'read anew']]
    """
    after = _read(old if new is None else new)
    before = _before(old, after) if new is None else _read(old)
    checks = {**before.checks, **after.checks}
    key = (after if new is not None else after).cells.attrs[ORIGIN]["key"]
    both = before.cells.merge(after.cells, on=ON, how="outer" if new is not None else "inner", suffixes=("_old", "_new"))
    return both
