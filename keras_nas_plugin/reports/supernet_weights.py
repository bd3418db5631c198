"""The weights of the options of a differentiable search, by epoch of its supernet."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure

from keras_nas_plugin.files import read_json, write_text
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.trial import WEIGHT
from keras_nas_plugin.reports.elements import Section, table
from keras_nas_plugin.reports.figures import shortened
from keras_nas_plugin.reports.svg import FIRST, MUTED, SECOND, TEXT, drawing, to_svg

# Panels of the figure: the decisions whose weights have changed most. The table has all.
_PANELS, _COLUMNS = 12, 3
_PANEL_HEIGHT, _WIDTH = 1.25, 4.7
_TITLE = "Weights of the supernet"


def weights_data(directory: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The weights of all options after each epoch.

    Args:
        directory: The project folder of a search.

    Returns:
        As JSON types: ``method``, ``epochs`` that were planned, the reason ``stopped`` or None,
        and the ``decisions``, each with its ``name``, ``options`` and their ``weights`` by epoch;
        None if the search is not differentiable, or no epoch has ended.
    """
    try:
        state = read_json(ProjectLayout.of(directory).supernet_state)
    except FileNotFoundError:
        return None
    settings, curve = state["settings"], state["curve"]
    if "method" not in settings or not curve:
        return None
    decisions = [
        {
            "name": name,
            "options": options,
            "weights": [
                [epoch[f"{WEIGHT}{name}/{option}"] for epoch in curve] for option in options
            ],
        }
        for name, options in settings["decisions"].items()
    ]
    return {
        "method": settings["method"],
        "epochs": settings["epochs"],
        "stopped": state["stopped"],
        "decisions": decisions,
    }


def write_weights(directory: str | os.PathLike[str]) -> Path | None:
    """Draw the weights to a file of the project folder.

    Args:
        directory: The project folder of a search.

    Returns:
        The file; None if there is nothing to draw.
    """
    data = weights_data(directory)
    if data is None:
        return None
    path = ProjectLayout.of(directory).supernet_weights
    with drawing():
        figure = draw_weights(data)
        write_text(path, _standalone(figure))
    return path


def _standalone(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def draw_weights(data: Mapping[str, Any]) -> Figure:
    """Weights by epoch, one panel per decision; the two strongest options are named.

    Args:
        data: A result of `weights_data`.
    """
    searched = [item for item in data["decisions"] if len(item["options"]) > 1]
    shown = sorted(searched, key=lambda item: -float(np.ptp(item["weights"], axis=1).max()))
    shown = [item for item in searched if any(item is panel for panel in shown[:_PANELS])]
    columns = min(_COLUMNS, max(len(shown), 1))
    rows = -(-max(len(shown), 1) // columns)
    size = (_WIDTH, 0.4 + _PANEL_HEIGHT * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, item in zip(grid.flat, shown, strict=False):
        weights = np.array(item["weights"])
        epochs = np.arange(1, weights.shape[1] + 1)
        order = np.argsort(-weights[:, -1], kind="stable")
        styles = {int(order[0]): FIRST, int(order[1]): SECOND}
        for option in order[::-1].tolist():
            axes.plot(epochs, weights[option], color=styles.get(option, MUTED), linewidth=1.2)
        names = [shortened(item["options"][option], 12) for option in order[:2].tolist()]
        for line, (name, colour) in enumerate(zip(names, (FIRST, SECOND), strict=True)):
            height = 0.97 - 0.15 * line
            axes.text(
                0.03, height, name, color=colour, fontsize=7, va="top", transform=axes.transAxes
            )
        axes.set_title(shortened(item["name"], 20), fontsize=8, color=TEXT)
        axes.set_ylim(0.0, 1.0)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(3, integer=True))
        axes.tick_params(labelsize=7)
    figure.supxlabel("epoch of the supernet", fontsize=8)
    return figure


def weights_section(data: Mapping[str, Any]) -> Section:
    """The section of the report.

    Must be called inside `svg.drawing`.

    Args:
        data: A result of `weights_data`.
    """
    decisions = data["decisions"]
    ended = len(decisions[0]["weights"][0]) if decisions else 0
    text = (
        f"The weights of the options with {data['method']}, by epoch of the supernet ({ended} of "
        f"{data['epochs']} epochs). In each panel, the strongest option and the second are named."
    )
    if len(decisions) > _PANELS:
        text += f" The figure has the {_PANELS} decisions whose weights changed most."
    if data["stopped"] is not None:
        text += f" The training ended early: {data['stopped']}."
    rows = [
        (item["name"], option, weights[-1])
        for item in decisions
        for option, weights in zip(item["options"], item["weights"], strict=True)
    ]
    tables = [table("Weights after the last epoch", ["decision", "option", "weight"], rows)]
    svg = to_svg(draw_weights(data), "weights", _TITLE, text)
    return Section("weights", _TITLE, text, svg, tables)
