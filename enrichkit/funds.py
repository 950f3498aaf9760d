"""The built-in stages over a table of investors: the person, the firm, the firm's strategy.

A check is a pure function ``check(answer, record)``; every issue it yields bears the function's own name. "Empties"
and "cleans" change the answer before it is stored, the original stays in the issue's detail; "flags" changes nothing.
Checks run in this order, each on what the one before has left:

| check | stages | looks at | does |
|---|---|---|---|
| `says_nothing` | poc, fund, deep | any text such as "N/A", "unknown", "not found" | empties |
| `not_a_url` | poc, fund, deep | no http(s) address with a host, or with user-info or odd signs | empties |
| `url_cleaned` | poc, fund, deep | no scheme, http, blanks, trailing slash, tracking, fragment, IDN host | cleans |
| `not_own_website` | fund, deep | a website on LinkedIn, Crunchbase, a social network or in a directory | empties |
| `linkedin_kind` | poc, fund | a LinkedIn address that is no profile (person) or no page of a firm (firm) | empties |
| `linkedin_name` | poc | a profile whose slug holds neither first nor last name, in one script | flags |
| `crunchbase_kind` | fund | a person's page or none: empties; a page of another kind | flags |
| `sector_spelling` | fund | a sector of the list in another spelling, or given twice | cleans |
| `sector_outside` | fund | a sector that is not in the list | empties (that sector) |
| `several_places` | fund | a city, found or given, that names more than one place | flags |
| `phone_letters` | poc | a phone with letters other than an extension's | empties |
| `phone_digits` | poc | fewer than 7 or more than 15 digits | flags |
| `email_domain` | poc, fund | an email of the record that is not at the fund's website, found or given | flags |
| `aum_range` | deep | a value not above 0, an impossible year: empties; a value that must be in millions | flags |
| `ticket_range` | deep | an end not above 0: empties; min above max, or a size that must be in millions | flags |

It refuses to look anything up: a check sees one answer and one record, nothing else.
"""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import BaseModel, Field

from ._answer import KEEP, NOTHING, Answer, Issue
from ._stage import Stage

__all__ = ["DEEP", "FUND", "KEY", "POC", "SECTORS", "STAGES"]

KEY = ("fund.title", "poc.first_name", "poc.last_name")
SECTORS = tuple(
    "venture-capital private-equity hedge-funds growth-capital private-debt public-markets fixed-income commodities "
    "technology software saas enterprise-software ai-ml healthcare healthtech biotech fintech cleantech real-estate "
    "infrastructure energy manufacturing consumer retail ecommerce hospitality media entertainment telecommunications "
    "aerospace defense transportation agriculture education financial-services insurance crypto-blockchain "
    "impact-investing esg sustainable-finance".split()
)
OPTIONAL = frozenset(
    f"{group}.{name}"
    for group, names in {
        "poc": "first_name last_name role email linkedin phone",
        "fund": "type email website country city sectors linkedin crunchbase phone preferred_stage",
    }.items()
    for name in names.split()
)


class Person(Answer):
    """What is asked about a person."""

    linkedin: str | None = Field(None, description="https address of the person's own LinkedIn profile, /in/…")
    role: str | None = Field(None, description="Present role at this firm")
    description: str | None = Field(None, description="One or two sentences about the person's work")
    phone: str | None = Field(None, description="Published business phone, like +44 20 7946 0000")


class Fund(Answer):
    """What is asked about a firm."""

    linkedin: str | None = Field(None, description="https address of the firm's LinkedIn page, /company/…")
    crunchbase: str | None = Field(None, description="https address of the firm's Crunchbase page, /organization/…")
    website: str | None = Field(None, description="https address of the firm's own website, its root")
    city: str | None = Field(None, description="City of the headquarters, nothing else")
    sectors: list[str] | None = Field(None, description="Sectors, only words of the list in the question")
    preferred_stage: str | None = Field(None, description="Stages of investment, in the question's words")


class Company(BaseModel):
    """A company in a portfolio."""

    name: str | None = None
    website: str | None = Field(None, description="https address of the company's own website")
    sector: str | None = Field(None, description="One to three words")
    description: str | None = Field(None, description="One sentence: what the company does")


class Aum(BaseModel):
    """Assets under management."""

    value: float | None = Field(None, description="In whole units of the currency: 1.2 billion is 1200000000")
    currency: str | None = Field(None, description="ISO 4217 code")
    year: int | None = Field(None, description="Year the figure is of")


class Ticket(BaseModel):
    """The usual size of an investment."""

    min: float | None = Field(None, description="In whole units of the currency: 2 million is 2000000")
    max: float | None = Field(None, description="In whole units of the currency")
    currency: str | None = Field(None, description="ISO 4217 code")


class Strategy(Answer):
    """What is asked about a firm's strategy."""

    description: str | None = Field(None, description="Two or three sentences: who the firm is and what it does")
    thesis: str | None = Field(None, description="Two or three sentences: what it invests in, and why")
    portfolio_companies: list[Company] | None = Field(None, description="At most ten, best documented first")
    aum: Aum | None = Field(None, description="Assets under management of the whole firm")
    geographies: list[str] | None = Field(None, description="Countries or regions invested in")
    ticket: Ticket | None = Field(None, description="Usual size of one investment")


# The fixed words come first and the record last: that is what the service can cache.
RECORD = """
- Two firms may share a title. Website and country tell which one is meant, then city and type; mix nothing of the
  other in. If you cannot tell them apart, give null.
- The record's values are hints, some of them old or wrong. Say what the evidence shows, also where it differs.
- A value may have slipped into the wrong column: a LinkedIn address as email, a country or a firm's name as website.
  Take it for what it looks like, not for what its label says, and never copy it into a field where it does not belong.
- null is better than a guess. Never build an address, a phone number or a figure from a pattern; give it as you saw it.

The record:
Fund: {fund.title}
Type: {fund.type}
Website: {fund.website}
Country: {fund.country}
City: {fund.city}
Fund's LinkedIn: {fund.linkedin}"""

POC_PROMPT = f"""Research one person at an investment firm: the person, not the firm.

How to search:
- Search for the full name together with the firm, then with "LinkedIn", then on the firm's own site (team, people,
  about). If little turns up, try the name without accents, in Latin letters, and its common short form.
- What counts as evidence is a page that ties this person to this firm: the firm's team page, the person's own profile,
  a register, a press release, a conference programme. A namesake at another firm is another person.

The fields:
- linkedin: the full address of the person's own profile, https://www.linkedin.com/in/…, as it stood in a result. Not
  the firm's /company/ page, a post, a search or a list of people with that name.
- role: the present role at this firm, in a few English words. If the person has left the firm, give null, and say so
  in notes.
- description: one or two sentences on the person's work there: focus, earlier posts, known investments. No praise.
- phone: a published business number, the person's or else the office's, in international form: +44 20 7946 0000.

Rules:{RECORD}
First name: {{poc.first_name}}
Last name: {{poc.last_name}}
Role: {{poc.role}}
Email: {{poc.email}}
LinkedIn: {{poc.linkedin}}
Phone: {{poc.phone}}"""

FUND_PROMPT = f"""Research one investment firm: the firm, not its people.

How to search:
- Search for the firm's title with its type, city and country; find its own website first, then its LinkedIn and
  Crunchbase pages, and check that these link to that website or give the same place.
- What counts as evidence is the firm's own site, its own pages on LinkedIn and Crunchbase, a regulator's register, the
  press. An address that merely looks like the name is none.

The fields:
- website: the root of the firm's official site, https://www.firm.example, not a page in it, a portal or a directory.
- linkedin: the full address of the firm's own page, https://www.linkedin.com/company/…, never a person's /in/ profile.
- crunchbase: the full address https://www.crunchbase.com/organization/…, never /person/ or a funding round.
- city: the city of the headquarters only: one city, in English, without region or country. Other offices do not count.
- sectors: what the firm invests in, the most important first, at most six, only in these words, spelled exactly so:
  {", ".join(SECTORS)}.
- preferred_stage: the stages it says it invests at, joined by commas, in these words: pre-seed, seed, series-a,
  series-b, series-c-plus, growth, buyout, pre-ipo, public, any.

Rules:{RECORD}
Fund's Crunchbase: {{fund.crunchbase}}
Fund's email: {{fund.email}}
Fund's phone: {{fund.phone}}
Sectors: {{fund.sectors}}"""

DEEP_PROMPT = f"""Research the strategy of one investment firm: what it invests in, where, and how much.

How to search:
- Start on the firm's own site: strategy, portfolio, about, news; then the press, registers and annual reports.
- What counts as evidence for a figure is a page that states it of this firm, with a date. Prefer the latest. What a
  single fund has raised is not what the firm manages. What one round raised is not this firm's ticket.

The fields:
- description: two or three sentences: who the firm is, since when, and what it does.
- thesis: two or three sentences: what it looks for and why, close to its own words, without advertising.
- portfolio_companies: at most ten companies that the firm itself has put money into, the best documented first. Each
  with name, website (the company's own root, https://…), sector (one to three words) and one sentence on what it does.
- aum: value in whole units of the currency (1.2 billion is 1200000000), currency as ISO code (USD), year of the figure.
- geographies: English names of the countries or regions it invests in, not where its offices are.
- ticket: the usual size of one investment, min and max in whole units (2 million is 2000000), currency as ISO code.
  If only one end is known, leave the other null.

Rules:{RECORD}
Fund's Crunchbase: {{fund.crunchbase}}
Sectors: {{fund.sectors}}
Preferred stage: {{fund.preferred_stage}}"""


# Addresses

ADDRESSES = ("linkedin", "crunchbase", "website")
NOT_OWN = frozenset(
    "linkedin.com lnkd.in crunchbase.com facebook.com fb.com instagram.com threads.net x.com twitter.com t.co t.me "
    "tiktok.com youtube.com youtu.be vk.com xing.com medium.com linktr.ee wikipedia.org wikidata.org google.com "
    "pitchbook.com angel.co wellfound.com bloomberg.com dealroom.co tracxn.com cbinsights.com preqin.com owler.com "
    "zoominfo.com apollo.io rocketreach.co signal.nfx.com openvc.app vcsheet.com f6s.com opencorporates.com dnb.com "
    "glassdoor.com yelp.com".split()
)
TRACKING = frozenset(
    "gclid gbraid wbraid dclid fbclid msclkid yclid igshid mc_cid mc_eid _ga _gl _hsenc _hsmi trk".split()
)
LONGEST_ADDRESS = 2000
_WRAPPED = re.compile(r"\[[^\[\]]*\]\((\S+)\)|<(\S+)>")
_ODD = re.compile(r"[\s<>\"\\^`{|}]")
_HOST = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,59})")


def _clean(text: str) -> str | None:
    """Return a web address in its one spelling; None if the text is none.

    >>> _clean(" http://WWW.Example.com/fund/?utm_source=x&id=3#top ")
    'https://www.example.com/fund?id=3'
    >>> _clean("javascript:alert(1)"), _clean("Norway"), _clean("https://firm.example@other.example")
    (None, None, None)
    """
    text = text.strip()
    if len(text) > LONGEST_ADDRESS:
        return None
    if wrapped := _WRAPPED.fullmatch(text):
        text = wrapped[1] or wrapped[2]
    text = re.sub(r"(?<=/)\s+", "", text)
    if not text.isprintable() or _ODD.search(text):
        return None
    try:
        parts = urlsplit("https://" + re.sub(r"^(?:https?:)?/*", "", text, flags=re.IGNORECASE))
        port = parts.port
        host = (parts.hostname or "").rstrip(".").encode("idna").decode()
    except ValueError:
        return None
    if "@" in parts.netloc or port not in (None, 80, 443) or not _HOST.fullmatch(host):
        return None
    kept = [] if _at(host, ("linkedin.com", "crunchbase.com")) else parts.query.split("&")
    query = "&".join(part for part in kept if part and not _tracks(part.split("=")[0].lower()))
    return urlunsplit(("https", host, parts.path.rstrip("/"), query, ""))


def _tracks(parameter: str) -> bool:
    return parameter in TRACKING or parameter.startswith(("utm_", "trk"))


def _host(text: str | None) -> str:
    """Return the host of an address without ``www.``; the empty text if it is none."""
    return (urlsplit(_clean(text or "") or "").hostname or "").removeprefix("www.")


def _at(host: str, sites: Collection[str]) -> bool:
    """Whether a host is one of these sites, or below one."""
    labels = host.split(".")
    return any(".".join(labels[place:]) in sites for place in range(len(labels)))


def _page(text: str, site: str) -> tuple[str, str]:
    """Return kind and slug of a page such as ``site/kind/slug``; two empty texts if it is elsewhere."""
    if not _at(_host(text), (site,)):
        return "", ""
    segments = [unquote(part) for part in urlsplit(_clean(text) or "").path.split("/") if part]
    kind, slug = (*segments, "", "")[:2]
    return kind.lower(), slug


# Texts


def _seen(value: Any, most: int = 300) -> str:
    """Return a value for an issue's detail: readable, on one line, without control characters."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def _plain(value: Any) -> Any:
    """Return a field's value without models: an answer that a check has changed holds dictionaries instead."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _changed(
    answer: Answer, check: str, change: Callable[[str], str | None], *, only: Collection[str] = ()
) -> Iterator[Issue]:
    """Yield an issue for each field with a text, however deep, that ``change`` gives back otherwise."""

    def walk(name: str, value: Any) -> Any:
        if isinstance(value, str) and (not only or name in only):
            new = change(value)
            if new != value:
                originals.append(_seen(value))
            return new
        if isinstance(value, dict):
            pairs = {inner: walk(inner, text) for inner, text in value.items()}
            return None if all(text is None for text in pairs.values()) else pairs
        if isinstance(value, list):
            return [new for inner in value if (new := walk(name, inner)) is not None] or None
        return value

    for field in type(answer).model_fields:
        originals: list[str] = []
        new = None if field in Answer.about_itself else walk(field, _plain(getattr(answer, field)))
        if originals:
            yield Issue(field, check, ", ".join(originals), instead=new)


_LETTERS = re.compile(r"[^\W\d_]+")
_STROKES = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h", "ı": "i"})
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})


def _spellings(text: str) -> list[list[str]]:
    """Return a name's words in small letters without accents, umlauts once dropped and once written out.

    >>> _spellings("Jörg Łoś-9")
    [['jorg', 'los'], ['joerg', 'los']]
    """
    text = unicodedata.normalize("NFC", text.casefold())
    spellings = []
    for way in (text, text.translate(_UMLAUTS)):
        parts = unicodedata.normalize("NFKD", way.translate(_STROKES))
        spellings.append(_LETTERS.findall("".join(part for part in parts if not unicodedata.combining(part))))
    return spellings


# Checks

NO_VALUE = NOTHING | frozenset(
    {"nil", "nan", "n.a", "not applicable", "not disclosed", "undisclosed", "not publicly available", "none found"}
)


def says_nothing(answer: Answer, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty texts that are a way of saying that there is no value."""
    return _changed(
        answer, "says_nothing", lambda text: None if text.strip(" \t\r\n.\"'()[]").lower() in NO_VALUE else text
    )


def not_a_url(answer: Answer, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty addresses that are none."""
    return _changed(answer, "not_a_url", lambda text: text if _clean(text) else None, only=ADDRESSES)


def url_cleaned(answer: Answer, record: Mapping[str, str]) -> Iterator[Issue]:
    """Bring addresses into their one spelling."""
    return _changed(answer, "url_cleaned", lambda text: _clean(text) or text, only=ADDRESSES)


def not_own_website(answer: Answer, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty websites that are a page about the firm on somebody else's site."""
    return _changed(
        answer, "not_own_website", lambda text: None if _at(_host(text), NOT_OWN) else text, only=("website",)
    )


def linkedin_kind(answer: Person | Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty a LinkedIn address that is not of the kind asked for."""
    right = ("in", "pub") if isinstance(answer, Person) else ("company", "school", "showcase")
    if answer.linkedin:
        kind, slug = _page(answer.linkedin, "linkedin.com")
        if kind not in right or not slug:
            yield Issue("linkedin", "linkedin_kind", _seen(answer.linkedin), instead=None)


def linkedin_name(answer: Person, record: Mapping[str, str]) -> Iterator[Issue]:
    """Flag a profile that seems to be somebody else's; names in another script than the slug cannot tell."""
    slug = _page(answer.linkedin or "", "linkedin.com")[1]
    slugs = ["".join(words) for words in _spellings(slug)]
    names = []
    for words in (words for column in KEY[1:] for words in _spellings(record.get(column, ""))):
        long = [word for word in words if len(word) > 2]
        names += long or [word for word in words if len(word) > 1 or not word.isascii()]
    names = [name for name in names if name.isascii() == slugs[0].isascii()]
    if slug and names and not any(name in one for name in names for one in slugs):
        who = " ".join(record[column] for column in KEY[1:] if column in record)
        yield Issue("linkedin", "linkedin_name", f"{_seen(answer.linkedin)} for {_seen(who)}")


def crunchbase_kind(answer: Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty a person's page and what is no page on Crunchbase; flag pages of another kind than a firm's."""
    if answer.crunchbase:
        kind, slug = _page(answer.crunchbase, "crunchbase.com")
        if kind not in ("organization", "company") or not slug:
            unusable = not slug or kind in ("person", "people")
            yield Issue("crunchbase", "crunchbase_kind", _seen(answer.crunchbase), instead=None if unusable else KEEP)


_SECTOR = {sector.replace("-", ""): sector for sector in SECTORS}


def _sector(text: str) -> str:
    """Return the list's spelling of a sector; the text itself if it is not in the list."""
    return _SECTOR.get(re.sub(r"[\W_]+", "", text.casefold()), text)


def sector_spelling(answer: Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Bring sectors into the list's spelling, each once."""
    given = answer.sectors or []
    spelled = list(dict.fromkeys(map(_sector, given)))
    if spelled != given:
        yield Issue("sectors", "sector_spelling", _seen(given), instead=spelled)


def sector_outside(answer: Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Take out sectors that are not in the list."""
    given = answer.sectors or []
    outside = [sector for sector in given if sector not in SECTORS]
    if outside:
        kept = [sector for sector in given if sector in SECTORS]
        yield Issue("sectors", "sector_outside", _seen(outside), instead=kept or None)


_BETWEEN_PLACES = re.compile(r"[;/|•+&,；、，،\n]|\b(?:and|or)\b", re.IGNORECASE)


def several_places(answer: Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Flag a city that names more than one place; the record's country and codes such as NY or D.C. do not count."""
    for text in (answer.city, record.get("fund.city")):
        places = [place.strip() for place in _BETWEEN_PLACES.split(text or "")]
        codes = [place for place in places if place.isupper() and len(place) <= 4]
        country = record.get("fund.country", "").strip().casefold()
        if len([place for place in places if place and place not in codes and place.casefold() != country]) > 1:
            yield Issue("city", "several_places", _seen(text))


_EXTENSION = re.compile(r"(?:ext(?:ension|n)?|x)[\s.:]*\d{1,6}\)?$", re.IGNORECASE)


def phone_letters(answer: Person, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty a phone that holds words."""
    if any(sign.isalpha() for sign in _EXTENSION.sub("", (answer.phone or "").strip())):
        yield Issue("phone", "phone_letters", _seen(answer.phone), instead=None)


def phone_digits(answer: Person, record: Mapping[str, str]) -> Iterator[Issue]:
    """Flag a phone that is too short or too long to be dialled."""
    digits = sum(sign.isdecimal() for sign in _EXTENSION.sub("", (answer.phone or "").strip()))
    if answer.phone and not 7 <= digits <= 15:
        yield Issue("phone", "phone_digits", f"{digits} digits in {_seen(answer.phone)}")


def email_domain(answer: Person | Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Flag an email of the record at another domain than the fund's website."""
    hosts = {_host(site) for site in (getattr(answer, "website", None), record.get("fund.website"))}
    sites = {host for host in hosts if host and not _at(host, NOT_OWN)}
    for column in ("poc.email",) if isinstance(answer, Person) else ("poc.email", "fund.email"):
        name, at, domain = record.get(column, "").strip().rpartition("@")
        host = _host(domain)
        if name and at and host and sites and not any(_at(host, {site}) or _at(site, {host}) for site in sites):
            yield Issue("email", "email_domain", f"{column} is at {host}, the website at {', '.join(sorted(sites))}")


def aum_range(answer: Strategy, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty what cannot be an amount or a year, flag an amount too small to be one in whole units."""
    aum = _plain(answer.aum) or {}
    value, year = aum.get("value"), aum.get("year")
    if value is not None and not 0 < value < math.inf:
        yield Issue("aum", "aum_range", _seen(aum), instead=None)
        return
    if value is not None and value < 100_000:
        yield Issue("aum", "aum_range", f"in millions? {_seen(aum)}")
    if year is not None and not 1900 <= year <= datetime.date.today().year:
        yield Issue("aum", "aum_range", _seen(aum), instead=aum | {"year": None})


def ticket_range(answer: Strategy, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty an end that cannot be an amount, flag ends in the wrong order or too small to be in whole units."""
    ticket = _plain(answer.ticket) or {}
    ends = {name: ticket[name] for name in ("min", "max") if ticket.get(name) is not None}
    wrong = {name: None for name, value in ends.items() if not 0 <= value < math.inf}
    if wrong:
        yield Issue("ticket", "ticket_range", _seen(ticket), instead=ticket | wrong)
    elif ends.get("min", 0) > ends.get("max", math.inf):
        yield Issue("ticket", "ticket_range", f"min above max: {_seen(ticket)}")
    elif 0 < max(ends.values(), default=0) < 1000:
        yield Issue("ticket", "ticket_range", f"in millions? {_seen(ticket)}")


# Stages

POC = Stage(
    "poc",
    prompt=POC_PROMPT,
    answer=Person,
    per=KEY,
    requires=("poc.last_name",),
    checks=(
        says_nothing,
        not_a_url,
        url_cleaned,
        linkedin_kind,
        linkedin_name,
        phone_letters,
        phone_digits,
        email_domain,
    ),
    ignore_case=True,
    optional=OPTIONAL,
)
FUND = Stage(
    "fund",
    prompt=FUND_PROMPT,
    answer=Fund,
    per=KEY[:1],
    checks=(
        says_nothing,
        not_a_url,
        url_cleaned,
        not_own_website,
        linkedin_kind,
        crunchbase_kind,
        sector_spelling,
        sector_outside,
        several_places,
        email_domain,
    ),
    ignore_case=True,
    optional=OPTIONAL,
)
DEEP = Stage(
    "deep",
    prompt=DEEP_PROMPT,
    answer=Strategy,
    per=KEY[:1],
    checks=(says_nothing, not_a_url, url_cleaned, not_own_website, aum_range, ticket_range),
    columns="fund",
    after=("fund",),
    ignore_case=True,
    optional=OPTIONAL,
)
STAGES = {"poc": POC, "fund": FUND, "deep": DEEP}
