"""Bayesian optimisation made for architectures: a Gaussian process over the encoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.encoding import Encoding, encoding_of
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies import gaussian_process
from keras_nas_plugin.strategies.acquisition import best_first, candidates, upper_confidence_bound
from keras_nas_plugin.strategies.base import Observation, Strategy
from keras_nas_plugin.strategies.candidates import rows_of
from keras_nas_plugin.strategies.gaussian_process import GaussianProcess, Hyperparameters
from keras_nas_plugin.strategies.kernels import embed
from keras_nas_plugin.strategies.ranking import half_rank_scores
from keras_nas_plugin.strategies.threads import one_thread

# Configurations that the hyperparameters are fitted to, and that a prediction rests on: the
# time of a proposal stays bounded, however many trials there were.
_FITTED = 200
_REMEMBERED = 512
#: Standard deviations in the upper confidence bound.
DEFAULT_KAPPA = 2.0
# One proposal in so many goes to a label that no trial has had, while there are any.
_UNSEEN_EVERY = 5


def default_initial(max_trials: int | None) -> int:
    """Random trials before the model is asked: a fifth of the budget, 4 to 10.

    >>> default_initial(None), default_initial(100), default_initial(25), default_initial(3)
    (10, 10, 5, 4)
    """
    return 10 if max_trials is None else min(10, max(4, max_trials // 5))


def fitted_at(count: int) -> int:
    """How many of ``count`` observations the hyperparameters were last fitted to.

    They are fitted anew whenever a tenth was added. Which ones depends on nothing but the
    count, so that a reloaded search fits the same.

    >>> [fitted_at(count) for count in (1, 19, 20, 21, 22, 109)]
    [1, 19, 20, 20, 22, 100]
    """
    return count - count % max(1, count // 10)


def most_telling(scores: np.ndarray, limit: int) -> np.ndarray:
    """Which observations a model of limited size keeps: half the best, half the latest.

    Args:
        scores: Shape ``[n]``, in the order of arrival.
        limit: Most to keep.

    Returns:
        Indices in rising order, at most ``limit``.

    >>> most_telling(np.array([5.0, 9.0, 1.0, 2.0, 3.0]), 4).tolist()
    [0, 1, 3, 4]
    """
    if len(scores) <= limit:
        return np.arange(len(scores))
    best = np.argsort(-scores, kind="stable")[: limit // 2]
    others = np.setdiff1d(np.arange(len(scores)), best)
    return np.sort(np.concatenate([best, others[len(others) - (limit - len(best)) :]]))


def has_unseen_label(encoding: Encoding, codes: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Which configurations have a label that none of those seen has in its place.

    Scores say nothing about such a label, but a model that was fitted to them believes
    that it is like the others.

    Args:
        encoding: Of the space.
        codes: Shape ``[n, columns]``.
        seen: Shape ``[m, columns]``.

    Returns:
        Booleans, shape ``[n]``.

    >>> from keras_nas_plugin.space import Categorical, Decision, SearchSpec
    >>> encoding = Encoding(SearchSpec((Decision("a", Categorical((1, 2, 3))),)))
    >>> has_unseen_label(encoding, np.array([[0.0], [2.0]]), np.array([[0.0], [1.0]])).tolist()
    [False, True]
    """
    unseen = np.zeros(len(codes), bool)
    for at, column in enumerate(encoding.columns):
        if not column.ordered:
            unseen |= ~np.isnan(codes[:, at]) & ~np.isin(codes[:, at], seen[:, at])
    return unseen


class SurrogateSearch(Strategy):
    """Bayesian optimisation with a Gaussian process over the space's own encoding.

    After a few random trials, each proposal maximises an upper confidence bound over
    mutations of the best configurations and fresh samples, followed by a local search.
    The kernel compares labels by equality, numbers by position and inactive decisions by
    the arc kernel; how much each decision matters is learned from the scores, whose worse
    half counts by rank alone. One proposal in five prefers a label that no trial has had,
    while there is one. Trials that run elsewhere shrink the uncertainty around
    them, so that parallel workers spread out. Failed trials count as bad as the worst.

    Source: Snoek, Larochelle & Adams 2012, "Practical Bayesian Optimization of Machine
    Learning Algorithms"; for its parts see `gaussian_process`, `kernels`, `ranking` and
    `acquisition`.

    Args:
        initial_trials: Random trials before the model is asked, at least 1.
        kappa: Standard deviations in the upper confidence bound, at least 0: the larger,
            the more it explores.

    Raises:
        StrategyError: An argument is too small.
    """

    def __init__(self, *, initial_trials: int = 10, kappa: float = DEFAULT_KAPPA) -> None:
        super().__init__()
        if initial_trials < 1:
            raise StrategyError(f"`initial_trials` needs at least 1; received {initial_trials}")
        if not 0.0 <= kappa < float("inf"):
            raise StrategyError(f"`kappa` needs a finite number of 0 or more; received {kappa}")
        self.initial_trials = initial_trials
        self.kappa = kappa
        self._observations: list[Observation] = []
        self._memory: _Memory | None = None

    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Values | None:
        """See `Strategy.ask`."""
        memory = self._encoded(spec)
        running = memory.encoding.encode_many(pending.values())
        known = memory.known | set(rows_of(running))
        if spec.constant or not memory.known or len(known) < self.initial_trials:
            return spec.untried(rng, tried)
        with one_thread():
            rows = self._promising(memory, running, rng)
            if len(known) % _UNSEEN_EVERY == 0:
                seen = np.concatenate([memory.codes, running])
                new = has_unseen_label(memory.encoding, rows, seen)
                rows = np.concatenate([rows[new], rows[~new]])
            for row in rows:
                if rows_of(row[None])[0] in known:
                    continue
                values = memory.encoding.decode(row)
                if not tried(values):
                    return values
        return spec.untried(rng, tried)

    def _promising(
        self, memory: _Memory, running: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Codes of different configurations, the most promising first."""
        encoding = memory.encoding
        codes, scores = memory.latest()
        kept = most_telling(scores, _REMEMBERED)
        codes, scores = codes[kept], scores[kept]
        points, columns = embed(encoding, codes)
        pending = embed(encoding, running)[0]
        model = GaussianProcess(points, scores, columns, memory.hyperparameters(), pending)

        def acquisition(rows: np.ndarray) -> np.ndarray:
            mean, deviation = model.predict(embed(encoding, rows)[0])
            return upper_confidence_bound(mean, deviation, self.kappa)

        # A score is partly luck; what the model makes of it and its neighbours is less so.
        ranked, _ = best_first(codes, model.predict(points)[0])
        return candidates(encoding, ranked, acquisition, rng)

    def learn(self, observation: Observation) -> None:
        """Remember it; models are made when they are asked."""
        self._observations.append(observation)

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`; everything is a function of the history."""
        self._observations.clear()
        self._memory = None
        super().set_state(state, history)

    def _encoded(self, spec: SearchSpec) -> _Memory:
        """All observations in the encoding of a spec; from scratch when it has grown."""
        if self._memory is None or self._memory.encoding.spec is not spec:
            self._memory = _Memory(encoding_of(spec))
        self._memory.add(self._observations)
        return self._memory


def _score_of(observation: Observation) -> float:
    """A trial that failed is worse than any other, by rank."""
    if observation.scores is None or not np.isfinite(observation.scores[0]):
        return -np.inf
    return observation.scores[0]


class _Memory:
    """Observations as rows of codes, and what was fitted to them: a cache, never a state.

    Args:
        encoding: Of the space; when it grows, a memory is built anew.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        #: Keys of all configurations that were observed.
        self.known: set[bytes] = set()
        #: All observations, shape ``[n, columns]``.
        self.codes = np.zeros((0, len(encoding.columns)))
        self._scores = np.zeros(0)
        self._keys: list[bytes] = []
        self._fitted: tuple[int, Hyperparameters] | None = None

    def add(self, observations: list[Observation]) -> None:
        """Take in those that are new; the list only ever grows."""
        new = observations[len(self._keys) :]
        if not new:
            return
        codes = self.encoding.encode_many(one.values for one in new)
        scores = [_score_of(one) for one in new]
        self.codes = np.concatenate([self.codes, codes])
        self._scores = np.concatenate([self._scores, scores])
        self._keys.extend(rows_of(codes))
        self.known.update(self._keys[-len(new) :])

    def latest(self, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Each configuration as it was observed last.

        Args:
            count: How many of the observations count, from the first on; None for all.

        Returns:
            Codes of shape ``[n, columns]``, and scores of shape ``[n]`` as the model sees
            them; failed trials stand with the worst.
        """
        last = {key: index for index, key in enumerate(self._keys[:count])}
        kept = np.sort(np.fromiter(last.values(), np.intp, len(last)))
        return self.codes[kept], half_rank_scores(self._scores[kept])

    def hyperparameters(self) -> Hyperparameters:
        """Fitted to a first part of the observations: see `fitted_at`."""
        count = fitted_at(len(self._keys))
        if self._fitted is None or self._fitted[0] != count:
            codes, scores = self.latest(count)
            kept = most_telling(scores, _FITTED)
            points, columns = embed(self.encoding, codes[kept])
            self._fitted = count, gaussian_process.fit(points, columns, scores[kept])
        return self._fitted[1]
