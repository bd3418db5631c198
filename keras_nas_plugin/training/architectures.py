"""Writes what a trial's model looks like beside its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras

from keras_nas_plugin.evaluation.graph import graph_of, is_functional
from keras_nas_plugin.files import write_text
from keras_nas_plugin.project import TrialLayout
from keras_nas_plugin.space.language.architecture import Vertex
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.training.bookkeeping import Bookkeeping

#: A drawing of more layers is too large to be read.
MAX_DRAWN = 400


def save_architecture(
    hypermodel: object, values: Values, folder: Path, bookkeeping: Bookkeeping
) -> None:
    """Write the architecture of a trial as JSON and as a picture.

    Nothing is written for a hypermodel without a method ``architecture``, such as a function
    ``build(hp)``; see `save_model_description`. No trial fails because of its picture.

    Args:
        hypermodel: The tuner's hypermodel.
        values: Active hyperparameters.
        folder: The trial's folder.
        bookkeeping: Reports why an architecture was not written.
    """
    if not hasattr(hypermodel, "architecture"):
        return
    with bookkeeping.step("the architecture of a trial was not written"):
        from keras_nas_plugin.reports.diagram import draw_architecture

        architecture = hypermodel.architecture(values)
        text = architecture.to_json()
        folder.mkdir(parents=True, exist_ok=True)
        layout = TrialLayout(folder)
        write_text(layout.architecture, text)
        draw_architecture(architecture, layout.picture)


def save_model_description(model: keras.Model, folder: Path, bookkeeping: Bookkeeping) -> None:
    """Write the layers of a trial's model as text, and as a picture if there is none.

    A space in this package's language has drawn its architecture. A model whose layers are no
    graph, such as a subclassed one, has no picture.

    Args:
        model: A built model.
        folder: The trial's folder.
        bookkeeping: Reports why a file was not written.
    """
    layout = TrialLayout(folder)
    with bookkeeping.step("the summary of a model was not written"):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(layout.model_summary, model_summary(model))
    if layout.architecture.exists() or not is_functional(model):
        return
    with bookkeeping.step("the diagram of a model was not drawn"):
        from keras_nas_plugin.reports.model_diagram import diagram_svg

        vertices = _vertices(model)
        if 0 < len(vertices) <= MAX_DRAWN:
            write_text(layout.picture, diagram_svg(vertices))


def model_summary(model: keras.Model) -> str:
    """The layers of a model as a table of plain text.

    `keras.Model.summary` takes ten times as long, and wraps its cells.

    Args:
        model: A built model.

    Returns:
        A line per layer, with those of nested models below them, and the number of weights.
    """
    rows = [("layer", "type", "output shape", "parameters"), *_rows(model.layers, "")]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join(
            [text.ljust(width) for text, width in zip(row[:3], widths, strict=False)]
            + [row[3].rjust(widths[3])]
        )
        for row in rows
    ]
    trainable = _count(model.trainable_weights)
    parameters = _count(model.weights)
    frozen = parameters - trainable
    total = f"{parameters:,} parameters: {trainable:,} trainable, {frozen:,} not trainable"
    optimizer = getattr(model, "optimizer", None)
    ends = [total] + ([f"optimizer: {type(optimizer).__name__}"] if optimizer is not None else [])
    heading = f"{type(model).__name__} {model.name}"
    return "\n".join([heading, "", lines[0], "-" * len(lines[0]), *lines[1:], "", *ends]) + "\n"


def _rows(
    layers: Sequence[keras.layers.Layer], indent: str
) -> Iterator[tuple[str, str, str, str]]:
    for layer in layers:
        parameters = f"{_count(layer.weights):,}" if layer.built else "not built"
        yield indent + layer.name, type(layer).__name__, _shape(layer), parameters
        if isinstance(layer, keras.Model):
            yield from _rows(layer.layers, indent + "  ")


def _shape(layer: keras.layers.Layer) -> str:
    """The shape of a layer's output; several calls may have several."""
    try:
        shapes = keras.tree.map_structure(lambda tensor: tuple(tensor.shape), layer.output)
    except (AttributeError, ValueError):  # it was not called in a graph of layers
        return "?"
    return str(shapes)


def _count(weights: Sequence[keras.Variable]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)


def _vertices(model: keras.Model) -> list[Vertex]:
    """The calls of layers of a model, with the shapes that they return."""
    graph = graph_of(model)
    vertices: list[Vertex] = []
    origin: dict[int, int] = {}
    for number, tensor in ((number, graph.tensors[number]) for number in graph.inputs):
        origin[number] = len(vertices)
        vertices.append(Vertex("input", {"": str(tuple(tensor.shape))}))
    for call in graph.calls:
        inputs = tuple(dict.fromkeys(origin[number] for number in call.reads if number in origin))
        shapes = [str(tuple(tensor.shape)) for tensor in call.outputs]
        for number in call.writes:
            origin[number] = len(vertices)
        vertices.append(Vertex(type(call.operation).__name__, {"": ", ".join(shapes)}, inputs))
    return vertices
