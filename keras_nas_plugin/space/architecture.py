"""One architecture as a graph: for people, for files, and to tell equal ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.building import Builder
from keras_nas_plugin.space.nodes import label_of

INPUT, OUTPUT, ZERO = "input", "output", "zero"
# Merges whose result does not depend on the order of what is merged.
_COMMUTATIVE = ("add", "multiply", "average", "maximum")
# Merges of merges that are one merge: a + (b + c).
_ASSOCIATIVE = ("add", "multiply", "maximum", "concatenate")
# What makes zeros of zeros: always, or as long as there is no bias.
_KEEP_ZEROS = (*_COMMUTATIVE, "concatenate", "ReLU", "LeakyReLU", "ELU", "Dropout", "Flatten")
_ZERO_WITHOUT_BIAS = ("Conv1D", "Conv2D", "Conv3D", "Dense", "DepthwiseConv2D", "SeparableConv2D")


@dataclasses.dataclass(frozen=True)
class Vertex:
    """One operation of an architecture.

    Attributes:
        label: A layer's name, a merge, ``"input"``, ``"output"`` or ``"zero"``.
        arguments: The layer's arguments, JSON-able.
        inputs: Indices of the vertices that feed it, in order.
        path: Where it stands in the description.
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
    """An architecture as a directed acyclic graph, inputs before what they feed.

    Attributes:
        vertices: In an order in which each vertex follows its inputs.
        values: The values that it was built from.
    """

    vertices: tuple[Vertex, ...]
    values: Mapping[str, Any]

    def simplified(self) -> Architecture:
        """The same function of the inputs with fewer vertices.

        What the output does not depend on is left out; so are zeros in sums, and what
        makes zeros of zeros (pooling, but no layer with a bias); a merge of one is what it
        merges, and a sum in a sum one sum.
        """
        return Architecture(_simplified(self.vertices), self.values)

    def hash(self) -> str:
        """Equal for architectures whose simplified graphs are isomorphic.

        Each vertex gets a label from all that feeds it and one from all that it feeds;
        the sorted pairs are hashed. As in NAS-Bench-101 (Ying et al. 2019, section 2.2),
        with arguments, and with the order of inputs where it matters.

        Returns:
            32 hexadecimal characters.
        """
        vertices = self.simplified().vertices
        ahead: list[str] = []
        for vertex in vertices:
            fed = [ahead[index] for index in vertex.inputs]
            if vertex.label in _COMMUTATIVE:
                fed.sort()
            ahead.append(_digest([vertex.label, vertex.arguments, fed]))
        feeds: list[list[str]] = [[] for _ in vertices]
        behind = [""] * len(vertices)
        for index in range(len(vertices) - 1, -1, -1):
            vertex = vertices[index]
            behind[index] = _digest([ahead[index], sorted(feeds[index])])
            for slot, source in enumerate(vertex.inputs):
                place = 0 if vertex.label in _COMMUTATIVE else slot
                feeds[source].append(f"{place}:{behind[index]}")
        return _digest(sorted(behind))

    def to_json(self) -> str:
        """Values, vertices and hash as JSON."""
        vertices = [dataclasses.asdict(vertex) for vertex in self.vertices]
        data = {"hash": self.hash(), "values": dict(self.values), "vertices": vertices}
        return json.dumps(data, indent=2, default=str)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """What `to_json` wrote.

        Raises:
            SearchSpaceError: The text is something else.
        """
        try:
            data = json.loads(text)
            vertices = [Vertex(**v | {"inputs": tuple(v["inputs"])}) for v in data["vertices"]]
            return cls(tuple(vertices), data["values"])
        except (ValueError, TypeError, KeyError) as error:
            raise SearchSpaceError(
                f"`text` needs to be what `Architecture.to_json` wrote; received {text[:60]!r}"
            ) from error

    def to_dot(self) -> str:
        """The graph in the language of Graphviz, for ``dot -Tsvg`` and the like."""
        lines = ["digraph architecture {", "  node [shape=box];"]
        for index, vertex in enumerate(self.vertices):
            lines.append(f"  v{index} [label={json.dumps(vertex.title())}];")
            lines.extend(f"  v{source} -> v{index};" for source in vertex.inputs)
        return "\n".join([*lines, "}"])

    def __str__(self) -> str:
        """One line per operation: its number, what it is, and what feeds it."""
        lines = []
        for index, vertex in enumerate(self.vertices):
            sources = ", ".join(f"%{source}" for source in vertex.inputs)
            place = f"  # {vertex.path}" if vertex.path else ""
            lines.append(
                f"%{index} = {vertex.title()}{f' <- {sources}' if sources else ''}{place}"
            )
        return "\n".join(lines)


class GraphBuilder(Builder):
    """Makes vertices instead of layers.

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
        """A vertex for something that comes in."""
        return self._add(Vertex(INPUT, path=name))

    def layer(
        self,
        kind: str | Callable[..., Any],
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


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _simplified(vertices: Sequence[Vertex]) -> tuple[Vertex, ...]:
    """See `Architecture.simplified`."""
    kept: list[Vertex] = []
    # Old index -> new index; None for what is zero.
    place: dict[int, int | None] = {}
    for index, vertex in enumerate(vertices):
        inputs = [place[source] for source in vertex.inputs]
        nothing = bool(inputs) and all(one is None for one in inputs)
        if vertex.label == ZERO or (nothing and _keeps_zeros(vertex)):
            place[index] = None
            continue
        if vertex.label == "add":
            # The mean or the maximum of a zero and x is not x: only a sum forgets its zeros.
            inputs = [one for one in inputs if one is not None]
        if vertex.label in _ASSOCIATIVE and len(inputs) == 1:
            place[index] = inputs[0]
            continue
        place[index] = _keep(kept, vertex, inputs)
    return _reachable(kept)


def _keeps_zeros(vertex: Vertex) -> bool:
    """Whether an operation certainly makes zeros of zeros."""
    if vertex.label in _ZERO_WITHOUT_BIAS:
        return vertex.arguments.get("use_bias") is False and "activation" not in vertex.arguments
    return vertex.label in _KEEP_ZEROS or "Pooling" in vertex.label


def _keep(kept: list[Vertex], vertex: Vertex, inputs: Sequence[int | None]) -> int:
    sources: list[int] = []
    for one in inputs:
        if one is None:
            kept.append(Vertex(ZERO))
            one = len(kept) - 1
        if vertex.label in _ASSOCIATIVE and kept[one].label == vertex.label:
            sources.extend(kept[one].inputs)
        else:
            sources.append(one)
    kept.append(Vertex(vertex.label, vertex.arguments, tuple(sources), vertex.path))
    return len(kept) - 1


def _reachable(vertices: Sequence[Vertex]) -> tuple[Vertex, ...]:
    """Without vertices that the last one does not depend on; inputs stay."""
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
