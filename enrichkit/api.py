"""The call: a table and options, and what they come to on a store before a run: `plan`, and what a run begins with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, get_args

import pandas as pd

from .cluster.coordinator import open_cluster
from .cluster.parts import processes_of
from .errors import InputError
from .formatting import perhaps
from .planning.estimate import spent_before
from .planning.plan import RunPlan
from .planning.summary import Plan, make_plan
from .pricing.budget import Budget
from .runs.lifecycle import look_ahead, open_engine, terminated_as_interrupted
from .runs.options import Options, takes
from .runs.runner import Run, begin
from .runs.seam import Opener
from .store.index import Index
from .table.arrow import as_frame, check_rows

INJECTED = "# Parameters\n"
"""How the cell that papermill adds begins."""


@takes(Options)
def plan(df: pd.DataFrame, options: Options) -> Plan:
    """Say what `run` would ask, and about what it would cost. No network, no key, nothing written.

    It also says what looks odd about the table: missing and repeated keys, values in the wrong column, rows with
    nothing but their key, words that stand for nothing, two funds under one title. Where a key is missing, `run` will
    refuse the table, and the plan is for the other rows. To begin with a sample, ``run(df, limit=10)``, turns the next
    estimate from a guess into a measured range, and the sample is kept.

    Parameters
    ----------
    df : DataFrame
        One row per record, as for `run`.
    {settings}

    Returns
    -------
    Plan
        The counts and the estimate; printed or shown in a notebook, it says all of this in words.

    Raises
    ------
    InputError, StageError
        If the table, a setting or a stage cannot be used.
    StoreError
        If the store cannot be read.

    Examples
    --------
    >>> import pandas as pd, enrichkit
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"] * 2, "poc.last_name": ["Aas", "Berg"]})
    >>> ahead = enrichkit.plan(df, out="no-such-folder")
    >>> ahead.to_ask, ahead.shared
    (3, 1)
    """
    return plan_of(*look_ahead(df, options), options)


def plan_of(run_plan: RunPlan, index: Index, options: Options) -> Plan:
    """Return what a person sees of what a call has to do."""
    spent_usd = spent_before(index, run_plan, budget_usd=options.budget_usd, prices=options.prices)
    return make_plan(
        run_plan,
        index,
        out=options.out,
        workers=options.workers,
        processes=processes_of(run_plan, index, options),
        rpm=options.rpm,
        prices=options.prices,
        budget=Budget(options.budget_usd, spent_usd, note=index.outstanding),
    )


def batches(df: pd.DataFrame, rows: int) -> Iterator[pd.DataFrame]:
    """Yield the table piece by piece, for a look in between; the same store carries on.

    Parameters
    ----------
    df : DataFrame
        One row per record.
    rows : int
        The number of rows of a piece; the last one may have fewer.

    Returns
    -------
    iterator of DataFrame
        The pieces, in order, each with its part of the index.

    Raises
    ------
    InputError
        If ``rows`` is not a whole number above 0.

    Examples
    --------
    >>> import pandas as pd, enrichkit
    >>> [len(batch) for batch in enrichkit.batches(pd.DataFrame({"name": list("abcde")}), 2)]
    [2, 2, 1]
    """
    check_rows(rows)
    df = as_frame(df)
    return (df.iloc[start : start + rows] for start in range(0, len(df), rows))


@takes(Options)
def run(df: pd.DataFrame, options: Options) -> pd.DataFrame:
    """Enrich a table: plan, ask, store; return the rows with their cells filled in.

    Call it again, with the same arguments, to go on after any end: only what is missing is asked.

    Parameters
    ----------
    df : DataFrame
        One row per record. Index, order and other columns come back untouched.
    {settings}

    Returns
    -------
    DataFrame
        The rows of ``df`` with empty cells filled in, the columns that were asked for, ``_status``, and each stage's
        ``_status`` and ``_confidence``. Everything else that is known is in the store: see `read`. New columns are
        ``Int64``, ``Float64``, ``boolean`` or ``string``, whatever is missing in them, lists and objects ``object``;
        the table's own keep their dtype where it holds the values.

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
    with terminated_as_interrupted():  # from before the first request: a display may take its time to come up
        return begin(df, options, opened=_opener(options)).result()


@takes(Options)
def start(df: pd.DataFrame, options: Options) -> Run:
    """Start `run` in the background and return at once, with a `Run`: pause, resume, stop, show or await it.

    The same call again, while it is under way in this process, shows and returns that run.

    Parameters
    ----------
    df : DataFrame
        One row per record.
    {settings}

    Returns
    -------
    Run
        The run, which is under way.

    Raises
    ------
    InputError, StageError, SetupError, MissingKeyError, ChangedError, StoreError, LockedError, DamagedError
        As `run`, before any request. What ends the run early is raised by `Run.result`.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"]})
    >>> job = enrichkit.start(df, model="simulator", out=tempfile.mkdtemp() + "/enriched", progress=False)
    >>> job.result()["fund._status"].tolist()
    ['done']
    """
    # A copy: what the caller does to it meanwhile must not move the answers to other rows.
    return begin(df.copy(), options, opened=_opener(options))


def _opener(options: Options) -> Opener:
    return open_engine if options.cluster is None else open_cluster


def check_parameters(namespace: Mapping[str, Any], /, **types: type | UnionType) -> None:
    """Refuse a notebook's parameters if papermill was given an unknown one, or a value of the wrong type.

    Parameters
    ----------
    namespace : mapping
        The notebook's ``globals()``.
    **types : type
        The parameters that the notebook has, each with its type.

    Raises
    ------
    InputError
        If a parameter is unknown or has the wrong type; the message lists the parameters.

    Examples
    --------
    >>> import enrichkit
    >>> enrichkit.check_parameters({"workers": 20, "budget_usd": None}, workers=int, budget_usd=float | None)
    >>> enrichkit.check_parameters({"workers": "20"}, workers=int)
    Traceback (most recent call last):
    ...
    enrichkit.errors.InputError: The parameter workers must be int, not '20'.
    """
    for name in _injected(namespace):
        if name not in types:
            hint = f"{perhaps(name, types)} It has: {', '.join(types)}"
            raise InputError("The notebook has no parameter {name!r}.{hint}.", name=name, hint=hint)
    for name, expected_type in types.items():
        value = namespace[name]
        kinds = get_args(expected_type) or (expected_type,)
        whole = float in kinds and isinstance(value, int)  # a whole number is also a number
        if not (isinstance(value, kinds) or whole) or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join(kind.__name__ for kind in kinds).replace("NoneType", "None")
            raise InputError(
                "The parameter {name} must be {expected}, not {value!r}.", name=name, expected=expected, value=value
            )


def _injected(namespace: Mapping[str, Any]) -> list[str]:
    """Return the names that papermill's cell assigns, each at the start of a line."""
    cells = [source for source in namespace.get("In", ()) if source.startswith(INJECTED)]
    return [name for source in cells for name in re.findall(r"(?m)^(\w+) = ", source)]
