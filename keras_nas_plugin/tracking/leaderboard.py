"""The standing of a search, kept up trial by trial."""

from __future__ import annotations

import bisect
from collections import Counter
from typing import NamedTuple

from keras_nas_plugin.tracking.records import FAILED, FINISHED, KILLED, SearchInfo, TrialRecord

TOP = 10
LAST_FAILURES = 5
COST = "parameters"  # what scores are set against


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
        self._causes: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        self.top: list[TrialRecord] = []
        #: Ranked trials with no other that has fewer parameters and is no worse, smallest first.
        self.frontier: list[TrialRecord] = []
        self.failures: list[TrialRecord] = []

    @property
    def best(self) -> TrialRecord | None:
        """The finished trial with the best score; the earlier one of equals."""
        return self.top[0] if self.top else None

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status."""
        return {status: self._counts[status] for status in (FINISHED, FAILED, KILLED)}

    @property
    def causes(self) -> list[tuple[str, int]]:
        """Kinds of failures, by how often they were the cause, most often first."""
        return Counter(self._causes.values()).most_common()

    @property
    def seconds(self) -> float:
        """What all trials took together."""
        return sum(self._seconds.values())

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._statuses

    def add(self, record: TrialRecord) -> Progress | None:
        """Enter a trial that ended, in place of an earlier attempt at the same trial.

        Returns:
            The best score so far, or None while there is none, and for a trial that did not
            finish: it changes nothing, and may be trained again in the same place.
        """
        self._forget(record.trial_id)
        self._statuses[record.trial_id] = record.status
        self._counts[record.status] += 1
        self._seconds[record.trial_id] = record.seconds
        if record.status == FAILED:
            self.failures = [*self.failures, record][-LAST_FAILURES:]
            self._causes[record.trial_id] = (record.error or "no cause given").partition(":")[0]
        if self._search.standing(record) is not None:
            bisect.insort_right(self.top, record, key=self._search.standing)
            del self.top[TOP:]
            self._enter_frontier(record)
        if record.status == KILLED:
            return None
        self._ended += 1
        if record.status == FAILED or self.best is None:
            return None
        return Progress(self._ended, self.best.score, record.ended_ms)

    def _enter_frontier(self, record: TrialRecord) -> None:
        if COST not in record.costs:
            return

        def covers(one: TrialRecord, other: TrialRecord) -> bool:
            better = self._search.standing(one) <= self._search.standing(other)
            return better and one.costs[COST] <= other.costs[COST]

        if not any(covers(one, record) for one in self.frontier):
            kept = [one for one in self.frontier if not covers(record, one)]
            self.frontier = sorted([*kept, record], key=lambda one: one.costs[COST])

    def _forget(self, trial_id: str) -> None:
        status = self._statuses.pop(trial_id, None)
        if status is None:
            return
        self._counts[status] -= 1
        self._ended -= status != KILLED
        self.top = [record for record in self.top if record.trial_id != trial_id]
        self.failures = [record for record in self.failures if record.trial_id != trial_id]
        self.frontier = [record for record in self.frontier if record.trial_id != trial_id]
        self._causes.pop(trial_id, None)
