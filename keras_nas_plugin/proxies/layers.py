"""The layers of a model, however deep they are nested, and what kind they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

# These run their layers in loops that the backend may trace: what is inside cannot be looked at.
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
    """Layers and operations that are attributes of this one, or in lists and dictionaries there.

    A layer that serves as the activation function of another one is a part of that one.
    """
    if isinstance(operation, _LOOPS):
        return []
    found: dict[int, keras.Operation] = {}
    for value in vars(operation).values():
        found |= {id(one): one for one in _operations_in(value)}
    for own in (operation, fused(operation)):
        found.pop(id(own), None)
    return list(found.values())


def fused(operation: keras.Operation) -> Any:
    """The activation function that a layer applies and has as an attribute; None for others.

    Recurrent layers show that of their cell, which is applied in a loop.
    """
    shown = isinstance(getattr(type(operation), "activation", None), property)
    function = None if shown else getattr(operation, "activation", None)
    return function if callable(function) else None


def walk(model: keras.Operation) -> list[keras.Operation]:
    """The model and everything in it, each once."""
    found: dict[int, keras.Operation] = {}
    waiting = [model]
    while waiting:
        operation = waiting.pop()
        if id(operation) not in found:
            found[id(operation)] = operation
            waiting.extend(children(operation))
    return list(found.values())


def _operations_in(value: Any) -> Iterator[keras.Operation]:
    if isinstance(value, keras.Operation):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _operations_in(one)
    elif isinstance(value, list | tuple | set):
        for one in value:
            yield from _operations_in(one)


def is_transparent(operation: keras.Operation) -> bool:
    """Whether calling it is nothing but calling the nodes of a graph."""
    if isinstance(operation, keras.Sequential):
        return True
    return isinstance(operation, keras.Model) and hasattr(operation, "operations")


def activation_of(operation: keras.Operation) -> str:
    """Lower-case name of what an activation layer or operation computes; empty for others."""
    name = type(operation).__name__.lower()
    if isinstance(operation, _ACTIVATIONS):
        return name
    is_layer = isinstance(operation, keras.Layer)
    return name if not is_layer and name in _ACTIVATION_OPERATIONS else ""


def kernels(layer: Any) -> list[Any]:
    """Trainable weights that mix: those with two or more axes, in a model or in a layer.

    Biases, and the scales and offsets of normalisations, have one axis.
    """
    return [weight for weight in layer.trainable_variables if len(weight.shape) >= 2]


def channels_first(operation: keras.Operation) -> bool:
    """Whether the channels of its output come before the positions."""
    return getattr(operation, "data_format", None) == "channels_first"
