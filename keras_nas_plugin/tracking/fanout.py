"""Telling several trackers, none of which may end a search."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.records import (
    SearchInfo,
    Status,
    TrialRecord,
    load_records,
    load_run_id,
    save_run_id,
)

logger = logging.getLogger("keras_nas_plugin")


class Fanout(Tracker):
    """Passes every event on to each tracker; an exception in one is logged.

    Only a `TrackingError` at the start of the search reaches the user: nothing is lost then,
    and the search would log nowhere.

    Args:
        trackers: Who wants to know; None entries are left out.
    """

    def __init__(self, trackers: Iterable[Tracker | None]) -> None:
        self.trackers = tuple(tracker for tracker in trackers if tracker is not None)

    def _tell(self, event: str, *args: Any) -> None:
        for tracker in self.trackers:
            try:
                getattr(tracker, event)(*args)
            except TrackingError:
                if event == "search_started":
                    # A wrong address is the user's to mend, before anything was trained.
                    raise
                logger.exception("%s could not take `%s`", type(tracker).__name__, event)
            except Exception as error:
                # Whatever a tracker runs into, the trials are what costs GPU time.
                name = type(tracker).__name__
                logger.warning("%s could not take `%s`: %s", name, event, error)
                logger.debug("Details", exc_info=error)

    def search_started(self, search: SearchInfo, records: Iterable[TrialRecord]) -> None:
        """See `Tracker.search_started`."""
        known = tuple(records)
        self._tell("search_started", search, known)

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """See `Tracker.trial_started`."""
        self._tell("trial_started", trial_id, values)

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """See `Tracker.epoch_ended`."""
        self._tell("epoch_ended", trial_id, epoch, logs)

    def trial_ended(self, record: TrialRecord) -> None:
        """See `Tracker.trial_ended`."""
        self._tell("trial_ended", record)

    def search_ended(self, status: Status) -> None:
        """See `Tracker.search_ended`."""
        self._tell("search_ended", status)

    def flush(self) -> None:
        """See `Tracker.flush`."""
        self._tell("flush")

    def run_id(self, trial_id: str) -> str | None:
        """See `Tracker.run_id`; the first tracker that knows one."""
        for tracker in self.trackers:
            try:
                run_id = tracker.run_id(trial_id)
            except Exception as error:
                logger.warning("%s could not tell a run: %s", type(tracker).__name__, error)
                continue
            if run_id is not None:
                return run_id
        return None


def note_run(tracker: Tracker, trial_id: str, folder: str | os.PathLike) -> None:
    """Write a trial's run into the trial's folder, if the tracker knows it."""
    run_id = tracker.run_id(trial_id)
    if run_id is not None and run_id != load_run_id(folder):
        save_run_id(folder, run_id)


def note_runs(tracker: Tracker, project: str | os.PathLike) -> None:
    """Write the runs of trials that were sent later than they ended."""
    for record in load_records(project):
        note_run(tracker, record.trial_id, Path(project) / f"trial_{record.trial_id}")
