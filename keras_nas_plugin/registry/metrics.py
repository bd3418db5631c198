"""What predictions are worth: one score per row where there is one, else one for all rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from keras_nas_plugin.registry.gates.base import PromotionError

Direction = Literal["max", "min"]
Scorer = Callable[[np.ndarray, np.ndarray], Any]

# Keras clips probabilities here before it takes their logarithm.
_EPSILON = 1e-7
# Rounding of a softmax in half precision.
_SUM_TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Metric:
    """A named score.

    Attributes:
        name: What people call it.
        direction: Whether larger (``"max"``) or smaller (``"min"``) is better.
        score: From ``(y, predictions)`` to one number per row, whose mean is the metric, or to
            one number for all rows.
    """

    name: str
    direction: Direction
    score: Scorer

    def scores(self, y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Numbers by row, shape ``[rows]``, or one number, shape ``[]``.

        Raises:
            PromotionError: The function returns neither.
        """
        found = np.asarray(self.score(y, predictions))
        numeric = found.dtype.kind in "biuf"
        if not numeric or found.shape not in ((), (len(y),)):
            raise PromotionError(
                f"the metric {self.name!r} needs to return a number, or one for each of the "
                f"{len(y)} rows; received shape {found.shape} of {found.dtype}"
            )
        return found.astype(float)

    def value(self, y: np.ndarray, predictions: np.ndarray) -> float:
        """The score of all rows."""
        return float(np.mean(self.scores(y, predictions)))

    @property
    def sign(self) -> float:
        """1 where larger is better, else -1."""
        return 1.0 if self.direction == "max" else -1.0


def resolve_metric(
    metric: str | Scorer | None,
    direction: str | None,
    y: np.ndarray | None,
    predictions: np.ndarray | None,
) -> Metric:
    """The metric that a user means.

    Args:
        metric: ``"accuracy"``, ``"loss"`` (cross-entropy), ``"mae"``, ``"mse"``, a function of
            ``(y, predictions)``, or None for accuracy where labels are classes, else ``"mse"``.
        direction: ``"max"`` or ``"min"``; a function needs it, a name knows its own.
        y: Labels; looked at only where ``metric`` is None.
        predictions: What the challenger predicts; likewise.

    Raises:
        PromotionError: A name that is not known, or a function without a direction.
    """
    if direction not in (None, "max", "min"):
        raise PromotionError(f"`direction` needs 'max' or 'min'; received {direction!r}")
    if callable(metric):
        if direction is None:
            raise PromotionError(
                "`direction` needs 'max' or 'min' where `metric` is a function; received None"
            )
        return Metric(getattr(metric, "__name__", type(metric).__name__), direction, metric)
    if metric is None:
        metric = "accuracy" if is_classification(y, predictions) else "mse"
    if metric not in METRICS:
        raise PromotionError(
            f"`metric` needs one of {', '.join(METRICS)}, or a function of (y, predictions); "
            f"received {metric!r}"
        )
    found = METRICS[metric]
    if direction not in (None, found.direction):
        raise PromotionError(
            f"`direction` needs {found.direction!r} for {metric!r}; received {direction!r}"
        )
    return found


def is_classification(y: np.ndarray, predictions: np.ndarray) -> bool:
    """Whether labels are classes, and predictions one probability for each of them.

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
        PromotionError: They are neither.
    """
    if not is_classification(y, predictions):
        raise PromotionError(
            "`y` needs class numbers from 0, or one-hot rows, that fit the predictions of shape "
            f"{predictions.shape}; received shape {y.shape} of {y.dtype}"
        )
    if _one_hot(y, predictions):
        return y.argmax(axis=-1)
    if _classes(predictions) > 1:
        return _drop_last(y).astype(int)
    return y.reshape(predictions.shape[: max(predictions.ndim - 1, 1)]).astype(int)


def accuracy(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Whether each row is classified correctly; a share where a row has several labels.

    >>> accuracy(np.array([0, 1]), np.array([[0.9, 0.1], [0.7, 0.3]]))
    array([1., 0.])
    """
    labels = labels_of(y, predictions)
    if _classes(predictions) > 1:
        right = predictions.argmax(axis=-1) == labels
    else:
        right = (_binary(predictions).reshape(labels.shape) > 0.5) == labels
    right = right & np.isfinite(predictions).reshape(*labels.shape, -1).all(axis=-1)
    return _by_row(right)


def loss(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Cross-entropy of the probability that each label was given.

    >>> loss(np.array([0, 1]), np.array([[0.5, 0.5], [0.75, 0.25]])).round(4)
    array([0.6931, 1.3863])
    """
    labels = labels_of(y, predictions)
    if _classes(predictions) > 1:
        predictions = predictions.astype(float)
        sums = predictions.sum(axis=-1)
        if np.any(predictions < 0) or np.any(np.abs(sums - 1) > _SUM_TOLERANCE):
            raise PromotionError(
                "`metric` 'loss' needs probabilities; received predictions that are negative or "
                f"do not add up to 1 (from {sums.min():.4g} to {sums.max():.4g}). Logits need a "
                "function of (y, predictions)."
            )
        given = np.take_along_axis(predictions, labels[..., None], axis=-1)[..., 0]
    else:
        one = _binary(predictions).reshape(labels.shape)
        given = np.where(labels == 1, one, 1 - one)
    return _by_row(-np.log(np.clip(given, _EPSILON, 1 - _EPSILON)))


def mae(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Mean absolute error of each row."""
    return _by_row(np.abs(_errors(y, predictions)))


def mse(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Mean squared error of each row."""
    return _by_row(np.square(_errors(y, predictions)))


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "max", accuracy),
        Metric("loss", "min", loss),
        Metric("mae", "min", mae),
        Metric("mse", "min", mse),
    )
}


def _errors(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    if y.dtype.kind not in "biuf" or y.size != predictions.size or len(y) != len(predictions):
        raise PromotionError(
            f"`y` needs numbers that fit the predictions of shape {predictions.shape}; received "
            f"shape {y.shape} of {y.dtype}"
        )
    return predictions.astype(float) - y.reshape(predictions.shape).astype(float)


def _by_row(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).mean(axis=1, dtype=float)


def _classes(predictions: np.ndarray) -> int:
    return predictions.shape[-1] if predictions.ndim > 1 else 1


def _drop_last(y: np.ndarray) -> np.ndarray:
    """Labels without a last axis of length one, which Keras accepts too."""
    return y[..., 0] if y.ndim > 1 and y.shape[-1] == 1 else y


def _one_hot(y: np.ndarray, predictions: np.ndarray) -> bool:
    if y.shape != predictions.shape or _classes(y) < 2 or y.dtype.kind not in "biuf":
        return False
    return bool(np.all((y == 0) | (y == 1)) and np.all(y.sum(axis=-1) == 1))


def _binary(predictions: np.ndarray) -> np.ndarray:
    """Probabilities of the class 1.

    Raises:
        PromotionError: They are none.
    """
    values = predictions.astype(float)
    if np.any((values < 0) | (values > 1)):
        raise PromotionError(
            "`metric` needs probabilities between 0 and 1 for two classes; received predictions "
            f"from {values.min():.4g} to {values.max():.4g}. Logits need a function of "
            "(y, predictions), numbers need 'mae' or 'mse'."
        )
    return values
