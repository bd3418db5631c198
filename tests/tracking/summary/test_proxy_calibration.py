import pytest
from scipy import stats

from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FAILED, FINISHED, TrialRecord
from keras_nas_plugin.tracking.summary.proxy_calibration import Calibration

SCORES = (0.5, 0.9, 0.1, 0.7, 0.3)
GOOD = (2.0, 5.0, 1.0, 3.0, 4.0)


def info(direction="max"):
    return SearchInfo(
        search_id="s",
        name="s",
        objective="accuracy",
        direction=direction,
        strategy="GradientProxyOracle",
        max_trials=10,
    )


def record(number, score, **proxies):
    status = FAILED if score is None else FINISHED
    return TrialRecord(
        trial_id=str(number), values={}, status=status, score=score, proxies=proxies
    )


def filled(direction="max"):
    calibration = Calibration(info(direction))
    ranks = [
        calibration.add(record(n, score, good=good, predicted_rank=1.0, flat=3.0))
        for n, (score, good) in enumerate(zip(SCORES, GOOD, strict=True))
    ]
    return calibration, ranks


def test_observed_ranks_and_correlations_per_proxy():
    calibration, ranks = filled()
    assert ranks == [1.0, 1.0, 3.0, 2.0, 4.0]
    # A constant proxy has no correlation, and a predicted rank is no proxy.
    assert calibration.correlations() == {
        "good": pytest.approx(stats.spearmanr(GOOD, SCORES).statistic)
    }


def test_small_scores_rank_first_when_the_objective_is_minimised():
    calibration, ranks = filled("min")
    assert ranks == [1.0, 2.0, 1.0, 3.0, 2.0]
    assert calibration.correlations()["good"] == pytest.approx(
        -stats.spearmanr(GOOD, SCORES).statistic
    )


def test_few_trials_or_trials_without_scores_or_proxies_have_no_correlation():
    calibration = Calibration(info())
    assert calibration.add(record(0, None, good=1.0)) is None
    assert calibration.add(record(1, 0.5)) is None
    for number, (score, good) in enumerate(zip(SCORES[:3], GOOD, strict=False)):
        calibration.add(record(f"a{number}", score, good=good))
    assert calibration.correlations() == {}


def test_a_repeated_trial_counts_once_and_a_missing_proxy_ranks_last():
    calibration, _ = filled()
    assert calibration.add(record(2, 0.95, good=9.0)) == 1.0
    assert calibration.add(record("new", 0.05)) is None
    assert calibration.add(record("late", 0.01, other=1.0)) == 6.0
    scores = [0.5, 0.9, 0.7, 0.3, 0.95, 0.01]
    good = [2.0, 5.0, 3.0, 4.0, 9.0, float("-inf")]
    correlations = calibration.correlations()
    assert correlations["good"] == pytest.approx(stats.spearmanr(good, scores).statistic)
    assert correlations["other"] < 0
