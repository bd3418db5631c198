"""Follow a search: one MLflow run per trial, below one for the search.

Importing this room imports neither MLflow nor Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.records import DatasetInfo, SearchInfo, TrialRecord

if TYPE_CHECKING:
    from keras_nas_plugin.tracking.autolog import autolog_disabled
    from keras_nas_plugin.tracking.mlflow_tracker import MLflowTracker

__all__ = [
    "DatasetInfo",
    "MLflowTracker",
    "SearchInfo",
    "Tracker",
    "TrialRecord",
    "autolog_disabled",
]

_LAZY = {
    "MLflowTracker": "keras_nas_plugin.tracking.mlflow_tracker",
    "autolog_disabled": "keras_nas_plugin.tracking.autolog",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
