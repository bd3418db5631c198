import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.gaussian_process.kernels import Matern

from keras_nas_plugin.space import Categorical, Condition, Decision, Real, SearchSpec
from keras_nas_plugin.space.encoding import encoding_of
from keras_nas_plugin.strategies.kernels import (
    embed,
    matern52,
    matern52_slope,
    squared_distances,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "space"))
from generators import specs

_SEEDS = st.integers(0, 2**32 - 1)

CONDITIONAL = SearchSpec(
    (
        Decision("kind", Categorical(("a", "b", "c"))),
        Decision("rate", Real(0.0, 1.0)),
        Decision("share", Real(0.0, 1.0), (Condition("kind", ("b", "c")),)),
        Decision("mode", Categorical((1, 2)), (Condition("kind", ("b", "c")),)),
    )
)


def distances(spec, configurations):
    points, columns = embed(encoding_of(spec), encoding_of(spec).encode_many(configurations))
    names = [column.name for column in encoding_of(spec).columns]
    return {
        name: squared_distances(points[:, columns == at], points[:, columns == at])
        for at, name in enumerate(names)
    }


@given(specs(endless=True), _SEEDS)
def test_the_kernel_is_symmetric_and_positive_semidefinite(spec, seed):
    rng = np.random.default_rng(seed)
    encoding = encoding_of(spec)
    points, columns = embed(encoding, encoding.sample(12, rng))
    scale = np.exp(rng.normal(size=len(encoding.columns)))[columns]
    covariance = matern52(squared_distances(points * scale, points * scale))
    np.testing.assert_allclose(covariance, covariance.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.diag(covariance), 1.0, rtol=0, atol=1e-9)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


@given(specs(), _SEEDS)
def test_only_equal_configurations_have_distance_zero(spec, seed):
    rng = np.random.default_rng(seed)
    encoding = encoding_of(spec)
    configurations = [spec.sample(rng) for _ in range(8)]
    points, _ = embed(encoding, encoding.encode_many(configurations))
    squared = squared_distances(points, points)
    for first, row in zip(configurations, squared, strict=True):
        for second, distance in zip(configurations, row, strict=True):
            # Values of an ordered domain of up to nine are 1/9 apart: 1 - cos(pi / 18) > 0.01.
            assert (spec.key(first) == spec.key(second)) == (distance < 1e-9)
            assert distance < 1e-9 or distance > 0.01


def test_distances_are_computed_per_column():
    configurations = [
        {"kind": "a", "rate": 0.0},
        {"kind": "b", "rate": 1.0, "share": 0.0, "mode": 1},
        {"kind": "c", "rate": 0.5, "share": 1.0, "mode": 2},
        {"kind": "a", "rate": 0.0},
    ]
    measured = distances(CONDITIONAL, configurations)
    half = 1.0 - np.cos(np.pi / 4.0)
    expected = {
        "kind": [[0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0]],
        "rate": [[0, 1, half, 0], [1, 0, half, 1], [half, half, 0, half], [0, 1, half, 0]],
        # An inactive decision is equally far from every value, and at distance 0 from itself.
        "share": [[0, 0.5, 0.5, 0], [0.5, 0, 1, 0.5], [0.5, 1, 0, 0.5], [0, 0.5, 0.5, 0]],
    }
    expected["mode"] = expected["share"]
    for name, matrix in expected.items():
        np.testing.assert_allclose(measured[name], matrix, rtol=0, atol=1e-12, err_msg=name)


def test_an_unknown_label_differs_from_every_label_of_the_domain():
    configurations = [
        {"kind": "new", "rate": 0.5},
        *({"kind": kind, "rate": 0.5} for kind in "abc"),
    ]
    assert (distances(CONDITIONAL, configurations)["kind"][0, 1:] >= 0.5 - 1e-12).all()


def test_the_matern_kernel_agrees_with_scikit_learn():
    points = np.random.default_rng(0).normal(size=(6, 3))
    expected = Matern(nu=2.5)(points)
    np.testing.assert_allclose(matern52(squared_distances(points, points)), expected, atol=1e-9)


def test_the_slope_agrees_with_finite_differences():
    squared, step = np.linspace(0.01, 9.0, 40), 1e-6
    differences = (matern52(squared + step) - matern52(squared - step)) / (2 * step)
    assert matern52_slope(squared) == pytest.approx(differences, abs=1e-8)
