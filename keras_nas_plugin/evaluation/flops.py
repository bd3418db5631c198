"""Counts of the weights of a model and of the multiply-adds of one inference."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation.graph import (
    Call,
    Shape,
    built_shapes,
    graph_of,
    is_functional,
    map_shapes,
    sizes_of,
)
from keras_nas_plugin.evaluation.rules import rule_of
from keras_nas_plugin.evaluation.traced import Untraceable, traced_multiply_adds

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class CostWarning(UserWarning):
    """A cost of a model, or of a part of it, is unknown and missing from the result."""


def count_parameters(model: keras.Model, *, trainable_only: bool = False) -> int:
    """Number of a model's weights, including non-trainable ones such as moving averages.

    Papers often count only trainable weights.

    Args:
        model: A built model, or one all of whose layers are built, such as a GAN that is trained
            without being called.
        trainable_only: Whether to count only weights that are trained by gradients.

    Raises:
        CostError: The model is not built.
    """
    if not model.layers or not all(layer.built for layer in model.layers):
        _check_built(model)
    weights = model.trainable_weights if trainable_only else model.weights
    return sum(math.prod(weight.shape) for weight in weights)


def count_flops(
    model: keras.Model, *, per_multiply_add: int = 1, input_shape: Sequence[int] | None = None
) -> int:
    """Multiply-adds of one inference with a batch of one.

    **A multiplication and its addition count as one**, which is what papers call "FLOPs"
    (ResNet-50: 4 G; hardware profilers report 8 G). Convolutions, matrix products and attention
    count; biases, normalisation, activations and pooling do not. Layers count per call, so a
    shared layer counts as often as it is called.

    Keras' own layers are counted by formula. Custom layers and subclassed models are traced by
    TensorFlow and counted from their graph; on another backend, or if tracing fails, the layer is
    not counted and a `CostWarning` names it.

    Args:
        model: A built model.
        per_multiply_add: 2 to count the multiplication and the addition separately.
        input_shape: Shape of the input without the batch dimension, for a subclassed model that
            does not know it, or for a model that accepts inputs of several sizes. The several
            inputs of a subclassed model are those that it was built with, as numbers.

    Returns:
        The number of multiply-adds, times ``per_multiply_add``.

    Raises:
        CostError: The model is not built, the shape of its input is unknown, or the model is
            neither functional nor traceable.
    """
    _check_built(model)
    if is_functional(model) and input_shape is None:
        multiply_adds = sum(map(_count_call, graph_of(model).calls))
    else:
        multiply_adds = _count_model(model, input_shape)
    return multiply_adds * per_multiply_add


def _check_built(model: keras.Model) -> None:
    if not model.built:
        raise CostError(
            f"`model` must be built, for example by calling it on a batch; got "
            f"{type(model).__name__} {model.name!r}, which is not built"
        )


def _count_call(call: Call) -> int:
    inputs, outputs = sizes_of(call.inputs), sizes_of(call.outputs)
    multiply_adds = _by_rule(call.operation, inputs, outputs)
    if multiply_adds is not None:
        return multiply_adds
    try:
        return _trace_call(call, inputs)
    except Untraceable as error:
        _warn(call.operation, error)
        return 0


def _by_rule(
    operation: keras.Operation, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> int | None:
    """Multiply-adds by formula (for a wrapper, that of its inner layer); None if there is none."""
    import keras

    layers = keras.layers
    if type(operation) is layers.Bidirectional and len(inputs) == 1:
        forward = _by_rule(operation.forward_layer, inputs, outputs)
        backward = _by_rule(operation.backward_layer, inputs, outputs)
        return None if forward is None or backward is None else forward + backward
    if type(operation) is layers.TimeDistributed and len(inputs) == len(outputs) == 1:
        (batch, steps, *features), output = inputs[0], outputs[0]
        per_step = _by_rule(operation.layer, [(batch, *features)], [(batch, *output[2:])])
        return None if per_step is None else steps * per_step
    rule = rule_of(operation)
    return None if rule is None else rule(operation, inputs, outputs)


def _trace_call(call: Call, sizes: Sequence[Shape]) -> int:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise Untraceable(
            f"it has no formula, and it cannot be traced on {keras.backend.backend()}"
        )
    import tensorflow as tf

    positions = {id(tensor): index for index, tensor in enumerate(call.inputs)}
    specs = [
        tf.TensorSpec(size, tensor.dtype) for size, tensor in zip(sizes, call.inputs, strict=True)
    ]

    def run(*tensors: tf.Tensor) -> Any:
        def replaced(value: object) -> object:
            return tensors[positions[id(value)]] if id(value) in positions else value

        args, kwargs = keras.tree.map_structure(replaced, (call.args, call.kwargs))
        return call.operation(*args, **kwargs)

    return _trace(run, specs)


def _count_model(model: keras.Model, input_shape: Sequence[int] | None) -> int:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise CostError(
            "`model` must be functional, or the Keras backend must be TensorFlow; got "
            f"{type(model).__name__} on {keras.backend.backend()}"
        )
    import tensorflow as tf

    specs, pack = _inputs_of(model, input_shape)
    try:
        return _trace(
            lambda *tensors: model(pack(tensors), training=False),
            [tf.TensorSpec(size, dtype) for size, dtype in specs],
        )
    except Untraceable as error:
        raise CostError(f"FLOPs of model {model.name!r} are unknown: {error}") from error


def _inputs_of(
    model: keras.Model, input_shape: Sequence[int] | None
) -> tuple[list[tuple[Shape, str]], Callable[[Sequence[object]], object]]:
    """Shapes and dtypes of a model's inputs, and a function that packs tensors for its call."""
    inputs = getattr(model, "inputs", None) or []
    if input_shape is not None:
        if len(inputs) > 1:
            raise CostError(
                f"`input_shape` must be None for a model with several inputs; got {input_shape} "
                f"for {len(inputs)} inputs"
            )
        dtype = inputs[0].dtype if inputs else "float32"
        return [((1, *input_shape), dtype)], lambda tensors: tensors[0]
    if inputs:  # a subclass of a functional model with its own `call`
        import keras

        specs = zip(sizes_of(inputs), (tensor.dtype for tensor in inputs), strict=True)
        return list(specs), lambda tensors: keras.tree.pack_sequence_as(model.input, list(tensors))
    try:
        shapes = built_shapes(model)
    except CostError as error:
        raise CostError(
            "`input_shape` must be given for a model that is not functional and does not know "
            f"the shape of its only input; got None for {model.name!r}"
        ) from error
    sizes: list[Shape] = []

    def numbered(size: Shape) -> int:
        sizes.append(size)
        return len(sizes) - 1

    numbers = map_shapes(numbered, shapes)

    def pack(tensors: Sequence[object], structure: Any = numbers) -> object:
        if isinstance(structure, int):
            return tensors[structure]
        if isinstance(structure, dict):
            return {key: pack(tensors, value) for key, value in structure.items()}
        return type(structure)(pack(tensors, value) for value in structure)

    return [(size, "float32") for size in sizes], pack


def _trace(function: Callable[..., Any], specs: Sequence[tf.TensorSpec]) -> int:
    try:
        return traced_multiply_adds(function, specs)
    except Untraceable:
        raise
    except Exception as error:
        # A custom layer may raise any exception when it is traced.
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Untraceable(f"tracing raised {type(error).__name__}: {line}") from error


def _warn(operation: keras.Operation, error: Exception) -> None:
    # The message omits the name of the layer, which differs between models, because Python shows
    # each distinct message once.
    kind = type(operation)
    warnings.warn(
        f"FLOPs of {kind.__module__}.{kind.__qualname__} are unknown and left out: {error}",
        CostWarning,
        stacklevel=2,
    )
