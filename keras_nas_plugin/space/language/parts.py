"""Nodes that several presets need: parts with several inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_nas_plugin.space.language.base import Builder, Declaration, Node, T, join
from keras_nas_plugin.space.language.nodes import Sequential, as_node


class Chain(Sequential):
    """Parts in sequence; each of them also receives all inputs but the first, such as a mask."""

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        state, *shared = inputs
        for key, part in self.parts.items():
            state = builder.part(part, join(path, key), [state, *shared])
        return state


class Fork(Node):
    """Several parts on the same inputs, whose outputs are the inputs of a final part.

    Args:
        into: The final part, which takes the outputs in order. It has the path of this node.
        name: See `Node`.
        **parts: The parts by name.
    """

    def __init__(self, into: object, *, name: str | None = None, **parts: Any) -> None:
        super().__init__(name=name)
        self.into = as_node(into)
        self.parts = {key: as_node(part) for key, part in parts.items()}

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        for key, part in self.parts.items():
            declaration.part(part, join(path, key))
        _declare_here(declaration, self.into, path)

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        outputs = [builder.part(part, join(path, key), inputs) for key, part in self.parts.items()]
        return builder.part(self.into, path, outputs)


class Pick(Node):
    """A part that takes one of several inputs.

    Args:
        index: Index of the input.
        part: The part. Without it, the selected input is returned unchanged.
    """

    def __init__(self, index: int, part: object = None) -> None:
        super().__init__()
        self.index = index
        self.part = None if part is None else as_node(part)

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        if self.part is not None:
            _declare_here(declaration, self.part, path)

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        selected = inputs[self.index]
        return selected if self.part is None else builder.part(self.part, path, [selected])


def _declare_here(declaration: Declaration, part: Node, path: str) -> None:
    """Declare a part that has the path of the node around it, or a name of its own."""
    if part.name is None:
        part.declare(declaration, path)
    else:
        declaration.part(part, path)
