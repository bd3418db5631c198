"""Log a model and register it as a version in a model registry."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.records.search import DatasetInfo
from keras_nas_plugin.registry.aliases import CHALLENGER
from keras_nas_plugin.registry.custom_objects import (
    find_custom_objects,
    no_registered_objects,
    pickled_by_value,
)
from keras_nas_plugin.registry.interface import Interface, interface_of
from keras_nas_plugin.registry.loaded_back import DifferentModelError, check_loaded_back
from keras_nas_plugin.registry.names import check_alias, check_name
from keras_nas_plugin.registry.requirements import pinned_requirements
from keras_nas_plugin.registry.served_model import DESCRIPTION
from keras_nas_plugin.tracking.mlflow.registry import MLflowModelRegistry
from keras_nas_plugin.tracking.model_registry import ModelRegistry, NewVersion, RegisteredModel

if TYPE_CHECKING:
    import keras
    from mlflow.models import Model

logger = logging.getLogger("keras_nas_plugin")

#: Key of a version's metadata: `mlflow.models.get_model_info(uri).metadata`.
CLASS_NAMES = "class_names"

_PYFUNC = "python_function"
_SERVED = Path(__file__).with_name("served_model.py")
# Models of several versions of this package may be loaded in one process.
_SERVED_MODULE = f"keras_nas_served_{hashlib.sha256(_SERVED.read_bytes()).hexdigest()[:12]}"


def register_model(
    model: keras.Model,
    *,
    name: str,
    run_id: str,
    tracking_uri: str,
    registry_uri: str | None = None,
    alias: str | None = CHALLENGER,
    tags: Mapping[str, object] | None = None,
    sample: object = None,
    metrics: Mapping[str, float] | None = None,
    dataset: DatasetInfo | None = None,
    code_paths: Sequence[str | os.PathLike] | None = None,
    input_example: bool = False,
    files: Mapping[str, str] | None = None,
    description: str | None = None,
    class_names: Sequence[str] | None = None,
) -> RegisteredModel:
    """Log a Keras model to its run, register it and point an alias to the new version.

    A fresh process can load the model with `mlflow.pyfunc.load_model` and
    `mlflow.tensorflow.load_model`: custom layers, losses and metrics from a script, a notebook
    or a file that is not installed are stored with it; those from installed packages become
    pinned requirements. MLflow's global state is neither used nor changed.

    Before a version is created, the stored model is loaded and its predictions for the sample
    rows are compared with those of ``model``.

    Args:
        model: A Keras model.
        name: Name of the registered model; created if it does not exist.
        run_id: The run that trained the model.
        tracking_uri: MLflow's tracking URI of that run.
        registry_uri: MLflow's registry URI; None for the tracking URI.
        alias: Alias of the new version, moved from the version that has it now; None sets none.
        tags: Tags of the version, for example the search's and trial's id; ``nas.model_id`` is
            added.
        sample: A few rows of input, for the signature: an array, or a list or dictionary of
            arrays.
        metrics: Metrics of the model; logged as ``model/<name>``, linked to the model.
        dataset: The data that these metrics were measured on.
        code_paths: Files and folders of Python code to copy with the model and import from,
            instead of storing the custom classes in them by value.
        input_example: Whether to store the rows of ``sample`` with the model.
        files: Text files to store with the model, by file name.
        description: Description of the version, in Markdown.
        class_names: Names of the classes that the model tells apart, in the order of its outputs
            (two for a single output). `mlflow.pyfunc` and a server then answer with class names
            and probabilities.

    Returns:
        The new version.

    Raises:
        TrackingError: MLflow does not allow the name or alias, the store does not answer, the
            model cannot be saved, ``class_names`` do not fit it, or what is loaded from its files
            does not predict as it does.
    """
    check_name(name)
    check_alias(alias)
    return add_version(
        MLflowModelRegistry(tracking_uri, registry_uri),
        model,
        name=name,
        run_id=run_id,
        alias=alias,
        tags=tags,
        sample=sample,
        metrics=metrics,
        dataset=dataset,
        code_paths=code_paths,
        input_example=input_example,
        files=files,
        description=description,
        class_names=class_names,
    )


def add_version(
    registry: ModelRegistry,
    model: keras.Model,
    *,
    name: str,
    run_id: str,
    alias: str | None,
    tags: Mapping[str, object] | None = None,
    sample: object = None,
    metrics: Mapping[str, float] | None = None,
    dataset: DatasetInfo | None = None,
    code_paths: Sequence[str | os.PathLike] | None = None,
    input_example: bool = False,
    files: Mapping[str, str] | None = None,
    description: str | None = None,
    class_names: Sequence[str] | None = None,
) -> RegisteredModel:
    """Register a Keras model in any registry; see `register_model` for the arguments."""
    interface = interface_of(model, sample, class_names)

    def save(folder: str, metadata: Model | None = None) -> None:
        saved = _SavedModel(model, interface, code_paths or (), input_example, files or {})
        saved.write(folder, metadata)

    return registry.register(
        NewVersion(
            name=name,
            run_id=run_id,
            save=save,
            alias=alias,
            tags=tags or {},
            metrics=metrics or {},
            dataset=dataset,
            description=description,
        )
    )


@dataclasses.dataclass(frozen=True)
class _SavedModel:
    """The files of a model in MLflow's format, with the custom objects that loading it needs."""

    model: keras.Model
    interface: Interface | None
    code_paths: Sequence[str | os.PathLike]
    input_example: bool
    files: Mapping[str, str]

    def write(self, folder: str, metadata: Model | None) -> None:
        """Write the files and check that they hold the model.

        Args:
            folder: The folder to create.
            metadata: An `mlflow.models.Model` to complete and to store; None for a new one.

        Raises:
            DifferentModelError: What is loaded from them is a different model.
        """
        self._write(folder, metadata)
        try:
            check_loaded_back(self.model, folder, self.interface)
        except DifferentModelError as error:
            functional = self._functional()
            if functional is None:
                raise
            logger.info("A functional model of the same layers is stored, since %s", error)
            shutil.rmtree(folder)
            try:
                functional.write(folder, metadata)
            except Exception:
                raise error from None

    def _functional(self) -> _SavedModel | None:
        """The same model with declared inputs; None if they are not known or declared already.

        Keras (3.15) builds a subclassed model on loading from the shape of its inputs, as
        numbers; it cannot build one that takes strings.
        """
        if self.interface is None or getattr(self.model, "inputs", None):
            return None
        model = self.interface.functional(self.model)
        return None if model is None else dataclasses.replace(self, model=model)

    def _write(self, folder: str, metadata: Model | None) -> None:
        import mlflow.tensorflow
        from mlflow.models import Model

        model, interface = self.model, self.interface
        metadata = Model() if metadata is None else metadata
        objects = find_custom_objects(model)
        # Only the modules of custom objects are looked up; listing all takes half a second.
        distributions = importlib.metadata.packages_distributions() if objects else {}
        served = interface is not None and interface.needs_server
        signature = interface.signature() if interface else None
        stores_example = self.input_example and interface is not None and interface.from_sample
        with (
            tempfile.TemporaryDirectory() as code,
            pickled_by_value(objects.values(), distributions, self.code_paths),
            no_registered_objects(),
            _without_warning_of_signature(),
        ):
            code_paths = [os.fspath(path) for path in self.code_paths]
            if served:
                code_paths.append(shutil.copy(_SERVED, Path(code, f"{_SERVED_MODULE}.py")))
            mlflow.tensorflow.save_model(
                model,
                folder,
                mlflow_model=metadata,
                custom_objects=objects or None,
                code_paths=code_paths or None,
                # MLflow takes only tensors here, and infers a signature where there is none.
                signature=signature if signature is not None and not served else False,
                input_example=interface.example() if stores_example and interface else None,
                pip_requirements=pinned_requirements(objects.values(), distributions),
                metadata=_metadata(interface),
            )
        if served and interface is not None:
            metadata.signature = signature
            metadata.flavors[_PYFUNC]["loader_module"] = _SERVED_MODULE
            metadata.save(os.path.join(folder, "MLmodel"))
            path = Path(folder, metadata.flavors[_PYFUNC]["data"], DESCRIPTION)
            path.write_text(json.dumps(interface.description(), indent=1), encoding="utf-8")
        for file, text in self.files.items():
            Path(folder, file).write_text(text, encoding="utf-8")


def _metadata(interface: Interface | None) -> dict[str, Any] | None:
    """What `mlflow.models.get_model_info(...).metadata` returns."""
    if interface is None or interface.classes is None:
        return None
    return {CLASS_NAMES: list(interface.classes.names)}


@contextlib.contextmanager
def _without_warning_of_signature() -> Iterator[None]:
    """Suppress MLflow's warning that there is no signature: it is added afterwards."""
    mlflow_logger = logging.getLogger("mlflow.tensorflow")
    level = mlflow_logger.level
    mlflow_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        mlflow_logger.setLevel(level)
