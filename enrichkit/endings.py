"""The endings: why a run ended early, in words for a person, and what to do then."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def why(reason: str, told: str) -> str:
    """Return a sentence or two about a run's end, for the reason it had and what was said then."""
    said = f" ({told})" if told else ""
    words = {
        "interrupt": "Interrupted. ",
        "budget": f"Stopped to keep within the budget{said}. ",
        "daily_quota": f"The daily quota is used up{said}; it opens again at {_quota_opens()}. ",
        "spend_limit": f"The account's spend limit is reached{said}. Wait ten minutes or raise it. ",
        "auth": f"The service refused the key{said}. Check it and its rights. ",
        "model_not_found": f"The service does not know the model{said}. Check its name. ",
        "failures": f"Question after question failed{said}. ",
        "mixed": f"Simulated and real answers never mix in one store{said}. Look at GOOGLE_GEMINI_BASE_URL, or choose "
        "another 'out'. ",
        "store": f"The store could not be written{said}. ",
    }
    return words.get(reason, f"Stopped{said}. ")


def going_on(reason: str | None) -> str:
    """Return how a run that ended for that reason goes on."""
    call = "The same call with a higher budget_usd" if reason == "budget" else "The same call"
    return f"{call} goes on from here"


def _quota_opens() -> str:
    """Return when daily quotas open again, which is midnight Pacific time, in the user's time zone."""
    try:
        pacific = datetime.now(ZoneInfo("America/Los_Angeles"))
    except ZoneInfoNotFoundError:  # a slim system has no time zones
        return "midnight Pacific time"
    midnight = (pacific + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return f"midnight Pacific time, {midnight.astimezone():%A %H:%M %Z} here"
