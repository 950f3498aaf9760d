"""Web addresses: one spelling for each, whose site it is at, and what kind of page.

Text in, text out; it refuses to look at the web.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote, urlsplit, urlunsplit

from ..reading.wording import undressed

PROFILES = frozenset({"linkedin.com", "crunchbase.com"})
NOT_OWN = PROFILES | frozenset(
    "lnkd.in facebook.com fb.com instagram.com threads.net x.com twitter.com t.co t.me tiktok.com youtube.com youtu.be "
    "vk.com xing.com medium.com linktr.ee wikipedia.org wikidata.org google.com pitchbook.com angel.co wellfound.com "
    "bloomberg.com dealroom.co tracxn.com cbinsights.com preqin.com owler.com zoominfo.com apollo.io rocketreach.co "
    "signal.nfx.com openvc.app vcsheet.com f6s.com opencorporates.com dnb.com glassdoor.com yelp.com".split()
)
_TRACKING = re.compile(r"utm_.*|trk.*|[gdfy]b?clid|msclkid|[gw]braid|igshid|mc_[ce]id|_g[al]|_hs(?:enc|mi)")
_HOST = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,59})")


def clean(text: str) -> str | None:
    """Return a web address in its one spelling; None if the text is not an address.

    >>> clean(" http://WWW.Example.com/fund/?utm_source=x&id=3#top ")
    'https://www.example.com/fund?id=3'
    >>> clean("<www.firm.example>"), clean("**[Firm](https://firm.example/a?x=1&amp;y=2)** [1]")
    ('https://www.firm.example', 'https://firm.example/a?x=1&y=2')
    >>> clean("javascript:alert(1)"), clean("Norway"), clean("https://firm.example@other.example")
    (None, None, None)
    """
    text = re.sub(r"(?<=/)\s+", "", undressed(text.strip(), address=True))
    if len(text) > 2000 or not text.isprintable() or re.search(r"[\s<>\"\\^`{|}]", text):
        return None
    try:
        parts = urlsplit("https://" + re.sub(r"^(?:https?:)?/*", "", text, flags=re.IGNORECASE))
        host = (parts.hostname or "").rstrip(".").encode("idna").decode()
        port = parts.port
    except ValueError:
        return None
    # The codec writes ß and ς as other letters: that is another host.
    if set("@ßς") & set(parts.netloc.lower()) or port not in (None, 80, 443) or not _HOST.fullmatch(host):
        return None
    kept = [] if is_at(host, PROFILES) else parts.query.split("&")
    query = "&".join(part for part in kept if part and not _TRACKING.fullmatch(part.partition("=")[0].lower()))
    return urlunsplit(("https", host, parts.path.rstrip("/"), query, ""))


def host_of(text: str | None) -> str:
    """Return the host of an address without ``www.``; empty if it is not an address."""
    return (urlsplit(clean(text or "") or "").hostname or "").removeprefix("www.")


def is_at(host: str, sites: Collection[str]) -> bool:
    """Whether a host is one of these sites, or below one."""
    labels = host.split(".")
    return any(".".join(labels[place:]) in sites for place in range(len(labels)))


def page_of(text: str | None, site: str) -> tuple[str, str]:
    """Return kind and slug of a page such as ``site/kind/slug``; two empty texts if it is not such a page."""
    parts = urlsplit(clean(text or "") or "")
    segments = [unquote(part) for part in parts.path.split("/") if part]
    return (segments[0].lower(), segments[1]) if len(segments) > 1 and is_at(parts.netloc, (site,)) else ("", "")
