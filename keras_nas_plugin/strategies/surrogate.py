"""Bayesian optimisation of architectures: a Gaussian process over the encoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.encoding import Encoding, encoding_of
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.acquisition import best_first, candidates, upper_confidence_bound
from keras_nas_plugin.strategies.base import (
    MOST_OPENING_TRIALS,
    Observation,
    Proposal,
    Strategy,
    random_proposal,
)
from keras_nas_plugin.strategies.candidates import rows_of
from keras_nas_plugin.strategies.gaussian_process import GaussianProcess
from keras_nas_plugin.strategies.kernels import embed
from keras_nas_plugin.strategies.observed import RUNNING, Observed
from keras_nas_plugin.strategies.threads import one_thread

#: Standard deviations in the upper confidence bound.
DEFAULT_KAPPA = 2.0
# One proposal in this many prefers a configuration with an unseen label, if there is one.
_UNSEEN_EVERY = 5


def default_initial(max_trials: int | None) -> int:
    """Number of random trials before the model is used: a fifth of the budget, 4 to 10.

    >>> default_initial(None), default_initial(100), default_initial(25), default_initial(3)
    (10, 10, 5, 4)
    """
    return 10 if max_trials is None else min(10, max(4, max_trials // 5))


def has_unseen_label(encoding: Encoding, codes: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Which configurations have a label that no observed one has in the same column.

    The scores contain no information about such a label, but a model fitted to them predicts
    that it behaves like the observed labels.

    Args:
        encoding: Encoding of the space.
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
    mutations of the best configurations and fresh samples, followed by a local search. The
    kernel compares labels by equality, numbers by position and inactive decisions by the arc
    kernel. The importance of each decision is learned from the scores, whose worse half
    counts by rank alone. One proposal in five prefers a label that no trial has had, if there
    is one. Running trials reduce the uncertainty around them, so that parallel workers spread
    out. Failed trials rank below all others.

    Source: Snoek, Larochelle & Adams 2012, "Practical Bayesian Optimization of Machine
    Learning Algorithms"; for its parts see `gaussian_process`, `kernels`, `ranking` and
    `acquisition`.

    Args:
        initial_trials: Number of random trials before the model is used, at least 1.
        kappa: Number of standard deviations in the upper confidence bound, at least 0; larger
            values explore more.

    Raises:
        StrategyError: An argument is too small.
    """

    adjustable = frozenset({"initial_trials"})
    opening_trials = MOST_OPENING_TRIALS

    def __init__(self, *, initial_trials: int = 10, kappa: float = DEFAULT_KAPPA) -> None:
        super().__init__()
        if initial_trials < 1:
            raise StrategyError(f"`initial_trials` must be at least 1; got {initial_trials}")
        if not 0.0 <= kappa < float("inf"):
            raise StrategyError(f"`kappa` must be finite and at least 0; got {kappa}")
        self.initial_trials = initial_trials
        self.kappa = kappa
        self._observations: list[Observation] = []
        self._memory: Observed | None = None

    @classmethod
    def budget_defaults(
        cls, max_trials: int | None, explicit: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See `Strategy.budget_defaults` and `default_initial`."""
        return {"initial_trials": default_initial(max_trials)}

    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Proposal | None:
        """See `Strategy.ask`."""
        memory = self._encoded(spec)
        running, keys = memory.running(pending)
        running_keys = set(keys) - memory.observed_keys
        proposed = len(memory.observed_keys) + len(running_keys)
        if spec.constant or not memory.observed_keys or proposed < self.initial_trials:
            return random_proposal(spec, rng, tried)
        with one_thread():
            rows = self._promising(memory, running, rng)
            if proposed % _UNSEEN_EVERY == 0:
                seen = np.concatenate([memory.codes, running])
                new = has_unseen_label(memory.encoding, rows, seen)
                rows = np.concatenate([rows[new], rows[~new]])
            for row in rows:
                key = rows_of(row[None])[0]
                if key in memory.observed_keys or key in running_keys:
                    continue
                values = memory.encoding.decode(row)
                if not tried(values):
                    return Proposal(values)
        return random_proposal(spec, rng, tried)

    def _promising(
        self, memory: Observed, running: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Codes of distinct configurations, the most promising first."""
        encoding = memory.encoding
        running = running[-RUNNING:]
        codes, scores = memory.training_data(len(running))
        points, columns = embed(encoding, codes)
        pending = embed(encoding, running)[0]
        model = GaussianProcess(points, scores, columns, memory.hyperparameters(), pending)

        def acquisition(rows: np.ndarray) -> np.ndarray:
            mean, deviation = model.predict(embed(encoding, rows)[0])
            return upper_confidence_bound(mean, deviation, self.kappa)

        # Scores are noisy; the model's predictions at the same points are less so.
        ranked, _ = best_first(codes, model.mean(points))
        return candidates(encoding, ranked, acquisition, rng)

    def learn(self, observation: Observation) -> None:
        """Store the trial; the model is fitted when the next proposal needs it."""
        self._observations.append(observation)

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`; everything is rebuilt from the history."""
        self._observations.clear()
        self._memory = None
        super().set_state(state, history)

    def _encoded(self, spec: SearchSpec) -> Observed:
        """All observations, encoded for a space; encoded again when the space has grown."""
        if self._memory is None or self._memory.encoding.spec is not spec:
            self._memory = Observed(encoding_of(spec))
        self._memory.add(self._observations)
        return self._memory
