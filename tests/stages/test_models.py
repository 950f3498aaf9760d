"""Any pydantic class: it works with a reply that obeys its schema, or is refused when the stage is made."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import pandas as pd
import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    PastDate,
    PositiveInt,
    PrivateAttr,
    RootModel,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypeAliasType, TypedDict

import enrichkit
from enrichkit import Answer, Issue, Stage
from enrichkit.errors import StageError
from enrichkit.gemini.client import in_words
from enrichkit.messages import Reply, Support
from enrichkit.reading.answer import read_answer
from enrichkit.stages.stage import request_for
from enrichkit.store.rows import read_decoded
from support.clients import Teller

T = TypeVar("T")
Knots = NewType("Knots", float)
FRAME = pd.DataFrame({"name": ["Holm"]})


class Kind(enum.Enum):
    """A choice of texts."""

    SEA = "sea port"
    RIVER = "river port"


class Size(enum.IntEnum):
    """A choice of names."""

    SMALL = 1
    BIG = 2


class Lenient(enum.Enum):
    """A choice that takes whatever is written."""

    SEA = "sea"
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> Lenient:
        return cls.OTHER


class Yard(BaseModel):
    """A nested class that requires its fields."""

    name: str
    berths: int


class Page(BaseModel, Generic[T]):
    """A generic class."""

    items: list[T] = []
    best: T | None = None


def made(name: str, /, _config: Any = None, _rules: Any = None, **fields: Any) -> type[BaseModel]:
    """Return a class with these fields, each a type or a type and a default."""
    space: dict[str, Any] = {"__module__": __name__, "__annotations__": {}, **(_rules or {})}
    for field, given in fields.items():
        kind, *default = given if isinstance(given, tuple) else (given,)
        space["__annotations__"][field] = kind
        space |= dict.fromkeys([field] if default else [], *default)
    if _config:
        space["model_config"] = _config
    return type(BaseModel)(name, (BaseModel,), space)


def capital(text: str) -> str:
    """Refuse a name in small letters."""
    if text[:1].islower():
        raise ValueError("begin with a capital")
    return text


DAY, TIME = datetime.date(1987, 5, 3), datetime.datetime(2024, 5, 3, 10, 30)
CLASSES: dict[str, tuple[type[BaseModel], str, dict[str, Any]]] = {
    "plain": (made("Port", town=(str | None, None), crew=(int | None, None)), '{"town": "Marl"}', {"town": "Marl"}),
    "required": (made("Port", town=str, crew=int), '{"town": "Marl", "crew": 14}', {"town": "Marl", "crew": 14}),
    "notes": (made("Port", notes=str, confidence=float), '{"notes": "x", "confidence": 0.5}', {"notes": "x"}),
    "alias": (made("Port", crew=(int | None, Field(None, alias="Crew Size"))), '{"Crew Size": 14}', {"crew": 14}),
    "by_name": (made("Port", crew=(int | None, Field(None, alias="Size"))), '{"crew": 14}', {"crew": 14}),
    "aliases": (
        made(
            "Port",
            crew=(int, Field(validation_alias=AliasChoices("staff", AliasPath("people", 0, "count")))),
            town=(str, Field(serialization_alias="place")),
        ),
        '{"people": [{"count": 14}], "place": "Marl"}',
        {"crew": 14, "town": "Marl"},
    ),
    "camel": (
        made("Port", ConfigDict(alias_generator=to_camel), crew_size=int, main_yard=made("Part", None, yard_name=str)),
        '{"crewSize": 14, "main_yard": {"yard_name": "A"}}',
        {"crew_size": 14, "main_yard": {"yard_name": "A"}},
    ),
    "enum": (
        made("Port", kind=Kind, size=Size),
        '{"kind": "Sea Port", "size": "big"}',
        {"kind": "sea port", "size": "BIG"},
    ),
    "literal": (
        made("Port", rank=Literal[1, 2, 3], kind=Literal["C", "C++", "C#"], open=Literal[True], of=Literal[Kind.SEA]),
        '{"rank": "2", "kind": "C#", "open": true, "of": "sea port"}',
        {"rank": 2, "kind": "C#", "open": True, "of": "sea port"},
    ),
    "times": (
        made("Port", opened=datetime.date, closed=PastDate, seen=datetime.datetime, daily=datetime.time),
        '{"opened": "1987-05-03", "closed": "3 May 1987", "seen": "2024-05-03T12:30:00+02:00", "daily": "10:00:00"}',
        {"opened": DAY, "closed": DAY, "seen": pd.Timestamp(TIME), "daily": "10:00:00"},
    ),
    "decimal": (
        made("Port", debt=Decimal, rate=int | float),
        '{"debt": 12.50, "rate": 3}',
        {"debt": Decimal("12.5"), "rate": 3.0},
    ),
    "url": (
        made("Port", site=HttpUrl, docs=HttpUrl | None, key=uuid.UUID),
        '{"site": "www.marl.example", "docs": "https://a.example/x", "key": "12345678123456781234567812345678"}',
        {"site": "https://www.marl.example/", "key": "12345678-1234-5678-1234-567812345678"},
    ),
    "dict": (
        made("Port", crews=dict[str, int], yards=dict[str, list[Yard]]),
        '{"crews": {"day": 3, "night": null}, "yards": {"A": [{"name": "x", "berths": 2}]}}',
        {"crews": {"day": 3}, "yards": {"A": [{"name": "x", "berths": 2}]}},
    ),
    "nested": (
        made("Port", yard=Yard, yards=list[Yard], best=Yard | None),
        '{"yard": {"name": "A", "berths": null}, "yards": [{"name": "B", "berths": 1}]}',
        {"yard": {"name": "A", "berths": None}, "yards": [{"name": "B", "berths": 1}], "best": None},
    ),
    "generic": (Page[Kind], '{"items": ["sea port"]}', {"items": ["sea port"], "best": None}),
    "sets": (
        made("Port", goods=set[str], place=tuple[float, float], more=tuple[int, ...]),
        '{"goods": ["salt", "fish"], "place": [1, 2.5], "more": [1]}',
        {"goods": ["fish", "salt"], "place": [1.0, 2.5], "more": [1]},
    ),
    "constraints": (
        made(
            "Port",
            crew=(int | None, Field(None, ge=1, le=99)),
            code=Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")],
            many=PositiveInt,
            goods=(list[Annotated[str, Field(min_length=2)]], Field(max_length=3)),
            speed=Knots,
        ),
        '{"crew": 99, "code": "NO", "many": 1, "goods": ["ab"], "speed": 9}',
        {"crew": 99, "code": "NO", "many": 1, "goods": ["ab"], "speed": 9.0},
    ),
    "validator": (
        made("Port", None, {"check": field_validator("town")(capital)}, town=str),
        '{"town": "Marl"}',
        {"town": "Marl"},
    ),
    "computed": (
        made("Port", None, {"double": computed_field(return_type=int)(property(lambda self: self.crew * 2))}, crew=int),
        '{"crew": null, "double": 4}',
        {"crew": None},
    ),
    "private": (made("Port", _seen=(int, PrivateAttr(0)), town=str), '{"town": "Marl"}', {"town": "Marl"}),
    "defaults": (
        made("Port", crew=(int, 0), goods=(list[str], Field(default_factory=lambda: ["fish"])), town=(str, "Osk")),
        "{}",
        {"crew": None, "goods": None, "town": None},
    ),
    "frozen": (
        made("Port", ConfigDict(frozen=True, extra="forbid", validate_default=True), crew=(int, 1), town=(str, "")),
        '{"crew": 14, "other": 3}',
        {"crew": 14, "town": None},
    ),
    "strict": (
        made("Port", ConfigDict(strict=True), opened=datetime.date, kind=Kind, goods=set[str], debt=Decimal, yard=Yard),
        '{"opened": "1987-05-03", "kind": "sea port", "goods": ["a"], "debt": 1.5, "yard": {"name": "A", "berths": 1}}',
        {"opened": DAY, "kind": "sea port", "goods": ["a"], "debt": Decimal("1.5"), "yard": {"name": "A", "berths": 1}},
    ),
    "root": (
        made("Port", goods=RootModel[list[str]], crew=RootModel[int] | None),
        '{"goods": ["fish"], "crew": 14}',
        {"goods": ["fish"], "crew": 14},
    ),
    "words_beside": (
        made("Port", crew=Annotated[int, "heads", {"unit": 1}, Field(gt=0)], days=TypeAliasType("Days", list[int])),
        '{"crew": 14, "days": [1]}',
        {"crew": 14, "days": [1]},
    ),
    "odd_limits": (
        made("Port", debt=(Decimal, Field(ge=Decimal("0.5"))), tons=(float, Field(lt=float("inf"), ge=Decimal(1)))),
        '{"debt": 0.30000000000000004, "tons": 3}',
        {"debt": None, "tons": 3.0},
    ),
    "decimals": (
        made("Port", debt=Decimal, each=dict[str, Decimal]),
        '{"debt": 12.333333333333334, "each": {"a": "0.1234567894"}}',
        {"debt": Decimal("12.333333333"), "each": {"a": Decimal("0.123456789")}},
    ),
    "one_type": (
        made("Port", site=HttpUrl | str, debt=Decimal | None),
        '{"site": "see the port", "debt": -3}',
        {"site": "see the port", "debt": Decimal(-3)},
    ),
    "by_value": (
        made("Port", ConfigDict(use_enum_values=True), size=Size, sizes=list[Size], kind=Kind),
        '{"size": "BIG", "sizes": ["SMALL"], "kind": "sea port"}',
        {"size": 2, "sizes": [1], "kind": "sea port"},
    ),
    "own_cleaning": (
        made(
            "Port",
            None,
            {
                "_rounded": field_validator("crew", mode="before")(lambda value: round(value)),
                "_other": field_validator("kind", mode="wrap")(lambda value, _: "sea" if value == "sea" else "other"),
            },
            crew=int,
            kind=Literal["sea", "other"],
            year=Annotated[int, BeforeValidator(lambda text: int(str(text)[-5:-1]))],
            lenient=Lenient,
        ),
        '{"crew": 13.7, "kind": "a lake", "year": "in the 1990s", "lenient": "a lake"}',
        {"crew": 14, "kind": "other", "year": 1990, "lenient": "other"},
    ),
    "whole_cleaning": (
        made(
            "Port",
            None,
            {"_first": model_validator(mode="before")(lambda values: values | {"crew": len(values["crew"])})},
            crew=int,
        ),
        '{"crew": "Ann and Bo"}',
        {"crew": 10},
    ),
    "number_of_choice": (made("Port", rank=Literal[1, 2]), '{"rank": 2.0}', {"rank": 2}),
    "names_taken": (
        made(
            "Port",
            None,
            {"notes": computed_field(return_type=str)(property(lambda self: self.town)), "confidence": lambda self: 1},
            town=str,
            about_itself=str,
        ),
        '{"town": "Marl", "about_itself": "x", "notes": "y"}',
        {"town": "Marl", "about_itself": "x"},
    ),
    "star": (
        made("Port", None, {"_number": field_validator("*")(lambda value: value + 0)}, crew=int),
        '{"crew": 14, "confidence": "high", "notes": "x"}',
        {"crew": 14},
    ),
    "inherited": (
        type("Port", (Answer,), {"__annotations__": {"crew": int}, "__module__": __name__}),
        '{"crew": "14 crew", "confidence": "high"}',
        {"crew": 14},
    ),
}  # fmt: skip


REFUSED_VALUES = {
    "odd_limits": ["debt: not_valid: Input should be greater than or equal to 0.5: '0.30000000000000004'"]
}


def test_classes_work_and_their_values_come_back(tmp_path: Path) -> None:
    """One payment each, no issue but of how a value was read; equal from `run`, from `read`, and when read anew."""
    stages = [
        Stage(name, prompt=f"{name} of {{name}}:", answer=model, search=False) for name, (model, *_) in CLASSES.items()
    ]
    client = Teller({f"{name} of ": reply for name, (_, reply, _) in CLASSES.items()})
    settings: dict[str, Any] = {"stages": stages, "key": "name", "client": client, "model": "m", "progress": False}
    out = tmp_path / "out"
    for anew in (False, True):
        row, stored = enrichkit.run(FRAME, out=out, reread=anew, **settings).iloc[0], enrichkit.read(out).iloc[0]
        for name, (_, _, values) in CLASSES.items():
            for field, value in values.items():
                for got in (row[f"{name}.{field}"], stored[f"{name}.{field}"]):
                    assert got is pd.NA or got is None if value is None else got == value, (name, field, got)
            told = [issue for issue in stored[f"{name}._issues"] if ": read_as: " not in issue]
            assert told == REFUSED_VALUES.get(name, []), name
    assert len(client.asked) == len(CLASSES)
    assert stored["star._confidence"] == "high"
    assert stored["notes.notes"] == "x"
    assert stored["inherited._confidence"] == "high"


class Node(BaseModel):
    """It holds itself."""

    children: list[Node] = []


class Tree(RootModel[list["Tree"]]):
    """So does this."""


class Typed(TypedDict):
    """No pydantic class."""

    name: str


class Pair(NamedTuple):
    """Nor this."""

    name: str


@dataclasses.dataclass
class Data:
    """Nor this."""

    name: str


REFUSED: dict[str, Any] = {
    "recursive": list[Node], "root": Tree, "any": Any, "bytes": bytes, "secret": SecretStr, "list": list, "dict": dict,
    "keys": dict[int, str], "union": int | str, "unions": Yard | Kind, "tuple": tuple[int, str], "typed": Typed,
    "choices": Literal["sea"] | Literal["river"],
    "named": Pair, "dataclass": Data, "object": object, "callable": Callable[[], int], "variable": T,
    "literal": Literal[b"x"], "mixed": Literal[Kind.SEA, "x"], "enum": enum.Enum("Odd", {"A": (1, 2)}),
    "json": Json[int],
}  # fmt: skip


def test_what_cannot_work_is_refused_when_the_stage_is_made() -> None:
    """With the field, and the cure."""
    for name, kind in REFUSED.items():
        config = ConfigDict(arbitrary_types_allowed=True)
        with pytest.raises(StageError, match=r"'Port\.field.*(Use|Let|A model cannot hold itself)"):
            Stage(name, prompt="{name}", answer=made("Port", config, field=kind))
    for answer in (Data, Typed, RootModel[list[str]], made("Port"), int):
        with pytest.raises(StageError, match=r"a pydantic model with a field for each column|asks for no field"):
            Stage("port", prompt="{name}", answer=answer)  # type: ignore[arg-type]


def read(model: type[BaseModel], reply: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the values in a reply that are found, and what was done to read it."""
    answer, issues = read_answer(model, json.dumps(reply))
    assert isinstance(answer, model)
    found = {name: getattr(answer, name) for name in model.model_fields}
    return {name: value for name, value in found.items() if value is not None}, [str(issue) for issue in issues]


class Judged(BaseModel):
    """A class with constraints and validators of all kinds."""

    crew: int = Field(0, le=99)
    town: Annotated[str, Field(description="Its town", max_length=20)]
    begun: datetime.date
    ended: datetime.date

    _capital = field_validator("town")(capital)

    @model_validator(mode="after")
    def in_order(self) -> Judged:
        """Refuse an end before the beginning; what is missing it does not expect."""
        if self.ended < self.begun:
            raise ValueError("it ends before it begins")
        return self


def test_constraints_and_validators_say_what_they_refuse() -> None:
    """The field alone is emptied, with their words and the value; what one says of the whole flags it."""
    times = {"begun": "2020-01-01", "ended": "2021-01-01"}
    found, issues = read(Judged, {"crew": 300, "town": "marl", **times})
    assert found == {"begun": datetime.date(2020, 1, 1), "ended": datetime.date(2021, 1, 1)}
    assert issues == [
        "crew: not_valid: Input should be less than or equal to 99: 300",
        "town: not_valid: Value error, begin with a capital: 'marl'",
    ]
    found, issues = read(Judged, {"crew": 3, "town": "Marl", "begun": "2020-01-01", "ended": "2019-01-01"})
    assert (found["crew"], found["town"], found["ended"]) == (3, "Marl", datetime.date(2019, 1, 1))
    assert len(issues) == 1
    assert issues[0].startswith(": not_valid: Value error, it ends before it begins")
    found, issues = read(Judged, {"town": "Marl", "begun": "2020-01-01", "ended": None})
    assert found == {"town": "Marl", "begun": datetime.date(2020, 1, 1)}
    assert len(issues) == 1
    assert issues[0].startswith(": not_valid: TypeError: '<' not supported between")
    assert issues[0].endswith("; values are missing")


class Crossed(BaseModel):
    """A validator of one field that relies on another."""

    begun: int
    ended: Annotated[int, AfterValidator(abs)]

    @field_validator("ended")
    @classmethod
    def in_order(cls, ended: int, info: ValidationInfo) -> int:
        """Refuse an end before the beginning."""
        if ended < info.data["begun"]:
            raise ValueError("it ends before it begins")
        return ended


def test_a_validator_that_fails_on_what_is_missing_costs_no_value() -> None:
    """What it cannot judge stays, and is flagged."""
    assert read(Crossed, {"begun": 2000, "ended": -2010}) == ({"begun": 2000, "ended": 2010}, [])
    assert read(Crossed, {"begun": None, "ended": 1990}) == (
        {"ended": 1990},
        [": not_valid: TypeError: '<' not supported between instances of 'int' and 'NoneType'; values are missing"],
    )


class Hooked(BaseModel):
    """A class with hooks that expect what it requires."""

    crew: int
    town: str | None = None
    _next: int = PrivateAttr(0)

    def __init__(self, crew: int, **more: Any) -> None:
        super().__init__(crew=crew, **more)

    def model_post_init(self, context: Any) -> None:
        """Count on."""
        self._next = self.crew + 1

    @model_validator(mode="wrap")
    @classmethod
    def few(cls, values: Any, handler: Any) -> Hooked:
        """Refuse many."""
        answer: Hooked = handler(values)
        if answer.crew > 50:
            raise ValueError("too many")
        return answer


class Heir(BaseModel):
    """A class that has no subclass."""

    crew: int

    def __init_subclass__(cls, /, owner: str, **more: Any) -> None:
        super().__init_subclass__(**more)


def test_hooks_of_a_class_cost_no_answer() -> None:
    """Where a value is missing that they expect, they are left out, and named."""
    assert read(Hooked, {"crew": 3, "town": "Marl"}) == ({"crew": 3, "town": "Marl"}, [])
    found, issues = read(Hooked, {"crew": 60})
    assert (found, len(issues)) == ({"crew": 60}, 1)
    found, issues = read(Hooked, {"town": "Marl"})
    assert (found, len(issues)) == ({"town": "Marl"}, 1)
    assert issues[0].startswith(": not_valid: TypeError: ")
    with pytest.raises(StageError, match=r"The answer model Heir cannot have a subclass.*Take out what prevents that"):
        Stage("port", prompt="{name}", answer=Heir)
    with pytest.warns(UserWarning, match="shadows"):
        shadow = made("Shadow", json=str, copy=int)
    assert read(shadow, {"json": "a", "copy": 3}) == ({"json": "a", "copy": 3}, [])


def test_a_value_under_an_alias_is_backed_by_its_source() -> None:
    """As under the field's own name."""
    stage = Stage("port", prompt="{name}", answer=CLASSES["alias"][0])
    reply = Reply(text='{"Crew Size": 14}', supports=(Support(start=0, end=17, sources=(0,)),))
    assert read_decoded(stage, b"", reply, {}, {}).backed["crew"].sources == (0,)


def test_null_and_absent_are_not_found(tmp_path: Path) -> None:
    """An empty cell each, and one payment; a default is no finding, and checks see None."""
    seen = []

    def check(answer: Any, record: Any) -> list[Issue]:
        seen.append((answer.crew, answer.town))
        return []

    model = made("Port", crew=(int, 0), town=str)
    stage = Stage("port", prompt="Research {name}.", answer=model, search=False, checks=(check,))
    for place, reply in enumerate(('{"crew": null, "town": null}', "{}")):
        client = Teller(otherwise=reply)
        table = enrichkit.run(
            FRAME, stages=[stage], key="name", client=client, model="m", out=tmp_path / str(place), progress=False
        )
        assert table[["port.crew", "port.town"]].isna().all(axis=None)
        assert list(enrichkit.read(tmp_path / str(place))["port._fields_found"].iloc[0]) == []
        assert len(client.asked) == 1
    assert seen == [(None, None)] * 2


def test_constraints_are_told_and_make_no_other_question() -> None:
    """In the schema where every dialect has them, and in words."""
    model = CLASSES["constraints"][0]
    parts = Stage("port", prompt="{name}", answer=model).schema["properties"]
    crew = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 99}, {"type": "null"}]}
    assert parts["crew"] == crew | {"description": "at least 1, at most 99"}
    assert parts["code"] == {"type": "string", "description": "of the pattern ^[A-Z]{2}$"}
    assert parts["goods"]["items"] == {"type": "string", "description": "at least 2 characters"}
    assert parts["goods"]["maxItems"] == 3
    assert Stage("port", prompt="{name}", answer=Judged).schema["properties"]["town"]["description"] == (
        "Its town (at most 20 characters)"
    )
    request = request_for(Stage("port", prompt="{name}", answer=model), "id", {}, model="m", timeout_seconds=9)
    assert '"maximum":99}' in in_words(request).system
    assert "at least 1, at most 99" in in_words(request).system
    stages = [
        Stage("port", prompt="{name}", answer=made("Port", crew=(int | None, Field(None, le=le)))) for le in (98, 99)
    ]
    assert stages[0].question("m", ()) == stages[1].question("m", ())
    assert stages[0].reading != stages[1].reading


def test_a_check_gives_another_value_of_any_type() -> None:
    """It need not please the validators of the whole, and is what the class says: later checks see an object."""
    from enrichkit.reading.answer import check_answer

    model = made("Port", opened=datetime.date, yard=Yard | None, crew=int)
    answer, _ = read_answer(model, '{"opened": "1987-05-03", "crew": 3}')

    def first(answer: Any, record: Any) -> list[Issue]:
        yard = Issue("yard", "known", instead={"name": "A", "berths": 2})
        return [Issue("opened", "odd", instead=None), Issue("crew", "text", instead="4"), yard]

    def second(answer: Any, record: Any) -> list[Issue]:
        return [Issue("yard.berths", "seen", str(answer.yard.berths)), Issue("crew", "bad", instead="many")]

    assert answer is not None
    values, issues = check_answer(answer, (first, second), {})
    assert values == {"opened": None, "yard": {"name": "A", "berths": 2}, "crew": 4}
    assert [issue.check for issue in issues] == ["odd", "text", "known", "seen", "bad", "check_failed"]


@pytest.mark.parametrize("client", ["google-genai", "google-generativeai"])
def test_the_simulator_answers_every_type_as_it_is_asked(client: str, tmp_path: Path) -> None:
    """Both clients, each in its dialect of schemas: no value of a wrong type."""
    model = made(
        "Port", kind=Kind, size=Size, rank=Literal[1, 2], opened=datetime.date, seen=datetime.datetime, debt=Decimal,
        site=HttpUrl, crews=dict[str, int], rate=int | float, crew=(int, Field(le=9, ge=2)), yard=Yard,
        goods=(list[str], Field(min_length=2, max_length=2)),
    )  # fmt: skip
    stage = Stage("port", prompt="Research {name}.", answer=model, search=False)
    settings: dict[str, Any] = {"stages": [stage], "key": "name", "model": "simulator", "progress": False}
    out = tmp_path / "out"
    enrichkit.run(pd.DataFrame({"name": [f"Port {n}" for n in range(8)]}), out=out, client=client, **settings)
    stored = enrichkit.read(out)
    issues = [issue for row in stored["port._issues"] for issue in row if ": read_as: " not in issue]
    assert [issue for issue in issues if "goods" not in issue] == []
    assert stored["port.crew"].between(2, 9).all()
    assert stored["port.opened"].notna().all()
    assert {type(cell) for cell in stored["port.crews"]} == {dict}
