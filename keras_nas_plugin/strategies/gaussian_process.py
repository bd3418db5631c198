"""Gaussian-process regression over embedded configurations: fit and posterior."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from keras_nas_plugin.strategies.kernels import matern52, matern52_slope, squared_distances

# Prior of the columns' common log weight: see `log_weight_prior`.
_SHARED_SD = 2.0 * math.sqrt(3.0)
# How far a column's log weight strays from the common one: a standard deviation. Few trials
# teach little about single columns; many overcome it.
_OWN_SD = 0.5
# Prior of the log noise variance, where scores have variance 1 (Optuna and BoTorch agree).
_LOG_NOISE, _LOG_NOISE_SD = -4.0, 1.0
# Bounds of the logarithms during the fit, and what keeps a matrix invertible.
_SHARED_BOUNDS, _OWN_BOUNDS, _NOISE_BOUNDS = (-12.0, 6.0), (-6.0, 6.0), (-10.0, 1.0)
_JITTER = 1e-8
_ITERATIONS = 20
# Logarithms are rounded to this: differences in the last bits of two machines' libraries
# must not become different proposals.
_DIGITS = 2


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """What the marginal likelihood decides.

    Attributes:
        weights: Inverse squared length of each column, shape ``[columns]``.
        noise: Variance of a score's noise; the signal's is 1.
    """

    weights: np.ndarray
    noise: float


def log_weight_prior(columns: int) -> float:
    """Mean of the log weights before any score: lengths grow with the square root of d.

    Source: Hvarfner, Hellsten & Nardi 2024, "Vanilla Bayesian Optimization Performs
    Great in High Dimensions", equation 9: the log length is normal with mean
    sqrt(2) + log(d) / 2 and deviation sqrt(3); a weight is the inverse squared length.

    >>> round(log_weight_prior(1), 3)
    -2.828
    """
    return -2.0 * (math.sqrt(2.0) + 0.5 * math.log(max(columns, 1)))


def negative_log_posterior(
    theta: np.ndarray, distances: np.ndarray, scores: np.ndarray
) -> tuple[float, np.ndarray]:
    """What the fit minimises, up to a constant, and its gradient.

    Source: Rasmussen & Williams 2006, equations 5.8 and 5.9, with normal priors on the
    common log weight, on what each column adds to it, and on the log noise.

    Args:
        theta: Shape ``[1 + d + 1]``: common log weight, additions, log noise.
        distances: Squared distances within each column, shape ``[d, n * n]``.
        scores: Shape ``[n]``.

    Returns:
        The value, and its gradient of the shape of ``theta``; a huge value without
        slope where the matrix is not positive definite.
    """
    from scipy import linalg

    count, columns = len(scores), len(distances)
    weights, noise = np.exp(theta[0] + theta[1:-1]), math.exp(theta[-1])
    squared = (weights @ distances).reshape(count, count)
    covariance = matern52(squared) + (noise + _JITTER) * np.eye(count)
    try:
        lower = linalg.cholesky(covariance, lower=True, check_finite=False)
    except linalg.LinAlgError:
        return 1e10, np.zeros_like(theta)
    inverse = linalg.cho_solve((lower, True), np.eye(count), check_finite=False)
    alpha = inverse @ scores
    shared = (theta[0] - log_weight_prior(columns)) / _SHARED_SD
    own = theta[1:-1] / _OWN_SD
    spread = (theta[-1] - _LOG_NOISE) / _LOG_NOISE_SD
    value = 0.5 * float(scores @ alpha) + float(np.log(np.diag(lower)).sum())
    value += 0.5 * float(shared**2 + own @ own + spread**2)
    outer = 0.5 * (np.outer(alpha, alpha) - inverse)
    by_weight = -(distances @ (outer * matern52_slope(squared)).ravel()) * weights
    gradient = np.empty_like(theta)
    gradient[0] = by_weight.sum() + shared / _SHARED_SD
    gradient[1:-1] = by_weight + own / _OWN_SD
    gradient[-1] = -float(np.trace(outer)) * noise + spread / _LOG_NOISE_SD
    return value, gradient


def fit(points: np.ndarray, columns: np.ndarray, scores: np.ndarray) -> Hyperparameters:
    """The most probable hyperparameters, from a fixed start: a pure function.

    Args:
        points: Shape ``[n, width]``, as `embed` makes them.
        columns: Column of each coordinate, shape ``[width]``.
        scores: Shape ``[n]``, of about unit variance.
    """
    from scipy import optimize

    count = int(columns.max()) + 1
    parts = [points[:, columns == at] for at in range(count)]
    distances = np.stack([squared_distances(part, part).ravel() for part in parts])
    start = np.concatenate([[log_weight_prior(count)], np.zeros(count), [_LOG_NOISE]])
    best = optimize.minimize(
        negative_log_posterior,
        start,
        args=(distances, scores),
        jac=True,
        method="L-BFGS-B",
        bounds=[_SHARED_BOUNDS, *[_OWN_BOUNDS] * count, _NOISE_BOUNDS],
        options={"maxiter": _ITERATIONS},
    ).x
    weights = np.exp(np.round(best[0] + best[1:-1], _DIGITS))
    return Hyperparameters(weights, math.exp(round(float(best[-1]), _DIGITS)))


class GaussianProcess:
    """The posterior of a function, given scores at some points.

    Its mean is 0 and its variance 1 before any score. Points whose score is still to
    come count at the mean that the others predict there: that leaves every mean as it
    is and shrinks the deviation around them, so that parallel workers spread out.

    Source: Rasmussen & Williams 2006, algorithm 2.1; Desautels, Krause & Burdick 2014,
    "Parallelizing Exploration-Exploitation Tradeoffs", section 3.2 (hallucination).

    Args:
        points: Shape ``[n, width]``, n >= 1.
        scores: Shape ``[n]``.
        columns: Column of each coordinate, shape ``[width]``.
        hyperparameters: Weights of the columns, and the noise.
        pending: Points without a score yet, shape ``[m, width]``.
    """

    def __init__(
        self,
        points: np.ndarray,
        scores: np.ndarray,
        columns: np.ndarray,
        hyperparameters: Hyperparameters,
        pending: np.ndarray | None = None,
    ) -> None:
        self._scale = np.sqrt(hyperparameters.weights)[columns]
        self._noise = hyperparameters.noise + _JITTER
        self._points = points * self._scale
        self._factorise()
        self._alpha = self._solve(scores)
        if pending is not None and len(pending):
            hallucinated, _ = self.predict(pending)
            self._points = np.concatenate([self._points, pending * self._scale])
            self._factorise()
            self._alpha = self._solve(np.concatenate([scores, hallucinated]))

    def _factorise(self) -> None:
        from scipy import linalg

        covariance = matern52(squared_distances(self._points, self._points))
        covariance[np.diag_indices_from(covariance)] = 1.0 + self._noise
        self._lower = linalg.cholesky(covariance, lower=True, check_finite=False)

    def _solve(self, scores: np.ndarray) -> np.ndarray:
        from scipy import linalg

        return linalg.cho_solve((self._lower, True), scores, check_finite=False)

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the function, without a score's noise.

        Args:
            points: Shape ``[m, width]``.

        Returns:
            Two arrays of shape ``[m]``.
        """
        from scipy import linalg

        cross = matern52(squared_distances(points * self._scale, self._points))
        solved = linalg.solve_triangular(self._lower, cross.T, lower=True, check_finite=False)
        variance = np.maximum(1.0 - (solved**2).sum(axis=0), 1e-12)
        return cross @ self._alpha, np.sqrt(variance)
