"""A model's variables: left as they were, and drawn anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_nas_plugin.proxies import layers


@contextlib.contextmanager
def untouched(model: keras.Model) -> Iterator[None]:
    """Bring back every variable of a model: weights, moving statistics, seeds, metrics.

    Metrics that a compiled loss creates on its first use are left at their start.
    """
    ops = keras.ops
    saved = [(one, ops.stop_gradient(ops.copy(one.value))) for one in _variables(model)]
    known = {id(variable) for variable, _ in saved}
    try:
        yield
    finally:
        if any(id(variable) not in known for variable in _variables(model)):
            model.reset_metrics()
        for variable, value in saved:
            variable.assign(value)


def _variables(model: keras.Model) -> list[Any]:
    """All of a model's variables, each once; those of a compiled loss are metrics alone."""
    both = [*model.variables, *model.metrics_variables]
    return list({id(variable): variable for variable in both}.values())


def redraw(model: keras.Model, rng: np.random.Generator) -> None:
    """Draw the kernels of a model anew, in place, without building it again.

    Weights with two or more axes are drawn by the layer's own initializer where it has one
    under the usual name (``kernel_initializer`` for ``kernel``); else the values are shuffled,
    which is as good a draw where they are independent. Weights with one axis stay: they start
    as constants.

    Args:
        model: Any Keras model that is built.
        rng: Where the seeds come from.
    """
    mine = {id(weight) for weight in layers.kernels(model)}
    for operation in layers.walk(model):
        for weight in _own(operation):
            if id(weight) not in mine:
                continue
            mine.discard(id(weight))
            initializer = _initializer(operation, weight)
            if initializer is None:
                values = keras.ops.convert_to_numpy(keras.ops.copy(weight.value))
                drawn = rng.permutation(values.ravel()).reshape(values.shape)
            else:
                drawn = _reseeded(initializer, rng)(weight.shape, dtype=weight.dtype)
            weight.assign(drawn)


def fill_normal(variable: Any, rng: np.random.Generator) -> None:
    """Draw a variable from the standard normal distribution, in place."""
    variable.assign(rng.standard_normal(tuple(variable.shape)))


def _own(operation: keras.Operation) -> list[Any]:
    """Trainable weights of a layer that are not those of a layer in it."""
    if not isinstance(operation, keras.Layer):
        return []
    theirs = {
        id(weight)
        for child in layers.children(operation)
        if isinstance(child, keras.Layer)
        for weight in child.trainable_variables
    }
    return [one for one in operation.trainable_variables if id(one) not in theirs]


def _initializer(layer: keras.Layer, weight: Any) -> Any:
    """The initializer of a weight by the names that Keras' layers use; None for others."""
    # A depthwise kernel is called `kernel` or `depthwise_kernel`, its initializer the latter.
    short = weight.name.removesuffix("_kernel")
    names = [f"{weight.name}_initializer", f"{short}_initializer", "depthwise_initializer"]
    found = (getattr(layer, name, None) for name in names)
    return next((one for one in found if isinstance(one, keras.initializers.Initializer)), None)


def _reseeded(initializer: Any, rng: np.random.Generator) -> Any:
    """The same initializer with another seed: one with a seed draws the same values again."""
    settings = initializer.get_config()
    seed = int(rng.integers(2**31))
    if "seed" not in settings:
        return initializer
    return type(initializer).from_config({**settings, "seed": seed})
