"""The decisions of a person: what was judged right or wrong, and which value stands instead. Nothing removes one.

A file for each call, ``OUT.work/decisions/<time>-<random>.json``, written durably and without a lock: it takes no part
in the run that may be under way, and no run changes it. A decision names what it is about by the cells that its
question was asked of; it holds for every record that shares these, whatever the prompt or the model was.
"""

from __future__ import annotations

import re
import uuid
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from ..stages.funds import KEY
from ..table.cells import cell_text
from .files import DECISIONS, Files, names_in, work_area
from .journal import read_checked, with_checksum

Verdict = Literal["right", "wrong", "unsure", "value"]
About = tuple[tuple[str, str], ...]
"""The columns that identify what a question is about, each with the text of its cell."""
_FILE = re.compile(r"\d{8}T\d{12}Z-\w+\.json")
_TIME = "%Y%m%dT%H%M%S%fZ"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about an answer: a field of a question.

    Attributes
    ----------
    stage, column, about : str, str, tuple
        The answer: what was asked, the column it belongs in, the cells that it was asked of.
    record_id : str
        The record that was looked at.
    value, cell : str or None
        The answer that was seen, and what the table had in its place.
    stored : str or None
        What the store had in its place, which keeps a table's cells as they came first.
    verdict : str
        ``right``, ``wrong``, ``unsure``, or ``value``: the value ``instead`` is right.
    instead : str or None
        The right value.
    at : str
        When, in UTC; `write_decisions` sets it.
    """

    stage: str
    column: str
    about: About
    record_id: str
    value: str | None
    cell: str | None
    verdict: Verdict
    instead: str | None = None
    stored: str | None = None
    at: str = ""


def about_of(row: Mapping[str, Any], per: Sequence[str]) -> About:
    """Return what a question is about that is asked ``per`` these columns; the built-in keys ignore case.

    >>> about_of({"fund.title": "Tern Fund ", "country": None}, ["fund.title"])
    (('fund.title', 'tern fund'),)
    """
    texts = {name: cell_text(row.get(name)) for name in sorted(per)}
    return tuple((name, text.casefold() if set(per) <= set(KEY) else text) for name, text in texts.items())


def write_decisions(out: Path, decisions: Sequence[Decision]) -> None:
    """Store decisions durably, as one file. Once this returns, they are never lost, and newer than all before them."""
    folder = work_area(out) / DECISIONS
    now = datetime.now(UTC)
    if before := _files(folder):  # a clock may have been set back
        now = max(
            now, datetime.strptime(before[-1].split("-")[0], _TIME).replace(tzinfo=UTC) + timedelta(microseconds=1)
        )
    dated = [asdict(replace(decision, at=now.isoformat())) for decision in decisions]
    # A scratch folder of its own: a run that begins clears its own.
    Files(folder).put(folder / f"{now:{_TIME}}-{uuid.uuid4().hex[:8]}.json", with_checksum({"decisions": dated}))


def read_decisions(out: Path) -> list[Decision]:
    """Return the decisions of a store, oldest first; it warns of a damaged file."""
    folder = work_area(out) / DECISIONS
    decisions = []
    for name in _files(folder):
        held = read_checked(folder / name)
        if held is None:
            warnings.warn(
                f"{folder / name} is damaged: the decisions in it do not count. Restore it from a copy.", stacklevel=3
            )
        for facts in (held or {}).get("decisions", ()):
            known = {field.name: facts.get(field.name) for field in fields(Decision)}
            about = tuple((str(column), str(text)) for column, text in facts["about"])
            decisions.append(Decision(**known | {"about": about}))
    return decisions


def standing(decisions: Iterable[Decision]) -> dict[tuple[str, About], Decision]:
    """Return the newest decision about each answer, by its column and what it is about."""
    return {(decision.column, decision.about): decision for decision in decisions}


def _files(folder: Path) -> list[str]:
    return list(filter(_FILE.fullmatch, names_in(folder)))
