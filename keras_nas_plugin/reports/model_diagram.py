"""A drawing of a model's layers as SVG, written as text: it takes a millisecond per trial."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from keras_nas_plugin.reports.layering import colour_of, layered
from keras_nas_plugin.space.language.architecture import Vertex

# In pixels: distances between the centres of boxes, the height of a box, and the margin.
_COLUMN, _ROW, _BOX_HEIGHT, _MARGIN = 200, 58, 38, 14
# Pixels per unit of `--width` in the style of a page.
_PIXELS = 1.6
_CHARACTER = 6.4  # width of a character at this size of type
_FONT = "font-family='Helvetica, Arial, sans-serif' font-size='11'"


def diagram_svg(vertices: Sequence[Vertex]) -> str:
    """Draw a graph with its inputs at the top and its outputs at the bottom.

    Args:
        vertices: The layers in topological order. The second line of a box is the argument
            ``""`` of its vertex.

    Returns:
        An SVG file.

    >>> diagram_svg([Vertex("Dense", {"": "(None, 2)"})]).count("<rect")
    2
    """
    positions, routes = layered(vertices)
    columns = max(x for route in [positions, *routes.values()] for x, _ in route)
    rows = max(y for _, y in positions)
    longest = max(len(line) for vertex in vertices for line in _lines(vertex))
    box = max(100.0, longest * _CHARACTER + 16)
    column = max(_COLUMN, box + 24)

    def point(x: float, y: float) -> tuple[float, float]:
        return _MARGIN + box / 2 + x * column, _MARGIN + _BOX_HEIGHT / 2 + y * _ROW

    width = columns * column + box + 2 * _MARGIN
    height = rows * _ROW + _BOX_HEIGHT + 2 * _MARGIN
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0f}' height='{height:.0f}' "
        f"viewBox='0 0 {width:.0f} {height:.0f}'>",
        "<defs><marker id='arrow' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' "
        "markerHeight='7' orient='auto'><path d='M0,0 L8,4 L0,8 z' fill='#555'/></marker></defs>",
        f"<rect width='{width:.0f}' height='{height:.0f}' fill='#fff'/>",
    ]
    for route in routes.values():
        points = [point(x, y) for x, y in route]
        (x0, y0), (x1, y1) = points[0], points[-1]
        points[0], points[-1] = (x0, y0 + _BOX_HEIGHT / 2), (x1, y1 - _BOX_HEIGHT / 2)
        path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        parts.append(
            f"<polyline points='{path}' fill='none' stroke='#555' marker-end='url(#arrow)'/>"
        )
    for (x, y), vertex in zip(positions, vertices, strict=True):
        cx, cy = point(x, y)
        parts.append(
            f"<rect x='{cx - box / 2:.0f}' y='{cy - _BOX_HEIGHT / 2:.0f}' width='{box:.0f}' "
            f"height='{_BOX_HEIGHT}' rx='5' fill='{colour_of(vertex)}' stroke='#555'/>"
        )
        lines = _lines(vertex)
        for number, line in enumerate(lines):
            baseline = cy + 4 + 14 * (number - (len(lines) - 1) / 2)
            parts.append(
                f"<text x='{cx:.0f}' y='{baseline:.0f}' text-anchor='middle' {_FONT}>"
                f"{escape(line)}</text>"
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def embedded(svg: str, description: str) -> str:
    """A drawing of `diagram_svg` for a page: with a description, in the size of the page's type.

    Args:
        svg: The content of the file.
        description: What it shows, for readers who do not see it.
    """
    width = re.search(r"width='(\d+)'", svg)
    size = "" if width is None else f" style='--width: {int(width[1]) / _PIXELS:g}'"
    label = escape(description, {"'": "&apos;"})
    return svg.replace("<svg ", f"<svg role='img' aria-label='{label}'{size} ", 1)


def _lines(vertex: Vertex) -> list[str]:
    return [vertex.label, *(str(value) for value in vertex.arguments.values())]
