"""What a model takes and gives, in MLflow's terms."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

_log = logging.getLogger("keras_nas_plugin")


def infer(model: Any, sample: Any) -> ModelSignature | None:
    """The signature of a model, from a few rows of input.

    Args:
        model: A Keras model.
        sample: One array, or a list or dictionary of arrays for several inputs; None for
            zeros of the shapes that the model declares.

    Returns:
        The signature, or None where MLflow has no words for it; a line in the log says why.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.models import infer_signature

    inputs = _zeros(model) if sample is None else _arrays(sample)
    if inputs is None:
        _log.warning("The model is registered without a signature: its inputs are not declared")
        return None
    try:
        outputs = model.predict(inputs, verbose=0)
    except Exception as error:  # a hypermodel's `fit` may reshape what `search` was given
        if sample is not None:
            _log.debug("The rows do not fit the model; zeros take their place: %s", error)
            return infer(model, None)
        _log.warning("The model is registered without a signature: %s", error)
        return None
    try:
        return infer_signature(
            _named(inputs, [tensor.name for tensor in getattr(model, "inputs", None) or ()]),
            _named(outputs, getattr(model, "output_names", ())),
        )
    except (MlflowException, TypeError, ValueError) as error:
        _log.warning("The model is registered without a signature: %s", error)
        return None


def example_of(model: Any, sample: Any) -> Any:
    """Rows of input in the form that MLflow stores and `mlflow.pyfunc` takes.

    Args:
        model: A Keras model.
        sample: See `infer`.

    Returns:
        One array, or arrays by name; None without rows, or for rows that do not fit the model.
    """
    if sample is None:
        return None
    inputs = _arrays(sample)
    try:
        model.predict(inputs, verbose=0)
    except Exception as error:  # as in `infer`
        _log.info("The model is registered without an input example: %s", error)
        return None
    return _named(inputs, [tensor.name for tensor in getattr(model, "inputs", None) or ()])


def _zeros(model: Any) -> Any:
    """One row of zeros; None for a model that does not say what it takes."""
    tensors = getattr(model, "inputs", None) or []
    rows = [np.zeros([size or 1 for size in t.shape], t.dtype) for t in tensors]
    return None if not rows else rows[0] if len(rows) == 1 else rows


def _arrays(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: np.asarray(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [np.asarray(value) for value in data]
    return np.asarray(data)


def _named(data: Any, names: Any) -> Any:
    """One array, or arrays by name: what MLflow can describe."""
    if isinstance(data, list | tuple):
        names = list(names) if len(names) == len(data) else [str(i) for i in range(len(data))]
        data = dict(zip(names, data, strict=True))
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    return _plain(data)


def _plain(array: Any) -> np.ndarray:
    """An array of a type that NumPy itself defines; bfloat16 is not one."""
    array = np.asarray(array)
    return array if array.dtype.isbuiltin == 1 or array.dtype.kind in "OSU" else array.astype("f4")
