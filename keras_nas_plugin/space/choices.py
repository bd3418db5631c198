"""Nodes that the search decides: which operation, how often, from where, and whether."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Integer
from keras_nas_plugin.space.nodes import (
    Identity,
    Node,
    as_node,
    checked_merge,
    join,
    operations_of,
)
from keras_nas_plugin.space.values import ValueChoice

if TYPE_CHECKING:
    from keras_nas_plugin.space.building import Builder
    from keras_nas_plugin.space.declaring import Declaration

# Sets of inputs that one decision may choose from; beyond, the space was written wrongly.
_MOST_SETS = 512


class LayerChoice(Node):
    """One of several operations.

    Args:
        operations: From name to node; or a list of nodes, named after their layers. What
            an operation leaves open is decided only when it is chosen.
        default: Name of the first architecture's operation; the first without it.
        name: See `Node`.
    """

    def __init__(
        self,
        operations: Mapping[str, Any] | Sequence[Any],
        *,
        default: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.operations = operations_of(operations, "LayerChoice")
        if default is not None and default not in self.operations:
            raise SearchSpaceError(
                f"`default` of a LayerChoice needs one of {list(self.operations)}; "
                f"received {default!r}"
            )
        self.default = default or next(iter(self.operations))

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        declaration.choose(path, Categorical(tuple(self.operations)), self.default)
        for key, operation in self.operations.items():
            with declaration.when(path, [key]):
                declaration.part(operation, join(path, key))

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        key = builder.values[path]
        return builder.part(self.operations[key], join(path, key), inputs)


class Optional(LayerChoice):
    """A part, or nothing in its place.

    Args:
        part: What may be left out; its output has the shape of its input.
        default: Whether the first architecture has it.
        name: See `Node`.
    """

    def __init__(self, part: Any, *, default: bool = False, name: str | None = None) -> None:
        operations = {"without": Identity(), "with": as_node(part)}
        super().__init__(operations, default="with" if default else "without", name=name)


class When(Node):
    """One part for some values of a choice, another one for the others.

    ```python
    squeeze = ValueChoice([False, True], name="squeeze")
    When(squeeze, [True], Layer(SqueezeExcite, ratio=ValueChoice([4, 8])))
    ```

    Args:
        choice: The choice that decides; it needs a name, as it stands elsewhere too.
        values: Those for which ``part`` is built.
        part: What is built for them.
        otherwise: What is built for other values; without it, nothing.
        name: See `Node`.

    Raises:
        SearchSpaceError: The choice has no name, or not these values.
    """

    def __init__(
        self,
        choice: ValueChoice,
        values: Sequence[Any],
        part: Any,
        otherwise: Any = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if not isinstance(choice, ValueChoice) or choice.name is None:
            raise SearchSpaceError(
                f"`choice` of a When needs a ValueChoice with a name; received {choice!r}"
            )
        values = list(values)
        if not values or not choice.domain.size or not all(map(choice.domain.contains, values)):
            raise SearchSpaceError(
                f"`values` of a When needs listed values of {choice.name!r}, {choice.domain}; "
                f"received {values}"
            )
        self.choice, self.values = choice, values
        self.part = as_node(part)
        self.otherwise = Identity() if otherwise is None else as_node(otherwise)

    def _others(self) -> list[Any]:
        return [one for one in self.choice.domain.values() if one not in self.values]

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        declaration.decide(self.choice, path, here=True)
        with declaration.when(self.choice.path(path), self.values):
            declaration.part(self.part, join(path, "then"))
        if others := self._others():
            with declaration.when(self.choice.path(path), others):
                declaration.part(self.otherwise, join(path, "otherwise"))

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        if self.choice.value(builder.values, path) in self.values:
            return builder.part(self.part, join(path, "then"), inputs)
        return builder.part(self.otherwise, join(path, "otherwise"), inputs)


class Repeat(Node):
    """A part several times in a row.

    Args:
        part: What is repeated.
        low: Fewest times; 0 may leave the part out.
        high: Most times. Equal to ``low``, the number is not decided.
        shared: Whether all repetitions make the same choices (their weights are their
            own); else each decides for itself.
        name: See `Node`.

    Raises:
        SearchSpaceError: The numbers make no sense.
    """

    def __init__(
        self,
        part: Any,
        low: int,
        high: int | None = None,
        *,
        shared: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        high = low if high is None else high
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (low, high))
        if not whole or not 0 <= low <= high or high == 0:
            raise SearchSpaceError(
                f"`Repeat` needs whole numbers with 0 <= low <= high and high >= 1; "
                f"received low={low}, high={high}"
            )
        self.node = as_node(part)
        self.low, self.high, self.shared = low, high, shared

    def _place(self, path: str, index: int) -> str:
        return join(path, "each" if self.shared else index)

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        count = join(path, "count")
        if self.low < self.high:
            declaration.choose(count, Integer(self.low, self.high), self.low or 1)
        for index in range(1 if self.shared else self.high):
            place = self._place(path, index)
            if index < self.low:
                declaration.part(self.node, place)
                continue
            with declaration.when(count, list(range(index + 1, self.high + 1))):
                declaration.part(self.node, place)

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        count = builder.values[join(path, "count")] if self.low < self.high else self.low
        for index in range(count):
            inputs = [builder.part(self.node, self._place(path, index), inputs)]
        return builder.one(inputs, path)


class InputChoice(Node):
    """Which of several earlier outputs come in.

    Inside a `Cell` the earlier nodes come in; elsewhere what a `Branches` or a custom node
    passes on.

    Args:
        fewest: Fewest inputs that are chosen.
        most: Most inputs that are chosen; ``fewest`` without it.
        merge: How several are merged; see `Branches`.
        candidates: How many come in, where the description does not tell.
        name: See `Node`.
    """

    def __init__(
        self,
        fewest: int = 1,
        most: int | None = None,
        *,
        merge: str = "add",
        candidates: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        most = fewest if most is None else most
        if not 1 <= fewest <= most:
            raise SearchSpaceError(
                f"`InputChoice` needs 1 <= fewest <= most; received fewest={fewest}, most={most}"
            )
        self.fewest, self.most, self.merge = fewest, most, checked_merge(merge)
        self.candidates = candidates

    def options(self, candidates: int, path: str) -> dict[str, tuple[int, ...]]:
        """Sets of inputs by their names: ``"0+2"`` is the first and the third.

        Raises:
            SearchSpaceError: There are fewer candidates than inputs needed, or too many sets.
        """
        if candidates < self.fewest:
            raise SearchSpaceError(
                f"`InputChoice` at {path!r} needs at least {self.fewest} candidates; "
                f"received {candidates}"
            )
        sizes = range(self.fewest, min(self.most, candidates) + 1)
        sets = [
            chosen
            for size in sizes
            for chosen in itertools.islice(
                itertools.combinations(range(candidates), size), _MOST_SETS + 1
            )
        ]
        if len(sets) > _MOST_SETS:
            raise SearchSpaceError(
                f"`InputChoice` at {path!r} allows at most {_MOST_SETS} sets of inputs; "
                f"received {candidates} candidates, {self.fewest} to {self.most} at a time"
            )
        return {"+".join(map(str, chosen)): chosen for chosen in sets}

    def declare_among(self, declaration: Declaration, path: str, candidates: int) -> None:
        """Declare the choice among a known number of inputs; one option is no decision."""
        options = tuple(self.options(candidates, path))
        if len(options) > 1:
            declaration.choose(path, Categorical(options), options[-1])

    def chosen(self, builder: Builder, path: str, candidates: int) -> tuple[int, ...]:
        """Indices of the chosen inputs."""
        options = self.options(candidates, path)
        return options[builder.values[path]] if len(options) > 1 else next(iter(options.values()))

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        if self.candidates is None:
            raise SearchSpaceError(
                f"`InputChoice` at {path!r} needs `candidates`, as it stands outside a `Cell`"
            )
        self.declare_among(declaration, path, self.candidates)

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        if len(inputs) != self.candidates:
            raise SearchSpaceError(
                f"`InputChoice` at {path!r} needs {self.candidates} inputs; received {len(inputs)}"
            )
        chosen = [inputs[index] for index in self.chosen(builder, path, len(inputs))]
        return builder.merge(self.merge, chosen, path)
