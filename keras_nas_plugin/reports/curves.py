"""The best score so far, and the expected best score of random search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.records.ranking import rank_key
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import KILLED, TrialRecord
from keras_nas_plugin.tracking.summary.leaderboard import Leaderboard

#: Minimum number of random trials for a reference.
MIN_TRIALS = 5
# Random search of this package and of KerasTuner.
_RANDOM_ORACLES = ("RandomOracle", "RandomSearchOracle")
# Maximum number of points in a curve; bootstrap samples; the interval in percent.
_POINTS, _SAMPLES, _INTERVAL = 100, 1000, (5.0, 95.0)
# Limits the memory of the bootstrap: samples times trials.
_MAX_RESAMPLED_SCORES = 400_000


def best_so_far(search: SearchInfo, records: Sequence[TrialRecord]) -> list[float | None]:
    """The best score after each trial; None before the first score and for unfinished trials.

    Args:
        search: The search, for its direction and constraints.
        records: Trials in the order in which they ended.
    """
    board = Leaderboard(search)
    steps = (board.add(record) for record in records)
    return [None if step is None else step.score for step in steps]


def expected_best(scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
    r"""Expected maximum of ``n`` scores drawn without replacement, exactly.

    The k-th smallest of m scores is the maximum in
    :math:`\binom{k-1}{n-1}` of :math:`\binom{m}{n}` draws.

    Source: Tang et al. 2020, "Showing Your Work Doesn't Always Work" (unbiased; the
    estimator of Dodge et al. 2019 draws with replacement and is biased downwards).

    Args:
        scores: Shape ``[..., m]``.
        draws: Numbers of draws, shape ``[k]``, each from 1 to m.

    Returns:
        Shape ``[..., k]``.

    >>> expected_best(np.array([1.0, 2.0, 6.0]), np.array([1, 2, 3])).round(6).tolist()
    [3.0, 4.666667, 6.0]
    """
    from scipy.special import gammaln

    count = scores.shape[-1]
    k, n = np.arange(1, count + 1)[None, :], np.asarray(draws)[:, None]
    possible = k >= n
    top = np.where(possible, k, n)
    log_favourable = gammaln(top) - gammaln(n) - gammaln(top - n + 1)
    log_all = gammaln(count + 1) - gammaln(n + 1) - gammaln(count - n + 1)
    weights = np.where(possible, np.exp(log_favourable - log_all), 0.0)
    return np.sort(scores, axis=-1) @ weights.T


def random_reference(
    search: SearchInfo, records: Sequence[TrialRecord], *, seed: int = 0
) -> dict[str, Any]:
    """The expected best score of random search after n trials, from the search's random trials.

    Random trials are all trials of a random search; in a search whose trials have parents they
    are those without parents, which form its initial population. A random trial that failed or
    violated a constraint counts as the worst. The band contains the middle 90 % of bootstrap
    samples of the random trials; it never exceeds the best of them.

    Args:
        search: The search, for its strategy, direction and constraints.
        records: Trials that ended.
        seed: Seed of the bootstrap.

    Returns:
        As JSON types: ``trials`` (the number of random trials), ``n``, ``expected``, ``low``
        and ``high``; or a ``note`` that says why there is no reference.
    """
    random_trials, note = _random_trials(search, records)
    keys = (rank_key(search, record) for record in random_trials)
    ranked_scores = [key.oriented_score for key in keys if key is not None]
    failed = len(random_trials) - len(ranked_scores)
    account: dict[str, Any] = {"trials": len(random_trials), "failed": failed}
    if note is None and len(ranked_scores) < MIN_TRIALS:
        note = f"fewer than {MIN_TRIALS} random trials finished ({len(ranked_scores)})"
    if note is not None:
        return {**account, "note": f"No reference for random search: {note}."}
    scores = np.array(ranked_scores + [min(ranked_scores)] * failed)
    draws = np.unique(np.geomspace(1, len(scores), _POINTS).round().astype(int))
    rng = np.random.default_rng(seed)
    samples = max(200, min(_SAMPLES, _MAX_RESAMPLED_SCORES // len(scores)))
    resampled = rng.choice(scores, (samples, len(scores)))
    bounds = np.percentile(expected_best(resampled, draws), _INTERVAL, axis=0)
    sign = 1.0 if search.direction == "max" else -1.0
    low, high = bounds if sign > 0 else bounds[::-1]
    return {
        **account,
        "note": None,
        "n": draws.tolist(),
        "expected": (sign * expected_best(scores, draws)).tolist(),
        "low": (sign * low).tolist(),
        "high": (sign * high).tolist(),
    }


def _random_trials(
    search: SearchInfo, records: Sequence[TrialRecord]
) -> tuple[list[TrialRecord], str | None]:
    """The trials whose values were sampled at random, or why they are unknown."""
    ended = [record for record in records if record.status != KILLED]
    if len({record.length for record in ended}) > 1:
        return [], "trials were trained for different numbers of epochs"
    if search.strategy in _RANDOM_ORACLES:
        return ended, None
    if not any(record.parents for record in ended):
        return [], "the records do not say which trials were sampled at random"
    return [record for record in ended if not record.parents], None
