"""The search loop: takes trials from an oracle, has them run, and reports how they ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Protocol

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import BudgetExhaustedError
from keras_nas_plugin.executors.base import Executor
from keras_nas_plugin.executors.unfinished import unfinished_record
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, TrialRecord
from keras_nas_plugin.training.checks import is_result_of
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.costing import reported_metrics, save_infeasible_summary
from keras_nas_plugin.training.running import TrialOutcome
from keras_nas_plugin.training.slot_times import SlotTimes

logger = logging.getLogger("keras_nas_plugin")

# Pause before the oracle is asked again; KerasTuner asks without a pause.
_IDLE_SECONDS = 0.2


class LoopHooks(Protocol):
    """The side of a `keras_tuner.Tuner` that a search loop drives."""

    #: In a worker, the client of the chief's oracle.
    oracle: keras_tuner.Oracle

    def pre_create_trial(self) -> None:
        """The oracle is about to be asked for a trial."""

    def on_trial_begin(self, trial: Trial) -> None:
        """A trial starts."""

    def on_trial_end(self, trial: Trial) -> None:
        """A trial ended; KerasTuner's own version reports it to the oracle."""


class SearchLoop:
    """Hands an oracle's trials to an executor, and reports how each ended.

    The order at the end of a trial is fixed: its record is written, then the trackers are
    notified, then the oracle. If the process dies in between, the next one finds the record and
    reports it, and the trial is not trained again. A trial that was interrupted leaves no record
    and runs again.

    Args:
        hooks: The tuner.
        context: The search.
        executor: Runs the trials.
    """

    def __init__(self, hooks: LoopHooks, context: SearchContext, executor: Executor) -> None:
        self._hooks = hooks
        self._context = context
        self._executor = executor
        self._times = SlotTimes()
        #: Why the search ended before its trials were used up, or None.
        self.stopped_by: str | None = None
        self._proposing = True
        self._idle = False

    def run(self) -> None:
        """Run trials until the oracle stops or the budget ends.

        Raises:
            KeyboardInterrupt: By the user; the trials in flight run again on resume.
            NASError: An error that every further trial would raise as well.
        """
        try:
            with self._executor:
                self._run()
        finally:
            for trial, submitted_ms in self._times.unfinished():
                record = unfinished_record(self._context, trial, KILLED, started_ms=submitted_ms)
                self._context.trackers.trial_ended(self._times.placed(record))

    def _run(self) -> None:
        while (self._proposing or self._executor.in_flight) and not self._executor.finished:
            if self._proposing:
                self._hand_out()
            outcomes = self._executor.collect()
            self._finish_all(outcomes)
            if self._idle and not outcomes:
                time.sleep(_IDLE_SECONDS)

    def _stop_proposing(self, reason: str | None) -> None:
        self._proposing, self._idle, self.stopped_by = False, False, reason

    def _hand_out(self) -> None:
        """Fill the free slots of the executor."""
        self._idle = False
        if not self._context.budget.allows_trial():  # also while no slot is free
            return self._stop_proposing("budget")
        for slot in self._executor.free_slots():
            if not self._context.budget.allows_trial():
                return self._stop_proposing("budget")
            self._expect_trials()
            self._hooks.pre_create_trial()
            try:
                trial = self._hooks.oracle.create_trial(slot)
            except BudgetExhaustedError:  # while the oracle screened candidates
                return self._stop_proposing("budget")
            if trial.status == TrialStatus.STOPPED:
                infeasible = getattr(self._context.oracle, "stop_reason", None) is not None
                return self._stop_proposing("infeasible" if infeasible else None)
            if trial.status == TrialStatus.IDLE:
                self._idle = True
                return None
            with self._context.bookkeeping.step(
                "the number of infeasible candidates was not written"
            ):
                save_infeasible_summary(self._context.oracle, self._context.layout)
            self._begin(trial, slot)
        return None

    def _expect_trials(self) -> None:
        """Tell an oracle of this package how many trials the budget allows."""
        expect = getattr(self._context.oracle, "expect_trials", None)
        remaining = self._context.budget.remaining_trials()
        if expect is not None and remaining is not None:
            expect(remaining)

    def _begin(self, trial: Trial, slot: str) -> None:
        """Submit a trial, unless it already finished in an earlier process."""
        self._hooks.on_trial_begin(trial)
        folder = self._context.layout.trial(trial.trial_id).folder
        record = TrialRecord.load(folder)
        if record is None or not is_result_of(record, trial):
            TrialRecord.discard(folder)
            self._times.submitted(trial, slot)
            self._executor.submit(trial, slot)
            return
        if record.hyperparameters is not None:
            trial.hyperparameters = keras_tuner.HyperParameters.from_config(record.hyperparameters)
        self._report(trial, record)

    def _finish_all(self, outcomes: Sequence[TrialOutcome]) -> None:
        """Save the records of trials that ended and report them, then raise what ends the search.

        Raises:
            BaseException: The first error of a trial or of the oracle, after the results of all
                trials are saved.
        """
        errors: list[BaseException] = []
        for outcome in outcomes:
            if outcome.withdrawn:
                self._times.withdrawn(outcome.record.trial_id)
                continue
            record = self._times.placed(outcome.record)
            if outcome.error is not None:
                errors.append(outcome.error)
                self._context.trackers.trial_ended(record)
                continue
            record.save(self._context.layout.trial(record.trial_id).folder)
            try:
                self._report(outcome.trial, record, reported=outcome.reported)
            except Exception as raised:
                errors.append(raised)
        for error in errors:
            if not isinstance(error, BudgetExhaustedError):
                raise error
            self._stop_proposing("budget")

    def _report(self, trial: Trial, record: TrialRecord, *, reported: bool = False) -> None:
        self._context.trackers.trial_ended(record)
        if record.status == FAILED and not self._context.trackers.shows_failures:
            place = f"\n  at {record.location}" if record.location else ""
            logger.warning("Trial %s failed: %s%s", record.trial_id, record.error, place)
        self._context.budget.record_trial(record.seconds)
        if record.status == FINISHED:
            if not reported:
                metrics = reported_metrics(self._context.oracle, record)
                self._hooks.oracle.update_trial(trial.trial_id, metrics, step=record.best_step)
            trial.status = TrialStatus.COMPLETED
        self._hooks.on_trial_end(trial)
