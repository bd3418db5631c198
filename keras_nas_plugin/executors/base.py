"""The interface between the search loop and the place where trials run."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from keras_tuner.engine.trial import Trial

from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.running import TrialOutcome


class Executor(abc.ABC):
    """Runs the trials of a search.

    The search loop asks for `free_slots`, submits a trial to each, and collects what ended. One
    trial or many may be in flight, and they may end in any order. An executor reports no results
    itself: the loop writes records and notifies trackers and the oracle, in a single thread.

    `collect` does not raise errors of trials: how a trial ended, including errors and interrupts,
    is in its `TrialOutcome`. If a worker died, its trial gets a ``KILLED`` or ``FAILED`` outcome.
    The loop enters the executor before the first trial, and exits it after the last one or when
    the search ends with an error; exiting stops the trials that are still in flight.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    @property
    @abc.abstractmethod
    def finished(self) -> bool:
        """Whether the search has ended outside the loop, so that no further trial is submitted.

        Always False for an executor that runs only trials that the loop submits.
        """

    @property
    @abc.abstractmethod
    def in_flight(self) -> int:
        """How many submitted trials have not been collected."""

    @abc.abstractmethod
    def free_slots(self) -> Sequence[str]:
        """The slots that can take a trial now.

        A slot is what KerasTuner calls a tuner id: the oracle hands out one trial at a time for
        each slot, and the same trial again after a restart. So slots must have the same names in
        every process that resumes the search.
        """

    @abc.abstractmethod
    def submit(self, trial: Trial, slot: str) -> None:
        """Run a trial.

        Args:
            trial: The trial that the oracle handed out for the slot.
            slot: One of `free_slots`.
        """

    @abc.abstractmethod
    def collect(self) -> Sequence[TrialOutcome]:
        """Wait until a trial in flight ends.

        Returns:
            The outcomes of all trials that ended since the last call, in the order in which they
            ended; empty when nothing is in flight.
        """


class ExecutorSettings(Protocol):
    """What `NASTuner` takes as ``executor``: where the trials of each search run."""

    def start(self, trainer: object, fit: FitArguments, context: SearchContext) -> Executor:
        """The executor of a search.

        Args:
            trainer: Trains a trial: `TrialTrainer`.
            fit: What `search` was called with.
            context: The search.

        Raises:
            ArgumentError: The executor cannot run the trials of this search.
        """
