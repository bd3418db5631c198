"""Train the model of a trial again: on all data, as long as the trial shows, with any seeds.

Each seed's training leaves its weights first and its result second, both atomically, in a
folder named after all that decides what comes of it. So a process that is killed loses the
training that runs, and the next one trains what is missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import NASError, RetrainingError, StateError
from keras_nas_plugin.evaluation.datasets import describe_data
from keras_nas_plugin.evaluation.names import COSTS
from keras_nas_plugin.evaluation.results import scalars
from keras_nas_plugin.files import file_lock
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.tracking.autolog import autolog_disabled
from keras_nas_plugin.tracking.records import DatasetInfo, SearchInfo, TrialRecord
from keras_nas_plugin.tracking.retraining import (
    HELD_OUT,
    RETRAINED,
    TEST,
    RetrainedModel,
    Retraining,
    weights_file,
)
from keras_nas_plugin.training import runtime
from keras_nas_plugin.training.describe import datasets_of
from keras_nas_plugin.training.full_data import FullData, Rows, full_data, rows_of
from keras_nas_plugin.training.running import error_line
from keras_nas_plugin.training.weights import save_weights

if TYPE_CHECKING:
    from keras_nas_plugin.training.results import SearchResults

logger = logging.getLogger("keras_nas_plugin")

_KEY_LENGTH = 12
_OTHER_DATA = "The data are others than those that were searched on: scores cannot be compared."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """How to retrain.

    Attributes:
        seeds: How many trainings.
        seed: Of the first; the others count up from it. None for the search's own, or 0.
        epochs: How long; None for as long as the trial's best epoch.
        hold_out: Fraction of the validation rows to measure on instead of learning from them.
        test_data: Rows that the search never saw: ``(x, y)`` or a data set.
        overwrite: Whether to forget what was retrained before.
    """

    seeds: int = 1
    seed: int | None = None
    epochs: int | None = None
    hold_out: float | None = None
    test_data: Any = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, value in (("seeds", self.seeds), ("epochs", self.epochs)):
            if value is not None and value < 1:
                raise RetrainingError(f"`{name}` needs at least 1; received {value}")
        if self.seed is not None and self.seed < 0:
            raise RetrainingError(f"`seed` needs at least 0; received {self.seed}")
        if self.hold_out is not None and self.test_data is not None:
            raise RetrainingError(
                "`hold_out` needs data without test rows, which measure better; received both. "
                "Leave it out."
            )


def retrain(
    tuner: SearchResults,
    trial: Trial,
    wanted: Wanted,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Retraining:
    """Retrain the model of a trial.

    Args:
        tuner: The tuner of the search.
        trial: Which trial.
        wanted: How.
        args: Positional arguments of `search`: data, as for the search.
        kwargs: Keyword arguments of `search`.

    Returns:
        All trainings, those of earlier calls included; it is in the project folder, too.

    Raises:
        RetrainingError: The data or the hypermodel do not allow it.
        StateError: Another process does the same, or the folder cannot be written.
    """
    project = Path(tuner.project_dir)
    record = TrialRecord.load(tuner.get_trial_dir(trial.trial_id))
    search = SearchInfo.load(project)
    if record is None or search is None or record.score is None:
        raise RetrainingError(
            f"`trial_id` needs a trial that finished; received {trial.trial_id!r}"
        )
    with _alone(project), runtime.precision(tuner.precision), autolog_disabled():
        if wanted.overwrite:
            Retraining.discard(project)
        work = _Work(tuner, trial, record, search, wanted, args, kwargs)
        try:
            return work.done()
        except OSError as error:
            raise StateError(
                f"`directory` needs room for retrained models; writing to {str(project)!r} gave: "
                f"{error.strerror or error}"
            ) from error


class _Work:
    """One call of `retrain`."""

    def __init__(
        self,
        tuner: SearchResults,
        trial: Trial,
        record: TrialRecord,
        search: SearchInfo,
        wanted: Wanted,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        self.tuner, self.record, self.search = tuner, record, search
        self.project = Path(tuner.project_dir)
        self.trial = trial
        first = wanted.seed if wanted.seed is not None else search.settings.get("seed") or 0
        self.seeds = range(first, first + wanted.seeds)
        self.data = full_data(args, kwargs, hold_out=wanted.hold_out, seed=first)
        self.measured = rows_of(wanted.test_data, "test_data") or self.data.held_out
        self.measured_on = TEST if wanted.test_data is not None else HELD_OUT
        if self.measured is None:
            self.measured_on = None
        self.remarks: list[str] = []
        if _differs(search, datasets_of(tuner.dataset, args, kwargs)):
            self.remarks.append(_OTHER_DATA)
            logger.warning(_OTHER_DATA)
        self.epochs, self.kwargs = self._fit_arguments(self.data, wanted.epochs)
        self.datasets = self._datasets()
        self.settings = {
            "epochs": self.epochs,
            "hold_out": wanted.hold_out,
            "precision": tuner.precision or keras.config.dtype_policy().name,
            "deterministic": tuner.deterministic,
            **{k: v for k, v in self.kwargs.items() if isinstance(v, str | int | float | bool)},
        }
        self.settings.pop("verbose", None)
        self.key = self._key()

    def _fit_arguments(
        self, data: FullData, wanted: int | None
    ) -> tuple[int | None, dict[str, Any]]:
        """Epochs, and what `fit` is given besides data."""
        kwargs = dict(data.kwargs)
        kwargs["callbacks"] = self._useful(kwargs.pop("callbacks", None) or ())
        own_fit = type(self.tuner.hypermodel).fit is not keras_tuner.HyperModel.fit
        given = kwargs.get("epochs", self.search.settings.get("epochs"))
        if wanted is None and own_fit and given is None:
            return None, kwargs  # its own affair, as in the search
        epochs = wanted or epochs_of_best(self.record, self.search) or given or 1
        return epochs, {**kwargs, "epochs": epochs}

    def _useful(self, callbacks: Sequence[Any]) -> list[Any]:
        """Those that need neither validation data nor the search's other trials."""
        useful, others = [], []
        for callback in callbacks:
            watches = str(getattr(callback, "monitor", ""))
            needs = watches.startswith("val_") or hasattr(callback, "set_project")
            (others if needs else useful).append(callback)
        if others:
            names = ", ".join(type(callback).__name__ for callback in others)
            self.remarks.append(f"Trained without {names}, for want of validation data.")
            logger.info(self.remarks[-1])
        return useful

    def _datasets(self) -> tuple[DatasetInfo, ...]:
        name = self.tuner.dataset
        described = [describe_data(f"{name}-full", "training", self.data.rows.content())]
        if self.measured is not None:
            content = self.measured.content()
            described.append(describe_data(f"{name}-{self.measured_on}", "test", content))
        return tuple(DatasetInfo(**item) for item in described)

    def _key(self) -> str:
        decides = {
            "search": self.search.search_id,
            "trial": self.record.trial_id,
            "values": dict(self.record.values),
            "settings": self.settings,
            "class_weight": self.kwargs.get("class_weight"),
            "data": self.datasets[0].digest,
        }
        text = json.dumps(decides, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]

    def done(self) -> Retraining:
        """Do what is missing."""
        folder = self.project / RETRAINED / self.key
        folder.mkdir(parents=True, exist_ok=True)
        # First, because it shows at once what is wrong with the rows.
        searched = self._searched_scores()
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
            models.append(self._measured(model))
        objective, direction = trained_objective(self.search)
        done = Retraining(
            search_id=self.search.search_id,
            trial_id=self.record.trial_id,
            key=self.key,
            objective=objective,
            direction=direction,
            epochs=self.epochs,
            rows=self.data.rows.count,
            datasets=self.datasets,
            measured_on=self.measured_on,
            measured_rows=self.measured.count if self.measured else None,
            searched=dict(self.record.metrics),
            searched_scores=searched,
            models=tuple(models),
            settings={key: value for key, value in self.settings.items() if value is not None},
            remarks=tuple(self.remarks),
            directory=str(self.project),
        )
        done.save()
        return done

    def _train(self, seed: int) -> RetrainedModel:
        keras.utils.set_random_seed(seed)
        recorder = _Recorder()
        callbacks = [*self.tuner._deepcopy_callbacks(self.kwargs["callbacks"]), recorder]
        for callback in callbacks:
            if type(callback).__name__ == "TensorBoard":
                callback.log_dir = os.path.join(callback.log_dir, RETRAINED, f"seed_{seed}")
        began = time.time_ns() // 1_000_000
        try:
            model = self.tuner.fit_from_scratch(
                from_scratch(self.trial), self.data.args, {**self.kwargs, "callbacks": callbacks}
            )
        except NASError:
            raise
        except Exception as error:  # whatever a hypermodel raises
            raise RetrainingError(
                "`hypermodel` needs to train on these data, and without validation data; with "
                f"seed {seed} it raised {error_line(error)}"
            ) from error
        model = model or recorder.model
        weights = weights_file(self.key, seed)
        save_weights(model, self.project / weights)
        trained = RetrainedModel(
            seed=seed,
            curve=tuple(recorder.curve),
            weights=weights,
            started_ms=began,
            ended_ms=time.time_ns() // 1_000_000,
        )
        trained.save(self.project)
        return trained

    def _measured(self, model: RetrainedModel) -> RetrainedModel:
        """The same with scores on the rows that are measured on now."""
        digest = self.datasets[1].digest if self.measured else None
        if model.measured == digest:
            return model
        scores = {}
        if self.measured is not None:
            scores = self._evaluate(self.tuner.load_retrained(self.trial, model), self.measured)
        model = dataclasses.replace(model, scores=scores, measured=digest)
        model.save(self.project)
        return model

    def _searched_scores(self) -> dict[str, float]:
        if self.measured is None:
            return {}
        known = Retraining.load(self.project)
        same = known and (known.search_id, known.trial_id, [d.digest for d in known.datasets[1:]])
        if same == (self.search.search_id, self.record.trial_id, [self.datasets[1].digest]):
            return dict(known.searched_scores)
        return self._evaluate(self.tuner.load_model(self.trial), self.measured)

    def _evaluate(self, model: keras.Model, rows: Rows) -> dict[str, float]:
        batch = None if rows.count is None else self.kwargs.get("batch_size")
        try:
            logs = model.evaluate(
                rows.x,
                rows.y,
                sample_weight=rows.weights,
                batch_size=batch,
                verbose=0,
                return_dict=True,
            )
        except Exception as error:  # Keras and its backends raise their own
            raise RetrainingError(
                f"`{'test_data' if self.measured_on == TEST else 'hold_out'}` needs rows that the "
                f"model can be measured on; it raised {error_line(error)}"
            ) from error
        return scalars(logs)


class _Recorder(keras.callbacks.Callback):
    """Keeps what Keras logs per epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.curve: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: Mapping | None = None) -> None:
        """Keep the logs of an epoch."""
        self.curve.append(scalars(logs))


def epochs_of_best(record: TrialRecord, search: SearchInfo) -> int | None:
    """Epochs up to the trial's best, the trials that it went on with included.

    A hypermodel's `fit` that returns numbers instead of a `History` does not say which epoch
    they belong to; then all of them count. None where nothing is known of epochs.
    """
    longest = max(map(len, record.curves), default=0)
    if not longest:
        return None
    names = [name for name, _ in search.objectives] or [search.objective]
    reported = any(name in logs for name in names for logs in record.curves[0])
    if record.best_step or reported:
        return record.best_step + 1
    return record.first_epoch + longest


def trained_objective(search: SearchInfo) -> tuple[str, str]:
    """Name and direction of the first objective that training decides."""
    several = search.objectives or ((search.objective, search.direction),)
    trained = [one for one in several if one[0] not in COSTS]
    return trained[0] if trained else ("val_loss", "min")


def _differs(search: SearchInfo, now: Sequence[DatasetInfo]) -> bool:
    before = [(data.context, data.digest) for data in search.datasets]
    return before != [(data.context, data.digest) for data in now]


def from_scratch(trial: Trial) -> Trial:
    """The same trial without what a promotion goes on from."""
    hyperparameters = trial.hyperparameters.copy()
    hyperparameters.values = configuration(hyperparameters.values)
    return Trial(hyperparameters, trial_id=trial.trial_id)


@contextlib.contextmanager
def _alone(project: Path) -> Iterator[None]:
    """Be the one process that retrains models of a search."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(project / f".{RETRAINED}.lock", wait=False))
        except BlockingIOError as error:
            raise StateError(
                "`project_name` needs a search that no other process retrains; received "
                f"{str(project)!r}, where one does now"
            ) from error
        yield
