import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from keras_nas_plugin.strategies.gaussian_process import (
    GaussianProcess,
    Hyperparameters,
    fit,
    negative_log_posterior,
)
from keras_nas_plugin.strategies.kernels import squared_distances

COLUMNS = np.array([0, 0, 1, 2])
HYPERPARAMETERS = Hyperparameters(np.array([0.5, 2.0, 0.1]), 0.03)


def data(count, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.random((count, len(COLUMNS)))
    return points, np.sin(4.0 * points[:, 2]) + points[:, 0] + 0.1 * rng.normal(size=count)


def reference(points, scores, hyperparameters):
    lengths = 1.0 / np.sqrt(hyperparameters.weights[COLUMNS])
    kernel = Matern(lengths, "fixed", nu=2.5)
    model = GaussianProcessRegressor(kernel, alpha=hyperparameters.noise, optimizer=None)
    return model.fit(points, scores)


def test_the_posterior_agrees_with_scikit_learn():
    points, scores = data(25)
    queries, _ = data(40, seed=1)
    mean, deviation = GaussianProcess(points, scores, COLUMNS, HYPERPARAMETERS).predict(queries)
    expected = reference(points, scores, HYPERPARAMETERS).predict(queries, return_std=True)
    np.testing.assert_allclose(mean, expected[0], atol=1e-5)
    np.testing.assert_allclose(deviation, expected[1], atol=1e-5)


def test_pending_points_reduce_the_deviation_but_not_the_mean():
    points, scores = data(20)
    pending, queries = data(4, seed=2)[0], data(40, seed=1)[0]
    without_pending = GaussianProcess(points, scores, COLUMNS, HYPERPARAMETERS).predict(queries)
    mean, deviation = GaussianProcess(points, scores, COLUMNS, HYPERPARAMETERS, pending).predict(
        queries
    )
    np.testing.assert_allclose(mean, without_pending[0], atol=1e-6)
    model = GaussianProcess(points, scores, COLUMNS, HYPERPARAMETERS, pending)
    np.testing.assert_array_equal(model.mean(queries), mean)
    assert (deviation < without_pending[1]).all()
    # A deviation does not depend on scores: it is that of a model fitted to these points too.
    with_pending = np.concatenate([points, pending])
    expected = reference(with_pending, np.zeros(len(with_pending)), HYPERPARAMETERS).predict(
        queries, True
    )[1]
    np.testing.assert_allclose(deviation, expected, atol=1e-5)


def test_repeated_points_are_numerically_stable():
    points, scores = data(6)
    model = GaussianProcess(
        np.concatenate([points] * 3),
        np.concatenate([scores] * 3),
        COLUMNS,
        Hyperparameters(HYPERPARAMETERS.weights, 1e-5),
        points,
    )
    mean, deviation = model.predict(points)
    np.testing.assert_allclose(mean, scores, atol=1e-2)
    assert (deviation < 0.01).all()


@given(st.integers(0, 2**32 - 1))
def test_the_gradient_agrees_with_finite_differences(seed):
    rng = np.random.default_rng(seed)
    points, scores = data(12, seed)
    parts = [points[:, at == COLUMNS] for at in range(3)]
    distances = np.stack([squared_distances(part, part).ravel() for part in parts])
    theta = np.concatenate([[-3.0], np.zeros(3), [-3.0]]) + rng.normal(size=5)
    _, gradient = negative_log_posterior(theta, distances, scores)
    numeric = optimize.approx_fprime(
        theta, lambda point: negative_log_posterior(point, distances, scores)[0], 1e-6
    )
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-3)


def test_the_log_posterior_differs_from_the_closed_form_by_a_constant():
    points, scores = data(15)
    parts = [points[:, at == COLUMNS] for at in range(3)]
    distances = np.stack([squared_distances(part, part).ravel() for part in parts])
    gaps = []
    for shared in (-4.0, -1.0, 1.0):
        theta = np.array([shared, 0.2, -0.1, 0.0, -3.0])
        hyperparameters = Hyperparameters(np.exp(shared + theta[1:4]), np.exp(-3.0) + 1e-8)
        likelihood = reference(points, scores, hyperparameters).log_marginal_likelihood_value_
        mean, deviation = -2.0 * (np.sqrt(2.0) + 0.5 * np.log(3.0)), 2.0 * np.sqrt(3.0)
        prior = -0.5 * ((shared - mean) / deviation) ** 2
        gaps.append(negative_log_posterior(theta, distances, scores)[0] + likelihood + prior)
    assert np.ptp(gaps) < 1e-4


def test_fit_identifies_relevant_columns_and_the_noise_level():
    """Of 120 points: one column dominates, one hardly matters, two are irrelevant."""
    rng = np.random.default_rng(0)
    points = rng.random((120, 4))
    signal = np.sin(6.0 * points[:, 0]) + 0.2 * points[:, 1]
    signal = (signal - signal.mean()) / signal.std()
    columns = np.arange(4)
    clean = fit(points, columns, signal)
    noisy = fit(points, columns, signal + rng.normal(size=120))
    assert clean.weights[0] > 2.0 * clean.weights[2:].max()
    assert clean.noise < 0.02 < 0.3 < noisy.noise


def test_fit_is_deterministic():
    points, scores = data(30)
    first, second = (fit(points, COLUMNS, scores) for _ in range(2))
    assert first.weights.tolist() == second.weights.tolist()
    assert first.noise == second.noise


@pytest.mark.parametrize("scores", [np.zeros(5), np.array([1.0]), np.array([1.0, -1.0])])
def test_fit_handles_few_or_equal_scores(scores):
    points = np.random.default_rng(0).random((len(scores), 4))
    hyperparameters = fit(points, COLUMNS, scores)
    mean, deviation = GaussianProcess(points, scores, COLUMNS, hyperparameters).predict(points)
    assert np.isfinite(mean).all() and (deviation > 0.0).all()
