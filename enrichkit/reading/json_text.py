"""The JSON text: the object that was asked for, in whatever a model wrote around it and however it broke it.

Strict JSON first, then what `repair` is sure of. Of several objects the last that says something is the answer; what
stands within another one never is. It refuses to know what the values mean.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..formatting import whole_number
from .repair import QUOTED, repaired
from .wording import excuses, says_nothing

MOST_TRIES = 1000
MOST_REPAIRS = 20
LONGEST_REPAIRED = 50_000
"""Characters that are looked at for what is broken: hostile text costs no more."""
DEEPEST_WRAPPER = 4
OPENING = re.compile(r"[{\[]")
BRACES = re.compile(r"[{}]"), re.compile(rf"{QUOTED}|[{{}}]", re.DOTALL)
"""The braces of a text: all of them, and those outside quotes."""
_ESCAPED = re.compile(r"[^{\[]*([{\[](?:[\s{\[]|\\[nrt]){0,20}\\+\".*[}\]])", re.DOTALL)
"""A text whose first object is JSON in a JSON text, with quotes and a fence around it, or without."""
_MEMBER = re.compile(r"[\"'“]\w+[\"'”]\s*:")
_GOES_ON = re.compile(r"\s*[,\]}]")
_WITHIN = re.compile(rf"\s*\]\s*\}}|[\s\]}}]*,\s*{_MEMBER.pattern}")
"""What goes on after an object that stands in another one."""
WRAPPERS = frozenset("result results answer data response output json final final_answer".split())
"""What a wrapper is called that has more in it than the answer."""
_PLACEHOLDER = re.compile(
    r"(?:string|str|integer|int|number|float|boolean|bool|array|list|object|null|none|or|\||/|\s|<[\w ]*>)+", re.I
)
"""What stands for a value in the form of an answer."""
SCHEMA = frozenset({"type", "anyOf", "properties", "items", "enum", "$ref", "description", "nullable", "format"})
"""What the parts of a JSON Schema are called."""


class Twice(dict[str, Any]):
    """An object in which a key stands more than once; ``said`` has the values of those that differ."""

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[str, list[Any]] = {}


@dataclass(frozen=True, slots=True)
class Located:
    """The object in a text, None if there is none.

    ``start`` is where it begins, if it stands there as it is; ``notes`` say by check what was done to read it.
    """

    values: Mapping[str, Any] | None
    start: int = -1
    notes: tuple[tuple[str, str], ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of whose keys a value beats none, and the last of several values stands."""
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    twice = Twice()
    for name, value in pairs:
        before = twice.get(name)
        if _says(value) and _says(before) and value != before:
            twice.said.setdefault(name, [before]).append(value)
        if _says(value) or name not in twice:
            twice[name] = value
    return twice


def spelled(values: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """Return an object under the names that are asked for, where they are spelled with other case, blanks or signs.

    >>> spelled({"Fund Size": 5, "**town**": "Marl"}, {"fund_size", "town"})
    {'fund_size': 5, 'town': 'Marl'}
    """
    if all(key in names for key in values):
        return values
    asked = {plain_key(name): name for name in names}
    other = {key: name for key in values if key not in names and (name := asked.get(plain_key(key)))}
    return _object([(other.get(key, key), value) for key, value in values.items()]) if other else values


def plain_key(key: str) -> str:
    """Return the letters and digits of a key."""
    return re.sub(r"[\W_]+", "", key.casefold())


def _says(value: Any) -> bool:
    parts = [value]  # no recursion: brackets may be nested as deeply as a text is long
    while parts:
        part = parts.pop()
        if isinstance(part, dict | list):
            parts += part.values() if isinstance(part, dict) else part
        elif part is not None and not (isinstance(part, str) and (says_nothing(part) or excuses(part))):
            return True
    return False


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=whole_number, strict=False)
"""Reads JSON, also with raw line breaks within texts."""


def locate(text: str, names: frozenset[str] | None = None, *, repair: bool = True) -> Located:
    """Return the last object in a text that has a value under one of the names, if there are any to go by.

    Tolerates a Markdown fence, prose, a wrapper and a schema around it. An object that says nothing counts where there
    is no other. Without ``repair`` it must stand there whole. An object within a broken one never counts: a company of
    the portfolio would pass for the firm.

    >>> locate('Sure! ```json\\n{"role": "Partner"}\\n```', frozenset({"role"})).values
    {'role': 'Partner'}
    >>> locate('{"town": "Marl", crew: 14,}', frozenset({"town"})).notes
    (('json_repaired', ''),)
    """
    if escaped := _ESCAPED.match(text):
        with contextlib.suppress(ValueError, RecursionError):
            located = locate(DECODER.decode(f'"{escaped[1]}"'), names, repair=repair)
            if located.values is not None:
                return replace(located, start=-1)
    silent, best, repairs = Located(None), None, 0
    said: set[str] = set()
    for start, whole, source in reversed(list(_candidates(text))):
        value, left_out = whole, ""
        if source is not None:
            repairs += 1
            if best or not repair or repairs > MOST_REPAIRS:
                continue
            value, left_out = repaired(source, names or frozenset())
        if (values := _opened(value, names)) is None:
            continue
        says = values.keys() if names is None else {name for name in names if _says(values.get(name))}
        if names and all(_PLACEHOLDER.fullmatch(str(values[name])[:100]) for name in says):
            says = set()  # a form, or nothing
        notes = () if source is None else (("json_repaired", left_out),)
        located = Located(values, start if values is whole else -1, notes)
        if best:
            lost = tuple(("other_object", f"{name}: {values[name]}"[:300]) for name in sorted(says - said))
            best = replace(best, notes=best.notes + lost)
            said |= says
        elif says:
            best, said = located, set(says)
        elif silent.values is None or (not silent.values and values):
            silent = located
    return best or silent


def _candidates(text: str) -> Iterator[tuple[int, Any, str | None]]:
    """Yield what in a text may be the answer, with its start; those joined by commas as the list that they are.

    What stands within something broken is none: a company of the portfolio would pass for the firm.
    """
    group: list[tuple[int, Any, str | None]] = []
    before, within = 0, False
    opening = OPENING.search(text)
    member = _MEMBER.search(text, 0, min(opening.start() if opening else len(text), LONGEST_REPAIRED))
    if member and len(text) <= LONGEST_REPAIRED:  # an object without its opening brace
        yield -1, None, "{" + text[member.start() : text.rfind("}") + 1 or None]
    for start, end, value, source in _values(text):
        gap = text[before:start]
        if not (group and "," in gap and not gap.strip(" \t\r\n,]}")):
            yield from _grouped(group, within)
            group, within = [], _MEMBER.search(gap) is not None and _GOES_ON.match(text, end) is not None
        group.append((start, value, source))
        within, before = within or _WITHIN.match(text, end) is not None, end
    yield from _grouped(group, within)


def _grouped(group: list[tuple[int, Any, str | None]], within: bool) -> Iterator[tuple[int, Any, str | None]]:
    if len(group) == 1 and not within:
        yield group[0]
    elif group and not within and all(source is None for _, _, source in group):
        yield -1, [value for _, value, _ in group], None


def _values(text: str) -> Iterator[tuple[int, int, Any, str | None]]:
    """Yield where each object or list of a text begins and ends, with its value, or with its source if it is broken."""
    place, spent, looked = 0, 0, 0
    for _ in range(MOST_TRIES):
        opening = OPENING.search(text, place)
        if opening is None or spent > 3 * len(text) or looked > LONGEST_REPAIRED:
            return
        start = opening.start()
        try:
            value, place = DECODER.raw_decode(text, start)
            yield start, place, value, None
        except (ValueError, RecursionError) as error:
            spent += getattr(error, "pos", len(text)) - start
            if opening[0] == "[":
                place = start + 1
                continue
            # Quotes may be what is broken: so the braces are counted with and without those in quotes.
            place = max(_closes(text, start, braces) for braces in BRACES)
            looked += place - start
            if place - start <= LONGEST_REPAIRED:
                yield start, place, None, text[start:place]


def _closes(text: str, start: int, braces: re.Pattern[str]) -> int:
    """Return where the brace at ``start`` is closed; the text's end if nowhere near."""
    depth = 0
    if text.find("}", start, start + LONGEST_REPAIRED) < 0:
        return len(text)
    for match in braces.finditer(text, start, start + LONGEST_REPAIRED):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if not depth:
            return match.end()
    return len(text)


def _opened(value: Any, names: frozenset[str] | None, depth: int = 0) -> Mapping[str, Any] | None:
    """Return the object that has one of the names, within wrappers of a single one; never a schema's own."""
    if isinstance(value, str) and "{" in value and depth < DEEPEST_WRAPPER:
        with contextlib.suppress(ValueError, RecursionError):
            return _opened(DECODER.decode(value), names, depth + 1)
    if isinstance(value, dict):
        values = spelled(value, names or ())
        if names is None or not values:
            return values
        if _is_schema(values, names):
            return None
        if names & values.keys():
            return values
        value = [
            part
            for key, part in values.items()
            if key.casefold() in WRAPPERS or (len(value) == 1 and not isinstance(part, list))
        ]
    inner = value if isinstance(value, list) and depth < DEEPEST_WRAPPER else ()
    opened = [part for part in (_opened(part, names, depth + 1) for part in inner) if part]
    opened = [part for part in opened if any(map(_says, part.values()))] or opened
    several = names and any(part != opened[0] for part in opened)  # a list's part is no whole answer
    return opened[0] if opened and not several else None


def _is_schema(values: Mapping[str, Any], names: frozenset[str]) -> bool:
    """Whether an object describes the answer instead of being one."""
    if isinstance(values.get("properties"), dict) and "properties" not in names:
        return True
    known = [values[name] for name in names & values.keys()]
    return bool(known) and all(
        isinstance(part, dict) and part.keys() <= SCHEMA and {"type", "anyOf", "$ref"} & part.keys() for part in known
    )
