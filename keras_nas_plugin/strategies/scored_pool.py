"""Configurations that were scored without training, and what their scores say of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.encoding import Encoding
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.strategies import gaussian_process
from keras_nas_plugin.strategies.candidates import rows_of
from keras_nas_plugin.strategies.gaussian_process import GaussianProcess
from keras_nas_plugin.strategies.kernels import embed

#: Scores of a configuration by proxy, the larger the better, without training it. The same
#: configuration has the same scores, whenever it is asked for.
Scorer = Callable[[Values], Mapping[str, float]]

# Pool members that the kernel is fitted to.
_FITTED = 200
# Samples drawn per member that is wanted: small spaces repeat themselves.
_DRAWS = 4


class ScoredPool:
    """A random pool of configurations with their proxies.

    A proxy counts by the normal quantile of its rank in the pool. What other
    configurations have is predicted by a Gaussian process over the encoding, until they
    are scored themselves.

    Args:
        encoding: Of the space.
        scorer: Gives the proxies of a configuration; minus infinity or NaN is the worst.
        size: Most members; a small space has fewer.
        seed: Of the generator that draws the members.

    Raises:
        StrategyError: The scorer names other proxies than before, or none.
    """

    def __init__(self, encoding: Encoding, scorer: Scorer, size: int, seed: int) -> None:
        self._encoding = encoding
        self._scorer = scorer
        drawn = encoding.sample(_DRAWS * size, np.random.default_rng(seed))
        first = dict(reversed([(key, at) for at, key in enumerate(rows_of(drawn))]))
        #: Codes of the members, shape ``[n, columns]``.
        self.codes = drawn[sorted(first.values())[:size]]
        #: Names of the proxies.
        self.names: tuple[str, ...] = ()
        raw = np.array([self._raw(row) for row in self.codes])
        self._sorted = np.sort(raw, axis=0)
        self._exact: dict[bytes, np.ndarray] = {}
        #: Normal scores of the members, shape ``[n, proxies]``.
        self.features = self._normal(raw)
        self._members = {key: at for at, key in enumerate(rows_of(self.codes))}
        self._exact.update(zip(self._members, self.features, strict=True))
        self._predict = self._predictor()

    def _raw(self, row: np.ndarray) -> list[float]:
        found = self._scorer(self._encoding.decode(row))
        if not self.names:
            self.names = tuple(found)
        if not found or tuple(found) != self.names:
            raise StrategyError(
                f"a scorer needs to give the same proxies each time, {list(self.names)}; "
                f"received {list(found)}"
            )
        return [-np.inf if np.isnan(value) else float(value) for value in found.values()]

    def _normal(self, raw: np.ndarray) -> np.ndarray:
        """Normal quantiles of ranks among the members; equal scores share their mean rank."""
        from scipy import special

        count = len(self._sorted)
        columns = [
            np.searchsorted(known, new, "left") + np.searchsorted(known, new, "right")
            for known, new in zip(self._sorted.T, raw.T, strict=True)
        ]
        ranks = np.stack(columns, axis=1) / 2.0
        return special.ndtri(np.clip(ranks / count, 0.5 / count, 1.0 - 0.5 / count))

    def _predictor(self) -> GaussianProcess | None:
        points, columns = embed(self._encoding, self.codes)
        if len(points) < 2 or not len(columns):
            return None
        some = slice(0, _FITTED)
        mean = self.features.mean(axis=1)
        fitted = gaussian_process.fit(points[some], columns, mean[some] / (mean.std() or 1.0))
        return GaussianProcess(points, self.features, columns, fitted)

    def score(self, codes: np.ndarray) -> np.ndarray:
        """The normal scores of configurations, computed for those that have none.

        Args:
            codes: Shape ``[n, columns]``.

        Returns:
            Shape ``[n, proxies]``.
        """
        found = []
        for key, row in zip(rows_of(codes), codes, strict=True):
            if key not in self._exact:
                self._exact[key] = self._normal(np.array([self._raw(row)]))[0]
            found.append(self._exact[key])
        return np.array(found).reshape(len(codes), len(self.names))

    def guess(self, codes: np.ndarray) -> np.ndarray:
        """The normal scores of configurations, predicted but for those of the pool.

        What was scored later does not count here, so that a search that was interrupted
        goes on as it would have done.

        Args:
            codes: Shape ``[n, columns]``.

        Returns:
            Shape ``[n, proxies]``.
        """
        at = [self._members.get(key, -1) for key in rows_of(codes)]
        found = self.features[at]
        unknown = np.array(at) < 0
        if unknown.any() and self._predict is not None:
            found[unknown] = self._predict.predict(embed(self._encoding, codes[unknown])[0])[0]
        return found


def consensus(features: np.ndarray) -> np.ndarray:
    """One ranking out of several proxies, before any of them was seen to rank well.

    The sum over the proxies of the logarithm of the share of configurations that are no
    better: bad by one proxy weighs more than good by another.

    Source: Lee & Ham 2024, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture
    Search", section 3.3 (non-linear ranking aggregation).

    Args:
        features: Normal scores, shape ``[n, proxies]``.

    Returns:
        Shape ``[n]``, the larger the better.

    >>> consensus(np.array([[0.0, 0.0], [2.0, -2.0]])).round(2).tolist()
    [-1.39, -3.81]
    """
    from scipy import special

    return special.log_ndtr(features).sum(axis=1)
