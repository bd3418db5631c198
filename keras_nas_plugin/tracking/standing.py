"""What the run of a search says: best so far, hypervolume, calibration, and the note."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.tracking.calibration import OBSERVED, RANKING, Calibration
from keras_nas_plugin.tracking.leaderboard import Leaderboard
from keras_nas_plugin.tracking.note import render_note
from keras_nas_plugin.tracking.payload import Point
from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord
from keras_nas_plugin.tracking.runs import NOTE

BEST = "best_objective"

_log = logging.getLogger("keras_nas_plugin")


class Standing:
    """Where a search stands, trial by trial, and what of it the store does not have yet.

    Args:
        search: The search.
    """

    def __init__(self, search: SearchInfo) -> None:
        self.board = Leaderboard(search)
        #: Whether there is something that the store does not have.
        self.changed = True
        self._search = search
        self._calibration = Calibration(search)
        self._volume = _volume_of(search)
        self._points: list[Point] = []
        self._places: dict[str, float] = {}
        self._entered: dict[str, tuple[int, int]] = {}
        # When the records that were looked at in the project folder were written.
        self._seen: dict[str, int] = {}

    def enter(self, record: TrialRecord) -> None:
        """Enter a trial that ended; each has its own step in the curves."""
        self.changed = True
        self._entered[record.trial_id] = _attempt(record)
        progress = self.board.add(record)
        place = self._calibration.add(record)
        volume = self._volume.add(record) if self._volume else None
        self._places.pop(record.trial_id, None)
        if place is not None:
            self._places[record.trial_id] = place
        if progress is None:
            return
        values = {BEST: progress.score}
        if volume is not None:
            values[self._volume.metric] = volume
        if place is not None:
            correlations = self._calibration.correlations()
            values |= {RANKING + name: value for name, value in correlations.items()}
        self._points += [
            Point(key, value, progress.time_ms, progress.step) for key, value in values.items()
        ]

    def follow(self, directory: str | os.PathLike, *, again: bool) -> bool:
        """Enter trials that other processes have left in the project folder.

        Args:
            directory: The project folder.
            again: Whether trials that are known may have been trained again.

        Returns:
            Whether there were any.
        """
        new = []
        for path in Path(directory).glob("trial_*"):
            trial_id = path.name.removeprefix("trial_")
            if not again and trial_id in self.board:
                continue
            try:
                changed = TrialRecord.changed(path)
                if changed is None or changed == self._seen.get(trial_id):
                    continue
                record = TrialRecord.load(path)
            except (StateError, OSError, KeyError, TypeError) as error:
                _log.warning("The record of %s cannot be read: %s", path.name, error)
                continue
            self._seen[trial_id] = changed
            if record is not None and self._entered.get(trial_id) != _attempt(record):
                new.append(record)
        for record in sorted(new, key=lambda record: (record.ended_ms, record.trial_id)):
            self.enter(record)
        return bool(new)

    def placed(self, record: TrialRecord) -> TrialRecord:
        """The record with its place among the trials with proxies, if it has one."""
        place = self._places.get(record.trial_id)
        if place is None:
            return record
        return dataclasses.replace(record, proxies={**record.proxies, OBSERVED: place})

    def summary(self, run_ids: Mapping[str, str]) -> tuple[list[Point], dict[str, Any]]:
        """Points and tags of the search's run that the store lacks.

        Args:
            run_ids: Runs of trials by trial id.
        """
        tags = {NOTE: render_note(self._search, self.board)}
        if self._volume and (reference := self._volume.tag()):
            tags[self._volume.reference_tag] = reference
        best = self.board.best
        if best is not None:
            tags["nas.best_trial_id"] = best.trial_id
            if best.trial_id in run_ids:
                tags["nas.best_run_id"] = run_ids[best.trial_id]
        return list(self._points), tags

    def told(self) -> None:
        """The store has what `summary` gave."""
        self._points = []
        self.changed = False

    def forget_points(self, steps: Collection[int]) -> None:
        """Leave out the steps that the store has already."""
        self._points = [point for point in self._points if point.step not in steps]


def _attempt(record: TrialRecord) -> tuple[int, int]:
    """What tells an attempt at a trial from another one."""
    return record.started_ms, record.ended_ms


def _volume_of(search: SearchInfo) -> Any:
    """The hypervolume of a search for several objectives; None for one."""
    if len(search.objectives) < 2:
        return None
    # Imports numpy, which the command line must not wait for.
    from keras_nas_plugin.tracking.volume import Volume

    return Volume(search)
