"""Texts that nobody should write: the right values, or none with a name; never a company's for the firm's."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest
from pydantic import BaseModel

from enrichkit import Answer
from enrichkit.messages import Support
from enrichkit.reading.answer import read_answer
from enrichkit.reading.grounding import evidence


class Company(BaseModel):
    """A company, whose fields are called like the firm's."""

    name: str | None = None
    town: str | None = None
    crew: int | None = None


class Firm(Answer):
    """A firm."""

    name: str | None = None
    town: str | None = None
    crew: int | None = None
    fund_size: float | None = None
    goods: list[str] | None = None
    path: str | None = None
    owner: Company | None = None
    portfolio: list[Company] | None = None


MARL = {"town": "Marl", "crew": 14}
GOOD = json.dumps(MARL)
READ = [
    f"```json\n{GOOD}\n```\nCorrected:\n```json\n{GOOD}\n```",
    f'{GOOD}\n{{"notes": "fine"}}', f'{GOOD}\nNote: {{"town": null}} was the form.',
    f'{GOOD}\nForm: {{"town": "string", "crew": "integer"}}', f'{GOOD}\nForm: {{"town": <town>, "crew": <number>}}',
    f'Draft: {{"town": "Osk", "crew": 3}}. Final: {GOOD[:-1]},}}', f"{{{GOOD}}}", f"[[{GOOD}]]",
    f"{GOOD}]", f"{GOOD}}}",
    f'{{"status": "ok", "result": {GOOD}}}', f'{{"data": [{GOOD}], "sources": ["a"]}}', f'"result": {GOOD[:-1]},}}}}',
    '{"TOWN": "Marl", " Crew:": 14}', '{"**town**": "Marl", "`crew`": 14}', '{"\\ufefftown": "Marl", "crew": 14}',
    "[1] says so. " * 99 + GOOD, '{"town": "M\\u0061rl", "crew": 14,}', "{'town': 'Marl', 'crew': 14, 'open': None}",
    f"<think>no</think>{GOOD}", '{"town": "Marl" [2], "crew": 14 [1, 2]}',
    f"{GOOD}, {GOOD}", f'[{{"town": null}}, {GOOD}]', '{"town": "Marl", # "town": "Osk"\n"crew": 14}',
]  # fmt: skip
VALUES: dict[str, dict[str, Any]] = {
    '{"Fund Size": 5, "fund_size": null}': {"fund_size": 5.0}, '{"fundSize": 5,}': {"fund_size": 5.0},
    '{"owner": {"Town": "Osk"}}': {"owner": {"town": "Osk"}}, '{"path": "R\\&D, 5\\%",}': {"path": "R&D, 5%"},
    '{"path": "\\beta \\frac"}': {"path": "\\beta \\frac"}, '{"town": "M \\ud83d\\ude00",}': {"town": "M 😀"},
    "{'crew': 1'000}": {"crew": 1000}, '{"crew": 1_000,}': {"crew": 1000}, '{"crew": ~14,}': {"crew": 14},
    '{"town": null, "crew": null,}': {},
}  # fmt: skip
LOST = [
    '{"town": "Marl"}\n{"crew": 14}', '{"town": "Marl" "Osk", "crew": 14}', '{"town": "Marl" or "Osk", "crew": 14}',
    '{"town": "Marl\\u00", "crew": 14}', '{"town": "Marl\\", "crew": 14}', "{'town': u'Marl', 'crew': 14}",
    '{"town": "Marl", "Osk", "crew": 14}', '{"town" "Marl", "crew" 14}', "town: Marl\ncrew: 14", '{"crew": 1\n2}',
    "{\n town: Marl\n crew: 14\n}", '{"town": "Marl", "crew":', '{"town": "Marl",', "{'goods': {'a', 'b'}, 'crew': 14}",
    '[{"town": "Marl"}, {"town": "Osk"}]', '{«town»: «Marl», «crew»: 14}', '{”town”: ”Marl”, ”crew”: 14}',
    '{"crew": 0x1F,}', '{"crew": 1/2}', '{"crew": --14}', '{"crew": 14-}', '{"crew": 1e,}', '{"crew": 1e400}',
]  # fmt: skip


def test_what_models_do_to_json_is_read() -> None:
    """Fences twice, drafts, forms, wrappers, lists, keys in another dress, citations, escapes of other languages."""
    for text, values in {**dict.fromkeys(READ, MARL), **VALUES}.items():
        answer, _ = read_answer(Firm, text)
        assert answer is not None, text
        assert answer.model_dump(exclude_none=True, exclude={"notes"}) == values, text


def test_what_is_not_sure_is_not_read_and_not_silent() -> None:
    """No value that may be another, and an issue where one is lost."""
    for text in LOST:
        answer, issues = read_answer(Firm, text)
        got = answer.model_dump(exclude_none=True) if answer else {}
        assert got.items() <= MARL.items(), text
        assert answer is None or issues, text


TWICE = {
    '{"town": "Marl", "town": null, "crew": 14}': 0, '{"town": "n/a", "Town": "Marl", "TOWN": "-", "crew": 14}': 0,
    '{"crew": 14, "crew": "unknown", "town": "Marl", "town": "I could not find the town."}': 0,
    '{"town": "Marl", "town": ["-"], "crew": 14, "crew": 14.0}': 0, '{"town": "Osk", "Town": "Marl", "crew": 14}': 1,
    '{"owner": {"town": "Marl"}, "owner": {"town": null}, "portfolio": [{"crew": 14}], "portfolio": [null, {}]}': 0,
    '{"portfolio": [{"crew": 3, "crew": 14, "crew": null}], "owner": {"town": "Osk", "town": "?", "town": "Marl"}}': 2,
}  # fmt: skip


def test_a_key_twice() -> None:
    """A value beats none, however that is said and at every depth; of two values the last stands, and is named."""
    for text, named in TWICE.items():
        answer, issues = read_answer(Firm, text)
        assert answer is not None
        parts = [answer, answer.owner or Company(), *(answer.portfolio or [])]
        assert ({part.town for part in parts} - {None}, {part.crew for part in parts} - {None}) == ({"Marl"}, {14}), (
            text
        )
        assert [issue.check for issue in issues] == ["said_twice"] * named, text


BREAKS = [
    ("}]", "}"), ("]}", "}"), ("[{", "{"), ("[{", "["), ('"portfolio": ', '"portfolio" '), ('"portfolio": ', ""),
    ("}, {", "} {"), ("}, {", " "), ("}, {", ", "), ("3}", "3}}"), ("5}", "5]"), ("}]", "}}]"), ("}]", "]}"),
    ('"Osk"', '"Osk'), ('"Osk"', 'Osk"'), ('"Osk"', "Osk"), ('"Osk"', '"Osk" "x"'), ('"Marl"', '"Marl'), (", ", " "),
    ('"Marl"', 'Marl"'), ('"Marl"', '"Marl\\"'), (": 14", ": "), ('"crew": ', '"crew" '), ('{"', '"'), ("}]", "}];"),
    ('{"name": "Ulm', '"name": "Ulm'), ('"name": "Ulm', '{"name": "Ulm'), ("}]", "}, ...]"), ("}]", "}, // more\n]"),
    ('"', "'"), ('"', "“"), ('"town"', "town"), (": ", " "), ("{", "("), ("}", ""), ("]", ""), ("[", ""), ("{", "{{"),
    ("}", "}}"), ('"Osk AG"', '"Osk }AG'), (",", ",,"),
]  # fmt: skip
FIRM = {"name": "Kelp Fund", "town": "Marl", "crew": 14}
COMPANIES = [{"name": "Osk AG", "town": "Osk", "crew": 3}, {"name": "Ulm Oy", "town": "Ulm", "crew": 5}]


@pytest.mark.parametrize(
    "whole",
    [
        {**FIRM, "portfolio": COMPANIES}, {"portfolio": COMPANIES, **FIRM},
        {"result": {**FIRM, "portfolio": COMPANIES}}, {"owner": COMPANIES[0], **FIRM}, {"companies": COMPANIES, **FIRM},
        {"companies": COMPANIES},
    ],
    ids=["last", "first", "wrapped", "owner", "unknown", "alone"],
)  # fmt: skip
def test_no_company_passes_for_the_firm(whole: dict[str, Any]) -> None:
    """However the text is broken, each once and everywhere: of some 600 texts none; what is missing is named."""
    sound = json.dumps(whole)
    broken = {sound.replace(old, new, often) for old, new in BREAKS for often in (1, -1)}
    broken |= {new.join(sound.rsplit(old, 1)) for old, new in BREAKS} | {sound[:end] for end in range(9, len(sound), 9)}
    for text in {*broken, *(f"Here:\n```json\n{text}\n```" for text in broken)} - {sound}:
        answer, issues = read_answer(Firm, text)
        if answer is None:
            continue
        assert "Kelp" in (answer.name or "Kelp"), text
        assert "Marl" in (answer.town or "Marl"), text
        assert answer.crew in (None, 14, 1), text  # 1: a number that was cut off within looks whole
        assert issues or {name: getattr(answer, name) for name in FIRM} == FIRM, text
        for part in (answer.portfolio or []) + [answer.owner] * (answer.owner is not None):
            towns = {(part.name or "")[:3], (part.town or "")[:3], {3: "Osk", 5: "Ulm"}.get(part.crew or 0, "")} - {""}
            assert len(towns) == 1, text


def sources(text: str, marks: list[Support], names: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Return the sources behind each field."""
    return {name: backing.sources for name, backing in evidence(text, marks, frozenset(names)).items()}


def test_pages_back_the_value_that_was_kept() -> None:
    """Of a key said twice, and in a repaired text: by the value where it stands once, else by none."""
    twice = '{"town": "Osk", "town": "Marl", "crew": 14, "crew": null}'
    places = enumerate(map(twice.index, ("Osk", "Marl", "14")))
    marked = [Support(start, start + 2, (place,)) for place, start in places]
    assert sources(twice, marked, FIRM) == {"town": (1,), "crew": (2,)}
    broken = "{'portfolio': [{'town': 'Osk', 'crew': 3}], 'town': 'Osk', 'name': 'Kélp', 'crew': 14,}"
    marked = [Support(0, broken.index("}"), (0,)), Support(len(broken) - 20, len(broken), (1,))]
    assert sources(broken, marked, {"town", "crew", "name"}) == {"name": (1,), "crew": (1,)}
