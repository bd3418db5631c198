"""The parts that architectures are described with: layers, chains and branches.

A description is a tree of nodes. Each node does two things: it *declares* what it leaves
open as hyperparameters, all options included, and it *builds* one architecture for given
values. Neither needs the other, and neither needs Keras: a builder decides whether layers
or the vertices of a graph come out.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.values import Value, check_name

if TYPE_CHECKING:
    from keras_nas_plugin.space.building import Builder
    from keras_nas_plugin.space.declaring import Declaration

MERGES = ("add", "concatenate", "multiply", "average", "maximum")


class Node(abc.ABC):
    """One part of a description.

    Args:
        name: Replaces the node's place in the names of its decisions. Nodes of one name
            make their choices once for all places: the same node in several places, or
            nodes that differ in what is not decided, such as a stage's width.
    """

    def __init__(self, *, name: str | None = None) -> None:
        self.name = check_name(name, type(self).__name__)

    @abc.abstractmethod
    def declare(self, declaration: Declaration, path: str) -> None:
        """Declare every decision of this node and of those in it.

        Args:
            declaration: Takes the decisions.
            path: Where the node stands, for example ``"stage1/block0"``.

        Raises:
            SearchSpaceError: The node is used wrongly; the message names the path.
        """

    @abc.abstractmethod
    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """Build the node for the builder's values.

        Args:
            builder: Makes layers or vertices, and knows the values.
            path: Where the node stands, as in `declare`.
            inputs: What comes in, at least one.

        Returns:
            What goes out.
        """


def join(path: str, part: str | int) -> str:
    """Path of a part.

    >>> join("", "stem"), join("stage1", 0)
    ('stem', 'stage1/0')
    """
    return f"{path}/{part}" if path else str(part)


def as_node(part: Any) -> Node:
    """A node as it is; a layer's name, class or a function as a `Layer`.

    Raises:
        SearchSpaceError: It is none of these.
    """
    if isinstance(part, Node):
        return part
    if isinstance(part, str) or callable(part):
        return Layer(part)
    raise SearchSpaceError(
        f"a part of a space needs a node, a layer class or its name; received {part!r}"
    )


class Layer(Node):
    """One Keras layer, or one block made by a function.

    Args:
        kind: A layer's name in `keras.layers` (``"Conv2D"``), a layer class, or a function
            that takes the arguments and returns something to call with a tensor.
        name: See `Node`.
        **arguments: Arguments of the layer. A `ValueChoice`, or what follows from some, is
            decided by the search.

    ```python
    Layer("Conv2D", filters=ValueChoice([16, 32, 64]), kernel_size=3, padding="same")
    ```
    """

    def __init__(
        self, kind: str | Callable[..., Any], /, *, name: str | None = None, **arguments: Any
    ) -> None:
        super().__init__(name=name)
        if not isinstance(kind, str) and not callable(kind):
            raise SearchSpaceError(
                f"`kind` of a Layer needs a layer class, its name or a function; received {kind!r}"
            )
        for argument, value in arguments.items():
            if isinstance(value, Node):
                raise SearchSpaceError(
                    f"argument {argument!r} of {label_of(kind)} needs a value or a ValueChoice; "
                    f"received a {type(value).__name__}. Sequential layers with `Sequential`."
                )
        self.kind = kind
        self.arguments = arguments

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        declaration.check_layer(self.kind, self.arguments, path)
        for argument, value in self.arguments.items():
            for choice in value.choices if isinstance(value, Value) else ():
                declaration.decide(choice, join(path, argument))

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        arguments = {
            argument: value.value(builder.values, join(path, argument))
            if isinstance(value, Value)
            else value
            for argument, value in self.arguments.items()
        }
        return builder.layer(self.kind, arguments, path, inputs)


def label_of(kind: str | Callable[..., Any]) -> str:
    """What people call a layer."""
    return kind if isinstance(kind, str) else getattr(kind, "__name__", type(kind).__name__)


class Identity(Node):
    """Passes on what comes in: the skip connection among operations."""

    def declare(self, declaration: Declaration, path: str) -> None:
        """Nothing to decide."""

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        return builder.one(inputs, path)


class Zero(Node):
    """Passes on zeros of the same shape: the missing connection among operations."""

    def declare(self, declaration: Declaration, path: str) -> None:
        """Nothing to decide."""

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        return builder.zero(builder.one(inputs, path), path)


class Sequential(Node):
    """Parts one after the other.

    Args:
        *parts: Nodes, layer classes or names of layers, by position.
        name: See `Node`.
        **named: Parts with a name of their own, after the others.

    ```python
    Sequential(stem=Layer("Conv2D", filters=16, kernel_size=3), head=Layer("Dense", units=10))
    ```
    """

    def __init__(self, *parts: Any, name: str | None = None, **named: Any) -> None:
        super().__init__(name=name)
        numbered = {str(index): as_node(part) for index, part in enumerate(parts)}
        self.parts = numbered | {key: as_node(part) for key, part in named.items()}
        if not self.parts:
            raise SearchSpaceError("`Sequential` needs at least one part; received none")

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        for key, part in self.parts.items():
            declaration.part(part, join(path, key))

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        for key, part in self.parts.items():
            inputs = [builder.part(part, join(path, key), inputs)]
        return inputs[0]


class Branches(Node):
    """Parts side by side on the same input, merged.

    Args:
        *parts: As in `Sequential`.
        merge: One of ``"add"``, ``"concatenate"``, ``"multiply"``, ``"average"`` and
            ``"maximum"``.
        name: See `Node`.
        **named: As in `Sequential`.
    """

    def __init__(
        self, *parts: Any, merge: str = "add", name: str | None = None, **named: Any
    ) -> None:
        super().__init__(name=name)
        self.merge = checked_merge(merge)
        numbered = {str(index): as_node(part) for index, part in enumerate(parts)}
        self.parts = numbered | {key: as_node(part) for key, part in named.items()}
        if len(self.parts) < 2:
            raise SearchSpaceError(
                f"`Branches` needs at least two parts; received {len(self.parts)}"
            )

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        for key, part in self.parts.items():
            declaration.part(part, join(path, key))

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        outputs = [builder.part(part, join(path, key), inputs) for key, part in self.parts.items()]
        return builder.merge(self.merge, outputs, path)


def checked_merge(merge: str) -> str:
    """A known way to merge.

    Raises:
        SearchSpaceError: It is not known.
    """
    if merge not in MERGES:
        raise SearchSpaceError(f"`merge` needs one of {MERGES}; received {merge!r}")
    return merge


def operations_of(operations: Mapping[str, Any] | Sequence[Any], owner: str) -> dict[str, Node]:
    """Operations by name; those without a name are called after their layer.

    Raises:
        SearchSpaceError: There are fewer than one, or two have one name.
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
                f"`operations` of a {owner} need different names; received {names}. "
                "Give a dictionary from name to operation."
            )
        named = dict(zip(names, nodes, strict=True))
    if not named:
        raise SearchSpaceError(f"`operations` of a {owner} needs at least one; received none")
    return named
