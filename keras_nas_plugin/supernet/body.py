"""The Keras layer that computes a supernet."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_nas_plugin.supernet.layout import MaskLayout
from keras_nas_plugin.supernet.vertices import (
    AnyNeed,
    ChoiceVertex,
    Graph,
    InputVertex,
    LayerVertex,
    Need,
    Vertex,
    Weights,
    ZeroVertex,
    channels,
    static_size,
)


class SupernetBody(keras.layers.Layer):
    """Computes what a mask selects, and only that where the backend can branch.

    Each layer exists once. Its computation is inside a condition (`keras.ops.cond`) on the
    weights of the mask, so that a path costs as much as its own network; the weights are inputs
    of the graph, which is traced once. On JAX, everything is computed and multiplied by its
    weight, because a branch of JAX cannot update the statistics of batch normalisation.

    Args:
        graph: The computations.
        layout: Layout of the mask.
    """

    def __init__(self, graph: Graph, layout: MaskLayout) -> None:
        super().__init__(name="supernet", autocast=False)
        self._graph = graph
        self._layout = layout
        self._branches = keras.backend.backend() != "jax"
        #: The layers, in the order of their creation.
        self.shared = [vertex.layer for vertex in graph.order if isinstance(vertex, LayerVertex)]
        self.built = True

    def compute_output_spec(self, *inputs: Any, **options: Any) -> keras.KerasTensor:
        """The output with the shape of the largest architecture."""
        spec = self._graph.output.spec
        return keras.KerasTensor(spec.shape, spec.dtype)

    def call(self, inputs: Sequence[Any], mask: Any, training: bool | None = None) -> Any:
        """The output of the architecture, or mixture, that the mask describes.

        Args:
            inputs: Inputs of the model, each of shape ``[batch, ...]``.
            mask: Shape ``[batch, layout.size]``, with equal rows: the first one counts.
            training: See `keras.layers.Layer`.

        Returns:
            The output, shape ``[batch, ...]``.
        """
        weights = Weights(self._layout, ops.cast(mask[0], "float32"))
        output = _Run(self._graph, weights, inputs, training, branches=self._branches).output()
        if training and keras.backend.backend() == "torch":
            output = output + ops.cast(self._nothing(), output.dtype)
        return output

    def _nothing(self) -> Any:
        """Zero, as a function of all trainable weights.

        With PyTorch, weights that are not part of the graph have no gradient. Keras leaves them
        out of the step: the gradients that other paths of the same step gave them were lost.
        """
        parts = [ops.cast(ops.ravel(weight)[0], "float32") for weight in self.trainable_weights]
        return ops.sum(ops.stack(parts)) * 0.0 if parts else 0.0


class _Run:
    """One computation of a supernet."""

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        inputs: Sequence[Any],
        training: bool | None,
        *,
        branches: bool,
    ) -> None:
        self._graph = graph
        self._weights = weights
        self._inputs = inputs
        self._training = training
        self._branches = branches
        self._values: dict[Vertex, Any] = {}
        self._needed: dict[Need, Any] = {}

    def output(self) -> Any:
        """The output of the model."""
        for vertex in self._graph.order:
            if isinstance(vertex, InputVertex):
                self._values[vertex] = self._inputs[vertex.position]
            elif isinstance(vertex, ZeroVertex):
                self._values[vertex] = ops.zeros_like(self._values[vertex.inputs[0]])
            elif isinstance(vertex, ChoiceVertex):
                self._values[vertex] = self._mixed(vertex)
            elif vertex in self._graph.segments:
                # Layers after the first of a segment are computed with it.
                segment = self._graph.segments[vertex]
                if segment[-1] not in self._graph.terms or not self._conditional(segment):
                    self._values[segment[-1]] = self._segment(segment)
        return self._values[self._graph.output]

    # ------------------------------------------------------------------ layers

    def _segment(self, segment: Sequence[Vertex]) -> Any:
        """The output of a chain of layers; zeros where it is not needed."""
        self._prepare(segment)
        if not self._conditional(segment):
            return self._chain(segment)
        return ops.cond(
            self._is_needed(self._graph.needs[segment[-1]]),
            functools.partial(self._chain, segment),
            functools.partial(self._zeros, segment[-1].spec),
        )

    def _conditional(self, segment: Sequence[Vertex]) -> bool:
        """Whether a chain is computed only where it is needed."""
        last = segment[-1]
        return self._branches and self._graph.needs[last] is not True and static_size(last.spec)

    def _prepare(self, segment: Sequence[Vertex]) -> None:
        """Compute what branches share outside of them: they must not create it."""
        for vertex in segment:
            if isinstance(vertex, LayerVertex) and vertex.width is not None:
                self._weights.active(vertex.width)
            if isinstance(vertex, LayerVertex) and vertex.kernel is not None:
                self._weights.joint(vertex.kernel.names)

    def _zeros(self, spec: keras.KerasTensor) -> Any:
        batch = ops.shape(keras.tree.flatten(self._inputs)[0])[0]
        return ops.zeros((batch, *spec.shape[1:]), spec.dtype)

    def _chain(self, segment: Sequence[Vertex]) -> Any:
        values = [self._values[vertex] for vertex in segment[0].inputs]
        for vertex in segment:
            output = self._layer(vertex, values)
            values = [output]
        return values[0]

    def _layer(self, vertex: Any, values: Sequence[Any]) -> Any:
        layer, arguments = vertex.layer, values[0] if len(values) == 1 else list(values)
        options = {"training": self._training} if _takes_training(layer) else {}
        if vertex.kernel is None:
            output = layer(arguments, **options)
        else:
            kernel = getattr(layer, vertex.kernel.variable)
            active = ops.cast(vertex.kernel.active(self._weights), kernel.dtype)
            if len(kernel.shape) < len(active.shape):
                active = ops.reshape(active, active.shape[: len(kernel.shape)])
            trainable = [
                ops.multiply(ops.convert_to_tensor(variable), active)
                if variable is kernel
                else ops.convert_to_tensor(variable)
                for variable in layer.trainable_variables
            ]
            fixed = [ops.convert_to_tensor(v) for v in layer.non_trainable_variables]
            output, _ = layer.stateless_call(trainable, fixed, arguments, **options)
        if vertex.masks_output:
            output = output * ops.cast(self._weights.active(vertex.width), output.dtype)
        return output

    # ------------------------------------------------------------------ choices

    def _mixed(self, vertex: ChoiceVertex) -> Any:
        """The weighted sum of the options; zeros are left out."""
        if len(vertex.inputs) == 1:
            return self._values[vertex.inputs[0]]
        weights, total = vertex.gate.weights(self._weights), None
        waiting = []
        for option, source in enumerate(vertex.inputs):
            if source in self._values and not isinstance(source, ZeroVertex):
                term = self._term(vertex, source, weights[option], self._values[source])
                total = term if total is None else total + term
            elif source in self._graph.terms:
                waiting.append((source, weights[option]))
        if total is None:
            total = self._zeros(vertex.spec)
        for source, weight in waiting:
            # An option that is not needed adds nothing, not even zeros.
            segment = self._graph.terms[source]
            self._prepare(segment)
            total = ops.cond(
                self._is_needed(self._graph.needs[source]),
                functools.partial(self._added, vertex, segment, weight, total),
                functools.partial(_unchanged, total),
            )
        return total

    def _added(
        self, vertex: ChoiceVertex, segment: Sequence[Vertex], weight: Any, total: Any
    ) -> Any:
        return total + self._term(vertex, segment[-1], weight, self._chain(segment))

    @staticmethod
    def _term(vertex: ChoiceVertex, source: Vertex, weight: Any, value: Any) -> Any:
        """The output of an option, multiplied by its weight, with all channels."""
        term = value * ops.cast(weight, value.dtype)
        missing = channels(vertex.spec) - channels(source.spec)
        if missing:
            term = ops.pad(term, [[0, 0]] * (len(source.spec.shape) - 1) + [[0, missing]])
        return term

    def _is_needed(self, need: Need) -> Any:
        """Whether a computation is needed, as a boolean tensor."""
        if need not in self._needed:
            if isinstance(need, AnyNeed):
                cases = [self._is_needed(case) for case in need.cases]
                self._needed[need] = functools.reduce(ops.logical_or, cases)
            else:
                weight = need.choice.gate.weights(self._weights)[need.option]
                own = ops.not_equal(weight, 0.0)
                outer = need.choice_need
                self._needed[need] = (
                    own if outer is True else ops.logical_and(own, self._is_needed(outer))
                )
        return self._needed[need]


def _unchanged(total: Any) -> Any:
    return total


def _takes_training(layer: Any) -> bool:
    """Whether the `call` of a layer has the argument ``training``."""
    return "training" in inspect.signature(layer.call).parameters
