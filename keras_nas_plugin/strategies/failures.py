"""Learning from failed trials: which values, and which pairs of values, to avoid."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.space.domains import Domain
from keras_nas_plugin.space.spec import SearchSpec, Values
from keras_nas_plugin.strategies.base import Observation, Proposal

# Number of trials to remember: enough to tell a value that fails from bad luck, at a bounded cost.
_FAILED = 128
_SUCCEEDED = 512
# Number of bins of an ordered domain; failures within a bin are counted together.
_BINS = 8
# Pseudo-count: each value starts with this many trials at the overall failure rate.
_PRIOR_TRIALS = 2.0
# Maximum number of draws, after which the least risky one is proposed.
_DRAWS = 16


def failure_chance(codes: np.ndarray, failed: np.ndarray, succeeded: np.ndarray) -> float:
    """Probability that a configuration fails, from its single values and pairs of values.

    The larger of two estimates. The first multiplies the odds of the values (naive Bayes;
    Domingos & Pazzani 1997): it learns from few failures, but cannot represent combinations.
    The second is the failure rate of the most suspicious pair of values, weighted by the
    posterior probability that the pair is the cause. This probability follows from the likelihood
    ratio of the pair's failure rate to the overall rate, with one causal pair expected a priori.

    Args:
        codes: Shape ``[d]``, one code per decision; NaN where it is inactive.
        failed: Shape ``[f, d]``, codes of trials that failed.
        succeeded: Shape ``[s, d]``, codes of trials that did not fail.

    Returns:
        A number in (0, 1).

    >>> failed, succeeded = np.array([[0, 1], [0, 2], [0, 3]]), np.array([[1, 1], [1, 2]])
    >>> risky, safe = np.array([0, 1]), np.array([1, 2])
    >>> [round(failure_chance(codes, failed, succeeded), 2) for codes in (risky, safe)]
    [0.81, 0.26]
    """
    overall = (len(failed) + 1.0) / (len(failed) + len(succeeded) + 2.0)
    same_failed, same_succeeded = (failed == codes) * 1.0, (succeeded == codes) * 1.0
    # Shape [d, d]: trials that share a pair of values; on the diagonal, a single value.
    failures, successes = same_failed.T @ same_failed, same_succeeded.T @ same_succeeded
    trials = failures + successes
    shrunk = (failures + _PRIOR_TRIALS * overall) / (trials + _PRIOR_TRIALS)
    odds = math.log(overall / (1.0 - overall))
    values = np.diag(shrunk)
    naive_bayes = odds + float(np.sum(np.log(values / (1.0 - values)) - odds))
    pair = float(np.max(_suspected(failures, trials, shrunk, overall), initial=0.0))
    return max(1.0 / (1.0 + math.exp(min(-naive_bayes, 500.0))), pair)


def _suspected(
    failures: np.ndarray, trials: np.ndarray, shrunk: np.ndarray, overall: float
) -> np.ndarray:
    """Failure rates of pairs, each weighted by the probability that it is not due to chance.

    Args:
        failures: Shape ``[d, d]``, failed trials that share a pair of values.
        trials: Shape ``[d, d]``, all trials that share it.
        shrunk: Shape ``[d, d]``, their failure rates.
        overall: Failure rate of all trials.

    Returns:
        Shape ``[d * (d - 1) / 2]``.
    """
    above = np.triu_indices(len(trials), 1)
    failures, trials, shrunk = failures[above], trials[above], shrunk[above]
    rate = failures / np.maximum(trials, 1.0)
    succeeded = trials - failures
    # The lower bound keeps 0 * log(0) at 0.
    ratio = failures * np.log(np.maximum(rate, 1e-300) / overall)
    ratio += succeeded * np.log(np.maximum(1.0 - rate, 1e-300) / (1.0 - overall))
    evidence = np.where(rate > overall, ratio, -np.inf) - math.log(max(len(trials), 1))
    causal = 1.0 / (1.0 + np.exp(np.minimum(-evidence, 500.0)))
    return causal * shrunk


def codes_of(values: Mapping[str, Any], spec: SearchSpec) -> np.ndarray:
    """Encode a configuration as one code per decision; similar values share a code.

    Args:
        values: Valid and active values.
        spec: The space.

    Returns:
        Shape ``[d]``: the index of an unordered value, the bin of an ordered one. NaN, which
        is equal to no code, where a decision is inactive or has only one value.
    """
    active = spec.active(values)
    codes = np.full(len(spec.decisions), np.nan)
    for index, decision in enumerate(spec.decisions):
        if active.get(decision.name) is decision and decision.domain.size != 1:
            codes[index] = _code(decision.domain, values[decision.name])
    return codes


def _code(domain: Domain, value: object) -> int:
    size = domain.size or _BINS
    bins = min(size, _BINS) if domain.ordered else size
    return min(int(domain.position(value) * bins), bins - 1)


class _Trials:
    """The latest trials that failed, or succeeded; encoded once, unless the space changes."""

    def __init__(self, length: int) -> None:
        self._values: collections.deque[Values] = collections.deque(maxlen=length)
        self._rows: collections.deque[np.ndarray] = collections.deque(maxlen=length)
        self._new = 0
        self._coded: tuple[SearchSpec | None, np.ndarray] = None, np.zeros((0, 0))

    def add(self, values: Mapping[str, Any]) -> None:
        self._values.append(dict(values))
        self._new = min(self._new + 1, len(self._values))

    def codes(self, spec: SearchSpec) -> np.ndarray:
        """Shape ``[trials, decisions]``."""
        if self._coded[0] is not spec:
            self._rows.clear()
            self._new = len(self._values)
        elif not self._new:
            return self._coded[1]
        for index in range(len(self._values) - self._new, len(self._values)):
            self._rows.append(codes_of(spec.fill(self._values[index]), spec))
        self._new = 0
        self._coded = spec, np.array(self._rows).reshape(len(self._rows), len(spec.decisions))
        return self._coded[1]


class FailureMemory:
    """Remembers failed and successful trials, to propose fewer configurations that fail.

    It is rebuilt from the observations, and the cost of a query does not grow with their
    number.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all trials."""
        self._failed = _Trials(_FAILED)
        self._succeeded = _Trials(_SUCCEEDED)

    def learn(self, observation: Observation) -> None:
        """Remember whether a trial failed."""
        (self._failed if observation.scores is None else self._succeeded).add(observation.values)

    def chance(self, values: Mapping[str, Any], spec: SearchSpec) -> float:
        """Probability that ``values`` fail; 0 while no trial has failed."""
        failed = self._failed.codes(spec)
        if not len(failed):
            return 0.0
        return failure_chance(codes_of(values, spec), failed, self._succeeded.codes(spec))

    def avoid(
        self, draw: Callable[[], Proposal | None], spec: SearchSpec, rng: np.random.Generator
    ) -> Proposal | None:
        """Draw from the distribution of ``draw``, given that the trial will succeed.

        A proposal is accepted with the probability that it succeeds, and drawn again
        otherwise (rejection sampling; von Neumann 1951): no configuration is ever ruled out.
        While no trial has failed, the first draw is accepted and ``rng`` is not used.

        Args:
            draw: Returns a proposal, or None when there are no more.
            spec: The space.
            rng: Source of randomness.

        Returns:
            A proposal: the least risky one, if all draws were rejected. None if ``draw`` did not
            return any.
        """
        rejected: list[tuple[float, Proposal]] = []
        while len(rejected) < _DRAWS and (proposal := draw()) is not None:
            chance = self.chance(proposal.values, spec)
            if chance == 0.0 or rng.random() >= chance:
                return proposal
            rejected.append((chance, proposal))
        return min(rejected, key=lambda pair: pair[0])[1] if rejected else None
