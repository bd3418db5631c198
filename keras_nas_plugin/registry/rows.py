"""Rows of inputs: one array, or a list, tuple or dictionary of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.evaluation.tensors import is_text_or_ragged
from keras_nas_plugin.registry.gates.base import PromotionError
from keras_nas_plugin.registry.interface import as_tensor, decoded

#: Inputs of a model: one array, or several.
Rows = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]


def as_arrays(data: object, name: str) -> Rows:
    """Convert inputs to arrays in the same structure.

    Args:
        data: One array or tensor, or a list, tuple or dictionary of these.
        name: Name of the data in error messages.

    Returns:
        An array, or a list or dictionary of arrays. Strings are an array of strings; rows of
        different lengths are an array of objects, of lists.

    Raises:
        PromotionError: The data contain anything but arrays, or arrays of different lengths.
    """
    arrays: Rows
    if isinstance(data, Mapping):
        arrays = {key: _array(value) for key, value in data.items()}
    elif isinstance(data, list | tuple) and data and hasattr(data[0], "shape"):
        arrays = [_array(value) for value in data]
    else:
        arrays = _array(data)
    parts = leaves(arrays)
    if not parts or any(part.ndim == 0 or not _is_usable(part) for part in parts):
        raise PromotionError(f"`{name}` must consist of arrays of rows; got {type(data).__name__}")
    lengths = {len(part) for part in parts}
    if len(lengths) > 1:
        raise PromotionError(
            f"`{name}` must consist of arrays with the same number of rows; got {sorted(lengths)}"
        )
    return arrays


def as_inputs(rows: Rows) -> Any:
    """Rows as Keras takes them, in the same structure: see `interface.as_tensor`."""
    if isinstance(rows, Mapping):
        return {key: as_tensor(value) for key, value in rows.items()}
    return as_tensor(rows) if isinstance(rows, np.ndarray) else [as_tensor(v) for v in rows]


def _array(values: object) -> np.ndarray:
    if is_text_or_ragged(values):
        rows = values.to_list() if hasattr(values, "to_list") else values.numpy().tolist()
        rows = decoded(rows)
        if not hasattr(values, "to_list"):
            return np.array(rows)
        array = np.empty(len(rows), object)
        array[:] = rows
        return array
    array = np.asarray(values)
    if array.dtype.kind == "S" or (array.dtype.hasobject and _holds(array, str | bytes)):
        return np.array(decoded(array.tolist()))
    return array


def _is_usable(array: np.ndarray) -> bool:
    return not array.dtype.hasobject or (array.ndim == 1 and _holds(array, list | np.ndarray))


def _holds(array: np.ndarray, types: Any) -> bool:
    """Whether an array of objects has only objects of some types."""
    return all(isinstance(value, types) for value in array.flat)


def leaves(data: Rows) -> list[np.ndarray]:
    """The arrays in inputs of any structure, in order."""
    if isinstance(data, Mapping):
        return list(data.values())
    return [data] if isinstance(data, np.ndarray) else list(data)


def first_rows(data: Rows, rows: int) -> Rows:
    """The first rows, in the same structure.

    >>> first_rows({"a": np.arange(3)}, 2)
    {'a': array([0, 1])}
    """
    if isinstance(data, Mapping):
        return {key: value[:rows] for key, value in data.items()}
    if isinstance(data, np.ndarray):
        return data[:rows]
    return [value[:rows] for value in data]
