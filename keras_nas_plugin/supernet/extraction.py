"""The network of one architecture, with the weights that a supernet has for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Domain
from keras_nas_plugin.space.language.base import Builder, LayerKind, Node
from keras_nas_plugin.space.language.building import KerasBuilder
from keras_nas_plugin.space.language.values import Value
from keras_nas_plugin.supernet.keys import Location, choice_key, input_key, layer_key
from keras_nas_plugin.supernet.vertices import (
    ChoiceVertex,
    LayerVertex,
    Vertex,
    Weights,
    Width,
    centre,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A symbolic tensor with the key of its computation.

    Attributes:
        key: See `Vertex.key`.
        tensor: The tensor.
    """

    key: str
    tensor: keras.KerasTensor


@dataclasses.dataclass(frozen=True)
class _Resolved:
    """The value of an argument that is searched."""

    value: Any


class StandaloneBuilder(Builder[Tensor]):
    """Builds the network of one architecture, and records the key of each layer.

    Args:
        values: A value for every active decision, by name.
        read: Decisions that nodes read as plain values while the supernet was built, and the
            values that they got.

    Attributes:
        weights: Weights of each layer or block, by key.
    """

    def __init__(self, values: Mapping[str, Any], read: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._keras = KerasBuilder(values)
        self._read = read
        self._location = Location()
        self.weights: dict[str, list[keras.Variable]] = {}

    def input(self, name: str, tensor: keras.KerasTensor) -> Tensor:
        """An input of the model."""
        return Tensor(input_key(name), tensor)

    def part(self, node: Node, path: str, inputs: Sequence[Tensor]) -> Tensor:
        """See `Builder.part`."""
        own_path = node.name or path
        with self._location.entered(path, own_path):
            return node.build(self, own_path, inputs)

    def value(self, path: str, domain: Domain) -> Any:
        """See `Builder.value`: as in the supernet, whose nodes read no other values."""
        return self._read.get(path, self.values.get(path))

    def resolve(self, value: Any, path: str) -> Any:
        """See `Builder.resolve`."""
        if not isinstance(value, Value):
            return value
        return _Resolved(value.resolve(super().value, path))

    def choose(
        self, path: str, options: Mapping[Any, Callable[[], Tensor]], inputs: Sequence[Tensor]
    ) -> Tensor:
        """See `Builder.choose`."""
        key = choice_key(self._location.of(path), [tensor.key for tensor in inputs])
        return Tensor(key, super().choose(path, options, inputs).tensor)

    def merge(self, merge: str, inputs: Sequence[Tensor], path: str) -> Tensor:
        """See `Builder.merge`."""
        if len(inputs) == 1:
            return inputs[0]
        return self.layer(merge.capitalize(), {}, path, inputs)

    def zero(self, value: Tensor, path: str) -> Tensor:
        """See `Builder.zero`."""
        key = layer_key(self._location.of(path), "zero", {}, [value.key])
        return Tensor(key, self._keras.zero(value.tensor, path))

    def layer(
        self,
        kind: LayerKind,
        arguments: Mapping[str, Any],
        path: str,
        inputs: Sequence[Tensor],
    ) -> Tensor:
        """See `Builder.layer`."""
        fixed = {
            name: value for name, value in arguments.items() if not isinstance(value, _Resolved)
        }
        key = layer_key(self._location.of(path), kind, fixed, [value.key for value in inputs])
        plain = {
            name: value.value if isinstance(value, _Resolved) else value
            for name, value in arguments.items()
        }
        tensors = [value.tensor for value in inputs]
        layer, output = self._keras.create(kind, plain, path, tensors)
        if any(output is tensor for tensor in tensors):
            return inputs[[output is tensor for tensor in tensors].index(True)]
        if not isinstance(layer, keras.layers.Layer):
            layer = keras.Model(tensors[0] if len(tensors) == 1 else tensors, output)
        self.weights[key] = layer.weights
        return Tensor(key, output)


def copy_weights(
    sources: Mapping[str, Vertex],
    targets: Mapping[str, Sequence[keras.Variable]],
    values: Mapping[str, Any],
    weights: Weights,
) -> None:
    """Copy the weights of one architecture out of a supernet.

    Args:
        sources: Vertices of the supernet, by key.
        targets: Weights of the layers of the architecture, by key.
        values: The architecture.
        weights: Its mask.

    Raises:
        SearchSpaceError: A layer of the architecture is not in the supernet.
    """
    for key, variables in targets.items():
        if not variables:
            continue
        vertex = sources.get(key)
        vertex = _variant(vertex, weights) if isinstance(vertex, ChoiceVertex) else vertex
        if not isinstance(vertex, LayerVertex) or len(vertex.layer.weights) != len(variables):
            names = [variable.path for variable in variables]
            raise SearchSpaceError(
                f"the weights {names} of the architecture {dict(values)} must be in the supernet; "
                "a node of the space builds other layers in a supernet than alone"
            )
        for source, target in zip(vertex.layer.weights, variables, strict=True):
            array = ops.convert_to_numpy(source.value)
            if array.shape != tuple(target.shape):
                array = _part(array, source, vertex, target.shape, weights)
            target.assign(array)


def _variant(vertex: ChoiceVertex, weights: Weights) -> Vertex:
    """The layer that a mask selects among those for the values of an argument."""
    option = int(np.argmax(ops.convert_to_numpy(vertex.gate.weights(weights))))
    return vertex.inputs[option]


def _part(
    array: np.ndarray,
    variable: keras.Variable,
    vertex: LayerVertex,
    shape: Sequence[int],
    weights: Weights,
) -> np.ndarray:
    """The active part of a weight: the centre of a kernel, the active channels of any weight."""
    into = _indices([source.width for source in vertex.inputs], vertex, weights)
    out = None if vertex.width is None else _active(vertex.width, weights)
    for axis, role in enumerate(_roles(variable.name, vertex, array.ndim)):
        if array.shape[axis] == shape[axis]:
            continue
        indices = {"in": into, "out": out}.get(role)
        if role == "space":
            (part,) = centre(array.shape[axis : axis + 1], shape[axis : axis + 1])
            indices = np.arange(part.start, part.stop)
        if indices is not None:
            array = np.take(array, indices, axis=axis)
    return array


def _indices(
    widths: Sequence[Width | None], vertex: LayerVertex, weights: Weights
) -> np.ndarray | None:
    first = next((width for width in widths if width is not None), None)
    return None if first is None else _active(first, weights)


def _active(width: Width, weights: Weights) -> np.ndarray:
    """Indices of the active channels."""
    return np.flatnonzero(ops.convert_to_numpy(weights.active(width)) > 0)


def _roles(name: str, vertex: LayerVertex, rank: int) -> list[str]:
    """What each axis of a weight stands for: ``"space"``, ``"in"``, ``"out"`` or neither."""
    kind = type(vertex.layer).__name__
    depthwise = kind.startswith("DepthwiseConv") or name == "depthwise_kernel"
    if "kernel" in name and depthwise:
        return ["space"] * (rank - 2) + ["in", ""]
    if "kernel" in name and "Transpose" in kind:
        return ["space"] * (rank - 2) + ["out", "in"]
    if "kernel" in name:
        return ["space"] * (rank - 2) + ["in", "out"]
    if name == "embeddings":
        return ["", "out"]
    if name == "bias":
        return ["out"]
    return [""] * (rank - 1) + ["in"]
