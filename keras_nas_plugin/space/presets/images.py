"""Blocks of convolutional networks: functions that create and call standard Keras layers."""

from __future__ import annotations

from collections.abc import Callable

from keras import KerasTensor, layers, ops

from keras_nas_plugin.space.presets.tasks import BATCH_NORM

Block = Callable[[KerasTensor], KerasTensor]


def rounded(channels: float, divisor: int = 8) -> int:
    """Channels rounded to a multiple of ``divisor`` that is at most 10% smaller.

    Source: Sandler et al. 2018, "MobileNetV2", from the authors' code. Later networks round in
    the same way.

    >>> rounded(32 * 1.1), rounded(11), rounded(3), rounded(3, 1)
    (32, 16, 8, 3)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def convolution(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    strides: int = 1,
    activation: str | None = None,
) -> KerasTensor:
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
    """Expansion, depthwise convolution, squeeze and excitation, projection.

    Source: Howard et al. 2019, "Searching for MobileNetV3", figures 3 and 4.

    Args:
        filters: Output channels. None for as many as the input has; the input is then added to
            the output.
        kernel_size: Kernel size of the depthwise convolution.
        expansion: Channels within the block, as a multiple of the input channels.
        squeeze_excite: Whether the channels are weighted; see `squeezed`.
        strides: Strides of the depthwise convolution.
        activation: Activation after the first two convolutions.
    """

    def call(x: KerasTensor) -> KerasTensor:
        channels = x.shape[-1]
        y = convolution(x, channels * expansion, 1, activation=activation) if expansion > 1 else x
        y = layers.DepthwiseConv2D(kernel_size, strides=strides, padding="same", use_bias=False)(y)
        y = layers.Activation(activation)(layers.BatchNormalization(**BATCH_NORM)(y))
        if squeeze_excite:
            y = squeezed(y)
        y = convolution(y, channels if filters is None else filters, 1)
        return layers.Add()([x, y]) if filters is None else y

    return call


def squeezed(x: KerasTensor) -> KerasTensor:
    """Multiplies each channel by a weight that is computed from the means of all channels.

    Source: Hu et al. 2018, "Squeeze-and-Excitation Networks"; with a quarter of the channels
    in between and the piecewise linear sigmoid as in MobileNetV3, section 5.3.
    """
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(rounded(channels / 4), 1, activation="relu")(y)
    y = layers.Conv2D(channels, 1, activation="hard_sigmoid")(y)
    return layers.Multiply()([x, y])


def residual_stage(block: str, blocks: int, filters: int, strides: int) -> Block:
    """Residual blocks in sequence, of which the first has the strides.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", figure 5; with
    strides in the 3x3 convolution, as in later implementations.

    Args:
        block: ``"basic"`` for two 3x3 convolutions; ``"bottleneck"`` for a 3x3 convolution
            between two 1x1 convolutions, with four times as many output channels.
        blocks: Number of blocks.
        filters: Channels of the 3x3 convolutions.
        strides: Strides of the first block.
    """

    def call(x: KerasTensor) -> KerasTensor:
        for index in range(blocks):
            x = _residual(x, block, filters, strides if index == 0 else 1)
        return x

    return call


def _residual(x: KerasTensor, block: str, filters: int, strides: int) -> KerasTensor:
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
    """Bilinear resizing; images that have this size already are returned unchanged.

    This does not use the layer `Resizing`, because in Keras 3.15 it makes ``model(x)`` run the
    following layers in training mode unless ``training=False`` is passed.
    """

    def call(x: KerasTensor) -> KerasTensor:
        if tuple(x.shape[1:3]) == (height, width):
            return x
        return ops.image.resize(x, (height, width), interpolation="bilinear")

    return call
