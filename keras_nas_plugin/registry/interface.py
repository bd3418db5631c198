"""Inputs and outputs of a model as its server sees them: names, types, signature, example."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.evaluation.tensors import is_text_or_ragged

if TYPE_CHECKING:
    import keras
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import Schema

logger = logging.getLogger("keras_nas_plugin")


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """An input of a model.

    Attributes:
        name: Its name in a request.
        dtype: ``"string"``, or the name of a type of NumPy.
        shape: The shape of a row; None for a size that differs between rows or requests.
        ragged_rank: Number of ragged dimensions; 0 for a tensor that is not ragged.
        inner_shape: The dimensions of a ragged tensor after its ragged ones, which are uniform.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    ragged_rank: int = 0
    inner_shape: tuple[int, ...] = ()

    @property
    def is_scalar(self) -> bool:
        """Whether a row is a single value, so that a request has it without brackets."""
        return self.ragged_rank == 0 and self.shape in ((), (1,))

    @property
    def is_text(self) -> bool:
        """Whether a row is a single text."""
        return self.is_scalar and self.dtype == "string"

    @property
    def is_plain(self) -> bool:
        """Whether NumPy's arrays can hold it, so that MLflow's own wrapper can predict it."""
        return self.ragged_rank == 0 and self.dtype != "string"


@dataclasses.dataclass(frozen=True)
class Classes:
    """What the outputs of a classifier mean: see `served_model.ServedModel`."""

    names: tuple[str, ...]
    kind: str
    logits: bool


@dataclasses.dataclass(frozen=True)
class Interface:
    """Inputs of a model with a few rows of them, and what it predicts for these.

    Attributes:
        inputs: The inputs, in the order of ``tensors``.
        structure: Dictionaries and lists with the numbers of the inputs in place of tensors: the
            argument that the model is called with.
        tensors: Rows of each input, as Keras takes them.
        outputs: What the model predicts for them.
        classes: The classes, or None.
        from_sample: Whether the rows are those that were given, rather than zeros.
        finds_by_name: Whether the model finds its inputs by name, so that a dictionary of arrays
            can replace any structure.
        table: The rows as a DataFrame, if the only input of the model is one; a request then has
            its columns, in any order.
    """

    inputs: tuple[InputSpec, ...]
    structure: Any
    tensors: tuple[Any, ...]
    outputs: Any
    classes: Classes | None = None
    from_sample: bool = True
    finds_by_name: bool = True
    table: pd.DataFrame | None = None

    @property
    def packed(self) -> Any:
        """The rows in the structure that the model is called with."""
        return pack(self.structure, self.tensors)

    @property
    def needs_server(self) -> bool:
        """Whether MLflow's own wrapper cannot predict rows: see `served_model`."""
        plain = all(spec.is_plain for spec in self.inputs)
        by_name = self.table is not None
        return self.classes is not None or not plain or by_name or not self._takes_a_dictionary

    @property
    def _takes_a_dictionary(self) -> bool:
        """Whether the model can be called with one array, or arrays by name."""
        if isinstance(self.structure, list):
            return self.finds_by_name and all(isinstance(part, int) for part in self.structure)
        parts = self.structure.values() if isinstance(self.structure, dict) else ()
        return all(isinstance(part, int) for part in parts)

    def functional(self, model: keras.Model) -> keras.Model | None:
        """A functional model that calls a model with declared inputs.

        Args:
            model: A model with this interface.

        Returns:
            The functional model; None if the model cannot be called with symbolic inputs.
        """
        import keras

        try:
            inputs = [
                keras.Input(
                    spec.shape, dtype=spec.dtype, name=spec.name, ragged=spec.ragged_rank > 0
                )
                for spec in self.inputs
            ]
            packed = pack(self.structure, inputs)
            return keras.Model(packed, model(packed), name=model.name)
        except Exception as error:  # whatever a user's `call` raises
            logger.debug("The model cannot be called with declared inputs: %r", error)
            return None

    def description(self) -> dict[str, Any]:
        """What `served_model.ServedModel` reads."""
        return {
            "inputs": [dataclasses.asdict(spec) for spec in self.inputs],
            "structure": self.structure,
            "columns": None if self.table is None else list(self.table.columns),
            "classes": None if self.classes is None else dataclasses.asdict(self.classes),
        }

    def example(self) -> np.ndarray | dict[str, np.ndarray] | pd.DataFrame:
        """The rows in the form of a request: an array, arrays by name, or a table."""
        if self.table is not None:
            return self.table
        if all(spec.is_plain for spec in self.inputs):
            arrays = [_plain(tensor) for tensor in self.tensors]
            if self.structure == 0:
                return arrays[0]
            names = [spec.name for spec in self.inputs]
            return dict(zip(names, arrays, strict=True))
        import pandas as pd

        columns = {
            spec.name: _column(tensor, spec)
            for spec, tensor in zip(self.inputs, self.tensors, strict=True)
        }
        return pd.DataFrame(columns)

    def signature(self) -> ModelSignature | None:
        """The signature; None if MLflow cannot express it, and a warning in the log says why."""
        from mlflow.exceptions import MlflowException
        from mlflow.models import ModelSignature

        try:
            return ModelSignature(self._input_schema(), self._output_schema())
        except (MlflowException, TypeError, ValueError) as error:
            logger.warning("The model is registered without a signature: %s", error)
            return None

    def _input_schema(self) -> Schema:
        from mlflow.models import infer_signature
        from mlflow.types import ColSpec, Schema, TensorSpec
        from mlflow.types.schema import AnyType

        if self.table is not None:
            types = ((_COLUMNS[dtype.kind], name) for name, dtype in self.table.dtypes.items())
            return Schema([ColSpec(kind, name) for kind, name in types])
        if all(spec.is_plain for spec in self.inputs):
            schema = infer_signature(self.example()).inputs
            return Schema(
                [
                    TensorSpec(
                        tensor.type,
                        (-1, *(-1 if n is None else n for n in spec.shape)),
                        tensor.name,
                    )
                    for tensor, spec in zip(schema.inputs, self.inputs, strict=True)
                ]
            )
        if len(self.inputs) == 1 and self.inputs[0].is_scalar:
            return Schema([ColSpec("string")])  # also accepts a list of strings
        # Numbers have no type: MLflow refuses integers, and missing values among integers, where
        # real numbers are expected, and a table in a file has them from row to row.
        return Schema(
            [ColSpec("string" if spec.is_text else AnyType(), spec.name) for spec in self.inputs]
        )

    def _output_schema(self) -> Schema:
        from mlflow.models import infer_signature
        from mlflow.types import ColSpec, Schema
        from mlflow.types.schema import Array, DataType, Map

        if self.classes is None:
            outputs = self.outputs
            if isinstance(outputs, Mapping):
                outputs = {str(key): _plain(value) for key, value in outputs.items()}
            else:
                outputs = _plain(outputs)
            return infer_signature(np.zeros(1), outputs).outputs
        by_name = ColSpec(Map(DataType.double), "probabilities")
        if self.classes.kind == "multilabel":
            return Schema([ColSpec(Array(DataType.string), "classes"), by_name])
        return Schema([ColSpec("string", "class"), ColSpec("double", "probability"), by_name])


_COLUMNS = {"S": "string", "f": "double", "i": "long", "u": "long", "b": "boolean"}


def interface_of(
    model: keras.Model, sample: object, class_names: Sequence[str] | None = None
) -> Interface | None:
    """Determine the interface of a model from a few rows of input.

    Args:
        model: A Keras model.
        sample: Rows of its inputs: arrays, tensors, or a list or dictionary of these; None for
            zeros and empty strings in the shapes that the model declares.
        class_names: Names of the classes that it tells apart, in the order of its outputs.

    Returns:
        The interface; None for a model that cannot predict any rows that are known here, and a
        warning in the log says why.

    Raises:
        TrackingError: ``class_names`` do not fit the outputs of the model.
    """
    import keras

    reason: object = "it does not declare its inputs"
    candidates = [sample, _zeros(model)]
    if type(model).call is keras.Model.call:
        # Calling it would also leave a wrong shape in its build configuration.
        reason, candidates = "it has no `call`", []
    for rows in candidates:
        if rows is None:
            continue
        try:
            tensors, structure, names = _flattened(rows, model)
            outputs = predict(model, pack(structure, tensors))
        except Exception as error:  # a hypermodel's `fit` may reshape the data of `search`
            logger.debug("The model cannot predict these rows: %s", error)
            if rows is sample or sample is None:  # zeros and empty strings are a guess
                reason = error
            continue
        return Interface(
            inputs=_specs(model, names, tensors),
            structure=structure,
            tensors=tensors,
            outputs=_named_outputs(model, outputs),
            classes=None if class_names is None else _classes(model, outputs, class_names),
            from_sample=rows is sample,
            finds_by_name=bool(getattr(model, "inputs", None)),
            table=_table(rows),
        )
    logger.warning("The model is registered without a signature: %s", reason)
    if class_names is not None:
        raise TrackingError(
            "`class_names` must be None for a model whose predictions are not known; pass "
            "`sample`, a few rows of its input"
        )
    return None


def _table(rows: Any) -> pd.DataFrame | None:
    """Rows that are a DataFrame of numbers whose columns have names of their own; else None."""
    if not (hasattr(rows, "columns") and hasattr(rows, "iloc")):
        return None
    names = list(rows.columns)
    if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        return None
    kinds = {getattr(dtype, "kind", "O") for dtype in rows.dtypes}
    return rows.reset_index(drop=True) if kinds <= _COLUMNS.keys() - {"S"} else None


def predict(model: keras.Model, inputs: object) -> Any:
    """What a model predicts for a few rows.

    Args:
        model: A Keras model.
        inputs: Arrays or tensors, in the structure that it is called with.

    Returns:
        NumPy arrays, in the structure of its outputs.
    """
    import keras

    if any(map(is_text_or_ragged, keras.tree.flatten(inputs))):
        # Keras' `predict` refuses strings without a second dimension, unlike a step of it. A
        # model that runs eagerly takes no arrays beside tensors.
        import tensorflow as tf

        def tensor(values: object) -> Any:
            return values if is_text_or_ragged(values) else tf.convert_to_tensor(values)

        return model.predict_on_batch(keras.tree.map_structure(tensor, inputs))
    return model.predict(inputs, verbose=0)


def pack(structure: Any, tensors: Sequence[Any]) -> Any:
    """Put tensors in the place of their numbers.

    >>> pack({"a": 1, "b": [0]}, ["x", "y"])
    {'a': 'y', 'b': ['x']}
    """
    if isinstance(structure, dict):
        return {key: pack(value, tensors) for key, value in structure.items()}
    if isinstance(structure, list):
        return [pack(value, tensors) for value in structure]
    return tensors[structure]


def as_tensor(values: object) -> Any:
    """Rows as Keras takes them: strings as a tensor, rows of different lengths as a ragged one."""
    if is_text_or_ragged(values):
        return values
    array = np.asarray(values)
    if array.dtype.kind in "SU":
        import tensorflow as tf

        return tf.constant(array.tolist())
    if not array.dtype.hasobject:
        return array
    import tensorflow as tf

    rows = [row.tolist() if isinstance(row, np.ndarray) else row for row in array]
    if any(isinstance(row, list | tuple) for row in rows) and array.ndim == 1:
        return tf.ragged.constant(rows)
    return tf.constant(rows)


def decoded(rows: object) -> Any:
    """Nested lists with strings in place of bytes.

    >>> decoded([[b"a", "b"], [1]])
    [['a', 'b'], [1]]
    """
    if isinstance(rows, list):
        return [decoded(value) for value in rows]
    return rows.decode("utf-8", errors="replace") if isinstance(rows, bytes) else rows


def _flattened(rows: object, model: keras.Model) -> tuple[tuple[Any, ...], Any, list[str]]:
    """Tensors, the structure that has their numbers in their place, and their names."""
    tensors: list[Any] = []
    names: list[str] = []

    def visit(data: object, path: tuple[str, ...]) -> Any:
        if isinstance(data, Mapping):
            return {str(key): visit(value, (*path, str(key))) for key, value in data.items()}
        if isinstance(data, list | tuple) and any(hasattr(value, "shape") for value in data):
            return [visit(value, (*path, str(number))) for number, value in enumerate(data)]
        tensors.append(as_tensor(data))
        names.append("_".join(path))
        return len(tensors) - 1

    structure = visit(rows, ())
    declared = [tensor.name for tensor in getattr(model, "inputs", None) or ()]
    if len(declared) == len(tensors) and not isinstance(structure, dict):
        names = declared
    return tuple(tensors), structure, [name or "input" for name in names]


def _specs(
    model: keras.Model, names: Sequence[str], tensors: Sequence[Any]
) -> tuple[InputSpec, ...]:
    declared = {
        tensor.name: tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()
    }
    return tuple(
        _spec(name, tensor, declared.get(name, ()))
        for name, tensor in zip(names, tensors, strict=True)
    )


def _spec(name: str, tensor: Any, declared: tuple[int | None, ...]) -> InputSpec:
    if is_text_or_ragged(tensor):
        dtype = tensor.dtype.name
        rank = getattr(tensor, "ragged_rank", 0)
        if rank:
            inner = tuple(int(size) for size in tensor.flat_values.shape[1:])
            return InputSpec(name, dtype, (None,) * rank + inner, rank, inner)
    else:
        dtype = _plain(tensor).dtype.name
    shape = tuple(int(size) for size in tensor.shape[1:])
    if len(declared) == len(shape) + 1:
        # A dimension that the model leaves open may differ from request to request.
        sizes = zip(shape, declared[1:], strict=True)
        return InputSpec(name, dtype, tuple(None if d is None else s for s, d in sizes))
    return InputSpec(name, dtype, shape)


def _zeros(model: keras.Model) -> Any:
    """One row of zeros and empty strings; None for a model that does not declare its inputs."""

    def row(tensor: keras.KerasTensor) -> Any:
        shape = [size or 1 for size in tensor.shape]
        if tensor.dtype == "string":
            return np.full(shape, "")
        if getattr(tensor, "ragged", False):
            import tensorflow as tf

            return tf.RaggedTensor.from_tensor(tf.zeros(shape, tensor.dtype))
        return np.zeros(shape, "float32" if tensor.dtype == "bfloat16" else tensor.dtype)

    tensors = getattr(model, "inputs", None) or []
    rows = [row(tensor) for tensor in tensors]
    return None if not rows else rows[0] if len(rows) == 1 else rows


def _named_outputs(model: keras.Model, outputs: object) -> Any:
    """One array, or arrays by name: the forms that MLflow can describe."""
    if not isinstance(outputs, list | tuple):
        return outputs
    names = list(getattr(model, "output_names", ()))
    if len(names) != len(outputs):
        names = [str(number) for number in range(len(outputs))]
    return dict(zip(names, outputs, strict=True))


def _classes(model: keras.Model, outputs: object, class_names: Sequence[str]) -> Classes:
    names = checked_class_names(class_names)
    width = outputs.shape[-1] if isinstance(outputs, np.ndarray) and outputs.ndim == 2 else None
    if width is None or not (width == len(names) or (width, len(names)) == (1, 2)):
        shape = f"shape {outputs.shape}" if isinstance(outputs, np.ndarray) else "several outputs"
        raise TrackingError(
            "`class_names` must have one name for each output of the model, or two for a single "
            f"one; got {len(names)} names for predictions of {shape}"
        )
    loss = getattr(model, "loss", None)
    logits = bool(getattr(loss, "from_logits", False))
    values = np.asarray(outputs, "float64")
    tolerance = 1e-2  # of sums of probabilities in half precision
    if not logits and (values.min() < -tolerance or values.max() > 1 + tolerance):
        raise TrackingError(
            "`class_names` must be None for a model that does not predict probabilities; its "
            f"outputs are between {values.min():.3g} and {values.max():.3g}. End the model with "
            "a softmax or a sigmoid, or compile it with a loss that has `from_logits=True`."
        )
    if width == 1:
        return Classes(names, "binary", logits)
    exclusive = np.allclose(values.sum(axis=-1), 1.0, atol=tolerance)
    loss_name = str(getattr(loss, "name", None) or getattr(loss, "__name__", None) or loss)
    multilabel = "binary" in loss_name if logits else not exclusive
    return Classes(names, "multilabel" if multilabel else "multiclass", logits)


def checked_class_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Class names as a tuple.

    Raises:
        TrackingError: They are not at least two different strings.
    """
    names = () if isinstance(class_names, str) else tuple(class_names)
    if len(names) < 2 or not all(isinstance(name, str) and name for name in names):
        raise TrackingError(
            f"`class_names` must be at least two strings that are not empty; got {class_names!r}"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TrackingError(f"`class_names` must be different; got {twice!r} more than once")
    return names


def _column(tensor: Any, spec: InputSpec) -> list[Any]:
    """Rows as Python values: a number or a string, or nested lists."""
    rows = tensor.to_list() if spec.ragged_rank else np.asarray(tensor).tolist()
    rows = [decoded(row) for row in rows]
    return [row[0] if isinstance(row, list) else row for row in rows] if spec.is_scalar else rows


def _plain(values: object) -> np.ndarray:
    """An array of a type that NumPy itself defines; bfloat16 is not one."""
    array = np.asarray(values)
    return array if array.dtype.isbuiltin == 1 or array.dtype.kind in "OSU" else array.astype("f4")
