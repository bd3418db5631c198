"""Audio and time series: convolutional, recurrent and attention blocks in any order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras import layers

from keras_nas_plugin.space.choices import LayerChoice
from keras_nas_plugin.space.hypermodel import Shape, SpaceHyperModel
from keras_nas_plugin.space.nodes import Layer, Node, Sequential
from keras_nas_plugin.space.presets.attention import (
    EPSILON,
    convolution,
    feed_forward,
    recurrent,
    self_attention,
)
from keras_nas_plugin.space.presets.parts import Stage
from keras_nas_plugin.space.presets.tasks import (
    between,
    compiled_for,
    decided,
    ending,
    numbers,
    rate,
    shape_of,
)
from keras_nas_plugin.space.values import ValueChoice

_DILATIONS = (1, 2, 4)
_HEADS = (2, 4, 8)


def sequence_1d(
    inputs: Shape = (128, 1),
    classes: int | None = None,
    outputs: int | Sequence[int] | None = None,
    *,
    depths: tuple[int, int] = (1, 4),
    widths: Sequence[int] = (32, 64, 128),
    kernels: Sequence[int] = (3, 5, 9),
    stem_strides: Sequence[int] = (1, 2, 4),
    dropout: float = 0.1,
    compile: Mapping[str, Any] | Callable[[Any, Any], None] | None = None,
) -> SpaceHyperModel:
    """Networks for sequences of numbers, such as audio and measurements.

    Sources: Bai et al. 2018, "An Empirical Evaluation of Generic Convolutional and Recurrent
    Networks for Sequence Modeling" (dilated convolutions against LSTM and GRU); Vaswani et al.
    2017, "Attention Is All You Need"; Chu et al. 2021, "Conditional Positional Encodings for
    Vision Transformers": a convolution tells attention where a step is, at any length.

    Args:
        inputs: Steps and channels; steps are None where they differ from batch to batch.
        classes: How many there are to tell apart.
        outputs: Numbers to predict, instead of ``classes``; a shape for a forecast of
            several steps and channels, such as ``(24, 3)``.
        depths: Fewest and most blocks.
        widths: Channels of all blocks.
        kernels: Sizes of convolutions.
        stem_strides: How many steps become one at the beginning.
        dropout: In each block.
        compile: See `SpaceHyperModel`; what suits the task without it.

    Raises:
        SearchSpaceError: An argument makes no sense.
    """
    shape_of("inputs", inputs, ("steps", "channels"))
    space = sequence_1d_space(
        classes,
        outputs,
        depths=depths,
        widths=widths,
        kernels=kernels,
        stem_strides=stem_strides,
        dropout=dropout,
    )
    return SpaceHyperModel(
        space,
        inputs=inputs,
        compile=compiled_for(classes) if compile is None else compile,
        name="sequence_1d",
        check=False,
    )


def sequence_1d_space(
    classes: int | None = None,
    outputs: int | Sequence[int] | None = None,
    *,
    depths: tuple[int, int] = (1, 4),
    widths: Sequence[int] = (32, 64, 128),
    kernels: Sequence[int] = (3, 5, 9),
    stem_strides: Sequence[int] = (1, 2, 4),
    dropout: float = 0.1,
) -> Node:
    """The description alone; see `sequence_1d`.

    Decisions are called ``stem/filters`` (the channels of all blocks), ``stem/strides``,
    ``blocks/depth``, ``blocks/0`` (what the first block is), ``blocks/0/convolution/kernel_size``
    and so on, and ``pool``.
    """
    head = ending(classes, outputs)
    fewest, most = between("depths", depths)
    widths, kernels = numbers("widths", widths), numbers("kernels", kernels)
    strides = numbers("stem_strides", stem_strides)
    block = _block(kernels, rate("dropout", dropout))
    return Sequential(
        stem=Layer(
            "Conv1D",
            filters=decided(widths, 64),
            kernel_size=7,
            strides=decided(strides, 1),
            padding="same",
        ),
        blocks=Stage(block, fewest, most, default=min(max(2, fewest), most)),
        norm=Layer("LayerNormalization", epsilon=EPSILON),
        pool=LayerChoice(
            {
                "average": "GlobalAveragePooling1D",
                "max": "GlobalMaxPooling1D",
                "last": Layer(last_step),
            }
        ),
        head=head,
    )


def _block(kernels: Sequence[int], dropout: float) -> Node:
    attention = Sequential(
        position=Layer(positioned),
        mixer=Layer(self_attention, heads=ValueChoice(_HEADS, default=4), dropout=dropout),
        feed_forward=Layer(feed_forward, ratio=2, dropout=dropout),
    )
    return LayerChoice(
        {
            "convolution": Layer(
                convolution,
                kernel_size=decided(kernels, 5),
                dilation=ValueChoice(_DILATIONS),
                dropout=dropout,
            ),
            "recurrent": Layer(
                recurrent,
                cell=ValueChoice(["GRU", "LSTM"]),
                bidirectional=ValueChoice([False, True], default=True),
                dropout=dropout,
            ),
            "attention": attention,
        }
    )


def positioned() -> Callable[[Any], Any]:
    """Adds a depthwise convolution: by the zeros around it, it tells where a step is."""
    return lambda x: layers.Add()([x, layers.DepthwiseConv1D(3, padding="same")(x)])


def last_step() -> Callable[[Any], Any]:
    """The last step of a sequence, which a forecast needs most."""
    return lambda x: x[:, -1, :]
