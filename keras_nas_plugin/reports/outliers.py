"""Scores that are far worse than the others."""

from __future__ import annotations

import numpy as np

# Tukey 1977, "Exploratory Data Analysis": values more than three interquartile ranges beyond a
# quartile are "far out".
_FAR_OUT = 3.0


def far_out_fence(scores: np.ndarray, *, maximise: bool) -> float | None:
    """The limit beyond which a score is far worse than the others.

    Args:
        scores: Shape ``[n]``.
        maximise: Whether larger scores are better.

    Returns:
        Three interquartile ranges below the lower quartile (above the upper one if smaller
        scores are better); None if the quartiles are equal.

    >>> far_out_fence(np.array([1.0, 2.0, 3.0, 2.0, -90.0]), maximise=True)
    -2.0
    """
    low, high = np.percentile(scores, [25.0, 75.0])
    reach = _FAR_OUT * (high - low)
    if reach == 0:
        return None
    return float(low - reach if maximise else high + reach)


def clip_far_out(scores: np.ndarray, *, maximise: bool) -> np.ndarray:
    """Replace scores beyond `far_out_fence` by the fence.

    >>> clip_far_out(np.array([1.0, 2.0, 3.0, 2.0, -90.0]), maximise=True).tolist()
    [1.0, 2.0, 3.0, 2.0, -2.0]
    """
    fence = far_out_fence(scores, maximise=maximise)
    if fence is None:
        return scores
    return np.maximum(scores, fence) if maximise else np.minimum(scores, fence)
