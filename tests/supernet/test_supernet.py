"""Supernets: the same predictions as their networks, masks, mixtures, statistics, files."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_nas_plugin.errors import SearchSpaceError, StateError
from keras_nas_plugin.space import (
    Branches,
    Cell,
    Identity,
    InputChoice,
    Layer,
    LayerChoice,
    Optional,
    Repeat,
    Sequential,
    SpaceHyperModel,
    ValueChoice,
    When,
    Zero,
)
from keras_nas_plugin.space.presets.nasbench201 import nas_bench_201
from keras_nas_plugin.supernet import Supernet, SupernetTrainer, UniformSampler

COMPILE = {
    "optimizer": "adam",
    "learning_rate": ValueChoice([1e-2, 1e-3]),
    "loss": "sparse_categorical_crossentropy",
    "metrics": ["accuracy"],
}


def widths_and_depths():
    """Every kind of node, with widths and kernel sizes that are parts of the largest."""
    width = ValueChoice([4, 6, 8], name="width")
    squeeze = ValueChoice([False, True], name="squeeze")
    block = LayerChoice(
        {
            "conv": Sequential(
                Layer(
                    "Conv2D",
                    filters=width,
                    kernel_size=ValueChoice([1, 3, 5]),
                    padding="same",
                    activation=ValueChoice(["relu", "sigmoid"]),
                ),
                "BatchNormalization",
            ),
            "depthwise": Sequential(
                Layer("DepthwiseConv2D", kernel_size=ValueChoice([3, 5]), padding="same"),
                Layer("BatchNormalization", momentum=0.9),
                Layer("Activation", activation="swish"),
            ),
            "separable": Layer("SeparableConv2D", filters=width, kernel_size=3, padding="same"),
            "pool": Layer("AveragePooling2D", pool_size=3, strides=1, padding="same"),
            "skip": Identity(),
            "none": Zero(),
        }
    )
    return Sequential(
        stem=Layer("Conv2D", filters=width, kernel_size=3, padding="same"),
        blocks=Repeat(block, 1, 3),
        extra=Optional("BatchNormalization"),
        when=When(squeeze, [True], Layer("Dropout", rate=ValueChoice([0.1, 0.2]))),
        join=Branches(Identity(), Layer("Conv2D", filters=3, kernel_size=1), merge="concatenate"),
        flat="Flatten",
        dense=Layer("Dense", units=ValueChoice([3, 7]), activation="tanh"),
        norm="BatchNormalization",
        head=Layer("Dense", units=2, activation="softmax"),
    )


def cells():
    """Cells of all kinds that share decisions, repetitions that do, and wider options."""
    operations = {
        "none": Zero(),
        "skip": Identity(),
        "conv": Sequential(
            "ReLU",
            Layer("Conv2D", filters=4, kernel_size=3, padding="same", use_bias=False),
            "BatchNormalization",
        ),
        "pool": Layer("MaxPooling2D", pool_size=3, strides=1, padding="same"),
    }
    inputs = InputChoice(1, 2)
    return Sequential(
        Layer("Conv2D", filters=4, kernel_size=3, padding="same"),
        Cell(operations, nodes=2, name="edges"),
        Cell(operations, nodes=2, on="nodes", inputs=inputs, output="all"),
        Layer("Conv2D", filters=4, kernel_size=1),
        Cell(
            operations, nodes=3, on="inputs", inputs=inputs, output="all", output_merge="average"
        ),
        Cell(operations, nodes=2, name="edges"),
        Repeat(Cell(operations, nodes=1), 0, 2, shared=True),
        LayerChoice(
            {
                "wide": Layer("Conv2D", filters=6, kernel_size=1),
                "narrow": Layer("Conv2D", filters=2, kernel_size=1, activation="sigmoid"),
                "skip": Identity(),
            }
        ),
        "BatchNormalization",
        "GlobalAveragePooling2D",
        Layer("Dense", units=2, activation="softmax"),
    )


def hypermodel(space, **options):
    return SpaceHyperModel(space, inputs=(6, 6, 2), compile=COMPILE, **options)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 6, 6, 2)).astype("float32")
    return x, (x.mean((1, 2, 3)) > 0).astype("int32")


def batches_of(x, y, size=16):
    return [(x[i : i + size], y[i : i + size], None) for i in range(0, len(x), size)]


def trained(space, x, y, steps=6, run_eagerly=False):
    """A supernet after a few steps; what follows them is computed in graphs."""
    space.compile = {**space.compile, "run_eagerly": run_eagerly}
    keras.utils.set_random_seed(0)
    supernet = Supernet(space)
    trainer = SupernetTrainer(supernet, UniformSampler(supernet.spec), np.random.default_rng(0))
    for _ in range(steps // 2):
        trainer.epoch(batches_of(x, y))
    supernet.model.run_eagerly = False
    return supernet, trainer


@pytest.fixture(scope="module")
def supernets(data):
    return {
        # The graph of its gradients takes longer than the steps.
        "widths": trained(hypermodel(widths_and_depths()), *data, run_eagerly=True),
        "cells": trained(hypermodel(cells()), *data),
    }


@pytest.mark.parametrize("name", ["widths", "cells"])
def test_an_extracted_network_predicts_as_the_supernet(supernets, data, name):
    supernet, _ = supernets[name]
    x, _ = data
    rng = np.random.default_rng(3)
    for _ in range(5):
        values = supernet.spec.sample(rng)
        mask = supernet.mask(values)
        supernet.recalibrate([x[:16], x[16:]], mask)
        network = supernet.extract(values)
        alone = supernet.hypermodel.build_values(values)
        assert [tuple(w.shape) for w in network.weights] == [tuple(w.shape) for w in alone.weights]
        expected = ops.convert_to_numpy(network(x))
        np.testing.assert_allclose(
            supernet.predict(x, mask), expected, atol=1e-5, rtol=0, err_msg=str(values)
        )
        assert np.abs(expected - expected.mean(0)).max() > 1e-4 or "none" in values.values()


def outputs(supernet, x, mask):
    """As `predict`, without tracing a graph."""
    inputs = supernet.inputs(x, mask)
    tensors = {name: ops.convert_to_tensor(value) for name, value in inputs.items()}
    return ops.convert_to_numpy(supernet.model(tensors))


def test_the_cells_of_a_published_space_are_shared(data):
    x, _ = data
    supernet = Supernet(nas_bench_201((6, 6, 2), 2, channels=2, cells_per_stage=1))
    assert supernet.layout.size == 6 * 5
    assert supernet.notes == ()
    none = dict.fromkeys(supernet.layout.options, "none")
    expected = ops.convert_to_numpy(supernet.extract(none)(x))
    np.testing.assert_allclose(outputs(supernet, x, supernet.mask(none)), expected, atol=1e-5)
    # Without a connection, the output is that of zeros: the same for all rows.
    assert np.ptp(expected, axis=0).max() < 1e-6


def test_a_score_leaves_the_statistics_as_they_were(supernets, data):
    supernet, trainer = supernets["widths"]
    x, y = data
    before = [np.array(v.numpy()) for v in supernet.model.non_trainable_variables]
    values = supernet.spec.fill({})
    scores = trainer.score(values, [x[:16], x[16:]], batches_of(x, y))
    assert scores == trainer.score(values, [x[:16], x[16:]], batches_of(x, y))
    assert scores.keys() == {"loss", "accuracy"}
    for old, variable in zip(before, supernet.model.non_trainable_variables, strict=True):
        if "moving" in variable.path:
            np.testing.assert_array_equal(old, variable.numpy())
    supernet.recalibrate([x], supernet.mask(values))
    # Batches of different sizes: the metrics are those of all rows together.
    direct = trainer.evaluate(supernet.mask(values), batches_of(x, y, 20))
    network = supernet.extract(values)
    supernet.hypermodel.compile_model(network, values)
    alone = network.evaluate(x, y, verbose=0, return_dict=True)
    assert direct == pytest.approx(alone, abs=1e-5)


def test_the_metrics_of_an_epoch_are_means_over_its_steps(data):
    x, y = data
    space = Sequential("Flatten", LayerChoice({"skip": Identity()}), Layer("Dense", units=2))
    hypermodel = SpaceHyperModel(
        space,
        inputs=(6, 6, 2),
        compile={"optimizer": keras.optimizers.SGD(0.0), "loss": "mse", "run_eagerly": True},
    )
    supernet = Supernet(hypermodel)
    trainer = SupernetTrainer(supernet, UniformSampler(supernet.spec), np.random.default_rng(0))
    targets = np.stack([y, 1 - y], 1).astype("float32")
    logs = trainer.epoch(batches_of(x, targets, 8))
    outputs = ops.convert_to_numpy(supernet.extract({"1": "skip"})(x))
    assert logs["loss"] == pytest.approx(np.mean((outputs - targets) ** 2), rel=1e-4)


BACKEND = keras.backend.backend()


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch traces no graph")
def test_nothing_is_traced_again_for_another_mask(supernets, data, monkeypatch):
    """The body is called while a graph is traced, and only then."""
    supernet, trainer = supernets["cells"]

    def call(self, inputs, mask, training=None):
        pytest.fail("the supernet is traced again")

    monkeypatch.setattr(type(supernet.body), "call", call)
    for _ in range(4):
        trainer.epoch(batches_of(*data))


@pytest.mark.skipif(BACKEND == "jax", reason="on JAX, all layers are computed")
def test_only_the_layers_of_a_path_are_computed(supernets, data):
    """A layer outside the path keeps the statistics that its computation would change."""
    supernet, _ = supernets["cells"]
    x, _ = data
    norms = [
        layer
        for layer in supernet.body.shared
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    names = supernet.layout.options
    values = supernet.spec.fill({name: "skip" for name in names if "op" in name or "to" in name})
    before = [layer.moving_mean.numpy().copy() for layer in norms]
    with supernet.statistics_kept():
        supernet.model(supernet.inputs(x, supernet.mask(values)), training=True)
        changed = [
            not np.array_equal(old, layer.moving_mean.numpy())
            for old, layer in zip(before, norms, strict=True)
        ]
    assert changed.count(True) == 1  # the last one, which is in every path
    assert all(
        np.array_equal(old, layer.moving_mean.numpy())
        for old, layer in zip(before, norms, strict=True)
    )


def test_a_mixture_is_the_weighted_sum_and_has_gradients():
    space = Sequential(
        LayerChoice({"double": Layer("Rescaling", scale=2.0), "skip": Identity(), "none": Zero()})
    )
    supernet = Supernet(
        SpaceHyperModel(space, inputs=(3,), compile={"loss": "mse", "optimizer": "sgd"})
    )
    x = np.ones((2, 3), "float32")
    mixture = np.array([0.25, 0.5, 0.25], "float32")
    np.testing.assert_allclose(outputs(supernet, x, mixture), np.ones((2, 3)))
    np.testing.assert_allclose(supernet.layout.uniform(), np.full(3, 1 / 3))
    assert supernet.layout.strongest(mixture) == {"0": "skip"}

    if BACKEND != "tensorflow":
        return
    import tensorflow as tf

    mask = tf.Variable(mixture)
    with tf.GradientTape() as tape:
        rows = tf.broadcast_to(mask, (2, 3))
        loss = tf.reduce_sum(supernet.model({"input": tf.constant(x), "mask": rows}))
    np.testing.assert_allclose(tape.gradient(loss, mask), [12.0, 6.0, 0.0])


def test_statistics_are_those_of_the_batches_alone(supernets, data):
    """As if the network had been computed on the batches from statistics of zero, corrected."""
    supernet, _ = supernets["widths"]
    x, _ = data
    values = supernet.spec.fill({"width": 4, "extra": "without", "blocks/count": 1})
    mask = supernet.mask(values)
    with supernet.statistics_kept():
        supernet.recalibrate([x, x], mask)
        network = supernet.extract(values)
        norm = next(
            layer
            for layer in network.layers
            if isinstance(layer, keras.layers.BatchNormalization) and layer.momentum == 0.99
        )
        before = ops.convert_to_numpy(keras.Model(network.inputs, norm.input)(x))
    axes = tuple(range(before.ndim - 1))
    np.testing.assert_allclose(norm.moving_mean.numpy(), before.mean(axes), atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance.numpy(), before.var(axes), atol=1e-3)
    rows = ops.convert_to_numpy(keras.Model(network.inputs, norm.output)(x))
    gamma, beta = norm.gamma.numpy(), norm.beta.numpy()
    assert ((rows.mean(axes) - beta) / gamma) == pytest.approx(0.0, abs=1e-2)


def test_weights_are_saved_and_loaded(supernets, data, tmp_path):
    supernet, _ = supernets["cells"]
    x, _ = data
    mask = supernet.mask(supernet.spec.sample(np.random.default_rng(5)))
    path = tmp_path / "supernet.weights.h5"
    supernet.save(path)
    other = Supernet(hypermodel(cells(), check=False))
    assert not np.allclose(outputs(other, x, mask), outputs(supernet, x, mask))
    other.load(path)
    np.testing.assert_allclose(outputs(other, x, mask), outputs(supernet, x, mask), atol=1e-6)

    different = Supernet(hypermodel(Sequential("Flatten", Layer("Dense", units=2))))
    with pytest.raises(StateError, match="must have the weights of a supernet of this space"):
        different.load(path)
    with pytest.raises(StateError, match=r"`path` must end with .weights.h5; got"):
        supernet.save(tmp_path / "supernet.keras")


def test_what_is_not_searched_is_fixed_and_noted():
    space = Sequential(
        "Flatten",
        Layer("Dense", units=ValueChoice(low=2, high=400)),
        Layer("Dropout", rate=ValueChoice(low=0.0, high=0.5)),
        Layer("Dense", units=ValueChoice([3, 4]), activation=ValueChoice(["relu", "tanh"])),
        Layer("Dense", units=2),
    )
    supernet = Supernet(hypermodel(space))
    assert supernet.fixed == {"1/units": 2, "2/rate": 0.0, "learning_rate": 0.01}
    assert supernet.notes == (
        "1/units is fixed at 2: it has more than 256 values.",
        "2/rate is fixed at 0.0: it has more than 256 values.",
        "learning_rate is fixed at 0.01: it is not a part of the network that architectures can "
        "share.",
        "3/activation has a layer of its own for each value.",
    )
    values = supernet.spec.sample(np.random.default_rng(0))
    assert {name: values[name] for name in supernet.fixed} == supernet.fixed
    with pytest.raises(SearchSpaceError, match="must have the values at which the supernet is"):
        supernet.extract({**values, "2/rate": 0.25})
    with pytest.raises(SearchSpaceError, match=r"`values\['3/units'\]` must be one of \[3, 4\]"):
        supernet.mask({**values, "3/units": 5})


def layer_of_any_width(layer):
    return Sequential(
        Layer("Conv2D", filters=ValueChoice([2, 4]), kernel_size=1),
        layer,
        "Flatten",
        Layer("Dense", units=2),
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            layer_of_any_width(Layer("LayerNormalization")),
            r"LayerNormalization at '1' cannot be shared by the architectures of a supernet, "
            "because its number of input channels is searched",
        ),
        (
            layer_of_any_width(Layer("Activation", activation="softmax")),
            "Activation at '1' .* its activation 'softmax' depends on all channels",
        ),
        (
            LayerChoice(
                {
                    "a": Layer("Conv2D", filters=2, kernel_size=1, activity_regularizer="l2"),
                    "b": Identity(),
                }
            ),
            "Conv2D at 'a' .* it has an `activity_regularizer`",
        ),
        (
            Layer("Conv2D", filters=2, kernel_size=3, padding="same", strides=ValueChoice([1, 2])),
            "the options of '' must have outputs of the same shape",
        ),
        (
            Layer("Conv2D", filters=2, kernel_size=ValueChoice([1, 3])),
            "must have outputs of the same shape, except for the number of channels",
        ),
    ],
)
def test_what_cannot_be_shared_is_named(space, message):
    with pytest.raises(SearchSpaceError, match=message):
        Supernet(hypermodel(space))


def test_a_function_that_builds_models_has_no_supernet():
    def build_model(hp):
        return None

    with pytest.raises(SearchSpaceError, match="must be a SpaceHyperModel, .* got build_model"):
        Supernet(build_model)


@pytest.mark.parametrize(("strides", "rows"), [(1, 7), (2, 6), (2, 7), (3, 8)])
def test_a_small_kernel_sees_the_same_positions(strides, rows):
    space = Layer(
        "Conv2D", filters=2, kernel_size=ValueChoice([3, 5, 7]), strides=strides, padding="same"
    )
    supernet = Supernet(SpaceHyperModel(space, inputs=(rows, rows, 1), compile={"loss": "mse"}))
    assert supernet.notes == ()
    x = np.random.default_rng(0).normal(size=(2, rows, rows, 1)).astype("float32")
    for size in (3, 5, 7):
        values = {"kernel_size": size}
        network = supernet.extract(values)
        assert network.layers[-1].kernel.shape[:2] == (size, size)
        small = outputs(supernet, x, supernet.mask(values))
        np.testing.assert_allclose(small, ops.convert_to_numpy(network(x)), atol=1e-5)
