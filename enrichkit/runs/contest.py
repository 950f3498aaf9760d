"""The contest: which side of a trial is better, as far as a person's decisions show it.

Sides are held against each other a record at a time: the fields of a record often fail together. It is judged once,
when as many values are decided as were planned; who looks after each of them finds differences where there are none.
Where a side is right or wrong with whole records, sixty of them cannot show ten points: an exact test of signs finds 80
against 90 % in 25 of 100 trials, with twice the records in 51.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..store.index import RECORD_ID
from ..table.cells import is_missing
from ..trust.comparison import Reading, in_turn, paired

LEVEL = 0.05
"""So often a trial of one way against itself may name a winner."""
DETECTED = 1.96 + 0.84
"""Standard errors of a gap that is found in 80 of 100 trials, at 5 %."""
UNEVEN = (10, 11, 12)
"""Records in turn count almost alike: were they equal, few sums would be possible, and 5 % in truth 3.5 %."""


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
    """Return what two sides come to: a row for each value that both have, with what was decided about each.

    Judged once, by the first ``labels`` values in turn in which they differ. What nobody can tell makes no difference.
    """
    differing = pairs[~pairs["_same"]]
    planned = in_turn(differing).head(labels)
    gains, decided = Counter[str](), 0
    for record, old, new in planned[[RECORD_ID, "old_decision", "new_decision"]].itertuples(index=False, name=None):
        if not (is_missing(old) or is_missing(new)):
            decided += 1
            gains[record] += 0 if "unsure" in (old, new) else (new == "right") - (old == "right")
    uneven = [gain * weight for gain, weight in zip(gains.values(), itertools.cycle(UNEVEN), strict=False)]
    a_label = 100 * len(differing) / max(1, len(pairs)) / max(1, len(planned))
    gap = a_label * DETECTED * math.sqrt(max(1, sum(gain**2 for gain in gains.values())))
    return Contest(len(planned), decided, a_label * gains.total(), sign_flip(uneven), gap)


def verdicts(sides: Sequence[Reading], labels: int) -> list[str]:
    """Return of each side whether it is better than all others, or what is still to be decided."""
    pairs = {
        (mine, other): contest(paired(sides[other], sides[mine]), labels)
        for mine, other in itertools.combinations(range(len(sides)), 2)
    }
    planned, decided = (sum(getattr(each, name) for each in pairs.values()) for name in ("planned", "decided"))
    if decided < planned:
        return [f"{decided} of {planned} decided"] * len(sides)
    if not planned:
        return ["no difference"] * len(sides)
    points = [math.ceil(max(each.gap for each in pairs.values()) / rows**0.5) for rows in (1, 2)]
    gap = "a gap of {} points would have been found, of {} with twice the rows".format(*points)
    ahead: defaultdict[int, list[float]] = defaultdict(list)
    for (mine, other), each in pairs.items():
        known = each.points if each.p <= LEVEL / len(pairs) else 0.0
        ahead[mine].append(known)
        ahead[other].append(-known)
    least = [min(ahead[side]) for side in range(len(sides))]
    if max(least) > 0:
        return [f"winner by {points:.0f} points; {gap}" if points > 0 else "" for points in least]
    return [f"no winner; {gap}"] * len(sides)
