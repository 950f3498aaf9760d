"""The report: how good a store's answers are and what they cost, for a terminal, a notebook and a program."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..formatting import Listing, as_html, as_text, many, usd
from ..pricing.prices import Price
from ..store.files import Files, folder_of, work_area
from ..store.reader import StoreReader
from ..store.replies import StoredReplies
from .bill import ALL_KINDS, Bill, CostLine, StageCost, make_bill
from .costs import COUNTED
from .quality import Quality, as_json, listings, read_quality

SCHEMA_VERSION = 3
FILE = "enrichment_report.json"
SIMULATED = "simulated, nothing was charged; at the default model's prices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """How fast a store's replies came, over the minutes in which any came.

    Attributes
    ----------
    busy_minutes : int
        Minutes with replies.
    median_per_minute, most_per_minute : int
        Paid replies in such a minute: a hint for ``rpm``.
    repeated : int
        Further tries after errors and silence; refusals (429) are not kept.
    """

    busy_minutes: int
    median_per_minute: int
    most_per_minute: int
    repeated: int

    @property
    def lines(self) -> list[str]:
        """The same in words."""
        if not self.busy_minutes:
            return []
        return [
            f"Minutes in which replies came: {self.busy_minutes:,}, with {self.median_per_minute:,} in the usual one, "
            f"{self.most_per_minute:,} at most; tries repeated after errors: {self.repeated:,}."
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `enrichkit.report` found; shows itself as tables in a notebook, and printed.

    Attributes
    ----------
    out : str
        The store.
    simulated : bool or None
        Whether the simulator answered, so that nothing was charged; None if that is not known.
    quality : Quality
        How complete and how trustworthy its answers are.
    cost : Bill
        What it cost, by stage, model and kind.
    pace : Throughput
        How fast the answers came.
    damaged : int
        Shards that could not be read, and are in none of these figures.
    notes : tuple of str
        What limits these figures, a sentence each.
    """

    out: str
    simulated: bool | None
    quality: Quality
    cost: Bill
    pace: Throughput
    damaged: int = 0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return as_text(self._lines(), self._listings())

    def __repr__(self) -> str:
        told = f"{self._lines()[0]}; {_sum_text(self.cost.total)} USD{', simulated' * bool(self.simulated)}"
        return as_text([f"<enrichkit.Report, {told}> print() shows all of it.", self.next_line], [])

    def _repr_html_(self) -> str:
        return as_html(self._lines(), self._listings())

    def to_json(self) -> str:
        """Return the report as JSON; ``docs/report.md`` describes it.

        Amounts are texts with exact decimals, in USD; null is unknown. ``version`` changes when a name does.
        """
        bill = self.cost
        found = {
            "version": SCHEMA_VERSION,
            "out": self.out,
            "simulated": self.simulated,
            "damaged_shards": self.damaged,
            "notes": list(self.notes),
            "quality": as_json(self.quality),
            "pace": dataclasses.asdict(self.pace),
            "cost": {
                "prices": bill.prices,
                "total": _line_json(bill.total),
                "by_stage": {
                    name: _line_json(line)
                    | {
                        "filled_cells": sum(line.filled.values()),
                        "filled_by_column": dict(line.filled),
                        "per_filled_cell_usd": exact(line.per_filled_cell_usd),
                        "shared_answers": line.shared,
                        "sharing_saved_usd": exact(line.saved_usd),
                    }
                    for name, line in bill.by_stage.items()
                },
                "by_model": {name: _line_json(line) for name, line in bill.by_model.items()},
                "records": bill.records,
                "per_record_usd": exact(bill.per_record_usd),
                "per_filled_cell_usd": exact(bill.total.per_filled_cell_usd),
                "sharing_saved_usd": exact(bill.total.saved_usd),
                "shared_unpriced": bill.total.shared_unpriced,
                "stored_answers_usd": exact(bill.kept_usd),
                "not_sealed": bill.not_sealed,
                "may_be_charged": bill.may_be_charged,
            },
        }
        return json.dumps(found, indent=2)

    def write(self, path: str | Path | None = None) -> Path:
        """Write `to_json` to a file, all of it or nothing; default: ``enrichment_report.json`` beside the store.

        That is in its work area, ``enriched.work`` for ``enriched``. Returns the path.
        """
        target = work_area(folder_of(self.out)) / FILE if path is None else Path(path).absolute()
        Files(target.parent).put(target, self.to_json().encode())
        return target

    def _listings(self) -> list[Listing]:
        return [*listings(self.quality), *([] if _is_lost(self.cost.total) else _listings(self.cost))]

    def _lines(self) -> list[str]:
        bill, quality = self.cost, self.quality
        label = f"{SIMULATED}, " if self.simulated else ""
        status = ", ".join(f"{count:,} {word}" for word, count in sorted(quality.status.items()))
        waiting = ", ".join(f"{stage} not asked of {count:,}" for stage, count in quality.pending.items() if count)
        return [
            f"{many(quality.records, 'record')}{f': {status}' if status else ''}{f' ({waiting})' if waiting else ''}; "
            f"{many(quality.corrections, 'answer differs', 'answers differ')} from the table",
            *self.pace.lines,
            f"{self.out}: {_sum_text(bill.total)} USD ({label}prices: {bill.prices})",
            f"{many(bill.records, 'record')}, {many(bill.total.replies, 'paid reply', 'paid replies')}, "
            f"{many(bill.total.attempts, 'attempt')}; "
            f"{usd(bill.per_record_usd)} USD a record, {usd(bill.total.per_filled_cell_usd)} USD a filled cell",
            *([] if _is_lost(bill.total) else _savings(bill)),
            *self.notes,
            self.next_line,
        ]

    @property
    def next_line(self) -> str:
        """One line: what to call next."""
        return f"Next: {'; '.join(self._calls())}."

    def _calls(self) -> Iterator[str]:
        status = self.quality.status
        if self.damaged:
            yield (
                "restore the damaged shards from a copy, or enrichkit.run with redo_damaged=True asks, and pays, for "
                "their records again"
            )
        else:
            if not self.quality.records:
                yield "enrichkit.run with the same arguments goes on, unless a run is under way"
            if waiting := [stage for stage, count in self.quality.pending.items() if count]:
                told = " and ".join(waiting)
                yield f"enrichkit.run with {told} among its stages asks the pending ones, if its table has them"
            if status.get("failed"):
                yield "enrichkit.run with retry_failed=True asks the failed ones again"
        if self.quality.corrections:
            yield f"enrichkit.trust.corrections({self.out!r}) lists the answers that differ"
        if self.quality.records:
            yield f"enrichkit.trust.weak({self.out!r}) lists the records worth another look"


def report(out: str | Path = "enriched", *, prices: Mapping[str, Price] | None = None) -> Report:
    """Say how good a store's answers are, and what they cost: by stage, model version and kind, per record and cell.

    The quality is counted from the sealed rows; the cost is worked out anew from the raw replies, each
    once, by the model version that answered and at the prices of the reply's day as the installed `genai-prices` knows
    them. It needs no lock and also works while a run is under way.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    prices : mapping of str to Price, optional
        Prices of your own, by model: those that `run` was given.

    Raises
    ------
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"] * 2, "poc.last_name": ["Aas", "Berg"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> found = enrichkit.report(out)
    >>> found.simulated, found.cost.total.replies, found.cost.total.shared
    (True, 1, 1)
    """
    reader = StoreReader(out)
    reader.check_everything()
    stored = reader.replies(prices or {})
    return Report(
        out=str(out),
        simulated=stored.simulated,
        quality=read_quality(reader),
        cost=make_bill(stored, own=prices or {}),
        pace=_throughput(stored),
        damaged=stored.damaged,
        notes=tuple(_notes(stored)),
    )


def _throughput(stored: StoredReplies) -> Throughput:
    minutes = Counter(one.at.replace(second=0, microsecond=0) for one in stored.paid if one.at is not None)
    counts = sorted(minutes.values()) or [0]
    return Throughput(
        busy_minutes=len(minutes),
        median_per_minute=counts[len(counts) // 2],
        most_per_minute=counts[-1],
        repeated=sum(max(0, one.tries - 1) for one in stored.replies),
    )


def exact(value: Decimal | None) -> str | None:
    """Return an amount as text with every digit of it, without an exponent.

    >>> exact(Decimal("1.50")), exact(Decimal("0E-7")), exact(None)
    ('1.5', '0', None)
    """
    return None if value is None else f"{value.normalize():f}"


def _is_lost(line: CostLine) -> bool:
    """Whether a damaged shard may have held all the replies that there were."""
    return line.cost_usd is None and not line.replies


def _sum_text(line: CostLine) -> str:
    return usd(line.cost_usd) + (f" + {line.unpriced:,} unknown" if line.unpriced and line.cost_usd is not None else "")


def _line_json(line: CostLine) -> dict[str, Any]:
    return {
        "cost_usd": exact(line.cost_usd),
        "by_kind_usd": {kind: exact(value) for kind, value in line.usd.items()},
        "replies": line.replies,
        "wasted_replies": line.wasted,
        "unpriced_replies": line.unpriced,
        "attempts": line.attempts,
        **line.counts,
    }


def _listings(bill: Bill) -> list[Listing]:
    """Return the tables of a bill."""
    stages = [*bill.by_stage.items(), ("total", bill.total)]
    return [
        Listing("cost by stage, USD", ("stage", *ALL_KINDS, "total"), tuple(_cost_row(*line) for line in stages)),
        Listing(
            "cost by model that answered, USD",
            ("model", *ALL_KINDS, "total"),
            tuple(_cost_row(*line) for line in bill.by_model.items()),
        ),
        Listing(
            "what was used",
            ("stage", "attempts", "replies", "wasted", *(name.removesuffix("_tokens") for name in COUNTED)),
            tuple(_use_row(*line) for line in stages),
        ),
        Listing(
            "what it brought",
            ("stage", "filled cells", "USD a cell", "shared answers", "saved by sharing, USD"),
            tuple(_gain_row(*line) for line in bill.by_stage.items()),
        ),
    ]


def _cost_row(name: str, line: CostLine) -> tuple[str, ...]:
    return name, *map(usd, line.usd.values()), _sum_text(line)


def _use_row(name: str, line: CostLine) -> tuple[str, ...]:
    return name, *(f"{count:,}" for count in (line.attempts, line.replies, line.wasted, *line.counts.values()))


def _gain_row(name: str, line: StageCost) -> tuple[str, ...]:
    cells = sum(line.filled.values())
    cell = usd(line.per_filled_cell_usd) if cells else "-"
    return name, f"{cells:,}", cell, f"{line.shared:,}", usd(line.saved_usd)


def _savings(bill: Bill) -> list[str]:
    """Return what sharing and resuming saved, in words."""
    line = bill.total
    unknown = f", and what {line.shared_unpriced:,} of unknown price would have cost" if line.shared_unpriced else ""
    return [
        f"Sharing saved {usd(line.saved_usd)} USD{unknown}: "
        f"{many(line.shared, 'answer')} came from another record's question.",
        f"Resuming saves {usd(bill.kept_usd)} USD in each later call that finds all these answers here.",
    ]


def _notes(stored: StoredReplies) -> list[str]:
    """Return what limits the figures, in words."""
    unpriced = sum(one.cost is None for one in stored.paid)
    possibly = sum(one.may_be_charged for one in stored.replies)
    notes = []
    if unpriced:
        models = ", ".join(sorted({one.model for one in stored.paid if one.cost is None}))
        notes.append(
            f"Replies of unknown price, which are in no sum: {unpriced:,} (of the model {models}; or they do not say "
            "what they used). prices= takes prices of your own, with search_usd for replies that searched."
        )
    if possibly:
        notes.append(f"Failures that may have been charged, nobody knows, and are in no sum: {possibly:,}.")
    if stored.not_sealed:
        notes.append(
            f"Paid replies that are not sealed yet, so that their records do not count: {stored.not_sealed:,}."
        )
    if stored.damaged:
        notes.append(
            f"Damaged shards, which could not be read, so that their answers and costs are missing: {stored.damaged:,}."
        )
    return notes
