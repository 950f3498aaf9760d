"""The past: what the questions that a store has paid for used, to go by for those that are still to ask.

It only reads, and of the newest shards only a few columns: two thousand questions tell as much as a million. Replies
that are not sealed yet are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._files import files_of
from ._index import footer, shard_paths
from ._parquet import join, read_or_none
from ._questions import StageWork
from ._row import RECORD_ID, SPENT, meta
from ._table import is_true

ENOUGH_ROWS = 2000

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Past:
    """What each paid question of a stage used, its repetitions included; not a number where that is unknown."""

    facts: dict[str, Numbers]
    """By the names of the columns, such as ``output_tokens``."""
    models: npt.NDArray[np.object_]
    """The version that answered; None where another model, or another question, was asked than now."""

    def __len__(self) -> int:
        return len(self.models)

    @property
    def tokens(self) -> Numbers:
        """Tokens of all kinds."""
        parts = [self.facts[f"{kind}_tokens"] for kind in ("tool", "thinking", "output")]
        return sum((np.nan_to_num(part) for part in parts), self.facts["input_tokens"])


def read_past(out: Path, works: Sequence[StageWork]) -> dict[str, Past]:
    """Return what a store's newest questions used, by stage; a stage that nothing is known of is left out."""
    wanted = [work for work in works if not work.known.all()]
    names = [meta(work.stage.name, fact) for work in wanted for fact in (*SPENT, "model", "paid_by")]
    files = files_of(out)
    tables: list[pa.Table] = []
    for _, path in sorted(shard_paths(files, out), reverse=True) if wanted and out.is_dir() else ():
        if (table := read_or_none(files, path, {RECORD_ID, *names})) is not None:
            tables.append(table)
        if sum(table.num_rows for table in tables) >= ENOUGH_ROWS:
            break
    found = {work.stage.name: _of_stage(work, tables) for work in wanted}
    return {name: past for name, past in found.items() if past is not None and len(past)}


def _of_stage(work: StageWork, tables: Sequence[pa.Table]) -> Past | None:
    """Return what one stage's questions used: those asked just as now, if there are any."""
    name = work.stage.name
    having = [table for table in tables if meta(name, "paid_by") in table.column_names]
    alike = [table for table in having if _fingerprint(table, name) == work.fingerprint]
    if not having:
        return None
    table = join(alike or having)
    table = table.filter(pa.array(is_true(pc.equal(table.column(meta(name, "paid_by")), table.column(RECORD_ID)))))
    models = table.column(meta(name, "model")).to_numpy() if alike else np.full(table.num_rows, None)
    return Past(
        facts={fact: _numbers(table.column(meta(name, fact))) for fact in SPENT},
        models=np.asarray(models, dtype=object),
    )


def _fingerprint(table: pa.Table, stage: str) -> object:
    return footer(table.schema).get("stages", {}).get(stage, {}).get("question")


def _numbers(column: pa.ChunkedArray) -> Numbers:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
