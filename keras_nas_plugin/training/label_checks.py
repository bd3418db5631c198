"""Checks of labels: their range, the classes of both parts of the data, and their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_nas_plugin.evaluation import data_quality as quality
from keras_nas_plugin.training.checked_data import Checked, Finding

_LISTED = 5
_REGRESSION = ("mean_", "mse", "mae", "msle", "mape", "huber", "log_cosh", "logcosh", "poisson")
_BINARY = ("binary_crossentropy", "binary_focal_crossentropy")
_CATEGORICAL = ("categorical_crossentropy", "categorical_focal_crossentropy")
_SPARSE = "sparse_categorical_crossentropy"


@dataclasses.dataclass(frozen=True)
class _Target:
    """An output of the model with its loss and its labels.

    Attributes:
        name: Name of the labels, for messages.
        training: Labels of the training rows.
        validation: Labels of the validation rows, or None.
        loss: Name of the loss; None where it is not known.
        classes: Number of values of the output, or None.
        ignored: A label that the loss ignores, or None.
    """

    name: str
    training: Any
    validation: Any
    loss: str | None
    classes: int | None
    ignored: int | None

    @property
    def is_classification(self) -> bool | None:
        """Whether the labels are classes; None where the loss does not say."""
        if self.loss is None:
            return None
        if self.loss in (_SPARSE, *_CATEGORICAL):
            return True
        if self.loss in _BINARY:
            return self.classes in (1, None)
        return False if self.loss.startswith(_REGRESSION) else None


def _targets(data: Checked) -> list[_Target]:
    """The labels of each output; with several outputs, those that have a name in both."""
    training = dict(data.training.arrays("y"))
    validation = data.validation.arrays("y") if data.validation is not None else []
    by_position = [array for _, array in validation]
    losses = _losses(data)
    targets = []
    for index, (name, labels) in enumerate(training.items()):
        loss, classes, ignored = losses[index] if index < len(losses) else (None, None, None)
        validation_labels = by_position[index] if len(by_position) == len(training) else None
        targets.append(_Target(name, labels, validation_labels, loss, classes, ignored))
    return targets


_Loss = tuple[str | None, int | None, int | None]


def _losses(data: Checked) -> list[_Loss]:
    """Loss, number of values of the output, and ignored label for each array of labels."""
    model, y = data.sample.built, data.training.split.y
    if model is None:
        return []
    loss, outputs = model.loss, list(getattr(model, "outputs", None) or [])
    sizes = [_last(output) for output in outputs]
    if isinstance(y, Mapping):
        names: Sequence[str] = getattr(model, "output_names", ())
        by_output = dict(zip(names, sizes, strict=False))
        losses = loss if isinstance(loss, Mapping) else {}
        return [_described(losses.get(key), by_output.get(key)) for key in y]
    if isinstance(loss, list | tuple):
        return [_described(*pair) for pair in zip(loss, sizes or [None] * len(loss), strict=False)]
    if isinstance(loss, Mapping) or isinstance(y, list | tuple):
        return []
    if not outputs:
        sizes = data.sample.output_sizes(data.training.batch)
    return [_described(loss, sizes[0] if len(sizes) == 1 else None)]


def _described(loss: object, size: int | None) -> _Loss:
    name, ignored = _loss(loss)
    return name, size, ignored


def _loss(loss: object) -> tuple[str | None, int | None]:
    """The name of a loss of Keras and its ignored label; None for any other loss."""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return None, None
    if isinstance(loss, keras.losses.Loss):
        if not type(loss).__module__.startswith("keras."):
            return None, None
        config = loss.get_config()
        default = type(loss)().name if type(loss) is not keras.losses.Loss else None
        return default, config.get("ignore_class")
    if getattr(loss, "__module__", "").startswith("keras."):
        return getattr(loss, "__name__", None), None
    return None, None


def _last(output: object) -> int | None:
    shape: tuple[int | None, ...] = getattr(output, "shape", ())
    return shape[-1] if len(shape) > 1 else None


def label_range(data: Checked) -> Iterator[Finding]:
    """Labels that the output of the model cannot have.

    Args:
        data: The data and the model.
    """
    for target in _targets(data):
        for name, labels in (
            (target.name, target.training),
            (f"{target.name} of validation", target.validation),
        ):
            bounds = None if labels is None else quality.label_range(labels, target.ignored)
            if bounds is not None:
                yield from _outside(target, name, *bounds)
                yield from _unsuitable(data, target, name, labels)


def _outside(target: _Target, name: str, low: float, high: float) -> Iterator[Finding]:
    got = f"got labels from {low:g} to {high:g}"
    if target.loss == _SPARSE:
        if target.classes is not None and (low < 0 or high >= target.classes):
            yield Finding(
                f"`{name}` must have labels from 0 to {target.classes - 1}, since the model has "
                f"{target.classes} outputs; {got}. `classes, y = np.unique(y, "
                "return_inverse=True)` numbers them from 0.",
                True,
            )
    elif target.loss in (*_BINARY, *_CATEGORICAL) and (low < 0 or high > 1):
        yield Finding(
            f"`{name}` must have labels from 0 to 1 for the loss {target.loss}; {got}. Rescale "
            "them, for example with `y == y.max()`."
        )


def _unsuitable(data: Checked, target: _Target, name: str, labels: object) -> Iterator[Finding]:
    """Labels that Keras changes without a word: fractions of classes, and repeated columns."""
    fraction = quality.first_fraction(labels) if target.loss == _SPARSE else None
    if fraction is not None:
        yield Finding(
            f"`{name}` must have whole numbers for the loss {target.loss}; got {fraction:g}, "
            "whose fraction Keras cuts off. Number the classes, or use a loss for a regression."
        )
    if target.loss is None or not target.loss.startswith(_REGRESSION):
        return
    outputs = getattr(data.sample.built, "outputs", None) or []
    shape = np.shape(quality.rows_of(labels, slice(0, 1)))
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or len(shape) > 2:
        return
    columns = shape[1] if len(shape) == 2 else 1
    if target.classes is not None and columns != target.classes and 1 in (columns, target.classes):
        yield Finding(
            f"`{name}` must have as many columns as the model has outputs; got {columns} and "
            f"{target.classes}. Keras repeats the single one, so that the loss compares outputs "
            "with other targets than their own."
        )


def class_balance(data: Checked) -> Iterator[Finding]:
    """Classes that training or validation lacks, and rows that are sorted by class.

    Args:
        data: The data and the model.
    """
    for target in _targets(data):
        if target.is_classification is False or target.training is None:
            continue
        certain = bool(target.is_classification)
        training = quality.classes_of(target.training, certain=certain)
        if training is None:
            continue
        validation = (
            None
            if target.validation is None
            else quality.classes_of(target.validation, certain=True)
        )
        if validation is not None and validation.dtype.kind != training.dtype.kind:
            validation = None
        findings = list(_order(data, target, training, validation))
        yield from findings
        if validation is not None and not (findings and _validates_last(data)):
            yield from _coverage(data, target, training, validation)


def _order(
    data: Checked, target: _Target, training: np.ndarray, validation: np.ndarray | None
) -> Iterator[Finding]:
    name, validates_last = target.name, _validates_last(data)
    if validates_last and validation is not None:
        if quality.sorted_by_class(np.concatenate([training, validation])):
            yield Finding(
                f"the rows of `{name}` are sorted by class, and `validation_split` takes the last "
                f"ones: validation has {_number(validation)} of "
                f"{_number(np.concatenate([training, validation]))} classes. Shuffle the rows "
                "before (`order = np.random.default_rng(0).permutation(len(x))`, then `x[order]` "
                "and `y[order]`), or pass a shuffled `validation_data`."
            )
        return
    batches = [
        classes
        for labels in data.training.batches
        if (classes := quality.classes_of(labels, certain=True)) is not None and len(classes) > 3
    ]
    if len(batches) > 1:
        of_one_class = all(len(np.unique(classes)) == 1 for classes in batches)
        if of_one_class or quality.sorted_by_class(np.concatenate(batches)):
            what = "has a single class" if of_one_class else "has few classes"
            yield Finding(
                f"each of the first {len(batches)} batches of `x` {what}: the rows "
                "are sorted by class. Call `shuffle` on the data set before `batch`."
            )
    elif data.fit.values.get("shuffle") is False and quality.sorted_by_class(training):
        yield Finding(
            f"the rows of `{name}` are sorted by class and are not shuffled (`shuffle=False`), so "
            "that most batches have a single class. Remove `shuffle=False`, or shuffle the rows."
        )


def _validates_last(data: Checked) -> bool:
    return data.validation is not None and data.validation.name == "validation_split"


def _number(classes: np.ndarray) -> int:
    return len(np.unique(classes))


def _coverage(
    data: Checked, target: _Target, training: np.ndarray, validation: np.ndarray
) -> Iterator[Finding]:
    validated, counts = np.unique(validation, return_counts=True)
    trained = np.unique(training)
    complete = data.validation is not None and data.validation.complete
    if len(validated) == 1 and complete and len(validation) > 1:
        yield Finding(
            f"the validation data have a single class ({validated[0]}), and the training data "
            f"have {len(trained)}: scores say nothing about other classes. Choose validation rows "
            "at random from all classes."
        )
    lacking = ~np.isin(validated, trained)
    if data.training.complete and lacking.any():
        listed = ", ".join(map(str, validated[lacking][:_LISTED]))
        more = f" and {int(lacking.sum()) - _LISTED} more" if lacking.sum() > _LISTED else ""
        yield Finding(
            f"the validation data have classes that the training data lack: {listed}{more} "
            f"({int(counts[lacking].sum()):,} of {len(validation):,} rows). Choose validation "
            "rows at random from all classes."
        )
