"""Transformations of scores for a surrogate model: free of units, robust to outliers."""

from __future__ import annotations

import numpy as np


def normal_scores(scores: np.ndarray) -> np.ndarray:
    """Normal quantiles of the ranks; equal scores share their mean rank.

    Source: Blom 1958, with the offset 1/2: the quantile of rank r among n is
    (r - 1/2) / n.

    Args:
        scores: Shape ``[n]``.

    Returns:
        Shape ``[n]``, increasing with the scores.

    >>> normal_scores(np.array([5.0, -1e9, 7.0])).round(2).tolist()
    [0.0, -0.97, 0.97]
    """
    from scipy import special, stats

    ranks = stats.rankdata(scores)
    return special.ndtri((ranks - 0.5) / max(len(ranks), 1))


def half_rank_scores(scores: np.ndarray) -> np.ndarray:
    """Normal scores below the median, and scaled distances from the median above it.

    In the worse half only the order matters; in the better half, the differences matter too. The
    median becomes 0, and the root mean square of the upper half 1. For an even number of
    scores, the median is the upper of the two in the middle: their mean could be an outlier.

    Source: Song et al. 2024, "The Vizier Gaussian Process Bandit Algorithm", section 3.3
    (half-rank warping).

    Args:
        scores: Shape ``[n]``, the larger the better; minus infinity for a failed trial.
            If most trials failed, all scores count by rank.

    Returns:
        Shape ``[n]``, finite, increasing with the scores; zeros when all are equal.

    >>> half_rank_scores(np.array([1.0, 3.0, -1e9, -7.0, 1.0])).round(2).tolist()
    [0.0, 1.73, -1.28, -0.52, 0.0]
    """
    if len(scores) == 0:
        return np.zeros(0)
    median, warped = float(np.sort(scores)[len(scores) // 2]), normal_scores(scores)
    if not np.isfinite(median):
        return warped
    upper = scores >= median
    # Halved before the difference, and divided before the square, to avoid overflows.
    above = scores[upper] / 2.0 - median / 2.0
    above = above / (above.max() or 1.0)
    size = float(np.sqrt(np.mean(above**2)))
    # Normal scores below the median are negative; ties are all on the same side of it.
    warped[upper] = above / size if size > 0.0 else 0.0
    return warped


def constrained_scores(scores: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """`half_rank_scores`, with infeasible trials in the order of their violations.

    Trials that violated a constraint rank below all feasible trials and above failed ones, so
    that a model learns the direction towards the feasible region.

    Args:
        scores: Shape ``[n]``, the larger the better; minus infinity without a score.
        violations: Shape ``[n]``; above 0 for trials that violated a constraint.

    Returns:
        Shape ``[n]``, finite.

    >>> scores = np.array([2.0, -np.inf, -np.inf, 1.0, -np.inf])
    >>> constrained_scores(scores, np.array([0.0, 9.0, 0.5, 0.0, 0.0])).round(2).tolist()
    [1.28, -0.52, 0.0, 0.52, -1.28]
    """
    finite = np.isfinite(scores)
    level = np.where(finite, 2.0, np.where(violations > 0, 1.0, 0.0))
    within = np.where(finite, scores, np.where(violations > 0, -violations, 0.0))
    order = np.lexsort((within, level))
    steps = (np.diff(level[order]) != 0) | (np.diff(within[order]) != 0)
    ranks = np.empty(len(scores))
    ranks[order] = np.concatenate([np.zeros(min(len(scores), 1)), np.cumsum(steps)])
    return np.where(finite, half_rank_scores(scores), normal_scores(ranks))
