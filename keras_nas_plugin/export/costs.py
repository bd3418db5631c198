"""Properties of exported models as costs of a search: bytes, latency, accuracy."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.errors import CostError, ExportError
from keras_nas_plugin.evaluation.names import (
    ACCURACY,
    BYTES,
    EXPORTABLE,
    EXPORTED,
    LATENCY,
    LATENCY_P95,
    MSE,
    ExportedCost,
)
from keras_nas_plugin.export.comparison import has_accuracy
from keras_nas_plugin.export.exporting import (
    CALIBRATION_ROWS,
    measure,
    random_rows,
    size_of,
)
from keras_nas_plugin.export.inference import InferenceGraph, single_rows
from keras_nas_plugin.export.table import exporter_of
from keras_nas_plugin.registry.metrics import resolve_metric

if TYPE_CHECKING:
    import keras

# Enough for the ranges of activations of a model that is not trained yet: its bytes and its
# latency do not depend on them.
_RANDOM_ROWS = 4
# What is added to weights that are all equal before training: see `_as_if_trained`.
_NOISE = 0.1
_LATENCIES = (LATENCY, LATENCY_P95)


@dataclasses.dataclass(frozen=True)
class ExportRows:
    """Rows of the search for exported models.

    Attributes:
        calibration: Training inputs for the ranges of ``int8``, or None.
        x: Validation inputs, or None.
        y: Validation labels or targets, or None.
    """

    calibration: Any = None
    x: Any = None
    y: Any = None


def check_exporters(costs: Iterable[str]) -> None:
    """Check that the libraries for these costs are installed.

    Args:
        costs: Names of costs; those of no exported model are ignored.

    Raises:
        CostError: One is missing.
    """
    for cost in filter(None, map(EXPORTED.get, costs)):
        try:
            exporter_of(cost.format, cost.quantize)
        except ExportError as error:
            raise CostError(f"`{cost.name}` cannot be determined: {error}") from error


def exported_costs(
    model: keras.Model,
    requested: Iterable[str],
    rows: ExportRows | None = None,
    *,
    trained: bool = True,
) -> tuple[dict[str, float], dict[str, str]]:
    """Costs of a model after its conversion to other formats.

    Args:
        model: A built model.
        requested: Names among `names.EXPORTED`; others are ignored.
        rows: Rows of the search; None for random numbers, which is enough for all costs but the
            accuracy and the error.
        trained: Whether the model is trained. The files of a model with initial weights are
            smaller than those that it will have, because biases of zero are stored once for all
            layers: such weights are varied for the time of the export.

    Returns:
        The costs by name, and why the model cannot be exported, by the name of the cost
        ``..._exportable``. A format to which it cannot be converted has this cost only, with the
        value 0.

    Raises:
        CostError: The accuracy or the error of the model cannot be determined.
    """
    costs: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for (format_name, quantize), quantities in _by_format(requested).items():
        try:
            with contextlib.nullcontext() if trained else _as_if_trained(model):
                values = _costs_of(model, format_name, quantize, quantities, rows or ExportRows())
        except ExportError as error:
            reasons[ExportedCost(format_name, quantize, EXPORTABLE).name] = str(error)
            values = {EXPORTABLE: 0.0}
        for quantity, value in values.items():
            costs[ExportedCost(format_name, quantize, quantity).name] = value
    return costs, reasons


@contextlib.contextmanager
def _as_if_trained(model: keras.Model) -> Iterator[None]:
    """Give weights that are all equal (initial biases, scales, moments) different values."""
    initial = model.get_weights()
    rng = np.random.default_rng(0)
    model.set_weights(
        [
            weight + rng.uniform(0, _NOISE, weight.shape).astype(weight.dtype)
            if weight.size and weight.dtype.kind == "f" and np.all(weight == weight.flat[0])
            else weight
            for weight in initial
        ]
    )
    try:
        yield
    finally:
        model.set_weights(initial)


def _by_format(requested: Iterable[str]) -> dict[tuple[str, str | None], set[str]]:
    groups: dict[tuple[str, str | None], set[str]] = {}
    for cost in filter(None, map(EXPORTED.get, requested)):
        groups.setdefault((cost.format, cost.quantize), set()).add(cost.quantity)
    return groups


def _costs_of(
    model: keras.Model,
    format_name: str,
    quantize: str | None,
    quantities: set[str],
    rows: ExportRows,
) -> dict[str, float]:
    exporter = exporter_of(format_name, quantize)
    sample = rows.calibration if rows.calibration is not None else rows.x
    graph = InferenceGraph(model, sample)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, exporter.file)
        exporter.convert(graph, path, quantize, list(_calibration(graph, quantize, rows)))
        runtime = exporter.load(path, threads=1)
        x = random_rows(graph, 1)
        runtime.predict(x)  # a model that its runtime cannot run is not exported
        costs = {EXPORTABLE: 1.0, BYTES: float(size_of(path))}
        if not quantities.isdisjoint(_LATENCIES):
            latency = measure(runtime, x)
            costs |= {LATENCY: latency.p50_ms, LATENCY_P95: latency.p95_ms}
        for metric in quantities & {ACCURACY, MSE}:
            costs[metric] = _score(metric, rows, graph, runtime)
    return {name: value for name, value in costs.items() if name in quantities}


def _calibration(
    graph: InferenceGraph, quantize: str | None, rows: ExportRows
) -> Iterator[dict[str, np.ndarray]]:
    if quantize != "int8":
        return
    if rows.calibration is None:
        yield from single_rows(random_rows(graph, _RANDOM_ROWS), _RANDOM_ROWS)
    else:
        yield from single_rows(graph.arrays(rows.calibration), CALIBRATION_ROWS)


def _score(metric: str, rows: ExportRows, graph: InferenceGraph, runtime: Any) -> float:
    if rows.x is None or rows.y is None:
        raise CostError(
            f"`validation_data` must be arrays for the {metric} of an exported model; got none"
        )
    predicted = runtime.predict(graph.arrays(rows.x))
    if len(predicted) != 1:
        raise CostError(
            f"`hypermodel` must build models with one output for the {metric} of an exported "
            f"model; got {len(predicted)} outputs"
        )
    (values,) = predicted.values()
    y = np.asarray(rows.y)
    if metric == ACCURACY and not has_accuracy(y, values):
        raise CostError(
            "`validation_data` must have labels of classes for the accuracy of an exported model; "
            f"got targets of type {y.dtype} and shape {y.shape}. Use its `mse`."
        )
    return resolve_metric(metric).value(y, values)
