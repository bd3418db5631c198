"""The picture of an architecture as part of a page."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

from keras_nas_plugin.reports.diagram import draw_architecture
from keras_nas_plugin.reports.svg import inline
from keras_nas_plugin.space.architecture import Architecture


def architecture_svg(graph: Mapping[str, Any], key: str, title: str, description: str) -> str:
    """An architecture as an ``<svg>`` element, on a white ground of its own.

    Args:
        graph: As `Architecture.to_json` has it.
        key: See `svg.to_svg`.
        title: See `svg.to_svg`.
        description: See `svg.to_svg`.

    Raises:
        SearchSpaceError: It is something else.
    """
    architecture = Architecture.from_json(json.dumps(graph))
    with tempfile.TemporaryDirectory() as folder, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "keras-nas"})
        matplotlib.rcParams["text.parse_math"] = False
        path = draw_architecture(architecture, Path(folder) / "architecture.svg")
        text = path.read_text(encoding="utf-8")
    return inline(text, key, title, description)
