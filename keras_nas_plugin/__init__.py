"""Neural architecture search for people who use KerasTuner and MLflow.

Public names load on first use: importing the package loads neither TensorFlow nor MLflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_nas_plugin.lazy import load

__version__ = "0.1.0"

_EXPORTS = {
    "MLflowTracker": "keras_nas_plugin.tracking",
    "NASError": "keras_nas_plugin.errors",
    "NASOracle": "keras_nas_plugin.oracles",
    "NASTuner": "keras_nas_plugin.tuner",
    "RandomOracle": "keras_nas_plugin.oracles",
    "RegularizedEvolutionOracle": "keras_nas_plugin.oracles",
    "Tracker": "keras_nas_plugin.tracking",
}

__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from keras_nas_plugin.errors import NASError as NASError
    from keras_nas_plugin.oracles import NASOracle as NASOracle
    from keras_nas_plugin.oracles import RandomOracle as RandomOracle
    from keras_nas_plugin.oracles import RegularizedEvolutionOracle as RegularizedEvolutionOracle
    from keras_nas_plugin.tracking import MLflowTracker as MLflowTracker
    from keras_nas_plugin.tracking import Tracker as Tracker
    from keras_nas_plugin.tuner import NASTuner as NASTuner


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = load(_EXPORTS[name], name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
