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
# Draws per member that is wanted: small spaces repeat themselves, and of a space with limits
# much may have no scores.
_DRAWS = 4


class ScoredDraws:
    """Random configurations in a fixed order, scored when they are needed.

    Args:
        encoding: Of the space.
        scorer: Gives the proxies of a configuration; minus infinity or NaN is the worst. One
            that is the worst by every proxy becomes no member of a pool.
        most: Members of the largest pool; a small space has fewer.
        seed: Of the generator that draws.
    """

    def __init__(self, encoding: Encoding, scorer: Scorer, most: int, seed: int) -> None:
        self.encoding = encoding
        self._scorer = scorer
        drawn = encoding.sample(_DRAWS * most, np.random.default_rng(seed))
        first = dict(reversed([(key, at) for at, key in enumerate(rows_of(drawn))]))
        self._codes = drawn[sorted(first.values())]
        self._known: dict[bytes, np.ndarray] = {}
        #: Names of the proxies; none before anything was scored.
        self.names: tuple[str, ...] = ()

    def raw(self, codes: np.ndarray) -> np.ndarray:
        """Proxies of any configurations, computed for those that have none.

        Args:
            codes: Shape ``[n, columns]``.

        Returns:
            Shape ``[n, proxies]``.

        Raises:
            StrategyError: The scorer names other proxies than before, or none.
        """
        found = []
        for key, row in zip(rows_of(codes), codes, strict=True):
            if key not in self._known:
                self._known[key] = self._score(row)
            found.append(self._known[key])
        return np.array(found).reshape(len(codes), len(self.names))

    def _score(self, row: np.ndarray) -> np.ndarray:
        found = self._scorer(self.encoding.decode(row))
        self.names = self.names or tuple(found)
        if not found or tuple(found) != self.names:
            raise StrategyError(
                f"a scorer needs to give the same proxies each time, {list(self.names)}; "
                f"received {list(found)}"
            )
        return np.array([-np.inf if np.isnan(value) else value for value in found.values()], float)

    def members(self, size: int) -> np.ndarray:
        """The first configurations that have scores, whatever was scored before.

        Args:
            size: How many at most.

        Returns:
            Codes, shape ``[n, columns]``.
        """
        kept: list[np.ndarray] = []
        for row in self._codes[: _DRAWS * size]:
            if len(kept) == size:
                break
            if np.any(self.raw(row[None]) > -np.inf):
                kept.append(row)
        return np.array(kept).reshape(len(kept), self._codes.shape[1])


class ScoredPool:
    """A random pool of configurations with their proxies.

    A proxy counts by the normal quantile of its rank in the pool. What other
    configurations have is predicted by a Gaussian process over the encoding, until they
    are scored themselves.

    Args:
        draws: Where members come from.
        size: Most members.

    Raises:
        StrategyError: The scorer names other proxies than before, or none.
    """

    def __init__(self, draws: ScoredDraws, size: int) -> None:
        self._draws = draws
        #: Codes of the members, shape ``[n, columns]``.
        self.codes = draws.members(size)
        raw = draws.raw(self.codes)
        self._sorted = np.sort(raw, axis=0)
        #: Normal scores of the members, shape ``[n, proxies]``.
        self.features = self._normal(raw)
        self._places = {key: at for at, key in enumerate(rows_of(self.codes))}
        self._predict = self._predictor()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the proxies."""
        return self._draws.names

    def _normal(self, raw: np.ndarray) -> np.ndarray:
        """Normal quantiles of ranks among the members; equal scores share their mean rank."""
        from scipy import special

        count = len(self._sorted)
        if not raw.size or not count:
            return np.zeros(raw.shape)
        columns = [
            np.searchsorted(known, new, "left") + np.searchsorted(known, new, "right")
            for known, new in zip(self._sorted.T, raw.T, strict=True)
        ]
        ranks = np.stack(columns, axis=1) / 2.0
        return special.ndtri(np.clip(ranks / count, 0.5 / count, 1.0 - 0.5 / count))

    def _predictor(self) -> GaussianProcess | None:
        points, columns = embed(self._draws.encoding, self.codes)
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
        return self._normal(self._draws.raw(codes))

    def guess(self, codes: np.ndarray) -> np.ndarray:
        """The normal scores of configurations, predicted but for those of the pool.

        What was scored later does not count here, so that a search that was interrupted
        goes on as it would have done.

        Args:
            codes: Shape ``[n, columns]``.

        Returns:
            Shape ``[n, proxies]``.
        """
        at = np.array([self._places.get(key, -1) for key in rows_of(codes)], np.intp)
        found = np.zeros((len(codes), len(self.names)))
        unknown = at < 0
        found[~unknown] = self.features[at[~unknown]]
        if unknown.any() and self._predict is not None:
            found[unknown] = self._predict.predict(embed(self._draws.encoding, codes[unknown])[0])[
                0
            ]
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
