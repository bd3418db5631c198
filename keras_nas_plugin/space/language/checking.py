"""Checks before the first trial that the options of a description fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_nas_plugin.space.domains import Domain
from keras_nas_plugin.space.language.base import LayerKind, label_of
from keras_nas_plugin.space.language.building import KerasBuilder
from keras_nas_plugin.space.spec import SearchSpec, Values

# Domains of at most this size are covered completely, larger ones only at both ends.
_COVERED_IN_FULL = 16


def covering(spec: SearchSpec) -> Iterator[Values]:
    """Configurations in which every option of every decision occurs at least once.

    The first is the default configuration. Next, all decisions have their first option, then
    all have their second option and so on; a decision with fewer options keeps its last one. In
    each of the remaining configurations, a single decision has another value, the decisions
    that it depends on have values that make it active, and all others have their defaults.

    Args:
        spec: The space.
    """
    yield spec.fill({})
    options = {decision.name: _options(decision.domain) for decision in spec.decisions}
    for index in range(max(map(len, options.values()), default=0)):
        yield spec.fill(
            {name: values[min(index, len(values) - 1)] for name, values in options.items()}
        )
    for decision in spec.decisions:
        parents = {condition.parent: condition.values[0] for condition in decision.conditions}
        for value in options[decision.name]:
            values = spec.fill(_with_ancestors(spec, parents | {decision.name: value}))
            if values.get(decision.name) == value:
                yield values


def _with_ancestors(spec: SearchSpec, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """``chosen``, with values of the ancestors that make these decisions active."""
    needed = dict(chosen)
    # Decisions follow their parents: one pass from the last to the first is enough.
    for decision in reversed(spec.decisions):
        if decision.name in needed:
            for condition in decision.conditions:
                needed.setdefault(condition.parent, condition.values[0])
    return needed


def _options(domain: Domain) -> list[Any]:
    if domain.size is not None and domain.size <= _COVERED_IN_FULL:
        return list(domain.values())
    return [domain.at(0.0), domain.at(1.0)]


class CheckingBuilder(KerasBuilder):
    """Determines only the shapes of outputs; equal calls on equal shapes are built once.

    Args:
        values: See `Builder`; they may be replaced between two architectures.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._outputs: dict[tuple, Any] = {}

    def layer(
        self,
        kind: LayerKind,
        arguments: Mapping[str, Any],
        path: str,
        inputs: Sequence[keras.KerasTensor],
    ) -> keras.KerasTensor:
        """See `Builder.layer`."""
        shapes = tuple((tuple(tensor.shape), tensor.dtype) for tensor in inputs)
        key = (label_of(kind), id(kind), repr(sorted(arguments.items())), shapes)
        if key not in self._outputs:
            output = super().layer(kind, arguments, path, inputs)
            # Detached from the graph, so that the layers can be freed.
            self._outputs[key] = keras.tree.map_structure(_detached, output)
        return self._outputs[key]


def _detached(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return keras.KerasTensor(tensor.shape, tensor.dtype, name=None)
