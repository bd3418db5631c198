"""The summary on the run of a search: best score, hypervolume, proxy calibration, note."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord, is_supernet
from keras_nas_plugin.tracking.points import Point
from keras_nas_plugin.tracking.summary.description import render_note
from keras_nas_plugin.tracking.summary.leaderboard import Leaderboard
from keras_nas_plugin.tracking.summary.proxy_calibration import OBSERVED, RANKING, Calibration

if TYPE_CHECKING:
    from keras_nas_plugin.tracking.summary.hypervolume import Hypervolume

#: Metrics of the search's run: the best score so far, and the seconds of all trials so far, which
#: is the other axis of a comparison of searches. Pauses between trials and between the runs of a
#: resumed search do not count, and trials that run at the same time add up. The third is the share
#: of the workers' time that these are.
BEST, SECONDS, UTILIZATION = "best_objective", "trial_seconds", "utilization"

logger = logging.getLogger("keras_nas_plugin")


@dataclasses.dataclass(frozen=True)
class SummaryUpdate:
    """The part of a summary that the store does not have yet.

    Attributes:
        points: New points of its curves.
        tags: Its tags, as they are now.
        note: The note, in Markdown.
    """

    points: list[Point]
    tags: dict[str, str]
    note: str


class SearchSummary:
    """The summary of a search, updated trial by trial.

    Args:
        search: The search.

    Attributes:
        board: Best trials, counts and failures.
        changed: Whether there is anything that the store does not have.
    """

    def __init__(self, search: SearchInfo) -> None:
        self.board = Leaderboard(search)
        self.changed = True
        self._search = search
        self._calibration = Calibration(search)
        self._hypervolume = _hypervolume_of(search)
        self._points: list[Point] = []
        self._observed_ranks: dict[str, float] = {}
        # By trial id: the attempt that was added, and the version of its record that was read.
        self._attempts: dict[str, tuple[int, int]] = {}
        self._versions_read: dict[str, int] = {}

    def add(self, record: TrialRecord) -> None:
        """Add a trial that ended; every trial is a step of the curves."""
        if is_supernet(record.trial_id):
            return
        self.changed = True
        self._attempts[record.trial_id] = _attempt(record)
        progress = self.board.add(record)
        rank = self._calibration.add(record)
        hypervolume = self._hypervolume.add(record) if self._hypervolume else None
        self._observed_ranks.pop(record.trial_id, None)
        if rank is not None:
            self._observed_ranks[record.trial_id] = rank
        if progress is None:
            return
        values = {BEST: progress.score, SECONDS: self.board.seconds}
        if self.board.utilization is not None:
            values[UTILIZATION] = self.board.utilization
        if self._hypervolume and hypervolume is not None:
            values[self._hypervolume.metric] = hypervolume
        if rank is not None:
            correlations = self._calibration.correlations()
            values |= {RANKING + name: value for name, value in correlations.items()}
        self._points += [
            Point(key, value, progress.time_ms, progress.step) for key, value in values.items()
        ]

    def add_from_project(self, *, may_repeat: bool) -> bool:
        """Add trials that other processes left in the project folder.

        Args:
            may_repeat: Whether trials that were added may have been trained again since.

        Returns:
            Whether there were any.
        """
        new = []
        for trial in ProjectLayout.of(self._search.directory).trials():
            trial_id = trial.trial_id
            if not may_repeat and trial_id in self.board:
                continue
            try:
                version = TrialRecord.modified_ns(trial.folder)
                if version is None or version == self._versions_read.get(trial_id):
                    continue
                record = TrialRecord.load(trial.folder)
            except (StateError, OSError, KeyError, TypeError) as error:
                logger.warning("The record of trial %s cannot be read: %s", trial_id, error)
                continue
            self._versions_read[trial_id] = version
            if record is not None and self._attempts.get(trial_id) != _attempt(record):
                new.append(record)
        for record in sorted(new, key=lambda record: (record.ended_ms, record.trial_id)):
            self.add(record)
        return bool(new)

    def with_observed_rank(self, record: TrialRecord) -> TrialRecord:
        """The record with its rank among the trials that have proxies, if it has one."""
        rank = self._observed_ranks.get(record.trial_id)
        if rank is None:
            return record
        return dataclasses.replace(record, proxies={**record.proxies, OBSERVED: rank})

    def unsent(self, run_ids: Mapping[str, str]) -> SummaryUpdate:
        """The part of the summary that the store does not have yet.

        Args:
            run_ids: Ids of the trials' runs, by trial id.
        """
        tags = {}
        if self._hypervolume and (reference := self._hypervolume.tag()):
            tags[self._hypervolume.reference_tag] = reference
        best = self.board.best
        if best is not None:
            tags["nas.best_trial_id"] = best.trial_id
            if best.trial_id in run_ids:
                tags["nas.best_run_id"] = run_ids[best.trial_id]
        return SummaryUpdate(list(self._points), tags, render_note(self._search, self.board))

    def mark_sent(self) -> None:
        """The store has everything that `unsent` returned."""
        self._points = []
        self.changed = False

    def drop_points(self, steps: Collection[int]) -> None:
        """Drop the points at steps that the store already has."""
        self._points = [point for point in self._points if point.step not in steps]


def _attempt(record: TrialRecord) -> tuple[int, int]:
    """Identifies an attempt at a trial among all attempts at it."""
    return record.started_ms, record.ended_ms


def _hypervolume_of(search: SearchInfo) -> Hypervolume | None:
    """The hypervolume of a search with several objectives; None for a single one."""
    if len(search.directions) < 2:
        return None
    # Imports numpy, which the command line must not wait for.
    from keras_nas_plugin.tracking.summary.hypervolume import Hypervolume

    return Hypervolume(search)
