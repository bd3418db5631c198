"""Trials run in the thread that searches, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras_tuner.engine.trial import Trial

from keras_nas_plugin.executors.base import Executor
from keras_nas_plugin.training.running import TrialOutcome


class InProcessExecutor(Executor):
    """Runs one trial at a time in this thread.

    It is the executor of a process that searches alone, and of a worker of KerasTuner's service,
    whose oracle is a client of the chief's.

    Args:
        train: Trains a trial.
        slot: The tuner's id.
    """

    def __init__(self, train: Callable[[Trial], TrialOutcome], slot: str) -> None:
        self._train = train
        self._slot = slot
        self._submitted: Trial | None = None

    @property
    def finished(self) -> bool:
        return False

    @property
    def in_flight(self) -> int:
        return 0 if self._submitted is None else 1

    def free_slots(self) -> Sequence[str]:
        return (self._slot,) if self._submitted is None else ()

    def submit(self, trial: Trial, slot: str) -> None:
        self._submitted = trial

    def collect(self) -> Sequence[TrialOutcome]:
        trial, self._submitted = self._submitted, None
        return () if trial is None else (self._train(trial),)
