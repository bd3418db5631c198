"""Regularised evolution as a KerasTuner oracle."""

from __future__ import annotations

from typing import Any, Unpack

from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.strategies.evolution import (
    DEFAULT_CROSSOVER,
    RegularizedEvolution,
    default_population,
)


class RegularizedEvolutionOracle(NASOracle):
    """Ageing evolution (Real et al. 2019): see `RegularizedEvolution`.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        population_size: Trials alive at a time. None takes a fifth of ``max_trials``,
            between 4 and 20.
        tournament_size: Contestants for parenthood. None takes a quarter of the
            population.
        crossover: Share of the children that have two parents, from 0 to 1. None takes a
            half; 0 is the algorithm of Real et al.
        **options: The other arguments of `NASOracle`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 100,
        *,
        population_size: int | None = None,
        tournament_size: int | None = None,
        crossover: float | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        population, contestants = default_population(max_trials)
        if population_size is not None:
            population, contestants = population_size, max(2, (population_size + 2) // 4)
        strategy = RegularizedEvolution(
            population_size=population,
            tournament_size=contestants if tournament_size is None else tournament_size,
            crossover=DEFAULT_CROSSOVER if crossover is None else crossover,
        )
        super().__init__(strategy, objective, max_trials, **options)
