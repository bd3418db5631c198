"""Names the layer that prevents an export, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from keras_nas_plugin.errors import ExportError
from keras_nas_plugin.evaluation.graph import all_layers, layer_label
from keras_nas_plugin.export.inference import InferenceGraph

if TYPE_CHECKING:
    import keras

#: Formats by name, as people write them.
TITLES = {
    "savedmodel": "SavedModel",
    "litert": "LiteRT",
    "onnx": "ONNX",
    "openvino": "OpenVINO",
}
_TEXT_LAYERS = ("TextVectorization", "StringLookup", "Hashing", "HashedCrossing")
# Types of loops and branches.
_CONTROL_FLOW = ("While", "StatelessWhile", "If", "StatelessIf")
# Advice by class of the layer, then by operation; the first that applies is given.
_BY_LAYER = {
    "LSTM": "write `LSTM(..., unroll=True)`",
    "GRU": "write `GRU(..., unroll=True)`",
    "SimpleRNN": "write `SimpleRNN(..., unroll=True)`",
    "Bidirectional": "write `unroll=True` in the layer that it wraps",
    "RNN": "write `RNN(..., unroll=True)`",
    "MelSpectrogram": "compute spectrograms before the model, and let the model take them",
    "STFTSpectrogram": "compute spectrograms before the model, and let the model take them",
}
_BY_OPERATION = {
    "Erfc": "write `keras.activations.gelu(x, approximate=True)`, or "
    "`lambda x: keras.activations.gelu(x, approximate=True)` as `activation`",
    "Erf": "write `keras.activations.gelu(x, approximate=True)`",
    "Einsum": "write `keras.ops.matmul` of reshaped tensors in place of `keras.ops.einsum`",
    "FFT": "compute spectra before the model, and let the model take them",
    "RFFT": "compute spectra before the model, and let the model take them",
    "TensorListReserve": "write `unroll=True` in the recurrent layer",
    "StatelessWhile": "write `unroll=True` in the recurrent layer, or a loop of constant length",
    "While": "write `unroll=True` in the recurrent layer, or a loop of constant length",
    "LookupTableFindV2": "look strings up before the model, and let the model take numbers",
}
_GENERAL = "replace it by layers that the format has, or export as `savedmodel`"


def check_layers(graph: InferenceGraph, exporter_name: str) -> None:
    """Refuse a model with layers that take strings.

    Args:
        graph: The model.
        exporter_name: A format that has no strings.

    Raises:
        ExportError: The model has such a layer, or an input of strings.
    """
    title = TITLES[exporter_name]
    texts = [spec.name for spec in graph.inputs if spec.dtype == "string"]
    layers = [
        layer
        for layer in all_layers(graph.model)
        if _class_of(layer) in _TEXT_LAYERS and (texts or _has_strings(layer))
    ]
    inner = {id(part) for layer in layers for part in layer._flatten_layers(include_self=False)}
    layers = [layer for layer in layers if id(layer) not in inner]
    if layers:
        part = "a model of the layers after all of its preprocessing"
        if len(graph.inputs) == len(layers) == 1:
            part = (
                "the part after it, "
                f"`keras.Model(model.get_layer({layers[0].name!r}).output, model.output)`"
            )
        names = ", ".join(dict.fromkeys(map(layer_label, layers)))
        raise ExportError(
            f"{names} must not be part of a model for {title}, which has no strings. Use the "
            f"format `savedmodel`, or export {part}, and compute what comes before in your own "
            "program."
        )
    if texts:
        raise ExportError(
            f"`model` must take numbers for {title}, which has no strings; got strings for the "
            f"input {texts[0]!r}. Use the format `savedmodel`."
        )


def check_loops(graph: InferenceGraph, what: str) -> None:
    """Refuse a model with loops or branches, such as those of recurrent layers.

    Args:
        graph: The model.
        what: The format, for the message.

    Raises:
        ExportError: The model has one.
    """
    kinds = {kind for kind, _ in traced_operations(graph)}
    loops = [kind for kind in _CONTROL_FLOW if kind in kinds]
    if loops:
        raise obstacle(graph, "litert", loops, "", title=what)


def obstacle(
    graph: InferenceGraph,
    exporter_name: str,
    operations: Iterable[str],
    detail: str,
    *,
    title: str | None = None,
) -> ExportError:
    """The error for a model with operations that a format does not have.

    Args:
        graph: The model.
        exporter_name: The format.
        operations: Types of the operations, as TensorFlow names them; empty if unknown.
        detail: What the converter or the runtime said, in one line.
        title: The format as the message names it; None for its name.
    """
    title = title or TITLES[exporter_name]
    operations = list(dict.fromkeys(operations))
    for layer in all_layers(graph.model):
        if getattr(layer, "quantization_mode", None) is not None and exporter_name == "litert":
            return ExportError(
                f"{layer_label(layer)} stands in the way of an export to {title}, because "
                "`model.quantize` of Keras has quantized it: export the model as it was before, "
                'with `quantize="int8"`'
            )
    for operation, layer in _culprits(graph, operations):
        return ExportError(
            f"{layer_label(layer)} stands in the way of an export to {title}, which has no "
            f"operation {operation}: {_advice(layer, operation)}"
        )
    if operations:
        advice = next((_BY_OPERATION[o] for o in operations if o in _BY_OPERATION), _GENERAL)
        return ExportError(
            f"`model` must not contain the operation {operations[0]} for an export to {title}: "
            f"{advice}"
        )
    return ExportError(f"`model` must be one that {title} can hold; got {detail}")


def _advice(layer: keras.Layer, operation: str) -> str:
    by_operation = _BY_OPERATION.get(operation.removeprefix("Flex"), _GENERAL)
    return _BY_LAYER.get(_class_of(layer), by_operation)


def _culprits(
    graph: InferenceGraph, operations: Iterable[str]
) -> Iterator[tuple[str, keras.Layer]]:
    """The operations with the layers that contain them."""
    names = {layer.name: layer for layer in all_layers(graph.model)}
    traced = list(traced_operations(graph))
    for operation in operations:
        operation_type = operation.removeprefix("Flex").lower()
        for kind, path in traced:
            if kind.lower() != operation_type:
                continue
            parts = path.split("/")
            # Keras numbers every scope of a model that was called before.
            numbered = re.fullmatch(rf"{re.escape(graph.model.name)}_\d+", parts[0]) is not None
            for part in reversed(parts):
                name = re.sub(r"_\d+$", "", part) if numbered else part
                if name in names:
                    yield operation, names[name]
                    break


def traced_operations(graph: InferenceGraph) -> Iterator[tuple[str, str]]:
    """Type and name of every operation in the graph of a model, loop bodies included."""
    concrete = graph.function(1).get_concrete_function()
    for operation in concrete.graph.get_operations():
        yield operation.type, operation.name
    for function in concrete.graph.as_graph_def().library.function:
        for node in function.node_def:
            yield node.op, f"{function.signature.name}/{node.name}"


def _has_strings(layer: keras.Layer) -> bool:
    vocabulary = getattr(layer, "vocabulary_dtype", None)
    return vocabulary in (None, "string") or _class_of(layer) == "TextVectorization"


def _class_of(layer: object) -> str:
    return type(layer).__name__
