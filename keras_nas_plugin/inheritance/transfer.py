"""Weights of a model from those of a model of another architecture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from keras_nas_plugin.evaluation.graph import Call, Graph, all_layers, graph_of, is_functional
from keras_nas_plugin.inheritance.alignment import added, align
from keras_nas_plugin.inheritance.channels import CHANNELWISE, Channels, after
from keras_nas_plugin.inheritance.layers import Weights, identity, transferred


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What a model has taken over from another model.

    Attributes:
        inherited: Layers whose weights are those of the other model, in parts or as a whole.
        identities: Added layers that return their inputs, or add nothing to them.
        fresh: Layers with weights of their own.
    """

    inherited: tuple[keras.Layer, ...]
    identities: tuple[keras.Layer, ...]
    fresh: tuple[keras.Layer, ...]


def transfer_weights(child: keras.Model, parent: keras.Model, seed: int = 0) -> Transfer:
    """Initialise a model with the weights of another model, where their layers correspond.

    The new model computes the same function where that is possible: layers may be wider, kernels
    larger, and layers may be added that can compute the identity; an added block of a residual
    connection adds zero at first. Source: Chen, Goodfellow & Shlens 2016, "Net2Net: Accelerating
    Learning via Knowledge Transfer". Layers in place of others keep their random weights, as do
    all layers of models that are no graphs unless weights have equal shapes.

    Args:
        child: A built model; its weights are replaced.
        parent: A trained model.
        seed: Decides how the weights of repeated channels are divided.

    Returns:
        Which layers were initialised.
    """
    if is_functional(child) and is_functional(parent):
        return _GraphTransfer(graph_of(child), graph_of(parent), seed).run()
    layers = [layer for layer in all_layers(child) if _own_weights(layer)]
    parent_layers = [layer for layer in all_layers(parent) if _own_weights(layer)]
    matches = align(layers, parent_layers)
    rng = np.random.default_rng(seed)
    inherited = []
    for index, counterpart in matches.items():
        result = transferred(layers[index], parent_layers[counterpart], None, rng)
        if result is not None and _shapes(result[0]) == _shapes(layers[index].weights):
            layers[index].set_weights(result[0])
            inherited.append(layers[index])
    fresh = [layer for layer in layers if layer not in inherited]
    return Transfer(tuple(inherited), (), tuple(fresh))


def _own_weights(layer: keras.Layer) -> bool:
    """Whether a layer has weights that are not those of a layer in it."""
    return bool(layer.weights) and len(all_layers_in(layer)) == 1


def all_layers_in(layer: keras.Layer) -> list[keras.Layer]:
    """A layer and the layers in it, at any depth."""
    return [layer, *layer._flatten_layers(include_self=False)]


def _shapes(weights: Sequence[object]) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in weights]  # type: ignore[attr-defined]


class _GraphTransfer:
    """Follows the calls of a model, from its inputs to its outputs."""

    def __init__(self, graph: Graph, parent: Graph, seed: int) -> None:
        self._graph = graph
        self._rng = np.random.default_rng(seed)
        self._layers = _layers_of(graph)
        self._parents = _layers_of(parent)
        self._matches = align(self._layers, self._parents)
        self._added = added(self._matches, len(self._layers), len(self._parents))
        self._index = {id(layer): number for number, layer in enumerate(self._layers)}
        self._channels: dict[int, Channels | None] = {}
        self._writer = {number: call for call in graph.calls for number in call.writes}
        self._inherited: list[keras.Layer] = []
        self._identities: list[keras.Layer] = []

    def run(self) -> Transfer:
        """Replace the weights."""
        for number in self._graph.inputs:
            size = self._graph.tensors[number].shape[-1]
            self._channels[number] = None if size is None else Channels.resized(size, size)
        added_to_sums, in_branches = self._residual_branches()
        assigned: dict[int, Channels | None] = {}
        for call in self._graph.calls:
            layer = call.operation
            inputs = [self._channels.get(number) for number in call.reads]
            if id(layer) not in self._index:
                result = after(call, inputs)
            elif id(layer) in assigned:  # a shared layer
                result = assigned[id(layer)]
            else:
                first = inputs[0] if len(inputs) == 1 else None
                branch = id(layer) in in_branches
                result = self._assign(layer, first, id(layer) in added_to_sums, branch)
                assigned[id(layer)] = result
            for number in call.writes:
                self._channels[number] = result
        inherited = {id(layer) for layer in (*self._inherited, *self._identities)}
        fresh = [layer for layer in self._layers if id(layer) not in inherited]
        return Transfer(tuple(self._inherited), tuple(self._identities), tuple(fresh))

    def _assign(
        self, layer: keras.Layer, channels: Channels | None, adds_zero: bool, branch: bool
    ) -> Channels | None:
        """Set the weights of a layer; returns the channels of its output."""
        index = self._index[id(layer)]
        if index in self._matches:
            parent = self._parents[self._matches[index]]
            result = transferred(layer, parent, channels, self._rng)
            if result is not None and _shapes(result[0]) == _shapes(layer.weights):
                layer.set_weights(result[0])
                self._inherited.append(layer)
                return result[1]
            return None
        if index not in self._added:
            return None
        if adds_zero:
            layer.set_weights(_zeros(layer))
            self._identities.append(layer)
            return channels
        weights = None if branch else identity(layer)
        if weights is None:
            return channels if branch else None
        layer.set_weights(weights)
        self._identities.append(layer)
        return channels

    def _residual_branches(self) -> tuple[set[int], set[int]]:
        """Added layers whose outputs are added to other tensors, and those before them.

        Returns:
            The last layers of added branches, and all layers of added branches, by `id`.
        """
        last: set[int] = set()
        branches: set[int] = set()
        for call in self._graph.calls:
            if not isinstance(call.operation, keras.layers.Add):
                continue
            ends = [self._end_of_branch(number) for number in call.reads]
            if any(end is None for end in ends):  # something else is there to be added to
                for end in ends:
                    if end is not None:
                        last.add(id(end.operation))
                        branches |= self._branch_before(end)
        return last, branches

    def _is_added(self, call: Call) -> bool:
        return self._index.get(id(call.operation)) in self._added

    def _end_of_branch(self, number: int) -> Call | None:
        """The added layer that computes a tensor, apart from layers that keep zeros."""
        call = self._writer.get(number)
        while call is not None and isinstance(call.operation, CHANNELWISE):
            call = self._writer.get(call.reads[0])
        zeroed = call is not None and self._is_added(call) and _zeros(call.operation) is not None
        return call if zeroed else None

    def _branch_before(self, end: Call) -> set[int]:
        """The added layers that lead to an added layer, by `id`."""
        branch: set[int] = set()
        waiting = [end]
        while waiting:
            call = waiting.pop()
            if id(call.operation) in branch:
                continue
            if self._is_added(call):
                branch.add(id(call.operation))
            elif id(call.operation) in self._index:
                continue
            waiting += [self._writer[number] for number in call.reads if number in self._writer]
        return branch


def _layers_of(graph: Graph) -> list[keras.Layer]:
    """The layers with weights, in the order of their first calls."""
    layers = {id(call.operation): call.operation for call in graph.calls}
    return [layer for layer in layers.values() if getattr(layer, "weights", None)]


def _zeros(layer: keras.Layer) -> Weights | None:
    """Weights with which a layer returns zeros whatever its input is, or None."""
    kinds = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    separable = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation not in ("linear", "relu", "silu", "gelu", "tanh", "elu", "selu"):
        return None
    weights = [np.asarray(keras.ops.convert_to_numpy(value)) for value in layer.weights]
    if isinstance(layer, keras.layers.BatchNormalization):
        if not layer.scale:
            return None
        count = 1 + int(layer.center)
        return [*(np.zeros_like(value) for value in weights[:count]), *weights[count:]]
    if isinstance(layer, separable):
        return [weights[0], *(np.zeros_like(value) for value in weights[1:])]
    return [np.zeros_like(value) for value in weights] if isinstance(layer, kinds) else None
