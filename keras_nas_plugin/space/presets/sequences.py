"""Audio and time series: convolutional, recurrent and attention blocks in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import KerasTensor, layers

from keras_nas_plugin.space.language.base import Node
from keras_nas_plugin.space.language.choices import LayerChoice, Repeat
from keras_nas_plugin.space.language.hypermodel import Compile, Shape, SpaceHyperModel
from keras_nas_plugin.space.language.nodes import Layer, Sequential
from keras_nas_plugin.space.language.values import ValueChoice
from keras_nas_plugin.space.presets.attention import (
    EPSILON,
    convolution,
    feed_forward,
    recurrent,
    self_attention,
)
from keras_nas_plugin.space.presets.scaling import Step, at_most, replaced, scaled, up_to
from keras_nas_plugin.space.presets.tasks import (
    between,
    compiled_for,
    decided,
    ending,
    numbers,
    rate,
    shape_of,
)

_DILATIONS = (1, 2, 4)
_HEADS = (2, 4, 8)
_SMALLER: Sequence[Step] = (
    ("widths", at_most(64)),
    ("depths", up_to(3)),
    ("widths", replaced((16, 32))),
    ("depths", up_to(2)),
    ("widths", replaced((8, 16))),
)


def sequence_1d(
    inputs: Shape = (128, 1),
    classes: int | None = None,
    outputs: int | Sequence[int] | None = None,
    *,
    depths: tuple[int, int] | None = None,
    widths: Sequence[int] | None = None,
    kernels: Sequence[int] = (3, 5, 9),
    stem_strides: Sequence[int] | None = None,
    dropout: float = 0.1,
    rows: int | None = None,
    budget: int | None = None,
    compile: Compile | None = None,
) -> SpaceHyperModel:
    """Networks for sequences of numbers, such as audio and measurements.

    Sources: Bai et al. 2018, "An Empirical Evaluation of Generic Convolutional and Recurrent
    Networks for Sequence Modeling" (dilated convolutions against LSTM and GRU); Vaswani et al.
    2017, "Attention Is All You Need"; Chu et al. 2021, "Conditional Positional Encodings for
    Vision Transformers": a convolution encodes positions for attention, at any length.

    Trainable parameters for 128 steps of 1 channel, 5 classes:
    2.8 k to 595 k (first: 19 k); see ``rows`` and ``budget``.

    Args:
        inputs: Number of steps, or None if it differs between batches, and of channels.
        classes: Number of classes.
        outputs: Number of values to predict, instead of ``classes``; or their shape, such as
            ``(24, 3)`` for a forecast of 24 steps and 3 channels.
        depths: Minimum and maximum number of blocks. Defaults to 1 and 4.
        widths: Options for the channels of all blocks. Defaults to 32, 64 and 128.
        kernels: Options for the kernel size of convolutions.
        stem_strides: Options for the strides of the first convolution. Defaults to those of 1,
            2 and 4 that keep 4 steps.
        dropout: Dropout rate of each block.
        rows: Number of training rows. The largest model then has at most 100 parameters per row,
            or 50,000 where that is more; see `docs/presets.md` for what is reduced. None does not
            limit the size.
        budget: Maximum number of trainable parameters of the largest model, instead of ``rows``.
        compile: See `SpaceHyperModel`. Defaults to Adam with the loss of the task.

    Raises:
        SearchSpaceError: An argument is invalid.
    """
    steps = shape_of("inputs", inputs, ("steps", "channels"))[0]
    if stem_strides is None:
        stem_strides = [n for n in (1, 2, 4) if n == 1 or steps is None or steps >= 4 * n]

    def build(**arguments: Any) -> SpaceHyperModel:
        space = sequence_1d_space(
            classes,
            outputs,
            kernels=kernels,
            stem_strides=stem_strides,
            dropout=dropout,
            **arguments,
        )
        return SpaceHyperModel(
            space,
            inputs=inputs,
            compile=compiled_for(classes) if compile is None else compile,
            name="sequence_1d",
            check=False,
        )

    return scaled(
        build,
        {"depths": (1, 4), "widths": (32, 64, 128)},
        {"depths": depths, "widths": widths},
        _SMALLER,
        rows=rows,
        budget=budget,
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
    """Only the description, to be part of a larger space; see `sequence_1d`.

    Decisions are named ``stem/filters`` (the channels of all blocks), ``stem/strides``,
    ``blocks/depth``, ``blocks/0`` (the kind of the first block),
    ``blocks/0/convolution/kernel_size`` and so on, and ``pool``.
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
        blocks=Repeat(block, fewest, most, default=min(max(2, fewest), most), counter="depth"),
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


def positioned() -> Callable[[KerasTensor], KerasTensor]:
    """Adds a depthwise convolution, whose zero padding encodes positions."""
    return lambda x: layers.Add()([x, layers.DepthwiseConv1D(3, padding="same")(x)])


def last_step() -> Callable[[KerasTensor], KerasTensor]:
    """The last step of a sequence, the most informative one for a forecast."""
    return lambda x: x[:, -1, :]
