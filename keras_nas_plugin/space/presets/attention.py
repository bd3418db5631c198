"""Blocks for sequences: functions that create and call standard Keras layers.

Masks are explicit tensors, because the masks that Keras propagates implicitly are lost in sums
and convolutions. A mask has the shape (batch, steps), True for steps that are not padding.
All blocks are residual and normalise their input first (Xiong et al. 2020, "On Layer Normalization
in the Transformer Architecture"), so that training needs no warm-up of the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import KerasTensor, layers, ops

#: Takes a tensor, or a list of tensors such as a sequence and its mask.
Block = Callable[[Any], KerasTensor]
EPSILON = 1e-5


def embedded(vocabulary: int, width: int, length: int, dropout: float) -> Block:
    """Embeds tokens and their positions as learned vectors.

    Source: Gehring et al. 2017, "Convolutional Sequence to Sequence Learning", section 3.1.

    Args:
        vocabulary: Number of tokens, including 0 for padding.
        width: Output channels.
        length: Length of the longest sequence.
        dropout: Dropout rate.
    """

    def call(tokens: KerasTensor) -> KerasTensor:
        positions = ops.cumsum(ops.ones_like(tokens, dtype="int32"), axis=1) - 1
        x = layers.Embedding(vocabulary, width)(tokens)
        x = layers.Add()([x, layers.Embedding(length, width)(positions)])
        return layers.Dropout(dropout)(x)

    return call


def token_mask() -> Block:
    """A mask of the tokens that are not padding (0)."""
    return lambda tokens: ops.not_equal(tokens, 0)


def normalized(x: KerasTensor) -> KerasTensor:
    """LayerNormalization over channels."""
    return layers.LayerNormalization(epsilon=EPSILON)(x)


def masked(x: KerasTensor, mask: KerasTensor) -> KerasTensor:
    """The sequence with zeros at masked steps."""
    return x if mask is None else x * ops.expand_dims(ops.cast(mask, x.dtype), -1)


def steps_to_the_last(mask: KerasTensor) -> KerasTensor:
    """A mask of the first step and all steps up to the last one in ``mask``.

    cuDNN's recurrent layers require masks without gaps, with at least one step.
    """
    positions = ops.cumsum(ops.ones_like(mask, dtype="int32"), axis=1) - 1
    last = ops.max(positions * ops.cast(mask, "int32"), axis=1, keepdims=True)
    return positions <= last


def masked_mean(x: KerasTensor, mask: KerasTensor) -> KerasTensor:
    """The mean over the steps in the mask; zeros if there are none.

    Args:
        x: Shape (batch, steps, channels).
        mask: Shape (batch, steps).
    """
    count = ops.sum(ops.cast(mask, x.dtype), axis=1, keepdims=True)
    return ops.sum(masked(x, mask), axis=1) / ops.maximum(count, 1)


def self_attention(heads: int, dropout: float = 0.0, causal: bool = False) -> Block:
    """Attention of each step to all steps, or to the preceding ones.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.

    Args:
        heads: Number of heads, among which the channels are divided.
        dropout: Dropout rate.
        causal: Whether a step attends to itself and earlier steps only.

    Returns:
        A block that takes a sequence, or a list that begins with a sequence and its mask.
    """

    def call(inputs: KerasTensor | list[KerasTensor]) -> KerasTensor:
        x, mask, *_ = inputs if isinstance(inputs, list) else (inputs, None)
        y = normalized(x)
        attention_mask = None if mask is None else ops.expand_dims(mask, 1)
        y = _attention(x, heads, dropout)(
            y, y, attention_mask=attention_mask, use_causal_mask=causal
        )
        return layers.Add()([x, layers.Dropout(dropout)(y)])

    return call


def cross_attention(heads: int, dropout: float = 0.0) -> Block:
    """Attention to another sequence; takes a sequence, its mask, the other one and its mask."""

    def call(inputs: Sequence[KerasTensor]) -> KerasTensor:
        x, _, memory, mask = inputs
        attention_mask = ops.expand_dims(mask, 1)
        attention = _attention(x, heads, dropout)
        y = attention(normalized(x), normalized(memory), attention_mask=attention_mask)
        return layers.Add()([x, layers.Dropout(dropout)(y)])

    return call


def _attention(x: KerasTensor, heads: int, dropout: float) -> KerasTensor:
    return layers.MultiHeadAttention(heads, max(1, x.shape[-1] // heads), dropout=dropout)


def feed_forward(ratio: int, dropout: float = 0.0) -> Block:
    """Two dense layers applied to each step, with ``ratio`` times as many channels in between."""

    def call(x: KerasTensor) -> KerasTensor:
        width = x.shape[-1]
        y = layers.Dense(width * ratio, activation="gelu")(normalized(x))
        return layers.Add()([x, layers.Dropout(dropout)(layers.Dense(width)(y))])

    return call


def convolution(kernel_size: int, dropout: float = 0.0, dilation: int = 1) -> Block:
    """A separable convolution along the sequence.

    Source: Kaiser et al. 2018, "Depthwise Separable Convolutions for Neural Machine
    Translation"; dilated as in Bai et al. 2018, "An Empirical Evaluation of Generic
    Convolutional and Recurrent Networks for Sequence Modeling".

    Returns:
        A block that takes a sequence, or a list that begins with a sequence and its mask.
    """

    def call(inputs: KerasTensor | list[KerasTensor]) -> KerasTensor:
        x, mask, *_ = inputs if isinstance(inputs, list) else (inputs, None)
        y = layers.SeparableConv1D(
            x.shape[-1], kernel_size, dilation_rate=dilation, padding="same", activation="gelu"
        )(masked(normalized(x), mask))
        return layers.Add()([x, layers.Dropout(dropout)(layers.Dense(x.shape[-1])(y))])

    return call


def recurrent(
    cell: str, dropout: float = 0.0, bidirectional: bool = True, summary: bool = False
) -> Block:
    """A recurrent layer that returns all steps.

    Args:
        cell: ``"LSTM"`` or ``"GRU"``.
        dropout: Dropout rate of its outputs.
        bidirectional: Whether it runs in both directions, each with half of the channels.
        summary: Whether its initial state is derived from the mean of another sequence (Cho et
            al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder",
            section 2.2).

    Returns:
        A block that takes a sequence, or a list of a sequence, its mask, another sequence and
        its mask.
    """
    # A forward layer needs no mask: padding is at the end and cannot affect the steps before it.
    layer = {"LSTM": layers.LSTM, "GRU": layers.GRU}[cell]

    def call(inputs: KerasTensor | list[KerasTensor]) -> KerasTensor:
        x, mask, *memory = inputs if isinstance(inputs, list) else (inputs, None)
        width = x.shape[-1]
        if bidirectional:
            run = layers.Bidirectional(layer(-(-width // 2), return_sequences=True))
        else:
            run = layer(width, return_sequences=True)
        run_mask = steps_to_the_last(mask) if bidirectional and mask is not None else None
        states = None
        if summary:
            mean = masked_mean(*memory)
            states = [
                layers.Dense(width, activation="tanh")(mean)
                for _ in range(2 if cell == "LSTM" else 1)
            ]
        y = run(masked(normalized(x), mask), initial_state=states, mask=run_mask)
        return layers.Add()([x, layers.Dropout(dropout)(layers.Dense(width)(y))])

    return call
