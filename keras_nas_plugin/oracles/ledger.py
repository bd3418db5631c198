"""Which trials ended, in which order, how often each ran, and which is best."""

from __future__ import annotations

import bisect
import collections
import math
from collections.abc import Iterator


class Ledger:
    """Bookkeeping whose cost per trial does not grow with their number."""

    def __init__(self) -> None:
        self.runs: collections.Counter[str] = collections.Counter()
        #: The trials that each was bred from.
        self.parents: dict[str, tuple[str, ...]] = {}
        self._ended: dict[str, int] = {}
        self._ranking: list[tuple[int, float, int, str]] = []
        self._keys: dict[str, str] = {}
        self._tried: collections.Counter[str] = collections.Counter()

    def record_key(self, trial_id: str, key: str) -> None:
        """Remember the configuration of a trial; a later key replaces the earlier one."""
        old = self._keys.get(trial_id)
        if old == key:
            return
        if old is not None:
            self._tried[old] -= 1
        self._keys[trial_id] = key
        self._tried[key] += 1

    def key(self, trial_id: str) -> str:
        """The configuration of a trial."""
        return self._keys[trial_id]

    def tried(self, key: str) -> bool:
        """Whether some trial has this configuration."""
        return self._tried[key] > 0 if key in self._tried else False

    def end(self, trial_id: str, score: float | None, *, maximise: bool, length: int = 0) -> int:
        """Note that a trial ended.

        Args:
            trial_id: The trial.
            score: Its score, or None when it failed.
            maximise: Whether larger scores are better.
            length: Epochs that it was trained for, where that differs: scores of a longer
                training rank before all of a shorter one.

        Returns:
            Its place in the order of ends, from 0.
        """
        place = self._ended.setdefault(trial_id, len(self._ended))
        if score is not None and math.isfinite(score):
            rank = (-length, -score if maximise else score, place, trial_id)
            at = bisect.bisect_left(self._ranking, rank)
            if self._ranking[at : at + 1] != [rank]:
                self._ranking.insert(at, rank)
        return place

    def ended(self, trial_id: str) -> int | None:
        """Place of a trial in the order of ends; None while it runs."""
        return self._ended.get(trial_id)

    def best(self, count: int | None = None) -> Iterator[str]:
        """Ids of the ``count`` best trials, or all; equal scores in the order of their ends."""
        return (trial_id for *_, trial_id in self._ranking[:count])
