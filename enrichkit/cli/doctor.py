"""The doctor: a few small questions that say whether key, model and network serve, before a table's worth is asked.

Each way of asking has its turns, the cheapest first, so that what refuses searches alone is told from what refuses
everything. The requests are those of a run; but they go out one after the other, each once, and none where all others
would fare alike.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pandas as pd

from ..errors import InputError
from ..formatting import text_page, usd
from ..gemini.client import client_of, in_words, is_simulated, reply_of
from ..gemini.wire import with_searches
from ..messages import ENDS_RUN, PAID, SIMULATOR, Client, Failure, Reply
from ..planning.summary import SAMPLE
from ..pricing.budget import WorstCases
from ..pricing.prices import prices_told, total_usd
from ..reading.answer import Answer, read_answer
from ..runs.options import Options
from ..stages.stage import Stage, request_for
from ..status import stop_reason_text
from ..store.rows import reply_cost
from .flags import put
from .run import DONE, STOPPED, agreed, at_a_terminal

HEED, BROKEN = 1, 2
"""The exit codes beside `DONE`: it works, with something to heed; it cannot work."""
TRIES, GIVEN_UP = 3, 2
"""Answers that each way of asking gets; refusals after which it is given up. One more in a row ends all."""
MOST_USD = Decimal("0.25")
"""Once more is spent, nothing more is sent."""
REQUEST, PAUSE = 1 / 2, 1 / 30
"""The parts of the patience that one request has, and the pause after a refusal that names none."""
ENDS = ENDS_RUN | {"not_sent"}
"""After these every other request would fare alike."""
ADVICE = {
    "rate": "The service refuses every request for its rate ({}). Wait a minute, then try again.",
    "not_sent": "Nothing reached Gemini ({}). Look at HTTPS_PROXY, SSL_CERT_FILE and other such variables.",
    "bad_request": "The service takes no such request ({}). Try another --model or --client.",
    "unreadable": "No answer could be read ({}). Another --model may do better.",
    "overloaded": "Gemini has no room for the model now ({}). Try again later, or another --model.",
}
NO_ANSWER = "Gemini does not answer ({}). Look at the network, at HTTPS_PROXY and GOOGLE_GEMINI_BASE_URL, or try later."
TOWNS = ("Oslo", "Lisbon", "Nairobi", "Quito")
PROMPT = "Search for the population of {town} by its latest count."


class Town(Answer):
    """What is asked for: nobody's secret, and nothing that a model knows for certain without a search."""

    population: str | None = None


QUESTION = Stage("town", prompt=PROMPT, answer=Town, max_output_tokens=2048)
ALONE, WORDS, BOTH = "no search, JSON by schema", "search, JSON in words", "search, schema and flag"
WAYS = {ALONE: replace(QUESTION, search=False), WORDS: QUESTION, BOTH: replace(QUESTION, json="schema")}
Came = dict[str, list[Reply]]
"""What came, by way of asking, in order."""


def doctor(args: argparse.Namespace) -> int:
    """Try key, model and network with a few small questions, and say which settings to use.

    At most a dozen requests are sent, for a few cents; at a terminal you are asked first. The exit code is 0 if all is
    fine, 1 if there is something to heed, 2 if it cannot work.
    """
    options = Options(**{name: given for name in ("model", "client") if (given := getattr(args, name)) is not None})
    worst_usd = WorstCases({}).of(request_for(QUESTION, "", {}, model=options.model, timeout_seconds=1))
    with client_of(options.client, model=options.model, needed=True) as client:
        if not is_simulated(options.model, options.client):
            most_cents = math.ceil(100 * (MOST_USD + worst_usd))
            most = f"a few cents, never over {most_cents / 100:.2f} USD" if worst_usd else "of unknown price"
            put(f"At most {len(WAYS) * len(TOWNS)} small requests to {options.model}, in a minute or two: {most}.")
            if not (args.yes or at_a_terminal()):
                raise InputError("Nobody is here to be asked whether to spend that. If it may be spent, add --yes.")
            if not agreed(args):
                put("Nothing was asked.")
                return STOPPED
        came, spent_usd = examine(client, options.model, worst_usd=worst_usd, patience_seconds=args.patience)
    replies = list(itertools.chain(*came.values()))
    simulated = " (simulated)" * any((reply.model_version or "").startswith(SIMULATOR) for reply in replies)
    cost = f"at most {usd(spent_usd)} USD{simulated}, {prices_told({})}" if worst_usd else "unknown"
    rows = pd.DataFrame(_rows(came, replies, cost), columns=["what", "seen"])
    put(*text_page([], {f"{options.model}, by {options.client_name}": rows}, most=0).splitlines(), "")
    if broken := _broken(replies):
        put(broken)
        return BROKEN
    doubts = list(_doubts(came, dear=spent_usd > MOST_USD))
    if not worst_usd:
        doubts.append("The price is unknown, and so no budget can be held; in Python, prices= takes one.")
    put(*doubts, *_settings(came, options, worst_usd))
    return HEED if doubts else DONE


def examine(client: Client, model: str, *, worst_usd: Decimal, patience_seconds: float) -> tuple[Came, Decimal]:
    """Ask in each way in turn until each has its answers, and return what came, and what it cost or may have.

    It ends where every other request would fare alike; once more than `MOST_USD` is spent, where a cost that is unknown
    is ``worst_usd``; and where requests without an answer, with the pauses after them, would take longer than the
    patience.
    """
    came: Came = {way: [] for way in WAYS}
    send = getattr(client, "send", client)  # as it is: what is refused is to be seen, and not mended
    spent_usd, left, in_a_row = Decimal(), patience_seconds, 0
    for town, way in itertools.product(TOWNS, WAYS):
        count = _count(came[way])
        over = count["answered"] == TRIES or count["asked"] - count["answered"] == GIVEN_UP or count["bad_request"]
        if over or spent_usd > MOST_USD:
            continue
        begun, seconds = time.monotonic(), min(left, patience_seconds * REQUEST)
        request = request_for(WAYS[way], "", {"town": town}, model=model, timeout_seconds=seconds)
        reply = reply_of(send, in_words(request) if request.json == "words" else request)
        if reply.failure is None and read_answer(Town, reply.text or "")[0] is None:
            reply = replace(reply, failure=Failure(cause="unreadable", message="no JSON object as asked for"))
        perhaps = reply.failure is not None and reply.failure.may_be_charged
        cost_usd = total_usd(reply_cost(with_searches(reply, unknown=1), {"model": model}, {}))
        spent_usd += worst_usd if perhaps or cost_usd is None else cost_usd
        came[way].append(reply)
        in_a_row = 0 if reply.paid else in_a_row + 1
        if reply.failure and not reply.paid:
            pause = reply.failure.retry_after_seconds or patience_seconds * PAUSE
            left -= time.monotonic() - begun + pause
            if reply.failure.cause in ENDS or in_a_row > GIVEN_UP or left <= 0:
                break
            time.sleep(pause)
    return came, spent_usd


def _count(replies: list[Reply]) -> Counter[str]:
    """Return how many were asked, answered, searched, readable, and why the others were not, by cause."""
    count = Counter[str]()
    for reply in replies:
        count["asked"] += 1
        if reply.paid:
            count.update(answered=1, searched=int(bool(reply.usage.searches)))
        count[reply.failure.cause if reply.failure else "readable"] += 1
    return count


def _failures(replies: list[Reply]) -> list[Failure]:
    return [reply.failure for reply in replies if reply.failure]


def _rows(came: Came, replies: list[Reply], cost: str) -> Iterator[tuple[str, str]]:
    """Yield what was looked at, and what was seen of it."""
    count, answers = _count(replies), [reply for reply in replies if reply.paid]
    limits = dict.fromkeys(failure.quota or failure.cause for failure in _failures(replies) if failure.status == 429)
    yield "key", "refused" if count["auth"] else "accepted" if answers or limits else "not seen"
    versions = " and ".join(dict.fromkeys(reply.model_version or "one without a name" for reply in answers))
    unknown = "not known" if count["model_not_found"] else "not seen"
    yield "model", f"{versions} answered" if versions else unknown
    for way, of_way in came.items():
        yield way, ", ".join(f"{number} {what}" for what, number in _count(of_way).items()) or "not asked"
    for kind in ("tool", "thinking"):
        tokens = sum(getattr(reply.usage, f"{kind}_tokens") or 0 for reply in answers)
        yield f"{kind} tokens", f"{tokens:,}" if tokens else "none seen"
    yield from [("price", cost), ("limits", ", ".join(limits) or "none seen")]


def _broken(replies: list[Reply]) -> str | None:
    """Return why it cannot work, and what to do; None if it can."""
    failures = _failures(replies)
    ending = [failure for failure in failures if failure.cause in ENDS]
    if not ending and len(failures) < len(replies):
        return None
    failure = (ending or failures)[-1]
    if failure.ends_run:
        return stop_reason_text(failure.cause, failure.message).strip()
    advice = ADVICE.get("unreadable" if failure.cause in PAID else failure.cause, NO_ANSWER)
    return advice.format(failure.message or failure.cause)


def _doubts(came: Came, *, dear: bool) -> Iterator[str]:
    """Yield what is to be heeded although it works."""
    words, others = _count(came[WORDS]), came[ALONE] + came[WORDS]
    failures, passed = _failures(others), _count(came[ALONE])["answered"]
    # One that passed before the first refusal tells nothing: by then a limit may be reached that counts all.
    if failures and passed > 1 and not _count(came[WORDS] + came[BOTH])["answered"]:
        yield f"Requests that search are not answered, others are ({failures[-1]})."
        if failures[-1].cause == "rate" and failures[-1].quota is None:
            yield "The day's searches may be used up: more open at midnight Pacific, or with a paid tier."
    elif failures:
        yield f"{len(failures)} of {len(others)} requests brought nothing ({failures[-1]})."
    if words["searched"] < words["answered"]:
        yield f"{words['searched']} of {words['answered']} answers in words came from a search. Try another --model."
    if dear:
        yield "The rest was not asked: it might have cost more than was said."


def _settings(came: Came, options: Options, worst_usd: Decimal) -> Iterator[str]:
    """Yield the settings to use."""
    words, both = _count(came[WORDS]), _count(came[BOTH])
    good, as_good = (min(count["searched"], count["readable"]) for count in (words, both))
    if not words["answered"] + both["answered"]:
        yield "Until a search passes, only stages of your own can work: Stage(..., search=False)"
        return
    json, search = "schema" if as_good and not good else "words", True if good or as_good else "optional"
    yield f"For stages of your own: Stage(..., json={json!r}, search={search!r})"
    if good:
        flags = f"--limit {SAMPLE} --model {options.model}"
        flags += f" --client {options.client_name}" * (options.client_name != Options().client_name)
        flags += " --max-workers 2" * bool(words["rate"] or both["rate"])
        flags += f" --budget {math.ceil(3 * SAMPLE * worst_usd)}" * bool(worst_usd)
        yield f"Next: enrichkit run --input FILE {flags}"
