"""Whose page is behind a value, and what the other records say against it: worked out when read, from the columns.

No page is fetched, and nothing is stored. Which columns hold addresses is seen by their cells, whatever they are
called. It refuses to be certain where a name only resembles: such a doubt empties nothing.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..stages.addresses import SOCIAL, host_of, is_at, is_free_mail, is_register, page_of, resembles
from ..store.reader import StoreReader
from ..store.rows import meta
from ..table.arrow import is_true

BANDS = ("own page", "other page", "no page", "doubted")
"""What speaks for an answer, best first."""
SEVERAL, CONTACTS, ANOTHERS = OTHERS_SAY = ("several_firms", "contacts_elsewhere", "others_page")
"""What other records say, by the names of checks."""
ACROSS = ("filled", "fields_found", "sources", "states", "issues")
"""The facts about a stage that it is worked out from."""
MOST_RIVALS = 5
"""Other firms with the same address that a name is held against."""
_HOST = re.compile(r"(?:www\.)?((?:[^\W_](?:[\w-]*\w)?\.)+[^\W\d_]{2,})")
_REDIRECT = "grounding-api-redirect"
_IN_CELL = r"^\s*(?:[a-z]+:/*)?(?:[^\s@/:]*@)?(?:www\.)?(?P<host>(?:[\p{L}\p{N}_-]+\.)+\p{L}{2,})\.?(?:[:/?#]\S*)?\s*$"
_IS_HOST = r"^\s*(?:www\.)?(?P<host>(?:[\p{L}\p{N}](?:[\p{L}\p{N}_-]*[\p{L}\p{N}_])?\.)+\p{L}{2,})\s*$"
_ADDRESS = r"^https?://(?:www\.)?(?P<key>.*?)/*$"
_MAY_BE_ADDRESS = r"(?i)^\s*(?:https?://|\(?[+0]|[^\s@]+@)"
_EMAIL = r"^\s*(?P<key>[^\s@]+@[^\s@]+)\s*$"
_PHONE = r"^\s*(?P<key>\(?[+0][\d\s()./-]{6,})$"
_PERSONS = r"linkedin\.com/(?:in|pub)/"
_PERSON = re.compile(r"first|given|fore|last|family|sur|vor|nach|prenom|prénom|nombre|apellido", re.IGNORECASE)
_NO_NAME = re.compile(
    r"(?:^|[\W_])(?:id|country|city|town|state|region|code|url|site|website|e?mail|phone|type)$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page behind a value: what it is called, whose it is, its link, and whether that counts as the record's own."""

    title: str
    owner: str
    link: str
    own: bool = False

    def __str__(self) -> str:
        return f"{self.title} ({self.owner})"


@dataclass(frozen=True)
class Names:
    """Who the rows of a store are about, a value per row, and whose each site is that stands in their cells.

    ``contacts`` are the hosts that those about one firm write from, where they are several, and how many do.
    """

    firms: Sequence[str]
    people: Sequence[str]
    sites: Mapping[str, tuple[str, ...]]
    contacts: Mapping[str, Counter[str]]

    def whose(self, host: str) -> tuple[str, ...]:
        """Return the firms whose site a host is at."""
        if "." not in host:
            return ()
        return self.sites.get(host) or self.whose(host.partition(".")[2])

    @functools.cached_property
    def page(self) -> Callable[..., Page]:
        """Return `page_of_source` for these names; records that share a question share its pages."""
        return functools.cache(functools.partial(page_of_source, self))


def page_of_source(names: Names, firm: str, person: str, title: str | None, link: str | None, *, whole: bool) -> Page:
    """Return whose a page is, for what a record is about: its title is mostly a host, and at times a headline."""
    title, link = " ".join((title or "").split()), link or ""
    host = host_of_page(title, link)
    others = names.whose(host)
    owner, shown, own = "other", host, False
    if not host:
        owner, shown = "headline, host not given", title or "no title"
    elif is_at(host, {"linkedin.com"}):
        kind, slug = page_of(link, "linkedin.com")
        shown = f"linkedin.com/{kind}/{slug}" if slug else host
        own = bool(slug) and (resembles(firm, slug) or resembles(person, slug)) is True
        owner = "own LinkedIn" if own else "LinkedIn"
    elif firm in others:
        owner, own = "own site", True
    elif is_register(host):
        owner, own = "register", True
    elif not is_at(host, SOCIAL) and resembles(firm, host):
        owner, own = "own site", True
    elif others:
        owner = f"the site of {others[0]}"
    return Page(shown, f"{owner}; whole answer" if whole else owner, link, own)


@functools.lru_cache(maxsize=4096)
def host_of_page(title: str, link: str) -> str:
    """Return the host of a page, by its title where that is one; empty where a redirect has a headline.

    >>> host_of_page("www.Norrgard.example", "https://a.example/x"), host_of_page("Team", "https://a.example/x")
    ('norrgard.example', 'a.example')
    """
    named = _HOST.fullmatch(title.strip().lower())
    return named[1] if named else "" if _REDIRECT in link else host_of(link)


def band(pages: Collection[Page]) -> str:
    """Return how good the pages behind an answer are."""
    return BANDS[0 if any(page.own for page in pages) else 1 if pages else 2]


def names_in(table: pa.Table, reader: StoreReader) -> Names:
    """Return who a store's rows are about, by the key and by the columns whose cells are addresses."""
    texts = {name: cells for name in reader.given if (cells := _texts(table, name)) is not None}
    hosts, written = {}, {}
    for name, own in own_cells(table, reader, texts).items():
        known = _matched(own, _IN_CELL, "host")
        if 2 * (len(known) - known.null_count) >= max(1, len(own) - own.null_count):
            hosts[name] = known
            written[name] = is_true(pc.match_substring(own, "@"))
    firms, people = _named(texts, reader, hosts, table.num_rows)
    sites: defaultdict[str, dict[str, None]] = defaultdict(dict)
    contacts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    writing = Counter(firm for name in hosts for firm in itertools.compress(firms, written[name]))
    for name, column in hosts.items():
        for firm, host, email in zip(firms, column.to_pylist(), written[name], strict=True):
            if host and firm and not _is_anybodys(host):
                sites[host][firm] = None
                if email and writing[firm] > 1:  # one alone says nothing of a firm, and most may be alone
                    contacts[firm][host] += 1
    near = {
        host: tuple(firm for firm in of_host if len(of_host) <= 2 or resembles(firm, host))
        for host, of_host in sites.items()  # of a host that many have, those that it resembles; a directory is nobody's
    }
    return Names(firms, people, {host: of_host for host, of_host in near.items() if of_host}, contacts)


@functools.lru_cache(maxsize=4096)
def _is_anybodys(host: str) -> bool:
    return is_at(host, SOCIAL) or is_free_mail(host) or is_register(host)


def _named(
    texts: Mapping[str, pa.Array], reader: StoreReader, hosts: Collection[str], rows: int
) -> tuple[list[str], list[str]]:
    """Return the firm and the person that each row is about; one of them where there are no two."""
    per = dict.fromkeys(name for facts in reader.stages.values() for name in facts.get("per", ()))
    about = [name for name in reader.key if name in per] or [*per] or reader.key
    columns = [name for name in about if name in texts and name not in hosts]
    personal = [name for name in columns if _PERSON.search(name)]
    firms = [name for name in columns if name not in personal and not _NO_NAME.search(name)][:1]

    def joined(names: Sequence[str]) -> list[str]:
        cells = [pc.fill_null(texts[name], "").to_pylist() for name in names]
        return [" ".join(filter(None, map(str.strip, parts))) for parts in zip(*cells, strict=True)] or [""] * rows

    people, named = joined(personal), joined(firms)
    return ([firm or person for firm, person in zip(named, people, strict=True)], people)


def own_cells(table: pa.Table, reader: StoreReader, names: Collection[str]) -> dict[str, pa.Array]:
    """Return some columns of a store's rows as the user's table had them, without what answers filled in."""
    own = {name: table.column(name).combine_chunks() for name in names}
    for stage, columns in reader.answers.items():
        for name in columns.keys() & own.keys():
            filled = pa.array(_listed_in(table, meta(stage, "filled"), name))
            own[name] = pc.if_else(filled, pa.scalar(None, own[name].type), own[name])
    return own


def _texts(table: pa.Table, name: str) -> pa.Array | None:
    """Return a column of text; None if it is none."""
    known = name in table.column_names and pa.types.is_string(table.schema.field(name).type)
    return table.column(name).combine_chunks() if known else None


def _listed_in(table: pa.Table, column: str, name: str) -> npt.NDArray[np.bool_]:
    """Return in which rows a list has a name."""
    mask = np.zeros(table.num_rows, bool)
    if column in table.column_names:
        lists = table.column(column).combine_chunks()
        mask[np.asarray(pc.list_parent_indices(lists))[is_true(pc.equal(pc.list_flatten(lists), name))]] = True
    return mask


def with_others(table: pa.Table, reader: StoreReader, names: Names) -> pa.Table:
    """Return a store's rows with what other records say against an answer among its issues; its state is doubtful."""
    for stage, columns in reader.answers.items():
        facts = [meta(stage, name) for name in ("states", "issues", "fields_found")]
        said: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
        for row, field, text in _said(table, stage, columns, names) if facts[0] in table.column_names else ():
            said[row].append((field, text))
        if not said:
            continue
        rows = sorted(said)
        order = np.arange(table.num_rows)
        order[rows] = table.num_rows + np.arange(len(rows))
        held = [table.column(name).take(pa.array(rows)).to_pylist() for name in facts]
        changed = [_doubted(*cells) for cells in zip(*held, (said[row] for row in rows), strict=True)]
        for name, cells in zip(facts, zip(*changed, strict=True), strict=False):
            kept = table.column(name).combine_chunks()
            both = pa.concat_arrays([kept, pa.array(cells, kept.type)])
            place = table.column_names.index(name)
            table = table.set_column(place, table.schema.field(name), both.take(pa.array(order)))
    return table


def _doubted(
    states: Sequence[dict[str, Any]], issues: list[str], answered: Collection[str], said: Sequence[tuple[str, str]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the states and issues of an answer with what is said against those of its fields that have a value."""
    against = {field for field, _ in said} & set(answered or ())
    more = [f"{field}: {text}" for field, text in said if field in against]
    changed = [state | ({"state": "doubtful"} if state["field"] in against else {}) for state in states]
    return changed, [*(issues or ()), *more]


def _said(table: pa.Table, stage: str, columns: Mapping[str, str], names: Names) -> Iterator[tuple[int, str, str]]:
    """Yield what other records say against a stage's answers: the row, the field, the check and what it saw."""
    for column, field in columns.items():
        if (cells := _texts(table, column)) is not None:
            filled = _listed_in(table, meta(stage, "filled"), column)
            for row, text in _shared(cells, filled, names):
                yield row, field, f"{SEVERAL}: also given for {text}"
            for row, text in _elsewhere(cells, filled, names):
                yield row, field, f"{CONTACTS}: {text}"
    for row, field, text in _only_others(table, stage, names):
        yield row, field, f"{ANOTHERS}: {text}"


def _shared(cells: pa.Array, filled: npt.NDArray[np.bool_], names: Names) -> Iterator[tuple[int, str]]:
    """Yield the rows whose address is that of other firms, or whose profile is that of other people."""
    known = pc.if_else(pc.match_substring_regex(cells, _MAY_BE_ADDRESS), cells, pa.scalar(None, pa.string()))
    if known.null_count == len(known):
        return
    pages, emails, phones = (_matched(known, pattern, "key") for pattern in (_ADDRESS, _EMAIL, _PHONE))
    keys = pc.coalesce(pages, emails, pc.replace_substring_regex(phones, r"\D", ""))
    profiles = is_true(pc.match_substring_regex(keys, _PERSONS))
    people = (person if profile else "" for person, profile in zip(names.people, profiles.tolist(), strict=True))
    subjects_of = [person or firm for person, firm in zip(people, names.firms, strict=True)]
    rows = pd.DataFrame({"key": keys.to_pandas(), "subject": subjects_of}).dropna()
    shared = rows[rows.groupby("key")["subject"].transform("nunique") > 1]
    groups: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, key, subject in shared.itertuples(name=None):
        groups[key][subject].append(row)
    for key, subjects in groups.items():
        host, _, path = key.partition("/")
        named = path.rpartition("/")[2] if is_at(host, SOCIAL) else host
        free = {name for name in subjects if name not in names.whose(host) and not resembles(name, named)}
        more = f" and {len(subjects) - 2} more" if len(subjects) > 2 else ""
        rivals = sorted(subjects, key=lambda name: (name in free, name))[:MOST_RIVALS]  # whose it is comes first
        for name in free:
            if (other := next((rival for rival in rivals if not _alike(name, rival)), None)) is not None:
                yield from ((row, f"{other}{more}") for row in subjects[name] if filled[row])


def _alike(name: str, other: str) -> bool:
    return name == other or bool(resembles(name, other) or resembles(other, name))


def _elsewhere(cells: pa.Array, filled: npt.NDArray[np.bool_], names: Names) -> Iterator[tuple[int, str]]:
    """Yield the rows with a site that most of the firm's contacts do not write from."""
    roots = is_true(pc.match_substring_regex(cells, r"^https?://[^/?#]+/?$")) & filled
    for row in np.flatnonzero(roots).tolist():
        written = names.contacts.get(names.firms[row], Counter[str]())
        if (count := written.total()) < 2:
            continue
        site = host_of(cells[row].as_py())
        odd = Counter({host: those for host, those in written.items() if not _tied(site, host)})
        if 2 * odd.total() > count and not is_at(site, SOCIAL):
            yield row, f"{odd.total()} of {count} contacts write from {odd.most_common(1)[0][0]}"


@functools.lru_cache(maxsize=4096)
def _tied(host: str, other: str) -> bool:
    """Whether two hosts may be of one firm."""
    labels = host.rpartition(".")[0], other.rpartition(".")[0]
    return is_at(host, {other}) or is_at(other, {host}) or _alike(*labels)


def _only_others(table: pa.Table, stage: str, names: Names) -> Iterator[tuple[int, str, str]]:
    """Yield the rows and fields all of whose pages are those of other firms of the table."""
    if meta(stage, "sources") not in table.column_names or not names.sites:
        return
    first = 0
    for batch in table.select([meta(stage, name) for name in ("states", "sources")]).to_batches():
        for row, field, text in _others_pages(batch, names.firms[first : first + len(batch)], names):
            yield first + row, field, text
        first += len(batch)


def _others_pages(batch: pa.RecordBatch, firms: Sequence[str], names: Names) -> Iterator[tuple[int, str, str]]:
    """Yield the same of some rows, about these firms: the sources are most of a store, and never copied as a whole."""
    states, sources = batch.columns
    hosts = _page_hosts(pc.list_flatten(sources))
    different = hosts.dictionary.to_pylist()
    owners = [names.whose(host) for host in different]
    codes, of_page = np.asarray(pc.fill_null(hosts.indices, -1)), np.asarray(pc.list_parent_indices(sources))
    foreign = np.array([*map(bool, owners), False])[codes]
    for place in np.flatnonzero(foreign).tolist():
        firm, code = firms[of_page[place]], codes[place]
        foreign[place] = firm not in owners[code] and not resembles(firm, different[code])
    if not foreign.any():
        return
    lengths = np.asarray(pc.fill_null(pc.list_value_length(sources), 0))
    flat, of_row = pc.list_flatten(states), np.asarray(pc.list_parent_indices(states))
    lists = pc.struct_field(flat, "sources")
    of_state = np.asarray(pc.list_parent_indices(lists))
    pages = (np.cumsum(lengths) - lengths)[of_row[of_state]] + np.asarray(pc.list_flatten(lists))
    own = np.bincount(of_state, weights=~foreign[pages], minlength=len(flat))
    states_with_pages, first = np.unique(of_state, return_index=True)
    for state, page in zip(states_with_pages.tolist(), pages[first].tolist(), strict=True):
        if not own[state]:
            text = f"only page: {different[codes[page]]}, the site of {owners[codes[page]][0]}"
            yield int(of_row[state]), flat[state].as_py()["field"], text


def _page_hosts(pages: pa.Array) -> pa.DictionaryArray:
    """Return the hosts of pages, as `host_of_page` does of one."""
    titles, links = (pc.fill_null(pc.struct_field(pages, name), "") for name in ("title", "url"))
    named = _matched(titles, _IS_HOST, "host")
    unsaid = pc.or_(pc.is_valid(named), pc.match_substring(links, _REDIRECT))
    linked = _matched(pc.if_else(unsaid, pa.scalar(None, pa.string()), links), _IN_CELL, "host")
    return pc.coalesce(named, linked).dictionary_encode()


def _matched(texts: pa.Array, pattern: str, name: str) -> pa.Array:
    """Return what a part of a pattern matches in each text, in small letters; each different text is looked at once."""
    different = texts.dictionary_encode()
    return pc.struct_field(pc.extract_regex(pc.utf8_lower(different.dictionary), pattern), name).take(different.indices)
