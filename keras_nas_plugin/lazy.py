"""Lazy imports of public names (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from keras_nas_plugin import quiet
from keras_nas_plugin.errors import BackendError

_BACKENDS = ("tensorflow", "jax", "torch")


def attach(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Import the public names of a package on first use.

    ```python
    __getattr__, __dir__ = attach(__name__, {"NASOracle": "base"})
    ```

    Args:
        package: ``__name__`` of the package.
        modules: Module that defines each public name: relative to the package (``"base"``) or
            absolute (``"keras_nas_plugin.oracles"``).

    Returns:
        The package's ``__getattr__`` and ``__dir__`` (PEP 562).
    """
    root = package.partition(".")[0]

    def load_attribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules[name]
        if module.partition(".")[0] != root:
            module = f"{package}.{module}"
        value = load(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def list_attributes() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return load_attribute, list_attributes


def load(module: str, name: str) -> Any:
    """Import a name from a module of this package.

    Args:
        module: Absolute name of the module.
        name: Attribute of the module.

    Raises:
        BackendError: No Keras backend is installed.
    """
    try:
        with quiet.tensorflow_start():
            return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name not in _BACKENDS:
            raise
        raise BackendError(
            f"Keras needs {error.name}, which is not installed: "
            "pip install 'keras-nas-plugin[cpu]', or 'keras-nas-plugin[gpu]' for CUDA."
        ) from None
