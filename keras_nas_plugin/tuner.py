"""`NASTuner`: the one place where a trial is built, checked, trained, measured and tracked."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin import project
from keras_nas_plugin.errors import BudgetExhaustedError
from keras_nas_plugin.evaluation.datasets import sample_rows
from keras_nas_plugin.evaluation.results import result_of
from keras_nas_plugin.files import write_json
from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.roles import is_chief, is_worker
from keras_nas_plugin.space.discovery import discover
from keras_nas_plugin.tracking.autolog import autolog_disabled
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.fanout import Fanout, note_runs
from keras_nas_plugin.tracking.records import (
    FAILED,
    FINISHED,
    KILLED,
    SearchInfo,
    Status,
    TrialRecord,
    load_records,
)
from keras_nas_plugin.training import costing, runtime, session
from keras_nas_plugin.training.budget import Budget
from keras_nas_plugin.training.checks import belongs_to, check_arguments, check_space
from keras_nas_plugin.training.closing import leave_report
from keras_nas_plugin.training.describe import search_info, warn_of_other_data
from keras_nas_plugin.training.proxying import prepare_proxies
from keras_nas_plugin.training.results import SearchResults
from keras_nas_plugin.training.running import FATAL, RunningTrial

logger = logging.getLogger("keras_nas_plugin")

_IDLE_SECONDS = 0.2  # between questions; KerasTuner asks without a pause


class NASTuner(SearchResults):
    """Runs a search: a `keras_tuner.Tuner` for any oracle, with tracking.

    ```python
    oracle = RegularizedEvolutionOracle("val_accuracy", max_trials=50)
    tuner = NASTuner(build_model, oracle=oracle, tracker=MLflowTracker(experiment="fashion"))
    tuner.search(x, y, epochs=10, validation_data=(x_val, y_val))
    tuner.register_best("fashion-classifier")
    ```

    A search that was interrupted goes on when the same program runs again with the same
    ``directory`` and ``project_name``.

    Args:
        hypermodel: A function ``build(hp)`` that returns a compiled `keras.Model`, or a
            `keras_tuner.HyperModel`.
        oracle: Any `keras_tuner.Oracle`, of this package or not.
        tracker: Where trials are logged, for example an `MLflowTracker`; None logs nowhere.
        listeners: Further trackers that only watch, for example a progress display.
        measure: Costs that each trial has beside ``parameters``, ``flops`` and
            ``peak_memory_bytes``: ``"latency"``, ``"energy"`` (measured where the machine says
            what it uses, else ``energy_estimate_mj``). What an objective or a constraint is
            about is measured anyway. Constraints on costs are checked before training.
        precision: Keras dtype policy during the search, for example
            ``"mixed_float16"``; None leaves the process's own.
        deterministic: Whether to seed each execution from the oracle's seed and to ask
            the backend for deterministic operations (slower; TensorFlow keeps that
            setting until the process ends).
        budget: Seconds of wall clock per call of `search`. No trial is started that takes
            longer than what is left, judged by the longest so far; one that is cut off
            runs again on the next call.
        dataset: What people call the data, for the tracker.
        resume_command: Shell command that goes on with this search, for the tracker.
        executions_per_trial: Trainings per trial, whose mean counts.
        max_model_size: Most trainable parameters; a larger model is a failed trial.
        distribution_strategy: A `tf.distribute.Strategy`, or ``"mirrored"``.
        optimizer, loss, metrics: Override those of each model.
        directory: Folder of all searches.
        project_name: Folder of this search inside it.
        overwrite: Whether to delete an earlier search of that name; else it goes on.
        tuner_id: This worker's name, for KerasTuner's chief/worker service.

    Raises:
        NASError: An argument is not what it needs to be; the message names it.
    """

    def __init__(
        self,
        hypermodel: Any = None,
        oracle: keras_tuner.Oracle | None = None,
        *,
        tracker: Tracker | None = None,
        listeners: Sequence[Tracker] = (),
        measure: Sequence[str] = (),
        precision: str | None = None,
        deterministic: bool = False,
        budget: float | None = None,
        dataset: str = "data",
        resume_command: str | None = None,
        executions_per_trial: int = 1,
        max_model_size: int | None = None,
        distribution_strategy: Any = None,
        optimizer: Any = None,
        loss: Any = None,
        metrics: Any = None,
        directory: str | os.PathLike | None = None,
        project_name: str | None = None,
        overwrite: bool = False,
        tuner_id: str | None = None,
    ) -> None:
        custom_run = type(self).run_trial is not NASTuner.run_trial
        check_arguments(hypermodel, oracle, tracker, executions_per_trial, custom_run=custom_run)
        runtime.check_precision(precision)
        folder = project.check_writable(directory or ".", project_name or "untitled_project")
        self.tracker = tracker
        self.budget = budget
        self.dataset = dataset
        self.resume_command = resume_command
        #: Why the last search ended before its trials were used up, or None.
        self.stopped_by: str | None = None
        self._named = tuner_id
        self._plan = costing.cost_plan(oracle, measure)
        runtime.prepare_devices()
        if deterministic:
            runtime.make_deterministic()
        super().__init__(
            precision=precision,
            deterministic=deterministic,
            listeners=Fanout([tracker, *listeners]),
            oracle=oracle,
            hypermodel=hypermodel,
            max_model_size=max_model_size,
            optimizer=optimizer,
            loss=loss,
            metrics=metrics,
            distribution_strategy=runtime.distribution(distribution_strategy),
            directory=str(folder.parent),
            project_name=folder.name,
            # A worker that starts late must not delete what the others have done.
            overwrite=overwrite and not is_worker(),
            executions_per_trial=executions_per_trial,
            tuner_id=tuner_id,
        )
        if not is_worker():
            costing.install_screen(self)
        # KerasTuner resumes by the tuner's own file, and writes it after the first trial.
        self.save()

    def _populate_initial_space(self) -> None:
        if self.hypermodel is None:
            return
        hyperparameters = self.oracle.get_space()
        self.hypermodel.declare_hyperparameters(hyperparameters)
        self.oracle.update_space(hyperparameters)
        discover(self.hypermodel.build, self.oracle.get_space, self.oracle.update_space)

    # ------------------------------------------------------------------ the search

    @property
    def search_id(self) -> str:
        """Unique id of this search; a resumed one keeps it."""
        return project.search_id(Path(self.project_dir))

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Run trials until the oracle stops or the budget ends.

        Args:
            *fit_args: Positional arguments of `model.fit`.
            **fit_kwargs: Keyword arguments of `model.fit`.

        Raises:
            ObjectiveError: Training does not report the objective.
            SearchSpaceError: There is nothing to search.
            StateError: Another process runs this search.
            HyperModelError: The hypermodel returns something else than it needs to.
            TooManyFailuresError: Too many trials failed in a row.
            InfeasibleError: No candidate at all keeps the constraints on costs.
            KeyboardInterrupt: By the user; the running trial runs again on resume.
        """
        if "verbose" in fit_kwargs and not is_worker():
            self.oracle.verbose = fit_kwargs["verbose"]
        self._check_space(before=True)
        self._plan_epochs(fit_args, fit_kwargs)
        self.stopped_by = None
        self._sample = sample_rows(fit_args[0] if fit_args else fit_kwargs.get("x"))
        self._searched_with = fit_args, fit_kwargs
        prepare_proxies(self, fit_args, fit_kwargs)
        with (
            project.driven(self.project_dir, alone=not is_worker()),
            runtime.precision(self.precision),
            session.search_session(),
            autolog_disabled(),
            self._tracked(search_info(self, fit_args, fit_kwargs)),
        ):
            if is_chief():
                self._serve(*fit_args, **fit_kwargs)
            else:
                self.on_search_begin()
                self._run_trials(fit_args, fit_kwargs)
                self.on_search_end()
        if not is_worker():  # whose chief may be gone by now
            self._check_space(before=False)

    def _serve(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Hand trials out to worker processes until all are done."""
        self._local_oracle.fatal_error_is_raised = True
        super().search(*fit_args, **fit_kwargs)
        error = getattr(self._local_oracle, "fatal_error", None)
        if error is not None:
            raise error

    @contextlib.contextmanager
    def _tracked(self, info: SearchInfo) -> Iterator[None]:
        warn_of_other_data(SearchInfo.load(self.project_dir), info)
        info.save()
        self._trackers.search_started(info, load_records(self.project_dir))
        status: Status = FAILED
        try:
            yield
            status = FINISHED
        except (KeyboardInterrupt, SystemExit):
            status = KILLED
            if self.resume_command is None:
                logger.warning("Interrupted. Run the same program again to go on.")
            raise
        finally:
            if is_worker():  # one that is done does not end the search of the others
                self._trackers.flush()
            else:
                costing.save_refusals(self)
                leave_report(self.project_dir, self._trackers)
                self._trackers.search_ended(status)
                note_runs(self._trackers, self.project_dir)

    def _run_trials(self, fit_args: Sequence[Any], fit_kwargs: Mapping[str, Any]) -> None:
        self._limit = Budget(self.budget, [r.seconds for r in load_records(self.project_dir)])
        while True:
            if not self._limit.allows_another():
                self.stopped_by = "budget"
                return
            self.pre_create_trial()
            try:
                trial = self.oracle.create_trial(self.tuner_id)
                if trial.status == TrialStatus.STOPPED:
                    given_up = getattr(self._local_oracle, "stop_reason", None)
                    self.stopped_by = "infeasible" if given_up else None
                    return
                if trial.status == TrialStatus.IDLE:
                    time.sleep(_IDLE_SECONDS)
                    continue
                costing.save_refusals(self)
                self.on_trial_begin(trial)
                self._run(trial, fit_args, fit_kwargs)
            except BudgetExhaustedError:
                self.stopped_by = "budget"
                return
            self.on_trial_end(trial)

    def _run(self, trial: Trial, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Train a trial, unless it had finished when an earlier process died."""
        folder = Path(self.get_trial_dir(trial.trial_id))
        record = TrialRecord.load(folder)
        if record is None or not belongs_to(record, trial):
            TrialRecord.discard(folder)
            record = self._train(trial, folder, args, kwargs)
            record.save(folder)
        elif record.hyperparameters is not None:
            known = keras_tuner.HyperParameters.from_config(record.hyperparameters)
            trial.hyperparameters = known
        self._trackers.trial_ended(record)
        self._limit.took(record.seconds)
        if record.status == FINISHED:
            metrics = costing.reported_metrics(self._local_oracle, record)
            self.oracle.update_trial(trial.trial_id, metrics, step=record.best_step)
            trial.status = TrialStatus.COMPLETED

    def _train(self, trial: Trial, folder: Path, args: Sequence, kwargs: Mapping) -> TrialRecord:
        known = getattr(self._local_oracle, "screened_metrics", lambda _: {})(trial.trial_id)
        running = self._running = RunningTrial(trial, self._plan, known, folder)
        try:
            self._trackers.trial_started(trial.trial_id, running.values())
            returned = self.run_trial(trial, *args, **kwargs)
            result = result_of(returned, self.oracle.objective, running.costs)
        except (KeyboardInterrupt, SystemExit, BudgetExhaustedError) as error:
            self._trackers.trial_ended(running.record(KILLED, error=error))
            raise
        except Exception as error:
            trial.message = traceback.format_exc()
            failed = isinstance(error, keras_tuner.errors.FailedTrialError)
            trial.status = TrialStatus.FAILED if failed else TrialStatus.INVALID
            record = running.record(FAILED, error=error)
            if isinstance(error, FATAL):
                self._trackers.trial_ended(record)
                raise
            return record
        finally:
            self._running = None
        return running.record(FINISHED, result=result, returned=returned)

    # ------------------------------------------------------------------ state

    def save(self) -> None:
        """Write the state; after the first time there is nothing of the tuner's own."""
        if not is_worker() and not isinstance(self._local_oracle, NASOracle):
            self.oracle.save()
        path = Path(self._get_tuner_fname())
        if not path.exists():
            if not is_worker():
                self._local_oracle.save()
            write_json(path, self.get_state())

    def _get_tuner_fname(self) -> str:
        # KerasTuner (1.4.8) looks for the file before it knows `tuner_id`, and never finds it.
        return os.path.join(str(self.project_dir), f"{self._named or self.tuner_id}.json")

    def _check_space(self, *, before: bool) -> None:
        """Refuse a space in which every trial would be the same."""
        custom_run = type(self).run_trial is not NASTuner.run_trial
        fit = getattr(type(self.hypermodel), "fit", None)
        custom_fit = fit is not keras_tuner.HyperModel.fit
        if before and (custom_run or custom_fit):
            # Training may ask for hyperparameters that building does not know.
            return
        check_space(self.oracle.get_space())
