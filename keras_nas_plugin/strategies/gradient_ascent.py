"""Gradient ascent on the encoding of a configuration, with a differentiable predictor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_nas_plugin.space.encoding import Encoding
from keras_nas_plugin.space.spec import SearchSpec, Values
from keras_nas_plugin.strategies import relaxed_predictor
from keras_nas_plugin.strategies.acquisition import best_first, upper_confidence_bound
from keras_nas_plugin.strategies.candidates import mutate
from keras_nas_plugin.strategies.observed import Observed
from keras_nas_plugin.strategies.proxy_guided import ProxyGuidedSearch
from keras_nas_plugin.strategies.relaxed_predictor import Network

# Number of predictors; their disagreement measures the uncertainty (Lakshminarayanan et al. 2017).
_ENSEMBLE = 5
# Starting points of each kind: the best trials, the most promising of the pool, and mutations.
_STARTS = 10
# Number of steps of an ascent, and the length of each in the feature that changes most.
_STEPS, _STEP = 15, 0.15
_FRESH = 64


class GradientAscentSearch(ProxyGuidedSearch):
    """Gradient ascent on a relaxed architecture, with a learned differentiable predictor.

    Small networks predict the score of a configuration and its proxies from the relaxed
    one-hot encoding; they are trained on the trials and on the proxies of the pool. Starting
    from the best trials and the most promising members of the pool, gradient ascent on the
    encoding then maximises the predicted score; each point on the path is projected to the
    nearest valid configuration. The one with the highest upper confidence bound of the
    ensemble is proposed. The first trials are chosen as in `ProxyGuidedSearch`.

    Source: Luo et al. 2018, "Neural Architecture Optimization", sections 3.2 and 3.3, with the
    encoding of the space in place of a learned one; Lakshminarayanan, Pritzel & Blundell 2017,
    "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles".

    Args:
        scorer: See `ProxyGuidedSearch`.
        pool_size: See `ProxyGuidedSearch`.
        first_pool: See `ProxyGuidedSearch`.
        initial_trials: See `ProxyGuidedSearch`.
        kappa: See `SurrogateSearch`.
    """

    def _promising(
        self, memory: Observed, running: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """See `SurrogateSearch`: points on the paths of ascent, with their starting points."""
        encoding, pool = memory.encoding, self.pool(memory.encoding.spec)
        networks = self._networks(memory)

        def acquisition(rows: np.ndarray) -> np.ndarray:
            mean, deviation = _predict(networks, encoding.features(rows))
            return upper_confidence_bound(mean, deviation, self.kappa)

        codes, scores = memory.training_data()
        best = codes[np.argsort(-scores, kind="stable")][:_STARTS]
        promising, _ = best_first(pool.codes, acquisition(pool.codes))
        starts = np.concatenate(
            [best, promising[:_STARTS], mutate(encoding, best, rng), encoding.sample(_FRESH, rng)]
        )
        rows = np.concatenate([ascend(networks, encoding, starts), promising, starts])
        return best_first(rows, acquisition(rows))[0]

    def _networks(self, memory: Observed) -> list[Network]:
        """The ensemble, which is cached until there are new observations or a new pool."""
        key = (memory, len(memory.codes), self.pool(memory.encoding.spec))
        if self._model_cache is None or self._model_cache[0] != key:
            self._model_cache = key, self._trained(memory)
        return self._model_cache[1]

    def _trained(self, memory: Observed) -> list[Network]:
        """Networks trained from initial weights that depend only on the pool's seed."""
        encoding, pool = memory.encoding, self.pool(memory.encoding.spec)
        codes, scores = memory.training_data()
        unknown = np.full(len(pool.codes), np.nan)
        features = encoding.features(np.concatenate([codes, pool.codes]))
        targets = np.column_stack(
            [
                np.concatenate([scores, unknown]),
                np.concatenate([pool.score(codes), pool.features]),
            ]
        )
        seeds = np.random.SeedSequence(self._seed).spawn(_ENSEMBLE)
        return [
            relaxed_predictor.fit(features, targets, np.random.default_rng(seed)) for seed in seeds
        ]

    def predicted(self, spec: SearchSpec, values: Values) -> float | None:
        """See `ProxyGuidedSearch.predicted`."""
        memory = self._encoded(spec)
        if not self.learning(memory):
            return None
        features = memory.encoding.features(memory.encoding.encode(values)[None])
        return float(_predict(self._networks(memory), features)[0][0])


def _predict(networks: Sequence[Network], features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the predicted score, shape ``[n]`` each."""
    outputs = [relaxed_predictor.predict(network, features)[:, 0] for network in networks]
    return np.mean(outputs, axis=0), np.std(outputs, axis=0)


def ascend(networks: Sequence[Network], encoding: Encoding, starts: np.ndarray) -> np.ndarray:
    """Configurations on the paths of gradient ascent on the predicted score.

    Steps have the same length in the feature that changes most, so that one edit takes a few
    steps, however flat the predictor is; features stay within [0, 1].

    Args:
        networks: The ensemble, whose mean is maximised.
        encoding: Encoding of the space.
        starts: Codes, shape ``[n, columns]``.

    Returns:
        Codes, shape ``[m, columns]``; rows may repeat, and the starts are among them.
    """
    at = encoding.features(starts)
    visited = []
    for _ in range(_STEPS):
        slopes = [relaxed_predictor.input_gradient(network, at) for network in networks]
        slope = np.mean(slopes, axis=0)
        largest = np.abs(slope).max(axis=1, keepdims=True)
        at = np.clip(at + _STEP * slope / np.where(largest > 0.0, largest, 1.0), 0.0, 1.0)
        visited.append(encoding.nearest(at))
    return np.concatenate([starts, *visited])
