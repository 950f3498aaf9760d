"""Sentences, numbers and small tables for people, as text for a terminal and as HTML for a notebook.

A sentence names settings in braces, and the face that shows it chooses their spelling, Python's or the shell's;
finished text is never edited. What stands in a table may come from a reply, so it is untrusted: escaped in HTML,
without control characters in text. The HTML sets no colours and needs no style sheet, so that it reads in light and
dark, and on pages that drop styles.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import html
import itertools
import math
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Self, TextIO

import numpy as np
import numpy.typing as npt
import pandas as pd

ROWS_TOLD = 5
LONGEST_LABEL = 40
LONGEST_CELL = 60
LEAST_CELL, GAP = 16, 2
"""So narrow a column of texts may become in a table that does not fit; what stands before each column."""
USUAL_WINDOW, LEAST_WINDOW = 80, 20
"""The columns of a terminal that does not say how many it has; in fewer nothing can be read."""
MOST_DIGITS = 600
NO_TABLES: Mapping[str, pd.DataFrame] = {}
NO_MATHEMATICS = "mathjax_ignore tex2jax_ignore"
"""The classes that keep a notebook from reading text as mathematics, in which a link can hide."""
LONG_LINE = re.compile(r"(.{200}[^ \n]*) ")


NAMES = (
    *("stages", "prompt", "fields", "key", "names", "model", "client", "workers", "rpm", "budget_usd", "prices"),
    *("retry_failed", "reread", "on_change", "redo_damaged", "limit", "priority", "shard_rows", "cluster", "parts"),
    *("deadline_seconds", "patience_seconds", "notify", "progress", "delay_seconds", "tier"),
)
"""The settings that a sentence may name in braces."""
SPELLINGS = {
    "out": ("'out'", "--checkpoint"),
    "max_output_tokens": ("the stage's max_output_tokens", "the stage's max_output_tokens (in Python)"),
    "redo": ("on_change='redo'", "--on-change redo"),
    "keep": ("on_change='keep'", "--on-change keep"),
    "redo_damaged_on": ("redo_damaged=True", "--redo-damaged"),
    "retry_failed_on": ("retry_failed=True", "--retry-failed"),
    "retry_failed_only": ("retry_failed='only'", "--retry-failed"),
    "give_key": ("key=...", "--key ..."),
    "key_is": ("key=[", "--key "),
    "and_key": (", ", " --key "),
    "end_of_list": ("]", ""),
    "give_prices": ("give prices", "in Python, give prices"),
    "run": ("enrichkit.run", "enrichkit run"),
    "plan": ("enrichkit.plan(...)", "--dry-run"),
    "go": ("enrichkit.run with the same arguments", "the same command without --dry-run"),
    "go_with_a_sample": (
        "enrichkit.run with limit=10 first, to measure what it costs; then without",
        "the same command without --dry-run, with --limit 10 first, to measure what it costs",
    ),
    "or_start": ("; or enrichkit.start, in the background", ""),
    "read": ("enrichkit.read(out)", "in Python, enrichkit.read(out)"),
    "corrections": ("enrichkit.trust.corrections(", "enrichkit corrections "),
    "weak": ("enrichkit.trust.weak(", "enrichkit weak "),
    "report_of": ("enrichkit.report(", "enrichkit report "),
    "end_of_call": (")", ""),
    "end_of_list_call": (")", " FILE"),
    "call": ("call", "command"),
    "in_python": ("", " (in Python)"),
    "own_stage": ("a Stage", "MODULE:STAGE or FILE.py:STAGE"),
}
"""What else a sentence may name in braces: how Python spells it, and how the shell does."""
PYTHON = {name: name for name in NAMES} | {name: words for name, (words, _) in SPELLINGS.items()}
"""How Python spells what a sentence names in braces."""


class Sentence(str):
    """A sentence that names settings in braces: text in Python's spelling, from which `spelled` makes another.

    The template is a literal, since a cell may contain braces; what it says besides the settings are its facts.

    >>> sentence = Sentence("Raise {budget_usd} above {spent} USD.", spent=5)
    >>> str(sentence), spelled(sentence, {"budget_usd": "--budget"})
    ('Raise budget_usd above 5 USD.', 'Raise --budget above 5 USD.')
    """

    __slots__ = ("facts", "template")
    template: str
    facts: dict[str, Any]

    def __new__(cls, template: str, /, **facts: object) -> Self:
        sentence = super().__new__(cls, template.format_map({**PYTHON, **facts}))
        sentence.template, sentence.facts = template, facts
        return sentence

    def __reduce__(self) -> tuple[Any, ...]:  # unpickling must not take the finished text for a template
        return functools.partial(Sentence, **self.facts), (self.template,)


def setting(name: str) -> Sentence:
    """Return the name of a setting that is known only when the program runs, as a fact for a sentence."""
    return Sentence(f"{{{name}}}")


def joined(parts: Iterable[str], between: str = " ") -> Sentence:
    """Return sentences, or plain texts, as one.

    >>> spelled(joined(["Oslo", Sentence("{workers}")], ", "), {"workers": "--max-workers"})
    'Oslo, --max-workers'
    """
    facts = {f"part_{number}": part for number, part in enumerate(parts)}
    return Sentence(between.join(f"{{{name}}}" for name in facts), **facts)


def spelled(text: str, spelling: Mapping[str, str]) -> str:
    """Return a sentence, and those among its facts, in a spelling; other text as it is."""
    if not isinstance(text, Sentence):
        return text
    facts = {name: spelled(fact, spelling) if isinstance(fact, str) else fact for name, fact in text.facts.items()}
    return text.template.format_map({**spelling, **facts})


def window(stream: TextIO | None) -> int:
    """Return how many columns the terminal has that a stream writes to; 0 for whatever is no terminal."""
    if stream is None or not stream.isatty():
        return 0
    with contextlib.suppress(OSError, ValueError):  # of a console that is only painted
        return max(os.get_terminal_size(stream.fileno()).columns or USUAL_WINDOW, LEAST_WINDOW)
    return USUAL_WINDOW


def wide(text: str) -> int:
    """Return how many columns of a terminal text takes: full-width letters take two, accents on their own none."""
    if text.isascii():
        return len(text)
    full = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return full + sum(unicodedata.category(letter) not in ("Mn", "Me") for letter in text)


def fitted(text: str, width: int, indent: str = "  ") -> list[str]:
    """Return a line as lines of at most that width, 0 for any; broken between words, where that is possible.

    >>> fitted("Written: 東京 and more.csv", 13)
    ['Written: 東京', '  and', '  more.csv']
    """
    lines: list[str] = []
    while width and (len(text) > width or wide(text) > width):
        most = sum(total <= width for total in itertools.accumulate(map(wide, text[:width])))
        cut = text.rfind(" ", len(text) - len(text.lstrip(" ")), most + 1)
        next_word = text[cut + 1 : cut + 2 + width].partition(" ")[0]
        if cut < 0 or wide(next_word) + len(indent) > width:  # it would be broken on a line of its own, too
            cut = max(most, len(indent) + 1)
        lines.append(text[:cut])
        text = indent + text[cut:].lstrip(" ")
    return [*lines, text]


def text_page(lines: Iterable[str], tables: Mapping[str, pd.DataFrame] = NO_TABLES, *, most: int = LONGEST_CELL) -> str:
    """Return sentences, and tables by their titles, as plain text that fits the terminal, if stdout is one.

    Tables without rows are left out; cells are cut after ``most`` characters.

    >>> print(text_page(["A store"], {"cost": pd.DataFrame({"stage": ["poc", "fund"], "USD": [1, 1200]})}))
    A store
    <BLANKLINE>
    cost
      stage    USD
      poc        1
      fund   1,200
    """
    width = window(sys.stdout)
    parts = [part for line in lines for part in fitted(plain(line, 0), width)]
    for title, table in tables.items():
        if len(table):
            cells = [[str(name), *column] for name, column in _readable(table, most).items()]
            columns = [*zip(cells, (pd.api.types.is_string_dtype(table[name]) for name in table), strict=True)]
            parts += ["", *fitted(plain(title, 0), width), *_text_table(columns, width)]
    return "\n".join(parts)


def _text_table(columns: Sequence[tuple[list[str], bool]], width: int) -> Iterator[str]:
    """Yield the lines of a table: of columns, each with whether it is of texts.

    Where it is too wide its texts are broken, and then columns stand below the others.
    """
    sizes = [max(map(wide, cells)) for cells, _ in columns]
    least = [min(size, LEAST_CELL) if text else size for size, (_, text) in zip(sizes, columns, strict=True)]
    least[0] = min(sizes[0], 2 * LEAST_CELL)  # it says whose row it is
    fitting = sum(total <= width for total in itertools.accumulate(size + GAP for size in least))
    here = max(2, fitting) if width else len(columns)
    sizes = sizes[:here]
    while width and sum(sizes) + GAP * len(sizes) > width:  # the widest; below its least only where nothing else helps
        sizes[max(range(len(sizes)), key=lambda place: (sizes[place] > least[place], sizes[place]))] -= 1
    for row in zip(*(cells for cells, _ in columns[:here]), strict=True):
        broken = [fitted(cell, size, "") for cell, size in zip(row, sizes, strict=True)]
        for parts in itertools.zip_longest(*broken, fillvalue=""):
            padded = [
                (str.ljust if text else str.rjust)(part, size + len(part) - wide(part))
                for part, size, (_, text) in zip(parts, sizes, columns[:here], strict=True)
            ]
            yield (" " * GAP).join(["", *padded]).rstrip()
    if columns[here:]:
        yield ""
        yield from _text_table([columns[0], *columns[here:]], width)


def html_page(
    lines: Iterable[str],
    tables: Mapping[str, pd.DataFrame] = NO_TABLES,
    *,
    more: str = "",
    most: int = LONGEST_CELL,
) -> str:
    """Return the same as HTML, everything escaped, and ``more`` after it, which is HTML already; in short lines.

    >>> html_page(["<b>"])
    '<div class="mathjax_ignore tex2jax_ignore"><p>&lt;b&gt;</p></div>'
    """
    parts = ["<p>" + "<br>\n".join(escaped(line, most=0) for line in lines) + "</p>"]
    for title, table in tables.items():
        if len(table):
            with pd.option_context("display.max_colwidth", None):
                markup = _readable(table, most).to_html(index=False, border=0, escape=True, classes=NO_MATHEMATICS)
            parts.append(f"<p><b>{escaped(title)}</b></p>{markup}")
    return LONG_LINE.sub(r"\1\n", f'<div class="{NO_MATHEMATICS}">' + "\n".join(parts) + f"{more}</div>")


def _readable(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return a table whose cells are text for people; an underscore in a heading is a blank."""
    return table.map(lambda cell: _readable_cell(cell, most)).rename(columns=lambda name: name.replace("_", " "))


def _readable_cell(cell: object, most: int) -> str:
    if isinstance(cell, str):
        return plain(cell, most)
    if cell is None or isinstance(cell, Decimal):
        return usd(cell)
    return f"{cell:,.1f}" if isinstance(cell, float) else f"{cell:,}"


def plain(text: str, most: int = LONGEST_CELL) -> str:
    r"""Return text without what a terminal would obey, and not longer than ``most`` (0: as long as it is).

    >>> plain("gemini\x1b[2J-3")
    'gemini?[2J-3'
    """
    shown = text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if not most or len(shown) <= most else shown[: most - 1] + "…"


def many(count: int, noun: str, plural: str = "") -> str:
    """Return a count and what is counted, with an s where there is not one of it, or in words that are given.

    >>> many(1, "row"), many(1200, "row"), many(0, "reply", "replies")
    ('1 row', '1,200 rows', '0 replies')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def whole_number(digits: str) -> float:
    """Return the number that digits spell; infinity for one of more digits than Python may be allowed to read."""
    return int(digits) if len(digits) <= MOST_DIGITS else math.inf


def perhaps(name: object, known: Iterable[object], index: Sequence[object] = ()) -> str:
    """Return a hint at what a name that is not known may stand for, or nothing; ``index`` names a table's index.

    >>> perhaps("fund.country", ["Name", "Country"]), perhaps("name", ["county"], index=["name"])
    (" Did you mean 'Country'?", " 'name' is the index: df.reset_index() makes it a column.")
    """
    if name in index:
        return f" {name!r} is the index: df.reset_index() makes it a column."
    words = {_words(other): other for other in known}
    whole = _words(name)
    like = [near for part in (whole, whole.rpartition(" ")[2]) for near in difflib.get_close_matches(part, words, 1)]
    return f" Did you mean {words[like[0]]!r}?" if like else ""


def _words(name: object) -> str:
    """Return a name without case and signs."""
    return re.sub(r"[\W_]+", " ", str(name)).casefold()


def usd(value: Decimal | None) -> str:
    """Return an amount for people: four decimals, of a very small one two digits that count.

    >>> usd(Decimal("1234.5")), usd(Decimal("0.00001234")), usd(Decimal(0)), usd(None)
    ('1,234.5000', '0.000012', '0.0000', 'unknown')
    """
    if value is None:
        return "unknown"
    digits = 4 if not value or abs(value) >= Decimal("0.001") else 1 - value.adjusted()
    return f"{value:,.{digits}f}"


def escaped(text: str, most: int = LONGEST_CELL) -> str:
    """Return text for HTML, wherever in it, not longer than ``most`` (0: as long as it is)."""
    return html.escape(plain(text, most))


def duration(seconds: float) -> str:
    """Return a time span for people.

    >>> duration(4.2), duration(75), duration(7260)
    ('4 s', '1 min 15 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def amount(usd: float, scale: float = 0.0) -> str:
    """Return an amount for people: cents, and four digits where neither it nor what it grows to reaches a dollar.

    >>> amount(24.018), amount(0.0153), amount(0.0153, scale=40)
    ('24.02', '0.0153', '0.02')
    """
    return f"{usd:.2f}" if max(usd, scale) >= 1 or not usd else f"{usd:.4f}"


def rows_told(rows: Sequence[int] | npt.NDArray[np.integer], index: pd.Index[Any] | None = None) -> str:
    """Return rows in words, counted from 1; by their labels too, where the index is not just numbers from 0 on.

    A long list is cut, and says so.

    >>> rows_told([0]), rows_told([2, 6]), rows_told(range(9))
    ('row 1', 'rows 3 and 7', 'rows 1, 2, 3, 4, 5 and 4 more')
    >>> rows_told([1], pd.Index(["x6", "x7"]))
    "row 2 (index 'x7')"
    """
    names = [f"{row + 1}" for row in rows[:ROWS_TOLD]]
    if index is not None and not index.equals(pd.RangeIndex(len(index))):
        labels = index[np.asarray(rows[:ROWS_TOLD])].tolist()  # as Python's own numbers, whose repr is the number
        names = [f"{row} (index {_label(label)})" for row, label in zip(names, labels, strict=True)]
    more = [f"{len(rows) - ROWS_TOLD:,} more"] if len(rows) > ROWS_TOLD else []
    *first, last = [*names, *more]
    return f"rows {', '.join(first)} and {last}" if first else f"row {last}"


def _label(label: Any) -> str:
    text = str(label) if hasattr(label, "isoformat") else repr(label)
    return text if len(text) <= LONGEST_LABEL else f"{text[:LONGEST_LABEL]}…"
