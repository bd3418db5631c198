"""Neural architecture search for people who use KerasTuner and MLflow.

Public names load on first use: importing the package loads neither TensorFlow nor MLflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin import oracles as _oracles
from keras_nas_plugin.lazy import attach

__version__ = "0.1.0"

_EXPORTS = {
    "Constraint": "keras_nas_plugin.evaluation.constraints",
    "DataFunction": "keras_nas_plugin.training.data_function",
    "Inheritance": "keras_nas_plugin.inheritance.settings",
    "LocalExecutor": "keras_nas_plugin.executors.local",
    "MLflowTracker": "keras_nas_plugin.tracking",
    "MedianStoppingCallback": "keras_nas_plugin.training.median_stopping",
    "NASError": "keras_nas_plugin.errors",
    "NASTuner": "keras_nas_plugin.tuner",
    "ProgressDisplay": "keras_nas_plugin.tracking.progress",
    "PromotionError": "keras_nas_plugin.registry",
    "PromotionPolicy": "keras_nas_plugin.registry",
    "RayExecutor": "keras_nas_plugin.executors.ray.executor",
    "RetrainConfig": "keras_nas_plugin.records.retraining",
    "Retraining": "keras_nas_plugin.records.retraining",
    "RetrainingError": "keras_nas_plugin.errors",
    "Tracker": "keras_nas_plugin.tracking",
    "count_flops": "keras_nas_plugin.evaluation.flops",
    "count_parameters": "keras_nas_plugin.evaluation.flops",
    "earlier_trials": "keras_nas_plugin.transfer",
    "measure_latency": "keras_nas_plugin.evaluation.latency",
    "promote": "keras_nas_plugin.registry",
    "rollback": "keras_nas_plugin.registry",
    "track": "keras_nas_plugin.training.tracked",
    "write_report": "keras_nas_plugin.reports",
    # Every oracle, without a second table of them.
    **{name: "keras_nas_plugin.oracles" for name in _oracles.__all__ if name.endswith("Oracle")},
}

__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from keras_nas_plugin.errors import NASError as NASError
    from keras_nas_plugin.errors import RetrainingError as RetrainingError
    from keras_nas_plugin.evaluation.constraints import Constraint as Constraint
    from keras_nas_plugin.evaluation.flops import count_flops as count_flops
    from keras_nas_plugin.evaluation.flops import count_parameters as count_parameters
    from keras_nas_plugin.evaluation.latency import measure_latency as measure_latency
    from keras_nas_plugin.executors.local import LocalExecutor as LocalExecutor
    from keras_nas_plugin.executors.ray.executor import RayExecutor as RayExecutor
    from keras_nas_plugin.inheritance.settings import Inheritance as Inheritance
    from keras_nas_plugin.oracles import *  # noqa: F403
    from keras_nas_plugin.records.retraining import RetrainConfig as RetrainConfig
    from keras_nas_plugin.records.retraining import Retraining as Retraining
    from keras_nas_plugin.registry import PromotionError as PromotionError
    from keras_nas_plugin.registry import PromotionPolicy as PromotionPolicy
    from keras_nas_plugin.registry import promote as promote
    from keras_nas_plugin.registry import rollback as rollback
    from keras_nas_plugin.reports import write_report as write_report
    from keras_nas_plugin.tracking import MLflowTracker as MLflowTracker
    from keras_nas_plugin.tracking import Tracker as Tracker
    from keras_nas_plugin.tracking.progress import ProgressDisplay as ProgressDisplay
    from keras_nas_plugin.training.data_function import DataFunction as DataFunction
    from keras_nas_plugin.training.median_stopping import (
        MedianStoppingCallback as MedianStoppingCallback,
    )
    from keras_nas_plugin.training.tracked import track as track
    from keras_nas_plugin.transfer import earlier_trials as earlier_trials
    from keras_nas_plugin.tuner import NASTuner as NASTuner

__getattr__, __dir__ = attach(__name__, _EXPORTS)
