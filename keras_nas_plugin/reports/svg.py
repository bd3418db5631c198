"""From a matplotlib figure to SVG that lives inside a page."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

# Colours that a drawing names and that the page decides on, by its light or dark scheme.
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
# Text stays text: it scales, can be selected and found. Ids are the same on every run.
_SETTINGS = {
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
    """Matplotlib's settings for pictures in a page, whatever the user's own are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def to_svg(figure: Figure, key: str, title: str, description: str) -> str:
    """A figure as an ``<svg>`` element that screen readers announce.

    Args:
        figure: What to draw; within `drawing`.
        key: Begins the ids of this picture: they must not repeat within the page.
        title: What it shows.
        description: What it says.
    """
    written = io.StringIO()
    for axes in figure.axes:
        for artist in axes.get_children():
            # A clip path would be a reference; drawings keep within their axes themselves.
            artist.set_clip_on(False)
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    return inline(written.getvalue(), key, title, description)


def inline(text: str, key: str, title: str, description: str) -> str:
    """An SVG file as an element of a page: see `to_svg`."""
    root = ElementTree.fromstring(text)
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        _localise(node, key)
    for parent in list(root.iter()):
        for child in list(parent):
            # A style sheet in here would be that of the whole page.
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    # Sizes of the file are in points; in the page the picture is as wide as there is room.
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
    """Let an element's attributes mean the same within a page."""
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
        # The page's own font.
        style = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", style)
        style = re.sub(r"font-family: [^;]*;?", "", style)
        node.set("style", style)
