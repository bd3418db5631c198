"""Runs of retrained models in MLflow: one for each seed, below the search's run, exactly once.

A run is found again by its tags, and what is written to it depends on the training alone, so
that a process that died while it logged is followed by one that finishes the same run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.tracking import payload
from keras_nas_plugin.tracking.connection import bounded_requests, connect, public_uri
from keras_nas_plugin.tracking.failures import explained
from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord
from keras_nas_plugin.tracking.retraining import RETRAINED, RetrainedModel, Retraining
from keras_nas_plugin.tracking.runs import (
    KIND,
    PARENT,
    SCHEMA,
    SCHEMA_VERSION,
    SEARCH_ID,
    TRIAL_ID,
    VALUES_ARTIFACT,
)
from keras_nas_plugin.tracking.writing import RunWriter, origin

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

#: Tags of a retrained model's run. Not `nas.trial_id`: that finds the run of the trial.
OF_TRIAL, SEED, KEY = "nas.retrained_trial_id", "nas.seed", "nas.retraining"
SEARCHED_METRIC, RETRAINED_METRIC = "searched/", "retrained/"

_SETTING = "retrain/"


def log_retraining(
    retraining: Retraining, record: TrialRecord, search: SearchInfo, tracker: Any
) -> Retraining:
    """Log what was not logged yet, and note it in the project folder.

    Args:
        retraining: The trainings.
        record: The trial that they are of.
        search: Its search.
        tracker: An `MLflowTracker`, which need not have followed the search.

    Returns:
        The same with the ids of the runs.

    Raises:
        TrackingError: The store does not answer or refuses, or does not know the search.
    """
    uri = tracker.tracking_uri
    contents = [_Content(retraining, model, record) for model in retraining.models]
    marks = [f"{public_uri(uri)} {content.digest()}" for content in contents]
    models = list(retraining.models)
    if all(model.logged == mark for model, mark in zip(models, marks, strict=True)):
        return retraining
    with explained(f"logging trial {record.trial_id}, retrained,", uri), bounded_requests():
        client = connect(uri, tracker.registry_uri)
        experiment_id = _experiment_id(client, tracker.experiment, uri)
        parent = _find(client, experiment_id, {KIND: "search", SEARCH_ID: search.search_id})
        if parent is None:
            raise TrackingError(
                f"`tracking_uri` needs the run of the search {search.name!r}; received "
                f"'{public_uri(uri)}', where experiment {tracker.experiment!r} has none. "
                "`keras-nas sync` sends a search that could not be logged."
            )
        for number, (content, mark) in enumerate(zip(contents, marks, strict=True)):
            run_id = _log(client, experiment_id, parent, content)
            models[number] = dataclasses.replace(models[number], run_id=run_id, logged=mark)
            models[number].save(retraining.directory)
    logged = dataclasses.replace(retraining, models=tuple(models))
    logged.save()
    return logged


def run_of_trial(tracker: Any, search: SearchInfo, trial_id: str) -> str | None:
    """The run of a trial; also where the tracker has followed no search yet, or another one.

    Raises:
        TrackingError: The store does not answer, or refuses.
    """
    known = tracker.run_id(trial_id)
    if not hasattr(tracker, "experiment"):
        return known
    doing = f"looking for trial {trial_id}"
    with explained(doing, tracker.tracking_uri), bounded_requests():
        client = connect(tracker.tracking_uri, tracker.registry_uri)
        experiment = client.get_experiment_by_name(tracker.experiment)
        if experiment is None:
            return None
        tags = {TRIAL_ID: trial_id, KIND: "trial", SEARCH_ID: search.search_id}
        found = [run.info.run_id for run in _all(client, experiment.experiment_id, tags)]
    # Trials of two searches have the same ids, and one tracker may follow both.
    return known if known in found else next(iter(found), None)


def _experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise TrackingError(
            f"`experiment` needs the one that the search was logged to; received {name!r}, which "
            f"is not at '{public_uri(uri)}'"
        )
    return experiment.experiment_id


def _find(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> Run | None:
    """The oldest run with all of these tags."""
    return next(iter(_all(client, experiment_id, tags)), None)


def _all(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """The runs with all of these tags, the oldest first."""
    quoted = {key: str(value).replace("'", "''") for key, value in tags.items()}
    return client.search_runs(
        [experiment_id],
        " and ".join(f"tags.`{key}` = '{value}'" for key, value in quoted.items()),
        order_by=["attributes.start_time ASC"],
    )


@dataclasses.dataclass(frozen=True)
class _Content:
    """All that the run of one retrained model holds."""

    retraining: Retraining
    model: RetrainedModel
    record: TrialRecord

    def identity(self) -> dict[str, str]:
        """Tags that no other run has."""
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
        settings = {f"{_SETTING}{name}": v for name, v in self.retraining.settings.items()}
        settings[f"{_SETTING}seed"] = self.model.seed
        return {**values, **payload.params_of(settings, whole_in="")[0]}

    def points(self) -> list[payload.Point]:
        """Metrics by epoch, and both models' scores side by side."""
        model, end = self.model, self.model.ended_ms
        span, epochs = end - model.started_ms, len(model.curve)
        found = [
            payload.Point(name, value, model.started_ms + span * (epoch + 1) // epochs, epoch)
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
            found += [payload.Point(prefix + name, v, end, 0) for name, v in metrics.items()]
        return [
            point._replace(
                key=payload.safe_key(point.key),
                # MLflow stores an infinite value as the largest double.
                value=math.nan if math.isinf(point.value) else float(point.value),
            )
            for point in found
        ]

    def label(self) -> str:
        """The run's name of at most ten characters, such as ``r07s0 0.97``."""
        label = (
            payload.run_label(self.record.trial_id).replace("t", "r", 1) + f"s{self.model.seed}"
        )
        score = self.model.scores.get(self.retraining.metric)
        room = payload.LABEL_LIMIT - len(label) - 1
        return (
            label if score is None or room < 4 else f"{label} {payload.short_number(score, room)}"
        )

    def digest(self) -> str:
        """Changes with anything that is logged."""
        text = json.dumps([self.identity(), self.params(), self.points(), self.label()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _log(client: MlflowClient, experiment_id: str, parent: Run, content: _Content) -> str:
    """Fill the run of a retrained model, which is made if there is none; its id."""
    # Trained again after `overwrite=True`, it is another training, which shares no run.
    runs = _all(client, experiment_id, content.identity())
    found = next((one for one in runs if one.info.start_time == content.model.started_ms), None)
    if found is None:
        found = client.create_run(
            experiment_id,
            start_time=content.model.started_ms,
            tags={
                **origin(),
                **content.identity(),
                SCHEMA: SCHEMA_VERSION,
                PARENT: parent.info.run_id,
            },
            run_name=content.label(),
        )
    run_id = found.info.run_id
    tags = {key: parent.data.tags[key] for key in _SHARED if key in parent.data.tags}
    write = RunWriter(client, content.retraining)
    write.batch(run_id, points=content.points(), params=content.params(), tags=tags)
    write.datasets(run_id)
    write.end(run_id, "FINISHED", content.model.ended_ms, name=content.label())
    return run_id


_SHARED = ("nas.device", "nas.precision")
