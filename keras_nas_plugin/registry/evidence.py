"""What two versions of a model do on the same rows, computed once for all gates."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation import names
from keras_nas_plugin.registry.gates.base import Candidate, PromotionError
from keras_nas_plugin.registry.gates.thresholds import SIZE
from keras_nas_plugin.registry.rows import as_arrays, leaves


class UnusableModelError(PromotionError):
    """A version that cannot be loaded."""


def check_data(x: Any, y: Any) -> tuple[Any, np.ndarray]:
    """Held-out data as arrays.

    Args:
        x: Inputs: an array, or a list or dictionary of arrays.
        y: Labels or targets, by row.

    Raises:
        PromotionError: They are not arrays of as many rows, or there are none.
    """
    inputs, targets = as_arrays(x, "x"), as_arrays(y, "y")
    if not isinstance(targets, np.ndarray):
        raise PromotionError(f"`y` needs one array; received {type(y).__name__}")
    rows = len(leaves(inputs)[0])
    if rows != len(targets) or rows == 0:
        raise PromotionError(
            f"`x` and `y` need as many rows, at least one; received {rows} and {len(targets)}"
        )
    if targets.dtype.kind in "fc" and not np.all(np.isfinite(targets)):
        raise PromotionError("`y` needs finite numbers; received NaN or infinite ones")
    return inputs, targets


def examine(
    folder: Path,
    version: str,
    x: Any,
    *,
    batch_size: int = 32,
    costs: Collection[str] = (),
) -> Candidate:
    """Load a version from its files, predict the rows and find out what it costs.

    Args:
        folder: The version's files, in MLflow's format.
        version: Its number.
        x: Inputs, as `check_data` gives them.
        batch_size: Rows per step.
        costs: Names of further costs that are wanted.

    Raises:
        UnusableModelError: It cannot be loaded.
        PromotionError: It does not take these rows, gives several outputs, or a cost cannot be
            found.
    """
    model = _load(folder, version)
    try:
        predictions = model.predict(x, batch_size=batch_size, verbose=0)
    except Exception as error:  # Keras and its backends raise their own
        raise PromotionError(
            f"`x` needs rows that version {version} can predict; it raised {_brief(error)}"
        ) from error
    rows = len(leaves(x)[0])
    if not isinstance(predictions, np.ndarray) or len(predictions) != rows:
        raise PromotionError(
            f"version {version} needs one output with a row for each of the {rows} rows of `x`; "
            f"received {_shapes(predictions)}"
        )
    if predictions.dtype.kind not in "biuf":  # bfloat16 is no type of numpy's own
        predictions = predictions.astype("float32")
    return Candidate(version, predictions, _costs(model, folder, costs), folder)


def _load(folder: Path, version: str) -> Any:
    import mlflow.tensorflow

    try:
        model = mlflow.tensorflow.load_model(str(folder))
    except Exception as error:  # MLflow, Keras and pickle raise their own
        raise UnusableModelError(f"version {version} cannot be loaded: {_brief(error)}") from error
    if not hasattr(model, "predict"):
        raise UnusableModelError(
            f"version {version} needs to be a Keras model; received {type(model).__name__}"
        )
    return model


def _costs(model: Any, folder: Path, wanted: Collection[str]) -> dict[str, float]:
    from keras_nas_plugin.evaluation.costs import analytic_costs, measured_costs
    from keras_nas_plugin.evaluation.flops import CostWarning

    needed = names.costs_among(wanted)
    found = {SIZE: float(sum(f.stat().st_size for f in folder.glob("**/*") if f.is_file()))}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CostWarning)  # nobody asked for it: it is left out
            found |= analytic_costs(model, {names.PARAMETERS, *needed}, needed=needed)
        found |= measured_costs(model, needed)
    except CostError as error:
        raise PromotionError(f"`thresholds` needs costs that can be found: {error}") from error
    return found


def _shapes(predictions: Any) -> str:
    if isinstance(predictions, dict | list | tuple):
        return f"{len(predictions)} outputs"
    return f"shape {getattr(predictions, 'shape', None)}"


def _brief(error: Exception) -> str:
    """What went wrong, in one line: which of many says it differs from library to library."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:500]}"
