"""Architectures as graphs that can be printed, stored and compared."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.language.base import Builder, LayerKind, label_of

INPUT, OUTPUT, ZERO = "input", "output", "zero"
# Merges whose result does not depend on the order of what is merged.
_COMMUTATIVE = ("add", "multiply", "average", "maximum")
# Merges that may be flattened when nested: a + (b + c) is a + b + c.
_ASSOCIATIVE = ("add", "multiply", "maximum", "concatenate")
# Operations that map zeros to zeros: always, or if they have no bias.
_PRESERVE_ZEROS = (*_COMMUTATIVE, "concatenate", "ReLU", "LeakyReLU", "ELU", "Dropout", "Flatten")
_ZERO_WITHOUT_BIAS = ("Conv1D", "Conv2D", "Conv3D", "Dense", "DepthwiseConv2D", "SeparableConv2D")


@dataclasses.dataclass(frozen=True)
class Vertex:
    """One operation of an architecture.

    Attributes:
        label: A layer's name, a merge, ``"input"``, ``"output"`` or ``"zero"``.
        arguments: The layer's arguments, serialisable as JSON.
        inputs: Indices of the vertices that feed it, in order.
        path: Path of the node in the description.
    """

    label: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inputs: tuple[int, ...] = ()
    path: str = ""

    def title(self) -> str:
        """The operation with its arguments.

        >>> Vertex("Dense", {"units": 3}).title()
        'Dense(units=3)'
        """
        arguments = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.label}({arguments})" if arguments else self.label


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An architecture as a directed acyclic graph.

    Attributes:
        vertices: The operations in topological order: each one follows its inputs.
        values: The values that it was built from.
    """

    vertices: tuple[Vertex, ...]
    values: Mapping[str, Any]

    def simplified(self) -> Architecture:
        """An equivalent architecture with fewer vertices.

        Vertices that do not affect the output are removed, and so are zeros in sums and
        operations on zeros that return zeros (pooling, but not layers with a bias). A merge of
        a single input is replaced by that input, and nested sums by one sum.
        """
        return Architecture(_simplified(self.vertices), self.values)

    def hash(self) -> str:
        """A hash that is equal for architectures whose simplified graphs are isomorphic.

        Each vertex is labelled by all vertices that it depends on and by all that depend on
        it; the sorted labels are hashed. This is the method of NAS-Bench-101 (Ying et al. 2019,
        section 2.2), extended to arguments and to the order of inputs where it matters.

        Returns:
            32 hexadecimal characters.
        """
        vertices = self.simplified().vertices
        upstream: list[str] = []
        for vertex in vertices:
            sources = [upstream[index] for index in vertex.inputs]
            if vertex.label in _COMMUTATIVE:
                sources.sort()
            upstream.append(_digest([vertex.label, vertex.arguments, sources]))
        consumers: list[list[str]] = [[] for _ in vertices]
        labels = [""] * len(vertices)
        for index in range(len(vertices) - 1, -1, -1):
            vertex = vertices[index]
            labels[index] = _digest([upstream[index], sorted(consumers[index])])
            for position, source in enumerate(vertex.inputs):
                slot = 0 if vertex.label in _COMMUTATIVE else position
                consumers[source].append(f"{slot}:{labels[index]}")
        return _digest(sorted(labels))

    def to_json(self) -> str:
        """Values, vertices and hash as JSON."""
        vertices = [dataclasses.asdict(vertex) for vertex in self.vertices]
        data = {"hash": self.hash(), "values": dict(self.values), "vertices": vertices}
        return json.dumps(data, indent=2, default=str)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read an architecture from the text that `to_json` wrote.

        Raises:
            SearchSpaceError: The text is not such JSON.
        """
        try:
            data = json.loads(text)
            vertices = [Vertex(**v | {"inputs": tuple(v["inputs"])}) for v in data["vertices"]]
            return cls(tuple(vertices), data["values"])
        except (ValueError, TypeError, KeyError) as error:
            raise SearchSpaceError(
                f"`text` must be JSON that `Architecture.to_json` wrote; got {text[:60]!r}"
            ) from error

    def to_dot(self) -> str:
        """The graph in Graphviz' DOT language, for example for ``dot -Tsvg``."""
        lines = ["digraph architecture {", "  node [shape=box];"]
        for index, vertex in enumerate(self.vertices):
            lines.append(f"  v{index} [label={json.dumps(vertex.title())}];")
            lines.extend(f"  v{source} -> v{index};" for source in vertex.inputs)
        return "\n".join([*lines, "}"])

    def __str__(self) -> str:
        """One line per operation: its index, the operation and its inputs."""
        lines = []
        for index, vertex in enumerate(self.vertices):
            sources = ", ".join(f"%{source}" for source in vertex.inputs)
            arrow = f" <- {sources}" if sources else ""
            comment = f"  # {vertex.path}" if vertex.path else ""
            lines.append(f"%{index} = {vertex.title()}{arrow}{comment}")
        return "\n".join(lines)


class GraphBuilder(Builder[int]):
    """Builds a graph of vertices instead of layers; outputs of nodes are indices of vertices.

    Args:
        values: See `Builder`.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.vertices: list[Vertex] = []

    def _add(self, vertex: Vertex) -> int:
        self.vertices.append(vertex)
        return len(self.vertices) - 1

    def input(self, name: str = "") -> int:
        """Add a vertex for an input of the model."""
        return self._add(Vertex(INPUT, path=name))

    def layer(
        self,
        kind: LayerKind,
        arguments: Mapping[str, Any],
        path: str,
        inputs: Sequence[int],
    ) -> int:
        """See `Builder.layer`."""
        return self._add(Vertex(label_of(kind), _plain(arguments), tuple(inputs), path))

    def merge(self, merge: str, inputs: Sequence[int], path: str) -> int:
        """See `Builder.merge`."""
        if len(inputs) == 1:
            return inputs[0]
        return self._add(Vertex(merge, {}, tuple(inputs), path))

    def zero(self, value: int, path: str) -> int:
        """See `Builder.zero`."""
        return self._add(Vertex(ZERO, {}, (value,), path))

    def finish(self, output: int) -> Architecture:
        """The architecture that ends in ``output``."""
        self._add(Vertex(OUTPUT, {}, (output,)))
        return Architecture(tuple(self.vertices), dict(self.values))


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(arguments), default=label_of, sort_keys=True))


def _digest(data: object) -> str:
    text = json.dumps(data, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _simplified(vertices: Sequence[Vertex]) -> tuple[Vertex, ...]:
    """See `Architecture.simplified`."""
    simplified: list[Vertex] = []
    # Old index -> new index; None for zeros.
    new_index: dict[int, int | None] = {}
    for index, vertex in enumerate(vertices):
        inputs = [new_index[source] for source in vertex.inputs]
        all_zero = bool(inputs) and all(source is None for source in inputs)
        if vertex.label == ZERO or (all_zero and _preserves_zeros(vertex)):
            new_index[index] = None
            continue
        if vertex.label == "add":
            # Only a sum can drop zeros: the mean or the maximum of a zero and x is not x.
            inputs = [source for source in inputs if source is not None]
        if vertex.label in _ASSOCIATIVE and len(inputs) == 1:
            new_index[index] = inputs[0]
            continue
        new_index[index] = _append(simplified, vertex, inputs)
    return _reachable(simplified)


def _preserves_zeros(vertex: Vertex) -> bool:
    """Whether an operation is certain to map zeros to zeros."""
    if vertex.label in _ZERO_WITHOUT_BIAS:
        return vertex.arguments.get("use_bias") is False and "activation" not in vertex.arguments
    return vertex.label in _PRESERVE_ZEROS or "Pooling" in vertex.label


def _append(simplified: list[Vertex], vertex: Vertex, inputs: Sequence[int | None]) -> int:
    """Append a vertex with new zeros as inputs and nested merges flattened; returns its index."""
    sources: list[int] = []
    for source in inputs:
        if source is None:
            simplified.append(Vertex(ZERO))
            source = len(simplified) - 1
        if vertex.label in _ASSOCIATIVE and simplified[source].label == vertex.label:
            sources.extend(simplified[source].inputs)
        else:
            sources.append(source)
    simplified.append(Vertex(vertex.label, vertex.arguments, tuple(sources), vertex.path))
    return len(simplified) - 1


def _reachable(vertices: Sequence[Vertex]) -> tuple[Vertex, ...]:
    """Remove vertices that the last one does not depend on, except inputs."""
    needed = {len(vertices) - 1}
    for index in range(len(vertices) - 1, -1, -1):
        if index in needed:
            needed.update(vertices[index].inputs)
        elif vertices[index].label == INPUT:
            needed.add(index)
    order = {old: new for new, old in enumerate(sorted(needed))}
    return tuple(
        dataclasses.replace(
            vertices[old], inputs=tuple(order[source] for source in vertices[old].inputs)
        )
        for old in order
    )
