"""Counts compared with published figures, closed formulas, and each other."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_nas_plugin import count_flops, count_parameters, measure_latency
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
        # stride in the first 1x1 convolution, as in Keras; He et al. 2016 give 3.8 G.
        ("ResNet50", 3_860, 25.6e6),
        # torchvision's `EfficientNet_B0_Weights`: 0.386 G, 5,288,548 parameters. Tan & Le 2019,
        # "EfficientNet", table 2, round it to 0.39 G and 5.3 M.
        ("EfficientNetB0", 386, 5_288_548),
    ],
)
def test_counts_of_published_networks_agree_with_their_papers(name, millions, parameters):
    model = getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3))
    assert count_flops(model) / 1e6 == pytest.approx(millions, rel=0.01)
    assert count_flops(model, per_multiply_add=2) == 2 * count_flops(model)
    trained = count_parameters(model, trainable_only=True)
    assert trained == pytest.approx(parameters, rel=0.02)
    assert count_parameters(model) == model.count_params() > trained


def nas_bench_201_cost(operations):
    """Multiply-adds and weights of a network of NAS-Bench-201, from its description alone."""
    flops, weights = 32 * 32 * 16 * 3 * 9, 3 * 16 * 9 + 2 * 16
    kernels = [{"nor_conv_1x1": 1, "nor_conv_3x3": 9}.get(name, 0) for name in operations]
    for stage, width in enumerate((16, 32, 64)):
        positions = (32 >> stage) ** 2
        for kernel in kernels:
            flops += 5 * positions * width * width * kernel
            weights += 5 * (width * width * kernel + (2 * width if kernel else 0))
        if stage < 2:
            # The residual block after the stage: two 3x3 convolutions and a 1x1 shortcut.
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
def test_nas_bench_201_counts_follow_their_formula(operations, millions, weights):
    values = {f"cell/{e}": o for e, o in zip(EDGES, operations, strict=True)}
    model = nas_bench_201().build_values(values)
    flops, parameters = count_flops(model), count_parameters(model, trainable_only=True)
    assert (flops, parameters) == nas_bench_201_cost(operations)
    if millions:
        assert round(flops / 1e6, 2) == millions
        assert round(parameters / 1e6, 3) == weights


def sequence():
    return keras.Input((7, 6))


def image():
    return keras.Input((9, 8, 4))


def single_layer_model(layer, *shapes, **options):
    """A model of a single layer with inputs of these shapes."""
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(*inputs, **options))


# A model and its multiply-adds, computed by hand.
BUILT_IN = {
    "dense": (lambda: single_layer_model(layers.Dense(5), (7, 6)), 7 * 6 * 5),
    "einsum": (
        lambda: single_layer_model(layers.EinsumDense("abc,cde->abde", (7, 2, 5)), (7, 6)),
        7 * 6 * 10,
    ),
    "ellipsis": (
        lambda: single_layer_model(layers.EinsumDense("...x,xy->...y", 5), (3, 7, 6)),
        21 * 6 * 5,
    ),
    "conv1d": (lambda: single_layer_model(layers.Conv1D(5, 3), (7, 6)), 5 * 5 * 3 * 6),
    "causal": (
        lambda: single_layer_model(layers.Conv1D(5, 3, padding="causal"), (7, 6)),
        7 * 5 * 3 * 6,
    ),
    "dilated": (
        lambda: single_layer_model(layers.Conv2D(5, 3, dilation_rate=2), (10, 8, 4)),
        6 * 4 * 5 * 9 * 4,
    ),
    "conv2d": (
        lambda: single_layer_model(layers.Conv2D(6, 3, strides=2), (9, 8, 4)),
        4 * 3 * 6 * 9 * 4,
    ),
    "groups": (
        lambda: single_layer_model(layers.Conv2D(6, 3, groups=2), (9, 8, 4)),
        7 * 6 * 6 * 9 * 2,
    ),
    "conv3d": (lambda: single_layer_model(layers.Conv3D(2, 3), (5, 5, 5, 3)), 27 * 2 * 27 * 3),
    "depthwise": (
        lambda: single_layer_model(layers.DepthwiseConv2D(3, depth_multiplier=2), (9, 8, 4)),
        7 * 6 * 8 * 9,
    ),
    "depthwise1d": (lambda: single_layer_model(layers.DepthwiseConv1D(3), (9, 4)), 7 * 4 * 3),
    "separable": (
        lambda: single_layer_model(layers.SeparableConv2D(5, 3), (9, 8, 4)),
        7 * 6 * 4 * 9 + 7 * 6 * 4 * 5,
    ),
    "separable1d": (
        lambda: single_layer_model(layers.SeparableConv1D(5, 3), (9, 4)),
        7 * 4 * 3 + 7 * 4 * 5,
    ),
    "transposed": (
        lambda: single_layer_model(layers.Conv2DTranspose(5, 3, strides=2), (4, 4, 3)),
        16 * 3 * 9 * 5,
    ),
    "transposed1d": (
        lambda: single_layer_model(layers.Conv1DTranspose(5, 3), (4, 3)),
        4 * 3 * 3 * 5,
    ),
    "transposed3d": (
        lambda: single_layer_model(layers.Conv3DTranspose(2, 2), (3, 3, 3, 2)),
        27 * 2 * 8 * 2,
    ),
    "lstm": (lambda: single_layer_model(layers.LSTM(5), (7, 6)), 7 * 4 * (6 * 5 + 5 * 5)),
    "gru": (lambda: single_layer_model(layers.GRU(5, return_sequences=True), (7, 6)), 7 * 3 * 55),
    "rnn": (lambda: single_layer_model(layers.SimpleRNN(5), (7, 6)), 7 * 55),
    "bidirectional": (
        lambda: single_layer_model(layers.Bidirectional(layers.GRU(5)), (7, 6)),
        2 * 7 * 3 * 55,
    ),
    "distributed": (
        lambda: single_layer_model(layers.TimeDistributed(layers.Conv2D(5, 3)), (3, 6, 6, 2)),
        3 * 16 * 5 * 9 * 2,
    ),
    "attention": (
        lambda: single_layer_model(layers.MultiHeadAttention(2, 3, value_dim=4), (7, 6), (5, 8)),
        # Query, key, value, scores, values by scores, output.
        7 * 6 * 6 + 5 * 8 * 6 + 5 * 8 * 8 + 7 * 5 * 6 + 7 * 5 * 8 + 7 * 8 * 6,
    ),
    "grouped": (
        lambda: single_layer_model(layers.GroupQueryAttention(3, 4, 2), (7, 6), (5, 6)),
        7 * 6 * 12 + 2 * 5 * 6 * 6 + 2 * 7 * 5 * 12 + 7 * 12 * 6,
    ),
    "embedding": (lambda: single_layer_model(layers.Embedding(11, 4), (7,)), 0),
    "dot": (lambda: single_layer_model(Pair(layers.Dot(axes=2)), (7, 6), (5, 6)), 7 * 5 * 6),
    "matmul": (
        lambda: single_layer_model(lambda a, b: keras.ops.matmul(a, b), (7, 6), (6, 5)),
        7 * 6 * 5,
    ),
    "cheap": (
        lambda: single_layer_model(
            lambda a: keras.ops.softmax(layers.BatchNormalization()(a) * 2.0)[:, 1:], (7, 6)
        ),
        0,
    ),
}


class Pair(layers.Layer):
    """Calls a layer that expects a list with two tensors."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, first, second):
        return self.layer([first, second])


def traced(model):
    specs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    return traced_multiply_adds(lambda *xs: model(list(xs) if len(xs) > 1 else xs[0]), specs)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_formula_of_a_layer_agrees_with_its_graph(name):
    make, expected = BUILT_IN[name]
    model = make()
    assert count_flops(model) == expected
    # TensorFlow's graph of the model, which has no layers, gives the same number.
    assert traced(model) == expected


def test_the_formulas_of_a_network_agree_with_its_graph():
    model = keras.applications.MobileNetV3Small(
        weights=None, input_shape=(64, 64, 3), minimalistic=True
    )
    assert traced(model) == count_flops(model)


@pytest.mark.parametrize("kind", ["lora", "gate"])
def test_weights_beyond_the_formula_are_counted_by_the_graph(kind):
    if kind == "lora":
        model = single_layer_model(layers.Dense(5), (7, 6))
        model.layers[-1].enable_lora(2)
        # The low-rank update of the kernel is computed in each call.
        expected = 7 * 6 * 5 + 6 * 2 * 5
    else:
        model = single_layer_model(
            layers.GroupQueryAttention(3, 4, 2, use_gate=True), (7, 6), (5, 6)
        )
        expected = BUILT_IN["grouped"][1] + 7 * 6 * 12
    assert count_flops(model) == traced(model) == expected


def test_shared_layers_and_nested_models_count_once_per_call():
    shared = layers.Dense(6)
    inner_input = keras.Input((6,))
    inner = keras.Model(inner_input, shared(layers.Dense(6)(inner_input)))
    outer_input = keras.Input((6,))
    outer = keras.Model(outer_input, inner(inner(shared(outer_input))))
    assert count_flops(outer) == (1 + 2 + 2) * 36


def test_a_nested_model_is_counted_at_the_shapes_of_its_calls():
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
    """A subclass that computes the same as its base class."""


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
    """Multiplies outside of the graph."""

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


def test_custom_layers_and_subclassed_models_are_counted_from_their_graph():
    assert count_flops(single_layer_model(Custom(), (7, 6))) == 7 * 6 * 5
    assert count_flops(single_layer_model(Renamed(5), (7, 6))) == 7 * 6 * 5
    assert count_flops(single_layer_model(Looping(), (6,))) == 7 * 36
    cell = layers.StackedRNNCells([layers.GRUCell(3), layers.LSTMCell(2)])
    assert count_flops(single_layer_model(layers.RNN(cell), (7, 6))) == 7 * (
        3 * (18 + 9) + 4 * (6 + 4)
    )
    model = Subclassed()
    with pytest.raises(CostError, match="`model` must be built"):
        count_flops(model)
    model(np.zeros((2, 7, 6), "float32"))
    expected = 7 * 6 * 5 + 7 * 4 * (5 * 3 + 3 * 3)
    assert count_flops(model) == count_flops(model, input_shape=(7, 6)) == expected
    assert count_flops(model, input_shape=(14, 6)) == 2 * expected


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Unending, "the number of iterations of a loop is not a constant"),
        (Hidden, "it uses the operation"),
    ],
)
def test_an_uncountable_layer_is_skipped_with_a_warning(layer, reason):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(5)(layer()(inputs)))
    with pytest.warns(CostWarning, match=f"{layer.__qualname__} are unknown.*{reason}") as caught:
        assert count_flops(model) == 30
    assert sum(warning.category is CostWarning for warning in caught) == 1


def test_an_uncountable_subclassed_model_is_an_error():
    class Opaque(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = Hidden()

        def call(self, x):
            return self.hidden(x)

    model = Opaque()
    model(np.zeros((1, 6), "float32"))
    with pytest.raises(CostError, match="FLOPs of model .* are unknown"):
        count_flops(model)
    anywhere = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)])
    with pytest.raises(CostError, match="all dimensions except the batch must be known"):
        count_flops(anywhere)
    assert count_flops(anywhere, input_shape=(5, 5, 3)) == 9 * 2 * 27


def test_only_operations_that_the_result_depends_on_are_counted():
    def function(x):
        tf.matmul(x, x)
        return tf.cond(tf.reduce_sum(x) > 0.0, lambda: tf.matmul(x, x), lambda: x)

    assert traced_multiply_adds(function, [tf.TensorSpec((4, 4))]) == 64
    with pytest.raises(Untraceable, match="a shape"):
        traced_multiply_adds(lambda x: tf.matmul(x, x), [tf.TensorSpec((None, None))])


class Branches(keras.Model):
    """A subclassed model whose inputs are a dictionary, with a list in it."""

    def __init__(self):
        super().__init__()
        self.hidden, self.last = layers.Dense(4), layers.Dense(2)

    def call(self, inputs):
        first, second = inputs["pair"]
        return self.last(self.hidden(keras.ops.concatenate([first, second], -1)) + inputs["n"])


def test_a_subclassed_model_with_a_dictionary_of_inputs_has_costs():
    model = Branches()
    ones = np.ones((2, 3), "float32")
    model({"pair": [ones, ones[:, :2]], "n": ones[:, :1]})
    assert count_flops(model) == 5 * 4 + 4 * 2
    assert count_parameters(model) == 5 * 4 + 4 + 4 * 2 + 2
    assert measure_latency(model, runs=2, warm_up=1).p50_ms > 0


def test_the_parameters_of_a_model_that_is_trained_without_being_called_are_counted():
    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.generator, self.discriminator = layers.Dense(3), layers.Dense(1)

    model = Pair()
    with pytest.raises(CostError, match="must be built"):
        count_parameters(model)
    model.discriminator(model.generator(np.ones((1, 2), "float32")))
    assert not model.built
    assert count_parameters(model) == 2 * 3 + 3 + 3 + 1
    with pytest.raises(CostError, match="must be built"):
        count_flops(model)
