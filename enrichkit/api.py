"""The call: a table and options, and what they come to on a store before a run: `plan`, and what a run begins with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pandas as pd

from .engine.recorder import booked_usd
from .errors import StoreError
from .gemini.service import check_call, is_simulated
from .options import Options, takes
from .planning.past import read_past
from .planning.plan import Work, choose_stages, make_work
from .planning.questions import StagePlan
from .planning.summary import Plan, make_plan
from .pricing.budget import Budget
from .pricing.prices import worst_case
from .progress.notify import check_addresses
from .progress.progress import wanted
from .stages.stage import Stage
from .store.files import files_of
from .store.index import Index, indexed, read_shards, scan
from .store.parquet import join
from .store.reader import answers_and_facts
from .store.replies import read_ledger
from .store.rows import RECORD_ID, meta
from .store.store import Store

LONGEST_PROMPT_BYTES = 10_000


@takes(Options)
def plan(df: pd.DataFrame, options: Options) -> Plan:
    """Say what `run` would ask, and about what it would cost. No network, no key, nothing written.

    It also says what looks odd about the table: missing and repeated keys, values in the wrong column, rows with
    nothing but their key, words that stand for nothing, two funds under one title. Where a key is missing, `run` will
    refuse the table, and the plan is for the other rows. To begin with a sample, ``run(df.sample(10))``, turns the next
    estimate from a guess into a measured range, and the sample is kept.

    Examples
    --------
    >>> import pandas as pd, enrichkit
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"] * 2, "poc.last_name": ["Aas", "Berg"]})
    >>> found = enrichkit.plan(df, out="no-such-folder")
    >>> found.to_ask, found.shared
    (3, 1)
    """
    return plan_of(df, options)


def plan_of(frame: pd.DataFrame, options: Options) -> Plan:
    """Return the plan of a call."""
    index = index_of(options, choose_stages(options.stages, frame))
    work, plans = work_of(frame, index, options, refuse=False)
    return make_plan(
        work,
        plans,
        options,
        past=read_past(options.folder, work.stages, options.prices),
        budget=Budget(options.budget_usd, spent_before(options, index, work, lambda: _booked(options, index))),
        worst_usd=_worst_case(options, work),
    )


def check(frame: pd.DataFrame, options: Options) -> None:
    """Raise for whatever a run would be refused for, before anything is asked or written."""
    stages = choose_stages(options.stages, frame)
    work_of(frame, index_of(options, stages), options)
    wanted(options.progress)
    check_addresses(options)
    check_call(options, stages)


def index_of(options: Options, stages: Sequence[Stage]) -> Index:
    """Return the index of a call's store, reading only."""
    return scan(options.folder, indexed(*_read_by(stages)), id_column=RECORD_ID, checked=_shown(stages))


def store_of(options: Options, stages: Sequence[Stage]) -> Store:
    """Return the call's store, opened for writing."""
    names, required = _read_by(stages)
    with named(options.folder):
        return Store(
            options.folder,
            stages=names,
            columns=required,
            checked=_shown(stages),
            redo_damaged=options.redo_damaged,
            id_column=RECORD_ID,
        )


def _read_by(stages: Sequence[Stage]) -> tuple[list[str], list[str]]:
    """Return the stages' names, and the columns that decide whether a record is skipped."""
    return [stage.name for stage in stages], [name for stage in stages for name in stage.requires]


def _shown(stages: Sequence[Stage]) -> list[str]:
    """Return the columns that the user's table gets; a shard that is damaged there would be missing from it."""
    answers, facts = answers_and_facts(stages)
    return [*answers, *facts]


def work_of(
    frame: pd.DataFrame, index: Index, options: Options, *, refuse: bool = True
) -> tuple[Work, list[StagePlan]]:
    """Return what a call has to do, and the counts that a person sees; see `make_work`."""
    return make_work(frame, index, options, simulated=is_simulated(options), refuse=refuse)


def spent_before(options: Options, index: Index, work: Work, booked: Callable[[], Decimal | None]) -> Decimal:
    """Return what a budget counts of earlier runs; what is of unknown price counts as the worst that it may be.

    The rows hold prices of the day they were booked, and nothing where one was unknown. Where prices of one's own are
    given, or one was unknown, the replies are gone through one by one.
    """
    if options.budget_usd is None or index.empty:
        return Decimal()
    known = None if options.prices else booked()
    if known is not None:
        return known
    worst = _worst_case(options, work)
    paid = read_ledger(options.folder, options.prices).paid
    return sum((worst if one.cost is None else one.cost.total_usd for one in paid), Decimal())


def _booked(options: Options, index: Index) -> Decimal | None:
    """Return what the rows of a store say they cost; None if replies are pending, or a price was unknown."""
    columns = {meta(stage, fact) for stage in index.stages for fact in ("cost_usd", "paid_by")}
    tables, _ = read_shards(files_of(options.folder), options.folder, columns)
    return None if index.pending else booked_usd(join(list(tables.values())))


def _worst_case(options: Options, work: Work) -> Decimal:
    """Return about the worst case of the dearest request; what is of unknown price counts as nothing."""
    found = (
        worst_case(
            one.stage.model or options.model,
            prompt_bytes=LONGEST_PROMPT_BYTES,
            max_output_tokens=one.stage.max_output_tokens,
            search=one.stage.search,
            prices=options.prices,
        )
        for one in work.stages
    )
    return max((one or Decimal() for one in found), default=Decimal())


@contextlib.contextmanager
def named(out: Path) -> Iterator[None]:
    """Say which store it was that the disk failed."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"The store {out} cannot be used: {error.strerror or error}. Mend the disk, then run again."
        ) from error
