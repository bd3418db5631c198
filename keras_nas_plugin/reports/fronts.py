"""Trials that no other beats in every respect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.evaluation.names import COSTS, PARAMETERS, lookup
from keras_nas_plugin.strategies.pareto import non_dominated
from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord

# As `training/describe.py` writes several objectives.
_OBJECTIVE = re.compile(r"(.+?) \((max|min)\)(?:, |$)")


def objectives_of(search: SearchInfo) -> list[tuple[str, str]]:
    """Names and directions of what a search is for.

    >>> search = SearchInfo(
    ...     search_id="s", name="s", objective="multi_objective", direction="max", strategy="",
    ...     max_trials=1, settings={"objectives": "val_accuracy (max), flops (min)"},
    ... )
    >>> objectives_of(search)
    [('val_accuracy', 'max'), ('flops', 'min')]
    """
    several = _OBJECTIVE.findall(str(search.settings.get("objectives", "")))
    return several or [(search.objective, search.direction)]


def front(search: SearchInfo, ranked: Sequence[TrialRecord]) -> dict[str, Any]:
    """The Pareto front: of several objectives, or of the one and what a model costs.

    Args:
        search: Says what is wanted.
        ranked: Finished trials that keep the constraints, the best first.

    Returns:
        JSON-able: ``axes`` (``name`` and ``direction``), ``points`` (``trial_id``, ``values``
        and whether it is on the ``front``), and a ``note`` in place of points.
    """
    axes = objectives_of(search)
    several = len(axes) > 1
    if not several:
        cost = _cost(ranked)
        if cost is None:
            return {"axes": [], "points": [], "note": "The trials' costs are not known."}
        axes = [*axes, (cost, "min")]
    rows = []
    for record in ranked:
        known = {**record.costs, **record.metrics}
        values = [lookup(known, name) for name, _ in axes]
        if not several:
            values[0] = record.score
        if all(value is not None and np.isfinite(value) for value in values):
            rows.append((record.trial_id, [float(value) for value in values]))
    named = [{"name": name, "direction": way} for name, way in axes]
    if not rows:
        return {"axes": named, "points": [], "note": "No finished trial has all objectives."}
    signs = np.array([1.0 if way == "max" else -1.0 for _, way in axes])
    best = non_dominated(np.array([values for _, values in rows]) * signs)
    points = [
        {"trial_id": trial_id, "values": values, "front": bool(on)}
        for (trial_id, values), on in zip(rows, best, strict=True)
    ]
    return {"axes": named, "points": points, "note": None}


def _cost(ranked: Sequence[TrialRecord]) -> str | None:
    """The cost that scores are held against: parameters, else any that a trial has."""
    known = {name for record in ranked for name in record.costs}
    if PARAMETERS in known:
        return PARAMETERS
    return min(known & COSTS, default=min(known, default=None))
