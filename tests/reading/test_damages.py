"""A valid answer that is damaged in any way that models have: the same values, or the difference is named."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from enrichkit import Answer
from enrichkit.reading.answer import read_answer


class Yard(BaseModel):
    """A part of a port."""

    name: str | None = None
    berths: int | None = None


class Port(Answer):
    """A field of each kind."""

    town: str | None = None
    crew: int | None = None
    income: float | None = None
    open: bool | None = None
    goods: list[str] | None = None
    owner: Yard | None = None
    yards: list[Yard] | None = None
    county: str | None = None


TOWNS = st.sampled_from(
    [
        *("Marl", "St. Anne's", "Łódź", 'The "Long Pier"', "Marl & Osk", "São João", "Osk, 1st floor", "北京（中国）"),
        *("ירושלים", "Москва", "Marl: by the sea", "C:\\port", "Osk {old}"),
    ]
)
YARDS = st.fixed_dictionaries({"name": TOWNS}, optional={"berths": st.integers(1, 99)})
ANSWERS = st.fixed_dictionaries(
    {"town": TOWNS, "crew": st.integers(0, 10**7)},
    optional={
        "income": st.floats(-1e9, 1e9).map(lambda value: round(value, 2)),
        "open": st.booleans(),
        "goods": st.lists(st.sampled_from(["fish", "salt", "iron ore", "R&D"]), min_size=1, max_size=4),
        "owner": YARDS,
        "yards": st.lists(YARDS, min_size=1, max_size=3),
    },
)


def each_text(change: Callable[[str], str]) -> Callable[[dict[str, Any]], str]:
    """Return a damage of every text of an answer."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: changed(part) for name, part in value.items()}
        if isinstance(value, list):
            return [changed(part) for part in value]
        return change(value) if isinstance(value, str) else value

    return lambda values: plain(changed(values))


def each_number(change: Callable[[float], str]) -> Callable[[dict[str, Any]], str]:
    """Return a damage of every whole number at the top."""
    return lambda values: plain(
        {name: change(value) if type(value) is int else value for name, value in values.items()}
    )


def plain(values: Any) -> str:
    """Return valid JSON."""
    return json.dumps(values, ensure_ascii=False)


broken_lines = each_text(lambda text: text.replace(" ", "\n"))


def mistaken(text: str) -> str:
    """Return a text whose bytes were taken for Windows' letters, if they can be."""
    wrong = text.encode().decode("cp1252", "replace")
    return text if "\ufffd" in wrong else wrong


def but(values: dict[str, Any], name: str, change: Callable[[Any], Any]) -> str:
    """Return an answer in which one field is another, if it is there."""
    return plain({**values, **({name: change(values[name])} if name in values else {})})


WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
SCHEMA = '{"type": "object", "properties": {"town": {"type": "string"}, "crew": {"type": "integer"}}}'
DAMAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "raw line breaks": lambda values: broken_lines(values).replace("\\n", "\n"),
    "trailing commas": lambda values: re.sub(r"(?<=[\"\de\]}])([}\]])", r",\1", plain(values)),
    "quotes inside": lambda values: plain(values).replace('\\"', '"'),
    "escaped apostrophes": lambda values: plain(values).replace("'", "\\'"),
    "single quotes": lambda values: plain(values).replace("'", "’").replace('\\"', "”").replace('"', "'"),
    "bare keys": lambda values: re.sub(r'"(\w+)":', r"\1:", plain(values)),
    "comments": lambda values: plain(values).replace("{", "{ // the answer\n", 1)[:-1] + " // done\n}",
    "fences": lambda values: f"```json\n{plain(values)}\n```",
    "prose around": lambda values: f"Sure, {{here}} it is:\n{plain(values)}\nHope this helps [1].",
    "wrapper": lambda values: plain({"result": {"port": values}}),
    "JSON in JSON": lambda values: plain(plain(values)),
    "JSON in a field": lambda values: but(values, "owner", plain),
    "schema echo before": lambda values: f"{SCHEMA}\n{plain(values)}",
    "plan before": lambda values: f'Plan: {{"town": null, "crew": null}}. Result: {plain(values)}',
    "key twice": lambda values: '{"crew": null, "town": "unknown", ' + plain(values)[1:],
    "another key twice": lambda values: '{"crew": 1, "town": "Osk", ' + plain(values)[1:],
    "one odd part": lambda values: plain({**values, "yards": [*values.get("yards", ()), "Fourth Yard"]}),
    "numbers as text": each_number(str),
    "numbers with commas": each_number("{:,}".format),
    "numbers with blanks": each_number(lambda number: f"{number:,}".replace(",", " ")),
    "numbers with a word": each_number("about {}".format),
    "numbers with a unit": lambda values: plain({**values, "crew": f"{values['crew']} crew"}),
    "truths as text": lambda values: but(values, "open", {True: "Yes", False: "no"}.get),
    "lists as text": lambda values: but(values, "goods", "; ".join),
    "entities": each_text(html.escape),
    "mojibake": each_text(mistaken),
    "escapes twice": each_text(lambda text: text.encode("ascii", "backslashreplace").decode().replace("\\x", "\\u00")),
    "citation marks": each_text("{} [cite: 1, 2]".format),
    "Markdown": each_text("**{}**".format),
    "invisible letters": each_text(lambda text: "\ufeff" + text.replace(" ", "\u200b ")),
    "full width": each_text(lambda text: text.translate(WIDE)),
    "words for nothing": lambda values: plain({"county": "n/a", **values}),
    "an excuse": lambda values: plain({"county": "I could not find the county.", **values}),
    "cut last brackets": lambda values: plain(values).rstrip("}]"),
}  # fmt: skip
SAFE = DAMAGES.keys() - {"one odd part", "another key twice", "mojibake", "quotes inside", "full width"}
"""What loses nothing at all."""


def hold(values: dict[str, Any], damage: str) -> None:
    """Read a damaged answer: what differs from the truth is named by its field, or as repaired."""
    text = DAMAGES[damage](values)
    if damage == "raw line breaks":
        values = json.loads(broken_lines(values))
    elif damage == "single quotes":
        values = json.loads(plain(values).replace("'", "’").replace('\\"', "”"))
    answer, issues = read_answer(Port, text)
    assert answer is not None, text
    got = answer.model_dump(exclude_none=True)
    named = {issue.top for issue in issues}
    for name in got.keys() | values.keys():
        same = got.get(name) == values.get(name)
        assert same or (damage not in SAFE and name in named), (text, name, got.get(name), issues)


@settings(max_examples=200, derandomize=True)
@given(ANSWERS, st.sampled_from(sorted(DAMAGES)))
def test_a_damaged_answer_is_read_with_the_same_values_or_named(values: dict[str, Any], damage: str) -> None:
    """Never an exception, never silence."""
    hold(values, damage)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@settings(max_examples=300)
@given(values=ANSWERS)
def test_every_damage_on_many_answers(damage: str, values: dict[str, Any]) -> None:
    """The same, of each damage a few hundred."""
    hold(values, damage)
