"""How a registered model predicts raw rows: a copy of this file is stored with the model.

MLflow (3.17) loads it as the module that the model's ``python_function`` flavour names. It imports
nothing of this package, which a server does not have.

MLflow's own wrapper of Keras models passes rows on as it gets them. Keras refuses arrays of
strings and of objects, takes ragged rows as `tf.RaggedTensor` only, and knows no class names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

#: File beside the Keras model that describes its inputs and classes: see `ServedModel`.
DESCRIPTION = "served_model.json"

# Rows of one step: a request is not held in memory as a whole.
_STEP = 256


def _load_pyfunc(path: str) -> ServedModel:
    """Load the model; called by `mlflow.pyfunc.load_model` with the folder of its data."""
    import mlflow.tensorflow

    with open(os.path.join(path, DESCRIPTION), encoding="utf-8") as file:
        description = json.load(file)
    model = mlflow.tensorflow.load_model(os.path.dirname(path))
    return ServedModel(model, description)


class ServedModel:
    """A Keras model that predicts rows of strings, numbers and ragged values.

    Args:
        model: The Keras model.
        description: ``inputs`` with a ``name``, a ``dtype``, the ``shape`` of a row and a
            ``ragged_rank`` (0 for a tensor that is not ragged) each; ``structure`` with their
            numbers in place of tensors; ``columns``, the names of the columns of the only input
            where it is a table, or None; ``classes`` with ``names``, ``kind`` (``"multiclass"``,
            ``"binary"`` or ``"multilabel"``) and ``logits``, or None.
    """

    def __init__(self, model: keras.Model, description: dict[str, Any]) -> None:
        self.model = model
        self.inputs = description["inputs"]
        self.structure = description["structure"]
        self.columns = description.get("columns")
        self.classes = description["classes"]

    def get_raw_model(self) -> Any:
        """The Keras model."""
        return self.model

    def predict(self, data: object, params: dict[str, Any] | None = None) -> Any:
        """Predict rows.

        Missing values (None, NaN) are NaN, -1 or an empty text, by the type of their input.

        Args:
            data: A DataFrame or a dictionary with a column or an array for each input, or for
                each column of a table, in any order; for a model with one input also an array or
                a list of its rows.
            params: Not used.

        Returns:
            What the Keras model predicts. If the classes are known, a DataFrame with the columns
            ``class``, ``probability`` and ``probabilities`` (by class name); for a model whose
            classes do not exclude each other, ``classes`` and ``probabilities``.
        """
        tensors = [self._tensor(data, number) for number in range(len(self.inputs))]
        outputs = self._outputs(tensors)
        return outputs if self.classes is None else _by_class(outputs, self.classes)

    def _outputs(self, tensors: list[Any]) -> Any:
        if all(isinstance(tensor, np.ndarray) for tensor in tensors):
            return self.model.predict(self._pack(tensors), verbose=0)
        # Keras' `predict` refuses rows without a second dimension, unlike a step of it.
        import tensorflow as tf

        # A model that runs eagerly takes no arrays beside tensors.
        tensors = [tf.convert_to_tensor(t) if isinstance(t, np.ndarray) else t for t in tensors]
        rows = int(tensors[0].shape[0])
        steps = [
            self.model.predict_on_batch(self._pack([t[i : i + _STEP] for t in tensors]))
            for i in range(0, rows, _STEP)
        ]
        return _concatenated(steps)

    def _pack(self, tensors: Sequence[Any]) -> Any:
        def pack(structure: Any) -> Any:
            if isinstance(structure, dict):
                return {key: pack(value) for key, value in structure.items()}
            if isinstance(structure, list):
                return [pack(value) for value in structure]
            return tensors[structure]

        return pack(self.structure)

    def _tensor(self, data: object, number: int) -> Any:
        """The rows of an input as Keras takes them."""
        spec = self.inputs[number]
        rows = self._values(data, number)
        if spec["ragged_rank"]:
            import tensorflow as tf

            return tf.ragged.constant(
                [_plain(row) for row in rows],
                dtype=spec["dtype"],
                ragged_rank=spec["ragged_rank"],
                inner_shape=tuple(spec["inner_shape"]) or None,
            )
        if spec["dtype"] == "string":
            import tensorflow as tf

            texts = ["" if _is_missing(row) else _plain(row) for row in rows]
            return tf.reshape(tf.constant(texts), self._shape(rows, spec))
        if not isinstance(rows, np.ndarray):
            missing = -1 if np.dtype(spec["dtype"]).kind in "iu" else np.nan
            rows = [missing if _is_missing(row) else _plain(row) for row in rows]
        values = np.asarray(rows)
        return values.astype(spec["dtype"]).reshape(self._shape(rows, spec))

    def _shape(self, rows: Sequence[Any], spec: dict[str, Any]) -> list[int]:
        """The shape of an input with these rows; at most one of its sizes may be unknown."""
        sizes = [-1 if size is None else size for size in spec["shape"]]
        if sizes.count(-1) > 1:
            return list(np.shape(rows))
        return [len(rows), *sizes]

    def _values(self, data: Any, number: int) -> Any:
        """The rows of an input, one element each."""
        name = self.inputs[number]["name"]
        if self.columns and hasattr(data, "keys") and set(self.columns) <= set(data.keys()):
            return np.stack([np.asarray(data[column]) for column in self.columns], axis=-1)
        if hasattr(data, "columns") and hasattr(data, "iloc"):
            single = len(self.inputs) == 1 and name not in data.columns
            column = data.iloc[:, 0] if single else data[name]
            if single and data.shape[1] > 1:  # a table in which each row is one input
                return data.to_numpy()
            return column.tolist()
        if isinstance(data, dict):
            return data[name] if name in data else _only(data, self.inputs)
        return data


def _only(data: dict[str, Any], inputs: Sequence[dict[str, Any]]) -> Any:
    """The only value of a dictionary, for a model with one input of another name."""
    if len(data) == 1 == len(inputs):
        return next(iter(data.values()))
    raise ValueError(
        f"rows must have the inputs {', '.join(spec['name'] for spec in inputs)}; "
        f"got {', '.join(map(str, data))}"
    )


def _is_missing(row: object) -> bool:
    """Whether a single value is missing: None, NaN, or what pandas has for it."""
    return row is None or type(row).__name__ == "NAType" or (np.isscalar(row) and row != row)


def _plain(row: object) -> Any:
    """A row as nested lists of Python values."""
    if isinstance(row, np.ndarray):
        row = row.tolist()
    if isinstance(row, list | tuple):
        return [_plain(value) for value in row]
    return row


def _concatenated(steps: list[Any]) -> Any:
    first = steps[0]
    if isinstance(first, dict):
        return {key: _concatenated([step[key] for step in steps]) for key in first}
    if isinstance(first, list | tuple):
        return [_concatenated([step[i] for step in steps]) for i in range(len(first))]
    return np.concatenate([np.asarray(step) for step in steps])


def probabilities(outputs: object, kind: str, logits: bool) -> np.ndarray:
    """Probabilities of the classes from what a classifier returns.

    >>> probabilities([[0.25]], "binary", False)
    array([[0.75, 0.25]])

    Args:
        outputs: Its outputs, of shape ``(rows, classes)``, or ``(rows, 1)`` for two classes.
        kind: See `ServedModel`.
        logits: Whether the outputs are logits rather than probabilities.

    Returns:
        An array of shape ``(rows, classes)``.
    """
    values = np.asarray(outputs, "float64")
    if kind == "multiclass":
        if not logits:
            return values
        exponents = np.exp(values - values.max(axis=-1, keepdims=True))
        return exponents / exponents.sum(axis=-1, keepdims=True)
    if logits:
        values = 0.5 * (1.0 + np.tanh(0.5 * values))  # the logistic function, without overflow
    if kind == "binary":
        values = values.reshape(-1, 1)
        return np.concatenate([1.0 - values, values], axis=-1)
    return values


def _by_class(outputs: object, classes: dict[str, Any]) -> Any:
    """Class names and probabilities of each row."""
    import pandas as pd

    names = classes["names"]
    rows = probabilities(outputs, classes["kind"], classes["logits"]).tolist()
    by_name = [dict(zip(names, row, strict=True)) for row in rows]
    if classes["kind"] == "multilabel":
        likely = [[name for name, value in row.items() if value >= 0.5] for row in by_name]
        return pd.DataFrame({"classes": likely, "probabilities": by_name})
    best = [max(row, key=row.__getitem__) for row in by_name]
    return pd.DataFrame(
        {
            "class": best,
            "probability": [max(row) for row in rows],
            "probabilities": by_name,
        }
    )
