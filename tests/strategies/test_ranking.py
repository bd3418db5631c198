import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from keras_nas_plugin.strategies.ranking import half_rank_scores, normal_scores

# Distances far above rounding, so that a warped score is equal just where a score is.
_SCORES = st.lists(st.integers(-1000, 1000).map(float) | st.just(-np.inf), min_size=1, max_size=30)


@given(_SCORES)
def test_both_keep_the_order_and_are_finite(scores):
    scores = np.array(scores)
    for warped in (normal_scores(scores), half_rank_scores(scores)):
        assert np.isfinite(warped).all()
        for one, its in zip(scores, warped, strict=True):
            assert ((scores < one) == (warped < its)).all()
            assert ((scores == one) == (warped == its)).all()


def test_normal_scores_are_quantiles_of_the_ranks():
    scores = np.random.default_rng(0).permutation(9) * 3.0
    expected = stats.norm.ppf((scores / 3.0 + 0.5) / 9.0)
    assert normal_scores(scores) == pytest.approx(expected)


@pytest.mark.parametrize("good", [[0.8, 0.9, 0.95], [0.8, 0.9]])
def test_how_bad_the_bad_ones_are_does_not_matter(good):
    """Of an odd number and of an even one."""
    mild = half_rank_scores(np.array([0.1, 0.2, *good]))
    wild = half_rank_scores(np.array([-np.inf, -1e30, *good]))
    assert mild.tolist() == wild.tolist()
    assert mild[2] == 0.0 < mild[3]


def test_how_good_the_good_ones_are_does():
    warped = half_rank_scores(np.array([0.1, 0.2, 0.8, 0.9, 1.2]))
    assert warped[2] == 0.0
    assert warped[4] / warped[3] == pytest.approx(0.4 / 0.1)
    assert np.mean(warped[2:] ** 2) == pytest.approx(1.0)


def test_units_and_offset_of_the_scores_do_not_matter():
    scores = np.random.default_rng(0).normal(size=20)
    assert half_rank_scores(1e6 * scores - 7.0) == pytest.approx(half_rank_scores(scores))


def test_where_most_failed_the_others_count_by_rank():
    scores = np.array([-np.inf, -np.inf, -np.inf, 1.0, 1e9])
    assert half_rank_scores(scores).tolist() == normal_scores(scores).tolist()


def test_nothing_and_equal_scores():
    assert half_rank_scores(np.zeros(0)).shape == (0,)
    for score in (3.0, -np.inf):
        assert half_rank_scores(np.full(4, score)).tolist() == [0.0] * 4
