"""The packages that a registered model needs, pinned to what is installed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping

from keras_nas_plugin.registry.custom_objects import CustomObject, distributions_of

# TensorFlow is distributed under several names: the one that is installed is pinned.
_TENSORFLOW = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-intel",
    "tensorflow-macos",
    "tf-nightly",
)
_ALWAYS = ("keras", "numpy")


def pinned_requirements(
    objects: Iterable[CustomObject], distributions: Mapping[str, list[str]]
) -> list[str]:
    """The packages to install before a model can be loaded.

    MLflow would infer them by loading the model in another process, which takes 7 to 16 seconds.

    Args:
        objects: The model's custom classes and functions.
        distributions: `importlib.metadata.packages_distributions()`.

    Returns:
        Requirements such as ``keras==3.15.1``, sorted.
    """
    names = {*_ALWAYS, *_first_installed(_TENSORFLOW)}
    objects = list(objects)
    if objects:
        names.add("cloudpickle")
    for item in objects:
        names.update(distributions_of(item.__module__ or "", distributions)[:1])
    return sorted(f"{name}=={_version(name)}" for name in names)


def _first_installed(names: Iterable[str]) -> list[str]:
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return [name]
    return []


def _version(name: str) -> str:
    """The public part of a version: package indexes do not serve the suffix of a local build."""
    return importlib.metadata.version(name).partition("+")[0]
