"""Whether the options of a description fit together, found out before the first trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_nas_plugin.space.building import KerasBuilder
from keras_nas_plugin.space.domains import Domain
from keras_nas_plugin.space.nodes import label_of
from keras_nas_plugin.space.spec import SearchSpec, Values

# Of longer domains the ends are checked.
_ALL_OF = 16


def covering(spec: SearchSpec) -> Iterator[Values]:
    """Configurations in which every option of every decision occurs once.

    The default one comes first. Then all decisions have their first option, their second
    and so on, as far as each goes. In each of the others one decision has another value,
    those that it depends on have what makes it active, and the rest their default.

    Args:
        spec: The space.
    """
    yield spec.fill({})
    options = {decision.name: _options(decision.domain) for decision in spec.decisions}
    for index in range(max(map(len, options.values()), default=0)):
        yield spec.fill({name: some[min(index, len(some) - 1)] for name, some in options.items()})
    for decision in spec.decisions:
        parents = {one.parent: one.values[0] for one in decision.conditions}
        for value in options[decision.name]:
            values = spec.fill(_with_ancestors(spec, parents | {decision.name: value}))
            if values.get(decision.name) == value:
                yield values


def _with_ancestors(spec: SearchSpec, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Values that make ``chosen`` possible, and these themselves."""
    needed = dict(chosen)
    # Decisions stand after their parents: one pass from the last to the first is enough.
    for decision in reversed(spec.decisions):
        if decision.name in needed:
            for one in decision.conditions:
                needed.setdefault(one.parent, one.values[0])
    return needed


def _options(domain: Domain) -> list[Any]:
    if domain.size is not None and domain.size <= _ALL_OF:
        return list(domain.values())
    return [domain.at(0.0), domain.at(1.0)]


class CheckingBuilder(KerasBuilder):
    """Builds layers for their shapes alone, each kind of call once.

    Args:
        values: See `Builder`; they may be replaced between two architectures.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._known: dict[Any, Any] = {}

    def layer(
        self,
        kind: str | Callable[..., Any],
        arguments: Mapping[str, Any],
        path: str,
        inputs: Sequence[Any],
    ) -> Any:
        """See `Builder.layer`."""
        shapes = tuple((tuple(one.shape), one.dtype) for one in inputs)
        key = (label_of(kind), id(kind), repr(sorted(arguments.items())), shapes)
        if key not in self._known:
            output = super().layer(kind, arguments, path, inputs)
            # Without the graph behind it, so that the layers are let go.
            self._known[key] = keras.tree.map_structure(_bare, output)
        return self._known[key]


def _bare(tensor: Any) -> keras.KerasTensor:
    return keras.KerasTensor(tensor.shape, tensor.dtype, name=None)
