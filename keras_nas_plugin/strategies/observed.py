"""Observations as the training data of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from keras_nas_plugin.space.encoding import Encoding
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.strategies import gaussian_process
from keras_nas_plugin.strategies.base import Observation
from keras_nas_plugin.strategies.candidates import rows_of
from keras_nas_plugin.strategies.gaussian_process import Hyperparameters
from keras_nas_plugin.strategies.kernels import embed
from keras_nas_plugin.strategies.ranking import constrained_scores

# Maximum numbers of configurations that the hyperparameters are fitted to, and that predictions
# are based on: they bound the time of a proposal, however many trials there are.
FITTED = 200
REMEMBERED = 512
# Maximum number of running configurations in a model, the latest ones: each replaces an observed
# one. Far more workers may run than a proposal has time for.
RUNNING = 128
# Maximum number of observations among which these are selected and ranked.
_RANKED = 2048

#: Computes features, shape ``[n, features]``, from codes, shape ``[n, columns]``.
Features = Callable[[np.ndarray], np.ndarray]


def fitted_at(count: int) -> int:
    """How many of ``count`` observations the hyperparameters were last fitted to.

    They are fitted again whenever the observations have grown by a tenth. This depends on
    the count alone, so that a reloaded search fits to the same observations.

    >>> [fitted_at(count) for count in (1, 19, 20, 21, 22, 109)]
    [1, 19, 20, 20, 22, 100]
    """
    return count - count % max(1, count // 10)


def most_informative(scores: np.ndarray, limit: int) -> np.ndarray:
    """The observations for a model of limited size: half the best, half the latest.

    Args:
        scores: Shape ``[n]``, in the order of arrival.
        limit: Maximum number of observations to select.

    Returns:
        Indices in ascending order, at most ``limit``.

    >>> most_informative(np.array([5.0, 9.0, 1.0, 2.0, 3.0]), 4).tolist()
    [0, 1, 3, 4]
    """
    if len(scores) <= limit:
        return np.arange(len(scores))
    selected = np.zeros(len(scores), bool)
    selected[np.argsort(-scores, kind="stable")[: limit // 2]] = True
    remaining = np.flatnonzero(~selected)
    selected[remaining[len(remaining) - (limit - limit // 2) :]] = True
    return np.flatnonzero(selected)


def _score_of(observation: Observation) -> float:
    """The score; minus infinity for a failed trial, which ranks below all others."""
    if observation.scores is None or not np.isfinite(observation.scores[0]):
        return -np.inf
    return observation.scores[0]


class Observed:
    """A cache of encoded observations and the hyperparameters fitted to them.

    Args:
        encoding: Encoding of the space; when the space grows, a new instance must be created.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        #: Keys of all observed configurations.
        self.observed_keys: set[bytes] = set()
        #: Codes of all observations, shape ``[n, columns]``.
        self.codes = np.zeros((0, len(encoding.columns)))
        self._scores = np.zeros(0)
        self._violations = np.zeros(0)
        self._keys: list[bytes] = []
        self._fitted: tuple[int, Features | None, Hyperparameters] | None = None
        # By id of a running trial: its values, their codes, and the key of these.
        self._running: dict[str, tuple[Values, np.ndarray, bytes]] = {}

    def running(self, pending: Mapping[str, Values]) -> tuple[np.ndarray, list[bytes]]:
        """The configurations of the running trials; each trial is encoded once.

        Args:
            pending: Values of the running trials, by trial id.

        Returns:
            Codes of shape ``[n, columns]``, and the keys of the rows.
        """
        running = {}
        for trial_id, values in pending.items():
            previous = self._running.get(trial_id)
            if previous is None or previous[0] is not values:
                codes = self.encoding.encode(values)
                previous = values, codes, rows_of(codes[None])[0]
            running[trial_id] = previous
        self._running = running
        rows = [codes for _, codes, _ in running.values()]
        keys = [key for _, _, key in running.values()]
        return np.array(rows).reshape(len(rows), len(self.encoding.columns)), keys

    def add(self, observations: list[Observation]) -> None:
        """Add the observations that are new; the list must only grow."""
        new = observations[len(self._keys) :]
        if not new:
            return
        codes = self.encoding.encode_many(observation.values for observation in new)
        scores = [_score_of(observation) for observation in new]
        self.codes = np.concatenate([self.codes, codes])
        self._scores = np.concatenate([self._scores, scores])
        violations = [observation.violation for observation in new]
        self._violations = np.concatenate([self._violations, violations])
        self._keys.extend(rows_of(codes))
        self.observed_keys.update(self._keys[-len(new) :])

    def latest(self, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The latest observation of each configuration.

        Args:
            count: Number of observations to use, counted from the first; None for all.

        Returns:
            Codes of shape ``[n, columns]``, and transformed scores of shape ``[n]``: see
            `constrained_scores`.
        """
        indices = self._latest_indices(count)
        return self.codes[indices], self._transformed_scores(indices)

    def training_data(self, running: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The part of `latest` that predictions are based on.

        Args:
            running: Number of running configurations in the model, at most `RUNNING`.
        """
        return self._informative(None, REMEMBERED - running)

    def _latest_indices(self, count: int | None) -> np.ndarray:
        """Indices of the latest observations of each configuration: see `latest`."""
        keys = self._keys[:count]
        if len(self.observed_keys) == len(self._keys):
            return np.arange(len(keys))
        last = {key: index for index, key in enumerate(keys)}
        return np.sort(np.fromiter(last.values(), np.intp, len(last)))

    def _transformed_scores(self, indices: np.ndarray) -> np.ndarray:
        return constrained_scores(self._scores[indices], self._violations[indices])

    def _informative(self, count: int | None, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes and transformed scores of the `most_informative` of the first observations."""
        indices = self._latest_indices(count)
        indices = indices[most_informative(self._scores[indices], _RANKED)]
        scores = self._transformed_scores(indices)
        selected = most_informative(scores, limit)
        return self.codes[indices[selected]], scores[selected]

    def hyperparameters(self, features: Features | None = None) -> Hyperparameters:
        """Hyperparameters fitted to the first `fitted_at` observations.

        Args:
            features: Computes the features of codes for the linear part of the model; None
                for a model without one.
        """
        count = fitted_at(len(self._keys))
        if self._fitted is None or self._fitted[:2] != (count, features):
            codes, scores = self._informative(count, FITTED)
            points, columns = embed(self.encoding, codes)
            linear_features = None if features is None else features(codes)
            fitted = gaussian_process.fit(points, columns, scores, linear_features)
            self._fitted = count, features, fitted
        return self._fitted[2]
