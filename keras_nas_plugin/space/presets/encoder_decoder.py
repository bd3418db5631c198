"""Sequence to sequence: an encoder of the source and an autoregressive decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers

from keras_nas_plugin.space.language.base import Node
from keras_nas_plugin.space.language.choices import LayerChoice, Repeat
from keras_nas_plugin.space.language.hypermodel import Compile, SpaceHyperModel
from keras_nas_plugin.space.language.nodes import Layer, Sequential
from keras_nas_plugin.space.language.parts import Chain, Fork, Pick
from keras_nas_plugin.space.language.values import ValueChoice
from keras_nas_plugin.space.presets.attention import (
    Block,
    convolution,
    cross_attention,
    embedded,
    feed_forward,
    masked,
    normalized,
    recurrent,
    self_attention,
    token_mask,
)
from keras_nas_plugin.space.presets.scaling import Step, at_most, replaced, scaled, up_to
from keras_nas_plugin.space.presets.tasks import (
    CLASSIFICATION,
    between,
    classifier,
    decided,
    numbers,
    positive,
    rate,
)

_CELLS = ("GRU", "LSTM")
_SMALLER: Sequence[Step] = (
    ("widths", at_most(128)),
    ("ratios", at_most(2)),
    ("encoder_depths", up_to(2)),
    ("decoder_depths", up_to(2)),
    ("widths", replaced((32, 64))),
    ("widths", replaced((16, 32))),
    ("encoder_depths", up_to(1)),
    ("decoder_depths", up_to(1)),
    ("widths", replaced((8, 16))),
    ("widths", replaced((8,))),
)


def seq2seq(
    source_vocabulary: int = 10_000,
    target_vocabulary: int = 10_000,
    source_length: int = 64,
    target_length: int = 64,
    *,
    encoder_depths: tuple[int, int] | None = None,
    decoder_depths: tuple[int, int] | None = None,
    widths: Sequence[int] | None = None,
    heads: Sequence[int] = (2, 4, 8),
    kernels: Sequence[int] = (3, 7, 15),
    ratios: Sequence[int] | None = None,
    dropout: float = 0.1,
    rows: int | None = None,
    budget: int | None = None,
    compile: Compile = CLASSIFICATION,
) -> SpaceHyperModel:
    """Encoders and decoders with attention or recurrent layers, for tasks such as translation.

    The models take ``{"source": tokens, "target": tokens}`` and predict, at each step of the
    target, the probabilities of the next token. In training, the target is the correct output
    (teacher forcing): if texts begin with a start token, pass ``target[:, :-1]`` as input and
    ``target[:, 1:]`` as labels. 0 is padding, which affects neither the outputs nor the loss.

    Sources: Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks", and
    Cho et al. 2014 (recurrent, the source as the initial state); Bahdanau et al. 2015, "Neural
    Machine Translation by Jointly Learning to Align and Translate" (recurrent, attention to
    the source); Vaswani et al. 2017, "Attention Is All You Need".

    Trainable parameters for the default vocabularies:
    2.0 M to 17 M (first: 4.5 M); see ``rows`` and ``budget``.

    Args:
        source_vocabulary: Number of source tokens, including padding.
        target_vocabulary: The same for the target.
        source_length: Number of tokens of the longest source. Shorter ones are padded with zeros
            at the end.
        target_length: The same for the target.
        encoder_depths: Minimum and maximum number of blocks of the encoder. Defaults to 1 and 4.
        decoder_depths: The same for the decoder.
        widths: Options for the channels of all blocks. Defaults to 64, 128 and 256.
        heads: Options for the number of attention heads.
        kernels: Options for the kernel size of the encoder's convolutions.
        ratios: Options for the channels within the feed-forward part, as multiples of the width.
            Defaults to 1, 2 and 4.
        dropout: Dropout rate of the entire network.
        rows: Number of training rows. The largest model then has at most 100 parameters per row,
            or 50,000 where that is more; see `docs/presets.md` for what is reduced. None does not
            limit the size.
        budget: Maximum number of trainable parameters of the largest model, instead of ``rows``.
        compile: See `SpaceHyperModel`.

    Raises:
        SearchSpaceError: An argument is invalid.
    """
    inputs = {"source": (source_length,), "target": (target_length,)}

    def build(**arguments: Any) -> SpaceHyperModel:
        space = seq2seq_space(
            source_vocabulary,
            target_vocabulary,
            source_length,
            target_length,
            heads=heads,
            kernels=kernels,
            dropout=dropout,
            **arguments,
        )
        return SpaceHyperModel(space, inputs=inputs, compile=compile, name="seq2seq", check=False)

    return scaled(
        build,
        {
            "encoder_depths": (1, 4),
            "decoder_depths": (1, 4),
            "widths": (64, 128, 256),
            "ratios": (1, 2, 4),
        },
        {
            "encoder_depths": encoder_depths,
            "decoder_depths": decoder_depths,
            "widths": widths,
            "ratios": ratios,
        },
        _SMALLER,
        rows=rows,
        budget=budget,
    )


def seq2seq_space(
    source_vocabulary: int,
    target_vocabulary: int,
    source_length: int,
    target_length: int,
    *,
    encoder_depths: tuple[int, int] = (1, 4),
    decoder_depths: tuple[int, int] = (1, 4),
    widths: Sequence[int] = (64, 128, 256),
    heads: Sequence[int] = (2, 4, 8),
    kernels: Sequence[int] = (3, 7, 15),
    ratios: Sequence[int] = (1, 2, 4),
    dropout: float = 0.1,
) -> Node:
    """Only the description, which takes the inputs source and target in order; see `seq2seq`.

    Decisions are named ``width``, ``encoder/depth``, ``encoder/0/mixer``,
    ``encoder/0/feed_forward/ratio``, ``decoder/depth``, ``decoder/0/mixer`` and so on. The
    decoder's mixers are ``attention`` (to itself and to the source), ``recurrent`` (whose
    initial state is derived from the mean of the encoded source) and ``recurrent_attention``.
    """
    positive("source_vocabulary", source_vocabulary, least=2)
    positive("target_vocabulary", target_vocabulary, least=2)
    positive("source_length", source_length)
    positive("target_length", target_length)
    rate("dropout", dropout)
    shared = {"width": decided(numbers("widths", widths), 128, name="width"), "dropout": dropout}
    heads, kernels = numbers("heads", heads), numbers("kernels", kernels)
    last = {"ratio": decided(numbers("ratios", ratios), 2), "dropout": dropout}
    encoding = Sequential(mixer=_encoding(heads, kernels, dropout), feed_forward=_last(**last))
    decoding = Sequential(mixer=_decoding(heads, dropout), feed_forward=_last(**last))
    source = Layer(embedded, vocabulary=source_vocabulary, length=source_length, **shared)
    target = Layer(embedded, vocabulary=target_vocabulary, length=target_length, **shared)
    encoder = Fork(
        _stage("encoder_depths", encoder_depths, encoding), embedding=source, mask=_mask()
    )
    decoded = Fork(
        Sequential(Layer(marked), classifier(target_vocabulary)),
        decoder=_stage("decoder_depths", decoder_depths, decoding),
        mask=Pick(1),
    )
    return Fork(
        decoded,
        target=Pick(1, target),
        mask=Pick(1, _mask()),
        encoder=Pick(0, encoder),
        encoder_mask=Pick(0, _mask()),
    )


def _mask() -> Node:
    return Layer(token_mask)


def _last(**arguments: Any) -> Node:
    return Layer(feed_forward, **arguments)


def _stage(argument: str, depths: object, block: Node) -> Node:
    fewest, most = between(argument, depths)
    return Repeat(block, fewest, most, default=min(max(2, fewest), most), counter="depth")


def _encoding(heads: Sequence[int], kernels: Sequence[int], dropout: float) -> Node:
    return LayerChoice(
        {
            "attention": Layer(self_attention, heads=decided(heads, 4), dropout=dropout),
            "convolution": Layer(convolution, kernel_size=decided(kernels, 7), dropout=dropout),
            "recurrent": Layer(recurrent, cell=ValueChoice(_CELLS), dropout=dropout),
        }
    )


def _decoding(heads: Sequence[int], dropout: float) -> Node:
    forward: dict[str, Any] = {
        "cell": ValueChoice(_CELLS),
        "dropout": dropout,
        "bidirectional": False,
    }
    attention: dict[str, Any] = {"heads": decided(heads, 4), "dropout": dropout}
    return LayerChoice(
        {
            "attention": Chain(
                own=Layer(self_attention, causal=True, **attention),
                source=Layer(cross_attention, **attention),
            ),
            "recurrent": Layer(recurrent, summary=True, **forward),
            "recurrent_attention": Chain(
                own=Layer(recurrent, **forward), source=Layer(cross_attention, **attention)
            ),
        }
    )


def marked() -> Block:
    """Normalises, and adds a mask that Keras propagates to the loss and the metrics.

    Takes the sequence and its mask. Masked steps are set to zeros, which `Masking` detects;
    after normalisation, no other step consists of zeros only.
    """
    return lambda inputs: layers.Masking()(masked(normalized(inputs[0]), inputs[1]))
