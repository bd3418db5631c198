"""Nodes that several presets need: stages, and parts with several inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Integer
from keras_nas_plugin.space.nodes import Node, Sequential, as_node, join

if TYPE_CHECKING:
    from keras_nas_plugin.space.building import Builder
    from keras_nas_plugin.space.declaring import Declaration


class Stage(Node):
    """Blocks in a row, of which the first may be another one: it strides, or sets the width.

    Every block makes its own choices. Inputs after the first (a mask, a memory) are passed on
    to each of the blocks. The number of blocks is a decision called ``depth``.

    Args:
        block: The second and all later blocks, and the first without ``first``.
        low: Fewest blocks, at least 1.
        high: Most blocks. Equal to ``low``, the number is not decided.
        first: The first block.
        default: Depth of the first architecture; ``low`` without it.
        name: See `Node`.

    Raises:
        SearchSpaceError: The numbers make no sense.
    """

    def __init__(
        self,
        block: Any,
        low: int,
        high: int,
        *,
        first: Any = None,
        default: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        default = low if default is None else default
        if not 1 <= low <= default <= high:
            raise SearchSpaceError(
                f"`Stage` needs 1 <= low <= default <= high; "
                f"received low={low}, default={default}, high={high}"
            )
        self.block = as_node(block)
        self.first = self.block if first is None else as_node(first)
        self.low, self.high, self.default = low, high, default

    def _blocks(self, count: int) -> list[Node]:
        return [self.first] + [self.block] * (count - 1)

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        depth = join(path, "depth")
        if self.low < self.high:
            declaration.choose(depth, Integer(self.low, self.high), self.default)
        for index, block in enumerate(self._blocks(self.high)):
            if index < self.low:
                declaration.part(block, join(path, index))
                continue
            with declaration.when(depth, list(range(index + 1, self.high + 1))):
                declaration.part(block, join(path, index))

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        state, *others = inputs
        depth = builder.values[join(path, "depth")] if self.low < self.high else self.low
        for index, block in enumerate(self._blocks(depth)):
            state = builder.part(block, join(path, index), [state, *others])
        return state


class Chain(Sequential):
    """Parts one after the other; inputs after the first are passed on to each of them."""

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        state, *others = inputs
        for key, part in self.parts.items():
            state = builder.part(part, join(path, key), [state, *others])
        return state


class Fork(Node):
    """Several parts on the same inputs, whose outputs go into one more part together.

    Args:
        into: What takes the outputs, in order. Its choices are called as if it stood here.
        name: See `Node`.
        **parts: The parts by name.
    """

    def __init__(self, into: Any, *, name: str | None = None, **parts: Any) -> None:
        super().__init__(name=name)
        self.into = as_node(into)
        self.parts = {key: as_node(part) for key, part in parts.items()}

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        for key, part in self.parts.items():
            declaration.part(part, join(path, key))
        _declare_here(declaration, self.into, path)

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        outputs = [builder.part(part, join(path, key), inputs) for key, part in self.parts.items()]
        return builder.part(self.into, path, outputs)


class Pick(Node):
    """A part that takes one of several inputs.

    Args:
        index: Which one.
        part: What takes it; without it, the input goes on as it is.
    """

    def __init__(self, index: int, part: Any = None) -> None:
        super().__init__()
        self.index = index
        self.part = None if part is None else as_node(part)

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        if self.part is not None:
            _declare_here(declaration, self.part, path)

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        chosen = inputs[self.index]
        return chosen if self.part is None else builder.part(self.part, path, [chosen])


def _declare_here(declaration: Declaration, part: Node, path: str) -> None:
    """Declare a part that stands at the path of the node around it, or has its own name."""
    if part.name is None:
        part.declare(declaration, path)
    else:
        declaration.part(part, path)
