"""Models in the MLflow Model Registry."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_nas_plugin.registry.custom_objects import find_custom_objects
    from keras_nas_plugin.registry.register import RegisteredModel, register_model
    from keras_nas_plugin.registry.trial import register_trial

__all__ = ["RegisteredModel", "find_custom_objects", "register_model", "register_trial"]

_LAZY = {
    "RegisteredModel": "keras_nas_plugin.registry.register",
    "find_custom_objects": "keras_nas_plugin.registry.custom_objects",
    "register_model": "keras_nas_plugin.registry.register",
    "register_trial": "keras_nas_plugin.registry.trial",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
