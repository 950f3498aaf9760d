"""The identity: where rows of one key contradict each other, and where a table has another cell than was asked about.

A key says what is one record; the cells are evidence against it. Pure, like the plan that says what is found here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from ..formatting import Sentence, joined, many, plain, rows_told
from ..store.index import RECORD_ID
from ..table.cells import cell_text, column_texts, is_missing
from .questions import StageQuestions
from .records import Names, Records, own_names, record_ids, with_text_names

Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Rows, and for each another row of the same record with another value."""
MOST_EDITS = 5
LONGEST_VALUE = 40


def differing(records: Records, questions: StageQuestions) -> tuple[dict[str, Pairs], dict[str, Pairs]]:
    """Return by column where rows of one record differ: in what a question is about; in what is not read of them.

    A gap beside a value contradicts nothing, but only a record's first row is read: a value below a gap is missed.
    """
    frame, stage = with_text_names(records.frame), questions.stage
    counts = np.bincount(records.record[records.record >= 0])
    rows = np.flatnonzero(records.record >= 0)
    rows = rows[counts[records.record[rows]] > 1]
    apart: dict[str, Pairs] = {}
    unread: dict[str, Pairs] = {}
    names = dict.fromkeys(name for name in (*questions.per, *stage.reads) if name in frame.columns)
    for name in names if len(rows) else ():
        if name in records.key:
            continue
        texts = column_texts(frame[name].iloc[rows], ignore_case=stage.ignore_case)
        codes = np.full(len(frame), -1, np.int32)
        codes[rows] = np.where(pc.equal(texts, ""), -1, texts.dictionary_encode().indices)
        filled = rows[codes[rows] >= 0]
        numbers, first = np.unique(records.record[filled], return_index=True)
        valued = filled[first][np.searchsorted(numbers, records.record[filled])]
        if name in questions.per and (differs := codes[filled] != codes[valued]).any():
            apart[name] = valued[differs], filled[differs]
        else:
            read = records.row[records.record[filled]]
            differs = codes[filled] != codes[read]
            unread |= {name: (read[differs].astype(np.int64), filled[differs])} if differs.any() else {}
    return apart, unread


def contradiction(records: Records, questions: StageQuestions, apart: Mapping[str, Pairs]) -> Sentence:
    """Return why a run is refused whose table has these rows of one record."""
    return Sentence(
        "{rows}, which stage {stage!r} asks about{more}. Give {key_is}{columns}{end_of_list}, or drop one.",
        rows=_rows_of_one_key(records, apart),
        stage=questions.stage.name,
        more=_more(records, apart),
        columns=joined(map(repr, own_names((*records.key, *apart), records.names)), "{and_key}"),
    )


def overlooked(records: Records, unread: Mapping[str, Pairs]) -> str:
    """Return which rows of one record have what no stage is told, in words."""
    return f"{_rows_of_one_key(records, unread)}; only the first of them is read{_more(records, unread)}."


def _rows_of_one_key(records: Records, pairs: Mapping[str, Pairs]) -> str:
    """Return which rows of the first of these records differ, and in which columns, in words."""
    lead = records.record[min(rows.min() for _, rows in pairs.values())]
    of_lead = {name: np.concatenate(both)[np.tile(records.record[both[1]] == lead, 2)] for name, both in pairs.items()}
    columns = [name for name, rows in of_lead.items() if len(rows)]
    rows = rows_told(np.unique(np.concatenate([*of_lead.values()])), records.frame.index)
    frame = with_text_names(records.frame)
    key = ", ".join(_quoted(cell_text(frame[name].iloc[records.row[lead]])) for name in records.key)
    return f"{rows[0].upper()}{rows[1:]} have the key {key}, but another {', '.join(own_names(columns, records.names))}"


def _more(records: Records, pairs: Mapping[str, Pairs]) -> str:
    more = len(np.unique(np.concatenate([records.record[rows] for _, rows in pairs.values()]))) - 1
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
