"""The answer: what a stage asks for, as a pydantic model, and how it is read out of a reply's text.

`Answer` is the base of every stage's model. A paid answer is never lost to a single bad value, nor to a user's
validator or check that raises. It refuses to know where an answer is stored or what it cost.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from ..formatting import whole_number
from ..table.arrow import DEEPEST

CONFIDENCE = ("high", "medium", "low")
SEARCH_QUALITY = ("excellent", "good", "limited", "poor")
NOT_SAID = "not said"
"""The level of an answer that does not say it."""
KEEP: Any = type("Keep", (), {"__repr__": lambda self: "KEEP"})()
NOTHING = frozenset({"", "n/a", "none", "null", "unknown", "(unknown)", "not found", "not available", "-"})

DECODER = json.JSONDecoder(parse_int=whole_number)
BRACES = re.compile(r"[{}]"), re.compile(r'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)
"""The braces of a text: all of them, and those outside quotes."""


class Answer(BaseModel):
    """The fields asked of a record; subclass it and add your own, each with a default.

    It already has the model's view of its own answer, all of it optional:

    Attributes
    ----------
    confidence : {"high", "medium", "low"} or None
        How sure the model says it is.
    search_quality : {"excellent", "good", "limited", "poor"} or None
        How much the search brought, as the model says.
    fields_found : list of str or None
        What the model says it found; `enrichkit` counts for itself.
    notes : str or None
        One sentence.

    Examples
    --------
    >>> class Company(Answer):
    ...     industry: str | None = None
    >>> Company(industry=" Software ", confidence="High").model_dump(exclude_none=True)
    {'confidence': 'high', 'industry': 'Software'}
    """

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True, coerce_numbers_to_str=True)
    about_itself: ClassVar[tuple[str, ...]] = ("notes", "confidence", "search_quality", "fields_found")

    confidence: Literal["high", "medium", "low"] | None = None
    search_quality: Literal["excellent", "good", "limited", "poor"] | None = None
    fields_found: list[str] | None = None
    notes: str | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _words_for_nothing(cls, value: Any, info: ValidationInfo) -> Any:
        """Read "N/A", "unknown" and the like as no answer, unless the field must have one or offers that very word."""
        if not isinstance(value, str) or value.strip().lower() not in NOTHING:
            return value
        field = cls.model_fields[info.field_name or ""]
        return value if field.is_required() or value.strip() in _literals(field.annotation) else None

    @field_validator("confidence", "search_quality", mode="before")
    @classmethod
    def _lower_case(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value


def _literals(annotation: Any) -> set[Any]:
    """Return every choice that an annotation offers."""
    args = get_args(annotation)
    return set(args) if get_origin(annotation) is Literal else set().union(*map(_literals, args))


@dataclass(frozen=True, slots=True)
class Issue:
    """What a check found wrong with one field.

    Parameters
    ----------
    field : str
        The answer's field.
    check : str
        The check's name, in snake case.
    detail : str
        What was seen, for a person.
    instead : object
        ``None`` empties the field, another value replaces it; left out, the value stays as it is.

    Examples
    --------
    >>> print(Issue("website", "not_a_url", "n/a", instead=None))
    website: not_a_url: n/a
    """

    field: str
    check: str
    detail: str = ""
    instead: Any = KEEP

    @property
    def flags(self) -> bool:
        """Whether the value stays, and is doubtful."""
        return self.instead is KEEP

    def __str__(self) -> str:
        return f"{self.field}: {self.check}: {self.detail}" if self.detail else f"{self.field}: {self.check}"


Record = Mapping[str, str]
"""The input columns that have a value, with their text."""
Check = Callable[[Any, Record], Iterable[Issue]]
"""``check(answer, record)`` yields what looks wrong."""


def locate_object(text: str, names: frozenset[str] | None = None) -> tuple[int, dict[str, Any] | None]:
    """Return where the JSON object in a reply's text begins, and the object; None if the text holds none.

    Tolerates a Markdown fence and prose around it. The object has one of the names, if there are any to go by; or it
    is empty, which says that nothing was found. An object within a broken one does not count: a company of the
    portfolio would pass for the firm.

    >>> locate_object('Sure! ```json\\n{"role": "Partner"}\\n```', frozenset({"role"}))
    (14, {'role': 'Partner'})
    """
    empty: tuple[int, dict[str, Any] | None] = (-1, None)
    start = text.find("{")
    # A bound: hostile text of a million braces must not cost a million scans.
    for _ in range(50):
        if start < 0:
            break
        try:
            values, end = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            # Quotes may be what is broken: so the braces are counted with and without those in quotes.
            end = max(_closes(text, start, braces) for braces in BRACES)
        else:
            if names is None or names & values.keys():
                return start, values
            empty = empty if values else (start, values)
        start = text.find("{", end)
    return empty


def _closes(text: str, start: int, braces: re.Pattern[str]) -> int:
    """Return where the brace at ``start`` is closed; the text's end if nowhere."""
    depth = 0
    for match in braces.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if not depth:
            return match.end()
    return len(text)


def read_answer(model: type[Answer], text: str) -> tuple[Answer | None, list[Issue]]:
    """Return the typed answer in a reply's text, and the fields that had to be left out.

    ``None`` means that the text holds no object of this model: none at all, one that lacks a required field, or
    one of which no field is usable. A single field of the wrong type is left empty and named. A user's validator
    that raises makes the answer unreadable.
    """
    names = frozenset(model.model_fields)
    _, values = locate_object(text, names)
    if values is None:
        return None, []
    values = {name: value for name, value in values.items() if name in names}
    unstorable = [name for name, value in values.items() if not _storable(value)]
    issues = [Issue(name, "wrong_type", f"cannot be stored: {_short(values.pop(name))}") for name in unstorable]
    if "\ufffd" in text:  # a letter that came broken
        issues += [Issue(name, "no_utf8", _short(value)) for name, value in values.items() if "\ufffd" in str(value)]
    while True:
        try:
            return (model.model_validate(values) if values or not issues else None), issues
        except ValidationError as error:
            wrong = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]} & values.keys()
            if not wrong:
                return None, issues
            issues += [Issue(name, "wrong_type", _short(values.pop(name))) for name in sorted(wrong)]
        except Exception as error:  # noqa: BLE001 - the user's code; the reason is kept in the row
            return None, [Issue("", "read_failed", f"{type(error).__name__}: {error}")]


def check_answer(answer: Answer, checks: Iterable[Check], record: Record) -> tuple[dict[str, Any], list[Issue]]:
    """Return the values asked for as the checks leave them, and what the checks found.

    Each check sees what those before it have left. A user's check that raises is an issue itself.
    """
    model = type(answer)
    fields = [name for name in model.model_fields if name not in Answer.about_itself]
    issues: list[Issue] = []
    for check in checks:
        try:
            raised = list(check(answer, record))
            instead = {issue.field: issue.instead for issue in raised if not issue.flags}
            if not instead.keys().isdisjoint(fields):
                answer = model.model_validate(answer.model_dump() | instead)
        except Exception as error:  # noqa: BLE001 - the user's code; the reason is kept in the row
            raised = [Issue("", "check_failed", f"{check_name(check)}: {type(error).__name__}: {error}")]
        issues += raised
    values = answer.model_dump()
    return {field: _empty_as_none(values[field]) for field in fields}, issues


def check_name(check: Check) -> str:
    """Return a check's name; a `functools.partial` has its function's."""
    return str(getattr(getattr(check, "func", check), "__name__", type(check).__name__))


def _empty_as_none(value: Any) -> Any:
    """Return None for an answer that says nothing: blank text, an empty list, or an object without any value."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, list):
        return [inner for inner in value if inner is not None] or None
    if isinstance(value, dict) and all(inner is None for inner in value.values()):
        return None
    return value


def _storable(value: Any, depth: int = 0) -> bool:
    """Whether text is valid Unicode, numbers fit 64 bits and nesting ends: all else breaks a column at the seal."""
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth < DEEPEST and all(_storable(inner, depth + 1) for inner in inside)


def _short(value: Any) -> str:
    return reprlib.repr(value).encode("ascii", "backslashreplace").decode()
