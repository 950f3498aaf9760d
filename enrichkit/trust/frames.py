"""The frames a person works with: each value's evidence, the corrections it proposes, the weak records.

Nothing is looked up or asked again, and nothing is written to the store.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa

from ..errors import InputError
from ..formatting import perhaps
from ..planning.identity import of_rows
from ..store.index import RECORD_ID
from ..store.reader import ORIGIN, StoreReader, to_frame
from ..store.rows import WHY
from ..table.arrow import as_frame, as_table, typed
from .bands import SAME, below, estimates, labelled, usd_per_question
from .decisions import decided_fields, open_doubts
from .doubts import FACTS, each_row, read_answers, weakest_first, with_pages
from .pages import own_cells

COLUMNS = ("stage", "column", "state", "answer", "cell", "doubts", "pages", "links", "band", "confidence", "decision")

TAKEN = {RECORD_ID, *COLUMNS, *"notes verdict value first second old new why".split()}
TAKEN |= {"old_state", "new_state", "old_pages", "new_pages", "first_pages", "second_pages"}
TAKEN |= {"about", "place", "label", "_differs", "_best", "_came", "_same"}
"""The columns of these frames, of `review` and of `changes`, also while they are worked out: a key column of such a
name gets another one."""

WRITTEN = ("answer", "doubts", "pages", "links")
"""Those that a model or a service wrote into."""


def evidence(out: str | Path = "enriched") -> pd.DataFrame:
    """Return the answered fields of a store, one row each: how far each is backed, and by which pages.

    The state comes from the reply itself, the checks and the table; no page is looked up. It is experimental:
    ``supported`` means that the service ties this value, or a part of it, to a page that its search brought. It does
    not prove that the page says so, nor that the page is right.

    Parameters
    ----------
    out : str or Path
        The store's folder.

    Returns
    -------
    DataFrame
        ``_record_id``, the key columns, ``stage``, ``column``, ``state`` (``supported``; ``unsupported``: the model
        says so, no source does; ``conflict``: differs from the filled cell; ``doubtful``: kept, though a check
        or other records speak against it; ``invalid``: a check emptied it; ``not_found``), ``answer`` (as text),
        ``cell`` (the table's own, if it has one, the same one too), ``doubts`` (what speaks against it, gravest
        first), ``pages`` (each with its owner: ``norrgard.example (own site)``), ``links`` (their addresses), ``band``
        (``own page``: a site or profile of its own, or a register; ``other page``; ``no page``; ``doubted``),
        ``confidence`` (of the whole answer), ``decision`` (``right``, ``wrong``, ``unsure``, ``value``; or missing).

    Raises
    ------
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"], "fund.city": ["Oslo"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> fields = enrichkit.trust.evidence(out)
    >>> fields["column"].tolist()[:2], len(fields)
    (['fund.linkedin', 'fund.crunchbase'], 6)
    """
    return evidence_of(StoreReader(out))


def evidence_of(reader: StoreReader, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """Return what is known of each answered field, of that these columns."""
    key = {f"key.{name}" if name in TAKEN else name: name for name in reader.key}
    table, names = read_answers(reader, FACTS)
    rows = [
        [row.get(RECORD_ID), *(row.get(own) for own in key.values()), *(known[name] for name in columns)]
        for place, row in enumerate(each_row(table))
        for stage, answers in reader.answers.items()
        for field in decided_fields(reader.decisions, row, stage, answers)
        for known in [with_pages(field, names, place)]
    ]
    return _listed(pd.DataFrame(rows, columns=[RECORD_ID, *key, *columns]), list(key), WRITTEN)


def corrections(out: str | Path = "enriched", df: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return what the model would put where the table has another value; the table keeps its own.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    df : DataFrame, optional
        The table: each of its rows whose cell differs is then listed under its index label, with its own cell, so that
        ``df.at[label, column] = new`` takes a value over. The store knows no labels.

    Returns
    -------
    DataFrame
        The key columns, ``column``, ``old``, ``new``, ``pages`` (behind the new value), ``doubts``, ``confidence``,
        ``links`` and ``_record_id``; those with the best pages first. Old and new are of the column's type, but for
        lists and objects, which are text.

    Raises
    ------
    StoreError
        If there is no store.
    InputError
        If the table lacks the store's key.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"], "fund.linkedin": ["no page"]}, index=["b7"])
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> enrichkit.trust.corrections(out, df)["old"].to_dict()
    {'b7': 'no page'}
    """
    reader = StoreReader(out)
    backing = evidence_of(reader, (*COLUMNS, "_best", "_differs"))
    key = backing.attrs[ORIGIN]["key"]
    rejected = backing["decision"].isin(["wrong", "value"])
    differing = backing[backing["_differs"].astype(bool) & ~rejected].rename(columns={"cell": "old", "answer": "new"})
    ordered = differing.sort_values("_best", kind="stable", ignore_index=True)
    table, names = None if df is None else as_frame(df), set(ordered["column"])
    types = (reader.rows(names) if table is None else as_table(table.filter(list(names)))).schema
    kinds = {field.name: field.type for field in types}
    for name in ("old", "new"):
        texts = zip(ordered[name], ordered["column"], strict=True)
        values = [typed(text, kinds.get(column, pa.string())) for text, column in texts]
        ordered[name] = pd.Series(values, dtype=object)
    ordered = ordered if table is None or not reader.key else of_rows(ordered, table, reader.key)
    columns = [*key, "column", "old", "new", "pages", "doubts", "confidence", "links", RECORD_ID]
    return _listed(ordered[columns], key, ["new", *WRITTEN[1:]])


def precision(
    out: str | Path = "enriched", *, target: float | None = None, by: str | Sequence[str] = ("column", "band")
) -> pd.DataFrame:
    """Return how many of a store's answers are right, as far as they are decided, and which of them reach a target.

    A set of answers is judged by those of its permanent order that are decided without a gap, as `review` draws them.
    Whether it reaches a target is looked at three times only, where no, one and three labels may be wrong; so what is
    to be used misses its target in less than 5 of 100 cases. In each column the bands are joined from the best down,
    until one fails.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    target : float, optional
        The share of answers that should be right, such as 0.95.
    by : str or sequence of str
        Columns of `evidence`: answers are put into sets by all of them, then by fewer.

    Returns
    -------
    DataFrame
        A row per set: the columns of ``by`` (empty where all are taken together), ``cells`` (answers with a value),
        ``decided`` and ``unsure`` (without a gap), ``share_right`` of those that could be told, ``low`` and ``high``
        (an exact 90 % interval for the share of all cells), ``next`` (with a target: ``use``, or what to do).

    Raises
    ------
    InputError
        If the target is no share, or ``by`` names no column of `evidence`.
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures", "Tern Fund"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> measured = enrichkit.trust.precision(out, target=0.9, by="column")
    >>> measured[["column", "next"]].head(2).to_numpy().tolist()
    [['fund.linkedin', 'decide 1 more'], ['fund.crunchbase', 'decide 2 more']]
    """
    names: list[str] = [by] if isinstance(by, str) or not isinstance(by, Sequence) else list(dict.fromkeys(by))
    _check_target(target)
    reader = StoreReader(out)
    answers = labelled(evidence_of(reader), reader).drop_duplicates(SAME, ignore_index=True)
    for name in names:
        if name not in answers.columns.difference([*WRITTEN[1:]]):
            raise InputError(
                "by must name columns of the evidence, not {name!r}.{hint}", name=name, hint=perhaps(name, answers)
            )
    return estimates(answers, names, target=target, usd={} if target is None else usd_per_question(reader))


def weak(out: str | Path = "enriched", *, target: float | None = None) -> pd.DataFrame:
    """Return the records worth another look, weakest first, ready to be passed to `enrichkit.run`.

    They are ordered by their gravest doubt, then by how many there are: a stage failed; a reply did not search, or
    contradicts itself; a check emptied or flagged a value; other records speak against it; it differs from the cell.
    Records that only the model itself thinks little of stand at the end.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    target : float, optional
        Return the records with a value that is not shown to be right so often, as `precision` says, instead.

    Returns
    -------
    DataFrame
        The table's own columns, without what answers filled in, and ``_why``, gravest first, which `run` ignores.

    Raises
    ------
    InputError
        If the target is no share.
    StoreError
        If there is no store.

    Examples
    --------
    Ask about the strategy of the weak ones only, or ask them all again with another model in a store of its own:

    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Tern Partners", "Osk Capital"], "fund.country": ["Norway", "Estonia"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> weak = enrichkit.trust.weak(out)
    >>> weak["fund.title"].tolist()
    ['Osk Capital']
    >>> len(enrichkit.run(weak, model="simulator", stages=["deep"], out=out, progress=False))
    1
    """
    reader = StoreReader(out)
    table, _ = read_answers(reader, FACTS)
    _check_target(target)
    reasons = weakest_first(each_row(table), reader.answers, functools.partial(open_doubts, reader.decisions))
    if target is not None:
        short = below(labelled(evidence_of(reader), reader), target).groupby(RECORD_ID)["column"].agg(", ".join)
        ids = table.column(RECORD_ID).to_pylist() if table.num_rows else []
        reasons = {
            place: [*reasons.get(place, []), f"not shown to be right: {short[ids[place]]}"]
            for place in dict.fromkeys([*reasons, *range(len(ids))])  # the weakest first
            if ids[place] in short.index
        }
    own = pa.table(own_cells(table, reader, [name for name in reader.given if name in table.column_names]))
    rows = own.take(pa.array(reasons, pa.int64()))
    texts = pa.array(map("; ".join, reasons.values()), pa.string())
    return _listed(to_frame(rows.append_column(WHY, texts)), reader.key, [WHY])


def _check_target(target: float | None) -> None:
    if target is not None and not (isinstance(target, numbers.Real) and 0 < target < 1):
        raise InputError("target must be a share between 0 and 1, such as 0.95, not {target!r}.", target=target)


def _listed(frame: pd.DataFrame, key: Sequence[str], written: Sequence[str]) -> pd.DataFrame:
    """Return a list that says which of its columns identify a record, which a model wrote into, and when it was made.

    `export` needs the first two, and `changes` the last.
    """
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    frame.attrs[ORIGIN] = {"key": list(key), "written": list(written), "at": at}
    return frame
