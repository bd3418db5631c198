"""The classes and functions that a saved Keras model needs from its author.

Keras 3.15 loads nothing by module name except its own packages: whatever a user has written
must be handed to `load_model`, under the name that the saved model calls it by. MLflow keeps
such a mapping beside the model, pickled by `cloudpickle`: a class from `__main__` is stored
whole, any other as the name of its module, which a fresh process may not be able to import.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import TrackingError

# Keras finds what these define without help.
_KNOWN = frozenset({"builtins", "jax", "keras", "numpy", "tensorflow", "torch"})

_log = logging.getLogger("keras_nas_plugin")


def find_custom_objects(model: Any) -> dict[str, Any]:
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
    found: dict[str, Any] = {}
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            waiting.extend(item)
        elif isinstance(item, types.FunctionType):
            _add(found, item)
        elif hasattr(type(item), "get_config") and not isinstance(item, type):
            for cls in type(item).__mro__:
                if not _is_known(cls):
                    _add(found, cls)
                    break
            waiting.extend(_attributes(item))
    return found


def _attributes(item: Any) -> list[Any]:
    """What an object holds, without its methods.

    Keras hangs wrapped methods (`build`, `call`) on every layer. They belong to the class, and
    pickling one would pickle the layer.
    """
    methods = type(item)
    return [
        value for name, value in vars(item).items() if not callable(getattr(methods, name, None))
    ]


def _add(found: dict[str, Any], item: Any) -> None:
    """Enter a class or function unless Keras or Python knows it."""
    import keras

    if _is_known(item):
        return
    if item.__name__ == "<lambda>":
        _log.warning(
            "The model holds a lambda (%s). Keras refuses to load such a model unless it is told "
            "`safe_mode=False`: give the function a name.",
            item.__module__,
        )
        return
    name = keras.saving.get_registered_name(item)
    if found.setdefault(name, item) is not item:
        raise TrackingError(
            f"a saved model needs custom objects of different names; received two called "
            f"{name!r}, from {found[name].__module__} and {item.__module__}"
        )


def _is_known(item: Any) -> bool:
    package = (item.__module__ or "builtins").partition(".")[0]
    return package in _KNOWN or (package in sys.stdlib_module_names and package != "__main__")


def is_installed(module_name: str, distributions: Mapping[str, list[str]]) -> bool:
    """Whether a fresh process can import a module because a package manager put it there.

    Args:
        module_name: Dotted name.
        distributions: `importlib.metadata.packages_distributions()`.
    """
    package = module_name.partition(".")[0]
    if package in distributions or package in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:
        return False
    homes = {sysconfig.get_path(key) for key in ("purelib", "platlib", "stdlib")}
    return any(Path(file).is_relative_to(home) for home in homes if home)


@contextlib.contextmanager
def pickled_by_value(
    objects: Iterable[Any],
    distributions: Mapping[str, list[str]],
    code_paths: Iterable[str | os.PathLike] = (),
) -> Iterator[None]:
    """Let `cloudpickle` store whole what a fresh process could not import.

    That is the code of every loaded module that is neither installed nor copied with the
    model, since a custom layer may call helpers from other files of its author.

    Args:
        objects: Custom classes and functions; nothing is done without any.
        distributions: `importlib.metadata.packages_distributions()`.
        code_paths: Files and folders that are copied with the model.
    """
    import cloudpickle

    copied = [Path(path).resolve() for path in code_paths]
    names = _local_modules(distributions, copied) if list(objects) else []
    before = cloudpickle.list_registry_pickle_by_value()
    modules = [sys.modules[name] for name in names if name not in before]
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

    MLflow stores all of it beside every model, so that any class that was ever registered in
    this process, used or not, would have to be importable where the model is loaded.
    """
    import keras

    registry = keras.saving.get_custom_objects()
    before = dict(registry)
    registry.clear()
    try:
        yield
    finally:
        registry.update(before)


def _local_modules(distributions: Mapping[str, list[str]], copied: list[Path]) -> list[str]:
    names = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(module, types.ModuleType) or not file or module.__name__ != name:
            continue
        if name == "__main__" or is_installed(name, distributions):
            continue
        if not any(Path(file).resolve().is_relative_to(path) for path in copied):
            names.append(name)
    return names
