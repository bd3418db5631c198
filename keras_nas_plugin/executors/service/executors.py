"""Trials run in the worker processes of KerasTuner's chief/worker service."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.executors.base import Executor
from keras_nas_plugin.executors.in_process import InProcessExecutor
from keras_nas_plugin.executors.service.chief import ChiefServer
from keras_nas_plugin.executors.service.client import ChiefClient, LeaseLostError
from keras_nas_plugin.executors.unfinished import unfinished_record
from keras_nas_plugin.records.placement import Placement
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED
from keras_nas_plugin.space.declarations import RangeChecks
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.running import TrialOutcome

logger = logging.getLogger("keras_nas_plugin")


class ChiefExecutor(Executor):
    """The chief's side: it serves the oracle, from which the workers take their trials.

    The workers ask the oracle themselves and report to it themselves, so nothing is submitted
    here. What `collect` returns are trials whose workers were lost.

    Args:
        context: The search.
        ranges: Recognizes ranges that were changed before the search was resumed.
    """

    def __init__(self, context: SearchContext, ranges: RangeChecks) -> None:
        self._context = context
        self._ranges = ranges
        self._server: ChiefServer | None = None
        self._finished = False

    def __enter__(self) -> Self:
        # Errors of an oracle of this package in a call of a worker are kept for this thread.
        self._context.oracle.fatal_error_is_raised = True
        self._server = ChiefServer(self._context.oracle, self._ranges)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.stop()

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
        lost = self._server.wait() if self._server is not None else []
        self._finished = not lost
        error = getattr(self._context.oracle, "fatal_error", None)
        if error is not None:
            raise error
        return [
            TrialOutcome(
                each.trial,
                unfinished_record(
                    self._context,
                    each.trial,
                    FAILED,
                    started_ms=each.started_ms,
                    error=each.trial.message,
                    placement=Placement(worker=each.worker),
                ),
            )
            for each in lost
        ]


class LeasedExecutor(InProcessExecutor):
    """A worker's side: it runs a trial in this thread while it holds a lease on it.

    Args:
        train: Trains a trial.
        client: The worker's connection to its chief.
        context: The search.
    """

    def __init__(
        self,
        train: Callable[[Trial], TrialOutcome],
        client: ChiefClient,
        context: SearchContext,
    ) -> None:
        super().__init__(train, client.tuner_id)
        self._client = client
        self._context = context
        self._trial: Trial | None = None

    def submit(self, trial: Trial, slot: str) -> None:
        self._trial = trial
        super().submit(trial, slot)

    def collect(self) -> Sequence[TrialOutcome]:
        trial, lease = self._trial, self._client.lease
        if trial is None or not self.in_flight:
            return ()
        killed = unfinished_record(self._context, trial, KILLED)
        withdrawn = (TrialOutcome(trial, killed, withdrawn=True),)
        try:
            with lease.training(trial.trial_id):
                outcomes = super().collect()
        except LeaseLostError as error:  # between the end of the training and that of the block
            outcomes = (TrialOutcome(trial, killed, error),)
        if not lease.confirm(trial.trial_id):
            logger.warning(
                "%s lost its lease on trial %s, which another worker trains; its result is "
                "discarded.",
                self._client.tuner_id,
                trial.trial_id,
            )
            return withdrawn
        # Libraries may turn the interrupt into another error, with which the trial fails.
        interrupted = any(outcome.record.status != FINISHED for outcome in outcomes)
        if interrupted and lease.chief_lost.is_set():
            if self._client.close_if_complete():
                return withdrawn
            return (TrialOutcome(trial, killed, self._client.lost()),)
        return outcomes


def executor_of(
    context: SearchContext,
    oracle: keras_tuner.Oracle | ChiefClient,
    train: Callable[[Trial], TrialOutcome],
    ranges: RangeChecks,
) -> Executor:
    """The executor of a chief or worker.

    Args:
        context: The search.
        oracle: The tuner's oracle; in a worker, its connection to the chief.
        train: Trains a trial.
        ranges: Recognizes ranges that were changed before the search was resumed.

    Raises:
        WorkerError: This process is a chief, and cannot listen at its address.
    """
    if isinstance(oracle, ChiefClient):
        return LeasedExecutor(train, oracle, context)
    return ChiefExecutor(context, ranges)
