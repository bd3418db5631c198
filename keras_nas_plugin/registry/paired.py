"""One-sided tests of two models on the same rows.

All of them ask the same question. Let the *improvement* be the score that the challenger is
expected to reach on the population that the rows were drawn from, minus that of the champion,
larger being better. The null hypothesis says that it is at most `margin`; a small p-value is
evidence against it. With a margin of 0 this is superiority; with a negative one it is
non-inferiority.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

# Random row numbers per block: limits the memory of the bootstrap to about 100 MB.
_BLOCK = 4_000_000


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """The result of a paired test.

    Attributes:
        method: ``"mcnemar"``, ``"score"``, ``"bootstrap-t"`` or ``"bootstrap"``.
        improvement: The challenger's score minus the champion's on these rows.
        margin: The value that the improvement has to exceed.
        p_value: An upper bound on the probability of at least as much evidence if the true
            improvement is at most `margin`; NaN where the scores are not numbers.
        numbers: Further numbers of the method.
    """

    method: str
    improvement: float
    margin: float
    p_value: float
    numbers: Mapping[str, float]


def mcnemar(wins: int, losses: int, rows: int) -> PairedTest:
    """McNemar's test, exact and one-sided, of two classifiers.

    Rows on which both are right, or both wrong, say nothing about which is better. If the
    challenger were no better, each remaining row would be a win with probability at most one
    half, so that the number of wins is binomial (McNemar 1947, "Note on the sampling error of the
    difference between correlated proportions"; exact as in Dietterich 1998, "Approximate
    statistical tests for comparing supervised classification learning algorithms"). The test
    is conservative: its level is at most the nominal one at any sample size.

    Args:
        wins: Rows that only the challenger gets right.
        losses: Rows that only the champion gets right.
        rows: Number of all rows.

    Returns:
        The test; its `numbers` are ``wins`` and ``losses``.

    >>> round(mcnemar(9, 1, rows=100).p_value, 6)  # (1 + 10) / 2**10
    0.010742
    """
    from scipy.stats import binom

    p_value = float(binom.sf(wins - 1, wins + losses, 0.5))
    counts: dict[str, float] = {"wins": wins, "losses": losses}
    return PairedTest("mcnemar", (wins - losses) / rows, 0.0, p_value, counts)


def score_test(wins: int, losses: int, rows: int, margin: float) -> PairedTest:
    """McNemar's test with a margin: the score test for paired proportions.

    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design", equation 4. The variance is the one under the null hypothesis, so
    that a small number of discordant rows is not mistaken for certainty. Asymptotic; with a margin
    of 0 its statistic is McNemar's without correction.

    Args:
        wins: Rows that only the challenger gets right.
        losses: Rows that only the champion gets right.
        rows: Number of all rows.
        margin: Difference between the accuracies that has to be exceeded, between -1 and 1.

    Returns:
        The test; its `numbers` are ``wins``, ``losses`` and ``statistic``.

    >>> round(score_test(0, 0, rows=1000, margin=-0.01).p_value, 4)
    0.0007
    >>> round(score_test(0, 0, rows=10, margin=-0.01).p_value, 4)
    0.3753
    """
    from scipy.stats import norm

    # The likeliest share of losses if the difference were exactly the margin.
    slope = (2 * rows - wins + losses) * margin - (wins + losses)
    constant = -losses * margin * (1 - margin)
    lost = (math.sqrt(max(slope**2 - 8 * rows * constant, 0.0)) - slope) / (4 * rows)
    variance = rows * (2 * lost + margin * (1 - margin))
    excess = wins - losses - rows * margin
    statistic = excess / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, excess)
    p_value = float(norm.sf(statistic)) if excess else 0.5
    counts = {"wins": wins, "losses": losses, "statistic": statistic}
    return PairedTest("score", (wins - losses) / rows, margin, p_value, counts)


def bootstrap_mean(
    differences: np.ndarray,
    margin: float,
    *,
    alpha: float,
    resamples: int,
    rng: np.random.Generator,
) -> PairedTest:
    """Paired bootstrap-t of a mean difference, for any metric that is a mean over rows.

    Rows are drawn with replacement and each mean is divided by its own standard error, which
    makes the level second-order accurate where the differences are skewed; the percentile
    bootstrap's is first-order accurate (Hall 1988, "Theoretical comparison of bootstrap
    confidence intervals"; Efron and Tibshirani 1993, "An introduction to the bootstrap",
    sections 12.5 and 16.4).

    With heavy tails, such as those of a loss, its p-values are still a little too small for 100
    rows. So the p-value is the larger of this one and that of the sign-flip test (Fisher 1935,
    "The design of experiments", section 21), which is exact at any sample size if the differences
    are symmetric about the margin, as for two models that are interchangeable.

    Args:
        differences: The challenger's score minus the champion's, larger being better, of shape
            ``[rows]``.
        margin: The value that the mean has to exceed.
        alpha: Level of the reported lower bound.
        resamples: Number of samples drawn.
        rng: The source of randomness.

    Returns:
        The test, with the one-sided lower bound of the improvement in `numbers`.
    """
    mean = float(np.mean(differences))
    centred = np.asarray(differences, float) - mean
    error = _standard_error(centred[None])[0]
    if not np.isfinite(mean):
        return PairedTest("bootstrap-t", mean, margin, math.nan, {})
    if error <= 1e-12 * max(abs(mean), np.finfo(float).tiny):  # rounding, no spread
        above = mean > margin and not math.isclose(mean, margin)
        p_value = 1 / (resamples + 1) if above and len(differences) > 1 else 1.0
        return PairedTest("bootstrap-t", mean, margin, p_value, {"standard_error": 0.0})
    drawn = []
    per_block = max(1, _BLOCK // len(centred))
    for start in range(0, resamples, per_block):
        count = min(per_block, resamples - start)
        sample = centred[rng.integers(len(centred), size=(count, len(centred)))]
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn.append(sample.mean(axis=1) / _standard_error(sample))
    exact = _sign_flips(differences - margin, resamples, rng)
    # A sample that repeats one row has no spread. It counts as extreme, which is conservative.
    ratios = np.nan_to_num(np.concatenate(drawn), nan=np.inf, posinf=np.inf, neginf=-np.inf)
    p_bootstrap = (1 + np.count_nonzero(ratios >= (mean - margin) / error)) / (resamples + 1)
    quantile = float(np.quantile(ratios, 1 - alpha, method="higher"))
    numbers = {
        "standard_error": float(error),
        "lower_bound": mean - quantile * float(error),
        "p_bootstrap": float(p_bootstrap),
        "p_sign_flip": exact,
    }
    p_value = max(float(p_bootstrap), exact)
    return PairedTest("bootstrap-t", mean, margin, p_value, numbers)


def bootstrap_statistic(
    improvement: Callable[[np.ndarray], float],
    rows: int,
    margin: float,
    *,
    alpha: float,
    resamples: int,
    rng: np.random.Generator,
    exchanged: Callable[[np.ndarray], float] | None = None,
) -> PairedTest:
    """Paired percentile bootstrap of any statistic, such as a difference of F1 scores.

    The p-value is the share of samples whose improvement is at most the margin: the level at
    which the percentile interval (Efron and Tibshirani 1993, section 13.3) would just contain
    it. First-order accurate: use hundreds of rows.

    With ``exchanged``, and a margin of 0, the p-value is the larger of this one and that of the
    randomization test (Noreen 1989, "Computer-intensive methods for testing hypotheses"; Yeh
    2000, "More accurate tests for the statistical significance of result differences"): it is
    exact at any size for two models that are interchangeable.

    Args:
        improvement: Maps row numbers, with repeats, to the challenger's score minus the
            champion's on these rows, larger being better.
        rows: Number of rows.
        margin: The value that the improvement has to exceed.
        alpha: Level of the reported lower bound.
        resamples: Number of samples drawn.
        rng: The source of randomness.
        exchanged: Maps a mask of shape ``[rows]`` to the `improvement` of all rows after the two
            models' predictions were exchanged where the mask is true.

    Returns:
        The test, with the one-sided lower bound of the improvement in `numbers`.
    """
    observed = float(improvement(np.arange(rows)))
    drawn = np.array([improvement(rng.integers(rows, size=rows)) for _ in range(resamples)], float)
    drawn = drawn[np.isfinite(drawn)]  # a sample may lack a class
    if not np.isfinite(observed) or not len(drawn):
        return PairedTest("bootstrap", observed, margin, math.nan, {})
    p_value = float((1 + np.count_nonzero(drawn <= margin)) / (len(drawn) + 1))
    numbers = {
        "standard_error": float(np.std(drawn)),
        "lower_bound": float(np.quantile(drawn, alpha, method="lower")),
        "undefined": float(resamples - len(drawn)),
    }
    if exchanged is not None and margin == 0:
        exact = _exchanges(exchanged, observed, rows, resamples, rng)
        numbers |= {"p_bootstrap": p_value, "p_randomization": exact}
        p_value = max(p_value, exact)
    return PairedTest("bootstrap", observed, margin, p_value, numbers)


def _exchanges(
    exchanged: Callable[[np.ndarray], float],
    observed: float,
    rows: int,
    resamples: int,
    rng: np.random.Generator,
) -> float:
    """P-value of a statistic if each row's predictions might as well be the other model's."""
    least, extreme = observed - 1e-9 * abs(observed), 0
    for _ in range(resamples):
        # NaN counts as extreme, which is conservative.
        extreme += not exchanged(rng.integers(2, size=rows).astype(bool)) < least
    return (1 + extreme) / (resamples + 1)


def _sign_flips(excess: np.ndarray, resamples: int, rng: np.random.Generator) -> float:
    """P-value of a sum if each row's sign might as well be the opposite one."""
    # Sums of the same rows in another order differ by rounding, which must not decide.
    least = float(np.sum(excess)) - 1e-9 * float(np.sum(np.abs(excess)))
    per_block, extreme = max(1, _BLOCK // len(excess)), 0
    for start in range(0, resamples, per_block):
        count = min(per_block, resamples - start)
        signs = 2 * rng.integers(2, size=(count, len(excess))) - 1
        extreme += int(np.count_nonzero(signs @ excess >= least))
    return (1 + extreme) / (resamples + 1)


def _standard_error(samples: np.ndarray) -> np.ndarray:
    """Standard error of the mean of each sample; samples have the shape ``[samples, rows]``."""
    rows = samples.shape[1]
    means = samples.mean(axis=1)
    squares = np.einsum("ij,ij->i", samples, samples) / rows - means**2
    return np.sqrt(np.maximum(squares, 0.0) / max(rows - 1, 1))
