"""The pictures of a report, drawn from `report_data`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from keras_nas_plugin.reports.space import decision_of
from keras_nas_plugin.reports.svg import CARD, FIRST, GRID, MUTED, SECOND, TEXT, THIRD
from keras_nas_plugin.space.domains import Categorical, Domain

#: Marks of a drawing, at most: numbers are never thinned out, drawings are.
DOTS, LINES, BARS, STEPS, PANELS = 400, 200, 12, 16, 4
_WIDE = 4.7
_PAIRS = 3
# More trials than this stand on a logarithmic axis: most happens early.
_LONG = 200
# Decisions in parallel coordinates, and values that get a name of their own.
_ROWS, _NAMED = 8, 6
# The limits of an axis leave out what is far worse than the rest: Tukey's far-out fence.
_FAR_OUT = 3.0
_INACTIVE = -0.16


def thinned(count: int, most: int) -> np.ndarray:
    """Evenly spaced indices, first and last included.

    >>> thinned(10, 4).tolist(), thinned(3, 4).tolist()
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(int))


def shortened(text: Any, length: int = 26) -> str:
    """A text that fits beside a picture; long names differ at both ends.

    >>> shortened("block_3/operation", 10)
    'block…tion'
    """
    text = f"{text:.4g}" if isinstance(text, float) else str(text)
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}…{text[len(text) - (length - 1) // 2 :]}"


def draw_progress(data: Mapping[str, Any]) -> Figure:
    """Scores of all trials, the best so far, and what random search would have had."""
    trials, reference = data["trials"], data["random_reference"]
    figure, axes = _axes(3.4)
    known = [
        (step, score)
        for step, score in enumerate(trials["score"], start=1)
        if score is not None and trials["rank"][step - 1] is not None
    ]
    bounds = _visible([score for _, score in known], data["search"]["direction"])
    shown = [known[at] for at in thinned(len(known), DOTS) if _within(known[at][1], bounds)]
    axes.scatter(*zip(*shown, strict=True), s=9, color=MUTED, linewidths=0, label="a trial")
    if reference["note"] is None:
        _draw_reference(axes, reference, bounds)
    axes.step(*_steps(trials["best_so_far"]), where="post", color=FIRST, label="best so far")
    if len(trials["score"]) > _LONG:
        _logarithmic(axes)
    axes.set_xlabel("trials that ended")
    axes.set_ylabel(shortened(data["score"]))
    figure.legend(loc="outside upper left", frameon=False, ncols=2, labelcolor=TEXT)
    return figure


def _draw_reference(axes: Axes, reference: Mapping[str, Any], bounds: tuple[float, float]) -> None:
    low, middle, high = (np.clip(reference[k], *bounds) for k in ("low", "expected", "high"))
    axes.fill_between(reference["n"], low, high, color=SECOND, alpha=0.2, linewidth=0)
    axes.plot(reference["n"], middle, "--", color=SECOND, label="random search, expected")


def _steps(best: Sequence[float | None]) -> tuple[list[int], list[float]]:
    """Where the best score so far changes, and the end."""
    known = [(step, score) for step, score in enumerate(best, start=1) if score is not None]
    kept = [
        one
        for at, one in enumerate(known)
        if at in (0, len(known) - 1) or one[1] != known[at - 1][1]
    ]
    return [step for step, _ in kept], [score for _, score in kept]


def draw_front(data: Mapping[str, Any]) -> Figure:
    """Trials by their first two objectives, or by score and cost, and the Pareto front."""
    (first, second), points = data["front"]["axes"][:2], data["front"]["points"]
    figure, axes = _axes(3.4)
    values = np.array([point["values"][:2] for point in points])
    on, drawn = np.array([point["front"] for point in points]), in_picture(data["front"])
    # Of two objectives, a front may end where hardly a trial is.
    inside = drawn & (on | _within(values[:, 1], _visible(values[:, 1], second["direction"])))
    others = values[inside & ~on]
    others = others[thinned(len(others), DOTS)]
    axes.scatter(others[:, 1], others[:, 0], s=9, color=MUTED, linewidths=0, label="a trial")
    best = values[inside & on]
    best = best[np.argsort(best[:, 1], kind="stable")]
    best = best[thinned(len(best), DOTS)]
    # A front goes on as it is until the next trial beats it.
    way = "steps-post" if second["direction"] == "min" else "steps-pre"
    style = {"color": FIRST, "markersize": 5, "drawstyle": way, "label": "Pareto front"}
    axes.plot(best[:, 1], best[:, 0], "o-", **style)
    if (values[:, 1] > 0).all() and values[inside, 1].max() > 20 * values[inside, 1].min():
        _logarithmic(axes)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(f"{shortened(second['name'])} ({second['direction']})")
    axes.set_ylabel(f"{shortened(first['name'])} ({first['direction']})")
    figure.legend(loc="outside upper left", frameon=False, ncols=2, labelcolor=TEXT)
    return figure


def in_picture(front: Mapping[str, Any]) -> np.ndarray:
    """Which points of a front are not far worse than the rest in the first objective."""
    first = np.array([point["values"][0] for point in front["points"]])
    return _within(first, _visible(first, front["axes"][0]["direction"]))


def draw_importance(data: Mapping[str, Any]) -> Figure:
    """Shares of the variance, with the middle nine tenths of the trees."""
    found = data["importance"]
    bars = [(one["name"], one, FIRST) for one in found["decisions"][:BARS]]
    for one in found["pairs"][:_PAIRS]:
        bars.append((" × ".join(shortened(name, 12) for name in one["names"]), one, THIRD))
    figure, axes = _axes(0.7 + 0.33 * len(bars))
    for at, (_, one, colour) in enumerate(bars):
        axes.barh(at, 100 * one["share"], height=0.62, color=colour)
        axes.plot([100 * one["low"], 100 * one["high"]], [at, at], color=TEXT, linewidth=1.2)
    axes.set_yticks(range(len(bars)), [shortened(name) for name, _, _ in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("% of the variance of the score")
    return figure


def draw_parallel(data: Mapping[str, Any]) -> Figure:
    """Each trial as a line through its decisions, one below the other, and its score."""
    rows = _parallel_rows(data)
    trials = data["trials"]
    order = [at for at, rank in enumerate(trials["rank"]) if rank is not None]
    order.sort(key=lambda at: trials["rank"][at])
    best = max(1, len(order) // 10)
    chosen = [order[at] for at in thinned(best, LINES // 4)]
    chosen += [order[best + at] for at in thinned(len(order) - best, LINES - LINES // 4)]
    lines = []
    for at in chosen:
        places = [_place(domain, trials["values"][name][at]) for name, domain in rows]
        score = 1.0 - (trials["rank"][at] - 1) / max(1, len(order) - 1)
        lines.append([*((x, row) for row, x in enumerate(places)), (score, len(rows))])
    figure, axes = _axes(0.6 + 0.62 * (len(rows) + 1))
    tenth = min(best, LINES // 4)
    for some, colour, width, alpha in (
        (lines[tenth:][::-1], MUTED, 0.6, 0.35),
        (lines[1:tenth][::-1], FIRST, 1.1, 0.8),
        (lines[:1], SECOND, 2.2, 1.0),
    ):
        axes.add_collection(LineCollection(some, colors=colour, linewidths=width, alpha=alpha))
    bypassed = {y for line in lines for x, y in line if x == _INACTIVE}
    _label_rows(axes, rows, sorted(bypassed))
    return figure


def _parallel_rows(data: Mapping[str, Any]) -> list[tuple[str, Domain]]:
    """The decisions that matter most, and their domains."""
    domains: dict[str, Domain] = {}
    for config in data["search"]["space"]:
        decision = decision_of(config)
        if decision.domain.size != 1 and decision.name in data["trials"]["values"]:
            domains.setdefault(decision.name, decision.domain)
    shares = [one["name"] for one in data["importance"]["decisions"]]
    names = [name for name in dict.fromkeys([*shares, *domains]) if name in domains]
    return [(name, domains[name]) for name in names[:_ROWS]]


def _place(domain: Domain, value: Any) -> float:
    """Where a value stands on its row; left of all of them for an inactive decision."""
    if value is None or not domain.contains(value):
        return _INACTIVE
    if isinstance(domain, Categorical):
        return domain.position(value)
    return float(np.clip(domain.position(value), 0.0, 1.0))


def _label_rows(axes: Axes, rows: Sequence[tuple[str, Domain]], inactive: Sequence[int]) -> None:
    """Names and values of the rows; those that a line may bypass have a place for that."""
    names = [*(shortened(name, 18) for name, _ in rows), "rank of score"]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.35)
    axes.set_xlim(_INACTIVE - 0.06, 1.06)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for at in range(len(names)):
        axes.plot([0, 1], [at, at], color=MUTED, linewidth=0.8, zorder=0)
    ticks = [*(_ticks(domain) for _, domain in rows), [(0.0, "worst"), (1.0, "best")]]
    for at in inactive:
        ticks[at].append((_INACTIVE, "off"))
    for at, some in enumerate(ticks):
        for x, text in some:
            ground = {"facecolor": CARD, "edgecolor": "none", "pad": 0.5, "alpha": 0.85}
            axes.text(x, at + 0.1, text, size=8.5, ha="center", va="top", bbox=ground)


def _ticks(domain: Domain) -> list[tuple[float, str]]:
    """Values that get a label: all of a few, else both ends and the middle."""
    if domain.size is not None and domain.size <= _NAMED:
        values = list(domain.values())
        return [(_place(domain, v), shortened(v, max(4, 40 // len(values)))) for v in values]
    places = (0.0, 0.5, math.nextafter(1.0, 0.0))
    return [(place, shortened(domain.at(place), 12)) for place in places]


def draw_lineage(data: Mapping[str, Any]) -> Figure:
    """Scores along the winner's line, from its oldest ancestor down to itself."""
    steps = [one for one in data["lineage"]["steps"] if one["score"] is not None]
    if len(steps) > STEPS:
        gains = sorted(steps[1:-1], key=lambda one: -abs(one["gain"] or 0.0))[: STEPS - 2]
        kept = {one["trial_id"] for one in (steps[0], *gains, steps[-1])}
        steps = [one for one in steps if one["trial_id"] in kept]
    figure, axes = _axes(0.7 + 0.33 * len(steps))
    scores = [one["score"] for one in steps]
    axes.plot(scores, range(len(steps)), "o-", color=FIRST, markersize=6)
    axes.plot(scores[-1], len(steps) - 1, "o", color=SECOND, markersize=9)
    names = [shortened(f"{one['trial_id']} {_brought(one)}", 32) for one in steps]
    axes.set_yticks(range(len(steps)), names)
    axes.set_ylim(len(steps) - 0.4, -0.6)
    axes.set_xlabel(shortened(data["score"]))
    return figure


def _brought(step: Mapping[str, Any]) -> str:
    changed = ", ".join(one["decision"] for one in step["changes"])
    return changed or ("start" if step["from"] is None else "trained further")


def draw_calibration(data: Mapping[str, Any]) -> Figure:
    """Ranks that proxies predicted against those that scores had."""
    found = data["calibration"]
    panels = [
        (
            f"{shortened(one['name'], 14)}  ρ = {one['spearman']:.2f}",
            one["predicted"],
            found["observed"],
        )
        for one in found["proxies"][:PANELS]
    ]
    if found["places"]:
        places = found["places"]
        predicted, observed = ([one[key] for one in places] for key in ("predicted", "observed"))
        panels.append(("place when proposed", predicted, observed))
    rows = (len(panels) + 1) // 2
    figure = Figure(figsize=(_WIDE, 0.3 + 2.5 * rows), layout="constrained")
    for at, (title, predicted, observed) in enumerate(panels):
        axes = figure.add_subplot(rows, 2, at + 1)
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


def _axes(high: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDE, high), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(color=GRID)
    return figure, axes


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis with plain numbers: powers would be formulas."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _visible(values: Any, direction: str) -> tuple[float, float]:
    """The range to draw: without what is far worse than the rest."""
    scores = np.asarray(values, dtype=float)
    low, high = np.percentile(scores, [25.0, 75.0])
    reach = _FAR_OUT * (high - low)
    if direction == "max":
        return max(low - reach, scores.min()) if reach else scores.min(), scores.max()
    return scores.min(), min(high + reach, scores.max()) if reach else scores.max()


def _within(value: Any, bounds: tuple[float, float]) -> Any:
    return (bounds[0] <= value) & (value <= bounds[1])
