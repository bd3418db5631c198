"""The figures of a report, checked through matplotlib's objects."""

import copy

import numpy as np
import pytest

from keras_nas_plugin.reports import figures, report_data
from keras_nas_plugin.reports.svg import drawing, to_svg
from tests.reports.conftest import evolve, record_of, save, search_info


@pytest.fixture(autouse=True)
def _settings():
    with drawing():
        yield


@pytest.fixture(scope="module")
def data(evolved):
    return report_data(evolved)


def repeat_trials(data, times):
    """The data of a search with its trials repeated ``times`` times."""
    longer = copy.deepcopy(data)
    trials = longer["trials"]
    for key in ("score", "rank", "best_so_far", "trial_id"):
        trials[key] = trials[key] * times
    trials["values"] = {name: column * times for name, column in trials["values"].items()}
    longer["front"]["points"] = data["front"]["points"] * times
    return longer


def test_progress_shows_the_best_score_the_reference_and_the_trials(data):
    (axes,) = figures.draw_progress(data).axes
    steps = {label: line for line in axes.lines for label in [line.get_label()]}
    assert steps["best so far"].get_ydata()[-1] == data["best"]["score"]
    np.testing.assert_allclose(
        steps["random search, expected"].get_ydata(), data["random_reference"]["expected"]
    )
    (dots,) = [item for item in axes.collections if item.get_label() == "trial"]
    assert 50 <= len(dots.get_offsets()) <= data["counts"]["finished"]


def test_figures_of_many_trials_show_a_subset(data):
    longer = repeat_trials(data, 30)
    (axes,) = figures.draw_progress(longer).axes
    (dots,) = [item for item in axes.collections if item.get_label() == "trial"]
    assert len(dots.get_offsets()) <= figures.DOTS
    (axes,) = figures.draw_parallel(longer).axes
    assert sum(len(lines.get_segments()) for lines in axes.collections) <= figures.LINES


def test_a_diverged_trial_does_not_flatten_the_figure(tmp_path):
    search = search_info(tmp_path / "p", direction="min")
    trials = [*evolve(search, 30, failing=0.0), record_of(30, {"width": 8}, 1e9)]
    report = report_data(save(search, trials))
    (axes,) = figures.draw_progress(report).axes
    assert axes.get_ylim()[1] < 10
    (axes,) = figures.draw_front(report).axes
    assert axes.get_ylim()[1] < 10


def test_bars_of_importance_are_as_long_as_the_shares(data):
    (axes,) = figures.draw_importance(data).axes
    report = data["importance"]
    shares = [item["share"] for item in report["decisions"] + report["pairs"][:3]]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([100 * s for s in shares])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == report["decisions"][0]["name"]


def test_parallel_coordinates_pass_through_the_values(data):
    (axes,) = figures.draw_parallel(data).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    winner = axes.collections[-1].get_segments()[0]
    assert names[-1] == "rank of score" and tuple(winner[-1]) == (1.0, len(names) - 1)
    depth = winner[names.index("depth")][0]
    assert depth == pytest.approx((data["best"]["values"]["depth"] - 0.5) / 6)


def test_a_long_lineage_shows_its_first_last_and_largest_steps(data):
    steps = [
        {"trial_id": str(n), "score": n % 7 + n / 100, "gain": 0.0, "from": "x", "changes": []}
        for n in range(60)
    ]
    steps[33]["gain"] = -5.0
    (axes,) = figures.draw_lineage({**data, "lineage": {"steps": steps}}).axes
    names = [label.get_text().split()[0] for label in axes.get_yticklabels()]
    assert len(names) == figures.STEPS
    assert (names[0], names[-1]) == ("0", "59") and "33" in names


def test_calibration_has_a_panel_per_proxy(data):
    panels = figures.draw_calibration(data).axes
    titles = [axes.get_title().split()[0] for axes in panels]
    assert titles == [*(item["name"] for item in data["calibration"]["proxies"]), "rank"]


def test_figures_are_reproducible_and_have_no_clip_paths(data):
    first, second = (to_svg(figures.draw_front(data), "f", "title", "text") for _ in range(2))
    assert first == second
    assert "clip-path" not in first and "url(" not in first and "<style" not in first
