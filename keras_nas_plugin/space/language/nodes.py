"""The parts of a description without choices of their own: layers, chains and branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.language.base import (
    Builder,
    Declaration,
    LayerKind,
    Node,
    T,
    join,
    label_of,
)
from keras_nas_plugin.space.language.values import Value

MERGES = ("add", "concatenate", "multiply", "average", "maximum")


def as_node(part: object) -> Node:
    """Convert a part to a node.

    A node is returned unchanged; the name of a layer, a layer class or a function becomes a
    `Layer`.

    Raises:
        SearchSpaceError: The part is none of these.
    """
    if isinstance(part, Node):
        return part
    if isinstance(part, str) or callable(part):
        return Layer(part)
    raise SearchSpaceError(
        f"a part of a space must be a node, a layer class or its name; got {part!r}"
    )


class Layer(Node):
    """One Keras layer, or one block created by a function.

    Args:
        kind: A layer's name in `keras.layers` (``"Conv2D"``), a layer class, or a function
            that takes the arguments and returns something to call with a tensor.
        name: See `Node`.
        **arguments: Arguments of the layer. A `ValueChoice`, or a value derived from one, is
            searched.

    ```python
    Layer("Conv2D", filters=ValueChoice([16, 32, 64]), kernel_size=3, padding="same")
    ```
    """

    def __init__(self, kind: LayerKind, /, *, name: str | None = None, **arguments: Any) -> None:
        super().__init__(name=name)
        if not isinstance(kind, str) and not callable(kind):
            raise SearchSpaceError(
                f"`kind` of a Layer must be a layer class, its name or a function; got {kind!r}"
            )
        for argument, value in arguments.items():
            if isinstance(value, Node):
                raise SearchSpaceError(
                    f"argument {argument!r} of {label_of(kind)} must be a value or a ValueChoice; "
                    f"got a {type(value).__name__}. Use `Sequential` to chain layers."
                )
        self.kind = kind
        self.arguments = arguments

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        declaration.check_layer(self.kind, self.arguments, path)
        for argument, value in self.arguments.items():
            for choice in value.choices if isinstance(value, Value) else ():
                declaration.decide(choice, join(path, argument))

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        arguments = {
            argument: builder.resolve(value, join(path, argument))
            for argument, value in self.arguments.items()
        }
        return builder.layer(self.kind, arguments, path, inputs)


class Identity(Node):
    """Returns its input unchanged; among operations, a skip connection."""

    def declare(self, declaration: Declaration, path: str) -> None:
        """Nothing to decide."""

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        return builder.single(inputs, path)


class Zero(Node):
    """Returns zeros in the shape of its input; among operations, a missing connection."""

    def declare(self, declaration: Declaration, path: str) -> None:
        """Nothing to decide."""

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        return builder.zero(builder.single(inputs, path), path)


class Sequential(Node):
    """Parts one after the other.

    Args:
        *parts: Nodes, layer classes or names of layers. Their positions are their names.
        name: See `Node`.
        **named: Named parts, which follow the unnamed ones.

    ```python
    Sequential(stem=Layer("Conv2D", filters=16, kernel_size=3), head=Layer("Dense", units=10))
    ```
    """

    def __init__(self, *parts: object, name: str | None = None, **named: Any) -> None:
        super().__init__(name=name)
        self.parts = _named(parts, named)
        if not self.parts:
            raise SearchSpaceError("`Sequential` must have at least one part; got none")

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        for key, part in self.parts.items():
            declaration.part(part, join(path, key))

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        for key, part in self.parts.items():
            inputs = [builder.part(part, join(path, key), inputs)]
        return inputs[0]


class Branches(Node):
    """Parallel parts on the same input, whose outputs are merged.

    Args:
        *parts: See `Sequential`.
        merge: One of ``"add"``, ``"concatenate"``, ``"multiply"``, ``"average"`` and
            ``"maximum"``.
        name: See `Node`.
        **named: See `Sequential`.
    """

    def __init__(
        self, *parts: object, merge: str = "add", name: str | None = None, **named: Any
    ) -> None:
        super().__init__(name=name)
        self.merge = check_merge(merge)
        self.parts = _named(parts, named)
        if len(self.parts) < 2:
            raise SearchSpaceError(
                f"`Branches` must have at least two parts; got {len(self.parts)}"
            )

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        for key, part in self.parts.items():
            declaration.part(part, join(path, key))

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        outputs = [builder.part(part, join(path, key), inputs) for key, part in self.parts.items()]
        return builder.merge(self.merge, outputs, path)


def _named(parts: Sequence[object], named: Mapping[str, object]) -> dict[str, Node]:
    """Parts by name; the name of a positional part is its position."""
    numbered = {str(index): as_node(part) for index, part in enumerate(parts)}
    return numbered | {key: as_node(part) for key, part in named.items()}


def check_merge(merge: str) -> str:
    """Check the name of a merge.

    Raises:
        SearchSpaceError: There is no such merge.
    """
    if merge not in MERGES:
        raise SearchSpaceError(f"`merge` must be one of {MERGES}; got {merge!r}")
    return merge


def operations_of(
    operations: Mapping[str, object] | Sequence[object], owner: str
) -> dict[str, Node]:
    """Operations by name; those without a name are named after their layer.

    Raises:
        SearchSpaceError: There are none, or two have the same name.
    """
    if isinstance(operations, Mapping):
        named = {str(key): as_node(part) for key, part in operations.items()}
    else:
        nodes = [as_node(part) for part in operations]
        names = [
            node.name or (label_of(node.kind) if isinstance(node, Layer) else type(node).__name__)
            for node in nodes
        ]
        if len(set(names)) < len(names):
            raise SearchSpaceError(
                f"`operations` of a {owner} must have different names; got {names}. "
                "Pass a dictionary from name to operation."
            )
        named = dict(zip(names, nodes, strict=True))
    if not named:
        raise SearchSpaceError(f"`operations` of a {owner} must have at least one; got none")
    return named
