"""The row: what the replies to a record's questions become in the table.

Pure: the outcome of a question is worked out from its stored replies alone, so another reading of the same replies
costs nothing. A filled cell is the user's; what the model would have put there is kept as a correction beside it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args

import pyarrow as pa

from ..gemini.wire import read_stored
from ..messages import CLIENTS, Failure, Reply
from ..pricing.prices import Cost, Price, billed_as, cost, total, total_usd
from ..reading.answer import OWN_CODE, Answer, Issue, check_answer, of_itself, read_answer
from ..reading.grounding import OF_THE_REPLY, Backing, against_itself, evidence, state
from ..reading.model import plain
from ..stages.checks import means_the_same
from ..stages.kinds import Kind, examples_in
from ..stages.stage import Stage
from ..table.arrow import as_column, as_text, wider
from ..table.cells import cell_text, is_missing
from .index import RECORD_ID

Status = Literal["done", "failed", "skipped", "pending"]

STATUS = "_status"
WHY = "_why"
"""Why a record is worth another look: what `enrichkit.trust.weak` adds, and a run leaves aside."""
COUNTS = {
    "input_tokens": "prompt_tokens",
    **{name: name for name in ("cached_tokens", "thinking_tokens", "tool_tokens", "output_tokens", "searches")},
}
"""The columns of what a reply used, and the fields of `Usage` that they hold."""
SPENT = ("attempts", "seconds", *COUNTS, "cost_usd")
"""What a stage has used for a record, whichever question it was asked: these only grow."""
TEXT, TEXTS, NUMBER = pa.string(), pa.list_(pa.string()), pa.int64()
META: dict[str, pa.DataType] = {
    **dict.fromkeys(("status", "error", "confidence", "search_quality"), TEXT),
    **dict.fromkeys(("fields_found", "filled"), TEXTS),
    "corrections": pa.list_(pa.struct([("column", TEXT), ("answer", TEXT)])),
    "issues": TEXTS,
    "states": pa.list_(pa.struct([("field", TEXT), ("state", TEXT), ("sources", pa.list_(NUMBER))])),
    "marks": pa.list_(pa.struct([("field", TEXT), ("whole", pa.list_(NUMBER)), ("parts", NUMBER), ("backed", NUMBER)])),
    "notes": TEXT,
    "sources": pa.list_(pa.struct([("url", TEXT), ("title", TEXT)])),
    "model": TEXT,
    "attempts": NUMBER,
    "seconds": pa.float64(),
    **dict.fromkeys(COUNTS, NUMBER),
    "cost_usd": pa.float64(),
    **dict.fromkeys(("paid_by", "question"), TEXT),
    "decisions": TEXTS,
    "replaced": pa.list_(pa.struct([("column", TEXT), ("cell", TEXT)])),
    "replies": pa.list_(pa.binary()),
}
"""The facts about a stage's answer beside a record's row, a column each."""
UNFINISHED = frozenset({"blocked", "truncated"})
"""The failures of replies that may have a text."""
STANDS = "the earlier answer stands"
WORDS = {"status": get_args(Status), "confidence": ("high", "medium", "low")}
"""What stands in the columns that a run puts beside the user's."""
ABOUT_THE_ANSWER = tuple(name for name in META if name not in {*SPENT, "paid_by", "decisions", "replaced", "replies"})
SHOWN = ("status", "confidence")
"""What `enrichkit.run` returns of these; the store has them all."""


@functools.cache
def meta(stage: str, name: str) -> str:
    """Return the column of a fact about a stage's answer, such as ``poc._status``."""
    return f"{stage}._{name}"


def facts_of(stages: Iterable[str]) -> set[str]:
    """Return the columns that are a run's own: about each record, and about each stage's answer."""
    return {RECORD_ID, STATUS, *(meta(stage, name) for stage in stages for name in META)}


Spent = dict[str, Any]
"""What some replies used, all together, by the names of `SPENT`; ``cost_usd`` is None where a price is unknown."""


@dataclass(frozen=True, slots=True)
class ReadReply:
    """A stored reply as it is read now: the answer in it, or None, and what came with it.

    ``backed`` says which of the reply's sources back a field, and how.
    """

    payload: bytes
    reply: Reply
    facts: Mapping[str, Any]
    answer: Answer | None
    issues: tuple[Issue, ...]
    backed: Mapping[str, Backing]
    cost_usd: Decimal | None
    """What it cost, 0 if it is not charged for, None if its price is unknown."""

    @property
    def status(self) -> Literal["done", "failed"]:
        """What the question comes to with this reply."""
        return "failed" if self.answer is None else "done"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of one question: the best of its replies, and all of them as they are stored.

    ``spent`` is what those of the replies used that no sealed row has recorded yet; None if there are none.
    """

    question: str
    best: ReadReply
    payloads: tuple[bytes, ...]
    spent: Spent | None

    @property
    def answer(self) -> Answer | None:
        """The answer, None if the question failed."""
        return self.best.answer


def may_tell(stage: Stage, facts: Mapping[str, Any]) -> bool:
    """Whether a reply should show that it searched; one of a client of one's own may leave that out."""
    return bool(stage.search) and facts.get("client") in CLIENTS


def read_payload(stage: Stage, payload: bytes, prices: Mapping[str, Price]) -> ReadReply:
    """Read a stored reply."""
    return read_decoded(stage, payload, *read_stored(payload), prices)


def read_decoded(
    stage: Stage, payload: bytes, reply: Reply, facts: Mapping[str, Any], prices: Mapping[str, Price]
) -> ReadReply:
    """Read a reply that this payload holds; its failure is ``unreadable`` if its text holds no answer of this stage."""
    answer: Answer | None = None
    issues: list[Issue] = []
    failure = reply.failure
    if reply.text and (failure is None or failure.cause in UNFINISHED):
        # Whatever ended it: an answer that stands there whole is one. Only where nothing was cut off is more repaired.
        answer, issues = read_answer(stage.answer, reply.text, repair=failure is None, checks=stage.checks)
        if answer is not None and failure is not None:
            issues.append(Issue("", f"finish_{(reply.block_reason or reply.finish_reason or '').lower()}"))
            reply = replace(reply, failure=None)
        elif answer is None and any(issue.check == OWN_CODE for issue in issues):
            reply = replace(reply, failure=Failure(cause=OWN_CODE, message=issues[0].detail))
        elif answer is None and failure is None:
            seen = " ".join((reply.text or "").split())[:120]
            named = Failure(cause="unreadable", message=f"no JSON object with the fields asked for: {seen}")
            reply = replace(reply, failure=named)
        elif answer is not None:
            issues += against_itself(reply, answer, stage.fields, issues, searches=may_tell(stage, facts))
    spelled = {str(path[0]): name for name, shape in stage.fields.items() for path in ((name,), *shape.aliases)}
    places = {} if answer is None else evidence(reply.text or "", reply.supports, frozenset(spelled))
    backed = {spelled[name]: backing for name, backing in places.items()}
    cost_usd = total_usd(reply_cost(reply, facts, prices))
    return ReadReply(payload, reply, facts, answer, tuple(issues), backed, cost_usd)


def own_replies(payloads: Sequence[bytes], question: str | None) -> list[bytes]:
    """Return those of stored replies that answer a question, as far as they say so."""
    return [payload for payload in payloads if json.loads(payload).get("question") in (None, question)]


def read_outcome(
    stage: Stage, question: str, payloads: Sequence[bytes], prices: Mapping[str, Price], *, recorded: int
) -> Outcome:
    """Return the outcome of a question from its stored replies, oldest first.

    The first ``recorded`` of them stand in sealed rows already, with what they cost.
    """
    return outcome_of(question, [read_payload(stage, payload, prices) for payload in payloads], recorded=recorded)


def outcome_of(question: str, read: Sequence[ReadReply], *, recorded: int) -> Outcome:
    """Return the outcome of a question: its newest answer, else its newest failure."""
    best = next((reply for reply in reversed(read) if reply.answer is not None), read[-1])
    return Outcome(question, best, tuple(reply.payload for reply in read), add_up(read[recorded:]))


def add_up(replies: Sequence[ReadReply]) -> Spent | None:
    """Return what replies used, all together; a count that no reply gave stays unknown."""
    if not replies:
        return None
    usages = [reply.reply.usage for reply in replies if reply.reply.paid]
    costs = total(reply.cost_usd for reply in replies)
    spent: Spent = {
        "attempts": sum(int(reply.facts.get("tries", 1)) for reply in replies),
        "seconds": sum(float(reply.facts.get("seconds", 0.0)) for reply in replies),
        "cost_usd": None if costs.unpriced else float(costs.usd),
    }
    for name, count in COUNTS.items():
        given = [value for usage in usages if (value := getattr(usage, count)) is not None]
        spent[name] = sum(given) if given else None
    return spent


def reply_cost(reply: Reply, facts: Mapping[str, Any], prices: Mapping[str, Price]) -> Cost | None:
    """Return what a reply cost, by the model version that answered; empty if it is not charged for, None if unknown."""
    if not reply.paid:
        return {}
    at = datetime.fromisoformat(facts["at"]) if "at" in facts else None
    return cost(reply.usage, billed_as(reply.model_version, str(facts.get("model", ""))), prices=prices, at=at)


def stage_types(stage: Stage, table: pa.Schema) -> dict[str, pa.DataType]:
    """Return the columns that a stage writes, with their types, beside a table of that schema."""
    asked = {column: stage.fields[field].arrow for column, field in stage.answers.items()}
    columns = {
        name: wider(table.field(name).type, kind) if name in table.names else kind for name, kind in asked.items()
    }
    return columns | {meta(stage.name, name): kind for name, kind in META.items()}


def stage_values(
    stage: Stage, outcome: Outcome | None, record: Mapping[str, Any], *, answered: bool = False
) -> dict[str, Any]:
    """Return what a stage writes into a record's row, but for what was spent: `usage_columns` adds that at the seal.

    The outcome is None for a record that the stage skips. Where the row was ``answered`` before, that answer stands if
    the question fails.
    """
    if answered and outcome is not None and outcome.answer is None:
        error = f"{outcome.best.reply.failure}; {STANDS}"
        return _fact_columns(stage, {"status": "failed", "question": outcome.question, "error": error})
    values: dict[str, Any] = {column: record.get(column) for column in stage.answers}
    facts: dict[str, Any] = dict.fromkeys(ABOUT_THE_ANSWER) | {"status": "skipped"}
    if outcome is not None:
        best = outcome.best
        facts |= {"status": best.status, "question": outcome.question, "model": best.reply.model_version}
        facts["sources"] = [{"url": source.url, "title": source.title} for source in best.reply.sources]
        if best.answer is None:
            facts["error"] = str(best.reply.failure)
        else:
            cells, more = _answered(stage, best, best.answer, record)
            values |= cells
            facts |= more
    return values | _fact_columns(stage, facts)


def _fact_columns(stage: Stage, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {meta(stage.name, name): value for name, value in facts.items()}


def usage_columns(stage: str, row: Mapping[str, Any], spent: Spent | None, payer: str) -> dict[str, Any]:
    """Return a row's columns of what its stage has used: what they hold, and what was ``spent`` since."""
    used: dict[str, Any] = {name: row.get(meta(stage, name)) for name in SPENT}
    if row.get(meta(stage, "paid_by")) is None:  # nothing was recorded yet
        used = spent or dict.fromkeys(SPENT, 0)
    elif spent is not None:
        used = {name: _sum(name, held, spent[name]) for name, held in used.items()}
    return {meta(stage, name): value for name, value in used.items()} | {meta(stage, "paid_by"): payer}


def _sum(name: str, held: Any, new: Any) -> Any:
    """Return a sum; with an unknown price the cost stays unknown, a count that one reply lacks does not."""
    known = [value for value in (held, new) if value is not None]
    return sum(known) if len(known) == 2 or (known and name != "cost_usd") else None


def _answered(
    stage: Stage, reply: ReadReply, answer: Answer, record: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the cells to fill, and the facts about the answer."""
    texts = {name: cell_text(value) for name, value in record.items() if not is_missing(value)}
    fiction = str(reply.reply.model_version or reply.facts.get("model", "")).startswith("simulator")
    examples = None if fiction else examples_in(stage.prompt, stage.schema)
    checks = [replace(check, examples=examples) if isinstance(check, Kind) else check for check in stage.checks]
    kept, failed = check_answer(answer, checks, texts)
    issues = [*reply.issues, *failed]
    cells: dict[str, Any] = {}
    corrections, states, marks = [], [], []
    for column, field in stage.answers.items():
        value = kept[field]
        differs = (
            value is not None and column in texts and not means_the_same(checks, field, as_text(value), texts[column])
        )
        if differs:
            corrections.append({"column": column, "answer": as_text(value)})
        elif value is not None and column not in texts:
            cells[column] = value
        asked, backing = plain(getattr(answer, field)), reply.backed.get(field, Backing())
        flaws = [issue for issue in issues if issue.top == field and issue.check not in OF_THE_REPLY]
        verdict = state(asked, value, flaws, backed=backing.holds, differs=differs)
        states.append({"field": field, "state": verdict, "sources": list(backing.sources)})
        if backing.whole or backing.parts > 1:
            how = {"whole": list(backing.whole), "parts": backing.parts, "backed": backing.backed}
            marks.append({"field": field} | how)
    return cells, {
        **{name: of_itself(answer, name) for name in ("confidence", "search_quality", "notes")},
        "fields_found": [field for field, value in kept.items() if value is not None],
        "filled": list(cells),
        "corrections": corrections,
        "issues": [str(issue) for issue in issues],
        "states": states,
        "marks": marks,
    }


def record_status(statuses: Sequence[str | None]) -> Status:
    """Return a record's status from its stages': failed if one failed, pending if one is not asked yet."""
    if any(status is None or status == "pending" for status in statuses):
        return "pending"
    return "failed" if "failed" in statuses else "done"


def build_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, stages: Sequence[Stage]) -> pa.Table:
    """Return rows as a table; an answer that does not fit its column is left out and named in the row's issues."""
    asked = {column: (stage.name, field) for stage in stages for column, field in stage.answers.items()}
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    arrays: dict[str, pa.Array] = {}
    for name in sorted(columns, key=lambda name: name not in asked):  # the facts last, with what is added
        arrays[name], misfits = as_column(columns[name], schema.field(name).type)
        for place in misfits if name in asked else ():
            stage, field = asked[name]
            issues, states, filled = (columns[meta(stage, fact)] for fact in ("issues", "states", "fields_found"))
            issues[place] = [*(issues[place] or ()), f"{field}: does_not_fit"]
            filled[place] = [other for other in filled[place] or () if other != field]
            known = states[place] or ()
            states[place] = [each | {"state": "invalid"} if each["field"] == field else each for each in known]
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def answers_and_facts(stages: Sequence[Stage]) -> tuple[list[str], list[str]]:
    """Return the columns of the answers that these stages give to a user's table, and of the facts beside them."""
    answers = [column for stage in stages for column in stage.answers]
    return answers, [STATUS, *(meta(stage.name, fact) for stage in stages for fact in SHOWN)]
