"""The walls of the house: who may import whom, only downwards, and how large anything may be."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "enrichkit"
FLOORS = (
    "formatting|errors messages|status table pricing|stages gemini|store|planning|"
    "engine progress reporting|options|runner|api|cli|__main__"
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


def test_imports_make_no_circle():
    """Every room can be read without having read one that imports it."""
    graph: dict[str, set[str]] = {}
    for room, target in arrows():
        graph.setdefault(room, set()).add(target)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_only_one_room_knows_an_sdk():
    """Nothing else imports google."""
    knows = {path.stem for path in PACKAGE.rglob("*.py") if "from google" in path.read_text(encoding="utf-8")}
    assert knows == {"client"}


def test_only_the_sender_knows_apprise():
    """It logs addresses and leaves threads behind, so it has a process of its own."""
    knows = {path.stem for path in PACKAGE.rglob("*.py") if "import apprise" in path.read_text(encoding="utf-8")}
    assert knows == {"sender"}
