"""Runs of retrained models in MLflow: one for each seed, below the search's run, exactly once.

A run is identified by its tags, and its content depends only on the training. So if a process dies
while it logs, the next one completes the same run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.records.retraining import RETRAINED, RetrainedModel, Retraining
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.tracking.formatting import short_number
from keras_nas_plugin.tracking.mlflow import payload
from keras_nas_plugin.tracking.mlflow.client import bounded_requests, connect, public_uri
from keras_nas_plugin.tracking.mlflow.errors import tracking_errors
from keras_nas_plugin.tracking.mlflow.paging import iterate_runs, tags_equal
from keras_nas_plugin.tracking.mlflow.run_writer import RunWriter, source_tags
from keras_nas_plugin.tracking.mlflow.search_runs import VALUES_ARTIFACT
from keras_nas_plugin.tracking.mlflow.tags import (
    KIND,
    PARENT,
    SCHEMA,
    SCHEMA_VERSION,
    SEARCH_ID,
    SEARCH_NAME,
    STRATEGY,
    TRIAL_ID,
)
from keras_nas_plugin.tracking.points import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

#: Tags of a retrained model's run. Not `nas.trial_id`: that finds the run of the trial.
OF_TRIAL, SEED, KEY = "nas.retrained_trial_id", "nas.seed", "nas.retraining"
SEARCHED_METRIC, RETRAINED_METRIC = "searched/", "retrained/"

_SETTING = "retrain/"
# Tags that are copied from the search's run.
_SHARED = (SEARCH_NAME, STRATEGY, "nas.device", "nas.precision")


class RetrainedRuns:
    """The runs of retrained models in an experiment. Their searches need not be running.

    Args:
        tracking_uri: Where runs are stored.
        registry_uri: Where models are registered; None for the same store.
        experiment: Name of the experiment.
    """

    def __init__(self, tracking_uri: str, registry_uri: str | None, experiment: str) -> None:
        self._uri = tracking_uri
        self._registry_uri = registry_uri
        self._experiment = experiment

    def log(self, retraining: Retraining, record: TrialRecord, search: SearchInfo) -> Retraining:
        """Log the models that are not logged yet, and save the ids of their runs on disk.

        Args:
            retraining: The trained models.
            record: The trial whose model was retrained.
            search: Its search.

        Returns:
            The retraining with the ids of the runs.

        Raises:
            TrackingError: The store does not answer, rejects the request, or has no run of the
                search.
        """
        uri = self._uri
        contents = [_Content(retraining, model, record) for model in retraining.models]
        marks = [f"{public_uri(uri)} {content.digest()}" for content in contents]
        models = list(retraining.models)
        if all(model.logged == mark for model, mark in zip(models, marks, strict=True)):
            return retraining
        with (
            tracking_errors(f"logging trial {record.trial_id}, retrained,", uri),
            bounded_requests(),
        ):
            client = connect(uri, self._registry_uri)
            experiment_id = self._experiment_id(client)
            tags = {KIND: "search", SEARCH_ID: search.search_id}
            parent = next(_runs_with(client, experiment_id, tags), None)
            if parent is None:
                raise TrackingError(
                    f"`tracking_uri` must be a store that holds the run of the search "
                    f"{search.name!r}; got '{public_uri(uri)}', where experiment "
                    f"{self._experiment!r} has no such run. `keras-nas sync` uploads a search "
                    "that could not be logged."
                )
            for number, (content, mark) in enumerate(zip(contents, marks, strict=True)):
                run_id = _log(client, experiment_id, parent, content)
                models[number] = dataclasses.replace(models[number], run_id=run_id, logged=mark)
                models[number].save(retraining.directory)
        logged = dataclasses.replace(retraining, models=tuple(models))
        logged.save()
        return logged

    def runs_of_trial(self, search: SearchInfo, trial_id: str) -> list[str]:
        """Ids of the runs of a trial, the oldest first.

        Raises:
            TrackingError: The store does not answer, or rejects the request.
        """
        with tracking_errors(f"looking for trial {trial_id}", self._uri), bounded_requests():
            client = connect(self._uri, self._registry_uri)
            experiment = client.get_experiment_by_name(self._experiment)
            if experiment is None:
                return []
            tags = {TRIAL_ID: trial_id, KIND: "trial", SEARCH_ID: search.search_id}
            runs = _runs_with(client, experiment.experiment_id, tags)
            return [run.info.run_id for run in runs]

    def _experiment_id(self, client: MlflowClient) -> str:
        experiment = client.get_experiment_by_name(self._experiment)
        if experiment is None:
            raise TrackingError(
                f"`experiment` must be the one that the search was logged to; got "
                f"{self._experiment!r}, which does not exist at '{public_uri(self._uri)}'"
            )
        return experiment.experiment_id


def _runs_with(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> Iterator[Run]:
    """The runs with all of these tags, the oldest first."""
    by_start = ["attributes.start_time ASC"]
    return iterate_runs(client, experiment_id, tags_equal(tags), by_start)


@dataclasses.dataclass(frozen=True)
class _Content:
    """The content of the run of one retrained model."""

    retraining: Retraining
    model: RetrainedModel
    record: TrialRecord

    def identity(self) -> dict[str, str]:
        """Tags that identify the run."""
        return {
            OF_TRIAL: self.record.trial_id,
            KIND: RETRAINED,
            SEARCH_ID: self.retraining.search_id,
            KEY: self.retraining.key,
            SEED: str(self.model.seed),
        }

    def params(self) -> dict[str, str]:
        """The trial's hyperparameters, and how it was retrained."""
        values, _ = payload.params_of(self.record.values, whole_in=VALUES_ARTIFACT)
        settings = {f"{_SETTING}{name}": value for name, value in self.retraining.settings.items()}
        settings[f"{_SETTING}seed"] = self.model.seed
        return {**values, **payload.params_of(settings, whole_in="")[0]}

    def points(self) -> list[Point]:
        """Metrics by epoch, and the scores of the searched and the retrained model."""
        model, end = self.model, self.model.ended_ms
        span, epochs = end - model.started_ms, len(model.curve)
        points = [
            Point(
                payload.BY_EPOCH + name,
                value,
                model.started_ms + span * (epoch + 1) // epochs,
                epoch,
            )
            for epoch, logs in enumerate(model.curve)
            for name, value in logs.items()
        ]
        searched = {**self.retraining.searched, **self.retraining.searched_scores}
        costs = {**self.record.costs, "train_seconds": model.seconds}
        for prefix, metrics in (
            (SEARCHED_METRIC, searched),
            (RETRAINED_METRIC, model.scores),
            (payload.COST, costs),
        ):
            points += [Point(prefix + name, value, end, 0) for name, value in metrics.items()]
        return [
            point._replace(
                key=payload.safe_key(point.key),
                # MLflow stores an infinite value as the largest double.
                value=math.nan if math.isinf(point.value) else float(point.value),
            )
            for point in points
        ]

    def label(self) -> str:
        """The run's name of at most ten characters, such as ``r07s0 0.97``."""
        label = (
            payload.run_label(self.record.trial_id).replace("t", "r", 1) + f"s{self.model.seed}"
        )
        score = self.model.scores.get(self.retraining.metric)
        width = payload.LABEL_LIMIT - len(label) - 1
        return label if score is None or width < 4 else f"{label} {short_number(score, width)}"

    def digest(self) -> str:
        """Digest of everything that is logged."""
        text = json.dumps([self.identity(), self.params(), self.points(), self.label()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _log(client: MlflowClient, experiment_id: str, parent: Run, content: _Content) -> str:
    """Fill the run of a retrained model, creating it if there is none; returns its id."""
    # A training that is repeated with `overwrite=True` has the same tags, but gets a new run.
    runs = _runs_with(client, experiment_id, content.identity())
    run = next((run for run in runs if run.info.start_time == content.model.started_ms), None)
    if run is None:
        run = client.create_run(
            experiment_id,
            start_time=content.model.started_ms,
            tags={
                **source_tags(),
                **content.identity(),
                SCHEMA: SCHEMA_VERSION,
                PARENT: parent.info.run_id,
            },
            run_name=content.label(),
        )
    run_id = run.info.run_id
    tags = {key: parent.data.tags[key] for key in _SHARED if key in parent.data.tags}
    write = RunWriter(client, content.retraining)
    write.batch(run_id, points=content.points(), params=content.params(), tags=tags)
    write.datasets(run_id)
    write.end(run_id, "FINISHED", content.model.ended_ms, name=content.label())
    return run_id
