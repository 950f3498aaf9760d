"""The questions of one stage: which records need which, and which are done, failed, changed or still to ask.

Arrays throughout, so that a million pending records cost megabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..stages.stage import Stage
from ..store.index import Index, find
from ..store.rows import meta
from ..table.arrow import cells_at, has_value, is_true
from ..table.cells import column_texts, digests, group, ids

OnChange = Literal["refuse", "redo", "keep"]
FAILED, ANSWERED = 1, 2


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What a stage has before it; records, but ``to_ask`` counts questions, each one request if all goes well."""

    name: str
    done: int
    failed: int
    skipped: int
    shared: int
    changed: int
    to_ask: int


@dataclass(slots=True)
class StageQuestions:
    """One stage's open questions: which records need which, and which of them have an answer already."""

    stage: Stage
    per: tuple[str, ...]
    """The columns of the table that identify what is asked about."""
    fingerprint: str
    code: npt.NDArray[np.int32]
    """Each record's question number, -1 where the record needs nothing of this stage."""
    questions: pa.StringArray
    known: npt.NDArray[np.bool_]
    """Whether a question has its final reply in the store."""
    order: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]
    """Question q is needed by the records ``order[start[q]:start[q + 1]]``."""
    skipped: npt.NDArray[np.bool_]
    place: npt.NDArray[np.int32]
    """Each question's row in the store's index, -1 where no shard has a reply to it."""

    def id(self, question: int) -> str:
        """Return a question's id."""
        return str(self.questions[question])

    def records(self, question: int) -> npt.NDArray[np.int32]:
        """Return the records that need a question, in the table's order."""
        return self.order[self.start[question] : self.start[question + 1]]


class QuestionSorter:
    """Sorts a stage's records into done, failed, skipped, changed and open, and these into questions."""

    def __init__(
        self,
        stage: Stage,
        frame: pd.DataFrame,
        index: Index,
        places: npt.NDArray[np.int64],
        *,
        before: Sequence[QuestionSorter],
        key: tuple[str, ...],
        model: str,
        on_change: OnChange,
        retry_failed: bool | Literal["only"],
    ) -> None:
        self.stage = stage
        # As it was in this store: a table that was enriched has more of the columns that the prompt reads.
        recorded = tuple(index.stages.get(stage.name, {}).get("per", ()))
        stands = recorded and stage.per is None and set(recorded) <= {*key, *stage.reads} & set(frame.columns)
        self.per = per = recorded if stands else stage.about(frame.columns) or key
        self.fingerprint = stage.question(model, per)
        texts = [(name, column_texts(frame[name], ignore_case=stage.ignore_case)) for name in per]
        self.code, lead = group(rows := digests(texts, salt=self.fingerprint))
        self.questions = ids(rows, lead)
        self.skipped = np.full(len(frame), False)
        for name in stage.requires:
            present = has_value(cells_at(index.column(name), places))
            if name in frame.columns:
                present |= is_true(pc.not_equal(column_texts(frame[name]), ""))
            # An answer of an earlier stage may still come: whether it does is known only while running.
            for other in before:
                present |= (other.code >= 0) & (name in other.stage.answers)
            self.skipped |= ~present
        self._sort(index, places, keep=on_change == "keep", retry=bool(retry_failed))

    def _sort(self, index: Index, places: npt.NDArray[np.int64], *, keep: bool, retry: bool) -> None:
        sealed = np.flatnonzero(places >= 0)
        stored = index.column(meta(self.stage.name, "question")).take(pa.array(places[sealed]))
        status = index.column(meta(self.stage.name, "status")).take(pa.array(places[sealed]))

        def where(found: pa.Array) -> npt.NDArray[np.bool_]:
            mask = np.zeros(len(places), bool)
            mask[sealed] = is_true(found)
            return mask

        asked = where(pc.is_valid(stored))
        same = where(pc.equal(stored, self.questions.take(pa.array(self.code[sealed]))))
        failed = where(pc.equal(status, "failed"))
        # Answered before what it requires went away: the answer stands, and nothing is asked again.
        stands = asked & self.skipped
        self.changed = asked & ~same & ~self.skipped
        own = (same | (self.changed & keep)) & ~self.skipped
        self.failed = (own | stands) & failed
        self.done = (own | stands) & ~failed
        # A skip is written down too, in a row that knows nothing of this stage yet.
        newly_skipped = self.skipped & ~asked & ~where(pc.equal(status, "skipped"))
        needs = ~self.skipped & ~self.done & ~(self.failed & (not retry))
        self.code = np.where(needs, self.code, -1).astype(np.int32)
        self.state = self._state(index)
        self.known = (self.state == ANSWERED) | ((self.state == FAILED) & (not retry))
        self.has_failed = failed | ((self.code >= 0) & (self.state[self.code] == FAILED))
        self.needs = needs | newly_skipped
        self.skipped &= ~asked
        self._forget_unneeded()

    def _state(self, index: Index) -> npt.NDArray[np.int8]:
        """Return for each question that is needed whether it is answered, or failed, anywhere in the store."""
        state = np.zeros(len(self.questions), np.int8)
        needed = np.flatnonzero(self._needed()) if len(index.ids) else np.empty(0, np.int64)
        at = index.places_of(self.stage.name, self.questions.take(pa.array(needed)))
        self.place = np.full(len(self.questions), -1, np.int32)
        self.place[needed] = at
        status = cells_at(index.column(meta(self.stage.name, "status")), at)
        state[needed] = np.where(is_true(pc.equal(status, "done")), ANSWERED, np.where(at >= 0, FAILED, 0))
        places = find(list(index.pending), self.questions) if index.pending else ()
        for place, entries in zip(places, index.pending.values(), strict=True):
            found = {entry.status for entry in entries}
            if place >= 0 and state[place] != ANSWERED:
                state[place] = ANSWERED if "done" in found else FAILED if "failed" in found else state[place]
        return state

    def leave_out(self, records: npt.NDArray[np.int32]) -> None:
        """Take records out; a question that nobody needs any more is not asked."""
        self.code[records] = -1
        self._forget_unneeded()

    def _forget_unneeded(self) -> None:
        self.known |= ~self._needed()

    def _needed(self) -> npt.NDArray[np.bool_]:
        needed = np.zeros(len(self.questions), bool)
        needed[self.code[self.code >= 0]] = True
        return needed

    def work(self) -> StageQuestions:
        """Return the open questions with the records that need them."""
        needing = np.flatnonzero(self.code >= 0)
        order = needing[np.argsort(self.code[needing], kind="stable")].astype(np.int32)
        start = np.searchsorted(self.code[order], np.arange(len(self.questions) + 1, dtype=np.int32)).astype(np.int32)
        return StageQuestions(
            self.stage,
            self.per,
            self.fingerprint,
            self.code,
            self.questions,
            self.known,
            order,
            start,
            self.skipped,
            self.place,
        )

    def counts(self) -> StagePlan:
        """Return the counts that a person sees."""
        wanted = self.code[self.code >= 0]
        answered = int((self.known[wanted] & (self.state[wanted] == ANSWERED)).sum())
        failed = int((self.known[wanted] & (self.state[wanted] == FAILED)).sum())
        to_ask = int((~self.known).sum())
        return StagePlan(
            name=self.stage.name,
            done=int(self.done.sum()) + answered,
            failed=int(self.failed.sum()) + failed,
            skipped=int(self.skipped.sum()),
            shared=len(wanted) - answered - failed - to_ask,
            changed=int(self.changed.sum()),
            to_ask=to_ask,
        )
