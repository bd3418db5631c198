import numpy as np
import pytest

from keras_nas_plugin.proxies import ProxyError, rank_aggregate


def test_rank_aggregate_is_the_sum_of_log_ranks():
    aggregate = rank_aggregate({"a": [0.1, 0.5, 0.3], "b": [-np.inf, 7.0, 7.0]})
    # Ranks of a: 1, 3, 2; of b: 1, 2.5, 2.5.
    expected = np.log([1 / 3, 1, 2 / 3]) + np.log([1 / 3, 2.5 / 3, 2.5 / 3])
    np.testing.assert_allclose(aggregate, expected)


def test_a_low_rank_is_not_compensated_by_a_high_one():
    """The sums of the ranks are all 4."""
    aggregate = rank_aggregate({"a": [1, 2, 3], "b": [3, 2, 1]})
    assert aggregate[0] == pytest.approx(aggregate[2])
    assert aggregate[0] < aggregate[1]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "columns of the same length"),
        ({"a": [1.0], "b": [1.0, 2.0]}, "columns of the same length"),
        ({"a": [[1.0]]}, "columns of the same length"),
        ({"a": [1.0, np.nan]}, "'a' has NaN"),
    ],
)
def test_invalid_scores_are_rejected(scores, message):
    with pytest.raises(ProxyError, match=message):
        rank_aggregate(scores)
