"""What failed trials teach: which values, and which pairs of values, to stay away from."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.space.domains import Domain
from keras_nas_plugin.space.spec import SearchSpec, Values
from keras_nas_plugin.strategies.base import Observation

# What is remembered: enough to tell a value that fails from bad luck, at a bounded cost.
_FAILED = 128
_SUCCEEDED = 512
# Parts of an ordered domain whose failures are counted together.
_BINS = 8
# Trials at the overall rate that each value is credited with before its own count.
_PRIOR_TRIALS = 2.0
# Draws before the least risky of them is taken.
_DRAWS = 16


def failure_chance(codes: np.ndarray, failed: np.ndarray, succeeded: np.ndarray) -> float:
    """Chance that a configuration fails, judged by its values alone and in pairs.

    The worse of two estimates. The first multiplies the odds of the values (naive Bayes;
    Domingos & Pazzani 1997): it learns from few failures, but sees no combinations. The
    second is that of the most suspicious pair of values: the failure rate of a pair counts
    as far as a likelihood ratio speaks for it against the overall rate, with one guilty
    pair among all expected beforehand.

    Args:
        codes: Shape ``[d]``, one code per decision; NaN where it is inactive.
        failed: Shape ``[f, d]``, codes of trials that failed.
        succeeded: Shape ``[s, d]``, codes of trials that did not.

    Returns:
        A number in (0, 1).

    >>> failed, succeeded = np.array([[0, 1], [0, 2], [0, 3]]), np.array([[1, 1], [1, 2]])
    >>> risky, safe = np.array([0, 1]), np.array([1, 2])
    >>> [round(failure_chance(one, failed, succeeded), 2) for one in (risky, safe)]
    [0.81, 0.26]
    """
    overall = (len(failed) + 1.0) / (len(failed) + len(succeeded) + 2.0)
    same_failed, same_succeeded = (failed == codes) * 1.0, (succeeded == codes) * 1.0
    # Shape [d, d]: trials that share two values; one value on the diagonal.
    failures, successes = same_failed.T @ same_failed, same_succeeded.T @ same_succeeded
    trials = failures + successes
    shrunk = (failures + _PRIOR_TRIALS * overall) / (trials + _PRIOR_TRIALS)
    odds = math.log(overall / (1.0 - overall))
    values = np.diag(shrunk)
    alone = odds + float(np.sum(np.log(values / (1.0 - values)) - odds))
    pair = float(np.max(_suspected(failures, trials, shrunk, overall), initial=0.0))
    return max(1.0 / (1.0 + math.exp(min(-alone, 500.0))), pair)


def _suspected(
    failures: np.ndarray, trials: np.ndarray, shrunk: np.ndarray, overall: float
) -> np.ndarray:
    """Failure rates of pairs, each made smaller as far as chance explains it.

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
    # The tiny number keeps 0 * log(0) at 0.
    ratio = failures * np.log(np.maximum(rate, 1e-300) / overall)
    ratio += succeeded * np.log(np.maximum(1.0 - rate, 1e-300) / (1.0 - overall))
    evidence = np.where(rate > overall, ratio, -np.inf) - math.log(max(len(trials), 1))
    guilty = 1.0 / (1.0 + np.exp(np.minimum(-evidence, 500.0)))
    return guilty * shrunk


def codes_of(values: Mapping[str, Any], spec: SearchSpec) -> np.ndarray:
    """A configuration as one code per decision, equal where values are alike.

    Args:
        values: Valid and active values.
        spec: The space.

    Returns:
        Shape ``[d]``: the index of an unordered value, the part of the range of an
        ordered one; NaN, which equals nothing, where a decision is inactive or has only
        one value.
    """
    active = spec.active(values)
    codes = np.full(len(spec.decisions), np.nan)
    for index, decision in enumerate(spec.decisions):
        if active.get(decision.name) is decision and decision.domain.size != 1:
            codes[index] = _code(decision.domain, values[decision.name])
    return codes


def _code(domain: Domain, value: Any) -> int:
    parts = domain.size if not domain.ordered else min(domain.size or _BINS, _BINS)
    return min(int(domain.position(value) * parts), parts - 1)


class _Trials:
    """The latest trials of one kind; each is coded once, unless the space changes."""

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
    """The latest trials by how they ended, and how to propose less of what fails.

    It is rebuilt from the observations, and what it costs to ask it does not grow with
    their number.
    """

    def __init__(self) -> None:
        self._failed = _Trials(_FAILED)
        self._succeeded = _Trials(_SUCCEEDED)

    def clear(self) -> None:
        """Forget everything."""
        self.__init__()

    def learn(self, observation: Observation) -> None:
        """Remember how a trial ended."""
        (self._failed if observation.scores is None else self._succeeded).add(observation.values)

    def chance(self, values: Mapping[str, Any], spec: SearchSpec) -> float:
        """Chance that ``values`` fail; 0 while nothing has failed."""
        failed = self._failed.codes(spec)
        if not len(failed):
            return 0.0
        return failure_chance(codes_of(values, spec), failed, self._succeeded.codes(spec))

    def avoid(
        self, draw: Callable[[], Values | None], spec: SearchSpec, rng: np.random.Generator
    ) -> Values | None:
        """Draw as ``draw`` does, given that the trial will succeed.

        A configuration is kept with the chance that it succeeds, and drawn anew else
        (rejection sampling; von Neumann 1951): nothing is ever ruled out. Without a
        failed trial, the first is kept and ``rng`` is not touched.

        Args:
            draw: Gives a configuration, or None when there are no more.
            spec: The space.
            rng: Source of randomness.

        Returns:
            A configuration, the least risky one when many were refused; None when
            ``draw`` gave none at all.
        """
        refused: list[tuple[float, Values]] = []
        while len(refused) < _DRAWS and (values := draw()) is not None:
            chance = self.chance(values, spec)
            if chance == 0.0 or rng.random() >= chance:
                return values
            refused.append((chance, values))
        return min(refused, key=lambda one: one[0])[1] if refused else None
