"""The stored replies: every reply that a store holds, each once, with what it used and what it cost.

Worked out from the raw replies, not from the columns beside them: by the model version that answered, at the prices of
the reply's own day. The columns know a store's cost, too: faster, at the prices of the day on which they were sealed.
It writes nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..gemini.wire import read_stored
from ..messages import SIMULATOR, Usage
from ..pricing.prices import KINDS, Cost, Price, Total, billed_as, cost, total, total_usd
from ..reading.json_text import locate
from ..table.parquet import join
from .files import trial_sides
from .index import RECORD_ID, Snapshot
from .journal import JournalEntry, by_question
from .rows import COUNTS, meta, reply_cost


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


Sums = defaultdict[str, Any]
"""What some replies add up to, by name: USD by kind, and what was ``wasted``; `COUNTS`; how many they were."""


@dataclass(slots=True)
class StoredReplies:
    """What all replies of a store add up to, each counted once, and what its rows say of the questions.

    ``sums`` are by stage and by the model that answered, None for replies that the service does not charge for.
    ``minutes`` counts those that it charges for, ``asked_by`` the records that share a question with others, for which
    ``shared`` was spent. ``filled`` counts the cells that a stage's answers filled, by column.
    """

    sums: dict[tuple[str, str | None], Sums] = field(default_factory=dict)
    minutes: Counter[datetime] = field(default_factory=Counter)
    most_searches: Counter[str] = field(default_factory=Counter)
    unsearched: list[StoredReply] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    asked_by: Counter[tuple[str, str]] = field(default_factory=Counter)
    shared: dict[tuple[str, str], Total] = field(default_factory=dict)
    filled: dict[str, Counter[str]] = field(default_factory=dict)
    records: int = 0
    not_sealed: int = 0
    damaged: int = 0
    simulated: bool | None = None

    def add(self, reply: StoredReply) -> None:
        """Add a reply to the sums."""
        sums = self.sums.setdefault((reply.stage, reply.model if reply.paid else None), Sums(int))
        for name, amount in _amounts(reply):
            sums[name] += amount
        if reply.paid:
            if reply.at is not None:
                self.minutes[reply.at.replace(second=0, microsecond=0)] += 1
            self.most_searches[reply.stage] = max(self.most_searches[reply.stage], reply.usage.searches or 1)
            if reply.cost is None and reply.usage.searches is None:
                self.unsearched.append(reply)
            if (asked := (reply.stage, reply.question)) in self.shared:
                self.shared[asked] += total([total_usd(reply.cost)])

    def summed(self, *, stages: Collection[str] | None = None, model: str | None = None) -> Sums:
        """Return the sums of all replies, or of those of some stages or of a model."""
        summed = Sums(int)
        for (stage, answered_by), sums in self.sums.items():
            if (stages is None or stage in stages) and model in (None, answered_by):
                for name, amount in sums.items():
                    summed[name] += amount
        return summed

    @property
    def models(self) -> list[str]:
        """The models that answered, as far as the service charges for it."""
        return list(dict.fromkeys(model for _, model in self.sums if model is not None))

    @property
    def cost(self) -> Total:
        """What the replies cost."""
        summed = self.summed()
        return Total(total(summed[kind] for kind in (*KINDS, "wasted")).usd, summed["unpriced"])

    def counted(self, prices: Mapping[str, Price]) -> Total:
        """Return what a budget counts: where a reply does not say how often it searched, its stage's most searches."""
        usages = ((reply, replace(reply.usage, searches=self.most_searches[reply.stage])) for reply in self.unsearched)
        costs = (total_usd(cost(usage, reply.model, prices=prices, at=reply.at)) for reply, usage in usages)
        return self.cost + total(costs) + Total(unpriced=-len(self.unsearched))


def _amounts(reply: StoredReply) -> Iterator[tuple[str, Any]]:
    """Yield what a reply adds to the sums."""
    yield "attempts", reply.tries
    yield "repeated", max(0, reply.tries - 1)
    yield "may_be_charged", reply.may_be_charged
    if reply.paid:
        yield "replies", 1
        yield "brought_nothing", reply.wasted
        yield "unpriced", reply.cost is None
        yield from ((name, getattr(reply.usage, count) or 0) for name, count in COUNTS.items())
        if reply.cost is not None:
            yield "priced_searches", reply.usage.searches or 0
            yield "searches_usd", reply.cost["search"]
            yield from [("wasted", total_usd(reply.cost))] if reply.wasted else reply.cost.items()


TRIAL = " (trial)"
"""What follows a stage's name where its replies are those of a trial, and in no row of the store."""
COST = ("cost_usd", "paid_by")
"""The facts about a stage that `cost_in_rows` needs."""
SHARED = ("question", "status")
"""The facts about a stage that say which questions are shared."""
MONEY = (*SHARED, "paid_by", "filled", "replies")
"""The facts about a stage that `collect_replies` needs."""


def collect_replies(
    store: Snapshot, prices: Mapping[str, Price], *, check: bool = False, each: Callable[[StoredReply], object] = id
) -> StoredReplies:
    """Return what the replies in a store's shards and journal add up to, and call ``each`` with every one of them.

    With ``check``, they are of shards sound in all columns.
    """
    stored, seen = StoredReplies(stages=list(store.stages), simulated=store.simulated), set[bytes]()
    stored.shared = dict.fromkeys(_shared_questions(store), Total())

    def enter(
        payloads: Iterable[bytes], stage: str, asked: str | None, *, answered: bool | None, record: str | None = None
    ) -> list[StoredReply]:
        """Add those of a question's or a row's replies that are new, and return them."""
        held = {digest(payload): payload for payload in payloads}
        if held.keys() <= seen:  # records that share a question hold the same ones
            return []
        replies = [read_reply(payload, stage, record=record, asked=asked, prices=prices) for payload in held.values()]
        mark_wasted(replies, {} if asked is None or answered is None else {asked: answered})
        new = [reply for known, reply in zip(held, replies, strict=True) if known not in seen]
        seen.update(held)
        for reply in new:
            stored.add(reply)
            each(reply)
        return new

    columns = {RECORD_ID, *(meta(stage, fact) for stage in store.stages for fact in MONEY)}
    for _, table in store.each_shard(None if check else columns):
        stored.records += table.num_rows
        for stage in stored.stages:
            if meta(stage, "replies") in table.column_names:
                _enter_rows(stored, table, stage, enter)
    for question, entries in by_question(store.entries).items():
        stage, answered = entries[0].stage, any(entry.status == "done" for entry in entries)
        stored.stages.extend({stage} - {*stored.stages})
        new = enter((entry.payload for entry in entries), stage, question, answered=answered)
        stored.not_sealed += sum(reply.paid for reply in new)
    if stored.simulated is None and stored.models:
        stored.simulated = any(model.startswith(SIMULATOR) for model in stored.models)
    stored.damaged = len(store.damaged)
    for side in trial_replies(store.folder, simulated=store.simulated):
        for question, entries in by_question(side).items():
            stage = f"{entries[0].stage}{TRIAL}"  # one of its own: what it costs brought no cell of this store
            done = True if any(entry.status == "done" for entry in entries) else None
            if enter((entry.payload for entry in entries), stage, question, answered=done):
                stored.stages.extend({stage} - {*stored.stages})
    return stored


def digest(payload: bytes) -> bytes:
    """Return what tells a stored reply from others, in little memory."""
    return hashlib.blake2b(payload, digest_size=16).digest()


def _shared_questions(store: Snapshot) -> Iterator[tuple[str, str]]:
    """Yield the stages and questions whose answers stand in several rows."""
    asked = join(list(store.tables({meta(stage, fact) for stage in store.stages for fact in SHARED}).values()))
    for stage in store.stages if asked.num_columns else ():
        question, status = (asked.column(meta(stage, fact)) for fact in SHARED)
        counts = pc.value_counts(question.filter(pc.equal(status, "done")))
        several = counts.filter(pc.greater(pc.struct_field(counts, "counts"), 1))
        yield from ((stage, name) for name in pc.struct_field(several, "values").to_pylist() if name is not None)


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


def _enter_rows(stored: StoredReplies, table: pa.Table, stage: str, enter: Callable[..., object]) -> None:
    """Add a stage's replies and questions of one shard."""
    facts = (table.column(meta(stage, fact)).to_pylist() for fact in ("question", "status", "paid_by", "replies"))
    cells = pc.value_counts(pc.list_flatten(table.column(meta(stage, "filled")))).to_pylist()
    stored.filled.setdefault(stage, Counter()).update({cell["values"]: cell["counts"] for cell in cells})
    for asked, status, record, payloads in zip(*facts, strict=True):
        if (stage, asked) in stored.shared:
            stored.asked_by[stage, asked] += status == "done"
        answered = {"done": True, "failed": False}.get(status)
        enter(payloads or (), stage, asked, answered=answered, record=record)


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
