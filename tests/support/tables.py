"""What many tests ask about, and of which tables: the smallest answer, names to ask about, a price easy to add up."""

from __future__ import annotations

import pandas as pd

from enrichkit import Answer, Price

PRICES = {"m": Price(input_usd=1000, output_usd=0)}
"""The price of the model "m": a reply to a thousand tokens costs one dollar."""


class Company(Answer):  # without a docstring, which would be part of what is asked
    industry: str | None = None


def numbered(rows: int, name: str = "N") -> pd.DataFrame:
    """Return a table of names that differ by their number."""
    return pd.DataFrame({"name": [f"{name}{number}" for number in range(rows)]})


def in_peru(*names: str, **columns: object) -> pd.DataFrame:
    """Return a table of companies that share a country, with these columns besides."""
    return pd.DataFrame({"name": list(names), "country": ["Peru"] * len(names)} | columns)
