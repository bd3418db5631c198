"""Multiply-adds of one call of each built-in Keras layer, by closed formula.

Only multiplications with their additions in convolutions, matrix products and attention count,
as in papers: biases, normalisation, activations, pooling, softmax and sums do not. Padding is
multiplied like any other value. A subclass counts like its base class unless it overrides `call`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from keras_nas_plugin.evaluation.graph import Shape, volume

if TYPE_CHECKING:
    import keras

#: Maps a layer, the shapes of its inputs and those of its outputs (batch 1) to the number of
#: multiply-adds, or to None if the formula does not cover the call.
Rule = Callable[["keras.Layer", Sequence[Shape], Sequence[Shape]], int | None]

# Layers of `keras.layers` that only move, compare, add, scale or normalise values.
_FREE = """
Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add
AlphaDropout Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization
Concatenate Cropping1D Cropping2D Cropping3D Dropout ELU Embedding Flatten GaussianDropout
GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization Identity InputLayer
LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum
Multiply Normalization PReLU Permute RMSNormalization RandomBrightness RandomContrast RandomFlip
ReLU RepeatVector Rescaling Reshape Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D
Subtract UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D
ZeroPadding3D
""".split()

# Classes behind `keras.ops` that multiply no matrices. Keras exports only the functions, so the
# classes are recognised by name.
_FREE_OPERATIONS = frozenset(
    """Abs Absolute Add Argmax Argmin BroadcastTo Cast Clip Concatenate Divide Elu Exp ExpandDims
    Flip Gelu GetItem HardSigmoid HardSilu HardSwish LeakyRelu Log LogSoftmax Max Maximum Mean Min
    Minimum Moveaxis Multiply Negative Pad Power Prod Relu Relu6 Repeat Reshape Roll Rsqrt Selu
    Sigmoid Silu Softmax Softplus Softsign Split Sqrt Square Squeeze Stack Subtract Sum Swapaxes
    Swish Take Tanh Tile Transpose TrueDivide Where""".split()
)


def rule_of(operation: keras.Operation) -> Rule | None:
    """The formula for a layer; None if there is none."""
    import keras

    if not isinstance(operation, keras.Layer):
        from_keras = type(operation).__module__.startswith("keras.")
        free = from_keras and type(operation).__name__ in _FREE_OPERATIONS
        return _nothing if free else None
    for layer, rule in _rules().items():
        if isinstance(operation, layer) and type(operation).call is layer.call:
            return rule
    return None


@functools.cache
def _rules() -> dict[type[keras.Layer], Rule]:
    import keras

    layers = keras.layers
    rules: dict[type[keras.Layer], Rule] = {getattr(layers, name): _nothing for name in _FREE}
    rules |= {layers.Dense: _dense, layers.EinsumDense: _einsum_dense}
    for dimensions in "123":
        rules[getattr(layers, f"Conv{dimensions}D")] = _conv
        rules[getattr(layers, f"Conv{dimensions}DTranspose")] = _transposed
    for dimensions in "12":
        rules[getattr(layers, f"DepthwiseConv{dimensions}D")] = _depthwise
        rules[getattr(layers, f"SeparableConv{dimensions}D")] = _separable
    rules |= dict.fromkeys([layers.LSTM, layers.GRU, layers.SimpleRNN], _recurrent)
    rules |= dict.fromkeys([layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell], _cell)
    rules[layers.MultiHeadAttention] = _attention
    rules[layers.MelSpectrogram] = _mel_spectrogram
    rules[layers.GroupQueryAttention] = _grouped_attention
    return rules


def _nothing(layer: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    return 0


def _is_standard(layer: keras.Layer) -> bool:
    """Whether a layer has only the weights that its formula counts: no LoRA, no attention gate."""
    return not (getattr(layer, "lora_enabled", False) or getattr(layer, "use_gate", False))


def _dense(layer: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    return volume(inputs[0]) * layer.units if _is_standard(layer) else None


def _einsum_dense(
    layer: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> int | None:
    if not _is_standard(layer):
        return None
    return einsum_multiply_adds(layer.equation, [inputs[0], tuple(layer.kernel.shape)])


def einsum_multiply_adds(equation: str, shapes: Sequence[Shape]) -> int | None:
    """Multiply-adds of an `einsum` of two operands: the product of all its dimensions.

    Args:
        equation: For example ``"ab,bc->ac"``; an ellipsis stands for leading dimensions.
        shapes: Shapes of the operands.

    Returns:
        The number of multiply-adds; None unless there are two operands.

    >>> einsum_multiply_adds("ab,bc->ac", [(2, 3), (3, 4)])
    24
    >>> einsum_multiply_adds("...x,xy->...y", [(1, 5, 3), (3, 4)])
    60
    """
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if len(terms) != 2:
        return None
    sizes: dict[str | int, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        before, ellipsis, after = term.partition("...")
        hidden = len(shape) - len(before) - len(after) if ellipsis else 0
        # Dimensions under an ellipsis are aligned at their end.
        names = [*before, *range(-hidden, 0), *after]
        for name, size in zip(names, shape, strict=True):
            sizes[name] = max(sizes.get(name, 1), size)
    return math.prod(sizes.values())


def _conv(layer: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    # The kernel is [*kernel_size, channels / groups, filters].
    positions = volume(outputs[0]) // layer.filters
    return positions * volume(layer.kernel.shape) if _is_standard(layer) else None


def _transposed(
    layer: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> int | None:
    # The kernel is [*kernel_size, filters, channels]: each input position uses all of it.
    positions = volume(inputs[0]) // layer.kernel.shape[-1]
    return positions * volume(layer.kernel.shape)


def _depthwise(
    layer: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> int | None:
    return volume(outputs[0]) * volume(layer.kernel.shape[:-2])


def _separable(
    layer: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> int | None:
    positions = volume(outputs[0]) // layer.filters
    return positions * (
        volume(layer.depthwise_kernel.shape) + volume(layer.pointwise_kernel.shape)
    )


def _mel_spectrogram(
    layer: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> int | None:
    # A Fourier transform of n real numbers takes 2.5 n log2(n) operations (Cooley & Tukey 1965),
    # half of which are multiplications; the frequencies are then multiplied with the mel bands.
    frames, size = outputs[0][-1], layer.fft_length
    return round(frames * (1.25 * size * math.log2(size) + (size // 2 + 1) * layer.num_mel_bins))


def _cell(cell: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    return volume(cell.kernel.shape) + volume(cell.recurrent_kernel.shape)


def _recurrent(layer: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    return inputs[0][1] * _cell(layer.cell, inputs, outputs)


def _attention(
    layer: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> int | None:
    """Projections of query, key, value and output; attention scores; weighted sum of values."""
    denses = (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
    if any(len(shape) != 3 for shape in inputs[:2]) or not all(
        map(_is_standard, (layer, *denses))
    ):
        return None
    query, value = inputs[0], inputs[1]
    queries, values = query[1], value[1]
    projections = [volume(dense.kernel.shape) for dense in denses]
    width = layer.num_heads * (layer.key_dim + layer.value_dim)
    attention = queries * values * width
    return queries * (projections[0] + projections[3]) + values * sum(projections[1:3]) + attention


def _grouped_attention(
    layer: keras.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> int | None:
    if len(inputs) != 2 or any(len(shape) != 3 for shape in inputs) or not _is_standard(layer):
        return None
    query, value = inputs
    width = layer.num_query_heads * layer.head_dim
    shared = layer.num_key_value_heads * layer.head_dim
    projections = query[1] * width * (query[2] + outputs[0][-1]) + 2 * volume(value) * shared
    return projections + 2 * query[1] * value[1] * width
