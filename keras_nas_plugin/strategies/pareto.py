"""Pareto dominance on scores that are all the better the larger: ranks, crowding, hypervolume.

Non-dominated sorting, crowding distance and constrained domination are those of Deb, Pratap,
Agarwal & Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II".
"""

from __future__ import annotations

import numpy as np

# Points whose relations to all others are in memory at a time.
_BLOCK = 128


def non_dominated_ranks(scores: np.ndarray) -> np.ndarray:
    """Number of each point's front: 0 for those that no other dominates.

    A point dominates another when it is nowhere worse and somewhere better; equal points do
    not dominate each other. Front ``k`` is what is left undominated once the fronts before it
    are taken away (Deb et al. 2002, section III-A). That is the same as one more than the
    highest rank among a point's dominators, all of which precede it in lexicographic order:
    one pass in blocks, where the paper's algorithm keeps all pairs in memory.

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
        above = _dominates(ordered[: start + _BLOCK], ordered[block])
        ranks[block] = _deepest(ranks[:start], above[:start])
        while True:  # at most as often as the block has fronts
            within = np.maximum(ranks[block], _deepest(ranks[block], above[start:]))
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
    for own, other in zip(first.T, second.T, strict=True):
        nowhere_worse &= own[:, None] >= other
        somewhere_better |= own[:, None] > other
    return nowhere_worse & somewhere_better


def _deepest(ranks: np.ndarray, above: np.ndarray) -> np.ndarray:
    """One more than the highest rank above: ``[n]`` ranks, ``[n, k]`` relations, ``[k]``."""
    return 1 + np.where(above, ranks[:, None], -1).max(axis=0, initial=-1)


def constrained_ranks(scores: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Front numbers under constrained domination.

    What keeps all constraints dominates what does not; of two that do not, the one with the
    smaller violation dominates; of two that do, Pareto dominance decides (Deb et al. 2002,
    definition 1 in section VI-A).

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
    """How far apart a point's neighbours along each objective are, summed over objectives.

    Infinite for the best and the worst of each objective; distances are relative to the range
    of the objective within the front (Deb et al. 2002, section III-B). Of equal points the
    first gets the distance and the others 0: they add nothing to the front, and where copies
    of the extremes were infinite they would fill a population (Fortin & Parizeau 2013,
    "Revisiting the NSGA-II Crowding-Distance Computation").

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
    apart = np.zeros(len(points))
    for values in points.T:
        along = np.argsort(values, kind="stable")
        sorted_values = values[along]
        spread = sorted_values[-1] - sorted_values[0]
        apart[along[[0, -1]]] = np.inf
        if spread > 0:
            apart[along[1:-1]] += (sorted_values[2:] - sorted_values[:-2]) / spread
    distances[order[new]] = apart
    return distances


def non_dominated(scores: np.ndarray) -> np.ndarray:
    """Which points no other dominates; of equal ones all.

    Args:
        scores: Shape ``[n, m]``, finite.

    Returns:
        Shape ``[n]``, booleans.

    >>> non_dominated(np.array([[1.0, 3.0], [2.0, 2.0], [1.0, 2.0]])).tolist()
    [True, True, False]
    """
    order = np.lexsort(-scores.T[::-1])
    kept = np.zeros(len(scores), dtype=bool)
    front = np.empty_like(scores)
    size = 0
    for index in order:
        point = scores[index]
        found = front[:size]
        beaten = (found >= point).all(axis=1) & (found > point).any(axis=1)
        if not beaten.any():
            kept[index] = True
            front[size] = point
            size += 1
    return kept


def hypervolume(scores: np.ndarray, reference: np.ndarray) -> float:
    """Volume of what the points dominate and what dominates the reference.

    Exact. The best in the last objective comes first; each further point adds its own box
    without what the boxes before it cover, all of which reach at least as far in the last
    objective, so that what they share has one dimension less (While, Bradstreet & Barone
    2012, "A Fast Way of Calculating Exact Hypervolumes"); two dimensions are a sweep.
    Thousands of points with two or three objectives, hundreds with four.

    Args:
        scores: Shape ``[n, m]``.
        reference: Shape ``[m]``; what is not above it in every objective adds nothing.

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
    for place in range(len(base)):
        shared = np.minimum(base[:place], base[place])
        if shared.shape[1] > 2:
            shared = shared[non_dominated(shared)]
        total += height[place] * (base[place].prod() - _volume(shared))
    return float(total)


def compromise(scores: np.ndarray) -> int:
    """Index of the point nearest to the ideal one, each objective scaled to its range.

    Source: Zeleny 1973, "Compromise Programming", with p = 2 and equal weights.

    Args:
        scores: Shape ``[n, m]``, n >= 1, one front.

    >>> compromise(np.array([[0.0, 100.0], [0.9, 80.0], [1.0, 0.0]]))
    1
    """
    best, worst = scores.max(axis=0), scores.min(axis=0)
    spread = np.where(best > worst, best - worst, 1.0)
    return int(np.argmin((((best - scores) / spread) ** 2).sum(axis=1)))
