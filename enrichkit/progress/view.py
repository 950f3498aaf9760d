"""The view: what a person should know about a run, and its forms as a line of text, live HTML and a static summary.

Pure. `describe` alone decides what is worth knowing; the forms only lay its facts out. Any text may come from a service
or a table, so all of it is escaped. The live HTML takes its colours from the page, so that it reads in light and dark;
the summary knows only tables and literal styles, since GitHub and a notebook that is not trusted drop everything else.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ..formatting import LONGEST_CELL, Sentence, amount, duration, escaped, joined, many, plain, text_page, wide
from ..status import BY_A_PERSON, Money, Status, next_step

LONGEST_TEXT = 3 * LONGEST_CELL
BAR_RANK, LINE_RANK, FIRST_RANK, DETAIL = 0, 1, 2, 3
"""The highest rank beside a terminal's bar, in a line, in a log's first line, and in a table of all facts."""
BOUND_AFTER_SECONDS, NEARLY = 10, 0.8
ROOT = 'class="mathjax_ignore tex2jax_ignore"'
"""Else two dollar signs in a text become a formula."""
PAGE = "max-width:680px"
LIVE = ";font-size:13px;line-height:1.5;font-variant-numeric:tabular-nums;color:var(--jp-content-font-color1,inherit)"
NARROW = "width:0;min-width:100%;white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
CELL = "text-align:left;vertical-align:top;border:none;padding:1px 14px 1px 0"


class Fact(NamedTuple):
    """Something to know about a run; the text makes sense without the name, and may quote a service or a table.

    Where space is short, the highest ranks go first.
    """

    name: str
    text: str
    rank: int = DETAIL


def describe(status: Status, *, ended: bool = False) -> list[Fact]:
    """Return what a person should know about a run, most important first."""
    traffic, money, levels, finished = status.traffic, status.money, _levels(status), status.done + status.failed
    troubled = not ended or status.failed or is_early(status)
    spaced = status.left and not ended and not status.waiting
    sent = f"{many(traffic.tokens, 'token')} in {many(traffic.requests, 'request')}" if traffic.requests else ""
    unpriced = f"{many(money.unpriced, 'reply', 'replies')} of unknown price" if money.unpriced else ""
    unclear = f"{amount(money.possibly_usd)} USD may have been charged without a reply" if money.possibly_usd else ""
    facts = [
        Fact("waiting for", "" if ended else _waiting(status), BAR_RANK),
        Fact("progress", f"{finished:,} of {many(status.records, 'record')}", LINE_RANK),
        _unsaved(status, ended=ended),
        *_times(status, ended=ended),
        Fact("failures", f"{status.failed:,} failed" if status.failed else "", BAR_RANK),
        Fact("checks", f"check_failed {status.checks_failed:,}" if status.checks_failed else "", BAR_RANK),
        Fact("not asked", left_for_later(status) if status.later else "", LINE_RANK),
        Fact("budget", _budget(status), LINE_RANK),
        Fact("cost", _cost(status), LINE_RANK),
        Fact("unknown price", unpriced, LINE_RANK),
        Fact("unclear", unclear, LINE_RANK),
        Fact("excess", money.excess, LINE_RANK),
        Fact("traffic", sent, LINE_RANK),
        Fact("pace", str(status.pace) if spaced else "", LINE_RANK),
        Fact("bound by", _bound(status)),
        Fact("prices", f"priced by {money.prices}", FIRST_RANK),
        Fact("shared", f"{many(status.shared, 'answer')} shared" if status.shared else ""),
        Fact("in flight", "" if ended else many(traffic.in_flight, "request")),
        # Beside what is waited for stands the service's own sentence; and whatever is said where nothing comes.
        Fact(
            "last problem",
            status.problem if troubled else "",
            BAR_RANK if not ended and (status.waiting or not traffic.tokens) else DETAIL,
        ),
        Fact("searches", unsearched(status), LINE_RANK),
        *(
            Fact(title, ", ".join(f"{count:,} {level}" for level, count in counts.items() if count))
            for title, counts in levels.items()
        ),
    ]
    always = ("not asked", "unclear", "excess")  # of a call that asks nothing
    return [fact for fact in facts if fact.text and (status.records or fact.name in always)]


def unsearched(status: Status) -> str:
    """Return how many answers of stages that search came without a search."""
    count, of = status.unsearched, status.searching
    return f"{count:,} of {many(of, 'answer')} of stages that search came without a search" if count else ""


def _bound(status: Status) -> str:
    """Return whether the pace or the number of workers sets the speed, once there is some."""
    traffic, limit, sent = status.traffic, status.pace.rate_per_second, 0.0
    if traffic.requests > traffic.workers > 0 and status.seconds >= BOUND_AFTER_SECONDS:
        sent = traffic.requests / status.seconds
    if not sent or status.pace.most_at_once is not None:
        return ""
    what = "the pace" if limit is not None and sent >= NEARLY * limit else many(traffic.workers, "worker")
    return f"{what}, {many(round(60 * sent), 'request')} a minute"


def _waiting(status: Status) -> str:
    """Return what keeps requests from being sent; a pace that only spaces them is another fact."""
    if status.stopping:
        again = "; interrupt again to leave at once" * (status.stopping == "interrupt")
        return f"finishing {many(status.traffic.in_flight, 'request')}{again}"
    return ", ".join(filter(None, ["paused" * status.paused, status.waiting]))


def _times(status: Status, *, ended: bool) -> list[Fact]:
    """Return how fast it goes and how long it will take; how long it took, once it has ended."""
    if ended or not status.left:
        return [Fact("time", duration(status.seconds), LINE_RANK)]
    left = "" if status.left_seconds is None or status.paused else f"{duration(status.left_seconds)} left"
    return [Fact("speed", f"{status.rate_per_second:.1f} records/s", LINE_RANK), Fact("time", left, LINE_RANK)]


def _unsaved(status: Status, *, ended: bool) -> Fact:
    """Return what is not on the disk, if that matters: while all goes well, a few replies are always on their way."""
    if not status.traffic.unsaved or not (ended or status.waiting):
        return Fact("not saved", "")
    replies = many(status.traffic.unsaved, "reply", "replies")
    if ended:
        text = f"{replies} could not be saved, and will be asked, and paid for, again"
        return Fact("not saved", text, BAR_RANK)
    return Fact("not saved", f"{replies} not saved yet", LINE_RANK)


def _cost(status: Status) -> str:
    """Return what is spent, and about what this call will cost in all."""
    money, text = status.money, spent(status.money)
    if status.left and money.rest_usd is not None and money.per_record_usd is not None:
        text += f" of about {amount(money.cost_usd + money.rest_usd)}, {amount(money.per_record_usd)} a record"
    return text + " (simulated, nothing is charged)" * money.simulated


def spent(money: Money) -> str:
    """Return what is spent, in words: at least so much, where a price is unknown."""
    return f"{'at least ' * bool(money.unpriced)}{amount(money.cost_usd, _scale(money))} USD"


def _scale(money: Money) -> float:
    """Return what amounts may come to: they keep their number of digits as they grow."""
    return max(money.budget_usd or 0, money.cost_usd + (money.rest_usd or 0))


def _budget(status: Status) -> str:
    money = status.money
    if money.budget_usd is None:
        return ""
    text = f"{amount(money.spent_usd, _scale(money))} of a budget of {amount(money.budget_usd)} USD spent"
    set_aside = money.reserved_usd and not status.paused
    reserved = f", {amount(money.reserved_usd, _scale(money))} reserved" if set_aside else ""
    return f"{text}{reserved}" + f"; {budget_warning(money)}" * money.nearly_spent


def budget_warning(money: Money) -> str:
    """Return how much of the budget is spent, never a per cent too much, in words."""
    return f"{money.percent_spent} % of the budget is spent{' or may be' if money.possibly_usd else ''}"


def one_line(status: Status, highest_rank: int = FIRST_RANK, *, ended: bool = False) -> str:
    """Return the facts up to a rank as one line."""
    return " · ".join(fact.text for fact in describe(status, ended=ended) if fact.rank <= highest_rank)


def beside_bar(status: Status, room: int, *, ended: bool = False) -> tuple[str, str]:
    """Return what stands before and after a terminal's bar, which has counts, speed and time of its own.

    Where there is little room, what comes last is left out; what holds the run back is said in any case.
    """
    facts = {fact.name: fact.text for fact in describe(status, ended=ended) if fact.rank <= BAR_RANK}
    held, problem = facts.get("waiting for") or facts.get("not saved") or "", facts.get("last problem")
    before = plain(" · ".join(filter(None, [held, problem])), room) if len(held) < room else held
    left = room - wide(before) - len(": ") * bool(before)
    cost = spent(status.money) + ", simulated" * status.money.simulated
    after = [facts.get("failures"), facts.get("checks"), cost, many(status.traffic.tokens, "token")]
    said = list(itertools.accumulate(filter(None, after), lambda first, more: f"{first} · {more}"))
    return before, next((text for text in reversed(said) if wide(text) <= left), "")


def headline(status: Status, *, ended: bool) -> str:
    """Return how the run stands, in a few words."""
    if not ended:
        return "Finishing what is in flight" if status.stopping else "Paused" if status.paused else "Running"
    if is_early(status):
        by_whom = "Stopped" if status.stopping in BY_A_PERSON else "Ended early"
        return "Ended by a defect" if status.stopping == "defect" else by_whom
    if status.records:
        return "Done"
    return f"{status.stored:,} of {status.stored + status.later:,} are stored; nothing to ask" + (
        " in this call" * bool(status.later)
    )


def left_for_later(status: Status) -> str:
    """Return how many records were left out."""
    return f"{status.later:,} more {'is' if status.later == 1 else 'are'} left for a later call"


def is_early(status: Status) -> bool:
    """Whether a run that has ended did not come to its own end; a person's stop that came too late changes nothing."""
    return bool(status.left) or status.stopping not in (None, *BY_A_PERSON)


def next_call(status: Status, *, ended: bool) -> str:
    """Return what a person may sensibly call next."""
    if not ended:
        if status.stopping:
            return ".result() waits for the end."
        calls = ".resume() goes on" if status.paused else ".pause() lets it rest"
        return f".show() shows it here, {calls}, .stop() ends it, .result() waits for the table."
    if is_early(status):
        return again(status)
    return (
        ".result() is the table, .show() shows these figures again, enrichkit.read(out) has all that is known. "
        f"{again(status)}"
    ).rstrip()


def again(status: Status) -> Sentence:
    """Return what the same call does after a run that has ended; nothing where it would do nothing."""
    if is_early(status):
        return Sentence("{next_step}; {read} has what is stored.", next_step=next_step(status.stopping))
    sentences = []
    if status.later and status.records:
        sentences.append(Sentence("The same {call} goes on with those that are left."))
    if status.failed:
        sentences.append(Sentence("The same {call} with {retry_failed_on} asks the failed ones again."))
    return joined(sentences)


def as_of(*, ended: bool) -> list[str]:
    """Return when it was so, while the run is under way: a notebook keeps what it shows."""
    return [] if ended else [f"as of {datetime.now():%Y-%m-%d %H:%M:%S}"]


def snapshot(status: Status, *, ended: bool) -> str:
    """Return a run as a notebook or terminal shows an object: how it stands, and what to call next."""
    state = " ".join([headline(status, ended=ended).lower(), *as_of(ended=ended)])
    how = ": ".join(filter(None, [state, one_line(status, ended=ended)]))
    return text_page([f"<enrichkit.Run, {how}>", next_call(status, ended=ended)])


def last_line(status: Status) -> str:
    """Return a run that has ended as the line that a cell keeps which has waited for it."""
    return ". ".join(filter(None, [summary_text(status, ended=True), again(status)]))


def html_view(status: Status, *, ended: bool, notes: Sequence[str] = (), live: bool = False) -> str:
    """Return a run as HTML, half a screen wide or more, in lines that a saved notebook's diff can be read by.

    It needs nothing: no kernel, no script, no style sheet, no trust. ``live``, it has bars and the latest answers, too,
    and says of when it is: a kernel may die.
    """
    facts = {fact.name: _escaped(fact.text) for fact in describe(status, ended=ended)}
    moment, bar, latest = "", "", ""
    if live:
        facts |= {title: _drawn(counts) for title, counts in _levels(status).items()}
        moment = f' <span style="opacity:.65">as of {datetime.now():%H:%M:%S}</span>'
        bar = _progress(status.done + status.failed, max(status.records, 1), "display:block;width:100%")
        rows_seen = [" · ".join(map(_escaped, (key, came, values))) for key, values, came in status.latest]
        latest = "".join(f'<div style="{NARROW}">{row}</div>' for row in rows_seen)
    head = "<br>\n".join([f"<b>{headline(status, ended=ended)}</b>{moment}", *map(_escaped, notes)])
    rows = "".join(
        f'<tr style="background:none"><td style="{CELL};white-space:nowrap;opacity:.65">{name}</td>\n'
        f'<td style="{CELL};white-space:normal;overflow-wrap:anywhere">{text}</td></tr>\n'
        for name, text in facts.items()
    )
    table = f'<table style="margin:0;border:none"><tbody>\n{rows}</tbody></table>\n' if rows else ""
    return f'<div {ROOT} style="{PAGE}{LIVE * live}"><p style="margin:0 0 4px 0">{head}</p>\n{bar}{table}{latest}</div>'


def _drawn(counts: Mapping[str, int]) -> str:
    """Return counts by level, each with a bar for its share."""
    whole, share = sum(counts.values()), '<span style="white-space:nowrap">{} {:,} {}</span>'
    drawn = [
        (_progress(count, whole, "width:60px"), count, _escaped(level)) for level, count in counts.items() if count
    ]
    return "&emsp;\n".join(share.format(*each) for each in drawn)


def _progress(value: int, most: int, style: str) -> str:
    return f'<progress value="{value}" max="{most}" style="{style}"></progress>'


def summary_text(status: Status, *, ended: bool, notes: Sequence[str] = ()) -> str:
    """Return the same as text, in a few lines."""
    first = ": ".join(filter(None, [headline(status, ended=ended), one_line(status, ended=ended)]))
    return "\n".join(plain(text, 0) for text in (first, *notes))


def _levels(status: Status) -> dict[str, Mapping[str, int]]:
    levels = {"confidence": status.levels.confidence, "search quality": status.levels.search_quality}
    return {title: counts for title, counts in levels.items() if sum(counts.values()) > counts.get("not said", 0)}


def _escaped(text: str) -> str:
    return escaped(text, LONGEST_TEXT)
