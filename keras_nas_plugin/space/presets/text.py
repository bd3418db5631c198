"""Text: transformer encoders whose blocks mix tokens by attention or by convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_nas_plugin.space.language.base import Node
from keras_nas_plugin.space.language.choices import LayerChoice, Repeat
from keras_nas_plugin.space.language.hypermodel import Compile, SpaceHyperModel
from keras_nas_plugin.space.language.nodes import Layer, Sequential
from keras_nas_plugin.space.language.parts import Fork, Pick
from keras_nas_plugin.space.presets.attention import (
    Block,
    convolution,
    embedded,
    feed_forward,
    masked_mean,
    normalized,
    self_attention,
    token_mask,
)
from keras_nas_plugin.space.presets.scaling import Step, at_most, replaced, scaled, up_to
from keras_nas_plugin.space.presets.tasks import (
    between,
    compiled_for,
    decided,
    ending,
    numbers,
    positive,
    rate,
)

_SMALLER: Sequence[Step] = (
    ("widths", at_most(128)),
    ("ratios", at_most(2)),
    ("depths", up_to(4)),
    ("widths", replaced((32, 64))),
    ("depths", up_to(2)),
    ("widths", replaced((16, 32))),
    ("widths", replaced((8, 16))),
    ("depths", up_to(1)),
    ("widths", replaced((8,))),
)


def text_transformer(
    vocabulary: int = 20_000,
    length: int = 256,
    classes: int | None = None,
    outputs: int | Sequence[int] | None = None,
    *,
    depths: tuple[int, int] | None = None,
    widths: Sequence[int] | None = None,
    heads: Sequence[int] = (2, 4, 8),
    kernels: Sequence[int] = (3, 7, 15),
    ratios: Sequence[int] | None = None,
    dropout: float = 0.1,
    rows: int | None = None,
    budget: int | None = None,
    compile: Compile | None = None,
) -> SpaceHyperModel:
    """Transformer encoders for texts; the result does not depend on padding.

    Sources: Vaswani et al. 2017, "Attention Is All You Need"; So et al. 2019, "The Evolved
    Transformer", section 3 (separable convolutions among the choices of a block).

    Trainable parameters for the default vocabulary, 2 classes:
    1.3 M to 9.9 M (first: 2.9 M); see ``rows`` and ``budget``.

    Args:
        vocabulary: Number of tokens, including padding.
        length: Number of tokens of the longest text. Shorter texts are padded with zeros at the
            end.
        classes: Number of classes of texts.
        outputs: Number of values to predict, or their shape, instead of ``classes``.
        depths: Minimum and maximum number of blocks. Defaults to 1 and 6.
        widths: Options for the channels of all blocks. Defaults to 64, 128 and 256.
        heads: Options for the number of attention heads.
        kernels: Options for the kernel size of the convolution.
        ratios: Options for the channels within the feed-forward part, as multiples of the width.
            Defaults to 1, 2 and 4.
        dropout: Dropout rate of the entire network.
        rows: Number of training rows. The largest model then has at most 100 parameters per row,
            or 50,000 where that is more; see `docs/presets.md` for what is reduced. None does not
            limit the size.
        budget: Maximum number of trainable parameters of the largest model, instead of ``rows``.
        compile: See `SpaceHyperModel`. Defaults to Adam with the loss of the task.

    Raises:
        SearchSpaceError: An argument is invalid.
    """

    def build(**arguments: Any) -> SpaceHyperModel:
        space = text_transformer_space(
            vocabulary,
            length,
            classes,
            outputs,
            heads=heads,
            kernels=kernels,
            dropout=dropout,
            **arguments,
        )
        return SpaceHyperModel(
            space,
            inputs={"tokens": (length,)},
            compile=compiled_for(classes) if compile is None else compile,
            name="text_transformer",
            check=False,
        )

    return scaled(
        build,
        {"depths": (1, 6), "widths": (64, 128, 256), "ratios": (1, 2, 4)},
        {"depths": depths, "widths": widths, "ratios": ratios},
        _SMALLER,
        rows=rows,
        budget=budget,
    )


def text_transformer_space(
    vocabulary: int,
    length: int,
    classes: int | None = None,
    outputs: int | Sequence[int] | None = None,
    *,
    depths: tuple[int, int] = (1, 6),
    widths: Sequence[int] = (64, 128, 256),
    heads: Sequence[int] = (2, 4, 8),
    kernels: Sequence[int] = (3, 7, 15),
    ratios: Sequence[int] = (1, 2, 4),
    dropout: float = 0.1,
) -> Node:
    """Only the description, to be part of a larger space; see `text_transformer`.

    Decisions are named ``embedding/width``, ``blocks/depth``, ``blocks/0/mixer``,
    ``blocks/0/mixer/attention/heads``, ``blocks/0/mixer/convolution/kernel_size`` and
    ``blocks/0/feed_forward/ratio``.
    """
    head = ending(classes, outputs)
    positive("vocabulary", vocabulary, least=2)
    positive("length", length)
    fewest, most = between("depths", depths)
    widths, heads = numbers("widths", widths), numbers("heads", heads)
    kernels, ratios = numbers("kernels", kernels), numbers("ratios", ratios)
    rate("dropout", dropout)
    mixer = LayerChoice(
        {
            "attention": Layer(self_attention, heads=decided(heads, 4), dropout=dropout),
            "convolution": Layer(convolution, kernel_size=decided(kernels, 7), dropout=dropout),
        }
    )
    block = Sequential(
        mixer=mixer,
        feed_forward=Layer(feed_forward, ratio=decided(ratios, 2), dropout=dropout),
    )
    embedding = Layer(
        embedded,
        vocabulary=vocabulary,
        width=decided(widths, 128),
        length=length,
        dropout=dropout,
    )
    blocks = Repeat(block, fewest, most, default=min(max(2, fewest), most), counter="depth")
    after = Sequential(Layer(pooled_tokens), Layer("Dropout", rate=dropout), head)
    return Fork(
        Fork(after, blocks=blocks, mask=Pick(1)), embedding=embedding, mask=Layer(token_mask)
    )


def pooled_tokens() -> Block:
    """The mean of the normalised tokens without padding; takes the sequence and its mask."""
    return lambda inputs: masked_mean(normalized(inputs[0]), inputs[1])
