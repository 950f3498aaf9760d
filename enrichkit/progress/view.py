"""The view: a run's status as a line of text, as live HTML, and as the summary that stays in a saved notebook.

Pure. Any text may come from a service or a table, so all of it is escaped. The live HTML takes its colours from the
page, so that it reads in light and dark; the summary knows only tables and literal styles, since a notebook that is
not trusted, and GitHub, drop everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ..formatting import LONGEST_CELL, amount, duration, escaped, many, plain
from ..status import WARN_AT, Status, next_step

LONGEST_TEXT = 3 * LONGEST_CELL
BAR_WIDTH = 90
SHORTEST_HOLD = 24
"""So much of what holds a run is told beside a terminal's bar however narrow the window is."""
BLUE, RED = "#4c8bf5", "#e0605a"
"""Both read on white and on black."""
ROOT = 'class="mathjax_ignore tex2jax_ignore"'
"""Else two dollar signs in a text become a formula."""

Fact = tuple[str, str]


def line(status: Status, *, ended: bool = False, prices: bool = True) -> str:
    """Return a run's state as one line, with whose prices the money goes by."""
    parts = [_how_far(status)]
    if status.failed:
        parts.append(f"{status.failed:,} failed")
    if status.later:
        parts.append(left_for_later(status))
    cost = _cost(status, "{:.4f}".format)
    if status.money.budget_usd is not None and status.money.reserved_usd:
        cost += f", {status.money.reserved_usd:.4f} set aside"
    label = [*["simulated"] * status.money.simulated, *[status.money.prices] * prices]
    cost += f" ({'; '.join(label)})" if label else ""
    parts += [many(status.traffic.requests, "request"), many(status.traffic.tokens, "token"), cost]
    if (status.money.budget_share or 0) >= WARN_AT:
        parts.append(scarce(status))
    if status.money.unpriced:
        parts.append(f"{status.money.unpriced:,} of unknown price")
    if status.traffic.unsaved and status.waiting:
        parts.append(f"{many(status.traffic.unsaved, 'reply', 'replies')} not saved yet")
    return " · ".join([*parts, *([duration(status.seconds)] if ended else [*_pace(status), *_holds(status)])])


def scarce(status: Status) -> str:
    """Return how much of the budget is spent, never a per cent too much, in words."""
    unsure = " or may be" if status.money.possibly_usd else ""
    return f"{_per_cent_spent(status)} % of the budget is spent{unsure}"


def _per_cent_spent(status: Status) -> int:
    return math.floor(100 * (status.money.budget_share or 0))


def tail(status: Status, *, ended: bool = False, width: int) -> str:
    """Return what stands beside a terminal's bar, in short: of what is wanted most, whatever fits there as a whole.

    What holds the run comes first, cut if need be: whoever waits wants to know what for.
    """
    told = f"{status.done + status.failed:,}/{status.records:,}"
    for part in [] if ended else _held(status):
        told += f" · {plain(part, max(SHORTEST_HOLD, width - len(told) - 3))}"
    wanted = [duration(status.seconds)]
    if status.left and not ended:
        left = [] if status.left_seconds is None else [f"{_briefly(status.left_seconds)} left"]
        wanted = [f"{status.rate_per_second:.1f}/s", *left]
    wanted += [f"{status.failed:,} failed"] * bool(status.failed)
    wanted += [f"{_per_cent_spent(status)} % of budget"] * ((status.money.budget_share or 0) >= WARN_AT)
    wanted += [f"{amount(status.money.cost_usd)} USD", f"{_roughly(status.traffic.tokens)} tok"]
    for part in wanted:
        if len(told) + len(part) + 3 <= width:
            told += f" · {part}"
    return told


def _held(status: Status) -> list[str]:
    """Return, in short, what keeps requests from being sent; a pace that only spaces them is not told."""
    if status.stopping:
        again = "; Ctrl-C again leaves at once" if status.stopping == "interrupt" else ""
        return [f"finishing {many(status.traffic.in_flight, 'request')}{again}"]
    return [*["paused"] * status.paused, *[status.waiting] * bool(status.waiting)]


def _briefly(seconds: float) -> str:
    """Return a time span in at most six letters, up to a day.

    >>> _briefly(42.3), _briefly(260), _briefly(9000)
    ('42 s', '4 min', '2.5 h')
    """
    if seconds < 59.5:
        return duration(seconds)
    return f"{seconds / 60:.0f} min" if seconds < 3570 else f"{seconds / 3600:.1f} h"


def _roughly(count: int) -> str:
    """Return a large number in few digits, none of them rounded up.

    >>> _roughly(999), _roughly(114_203), _roughly(2_355_001)
    ('999', '114k', '2.3M')
    """
    if count < 1000:
        return f"{count}"
    return f"{count // 1000}k" if count < 10**6 else f"{count // 10**5 / 10:,.1f}M"


def headline(status: Status, *, ended: bool) -> str:
    """Return how the run stands, in a few words."""
    if ended and status.stopping == "defect":
        return "Ended by a defect"
    if ended and is_early(status):
        return "Ended early"
    if ended and not status.records:
        return "Nothing to ask in this call" if status.later else "Nothing to ask: every outcome is stored"
    if ended:
        return "Done"
    return "Finishing what is in flight" if status.stopping else "Paused" if status.paused else "Running"


def left_for_later(status: Status) -> str:
    """Return how many records were left out."""
    return f"{status.later:,} more {'is' if status.later == 1 else 'are'} left for a later call"


def is_early(status: Status) -> bool:
    """Whether a run that has ended did not come to its own end; a person's stop that came too late changes nothing."""
    return bool(status.left) or status.stopping not in (None, "stop", "interrupt")


def next_call(status: Status, *, ended: bool) -> str:
    """Return what a person may sensibly call next."""
    if not ended:
        if status.stopping:
            return ".result() waits for the end."
        calls = ".resume() goes on" if status.paused else ".pause() lets it rest"
        return f".show() shows it here, {calls}, .stop() ends it, .result() waits for the table."
    if is_early(status):
        return " ".join(again(status))
    return " ".join([".result() is the table, enrichkit.read(out) has all that is known of it.", *again(status)])


def again(status: Status) -> list[str]:
    """Return what the same call does after a run that has ended; nothing where it would do nothing."""
    if is_early(status):
        return [f"{next_step(status.stopping)}; enrichkit.read(out) has what is stored."]
    on = ["The same call goes on with those that are left."] if status.later and status.records else []
    return [*on, *["The same call with retry_failed=True asks the failed ones again."] * bool(status.failed)]


def live_html(status: Status) -> str:
    """Return a running run as HTML with inline SVG, for a page that is trusted, at half a screen's width or more."""
    muted = "opacity:.65"
    tiles = "".join(
        f'<div style="min-width:56px"><div style="font-size:17px;line-height:1.2">{count:,}</div>'
        f'<div style="{muted}">{name}</div></div>'
        for name, count in _counts(status)
    )
    rows = "".join(
        f'<div style="{muted}">{_escaped(name)}</div><div style="overflow-wrap:anywhere">{_escaped(value)}</div>'
        for name, value in facts(status)
    )
    bars = "".join(histogram(title, counts) for title, counts in _histograms(status))
    return (
        f'<div {ROOT} style="font-size:13px;line-height:1.5;max-width:680px;font-variant-numeric:tabular-nums;'
        'color:var(--jp-content-font-color1,inherit)">'
        '<div style="display:flex;justify-content:space-between;gap:16px">'
        f"<b>{headline(status, ended=False)}</b><span>{_escaped(_how_long(status))}</span></div>"
        f"{_bar(status)}"
        '<div style="display:flex;flex-wrap:wrap;gap:12px 32px">'
        f'<div style="flex:1 1 330px"><div style="display:flex;gap:20px;margin-bottom:8px">{tiles}</div>'
        f'<div style="display:grid;grid-template-columns:max-content 1fr;gap:0 14px">{rows}</div></div>'
        f'<div style="flex:0 0 220px">{bars}</div></div></div>'
    )


def histogram(title: str, counts: Mapping[str, int]) -> str:
    """Return counts by level as an SVG in the colour of the text around it.

    >>> print(histogram("confidence", {"high": 3})[:54])
    <svg width="220" height="34" viewBox="0 0 220 34" role
    """
    most = max([*counts.values(), 1])
    rows = []
    for place, (level, count) in enumerate(counts.items()):
        y = 18 + 16 * place
        rows.append(
            f'<text x="0" y="{y + 10}" opacity=".65">{_escaped(level)}</text>'
            f'<rect x="64" y="{y + 1}" width="{_wide(count, most, 110)}" height="10" rx="2" opacity=".55"/>'
            f'<text x="{68 + _wide(count, most, 110)}" y="{y + 10}">{count:,}</text>'
        )
    height = 18 + 16 * len(counts)
    return (
        f'<svg width="220" height="{height}" viewBox="0 0 220 {height}" role="img" fill="currentColor" '
        f'style="display:block;margin-bottom:6px;font-size:11px"><text x="0" y="11" font-weight="bold">'
        f"{_escaped(title)}</text>{''.join(rows)}</svg>"
    )


def summary_html(status: Status, *, ended: bool, notes: Sequence[str] = ()) -> str:
    """Return a run as HTML that needs nothing: no kernel, no script, no style sheet, no trust."""
    head = f"<b>{headline(status, ended=ended)}</b> · {_escaped(_how_far(status))}"
    counts = [(name, f"{count:,}") for name, count in _counts(status)]
    rows = "".join(map(_row, [*counts, *facts(status, ended=ended)]))
    bars = "".join(
        f'<tr style="background:none"><td colspan="3" style="{_cell("left")};padding-top:5px"><b>{title}</b></td></tr>'
        + _static_bars(levels)
        for title, levels in _histograms(status)
    )
    side = f'<td style="{_cell("left")};padding-left:32px"><table style="margin:0;border:none">{bars}</table></td>'
    told = "".join(f"<br>{_escaped(note)}" for note in notes)
    return (
        f'<div {ROOT} style="max-width:680px"><p style="margin:0 0 4px 0">{head}{told}</p>'
        '<table style="margin:0;border:none"><tbody><tr style="background:none">'
        f'<td style="{_cell("left")};padding-left:0"><table style="margin:0;border:none"><tbody>{rows}</tbody></table>'
        f"</td>{side if bars else ''}</tr></tbody></table></div>"
    )


def summary_text(status: Status, *, ended: bool, notes: Sequence[str] = ()) -> str:
    """Return the same as text, in a few lines."""
    return "\n".join(
        plain(text, 0) for text in (f"{headline(status, ended=ended)}: {line(status, ended=ended)}", *notes)
    )


def facts(status: Status, *, ended: bool = False) -> list[Fact]:
    """Return what is to be known besides the counts, a name and a text each; the text may be anybody's."""
    money = status.money
    rate = f"{status.rate_per_second:.1f} records/s"
    unpriced = f", {status.money.unpriced:,} of unknown price" if status.money.unpriced else ""
    found = [("not asked", left_for_later(status))] if status.later else []
    found += [
        ("time", duration(status.seconds)),
        ("speed", rate if ended else f"{rate}, {many(status.traffic.in_flight, 'request')} in flight"),
        ("tokens", f"{status.traffic.tokens:,} in {many(status.traffic.requests, 'request')}"),
        ("cost", f"{_cost(status, amount)}{unpriced}"),
        ("prices", f"{status.money.prices} (simulated, free)" if status.money.simulated else status.money.prices),
    ]
    if money.budget_usd is not None:
        aside = f", {amount(status.money.reserved_usd)} set aside" if status.money.reserved_usd else ""
        share = f"; {scarce(status)}" if (status.money.budget_share or 0) >= WARN_AT else ""
        found.append(("budget", f"{amount(money.spent_usd)} of {amount(money.budget_usd)} USD spent{aside}{share}"))
    if status.money.possibly_usd:
        found.append(("unclear", f"{amount(status.money.possibly_usd)} USD may have been charged without a reply"))
    if status.traffic.unsaved and (status.waiting or ended):
        found.append(("not saved", many(status.traffic.unsaved, "reply", "replies")))
    if not ended:
        found.append(("waits for", ", ".join(_holds(status)) or "nothing"))
    if status.problem:
        found.append(("last problem", status.problem))
    return found


def _counts(status: Status) -> list[tuple[str, int]]:
    return [("done", status.done), ("failed", status.failed), ("shared", status.shared), ("left", status.left)]


def _histograms(status: Status) -> list[tuple[str, Mapping[str, int]]]:
    both = [("confidence", status.levels.confidence), ("search quality", status.levels.search_quality)]
    return [(title, counts) for title, counts in both if counts]


def _how_far(status: Status) -> str:
    return f"{status.done + status.failed:,} of {many(status.records, 'record')}"


def _how_long(status: Status) -> str:
    known = status.left_seconds is not None and status.left and not status.stopping
    return _how_far(status) + (f" · about {duration(status.left_seconds or 0.0)} left" if known else "")


def _pace(status: Status) -> list[str]:
    """Return how fast it goes and how long it will take; how long it took, once nothing is left."""
    if not status.left:
        return [duration(status.seconds)]
    left = [] if status.left_seconds is None else [f"{duration(status.left_seconds)} left"]
    return [f"{status.rate_per_second:.1f} records/s", *left]


def _holds(status: Status) -> list[str]:
    """Return what holds the run back."""
    waiting = status.waiting or (str(status.pace) if status.left else "")
    found = ["paused"] * status.paused + [waiting] * bool(waiting)
    return [*found, "finishing what is in flight"] if status.stopping else found


def _cost(status: Status, usd: Callable[[float], str]) -> str:
    """Return what is spent, and about what this call will cost in all, with amounts written by ``usd``."""
    money = status.money
    told = f"{usd(money.cost_usd)} USD"
    if status.left and money.rest_usd is not None and money.per_record_usd is not None:
        told += f" of about {usd(money.cost_usd + money.rest_usd)}, {usd(money.per_record_usd)} a record"
    return told


def _bar(status: Status) -> str:
    """Return how far it is as two coloured lengths, failed records last."""
    done, failed = (100 * count / max(status.records, 1) for count in (status.done, status.failed))
    return (
        '<div style="position:relative;height:8px;border-radius:4px;overflow:hidden;margin:4px 0 10px">'
        '<div style="position:absolute;inset:0;background:currentColor;opacity:.15"></div>'
        f'<div style="position:absolute;height:8px;width:{done:.2f}%;background:{BLUE}"></div>'
        f'<div style="position:absolute;height:8px;left:{done:.2f}%;width:{failed:.2f}%;background:{RED}"></div></div>'
    )


def _static_bars(counts: Mapping[str, int]) -> str:
    most = max([*counts.values(), 1])
    return "".join(
        f'<tr style="background:none"><td style="{_cell("left")};white-space:nowrap">{_escaped(level)}</td>'
        f'<td style="{_cell("left")}"><div style="height:10px;width:{_wide(count, most, BAR_WIDTH)}px;'
        f'background:{BLUE}"></div></td><td style="{_cell("right")}">{count:,}</td></tr>'
        for level, count in counts.items()
    )


def _row(fact: Fact) -> str:
    name, value = map(_escaped, fact)
    return (
        f'<tr style="background:none"><td style="{_cell("left")};padding-left:0;white-space:nowrap">{name}</td>'
        f'<td style="{_cell("left")};white-space:normal;overflow-wrap:anywhere">{value}</td></tr>'
    )


def _cell(align: str) -> str:
    return f"text-align:{align};vertical-align:top;border:none;padding:1px 8px"


def _wide(count: int, most: int, width: int) -> int:
    """Return a bar's length; what is there at all is seen."""
    return max(1, round(width * count / most)) if count else 0


def _escaped(text: str) -> str:
    return escaped(text, LONGEST_TEXT)
