"""NSGA-II without generations: several objectives, ranked by Pareto dominance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.pareto import constrained_ranks, crowding_distances
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import (
    MOST_OPENING_TRIALS,
    Observation,
    Proposal,
    Strategy,
    random_proposal,
)
from keras_nas_plugin.strategies.failures import FailureMemory

# Number of random configurations before the first child, per member of the population.
_INITIAL = 2
# Probability that a mutation draws any value instead of a nearby one.
_DRAWN = 0.5
# Number of children to draw with the same number of edits; if all of them were tried before, one
# more edit is added, at most this many times. Then a random configuration is proposed instead.
_CHILDREN = 10
_MORE_EDITS = 4


def default_nsga2_population(max_trials: int | None) -> int:
    """Population size for a budget.

    A twentieth of the trials, 10 to 40, but at most a quarter of the trials. Deb et al. 2002 use
    100 parents for 250 generations; when each trial is a training, a larger population learns too
    late. On synthetic problems, populations of 10 were best up to 200 trials, of 20 at 400, and of
    20 to 40 at 1,000.

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
    decision from either parent, and each decision is mutated with probability one over the
    number of decisions. Every trial joins the population when it ends, and the most crowded
    member of the last front leaves: no worker waits for a generation to end. Trials that
    violated a constraint are dominated by those that did not, and compete by their violation.
    Failed trials never become parents, and what they have in common is proposed less often:
    see `failures`.

    Source: Deb, Pratap, Agarwal & Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic
    Algorithm: NSGA-II", sections III and VI-A, with its probabilities (section IV); one child
    at a time: Durillo, Nebro, Luna & Alba 2009, "On the Effect of the Steady-State Selection
    Scheme in Multi-Objective Genetic Algorithms".

    Decisions are mixed and conditional, so crossover is uniform. Half of the mutations move to
    a nearby value and half draw a new one, which helps a small population to escape from local
    optima (long steps among short ones: Yao, Liu & Lin 1999, "Evolutionary Programming Made
    Faster"). Beyond the papers, no configuration is trained twice: a child that was tried
    before is drawn again, with one more edit after ten attempts.

    Args:
        population_size: Number of trials that may become parents, at least 2.
        crossover_probability: Probability that a child has two parents instead of one.

    Raises:
        StrategyError: An argument is out of its range.
    """

    multi_objective = True
    adjustable = frozenset({"population_size"})
    opening_trials = MOST_OPENING_TRIALS

    def __init__(self, *, population_size: int = 20, crossover_probability: float = 0.9) -> None:
        super().__init__()
        if population_size < 2:
            raise StrategyError(f"`population_size` must be at least 2; got {population_size}")
        if not 0.0 <= crossover_probability <= 1.0:
            raise StrategyError(
                f"`crossover_probability` must be between 0 and 1; got {crossover_probability}"
            )
        self.population_size = population_size
        self.crossover_probability = crossover_probability
        self._population: list[Observation] = []
        self._failures = FailureMemory()
        self._ended = 0
        # Fitness of each member for tournaments; None until it is needed.
        self._fitness: list[tuple[int, float]] | None = None

    @classmethod
    def budget_defaults(
        cls, max_trials: int | None, explicit: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See `Strategy.budget_defaults` and `default_nsga2_population`."""
        return {"population_size": default_nsga2_population(max_trials)}

    @property
    def population(self) -> tuple[Observation, ...]:
        """The trials that may become parents, from the oldest to the youngest."""
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
            return self._untried_child(spec, rng, tried)

        # Running trials count as well, so that slow workers do not prolong the random phase.
        beginning = self._ended + len(pending) < _INITIAL * self.population_size
        if beginning or len(self._population) < 2 or spec.constant:
            return self._failures.avoid(sample, spec, rng)
        child = self._failures.avoid(propose_child, spec, rng)
        return self._failures.avoid(sample, spec, rng) if child is None else child

    def _untried_child(
        self, spec: SearchSpec, rng: np.random.Generator, tried: Tried
    ) -> Proposal | None:
        for more in range(_MORE_EDITS + 1):
            for _ in range(_CHILDREN):
                child, parents = self._child(spec, rng, more)
                if not tried(child):
                    return Proposal.from_parents(child, parents)
        return None

    def _child(
        self, spec: SearchSpec, rng: np.random.Generator, more: int
    ) -> tuple[Values, list[Observation]]:
        if self._fitness is None:
            self._fitness = crowded_fitness(self._population)
        parents = [self._population[index] for index in two_winners(self._fitness, rng)]
        mates = [spec.fill(parent.values) for parent in parents]
        child, used_parents = mates[0], parents[:1]
        if rng.random() < self.crossover_probability:
            child, used_parents = spec.cross(mates[0], mates[1], rng), parents
        mutable = sum(d.domain.size != 1 for d in spec.active(child).values())
        if not mutable:
            return child, used_parents
        edits = int(rng.binomial(mutable, 1 / mutable))
        # A child that equals a parent has certainly been tried.
        for _ in range(max(edits, child in mates) + more):
            child = _mutant(child, spec, rng)
        return child, used_parents

    def learn(self, observation: Observation) -> None:
        """Add the trial, and remove the most crowded member of the last front."""
        self._failures.learn(observation)
        self._ended += 1
        self._fitness = None
        # If a configuration was trained again, the latest result counts.
        members = [member for member in self._population if member.values != observation.values]
        if observation.scores is not None and np.isfinite(observation.scores).all():
            members.append(observation)
        if len(members) > self.population_size:
            del members[most_crowded(members)]
        self._population = members

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        self._population, self._ended, self._fitness = [], 0, None
        self._failures.clear()
        super().set_state(state, history)


def _mutant(values: Values, spec: SearchSpec, rng: np.random.Generator) -> Values:
    """Move one decision to a nearby value, or redraw it, which may give the same value."""
    if rng.random() >= _DRAWN:
        return spec.mutate(values, rng)
    names = [name for name, decision in spec.active(values).items() if decision.domain.size != 1]
    drawn = names[int(rng.integers(len(names)))]
    return spec.complete({n: value for n, value in values.items() if n != drawn}, rng)


def crowded_fitness(observations: Sequence[Observation]) -> list[tuple[int, float]]:
    """The fitness for the crowded comparison; smaller is better.

    Source: Deb et al. 2002, section III-B.

    Args:
        observations: Trials with scores.

    Returns:
        For each observation its front, and its negative crowding distance in that front.
    """
    scores, ranks = _ranked(observations)
    distances = np.empty(len(ranks))
    for rank in range(ranks.max() + 1):
        distances[ranks == rank] = crowding_distances(scores[ranks == rank])
    return list(zip(ranks.tolist(), (-distances).tolist(), strict=True))


def two_winners(fitness: Sequence[tuple[int, float]], rng: np.random.Generator) -> tuple[int, int]:
    """Two different parents, each the winner of a binary tournament.

    Contestants are drawn with replacement; the first winner does not compete again. Ties go to
    the contestant drawn first. Source: Deb et al. 2002, section III-C.

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
    contestants = (first + 1 + rng.integers(count - 1, size=2)) % count
    return first, min(contestants.tolist(), key=fitness.__getitem__)


def most_crowded(observations: Sequence[Observation]) -> int:
    """Index of the worst by the crowded comparison.

    Ties go to the oldest trial, so that a population of equals does not stagnate.

    Args:
        observations: Trials with scores, from the oldest to the youngest.
    """
    scores, ranks = _ranked(observations)
    last = np.flatnonzero(ranks == ranks.max())
    return int(last[np.argmin(crowding_distances(scores[last]))])


def _ranked(observations: Sequence[Observation]) -> tuple[np.ndarray, np.ndarray]:
    scores = np.array([observation.scores for observation in observations])
    violations = np.array([observation.violation for observation in observations])
    return scores, constrained_ranks(scores, violations)
