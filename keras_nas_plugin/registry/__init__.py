"""Registering, promoting and rolling back models in the MLflow Model Registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach

if TYPE_CHECKING:
    from keras_nas_plugin.registry.champion_rollback import Rollback, rollback
    from keras_nas_plugin.registry.custom_objects import find_custom_objects
    from keras_nas_plugin.registry.gates.base import PromotionError
    from keras_nas_plugin.registry.promotion import promote
    from keras_nas_plugin.registry.promotion_policy import PromotionPolicy
    from keras_nas_plugin.registry.register import register_model
    from keras_nas_plugin.registry.trial import register_trial
    from keras_nas_plugin.registry.verdict import Verdict
    from keras_nas_plugin.tracking.model_registry import RegisteredModel

_LAZY = {
    "PromotionError": "keras_nas_plugin.registry.gates.base",
    "PromotionPolicy": "keras_nas_plugin.registry.promotion_policy",
    "RegisteredModel": "keras_nas_plugin.tracking.model_registry",
    "Rollback": "keras_nas_plugin.registry.champion_rollback",
    "Verdict": "keras_nas_plugin.registry.verdict",
    "find_custom_objects": "keras_nas_plugin.registry.custom_objects",
    "promote": "keras_nas_plugin.registry.promotion",
    "register_model": "keras_nas_plugin.registry.register",
    "register_trial": "keras_nas_plugin.registry.trial",
    "rollback": "keras_nas_plugin.registry.champion_rollback",
}

__all__ = [*_LAZY]

__getattr__, __dir__ = attach(__name__, _LAZY)
