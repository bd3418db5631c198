"""The batch, checked before any layer sees it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_nas_plugin.proxies import layers
from keras_nas_plugin.proxies.base import ProxyError


def prepared(model: keras.Model, x: Any, y: Any) -> tuple[Any, Any]:
    """Inputs and labels as tensors.

    Args:
        model: Any Keras model.
        x: Arrays in the structure of the model's inputs, shape ``[batch, ...]`` each.
        y: Arrays in the structure of its outputs, or None.

    Raises:
        ProxyError: Shapes do not fit, a value is not finite, or there is no sample.
    """
    arrays = keras.tree.map_structure(keras.ops.convert_to_numpy, x)
    labels = None if y is None else keras.tree.map_structure(keras.ops.convert_to_numpy, y)
    for argument, structure in (("x", arrays), ("y", labels)):
        for array in keras.tree.flatten(structure) if structure is not None else []:
            _check(argument, array)
    sizes = [len(array) for array in keras.tree.flatten(arrays)]
    sizes += [] if labels is None else [len(array) for array in keras.tree.flatten(labels)]
    if len(set(sizes)) != 1 or sizes[0] < 1:
        raise ProxyError(f"`x` and `y` need the same number of samples; received {sizes}")
    if layers.is_transparent(model) and model.built:
        _check_shapes(model, arrays)
    # A functional model has a type per input; layers of another model convert what they get.
    own = {one.dtype for one in model.inputs} if layers.is_transparent(model) else set()
    dtype = own.pop() if len(own) == 1 else model.compute_dtype
    tensors = keras.tree.map_structure(lambda one: _tensor(one, dtype), arrays)
    return tensors, None if y is None else keras.tree.map_structure(_label, labels)


def _check(argument: str, array: np.ndarray) -> None:
    if array.ndim < 1:
        raise ProxyError(f"`{argument}` needs arrays with a batch axis; received a scalar")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ProxyError(f"`{argument}` needs finite numbers; received NaN or infinity")


def _check_shapes(model: keras.Model, arrays: Any) -> None:
    """Compare with the shapes that the model was built for."""
    wanted = {one.name: tuple(one.shape) for one in model.inputs}
    if isinstance(arrays, dict):
        if set(arrays) != set(wanted):
            raise ProxyError(f"`x` needs the inputs {sorted(wanted)}; received {sorted(arrays)}")
        given = {name: arrays[name].shape for name in wanted}
    else:
        flat = keras.tree.flatten(arrays)
        if len(flat) != len(wanted):
            raise ProxyError(f"`x` needs {len(wanted)} inputs; received {len(flat)}")
        given = {name: one.shape for name, one in zip(wanted, flat, strict=True)}
    for name, shape in wanted.items():
        fits = len(given[name]) == len(shape) and all(
            own in (None, other) for own, other in zip(shape, given[name], strict=True)
        )
        if not fits:
            raise ProxyError(
                f"`x` needs the shape {shape} for the input {name!r}; received {given[name]}"
            )


def _tensor(array: np.ndarray, dtype: str) -> Any:
    """Real numbers in the type of the model, integers as they are."""
    real = array.dtype.kind == "f" and keras.backend.is_float_dtype(dtype)
    return keras.ops.convert_to_tensor(array, dtype=dtype if real else None)


def _label(array: np.ndarray) -> Any:
    """In its own type: losses convert to that of the outputs."""
    return keras.ops.convert_to_tensor(array, dtype=array.dtype.name)
