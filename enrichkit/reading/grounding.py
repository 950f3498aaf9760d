"""The grounding: which pages back which field of an answer, as far as the reply itself says so.

Pure. The service marks stretches of its text, in bytes, and names the pages behind each; here they are laid over the
values in the JSON. It does not look at the pages: what is backed may still be wrong, and what is not may be right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from ..messages import Support
from .answer import Issue
from .json_text import DECODER, locate

State = Literal["supported", "unsupported", "not_found", "invalid", "conflict"]
STATES: tuple[State, ...] = ("supported", "unsupported", "conflict", "invalid", "not_found")
_KEY = re.compile(r'\s*[{,]\s*(?=")')
_COLON = re.compile(r"\s*:\s*")


def evidence(text: str, supports: Sequence[Support], names: frozenset[str]) -> dict[str, tuple[int, ...]]:
    """Return for each field of the JSON object in a text the sources that back its value, or a part of it.

    >>> text = '{"role": "Partner", "city": "Oslo"}'
    >>> evidence(text, [Support(10, 17, (0, 2))], frozenset({"role", "city"}))
    {'role': (0, 2)}
    """
    backed: dict[str, set[int]] = {}
    for name, start, end in _spans(text, names) if supports else ():
        backing = [support for support in supports if support.start < end and start < support.end]
        backed.setdefault(name, set()).update(place for support in backing for place in support.sources)
    return {name: tuple(sorted(places)) for name, places in backed.items() if places}


def _spans(text: str, names: frozenset[str]) -> Iterator[tuple[str, int, int]]:
    """Yield where in the text each field's value stands, in bytes, without its quotes or brackets.

    Of an object that does not stand there as it was read, those texts and numbers are looked for that stand in the text
    once only: what stands there twice may be another field's.
    """
    located = locate(text, names)
    at = located.start
    # The very walk that the decoder took: it cannot fail, since the object was read before.
    while at >= 0 and (key := _KEY.match(text, at)):
        name, end = DECODER.raw_decode(text, key.end())
        colon = _COLON.match(text, end)
        start = end if colon is None else colon.end()
        value, at = DECODER.raw_decode(text, start)
        kept = name in names and value == (located.values or {})[name]  # of two values one
        if kept:  # of any others there may be thousands, and each costs a look at the text before it
            wrapped = text[start] in '"[{'
            yield name, _bytes(text[: start + wrapped]), _bytes(text[: at - wrapped])
    if located.start < 0:
        for name in names & (located.values or {}).keys():
            for value in _leaves((located.values or {})[name]):
                places = list(re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text))
                if len(places) == 1:
                    yield name, _bytes(text[: places[0].start()]), _bytes(text[: places[0].end()])


def _leaves(value: Any) -> Iterator[str]:
    """Yield the texts and numbers in a value."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)
    elif value not in (None, "") and not isinstance(value, bool):
        yield str(value)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def state(
    asked: Any, kept: Any, issues: Sequence[Issue], *, backed: bool, differs: bool, unreadable: bool = False
) -> State:
    """Return how far a field's value is to be trusted, by what the answer said and the checks have ``kept`` of it.

    ``backed`` says whether a source backs it; ``differs``, whether the record has another value there; ``unreadable``,
    whether there was a value of a type that could not be kept.
    """
    if kept is None:
        return "invalid" if (asked is not None and issues) or unreadable else "not_found"
    if any(issue.flags for issue in issues):
        return "invalid"
    if differs:
        return "conflict"
    return "supported" if backed else "unsupported"
