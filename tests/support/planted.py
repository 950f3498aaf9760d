"""Planted faults: a table of invented firms and people, what a model answers about them, and what of it is wrong.

The parts stand in ``tests/reporting/planted``: names from many scripts, faults as models make them, and sound values
that look odd. `corpus` puts them together, with the same seed always alike: in each firm's answers one value at most
is planted, the others are sound. Nothing is looked up. Firms, people and their hosts are put together from invented
syllables under the ends that hosts really have, since reserved ones are a fault here; nobody we know of bears one.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import re
import threading
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pandas as pd

from support.paths import ROOT

PARTS = ROOT / "tests" / "reporting" / "planted"
KEY = ("fund.title", "poc.first_name", "poc.last_name")
CELLS = "fund.website fund.country fund.city fund.linkedin fund.sectors fund.preferred_stage".split()
CELLS += "poc.email poc.linkedin poc.phone poc.role".split()
RATES = {
    "poc": {"linkedin": 0.7, "role": 0.8, "description": 0.75, "phone": 0.35},
    "fund": {"linkedin": 0.8, "crunchbase": 0.45, "website": 0.9, "city": 0.9, "sectors": 0.85, "preferred_stage": 0.6},
    "deep": {
        "description": 0.9,
        "thesis": 0.75,
        "portfolio_companies": 0.5,
        "aum": 0.35,
        "geographies": 0.7,
        "ticket": 0.35,
    },
}
"""How often an answer has a field."""
LISTS = ("sectors", "geographies", "portfolio_companies")
OBJECTS = ("aum", "ticket")
ADDRESSES = ("linkedin", "crunchbase", "website")
FREE_MAIL = ("gmail.com", "outlook.com", "yahoo.com", "gmx.net")
REGISTERS = ("sec.gov", "find-and-update.company-information.service.gov.uk", "handelsregister.de", "brreg.no")
PRESS = ("thecapitalledger.news", "dealweekly.press", "altsgazette.news")
REDIRECT = "https://vertexaisearch.cloud.google.com/grounding-api-redirect/"
STROKES = str.maketrans("øłđıØŁĐİ", "oldiOLDI") | str.maketrans({"æ": "ae", "œ": "oe", "ß": "ss", "Þ": "Th", "þ": "th"})
SOUND = ("sound", "same")
MONEY = {"NOK": 10, "SEK": 10, "JPY": 150, "INR": 80, "USD": 1, "EUR": 1, "GBP": 1}


def fold(text: str) -> str:
    """Return a name in the letters of an address.

    >>> fold("Sköld-Ånger & Søn"), fold("ÞÍFELL")
    ('skold-anger-son', 'thifell')
    """
    plain = unicodedata.normalize("NFKD", text.translate(STROKES)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


# The parts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """The parts of the names of a country; each word in its script and in Latin letters."""

    country: str
    ends: list[str]
    phone: str
    words: Mapping[str, list[tuple[str, str]]]
    cities: list[str]


def _pair(word: str) -> tuple[str, str]:
    native, _, latin = word.partition("=")
    return native, latin or native


def places() -> list[Place]:
    """Read the parts of names."""
    blocks = re.sub(r"(?m)^#.*\n", "", (PARTS / "names.txt").read_text(encoding="utf-8")).strip().split("\n\n")
    made = []
    for block in blocks:
        head, *lines = block.splitlines()
        country, ends, phone = head.split("; ")
        parts = dict(line.split(" ", 1) for line in lines)
        words = {}
        for name, text in parts.items():
            starts, plus, rest = text.partition(" + ")
            seconds = [_pair(word) for word in rest.split()] if plus else [("", "")]
            words[name] = [(a + c, b + d) for c, d in seconds for a, b in map(_pair, starts.split())]
        made.append(Place(country, ends.split(), phone, words, parts["city"].split(", ")))
    return made


@dataclass(frozen=True, slots=True)
class Plant:
    """A line of the parts: a value to plant, and what is to become of it."""

    kind: str
    stage: str
    field: str
    verdict: str
    written: str
    right: str
    options: Mapping[str, str]


def _options(text: str) -> dict[str, str]:
    """Read ``a=1, b=2, 3``: a part without a name belongs to the option before it."""
    return dict(part.split("=", 1) for part in re.split(r", (?=[\w.]+=)", text) if part)


def plants(name: str) -> Iterator[Plant]:
    """Read the values of a file, each as often as it says."""
    kind = stage = part = verdict = more = ""
    for line in (PARTS / name).read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if header := re.fullmatch(r"\[([^|\]]+) \| (\w+)\.([\w*]+) \| (\w+)(?: \| (.*))?\]", line):
            kind, stage, part, verdict = header.groups()[:4]
            more = header[5] or ""
            continue
        value, _, own = line.partition(" ;; ")
        written, _, right = value.partition(" → ")
        options = _options(more) | _options(own)
        for _ in range(int(options.get("times", 1))):
            yield Plant(kind, stage, part, verdict, written, right, options)


# Firms --------------------------------------------------------------------------------------------------------------


class Names:
    """Firms and people, each new."""

    def __init__(self, dice: random.Random, kept: Counter[str | None]) -> None:
        self.dice, self.kept = dice, kept
        self.places = {place.country: place for place in places()}
        self.left = {}
        for name, place in self.places.items():
            self.left[name] = dice.sample(place.words["firm"], len(place.words["firm"]))
        self.taken: set[str] = set()

    def place(self, country: str | None = None) -> Place:
        """Return the country that is asked for, or the one that has most names left besides those kept for plants."""
        if country:
            self.kept[country] -= 1
        most = country or max(self.left, key=lambda name: (len(self.left[name]) - self.kept[name], self.dice.random()))
        return self.places[most]

    def firm(self, country: str | None = None) -> dict[str, str]:
        """Return the facts of a new firm, all of them text."""
        dice, place = self.dice, self.place(country)
        native, latin = self.left[place.country].pop()
        word, legal = dice.choice(place.words["word"]), dice.choice([*place.words["legal"], ("", "")])
        if native != latin and dice.random() < 0.5:
            native, word, legal = latin, ("Capital", "Capital"), ("", "")
        root = fold(latin).replace("-", "")
        trade = fold(word[1])
        end = dice.choice(place.ends)
        host = dice.choice([f"{root}{trade}", f"{root}{trade}", f"{root}{trade}", root, root, f"{root}-{trade}"])
        if "ö" in latin.lower() + "ü" and dice.random() < 0.4:
            host = fold(latin.replace("ö", "oe").replace("ü", "ue")).replace("-", "") + trade
        facts = {
            "title": " ".join(part for part in (native, word[0], legal[0]) if part),
            "latin": f"{latin} {word[1]}",
            "double": f"{latin} {self.dice.choice(place.words['firm'])[1]} {word[1]} Partners",
            "root": root,
            "root.title": root.title(),
            "slug": dice.choice([f"{root}-{trade}", f"{root}-{trade}", root]),
            "host": f"{host}.{end}",
            "country": place.country,
            "city": dice.choice(place.cities),
            "phone": self.phone(place),
            "end": end,
            "www": dice.choice(["", "www."]),
        }
        facts["country.slug"], facts["city.slug"] = fold(place.country), fold(facts["city"])
        return facts

    def stray(self) -> dict[str, str]:
        """Return the facts of a firm that is in no table."""
        dice, place = self.dice, self.dice.choice(list(self.places.values()))
        latin = dice.choice(place.words["family"])[1] + dice.choice(["gate", "mark", "tek", "holm", "quay"])
        root = fold(latin).replace("-", "")
        if self._is_taken(root):
            return self.stray()
        trade = dice.choice(["capital", "invest", "partners", "ventures"])
        facts = {"title": f"{latin} {trade.title()}", "latin": f"{latin} {trade.title()}", "root": root, "www": "www."}
        facts |= {"root.title": root.title(), "slug": f"{root}-{trade}", "country": place.country}
        return facts | {"host": f"{root}{dice.choice([trade, ''])}.{dice.choice(place.ends)}", "city": place.cities[0]}

    def phone(self, place: Place) -> str:
        """Return a number of a country's plan that looks like no placeholder."""
        number = re.sub("#", lambda _: self.dice.choice("2345678"), place.phone)
        return self.phone(place) if self._is_taken(number) else number

    def _is_taken(self, name: str) -> bool:
        """Whether a name, number or profile was given before; from now on it is."""
        before = name in self.taken
        self.taken.add(name)
        return before

    def person(self, country: str) -> dict[str, str]:
        """Return the facts of a new person."""
        dice, place = self.dice, self.places[country]
        (first, given), (last, family) = dice.choice(place.words["given"]), dice.choice(place.words["family"])
        facts = {"first": first, "last": last, "given": given, "family": family}
        facts |= {"given.slug": fold(given), "family.slug": fold(family), "phone": self.phone(place)}
        facts |= {"initial": fold(given)[0], "initial2": fold(family)[:2]}
        namesake = next(name for _, name in place.words["given"] if name != given)
        facts["namesake.slug"] = f"{fold(namesake)}-{fold(family)}"
        plain, tail = f"{fold(given)}-{fold(family)}", f"-{dice.getrandbits(32):08x}"
        facts["profile"] = plain if dice.random() < 0.3 and not self._is_taken(plain) else plain + tail
        return facts


@dataclass(slots=True)
class Firm:
    """A firm of the table, its contacts, and what stands and is answered about it."""

    facts: dict[str, str]
    people: list[dict[str, str]]
    plant: Plant | None = None
    known: dict[str, str] = field(default_factory=dict)
    cells: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    """Fields whose sound value was given to another firm too: whether that is seen here is not judged."""

    def fill(self, text: str, person: Mapping[str, str], dice: random.Random) -> str:
        """Return a text with what stands in « » replaced."""
        facts = self.facts | dict(person) | self.known
        facts["site"] = f"https://{facts['www']}{facts['host']}"
        facts["email"], facts["host.slug"] = f"info@{facts['host']}", fold(facts["host"])
        facts["digits"] = str(dice.randrange(10**6, 10**7))
        phone = facts["phone"]
        facts["phone.joined"], facts["phone.00"] = phone.replace(" ", ""), phone.replace("+", "00")
        facts["phone.dots"], facts["phone.dashes"] = phone.replace(" ", "."), phone.replace(" ", "-")
        year = datetime.date.today().year

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if past := re.fullmatch(r"year([+-]\d+)?", name):
                return str(year + int(past[1] or 0))
            if name.isupper():
                return facts[name.lower()].upper()
            return facts[name]

        return re.sub("«([^»]+)»", value, text)


def _facts_of(prefix: str, firm: Mapping[str, str], person: Mapping[str, str]) -> dict[str, str]:
    facts = dict(firm) | dict(person)
    facts["site"] = f"https://{facts['www']}{facts['host']}"
    return {f"{prefix}.{name}": value for name, value in facts.items()}


# Replies ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Value:
    """A value of an answer, and what is to become of it."""

    key: tuple[str, str, str]
    stage: str
    field: str
    kind: str
    verdict: str
    written: Any
    right: list[Any]
    """What may stand there in the end; none where nothing may."""

    @property
    def column(self) -> str:
        return f"{'fund' if self.stage == 'deep' else self.stage}.{self.field}"


@dataclass(slots=True)
class Corpus:
    """The table, the service's replies by what is asked about, and the truth."""

    frame: pd.DataFrame
    bodies: dict[tuple[str, ...], str]
    values: list[Value]

    def body(self, prompt: str) -> str:
        """Return the reply to a prompt, by the values that it marks."""
        asked = dict(re.findall(r"(?m)^([^\n:⟦]+): ⟦([^⟧]*)⟧", prompt))
        if "First name" in asked:
            return self.bodies["poc", asked["Fund"], asked["First name"], asked["Last name"]]
        return self.bodies["deep" if "Preferred stage" in asked else "fund", asked["Fund"]]

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """Answer requests as the service would, over HTTP; yields the address."""
        corpus = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else every reply waits 40 ms for an acknowledgement

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = "".join(part["text"] for content in asked["contents"] for part in content["parts"])
                data = corpus.body(text).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()


class Maker:
    """Puts a corpus together."""

    def __init__(self, seed: int, sound_firms: int, step: int) -> None:
        self.dice = random.Random(seed)
        self.values: list[Value] = []
        self.fillings: dict[tuple[str, str], list[str]] = defaultdict(list)
        lines = [plant for name in ("faults.txt", "sound.txt") for plant in plants(name)]
        for plant in lines:
            if plant.verdict == "fill":
                self.fillings[plant.stage, plant.field].append(plant.written)
        planted = [plant for plant in lines if plant.verdict != "fill"][::step]
        self.names = Names(self.dice, Counter(plant.options.get("in") for plant in planted))
        self.sound = [self._firm(None) for _ in range(sound_firms)]
        self.spare = list(self.sound)
        self.firms = [firm for plant in planted for firm in self._planted(plant)] + self.sound
        self.dice.shuffle(self.firms)

    def _firm(self, plant: Plant | None, known: Mapping[str, str] | None = None) -> Firm:
        options = plant.options if plant else {}
        facts = self.names.firm(options.get("in"))
        if (title := options.get("title", "«")) and "«" not in title:
            facts |= {"latin": title, "slug": "-".join(fold(title).split("-")[:2])}
            facts["root"] = facts["slug"].replace("-", "")
        rows = int(options.get("rows", 0)) or self.dice.choice([1] * 12 + [2, 3])
        people: list[dict[str, str]] = []
        while len(people) < rows:
            person = self.names.person(facts["country"])
            if all((person["first"], person["last"]) != (other["first"], other["last"]) for other in people):
                people.append(person)
        firm = Firm(facts, people, plant, known=dict(known or {}))
        letters = fold(facts["double"]).split("-")
        facts["letters.host"] = f"{letters[0][0]}{letters[1][0]}-{letters[2]}partners.{facts['end']}"
        facts["beginnings.host"] = "".join(word[:4] for word in letters[:3]) + f".{facts['end']}"
        if plant:
            for name in ("title", "host"):
                if name in options:
                    facts[name] = firm.fill(options[name], people[0], self.dice)
        return firm

    def _planted(self, plant: Plant) -> Iterator[Firm]:
        """Yield the firms of a plant: one, or a group that shares its value."""
        names = self.names
        stray = names.stray()
        other = names.dice.choice([firm for firm in self.sound if plant.options.get("in") != firm.facts["country"]])
        if "«other." in plant.written or plant.options.get("page") == "other":
            other = next(firm for firm in self.spare if plant.options.get("in") != firm.facts["country"])
            self.spare.remove(other)
        known = _facts_of("stray", stray, names.person(stray["country"]))
        known |= {"brand.root": stray["root"], "brand.host": f"{stray['root']}.com"}
        known |= _facts_of("other", other.facts, other.people[0])
        copied = re.search(r"«other\.(site|host|slug|profile|phone)", plant.written)
        for _ in range(int(plant.options.get("group", 1))):
            yield self._firm(plant, known)
        if copied:
            other.taken.add(f"{plant.stage}.{plant.field}")
        if copied or plant.options.get("page") == "other":
            other.cells["fund.website"] = f"https://{other.facts['host']}"

    def make(self) -> Corpus:
        """Return the corpus."""
        rows, bodies = [], {}
        for firm in self.firms:
            self._cells(firm)
            title = firm.facts["title"]
            for number, person in enumerate(firm.people):
                key = (title, person["first"], person["last"])
                rows.append(dict(zip(KEY, key, strict=True)) | self._row(firm, person, number))
                for stage in RATES if number == 0 else ("poc",):
                    subject = (stage, *key) if stage == "poc" else (stage, title)
                    here = firm.plant if firm.plant and firm.plant.stage == stage and number == 0 else None
                    bodies[subject] = self._reply(firm, person, stage, here)
        frame = pd.DataFrame(rows, columns=[*KEY, *CELLS]).astype("string")
        return Corpus(frame, bodies, self.values)

    def _cells(self, firm: Firm) -> None:
        """Settle what the table has about a firm, beside its plant's cells."""
        dice, plant = self.dice, firm.plant
        options = plant.options if plant else {}
        if "in" in options or dice.random() < 0.85:
            firm.cells.setdefault("fund.country", firm.facts["country"])
        free = not (plant and plant.field == "website")
        if free and dice.random() < 0.2:
            firm.cells.setdefault("fund.website", firm.fill("«site»", {"phone": ""}, dice))
        for name, value in options.items():
            if "." in name and not name.startswith("poc."):
                firm.cells[name] = firm.fill(value, firm.people[0], dice)

    def _row(self, firm: Firm, person: Mapping[str, str], number: int) -> dict[str, str]:
        dice, plant = self.dice, firm.plant
        options = plant.options if plant else {}
        cells = dict(firm.cells)
        # "own+free": the first contacts on the firm's host, the last elsewhere
        kinds = options.get("email", "").split("+")
        kind = kinds[-1 if number == len(firm.people) - 1 else 0]
        kind = kind or dice.choices(["own", "free", "none"], [60, 4, 36])[0]
        hosts = {"own": firm.facts["host"], "free": dice.choice(FREE_MAIL), "stray": firm.known.get("stray.host")}
        if kind != "none":
            cells["poc.email"] = f"{person['given.slug']}.{person['family.slug']}@{hosts[kind]}".replace("-", "")
        if number == 0:
            cells |= {name: firm.fill(options[name], person, dice) for name in options if name.startswith("poc.")}
        return cells

    def _reply(self, firm: Firm, person: Mapping[str, str], stage: str, plant: Plant | None) -> str:
        """Return the service's reply about a firm or person, and note what of it is to become of what."""
        dice = self.dice
        key = (firm.facts["title"], person["first"], person["last"])
        way, field = (plant.options.get("reply", ""), plant.field) if plant else ("", "")
        answer: dict[str, Any] = {}
        pages: dict[str, str | None] = {}
        for name, rate in RATES[stage].items():
            chance = dice.random()
            if plant and field == name:
                answer[name] = _read(firm.fill(plant.written, person, dice), name, plant.verdict)
                rights = [firm.fill(right, person, dice) for right in plant.right.split(" or ") if right]
                right = [_read(text, name, "fix") for text in rights]
                right = [answer[name]] if plant.verdict in SOUND else right
                self.values.append(Value(key, stage, name, plant.kind, plant.verdict, answer[name], right))
            else:
                left_out = chance >= rate or (plant and way == "foundnull" and plant.written == name)
                # A number or city of the country that the firm's name is from is wrong where the table has another.
                moved = firm.cells.get("fund.country", firm.facts["country"]) != firm.facts["country"]
                left_out = left_out or (moved and name in ("phone", "city"))
                answer[name] = None if left_out else self._sound(firm, person, stage, name)
                if answer[name] is not None:
                    verdict = "open" if way or f"{stage}.{name}" in firm.taken else "sound"
                    self.values.append(Value(key, stage, name, "ordinary", verdict, answer[name], [answer[name]]))
            if answer[name] is not None:
                pages[name] = self._page(firm, person, name, plant if field == name else None, answer[name])
        found = [name for name, value in answer.items() if value is not None]
        answer["confidence"] = dice.choices(["high", "medium", "low", None], [64, 30, 3, 3])[0]
        answer["search_quality"] = dice.choices(["excellent", "good", "limited", "poor", None], [30, 46, 20, 2, 2])[0]
        answer["fields_found"] = found
        answer["notes"] = dice.choice(["", "Two pages agree.", None])
        if plant and way:
            said = {"foundnull": {"fields_found": [*found, plant.written]}, "notes": {"notes": plant.written}}
            answer |= said.get(way, {"search_quality": plant.written})
            self.values.append(Value(key, stage, "*", plant.kind, plant.verdict, plant.written, []))
        return _body(answer, pages, way, " ".join(key))

    def _sound(self, firm: Firm, person: Mapping[str, str], stage: str, name: str) -> Any:
        """Return an ordinary value."""
        dice = self.dice
        if lines := self.fillings.get((stage, name)):
            text = firm.fill(dice.choice(lines), person, dice)
            if name in LISTS:
                parts = text.split(", ")
                return parts[: dice.randint(1, len(parts))]
            return text
        scale = MONEY.get(currency := dice.choice(list(MONEY)), 1)
        size = dice.choice([40, 75, 120, 260, 480, 900, 2100]) * 1_000_000 * scale
        least, year = scale * 250_000, datetime.date.today().year
        made: Mapping[str, Callable[[], Any]] = {
            "website": lambda: firm.fill(dice.choice(["«site»", "«site»", "«site»", "«site»/"]), person, dice),
            "linkedin": lambda: firm.fill(
                "https://www.linkedin.com/" + ("in/«profile»" if stage == "poc" else "company/«slug»"), person, dice
            ),
            "crunchbase": lambda: firm.fill("https://www.crunchbase.com/organization/«slug»", person, dice),
            "phone": lambda: person["phone"],
            "city": lambda: firm.facts["city"],
            "aum": lambda: {"value": size, "currency": currency, "year": dice.choice([None, year - 1, year - 2])},
            "ticket": lambda: {"min": least, "max": least * dice.choice([2, 8, 20]), "currency": currency},
            "portfolio_companies": self._holdings,
        }
        return made[name]()

    def _holdings(self) -> list[dict[str, str | None]]:
        """Return companies that a firm holds, none of the table's."""
        dice, made = self.dice, []
        for place in dice.sample(list(self.names.places.values()), dice.randint(1, 3)):
            root = dice.choice(place.words["family"])[1] + dice.choice(["ix", "ado", "era"])
            trade = dice.choice(["Robotics", "Foods", "Health", "Grid", "Freight"])
            site = f"https://{fold(root).replace('-', '')}{trade.lower()}.{place.ends[-1]}"
            made.append({"name": f"{root} {trade}", "website": dice.choice([site, None]), "sector": trade.lower()})
        return made

    def _page(self, firm: Firm, person: Mapping[str, str], name: str, plant: Plant | None, value: Any) -> str | None:
        """Return the title of the page behind a value, mostly its host; None where nothing is behind it."""
        dice, host = self.dice, firm.facts["host"]
        own = dice.choice([host, host, host, f"Team – {firm.facts['latin']}", f"{firm.facts['title']} | Home"])
        where = plant.options.get("page", "") if plant else ""
        if where.startswith("title:"):
            return firm.fill(where.removeprefix("title:"), person, dice)
        if where == "written":
            return re.sub(r"^https?://(www\.)?|/.*$", "", str(value))
        if where:
            return {"own": own, "other": firm.known.get("other.host"), "none": None}[where]
        if name in ADDRESSES and name != "website":
            return dice.choice([f"{name}.com", f"{name}.com", own, None])
        if name == "website":
            return None if plant else dice.choice([own, own, own, own, None])
        kinds = [own, "linkedin.com", dice.choice(REGISTERS), dice.choice(PRESS), None]
        return dice.choices(kinds, [62, 10, 5, 10, 13])[0]


def _read(text: str, name: str, verdict: str) -> Any:
    """Return a planted value as it stands in the reply: JSON for what is no text."""
    return json.loads(text) if name in LISTS + OBJECTS and verdict != "nothing" else text


def _body(answer: Mapping[str, Any], pages: Mapping[str, str | None], way: str, subject: str) -> str:
    """Return the body of a reply with these answers, each marked with the page behind it."""
    titles = list(dict.fromkeys(title for title in pages.values() if title))
    text, supports = "```json\n{" if zlib.crc32(subject.encode()) % 4 == 0 else "{", []
    for number, (name, value) in enumerate(answer.items()):
        text += (", " if number else "") + f'"{name}": '
        start, written = len(text.encode()), json.dumps(value, ensure_ascii=False)
        text += written
        if title := pages.get(name):
            quoted = written[0] in '"[{'
            segment = {"startIndex": start + quoted, "endIndex": start + len(written.encode()) - quoted}
            segment["text"] = written[1:-1] if quoted else written
            supports.append({"segment": segment, "groundingChunkIndices": [titles.index(title)]})
    text += "}\n```" if text.startswith("`") else "}"
    chunks = [
        {"web": {"uri": f"{REDIRECT}AUZIYQ{zlib.crc32(f'{subject} {title}'.encode()):08x}", "title": title}}
        for title in titles
    ]
    grounding = {
        "webSearchQueries": [subject, f"{subject} official website"],
        "groundingChunks": chunks,
        "groundingSupports": supports,
    }
    if way == "nosearch":
        grounding = {}
    elif way == "noqueries":
        del grounding["webSearchQueries"]
    elif way == "nopages":
        del grounding["groundingChunks"], grounding["groundingSupports"]
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
    usage = {"promptTokenCount": 900, "candidatesTokenCount": len(text) // 4, "totalTokenCount": 900 + len(text) // 4}
    body = {"candidates": [candidate | ({"groundingMetadata": grounding} if grounding else {})], "usageMetadata": usage}
    return json.dumps(
        body | {"modelVersion": "gemini-3.5-flash-lite", "responseId": f"{zlib.crc32(text.encode()):08x}"}
    )


def corpus(seed: int = 22, *, sound_firms: int = 60, step: int = 1) -> Corpus:
    """Return the planted table, its replies and the truth; with a step of 10, a tenth of the plants."""
    return Maker(seed, sound_firms, step).make()
