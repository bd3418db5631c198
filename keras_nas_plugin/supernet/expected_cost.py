"""The expected cost of an architecture that is drawn with the weights of a mask."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_nas_plugin.supernet.layout import MaskLayout
from keras_nas_plugin.supernet.vertices import (
    AnyNeed,
    ChoiceVertex,
    Graph,
    LayerVertex,
    Need,
    OptionNeed,
    Vertex,
    Weights,
)

#: The cost of a model.
CostOf = Callable[[keras.Model], float]


class ExpectedCost:
    """The cost of an architecture as a differentiable function of a mask.

    It is the sum over the chains of layers of the supernet: the cost of a chain alone, times the
    probability that an architecture has it, times the share of its multiply-adds that the
    expected widths and kernel sizes leave. Decisions count as independent. For the mask of a
    single architecture, multiply-adds are exact; for a mixture, they are the expectation unless
    the same decision determines several factors.

    Source: the expected latency of Cai et al. 2019, "ProxylessNAS", equation 2, for any graph.

    Args:
        graph: The computations of the supernet.
        layout: Layout of the mask.
        cost_of: Cost of a model, such as its multiply-adds or the sum over a table of latencies.
        multiply_adds: Multiply-adds of a model.
    """

    def __init__(
        self, graph: Graph, layout: MaskLayout, cost_of: CostOf, multiply_adds: CostOf
    ) -> None:
        self._graph, self._layout = graph, layout
        self._costs: list[tuple[list[Vertex], float, list[float]]] = []
        for chain in graph.segments.values():
            cost = float(cost_of(_model(chain)))
            if cost:
                counts = [float(multiply_adds(_model([vertex]))) for vertex in chain]
                self._costs.append((chain, cost, counts))

    def __call__(self, mask: Any) -> Any:
        """The expected cost, a scalar.

        Args:
            mask: A tensor of shape ``[layout.size]`` whose weights sum to 1 in each decision.
        """
        weights = Weights(self._layout, mask)
        needed: dict[Need, Any] = {True: ops.ones(())}
        total = ops.zeros(())
        for chain, cost, multiply_adds in self._costs:
            probability = _probability(self._graph.needs[chain[-1]], weights, needed)
            total = total + cost * probability * _share(chain, multiply_adds, weights)
        return total


def _model(chain: list[Any]) -> keras.Model:
    """A chain of layers as a model of its own, for a batch of any size."""
    inputs = [
        keras.Input(batch_shape=vertex.spec.shape, dtype=vertex.spec.dtype)
        for vertex in chain[0].inputs
    ]
    values: Any = inputs
    for vertex in chain:
        output = vertex.layer(values[0] if len(values) == 1 else values)
        values = [output]
    return keras.Model(inputs, values[0])


def _probability(need: Need, weights: Weights, needed: dict[Need, Any]) -> Any:
    """Probability that an architecture has a computation."""
    if need not in needed:
        if isinstance(need, OptionNeed):
            needed[need] = _option(need, weights, needed)
        elif isinstance(need, AnyNeed):
            # Options of the same choice exclude each other; different choices are independent.
            by_choice: dict[ChoiceVertex, list[Any]] = {}
            cases = sorted(need.cases, key=lambda case: _order(case))
            for number, case in enumerate(cases):
                key: Any = case.choice if isinstance(case, OptionNeed) else number
                by_choice.setdefault(key, []).append(_probability(case, weights, needed))
            absent = [1.0 - functools.reduce(ops.add, group) for group in by_choice.values()]
            needed[need] = 1.0 - functools.reduce(ops.multiply, absent)
    return needed[need]


def _option(need: OptionNeed, weights: Weights, needed: dict[Need, Any]) -> Any:
    own = need.choice.gate.weights(weights)[need.option]
    return own * _probability(need.choice_need, weights, needed)


def _order(case: Need) -> tuple[int, int]:
    """Cases are a set: their order must not depend on addresses."""
    if isinstance(case, OptionNeed):
        return case.choice.index, case.option
    return min((_order(inner) for inner in case.cases), default=(-1, -1))


def _share(chain: list[Any], multiply_adds: list[float], weights: Weights) -> Any:
    """Share of the multiply-adds of a chain that the widths and kernel sizes leave."""
    total = sum(multiply_adds)
    if not total:
        return 1.0
    parts = [
        count / total * _active(vertex, weights)
        for vertex, count in zip(chain, multiply_adds, strict=True)
        if count
    ]
    return functools.reduce(ops.add, parts)


def _active(vertex: LayerVertex, weights: Weights) -> Any:
    """Share of the multiply-adds of one layer."""
    inner = _mean(vertex.inputs[0].width, weights)
    outer = _mean(vertex.width, weights)
    kernel = 1.0 if vertex.kernel is None else ops.mean(vertex.kernel.active(weights))
    kind = type(vertex.layer).__name__
    if kind.startswith("Depthwise"):
        return inner * kernel
    if kind.startswith("Separable"):
        size = float(vertex.layer.depthwise_kernel.shape[0])
        for length in vertex.layer.depthwise_kernel.shape[1:-2]:
            size *= length
        filters = float(vertex.layer.filters)
        return inner * (size * kernel + filters * outer) / (size + filters)
    return inner * outer * kernel


def _mean(width: Any, weights: Weights) -> Any:
    return 1.0 if width is None else ops.mean(weights.active(width))
