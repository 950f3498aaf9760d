"""How figures are drawn: bars, words as plain text, a background of their own that reads on light and dark pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import SetupError
from ..formatting import plain
from .costs import is_simulated
from .report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#0072B2", "#56B4E9", "#CC79A7", "#009E73", "#E69F00", "#D55E00")
"""Okabe's and Ito's, told apart by colour-blind readers too, and on dark pages."""
STAGE_COLOURS: list[Any] = [PALETTE[place] for place in (0, 4, 3, 2, 1, 5)]
MOST_LABELLED = 20
"""Bars side by side that have their number written on them."""
SIZE = (7.0, 3.6)


def side_by_side(counts: pd.DataFrame, ax: Axes | None) -> Axes:
    """Draw answers by level, a bar for each stage beside the others."""
    ax = ax or own_axes()
    if counts.size:
        counts.plot.bar(ax=ax, rot=0, width=0.8, color=STAGE_COLOURS, legend=False)
        containers: Any = ax.containers if counts.size <= MOST_LABELLED else ()
        for bars in containers:
            ax.bar_label(bars, fmt=lambda count: f"{count:,.0f}" if count else "", fontsize="small")
    return ax


def stacked(
    parts: pd.DataFrame, colours: Iterable[str], ax: Axes | None, *, text: Callable[[float], str] | None = None
) -> Axes:
    """Draw a horizontal bar per row, made of the columns, with a text at its end; unknown values have no bar."""
    ax = ax or own_axes(len(parts))
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


def as_counts(by_name: Mapping[str, Mapping[str, int]], columns: Iterable[str]) -> pd.DataFrame:
    """Return counts as a table with these columns, also where nothing was counted."""
    counts = pd.DataFrame.from_dict(dict(by_name), orient="index").reindex(columns=list(columns))
    return counts.fillna(0).astype(int)


def worst_first(counts: pd.DataFrame, worst: Sequence[str]) -> pd.DataFrame:
    """Return counts by the share, then the number, of those in the worst columns."""
    bad = counts[list(worst)].sum(axis="columns")
    order = pd.DataFrame(
        {"share": bad / counts.sum(axis="columns").clip(lower=1), "bad": bad, "worst": counts[worst[0]]}
    )
    return counts.loc[order.sort_values([*order], ascending=False, kind="stable").index]


def full_bars(counts: pd.DataFrame, colours: Mapping[Any, str], ax: Axes | None) -> Axes:
    """Draw a bar of 100 % per row, made of the columns, with the number of all at its end."""
    totals, used = counts.sum(axis="columns"), [colours[name] for name in counts]
    shares = counts.mul(100 / totals.clip(lower=1), axis="index").rename(columns=lambda name: name.replace("_", " "))
    ax = stacked(shares, used, ax)
    for place, total in enumerate(totals):
        ax.annotate(f"{total:,.0f}", (100, place), (4, 0), textcoords="offset points", va="center")
    ax.set_xlim(0, 112)
    ax.set_xticks(range(0, 101, 25))
    return ax


def entitled(ax: Axes, drawn: pd.DataFrame | Report, title: str, xlabel: str, ylabel: str) -> Axes:
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


def own_axes(rows: int = 0) -> Axes:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise SetupError("matplotlib is not installed: pip install 'enrichkit[notebook]'") from None
    _, ax = plt.subplots(figsize=(SIZE[0], max(SIZE[1], 1.2 + 0.32 * rows)), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
