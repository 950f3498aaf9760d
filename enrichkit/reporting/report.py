"""The report: how good a store's answers are and what they cost, for a terminal, a notebook and a program."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

import pandas as pd

from ..formatting import PYTHON, Sentence, html_page, joined, many, spelled, text_page, usd
from ..pricing.budget import Budget, beside_replies
from ..pricing.prices import Price
from ..store.files import Files, folder_of, work_area
from ..store.reader import StoreReader
from ..store.replies import StoredReplies, collect_replies
from .costs import Bill, CostLine, make_bill
from .page import cost_tables, write_page
from .quality import Quality, quality_tables, read_quality

SCHEMA_VERSION = 4
FILE = "enrichment_report.json"
SIMULATED = "simulated, nothing was charged; at the default model's "


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

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> enrichkit.report(out).quality.status
    {'done': 1}
    """

    out: str
    simulated: bool | None
    quality: Quality
    cost: Bill
    pace: Throughput
    damaged: int = 0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        summary = f"{self._lines()[0]}; {_sum_text(self.cost.total)} USD{', simulated' * bool(self.simulated)}"
        return text_page([f"<enrichkit.Report, {summary}> print() shows all of it.", self.next_line])

    def _repr_html_(self) -> str:
        return html_page(self._lines(), self._tables())

    def text(self, spelling: Mapping[str, str] = PYTHON) -> str:
        """Return all of the report as text.

        Parameters
        ----------
        spelling : mapping of str to str
            How settings and calls are spelled, by name; default: as in Python.

        Returns
        -------
        str
            Sentences, then tables.

        Examples
        --------
        >>> import pandas as pd, enrichkit, tempfile
        >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
        >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
        >>> enrichkit.report(out).text() == str(enrichkit.report(out))
        True
        """
        return text_page([spelled(line, spelling) for line in self._lines()], self._tables(spelling))

    def to_json(self) -> str:
        """Return the report as JSON; ``docs/report.md`` describes it.

        Amounts are texts with exact decimals, in USD; null is unknown. ``version`` changes when a name does.

        Returns
        -------
        str
            An object with the names of the attributes, and of theirs in turn.

        Examples
        --------
        >>> import json, pandas as pd, enrichkit, tempfile
        >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
        >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
        >>> json.loads(enrichkit.report(out).to_json())["cost"]["total"]["replies"]
        1
        """
        return json.dumps({"version": SCHEMA_VERSION, **asdict(self)}, indent=2, default=exact)

    def write(self, path: str | Path | None = None) -> Path:
        """Write `to_json` to a file, all of it or nothing.

        Parameters
        ----------
        path : str or Path, optional
            The file; default: ``enrichment_report.json`` in the store's work area, ``enriched.work`` for ``enriched``.

        Returns
        -------
        Path
            The file.

        Examples
        --------
        >>> import pandas as pd, enrichkit, tempfile
        >>> df, out = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp() + "/enriched"
        >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
        >>> enrichkit.report(out).write().name
        'enrichment_report.json'
        """
        target = work_area(folder_of(self.out)) / FILE if path is None else Path(path).absolute()
        Files(target.parent).put(target, self.to_json().encode())
        return target

    def to_html(self, path: str | Path) -> Path:
        """Write the report as one page to hand on: quality, cost, failures, and the values that are in doubt.

        The file needs nothing else and runs no script. Everything in it is escaped; it follows the reader's light or
        dark setting, and prints.

        Parameters
        ----------
        path : str or Path
            The file, replaced as a whole.

        Returns
        -------
        Path
            The file.

        Examples
        --------
        >>> import pandas as pd, enrichkit, tempfile
        >>> df, folder = pd.DataFrame({"fund.title": ["Borealis Ventures"]}), tempfile.mkdtemp()
        >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=f"{folder}/enriched", progress=False)
        >>> enrichkit.report(f"{folder}/enriched").to_html(f"{folder}/report.html").name
        'report.html'
        """
        target = Path(path).absolute()
        write_page(target, self.out, self._lines()[:-1], self._tables())  # whoever gets it calls nothing next
        return target

    def _tables(self, spelling: Mapping[str, str] = PYTHON) -> dict[str, pd.DataFrame]:
        return quality_tables(self.quality, spelling) | ({} if _is_lost(self.cost.total) else cost_tables(self.cost))

    def _lines(self) -> list[str]:
        bill, quality, pace = self.cost, self.quality, self.pace
        rate = f"Median {many(pace.median_per_minute, 'reply', 'replies')} a minute, at most {pace.most_per_minute:,}"
        retries = many(pace.repeated, "retry", "retries")
        status = ", ".join(f"{count:,} {word}" for word, count in sorted(quality.status.items()))
        waiting = ", ".join(f"{stage} not asked of {count:,}" for stage, count in quality.pending.items() if count)
        return [
            f"{many(quality.records, 'record')}{f': {status}' if status else ''}{f' ({waiting})' if waiting else ''}; "
            f"{many(quality.corrections, 'answer differs', 'answers differ')} from the table{quality.flaws}",
            *([f"{rate}, over {pace.busy_minutes:,} active minutes; {retries}."] if pace.busy_minutes > 1 else []),
            f"{self.out}: {_sum_text(bill.total)} USD ({SIMULATED * bool(self.simulated)}prices: {bill.prices})",
            f"{many(bill.total.replies, 'paid reply', 'paid replies')} in {many(bill.total.attempts, 'attempt')}; "
            f"{usd(bill.per_record_usd)} USD a record, {usd(bill.total.per_filled_cell_usd)} USD a filled cell",
            *([] if _is_lost(bill.total) else _savings(bill)),
            *self.notes,
            self.next_line,
        ]

    @property
    def next_line(self) -> str:
        """One line: what to call next."""
        return Sentence("Next: {calls}.", calls=joined(self._calls(), "; "))

    def _calls(self) -> Iterator[str]:
        if self.damaged:
            yield Sentence(
                "restore the damaged shards from a copy, or {run} with {redo_damaged_on} asks, and pays, for their "
                "records again"
            )
        elif not self.quality.records or any(self.quality.pending.values()):
            yield Sentence("{run} with the same arguments goes on")
        elif self.quality.status.get("failed"):
            yield Sentence("{run} with {retry_failed_on} asks the failed ones again")
        if self.quality.corrections:
            yield Sentence("{corrections}{folder!r}{end_of_list_call} lists the answers that differ", folder=self.out)
        if self.quality.records:
            yield Sentence("{weak}{folder!r}{end_of_list_call} lists the records worth another look", folder=self.out)


def report(out: str | Path = "enriched", *, prices: Mapping[str, Price] | None = None) -> Report:
    """Return how good a store's answers are, and what they cost: by stage, model version and kind, per record and cell.

    The quality is counted from the sealed rows. The cost is worked out from the raw replies, each once, by the model
    version that answered and at the prices of the reply's day as the installed `genai-prices` knows them. It needs no
    lock and also works while a run is under way.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    prices : mapping of str to Price, optional
        Prices of your own, by model: those that `run` was given.

    Returns
    -------
    Report
        The figures; shows itself as tables in a notebook, and printed.

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
    stored = collect_replies(reader, prices or {}, check=True)
    budget = Budget(None, stored.counted(prices or {}).usd, note=reader.outstanding)
    return Report(
        out=str(out),
        simulated=stored.simulated,
        quality=read_quality(reader),
        cost=make_bill(stored, own=prices or {}),
        pace=_throughput(stored),
        damaged=stored.damaged,
        notes=(*_notes(stored), *beside_replies(budget)),
    )


def _throughput(stored: StoredReplies) -> Throughput:
    counts = sorted(stored.minutes.values()) or [0]
    return Throughput(
        busy_minutes=len(stored.minutes),
        median_per_minute=counts[len(counts) // 2],
        most_per_minute=counts[-1],
        repeated=stored.summed()["repeated"],
    )


def exact(value: Decimal) -> str:
    """Return an amount as text with every digit of it, without an exponent.

    >>> exact(Decimal("1.50")), exact(Decimal("0E-7"))
    ('1.5', '0')
    """
    return f"{value.normalize():f}"


def _is_lost(line: CostLine) -> bool:
    """Whether a damaged shard may have held all the replies that there were."""
    return line.cost_usd is None and not line.replies


def _sum_text(line: CostLine) -> str:
    return "at least " * bool(line.unpriced and line.cost_usd is not None) + usd(line.cost_usd)


def _savings(bill: Bill) -> list[str]:
    """Return what sharing and resuming saved, in words."""
    line = bill.total
    unknown = f", and what {line.shared_unpriced:,} of unknown price would have cost" if line.shared_unpriced else ""
    came = f"{many(line.shared, 'answer')} came from another record's question"
    shared = f"Sharing saved {usd(line.saved_usd)} USD{unknown}: {came}."
    kept = f"A later call on this store does not ask for these answers again, which saves {usd(bill.kept_usd)} USD."
    return [*([shared] if line.shared else []), kept]


def _notes(stored: StoredReplies) -> Iterator[str]:
    """Yield what limits the figures, a sentence each."""
    summed = stored.summed()
    if summed["unpriced"]:
        yield Sentence(
            "Replies of unknown price, which are in no sum: {unpriced:,} (of the model {models}; or they do not say "
            "what they used). To price them, {give_prices}=, with search_usd for replies that searched.",
            unpriced=summed["unpriced"],
            models=", ".join(sorted(model for model in stored.models if stored.summed(model=model)["unpriced"])),
        )
    if possibly := summed["may_be_charged"]:
        yield f"Failures that may or may not have been charged, which are in no sum: {possibly:,}."
    if stored.not_sealed:
        yield f"Paid replies that are not sealed yet, so that their records do not count: {stored.not_sealed:,}."
    if count := stored.damaged:
        yield f"Damaged shards, which could not be read, so that their answers and costs are missing: {count:,}."
