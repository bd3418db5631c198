"""What a trial costs besides its epochs, for oracles that shorten trainings to save time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import keras_tuner

from keras_nas_plugin.records.trial import FINISHED, TrialRecord
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.training.interrupts import Interrupter


@runtime_checkable
class LearnsTimes(Protocol):
    """An oracle that adapts to the time that trials take."""

    def record_times(self, fixed_seconds: float, epoch_seconds: float) -> None:
        """A trial has ended.

        Args:
            fixed_seconds: Seconds of the trial that do not depend on its number of epochs.
            epoch_seconds: Seconds of an epoch after the first, in all executions together.
        """


class TrialTimes(Tracker):
    """Divides the time of each trial into that of its epochs and the rest.

    Building the model, tracing, evaluating and saving take as long for one epoch as for many. The
    first epoch, in which Keras traces, counts as another one plus a part of the rest. A trial of
    a single epoch says nothing about the time of an epoch.

    Args:
        oracle: Learns both times.
    """

    def __init__(self, oracle: LearnsTimes) -> None:
        self._oracle = oracle
        self._ends: dict[str, list[float]] = {}

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """See `Tracker.epoch_ended`."""
        self._ends.setdefault(trial_id, []).append(time.monotonic())

    def trial_ended(self, record: TrialRecord) -> None:
        """See `Tracker.trial_ended`."""
        ends = self._ends.pop(record.trial_id, [])
        if record.status != FINISHED or len(ends) < 2:
            return
        epoch_seconds = statistics.median(
            later - earlier for earlier, later in zip(ends, ends[1:], strict=False)
        )
        fixed_seconds = max(0.0, record.seconds - len(ends) * epoch_seconds)
        executions = max(1, len(record.curves))
        self._oracle.record_times(fixed_seconds, executions * epoch_seconds)


def own_listeners(oracle: keras_tuner.Oracle, budget: float | None) -> list[Tracker]:
    """The trackers that `NASTuner` adds to those of the user.

    Args:
        oracle: The oracle of the search.
        budget: Seconds of the search; None without a limit. Only a search that ends by time
            depends on times: others propose the same on each machine.
    """
    if budget is not None and isinstance(oracle, LearnsTimes):
        return [TrialTimes(oracle), Interrupter()]
    return [Interrupter()]
