"""The figures: each draws into Axes, and returns them, what `enrichkit.costs` or `enrichkit.report` returns.

Below the title stands whose prices they are, where the frame says so (``attrs["prices"]``).

matplotlib is imported with the first figure (``pip install 'enrichkit[notebook]'``). Without ``ax`` a figure of its own
is made, with a background of its own, so that it reads on light and dark pages alike.

>>> import enrichkit
>>> enrichkit.plots.cost_by_stage.__name__
'cost_by_stage'
"""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from ..errors import InputError
from ..formatting import usd
from ..pricing.prices import DOLLARS, KINDS
from ..reading.answer import NOT_SAID
from ..trust.doubts import DONE
from .drawing import PALETTE, as_counts, entitled, full_bars, own_axes, side_by_side, stacked, worst_first
from .quality import COUNTED, DECIDED
from .report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "confidence",
    "cost_by_model",
    "cost_by_stage",
    "cost_over_time",
    "cost_per_record",
    "example",
    "fields_found",
    "fill_rate",
    "issues",
    "search_quality",
    "states",
]

COLOURS = dict(zip((*KINDS, "wasted"), (*PALETTE[:5], "#7F7F7F"), strict=True))
GREY = "#BFBFBF"
STATE_COLOURS = dict(
    zip(COUNTED, (PALETTE[0], "#009E73", "#F0E442", "#56B4E9", "#E69F00", "#D55E00", GREY), strict=True)
)
DONE_COLOURS = dict(zip(DONE, (STATE_COLOURS["invalid"], STATE_COLOURS["doubtful"], GREY), strict=True))
AGAINST = ["invalid", "doubtful"]
"""The states of values that a check speaks against."""
PAID = ("record", "stage", "model", "at", *DOLLARS, "wasted")
GIVEN = {
    "compared": "compared : DataFrame\n    The costs by model, as `enrichkit.reporting.what_if` returns them.",
    "report": "report : Report\n    What `enrichkit.report` returns.",
}
"""What is drawn, where it is no table of paid replies, as docstrings describe it."""
Figure = TypeVar("Figure", bound=Callable[..., "Axes"])


def _documented(figure: Figure) -> Figure:
    """Add to a figure's docstring what is the same for all of them.

    Parameters
    ----------
    paid : DataFrame
        The paid replies, as `enrichkit.costs` returns them.
    ax : Axes, optional
        Where to draw; default: a figure of its own.

    Returns
    -------
    Axes
        What was drawn into.

    Raises
    ------
    InputError
        If something else is given to be drawn.
    SetupError
        If matplotlib is not installed.

    Examples
    --------
    >>> import matplotlib, pandas as pd, enrichkit, tempfile
    >>> matplotlib.use("agg")
    >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> paid, report = enrichkit.costs(out), enrichkit.report(out)
    >>> compared = enrichkit.reporting.what_if(paid)
    >>> ax = enrichkit.plots.cost_by_stage(paid)
    """
    given = next(iter(inspect.signature(figure).parameters))
    head, ax, rest = inspect.cleandoc(_documented.__doc__ or "").partition("\n\n")[2].partition("ax : ")
    head = f"Parameters\n----------\n{GIVEN[given]}\n" if given in GIVEN else head
    rest = rest.replace("cost_by_stage(paid)", f"{figure.__name__}({given})")
    figure.__doc__ = f"{inspect.cleandoc(figure.__doc__ or '')}\n\n{head}{ax}{rest}"
    return figure


@_documented
def cost_by_stage(paid: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the cost of each stage as a bar of its kinds; a reply that brought no answer counts as wasted.

    A stage of which no price is known has no bar, and is called unknown.
    """
    _check(paid, PAID)
    ax = _costs_stacked(by_kind(paid), ax)
    return entitled(ax, paid, "Cost by stage and kind", "cost (USD)", "stage")


@_documented
def cost_by_model(compared: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what each model would have cost, as `what_if` returns it; those of unknown price are left out."""
    _check(compared, DOLLARS)
    known = compared.loc[compared["cost_usd"].notna(), list(DOLLARS[:-1])]
    ax = _costs_stacked(known.set_axis(list(KINDS), axis="columns"), ax)
    title = "The same tokens and searches at other models' prices"
    return entitled(ax, compared, title, "cost (USD)", "model")


@_documented
def cost_per_record(paid: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how many records paid how much; those that got all their answers from others paid nothing, and are not here.

    The title says how many paid, and the mean.
    """
    _check(paid, PAID)
    ax = ax or own_axes()
    spent, title = paid.groupby("record")["cost_usd"].sum(min_count=1).dropna(), "Cost per record"
    if len(spent):
        ax.hist(spent, bins=30, color=COLOURS["input"], edgecolor="white", linewidth=0.4)
        title = f"Cost per record: mean {_amount(spent.mean())} USD, of the {len(spent):,} that paid"
    return entitled(ax, paid, title, "cost (USD per record)", "records")


@_documented
def cost_over_time(paid: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how the cost added up, from the first reply on; pauses between runs count as time."""
    _check(paid, PAID)
    ax = ax or own_axes()
    known = paid[paid["cost_usd"].notna() & paid["at"].notna()].sort_values("at")
    minutes = (known["at"] - known["at"].min()).dt.total_seconds() / 60
    ax.step(minutes, known["cost_usd"].cumsum(), where="post", color=COLOURS["input"], linewidth=1.8)
    ax.set_ylim(bottom=0)
    return entitled(ax, paid, "Cost over time", "time since the first reply (minutes)", "cost so far (USD)")


@_documented
def confidence(report: Report, ax: Axes | None = None) -> Axes:
    """Draw what became of the values by how sure the model says it is: where the bars are alike, its word means little.

    Each bar is all values of that confidence, their number at its end; the title says how many of those that nobody has
    decided about a page backs.
    """
    counts = _counted(_checked(report).quality.states_by_confidence).drop(columns="not_found")
    counts = counts.loc[[word for word in ("low", "medium", "high", NOT_SAID) if word in counts.index]]
    ax = full_bars(counts, STATE_COLOURS, ax)
    backed = counts["supported"] * 100 / counts.drop(columns=DECIDED, errors="ignore").sum(axis="columns")
    shares = [f"{backed[word]:.0f} % of {word} confidence" for word in ("high", "low") if word in backed.index]
    title = f"Backed by a page: {', '.join(shares)}" if shares else "Confidence and what became of the values"
    return entitled(ax, report, title, "values (%)", "confidence, as the model says")


@_documented
def search_quality(report: Report, ax: Axes | None = None) -> Axes:
    """Draw how much the search brought, as the model says: answers by level and stage."""
    ax = side_by_side(pd.DataFrame(_checked(report).quality.search_quality), ax)
    return entitled(ax, report, "Search quality, as the model says", "search quality", "answers")


@_documented
def fields_found(report: Report, ax: Axes | None = None) -> Axes:
    """Draw how many fields the answers fill: answers by number of fields and stage."""
    ax = side_by_side(pd.DataFrame(_checked(report).quality.fields_found), ax)
    return entitled(ax, report, "Fields found per answer", "fields with a value", "answers")


@_documented
def fill_rate(report: Report, ax: Axes | None = None) -> Axes:
    """Draw the share of records with a value, by column, in the table as it was given and now."""
    quality = _checked(report).quality
    records = pd.DataFrame({"before": quality.filled_before, "now": quality.filled_after})
    records["now"] -= records["before"]  # the bar of before is drawn first
    ax = stacked(records * 100 / max(1, quality.records), PALETTE, ax, text=lambda percent: f"{percent:.0f} %")
    return entitled(ax, report, "Fill rate by column", "records with a value (%)", "column")


@_documented
def states(report: Report, ax: Axes | None = None) -> Axes:
    """Draw how far the answers are backed, by column: `enrichkit.trust.evidence` explains the states.

    Each bar is all answers, their number at its end; columns that checks speak against most often come first. What a
    person decided counts as that, whatever its state.
    """
    counts = _counted(_checked(report).quality.states)
    ax = full_bars(worst_first(counts, AGAINST), STATE_COLOURS, ax)
    given = counts.drop(columns="not_found").to_numpy().sum()
    sums = (
        counts.filter(names).to_numpy().sum() * 100 / max(1, given) for names in (["supported"], AGAINST, [DECIDED])
    )
    backed, against, decided = (f"{share:.0f} %" for share in sums)
    title = f"Of {given:,} values a page backs {backed}; checks speak against {against}"
    title += f"; {decided} are decided" if DECIDED in counts else ""
    return entitled(ax, report, title, "answers (%)", "column")


@_documented
def issues(report: Report, ax: Axes | None = None) -> Axes:
    """Draw what each check did: emptied or flagged a value, or only cleaned it.

    Each bar is all that a check found, their number at its end; those that emptied or flagged most come first.
    """
    by_check: dict[str, Counter[str]] = defaultdict(Counter)
    for issue in _checked(report).quality.issues:
        by_check[issue.name][str(issue.done)] += issue.count
    counts = as_counts(by_check, DONE)
    ax = full_bars(worst_first(counts, DONE[:2]), DONE_COLOURS, ax)
    title = f"Checks {', '.join(f'{name} {count:,}' for name, count in counts.sum().items())} values"
    return entitled(ax, report, title, "findings (%)", "check")


def _counted(counts: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """Return counts of answers by their state; by what a person decided only where anything is."""
    table = as_counts(counts, COUNTED)
    return table if table[DECIDED].any() else table.drop(columns=DECIDED)


def by_kind(paid: pd.DataFrame) -> pd.DataFrame:
    """Return the cost of each stage by kind, what was wasted apart; missing for a stage of which no price is known.

    >>> by_kind(example()).round(3).loc["poc", ["search", "wasted"]].tolist()
    [0.028, 0.015]
    """
    kinds = paid[list(DOLLARS[:-1])].mask(paid["wasted"], 0.0).set_axis(list(KINDS), axis="columns")
    kinds["wasted"] = paid["cost_usd"].where(paid["wasted"], 0.0)
    return kinds[paid["cost_usd"].notna()].groupby(paid["stage"], sort=False).sum().reindex(paid["stage"].unique())


def _costs_stacked(kinds: pd.DataFrame, ax: Axes | None) -> Axes:
    """Draw the kinds that cost anything as a bar per row, its sum at its end."""
    charged = kinds.loc[:, kinds.fillna(0).any()]
    charged = charged if len(charged.columns) else kinds[["input"]]  # nothing is known: each row says so
    return stacked(charged, [COLOURS[str(kind)] for kind in charged], ax, text=_amount)


def _amount(value: float) -> str:
    return f"{value:,.2f}" if value >= 1 else usd(Decimal(str(value)))


def _checked(report: Report) -> Report:
    if not isinstance(report, Report):
        raise InputError("Give what enrichkit.report returns, not a {kind}.", kind=type(report).__name__)
    return report


def _check(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise InputError("Give what enrichkit.costs, or what_if, returns, not a {kind}.", kind=type(frame).__name__)
    for name in columns:
        if name not in frame.columns:
            raise InputError("This table has no {name}: give what enrichkit.costs, or what_if, returns.", name=name)


def example() -> pd.DataFrame:
    """Return four invented replies, one of them wasted, to try the figures with.

    Returns
    -------
    DataFrame
        As `enrichkit.costs` returns it.

    Examples
    --------
    >>> len(example()), int(example()["wasted"].sum())
    (4, 1)
    """
    return pd.DataFrame(
        {
            "record": ["a", "a", "b", "b"],
            "stage": ["poc", "poc", "poc", "fund"],
            "model": "gemini-3.5-flash-lite",
            "at": pd.to_datetime([f"2026-11-24T12:0{minute}:00Z" for minute in range(4)]),
            "input_tokens": [2600, 2600, 3000, 2800],
            "thinking_tokens": [100, 100, 0, 200],
            "output_tokens": [0, 700, 600, 900],
            "searches": [1, 1, 1, 2],
            "input_usd": [0.0008, 0.0008, 0.0009, 0.0008],
            "cached_usd": 0.0,
            "thinking_usd": [0.0003, 0.0003, 0.0, 0.0005],
            "output_usd": [0.0, 0.0018, 0.0015, 0.0023],
            "search_usd": [0.014, 0.014, 0.014, 0.028],
            "cost_usd": [0.0151, 0.0169, 0.0164, 0.0316],
            "wasted": [True, False, False, False],
        }
    )
