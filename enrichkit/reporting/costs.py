"""The costs: every paid reply as a table, and what other models would have cost for the same tokens and searches.

Sums are of exact decimals. What is unknown is counted, and never taken for 0.
"""

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
from ..pricing.prices import Price, cost, prices_told
from ..store.reader import StoreReader
from ..store.replies import StoredReply

KINDS = ("input", "cached", "thinking", "output", "search")
"""What is paid for in a reply."""
FACTS = ("record", "stage", "question", "model", "at", "attempt", "tries", "paid")
COUNTED = ("input_tokens", "cached_tokens", "tool_tokens", "thinking_tokens", "output_tokens", "searches")
COUNTS = (*COUNTED[:-1], "total_tokens", "searches")
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
    table = reply_table(reader.replies(prices or {}).paid).drop(columns=["tries", "paid"])
    table["at"] = pd.to_datetime(table["at"], utc=True)
    types = dict.fromkeys(COUNTS, "Int64") | dict.fromkeys(DOLLARS, "float64")
    table = table.astype({**types, "attempt": "int64", "wasted": "bool"})
    table = table.sort_values("at", kind="stable", ignore_index=True)
    table.attrs["prices"] = prices_told(prices or {})
    return table


def reply_table(replies: Sequence[StoredReply]) -> pd.DataFrame:
    """Return replies, one row each, with what they used and exactly what they cost."""
    rows = []
    for reply in replies:
        used = [getattr(reply.usage, name.replace("input", "prompt")) for name in COUNTS]
        kinds = [None if reply.cost is None else getattr(reply.cost, f"{kind}_usd") for kind in (*KINDS, "total")]
        rows.append([*(getattr(reply, name) for name in FACTS), *used, *kinds, reply.wasted])
    return pd.DataFrame(rows, columns=[*FACTS, *COUNTS, *DOLLARS, "wasted"], dtype=object)


def by_kind(paid: pd.DataFrame, nothing: Any = 0.0) -> pd.DataFrame:
    """Return what each paid reply cost by kind; what brought no answer is wasted, all kinds together."""
    wasted = paid["wasted"].astype(bool)
    kinds = paid[list(DOLLARS[:-1])].mask(wasted, nothing).set_axis(list(KINDS), axis="columns")
    return kinds.assign(wasted=paid["cost_usd"].where(wasted, nothing))


def what_if(
    paid: pd.DataFrame, models: Sequence[str] = MODELS, *, prices: Mapping[str, Price] | None = None
) -> pd.DataFrame:
    """Return what other models would have cost for the same tokens and searches, cheapest first.

    Each reply is priced for its own day. Another model would think, write and search more or less than the one that
    answered, so this compares prices, not models.

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

    Raises
    ------
    InputError
        If the table lacks the tokens, or holds something that is not a count.

    Examples
    --------
    >>> import pandas as pd
    >>> from enrichkit.reporting import what_if
    >>> tokens = {"input_tokens": [2600], "output_tokens": [700], "searches": [2]}
    >>> what_if(pd.DataFrame(tokens), ["gemini-3.5-flash", "gemini-3.5-flash-lite"])["cost_usd"].round(5).to_dict()
    {'gemini-3.5-flash-lite': 0.03053, 'gemini-3.5-flash': 0.0382}
    """
    if "input_tokens" not in paid.columns:
        raise InputError("what_if takes paid replies, as enrichkit.costs(out) returns them; this has no input_tokens.")
    usages, rows = list(_usages(paid)), {}
    for model in models:
        priced = [cost(usage, model, prices=prices, at=at) for usage, at in usages]
        known = [reply for reply in priced if reply is not None]
        sums = {name: sum(getattr(reply, name) for reply in known) for name in (*DOLLARS[:-1], "total_usd")}
        unknown = bool(priced) and not known
        rows[model] = {name: float("nan") if unknown else float(usd) for name, usd in sums.items()}
        rows[model]["unpriced"] = len(priced) - len(known)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").rename(columns={"total_usd": "cost_usd"})
    table = table.astype({"unpriced": "int64"}).sort_values("cost_usd")
    table.attrs |= {"simulated": is_simulated(paid), "prices": prices_told(prices or {})}
    return table


def is_simulated(paid: pd.DataFrame) -> bool:
    """Whether the simulator answered, so that nothing was charged."""
    return "model" in paid.columns and bool(paid["model"].astype(str).str.startswith(SIMULATOR).any())


def _usages(paid: pd.DataFrame) -> Iterator[tuple[Usage, datetime | None]]:
    """Yield what each reply used, and when."""
    names = [name for name in COUNTS if name in paid.columns]
    for name in names:
        finite = np.isfinite(pd.to_numeric(paid[name], errors="coerce").to_numpy(float, na_value=np.nan))
        if len(odd := np.flatnonzero(paid[name].notna() & ~finite)):
            raise InputError(
                "{name} holds {held!s} in {rows}, which is no count.",
                name=name,
                held=paid[name].iloc[odd[0]],
                rows=rows_told(odd, paid.index),
            )
    days = paid["at"] if "at" in paid.columns else pd.Series([None] * len(paid))
    for at, *counts in zip(days, *(paid[name] for name in names), strict=True):
        known: dict[str, Any] = {
            name.replace("input", "prompt"): int(count)
            for name, count in zip(names, counts, strict=True)
            if not pd.isna(count)
        }
        yield Usage(**known), None if pd.isna(at) else at
