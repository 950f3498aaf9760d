"""The identity: where rows of one key contradict each other, and where a table has another cell than was asked about.

A key says what is one record; the cells are evidence against it. Pure, like the plan that says what is found here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from ..formatting import Sentence, joined, many, plain, rows_told
from ..store.index import RECORD_ID
from ..table.cells import cell_text, column_texts, is_missing
from .questions import StageQuestions
from .records import Names, Records, own_names, record_ids, with_text_names

MOST_EDITS = 5
LONGEST_VALUE = 40


def differing(records: Records, questions: StageQuestions) -> pd.DataFrame:
    """Return cells that another row of their record contradicts: ``column``, ``record``, ``row``, the ``other`` row.

    ``asked`` says whether they differ in what the question is about; else only the record's first row is read of that
    column. A gap beside a value contradicts nothing, but a value below a gap is missed.
    """
    frame, stage = with_text_names(records.frame), questions.stage
    rows = pd.DataFrame({"record": records.record, "row": np.arange(len(frame), dtype=np.int32)})[records.record >= 0]
    rows = rows[rows["record"].duplicated(keep=False)]
    parts = [pd.DataFrame(columns=["column", "record", "row", "other", "asked"]).astype({"asked": bool})]
    read = [name for name in dict.fromkeys((*questions.per, *stage.reads)) if name in frame.columns]
    for name in read if len(rows) else ():
        if name in records.key:
            continue
        cells = rows.assign(text=codes(frame[name].iloc[rows["row"]], ignore_case=stage.ignore_case))
        filled = cells[cells["text"].notna()]
        for source in [filled, cells] if name in questions.per else [cells]:
            first = source.drop_duplicates("record").set_index("record")
            of_record = first.loc[filled["record"]].set_axis(filled.index)
            if (apart := filled["text"] != of_record["text"]).any():
                parts.append(filled[apart].assign(other=of_record["row"], column=name, asked=source is filled))
                break
    return pd.concat(parts, ignore_index=True) if parts[1:] else parts[0]


def codes(column: pd.Series[Any], *, ignore_case: bool) -> npt.NDArray[np.float64]:
    """Return a number for each different text, NaN for an empty one."""
    texts = column_texts(column, ignore_case=ignore_case)
    return np.where(pc.equal(texts, ""), np.nan, texts.dictionary_encode().indices)


def contradiction(records: Records, questions: StageQuestions, cells: pd.DataFrame) -> Sentence:
    """Return why a run is refused whose table has these cells in rows of one record."""
    return Sentence(
        "{rows}, which stage {stage!r} asks about{more}. Give {key_is}{columns}{end_of_list}, or drop one.",
        rows=_rows_of_one_key(records, cells),
        stage=questions.stage.name,
        more=_more(cells),
        columns=joined(map(repr, own_names((*records.key, *cells["column"].unique()), records.names)), "{and_key}"),
    )


def overlooked(records: Records, cells: pd.DataFrame) -> str:
    """Return which rows of one record have what no stage is told, in words."""
    return f"{_rows_of_one_key(records, cells)}; only the first of them is read{_more(cells)}."


def _rows_of_one_key(records: Records, cells: pd.DataFrame) -> str:
    """Return which rows of the first of these records differ, and in which columns, in words."""
    record = cells["record"].iloc[cells["other"].astype(int).argmin()]
    of_first = cells[cells["record"] == record]
    rows = rows_told(np.unique(of_first[["row", "other"]].to_numpy(int)), records.frame.index)
    frame = with_text_names(records.frame)
    key = ", ".join(_quoted(cell_text(frame[name].iloc[records.row[record]])) for name in records.key)
    columns = ", ".join(own_names(of_first["column"].unique(), records.names))
    return f"{rows[0].upper()}{rows[1:]} have the key {key}, but another {columns}"


def _more(cells: pd.DataFrame) -> str:
    more = cells["record"].nunique() - 1
    return f" (and so with {many(more, 'more key')})" if more else ""


def of_rows(cells: pd.DataFrame, table: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """Return cells of records as those of a table's rows, by their labels: their own, where these are not the new ones.

    A cell is a line with the ``_record_id``, the ``column``, what was ``old`` and what is ``new``.
    """
    rows = pd.DataFrame({RECORD_ID: record_ids(table, key), "row": range(len(table))})
    listed = cells[cells["column"].isin(table.columns)].merge(rows, on=RECORD_ID)
    own = [table[column].iloc[row] for row, column in zip(listed["row"], listed["column"], strict=True)]
    differs = [
        not is_missing(old) and cell_text(old) != cell_text(new) for old, new in zip(own, listed["new"], strict=True)
    ]
    listed = listed.assign(old=pd.Series(own, dtype=object))[np.array(differs, bool)]
    return listed.set_axis(table.index[listed["row"]])


def edits_told(records: Records, questions: StageQuestions, *, redo: bool) -> Sentence:
    """Return which cells are not those that a stage's stored answers were asked about, and what becomes of these."""
    rows = [(int(records.row[record]), edits) for record, edits in sorted(questions.edits.items())]
    changes = [
        f"{rows_told([row], records.frame.index)}: {_edits_of(edits, records.names)}"
        for row, edits in rows[:MOST_EDITS]
    ]
    changes += [many(len(rows) - MOST_EDITS, "more row")] if len(rows) > MOST_EDITS else []
    stay = Sentence("The stored answers stay; {redo} asks about these rows again, and pays for it.")
    return Sentence(
        "{stage}: cells have changed since they were asked about ({changes}). {stay}",
        stage=questions.stage.name,
        changes="; ".join(changes),
        stay="They are asked about again." if redo else stay,
    )


def _edits_of(edits: Sequence[tuple[str, str, str]], names: Names) -> str:
    return ", ".join(f"{names.get(name, name)} {_quoted(old)} → {_quoted(new)}" for name, old, new in edits)


def _quoted(text: str) -> str:
    return repr(plain(text, LONGEST_VALUE)) if text else "empty"
