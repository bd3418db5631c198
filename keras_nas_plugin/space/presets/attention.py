"""Blocks for sequences: functions that make stock Keras layers and call them.

Masks are tensors of their own, not those that Keras passes on implicitly: these are lost in
sums and convolutions. A mask has the shape (batch, steps), True for steps that count.
All blocks are residual and normalise first (Xiong et al. 2020, "On Layer Normalization in the
Transformer Architecture"): they train without a warm-up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import layers, ops

Block = Callable[[Any], Any]
EPSILON = 1e-5


def embedded(vocabulary: int, width: int, length: int, dropout: float) -> Block:
    """Tokens to vectors, with learned positions.

    Source: Gehring et al. 2017, "Convolutional Sequence to Sequence Learning", section 3.1.

    Args:
        vocabulary: How many tokens there are, 0 for padding included.
        width: Channels that come out.
        length: The longest sequence.
        dropout: Share of the values that are left out.
    """

    def call(tokens: Any) -> Any:
        positions = ops.cumsum(ops.ones_like(tokens, dtype="int32"), axis=1) - 1
        x = layers.Embedding(vocabulary, width)(tokens)
        x = layers.Add()([x, layers.Embedding(length, width)(positions)])
        return layers.Dropout(dropout)(x)

    return call


def token_mask() -> Block:
    """Which tokens count: those that are not 0."""
    return lambda tokens: ops.not_equal(tokens, 0)


def normalized(x: Any) -> Any:
    """LayerNormalization over channels."""
    return layers.LayerNormalization(epsilon=EPSILON)(x)


def silenced(x: Any, mask: Any) -> Any:
    """Zeros at the steps that do not count."""
    return x if mask is None else x * ops.expand_dims(ops.cast(mask, x.dtype), -1)


def steps_to_the_last(mask: Any) -> Any:
    """The first step, and all others up to the last one that counts.

    What cuDNN's recurrent layers take as a mask: no gaps, and no sequence without any step.
    """
    places = ops.cumsum(ops.ones_like(mask, dtype="int32"), axis=1) - 1
    last = ops.max(places * ops.cast(mask, "int32"), axis=1, keepdims=True)
    return places <= last


def masked_mean(x: Any, mask: Any) -> Any:
    """The mean over the steps that count; zeros where none does.

    Args:
        x: Shape (batch, steps, channels).
        mask: Shape (batch, steps).
    """
    count = ops.sum(ops.cast(mask, x.dtype), axis=1, keepdims=True)
    return ops.sum(silenced(x, mask), axis=1) / ops.maximum(count, 1)


def self_attention(heads: int, dropout: float = 0.0, causal: bool = False) -> Block:
    """Attention of each step to all others, or to the earlier ones.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.

    Args:
        heads: How many; each has its share of the channels.
        dropout: Share of the values that are left out.
        causal: Whether a step sees earlier steps only.

    Returns:
        A block that takes a sequence, or a list of it and its mask (and what else comes in).
    """

    def call(inputs: Any) -> Any:
        x, mask, *_ = inputs if isinstance(inputs, list) else (inputs, None)
        y = normalized(x)
        seen = None if mask is None else ops.expand_dims(mask, 1)
        y = _attention(x, heads, dropout)(y, y, attention_mask=seen, use_causal_mask=causal)
        return layers.Add()([x, layers.Dropout(dropout)(y)])

    return call


def cross_attention(heads: int, dropout: float = 0.0) -> Block:
    """Attention to a memory; takes the sequence, its mask, the memory and the memory's mask."""

    def call(inputs: Sequence[Any]) -> Any:
        x, _, memory, mask = inputs
        seen = ops.expand_dims(mask, 1)
        attention = _attention(x, heads, dropout)
        y = attention(normalized(x), normalized(memory), attention_mask=seen)
        return layers.Add()([x, layers.Dropout(dropout)(y)])

    return call


def _attention(x: Any, heads: int, dropout: float) -> Any:
    return layers.MultiHeadAttention(heads, max(1, x.shape[-1] // heads), dropout=dropout)


def feed_forward(ratio: int, dropout: float = 0.0) -> Block:
    """Two dense layers for each step by itself, ``ratio`` times as wide between."""

    def call(x: Any) -> Any:
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
        A block that takes a sequence, or a list of it and its mask.
    """

    def call(inputs: Any) -> Any:
        x, mask, *_ = inputs if isinstance(inputs, list) else (inputs, None)
        y = layers.SeparableConv1D(
            x.shape[-1], kernel_size, dilation_rate=dilation, padding="same", activation="gelu"
        )(silenced(normalized(x), mask))
        return layers.Add()([x, layers.Dropout(dropout)(layers.Dense(x.shape[-1])(y))])

    return call


def recurrent(
    cell: str, dropout: float = 0.0, bidirectional: bool = True, summary: bool = False
) -> Block:
    """A recurrent layer that returns all steps.

    Args:
        cell: ``"LSTM"`` or ``"GRU"``.
        dropout: Share of the values that are left out after it.
        bidirectional: Whether it runs both ways, each with half of the channels.
        summary: Whether it begins with the mean of a memory (Cho et al. 2014, "Learning
            Phrase Representations using RNN Encoder-Decoder", section 2.2).

    Returns:
        A block that takes a sequence, or a list of it, its mask, a memory and its mask.
    """
    # Forwards, padding at the end comes after all that counts: no mask is needed.
    layer = {"LSTM": layers.LSTM, "GRU": layers.GRU}[cell]

    def call(inputs: Any) -> Any:
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
        y = run(silenced(normalized(x), mask), initial_state=states, mask=run_mask)
        return layers.Add()([x, layers.Dropout(dropout)(layers.Dense(width)(y))])

    return call
