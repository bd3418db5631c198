"""Regularised evolution: a population in which the oldest dies, not the worst."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import Observation, Strategy

# Mutants of one parent that are all known before the edit is widened by one more.
_MUTANTS = 20
# Widest edit that is tried before a fresh sample takes the place of the child.
_WIDEST_EDIT = 4


def tournament(scores: Sequence[float], size: int, rng: np.random.Generator) -> int:
    """Index of the best of ``size`` contestants, drawn uniformly with replacement.

    Source: Goldberg & Deb 1991; line 10-13 of algorithm 1 in Real et al. 2019.

    Args:
        scores: Shape ``[n]``, n >= 1, the larger the better.
        size: Number of draws; 1 is no selection pressure at all.
        rng: Source of randomness.

    >>> tournament([0.1, 0.9, 0.3], 64, np.random.default_rng(0))
    1
    """
    contestants = rng.integers(len(scores), size=size)
    return int(max(contestants, key=lambda index: scores[index]))


def default_population(max_trials: int | None) -> tuple[int, int]:
    """Population and tournament size for a budget.

    A fifth of the trials fills the population, 4 to 20 of them, and a quarter of the
    population competes: 20 and 5 for 100 trials, 10 and 3 for 50 as used on
    NAS-Bench-201 (Dong & Yang 2020), where Real et al. (100 and 25) had 20,000.

    >>> default_population(100), default_population(50), default_population(12)
    ((20, 5), (10, 3), (4, 2))
    """
    population = 20 if max_trials is None else min(20, max(4, max_trials // 5))
    return population, max(2, (population + 2) // 4)


class RegularizedEvolution(Strategy):
    """Ageing evolution with tournament selection and one-edit mutation.

    Random configurations fill the population. From then on the best of a tournament is
    the parent of the next child, which joins as the youngest while the oldest leaves,
    whatever its score. A child differs from its parent in one active decision; ordered
    decisions move to a near value. Failed trials never become parents.

    Source: Real, Aggarwal, Huang & Le 2019, "Regularized Evolution for Image Classifier
    Architecture Search", algorithm 1. Beyond the paper, no configuration is trained
    twice: a child that was tried is mutated again, and the edit widens when that fails.

    Args:
        population_size: Trials alive at a time, at least 2.
        tournament_size: Contestants for parenthood, at least 1.

    Raises:
        StrategyError: A size is too small.
    """

    def __init__(self, *, population_size: int = 20, tournament_size: int = 5) -> None:
        super().__init__()
        if population_size < 2:
            raise StrategyError(f"`population_size` needs at least 2; received {population_size}")
        if tournament_size < 1:
            raise StrategyError(f"`tournament_size` needs at least 1; received {tournament_size}")
        self.population_size = population_size
        self.tournament_size = tournament_size
        self._population: collections.deque[Observation] = collections.deque(
            maxlen=population_size
        )

    @property
    def population(self) -> tuple[Observation, ...]:
        """Who is alive, from the oldest to the youngest."""
        return tuple(self._population)

    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Values | None:
        """See `Strategy.ask`."""
        if len(self._population) < self.population_size:
            return spec.untried(rng, tried)
        alive = self._population
        parent = alive[tournament([one.scores[0] for one in alive], self.tournament_size, rng)]
        child = self._child(parent.values, spec, rng, tried)
        return spec.untried(rng, tried) if child is None else child

    def _child(
        self, parent: Mapping, spec: SearchSpec, rng: np.random.Generator, tried: Tried
    ) -> Values | None:
        """An untried mutant of ``parent``; None when all that were drawn are known."""
        if spec.constant:
            return None
        for edits in range(1, _WIDEST_EDIT + 1):
            for _ in range(_MUTANTS):
                child = dict(parent)
                for _ in range(edits):
                    child = spec.mutate(child, rng)
                if not tried(child):
                    return child
        return None

    def learn(self, observation: Observation) -> None:
        """The newborn joins; the population's length makes the oldest leave."""
        if observation.scores is not None:
            self._population.append(observation)

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        self._population.clear()
        super().set_state(state, history)
