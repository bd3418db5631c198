"""Rows of TensorFlow tensors that NumPy arrays cannot replace: strings and ragged rows.

Keras (3.15) trains on these as tensors only: it refuses arrays of strings and of objects.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    import tensorflow as tf


def is_text_or_ragged(data: object) -> TypeGuard[tf.Tensor | tf.RaggedTensor]:
    """Whether data are a tensor of strings, or a ragged tensor.

    TensorFlow is not imported: data are no tensor where nobody has imported it.
    """
    tf = sys.modules.get("tensorflow")
    if tf is None or not hasattr(tf, "RaggedTensor"):
        return False
    return isinstance(data, tf.RaggedTensor) or (
        isinstance(data, tf.Tensor) and data.dtype == tf.string
    )


def is_tensor(data: object) -> TypeGuard[tf.Tensor | tf.RaggedTensor]:
    """Whether data are a tensor of TensorFlow, which arrays of row numbers do not index."""
    tf = sys.modules.get("tensorflow")
    if tf is None or not hasattr(tf, "RaggedTensor"):
        return False
    return isinstance(data, tf.Tensor | tf.RaggedTensor)


def take_rows(tensor: tf.Tensor | tf.RaggedTensor, indices: object) -> tf.Tensor | tf.RaggedTensor:
    """These rows of a tensor.

    Args:
        tensor: For which `is_tensor` holds.
        indices: Row numbers, an integer array of shape ``(n,)``.
    """
    import tensorflow as tf

    return tf.gather(tensor, indices)


def join_rows(
    first: tf.Tensor | tf.RaggedTensor, second: tf.Tensor | tf.RaggedTensor
) -> tf.Tensor | tf.RaggedTensor:
    """The rows of one tensor, followed by those of another.

    Raises:
        ValueError: Their types, or the shapes of their rows, differ.
    """
    import tensorflow as tf

    kinds = [(type(tensor) is tf.RaggedTensor, tensor.dtype) for tensor in (first, second)]
    if kinds[0] != kinds[1] or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"rows of {first.shape[1:]} and {second.shape[1:]}")
    return tf.concat([first, second], axis=0)
