"""The bands: how many answers are right, as far as decisions show it, and which of them reach a target.

The answers of any set have a permanent order, so that those decided from its beginning on, without a gap, are a random
sample of it. The intervals are exact, for a finite number of answers; a target is looked at a few times only.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import pyarrow.compute as pc

from ..formatting import amount, many
from ..store.decisions import About, about_of
from ..store.index import RECORD_ID
from ..store.reader import StoreReader
from ..store.rows import meta
from ..table.cells import is_missing
from .pages import BANDS

LOOKS = ((0, 0.04), (1, 0.007), (3, 0.003))
"""When a target is looked at: how many labels may be wrong, and how often a set that misses the target passes."""
ONE_SIDED = 0.05
MEASURED = ("cells", "decided", "unsure", "share_right", "low", "high")
USE = "use"
SAME = ["column", "about"]
"""What makes two lines of the evidence the same answer."""
Label = str | None
"""``right``, ``wrong`` or ``unsure``; None for an answer that is not decided."""


def labelled(fields: pd.DataFrame, reader: StoreReader) -> pd.DataFrame:
    """Return a store's evidence where there is a value, with the ``about``, ``place`` and ``label`` of each answer.

    Columns keep their order. Where records share an answer, the one that casts most doubt on it comes first.
    """
    stages = reader.stages
    per = {name for facts in stages.values() for name in facts.get("per", ())}
    rows = reader.facts((), {RECORD_ID, *per}).to_pylist()
    about = {(row[RECORD_ID], stage): about_of(row, facts) for row in rows for stage, facts in stages.items()}
    order = {name: place for place, name in enumerate(dict.fromkeys(fields["column"]))}
    answers = fields[fields["answer"].notna()]
    ranks = pd.DataFrame({"column": answers["column"].map(order), "doubt": answers["band"].map(BANDS[::-1].index)})
    answers = answers.loc[ranks.sort_values(["column", "doubt"], kind="stable").index].reset_index(drop=True)
    names = (RECORD_ID, "stage", "column", "answer", "decision")
    facts = []
    for record, stage, column, answer, decision in zip(*(answers[name] for name in names), strict=True):
        asked = about[record, stage]
        label = "wrong" if decision == "value" else None if is_missing(decision) else decision
        facts.append((asked, place_in_order(asked, column, answer), label))
    return answers.join(pd.DataFrame(facts, columns=["about", "place", "label"], dtype=object))


def place_in_order(about: About, column: str, value: str) -> str:
    """Return an answer's place in the permanent order: as good as random, and the same wherever it is drawn."""
    return hashlib.blake2b(json.dumps([about, column, value]).encode(), digest_size=8).hexdigest()


def below(answers: pd.DataFrame, target: float) -> pd.DataFrame:
    """Return those of labelled answers that are neither in a band that reaches a target, nor decided to be right."""
    measured = estimates(answers.drop_duplicates(SAME), ("column", "band"), target=target, usd={})
    used = measured.loc[measured["next"] == USE, ["column", "band"]]
    kept = pd.MultiIndex.from_frame(answers[["column", "band"]]).isin(pd.MultiIndex.from_frame(used))
    return answers[~kept & (answers["label"] != "right")]


def usd_per_question(reader: StoreReader) -> dict[str, float | None]:
    """Return what a question of each stage has cost on average; None where that is unknown."""
    table = reader.facts(("question", "cost_usd"))
    usd: dict[str, float | None] = {}
    for stage in reader.answers:
        asked = table.filter(pc.is_valid(table.column(meta(stage, "question"))))
        costs, questions = asked.column(meta(stage, "cost_usd")), asked.column(meta(stage, "question"))
        spent = None if costs.null_count else pc.sum(costs).as_py()
        usd[stage] = None if spent is None else spent / len(questions.unique())
    return usd


def chance(most: int, drawn: int, wrong: int, cells: int) -> float:
    """Return how likely it is that at most so many of those drawn are wrong, where so many of all cells are.

    >>> chance(0, 1, 1, 4)
    0.75
    """
    ways = range(max(0, drawn - cells + wrong), min(most, drawn, wrong) + 1)
    return sum(math.comb(wrong, k) * math.comb(cells - wrong, drawn - k) for k in ways) / math.comb(cells, drawn)


def interval(right: int, unsure: int, drawn: int, cells: int) -> tuple[float, float]:
    """Return between which shares of all cells are right, in 90 of 100 draws or more (Clopper–Pearson, finite).

    Those that nobody can tell count as wrong at its lower end, as right at its upper.

    >>> interval(3, 0, 3, 3), interval(0, 0, 0, 3), interval(27, 1, 30, 200)
    ((1.0, 1.0), (0.0, 1.0), (0.775, 0.985))
    """
    wrong = _fewest(drawn - right - unsure, drawn, cells)
    return _fewest(right, drawn, cells) / cells, (cells - wrong) / cells


def _fewest(seen: int, drawn: int, cells: int) -> int:
    """Return how many of all cells are at least of a kind of which so many were drawn."""
    possible = range(seen, cells - drawn + seen + 1)
    return possible[bisect.bisect(possible, ONE_SIDED, key=lambda count: 1 - chance(seen - 1, drawn, count, cells))]


@functools.cache
def looks(cells: int, target: float) -> tuple[tuple[int, int], ...]:
    """Return at how many labels a target is looked at, and how many of these may be wrong.

    >>> looks(400, 0.95), looks(5, 0.95)
    (((56, 0), (115, 1), (178, 3)), ((5, 0), (5, 0), (5, 0)))
    """
    allowed = math.floor(cells * (1 - target) + 1e-9)
    passing = []
    for most, rate in LOOKS:
        counts = (count for count in range(1, cells + 1) if chance(most, count, allowed + 1, cells) <= rate)
        count = next(counts, None)
        passing.append((cells, allowed) if count is None else (count, most))
    return tuple(passing)


def still_to_decide(labels: Sequence[Label], target: float) -> int | None:
    """Return how many labels a set lacks for its next look, 0 if it has passed, None if it cannot pass any more.

    >>> still_to_decide(["right"] * 20 + [None] * 20, 0.9), still_to_decide(["wrong"] * 4 + [None] * 400, 0.9)
    (0, None)
    """
    for count, most in looks(len(labels), target):
        seen = labels[:count]
        if sum(label in ("wrong", "unsure") for label in seen) <= most:
            return seen.count(None)
    return 0 if None not in labels and labels.count("right") >= target * len(labels) - 1e-9 else None


def estimates(
    answers: pd.DataFrame, by: Sequence[str], *, target: float | None, usd: Mapping[str, float | None]
) -> pd.DataFrame:
    """Return a row for each set of answers, by all of these columns and then by fewer; `precision` describes it.

    An answer has its ``stage``, ``column``, ``about``, ``band``, its ``place`` in the permanent order and its
    ``label``; a question of a stage costs so many dollars.
    """
    rows = []
    labels = answers["label"].astype(object).where(answers["label"].notna(), None)
    ordered = answers.assign(label=labels).sort_values("place", kind="stable")
    for names in itertools.chain.from_iterable(itertools.combinations(by, size) for size in range(len(by), 0, -1)):
        outer = [name for name in names if name != "band"]
        groups = [group for _, group in ordered.groupby(outer, dropna=False)] if outer else [ordered]
        for group in sorted(groups, key=lambda group: group.index.min()):
            bands = [group[group["band"] == band] for band in BANDS] if "band" in names else [group]
            bands = [band for band in bands if len(band)]
            steps = _next_steps(bands, target, usd) if target else itertools.repeat("")
            for band, step in zip(bands, steps, strict=False):
                place = dict.fromkeys(by, "") | {name: band[name].iloc[0] for name in names}
                rows.append(place | _measured(band["label"].tolist()) | {"next": step})
    return pd.DataFrame(rows, columns=[*by, *MEASURED, "next"])


def _measured(labels: Sequence[Label]) -> dict[str, float]:
    """Return what those decided from the beginning on, without a gap, say of a set."""
    front = labels[: labels.index(None)] if None in labels else labels
    right, unsure = front.count("right"), front.count("unsure")
    share = right / (len(front) - unsure) if len(front) > unsure else math.nan
    figures = (len(labels), len(front), unsure, share, *interval(right, unsure, len(front), len(labels)))
    return dict(zip(MEASURED, figures, strict=True))


def joined(bands: Sequence[Sequence[tuple[str, Label]]], target: float) -> list[int | None]:
    """Return for each band what it lacks, joined with all better ones; those below one that lacks or fails do, too.

    A band's answers are given as their places in the permanent order, each with its label.
    """
    lacking: list[int | None] = []
    for number in range(len(bands)):
        if number and lacking[-1] != 0:
            lacking.append(lacking[-1])
        else:
            ordered = sorted(itertools.chain(*bands[: number + 1]), key=lambda answer: answer[0])
            lacking.append(still_to_decide([label for _, label in ordered], target))
    return lacking


def _next_steps(bands: Sequence[pd.DataFrame], target: float, usd: Mapping[str, float | None]) -> Iterator[str]:
    """Yield what to do with each band of some answers."""
    better = None
    places = [list(zip(band["place"], band["label"], strict=True)) for band in bands]
    for band, lacking in zip(bands, joined(places, target), strict=True):
        if lacking is None:
            yield _ask_again(band, usd)
        elif lacking:
            yield f"after {better}" if better else f"decide {lacking:,} more"
            better = band["band"].iloc[0]
        else:
            yield USE


def _ask_again(band: pd.DataFrame, usd: Mapping[str, float | None]) -> str:
    """Return how many questions it takes to ask about all of a band that are not decided to be right, and the cost."""
    asked = band[band["label"] != "right"].drop_duplicates(["stage", "about"])["stage"]
    prices = [usd.get(stage) for stage in asked]
    cost = "" if None in prices else f", about {amount(sum(filter(None, prices)))} USD"
    return f"ask again: {many(len(asked), 'question')}{cost}" if len(asked) else "decided"
