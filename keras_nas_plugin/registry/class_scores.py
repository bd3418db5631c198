"""Recall and precision of a classifier for each class, for its model card."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.evaluation.datasets import (
    DataKind,
    count_rows,
    has_single_rows,
    kind_of,
    sample_batch,
)
from keras_nas_plugin.records.class_scores import ClassScore, ClassScores

if TYPE_CHECKING:
    import keras

#: Maximum number of rows to measure on: the first ones.
MAX_ROWS = 4_096
_BATCH = 256
_BINARY = "binary"


def measure_classes(model: keras.Model, x: object, y: object) -> ClassScores | None:
    """Measure a classifier by class.

    Args:
        model: A model with one output: a value for each class, or one for the second of two.
        x: Inputs, or a data set that holds the labels as well.
        y: Class numbers or one-hot labels; None if ``x`` holds them.

    Returns:
        The scores, with numbers for names; None unless the labels and the output are those of a
        classifier, or if the rows cannot be read without consuming the data.
    """
    labels, predictions, rows = [], [], 0
    for inputs, targets in _batches(x, y):
        outputs = model.predict_on_batch(inputs)
        pair = _classes(model, np.asarray(outputs), np.asarray(targets))
        if pair is None:
            return None
        labels.append(pair[0])
        predictions.append(pair[1])
        count = outputs.shape[-1] if outputs.shape[-1] > 1 else 2
        rows += len(targets)
        if rows >= MAX_ROWS:
            break
    if not rows:
        return None
    total = count_rows(x) if kind_of(x) is DataKind.ARRAYS else None
    return ClassScores(
        rows=rows,
        first=rows >= MAX_ROWS if total is None else rows < total,
        classes=_scores(np.concatenate(labels), np.concatenate(predictions), count),
    )


def _scores(labels: np.ndarray, predictions: np.ndarray, count: int) -> tuple[ClassScore, ...]:
    scores = []
    for number in range(count):
        true, predicted = labels == number, predictions == number
        hits = int((true & predicted).sum())
        scores.append(
            ClassScore(
                name=str(number),
                rows=int(true.sum()),
                recall=hits / int(true.sum()) if true.any() else None,
                precision=hits / int(predicted.sum()) if predicted.any() else None,
            )
        )
    return tuple(scores)


def _batches(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    """Batches of inputs and labels."""
    kind = kind_of(x)
    if y is not None:
        rows = sample_batch(x, y, MAX_ROWS)
        if rows is not None:
            yield from _slices(*rows)
        return
    batches: Any = ()
    if kind is DataKind.TF_DATASET:
        batches = x.batch(_BATCH) if has_single_rows(x) else x
    elif kind is DataKind.PY_DATASET:
        batches = (x[number] for number in range(x.num_batches or 0))
    for batch in itertools.takewhile(lambda batch: len(batch) >= 2, batches):
        yield batch[0], batch[1]


def _slices(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    for start in range(0, len(y), _BATCH):
        part = slice(start, start + _BATCH)
        if isinstance(x, dict):
            yield {name: values[part] for name, values in x.items()}, y[part]
        elif isinstance(x, list):
            yield [values[part] for values in x], y[part]
        else:
            yield x[part], y[part]


def _classes(
    model: keras.Model, outputs: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Class numbers of labels and predictions; None if these are not classes."""
    if outputs.ndim != 2 or targets.dtype.kind not in "biuf":
        return None
    count = outputs.shape[1]
    if targets.ndim == 2 and targets.shape[1] == count > 1:
        # With several labels in a row, the classes do not exclude each other.
        if not (np.isin(targets, (0, 1)).all() and (targets.sum(axis=1) == 1).all()):
            return None
        return targets.argmax(axis=1), outputs.argmax(axis=1)
    numbers = targets.reshape(-1)
    if len(numbers) != len(outputs) or (numbers != numbers.astype(int)).any():
        return None
    if numbers.min() < 0 or numbers.max() >= max(count, 2):
        return None
    numbers = numbers.astype(int)
    if count > 1:
        return numbers, outputs.argmax(axis=1)
    loss = getattr(model, "loss", None)
    name = str(getattr(loss, "name", None) or getattr(loss, "__name__", loss))
    if not name.startswith(_BINARY):
        return None  # a regression, as far as is known
    threshold = 0.0 if getattr(loss, "from_logits", False) else 0.5
    return numbers, (outputs[:, 0] > threshold).astype(int)
