"""Arrays in files, which several processes share, as the data of a training."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np

from keras_nas_plugin.evaluation.datasets import map_arrays
from keras_nas_plugin.training.array_batches import goes_to_model_fit

# Keyword arguments of `Model.fit` that are data.
_DATA = ("x", "y", "sample_weight", "validation_data")


def is_mapped(array: object) -> bool:
    """Whether an array is in a file that is mapped into memory.

    >>> is_mapped(np.zeros(3))
    False
    """
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def without_copies(
    hypermodel: keras_tuner.HyperModel,
    model: object,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of `Model.fit` with mapped arrays as tensors in the same memory.

    Keras 3.15 with TensorFlow copies each numpy array into a tensor as a whole: each worker would
    have its own copy of the data. Tensors are taken as they are, and the batches are the same.

    Args:
        hypermodel: Arguments stay as they are if it has a `fit` of its own, which may expect numpy
            arrays.
        model: Likewise.
        args: Positional arguments of `Model.fit`.
        kwargs: Keyword arguments.
    """
    # Weights of classes are looked up in labels that are numpy arrays.
    if not goes_to_model_fit(hypermodel, model) or kwargs.get("class_weight") is not None:
        return list(args), dict(kwargs)
    return [map_arrays(_shared, value) for value in args], {
        name: map_arrays(_shared, value) if name in _DATA else value
        for name, value in kwargs.items()
    }


def _shared(array: Any) -> Any:
    """A tensor in the memory of a mapped array; the argument itself where that is impossible."""
    if not is_mapped(array):
        return array
    import tensorflow as tf

    try:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    # A kind of number that is not shared, an address between two words, or a read-only file.
    except (BufferError, TypeError, ValueError, tf.errors.OpError):
        return array
