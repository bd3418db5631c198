"""Writes points, parameters, tags, data sets and files to runs."""

from __future__ import annotations

import getpass
import json
import logging
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import Status
from keras_nas_plugin.tracking.formatting import shorten, text_of
from keras_nas_plugin.tracking.mlflow import payload
from keras_nas_plugin.tracking.mlflow.client import is_outage, is_server
from keras_nas_plugin.tracking.points import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    from keras_nas_plugin.records.retraining import Retraining

RUN_NAME = "mlflow.runName"

logger = logging.getLogger("keras_nas_plugin")


class RunWriter:
    """Writes to runs. Writing the same content again changes nothing.

    Args:
        client: An open store.
        search: The search, or the retraining, with the data sets of the runs.
    """

    def __init__(self, client: MlflowClient, search: SearchInfo | Retraining) -> None:
        self._client = client
        self._search = search

    def batch(
        self,
        run_id: str,
        *,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log points, parameters and tags."""
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[Metric(p.key, p.value, p.time_ms, p.step) for p in points],
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
        )

    def params(
        self,
        run_id: str,
        values: Mapping[str, Any],
        artifact: str,
        logged: Collection[str] = (),
    ) -> None:
        """Log values as parameters.

        Args:
            run_id: The run.
            values: Values by name.
            artifact: Name of the file for the full values where MLflow would cut them.
            logged: Names of values that the run already has.
        """
        params, changed = payload.params_of(values, whole_in=artifact)
        keys = payload.safe_keys(values)
        new = {key: params[key] for name, key in keys.items() if name not in logged}
        self.batch(run_id, params=new)
        if changed:
            self.artifact(run_id, artifact, dict(values))

    def end(self, run_id: str, status: Status, ended_ms: int | None, *, name: str) -> None:
        """Set the final name, status and end time of a run in one request.

        `MlflowClient` has one method for the name and another one for the end, which together
        take three sessions of a database instead of one. The store behind it takes all at once:
        its interface is that of MLflow's store plugins, but the client's attribute that holds it
        is private (in MLflow 3.17; there is no public way).

        Args:
            run_id: The run.
            status: Its final status.
            ended_ms: When it ended, in milliseconds since 1970 (UTC); None for now.
            name: The run's final name.
        """
        from mlflow.entities import RunStatus

        store = getattr(getattr(self._client, "_tracking_client", None), "store", None)
        if store is None:
            self._client.set_tag(run_id, RUN_NAME, name)
            self._client.set_terminated(run_id, status, ended_ms)
            return
        ended_ms = ended_ms or time.time_ns() // 1_000_000
        store.update_run_info(run_id, RunStatus.from_string(status), ended_ms, name)

    def datasets(self, run_id: str) -> None:
        """Log the data sets as inputs of a run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"tags": source_tags()})
        inputs = [
            DatasetInput(
                Dataset(
                    name=fields["name"],
                    digest=fields["digest"],
                    source_type="code",
                    source=source,
                    schema=fields["schema"],
                    profile=fields["profile"],
                ),
                [InputTag("mlflow.data.context", fields["context"])],
            )
            for fields in payload.dataset_fields(self._search)
        ]
        if inputs:
            self._client.log_inputs(run_id, inputs)

    def files(self, run_id: str, paths: Iterable[Path], artifacts: str | None = None) -> None:
        """Store files as artifacts of a run; files that do not exist are skipped.

        Args:
            run_id: The run.
            paths: The files.
            artifacts: Address of the run's artifacts, which saves a request; None to ask MLflow.
        """
        existing = [path for path in paths if path.exists()]
        try:
            store = self._artifact_store(artifacts) if existing and artifacts else None
            for path in existing:
                if store is not None:
                    store.log_artifact(str(path))
                else:
                    self._client.log_artifact(run_id, str(path))
        except Exception as error:  # artifact stores raise whatever their library raises
            self._handle_failed_upload(", ".join(path.name for path in existing), error)

    def _artifact_store(self, artifacts: str) -> ArtifactRepository | None:
        uri = self._client.tracking_uri
        if uri.startswith("databricks"):
            return None  # its addresses lack the user's profile
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(artifacts, tracking_uri=uri)

    def artifact(self, run_id: str, name: str, data: object) -> None:
        """Store JSON as an artifact of a run; a failure is only logged."""
        text = json.dumps(data, indent=1, default=str)
        try:
            self._client.log_text(run_id, text, name)
        except Exception as error:  # artifact stores raise whatever their library raises
            self._handle_failed_upload(name, error)

    def _handle_failed_upload(self, names: str, error: Exception) -> None:
        """Continue without a file, unless the server is down: then the run is sent again later."""
        by_mlflow = hasattr(error, "error_code")  # and not by a store of files behind it
        if by_mlflow and is_server(self._client.tracking_uri) and is_outage(error):
            raise error
        logger.warning("MLflow's artifact store did not accept `%s`: %s", names, error)


def tag_value(value: object) -> str:
    """A value as text for a tag, shortened visibly where MLflow would cut it silently."""
    return shorten(text_of(value), payload.TAG_LIMIT)


def source_tags() -> dict[str, str]:
    """The program and the user, as MLflow's own system tags."""
    tags = {"mlflow.source.name": sys.argv[0] or "python", "mlflow.source.type": "LOCAL"}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):
        logger.debug("The system has no name for this user.")
    return tags
