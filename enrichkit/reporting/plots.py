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
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from ..errors import InputError, SetupError
from ..formatting import plain, usd
from ..pricing.prices import DOLLARS, KINDS
from ..reading.grounding import STATES
from .costs import is_simulated
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

PALETTE = ("#0072B2", "#56B4E9", "#CC79A7", "#009E73", "#E69F00", "#D55E00")
"""Okabe's and Ito's, told apart by colour-blind readers too, and on dark pages."""
COLOURS = dict(zip((*KINDS, "wasted"), (*PALETTE[:5], "#7F7F7F"), strict=True))
STATE_COLOURS = dict(zip(STATES, ("#009E73", "#F0E442", "#E69F00", "#D55E00", "#BFBFBF"), strict=True))
STAGE_COLOURS: list[Any] = [PALETTE[place] for place in (0, 4, 3, 2, 1, 5)]
MOST_LABELLED = 20
"""Bars side by side that have their number written on them."""
SIZE = (7.0, 3.6)
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
    return _entitled(ax, paid, "Cost by stage and kind", "cost (USD)", "stage")


@_documented
def cost_by_model(compared: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what each model would have cost, as `what_if` returns it; those of unknown price are left out."""
    _check(compared, DOLLARS)
    known = compared.loc[compared["cost_usd"].notna(), list(DOLLARS[:-1])]
    ax = _costs_stacked(known.set_axis(list(KINDS), axis="columns"), ax)
    title = "The same tokens and searches at other models' prices"
    return _entitled(ax, compared, title, "cost (USD)", "model")


@_documented
def cost_per_record(paid: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how many records paid how much; those that got all their answers from others paid nothing, and are not here.

    The title says how many paid, and the mean.
    """
    _check(paid, PAID)
    ax = ax or _own_axes()
    spent, title = paid.groupby("record")["cost_usd"].sum(min_count=1).dropna(), "Cost per record"
    if len(spent):
        ax.hist(spent, bins=30, color=COLOURS["input"], edgecolor="white", linewidth=0.4)
        title = f"Cost per record: mean {_amount(spent.mean())} USD, of the {len(spent):,} that paid"
    return _entitled(ax, paid, title, "cost (USD per record)", "records")


@_documented
def cost_over_time(paid: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how the cost added up, from the first reply on; pauses between runs count as time."""
    _check(paid, PAID)
    ax = ax or _own_axes()
    known = paid[paid["cost_usd"].notna() & paid["at"].notna()].sort_values("at")
    minutes = (known["at"] - known["at"].min()).dt.total_seconds() / 60
    ax.step(minutes, known["cost_usd"].cumsum(), where="post", color=COLOURS["input"], linewidth=1.8)
    ax.set_ylim(bottom=0)
    return _entitled(ax, paid, "Cost over time", "time since the first reply (minutes)", "cost so far (USD)")


@_documented
def confidence(report: Report, ax: Axes | None = None) -> Axes:
    """Draw how sure the model says it is: answers by level and stage."""
    ax = _side_by_side(pd.DataFrame(_checked(report).quality.confidence), ax)
    return _entitled(ax, report, "Confidence, as the model says", "confidence", "answers")


@_documented
def search_quality(report: Report, ax: Axes | None = None) -> Axes:
    """Draw how much the search brought, as the model says: answers by level and stage."""
    ax = _side_by_side(pd.DataFrame(_checked(report).quality.search_quality), ax)
    return _entitled(ax, report, "Search quality, as the model says", "search quality", "answers")


@_documented
def fields_found(report: Report, ax: Axes | None = None) -> Axes:
    """Draw how many fields the answers fill: answers by number of fields and stage."""
    ax = _side_by_side(pd.DataFrame(_checked(report).quality.fields_found), ax)
    return _entitled(ax, report, "Fields found per answer", "fields with a value", "answers")


@_documented
def fill_rate(report: Report, ax: Axes | None = None) -> Axes:
    """Draw the share of records with a value, by column, in the table as it was given and now."""
    quality = _checked(report).quality
    records = pd.DataFrame({"before": quality.filled_before, "now": quality.filled_after})
    records["now"] -= records["before"]  # the bar of before is drawn first
    ax = _stacked(records * 100 / max(1, quality.records), PALETTE, ax, text=lambda percent: f"{percent:.0f} %")
    return _entitled(ax, report, "Fill rate by column", "records with a value (%)", "column")


@_documented
def states(report: Report, ax: Axes | None = None) -> Axes:
    """Draw how far the answers are backed, by column: `enrichkit.trust.evidence` explains the states."""
    counts = pd.DataFrame.from_dict(dict(_checked(report).quality.states), orient="index").reindex(columns=list(STATES))
    ax = _stacked(counts.rename(columns=lambda state: state.replace("_", " ")), STATE_COLOURS.values(), ax)
    return _entitled(ax, report, "How far the answers are backed", "records", "column")


@_documented
def issues(report: Report, ax: Axes | None = None) -> Axes:
    """Draw how often each check found something, by stage."""
    quality = _checked(report).quality
    counts = {
        stage: {issue.name: issue.count for issue in quality.issues if issue.stage == stage}
        for stage in quality.confidence
    }
    checks = list(dict.fromkeys(issue.name for issue in quality.issues))
    ax = _stacked(pd.DataFrame(counts, index=checks).fillna(0), STAGE_COLOURS, ax, text=lambda total: f"{total:,.0f}")
    return _entitled(ax, report, "What checks found", "findings", "check")


def by_kind(paid: pd.DataFrame) -> pd.DataFrame:
    """Return the cost of each stage by kind, what was wasted apart; missing for a stage of which no price is known.

    >>> by_kind(example()).round(3).loc["poc", ["search", "wasted"]].tolist()
    [0.028, 0.015]
    """
    kinds = paid[list(DOLLARS[:-1])].mask(paid["wasted"], 0.0).set_axis(list(KINDS), axis="columns")
    kinds["wasted"] = paid["cost_usd"].where(paid["wasted"], 0.0)
    return kinds[paid["cost_usd"].notna()].groupby(paid["stage"], sort=False).sum().reindex(paid["stage"].unique())


def _side_by_side(counts: pd.DataFrame, ax: Axes | None) -> Axes:
    """Draw answers by level, a bar for each stage beside the others."""
    ax = ax or _own_axes()
    if counts.size:
        counts.plot.bar(ax=ax, rot=0, width=0.8, color=STAGE_COLOURS, legend=False)
        containers: Any = ax.containers if counts.size <= MOST_LABELLED else ()
        for bars in containers:
            ax.bar_label(bars, fmt=lambda count: f"{count:,.0f}" if count else "", fontsize="small")
    return ax


def _stacked(
    parts: pd.DataFrame, colours: Iterable[str], ax: Axes | None, *, text: Callable[[float], str] | None = None
) -> Axes:
    """Draw a horizontal bar per row, made of the columns, with a text at its end; unknown values have no bar."""
    ax = ax or _own_axes(len(parts))
    parts = parts.rename(index=lambda name: plain(str(name), 28), columns=lambda name: plain(str(name), 20))
    ends = parts.sum(axis="columns", skipna=False)
    if parts.size:
        parts.plot.barh(stacked=True, ax=ax, width=0.65, color=list(colours), legend=False)
        if text is not None:
            last: Any = ax.containers[-1]
            ax.bar_label(last, ["unknown" if pd.isna(end) else text(end) for end in ends], padding=4)
            ax.margins(x=0.2)  # room for it
        ax.invert_yaxis()
    return ax


def _costs_stacked(kinds: pd.DataFrame, ax: Axes | None) -> Axes:
    """Draw the kinds that cost anything as a bar per row, its sum at its end."""
    charged = kinds.loc[:, kinds.fillna(0).any()]
    charged = charged if len(charged.columns) else kinds[["input"]]  # nothing is known: each row says so
    return _stacked(charged, [COLOURS[str(kind)] for kind in charged], ax, text=_amount)


def _entitled(ax: Axes, drawn: pd.DataFrame | Report, title: str, xlabel: str, ylabel: str) -> Axes:
    """Set a figure's words as plain text: matplotlib would read a model's or a stage's name as a formula."""
    about = _about_costs(drawn) if isinstance(drawn, pd.DataFrame) else ["simulated answers"] * bool(drawn.simulated)
    ax.set(title="\n".join([title, *about]), xlabel=xlabel, ylabel=ylabel)
    words = [ax.title, *ax.get_yticklabels()]
    if ax.get_legend_handles_labels()[0]:
        words += ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False).get_texts()
    for text in words:
        text.set_parse_math(False)
    return ax


def _about_costs(frame: pd.DataFrame) -> Iterator[str]:
    """Yield what was simulated and how much of the cost is unknown, and whose prices they are."""
    unknown = int(frame["cost_usd"].isna().sum())
    left_out = f"unknown prices left out: {unknown:,}" if unknown else ""
    simulated = "simulated, nothing was charged" if frame.attrs.get("simulated", is_simulated(frame)) else ""
    if left_out or simulated:
        yield "; ".join(filter(None, [left_out, simulated]))
    if prices := frame.attrs.get("prices"):
        yield plain(f"prices: {prices}", 80)


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


def _own_axes(rows: int = 0) -> Axes:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise SetupError("matplotlib is not installed: pip install 'enrichkit[notebook]'") from None
    _, ax = plt.subplots(figsize=(SIZE[0], max(SIZE[1], 1.2 + 0.32 * rows)), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


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
