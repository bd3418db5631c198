"""Nodes with decisions: the operation, the inputs, the number of repetitions, the presence."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Integer
from keras_nas_plugin.space.language.base import Builder, Declaration, Node, T, join
from keras_nas_plugin.space.language.nodes import Identity, as_node, check_merge, operations_of
from keras_nas_plugin.space.language.values import ValueChoice

# Largest number of input sets that one decision may choose from. A larger number is most likely
# a mistake in the description.
_MAX_SETS = 512
# Largest number of values of a choice that a `When` asks for.
_MAX_CONDITION_VALUES = 1024


class LayerChoice(Node):
    """One of several operations.

    Args:
        operations: A dictionary from name to node, or a list of nodes, which are named after
            their layers. The decisions within an operation are active only when it is chosen.
        default: Name of the operation in the first architecture. Defaults to the first.
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
                f"`default` of a LayerChoice must be one of {list(self.operations)}; "
                f"got {default!r}"
            )
        self.default = default or next(iter(self.operations))

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        declaration.choose(path, Categorical(tuple(self.operations)), self.default)
        for key, operation in self.operations.items():
            with declaration.when(path, [key]):
                declaration.part(operation, join(path, key))

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        options = {
            key: functools.partial(builder.part, operation, join(path, key), inputs)
            for key, operation in self.operations.items()
        }
        return builder.choose(path, options, inputs)


class Optional(LayerChoice):
    """A part that may be left out.

    Args:
        part: The part; its output must have the shape of its input.
        default: Whether the first architecture contains the part.
        name: See `Node`.
    """

    def __init__(self, part: object, *, default: bool = False, name: str | None = None) -> None:
        operations = {"without": Identity(), "with": as_node(part)}
        super().__init__(operations, default="with" if default else "without", name=name)


class When(Node):
    """A part that is built for some values of a choice, and another part for all other values.

    ```python
    squeeze = ValueChoice([False, True], name="squeeze")
    When(squeeze, [True], Layer(SqueezeExcite, ratio=ValueChoice([4, 8])))
    ```

    Args:
        choice: The choice that the part depends on. It must have a name, so that it can be
            used elsewhere as well.
        values: Values of the choice for which ``part`` is built.
        part: The part that is built for these values.
        otherwise: The part for all other values. By default the input is passed through.
        name: See `Node`.

    Raises:
        SearchSpaceError: The choice has no name or more than 1,024 values, or ``values`` are not
            among its values.
    """

    def __init__(
        self,
        choice: ValueChoice,
        values: Sequence[Any],
        part: object,
        otherwise: object = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if not isinstance(choice, ValueChoice) or choice.name is None:
            raise SearchSpaceError(
                f"`choice` of a When must be a ValueChoice with a name; got {choice!r}"
            )
        values = list(values)
        if not values or not choice.domain.size or not all(map(choice.domain.contains, values)):
            raise SearchSpaceError(
                f"`values` of a When must be values of {choice.name!r}, {choice.domain}; "
                f"got {values}"
            )
        if choice.domain.size > _MAX_CONDITION_VALUES:
            # A condition lists the values that it holds for, and so does every stored space.
            raise SearchSpaceError(
                f"`choice` of a When must have at most {_MAX_CONDITION_VALUES:,} values; got "
                f"{choice.domain.size:,} of {choice.name!r}. Pass a larger `step`."
            )
        self.choice, self.values = choice, values
        self.part = as_node(part)
        self.otherwise = Identity() if otherwise is None else as_node(otherwise)

    def _other_values(self) -> list[Any]:
        return [value for value in self.choice.domain.values() if value not in self.values]

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        declaration.decide(self.choice, path, repeat=True)
        with declaration.when(self.choice.path(path), self.values):
            declaration.part(self.part, join(path, "then"))
        if other_values := self._other_values():
            with declaration.when(self.choice.path(path), other_values):
                declaration.part(self.otherwise, join(path, "otherwise"))

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        # Cached, so that the values with the same part share one build of it.
        part = functools.cache(
            functools.partial(builder.part, self.part, join(path, "then"), inputs)
        )
        otherwise = functools.cache(
            functools.partial(builder.part, self.otherwise, join(path, "otherwise"), inputs)
        )
        options = {
            value: part if value in self.values else otherwise
            for value in self.choice.domain.values()
        }
        return builder.choose(self.choice.path(path), options, inputs)


class Repeat(Node):
    """A part that is repeated several times in a row.

    Inputs after the first, such as a mask, are passed on to each repetition unchanged.

    Args:
        part: The part to repeat.
        low: Minimum number of repetitions; with 0, the part may be absent.
        high: Maximum number of repetitions. Defaults to ``low``: the number is not searched.
        first: Replaces the part in the first repetition, for example one that has the strides
            of a stage or sets its width.
        shared: Whether all repetitions share their decisions, but not their weights. By default,
            each repetition has decisions of its own.
        default: Repetitions in the first architecture. Defaults to ``low``, but at least 1.
        counter: Name of the decision about the number of repetitions: the last component of its
            path.
        name: See `Node`.

    Raises:
        SearchSpaceError: The numbers are out of order, or ``first`` is combined with
            ``shared``.
    """

    def __init__(
        self,
        part: object,
        low: int,
        high: int | None = None,
        *,
        first: object = None,
        shared: bool = False,
        default: int | None = None,
        counter: str = "count",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        high = low if high is None else high
        integers = all(isinstance(n, int) and not isinstance(n, bool) for n in (low, high))
        if not integers or not 0 <= low <= high or high == 0:
            raise SearchSpaceError(
                "`Repeat` must have integers with 0 <= low <= high and high >= 1; "
                f"got low={low}, high={high}"
            )
        if default is not None and not low <= default <= high:
            raise SearchSpaceError(
                f"`default` of a Repeat must be between {low} and {high}; got {default}"
            )
        if first is not None and shared:
            raise SearchSpaceError(
                "`first` of a Repeat must be None if its repetitions share their decisions "
                f"(`shared=True`); got {first!r}"
            )
        self.node = as_node(part)
        self.first = self.node if first is None else as_node(first)
        self.low, self.high, self.shared = low, high, shared
        self.default = (low or 1) if default is None else default
        self.counter = counter

    def _repetition(self, path: str, index: int) -> tuple[Node, str]:
        """The node of one repetition, and its path."""
        node = self.first if index == 0 else self.node
        return node, join(path, "each" if self.shared else index)

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        counter = join(path, self.counter)
        if self.low < self.high:
            declaration.choose(counter, Integer(self.low, self.high), self.default)
        for index in range(1 if self.shared else self.high):
            if index < self.low:
                declaration.part(*self._repetition(path, index))
                continue
            with declaration.when(counter, list(range(index + 1, self.high + 1))):
                declaration.part(*self._repetition(path, index))

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        # outputs[n] is the output after n repetitions, so that all options share repetitions.
        outputs = [inputs[0]]

        def output_after(count: int) -> T:
            for index in range(len(outputs) - 1, count):
                node, part_path = self._repetition(path, index)
                outputs.append(builder.part(node, part_path, [outputs[-1], *inputs[1:]]))
            return outputs[count]

        if self.low == self.high:
            return output_after(self.high)
        counts = range(self.low, self.high + 1)
        options = {count: functools.partial(output_after, count) for count in counts}
        return builder.choose(join(path, self.counter), options, inputs)


class InputChoice(Node):
    """A choice of one or more inputs from several earlier outputs.

    Inside a `Cell` it chooses among the earlier nodes; elsewhere, among the inputs that a
    custom node or the model passes to it.

    Args:
        fewest: Minimum number of inputs to choose.
        most: Maximum number of inputs to choose. Defaults to ``fewest``.
        merge: How several inputs are merged; see `Branches`.
        candidates: How many inputs there are. Not needed inside a `Cell`.
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
                f"`InputChoice` must have 1 <= fewest <= most; got fewest={fewest}, most={most}"
            )
        self.fewest, self.most, self.merge = fewest, most, check_merge(merge)
        self.candidates = candidates

    def options(self, candidates: int, path: str) -> dict[str, tuple[int, ...]]:
        """The sets of inputs to choose from, by name: ``"0+2"`` is the first and the third.

        Raises:
            SearchSpaceError: There are fewer candidates than ``fewest``, or too many sets.
        """
        if candidates < self.fewest:
            raise SearchSpaceError(
                f"`InputChoice` at {path!r} must have at least {self.fewest} candidates; "
                f"got {candidates}"
            )
        sizes = range(self.fewest, min(self.most, candidates) + 1)
        sets = [
            indices
            for size in sizes
            for indices in itertools.islice(
                itertools.combinations(range(candidates), size), _MAX_SETS + 1
            )
        ]
        if len(sets) > _MAX_SETS:
            raise SearchSpaceError(
                f"`InputChoice` at {path!r} allows at most {_MAX_SETS} sets of inputs; "
                f"got {candidates} candidates, {self.fewest} to {self.most} at a time"
            )
        return {"+".join(map(str, indices)): indices for indices in sets}

    def declare_among(self, declaration: Declaration, path: str, candidates: int) -> None:
        """Declare the choice among a number of inputs; a single option is not a decision."""
        options = tuple(self.options(candidates, path))
        if len(options) > 1:
            declaration.choose(path, Categorical(options), options[-1])

    def select(
        self,
        builder: Builder[T],
        path: str,
        inputs: Sequence[T],
        combine: Callable[[tuple[int, ...]], T],
    ) -> T:
        """Build the output for the set of inputs that the decision selects.

        Args:
            builder: See `Node.build`.
            path: Name of the decision.
            inputs: The candidates.
            combine: Builds the output for the indices of the chosen inputs.
        """
        options = self.options(len(inputs), path)
        if len(options) == 1:
            return combine(next(iter(options.values())))
        builds = {key: functools.partial(combine, indices) for key, indices in options.items()}
        return builder.choose(path, builds, inputs)

    def merged(self, builder: Builder[T], path: str, inputs: Sequence[T], merge_path: str) -> T:
        """The chosen inputs, merged; ``merge_path`` is the path of the merge."""
        return self.select(
            builder,
            path,
            inputs,
            lambda indices: builder.merge(
                self.merge, [inputs[index] for index in indices], merge_path
            ),
        )

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        if self.candidates is None:
            raise SearchSpaceError(
                f"`InputChoice` at {path!r} must have `candidates`: it is not inside a `Cell`; "
                "got None"
            )
        self.declare_among(declaration, path, self.candidates)

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        if len(inputs) != self.candidates:
            raise SearchSpaceError(
                f"`InputChoice` at {path!r} must have {self.candidates} inputs; got {len(inputs)}"
            )
        return self.merged(builder, path, inputs, path)
