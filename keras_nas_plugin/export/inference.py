"""A Keras model as a function from named arrays to named arrays."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.errors import BackendError, ExportError

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """An input of a model.

    Attributes:
        name: Its name in the exported model.
        dtype: Name of its type; ``"string"`` for texts.
        shape: Shape of a row; None for a size that differs from row to row.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class InferenceGraph:
    """The inference of a model (``training=False``) with flat, named inputs and outputs.

    Args:
        model: A Keras model.
        sample: A few rows of input, needed for a model that does not declare its inputs.

    Raises:
        ExportError: The inputs of the model are not known, or are ragged.
        BackendError: Keras runs on another backend than TensorFlow.
    """

    def __init__(self, model: keras.Model, sample: object = None) -> None:
        import keras

        if keras.backend.backend() != "tensorflow":
            raise BackendError(
                "models must be exported with the TensorFlow backend of Keras; got "
                f"{keras.backend.backend()!r}. A saved model loads there: KERAS_BACKEND=tensorflow"
            )
        self.model = model
        declared = getattr(model, "inputs", None)
        if declared:
            structure = declared[0] if isinstance(model, keras.Sequential) else model.input
            flat = keras.tree.flatten(structure)
            names = _unique([tensor.name for tensor in flat])
            shapes = [tuple(tensor.shape[1:]) for tensor in flat]
        elif sample is not None:
            structure = sample
            flat = keras.tree.flatten(structure)
            names = _unique(_names_of(structure, len(flat)))
            shapes = [tuple(np.shape(rows)[1:]) for rows in flat]
        else:
            raise ExportError(
                f"`model` must declare its inputs; got {type(model).__name__} {model.name!r}, "
                "which does not. Begin it with a `keras.Input`, or pass rows of its data."
            )
        if any(_is_ragged(tensor) for tensor in flat):
            raise ExportError(
                f"`model` must not have ragged inputs; got {names}. Pad the rows to one length: "
                "`keras.utils.pad_sequences`."
            )
        self._structure = keras.tree.map_structure(lambda _: None, structure)
        self.inputs = tuple(
            ModelInput(name, _dtype_name(tensor), shape)
            for name, tensor, shape in zip(names, flat, shapes, strict=True)
        )

    def arrays(self, rows: Any) -> dict[str, np.ndarray]:
        """Rows of data as arrays by the name of the input.

        Args:
            rows: An array, a DataFrame, or a list or dictionary of arrays, as the model takes
                them; dictionaries by name or in the structure of the model's input. A DataFrame
                has a column for each of several inputs, or is the only input.

        Raises:
            ExportError: They do not fit the inputs of the model.
        """
        import keras

        names = [spec.name for spec in self.inputs]
        if hasattr(rows, "to_numpy") and hasattr(rows, "columns"):
            columns = {str(name): rows[name].to_numpy() for name in rows.columns}
            by_column = len(names) > 1 and set(names) <= set(map(_safe, columns))
            rows = columns if by_column else rows.to_numpy()
        if isinstance(rows, Mapping) and set(names) <= {_safe(str(name)) for name in rows}:
            by_name = {_safe(str(name)): value for name, value in rows.items()}
            flat = [by_name[name] for name in names]
        elif isinstance(rows, Mapping | list | tuple):
            flat = keras.tree.flatten(rows)
        else:
            flat = [rows]
        if len(flat) != len(names):
            raise ExportError(
                f"`x` must have rows of the inputs {', '.join(names)}; got {len(flat)} arrays"
            )
        arrays = {}
        for spec, values in zip(self.inputs, flat, strict=True):
            array = np.asarray(values)
            shape = tuple(-1 if size is None else size for size in spec.shape)
            if array.shape[1:] != spec.shape and shape.count(-1) == 0:
                array = _reshaped(array, shape, spec)
            arrays[spec.name] = array.astype(object if spec.dtype == "string" else spec.dtype)
        return arrays

    def zeros(self) -> dict[str, np.ndarray]:
        """One row of zeros, or of empty strings, for each input."""
        return {
            spec.name: np.full(shape, "", object)
            if spec.dtype == "string"
            else np.zeros(shape, spec.dtype)
            for spec in self.inputs
            for shape in [(1, *(size or 1 for size in spec.shape))]
        }

    def predict(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the Keras model predicts for rows, by the name of the output."""
        import tensorflow as tf

        function = self.function().get_concrete_function()
        count = len(next(iter(rows.values())))
        steps = [
            function(*(tf.constant(rows[spec.name][i : i + 256]) for spec in self.inputs))
            for i in range(0, count, 256)
        ]
        return {
            name: np.concatenate([np.asarray(step[name]) for step in steps]) for name in steps[0]
        }

    def function(self, batch_size: int | None = None) -> Any:
        """The model as a `tf.function` of its inputs in order, returning outputs by name.

        Args:
            batch_size: A fixed number of rows; None for any number. Other sizes that the model
                leaves open stay open.
        """
        import keras
        import tensorflow as tf

        model, structure = self.model, self._structure

        def call(*tensors: Any) -> dict[str, Any]:
            packed = keras.tree.pack_sequence_as(structure, list(tensors))
            outputs = model(packed, training=False)
            flat = keras.tree.flatten(outputs)
            named = zip(self._output_names(outputs, len(flat)), flat, strict=True)
            half = (tf.float16, tf.bfloat16)
            return {
                name: tf.cast(tensor, "float32") if tensor.dtype in half else tensor
                for name, tensor in named
            }

        return tf.function(call, input_signature=self.signature(batch_size))

    def signature(self, batch_size: int | None = None) -> list[Any]:
        """The inputs as `tf.TensorSpec`, in order."""
        import tensorflow as tf

        return [
            tf.TensorSpec((batch_size, *spec.shape), spec.dtype, spec.name) for spec in self.inputs
        ]

    def write_saved_model(self, folder: str, batch_size: int | None = None) -> None:
        """Write a SavedModel whose signature ``serving_default`` is this function.

        Args:
            folder: The folder to create.
            batch_size: See `function`.
        """
        import keras

        archive = keras.export.ExportArchive()
        archive.track(self.model)
        archive.add_endpoint("serve", self.function(batch_size), self.signature(batch_size))
        archive.write_out(folder, verbose=False)

    def _output_names(self, outputs: object, count: int) -> list[str]:
        if isinstance(outputs, Mapping):
            return _unique([str(name) for name in sorted(outputs)])
        names = list(getattr(self.model, "output_names", ()) or ())
        if len(names) != count:
            names = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
        return _unique(names)


def single_rows(rows: Mapping[str, np.ndarray], count: int) -> list[dict[str, np.ndarray]]:
    """The first rows, one dictionary of arrays of one row each.

    >>> single_rows({"x": np.arange(3)}, 2)
    [{'x': array([0])}, {'x': array([1])}]
    """
    number = min(count, len(next(iter(rows.values()))))
    return [{name: array[i : i + 1] for name, array in rows.items()} for i in range(number)]


def _reshaped(array: np.ndarray, shape: tuple[int, ...], spec: ModelInput) -> np.ndarray:
    try:
        return array.reshape((len(array), *shape))
    except ValueError as error:
        raise ExportError(
            f"`x` must have rows of shape {spec.shape} for the input {spec.name!r}; "
            f"got {array.shape[1:]}"
        ) from error


def _names_of(structure: object, count: int) -> Sequence[str]:
    if isinstance(structure, Mapping) and len(structure) == count:
        return sorted(str(name) for name in structure)
    return ["input"] if count == 1 else [f"input_{number}" for number in range(count)]


def _safe(name: str) -> str:
    """A name that every format accepts for a tensor."""
    safe = re.sub(r"\W", "_", name)
    return safe if safe[:1].isalpha() else f"x{safe}"


def _unique(names: Sequence[str]) -> list[str]:
    safe: list[str] = []
    for name in map(_safe, names):
        number = sum(other == name or other.startswith(f"{name}__") for other in safe)
        safe.append(f"{name}__{number}" if number else name)
    return safe


def _dtype_name(tensor: object) -> str:
    dtype = getattr(tensor, "dtype", None)
    name = str(getattr(dtype, "name", dtype) or np.asarray(tensor).dtype.name)
    is_text = name in ("string", "object", "str") or name.startswith(("str", "bytes"))
    if is_text:
        return "string"
    return {"float64": "float32", "bfloat16": "float32"}.get(name, name)


def _is_ragged(tensor: object) -> bool:
    return bool(getattr(tensor, "ragged", False) or getattr(tensor, "ragged_rank", None))
