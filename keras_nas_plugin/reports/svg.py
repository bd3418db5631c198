"""Converts Matplotlib figures to inline SVG of an HTML page."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Placeholder colours of the figures; the page replaces them by those of its light or dark scheme.
TEXT, MUTED, GRID = "#010101", "#020202", "#030303"
FIRST, SECOND, THIRD, CARD = "#040404", "#050505", "#060606", "#070707"
_PAGE = {
    TEXT: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
    CARD: "var(--card)",
}
_HREF = "{http://www.w3.org/1999/xlink}href"
# Text stays text, which can be scaled, selected and searched. Ids are the same in every run.
_SETTINGS: dict[Any, Any] = {  # matplotlib types the keys as literals
    "svg.fonttype": "none",
    "svg.hashsalt": "keras-nas",
    "font.size": 10.0,
    "font.family": "sans-serif",
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "text.usetex": False,
    "text.parse_math": False,
    "path.simplify": True,
}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Apply the settings for figures of the page, independently of the user's own."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def to_svg(figure: Figure, key: str, title: str, description: str) -> str:
    """Convert a figure to an ``<svg>`` element with a title and description for screen readers.

    Args:
        figure: The figure, created inside `drawing`.
        key: Prefix of the ids in this element, unique within the page.
        title: Title of the figure.
        description: Description of the figure, in a sentence.
    """
    stream = io.StringIO()
    for axes in figure.axes:
        for artist in axes.get_children():
            # A clip path would be a reference by id, and figures stay inside their axes anyway.
            artist.set_clip_on(False)
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set(facecolor="none", edgecolor="none")
    # `savefig` would draw, and find the layout, twice.
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})
    return inline(stream.getvalue(), key, title, description)


def inline(text: str, key: str, title: str, description: str) -> str:
    """Convert the content of an SVG file to an element of a page; see `to_svg`."""
    root = ElementTree.fromstring(text)
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        _localise(node, key)
    for parent in list(root.iter()):
        for child in list(parent):
            # A style sheet in here would apply to the entire page.
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    # The file has a size in points; in the page the figure is as wide as its column.
    width = float(root.get("viewBox", "0 0 0 0").split()[2])
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{key}-title {key}-desc",
        "style": f"stroke-linejoin:round;stroke-linecap:butt;--width:{width:g}",
    }
    for name, content in (("desc", description), ("title", title)):
        node = ElementTree.Element(name, {"id": f"{key}-{name}"})
        node.text = content
        root.insert(0, node)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _localise(node: ElementTree.Element, key: str) -> None:
    """Adapt ids, references, colours and fonts of an element to the page."""
    target = node.attrib.pop(_HREF, None)
    if target is not None:
        node.set("href", f"#{key}-{target.removeprefix('#')}")
    if "id" in node.attrib:
        node.set("id", f"{key}-{node.get('id')}")
    node.attrib.pop("clip-path", None)
    style = node.get("style")
    if style is not None:
        for colour, name in _PAGE.items():
            style = style.replace(colour, name)
        style = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", style)
        style = re.sub(r"font-family: [^;]*;?", "", style)
        node.set("style", style)
