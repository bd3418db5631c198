"""Bookkeeping of trials: tried configurations, order of ends, number of runs and ranking."""

from __future__ import annotations

import bisect
import collections
import math
from collections.abc import Iterator


class Ledger:
    """Configurations, ends, runs, parents and ranking of the trials of a search.

    The cost per trial does not depend on the number of trials.
    """

    def __init__(self) -> None:
        #: Number of runs of each trial.
        self.runs: collections.Counter[str] = collections.Counter()
        #: Parents of each trial: the trials from which it was derived by mutation or crossover.
        self.parents: dict[str, tuple[str, ...]] = {}
        self._end_index: dict[str, int] = {}
        self._ranking: list[tuple[int, float, int, str]] = []
        self._keys: dict[str, str] = {}
        self._tried: collections.Counter[str] = collections.Counter()
        self._next_index = 0

    def clear(self) -> None:
        """Forget configurations and ranking; the order of ends, runs and parents stay."""
        self._ranking.clear()
        self._keys.clear()
        self._tried.clear()

    def reopen(self, trial_id: str) -> None:
        """Record that a trial which has failed will be run again from its first run."""
        self._end_index.pop(trial_id, None)
        self.runs[trial_id] = 0

    @property
    def ends(self) -> int:
        """Number of ends so far: an upper bound of the indices in the order of ends."""
        return self._next_index

    def record_key(self, trial_id: str, key: str) -> None:
        """Record the configuration of a trial; a new key replaces the previous one.

        Args:
            trial_id: Id of the trial, or of a rejected candidate.
            key: Key of its configuration: see `SearchSpec.key`.
        """
        previous = self._keys.get(trial_id)
        if previous == key:
            return
        if previous is not None:
            self._tried[previous] -= 1
        self._keys[trial_id] = key
        self._tried[key] += 1

    def key(self, trial_id: str) -> str:
        """Key of the configuration of a trial."""
        return self._keys[trial_id]

    def tried(self, key: str) -> bool:
        """Whether a trial has this configuration."""
        return self._tried[key] > 0 if key in self._tried else False

    def end(self, trial_id: str, score: float | None, *, maximise: bool, epochs: int = 0) -> int:
        """Record that a trial ended; recording it twice has no effect.

        Args:
            trial_id: Id of the trial.
            score: Score of the trial; None if it failed.
            maximise: Whether larger scores are better.
            epochs: Number of epochs in a multi-fidelity search: any trial ranks before all
                trials with fewer epochs. 0 in other searches.

        Returns:
            Index of the trial in the order of ends, from 0.
        """
        index = self._end_index.setdefault(trial_id, self._next_index)
        self._next_index = max(self._next_index, index + 1)
        if score is not None and math.isfinite(score):
            entry = (-epochs, -score if maximise else score, index, trial_id)
            position = bisect.bisect_left(self._ranking, entry)
            if self._ranking[position : position + 1] != [entry]:
                self._ranking.insert(position, entry)
        return index

    def restore_end(self, trial_id: str, index: int) -> None:
        """Record the saved position of a trial in the order of ends."""
        self._end_index[trial_id] = index
        self._next_index = max(self._next_index, index + 1)

    def ended(self, trial_id: str) -> int | None:
        """Index of a trial in the order of ends; None while it runs."""
        return self._end_index.get(trial_id)

    def best(self, count: int | None = None) -> Iterator[str]:
        """Ids of the ``count`` best trials, best first; equal scores in the order of ends.

        Args:
            count: Maximum number of ids; None for all.
        """
        return (trial_id for *_, trial_id in self._ranking[:count])
