"""Training, validation and test rows, drawn in the same order by every run of a recipe."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.table_data import time_order

#: Shares of the validation and of the test rows.
VALIDATION, TEST = 0.2, 0.2

_Returned = TypeVar("_Returned")
Indices = tuple[np.ndarray, np.ndarray, np.ndarray]


class cached(Generic[_Returned]):
    """A function without arguments that is called once in each process.

    Recipes decorate `load_data` with it, since `build_model` needs the training rows as well.
    Unlike those of `functools.cache`, such functions can be sent to worker processes.

    ```python
    @cached
    def load_data():
        ...
    ```
    """

    def __init__(self, function: Callable[[], _Returned]) -> None:
        self._function = function
        self._results: list[_Returned] = []
        functools.update_wrapper(self, function)

    def __call__(self) -> _Returned:
        """The result of the first call."""
        if not self._results:
            self._results.append(self._function())
        return self._results[0]

    def __reduce__(self) -> tuple[type[cached[Any]], tuple[Callable[[], _Returned]]]:
        return type(self), (self._function,)


def stratified(labels: Sequence[Hashable] | np.ndarray, *, seed: int = 0) -> Indices:
    """Numbers of training, validation and test rows, 60, 20 and 20 percent of each class.

    A class of three rows has one in each part.

    >>> training, validation, test = stratified(["a"] * 5 + ["b"] * 5)
    >>> len(training), len(validation), len(test)
    (6, 2, 2)

    Args:
        labels: The class of each row, of any type.
        seed: Seed of the draw.

    Returns:
        Three arrays of row numbers, each in random order.
    """
    generator = np.random.default_rng(seed)
    _, classes = np.unique(np.asarray(labels), return_inverse=True)
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for number in range(classes.max() + 1):
        rows = generator.permutation(np.flatnonzero(classes == number))
        for part, drawn in zip(parts, _divided(rows), strict=True):
            part.append(drawn)
    training, validation, test = (generator.permutation(np.concatenate(p)) for p in parts)
    return training, validation, test


def at_random(rows: int, *, seed: int = 0) -> Indices:
    """Numbers of training, validation and test rows, 60, 20 and 20 percent.

    Args:
        rows: Number of rows.
        seed: Seed of the draw.
    """
    return _divided(np.random.default_rng(seed).permutation(rows))


def in_time_order(times: Sequence[Any] | np.ndarray) -> Indices:
    """Numbers of training, validation and test rows: the oldest 60 percent, the next 20, the last.

    A model that is chosen by rows of its own past would look better than it will be.

    Args:
        times: The time of each row, in any order: numbers, or dates as texts.

    Raises:
        SourceError: A time is missing or cannot be read.
    """
    order = time_order(times)
    rows = len(order)
    first, second = round(rows * (1 - VALIDATION - TEST)), round(rows * (1 - TEST))
    return order[:first], order[first:second], order[second:]


def _divided(rows: np.ndarray) -> Indices:
    validation, test = (max(1, round(len(rows) * share)) for share in (VALIDATION, TEST))
    if len(rows) - validation - test < 1:
        raise SourceError(
            f"`rows` must be at least 3, one each to train, validate and test; got {len(rows)}"
        )
    return rows[validation + test :], rows[:validation], rows[validation : validation + test]


def class_weights(labels: np.ndarray) -> dict[int, float]:
    """Weights by which each class counts the same in training, with a mean of 1 over the rows.

    >>> class_weights(np.array([0, 0, 0, 1]))
    {0: 0.6666666666666666, 1: 2.0}

    Args:
        labels: Class indices of the training rows.

    Returns:
        The argument ``class_weight`` of `keras.Model.fit`.
    """
    classes, counts = np.unique(labels, return_counts=True)
    weights = len(labels) / (len(classes) * counts)
    return {int(index): float(weight) for index, weight in zip(classes, weights, strict=True)}
