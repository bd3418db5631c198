import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from keras_nas_plugin.strategies.ranking import half_rank_scores, normal_scores

# Differences far above rounding, so that warped scores are equal only where scores are.
_SCORES = st.lists(st.integers(-1000, 1000).map(float) | st.just(-np.inf), min_size=1, max_size=30)


@given(_SCORES)
def test_warped_scores_are_finite_and_keep_the_order(scores):
    scores = np.array(scores)
    for warped in (normal_scores(scores), half_rank_scores(scores)):
        assert np.isfinite(warped).all()
        for score, warped_score in zip(scores, warped, strict=True):
            assert ((scores < score) == (warped < warped_score)).all()
            assert ((scores == score) == (warped == warped_score)).all()


def test_normal_scores_are_quantiles_of_the_ranks():
    scores = np.random.default_rng(0).permutation(9) * 3.0
    expected = stats.norm.ppf((scores / 3.0 + 0.5) / 9.0)
    assert normal_scores(scores) == pytest.approx(expected)


@pytest.mark.parametrize("good", [[0.8, 0.9, 0.95], [0.8, 0.9]])
def test_half_rank_scores_ignore_the_size_of_scores_below_the_median(good):
    """For an odd and an even number of scores."""
    mild = half_rank_scores(np.array([0.1, 0.2, *good]))
    wild = half_rank_scores(np.array([-np.inf, -1e30, *good]))
    assert mild.tolist() == wild.tolist()
    assert mild[2] == 0.0 < mild[3]


def test_half_rank_scores_are_linear_above_the_median():
    warped = half_rank_scores(np.array([0.1, 0.2, 0.8, 0.9, 1.2]))
    assert warped[2] == 0.0
    assert warped[4] / warped[3] == pytest.approx(0.4 / 0.1)
    assert np.mean(warped[2:] ** 2) == pytest.approx(1.0)


def test_half_rank_scores_ignore_scale_and_offset():
    scores = np.random.default_rng(0).normal(size=20)
    assert half_rank_scores(1e6 * scores - 7.0) == pytest.approx(half_rank_scores(scores))


def test_half_rank_scores_are_normal_scores_when_most_trials_failed():
    scores = np.array([-np.inf, -np.inf, -np.inf, 1.0, 1e9])
    assert half_rank_scores(scores).tolist() == normal_scores(scores).tolist()


def test_half_rank_scores_of_no_or_equal_scores_are_zero():
    assert half_rank_scores(np.zeros(0)).shape == (0,)
    for score in (3.0, -np.inf):
        assert half_rank_scores(np.full(4, score)).tolist() == [0.0] * 4
