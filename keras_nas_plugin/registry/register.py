"""Log a model once and make it a version in the MLflow Model Registry."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.registry.custom_objects import (
    find_custom_objects,
    no_registered_objects,
    pickled_by_value,
)
from keras_nas_plugin.registry.requirements import pinned_requirements
from keras_nas_plugin.registry.signature import example_of, infer
from keras_nas_plugin.tracking.connection import connect, quiet_requests
from keras_nas_plugin.tracking.failures import explained
from keras_nas_plugin.tracking.payload import safe_key, text_of
from keras_nas_plugin.tracking.records import DatasetInfo

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

_ALIAS = re.compile(r"[\w-]{1,255}")
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_LOGGED_NAME = "model"
_VERSION_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class RegisteredModel:
    """A version in the registry.

    Attributes:
        name: Name of the registered model.
        version: Its version, counted from ``"1"``.
        alias: The alias that now points to this version, or None.
        model_uri: What `mlflow.pyfunc.load_model` takes, for example
            ``models:/digits-classifier/3``.
        run_id: The run that trained the model.
        model_id: The logged model behind the version.
    """

    name: str
    version: str
    alias: str | None
    model_uri: str
    run_id: str
    model_id: str


def register_model(
    model: Any,
    *,
    name: str,
    run_id: str,
    tracking_uri: str,
    registry_uri: str | None = None,
    alias: str | None = "challenger",
    tags: Mapping[str, Any] | None = None,
    sample: Any = None,
    metrics: Mapping[str, float] | None = None,
    dataset: DatasetInfo | None = None,
    code_paths: Sequence[str | os.PathLike] | None = None,
    input_example: bool = False,
    files: Mapping[str, str] | None = None,
    description: str | None = None,
) -> RegisteredModel:
    """Log a Keras model to its run, register it and point an alias to the new version.

    The model loads in a fresh process through `mlflow.pyfunc.load_model` and
    `mlflow.tensorflow.load_model`: custom layers, losses and metrics from a script, a notebook
    or a file that is not installed are stored with it, those from installed packages are
    pinned as requirements. MLflow's global state is neither used nor changed.

    Args:
        model: A Keras model.
        name: Name of the registered model; created if there is none.
        run_id: The run that trained the model.
        tracking_uri: Where that run is kept.
        registry_uri: Where models are registered; None for the same place.
        alias: Alias for the new version, taken from the version that has it now; None sets
            none.
        tags: Tags of the version, for example the search's and trial's id; ``nas.model_id`` is
            added.
        sample: A few rows of input, for the signature: an array, or a list or dictionary of
            arrays.
        metrics: What the model reached; logged as ``model/<name>``, linked to the model.
        dataset: What those metrics were measured on.
        code_paths: Files and folders of Python code to copy with the model and import from,
            instead of storing the custom classes in them whole.
        input_example: Whether to store the rows of ``sample`` with the model.
        files: Texts to store with the model, by file name.
        description: Of the version, in Markdown.

    Returns:
        The new version.

    Raises:
        TrackingError: A name or alias that MLflow refuses, a store that does not answer, or
            a model that cannot be saved.
    """
    check_name(name)
    check_alias(alias)
    client = connect(tracking_uri, registry_uri)
    with explained(f"registering `{name}`", tracking_uri, foreign=True), quiet_requests():
        logged = _create_logged_model(client, run_id)
        try:
            example = example_of(model, sample) if input_example else None
            _upload(client, model, logged, sample, code_paths or (), example, files or {})
        except BaseException:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        client.finalize_logged_model(logged.model_id, "READY")
        _link(client, logged, metrics or {}, dataset)
        version = _create_version(
            client, name, logged, tags or {}, registry_uri or tracking_uri, description
        )
        if alias is not None:
            client.set_registered_model_alias(name, alias, version)
    return RegisteredModel(
        name=name,
        version=version,
        alias=alias,
        model_uri=f"models:/{name}/{version}",
        run_id=run_id,
        model_id=logged.model_id,
    )


def check_name(name: str) -> None:
    """Refuse a name that MLflow does not take.

    Raises:
        TrackingError: It is such a name.
    """
    if not isinstance(name, str) or not name.strip() or set("/:") & set(name) or name[0] == ".":
        raise TrackingError(
            "`name` needs text that does not begin with a dot and holds no slash or colon; "
            f"received {name!r}"
        )


def check_alias(alias: str | None) -> None:
    """Refuse an alias that MLflow does not take.

    Raises:
        TrackingError: It is such an alias.
    """
    if alias is None:
        return
    if (
        not isinstance(alias, str)
        or not _ALIAS.fullmatch(alias)
        or _RESERVED_ALIAS.fullmatch(alias)
    ):
        raise TrackingError(
            "`alias` needs letters, digits, '_' and '-', and is not 'latest' or 'v1', which "
            f"MLflow keeps for itself; received {alias!r}"
        )


def _create_logged_model(client: MlflowClient, run_id: str) -> LoggedModel:
    run = client.get_run(run_id)
    return client.create_logged_model(
        run.info.experiment_id,
        name=_LOGGED_NAME,
        source_run_id=run_id,
        params=dict(run.data.params),
    )


def _upload(
    client: MlflowClient,
    model: Any,
    logged: LoggedModel,
    sample: Any,
    code_paths: Sequence[str | os.PathLike],
    example: Any,
    files: Mapping[str, str],
) -> None:
    import mlflow.tensorflow
    from mlflow.models import Model

    objects = find_custom_objects(model)
    distributions = importlib.metadata.packages_distributions()
    about = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        run_id=logged.source_run_id,
        model_id=logged.model_id,
    )
    signature = infer(model, sample)
    with (
        tempfile.TemporaryDirectory() as folder,
        pickled_by_value(objects.values(), distributions, code_paths),
        no_registered_objects(),
    ):
        path = os.path.join(folder, "model")
        mlflow.tensorflow.save_model(
            model,
            path,
            mlflow_model=about,
            custom_objects=objects or None,
            code_paths=[os.fspath(code) for code in code_paths] or None,
            signature=signature,
            input_example=example,
            pip_requirements=pinned_requirements(objects.values(), distributions),
        )
        for file, text in files.items():
            Path(path, file).write_text(text, encoding="utf-8")
        client.log_model_artifacts(logged.model_id, path)


def _link(
    client: MlflowClient,
    logged: LoggedModel,
    metrics: Mapping[str, float],
    dataset: DatasetInfo | None,
) -> None:
    """Tie the model to its run, its metrics and its data."""
    from mlflow.entities import LoggedModelOutput, Metric

    run_id = logged.source_run_id
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    now = int(time.time() * 1e3)
    client.log_batch(
        run_id,
        metrics=[
            Metric(
                key=safe_key(f"model/{name}"),
                value=float(value),
                timestamp=now,
                step=0,
                model_id=logged.model_id,
                dataset_name=dataset.name if dataset else None,
                dataset_digest=dataset.digest[:36] if dataset else None,
                run_id=run_id,
            )
            for name, value in metrics.items()
        ],
    )


def _create_version(
    client: MlflowClient,
    name: str,
    logged: LoggedModel,
    tags: Mapping[str, Any],
    registry_uri: str,
    description: str | None,
) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # Only Databricks creates versions in the background; elsewhere waiting is but a line of log.
    remote = registry_uri.startswith(("databricks", "uc"))
    version = client.create_model_version(
        name,
        # The place itself: `models:/<id>` would be looked up at MLflow's global tracking URI.
        source=logged.artifact_location,
        run_id=logged.source_run_id,
        tags={safe_key(key): text_of(value) for key, value in tags.items()}
        | {"nas.model_id": logged.model_id},  # MLflow's own field stays empty here
        model_id=logged.model_id,
        description=description,
        await_creation_for=_VERSION_SECONDS if remote else 0,
    )
    return str(version.version)
