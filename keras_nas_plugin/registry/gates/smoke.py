"""Whether a fresh process, independent of this one, can load the model and predict with it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_nas_plugin.files import read_json
from keras_nas_plugin.registry.gates.base import Evidence, Finding, PromotionError
from keras_nas_plugin.registry.rows import Rows, first_rows
from keras_nas_plugin.registry.served_model import DESCRIPTION, probabilities

# What `mlflow models serve` does with a request: load the files as a pyfunc, and pass it rows of
# the types in its signature. It imports nothing of this package, which a server does not have.
_PROGRAM = """
import json
import sys
import numpy as np
import mlflow.pyfunc
folder, inputs, outputs, kind = sys.argv[1:]
model = mlflow.pyfunc.load_model(folder)
with np.load(inputs) as archive:
    arrays = {name: archive[name] for name in archive.files}
for name in [name for name in arrays if name.startswith("json:")]:
    rows = json.loads(str(arrays.pop(name)))
    arrays[name.removeprefix("json:")] = np.array([*rows, None], dtype=object)[:-1]
schema = model.metadata.get_input_schema()
specs = list(schema.inputs) if schema is not None else []
if kind == "list" and specs:
    arrays = {spec.name: arrays[str(i)] for i, spec in enumerate(specs)}
if kind == "array" and len(specs) > 1:
    import pandas as pd
    types = {spec.name: spec.type.to_numpy() for spec in specs}
    arrays = pd.DataFrame(arrays["rows"], columns=list(types)).astype(types)
elif schema is not None and not schema.is_tensor_spec():
    import pandas as pd
    scalars = {spec.name or "rows" for spec in specs if hasattr(spec.type, "to_numpy")}
    if kind == "array" and specs[0].name:
        scalars, arrays = scalars & {specs[0].name}, {specs[0].name: arrays["rows"]}
    arrays = pd.DataFrame({
        name: (array.reshape(len(array)) if name in scalars else array).tolist()
        for name, array in arrays.items()
    })
else:
    types = {spec.name or "rows": spec.type for spec in specs}
    arrays = {name: array.astype(types.get(name, array.dtype)) for name, array in arrays.items()}
    if kind == "array":
        arrays = arrays["rows"]
    elif kind == "list" and not specs:
        arrays = [arrays[str(i)] for i in range(len(arrays))]
predicted = model.predict(arrays)
if hasattr(predicted, "columns"):  # the classes are known
    predicted = [list(row.values()) for row in predicted["probabilities"]]
elif isinstance(predicted, (dict, list)) and len(predicted) == 1:
    (predicted,) = predicted.values() if isinstance(predicted, dict) else predicted
predicted = np.asarray(predicted)
np.save(outputs, predicted.astype("float64"))
"""

# Tolerance by bytes per number. Predictions differ in their last digits between batch sizes, and
# by more in float16.
_TOLERANCE = {2: 2e-2, 4: 1e-3, 8: 1e-3}


@dataclasses.dataclass(frozen=True)
class FreshProcess:
    """Loads the challenger's files in a new process and predicts the first rows.

    The process starts in an empty folder, so that it cannot import code that happens to be in the
    current one. Its predictions must equal those of this process.

    Args:
        rows: Number of rows to predict.
        timeout: Seconds after which the process is killed and the gate refuses.
    """

    rows: int = 4
    timeout: float = 300.0

    @property
    def costs(self) -> tuple[str, ...]:
        """Empty: this gate needs no costs."""
        return ()

    def check(self, evidence: Evidence) -> Finding:
        """See `Gate.check`."""
        folder = evidence.challenger.folder
        if folder is None:
            raise PromotionError(
                "`challenger` must have a folder with its files; got a candidate without one"
            )
        began = time.monotonic()
        try:
            predicted = _predict(folder, first_rows(evidence.x, self.rows), self.timeout)
        except _ProcessFailed as error:
            numbers = {"seconds": time.monotonic() - began}
            return Finding("fresh process", False, str(error), numbers)
        return self._compare(predicted, evidence, time.monotonic() - began)

    def _compare(self, predicted: np.ndarray, evidence: Evidence, seconds: float) -> Finding:
        predictions = evidence.challenger.predictions
        expected = _served(predictions[: self.rows].astype(float), evidence.challenger.folder)
        tolerance = _TOLERANCE.get(predictions.dtype.itemsize, 1e-3)
        numbers: dict[str, float] = {
            "rows": len(expected),
            "seconds": seconds,
            "tolerance": tolerance,
        }
        if predicted.shape != expected.shape:
            message = f"predicts shape {predicted.shape} instead of {expected.shape}"
            return Finding("fresh process", False, message, numbers)
        difference = float(np.max(np.abs(predicted - expected), initial=0.0))
        equal = bool(np.allclose(predicted, expected, rtol=tolerance, atol=tolerance))
        message = (
            f"loads and predicts {len(expected)} rows in {seconds:.1f} s, "
            f"at most {difference:.2g} off"
        )
        numbers["largest_difference"] = difference
        return Finding("fresh process", equal, message, numbers)


def _served(predictions: np.ndarray, folder: Path | None) -> np.ndarray:
    """What a server answers in place of these predictions: probabilities of known classes."""
    path = Path(folder or ".", "data", DESCRIPTION)
    classes = read_json(path)["classes"] if path.exists() else None
    if classes is None:
        return predictions
    return probabilities(predictions, classes["kind"], classes["logits"])


def _stored(item: tuple[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """An array as a file without pickled objects holds it: rows of different lengths as JSON."""
    name, array = item
    if not array.dtype.hasobject:
        return item
    rows = [row.tolist() if isinstance(row, np.ndarray) else row for row in array]
    return f"json:{name}", np.array(json.dumps(rows))


class _ProcessFailed(Exception):
    """The process failed or timed out."""


def _predict(folder: Path, rows: Rows, timeout: float) -> np.ndarray:
    arrays: dict[str, np.ndarray]
    if isinstance(rows, Mapping):
        kind, arrays = "dict", dict(rows)
    elif isinstance(rows, np.ndarray):
        kind, arrays = "array", {"rows": rows}
    else:
        kind, arrays = "list", {str(number): array for number, array in enumerate(rows)}
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true", **os.environ}
    with tempfile.TemporaryDirectory() as empty:
        inputs, outputs = (os.path.join(empty, name) for name in ("inputs.npz", "outputs.npy"))
        np.savez(inputs, allow_pickle=False, **dict(map(_stored, arrays.items())))
        command = [sys.executable, "-c", _PROGRAM, str(Path(folder).resolve()), inputs, outputs]
        try:
            process = subprocess.run(
                [*command, kind],
                cwd=empty,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _ProcessFailed(f"does not answer within {timeout:g} s") from error
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            raise _ProcessFailed(f"fails: {lines[-1]}")
        return np.load(outputs)
