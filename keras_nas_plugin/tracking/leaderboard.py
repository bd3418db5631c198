"""The standing of a search, kept up trial by trial."""

from __future__ import annotations

import bisect
from collections import Counter
from typing import NamedTuple

from keras_nas_plugin.tracking.records import FAILED, FINISHED, KILLED, SearchInfo, TrialRecord

TOP = 10
LAST_FAILURES = 5


class Progress(NamedTuple):
    """The best score once ``step`` trials had ended."""

    step: int
    score: float
    time_ms: int


class Leaderboard:
    """Best trials, counts by status and the last failures.

    Adding a trial costs the same after ten trials and after ten thousand: only the
    `TOP` best and `LAST_FAILURES` failed records are kept.

    Args:
        search: Says which scores are better, and which trials are ranked at all.
    """

    def __init__(self, search: SearchInfo) -> None:
        self._search = search
        self._statuses: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._ended = 0
        self.top: list[TrialRecord] = []
        self.failures: list[TrialRecord] = []

    @property
    def best(self) -> TrialRecord | None:
        """The finished trial with the best score; the earlier one of equals."""
        return self.top[0] if self.top else None

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status."""
        return {status: self._counts[status] for status in (FINISHED, FAILED, KILLED)}

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._statuses

    def add(self, record: TrialRecord) -> Progress | None:
        """Enter a trial that ended, in place of an earlier attempt at the same trial.

        Returns:
            The best score so far, or None while there is none or when the trial did not
            come to an end of its own.
        """
        self._forget(record.trial_id)
        self._statuses[record.trial_id] = record.status
        self._counts[record.status] += 1
        if record.status == FAILED:
            self.failures = [*self.failures, record][-LAST_FAILURES:]
        if self._search.standing(record) is not None:
            bisect.insort_right(self.top, record, key=self._search.standing)
            del self.top[TOP:]
        if record.status == KILLED:
            return None
        self._ended += 1
        if self.best is None:
            return None
        return Progress(self._ended, self.best.score, record.ended_ms)

    def _forget(self, trial_id: str) -> None:
        status = self._statuses.pop(trial_id, None)
        if status is None:
            return
        self._counts[status] -= 1
        self._ended -= status != KILLED
        self.top = [record for record in self.top if record.trial_id != trial_id]
        self.failures = [record for record in self.failures if record.trial_id != trial_id]
