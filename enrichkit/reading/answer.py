"""The answer: what a stage asks for, as a pydantic model, and how it is read out of a reply's text.

`Answer` is the base of every stage's model. A paid answer is never lost to a single bad value, nor to a user's
validator or check that raises. It refuses to know where an answer is stored or what it cost.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from .json_text import locate
from .model import extended, lacks, plain, readable
from .shape import Mark, Shape, marked
from .values import Reader, original

LOG = logging.getLogger("enrichkit")
CONFIDENCE = ("high", "medium", "low")
SEARCH_QUALITY = ("excellent", "good", "limited", "poor")
NOT_SAID = "not said"
"""The level of an answer that does not say it."""
OWN_CODE: Literal["own_code"] = "own_code"
"""The check, and the cause of a failure, of a user's code that raises."""
CHECK_FAILED = "check_failed"
"""The issue of a check that raises, or that speaks of no field."""
FAILED: dict[Any, object] = {}
"""The users' code whose failure this run has logged; once is enough, whatever the values."""
_CLEANS = re.compile(r"\w+_(?:cleaned|spelling)|read_as|undressed|no_utf8|says_nothing")
KEEP: Any = type("Keep", (), {"__repr__": lambda self: "KEEP"})()


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
    >>> Company(industry=" Software ", confidence="high").model_dump(exclude_none=True)
    {'confidence': 'high', 'industry': 'Software'}
    """

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True, coerce_numbers_to_str=True)
    __about_itself__: ClassVar[tuple[str, ...]] = ("notes", "confidence", "search_quality", "fields_found")

    confidence: Literal["high", "medium", "low"] | None = None
    search_quality: Literal["excellent", "good", "limited", "poor"] | None = None
    fields_found: list[str] | None = None
    notes: str | None = None


def only_cleans(check: str) -> bool:
    """Whether a check of this name only brings a value into its usual spelling, and casts no doubt on it."""
    return _CLEANS.fullmatch(check) is not None


def of_itself(answer: Answer, name: str) -> Any:
    """Return what an answer says of itself; None where a field of that name is the user's own."""
    return getattr(answer, name) if name in answer.__about_itself__ else None


@dataclass(frozen=True, slots=True)
class Issue:
    """What a check found wrong with one field.

    Parameters
    ----------
    field : str
        The answer's field.
    check : str
        The check's name, in snake case; one that ends in ``_cleaned`` or ``_spelling`` casts no doubt on the value.
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
    def top(self) -> str:
        """The answer's own field, where ``field`` is the path of a part."""
        return re.split(r"[.\[]", self.field)[0]

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


@functools.lru_cache(maxsize=256)
def as_answer(model: type[BaseModel]) -> type[Answer]:
    """Return a user's class with the model's view of its own answer, but for names that are fields of the class."""
    if issubclass(model, Answer):
        return model
    fields: dict[str, Any] = {
        name: (info.annotation, copy.copy(info))
        for name, info in Answer.model_fields.items()
        if name not in {*model.model_fields, *dir(model)}
    }
    made: Any = extended(model, {}, fields)
    made.__about_itself__ = tuple(name for name in Answer.__about_itself__ if name in fields)
    return cast("type[Answer]", made)


@functools.lru_cache(maxsize=256)
def _shape(model: type[Answer], marks: tuple[Mark, ...]) -> Shape:
    return marked(readable(model).shape, marks)


def read_answer(
    model: type[BaseModel], text: str, *, repair: bool = True, checks: Iterable[Check] = ()
) -> tuple[Answer | None, list[Issue]]:
    """Return the typed answer in a reply's text, and what was done to read it, by the marks among the checks too.

    ``None`` means that the text holds no object of this model; without ``repair``, none that stands there whole; or
    that a user's validator raised something else than `ValueError`: that is the only issue then. A value that cannot be
    used, or that a validator refuses, is left empty and named. What a validator says of the whole is an issue.
    """
    answer = as_answer(model)
    known = readable(answer)
    about_itself = frozenset(answer.__about_itself__)
    located = locate(text, known.shape.names - about_itself, repair=repair)
    if located.values is None and any(name in text for name in about_itself):
        located = locate(text, about_itself, repair=repair)
    if located.values is None:
        return None, []
    reader = Reader()
    values = reader.fields(_shape(answer, tuple(check for check in checks if isinstance(check, Mark))), located.values)
    issues = [Issue("", check, detail) for check, detail in located.notes] + [Issue(*note) for note in reader.notes]
    ours = {} if answer is model else {name: values.pop(name) for name in about_itself & values.keys()}
    for kind in known.kinds:
        before = None
        while values != before:
            before = values
            try:  # as JSON, of which also a strict model takes dates, sets and members of an Enum
                made = kind.model_validate_json(json.dumps(values, default=str))
                return cast("Answer", made.model_copy(update=ours) if ours else made), issues
            except ValidationError as error:
                before = copy.deepcopy(values)
                refused = [_refused(values, problem) for problem in error.errors()]
                values = _without_gaps(values)
                issues += refused if values != before or kind is known.kinds[0] else ()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code; loud, and kept in the row
                if not lacks(known.shape, values):
                    return None, [Issue("", OWN_CODE, _loud(model, model.__name__, error))]
                said = Issue("", "not_valid", f"{type(error).__name__}: {error}; values are missing")
                issues += [said] if said not in issues else ()
    return cast("Answer", kind.model_construct(**values, **ours)), issues


def _loud(code: Any, name: str, error: BaseException) -> str:
    """Return what a user's code raised, and where; its traceback goes to the log, once a run."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    key, mark = (code, where) if isinstance(code, type) else id(code), object()
    if FAILED.setdefault(key, mark) is mark:  # of many workers, the first
        LOG.error("Your own code failed on a paid answer, which is kept (%s):", name, exc_info=error)
    return f"{name}: {type(error).__name__}: {f'{error}'[:150]} ({where})"


def _refused(values: dict[str, Any], problem: Mapping[str, Any]) -> Issue:
    """Empty the smallest part that a validator refuses, and return what it says of it."""
    holder, part, path = None, values, ""
    for step in problem["loc"]:
        inside = step in part if isinstance(part, dict) else isinstance(part, list) and isinstance(step, int)
        if not inside:  # a default that is refused, or a step of pydantic's own
            break
        holder, key, part = part, step, part[step]
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    if holder is not None:
        holder[key] = None
    return Issue(path.removeprefix("."), "not_valid", f"{problem['msg']}: {original(problem['input'])}")


def _without_gaps(value: Any) -> Any:
    """Return a value without the parts that were emptied."""
    if isinstance(value, dict):
        return {name: kept for name, part in value.items() if (kept := _without_gaps(part)) is not None}
    return [kept for part in value if (kept := _without_gaps(part)) is not None] if isinstance(value, list) else value


def check_answer(answer: Answer, checks: Iterable[Check], record: Record) -> tuple[dict[str, Any], list[Issue]]:
    """Return the values asked for as the checks leave them, and what the checks found.

    Each check sees what those before it have left. A user's check that raises, or speaks of what is no field, is an
    issue itself.
    """
    model = type(answer)
    fields = [name for name in model.model_fields if name not in model.__about_itself__]
    issues: list[Issue] = []
    for check in checks:
        raised: list[Issue] = []
        try:
            raised = list(check(answer, record) or ())
            instead = {issue.field: issue.instead for issue in raised if not issue.flags}
            if not instead.keys().isdisjoint(fields):
                answer = _changed(answer, {field: instead[field] for field in fields if field in instead})
            for issue in raised:
                if issue.top not in model.model_fields and not _is_column(issue.field, record):
                    raise LookupError(f"an issue about {issue.field!r}, which is no field of the answer")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code; loud, and kept in the row
            raised.append(Issue("", CHECK_FAILED, _loud(check, check_name(check), error)))
        issues += raised
    return {field: _empty_as_none(plain(getattr(answer, field))) for field in fields}, issues


def _changed(answer: Answer, instead: Mapping[str, Any]) -> Answer:
    """Return an answer with other values in some fields, which need not please the validators of the whole."""
    kinds = {name: _adapter(type(answer), name) for name in instead}
    return answer.model_copy(update={name: kinds[name].validate_python(value) for name, value in instead.items()})


@functools.lru_cache(maxsize=1000)
def _adapter(model: type[Answer], field: str) -> TypeAdapter[Any]:
    info = model.model_fields[field]
    kind: Any = Annotated[(info.annotation, *(info.metadata or [None]))]
    return TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=True))


def _is_column(field: str, record: Record) -> bool:
    """Whether an issue's field is a column of the record, or the last part of one's name."""
    return bool(field) and any(column == field or column.endswith(f".{field}") for column in record)


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
