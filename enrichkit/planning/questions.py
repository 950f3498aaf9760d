"""The questions of one stage: which records need them, and which are done, failed, changed or still to be asked.

Arrays throughout, so that a million pending records cost megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..reading.answer import Issue
from ..stages.stage import Stage
from ..store.index import Index, find
from ..store.journal import JournalEntry
from ..store.rows import meta
from ..table.arrow import cells_at, has_value, is_true
from ..table.cells import cell_text, column_texts, digests, group, ids, is_missing

OnChange = Literal["refuse", "redo", "keep"]
FAILED, ANSWERED = 1, 2
Edit = tuple[str, str, str]
"""A column, and the text of its cell when it was asked about and now."""


CHANGED = ": changed_cell: "
"""How an issue of a changed cell begins."""


def issue_of(edit: Edit) -> str:
    """Return what a row's issues say of a cell that its answer was not asked about.

    >>> issue_of(("county", "Nroth", "North"))
    ": changed_cell: county: 'Nroth' when this was asked, 'North' now"
    """
    name, old, new = edit
    return str(Issue("", "changed_cell", f"{name}: {old!r} when this was asked, {new!r} now"))


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What a stage has to do: counts of records, except for ``to_ask``.

    Attributes
    ----------
    name : str
        The stage.
    done, failed, skipped, shared : int
        Records with an answer, with a lasting failure, without what the stage requires, and with an answer that
        comes with another record's question.
    changed : int
        Records whose stored answer belongs to a question that the stage no longer asks, of them or of anybody.
    to_ask : int
        Different questions, each one request if all goes well.
    """

    name: str
    done: int
    failed: int
    skipped: int
    shared: int
    changed: int
    to_ask: int


class StageQuestions:
    """One stage's questions: which records need them, and what became of those that were asked before.

    Attributes
    ----------
    stage : Stage
        The stage.
    per : tuple of str
        The columns of the table that identify what is asked about.
    fingerprint : str
        What the question is, as it stands in a shard's footer.
    models : list of str
        The models that the store's answers were asked of, this run's too, in order.
    code : array
        The number of each record's question, -1 where the record needs nothing from this stage.
    questions : StringArray
        The questions' ids.
    place : array
        The row of each question in the store's index, -1 where no shard has a reply to it.
    known : array
        Whether the store has the final reply to each question.
    skipped : array
        Which records lack what the stage requires.
    edits : dict of int to list
        By record, the columns whose cells its stored answer was not asked about, each with the text then and now.
    outdated : int
        Stored answers to a question that is asked differently now, of whatever cells.
    order, start : array
        Question q is needed by the records ``order[start[q]:start[q + 1]]``.
    """

    def __init__(
        self,
        stage: Stage,
        frame: pd.DataFrame,
        index: Index,
        places: npt.NDArray[np.int64],
        *,
        before: Sequence[StageQuestions],
        filled: Collection[str],
        key: tuple[str, ...],
        model: str,
        on_change: OnChange,
        retry_failed: bool | Literal["only"],
    ) -> None:
        self.stage = stage
        # As it was in this store: an enriched table has more of the columns that the prompt reads.
        recorded = tuple(index.stages.get(stage.name, {}).get("per", ()))
        stands = recorded and stage.per is None and set(recorded) <= {*key, *stage.reads} & set(frame.columns)
        # What an answer may fill tells no records apart: a gap would be shared by all that have it.
        telling = [name for name in frame.columns if stage.per is not None or name not in filled]
        self.per = recorded if stands else stage.about(telling) or key
        self.fingerprint = stage.question(model, self.per)
        texts = [(name, column_texts(frame[name], ignore_case=stage.ignore_case)) for name in self.per]
        self.models = self._order_of_models(index, stage.model or model, redo=on_change == "redo")
        self.code, lead = group(rows := digests(texts, salt=self.fingerprint))
        self.questions = ids(rows, lead)
        self.skipped = self._lacks_required(frame, index, places, before)
        newer = self.models[self.models.index(stage.model or model) + 1 :]
        asked = [ids(digests(texts, salt=stage.question(name, self.per))) for name in newer]
        asked.append(self.questions.take(pa.array(self.code)))
        self._sort(index, places, frame, asked, on_change=on_change, retry=bool(retry_failed))

    def _order_of_models(self, index: Index, model: str, *, redo: bool) -> list[str]:
        """Return the models that the store's answers were asked of, this call's too, in order.

        What was asked again of a later one is done where an earlier one would be asked, unless it is to be redone.
        """
        held = [facts.get("stages", {}).get(self.stage.name, {}).get("models", []) for facts in index.footers.values()]
        models: list[str] = max(held, key=len, default=[])
        return [*(name for name in models if name != model), model] if redo or model not in models else models

    def _lacks_required(
        self, frame: pd.DataFrame, index: Index, places: npt.NDArray[np.int64], before: Sequence[StageQuestions]
    ) -> npt.NDArray[np.bool_]:
        """Return which records have something that the stage requires neither in the table nor in the store."""
        lacking = np.zeros(len(frame), bool)
        for name in self.stage.requires:
            present = has_value(cells_at(index.column(name), places))
            if name in frame.columns:
                present |= is_true(pc.not_equal(column_texts(frame[name]), ""))
            # An answer of an earlier stage may still come; only the run itself will show whether it does.
            for earlier in before:
                present |= (earlier.code >= 0) & (name in earlier.stage.answers)
            lacking |= ~present
        return lacking

    def _sort(
        self,
        index: Index,
        places: npt.NDArray[np.int64],
        frame: pd.DataFrame,
        asked_as: Sequence[pa.StringArray],
        *,
        on_change: OnChange,
        retry: bool,
    ) -> None:
        stored, status = (
            cells_at(index.column(meta(self.stage.name, fact)), places) for fact in ("question", "status")
        )
        asked = is_true(pc.is_valid(stored))
        same = np.logical_or.reduce([is_true(pc.equal(stored, each)) for each in asked_as])
        failed = is_true(pc.equal(status, "failed"))
        compared = list(self._compare(index, places, frame, np.flatnonzero(asked & ~same & ~self.skipped)))
        same[[record for record, edits, _ in compared if not edits]] = True
        self.edits = {record: edits for record, edits, _ in compared if edits}
        edited = np.isin(np.arange(len(same)), list(self.edits))
        self._changed = asked & ~same & ~self.skipped
        self.outdated = int((self._changed & ~edited).sum())
        # Answered before a required value went away: the answer stands, and nothing is asked again.
        stands = asked & (same | self.skipped | (on_change == "keep") | (edited & (on_change == "refuse")))
        self._failed = stands & failed
        self._done = stands & ~failed
        needs = ~self.skipped & ~self._done & (retry | ~self._failed)
        # A skip is recorded too, in a row that has nothing about this stage yet.
        self.needs = needs | (self.skipped & ~asked & ~is_true(pc.equal(status, "skipped")))
        self.needs[[record for record, edits, is_said in compared if edits and stands[record] and not is_said]] = True
        self.code[~needs] = -1
        self.skipped &= ~asked
        self._look_up(index)
        self.known = (self._state == ANSWERED) | ((self._state == FAILED) & (not retry))
        self.has_failed = failed | ((self.code >= 0) & (self._state[self.code] == FAILED))

    def _compare(
        self, index: Index, places: npt.NDArray[np.int64], frame: pd.DataFrame, records: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, list[Edit], bool]]:
        """Yield which of some records were asked the same about other cells, these, and whether their rows say so.

        A record whose cells are only spelled in another case has no edits.
        """
        before = {shard: facts.get("stages", {}).get(self.stage.name, {}) for shard, facts in index.footers.items()}
        asked_so = [shard for shard, facts in before.items() if facts.get("question") == self.fingerprint]
        records = records[np.isin(index.shards[places[records]], asked_so)] if len(records) else records
        cells = zip(*(frame[name].iloc[records] for name in self.per), strict=True)
        present = dict(zip(places[records].tolist(), zip(records.tolist(), cells, strict=True), strict=True))
        issues, filled = meta(self.stage.name, "issues"), [meta(stage, "filled") for stage in index.stages]
        for place, row in index.cells(places[records], {*self.per, issues, *filled}):
            record, own = present[place]
            answered = {name for names in filled for name in row.get(names) or ()}  # no cells of the user's own
            then = [cell_text(None if name in answered else row.get(name)) for name in self.per]
            now = list(map(cell_text, own))
            if then != now:
                texts = zip(self.per, then, now, strict=True)
                edits = [edit for edit in texts if edit[1].casefold() != edit[2].casefold()]
                said = {issue for issue in row.get(issues) or () if issue.startswith(CHANGED)}
                yield record, edits, said == set(map(issue_of, edits))

    def _look_up(self, index: Index) -> None:
        """Find out whether the questions that are needed were answered, or failed, anywhere in the store."""
        self._state = np.zeros(len(self.questions), np.int8)
        self.place = np.full(len(self.questions), -1, np.int32)
        needed = np.flatnonzero(self._needed()) if len(index.ids) else np.empty(0, np.int64)
        at = index.places_of(self.stage.name, self.questions.take(pa.array(needed)))
        self.place[needed] = at
        status = cells_at(index.column(meta(self.stage.name, "status")), at)
        self._state[needed] = np.where(is_true(pc.equal(status, "done")), ANSWERED, np.where(at >= 0, FAILED, 0))
        for number, entries in self.pending(index):
            statuses = {entry.status for entry in entries}
            if self._state[number] != ANSWERED and statuses & {"done", "failed"}:
                self._state[number] = ANSWERED if "done" in statuses else FAILED

    def pending(self, index: Index) -> Iterator[tuple[int, list[JournalEntry]]]:
        """Yield the numbers of the questions that have replies in the journal, with these replies."""
        numbers = find(list(index.pending), self.questions) if index.pending else ()
        for number, entries in zip(numbers, index.pending.values(), strict=True):
            if number >= 0:
                yield int(number), entries

    def leave_out(self, records: npt.NDArray[np.int32]) -> None:
        """Leave records out and settle the order of the rest, once: a question that only those need is not asked."""
        self.code[records] = -1
        self.known |= ~self._needed()
        needing = np.flatnonzero(self.code >= 0)
        self.order = needing[np.argsort(self.code[needing], kind="stable")].astype(np.int32)
        numbers = np.arange(len(self.questions) + 1, dtype=np.int32)
        self.start = np.searchsorted(self.code[self.order], numbers).astype(np.int32)

    def _needed(self) -> npt.NDArray[np.bool_]:
        needed = np.zeros(len(self.questions), bool)
        needed[self.code[self.code >= 0]] = True
        return needed

    def id(self, question: int) -> str:
        """Return a question's id."""
        return str(self.questions[question])

    def records(self, question: int) -> npt.NDArray[np.int32]:
        """Return the records that need a question, in the table's order."""
        return self.order[self.start[question] : self.start[question + 1]]

    def hints(
        self, question: int, names: Sequence[str], cells: Callable[[int, Sequence[str]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return what fills a prompt's braces: cells of the first record that has them, as ``cells`` gives these."""
        values: dict[str, Any] = {}
        for record in self.records(question)[:50]:
            missing = [name for name in names if name not in values]
            if not missing:
                break
            values |= {name: cell for name, cell in cells(int(record), missing).items() if not is_missing(cell)}
        return values

    @property
    def to_ask(self) -> int:
        """Questions without a final reply."""
        return int((~self.known).sum())

    @property
    def counts(self) -> StagePlan:
        """The counts, as a plan shows them."""
        wanted = self.code[self.code >= 0]
        answered, failed = (int((self.known & (self._state == state))[wanted].sum()) for state in (ANSWERED, FAILED))
        return StagePlan(
            name=self.stage.name,
            done=int(self._done.sum()) + answered,
            failed=int(self._failed.sum()) + failed,
            skipped=int(self.skipped.sum()),
            shared=len(wanted) - answered - failed - self.to_ask,
            changed=int(self._changed.sum()),
            to_ask=self.to_ask,
        )
