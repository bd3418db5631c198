import numpy as np
import pytest
from scipy import stats

from keras_nas_plugin.reports.calibration import calibration
from keras_nas_plugin.reports.fronts import front
from keras_nas_plugin.tracking.summary.proxy_calibration import Calibration
from tests.reports.conftest import failed, record_of, search_info

SEARCH = search_info("x")
TWO_OBJECTIVES = {"objectives": "val_accuracy (max), flops (min)"}


def trial(number, score, **changes):
    return record_of(number, {"width": 8}, score, **changes)


def test_the_front_of_one_objective_and_the_parameters():
    cases = [(0.9, {"parameters": 10.0}), (0.5, {"parameters": 5.0})]
    cases += [(0.8, {"parameters": 10.0}), (0.99, {})]
    trials = [trial(n, score, costs=costs) for n, (score, costs) in enumerate(cases)]
    result = front(SEARCH, trials)
    assert result["axes"] == [
        {"name": "val_accuracy", "direction": "max"},
        {"name": "parameters", "direction": "min"},
    ]
    assert [(item["trial_id"], item["front"]) for item in result["points"]] == [
        ("0000", True),
        ("0001", True),
        ("0002", False),
    ]


def test_the_front_of_several_objectives():
    search = search_info("x", objective="multi_objective", settings=TWO_OBJECTIVES)
    metrics = [(0.9, 10.0), (0.9, 8.0), (0.1, 1.0), (0.05, 2.0)]
    trials = [
        trial(n, a, metrics={"val_accuracy": a}, costs={"flops": b})
        for n, (a, b) in enumerate(metrics)
    ]
    result = front(search, trials)
    assert [item["front"] for item in result["points"]] == [False, True, True, False]
    assert [item["direction"] for item in result["axes"]] == ["max", "min"]
    without_objectives = front(search, [trial(1, 0.5, metrics={}, costs={})])
    assert "No finished trial has all objectives" in without_objectives["note"]


def test_there_is_no_front_without_costs():
    assert "unknown" in front(SEARCH, [trial(1, 0.5, costs={})])["note"]


def scored_trials(count=30, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=count)
    good = scores + 0.3 * rng.normal(size=count)
    return [
        trial(n, float(s), proxies={"good": float(g), "flat": 1.0, "predicted_rank": 1.0 + n % 7})
        for n, (s, g) in enumerate(zip(scores, good, strict=True))
    ]


def test_correlations_and_ranks_equal_those_that_the_search_logged():
    trials = scored_trials()
    trials[3] = trial(3, trials[3].score, proxies={"flat": 1.0})
    board = Calibration(SEARCH)
    ranks = [board.add(item) for item in trials]
    result = calibration(SEARCH, [*trials, failed(99, {"width": 8}, "x")])
    (item,) = result["proxies"]
    assert item["name"] == "good"
    assert item["spearman"] == pytest.approx(board.correlations()["good"])
    assert item["low"] < item["spearman"] < item["high"]
    assert item["predicted"][3] == 30.0
    scores = [record.score for record in trials]
    assert result["observed"] == pytest.approx(stats.rankdata(-np.array(scores)))
    del ranks[3]  # that trial has no predicted rank
    assert [entry["observed"] for entry in result["places"]] == ranks


def test_the_interval_agrees_with_scipys_bootstrap():
    trials = scored_trials(200, seed=1)
    (item,) = calibration(SEARCH, trials)["proxies"]
    values = np.array([record.proxies["good"] for record in trials])
    scores = np.array([record.score for record in trials])
    interval = stats.bootstrap(
        (values, scores),
        lambda x, y: stats.spearmanr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=300,
        method="percentile",
        random_state=0,
    ).confidence_interval
    # 300 resamples place a 2.5 % point within about a quarter of the interval's width.
    width = interval.high - interval.low
    assert item["low"] == pytest.approx(interval.low, abs=0.25 * width)
    assert item["high"] == pytest.approx(interval.high, abs=0.25 * width)


def test_correlations_of_a_minimised_score():
    search = search_info("x", direction="min")
    (item,) = calibration(search, scored_trials())["proxies"]
    assert item["spearman"] < -0.5


def test_there_is_no_correlation_of_few_trials_or_equal_scores():
    assert calibration(SEARCH, scored_trials(3))["proxies"] == []
    assert "there are 3." in calibration(SEARCH, scored_trials(3))["note"]
    equal = [trial(n, 0.5, proxies={"good": float(n)}) for n in range(6)]
    assert "are equal" in calibration(SEARCH, equal)["note"]
