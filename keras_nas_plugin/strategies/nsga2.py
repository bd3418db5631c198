"""NSGA-II without generations: several objectives, ranked by Pareto dominance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import Observation, Strategy
from keras_nas_plugin.strategies.failures import FailureMemory
from keras_nas_plugin.strategies.lineage import Litter
from keras_nas_plugin.strategies.pareto import constrained_ranks, crowding_distances

# Random configurations to begin with, per member of the population.
_INITIAL = 2
# How often a mutation draws a new value, not a near one.
_DRAWN = 0.5
# Children that are all known before each gets one edit more, and how often that happens
# before a fresh sample takes their place.
_CHILDREN = 10
_MORE_EDITS = 4


def default_nsga2_population(max_trials: int | None) -> int:
    """Population for a budget.

    A twentieth of the trials, 10 to 40, and never more than a quarter. Deb et al. 2002 give 100
    parents 250 generations; where a trial is a training, a larger population learns too late.
    On synthetic problems 10 were best up to 200 trials, 20 at 400, and 20 to 40 at 1,000.

    >>> [default_nsga2_population(trials) for trials in (12, 50, 200, 400, 1000, None)]
    [3, 10, 10, 20, 40, 20]
    """
    if max_trials is None:
        return 20
    return max(2, min(max_trials // 4, max(10, max_trials // 20), 40))


class NSGA2(Strategy):
    """Steady-state NSGA-II with constrained domination.

    Random configurations come first, twice as many as the population has members. From then
    on each proposal is a child of two parents, each the winner of a binary tournament by the
    crowded comparison (lower front first, then larger crowding distance). It takes each
    decision from either parent, and each of its decisions is mutated with the probability of
    one in their number. Whoever ends joins the population, and the most crowded of its last
    front leaves: no worker waits for a generation to end. Trials that broke a constraint count
    as dominated by those that did not, and compete by how much they broke. Failed trials never
    become parents, and what they had in common is proposed less often: see `failures`.

    Source: Deb, Pratap, Agarwal & Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic
    Algorithm: NSGA-II", sections III and VI-A, with its probabilities (section IV); one child
    at a time: Durillo, Nebro, Luna & Alba 2009, "On the Effect of the Steady-State Selection
    Scheme in Multi-Objective Genetic Algorithms".

    Decisions are mixed and conditional, so that crossover is uniform, and one half of the
    mutations moves to a near value and the other half draws a new one, which leads a small
    population out of a corner (long steps among short ones: Yao, Liu & Lin 1999, "Evolutionary
    Programming Made Faster"). Beyond the papers, no configuration is trained twice: a child
    that was tried is bred again, with one more edit after ten in vain.

    Args:
        population_size: Trials that may become parents, at least 2.
        crossover_probability: How often a child has two parents, not one.

    Raises:
        StrategyError: An argument is out of its range.
    """

    multi_objective = True

    def __init__(self, *, population_size: int = 20, crossover_probability: float = 0.9) -> None:
        super().__init__()
        if population_size < 2:
            raise StrategyError(f"`population_size` needs at least 2; received {population_size}")
        if not 0.0 <= crossover_probability <= 1.0:
            raise StrategyError(
                f"`crossover_probability` needs 0 to 1; received {crossover_probability}"
            )
        self.population_size = population_size
        self.crossover_probability = crossover_probability
        self._population: list[Observation] = []
        self._failures = FailureMemory()
        self._ended = 0
        # Per member, what a tournament compares; None until it is needed.
        self._fitness: list[tuple[int, float]] | None = None

    @property
    def population(self) -> tuple[Observation, ...]:
        """Who may become a parent, from the oldest to the youngest."""
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
            return self._untried_child(spec, rng, tried, litter)

        # What runs elsewhere counts as well: no worker draws at random only because the others
        # are slow.
        beginning = self._ended + len(pending) < _INITIAL * self.population_size
        if beginning or len(self._population) < 2 or spec.constant:
            return self._failures.avoid(sample, spec, rng)
        child = self._failures.avoid(breed, spec, rng)
        self.parents = litter.parents_of(child)
        return self._failures.avoid(sample, spec, rng) if child is None else child

    def _untried_child(
        self, spec: SearchSpec, rng: np.random.Generator, tried: Tried, litter: Litter
    ) -> Values | None:
        for more in range(_MORE_EDITS + 1):
            for _ in range(_CHILDREN):
                child, parents = self._child(spec, rng, more)
                if not tried(child):
                    return litter.add(child, parents)
        return None

    def _child(
        self, spec: SearchSpec, rng: np.random.Generator, more: int
    ) -> tuple[Values, list[Observation]]:
        if self._fitness is None:
            self._fitness = crowded_fitness(self._population)
        parents = [self._population[index] for index in two_winners(self._fitness, rng)]
        mates = [spec.fill(parent.values) for parent in parents]
        child, bred_from = mates[0], parents[:1]
        if rng.random() < self.crossover_probability:
            child, bred_from = spec.cross(*mates, rng), parents
        mutable = sum(d.domain.size != 1 for d in spec.active(child).values())
        if not mutable:
            return child, bred_from
        edits = int(rng.binomial(mutable, 1 / mutable))
        # A child that equals a parent was tried for certain.
        for _ in range(max(edits, child in mates) + more):
            child = _mutant(child, spec, rng)
        return child, bred_from

    def learn(self, observation: Observation) -> None:
        """The trial joins, and the most crowded of the last front leaves."""
        self._failures.learn(observation)
        self._ended += 1
        self._fitness = None
        # A configuration that was trained again counts with its latest score.
        others = [one for one in self._population if one.values != observation.values]
        if observation.scores is not None and np.isfinite(observation.scores).all():
            others.append(observation)
        if len(others) > self.population_size:
            del others[most_crowded(others)]
        self._population = others

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        self._population, self._ended, self._fitness = [], 0, None
        self._failures.clear()
        super().set_state(state, history)


def _mutant(values: Values, spec: SearchSpec, rng: np.random.Generator) -> Values:
    """One decision moved to a near value, or drawn anew, which may be what it was."""
    if rng.random() >= _DRAWN:
        return spec.mutate(values, rng)
    names = [name for name, one in spec.active(values).items() if one.domain.size != 1]
    drawn = names[int(rng.integers(len(names)))]
    return spec.complete({n: value for n, value in values.items() if n != drawn}, rng)


def crowded_fitness(observations: Sequence[Observation]) -> list[tuple[int, float]]:
    """What the crowded comparison compares, the smaller the better.

    Source: Deb et al. 2002, section III-B.

    Args:
        observations: With scores.

    Returns:
        Per observation its front, and its negative crowding distance in that front.
    """
    scores, ranks = _ranked(observations)
    distances = np.empty(len(ranks))
    for rank in range(ranks.max() + 1):
        distances[ranks == rank] = crowding_distances(scores[ranks == rank])
    return list(zip(ranks.tolist(), (-distances).tolist(), strict=True))


def two_winners(fitness: Sequence[tuple[int, float]], rng: np.random.Generator) -> tuple[int, int]:
    """Two different parents, each the winner of a binary tournament.

    Contestants are drawn with replacement; the first winner does not compete again. Of equals
    the one that was drawn first wins. Source: Deb et al. 2002, section III-C.

    Args:
        fitness: See `crowded_fitness`; at least two.
        rng: Source of randomness.

    Returns:
        Two indices.

    >>> sorted(two_winners([(0, -1.0), (0, -2.0)], np.random.default_rng(0)))
    [0, 1]
    """
    count = len(fitness)
    first = min(rng.integers(count, size=2).tolist(), key=fitness.__getitem__)
    others = (first + 1 + rng.integers(count - 1, size=2)) % count
    return first, min(others.tolist(), key=fitness.__getitem__)


def most_crowded(observations: Sequence[Observation]) -> int:
    """Index of the last by the crowded comparison.

    Of equals the oldest, so that a search among equals does not stand still.

    Args:
        observations: With scores, from the oldest to the youngest.
    """
    scores, ranks = _ranked(observations)
    last = np.flatnonzero(ranks == ranks.max())
    return int(last[np.argmin(crowding_distances(scores[last]))])


def _ranked(observations: Sequence[Observation]) -> tuple[np.ndarray, np.ndarray]:
    scores = np.array([one.scores for one in observations])
    violations = np.array([one.violation for one in observations])
    return scores, constrained_ranks(scores, violations)
