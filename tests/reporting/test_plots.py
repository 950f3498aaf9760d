"""The figures: Axes in, Axes out, with a title and units, and hostile names drawn as text."""

from __future__ import annotations

import importlib.metadata
import io
import json

import pandas as pd
import pytest

import enrichkit
from enrichkit import Issue, Price, Stage, errors, plots
from enrichkit.messages import Reply
from enrichkit.pricing.prices import DOLLARS
from enrichkit.reporting import what_if
from support.tables import Company

OWN = {"$m{": Price(input_usd=1, output_usd=1)}
FIGURES = [plots.cost_by_stage, plots.cost_per_record, plots.cost_over_time]
OF_ANSWERS = [plots.confidence, plots.search_quality, plots.fields_found, plots.fill_rate, plots.states, plots.issues]
COMPANY = Stage("company", prompt="Research {name}.", answer=Company)


@pytest.fixture(autouse=True)
def pyplot():
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.use("agg")
    yield pyplot
    pyplot.close("all")


@pytest.fixture
def paid():
    return plots.example()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of two records, of one of which the industry was known before."""
    out = tmp_path_factory.mktemp("store") / "out"
    frame = pd.DataFrame({"name": ["a", "b"], "company.industry": ["Tea", None]})
    client = lambda _: Reply(text='{"industry": "Tea", "confidence": "high"}')  # noqa: E731
    enrichkit.run(
        frame, out=out, stages=[COMPANY], key="name", model="gemini-3.5-flash-lite", client=client, progress=False
    )
    return enrichkit.report(out)


@pytest.mark.parametrize("figure", OF_ANSWERS)
def test_a_figure_of_answers_draws_into_the_axes_it_is_given(figure, report, pyplot):
    """With a title and words at both axes; anything but a report is refused with a sentence."""
    own = pyplot.Figure().subplots()
    assert figure(report, own) is own
    assert all([own.get_title(), own.get_xlabel(), own.get_ylabel()])
    with pytest.raises(errors.InputError, match=r"Give what enrichkit\.report returns, not a DataFrame"):
        figure(plots.example())


def test_the_bars_are_the_reports_counts(report):
    """The share of records with a value, before and now."""
    rate = plots.fill_rate(report)
    assert [bar.get_width() for bar in rate.patches] == [50, 50]
    assert [text.get_text() for text in rate.texts] == ["100 %"]


def test_bars_of_100_percent_have_their_number_at_the_end(tmp_path):
    """Worst first; the title says what is seen, and a check that only cleans is grey."""

    def odd(answer, record):
        if answer.industry == "Tea":
            yield Issue("industry", "no_trade", answer.industry)
        elif answer.industry == "Kelp":
            yield Issue("industry", "town_spelling", answer.industry, instead="kelp")
        elif answer.industry == "Void":
            yield Issue("industry", "no_word", answer.industry, instead=None)

    said = {"a": "Tea", "b": "Kelp", "c": "Void", "d": "Rope"}
    stage = Stage("company", prompt="Research {name}.", answer=Company, checks=(odd,), search=False)
    client = lambda request: Reply(  # noqa: E731
        text=json.dumps({"industry": next(said[n] for n in said if f"⟦{n}⟧" in request.text), "confidence": "high"})
    )
    settings = {"out": tmp_path / "out", "key": "name", "model": "m", "client": client, "progress": False}
    enrichkit.run(pd.DataFrame({"name": list(said)}), stages=[stage], **settings)
    report = enrichkit.report(tmp_path / "out")
    checks, sure, values = plots.issues(report), plots.confidence(report), plots.states(report)
    assert [label.get_text() for label in checks.get_yticklabels()] == ["no_word", "no_trade", "town_spelling"]
    assert checks.get_title() == "Checks emptied 1, flagged 1, cleaned 1 values"
    assert sure.get_title() == "Backed by a page: 0 % of high confidence"
    assert values.get_title() == "Of 4 values a page backs 0 %; checks speak against 50 %"
    for ax, numbers in ((checks, ["1"] * 3), (sure, ["4"]), (values, ["4"])):
        assert [text.get_text() for text in ax.texts] == numbers
        widths = [sum(bars[place].get_width() for bars in ax.containers) for place in range(len(numbers))]
        assert widths == [100] * len(numbers)
    evidence = enrichkit.trust.evidence(tmp_path / "out")
    enrichkit.trust.decide(
        tmp_path / "out", evidence[evidence["name"].isin(["a", "d"])].query("answer.notna()"), "right"
    )
    decided = enrichkit.report(tmp_path / "out")
    title = "Of 4 values a page backs 0 %; checks speak against 25 %; 50 % are decided"
    assert plots.states(decided).get_title() == title
    assert plots.confidence(decided).get_legend_handles_labels()[1][0] == "decided"
    drawn = io.BytesIO()
    values.figure.savefig(drawn, format="svg")
    assert b"<svg" in drawn.getvalue()


@pytest.mark.parametrize("figure", FIGURES)
def test_it_draws_into_the_axes_it_is_given(figure, paid, pyplot):
    """And returns them, with a title and the unit on an axis; no figure of its own is made."""
    own, before = pyplot.Figure().subplots(), pyplot.get_fignums()
    assert figure(paid, own) is own
    assert own.get_title()
    assert "USD" in own.get_xlabel() + own.get_ylabel()
    assert own.get_xlabel()
    assert own.get_ylabel()
    assert pyplot.get_fignums() == before
    assert figure(paid) is not own


def test_the_bars_add_up_to_what_was_paid(paid):
    """Wasted replies are a kind of their own, so nothing counts twice."""
    ax = plots.cost_by_stage(paid)
    assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(paid["cost_usd"].sum())
    assert plots.by_kind(paid).to_numpy().sum() == pytest.approx(paid["cost_usd"].sum())


def test_the_line_ends_at_the_total(paid):
    """Minutes on one axis, USD on the other."""
    (line,) = plots.cost_over_time(paid).lines
    assert line.get_xdata().tolist() == [0, 1, 2, 3]
    assert line.get_ydata()[-1] == pytest.approx(paid["cost_usd"].sum())


def test_each_record_counts_once(paid):
    """However many replies it paid for."""
    assert sum(bar.get_height() for bar in plots.cost_per_record(paid).patches) == 2


@pytest.mark.parametrize("figure", FIGURES)
def test_simulated_and_unknown_costs_are_said_in_the_title(figure, paid):
    """Nobody takes them for money, or for all of it."""
    paid["model"] = "simulator"
    paid.loc[0, list(DOLLARS)] = None
    title = figure(paid).get_title()
    assert "simulated, nothing was charged" in title
    assert "unknown prices left out: 1" in title


@pytest.mark.parametrize("figure", [*FIGURES, lambda paid: plots.cost_by_model(what_if(paid, prices=OWN))])
def test_whose_prices_they_are_is_said_in_the_title(figure, paid):
    """As the frame says; one that somebody else has made may not."""
    paid.attrs["prices"] = f"genai-prices {importlib.metadata.version('genai-prices')}, and your own for $m{{"
    ax = figure(paid)
    assert ax.get_title().endswith(f"\nprices: {paid.attrs['prices']}")
    ax.figure.canvas.draw()
    assert "prices:" not in plots.cost_by_stage(plots.example()).get_title()


def test_a_stage_of_unknown_price_has_no_bar(paid):
    """One of 0.0000 would say that it cost nothing."""
    paid.loc[paid["stage"] == "fund", list(DOLLARS)] = None
    ax = plots.cost_by_stage(paid)
    assert [text.get_text().strip() for text in ax.texts] == ["0.0484", "unknown"]
    assert {round(bar.get_y() + bar.get_height() / 2) for bar in ax.patches if bar.get_width()} == {0}


def test_where_no_price_is_known_every_row_says_so(paid):
    """A figure without rows would say that nothing was asked."""
    paid[list(DOLLARS)] = float("nan")
    ax = plots.cost_by_stage(paid)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["poc", "fund"]
    assert [text.get_text() for text in ax.texts] == ["unknown", "unknown"]


@pytest.mark.parametrize("figure", FIGURES)
def test_an_empty_store_makes_an_empty_figure(figure, paid):
    """And no error."""
    figure(paid.head(0)).figure.canvas.draw()


def test_hostile_names_are_drawn_as_text(paid):
    """Dollar signs and backslashes are no formula."""
    paid["stage"] = "$\\nonsense{$"
    plots.cost_by_stage(paid).figure.canvas.draw()
    found = what_if(paid).rename({"gemini-2.5-pro": "$\\nonsense{$\x1b"})
    plots.cost_by_model(found).figure.canvas.draw()


def test_models_of_unknown_price_are_left_out(paid):
    """An empty bar would say that they cost nothing."""
    found = what_if(paid, ["gemini-3.5-flash", "nobody-knows"])
    labels = [label.get_text() for label in plots.cost_by_model(found).get_yticklabels()]
    assert labels == ["gemini-3.5-flash"]


def test_another_table_is_refused(paid):
    """With a sentence that names what is missing."""
    with pytest.raises(errors.InputError, match="cost_usd"):
        plots.cost_by_stage(paid.drop(columns="cost_usd"))
