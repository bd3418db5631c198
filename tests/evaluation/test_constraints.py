import math

import numpy as np
import pytest

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.evaluation.constraints import Constraint, total_violation


@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        ({"max": 200.0}, 200.0, 0.0),
        ({"max": 200.0}, 100.0, 0.0),
        ({"max": 200.0}, 300.0, 0.5),
        ({"min": 0.8}, 0.8, 0.0),
        ({"min": 0.8}, 0.6, 0.25),
        ({"min": 0.8}, 1.0, 0.0),
        ({"min": 1.0, "max": 2.0}, 1.5, 0.0),
        ({"min": 1.0, "max": 2.0}, 0.5, 0.5),
        ({"min": 1.0, "max": 2.0}, 4.0, 1.0),
        ({"min": 3.0, "max": 3.0}, 3.0, 0.0),
        # Below zero the bound's size counts, and a bound of 0 counts as 1.
        ({"max": -2.0}, -1.0, 0.5),
        ({"min": -2.0}, -3.0, 0.5),
        ({"max": 0.0}, 0.25, 0.25),
        ({"max": 0}, -5, 0.0),
        ({"max": 1.0}, math.inf, math.inf),
        ({"max": 1.0}, -math.inf, 0.0),
        ({"min": 1.0}, math.nan, math.inf),
        ({"max": 1.0}, math.nan, math.inf),
    ],
)
def test_a_violation_is_relative_to_the_bound(bounds, value, expected):
    assert Constraint("size", **bounds).violation(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"max": math.nan},
        {"min": 0.0, "max": math.nan},
        {"max": math.inf},
        {"min": -math.inf},
        {"max": "200"},
        {"max": True},
        {"max": [1.0]},
    ],
)
def test_bounds_that_are_not_finite_numbers_are_refused(bounds):
    with pytest.raises(SearchSpaceError, match="constraint on 'size' needs .* a finite number"):
        Constraint("size", **bounds)


def test_bounds_that_cannot_both_be_kept_are_refused():
    with pytest.raises(SearchSpaceError, match=r"needs min <= max; received max=1\.0, min=2\.0"):
        Constraint("size", min=2.0, max=1.0)


def test_numpy_numbers_are_bounds():
    assert Constraint("size", max=np.float32(2.0)).violation(np.float64(3.0)) == 0.5
    assert Constraint("size", min=np.int64(2)).violation(1) == 0.5


def test_violations_add_up_over_constraints():
    constraints = [Constraint("size", max=100), Constraint("accuracy", min=0.5)]
    for metrics, expected in (
        ({"size": 100, "accuracy": 0.5}, 0.0),
        ({"size": 150, "accuracy": 0.9}, 0.5),
        ({"size": 150, "accuracy": 0.25, "loss": 9.0}, 0.5 + 0.5),
        ({"size": math.nan, "accuracy": 1.0}, math.inf),
    ):
        assert total_violation(constraints, metrics) == expected
    assert total_violation([], {}) == 0.0
