"""The hypervolume that the trials of a search dominate, trial by trial."""

from __future__ import annotations

import json
import math

import numpy as np

from keras_nas_plugin.pareto import hypervolume, non_dominated
from keras_nas_plugin.records.ranking import rank_key
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord

_REFERENCE_TRIALS = 10


class Hypervolume:
    """The hypervolume of a search for several objectives.

    The reference point is the worst value of each objective among the first ten ranked trials.
    It never changes, so the curve never falls; trials beyond it add nothing. Before the tenth
    ranked trial there is no value.

    Source: Zitzler & Thiele 1998, "Multiobjective Optimization Using Evolutionary Algorithms".

    Args:
        search: The search, with at least two objectives; otherwise nothing is measured.

    Attributes:
        reference: The reference point in the objectives' own units; None before it is known.
    """

    #: Metric of the search's run, and the tag with its reference point.
    metric, reference_tag = "hypervolume", "nas.hypervolume_reference"

    def __init__(self, search: SearchInfo) -> None:
        self._search = search
        directions = search.directions.values()
        self._signs = np.array([1.0 if direction == "max" else -1.0 for direction in directions])
        self._seen: set[str] = set()
        self._front = np.zeros((0, len(self._signs)))
        self._first: list[np.ndarray] = []
        self.reference: np.ndarray | None = None

    def add(self, record: TrialRecord) -> float | None:
        """Add a trial that ended.

        Returns:
            The hypervolume after it; None while there is none.
        """
        scores = self._scores(record)
        if scores is not None and record.trial_id not in self._seen:
            self._seen.add(record.trial_id)
            joined = np.vstack([self._front, scores])
            self._front = joined[non_dominated(joined)]
            if len(self._first) < _REFERENCE_TRIALS:
                self._first.append(scores)
        if self.reference is None and len(self._first) == _REFERENCE_TRIALS:
            self.reference = np.min(self._first, axis=0) * self._signs
        if self.reference is None:
            return None
        return hypervolume(self._front, self.reference * self._signs)

    def tag(self) -> str | None:
        """The reference point as JSON, by objective; None before it is known."""
        if self.reference is None:
            return None
        names = self._search.directions
        return json.dumps(dict(zip(names, self.reference.tolist(), strict=True)))

    def _scores(self, record: TrialRecord) -> np.ndarray | None:
        """The objectives of a ranked trial, oriented so that more is better."""
        if len(self._signs) < 2 or rank_key(self._search, record) is None:
            return None
        measurements = record.measurements
        values = [measurements.get(name, math.nan) for name in self._search.directions]
        return np.array(values) * self._signs if np.isfinite(values).all() else None
