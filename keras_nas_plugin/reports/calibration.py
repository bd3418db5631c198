"""Calibration of zero-cost proxies: how well they ranked the trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.records.ranking import rank_key
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.tracking.summary.proxy_calibration import (
    MIN_TRIALS,
    OBSERVED,
    PREDICTED,
    Calibration,
)

_SAMPLES, _INTERVAL = 1000, (2.5, 97.5)


def calibration(
    search: SearchInfo, records: Sequence[TrialRecord], *, seed: int = 0
) -> dict[str, Any]:
    """Spearman's correlation of each proxy with the score, and the ranks behind it.

    As in `tracking.summary.proxy_calibration`, a trial without a value of a proxy counts as the
    worst by that proxy.
    The interval contains the middle 95 % of bootstrap samples of the trials. If a model predicted
    the rank of each trial before training, the predictions are compared with the ranks among the
    trials that had finished by then.

    Args:
        search: The search, for its direction and constraints.
        records: Trials in the order in which they ended.
        seed: Seed of the bootstrap.

    Returns:
        As JSON types: ``trial_ids`` and the rank ``observed`` of each; ``proxies`` from the best
        correlation to the worst, each with the ranks that it ``predicted``; ``places``; and a
        ``note`` or None. Rank 1 is the best.
    """
    keys = [(record, rank_key(search, record)) for record in records if record.proxies]
    scored = [(record, key.oriented_score) for record, key in keys if key is not None]
    trials = [record for record, _ in scored]
    if len(trials) < MIN_TRIALS:
        note = f"Calibration requires {MIN_TRIALS} finished trials with proxies; there are "
        note += f"{len(trials)}."
        return {"trials": len(trials), "proxies": [], "places": [], "note": note}
    scores = np.array([score for _, score in scored])
    names = sorted({name for record in trials for name in record.proxies} - {OBSERVED, PREDICTED})
    proxies: list[dict[str, Any]] = []
    for name in names:
        values = np.array([record.proxies.get(name, -np.inf) for record in trials])
        if np.ptp(scores) == 0 or len(set(values.tolist())) < 2:
            continue
        low, high = _interval(values, scores, seed)
        proxies.append(
            {
                "name": name,
                "spearman": _spearman(values[None], scores[None])[0].item(),
                "low": low,
                "high": high,
                "predicted": _ranks(values).tolist(),
            }
        )
    return {
        "trials": len(trials),
        "trial_ids": [record.trial_id for record in trials],
        "observed": _ranks(scores).tolist(),
        "proxies": sorted(proxies, key=lambda proxy: -proxy["spearman"]),
        "places": _predicted_places(search, trials),
        "note": None if proxies else "All values of the proxies, or all scores, are equal.",
    }


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis: 1 for the largest value, the mean rank for equal values."""
    from scipy.stats import rankdata

    return rankdata(-values, axis=-1)


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rank correlations of rows, shape ``[b]``; NaN for a row of equal values."""
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    lengths = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), lengths, out=np.full(len(a), np.nan), where=lengths > 0)


def _interval(values: np.ndarray, scores: np.ndarray, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    samples = rng.integers(len(scores), size=(_SAMPLES, len(scores)))
    low, high = np.nanpercentile(_spearman(values[samples], scores[samples]), _INTERVAL)
    return float(low), float(high)


def _predicted_places(search: SearchInfo, records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Predicted and observed rank among the trials that had finished, for each trial."""
    finished = Calibration(search)
    places: list[dict[str, Any]] = []
    for record in records:
        observed = finished.add(record)
        predicted = record.proxies.get(PREDICTED)
        if predicted is not None and observed is not None:
            places.append(
                {"trial_id": record.trial_id, "predicted": predicted, "observed": observed}
            )
    return places
