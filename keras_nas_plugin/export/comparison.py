"""How far the predictions of an exported model are from those of the Keras model."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

import numpy as np

from keras_nas_plugin.errors import ExportError
from keras_nas_plugin.export.base import Tolerance
from keras_nas_plugin.registry.metrics import (
    default_metric,
    have_metric,
    is_classification,
    resolve_metric,
)

logger = logging.getLogger("keras_nas_plugin")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Predictions of the same rows by the Keras model and by the exported one.

    Attributes:
        rows: Number of rows.
        largest_difference: Largest difference of any output: see `Tolerance`.
        mean_difference: Mean difference of the outputs.
        metric: ``"accuracy"`` or ``"mse"``; None without labels that fit the predictions.
        keras_score: The metric of the Keras model, or None.
        score: The metric of the exported model, or None.
    """

    rows: int
    largest_difference: float
    mean_difference: float
    metric: str | None = None
    keras_score: float | None = None
    score: float | None = None

    @property
    def metric_drop(self) -> float:
        """By how much the metric is worse: absolute for accuracy, relative for errors."""
        if self.score is None or self.keras_score is None:
            return 0.0
        if self.metric == "accuracy":
            return self.keras_score - self.score
        return (self.score - self.keras_score) / (self.keras_score or 1.0)

    def check(self, tolerance: Tolerance, what: str) -> None:
        """Check that the difference is allowed.

        Args:
            tolerance: The allowed difference.
            what: The exported model, for the message.

        Raises:
            ExportError: It is not.
        """
        measured = (
            ("largest difference", self.largest_difference, tolerance.largest),
            ("mean difference", self.mean_difference, tolerance.mean),
            (f"loss of {self.metric}", self.metric_drop, tolerance.metric_drop),
        )
        for name, value, limit in measured:
            if limit is not None and not value <= limit:
                raise ExportError(
                    f"the {name} between {what} and the Keras model must be at most {limit:g} on "
                    f"{self.rows:,} rows; got {value:.3g}. `--tolerance` and `--max-metric-drop` "
                    "allow more."
                )


def compare(
    expected: Mapping[str, np.ndarray],
    predicted: Mapping[str, np.ndarray],
    y: np.ndarray | None = None,
) -> Comparison:
    """Compare predictions.

    Args:
        expected: What the Keras model predicts, by the name of the output.
        predicted: What the exported model predicts.
        y: Labels or targets by row, or None. They are used if there is one output, whose
            predictions they fit; labels such as lists of boxes do not.

    Raises:
        ExportError: The outputs have other names or shapes.
    """
    if len(expected) == 1 == len(predicted):  # runtimes rename the only output
        predicted = dict(zip(expected, predicted.values(), strict=True))
    differences = []
    for name, reference in expected.items():
        values = predicted.get(name)
        if values is None or values.shape != reference.shape:
            raise ExportError(
                f"the exported model must predict {name!r} of shape {reference.shape}; got "
                f"{'no such output' if values is None else values.shape}"
            )
        if reference.dtype.kind not in "biuf":
            differences.append((values != reference).astype(float).ravel())
            continue
        scale = max(1.0, float(np.abs(reference.astype(float)).max(initial=0.0)))
        differences.append((np.abs(values.astype(float) - reference) / scale).ravel())
    joined = np.concatenate(differences)
    rows = len(next(iter(expected.values())))
    comparison = Comparison(rows, float(joined.max()), float(joined.mean()))
    if y is None or len(expected) != 1:
        return comparison
    reference, values = next(iter(expected.values())), next(iter(predicted.values()))
    if not have_metric(y, reference):
        logger.warning(
            "The labels of shape %s do not fit the predictions of shape %s: only predictions are "
            "compared, and no metric.",
            y.shape,
            reference.shape,
        )
        return comparison
    name, score = score_of(y, values)
    keras_score = score_of(y, reference)[1]
    return dataclasses.replace(comparison, metric=name, score=score, keras_score=keras_score)


def score_of(y: np.ndarray, predictions: np.ndarray) -> tuple[str, float]:
    """Name and value of the metric: accuracy for classes, else the mean squared error."""
    name = default_metric(y, predictions)
    return name, resolve_metric(name).value(y, predictions)


def has_accuracy(y: np.ndarray, predictions: np.ndarray) -> bool:
    """Whether labels are classes that the predictions tell apart."""
    return is_classification(y, predictions)
