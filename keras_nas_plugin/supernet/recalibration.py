"""Statistics of batch normalisation for one architecture of a supernet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class Statistics:
    """The moving statistics of all layers of batch normalisation of a supernet.

    The statistics that training leaves are those of many paths together, and say nothing about
    one of them: with them, the ranks of a supernet are no better than chance.

    Args:
        layers: The layers of the supernet, at any depth of blocks.
    """

    def __init__(self, layers: Iterable[Any]) -> None:
        self._layers = list(_normalisations(layers))

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Restore the statistics after the block."""
        before = self._values()
        try:
            yield
        finally:
            self._assign(before)

    def measure(self, batches: Sequence[Any], run: Callable[[Any], object]) -> None:
        r"""Replace the statistics by those of some batches.

        With the momentum :math:`m` of a layer, its moving mean after :math:`n` batches that
        started from 0 is :math:`(1-m) \sum_i m^{n-1-i} \mu_i`. Divided by :math:`1 - m^n`, it is
        a weighted mean of the batches' means (the bias correction of Kingma & Ba 2015, section
        3), and the same holds for the variance. Layers that no batch reaches keep their
        statistics.

        Source: Guo et al. 2020, "Single Path One-Shot Neural Architecture Search with Uniform
        Sampling", section 3.3.

        Args:
            batches: Inputs; nothing happens without any.
            run: Computes the supernet in training mode on one of them.
        """
        if not batches or not self._layers:
            return
        before = self._values()
        for layer in self._layers:
            layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))
            layer.moving_variance.assign(np.ones(layer.moving_variance.shape))
        try:
            for batch in batches:
                run(batch)
        except BaseException:
            self._assign(before)
            raise
        for layer, old in zip(self._layers, before, strict=True):
            new = [ops.convert_to_numpy(layer.moving_mean), _variance(layer)]
            rest = layer.momentum ** len(batches)
            untouched = not new[0].any() and bool((new[1] == 1.0).all())
            if untouched or rest >= 1.0:
                new = list(old)
            else:
                new = [new[0] / (1.0 - rest), (new[1] - rest) / (1.0 - rest)]
            layer.moving_mean.assign(new[0])
            layer.moving_variance.assign(np.maximum(new[1], 0.0))

    def _values(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [
            (np.array(ops.convert_to_numpy(layer.moving_mean)), np.array(_variance(layer)))
            for layer in self._layers
        ]

    def _assign(self, values: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        for layer, (mean, variance) in zip(self._layers, values, strict=True):
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)


def _variance(layer: Any) -> np.ndarray:
    return ops.convert_to_numpy(layer.moving_variance)


def _normalisations(layers: Iterable[Any]) -> Iterator[Any]:
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _normalisations(layer.layers)
