"""The figures: each draws into Axes, and returns them, what `enrichkit.costs` or `enrichkit.report` returns.

Below the title stands whose prices they are, where the frame says so (``attrs["prices"]``).

matplotlib is imported with the first figure (``pip install 'enrichkit[notebook]'``). Without ``ax`` a figure of its own
is made, with a background of its own, so that it reads on light and dark pages alike.

>>> import enrichkit
>>> enrichkit.plots.cost_by_stage.__name__
'cost_by_stage'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import InputError, SetupError
from ..formatting import plain, usd
from ..pricing.prices import KINDS
from .costs import is_simulated
from .quality import Quality
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

COLOURS = {
    "input": "#0072B2",
    "cached": "#56B4E9",
    "thinking": "#CC79A7",
    "output": "#009E73",
    "search": "#E69F00",
    "wasted": "#7F7F7F",
}
"""Okabe's and Ito's, told apart by colour-blind readers too, and on dark pages; what was wasted is grey."""
STAGE_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
STATE_COLOURS = {
    "supported": "#009E73",
    "unsupported": "#F0E442",
    "conflict": "#E69F00",
    "invalid": "#D55E00",
    "not_found": "#BFBFBF",
}
MOST_LABELLED = 20  # bars whose number is written on them
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
    _stack_costs(ax, by_kind(paid))
    _entitle(ax, paid, "Cost by stage and kind")
    ax.set(xlabel="cost (USD)", ylabel="stage")
    return ax


def cost_by_model(found: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what each model would have cost, as `what_if` returns it; those of unknown price are left out.

    Examples
    --------
    >>> import matplotlib, pandas as pd, enrichkit
    >>> matplotlib.use("agg")
    >>> enrichkit.plots.cost_by_model(enrichkit.reporting.what_if(enrichkit.plots.example())).get_xlabel()
    'cost (USD)'
    """
    names = [f"{kind}_usd" for kind in KINDS]
    _check(found, [*names, "cost_usd"])
    known = found[found["cost_usd"].notna()]
    ax = _own_axes(len(known)) if ax is None else ax
    _stack_costs(ax, known[names].set_axis(list(KINDS), axis="columns"))
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


def confidence(found: Report, ax: Axes | None = None) -> Axes:
    """Draw how sure the model says it is, answers by level and stage; ``found`` is what `enrichkit.report` returns.

    Examples
    --------
    >>> import matplotlib, pandas as pd, enrichkit, tempfile
    >>> matplotlib.use("agg")
    >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> enrichkit.plots.confidence(enrichkit.report(out)).get_ylabel()
    'answers'
    """
    return _grouped(found, "confidence", "Confidence, as the model says", "confidence", ax)


def search_quality(found: Report, ax: Axes | None = None) -> Axes:
    """Draw how much the search brought, as the model says: answers by level and stage; see `confidence`.

    Examples
    --------
    >>> enrichkit.plots.search_quality(enrichkit.report(out))  # doctest: +SKIP
    """
    return _grouped(found, "search_quality", "Search quality, as the model says", "search quality", ax)


def fields_found(found: Report, ax: Axes | None = None) -> Axes:
    """Draw how many fields the answers fill: answers by number of fields and stage; see `confidence`.

    Examples
    --------
    >>> enrichkit.plots.fields_found(enrichkit.report(out))  # doctest: +SKIP
    """
    return _grouped(found, "fields_found", "Fields found per answer", "fields with a value", ax)


def fill_rate(found: Report, ax: Axes | None = None) -> Axes:
    """Draw the share of records with a value, by column, in the table as it was given and now; see `confidence`.

    Examples
    --------
    >>> enrichkit.plots.fill_rate(enrichkit.report(out))  # doctest: +SKIP
    """
    quality = _quality_of(found)
    columns = list(quality.filled_after)
    ax = _own_axes(len(columns)) if ax is None else ax
    percent = 100 / max(1, quality.records)
    before = [quality.filled_before[column] * percent for column in columns]
    now = [quality.filled_after[column] * percent for column in columns]
    places = range(len(columns))
    ax.barh(places, now, color=COLOURS["cached"], height=0.65, label="now")
    ax.barh(places, before, color=COLOURS["input"], height=0.65, label="before")
    for place, value in zip(places, now, strict=True):
        ax.text(value, place, f" {value:.0f} %", va="center", ha="left")
    _rows(ax, columns)
    ax.set_xlim(0, 112)
    _legend(ax)
    ax.set(title=_about(found, "Fill rate by column"), xlabel="records with a value (%)", ylabel="column")
    return ax


def states(found: Report, ax: Axes | None = None) -> Axes:
    """Draw how far the answers are backed, by column: `enrichkit.trust.evidence` explains the states.

    Examples
    --------
    >>> enrichkit.plots.states(enrichkit.report(out))  # doctest: +SKIP
    """
    quality = _quality_of(found)
    counts = pd.DataFrame.from_dict({name: dict(one) for name, one in quality.states.items()}, orient="index")
    ax = _own_axes(len(counts)) if ax is None else ax
    known = [state for state in STATE_COLOURS if state in counts]
    parts = counts[known].rename(columns=lambda state: state.replace("_", " "))
    _stack(ax, parts, [STATE_COLOURS[state] for state in known])
    ax.set(title=_about(found, "How far the answers are backed"), xlabel="records", ylabel="column")
    return ax


def issues(found: Report, ax: Axes | None = None) -> Axes:
    """Draw how often each check found something, by stage; see `confidence`.

    Examples
    --------
    >>> enrichkit.plots.issues(enrichkit.report(out))  # doctest: +SKIP
    """
    quality = _quality_of(found)
    checks = list(dict.fromkeys(one.name for one in quality.issues))
    ax = _own_axes(len(checks)) if ax is None else ax
    counts = pd.DataFrame(0, index=checks, columns=list(quality.confidence))
    for one in quality.issues:
        counts.loc[one.name, one.stage] = one.count
    for place, total in enumerate(_stack(ax, counts, cycle(STAGE_COLOURS), title="stage")):
        ax.text(total, place, f" {total:,.0f}", va="center", ha="left")
    ax.margins(x=0.12)
    ax.set(title=_about(found, "What checks found"), xlabel="findings", ylabel="check")
    return ax


def _grouped(found: Report, name: str, title: str, xlabel: str, ax: Axes | None) -> Axes:
    """Draw answers by level, a bar for each stage side by side."""
    by_stage: Mapping[str, Mapping[Any, int]] = getattr(_quality_of(found), name)
    levels = sorted({level for counts in by_stage.values() for level in counts}, key=_place(by_stage))
    ax = _own_axes(0) if ax is None else ax
    width = 0.8 / max(1, len(by_stage))
    for at, (colour, (stage, counts)) in enumerate(zip(cycle(STAGE_COLOURS), by_stage.items(), strict=False)):
        places = [place + (at - (len(by_stage) - 1) / 2) * width for place in range(len(levels))]
        values = [counts.get(level, 0) for level in levels]
        bars = ax.bar(places, values, width, color=colour, label=plain(stage, 20))
        if len(levels) * len(by_stage) <= MOST_LABELLED:
            ax.bar_label(bars, [f"{value:,}" if value else "" for value in values], fontsize="small")
    ax.set_xticks(range(len(levels)), [str(level) for level in levels])
    if by_stage:
        _legend(ax, "stage")
    ax.set(title=_about(found, title), xlabel=xlabel, ylabel="answers")
    return ax


def _place(by_stage: Mapping[str, Mapping[Any, int]]) -> Callable[[Any], int]:
    """Return where a level stands among those of the stage that has most of them."""
    longest = list(max(by_stage.values(), key=len, default=()))
    return lambda level: longest.index(level) if level in longest else len(longest)


def _rows(ax: Axes, names: Sequence[str]) -> None:
    """Name the rows of horizontal bars, the first on top."""
    ax.set_yticks(range(len(names)), [plain(name, 28) for name in names])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)


def _quality_of(found: Report) -> Quality:
    quality = getattr(found, "quality", None)
    if not isinstance(quality, Quality):
        raise InputError("Give what enrichkit.report returns, not a {kind}.", kind=type(found).__name__)
    return quality


def _about(found: Report, title: str) -> str:
    return f"{title}\nsimulated answers" if found.simulated else title


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


def _stack(ax: Axes, parts: pd.DataFrame, colours: Iterable[str], *, title: str | None = None) -> pd.Series[float]:
    """Draw a horizontal bar per row, made of the columns, but of a row with something unknown; return their ends."""
    ends = pd.Series(0.0, index=parts.index)
    places = pd.Series(range(len(parts)), index=parts.index)
    known = parts.notna().all(axis="columns")
    for name, colour in zip(parts.columns, colours, strict=False):
        label = plain(str(name), 20)
        ax.barh(places[known], parts.loc[known, name], left=ends[known], color=colour, label=label, height=0.65)
        ends += parts[name].fillna(0)
    _rows(ax, list(map(str, parts.index)))
    if parts.size:
        _legend(ax, title)
    return ends


def _stack_costs(ax: Axes, kinds: pd.DataFrame) -> None:
    """Draw the kinds that cost anything as a bar per row, its sum written at its end."""
    known = kinds.notna().all(axis="columns")
    paid = [kind for kind in kinds.columns if kinds[kind].fillna(0).any()]
    ends = _stack(ax, kinds[paid], [COLOURS[kind] for kind in paid], title="kind")
    for place, (total, certain) in enumerate(zip(ends, known, strict=True)):
        ax.text(total, place, f"  {_amount(total) if certain else 'unknown'}", va="center", ha="left")
    ax.set_xlim(0, (float(ends.max()) if len(ends) else 0.0) * 1.25 or 1)


def _legend(ax: Axes, title: str | None = None) -> None:
    ax.legend(title=title, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


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
        raise InputError(
            "This table has no {lacking}: give what enrichkit.costs, or what_if, returns.", lacking=lacking[0]
        )


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
