"""Presets for tests: their arguments at a small size, their models and data."""

import keras_tuner
import numpy as np

from keras_nas_plugin.space import presets

# Arguments without a default.
REQUIRED = {
    "sequence_1d": {"classes": 5},
    "tabular": {"features": 8, "classes": 2, "categories": {1: 4, 6: 9}},
    "text_transformer": {"classes": 2},
    "unet": {"classes": 2},
}
# A preset that is not listed here is tested at its default size.
SMALL = {
    "darts": {"inputs": (8, 8, 1), "classes": 3, "channels": 2, "cells": 3, "nodes": 2},
    "mobilenet_v3": {"inputs": (8, 8, 3), "width": 0.25, "stages": 2, "depths": (1, 2)},
    "nas_bench_201": {"inputs": (8, 8, 1), "channels": 2, "cells_per_stage": 1},
    "residual_cnn": {"inputs": (8, 6, 1), "channels": 8, "blocks": (1, 1)},
    "seq2seq": {
        "source_vocabulary": 11,
        "target_vocabulary": 12,
        "source_length": 3,
        "target_length": 3,
        "encoder_depths": (1, 1),
        "decoder_depths": (1, 2),
        "widths": (4, 8),
        "heads": (1, 2),
    },
    "sequence_1d": {"inputs": (8, 2), "classes": 3, "widths": (4, 8), "depths": (1, 2)},
    "tabular": {
        "features": 5,
        "classes": 3,
        "categories": {1: 2, 3: 2},
        "widths": (4, 8),
        "depths": (1, 3),
    },
    "text_transformer": {
        "vocabulary": 11,
        "length": 6,
        "classes": 3,
        "widths": (4, 8),
        "heads": (1, 2),
        "depths": (1, 2),
    },
    "unet": {"inputs": (5, 4, 1), "classes": 3, "widths": (2, 4), "depths": (1, 2)},
}


def make(name, **arguments):
    return getattr(presets, name)(**arguments)


def small(name, **arguments):
    return make(name, **SMALL.get(name, REQUIRED.get(name, {})) | arguments)


def built(hypermodel, values):
    """The model as a tuner builds it, run eagerly because tracing costs more than two steps."""
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.values = dict(values)
    model = hypermodel.build(hyperparameters)
    model.run_eagerly = True
    return model


def default(hypermodel):
    return hypermodel.spec.fill({})


def batch(model, size=2, seed=0):
    """Random inputs and labels; tokens and categories are 0 or 1."""
    rng = np.random.default_rng(seed)
    inputs = {
        tensor.name: rng.uniform(0, 2, size=(size, *tensor.shape[1:])).astype("float32")
        for tensor in model.inputs
    }
    shape = (size, *model.output_shape[1:])
    if model.loss == "sparse_categorical_crossentropy":
        labels = rng.integers(0, shape[-1], size=shape[:-1])
    else:
        labels = rng.normal(size=shape)
    return inputs if len(inputs) > 1 else next(iter(inputs.values())), labels


def size_of(spec):
    """The number of configurations, without listing them.

    Counts decision by decision, for each combination of the values that later conditions
    depend on.
    """
    decisions = spec.decisions
    assert len({decision.name for decision in decisions}) == len(decisions)
    parents = [
        {c.parent for later in decisions[index + 1 :] for c in later.conditions}
        for index in range(len(decisions))
    ]
    counts = {(): 1}
    for decision, later in zip(decisions, parents, strict=True):
        following = {}
        for state, count in counts.items():
            values = dict(state)
            options = [None]
            if decision.active(values):
                options = list(decision.domain.values())
            for option in options:
                relevant = {k: v for k, v in values.items() if k in later}
                if option is not None and decision.name in later:
                    relevant[decision.name] = option
                key = tuple(sorted(relevant.items()))
                following[key] = following.get(key, 0) + count
        counts = following
    return sum(counts.values())
