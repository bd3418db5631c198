"""Bayesian optimisation with zero-cost proxies, whose influence is learned from the trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.acquisition import best_first, candidates, upper_confidence_bound
from keras_nas_plugin.strategies.base import Observation, Proposal, random_proposal
from keras_nas_plugin.strategies.candidates import rows_of
from keras_nas_plugin.strategies.gaussian_process import GaussianProcess
from keras_nas_plugin.strategies.kernels import embed
from keras_nas_plugin.strategies.observed import RUNNING, Observed
from keras_nas_plugin.strategies.scored_pool import ScoredDraws, ScoredPool, Scorer, consensus
from keras_nas_plugin.strategies.surrogate import DEFAULT_KAPPA, SurrogateSearch

# One of this many first trials is a random member of the pool: the quality of a proxy cannot be
# judged from its best configurations alone, and some proxies do not correlate with scores at all.
_RANDOM_EVERY = 2
# Number of promising configurations outside the pool to score for each proposal.
_SCORED = 4
# Number of trials after which the pool grows again, and number of new members per trial.
_GROWS_EVERY, _PER_TRIAL = 3, 4
_SEED_BITS = 31
_SMALLEST_POOL, _LARGEST_POOL, _POOL_PER_TRIAL = 50, 200, 4
# Number of members that even a limited pool has.
_SMALLEST = 2
# Number of members of a growing pool that are scored before the first trial.
_FIRST_POOL = 16


def default_pool(max_trials: int | None) -> int:
    """Final size of the pool for a budget: four candidates per trial, 50 to 200.

    >>> default_pool(None), default_pool(100), default_pool(25), default_pool(5)
    (200, 200, 100, 50)
    """
    if max_trials is None:
        return _LARGEST_POOL
    return min(_LARGEST_POOL, max(_SMALLEST_POOL, _POOL_PER_TRIAL * max_trials))


def pool_at(trials: int, first: int, most: int) -> int:
    """Size of a pool that grows with the search.

    Args:
        trials: Number of trials that have ended.
        first: Size before the first trial.
        most: Final size.

    >>> [pool_at(trials, 16, 100) for trials in (0, 2, 3, 18, 21)]
    [16, 16, 28, 88, 100]
    """
    return min(most, first + _PER_TRIAL * (trials - trials % _GROWS_EVERY))


class ProxyGuidedSearch(SurrogateSearch):
    """Bayesian optimisation over the encoding *and* the zero-cost proxies of configurations.

    A random pool is scored without training, and grows with the number of trials. The first
    trials are the best members by a consensus of the proxies, and every second one is a random
    member. Then a Gaussian process takes over, whose kernel adds a linear model of the proxies
    to the kernel of `SurrogateSearch`. The variance of each proxy's slope is fitted to the
    scores of the trials, so that a proxy without predictive value loses its influence. The
    candidates are the pool and the mutations and samples of `SurrogateSearch`; the most
    promising ones from outside the pool are scored as well before one is chosen.

    Source: Abdelfattah et al. 2021, "Zero-Cost Proxies for Lightweight NAS", section 4
    (warm-up); White et al. 2021, "How Powerful are Performance Predictors in Neural
    Architecture Search?", section 5 (proxies as features of a predictor).

    Args:
        scorer: Returns the proxies of a configuration.
        pool_size: Number of configurations in the pool, at least 2.
        first_pool: Number of these that are scored before the first trial, at least 2; None
            for all.
        initial_trials: Number of trials before the model is used, at least 1.
        kappa: See `SurrogateSearch`.

    Raises:
        StrategyError: An argument is too small.
    """

    opening_trials = 1  # the default; the proxies choose the next ones

    def __init__(
        self,
        scorer: Scorer,
        *,
        pool_size: int,
        first_pool: int | None = None,
        initial_trials: int = 10,
        kappa: float = DEFAULT_KAPPA,
    ) -> None:
        super().__init__(initial_trials=initial_trials, kappa=kappa)
        first_pool = pool_size if first_pool is None else first_pool
        for name, size in (("pool_size", pool_size), ("first_pool", first_pool)):
            if size < 2:
                raise StrategyError(f"`{name}` must be at least 2; got {size}")
        self.scorer = scorer
        self.pool_size = pool_size
        self.first_pool = min(first_pool, pool_size)
        self._seed: int | None = None
        self._draws: ScoredDraws | None = None
        self._pool: tuple[int, ScoredPool] | None = None
        #: Whether another configuration may be scored now; None sets no limit. In a search by
        #: time, scoring must leave time for trials.
        self.may_score: Callable[[], bool] | None = None
        # Number of members that a limited pool has.
        self._members = 0
        # Cached model of this class or of a subclass, after a key of all that it depends on.
        self._model_cache: tuple[tuple[object, ...], Any] | None = None

    @classmethod
    def budget_defaults(
        cls, max_trials: int | None, explicit: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See `Strategy.budget_defaults`: a pool that grows to `default_pool`.

        If ``pool_size`` is passed, the whole pool is scored before the first trial.
        """
        pool = {"pool_size": default_pool(max_trials), "first_pool": _FIRST_POOL}
        defaults = super().budget_defaults(max_trials, explicit)
        return defaults if "pool_size" in explicit else {**defaults, **pool}

    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Proposal | None:
        """See `Strategy.ask`."""
        if spec.constant:
            return random_proposal(spec, rng, tried)
        if self._seed is None:
            self._seed = int(rng.integers(2**_SEED_BITS))
        memory = self._encoded(spec)
        trials = len(memory.observed_keys) + len(pending)
        if trials < self.initial_trials or not memory.observed_keys:
            return self._first(memory, rng, tried, trials)
        return super().ask(spec, rng, tried=tried, pending=pending)

    def _first(
        self, memory: Observed, rng: np.random.Generator, tried: Tried, trials: int
    ) -> Proposal | None:
        """The best untried member of the pool, or a random member."""
        pool = self.pool(memory.encoding.spec)
        order = np.argsort(-consensus(pool.features), kind="stable")
        if trials % _RANDOM_EVERY == _RANDOM_EVERY - 1:
            order = rng.permutation(order)
        for at in order:
            values = memory.encoding.decode(pool.codes[at])
            if not tried(values):
                return Proposal(values)
        return random_proposal(memory.encoding.spec, rng, tried)

    def pool(self, spec: SearchSpec) -> ScoredPool:
        """The current pool of a space; a space that has grown has a new pool.

        Raises:
            StrategyError: `ask` was not called yet, so there is no pool.
        """
        if self._seed is None:
            raise StrategyError("there is no pool before the first call of `ask`")
        encoding = self._encoded(spec).encoding
        if self._draws is None or self._draws.encoding is not encoding:
            self._draws = ScoredDraws(encoding, self.scorer, self.pool_size, self._seed)
            self._pool = None
        size = self._size(self._draws)
        if self._pool is None or self._pool[0] != size:
            self._pool = size, ScoredPool(self._draws, size)
        return self._pool[1]

    def _size(self, draws: ScoredDraws) -> int:
        """Number of members of the pool.

        Without a limit on scoring, it depends only on the trials that have ended: a reloaded
        search has the same pool. A limited pool grows as far as it may, and never shrinks; one
        that is scored as a whole before the first trial is not limited.
        """
        most = pool_at(self._ended(), self.first_pool, self.pool_size)
        if self.may_score is None or self.first_pool == self.pool_size:
            return most
        while self._members < most and (self._members < _SMALLEST or self.may_score()):
            self._members += 1
            draws.members(self._members)
        return self._members

    def _ended(self) -> int:
        """Number of trials that have ended, without candidates rejected before training."""
        return sum(
            observation.scores is not None or observation.violation <= 0
            for observation in self._observations
        )

    def _promising(
        self, memory: Observed, running: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """See `SurrogateSearch`: the pool is among the candidates."""
        encoding, pool = memory.encoding, self.pool(memory.encoding.spec)
        model = self._model(memory, running)

        def acquisition(rows: np.ndarray) -> np.ndarray:
            mean, deviation = model.predict(embed(encoding, rows)[0], pool.guess(rows))
            return upper_confidence_bound(mean, deviation, self.kappa)

        codes = memory.training_data()[0]
        exact = pool.score(codes)
        ranked, _ = best_first(codes, model.mean(embed(encoding, codes)[0], exact))
        promising = np.concatenate([candidates(encoding, ranked, acquisition, rng), pool.codes])
        promising, _ = best_first(promising, acquisition(promising))
        return self._scored_first(memory, model, running, promising)

    def _scored_first(
        self, memory: Observed, model: GaussianProcess, running: np.ndarray, promising: np.ndarray
    ) -> np.ndarray:
        """Score the first few new candidates, and move them to the front, reordered."""
        seen = memory.observed_keys | set(rows_of(running))
        new = [at for at, key in enumerate(rows_of(promising)) if key not in seen][:_SCORED]
        new = [at for at in new if self.may_score is None or self.may_score()]
        if not new:
            return promising
        rows = promising[new]
        features = self.pool(memory.encoding.spec).score(rows)
        mean, deviation = model.predict(embed(memory.encoding, rows)[0], features)
        ordered, _ = best_first(rows, upper_confidence_bound(mean, deviation, self.kappa))
        return np.concatenate([ordered, np.delete(promising, new, axis=0)])

    def _model(self, memory: Observed, running: np.ndarray) -> GaussianProcess:
        """The model, which is cached until anything that it depends on changes."""
        pool = self.pool(memory.encoding.spec)
        key = (memory, len(memory.codes), pool, running.tobytes())
        if self._model_cache is None or self._model_cache[0] != key:
            self._model_cache = key, self._fitted(memory, running)
        return self._model_cache[1]

    def _fitted(self, memory: Observed, running: np.ndarray) -> GaussianProcess:
        encoding, pool = memory.encoding, self.pool(memory.encoding.spec)
        running = running[-RUNNING:]
        codes, scores = memory.training_data(len(running))
        points, columns = embed(encoding, codes)
        return GaussianProcess(
            points,
            scores,
            columns,
            memory.hyperparameters(pool.score),
            embed(encoding, running)[0],
            pool.score(codes),
            pool.score(running),
        )

    def learning(self, memory: Observed) -> bool:
        """Whether there are enough trials to use the model."""
        return self._seed is not None and len(memory.observed_keys) >= max(self.initial_trials, 2)

    def predicted(self, spec: SearchSpec, values: Values) -> float | None:
        """The score that the model predicts for a configuration, in the model's units.

        Args:
            spec: The space.
            values: Active values.

        Returns:
            The mean; None before the model is used.
        """
        memory = self._encoded(spec)
        if not self.learning(memory):
            return None
        model = self._model(memory, np.zeros((0, len(memory.encoding.columns))))
        row = memory.encoding.encode(values)[None]
        pool = self.pool(spec)
        return float(model.mean(embed(memory.encoding, row)[0], pool.score(row))[0])

    def observed_scores(self, spec: SearchSpec) -> np.ndarray:
        """Scores of the observed configurations in the model's units, shape ``[n]``."""
        return self._encoded(spec).latest()[1]

    def get_state(self) -> dict[str, Any]:
        """The seed of the pool, and its size where scoring is limited by time.

        Everything else follows from these and the history.
        """
        state: dict[str, Any] = {"pool_seed": self._seed}
        return {**state, "pool_members": self._members} if self._members else state

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        self._seed, self._members = state.get("pool_seed"), state.get("pool_members", 0)
        self._draws = self._pool = self._model_cache = None
        super().set_state(state, history)
