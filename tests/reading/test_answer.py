"""How an answer is asked for, and read out of what a model writes."""

from typing import Any, Literal

import pyarrow as pa
import pytest
from pydantic import BaseModel, Field

from enrichkit.errors import StageError
from enrichkit.reading.answer import Answer, read_answer
from enrichkit.reading.shape import shape_of


class Place(BaseModel):
    """A nested object."""

    city: str | None = None
    rank: int | None = None


class Firm(Answer):
    """One field of every kind."""

    name: str | None = Field(None, description="Its name")
    size: int | None = None
    rate: float | None = None
    listed: bool | None = None
    kind: Literal["a", "b"] | None = None
    tags: list[str] | None = None
    place: Place | None = None


class Strict(Answer):
    """A field that must be there."""

    name: str


class Odd(Answer):
    """Where a word for nothing may be the answer."""

    debt: Literal["none", "low"] | None = None
    country_code: str | None = None
    remark: str


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Acme"}',
        'Here it is:\n```json\n{"name": "Acme"}\n```\nHope this helps {smile}.',
        'First {"other": 1} then {"name": "Acme"}',
        '{"name": " Acme ", "unknown_key": 1}',
    ],
)
def test_the_object_is_found_whatever_stands_around_it(text: str) -> None:
    """Fences, prose, other objects and unknown keys do not hide an answer."""
    answer, issues = read_answer(Firm, text)
    assert isinstance(answer, Firm)
    assert (answer.name, issues) == ("Acme", [])


def test_words_for_nothing_are_no_answer_unless_they_are_one() -> None:
    """A choice that is offered, the code of Namibia and a field that must be there keep their words."""
    answer, issues = read_answer(Odd, '{"debt": "none", "country_code": "NA", "remark": "-"}')
    assert isinstance(answer, Odd)
    assert (answer.debt, answer.country_code, answer.remark, issues) == ("none", "NA", "-", [])


@pytest.mark.parametrize(
    "text",
    [
        '{"partners": [{"name": "Berg"}, {"na',
        '{"remark": "5" tall", "partners": [{"name": "Berg"}]}',
        '{remark: "a } brace", partners: [{"name": "Berg"}]}',
        '{"partners": [{"name": "Berg"}]}',
    ],
)
def test_what_stands_within_a_list_of_another_object_is_no_answer(text: str) -> None:
    """A partner's name would pass for the firm's; a reply that cannot be read is asked for again."""
    assert read_answer(Firm, text) == (None, [])


def test_the_last_object_that_says_something_is_the_answer() -> None:
    """A model that corrects itself, that plans first, or that says that it found nothing."""
    for text in (
        '{"name": "Acm",} Sorry, I mean: {"name": "Acme"}',
        '{"name": "Acm"} Sorry, I mean: {"name": "Acme"}',
        'Plan: {"name": null, "size": "N/A"}, and then: {"name": "Acme"}',
        '{"name": "Acme"} and nothing else: {"name": null}',
    ):
        answer, _ = read_answer(Firm, text)
        assert isinstance(answer, Firm)
        assert answer.name == "Acme"
    answer, issues = read_answer(Firm, "{}")
    assert answer is not None
    assert (answer.model_dump(exclude_none=True), issues) == ({}, [])


@pytest.mark.parametrize(
    "text", ["", "no json", '{"name": "Acm', "[1, 2]", "{", "{" * 100_000, '{"a' * 100_000, '{"name"']
)
def test_text_without_an_answer_is_none(text: str) -> None:
    """What cannot be read is said to be so, quickly, whatever it is."""
    assert read_answer(Firm, text)[0] is None


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ('"1990s"', "size"),
        ("true", "size"),
        ("1.5", "size"),
        (str(2**70), "size"),
        ("NaN", "rate"),
        ('"\\ud800"', "name"),
        ('{"a": 1}', "name"),
        ('"c"', "kind"),
        ('{"a": 1}', "tags"),
        ('"Oslo"', "place"),
    ],
)
def test_a_value_of_the_wrong_type_is_left_out_and_named(value: str, field: str) -> None:
    """One bad value costs one field, not the paid answer."""
    answer, issues = read_answer(Firm, f'{{"{field}": {value}, "listed": true}}')
    assert answer is not None
    assert (getattr(answer, field), answer.model_dump()["listed"]) == (None, True)
    assert [(issue.field, issue.check) for issue in issues] == [(field, "wrong_type")]


def test_an_object_that_can_be_read_is_an_answer() -> None:
    """Even if nothing in it can be used, or a field that must be there is not: asking again would be paid again."""
    answer, issues = read_answer(Firm, '{"size": "many"}')
    assert answer is not None
    assert answer.model_dump(exclude_none=True) == {}
    assert [str(issue) for issue in issues] == ["size: wrong_type: 'many'"]
    answer, issues = read_answer(Strict, '{"notes": "hm"}')
    assert answer is not None
    assert (answer.model_dump(exclude_none=True), issues) == ({"notes": "hm"}, [])


@pytest.mark.parametrize("word", ["N/A", " unknown ", "null", "", "Not found", "-"])
def test_words_for_nothing_are_nothing(word: str) -> None:
    """A model's way of saying that it found nothing is not a value."""
    answer, _ = read_answer(Firm, f'{{"name": "{word}", "size": 3}}')
    assert answer is not None
    assert answer.model_dump(exclude_none=True) == {"size": 3}


def test_a_shape_gives_schema_type_and_words() -> None:
    """What is sent, what is stored and what the fingerprint says come from one walk over the annotations."""
    shape = shape_of(Firm, where="Firm")
    schema = shape.schema()
    name = {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "Its name"}
    assert schema["properties"]["name"] == name
    kind, place = (schema["properties"][name]["anyOf"][0] for name in ("kind", "place"))
    assert kind["enum"] == ["a", "b"]
    assert place["properties"]["rank"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    fields = {name: part for name, part, _ in shape.fields}
    assert fields["tags"].arrow == pa.list_(pa.string())
    assert fields["place"].arrow == pa.struct([("city", pa.string()), ("rank", pa.int64())])
    assert fields["place"].words == "object(city:text()?,rank:int()?)?"
    assert shape_of(Strict, where="Strict").schema()["required"] == ["name"]


@pytest.mark.parametrize("annotation", [dict[int, int], Any, int | str, bytes, list])
def test_a_type_that_cannot_be_asked_for_is_refused(annotation: Any) -> None:
    """The error names the field and says which types can be asked for."""
    with pytest.raises(StageError, match=r"firm\.odd.*Use (str, int|one type)"):
        shape_of(annotation, where="firm.odd")


class Node(Answer):
    """A model that holds itself."""

    children: list["Node"] | None = None


def test_a_model_that_holds_itself_is_refused() -> None:
    """Its schema would have no end."""
    with pytest.raises(StageError, match=r"'Node\.children\..*A model cannot hold itself"):
        shape_of(Node, where="Node")
