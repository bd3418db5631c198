"""`NASTuner`: a `keras_tuner.Tuner` that searches with any oracle, and tracks every trial."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin import project
from keras_nas_plugin.errors import RetrainingError, unknown_argument
from keras_nas_plugin.executors.base import ExecutorSettings
from keras_nas_plugin.executors.loop import SearchLoop
from keras_nas_plugin.executors.select import joins_chief, leave_chief, select_executor
from keras_nas_plugin.inheritance.settings import Inheritance
from keras_nas_plugin.oracles.stock import make_resumable
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.dataframe import trials_dataframe
from keras_nas_plugin.records.overwritten import OverwrittenSearch
from keras_nas_plugin.records.retraining import RetrainConfig, RetrainedModel, Retraining
from keras_nas_plugin.retraining.results import SearchResults
from keras_nas_plugin.roles import Role
from keras_nas_plugin.space.declarations import ChangedRangeError
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.composite import CompositeTracker
from keras_nas_plugin.training import memory, runtime
from keras_nas_plugin.training.bookkeeping import Bookkeeping
from keras_nas_plugin.training.budget import Budget
from keras_nas_plugin.training.changes import (
    CONTINUE,
    begin_search,
    check_on_change,
    report_completion,
)
from keras_nas_plugin.training.checks import (
    check_arguments,
    hypermodel_and_oracle,
    warn_if_constant,
)
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.costing import CostScreen, Measure, cost_plan, install_screen
from keras_nas_plugin.training.data_checks import check_before_training
from keras_nas_plugin.training.describe import print_summary, search_html, search_info
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.models import TrialModels
from keras_nas_plugin.training.proxying import prepare_scoring
from keras_nas_plugin.training.reported import training_method
from keras_nas_plugin.training.resuming import ResumableSearch
from keras_nas_plugin.training.search_session import SearchSession
from keras_nas_plugin.training.trainer import TrialTrainer
from keras_nas_plugin.training.trial_times import own_listeners

if TYPE_CHECKING:
    import pandas as pd

    from keras_nas_plugin.tracking.model_registry import RegisteredModel

#: A user's function that builds and compiles a model.
BuildFunction = Callable[[keras_tuner.HyperParameters], keras.Model]
#: One of the first two positional arguments of `NASTuner`.
HyperModelOrOracle: TypeAlias = keras_tuner.HyperModel | BuildFunction | keras_tuner.Oracle


class NASTuner(keras_tuner.Tuner):
    """Runs a search: a `keras_tuner.Tuner` for any oracle, with tracking.

    ```python
    oracle = RegularizedEvolutionOracle("val_accuracy", max_trials=50)
    tuner = NASTuner(build_model, oracle=oracle, tracker=MLflowTracker(experiment="fashion"))
    tuner.search(x, y, epochs=10, validation_data=(x_val, y_val))
    tuner.register_best("fashion-classifier")
    ```

    A search that was interrupted resumes when the same program runs again with the same
    ``directory`` and ``project_name``.

    Args:
        hypermodel: A function ``build(hp)`` that returns a compiled `keras.Model`, or a
            `keras_tuner.HyperModel`; optional if a subclass overrides `run_trial` and does not
            use it.
        oracle: Any `keras_tuner.Oracle`, of this package or not. The hypermodel and the oracle
            may be given by name or by position, in either order; `keras_tuner.Tuner` has the
            oracle first. The arguments from ``max_model_size`` to ``executions_per_trial`` may
            follow them by position, in the order of `keras_tuner.Tuner`.
        tracker: Where trials are logged, for example an `MLflowTracker`; None logs nowhere.
        listeners: Further trackers, for example a progress display.
        measure: Costs that each trial has in addition to ``parameters``, ``flops`` and
            ``peak_memory_bytes``: ``"latency"``, ``"energy"`` (an estimate where the machine has
            no meter), those of exported models (``"litert_int8_bytes"``), or a `LatencyTable`.
            What objectives and constraints use is always measured.
        precision: Keras dtype policy during the search, for example ``"mixed_float16"``; None
            leaves the policy of the process unchanged.
        deterministic: Whether to seed each execution from the oracle's seed and to ask the backend
            for deterministic operations (slower; TensorFlow keeps that setting until the process
            ends).
        budget: Wall-clock limit of each call of `search`, in seconds. A trial starts only if the
            longest trial so far would fit into the remaining time. A trial that is interrupted by
            the end of the budget runs again on the next call.
        dataset: Name of the data, for the tracker.
        resume_command: Shell command that resumes this search, for the tracker.
        executions_per_trial: Number of trainings per trial; the score is their mean.
        max_model_size: Maximum number of trainable parameters; a trial with a larger model fails.
        distribution_strategy: A `tf.distribute.Strategy`, or ``"mirrored"``.
        optimizer: Replaces the optimizer of each model.
        loss: Replaces the loss of each model.
        metrics: Replace the metrics of each model.
        directory: Folder of all searches; None for ``searches``, as on the command line.
        project_name: Folder of this search inside it.
        logger: Ignored with a `DeprecationWarning`, as by `keras_tuner.Tuner`.
        overwrite: Whether to delete an existing search of that name; otherwise it is resumed.
        tuner_id: This worker's name, for KerasTuner's chief/worker service.
        on_change: What a resumed search does if the program has changed its search space, epochs,
            data or other settings. ``"continue"`` says what was changed, and continues as the
            program is now: earlier trials that are not in the present space, or were trained for
            other epochs, stay on record, but are never the best, not learned from, and not
            counted in ``max_trials``. ``"error"`` raises a StateError with the differences.
        retry_failed: Whether each call of `search` first runs the failed trials again, with the
            same values.
        inherit: ``"parent"`` or an `Inheritance`: trials that the strategy derives from another
            trial start from its weights. None starts all from random weights.
        executor: A `LocalExecutor` to run several trials at once; None for one, in this process.

    Raises:
        ArgumentError: An argument is invalid or unknown; the message names it.
        NASError: The oracle does not fit; the message says why.
    """

    #: `track` is for other tuners.
    tracks_itself = True

    def __init__(
        self,
        hypermodel_or_oracle: HyperModelOrOracle | None = None,
        oracle_or_hypermodel: HyperModelOrOracle | None = None,
        /,
        max_model_size: int | None = None,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        loss: str | keras.losses.Loss | None = None,
        metrics: Sequence[str | keras.metrics.Metric] | None = None,
        distribution_strategy: object = None,
        directory: str | os.PathLike[str] | None = None,
        project_name: str | None = None,
        logger: object = None,
        tuner_id: str | None = None,
        overwrite: bool = False,
        executions_per_trial: int = 1,
        *,
        hypermodel: keras_tuner.HyperModel | BuildFunction | None = None,
        oracle: keras_tuner.Oracle | None = None,
        tracker: Tracker | None = None,
        listeners: Sequence[Tracker] = (),
        measure: Sequence[Measure] = (),
        precision: str | None = None,
        deterministic: bool = False,
        budget: float | None = None,
        dataset: str = "data",
        resume_command: str | None = None,
        on_change: str = CONTINUE,
        retry_failed: bool = False,
        inherit: str | Inheritance | None = None,
        executor: ExecutorSettings | None = None,
        **unknown: Any,
    ) -> None:
        check_on_change(on_change)
        if unknown:
            raise unknown_argument(type(self), unknown)
        hypermodel, oracle = hypermodel_and_oracle(
            (hypermodel_or_oracle, oracle_or_hypermodel), hypermodel, oracle
        )
        check_arguments(
            hypermodel, oracle, tracker, executions_per_trial, custom_run=self._custom_run
        )
        make_resumable(oracle)
        runtime.check_precision(precision)
        directory = directory or project.default_directory(project_name)
        folder = project.check_writable(directory, project_name or project.UNTITLED)
        plan = cost_plan(oracle, measure)
        self.tracker = tracker
        self.precision = precision
        self.deterministic = deterministic
        self.dataset = dataset
        self.resume_command = resume_command
        #: How the data were prepared, for the tracker: further settings of the search, by name.
        self.data_settings: dict[str, Any] = {}
        #: Why the last search ended before its trials were used up, or None.
        self.stopped_by: str | None = None
        self.on_change = on_change
        self.retry_failed = retry_failed
        self.inheritance = Inheritance.of(inherit)
        self.executor = executor
        self._role = Role.of_process()
        self._local_oracle = oracle  # in a worker process, `self.oracle` becomes a client
        self._saved = ResumableSearch(
            self, oracle, role=self._role, on_change=on_change, tuner_id=tuner_id
        )
        self._budget = Budget(budget)
        self._bookkeeping = Bookkeeping()
        self._trackers = CompositeTracker([tracker, *listeners, *own_listeners(oracle, budget)])
        self._models = TrialModels(self, precision)
        self._results = SearchResults(self, tracker)
        self._trainer = TrialTrainer(
            self,
            oracle=oracle,
            trackers=self._trackers,
            budget=self._budget,
            plan=plan,
            deterministic=deterministic,
            bookkeeping=self._bookkeeping,
            trained_by=training_method(type(self), NASTuner),
            inheritance=self.inheritance,
        )
        runtime.prepare_devices()
        if deterministic:
            runtime.make_deterministic()
        replaced = OverwrittenSearch.of(folder) if overwrite and self._role.owns_search else ()
        super().__init__(
            oracle=oracle,
            hypermodel=hypermodel,
            max_model_size=max_model_size,
            optimizer=optimizer,
            loss=loss,
            metrics=metrics,
            distribution_strategy=runtime.distribution(distribution_strategy),
            directory=directory,
            project_name=project_name,
            logger=logger,
            # A worker that starts late must not delete the trials of the others.
            overwrite=overwrite and self._role.owns_search,
            executions_per_trial=executions_per_trial,
            tuner_id=tuner_id,
        )
        if self._role is Role.WORKER:
            from keras_nas_plugin.executors.service.client import ChiefClient

            self.oracle = ChiefClient(oracle, Path(self.project_dir))
        OverwrittenSearch.save(self.project_dir, replaced)  # which creates the folder again
        #: Judges candidates; a worker's candidates were judged by its chief.
        self._screen: CostScreen | None = None
        if self._role.owns_search:
            build = self._build_hypermodel if self.hypermodel is not None else None
            self._screen = install_screen(oracle, build, plan, precision, self._budget)
        self._saved.save_new()

    # ------------------------------------------------------------------ the search

    @property
    def search_id(self) -> str:
        """Unique id of this search; a resumed search keeps it."""
        return project.search_id(Path(self.project_dir))

    @property
    def space_changes(self) -> tuple[str, ...]:
        """What the program has changed in the space of a resumed search."""
        return self._saved.space_changes

    @property
    def budget(self) -> float | None:
        """Wall-clock limit of each call of `search` in seconds, or None."""
        return self._budget.seconds

    @budget.setter
    def budget(self, seconds: float | None) -> None:
        self._budget.seconds = seconds

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Run trials until the oracle stops or the budget ends.

        Args:
            *fit_args: Positional arguments of `model.fit`; data may be a `DataFunction`.
            **fit_kwargs: Keyword arguments of `model.fit`.

        Raises:
            ObjectiveError: Training does not report the objective.
            SearchSpaceError: The hypermodel has hyperparameters that are not allowed.
            StateError: Another process runs this search.
            HyperModelError: The hypermodel returns no model, or training no result.
            TooManyFailuresError: Too many trials failed in a row.
            InfeasibleError: No candidate satisfies the constraints on costs.
            FitArgumentsError: No trial could be trained on the data.
            KeyboardInterrupt: By the user; the running trial runs again on resume.
        """
        given = FitArguments.bind(fit_args, fit_kwargs, self.hypermodel)
        fit = given.made()
        self._local_oracle.verbose = fit_kwargs.get("verbose", self._local_oracle.verbose)
        context = self._context()
        self._prepare(context, given)
        if not joins_chief(self.oracle):
            return None
        if not self._searches_while_training:
            warn_if_constant(self.oracle.get_space())
        try:
            with (
                runtime.precision(self.precision),
                memory.frozen_imports(),
                SearchSession(context) as session,
            ):
                self._check_data(context, fit)
                records = session.start(search_info(context, fit))
                ended = begin_search(context, retry=self.retry_failed)
                executor = select_executor(
                    self.executor, self._trainer, given, context, self.oracle, self.tuner_id
                )
                loop = SearchLoop(self, context, executor)
                if self._role.runs_trials:
                    self._budget.start(record.seconds for record in records)
                    self.on_search_begin()
                loop.run()
                if self._role.runs_trials:
                    self.stopped_by = loop.stopped_by
                    self.on_search_end()
                if self.stopped_by is None:
                    report_completion(context, ended)
        except ChangedRangeError as change:
            self._saved.continue_in_range(change)
            return self.search(*fit_args, **fit_kwargs)
        finally:
            leave_chief(self.oracle)
        if self._role.owns_search and self._searches_while_training:
            warn_if_constant(self.oracle.get_space())

    def _prepare(self, context: SearchContext, given: FitArguments) -> None:
        """Pass the arguments of a search to the parts that need them before its first trial."""
        fit = given.made()
        self._bookkeeping.restart()
        sample = self._bookkeeping.value(
            "the first rows cannot be read, so that `register_best` needs `sample`",
            fit.sample,
            None,
        )
        self.stopped_by = None
        self._trainer.prepare(fit, self._saved.range_checks)
        self._results.remember(given, fit.x, sample)
        prepare_scoring(context, fit)
        if self._screen is not None:
            self._screen.sample = sample

    def _check_data(self, context: SearchContext, fit: FitArguments) -> None:
        """Look at the data, unless a trial was trained before or another process trains."""
        builds = self._builds and not self.distribution_strategy
        check_before_training(
            context,
            fit,
            build=self._build_hypermodel if builds else None,
            certain=not self._searches_while_training,
        )

    def _context(self) -> SearchContext:
        """The current description of the search, for the parts that run it."""
        return SearchContext(
            layout=ProjectLayout.of(self.project_dir),
            name=self.project_name,
            oracle=self._local_oracle,
            get_space=self.oracle.get_space,
            hypermodel=self.hypermodel,
            trackers=self._trackers,
            role=self._role,
            budget=self._budget,
            precision=self.precision,
            deterministic=self.deterministic,
            distribution_strategy=self.distribution_strategy,
            executions_per_trial=self.executions_per_trial,
            max_model_size=self.max_model_size,
            inheritance=self.inheritance,
            dataset=self.dataset,
            resume_command=self.resume_command,
            data_settings=self.data_settings,
            bookkeeping=self._bookkeeping,
            on_change=self.on_change,
            space_changes=self._saved.space_changes,
            adapts=True,
        )

    @property
    def _custom_run(self) -> bool:
        """Whether a subclass trains its trials itself."""
        return type(self).run_trial is not NASTuner.run_trial

    @property
    def _builds(self) -> bool:
        """Whether trials train models of the hypermodel, with its `fit`."""
        hook = type(self)._build_and_fit_model
        return hook is NASTuner._build_and_fit_model and not self._custom_run

    @property
    def _searches_while_training(self) -> bool:
        """Whether training may use hyperparameters that building the model does not declare."""
        fit = getattr(type(self.hypermodel), "fit", None)
        return self._custom_run or fit is not keras_tuner.HyperModel.fit

    # ------------------------------------------------------------------ KerasTuner's files

    def reload(self) -> None:
        load, populate = super().reload, self._populate_initial_space
        while_training = self._searches_while_training or not self._builds
        self._saved.reload(load, populate, declares_while_training=while_training)

    def save(self) -> None:
        self._saved.save()

    def _populate_initial_space(self) -> None:
        self._saved.populate_space()

    def _get_tuner_fname(self) -> str:
        return self._saved.file

    # ------------------------------------------------------------------ trials

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        """Build and train the model of a trial: see `keras_tuner.Tuner.run_trial`.

        Returns:
            What `HyperModel.fit` returned, per execution.
        """
        return self._trainer.run(trial, args, kwargs)

    def _build_and_fit_model(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        return self._trainer.build_and_fit(trial, args, kwargs)

    def _try_build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        return self._trainer.build(hp)

    def fit_from_scratch(
        self, trial: Trial, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> keras.Model | None:
        """See `TrialTrainer.fit_from_scratch`."""
        return self._trainer.fit_from_scratch(trial, args, kwargs)

    # ------------------------------------------------------------------ results

    def get_best_models(self, num_models: int = 1) -> list[keras.Model]:
        """Trained models of the best trials.

        Args:
            num_models: Maximum number of models.

        Returns:
            The models, best first; fewer if fewer trials completed.
        """
        return [self.load_model(trial) for trial in self._results.best_trials(num_models)]

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[keras_tuner.HyperParameters]:
        """Hyperparameters of the best trials.

        Args:
            num_trials: Maximum number of trials.

        Returns:
            The hyperparameters, best first; fewer if fewer trials completed.
        """
        return [trial.hyperparameters for trial in self._results.best_trials(num_trials)]

    def results_summary(self, num_trials: int = 10) -> None:
        """Print the score, costs and hyperparameters of at most ``num_trials`` best trials."""
        print_summary(self._context(), self._results.best_trials(num_trials))

    def trials_dataframe(self) -> pd.DataFrame:
        """The trials that ended, one row each, indexed by their ids.

        Returns:
            Columns ``status``, ``score``, ``rank``, ``best_epoch``, ``started``, ``ended`` (UTC),
            ``seconds``, ``worker``, ``node``, ``device``, ``queue_seconds`` and ``error``, then
            ``values.<name>``, ``metrics.<metric>``, ``costs.<cost>`` and ``proxies.<proxy>``.
        """
        return trials_dataframe(self.project_dir)

    def _repr_html_(self) -> str:
        """The search and its best trials in a notebook."""
        return search_html(self._context())

    def save_model(self, trial_id: str, model: keras.Model, step: int = 0) -> None:
        """Save the weights of a model, from a `run_trial` that trains it itself.

        Args:
            trial_id: The trial, whose weights are replaced.
            model: A model that the hypermodel builds from the values of the trial.
            step: Not used.
        """
        self._models.save(trial_id, model)

    def load_model(self, trial: Trial) -> keras.Model:
        """The trained model of a trial, with the weights of its best epoch."""
        with self._trainer.outside_execution():
            return self._models.load(trial)

    def load_retrained(self, trial: Trial, model: RetrainedModel) -> keras.Model:
        """A retrained model of a trial, such as ``retraining.kept``, after its last epoch."""
        with self._trainer.outside_execution():
            return self._models.load_retrained(trial, Path(self.project_dir) / model.weights)

    def retrain_best(
        self,
        *fit_args: Any,
        seeds: int = RetrainConfig.seeds,
        seed: int | None = RetrainConfig.seed,
        epochs: int | None = RetrainConfig.epochs,
        test_data: object = None,
        hold_out: float | None = RetrainConfig.hold_out,
        trial_id: str | None = None,
        overwrite: bool = RetrainConfig.overwrite,
        config: RetrainConfig | None = None,
        **fit_kwargs: Any,
    ) -> Retraining:
        """Train the best trial's model again, on training and validation data together.

        ```python
        tuner.search(x, y, epochs=10, validation_data=(x_val, y_val))
        retraining = tuner.retrain_best(seeds=3, test_data=(x_test, y_test))
        print(retraining.searched_scores["accuracy"], retraining.mean, retraining.deviation)
        tuner.register_best("fashion-classifier", retrained=True)
        ```

        Weights are initialized again, and callbacks that need validation data are ignored. The
        score of such a model can be measured only on ``test_data`` or on held-out rows. A model
        that was retrained before with the same settings and data is not trained again, also after
        a process was killed.

        Args:
            *fit_args: As for `search`; may be omitted if this process has called `search`.
            seeds: See `RetrainConfig`.
            seed: See `RetrainConfig`.
            epochs: See `RetrainConfig`.
            test_data: ``(x, y)``, ``(x, y, sample_weight)`` or a `tf.data.Dataset` that the
                search never saw.
            hold_out: See `RetrainConfig`.
            trial_id: The trial to retrain; None for the best.
            overwrite: See `RetrainConfig`.
            config: A `RetrainConfig` instead of the five arguments that it documents.
            **fit_kwargs: As for `search`.

        Returns:
            Every training with its scores, beside those of the searched model.

        Raises:
            RetrainingError: The data or the hypermodel do not allow it.
            StateError: Another process is retraining, or the disk is full.
        """
        settings = RetrainConfig(
            seeds=seeds, seed=seed, epochs=epochs, hold_out=hold_out, overwrite=overwrite
        )
        if config is not None and settings != RetrainConfig():
            raise RetrainingError(
                "`config` must be None when its fields are given as arguments; got both"
            )
        fit = FitArguments.bind(fit_args, fit_kwargs, self.hypermodel)
        return self._results.retrain(trial_id, config or settings, fit, test_data)

    def register_best(
        self,
        name: str,
        *,
        alias: str | None = "challenger",
        tags: Mapping[str, str] | None = None,
        retrained: bool = False,
        trial_id: str | None = None,
        sample: object = None,
        input_example: bool = True,
        class_names: Sequence[str] | None = None,
        validation_data: object = None,
    ) -> RegisteredModel:
        """Log the best model to its run and register it in the tracker's model registry.

        Registering the same model under the same name again returns the existing version.

        Args:
            name: Name in the model registry.
            alias: Alias of the version, or None.
            tags: Further tags of a new version.
            retrained: Whether to register the model that `retrain_best` kept.
            trial_id: The trial to register; None for the best.
            sample: A few rows of input, for the signature and the example; None for the first
                rows that this process searched or retrained with.
            input_example: Whether to store these rows with the model, as an example of its
                input. Anyone who may read the model can read them.
            class_names: Names of the classes, in the order of the outputs, or two for a single
                output. `mlflow.pyfunc` and servers then answer with them and probabilities.
            validation_data: ``(x, y)`` to measure by class; None for those of the last search.

        Returns:
            A `keras_nas_plugin.registry.RegisteredModel`.

        Raises:
            TrackingError: There is no tracker with a registry that answers, no finished trial,
                ``class_names`` do not fit, or the stored model does not predict as this one.
            RetrainingError: The trial was not retrained.
        """
        return self._results.register(
            name,
            trial_id=trial_id,
            alias=alias,
            tags=tags,
            retrained=retrained,
            sample=sample,
            input_example=input_example,
            class_names=class_names,
            validation_data=validation_data,
        )
