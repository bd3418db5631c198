"""Sequence to sequence: an encoder of the source, and a decoder that sees what it has written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras import layers

from keras_nas_plugin.space.choices import LayerChoice
from keras_nas_plugin.space.hypermodel import SpaceHyperModel
from keras_nas_plugin.space.nodes import Layer, Node, Sequential
from keras_nas_plugin.space.presets.attention import (
    Block,
    convolution,
    cross_attention,
    embedded,
    feed_forward,
    normalized,
    recurrent,
    self_attention,
    silenced,
    token_mask,
)
from keras_nas_plugin.space.presets.parts import Chain, Fork, Pick, Stage
from keras_nas_plugin.space.presets.tasks import (
    CLASSIFICATION,
    between,
    classifier,
    decided,
    numbers,
    positive,
    rate,
)
from keras_nas_plugin.space.values import ValueChoice

_CELLS = ("GRU", "LSTM")


def seq2seq(
    source_vocabulary: int = 10_000,
    target_vocabulary: int = 10_000,
    source_length: int = 64,
    target_length: int = 64,
    *,
    encoder_depths: tuple[int, int] = (1, 4),
    decoder_depths: tuple[int, int] = (1, 4),
    widths: Sequence[int] = (64, 128, 256),
    heads: Sequence[int] = (2, 4, 8),
    kernels: Sequence[int] = (3, 7, 15),
    ratios: Sequence[int] = (1, 2, 4),
    dropout: float = 0.1,
    compile: Mapping[str, Any] | Callable[[Any, Any], None] = CLASSIFICATION,
) -> SpaceHyperModel:
    """Encoders and decoders, of attention or recurrent, for translation and the like.

    The models take ``{"source": tokens, "target": tokens}`` and tell, at each step of the
    target, the probabilities of the next token. In training the target is the right answer
    (teacher forcing): inputs ``target[:, :-1]``, labels ``target[:, 1:]`` of texts that begin
    with a token for the start. 0 is padding, and counts neither as input nor in the loss.

    Sources: Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks", and
    Cho et al. 2014 (recurrent, the source as the first state); Bahdanau et al. 2015, "Neural
    Machine Translation by Jointly Learning to Align and Translate" (recurrent, attention to
    the source); Vaswani et al. 2017, "Attention Is All You Need".

    Args:
        source_vocabulary: How many tokens the source has, padding included.
        target_vocabulary: The same of the target.
        source_length: Tokens of the longest source. Shorter ones end in zeros.
        target_length: The same of the target.
        encoder_depths: Fewest and most blocks of the encoder.
        decoder_depths: The same of the decoder.
        widths: Channels of all blocks.
        heads: Of the attention of a block.
        kernels: Sizes of the convolution of an encoder's block.
        ratios: Channels within the feed-forward part, as multiples of the others.
        dropout: Everywhere.
        compile: See `SpaceHyperModel`.

    Raises:
        SearchSpaceError: An argument makes no sense.
    """
    space = seq2seq_space(
        source_vocabulary,
        target_vocabulary,
        source_length,
        target_length,
        encoder_depths=encoder_depths,
        decoder_depths=decoder_depths,
        widths=widths,
        heads=heads,
        kernels=kernels,
        ratios=ratios,
        dropout=dropout,
    )
    inputs = {"source": (source_length,), "target": (target_length,)}
    return SpaceHyperModel(space, inputs=inputs, compile=compile, name="seq2seq", check=False)


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
    """The description alone, of the inputs source and target; see `seq2seq`.

    Decisions are called ``width``, ``encoder/depth``, ``encoder/0/mixer``,
    ``encoder/0/feed_forward/ratio``, ``decoder/depth``, ``decoder/0/mixer`` and so on. The
    decoder's mixers are ``attention`` (to itself and to the source), ``recurrent`` (which
    begins with the mean of the encoded source) and ``recurrent_attention``.
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
    written = Fork(
        Sequential(Layer(marked), classifier(target_vocabulary)),
        decoder=_stage("decoder_depths", decoder_depths, decoding),
        mask=Pick(1),
    )
    return Fork(
        written,
        target=Pick(1, target),
        mask=Pick(1, _mask()),
        encoder=Pick(0, encoder),
        encoder_mask=Pick(0, _mask()),
    )


def _mask() -> Node:
    return Layer(token_mask)


def _last(**arguments: Any) -> Node:
    return Layer(feed_forward, **arguments)


def _stage(argument: str, depths: Any, block: Node) -> Node:
    fewest, most = between(argument, depths)
    return Stage(block, fewest, most, default=min(max(2, fewest), most))


def _encoding(heads: Sequence[int], kernels: Sequence[int], dropout: float) -> Node:
    return LayerChoice(
        {
            "attention": Layer(self_attention, heads=decided(heads, 4), dropout=dropout),
            "convolution": Layer(convolution, kernel_size=decided(kernels, 7), dropout=dropout),
            "recurrent": Layer(recurrent, cell=ValueChoice(_CELLS), dropout=dropout),
        }
    )


def _decoding(heads: Sequence[int], dropout: float) -> Node:
    forward = {"cell": ValueChoice(_CELLS), "dropout": dropout, "bidirectional": False}
    attention = {"heads": decided(heads, 4), "dropout": dropout}
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
    """Normalises, and makes a mask that Keras passes on to the loss and the metrics.

    Takes the sequence and its mask. Steps that do not count become zeros, which `Masking`
    finds; no other step is made of zeros alone after a normalisation.
    """
    return lambda inputs: layers.Masking()(silenced(normalized(inputs[0]), inputs[1]))
