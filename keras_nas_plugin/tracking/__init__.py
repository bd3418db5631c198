"""Log a search: one MLflow run per trial, below one run for the search.

Importing this package imports neither MLflow nor Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach
from keras_nas_plugin.records.placement import Placement
from keras_nas_plugin.records.search import DatasetInfo, SearchInfo
from keras_nas_plugin.records.trial import TrialRecord, load_records
from keras_nas_plugin.tracking.base import Tracker

if TYPE_CHECKING:
    from keras_nas_plugin.tracking.mlflow.autolog import autolog_disabled
    from keras_nas_plugin.tracking.mlflow.tracker import MLflowTracker

__all__ = [
    "DatasetInfo",
    "MLflowTracker",
    "Placement",
    "SearchInfo",
    "Tracker",
    "TrialRecord",
    "autolog_disabled",
    "load_records",
]

_LAZY = {
    "MLflowTracker": "keras_nas_plugin.tracking.mlflow.tracker",
    "autolog_disabled": "keras_nas_plugin.tracking.mlflow.autolog",
}

__getattr__, __dir__ = attach(__name__, _LAZY)
