"""How long an inference takes on this machine, measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation.graph import sizes_of


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference with a whole batch.

    Attributes:
        p50_ms: The median.
        p95_ms: What 95 of 100 inferences do not exceed.
        batch_size: Examples per inference.
        runs: How many were timed.
    """

    p50_ms: float
    p95_ms: float
    batch_size: int
    runs: int


def measure_latency(
    model: Any,
    batch_size: int = 1,
    *,
    runs: int = 50,
    warm_up: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time compiled inference, `training=False`, on zeros, from the call to the result.

    The input lies in the device's memory already; the result is waited for and copied to the
    host, since a GPU returns before it has computed. Other programs on the machine disturb the
    95th percentile first.

    Args:
        model: A `keras.Model` that knows the shapes of its inputs.
        batch_size: Examples per inference, at least 1.
        runs: Inferences that are timed, at least 1.
        warm_up: Inferences before that are not, at least 1: the first compiles.
        clock: Seconds, as `time.perf_counter`.

    Raises:
        CostError: A number is too small, or shapes of inputs are not known.
    """
    for name, value in (("batch_size", batch_size), ("runs", runs), ("warm_up", warm_up)):
        if value < 1:
            raise CostError(f"`{name}` needs at least 1; received {value}")
    infer = inference(model, batch_size)
    for _ in range(warm_up):
        infer()
    seconds = np.empty(runs)
    for number in range(runs):
        began = clock()
        infer()
        seconds[number] = clock() - began
    p50, p95 = np.percentile(seconds * 1e3, [50, 95])
    return Latency(float(p50), float(p95), batch_size, runs)


def inference(model: Any, batch_size: int) -> Callable[[], Any]:
    """A function that runs compiled inference once and waits for the result.

    Compiled by TensorFlow (`tf.function`) or JAX (`jax.jit`); on another backend as it is.

    Args:
        model: A `keras.Model` that knows the shapes of its inputs.
        batch_size: Examples per inference.

    Raises:
        CostError: It does not know them.
    """
    import keras

    run, inputs = _compiled(model), _zeros(model, batch_size)

    def infer() -> Any:
        return keras.tree.map_structure(keras.ops.convert_to_numpy, run(inputs))

    return infer


def _zeros(model: Any, batch_size: int) -> Any:
    import keras

    tensors = getattr(model, "inputs", None)
    if not tensors:
        known = (model.get_build_config() or {}).get("input_shape") if model.built else None
        if not known or None in known[1:]:
            raise CostError(
                "`model` needs to know the shape of its input; received "
                f"{type(model).__name__} {model.name!r}, which does not"
            )
        return keras.ops.zeros((batch_size, *known[1:]))
    arrays = [
        keras.ops.zeros((batch_size, *size[1:]), dtype=tensor.dtype)
        for size, tensor in zip(sizes_of(tensors), tensors, strict=True)
    ]
    if isinstance(model, keras.Sequential):
        return arrays[0]
    return keras.tree.pack_sequence_as(model.input, arrays)


def _compiled(model: Any) -> Callable[[Any], Any]:
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda inputs: model(inputs, training=False))
    if backend == "jax":
        import jax

        weights = [variable.value for variable in model.trainable_variables]
        others = [variable.value for variable in model.non_trainable_variables]
        stateless = jax.jit(lambda x: model.stateless_call(weights, others, x, training=False)[0])
        return stateless
    return lambda inputs: model(inputs, training=False)
