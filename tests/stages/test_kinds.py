"""The kinds of field, in a stage of one's own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated

import pandas as pd

import enrichkit
from enrichkit import Answer, Stage, checks, trust
from enrichkit.messages import Reply
from enrichkit.reading.answer import KEEP
from enrichkit.stages.checks import means_the_same
from enrichkit.stages.funds import KEY, Role


class Lab(Answer):
    homepage: Annotated[str | None, checks.url(like="name")] = None
    founded: int | None = None
    seat: Annotated[str | None, checks.city(country="country")] = None
    grant: Annotated[float | None, checks.money()] = None


LAB = Stage("lab", prompt="Research {name} in {country}.", answer=Lab, checks=[checks.year("founded")])
BARE = Stage("lab", prompt="Research {name} in {country}.", answer=Lab)
SAID = {
    "Norrgard": ("see http:/norrgard.com/ (main page)", "founded in spring 2007", "Malmö, Skåne"),
    "Pellard": ("https://lofoten.com", "2950", "Kyoto"),
    "Holm": ("https://www.your-firm-here.com", "1911", "Göteborg"),
}


def test_a_stage_of_ones_own_recovers_doubts_and_compares(tmp_path):
    """Annotated and listed kinds read, clean, flag and empty alike; what means the same is no correction."""

    def client(request):
        homepage, founded, seat = next(text for name, text in SAID.items() if name in request.text)
        answer = {"homepage": homepage, "founded": founded, "seat": seat, "grant": "3.4e6"}
        return Reply(text=json.dumps(answer), model_version="mine")

    cells = {"name": list(SAID), "country": ["Sweden"] * 3, "lab.seat": [None, None, "Gothenburg; Oslo"]}
    settings = {"key": "name", "model": "m", "out": tmp_path / "out", "progress": False}
    enrichkit.run(pd.DataFrame(cells), stages=[LAB], client=client, **settings)
    read = enrichkit.read(tmp_path / "out").set_index("name")
    assert read.loc["Norrgard", ["lab.homepage", "lab.founded", "lab.seat"]].tolist() == [
        "https://norrgard.com",
        2007,
        "Malmö",
    ]
    assert read.loc[list(SAID), "lab.homepage"].isna().tolist() == [False, False, True]
    assert pd.isna(read.loc["Pellard", "lab.founded"])
    names = {issue.split(": ")[1] for issue in read.loc["Pellard", "lab._issues"]}
    assert {"unlike_name", "year_range", "city_country"} <= names
    assert trust.corrections(tmp_path / "out").empty


def test_a_kind_is_part_of_the_reading_and_not_of_the_question():
    """Adding one reads the stored replies anew, and asks nothing again."""
    assert LAB.reading != BARE.reading
    assert LAB.question("m", ["name"]) == BARE.question("m", ["name"])


def test_the_same_in_other_words():
    """In other languages, forms and orders; of several in a cell, one will do."""
    pairs = {
        checks.city("x"): [("Munich", "München; Berlin"), ("Tokyo", "東京")],
        checks.country("x"): [("Norway", "Norge; Sverige")],
        checks.phone("x"): [("+46 8 517 334 28", "08-517 334 28")],
        checks.money("x"): [("3.4e6", "3,400,000")],
        checks.email("x"): [("ida@norrgard.com", "Ida@Norrgard.com")],
        checks.url("x", at="linkedin.com/in"): [("https://www.linkedin.com/in/ida", "https://se.linkedin.com/in/ida")],
    }
    assert all(means_the_same([kind], "x", *pair) for kind, all_of_it in pairs.items() for pair in all_of_it)
    assert not means_the_same([checks.city("x")], "x", "Oslo", "Bergen")


class Seen(Answer):
    x: str | None = None


ROLE = Role("x", names=KEY)
RECOVERED = [
    (checks.city("x", country="land"), "Singapore, Singapore", "Singapore"),
    (checks.city("x", country="land"), "HQ in Singapore", "Singapore"),
    (checks.email("x"), "ida [at] norrgard [dot] com", "ida@norrgard.com"),
    (checks.url("x"), "htttps:/norrgard.com", "https://norrgard.com"),
]
DOUBTED = [
    *[(checks.city("x", country="land"), text) for text in ("Nordics", "Fully distributed", "Rue de la Paix", "EMEA")],
    (replace(checks.email("x"), examples=frozenset()), "firstname.lastname@norrgard.com"),
    *[(ROLE, text) for text in ("Partner (retired 2019)", "The late founder, died 2018", "Alumna", "in/ida-berg")],
]
SOUND = [
    *[(ROLE, text) for text in ("CFO/COO", "Alumni Relations Manager", "Head of Retirement Plans")],
    *[(replace(checks.email("x"), examples=frozenset()), f"{name}@norrgard.com") for name in ("info", "company")],
]


def test_what_is_recovered_doubted_or_left_alone():
    """As models write them, in words that no list here had."""

    def look(kind, text):
        issues = list(kind(Seen(x=text), {"land": "Singapore"}))
        return [issue.instead if not issue.flags else KEEP for issue in issues]

    assert [text for kind, text, value in RECOVERED if look(kind, text) != [value]] == []
    assert [text for kind, text in DOUBTED if len(look(kind, text)) != 1] == []
    assert [text for kind, text in SOUND if look(kind, text)] == []
