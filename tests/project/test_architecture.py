"""The walls of the house: who may import whom, only downwards, and how large anything may be."""

from __future__ import annotations

import graphlib

from proof.figures import (
    arrows,
    at_the_top,
    core_lines,
    lines_of_wings,
    public_methods,
    raw_lines,
    rooms_of_wings,
    vague_names,
)
from support.paths import PACKAGE

FLOORS = (
    "formatting|errors messages|status table pricing|reading|stages gemini|store|planning|"
    "engine progress|trust|reporting|runs|cluster|api|cli|__main__"
).split("|")
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}


ALONE = {
    "gemini/client": {"errors", "messages", "gemini"},
    "gemini/sdks": {"errors", "messages", "gemini/transport"},
    "gemini/transport": set(),
    "gemini/refusals": {"messages", "formatting"},
    "gemini/wire": {"errors", "messages", "gemini"},
    "gemini/simulator": {"gemini/faults", "gemini/fiction"},
    "gemini/faults": set(),
    "gemini/fiction": set(),
    "stages/places": set(),
    "store/files": {"errors", "formatting"},
    "table/parquet": {"table", "errors"},
    "store/journal": {"store", "errors", "formatting"},
    "store/index": {"store", "errors", "formatting", "table/parquet"},
    "store/store": {"store", "errors", "table/parquet"},
    "engine/pace": {"status"},
    "progress": {"progress", "status", "formatting", "errors", "messages"},
    "progress/sender": set(),
}
"""Rooms and wings that may know less than their floor allows: these rooms, and those of these wings, alone."""
INTERPRETERS = {"rows", "reader", "replies", "decisions"}
"""The rooms of the store that know what is stored; the others keep bytes and tables."""
CHECKERS = {"runs", "cluster", "api", "cli", "__main__"}
"""The rooms that know the settings of a call as one; the others take those they use."""


def test_imports_go_downwards_and_make_no_circle():
    """Between wings only to a lower floor, so that every room can be read without having read one that imports it."""
    graph: dict[str, set[str]] = {}
    for room, target in arrows():
        mine, theirs = room.split("/")[0], target.split("/")[0]
        assert mine == theirs or FLOOR[theirs] < FLOOR[mine], (room, target)
        graph.setdefault(room, set()).add(target)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_some_rooms_know_little():
    """The simulator shares no line with what it tests; the store's keepers know neither stages nor prices."""
    for room, target in arrows():
        mine, theirs = room.split("/")[0], target.split("/")[0]
        for name in {room, mine} & ALONE.keys():
            assert {target, theirs} & ALONE[name], (room, target)
        if mine == theirs == "store" and room.split("/")[1] not in INTERPRETERS:
            assert target.split("/")[1] not in INTERPRETERS, (room, target)
        if target == "runs/options":
            assert mine in CHECKERS, room


def test_only_one_room_knows_an_sdk():
    """Nothing else imports google."""
    knows = {path.stem for path in PACKAGE.rglob("*.py") if "from google" in path.read_text(encoding="utf-8")}
    assert knows == {"sdks"}


def test_only_the_sender_knows_apprise():
    """It logs addresses and leaves threads behind, so it has a process of its own."""
    knows = {path.stem for path in PACKAGE.rglob("*.py") if "import apprise" in path.read_text(encoding="utf-8")}
    assert knows == {"sender"}


LIMITS = {
    "things at the top": 20,
    "rooms in a wing": 8,
    "lines in a room": 350,
    "public methods of a class": 7,
    "vague names": 0,
    "code lines": 7_000,
    "core": 4_200,
}
TODAY: dict[str, dict[str, int]] = {
    "public methods of a class": {
        "runs/runner.Run": 8,
    },
    "code lines": {
        "": 14795,
    },
    "core": {
        "": 7133,
    },
}
"""What passes its limit for now, by its name: it may shrink, and grow only with a feature. The goal of 8,500
lines with everything is missed by now.

Lines of code are rounded up a little. Lower a value when it has shrunk.
"""


def held(what, values):
    """Check that each value keeps within its limit, or within today's value."""
    today = TODAY.get(what, {})
    beyond = {name: value for name, value in values.items() if value > max(LIMITS[what], today.get(name, 0))}
    assert beyond == {}, f"{what}: at most {LIMITS[what]}"


def test_it_can_be_read_in_an_evening():
    """Few things at the top, few rooms in a wing, short rooms, little code in all and less of it in the core."""
    held("things at the top", {"": len(at_the_top())})
    held("rooms in a wing", rooms_of_wings())
    held("lines in a room", raw_lines())
    held("code lines", {"": lines_of_wings().total()})
    held("core", {"": core_lines()})


def test_classes_are_small():
    """At most seven public methods and properties, or a reason in the docstring, in a section Notes."""
    held("public methods of a class", public_methods())


def test_names_say_what_they_hold():
    """No variable or argument is called one, found or told."""
    held("vague names", {"": vague_names()})
