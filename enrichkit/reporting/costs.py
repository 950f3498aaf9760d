"""The costs: every paid reply of a store as a table, and what other models would have cost for the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..formatting import rows_told
from ..messages import SIMULATOR, Usage
from ..pricing.prices import Cost, Price, cost, prices_told
from ..store.reader import StoreReader
from ..store.replies import StoredReply

KINDS = ("input", "cached", "thinking", "output", "search")
"""What is paid for in a reply."""
FACTS = ("record", "stage", "question", "model", "at", "attempt")
COUNTS = (
    *("input_tokens", "cached_tokens", "tool_tokens", "thinking_tokens", "output_tokens", "total_tokens"),
    "searches",
)
DOLLARS = (*(f"{kind}_usd" for kind in KINDS), "cost_usd")
"""The columns of `costs`, with ``wasted``."""
MODELS = (
    *("gemini-3.5-flash-lite", "gemini-3.8-flash", "gemini-3.7-flash", "gemini-3.6-flash", "gemini-3.5-flash"),
    *("gemini-3.1-flash-lite", "gemini-4-argon", "gemini-3.1-pro-preview"),
    *("gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-pro"),
)
"""The models that `what_if` compares."""


def costs(out: str | Path = "enriched", *, prices: Mapping[str, Price] | None = None) -> pd.DataFrame:
    """Return every paid reply of a store, one row each, oldest first: what it used, and what it cost in USD.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    prices : mapping of str to Price, optional
        Prices of your own, by model: those that `run` was given.

    Returns
    -------
    DataFrame
        ``record`` (the id of the record that paid; missing for a reply that is not sealed yet), ``stage``,
        ``question``, ``model`` (the version that answered), ``at``, ``attempt``, the tokens (``input_tokens`` includes
        ``cached_tokens``) and ``searches``, ``input_usd``, ``cached_usd``, ``thinking_usd``, ``output_usd``,
        ``search_usd`` and their sum ``cost_usd``, missing where the price is unknown, and ``wasted``: whether the
        reply brought no answer. ``attrs["prices"]`` says whose prices these are, with the version of the data.

    Raises
    ------
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> enrichkit.costs(out)[["stage", "model", "wasted"]].values.tolist()
    [['fund', 'simulator', False]]
    """
    reader = StoreReader(out)
    reader.check_everything()
    stored = reader.replies(prices or {})
    found = pd.DataFrame([_cells(one) for one in stored.paid], columns=[*FACTS, *COUNTS, *DOLLARS, "wasted"])
    found["at"] = pd.to_datetime(found["at"], utc=True)
    types = dict.fromkeys(COUNTS, "Int64") | dict.fromkeys(DOLLARS, "float64")
    found = found.astype({**types, "attempt": "int64", "wasted": "bool"})
    found = found.sort_values("at", kind="stable", ignore_index=True)
    found.attrs["prices"] = prices_told(prices or {})
    return found


def _cells(one: StoredReply) -> tuple[Any, ...]:
    used = (getattr(one.usage, name.replace("input", "prompt")) for name in COUNTS)
    cost = one.cost
    kinds = [None] * len(KINDS) if cost is None else [float(getattr(cost, f"{kind}_usd")) for kind in KINDS]
    total = None if cost is None else float(cost.total_usd)
    return *(getattr(one, name) for name in FACTS), *used, *kinds, total, one.wasted


def what_if(
    paid: pd.DataFrame, models: Sequence[str] = MODELS, *, prices: Mapping[str, Price] | None = None
) -> pd.DataFrame:
    """Return what other models would have cost for the same tokens and searches, cheapest first.

    Each reply is priced anew, for its own day. Another model would think, write and search more or less than the one
    that answered, so this compares prices, not models.

    Parameters
    ----------
    paid : DataFrame
        The paid replies, as `costs` returns them.
    models : sequence of str
        The models to compare.
    prices : mapping of str to Price, optional
        Prices of your own, by model.

    Returns
    -------
    DataFrame
        By model: the cost in USD by kind, its sum ``cost_usd``, and ``unpriced``, the replies whose cost is unknown
        and in none of the sums. A model without a known price has missing sums, never 0. ``attrs["prices"]`` says
        whose prices these are, with the version of the data; ``attrs["simulated"]``, whether the simulator made up the
        tokens.

    Examples
    --------
    >>> import pandas as pd
    >>> from enrichkit.reporting import what_if
    >>> tokens = {"input_tokens": [2600], "output_tokens": [700], "searches": [2]}
    >>> table = what_if(pd.DataFrame(tokens), ["gemini-3.5-flash", "gemini-3.5-flash-lite"])
    >>> table["cost_usd"].round(5).to_dict()
    {'gemini-3.5-flash-lite': 0.03053, 'gemini-3.5-flash': 0.0382}
    """
    if "input_tokens" not in paid.columns:
        raise InputError(
            "what_if takes paid replies, as enrichkit.costs(out) returns them; this has no input_tokens.",
        )
    used = list(_usages(paid))
    rows = {model: _sums([cost(usage, model, prices=prices, at=at) for usage, at in used]) for model in models}
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").sort_values("cost_usd")
    found.attrs |= {"simulated": is_simulated(paid), "prices": prices_told(prices or {})}
    return found


def is_simulated(paid: pd.DataFrame) -> bool:
    """Whether the simulator answered, so that nothing was charged."""
    return "model" in paid.columns and bool(paid["model"].astype(str).str.startswith(SIMULATOR).any())


def _usages(paid: pd.DataFrame) -> Iterator[tuple[Usage, datetime | None]]:
    """Yield what each reply used, and when."""
    names = [name for name in COUNTS if name in paid.columns]
    for name in names:
        finite = np.isfinite(pd.to_numeric(paid[name], errors="coerce").to_numpy(float, na_value=np.nan))
        if len(odd := np.flatnonzero(paid[name].notna() & ~finite)):
            held = paid[name].iloc[odd[0]]
            raise InputError(
                "{name} holds {held!s} in {rows}, which is no count.",
                name=name,
                held=held,
                rows=rows_told(odd, paid.index),
            )
    days = paid["at"] if "at" in paid.columns else pd.Series([None] * len(paid))
    for at, *counts in zip(days, *(paid[name] for name in names), strict=True):
        given = zip(names, counts, strict=True)
        known: dict[str, Any] = {
            name.replace("input", "prompt"): int(value) for name, value in given if not pd.isna(value)
        }
        yield Usage(**known), None if pd.isna(at) else at


def _sums(found: Sequence[Cost | None]) -> dict[str, float | int]:
    """Return the sums of costs by kind; unknown if none is known."""
    known = [one for one in found if one is not None]
    names = [f"{kind}_usd" for kind in KINDS]
    sums = {name: float(sum(getattr(one, name) for one in known)) for name in names}
    sums["cost_usd"] = float(sum(one.total_usd for one in known))
    if found and not known:
        sums = dict.fromkeys(sums, float("nan"))
    return sums | {"unpriced": len(found) - len(known)}
