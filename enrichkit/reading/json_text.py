"""The JSON text: the object that was asked for, in whatever a model wrote around it and however it broke it.

Strict JSON first, then what a well-kept library repairs, under three guards, since it guesses: brackets close in order,
every text and number that it returns stands in the source, and nothing is read that was cut off within a text. It
refuses to know what the values mean.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..formatting import whole_number
from .wording import says_nothing

MOST_TRIES = 50
LONGEST_REPAIRED = 100_000
"""Characters that are looked at for what is broken: hostile text costs no more."""
DEEPEST_WRAPPER = 4
OPENING = re.compile(r"[{\[]")
_QUOTED = r'"(?:[^"\\]|\\.)*(?:"|\Z)'
BRACES = re.compile(r"[{}]"), re.compile(rf"{_QUOTED}|[{{}}]", re.DOTALL)
"""The braces of a text: all of them, and those outside quotes."""
BRACKETS = re.compile(r"[{}\[\]]"), re.compile(rf"{_QUOTED}|[{{}}\[\]]", re.DOTALL)
SCHEMA = frozenset({"type", "anyOf", "properties", "items", "enum", "$ref", "description", "nullable", "format"})
"""What the parts of a JSON Schema are called."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([nrtbf])|(['\"/\\]))")
_NOT_SAID = re.compile(
    r"//[^\n]*|/\*.*?\*/|```\w*|\[cite[^\]]*\]|【[^】]*】|\b(?:null|true|false|none)\b", re.DOTALL | re.I
)
"""What a repair may leave out: comments, fences, citation marks and the literals."""


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


def _says(value: Any) -> bool:
    return value not in (None, [], {}) and not (isinstance(value, str) and says_nothing(value))


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
    if text.lstrip().startswith('"'):  # JSON in a JSON text
        with contextlib.suppress(ValueError, RecursionError):
            inner = DECODER.decode(text.strip())
            return Located(locate(inner, names, repair=repair).values)
    silent = Located(None)
    best: Located | None = None
    broken: list[str] = []
    for start, value, source in _values(text):
        if source is not None:
            broken.append(source)
        elif (values := _opened(value, names)) is not None:
            located = Located(values, start if values is value else -1)
            if names is None or any(_says(values.get(name)) for name in names):
                best = located
            elif silent.values is None or (not silent.values and values):
                silent = located
    if best is None and repair:
        if not broken and ":" in text[:LONGEST_REPAIRED] and not OPENING.search(text):
            broken = ["{" + text.strip().rstrip("}") + "}"]
        for source in reversed(broken):
            value, left_out = _repaired(source)
            values = _opened(value, names)
            if values and (names is None or any(_says(values.get(name)) for name in names)):
                return Located(values, notes=(("json_repaired", left_out),))
    return best or silent


def _values(text: str) -> Iterator[tuple[int, Any, str | None]]:
    """Yield where each object or list of a text begins, with its value, or with its source if it is broken."""
    place, spent, looked = 0, 0, 0
    for _ in range(MOST_TRIES):
        opening = OPENING.search(text, place)
        if opening is None or spent > 3 * len(text) or looked > LONGEST_REPAIRED:
            return
        start = opening.start()
        try:
            value, place = DECODER.raw_decode(text, start)
            yield start, value, None
        except (ValueError, RecursionError) as error:
            spent += getattr(error, "pos", len(text)) - start
            if opening[0] == "[":
                place = start + 1
                continue
            # Quotes may be what is broken: so the braces are counted with and without those in quotes.
            place = max(_closes(text, start, braces) for braces in BRACES)
            looked += place - start
            if place - start <= LONGEST_REPAIRED:
                yield start, None, text[start:place]


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
        if names is None or not value or (names & value.keys() and not _is_schema(value, names)):
            return value
        wrapped = list(value.values()) if len(value) == 1 and not _is_schema(value, names) else []
        value = [part for part in wrapped if not isinstance(part, list)]  # a list's part is no whole answer
    inner = value if isinstance(value, list) and depth < DEEPEST_WRAPPER else ()
    return next(filter(None, (_opened(part, names, depth + 1) for part in inner)), None)


def _is_schema(values: Mapping[str, Any], names: frozenset[str]) -> bool:
    """Whether an object describes the answer instead of being one."""
    if isinstance(values.get("properties"), dict) and "properties" not in names:
        return True
    known = [values[name] for name in names & values.keys()]
    return bool(known) and all(
        isinstance(part, dict) and part.keys() <= SCHEMA and {"type", "anyOf", "$ref"} & part.keys() for part in known
    )


def _repaired(source: str) -> tuple[Any, str]:
    """Return what a broken object holds, None if that is not sure, and the words that the repair leaves out."""
    if not any(_in_order(source, brackets) for brackets in BRACKETS):
        return None, ""
    if not source.rstrip().endswith("}") and source.replace('\\"', "").count('"') % 2:
        return None, ""  # cut off within a text
    import json_repair

    # Texts that a program would add up, and the escapes that only other languages have.
    source = _ESCAPE.sub(_own_escape, re.sub(r"\"\s*\+\s*\"", "", source))
    try:
        value = json_repair.loads(source, skip_json_loads=True)
    except Exception:  # noqa: BLE001 - whatever it raises: it could not be repaired
        return None, ""
    plain = _ESCAPE.sub(_resolved, source)
    squashed, rest = _squashed(plain), [plain]
    matches: dict[str, Iterator[re.Match[str]]] = {}

    def checked(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: checked(_next_key(source, key, matches, rest), inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [checked("", inner) for inner in value]
        if isinstance(value, str):
            if _squashed(value) not in squashed:
                raise ValueError(value)
            _cross_out(rest, value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            _cross_out(rest, name.strip() or str(value))
            if name.strip() and name.strip() != str(value):
                return name.strip()  # 1 200: what it says is for whoever reads numbers
            if not name and not re.search(rf"(?<![\w.,+~-]){re.escape(str(value))}(?!\s*[\w%]|[.,]\d)", source):
                raise ValueError(value)
        return value

    try:
        value = checked("", value)
    except ValueError:
        return None, ""
    words = re.findall(r"\w[\w'’.-]*", _NOT_SAID.sub(" ", rest[0]))
    return value, f"left out: {' '.join(words)}"[:300] if words else ""


def _next_key(source: str, key: str, matches: dict[str, Iterator[re.Match[str]]], rest: list[str]) -> str:
    """Return the bare words after a key's next place in the source, such as a number with its unit."""
    if key not in matches:
        bare = r"[^,{}\[\]\"'\n]*(?:,\d{3}(?!\d)[^,{}\[\]\"'\n]*)*"
        matches[key] = re.finditer(rf"[\"'“”]?{re.escape(key)}[\"'“”]?\s*[:=]\s*({bare})", source)
    _cross_out(rest, key)
    match = next(matches[key], None)
    return re.sub(r"\s*(?://|#|/\*).*", "", match[1], flags=re.DOTALL) or " " if match else " "


def _cross_out(rest: list[str], word: str) -> None:
    """Take a word out of what is left of the source."""
    rest[0] = rest[0].replace(word, " ", 1)


def _resolved(escape: re.Match[str]) -> str:
    """Return what an escape stands for."""
    code, letter = escape[1] or escape[2], escape[3]
    return chr(int(code, 16)) if code else dict(zip("nrtbf", "\n\r\t\b\f", strict=True)).get(letter, escape[4] or "")


def _own_escape(escape: re.Match[str]) -> str:
    """Return an escape that JSON has."""
    return f"\\u00{escape[2]}" if escape[2] else "'" if escape[4] == "'" else escape[0]


def _squashed(text: str) -> str:
    """Return a text without blanks and backslashes, which a repair may read one way or the other."""
    return re.sub(r"[\s\\]", "", text)


def _in_order(source: str, brackets: re.Pattern[str]) -> bool:
    """Whether brackets close in order; those open at the very end may be closed."""
    opened: list[str] = []
    for match in brackets.finditer(source):
        if match[0] in "{[":
            opened.append("}" if match[0] == "{" else "]")
        elif match[0] in "}]" and (not opened or opened.pop() != match[0]):
            return False
    return True
