"""The search space of an oracle: KerasTuner's hyperparameters and their `SearchSpec`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner

from keras_nas_plugin.space.hyperparameters import copy_of, spec_of
from keras_nas_plugin.space.spec import SearchSpec


class SearchSpace:
    """The hyperparameters that have been discovered so far.

    KerasTuner discovers hyperparameters while it builds models, so the space of a search grows
    until every conditional scope has been entered. It never shrinks.

    Args:
        extend: Adds the hyperparameters of its argument to the space, and raises a
            RuntimeError if new entries are not allowed: KerasTuner's `Oracle.update_space`,
            which a custom oracle may override.
        allow_new_entries: See `keras_tuner.Oracle`.
    """

    def __init__(
        self, extend: Callable[[keras_tuner.HyperParameters], None], *, allow_new_entries: bool
    ) -> None:
        self._extend = extend
        self.allow_new_entries = allow_new_entries
        self._hyperparameters = keras_tuner.HyperParameters()
        self._spec: tuple[int, SearchSpec] | None = None

    @property
    def hyperparameters(self) -> keras_tuner.HyperParameters:
        """The hyperparameters as KerasTuner collects them."""
        return self._hyperparameters

    @hyperparameters.setter
    def hyperparameters(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        self._hyperparameters, self._spec = hyperparameters, None

    @property
    def spec(self) -> SearchSpec:
        """The space as strategies see it; a new object whenever the space has grown."""
        size = len(self._hyperparameters.space)
        if self._spec is None or self._spec[0] != size:
            self._spec = size, spec_of(self._hyperparameters)
        return self._spec[1]

    def copy(self) -> keras_tuner.HyperParameters:
        """A copy of the hyperparameters."""
        return copy_of(self._hyperparameters)

    def with_values(self, values: Mapping[str, Any]) -> keras_tuner.HyperParameters:
        """A copy of the hyperparameters with these values, to build a model from."""
        hyperparameters = self.copy()
        hyperparameters.values = dict(values)
        return hyperparameters

    def extend(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        """Add the hyperparameters of a model.

        Raises:
            RuntimeError: Some are new, and ``allow_new_entries`` is False.
        """
        self._extend(hyperparameters)

    def discover(self, hyperparameters: keras_tuner.HyperParameters, size: int) -> bool:
        """Add the hyperparameters that a model has added to a copy of the space.

        If new entries are not allowed, nothing is added and no error is raised: the trial that
        builds such a model will raise it.

        Args:
            hyperparameters: A copy of the space, with which a model was built.
            size: Number of hyperparameters in the copy before the model was built.

        Returns:
            Whether hyperparameters were added to the space.
        """
        has_grown = self.allow_new_entries and len(hyperparameters.space) > size
        if has_grown:
            self._extend(hyperparameters)
        return has_grown
