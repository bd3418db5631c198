"""Weights of one layer from those of another layer of its class."""

from __future__ import annotations

import keras
import numpy as np

from keras_nas_plugin.inheritance.channels import Channels

_LAYERS = keras.layers
Weights = list[np.ndarray]
DENSE = (_LAYERS.Dense, _LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Conv3D)
DEPTHWISE = (_LAYERS.DepthwiseConv1D, _LAYERS.DepthwiseConv2D)
SEPARABLE = (_LAYERS.SeparableConv1D, _LAYERS.SeparableConv2D)
NORMALISATION = (
    _LAYERS.BatchNormalization,
    _LAYERS.LayerNormalization,
    _LAYERS.GroupNormalization,
)


def transferred(
    layer: keras.Layer, parent: keras.Layer, channels: Channels | None, rng: np.random.Generator
) -> tuple[Weights, Channels | None] | None:
    """The weights of a layer from those of the corresponding layer of another model.

    Wider layers repeat channels. Weights that read a repeated channel are divided among its
    copies in random shares, which differ between outputs, so that the sum is the parent's and the
    copies do not stay equal (Chen, Goodfellow & Shlens 2016, "Net2Net", equation 2 and section
    2.3, which divides evenly and adds noise). Larger kernels are padded with zeros.

    Args:
        layer: The layer, built.
        parent: The other layer, of the same class.
        channels: The channels of its input; None where they correspond to nothing.
        rng: Draws the shares.

    Returns:
        The weights in the order of ``layer.weights``, and the channels of the output (None if
        they are those of no tensor); None if nothing can be taken over.
    """
    weights = _weights(layer)
    old = _weights(parent)
    if isinstance(layer, DENSE) and getattr(layer, "groups", 1) == 1 and _last(layer):
        return _dense(weights, old, channels, rng)
    if isinstance(layer, DEPTHWISE) and _last(layer):
        return _depthwise(weights, old, channels)
    if isinstance(layer, SEPARABLE) and _last(layer):
        return _separable(weights, old, channels, rng)
    if isinstance(layer, NORMALISATION) and _of_last_axis(layer):
        return _per_channel(weights, old, channels)
    if [value.shape for value in weights] == [value.shape for value in old]:
        return old, None
    return None


def identity(layer: keras.Layer) -> Weights | None:
    """Weights with which a layer returns its input, or None if there are none.

    Net2Net, section 2.3: a convolution whose kernel has a one in its centre, or an identity
    matrix. A layer that applies ReLU returns inputs that are not negative.
    """
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation not in ("linear", "relu"):
        return None
    weights = _weights(layer)
    if isinstance(layer, NORMALISATION):
        return weights
    if not isinstance(layer, DENSE) or not _last(layer) or getattr(layer, "groups", 1) != 1:
        return None
    kernel = np.zeros_like(weights[0])
    inputs, outputs = kernel.shape[-2:]
    strides = np.atleast_1d(getattr(layer, "strides", 1))
    keeps_positions = getattr(layer, "padding", "same") == "same" and (strides == 1).all()
    odd = all(size % 2 for size in kernel.shape[:-2])
    if inputs != outputs or not keeps_positions or not odd:
        return None
    kernel[tuple(size // 2 for size in kernel.shape[:-2])] = np.eye(inputs)
    return [kernel, *(np.zeros_like(value) for value in weights[1:])]


def _weights(layer: keras.Layer) -> Weights:
    return [np.asarray(keras.ops.convert_to_numpy(value)) for value in layer.weights]


def _last(layer: keras.Layer) -> bool:
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def _of_last_axis(layer: keras.Layer) -> bool:
    axis = np.atleast_1d(layer.axis)
    return len(axis) == 1 and all(value.ndim == 1 for value in _weights(layer))


def _known(channels: Channels | None, size: int, width: int) -> Channels:
    """The channels of an input, or an assumption about them where nothing is known."""
    fits = channels is not None and channels.width == width and len(channels.sources) == size
    return channels if fits and channels is not None else Channels.resized(size, width)


def _shares(channels: Channels, outputs: int, rng: np.random.Generator) -> np.ndarray:
    """For each channel and output, the share of the source's weight; 1 without copies."""
    shares = np.ones((len(channels.sources), outputs))
    copied = channels.copies > 1
    if copied.any():
        shares[copied] = rng.uniform(0.5, 1.5, (int(copied.sum()), outputs))
        totals = np.zeros((channels.width, outputs))
        np.add.at(totals, channels.sources, shares)
        shares /= totals[channels.sources]
    return shares


def _resized_kernel(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A kernel of another size: padded with zeros or cut, around its centre.

    Args:
        kernel: Sizes, then further axes.
        shape: The new sizes.
    """
    for axis, size in enumerate(shape):
        difference = size - kernel.shape[axis]
        low = (abs(difference) + (1 if difference < 0 else 0)) // 2
        if difference > 0:
            low = difference // 2
            padding = [(0, 0)] * kernel.ndim
            padding[axis] = (low, difference - low)
            kernel = np.pad(kernel, padding)
        elif difference < 0:
            kernel = np.take(kernel, range(low, low + size), axis=axis)
    return kernel


def _dense(
    weights: Weights, old: Weights, channels: Channels | None, rng: np.random.Generator
) -> tuple[Weights, Channels]:
    *sizes, inputs, outputs = weights[0].shape
    reads = _known(channels, inputs, old[0].shape[-2])
    writes = Channels.resized(outputs, old[0].shape[-1])
    kernel = _resized_kernel(old[0], tuple(sizes))
    kernel = kernel[..., reads.sources, :][..., writes.sources] * _shares(reads, outputs, rng)
    return [kernel, *(value[writes.sources] for value in old[1:])], writes


def _depthwise(
    weights: Weights, old: Weights, channels: Channels | None
) -> tuple[Weights, Channels] | None:
    *sizes, inputs, multiplier = weights[0].shape
    if multiplier != old[0].shape[-1]:
        return None
    reads = _known(channels, inputs, old[0].shape[-2])
    kernel = _resized_kernel(old[0], tuple(sizes))[..., reads.sources, :]
    writes = reads.repeated(multiplier)
    return [kernel, *(value[writes.sources] for value in old[1:])], writes


def _separable(
    weights: Weights, old: Weights, channels: Channels | None, rng: np.random.Generator
) -> tuple[Weights, Channels] | None:
    depthwise = _depthwise(weights[:1], old[:1], channels)
    if depthwise is None:
        return None
    pointwise, writes = _dense(weights[1:], old[1:], depthwise[1], rng)
    return [*depthwise[0], *pointwise], writes


def _per_channel(
    weights: Weights, old: Weights, channels: Channels | None
) -> tuple[Weights, Channels | None]:
    if not old:
        return [], channels
    size, width = len(weights[0]), len(old[0])
    reads = _known(channels, size, width)
    return [value[reads.sources] for value in old], reads
