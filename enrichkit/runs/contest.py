"""The contest: which side of a trial is better, as far as a person's decisions show it.

Sides are held against each other a record at a time: the fields of a record often fail together. It is judged once,
when as many values are decided as were planned; who looks after each of them finds differences where there are none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from ..store.index import RECORD_ID
from ..trust.comparison import in_turn

DETECTED = 1.96 + 0.84
"""Standard errors of a gap that is found in 80 of 100 trials, at 5 %."""


def sign_flip(differences: Iterable[int]) -> float:
    """Return how likely so large a sum of differences is by chance, if each record's might as well be the other way.

    Exact: all ways of swapping two sides, a record at a time.

    >>> sign_flip([1, 1, 1, 1, 1, 0]), sign_flip([2, -2, 1])
    (0.0625, 1.0)
    """
    sums, whole = Counter({0: 1}), 0
    for difference in filter(None, differences):
        whole += difference
        flipped = Counter[int]()
        for value, ways in sums.items():
            flipped[value + difference] += ways
            flipped[value - difference] += ways
        sums = flipped
    return sum(ways for value, ways in sums.items() if abs(value) >= abs(whole)) / sums.total()


class Contest(NamedTuple):
    """What the labels of two sides come to: how many values are judged, and by how much the second side is better."""

    planned: int
    decided: int
    points: float
    """How many more of 100 values are right on the second side, as far as the labels show it."""
    p: float
    gap: float
    """How many points would have been found in 80 of 100 trials."""


def contest(cells: pd.DataFrame, compared: int, labels: int) -> Contest:
    """Return what two sides come to, a row for each value in which they differ, labelled ``old_label``, ``new_label``.

    Judged once, by the first values in turn, as many as there are to be ``labels``; ``compared`` is of how many values
    these are. What nobody can tell makes no difference.
    """
    planned = in_turn(cells).head(labels)
    known = planned[planned[["old_label", "new_label"]].notna().all(axis="columns")]
    clear = known[(known[["old_label", "new_label"]] != "unsure").all(axis="columns")]
    gains = (clear["new_label"] == "right").astype(int) - (clear["old_label"] == "right").astype(int)
    by_record = gains.groupby(clear[RECORD_ID]).sum().tolist()
    a_label = 100 * len(cells) / max(1, compared) / max(1, len(planned))
    spread = math.sqrt(max(1, sum(gain**2 for gain in by_record)))
    p = sign_flip(by_record)
    return Contest(len(planned), len(known), a_label * sum(by_record), p, a_label * DETECTED * spread)
