"""A pool of configurations scored without training, and a model of these scores."""

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

#: Scores of a configuration by proxy, computed without training it; larger is better. The
#: scores of a configuration must not depend on when they are computed.
Scorer = Callable[[Values], Mapping[str, float]]

# Maximum number of pool members that the kernel is fitted to.
_FITTED = 200
# Draws per member: samples of a small space repeat, and with constraints many configurations
# may have no scores.
_DRAWS = 4


class ScoredDraws:
    """Random configurations in a fixed order, scored when they are needed.

    Args:
        encoding: Encoding of the space.
        scorer: Returns the proxies of a configuration; minus infinity and NaN are the worst.
            A configuration with the worst score by every proxy never becomes a pool member.
        most: Maximum size of a pool; a small space may have fewer configurations.
        seed: Seed of the draws.
    """

    def __init__(self, encoding: Encoding, scorer: Scorer, most: int, seed: int) -> None:
        self.encoding = encoding
        self._scorer = scorer
        drawn = encoding.sample(_DRAWS * most, np.random.default_rng(seed))
        first = dict(reversed([(key, at) for at, key in enumerate(rows_of(drawn))]))
        self._codes = drawn[sorted(first.values())]
        self._scores: dict[bytes, np.ndarray] = {}
        #: Names of the proxies; empty until a configuration has been scored.
        self.names: tuple[str, ...] = ()

    def raw(self, codes: np.ndarray) -> np.ndarray:
        """Proxies of configurations, computed only once for each.

        Args:
            codes: Shape ``[n, columns]``.

        Returns:
            Shape ``[n, proxies]``.

        Raises:
            StrategyError: The scorer returns other proxies than before, or none.
        """
        scores = []
        for key, row in zip(rows_of(codes), codes, strict=True):
            if key not in self._scores:
                self._scores[key] = self._score(row)
            scores.append(self._scores[key])
        return np.array(scores).reshape(len(codes), len(self.names))

    def _score(self, row: np.ndarray) -> np.ndarray:
        by_proxy = self._scorer(self.encoding.decode(row))
        self.names = self.names or tuple(by_proxy)
        if not by_proxy or tuple(by_proxy) != self.names:
            raise StrategyError(
                f"a scorer must return the same proxies each time, {list(self.names)}; "
                f"got {list(by_proxy)}"
            )
        scores = np.array(list(by_proxy.values()), float)
        return np.where(np.isnan(scores), -np.inf, scores)

    def members(self, size: int) -> np.ndarray:
        """The first configurations that have scores; the result does not depend on other calls.

        Args:
            size: Maximum number of members.

        Returns:
            Codes, shape ``[n, columns]``.
        """
        members: list[np.ndarray] = []
        for row in self._codes[: _DRAWS * size]:
            if len(members) == size:
                break
            if np.any(self.raw(row[None]) > -np.inf):
                members.append(row)
        return np.array(members).reshape(len(members), self._codes.shape[1])


class ScoredPool:
    """A random pool of configurations with their proxies.

    The value of a proxy is replaced by the normal quantile of its rank in the pool. For
    configurations outside the pool, this quantile is predicted by a Gaussian process over the
    encoding, until they are scored themselves.

    Args:
        draws: The configurations to choose members from.
        size: Maximum number of members.

    Raises:
        StrategyError: The scorer returns other proxies than before, or none.
    """

    def __init__(self, draws: ScoredDraws, size: int) -> None:
        self._draws = draws
        #: Codes of the members, shape ``[n, columns]``.
        self.codes = draws.members(size)
        raw = draws.raw(self.codes)
        self._sorted = np.sort(raw, axis=0)
        #: Normal scores of the members, shape ``[n, proxies]``.
        self.features = self._normal(raw)
        self._index_of = {key: at for at, key in enumerate(rows_of(self.codes))}
        self._model = self._fitted()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the proxies."""
        return self._draws.names

    def _normal(self, raw: np.ndarray) -> np.ndarray:
        """Normal quantiles of ranks among the members; ties share their mean rank."""
        from scipy import special

        count = len(self._sorted)
        if not raw.size or not count:
            return np.zeros(raw.shape)
        columns = [
            np.searchsorted(reference, new, "left") + np.searchsorted(reference, new, "right")
            for reference, new in zip(self._sorted.T, raw.T, strict=True)
        ]
        ranks = np.stack(columns, axis=1) / 2.0
        return special.ndtri(np.clip(ranks / count, 0.5 / count, 1.0 - 0.5 / count))

    def _fitted(self) -> GaussianProcess | None:
        points, columns = embed(self._draws.encoding, self.codes)
        if len(points) < 2 or not len(columns):
            return None
        subset = slice(0, _FITTED)
        mean = self.features.mean(axis=1)
        fitted = gaussian_process.fit(points[subset], columns, mean[subset] / (mean.std() or 1.0))
        return GaussianProcess(points, self.features, columns, fitted)

    def score(self, codes: np.ndarray) -> np.ndarray:
        """The normal scores of configurations, which are scored if they have not been yet.

        Args:
            codes: Shape ``[n, columns]``.

        Returns:
            Shape ``[n, proxies]``.
        """
        return self._normal(self._draws.raw(codes))

    def guess(self, codes: np.ndarray) -> np.ndarray:
        """The normal scores of configurations: exact for members, predicted for others.

        Configurations that were scored later are predicted as well, so that an interrupted
        search resumes with the same proposals.

        Args:
            codes: Shape ``[n, columns]``.

        Returns:
            Shape ``[n, proxies]``.
        """
        indices = np.array([self._index_of.get(key, -1) for key in rows_of(codes)], np.intp)
        features = np.zeros((len(codes), len(self.names)))
        outside = indices < 0
        features[~outside] = self.features[indices[~outside]]
        if outside.any() and self._model is not None:
            points, _ = embed(self._draws.encoding, codes[outside])
            features[outside], _ = self._model.predict(points)
        return features


def consensus(features: np.ndarray) -> np.ndarray:
    """A single ranking from several proxies, while nothing is known about their quality.

    It is the sum over the proxies of the logarithm of the fraction of configurations that are no
    better: being bad by one proxy outweighs being good by another.

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
