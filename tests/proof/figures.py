"""The figures of the house: how large the package is, and how its rooms hang together; `make figures` prints them.

It measures and judges nothing; the limits stand in tests/project/test_architecture.py, over the same functions.
"""

from __future__ import annotations

import ast
import graphlib
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path

from support.paths import PACKAGE

QUIET = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER"}
"""Tokens that are no code."""
APART = {"gemini/simulator", "gemini/faults", "gemini/fiction"}
"""The simulator, whose lines are not counted: it is a service, not a client of one."""
CORE = set("messages table pricing store planning engine runs api".split()) | {
    "gemini/__init__",
    "gemini/client",
    "gemini/wire",
    "stages/__init__",
    "stages/stage",
    "reading/answer",
    "reading/grounding",
}
"""The wings, and the rooms of others, that a run cannot do without."""
VAGUE = ("one", "found", "told")
"""Names that say nothing of what they hold."""


def rooms(package: Path = PACKAGE) -> dict[str, str]:
    """Return the text of each room, by its name within the package."""
    paths = sorted(package.rglob("*.py"))
    return {path.relative_to(package).with_suffix("").as_posix(): path.read_text(encoding="utf-8") for path in paths}


def code_lines(text: str) -> int:
    """Count the lines that hold code: no docstrings, comments or blanks."""
    docs: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for part in body if isinstance(body, list) else ():
            if isinstance(part, ast.Expr) and isinstance(getattr(part.value, "value", None), str):
                docs.update(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = [token for token in tokens if tokenize.tok_name[token.type] not in QUIET]
    return len({line for token in code for line in range(token.start[0], token.end[0] + 1)} - docs)


def lines_of_wings() -> Counter[str]:
    """Return the code lines of each wing and of each room at the top, without the simulator."""
    lines: Counter[str] = Counter()
    for room, text in rooms().items():
        if room not in APART:
            lines[room.split("/")[0]] += code_lines(text)
    return lines


def core_lines() -> int:
    """Return the code lines of the core."""
    return sum(code_lines(text) for room, text in rooms().items() if {room, room.split("/")[0]} & CORE - APART)


def arrows(package: Path = PACKAGE) -> list[tuple[str, str]]:
    """Return each room with each room that it imports, lazy imports included."""
    pairs = []
    for name, text in rooms(package).items():
        room = name.split("/")
        for node in ast.walk(ast.parse(text)) if room[-1] != "__init__" else ():
            if isinstance(node, ast.ImportFrom) and node.level:
                base = [*room[: len(room) - node.level], *(node.module or "").split(".")]
                names = [base] if node.module else [[*base[:-1], alias.name] for alias in node.names]
                pairs += [(name, "/".join(target)) for target in names]
    return pairs


def circles() -> int:
    """Return 1 if rooms import each other in a circle, else 0."""
    graph: dict[str, set[str]] = {}
    for room, target in arrows():
        graph.setdefault(room, set()).add(target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError:
        return 1
    return 0


def at_the_top() -> set[str]:
    """Return the wings and the rooms at the top."""
    return {room.split("/")[0] for room in rooms()} - {"__init__"}


def rooms_of_wings() -> Counter[str]:
    """Return the number of rooms in each wing, `__init__` apart."""
    return Counter(room.split("/")[0] for room in rooms() if "/" in room and not room.endswith("/__init__"))


def raw_lines() -> dict[str, int]:
    """Return the length of each room, with all that stands in it."""
    return {room: len(text.splitlines()) for room, text in rooms().items()}


def public_methods() -> dict[str, int]:
    """Return the number of public methods and properties of each public class whose docstring gives no reason.

    A docstring gives a reason in its section "Notes".
    """
    counts = {}
    for room, text in rooms().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and not re.search(r"^Notes\n-+$", ast.get_docstring(node) or "", re.M):
                functions = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
                counts[f"{room}.{node.name}"] = len({part.name for part in functions if not part.name.startswith("_")})
    return counts


def vague_names() -> int:
    """Return how often a variable or an argument has a name that says nothing."""
    count = 0
    for text in rooms().values():
        for node in ast.walk(ast.parse(text)):
            name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else ""
            count += name in VAGUE
    return count


def import_seconds() -> float:
    """Return how long `import enrichkit` takes in a fresh interpreter."""
    command = [sys.executable, "-X", "importtime", "-c", "import enrichkit"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent).stderr.splitlines()
    last = next(line for line in reversed(lines) if line.split("|")[-1].strip() == "enrichkit")
    return int(last.split("|")[1]) / 1_000_000


def main() -> None:
    """Print the figures."""
    import enrichkit

    wings, lengths, methods = lines_of_wings(), raw_lines(), public_methods()
    longest = max(lengths, key=lambda room: lengths[room])
    many = [f"{name} {count}" for name, count in methods.items() if count > 7]
    figures = {
        "things at the top": len(at_the_top()),
        "rooms in the largest wing": max(rooms_of_wings().values()),
        "longest room": f"{longest}, {lengths[longest]} lines",
        "rooms of more than 350 lines": ", ".join(room for room, count in lengths.items() if count > 350) or "none",
        "code lines without the simulator": f"{sum(wings.values()):,}",
        "of these, core": f"{core_lines():,}",
        "imports between rooms": len(arrows()),
        "circles": circles(),
        "public names": len(enrichkit.__all__),
        "classes of more than 7 public methods": ", ".join(many) or "none",
        "uses of one, found and told as names": vague_names(),
        "seconds to import": f"{import_seconds():.3f}",
    }
    for name, figure in figures.items():
        print(f"{name:40} {figure}")
    print("\nwing          code lines  rooms")
    counts = rooms_of_wings()
    for wing, lines in wings.most_common():
        print(f"{wing:12} {lines:>11,} {counts[wing] or '':>6}")


if __name__ == "__main__":
    main()
