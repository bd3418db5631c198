"""How well zero-cost proxies ranked the trials that finished."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import NamedTuple

from keras_nas_plugin.records.ranking import rank_key
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord

#: The rank correlation of fewer trials is mostly chance.
MIN_TRIALS = 4
#: Prefix of the metrics of the search's run, one per proxy.
RANKING = "proxy_ranking/"
#: Stored among a trial's proxies: its rank among the trials that had finished, 1 for the best, and
#: the rank that a model predicted before training.
OBSERVED, PREDICTED = "observed_rank", "predicted_rank"


class _Ranked(NamedTuple):
    score: float
    proxies: Mapping[str, float]


class Calibration:
    """Spearman's rank correlation of each proxy with the score, trial by trial.

    Args:
        search: The search, for its direction and constraints.
    """

    def __init__(self, search: SearchInfo) -> None:
        self._search = search
        self._trials: dict[str, _Ranked] = {}
        self._scores: list[float] = []  # of these trials, ascending

    def add(self, record: TrialRecord) -> float | None:
        """Add a trial that ended.

        Returns:
            Its rank among the trials added so far, 1 for the best, ties sharing the better rank;
            None for a trial without proxies, or one that is not ranked.
        """
        earlier = self._trials.pop(record.trial_id, None)
        if earlier is not None:
            del self._scores[bisect.bisect_left(self._scores, earlier.score)]
        key = rank_key(self._search, record)
        if not record.proxies or key is None:
            return None
        score = key.oriented_score
        better = len(self._scores) - bisect.bisect_right(self._scores, score)
        self._trials[record.trial_id] = _Ranked(score, record.proxies)
        bisect.insort(self._scores, score)
        return 1.0 + better

    def correlations(self) -> dict[str, float]:
        """Spearman's correlation by proxy; empty before there are four trials.

        A trial that lacks a proxy (its value was infinite) ranks last by it. Where all values
        of a proxy, or all scores, are equal, there is no correlation.
        """
        if len(self._trials) < MIN_TRIALS:
            return {}
        from scipy import stats

        trials = list(self._trials.values())
        scores = [trial.score for trial in trials]
        names = sorted(
            {name for trial in trials for name in trial.proxies} - {OBSERVED, PREDICTED}
        )
        correlations = {}
        for name in names:
            values = [trial.proxies.get(name, float("-inf")) for trial in trials]
            if len(set(values)) > 1 and len(set(scores)) > 1:
                correlations[name] = float(stats.spearmanr(values, scores).statistic)
        return correlations
