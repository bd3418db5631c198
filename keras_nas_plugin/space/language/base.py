"""The contract of the language: nodes, what they declare and how they are built.

A description is a tree of nodes. Each node does two things: it *declares* its decisions as
hyperparameters, including those of all its options, and it *builds* its part of a network. A
`Builder` determines what is built and from which values: Keras layers or the vertices of a
graph, one architecture or many that share weights. Nodes do not depend on Keras.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Domain
from keras_nas_plugin.space.language.values import Value, ValueChoice, check_name
from keras_nas_plugin.space.matching import read_value

#: What a builder passes from node to node: Keras tensors, or indices of vertices.
T = TypeVar("T")

#: A layer class, its name in `keras.layers`, or a function that makes a layer or a block.
LayerKind = str | Callable[..., Any]


class Node(abc.ABC):
    """One part of a description.

    Args:
        name: Replaces the node's path in the names of its decisions. Nodes of the same name
            share their decisions. They may be one node in several places, or nodes that differ
            only in settings that are not searched, such as the width of a stage.
    """

    def __init__(self, *, name: str | None = None) -> None:
        self.name = check_name(name, type(self).__name__)

    @abc.abstractmethod
    def declare(self, declaration: Declaration, path: str) -> None:
        """Declare every decision of this node and of the nodes in it.

        Args:
            declaration: Receives the decisions.
            path: Path of the node, for example ``"stage1/block0"``.

        Raises:
            SearchSpaceError: The node is used wrongly; the message names the path.
        """

    @abc.abstractmethod
    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """Build the node.

        A node never looks up values itself: it passes its options to `Builder.choose`, and
        calls `Builder.value` for the arguments of its layers.

        Args:
            builder: Creates layers or vertices, and selects among options.
            path: Path of the node, as in `declare`.
            inputs: The node's inputs, at least one.

        Returns:
            The node's output.
        """


class Declaration(abc.ABC):
    """Receives the decisions of a description."""

    @abc.abstractmethod
    def part(self, node: Node, path: str) -> None:
        """Declare a node at its path, or under its own name.

        Raises:
            SearchSpaceError: A node of that name has other decisions, or it contains itself.
        """

    @abc.abstractmethod
    def decide(self, choice: ValueChoice, path: str, *, repeat: bool = False) -> None:
        """Declare a value choice, unless it is declared already under the current conditions.

        Args:
            choice: The choice.
            path: Path of the value.
            repeat: Whether to declare it in any case, because conditions on it follow.
        """

    @abc.abstractmethod
    def choose(self, path: str, domain: Domain, default: object) -> None:
        """Declare one decision.

        Args:
            path: Name of the decision.
            domain: The values that it may take.
            default: Its value in the first architecture.

        Raises:
            SearchSpaceError: Another decision of that name has other values.
        """

    @abc.abstractmethod
    def when(self, path: str, values: Sequence[object]) -> contextlib.AbstractContextManager[None]:
        """Declare what follows only for some values of an earlier decision.

        Raises:
            SearchSpaceError: An enclosing node already depends on the same decision.
        """

    @abc.abstractmethod
    def check_layer(self, kind: LayerKind, arguments: Mapping[str, object], path: str) -> None:
        """Reject a layer that Keras does not have, or arguments that it does not take.

        Raises:
            SearchSpaceError: The layer or an argument is wrong; the message names the path.
        """


class Builder(abc.ABC, Generic[T]):
    """Builds a network from a description.

    By default, a builder builds the single architecture that its values describe. A supernet,
    which holds many architectures in one model with shared weights, can be built by a subclass
    of `KerasBuilder` that has no values and overrides two methods:

    - `choose`, to build all or some options of a decision, and to mix, mask or sample their
      outputs. That covers operations (`LayerChoice`, `Optional`), inputs (`InputChoice`,
      `Cell`), depth (`Repeat`) and dependent parts (`When`).
    - `value`, to return the value that a shared layer is created with, such as the largest
      width. It may also return any valid value and override `layer` to slice the weights.

    Options share the layers that they have in common, so that each layer is created once even
    if all options are built: the third repetition of a block follows the second one, not a copy
    of it. A layer that several architectures share is the result of a single call of `layer`.
    Cells of the same name in different places share their decisions, but not their weights.

    ```python
    class MixingBuilder(KerasBuilder):
        def choose(self, path, options, inputs):
            outputs = [build() for build in options.values()]
            return Mixture(name=path.replace("/", "_"))(outputs)

        def value(self, path, domain):
            return domain.at(math.nextafter(1.0, 0.0))  # the last, or largest
    ```

    Args:
        values: A value for every active decision, by name. May be empty if a subclass
            overrides `choose` and `value`.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def choose(self, path: str, options: Mapping[Any, Callable[[], T]], inputs: Sequence[T]) -> T:
        """Build the option that a decision selects.

        Args:
            path: Name of the decision.
            options: A dictionary from every value of the decision to a function that builds
                the option and returns its output. No part of an option is built before that
                call. A second call may build the option again.
            inputs: The inputs of the options, for builders that need their shapes or replace
                an option's output.

        Returns:
            The output of the option that `values` selects; the other options are not built.

        Raises:
            SearchSpaceError: There is no value for the decision, or it is not an option.
        """
        value = self._value(path)
        if value not in options:
            # A float that passed through KerasTuner's chief has the precision of float32.
            option = read_value(value, Categorical(tuple(options)))
            if option is None:
                raise SearchSpaceError(
                    f"`values[{path!r}]` must be one of {list(options)}; got {value!r}"
                )
            value = option
        return options[value]()

    def value(self, path: str, domain: Domain) -> Any:
        """The value of a decision that is used as an argument, such as a width or a rate.

        Args:
            path: Name of the decision.
            domain: The values that it may take.

        Raises:
            SearchSpaceError: There is no value for the decision.
        """
        return self._value(path)

    def _value(self, path: str) -> Any:
        if path not in self.values:
            raise SearchSpaceError(f"`values` must have a value for {path!r}; got none")
        return self.values[path]

    def resolve(self, value: object, path: str) -> Any:
        """The value of an argument; anything other than a `Value` is returned unchanged.

        Args:
            value: The argument.
            path: Path of the argument.
        """
        return value.resolve(self.value, path) if isinstance(value, Value) else value

    def part(self, node: Node, path: str, inputs: Sequence[T]) -> T:
        """Build a node at its path, or under its own name."""
        return node.build(self, node.name or path, inputs)

    def single(self, inputs: Sequence[T], path: str) -> T:
        """The only input of a node.

        Raises:
            SearchSpaceError: There are several.
        """
        if len(inputs) != 1:
            raise SearchSpaceError(
                f"the node at {path!r} must have one input; got {len(inputs)}. "
                "Merge them first, with an InputChoice or a layer."
            )
        return inputs[0]

    @abc.abstractmethod
    def layer(
        self, kind: LayerKind, arguments: Mapping[str, Any], path: str, inputs: Sequence[T]
    ) -> T:
        """Create a layer and call it on the inputs."""

    @abc.abstractmethod
    def merge(self, merge: str, inputs: Sequence[T], path: str) -> T:
        """Merge several outputs; a single one is returned unchanged."""

    @abc.abstractmethod
    def zero(self, value: T, path: str) -> T:
        """Zeros in the shape of ``value``."""


def join(path: str, part: str | int) -> str:
    """Path of a part of the node at ``path``.

    >>> join("", "stem"), join("stage1", 0)
    ('stem', 'stage1/0')
    """
    return f"{path}/{part}" if path else str(part)


def label_of(kind: LayerKind) -> str:
    """The name to display for a layer, or for a function that creates one.

    >>> label_of("Dense"), label_of(dict)
    ('Dense', 'dict')
    """
    return kind if isinstance(kind, str) else getattr(kind, "__name__", type(kind).__name__)


def layer_class(kind: LayerKind, path: str) -> Callable[..., Any]:
    """Look up a class of `keras.layers` by its name; a callable is returned unchanged.

    Raises:
        SearchSpaceError: Keras has no such layer.
    """
    if not isinstance(kind, str):
        return kind
    import keras

    layer = getattr(keras.layers, kind, None)
    if layer is None:
        raise SearchSpaceError(
            f"the Layer at {path!r} must name a layer of `keras.layers`; got {kind!r}"
        )
    return layer
