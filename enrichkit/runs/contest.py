"""The contest: which side of a trial is better, as far as a person's decisions show it.

Sides are held against each other a record at a time: the fields of a record often fail together. It is judged once,
when as many values are decided as were planned; who looks after each of them finds differences where there are none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..store.index import RECORD_ID
from ..trust.comparison import Reading, in_turn, paired

LEVEL = 0.05
"""So often a trial of one way against itself may name a winner."""
DETECTED = 1.96 + 0.84
"""Standard errors of a gap that is found in 80 of 100 trials, at 5 %."""


def sign_flip(differences: Sequence[int]) -> float:
    """Return how likely so large a sum of differences is by chance, if each record's might as well be the other way.

    Exact: all ways of swapping two sides, a record at a time.

    >>> sign_flip([1, 1, 1, 1, 1, 0]), sign_flip([2, -2, 1])
    (0.0625, 1.0)
    """
    ways, most = np.ones(1), sum(map(abs, differences))
    for size in map(abs, filter(None, differences)):
        ways = np.convolve(ways, np.bincount([0, 2 * size]))
    return float(ways[abs(np.arange(-most, most + 1)) >= abs(sum(differences))].sum() / ways.sum())


class Contest(NamedTuple):
    """What the labels of two sides come to: how many values are judged, and by how much the second side is better."""

    planned: int
    decided: int
    points: float
    """How many more of 100 values are right on the second side, as far as the labels show it."""
    p: float
    gap: float
    """How many points would have been found in 80 of 100 trials."""


def contest(pairs: pd.DataFrame, labels: int) -> Contest:
    """Return what two sides come to: a row for each value that both have, labelled ``old_label`` and ``new_label``.

    Judged once, by the first ``labels`` values in turn in which they differ. What nobody can tell makes no difference.
    """
    differing = pairs[~pairs["_same"]]
    planned = in_turn(differing).head(labels)
    known = planned[planned[["old_label", "new_label"]].notna().all(axis="columns")]
    clear = known[(known[["old_label", "new_label"]] != "unsure").all(axis="columns")]
    gains = (clear["new_label"] == "right").astype(int) - (clear["old_label"] == "right").astype(int)
    by_record = gains.groupby(clear[RECORD_ID]).sum().tolist()
    a_label = 100 * len(differing) / max(1, len(pairs)) / max(1, len(planned))
    gap = a_label * DETECTED * math.sqrt(max(1, sum(gain**2 for gain in by_record)))
    return Contest(len(planned), len(known), a_label * sum(by_record), sign_flip(by_record), gap)


def verdicts(sides: Sequence[Reading], labels: int) -> list[str]:
    """Return of each side whether it is better than all others, or what is still to be decided."""
    pairs = {
        (mine, other): contest(paired(sides[other], sides[mine]), labels)
        for mine, other in itertools.permutations(range(len(sides)), 2)
    }
    planned, decided = (sum(getattr(each, name) for each in pairs.values()) // 2 for name in ("planned", "decided"))
    if decided < planned:
        return [f"{decided} of {planned} decided"] * len(sides)
    gap = f"a gap of {math.ceil(max(each.gap for each in pairs.values()))} points would have been found"
    ahead = {pair: each.points if each.p <= LEVEL / (len(pairs) / 2) else 0.0 for pair, each in pairs.items()}
    least = [min(points for pair, points in ahead.items() if pair[0] == side) for side in range(len(sides))]
    if max(least) > 0:
        return [f"winner by {points:.0f} points; {gap}" if points > 0 else "" for points in least]
    return [f"no winner; {gap}" if planned else "no difference"] * len(sides)
