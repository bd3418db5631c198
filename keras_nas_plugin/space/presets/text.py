"""Text: transformer encoders whose blocks mix tokens by attention or by convolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.space.choices import LayerChoice
from keras_nas_plugin.space.hypermodel import SpaceHyperModel
from keras_nas_plugin.space.nodes import Layer, Node, Sequential
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
from keras_nas_plugin.space.presets.parts import Fork, Pick, Stage
from keras_nas_plugin.space.presets.tasks import (
    between,
    compiled_for,
    decided,
    ending,
    numbers,
    positive,
    rate,
)


def text_transformer(
    vocabulary: int = 20_000,
    length: int = 256,
    classes: int | None = None,
    outputs: int | Sequence[int] | None = None,
    *,
    depths: tuple[int, int] = (1, 6),
    widths: Sequence[int] = (64, 128, 256),
    heads: Sequence[int] = (2, 4, 8),
    kernels: Sequence[int] = (3, 7, 15),
    ratios: Sequence[int] = (1, 2, 4),
    dropout: float = 0.1,
    compile: Mapping[str, Any] | Callable[[Any, Any], None] | None = None,
) -> SpaceHyperModel:
    """Transformer encoders for texts, whose result does not depend on padding.

    Sources: Vaswani et al. 2017, "Attention Is All You Need"; So et al. 2019, "The Evolved
    Transformer", section 3 (separable convolutions among the choices of a block).

    Args:
        vocabulary: How many tokens there are, padding included.
        length: Tokens of the longest text. Shorter ones end in zeros.
        classes: How many kinds of texts there are to tell apart.
        outputs: Numbers to predict, instead of ``classes``.
        depths: Fewest and most blocks.
        widths: Channels of all blocks.
        heads: Of the attention of a block.
        kernels: Sizes of the convolution of a block.
        ratios: Channels within the feed-forward part, as multiples of the others.
        dropout: Everywhere.
        compile: See `SpaceHyperModel`; what suits the task without it.

    Raises:
        SearchSpaceError: An argument makes no sense.
    """
    space = text_transformer_space(
        vocabulary,
        length,
        classes,
        outputs,
        depths=depths,
        widths=widths,
        heads=heads,
        kernels=kernels,
        ratios=ratios,
        dropout=dropout,
    )
    return SpaceHyperModel(
        space,
        inputs={"tokens": (length,)},
        compile=compiled_for(classes) if compile is None else compile,
        name="text_transformer",
        check=False,
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
    """The description alone; see `text_transformer`.

    Decisions are called ``embedding/width``, ``blocks/depth``, ``blocks/0/mixer``,
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
    blocks = Stage(block, fewest, most, default=min(max(2, fewest), most))
    after = Sequential(Layer(pooled_tokens), Layer("Dropout", rate=dropout), head)
    return Fork(
        Fork(after, blocks=blocks, mask=Pick(1)), embedding=embedding, mask=Layer(token_mask)
    )


def pooled_tokens() -> Block:
    """The normalised mean of the tokens that count; takes the sequence and its mask."""
    return lambda inputs: masked_mean(normalized(inputs[0]), inputs[1])
