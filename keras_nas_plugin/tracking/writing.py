"""Filling a run: points, parameters, tags, data sets and files."""

from __future__ import annotations

import getpass
import json
import logging
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.tracking import payload
from keras_nas_plugin.tracking.connection import is_server, lost
from keras_nas_plugin.tracking.records import SearchInfo, Status

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from keras_nas_plugin.tracking.retraining import Retraining

RUN_NAME = "mlflow.runName"

_log = logging.getLogger("keras_nas_plugin")


class RunWriter:
    """Fills runs of a search. Writing the same again changes nothing.

    Args:
        client: An open store.
        search: The search, or the retraining, whose data sets they have.
    """

    def __init__(self, client: MlflowClient, search: SearchInfo | Retraining) -> None:
        self._client = client
        self._search = search

    def batch(
        self,
        run_id: str,
        *,
        points: Sequence[payload.Point] = (),
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
        known: Collection[str] = (),
    ) -> None:
        """Log values as parameters.

        Args:
            run_id: The run.
            values: By name.
            artifact: Name of the file that holds them whole where MLflow would cut them.
            known: Names of those that the run has already.
        """
        params, changed = payload.params_of(values, whole_in=artifact)
        keys = payload.safe_keys(values)
        self.batch(run_id, params={k: params[k] for n, k in keys.items() if n not in known})
        if changed:
            self.artifact(run_id, artifact, dict(values))

    def end(self, run_id: str, status: Status, ended_ms: int | None, *, name: str) -> None:
        """Give a run its last name and status, and its end, in one go.

        `MlflowClient` has a call for the name and another one for the end, which together take
        three of a database's sessions instead of one. The store behind it takes all at once: its
        interface is that of MLflow's store plugins, but where a client keeps it is private (in
        MLflow 3.17; there is no public way).

        Args:
            run_id: The run.
            status: A final one.
            ended_ms: When it ended, in milliseconds since 1970 (UTC); None for now.
            name: What the run is called from now on.
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
        """Log the data sets of the search as inputs of a run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"tags": origin()})
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

    def files(
        self, run_id: str, folder: Path, names: Iterable[str], artifacts: str | None = None
    ) -> None:
        """Store what lies in a folder for people to look at.

        Args:
            run_id: The run.
            folder: Where the files are.
            names: Their names; those that are not there are left out.
            artifacts: The run's place for files, where it is known; else MLflow is asked.
        """
        there = [folder / name for name in names if (folder / name).exists()]
        try:
            store = self._artifact_store(artifacts) if there and artifacts else None
            for path in there:
                if store is not None:
                    store.log_artifact(str(path))
                else:
                    self._client.log_artifact(run_id, str(path))
        except Exception as error:  # artifact stores raise whatever their library raises
            self._without(", ".join(path.name for path in there), error)

    def _artifact_store(self, artifacts: str) -> Any:
        uri = self._client.tracking_uri
        if uri.startswith("databricks"):
            return None  # whose addresses lack the user's profile
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(artifacts, tracking_uri=uri)

    def artifact(self, run_id: str, name: str, data: Any) -> None:
        """Store JSON beside a run; the run does not depend on it."""
        text = json.dumps(data, indent=1, default=str)
        try:
            self._client.log_text(run_id, text, name)
        except Exception as error:  # artifact stores raise whatever their library raises
            self._without(name, error)

    def _without(self, names: str, error: Exception) -> None:
        """Go on without a file, unless the server is gone: then everything is sent later."""
        by_mlflow = hasattr(error, "error_code")  # and not by a store of files behind it
        if by_mlflow and is_server(self._client.tracking_uri) and lost(error):
            raise error
        _log.warning("MLflow's artifact store did not take `%s`: %s", names, error)


def tag_value(value: Any) -> str:
    """A value as a tag, cut visibly where MLflow would cut it silently."""
    return payload.shorten(payload.text_of(value), payload.TAG_LIMIT)


def origin() -> dict[str, str]:
    """Who started what, as MLflow's own system tags."""
    tags = {"mlflow.source.name": sys.argv[0] or "python", "mlflow.source.type": "LOCAL"}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):
        _log.debug("The system has no name for this user.")
    return tags
