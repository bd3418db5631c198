"""MLflow's model registry: log a model once and make it a version."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.records.search import DatasetInfo
from keras_nas_plugin.tracking.formatting import text_of
from keras_nas_plugin.tracking.mlflow import links
from keras_nas_plugin.tracking.mlflow.client import bounded_requests, connect, quiet_requests
from keras_nas_plugin.tracking.mlflow.errors import tracking_errors
from keras_nas_plugin.tracking.mlflow.payload import safe_key
from keras_nas_plugin.tracking.model_registry import (
    ExistingVersion,
    ModelSaver,
    NewVersion,
    RegisteredModel,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

# MLflow leaves its own field empty for a version that is registered by the folder of its model.
MODEL_ID = "nas.model_id"

_LOGGED_NAME = "model"
_REPORT = "report.html"
_VERSION_SECONDS = 300


class MLflowModelRegistry:
    """Registers models beside the runs that trained them.

    Args:
        tracking_uri: Where the runs are stored.
        registry_uri: Where models are registered; None for the same store.
    """

    def __init__(self, tracking_uri: str, registry_uri: str | None = None) -> None:
        self._tracking_uri = tracking_uri
        self._registry_uri = registry_uri

    def register(self, version: NewVersion) -> RegisteredModel:
        """See `ModelRegistry.register`. MLflow's global state is neither used nor changed.

        Raises:
            TrackingError: The store does not answer, or the model cannot be saved.
        """
        client = connect(self._tracking_uri, self._registry_uri)
        doing = f"registering `{version.name}`"
        with tracking_errors(doing, self._tracking_uri, foreign=True), quiet_requests():
            logged = _create_logged_model(client, version.run_id)
            try:
                _upload(client, logged, version.save)
            except BaseException:
                client.finalize_logged_model(logged.model_id, "FAILED")
                raise
            client.finalize_logged_model(logged.model_id, "READY")
            _link(client, logged, version.metrics, version.dataset)
            number = self._create_version(client, logged, version)
            if version.alias is not None:
                client.set_registered_model_alias(version.name, version.alias, number)
        return RegisteredModel(
            name=version.name,
            version=number,
            alias=version.alias,
            model_uri=f"models:/{version.name}/{number}",
            run_id=version.run_id,
            model_id=logged.model_id,
        )

    def versions_of_run(self, name: str, run_id: str) -> list[ExistingVersion]:
        """See `ModelRegistry.versions_of_run`.

        Raises:
            TrackingError: The store does not answer, or rejects the request.
        """
        client = connect(self._tracking_uri, self._registry_uri)
        with tracking_errors(f"registering `{name}`", self._tracking_uri), bounded_requests():
            versions = client.search_model_versions(f"run_id = '{run_id}'")
            versions = [version for version in versions if version.name == name]
            if not versions:
                return []
            # A search for versions returns no aliases (MLflow 3.17).
            aliases = client.get_registered_model(name).aliases
        versions.sort(key=lambda version: int(version.version))
        return [_existing(version, aliases) for version in versions]

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """See `ModelRegistry.set_alias`.

        Raises:
            TrackingError: The store does not answer, or rejects the request.
        """
        client = connect(self._tracking_uri, self._registry_uri)
        with tracking_errors(f"registering `{name}`", self._tracking_uri), bounded_requests():
            client.set_registered_model_alias(name, alias, version)

    def pages_of_run(self, run_id: str) -> dict[str, str]:
        """Addresses in MLflow's UI of a run, of its search's run and of the search's report.

        Returns:
            The addresses, by what they show.

        Raises:
            TrackingError: The store does not answer, or rejects the request.
        """
        client = connect(self._tracking_uri, self._registry_uri)
        with tracking_errors("reading runs", self._tracking_uri), bounded_requests():
            run = client.get_run(run_id)
            experiment, parent = run.info.experiment_id, run.data.tags.get("mlflow.parentRunId")
            pages = {
                "Run of the model": links.run_page(self._tracking_uri, experiment, run_id),
            }
            if parent is None:
                return pages
            pages["Run of the search"] = links.run_page(self._tracking_uri, experiment, parent)
            if any(file.path == _REPORT for file in client.list_artifacts(parent)):
                pages["Report of the search"] = links.artifact_page(
                    self._tracking_uri, experiment, parent, _REPORT
                )
        return pages

    def client(self) -> MlflowClient:
        """A client of the store and the registry."""
        return connect(self._tracking_uri, self._registry_uri)

    def _create_version(
        self, client: MlflowClient, logged: LoggedModel, version: NewVersion
    ) -> str:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(version.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # Only Databricks creates versions in the background; other stores need no waiting.
        uri = self._registry_uri or self._tracking_uri
        remote = uri.startswith(("databricks", "uc"))
        created = client.create_model_version(
            version.name,
            # The folder itself: `models:/<id>` would be resolved at MLflow's global tracking URI.
            source=logged.artifact_location,
            run_id=logged.source_run_id,
            tags={safe_key(key): text_of(value) for key, value in version.tags.items()}
            | {MODEL_ID: logged.model_id},
            model_id=logged.model_id,
            description=version.description,
            await_creation_for=_VERSION_SECONDS if remote else 0,
        )
        return str(created.version)


def _create_logged_model(client: MlflowClient, run_id: str) -> LoggedModel:
    run = client.get_run(run_id)
    return client.create_logged_model(
        run.info.experiment_id,
        name=_LOGGED_NAME,
        source_run_id=run_id,
        params=dict(run.data.params),
    )


def _upload(client: MlflowClient, logged: LoggedModel, save: ModelSaver) -> None:
    from mlflow.models import Model

    metadata = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        run_id=logged.source_run_id,
        model_id=logged.model_id,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model")
        save(path, metadata)
        client.log_model_artifacts(logged.model_id, path)


def _link(
    client: MlflowClient,
    logged: LoggedModel,
    metrics: Mapping[str, float],
    dataset: DatasetInfo | None,
) -> None:
    """Link the model to its run, its metrics and its data."""
    from mlflow.entities import LoggedModelOutput, Metric

    run_id = logged.source_run_id
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    now_ms = int(time.time() * 1e3)
    client.log_batch(
        run_id,
        metrics=[
            Metric(
                key=safe_key(f"model/{name}"),
                value=float(value),
                timestamp=now_ms,
                step=0,
                model_id=logged.model_id,
                dataset_name=dataset.name if dataset else None,
                dataset_digest=dataset.digest[:36] if dataset else None,
                run_id=run_id,
            )
            for name, value in metrics.items()
        ],
    )


def _existing(version: ModelVersion, aliases: Mapping[str, Any]) -> ExistingVersion:
    number = str(version.version)
    return ExistingVersion(
        model=RegisteredModel(
            name=version.name,
            version=number,
            alias=None,
            model_uri=f"models:/{version.name}/{number}",
            run_id=version.run_id,
            model_id=version.tags.get(MODEL_ID, ""),
        ),
        tags=dict(version.tags),
        aliases=tuple(alias for alias, target in aliases.items() if str(target) == number),
    )
