"""Pareto dominance among scores to be maximised: ranks, crowding distance, hypervolume.

Non-dominated sorting, crowding distance and constrained domination are those of Deb, Pratap,
Agarwal & Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II".
"""

from __future__ import annotations

import numpy as np

# Number of points that are compared with all others at a time; bounds the memory.
_BLOCK = 128


def non_dominated_ranks(scores: np.ndarray) -> np.ndarray:
    """Front of each point: 0 for the non-dominated points.

    A point dominates another if it is worse in no objective and better in at least one; equal
    points do not dominate each other. Front ``k`` is the non-dominated set once the fronts
    before it are removed (Deb et al. 2002, section III-A). This is one more than the highest
    rank among a point's dominators, all of which precede it in lexicographic order: a single
    pass in blocks, where the paper's algorithm keeps all pairs in memory.

    Args:
        scores: Shape ``[n, m]``, finite.

    Returns:
        Shape ``[n]``, integers.

    >>> non_dominated_ranks(np.array([[1.0, 3.0], [2.0, 2.0], [1.0, 2.0], [2.0, 2.0]])).tolist()
    [0, 0, 1, 0]
    """
    order = np.lexsort(-scores.T[::-1])
    ordered = scores[order]
    ranks = np.zeros(len(order), dtype=int)
    for start in range(0, len(order), _BLOCK):
        block = slice(start, start + _BLOCK)
        dominates = _dominates(ordered[: start + _BLOCK], ordered[block])
        ranks[block] = _rank_below(ranks[:start], dominates[:start])
        while True:  # at most once per front in the block
            within = np.maximum(ranks[block], _rank_below(ranks[block], dominates[start:]))
            if (within == ranks[block]).all():
                break
            ranks[block] = within
    unsorted = np.empty_like(ranks)
    unsorted[order] = ranks
    return unsorted


def _dominates(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which of ``[n, m]`` points dominate which of ``[k, m]``: shape ``[n, k]``."""
    nowhere_worse = np.ones((len(first), len(second)), dtype=bool)
    somewhere_better = np.zeros_like(nowhere_worse)
    for first_scores, second_scores in zip(first.T, second.T, strict=True):
        nowhere_worse &= first_scores[:, None] >= second_scores
        somewhere_better |= first_scores[:, None] > second_scores
    return nowhere_worse & somewhere_better


def _rank_below(ranks: np.ndarray, dominates: np.ndarray) -> np.ndarray:
    """One more than the highest rank among the dominators of each point; 0 without any.

    Args:
        ranks: Shape ``[n]``.
        dominates: Shape ``[n, k]``, whether each of ``n`` points dominates each of ``k``.

    Returns:
        Shape ``[k]``.
    """
    return 1 + np.where(dominates, ranks[:, None], -1).max(axis=0, initial=-1)


def constrained_ranks(scores: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Front numbers under constrained domination.

    A feasible point dominates an infeasible one; of two infeasible points, the one with the
    smaller violation dominates; between two feasible points, Pareto dominance decides (Deb et
    al. 2002, definition 1 in section VI-A).

    Args:
        scores: Shape ``[n, m]``, finite where the violation is 0.
        violations: Shape ``[n]``, 0 or more; may be infinite.

    Returns:
        Shape ``[n]``, integers.

    >>> constrained_ranks(np.array([[9.0], [1.0], [2.0]]), np.array([0.5, 0.0, 0.0])).tolist()
    [2, 1, 0]
    """
    feasible = violations <= 0
    if feasible.all():
        return non_dominated_ranks(scores)
    ranks = np.empty(len(violations), dtype=int)
    ranks[feasible] = non_dominated_ranks(scores[feasible])
    fronts = 1 + ranks[feasible].max(initial=-1)
    ranks[~feasible] = fronts + np.unique(violations[~feasible], return_inverse=True)[1]
    return ranks


def crowding_distances(scores: np.ndarray) -> np.ndarray:
    """Distance between a point's neighbours along each objective, summed over objectives.

    Infinite for the best and the worst of each objective; distances are relative to the range
    of the objective within the front (Deb et al. 2002, section III-B). Of equal points the
    first gets the distance and the others 0: they add nothing to the front, and infinite
    copies of the extremes would fill a population (Fortin & Parizeau 2013, "Revisiting the
    NSGA-II Crowding-Distance Computation").

    Args:
        scores: Shape ``[n, m]``, one front.

    Returns:
        Shape ``[n]``.

    >>> crowding_distances(np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0], [0.0, 4.0]])).tolist()
    [inf, 2.0, inf, 0.0]
    """
    distances = np.zeros(len(scores))
    if not len(scores):
        return distances
    order = np.lexsort(scores.T[::-1])
    points = scores[order]
    new = np.ones(len(points), dtype=bool)
    new[1:] = (points[1:] != points[:-1]).any(axis=1)
    points = points[new]
    gaps = np.zeros(len(points))
    for values in points.T:
        by_value = np.argsort(values, kind="stable")
        sorted_values = values[by_value]
        spread = sorted_values[-1] - sorted_values[0]
        gaps[by_value[[0, -1]]] = np.inf
        if spread > 0:
            gaps[by_value[1:-1]] += (sorted_values[2:] - sorted_values[:-2]) / spread
    distances[order[new]] = gaps
    return distances


def non_dominated(scores: np.ndarray) -> np.ndarray:
    """Which points are non-dominated, including all copies of equal points.

    Args:
        scores: Shape ``[n, m]``, finite.

    Returns:
        Shape ``[n]``, booleans.

    >>> non_dominated(np.array([[1.0, 3.0], [2.0, 2.0], [1.0, 2.0]])).tolist()
    [True, True, False]
    """
    order = np.lexsort(-scores.T[::-1])
    on_front = np.zeros(len(scores), dtype=bool)
    front = np.empty_like(scores)
    size = 0
    for index in order:
        point = scores[index]
        members = front[:size]
        beaten = (members >= point).all(axis=1) & (members > point).any(axis=1)
        if not beaten.any():
            on_front[index] = True
            front[size] = point
            size += 1
    return on_front


def hypervolume(scores: np.ndarray, reference: np.ndarray) -> float:
    """Volume of the region dominated by the points and bounded by the reference point.

    Exact. Points are added in descending order of the last objective. Each adds the part of
    its box that the boxes before it do not cover; all of these reach at least as far in the
    last objective, so the overlap has one dimension less (While, Bradstreet & Barone 2012, "A
    Fast Way of Calculating Exact Hypervolumes"). Two dimensions are a sweep. Feasible for
    thousands of points with two or three objectives, and hundreds with four.

    Args:
        scores: Shape ``[n, m]``.
        reference: Shape ``[m]``; points not above it in every objective add nothing.

    Returns:
        The volume; 0 for no points.

    >>> hypervolume(np.array([[1.0, 3.0], [2.0, 2.0]]), np.array([0.0, 0.0]))
    5.0
    """
    boxes = scores - reference
    boxes = boxes[(boxes > 0).all(axis=1)]
    return _volume(boxes[non_dominated(boxes)])


def _volume(boxes: np.ndarray) -> float:
    """Volume of a union of boxes that share the origin: shape ``[n, m]``, positive."""
    if boxes.shape[1] == 1:
        return float(boxes.max(initial=0.0))
    ordered = boxes[np.argsort(-boxes[:, -1], kind="stable")]
    base, height = ordered[:, :-1], ordered[:, -1]
    if boxes.shape[1] == 2:
        reached = np.maximum.accumulate(base[:, 0]) if len(base) else np.zeros(0)
        return float(-np.diff(height, append=0.0) @ reached)
    total = 0.0
    for index in range(len(base)):
        shared = np.minimum(base[:index], base[index])
        if shared.shape[1] > 2:
            shared = shared[non_dominated(shared)]
        total += height[index] * (base[index].prod() - _volume(shared))
    return float(total)


def compromise(scores: np.ndarray) -> int:
    """Index of the point nearest to the ideal one, each objective scaled to its range.

    Source: Zeleny 1973, "Compromise Programming", with p = 2 and equal weights.

    Args:
        scores: Shape ``[n, m]``, n >= 1, one front.

    Returns:
        The index; of points at the same distance, the first.

    >>> compromise(np.array([[0.0, 100.0], [0.9, 80.0], [1.0, 0.0]]))
    1
    """
    best, worst = scores.max(axis=0), scores.min(axis=0)
    spread = np.where(best > worst, best - worst, 1.0)
    return int(np.argmin((((best - scores) / spread) ** 2).sum(axis=1)))
