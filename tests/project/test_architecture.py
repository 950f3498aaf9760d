"""The walls of the house: who may import whom, only downwards, and how large anything may be."""

from __future__ import annotations

import ast
import graphlib

from support.paths import PACKAGE

FLOORS = (
    "formatting|errors messages|status table pricing|stages gemini|store|planning|"
    "engine progress reporting|options|opening|runner|api|cli|__main__"
).split("|")
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}


def arrows() -> list[tuple[str, str]]:
    """Return each room with each room that it imports, lazy imports included."""
    pairs = []
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if room[-1] != "__init__" else ():
            if isinstance(node, ast.ImportFrom) and node.level:
                base = [*room[: len(room) - node.level], *(node.module or "").split(".")]
                names = [base] if node.module else [[*base[:-1], alias.name] for alias in node.names]
                pairs += [("/".join(room), "/".join(name)) for name in names]
    return pairs


ALONE = {
    "gemini/client": {"errors", "messages", "gemini"},
    "gemini/wire": {"errors", "messages", "gemini"},
    "gemini/simulator": {"gemini/faults", "gemini/fiction"},
    "gemini/faults": set(),
    "gemini/fiction": set(),
    "stages/places": set(),
    "store/files": set(),
    "store/parquet": {"store", "table", "errors"},
    "store/journal": {"store", "errors"},
    "store/index": {"store", "errors"},
    "store/store": {"store", "errors"},
    "engine/pace": {"status"},
    "progress": {"progress", "status", "formatting", "errors", "messages"},
    "progress/sender": set(),
}
"""Rooms and wings that may know less than their floor allows: these rooms, and those of these wings, alone."""
INTERPRETERS = {"rows", "reader", "replies"}
"""The rooms of the store that know what is stored; the others keep bytes and tables."""
CHECKERS = {"opening", "runner", "api", "cli", "__main__"}
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
        if target == "options":
            assert mine in CHECKERS, room


def test_only_one_room_knows_an_sdk():
    """Nothing else imports google."""
    knows = {path.stem for path in PACKAGE.rglob("*.py") if "from google" in path.read_text(encoding="utf-8")}
    assert knows == {"client"}


def test_only_the_sender_knows_apprise():
    """It logs addresses and leaves threads behind, so it has a process of its own."""
    knows = {path.stem for path in PACKAGE.rglob("*.py") if "import apprise" in path.read_text(encoding="utf-8")}
    assert knows == {"sender"}
