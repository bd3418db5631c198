"""The best trials of a search, updated trial by trial."""

from __future__ import annotations

import bisect
from collections import Counter
from typing import NamedTuple

from keras_nas_plugin.records.ranking import RankKey, rank_key
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, TrialRecord

TOP = 10
LAST_FAILURES = 5
COST = "parameters"  # the cost that scores are compared with


class Progress(NamedTuple):
    """The best score after ``step`` trials had ended."""

    step: int
    score: float
    time_ms: int


class _Ranked(NamedTuple):
    """A trial with its sort key, which is never equal for two trials."""

    key: RankKey
    record: TrialRecord

    def covers(self, other: _Ranked) -> bool:
        """Whether the other trial is neither better nor smaller."""
        cost, other_cost = self.record.costs[COST], other.record.costs[COST]
        return self.key.quality <= other.key.quality and cost <= other_cost


class Leaderboard:
    """Best trials, counts by status and the last failures.

    Adding a trial costs the same after ten trials and after ten thousand: only the
    `TOP` best and `LAST_FAILURES` failed records are stored.

    Args:
        search: The search, for its direction and constraints.

    Attributes:
        failures: The last trials that failed.
    """

    def __init__(self, search: SearchInfo) -> None:
        self._search = search
        self._statuses: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._ended = 0
        self._causes: dict[str, str] = {}
        # Seconds of training, and of waiting where that is known, by trial id; and their sums: of
        # all trials, and of training and waiting for the trials with both.
        self._seconds: dict[str, float] = {}
        self._idle_seconds: dict[str, float] = {}
        self._total_seconds = self._total_busy = self._total_idle = 0.0
        self._top: list[_Ranked] = []
        self._frontier: list[_Ranked] = []
        self.failures: list[TrialRecord] = []

    @property
    def top(self) -> list[TrialRecord]:
        """The best trials, best first."""
        return [ranked.record for ranked in self._top]

    @property
    def frontier(self) -> list[TrialRecord]:
        """Ranked trials that no smaller trial equals or surpasses, smallest first."""
        return [ranked.record for ranked in self._frontier]

    @property
    def best(self) -> TrialRecord | None:
        """The best trial; None if no trial is ranked."""
        return self._top[0].record if self._top else None

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status."""
        return {status: self._counts[status] for status in (FINISHED, FAILED, KILLED)}

    @property
    def causes(self) -> list[tuple[str, int]]:
        """Causes of failures with their counts, the most frequent first."""
        return Counter(self._causes.values()).most_common()

    @property
    def seconds(self) -> float:
        """Seconds that all trials took together."""
        return self._total_seconds

    @property
    def utilization(self) -> float | None:
        """Share of the workers' time that trials took; None for records without it."""
        busy = self._total_busy
        return busy / (busy + self._total_idle) if busy else None

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._statuses

    def add(self, record: TrialRecord) -> Progress | None:
        """Add a trial that ended, replacing an earlier attempt at the same trial.

        Returns:
            The best score so far; None while there is none, and after a trial that did not
            finish, which changes nothing and may be trained again.
        """
        self._remove(record.trial_id)
        self._statuses[record.trial_id] = record.status
        self._counts[record.status] += 1
        self._seconds[record.trial_id] = record.seconds
        self._total_seconds += record.seconds
        if record.placement is not None:
            self._idle_seconds[record.trial_id] = record.placement.idle_seconds
            self._total_idle += record.placement.idle_seconds
            self._total_busy += record.seconds
        if record.status == FAILED:
            self.failures = [*self.failures, record][-LAST_FAILURES:]
            self._causes[record.trial_id] = (record.error or "no cause given").partition(":")[0]
        key = rank_key(self._search, record)
        if key is not None:
            ranked = _Ranked(key, record)
            bisect.insort_right(self._top, ranked)
            del self._top[TOP:]
            self._add_to_frontier(ranked)
        if record.status == KILLED:
            return None
        self._ended += 1
        if record.status == FAILED or self.best is None or self.best.score is None:
            return None
        return Progress(self._ended, self.best.score, record.ended_ms)

    def _add_to_frontier(self, ranked: _Ranked) -> None:
        if COST not in ranked.record.costs:
            return
        if not any(member.covers(ranked) for member in self._frontier):
            remaining = [member for member in self._frontier if not ranked.covers(member)]
            self._frontier = sorted(
                [*remaining, ranked], key=lambda member: member.record.costs[COST]
            )

    def _remove(self, trial_id: str) -> None:
        status = self._statuses.pop(trial_id, None)
        if status is None:
            return
        self._counts[status] -= 1
        self._ended -= status != KILLED
        self._top = [ranked for ranked in self._top if ranked.record.trial_id != trial_id]
        self.failures = [record for record in self.failures if record.trial_id != trial_id]
        self._frontier = [
            ranked for ranked in self._frontier if ranked.record.trial_id != trial_id
        ]
        self._causes.pop(trial_id, None)
        seconds = self._seconds.pop(trial_id)
        self._total_seconds -= seconds
        if trial_id in self._idle_seconds:
            self._total_busy -= seconds
            self._total_idle -= self._idle_seconds.pop(trial_id)
