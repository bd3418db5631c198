"""Latency of models on another device, as the sum over a table of its operations.

Tables of measured operations, whose sum predicts the latency of a model, are common in
hardware-aware architecture search (Cai et al. 2019, "ProxylessNAS", section 3.3).
`write_operations` exports every distinct operation of some models; `device_latency.py`, which is
written beside them, measures these on the device; `LatencyTable` reads the result. The device also
measures the whole models, so that the error of the sum is known.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.errors import ArgumentError, CostError
from keras_nas_plugin.evaluation.flops import count_flops
from keras_nas_plugin.evaluation.graph import Call, Graph, graph_of, sizes_of
from keras_nas_plugin.evaluation.names import DEVICE_LATENCY
from keras_nas_plugin.export import device_latency
from keras_nas_plugin.export.exporting import random_rows
from keras_nas_plugin.export.inference import InferenceGraph, single_rows
from keras_nas_plugin.export.table import exporter_of
from keras_nas_plugin.files import write_json

if TYPE_CHECKING:
    import keras

# The converter merges these into a preceding convolution or matrix product.
_MERGED = ("BatchNormalization", "Activation", "ReLU")
_MERGING = ("Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "Dense")
# Layers that inference does not have.
_NOTHING = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout")
# What does not affect the time of a layer.
_IRRELEVANT = ("name", "trainable", "dtype", "seed", "rate", "build_config")


@dataclasses.dataclass(frozen=True)
class SumError:
    """Error of the sum over operations against the measured latency of whole models.

    Attributes:
        models: Number of models that the device measured as a whole.
        median: Median of the relative errors, absolute values.
        largest: The largest of them.
    """

    models: int
    median: float
    largest: float

    def __str__(self) -> str:
        return (
            f"sum over operations against {self.models} whole models: median error "
            f"{self.median:.0%}, largest {self.largest:.0%}"
        )


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of operations on a device, and of models as their sum.

    `NASTuner(measure=[table])` gives each trial the cost ``device_latency_ms``, which objectives
    and constraints may use.

    Attributes:
        device: The device, as it names itself.
        threads: Threads of an inference.
        quantize: Quantization of the operations, or None.
        overhead_ms: Milliseconds of an inference that computes nothing. It is part of the measured
            time of each operation, and counted once per model.
        operations: ``kind``, ``flops`` and ``p50_ms`` of each operation by its key.
        models: ``p50_ms`` and ``keys`` of the models that were measured as a whole.
    """

    device: str
    threads: int
    quantize: str | None
    overhead_ms: float
    operations: Mapping[str, Mapping[str, Any]]
    models: Sequence[Mapping[str, Any]] = ()

    #: The cost that the table determines.
    name = DEVICE_LATENCY

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """Read a table that `device_latency.py` wrote.

        Raises:
            ArgumentError: The file cannot be read, or is no such table.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            fields = {field.name for field in dataclasses.fields(cls)}
            return cls(**{name: value for name, value in data.items() if name in fields})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ArgumentError(
                f"`path` must be a table that device_latency.py wrote; got {str(path)!r}: {error}"
            ) from error

    def __call__(self, model: keras.Model) -> float:
        """Milliseconds of one inference of a model, as the sum over its operations.

        An operation that was not measured is interpolated between those of its kind by the number
        of multiply-adds.

        Args:
            model: A functional model, or a Sequential model with a known input.

        Raises:
            CostError: The model has an operation of a kind that the table does not have, or is no
                graph of layers.
        """
        return self.overhead_ms + sum(
            self._milliseconds(operation) for operation in operations_of(model)
        )

    def coverage(self, model: keras.Model) -> float:
        """Fraction of the operations of a model that were measured rather than interpolated."""
        keys = [operation.key for operation in operations_of(model)]
        return sum(key in self.operations for key in keys) / max(len(keys), 1)

    @property
    def error(self) -> SumError | None:
        """Error of the sum on the models that were measured; None if there are none."""
        errors = []
        for entry in self.models:
            total = self.overhead_ms + sum(self._net(self.operations[k]) for k in entry["keys"])
            errors.append(abs(total - entry["p50_ms"]) / entry["p50_ms"])
        if not errors:
            return None
        return SumError(len(errors), float(np.median(errors)), float(max(errors)))

    def _net(self, entry: Mapping[str, Any]) -> float:
        return max(0.0, float(entry["p50_ms"]) - self.overhead_ms)

    def _milliseconds(self, operation: Operation) -> float:
        entry = self.operations.get(operation.key)
        if entry is not None:
            return self._net(entry)
        kind, flops = operation.kind, operation.flops
        same = sorted(
            (float(other["flops"]), self._net(other))
            for other in self.operations.values()
            if other["kind"] == kind
        )
        if not same:
            raise CostError(
                f"`measure` must have a latency table with operations of the kind {kind} "
                f"({operation.name!r}); got one of {self.device} without them. Pass more models "
                "to `write_operations`, and measure again."
            )
        sizes, times = zip(*same, strict=True)
        beyond = flops / sizes[-1] if sizes[-1] and flops > sizes[-1] else 1.0
        return float(np.interp(flops, sizes, times)) * beyond


@dataclasses.dataclass(frozen=True)
class Operation:
    """A layer of a model, with the layers that the converter merges into it.

    Attributes:
        key: Equal for operations that take the same time.
        kind: Classes of the layers, such as ``"Conv2D+BatchNormalization"``.
        name: Name of the first layer.
        calls: The calls of the layers.
    """

    key: str
    kind: str
    name: str
    calls: tuple[Call, ...]

    def model(self) -> keras.Model:
        """A model of this operation alone, with the weights of its layers."""
        import keras

        inputs = list({id(tensor): tensor for tensor in self.calls[0].inputs}.values())
        outputs = list(self.calls[-1].outputs)
        return keras.Model(inputs, outputs)

    @property
    def flops(self) -> float:
        """Multiply-adds."""
        return float(count_flops(self.model()))


def operations_of(model: keras.Model) -> list[Operation]:
    """The operations of a model in order.

    Args:
        model: A functional model, or a Sequential model with a known input.

    Raises:
        CostError: The model is no graph of layers, or has inputs of unknown size.
    """
    return [_operation(calls) for calls in _merged(graph_of(model))]


def write_operations(
    models: Iterable[keras.Model], folder: str | Path, *, quantize: str | None = None
) -> int:
    """Export the distinct operations of some models, to be measured on a device.

    The folder is complete: ``python device_latency.py FOLDER`` on the device needs numpy and
    ai-edge-litert, and writes the table.

    Args:
        models: Models of the search space, such as 20 random ones.
        folder: The folder to create.
        quantize: Quantization of the operations: None, ``"int8"``, ``"float16"`` or
            ``"dynamic"``.

    Returns:
        Number of distinct operations.

    Raises:
        ExportError: An operation cannot be exported to LiteRT.
        CostError: A model is no graph of layers.
    """
    import keras

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, dict[str, Any]] = {}
    whole: list[dict[str, Any]] = []
    nothing = keras.Input((1,))
    _export(keras.Model(nothing, keras.layers.ReLU()(nothing)), folder / "overhead.tflite", None)
    for number, model in enumerate(models):
        operations = operations_of(model)
        for operation in operations:
            if operation.key not in entries:
                file = f"operation_{len(entries)}.tflite"
                _export(operation.model(), folder / file, quantize)
                entries[operation.key] = {
                    "file": file,
                    "kind": operation.kind,
                    "flops": operation.flops,
                }
        file = f"model_{number}.tflite"
        _export(model, folder / file, quantize)
        whole.append({"file": file, "keys": [operation.key for operation in operations]})
    write_json(
        folder / device_latency.MANIFEST,
        {
            "quantize": quantize,
            "overhead": {"file": "overhead.tflite"},
            "operations": entries,
            "models": whole,
        },
    )
    script = Path(device_latency.__file__)
    shutil.copy(script, folder / script.name)
    return len(entries)


def _export(model: keras.Model, path: Path, quantize: str | None) -> None:
    graph = InferenceGraph(model)
    rows = single_rows(random_rows(graph, 4), 4) if quantize == "int8" else []
    exporter_of("litert", quantize).convert(graph, path, quantize, rows)


def _merged(graph: Graph) -> Iterator[tuple[Call, ...]]:
    """Calls in groups that the converter turns into one operation."""
    readers: dict[int, list[int]] = {}
    calls = [call for call in graph.calls if _kind(call) not in _NOTHING]
    for index, call in enumerate(calls):
        for number in call.reads:
            readers.setdefault(number, []).append(index)
    taken: set[int] = set()
    for index, call in enumerate(calls):
        if index in taken:
            continue
        group = [call]
        while _kind(group[0]) in _MERGING:
            after = readers.get(group[-1].writes[0], [])
            is_output = group[-1].writes[0] in graph.outputs
            if len(after) != 1 or is_output or _kind(calls[after[0]]) not in _MERGED:
                break
            taken.add(after[0])
            group.append(calls[after[0]])
        yield tuple(group)


def _operation(calls: tuple[Call, ...]) -> Operation:
    kind = "+".join(map(_kind, calls))
    shapes = [sizes_of(call.inputs) for call in calls]
    arguments = [[repr(a) for a in _constants((call.args, call.kwargs))] for call in calls]
    settings = [_settings(call.operation) for call in calls]
    text = json.dumps([settings, shapes, arguments], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Operation(f"{kind} {digest}", kind, calls[0].operation.name, calls)


def _kind(call: Call) -> str:
    return type(call.operation).__name__


def _constants(structure: object) -> Iterator[Any]:
    import keras

    for value in keras.tree.flatten(structure):
        if not isinstance(value, keras.KerasTensor):
            yield value


def _settings(operation: Any) -> dict[str, Any]:
    """The configuration of a layer without what does not affect its time."""
    try:
        config: dict[str, Any] = operation.get_config()
    except NotImplementedError:  # operations without one
        return {}
    suffixes = ("_initializer", "_regularizer", "_constraint")
    return {
        name: value
        for name, value in config.items()
        if name not in _IRRELEVANT and not name.endswith(suffixes)
    }
