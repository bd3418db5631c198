"""Versions of registered models: finding them, their files, and what is recorded about them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.tracking.mlflow.client import bounded_requests, connect, resolve_uri
from keras_nas_plugin.tracking.mlflow.errors import tracking_errors

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient

#: Tag of a version for each format that it was exported to: JSON by format and quantization.
EXPORT_TAG = "nas.export"
#: Folder of exported models among the artifacts of a run.
EXPORTS = "exports"
# Metadata of a registered model: see `register.CLASS_NAMES`.
_CLASS_NAMES = "class_names"
_TARGET = re.compile(r"(?:models:/)?(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))")


@dataclasses.dataclass(frozen=True)
class StoredVersion:
    """A version of a registered model, with its files.

    Attributes:
        name: The registered model.
        version: Its version.
        alias: The alias that it was asked for by, or None.
        run_id: The run that trained it, or None.
        folder: Its files, in MLflow's format.
        tracking_uri: MLflow's tracking URI.
        registry_uri: MLflow's registry URI; None for the tracking URI.
    """

    name: str
    version: str
    alias: str | None
    run_id: str | None
    folder: Path
    tracking_uri: str
    registry_uri: str | None = None

    @property
    def model_uri(self) -> str:
        """What `mlflow models serve` takes."""
        return f"models:/{self.name}@{self.alias}" if self.alias else self.fixed_uri

    @property
    def fixed_uri(self) -> str:
        """The address of this version, wherever its aliases point."""
        return f"models:/{self.name}/{self.version}"

    def keras_model(self) -> keras.Model:
        """The Keras model.

        Raises:
            TrackingError: Its files hold none.
        """
        import mlflow.tensorflow

        try:
            model = mlflow.tensorflow.load_model(str(self.folder))
        except Exception as error:  # MLflow, Keras and pickle raise their own
            raise TrackingError(
                f"version {self.version} of `{self.name}` must be a Keras model that can be "
                f"loaded; it raised {type(error).__name__}: {error}"
            ) from error
        if not hasattr(model, "predict"):
            raise TrackingError(
                f"version {self.version} of `{self.name}` must be a Keras model; got "
                f"{type(model).__name__}"
            )
        return model

    def pyfunc_model(self) -> Any:
        """The model as a server loads it."""
        import mlflow.pyfunc

        return mlflow.pyfunc.load_model(str(self.folder))

    def input_example(self) -> Any:
        """The rows that are stored with it; None if there are none."""
        from mlflow.models import Model

        return Model.load(str(self.folder)).load_input_example(str(self.folder))

    def class_names(self) -> tuple[str, ...] | None:
        """Names of its classes in the order of its outputs, or None."""
        from mlflow.models import Model

        names = (Model.load(str(self.folder)).metadata or {}).get(_CLASS_NAMES)
        return None if names is None else tuple(names)


def is_version(target: str) -> bool:
    """Whether a text names a version rather than a trial.

    >>> [is_version(text) for text in ("digits@champion", "digits/3", "models:/digits/3", "0012")]
    [True, True, True, False]
    """
    return _TARGET.fullmatch(target) is not None


@contextlib.contextmanager
def stored_version(
    target: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Iterator[StoredVersion]:
    """A version with its files, which are downloaded for the duration of the block.

    Args:
        target: ``NAME@ALIAS`` or ``NAME/VERSION``, also with ``models:/`` before it.
        tracking_uri: MLflow's tracking URI; None for MLflow's own setting.
        registry_uri: MLflow's registry URI; None for the tracking URI.

    Raises:
        TrackingError: There is no such version, or the store does not answer.
    """
    match = _TARGET.fullmatch(target)
    if match is None:
        raise TrackingError(
            "a version must be given as NAME@ALIAS or NAME/VERSION, such as digits@champion; "
            f"got {target!r}"
        )
    tracking_uri = resolve_uri(tracking_uri)
    client = connect(tracking_uri, registry_uri)
    name, alias, number = match["name"], match["alias"], match["version"]
    with tracking_errors(f"reading `{target}`", tracking_uri), bounded_requests():
        if alias is not None:
            stored = client.get_model_version_by_alias(name, alias)
        else:
            stored = client.get_model_version(name, number)
    with tempfile.TemporaryDirectory() as folder:
        files = download_version(
            client, tracking_uri, name, str(stored.version), Path(folder, "model")
        )
        yield StoredVersion(
            name, str(stored.version), alias, stored.run_id, files, tracking_uri, registry_uri
        )


def download_version(
    client: MlflowClient, tracking_uri: str, name: str, version: str, to: Path
) -> Path:
    """Download a version's files.

    The registry is asked for their address, because MLflow 3.17 resolves `models:/` addresses at
    its global registry, whatever URI is passed.

    Args:
        client: A client of the registry.
        tracking_uri: MLflow's tracking URI.
        name: The registered model.
        version: Its version.
        to: The folder to create.

    Returns:
        The folder of the files.

    Raises:
        TrackingError: The store does not answer.
    """
    import mlflow.artifacts

    doing = f"downloading version {version} of `{name}`"
    with tracking_errors(doing, tracking_uri), bounded_requests():
        address = client.get_model_version_download_uri(name, version)
        files = mlflow.artifacts.download_artifacts(
            artifact_uri=address, dst_path=str(to), tracking_uri=tracking_uri
        )
    return Path(files)


def log_export(
    client: MlflowClient, tracking_uri: str, run_id: str, label: str, paths: Sequence[Path]
) -> str:
    """Store an exported model among the artifacts of a run.

    Args:
        client: A client of the store.
        tracking_uri: MLflow's tracking URI, for messages.
        run_id: The run that trained the model.
        label: Format and quantization, such as ``"litert-int8"``.
        paths: The exported file or folder, and its description.

    Returns:
        The folder among the artifacts.

    Raises:
        TrackingError: The store does not answer, or rejects the request.
    """
    folder = f"{EXPORTS}/{label}"
    with tracking_errors(f"logging the {label} export", tracking_uri), bounded_requests():
        for path in paths:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), f"{folder}/{path.name}")
            else:
                client.log_artifact(run_id, str(path), folder)
    return folder


def tag_export(
    client: MlflowClient, version: StoredVersion, format_name: str, label: str, summary: Mapping
) -> None:
    """Record an export in the tag of its format, ``nas.export.<format>``, on a version.

    Args:
        client: A client of the registry.
        version: The version.
        format_name: The format.
        label: Format and quantization; an earlier export of the same label is replaced.
        summary: What is recorded, as JSON types.

    Raises:
        TrackingError: The store does not answer, or rejects the request.
    """
    tag = f"{EXPORT_TAG}.{format_name}"
    with (
        tracking_errors(f"tagging `{version.name}`", version.tracking_uri),
        bounded_requests(),
    ):
        tags = client.get_model_version(version.name, version.version).tags
        merged = {**json.loads(tags.get(tag, "{}")), label: dict(summary)}
        client.set_model_version_tag(version.name, version.version, tag, json.dumps(merged))
