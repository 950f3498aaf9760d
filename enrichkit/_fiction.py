"""Invented answers for the simulator, made from a request's schema and the record in its prompt.

Pure and deterministic: the same seed gives the same answer. Everything is invented, on ``example`` domains, and spread
as real answers are: fields missing, addresses of the wrong kind, JSON in a Markdown fence.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

KINDS = {1: "string", 2: "number", 3: "integer", 4: "boolean", 5: "array", 6: "object"}
"""Schema types as the older SDK numbers them."""
ABOUT_ITSELF = ("confidence", "search_quality", "fields_found", "notes")
WORDS = {
    "role": ["Partner", "Managing Partner", "Principal", "Investment Director", "Analyst", "Head of Research"],
    "city": ["Oslo", "London", "New York", "Lyon", "Łódź", "Singapore", "São Paulo", "Zürich", "Nairobi", "京都"],
    "country": ["Norway", "United Kingdom", "United States", "France", "Poland", "Singapore", "Kenya"],
    "currency": ["USD", "USD", "EUR", "GBP"],
    "sector": ["fintech", "saas", "healthtech", "cleantech", "ai-ml", "biotech", "ecommerce", "energy", "real-estate"],
    "stage": ["seed", "series-a", "seed, series-a", "growth", "buyout"],
    "geograph": ["Nordics", "Western Europe", "North America", "South-East Asia", "East Africa"],
    "industry": ["Software", "Logistics", "Food", "Chemicals", "Education"],
    "type": ["venture capital", "private equity", "family office"],
}
SENTENCES = [
    "{who} backs founders early and stays with them for a decade.",
    "{who} works with a small team and invests in few companies at a time.",
    "Known for patient money, {who} looks for firms that others find too slow.",
    "{who} came from engineering, and it shows in what gets funded.",
]
_VALUE = re.compile(r"(?m)^([^\n:⟦]{0,60}):[ \t]*⟦([^⟧]*)⟧")


class Record:
    """What a prompt says of its record: the values between ⟦ and ⟧, with the labels before them."""

    def __init__(self, text: str) -> None:
        self.values = [value for value in re.findall("⟦([^⟧]*)⟧", text) if value != "(unknown)"]
        self.labelled = {label.strip().lower(): value for label, value in _VALUE.findall(text) if value != "(unknown)"}
        self.person = " ".join(self.labelled[name] for name in ("first name", "last name") if name in self.labelled)
        self.subject = self.labelled.get("fund") or (self.values[0] if self.values else "Nobody")


def slug(text: str) -> str:
    """Return a name as an address spells it.

    >>> slug("Łucja O'Dell & Co")
    'ucja-o-dell-co'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "no-latin-name"


def invent(schema: Mapping[str, Any], text: str, seed: int) -> dict[str, Any]:
    """Return an answer of ``schema`` about the record in a prompt's text; the order of the fields does not matter."""
    record = Record(text)
    dice = random.Random(f"{seed} known {text}")
    # How much there is to find about this record: it moves every other figure, as it does for real.
    known = min(1.0, max(0.05, dice.gauss(0.72, 0.22)))
    answer: dict[str, Any] = {}
    properties = schema.get("properties") or {}
    for name, part in sorted(properties.items()):
        if name in ABOUT_ITSELF:
            continue
        dice = random.Random(f"{seed} {name} {text}")
        required = name in (schema.get("required") or ())
        found = required or dice.random() < 0.35 + 0.6 * known
        answer[name] = _value(name, part, record, dice) if found else None
    dice = random.Random(f"{seed} itself {text}")
    found_names = [name for name, value in answer.items() if value is not None]
    itself: dict[str, Any] = {
        "confidence": _graded(known, ("low", "medium", "high"), dice),
        "search_quality": _graded(known, ("poor", "limited", "good", "excellent"), dice),
        "fields_found": found_names,
        "notes": "Simulated answer: everything in it is invented.",
    }
    if dice.random() < 0.06:
        itself["search_quality"] = None  # sometimes missing, also for real
    return answer | {name: value for name, value in itself.items() if name in properties}


def written(answer: Mapping[str, Any], dice: random.Random) -> str:
    """Return an answer's text: mostly bare JSON, sometimes in a fence."""
    text = json.dumps(answer, ensure_ascii=False, indent=None if dice.random() < 0.6 else 2)
    return f"```json\n{text}\n```" if dice.random() < 0.08 else text


def _graded(known: float, words: tuple[str, ...], dice: random.Random) -> str:
    place = (known + dice.gauss(0, 0.1)) * len(words)
    return words[min(len(words) - 1, max(0, int(place)))]


def _value(name: str, schema: Mapping[str, Any], record: Record, dice: random.Random) -> Any:
    given = schema.get("type", "string")
    kind = KINDS.get(given, str(given).lower())
    if choices := [choice for choice in schema.get("enum") or () if choice is not None]:
        return dice.choice(choices)
    if kind == "array":
        items = schema.get("items") or {}
        many = [_value(name, items, record, dice) for _ in range(dice.randint(1, 3))]
        return [one for place, one in enumerate(many) if one not in many[:place]]
    if kind == "object":
        return _object(schema, record, dice)
    if kind == "boolean":
        return dice.random() < 0.5
    if kind in ("integer", "number"):
        return _number(name, dice)
    return _text(name, schema, record, dice)


def _object(schema: Mapping[str, Any], record: Record, dice: random.Random) -> dict[str, Any]:
    found = {name: _value(name, part, record, dice) for name, part in sorted((schema.get("properties") or {}).items())}
    low, high = found.get("min"), found.get("max")
    if isinstance(low, int | float) and isinstance(high, int | float) and dice.random() < 0.97:
        found["min"], found["max"] = min(low, high), max(low, high)
    return found


def _number(name: str, dice: random.Random) -> int:
    if "year" in name or "founded" in name:
        return dice.randint(1985, 2026)
    if name in ("value", "aum", "min", "max") or name.endswith("_usd"):
        return dice.randint(1, 99) * dice.choice([100_000, 1_000_000, 10_000_000])
    return dice.randint(1, 500)


def _text(name: str, schema: Mapping[str, Any], record: Record, dice: random.Random) -> str:
    about_person = bool(record.person) and "firm's linkedin" not in str(schema.get("description", "")).lower()
    about_person = about_person and "/company/" not in str(schema.get("description", ""))
    who = record.person if about_person else record.subject
    wrong = dice.random()
    if "linkedin" in name:
        kind = "in" if about_person != (wrong < 0.04) else "company"
        other = "somebody-else" if 0.04 <= wrong < 0.07 else slug(who)
        return _dressed(f"https://www.linkedin.com/{kind}/{other}", dice)
    if "crunchbase" in name:
        return _dressed(f"https://www.crunchbase.com/{'person' if wrong < 0.04 else 'organization'}/{slug(who)}", dice)
    if "website" in name or "url" in name:
        page = f"https://www.linkedin.com/company/{slug(who)}" if wrong < 0.03 else f"https://{slug(who)}.example"
        return _dressed(page, dice)
    if "email" in name:
        return f"office@{slug(record.subject)}.example"
    if "phone" in name:
        return "+44 20 7946 0" + str(dice.randint(100, 999)) if wrong > 0.04 else "on request"
    for word, choices in WORDS.items():
        if word in name:
            return "Deep Tech" if word == "sector" and wrong < 0.05 else dice.choice(choices)
    if name == "name":
        return f"{dice.choice(['Tern', 'Aldwin', 'Quill', 'Mirabo', 'Ostrel'])} {dice.choice(['Labs', 'Works', 'AS'])}"
    return dice.choice(SENTENCES).format(who=who or "The firm")


def _dressed(address: str, dice: random.Random) -> str:
    """Return an address as models often give it: with a slash, another scheme, or somebody's tracking."""
    at = dice.random()
    if at < 0.05:
        return address.replace("https:", "http:")
    if at < 0.10:
        return address.removeprefix("https://")
    if at < 0.20:
        return address + "/"
    return f"{address}?utm_source=search" if at < 0.23 else address
