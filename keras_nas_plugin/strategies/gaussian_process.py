"""Gaussian-process regression over embedded configurations: fit and posterior."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from keras_nas_plugin.strategies.kernels import matern52, matern52_slope, squared_distances

# Prior standard deviation of the columns' common log weight: see `log_weight_prior`.
_SHARED_SD = 2.0 * math.sqrt(3.0)
# Prior standard deviation of a column's log weight around the common one. A few trials say
# little about single columns; many outweigh the prior.
_OWN_SD = 0.5
# Prior of the log noise variance for scores with variance 1, as in Optuna and BoTorch.
_LOG_NOISE, _LOG_NOISE_SD = -4.0, 1.0
# Bounds of the logarithms during the fit, and the jitter that keeps matrices invertible.
_SHARED_BOUNDS, _OWN_BOUNDS, _NOISE_BOUNDS = (-12.0, 6.0), (-6.0, 6.0), (-10.0, 1.0)
_JITTER = 1e-8
_ITERATIONS = 20
# Decimals of the fitted logarithms: differences in the last bits between two machines'
# libraries must not lead to different proposals.
_DIGITS = 2
# Prior of the log variances of the linear part, for all features together: a quarter of the
# kernel's variance.
_LOG_LINEAR, _LOG_LINEAR_SD = math.log(0.25), 2.0
_LINEAR_BOUNDS = (-12.0, 4.0)


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters that maximise the marginal likelihood.

    Attributes:
        weights: Inverse squared length scale of each column, shape ``[columns]``.
        noise: Variance of the noise of a score; the variance of the signal is 1.
        linear: Variance of the slope of each feature, which is the feature's influence, shape
            ``[features]``.
    """

    weights: np.ndarray
    noise: float
    linear: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))


def log_weight_prior(columns: int) -> float:
    """Prior mean of the log weights: length scales grow with the root of the dimension d.

    Source: Hvarfner, Hellsten & Nardi 2024, "Vanilla Bayesian Optimization Performs
    Great in High Dimensions", equation 9: the log length scale is normal with mean
    sqrt(2) + log(d) / 2 and deviation sqrt(3); a weight is the inverse squared length scale.

    >>> round(log_weight_prior(1), 3)
    -2.828
    """
    return -2.0 * (math.sqrt(2.0) + 0.5 * math.log(max(columns, 1)))


def negative_log_posterior(
    theta: np.ndarray,
    distances: np.ndarray,
    scores: np.ndarray,
    features: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """The objective of the fit, up to a constant, and its gradient.

    Source: Rasmussen & Williams 2006, equations 5.8 and 5.9, with normal priors on the
    common log weight, on each column's deviation from it, on the log noise, and on the log
    variance of each feature's slope (section 2.7: a linear model is a kernel).

    Args:
        theta: Shape ``[1 + d + 1 + p]``: common log weight, deviations, log noise, log
            variances of slopes.
        distances: Squared distances within each column, shape ``[d, n * n]``.
        scores: Shape ``[n]``.
        features: Shape ``[n, p]``; None for a model without a linear part.

    Returns:
        The value, and its gradient in the shape of ``theta``; a huge value with a zero
        gradient where the matrix is not positive definite.
    """
    from scipy import linalg

    count, columns = len(scores), len(distances)
    features = np.zeros((count, 0)) if features is None else features
    own, log_noise, slopes = np.split(theta[1:], [columns, columns + 1])
    weights, noise = np.exp(theta[0] + own), math.exp(log_noise[0])
    squared = (weights @ distances).reshape(count, count)
    covariance = matern52(squared) + (noise + _JITTER) * np.eye(count)
    covariance += (features * np.exp(slopes)) @ features.T
    try:
        lower = linalg.cholesky(covariance, lower=True, check_finite=False)
    except linalg.LinAlgError:
        return 1e10, np.zeros_like(theta)
    inverse = linalg.cho_solve((lower, True), np.eye(count), check_finite=False)
    alpha = inverse @ scores
    priors = np.concatenate(
        [
            [(theta[0] - log_weight_prior(columns)) / _SHARED_SD],
            own / _OWN_SD,
            (log_noise - _LOG_NOISE) / _LOG_NOISE_SD,
            (slopes - _log_linear_prior(features.shape[1])) / _LOG_LINEAR_SD,
        ]
    )
    value = 0.5 * float(scores @ alpha) + float(np.log(np.diag(lower)).sum())
    value += 0.5 * float(priors @ priors)
    outer = 0.5 * (np.outer(alpha, alpha) - inverse)
    by_weight = -(distances @ (outer * matern52_slope(squared)).ravel()) * weights
    by_slope = -((outer @ features) * features).sum(axis=0) * np.exp(slopes)
    by_noise = -float(np.trace(outer)) * noise
    gradient = np.concatenate([[by_weight.sum()], by_weight, [by_noise], by_slope])
    scales = np.concatenate(
        [
            [_SHARED_SD],
            np.full(columns, _OWN_SD),
            [_LOG_NOISE_SD],
            np.full(len(slopes), _LOG_LINEAR_SD),
        ]
    )
    return value, gradient + priors / scales


def _log_linear_prior(features: int) -> float:
    return _LOG_LINEAR - math.log(max(features, 1))


def fit(
    points: np.ndarray,
    columns: np.ndarray,
    scores: np.ndarray,
    features: np.ndarray | None = None,
) -> Hyperparameters:
    """The most probable hyperparameters; a pure function, because the starting point is fixed.

    Args:
        points: Shape ``[n, width]``, see `embed`.
        columns: Column of each coordinate, shape ``[width]``.
        scores: Shape ``[n]``, of about unit variance.
        features: Of about unit variance, shape ``[n, p]``; None for no linear part.
    """
    from scipy import optimize

    count = int(columns.max()) + 1
    slopes = 0 if features is None else features.shape[1]
    parts = [points[:, columns == at] for at in range(count)]
    distances = np.stack([squared_distances(part, part).ravel() for part in parts])
    start = np.concatenate(
        [
            [log_weight_prior(count)],
            np.zeros(count),
            [_LOG_NOISE],
            np.full(slopes, _log_linear_prior(slopes)),
        ]
    )
    best = optimize.minimize(
        negative_log_posterior,
        start,
        args=(distances, scores, features),
        jac=True,
        method="L-BFGS-B",
        bounds=[
            _SHARED_BOUNDS,
            *[_OWN_BOUNDS] * count,
            _NOISE_BOUNDS,
            *[_LINEAR_BOUNDS] * slopes,
        ],
        options={"maxiter": _ITERATIONS},
    ).x
    own, log_noise, log_linear = np.split(best[1:], [count, count + 1])
    weights = np.exp(np.round(best[0] + own, _DIGITS))
    noise = math.exp(round(float(log_noise[0]), _DIGITS))
    return Hyperparameters(weights, noise, np.exp(np.round(log_linear, _DIGITS)))


class GaussianProcess:
    """The posterior of a function, given scores at some points.

    The prior has mean 0 and variance 1, plus the variance of the linear part. Pending points,
    which have no score yet, count with the mean that is predicted for them: this leaves all means
    unchanged and reduces the deviation around these points, so that parallel workers spread out.

    Source: Rasmussen & Williams 2006, algorithm 2.1; Desautels, Krause & Burdick 2014,
    "Parallelizing Exploration-Exploitation Tradeoffs", section 3.2 (hallucination).

    Args:
        points: Shape ``[n, width]``, n >= 1.
        scores: Shape ``[n]``; or ``[n, outputs]`` for several functions at once.
        columns: Column of each coordinate, shape ``[width]``.
        hyperparameters: Weights of the columns, the noise, and the variances of slopes.
        pending: Points without a score yet, shape ``[m, width]``.
        features: Features of the points, shape ``[n, p]``, if the hyperparameters have a
            linear part.
        pending_features: Features of the pending points, shape ``[m, p]``, likewise.
    """

    def __init__(
        self,
        points: np.ndarray,
        scores: np.ndarray,
        columns: np.ndarray,
        hyperparameters: Hyperparameters,
        pending: np.ndarray | None = None,
        features: np.ndarray | None = None,
        pending_features: np.ndarray | None = None,
    ) -> None:
        self._scale = np.sqrt(hyperparameters.weights)[columns]
        self._slopes = np.sqrt(hyperparameters.linear)
        self._noise = hyperparameters.noise + _JITTER
        self._points, self._features = self._scaled(points, features)
        self._lower = self._factor(self._points, self._features)
        self._alpha = self._solve(scores)
        if pending is not None and len(pending):
            hallucinated = self.mean(pending, pending_features)
            self._append(*self._scaled(pending, pending_features))
            self._alpha = self._solve(np.concatenate([scores, hallucinated]))

    def _scaled(
        self, points: np.ndarray, features: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if features is None:
            features = np.zeros((len(points), 0))
        return points * self._scale, features * self._slopes

    def _factor(
        self, points: np.ndarray, features: np.ndarray, explained: np.ndarray | None = None
    ) -> np.ndarray:
        """Lower Cholesky factor of the covariance of scores, less the ``explained`` part."""
        from scipy import linalg

        covariance = matern52(squared_distances(points, points))
        covariance[np.diag_indices_from(covariance)] = 1.0 + self._noise
        covariance += features @ features.T
        if explained is not None:
            covariance -= explained
        return linalg.cholesky(covariance, lower=True, check_finite=False)

    def _append(self, points: np.ndarray, features: np.ndarray) -> None:
        """Add scaled points to the model: new rows of the factor (Golub & Van Loan, 4.2.9)."""
        from scipy import linalg

        cross = self._cross(points, features)
        rows = linalg.solve_triangular(self._lower, cross.T, lower=True, check_finite=False).T
        corner = self._factor(points, features, rows @ rows.T)
        above = np.zeros((len(self._lower), len(points)))
        self._lower = np.block([[self._lower, above], [rows, corner]])
        self._points = np.concatenate([self._points, points])
        self._features = np.concatenate([self._features, features])

    def _cross(self, points: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Covariance of the function at scaled points with that at the points of the model."""
        return matern52(squared_distances(points, self._points)) + features @ self._features.T

    def _solve(self, scores: np.ndarray) -> np.ndarray:
        from scipy import linalg

        return linalg.cho_solve((self._lower, True), scores, check_finite=False)

    def mean(self, points: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
        """The mean of `predict`, at a fraction of its cost."""
        return self._cross(*self._scaled(points, features)) @ self._alpha

    def predict(
        self, points: np.ndarray, features: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the function, without the noise of a score.

        Args:
            points: Shape ``[m, width]``.
            features: Shape ``[m, p]``; see the class.

        Returns:
            Two arrays of shape ``[m]``; for several functions, the means are ``[m, outputs]``.
        """
        from scipy import linalg

        points, features = self._scaled(points, features)
        cross = self._cross(points, features)
        solved = linalg.solve_triangular(self._lower, cross.T, lower=True, check_finite=False)
        before = 1.0 + (features**2).sum(axis=1)
        variance = np.maximum(before - (solved**2).sum(axis=0), 1e-12)
        return cross @ self._alpha, np.sqrt(variance)
