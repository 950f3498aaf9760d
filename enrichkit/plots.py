"""The figures: each draws paid replies, as `enrichkit.costs` returns them, into Axes and returns those.

Below the title stands whose prices they are, where the frame says so (``attrs["prices"]``).

matplotlib is imported with the first figure (``pip install 'enrichkit[notebook]'``). Without ``ax`` a figure of its own
is made, with a background of its own, so that it reads on light and dark pages alike.

>>> import enrichkit
>>> enrichkit.plots.cost_by_stage.__name__
'cost_by_stage'
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pandas as pd

from ._costs import KINDS, is_simulated
from ._listing import plain, usd
from .errors import InputError, SetupError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cost_by_model", "cost_by_stage", "cost_over_time", "cost_per_record", "example"]

COLOURS = {
    "input": "#0072B2",
    "cached": "#56B4E9",
    "thinking": "#CC79A7",
    "output": "#009E73",
    "search": "#E69F00",
    "wasted": "#7F7F7F",
}
"""Okabe's and Ito's, told apart by colour-blind readers too, and on dark pages; what was wasted is grey."""
SIZE = (7.0, 3.6)
NOT_CHARGED = "simulated, nothing was charged"


def cost_by_stage(paid: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the cost of each stage as a bar of its kinds; what brought no answer is wasted, whatever its kind.

    A stage of which no price is known has no bar, and is called unknown.

    Examples
    --------
    >>> import matplotlib, pandas as pd, enrichkit
    >>> matplotlib.use("agg")
    >>> ax = enrichkit.plots.cost_by_stage(enrichkit.plots.example())
    >>> ax.get_xlabel()
    'cost (USD)'
    """
    ax = _axes(paid, ax)
    kinds = by_kind(paid)
    _stack(ax, kinds)
    _entitle(ax, paid, "Cost by stage and kind")
    ax.set(xlabel="cost (USD)", ylabel="stage")
    return ax


def cost_by_model(found: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what each model would have cost, as `enrichkit.what_if` returns it; those of unknown price are left out.

    Examples
    --------
    >>> import matplotlib, pandas as pd, enrichkit
    >>> matplotlib.use("agg")
    >>> enrichkit.plots.cost_by_model(enrichkit.what_if(enrichkit.plots.example())).get_xlabel()
    'cost (USD)'
    """
    names = [f"{kind}_usd" for kind in KINDS]
    _check(found, [*names, "cost_usd"])
    known = found[found["cost_usd"].notna()]
    ax = _own_axes(len(known)) if ax is None else ax
    _stack(ax, known[names].set_axis(list(KINDS), axis="columns"))
    _entitle(ax, found, "The same tokens and searches at other models' prices", simulated=found.attrs.get("simulated"))
    ax.set(xlabel="cost (USD)", ylabel="model")
    return ax


def cost_per_record(paid: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how many records paid how much; those that got all their answers from others paid nothing, and are not here.

    Examples
    --------
    >>> import matplotlib, pandas as pd, enrichkit
    >>> matplotlib.use("agg")
    >>> enrichkit.plots.cost_per_record(enrichkit.plots.example()).get_xlabel()
    'cost (USD per record)'
    """
    ax = _axes(paid, ax)
    spent = paid.groupby("record")["cost_usd"].sum(min_count=1).dropna()
    if len(spent):
        ax.hist(spent, bins=30, color=COLOURS["input"], edgecolor="white", linewidth=0.4)
        _mark(ax, float(spent.mean()), f"mean {_amount(float(spent.mean()))} USD")
    _entitle(ax, paid, f"Cost per record, of the {len(spent):,} that paid")
    ax.set(xlabel="cost (USD per record)", ylabel="records")
    return ax


def cost_over_time(paid: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how the cost added up, from the first reply on; pauses between runs count as time.

    Examples
    --------
    >>> import matplotlib, pandas as pd, enrichkit
    >>> matplotlib.use("agg")
    >>> enrichkit.plots.cost_over_time(enrichkit.plots.example()).get_ylabel()
    'cost so far (USD)'
    """
    ax = _axes(paid, ax)
    known = paid[paid["cost_usd"].notna() & paid["at"].notna()].sort_values("at")
    if len(known):
        minutes = (known["at"] - known["at"].iloc[0]).dt.total_seconds() / 60
        total = known["cost_usd"].cumsum()
        ax.step(minutes, total, where="post", color=COLOURS["input"], linewidth=1.8)
        ax.set_ylim(bottom=0)
    _entitle(ax, paid, "Cost over time")
    ax.set(xlabel="time since the first reply (minutes)", ylabel="cost so far (USD)")
    return ax


def by_kind(paid: pd.DataFrame) -> pd.DataFrame:
    """Return the cost of each stage by kind, what was wasted apart; a stage of which no price is known has none.

    >>> by_kind(example()).round(3).loc["poc", ["search", "wasted"]].tolist()
    [0.028, 0.015]
    """
    names = [f"{kind}_usd" for kind in KINDS]
    found = paid[names].mask(paid["wasted"], 0.0).set_axis(list(KINDS), axis="columns")
    found["wasted"] = paid["cost_usd"].where(paid["wasted"], 0.0)
    known = found.assign(stage=paid["stage"])[paid["cost_usd"].notna()]
    return known.groupby("stage", sort=False).sum().reindex(paid["stage"].unique()).rename_axis("stage")


def _stack(ax: Axes, kinds: pd.DataFrame) -> None:
    """Draw a horizontal bar per row, made of the columns that hold anything, its sum written at its end."""
    left = pd.Series(0.0, index=kinds.index)
    places = pd.Series(range(len(kinds)), index=kinds.index)
    known = kinds.notna().all(axis="columns")
    for kind in [kind for kind in kinds.columns if kinds[kind].fillna(0).any()]:
        ax.barh(places[known], kinds.loc[known, kind], left=left[known], color=COLOURS[kind], label=kind, height=0.65)
        left += kinds[kind].fillna(0)
    for place, total, certain in zip(places, left, known, strict=True):
        ax.text(total, place, f"  {_amount(total) if certain else 'unknown'}", va="center", ha="left")
    ax.set_yticks(list(places), [plain(str(name), 28) for name in kinds.index])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.set_ylim(max(len(kinds), 1) - 0.5, -0.5)
    ax.set_xlim(0, (float(left.max()) if len(left) else 0.0) * 1.25 or 1)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(title="kind", loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


def _mark(ax: Axes, value: float, told: str) -> None:
    """Draw a line at a value, named beside it."""
    ax.set_ylim(top=ax.get_ylim()[1] * 1.12)  # room for the words above the bars
    ax.axvline(value, color=ax.xaxis.label.get_color(), linestyle="--", linewidth=1.2)
    ax.text(value, ax.get_ylim()[1] * 0.98, f" {told}", va="top", ha="left")


def _amount(value: float) -> str:
    return f"{value:,.2f}" if value >= 1 else usd(Decimal(str(value)))


def _entitle(ax: Axes, frame: pd.DataFrame, title: str, *, simulated: bool | None = None) -> None:
    """Set a title that says what was simulated, how much of the cost is unknown, and whose prices they are."""
    unknown = int(frame["cost_usd"].isna().sum())
    more = [f"unknown prices left out: {unknown:,}"] if unknown else []
    if is_simulated(frame) if simulated is None else simulated:
        more.append(NOT_CHARGED)
    prices = str(frame.attrs.get("prices", ""))
    ax.set_title("\n".join(filter(None, [title, "; ".join(more), plain(prices and f"prices: {prices}", 80)])))
    ax.title.set_parse_math(False)  # the names of models are anybody's


def _axes(paid: pd.DataFrame, ax: Axes | None) -> Axes:
    """Return the Axes to draw into, having looked at what is to be drawn."""
    names = [f"{kind}_usd" for kind in (*KINDS, "cost")]
    _check(paid, ["record", "stage", "model", "at", *names, "wasted"])
    return _own_axes(paid["stage"].nunique()) if ax is None else ax


def _check(frame: pd.DataFrame, columns: list[str]) -> None:
    lacking = [name for name in columns if name not in frame.columns]
    if lacking:
        raise InputError(f"This table has no {lacking[0]}: give what enrichkit.costs, or what_if, returns.")


def _own_axes(rows: int) -> Axes:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise SetupError("matplotlib is not installed: pip install 'enrichkit[notebook]'") from None
    height = max(SIZE[1], 1.2 + 0.32 * rows)
    _, ax = plt.subplots(figsize=(SIZE[0], height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def example() -> pd.DataFrame:
    """Return four invented replies, one of them wasted, to try the figures with."""
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
