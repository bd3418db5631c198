"""Regularised evolution as a KerasTuner oracle."""

from __future__ import annotations

from typing import Unpack

from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.objectives import Objectives
from keras_nas_plugin.strategies.evolution import RegularizedEvolution


class RegularizedEvolutionOracle(NASOracle):
    """Ageing evolution (Real et al. 2019): see `RegularizedEvolution`.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        population_size: Number of trials in the population. None takes a fifth of
            ``max_trials``, between 4 and 20.
        tournament_size: Number of trials that compete to become a parent. None takes a
            quarter of the population.
        crossover: Share of the children that have two parents, from 0 to 1. None takes a
            half; 0 is the algorithm of Real et al.
        **options: The other arguments of `NASOracle`.
    """

    def __init__(
        self,
        objective: Objectives = None,
        max_trials: int | None = 100,
        *,
        population_size: int | None = None,
        tournament_size: int | None = None,
        crossover: float | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        strategy = RegularizedEvolution.for_budget(
            max_trials,
            population_size=population_size,
            tournament_size=tournament_size,
            crossover=crossover,
        )
        super().__init__(strategy, objective, max_trials, **options)
