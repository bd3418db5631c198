"""The pages of the MLflow UI about a search, in a real browser."""

from __future__ import annotations

import re

import pytest

from keras_nas_plugin.tracking.mlflow.saved_views import KNOWN_VERSIONS
from tests.ui.conftest import TRIAL_SECONDS

pytestmark = pytest.mark.ui

SECTIONS = ("Hyperparameters and objective", "Objective against cost", "Learning curves")
COSTS = ("parameters", "flops", "peak_memory_bytes", "train_seconds")

# The UI draws only what is in the window.
TALL = {"width": 1400, "height": 2400}


@pytest.fixture(scope="module")
def expect():
    """Playwright's assertions, which wait until they hold."""
    return pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect


# The saved view, as a table


@pytest.fixture(scope="module")
def table(visitor, lab, expect, picture):
    """The view as a table, with all of its rows."""
    page = visitor.new_page()
    page.goto(lab.view("TABLE"))
    expect(page.get_by_text("30 matching runs")).to_be_visible()
    picture(page, "ui-table")
    page.set_viewport_size(TALL)
    expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(30)
    return page


def column(page, name):
    """The texts of a column from top to bottom, which is not their order in the document."""
    cells = page.locator(f'.ag-row [col-id="{name}"]').evaluate_all(
        "cells => cells.map(cell => [cell.closest('.ag-row').getAttribute('row-index'),"
        " cell.innerText.trim()])"
    )
    return [text for _, text in sorted(cells, key=lambda cell: int(cell[0]))]


def test_the_view_lists_all_trials_of_all_searches_and_nothing_else(table, lab):
    ranked = sorted(lab.scores, key=lab.scores.get, reverse=True)
    # A run's colour precedes its name.
    names = [text.splitlines()[-1] for text in column(table, "attributes.`Run Name`")]
    assert names == [*ranked, lab.failed]


def test_the_table_is_sorted_by_the_objective(table, lab):
    *scores, failed = column(table, "metrics.`objective/val_accuracy`")
    assert [float(text) for text in scores] == sorted(lab.scores.values(), reverse=True)
    assert failed in ("", "-")


def test_the_important_columns_are_visible(table):
    cells = table.locator(".ag-header-cell")
    titles = [text for text in map(str.strip, cells.all_inner_texts()) if text]
    expected = {"Run Name", "Created", "objective/val_accuracy", "cost/parameters", "cost/flops"}
    assert expected | {"block", "activation", "pooling"} <= set(titles)
    hidden = [cell for cell in cells.all() if cell.bounding_box()["x"] > 1_400]
    assert not expected & {cell.inner_text().strip() for cell in hidden}


def test_the_ui_lists_the_view_by_its_name(page, lab, expect):
    import mlflow

    if not KNOWN_VERSIONS[".".join(mlflow.__version__.split(".")[:2])]:
        pytest.skip(f"MLflow {mlflow.__version__} lists no views")
    page.goto(f"{lab.experiment_url}/runs?workflowType=machine_learning")
    page.get_by_role("button", name=re.compile("view", re.I)).first.click()
    expect(page.get_by_text("Trials by val_accuracy")).to_be_visible()


def test_a_view_of_an_older_version_still_opens(page, lab, expect):
    page.goto(lab.bare_view_url)
    title = page.locator('.ag-header-cell[col-id="metrics.`objective/val_accuracy`"]')
    expect(title).to_be_visible()


# The saved view, as charts


@pytest.fixture(scope="module")
def charts(visitor, lab, expect):
    """The view as charts, all of them in the window."""
    page = visitor.new_page()
    page.set_viewport_size(TALL)
    page.goto(lab.view("CHART"))
    for section in SECTIONS:
        expect(page.get_by_text(re.compile(rf"^{section}"))).to_be_visible()
    return page


def test_the_last_axis_of_parallel_coordinates_is_the_objective(charts, expect):
    axes = ["block", "activation", "pooling", "cost/parameters", "objective/val_accuracy"]
    expect(charts.locator(".parcoords .dimension .label")).to_have_text(axes)
    # The lines are painted on a canvas.
    charts.wait_for_function(
        """() => {
            const canvas = document.querySelector('.parcoords canvas.foreground');
            const area = [0, 0, canvas.width, canvas.height];
            const pixels = canvas.getContext('2d').getImageData(...area).data;
            return pixels.filter((value, index) => index % 4 === 3 && value > 0).length > 1000;
        }"""
    )


@pytest.mark.parametrize("cost", COSTS)
def test_a_scatter_has_a_point_per_finished_trial(charts, lab, expect, cost):
    plot = charts.locator(".js-plotly-plot").filter(has_text=f"cost/{cost}")
    expect(plot.locator(".scatterlayer path.point")).to_have_count(len(lab.scores))
    expect(plot.locator(".xtitle")).to_have_text(f"cost/{cost}")
    expect(plot.locator(".ytitle")).to_have_text("objective/val_accuracy")


def test_learning_curves_have_a_line_per_finished_trial(charts, lab, expect, picture):
    curves = charts.locator(".js-plotly-plot").filter(has_text="Step")
    expect(curves).to_have_count(4)
    for number in range(4):
        # One line of the logged values, and one of the smoothed values.
        lines = curves.nth(number).locator(".scatterlayer path.js-line")
        expect(lines).to_have_count(2 * len(lab.scores))
    picture(charts, "ui-charts")


# Other pages


def test_the_report_is_shown_with_its_plots_and_links(page, lab, expect, picture):
    page.goto(lab.report_url)
    report = page.frame_locator("iframe")
    expect(report.get_by_role("heading", name="digits-evolution").first).to_be_visible()
    plots = report.locator("svg:visible")
    expect(plots.first).to_be_visible()
    assert plots.count() > 1
    assert all(plot.bounding_box()["width"] > 100 for plot in plots.all())
    picture(page, "ui-report")
    # The frame has no address, so links within the page work only through its script.
    section = report.get_by_role("heading", name="Search configuration", exact=True)
    expect(section).not_to_be_in_viewport()
    report.get_by_role("link", name="Search configuration", exact=True).click()
    expect(section).to_be_in_viewport()


def test_the_note_of_a_search_shows_its_leaderboard(page, lab, expect, picture):
    page.goto(lab.search_url)
    page.get_by_text("Show more", exact=True).click()  # the UI folds long notes
    best = max(lab.scores.values())
    row = page.locator("table tr", has_text=f"{best:.4g}").first
    expect(row).to_be_visible()
    picture(page, "ui-note")


def test_the_registry_shows_the_aliases(page, lab, expect, picture):
    page.goto(lab.model_url)
    for number, alias in enumerate(("champion", "challenger"), start=1):
        row = page.get_by_role("row").filter(has_text=f"Version {number}")
        expect(row.get_by_text(alias)).to_be_visible()
    picture(page, "ui-registry")


def test_the_page_of_a_version_shows_its_card_with_the_score_first(page, lab, expect):
    page.goto(lab.version_url)
    expect(page.get_by_role("heading", name="Scores", exact=True)).to_be_visible()
    text = page.inner_text("body")
    assert text.index("Scores") < text.index("Intended use") < text.index("Loading")


def test_the_printed_address_of_a_trial_opens_its_run_with_learning_curves(
    page, lab, expect, picture
):
    page.goto(f"{lab.trial_url.partition('?')[0]}/model-metrics?workflowType=machine_learning")
    page.set_viewport_size(TALL)
    expect(page.get_by_text("val_accuracy", exact=True).first).to_be_visible()
    page.set_viewport_size({"width": 1440, "height": 1000})
    picture(page, "ui-trial")


def test_the_artifacts_of_a_trial_have_the_summary_of_its_model(page, lab, expect):
    page.goto(f"{lab.trial_url.partition('?')[0]}/artifacts/model_summary.txt")
    expect(page.get_by_text("Layers: Dense(10)")).to_be_visible()


def test_the_table_tells_two_searches_apart(table):
    searches = set(column(table, "tags.`nas.search_name`"))
    assert searches == {"digits-evolution", "digits-random"}


# The saved view that compares searches


@pytest.fixture(scope="module")
def comparison(visitor, lab, expect, picture):
    """The view of the searches as charts, all of them in the window."""
    page = visitor.new_page()
    page.set_viewport_size(TALL)
    page.goto(lab.searches_view_url)
    for section in ("Best so far over trials", "Best so far over seconds", "Result and cost"):
        expect(page.get_by_text(section)).to_be_visible()
    expect(page.locator(".js-plotly-plot .scatterlayer")).to_have_count(2)
    expect(page.locator(".js-plotly-plot .barlayer")).to_have_count(2)
    page.set_viewport_size({"width": 1440, "height": 1200})
    picture(page, "ui-searches")
    page.set_viewport_size(TALL)
    return page


def best_so_far(scores):
    """The number of each trial that did not fail, and the best score until its end."""
    points, best = {}, -1.0
    for number, score in enumerate(scores, start=1):
        if score is not None:
            best = points[number] = max(best, score)
    return points


@pytest.mark.parametrize(
    ("chart", "unit"), [(0, 1), (1, TRIAL_SECONDS)], ids=["trials", "seconds"]
)
def test_the_searches_are_compared_by_their_best_score_so_far(comparison, lab, chart, unit):
    plot = comparison.locator(".js-plotly-plot").nth(chart)
    lines = plot.evaluate("plot => plot.data.map(line => [line.name, line.x, line.y])")
    drawn = {name: dict(zip(x, y, strict=True)) for name, x, y in lines}
    assert drawn == {
        name: {unit * number: best for number, best in best_so_far(scores).items()}
        for name, scores in lab.searches.items()
    }


def test_the_results_and_costs_of_searches_are_bars(comparison, lab):
    bars = [
        comparison.locator(".js-plotly-plot").nth(number).evaluate("plot => plot.data[0].x")
        for number in (2, 3)
    ]
    best = [max(filter(None, scores)) for scores in lab.searches.values()]
    assert sorted(bars[0]) == pytest.approx(sorted(best))
    assert bars[1] == [TRIAL_SECONDS * len(scores) for scores in lab.searches.values()]


def test_the_table_of_searches_is_sorted_by_the_best_score_and_has_no_trials(page, lab, expect):
    page.goto(lab.searches_view_url.replace("compareRunsMode=CHART", "compareRunsMode=TABLE"))
    expect(page.get_by_text("2 matching runs")).to_be_visible()
    expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(2)
    best = {name: max(filter(None, scores)) for name, scores in lab.searches.items()}
    names = [text.splitlines()[-1] for text in column(page, "attributes.`Run Name`")]
    assert names == sorted(best, key=best.get, reverse=True)
    scores = map(float, column(page, "metrics.`best_objective`"))
    assert list(scores) == pytest.approx([best[name] for name in names], abs=0.001)
    strategies = dict(zip(names, column(page, "params.`strategy`"), strict=True))
    assert strategies["digits-random"] == "RandomOracle"
