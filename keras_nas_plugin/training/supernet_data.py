"""Batches of the training and the validation data of a search, for its supernet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.errors import FitArgumentsError
from keras_nas_plugin.evaluation.datasets import DataKind
from keras_nas_plugin.supernet.training import RECALIBRATION_BATCHES, Batch
from keras_nas_plugin.training.fit_arguments import DataSplit, FitArguments

_BATCH = 32  # Keras' default


class SupernetData:
    """Batches of the training and the validation data of a search.

    Args:
        fit: Arguments of `search`.

    Raises:
        FitArgumentsError: There are no validation data, or the data cannot be read twice.
    """

    def __init__(self, fit: FitArguments) -> None:
        training, validation = fit.splits()
        arguments: Mapping[str, Any] = fit.values
        if training is None or validation is None:
            missing = "x" if training is None else "validation_data"
            raise FitArgumentsError(
                f"`{missing}` must be given to score architectures with a supernet; got None"
            )
        for name, split in (("x", training), ("validation_data", validation)):
            if split.kind is DataKind.OTHER:
                raise FitArgumentsError(
                    f"`{name}` must be arrays, a tf.data.Dataset or a keras.utils.PyDataset to "
                    f"train a supernet; got a {type(split.x).__name__}"
                )
        self._training, self._validation = training, validation
        self._batch_size = fit.batch_size or _BATCH
        self._shuffle = bool(arguments.get("shuffle", True))
        self._steps: int | None = arguments.get("steps_per_epoch")
        self._first: list[Any] | None = None

    def training(self, rng: np.random.Generator) -> Iterator[Batch]:
        """The batches of an epoch; the last rows of arrays that fill no batch are left out."""
        rows = self._training.rows
        if self._training.kind is not DataKind.ARRAYS or rows is None:
            yield from _limited(_iterated(self._training.x), self._steps)
            return
        order = rng.permutation(rows) if self._shuffle else np.arange(rows)
        size = min(self._batch_size, rows)
        for start in range(0, rows - size + 1, size):
            yield _batch(self._training.take(order[start : start + size]))

    def validation(self) -> Iterator[Batch]:
        """The validation batches."""
        rows = self._validation.rows
        if self._validation.kind is not DataKind.ARRAYS or rows is None:
            yield from _iterated(self._validation.x)
            return
        for start in range(0, rows, self._batch_size):
            indices = np.arange(start, min(start + self._batch_size, rows))
            yield _batch(self._validation.take(indices))

    def validation_cycle(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Validation batches of the same size without end, in random order.

        The last rows of arrays that fill no batch are left out of each round.
        """
        rows = self._validation.rows
        if self._validation.kind is not DataKind.ARRAYS or rows is None:
            while True:
                yield from _iterated(self._validation.x)
        size = min(self._batch_size, rows)
        while True:
            order = rng.permutation(rows)
            for start in range(0, rows - size + 1, size):
                yield _batch(self._validation.take(order[start : start + size]))

    @property
    def steps(self) -> int | None:
        """Steps of an epoch; None if that is known only at its end."""
        rows = self._training.rows
        if self._steps is not None or rows is None:
            return self._steps
        return max(1, rows // self._batch_size)

    def first_inputs(self) -> list[Any]:
        """Inputs of some training batches, always the same, for batch normalisation."""
        if self._first is None:
            batches = self.training(np.random.default_rng(0))
            self._first = [x for x, _, _ in _limited(batches, RECALIBRATION_BATCHES)]
        return self._first


def _batch(split: DataSplit) -> Batch:
    return split.x, split.y, split.sample_weight


def _limited(batches: Iterator[Batch], number: int | None) -> Iterator[Batch]:
    for index, batch in enumerate(batches):
        if index == number:
            return
        yield batch


def _iterated(data: Any) -> Iterator[Batch]:
    """Batches of a data set, as ``(x, y, sample_weight)``."""
    batches: int | None = getattr(data, "num_batches", None)
    elements = data if batches is None else (data[index] for index in range(batches))
    for element in elements:
        parts = element if isinstance(element, tuple) else (element,)
        x, y, weight = (*parts, None, None)[:3]
        yield x, y, weight
