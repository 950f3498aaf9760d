"""The grounding: which pages back which field of an answer, as far as the reply itself says so.

Pure. The service marks stretches of its text, in bytes, and names the pages behind each; here they are laid over the
values in the JSON. It does not look at the pages: what is backed may still be wrong, and what is not may be right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from ..messages import Support
from .answer import DECODER, Issue, locate_object

State = Literal["supported", "unsupported", "not_found", "invalid", "conflict"]
STATES: tuple[State, ...] = ("supported", "unsupported", "conflict", "invalid", "not_found")
NO_VALUE_SAID = "says_nothing"
"""The check that empties words such as "not disclosed": no wrong answer, but none at all."""
_KEY = re.compile(r'\s*[{,]\s*(?=")')
_COLON = re.compile(r"\s*:\s*")


def evidence(text: str, supports: Sequence[Support], names: frozenset[str]) -> dict[str, tuple[int, ...]]:
    """Return for each field of the JSON object in a text the sources that back its value, or a part of it.

    >>> text = '{"role": "Partner", "city": "Oslo"}'
    >>> evidence(text, [Support(10, 17, (0, 2))], frozenset({"role", "city"}))
    {'role': (0, 2)}
    """
    backed: dict[str, tuple[int, ...]] = {}
    for name, (start, end) in _spans(text, names).items() if supports else ():
        backing = [support for support in supports if support.start < end and start < support.end]
        if places := {place for support in backing for place in support.sources}:
            backed[name] = tuple(sorted(places))
    return backed


def _spans(text: str, names: frozenset[str]) -> dict[str, tuple[int, int]]:
    """Return where in the text each field's value stands, in bytes, without its quotes or brackets."""
    at, values = locate_object(text, names)
    spans: dict[str, tuple[int, int]] = {}
    # The very walk that the decoder took: it cannot fail, since the object was read before.
    while values is not None and (key := _KEY.match(text, at)):
        name, end = DECODER.raw_decode(text, key.end())
        colon = _COLON.match(text, end)
        start = end if colon is None else colon.end()
        _, at = DECODER.raw_decode(text, start)
        if name in names:  # of any others there may be thousands, and each costs a look at the text before it
            wrapped = text[start] in '"[{'
            spans[name] = _bytes(text[: start + wrapped]), _bytes(text[: at - wrapped])
    return spans


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
        wrong = asked is not None and any(issue.check != NO_VALUE_SAID for issue in issues)
        return "invalid" if wrong or unreadable else "not_found"
    if any(issue.flags for issue in issues):
        return "invalid"
    if differs:
        return "conflict"
    return "supported" if backed else "unsupported"
