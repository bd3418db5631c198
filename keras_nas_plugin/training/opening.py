"""The opening of a search by time, which counts the parameters of candidates."""

from __future__ import annotations

import time

import keras
import keras_tuner

from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.oracles.opening import Opening
from keras_nas_plugin.training import memory
from keras_nas_plugin.training.context import SearchContext

# Share of the budget after which no further candidate is built.
_BUILDING = 0.05


class ParameterCounts:
    """Builds candidates, and counts the parameters of their models.

    Args:
        hypermodel: Builds the models.
        seconds: When building has taken so long, no further model is built.
    """

    def __init__(self, hypermodel: keras_tuner.HyperModel, seconds: float) -> None:
        self._hypermodel = hypermodel
        self._seconds = seconds
        self._used = 0.0

    def __call__(self, hp: keras_tuner.HyperParameters) -> int | None:
        """See `CountParameters`."""
        if self._used >= self._seconds:
            return None
        started_at = time.monotonic()
        memory.forget_models()
        try:
            model = self._hypermodel.build(hp)
            built = isinstance(model, keras.Model) and model.built
            return model.count_params() if built else None
        finally:
            self._used += time.monotonic() - started_at


def opening_of(context: SearchContext, oracle: NASOracle) -> Opening | None:
    """The opening of a search.

    Args:
        context: The search.
        oracle: Its oracle.

    Returns:
        None for a search without a budget, for a strategy that needs none, and where only a trial
        can build the model.
    """
    seconds, most_trials = context.budget.seconds, oracle.strategy.opening_trials
    if seconds is None or not most_trials or context.hypermodel is None:
        return None
    return Opening(ParameterCounts(context.hypermodel, _BUILDING * seconds), most_trials)
