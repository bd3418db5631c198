"""Blocks of convolutional networks: functions that make stock Keras layers and call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import layers, ops

from keras_nas_plugin.space.presets.tasks import BATCH_NORM

Block = Callable[[Any], Any]


def rounded(channels: float, divisor: int = 8) -> int:
    """Channels as a multiple of ``divisor``, never more than a tenth fewer than asked for.

    Source: Sandler et al. 2018, "MobileNetV2", the function of the authors' code that all
    networks since then use.

    >>> rounded(32 * 1.1), rounded(11), rounded(3), rounded(3, 1)
    (32, 16, 8, 3)
    """
    near = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * channels else near


def convolution(
    x: Any, filters: int, kernel_size: int, *, strides: int = 1, activation: str | None = None
) -> Any:
    """Convolution, BatchNormalization, activation."""
    x = layers.Conv2D(filters, kernel_size, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(**BATCH_NORM)(x)
    return x if activation is None else layers.Activation(activation)(x)


def convolution_block(
    filters: int, kernel_size: int, strides: int = 1, activation: str | None = "relu"
) -> Block:
    """`convolution` as a block."""
    return lambda x: convolution(x, filters, kernel_size, strides=strides, activation=activation)


def inverted_residual(
    filters: int | None,
    kernel_size: int,
    expansion: int,
    squeeze_excite: bool,
    strides: int = 1,
    activation: str = "relu",
) -> Block:
    """Expand, convolve each channel, weigh the channels, project.

    Source: Howard et al. 2019, "Searching for MobileNetV3", figures 3 and 4.

    Args:
        filters: Channels that come out. None for as many as come in, which are added.
        kernel_size: Of the depthwise convolution.
        expansion: Channels between, as a multiple of those that come in.
        squeeze_excite: Whether the channels are weighed by what the whole image shows.
        strides: Of the depthwise convolution.
        activation: After the first two convolutions.
    """

    def call(x: Any) -> Any:
        channels = x.shape[-1]
        y = convolution(x, channels * expansion, 1, activation=activation) if expansion > 1 else x
        y = layers.DepthwiseConv2D(kernel_size, strides=strides, padding="same", use_bias=False)(y)
        y = layers.Activation(activation)(layers.BatchNormalization(**BATCH_NORM)(y))
        if squeeze_excite:
            y = squeezed(y)
        y = convolution(y, channels if filters is None else filters, 1)
        return layers.Add()([x, y]) if filters is None else y

    return call


def squeezed(x: Any) -> Any:
    """Each channel times a weight that follows from the means of all.

    Source: Hu et al. 2018, "Squeeze-and-Excitation Networks"; a quarter of the channels
    between and the piecewise linear sigmoid as in MobileNetV3, section 5.3.
    """
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(rounded(channels / 4), 1, activation="relu")(y)
    y = layers.Conv2D(channels, 1, activation="hard_sigmoid")(y)
    return layers.Multiply()([x, y])


def residual_stage(block: str, blocks: int, filters: int, strides: int) -> Block:
    """Residual blocks in a row, of which the first has the strides.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", figure 5; strides
    in the 3x3 convolution, as in all later code.

    Args:
        block: ``"basic"`` for two 3x3 convolutions; ``"bottleneck"`` for one between two of
            1x1, which come out with four times the channels.
        blocks: How many.
        filters: Channels of the 3x3 convolutions.
        strides: Of the first block.
    """

    def call(x: Any) -> Any:
        for index in range(blocks):
            x = _residual(x, block, filters, strides if index == 0 else 1)
        return x

    return call


def _residual(x: Any, block: str, filters: int, strides: int) -> Any:
    out = filters if block == "basic" else 4 * filters
    if block == "basic":
        y = convolution(x, filters, 3, strides=strides, activation="relu")
        y = convolution(y, filters, 3)
    else:
        y = convolution(x, filters, 1, activation="relu")
        y = convolution(y, filters, 3, strides=strides, activation="relu")
        y = convolution(y, out, 1)
    if strides > 1 or x.shape[-1] != out:
        x = convolution(x, out, 1, strides=strides)
    return layers.Activation("relu")(layers.Add()([x, y]))


def resized(height: int, width: int) -> Block:
    """Bilinear resizing, or nothing where the image has that size.

    Not the layer `Resizing`: in Keras 3.15 it makes ``model(x)`` run the layers after it as in
    training, unless ``training=False`` is given.
    """

    def call(x: Any) -> Any:
        if tuple(x.shape[1:3]) == (height, width):
            return x
        return ops.image.resize(x, (height, width), interpolation="bilinear")

    return call
