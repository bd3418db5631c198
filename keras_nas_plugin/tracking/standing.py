"""What the run of a search says: best so far, hypervolume, calibration, and the note."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from keras_nas_plugin.tracking.calibration import OBSERVED, RANKING, Calibration
from keras_nas_plugin.tracking.leaderboard import Leaderboard
from keras_nas_plugin.tracking.note import render_note
from keras_nas_plugin.tracking.payload import Point
from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord
from keras_nas_plugin.tracking.runs import NOTE

BEST = "best_objective"


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

    def enter(self, record: TrialRecord) -> None:
        """Enter a trial that ended; each has its own step in the curves."""
        self.changed = True
        self._entered[record.trial_id] = (record.started_ms, record.ended_ms)
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

    def knows(self, record: TrialRecord) -> bool:
        """Whether a trial was entered as it is."""
        return self._entered.get(record.trial_id) == (record.started_ms, record.ended_ms)

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


def _volume_of(search: SearchInfo) -> Any:
    """The hypervolume of a search for several objectives; None for one."""
    if len(search.objectives) < 2:
        return None
    # Imports numpy, which the command line must not wait for.
    from keras_nas_plugin.tracking.volume import Volume

    return Volume(search)
