"""Invented answers for the simulator, made from a request's schema and the record in its prompt.

Pure and deterministic: the same seed gives the same answer. Everything is invented, on ``example`` domains, and spread
as real answers are: fields missing, addresses of the wrong kind, values that differ from the record's, JSON in a
Markdown fence. What is wrong was planted, and is known by name: that is the truth that checks are measured against.
"""

from __future__ import annotations

import html
import json
import random
import re
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

STROKES = str.maketrans("øłđØŁĐ", "oldOLD") | str.maketrans({"æ": "ae", "œ": "oe", "ß": "ss"})
NO_LATIN = "name-"
WRONG_WORDS = {"sectors": ("Stargazing", "sector_outside"), "currency": ("Dollars", "no_currency")}
ABOUT_ITSELF = ("confidence", "search_quality", "fields_found", "notes")
WORDS = {
    "role": ["Partner", "Managing Partner", "Principal", "Investment Director", "Analyst", "Head of Research"],
    "country": ["Norway", "United Kingdom", "United States", "France", "Poland", "Singapore", "Kenya"],
    "currency": ["USD", "USD", "EUR", "GBP"],
    "sector": ["fintech", "saas", "healthtech", "cleantech", "ai-ml", "biotech", "ecommerce", "energy", "real-estate"],
    "stage": ["seed", "series-a", "seed, series-a", "growth", "buyout"],
    "geograph": ["Nordics", "Western Europe", "North America", "South-East Asia", "East Africa"],
    "industry": ["Software", "Logistics", "Food", "Chemicals", "Education"],
    "type": ["venture capital", "private equity", "family office"],
}
CITIES = {
    "united states, us, usa, u.s.a., united states of america": ["New York", "Boston", "San Francisco", "Austin"],
    "united kingdom, uk, u.k., great britain": ["London", "Edinburgh", "Manchester"],
    "france, fr": ["Paris", "Lyon", "Nîmes"],
    "germany, de, deutschland": ["Berlin", "München", "Köln"],
    **{"türkiye, turkey, tr": ["İstanbul", "İzmir"], "sweden, se, sverige": ["Stockholm", "Malmö"]},
    **{"poland, pl, polska": ["Warszawa", "Łódź"], "norway, no": ["Oslo", "Bergen"]},
    **{"canada, ca": ["Toronto", "Montréal"], "brazil, br, brasil": ["São Paulo"]},
    **{"switzerland, ch, schweiz, suisse": ["Zürich", "Genève"], "spain, es, españa": ["Madrid"]},
    **{"japan, jp, 日本": ["東京", "京都"], "china, cn, 中国": ["上海", "北京"]},
    **{"india, in, भारत": ["Mumbai", "Bengaluru"], "ukraine, ua": ["Київ", "Львів"]},
    **{"greece, gr, ελλάδα": ["Αθήνα"], "israel, il, ישראל": ["Tel Aviv"], "korea, kr": ["Seoul"]},
    **{"u.a.e., ae": ["Dubai"], "singapore": ["Singapore"], "kenya": ["Nairobi"]},
}
"""Countries as tables spell them, with some of their cities."""
FORMATS = {
    **{"date": "2021-11-03", "date-time": "2021-11-03T09:30Z", "time": "09:30", "duration": "P3D", "ipv4": "192.0.2.7"},
    **{"uri": "https://{}.example", "email": "office@{}.example", "uuid": "123e4567-e89b-42d3-a456-426614174000"},
}
"""Texts of the formats that a schema may ask for, about somebody."""
UNSUPPORTED = 0.08
"""How often no page backs a value."""
ELSEWHERE = {"Łódź": "poland", "Nairobi": "kenya", "Ulaanbaatar": ""}
OF_FUNDS = [
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
        self.labelled: dict[str, str] = {
            label.strip().lower(): value for label, value in _VALUE.findall(text) if value != "(unknown)"
        }
        self.person = " ".join(self.labelled[name] for name in ("first name", "last name") if name in self.labelled)
        self.country = self.labelled.get("country", "").casefold()
        emails = (self.labelled.get(label, "").rpartition("@") for label in ("fund's email", "email"))
        self.site = next((domain for name, at, domain in emails if name and at), "").lower()
        self.subject = self.labelled.get("fund") or (self.values[0] if self.values else "Nobody")

    def given(self, name: str, schema: Mapping[str, Any]) -> str:
        """Return what the record has where the answer's field goes, by the prompt's label for it."""
        label = name.replace("_", " ")
        own = self.person and "/company/" not in str(schema.get("description", ""))
        value = self.labelled.get(label if own else f"fund's {label}")
        return value or ("" if own else self.labelled.get(label, ""))


def slug(text: str) -> str:
    """Return a name as an address spells it.

    >>> slug("Łucja O'Dell & Co")
    'lucja-o-dell-co'
    """
    plain = unicodedata.normalize("NFKD", text.translate(STROKES)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or f"{NO_LATIN}{zlib.crc32(text.encode()) % 10**6}"


def invent(schema: Mapping[str, Any], text: str, seed: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Return an answer of a schema, in whatever order, about the record in a prompt's text; and its faults by field."""
    record = Record(text)
    dice = random.Random(f"{seed} known {text}")
    # How much there is to find about this record: it moves every other figure, as it does for real.
    known = min(1.0, max(0.05, dice.gauss(0.72, 0.22)))
    answer: dict[str, Any] = {}
    planted: dict[str, str] = {}
    properties = schema.get("properties") or {}
    for name in sorted(properties):
        part = properties[name]
        if name in ABOUT_ITSELF and part.get("type") in ("string", "array"):
            continue
        dice = random.Random(f"{seed} {name} {text}")
        answer[name] = None
        if name not in (schema.get("required") or ()) and dice.random() >= 0.35 + 0.6 * known:
            continue
        faults: list[str] = []
        given = record.given(name, part)
        answer[name] = _echoed(given, part, dice) or _value(name, part, record, dice, faults)
        if given and not faults and _words(answer[name]) != _words(given):
            faults.append("differs")
        if faults:
            planted[name] = faults[0]
    dice = random.Random(f"{seed} itself {text}")
    itself: dict[str, Any] = {
        "confidence": _graded(known, ("low", "medium", "high"), dice),
        "search_quality": _graded(known, ("poor", "limited", "good", "excellent"), dice),
        "fields_found": [name for name, value in answer.items() if value is not None],
        "notes": "Simulated answer: everything in it is invented.",
    }
    if dice.random() < 0.06:
        itself["search_quality"] = None  # sometimes missing, also for real
    rest = {name: value for name, value in itself.items() if name in properties.keys() - answer.keys()}
    return answer | rest, planted


def written(answer: Mapping[str, Any], dice: random.Random) -> tuple[str, dict[str, tuple[int, int]]]:
    """Return an answer's text, mostly bare JSON, sometimes in a fence; and where in it each field stands."""
    indent = None if dice.random() < 0.6 else 2
    before, after = ("```json\n", "\n```") if dice.random() < 0.08 else ("", "")
    text, spans = before + "{", {}
    for name, value in answer.items():
        text += ("" if text.endswith("{") else ",") + ("\n  " if indent else "")
        start = len(text)
        text += f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False, indent=indent)}"
        spans[name] = start, len(text)
    return text + ("\n}" if indent else "}") + after, spans


def _echoed(given: str, schema: Mapping[str, Any], dice: random.Random) -> Any:
    """Return what the record says already, as a search mostly finds it; None where it found something else."""
    if not given or dice.random() < 0.15:
        return None
    description = str(schema.get("description", ""))
    # Of the wrong kind, it slipped into this column: no page says so.
    for place in ("/in/", "/company/", "/organization/"):
        if place in description and place not in given:
            return None
    if "website" in description and ("linkedin.com" in given or "." not in given):
        return None
    if "city" in description.lower() and re.search("[;,/&]", given):
        return None
    return given if schema.get("type", "string") == "string" else None


def _words(value: Any) -> str:
    """Return a value's words, whatever their case, an address however it is written."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"^(https?://)?(www\.)?|/$|\?utm_.*$", "", " ".join(text.casefold().split()))


def _graded(known: float, words: tuple[str, ...], dice: random.Random) -> str:
    place = (known + dice.gauss(0, 0.1)) * len(words)
    return words[min(len(words) - 1, max(0, int(place)))]


def _value(name: str, schema: Mapping[str, Any], record: Record, dice: random.Random, faults: list[str]) -> Any:
    kind = schema.get("type", "string")
    if choices := [choice for choice in schema.get("enum") or () if choice is not None]:
        return dice.choice(choices)
    if kind == "array":
        items = schema.get("items") or {}
        count = _within(dice.randint(1, 3), schema.get("minItems"), schema.get("maxItems"))
        many = [_value(name, items, record, dice, faults) for _ in range(count)]
        return many if "minItems" in schema else [value for n, value in enumerate(many) if value not in many[:n]]
    if kind == "object":
        return _object(schema, record, dice, faults)
    if kind == "boolean":
        return dice.random() < 0.5
    if kind in ("integer", "number"):
        return _within(_number(name, dice, faults), schema.get("minimum"), schema.get("maximum"))
    return _text(name, schema, record, dice, faults)


def _object(schema: Mapping[str, Any], record: Record, dice: random.Random, faults: list[str]) -> dict[str, Any]:
    of_map = dict.fromkeys(("main", "other"), schema.get("additionalProperties") or {})
    parts = sorted((schema.get("properties") or of_map).items())
    values = {name: _value(name, part, record, dice, faults) for name, part in parts}
    low, high = values.get("min"), values.get("max")
    if isinstance(low, int | float) and isinstance(high, int | float):
        values["min"], values["max"] = min(low, high), max(low, high)
        if dice.random() < 0.03 and low != high:
            values["min"], values["max"] = values["max"], values["min"]
            faults.append("min_above_max")
    return values


def _within(value: Any, low: Any, high: Any) -> Any:
    """Return a number between two limits, where there are any."""
    return min(value if high is None else high, max(value, value if low is None else low))


def _number(name: str, dice: random.Random, faults: list[str]) -> int:
    wrong = dice.random() < 0.03
    if "year" in name or "founded" in name:
        if wrong:
            faults.append("impossible_year")
        return 2150 if wrong else dice.randint(1985, 2026)
    if name in ("value", "aum"):
        if wrong:
            faults.append("in_millions")
            return dice.randint(1, 99)
        return dice.randint(1, 99) * dice.choice([1_000_000, 10_000_000])
    if name in ("min", "max") or name.endswith("_usd"):
        return dice.randint(1, 99) * dice.choice([100_000, 1_000_000])
    return dice.randint(1, 500)


def _text(name: str, schema: Mapping[str, Any], record: Record, dice: random.Random, faults: list[str]) -> str:
    """Return a text, and note its fault if it gets one."""
    description = str(schema.get("description", ""))
    about_person = bool(record.person) and "firm's linkedin" not in description.lower()
    about_person = about_person and "/company/" not in description
    who = record.person if about_person else record.subject
    if asked := re.search(r"format: ([\w-]+)", description):
        return FORMATS.get(asked[1], "{}").format(slug(who))
    sound, wrong, fault = _choices(name, record, who, dice, about_person=about_person)
    if wrong is not None and dice.random() < 0.04:
        faults.append(fault)
        return wrong
    plain = OF_FUNDS if "fund" in record.labelled else [f"{name.replace('_', ' ')} {dice.randint(1, 99)} of {{who}}"]
    text = sound if sound is not None else dice.choice(plain).format(who=who or "the firm")
    longest = re.search(r"at most (\d+) characters", description)
    return text[: int(longest[1])] if longest else text


Choice = tuple[str | None, str | None, str]
"""A sound text for a field, a faulty one, and the fault's name; None where there is no such text."""


def _choices(name: str, record: Record, who: str, dice: random.Random, *, about_person: bool) -> Choice:
    if any(word in name for word in ("linkedin", "crunchbase", "website", "url")):
        return _addresses(name, who, record.site, dice, about_person=about_person)
    if "city" in name or "town" in name:
        return _city(record.country, dice)
    if "email" in name:
        return f"office@{slug(record.subject)}.example", None, ""
    if "phone" in name:
        return "+44 20 7946 0" + str(dice.randint(100, 999)), "on request", "phone_in_words"
    if name == "name":
        firms = ["Tern", "Aldwin", "Quill", "Mirabo", "Ostrel"]
        return f"{dice.choice(firms)} {dice.choice(['Labs', 'Works', 'AS'])}", None, ""
    words = next((choices for word, choices in WORDS.items() if word in name), None)
    return dice.choice(words) if words else None, *WRONG_WORDS.get(name, (None, ""))


def _addresses(name: str, who: str, site: str, dice: random.Random, *, about_person: bool) -> Choice:
    if "linkedin" in name:
        right, other = ("in", "company") if about_person else ("company", "in")
        sound = _dressed(f"https://www.linkedin.com/{right}/{slug(who)}", dice)
        if about_person and not slug(who).startswith(NO_LATIN) and dice.random() < 0.5:
            return sound, "https://www.linkedin.com/in/q-x-z", "somebody_else"
        return sound, _dressed(f"https://www.linkedin.com/{other}/{slug(who)}", dice), "linkedin_of_other_kind"
    if "crunchbase" in name:
        sound = _dressed(f"https://www.crunchbase.com/organization/{slug(who)}", dice)
        return sound, f"https://www.crunchbase.com/person/{slug(who)}", "crunchbase_of_a_person"
    sound = _dressed(f"https://{site or f'{slug(who)}.example'}", dice)
    return sound, f"https://www.linkedin.com/company/{slug(who)}", "website_is_a_profile"


def _city(country: str, dice: random.Random) -> Choice:
    """Return a city of the country, and one that lies elsewhere; any city if the country is missing or unknown."""
    known = next((names for names in CITIES if country and country in names.split(", ")), None)
    if known is None:
        return dice.choice([city for cities in CITIES.values() for city in cities]), None, ""
    elsewhere = dice.choice([city for city, land in ELSEWHERE.items() if land != known.partition(",")[0]])
    return dice.choice(CITIES[known]), elsewhere, "city_elsewhere"


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


def grounding(
    text: str, answer: str, spans: Mapping[str, tuple[int, int]], dice: random.Random
) -> tuple[dict[str, Any], set[str]]:
    """Return what a search brought, and the fields that it backs."""
    words = [word for word in re.findall("⟦([^⟧]*)⟧", text) if word != "(unknown)"] or ["nothing"]
    queries = [" ".join(dice.sample(words, min(2, len(words))))[:80] for _ in range(dice.randint(1, 3))]
    if dice.random() < 0.1:
        queries += ["", queries[0]]  # the service gives empty and repeated ones too
    places = [f"source-{dice.randrange(1000)}.example" for _ in range(dice.randint(1, 4))]
    backed = {name for name in spans if dice.random() > UNSUPPORTED}
    first = next(iter(spans), None)
    # The service marks whole sentences: the first one begins where the text does.
    spans = {name: (0 if name == first else start, end) for name, (start, end) in spans.items()}
    result: dict[str, Any] = {
        "webSearchQueries": queries,
        "groundingChunks": [
            {"web": {"uri": f"https://redirect.example/{dice.getrandbits(64):x}", "title": place}} for place in places
        ],
        "groundingSupports": [
            {
                "segment": _segment(answer, *spans[name]),
                "groundingChunkIndices": sorted(dice.sample(range(len(places)), dice.randint(1, len(places)))),
            }
            for name in spans
            if name in backed
        ],
        "searchEntryPoint": {"renderedContent": _suggestions(queries)},
    }
    if dice.random() < 0.07:
        del result["groundingChunks"], result["groundingSupports"]
        backed = set()
    return result, backed


def _segment(answer: str, start: int, end: int) -> dict[str, Any]:
    """Return a stretch of the answer as the service marks it: in bytes, a start of 0 left out."""
    begin = {"startIndex": len(answer[:start].encode())} if start else {}
    return begin | {"endIndex": len(answer[:end].encode()), "text": answer[start:end]}


def _suggestions(queries: Sequence[str]) -> str:
    """Return links to further searches, as the service wants them shown beside its answer."""
    links = [
        f'<a href="https://search.example/?{urlencode({"q": query})}">{html.escape(query)}</a>'
        for query in dict.fromkeys(filter(None, queries))
    ]
    return f"<style>a {{ color: teal }}</style><div>{' '.join(links)}</div>"
