"""A cell: a small directed acyclic graph whose edges and operations are searched."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.language.base import Builder, Declaration, Node, T, join
from keras_nas_plugin.space.language.choices import InputChoice, LayerChoice
from keras_nas_plugin.space.language.nodes import as_node, check_merge, operations_of

PLACEMENTS = ("edges", "nodes", "inputs")
OUTPUTS = ("last", "all")


class Cell(Node):
    """A sequence of nodes that take their inputs from earlier nodes.

    The inputs of the cell are its first nodes. The argument ``on`` determines how each further
    node is computed:

    - ``"edges"``: as the merged results of one operation on each earlier node, as in
      NAS-Bench-201 (Dong & Yang 2020). An edge is removed by the operation `Zero`.
    - ``"nodes"``: as the result of one operation on the merged outputs of those earlier nodes
      that ``inputs`` chooses.
    - ``"inputs"``: as the merged results of one operation on each earlier node that ``inputs``
      chooses, as in DARTS (Liu et al. 2019).

    Cells with the same ``name`` share their decisions, even if their widths differ. Give one
    name to the cells of a stage, or to those of the entire network.

    Args:
        operations: See `LayerChoice`.
        nodes: Number of computed nodes, at least 1.
        on: Where the operations are: ``"edges"``, ``"nodes"`` or ``"inputs"``.
        inputs: For ``"nodes"`` and ``"inputs"``: how many earlier outputs a node takes, and
            how they are merged. Defaults to one (``"nodes"``) or two (``"inputs"``).
        merge: How the results on a node's edges are merged; see `Branches`.
        output: ``"last"``, or ``"all"`` for all computed nodes merged by ``output_merge``.
        output_merge: How ``output="all"`` merges the computed nodes; see `Branches`.
        arity: Number of inputs of the cell.
        default: Operation in all places of the first architecture. Defaults to the first one.
        name: See `Node`.

    Raises:
        SearchSpaceError: An argument is invalid.
    """

    def __init__(
        self,
        operations: Mapping[str, Any] | Sequence[Any],
        *,
        nodes: int,
        on: str = "edges",
        inputs: InputChoice | None = None,
        merge: str = "add",
        output: str = "last",
        output_merge: str = "concatenate",
        arity: int = 1,
        default: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        for argument, value, options in (("on", on, PLACEMENTS), ("output", output, OUTPUTS)):
            if value not in options:
                raise SearchSpaceError(
                    f"`{argument}` of a Cell must be one of {options}; got {value!r}"
                )
        for argument, number in (("nodes", nodes), ("arity", arity)):
            if not isinstance(number, int) or number < 1:
                raise SearchSpaceError(
                    f"`{argument}` of a Cell must be an integer of at least 1; got {number!r}"
                )
        if inputs is not None and on == "edges":
            raise SearchSpaceError(
                "`inputs` of a Cell must be None for `on='edges'`, where every earlier node is "
                "an input; got an InputChoice"
            )
        self.choice = LayerChoice(operations_of(operations, "Cell"), default=default)
        self.nodes, self.on, self.arity = nodes, on, arity
        self.inputs = inputs or InputChoice(2 if on == "inputs" else 1)
        self.merge = check_merge(merge)
        self.output, self.output_merge = output, check_merge(output_merge)

    def _input_choice(self, earlier: int) -> InputChoice:
        """The input choice of a node, reduced for the first nodes, which have few candidates."""
        if earlier >= self.inputs.fewest:
            return self.inputs
        return InputChoice(earlier, merge=self.inputs.merge)

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        choice = self.choice
        for node in range(self.arity, self.arity + self.nodes):
            node_path = join(path, node)
            if self.on == "edges":
                for source in range(node):
                    choice.declare(declaration, join(path, f"{source}to{node}"))
                continue
            sources = self._input_choice(node)
            sources.declare_among(declaration, join(node_path, "from"), node)
            slots = 1 if self.on == "nodes" else min(sources.most, node)
            for slot in range(slots):
                operation = join(node_path, "op" if self.on == "nodes" else f"op{slot}")
                if slot < sources.fewest:
                    choice.declare(declaration, operation)
                    continue
                options = sources.options(node, node_path)
                larger = [key for key, indices in options.items() if len(indices) > slot]
                with declaration.when(join(node_path, "from"), larger):
                    choice.declare(declaration, operation)

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        if len(inputs) != self.arity:
            raise SearchSpaceError(
                f"`Cell` at {path!r} must have {self.arity} inputs; got {len(inputs)}"
            )
        states = list(inputs)
        for node in range(self.arity, self.arity + self.nodes):
            states.append(self._node(builder, path, node, states))
        computed = states[self.arity :]
        if self.output == "last":
            return computed[-1]
        return builder.merge(self.output_merge, computed, join(path, "output"))

    def _node(self, builder: Builder[T], path: str, node: int, states: Sequence[T]) -> T:
        choice, node_path, states = self.choice, join(path, node), tuple(states)
        if self.on == "edges":
            results = [
                choice.build(builder, join(path, f"{source}to{node}"), [state])
                for source, state in enumerate(states)
            ]
            return builder.merge(self.merge, results, node_path)
        sources, decision = self._input_choice(node), join(node_path, "from")
        if self.on == "nodes":
            merged = sources.merged(builder, decision, states, node_path)
            return choice.build(builder, join(node_path, "op"), [merged])

        @functools.cache  # sets of inputs share the operations on common inputs
        def result(slot: int, source: int) -> T:
            return choice.build(builder, join(node_path, f"op{slot}"), [states[source]])

        def combine(indices: tuple[int, ...]) -> T:
            results = [result(slot, source) for slot, source in enumerate(indices)]
            return builder.merge(self.merge, results, node_path)

        return sources.select(builder, decision, states, combine)


class Stack(Node):
    """Cells in sequence, each of which takes the outputs of the two (or more) cells before it.

    Where there are too few cells before it, a cell takes the stack's input instead.

    Args:
        *cells: Nodes with ``arity`` inputs, in order. The same node may occur several times.
        arity: Number of earlier outputs that each cell takes.
        name: See `Node`.
    """

    def __init__(self, *cells: object, arity: int = 2, name: str | None = None) -> None:
        super().__init__(name=name)
        if not cells:
            raise SearchSpaceError("`Stack` must have at least one cell; got none")
        self.cells = [as_node(cell) for cell in cells]
        self.arity = arity

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        for index, cell in enumerate(self.cells):
            declaration.part(cell, join(path, index))

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        states = [builder.single(inputs, path)] * self.arity
        for index, cell in enumerate(self.cells):
            states = [*states[1:], builder.part(cell, join(path, index), states)]
        return states[-1]
