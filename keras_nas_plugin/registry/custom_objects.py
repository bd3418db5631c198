"""The custom classes and functions that a saved Keras model needs to be loaded.

Keras 3.15 imports nothing by module name except its own packages: user code must be passed to
`load_model`, under the name in the saved model. MLflow stores such a mapping beside the model,
pickled by `cloudpickle`: a class from `__main__` by value, any other as the name of its module,
which a fresh process may not be able to import.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import logging
import os
import sys
import sysconfig
import types
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keras_nas_plugin.errors import TrackingError

if TYPE_CHECKING:
    import keras

#: A class or a function.
CustomObject = Callable[..., object]

# Packages from which Keras imports classes by itself.
_IMPORTED = frozenset({"builtins", "jax", "keras", "numpy", "tensorflow", "torch"})

logger = logging.getLogger("keras_nas_plugin")


def find_custom_objects(model: keras.Model) -> dict[str, CustomObject]:
    """Find every class and function of a model that is not part of Keras.

    Walks layers, activations, initializers, regularizers, constraints, losses, metrics,
    the optimizer and its schedule: every attribute whose value Keras would write into the
    saved model's configuration.

    Args:
        model: A Keras model, compiled or not.

    Returns:
        Classes and functions by the names under which Keras looks for them.

    Raises:
        TrackingError: Two different objects have the same name.
    """
    objects: dict[str, CustomObject] = {}
    visited: set[int] = set()
    pending: list[object] = [model]
    while pending:
        item = pending.pop()
        if id(item) in visited:
            continue
        visited.add(id(item))
        if isinstance(item, Mapping):
            pending.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            pending.extend(item)
        elif isinstance(item, types.FunctionType):
            _add(objects, item)
        elif hasattr(type(item), "get_config") and not isinstance(item, type):
            for cls in type(item).__mro__:
                if not is_importable(cls):
                    _add(objects, cls)
                    break
            pending.extend(_attributes(item))
    return objects


def _attributes(item: object) -> list[object]:
    """The values of an object's attributes, without its methods.

    Keras assigns wrapped methods (`build`, `call`) to every layer. They belong to the class, and
    pickling one would pickle the layer.
    """
    cls = type(item)
    return [value for name, value in vars(item).items() if not callable(getattr(cls, name, None))]


def _add(objects: dict[str, CustomObject], item: CustomObject) -> None:
    """Add a class or function that Keras could not import by itself."""
    import keras

    if is_importable(item):
        return
    if item.__name__ == "<lambda>":
        logger.warning(
            "The model contains a lambda (%s). Keras loads such a model only with "
            "`safe_mode=False`: replace it by a named function.",
            item.__module__,
        )
        return
    name = keras.saving.get_registered_name(item)
    if objects.setdefault(name, item) is not item:
        raise TrackingError(
            f"custom objects of a saved model must have different names; got two called "
            f"{name!r}, from {objects[name].__module__} and {item.__module__}"
        )


def is_importable(item: CustomObject) -> bool:
    """Whether Keras can import a class or function by itself.

    Args:
        item: The class or function.
    """
    package = (item.__module__ or "builtins").partition(".")[0]
    return package in _IMPORTED or (package in sys.stdlib_module_names and package != "__main__")


def is_installed(module_name: str, distributions: Mapping[str, list[str]]) -> bool:
    """Whether a module was installed by a package manager, so that a fresh process can import it.

    Args:
        module_name: Dotted name.
        distributions: `importlib.metadata.packages_distributions()`.

    Returns:
        False for a file that only this process finds, such as one beside a script.
    """
    package = module_name.partition(".")[0]
    if package in sys.stdlib_module_names or distributions_of(module_name, distributions):
        return True
    file = _location(package)
    folders = {sysconfig.get_path(key) for key in ("purelib", "platlib", "stdlib")}
    return file is not None and any(file.is_relative_to(folder) for folder in folders if folder)


def distributions_of(module_name: str, distributions: Mapping[str, list[str]]) -> list[str]:
    """The distributions that have installed a module.

    A distribution may have a package of the same name as one of the user's, such as ``tests`` or
    ``utils``, that is not the one that was imported.

    Args:
        module_name: Dotted name.
        distributions: `importlib.metadata.packages_distributions()`.

    Returns:
        Names of distributions.
    """
    package = module_name.partition(".")[0]
    names, location = distributions.get(package, ()), _location(package)
    if location is None:
        return list(names)
    return [
        name for name in names if any(location.is_relative_to(folder) for folder in _folders(name))
    ]


def _location(package: str) -> Path | None:
    """The file of an imported package; its folder, if it is a namespace."""
    module = sys.modules.get(package)
    paths = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return next((Path(path) for path in paths if path), None)


@functools.cache
def _folders(distribution: str) -> tuple[Path, ...]:
    """The folders that have a distribution's modules: its checkout, if it is editable."""
    installed = importlib.metadata.distribution(distribution)
    folders = [Path(str(installed.locate_file("")))]
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        path = urllib.parse.urlparse(origin["url"]).path
        folders.append(Path(urllib.request.url2pathname(path)))
    return tuple(folders)


@contextlib.contextmanager
def pickled_by_value(
    objects: Iterable[CustomObject],
    distributions: Mapping[str, list[str]],
    code_paths: Iterable[str | os.PathLike] = (),
) -> Iterator[None]:
    """Let `cloudpickle` store code by value if a fresh process could not import it.

    That is the code of every loaded module that is neither installed nor copied with the
    model, since a custom layer may call functions from other files of its author.

    Args:
        objects: Custom classes and functions of the model. If there are none, nothing is done.
        distributions: `importlib.metadata.packages_distributions()`.
        code_paths: Files and folders that are copied with the model.
    """
    import cloudpickle

    copied = [Path(path).resolve() for path in code_paths]
    names = _local_modules(distributions, copied) if list(objects) else []
    registered = cloudpickle.list_registry_pickle_by_value()
    modules = [sys.modules[name] for name in names if name not in registered]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


@contextlib.contextmanager
def no_registered_objects() -> Iterator[None]:
    """Empty Keras's global registry of custom objects inside the block.

    MLflow stores the whole registry beside every model, so that any class that was ever
    registered in this process, used or not, would have to be importable where the model is
    loaded.
    """
    import keras

    registry = keras.saving.get_custom_objects()
    saved = dict(registry)
    registry.clear()
    try:
        yield
    finally:
        registry.update(saved)


def _local_modules(distributions: Mapping[str, list[str]], copied: list[Path]) -> list[str]:
    names = []
    installed: dict[str, bool] = {}  # by package, of which thousands of modules are imported
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(module, types.ModuleType) or not file or module.__name__ != name:
            continue
        package = name.partition(".")[0]
        if package not in installed:
            installed[package] = is_installed(package, distributions)
        if name == "__main__" or installed[package]:
            continue
        if not any(Path(file).resolve().is_relative_to(path) for path in copied):
            names.append(name)
    return names
