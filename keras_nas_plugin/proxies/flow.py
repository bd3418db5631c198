"""The linearised network of `synaptic_flow`, evaluated without overflow."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_nas_plugin.proxies import layers
from keras_nas_plugin.proxies.base import ProxyError, Structure, Tensor
from keras_nas_plugin.proxies.running import Call, name_of, replaced
from keras_nas_plugin.proxies.state import untouched

_L = keras.layers
# Layers that are known to give twice the output for twice the inputs; others are checked.
_LINEAR = (
    *(_L.Dense, _L.EinsumDense, _L.Embedding, _L.Identity, _L.Dropout, _L.SpatialDropout2D),
    *(_L.Conv1D, _L.Conv2D, _L.Conv3D, _L.Conv1DTranspose, _L.Conv2DTranspose),
    *(_L.DepthwiseConv1D, _L.DepthwiseConv2D, _L.SeparableConv1D, _L.SeparableConv2D),
    *(_L.MaxPooling1D, _L.MaxPooling2D, _L.AveragePooling1D, _L.AveragePooling2D),
    *(_L.GlobalAveragePooling1D, _L.GlobalAveragePooling2D, _L.GlobalMaxPooling1D),
    *(_L.GlobalMaxPooling2D, _L.Flatten, _L.Reshape, _L.Permute, _L.ZeroPadding2D),
    *(_L.Add, _L.Average, _L.Maximum, _L.Minimum, _L.Concatenate),
)
# Activations that tend to 1 for large positive inputs, like an open gate.
_SATURATING = frozenset("sigmoid hard_sigmoid hardsigmoid tanh hard_tanh hardtanh".split())
_TOLERANCE = 1e-3


@contextlib.contextmanager
def positive(model: keras.Model) -> Iterator[None]:
    """Replace all weights by their absolute values and offsets by zero within the context."""
    with untouched(model):
        for weight in model.weights:
            if not keras.backend.is_float_dtype(weight.dtype):
                continue
            offset = weight.name in ("bias", "beta")
            value = weight.value
            weight.assign(keras.ops.zeros_like(value) if offset else keras.ops.abs(value))
        yield


class Untracked(Exception):
    """The input of a layer is not the output of another, but a constant or converted tensor."""


class Flow:
    """Calls a model as a linear network of positive numbers, and tracks a scale per tensor.

    Normalisations and activation functions are replaced by the identity, which is what a ReLU is
    for positive numbers. Saturating functions are replaced by 1 (an open gate), and a softmax
    inside the network by equal shares; at the output both are omitted. `Rescaling` keeps its
    factor.

    A tensor t represents ``t * exp(s)``, with s chosen so that its largest entry is 1. s is a
    constant for the gradient, so that the gradient of the final t is that of the true output
    divided by ``exp(s)``: neither pass overflows, however deep the network is. Inside a layer
    with sublayers, and in subclassed models, numbers are not rescaled.

    Args:
        model: Any built Keras model.
        operations: Its layers, see `layers.walk`; None to find them.
        rescale: Whether to rescale tensors.

    Attributes:
        scale: Logarithm of the scale of the last result.
    """

    def __init__(
        self,
        model: keras.Model,
        operations: list[keras.Operation] | None = None,
        *,
        rescale: bool = True,
    ) -> None:
        self._model = model
        self._rescale = rescale and layers.is_transparent(model)
        self._operations = layers.walk(model) if operations is None else operations
        self._depth = 0
        self._problem = ProxyError()
        self.scale = 0.0
        self._forget()

    def _forget(self) -> None:
        # Keyed by the ids of tensors; the tensors are stored too, so that no id is reused.
        self._scales: dict[int, tuple[Tensor, float]] = {}
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        self._current = 0.0

    def __call__(self, x: Structure) -> Tensor:
        """Sum of the outputs without their last activation, divided by ``exp(self.scale)``.

        Raises:
            ProxyError: A layer is not linear.
            Untracked: Tensors were changed between layers; this requires ``rescale=False``.
        """
        self._forget()
        for tensor in keras.tree.flatten(x):
            self._scales[id(tensor)] = (tensor, 0.0)
        try:
            with replaced(self._operations, self._around, self._activate):
                outputs = keras.tree.flatten(self._model(x, training=False))
        except ProxyError:
            # The original error: Keras adds the arguments of every enclosing layer to its message.
            raise self._problem from None
        outputs = [self._before.get(id(tensor), (tensor, tensor))[1] for tensor in outputs]
        outputs, self.scale = self._aligned(outputs, [self._scale(tensor) for tensor in outputs])
        self._forget()
        return sum(keras.ops.sum(tensor) for tensor in outputs)

    def _scale(self, tensor: Tensor) -> float:
        if not self._rescale or self._depth:
            return 0.0
        if id(tensor) not in self._scales:
            raise Untracked
        return self._scales[id(tensor)][1]

    def _put(self, tensor: Tensor, scale: float) -> Tensor:
        self._scales[id(tensor)] = (tensor, scale)
        return tensor

    @staticmethod
    def _aligned(tensors: list[Tensor], scales: list[float]) -> tuple[list[Tensor], float]:
        """Bring tensors to the largest of their scales; much smaller numbers become 0."""
        largest = max(scales)
        if math.isinf(largest):
            return tensors, 0.0  # all are zero
        pairs = zip(tensors, scales, strict=True)
        return [
            tensor if scale == largest else tensor * math.exp(scale - largest)
            for tensor, scale in pairs
        ], largest

    def _around(
        self, operation: keras.Operation, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Structure:
        if layers.is_transparent(operation) or isinstance(operation, _L.InputLayer):
            return call(*args, **kwargs)
        flat = keras.tree.flatten((args, kwargs))
        indices = [i for i, value in enumerate(flat) if _is_real_tensor(value)]
        simple = self._simple(operation, [flat[i] for i in indices])
        if simple is not None:
            return simple
        if self._depth:
            return call(*args, **kwargs)
        return self._rescaled(operation, call, (args, kwargs), flat, indices)

    def _simple(self, operation: keras.Operation, inputs: list[Tensor]) -> Tensor | None:
        """The output of a layer that need not be called; None if it must be."""
        name = layers.activation_of(operation)
        if name:
            return self._activate(operation, name, inputs[0])
        if isinstance(operation, layers.NORMALISATIONS):
            return inputs[0]
        if isinstance(operation, _L.Rescaling):
            factor = keras.ops.abs(keras.ops.convert_to_tensor(operation.scale, inputs[0].dtype))
            return self._normalised(inputs[0] * factor, self._scale(inputs[0]))
        if isinstance(operation, _L.Multiply):
            product = inputs[0]
            for tensor in inputs[1:]:
                product = product * tensor
            return self._normalised(product, sum(map(self._scale, inputs)))
        return None

    def _rescaled(
        self,
        operation: keras.Operation,
        call: Call,
        arguments: tuple[Any, ...],
        flat: list[Any],
        indices: list[int],
    ) -> Structure:
        """Call a layer on inputs with a common scale, and give its output its own scale."""
        tensors: list[Tensor] = []
        scale = 0.0
        if indices:
            inputs = [flat[i] for i in indices]
            tensors, scale = self._aligned(inputs, [self._scale(tensor) for tensor in inputs])
        self._current = scale

        def run(factor: float) -> Structure:
            changed = list(flat)
            for i, tensor in zip(indices, tensors, strict=True):
                changed[i] = tensor if factor == 1 else tensor * factor
            args, kwargs = keras.tree.pack_sequence_as(arguments, changed)
            self._depth += 1
            try:
                return call(*args, **kwargs)
            finally:
                self._depth -= 1

        output = run(1.0)
        if operation is self._model or id(output) in self._before:
            return output  # a whole subclassed model, or an open gate: its scale is zero
        if isinstance(operation, _L.Subtract):
            output = sum(tensors)
        elif not isinstance(operation, _LINEAR) and not _is_linear(output, run):
            self._problem = ProxyError(
                "`synflow` requires layers that are linear in their inputs, apart from "
                f"activation functions; {type(operation).__name__} {operation.name!r} is not"
            )
            raise self._problem
        return keras.tree.map_structure(lambda tensor: self._normalised(tensor, scale), output)

    def _normalised(self, tensor: Tensor, scale: float) -> Tensor:
        if self._depth or not self._rescale or not _is_real_tensor(tensor):
            return tensor
        largest = _largest(tensor)
        if largest == 0:
            return self._put(tensor, -math.inf)
        return self._put(tensor / largest, scale + math.log(largest))

    def _activate(
        self, operation: keras.Operation, function: Call | str, tensor: Tensor
    ) -> Tensor:
        """Called in place of an activation function, or of an activation layer by its name."""
        name = function if isinstance(function, str) else name_of(function)
        if name in _SATURATING:
            output = keras.ops.ones_like(tensor)
        elif "softmax" in name:
            output = keras.ops.softmax(keras.ops.zeros_like(tensor))
        else:
            return tensor
        if id(tensor) not in self._scales:
            self._put(tensor, self._current if self._depth == 1 else 0.0)
        self._before[id(output)] = (output, tensor)
        return self._put(output, 0.0)


def _is_real_tensor(value: Any) -> bool:
    return keras.ops.is_tensor(value) and keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(value.dtype)
    )


def _is_linear(output: Structure, run: Callable[[float], Structure]) -> bool:
    """Whether twice the inputs of a layer give twice its output."""
    doubled = keras.tree.flatten(run(2.0))
    for single, double in zip(keras.tree.flatten(output), doubled, strict=True):
        if not _is_real_tensor(single):
            continue
        if _largest(double - 2 * single) > _TOLERANCE * _largest(single):
            return False
    return True


def _largest(tensor: Tensor) -> float:
    return float(keras.ops.stop_gradient(keras.ops.max(keras.ops.abs(tensor))))
