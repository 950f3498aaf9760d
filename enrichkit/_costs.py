"""The costs: every reply that a store holds, each once, with what it used and what it cost.

Worked out from the raw replies, not from the columns beside them: by the model version that answered, at the prices of
the reply's own day. It asks nobody and writes nothing.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ._answer import find_object
from ._exchange import SIMULATOR, Reply, Usage, decode
from ._files import Files, work_area
from ._frame import told_damaged
from ._gemini import parse
from ._index import check_store, footer, shard_paths
from ._options import folder_of
from ._parquet import read_or_none
from ._parts import Entry, read_parts
from ._price import Cost, Price, cost
from ._row import RECORD_ID, cost_by_kind, meta
from .errors import InputError

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


@dataclass(slots=True)
class StoredReply:
    """One stored reply: who paid, what it used and cost; ``cost`` is None where the price is unknown."""

    record: str | None
    stage: str
    question: str
    attempt: int
    at: datetime | None
    model: str
    tries: int
    paid: bool
    may_be_charged: bool
    """Nobody knows whether the service charged for it: it broke off after it was sent."""
    readable: bool
    """Whether an answer may be in it, as far as can be told without the stage's answer model."""
    usage: Usage
    cost: Cost | None
    wasted: bool = True
    """Whether it brought no answer."""


@dataclass(slots=True)
class Ledger:
    """All replies of a store, and what its rows say of the questions.

    ``answered`` says whether a question that rows hold now has its answer; ``asked_by`` counts the records that share
    a question; ``filled`` counts the cells that a stage's answers filled, by column.
    """

    replies: list[StoredReply] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    answered: dict[str, bool] = field(default_factory=dict)
    asked_by: Counter[tuple[str, str]] = field(default_factory=Counter)
    filled: dict[str, Counter[str]] = field(default_factory=dict)
    records: int = 0
    not_sealed: int = 0
    damaged: tuple[Path, ...] = ()
    simulated: bool | None = None

    @property
    def paid(self) -> list[StoredReply]:
        """The replies that the service charges for."""
        return [one for one in self.replies if one.paid]


def read_ledger(out: str | Path, prices: Mapping[str, Price]) -> Ledger:
    """Return the ledger of a store, read shard after shard; it needs no lock and sees a run under way."""
    folder = folder_of(out)
    check_store(folder)
    files = Files(work_area(folder) / "tmp")
    # Pending parts first: a reply that is sealed meanwhile is then met twice, and counted once.
    pending = [entry for _, entries in read_parts(files, folder) for entry in entries or ()]
    ledger, seen, damaged = Ledger(), set[bytes](), []
    for _, path in shard_paths(files, folder):
        table = _money_columns(files, path, ledger.stages)
        if table is None:
            damaged.append(path)
            continue
        ledger.records += table.num_rows
        if ledger.simulated is not True:
            ledger.simulated = footer(table.schema).get("simulated", ledger.simulated)
        for stage in ledger.stages:
            if meta(stage, "replies") in table.column_names:
                _enter_rows(ledger, table, stage, prices, seen)
    sealed = len(ledger.replies)
    _enter_pending(ledger, pending, prices, seen)
    ledger.not_sealed = sum(one.paid for one in ledger.replies[sealed:])
    ledger.damaged = tuple(damaged)
    if ledger.simulated is None and ledger.paid:
        ledger.simulated = any(one.model.startswith(SIMULATOR) for one in ledger.paid)
    mark_wasted(ledger.replies, ledger.answered)
    return ledger


def _money_columns(files: Files, path: Path, stages: list[str]) -> pa.Table | None:
    """Return the columns of a shard that tell of money, None if it is damaged; adds stages that were not met before."""
    facts = ("question", "status", "paid_by", "filled", "replies")
    while True:
        wanted = {RECORD_ID, *(meta(stage, fact) for stage in stages for fact in facts)}
        table = read_or_none(files, path, wanted)
        new = [] if table is None else [name for name in footer(table.schema).get("stages", {}) if name not in stages]
        if not new:
            return table
        stages += new


def _enter_rows(ledger: Ledger, table: pa.Table, stage: str, prices: Mapping[str, Price], seen: set[bytes]) -> None:
    """Enter a stage's replies and questions of one shard."""
    question, status, payer, replies = (
        table.column(meta(stage, fact)).to_pylist() for fact in ("question", "status", "paid_by", "replies")
    )
    cells = pc.value_counts(pc.list_flatten(table.column(meta(stage, "filled")))).to_pylist()
    ledger.filled.setdefault(stage, Counter()).update({one["values"]: one["counts"] for one in cells})
    for asked, state, record, payloads in zip(question, status, payer, replies, strict=True):
        if asked is not None:
            ledger.asked_by[stage, asked] += 1
            if state in ("done", "failed"):
                ledger.answered[asked] = ledger.answered.get(asked, False) or state == "done"
        for payload in payloads or ():
            if _is_new(payload, seen):
                ledger.replies.append(read_reply(payload, stage, record=record, asked=asked, prices=prices))


def _enter_pending(ledger: Ledger, entries: Iterable[Entry], prices: Mapping[str, Price], seen: set[bytes]) -> None:
    """Enter the replies that no shard holds yet."""
    for entry in entries:
        if entry.stage not in ledger.stages:
            ledger.stages.append(entry.stage)
        if _is_new(entry.payload, seen):
            ledger.answered[entry.question] = ledger.answered.get(entry.question, False) or entry.status == "done"
            ledger.replies.append(
                read_reply(entry.payload, entry.stage, record=None, asked=entry.question, prices=prices)
            )


def _is_new(payload: bytes, seen: set[bytes]) -> bool:
    """Whether a reply is met for the first time; records that share a question hold it, too."""
    digest = hashlib.blake2b(payload, digest_size=16).digest()
    known = digest in seen
    seen.add(digest)
    return not known


def read_reply(
    payload: bytes, stage: str, *, record: str | None, asked: str | None, prices: Mapping[str, Price]
) -> StoredReply:
    """Return a stored reply, decoded once; ``asked`` is the question that its row holds now."""
    reply, facts = decode(payload, parse)
    question = str(facts.get("question") or asked or "")
    return StoredReply(
        record=record,
        stage=stage,
        question=question,
        attempt=int(facts.get("attempt", 1)),
        at=datetime.fromisoformat(facts["at"]) if "at" in facts else None,
        # A service may call itself anything; what is no text would break every table it stands in.
        model=(reply.model_version or str(facts.get("model", ""))).encode("utf-8", "replace").decode(),
        tries=int(facts.get("tries", 1)),
        paid=reply.paid,
        may_be_charged=reply.failure is not None and (reply.failure.may_be_charged or reply.failure.cause == "timeout"),
        readable=_readable(reply, look=question != asked),
        usage=reply.usage,
        cost=cost_by_kind(reply, facts, prices) if reply.paid else None,
    )


def _readable(reply: Reply, *, look: bool) -> bool:
    """Whether a reply may hold an answer; with ``look``, whether there is any JSON object in it."""
    if reply.failure is not None:
        return False
    return not look or find_object(reply.text or "", frozenset()) is not None


def mark_wasted(replies: Sequence[StoredReply], answered: Mapping[str, bool]) -> None:
    """Say of each reply whether it brought the answer to its question."""
    questions: dict[tuple[str, str], list[StoredReply]] = {}
    for one in replies:
        if one.paid:
            questions.setdefault((one.stage, one.question), []).append(one)
    for (_, question), same in questions.items():
        same.sort(key=lambda one: one.attempt)
        place = answering([one.readable for one in same], answered.get(question))
        if place is not None:
            same[place].wasted = False


def answering(readable: Sequence[bool], answered: bool | None) -> int | None:
    """Return which of a question's replies, oldest first, brought the answer; None if none did.

    Asking ends with the first answer, so it is in the last reply. ``answered`` is None for a question that no row holds
    any more: it was answered if anything readable came.

    >>> answering([False, True], True), answering([True, True], False), answering([True, False], None)
    (1, None, 0)
    """
    if answered is False:
        return None
    places = [place for place, one in enumerate(readable) if one]
    if places:
        return places[-1]
    return len(readable) - 1 if answered else None


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
        reply brought no answer.

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
    ledger = read_ledger(out, prices or {})
    warn_of_damage(ledger)
    return as_frame(ledger.paid)


def warn_of_damage(ledger: Ledger) -> None:
    """Warn of each shard that could not be read."""
    for path in ledger.damaged:
        warnings.warn(told_damaged(path), stacklevel=3)


def as_frame(paid: Iterable[StoredReply]) -> pd.DataFrame:
    """Return paid replies as pandas, oldest first."""
    frame = pd.DataFrame([_cells(one) for one in paid], columns=[*FACTS, *COUNTS, *DOLLARS, "wasted"])
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    types = dict.fromkeys(COUNTS, "Int64") | dict.fromkeys(DOLLARS, "float64")
    frame = frame.astype({**types, "attempt": "int64", "wasted": "bool"})
    return frame.sort_values("at", kind="stable", ignore_index=True)


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
        and in none of the sums. A model without a known price has missing sums, never 0. ``attrs["simulated"]`` says
        whether the simulator made up the tokens.

    Examples
    --------
    >>> import pandas as pd, enrichkit
    >>> tokens = {"input_tokens": [2600], "output_tokens": [700], "searches": [2]}
    >>> found = enrichkit.what_if(pd.DataFrame(tokens), ["gemini-3.5-flash", "gemini-3.5-flash-lite"])
    >>> found["cost_usd"].round(5).to_dict()
    {'gemini-3.5-flash-lite': 0.03053, 'gemini-3.5-flash': 0.0382}
    """
    if "input_tokens" not in paid.columns:
        raise InputError("what_if takes paid replies, as enrichkit.costs(out) returns them; this has no input_tokens.")
    used = list(_usages(paid))
    rows = {model: _sums([cost(usage, model, prices=prices, at=at) for usage, at in used]) for model in models}
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").sort_values("cost_usd")
    found.attrs["simulated"] = is_simulated(paid)
    return found


def is_simulated(paid: pd.DataFrame) -> bool:
    """Whether the simulator answered, so that nothing was charged."""
    return "model" in paid.columns and bool(paid["model"].astype(str).str.startswith(SIMULATOR).any())


def _usages(paid: pd.DataFrame) -> Iterator[tuple[Usage, datetime | None]]:
    """Yield what each reply used, and when."""
    names = [name for name in COUNTS if name in paid.columns]
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
