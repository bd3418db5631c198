"""Predictions and costs of a version on the held-out rows, computed once for all gates."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_nas_plugin.errors import CostError, brief
from keras_nas_plugin.evaluation import names
from keras_nas_plugin.registry.gates.base import Candidate, PromotionError
from keras_nas_plugin.registry.gates.thresholds import SIZE
from keras_nas_plugin.registry.rows import Rows, as_arrays, as_inputs, leaves

if TYPE_CHECKING:
    import keras


class UnusableModelError(PromotionError):
    """A version that cannot be loaded."""


def check_data(data: object) -> tuple[Rows, np.ndarray]:
    """Held-out data as arrays.

    Args:
        data: A pair ``(x, y)``. Inputs are an array, or a list or dictionary of arrays; labels
            or targets are one array, by row.

    Returns:
        Inputs and targets.

    Raises:
        PromotionError: ``data`` is not such a pair, its parts differ in their number of rows, or
            there are no rows.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        count = f" of {len(data)}" if isinstance(data, tuple | list) else ""
        raise PromotionError(f"`data` must be a pair (x, y); got {type(data).__name__}{count}")
    inputs, targets = as_arrays(data[0], "x"), as_arrays(data[1], "y")
    if not isinstance(targets, np.ndarray):
        raise PromotionError(f"`y` must be one array; got {type(data[1]).__name__}")
    rows = len(leaves(inputs)[0])
    if rows != len(targets) or rows == 0:
        raise PromotionError(
            "`x` and `y` must have the same number of rows, at least one; "
            f"got {rows} and {len(targets)}"
        )
    if targets.dtype.kind in "fc" and not np.all(np.isfinite(targets)):
        raise PromotionError("`y` must hold finite numbers; got NaN or infinite ones")
    return inputs, targets


def examine(
    folder: Path,
    version: str,
    x: Rows,
    *,
    batch_size: int | None = None,
    costs: Collection[str] = (),
) -> Candidate:
    """Load a version from its files, predict the rows and determine its costs.

    Args:
        folder: The version's files, in MLflow's format.
        version: Version number.
        x: Inputs, as `check_data` returns them.
        batch_size: Rows per step; None for Keras' default.
        costs: Names of further costs to determine; parameters and size are always included.

    Returns:
        The version with its predictions and costs.

    Raises:
        UnusableModelError: The version cannot be loaded.
        PromotionError: The model cannot predict these rows or has several outputs, or a cost
            cannot be determined.
    """
    model = _load(folder, version)
    try:
        predictions = model.predict(as_inputs(x), batch_size=batch_size, verbose=0)
    except Exception as error:  # Keras and its backends raise their own
        raise PromotionError(
            f"`x` must hold rows that version {version} can predict; it raised {brief(error)}"
        ) from error
    rows = len(leaves(x)[0])
    if not isinstance(predictions, np.ndarray) or len(predictions) != rows:
        raise PromotionError(
            f"version {version} must have one output with a row for each of the {rows} rows of "
            f"`x`; got {_shapes(predictions)}"
        )
    if predictions.dtype.kind not in "biuf":  # bfloat16 is not one of numpy's own types
        predictions = predictions.astype("float32")
    return Candidate(version, predictions, _costs(model, folder, costs), folder)


def _load(folder: Path, version: str) -> keras.Model:
    import mlflow.tensorflow

    try:
        model = mlflow.tensorflow.load_model(str(folder))
    except Exception as error:  # MLflow, Keras and pickle raise their own
        raise UnusableModelError(f"version {version} cannot be loaded: {brief(error)}") from error
    if not hasattr(model, "predict"):
        raise UnusableModelError(
            f"version {version} must be a Keras model; got {type(model).__name__}"
        )
    return model


def _costs(model: keras.Model, folder: Path, requested: Collection[str]) -> dict[str, float]:
    from keras_nas_plugin.evaluation.costs import analytic_costs, measured_costs
    from keras_nas_plugin.evaluation.flops import CostWarning

    needed = names.costs_among(requested)
    costs = {SIZE: float(sum(f.stat().st_size for f in folder.glob("**/*") if f.is_file()))}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CostWarning)  # about costs that no gate needs
            costs |= analytic_costs(model, {names.PARAMETERS, *needed}, needed=needed)
        costs |= measured_costs(model, needed)
    except CostError as error:
        raise PromotionError(
            f"`thresholds` must be on costs that can be determined: {error}"
        ) from error
    return costs


def _shapes(predictions: object) -> str:
    if isinstance(predictions, dict | list | tuple):
        return f"{len(predictions)} outputs"
    return f"shape {getattr(predictions, 'shape', None)}"
