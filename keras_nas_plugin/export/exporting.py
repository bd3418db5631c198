"""Export a model: convert, load in the runtime of the format, compare, measure."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.errors import ExportError
from keras_nas_plugin.evaluation.latency import Latency, time_inference
from keras_nas_plugin.export.base import Exporter, Runtime, Tolerance
from keras_nas_plugin.export.comparison import Comparison, compare
from keras_nas_plugin.export.inference import InferenceGraph, single_rows
from keras_nas_plugin.export.table import exporter_of
from keras_nas_plugin.files import write_json

if TYPE_CHECKING:
    import keras

#: File beside an exported model with everything that a program needs to call it.
DESCRIPTION = "export.json"
#: Rows that quantization to int8 is calibrated with.
CALIBRATION_ROWS = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportResult:
    """An exported model, and how it compares with the Keras model.

    Attributes:
        format: Name of the format.
        quantize: The quantization, or None.
        folder: Folder of the exported file and its description, ``export.json``.
        file: Name of the exported file or folder in it.
        bytes: Size of the exported file.
        rows: Rows on which predictions were compared.
        largest_difference: Largest difference of any output: see `Tolerance`.
        mean_difference: Mean difference of the outputs.
        metric: ``"accuracy"`` or ``"mse"``; None without labels that fit the predictions.
        keras_score: The metric of the Keras model, or None.
        score: The metric of the exported model, or None.
        latency_p50_ms: Median milliseconds of the inference of one row, on one thread.
        latency_p95_ms: The 95th percentile.
        runtime: The library that ran it, with its version.
        inputs: Name, type and shape (of a row) of each input.
        class_names: Names of the classes in the order of the outputs, or None.
    """

    format: str
    quantize: str | None
    folder: str
    file: str
    bytes: int
    rows: int
    largest_difference: float
    mean_difference: float
    metric: str | None
    keras_score: float | None
    score: float | None
    latency_p50_ms: float
    latency_p95_ms: float
    runtime: str
    inputs: tuple[Mapping[str, Any], ...] = ()
    class_names: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """Format and quantization, such as ``"litert-int8"``."""
        return label_of(self.format, self.quantize)

    @property
    def path(self) -> Path:
        """The exported file or folder."""
        return Path(self.folder, self.file)

    def figures(self) -> dict[str, Any]:
        """What was compared and measured, as JSON types."""
        left_out = ("folder", "inputs", "class_names", "format", "quantize")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in left_out}


def label_of(format_name: str, quantize: str | None) -> str:
    """Format and quantization in one word.

    >>> label_of("litert", "int8"), label_of("onnx", None)
    ('litert-int8', 'onnx')
    """
    return f"{format_name}-{quantize}" if quantize else format_name


def export_model(
    model: keras.Model,
    format: str,
    folder: str | Path,
    *,
    quantize: str | None = None,
    data: tuple[Any, Any] | None = None,
    calibration: object = None,
    tolerance: float | None = None,
    max_metric_drop: float | None = None,
    class_names: Sequence[str] | None = None,
) -> ExportResult:
    """Convert a model, load it in the format's own runtime, compare and measure it.

    Nothing is written to ``folder`` unless the exported model predicts what the Keras model does.

    Args:
        model: A Keras model.
        format: ``"savedmodel"``, ``"litert"``, ``"onnx"`` or ``"openvino"``.
        folder: Folder for the exported file and ``export.json``; created if necessary.
        quantize: ``"int8"``, ``"float16"`` or ``"dynamic"``, as far as the format has it.
        data: Held-out rows ``(x, y)`` to compare on; ``y`` may be None. Without them, the
            predictions for one row of random numbers are compared.
        calibration: Rows of training inputs; the first 200 set the ranges of ``"int8"``.
        tolerance: Allowed difference of the outputs in place of the format's.
        max_metric_drop: Allowed loss of the metric in place of the format's.
        class_names: Names of the classes, for ``export.json``.

    Raises:
        ExportError: The model cannot be converted (the message names the layer and what to write
            instead), the runtime refuses the file, or predictions differ by more than the
            tolerance.
    """
    exporter = exporter_of(format, quantize)
    rows, y = data if data is not None else (None, None)
    graph = InferenceGraph(model, _first_rows(rows if rows is not None else calibration))
    calibrating = _calibration(graph, quantize, calibration)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, exporter.file)
        exporter.convert(graph, path, quantize, calibrating)
        runtime = exporter.load(path, threads=1)
        x = random_rows(graph, 1) if rows is None else graph.arrays(rows)
        comparison = _compared(graph, runtime, x, y)
        allowed = _tolerance(exporter, quantize, tolerance, max_metric_drop)
        comparison.check(allowed, f"the {label_of(format, quantize)} export")
        latency = measure(runtime, x)
        result = ExportResult(
            format=format,
            quantize=quantize,
            folder=str(folder),
            file=exporter.file,
            bytes=size_of(path),
            **{
                field.name: getattr(comparison, field.name)
                for field in dataclasses.fields(Comparison)
            },
            latency_p50_ms=latency.p50_ms,
            latency_p95_ms=latency.p95_ms,
            runtime=exporter.runtime_version(),
            inputs=tuple(map(dataclasses.asdict, graph.inputs)),
            class_names=None if class_names is None else tuple(class_names),
        )
        _move(path, Path(folder))
    write_json(Path(folder, DESCRIPTION), _description(result))
    return result


def measure(runtime: Runtime, x: Mapping[str, np.ndarray]) -> Latency:
    """Time the inference of one row."""
    row = {name: values[:1] for name, values in x.items()}
    return time_inference(lambda: runtime.predict(row))


def random_rows(graph: InferenceGraph, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of uniform random numbers in [0, 1): zeros for integers, empty strings for texts."""
    rng = np.random.default_rng(seed)
    rows = {}
    for name, array in graph.zeros().items():
        repeated = np.repeat(array, count, axis=0)
        is_real = array.dtype.kind == "f"
        rows[name] = rng.random(repeated.shape).astype(array.dtype) if is_real else repeated
    return rows


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.glob("**/*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _compared(graph: InferenceGraph, runtime: Runtime, x: Any, y: Any) -> Comparison:
    try:
        predicted = runtime.predict(x)
    except (RuntimeError, ValueError) as error:
        raise ExportError(
            f"`x` must have rows that the exported model can predict; it raised {error}"
        ) from error
    return compare(graph.predict(x), predicted, None if y is None else np.asarray(y))


def _calibration(
    graph: InferenceGraph, quantize: str | None, rows: object
) -> list[dict[str, np.ndarray]]:
    if quantize != "int8":
        return []
    if rows is None:
        raise ExportError(
            "`calibration` must hold training rows for `quantize='int8'`, which takes the ranges "
            "of the activations from them; got None"
        )
    return single_rows(graph.arrays(_first_rows(rows, CALIBRATION_ROWS)), CALIBRATION_ROWS)


def _first_rows(rows: object, count: int = 8) -> Any:
    import keras

    if rows is None or hasattr(rows, "iloc"):
        return rows if rows is None else rows.iloc[:count]
    return keras.tree.map_structure(lambda values: values[:count], rows)


def _tolerance(
    exporter: Exporter, quantize: str | None, difference: float | None, drop: float | None
) -> Tolerance:
    allowed = exporter.tolerances[quantize]
    if difference is not None:
        limited = "largest" if allowed.largest is not None else "mean"
        allowed = dataclasses.replace(allowed, **{limited: difference})
    return allowed if drop is None else dataclasses.replace(allowed, metric_drop=drop)


def _description(result: ExportResult) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(result).items() if name != "folder"}


def _move(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    if target.is_dir():
        shutil.rmtree(target)
    elif target.exists():
        target.unlink()
    shutil.move(path, target)
