"""Models in the MLflow Model Registry."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_nas_plugin.registry.custom_objects import find_custom_objects
    from keras_nas_plugin.registry.gates.base import PromotionError
    from keras_nas_plugin.registry.promotion import promote
    from keras_nas_plugin.registry.register import RegisteredModel, register_model
    from keras_nas_plugin.registry.reversal import Rollback, rollback
    from keras_nas_plugin.registry.trial import register_trial
    from keras_nas_plugin.registry.verdict import Verdict

_LAZY = {
    "PromotionError": "keras_nas_plugin.registry.gates.base",
    "RegisteredModel": "keras_nas_plugin.registry.register",
    "Rollback": "keras_nas_plugin.registry.reversal",
    "Verdict": "keras_nas_plugin.registry.verdict",
    "find_custom_objects": "keras_nas_plugin.registry.custom_objects",
    "promote": "keras_nas_plugin.registry.promotion",
    "register_model": "keras_nas_plugin.registry.register",
    "register_trial": "keras_nas_plugin.registry.trial",
    "rollback": "keras_nas_plugin.registry.reversal",
}

__all__ = [*_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
