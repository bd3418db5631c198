"""Bayesian optimisation made for architectures: a Gaussian process over the encoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.encoding import Encoding, encoding_of
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.acquisition import best_first, candidates, upper_confidence_bound
from keras_nas_plugin.strategies.base import Observation, Strategy
from keras_nas_plugin.strategies.candidates import rows_of
from keras_nas_plugin.strategies.gaussian_process import GaussianProcess
from keras_nas_plugin.strategies.kernels import embed
from keras_nas_plugin.strategies.observed import Observed
from keras_nas_plugin.strategies.threads import one_thread

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
        self._memory: Observed | None = None

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
        self, memory: Observed, running: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Codes of different configurations, the most promising first."""
        encoding = memory.encoding
        codes, scores = memory.telling()
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

    def _encoded(self, spec: SearchSpec) -> Observed:
        """All observations in the encoding of a spec; from scratch when it has grown."""
        if self._memory is None or self._memory.encoding.spec is not spec:
            self._memory = Observed(encoding_of(spec))
        self._memory.add(self._observations)
        return self._memory
