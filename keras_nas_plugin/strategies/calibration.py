"""How well scores without training rank the trials that were trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

# Variance of the transformed coefficient, times the number of pairs less 4.
_FIELLER = 0.437
# Largest coefficient whose transformation is finite in practice.
_LARGEST = 0.999


@dataclasses.dataclass(frozen=True)
class RankCorrelation:
    """Kendall's rank correlation with its interval.

    Attributes:
        value: Kendall's tau-b; 0 if all values on one side are equal.
        low: Lower end of the interval of 95%.
        high: Upper end.
        trials: Number of pairs.
    """

    value: float
    low: float
    high: float
    trials: int

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f}, {self.trials} trials)"


def kendall(first: Sequence[float], second: Sequence[float]) -> RankCorrelation:
    """Kendall's tau-b of two samples, with an interval of 95%.

    The interval is that of the inverse hyperbolic tangent of tau, whose variance is about
    0.437 / (n - 4) (Fieller, Hartley & Pearson 1957, "Tests for Rank Correlation Coefficients",
    section 4). Fewer than five pairs say nothing: the interval is from -1 to 1.

    Args:
        first: Finite numbers.
        second: As many finite numbers.

    >>> print(kendall([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6, 5]))
    0.87 (0.38 to 0.98, 6 trials)
    """
    from scipy import stats

    constant = len(set(first)) < 2 or len(set(second)) < 2
    value = 0.0 if constant else float(stats.kendalltau(first, second).statistic)
    count = len(first)
    if count < 5:
        return RankCorrelation(value, -1.0, 1.0, count)
    centre = math.atanh(max(-_LARGEST, min(_LARGEST, value)))
    half = 1.96 * math.sqrt(_FIELLER / (count - 4))
    return RankCorrelation(value, math.tanh(centre - half), math.tanh(centre + half), count)
