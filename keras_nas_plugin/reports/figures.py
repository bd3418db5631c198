"""The figures of a report, drawn from `report_data`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from keras_nas_plugin.reports.outliers import far_out_fence
from keras_nas_plugin.reports.space import decision_of
from keras_nas_plugin.reports.svg import CARD, FIRST, GRID, MUTED, SECOND, TEXT, THIRD
from keras_nas_plugin.space.domains import Categorical, Domain

#: Maximum number of marks in a figure: figures are thinned out, tables never.
DOTS, LINES, BARS, STEPS, PANELS = 400, 200, 12, 16, 4
_WIDTH = 4.7
_PAIRS = 3
# With more trials than this the axis is logarithmic: most improvements come early.
_LOGARITHMIC_FROM = 200
# Decisions in parallel coordinates, and the number of values up to which each has a label.
_ROWS, _LABELLED_VALUES = 8, 6
_INACTIVE = -0.16

Data = Mapping[str, Any]
Bounds = tuple[float, float]


def thinned(count: int, limit: int) -> np.ndarray:
    """At most ``limit`` evenly spaced indices, including the first and the last.

    >>> thinned(10, 4).tolist(), thinned(3, 4).tolist()
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if count <= limit:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, limit).round().astype(int))


def shortened(text: object, length: int = 26) -> str:
    """A label of limited length; the middle is cut, because long names differ at the ends.

    Words stay whole where their first and last fit.

    >>> shortened("block_3/operation_of_cell/kernel", 16), shortened("convolution", 8)
    ('block_3…kernel', 'conv…ion')
    """
    text = f"{text:.4g}" if isinstance(text, float) else str(text)
    if len(text) <= length:
        return text
    words = re.split(r"(?<=[/_ ])|(?=[/_ ])", text)
    head, tail = words[0], words[-1]
    if len(words) > 2 and len(head) + len(tail) < length:
        words = words[1:-1]
        while words and len(head) + len(tail) + len(words[0]) < length:
            head += words.pop(0)
        while words and len(head) + len(tail) + len(words[-1]) < length:
            tail = words.pop() + tail
        return f"{head.rstrip('/_ ')}…{tail.lstrip('/_ ')}"
    return f"{text[: length // 2]}…{text[len(text) - (length - 1) // 2 :]}"


def draw_progress(data: Data) -> Figure:
    """Scores of all trials, the best score so far, and the reference of random search."""
    trials, reference = data["trials"], data["random_reference"]
    figure, axes = data_axes(3.4)
    scored = [
        (step, score)
        for step, score in enumerate(trials["score"], start=1)
        if score is not None and trials["rank"][step - 1] is not None
    ]
    bounds = visible_range(np.array([score for _, score in scored]), data["search"]["direction"])
    points = [scored[index] for index in thinned(len(scored), DOTS)]
    visible = [(step, score) for step, score in points if bounds[0] <= score <= bounds[1]]
    steps, scores = zip(*visible, strict=True)
    axes.scatter(steps, scores, s=9, color=MUTED, linewidths=0, label="trial")
    if reference["note"] is None:
        _draw_reference(axes, reference, bounds)
    axes.step(*_steps(trials["best_so_far"]), where="post", color=FIRST, label="best so far")
    if len(trials["score"]) > _LOGARITHMIC_FROM:
        logarithmic(axes)
    axes.set_xlabel("completed trials")
    axes.set_ylabel(shortened(data["score"]))
    figure.legend(loc="outside upper left", frameon=False, ncols=2, labelcolor=TEXT)
    return figure


def _draw_reference(axes: Axes, reference: Data, bounds: Bounds) -> None:
    low, expected, high = (np.clip(reference[key], *bounds) for key in ("low", "expected", "high"))
    axes.fill_between(reference["n"], low, high, color=SECOND, alpha=0.2, linewidth=0)
    axes.plot(reference["n"], expected, "--", color=SECOND, label="random search, expected")


def _steps(best: Sequence[float | None]) -> tuple[list[int], list[float]]:
    """Where the best score so far changes, and the last point."""
    scored = [(step, score) for step, score in enumerate(best, start=1) if score is not None]
    last = len(scored) - 1
    changes = [
        point
        for index, point in enumerate(scored)
        if index in (0, last) or point[1] != scored[index - 1][1]
    ]
    return [step for step, _ in changes], [score for _, score in changes]


def draw_curves(data: Data) -> Figure:
    """The objective by epoch of the best trials."""
    curves = data["curves"]["trials"]
    figure, axes = data_axes(3.4)
    values = np.array([value for curve in curves for value in curve["values"]])
    bounds = visible_range(values, data["search"]["direction"])
    for rank, curve in reversed(list(enumerate(curves))):
        epochs = np.arange(len(curve["values"])) + curve["first_epoch"]
        chosen = thinned(len(epochs), DOTS)
        shown = np.clip(np.array(curve["values"])[chosen], *bounds)
        style = {"color": SECOND, "linewidth": 2.2} if rank == 0 else {"color": MUTED}
        label = f"trial {curve['trial_id']}, the best" if rank == 0 else None
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs[chosen], shown, marker=marker, markersize=4, label=label, **style)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(shortened(data["curves"]["metric"]))
    figure.legend(loc="outside upper left", frameon=False, labelcolor=TEXT)
    return figure


def draw_timeline(data: Data) -> Figure:
    """When each trial ran, in one row for each worker."""
    trials = data["trials"]
    starts, ends = np.array(trials["started_ms"]) / 1e3, np.array(trials["ended_ms"]) / 1e3
    rows, labels = _rows_of_workers(trials["worker"], starts, ends)
    origin = float(starts.min())
    scale, unit = _time_unit(float(ends.max()) - origin)
    figure, axes = data_axes(0.9 + 0.28 * len(labels))
    for status, colour in (("FINISHED", FIRST), ("FAILED", SECOND), ("KILLED", MUTED)):
        indices = [i for i, other in enumerate(trials["status"]) if other == status]
        indices = [indices[i] for i in thinned(len(indices), DOTS)]
        if not indices:
            continue
        bars = [((starts[i] - origin) / scale, (ends[i] - starts[i]) / scale) for i in indices]
        for bar, i in zip(bars, indices, strict=True):
            axes.broken_barh(
                [bar], (rows[i] - 0.38, 0.76), facecolor=colour, edgecolor=CARD, linewidth=0.4
            )
        axes.plot([], [], color=colour, linewidth=6, label=status.lower())
    axes.set_ylim(len(labels) - 0.4, -0.6)
    named = [row for row, label in enumerate(labels) if label]
    axes.set_yticks(named, [shortened(labels[row]) for row in named])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{unit} since the start of the search")
    figure.legend(loc="outside upper left", frameon=False, ncols=3, labelcolor=TEXT)
    return figure


def _rows_of_workers(
    workers: Sequence[str | None], starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """The row of each trial, and the worker of each row.

    Trials without a worker, in records of the first versions, are in further rows, in which they
    do not overlap.
    """
    labels = sorted({worker for worker in workers if worker is not None}, key=_natural)
    rows = np.array([-1 if worker is None else labels.index(worker) for worker in workers])
    first, free_at = len(labels), list[float]()
    for index in np.argsort(starts, kind="stable").tolist():
        if rows[index] >= 0:
            continue
        free = (row for row, end in enumerate(free_at) if end <= starts[index])
        row = next(free, len(free_at))
        if row == len(free_at):
            free_at.append(0.0)
        rows[index], free_at[row] = first + row, ends[index]
    return rows, [*labels, *[""] * len(free_at)]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts worker-2 before worker-10."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", name)]


def _time_unit(seconds: float) -> tuple[float, str]:
    for scale, unit in ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * scale:
            return scale, unit
    return 1.0, "seconds"


def draw_front(data: Data) -> Figure:
    """Trials by their first two objectives, or by score and cost, and the Pareto front."""
    (first, second), points = data["front"]["axes"][:2], data["front"]["points"]
    figure, axes = data_axes(3.4)
    values = np.array([point["values"][:2] for point in points])
    on_front = np.array([point["front"] for point in points])
    # A front of two objectives may end in a region with hardly any trials: it is always shown.
    typical = _within(values[:, 1], visible_range(values[:, 1], second["direction"]))
    visible = in_figure(data["front"]) & (on_front | typical)
    dominated = values[visible & ~on_front]
    dominated = dominated[thinned(len(dominated), DOTS)]
    axes.scatter(dominated[:, 1], dominated[:, 0], s=9, color=MUTED, linewidths=0, label="trial")
    optimal = values[visible & on_front]
    optimal = optimal[np.argsort(optimal[:, 1], kind="stable")]
    optimal = optimal[thinned(len(optimal), DOTS)]
    # The front is constant up to the next trial on it.
    drawstyle = "steps-post" if second["direction"] == "min" else "steps-pre"
    axes.plot(
        *(optimal[:, 1], optimal[:, 0], "o-"),
        color=FIRST,
        markersize=5,
        drawstyle=drawstyle,
        label="Pareto front",
    )
    if (values[:, 1] > 0).all() and values[visible, 1].max() > 20 * values[visible, 1].min():
        logarithmic(axes)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(f"{shortened(second['name'])} ({second['direction']})")
    axes.set_ylabel(f"{shortened(first['name'])} ({first['direction']})")
    figure.legend(loc="outside upper left", frameon=False, ncols=2, labelcolor=TEXT)
    return figure


def in_figure(front: Data) -> np.ndarray:
    """Which points of a front are not far worse than the others in the first objective."""
    first = np.array([point["values"][0] for point in front["points"]])
    return _within(first, visible_range(first, front["axes"][0]["direction"]))


def draw_importance(data: Data) -> Figure:
    """Shares of the variance, with the middle 90 % of the trees."""
    decisions = data["importance"]["decisions"][:BARS]
    pairs = data["importance"]["pairs"][:_PAIRS]
    bars = [(shortened(decision["name"]), decision, FIRST) for decision in decisions]
    for pair in pairs:
        label = shortened(" × ".join(shortened(name, 12) for name in pair["names"]))
        bars.append((label, pair, THIRD))
    figure, axes = data_axes(0.7 + 0.33 * len(bars))
    for row, (_, effect, colour) in enumerate(bars):
        axes.barh(row, 100 * effect["share"], height=0.62, color=colour)
        interval = [100 * effect["low"], 100 * effect["high"]]
        axes.plot(interval, [row, row], color=TEXT, linewidth=1.2)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("% of the variance of the score")
    return figure


def draw_parallel(data: Data) -> Figure:
    """Parallel coordinates: each trial is a line through its decisions and its score."""
    rows = _parallel_rows(data)
    trials = data["trials"]
    order = [index for index, rank in enumerate(trials["rank"]) if rank is not None]
    order.sort(key=lambda index: trials["rank"][index])
    best = max(1, len(order) // 10)
    chosen = [order[index] for index in thinned(best, LINES // 4)]
    chosen += [order[best + index] for index in thinned(len(order) - best, LINES - LINES // 4)]
    lines = []
    for index in chosen:
        positions = [_position(domain, trials["values"][name][index]) for name, domain in rows]
        score = 1.0 - (trials["rank"][index] - 1) / max(1, len(order) - 1)
        lines.append([*((x, row) for row, x in enumerate(positions)), (score, len(rows))])
    figure, axes = data_axes(0.6 + 0.62 * (len(rows) + 1))
    tenth = min(best, LINES // 4)
    for group, colour, width, alpha in (
        (lines[tenth:][::-1], MUTED, 0.6, 0.35),
        (lines[1:tenth][::-1], FIRST, 1.1, 0.8),
        (lines[:1], SECOND, 2.2, 1.0),
    ):
        axes.add_collection(LineCollection(group, colors=colour, linewidths=width, alpha=alpha))
    inactive = {y for line in lines for x, y in line if x == _INACTIVE}
    _label_rows(axes, rows, sorted(inactive))
    return figure


def parallel_decisions(data: Data) -> list[str]:
    """Names of the decisions in `draw_parallel`."""
    return [name for name, _ in _parallel_rows(data)]


def _parallel_rows(data: Data) -> list[tuple[str, Domain]]:
    """The most important decisions and their domains."""
    domains: dict[str, Domain] = {}
    for config in data["search"]["space"]:
        decision = decision_of(config)
        if decision.domain.size != 1 and decision.name in data["trials"]["values"]:
            domains.setdefault(decision.name, decision.domain)
    by_importance = [decision["name"] for decision in data["importance"]["decisions"]]
    names = [name for name in dict.fromkeys([*by_importance, *domains]) if name in domains]
    return [(name, domains[name]) for name in names[:_ROWS]]


def _position(domain: Domain, value: object) -> float:
    """Position of a value on its row; for an inactive decision, left of all values."""
    if value is None or not domain.contains(value):
        return _INACTIVE
    if isinstance(domain, Categorical):
        return domain.position(value)
    return float(np.clip(domain.position(value), 0.0, 1.0))


def _label_rows(axes: Axes, rows: Sequence[tuple[str, Domain]], inactive: Sequence[int]) -> None:
    """Label the rows and their values, and where decisions of some rows are inactive."""
    names = [*(shortened(name, 18) for name, _ in rows), "rank of score"]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.35)
    axes.set_xlim(_INACTIVE - 0.06, 1.06)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for row in range(len(names)):
        axes.plot([0, 1], [row, row], color=MUTED, linewidth=0.8, zorder=0)
    ticks = [*(_ticks(domain) for _, domain in rows), [(0.0, "worst"), (1.0, "best")]]
    for row in inactive:
        ticks[row].append((_INACTIVE, "off"))
    box = {"facecolor": CARD, "edgecolor": "none", "pad": 0.5, "alpha": 0.85}
    for row, labels in enumerate(ticks):
        for x, text in labels:
            axes.text(x, row + 0.1, text, size=8.5, ha="center", va="top", bbox=box)


def _ticks(domain: Domain) -> list[tuple[float, str]]:
    """Labels of a row: all values if there are few, otherwise both ends and the middle."""
    if domain.size is not None and domain.size <= _LABELLED_VALUES:
        values = list(domain.values())
        length = max(4, 40 // len(values))
        return [(_position(domain, value), shortened(value, length)) for value in values]
    positions = (0.0, 0.5, math.nextafter(1.0, 0.0))
    return [(position, shortened(domain.at(position), 12)) for position in positions]


def draw_lineage(data: Data) -> Figure:
    """Scores along the lineage, from the oldest ancestor to the best trial."""
    steps = [step for step in data["lineage"]["steps"] if step["score"] is not None]
    if len(steps) > STEPS:
        by_gain = sorted(steps[1:-1], key=lambda step: -abs(step["gain"] or 0.0))
        shown = {step["trial_id"] for step in (steps[0], *by_gain[: STEPS - 2], steps[-1])}
        steps = [step for step in steps if step["trial_id"] in shown]
    figure, axes = data_axes(0.7 + 0.33 * len(steps))
    scores = [step["score"] for step in steps]
    axes.plot(scores, range(len(steps)), "o-", color=FIRST, markersize=6)
    axes.plot(scores[-1], len(steps) - 1, "o", color=SECOND, markersize=9)
    names = [shortened(f"{step['trial_id']} {_changed_decisions(step)}", 32) for step in steps]
    axes.set_yticks(range(len(steps)), names)
    axes.set_ylim(len(steps) - 0.4, -0.6)
    axes.set_xlabel(shortened(data["score"]))
    return figure


def _changed_decisions(step: Data) -> str:
    names = ", ".join(change["decision"] for change in step["changes"])
    return names or ("start" if step["from"] is None else "more epochs")


def draw_calibration(data: Data) -> Figure:
    """Predicted against observed ranks, per proxy."""
    calibration = data["calibration"]
    panels = [
        (
            f"{shortened(proxy['name'], 14)}  ρ = {proxy['spearman']:.2f}",
            proxy["predicted"],
            calibration["observed"],
        )
        for proxy in calibration["proxies"][:PANELS]
    ]
    if calibration["places"]:
        predicted = [point["predicted"] for point in calibration["places"]]
        observed = [point["observed"] for point in calibration["places"]]
        panels.append(("rank when proposed", predicted, observed))
    rows = (len(panels) + 1) // 2
    figure = Figure(figsize=(_WIDTH, 0.3 + 2.5 * rows), layout="constrained")
    for panel, (title, predicted, observed) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, 2, panel)
        chosen = thinned(len(predicted), DOTS // 2)
        x, y = np.array(predicted)[chosen], np.array(observed)[chosen]
        end = max(x.max(), y.max())
        axes.plot([1, end], [1, end], "--", color=MUTED, linewidth=0.8)
        axes.scatter(x, y, s=8, color=FIRST, linewidths=0)
        axes.set_title(title, size=10)
        axes.set_xlabel("predicted rank", size=9)
        axes.set_ylabel("observed rank", size=9)
        axes.tick_params(labelsize=9)
        axes.locator_params(nbins=4)
    return figure


def data_axes(height: float) -> tuple[Figure, Axes]:
    """A figure of the width of a column with one pair of axes; the height is in inches."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(color=GRID)
    return figure, axes


def logarithmic(axes: Axes) -> None:
    """A logarithmic axis with plain numbers: powers would be typeset as formulas."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def visible_range(values: np.ndarray, direction: str) -> Bounds:
    """The range of an axis, without values that are far worse than the others."""
    low, high = float(np.min(values)), float(np.max(values))
    fence = far_out_fence(values, maximise=direction == "max")
    if fence is None:
        return low, high
    return (max(fence, low), high) if direction == "max" else (low, min(fence, high))


def _within(values: np.ndarray, bounds: Bounds) -> np.ndarray:
    return (bounds[0] <= values) & (values <= bounds[1])
