"""The first trials of a search by time: the default architecture, then cheap, different ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import keras_tuner
import numpy as np

from keras_nas_plugin.oracles.search_space import SearchSpace
from keras_nas_plugin.space.encoding import distances, encoding_of
from keras_nas_plugin.space.spec import Tried, Values

logger = logging.getLogger("keras_nas_plugin")

# Candidates of which one becomes a trial.
_CANDIDATES = 8
# The opening takes one in so many trials that the time allows, and at least the first two.
_SHARE, _LEAST = 4, 2

#: Number of parameters of the model of a configuration; None where it is not known, or would take
#: too long to find out. It may add hyperparameters to the argument.
CountParameters = Callable[[keras_tuner.HyperParameters], int | None]


class Opening:
    """Proposes the first trials of a search that ends by time.

    A strategy that starts at random learns little from a dozen trials, which is what many searches
    have time for. In its place, the default architecture comes first: somebody chose it. The next
    trials are cheap, so that more of them fit into the time, and different from each other: of
    eight random candidates, the half with fewer parameters is kept, and of these the one that is
    farthest from all trials so far.

    Args:
        count_parameters: See `CountParameters`.
        most_trials: Number of trials that the opening may have.
    """

    def __init__(self, count_parameters: CountParameters, most_trials: int) -> None:
        self._count_parameters = count_parameters
        self._most_trials = most_trials

    def length(self, expected_trials: int | None) -> int:
        """Number of trials of the opening.

        >>> opening = Opening(lambda hp: None, most_trials=4)
        >>> [opening.length(expected) for expected in (None, 3, 9, 100)]
        [2, 2, 3, 4]

        Args:
            expected_trials: How many trials the time allows; None before the first one has ended.
        """
        share = 0 if expected_trials is None else -(-expected_trials // _SHARE)
        return min(self._most_trials, max(_LEAST, share))

    def propose(
        self,
        space: SearchSpace,
        generator: np.random.Generator,
        *,
        tried: Tried,
        trials: Sequence[Values],
    ) -> Values | None:
        """Propose a configuration.

        Args:
            space: The search space, to which hyperparameters are added that models discover.
            generator: Source of randomness.
            tried: Whether a configuration was tried before.
            trials: Configurations of the trials so far.

        Returns:
            Its active values; None when the space is exhausted.
        """
        default = space.spec.fill({})
        if not trials and not tried(default):
            return default
        drawn = {space.spec.key(values): values for values in self._draw(space, generator, tried)}
        if not drawn:
            return None
        sizes = {key: self._size(space, values) for key, values in drawn.items()}
        counted = sorted((size, key) for key, size in sizes.items() if size is not None)
        cheap = [key for _, key in counted[: (len(counted) + 1) // 2]] or list(drawn)
        # Models may have discovered hyperparameters.
        candidates = [space.spec.fill(drawn[key]) for key in cheap]
        if not trials:
            return candidates[0]
        encoding = encoding_of(space.spec)
        apart = distances(encoding, encoding.encode_many(candidates), encoding.encode_many(trials))
        return candidates[int(apart.min(axis=1).argmax())]

    @staticmethod
    def _draw(space: SearchSpace, generator: np.random.Generator, tried: Tried) -> list[Values]:
        drawn = (space.spec.untried(generator, tried) for _ in range(_CANDIDATES))
        return [values for values in drawn if values is not None]

    def _size(self, space: SearchSpace, values: Values) -> int | None:
        """Number of parameters; None for a model that cannot be built."""
        hyperparameters = space.with_values(space.spec.fill(values))
        declared = len(space.hyperparameters.space)
        try:
            size = self._count_parameters(hyperparameters)
        except Exception as error:  # whatever the user's `build` raises
            logger.debug("A candidate could not be built before its trial: %r", error)
            return None
        space.discover(hyperparameters, declared)
        return size
