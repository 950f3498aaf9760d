"""The ready queue: which question a free worker takes next.

Unlocked questions first, then the plan's own, drawn lazily in the order of the records, so that records complete one
by one and a million pending questions cost no memory. A question that reads another's answer waits behind it
until that one is finished; no worker waits for another's question while there is anything else to do.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from ..planning.plan import RunPlan
from ..stages.stage import waits_for


class Question(NamedTuple):
    """A question of a run: the number of its stage, and its own number in that stage."""

    stage: int
    number: int


class QuestionQueue:
    """The open questions of a run, handed out to workers one at a time.

    With a delay, a record's stages are asked one after the other, so long after the last. While more than ``most`` are
    to be tried again, no other one is begun: an outage is not met by each question in turn.
    """

    def __init__(self, plan: RunPlan, *, delay_seconds: float, most: int) -> None:
        self._stages = plan.stages
        self._most = most
        self._put_back: set[Question] = set()
        stages = [questions.stage for questions in plan.stages]
        self.parents = [
            [place for place in range(own) if delay_seconds or waits_for(stage, stages[place])]
            for own, stage in enumerate(stages)
        ]
        self._delay_seconds = delay_seconds
        self._later: list[tuple[float, Question]] = []
        """Unlocked, but for a delay; the first that is due stands first."""
        self._finished = [stage.known.copy() for stage in plan.stages]
        self._fresh = self._in_order(plan)
        self._unlocked: deque[Question] = deque()
        self._waiting: dict[Question, list[Question]] = {}
        self._dropped: frozenset[int] = frozenset()
        self._open = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self) -> Question | None:
        """Return the next question once it is ready, as one in flight may make it; None when nothing is left."""
        with self._changed:
            while not self._closed and not self._ready():
                if not self._open and not self._later:
                    self._closed = True
                    self._changed.notify_all()
                    break
                self._changed.wait(max(0.0, self._later[0][0] - time.monotonic()) if self._later else None)
            if self._closed:
                return None
            self._open += 1
            return self._unlocked.popleft()

    def put_back(self, question: Question, seconds: float) -> None:
        """Take a question back, to be taken again after so long: it is to be tried once more."""
        with self._changed:
            self._open -= 1
            self._put_back.add(question)
            heapq.heappush(self._later, (time.monotonic() + seconds, question))
            self._changed.notify_all()

    def finish(self, question: Question) -> None:
        """Say that a question has its final reply, and unlock those that read its answer."""
        with self._changed:
            self._open -= 1
            self._finished[question.stage][question.number] = True
            for child in self._waiting.pop(question, ()):
                self._place(child, delay_seconds=self._delay_seconds)
            self._changed.notify_all()

    def leave(self, question: Question) -> None:
        """Say that a question is left for another call, and so are those that read its answer."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def drop(self, stages: Collection[int]) -> None:
        """Hand out no more questions of these stages."""
        with self._changed:
            self._dropped = frozenset(stages)
            self._unlocked = deque(question for question in self._unlocked if question.stage not in self._dropped)
            self._changed.notify_all()

    def close(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _ready(self) -> bool:
        """Whether a question may be asked now; the first one then is."""
        while self._later and self._later[0][0] <= time.monotonic():
            question = heapq.heappop(self._later)[1]
            self._put_back.discard(question)
            if question.stage not in self._dropped:
                self._unlocked.append(question)
        if not self._unlocked and len(self._put_back) <= self._most:
            any(map(self._place, self._fresh))
        return bool(self._unlocked)

    def _place(self, question: Question, *, delay_seconds: float = 0.0) -> bool:
        """Put a question among the unlocked ones, or behind the first that it still has to wait for."""
        if question.stage in self._dropped:
            return False
        if (blocker := self._blocker(question)) is not None:
            self._waiting.setdefault(blocker, []).append(question)
            return False
        if delay_seconds:
            heapq.heappush(self._later, (time.monotonic() + delay_seconds, question))
        else:
            self._unlocked.append(question)
        return True

    def _blocker(self, question: Question) -> Question | None:
        stage, number = question
        if not self.parents[stage]:
            return None
        records = self._stages[stage].records(number)
        for parent in self.parents[stage]:
            codes = self._stages[parent].code[records]
            codes = codes[codes >= 0]
            waiting = codes[~self._finished[parent][codes]]
            if len(waiting):
                return Question(parent, int(waiting[0]))
        return None

    def _in_order(self, plan: RunPlan) -> Iterator[Question]:
        """Yield each question without a reply once, at the most urgent record that needs it."""
        issued = [stage.known.copy() for stage in plan.stages]
        for record in plan.order:
            for place, stage in enumerate(plan.stages):
                code = int(stage.code[record])
                if code >= 0 and not issued[place][code]:
                    issued[place][code] = True
                    yield Question(place, code)


def steps_left(plan: RunPlan) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Return for each record how many of its questions have no final reply yet."""
    left = np.zeros(len(plan.ids), np.int16)
    for stage in plan.stages:
        left += (stage.code >= 0) & ~stage.known[stage.code]
    return left


def name_question(plan: RunPlan, stage: str, question: str) -> str:
    """Return what a question is about, in words: the first record that needs it, and its stage."""
    questions = next(questions for questions in plan.stages if questions.stage.name == stage)
    record = int(questions.records(pc.index(questions.questions, question).as_py())[0])
    key = ", ".join(f"{name} {value!r}" for name, value in plan.values(record, plan.key).items())
    return f"{key} (stage {stage})"
