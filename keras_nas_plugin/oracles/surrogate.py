"""Bayesian optimisation of architectures as a KerasTuner oracle."""

from __future__ import annotations

from typing import Unpack

from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.objectives import Objectives
from keras_nas_plugin.strategies.surrogate import SurrogateSearch


class SurrogateOracle(NASOracle):
    """Bayesian optimisation for architectures: see `SurrogateSearch`.

    Recommended when trials are expensive, because it needs the fewest.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        initial_trials: Number of random trials before the model proposes; trials of a warm
            start count too. None takes a fifth of ``max_trials``, between 4 and 10.
        kappa: Number of standard deviations in the upper confidence bound: larger
            values explore more. None takes 2.
        **options: The other arguments of `NASOracle`.
    """

    def __init__(
        self,
        objective: Objectives = None,
        max_trials: int | None = 100,
        *,
        initial_trials: int | None = None,
        kappa: float | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        strategy = SurrogateSearch.for_budget(
            max_trials, initial_trials=initial_trials, kappa=kappa
        )
        super().__init__(strategy, objective, max_trials, **options)
