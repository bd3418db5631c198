"""When the slots of an executor were free, and when they got which trial."""

from __future__ import annotations

import dataclasses
import time

from keras_nas_plugin.records.placement import Placement
from keras_nas_plugin.records.trial import TrialRecord


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class SlotTimes:
    """Adds to the record of a trial in which slot it ran, and how long it waited."""

    def __init__(self) -> None:
        self._started_ms = _now_ms()
        # By slot: when its last trial ended. By trial id: its slot, and when it was submitted.
        self._free_since_ms: dict[str, int] = {}
        self._submitted: dict[str, tuple[str, int]] = {}

    def submitted(self, trial_id: str, slot: str) -> None:
        """A trial was handed out for a slot."""
        self._submitted[trial_id] = slot, _now_ms()

    def placed(self, record: TrialRecord) -> TrialRecord:
        """The record of a trial that was submitted and has ended, with its waiting times."""
        slot, submitted_ms = self._submitted.pop(record.trial_id)
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
