"""What the pictures show, read off matplotlib's own objects."""

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


def many(data, times):
    """The same search with each of its trials several times over."""
    longer = copy.deepcopy(data)
    trials = longer["trials"]
    for key in ("score", "rank", "best_so_far", "trial_id"):
        trials[key] = trials[key] * times
    trials["values"] = {name: column * times for name, column in trials["values"].items()}
    longer["front"]["points"] = data["front"]["points"] * times
    return longer


def test_the_best_so_far_and_the_trials_are_drawn(data):
    (axes,) = figures.draw_progress(data).axes
    steps = {label: line for line in axes.lines for label in [line.get_label()]}
    assert steps["best so far"].get_ydata()[-1] == data["best"]["score"]
    np.testing.assert_allclose(
        steps["random search, expected"].get_ydata(), data["random_reference"]["expected"]
    )
    (dots,) = [one for one in axes.collections if one.get_label() == "a trial"]
    assert 50 <= len(dots.get_offsets()) <= data["counts"]["finished"]


def test_drawings_are_thinned_out(data):
    longer = many(data, 30)
    (axes,) = figures.draw_progress(longer).axes
    (dots,) = [one for one in axes.collections if one.get_label() == "a trial"]
    assert len(dots.get_offsets()) <= figures.DOTS
    (axes,) = figures.draw_parallel(longer).axes
    assert sum(len(some.get_segments()) for some in axes.collections) <= figures.LINES


def test_one_that_diverged_does_not_flatten_the_picture(tmp_path):
    search = search_info(tmp_path / "p", direction="min")
    trials = [*evolve(search, 30, failing=0.0), record_of(30, {"width": 8}, 1e9)]
    found = report_data(save(search, trials))
    (axes,) = figures.draw_progress(found).axes
    assert axes.get_ylim()[1] < 10
    (axes,) = figures.draw_front(found).axes
    assert axes.get_ylim()[1] < 10


def test_bars_are_as_long_as_the_shares(data):
    (axes,) = figures.draw_importance(data).axes
    found = data["importance"]
    shares = [one["share"] for one in found["decisions"] + found["pairs"][:3]]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([100 * s for s in shares])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == found["decisions"][0]["name"]


def test_lines_go_through_the_values(data):
    (axes,) = figures.draw_parallel(data).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    winner = axes.collections[-1].get_segments()[0]
    assert names[-1] == "rank of score" and tuple(winner[-1]) == (1.0, len(names) - 1)
    depth = winner[names.index("depth")][0]
    assert depth == pytest.approx((data["best"]["values"]["depth"] - 0.5) / 6)


def test_a_long_lineage_keeps_its_ends_and_its_largest_steps(data):
    steps = [
        {"trial_id": str(n), "score": n % 7 + n / 100, "gain": 0.0, "from": "x", "changes": []}
        for n in range(60)
    ]
    steps[33]["gain"] = -5.0
    (axes,) = figures.draw_lineage({**data, "lineage": {"steps": steps}}).axes
    names = [label.get_text().split()[0] for label in axes.get_yticklabels()]
    assert len(names) == figures.STEPS
    assert (names[0], names[-1]) == ("0", "59") and "33" in names


def test_a_panel_per_proxy(data):
    panels = figures.draw_calibration(data).axes
    titles = [axes.get_title().split()[0] for axes in panels]
    assert titles == [*(one["name"] for one in data["calibration"]["proxies"]), "place"]


def test_a_picture_is_the_same_each_time_and_names_no_clip_path(data):
    first, second = (to_svg(figures.draw_front(data), "f", "title", "text") for _ in range(2))
    assert first == second
    assert "clip-path" not in first and "url(" not in first and "<style" not in first
