"""Which channels of another model the channels of a tensor correspond to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from keras_nas_plugin.evaluation.graph import Call

_LAYERS = keras.layers
_POOLING = tuple(
    getattr(_LAYERS, f"{prefix}{kind}Pooling{rank}D")
    for prefix in ("", "Global")
    for kind in ("Average", "Max")
    for rank in (1, 2, 3)
)
#: Layers without weights that treat each channel alone and leave their order unchanged.
CHANNELWISE = (
    *_POOLING,
    _LAYERS.Activation,
    _LAYERS.ReLU,
    _LAYERS.LeakyReLU,
    _LAYERS.ELU,
    _LAYERS.Identity,
    _LAYERS.Dropout,
    _LAYERS.SpatialDropout1D,
    _LAYERS.SpatialDropout2D,
    _LAYERS.SpatialDropout3D,
    _LAYERS.GaussianNoise,
    _LAYERS.GaussianDropout,
    _LAYERS.Rescaling,
    _LAYERS.ZeroPadding1D,
    _LAYERS.ZeroPadding2D,
    _LAYERS.Cropping2D,
    _LAYERS.UpSampling1D,
    _LAYERS.UpSampling2D,
)
# The result has the channels of the first input if all inputs have the same.
_ELEMENTWISE = (
    _LAYERS.Add,
    _LAYERS.Subtract,
    _LAYERS.Multiply,
    _LAYERS.Average,
    _LAYERS.Maximum,
    _LAYERS.Minimum,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Channels:
    """The channels of a tensor, in terms of the channels of the corresponding tensor.

    Attributes:
        sources: For each channel, the channel of the other model's tensor. Channels with the
            same source are copies.
        width: Number of channels of the other model's tensor.
    """

    sources: np.ndarray
    width: int

    @classmethod
    def resized(cls, size: int, width: int) -> Channels:
        """Channels of a tensor that is wider, with the first channels repeated, or narrower.

        All tensors of the same two widths get the same channels, so that sums of widened tensors
        are sums of corresponding channels.
        """
        return cls(np.arange(size) % max(width, 1), width)

    @property
    def copies(self) -> np.ndarray:
        """For each channel, how many channels have its source."""
        counts = np.bincount(self.sources, minlength=self.width)
        return counts[self.sources]

    def repeated(self, times: int) -> Channels:
        """The channels of a tensor that has ``times`` channels in place of each."""
        offsets = np.arange(times)
        sources = (self.sources[:, None] * times + offsets).ravel()
        return Channels(sources, self.width * times)

    def tiled(self, times: int) -> Channels:
        """The elements of a flattened tensor with ``times`` positions."""
        positions = np.arange(times)[:, None] * self.width
        return Channels((positions + self.sources).ravel(), self.width * times)


def after(call: Call, inputs: Sequence[Channels | None]) -> Channels | None:
    """The channels of what a call of a layer without weights returns.

    Args:
        call: The call.
        inputs: Those of its inputs; None where they correspond to nothing.

    Returns:
        None where they correspond to nothing.
    """
    operation = call.operation
    first = inputs[0] if inputs else None
    if first is None or any(channels is None for channels in inputs):
        return None
    known_inputs = [channels for channels in inputs if channels is not None]
    if isinstance(operation, CHANNELWISE) and _channels_last(operation):
        return first
    if isinstance(operation, _ELEMENTWISE):
        same = all(np.array_equal(first.sources, channels.sources) for channels in known_inputs)
        return first if same else None
    rank = len(call.outputs[0].shape)
    if isinstance(operation, _LAYERS.Concatenate) and operation.axis in (-1, rank - 1):
        offsets = np.cumsum([0, *(channels.width for channels in known_inputs)])
        sources = [
            channels.sources + start
            for channels, start in zip(known_inputs, offsets, strict=False)
        ]
        return Channels(np.concatenate(sources), int(offsets[-1]))
    if isinstance(operation, _LAYERS.Flatten) and _channels_last(operation):
        positions = call.inputs[0].shape[1:-1]
        if None not in positions:
            return first.tiled(int(np.prod(positions, dtype=int)))
    return None


def _channels_last(operation: keras.Operation) -> bool:
    return getattr(operation, "data_format", "channels_last") in (None, "channels_last")
