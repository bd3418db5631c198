"""Trains the supernet of a search as one tracked run, and scores architectures with it."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_nas_plugin.errors import BudgetExhaustedError, FitArgumentsError, StateError
from keras_nas_plugin.evaluation.costs import analytic_costs
from keras_nas_plugin.evaluation.datasets import DataKind
from keras_nas_plugin.evaluation.names import COSTS
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.oracles.one_shot import OneShotOracle
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, SUPERNET, Status, TrialRecord
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.supernet.sampling import SAMPLERS
from keras_nas_plugin.supernet.supernet import Supernet, check_describes_space
from keras_nas_plugin.supernet.training import RECALIBRATION_BATCHES, Batch, SupernetTrainer
from keras_nas_plugin.training import runtime
from keras_nas_plugin.training.bookkeeping import error_line
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import DataSplit, FitArguments
from keras_nas_plugin.training.sample_model import unchanged_generators
from keras_nas_plugin.training.weights import load_state, save_state

logger = logging.getLogger("keras_nas_plugin")

# Epochs of the supernet for each epoch of a trial: a path is one of many that share them.
_EPOCHS_PER_EPOCH = 4
_BATCH = 32  # Keras' default
_STATE = "state.json"


def prepare_supernet(context: SearchContext, fit: FitArguments) -> None:
    """Give a `OneShotOracle` the supernet of this search, unless it has an evaluator of its own.

    Other oracles are left unchanged.

    Args:
        context: The search.
        fit: Arguments of `search`.

    Raises:
        SearchSpaceError: The hypermodel does not describe its space.
        FitArgumentsError: There are no validation data, or the data cannot be read twice.
    """
    oracle = context.oracle
    if not isinstance(oracle, OneShotOracle) or not context.role.owns_search:
        return
    if oracle.scores.evaluator is None or isinstance(oracle.scores.evaluator, SupernetRun):
        oracle.scores.evaluator = SupernetRun(context, oracle, fit)


@dataclasses.dataclass
class _Progress:
    """How far the training of a supernet is, beside its weights.

    Attributes:
        settings: What determines the training.
        epoch: Number of epochs that have ended.
        curve: Metrics of each.
        generator: State of the random generator.
        sampler: State of the sampler.
        seconds: Seconds of training.
        started_ms: Start in milliseconds since 1970 (UTC).
    """

    settings: Mapping[str, Any]
    epoch: int = 0
    curve: list[dict[str, float]] = dataclasses.field(default_factory=list)
    generator: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sampler: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    started_ms: int = 0


class SupernetRun:
    """The supernet of a search: a `keras_nas_plugin.oracles.supernet_scores.SupernetEvaluator`.

    It is trained when the first architecture is to be scored, and after each epoch, its weights,
    its optimizer and the state of the sampler are written to the project folder. A search that
    was killed continues after the last epoch that ended.

    Args:
        context: The search.
        oracle: Its oracle.
        fit: Arguments of `search`.

    Raises:
        SearchSpaceError: See `prepare_supernet`.
        FitArgumentsError: See `prepare_supernet`.
    """

    def __init__(self, context: SearchContext, oracle: OneShotOracle, fit: FitArguments) -> None:
        check_describes_space(context.hypermodel)
        self._context = context
        self._folder = context.layout.supernet
        self._seed = int(oracle.seed)
        self._sampling = oracle.sampling
        self._epochs = oracle.supernet_epochs or _EPOCHS_PER_EPOCH * (fit.epochs or 1)
        self._class_weight = fit.class_weight
        self._data = _Data(*fit.splits(), fit.batch_size or _BATCH, fit.values)
        self._supernet: Supernet | None = None
        self._trainer: SupernetTrainer | None = None

    # ------------------------------------------------------------------ scores

    @property
    def fixed(self) -> Mapping[str, Any]:
        """See `SupernetEvaluator.fixed`."""
        return self._built().fixed

    def evaluate(self, values: Values, costs: Sequence[str]) -> dict[str, float]:
        """See `SupernetEvaluator.evaluate`."""
        trainer = self._trained()
        self._context.budget.check("scored")
        with runtime.precision(self._context.precision):
            scores = trainer.score(values, self._data.first_inputs(), self._data.validation())
            metrics = {f"val_{name}": value for name, value in scores.items()}
            wanted = [name for name in costs if name in COSTS]
            network = self._built().hypermodel.build_values(values)
            with contextlib.suppress(Exception):  # the trial reports what is wrong
                metrics |= analytic_costs(network, wanted, needed=())
        return metrics

    def release(self) -> None:
        """See `SupernetEvaluator.release`."""
        self._supernet = self._trainer = None
        gc.collect()

    def _built(self) -> Supernet:
        if self._supernet is None:
            with runtime.precision(self._context.precision), unchanged_generators():
                # Its weights are drawn from the seed of the search, as its paths are.
                keras.utils.set_random_seed(self._seed % (1 << 31))
                self._supernet = Supernet(self._context.hypermodel)  # type: ignore[arg-type]
        return self._supernet

    # ------------------------------------------------------------------ training

    def _trained(self) -> SupernetTrainer:
        if self._trainer is None:
            supernet = self._built()
            sampler = SAMPLERS[self._sampling](supernet.spec)
            trainer = SupernetTrainer(
                supernet,
                sampler,
                np.random.default_rng(self._seed),
                class_weight=self._class_weight,
            )
            with runtime.precision(self._context.precision):
                self._train(trainer)
            self._trainer = trainer
        return self._trainer

    @property
    def _settings(self) -> dict[str, Any]:
        layout = self._built().layout.options
        return {
            "seed": self._seed,
            "sampling": self._sampling,
            "epochs": self._epochs,
            "decisions": {name: list(options) for name, options in layout.items()},
        }

    def _train(self, trainer: SupernetTrainer) -> None:
        """Train the epochs that are left, as one run."""
        progress = self._restore(trainer)
        if progress.epoch >= self._epochs:
            return
        notes = self._built().notes
        for note in notes if not progress.epoch else ():
            logger.info("Supernet: %s", note)
        trackers, started = self._context.trackers, time.monotonic()
        progress.started_ms = progress.started_ms or time.time_ns() // 1_000_000
        trackers.trial_started(SUPERNET, {"sampling": self._sampling, "epochs": self._epochs})

        def check() -> None:
            self._context.budget.check("trained together in the supernet")

        try:
            while progress.epoch < self._epochs:
                logs = trainer.epoch(self._data.training(trainer.rng), check)
                progress.curve.append(logs)
                trackers.epoch_ended(SUPERNET, progress.epoch, logs)
                progress.epoch += 1
                progress.seconds += time.monotonic() - started
                started = time.monotonic()
                self._save(trainer, progress)
        except BaseException as error:
            killed = not isinstance(error, Exception) or isinstance(error, BudgetExhaustedError)
            self._end(progress, KILLED if killed else FAILED, error)
            raise
        self._end(progress, FINISHED)

    def _end(
        self, progress: _Progress, status: Status, error: BaseException | None = None
    ) -> None:
        record = TrialRecord(
            trial_id=SUPERNET,
            values={"sampling": self._sampling, "epochs": self._epochs},
            status=status,
            metrics=progress.curve[-1] if status == FINISHED else {},
            best_step=max(progress.epoch - 1, 0),
            curves=(tuple(progress.curve),) if progress.curve else (),
            epochs=self._epochs,
            costs={
                "parameters": float(self._built().model.count_params()),
                "train_seconds": progress.seconds,
            },
            error=None if error is None else error_line(error),
            placement=runtime.this_process(),
            started_ms=progress.started_ms,
            ended_ms=time.time_ns() // 1_000_000,
        )
        if status == FINISHED:
            with self._context.bookkeeping.step("the record of the supernet was not written"):
                record.save(self._folder)
        self._context.trackers.trial_ended(record)

    # ------------------------------------------------------------------ checkpoints

    def _weights(self, epoch: int) -> Path:
        return self._folder / f"epoch_{epoch}.weights.h5"

    def _save(self, trainer: SupernetTrainer, progress: _Progress) -> None:
        """Write the weights, then the state that names their epoch, then delete older weights."""
        progress.generator = trainer.rng.bit_generator.state
        progress.sampler = trainer.sampler.get_state()
        self._folder.mkdir(parents=True, exist_ok=True)
        save_state(self._built().model, self._weights(progress.epoch))
        write_json(self._folder / _STATE, dataclasses.asdict(progress))
        for path in self._folder.glob("epoch_*.weights.h5"):
            if path != self._weights(progress.epoch):
                path.unlink(missing_ok=True)

    def _restore(self, trainer: SupernetTrainer) -> _Progress:
        """Continue from the last checkpoint, if it is of the same training.

        Raises:
            StateError: The checkpoint cannot be read, or is of another training.
        """
        settings = self._settings
        try:
            progress = _Progress(**read_json(self._folder / _STATE))
        except FileNotFoundError:
            return _Progress(settings)
        if progress.settings != settings:
            changed = [name for name in settings if settings[name] != progress.settings.get(name)]
            raise StateError(
                f"the supernet of the saved search must have the same {', '.join(changed)}; got "
                f"{ {name: settings[name] for name in changed} }. Choose another `project_name`, "
                "or pass `overwrite=True` to start over."
            )
        try:
            load_state(self._built().model, self._weights(progress.epoch))
        except (OSError, ValueError, KeyError) as error:
            raise StateError(
                f"`{self._folder}` must have the weights of epoch {progress.epoch} of the "
                f"supernet; they cannot be read: {error}"
            ) from error
        trainer.rng.bit_generator.state = progress.generator
        trainer.sampler.set_state(progress.sampler)
        return progress


class _Data:
    """Batches of the training and the validation data of a search."""

    def __init__(
        self,
        training: DataSplit | None,
        validation: DataSplit | None,
        batch_size: int,
        arguments: Mapping[str, Any],
    ) -> None:
        if training is None or validation is None:
            missing = "x" if training is None else "validation_data"
            raise FitArgumentsError(
                f"`{missing}` must be given to score architectures with a supernet; got None"
            )
        for name, split in (("x", training), ("validation_data", validation)):
            if split.kind is DataKind.OTHER:
                raise FitArgumentsError(
                    f"`{name}` must be arrays, a tf.data.Dataset or a keras.utils.PyDataset to "
                    f"train a supernet; got a {type(split.x).__name__}"
                )
        self._training, self._validation = training, validation
        self._batch_size = batch_size
        self._shuffle = bool(arguments.get("shuffle", True))
        self._steps: int | None = arguments.get("steps_per_epoch")
        self._first: list[Any] | None = None

    def training(self, rng: np.random.Generator) -> Iterator[Batch]:
        """The batches of an epoch; the last rows of arrays that fill no batch are left out."""
        rows = self._training.rows
        if self._training.kind is not DataKind.ARRAYS or rows is None:
            yield from _limited(_iterated(self._training.x), self._steps)
            return
        order = rng.permutation(rows) if self._shuffle else np.arange(rows)
        size = min(self._batch_size, rows)
        for start in range(0, rows - size + 1, size):
            yield _batch(self._training.take(order[start : start + size]))

    def validation(self) -> Iterator[Batch]:
        """The validation batches."""
        rows = self._validation.rows
        if self._validation.kind is not DataKind.ARRAYS or rows is None:
            yield from _iterated(self._validation.x)
            return
        for start in range(0, rows, self._batch_size):
            indices = np.arange(start, min(start + self._batch_size, rows))
            yield _batch(self._validation.take(indices))

    def first_inputs(self) -> list[Any]:
        """Inputs of some training batches, always the same, for batch normalisation."""
        if self._first is None:
            batches = self.training(np.random.default_rng(0))
            self._first = [x for x, _, _ in _limited(batches, RECALIBRATION_BATCHES)]
        return self._first


def _batch(split: DataSplit) -> Batch:
    return split.x, split.y, split.sample_weight


def _limited(batches: Iterator[Batch], number: int | None) -> Iterator[Batch]:
    for index, batch in enumerate(batches):
        if index == number:
            return
        yield batch


def _iterated(data: Any) -> Iterator[Batch]:
    """Batches of a data set, as ``(x, y, sample_weight)``."""
    batches: int | None = getattr(data, "num_batches", None)
    elements = data if batches is None else (data[index] for index in range(batches))
    for element in elements:
        parts = element if isinstance(element, tuple) else (element,)
        x, y, weight = (*parts, None, None)[:3]
        yield x, y, weight
