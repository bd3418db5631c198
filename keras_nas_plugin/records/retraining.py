"""How a trial's model is retrained on all data, and the result, as plain data on disk."""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import RetrainingError
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.html import html_summary, html_table
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.class_scores import ClassScores
from keras_nas_plugin.records.fields import reading_fields
from keras_nas_plugin.records.search import DatasetInfo

#: The folder of a project that holds retrained models, and their kind of run and version.
RETRAINED = "retrained"
#: Which rows the retrained models were measured on.
TEST, HELD_OUT = "test", "hold-out"

_VALIDATION, _LOSS = "val_", "loss"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrainConfig:
    """How to retrain the model of a trial on all data.

    Args:
        seeds: Number of models to train, each with a different seed. The first one is registered.
        seed: The first seed; the following seeds count up from it. None for the seed of the
            search, or 0 if it has none.
        epochs: Epochs of each training. None for as many as the trial took to reach its best
            epoch; for those of the search, if it started from the weights of another trial.
        hold_out: Fraction of the validation rows to measure on instead of training on them,
            between 0 and 1; for searches without test data. The searched model was chosen by these
            rows. None trains on all rows.
        overwrite: Whether to delete all retrained models of the search first.

    Raises:
        RetrainingError: An argument is out of its range; the message names it.
    """

    seeds: int = 1
    seed: int | None = None
    epochs: int | None = None
    hold_out: float | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, value in (("seeds", self.seeds), ("epochs", self.epochs)):
            if value is not None and value < 1:
                raise RetrainingError(f"`{name}` must be at least 1; got {value}")
        if self.seed is not None and self.seed < 0:
            raise RetrainingError(f"`seed` must be at least 0; got {self.seed}")
        if self.hold_out is not None and not 0 < self.hold_out < 1:
            raise RetrainingError(
                f"`hold_out` must be a fraction between 0 and 1; got {self.hold_out}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrainedModel:
    """One training on all data.

    Attributes:
        seed: Its seed.
        curve: Per epoch, what Keras logged; measured on the training rows.
        scores: Metrics on rows that it was not trained on; empty if there are none.
        class_scores: Scores by class on the same rows; None unless the model is a classifier whose
            labels can be read.
        measured: Digest of those rows.
        weights: File of the weights, relative to the project folder.
        run_id: Its run in MLflow; None if it was not logged yet.
        logged: Digest of what was logged and where, so that nothing is logged twice.
        started_ms: Start in milliseconds since 1970 (UTC).
        ended_ms: End in milliseconds since 1970 (UTC).
    """

    seed: int
    curve: tuple[Mapping[str, float], ...]
    weights: str
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    class_scores: ClassScores | None = None
    measured: str | None = None
    run_id: str | None = None
    logged: str | None = None
    started_ms: int = 0
    ended_ms: int = 0

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the training."""
        return (self.ended_ms - self.started_ms) / 1e3

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write the result beside the weights.

        Args:
            directory: The project folder.
        """
        write_json(_result_file(Path(directory) / self.weights), dataclasses.asdict(self))

    @classmethod
    def load(cls, directory: str | os.PathLike[str], weights: str) -> RetrainedModel | None:
        """Read what `save` wrote.

        Args:
            directory: The project folder.
            weights: File of the weights, relative to it.

        Returns:
            The result; None unless the training was finished.

        Raises:
            StateError: The file holds something else; the message names it.
        """
        path = Path(directory) / weights
        try:
            data = read_json(_result_file(path))
        except FileNotFoundError:
            return None
        with reading_fields(_result_file(path)):
            return cls.of(data) if path.exists() else None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> RetrainedModel:
        """Create the result from its JSON fields."""
        class_scores = data.get("class_scores")
        if class_scores is not None:
            class_scores = ClassScores.of(class_scores)
        return cls(**{**data, "curve": tuple(data["curve"]), "class_scores": class_scores})


def weights_file(key: str, seed: int) -> str:
    """File of the weights of one training, relative to the project folder."""
    return f"{RETRAINED}/{key}/seed_{seed}.weights.h5"


def _result_file(weights: Path) -> Path:
    return weights.with_name(weights.name.removesuffix(".weights.h5") + ".json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retraining:
    """A trial's model, retrained on training and validation data together.

    Attributes:
        search_id: The search.
        trial_id: The trial.
        key: Digest of everything that decides the result, except the seed.
        objective: Metric that the search optimized, for example ``"val_accuracy"``; of several,
            the first that training reports.
        direction: ``"max"`` or ``"min"``.
        epochs: Epochs of each training; None if the hypermodel decides.
        rows: Number of training rows; None where they were not counted (`tf.data`).
        datasets: The training data, then the data that the models were measured on.
        measured_on: ``"test"``, ``"hold-out"`` (a part of the validation data), or None if the
            models were not measured.
        measured_rows: Number of these rows; None where they were not counted.
        searched: Metrics of the searched model at its best epoch, by which it was chosen.
        searched_scores: Metrics of the searched model on the same rows as the retrained ones.
        models: The trainings. The first is the one that is kept and registered: choosing the best
            by test rows would make its score optimistic.
        settings: The settings of their training.
        remarks: What to know when reading the scores.
        directory: The project folder.
    """

    search_id: str
    trial_id: str
    key: str
    objective: str
    direction: str
    epochs: int | None
    rows: int | None
    searched: Mapping[str, float]
    models: tuple[RetrainedModel, ...]
    datasets: tuple[DatasetInfo, ...] = ()
    measured_on: str | None = None
    measured_rows: int | None = None
    searched_scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    directory: str = "."

    @property
    def kept(self) -> RetrainedModel:
        """The model of the first seed, which is the one to register."""
        return self.models[0]

    @property
    def metric(self) -> str:
        """Name of the objective on rows that are not validation rows.

        A hypermodel's `fit` may report what `evaluate` does not; then it is the loss.
        """
        name, scores = self.objective.removeprefix(_VALIDATION), self.kept.scores
        return _LOSS if name not in scores and _LOSS in scores else name

    @property
    def scores(self) -> tuple[float, ...]:
        """The objective of each model on rows that it was not trained on; may be empty."""
        if not all(self.metric in model.scores for model in self.models):
            return ()
        return tuple(model.scores[self.metric] for model in self.models)

    @property
    def mean(self) -> float | None:
        """Mean of `scores`."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of `scores` over the seeds; None for fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def searched_is_better(self) -> bool:
        """Whether the searched model has a better objective on test rows than `kept`."""
        objective = self.objective.removeprefix(_VALIDATION)
        searched, retrained = self.searched_scores.get(objective), self.kept.scores.get(objective)
        if self.measured_on != TEST or searched is None or retrained is None:
            return False
        return searched > retrained if self.direction == "max" else searched < retrained

    def summary(self) -> dict[str, Any]:
        """The searched and the retrained score side by side, as plain data.

        Returns:
            ``trial_id``, ``seeds``, ``epochs``, ``rows``, ``metric``, ``measured_on``,
            ``measured_rows``; the ``searched_score`` on these rows, the retrained models'
            ``scores`` by seed, their ``mean`` and ``standard_deviation``. None where a value is
            unknown.
        """
        return {
            "trial_id": self.trial_id,
            "seeds": [model.seed for model in self.models],
            "epochs": self.epochs,
            "rows": self.rows,
            "metric": self.metric,
            "measured_on": self.measured_on,
            "measured_rows": self.measured_rows,
            "searched_score": self.searched_scores.get(self.metric),
            "scores": list(self.scores),
            "mean": self.mean,
            "standard_deviation": self.deviation,
        }

    def _repr_html_(self) -> str:
        """The searched and the retrained scores in a notebook."""
        measured = f" on {self.measured_on} rows" if self.measured_on else " (not measured)"
        facts: dict[str, object] = {"epochs": self.epochs, "training rows": self.rows}
        if self.deviation is not None:
            facts["mean of the seeds"] = f"{self.mean:.6g} ± {self.deviation:.2g}"
        rows: list[tuple[object, object]] = [
            ("searched model", self.searched_scores.get(self.metric))
        ]
        scores = self.scores or [None] * len(self.models)
        rows += [
            (f"retrained, seed {model.seed}", score)
            for model, score in zip(self.models, scores, strict=True)
        ]
        table = html_table(("model", f"{self.metric}{measured}"), rows)
        return html_summary(f"Trial {self.trial_id}, retrained on all data", facts, table)

    def not_logged(self) -> Retraining:
        """A copy without run ids: runs of an earlier call may lack later measurements."""
        models = (dataclasses.replace(model, run_id=None, logged=None) for model in self.models)
        return dataclasses.replace(self, models=tuple(models))

    def save(self) -> None:
        """Write the result to the project folder, replacing a previous one."""
        path = ProjectLayout.of(self.directory).retraining
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Retraining | None:
        """Read the last retraining of a project folder; None when there is none.

        Raises:
            StateError: The file holds something else; the message names it.
        """
        path = ProjectLayout.of(directory).retraining
        try:
            data = read_json(path)
        except FileNotFoundError:
            return None
        with reading_fields(path):
            data["models"] = tuple(RetrainedModel.of(item) for item in data["models"])
            data["datasets"] = tuple(DatasetInfo(**item) for item in data["datasets"])
            return cls(**{**data, "remarks": tuple(data["remarks"]), "directory": str(directory)})

    @staticmethod
    def discard(directory: str | os.PathLike[str]) -> None:
        """Delete all retrained models of a project folder."""
        shutil.rmtree(ProjectLayout.of(directory).retrained, ignore_errors=True)
