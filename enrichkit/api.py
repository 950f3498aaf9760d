"""The call: a table and options, and what they come to on a store before a run: `plan`, and what a run begins with."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from .errors import InputError
from .options import Options, takes
from .planning.estimate import booked_before, spent_before, worst_request
from .planning.past import read_usage_history
from .planning.plan import choose_stages
from .planning.summary import Plan, check_call, make_plan
from .pricing.budget import Budget
from .progress.notify import check_addresses
from .progress.progress import wanted
from .runner import Run, _terminated_as_interrupted, index_of, run_plan_of


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
    stages = choose_stages(options.stages, frame)
    index = index_of(options.folder, stages)
    work, plans = run_plan_of(frame, index, stages, options, refuse=False)
    spent_usd = spent_before(
        options.folder,
        index,
        work,
        budget_usd=options.budget_usd,
        prices=options.prices,
        booked=lambda: booked_before(options.folder, index),
    )
    return make_plan(
        work,
        plans,
        out=options.out,
        workers=options.workers,
        rpm=options.rpm,
        prices=options.prices,
        past=read_usage_history(options.folder, work.stages, options.prices),
        budget=Budget(options.budget_usd, spent_usd),
        worst_usd=worst_request(work, options.prices),
    )


def check(frame: pd.DataFrame, options: Options) -> None:
    """Raise for whatever a run would be refused for, before anything is asked or written."""
    stages = choose_stages(options.stages, frame)
    run_plan_of(frame, index_of(options.folder, stages), stages, options)
    wanted(options.progress)
    check_addresses(options.addresses)
    check_call(stages, model=options.model, client=options.client, prices=options.prices, budget_usd=options.budget_usd)


def batches(df: pd.DataFrame, rows: int) -> Iterator[pd.DataFrame]:
    """Yield the table piece by piece, for a look in between; the same store carries on.

    Examples
    --------
    >>> import pandas as pd, enrichkit
    >>> [len(batch) for batch in enrichkit.batches(pd.DataFrame({"name": list("abcde")}), 2)]
    [2, 2, 1]
    """
    if not isinstance(rows, int) or rows < 1:
        raise InputError(f"rows must be a whole number above 0, not {rows!r}.")
    return (df.iloc[start : start + rows] for start in range(0, len(df), rows))


@takes(Options)
def run(df: pd.DataFrame, options: Options) -> pd.DataFrame:
    """Enrich a table: plan, ask, store; return the rows with their cells filled in.

    Call it again, with the same arguments, to go on after any end: only what is missing is asked.

    Parameters
    ----------
    df : DataFrame
        One row per record. Index, order and other columns come back untouched.
    out : str or Path
        The folder of the shards, checkpoint and output in one; ``<out>.work`` lies beside it.
    stages : sequence of str or Stage
        What is asked of each record: ``"poc"``, ``"fund"``, ``"deep"``, or stages of your own.
    key : str or sequence of str, optional
        The columns that identify a record; default: fund title, first and last name.
    model : str
        The model, or ``"simulator"``: no key, no cost, same wire.
    client : str or callable
        ``"google-genai"``, ``"google-generativeai"``, or any callable `Request` → `Reply`.
    workers : int
        Requests at a time, 1 to 20; more need an explicit ``rpm``.
    rpm : float, optional
        Requests a minute at most; default: learned from the service's refusals.
    budget_usd : float, optional
        Never spend more on this store, what earlier runs spent included. Replies are counted at list price, and a
        request that may have been charged without one (silence, a broken connection) at its worst case, for as long as
        the run lasts. Once 80 % of it is spent, the logger ``enrichkit`` says so, once a run.
    prices : mapping of str to Price, optional
        Prices of your own, by model.
    retry_failed : bool or "only"
        Ask the failed stages of failed records again; ``"only"``: and leave all other records for a later call.
    on_change : {"refuse", "redo", "keep"}
        What to do where a stage now asks another question than the one that was answered.
    redo_damaged : bool
        Put a shard that fails its checksum aside, and ask for its records again.
    limit : int, optional
        At most so many records in this call; the rest stays pending.
    priority : str or callable, optional
        A column, or a function of the table, with a number per record; the highest are asked first.
    shard_rows : int
        Rows per shard.
    deadline_seconds : float
        For one request, tries and waits after errors included, waiting for the pace not; the first try has half of it.
        An answer that cannot be read is asked for anew, with a deadline of its own.
    notify : str or list of str, optional
        Where a short notice goes when the run ends, however it ends: addresses of `apprise`, for Slack, Discord, email,
        a webhook, ... (needs ``pip install 'enrichkit[notify]'``). One each, with counts, cost, the store's path and
        what to do next; no record's text. None is sent by a call that found everything done, and by one that is refused
        before it begins. A notice that fails is a warning of the logger ``enrichkit``, and holds the end up for 10 s at
        most. The address is a secret: keep it in the environment variable ``ENRICHKIT_NOTIFY`` (several with blanks
        between them), which counts where ``notify`` is None; an empty list means no notice at all.
    progress : {"auto", "widget", "html", "text", False}
        How the run shows itself. ``"widget"``: a live view with buttons, in a notebook; ``"html"``: the same without
        buttons or ipywidgets; ``"text"``: a line every five seconds; ``False``: not at all. ``"auto"`` takes what the
        environment variable ``ENRICHKIT_PROGRESS`` says (one of these words, or ``off``), else the widget in a
        notebook, text where nobody sits before it (papermill, nbclient, a log), and a bar in a terminal. What cannot be
        had falls back to the next best. In a notebook a static summary is left at the end.
    delay_seconds : float
        Ask a record's stages one after the other, with so long a wait between them. The pace does what that is often
        meant for.

    Returns
    -------
    DataFrame
        The rows of ``df`` with empty cells filled in, the columns that were asked for, ``_status``, and each stage's
        ``_status`` and ``_confidence``. Everything else that is known is in the store: see `read`.

    Raises
    ------
    InputError, StageError, SetupError, MissingKeyError
        Before any request, if something about the call cannot work.
    ChangedError
        If a stage's question changed and ``on_change`` is "refuse".
    StoreError, LockedError, DamagedError
        If the store cannot be used.
    Stopped
        If the run ended early; the same call goes on later.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"], "fund.country": ["Norway"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)["_status"].tolist()
    ['done']
    """
    with _terminated_as_interrupted():  # from before the first request: a display may take its time to come up
        return Run(df, options).result()


@takes(Options)
def start(df: pd.DataFrame, options: Options) -> Run:
    """Start `run` in the background and return at once, with a `Run`: pause, resume, stop, show or await it.

    Parameters
    ----------
    df : DataFrame
        One row per record.
    progress : {"auto", "widget", "html", "text", False}
        As in `run`. In a notebook it is a live view with buttons, below the cell that started it and wherever
        `Run.show` is called, until a static summary takes its place.
    notify : str or list of str, optional
        As in `run`, as are all other arguments: the notice goes out when the run ends, also when nobody waits for it.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"]})
    >>> job = enrichkit.start(df, model="simulator", out=tempfile.mkdtemp() + "/enriched", progress=False)
    >>> job.result()["fund._status"].tolist()
    ['done']
    """
    # A copy: what the caller does to it meanwhile must not move the answers to other rows.
    return Run(df.copy() if isinstance(df, pd.DataFrame) else df, options)
