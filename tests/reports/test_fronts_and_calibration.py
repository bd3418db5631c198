import numpy as np
import pytest
from scipy import stats

from keras_nas_plugin.reports.calibration import calibration
from keras_nas_plugin.reports.fronts import front
from keras_nas_plugin.tracking.calibration import Calibration
from tests.reports.conftest import failed, record_of, search_info

SEARCH = search_info("x")
TWO = {"objectives": "val_accuracy (max), flops (min)"}


def trial(number, score, **changes):
    return record_of(number, {"width": 8}, score, **changes)


def test_score_and_parameters_of_a_search_for_one_thing():
    known = [(0.9, {"parameters": 10.0}), (0.5, {"parameters": 5.0})]
    known += [(0.8, {"parameters": 10.0}), (0.99, {})]
    trials = [trial(n, score, costs=costs) for n, (score, costs) in enumerate(known)]
    found = front(SEARCH, trials)
    assert found["axes"] == [
        {"name": "val_accuracy", "direction": "max"},
        {"name": "parameters", "direction": "min"},
    ]
    assert [(one["trial_id"], one["front"]) for one in found["points"]] == [
        ("0000", True),
        ("0001", True),
        ("0002", False),
    ]


def test_several_objectives():
    search = search_info("x", objective="multi_objective", settings=TWO)
    metrics = [(0.9, 10.0), (0.9, 8.0), (0.1, 1.0), (0.05, 2.0)]
    trials = [
        trial(n, a, metrics={"val_accuracy": a}, costs={"flops": b})
        for n, (a, b) in enumerate(metrics)
    ]
    found = front(search, trials)
    assert [one["front"] for one in found["points"]] == [False, True, True, False]
    assert [one["direction"] for one in found["axes"]] == ["max", "min"]
    lacking = front(search, [trial(1, 0.5, metrics={}, costs={})])
    assert "No finished trial has all objectives" in lacking["note"]


def test_without_costs():
    assert "not known" in front(SEARCH, [trial(1, 0.5, costs={})])["note"]


def judged(count=30, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=count)
    good = scores + 0.3 * rng.normal(size=count)
    return [
        trial(n, float(s), proxies={"good": float(g), "flat": 1.0, "predicted_rank": 1.0 + n % 7})
        for n, (s, g) in enumerate(zip(scores, good, strict=True))
    ]


def test_correlations_are_those_that_the_search_logged():
    trials = judged()
    trials[3] = trial(3, trials[3].score, proxies={"flat": 1.0})
    board = Calibration(SEARCH)
    places = [board.add(one) for one in trials]
    found = calibration(SEARCH, [*trials, failed(99, {"width": 8}, "x")])
    (one,) = found["proxies"]
    assert one["name"] == "good"
    assert one["spearman"] == pytest.approx(board.correlations()["good"])
    assert one["low"] < one["spearman"] < one["high"]
    assert one["predicted"][3] == 30.0
    scores = [record.score for record in trials]
    assert found["observed"] == pytest.approx(stats.rankdata(-np.array(scores)))
    del places[3]  # it had no predicted rank
    assert [place["observed"] for place in found["places"]] == places


def test_the_interval_is_that_of_a_bootstrap():
    trials = judged(200, seed=1)
    (one,) = calibration(SEARCH, trials)["proxies"]
    values = np.array([record.proxies["good"] for record in trials])
    scores = np.array([record.score for record in trials])
    drawn = stats.bootstrap(
        (values, scores),
        lambda x, y: stats.spearmanr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=300,
        method="percentile",
        random_state=0,
    ).confidence_interval
    # 300 resamples place a 2.5 % point within about a quarter of the interval's width.
    width = drawn.high - drawn.low
    assert one["low"] == pytest.approx(drawn.low, abs=0.25 * width)
    assert one["high"] == pytest.approx(drawn.high, abs=0.25 * width)


def test_smaller_scores_may_be_the_better_ones():
    search = search_info("x", direction="min")
    (one,) = calibration(search, judged())["proxies"]
    assert one["spearman"] < -0.5


def test_too_few_or_equal_ones_have_no_correlation():
    assert calibration(SEARCH, judged(3))["proxies"] == []
    assert "3 finished trials" in calibration(SEARCH, judged(3))["note"]
    equal = [trial(n, 0.5, proxies={"good": float(n)}) for n in range(6)]
    assert "all equal" in calibration(SEARCH, equal)["note"]
