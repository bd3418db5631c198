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
from keras_nas_plugin.space.presets.darts_cells import darts
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
        Cell(operations, nodes=3, on="inputs", inputs=inputs, output="all", output_merge="average"),
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


def trained(space, x, y, steps=6):
    keras.utils.set_random_seed(0)
    supernet = Supernet(space)
    trainer = SupernetTrainer(supernet, UniformSampler(supernet.spec), np.random.default_rng(0))
    for _ in range(steps // 2):
        trainer.epoch(batches_of(x, y))
    return supernet, trainer


def images(shape):
    return np.random.default_rng(1).normal(size=(32, *shape)).astype("float32")


PRESETS = {
    "nas_bench_201": lambda: nas_bench_201((6, 6, 2), 2, channels=2, cells_per_stage=1),
    "darts": lambda: darts((6, 6, 2), 2, channels=2, cells=3),
}


@pytest.fixture(scope="module")
def supernets(data):
    return {
        "widths": trained(hypermodel(widths_and_depths()), *data),
        "cells": trained(hypermodel(cells()), *data),
    }


@pytest.mark.parametrize("name", ["widths", "cells"])
def test_an_extracted_network_predicts_as_the_supernet(supernets, data, name):
    supernet, _ = supernets[name]
    x, _ = data
    rng = np.random.default_rng(3)
    for _ in range(8):
        values = supernet.spec.sample(rng)
        mask = supernet.mask(values)
        supernet.recalibrate([x[:16], x[16:]], mask)
        network = supernet.extract(values)
        alone = supernet.hypermodel.build_values(values)
        assert [tuple(w.shape) for w in network.weights] == [tuple(w.shape) for w in alone.weights]
        expected = network(x).numpy()
        np.testing.assert_allclose(
            supernet.predict(x, mask), expected, atol=1e-5, rtol=0, err_msg=str(values)
        )
        assert np.abs(expected - expected.mean(0)).max() > 1e-4 or "none" in values.values()
