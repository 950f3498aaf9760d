"""The stored replies: every reply that a store holds, each once, with what it used and what it cost.

Worked out from the raw replies, not from the columns beside them: by the model version that answered, at the prices of
the reply's own day. The columns know a store's cost, too: faster, at the prices of the day on which they were sealed.
It writes nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ..gemini.wire import read_stored
from ..messages import SIMULATOR, Usage
from ..pricing.prices import Cost, Price, Total, billed_as, cost, total, total_usd
from ..reading.json_text import locate
from ..table.parquet import join
from .files import trial_sides
from .index import RECORD_ID, Snapshot
from .journal import JournalEntry, by_question
from .rows import meta, reply_cost


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
    """It is unknown whether the service charged for it: the connection broke after it was sent."""
    readable: bool
    """Whether an answer may be in it, as far as can be told without the stage's answer model."""
    usage: Usage
    cost: Cost | None
    wasted: bool = True
    """Whether it brought no answer."""


@dataclass(slots=True)
class StoredReplies:
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
    damaged: int = 0
    simulated: bool | None = None
    tables: list[pa.Table] = field(default_factory=list)

    @property
    def paid(self) -> list[StoredReply]:
        """The replies that the service charges for."""
        return [reply for reply in self.replies if reply.paid]

    def counted(self, prices: Mapping[str, Price]) -> Total:
        """Return what a budget counts: where a reply does not say how often it searched, its stage's most searches."""
        most = Counter[str]()
        for reply in self.paid:
            most[reply.stage] = max(most[reply.stage], reply.usage.searches or 1)
        costs = []
        for reply in self.paid:
            known = reply.cost
            if reply.usage.searches is None:
                usage = replace(reply.usage, searches=most[reply.stage])
                known = cost(usage, reply.model, prices=prices, at=reply.at)
            costs.append(total_usd(known))
        return total(costs)


TRIAL = " (trial)"
"""What follows a stage's name where its replies are those of a trial, and in no row of the store."""
COST = ("cost_usd", "paid_by")
"""The facts about a stage that `cost_in_rows` needs."""
MONEY = ("question", "status", "paid_by", "filled", "replies")
"""The facts about a stage that `collect_replies` needs."""


def collect_replies(store: Snapshot, prices: Mapping[str, Price], *, check: bool = False) -> StoredReplies:
    """Return the replies in a store's shards and journal, each once.

    With ``check``, they are of shards sound in all columns, whose other columns come as ``tables``.
    """
    stored, seen = StoredReplies(stages=list(store.stages), simulated=store.simulated), set[bytes]()

    def enter(payload: bytes, stage: str, asked: str | None, record: str | None = None) -> bool:
        """Add a reply, and say whether it is new: records that share a question hold the same one."""
        digest = hashlib.blake2b(payload, digest_size=16).digest()
        if digest in seen:
            return False
        seen.add(digest)
        stored.replies.append(read_reply(payload, stage, record=record, asked=asked, prices=prices))
        return True

    columns = {RECORD_ID, *(meta(stage, fact) for stage in store.stages for fact in MONEY)}
    for _, table in store.each_shard(None if check else columns):
        raw = [name for name in table.column_names if name.endswith("._replies")]
        stored.tables += [table.drop_columns(raw)] if check else []
        stored.records += table.num_rows
        for stage in stored.stages:
            if meta(stage, "replies") in table.column_names:
                _enter_rows(stored, table, stage, enter)
    sealed = len(stored.replies)
    for entry in store.entries:
        if entry.stage not in stored.stages:
            stored.stages.append(entry.stage)
        if enter(entry.payload, entry.stage, entry.question):
            stored.answered[entry.question] = stored.answered.get(entry.question, False) or entry.status == "done"
    stored.not_sealed = sum(reply.paid for reply in stored.replies[sealed:])
    if stored.simulated is None and stored.paid:
        stored.simulated = any(reply.model.startswith(SIMULATOR) for reply in stored.paid)
    stored.damaged = len(store.damaged)
    mark_wasted(stored.replies, stored.answered)
    for entries in trial_replies(store.folder, simulated=store.simulated):
        place = len(stored.replies)
        for entry in entries:  # as stages of their own: what they cost brought no cell of this store
            if enter(entry.payload, stage := f"{entry.stage}{TRIAL}", entry.question):
                stored.stages.extend({stage} - {*stored.stages})
        mark_wasted(stored.replies[place:], {entry.question: True for entry in entries if entry.status == "done"})
    return stored


def trial_replies(out: Path, *, simulated: bool | None) -> Iterator[list[JournalEntry]]:
    """Yield the replies of each side of a store's trials, each once, as a journal would have them.

    If it is known whether the store's own are ``simulated``, sides where that is otherwise are left out.
    """
    for folder in trial_sides(out):
        side = Snapshot(folder, warn=True)
        rows = [row for table in side.tables().values() for row in table.to_pylist()]
        if simulated is not None and side.simulated is (not simulated):
            continue
        entries = {entry.payload: entry for entry in side.entries}
        for row, stage in itertools.product(rows, side.stages):
            asked, payloads = row.get(meta(stage, "question")), row.get(meta(stage, "replies")) or ()
            for attempt, payload in enumerate(payloads, 1):
                status = row[meta(stage, "status")] if attempt == len(payloads) else "again"
                entries.setdefault(payload, JournalEntry(asked, stage, attempt, status, payload))
        yield list(entries.values())


def answers_of_trials(out: Path, *, simulated: bool | None) -> dict[str, list[JournalEntry]]:
    """Return one side's replies to each question that a store's trials have asked, with an answer if there is one."""
    chosen: dict[str, list[JournalEntry]] = {}
    for side in trial_replies(out, simulated=simulated):
        for question, entries in by_question(side).items():
            if question not in chosen or chosen[question][-1].status != "done":
                chosen[question] = entries
    return chosen


def _enter_rows(stored: StoredReplies, table: pa.Table, stage: str, enter: Callable[..., bool]) -> None:
    """Add a stage's replies and questions of one shard."""
    question, status, payer, replies = (
        table.column(meta(stage, fact)).to_pylist() for fact in ("question", "status", "paid_by", "replies")
    )
    cells = pc.value_counts(pc.list_flatten(table.column(meta(stage, "filled")))).to_pylist()
    stored.filled.setdefault(stage, Counter()).update({cell["values"]: cell["counts"] for cell in cells})
    for asked, state, record, payloads in zip(question, status, payer, replies, strict=True):
        if asked is not None:
            stored.asked_by[stage, asked] += state == "done"
            if state in ("done", "failed"):
                stored.answered[asked] = stored.answered.get(asked, False) or state == "done"
        for payload in payloads or ():
            enter(payload, stage, asked, record)


def read_reply(
    payload: bytes, stage: str, *, record: str | None, asked: str | None, prices: Mapping[str, Price]
) -> StoredReply:
    """Return a stored reply, decoded once; ``asked`` is the question that its row holds now."""
    reply, facts = read_stored(payload, backed=False)
    question = str(facts.get("question") or asked or "")
    return StoredReply(
        record=record,
        stage=stage,
        question=question,
        attempt=int(facts.get("attempt", 1)),
        at=datetime.fromisoformat(facts["at"]) if "at" in facts else None,
        # A service may call itself anything; invalid text would break every table with it.
        model=billed_as(reply.model_version, str(facts.get("model", ""))).encode("utf-8", "replace").decode(),
        tries=int(facts.get("tries", 1)),
        paid=reply.paid,
        may_be_charged=reply.failure is not None and reply.failure.may_be_charged,
        # The row's status is about the question that it holds now; of an earlier one there is only the text.
        readable=reply.failure is None and (question == asked or locate(reply.text or "").values is not None),
        usage=reply.usage,
        cost=reply_cost(reply, facts, prices),
    )


def mark_wasted(replies: Iterable[StoredReply], answered: Mapping[str, bool]) -> None:
    """Say of each paid reply whether it brought the answer to its question.

    Asking ends with the first answer, so the last readable reply holds it, or the last one where none looks readable.
    A question that no row holds any more was answered if anything readable came.
    """
    in_order = sorted(replies, key=lambda reply: (reply.readable, reply.attempt))
    newest = {(reply.stage, reply.question): reply for reply in in_order if reply.paid}
    for (_, question), reply in newest.items():
        reply.wasted = not answered.get(question, reply.readable)


def cost_in_rows(rows: pa.Table) -> Total:
    """Return what sealed rows cost by their columns: fast, at the prices of the day on which they were sealed."""
    costs = []
    for name in rows.column_names:
        if name.endswith("._cost_usd"):
            payer = rows.column(name.removesuffix("cost_usd") + "paid_by")
            costs += rows.column(name).filter(pc.is_valid(payer)).to_pylist()
    return total(None if usd is None else Decimal(str(usd)) for usd in costs)


def lost_costs(rows: pa.Table) -> bool:
    """Whether a row that paid is gone, or was made again from another's reply and so says that nothing was tried."""
    for name in rows.column_names:
        if name.endswith("._paid_by"):
            payers, ids = rows.column(name), rows.column(RECORD_ID)
            unpaid = pc.and_(pc.equal(payers, ids), pc.equal(rows.column(f"{name.removesuffix('paid_by')}attempts"), 0))
            gone = pc.and_(pc.is_valid(payers), pc.invert(pc.is_in(payers, value_set=ids)))
            if pc.any(pc.or_kleene(unpaid, gone)).as_py():
                return True
    return False


def recorded_cost(store: Snapshot, prices: Mapping[str, Price], *, simulated: bool | None) -> Total | None:
    """Return what the columns of the rows say that they cost, and what the replies cost that are in no row.

    It is much faster than going through all replies. None if a row that paid for others was lost with its shard: its
    cost is gone from the columns, while other rows still hold the reply.
    """
    facts = (meta(stage, fact) for stage in store.stages for fact in (*COST, "attempts"))
    rows = join(list(store.tables({RECORD_ID, *facts}).values()))
    if lost_costs(rows):
        return None
    entries = [*store.entries, *itertools.chain(*trial_replies(store.folder, simulated=simulated))]
    beside = {entry.payload for entry in entries} - store.sealed_payloads(entries)
    return cost_in_rows(rows) + total(total_usd(reply_cost(*read_stored(payload), prices)) for payload in beside)
