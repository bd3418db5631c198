"""From a description and values to one architecture: as Keras tensors or as a graph."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.declaring import layer_class
from keras_nas_plugin.space.nodes import label_of

if TYPE_CHECKING:
    from keras_nas_plugin.space.nodes import Node


class Builder(abc.ABC):
    """Makes one architecture of a description.

    Args:
        values: A value for every active decision, by name.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def part(self, node: Node, path: str, inputs: Sequence[Any]) -> Any:
        """Build a node at its place, or at its own name."""
        return node.build(self, node.name or path, inputs)

    def one(self, inputs: Sequence[Any], path: str) -> Any:
        """The only input of a node.

        Raises:
            SearchSpaceError: There are several.
        """
        if len(inputs) != 1:
            raise SearchSpaceError(
                f"the node at {path!r} needs one input; received {len(inputs)}. "
                "Merge them before, with an InputChoice or a layer."
            )
        return inputs[0]

    @abc.abstractmethod
    def layer(
        self,
        kind: str | Callable[..., Any],
        arguments: Mapping[str, Any],
        path: str,
        inputs: Sequence[Any],
    ) -> Any:
        """Make a layer and call it."""

    @abc.abstractmethod
    def merge(self, merge: str, inputs: Sequence[Any], path: str) -> Any:
        """Merge several outputs; a single one stays as it is."""

    @abc.abstractmethod
    def zero(self, value: Any, path: str) -> Any:
        """Zeros in the shape of ``value``."""


class KerasBuilder(Builder):
    """Makes Keras layers and tensors."""

    def layer(
        self,
        kind: str | Callable[..., Any],
        arguments: Mapping[str, Any],
        path: str,
        inputs: Sequence[Any],
    ) -> Any:
        """See `Builder.layer`; several inputs come as a list, as Keras' merges take them."""
        try:
            layer = layer_class(kind, path)(**arguments)
            return layer(inputs[0] if len(inputs) == 1 else list(inputs))
        except (TypeError, ValueError) as error:
            shapes = [tuple(getattr(value, "shape", ())) for value in inputs]
            raise SearchSpaceError(
                f"{label_of(kind)} at {path!r} needs other inputs or arguments; received "
                f"{dict(arguments)} on shapes {shapes}: {error}"
            ) from error

    def merge(self, merge: str, inputs: Sequence[Any], path: str) -> Any:
        """See `Builder.merge`."""
        if len(inputs) == 1:
            return inputs[0]
        return self.layer(merge.capitalize(), {}, path, inputs)

    def zero(self, value: Any, path: str) -> Any:
        """See `Builder.zero`."""
        return self.layer("Rescaling", {"scale": 0.0}, path, [value])
