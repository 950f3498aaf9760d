"""What is four times as long takes about four times the time to read, whatever stands in it: nothing is quadratic."""

from __future__ import annotations

import itertools
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


def texts(unit: str, end: str, size: int) -> dict[str, str]:
    """Return texts that a unit, again and again, makes most of: each field's value, and what breaks an object."""
    words = "x" + unit * (size // len(unit)) + end
    values = {name: json.dumps({name: words}) for name in Port.model_fields if name not in Answer.__about_itself__}
    return values | {
        "broken": '{"town": "Marl", "crew": ' + words,
        "before": words + '{"town": "Marl"}',
        "after": '{"town": "Marl"}' + words[1:],
    }


@pytest.mark.slow
def test_no_pattern_is_quadratic() -> None:
    """Every unit, up to half the longest text that is undressed: four times the size, below eight times the time."""
    for unit, end in itertools.product(UNITS, ENDS):
        longer = texts(unit, end, 24_000)
        for kind, text in texts(unit, end, 6_000).items():
            spent = seconds(longer[kind])
            assert spent < 0.05 or spent < 8 * seconds(text), (unit, end, kind, spent)  # less than that is noise


@pytest.mark.parametrize("padding", [" ", "\n", "\t", "}", "]", ",", "\n}"])
def test_what_pads_an_answer_costs_nothing(padding: str) -> None:
    """Models are known to end in line breaks up to their limit; were it quadratic, this would take minutes."""
    answer, _ = read_answer(Port, '{"town": "Marl"}' + padding * 500_000)
    assert answer is not None
    assert answer.town == "Marl"
