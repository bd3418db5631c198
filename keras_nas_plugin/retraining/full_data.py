"""Joins the training and validation data of a search, to train on all rows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_nas_plugin.errors import FitArgumentsError, RetrainingError
from keras_nas_plugin.evaluation.datasets import DataKind, is_structure
from keras_nas_plugin.evaluation.tensors import is_text_or_ragged, join_rows
from keras_nas_plugin.training.fit_arguments import DataSplit, FitArguments

if TYPE_CHECKING:
    import tensorflow as tf

# Arguments that only make sense with a validation set, or with the number of training rows.
_DROPPED = (
    "validation_split",
    "validation_data",
    "validation_steps",
    "validation_batch_size",
    "validation_freq",
    "initial_epoch",
    "steps_per_epoch",
)


@dataclasses.dataclass(frozen=True, eq=False)
class FullData:
    """The data that a chosen architecture is retrained on.

    Attributes:
        arguments: Arguments of `fit` with the joined data and without validation.
        training: The data in these arguments.
        held_out: Validation rows that are not among them, or None.
    """

    arguments: FitArguments
    training: DataSplit
    held_out: DataSplit | None = None


def measurement_split(data: object, name: str) -> DataSplit | None:
    """Data to measure a model on.

    Args:
        data: ``(x, y)`` or ``(x, y, sample_weight)`` in arrays, a `tf.data.Dataset`, or None.
        name: Name of the argument, for the error message.

    Returns:
        The data; None for None.

    Raises:
        RetrainingError: The data are of another kind.
    """
    try:
        split = DataSplit.of(data, name)
    except FitArgumentsError as error:
        raise RetrainingError(str(error)) from error
    if split is not None:
        _check_kind(split, name)
    return split


def full_data(
    arguments: FitArguments, *, hold_out: float | None = None, seed: int = 0
) -> FullData:
    """Add the validation data of a search to its training data.

    Args:
        arguments: Arguments of `search`.
        hold_out: Fraction of the validation rows to exclude, selected by ``seed``; None to use
            all.
        seed: Seed of that selection, and of the order in which two `tf.data.Dataset` are mixed.

    Returns:
        The joined data, and the excluded rows.

    Raises:
        RetrainingError: The data are neither arrays nor `tf.data.Dataset`, or cannot be joined.
    """
    try:
        training, validation = arguments.splits()
    except FitArgumentsError as error:
        raise RetrainingError(str(error)) from error
    if training is None:
        raise RetrainingError("`x` must be the training data of the search; got None")
    _check_kind(training, "x")
    if validation is not None:
        _check_kind(validation, "validation_data")
    held_out = None
    if hold_out is not None:
        validation, held_out = _hold_out(validation, hold_out, seed)
    if validation is not None:
        training = _join(training, validation, seed)
    joined = arguments.without(*_DROPPED).with_data(training)
    return FullData(joined, training, held_out)


def _check_kind(split: DataSplit, name: str) -> None:
    """Check that data are arrays or a `tf.data.Dataset`, which can be read more than once."""
    if split.rows is None and split.kind is not DataKind.TF_DATASET:
        raise RetrainingError(
            f"`{name}` must be arrays or a tf.data.Dataset to retrain; "
            f"got {type(split.x).__name__}"
        )


def _hold_out(
    validation: DataSplit | None, fraction: float, seed: int
) -> tuple[DataSplit, DataSplit]:
    """Validation rows to train on, and those to measure on."""
    if validation is None:
        raise RetrainingError(
            f"`hold_out` must be None for a search without validation data; got {fraction}"
        )
    count = validation.rows
    if count is None:
        raise RetrainingError(
            "`hold_out` must be None when the validation data are a tf.data.Dataset, which may "
            f"return its rows in a different order each time; got {fraction}. Pass the validation "
            "data as arrays, or pass `test_data`."
        )
    size = round(count * fraction)
    if not 0 < size < count:
        raise RetrainingError(
            "`hold_out` must leave validation rows to train on and rows to measure on; got "
            f"{fraction} of {count} rows"
        )
    order = np.random.default_rng(seed).permutation(count)
    return validation.take(np.sort(order[size:])), validation.take(np.sort(order[:size]))


def _join(training: DataSplit, validation: DataSplit, seed: int) -> DataSplit:
    if training.kind is not validation.kind:
        raise RetrainingError(
            "training and validation data must be both arrays or both tf.data.Dataset; "
            f"got {type(training.x).__name__} and {type(validation.x).__name__}"
        )
    if training.weighted != validation.weighted:
        which = "training" if training.weighted else "validation"
        raise RetrainingError(
            "`sample_weight` must be given for training and validation data, or for neither; "
            f"got it for {which} data only"
        )
    if training.kind is DataKind.TF_DATASET:
        return DataSplit(_mix_datasets(training.x, validation.x, seed))
    return DataSplit(
        _concatenate("x", training.x, validation.x),
        _concatenate("y", training.y, validation.y),
        _concatenate("sample_weight", training.sample_weight, validation.sample_weight),
    )


def _mix_datasets(
    training: tf.data.Dataset, validation: tf.data.Dataset, seed: int
) -> tf.data.Dataset:
    """Every element of two data sets once, in a random order of the two.

    One after the other would end each epoch with the validation rows, unshuffled.
    """
    import tensorflow as tf

    sizes = [int(dataset.cardinality()) for dataset in (training, validation)]
    if tf.data.INFINITE_CARDINALITY in sizes:
        raise RetrainingError(
            "`x` and `validation_data` must be finite data sets, because each epoch trains on all "
            "rows of both; got an infinite one. Remove its `repeat()`."
        )
    weights = [size / sum(sizes) for size in sizes] if min(sizes) > 0 else None
    try:
        if not _same_elements(training.element_spec, validation.element_spec):
            raise ValueError("shapes or types differ")
        mixed = tf.data.Dataset.sample_from_datasets(
            [training, validation], weights, seed=seed, rerandomize_each_iteration=True
        )
    except (TypeError, ValueError) as error:
        raise RetrainingError(
            "`x` and `validation_data` must have elements of the same shapes and types; got "
            f"{training.element_spec} and {validation.element_spec}"
        ) from error
    # Otherwise Keras warns at the end of each epoch that the data ran out.
    return mixed.apply(tf.data.experimental.assert_cardinality(sum(sizes))) if weights else mixed


def _same_elements(training_spec: object, validation_spec: object) -> bool:
    """Whether elements are equal in shape and type, apart from the size of their batches."""
    import tensorflow as tf

    pairs = zip(tf.nest.flatten(training_spec), tf.nest.flatten(validation_spec), strict=True)
    return all(
        a.dtype == b.dtype and a.shape[1:].is_compatible_with(b.shape[1:]) for a, b in pairs
    )


def _concatenate(name: str, training: object, validation: object) -> object:
    """Training rows followed by validation rows, array by array of a structure."""
    if training is None and validation is None:
        return None
    if isinstance(training, Mapping) and isinstance(validation, Mapping):
        if training.keys() == validation.keys():
            return {
                key: _concatenate(f"{name}[{key!r}]", training[key], validation[key])
                for key in training
            }
    elif is_structure(training) and is_structure(validation):
        same_kind = not isinstance(training, Mapping) and not isinstance(validation, Mapping)
        if same_kind and len(training) == len(validation):
            pairs = enumerate(zip(training, validation, strict=True))
            container: Callable[[list[object]], object] = type(training)
            return container([_concatenate(f"{name}[{i}]", a, b) for i, (a, b) in pairs])
    elif is_text_or_ragged(training) and is_text_or_ragged(validation):
        with contextlib.suppress(ValueError):
            return join_rows(training, validation)
    elif not any(data is None or is_structure(data) for data in (training, validation)):
        arrays = np.asarray(training), np.asarray(validation)
        if arrays[0].shape[1:] == arrays[1].shape[1:] and arrays[0].ndim:
            return np.concatenate(arrays)
        training, validation = arrays
    raise RetrainingError(
        f"`{name}` of training and validation data must have the same structure and shape; got "
        f"{_form(training)} and {_form(validation)}"
    )


def _form(data: object) -> str:
    if hasattr(data, "shape"):
        return f"shape {tuple(data.shape)}"
    if isinstance(data, Mapping):
        return f"{{{', '.join(map(str, data))}}}"
    return f"{len(data)} arrays" if isinstance(data, list | tuple) else type(data).__name__
