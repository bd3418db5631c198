import math

import numpy as np
import pytest

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.evaluation.constraints import (
    Constraint,
    broken_by,
    is_feasible,
    total_violation,
    violations,
)


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
        # Relative to the absolute value of the bound; a bound of 0 counts as 1.
        ({"max": -2.0}, -1.0, 0.5),
        ({"min": -2.0}, -3.0, 0.5),
        ({"max": 0.0}, 0.25, 0.25),
        ({"max": 0}, -5, 0.0),
        ({"max": 1.0}, math.inf, math.inf),
        ({"max": 1.0}, -math.inf, 0.0),
        ({"min": 1.0}, math.nan, math.inf),
        ({"max": 1.0}, math.nan, math.inf),
        ({"max": 1.0}, None, math.inf),
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
def test_bounds_that_are_not_finite_numbers_are_rejected(bounds):
    with pytest.raises(SearchSpaceError, match="constraint on 'size' must be a finite number"):
        Constraint("size", **bounds)


def test_contradictory_bounds_are_rejected():
    with pytest.raises(SearchSpaceError, match=r"must be at most `max`; got max=1\.0, min=2\.0"):
        Constraint("size", min=2.0, max=1.0)


def test_bounds_may_be_numpy_numbers():
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


def test_an_unreported_metric_violates_its_constraint_infinitely():
    constraints = [Constraint("size", max=100), Constraint("accuracy", min=0.5)]
    assert violations(constraints, {"size": 50}) == {"accuracy": math.inf}
    assert not is_feasible(constraints, {"size": 50})
    assert total_violation(constraints, {"size": 150}) == math.inf
    assert is_feasible(constraints, {"size": 50, "accuracy": 0.5})
    assert is_feasible([], {})


def test_broken_by_ignores_constraints_on_unreported_metrics():
    constraints = [Constraint("size", max=100), Constraint("accuracy", min=0.5)]
    assert broken_by(constraints, {"size": 150}) == {"size": 0.5}
    assert broken_by(constraints, {}) == {}
    assert broken_by(constraints, {"accuracy": math.nan}) == {"accuracy": math.inf}


def test_violations_of_two_constraints_on_one_metric_add_up():
    constraints = [Constraint("size", max=100), Constraint("size", max=50)]
    assert violations(constraints, {"size": 150}) == {"size": 0.5 + 2.0}
