"""The acquisition function and its maximisation over a search space."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_nas_plugin.space.encoding import Encoding
from keras_nas_plugin.strategies.candidates import mutate, neighbours, rows_of

#: Scores rows of codes, shape ``[n, columns]``, as an array of shape ``[n]``.
Acquisition = Callable[[np.ndarray], np.ndarray]

# Number of candidates of each kind, and size of the local search from the best of them.
_FRESH = 256
_TWICE_EDITED = 100
_PARENTS = 10
_EDITED = 5
_STARTS = 5
_ROUNDS = 4
# Values that agree to this many decimals are ties, and the earlier candidate wins: numerical
# libraries on different machines may differ in the last bits.
_DECIMALS = 9


def upper_confidence_bound(mean: np.ndarray, deviation: np.ndarray, kappa: float) -> np.ndarray:
    """An optimistic estimate of the score: the mean plus ``kappa`` standard deviations.

    Source: Cox & John 1997; Srinivas et al. 2010, "Gaussian Process Optimization in the
    Bandit Setting", equation 6, with a constant factor.

    Args:
        mean: Shape ``[n]``.
        deviation: Shape ``[n]``, at least 0.
        kappa: Number of standard deviations; 0 is pure exploitation.

    >>> upper_confidence_bound(np.array([0.5]), np.array([0.25]), 2.0).tolist()
    [1.0]
    """
    return mean + kappa * deviation


def candidates(
    encoding: Encoding, ranked: np.ndarray, acquisition: Acquisition, rng: np.random.Generator
) -> np.ndarray:
    """Distinct configurations, the most promising first.

    Fresh samples, all neighbours of the best observed configurations and two-edit mutations
    of good ones are scored; a local search continues from the best of these.

    Source: Hutter, Hoos & Leyton-Brown 2011, "Sequential Model-Based Optimization for
    General Algorithm Configuration", section 4.3; two-edit mutations as in White et al.
    2021, "BANANAS".

    Args:
        encoding: Encoding of the space.
        ranked: Observed configurations, the best first, shape ``[n, columns]``, n >= 1.
        acquisition: The function to maximise.
        rng: Source of randomness.

    Returns:
        Codes, shape ``[m, columns]``.
    """
    parents = ranked[rng.integers(min(len(ranked), _PARENTS), size=_TWICE_EDITED)]
    pool = np.concatenate(
        [
            encoding.sample(_FRESH, rng),
            neighbours(encoding, ranked[:_EDITED], rng),
            mutate(encoding, mutate(encoding, parents, rng), rng),
        ]
    )
    pool, values = best_first(pool, acquisition(pool))
    for _ in range(_ROUNDS):
        near = neighbours(encoding, pool[:_STARTS], rng)
        combined = np.concatenate([pool, near])
        pool, values = best_first(combined, np.concatenate([values, acquisition(near)]))
    return pool


def best_first(codes: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unique rows in descending order of their values; ties keep their order.

    Args:
        codes: Shape ``[n, columns]``.
        values: Shape ``[n]``.

    >>> rows, values = best_first(np.array([[1.0], [2.0], [1.0]]), np.array([0.5, 0.7, 0.5]))
    >>> rows.tolist(), values.tolist()
    ([[2.0], [1.0]], [0.7, 0.5])
    """
    # Backwards, so that the first of equal rows remains.
    keys = rows_of(codes)
    first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
    indices = np.sort(np.fromiter(first.values(), np.intp, len(first)))
    rounded = np.round(values[indices], _DECIMALS)
    indices = indices[np.argsort(-rounded, kind="stable")]
    return codes[indices], np.round(values[indices], _DECIMALS)
