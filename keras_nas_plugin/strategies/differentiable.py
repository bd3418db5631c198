"""Architectures that the weights of a relaxed supernet propose."""

from __future__ import annotations

import dataclasses
import heapq
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from keras_nas_plugin.space.spec import SearchSpec, Values
from keras_nas_plugin.strategies.calibration import RankCorrelation
from keras_nas_plugin.strategies.finalists import (
    RANDOM_EVERY,
    FinalistSearch,
    Plan,
    SupernetCalibration,
    SupernetScorer,
    default_calibration,
    ordered,
)

_FEWEST_EVALUATIONS, _MOST_EVALUATIONS, _EVALUATIONS_PER_TRIAL = 12, 60, 2
# The most probable architectures that are checked for a feasible one.
_CHECKED = 256
# Draws for each architecture that is to be sampled: draws repeat as the weights get decided.
_DRAWS = 20

#: The options of each decision with their weights, which sum to 1.
ArchitectureWeights = Mapping[str, Sequence[tuple[Any, float]]]


class RelaxedScorer(SupernetScorer, Protocol):
    """A supernet whose architecture is a differentiable parameter."""

    def architecture_weights(self) -> ArchitectureWeights:
        """The weights of the options, after the supernet was trained."""

    def perturbed(self) -> Values | None:
        """The architecture by perturbation; None if it is to be the most probable."""


@dataclasses.dataclass(frozen=True)
class DerivedCalibration(SupernetCalibration):
    """How well a relaxed supernet ranked the first finalists, and chose among them.

    Attributes:
        derived: Score of the trial of the derived architecture, the larger the better; None if
            the trial failed.
        median: Median of the scores of the other finalists.
    """

    derived: float | None
    median: float

    @property
    def better(self) -> bool:
        """Whether the derived architecture is at least as good as the median of the others."""
        return self.derived is not None and self.derived >= self.median

    def __str__(self) -> str:
        ranks = self.ranks
        if self.better:
            return (
                f"the derived architecture is at least as good as the median of the other "
                f"finalists, and {ranks}: the next finalists follow the weights of the supernet"
            )
        outcome = (
            "the trial of the derived architecture failed"
            if self.derived is None
            else "the derived architecture is worse than the median of the other finalists"
        )
        return (
            f"{outcome}, and {ranks}: the remaining trials are proposed from the scores of the "
            "trials alone"
        )


class DifferentiableSearch(FinalistSearch):
    """Tries the derived architecture, samples from the weights, and random controls.

    The first finalist is the derived architecture: the most probable one that satisfies the
    constraints, or that of the perturbation. It is followed by architectures that are sampled
    from the weights, in the order of their scores with the supernet; every fourth finalist is
    random. Once enough have been trained, the derived one is compared with the median of the
    others: if it is worse, ``base`` proposes the remaining trials from the scores of the trials.

    Source: Liu et al. 2019, "DARTS: Differentiable Architecture Search", section 2.3
    (discretisation). There, four runs of the search are compared by training what they derive;
    here, samples of one run.

    Args:
        scorer: The supernet.
        base: See `FinalistSearch`.
        evaluations: Number of architectures to score with the supernet, at least 1.
        calibration_trials: See `FinalistSearch`.

    Raises:
        StrategyError: A number is too small.
    """

    scorer: RelaxedScorer

    @classmethod
    def budget_defaults(
        cls, max_trials: int | None, explicit: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See `Strategy.budget_defaults`: two evaluations for each trial, 12 to 60."""
        most = _MOST_EVALUATIONS if max_trials is None else _EVALUATIONS_PER_TRIAL * max_trials
        return {
            "evaluations": min(_MOST_EVALUATIONS, max(_FEWEST_EVALUATIONS, most)),
            "calibration_trials": default_calibration(max_trials),
        }

    def _planned(self, spec: SearchSpec, seed: int) -> Plan:
        """See `FinalistSearch`."""
        rng = np.random.default_rng(seed)
        space, weights = self.scorer.restricted(spec), self.scorer.architecture_weights()
        derived = self._derived(space, weights)
        candidates = {} if derived is None else {space.key(derived): derived}
        controls: dict[str, Values] = {}
        scored: list[tuple[Values, tuple[float, ...]]] = []
        for number in range(self.evaluations - len(candidates)):
            if self._ends_scoring(number + int(derived is not None)):
                break
            control = number % RANDOM_EVERY == RANDOM_EVERY - 1
            for _ in range(_DRAWS):
                values = space.sample(rng) if control else sampled(space, weights, rng)
                key = space.key(values)
                if key in candidates:
                    continue
                scores = self.scorer(values)
                candidates[key] = values
                if scores is None:
                    continue
                if control:
                    controls[key] = values
                else:
                    scored.append((values, scores))
                break
        first = [] if derived is None else [derived]
        remaining = ordered(scored, rng, list(controls.values()))
        finalists = (*first, *remaining)
        return Plan(finalists, frozenset(spec.key(values) for values in finalists))

    def _derived(self, space: SearchSpec, weights: ArchitectureWeights) -> Values | None:
        """The derived architecture; None if none of the most probable satisfies the limits."""
        perturbed = self.scorer.perturbed()
        if perturbed is not None and self.scorer(perturbed) is not None:
            return perturbed
        for number, values in enumerate(most_probable(space, weights)):
            if self.scorer(values) is not None:
                return values
            if number == _CHECKED - 1:
                break
        return None

    def _calibrated(self, spec: SearchSpec, seed: int) -> SupernetCalibration | None:
        """The comparison of the first finalists; None before they, and the derived one, ended."""
        calibration = super()._calibrated(spec, seed)
        finalists = self._planned_once(spec, seed).finalists
        if calibration is None or not finalists:
            return None
        derived = spec.key(finalists[0])
        ended = [
            (spec.key(dict(observation.values)), observation)
            for observation in self._observations
            if self.scored(spec, dict(observation.values))
        ]
        own = [observation for key, observation in ended if key == derived]
        scores_of_others = [
            observation.scores[0]
            for key, observation in ended
            if key != derived and observation.scores is not None and observation.violation <= 0
        ]
        if not own or not scores_of_others:
            return None
        scores = own[0].scores
        score = None if scores is None or own[0].violation > 0 else scores[0]
        return DerivedCalibration(
            calibration.supernet,
            calibration.parameters,
            score,
            statistics.median(scores_of_others),
        )

    def _calibration_from(self, saved: Mapping[str, Any]) -> SupernetCalibration:
        """See `FinalistSearch`."""
        supernet, parameters = (RankCorrelation(**saved[n]) for n in ("supernet", "parameters"))
        return DerivedCalibration(supernet, parameters, saved["derived"], saved["median"])


def sampled(spec: SearchSpec, weights: ArchitectureWeights, rng: np.random.Generator) -> Values:
    """An architecture whose options are drawn with their weights.

    Args:
        spec: The space. Decisions without weights are drawn from it.
        weights: The weights.
        rng: Source of randomness.
    """
    chosen = {}
    for name, options in weights.items():
        probabilities = np.array([weight for _, weight in options], float)
        index = rng.choice(len(options), p=probabilities / probabilities.sum())
        chosen[name] = options[int(index)][0]
    return spec.complete(chosen, rng)


def most_probable(spec: SearchSpec, weights: ArchitectureWeights) -> Iterator[Values]:
    """Architectures in the order of the product of the weights of their options.

    Each is given once, where the product is largest: weights of decisions that are not active in
    an architecture belong to it as well.

    Args:
        spec: The space. Decisions without weights have their defaults.
        weights: The weights.

    >>> from keras_nas_plugin.space.domains import Categorical
    >>> from keras_nas_plugin.space.spec import Decision, SearchSpec
    >>> spec = SearchSpec((Decision("a", Categorical((1, 2)), default=1),))
    >>> [values["a"] for values in most_probable(spec, {"a": [(1, 0.3), (2, 0.7)]})]
    [2, 1]
    """
    names = list(weights)
    ranked = [sorted(weights[name], key=lambda option: -option[1]) for name in names]

    def loss(indices: tuple[int, ...]) -> float:
        chosen = (options[i][1] for options, i in zip(ranked, indices, strict=True))
        return -sum(math.log(max(weight, 1e-30)) for weight in chosen)

    start = (0,) * len(names)
    waiting, queued, given = [(loss(start), start)], {start}, set[str]()
    while waiting:
        _, indices = heapq.heappop(waiting)
        chosen = {
            name: options[i][0] for name, options, i in zip(names, ranked, indices, strict=True)
        }
        values = spec.fill(chosen)
        key = spec.key(values)
        if key not in given:
            given.add(key)
            yield values
        for at, index in enumerate(indices):
            following = (*indices[:at], index + 1, *indices[at + 1 :])
            if index + 1 < len(ranked[at]) and following not in queued:
                queued.add(following)
                heapq.heappush(waiting, (loss(following), following))
