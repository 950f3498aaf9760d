"""The grounding: which pages back which field of an answer, as far as the reply itself says so.

Pure. The service marks stretches of its text, in bytes, and names the pages behind each; here they are laid over the
values in the JSON. It does not look at the pages: what is backed may still be wrong, and what is not may be right.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..messages import Reply, Support
from .answer import Answer, Issue, of_itself, only_cleans
from .json_text import DECODER, locate

State = Literal["supported", "unsupported", "conflict", "doubtful", "invalid", "not_found"]
STATES: tuple[State, ...] = get_args(State)
NO_SEARCH = Issue("search_quality", "no_search", "the answer came without a search")
"""What is wrong with an answer of a stage that searches, where nothing shows that it did."""
OF_THE_REPLY = frozenset({NO_SEARCH.check, "no_query", "no_page", "found_null"})
"""The checks of what a reply lacks, or says against itself."""
_KEY = re.compile(r'\s*[{,]\s*(?=")')
_COLON = re.compile(r"\s*:\s*")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?|[\[\]{},]|[^\s,:\[\]{}"]+', re.DOTALL)
"""What JSON is made of; a key has its colon with it."""
MOST_PARTS = 100
"""Parts of a value that are looked at one by one: hostile text costs no more."""
Span = tuple[int, int]
"""Where something begins and ends, in letters."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a value: its letters, without quotes and keys, and where a mark may lie that is about it alone."""

    spans: Sequence[Span]
    around: Span

    def covered(self, mark: Span) -> int:
        """Return how many of its letters a mark covers."""
        return sum(max(0, min(end, mark[1]) - max(start, mark[0])) for start, end in self.spans)


@dataclass(frozen=True, slots=True)
class Backing:
    """What the marks say of a field's value: the sources behind it, and how many of its parts they back together.

    A list has as many parts as items, any other value is one. ``whole`` are those of the sources whose only mark
    stands around the whole answer.
    """

    sources: tuple[int, ...] = ()
    whole: tuple[int, ...] = ()
    parts: int = 0
    backed: int = 0

    @property
    def holds(self) -> bool:
        """Whether the value is backed: of a list, half of its items or more."""
        return 0 < self.parts <= 2 * self.backed


def evidence(text: str, supports: Sequence[Support], names: frozenset[str]) -> dict[str, Backing]:
    """Return what backs each field of the JSON object in a text: marks that cover half of its letters or more.

    A mark counts for a part of a value if it lies within it, as those of its sentences do, or covers half of it: one
    that only reaches into it is about its neighbour.

    >>> text = '{"role": "Partner", "tags": ["tea", "salt", "fish"]}'
    >>> evidence(text, [Support(10, 17, (0, 2)), Support(29, 34, (1,))], frozenset({"role", "tags"}))["tags"]
    Backing(sources=(1,), whole=(), parts=3, backed=1)
    """
    fields = _fields(text, names) if supports else {}
    spans = [span for parts in fields.values() for part in parts for span in part.spans if span[1]]
    first, last = min(spans, default=(0, 0))[0], max((end for _, end in spans), default=0)
    raw = b"" if text.isascii() else text.encode("utf-8", "surrogatepass")
    marks = [(_letters(raw, each.start), _letters(raw, each.end)) for each in supports]
    around = [len(fields) > 1 and start <= first and last <= end for start, end in marks]
    known = {}
    for name, parts in fields.items():
        backing = [backed for part in parts if (backed := _backing(part, marks))]
        chosen = {place for backed in backing for place in backed}
        own = {source for place in chosen if not around[place] for source in supports[place].sources}
        sources = own.union(*(supports[place].sources for place in chosen))
        if sources:
            known[name] = Backing(tuple(sorted(sources)), tuple(sorted(sources - own)), len(parts), len(backing))
    return known


def _backing(part: Part, marks: Sequence[Span]) -> list[int]:
    """Return the places of the marks that back a part; none where they cover less than half of it together."""
    size = sum(end - start for start, end in part.spans)
    chosen = [
        place
        for place, mark in enumerate(marks)
        if (covered := part.covered(mark))
        and (2 * covered >= size or (part.around[0] <= mark[0] and mark[1] <= part.around[1]))
    ]
    together = reached = 0
    for start, end in sorted(marks[place] for place in chosen):
        together += part.covered((max(start, reached), end)) if end > reached else 0
        reached = max(reached, end)
    return chosen if 2 * together >= size else []


def _letters(raw: bytes, place: int) -> int:
    """Return how many letters begin in the bytes of a text up to a place; as many as bytes in one of ASCII."""
    return len(raw[:place].decode("utf-8", "replace")) if raw else place


def _fields(text: str, names: frozenset[str]) -> dict[str, list[Part]]:
    """Return the parts of each field's value, by where they stand in the text.

    Of an object that does not stand there as it was read, those texts and numbers are looked for that stand in the text
    once only: what stands there twice may be another field's.
    """
    located = locate(text, names)
    values = located.values or {}
    known: dict[str, list[Part]] = {}
    at = located.start
    # The very walk that the decoder took: it cannot fail, since the object was read before.
    while at >= 0 and (key := _KEY.match(text, at)):
        before = at
        name, end = DECODER.raw_decode(text, key.end())
        colon = _COLON.match(text, end)
        start = end if colon is None else colon.end()
        value, at = DECODER.raw_decode(text, start)
        if name in names and value == values[name]:  # of two values one
            known[name] = _parts(text, start, at, before)
    if located.start < 0:
        for name in names & values.keys():
            parts = values[name] if isinstance(values[name], list) else [values[name]]
            known[name] = [_part(list(_places(text, part))) for part in parts]
    few = {name: [part for part in parts if part.spans] for name, parts in known.items()}
    return {name: parts for name, parts in few.items() if parts}


def _parts(text: str, start: int, end: int, before: int) -> list[Part]:
    """Return the parts of the value that stands from start to end, behind what ends ``before`` its key."""
    edges, spans = [before if text[start] != "[" else start + 1], [list[Span]()]
    depth = 0
    for token in _TOKEN.finditer(text, start, end):
        sign = token[0]
        depth += (sign in ("[", "{")) - (sign in ("]", "}"))
        if sign == "," and depth == 1 and text[start] == "[":
            edges.append(token.end())
            spans.append([])
        elif sign not in ("[", "{", "]", "}", ",", "null", '""') and not token[1]:
            quoted = sign[0] == '"'
            spans[-1].append((token.start() + quoted, token.end() - quoted))
    after = re.compile(r"[\s,]*").match(text, end)
    edges.append(after.end() if after else end)
    if len(spans) > MOST_PARTS:
        edges, spans = [edges[0], edges[-1]], [[span for part in spans for span in part]]
    return [_part(part, around) for part, around in zip(spans, itertools.pairwise(edges), strict=True)]


def _part(spans: list[Span], around: Span | None = None) -> Part:
    """Return a part of these letters; of more pieces than are looked at, all between the first and the last."""
    spans = spans if len(spans) <= MOST_PARTS else [(spans[0][0], spans[-1][1])]
    return Part(spans, around or (spans[0][0], spans[-1][1]) if spans else (0, 0))


def _places(text: str, value: Any) -> Iterator[Span]:
    """Yield where the texts and numbers in a value stand; what does not stand there once stands before the text."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _places(text, part)
    elif value not in (None, "") and not isinstance(value, bool):
        places = list(re.finditer(rf"(?<!\w){re.escape(str(value))}(?!\w)", text))
        yield places[0].span() if len(places) == 1 else (-len(str(value)), 0)


def against_itself(
    reply: Reply, answer: Answer, fields: Collection[str], issues: Iterable[Issue], *, searches: bool
) -> Iterator[Issue]:
    """Yield what a reply lacks that a search brings, where one ``searches``, and what it says against itself.

    Of a field that reading has an issue with, there was a value.
    """
    empty = [name for name in fields if getattr(answer, name) in (None, "", [], {})]
    quality = of_itself(answer, "search_quality")
    if searches and not reply.usage.searches:
        yield NO_SEARCH
    elif searches and quality in ("excellent", "good") and not reply.queries:
        yield Issue("search_quality", "no_query", f"{quality!r}, without a query")
    elif searches and not reply.sources and len(empty) < len(fields):
        yield Issue("search_quality", "no_page", "the search brought no page")
    claimed = set(of_itself(answer, "fields_found") or ()) - {issue.top for issue in issues}
    for name in sorted(claimed.intersection(empty)):
        yield Issue(name, "found_null", "said to be found, and left empty")


def state(asked: Any, kept: Any, issues: Sequence[Issue], *, backed: bool, differs: bool) -> State:
    """Return how far a field's value is to be trusted, by what the answer said and the checks have ``kept`` of it.

    ``issues`` are what reading and checks found wrong with it; ``backed`` says whether a source backs it; ``differs``,
    whether the record has another value there.
    """
    grave = [issue for issue in issues if not only_cleans(issue.check)]
    if kept is None:
        return "invalid" if grave else "not_found"
    if any(issue.flags for issue in grave) or (grave and _lost(asked, kept)):
        return "doubtful"
    if differs:
        return "conflict"
    return "supported" if backed else "unsupported"


def _lost(asked: Any, kept: Any) -> bool:
    """Whether a list or an object has lost a part of itself.

    >>> _lost({"value": 5, "year": 2087}, {"value": 5, "year": None}), _lost(["saas", "x"], ["saas"]), _lost("a", "b")
    (True, True, False)
    """
    if isinstance(asked, dict) and isinstance(kept, dict):
        return any(part is not None and _lost(part, kept.get(name)) for name, part in asked.items())
    if isinstance(asked, list) and isinstance(kept, list):
        return len(kept) < len(asked) or any(map(_lost, asked, kept))
    return asked is not None and kept is None
