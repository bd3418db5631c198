import numpy as np
import pytest

from keras_nas_plugin.proxies import ProxyError, rank_aggregate


def test_the_sum_of_log_ranks():
    found = rank_aggregate({"a": [0.1, 0.5, 0.3], "b": [-np.inf, 7.0, 7.0]})
    # Ranks of a: 1, 3, 2; of b: 1, 2.5, 2.5.
    expected = np.log([1 / 3, 1, 2 / 3]) + np.log([1 / 3, 2.5 / 3, 2.5 / 3])
    np.testing.assert_allclose(found, expected)


def test_a_network_that_is_bad_by_one_proxy_is_not_saved_by_another():
    """The sums of the ranks are all 4."""
    found = rank_aggregate({"a": [1, 2, 3], "b": [3, 2, 1]})
    assert found[0] == pytest.approx(found[2])
    assert found[0] < found[1]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "columns of one length"),
        ({"a": [1.0], "b": [1.0, 2.0]}, "columns of one length"),
        ({"a": [[1.0]]}, "columns of one length"),
        ({"a": [1.0, np.nan]}, "'a' has NaN"),
    ],
)
def test_errors(scores, message):
    with pytest.raises(ProxyError, match=message):
        rank_aggregate(scores)
