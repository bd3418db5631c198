"""The trials in the slots of a search, and when the slots were free."""

from __future__ import annotations

import dataclasses
import time

from keras_tuner.engine.trial import Trial

from keras_nas_plugin.records.placement import Placement
from keras_nas_plugin.records.trial import TrialRecord


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class SlotTimes:
    """Adds to the record of a trial in which slot it ran, and how long it waited."""

    def __init__(self) -> None:
        self._started_ms = _now_ms()
        # By slot: when its last trial ended. By trial id: the trial, its slot, and since when.
        self._free_since_ms: dict[str, int] = {}
        self._submitted: dict[str, tuple[Trial, str, int]] = {}

    def submitted(self, trial: Trial, slot: str) -> None:
        """A trial was handed out for a slot."""
        self._submitted[trial.trial_id] = trial, slot, _now_ms()

    def withdrawn(self, trial_id: str) -> None:
        """A trial that was submitted continues in another process."""
        self._submitted.pop(trial_id, None)

    def unfinished(self) -> list[tuple[Trial, int]]:
        """The trials that were submitted and have not ended, and when (ms) they were submitted."""
        return [(trial, submitted_ms) for trial, _, submitted_ms in self._submitted.values()]

    def placed(self, record: TrialRecord) -> TrialRecord:
        """The record of a trial that has ended; one submitted here gets its waiting times."""
        if record.trial_id not in self._submitted:
            return record
        _, slot, submitted_ms = self._submitted.pop(record.trial_id)
        free_ms = self._free_since_ms.get(slot, self._started_ms)
        self._free_since_ms[slot] = record.ended_ms
        # Clocks of several machines differ.
        placement = dataclasses.replace(
            record.placement or Placement(),
            worker=slot,
            queue_seconds=max(record.started_ms - submitted_ms, 0) / 1e3,
            idle_seconds=max(record.started_ms - free_ms, 0) / 1e3,
        )
        return dataclasses.replace(record, placement=placement)
