"""Regularised evolution: a population in which the oldest dies, not the worst."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import Observation, Strategy
from keras_nas_plugin.strategies.failures import FailureMemory
from keras_nas_plugin.strategies.lineage import Litter

# Mutants of one parent that are all known before the edit is widened by one more.
_MUTANTS = 20
# Widest edit that is tried before a fresh sample takes the place of the child.
_WIDEST_EDIT = 4

#: Share of the children that have two parents: on average over mixed synthetic spaces and
#: tables of trained networks, a half finds better ones than none in 50 to 200 trials.
DEFAULT_CROSSOVER = 0.5


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
    decisions move to a near value. With ``crossover``, some children take each decision
    from one of two parents instead, and are mutated only when they are not new.

    Failed trials never become parents, and what they had in common is proposed less
    often: see `failures`. They count as trials that filled the population, which is
    smaller for a while then.

    Source: Real, Aggarwal, Huang & Le 2019, "Regularized Evolution for Image Classifier
    Architecture Search", algorithm 1. Beyond the paper, no configuration is trained
    twice: a child that was tried is mutated again, and the edit widens when that fails.

    Args:
        population_size: Trials alive at a time, at least 2.
        tournament_size: Contestants for parenthood, at least 1.
        crossover: Share of the children that have two parents, between 0 and 1.

    Raises:
        StrategyError: A size is too small, or ``crossover`` is not a share.
    """

    def __init__(
        self,
        *,
        population_size: int = 20,
        tournament_size: int = 5,
        crossover: float = DEFAULT_CROSSOVER,
    ) -> None:
        super().__init__()
        if population_size < 2:
            raise StrategyError(f"`population_size` needs at least 2; received {population_size}")
        if tournament_size < 1:
            raise StrategyError(f"`tournament_size` needs at least 1; received {tournament_size}")
        if not 0.0 <= crossover <= 1.0:
            raise StrategyError(f"`crossover` needs to be between 0 and 1; received {crossover}")
        self.population_size = population_size
        self.tournament_size = tournament_size
        self.crossover = crossover
        self._population: list[Observation] = []
        self._failures = FailureMemory()
        self._ended = 0

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

        def sample() -> Values | None:
            return spec.untried(rng, tried)

        litter = Litter()
        self.parents = ()

        def breed() -> Values | None:
            return self._child(spec, rng, tried, litter)

        if self._fills(len(pending)):
            return self._failures.avoid(sample, spec, rng)
        child = self._failures.avoid(breed, spec, rng)
        self.parents = litter.parents_of(child)
        return self._failures.avoid(sample, spec, rng) if child is None else child

    def _fills(self, pending: int) -> bool:
        """Whether the population still fills up.

        Trials that run count, so that many workers do not draw more random configurations
        than one would; but nothing is bred from fewer than a tournament of parents.
        """
        parents = min(self.tournament_size, self.population_size)
        if len(self._population) < max(parents, 2):
            return True
        return self._ended + pending < self.population_size

    def _parent(self, rng: np.random.Generator) -> Observation:
        scores = [one.scores[0] for one in self._population]
        return self._population[tournament(scores, self.tournament_size, rng)]

    def _child(
        self, spec: SearchSpec, rng: np.random.Generator, tried: Tried, litter: Litter
    ) -> Values | None:
        """An untried child; None when all that were drawn are known."""
        if spec.constant:
            return None
        parents = [self._parent(rng)]
        child = parents[0].values
        # Without crossover the generator is asked for nothing: seeds keep their searches.
        if self.crossover and rng.random() < self.crossover:
            parents.append(self._parent(rng))
            child = spec.cross(child, parents[1].values, rng)
            if not tried(child):
                return litter.add(child, parents)
        return litter.add(_untried_mutant(child, spec, rng, tried), parents)

    def learn(self, observation: Observation) -> None:
        """The newborn joins, and the oldest leaves when there are too many.

        Of a configuration that was trained again, the latest result counts.
        """
        self._failures.learn(observation)
        known = len(self._population)
        alive = [one for one in self._population if one.values != observation.values]
        self._ended += len(alive) == known
        if observation.scores is not None:
            alive.append(observation)
        self._population = alive[-self.population_size :]

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        self._population, self._ended = [], 0
        self._failures.clear()
        super().set_state(state, history)


def _untried_mutant(
    parent: Mapping[str, Any], spec: SearchSpec, rng: np.random.Generator, tried: Tried
) -> Values | None:
    """An untried mutant of ``parent``, with as few edits as that takes."""
    for edits in range(1, _WIDEST_EDIT + 1):
        for _ in range(_MUTANTS):
            child = dict(parent)
            for _ in range(edits):
                child = spec.mutate(child, rng)
            if not tried(child):
                return child
    return None
