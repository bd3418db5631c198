"""Random search as a KerasTuner oracle."""

from __future__ import annotations

from typing import Unpack

from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.objectives import Objectives
from keras_nas_plugin.strategies.random import RandomSearch


class RandomOracle(NASOracle):
    """Random search without repetitions, the baseline for every other strategy.

    Unlike in KerasTuner's random search, ``seed=0`` is a seed, nearby seeds do not share
    proposals, and a search of a finite space ends only when every configuration was tried.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        **options: The other arguments of `NASOracle`.
    """

    def __init__(
        self,
        objective: Objectives = None,
        max_trials: int | None = 100,
        **options: Unpack[OracleOptions],
    ) -> None:
        super().__init__(RandomSearch(), objective, max_trials, **options)
