"""Layered drawings of architectures."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path

from keras_nas_plugin.reports.layering import Position, colour_of, layered
from keras_nas_plugin.space.language.architecture import Architecture, Vertex

# Inches per column and per layer; characters per line of text in a box.
_COLUMN_WIDTH, _LAYER_HEIGHT, _LINE_LENGTH = 2.2, 0.75, 26
# Half the height of a box, in layers.
_HALF_BOX = 0.28


def draw_architecture(
    architecture: Architecture, path: str | os.PathLike, *, simplified: bool = True
) -> pathlib.Path:
    """Draw an architecture with its inputs at the top and its output at the bottom.

    Each operation is in a layer below all of its inputs; within a layer, operations are sorted
    by the positions of their inputs and outputs, so that few edges cross.

    Source: Sugiyama, Tagawa & Toda 1981, "Methods for Visual Understanding of Hierarchical
    System Structures" (layers by longest path, order by barycentres).

    Args:
        architecture: The architecture.
        path: The file to write; its suffix selects the format: ``.svg``, ``.png`` or ``.pdf``.
        simplified: Whether to omit operations that the output does not depend on.

    Returns:
        The path.
    """
    vertices = (architecture.simplified() if simplified else architecture).vertices
    positions, routes = layered(vertices)
    columns = max(x for route in [positions, *routes.values()] for x, _ in route) + 1.0
    rows = max(y for _, y in positions) + 1.0
    figure = Figure(figsize=(columns * _COLUMN_WIDTH + 0.6, rows * _LAYER_HEIGHT + 0.4))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(-0.65, columns - 0.35)
    axes.set_ylim(rows - 0.3, -0.7)
    for (x, y), vertex in zip(positions, vertices, strict=True):
        axes.text(x, y, _text(vertex), ha="center", va="center", fontsize=7, bbox=_box(vertex))
    for route in routes.values():
        axes.add_patch(_arrow(route))
    figure.savefig(path)
    return pathlib.Path(path)


def _arrow(route: Sequence[Position]) -> FancyArrowPatch:
    """An arrow along a route, from the edge of a box to the edge of another one."""
    (x0, y0), (x1, y1) = route[0], route[-1]
    points = [(x0, y0 + _HALF_BOX), *route[1:-1], (x1, y1 - _HALF_BOX)]
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
    return {"boxstyle": "round,pad=0.35", "facecolor": colour_of(vertex), "edgecolor": "#555555"}


def _text(vertex: Vertex) -> str:
    """The operation, and on a second line as much of its arguments as fits."""
    arguments = ", ".join(f"{key}={value}" for key, value in vertex.arguments.items())
    if len(arguments) > _LINE_LENGTH:
        arguments = arguments[: _LINE_LENGTH - 1] + "…"
    return f"{vertex.label}\n{arguments}" if arguments else vertex.label
