"""The layers of a model at any depth, and their kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras

# These call their layers in loops that the backend may trace: such layers cannot be observed.
_LOOPS = (keras.layers.RNN, keras.layers.Wrapper)

NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.UnitNormalization,
    keras.layers.RMSNormalization,
    keras.layers.Normalization,
)
_ACTIVATIONS = (
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
    keras.layers.Softmax,
)
# Operations of `keras.ops` in functional models; their classes have no public names.
_ACTIVATION_OPERATIONS = frozenset(
    "relu relu6 leakyrelu elu selu celu gelu silu hardsilu squareplus softplus softsign sigmoid "
    "hardsigmoid hardtanh tanh softmax logsoftmax logsigmoid".split()
)


def children(operation: keras.Operation) -> list[keras.Operation]:
    """Layers and operations in the attributes of an operation, also in lists and dictionaries.

    A layer that serves as the activation function of another layer is not a child.
    """
    if isinstance(operation, _LOOPS):
        return []
    by_id: dict[int, keras.Operation] = {}
    for value in vars(operation).values():
        by_id |= {id(child): child for child in _operations_in(value)}
    for own in (operation, fused(operation)):
        by_id.pop(id(own), None)
    return list(by_id.values())


def fused(operation: keras.Operation) -> Callable[..., Any] | None:
    """The activation function that a layer stores as an attribute and applies, or None.

    Recurrent layers do not count: their attribute is that of their cell, which is applied in a
    loop.
    """
    of_cell = isinstance(getattr(type(operation), "activation", None), property)
    function = None if of_cell else getattr(operation, "activation", None)
    return function if callable(function) else None


def walk(model: keras.Operation) -> list[keras.Operation]:
    """The model and all layers and operations in it, each once."""
    by_id: dict[int, keras.Operation] = {}
    waiting = [model]
    while waiting:
        operation = waiting.pop()
        if id(operation) not in by_id:
            by_id[id(operation)] = operation
            waiting.extend(children(operation))
    return list(by_id.values())


def _operations_in(value: object) -> Iterator[keras.Operation]:
    if isinstance(value, keras.Operation):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _operations_in(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _operations_in(item)


def is_transparent(operation: keras.Operation) -> bool:
    """Whether an operation does nothing but call the nodes of its graph."""
    if isinstance(operation, keras.Sequential):
        return True
    return isinstance(operation, keras.Model) and hasattr(operation, "operations")


def activation_of(operation: keras.Operation) -> str:
    """Lower-case name of an activation layer or operation; empty for others."""
    name = type(operation).__name__.lower()
    if isinstance(operation, _ACTIVATIONS):
        return name
    is_layer = isinstance(operation, keras.Layer)
    return name if not is_layer and name in _ACTIVATION_OPERATIONS else ""


def kernels(layer: keras.Layer) -> list[keras.Variable]:
    """Trainable weights of a model or layer with two or more axes.

    Biases, and the scales and offsets of normalisations, have a single axis.
    """
    return [weight for weight in layer.trainable_variables if len(weight.shape) >= 2]


def channels_first(operation: keras.Operation) -> bool:
    """Whether the channel axis of the output comes right after the batch axis."""
    return getattr(operation, "data_format", None) == "channels_first"
