"""Multiply-adds of one call of each built-in Keras layer, by closed formula.

Only multiplications with their additions in convolutions, matrix products and attention count,
as in papers: biases, normalisation, activations, pooling, softmax and sums do not. Padding is
multiplied like any other value. A subclass counts like its base as long as it does not override
`call`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from keras_nas_plugin.evaluation.graph import Shape, volume

#: Layer, shapes of its inputs, shapes of its outputs (batch 1) -> multiply-adds; None where the
#: formula does not cover the call.
Rule = Callable[[Any, Sequence[Shape], Sequence[Shape]], int | None]

# Names of `keras.layers` that only move, compare, add, scale or normalise values.
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

# Classes behind `keras.ops` that multiply no matrices. Keras exports the functions only, so
# that the class is known by its name.
_FREE_OPERATIONS = frozenset(
    """Abs Absolute Add Argmax Argmin BroadcastTo Cast Clip Concatenate Divide Elu Exp ExpandDims
    Flip Gelu GetItem HardSigmoid HardSilu HardSwish LeakyRelu Log LogSoftmax Max Maximum Mean Min
    Minimum Moveaxis Multiply Negative Pad Power Prod Relu Relu6 Repeat Reshape Roll Rsqrt Selu
    Sigmoid Silu Softmax Softplus Softsign Split Sqrt Square Squeeze Stack Subtract Sum Swapaxes
    Swish Take Tanh Tile Transpose TrueDivide Where""".split()
)


def rule_of(operation: Any) -> Rule | None:
    """The formula for a layer; None where there is none."""
    import keras

    if not isinstance(operation, keras.Layer):
        keras_own = type(operation).__module__.startswith("keras.")
        free = keras_own and type(operation).__name__ in _FREE_OPERATIONS
        return _nothing if free else None
    for known, rule in _rules().items():
        if isinstance(operation, known) and type(operation).call is known.call:
            return rule
    return None


@functools.cache
def _rules() -> dict[type, Rule]:
    import keras

    layers = keras.layers
    rules: dict[type, Rule] = {getattr(layers, name): _nothing for name in _FREE}
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
    rules[layers.GroupQueryAttention] = _grouped_attention
    return rules


def _nothing(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    return 0


def _plain(layer: Any) -> bool:
    """Whether a layer has only the weights of its formula: no LoRA, no gate of attention."""
    return not (getattr(layer, "lora_enabled", False) or getattr(layer, "use_gate", False))


def _dense(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    return volume(inputs[0]) * layer.units if _plain(layer) else None


def _einsum_dense(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    if not _plain(layer):
        return None
    return einsum_multiply_adds(layer.equation, [inputs[0], tuple(layer.kernel.shape)])


def einsum_multiply_adds(equation: str, shapes: Sequence[Shape]) -> int | None:
    """Multiply-adds of an `einsum` of two operands: the product of all its dimensions.

    Args:
        equation: For example ``"ab,bc->ac"``; an ellipsis stands for leading dimensions.
        shapes: Of the operands.

    Returns:
        None for another number of operands than two.

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


def _conv(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    # The kernel is [*kernel_size, channels / groups, filters].
    positions = volume(outputs[0]) // layer.filters
    return positions * volume(layer.kernel.shape) if _plain(layer) else None


def _transposed(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    # The kernel is [*kernel_size, filters, channels]: each input value meets all of it.
    positions = volume(inputs[0]) // layer.kernel.shape[-1]
    return positions * volume(layer.kernel.shape)


def _depthwise(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    return volume(outputs[0]) * volume(layer.kernel.shape[:-2])


def _separable(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    positions = volume(outputs[0]) // layer.filters
    return positions * (
        volume(layer.depthwise_kernel.shape) + volume(layer.pointwise_kernel.shape)
    )


def _cell(cell: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    return volume(cell.kernel.shape) + volume(cell.recurrent_kernel.shape)


def _recurrent(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    return inputs[0][1] * _cell(layer.cell, inputs, outputs)


def _attention(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    """Projections of query, key, value and result, scores, and the sum of values."""
    denses = (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
    if any(len(shape) != 3 for shape in inputs[:2]) or not all(map(_plain, (layer, *denses))):
        return None
    query, value = inputs[0], inputs[1]
    queries, values = query[1], value[1]
    projections = [volume(dense.kernel.shape) for dense in denses]
    heads = layer.num_heads * (layer.key_dim + layer.value_dim)
    inner = queries * values * heads
    return queries * (projections[0] + projections[3]) + values * sum(projections[1:3]) + inner


def _grouped_attention(
    layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> int | None:
    if len(inputs) != 2 or any(len(shape) != 3 for shape in inputs) or not _plain(layer):
        return None
    query, value = inputs
    width = layer.num_query_heads * layer.head_dim
    shared = layer.num_key_value_heads * layer.head_dim
    projections = query[1] * width * (query[2] + outputs[0][-1]) + 2 * volume(value) * shared
    return projections + 2 * query[1] * value[1] * width
