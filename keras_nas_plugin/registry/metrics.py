"""Metrics that compare two models: a score for each row, or one score for all rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import cast, get_args

import numpy as np
import numpy.typing as npt

from keras_nas_plugin.registry.gates.base import Direction, MetricName, PromotionError

#: Maps labels and predictions to one number per row, or to one number for all rows.
Scorer = Callable[[np.ndarray, np.ndarray], npt.ArrayLike]

# Keras clips probabilities to this before it takes their logarithm.
_EPSILON = 1e-7
# Rounding error of a softmax in half precision.
_SUM_TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Metric:
    """A named score.

    Attributes:
        name: Display name.
        direction: Whether larger (``"max"``) or smaller (``"min"``) is better.
        score: Maps ``(y, predictions)`` to one number per row, whose mean is the metric, or to
            one number for all rows.
    """

    name: str
    direction: Direction
    score: Scorer

    def scores(self, y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Score predictions.

        Args:
            y: Labels or targets, shape ``[rows, ...]``.
            predictions: Predictions, shape ``[rows, ...]``.

        Returns:
            One number per row, shape ``[rows]``, or one number for all rows, shape ``[]``.

        Raises:
            PromotionError: The function returned something else.
        """
        scores = np.asarray(self.score(y, predictions))
        numeric = scores.dtype.kind in "biuf"
        if not numeric or scores.shape not in ((), (len(y),)):
            raise PromotionError(
                f"the metric {self.name!r} must return a number, or one for each of the "
                f"{len(y)} rows; got an array of shape {scores.shape} and type {scores.dtype}"
            )
        return scores.astype(float)

    def value(self, y: np.ndarray, predictions: np.ndarray) -> float:
        """The metric over all rows."""
        return float(np.mean(self.scores(y, predictions)))

    @property
    def sign(self) -> float:
        """1 if larger is better, otherwise -1."""
        return 1.0 if self.direction == "max" else -1.0


def resolve_metric(metric: str | Scorer, direction: str | None = None) -> Metric:
    """The metric for a name or a function.

    Args:
        metric: ``"accuracy"``, ``"loss"`` (cross-entropy), ``"mae"``, ``"mse"``, or a function
            of ``(y, predictions)``.
        direction: ``"max"`` or ``"min"``; required for a function. A named metric has its own.

    Raises:
        PromotionError: The name is unknown, or the direction is missing or contradicts the name.
    """
    check_direction(direction)
    if callable(metric):
        if direction is None:
            raise PromotionError(
                "`direction` must be 'max' or 'min' if `metric` is a function; got None"
            )
        name = getattr(metric, "__name__", type(metric).__name__)
        return Metric(name, cast(Direction, direction), metric)
    if metric not in METRICS:
        raise PromotionError(
            f"`metric` must be one of {', '.join(METRICS)}, or a function of (y, predictions); "
            f"got {metric!r}"
        )
    named = METRICS[metric]
    if direction not in (None, named.direction):
        raise PromotionError(
            f"`direction` must be {named.direction!r} for {metric!r}; got {direction!r}"
        )
    return named


def check_direction(direction: str | None) -> None:
    """Check that a direction is ``"max"``, ``"min"`` or None.

    Raises:
        PromotionError: It is something else.
    """
    if direction not in (None, *get_args(Direction)):
        raise PromotionError(f"`direction` must be 'max', 'min' or None; got {direction!r}")


def default_metric(y: np.ndarray, predictions: np.ndarray) -> MetricName:
    """The metric to compare if none was chosen: accuracy for classes, else squared error.

    >>> default_metric(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    'accuracy'
    >>> default_metric(np.array([0.5, 1.25]), np.array([[0.9], [0.2]]))
    'mse'
    """
    return "accuracy" if is_classification(y, predictions) else "mse"


def is_classification(y: np.ndarray, predictions: np.ndarray) -> bool:
    """Whether labels are classes, and predictions hold one probability for each class.

    >>> is_classification(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    True
    >>> is_classification(np.array([0.5, 1.25]), np.array([[0.9], [0.2]]))
    False
    """
    if _one_hot(y, predictions):
        return True
    if y.dtype.kind not in "biuf" or not np.array_equal(y, np.round(y)) or np.any(y < 0):
        return False
    if _classes(predictions) > 1:
        fits = _drop_last(y).shape == predictions.shape[:-1]
        return bool(fits and y.max() < predictions.shape[-1])
    return bool(y.size == predictions.size and y.max() <= 1)


def labels_of(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Class numbers from labels that are class numbers or one-hot.

    Raises:
        PromotionError: The labels are neither.
    """
    if not is_classification(y, predictions):
        raise PromotionError(
            "`y` must hold class numbers from 0, or one-hot rows, that fit the predictions of "
            f"shape {predictions.shape}; got an array of shape {y.shape} and type {y.dtype}"
        )
    if _one_hot(y, predictions):
        return y.argmax(axis=-1)
    if _classes(predictions) > 1:
        return _drop_last(y).astype(int)
    return y.reshape(predictions.shape[: max(predictions.ndim - 1, 1)]).astype(int)


def accuracy(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """1 for each row that is classified correctly, else 0; a mean if a row has several labels.

    >>> accuracy(np.array([0, 1]), np.array([[0.9, 0.1], [0.7, 0.3]]))
    array([1., 0.])
    """
    labels = labels_of(y, predictions)
    if _classes(predictions) > 1:
        correct = predictions.argmax(axis=-1) == labels
    else:
        correct = (_binary(predictions).reshape(labels.shape) > 0.5) == labels
    correct = correct & np.isfinite(predictions).reshape(*labels.shape, -1).all(axis=-1)
    return _by_row(correct)


def loss(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Cross-entropy: minus the logarithm of the probability predicted for each label.

    >>> loss(np.array([0, 1]), np.array([[0.5, 0.5], [0.75, 0.25]])).round(4)
    array([0.6931, 1.3863])
    """
    labels = labels_of(y, predictions)
    if _classes(predictions) > 1:
        predictions = predictions.astype(float)
        sums = predictions.sum(axis=-1)
        if np.any(predictions < 0) or np.any(np.abs(sums - 1) > _SUM_TOLERANCE):
            raise PromotionError(
                "predictions must be probabilities if `metric` is 'loss'; got negative ones, or "
                f"ones that do not add up to 1 (sums from {sums.min():.4g} to {sums.max():.4g}). "
                "For logits, pass a function of (y, predictions)."
            )
        likelihood = np.take_along_axis(predictions, labels[..., None], axis=-1)[..., 0]
    else:
        positive = _binary(predictions).reshape(labels.shape)
        likelihood = np.where(labels == 1, positive, 1 - positive)
    return _by_row(-np.log(np.clip(likelihood, _EPSILON, 1 - _EPSILON)))


def mae(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Mean absolute error of each row."""
    return _by_row(np.abs(_errors(y, predictions)))


def mse(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Mean squared error of each row."""
    return _by_row(np.square(_errors(y, predictions)))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "max", accuracy),
        Metric("loss", "min", loss),
        Metric("mae", "min", mae),
        Metric("mse", "min", mse),
    )
}


def have_metric(y: np.ndarray, predictions: np.ndarray) -> bool:
    """Whether `default_metric` can be computed.

    It cannot for labels that only the loss of a model relates to its predictions, such as lists of
    boxes.
    """
    return is_classification(y, predictions) or _are_targets(y, predictions)


def _are_targets(y: np.ndarray, predictions: np.ndarray) -> bool:
    fits = y.size == predictions.size and len(y) == len(predictions)
    return y.dtype.kind in "biuf" and fits


def _errors(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    if not _are_targets(y, predictions):
        raise PromotionError(
            f"`y` must hold numbers that fit the predictions of shape {predictions.shape}; got an "
            f"array of shape {y.shape} and type {y.dtype}"
        )
    return predictions.astype(float) - y.reshape(predictions.shape).astype(float)


def _by_row(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).mean(axis=1, dtype=float)


def _classes(predictions: np.ndarray) -> int:
    return predictions.shape[-1] if predictions.ndim > 1 else 1


def _drop_last(y: np.ndarray) -> np.ndarray:
    """Labels without a last axis of length one, which Keras accepts as well."""
    return y[..., 0] if y.ndim > 1 and y.shape[-1] == 1 else y


def _one_hot(y: np.ndarray, predictions: np.ndarray) -> bool:
    if y.shape != predictions.shape or _classes(y) < 2 or y.dtype.kind not in "biuf":
        return False
    return bool(np.all((y == 0) | (y == 1)) and np.all(y.sum(axis=-1) == 1))


def _binary(predictions: np.ndarray) -> np.ndarray:
    """Predicted probabilities of class 1.

    Raises:
        PromotionError: The predictions are not probabilities.
    """
    values = predictions.astype(float)
    if np.any((values < 0) | (values > 1)):
        raise PromotionError(
            "predictions for two classes must be probabilities between 0 and 1; got values from "
            f"{values.min():.4g} to {values.max():.4g}. For logits, pass a function of "
            "(y, predictions); for numbers, 'mae' or 'mse'."
        )
    return values
