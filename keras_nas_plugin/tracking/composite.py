"""A tracker that passes every event on to several trackers, none of which may end a search."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.retraining import Retraining
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import (
    Status,
    TrialRecord,
    load_records,
    load_run_id,
    save_run_id,
)
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.model_registry import ModelRegistry

logger = logging.getLogger("keras_nas_plugin")


class CompositeTracker(Tracker):
    """Passes every event on to each tracker; an exception in one is logged.

    Only a `TrackingError` at the start of a search is raised: nothing is lost at that moment,
    and the search would log nowhere.

    Args:
        trackers: The trackers; None entries are ignored.
    """

    def __init__(self, trackers: Iterable[Tracker | None]) -> None:
        self.trackers = tuple(tracker for tracker in trackers if tracker is not None)
        self.shows_report = any(tracker.shows_report for tracker in self.trackers)
        self.shows_failures = any(tracker.shows_failures for tracker in self.trackers)
        # Trackers and events whose failure was reported in this search.
        self._reported: set[tuple[int, str]] = set()

    def _warn(self, tracker: Tracker, event: str, error: Exception) -> None:
        """Warn of a failure, once for each tracker, event and search."""
        logger.debug("Details", exc_info=error)
        if (id(tracker), event) not in self._reported:
            self._reported.add((id(tracker), event))
            logger.warning("%s failed on `%s`: %s", type(tracker).__name__, event, error)

    def _notify(self, event: str, *args: Any) -> None:
        for tracker in self.trackers:
            try:
                getattr(tracker, event)(*args)
            except Exception as error:
                # A wrong address is for the user to fix, before anything was trained.
                if event == "search_started" and isinstance(error, TrackingError):
                    raise
                # No other error ends the search: its trials cost GPU time.
                self._warn(tracker, event, error)

    def search_started(self, search: SearchInfo, records: Iterable[TrialRecord]) -> None:
        """See `Tracker.search_started`."""
        self._reported.clear()
        self._notify("search_started", search, tuple(records))

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """See `Tracker.trial_started`."""
        self._notify("trial_started", trial_id, values)

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """See `Tracker.epoch_ended`."""
        self._notify("epoch_ended", trial_id, epoch, logs)

    def trial_ended(self, record: TrialRecord) -> None:
        """See `Tracker.trial_ended`."""
        self._notify("trial_ended", record)

    def search_ended(self, status: Status) -> None:
        """See `Tracker.search_ended`."""
        self._notify("search_ended", status)

    def flush(self) -> None:
        """See `Tracker.flush`."""
        self._notify("flush")

    def run_id(self, trial_id: str) -> str | None:
        """See `Tracker.run_id`; the id from the first tracker that has one."""
        for tracker in self.trackers:
            try:
                run_id = tracker.run_id(trial_id)
            except Exception as error:
                self._warn(tracker, "run_id", error)
                continue
            if run_id is not None:
                return run_id
        return None

    def find_run(self, search: SearchInfo, trial_id: str) -> str | None:
        """See `Tracker.find_run`; the id from the first tracker that has one."""
        run_ids = (tracker.find_run(search, trial_id) for tracker in self.trackers)
        return next((run_id for run_id in run_ids if run_id is not None), None)

    def retraining_finished(
        self, retraining: Retraining, record: TrialRecord, search: SearchInfo
    ) -> Retraining:
        """See `Tracker.retraining_finished`; all trackers log it, one after the other."""
        for tracker in self.trackers:
            retraining = tracker.retraining_finished(retraining, record, search)
        return retraining

    def model_registry(self) -> ModelRegistry:
        """See `Tracker.model_registry`; that of the first tracker that has one."""
        for tracker in self.trackers:
            with contextlib.suppress(TrackingError):  # it has none
                return tracker.model_registry()
        return super().model_registry()


def save_trial_run(tracker: Tracker, trial_id: str, folder: str | os.PathLike[str]) -> None:
    """Write the id of a trial's run to the trial's folder, if the tracker has one."""
    run_id = tracker.run_id(trial_id)
    if run_id is not None and run_id != load_run_id(folder):
        save_run_id(folder, run_id)


def save_trial_runs(tracker: Tracker, project: str | os.PathLike[str]) -> None:
    """Write the ids of the runs of all trials, including those that were logged late."""
    layout = ProjectLayout.of(project)
    for record in load_records(project):
        save_trial_run(tracker, record.trial_id, layout.trial(record.trial_id).folder)
