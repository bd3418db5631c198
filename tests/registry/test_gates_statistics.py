"""The paired tests: exact values, levels under the null hypothesis, and power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from keras_nas_plugin.registry import paired

OPTIONS = {"alpha": 0.05, "resamples": 499}


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 5), (9, 1), (30, 12), (0, 7)])
def test_mcnemar_is_the_exact_binomial_test(wins, losses):
    exact = sum(math.comb(wins + losses, k) for k in range(wins, wins + losses + 1))
    outcome = paired.mcnemar(wins, losses, rows=100)
    assert outcome.p_value == pytest.approx(exact / 2 ** (wins + losses))
    assert outcome.improvement == pytest.approx((wins - losses) / 100)
    if wins + losses:
        same = stats.binomtest(wins, wins + losses, alternative="greater").pvalue
        assert outcome.p_value == pytest.approx(same)


@pytest.mark.parametrize("margin", [-0.1, -0.02, 0.0, 0.03])
@pytest.mark.parametrize(("wins", "losses"), [(12, 30), (30, 12), (1, 0), (0, 3), (7, 7)])
def test_the_score_test_estimates_the_nuisance_parameter_by_maximum_likelihood(
    wins, losses, margin
):
    rows, same = 200, 200 - wins - losses

    def negative_log_likelihood(lost):
        shares = np.array([lost + margin, lost, 1 - 2 * lost - margin])
        counts = np.array([wins, losses, same])
        observed = counts > 0  # 0 log 0 is 0
        return -np.sum(counts[observed] * np.log(np.clip(shares[observed], 1e-300, None)))

    bounds = (max(0.0, -margin), (1 - margin) / 2)
    lost = optimize.minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded").x
    variance = rows * (2 * lost + margin - margin**2)
    expected = (wins - losses - rows * margin) / math.sqrt(variance)
    outcome = paired.score_test(wins, losses, rows, margin)
    # The minimiser stops about 1e-5 from the minimum, which matters when that is at zero.
    assert outcome.numbers["statistic"] == pytest.approx(expected, rel=2e-3, abs=1e-9)
    assert outcome.p_value == pytest.approx(stats.norm.sf(outcome.numbers["statistic"]))


def test_without_a_margin_the_score_test_is_mcnemars_without_correction():
    outcome = paired.score_test(30, 12, 500, 0.0)
    assert outcome.numbers["statistic"] == pytest.approx((30 - 12) / math.sqrt(30 + 12))
    assert paired.score_test(0, 0, 500, 0.0).p_value == 0.5


def test_few_rows_without_a_difference_do_not_prove_non_inferiority():
    # Even if one row in a hundred were lost, ten rows would show no loss in nine of ten cases.
    assert paired.score_test(0, 0, 10, -0.01).p_value > 0.1
    assert paired.score_test(0, 0, 1000, -0.01).p_value < 0.01


def test_the_bootstrap_agrees_with_students_test_on_normal_differences():
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.1, 0.2):
        sample = rng.normal(shift, 1, 200)
        options = {"alpha": 0.05, "resamples": 9999, "rng": rng}
        outcome = paired.bootstrap_mean(sample, 0.0, **options)
        student = stats.ttest_1samp(sample, 0.0, alternative="greater")
        # Three standard errors of a share of 9999 draws, and 0.005 for the bootstrap itself.
        slack = 3 * math.sqrt(student.pvalue * (1 - student.pvalue) / 9999) + 0.005
        assert outcome.p_value == pytest.approx(student.pvalue, abs=slack)
        bound = student.confidence_interval(0.95).low
        assert outcome.numbers["lower_bound"] == pytest.approx(bound, abs=0.01)


def test_the_sign_flip_test_flips_differences_about_the_margin():
    # Of the 8 ways to sign 1, 2 and 3, one adds up to 6 and two to 4 or more.
    for sample, expected in (([1.0, 2.0, 3.0], 1 / 8), ([-1.0, 2.0, 3.0], 2 / 8)):
        options = {"alpha": 0.05, "resamples": 9999, "rng": np.random.default_rng(0)}
        outcome = paired.bootstrap_mean(np.array(sample) + 0.5, 0.5, **options)
        # Four standard errors of a share of 9999 draws.
        slack = 4 * math.sqrt(expected * (1 - expected) / 9999)
        assert outcome.numbers["p_sign_flip"] == pytest.approx(expected, abs=slack)
        assert outcome.p_value == max(
            outcome.numbers["p_sign_flip"], outcome.numbers["p_bootstrap"]
        )


def test_a_shift_of_differences_and_margin_does_not_change_the_p_value():
    sample = np.random.default_rng(1).normal(0.1, 1, 300)
    plain, shifted = (
        paired.bootstrap_mean(
            sample + shift, shift, rng=np.random.default_rng(2), alpha=0.05, resamples=499
        )
        for shift in (0.0, 0.75)
    )
    assert shifted.p_value == plain.p_value
    assert shifted.numbers["lower_bound"] == pytest.approx(plain.numbers["lower_bound"] + 0.75)


def test_the_size_of_blocks_does_not_change_the_result(monkeypatch):
    sample = np.random.default_rng(1).normal(0.1, 1, 50)
    single = paired.bootstrap_mean(sample, 0.0, rng=np.random.default_rng(2), **OPTIONS)
    monkeypatch.setattr(paired, "_BLOCK", 50 * 7)
    blocks = paired.bootstrap_mean(sample, 0.0, rng=np.random.default_rng(2), **OPTIONS)
    assert single == blocks


@pytest.mark.parametrize(
    ("sample", "margin", "significant"),
    [
        ([0.0] * 20, 0.0, False),  # the same model twice is not better than itself
        ([0.1] * 20, 0.1, False),
        ([0.1] * 20, 0.0, True),
        ([0.0] * 20, -0.1, True),
        ([1.0], 0.0, False),  # a single row proves nothing
        ([1.0, 0.5], 0.0, False),
        ([np.nan, 1.0], 0.0, False),
    ],
)
def test_significance_of_samples_with_equal_differences_or_few_rows(sample, margin, significant):
    outcome = paired.bootstrap_mean(
        np.array(sample), margin, rng=np.random.default_rng(0), **OPTIONS
    )
    assert (outcome.p_value <= 0.05) is significant


def test_the_bootstrap_of_a_statistic_agrees_with_that_of_the_mean():
    sample = np.random.default_rng(3).normal(0.15, 1, 400)
    rng = np.random.default_rng(4)
    options = {"alpha": 0.05, "resamples": 4999, "rng": rng}
    outcome = paired.bootstrap_statistic(lambda rows: sample[rows].mean(), 400, 0.0, **options)
    expected = paired.bootstrap_mean(sample, 0.0, **options)
    assert outcome.improvement == pytest.approx(expected.improvement)
    assert outcome.p_value == pytest.approx(expected.p_value, abs=0.01)
    assert outcome.numbers["lower_bound"] == pytest.approx(
        expected.numbers["lower_bound"], abs=0.01
    )
    assert outcome.numbers["undefined"] == 0


def test_resamples_with_an_undefined_statistic_are_not_counted():
    def improvement(rows):
        return float("nan") if rows[0] % 2 else 0.1

    outcome = paired.bootstrap_statistic(
        improvement, 10, 0.0, rng=np.random.default_rng(0), **OPTIONS
    )
    defined = OPTIONS["resamples"] - outcome.numbers["undefined"]
    assert 0 < defined < OPTIONS["resamples"]
    assert outcome.p_value == pytest.approx(1 / (defined + 1))


def test_the_randomization_test_exchanges_models_row_by_row():
    """Against the exact p-value, over all 2**8 ways to exchange rows."""
    differences = np.array([3.0, 1.0, 2.0, -1.0, 0.5, 2.5, -0.5, 1.5])

    def exchanged(mask):
        return float(np.where(mask, -differences, differences).mean())

    options = {"alpha": 0.05, "resamples": 20_000, "rng": np.random.default_rng(0)}
    outcome = paired.bootstrap_statistic(
        lambda rows: differences[rows].mean(), 8, 0.0, exchanged=exchanged, **options
    )
    masks = np.array(np.meshgrid(*[[0, 1]] * 8)).reshape(8, -1).T.astype(bool)
    exact = np.mean([exchanged(mask) >= differences.mean() for mask in masks])
    # Five standard deviations of a share of 20,000.
    tolerance = 5 * np.sqrt(exact / 20_000)
    assert outcome.numbers["p_randomization"] == pytest.approx(exact, abs=tolerance)
    assert outcome.p_value == max(
        outcome.numbers["p_randomization"], outcome.numbers["p_bootstrap"]
    )
    assert outcome.numbers["p_bootstrap"] < outcome.numbers["p_randomization"]


def test_there_is_no_randomization_test_with_a_margin():
    def never(mask):
        raise AssertionError

    outcome = paired.bootstrap_statistic(
        lambda rows: 0.1, 10, -0.05, exchanged=never, rng=np.random.default_rng(0), **OPTIONS
    )
    assert "p_randomization" not in outcome.numbers and outcome.p_value <= 0.05


def test_an_exchange_with_an_undefined_score_counts_against_the_challenger():
    outcome = paired.bootstrap_statistic(
        lambda rows: 0.1,
        10,
        0.0,
        exchanged=lambda mask: float("nan"),
        rng=np.random.default_rng(0),
        **OPTIONS,
    )
    assert outcome.p_value == 1.0
