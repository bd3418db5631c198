"""What came of training a trial's model again on all data, as plain data on disk."""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.tracking.records import DatasetInfo, fields_of

#: The folder of a project that holds retrained models, and what kind of run and version they are.
RETRAINED = "retrained"
TEST, HELD_OUT = "test", "hold-out"

_SUMMARY = "retraining.json"
_VALIDATION, _LOSS = "val_", "loss"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrainedModel:
    """One training on all data.

    Attributes:
        seed: What it was seeded with.
        curve: Per epoch, what Keras logged; on the rows that it learned from.
        scores: Metrics on rows that it did not learn from; none where there were none.
        measured: Digest of those rows.
        weights: File of the weights, relative to the project folder.
        run_id: Its run in MLflow; None where it was not logged yet.
        logged: What was logged where, so that nothing is sent twice for nothing.
        started_ms: Start in milliseconds since 1970 (UTC).
        ended_ms: End in milliseconds since 1970 (UTC).
    """

    seed: int
    curve: tuple[Mapping[str, float], ...]
    weights: str
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    measured: str | None = None
    run_id: str | None = None
    logged: str | None = None
    started_ms: int = 0
    ended_ms: int = 0

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the training."""
        return (self.ended_ms - self.started_ms) / 1e3

    def save(self, directory: str | os.PathLike) -> None:
        """Write this beside its weights.

        Args:
            directory: The project folder.
        """
        write_json(_beside(Path(directory) / self.weights), dataclasses.asdict(self))

    @classmethod
    def load(cls, directory: str | os.PathLike, weights: str) -> RetrainedModel | None:
        """Read what `save` wrote; None unless the training came to its end.

        Args:
            directory: The project folder.
            weights: File of the weights, relative to it.

        Raises:
            StateError: The file holds something else; the message names it.
        """
        path = Path(directory) / weights
        try:
            data = read_json(_beside(path))
        except FileNotFoundError:
            return None
        with fields_of(directory, str(_beside(Path(weights)))):
            return cls.of(data) if path.exists() else None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> RetrainedModel:
        """From the fields as JSON has them."""
        return cls(**{**data, "curve": tuple(data["curve"])})


def weights_file(key: str, seed: int) -> str:
    """Where the weights of one training lie, relative to the project folder."""
    return f"{RETRAINED}/{key}/seed_{seed}.weights.h5"


def _beside(weights: Path) -> Path:
    return weights.with_name(weights.name.removesuffix(".weights.h5") + ".json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retraining:
    """A trial's model, trained again on training and validation data together.

    Attributes:
        search_id: The search.
        trial_id: The trial.
        key: Digest of all that decides what comes of it, but for the seed.
        objective: Metric that was searched for, for example ``"val_accuracy"``; of several, the
            first that training reports.
        direction: ``"max"`` or ``"min"``.
        epochs: How long each was trained; None where the hypermodel decides.
        rows: Rows that each learned from; None where they were not counted (`tf.data`).
        datasets: What they learned from, and what they were measured on.
        measured_on: ``"test"``, ``"hold-out"`` (a part of the validation data, set apart), or
            None: then nothing is known of how good they are.
        measured_rows: How many rows that were; None where they were not counted.
        searched: The searched model's metrics at its best epoch: what it was chosen by.
        searched_scores: The searched model's metrics on the rows that the others are measured on.
        models: The trainings. The first is the one that is kept and registered: to take the
            best by test rows would flatter it.
        settings: What decided their training.
        remarks: What a reader of the scores has to know.
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
        """The model that counts: that of the first seed."""
        return self.models[0]

    @property
    def metric(self) -> str:
        """The objective as it is called on rows that are not for validation.

        A hypermodel's `fit` may report what `evaluate` does not; then it is the loss.
        """
        name, scores = self.objective.removeprefix(_VALIDATION), self.kept.scores
        return _LOSS if name not in scores and _LOSS in scores else name

    @property
    def scores(self) -> tuple[float, ...]:
        """The objective of each model on rows that it did not learn from; empty without such."""
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

    def summary(self) -> dict[str, Any]:
        """The searched and the retrained score side by side, as plain data.

        Returns:
            ``trial_id``, ``seeds``, ``epochs``, ``rows``, ``metric``, ``measured_on``,
            ``measured_rows``; the ``searched_score`` on these rows, the retrained models'
            ``scores`` by seed, their ``mean`` and ``standard_deviation``. None where it is not
            known.
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

    def not_logged(self) -> Retraining:
        """The same, said to lack runs: an earlier one may know less than what was measured."""
        models = tuple(dataclasses.replace(one, run_id=None, logged=None) for one in self.models)
        return dataclasses.replace(self, models=models)

    def save(self) -> None:
        """Write this to the project folder, in place of an earlier one."""
        folder = Path(self.directory) / RETRAINED
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / _SUMMARY, dataclasses.asdict(self))

    @classmethod
    def load(cls, directory: str | os.PathLike) -> Retraining | None:
        """Read the last retraining of a project folder; None when there is none.

        Raises:
            StateError: The file holds something else; the message names it.
        """
        try:
            data = read_json(Path(directory) / RETRAINED / _SUMMARY)
        except FileNotFoundError:
            return None
        with fields_of(directory, f"{RETRAINED}/{_SUMMARY}"):
            data["models"] = tuple(RetrainedModel.of(item) for item in data["models"])
            data["datasets"] = tuple(DatasetInfo(**item) for item in data["datasets"])
            return cls(**{**data, "remarks": tuple(data["remarks"]), "directory": str(directory)})

    @staticmethod
    def discard(directory: str | os.PathLike) -> None:
        """Delete all retrained models of a project folder."""
        shutil.rmtree(Path(directory) / RETRAINED, ignore_errors=True)
