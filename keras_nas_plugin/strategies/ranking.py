"""Scores as a surrogate model sees them: without units, and robust to disasters."""

from __future__ import annotations

import numpy as np


def normal_scores(scores: np.ndarray) -> np.ndarray:
    """Normal quantiles of the ranks; equal scores share their mean rank.

    Source: Blom 1958, with the offset 1/2: the quantile of rank r among n is
    (r - 1/2) / n.

    Args:
        scores: Shape ``[n]``.

    Returns:
        Shape ``[n]``, in the order of the scores.

    >>> normal_scores(np.array([5.0, -1e9, 7.0])).round(2).tolist()
    [0.0, -0.97, 0.97]
    """
    from scipy import special, stats

    ranks = stats.rankdata(scores)
    return special.ndtri((ranks - 0.5) / max(len(ranks), 1))


def half_rank_scores(scores: np.ndarray) -> np.ndarray:
    """Normal scores below the median, and distances from it in units of their size above.

    How bad the bad half is does not matter, only in which order; among the good ones,
    how much better one is does matter. The median becomes 0, and the root mean square of
    the upper half 1. Of an even number of scores, the median is the upper one of the two
    in the middle: half way to a disaster would be a disaster.

    Source: Song et al. 2024, "The Vizier Gaussian Process Bandit Algorithm", section 3.3
    (half-rank warping).

    Args:
        scores: Shape ``[n]``, the larger the better; minus infinity, for a failed trial,
            is the worst. Where most failed, all count by rank.

    Returns:
        Shape ``[n]``, finite, in the order of the scores; zeros when all are equal.

    >>> half_rank_scores(np.array([1.0, 3.0, -1e9, -7.0, 1.0])).round(2).tolist()
    [0.0, 1.73, -1.28, -0.52, 0.0]
    """
    if len(scores) == 0:
        return np.zeros(0)
    median, warped = float(np.sort(scores)[len(scores) // 2]), normal_scores(scores)
    if not np.isfinite(median):
        return warped
    upper = scores >= median
    # Halved before the difference, and divided before the square: neither may overflow.
    above = scores[upper] / 2.0 - median / 2.0
    above = above / (above.max() or 1.0)
    size = float(np.sqrt(np.mean(above**2)))
    # Ranks below the median are negative, and scores that are equal are on one side.
    warped[upper] = above / size if size > 0.0 else 0.0
    return warped


def constrained_scores(scores: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """`half_rank_scores`, with what broke a constraint in the order of its violation.

    It stands below everything that kept the constraints, and above what failed, so that a
    model learns which way leads to what is allowed.

    Args:
        scores: Shape ``[n]``, the larger the better; minus infinity without a score.
        violations: Shape ``[n]``; above 0 for what broke a constraint.

    Returns:
        Shape ``[n]``, finite.

    >>> scores = np.array([2.0, -np.inf, -np.inf, 1.0, -np.inf])
    >>> constrained_scores(scores, np.array([0.0, 9.0, 0.5, 0.0, 0.0])).round(2).tolist()
    [1.28, -0.52, 0.0, 0.52, -1.28]
    """
    known = np.isfinite(scores)
    level = np.where(known, 2.0, np.where(violations > 0, 1.0, 0.0))
    within = np.where(known, scores, np.where(violations > 0, -violations, 0.0))
    order = np.lexsort((within, level))
    steps = (np.diff(level[order]) != 0) | (np.diff(within[order]) != 0)
    ranks = np.empty(len(scores))
    ranks[order] = np.concatenate([np.zeros(min(len(scores), 1)), np.cumsum(steps)])
    return np.where(known, half_rank_scores(scores), normal_scores(ranks))
