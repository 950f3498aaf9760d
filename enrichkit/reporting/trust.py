"""How far to trust the answers: each value's evidence, proposed corrections, the weak records, a record's dossier.

Nothing is looked up or asked again, and nothing is written to the store.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from ..errors import InputError
from ..formatting import escaped, html_page, many, text_page
from ..gemini.wire import decode, parse
from ..planning.identity import of_rows
from ..store.index import RECORD_ID
from ..store.reader import ORIGIN, StoreReader, to_frame
from ..store.rows import WHY, meta
from ..table.arrow import as_frame, as_table, typed
from .quality import WEAK_POINTS, doubts_of, fields, read_answers

__all__ = ["Dossier", "corrections", "dossier", "evidence", "weak"]

COLUMNS = ("stage", "column", "state", "answer", "cell", "issues", "sources", "confidence")
LONGEST_VALUE = 1000
IN_A_TAB = '<base target="_blank">'
"""Before the suggestions: their links open in a tab of their own; in the small frame Google refuses to show itself."""
SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
"""Links may be followed; no script runs, and nothing of the notebook's page is in reach."""


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
        says so, no source does; ``conflict``: differs from the filled cell; ``invalid``: a check failed;
        ``not_found``), ``answer`` (as text; missing where a check emptied it), ``cell`` (what the table has there, if
        that is another value), ``issues``, ``sources`` (addresses), ``confidence`` (of the whole answer).

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
    reader = StoreReader(out)
    key, stages = reader.key, reader.answers
    facts = ("status", "confidence", "fields_found", "states", "issues", "corrections", "sources")
    rows = [
        {name: row.get(name) for name in (RECORD_ID, *key)} | field
        for row in read_answers(reader, facts, key).to_pylist()
        for stage, columns in stages.items()
        for field in fields(row, stage, columns)
    ]
    return _listed(pd.DataFrame(rows, columns=[RECORD_ID, *key, *COLUMNS]), key, ["answer", "issues", "sources"])


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
        The key columns, ``column``, ``old``, ``new``, ``sources`` (addresses that back the new value), ``issues``,
        ``confidence`` and ``_record_id``; those with sources first. Old and new are of the column's type, but for lists
        and objects, which are text.

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
    backing = evidence(out)
    key = backing.attrs[ORIGIN]["key"]
    differing = backing[backing["cell"].notna()].rename(columns={"cell": "old", "answer": "new"})
    backed = differing["sources"].map(len) > 0
    ordered = differing.assign(backed=backed).sort_values("backed", ascending=False, kind="stable", ignore_index=True)
    table, names = None if df is None else as_frame(df), set(ordered["column"])
    types = (StoreReader(out, warn=False).rows(names) if table is None else as_table(table.filter(list(names)))).schema
    kinds = {field.name: field.type for field in types}
    for name in ("old", "new"):
        texts = zip(ordered[name], ordered["column"], strict=True)
        values = [typed(text, kinds.get(column, pa.string())) for text, column in texts]
        ordered[name] = pd.Series(values, dtype=object)
    ordered = ordered if table is None else of_rows(ordered, table, key)
    columns = [*key, "column", "old", "new", "sources", "issues", "confidence", RECORD_ID]
    return _listed(ordered[columns], key, ["new", "issues", "sources"])


def weak(
    out: str | Path = "enriched", *, stages: Collection[str] | None = None, points: int = WEAK_POINTS
) -> pd.DataFrame:
    """Return the records worth another look, weakest first, ready to be passed to `enrichkit.run`.

    Each failed stage counts 10 points of doubt, a low confidence, a poor search or none at all where the stage
    searches 4, a limited search 1, each field that failed a check 2, each that differs from the table 1, each without a
    source 1, where others have one.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    stages : collection of str, optional
        Look at these stages only.
    points : int
        The fewest points that make a record weak.

    Returns
    -------
    DataFrame
        The table's own columns, without what answers filled in, and ``_why``, which `run` ignores.

    Raises
    ------
    InputError
        If ``stages`` names a stage that the store does not have.
    StoreError
        If there is no store.

    Examples
    --------
    Ask about the strategy of the weak ones only, or ask them all again with another model in a store of its own:

    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures", "Tern Fund"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> again = enrichkit.trust.weak(out, points=0)
    >>> len(enrichkit.run(again, model="simulator", stages=["deep"], out=out, progress=False))
    2
    """
    reader = StoreReader(out)
    given = reader.given
    facts = ("status", "error", "confidence", "search_quality", "filled", "states", "issues")
    table, known = read_answers(reader, facts, given), reader.answers
    unknown = sorted(set(stages or ()) - known.keys())
    if isinstance(stages, str) or unknown:
        raise InputError(
            "{stages} must name stages of this store: {listed}; not {given!r}.", listed=", ".join(known), given=stages
        )
    chosen = [stage for stage in known if stages is None or stage in stages]
    rows = []
    for row in table.to_pylist():
        doubts = [doubt for stage in chosen for doubt in doubts_of(row, stage)]
        total = sum(weight for weight, _ in doubts)
        if total >= points:
            filled = {name for stage in known for name in row.get(meta(stage, "filled")) or ()}
            why = "; ".join(doubt for _, doubt in sorted(doubts, key=lambda doubt: -doubt[0]))
            rows.append((total, row | dict.fromkeys(filled) | {WHY: why}))
    rows.sort(key=lambda row: -row[0])
    own = [table.schema.field(name) for name in given if name in table.column_names]
    schema = pa.schema([*own, pa.field(WHY, pa.string())])
    return _listed(to_frame(pa.Table.from_pylist([row for _, row in rows], schema=schema)), reader.key, [WHY])


def _listed(frame: pd.DataFrame, key: Sequence[str], written: Sequence[str]) -> pd.DataFrame:
    """Return a list that says which of its columns identify a record, and which a model wrote into, for `export`."""
    frame.attrs[ORIGIN] = {"key": list(key), "written": list(written)}
    return frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """What `enrichkit.trust.dossier` returns; shows itself as a page in a notebook and as text in a terminal.

    Attributes
    ----------
    record_id : str
        The record.
    key : mapping of str to object
        The cells that identify it.
    answers : tuple of mapping
        Its answered fields, as the rows of `evidence`.
    issues : tuple of str
        What checks found, each after its stage's name.
    notes : mapping of str to str
        What the model said of its answer, by stage.
    suggestions : tuple of str
        Google's search suggestions to its answers: HTML, shown in a frame that runs no script.

    Examples
    --------
    >>> from enrichkit import trust
    >>> print(trust.Dossier(record_id="1f", key={"name": "Acme"}, answers=(), issues=(), notes={}, suggestions=()))
    name: Acme
    """

    record_id: str
    key: Mapping[str, Any]
    answers: tuple[Mapping[str, Any], ...]
    issues: tuple[str, ...]
    notes: Mapping[str, str]
    suggestions: tuple[str, ...]

    def __str__(self) -> str:
        return text_page(self._lines(), self._tables(), most=LONGEST_VALUE)

    def __repr__(self) -> str:
        summary = f"<enrichkit.Dossier, {self._lines()[0]}: {many(len(self.answers), 'answer')}>"
        return text_page([f"{summary} print() shows all of it."])

    def _repr_html_(self) -> str:
        frames = "".join(
            f'<iframe sandbox="{SANDBOX}" srcdoc="{html.escape(IN_A_TAB + suggestion)}" '
            'title="Google search suggestions" style="width:100%;height:70px;border:0"></iframe>'
            for suggestion in self.suggestions
        )
        pages = "".join(
            f"<li>{escaped(answer['column'])}: {', '.join(map(_link, answer['sources']))}</li>"
            for answer in self.answers
            if answer["sources"]
        )
        sources = f"<p><b>pages that back a value, as the service says</b></p><ul>{pages}</ul>" if pages else ""
        return html_page(self._lines(), self._tables(), more=sources + frames, most=LONGEST_VALUE)

    def _lines(self) -> list[str]:
        key = ", ".join(f"{name}: {value}" for name, value in self.key.items() if value is not None)
        return [key, *(f"{stage}: {note}" for stage, note in self.notes.items())]

    def _tables(self) -> dict[str, pd.DataFrame]:
        headings = {"column": "column", "state": "state", "cell": "the table has", "answer": "answer"}
        answers = [{heading: str(answer[name] or "") for name, heading in headings.items()} for answer in self.answers]
        issues = [{"finding": issue} for issue in self.issues]
        return {"answers": pd.DataFrame(answers), "what checks found": pd.DataFrame(issues)}


def dossier(out: str | Path, record_id: str) -> Dossier:
    """Return everything that is known of one record: each value with its state and sources, and the suggestions.

    Google's terms ask that its search suggestions are shown with grounded answers; this is where they are.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    record_id : str
        The record, as ``_record_id`` names it in `read`, `evidence` and `corrections`.

    Returns
    -------
    Dossier
        A page in a notebook, and text when printed.

    Raises
    ------
    InputError
        If the store has no such record.
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> page = enrichkit.trust.dossier(out, enrichkit.read(out)["_record_id"].iloc[0])
    >>> page.key, len(page.answers)
    ({'fund.title': 'Borealis Ventures'}, 6)
    """
    reader = StoreReader(out)
    row = reader.row(record_id)
    if row is None:
        raise InputError(
            "{store} has no sealed record {record_id!r}. enrichkit.read(out)['_record_id'] names them.",
            store=out,
            record_id=record_id,
        )
    stages = reader.answers
    suggestions = (_suggestions(row.get(meta(stage, "replies")) or ()) for stage in stages)
    return Dossier(
        record_id=record_id,
        key={name: row.get(name) for name in reader.key},
        answers=tuple(field for stage, columns in stages.items() for field in fields(row, stage, columns)),
        issues=tuple(f"{stage}: {issue}" for stage in stages for issue in row.get(meta(stage, "issues")) or ()),
        notes={stage: note for stage in stages if (note := row.get(meta(stage, "notes")))},
        suggestions=tuple(filter(None, suggestions)),
    )


def _suggestions(payloads: Sequence[bytes]) -> str | None:
    """Return the suggestions to the newest answer; a later failure leaves it standing, and its suggestions too."""
    replies = (decode(payload, parse)[0] for payload in reversed(payloads))
    return next((reply.suggestions_html for reply in replies if reply.failure is None), None)


def _link(address: str) -> str:
    """Return a link to a web page; any other address is shown as text."""
    shown = escaped(address)
    if not address.startswith(("https://", "http://")):
        return shown
    return f'<a href="{html.escape(address)}" target="_blank" rel="noopener noreferrer nofollow">{shown}</a>'
