"""Where the vertices of a graph are drawn, and in which colours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from keras_nas_plugin.space.language.architecture import Vertex

_SWEEPS = 4
# Safe for colour-blind readers (Okabe & Ito 2008), light enough for black text.
_COLOURS = (
    (("input", "output"), "#e8e8e8"),
    (("Conv", "Dense", "Embedding", "Attention", "LSTM", "GRU"), "#a9d3f0"),
    (("Pool",), "#f7d9a0"),
    (("Norm", "Dropout"), "#d9ead3"),
    (("add", "concatenate", "multiply", "average", "maximum"), "#f2c4d8"),
)

#: Horizontal position within a layer, and the layer.
Position = tuple[float, float]


def colour_of(vertex: Vertex) -> str:
    """The colour of a box, by the kind of its operation."""
    matching = (colour for words, colour in _COLOURS if any(w in vertex.label for w in words))
    return next(matching, "#ffffff")


def layered(
    vertices: Sequence[Vertex],
) -> tuple[list[Position], dict[tuple[int, int], list[Position]]]:
    """Compute the layout of a graph.

    Layers narrower than the widest one are centred. An edge over several layers has a position
    in each of them, so that it is drawn beside the vertices there.

    Args:
        vertices: Vertices in topological order.

    Returns:
        The position of each vertex, and the positions along each edge from source to target.

    >>> layered([Vertex("input"), Vertex("a", {}, (0,)), Vertex("b", {}, (0,))])[0]
    [(0.5, 0.0), (0.0, 1.0), (1.0, 1.0)]
    """
    depth: list[int] = []
    for vertex in vertices:
        depth.append(1 + max((depth[source] for source in vertex.inputs), default=-1))
    edges: dict[tuple[int, int], list[int]] = {}
    for index, vertex in enumerate(vertices):
        for source in dict.fromkeys(vertex.inputs):
            crossed_layers = list(range(depth[source] + 1, depth[index]))
            bends = list(range(len(depth), len(depth) + len(crossed_layers)))
            depth.extend(crossed_layers)
            edges[source, index] = [source, *bends, index]
    x = _ordered(depth, list(edges.values()))
    positions = [(x[node], float(depth[node])) for node in range(len(depth))]
    routes = {edge: [positions[node] for node in nodes] for edge, nodes in edges.items()}
    return positions[: len(vertices)], routes


def _ordered(depth: Sequence[int], edges: Sequence[Sequence[int]]) -> list[float]:
    """Horizontal positions within the layers, by the barycentres of the adjacent nodes."""
    layers: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    for node, layer in enumerate(depth):
        layers[layer].append(node)
    above: list[list[int]] = [[] for _ in depth]
    below: list[list[int]] = [[] for _ in depth]
    for edge in edges:
        for first, second in itertools.pairwise(edge):
            above[second].append(first)
            below[first].append(second)
    widest, x = max(map(len, layers)), [0.0] * len(depth)

    def spread(layer: list[int]) -> None:
        for index, node in enumerate(layer):
            x[node] = index + (widest - len(layer)) / 2.0

    for nodes in layers:
        spread(nodes)
    for sweep in range(_SWEEPS):
        adjacent = below if sweep % 2 else above
        for nodes in reversed(layers) if sweep % 2 else layers:
            barycentres = {
                node: sum(x[n] for n in adjacent[node]) / len(adjacent[node])
                if adjacent[node]
                else x[node]
                for node in nodes
            }
            nodes.sort(key=barycentres.__getitem__)
            spread(nodes)
    return x
