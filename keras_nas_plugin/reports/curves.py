"""The best score so far, and what random search would have had by then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.tracking.leaderboard import Leaderboard
from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord

#: Fewer random trials say nothing about random search.
FEWEST = 5
# Ours, and KerasTuner's own.
_RANDOM = ("RandomOracle", "RandomSearchOracle")
# Points of a curve, at most; bootstrap samples; the interval in percent.
_POINTS, _SAMPLES, _INTERVAL = 100, 1000, (5.0, 95.0)
# Numbers that a table of samples may have, whatever the count of trials.
_CELLS = 400_000


def best_so_far(search: SearchInfo, records: Sequence[TrialRecord]) -> list[float | None]:
    """The best score once each trial had ended; None where there is none, or it was killed.

    Args:
        search: Says which scores are better.
        records: In the order in which they ended.
    """
    board = Leaderboard(search)
    progress = (board.add(record) for record in records)
    return [None if one is None else one.score for one in progress]


def expected_best(scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
    r"""Mean of the largest of ``n`` scores drawn without replacement, exactly.

    The k-th smallest of m scores is the largest of the draw in
    :math:`\binom{k-1}{n-1}` of :math:`\binom{m}{n}` cases.

    Source: Tang et al. 2020, "Showing Your Work Doesn't Always Work" (unbiased; the
    estimator of Dodge et al. 2019 draws with replacement, and is too small).

    Args:
        scores: Shape ``[..., m]``.
        draws: How many are drawn, shape ``[k]``, each from 1 to m.

    Returns:
        Shape ``[..., k]``.

    >>> expected_best(np.array([1.0, 2.0, 6.0]), np.array([1, 2, 3])).round(6).tolist()
    [3.0, 4.666667, 6.0]
    """
    from scipy.special import gammaln

    count = scores.shape[-1]
    k, n = np.arange(1, count + 1)[None, :], np.asarray(draws)[:, None]
    possible = k >= n
    top, chosen = np.where(possible, k, n), n
    log_ways = gammaln(top) - gammaln(chosen) - gammaln(top - chosen + 1)
    log_all = gammaln(count + 1) - gammaln(chosen + 1) - gammaln(count - chosen + 1)
    weights = np.where(possible, np.exp(log_ways - log_all), 0.0)
    return np.sort(scores, axis=-1) @ weights.T


def random_reference(
    search: SearchInfo, records: Sequence[TrialRecord], *, seed: int = 0
) -> dict[str, Any]:
    """What random search has after n trials, as far as random trials of this search say.

    Random trials are all of a random search, else those without parents in a search whose
    other trials have parents: its initial population. A random trial that failed, or broke a
    constraint, counts as the worst of them. The band is the middle nine tenths of bootstrap
    samples of the random trials; it knows nothing better than their best.

    Args:
        search: Says which scores are better.
        records: Ended trials.
        seed: Of the bootstrap.

    Returns:
        JSON-able: ``trials`` (how many it rests on), ``n``, ``expected``, ``low`` and
        ``high``; or a ``note`` that says why there is no reference.
    """
    drawn, note = _random_trials(search, records)
    standings = [search.standing(record) for record in drawn]
    ranked = [-standing[1] for standing in standings if standing is not None]
    account: dict[str, Any] = {"trials": len(drawn), "failed": len(drawn) - len(ranked)}
    if note is None and len(ranked) < FEWEST:
        note = f"fewer than {FEWEST} random trials finished ({len(ranked)})"
    if note is not None:
        return {**account, "note": f"No reference for random search: {note}."}
    scores = np.array(ranked + [min(ranked)] * account["failed"])
    draws = np.unique(np.geomspace(1, len(scores), _POINTS).round().astype(int))
    rng = np.random.default_rng(seed)
    samples = max(200, min(_SAMPLES, _CELLS // len(scores)))
    resampled = rng.choice(scores, (samples, len(scores)))
    ends = np.percentile(expected_best(resampled, draws), _INTERVAL, axis=0)
    sign = 1.0 if search.direction == "max" else -1.0
    low, high = ends if sign > 0 else ends[::-1]
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
    """The trials whose values were drawn at random, or why they are not known."""
    ended = [record for record in records if record.status != "KILLED"]
    if len({record.length for record in ended}) > 1:
        return [], "trials were trained for different numbers of epochs"
    if search.strategy in _RANDOM:
        return ended, None
    if not any(record.parents for record in ended):
        return [], "the records do not say which trials were drawn at random"
    return [record for record in ended if not record.parents], None
