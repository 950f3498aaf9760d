"""The review: answers for a person to judge, in a box of the notebook by the keyboard alone, or as a table.

What stands in the box is one of five answers; anything else is refused, never guessed. What a cell shows may come from
a model, so it is escaped.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import EnrichError, InputError
from ..formatting import NO_MATHEMATICS, escaped, many, perhaps, text_page
from ..progress.screens import way_to_show
from ..store.files import folder_of
from ..store.index import RECORD_ID
from ..store.reader import ORIGIN, StoreReader
from ..store.rows import meta
from ..table.arrow import as_frame, check_rows
from ..table.cells import is_missing
from .bands import SAME, labelled, looks
from .comparison import to_choose
from .decisions import CHOICES, answers_of
from .frames import evidence_of
from .record_page import LONGEST_VALUE, link

VERDICTS = {"y": "right", "n": "wrong", "?": "unsure"}
KEYS = "y right · n wrong · ? cannot tell · = Bergen the right value · < back · Enter sends it"
PAIR_KEYS = "1 the first is right · 2 the second · b both · n neither · ? cannot tell · < back · Enter sends it"
BESIDE = {"state": "state", "cell": "your cell", "doubts": "against it", "notes": "the model's notes"}
"""What stands beside an answer, besides its pages."""
PAIR = {"1": "first", "2": "second"}
TARGETS = (0.9, 0.95)
FOCUS_SECONDS = (0.2, 0.5, 1.0, 2.0)
"""When the box is focused: a front end tells nobody when it has drawn it."""
AT_FIRST = "A box to judge cells in. Run the cell again to go on."
"""What a saved copy says where no widget can be shown."""


def review(
    out: str | Path = "enriched",
    rows: int = 30,
    *,
    columns: Sequence[str] | None = None,
    cells: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return answers that are not decided yet, to judge them by hand; in a notebook, show a box to do it in.

    They come in a permanent order, the columns in turn, so that those decided are a random sample of each column and
    each band, which `precision` counts; the same call goes on where it stopped. It says how many labels a target takes.
    In the box, Enter sends ``y``, ``n``, ``?``, ``<`` or ``= the right value``, and Shift+Tab reaches the pages.
    Elsewhere, fill the columns ``verdict`` (``right``, ``wrong``, ``unsure``) or ``value`` and give it to `decide`.

    Of `changes` both values are shown, without their sides and in random order, one of a record before a second: Enter
    sends ``1``, ``2``, ``b`` (both are right), ``n`` (neither), ``?`` or ``<``; elsewhere ``verdict`` takes these.

    Parameters
    ----------
    out : str or Path
        The store's folder.
    rows : int
        How many answers, a row each, at most.
    columns : sequence of str, optional
        Only answers in these columns, such as those that matter most.
    cells : DataFrame, optional
        Only these rows of `evidence`, `corrections`, `changes` or `precision`'s bands: with ``_record_id`` and
        ``column``.

    Returns
    -------
    DataFrame
        Rows as `evidence` has them, with ``notes`` (the model's own), ``verdict`` and ``value``, both empty; of
        `changes` with ``first`` and ``second``, their pages, and ``verdict``.

    Raises
    ------
    InputError
        If a column has no answers, or the cells are not named.
    StoreError
        If there is no store.

    Examples
    --------
    >>> import pandas as pd, enrichkit, tempfile
    >>> df = pd.DataFrame({"fund.title": ["Borealis Ventures", "Tern Fund"]})
    >>> out = tempfile.mkdtemp() + "/enriched"
    >>> _ = enrichkit.run(df, model="simulator", stages=["fund"], out=out, progress=False)
    >>> cells = enrichkit.trust.review(out, 4)  # doctest: +ELLIPSIS
    4 answers to judge, of 10 in 6 columns...
    """
    check_rows(rows)
    cells = None if cells is None else as_frame(cells)
    if cells is not None and not {RECORD_ID, "column"} <= set(cells.columns):
        raise InputError(
            "The cells to review lack _record_id or column. Give rows of evidence, corrections or changes."
        )
    if cells is not None and "why" in cells.columns:
        left = _in_columns(to_choose(folder_of(out), cells), columns, cells["column"])
        listed = left.head(rows).reset_index(drop=True)
        listed.attrs = cells.attrs
        pairs = f"{many(len(listed), 'pair')} of values to choose from, of {len(left):,} not decided: {PAIR_KEYS}."
        print(text_page([pairs]))
    else:
        listed = _answers(out, cells, rows, columns)
    if len(listed) and way_to_show("auto") == "widget":
        Box(out, listed).show()
    return listed


def _answers(
    out: str | Path, cells: pd.DataFrame | None, rows: int, columns: str | Sequence[str] | None
) -> pd.DataFrame:
    """Return the next answers to judge, and say how many labels a target takes."""
    reader = StoreReader(out)
    fields = evidence_of(reader)
    if cells is not None:
        names = [RECORD_ID, "column"]
        fields = fields[pd.MultiIndex.from_frame(fields[names]).isin(pd.MultiIndex.from_frame(cells[names]))]
    answers = labelled(fields, reader).drop_duplicates(SAME, ignore_index=True)
    answers = _in_columns(answers, columns, answers["column"])
    listed = draw(answers, rows)
    print(text_page([labels_needed(answers, len(listed))]))
    noted = {row[RECORD_ID]: row for row in reader.facts(("notes",), (RECORD_ID,)).to_pylist() if len(listed)}
    places = zip(listed[RECORD_ID], listed["stage"], strict=True)
    notes = pd.Series([noted[record].get(meta(stage, "notes")) for record, stage in places], dtype=object)
    listed = listed.drop(columns=["about", "place", "label"]).assign(notes=notes, verdict="", value="")
    listed.attrs = fields.attrs
    return listed


def _in_columns(cells: pd.DataFrame, columns: str | Sequence[str] | None, known: Iterable[str]) -> pd.DataFrame:
    """Return the cells in some columns, all of them if none are named."""
    wanted = [columns] if isinstance(columns, str) else columns or list(known)
    for name in {*wanted} - {*known}:
        raise InputError("{name!r} has no answers to review.{hint}", name=name, hint=perhaps(name, known))
    return cells[cells["column"].isin(wanted)]


def draw(answers: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Return the next answers to decide: the columns in turn, each in its permanent order."""
    order = {column: number for number, column in enumerate(dict.fromkeys(answers["column"]))}
    ordered = answers.sort_values("place", kind="stable")
    turns = ordered.assign(turn=ordered.groupby("column").cumcount(), number=ordered["column"].map(order))
    left = turns[turns["label"].isna()].sort_values(["turn", "number"], kind="stable")
    return answers.loc[left.index[:rows]].reset_index(drop=True)


def labels_needed(answers: pd.DataFrame, drawn: int) -> str:
    """Return how many of some answers were drawn, and how many labels of a column a target takes, in words."""
    if not drawn:
        return f"Nothing to judge: of {many(len(answers), 'answer')}, all are decided."
    counts = answers["column"].value_counts()
    takes = []
    for target in TARGETS:
        labels = sorted({looks(count, target)[0][0] for count in counts})
        takes.append(f"{labels[0]} to {labels[-1]}" if len(labels) > 1 else str(labels[0]))
    left = int(answers["label"].isna().sum())
    return (
        f"{many(drawn, 'answer')} to judge, of {left:,} in {many(len(counts), 'column')}. To show that 90 % of a "
        f"column are right takes {takes[0]} labels without a mistake, 95 % takes {takes[1]}."
    )


class Box:
    """A box that shows one cell after another and stores each answer as it is given."""

    def __init__(self, out: str | Path, cells: pd.DataFrame) -> None:
        import ipywidgets

        self._cells, self._answers = cells, answers_of(out, cells)
        self._are_pairs = "first" in cells.columns
        self._at = 0
        self._given: dict[int, str] = {}
        self._page, self._said = ipywidgets.HTML(), ipywidgets.HTML()
        # Leaving the box sends what stands in it, as Enter does; the event of Enter itself comes before the value.
        self._text = ipywidgets.Text(
            continuous_update=False, placeholder="1  2  b  n  ?  <" if self._are_pairs else "y  n  ?  <  = value"
        )
        self._text.observe(lambda change: self._answer(change["new"]), "value")
        self._box = ipywidgets.VBox([self._page, self._text, self._said])

    def show(self) -> None:
        """Show it below the cell that runs, ready for the keyboard."""
        from IPython.display import display

        self._tell("")
        display({**self._box._repr_mimebundle_(), "text/plain": AT_FIRST}, raw=True)  # type: ignore[no-untyped-call]
        for seconds in FOCUS_SECONDS:
            timer = threading.Timer(seconds, self._text.focus)
            timer.daemon = True
            timer.start()

    def _answer(self, text: str) -> None:
        if text:
            self._text.value = ""
            self._tell(self._take(text.strip()))

    def _take(self, text: str) -> str:
        """Take one of the answers; return what came of it."""
        if text == "<" and self._at:
            self._at -= 1
            return f"Back. It was: {self._given[self._at]}."
        verdict = (text if text in CHOICES else "") if self._are_pairs else VERDICTS.get(text, "")
        value = text[1:].strip() if text[:1] == "=" and not self._are_pairs else ""
        if self._at == len(self._cells) or not (verdict or value):
            return f"Nothing was stored for {text!r}."
        try:
            self._answers.decide(self._cells.iloc[[self._at]].assign(verdict=verdict, value=value))
        except EnrichError as error:
            return f"Nothing was stored. {error}"
        self._given[self._at] = verdict or f"= {value}"
        self._at += 1
        return f"Stored: {self._given[self._at - 1]}."

    def _tell(self, said: str) -> None:
        """Show the cell that is next, what came of the last one, and the keys."""
        count = len(self._cells)
        if self._at < count:
            key = self._cells.attrs[ORIGIN]["key"]
            self._page.value = page_of(self._cells.iloc[self._at], key, f"{self._at + 1} of {count}")
        else:
            words = Counter(word if word in VERDICTS.values() else "another value" for word in self._given.values())
            summed = ", ".join(f"{number} {word}" for word, number in words.items())
            shown = f": {summed}. precision(out) says what that shows."
            shown = ". The same trial says which side is better." if self._are_pairs else shown
            self._page.value = escaped(f"All {count} are judged{shown}", most=0)
        keys = escaped(PAIR_KEYS if self._are_pairs else KEYS, most=0)
        self._said.value = f'<div class="{NO_MATHEMATICS}">{keys}<br>{escaped(said, most=0)}</div>'


def page_of(cell: pd.Series[Any], key: Sequence[str], place: str) -> str:
    """Return a cell and what is known of it, as HTML."""
    record = ", ".join(str(cell[name]) for name in key if not is_missing(cell[name]))
    if "first" in cell.index:
        answer = "<br>".join(f"{number}: {_linked(cell[name])}" for number, name in PAIR.items())
        listed = {f"pages of {number}": cell[f"{name}_pages"] for number, name in PAIR.items()}
        texts = {
            title: _linked(pages) if isinstance(pages, str) else "<br>".join(map(_linked, pages))
            for title, pages in listed.items()
            if not is_missing(pages)
        }
    else:
        answer = _linked(cell["answer"])
        listed = {title: cell[name] if isinstance(cell[name], list) else [cell[name]] for name, title in BESIDE.items()}
        texts = {
            title: "<br>".join(escaped(str(part), LONGEST_VALUE) for part in parts if not is_missing(part))
            for title, parts in listed.items()
        } | {"pages": "<br>".join(map(link, cell["links"], cell["pages"]))}
    rows = "".join(f"<tr><td>{title}</td><td>{text}</td></tr>" for title, text in texts.items() if text)
    return (
        f'<div class="{NO_MATHEMATICS}"><p>{place} · {escaped(record, LONGEST_VALUE)} · {escaped(cell["column"])}</p>'
        f'<p style="font-size:150%">{answer}</p><table>{rows}</table></div>'
    )


def _linked(value: Any) -> str:
    """Return a value as HTML: an address as a link."""
    text = "(nothing)" if is_missing(value) else str(value)
    return link(text) if text.startswith("http") else escaped(text, LONGEST_VALUE)
