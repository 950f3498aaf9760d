"""The built-in stages over a table of investors: the person, the firm, the firm's strategy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, Field

from ._answer import Answer, Issue
from ._stage import Stage

__all__ = ["DEEP", "FUND", "KEY", "POC", "SECTORS", "STAGES"]

KEY = ("fund.title", "poc.first_name", "poc.last_name")
SECTORS = (
    "venture-capital",
    "private-equity",
    "hedge-funds",
    "growth-capital",
    "private-debt",
    "public-markets",
    "fixed-income",
    "commodities",
    "technology",
    "software",
    "saas",
    "enterprise-software",
    "ai-ml",
    "healthcare",
    "healthtech",
    "biotech",
    "fintech",
    "cleantech",
    "real-estate",
    "infrastructure",
    "energy",
    "manufacturing",
    "consumer",
    "retail",
    "ecommerce",
    "hospitality",
    "media",
    "entertainment",
    "telecommunications",
    "aerospace",
    "defense",
    "transportation",
    "agriculture",
    "education",
    "financial-services",
    "insurance",
    "crypto-blockchain",
    "impact-investing",
    "esg",
    "sustainable-finance",
)
OPTIONAL = frozenset(
    f"{group}.{name}"
    for group, names in {
        "poc": "first_name last_name role email linkedin phone description",
        "fund": "type email website country city sectors linkedin crunchbase phone preferred_stage description",
    }.items()
    for name in names.split()
)


class Person(Answer):
    """What is asked about a person."""

    linkedin: str | None = Field(None, description="https address of the person's own LinkedIn profile, /in/…")
    role: str | None = Field(None, description="Present role at this firm")
    description: str | None = Field(None, description="One or two sentences about the person's work")
    phone: str | None = Field(None, description="Business phone in international format")


class Fund(Answer):
    """What is asked about a firm."""

    linkedin: str | None = Field(None, description="https address of the firm's LinkedIn page, /company/…")
    crunchbase: str | None = Field(None, description="https address of the firm's Crunchbase organisation page")
    website: str | None = Field(None, description="https address of the firm's own website")
    city: str | None = Field(None, description="City of the head office")
    sectors: list[str] | None = Field(None, description="Sectors, only from: " + ", ".join(SECTORS))
    preferred_stage: str | None = Field(None, description="Preferred stage of investment")
    description: str | None = Field(None, description="One or two sentences about the firm")


class Company(BaseModel):
    """A company in a portfolio."""

    name: str | None = None
    website: str | None = None
    sector: str | None = None
    description: str | None = None


class Aum(BaseModel):
    """Assets under management."""

    value: float | None = None
    currency: str | None = None
    year: int | None = None


class Ticket(BaseModel):
    """The usual size of an investment."""

    min: float | None = None
    max: float | None = None


class Strategy(Answer):
    """What is asked about a firm's strategy."""

    thesis: str | None = None
    portfolio_companies: list[Company] | None = None
    aum: Aum | None = None
    geographies: list[str] | None = None
    ticket: Ticket | None = None


def sectors_in_list(answer: Fund, record: Mapping[str, str]) -> Iterator[Issue]:
    """Take out sectors that are not in the agreed list."""
    outside = [sector for sector in answer.sectors or () if sector not in SECTORS]
    if outside:
        kept = [sector for sector in answer.sectors or () if sector in SECTORS]
        yield Issue("sectors", "outside_the_list", ", ".join(outside), instead=kept or None)


PLACE = """
Fund: {fund.title}
Type: {fund.type}
Website: {fund.website}
Country: {fund.country}
City: {fund.city}"""

POC = Stage(
    "poc",
    prompt="Research a person at an investment firm: the person, not the firm.\n"
    "First name: {poc.first_name}\nLast name: {poc.last_name}\nRole: {poc.role}\nEmail: {poc.email}" + PLACE,
    answer=Person,
    per=KEY,
    requires=("poc.last_name",),
    ignore_case=True,
    optional=OPTIONAL,
)
FUND = Stage(
    "fund",
    prompt="Research an investment firm: the firm, not its people." + PLACE,
    answer=Fund,
    per=("fund.title",),
    checks=(sectors_in_list,),
    ignore_case=True,
    optional=OPTIONAL,
)
DEEP = Stage(
    "deep",
    prompt="Research the strategy of an investment firm." + PLACE + "\nDescription: {fund.description}",
    answer=Strategy,
    per=("fund.title",),
    columns="fund",
    after=("fund",),
    ignore_case=True,
    optional=OPTIONAL,
)
STAGES = {"poc": POC, "fund": FUND, "deep": DEEP}
