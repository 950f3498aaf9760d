"""What a report looks like: the tables of its bill, and a page to hand on, one file without scripts.

What a model wrote is hostile until escaped; beside that, the page forbids itself scripts and anything from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from ..formatting import escaped, html_page
from ..store.files import Files
from ..store.reader import ORIGIN
from ..trust.frames import evidence
from .costs import Bill, CostLine

MOST_ROWS = 500
"""Doubtful values that are listed; a page that is handed on should open at once."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: .9rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { background: var(--soft); } td { overflow-wrap: break-word; max-width: 28rem; font-variant-numeric: tabular-nums; }
@media print {
  :root { color-scheme: light; }
  body { font-size: 10pt; margin: 0; max-width: none; padding: 0; }
  table { display: table; font-size: 8pt; } th, td { padding: .15rem .35rem; }
  table:has(th:nth-child(6)) :is(th, td) { max-width: 12em; }
  tr, table:not(:has(tr:nth-child(20))) { break-inside: avoid; } p:has(+ table) { break-after: avoid; }
}
"""


def cost_tables(bill: Bill) -> dict[str, pd.DataFrame]:
    """Return a bill as tables, by their titles."""
    stages = [*bill.by_stage.items(), ("total", bill.total)]
    used = [
        {"stage": stage}
        | {name: getattr(line, name) for name in ("attempts", "replies", "wasted", "unpriced")}
        | {name.removesuffix("_tokens"): count for name, count in line.counts.items()}
        | {"USD a search": "-" if line.per_search_usd is None else line.per_search_usd}
        for stage, line in stages
    ]
    brought = [
        {
            "stage": name,
            "filled cells": sum(line.filled.values()),
            "USD a cell": line.per_filled_cell_usd if line.filled else "-",
            "shared answers": line.shared,
            "saved by sharing, USD": line.saved_usd,
        }
        for name, line in bill.by_stage.items()
    ]
    return {
        "cost by stage, USD": _cost_table("stage", stages),
        "cost by model that answered, USD": _cost_table("model", bill.by_model.items()),
        "what was used": pd.DataFrame(used),
        "what it brought": pd.DataFrame(brought),
    }


def _cost_table(name: str, lines: Iterable[tuple[str, CostLine]]) -> pd.DataFrame:
    return pd.DataFrame([{name: text, **line.usd, "total": line.cost_usd} for text, line in lines])


def write_page(path: Path, out: str, lines: Iterable[str], tables: Mapping[str, pd.DataFrame]) -> None:
    """Write a report's lines and tables into a file, with the values that something speaks against."""
    doubtful = _doubtful(out)
    more = f"; the first {MOST_ROWS:,} are shown" if len(doubtful) > MOST_ROWS else ""
    title = f"Doubtful values: {len(doubtful):,}{more}"
    body = html_page(lines, {**tables, title: doubtful.head(MOST_ROWS)}, most=300)
    name = escaped(Path(out).name, most=0)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}: report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{name}</h1>\n<p>Made by enrichkit, {made}.</p>\n{body}\n</body>\n</html>\n"
    )
    Files(path.parent).put(path, page.encode("utf-8", "replace"))


def _doubtful(out: str) -> pd.DataFrame:
    """Return the values that something speaks against, as texts: whose, which, what the table has, and why."""
    fields = evidence(out)
    doubted = fields[fields["doubts"].map(len) > 0]
    keys = doubted[fields.attrs[ORIGIN]["key"]].astype(object)
    return pd.DataFrame(
        {
            "record": [", ".join(str(cell) for cell in cells if pd.notna(cell)) for cells in keys.to_numpy()],
            "column": doubted["column"].tolist(),
            "answer": doubted["answer"].fillna("").tolist(),
            "your cell": doubted["cell"].fillna("").tolist(),
            "state": doubted["state"].tolist(),
            "what speaks against it": doubted["doubts"].map("; ".join).tolist(),
        }
    )
