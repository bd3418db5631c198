"""Trains the supernet of a search as one tracked run, and scores architectures with it."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import keras
import numpy as np

from keras_nas_plugin.errors import BudgetExhaustedError, StateError, StrategyError
from keras_nas_plugin.evaluation.costs import analytic_costs
from keras_nas_plugin.evaluation.names import COSTS
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.oracles.one_shot import OneShotOracle
from keras_nas_plugin.oracles.supernet_oracle import SupernetOracle
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, SUPERNET, Status, TrialRecord
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.supernet.guards import Verdict
from keras_nas_plugin.supernet.sampling import SAMPLERS
from keras_nas_plugin.supernet.supernet import Supernet, check_describes_space
from keras_nas_plugin.supernet.training import MaskTrainer, SupernetTrainer
from keras_nas_plugin.training import runtime
from keras_nas_plugin.training.bookkeeping import error_line
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.sample_model import unchanged_generators
from keras_nas_plugin.training.supernet_data import SupernetData
from keras_nas_plugin.training.weights import load_state, save_state

logger = logging.getLogger("keras_nas_plugin")

# Epochs of the supernet for each epoch of a trial: a path is one of many that share them.
_EPOCHS_PER_EPOCH = 4
#: Share of the budget of a search by time after which the training of its supernet ends.
TRAINING_SHARE = 1 / 3

T = TypeVar("T", bound=MaskTrainer)


@dataclasses.dataclass
class Progress:
    """How far the training of a supernet is, beside its weights.

    Attributes:
        settings: What determines the training.
        epoch: Number of epochs that have ended.
        curve: Metrics of each.
        generator: State of the random generator.
        trainer: State of the trainer: of its sampler, or its alphas.
        stopped: Why the training ended early, or None.
        derived: The architecture by perturbation, once it is known.
        seconds: Seconds of training.
        started_ms: Start in milliseconds since 1970 (UTC).
    """

    settings: Mapping[str, Any]
    epoch: int = 0
    curve: list[dict[str, float]] = dataclasses.field(default_factory=list)
    generator: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trainer: dict[str, Any] = dataclasses.field(default_factory=dict)
    stopped: str | None = None
    derived: dict[str, Any] | None = None
    seconds: float = 0.0
    started_ms: int = 0


class SupernetRun(abc.ABC, Generic[T]):
    """The supernet of a search: a `keras_nas_plugin.oracles.supernet_scores.SupernetEvaluator`.

    It is trained when it is first needed, and after each epoch, its weights, its optimizer and
    the state of its trainer are written to the project folder. A search that was killed continues
    after the last epoch that ended.

    Args:
        context: The search.
        oracle: Its oracle.
        fit: Arguments of `search`.

    Raises:
        SearchSpaceError: The hypermodel does not describe its space.
        FitArgumentsError: There are no validation data, or the data cannot be read twice.
    """

    def __init__(self, context: SearchContext, oracle: SupernetOracle, fit: FitArguments) -> None:
        check_describes_space(context.hypermodel)
        self._context = context
        self._run_id, self._folder = SUPERNET, context.layout.supernet
        self._seed = int(oracle.seed)
        self._epochs = oracle.supernet_epochs or _EPOCHS_PER_EPOCH * (fit.epochs or 1)
        self._shortened = oracle.supernet_epochs is None
        self._class_weight = fit.class_weight
        self._data = SupernetData(fit)
        self._strategy: Any = None
        self._supernet: Supernet | None = None
        self._trained: tuple[T, Progress] | None = None

    # ------------------------------------------------------------------ what a method decides

    @property
    @abc.abstractmethod
    def options(self) -> Mapping[str, Any]:
        """What determines the training besides the seed, the epochs and the space, as JSON."""

    @abc.abstractmethod
    def _new_trainer(self, supernet: Supernet, rng: np.random.Generator) -> T:
        """The trainer; its first state is that of a new training."""

    @abc.abstractmethod
    def _epoch(self, trainer: T, check: Callable[[], None]) -> dict[str, float]:
        """Train an epoch; returns its losses and metrics."""

    def _judge(
        self, trainer: T, curve: Sequence[Mapping[str, float]], logs: Mapping[str, float]
    ) -> Verdict | None:
        """Whether the training ends with this epoch; never, by default.

        Args:
            trainer: The trainer.
            curve: Losses and metrics of the epochs before.
            logs: Those of the epoch.
        """
        return None

    def _start(self, trainer: T) -> None:
        """Prepare a new training; nothing by default."""

    @property
    def _fewest_epochs(self) -> int:
        """The fewest epochs of a training that ends because of the time."""
        return 1

    def _out_of_time(self, progress: Progress) -> str | None:
        """Why the training ends before its epochs have passed, or None.

        In a search by time, a supernet whose epochs the user did not set leaves most of the time
        to the trials.
        """
        used = self._context.budget.used
        enough = self._fewest_epochs <= progress.epoch < self._epochs
        if not (self._shortened and enough and used >= TRAINING_SHARE):
            return None
        return f"{used:.0%} of `budget` have passed; `supernet_epochs` sets a number of epochs"

    def _notes(self) -> Sequence[str]:
        """What the supernet does not search as a network alone would be."""
        return self.built().notes

    def _draw(self) -> None:
        """Draw a picture of the training from its saved state; nothing by default."""

    # ------------------------------------------------------------------ scores

    @property
    def fixed(self) -> Mapping[str, Any]:
        """See `SupernetEvaluator.fixed`."""
        return self.built().fixed

    def evaluate(self, values: Values, costs: Sequence[str]) -> dict[str, float]:
        """See `SupernetEvaluator.evaluate`."""
        trainer, _ = self.trained()
        self._context.budget.check("scored")
        with self._scope():
            scores = trainer.score(values, self._data.first_inputs(), self._data.validation())
        with runtime.precision(self._context.precision):
            metrics = {f"val_{name}": value for name, value in scores.items()}
            analytic = [name for name in costs if name in COSTS]
            network = self.built().hypermodel.build_values(values)
            with contextlib.suppress(Exception):  # the trial reports what is wrong
                metrics |= analytic_costs(network, analytic, needed=())
        return metrics

    def release(self) -> None:
        """See `SupernetEvaluator.release`."""
        self._supernet = self._trained = None
        gc.collect()

    @contextlib.contextmanager
    def _scope(self) -> Iterator[None]:
        """The precision of the search, and the devices that the supernet is trained on."""
        strategy = self._strategy
        with runtime.precision(self._context.precision):
            if strategy is None:
                yield
            else:
                with strategy.scope():
                    yield

    def built(self) -> Supernet:
        """The supernet, which is made when it is first needed."""
        if self._supernet is None:
            with self._scope(), unchanged_generators():
                # Its weights are drawn from the seed of the search, as its paths are.
                keras.utils.set_random_seed(self._seed % (1 << 31))
                self._supernet = Supernet(self._context.hypermodel)  # type: ignore[arg-type]
        return self._supernet

    # ------------------------------------------------------------------ training

    def trained(self) -> tuple[T, Progress]:
        """The trainer and its progress when all epochs have ended."""
        if self._trained is None:
            supernet = self.built()
            with self._scope():
                trainer = self._new_trainer(supernet, np.random.default_rng(self._seed))
                self._trained = trainer, self._train(trainer)
        return self._trained

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self._epochs

    @property
    def weights_file(self) -> Path:
        """The weights after the last epoch."""
        return self._weights(self.trained()[1].epoch)

    @property
    def _settings(self) -> dict[str, Any]:
        layout = self.built().layout.options
        return {
            "seed": self._seed,
            **self.options,
            "epochs": self._epochs,
            "decisions": {name: list(options) for name, options in layout.items()},
        }

    def _train(self, trainer: T) -> Progress:
        """Train the epochs that are left, as one run."""
        progress = self._restore(trainer)
        if progress.epoch >= self._epochs or progress.stopped is not None:
            return progress
        for note in self._notes() if not progress.epoch else ():
            logger.info("Supernet: %s", note)
        trackers, started = self._context.trackers, time.monotonic()
        progress.started_ms = progress.started_ms or time.time_ns() // 1_000_000
        trackers.trial_started(self._run_id, {**self.options, "epochs": self._epochs})

        def check() -> None:
            self._context.budget.check("trained together in the supernet")

        try:
            while progress.epoch < self._epochs and progress.stopped is None:
                logs = self._epoch(trainer, check)
                trackers.epoch_ended(self._run_id, progress.epoch, logs)
                verdict = self._judge(trainer, progress.curve, logs)
                if verdict is not None and verdict.discard:
                    self._return(trainer, progress, verdict)
                else:
                    progress.curve.append(logs)
                    progress.epoch += 1
                progress.stopped = (
                    self._out_of_time(progress) if verdict is None else verdict.sentence
                )
                progress.seconds += time.monotonic() - started
                started = time.monotonic()
                self._save(trainer, progress)
        except BaseException as error:
            killed = not isinstance(error, Exception) or isinstance(error, BudgetExhaustedError)
            self._end(progress, KILLED if killed else FAILED, error)
            raise
        if progress.stopped is not None:
            logger.warning(
                "The supernet ends with the weights of epoch %d of %d: %s.",
                progress.epoch,
                self._epochs,
                progress.stopped,
            )
        self._end(progress, FINISHED)
        return progress

    def _return(self, trainer: T, progress: Progress, verdict: Verdict) -> None:
        """Return to the state after the last good epoch.

        Raises:
            StrategyError: There is none.
        """
        if not progress.epoch:
            raise StrategyError(
                f"the supernet must have a good epoch to search on; got none: {verdict.sentence}"
            )
        self._load(trainer, progress)

    def _end(self, progress: Progress, status: Status, error: BaseException | None = None) -> None:
        record = TrialRecord(
            trial_id=self._run_id,
            values={
                **self.options,
                "epochs": self._epochs,
                **({} if progress.stopped is None else {"stopped": progress.stopped}),
            },
            status=status,
            metrics=progress.curve[-1] if status == FINISHED else {},
            best_step=max(progress.epoch - 1, 0),
            curves=(tuple(progress.curve),) if progress.curve else (),
            epochs=self._epochs,
            costs={
                "parameters": float(self.built().model.count_params()),
                "train_seconds": progress.seconds,
            },
            error=None if error is None else error_line(error),
            placement=runtime.this_process(),
            started_ms=progress.started_ms,
            ended_ms=time.time_ns() // 1_000_000,
        )
        if status == FINISHED:
            with self._context.bookkeeping.step("the figure of the supernet was not drawn"):
                self._draw()
            with self._context.bookkeeping.step("the record of the supernet was not written"):
                record.save(self._folder)
        self._context.trackers.trial_ended(record)

    # ------------------------------------------------------------------ checkpoints

    @property
    def _state_file(self) -> Path:
        return self._folder / "state.json"

    def _weights(self, epoch: int) -> Path:
        return self._folder / f"epoch_{epoch}.weights.h5"

    def _save(self, trainer: T, progress: Progress) -> None:
        """Write the weights, then the state that names their epoch, then delete older weights."""
        progress.generator = trainer.rng.bit_generator.state
        progress.trainer = trainer.get_state()
        self._folder.mkdir(parents=True, exist_ok=True)
        save_state(self.built().model, self._weights(progress.epoch))
        self._write(progress)
        for path in self._folder.glob("epoch_*.weights.h5"):
            if path != self._weights(progress.epoch):
                path.unlink(missing_ok=True)

    def _write(self, progress: Progress) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._state_file, dataclasses.asdict(progress))

    def _restore(self, trainer: T) -> Progress:
        """Continue from the last checkpoint, if it is of the same training.

        Raises:
            StateError: The checkpoint cannot be read, or is of another training.
        """
        settings = self._settings
        try:
            progress = Progress(**read_json(self._state_file))
        except FileNotFoundError:
            self._start(trainer)
            return Progress(settings)
        if progress.settings != settings:
            changed = [name for name in settings if settings[name] != progress.settings.get(name)]
            raise StateError(
                f"the supernet of the saved search must have the same {', '.join(changed)}; got "
                f"{ {name: settings[name] for name in changed} }. Choose another `project_name`, "
                "or pass `overwrite=True` to start over."
            )
        self._load(trainer, progress)
        return progress

    def _load(self, trainer: T, progress: Progress) -> None:
        """Restore the state after the last epoch that was saved.

        Raises:
            StateError: The weights cannot be read.
        """
        try:
            load_state(self.built().model, self._weights(progress.epoch))
        except (OSError, ValueError, KeyError) as error:
            raise StateError(
                f"`{self._folder}` must have the weights of epoch {progress.epoch} of the "
                f"supernet; they cannot be read: {error}"
            ) from error
        trainer.rng.bit_generator.state = progress.generator
        trainer.set_state(progress.trainer)


class PathRun(SupernetRun[SupernetTrainer]):
    """The supernet of a `OneShotOracle`, which is trained path by path.

    Args:
        context: The search.
        oracle: Its oracle.
        fit: Arguments of `search`.
    """

    def __init__(self, context: SearchContext, oracle: OneShotOracle, fit: FitArguments) -> None:
        super().__init__(context, oracle, fit)
        self._sampling, self._distill = oracle.sampling, oracle.distill
        if oracle.sampling == "uniform":
            self._strategy = context.distribution_strategy

    def _notes(self) -> Sequence[str]:
        """See `SupernetRun._notes`."""
        notes = super()._notes()
        if self._strategy is None and self._context.distribution_strategy is not None:
            return (
                *notes,
                f"it is trained on one device, because {self._sampling!r} sampling averages the "
                "gradients of several paths, which Keras cannot do under a strategy.",
            )
        return notes

    @property
    def options(self) -> Mapping[str, Any]:
        """See `SupernetRun.options`."""
        if self._sampling != "sandwich":
            return {"sampling": self._sampling}
        return {"sampling": self._sampling, "distill": self._distill is not False}

    def _new_trainer(self, supernet: Supernet, rng: np.random.Generator) -> SupernetTrainer:
        sampler = SAMPLERS[self._sampling](supernet.spec)
        return SupernetTrainer(
            supernet,
            sampler,
            rng,
            class_weight=self._class_weight,
            distill=self._distill,
        )

    def _epoch(self, trainer: SupernetTrainer, check: Callable[[], None]) -> dict[str, float]:
        return trainer.epoch(self._data.training(trainer.rng), check)
