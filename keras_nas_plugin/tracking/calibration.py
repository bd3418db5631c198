"""How well scores without training have ranked the trials that finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord

# Fewer trials rank in any order by chance.
_FEWEST = 4
#: Metric of the search's run, per proxy.
RANKING = "proxy_ranking/"
#: Of a trial's proxies: its place among the trials that had finished, 1 for the best.
OBSERVED = "observed_rank"
_PLACES = (OBSERVED, "predicted_rank")


class _Ranked(NamedTuple):
    score: float
    proxies: Mapping[str, float]


class Calibration:
    """Spearman's rank correlation of each proxy with the score, trial by trial.

    Args:
        search: Says which scores are better, and which trials are ranked.
    """

    def __init__(self, search: SearchInfo) -> None:
        self._search = search
        self._known: dict[str, _Ranked] = {}

    def add(self, record: TrialRecord) -> float | None:
        """Enter a trial that ended.

        Returns:
            Its place among those entered, 1 for the best, equal ones sharing the first; None
            for a trial without proxies, or one that is not ranked.
        """
        self._known.pop(record.trial_id, None)
        standing = self._search.standing(record)
        if not record.proxies or standing is None or record.score is None:
            return None
        # Of a standing, what is smaller is better.
        score = -float(standing[-1])
        better = sum(one.score > score for one in self._known.values())
        self._known[record.trial_id] = _Ranked(score, record.proxies)
        return 1.0 + better

    def correlations(self) -> dict[str, float]:
        """Spearman's correlation by proxy; empty before there are four trials.

        A trial that lacks a proxy (it was infinite) counts as the worst by it. A proxy, or
        scores, that are all equal have no correlation.
        """
        if len(self._known) < _FEWEST:
            return {}
        from scipy import stats

        ranked = list(self._known.values())
        scores = [one.score for one in ranked]
        names = sorted({name for one in ranked for name in one.proxies} - set(_PLACES))
        found = {}
        for name in names:
            values = [one.proxies.get(name, float("-inf")) for one in ranked]
            if len(set(values)) > 1 and len(set(scores)) > 1:
                found[name] = float(stats.spearmanr(values, scores).statistic)
        return found
