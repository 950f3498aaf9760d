"""The lifecycle of a run: from a call's settings to a plan, to an engine on an open store, and what an early end says.

It asks nothing, and refuses a call before anything is written wherever that can be known.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from ..engine.driver import Engine
from ..engine.recorder import Recorder, Share
from ..engine.retry import ATTEMPTS
from ..engine.shard_writer import reread
from ..engine.workers import SPARE_PERMITS, Asking
from ..errors import BudgetError, InputError, SetupError, Stopped, StoreError
from ..formatting import Sentence, amount, many
from ..gemini.client import access, check_capabilities, client_of, is_simulated
from ..messages import SIMULATOR
from ..planning.estimate import estimate, spent_before, worst_request
from ..planning.plan import RunPlan, check_store_fits, make_run_plan, read_failed
from ..planning.records import Records, read_records
from ..planning.summary import unknown_prices
from ..pricing.budget import DurableBudget
from ..progress.notify import check_addresses
from ..progress.screens import warn
from ..reading.answer import FAILED
from ..stages.behaviour import behaviour
from ..stages.choice import arrange, choose_stages, with_stage_names
from ..stages.stage import Stage
from ..status import Status, next_step
from ..store.files import is_store, parts_of
from ..store.index import Index, find, indexed
from ..store.journal import JournalEntry
from ..store.replies import answers_of_trials
from ..store.rows import answers_and_facts, meta
from ..store.store import Store, write_note
from .options import DEADLINES, Options

LOG = logging.getLogger("enrichkit")
LEAST_SHARD_ROWS, USUAL_SHARDS = 50, 400
FILES_OF_A_STORE = 8
"""So many files a run may have open at a time besides its connections."""


def open_engine(
    frame: pd.DataFrame,
    options: Options,
    opening: contextlib.ExitStack,
    *,
    share: Share | None = None,
) -> tuple[Engine, Recorder]:
    """Open a call's store and plan its run, once; ``opening`` closes what was opened.

    A store that is one of several parts has a ``share`` in what they have in common.

    A mistake in the call, the table or the set-up is refused before anything is written. On a store that is filled,
    only what depends on the open questions is refused later, after stored answers were read again.
    """
    stages, records = _asked(frame, options)
    records.check()
    check_setup(options, stages)
    if parts_of(options.folder):
        raise InputError(
            "{kept} is kept in parts, which take a {cluster}. Give that, or choose another {out}.", kept=options.folder
        )
    plan = None
    if not is_store(options.folder):
        plan = run_plan_of(records, index_of(options, stages), stages, options)
        plan.check()
        check_access(options, plan)
    FAILED.clear()
    store = open_store(options, stages)
    opening.callback(store.close)
    if options.reread:
        store.index.forget_readings()
    _check_fits(records, store.index, stages, options)
    with named(options.folder):
        if gained := reread(store, stages, failed=bool(options.retry_failed), prices=options.prices):
            LOG.warning(
                "Stored answers were read again, at no cost: %s found.",
                many(gained, "more value is", "more values are"),
            )
    read_failed(store.index, stages, retry=False, prices=options.prices)
    if plan is None or not store.index.empty:
        plan = run_plan_of(records, store.index, stages, options)
        plan.check()
    if answered := of_trials(plan, options):
        with named(options.folder):
            store.append(answered)
        plan = run_plan_of(records, store.index, stages, options)
    check_access(options, plan)
    shard_rows = options.shard_rows or max(LEAST_SHARD_ROWS, -(-len(plan.ids) // USUAL_SHARDS))
    recorder = Recorder(plan, store, prices=options.prices, shard_rows=shard_rows, share=share)
    if not store.enough_space():
        raise StoreError(
            "The disk that holds {folder} is nearly full. Free some space, then run again.", folder=options.folder
        )
    return _engine(recorder, options, opening, share), recorder


def _engine(recorder: Recorder, options: Options, opening: contextlib.ExitStack, share: Share | None) -> Engine:
    """Return what asks, through the call's client and within its budget."""
    plan, store = recorder.plan, recorder.store
    client = opening.enter_context(client_of(options.client, model=options.model, needed=plan.to_ask > 0))
    budget = DurableBudget(
        options.budget_usd,
        spent_before(store.index, plan, budget_usd=options.budget_usd, prices=options.prices),
        prices=options.prices,
        note=store.index.outstanding,
        most=min(options.workers + SPARE_PERMITS, ATTEMPTS * plan.to_ask),
        dearest_usd=worst_request(plan, options.prices),
        write=functools.partial(write_note, store),
    )
    engine = Engine(
        recorder,
        Asking(
            client=client,
            client_name=options.client_name,
            workers=_room_for(options),
            rpm=share.rpm if share else options.rpm,
            deadline_seconds=options.deadline_seconds or DEADLINES[options.tier],
            patience_seconds=options.patience_seconds,
            prices=options.prices,
        ),
        budget=budget,
        delay_seconds=options.delay_seconds,
        on_scarce=(lambda: None) if share else (lambda: warn(engine.status)),  # a part has its share of the budget
    )
    return engine


def _asked(frame: pd.DataFrame, options: Options) -> tuple[list[Stage], Records]:
    """Return a call's stages, in an order that works, and its records, under the names that the stages know."""
    stages = choose_stages(options.stages, prompt=options.prompt, fields=options.fields)
    frame = with_stage_names(frame, options.names, stages)
    stages = arrange(stages, list(map(str, frame.columns)), index=frame.index.names, names=options.names)
    stage_names = {own: name for name, own in options.names.items()}
    key, priority = options.key, options.priority
    by_prompt = key is None and options.prompt is not None
    if by_prompt:
        key = stages[0].reads
    elif key is not None:
        key = [stage_names.get(name, name) for name in ([key] if isinstance(key, str) else key)]
    if isinstance(priority, str):
        priority = stage_names.get(priority, priority)
    elif callable(own := priority):
        priority = lambda frame: own(frame.rename(columns=options.names))  # noqa: E731 - as the user knows the table
    return stages, read_records(frame, stages, key=key, gaps=by_prompt, priority=priority, names=options.names)


def same_call(options: Options, other: Options) -> bool:
    """Whether two calls ask the same in the same way; what a cell defines is another object whenever it runs."""

    def meaning(value: Any) -> Any:
        if isinstance(value, Stage):
            return value.question(options.model, value.reads), value.reading
        if isinstance(value, list | tuple):
            return [meaning(part) for part in value]
        return behaviour([value]) or value

    names = {field.name for field in fields(Options)} - {"out", "progress", "cluster"}
    return all(meaning(getattr(options, name)) == meaning(getattr(other, name)) for name in names)


def _room_for(options: Options) -> int:
    """Return how many may ask at a time: as many as the call says, or as the limit of open files leaves room for."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        free = limit - len(os.listdir("/dev/fd")) - FILES_OF_A_STORE
    except (ImportError, OSError):  # no such limit on Windows
        return options.workers
    room = free // (2 if options.model == SIMULATOR else 1)  # its end of a connection is in this process, too
    if limit == resource.RLIM_INFINITY or room >= options.workers:
        return options.workers
    if room < 1:
        raise SetupError("This process may open {most} files, and has none to spare. Raise ulimit -n.", most=limit)
    LOG.warning("%s ask at a time: this process may open %s files. Raise ulimit -n for more.", room, limit)
    return room


def check_setup(options: Options, stages: Sequence[Stage]) -> None:
    """Raise for what a request or a notification would fail for: an unknown price, a wrong address, ..."""
    if isinstance(options.client, str):
        for stage in stages:
            check_capabilities(options.client, thinking=stage.thinking)
    for price in unknown_prices(stages, options.model, options.prices) if options.budget_usd is not None else ():
        raise BudgetError("{price}. Or leave {budget_usd} out: without that price it cannot be held.", price=price)
    check_addresses(options.addresses)


def check_access(options: Options, plan: RunPlan) -> None:
    """Raise if there is no key for what is to be asked; what is stored needs none."""
    if plan.to_ask and isinstance(options.client, str) and options.model != SIMULATOR:
        access()


def open_store(options: Options, stages: Sequence[Stage]) -> Store:
    """Return the call's store, opened for writing: locked and recovered."""
    with named(options.folder):
        store = Store(options.folder, redo_damaged=options.redo_damaged, **_indexed(stages))
    if store.quarantined:
        files = many(len(store.quarantined), "file was", "files were")
        warnings.warn(
            f"{files} quarantined in {store.quarantined[0].parent}; what only these held is asked, and paid, again.",
            stacklevel=6,
        )
    return store


def index_of(options: Options, stages: Sequence[Stage]) -> Index:
    """Return the index of a call's store, reading only."""
    return Index(options.folder, **_indexed(stages))


def _indexed(stages: Sequence[Stage]) -> dict[str, Any]:
    """Return which columns the index of a store needs, and in which others no damage is let pass.

    These are the ones that the user's table gets; a damaged shard would be missing from it.
    """
    answers, facts = answers_and_facts(stages)
    required = [name for stage in stages for name in (*stage.requires, meta(stage.name, "decisions"))]
    columns = indexed([stage.name for stage in stages], required)
    return {"columns": columns, "checked": [*answers, *facts]}


def run_plan_of(records: Records, index: Index, stages: Sequence[Stage], options: Options) -> RunPlan:
    """Return what a call has to do on a store with this index."""
    return make_run_plan(
        records,
        index,
        stages=stages,
        model=options.model,
        tier=options.tier,
        on_change=options.on_change,
        retry_failed=options.retry_failed,
        limit=options.limit,
    )


def of_trials(plan: RunPlan, options: Options) -> list[JournalEntry]:
    """Return the replies of the store's trials to what a plan would ask: they are taken over, and not paid again."""
    replies = answers_of_trials(options.folder, simulated=is_simulated(options.model, options.client))
    asked, taken = list(replies), dict[str, list[JournalEntry]]()
    for questions in plan.stages if replies else ():
        for name, number in zip(asked, find(asked, questions.questions), strict=True):
            new = number >= 0 and (questions.place[number] < 0 or replies[name][-1].status == "done")
            taken |= {name: replies[name]} if new and not questions.known[number] else {}
    return [entry for entries in taken.values() for entry in entries]


def _check_fits(records: Records, index: Index, stages: Sequence[Stage], options: Options) -> None:
    simulated = is_simulated(options.model, options.client)
    check_store_fits(index, stages=stages, key=records.key, simulated=simulated)


def look_ahead(frame: pd.DataFrame, options: Options) -> tuple[RunPlan, Index]:
    """Return what a call would have to do, and the index of its store, reading only."""
    stages, records = _asked(frame, options)
    index = index_of(options, stages)
    _check_fits(records, index, stages, options)
    if options.reread:
        index.forget_readings()
    readable = read_failed(index, stages, retry=bool(options.retry_failed), prices=options.prices)
    plan = run_plan_of(records, index, stages, options)
    if answered := of_trials(plan, options):
        for entry in answered:
            index.pending.setdefault(entry.question, []).append(entry)
        plan = run_plan_of(records, index, stages, options)
        plan.notes.append(f"{many(len(answered), 'reply', 'replies')} of trials will be taken over, at no cost.")
    plan.notes.extend([f"{many(readable, 'failed answer')} can be read now, at no cost."] * bool(readable))
    return plan, index


@contextlib.contextmanager
def named(out: Path) -> Iterator[None]:
    """Say which store it was that the disk failed."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            "The store {store} cannot be used: {reason}. Choose another {out}, or fix the disk, then run again.",
            store=out,
            reason=error.strerror or error,
        ) from error


def stopped(kind: type[Stopped], how: str, *, reason: str, status: Status, plan: RunPlan, options: Options) -> Stopped:
    """Return the error of a run that ended early: how it ended, what is done, what the same call would do."""
    cost = f"{_rest(status, plan, options)}Prices: {status.money.prices}. " if reason == "budget" else ""
    failed = f"{status.failed:,} failed, " if status.failed else ""
    return kind(
        "{how}{complete:,} of {records} done and saved, {failed}{are_left} left. {cost}{following}.",
        how=how,
        complete=status.done,
        records=many(status.records, "record is", "records are"),
        failed=failed,
        are_left=many(status.left, "is", "are"),
        cost=cost,
        following=next_step(reason) if status.left else Sentence("The same {call} returns the table"),
        reason=reason,
        done=status.done + status.failed,
        left=status.left,
    )


def _rest(status: Status, plan: RunPlan, options: Options) -> str:
    """Say what the rest will cost, by what this run's questions have cost; before any has, as a plan would."""
    rest = status.money.rest_usd
    if rest is None and not status.money.unpriced:
        with contextlib.suppress(OSError):  # the store may be what ended the run
            index = index_of(options, [questions.stage for questions in plan.stages])
            about = estimate(plan, index, workers=options.workers, rpm=options.rpm, prices=options.prices)
            rest = None if about.cost_usd is None else about.cost_usd[1]
    return f"They will cost about {amount(rest)} USD more. " if rest and status.left else ""


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM, how a scheduler ends a program, count as an interrupt; in the main thread only."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
