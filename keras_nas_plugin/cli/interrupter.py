"""Interrupts a search after a signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.tracking.base import Tracker


class Interrupter(Tracker):
    """Interrupts a search at its next trial or epoch after a signal was received.

    Python discards an exception that a signal handler raises inside a weak reference's callback
    or a destructor, and with it the interrupt.

    Args:
        signals: The received signals; a signal handler appends to it.
    """

    def __init__(self, signals: Sequence[int]) -> None:
        self._signals = signals

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """See `Tracker.trial_started`."""
        self._check()

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """See `Tracker.epoch_ended`."""
        self._check()

    def _check(self) -> None:
        if self._signals:
            raise KeyboardInterrupt
