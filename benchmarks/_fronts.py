"""Searches for two objectives: Pareto fronts and their hypervolumes."""

from __future__ import annotations

import functools

import numpy as np

from benchmarks._tables import Table, parameter_counts

COSTS = ("latency", "parameters")
# Distance of the reference point from the worst values of the exact front, as a fraction of
# the front's extent.
_BEYOND = 0.1


def front(points: np.ndarray) -> np.ndarray:
    """Indices of the non-dominated points; smaller is better in both objectives.

    Args:
        points: Shape ``[n, 2]``.

    Returns:
        Shape ``[m]``, sorted by the first objective; of equal points, only the first.

    >>> front(np.array([[2.0, 2.0], [1.0, 3.0], [3.0, 2.0], [2.0, 1.5], [1.0, 3.0]]))
    array([1, 3])
    """
    order = np.lexsort((points[:, 1], points[:, 0]))
    second = points[order, 1]
    best_before = np.minimum.accumulate(np.concatenate([[np.inf], second[:-1]]))
    return order[second < best_before]


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Area that a set of points dominates, up to a reference point.

    Source: Zitzler & Thiele 1998, "Multiobjective Optimization Using Evolutionary Algorithms".

    Args:
        points: Shape ``[n, 2]``, in any order; smaller is better in both objectives.
        reference: Shape ``[2]``. Points that are not below it in both objectives are ignored.

    >>> hypervolume(np.array([[1.0, 3.0], [2.0, 1.0], [3.0, 2.0], [5.0, 0.0]]), np.array([4, 4]))
    7.0
    """
    inside = points[(points < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    steps = inside[front(inside)]
    widths = np.append(steps[1:, 0], reference[0]) - steps[:, 0]
    return float(widths @ (reference[1] - steps[:, 1]))


class Problem:
    """Two objectives on a table of NAS-Bench-201: the error and a cost.

    The reference point is the nadir of the table's exact front, moved outwards by a tenth of
    the front's extent. The ends of the front then contribute as well, and points beyond them
    contribute little (Ishibuchi, Imada, Setoguchi & Nojima 2018, "How to Specify a Reference
    Point in Hypervolume Calculation").

    Args:
        table: A table of NAS-Bench-201.
        cost: One of `COSTS`.
    """

    def __init__(self, table: Table, cost: str) -> None:
        self.table = table
        self.objectives = (("error", "min"), (cost, "min"))
        #: Shape ``[configurations]``.
        self.cost = table.latency if cost == "latency" else parameter_counts(table)
        #: Shape ``[configurations, 2]``: mean error over all seeds in percent, and cost.
        self.points = np.stack([100 - table.truth, self.cost], axis=1)

    @functools.cached_property
    def exact(self) -> np.ndarray:
        """Points of the table's front, shape ``[n, 2]``."""
        return self.points[front(self.points)]

    @functools.cached_property
    def reference(self) -> np.ndarray:
        """The reference point, shape ``[2]``."""
        worst, best = self.exact.max(axis=0), self.exact.min(axis=0)
        return worst + _BEYOND * (worst - best)

    @functools.cached_property
    def total(self) -> float:
        """Hypervolume of the table's front."""
        return hypervolume(self.exact, self.reference)

    def share(self, points: np.ndarray) -> float:
        """Hypervolume of points, shape ``[n, 2]``, as a fraction of that of the exact front."""
        return hypervolume(points, self.reference) / self.total
