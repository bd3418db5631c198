"""Trials run in the worker processes of KerasTuner's chief/worker service."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.executors.base import Executor
from keras_nas_plugin.training.running import TrialOutcome


class ChiefExecutor(Executor):
    """The chief's side: it serves the oracle, from which the workers take their trials.

    The workers ask the oracle themselves and report to it themselves, so nothing is submitted
    here, and the whole search is one call of `collect`. A worker's side is a `InProcessExecutor`.

    Args:
        serve: Serves the oracle until all trials have ended: KerasTuner's own `search`, which is
            the public way to start its server.
        oracle: The oracle that is served.
    """

    def __init__(self, serve: Callable[[], object], oracle: keras_tuner.Oracle) -> None:
        self._serve = serve
        self._oracle = oracle
        self._finished = False

    @property
    def finished(self) -> bool:
        return self._finished

    @property
    def in_flight(self) -> int:
        return 0

    def free_slots(self) -> Sequence[str]:
        return ()

    def submit(self, trial: Trial, slot: str) -> None:
        raise NotImplementedError("a chief runs no trials; its workers take them from the oracle")

    def collect(self) -> Sequence[TrialOutcome]:
        # The server hides an oracle's errors from this thread: oracles of this package keep them.
        self._oracle.fatal_error_is_raised = True
        self._serve()
        self._finished = True
        error = getattr(self._oracle, "fatal_error", None)
        if error is not None:
            raise error
        return ()
