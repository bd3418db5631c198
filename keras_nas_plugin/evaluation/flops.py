"""How many weights a model has, and how many multiply-adds one inference takes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation.graph import Call, Shape, graph_of, is_functional, sizes_of
from keras_nas_plugin.evaluation.rules import rule_of
from keras_nas_plugin.evaluation.traced import Untraceable, traced_multiply_adds


class CostWarning(UserWarning):
    """A part of a model whose cost is not known: the total is too small by it."""


def count_parameters(model: Any, *, trainable_only: bool = False) -> int:
    """Number of a model's weights, those that do not train (moving averages) included.

    Papers often count trainable ones only.

    Args:
        model: A `keras.Model` that is built.
        trainable_only: Whether to leave out what training does not change by gradients.

    Raises:
        CostError: The model is not built.
    """
    _check_built(model)
    weights = model.trainable_weights if trainable_only else model.weights
    return sum(math.prod(weight.shape) for weight in weights)


def count_flops(
    model: Any, *, per_multiply_add: int = 1, input_shape: Sequence[int] | None = None
) -> int:
    """Multiply-adds of one inference with a batch of one.

    **A multiplication and its addition count as one**, which is what papers call "FLOPs"
    (ResNet-50: 4 G; profilers of hardware say 8). Convolutions, matrix products and attention
    count; biases, normalisation, activations and pooling do not. Layers count per call, so a
    shared layer counts as often as it is used.

    Keras' own layers are counted by formula. Custom layers and subclassed models are traced by
    TensorFlow and counted by their graph; on another backend, or where that fails, the layer is
    named in a `CostWarning` and left out.

    Args:
        model: A `keras.Model` that is built.
        per_multiply_add: 2 to count multiplication and addition as two.
        input_shape: Shape of the input without the batch, for a subclassed model that does not
            know it, or a model that takes several sizes.

    Returns:
        The number of multiply-adds, times ``per_multiply_add``.

    Raises:
        CostError: The model is not built, the shape of its input is not known, or it is
            neither functional nor can be traced.
    """
    _check_built(model)
    if is_functional(model) and input_shape is None:
        counted = sum(map(_of_call, graph_of(model).calls))
    else:
        counted = _of_whole(model, input_shape)
    return counted * per_multiply_add


def _check_built(model: Any) -> None:
    if not model.built:
        raise CostError(
            f"`model` needs to be built, for example by calling it on a batch; received "
            f"{type(model).__name__} {model.name!r}, which is not"
        )


def _of_call(call: Call) -> int:
    inputs, outputs = sizes_of(call.inputs), sizes_of(call.outputs)
    counted = _by_rule(call.operation, inputs, outputs)
    if counted is not None:
        return counted
    try:
        return _traced_call(call, inputs)
    except Untraceable as error:
        _warn(call.operation, error)
        return 0


def _by_rule(operation: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    """Multiply-adds by formula, of wrappers by that of what they wrap; None without one."""
    import keras

    layers = keras.layers
    if type(operation) is layers.Bidirectional and len(inputs) == 1:
        both = (operation.forward_layer, operation.backward_layer)
        parts = [_by_rule(one, inputs, outputs) for one in both]
        return None if None in parts else sum(parts)
    if type(operation) is layers.TimeDistributed and len(inputs) == len(outputs) == 1:
        (first, steps, *rest), result = inputs[0], outputs[0]
        step = _by_rule(operation.layer, [(first, *rest)], [(first, *result[2:])])
        return None if step is None else steps * step
    rule = rule_of(operation)
    return None if rule is None else rule(operation, inputs, outputs)


def _traced_call(call: Call, sizes: Sequence[Shape]) -> int:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise Untraceable(
            f"there is no formula for it, and {keras.backend.backend()} has no graph"
        )
    import tensorflow as tf

    places = {id(tensor): index for index, tensor in enumerate(call.inputs)}
    dtypes = [tensor.dtype for tensor in call.inputs]
    specs = [tf.TensorSpec(size, one) for size, one in zip(sizes, dtypes, strict=True)]

    def run(*tensors: Any) -> Any:
        def real(value: Any) -> Any:
            return tensors[places[id(value)]] if id(value) in places else value

        args, kwargs = keras.tree.map_structure(real, (call.args, call.kwargs))
        return call.operation(*args, **kwargs)

    return _traced(run, specs)


def _of_whole(model: Any, input_shape: Sequence[int] | None) -> int:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise CostError(
            "`model` needs to be functional, or Keras to run on TensorFlow; received "
            f"{type(model).__name__} on {keras.backend.backend()}"
        )
    import tensorflow as tf

    specs = [tf.TensorSpec(size, dtype) for size, dtype in _inputs_of(model, input_shape)]
    try:
        return _traced(lambda tensor: model(tensor, training=False), specs)
    except Untraceable as error:
        raise CostError(f"FLOPs of model {model.name!r} are not known: {error}") from error


def _inputs_of(model: Any, input_shape: Sequence[int] | None) -> list[tuple[Shape, str]]:
    inputs = getattr(model, "inputs", None) or []
    dtype = inputs[0].dtype if inputs else "float32"
    if input_shape is None:
        # What Keras saves to build the model again; of several inputs it knows one at most.
        known = (model.get_build_config() or {}).get("input_shape") or ()
        input_shape = tuple(known[1:])
        if not known or not all(isinstance(size, int) for size in input_shape):
            raise CostError(
                "`input_shape` needs to be given for a model that is not functional and does not "
                f"know the shape of its one input; received None for {model.name!r}"
            )
    if len(inputs) > 1:
        raise CostError(f"`input_shape` needs a model with one input; received {len(inputs)}")
    return [((1, *input_shape), dtype)]


def _traced(function: Any, specs: Sequence[Any]) -> int:
    try:
        return traced_multiply_adds(function, specs)
    except Untraceable:
        raise
    except Exception as error:
        # A layer of somebody else's may raise anything when it is traced.
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Untraceable(f"tracing it raised {type(error).__name__}: {line}") from error


def _warn(operation: Any, error: Exception) -> None:
    # Without the layer's own name, which differs from model to model: Python shows a warning
    # once per text.
    kind = type(operation)
    warnings.warn(
        f"FLOPs of {kind.__module__}.{kind.__qualname__} are not known and left out: {error}",
        CostWarning,
        stacklevel=2,
    )
