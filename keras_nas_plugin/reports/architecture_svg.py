"""Draws architectures as elements of an HTML page."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

from keras_nas_plugin.reports.diagram import draw_architecture
from keras_nas_plugin.reports.svg import inline
from keras_nas_plugin.space.language.architecture import Architecture


def architecture_svg(graph: Mapping[str, Any], key: str, title: str, description: str) -> str:
    """Draw an architecture as an ``<svg>`` element for a white background.

    Args:
        graph: The output of `Architecture.to_json`.
        key: See `svg.to_svg`.
        title: See `svg.to_svg`.
        description: See `svg.to_svg`.

    Raises:
        SearchSpaceError: ``graph`` is not an architecture.
    """
    architecture = Architecture.from_json(json.dumps(graph))
    with tempfile.TemporaryDirectory() as folder, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "keras-nas"})
        matplotlib.rcParams["text.parse_math"] = False
        path = draw_architecture(architecture, Path(folder) / "architecture.svg")
        text = path.read_text(encoding="utf-8")
    return inline(text, key, title, description)
