"""Inspects the data that models are trained and measured on: kind, number of rows, digest.

Nothing here consumes the data or imports the library that they come from.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, TypeVar

import numpy as np

from keras_nas_plugin.evaluation.tensors import is_text_or_ragged

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf

# Of larger arrays, only evenly spaced blocks are hashed: hashing 2 GB would take seconds.
_HASHED_BYTES = 1 << 26
_BLOCKS = 64
# The bytes of Python objects differ between processes, so the text of the first ones is hashed.
_HASHED_OBJECTS = 1000


#: Arrays by name or position, nested to any depth.
Structure = Mapping[Any, Any] | tuple[Any, ...] | list[Any]
_Mapped = TypeVar("_Mapped")


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class DataKind(enum.Enum):
    """The kind of data that is passed to `keras.Model.fit` as ``x``."""

    #: An array or a tensor, a pandas object, or a structure of these.
    ARRAYS = "arrays"
    #: A `tf.data.Dataset`.
    TF_DATASET = "tf.data.Dataset"
    #: A `keras.utils.PyDataset`.
    PY_DATASET = "keras.utils.PyDataset"
    #: Generators, and other data that can only be inspected by consuming them.
    OTHER = "other"


def kind_of(data: object) -> DataKind:
    """The kind of training data, recognised by attributes of its class.

    An iterator over a `tf.data.Dataset` also has an ``element_spec``, but reading its first
    element consumes that element. Its kind is ``OTHER``, as for generators.
    """
    cls = type(data)
    if all(hasattr(cls, name) for name in ("element_spec", "cardinality", "take")):
        return DataKind.TF_DATASET
    if hasattr(cls, "num_batches") and hasattr(cls, "__getitem__"):
        return DataKind.PY_DATASET
    if isinstance(data, Mapping | tuple | list) or hasattr(data, "shape"):
        return DataKind.ARRAYS
    return DataKind.OTHER


def is_structure(data: object) -> TypeGuard[Structure]:
    """Whether data are a dictionary, tuple or list of arrays; a list of numbers is an array.

    >>> is_structure([np.zeros(3), np.zeros(3)]), is_structure([1, 2, 3])
    (True, False)
    """
    if isinstance(data, list):
        return bool(data) and (isinstance(data[0], Mapping) or hasattr(_first(data[0]), "shape"))
    return isinstance(data, Mapping | tuple)


def _first(data: object) -> object:
    while isinstance(data, tuple | list) and data:
        data = data[0]
    return data


def map_arrays(function: Callable[[Any], _Mapped], data: object) -> _Mapped | Structure:
    """Apply a function to each array of a structure, and return the results in that structure.

    >>> map_arrays(len, {"a": np.zeros(3), "b": [np.zeros(2), np.zeros(1)]})
    {'a': 3, 'b': [2, 1]}
    """
    if not is_structure(data):
        return function(data)
    if isinstance(data, Mapping):
        return {key: map_arrays(function, value) for key, value in data.items()}
    values = [map_arrays(function, value) for value in data]
    container: Callable[..., Structure] = type(data)
    return container(*values) if hasattr(data, "_fields") else container(values)


def count_rows(data: object) -> int | None:
    """Rows of an array, or of the first array of a structure.

    >>> count_rows({"a": np.zeros((3, 2))}), count_rows([1, 2]), count_rows(iter([1, 2]))
    (3, 2, None)

    Returns:
        The number of rows; None for data that are not arrays, and for an array without
        dimensions.
    """
    if kind_of(data) is not DataKind.ARRAYS:
        return None
    for array in _arrays(data):
        if isinstance(array, list):
            return len(array)
        shape: tuple[int, ...] = getattr(array, "shape", ())
        return int(shape[0]) if len(shape) else None
    return None


def _arrays(data: object) -> Iterator[Any]:
    if not is_structure(data):
        yield data
        return
    for value in data.values() if isinstance(data, Mapping) else data:
        yield from _arrays(value)


def describe_data(
    name: str,
    context: str,
    data: object,
    report: Callable[[str, Exception], None] | None = None,
) -> dict[str, Any]:
    """A description of training or validation data.

    Args:
        name: Name of the data, as shown to users.
        context: ``"training"``, ``"validation"`` or ``"test"``.
        data: Arrays, nested lists, tuples or mappings of arrays, pandas objects, a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, or anything else (of which only the
            type is described).
        report: Called with what is missing and the error, if reading the data raises one; the
            digest is then that of their type. None raises the error.

    Returns:
        ``name``, ``context``, ``digest`` (16 hexadecimal characters) and ``profile``.
    """
    digest = hashlib.blake2b(digest_size=8)
    try:
        profile = _profile(data, digest)
    except Exception as error:
        if report is None:
            raise
        report(
            f"the {context} data have no digest, so that a change of them is not noticed", error
        )
        digest = hashlib.blake2b(type(data).__name__.encode(), digest_size=8)
        profile = {"type": type(data).__name__}
    return {"name": name, "context": context, "digest": digest.hexdigest(), "profile": profile}


def _profile(data: object, digest: _Hash) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _profile(value, digest) for key, value in data.items()}
    if is_structure(data):
        return [_profile(value, digest) for value in data if value is not None]
    if kind_of(data) is DataKind.TF_DATASET:
        return _dataset_profile(data, digest)
    if _is_frame(data):
        return _frame_profile(data, digest)
    if hasattr(data, "shape") and hasattr(data, "dtype") or isinstance(data, list):
        return _array_profile(data, digest)
    digest.update(type(data).__name__.encode())
    return {"type": type(data).__name__}


def _dataset_profile(dataset: tf.data.Dataset, digest: _Hash) -> dict[str, object]:
    profile: dict[str, object] = {
        "type": "tf.data.Dataset",
        "elements": str(dataset.element_spec),
        "batches": int(dataset.cardinality()),
    }
    digest.update(repr(sorted(profile.items())).encode())
    return profile


def _is_frame(data: object) -> TypeGuard[pd.DataFrame]:
    return hasattr(data, "columns") and hasattr(data, "iloc")


def _frame_profile(frame: pd.DataFrame, digest: _Hash) -> dict[str, object]:
    """Describes a frame as one array if all columns have the same type, else by column."""
    if len(set(frame.dtypes)) == 1:
        return _array_profile(frame, digest)
    columns = enumerate(frame.columns)  # names of columns may repeat
    return {str(name): _array_profile(frame.iloc[:, index], digest) for index, name in columns}


def _array_profile(data: object, digest: _Hash) -> dict[str, object]:
    array = np.asarray(data)
    profile: dict[str, object] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    digest.update(repr(profile).encode())
    if array.dtype.hasobject:
        digest.update(repr(array.ravel()[:_HASHED_OBJECTS].tolist()).encode())
    elif array.nbytes <= _HASHED_BYTES:
        digest.update(np.ascontiguousarray(array).tobytes())
    else:
        rows = np.linspace(0, len(array) - 1, _BLOCKS).astype(int)
        for row in rows:
            digest.update(np.ascontiguousarray(array[row]).tobytes()[: _HASHED_BYTES // _BLOCKS])
    return profile


def sample_rows(data: object, rows: int = 4) -> Any:
    """The first input rows of training data, for a model signature.

    Args:
        data: ``x`` as passed to `model.fit`.
        rows: Maximum number of rows.

    Returns:
        The same structure with at most ``rows`` rows, and with lists in place of tuples; arrays,
        and tensors where they hold strings or are ragged. None if the rows cannot be read without
        consuming the data (a generator).
    """
    if isinstance(data, Mapping):
        return {key: sample_rows(value, rows) for key, value in data.items()}
    if is_structure(data):
        return [sample_rows(value, rows) for value in data]
    if kind_of(data) in (DataKind.TF_DATASET, DataKind.PY_DATASET):
        batch = _first_batch(data, rows)
        return None if batch is None else _to_numpy(_inputs(batch), rows)
    if is_text_or_ragged(data):
        return data[:rows]
    if hasattr(data, "shape") and hasattr(data, "__getitem__"):
        return np.asarray(data.__getitem__(slice(rows)))
    return None


def example_rows(data: object, sample: Any) -> Any:
    """The first input rows of training data, to register a model with.

    Args:
        data: ``x`` as passed to `model.fit`.
        sample: What `sample_rows` returned for it.

    Returns:
        ``sample``; rows of a DataFrame remain one, so that its columns are known by their names.
    """
    return data.iloc[: len(sample)] if _is_frame(data) and sample is not None else sample


def sample_batch(x: object, y: object, rows: int) -> tuple[Any, Any] | None:
    """The first rows of training data with their labels.

    Args:
        x: As passed to `model.fit`.
        y: As passed to `model.fit`; None if ``x`` contains the labels as well.
        rows: Maximum number of rows.

    Returns:
        ``(x, y)`` in the same structure, as arrays with at most ``rows`` rows; None if they
        cannot be read without consuming the data (a generator), or if there are no labels.
    """
    if y is not None:
        inputs, labels = sample_rows(x, rows), sample_rows(y, rows)
        return None if inputs is None or labels is None else (inputs, labels)
    batch = _first_batch(x, rows)
    if not isinstance(batch, tuple) or len(batch) < 2:
        return None
    return _to_numpy(batch[0], rows), _to_numpy(batch[1], rows)


def _first_batch(data: object, rows: int) -> Any:
    """The first batch of a data set; None for data that cannot be read twice."""
    kind = kind_of(data)
    batches: Any = data  # data sets of TensorFlow and Keras are not typed
    if kind is DataKind.PY_DATASET:
        return batches[0]
    if kind is not DataKind.TF_DATASET:
        return None
    if has_single_rows(batches):
        if not all(shape.is_fully_defined() for shape in _shapes(batches)):
            return None
        batches = batches.batch(rows)
    return next(iter(batches.take(1)), None)


def has_single_rows(dataset: tf.data.Dataset) -> bool:
    """Whether the elements of a `tf.data.Dataset` are certainly rows, not batches of them.

    Keras trains on batches only, but a hypermodel's own `fit` may batch the rows itself. Rows are
    recognised by a tensor without dimensions, such as a label, or by first dimensions that differ
    between tensors.

    Args:
        dataset: A `tf.data.Dataset`.
    """
    shapes = [shape for shape in _shapes(dataset) if shape.rank is not None]
    if any(shape.rank == 0 for shape in shapes):
        return True
    return len({shape[0] for shape in shapes} - {None}) > 1


def _shapes(dataset: tf.data.Dataset) -> list[tf.TensorShape]:
    """The `tf.TensorShape` of each tensor of an element."""
    specs = _arrays(dataset.element_spec)
    return [spec.shape for spec in specs if getattr(spec, "shape", None) is not None]


def _inputs(batch: object) -> object:
    return batch[0] if isinstance(batch, tuple) else batch


def _to_numpy(inputs: object, rows: int) -> Any:
    if isinstance(inputs, Mapping):
        return {key: _to_numpy(value, rows) for key, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return [_to_numpy(value, rows) for value in inputs]
    return inputs[:rows] if is_text_or_ragged(inputs) else np.asarray(inputs)[:rows]
