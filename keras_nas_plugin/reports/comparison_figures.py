"""The figures of a comparison of searches, drawn from `comparison_data`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from keras_nas_plugin.reports.figures import (
    DOTS,
    data_axes,
    logarithmic,
    shortened,
    thinned,
    visible_range,
)
from keras_nas_plugin.reports.svg import FIRST, MUTED, SECOND, TEXT, THIRD

_COLOURS, _LINES = (FIRST, SECOND, THIRD, MUTED), ("-", "--", ":")
# With more trials than this the axis is logarithmic: most improvements come early.
_LOGARITHMIC_FROM = 200
# Longest label of a legend in characters, and the number of entries of one column.
_LABEL, _ONE_COLUMN = 64, 4

Data = Mapping[str, Any]


def _styles() -> Iterator[tuple[str, str]]:
    """A colour and a line style for each search; they repeat after twelve."""
    return itertools.cycle((colour, line) for line in _LINES for colour in _COLOURS)


def draw_incumbents(data: Data, over: str, label: str) -> Figure:
    """The best score so far of each group, with the range over its searches.

    Args:
        data: The result of `comparison_data`.
        over: ``"over_trials"`` or ``"over_seconds"``.
        label: Label of the horizontal axis.
    """
    figure, axes = data_axes(3.4)
    curves = [group[over] for group in data["groups"]]
    ends = [score for curve in curves for score in curve["mean"]]
    bounds = visible_range(np.array(ends or [0.0]), data["direction"])
    last = 0.0
    for group, curve, (colour, line) in zip(data["groups"], curves, _styles(), strict=False):
        if not curve["at"]:
            continue
        chosen = thinned(len(curve["at"]), DOTS)
        at = np.array(curve["at"])[chosen]
        mean, low, high = (
            np.clip(np.array(curve[key])[chosen], *bounds) for key in ("mean", "low", "high")
        )
        if len(group["searches"]) > 1:
            axes.fill_between(at, low, high, step="post", color=colour, alpha=0.18, linewidth=0)
        name = shortened(group["label"], _LABEL)
        axes.step(at, mean, line, where="post", color=colour, label=name)
        last = max(last, float(at[-1]))
    if over == "over_trials" and last > _LOGARITHMIC_FROM:
        logarithmic(axes)
    axes.set_xlabel(label)
    axes.set_ylabel(shortened(data["objective"]))
    _legend(figure)
    return figure


def draw_fronts(data: Data) -> Figure:
    """The Pareto fronts of the searches over each other, in their first two axes.

    Repetitions with other seeds have the same colour and line style.
    """
    figure, axes = data_axes(3.4)
    first, second = fronts_axes(data)
    positive = True
    fronts = [
        (group["label"], data["searches"][index]["front"]["points"], style)
        for group, style in zip(data["groups"], _styles(), strict=False)
        for index in group["searches"]
    ]
    labels: set[str] = set()
    for label, points, (colour, line) in fronts:
        values = np.array([point["values"][:2] for point in points if point["front"]])
        if not len(values):
            continue
        positive = positive and bool((values[:, 1] > 0).all())
        values = values[np.argsort(values[:, 1], kind="stable")]
        values = values[thinned(len(values), DOTS)]
        drawstyle = "steps-post" if second["direction"] == "min" else "steps-pre"
        axes.plot(
            *(values[:, 1], values[:, 0]),
            f"o{line}",
            color=colour,
            markersize=4,
            drawstyle=drawstyle,
            label="_" if label in labels else shortened(label, _LABEL),  # "_" is not in the legend
        )
        labels.add(label)
    if positive:
        logarithmic(axes)
    axes.set_xlabel(f"{shortened(second['name'])} ({second['direction']})")
    axes.set_ylabel(f"{shortened(first['name'])} ({first['direction']})")
    _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    """A legend above the figure, in two columns if there are many searches."""
    entries = sum(len(axes.get_legend_handles_labels()[1]) for axes in figure.axes)
    columns = 1 if entries <= _ONE_COLUMN else 2
    figure.legend(loc="outside upper left", frameon=False, ncols=columns, labelcolor=TEXT)


def fronts_axes(data: Data) -> list[Data]:
    """The two axes that the fronts of all searches with points share; empty if they differ."""
    fronts = [search["front"] for search in data["searches"] if search["front"]["points"]]
    pairs = [front["axes"][:2] for front in fronts]
    return list(pairs[0]) if pairs and all(pair == pairs[0] for pair in pairs) else []
