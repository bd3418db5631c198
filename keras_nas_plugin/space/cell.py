"""A cell: a small directed acyclic graph that the search wires and fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.choices import InputChoice, LayerChoice
from keras_nas_plugin.space.nodes import Node, as_node, checked_merge, join, operations_of

if TYPE_CHECKING:
    from keras_nas_plugin.space.building import Builder
    from keras_nas_plugin.space.declaring import Declaration

PLACES = ("edges", "nodes", "inputs")
OUTPUTS = ("last", "all")


class Cell(Node):
    """Nodes in a row, each fed by earlier ones; operations on edges or on nodes.

    What comes into the cell are its first nodes. Each further node is one of

    - ``on="edges"``: the merged results of one operation per earlier node, as in
      NAS-Bench-201 (Dong & Yang 2020): the wiring follows from `Zero` among the operations;
    - ``on="nodes"``: one operation on the merged outputs of the earlier nodes that
      ``inputs`` chooses;
    - ``on="inputs"``: the merged results of one operation per chosen earlier node, as in
      DARTS (Liu et al. 2019).

    Cells of one ``name`` make their choices once: those of a stage, or of the whole network,
    whatever their width.

    Args:
        operations: As in `LayerChoice`.
        nodes: How many nodes are computed, at least 1.
        on: Where the operations are: ``"edges"``, ``"nodes"`` or ``"inputs"``.
        inputs: For ``"nodes"`` and ``"inputs"``: how many earlier outputs feed a node, and
            how they are merged. Without it one (``"nodes"``) or two (``"inputs"``).
        merge: How the results on a node's edges are merged; see `Branches`.
        output: ``"last"``, or ``"all"`` for all computed nodes merged by ``output_merge``.
        output_merge: See ``output``.
        arity: How many inputs the cell takes.
        default: Operation of the first architecture, everywhere; the first one without it.
        name: See `Node`.

    Raises:
        SearchSpaceError: The description makes no sense.
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
        for argument, value, known in (("on", on, PLACES), ("output", output, OUTPUTS)):
            if value not in known:
                raise SearchSpaceError(
                    f"`{argument}` of a Cell needs one of {known}; received {value!r}"
                )
        for argument, number in (("nodes", nodes), ("arity", arity)):
            if not isinstance(number, int) or number < 1:
                raise SearchSpaceError(
                    f"`{argument}` of a Cell needs a whole number from 1; received {number!r}"
                )
        if inputs is not None and on == "edges":
            raise SearchSpaceError(
                "`inputs` of a Cell needs `on='nodes'` or `on='inputs'`: with operations on "
                "edges every earlier node comes in; received an InputChoice"
            )
        self.choice = LayerChoice(operations_of(operations, "Cell"), default=default)
        self.nodes, self.on, self.arity = nodes, on, arity
        self.inputs = inputs or InputChoice(2 if on == "inputs" else 1)
        self.merge = checked_merge(merge)
        self.output, self.output_merge = output, checked_merge(output_merge)

    def _fewest(self, earlier: int) -> InputChoice:
        """The input choice of a node: the first node may have fewer candidates."""
        chooser = self.inputs
        if earlier >= chooser.fewest:
            return chooser
        return InputChoice(earlier, merge=chooser.merge)

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        choice = self.choice
        for node in range(self.arity, self.arity + self.nodes):
            place = join(path, node)
            if self.on == "edges":
                for source in range(node):
                    choice.declare(declaration, join(path, f"{source}to{node}"))
                continue
            chooser = self._fewest(node)
            chooser.declare_among(declaration, join(place, "from"), node)
            slots = 1 if self.on == "nodes" else min(chooser.most, node)
            for slot in range(slots):
                operation = join(place, "op" if self.on == "nodes" else f"op{slot}")
                if slot < chooser.fewest:
                    choice.declare(declaration, operation)
                    continue
                options = chooser.options(node, place)
                larger = [key for key, chosen in options.items() if len(chosen) > slot]
                with declaration.when(join(place, "from"), larger):
                    choice.declare(declaration, operation)

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        if len(inputs) != self.arity:
            raise SearchSpaceError(
                f"`Cell` at {path!r} needs {self.arity} inputs; received {len(inputs)}"
            )
        states = list(inputs)
        for node in range(self.arity, self.arity + self.nodes):
            states.append(self._node(builder, path, node, states))
        computed = states[self.arity :]
        if self.output == "last":
            return computed[-1]
        return builder.merge(self.output_merge, computed, join(path, "output"))

    def _node(self, builder: Builder, path: str, node: int, states: Sequence[Any]) -> Any:
        choice, place = self.choice, join(path, node)
        if self.on == "edges":
            results = [
                choice.build(builder, join(path, f"{source}to{node}"), [state])
                for source, state in enumerate(states)
            ]
            return builder.merge(self.merge, results, place)
        chooser = self._fewest(node)
        chosen = chooser.chosen(builder, join(place, "from"), len(states))
        if self.on == "nodes":
            merged = builder.merge(chooser.merge, [states[i] for i in chosen], place)
            return choice.build(builder, join(place, "op"), [merged])
        results = [
            choice.build(builder, join(place, f"op{slot}"), [states[index]])
            for slot, index in enumerate(chosen)
        ]
        return builder.merge(self.merge, results, place)


class Stack(Node):
    """Cells that take the outputs of the two (or more) cells before them.

    The first cell gets the stack's input for each of its inputs.

    Args:
        *cells: Nodes with ``arity`` inputs, in order. One object may stand several times.
        arity: How many earlier outputs each cell takes.
        name: See `Node`.
    """

    def __init__(self, *cells: Any, arity: int = 2, name: str | None = None) -> None:
        super().__init__(name=name)
        if not cells:
            raise SearchSpaceError("`Stack` needs at least one cell; received none")
        self.cells = [as_node(cell) for cell in cells]
        self.arity = arity

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        for index, cell in enumerate(self.cells):
            declaration.part(cell, join(path, index))

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        states = [builder.one(inputs, path)] * self.arity
        for index, cell in enumerate(self.cells):
            states = [*states[1:], builder.part(cell, join(path, index), states)]
        return states[-1]
