"""Public names that load on first use."""

from __future__ import annotations

import importlib
from typing import Any

from keras_nas_plugin.errors import BackendError

_BACKENDS = ("tensorflow", "jax", "torch")


def load(module: str, name: str) -> Any:
    """A name of a module of this package, imported now.

    Raises:
        BackendError: Keras has no backend to run on.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name not in _BACKENDS:
            raise
        raise BackendError(
            f"Keras needs {error.name}, which is not installed: "
            "pip install 'keras-nas-plugin[cpu]', or 'keras-nas-plugin[gpu]' for CUDA."
        ) from None
