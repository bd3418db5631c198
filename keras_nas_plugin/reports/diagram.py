"""The picture of an architecture: a layered drawing of its graph."""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path

from keras_nas_plugin.space.architecture import Architecture, Vertex

# Inches per place; characters of a line of text in a box.
_WIDE, _HIGH, _LINE = 2.2, 0.75, 26
_SWEEPS = 4
# Half the height of a box, in layers.
_BOX = 0.28
# Colour-blind safe (Okabe & Ito 2008), light enough for black text.
_COLOURS = (
    (("input", "output"), "#e8e8e8"),
    (("Conv", "Dense", "Embedding", "Attention", "LSTM", "GRU"), "#a9d3f0"),
    (("Pool",), "#f7d9a0"),
    (("Norm", "Dropout"), "#d9ead3"),
    (("add", "concatenate", "multiply", "average", "maximum"), "#f2c4d8"),
)

Place = tuple[float, float]


def draw_architecture(
    architecture: Architecture, path: str | os.PathLike, *, simplified: bool = True
) -> pathlib.Path:
    """Draw an architecture, from its inputs at the top to its output at the bottom.

    Operations stand in layers, each below all that feeds it; within a layer they are sorted
    by where their inputs and outputs stand, so that few lines cross.

    Source: Sugiyama, Tagawa & Toda 1981, "Methods for Visual Understanding of Hierarchical
    System Structures" (layers by longest path, order by barycentres).

    Args:
        architecture: What to draw.
        path: A file to write; its ending says what: ``.svg``, ``.png`` or ``.pdf``.
        simplified: Whether to leave out what the output does not depend on.

    Returns:
        The path.
    """
    vertices = (architecture.simplified() if simplified else architecture).vertices
    places, routes = layered(vertices)
    columns = max(x for route in [places, *routes.values()] for x, _ in route) + 1.0
    rows = max(y for _, y in places) + 1.0
    figure = Figure(figsize=(columns * _WIDE + 0.6, rows * _HIGH + 0.4))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(-0.65, columns - 0.35)
    axes.set_ylim(rows - 0.3, -0.7)
    for place, vertex in zip(places, vertices, strict=True):
        axes.text(*place, _text(vertex), ha="center", va="center", fontsize=7, bbox=_box(vertex))
    for route in routes.values():
        axes.add_patch(_line(route))
    figure.savefig(path)
    return pathlib.Path(path)


def layered(vertices: Sequence[Vertex]) -> tuple[list[Place], dict[tuple[int, int], list[Place]]]:
    """Where each vertex stands, and which way each line goes.

    Layers narrower than the widest are centred. A line over several layers has a place in
    each of them, so that it runs beside what stands there.

    Args:
        vertices: Each after its inputs.

    Returns:
        Per vertex its place in its layer, from the left, and its layer; per line, from a
        vertex to one that it feeds, the places on the way, both ends included.

    >>> layered([Vertex("input"), Vertex("a", {}, (0,)), Vertex("b", {}, (0,))])[0]
    [(0.5, 0.0), (0.0, 1.0), (1.0, 1.0)]
    """
    depth: list[int] = []
    for vertex in vertices:
        depth.append(1 + max((depth[source] for source in vertex.inputs), default=-1))
    lines: dict[tuple[int, int], list[int]] = {}
    for index, vertex in enumerate(vertices):
        for source in dict.fromkeys(vertex.inputs):
            between = list(range(depth[source] + 1, depth[index]))
            ways = list(range(len(depth), len(depth) + len(between)))
            depth.extend(between)
            lines[source, index] = [source, *ways, index]
    x = _ordered(depth, list(lines.values()))
    places = [(x[node], float(depth[node])) for node in range(len(depth))]
    routes = {line: [places[node] for node in nodes] for line, nodes in lines.items()}
    return places[: len(vertices)], routes


def _ordered(depth: Sequence[int], lines: Sequence[Sequence[int]]) -> list[float]:
    """Places within the layers, by the barycentres of what stands above and below."""
    layers: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    for node, layer in enumerate(depth):
        layers[layer].append(node)
    above: list[list[int]] = [[] for _ in depth]
    below: list[list[int]] = [[] for _ in depth]
    for line in lines:
        for first, second in itertools.pairwise(line):
            above[second].append(first)
            below[first].append(second)
    widest, x = max(map(len, layers)), [0.0] * len(depth)

    def spread(layer: list[int]) -> None:
        for place, node in enumerate(layer):
            x[node] = place + (widest - len(layer)) / 2.0

    for layer in layers:
        spread(layer)
    for sweep in range(_SWEEPS):
        near = below if sweep % 2 else above
        for layer in reversed(layers) if sweep % 2 else layers:
            centre = {
                n: sum(x[m] for m in near[n]) / len(near[n]) if near[n] else x[n] for n in layer
            }
            layer.sort(key=centre.__getitem__)
            spread(layer)
    return x


def _line(route: Sequence[Place]) -> FancyArrowPatch:
    """An arrow along a route; it begins and ends beside the boxes."""
    (x0, y0), (x1, y1) = route[0], route[-1]
    points = [(x0, y0 + _BOX), *route[1:-1], (x1, y1 - _BOX)]
    return FancyArrowPatch(
        path=Path(points),
        arrowstyle="-|>",
        mutation_scale=8,
        linewidth=0.8,
        facecolor="#555555",
        edgecolor="#555555",
        fill=False,
        zorder=0,
    )


def _box(vertex: Vertex) -> dict[str, object]:
    matching = (colour for words, colour in _COLOURS if any(w in vertex.label for w in words))
    colour = next(matching, "#ffffff")
    return {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "#555555"}


def _text(vertex: Vertex) -> str:
    """The operation, and what fits on a second line of its arguments."""
    arguments = ", ".join(f"{key}={value}" for key, value in vertex.arguments.items())
    if len(arguments) > _LINE:
        arguments = arguments[: _LINE - 1] + "…"
    return f"{vertex.label}\n{arguments}" if arguments else vertex.label
