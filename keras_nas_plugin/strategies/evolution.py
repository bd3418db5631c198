"""Regularised evolution: a population from which the oldest member is removed, not the worst."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import (
    MOST_OPENING_TRIALS,
    Observation,
    Proposal,
    Strategy,
    random_proposal,
)
from keras_nas_plugin.strategies.failures import FailureMemory

# Number of mutants to draw with the same number of edits; if all of them were tried before, one
# more edit is added.
_MUTANTS = 20
# Maximum number of edits; if these mutants were tried before too, a random configuration is
# proposed instead.
_WIDEST_EDIT = 4

#: Fraction of children with two parents. On average over mixed synthetic spaces and tables of
#: trained networks, 0.5 finds better configurations than 0 within 50 to 200 trials.
DEFAULT_CROSSOVER = 0.5


def tournament(scores: Sequence[float], size: int, rng: np.random.Generator) -> int:
    """Index of the best of ``size`` contestants, drawn uniformly with replacement.

    Source: Goldberg & Deb 1991; lines 10 to 13 of algorithm 1 in Real et al. 2019.

    Args:
        scores: Shape ``[n]``, n >= 1, the larger the better.
        size: Number of draws; 1 means no selection pressure.
        rng: Source of randomness.

    >>> tournament([0.1, 0.9, 0.3], 64, np.random.default_rng(0))
    1
    """
    contestants = rng.integers(len(scores), size=size)
    return int(max(contestants, key=lambda index: scores[index]))


def default_population(max_trials: int | None) -> int:
    """Population size for a budget: a fifth of the trials, 4 to 20.

    That is 20 for 100 trials, and 10 for 50, as used on NAS-Bench-201 (Dong & Yang 2020). Real et
    al. use 100 for 20,000 trials.

    >>> default_population(100), default_population(50), default_population(12)
    (20, 10, 4)
    """
    return 20 if max_trials is None else min(20, max(4, max_trials // 5))


def default_tournament(population_size: int) -> int:
    """Tournament size: a quarter of the population, as in Real et al. (25 of 100), at least 2.

    >>> default_tournament(20), default_tournament(10), default_tournament(4)
    (5, 3, 2)
    """
    return max(2, (population_size + 2) // 4)


class RegularizedEvolution(Strategy):
    """Ageing evolution with tournament selection and one-edit mutation.

    Random configurations fill the population. From then on, the winner of a tournament is
    the parent of the next child; the child joins the population and the oldest member
    leaves it, whatever its score. A child differs from its parent in one active decision;
    ordered decisions move to a nearby value. With ``crossover``, some children take each
    decision from one of two parents instead, and are mutated only if that configuration was
    tried already.

    Failed trials never become parents, and what they have in common is proposed less often:
    see `failures`. They still count towards the number of trials that fill the population, which
    then has fewer members for a while.

    Source: Real, Aggarwal, Huang & Le 2019, "Regularized Evolution for Image Classifier
    Architecture Search", algorithm 1. Beyond the paper, no configuration is trained twice: a
    child that was tried before is drawn again, with more edits after repeated attempts.

    Args:
        population_size: Number of trials in the population, at least 2.
        tournament_size: Number of contestants in a tournament, at least 1.
        crossover: Fraction of children with two parents, from 0 to 1.

    Raises:
        StrategyError: A size is too small, or ``crossover`` is not between 0 and 1.
    """

    adjustable = frozenset({"population_size", "tournament_size"})
    opening_trials = MOST_OPENING_TRIALS

    def __init__(
        self,
        *,
        population_size: int = 20,
        tournament_size: int = 5,
        crossover: float = DEFAULT_CROSSOVER,
    ) -> None:
        super().__init__()
        if population_size < 2:
            raise StrategyError(f"`population_size` must be at least 2; got {population_size}")
        if tournament_size < 1:
            raise StrategyError(f"`tournament_size` must be at least 1; got {tournament_size}")
        if not 0.0 <= crossover <= 1.0:
            raise StrategyError(f"`crossover` must be between 0 and 1; got {crossover}")
        self.population_size = population_size
        self.tournament_size = tournament_size
        self.crossover = crossover
        self._population: list[Observation] = []
        self._failures = FailureMemory()
        self._ended = 0

    @classmethod
    def budget_defaults(
        cls, max_trials: int | None, explicit: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See `Strategy.budget_defaults`: `default_population` and `default_tournament`."""
        size = explicit.get("population_size", default_population(max_trials))
        return {"population_size": size, "tournament_size": default_tournament(size)}

    @property
    def population(self) -> tuple[Observation, ...]:
        """The current members, from the oldest to the youngest."""
        return tuple(self._population)

    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Proposal | None:
        """See `Strategy.ask`."""

        def sample() -> Proposal | None:
            return random_proposal(spec, rng, tried)

        def propose_child() -> Proposal | None:
            return self._child(spec, rng, tried)

        if self._fills(len(pending)):
            return self._failures.avoid(sample, spec, rng)
        child = self._failures.avoid(propose_child, spec, rng)
        return self._failures.avoid(sample, spec, rng) if child is None else child

    def _fills(self, pending: int) -> bool:
        """Whether the population is still being filled with random configurations.

        Running trials count, so that many workers do not draw more random configurations
        than a single one; but there is no child before there are enough members for a tournament.
        """
        parents = min(self.tournament_size, self.population_size)
        if len(self._population) < max(parents, 2):
            return True
        return self._ended + pending < self.population_size

    def _parent(self, rng: np.random.Generator) -> Observation:
        # Failed trials are never members of the population.
        scores = [member.scores[0] for member in self._population if member.scores]
        return self._population[tournament(scores, self.tournament_size, rng)]

    def _child(self, spec: SearchSpec, rng: np.random.Generator, tried: Tried) -> Proposal | None:
        """An untried child with its parents; None when all children drawn were tried before."""
        if spec.constant:
            return None
        parents = [self._parent(rng)]
        child = parents[0].values
        # Without crossover nothing is drawn here, so that a seed gives the same search as
        # before crossover existed.
        if self.crossover and rng.random() < self.crossover:
            parents.append(self._parent(rng))
            child = spec.cross(child, parents[1].values, rng)
            if not tried(child):
                return Proposal.from_parents(child, parents)
        mutant = _untried_mutant(child, spec, rng, tried)
        return None if mutant is None else Proposal.from_parents(mutant, parents)

    def learn(self, observation: Observation) -> None:
        """Add the trial to the population, and remove the oldest member if it is full.

        If a configuration was trained again, the latest result counts.
        """
        self._failures.learn(observation)
        size_before = len(self._population)
        members = [member for member in self._population if member.values != observation.values]
        self._ended += len(members) == size_before
        if observation.scores is not None:
            members.append(observation)
        self._population = members[-self.population_size :]

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        self._population, self._ended = [], 0
        self._failures.clear()
        super().set_state(state, history)


def _untried_mutant(
    parent: Mapping[str, Any], spec: SearchSpec, rng: np.random.Generator, tried: Tried
) -> Values | None:
    """An untried mutant of ``parent`` with as few edits as possible."""
    for edits in range(1, _WIDEST_EDIT + 1):
        for _ in range(_MUTANTS):
            child = dict(parent)
            for _ in range(edits):
                child = spec.mutate(child, rng)
            if not tried(child):
                return child
    return None
