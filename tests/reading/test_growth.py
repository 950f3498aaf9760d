"""What is twice as long takes about twice the time to read, whatever stands in it: no pattern is quadratic."""

from __future__ import annotations

import json
import time

import pytest

from enrichkit import Answer
from enrichkit.reading.answer import read_answer

UNITS = (
    "a", "A ", " ", "\n", "\t", "\u00a0", "\u200d", "a\u200d", "Ã", "Ã¼", "\uff21", "【", "】", "é", "\\", "\\\\",
    "\\u00", "1", "1,", "1.", "1 ", "1'", "-", "+", "~", "about ", "USD ", "k", "€", "%", ", ", "a,", "(a,", "; ",
    "• ", "· ", "a) ", "*", "**", "*a", "`", "```", "#", "# ", "_", "[", "]", "[[", "](", "[a](", "[a](b) ", "[1]",
    "[1] ", "[1, ", "[cite: 1", "[cite_start]", "<", ">", "<https://", "<a>", "&", "&a", "&#1", "&amp;", "no ",
    "not ", "the ", "n't ", "keine ", "is not ", "sorry, ", "but ", "{", "}", "{}", '"', '"a": ', "'", "/*", "//",
    "/* */", "null ", ": ", '{"a": ', '" + "', "True ",
)  # fmt: skip
FEW = (" ", "\n", "a,", "[1] ", "*a", "&a", "not ", "[a](")
ENDS = ("", "x", "[1]")


class Port(Answer):
    """A field of each kind that text is read for."""

    town: str | None = None
    crew: int | None = None
    goods: list[str] | None = None
    website: str | None = None


def seconds(text: str) -> float:
    """Return the CPU time of reading a text, the least of two."""
    spent = []
    for _ in range(2):
        start = time.process_time()
        read_answer(Port, text)
        spent.append(time.process_time() - start)
    return min(spent)


def grows(unit: str, size: int) -> None:
    """Read a field of a unit again and again: twice the size, less than three times the time."""
    for end in ENDS:
        for name in ("town", "crew", "goods", "website"):

            def text(size: int, name: str = name, end: str = end) -> str:
                words = "x" + unit * (size // len(unit)) + end
                return json.dumps({name: words})

            once, twice = seconds(text(size)), seconds(text(2 * size))
            if twice > 0.02:  # else it is noise, and nothing to wait for
                assert twice < 3 * once, (unit, name, end, once, twice)


def test_what_is_twice_as_long_takes_twice_the_time() -> None:
    """The units that patterns of blanks, commas, marks and links would stumble over."""
    for unit in FEW:
        grows(unit, 3_000)


@pytest.mark.slow
def test_no_pattern_is_quadratic() -> None:
    """Every unit, up to about the longest text that is undressed."""
    for unit in UNITS:
        grows(unit, 24_000)
