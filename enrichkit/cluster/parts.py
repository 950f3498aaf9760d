"""The parts: which records are asked by one process, so that no question is asked in two of them.

Records that share a question agree in all that it is about, so a digest of what all stages have in common puts them
together, whatever order or spelling the table has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import InputError, StageError, StoreError
from ..formatting import joined, many
from ..planning.plan import RunPlan, read_otherwise
from ..runs.options import Options
from ..store.files import SHARDS_OF_A_PART, Files, part_of, parts_of, read_json, work_area
from ..store.index import Index, layout_of
from ..table.cells import column_texts, digests
from ..table.parquet import encode_parquet

USUAL_PARTS = 64
PARTS = "parts.json"
"""What says, in the work area of the whole store, of how many parts it is: the shards do so only once there are any."""
ROWS = "rows.parquet"
"""The table's rows of a part, in its work area; they replace those of the call before."""


def parts_of_records(plan: RunPlan, shared: Sequence[str], parts: int) -> npt.NDArray[np.int64]:
    """Return the number of the part of each record, from 1 on, by the columns that all questions are about."""
    first = plan.first
    ignore_case = any(questions.stage.ignore_case for questions in plan.stages)
    texts = [(name, column_texts(first[name], ignore_case=ignore_case)) for name in shared]
    halves = digests(texts).view(np.uint64)[:, 0]
    return 1 + (halves % np.uint64(parts)).astype(np.int64)


def division(plan: RunPlan, index: Index, options: Options) -> tuple[list[str], int]:
    """Return by which columns a table is divided, and into how many parts; raise if it, or the store, cannot be."""
    if "part" in plan.table.column_names:
        raise InputError("With a {cluster}, no column can be named {part!r}, like its folders. Rename it.", part="part")
    in_parts = bool(parts_of(options.folder))
    if not index.empty and not in_parts:
        raise StoreError(
            "{kept} is not kept in parts, as a {cluster} needs. Choose another {out}.", kept=options.folder
        )
    kept = index.parts_in_all or read_json(work_area(options.folder) / PARTS).get("parts", 0) * in_parts
    if kept and options.parts not in (None, kept):
        raise StoreError(
            "{store} is kept in {number}, not {given:,}. Give that number, or choose another {out}.",
            store=options.folder,
            number=many(kept, "part"),
            given=options.parts,
        )
    return _share_key(plan), kept or options.parts or USUAL_PARTS


def _share_key(plan: RunPlan) -> list[str]:
    """Return the columns that the questions of all stages are about; raise if there are none."""
    lead = plan.stages[0]
    shared = list(lead.per)
    for other in plan.stages[1:]:
        if not set(shared) & set(other.per):
            raise StageError(
                "A cluster needs a column that all stages ask about, to divide the table by it: stage {one!r} asks "
                "about {its}, stage {other!r} about {others}. Give both a column in common in 'per', or ask them in "
                "stores of their own.",
                one=lead.stage.name,
                its=joined(shared, ", "),
                other=other.stage.name,
                others=joined(other.per, ", "),
            )
        shared = [name for name in shared if name in other.per]
    return shared


def processes_of(plan: RunPlan, index: Index, options: Options) -> int:
    """Return how many processes a call asks from: of a cluster, each thread of a worker asks a part at a time."""
    if options.cluster is None:
        return 1
    _, parts = division(plan, index, options)
    threads: Mapping[str, int] = options.cluster.nthreads()
    return max(1, min(parts, sum(threads.values())))


def open_parts(plan: RunPlan, index: Index, placed: npt.NDArray[np.int64], schema: pa.Schema) -> list[int]:
    """Return the parts in which something is to be asked or read again, or whose shards have another schema."""
    stages = [questions.stage for questions in plan.stages]
    layout = layout_of(schema) if len(plan.order) else None
    outdated = {
        number // SHARDS_OF_A_PART
        for number, facts in index.footers.items()
        if read_otherwise(facts, stages) or layout not in (None, facts.get("layout"))
    }
    return sorted({*placed[plan.order].tolist(), *outdated})


def write_rows(plan: RunPlan, options: Options, part: int, placed: npt.NDArray[np.int64]) -> Path:
    """Write the table's rows of a part for whoever asks them, the most urgent first; return the part's folder.

    With a limit, these are the rows of the records that it leaves: a part that is begun again knows no others.
    """
    folder, chosen = part_of(options.folder, part), placed == part
    if options.limit is not None:
        chosen &= np.isin(np.arange(len(placed)), plan.order)
    rows = np.flatnonzero((plan.record >= 0) & chosen[plan.record])
    if not len(rows):  # a part that is only read again, or gets another schema; a table has to have rows
        rows = np.flatnonzero(plan.record >= 0)[:1]
    urgency = np.full(len(plan.ids), len(plan.ids))
    urgency[plan.order] = np.arange(len(plan.order))
    rows = rows[np.argsort(urgency[plan.record[rows]], kind="stable")]
    area = work_area(folder)
    Files(area / "tmp").put(area / ROWS, encode_parquet(plan.table.take(rows)))
    return folder
