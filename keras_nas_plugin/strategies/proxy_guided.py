"""Search that starts from scores without training, and learns how far to trust them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.acquisition import best_first, candidates, upper_confidence_bound
from keras_nas_plugin.strategies.base import Observation
from keras_nas_plugin.strategies.candidates import rows_of
from keras_nas_plugin.strategies.gaussian_process import GaussianProcess
from keras_nas_plugin.strategies.kernels import embed
from keras_nas_plugin.strategies.observed import Observed
from keras_nas_plugin.strategies.scored_pool import ScoredDraws, ScoredPool, Scorer, consensus
from keras_nas_plugin.strategies.surrogate import DEFAULT_KAPPA, SurrogateSearch

# One of so many first trials is a random member of the pool: a proxy cannot be seen to rank
# among the best alone, and some rank nothing.
_RANDOM_EVERY = 2
# Promising configurations from outside the pool that are scored for each proposal.
_SCORED = 4
# Trials after which a pool grows, and members that it gains by each.
_GROWS_EVERY, _PER_TRIAL = 3, 4
_SEED_BITS = 31


def pool_at(trials: int, first: int, most: int) -> int:
    """Members of a pool that grows with the search.

    Args:
        trials: That have ended.
        first: Members before the first trial.
        most: Members in the end.

    >>> [pool_at(trials, 16, 100) for trials in (0, 2, 3, 18, 21)]
    [16, 16, 28, 88, 100]
    """
    return min(most, first + _PER_TRIAL * (trials - trials % _GROWS_EVERY))


class ProxyGuidedSearch(SurrogateSearch):
    """Bayesian optimisation over the encoding *and* proxies of trained performance.

    A random pool is scored without training, and grows with the number of trials. The first
    trials are the best of it by a consensus of the proxies, every second a random one. Then a
    Gaussian process takes over whose kernel adds a linear model of the proxies to that of
    `SurrogateSearch`; how steep each proxy's slope may be comes from the scores of the
    trials, so that a proxy that does not rank loses its say. Its candidates are the pool and
    the mutations and samples of `SurrogateSearch`; of those from outside the pool, the most
    promising are scored as well before one is chosen.

    Source: Abdelfattah et al. 2021, "Zero-Cost Proxies for Lightweight NAS", section 4
    (warm-up); White et al. 2021, "How Powerful are Performance Predictors in Neural
    Architecture Search?", section 5 (proxies as features of a predictor).

    Args:
        scorer: Gives the proxies of a configuration.
        pool_size: Configurations in the pool, at least 2.
        first_pool: Those that are scored before the first trial, at least 2; None for all.
        initial_trials: Trials before the model is asked, at least 1.
        kappa: See `SurrogateSearch`.

    Raises:
        StrategyError: An argument is too small.
    """

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
                raise StrategyError(f"`{name}` needs at least 2; received {size}")
        self.scorer = scorer
        self.pool_size = pool_size
        self.first_pool = min(first_pool, pool_size)
        self._seed: int | None = None
        self._draws: ScoredDraws | None = None
        self._pool: tuple[int, ScoredPool] | None = None
        self._modelled: tuple[Any, Any] | None = None

    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Values | None:
        """See `Strategy.ask`."""
        if spec.constant:
            return spec.untried(rng, tried)
        if self._seed is None:
            self._seed = int(rng.integers(2**_SEED_BITS))
        memory = self._encoded(spec)
        known = len(memory.known) + len(pending)
        if known < self.initial_trials or not memory.known:
            return self._first(memory, rng, tried, known)
        return super().ask(spec, rng, tried=tried, pending=pending)

    def _first(
        self, memory: Observed, rng: np.random.Generator, tried: Tried, known: int
    ) -> Values | None:
        """The best untried member of the pool, or a random one."""
        pool = self.pool(memory.encoding.spec)
        order = np.argsort(-consensus(pool.features), kind="stable")
        if known % _RANDOM_EVERY == _RANDOM_EVERY - 1:
            order = rng.permutation(order)
        for at in order:
            values = memory.encoding.decode(pool.codes[at])
            if not tried(values):
                return values
        return memory.encoding.spec.untried(rng, tried)

    def pool(self, spec: SearchSpec) -> ScoredPool:
        """The pool of a space as it is by now; a space that has grown has another one.

        Raises:
            StrategyError: Nothing was asked yet, so that there is no pool.
        """
        if self._seed is None:
            raise StrategyError("the pool needs a first `ask`; received none")
        encoding = self._encoded(spec).encoding
        if self._draws is None or self._draws.encoding is not encoding:
            self._draws = ScoredDraws(encoding, self.scorer, self.pool_size, self._seed)
            self._pool = None
        # By the trials that have ended: a search that is reloaded has the same pool.
        size = pool_at(self._ended(), self.first_pool, self.pool_size)
        if self._pool is None or self._pool[0] != size:
            self._pool = size, ScoredPool(self._draws, size)
        return self._pool[1]

    def _ended(self) -> int:
        """Trials that have ended; what a constraint refused was none."""
        return sum(not (one.scores is None and one.violation > 0) for one in self._observations)

    def _promising(
        self, memory: Observed, running: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """See `SurrogateSearch`: the pool is among the candidates."""
        encoding, pool = memory.encoding, self.pool(memory.encoding.spec)
        model = self._model(memory, running)

        def acquisition(rows: np.ndarray) -> np.ndarray:
            mean, deviation = model.predict(embed(encoding, rows)[0], pool.guess(rows))
            return upper_confidence_bound(mean, deviation, self.kappa)

        codes = memory.telling()[0]
        exact = pool.score(codes)
        ranked, _ = best_first(codes, model.predict(embed(encoding, codes)[0], exact)[0])
        found = np.concatenate([candidates(encoding, ranked, acquisition, rng), pool.codes])
        found, _ = best_first(found, acquisition(found))
        return self._scored_first(memory, model, running, found)

    def _scored_first(
        self, memory: Observed, model: GaussianProcess, running: np.ndarray, found: np.ndarray
    ) -> np.ndarray:
        """The first few new ones are scored, and stand in the order of what that says."""
        known = memory.known | set(rows_of(running))
        new = [at for at, key in enumerate(rows_of(found)) if key not in known][:_SCORED]
        rows = found[new]
        features = self.pool(memory.encoding.spec).score(rows)
        mean, deviation = model.predict(embed(memory.encoding, rows)[0], features)
        ordered, _ = best_first(rows, upper_confidence_bound(mean, deviation, self.kappa))
        return np.concatenate([ordered, np.delete(found, new, axis=0)])

    def _model(self, memory: Observed, running: np.ndarray) -> GaussianProcess:
        """The model; the same as in the last call if nothing has changed."""
        pool = self.pool(memory.encoding.spec)
        key = (memory, len(memory.codes), pool, running.tobytes())
        if self._modelled is None or self._modelled[0] != key:
            self._modelled = key, self._fitted(memory, running)
        return self._modelled[1]

    def _fitted(self, memory: Observed, running: np.ndarray) -> GaussianProcess:
        encoding, pool = memory.encoding, self.pool(memory.encoding.spec)
        codes, scores = memory.telling()
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
        """Whether there are trials enough for the model to be asked."""
        return self._seed is not None and len(memory.known) >= max(self.initial_trials, 2)

    def predicted(self, spec: SearchSpec, values: Values) -> float | None:
        """What the model expects of a configuration, in its own units.

        Args:
            spec: The space.
            values: Active values.

        Returns:
            The mean; None before the model is asked.
        """
        memory = self._encoded(spec)
        if not self.learning(memory):
            return None
        model = self._model(memory, np.zeros((0, len(memory.encoding.columns))))
        row = memory.encoding.encode(values)[None]
        pool = self.pool(spec)
        return float(model.predict(embed(memory.encoding, row)[0], pool.score(row))[0][0])

    def known_scores(self, spec: SearchSpec) -> np.ndarray:
        """Scores of what was observed, as the model sees them, shape ``[n]``."""
        return self._encoded(spec).latest()[1]

    def trust(self, spec: SearchSpec) -> dict[str, float]:
        """The say that each proxy has at present, as shares; equal ones before any trial."""
        memory, pool = self._encoded(spec), self.pool(spec)
        if not self.learning(memory):
            return dict.fromkeys(pool.names, 1.0 / len(pool.names))
        slopes = np.sqrt(memory.hyperparameters(pool.score).linear)
        return dict(zip(pool.names, (slopes / (slopes.sum() or 1.0)).tolist(), strict=True))

    def get_state(self) -> dict[str, Any]:
        """The seed of the pool; the rest follows from it and the history."""
        return {"pool_seed": self._seed}

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        self._seed = state.get("pool_seed")
        self._draws = self._pool = self._modelled = None
        super().set_state(state, history)
