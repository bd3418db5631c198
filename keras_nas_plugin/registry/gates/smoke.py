"""Whether a process that knows nothing of this one can load the model and predict with it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_nas_plugin.registry.gates.base import Evidence, Finding, PromotionError
from keras_nas_plugin.registry.rows import first_rows

# What `mlflow models serve` does with a request: load the files as a pyfunc, give it rows of
# the types that its signature names. It imports nothing of this package, which a server lacks.
_PROGRAM = """
import sys
import numpy as np
import mlflow.pyfunc
folder, inputs, outputs, kind = sys.argv[1:]
model = mlflow.pyfunc.load_model(folder)
with np.load(inputs) as archive:
    arrays = {name: archive[name] for name in archive.files}
schema = model.metadata.get_input_schema()
specs = list(schema.inputs) if schema is not None and schema.is_tensor_spec() else []
if kind == "list" and specs:
    arrays = {spec.name: arrays[str(i)] for i, spec in enumerate(specs)}
types = {spec.name or "rows": spec.type for spec in specs}
arrays = {name: array.astype(types.get(name, array.dtype)) for name, array in arrays.items()}
if kind == "array":
    arrays = arrays["rows"]
elif kind == "list" and not specs:
    arrays = [arrays[str(i)] for i in range(len(arrays))]
predicted = model.predict(arrays)
if isinstance(predicted, (dict, list)) and len(predicted) == 1:
    (predicted,) = predicted.values() if isinstance(predicted, dict) else predicted
predicted = np.asarray(predicted)
np.save(outputs, predicted.astype("float64"))
"""

# Predictions of other batch sizes differ in their last digits; those of float16 in more.
_TOLERANCE = {2: 2e-2, 4: 1e-3, 8: 1e-3}


@dataclasses.dataclass(frozen=True)
class FreshProcess:
    """Loads the challenger's files in a new process and predicts the first rows.

    The process starts in an empty folder, so that code which lies beside the user's script is
    not found by chance. What it predicts has to be what this process predicted.

    Args:
        rows: How many rows are predicted.
        timeout: Seconds after which the process counts as hanging.
    """

    rows: int = 4
    timeout: float = 300.0

    @property
    def costs(self) -> tuple[str, ...]:
        """None."""
        return ()

    def check(self, evidence: Evidence) -> Finding:
        """See `Gate.check`."""
        folder = evidence.challenger.folder
        if folder is None:
            raise PromotionError("the fresh process needs the model's files; received none")
        began = time.monotonic()
        try:
            predicted = _predict(folder, first_rows(evidence.x, self.rows), self.timeout)
        except _ProcessFailed as error:
            numbers = {"seconds": time.monotonic() - began}
            return Finding("fresh process", False, str(error), numbers)
        return self._compare(predicted, evidence, time.monotonic() - began)

    def _compare(self, predicted: np.ndarray, evidence: Evidence, seconds: float) -> Finding:
        here = evidence.challenger.predictions
        expected = here[: self.rows].astype(float)
        tolerance = _TOLERANCE.get(here.dtype.itemsize, 1e-3)
        numbers = {"rows": len(expected), "seconds": seconds, "tolerance": tolerance}
        if predicted.shape != expected.shape:
            message = f"predicts shape {predicted.shape} instead of {expected.shape}"
            return Finding("fresh process", False, message, numbers)
        off = float(np.max(np.abs(predicted - expected), initial=0.0))
        same = bool(np.allclose(predicted, expected, rtol=tolerance, atol=tolerance))
        message = (
            f"loads and predicts {len(expected)} rows in {seconds:.1f} s, at most {off:.2g} off"
        )
        return Finding("fresh process", same, message, numbers | {"largest_difference": off})


class _ProcessFailed(Exception):
    """The process died, hung or gave nothing."""


def _predict(folder: Path, rows: Any, timeout: float) -> np.ndarray:
    kind, arrays = "array", {"rows": rows}
    if isinstance(rows, Mapping):
        kind, arrays = "dict", dict(rows)
    elif isinstance(rows, list | tuple):
        kind, arrays = "list", {str(number): array for number, array in enumerate(rows)}
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true", **os.environ}
    with tempfile.TemporaryDirectory() as empty:
        inputs, outputs = (os.path.join(empty, name) for name in ("inputs.npz", "outputs.npy"))
        np.savez(inputs, **arrays)
        command = [sys.executable, "-c", _PROGRAM, str(Path(folder).resolve()), inputs, outputs]
        try:
            done = subprocess.run(
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
            raise _ProcessFailed(f"gives no answer within {timeout:g} s") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise _ProcessFailed(f"fails: {lines[-1]}")
        return np.load(outputs)
