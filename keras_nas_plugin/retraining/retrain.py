"""Retrains the model of a trial on all data, once for each seed.

The training of each seed writes its weights first and its result second, both atomically, in a
folder named after a digest of everything that decides the result. A process that is killed loses
only the training that was running; the next call trains what is missing.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import NASError, RetrainingError, StateError
from keras_nas_plugin.evaluation.datasets import describe_data
from keras_nas_plugin.evaluation.names import COSTS
from keras_nas_plugin.evaluation.results import scalars
from keras_nas_plugin.files import file_lock
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.retraining import (
    HELD_OUT,
    RETRAINED,
    TEST,
    RetrainConfig,
    RetrainedModel,
    Retraining,
    weights_file,
)
from keras_nas_plugin.records.search import DatasetInfo, SearchInfo
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.registry.class_scores import measure_classes
from keras_nas_plugin.retraining.full_data import full_data, measurement_split
from keras_nas_plugin.tracking.mlflow.autolog import autolog_disabled
from keras_nas_plugin.training import runtime
from keras_nas_plugin.training.bookkeeping import Bookkeeping, error_line
from keras_nas_plugin.training.continuation import from_scratch
from keras_nas_plugin.training.fit_arguments import DataSplit, FitArguments
from keras_nas_plugin.training.interrupts import preserved_interrupts, raise_noted
from keras_nas_plugin.training.weights import save_weights

logger = logging.getLogger("keras_nas_plugin")

_KEY_LENGTH = 12
_DATA_DIFFER = "The data differ from those of the search: scores cannot be compared."


class FinishedTrials(Protocol):
    """The part of a tuner that retraining uses: its settings, and models of its trials."""

    project_dir: str
    precision: str | None
    deterministic: bool
    #: Name of the data.
    dataset: str
    hypermodel: keras_tuner.HyperModel

    def get_trial_dir(self, trial_id: str) -> str:
        """The folder of a trial."""

    def fit_from_scratch(
        self, trial: Trial, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> keras.Model | None:
        """Build and fit a model; returns None if it was built without the tuner."""

    def load_model(self, trial: Trial) -> keras.Model:
        """The model that the search trained, with the weights of its best epoch."""

    def load_retrained(self, trial: Trial, model: RetrainedModel) -> keras.Model:
        """A retrained model, with the weights of its last epoch."""


def retrain(
    tuner: FinishedTrials,
    trial: Trial,
    config: RetrainConfig,
    arguments: FitArguments,
    test_data: object = None,
) -> Retraining:
    """Retrain the model of a trial.

    Args:
        tuner: The tuner of the search.
        trial: The trial.
        config: How to retrain.
        arguments: Arguments of `search`: the data, as for the search.
        test_data: Rows that the search never saw: ``(x, y)``, ``(x, y, sample_weight)``, a
            `tf.data.Dataset`, or None.

    Returns:
        All trainings, including those of previous calls. It is also saved in the project folder.

    Raises:
        RetrainingError: The data or the hypermodel do not allow it.
        StateError: Another process is retraining, or the folder cannot be written.
    """
    if config.hold_out is not None and test_data is not None:
        raise RetrainingError(
            f"`hold_out` must be None when there are test data; got {config.hold_out}. Test rows "
            "measure better, because the search did not choose by them."
        )
    project = Path(tuner.project_dir)
    record = TrialRecord.load(tuner.get_trial_dir(trial.trial_id))
    search = SearchInfo.load(project)
    if record is None or search is None or record.score is None:
        raise RetrainingError(f"`trial_id` must be a finished trial; got {trial.trial_id!r}")
    with (
        preserved_interrupts(),
        _retrain_lock(project),
        runtime.precision(tuner.precision),
        runtime.no_retracing_warnings(),
        autolog_disabled(),
    ):
        if config.overwrite:
            Retraining.discard(project)
        call = _RetrainCall(tuner, trial, record, search, config, arguments, test_data)
        try:
            return call.run()
        except OSError as error:
            raise StateError(
                "`directory` must have space for the retrained models; writing to "
                f"{str(project)!r} failed: {error.strerror or error}"
            ) from error


class _RetrainCall:
    """One call of `retrain`: plans the trainings, then runs those that are missing."""

    def __init__(
        self,
        tuner: FinishedTrials,
        trial: Trial,
        record: TrialRecord,
        search: SearchInfo,
        config: RetrainConfig,
        arguments: FitArguments,
        test_data: object,
    ) -> None:
        self.tuner, self.record, self.search = tuner, record, search
        self.project = Path(tuner.project_dir)
        self.trial = trial
        first_seed = config.seed
        if first_seed is None:
            first_seed = search.settings.get("seed") or 0
        self.seeds = range(first_seed, first_seed + config.seeds)
        self.remarks: list[str] = []
        self.bookkeeping = Bookkeeping()
        described = arguments.describe(tuner.dataset, self.bookkeeping.report)
        if _data_differ(search, described):
            self.remarks.append(_DATA_DIFFER)
            logger.warning(_DATA_DIFFER)
        data = full_data(arguments, hold_out=config.hold_out, seed=first_seed)
        self.training = data.training
        self.measured: DataSplit | None = measurement_split(test_data, "test_data")
        self.measured_on: str | None = TEST
        if self.measured is None:
            self.measured = data.held_out
            self.measured_on = HELD_OUT if self.measured is not None else None
        self.epochs, self.arguments = self._plan_fit(data.arguments, config.epochs)
        self.datasets = self._describe_datasets()
        self.settings: dict[str, Any] = {
            "epochs": self.epochs,
            "hold_out": config.hold_out,
            "precision": tuner.precision or keras.config.dtype_policy().name,
            "deterministic": tuner.deterministic,
            **{
                name: value
                for name, value in self.arguments.values.items()
                if isinstance(value, str | int | float | bool)
            },
        }
        self.settings.pop("verbose", None)
        self.key = self._key()

    def _plan_fit(
        self, arguments: FitArguments, epochs: int | None
    ) -> tuple[int | None, FitArguments]:
        """How many epochs to train, and the arguments of `fit` with them."""
        arguments = arguments.replace(callbacks=self._usable_callbacks(arguments.callbacks))
        own_fit = type(self.tuner.hypermodel).fit is not keras_tuner.HyperModel.fit
        searched = arguments.values.get("epochs", self.search.settings.get("epochs"))
        if epochs is None and own_fit and searched is None:
            return None, arguments  # the hypermodel decides, as in the search
        epochs = epochs or epochs_of_best(self.record, self.search) or searched or 1
        return epochs, arguments.replace(epochs=epochs)

    def _usable_callbacks(
        self, callbacks: Sequence[keras.callbacks.Callback]
    ) -> list[keras.callbacks.Callback]:
        """Callbacks that need neither validation data nor the other trials of the search."""
        usable: list[keras.callbacks.Callback] = []
        ignored: list[keras.callbacks.Callback] = []
        for callback in callbacks:
            validates = str(getattr(callback, "monitor", "")).startswith("val_")
            compares_trials = hasattr(callback, "set_project")
            (ignored if validates or compares_trials else usable).append(callback)
        if ignored:
            names = ", ".join(type(callback).__name__ for callback in ignored)
            self.remarks.append(f"Ignored callbacks that need validation data: {names}.")
            logger.info(self.remarks[-1])
        return usable

    def _describe_datasets(self) -> tuple[DatasetInfo, ...]:
        name, report = self.tuner.dataset, self.bookkeeping.report
        content = self.training.content()
        described = [describe_data(f"{name}-full", "training", content, report)]
        if self.measured is not None:
            content = self.measured.content()
            described.append(describe_data(f"{name}-{self.measured_on}", "test", content, report))
        return tuple(DatasetInfo(**description) for description in described)

    def _key(self) -> str:
        """Digest of everything that decides the result, except the seed."""
        decisive = {
            "search": self.search.search_id,
            "trial": self.record.trial_id,
            "values": dict(self.record.values),
            "settings": self.settings,
            "class_weight": self.arguments.class_weight,
            "data": self.datasets[0].digest,
        }
        text = json.dumps(decisive, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]

    def run(self) -> Retraining:
        """Train and measure the models that are missing."""
        folder = ProjectLayout.of(self.project).retrained / self.key
        folder.mkdir(parents=True, exist_ok=True)
        # First, so that rows that do not fit the model raise an error before any training.
        searched_scores = self._searched_scores()
        models = []
        for number, seed in enumerate(self.seeds, start=1):
            model = RetrainedModel.load(self.project, weights_file(self.key, seed))
            if model is None:
                logger.info(
                    "Retraining trial %s: seed %d (%d of %d)",
                    self.record.trial_id,
                    seed,
                    number,
                    len(self.seeds),
                )
                model = self._train(seed)
            models.append(self._with_scores(model))
        objective, direction = trained_objective(self.search)
        retraining = Retraining(
            search_id=self.search.search_id,
            trial_id=self.record.trial_id,
            key=self.key,
            objective=objective,
            direction=direction,
            epochs=self.epochs,
            rows=self.training.rows,
            datasets=self.datasets,
            measured_on=self.measured_on,
            measured_rows=self.measured.rows if self.measured else None,
            searched=dict(self.record.metrics),
            searched_scores=searched_scores,
            models=tuple(models),
            settings={key: value for key, value in self.settings.items() if value is not None},
            remarks=tuple(self.remarks),
            directory=str(self.project),
        )
        retraining.save()
        return retraining

    def _train(self, seed: int) -> RetrainedModel:
        keras.utils.set_random_seed(seed)
        recorder = _Recorder()
        callbacks = [*_copied(self.arguments.callbacks), recorder]
        for callback in callbacks:
            if type(callback).__name__ == "TensorBoard":
                callback.log_dir = os.path.join(callback.log_dir, RETRAINED, f"seed_{seed}")
        args, kwargs = self.arguments.replace(callbacks=callbacks).to_fit()
        started_ms = time.time_ns() // 1_000_000
        try:
            model = self.tuner.fit_from_scratch(from_scratch(self.trial), args, kwargs)
        except NASError:
            raise
        except Exception as error:  # whatever a hypermodel raises
            raise RetrainingError(
                "`hypermodel` must train on these data without validation data; with seed "
                f"{seed} it raised {error_line(error)}"
            ) from error
        weights = weights_file(self.key, seed)
        save_weights(model or recorder.model, self.project / weights)
        trained = RetrainedModel(
            seed=seed,
            curve=tuple(recorder.curve),
            weights=weights,
            started_ms=started_ms,
            ended_ms=time.time_ns() // 1_000_000,
        )
        trained.save(self.project)
        return trained

    def _with_scores(self, model: RetrainedModel) -> RetrainedModel:
        """The same model with its scores on the rows of this call."""
        digest = self.datasets[1].digest if self.measured else None
        if model.measured == digest:
            return model
        scores, class_scores, split = {}, None, self.measured
        if split is not None:
            loaded = self.tuner.load_retrained(self.trial, model)
            scores = self._evaluate(loaded, split)
            with self.bookkeeping.step("the retrained model has no scores by class"):
                class_scores = measure_classes(loaded, split.x, split.y)
        model = dataclasses.replace(
            model, scores=scores, class_scores=class_scores, measured=digest
        )
        model.save(self.project)
        return model

    def _searched_scores(self) -> dict[str, float]:
        """Scores of the model that the search trained, on the rows of this call."""
        if self.measured is None:
            return {}
        previous = Retraining.load(self.project)
        if previous is not None and (
            previous.search_id == self.search.search_id
            and previous.trial_id == self.record.trial_id
            and [data.digest for data in previous.datasets[1:]] == [self.datasets[1].digest]
        ):
            return dict(previous.searched_scores)
        return self._evaluate(self.tuner.load_model(self.trial), self.measured)

    def _evaluate(self, model: keras.Model, split: DataSplit) -> dict[str, float]:
        try:
            logs = model.evaluate(
                split.x,
                split.y,
                sample_weight=split.sample_weight,
                # Keras rejects a batch size for data that come in batches.
                batch_size=None if split.rows is None else self.arguments.batch_size,
                verbose=0,
                return_dict=True,
            )
        except Exception as error:  # Keras and its backends raise their own
            name = "test_data" if self.measured_on == TEST else "hold_out"
            raise RetrainingError(
                f"`{name}` must give rows that the model can be evaluated on; Keras raised "
                f"{error_line(error)}"
            ) from error
        return scalars(logs)


def _copied(callbacks: Sequence[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """Copies of callbacks, which may keep state from one training to the next."""
    try:
        return copy.deepcopy(list(callbacks))
    except Exception as error:  # whatever the `__deepcopy__` of a callback raises
        raise RetrainingError(
            "`callbacks` must be possible to copy with copy.deepcopy, once for each seed; it "
            f"raised {error_line(error)}"
        ) from error


class _Recorder(keras.callbacks.Callback):
    """Records what Keras logs per epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.curve: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the logs of an epoch; raises an interrupt that was lost."""
        raise_noted()
        self.curve.append(scalars(logs))


def epochs_of_best(record: TrialRecord, search: SearchInfo) -> int | None:
    """Epochs up to the best one of a trial, including those of the trials that it continued.

    A hypermodel's `fit` that returns numbers instead of a `History` does not say which epoch
    they belong to; in that case all epochs count. The epochs of a trial that inherited weights say
    nothing about a training from scratch, which gets the epochs of the search.

    Returns:
        The number of epochs; None if no epoch was recorded.
    """
    if record.inherited_epochs:
        return record.epochs
    longest = max(map(len, record.curves), default=0)
    if not longest:
        return None
    reported = any(name in logs for name in search.directions for logs in record.curves[0])
    if record.best_step or reported:
        return record.best_step + 1
    return record.first_epoch + longest


def trained_objective(search: SearchInfo) -> tuple[str, str]:
    """Name and direction of the first objective that training reports."""
    trained = (item for item in search.directions.items() if item[0] not in COSTS)
    return next(trained, ("val_loss", "min"))


def _data_differ(search: SearchInfo, datasets: Sequence[DatasetInfo]) -> bool:
    searched = [(dataset.context, dataset.digest) for dataset in search.datasets]
    return searched != [(dataset.context, dataset.digest) for dataset in datasets]


@contextlib.contextmanager
def _retrain_lock(project: Path) -> Iterator[None]:
    """Prevent other processes from retraining models of the same search."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(ProjectLayout.of(project).retraining_lock, wait=False))
        except BlockingIOError as error:
            raise StateError(
                "`project_name` must be a search that no other process is retraining; got "
                f"{str(project)!r}, which another process is retraining now"
            ) from error
        yield
