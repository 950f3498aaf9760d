"""A record's dossier: each value with its state and sources, what checks found, what the model noted."""

from __future__ import annotations

import functools
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError
from ..formatting import escaped, html_page, many, text_page
from ..gemini.wire import read_stored
from ..store.index import RECORD_ID
from ..store.reader import StoreReader
from ..store.rows import meta
from .decisions import decided_fields, open_doubts
from .doubts import FACTS, Finding, each_row, findings, read_answers, weakest_first, with_pages
from .frames import COLUMNS

LONGEST_VALUE = 1000
PAGES = "pages that back a value, as the service says"
IN_A_TAB = '<base target="_blank">'
"""Before the suggestions: their links open in a tab of their own; in the small frame Google refuses to show itself."""
LINKS = ",\n"
"""Between links: a line each keeps a saved notebook readable."""
SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
"""Links may be followed; no script runs, and nothing of the notebook's page is in reach."""


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
    findings : tuple of mapping
        What checks found: ``about`` (stage and field, or a cell of the table), ``done`` (``emptied``, ``flagged``,
        ``cleaned``; ``note`` on a cell of your own; ``broken`` check), ``finding``.
    notes : mapping of str to str
        What the model said of its answer, by stage.
    suggestions : tuple of str
        Google's search suggestions to its answers: HTML, shown in a frame that runs no script.

    Examples
    --------
    >>> from enrichkit import trust
    >>> print(trust.Dossier(record_id="1f", key={"name": "Acme"}, answers=(), findings=(), notes={}, suggestions=()))
    name: Acme
    """

    record_id: str
    key: Mapping[str, Any]
    answers: tuple[Mapping[str, Any], ...]
    findings: tuple[Mapping[str, str], ...]
    notes: Mapping[str, str]
    suggestions: tuple[str, ...]

    def __str__(self) -> str:
        pages = [{"column": answer["column"], "page": page} for answer in self.answers for page in answer["pages"]]
        return text_page(self._lines(), self._tables() | {PAGES: pd.DataFrame(pages)}, most=LONGEST_VALUE)

    def __repr__(self) -> str:
        summary = f"<enrichkit.Dossier, {self._lines()[0]}: {many(len(self.answers), 'answer')}>"
        return text_page([f"{summary} print() shows all of it."])

    def _repr_html_(self) -> str:
        frames = "".join(
            f'\n<iframe sandbox="{SANDBOX}" srcdoc="{html.escape(IN_A_TAB + suggestion)}" '
            'title="Google search suggestions" style="width:100%;height:70px;border:0"></iframe>'
            for suggestion in self.suggestions
        )
        pages = "".join(
            f"\n<li>{escaped(answer['column'])}: {LINKS.join(map(link, answer['links'], answer['pages']))}</li>"
            for answer in self.answers
            if answer["pages"]
        )
        sources = f"<p><b>{PAGES}</b></p><ul>{pages}</ul>" if pages else ""
        return html_page(self._lines(), self._tables(), more=sources + frames, most=LONGEST_VALUE)

    def _lines(self) -> list[str]:
        key = ", ".join(f"{name}: {value}" for name, value in self.key.items() if value is not None)
        return [key, *(f"{stage}: {note}" for stage, note in self.notes.items())]

    def _tables(self) -> dict[str, pd.DataFrame]:
        headings = {"column": "column", "state": "state", "cell": "the table has", "answer": "answer"}
        answers = [
            {heading: str(answer[name] or "") for name, heading in headings.items()}
            | {"against it": "; ".join(answer["doubts"])}
            for answer in self.answers
        ]
        findings = pd.DataFrame(self.findings, columns=["about", "done", "finding"])
        notes = findings["done"] == "note"
        return {
            "answers": pd.DataFrame(answers),
            "what checks found": findings[~notes],
            "what checks found odd about your own cells": findings.loc[notes, ["about", "finding"]],
        }


def dossier(out: str | Path = "enriched", record_id: str | None = None) -> Dossier:
    """Return everything that is known of one record: each value with its state, doubts and sources.

    Google's terms ask that its search suggestions are shown with grounded answers; this is where they are.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    record_id : str, optional
        The record, as ``_record_id`` names it in `read`, `evidence` and `corrections`; default: the weakest.

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
    >>> page = enrichkit.trust.dossier(out)
    >>> page.key, len(page.answers)
    ({'fund.title': 'Borealis Ventures'}, 6)
    """
    reader = StoreReader(out)
    table, names = read_answers(reader, FACTS)
    ids = table.column(RECORD_ID).to_pylist() if table.num_rows else []
    if record_id is None and ids:
        weak = weakest_first(each_row(table), reader.answers, functools.partial(open_doubts, reader.decisions))
        record_id = ids[next(iter(weak), 0)]
    if record_id is None:
        raise InputError("{store} has no sealed record yet: {run} fills it.", store=out)
    row = reader.row(record_id)
    if row is None:
        raise InputError(
            "{store} has no sealed record {record_id!r}. enrichkit.read(out)['_record_id'] names them.",
            store=out,
            record_id=record_id,
        )
    stages = reader.answers
    place = ids.index(record_id)
    row |= table.slice(place, 1).to_pylist()[0]
    suggestions = (_suggestions(row.get(meta(stage, "replies")) or ()) for stage in stages)
    return Dossier(
        record_id=str(row[RECORD_ID]),
        key={name: row.get(name) for name in reader.key},
        answers=tuple(
            {name: value for name, value in with_pages(field, names, place).items() if name in COLUMNS}
            for stage, columns in stages.items()
            for field in decided_fields(reader.decisions, row, stage, columns)
        ),
        findings=tuple(_told(stage, finding) for stage in stages for finding in findings(row, stage)),
        notes={stage: note for stage in stages if (note := row.get(meta(stage, "notes")))},
        suggestions=tuple(filter(None, suggestions)),
    )


def _told(stage: str, finding: Finding) -> dict[str, str]:
    """Return a finding in words; what is about no field is the stage's."""
    about = finding.about if finding.done == "note" and finding.about else f"{stage}.{finding.about}".rstrip(".")
    return {"about": about, "done": finding.done, "finding": str(finding)}


def _suggestions(payloads: Sequence[bytes]) -> str | None:
    """Return the suggestions to the newest answer; a later failure leaves it standing, and its suggestions too."""
    replies = (read_stored(payload)[0] for payload in reversed(payloads))
    return next((reply.suggestions_html for reply in replies if reply.failure is None), None)


def link(address: str, page: str = "") -> str:
    """Return an address as a link, behind the ``page`` if it is given; any other address is shown as text."""
    shown = escaped(page or address)
    if not address.startswith(("https://", "http://")):
        return shown
    return f'<a href="{html.escape(address)}" target="_blank" rel="noopener noreferrer nofollow">{shown}</a>'
