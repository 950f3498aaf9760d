"""The trial: some rows of a table asked in two ways or more, side by side, each in a store of its own.

The stores lie beside the table's own, which takes their replies over when it asks the same, and counts what they cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import InputError
from ..stages.choice import choose_stages
from ..stages.stage import Stage
from ..store.files import is_store, trial_area
from ..store.index import RECORD_ID, Index
from ..store.reader import StoreReader
from ..store.replies import StoredReplies
from ..table.arrow import as_frame
from ..trust.frames import evidence
from .lifecycle import plan_on, terminated_as_interrupted
from .options import Options, check_names
from .runner import Run

NOTHING_LEFT_USD = Decimal("1e-9")
"""A budget of which nothing is left."""


class Side(NamedTuple):
    """One way to ask."""

    stage: Stage
    options: Options


def trial(
    df: pd.DataFrame,
    stages: Sequence[str | Stage],
    *,
    models: Sequence[str] = (),
    rows: int = 60,
    out: str | Path = "enriched",
    budget_usd: float | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Ask some random rows of a table in several ways, and return what each way cost and brought.

    Each side is a store of its own, in the folder ``<out>.trial``. A run on ``out`` that asks what a side has asked
    takes its replies over and pays nothing for them; what the trial has cost is in the bill and in the budget of
    ``out``. The same call goes on where it ended, and a later one with more rows keeps the earlier ones. Review what
    the sides differ in, `enrichkit.trust.changes` of their folders, and the same call names the winner.

    Parameters
    ----------
    df : DataFrame
        One row per record, as for `run`.
    stages : sequence of str or Stage
        The sides: stages that fill the same columns. A stage that stands there twice is asked twice, and shows how far
        a model contradicts itself.
    models : sequence of str, optional
        Models to ask each stage of, each a side.
    rows : int
        How many rows, each with a question of its own, drawn by chance, but always the same ones; and how many of the
        values in which two sides differ are to be judged before a winner is named.
    out : str or Path
        The store's folder, as for `run`. It need not be there yet.
    budget_usd : float, optional
        Never spend more than this, in USD, on these sides together, earlier calls included.
    **settings : Any
        Other settings of `run`, such as ``key=``, ``model=`` or ``workers=``.

    Returns
    -------
    DataFrame
        A row per side: ``stage``, ``model``, ``out`` (its folder), ``records``, ``requests``, ``tokens``, ``searches``,
        ``usd`` (missing where a price is unknown), ``usd_per_record``; the shares of the values that are ``filled``,
        of these the ones that are ``backed`` by a page, ``doubted``, and ``decided``, and of these the ones that are
        ``right``; and ``winner``: how many values are decided, and then which side is better, or which gap would have
        shown.

    Raises
    ------
    InputError, StageError, SetupError, MissingKeyError, StoreError, LockedError
        Before any request, if something about the call cannot work.
    Stopped
        If a side ended early; the same call goes on later.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures", "Tern Fund"]})
    >>> settings = {"model": "simulator", "out": tempfile.mkdtemp() + "/enriched", "progress": False}
    >>> sides = enrichkit.trial(df, ["fund", "fund"], **settings)
    >>> sides[["stage", "records", "requests"]].values.tolist()
    [['fund', 2, 2], ['fund', 2, 2]]
    >>> enrichkit.plan(df, stages=["fund"], model="simulator", out=settings["out"]).to_ask
    0
    """
    if not isinstance(rows, int) or rows < 1:
        raise InputError("rows must be a whole number above 0, not {rows!r}.", rows=rows)
    check_names("trial", settings, known=Options)
    frame = as_frame(df)
    base = Options(out=out, budget_usd=budget_usd, **settings)
    sides = list(_sides(choose_stages(stages), models or [base.model], base))
    sample = _sample(frame, sides, rows)
    for side in sides:
        left_usd = None
        if budget_usd is not None:
            others = (_spent_usd(other) for other in sides if other is not side)
            left_usd = max(Decimal(str(budget_usd)) - sum(others), NOTHING_LEFT_USD)
        with terminated_as_interrupted():
            Run(sample, replace(side.options, budget_usd=left_usd)).result()
    return pd.DataFrame([_figures(side) for side in sides])


def _sides(stages: Sequence[Stage], models: Sequence[str], base: Options) -> list[Side]:
    """Return the ways to ask; each has a folder that another question, or the same once more, does not share."""
    sides: list[Side] = []
    times = Counter[str]()
    for stage in stages:
        for model in models:
            name = f"{stage.name}-{stage.question(model, ())}"
            times[name] += 1
            folder = trial_area(base.folder) / (name + f"-{times[name]}" * (times[name] > 1))
            sides.append(Side(stage, replace(base, stages=[stage], model=model, out=folder, notify=[])))
    shared = set.intersection(*(set(side.stage.answers) for side in sides)) if sides else ()
    if len(sides) < 2 or not shared:
        raise InputError(
            "A trial compares two sides or more that fill the same columns, and these are {listed}. Give a stage twice, "
            "or {models}; or give the other stage the first one's 'columns'.",
            listed=[*stages],
        )
    return sides


def _sample(frame: pd.DataFrame, sides: Sequence[Side], rows: int) -> pd.DataFrame:
    """Return rows with a question of their own on each side, in the table's order, drawn by their records' ids.

    An id is a digest of the key, so its order is as good as chance, and remains the same.
    """
    leads = None
    for side in sides:
        plan = plan_on(Index(side.options.folder.parent, ()), frame, side.options)
        code = plan.stages[0].code
        own = np.unique(code, return_index=True)[1]
        own = own[code[own] >= 0]  # a question is asked as its first record has it
        leads = own if leads is None else np.intersect1d(leads, own)
    drawn = leads[np.argsort(plan.ids.take(leads).to_numpy(zero_copy_only=False))[:rows]]
    return frame.iloc[np.sort(plan.row[drawn])]


def _spent_usd(side: Side) -> Decimal:
    """Return what a budget counts of a side."""
    if not is_store(side.options.folder):
        return Decimal()
    reader = StoreReader(side.options.folder, warn=False)
    possibly = Decimal(reader.outstanding.get("possibly_usd", 0))
    return reader.replies(side.options.prices).counted(side.options.prices).usd + possibly


def _figures(side: Side) -> dict[str, Any]:
    """Return what a side has cost and brought."""
    reader = StoreReader(side.options.folder)
    stored: StoredReplies = reader.replies(side.options.prices)
    cells = evidence(side.options.folder)
    return {}
