"""How well scores without training ranked what was then trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.tracking.calibration import OBSERVED, Calibration
from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord

#: Fewer trials rank in any order by chance.
FEWEST = 4
PREDICTED = "predicted_rank"
_SAMPLES, _INTERVAL = 1000, (2.5, 97.5)


def calibration(
    search: SearchInfo, records: Sequence[TrialRecord], *, seed: int = 0
) -> dict[str, Any]:
    """Spearman's correlation of each proxy with the score, and the ranks behind it.

    As in `tracking.calibration`, a trial that lacks a proxy counts as the worst by it. The
    interval is the middle 95% of bootstrap samples of the trials. Where a model predicted
    each trial's place before it was trained, these places stand beside the places it had
    among the trials that had finished by then.

    Args:
        search: Says which scores are better.
        records: In the order in which they ended.
        seed: Of the bootstrap.

    Returns:
        JSON-able: ``trial_ids`` and the rank ``observed`` of each; ``proxies`` from the best
        correlation to the worst, each with the ranks that it ``predicted``; ``places``; and a
        ``note`` or None. Rank 1 is the best.
    """
    ranked = [(one, search.standing(one)) for one in records if one.proxies]
    known = [(one, -standing[1]) for one, standing in ranked if standing is not None]
    if len(known) < FEWEST:
        note = f"No proxies to judge: {len(known)} finished trials have any."
        return {"trials": len(known), "proxies": [], "places": [], "note": note}
    scores = np.array([score for _, score in known])
    names = sorted({n for one, _ in known for n in one.proxies} - {OBSERVED, PREDICTED})
    found = []
    for name in names:
        values = np.array([one.proxies.get(name, -np.inf) for one, _ in known])
        if np.ptp(scores) == 0 or len(set(values.tolist())) < 2:
            continue
        low, high = _interval(values, scores, seed)
        found.append(
            {
                "name": name,
                "spearman": _spearman(values[None], scores[None])[0].item(),
                "low": low,
                "high": high,
                "predicted": _ranks(values).tolist(),
            }
        )
    return {
        "trials": len(known),
        "trial_ids": [one.trial_id for one, _ in known],
        "observed": _ranks(scores).tolist(),
        "proxies": sorted(found, key=lambda one: -one["spearman"]),
        "places": _places(search, [one for one, _ in known]),
        "note": None if found else "The proxies, or the scores, are all equal.",
    }


def _ranks(values: np.ndarray) -> np.ndarray:
    """1 for the largest, equal ones their mean; along the last axis."""
    from scipy.stats import rankdata

    return rankdata(-values, axis=-1)


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rank correlations of rows, shape ``[b]``; NaN where a row is all equal."""
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    lengths = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), lengths, out=np.full(len(a), np.nan), where=lengths > 0)


def _interval(values: np.ndarray, scores: np.ndarray, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(scores), size=(_SAMPLES, len(scores)))
    low, high = np.nanpercentile(_spearman(values[drawn], scores[drawn]), _INTERVAL)
    return float(low), float(high)


def _places(search: SearchInfo, records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Predicted and observed places at the time of each trial."""
    board = Calibration(search)
    places = []
    for record in records:
        observed = board.add(record)
        predicted = record.proxies.get(PREDICTED)
        if predicted is not None and observed is not None:
            places.append(
                {"trial_id": record.trial_id, "predicted": predicted, "observed": observed}
            )
    return places
