"""What was observed so far, as a model takes it in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_nas_plugin.space.encoding import Encoding
from keras_nas_plugin.strategies import gaussian_process
from keras_nas_plugin.strategies.base import Observation
from keras_nas_plugin.strategies.candidates import rows_of
from keras_nas_plugin.strategies.gaussian_process import Hyperparameters
from keras_nas_plugin.strategies.kernels import embed
from keras_nas_plugin.strategies.ranking import constrained_scores

# Configurations that the hyperparameters are fitted to, and that a prediction rests on: the
# time of a proposal stays bounded, however many trials there were.
FITTED = 200
REMEMBERED = 512

#: From codes, shape ``[n, columns]``, to features, shape ``[n, features]``.
Features = Callable[[np.ndarray], np.ndarray]


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


def _score_of(observation: Observation) -> float:
    """A trial that failed is worse than any other, by rank."""
    if observation.scores is None or not np.isfinite(observation.scores[0]):
        return -np.inf
    return observation.scores[0]


class Observed:
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
        self._violations = np.zeros(0)
        self._keys: list[bytes] = []
        self._fitted: tuple[int, Features | None, Hyperparameters] | None = None

    def add(self, observations: list[Observation]) -> None:
        """Take in those that are new; the list only ever grows."""
        new = observations[len(self._keys) :]
        if not new:
            return
        codes = self.encoding.encode_many(one.values for one in new)
        scores = [_score_of(one) for one in new]
        self.codes = np.concatenate([self.codes, codes])
        self._scores = np.concatenate([self._scores, scores])
        self._violations = np.concatenate([self._violations, [one.violation for one in new]])
        self._keys.extend(rows_of(codes))
        self.known.update(self._keys[-len(new) :])

    def latest(self, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Each configuration as it was observed last.

        Args:
            count: How many of the observations count, from the first on; None for all.

        Returns:
            Codes of shape ``[n, columns]``, and scores of shape ``[n]`` as the model sees
            them: see `constrained_scores`.
        """
        last = {key: index for index, key in enumerate(self._keys[:count])}
        kept = np.sort(np.fromiter(last.values(), np.intp, len(last)))
        return self.codes[kept], constrained_scores(self._scores[kept], self._violations[kept])

    def telling(self) -> tuple[np.ndarray, np.ndarray]:
        """What `latest` returns, of those alone that a prediction rests on."""
        codes, scores = self.latest()
        kept = most_telling(scores, REMEMBERED)
        return codes[kept], scores[kept]

    def hyperparameters(self, features: Features | None = None) -> Hyperparameters:
        """Fitted to a first part of the observations: see `fitted_at`.

        Args:
            features: Of codes, for the linear part of the model; None without one.
        """
        count = fitted_at(len(self._keys))
        if self._fitted is None or self._fitted[:2] != (count, features):
            codes, scores = self.latest(count)
            kept = most_telling(scores, FITTED)
            codes, scores = codes[kept], scores[kept]
            points, columns = embed(self.encoding, codes)
            known = None if features is None else features(codes)
            fitted = gaussian_process.fit(points, columns, scores, known)
            self._fitted = count, features, fitted
        return self._fitted[2]
