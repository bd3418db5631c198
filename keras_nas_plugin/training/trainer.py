"""Builds, checks, trains and measures a trial."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import time
import traceback
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import (
    BudgetExhaustedError,
    HyperModelError,
    NewEntriesError,
    StateError,
)
from keras_nas_plugin.evaluation.results import (
    Result,
    check_result_type,
    result_of,
    trained_part,
)
from keras_nas_plugin.files import write_json
from keras_nas_plugin.inheritance.settings import Inheritance
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, Lineage
from keras_nas_plugin.space.declarations import (
    ChangedRangeError,
    CheckedHyperParameters,
    RangeChecks,
    UnconfirmedRanges,
)
from keras_nas_plugin.space.fidelity import Fidelity, configuration, fidelity_of
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.training import memory
from keras_nas_plugin.training.architectures import save_architecture
from keras_nas_plugin.training.array_batches import with_data_sets
from keras_nas_plugin.training.bookkeeping import Bookkeeping, error_line
from keras_nas_plugin.training.budget import Budget
from keras_nas_plugin.training.callbacks import (
    BatchTrialCallback,
    BestWeights,
    Deadline,
    LastEpoch,
    TrialCallback,
)
from keras_nas_plugin.training.continuation import (
    Continuation,
    agree_on_epochs,
    continuation_of,
)
from keras_nas_plugin.training.costing import CostPlan, export_rows
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.hooks import TunerHooks
from keras_nas_plugin.training.inherited_weights import (
    Source,
    epochs_of,
    inherit,
    lineage_of,
    source_of,
)
from keras_nas_plugin.training.interrupts import interrupt_behind
from keras_nas_plugin.training.mapped_arrays import without_copies
from keras_nas_plugin.training.models import restore
from keras_nas_plugin.training.reported import RUN_TRIAL, ReportedMetrics
from keras_nas_plugin.training.running import FATAL, RunningTrial, TrialOutcome
from keras_nas_plugin.training.tracing import create_variables
from keras_nas_plugin.training.weights import load_state

logger = logging.getLogger("keras_nas_plugin")


@dataclasses.dataclass(frozen=True)
class BuiltModel:
    """A model that was built for a training.

    Attributes:
        model: The model.
        built_at: When its building ended, in seconds of `time.monotonic`.
    """

    model: keras.Model
    built_at: float


@dataclasses.dataclass
class _Execution:
    """The training that runs now.

    KerasTuner's `_try_build` returns a model to its caller, which may be a user's override of
    `_build_and_fit_model`. So the built model is recorded here, while the training runs.
    """

    #: The file with the state that training continues from; None for a fresh start.
    state: Path | None = None
    #: The trial whose weights training starts from; None for random weights.
    source: Source | None = None
    built: BuiltModel | None = None


class TrialTrainer:
    """Trains trials for a tuner, independently of the search that they belong to.

    KerasTuner's hooks are called on the tuner, so that subclasses written for
    `keras_tuner.Tuner` (AutoKeras overrides `_build_and_fit_model`) work. The tuner's own versions
    of these hooks are the methods of this class.

    Args:
        hooks: The tuner.
        oracle: Its oracle; in a worker, the oracle of this process instead of the chief's.
        trackers: Notified of each trial's start and epochs.
        budget: Ends a training when it is exhausted.
        plan: The costs to determine for each trial.
        deterministic: Whether each execution is seeded.
        bookkeeping: Reports what cannot be recorded.
        trained_by: The method that a subclass or hypermodel overrides to train: ``"run_trial"``,
            ``"_build_and_fit_model"`` or ``"HyperModel.fit"``. Messages name it.
        inheritance: How trials start from the weights of others; None for random weights.
    """

    def __init__(
        self,
        hooks: TunerHooks,
        *,
        oracle: keras_tuner.Oracle,
        trackers: Tracker,
        budget: Budget,
        plan: CostPlan,
        deterministic: bool,
        bookkeeping: Bookkeeping,
        trained_by: str,
        inheritance: Inheritance | None = None,
    ) -> None:
        self._hooks = hooks
        self._inheritance = inheritance
        self._bookkeeping = bookkeeping
        self._oracle = oracle
        self._trackers = trackers
        self._budget = budget
        self._plan = plan
        self._deterministic = deterministic
        self._trained_by = trained_by
        # Epochs of a full training, where the oracle trains some trials shorter.
        self._full_epochs: int | None = None
        self._running: RunningTrial | None = None
        self._execution: _Execution | None = None
        given: keras_tuner.HyperParameters | None = getattr(oracle, "given_hyperparameters", None)
        # An oracle of KerasTuner that has loaded no search has only what it was given.
        space = oracle.get_space() if given is None else given
        self._given = frozenset(item.name for item in space.space)
        # Hyperparameters whose other ranges were reported.
        self._warned: set[str] = set()
        #: Recognizes ranges that were changed before the search was resumed.
        self.ranges: RangeChecks = UnconfirmedRanges()

    def move_project(self, folder: Path) -> None:
        """Have trials write to another project folder, in a worker.

        Args:
            folder: The project folder.
        """
        self._hooks.directory, self._hooks.project_name = str(folder.parent), folder.name

    def prepare(self, fit: FitArguments, ranges: RangeChecks) -> None:
        """Set the number of epochs of a full training before a search, as agreed with the oracle.

        Args:
            fit: What `search` was called with.
            ranges: Recognizes ranges that were changed before the search was resumed.
        """
        self.ranges = ranges
        self._full_epochs = agree_on_epochs(self._oracle, fit)

    # ------------------------------------------------------------------ a trial

    def train(self, trial: Trial, fit: FitArguments) -> TrialOutcome:
        """Train a trial through the tuner's `run_trial`.

        Args:
            trial: The trial.
            fit: What `search` was called with.

        Returns:
            How it ended, errors and interrupts included: nothing is raised.
        """
        # An oracle of KerasTuner has no screen; a worker process has a substitute for its oracle.
        screened_metrics = getattr(self._oracle, "screened_metrics", None)
        screened: Mapping[str, float] = (
            {} if screened_metrics is None else screened_metrics(trial.trial_id)
        )
        folder = Path(self._hooks.get_trial_dir(trial.trial_id))
        running = self._running = RunningTrial(
            trial, self._plan, screened, folder, self._bookkeeping
        )
        running.epochs = fit.epochs or 1  # Keras' default
        trial.hyperparameters = CheckedHyperParameters.of(
            trial.hyperparameters,
            exempt=self._given,
            warned=self._warned,
            ranges=self.ranges,
        )
        args, kwargs = fit.made().to_fit()
        try:
            self._trackers.trial_started(trial.trial_id, running.values())
            returned = self._hooks.run_trial(trial, *args, **kwargs)
            reported = self._reported(running)
            result = reported.result if reported else self._result(returned, running)
        except (KeyboardInterrupt, SystemExit, BudgetExhaustedError, ChangedRangeError) as error:
            return TrialOutcome(trial, running.record(KILLED, error=error), error)
        except Exception as error:
            interrupt = interrupt_behind(error)
            if interrupt is not None:
                return TrialOutcome(trial, running.record(KILLED, error=interrupt), interrupt)
            trial.message = traceback.format_exc()
            failed = isinstance(error, keras_tuner.errors.FailedTrialError)
            trial.status = TrialStatus.FAILED if failed else TrialStatus.INVALID
            record = running.record(FAILED, error=error)
            return TrialOutcome(trial, record, error if isinstance(error, FATAL) else None)
        finally:
            self._running = None
        record = running.record(FINISHED, result=result, returned=returned)
        return TrialOutcome(trial, record, reported=reported is not None)

    def _reported(self, running: RunningTrial) -> ReportedMetrics | None:
        """What an overridden `run_trial` reported itself, as KerasTuner allows."""
        if self._trained_by != RUN_TRIAL:
            return None
        trial_id, oracle = running.trial.trial_id, self._hooks.oracle
        reported = ReportedMetrics.of(oracle.get_trial(trial_id), oracle.objective)
        if reported is not None:
            reported.enter(running)
        return reported

    def _result(self, returned: object, running: RunningTrial) -> Result:
        objective = self._hooks.oracle.objective
        return result_of(returned, objective, running.costs, source=self._trained_by)

    def run(self, trial: Trial, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """Build and train the model of a trial, once per execution.

        Args:
            trial: The trial.
            args: Positional arguments of `fit`.
            kwargs: Keyword arguments of `fit`.

        Returns:
            What `HyperModel.fit` returned, per execution.
        """
        fidelity = fidelity_of(trial.hyperparameters.values)
        objective = trained_part(self._hooks.oracle.objective)
        continuation, fit = self._continued(
            fidelity, FitArguments.bind(args, kwargs, self._hooks.hypermodel)
        )
        source, fit = self._source(trial, fidelity, fit)
        best = BestWeights(
            objective,
            self._hooks._get_checkpoint_fname(trial.trial_id),
            continuation.best(objective) if continuation else None,
        )
        results = []
        for execution in range(self._hooks.executions_per_trial):
            if self._deterministic:
                keras.utils.set_random_seed(self._execution_seed(trial, execution))
            callbacks = [
                *self._user_callbacks(trial, fit, execution, continuation),
                *self._own_callbacks(trial),
                best,
                *self._last_epoch(trial, fidelity, execution),
            ]
            state = continuation.states[execution] if continuation else None
            result = self._execute(trial, best, fit.replace(callbacks=callbacks), state, source)
            if self._trained_by == RUN_TRIAL:  # which called this method
                check_result_type(result, "HyperModel.fit")
            results.append(
                continuation.prepend_epochs(result, execution) if continuation else result
            )
        return results

    def _continued(
        self, fidelity: Fidelity | None, fit: FitArguments
    ) -> tuple[Continuation | None, FitArguments]:
        """What a trial continues, and the arguments of `fit` with the trial's epochs."""
        continuation, first_epoch = None, fit.initial_epoch
        if fidelity is not None:
            first_epoch = fidelity.initial_epoch
            if self._full_epochs is not None:
                continuation = self._continuation(fidelity.parent)
                first_epoch = first_epoch if continuation else 0
            fit = fit.replace(initial_epoch=first_epoch, epochs=fidelity.epochs)
        if self._running is not None:
            self._running.first_epoch = first_epoch
        return continuation, fit

    def _source(
        self, trial: Trial, fidelity: Fidelity | None, fit: FitArguments
    ) -> tuple[Source | None, FitArguments]:
        """The trial whose weights a trial starts from, and the arguments of `fit` with its epochs.

        A promoted trial continues its own training, which may have started so.
        """
        if self._inheritance is None:
            return None, fit
        lineage = Lineage()
        promoted = fidelity.parent if fidelity is not None else None
        source = None
        if promoted is None:
            source = source_of(self._hooks, trial.trial_id)
            lineage = Lineage() if source is None else source.lineage
        elif self._running is not None and self._running.first_epoch:
            lineage = lineage_of(self._hooks, promoted)
        if source is not None and fidelity is None:
            fit = epochs_of(self._inheritance, fit)
        if self._running is not None:
            self._running.lineage = lineage
        return source, fit

    def _inherit(self, model: keras.Model, trial: Trial, fit: FitArguments) -> None:
        """Replace the weights of a new model, unless it starts from random weights."""
        source = self._execution.source if self._execution is not None else None
        if source is None:
            return
        try:
            with self.outside_execution():
                transfer = inherit(self._hooks, model, trial, source, fit)
            if not transfer.inherited and self._running is not None:
                self._running.lineage = Lineage()  # no layer corresponds to another
        except Exception as error:  # whatever the user's `build` raises for other values
            logger.warning(
                "Trial %s starts from random weights, because those of trial %s cannot be used: "
                "%s",
                trial.trial_id,
                source.trial_id,
                error_line(error),
            )
            if self._running is not None:
                self._running.lineage = Lineage()

    def _continuation(self, parent: str | None) -> Continuation | None:
        if parent is None:
            return None
        return continuation_of(
            parent,
            ProjectLayout.of(self._hooks.project_dir),
            Path(self._hooks._get_checkpoint_fname(parent)),
            self._hooks.executions_per_trial,
        )

    # ------------------------------------------------------------------ callbacks

    def _user_callbacks(
        self, trial: Trial, fit: FitArguments, execution: int, continuation: Continuation | None
    ) -> list[keras.callbacks.Callback]:
        """Copies of the user's callbacks, prepared for one execution."""
        callbacks = self._hooks._deepcopy_callbacks(fit.callbacks)
        if any(type(callback).__name__ == "TensorBoard" for callback in callbacks):
            self._hooks._configure_tensorboard_dir(callbacks, trial, execution)
        for callback in callbacks:
            if hasattr(callback, "set_project"):
                epochs = continuation.epochs[execution] if continuation else None
                callback.set_project(self._hooks.project_dir, epochs)
        return callbacks

    def _own_callbacks(self, trial: Trial) -> list[keras.callbacks.Callback]:
        batch_hooks = ("on_batch_begin", "on_batch_end")
        overridden = any(
            getattr(type(self._hooks), hook) is not getattr(keras_tuner.Tuner, hook)
            for hook in batch_hooks
        )
        callback = (BatchTrialCallback if overridden else TrialCallback)(
            self._hooks,
            trial,
            lambda epoch, logs: self._trackers.epoch_ended(trial.trial_id, epoch, logs),
        )
        if self._running is not None:
            self._running.curves.append(callback.curve)
        deadline = self._budget.deadline
        return [callback] if deadline is None else [callback, Deadline(deadline)]

    def _last_epoch(
        self, trial: Trial, fidelity: Fidelity | None, execution: int
    ) -> list[keras.callbacks.Callback]:
        """The callback that saves the state for a promotion, if the trial may be promoted."""
        if fidelity is None or fidelity.epochs >= (self._full_epochs or 0):
            return []
        layout = ProjectLayout.of(self._hooks.project_dir).trial(trial.trial_id)
        return [LastEpoch(layout.last_epoch(execution))]

    def _execution_seed(self, trial: Trial, execution: int) -> int:
        """A seed for one execution that does not depend on what ran before."""
        seed = getattr(self._oracle, "seed", None) or 0
        return (seed * 1_000_003 + zlib.crc32(trial.trial_id.encode()) + execution) % 2**31

    # ------------------------------------------------------------------ an execution

    def _execute(
        self,
        trial: Trial,
        best: BestWeights,
        fit: FitArguments,
        state: Path | None,
        source: Source | None = None,
    ) -> object:
        """One training, around the hook that subclasses may override."""
        deadlines = [callback for callback in fit.callbacks if isinstance(callback, Deadline)]
        started_at = time.monotonic()
        execution = self._execution = _Execution(state, source)
        args, kwargs = fit.to_fit()
        try:
            results = self._hooks._build_and_fit_model(trial, *args, **kwargs)
        finally:
            self._execution = None
            for deadline in deadlines:
                # Keras does not call `on_train_end` after an exception.
                deadline.on_train_end()
        if any(deadline.fired for deadline in deadlines):
            raise BudgetExhaustedError(
                f"`budget` of {self._budget.seconds} seconds ended during the trial"
            )
        model = best.model
        if execution.built is not None:
            model, started_at = execution.built.model, execution.built.built_at
        seconds = time.monotonic() - started_at
        if model is not None:
            self._save_model(model, trial, best)
        if self._running is not None:
            self._running.add_execution(model, seconds, functools.partial(export_rows, fit))
        return results

    def build_and_fit(
        self, trial: Trial, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> object:
        """Build the model of a trial and fit it.

        Args:
            trial: The trial.
            args: Positional arguments of `fit`.
            kwargs: Keyword arguments of `fit`.

        Returns:
            What `HyperModel.fit` returned.
        """
        model = self._hooks._try_build(trial.hyperparameters)
        self._continue_from_parent(model, trial)
        fit = FitArguments.bind(args, kwargs, self._hooks.hypermodel)
        self._inherit(model, trial, fit)
        create_variables(model, fit)
        values = configuration(trial.hyperparameters.values)
        folder = Path(self._hooks.get_trial_dir(trial.trial_id))
        save_architecture(self._hooks.hypermodel, values, folder, self._bookkeeping)
        if self._running is not None:
            self._running.describe(model)
        hypermodel = self._hooks.hypermodel
        args, kwargs = without_copies(hypermodel, model, args, kwargs)
        args, kwargs = with_data_sets(hypermodel, model, args, kwargs)
        return hypermodel.fit(trial.hyperparameters, model, *args, **kwargs)

    def fit_from_scratch(
        self, trial: Trial, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> keras.Model | None:
        """Build and fit the model of a trial, outside of any search.

        Args:
            trial: The trial.
            args: Positional arguments of `fit`.
            kwargs: Keyword arguments of `fit`.

        Returns:
            The model after its last epoch; None where a subclass built it elsewhere.
        """
        execution = self._execution = _Execution()
        try:
            self._hooks._build_and_fit_model(trial, *args, **kwargs)
        finally:
            self._execution = None
        return execution.built.model if execution.built else None

    @contextlib.contextmanager
    def outside_execution(self) -> Iterator[None]:
        """Models that are built in this block are not the one that is being trained.

        A subclass may load the model of another trial while it trains, to start from its weights.
        """
        execution, self._execution = self._execution, None
        try:
            yield
        finally:
            self._execution = execution

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build a model and check it.

        Args:
            hp: The configuration.

        Raises:
            HyperModelError: The hypermodel did not return a model.
            NewEntriesError: The hypermodel used hyperparameters that are not allowed.
            keras_tuner.errors.FailedTrialError: The model is larger than ``max_model_size``.
        """
        memory.forget_models()
        space_size = len(hp.space)
        model = self._hooks._build_hypermodel(hp)
        if not isinstance(model, keras.Model):
            raise HyperModelError(
                "`hypermodel` must have a build(hp) that returns a compiled keras.Model; "
                f"got {type(model).__name__}"
            )
        if not self._hooks.oracle.allow_new_entries and len(hp.space) > space_size:
            new = [parameter.name for parameter in hp.space[space_size:]]
            raise NewEntriesError(
                "`hyperparameters` must contain all hyperparameters of the hypermodel where "
                f"`allow_new_entries=False`; got new ones: {new}"
            )
        self._check_size(model)
        if self._execution is not None:
            self._execution.built = BuiltModel(model, time.monotonic())
        return model

    def _check_size(self, model: keras.Model) -> None:
        limit = self._hooks.max_model_size
        if limit is None or not model.built:
            return
        size = sum(math.prod(weight.shape) for weight in model.trainable_weights)
        if size > limit:
            raise keras_tuner.errors.FailedTrialError(
                f"`max_model_size` allows {limit:,} trainable parameters; this model has {size:,}"
            )

    def _continue_from_parent(self, model: keras.Model, trial: Trial) -> None:
        """Load the state that a promoted trial continues from; other trials are left unchanged.

        For KerasTuner's Hyperband these are the best weights, as in its own tuner; for a
        multi-fidelity oracle of this package everything that training depends on.
        """
        fidelity = fidelity_of(trial.hyperparameters.values)
        if fidelity is None or fidelity.parent is None:
            return
        if self._full_epochs is None:
            checkpoint = self._hooks._get_checkpoint_fname(fidelity.parent)
            restore(self._hooks, model, fidelity.parent, checkpoint)
        elif self._execution is not None and self._execution.state is not None:
            restore(self._hooks, model, fidelity.parent, self._execution.state, load_state)

    def _save_model(self, model: keras.Model, trial: Trial, best: BestWeights) -> None:
        try:
            best.save(model)
            self._save_build_config(model, trial)
        except OSError as error:
            # A full disk is not an error of the model: the trial runs again on resume.
            raise StateError(
                f"`directory` must have space for the model of trial {trial.trial_id}; writing to "
                f"{self._hooks.get_trial_dir(trial.trial_id)!r} failed: {error.strerror or error}"
            ) from error
        except Exception as error:  # Keras and the layers of a user raise their own
            self._bookkeeping.report(
                "a model was not saved, so that it can be neither loaded nor registered", error
            )

    def _save_build_config(self, model: keras.Model, trial: Trial) -> None:
        """Write what a model without `keras.Input` is built with when it is loaded."""
        try:
            path = self._hooks._get_build_config_fname(trial.trial_id)
            write_json(path, model.get_build_config())
        except OSError:
            raise
        except Exception as error:
            self._bookkeeping.report("the input shapes of a model are not recorded", error)
