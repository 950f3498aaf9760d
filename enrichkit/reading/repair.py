"""The repair: what a broken JSON object holds, by a well-kept library under guards, since it guesses.

Keys and brackets stand in the source as in what is returned; every text and number stands there as it is; nothing is
read that was cut off within a text. What is left out is named. It refuses whatever is not sure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

MOST_KEYS = 300
DEEPEST = 30
QUOTED = r'"(?:[^"\\]|\\.)*(?:"|\Z)'
_SKIPPED = (r"(?!)", QUOTED, r"'(?:[^'\\]|\\.)*(?:'|\Z)")
"""What no bracket and no key is looked for in: nothing, or what stands in quotes of either kind."""
_COMMENT = r"(?<!:)//[^\n]*|/\*.*?\*/|(?<=[\s,])#[^\n]*"
_CITED = re.compile(r"(?<=[\"\d])\s*\[(?:cite[^\]]*|[\d, ]+)\](?=\s*[,}])")
_ADDED = re.compile(r"\"\s*\+\s*\"")
"""Between two texts that a program would add up."""
_SIGNS = r"[^\w\s,:{}\[\]]{0,3}"
"""The quotes of a key, of whatever kind."""
_BARE = r"[^,{}\[\]\"'\n]*(?:[,'’]\d{3}(?!\d)[^,{}\[\]\"'\n]*|\n\s{0,20}[\d.]+)*"
_BRACKET = re.compile(r"[{}\[\]]")
_DOUBLED = re.compile(r"\{\s*(\{.*\})\s*\}", re.DOTALL)
_DOUBTFUL = re.compile(
    r"""[^"']*\S["']\s*\S.*\s["']\S[^"']*|[a-zA-Z]?'.*'|[”»].*|.*\\(?:u[0-9a-fA-F]{0,3}$|u\{|U[0-9a-fA-F]{8}).*""",
    re.DOTALL,
)
"""Texts that swallowed what stood between two, kept the quotes of another language, or half an escape."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([nrtbf])|(['&%$#*~_\"/\\]))")
_NOT_SAID = re.compile(
    r"//[^\n]*|/\*.*?\*/|```\w*|\[cite[^\]]*\]|【[^】]{0,40}】|\b(?:null|true|false|none)\b", re.DOTALL | re.I
)
"""What a repair may leave out: comments, fences, citation marks and the literals."""
_WORD = re.compile(r"\w+")


def repaired(source: str, names: frozenset[str]) -> tuple[Any, str]:
    """Return what a broken object holds, None if that is not sure, and the words that the repair leaves out.

    >>> repaired('{"town": "Marl", crew: 14,}', frozenset({"town"}))
    ({'town': 'Marl', 'crew': 14}, '')
    """
    depth = 0
    for bracket in _BRACKET.finditer(source):
        depth += 1 if bracket[0] in "{[" else -1
        if depth > DEEPEST:  # each level costs the library a look at all the rest
            return None, ""
    while doubled := _DOUBLED.fullmatch(source):
        source = doubled[1]
    if not source.endswith("}") and (source.replace('\\"', "").count('"') % 2 or source.rstrip().endswith((",", ":"))):
        return None, ""  # cut off within a text, or where more was to come
    import json_repair

    source = _ESCAPE.sub(_own_escape, _CITED.sub("", _ADDED.sub("", source)))
    try:
        value = json_repair.loads(source, skip_json_loads=True)
        return _checked(source, value) if value and _same_structure(source, value, names) else (None, "")
    except Exception:  # noqa: BLE001 - whatever it raises: it could not be repaired
        return None, ""


def _checked(source: str, value: Any) -> tuple[Any, str]:
    """Return a repaired value without what is doubtful in it, and the words that are left out; raise if it invents."""
    plain = _joined(_ESCAPE.sub(_resolved, source))
    squashed = _squashed(plain)
    places: dict[str, Iterator[re.Match[str]]] = {}
    kept: list[str] = []

    def beside(key: str) -> str:
        """Return the bare words after a key's next place in the source, such as a number with its unit."""
        if key not in places:
            places[key] = re.finditer(rf"[\"'“”]?{re.escape(key)}[\"'“”]?\s*[:=]\s*({_BARE})", source)
        kept.append(key)
        match = next(places[key], None)
        return re.split(r"//|#|/\*", match[1], maxsplit=1)[0].strip() if match else ""

    def checked(bare: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: checked(beside(key), inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [checked("", inner) for inner in value]
        if isinstance(value, str):
            value = _joined(value)
            if _squashed(value) not in squashed:
                raise ValueError(value)
            value = bare if bare.endswith(value) else value
            swallowed = value.endswith('"') and re.search(re.escape(value[:-1]) + r'\\"\s*[,}\]]', source)
            endless = f'"{value}' in source and f'{value}"' not in source
            if swallowed or endless or _DOUBTFUL.fullmatch(value):
                return None  # and so it is named as left out
            kept.append(value)
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            kept.append(bare or str(value))
            if bare and bare != str(value):
                return bare  # 1 200: what it says is for whoever reads numbers
            if not bare and not re.search(rf"(?<![\w.,+~-]){re.escape(str(value))}(?!\s*[\w%]|[.,]\d)", source):
                raise ValueError(value)
        return value

    value = checked("", value)
    said = Counter(_WORD.findall(" ".join(kept)))
    left = []
    for word in _WORD.findall(_NOT_SAID.sub(" ", plain)):
        said[word] -= 1
        if said[word] < 0:
            left.append(word)
    return value, f"left out: {' '.join(left)}"[:300] if left else ""


def _same_structure(source: str, value: Any, names: frozenset[str]) -> bool:
    """Whether keys and brackets of a repaired value are those of its source; what is open at its end may be closed.

    A repair that moves or swallows some would put a company's town into the firm.
    """
    wanted = list(_structure(value))
    known = {*names, *wanted} - set("{}[]")
    if len(known) > MOST_KEYS or any('"' in key for key in known):
        return False
    keys = "|".join(map(re.escape, sorted(known, key=len, reverse=True))) or "(?!)"
    key = rf"(?<!\w){_SIGNS}(?P<key>{keys}){_SIGNS}\s*[:=]"
    for skipped in _SKIPPED:
        seen: list[str] = []
        opened: list[str] = []
        for match in re.finditer(rf"{key}|{skipped}|{_COMMENT}|(?P<bracket>[{{}}\[\]])", source, re.DOTALL):
            bracket = match["bracket"]
            if bracket in ("{", "["):
                opened.append("}" if bracket == "{" else "]")
            elif bracket and (not opened or opened.pop() != bracket):
                break
            seen += filter(None, (match["key"], bracket))
        else:
            if seen + opened[::-1] == wanted:
                return True
    return False


def _structure(value: Any) -> Iterator[str]:
    """Yield the keys and brackets of a value in their order."""
    if isinstance(value, dict):
        yield "{"
        for key, inner in value.items():
            yield key
            yield from _structure(inner)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for inner in value:
            yield from _structure(inner)
        yield "]"


def _resolved(escape: re.Match[str]) -> str:
    """Return what an escape stands for."""
    code, letter = escape[1] or escape[2], escape[3]
    return chr(int(code, 16)) if code else dict(zip("nrtbf", "\n\r\t\b\f", strict=True)).get(letter, escape[4] or "")


def _own_escape(escape: re.Match[str]) -> str:
    """Return an escape that JSON has, for those that other languages and Markdown have."""
    return f"\\u00{escape[2]}" if escape[2] else escape[4] if escape[4] and escape[4] not in '"/\\' else escape[0]


def _joined(text: str) -> str:
    """Return a text whose letters beyond U+FFFF, escaped as two, are one."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _squashed(text: str) -> str:
    """Return a text without blanks and backslashes, which a repair may read one way or the other."""
    return re.sub(r"[\s\\]", "", text)
