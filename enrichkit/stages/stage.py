"""The stage: one question asked of a record — its prompt, its answer model, what it is about, its checks.

A stage is a frozen value with two fingerprints: of what it asks, and of how it reads a reply. It refuses to know a
store, a price or a client.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from importlib.resources import files
from typing import Any, Literal, get_args

from pydantic import BaseModel, RootModel

from ..errors import StageError
from ..formatting import Sentence, perhaps
from ..messages import Request
from ..pricing.prices import PREFIX
from ..reading.answer import Check, as_answer, check_name
from ..reading.model import readable
from ..reading.shape import Shape, marked
from ..table.cells import cell_text, is_missing
from .behaviour import behaviour
from .kinds import Kind, kinds_in

JSON = Literal["auto", "words", "schema"]
READER = 8
"""Increased when replies are read differently: stored replies are then read again, at no cost."""
ASKED = ("prompt", "search", "thinking", "max_output_tokens", "ignore_case")
"""The settings that make a question, as they stand."""
UNKNOWN = "⟦(unknown)⟧"
LONGEST_VALUE = 4000
"""Characters of a cell that are sent; the rest is cut off."""
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}\n]+)\}")
_FORMAT = re.compile(r"['\"].*|.*(?:![rsa]|:(?:.?[<>=^])?[-+ ]?#?\d*[,_]?(?:\.\d+)?[a-zA-Z%]?|:.*%.*)")
"""What looks like JSON, or like a format, and not like a column's name."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def prompt_text(name: str) -> str:
    """Return a prompt that comes with the package; the newline that ends its file does not belong to it."""
    return files(__package__).joinpath("prompts", f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")


SYSTEM = prompt_text("system")
"""The instruction that goes with every question."""


@dataclass(frozen=True)
class Stage:
    """One question asked of every record.

    Parameters
    ----------
    name : str
        Lower-case letters, digits and underscores.
    prompt : str
        What is asked. A column's name in braces, or an answer of an earlier stage (``{fund.website}``), is replaced
        in place by the record's value between ⟦ and ⟧; ``{{`` and ``}}`` stand for braces.
    answer : type
        A pydantic model with the fields asked for. What it says of itself comes from `Answer`, also where it is no
        subclass of that, but for names that are fields of its own.
    search : bool or "optional"
        Ground the answer with Google Search. Where the first answers all come without a search, the run ends, unless
        it is ``"optional"``.
    json : {"auto", "words", "schema"}
        How its JSON is asked for: by a schema beside the prompt, or by that schema in words. By default in words where
        the stage searches, since a search and a schema in one request are reported to cost the search or the answer.
    per : tuple of str, optional
        The columns that identify what is asked about: records that agree there share one question, asked and paid
        once. Default: every column that the prompt reads and no stage fills.
    requires : tuple of str
        Columns without which a record is skipped by this stage.
    checks : tuple of callable
        Kinds of field from `enrichkit.checks`, and then functions: ``check(answer, record)`` yields what looks wrong,
        each an `Issue`; ``record`` maps the input columns that have a value to their text.
    columns : str or mapping of str to str, optional
        The prefix of the answer's columns; default: the stage's name. ``""`` fills columns named like the fields. A
        mapping says of some fields which column they fill, such as ``{"website": "Website"}``.
    thinking : str or int, optional
        A level, or a budget in tokens. Default: the model's own.
    max_output_tokens : int
        Upper bound of what the model may write, thinking included, in tokens.
    model : str, optional
        A model for this stage alone.
    ignore_case : bool
        Whether the ``per`` columns are compared without case.
    optional : collection of str
        Names in the prompt that the table may lack.
    after : tuple of str
        Stages that come before this one, where they are asked at all.
    prepare : callable, optional
        Called before a run's first request, for what the checks have to load: no paid reply should wait for that.

    Raises
    ------
    StageError
        If the definition cannot work; the message names the part.

    Examples
    --------
    >>> class Company(BaseModel):
    ...     industry: str | None = None
    >>> stage = Stage("company", prompt="Research {name} in {country}.", answer=Company)
    >>> stage.reads, list(stage.answers)
    (('name', 'country'), ['company.industry'])
    """

    name: str
    _: KW_ONLY
    prompt: str
    answer: type[BaseModel]
    search: bool | Literal["optional"] = True
    json: JSON = "auto"
    per: tuple[str, ...] | None = None
    requires: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    columns: str | Mapping[str, str] | None = field(default=None, hash=False)
    thinking: str | int | None = None
    max_output_tokens: int = 8192
    model: str | None = None
    ignore_case: bool = False
    optional: frozenset[str] = frozenset()
    after: tuple[str, ...] = ()
    prepare: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        for fault in self._faults():
            raise StageError("Stage {name!r}: {fault}", name=self.name, fault=fault)
        for option in ("per", "requires", "checks", "after"):
            given = getattr(self, option)
            object.__setattr__(self, option, None if given is None else tuple(given))
        object.__setattr__(self, "optional", frozenset(self.optional))
        kinds = dict.fromkeys(kinds_in(marked(self._shape, self.checks)))
        object.__setattr__(self, "checks", (*kinds, *(each for each in self.checks if not isinstance(each, Kind))))
        object.__setattr__(self, "columns", dict(self.columns) if isinstance(self.columns, Mapping) else self.columns)
        object.__setattr__(self, "model", self.model and self.model.removeprefix(PREFIX))

    def _faults(self) -> Iterator[str]:
        """Yield why the definition cannot work; what is looked at later may need what was looked at before."""
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            yield "a stage's name is lower-case letters, digits, underscores."
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            yield "it needs a prompt."
        yield from _odd_braces(self.prompt)
        if not self.reads:
            yield "it asks the same about every record: its prompt names no column. Put one in braces, such as {name}."
        is_model = isinstance(self.answer, type) and issubclass(self.answer, BaseModel)
        if not is_model or issubclass(self.answer, RootModel):
            yield f"answer must be a pydantic model with a field for each column, not {self.answer!r}."
        for option in ("per", "requires", "checks", "after"):
            if isinstance(given := getattr(self, option), str):
                yield f"{option} must be a tuple, ({given!r},)."
        if not self.fields:
            yield f"the answer model {self.answer.__name__} asks for no field."
        if self.search not in (True, False, "optional"):
            yield "search must be True, False or 'optional'."
        if self.json not in get_args(JSON):
            yield "json must be 'auto', 'words' or 'schema'."
        if self.max_output_tokens < 1:
            yield "max_output_tokens must be > 0."
        yield from self._odd_columns()

    def _odd_columns(self) -> Iterator[str]:
        if not isinstance(self.columns, str | Mapping | None):
            yield "columns must be a prefix, or map fields to columns."
        for name, column in self.columns.items() if isinstance(self.columns, Mapping) else ():
            if name not in self.fields or not isinstance(column, str) or not column.strip():
                hint = "" if name in self.fields else perhaps(name, self.fields)
                yield f"columns must map fields of its answer to columns, not {name!r} to {column!r}.{hint}"
        if len(self.answers) < len(self.fields):
            yield "columns gives two fields one column."

    @functools.cached_property
    def _shape(self) -> Shape:
        about_itself = as_answer(self.answer).__about_itself__
        shape = readable(as_answer(self.answer)).shape
        # The facts first: a model that has to judge its answer before it is written judges nothing.
        fields = {field[0]: field for field in shape.fields}
        return replace(shape, fields=tuple(fields[name] for name in (*self.fields, *about_itself)))

    @functools.cached_property
    def fields(self) -> dict[str, Shape]:
        """The fields asked for, by name, without the model's view of itself."""
        model = as_answer(self.answer)
        return {name: shape for name, shape, _ in readable(model).shape.fields if name not in model.__about_itself__}

    @functools.cached_property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the answer, as it is sent."""
        return self._shape.schema()

    @functools.cached_property
    def reads(self) -> tuple[str, ...]:
        """The names in the prompt's braces, each once, in order."""
        return tuple(dict.fromkeys(name for name in _BRACES.findall(self.prompt) if name))

    @functools.cached_property
    def answers(self) -> dict[str, str]:
        """The columns that this stage writes, by name, with the answer's field."""
        named = self.columns if isinstance(self.columns, Mapping) else {}
        prefix = self.columns if isinstance(self.columns, str) else self.name
        return {named.get(field, f"{prefix}.{field}" if prefix else field): field for field in self.fields}

    def about(self, columns: Collection[str]) -> tuple[str, ...]:
        """Return the columns of a table that identify what is asked about; none if the prompt reads none of them.

        Parameters
        ----------
        columns : collection of str
            The table's columns.

        Returns
        -------
        tuple of str
            Those that records must agree in to share one question.

        Examples
        --------
        >>> from enrichkit import funds
        >>> funds.FUND.about(["fund.title", "fund.city"])
        ('fund.title',)
        """
        names = [name for name in self.reads if name not in self.answers] if self.per is None else self.per
        return tuple(name for name in names if name in columns)

    def question(self, model: str, per: Sequence[str]) -> str:
        """Return the fingerprint of what is asked: stage, prompt, fields, model, search, settings and ``per``.

        Parameters
        ----------
        model : str
            The model of the run, for a stage without one of its own.
        per : sequence of str
            The columns that identify what is asked about, as `about` returns them.

        Returns
        -------
        str
            16 hexadecimal digits. Another fingerprint is another question, and is asked again.

        Examples
        --------
        >>> from enrichkit import funds
        >>> funds.FUND.question("gemini-3.5-flash-lite", ["fund.title"])
        '2a46b36564de56bf'
        """
        settings = {name: getattr(self, name) for name in ASKED} | ({"json": self.json} if self.json != "auto" else {})
        model = self.model or model
        return _fingerprint(
            stage=self.name, system=SYSTEM, fields=_named(self._shape), model=model, per=list(per), **settings
        )

    @functools.cached_property
    def reading(self) -> str:
        """The fingerprint of how a reply is read: types, checks, columns, and what code of the user's own does."""
        checks = [repr(check) if isinstance(check, Kind) else check_name(check) for check in self.checks]
        columns = self.name if self.columns is None else self.columns
        code = behaviour([self.answer, *self.checks])
        return _fingerprint(
            reader=READER, types=self._shape.words, checks=checks, columns=columns, **{"code": code} if code else {}
        )


def _odd_braces(prompt: str) -> Iterator[Sentence]:
    """Yield why a prompt cannot be filled in: a brace that stands alone, or what is no name in a pair."""
    alone = re.search(r"[{}].{0,40}", _BRACES.sub("", prompt))
    odd = next((f"{{{name}}}" for name in _BRACES.findall(prompt) if _FORMAT.fullmatch(name.strip())), None)
    if alone or odd:
        yield Sentence(
            "its prompt has {odd!r}. In braces stands a column's name, with no format after ':'; write {{{{ for a "
            "brace that is meant as one, and }}}} for its end. For a column whose name has braces or colons, write "
            "another name, and map it by {names}.",
            odd=alone.group() if alone else odd,
        )


def _named(shape: Shape) -> Any:
    """Return the names and descriptions that are asked for, without types, whatever order a class has them in."""
    inner = shape.of or shape
    return sorted([name, about, list(part.choices), _named(part)] for name, part, about in inner.fields)


def _fingerprint(**facts: Any) -> str:
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def render(prompt: str, values: Mapping[str, Any]) -> str:
    """Return a prompt with ``values`` in place of the names in braces, each between ⟦ and ⟧.

    >>> render("Where is {name} of {country}?", {"name": "Acme"})
    'Where is ⟦Acme⟧ of ⟦(unknown)⟧?'
    """

    def put(match: re.Match[str]) -> str:
        name = match.group(1)
        return match.group()[0] if name is None else _delimited(values.get(name))

    return _BRACES.sub(put, prompt)


def _delimited(value: Any) -> str:
    if is_missing(value):
        return UNKNOWN
    text = _CONTROL.sub(" ", cell_text(value)).replace("⟦", "[").replace("⟧", "]")
    return f"⟦{text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + '…'}⟧"


def request_for(
    stage: Stage, question: str, values: Mapping[str, Any], *, model: str, timeout_seconds: float
) -> Request:
    """Return the request that asks a stage's question about ``values``; ``question`` is the question's id."""
    in_words = stage.json == "words" or (stage.json == "auto" and stage.search)
    return Request(
        question=question,
        stage=stage.name,
        model=stage.model or model,
        system=SYSTEM,
        text=render(stage.prompt, values),
        schema=stage.schema,
        json="words" if in_words else "schema",
        search=bool(stage.search),
        thinking=stage.thinking,
        max_output_tokens=stage.max_output_tokens,
        timeout_seconds=timeout_seconds,
    )


def waits_for(stage: Stage, earlier: Stage) -> bool:
    """Whether a stage asks only after an earlier one has answered."""
    return earlier.name in stage.after or not earlier.answers.keys().isdisjoint({*stage.reads, *stage.requires})
