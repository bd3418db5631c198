"""The interface of a model registry, and the plain data that it takes and returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from keras_nas_plugin.records.search import DatasetInfo


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


@dataclasses.dataclass(frozen=True)
class ExistingVersion:
    """A version that the registry already holds.

    Attributes:
        model: The version, without an alias.
        tags: Its tags.
        aliases: All aliases that point to it.
    """

    model: RegisteredModel
    tags: Mapping[str, str]
    aliases: tuple[str, ...]


class ModelSaver(Protocol):
    """Writes a model to a folder in MLflow's model format."""

    def __call__(self, folder: str, metadata: Any = None) -> None:
        """Write the model.

        Args:
            folder: The folder to create.
            metadata: An `mlflow.models.Model` to complete and to store in the folder; None for a
                new one.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewVersion:
    """A model that is to become a version.

    Attributes:
        name: Name of the registered model; created if it does not exist.
        run_id: The run that trained the model.
        save: Writes the model's files.
        alias: Alias of the new version, moved from the version that has it now; or None.
        tags: Tags of the version.
        metrics: Metrics of the model.
        dataset: The data that the metrics were measured on.
        description: Description of the version, in Markdown.
    """

    name: str
    run_id: str
    save: ModelSaver
    alias: str | None = None
    tags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    dataset: DatasetInfo | None = None
    description: str | None = None


class ModelRegistry(Protocol):
    """Where models become numbered versions. Every method may raise a `TrackingError`."""

    def register(self, version: NewVersion) -> RegisteredModel:
        """Store a model and create a version of it.

        Args:
            version: The model, and what is stored with it.

        Returns:
            The new version.
        """

    def versions_of_run(self, name: str, run_id: str) -> list[ExistingVersion]:
        """The versions of a registered model that come from a run, the oldest first."""

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version; no other version keeps it."""
