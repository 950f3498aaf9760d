"""What became of planted values, as a user sees it: by `trust.evidence` and `trust.weak`, and by nothing else."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from enrichkit import trust
from support.planted import ADDRESSES, KEY, LISTS, OBJECTS, SOUND, Corpus, Value

FLAGGED = ("doubtful", "invalid")
FATES = ["kept", "cleaned", "flagged", "emptied", "changed", "silent"]


def same(name: str, answer: Any, right: Any) -> bool:
    """Whether an answer, as `evidence` writes it, is the right one.

    >>> same("website", "https://kelm.no/", "https://www.kelm.no"), same("phone", "Tel. +47 22", "+47 22")
    (True, False)
    >>> same("sectors", "energy, saas", ["saas", "energy"]), same("aum", '{"value": 5.0}', {"value": 5, "year": None})
    (True, True)
    """
    if name in ADDRESSES:
        return _address(answer) == _address(right)
    if name == "phone":
        return bool(re.fullmatch(r"\+[\d ()./-]+", answer)) and re.sub(r"\D", "", answer) == re.sub(r"\D", "", right)
    if name in OBJECTS or name == "portfolio_companies":
        return _bare(json.loads(answer)) == _bare(right)
    if name in LISTS:
        return sorted(answer.split(", ")) == sorted(right)
    if name == "preferred_stage":
        return sorted(re.split(r", *", answer)) == sorted(right.split(", "))
    return unicodedata.normalize("NFC", answer.strip()) == unicodedata.normalize("NFC", right.strip())


def _address(text: str) -> str:
    head, slash, path = re.sub(r"^https?://(www\.)?", "", text.strip()).partition("/")
    return (head.lower() + slash + path).rstrip("/")


def _bare(value: Any) -> Any:
    """Return a value without what is null."""
    if isinstance(value, dict):
        return {name: _bare(part) for name, part in value.items() if part is not None}
    return [_bare(part) for part in value] if isinstance(value, list) else value


def measure(out: str | Path, made: Corpus) -> pd.DataFrame:
    """Return what became of each value that is judged, as a user sees it.

    ``fate`` is ``cleaned`` (the right value stands there), ``flagged``, ``emptied``, ``silent`` (it stands there as it
    was written, and nothing is said), of a sound value ``kept``, ``flagged``, ``emptied``, ``changed``; ``weak`` says
    whether `trust.weak` has the record. What a reply says of itself is seen where anything in its stage is flagged.
    """
    shown = trust.evidence(out)
    rows: dict[tuple[str, ...], Mapping[str, Any]] = {}
    doubted: set[tuple[str, ...]] = set()
    for row in shown.to_dict("records"):
        key = tuple(row[name] for name in KEY)
        rows[*key, row["column"]] = row
        if row["state"] in FLAGGED or len(row.get("doubts", ())):
            doubted.add((*key, row["stage"]))
    weak = set(trust.weak(out)[list(KEY)].itertuples(index=False, name=None))
    became = []
    for value in made.values:
        if value.verdict == "open":
            continue
        row = rows.get((*value.key, value.column), {"answer": None, "state": "missing"})
        if value.field == "*":
            fate = "flagged" if (*value.key, value.stage) in doubted else "silent"
        else:
            fate = _fate(value, row["answer"], row["state"])
        facts = (value.stage, value.field, value.kind, value.verdict, value.written, row["answer"], row["state"])
        became.append((*value.key, *facts, fate, value.key in weak))
    names = ["stage", "field", "kind", "verdict", "written", "answer", "state", "fate", "weak"]
    return pd.DataFrame(became, columns=[*KEY, *names])


def _fate(value: Value, answer: Any, state: str) -> str:
    sound = value.verdict in SOUND
    if pd.isna(answer):
        return "cleaned" if value.verdict == "nothing" else "emptied"
    if state in FLAGGED or (value.verdict == "same" and state == "conflict"):
        return "flagged"
    # Of what means the same, the cell may be shown: it stands.
    right = value.verdict == "same" or any(same(value.field, answer, right) for right in value.right)
    return ("kept" if sound else "cleaned") if right else ("changed" if sound else "silent")


def table(became: pd.DataFrame) -> pd.DataFrame:
    """Return by verdict and kind how many values there are, what became of them, and how many records are weak."""
    by = ["verdict", "kind", "column"]
    column = became["stage"].replace({"deep": "fund"}) + "." + became["field"]
    parts = became.assign(column=column, values=1).groupby(by)
    fates = parts["fate"].value_counts().unstack(fill_value=0).reindex(columns=FATES, fill_value=0)
    return pd.concat([parts["values"].sum(), fates, parts["weak"].sum()], axis=1).reset_index()


def figures(became: pd.DataFrame) -> dict[str, float]:
    """Return the shares that the goals are about, in percent."""
    sound = became[became["verdict"].isin(SOUND)]
    wrong = became[~became["verdict"].isin(SOUND)]
    faults, fixes = wrong[wrong["verdict"] == "fault"], wrong[wrong["verdict"] != "fault"]
    # What was read as nothing leaves no doubt behind; what a whole reply gives away has no state of its own.
    doubted = wrong["state"].isin(FLAGGED) | (wrong["field"] == "*")
    listed = wrong[wrong["fate"].isin(["flagged", "emptied"]) & doubted]
    # A firm's answers are those of all its contacts.
    firms = wrong.loc[wrong["stage"] != "poc", KEY[0]]
    of_people = became.set_index(list(KEY)).index.isin(wrong.set_index(list(KEY)).index)
    innocent = became[~of_people & ~became[KEY[0]].isin(firms)]
    odd = sound[sound["kind"] != "ordinary"]
    return {
        "faults and recoverable values cleaned, flagged or emptied": _share(wrong["fate"] != "silent"),
        "faults alone flagged or emptied": _share(faults["fate"] != "silent"),
        "flagged or emptied records in weak": _share(listed["weak"]),
        "recoverable values recovered": _share(fixes["fate"] == "cleaned"),
        "sound values flagged": _share(sound["fate"] == "flagged"),
        "sound values that look odd flagged": _share(odd["fate"] == "flagged"),
        "sound values emptied or changed": _share(sound["fate"].isin(["emptied", "changed"])),
        "records without a fault in weak": _share(innocent.drop_duplicates(list(KEY))["weak"]),
    }


def _share(hits: pd.Series[bool]) -> float:
    return round(100 * float(hits.mean()), 1) if len(hits) else 0.0
