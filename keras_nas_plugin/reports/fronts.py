"""The Pareto front of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.evaluation.names import COSTS, PARAMETERS, lookup
from keras_nas_plugin.pareto import non_dominated
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord


def front(search: SearchInfo, ranked: Sequence[TrialRecord]) -> dict[str, Any]:
    """The Pareto front of several objectives, or of a single objective and a cost.

    Args:
        search: The search, for its objectives.
        ranked: Finished trials that satisfy the constraints, the best first.

    Returns:
        As JSON types: ``axes`` (``name`` and ``direction``), ``points`` (``trial_id``,
        ``values`` and whether the trial is on the ``front``), and a ``note`` if there are no
        points.
    """
    axes = list(search.directions.items())
    single_objective = len(axes) == 1
    if single_objective:
        cost = _cost(ranked)
        if cost is None:
            return {"axes": [], "points": [], "note": "The costs of the trials are unknown."}
        axes.append((cost, "min"))
    rows = []
    for record in ranked:
        values = [lookup(record.measurements, name) for name, _ in axes]
        if single_objective:
            values[0] = record.score
        numbers = [float(value) for value in values if value is not None and np.isfinite(value)]
        if len(numbers) == len(values):
            rows.append((record.trial_id, numbers))
    described = [{"name": name, "direction": direction} for name, direction in axes]
    if not rows:
        return {"axes": described, "points": [], "note": "No finished trial has all objectives."}
    signs = np.array([1.0 if direction == "max" else -1.0 for _, direction in axes])
    optimal = non_dominated(np.array([values for _, values in rows]) * signs)
    points = [
        {"trial_id": trial_id, "values": values, "front": bool(on_front)}
        for (trial_id, values), on_front in zip(rows, optimal, strict=True)
    ]
    return {"axes": described, "points": points, "note": None}


def _cost(ranked: Sequence[TrialRecord]) -> str | None:
    """The cost to plot against the score: parameters, otherwise any cost of the trials."""
    names = {name for record in ranked for name in record.costs}
    if PARAMETERS in names:
        return PARAMETERS
    return min(names & COSTS, default=min(names, default=None))
