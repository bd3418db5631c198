"""What a search trained on: shapes and a digest, without copying the data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

# Arrays above this size are hashed by evenly spaced blocks: 2 GB would take seconds.
_HASHED_BYTES = 1 << 26
_BLOCKS = 64


def describe_data(name: str, context: str, data: Any) -> dict[str, Any]:
    """A description of training or validation data.

    Args:
        name: What people call the data.
        context: ``"training"`` or ``"validation"``.
        data: Arrays, nested lists, tuples or mappings of arrays, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, or anything else (then only its type is known).

    Returns:
        ``name``, ``context``, ``digest`` (16 hexadecimal characters) and ``profile``.
    """
    hasher = hashlib.blake2b(digest_size=8)
    profile = _profile(data, hasher)
    return {"name": name, "context": context, "digest": hasher.hexdigest(), "profile": profile}


def _profile(data: Any, hasher: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _profile(value, hasher) for key, value in data.items()}
    if isinstance(data, tuple) or _is_list_of_arrays(data):
        return [_profile(value, hasher) for value in data if value is not None]
    if hasattr(data, "element_spec"):
        return _dataset_profile(data, hasher)
    if hasattr(data, "shape") and hasattr(data, "dtype") or isinstance(data, list):
        return _array_profile(data, hasher)
    hasher.update(type(data).__name__.encode())
    return {"type": type(data).__name__}


def _is_list_of_arrays(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and hasattr(data[0], "shape")


def _dataset_profile(data: Any, hasher: Any) -> dict[str, Any]:
    profile = {"type": "tf.data.Dataset", "elements": str(data.element_spec)}
    profile["batches"] = int(data.cardinality())
    hasher.update(repr(sorted(profile.items())).encode())
    return profile


def _array_profile(data: Any, hasher: Any) -> dict[str, Any]:
    array = np.asarray(data)
    profile = {"shape": list(array.shape), "dtype": str(array.dtype)}
    hasher.update(repr(profile).encode())
    if array.dtype.hasobject:
        hasher.update(repr(array.ravel()[:1000].tolist()).encode())
    elif array.nbytes <= _HASHED_BYTES:
        hasher.update(np.ascontiguousarray(array).tobytes())
    else:
        rows = np.linspace(0, len(array) - 1, _BLOCKS).astype(int)
        for row in rows:
            hasher.update(np.ascontiguousarray(array[row]).tobytes()[: _HASHED_BYTES // _BLOCKS])
    return profile


def sample_rows(data: Any, rows: int = 4) -> Any:
    """The first input rows of training data, for a model signature.

    Args:
        data: ``x`` as given to `model.fit`.
        rows: How many.

    Returns:
        The same structure with at most ``rows`` rows; None when none can be had without
        consuming the data (a generator).
    """
    if isinstance(data, Mapping):
        return {key: sample_rows(value, rows) for key, value in data.items()}
    if isinstance(data, tuple) or _is_list_of_arrays(data):
        return [sample_rows(value, rows) for value in data]
    if hasattr(data, "element_spec"):
        for batch in data.take(1):
            inputs = batch[0] if isinstance(batch, tuple) else batch
            return _to_numpy(inputs, rows)
    if hasattr(data, "shape") and hasattr(data, "__getitem__"):
        return np.asarray(data[:rows])
    if hasattr(data, "num_batches"):  # keras.utils.PyDataset
        batch = data[0]
        return _to_numpy(batch[0] if isinstance(batch, tuple) else batch, rows)
    return None


def _to_numpy(inputs: Any, rows: int) -> Any:
    if isinstance(inputs, Mapping):
        return {key: _to_numpy(value, rows) for key, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return [_to_numpy(value, rows) for value in inputs]
    return np.asarray(inputs)[:rows]


def sample_batch(x: Any, y: Any, rows: int) -> tuple[Any, Any] | None:
    """The first rows of training data with their labels.

    Args:
        x: As given to `model.fit`.
        y: As given to `model.fit`; None where ``x`` holds the labels as well.
        rows: How many.

    Returns:
        ``(x, y)`` in the same structure, as arrays with at most ``rows`` rows; None when they
        cannot be had without consuming the data (a generator), or there are no labels.
    """
    if y is not None:
        inputs, labels = sample_rows(x, rows), sample_rows(y, rows)
        return None if inputs is None or labels is None else (inputs, labels)
    batch: Any = None
    if hasattr(x, "element_spec"):
        batch = next(iter(x.take(1)), None)
    elif hasattr(x, "num_batches"):  # keras.utils.PyDataset
        batch = x[0]
    if not isinstance(batch, tuple) or len(batch) < 2:
        return None
    return _to_numpy(batch[0], rows), _to_numpy(batch[1], rows)
