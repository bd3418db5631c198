"""Counts against published figures, closed formulas, and each other."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_nas_plugin import count_flops, count_parameters
from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation.flops import CostWarning
from keras_nas_plugin.evaluation.traced import Untraceable, traced_multiply_adds
from keras_nas_plugin.space.presets import nas_bench_201

EDGES = ("0to1", "0to2", "1to2", "0to3", "1to3", "2to3")


@pytest.mark.parametrize(
    ("name", "millions", "parameters"),
    [
        # Howard et al. 2019, "Searching for MobileNetV3", table 3: V3-Small 1.0, 56 M, 2.5 M.
        ("MobileNetV3Small", 56, 2.5e6),
        # Sandler et al. 2018, "MobileNetV2", table 4: 300 M, 3.4 M (3.5 M with the biases and
        # normalisation that Keras has).
        ("MobileNetV2", 300, 3.5e6),
        # Hu et al. 2018, "Squeeze-and-Excitation Networks", table 2: ResNet-50 3.86 G, with the
        # stride in the first 1x1 convolution, as Keras has it; He et al. 2016 say 3.8 G.
        ("ResNet50", 3_860, 25.6e6),
        # torchvision's `EfficientNet_B0_Weights`: 0.386 G, 5,288,548 parameters. Tan & Le 2019,
        # "EfficientNet", table 2, round it to 0.39 G and 5.3 M.
        ("EfficientNetB0", 386, 5_288_548),
    ],
)
def test_published_networks_cost_what_was_published(name, millions, parameters):
    model = getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3))
    assert count_flops(model) / 1e6 == pytest.approx(millions, rel=0.01)
    assert count_flops(model, per_multiply_add=2) == 2 * count_flops(model)
    trained = count_parameters(model, trainable_only=True)
    assert trained == pytest.approx(parameters, rel=0.02)
    assert count_parameters(model) == model.count_params() > trained


def nas_bench_201_cost(operations):
    """Multiply-adds and weights of a network of NAS-Bench-201, from its description alone."""
    flops, weights = 32 * 32 * 16 * 3 * 9, 3 * 16 * 9 + 2 * 16
    kernels = [{"nor_conv_1x1": 1, "nor_conv_3x3": 9}.get(one, 0) for one in operations]
    for stage, width in enumerate((16, 32, 64)):
        positions = (32 >> stage) ** 2
        for kernel in kernels:
            flops += 5 * positions * width * width * kernel
            weights += 5 * (width * width * kernel + (2 * width if kernel else 0))
        if stage < 2:
            # The residual block after it: two 3x3 convolutions and a 1x1 beside them.
            wide, smaller = 2 * width, positions // 4
            block = width * wide * 9 + wide * wide * 9 + width * wide
            flops += smaller * block
            weights += block + 4 * wide
    return flops + 64 * 10, weights + 2 * 64 + 64 * 10 + 10


@pytest.mark.parametrize(
    ("operations", "millions", "weights"),
    [
        (["nor_conv_3x3"] * 6, 220.12, 1.532),
        # The example of the benchmark's paper, with its figures.
        (["nor_conv_3x3"] * 3 + ["skip_connect"] + ["nor_conv_3x3"] * 2, 184.73, 1.289),
        (["none", "avg_pool_3x3", "nor_conv_1x1", "skip_connect"] + ["nor_conv_1x1"] * 2, 0, 0),
    ],
)
def test_nas_bench_201_follows_its_formula(operations, millions, weights):
    values = {f"cell/{e}": o for e, o in zip(EDGES, operations, strict=True)}
    model = nas_bench_201().build_values(values)
    found = count_flops(model), count_parameters(model, trainable_only=True)
    assert found == nas_bench_201_cost(operations)
    if millions:
        assert round(found[0] / 1e6, 2) == millions
        assert round(found[1] / 1e6, 3) == weights


def sequence():
    return keras.Input((7, 6))


def image():
    return keras.Input((9, 8, 4))


def of(layer, *shapes, **options):
    """A model of one layer on inputs of these shapes."""
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(*inputs, **options))


# A model and its multiply-adds, by hand.
BUILT_IN = {
    "dense": (lambda: of(layers.Dense(5), (7, 6)), 7 * 6 * 5),
    "einsum": (lambda: of(layers.EinsumDense("abc,cde->abde", (7, 2, 5)), (7, 6)), 7 * 6 * 10),
    "ellipsis": (lambda: of(layers.EinsumDense("...x,xy->...y", 5), (3, 7, 6)), 21 * 6 * 5),
    "conv1d": (lambda: of(layers.Conv1D(5, 3), (7, 6)), 5 * 5 * 3 * 6),
    "causal": (lambda: of(layers.Conv1D(5, 3, padding="causal"), (7, 6)), 7 * 5 * 3 * 6),
    "dilated": (lambda: of(layers.Conv2D(5, 3, dilation_rate=2), (10, 8, 4)), 6 * 4 * 5 * 9 * 4),
    "conv2d": (lambda: of(layers.Conv2D(6, 3, strides=2), (9, 8, 4)), 4 * 3 * 6 * 9 * 4),
    "groups": (lambda: of(layers.Conv2D(6, 3, groups=2), (9, 8, 4)), 7 * 6 * 6 * 9 * 2),
    "conv3d": (lambda: of(layers.Conv3D(2, 3), (5, 5, 5, 3)), 27 * 2 * 27 * 3),
    "depthwise": (
        lambda: of(layers.DepthwiseConv2D(3, depth_multiplier=2), (9, 8, 4)),
        7 * 6 * 8 * 9,
    ),
    "depthwise1d": (lambda: of(layers.DepthwiseConv1D(3), (9, 4)), 7 * 4 * 3),
    "separable": (
        lambda: of(layers.SeparableConv2D(5, 3), (9, 8, 4)),
        7 * 6 * 4 * 9 + 7 * 6 * 4 * 5,
    ),
    "separable1d": (lambda: of(layers.SeparableConv1D(5, 3), (9, 4)), 7 * 4 * 3 + 7 * 4 * 5),
    "transposed": (
        lambda: of(layers.Conv2DTranspose(5, 3, strides=2), (4, 4, 3)),
        16 * 3 * 9 * 5,
    ),
    "transposed1d": (lambda: of(layers.Conv1DTranspose(5, 3), (4, 3)), 4 * 3 * 3 * 5),
    "transposed3d": (lambda: of(layers.Conv3DTranspose(2, 2), (3, 3, 3, 2)), 27 * 2 * 8 * 2),
    "lstm": (lambda: of(layers.LSTM(5), (7, 6)), 7 * 4 * (6 * 5 + 5 * 5)),
    "gru": (lambda: of(layers.GRU(5, return_sequences=True), (7, 6)), 7 * 3 * 55),
    "rnn": (lambda: of(layers.SimpleRNN(5), (7, 6)), 7 * 55),
    "bidirectional": (lambda: of(layers.Bidirectional(layers.GRU(5)), (7, 6)), 2 * 7 * 3 * 55),
    "distributed": (
        lambda: of(layers.TimeDistributed(layers.Conv2D(5, 3)), (3, 6, 6, 2)),
        3 * 16 * 5 * 9 * 2,
    ),
    "attention": (
        lambda: of(layers.MultiHeadAttention(2, 3, value_dim=4), (7, 6), (5, 8)),
        # Query, key, value, scores, values by scores, result.
        7 * 6 * 6 + 5 * 8 * 6 + 5 * 8 * 8 + 7 * 5 * 6 + 7 * 5 * 8 + 7 * 8 * 6,
    ),
    "grouped": (
        lambda: of(layers.GroupQueryAttention(3, 4, 2), (7, 6), (5, 6)),
        7 * 6 * 12 + 2 * 5 * 6 * 6 + 2 * 7 * 5 * 12 + 7 * 12 * 6,
    ),
    "embedding": (lambda: of(layers.Embedding(11, 4), (7,)), 0),
    "dot": (lambda: of(Pair(layers.Dot(axes=2)), (7, 6), (5, 6)), 7 * 5 * 6),
    "matmul": (lambda: of(lambda a, b: keras.ops.matmul(a, b), (7, 6), (6, 5)), 7 * 6 * 5),
    "cheap": (
        lambda: of(
            lambda a: keras.ops.softmax(layers.BatchNormalization()(a) * 2.0)[:, 1:], (7, 6)
        ),
        0,
    ),
}


class Pair(layers.Layer):
    """Calls a layer that takes a list on two tensors."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, first, second):
        return self.layer([first, second])


def traced(model):
    specs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    return traced_multiply_adds(lambda *xs: model(list(xs) if len(xs) > 1 else xs[0]), specs)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_layer_counts_as_its_formula_and_as_its_graph(name):
    make, expected = BUILT_IN[name]
    model = make()
    assert count_flops(model) == expected
    # TensorFlow's own graph of the model, which knows no layers, has as many.
    assert traced(model) == expected


def test_the_graph_agrees_on_whole_networks():
    model = keras.applications.MobileNetV3Small(
        weights=None, input_shape=(64, 64, 3), minimalistic=True
    )
    assert traced(model) == count_flops(model)


@pytest.mark.parametrize("kind", ["lora", "gate"])
def test_weights_beyond_the_formula_are_counted_by_the_graph(kind):
    if kind == "lora":
        model = of(layers.Dense(5), (7, 6))
        model.layers[-1].enable_lora(2)
        # The change of the kernel is multiplied out on each call.
        expected = 7 * 6 * 5 + 6 * 2 * 5
    else:
        model = of(layers.GroupQueryAttention(3, 4, 2, use_gate=True), (7, 6), (5, 6))
        expected = BUILT_IN["grouped"][1] + 7 * 6 * 12
    assert count_flops(model) == traced(model) == expected


def test_a_shared_layer_counts_per_call_and_a_nested_model_with_its_layers():
    shared = layers.Dense(6)
    inner_input = keras.Input((6,))
    inner = keras.Model(inner_input, shared(layers.Dense(6)(inner_input)))
    outer_input = keras.Input((6,))
    outer = keras.Model(outer_input, inner(inner(shared(outer_input))))
    assert count_flops(outer) == (1 + 2 + 2) * 36


def test_a_nested_model_counts_with_the_shapes_that_it_is_called_on():
    anywhere = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(3, 3)])
    inputs = keras.Input((9, 8, 3))
    model = keras.Model(inputs, anywhere(anywhere(inputs)))
    assert count_flops(model) == (7 * 6 + 5 * 4) * 3 * 27


class Custom(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 5))

    def call(self, x):
        return keras.ops.relu(keras.ops.matmul(x, self.kernel)) * 2.0


class Renamed(layers.Dense):
    """A subclass that multiplies as its base does."""


class Looping(layers.Layer):
    """Multiplies seven times in a loop of the graph."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]))

    def call(self, x):
        def body(step, y):
            return step + 1, tf.matmul(y, self.kernel)

        return tf.while_loop(lambda step, y: step < 7, body, (0, x))[1]


class Unending(Looping):
    def call(self, x):
        def body(y):
            return (tf.matmul(y, self.kernel),)

        return tf.while_loop(lambda y: tf.reduce_sum(y) < 1.0, body, (x,))[0]


class Hidden(layers.Layer):
    """Multiplies where no graph shows it."""

    def call(self, x):
        y = tf.numpy_function(lambda a: a @ np.ones((6, 6), a.dtype), [x], tf.float32)
        return tf.ensure_shape(y, x.shape)

    def compute_output_shape(self, shape):
        return shape


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(5), layers.LSTM(3)

    def call(self, x, training=False):
        return self.second(self.first(self.first(x)[..., :6]) if training else self.first(x))


def test_custom_layers_and_subclassed_models_count_by_their_graph():
    assert count_flops(of(Custom(), (7, 6))) == 7 * 6 * 5
    assert count_flops(of(Renamed(5), (7, 6))) == 7 * 6 * 5
    assert count_flops(of(Looping(), (6,))) == 7 * 36
    cell = layers.StackedRNNCells([layers.GRUCell(3), layers.LSTMCell(2)])
    assert count_flops(of(layers.RNN(cell), (7, 6))) == 7 * (3 * (18 + 9) + 4 * (6 + 4))
    model = Subclassed()
    with pytest.raises(CostError, match="`model` needs to be built"):
        count_flops(model)
    model(np.zeros((2, 7, 6), "float32"))
    expected = 7 * 6 * 5 + 7 * 4 * (5 * 3 + 3 * 3)
    assert count_flops(model) == count_flops(model, input_shape=(7, 6)) == expected
    assert count_flops(model, input_shape=(14, 6)) == 2 * expected


@pytest.mark.parametrize(
    ("layer", "reason"),
    [(Unending, "how often a loop runs is not a constant"), (Hidden, "it uses the operation")],
)
def test_what_cannot_be_counted_is_named_and_the_rest_counts(layer, reason):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(5)(layer()(inputs)))
    with pytest.warns(CostWarning, match=f"{layer.__qualname__} are not known.*{reason}") as found:
        assert count_flops(model) == 30
    assert len([one for one in found if one.category is CostWarning]) == 1


def test_a_whole_model_that_cannot_be_counted_is_an_error():
    class Opaque(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = Hidden()

        def call(self, x):
            return self.hidden(x)

    model = Opaque()
    model(np.zeros((1, 6), "float32"))
    with pytest.raises(CostError, match="FLOPs of model .* are not known"):
        count_flops(model)
    anywhere = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)])
    with pytest.raises(CostError, match="known shapes"):
        count_flops(anywhere)
    assert count_flops(anywhere, input_shape=(5, 5, 3)) == 9 * 2 * 27


def test_only_what_the_result_needs_counts():
    def function(x):
        tf.matmul(x, x)
        return tf.cond(tf.reduce_sum(x) > 0.0, lambda: tf.matmul(x, x), lambda: x)

    assert traced_multiply_adds(function, [tf.TensorSpec((4, 4))]) == 64
    with pytest.raises(Untraceable, match="a shape"):
        traced_multiply_adds(lambda x: tf.matmul(x, x), [tf.TensorSpec((None, None))])
