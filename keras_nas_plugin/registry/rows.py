"""Rows of inputs: one array, or a list, tuple or dictionary of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.registry.gates.base import PromotionError


def as_arrays(data: Any, name: str) -> Any:
    """The same structure with arrays in it.

    Raises:
        PromotionError: It holds something that is no array, or arrays of different lengths.
    """
    if isinstance(data, Mapping):
        arrays: Any = {key: np.asarray(value) for key, value in data.items()}
    elif isinstance(data, list | tuple) and data and hasattr(data[0], "shape"):
        arrays = [np.asarray(value) for value in data]
    else:
        arrays = np.asarray(data)
    parts = leaves(arrays)
    if not parts or any(part.ndim == 0 or part.dtype.hasobject for part in parts):
        raise PromotionError(f"`{name}` needs arrays of rows; received {type(data).__name__}")
    lengths = {len(part) for part in parts}
    if len(lengths) > 1:
        raise PromotionError(
            f"`{name}` needs arrays with as many rows each; received {sorted(lengths)}"
        )
    return arrays


def leaves(data: Any) -> list[np.ndarray]:
    """The arrays."""
    if isinstance(data, Mapping):
        return list(data.values())
    return list(data) if isinstance(data, list | tuple) else [data]


def first_rows(data: Any, rows: int) -> Any:
    """The same structure with the first rows.

    >>> first_rows({"a": np.arange(3)}, 2)
    {'a': array([0, 1])}
    """
    if isinstance(data, Mapping):
        return {key: value[:rows] for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [value[:rows] for value in data]
    return data[:rows]
