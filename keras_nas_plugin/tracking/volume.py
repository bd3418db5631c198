"""How much of the objectives' space the trials of a search dominate, trial by trial."""

from __future__ import annotations

import json
import math

import numpy as np

from keras_nas_plugin.strategies.pareto import hypervolume, non_dominated
from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord

_FIRST = 10


class Volume:
    """The hypervolume of a search for several objectives.

    Measured from the worst value of each objective among the first ten ranked trials, which
    stays where it is, so that the curve never falls: what is worse than that adds nothing.
    Before these there is no value.

    Source: Zitzler & Thiele 1998, "Multiobjective Optimization Using Evolutionary Algorithms".

    Args:
        search: Says which objectives there are; with fewer than two, nothing is measured.
    """

    #: Metric of the search's run, and the tag that says what it is measured from.
    metric, reference_tag = "hypervolume", "nas.hypervolume_reference"

    def __init__(self, search: SearchInfo) -> None:
        self._search = search
        self._signs = np.array([1.0 if way == "max" else -1.0 for _, way in search.objectives])
        self._seen: set[str] = set()
        self._front = np.zeros((0, len(self._signs)))
        self._first: list[np.ndarray] = []
        #: The reference in the objectives' own units; None before it is known.
        self.reference: np.ndarray | None = None

    def add(self, record: TrialRecord) -> float | None:
        """Enter a trial that ended.

        Returns:
            The hypervolume by now; None where there is none yet.
        """
        scores = self._scores(record)
        if scores is not None and record.trial_id not in self._seen:
            self._seen.add(record.trial_id)
            joined = np.vstack([self._front, scores])
            self._front = joined[non_dominated(joined)]
            if len(self._first) < _FIRST:
                self._first.append(scores)
        if self.reference is None and len(self._first) == _FIRST:
            self.reference = np.min(self._first, axis=0) * self._signs
        if self.reference is None:
            return None
        return hypervolume(self._front, self.reference * self._signs)

    def tag(self) -> str | None:
        """The reference as JSON by objective; None before it is known."""
        if self.reference is None:
            return None
        names = [name for name, _ in self._search.objectives]
        return json.dumps(dict(zip(names, self.reference.tolist(), strict=True)))

    def _scores(self, record: TrialRecord) -> np.ndarray | None:
        """Oriented values of the objectives, of a trial that counts."""
        if len(self._signs) < 2 or self._search.standing(record) is None:
            return None
        known = {**record.costs, **record.metrics}
        values = [known.get(name, math.nan) for name, _ in self._search.objectives]
        return np.array(values) * self._signs if np.isfinite(values).all() else None
