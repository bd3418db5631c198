"""Measures the time of an inference on this machine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation.graph import built_shapes, map_shapes, sizes_of

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference of a batch.

    Attributes:
        p50_ms: The median.
        p95_ms: The 95th percentile.
        batch_size: Examples per inference.
        runs: Number of inferences that were timed.
    """

    p50_ms: float
    p95_ms: float
    batch_size: int
    runs: int


def measure_latency(
    model: keras.Model,
    batch_size: int = 1,
    *,
    runs: int = 50,
    warm_up: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time compiled inference, `training=False`, on zeros, from the call to the result.

    The input is already in the memory of the device. The time includes copying the result to the
    host, because a call on a GPU returns before the result is computed. Other programs that run
    on the machine affect the 95th percentile more than the median.

    Args:
        model: A model that knows the shapes of its inputs.
        batch_size: Examples per inference, at least 1.
        runs: Inferences that are timed, at least 1.
        warm_up: Untimed inferences before them, at least 1: the first one compiles.
        clock: Returns seconds, like `time.perf_counter`.

    Raises:
        CostError: A number is too small, or the shapes of the inputs are unknown.
    """
    if batch_size < 1:
        raise CostError(f"`batch_size` must be at least 1; got {batch_size}")
    infer = inference(model, batch_size)
    return time_inference(infer, batch_size, runs=runs, warm_up=warm_up, clock=clock)


def time_inference(
    infer: Callable[[], object],
    batch_size: int = 1,
    *,
    runs: int = 50,
    warm_up: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time a function that runs inference once and returns when the result is on the host.

    Args:
        infer: The function.
        batch_size: Examples per inference.
        runs: Inferences that are timed, at least 1.
        warm_up: Untimed inferences before them, at least 1: the first one compiles.
        clock: Returns seconds, like `time.perf_counter`.

    Raises:
        CostError: A number is too small.
    """
    for name, value in (("runs", runs), ("warm_up", warm_up)):
        if value < 1:
            raise CostError(f"`{name}` must be at least 1; got {value}")
    for _ in range(warm_up):
        infer()
    seconds = np.empty(runs)
    for run in range(runs):
        start = clock()
        infer()
        seconds[run] = clock() - start
    p50, p95 = np.percentile(seconds * 1e3, [50, 95])
    return Latency(float(p50), float(p95), batch_size, runs)


def inference(model: keras.Model, batch_size: int) -> Callable[[], Any]:
    """A function that runs compiled inference once and waits for the result.

    Compiled by TensorFlow (`tf.function`) or JAX (`jax.jit`); not compiled on other backends.

    Args:
        model: A model that knows the shapes of its inputs.
        batch_size: Examples per inference.

    Raises:
        CostError: The model does not know the shapes of its inputs.
    """
    import keras

    run, inputs = _compiled(model), _zeros(model, batch_size)

    def infer() -> Any:
        return keras.tree.map_structure(keras.ops.convert_to_numpy, run(inputs))

    return infer


def _zeros(model: keras.Model, batch_size: int) -> Any:
    import keras

    tensors = getattr(model, "inputs", None)
    if not tensors:
        return map_shapes(
            lambda shape: keras.ops.zeros((batch_size, *shape[1:])), built_shapes(model)
        )
    arrays = [
        keras.ops.zeros((batch_size, *size[1:]), dtype=tensor.dtype)
        for size, tensor in zip(sizes_of(tensors), tensors, strict=True)
    ]
    if isinstance(model, keras.Sequential):
        return arrays[0]
    return keras.tree.pack_sequence_as(model.input, arrays)


def _compiled(model: keras.Model) -> Callable[[Any], Any]:
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda inputs: model(inputs, training=False))
    if backend == "jax":
        import jax

        trainable = [variable.value for variable in model.trainable_variables]
        fixed = [variable.value for variable in model.non_trainable_variables]
        return jax.jit(lambda x: model.stateless_call(trainable, fixed, x, training=False)[0])
    return lambda inputs: model(inputs, training=False)
