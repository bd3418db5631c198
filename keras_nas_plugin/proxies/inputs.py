"""Validation of the batch and its conversion to tensors."""

from __future__ import annotations

import keras
import numpy as np

from keras_nas_plugin.proxies import layers
from keras_nas_plugin.proxies.base import ProxyError, Structure, Tensor


def prepared(
    model: keras.Model, x: Structure, y: Structure | None
) -> tuple[Structure, Structure | None]:
    """Inputs and labels as tensors.

    Args:
        model: Any Keras model.
        x: Arrays in the structure of the model's inputs, shape ``[batch, ...]`` each.
        y: Arrays in the structure of its outputs, or None.

    Raises:
        ProxyError: Shapes do not match, a value is not finite, or the batch is empty.
    """
    arrays = keras.tree.map_structure(keras.ops.convert_to_numpy, x)
    labels = None if y is None else keras.tree.map_structure(keras.ops.convert_to_numpy, y)
    for argument, structure in (("x", arrays), ("y", labels)):
        for array in keras.tree.flatten(structure) if structure is not None else []:
            _check(argument, array)
    sizes = [len(array) for array in keras.tree.flatten(arrays)]
    sizes += [] if labels is None else [len(array) for array in keras.tree.flatten(labels)]
    if len(set(sizes)) != 1 or sizes[0] < 1:
        raise ProxyError(
            f"`x` and `y` must have the same number of samples, at least 1; got {sizes}"
        )
    if layers.is_transparent(model) and model.built:
        _check_shapes(model, arrays)
    # A functional model has a dtype per input; the layers of other models cast their inputs.
    own = {tensor.dtype for tensor in model.inputs} if layers.is_transparent(model) else set()
    dtype = own.pop() if len(own) == 1 else model.compute_dtype
    tensors = keras.tree.map_structure(lambda array: _tensor(array, dtype), arrays)
    return tensors, None if y is None else keras.tree.map_structure(_label, labels)


def _check(argument: str, array: np.ndarray) -> None:
    if array.ndim < 1:
        raise ProxyError(f"`{argument}` must be arrays with a batch axis; got a scalar")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ProxyError(f"`{argument}` must be finite; got NaN or infinity")


def _check_shapes(model: keras.Model, arrays: Structure) -> None:
    """Check the shapes against those that the model was built for."""
    expected = {tensor.name: tuple(tensor.shape) for tensor in model.inputs}
    if isinstance(arrays, dict):
        if set(arrays) != set(expected):
            raise ProxyError(f"`x` must have the inputs {sorted(expected)}; got {sorted(arrays)}")
        actual = {name: arrays[name].shape for name in expected}
    else:
        flat = keras.tree.flatten(arrays)
        if len(flat) != len(expected):
            raise ProxyError(f"`x` must have {len(expected)} inputs; got {len(flat)}")
        actual = {name: array.shape for name, array in zip(expected, flat, strict=True)}
    for name, shape in expected.items():
        fits = len(actual[name]) == len(shape) and all(
            own in (None, size) for own, size in zip(shape, actual[name], strict=True)
        )
        if not fits:
            raise ProxyError(
                f"`x` must have the shape {shape} for the input {name!r}; got {actual[name]}"
            )


def _tensor(array: np.ndarray, dtype: str) -> Tensor:
    """Convert to a tensor: floats in the dtype of the model, integers in their own."""
    real = array.dtype.kind == "f" and keras.backend.is_float_dtype(dtype)
    return keras.ops.convert_to_tensor(array, dtype=dtype if real else None)


def _label(array: np.ndarray) -> Tensor:
    """Convert labels to a tensor of the same dtype: losses cast them to that of the outputs."""
    return keras.ops.convert_to_tensor(array, dtype=array.dtype.name)
