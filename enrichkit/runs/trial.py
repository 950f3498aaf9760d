"""The trial: some rows of a table asked in two ways or more, side by side, each in a store of its own.

The stores lie beside the table's own, which takes their replies over when it asks the same, and counts what they cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..reporting.costs import make_bill
from ..stages.choice import choose_stages
from ..stages.stage import Stage
from ..store.files import is_store, trial_area
from ..store.reader import TOKENS, StoreReader
from ..store.replies import collect_replies
from ..table.arrow import as_frame, check_rows
from ..trust.comparison import Reading, read_cells
from .contest import verdicts
from .lifecycle import look_ahead, terminated_as_interrupted
from .options import Options, check_names
from .runner import begin

NOT_OF_A_TRIAL = {"stages", "prompt", "fields", "limit", "priority"}
NOTHING_LEFT_USD = Decimal("1e-9")
"""A budget of which nothing is left."""


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
    check_rows(rows)
    check_names("trial", settings, {field.name for field in fields(Options)} - NOT_OF_A_TRIAL)
    base = Options(out=out, budget_usd=budget_usd, **settings)
    sides = _sides(choose_stages(stages), models, base)
    sample = _sample(as_frame(df), sides, rows)
    for side in sides:
        left_usd = None
        if budget_usd is not None:
            spent_usd = sum(_spent_usd(other) for other in sides if other is not side)
            left_usd = float(max(Decimal(str(budget_usd)) - spent_usd, NOTHING_LEFT_USD))
        with terminated_as_interrupted():
            begin(sample, replace(side, budget_usd=left_usd)).result()
    readings = [read_cells(side.folder, decided=False) for side in sides]
    figures = [_figures(side, reading) for side, reading in zip(sides, readings, strict=True)]
    return pd.DataFrame(figures).assign(winner=verdicts(readings, rows))


def _sides(stages: Sequence[Stage], models: Sequence[str], base: Options) -> list[Options]:
    """Return the ways to ask; each has a folder that another question, or the same once more, does not share."""
    if isinstance(models, str):
        raise InputError("models must be a sequence of names, such as [{models!r}].", models=models)
    asked = [(replace(stage, model=None), model) for stage in stages for model in models]
    sides: list[Options] = []
    times = Counter[str]()
    for stage, model in asked or [(stage, base.model) for stage in stages]:
        times[name := f"{stage.name}-{stage.question(model, ())}"] += 1
        folder = trial_area(base.folder) / (name + f"-{times[name]}" * (times[name] > 1))
        sides.append(replace(base, stages=[stage], model=model, out=folder, notify=[]))
    shared = set.intersection(*(set(stage.answers) for stage in stages)) if stages else set()
    if len(sides) < 2 or not shared:
        raise InputError(
            "A trial compares two sides or more that fill the same columns, and these do not: {listed}. Give two "
            "stages, or one twice, or models=; columns= lets a stage fill those of another one.",
            listed=", ".join(stage.name for stage in stages) or "none",
        )
    return sides


def _sample(frame: pd.DataFrame, sides: Sequence[Options], rows: int) -> pd.DataFrame:
    """Return rows with a question of their own on each side, in the table's order, drawn by their records' ids.

    An id is a digest of the key, so its order is as good as chance, and remains the same.
    """
    drawn: list[set[int]] = []
    for side in sides:
        plan, _ = look_ahead(frame, replace(side, out=side.folder.with_name("none")))
        plan.check()
        asked, leads = np.unique(plan.stages[0].code, return_index=True)
        drawn.append(set(leads[asked >= 0].tolist()))  # a question is asked as its first record has it
    chosen = sorted(set.intersection(*drawn), key=plan.id)[:rows]
    if not chosen:
        raise InputError("No row of this table has a question of its own on each side, so there is nothing to try.")
    return frame.iloc[np.sort(plan.row[chosen])]


def _spent_usd(side: Options) -> Decimal:
    """Return what a budget counts of a side."""
    if not is_store(side.folder):
        return Decimal()
    reader = StoreReader(side.folder, warn=False)
    spent = collect_replies(reader, side.prices).counted(side.prices)
    return spent.usd + Decimal(reader.outstanding.get("possibly_usd", 0))


def _figures(side: Options, reading: Reading) -> dict[str, Any]:
    """Return what a side has cost and brought."""
    cells, replies = reading.cells, collect_replies(StoreReader(side.folder), side.prices)
    bill, (stage,) = make_bill(replies, own=side.prices), choose_stages(side.stages)
    usd = None if bill.total.unpriced or bill.total.cost_usd is None else float(bill.total.cost_usd)
    valued = cells[cells["answer"].notna()]
    return {
        "stage": stage.name,
        "model": stage.model or side.model,
        "out": str(side.folder),
        "records": bill.records,
        "requests": bill.total.attempts,
        "tokens": sum(bill.total.counts[name] for name in TOKENS),
        "searches": bill.total.counts["searches"],
        "usd": usd,
        "usd_per_record": None if usd is None else usd / bill.records,
        "filled": cells["answer"].notna().mean(),
        "backed": (valued["pages"].map(len) > 0).mean(),
        "doubted": (valued["doubts"].map(len) > 0).mean(),
        "decided": valued["decision"].notna().mean(),
        "right": (valued["decision"].dropna() == "right").mean(),
    }
