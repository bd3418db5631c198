"""Restoring and reinitialising the variables of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import numpy as np

from keras_nas_plugin.proxies import layers


@contextlib.contextmanager
def untouched(model: keras.Model) -> Iterator[None]:
    """Restore every variable of a model on exit: weights, moving statistics, seeds, metrics.

    Metrics that a compiled loss creates on its first use are reset.
    """
    ops = keras.ops
    variables = _variables(model)
    saved = [(variable, ops.stop_gradient(ops.copy(variable.value))) for variable in variables]
    saved_ids = {id(variable) for variable, _ in saved}
    try:
        yield
    finally:
        if any(id(variable) not in saved_ids for variable in _variables(model)):
            model.reset_metrics()
        for variable, value in saved:
            variable.assign(value)


def _variables(model: keras.Model) -> list[keras.Variable]:
    """All variables of a model, each once; those of a compiled loss are only in its metrics."""
    variables = [*model.variables, *model.metrics_variables]
    return list({id(variable): variable for variable in variables}.values())


def redraw(model: keras.Model, rng: np.random.Generator) -> None:
    """Redraw the kernels of a model in place, without building it again.

    Weights with two or more axes are drawn by the layer's own initializer if it has one under
    the usual name (``kernel_initializer`` for ``kernel``). Otherwise the values are shuffled,
    which is an equivalent draw if they are independent. Weights with one axis are not changed:
    their initial values are constants.

    Args:
        model: Any built Keras model.
        rng: Source of the seeds.
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


def fill_normal(variable: keras.Variable, rng: np.random.Generator) -> None:
    """Draw a variable from the standard normal distribution, in place."""
    variable.assign(rng.standard_normal(tuple(variable.shape)))


def _own(operation: keras.Operation) -> list[keras.Variable]:
    """Trainable weights of a layer without those of its sublayers."""
    if not isinstance(operation, keras.Layer):
        return []
    theirs = {
        id(weight)
        for child in layers.children(operation)
        if isinstance(child, keras.Layer)
        for weight in child.trainable_variables
    }
    return [weight for weight in operation.trainable_variables if id(weight) not in theirs]


def _initializer(
    layer: keras.Layer, weight: keras.Variable
) -> keras.initializers.Initializer | None:
    """The initializer of a weight by the naming convention of Keras; None if there is none."""
    # A depthwise kernel is called `kernel` or `depthwise_kernel`, but its initializer is always
    # called `depthwise_initializer`.
    short = weight.name.removesuffix("_kernel")
    names = [f"{weight.name}_initializer", f"{short}_initializer", "depthwise_initializer"]
    candidates = (getattr(layer, name, None) for name in names)
    kind = keras.initializers.Initializer
    return next((value for value in candidates if isinstance(value, kind)), None)


def _reseeded(
    initializer: keras.initializers.Initializer, rng: np.random.Generator
) -> keras.initializers.Initializer:
    """The initializer with a new seed: with the same seed it would draw the same values."""
    settings = initializer.get_config()
    seed = int(rng.integers(2**31))
    if "seed" not in settings:
        return initializer
    return type(initializer).from_config({**settings, "seed": seed})
