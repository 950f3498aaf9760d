"""The past: what the questions that a store has paid for used, to go by for those that are still to ask.

It only reads, and of the newest shards only a few columns: two thousand questions tell as much as a million.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..pricing.prices import Price
from ..store.files import files_of
from ..store.index import find, footer, shard_paths
from ..store.journal import JournalEntry, by_question, read_journal
from ..store.parquet import read_or_none
from ..store.rows import RECORD_ID, SPENT, meta, read_outcome
from ..table.arrow import is_true
from .questions import StageQuestions

ENOUGH_ROWS = 2000

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class UsageHistory:
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


def read_usage_history(
    out: Path, works: Sequence[StageQuestions], prices: Mapping[str, Price]
) -> dict[str, UsageHistory]:
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
    pending = by_question(entry for _, entries in read_journal(files, out) for entry in entries or ()) if wanted else {}
    found = {work.stage.name: _of_stage(work, tables, pending, prices) for work in wanted}
    return {name: past for name, past in found.items() if len(past)}


def _of_stage(
    work: StageQuestions,
    tables: Sequence[pa.Table],
    pending: Mapping[str, Sequence[JournalEntry]],
    prices: Mapping[str, Price],
) -> UsageHistory:
    """Return what one stage's questions used: those asked just as now, if there are any."""
    name = work.stage.name
    having = [table for table in tables if meta(name, "paid_by") in table.column_names]
    alike = [table for table in having if _fingerprint(table, name) == work.fingerprint]
    same = [*(_sealed(name, table) for table in alike), _unsealed(work, pending, prices)]
    if not any(map(len, same)):
        same = [_sealed(name, table, comparable=False) for table in having] or same
    return UsageHistory(
        facts={fact: np.concatenate([one.facts[fact] for one in same]) for fact in SPENT},
        models=np.concatenate([one.models for one in same]),
    )


def _sealed(name: str, table: pa.Table, *, comparable: bool = True) -> UsageHistory:
    """Return what a stage's questions used by a shard, each in the row of the record that paid."""
    table = table.filter(pa.array(is_true(pc.equal(table.column(meta(name, "paid_by")), table.column(RECORD_ID)))))
    models = table.column(meta(name, "model")).to_numpy() if comparable else np.full(table.num_rows, None)
    return UsageHistory(
        facts={fact: _numbers(table.column(meta(name, fact))) for fact in SPENT},
        models=np.asarray(models, dtype=object),
    )


def _unsealed(
    work: StageQuestions, pending: Mapping[str, Sequence[JournalEntry]], prices: Mapping[str, Price]
) -> UsageHistory:
    """Return what those used that have their final reply in no shard yet, and whose records wait for other stages."""
    places = find(list(pending), work.questions) if pending else ()
    outcomes = [
        read_outcome(work.stage, question, [entry.payload for entry in entries], prices, booked=0)
        for place, (question, entries) in zip(places, pending.items(), strict=True)
        if place >= 0 and work.place[place] < 0 and len(work.records(place)) and entries[-1].status != "again"
    ]
    used = [(one.reply.model_version, one.spent.facts) for one in outcomes if one.spent is not None]
    return UsageHistory(
        facts={fact: np.array([facts[fact] for _, facts in used], dtype=np.float64) for fact in SPENT},
        models=np.array([model for model, _ in used], dtype=object),
    )


def _fingerprint(table: pa.Table, stage: str) -> object:
    return footer(table.schema).get("stages", {}).get(stage, {}).get("question")


def _numbers(column: pa.ChunkedArray) -> Numbers:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
